"""
How learners come to follow a leader: epochs, synchronization, NEWLEADER (spec: quorum 5, 6).

L{Joining} is the part of the leader that ends when a learner has heard UPTODATE; L{zktwisted.zab.leader.Leader} is
the rest, and fills in what this part asks of it.  Learners are known by the channel on which they came; what they say
of themselves (their sid, and whether they vote) is in a L{Link}.

Followers of version 3.8 die of a COMMIT between their acknowledgement of NEWLEADER and UPTODATE (ZOOKEEPER-4394), so
whatever comes for a learner after NEWLEADER is held back until it has acknowledged that, and follows UPTODATE.
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum

from zktwisted.config.ensemble import Ensemble
from zktwisted.errors import ProtocolError
from zktwisted.wire import quorum
from zktwisted.wire.ops import make_zxid, show_zxid, zxid_epoch
from zktwisted.wire.quorum import QuorumPacket, pack_bare, pack_packet
from zktwisted.zab import sync
from zktwisted.zab.effects import (
    ACCEPTED_EPOCH,
    CURRENT_EPOCH,
    Drop,
    Lead,
    Limits,
    ReadLog,
    Send,
    SendImage,
    WriteEpoch,
)
from zktwisted.zab.machine import Machine
from zktwisted.zab.quorum import AckSets, Quorum
from zktwisted.zab.sync import Entries, History, Plan

__all__ = ["Joining", "Link", "Stage"]


class Stage(IntEnum):
    """How far a learner has come."""

    #: Connected; it has to say who it is.
    HELLO = 0
    #: It waits for a quorum to agree on the epoch.
    EPOCH = 1
    #: It was told the epoch, and has to promise it.
    PROMISE = 2
    #: It waits for a quorum to promise.
    PROMISED = 3
    #: The log is being read for it.
    READING = 4
    #: It was sent its history and NEWLEADER, and has to acknowledge that.
    SYNCING = 5
    #: It waits for a quorum to acknowledge NEWLEADER.
    SYNCED = 6
    #: It takes part in the broadcast.
    SERVING = 7


class Link:
    """A learner's connection, as the leader sees it."""

    __slots__ = (
        "ack_deadline",
        "acked",
        "channel",
        "heard",
        "held",
        "mark",
        "mark_time",
        "observer",
        "plan_inputs",
        "sid",
        "stage",
        "throttled",
        "version",
        "zxid",
    )

    def __init__(self, channel: int, now: float, ack_deadline: int) -> None:
        self.channel = channel
        self.stage = Stage.HELLO
        self.sid = 0
        self.observer = False
        self.version = quorum.PROTOCOL_VERSION
        #: Its last zxid, by FOLLOWERINFO or ACKEPOCH.
        self.zxid = 0
        #: When something came from it last.
        self.heard = now
        #: The tick of the leader up to which it counts as one that follows.
        self.ack_deadline = ack_deadline
        #: What is held back for it; C{None} when it gets everything at once.
        self.held: list[bytes] | None = None
        #: Which of the two kinds of synchronization it counts for.
        self.throttled: bool | None = None
        #: Tree and window when the log began to be read for it.
        self.plan_inputs: tuple[int, Entries] = (0, ())
        #: The last proposal it acknowledged; the one whose acknowledgement is awaited, and since when.
        self.acked = 0
        self.mark = 0
        self.mark_time: float | None = None


