"""
The leader: the broadcast, and the watch over those who follow (spec: quorum 8).

How learners come to follow is told in L{zktwisted.zab.joining}.  A proposal is encoded once, and goes as the same bytes
to every learner and to our own log; it is committed when a quorum has it on disk, of which our own disk is one vote
like any other, and never before the proposal in front of it.

It knows no tree and no session: the role that drives it prepares transactions and applies them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from struct import Struct

from zktwisted.config.ensemble import Ensemble
from zktwisted.errors import ProtocolError
from zktwisted.wire import quorum
from zktwisted.wire.ops import show_zxid
from zktwisted.wire.quorum import QuorumPacket, pack_bare
from zktwisted.zab.effects import Broadcast, Committed, Limits, Log
from zktwisted.zab.joining import Joining
from zktwisted.zab.links import INFORM_TYPE, Link, Stage
from zktwisted.zab.sync import History

__all__ = ["Leader"]

#: Exit code (spec: quorum 1.4).
EXIT_DISK = 10

_COUNTER = 0xFFFFFFFF
_NULL = b"\xff\xff\xff\xff"
_pack_head = Struct(">iqi").pack
_pack_bare = Struct(">iqii").pack
_SERVING = Stage.SERVING


class Proposal:
    """What is proposed and not committed: its packet, and who has it on disk."""

    __slots__ = ("acks", "entry", "packet")

    def __init__(self, packet: bytes, entry: bytes) -> None:
        self.packet = packet
        self.entry = entry
        self.acks: dict[int, None] = {}


class Leader(Joining):
    """One leadership, from the election to its end."""

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
        #: On their way to our own disk, as (token, zxids).
        self._logging: deque[tuple[int, list[int]]] = deque()
        #: The effects that another proposal may still join, while nothing else is wanted behind them, and its zxids.
        self._run = Log(0, []), Broadcast((), []), [0]
        #: Syncs that wait for a commit: by its zxid, the channels that asked.
        self._syncs: dict[int, list[int]] = {}
        self._next_ping = now + limits.tick / 2
        self._half_tick = True
        super().__init__(
            sid, ensemble, accepted_epoch, current_epoch, last_zxid, history, limits, now, last_seen=last_seen
        )
        # The usual case, in which a quorum is nothing but a number of servers.
        self._one_majority = (
            not ensemble.hierarchical and last_seen is None and self.sid in self._quorums[0].voters
        )
        # Fewer than this cannot be a quorum: asked first, because it is asked for every acknowledgement.
        self._quorum_min = 1 if ensemble.hierarchical else len(self._quorums[0].voters) // 2 + 1

    # -- what others may ask

    @property
    def pending(self) -> list[tuple[int, bytes]]:
        """What was proposed and is not committed, as (zxid, entry): part of our history if the role ends."""
        return [(zxid, proposal.entry) for zxid, proposal in self._outstanding.items()]

    @property
    def pending_syncs(self) -> int:
        """How many syncs of learners wait for a commit."""
        return sum(map(len, self._syncs.values()))

    def deadline(self) -> float | None:
        """Return when L{tick} has to be called."""
        if self.ended:
            return None
        return self._next_ping if self.serving else min(self._next_ping, self._phase_deadline)

    def _votes(self, link: Link) -> bool:
        return not link.observer and any(link.sid in each.voters for each in self._quorums)

    # -- inputs

    def receive(self, channel: int, packet: QuorumPacket, now: float) -> None:
        """Take one packet of a learner's."""
        self.receive_all(channel, (packet,), now)

    def receive_all(self, channel: int, packets: Sequence[QuorumPacket], now: float) -> None:
        """Take several packets of a learner's, in their order; acknowledgements that follow one another at once."""
        link = self._links.get(channel)
        if link is None or self.ended:
            return
        link.heard = now
        acks: list[int] = []
        try:
            for packet in packets:
                if link.stage is not _SERVING:
                    self._receive_joining(link, packet, now)
                    if self.ended or channel not in self._links:
                        return
                elif packet.type == 3:  # ACK
                    acks.append(packet.zxid)
                else:
                    if acks:
                        self._acknowledged(link, acks)
                        acks = []
                    self._converse(link, packet)
        except ProtocolError as e:
            self._refuse(link, e)
            return
        if link.stage is _SERVING:
            link.ack_deadline = self._tick + self._limits.sync_limit
            if acks:
                self._acknowledged(link, acks)

    def persisted(self, token: int, now: float) -> None:
        """Hear that what an effect with this token asked for is durable: our own acknowledgement."""
        if self.ended:
            return
        logging = self._logging
        durable: list[int] = []
        while logging and logging[0][0] <= token:
            durable += logging.popleft()[1]
        if durable:
            self._ack(self.sid, durable)
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
        self._supervise_all(now)
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
        packet = _pack_head(2, zxid, len(entry)) + entry + _NULL
        self.last_proposed = zxid
        self._outstanding[zxid] = Proposal(packet, entry)
        effects = self._effects
        log, broadcast, zxids = self._run
        if effects and effects[-1] is log:
            log.entries.append((zxid, entry))
            broadcast.parts.append(packet)
            zxids.append(zxid)
        else:
            log = Log(self._next_token(), [(zxid, entry)])
            self._run = log, Broadcast(self._following, [packet]), [zxid]
            self._logging.append((log.token, self._run[2]))
            if self._following:
                effects.append(self._run[1])
            effects.append(log)
        if self._holding:
            self._keep(packet)

    def sync(self, channel: int, now: float) -> None:
        """Hear that a learner's sync has come to its turn: answer it when all that is proposed now is committed."""
        if self._outstanding:
            self._syncs.setdefault(self.last_proposed, []).append(channel)
        else:
            self._answer_sync(channel)

    # -- acknowledgements and commits (spec: quorum 8.2)

    def _acknowledged(self, link: Link, zxids: list[int]) -> None:
        # The acknowledgement of UPTODATE comes with the zxid of the epoch, and says nothing of proposals.
        link.acked = max(link.acked, *zxids)
        if link.voting:
            self._ack(link.sid, zxids)

    def _ack(self, sid: int, zxids: list[int]) -> None:
        """Count a server's acknowledgements, and commit what a quorum has, if all before it is committed."""
        outstanding = self._outstanding
        oldest = 0
        for zxid in zxids:
            proposal = outstanding.get(zxid)
            # Else it is committed already, or history, or the acknowledgement of UPTODATE.
            if proposal is not None:
                proposal.acks[sid] = None
                if zxid - 1 not in outstanding:
                    oldest = zxid
        if oldest:
            self._advance(oldest)

    def _advance(self, zxid: int) -> None:
        """Commit what a quorum has, beginning with the oldest proposal, which has this zxid."""
        outstanding = self._outstanding
        proposal = outstanding[zxid]
        if not self._quorum_acked(proposal):
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
        if self._one_majority:
            # Nobody acknowledges who has no vote in it.
            return True
        for each in self._quorums:
            if not each.contains(acks):
                return False
        return True

    def _commit(self, committed: list[tuple[int, Proposal]]) -> None:
        """Tell everybody, in order; a sync is answered behind the last commit that it waits for, before the next."""
        told = 0
        if self._syncs:
            for count, (zxid, _) in enumerate(committed, 1):
                channels = self._syncs.pop(zxid, None)
                if channels is not None:
                    self._tell(committed[told:count])
                    told = count
                    for channel in channels:
                        self._answer_sync(channel)
        if told < len(committed):
            self._tell(committed[told:])

    def _tell(self, committed: list[tuple[int, Proposal]]) -> None:
        effects = self._effects
        commits = b"".join([_pack_bare(4, zxid, -1, -1) for zxid, _ in committed])
        if self._following:
            effects.append(Broadcast(self._following, [commits]))
        if self._observing or self._holding:
            informs = b"".join([INFORM_TYPE + proposal.packet[4:] for _, proposal in committed])
            if self._observing:
                effects.append(Broadcast(self._observing, [informs]))
            self._keep(commits, informs)
        self._recent.extend([(zxid, proposal.entry) for zxid, proposal in committed])
        effects.append(Committed([zxid for zxid, _ in committed]))

    def _answer_sync(self, channel: int) -> None:
        link = self._links.get(channel)
        if link is not None and not self.ended:
            self._send(link, pack_bare(quorum.SYNC, 0))

    def _forget_acks(self, sid: int) -> None:
        for proposal in self._outstanding.values():
            proposal.acks.pop(sid, None)

    def _outstanding_after(self, start: int) -> list[bytes]:
        return [proposal.packet for zxid, proposal in self._outstanding.items() if zxid > start]

    # -- supervision (spec: quorum 8.4, 8.8)

    def _waits_for(self) -> str:
        if not self._settled:
            return "came"
        return "acknowledged NEWLEADER" if self._elected else "promised the epoch"

    def _supervise(self, link: Link, now: float) -> None:
        super()._supervise(link, now)
        if link.stage == Stage.SERVING and not link.observer:
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
