"""
Drives a follower or an observer: the leader on one side, the role that asks it on the other.

What the machine wants done is done here: images and transactions into the tree, requests to the leader.  In which order
is L{zktwisted.zab.learner}'s affair.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from zktwisted.edge.quorum import QuorumProtocol
from zktwisted.errors import ProtocolError, StoreError
from zktwisted.server.driver import Driver, Station
from zktwisted.tree import image
from zktwisted.wire import ops, quorum
from zktwisted.wire.proto import Id
from zktwisted.wire.quorum import QuorumPacket
from zktwisted.wire.txns import HEADER_SIZE
from zktwisted.zab import effects
from zktwisted.zab.learner import Learner

if TYPE_CHECKING:
    from zktwisted.server.observers import ObserverMasterDriver

__all__ = ["LearnerDriver"]

log = Logger()


class LearnerDriver(Driver[Learner]):
    """
    Drives a follower or an observer: the receiver of its connection to the leader, and what the role asks upstream.

    @ivar master: what serves observers in the leader's stead, if anything does.
    """

    def __init__(
        self, station: Station, make_role: Callable[[LearnerDriver], Any], serving: Callable[[int], None]
    ) -> None:
        """
        @param make_role: makes the role that passes requests on to us.
        @param serving: told the epoch when we are up to date, before clients are served.
        """
        super().__init__(station, make_role(self))
        self._serving = serving
        self.master: ObserverMasterDriver | None = None
        #: Whose syncs the leader is going to answer, in order: 0 for the role's own, else an observer's channel.
        self._syncs: deque[int] = deque()
        self._connection: QuorumProtocol | None = None
        self._reader: image.ImageReader | None = None
        self._image: effects.LoadImage | None = None
        #: Whether something is in the tree that is not in the log, so that the log has a hole there.
        self._unlogged = False
        #: What was proposed in this turn: how many, and the newest of them.
        self._proposed = 0
        self._proposal = b""
        self._handlers |= {
            effects.LoadImage: self._load_image,
            effects.Truncate: self._truncate,
            effects.TakeSnapshot: self._take_snapshot,
            effects.Apply: self._apply,
            effects.Serve: self._serve,
            effects.Synced: self._synced,
            effects.Revalidated: self._revalidated,
            effects.Pong: self._pong,
        }

    def follow(self, connection: QuorumProtocol, machine: Learner) -> None:
        """Begin to talk to a leader."""
        self.machine = machine
        self._connection = connection
        if connection.closed:
            machine.disconnected("the connection was closed", self._now())
        self.perform()

    # -- L{zktwisted.edge.quorum.QuorumReceiver}

    def connected(self, connection: QuorumProtocol) -> None:
        """An attempt got through; which one is used is told by L{follow}."""

    def received(self, connection: QuorumProtocol, packets: list[QuorumPacket]) -> None:
        """The leader said something."""
        if self._ended or connection is not self._connection:
            return
        machine = self.machine
        if machine.serving:
            proposed = [packet for packet in packets if packet.type == quorum.PROPOSAL]
            if proposed:
                self._proposed += len(proposed)
                self._proposal = proposed[-1].data or b""
        machine.receive_all(packets, self._now())
        if not machine.serving:
            # What follows may be an image.
            self.perform()

    def read(self, connection: QuorumProtocol) -> None:
        """That was all for now."""
        if connection is self._connection:
            self.perform()
            if self._proposed:
                metrics, proposed, self._proposed = self._metrics, self._proposed, 0
                metrics.learner_proposal_received_count += proposed
                if len(self._proposal) >= HEADER_SIZE:
                    metrics.proposal_latency.add(self._age(self._proposal), proposed)

    def lost(self, connection: QuorumProtocol, reason: str) -> None:
        """The leader is gone."""
        if connection is self._connection and not self._ended:
            self.machine.disconnected(reason, self._now())
            self.perform()

    def connection(self, channel: int) -> QuorumProtocol | None:
        """Return the connection to the leader."""
        return self._connection

    # -- what the role asks for

    @property
    def received_zxid(self) -> int:
        """The last transaction that the leader has told us of."""
        return self.machine.received_zxid

    def request(self, session_id: int, cxid: int, op: int, body: bytes, identities: Iterable[Id] | None) -> None:
        """Pass a request on to the leader."""
        self.forward(0, session_id, cxid, op, body, identities)

    def forward(
        self, channel: int, session_id: int, cxid: int, op: int, body: bytes, identities: Iterable[Id] | None
    ) -> None:
        """
        Pass a request on to the leader for an observer.

        @param channel: the observer's, 0 for the role's own.
        """
        if not self._ended:
            if op == ops.SYNC:
                self._syncs.append(channel)
            self.machine.request(session_id, cxid, op, body, identities, self._now())
            self.later()

    def revalidate(self, session_id: int, timeout: int) -> None:
        """Ask the leader whether a session is alive."""
        if not self._ended:
            self.machine.revalidate(session_id, timeout, self._now())
            self.later()

    # -- effects

    def _apply(self, effect: effects.Apply) -> None:
        logged, apply, master = self._logged, self.role.apply, self.master
        for zxid, entry in effect.entries:
            if logged.pop(zxid, None) is None:
                self._unlogged = True
            apply(zxid, entry)
            if master is not None:
                master.committed(zxid, entry)
        if self.machine.serving:
            self._newest = effect.entries[-1][1]
            self._decided += len(effect.entries)

    def _measure(self, age: int, count: int) -> None:
        super()._measure(age, count)
        self._metrics.learner_commit_received_count += count
        self._metrics.commit_propagation_latency.add(age, count)

    def _flushed(self, newest: bytes, count: int) -> None:
        if self.role.name != "observer":  # whose log is nobody's voice
            super()._flushed(newest, count)

    def _serve(self, effect: effects.Serve) -> None:
        self._serving(effect.epoch)
        self.role.start(self._core.last_zxid)
        self.served()

    def _synced(self, effect: effects.Synced) -> None:
        channel = self._syncs.popleft() if self._syncs else 0
        if not channel:
            self.role.synced()
        elif self.master is not None:
            self.master.synced(channel)

    def _revalidated(self, effect: effects.Revalidated) -> None:
        if self.master is None or not self.master.answered(effect.session_id, effect.valid):
            self.role.revalidated(effect.session_id, effect.valid)

    def _pong(self, effect: effects.Pong) -> None:
        self.machine.pong(effect.zxid, self.role.take_touched(), self._now())

    # -- synchronization

    def _load_image(self, effect: effects.LoadImage) -> None:
        station = self._station
        # A snapshot of a tree that is being replaced would be one of nothing.
        station.snapshots.stop()
        self.reload = self._unlogged = True
        self._storage.committed.clear()
        self._core.timeouts.clear()
        self._reader = image.ImageReader(self._core.tree, station.field_max)
        self._image = effect
        connection = self._connection
        if connection is not None:
            connection.expect_image(self._take_image)

    def _take_image(self, data: bytes) -> bytes | None:
        reader, effect = self._reader, self._image
        if self._ended or reader is None or effect is None:
            return None
        reader.feed(data)
        now = self._now()
        self.machine.progress(now)
        if not reader.done:
            return None
        core = self._core
        core.timeouts.update(reader.sessions)
        core.image_loaded(effect.zxid)
        core.put_config(self._station.ensemble)
        self._reader = None
        log.info("Loaded an image as of 0x{zxid:x}, {nodes} znodes", zxid=effect.zxid, nodes=core.tree.node_count)
        self.machine.persisted(effect.token, now)
        self.perform()
        return reader.rest

    def _truncate(self, effect: effects.Truncate) -> None:
        async def cut() -> None:
            # A snapshot that came late would bring back what is about to be cut off.
            await self._station.snapshots.abandon()
            self.reload = True
            try:
                self._storage.truncate(effect.zxid)
                await self._station.restore()
            except ProtocolError as error:
                raise StoreError(str(error)) from error
            self._core.restored(effect.zxid)
            self._core.put_config(self._station.ensemble)

        log.info("Truncating the history to 0x{zxid:x}", zxid=effect.zxid)
        self.begin(effect.token, cut())

    def _take_snapshot(self, effect: effects.TakeSnapshot) -> None:
        async def take() -> None:
            # One that came late would be of the history that this one replaces.
            await self._station.snapshots.abandon()
            zxid = self._core.last_zxid
            await self._station.snapshots.begin(hurry=True)
            if self._unlogged:
                self._storage.replace_history(zxid)
            self.reload = self._unlogged = False

        self.begin(effect.token, take())

    def hang_up(self) -> list[QuorumProtocol]:
        """Close the connection to the leader."""
        if self._connection is None:
            return []
        self._connection.close()
        return [self._connection]

    async def close(self) -> list[QuorumProtocol]:
        """See L{Driver.close}; an image that came in part, or is on no disk of ours, goes (ZOOKEEPER-3642)."""
        connections = await super().close()
        if self.reload:
            await self._station.restore()
        return connections
