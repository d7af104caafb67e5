"""
How a leader comes to lead: a quorum agrees on an epoch, promises it, and acknowledges NEWLEADER (spec: quorum 5).

The same steps are taken by each learner that comes later, one by one.  How a learner is brought up in between is told
in L{zktwisted.zab.links}, the broadcast in L{zktwisted.zab.leader}.
"""

from __future__ import annotations

from zktwisted.config.ensemble import Ensemble
from zktwisted.wire import quorum
from zktwisted.wire.ops import make_zxid, show_zxid, zxid_epoch
from zktwisted.wire.quorum import QuorumPacket
from zktwisted.zab.effects import (
    ACCEPTED_EPOCH,
    CURRENT_EPOCH,
    Lead,
    Limits,
    WriteEpoch,
)
from zktwisted.zab.links import Link, Links, Stage
from zktwisted.zab.quorum import AckSets, Quorum
from zktwisted.zab.sync import History

__all__ = ["Joining"]

#: By how much a learner can have promised more than we have: nobody misses so many elections.
_LEAP_MAX = 1 << 20
#: With a higher epoch a zxid is negative, and older than all others.
_EPOCH_MAX = (1 << 31) - 1


class Joining(Links):
    """
    The phases of a leadership before the broadcast, and of each learner that comes later.

    @ivar epoch: the one that is proposed; -1 before anybody offered one.
    @ivar serving: whether a quorum follows.
    @ivar last_proposed: the last zxid that was proposed.
    """

    def __init__(
        self,
        sid: int,
        ensemble: Ensemble,
        accepted_epoch: int,
        current_epoch: int,
        last_zxid: int,
        history: History,
        limits: Limits,
        now: float,
        *,
        last_seen: Ensemble | None = None,
    ) -> None:
        """
        @param sid: who we are.
        @param ensemble: the servers, as committed.
        @param accepted_epoch: as on disk, like C{current_epoch}.
        @param last_zxid: of the last transaction in our log, which is in our tree as well.
        @param history: what learners are brought up from.
        @param last_seen: a newer configuration that is proposed and not committed: both have to agree then.
        """
        super().__init__(sid, ensemble, (last_seen or ensemble).text.encode(), history, limits)
        self.last_proposed = last_zxid
        self._quorums = (Quorum(ensemble),) if last_seen is None else (Quorum(ensemble), Quorum(last_seen))
        self._since = now
        self._highest_promise = min(accepted_epoch + _LEAP_MAX, _EPOCH_MAX - 1)
        self._phase_deadline = now + limits.init_seconds
        # Epoch quorum: who offered, whether the epoch is settled, whether our own promise of it is on disk.
        self._connecting: dict[int, None] = {}
        self._settled = False
        self._promised = False
        self._summary = (current_epoch, last_zxid)
        self._electing: dict[int, None] = {}
        self._elected = False
        self._new_leader_acks = AckSets(*self._quorums)
        self._epoch_token: int | None = None
        self._offer(sid, accepted_epoch, now)

    # -- inputs

    def looking(self, sid: int, now: float) -> None:
        """Hear that one of those who elected us is looking for a leader again (maxTimeToWaitForEpoch)."""
        wait = self._limits.max_time_to_wait_for_epoch
        if self.ended or self._settled or wait < 0 or sid not in self._quorums[0].voters:
            return
        if now - self._since > wait:
            self._leave(f"server {sid} left, while a quorum was waited for")

    def _persisted_epoch(self, token: int, now: float) -> None:
        if token != self._epoch_token:
            return
        self._epoch_token = None
        if not self._promised:
            self._promised = True
            for link in list(self._links.values()):
                if link.stage == Stage.EPOCH:
                    self._inform(link, now)
            self._promise(self.sid, *self._summary, now)
        else:
            self._new_leader_acks.add(self.sid)
            self._try_lead(now)

    def _receive_joining(self, link: Link, packet: QuorumPacket, now: float) -> None:
        """Take a packet of a learner that does not take part in the broadcast yet."""
        stage, kind = link.stage, packet.type
        if stage == Stage.SYNCING and kind == quorum.ACK:
            if packet.zxid == make_zxid(self.epoch, 0):
                self._synced(link, now)
            else:
                # Version 3.8 logs its history as it comes, and tells (ZOOKEEPER-4685).
                self._acknowledged(link, [packet.zxid])
        elif stage == Stage.HELLO and kind in (quorum.FOLLOWERINFO, quorum.OBSERVERINFO):
            self._hello(link, packet, now)
        elif stage == Stage.PROMISE and kind == quorum.ACKEPOCH:
            link.zxid = packet.zxid
            self._promise_of(link, quorum.read_int(packet.data), now)
        else:
            self._drop(link, f"{packet!r} from a learner in stage {stage.name}")

    # -- discovery (spec: quorum 5.1)

    def _hello(self, link: Link, packet: QuorumPacket, now: float) -> None:
        if not self._introduce(link, packet):
            return
        promised = zxid_epoch(packet.zxid)
        if promised > self._highest_promise:
            # An epoch is for ever: one stranger could use up all that there are.
            self._drop(link, f"it cannot have promised epoch {promised}")
            return
        link.stage = Stage.EPOCH
        self._offer(link.sid, promised, now)
        if self._promised:
            self._inform(link, now)

    def _offer(self, sid: int, accepted_epoch: int, now: float) -> None:
        """Take the epoch that a server has promised: ours has to be higher."""
        if self._settled:
            return
        self.epoch = max(self.epoch, accepted_epoch + 1)
        self._connecting[sid] = None
        if self._contains(self._connecting):
            self._settled = True
            self._phase_deadline = now + self._limits.init_seconds
            self._write_epoch(ACCEPTED_EPOCH)

    def _contains(self, sids: dict[int, None]) -> bool:
        """Whether these are a quorum of the committed configuration."""
        return self._quorums[0].contains(sids)

    def _write_epoch(self, name: str) -> None:
        self._epoch_token = self._next_token()
        self._effects.append(WriteEpoch(self._epoch_token, name, self.epoch))

    def _inform(self, link: Link, now: float) -> None:
        link.heard = now
        if link.version >= quorum.PROTOCOL_VERSION:
            self._tell_epoch(link)
        else:
            self._promise_of(link, zxid_epoch(link.zxid), now)

    # -- promises (spec: quorum 5.3)

    def _promise_of(self, link: Link, current_epoch: int, now: float) -> None:
        if not self._elected and current_epoch != -1 and (current_epoch, link.zxid) > self._summary:
            self._drop(link, f"it is ahead of us: epoch {current_epoch}, zxid {show_zxid(link.zxid)}")
            return
        link.stage = Stage.PROMISED
        if self._elected:
            self._bring_up(link, now)
        else:
            self._promise(link.sid, current_epoch, link.zxid, now)

    def _promise(self, sid: int, current_epoch: int, zxid: int, now: float) -> None:
        # One that answers -1 has promised this epoch before, perhaps to another.
        if current_epoch != -1 and zxid != -1:
            self._electing[sid] = None
        if not self._contains(self._electing) or self.sid not in self._electing:
            return
        self._elected = True
        self._phase_deadline = now + self._limits.init_seconds
        self._write_epoch(CURRENT_EPOCH)
        for link in list(self._links.values()):
            if link.stage == Stage.PROMISED:
                self._bring_up(link, now)

    def _bring_up(self, link: Link, now: float) -> None:
        """
        Begin anew with a learner, whatever it has acknowledged before.

        It may have logged proposals that are not committed, and is made to forget them before it gets them again: what
        it said of them does not hold any more, nor what it may still have to say on an older connection.
        """
        for other in list(self._links.values()):
            if other.sid == link.sid and other is not link and other.stage != Stage.HELLO:
                self._drop(other, "it has come again")
        self._forget_acks(link.sid)
        super()._bring_up(link, now)

    def _forget_acks(self, sid: int) -> None:
        """Count the acknowledgements of a server no longer, for whatever is not committed."""

    def _last_zxid(self) -> int:
        last = super()._last_zxid()
        # The epoch begins with a zxid that no transaction has.
        return max(last, make_zxid(self.epoch, 0)) if self.serving else last

    # -- NEWLEADER (spec: quorum 5.4, 5.5)

    def _synced(self, link: Link, now: float) -> None:
        """Count the acknowledgement of NEWLEADER."""
        self._end_sync(link)
        link.stage = Stage.SYNCED
        link.heard = now
        if self.serving:
            self._up_to_date(link, now)
            return
        self._new_leader_acks.add(link.sid)
        self._try_lead(now)

    def _try_lead(self, now: float) -> None:
        # Our own disk has to be among them: what is logged from now on is of this epoch.
        acks = self._new_leader_acks
        if self.serving or not acks.satisfied or self.sid not in acks.acks:
            return
        self.serving = True
        self.last_proposed = make_zxid(self.epoch, 0)
        self._effects.append(Lead(self.epoch))
        for link in list(self._links.values()):
            if link.stage == Stage.SYNCED:
                self._up_to_date(link, now)
