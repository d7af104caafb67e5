"""
The leader: the broadcast, and the watch over those who follow (spec: quorum 8).

How learners come to follow is told in L{zktwisted.zab.joining}.  A proposal is encoded once, and goes as the same bytes
to every learner and to our own log; it is committed when a quorum has it on disk, of which our own disk is one vote
like any other, and never before the proposal in front of it.

It knows no tree and no session: the role that drives it prepares transactions and applies them.
"""

from __future__ import annotations

from collections import deque
from struct import Struct
from typing import NamedTuple

from zktwisted.config.ensemble import Ensemble
from zktwisted.errors import ProtocolError
from zktwisted.wire import quorum
from zktwisted.wire.ops import show_zxid
from zktwisted.wire.quorum import QuorumPacket, pack_bare, pack_packet
from zktwisted.zab.effects import Broadcast, Committed, Forwarded, Limits, Log, Revalidate, Touched
from zktwisted.zab.joining import Joining, Link, Stage
from zktwisted.zab.sync import History

__all__ = ["Leader", "LearnerView"]

#: Exit code (spec: quorum 1.4).
EXIT_DISK = 10

_COUNTER = 0xFFFFFFFF
_INFORM = quorum.pack_bare(quorum.INFORM, 0)[:4]
_NULL = b"\xff\xff\xff\xff"
_pack_head = Struct(">iqi").pack
_pack_bare = Struct(">iqii").pack
_new = tuple.__new__


class Proposal:
    """What is proposed and not committed: its packet, and who has it on disk."""

    __slots__ = ("acks", "entry", "packet")

    def __init__(self, packet: bytes, entry: bytes) -> None:
        self.packet = packet
        self.entry = entry
        self.acks: dict[int, None] = {}


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


