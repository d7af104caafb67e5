"""
A whole ensemble in one process: real servers on a clock, a network and disks that do as they are told.

L{MemoryEnsemble} starts L{zktwisted.server.service.ZooKeeperService}s, each a process of its own as far as it can tell:
with its clock, its machine on a L{MemoryNetwork<zktwisted.testing.network.MemoryNetwork>} and its
L{MemoryDisk<zktwisted.testing.disk.MemoryDisk>}, which outlives it.  No time passes but by L{MemoryEnsemble.advance},
and a seed gives the same run each time.

Faults are methods here; what must be true all the same, L{zktwisted.testing.checkers} knows, and looks at it after
every step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import blake2b
from random import Random
from typing import Any
from zlib import crc32

from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from zktwisted.config import ServerConfig
from zktwisted.config.ensemble import OBSERVER, PARTICIPANT, Address, Ensemble, Member
from zktwisted.errors import StoreError
from zktwisted.server.service import ZooKeeperService
from zktwisted.testing.checkers import ServerChecker, Violation
from zktwisted.testing.clock import ProcessClock, World
from zktwisted.testing.disk import MemoryDisk
from zktwisted.testing.network import MemoryHost, MemoryNetwork
from zktwisted.testing.simulated import Entry, Operation, SimulatedClient

__all__ = ["MemoryEnsemble", "MemoryMember", "members"]

CLIENT_PORT, QUORUM_PORT, ELECTION_PORT = 2181, 2888, 3888

#: What holds unless somebody says otherwise: a small server that shows its faults soon.
_SETTINGS: dict[str, Any] = {"tick_time": 1000, "init_limit": 10, "sync_limit": 5, "pre_alloc_size": 0}


class _ProcessNetwork:
    """The network as one process sees it: with the process, it is gone."""

    def __init__(self, host: MemoryHost) -> None:
        self.host: MemoryHost | None = host

    def server(self, address: Address, backlog: int = 50) -> Any:
        """See L{zktwisted.edge.network.Network}."""
        return _Nowhere() if self.host is None else self.host.server(address, backlog)

    def client(self, address: Address, timeout: float) -> Any:
        """See L{zktwisted.edge.network.Network}."""
        return _Nowhere() if self.host is None else self.host.client(address, timeout)


class _Nowhere:
    """An endpoint of a process that has died."""

    def listen(self, protocolFactory: object) -> Deferred[Any]:
        """Never listen."""
        return Deferred()

    def connect(self, protocolFactory: object) -> Deferred[Any]:
        """Never connect."""
        return Deferred()


class MemoryMember:
    """
    One server of a L{MemoryEnsemble}: its machine, its disk, and the process that runs there, if one does.

    @ivar sid: its id.
    @ivar config: its settings, which the next start takes up.
    @ivar host: its machine on the network.
    @ivar disk: of logs, snapshots and epochs.
    @ivar clock: of the process.
    @ivar service: the process; C{None} while none runs.
    @ivar lives: how often it was started.
    @ivar frozen: whether the process stands still.
    @ivar failure: why the process gave up by itself, if it did.
    """

    def __init__(self, ensemble: MemoryEnsemble, config: ServerConfig, host: MemoryHost, disk: MemoryDisk) -> None:
        self.sid = config.myid or 1
        self.config = config
        self.host = host
        self.disk = disk
        self.clock: ProcessClock = ensemble.world.clock
        self.service: ZooKeeperService | None = None
        self.lives = 0
        self.rate = 1.0
        self.wall_offset_ms = 0
        self.frozen = False
        self.failure: BaseException | None = None
        self._ensemble = ensemble
        self._network: _ProcessNetwork | None = None
        self._stopping = False

    def __repr__(self) -> str:
        return f"<MemoryMember {self.sid} {self.mode}>"

    @property
    def up(self) -> bool:
        """Whether a process runs that was not told to stop."""
        return self.service is not None and not self._stopping

    @property
    def mode(self) -> str:
        """What it is: C{"leader"}, C{"follower"}, C{"looking"} and so on; C{"down"} without a process."""
        return "down" if self.service is None else str(self.service.status()["mode"])

    @property
    def serving(self) -> bool:
        """Whether it answers clients, as what it is."""
        return self.service is not None and self.core.role is not None and self.failure is None

    @property
    def core(self) -> Any:
        """The heart of the process, for checkers."""
        assert self.service is not None
        run: Any = self.service._run
        return run.core

    @property
    def address(self) -> Address:
        """Where clients connect."""
        return Address(self.host.address, CLIENT_PORT)

    # -- life and death

    def start(self) -> None:
        """Start a process on the disk as it is."""
        if self.service is not None:
            raise RuntimeError(f"server {self.sid} runs already")
        ensemble = self._ensemble
        self.lives += 1
        self.failure, self.frozen, self._stopping = None, False, False
        # No two processes have the same idea of how late it is.
        self.clock = self.disk.clock = ensemble.world.make_clock(
            start=1000.0 * self.sid + 100_000 * self.lives, rate=self.rate, wall_offset_ms=self.wall_offset_ms
        )
        self._network = _ProcessNetwork(self.host)
        self.service = ZooKeeperService(
            self.clock,
            self.config,
            [self._network.server(Address("", CLIENT_PORT))],
            monotonic=self.clock.seconds,
            wall_ms=self.clock.wall_ms,
            entropy=Random(ensemble.entropy.random()),
            disks=lambda config: (self.disk, self.disk),
            network=self._network,
        )
        self.service.when_serving().addErrback(self._failed)
        self.service.when_failed().addErrback(self._failed)
        ensemble.note(f"server {self.sid} starts, life {self.lives}")
        self._listen_in(self.service)
        self.service.startService()

    def _listen_in(self, service: Any) -> None:
        """Let the checker see the heart of the process before it beats."""
        make_run = service._make_run

        def make() -> Any:
            run = make_run()
            self._ensemble.checker.born(self, run.core)
            return run

        service._make_run = make

    def _failed(self, failure: Failure) -> None:
        if self._stopping or self.failure is not None:
            return
        self.failure = failure.value
        self._ensemble.note(f"server {self.sid} gives up: {failure.getErrorMessage()}")
        if not self.disk.told_to_fail:
            self._ensemble.unexpected.append(
                f"server {self.sid} gives up without a reason: {failure.getErrorMessage()}"
            )

    def crash(self, *, power: bool = False) -> None:
        """
        Let the process die at this moment, and the disk lose what it had not made durable.

        @param power: the machine goes off as well: nobody hears of it before the next L{start}.
        """
        if self.service is None:
            return
        ensemble = self._ensemble
        ensemble.note(f"server {self.sid} ({self.mode}) " + ("loses its power" if power else "is killed"))
        if power:
            self.host.lose_power()
        else:
            self.host.kill()
        self.disk.crash(ensemble.entropy)
        self._bury()

    def _bury(self) -> None:
        assert self._network is not None
        self._network.host = None
        self.clock.forget()
        self.disk = self.disk.successor()
        self.service = None
        self.frozen = False

    def restart(self) -> None:
        """Start again, whether the process died, stopped or gave up."""
        if self.service is not None:
            self.crash()
        if self.host.without_power:
            self.host.power_on()
        self.start()

    def stop(self) -> None:
        """Stop in order; the process ends when it is ready."""
        if self.service is None or self._stopping:
            return
        self._ensemble.note(f"server {self.sid} ({self.mode}) is told to stop")
        self._stopping = True
        service = self.service
        service.stopService().addCallback(lambda _: self._stopped(service))

    def _stopped(self, service: ZooKeeperService) -> None:
        if self.service is service:
            self._ensemble.note(f"server {self.sid} has stopped")
            self._ensemble.checker.stopped(self)
            self.host.kill()
            self._bury()

    def freeze(self) -> None:
        """Let the process stand still, as SIGSTOP does: its machine goes on."""
        if self.service is not None:
            self._ensemble.note(f"server {self.sid} stands still")
            self.frozen = True
            self.clock.freeze()
            self.host.stop()

    def thaw(self) -> None:
        """Let the process go on."""
        if self.frozen:
            self._ensemble.note(f"server {self.sid} goes on")
            self.frozen = False
            self.clock.thaw()
            self.host.go_on()

    def skew(self, rate: float, wall_offset_ms: int = 0) -> None:
        """Let its clock go faster or slower from now on, and its date be wrong."""
        self.rate, self.wall_offset_ms = rate, wall_offset_ms
        if self.service is not None:
            self.clock.set_rate(rate)
            self.clock.wall_offset_ms = wall_offset_ms


class MemoryEnsemble:
    """
    Servers, clients, and the world that they are in.

    @ivar world: its time.
    @ivar network: what is between them.
    @ivar entropy: all chance in it.
    @ivar servers: by id.
    @ivar clients: in the order of their making.
    @ivar checker: what looks at the servers after every step.
    @ivar trace: what has happened, as lines; the last C{trace_lines} of them.
    """

    def __init__(
        self,
        servers: int = 3,
        observers: int = 0,
        seed: int = 7,
        *,
        settings: dict[str, Any] | None = None,
        latency: tuple[float, float] = (0.0002, 0.002),
        disk_latency: tuple[float, float] = (0.0005, 0.004),
        chopping: float = 0.1,
        start: bool = True,
        check: bool = True,
    ) -> None:
        """
        @param servers: how many vote.
        @param observers: how many more do not.
        @param seed: all that chance decides follows from it.
        @param settings: of L{ServerConfig<zktwisted.ServerConfig>}, for all servers; C{ensemble} too may be among them.
        @param latency: least and most seconds that bytes are on their way.
        @param disk_latency: least and most seconds that a flush takes.
        @param chopping: how likely bytes arrive in other pieces than they were written in.
        @param start: whether the servers start at once.
        @param check: whether servers are looked at after every step; it takes time where there are many sessions.
        """
        self.seed = seed
        self.entropy = Random(seed)
        self.world = World()
        self.network = MemoryNetwork(
            self.world.clock, Random(self.entropy.random()), latency=latency, chopping=chopping
        )
        self.network.on_note = self._heard
        self.disk_latency = disk_latency
        self.clients: list[SimulatedClient] = []
        self.trace: list[str] = []
        self.trace_lines = 4000
        self.unexpected: list[str] = []
        self._hash = blake2b(digest_size=16)
        self.checker = ServerChecker(self, enabled=check)
        self.members = settings["ensemble"] if settings and "ensemble" in settings else members(servers, observers)
        self.servers: dict[int, MemoryMember] = {}
        for member in self.members.members:
            self._add_server(member, settings or {})
        self.world.after_step = self._after_step
        self._observer = _Observer(self)
        globalLogPublisher.addObserver(self._observer)
        if start:
            self.start()

    def _add_server(self, member: Member, settings: dict[str, Any]) -> None:
        host = self.network.host(member.addresses[0].host)
        entropy, latency = Random(self.entropy.random()), self.disk_latency
        disk = MemoryDisk(
            f"disk {member.sid}",
            clock=self.world.clock,
            latency=lambda: entropy.uniform(*latency),
            file_latency=lambda: entropy.uniform(*latency),
        )
        config = ServerConfig(**{**_SETTINGS, **settings, "ensemble": self.members, "myid": member.sid})
        self.servers[member.sid] = MemoryMember(self, config, host, disk)

    def start(self) -> None:
        """Start the servers that do not run."""
        for server in self.servers.values():
            if server.service is None:
                server.restart()

    def close(self) -> None:
        """Forget it all: needed at the end, for Twisted's log is heard as long as an ensemble lives."""
        globalLogPublisher.removeObserver(self._observer)
        for server in self.servers.values():
            server.clock.forget()
        self.world.clock.forget()

    # -- time

    def advance(self, seconds: float) -> None:
        """
        Let time pass.

        @raise Violation: something was not as it must be, at the moment at which it was so.
        """
        self.world.advance(seconds)

    def until(self, condition: Callable[[], object], limit: float, what: str = "what was waited for") -> float:
        """
        Let time pass until something is true.

        @param limit: but no longer than so many seconds.
        @return: how long it took.
        @raise Violation: it did not become true, or something else was not as it must be.
        """
        begun = self.world.now
        while not condition():
            if not self.world.step(begun + limit):
                self.world.now = max(self.world.now, begun + limit)
                if condition():
                    break
                raise Violation(f"{what} did not come about in {limit} s: {self.modes()}")
        return self.world.now - begun

    def _after_step(self) -> None:
        self.checker.check()
        if self.unexpected:
            raise Violation(self.unexpected[0])
        for client in self.clients:
            if client.wrong:
                raise Violation(client.wrong[0])

    # -- what there is to be seen

    def leader(self) -> MemoryMember | None:
        """Return the server that leads and serves, the newest where an old one knows no better; C{None} for none."""
        leading = [server for server in self.servers.values() if server.serving and server.mode == "leader"]
        return max(leading, key=lambda server: self.checker.epoch_of(server.sid), default=None)

    def modes(self) -> dict[int, str]:
        """Return what each server is."""
        return {sid: server.mode for sid, server in self.servers.items()}

    def serving(self) -> list[MemoryMember]:
        """Return the servers that answer clients."""
        return [server for server in self.servers.values() if server.serving]

    def until_serving(self, limit: float = 60.0) -> float:
        """Let time pass until every server that runs serves, and one of them leads."""

        def all_serve() -> bool:
            running = [server for server in self.servers.values() if server.up and not server.frozen]
            return self.leader() is not None and all(server.serving for server in running)

        return self.until(all_serve, limit, "that all serve")

    def client(
        self, servers: Iterable[int] | None = None, *, timeout_ms: int = 6000, start: bool = True
    ) -> SimulatedClient:
        """
        Add a client.

        @param servers: the ids of those it knows; by default of all.
        """
        number = len(self.clients) + 1
        name = f"client {number}"
        known = [self.servers[sid].address for sid in (self.servers if servers is None else servers)]
        client = SimulatedClient(
            name,
            self.network.host(f"10.0.1.{number}"),
            self.world.clock,
            known,
            Random(self.entropy.random()),
            timeout_ms,
        )
        client.on_entry = lambda entry: self._told(name, entry)
        self.clients.append(client)
        if start:
            client.start()
        return client

    # -- faults

    def crash(self, sid: int, *, power: bool = False) -> None:
        """See L{MemoryMember.crash}."""
        self.servers[sid].crash(power=power)

    def restart(self, sid: int) -> None:
        """See L{MemoryMember.restart}."""
        self.servers[sid].restart()

    def power_loss(self) -> None:
        """Let all machines go off at once; L{start} brings them back."""
        for server in self.servers.values():
            server.crash(power=True)

    def partition(self, *groups: Iterable[int]) -> None:
        """Let servers of one group reach those of no other; clients reach all."""
        sides = [list(group) for group in groups]
        self.note(f"partition {sides}")
        self.network.partition(*([self._host(sid) for sid in side] for side in sides))

    def cut(self, source: int, target: int) -> None:
        """Let nothing come from one server to another; the other way is as before."""
        self.note(f"nothing comes from {source} to {target}")
        self.network.cut(self._host(source), self._host(target))

    def reset(self, one: int, other: int) -> None:
        """Reset the connections between two servers."""
        self.note(f"reset between {one} and {other}")
        self.network.reset(self._host(one), self._host(other))

    def heal(self) -> None:
        """Mend the network; processes stay as they are."""
        self.note("the network heals")
        self.network.heal()

    def _host(self, sid: int) -> str:
        return self.servers[sid].host.address

    # -- the trace

    def note(self, text: str) -> None:
        """Take down what has happened."""
        self._hash.update(f"{self.world.now} {text}".encode())
        self.remark(text)

    def remark(self, text: str) -> None:
        """Put a line into the trace that is no part of what two runs are compared by."""
        self.trace.append(f"{self.world.now:10.4f}  {text}")
        if len(self.trace) > 2 * self.trace_lines:
            del self.trace[: self.trace_lines]

    def _heard(self, what: str, number: int, target: str, data: bytes) -> None:
        # Every byte of the run is in the hash; lines tell of what can be read.
        self._hash.update(f"{self.world.now} {what} {number} {target} {crc32(data)}".encode())

    def _told(self, name: str, entry: Entry) -> None:
        if isinstance(entry.what, Operation):
            self.note(f"{name} is told {entry.what}")
        else:
            self.note(f"{name} {entry.kind} 0x{entry.session:x} {entry.what or ''}")

    def trace_hash(self) -> str:
        """Return what two runs share exactly if they were the same: a hash over all bytes and all lines."""
        return self._hash.hexdigest()


@implementer(ILogObserver)
class _Observer:
    """Servers may complain of their disks; what else they report as a failure is a mistake of ours."""

    def __init__(self, ensemble: MemoryEnsemble) -> None:
        self._unexpected = ensemble.unexpected
        self._ensemble = ensemble

    def __call__(self, event: LogEvent) -> None:
        failure = event.get("log_failure")
        if event.get("log_level") is not LogLevel.debug:
            self._ensemble.remark(f"  ({event.get('log_namespace')}) {formatEvent(event)}")
        if failure is not None and not failure.check(StoreError):
            self._unexpected.append(f"logged: {event.get('log_format')}: {failure.getTraceback()}")


def members(servers: int, observers: int = 0) -> Ensemble:
    """Return an ensemble of so many voters and observers, each on a machine of its own."""
    return Ensemble(
        tuple(
            Member(
                sid,
                (Address(f"10.0.0.{sid}", QUORUM_PORT),),
                (Address(f"10.0.0.{sid}", ELECTION_PORT),),
                PARTICIPANT if sid <= servers else OBSERVER,
            )
            for sid in range(1, servers + observers + 1)
        )
    )