class Joining(Machine):
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
        super().__init__()
        self.sid = sid
        self.ensemble = ensemble
        self.epoch = -1
        self.serving = False
        self.last_proposed = last_zxid
        self._history = history
        self._limits = limits
        self._quorums = (Quorum(ensemble),) if last_seen is None else (Quorum(ensemble), Quorum(last_seen))
        self._config_text = (last_seen or ensemble).text.encode()
        self._links: dict[int, Link] = {}
        self._nameless = 0
        self._tick = 0
        self._since = now
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
        #: Committed and perhaps not applied yet, as (zxid, PROPOSAL); cleared of what is applied now and then.
        self._recent: deque[tuple[int, bytes]] = deque()
        #: Learners for which packets are held back.
        self._holding: list[Link] = []
        # Synchronizations on their way: images, others.
        self._images = 0
        self._diffs = 0
        self._offer(sid, accepted_epoch, now)

    # -- inputs

    def connected(self, channel: int, now: float) -> None:
        """Hear that a learner has connected; C{channel} names it from now on, and is never used again."""
        if not self.ended:
            self._links[channel] = Link(channel, now, self._tick + self._limits.init_limit + self._limits.sync_limit)

    def disconnected(self, channel: int, now: float) -> None:
        """Hear that the connection is gone."""
        link = self._links.pop(channel, None)
        if link is not None and not self.ended:
            self._gone(link)

    def progress(self, channel: int, now: float) -> None:
        """Hear that bytes of an image are on their way: a learner that takes them is not silent."""
        link = self._links.get(channel)
        if link is not None:
            link.heard = now

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
                self._acknowledged(link, packet.zxid)
        elif stage == Stage.HELLO and kind in (quorum.FOLLOWERINFO, quorum.OBSERVERINFO):
            self._hello(link, packet, now)
        elif stage == Stage.PROMISE and kind == quorum.ACKEPOCH:
            link.zxid = packet.zxid
            self._promise_of(link, quorum.read_int(packet.data), now)
        else:
            self._drop(link, f"{packet!r} from a learner in stage {stage.name}")

    # -- discovery (spec: quorum 5.1)

    def _hello(self, link: Link, packet: QuorumPacket, now: float) -> None:
        info = quorum.read_learner_info(packet.data)
        if info.config_version > self.ensemble.version:
            self._drop(link, f"its configuration {info.config_version:#x} is newer than ours")
            return
        if info.sid == self.sid:
            self._drop(link, "it has our own id")
            return
        if info.sid is None:
            self._nameless -= 1
        link.sid = self._nameless if info.sid is None else info.sid
        link.version = info.protocol_version
        link.observer = packet.type == quorum.OBSERVERINFO
        link.zxid = packet.zxid
        link.stage = Stage.EPOCH
        self._offer(link.sid, zxid_epoch(packet.zxid), now)
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
            link.stage = Stage.PROMISE
            data = quorum.pack_int(quorum.PROTOCOL_VERSION)
            self._send(link, pack_packet(quorum.LEADERINFO, make_zxid(self.epoch, 0), data))
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

    # -- synchronization (spec: quorum 6)

    def _last_zxid(self) -> int:
        last = self._history.last_zxid()
        # The epoch begins with a zxid that no transaction has.
        return max(last, make_zxid(self.epoch, 0)) if self.serving else last

    def _bring_up(self, link: Link, now: float) -> None:
        """Decide how, and begin."""
        link.heard = now
        limits, history = self._limits, self._history
        limit = sync.log_limit(limits.snapshot_size_factor, history.newest_snapshot_size())
        last, window = self._last_zxid(), history.window()
        plan = self._plan(link.zxid, last, window, limit is not None)
        if plan is not None:
            self._start(link, plan, self._join(link, plan.start))
            return
        # From now on everything is kept for it, so that the log need not hold more than there is.
        link.stage = Stage.READING
        link.plan_inputs = (last, list(window))
        link.held = self._join(link, last)
        self._holding.append(link)
        self._effects.append(ReadLog(link.channel, link.zxid, limit or 0))

    def _plan(self, peer: int, last: int, window: Entries, log: bool) -> Plan | None:
        return sync.plan(peer, last, window, forced=self._limits.force_snapshot_sync, log=log)

    def log_read(self, channel: int, records: Entries | None, now: float) -> None:
        """Hear what a L{ReadLog} found."""
        link = self._links.get(channel)
        if self.ended or link is None or link.stage != Stage.READING or link.held is None:
            return
        link.heard = now
        last, window = link.plan_inputs
        link.plan_inputs = (0, ())
        plan = sync.plan_with_log(link.zxid, last, window, records)
        behind = link.held
        self._stop_holding(link)
        if plan.kind == quorum.SNAP:
            # The image will have much of what was kept.
            plan = plan._replace(start=self._last_zxid())
            behind = self._join(link, plan.start)
        self._start(link, plan, behind)

    def _join(self, link: Link, start: int) -> list[bytes]:
        """Return what is on its way and later than C{start}: committed and not in the tree yet, or not committed."""
        link.acked = self.last_proposed
        behind: list[bytes] = []
        for zxid, proposal in self._recent:
            if zxid > start:
                behind += (proposal, pack_bare(quorum.COMMIT, zxid))
        if not link.observer:
            behind += self._outstanding_after(start)
        return behind

    def _outstanding_after(self, start: int) -> list[bytes]:
        """Return the proposals later than C{start} that are not committed."""
        return []

    def _start(self, link: Link, plan: Plan, behind: list[bytes]) -> None:
        """Send a history, and NEWLEADER behind it (never before: ZOOKEEPER-3104)."""
        image = plan.kind == quorum.SNAP
        if not self._may_start(link, image):
            self._drop(link, "too many synchronizations at a time")
            return
        old = link.version < quorum.PROTOCOL_VERSION
        zxid = make_zxid(self.epoch, 0)
        new_leader = pack_packet(quorum.NEWLEADER, zxid, None if old else self._config_text)
        packets: list[bytes] = []
        if image:
            self._effects.append(SendImage(link.channel))
        else:
            packets.append(pack_bare(plan.kind, plan.zxid))
        for each, entry in plan.entries:
            packets += (pack_packet(quorum.PROPOSAL, each, entry), pack_bare(quorum.COMMIT, each))
        packets += behind
        packets.insert(0 if old else len(packets), new_leader)
        self._send(link, b"".join(packets))
        link.stage = Stage.SYNCING
        self._hold(link)

    def _hold(self, link: Link) -> None:
        """Keep back what is to come, until NEWLEADER is acknowledged."""
        link.held = []
        self._holding.append(link)

    def _may_start(self, link: Link, image: bool) -> bool:
        """Count a synchronization; observers have to come again when there are too many."""
        limits = self._limits
        running, limit = (
            (self._images, limits.max_concurrent_snap_syncs)
            if image
            else (self._diffs, limits.max_concurrent_diff_syncs)
        )
        if link.observer and running >= limit:
            return False
        link.throttled = image
        self._images += image
        self._diffs += not image
        return True

    def _end_sync(self, link: Link) -> None:
        if link.throttled is not None:
            self._images -= link.throttled
            self._diffs -= not link.throttled
            link.throttled = None

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
        if self.serving or not self._new_leader_acks.satisfied:
            return
        self.serving = True
        self.last_proposed = make_zxid(self.epoch, 0)
        self._effects.append(Lead(self.epoch))
        for link in list(self._links.values()):
            if link.stage == Stage.SYNCED:
                self._up_to_date(link, now)

    def _up_to_date(self, link: Link, now: float) -> None:
        """Let a learner serve: UPTODATE first, and then what was held back."""
        held = link.held or []
        self._stop_holding(link)
        link.stage = Stage.SERVING
        link.heard = now
        link.ack_deadline = self._tick + self._limits.sync_limit
        self._send(link, b"".join([pack_bare(quorum.UPTODATE, -1), *held]))
        self._regroup()

    # -- helpers, and what the broadcast fills in

    def _acknowledged(self, link: Link, zxid: int) -> None:
        """Count the acknowledgement of a proposal."""

    def _regroup(self) -> None:
        """Take note that learners have come to the broadcast, or have left it."""

    def _stop_holding(self, link: Link) -> None:
        link.held = None
        if link in self._holding:
            self._holding.remove(link)

    def _gone(self, link: Link) -> None:
        self._end_sync(link)
        self._stop_holding(link)
        if link.stage == Stage.SERVING:
            self._regroup()

    def _send(self, link: Link, data: bytes) -> None:
        self._effects.append(Send(link.channel, data))

    def _drop(self, link: Link, reason: str) -> None:
        """Close a learner's connection; nobody else is harmed."""
        if self._links.pop(link.channel, None) is not None:
            self._gone(link)
            self._effects.append(Drop(link.channel, reason))

    def _refuse(self, link: Link, error: ProtocolError) -> None:
        self._drop(link, f"it sent what makes no sense: {error}")