class Leader(Joining):
    """
    One leadership, from the election to its end.

    @ivar proposal_count: how many proposals there have been.
    @ivar proposal_sizes: bytes of the last, the smallest and the largest one; -1 before the first.
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
        """Begin to wait for learners; see L{Joining}."""
        self._outstanding: dict[int, Proposal] = {}
        #: On their way to our own disk, as (token, zxid).
        self._logging: deque[tuple[int, int]] = deque()
        #: Who gets proposals and commits, who gets INFORMs, and what they are called.
        self._following: tuple[int, ...] = ()
        self._observing: tuple[int, ...] = ()
        #: Syncs that wait for a commit: by its zxid, the channels that asked.
        self._syncs: dict[int, list[int]] = {}
        self._next_ping = now + limits.tick / 2
        self._half_tick = True
        self.proposal_count = 0
        self._size_last = self._size_min = self._size_max = -1
        super().__init__(
            sid, ensemble, accepted_epoch, current_epoch, last_zxid, history, limits, now, last_seen=last_seen
        )
        self._voters = frozenset().union(*(each.voters for each in self._quorums))
        # Fewer than this cannot be a quorum: asked first, because it is asked for every acknowledgement.
        self._quorum_min = 1 if ensemble.hierarchical else len(self._quorums[0].voters) // 2 + 1

    # -- what others may ask

    @property
    def pending(self) -> list[tuple[int, bytes]]:
        """What was proposed and is not committed, as (zxid, entry): part of our history if the role ends."""
        return [(zxid, proposal.entry) for zxid, proposal in self._outstanding.items()]

    @property
    def proposal_sizes(self) -> tuple[int, int, int]:
        """Bytes of the last proposal, the smallest and the largest."""
        return self._size_last, self._size_min, self._size_max

    @property
    def pending_syncs(self) -> int:
        """How many syncs of learners wait for a commit."""
        return sum(map(len, self._syncs.values()))

    def learners(self) -> list[LearnerView]:
        """Return who is connected and has said who it is."""
        return [
            LearnerView(
                link.channel,
                link.sid,
                link.observer,
                not link.observer and link.sid in self._voters,
                link.stage,
                link.stage == Stage.SERVING,
                link.stage == Stage.SERVING and self._tick <= link.ack_deadline,
            )
            for link in self._links.values()
            if link.stage != Stage.HELLO
        ]

    def deadline(self) -> float | None:
        """Return when L{tick} has to be called."""
        if self.ended:
            return None
        return self._next_ping if self.serving else min(self._next_ping, self._phase_deadline)

    # -- inputs

    def receive(self, channel: int, packet: QuorumPacket, now: float) -> None:
        """Take one packet of a learner's."""
        link = self._links.get(channel)
        if link is None or self.ended:
            return
        link.heard = now
        try:
            if link.stage == Stage.SERVING:
                link.ack_deadline = self._tick + self._limits.sync_limit
                if packet.type == quorum.ACK:
                    self._acknowledged(link, packet.zxid)
                else:
                    self._converse(link, packet)
            else:
                self._receive_joining(link, packet, now)
        except ProtocolError as e:
            self._refuse(link, e)

    def persisted(self, token: int, now: float) -> None:
        """Hear that what an effect with this token asked for is durable: our own acknowledgement."""
        if self.ended:
            return
        logging = self._logging
        while logging and logging[0][0] <= token:
            self._ack(self.sid, logging.popleft()[1])
        if self._epoch_token is not None:
            self._persisted_epoch(token, now)

    def failed(self, token: int, reason: str, now: float) -> None:
        """Hear that it cannot be done."""
        if token == self._epoch_token:
            self._leave(reason)
        else:
            self._exit(EXIT_DISK, reason)

    def tick(self, now: float) -> None:
        """Ping, and look who has gone silent; to be called at L{deadline}."""
        if self.ended:
            return
        if not self.serving and now >= self._phase_deadline:
            self._leave(f"no quorum {self._waits_for()} within {self._limits.init_seconds:g} s")
            return
        if now < self._next_ping:
            return
        self._next_ping = now + self._limits.tick / 2
        self._forget_applied()
        for link in list(self._links.values()):
            self._supervise(link, now)
        self._half_tick = not self._half_tick
        if self.serving and self._half_tick:
            self._tick += 1
            if not self._is_followed():
                self._leave("a quorum follows no longer")
                return
        self._ping()

    def propose(self, zxid: int, entry: bytes, now: float) -> None:
        """
        Propose a transaction; C{zxid} is the one after L{last_proposed}.

        At the last zxid of an epoch the leadership ends, and nothing is proposed (ZOOKEEPER-1277).
        """
        if self.ended:
            return
        assert self.serving and zxid > self.last_proposed, (show_zxid(zxid), show_zxid(self.last_proposed))
        if zxid & _COUNTER == _COUNTER:
            self._leave("zxid rollover: the epoch has no more transactions")
            return
        size = len(entry)
        packet = _pack_head(2, zxid, size) + entry + _NULL
        self.last_proposed = zxid
        self._outstanding[zxid] = Proposal(packet, entry)
        self._token = token = self._token + 1
        self._logging.append((token, zxid))
        effects = self._effects
        if self._following:
            effects.append(_new(Broadcast, (self._following, packet)))
        effects.append(_new(Log, (token, zxid, entry)))
        if self._holding:
            self._keep(packet)
        self.proposal_count += 1
        self._size_last = size
        if size > self._size_max:
            self._size_max = size
        if size < self._size_min or self._size_min < 0:
            self._size_min = size

    def sync(self, channel: int, now: float) -> None:
        """Hear that a learner's sync has come to its turn: answer it when all that is proposed now is committed."""
        if self._outstanding:
            self._syncs.setdefault(self.last_proposed, []).append(channel)
        else:
            self._answer_sync(channel)

    def revalidated(self, channel: int, session_id: int, valid: bool, now: float) -> None:
        """Answer a L{Revalidate}."""
        link = self._links.get(channel)
        if link is not None and not self.ended:
            self._send(link, pack_packet(quorum.REVALIDATE, -1, quorum.pack_validity(session_id, valid)))

    # -- acknowledgements and commits (spec: quorum 8.2)

    def _acknowledged(self, link: Link, zxid: int) -> None:
        link.acked = zxid
        if not link.observer:
            self._ack(link.sid, zxid)

    def _ack(self, sid: int, zxid: int) -> None:
        outstanding = self._outstanding
        proposal = outstanding.get(zxid)
        if proposal is None:
            # Committed already, or history, or the acknowledgement of UPTODATE.
            return
        proposal.acks[sid] = None
        if zxid - 1 in outstanding or not self._quorum_acked(proposal):
            return
        committed = []
        while True:
            del outstanding[zxid]
            committed.append((zxid, proposal))
            zxid += 1
            after = outstanding.get(zxid)
            if after is None or not self._quorum_acked(after):
                break
            proposal = after
        self._commit(committed)

    def _quorum_acked(self, proposal: Proposal) -> bool:
        """Whether a quorum, of each configuration that counts, has the proposal on disk."""
        acks = proposal.acks
        if len(acks) < self._quorum_min:
            return False
        return all(each.contains(acks) for each in self._quorums)

    def _commit(self, committed: list[tuple[int, Proposal]]) -> None:
        """Tell everybody, in order."""
        effects = self._effects
        commits = b"".join([_pack_bare(4, zxid, -1, -1) for zxid, _ in committed])
        if self._following:
            effects.append(_new(Broadcast, (self._following, commits)))
        informs = b""
        if self._observing or self._holding:
            informs = b"".join([_INFORM + proposal.packet[4:] for _, proposal in committed])
        if self._observing:
            effects.append(_new(Broadcast, (self._observing, informs)))
        if self._holding:
            self._keep(commits, informs)
        for zxid, proposal in committed:
            self._recent.append((zxid, proposal.packet))
            effects.append(_new(Committed, (zxid,)))
        if self._syncs:
            for zxid, _ in committed:
                for channel in self._syncs.pop(zxid, ()):
                    self._answer_sync(channel)

    def _keep(self, packets: bytes, informs: bytes = b"") -> None:
        """Hold packets back, for followers and for observers."""
        for link in self._holding:
            data = informs if link.observer else packets
            if data and link.held is not None:
                link.held.append(data)

    def _answer_sync(self, channel: int) -> None:
        link = self._links.get(channel)
        if link is not None and not self.ended:
            self._send(link, pack_bare(quorum.SYNC, 0))

    def _outstanding_after(self, start: int) -> list[bytes]:
        return [proposal.packet for zxid, proposal in self._outstanding.items() if zxid > start]

    def _forget_applied(self) -> None:
        """Forget what was committed and is in the tree by now."""
        recent, last = self._recent, self._history.last_zxid()
        while recent and recent[0][0] <= last:
            recent.popleft()

    # -- the rest of a conversation (spec: quorum 8.4)

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

    # -- supervision (spec: quorum 8.4, 8.8)

    def _waits_for(self) -> str:
        if not self._settled:
            return "came"
        return "acknowledged NEWLEADER" if self._elected else "promised the epoch"

    def _supervise(self, link: Link, now: float) -> None:
        """Send a learner away that was silent for too long, or that does not acknowledge."""
        limits = self._limits
        if link.stage == Stage.SYNCED:
            # It waits for us.
            return
        serving = link.stage == Stage.SERVING
        silence = limits.sync_seconds if serving else limits.init_seconds
        if now - link.heard >= silence:
            self._drop(link, f"no word from learner {link.sid} for {silence:g} s")
        elif serving and not link.observer:
            self._check_age(link, now)

    def _check_age(self, link: Link, now: float) -> None:
        """
        See that a follower acknowledges what it was sent.

        Looked at with each ping only: so a proposal may be older by half a tick than it seems.
        """
        if link.mark_time is not None and link.acked < link.mark:
            if now - link.mark_time >= self._limits.sync_seconds:
                self._drop(link, f"learner {link.sid} does not acknowledge {show_zxid(link.mark)}")
        elif link.acked < self.last_proposed:
            link.mark, link.mark_time = self.last_proposed, now
        else:
            link.mark_time = None

    def _is_followed(self) -> bool:
        """Whether a quorum, of each configuration that counts, was heard of within the last ticks."""
        named = [link for link in self._links.values() if link.stage != Stage.HELLO]
        heard = [self.sid, *(link.sid for link in named if self._tick <= link.ack_deadline)]
        return all(each.contains(heard) for each in self._quorums)

    def _ping(self) -> None:
        channels = tuple(link.channel for link in self._links.values() if link.stage >= Stage.SYNCING)
        if channels:
            self._effects.append(Broadcast(channels, pack_bare(quorum.PING, self.last_proposed)))

    def _regroup(self) -> None:
        serving = [link for link in self._links.values() if link.stage == Stage.SERVING]
        self._following = tuple(link.channel for link in serving if not link.observer)
        self._observing = tuple(link.channel for link in serving if link.observer)
