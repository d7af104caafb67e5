"""
Drives a leader: learners on one side, the role that has transactions agreed upon on the other.

What the machine wants done is done here: packets and images to learners, committed transactions to the role.  What they
say, and when, is L{zktwisted.zab.leader}'s affair.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from twisted.logger import Logger

from zktwisted.edge.quorum import QuorumProtocol
from zktwisted.errors import StoreError
from zktwisted.server.driver import Driver, Station
from zktwisted.server.metrics import Summary
from zktwisted.tree import image
from zktwisted.wire import quorum
from zktwisted.wire.quorum import QuorumPacket, pack_bare
from zktwisted.zab import effects
from zktwisted.zab.leader import Leader

__all__ = ["CoreHistory", "LeaderDriver"]

log = Logger()


class CoreHistory:
    """What a leader asks of its database: L{zktwisted.zab.leader.History}."""

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


class LeaderDriver(Driver[Leader]):
    """
    Drives a leader: the receiver of all connections that learners make, and what the role asks for agreement.
    """

    def __init__(
        self, station: Station, make_role: Callable[[LeaderDriver], Any], leading: Callable[[int], None]
    ) -> None:
        """
        @param make_role: makes the role that asks us for agreement.
        @param leading: told the epoch when a quorum follows, before clients are served.
        """
        super().__init__(station, make_role(self))
        self._leading = leading
        self._channels: dict[int, QuorumProtocol] = {}
        self._numbers: dict[QuorumProtocol, int] = {}
        self._last_channel = 0
        self._syncs = (0, 0, 0, 0)
        self._handlers |= {
            effects.Drop: self._drop,
            effects.ReadLog: self._read_log,
            effects.SendImage: self._send_image,
            effects.Lead: self._lead,
            effects.Committed: self._committed,
            effects.Forwarded: self._forwarded,
            effects.Revalidate: self._revalidate,
            effects.Touched: self._touched,
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

    def received(self, connection: QuorumProtocol, packet: QuorumPacket) -> None:
        """A learner said something."""
        if not self._ended:
            self.machine.receive(self._numbers[connection], packet, self._now())

    def read(self, connection: QuorumProtocol) -> None:
        """That was all for now."""
        self.perform()
        if self.machine.syncs != self._syncs:
            self._count_syncs()

    def lost(self, connection: QuorumProtocol, reason: str) -> None:
        """A learner is gone."""
        channel = self._numbers.pop(connection, None)
        if channel is None:
            return
        log.info("Connection {peer} of a learner: {reason}", peer=connection.peer, reason=reason)
        self._channels.pop(channel, None)
        if not self._ended:
            self.role.learner_gone(channel)
            self.machine.disconnected(channel, self._now())
            self.perform()

    def connection(self, channel: int) -> QuorumProtocol | None:
        """Return a learner's connection, if it still has one."""
        return self._channels.get(channel)

    # -- what the role asks for

    def propose(self, zxid: int, entry: bytes) -> None:
        """Let a quorum agree on a transaction."""
        if not self._ended:
            self._metrics.proposal_count += 1
            self._core.stats.proposal.add(len(entry))
            self.machine.propose(zxid, entry, self._now())
            self.later()

    def sync(self, channel: int) -> None:
        """A learner's sync has come to its turn."""
        if not self._ended:
            self.machine.sync(channel, self._now())
            self.later()

    # -- effects

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
        self.role.learner_gone(effect.channel)

    def _lead(self, effect: effects.Lead) -> None:
        self._leading(effect.epoch)
        self.role.start(effect.epoch << 32 | (self._core.config.testingonly_initial_zxid or 0))
        self.served()

    def _committed(self, effect: effects.Committed) -> None:
        entry = self._logged.pop(effect.zxid, None)
        if entry is not None:
            self._newest = entry
            self._decided += 1
        self.role.committed(effect.zxid)

    def _measure(self, age: int, count: int) -> None:
        super()._measure(age, count)
        self._metrics.commit_count += count
        self._metrics.quorum_ack_latency.add(age, count)

    def _count_syncs(self) -> None:
        metrics, before = self._metrics, self._syncs
        images, diffs, images_running, diffs_running = self._syncs = self.machine.syncs
        begun = images - before[0], diffs - before[1]
        metrics.snap_count += begun[0]
        metrics.diff_count += begun[1]
        _count_running(metrics.inflight_snap_count, begun[0], before[2], images_running)
        _count_running(metrics.inflight_diff_count, begun[1], before[3], diffs_running)

    def _forwarded(self, effect: effects.Forwarded) -> None:
        self.role.forwarded(*effect)

    def _revalidate(self, effect: effects.Revalidate) -> None:
        channel, session_id, timeout = effect
        valid = self.role.revalidate(channel, session_id, timeout)
        self.machine.revalidated(channel, session_id, valid, self._now())

    def _touched(self, effect: effects.Touched) -> None:
        self.role.touched(effect.channel, effect.sessions)

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
        if not self._ended:
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

    def hang_up(self) -> None:
        """Close the learners' connections."""
        for connection in list(self._numbers):
            connection.close()
        self._channels.clear()
        self._numbers.clear()


def _count_running(summary: Summary, begun: int, before: int, now: int) -> None:
    """Note how many there were when one began, and how many are left when one has ended."""
    if begun:
        summary.add(max(now, 1))
    if now < before + begun:
        summary.add(now)
