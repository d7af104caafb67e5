"""
Learners on the other side: their connections, the images and the pieces of the log that bring them up.

L{LearnersDriver} is what driving a leader has in common with driving a follower that serves observers.  What is said to
whom, and when, is the machine's affair (L{zktwisted.zab.links}).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, TypeVar

from twisted.logger import Logger

from zktwisted.edge.quorum import QuorumProtocol
from zktwisted.errors import StoreError
from zktwisted.server.driver import Driver, Station
from zktwisted.tree import image
from zktwisted.wire import quorum
from zktwisted.wire.quorum import QuorumPacket, pack_bare
from zktwisted.zab import effects
from zktwisted.zab.leader import Leader
from zktwisted.zab.observer_master import ObserverMaster

__all__ = ["CoreHistory", "LearnersDriver"]

log = Logger()

_M = TypeVar("_M", Leader, ObserverMaster)


class CoreHistory:
    """What a leader asks of its database: L{zktwisted.zab.sync.History}."""

    def __init__(self, station: Station) -> None:
        self._core = station.core
        self._storage = station.storage

    def last_zxid(self) -> int:
        """The last transaction applied."""
        return self._core.last_zxid

    def window(self) -> Sequence[tuple[int, bytes]]:
        """The last ones applied, ascending."""
        return self._storage.committed

    def newest_snapshot_size(self) -> int:
        """In bytes."""
        try:
            return self._storage.newest_snapshot_size()
        except StoreError as error:
            log.warn("The newest snapshot cannot be found: {reason}", reason=str(error))
            return 0


class LearnersDriver(Driver[_M]):
    """Drives a machine that has learners: the receiver of all connections that they make."""

    def __init__(self, station: Station, role: Any) -> None:
        super().__init__(station, role)
        self._channels: dict[int, QuorumProtocol] = {}
        self._numbers: dict[QuorumProtocol, int] = {}
        self._last_channel = 0
        self._handlers |= {
            effects.Drop: self._drop,
            effects.ReadLog: self._read_log,
            effects.SendImage: self._send_image,
        }

    # -- L{zktwisted.edge.quorum.QuorumReceiver}

    def connected(self, connection: QuorumProtocol) -> None:
        """A learner is there."""
        if self._ended:
            connection.abort()
            return
        self._last_channel += 1
        channel = self._last_channel
        self._channels[channel] = connection
        self._numbers[connection] = channel
        self.machine.connected(channel, self._now())
        self.perform()

    def received(self, connection: QuorumProtocol, packets: list[QuorumPacket]) -> None:
        """A learner said something."""
        if not self._ended:
            self.machine.receive_all(self._numbers[connection], packets, self._now())

    def read(self, connection: QuorumProtocol) -> None:
        """That was all for now."""
        self.perform()

    def lost(self, connection: QuorumProtocol, reason: str) -> None:
        """A learner is gone."""
        channel = self._numbers.pop(connection, None)
        if channel is None:
            return
        log.info("Connection {peer} of a learner: {reason}", peer=connection.peer, reason=reason)
        self._channels.pop(channel, None)
        if not self._ended:
            self.gone(channel)
            self.machine.disconnected(channel, self._now())
            self.perform()

    def connection(self, channel: int) -> QuorumProtocol | None:
        """Return a learner's connection, if it still has one."""
        return self._channels.get(channel)

    def gone(self, channel: int) -> None:
        """A learner is gone, and its channel will not be used again."""

    def _drop(self, effect: effects.Drop) -> None:
        connection = self._channels.pop(effect.channel, None)
        if connection is None:
            return
        log.warn("Connection {peer} of a learner is closed: {reason}", peer=connection.peer, reason=effect.reason)
        parts = self._out.pop(effect.channel, None)
        if parts:
            connection.send(b"".join(parts))
        del self._numbers[connection]
        connection.abort()
        self.gone(effect.channel)

    # -- synchronization

    def _send_image(self, effect: effects.SendImage) -> None:
        channel = effect.channel
        connection = self._channels.get(channel)
        if connection is None:
            return
        core = self._core
        parts = self._out.pop(channel, [])
        parts.append(pack_bare(quorum.SNAP, core.last_zxid))
        connection.send(b"".join(parts))
        log.info("Sending an image as of 0x{zxid:x} to {peer}", zxid=core.last_zxid, peer=connection.peer)
        connection.send_image(image.stream(core.tree, core.timeouts), partial(self._image_goes_on, channel))

    def _image_goes_on(self, channel: int) -> None:
        if self._ended:
            return
        connection = self._channels.get(channel)
        if connection is not None and not connection.sending_image:
            self.machine.image_sent(channel, self._now())
        else:
            self.machine.progress(channel, self._now())
        self.perform()

    def _read_log(self, effect: effects.ReadLog) -> None:
        self.watch(self._records(effect))

    async def _records(self, effect: effects.ReadLog) -> None:
        channel, zxid, limit = effect
        records: list[tuple[int, bytes]] | None = []
        start = zxid
        while records is not None:
            window = self._storage.committed
            until = window[0][0] if window else self._core.last_zxid
            if records and records[-1][0] >= until:
                break
            found = await self._read_from(start, until, limit)
            if found is None or (records and len(found) < 2):
                records = None if found is None else records
                break
            records += found[1:] if records else found
            start = records[-1][0]
        if not self._ended and channel in self._channels:
            self.machine.log_read(channel, records, self._now())
            self.perform()

    async def _read_from(self, zxid: int, until: int, limit: int) -> list[tuple[int, bytes]] | None:
        batches = self._storage.log_from(zxid, until, limit)

        def read() -> list[tuple[int, bytes]] | None:
            records: list[tuple[int, bytes]] = []
            for batch in batches:
                if batch is None:
                    return None
                records += batch
            return records

        try:
            return await self._station.in_thread(read)
        except StoreError as error:
            log.error("The log cannot be read for a learner: {reason}", reason=str(error))
            return None

    def hang_up(self) -> list[QuorumProtocol]:
        """Close the learners' connections."""
        connections = list(self._numbers)
        for connection in connections:
            connection.close()
        self._channels.clear()
        self._numbers.clear()
        return connections
