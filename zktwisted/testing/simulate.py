"""
Runs whole ensembles through trouble, one seed at a time: C{python -m zktwisted.testing.simulate}.

A seed decides everything: how many servers there are and how they are set, what clients ask, what breaks and when.
While all that goes on the servers are looked at after every step; then everything is mended, a leader has to serve
within a bounded time, every client has to get an answer, and what clients were told is held against what was
committed.  At the end all machines lose their power at once, and what was committed has to be there again.

A failure prints the last lines of the run's trace and the command that replays it.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any, NamedTuple

from zktwisted.server import snapshots
from zktwisted.testing.checkers import Violation
from zktwisted.testing.ensemble import MemoryEnsemble, members
from zktwisted.testing.history import History, check_clients, check_sessions, check_tree
from zktwisted.testing.workload import Trouble, Workload
from zktwisted.tree import image
from zktwisted.wire import ops, proto

__all__ = ["Outcome", "Simulation", "simulate"]

#: So long everything may take that comes about by itself once nothing is broken any more, in seconds.
_SETTLING = 90.0


class Outcome(NamedTuple):
    """
    What became of a seed.

    @ivar trace_hash: the same for the same run.
    @ivar error: why it failed; empty if it did not.
    @ivar trace: the last lines of the trace of a run that failed.
    """

    seed: int
    trace_hash: str
    committed: int
    epochs: int
    answered: int
    simulated: float
    steps: int
    error: str = ""
    trace: tuple[str, ...] = ()


class Simulation:
    """
    One run.

    @ivar ensemble: what it is about.
    @ivar calm: whether nothing is broken in it.
    """

    def __init__(self, seed: int, *, seconds: float = 40.0, calm: bool = False) -> None:
        """@param seconds: how long things are asked for and broken."""
        self.seed = seed
        self.seconds = seconds
        self.calm = calm
        entropy = self._entropy = Random(f"simulation {seed}")
        settings = _settings(entropy)
        self.ensemble = MemoryEnsemble(
            seed=seed,
            settings=settings,
            latency=entropy.choice(((0.0001, 0.001), (0.0005, 0.01), (0.0, 0.05))),
            disk_latency=entropy.choice(((0.0, 0.0), (0.0005, 0.005), (0.0, 0.05))),
            chopping=entropy.choice((0.0, 0.1, 0.6)),
        )
        self._tick = settings["tick_time"] / 1000
        self._trouble: Trouble | None = None

    def run(self) -> Outcome:
        """Run it to its end, good or bad."""
        error, trace = "", list[str]()
        try:
            with _small_steps(self._entropy.choice((1, 3, 1000))):
                self._run()
        except Exception as caught:  # noqa: BLE001 (it is what a run is made for)
            text = str(caught) if isinstance(caught, Violation) else traceback.format_exc()
            error = f"{type(caught).__name__}: {text}"
            trace = self.ensemble.trace
        finally:
            self.ensemble.close()
        ensemble = self.ensemble
        answered = sum(op.reply is not None for client in ensemble.clients for op in client.operations)
        return Outcome(
            self.seed,
            ensemble.trace_hash(),
            len(ensemble.checker.committed),
            len(ensemble.checker.leaders),
            answered,
            ensemble.world.now,
            ensemble.world.steps,
            error,
            tuple(trace),
        )

    def _run(self) -> None:
        ensemble, entropy = self.ensemble, self._entropy
        self._until_serving()
        workloads = []
        for _ in range(entropy.choice((2, 3, 5))):
            client = ensemble.client(timeout_ms=entropy.choice((2000, 4000, 6000)))
            pace = entropy.choice((0.05, 0.2, 1.0))
            workloads.append(Workload(ensemble, client, Random(entropy.random()), pace))
        if not self.calm:
            self._trouble = Trouble(ensemble, Random(entropy.random()), entropy.choice((1.5, 4.0, 8.0)))
        ensemble.advance(self.seconds)
        for workload in workloads:
            workload.stop()
        if self._trouble is not None:
            self._trouble.stop()
        self._settle()
        self._check()
        self._lose_power()

    def _until_serving(self) -> None:
        """
        Let a leader serve, and all others under it.

        One that has promised an epoch to a leader who never led cannot join a lower one: that needs another election,
        as with Java's servers.
        """
        ensemble = self.ensemble
        for _ in range(5):
            try:
                ensemble.until_serving(_SETTLING)
            except Violation:
                leader = ensemble.leader()
                if leader is None or not self._has_promised_more(ensemble.checker.epoch_of(leader.sid)):
                    raise
                ensemble.note("one has promised a higher epoch")
                leader.restart()
            else:
                return
        ensemble.until_serving(_SETTLING)

    def _has_promised_more(self, epoch: int) -> bool:
        waiting = [server for server in self.ensemble.servers.values() if not server.serving]
        return any(int(server.disk.files.get("acceptedEpoch", b"0")) > epoch for server in waiting)

    def _settle(self) -> None:
        """Liveness: a leader serves, clients are answered, dead sessions end, all servers come to the same state."""
        ensemble = self.ensemble
        ensemble.note("nothing is broken any more")
        self._until_serving()
        self._ask_all()
        # Sessions that nobody keeps alive end, and whoever watches is told.
        ensemble.advance(10.0 + 3 * self._tick)
        ensemble.until(self._agree, _SETTLING, "that all servers have the same")

    def _ask_all(self) -> None:
        for client in self.ensemble.clients:
            client.start()
        for client in self.ensemble.clients:
            self._ask(client, ops.CREATE, proto.CreateRequest(b"/last-", b"", proto.OPEN_ACL, 2))
            self._ask(client, ops.SYNC, proto.PathRequest(b"/"))

    def _ask(self, client: Any, op: int, request: Any) -> None:
        """Ask until there is an answer."""
        asked: list[Any] = []

        def answered() -> bool:
            # It may have been about to close its session.
            client.start()
            if not asked or asked[-1].status == "lost":
                operation = client.send(op, request)
                asked.extend([] if operation is None else [operation])
            return bool(asked) and asked[-1].status == "answered"

        self.ensemble.until(answered, _SETTLING, f"an answer to {client.name}")

    def _agree(self) -> bool:
        servers = self.ensemble.servers.values()
        return all(server.serving for server in servers) and len({server.core.last_zxid for server in servers}) == 1

    def _check(self) -> None:
        ensemble = self.ensemble
        history = History(ensemble.checker.order())
        check_clients(history, ensemble.clients)
        times = [] if self._trouble is None else self._trouble.times
        times += [at for _, at in ensemble.checker.leaders.values()]
        check_sessions(history, ensemble.clients, ensemble.checker.closings, self._tick, times)
        for server in ensemble.servers.values():
            check_tree(history, server.core, f"server {server.sid}")

    def _lose_power(self) -> None:
        """All machines go off, or all servers stop in order; what was committed is there when they are back."""
        ensemble = self.ensemble
        if self._entropy.random() < 0.5:
            ensemble.power_loss()
        else:
            for server in ensemble.servers.values():
                server.stop()
            down: Callable[[], bool] = lambda: all(s.service is None for s in ensemble.servers.values())  # noqa: E731
            ensemble.until(down, _SETTLING, "that all have stopped")
        ensemble.advance(self._entropy.uniform(0.0, 2.0))
        ensemble.start()
        self._until_serving()
        # Until there is something new, servers that have the same may name different zxids for it.
        self._ask_all()
        ensemble.until(self._agree, _SETTLING, "that all servers have the same")
        history = History(ensemble.checker.order())
        check_clients(history, ensemble.clients, settled=False)
        for server in ensemble.servers.values():
            check_tree(history, server.core, f"server {server.sid}")


def _settings(entropy: Random) -> dict[str, Any]:
    """Draw how servers are set, and how many there are."""
    settings: dict[str, Any] = {
        "tick_time": entropy.choice((500, 1000)),
        "init_limit": entropy.choice((5, 10)),
        "sync_limit": entropy.choice((2, 4)),
        "snap_count": entropy.choice((8, 30, 100_000)),
        "commit_log_count": entropy.choice((0, 2, 10, 500)),
        "snapshot_size_factor": entropy.choice((0.33, 0.33, 0.0, -1.0)),
        "flush_delay": entropy.choice((0, 0, 0, 2)),
        "max_session_timeout": 20_000,
    }
    rare: tuple[dict[str, Any], ...] = (
        {"force_snapshot_sync": True},
        {"leader_serves": False},
        {"local_sessions_enabled": True, "local_sessions_upgrading_enabled": True},
        {"readonlymode_enabled": True},
        {"sync_enabled": False},
        {"leader_max_time_to_wait_for_epoch": 500},
        # An epoch of a few transactions: the end of its zxids is reached again and again.
        {"testingonly_initial_zxid": 0xFFFFFFC0},
    )
    for some in rare:
        if entropy.random() < 0.08:
            settings |= some
    servers, observers = entropy.choice((3, 3, 3, 3, 5)), entropy.choice((0, 0, 1, 2))
    ensemble = members(servers, observers)
    if servers == 5 and entropy.random() < 0.3:
        groups = ((1, (1, 2)), (2, (3, 4)), (3, (5,)))
        weights = tuple((sid, entropy.choice((1, 1, 2))) for sid in range(1, 6))
        ensemble = replace(ensemble, groups=groups, weights=weights)
    return {**settings, "ensemble": ensemble}


@contextmanager
def _small_steps(nodes: int) -> Iterator[None]:
    """Let snapshots and images be made a few nodes at a time, with everybody else's turns in between."""
    before = image._CHUNK_NODES, snapshots._SLICE
    image._CHUNK_NODES, snapshots._SLICE = nodes, 0.0
    try:
        yield
    finally:
        image._CHUNK_NODES, snapshots._SLICE = before


