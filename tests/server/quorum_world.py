"""Servers of an ensemble in memory whose roles are given, not elected: cables between them, one clock, no sockets."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from tests.server.world import World
from zktwisted.config import Ensemble, ServerConfig
from zktwisted.edge.quorum import QuorumFactory, QuorumProtocol
from zktwisted.server.driver import Ended, Station
from zktwisted.server.following import LearnerDriver
from zktwisted.server.leader import LeaderRole
from zktwisted.server.leading import LeaderDriver
from zktwisted.server.learner import LearnerRole
from zktwisted.server.learners import CoreHistory
from zktwisted.server.snapshots import Snapshots
from zktwisted.store.database import Database, Restored
from zktwisted.testing.disk import MemoryDisk
from zktwisted.zab.effects import Limits
from zktwisted.zab.leader import Leader
from zktwisted.zab.learner import Learner

THREE = Ensemble.parse(
    "\n".join(f"server.{sid}=10.0.0.{sid}:2888:3888:participant;2181" for sid in (1, 2, 3))
    + "\nserver.4=10.0.0.4:2888:3888:observer;2181"
)

_T = TypeVar("_T")


class Cable(StringTransport):
    """
    One end of a connection; what is written waits until the world lets it through.

    @ivar cut: nothing gets through, in this direction.
    """

    def __init__(self) -> None:
        super().__init__()
        self.other: Cable
        self.protocol: QuorumProtocol
        self.cut = self.over = False
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self.over:
            super().write(data)
            self.written.append(data)

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass

    def abortConnection(self) -> None:
        self.disconnecting = self.aborting = True

    def carry(self) -> bool:
        """Let what was written through; tell whether there was anything."""
        if self.cut or self.over:
            return False
        data = self.value()
        self.clear()
        if data:
            self.other.protocol.dataReceived(data)
            return True
        if self.disconnecting:
            for end, reason in ((self, ConnectionAborted()), (self.other, ConnectionDone())):
                end.over = True
                end.protocol.connectionLost(Failure(reason))
            return True
        if self.producer is not None:
            self.producer.resumeProducing()
            return True
        return False


class Member:
    """
    One server.

    @ivar world: its core, its clients.
    @ivar epochs: what it has on disk, by name.
    """

    def __init__(self, sid: int, clock: Clock, disk: MemoryDisk | None = None, **settings: Any) -> None:
        self.sid = sid
        self.clock = clock
        self.disk = disk or MemoryDisk()
        values: dict[str, Any] = {"tick_time": 2000, "init_limit": 10, "sync_limit": 5, "myid": sid, "ensemble": THREE}
        self.config = ServerConfig(**{**values, **settings})
        self.world = World(self.disk, clock=clock, config=self.config, server_id=sid, begin=None)
        self.core = self.world.server
        assert isinstance(self.core.storage, Database)
        self.storage = self.core.storage
        self.snapshots = Snapshots(
            self.storage, self.core.snapshot_image, clock.callLater, clock.seconds, self.core.metrics
        )
        self.epochs = {"acceptedEpoch": 0, "currentEpoch": 0}
        self.began: list[int] = []
        self.served: list[str] = []
        self.driver: Any = None
        self.ended: list[Ended] = []
        self.station = Station(
            core=self.core,
            storage=self.storage,
            snapshots=self.snapshots,
            restore=self._restore,
            ensemble=THREE,
            call_later=clock.callLater,
            now=clock.seconds,
            in_thread=self._in_thread,
            epoch_written=self.epochs.__setitem__,
        )

    async def _restore(self) -> Restored:
        restored = self.storage.restore(self.core.restore_target())
        self.core.restored(restored.zxid)
        return restored

    async def _in_thread(self, call: Callable[[], _T]) -> _T:
        return call()

    def limits(self) -> Limits:
        return Limits(tick=2.0)

    def lead(self) -> LeaderDriver:
        """Lead, and wait for learners."""
        driver = LeaderDriver(self.station, partial(LeaderRole, self.core), self.began.append)
        driver.machine = Leader(
            self.sid,
            THREE,
            self.epochs["acceptedEpoch"],
            self.epochs["currentEpoch"],
            self.core.last_zxid,
            CoreHistory(self.station),
            self.limits(),
            self.clock.seconds(),
        )
        self._begin(driver)
        driver.perform()
        return driver

    def learner(self, observer: bool = False) -> LearnerDriver:
        """Be about to follow."""
        driver = LearnerDriver(self.station, lambda up: LearnerRole(self.core, up, observer), self.began.append)
        self._begin(driver)
        return driver

    def _begin(self, driver: Any) -> None:
        self.driver = driver
        driver.served = lambda: self.served.append(driver.role.name)
        driver.over.addCallback(self.ended.append)

    def machine(self, observer: bool = False) -> Learner:
        """Make what follows."""
        return Learner(
            self.sid,
            THREE,
            self.epochs["acceptedEpoch"],
            self.epochs["currentEpoch"],
            self.core.last_zxid,
            observer,
            self.limits(),
            self.clock.seconds(),
        )

    def close(self) -> Deferred[list[QuorumProtocol]]:
        """End the role in order."""
        driver, self.driver = self.driver, None
        closing: Deferred[list[QuorumProtocol]] = Deferred.fromCoroutine(driver.close())
        return closing

    def tree(self) -> dict[bytes, tuple[object, ...]]:
        """Return what clients can see, without what is the ensemble's own."""
        return {
            path: (node.data, node.czxid, node.mzxid, node.version, node.cversion, node.pzxid, node.owner)
            for path, node in self.core.tree.nodes.items()
            if not path.startswith(b"/zookeeper/config")
        }


class Servers:
    """
    All of them.

    @ivar cables: every connection that was made, both ends.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.members: list[Member] = []
        self.cables: list[Cable] = []
        self._turns: list[Callable[[], None]] = []

    def add(self, sid: int, disk: MemoryDisk | None = None, **settings: Any) -> Member:
        """Add a server that has no role yet."""
        member = Member(sid, self.clock, disk, **settings)
        self.members.append(member)
        # A client that waits for its reply waits for all servers.
        self._turns.append(member.world.turn)
        member.world.turn = self.turn  # type: ignore[method-assign]
        return member

    def connect(self, follower: Member, leader: LeaderDriver, observer: bool = False) -> tuple[Cable, Cable]:
        """Let a server follow a leader; return its end of the cable and the leader's."""
        driver = follower.learner(observer)
        ends = Cable(), Cable()
        ends[0].other, ends[1].other = ends[1], ends[0]
        for end, receiver in zip(ends, (driver, leader), strict=True):
            end.protocol = QuorumFactory(receiver).buildProtocol(None)
            end.protocol.makeConnection(end)
        self.cables += ends
        driver.follow(ends[0].protocol, follower.machine(observer))
        return ends

    def turn(self, limit: int = 10_000) -> None:
        """Let everything happen that happens by itself."""
        for _ in range(limit):
            self.clock.advance(0)
            moved = False
            for cable in list(self.cables):
                moved = cable.carry() or moved
            for turn in self._turns:
                turn()
            if not moved and not any(call.getTime() <= self.clock.seconds() for call in self.clock.getDelayedCalls()):
                return
        raise AssertionError("it never comes to rest")

    def advance(self, seconds: float, step: float = 0.25) -> None:
        """Let time pass."""
        while seconds > 0:
            self.clock.advance(min(step, seconds))
            seconds -= step
            self.turn()
