"""
A follower that serves observers in the leader's stead (spec: quorum 10.3).

To an observer it looks like a leader; to the leader, the observers behind it do not exist.  What they ask for is asked
by the follower for its own: the driver passes L{Forwarded}, L{Revalidate} and L{Touched} on to the follower's role,
and tells this machine what came back.

An observer is brought up from the follower's own history.  What commits meanwhile is kept for it, up to a limit: one
that takes longer has to come again.
"""

from __future__ import annotations

from collections import deque

from zktwisted.config.ensemble import Ensemble
from zktwisted.errors import ProtocolError
from zktwisted.wire import quorum
from zktwisted.wire.ops import make_zxid, show_zxid
from zktwisted.wire.quorum import QuorumPacket, pack_bare, pack_packet
from zktwisted.zab.effects import Broadcast, Limits, Revalidate, Touched
from zktwisted.zab.links import Link, Links, Stage
from zktwisted.zab.sync import History

__all__ = ["ObserverMaster"]


class ObserverMaster(Links):
    """The observers of one follower, for as long as it follows."""

    def __init__(
        self, sid: int, ensemble: Ensemble, epoch: int, last_zxid: int, history: History, limits: Limits, now: float
    ) -> None:
        """
        @param sid: who we are.
        @param epoch: the one in which we follow.
        @param last_zxid: of the last transaction applied.
        @param history: what observers are brought up from.
        """
        super().__init__(sid, ensemble, ensemble.text.encode(), history, limits)
        self.epoch = epoch
        self.serving = True
        self.last_proposed = last_zxid
        self._next_ping = now + limits.tick / 2
        #: Sessions that observers asked about, (id, timeout, channel), in order; the leader answers in order.
        self._asked: deque[tuple[int, int, int]] = deque()
        #: How many bytes are kept for an observer that is being brought up.
        self._kept: dict[int, int] = {}

    def deadline(self) -> float | None:
        """Return when L{tick} has to be called."""
        return None if self.ended else self._next_ping

    def tick(self, now: float) -> None:
        """Ping, and look who has gone silent; to be called at L{deadline}."""
        if now < self._next_ping:
            return
        self._next_ping = now + self._limits.tick / 2
        self._supervise_all(now)
        self._ping()

    def receive(self, channel: int, packet: QuorumPacket, now: float) -> None:
        """Take one packet of an observer's."""
        link = self._links.get(channel)
        if link is None:
            return
        link.heard = now
        try:
            if link.stage == Stage.SERVING:
                self._converse(link, packet)
            else:
                self._receive_joining(link, packet, now)
        except ProtocolError as e:
            self._refuse(link, e)

    def committed(self, zxid: int, entry: bytes, now: float) -> None:
        """Hear that the follower has applied a transaction."""
        packet = pack_packet(quorum.INFORM, zxid, entry)
        self.last_proposed = zxid
        if self._observing:
            self._effects.append(Broadcast(self._observing, [packet]))
        if self._holding:
            self._keep(b"", packet)

    def synced(self, channel: int, now: float) -> None:
        """Hear that the leader has answered a sync that came from this observer."""
        link = self._links.get(channel)
        if link is not None:
            self._send(link, pack_bare(quorum.SYNC, 0))

    def answered(self, session_id: int, valid: bool, now: float) -> bool:
        """
        Hear what the leader says of a session.

        @return: whether an observer had asked; else the question was the follower's own.
        """
        if not self._asked or self._asked[0][0] != session_id:
            return False
        _, timeout, channel = self._asked.popleft()
        self.revalidated(channel, session_id, valid, now)
        if valid and channel in self._links:
            self._effects.append(Touched(channel, [(session_id, timeout)]))
        return True

    def _receive_joining(self, link: Link, packet: QuorumPacket, now: float) -> None:
        stage, kind = link.stage, packet.type
        if stage == Stage.HELLO and kind == quorum.OBSERVERINFO:
            if self._introduce(link, packet):
                if link.version >= quorum.PROTOCOL_VERSION:
                    self._tell_epoch(link)
                else:
                    self._bring_up(link, now)
        elif stage == Stage.PROMISE and kind == quorum.ACKEPOCH:
            link.zxid = packet.zxid
            self._bring_up(link, now)
        elif stage == Stage.SYNCING and kind == quorum.ACK:
            self._end_sync(link)
            self._up_to_date(link, now)
        else:
            self._drop(link, f"{packet!r} from an observer in stage {stage.name}")

    def _converse(self, link: Link, packet: QuorumPacket) -> None:
        if packet.type == quorum.ACK:
            if packet.zxid != make_zxid(self.epoch, 0):
                raise ProtocolError(f"an observer acknowledges {show_zxid(packet.zxid)}")
        elif packet.type == quorum.REVALIDATE:
            session_id, timeout = quorum.read_session(packet.data)
            self._asked.append((session_id, timeout, link.channel))
            self._effects.append(Revalidate(link.channel, session_id, timeout))
        else:
            super()._converse(link, packet)

    def _hold(self, link: Link) -> None:
        self._kept[link.channel] = 0
        super()._hold(link)

    def _keep(self, packets: bytes, informs: bytes = b"") -> None:
        super()._keep(packets, informs)
        for link in list(self._holding):
            kept = self._kept[link.channel] = self._kept.get(link.channel, 0) + len(informs)
            if kept > self._limits.observer_master_cache:
                self._drop(link, f"{kept} bytes were committed while it was brought up")

    def _gone(self, link: Link) -> None:
        self._kept.pop(link.channel, None)
        super()._gone(link)