def simulate(seed: int, *, seconds: float = 40.0, calm: bool = False) -> Outcome:
    """Run one seed."""
    return Simulation(seed, seconds=seconds, calm=calm).run()


def _report(outcome: Outcome, lines: int, seconds: float) -> None:
    say = sys.stdout.write
    say("\n".join(outcome.trace[-lines:]) + "\n")
    say(f"\nseed {outcome.seed} FAILED after {outcome.simulated:.1f} simulated seconds: {outcome.error}\n")
    say(f"replay it: python -m zktwisted.testing.simulate --seed {outcome.seed} --seconds {seconds:g}\n\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run seeds as the command line says; the exit status tells whether all went well."""
    parser = argparse.ArgumentParser(prog="python -m zktwisted.testing.simulate", description=__doc__.split("\n\n")[0])
    parser.add_argument("--seed", type=int, help="run this seed only, and print its trace if it fails")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--seeds", type=int, default=300, help="how many seeds (default 300)")
    parser.add_argument("--budget", type=float, help="go on to further seeds for so many minutes")
    parser.add_argument("--seconds", type=float, default=40.0, help="simulated seconds of trouble in each (default 40)")
    parser.add_argument("--lines", type=int, default=80, help="lines of the trace of a failure (default 80)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default 2)")
    options = parser.parse_args(arguments)
    run = partial(simulate, seconds=options.seconds)
    if options.seed is not None:
        outcome = run(options.seed)
        if outcome.error:
            _report(outcome, options.lines, options.seconds)
        sys.stdout.write(f"seed {outcome.seed}: {outcome[1:7]}\n")
        return 1 if outcome.error else 0
    return _run_many(options, run)


def _run_many(options: argparse.Namespace, run: Callable[[int], Outcome]) -> int:
    begun = time.monotonic()
    failed: list[int] = []
    total = committed = epochs = 0
    following = options.first
    until = None if options.budget is None else begun + 60 * options.budget
    with ProcessPoolExecutor(options.jobs) as pool:
        while total < options.seeds or (until is not None and time.monotonic() < until):
            count = min(8 * options.jobs, options.seeds - total) if until is None else 8 * options.jobs
            for outcome in pool.map(run, range(following, following + count)):
                total, committed, epochs = total + 1, committed + outcome.committed, epochs + outcome.epochs
                if outcome.error:
                    failed.append(outcome.seed)
                    _report(outcome, options.lines, options.seconds)
            following += count
    elapsed = time.monotonic() - begun
    sys.stdout.write(
        f"{total} seeds in {elapsed:.0f} s: {committed} transactions, {epochs} epochs,"
        f" {len(failed)} failures {failed}\n"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
