"""
Learners, as the server sees them that they follow: who is connected, and how each is brought up (spec: quorum 6).

L{Links} is what a leader and an observer master have in common.  Learners are known by the channel on which they came;
what they say of themselves (their sid, and whether they vote) is in a L{Link}.

Followers of version 3.8 die of a COMMIT between their acknowledgement of NEWLEADER and UPTODATE (ZOOKEEPER-4394), so
whatever comes for a learner after NEWLEADER is held back until it has acknowledged that, and follows UPTODATE.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from zktwisted.config.ensemble import Ensemble
from zktwisted.errors import ProtocolError
from zktwisted.wire import quorum
from zktwisted.wire.ops import make_zxid
from zktwisted.wire.quorum import QuorumPacket, pack_bare, pack_packet
from zktwisted.zab import sync
from zktwisted.zab.effects import Broadcast, Drop, Forwarded, Limits, ReadLog, Revalidate, Send, SendImage, Touched
from zktwisted.zab.machine import Machine
from zktwisted.zab.sync import Entries, History, Plan

__all__ = ["INFORM_TYPE", "LearnerView", "Link", "Links", "Stage"]

#: Where an INFORM differs from its PROPOSAL: the type in front.
INFORM_TYPE = pack_bare(quorum.INFORM, 0)[:4]


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
    #: An image of the tree is being written to it.
    IMAGING = 5
    #: It was sent its history and NEWLEADER, and has to acknowledge that.
    SYNCING = 6
    #: It waits for a quorum to acknowledge NEWLEADER.
    SYNCED = 7
    #: It takes part in the broadcast.
    SERVING = 8


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
        "voting",
        "zxid",
    )

    def __init__(self, channel: int, now: float, ack_deadline: int) -> None:
        self.channel = channel
        self.stage = Stage.HELLO
        self.sid = 0
        self.observer = False
        #: Whether its acknowledgements count.
        self.voting = False
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


class LearnerView(NamedTuple):
    """
    A learner as operators see it.

    @ivar voting: whether its acknowledgements count.
    @ivar forwarding: whether it takes part in the broadcast.
    @ivar synced: whether it takes part in the broadcast and was heard of within syncLimit.
    """

    channel: int
    sid: int
    observer: bool
    voting: bool
    stage: Stage
    forwarding: bool
    synced: bool


class Links(Machine):
    """
    Learners from their first packet to the broadcast.

    @ivar epoch: the one that they follow in.
    @ivar serving: whether those who are synchronized may serve.
    @ivar last_proposed: the last zxid that went out.
    """

    def __init__(self, sid: int, ensemble: Ensemble, config_text: bytes, history: History, limits: Limits) -> None:
        """
        @param sid: who we are.
        @param ensemble: the servers, as committed.
        @param config_text: the servers, as NEWLEADER tells them.
        @param history: what learners are brought up from.
        """
        super().__init__()
        self.sid = sid
        self.ensemble = ensemble
        self.epoch = -1
        self.serving = False
        self.last_proposed = 0
        self._config_text = config_text
        self._history = history
        self._limits = limits
        self._links: dict[int, Link] = {}
        self._nameless = 0
        self._tick = 0
        #: Committed and perhaps not applied yet, as (zxid, entry); cleared of what is applied now and then.
        self._recent: deque[tuple[int, bytes]] = deque()
        #: Learners for which packets are held back.
        self._holding: list[Link] = []
        #: Who gets proposals and commits, who gets INFORMs.
        self._following: tuple[int, ...] = ()
        self._observing: tuple[int, ...] = ()
        # Synchronizations on their way: images, others.
        self._images = 0
        self._diffs = 0
        # And how many were begun.
        self._images_begun = 0
        self._diffs_begun = 0

    # -- what others may ask

    @property
    def syncs(self) -> tuple[int, int, int, int]:
        """How many synchronizations there are: images begun, others begun, images on their way, others on their way."""
        return self._images_begun, self._diffs_begun, self._images, self._diffs

    def learners(self) -> list[LearnerView]:
        """Return who is connected and has said who it is."""
        return [
            LearnerView(
                link.channel,
                link.sid,
                link.observer,
                link.voting,
                link.stage,
                link.stage == Stage.SERVING,
                link.stage == Stage.SERVING and self._tick <= link.ack_deadline,
            )
            for link in self._links.values()
            if link.stage != Stage.HELLO
        ]

    def _votes(self, link: Link) -> bool:
        """Whether the acknowledgements of this learner count."""
        return False

    # -- inputs

    def connected(self, channel: int, now: float) -> None:
        """Hear that a learner has connected; C{channel} names it from now on, and is never used again."""
        if not self.ended:
            self._links[channel] = Link(channel, now, self._tick + self._limits.init_limit + self._limits.sync_limit)

    def receive(self, channel: int, packet: QuorumPacket, now: float) -> None:
        """Take one packet of a learner's."""

    def receive_all(self, channel: int, packets: Sequence[QuorumPacket], now: float) -> None:
        """Take several packets of a learner's, in their order."""
        for packet in packets:
            self.receive(channel, packet, now)

    def disconnected(self, channel: int, now: float) -> None:
        """Hear that the connection is gone."""
        link = self._links.pop(channel, None)
        if link is not None and not self.ended:
            self._gone(link)

    def progress(self, channel: int, now: float) -> None:
        """Hear that bytes of an image are on their way, L{image_sent} not yet: who takes them is not silent."""
        link = self._links.get(channel)
        if link is not None:
            link.heard = now

    def revalidated(self, channel: int, session_id: int, valid: bool, now: float) -> None:
        """Answer a L{Revalidate}."""
        link = self._links.get(channel)
        if link is not None and not self.ended:
            self._send(link, pack_packet(quorum.REVALIDATE, -1, quorum.pack_validity(session_id, valid)))

    # -- who it is (spec: quorum 5.1)

    def _introduce(self, link: Link, packet: QuorumPacket) -> bool:
        """Take FOLLOWERINFO or OBSERVERINFO; the kind of learner is decided by it, whatever the configuration says."""
        info = quorum.read_learner_info(packet.data)
        if info.config_version > self.ensemble.version:
            self._drop(link, f"its configuration {info.config_version:#x} is newer than ours")
            return False
        if info.sid == self.sid:
            self._drop(link, "it has our own id")
            return False
        if info.sid is None:
            self._nameless -= 1
        link.sid = self._nameless if info.sid is None else info.sid
        link.version = info.protocol_version
        link.observer = packet.type == quorum.OBSERVERINFO
        link.voting = self._votes(link)
        link.zxid = packet.zxid
        return True

    def _tell_epoch(self, link: Link) -> None:
        """Send LEADERINFO, to be answered by ACKEPOCH."""
        link.stage = Stage.PROMISE
        data = quorum.pack_int(quorum.PROTOCOL_VERSION)
        self._send(link, pack_packet(quorum.LEADERINFO, make_zxid(self.epoch, 0), data))

    # -- synchronization (spec: quorum 6)

    def _last_zxid(self) -> int:
        return self._history.last_zxid()

    def _committed_past(self) -> tuple[int, Entries]:
        """
        Return the last zxid that is committed, and the window up to it.

        Not what is in the tree, which may be a little behind: nobody may be told to forget what is committed.
        """
        self._forget_applied()
        window = self._history.window()
        if not self._recent:
            return self._last_zxid(), window
        return self._recent[-1][0], [*window, *self._recent]

    def _bring_up(self, link: Link, now: float) -> None:
        """Decide how, and begin."""
        link.heard = now
        limits, history = self._limits, self._history
        limit = sync.log_limit(limits.snapshot_size_factor, history.newest_snapshot_size())
        last, window = self._committed_past()
        plan = self._plan(link.zxid, last, window, limit is not None)
        if plan is not None:
            self._begin(link, plan)
            return
        # From now on everything is kept for it, so that the log need not hold more than there is.
        link.stage = Stage.READING
        link.plan_inputs = (last, list(window))
        link.held = self._join(link, last)
        self._holding.append(link)
        self._effects.append(ReadLog(link.channel, link.zxid, limit or 0))

    def _begin(self, link: Link, plan: Plan) -> None:
        if plan.kind == quorum.SNAP:
            # An image is of what is in the tree when it is taken: that is all that can be counted on.
            plan = plan._replace(start=self._last_zxid())
        self._start(link, plan, self._join(link, plan.start))

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
            # The image will have what was kept.
            self._begin(link, plan)
        else:
            self._start(link, plan, behind)

    def _join(self, link: Link, start: int) -> list[bytes]:
        """Return what is on its way and later than C{start}: committed and not in the tree yet, or not committed."""
        link.acked = self.last_proposed
        behind: list[bytes] = []
        for zxid, entry in self._recent:
            if zxid > start:
                behind += (pack_packet(quorum.PROPOSAL, zxid, entry), pack_bare(quorum.COMMIT, zxid))
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
        if image:
            # The tree goes on while it is written, so the image may have half of what comes: all that is committed
            # until it is out belongs to the history, in front of NEWLEADER.
            self._effects.append(SendImage(link.channel))
            link.stage = Stage.IMAGING
            self._hold(link)
            link.held = behind
            return
        packets = [pack_bare(plan.kind, plan.zxid)]
        for each, entry in plan.entries:
            packets += (pack_packet(quorum.PROPOSAL, each, entry), pack_bare(quorum.COMMIT, each))
        self._new_leader(link, packets + behind)

    def image_sent(self, channel: int, now: float) -> None:
        """Hear that the image is out: whatever was applied until now was committed before."""
        link = self._links.get(channel)
        if self.ended or link is None or link.stage != Stage.IMAGING:
            return
        link.heard = now
        behind = link.held or []
        self._stop_holding(link)
        self._new_leader(link, behind)

    def _new_leader(self, link: Link, packets: list[bytes]) -> None:
        """Send the end of a history, and NEWLEADER."""
        old = link.version < quorum.PROTOCOL_VERSION
        zxid = make_zxid(self.epoch, 0)
        new_leader = pack_packet(quorum.NEWLEADER, zxid, None if old else self._config_text)
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
        self._images_begun += image
        self._diffs_begun += not image
        return True

    def _end_sync(self, link: Link) -> None:
        if link.throttled is not None:
            self._images -= link.throttled
            self._diffs -= not link.throttled
            link.throttled = None

    def _up_to_date(self, link: Link, now: float) -> None:
        """Let a learner serve: UPTODATE first, and then what was held back."""
        held = link.held or []
        self._stop_holding(link)
        link.stage = Stage.SERVING
        link.heard = now
        link.ack_deadline = self._tick + self._limits.sync_limit
        link.acked = max(link.acked, make_zxid(self.epoch, 0))
        self._send(link, b"".join([pack_bare(quorum.UPTODATE, -1), *held]))
        self._regroup()

    # -- conversation (spec: quorum 8.4)

    def _converse(self, link: Link, packet: QuorumPacket) -> None:
        kind, data = packet.type, packet.data
        if kind == quorum.PING:
            sessions = quorum.read_sessions(data)
            if sessions:
                self._effects.append(Touched(link.channel, sessions))
        elif kind == quorum.REQUEST:
            self._effects.append(Forwarded(link.channel, *quorum.read_request(data), packet.authinfo))
        elif kind == quorum.REVALIDATE:
            self._effects.append(Revalidate(link.channel, *quorum.read_session(data)))
        else:
            self._note(f"learner {link.sid} sent {packet!r}, which is not for us")

    # -- supervision

    def _supervise_all(self, now: float) -> None:
        self._forget_applied()
        for link in list(self._links.values()):
            self._supervise(link, now)

    def _supervise(self, link: Link, now: float) -> None:
        """Send a learner away that was silent for too long."""
        limits = self._limits
        if link.stage == Stage.SYNCED:
            # It waits for us.
            return
        silence = limits.sync_seconds if link.stage == Stage.SERVING else limits.init_seconds
        if now - link.heard >= silence:
            self._drop(link, f"no word from learner {link.sid} for {silence:g} s")

    def _ping(self) -> None:
        channels = tuple(link.channel for link in self._links.values() if link.stage >= Stage.SYNCING)
        if channels:
            self._effects.append(Broadcast(channels, [pack_bare(quorum.PING, self.last_proposed)]))

    def _forget_applied(self) -> None:
        """Forget what was committed and is in the tree by now."""
        recent, last = self._recent, self._history.last_zxid()
        while recent and recent[0][0] <= last:
            recent.popleft()

    def _keep(self, packets: bytes, informs: bytes = b"") -> None:
        """Hold packets back, for followers and for observers."""
        for link in self._holding:
            data = informs if link.observer else packets
            if data and link.held is not None:
                link.held.append(data)

    # -- helpers, and what a leader fills in

    def _acknowledged(self, link: Link, zxids: list[int]) -> None:
        """Count the acknowledgements of proposals."""

    def _regroup(self) -> None:
        serving = [link for link in self._links.values() if link.stage == Stage.SERVING]
        self._following = tuple(link.channel for link in serving if not link.observer)
        self._observing = tuple(link.channel for link in serving if link.observer)

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
