"""
A million sessions on one leader: what each costs in memory, and what keeping them alive costs per tick.

Session tracking is the one thing in ZooKeeper that cannot be spread over more servers: whoever leads has to know when
every client of every server was last heard of.  This runs five servers in memory (`MemoryEnsemble`) on disks that hold
a snapshot with that many sessions, spread evenly over the servers.  Each client pings three times per session timeout,
as clients do; the followers gather whom they heard of and tell the leader with each of its pings, by the wire protocol.

    python -m bench.sessions [--sessions 1000000]
"""

from __future__ import annotations

import argparse
import gc
import resource
import sys
import time
from collections.abc import Callable
from random import Random
from typing import Any

from zktwisted.store.database import Database, Options
from zktwisted.store.snapshot import Trailer
from zktwisted.testing import MemoryEnsemble
from zktwisted.tree import image
from zktwisted.tree.datatree import DataTree
from zktwisted.tree.sessions import SessionIds, SessionTracker

SERVERS = 5
TICK_MS, TIMEOUT_MS = 2000, 30_000
PINGS_PER_TIMEOUT = 3


class Client:
    """As much of a connection as a role has to see to note that its session was heard of."""

    __slots__ = ("session_id", "session_timeout_ms")

    def __init__(self, session_id: int) -> None:
        self.session_id = session_id
        self.session_timeout_ms = TIMEOUT_MS


class Stopwatch:
    """Adds up the processor time that calls of a function take."""

    def __init__(self, owner: Any, name: str) -> None:
        self.seconds, self.calls = 0.0, 0
        call: Callable[..., Any] = getattr(owner, name)

        def timed(*arguments: Any) -> Any:
            begun = time.thread_time()
            try:
                return call(*arguments)
            finally:
                self.seconds += time.thread_time() - begun
                self.calls += 1

        setattr(owner, name, timed)


def rss_mib() -> float:
    """The memory of this process at its largest, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory_per_session(timeouts: dict[int, int]) -> float:
    """What the leader's tracker takes for each, in bytes, measured on its own."""
    gc.collect()
    before = _resident()
    tracker = SessionTracker(TICK_MS)
    tracker.load(timeouts, 0)
    taken = _resident() - before
    assert len(tracker) == len(timeouts)
    return taken / len(timeouts)


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def make_sessions(count: int) -> dict[int, list[int]]:
    """Return ids of sessions, by the server that gave them."""
    made = {}
    for sid in range(1, SERVERS + 1):
        ids = SessionIds(1_700_000_000_000, sid)
        made[sid] = [ids.make() for _ in range(count // SERVERS)]
    return made


def make_ensemble(timeouts: dict[int, int]) -> MemoryEnsemble:
    """Return an ensemble whose disks hold these sessions."""
    ensemble = MemoryEnsemble(
        SERVERS, settings={"tick_time": TICK_MS, "max_session_timeout": TIMEOUT_MS}, start=False, check=False
    )
    first = ensemble.servers[1].disk
    database = Database(first, first, Options(pre_alloc_size_kib=0), Random(1))
    latency, first.file_latency = first.file_latency, lambda: 0.0
    for _ in database.snapshot(1 << 32, image.chunks(DataTree(), timeouts), lambda: Trailer(None, None)):
        pass
    first.file_latency = latency
    for server in ensemble.servers.values():
        server.disk.files = dict(first.files)
    return ensemble


def run(count: int) -> None:
    say = sys.stdout.write
    by_server = make_sessions(count)
    timeouts = {session_id: TIMEOUT_MS for ids in by_server.values() for session_id in ids}
    per_session = memory_per_session(timeouts)
    say(f"{count} sessions; the leader's tracker takes {per_session:.0f} bytes for each\n")

    gc.collect()
    before, begun = _resident(), time.thread_time()
    ensemble = make_ensemble(timeouts)
    ensemble.start()
    ensemble.until_serving()
    leader = ensemble.leader()
    assert leader is not None and len(leader.core.sessions) == count
    say(
        f"five servers with them have started in {time.thread_time() - begun:.1f} s"
        f" and take {(_resident() - before) / count:.0f} bytes per session, all five together\n"
    )
    clients = {sid: [Client(session_id) for session_id in ids] for sid, ids in by_server.items()}
    gc.collect()
    gc.freeze()

    touched = Stopwatch(leader.core.role, "touched")
    expire = Stopwatch(leader.core, "expire_sessions")
    ticks = 3 * TIMEOUT_MS // TICK_MS
    own = everything = 0.0
    for half in range(2 * ticks):
        own += ping(ensemble, leader, clients, half)
        begun = time.thread_time()
        ensemble.advance(TICK_MS / 2000)
        everything += time.thread_time() - begun
    assert len(leader.core.sessions) == count, "sessions have ended that were alive"
    per_tick = count * PINGS_PER_TIMEOUT * TICK_MS // TIMEOUT_MS
    say(
        f"per tick of {TICK_MS} ms ({per_tick} pings of clients):"
        f" the leader takes {touched.seconds / ticks * 1000:.1f} ms for what its followers tell it,"
        f" {own / ticks * 1000:.1f} ms for its own clients,"
        f" {expire.seconds / ticks * 1000:.1f} ms to look who has expired;"
        f" all five servers and the network between them {everything / ticks * 1000:.0f} ms\n"
    )
    share = (touched.seconds + own + expire.seconds) / (ticks * TICK_MS / 1000)
    say(f"that is {share:.2%} of the leader's time\n")
    expire_some(ensemble, leader, clients)
    say(f"memory of this process at its largest: {rss_mib():.0f} MiB\n")
    ensemble.close()


def ping(ensemble: MemoryEnsemble, leader: Any, clients: dict[int, list[Client]], half: int) -> float:
    """Let those clients ping whose turn it is in this half of a tick; return the seconds it takes at the leader."""
    halves = TIMEOUT_MS * 2 // TICK_MS // PINGS_PER_TIMEOUT
    own = 0.0
    for sid, server in ensemble.servers.items():
        touch = server.core.role.touch
        begun = time.thread_time()
        for client in clients[sid][half % halves :: halves]:
            touch(client)
        if server is leader:
            own = time.thread_time() - begun
    return own


def expire_some(ensemble: MemoryEnsemble, leader: Any, clients: dict[int, list[Client]]) -> None:
    """Let clients of one server fall silent, and see that they are closed and nobody else is."""
    silent = clients[1][: len(clients[1]) // 100]
    clients[1] = clients[1][len(silent) :]
    before = len(leader.core.sessions)
    begun = time.thread_time()
    for half in range(2 * (TIMEOUT_MS + 4 * TICK_MS) // TICK_MS):
        ping(ensemble, leader, clients, half)
        ensemble.advance(TICK_MS / 2000)
    assert len(leader.core.sessions) == before - len(silent), (len(leader.core.sessions), before)
    for server in ensemble.servers.values():
        assert len(server.core.timeouts) == before - len(silent)
    sys.stdout.write(
        f"{len(silent)} clients fell silent: their sessions, and no others, ended on all servers"
        f" ({time.thread_time() - begun:.1f} s of work in all)\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.sessions", description=__doc__.split("\n\n")[0])
    parser.add_argument("--sessions", type=int, default=1_000_000)
    run(parser.parse_args().sessions)


if __name__ == "__main__":
    main()
