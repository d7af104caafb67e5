"""
What happens in a simulation: clients that ask for things, and trouble that befalls servers and wires.

L{Workload} keeps one client busy with everything that clients do; L{Trouble} breaks processes, machines, disks, wires
and clocks, and mends some of them again.  Both draw from the chance that they were given, act on the world's clock,
and know nothing of what is right.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IDelayedCall

from zktwisted.testing.simulated import Operation, SimulatedClient
from zktwisted.wire import ops, proto

if TYPE_CHECKING:
    from zktwisted.testing.ensemble import MemoryEnsemble, MemoryMember

__all__ = ["Trouble", "Workload"]

_PARENTS = (b"/p0", b"/p1", b"/p2")
_NODES = tuple(parent + b"/n%d" % index for parent in _PARENTS for index in range(3))
_PATHS = (*_PARENTS, *_NODES)


class Workload:
    """
    What one client does with its time.

    @ivar client: who does it.
    @ivar pace: seconds between what it does, on average.
    """

    def __init__(self, ensemble: MemoryEnsemble, client: SimulatedClient, entropy: Random, pace: float) -> None:
        self.client = client
        self.pace = pace
        self._ensemble = ensemble
        self._entropy = entropy
        self._call: IDelayedCall | None = None
        self._versions: dict[bytes, int] = {}
        self._stopped = False
        self._asked = 0
        client.on_reply = self._told
        self._next()

    def stop(self) -> None:
        """Ask for no more."""
        self._stopped = True
        if self._call is not None and self._call.active():
            self._call.cancel()

    def _next(self) -> None:
        if not self._stopped:
            wait = self._entropy.expovariate(1 / self.pace)
            self._call = self._ensemble.world.clock.callLater(wait, self._act)

    def _act(self) -> None:
        client, entropy = self.client, self._entropy
        waiting = sum(operation.status == "pending" for operation in client.operations[-8:])
        what = entropy.random()
        if what < 0.04:
            # Often with something on its way.
            for _ in range(entropy.choice((0, 1, 3))):
                client.send(*self._request())
            client.move()
        elif what < 0.05 and client.connected:
            client.close_session()
            self._later(3.0, client.start)
        elif what < 0.055:
            client.vanish()
            self._later(entropy.uniform(0.5, 15.0), client.start)
        elif client.connected and waiting < 6:
            for _ in range(entropy.choice((1, 1, 1, 2, 4))):
                client.send(*self._request())
        self._next()

    def _later(self, delay: float, call: Callable[[], None]) -> None:
        self._ensemble.world.clock.callLater(delay, call)

    def _told(self, operation: Operation) -> None:
        if operation.ok and operation.op in (ops.GET_DATA, ops.EXISTS, ops.SET_DATA):
            assert operation.reply is not None
            self._versions[operation.request.path] = operation.reply.decode().stat.version

    def _request(self) -> tuple[int, Any]:
        entropy = self._entropy
        path, kind = entropy.choice(_PATHS), entropy.random()
        if kind < 0.2:
            op = entropy.choice((ops.GET_DATA, ops.GET_DATA, ops.EXISTS, ops.GET_CHILDREN2))
            return op, proto.PathWatchRequest(path, entropy.random() < 0.5)
        if kind < 0.26:
            return ops.SYNC, proto.PathRequest(path)
        if kind < 0.36:
            return ops.MULTI, [self._change() for _ in range(entropy.choice((1, 2, 3)))]
        return self._change(multi=False)

    def _change(self, multi: bool = True) -> tuple[int, Any]:
        entropy = self._entropy
        self._asked += 1
        path = entropy.choice(_PATHS)
        data = b"%s.%d " % (self.client.name.encode(), self._asked) * entropy.choice((1, 1, 1, 1, 300))
        kind = entropy.random()
        version = -1 if entropy.random() < 0.6 else self._versions.get(path, 0)
        if kind < 0.4:
            return ops.SET_DATA, proto.SetDataRequest(path, data, version)
        if kind < 0.52:
            return ops.DELETE, proto.DeleteRequest(entropy.choice(_NODES), version)
        if kind < 0.56 and multi:
            return ops.CHECK, proto.CheckVersionRequest(path, version)
        flags = entropy.choice((0, 0, 0, 1, 1, 2, 3))
        if entropy.random() < 0.3:
            return ops.CREATE, proto.CreateRequest(entropy.choice(_PARENTS), data, proto.OPEN_ACL, 0)
        path = entropy.choice(_NODES) + (b"-" if flags & 2 else b"")
        return ops.CREATE, proto.CreateRequest(path, data, proto.OPEN_ACL, flags)


class Trouble:
    """
    What befalls an ensemble.

    @ivar pace: seconds between two troubles, on average.
    @ivar times: when something was broken, was being broken, or was mended.
    """

    def __init__(self, ensemble: MemoryEnsemble, entropy: Random, pace: float) -> None:
        self.pace = pace
        self.times: list[float] = []
        self._ensemble = ensemble
        self._entropy = entropy
        self._stopped = False
        self._bent = 0
        self._kinds = (
            *((self._kill,) * 4),
            *((self._kill_leader,) * 4),
            *((self._kill_at_disk,) * 4),
            *((self._freeze,) * 2),
            *((self._part,) * 4),
            *((self._cut,) * 3),
            *((self._reset,) * 2),
            *((self._move_clients,) * 2),
            *((self._slow_wire,) * 2),
            *((self._slow_disk,) * 3),
            *((self._fail_disk,) * 2),
            self._stop,
            self._skew,
            self._power,
        )
        self._next()
        self._look_after()

    def stop(self) -> None:
        """Break nothing more, and mend everything."""
        ensemble = self._ensemble
        self._stopped = True
        ensemble.heal()
        for server in ensemble.servers.values():
            server.thaw()
            server.disk.on_change = int
            self._usual_disk(server)
            server.skew(1.0)
            if not server.up or server.failure is not None or server.disk.told_to_fail:
                server.restart()
        self.times.append(ensemble.world.now)

    def _latency(self, least: float, most: float) -> Callable[[], float]:
        return lambda: self._entropy.uniform(least, most)

    def _later(self, delay: float, call: Callable[[], object]) -> None:
        def now() -> None:
            if not self._stopped:
                self.times.append(self._ensemble.world.now)
                call()

        self._ensemble.world.clock.callLater(delay, now)

    def _bend(self, seconds: float, mend: Callable[[], object]) -> None:
        """Let something last."""
        self._bent += 1

        def mended() -> None:
            self._bent -= 1
            mend()

        self._later(seconds, mended)

    def _next(self) -> None:
        self._later(self._entropy.expovariate(1 / self.pace), self._strike)

    def _strike(self) -> None:
        self._entropy.choice(self._kinds)()
        self._next()

    def _look_after(self) -> None:
        """Start servers again that gave up, as a supervisor does, and take down that things are not as they should."""
        if self._stopped:
            return
        ensemble = self._ensemble
        servers = ensemble.servers.values()
        if self._bent or any(not server.serving for server in servers):
            self.times.append(ensemble.world.now)
        for server in servers:
            if server.failure is not None and server.up:
                server.crash()
                self._later(self._entropy.uniform(0.1, 3.0), partial(self._revive, server))
        ensemble.world.clock.callLater(0.5, self._look_after)

    def _revive(self, server: MemoryMember) -> None:
        if server.service is None:
            server.restart()

    def _server(self) -> MemoryMember | None:
        running = [server for server in self._ensemble.servers.values() if server.up and not server.frozen]
        return self._entropy.choice(running) if running else None

    # -- processes and machines

    def _kill(self, server: MemoryMember | None = None) -> None:
        server = server or self._server()
        if server is not None:
            server.crash(power=self._entropy.random() < 0.4)
            self._later(self._entropy.choice((0.05, 1.0, 4.0, 12.0)), partial(self._revive, server))

    def _kill_at_disk(self) -> None:
        """Let a server die as soon as its disk has done something, the next thing or a later one."""
        server = self._server()
        if server is None:
            return
        disk, left = server.disk, self._entropy.choice((1, 1, 2, 3, 5, 10))

        def changed() -> None:
            nonlocal left
            left -= 1
            if not left:
                disk.on_change = int
                self._later(0.0, partial(self._kill_process, server, disk))

        disk.on_change = changed
        self._ensemble.note(f"server {server.sid} is going to die at change {left} of its disk")
        if self._entropy.random() < 0.5:
            # A synchronization is where it matters most.
            self._ensemble.network.reset(server.host.address, self._ensemble.servers[self._other(server)].host.address)

    def _other(self, server: MemoryMember) -> int:
        leader = self._ensemble.leader()
        if leader is not None and leader is not server:
            return leader.sid
        return self._entropy.choice([sid for sid in sorted(self._ensemble.servers) if sid != server.sid])

    def _kill_process(self, server: MemoryMember, disk: object) -> None:
        if server.disk is disk:
            self._kill(server)

    def _kill_leader(self) -> None:
        self._kill(self._ensemble.leader())

    def _power(self) -> None:
        self._ensemble.power_loss()
        for server in self._ensemble.servers.values():
            self._later(self._entropy.uniform(0.1, 6.0), partial(self._revive, server))

    def _stop(self) -> None:
        server = self._server()
        if server is not None:
            server.stop()
            self._later(self._entropy.uniform(2.0, 8.0), partial(self._stopped_long_enough, server))

    def _stopped_long_enough(self, server: MemoryMember) -> None:
        if not server.up:
            server.restart()

    def _freeze(self) -> None:
        server = self._server()
        if server is not None:
            server.freeze()
            self._bend(self._entropy.choice((0.3, 2.0, 7.0, 15.0)), server.thaw)

    def _skew(self) -> None:
        server = self._server()
        if server is not None:
            server.skew(self._entropy.uniform(0.97, 1.03), self._entropy.randrange(-100_000, 100_000))

    # -- disks

    def _slow_disk(self) -> None:
        server = self._server()
        if server is not None:
            server.disk.latency = self._latency(0.0, self._entropy.choice((0.05, 0.5, 4.0)))
            self._bend(self._entropy.uniform(1.0, 8.0), partial(self._usual_disk, server))

    def _usual_disk(self, server: MemoryMember) -> None:
        server.disk.latency = self._latency(*self._ensemble.disk_latency)

    def _fail_disk(self) -> None:
        server = self._server()
        if server is not None:
            if self._entropy.random() < 0.6:
                server.disk.fail_flush(self._entropy.randrange(1, 4))
            else:
                server.disk.fail_write()
            self._ensemble.note(f"the disk of server {server.sid} is about to fail")

    # -- wires

    def _pair(self) -> tuple[int, int]:
        one, other = self._entropy.sample(sorted(self._ensemble.servers), 2)
        return one, other

    def _part(self) -> None:
        ensemble, entropy = self._ensemble, self._entropy
        sids = sorted(ensemble.servers)
        leader = ensemble.leader()
        if leader is not None and entropy.random() < 0.5:
            alone = [leader.sid]
        else:
            alone = entropy.sample(sids, entropy.randrange(1, len(sids)))
        ensemble.partition(alone, [sid for sid in sids if sid not in alone])
        self._bend(entropy.choice((0.5, 3.0, 8.0, 15.0)), ensemble.heal)

    def _cut(self) -> None:
        self._ensemble.cut(*self._pair())
        self._bend(self._entropy.choice((1.0, 5.0, 12.0)), self._ensemble.heal)

    def _reset(self) -> None:
        self._ensemble.reset(*self._pair())

    def _move_clients(self) -> None:
        """A server's clients lose their connections."""
        server = self._server()
        if server is not None:
            for client in self._ensemble.clients:
                self._ensemble.network.reset(client.host.address, server.host.address)

    def _slow_wire(self) -> None:
        ensemble = self._ensemble
        one, other = (ensemble.servers[sid].host.address for sid in self._pair())
        most = self._entropy.choice((0.02, 0.2, 1.0, 2.0))
        ensemble.network.slow(one, other, (0.0, most))
        ensemble.note(f"the wire from {one} to {other} takes up to {most} s")
        self._bend(self._entropy.uniform(1.0, 8.0), ensemble.heal)
