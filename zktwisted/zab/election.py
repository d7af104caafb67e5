"""
FastLeaderElection: which server the others should follow.

A pure machine: notifications and time go in, and a list of L{Effect}s comes out.  It runs as long as the server does;
between elections it answers those that are still looking (spec: election 5 to 8, 10).

It knows votes, and refuses to know connections (who is connected, which message was lost) and what a leader does then.
The id of a sender is whatever the connection says; a message cannot speak for another server.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from zktwisted.config.ensemble import Ensemble
from zktwisted.errors import ConfigError
from zktwisted.wire.votes import NOBODY, Notification, ServerState, Vote
from zktwisted.zab.quorum import AckSets, Quorum

__all__ = ["Concluded", "Dial", "Effect", "Election", "LookingAgain", "NewerEnsemble", "SendVote", "beats"]

#: How long nothing better may come before a quorum counts, in seconds.
FINALIZE_WAIT = 0.2

#: How many notifications may wait while no election runs; the oldest go first.
INBOX_MAX = 100

LOOKING = ServerState.LOOKING
FOLLOWING = ServerState.FOLLOWING
LEADING = ServerState.LEADING
OBSERVING = ServerState.OBSERVING


class SendVote(NamedTuple):
    """Let a server know; a later one to the same server replaces one that could not be sent yet."""

    sid: int
    state: ServerState
    vote: Vote


class Dial(NamedTuple):
    """Nobody has heard the last votes: connect to every server that they are for."""


class Concluded(NamedTuple):
    """The election is over: state and vote of the machine say how."""


class LookingAgain(NamedTuple):
    """A server that elected this one is looking for another leader."""

    sid: int


class NewerEnsemble(NamedTuple):
    """While looking it was learnt that the ensemble has changed.  What was said with it is forgotten."""

    ensemble: Ensemble


Effect = SendVote | Dial | Concluded | LookingAgain | NewerEnsemble


def beats(quorum: Quorum, new: Vote, current: Vote) -> bool:
    """
    Say whether a vote is better than another: by epoch, then by zxid, then by id.

    A leader that weighs nothing is never better (spec: election 6.1).
    """
    if quorum.weight(new.leader) == 0:
        return False
    return (new.peer_epoch, new.zxid, new.leader) > (current.peer_epoch, current.zxid, current.leader)


class _Heard(NamedTuple):
    """What a server has said."""

    state: int
    vote: Vote
    version: int

    def same_as(self, other: _Heard) -> bool:
        """Whether both count for the same leader (spec: election 6.2)."""
        mine, theirs = self.vote, other.vote
        if LOOKING in (self.state, other.state):
            return mine == theirs
        if (self.version > 0) is not (other.version > 0):  # ZOOKEEPER-1732: what the old call an epoch is another one
            return mine.leader == theirs.leader
        return mine.leader == theirs.leader and mine.peer_epoch == theirs.peer_epoch


class Election:
    """
    The part of one server in all its elections.

    @ivar sid: the id of this server.
    @ivar ensemble: the committed ensemble, which is told with every vote.
    @ivar state: what this server is doing.
    @ivar vote: the vote that it gives to those who ask while no election runs; C{None} before the first.
    @ivar round: the number of its election: the logical clock.
    @ivar looking: whether an election runs.
    @ivar proposal: for whom it votes in that election.
    @ivar electing: who elected this server, if it is leading.
    """

    def __init__(
        self,
        sid: int,
        ensemble: Ensemble,
        last_seen: Ensemble | None = None,
        *,
        interval_min: float = 0.2,
        interval_max: float = 60.0,
        gossip: bool = False,
    ) -> None:
        """
        @param last_seen: the ensemble that is to come, if the committed one is being changed.
        @param interval_min: how long it waits for news at first before it speaks again, in seconds.
        @param interval_max: how long at most, in seconds; the time doubles.
        @param gossip: learn of newer ensembles from notifications (L{NewerEnsemble}); else only votes are looked at.
        """
        self.sid = sid
        self.ensemble = ensemble
        self.state = LOOKING
        self.vote: Vote | None = None
        self.round = 0
        self.looking = False
        self.proposal = Vote(NOBODY, NOBODY, 0, NOBODY)
        self.electing: tuple[int, ...] = ()
        self._interval_min = interval_min
        self._interval_max = max(interval_min, interval_max)
        self._gossip = gossip
        self._committed = Quorum(ensemble)
        self._quorums = [self._committed]
        if last_seen is not None and last_seen.version > ensemble.version:
            self._quorums.append(Quorum(last_seen))
        # In ascending order, the committed ensemble first.
        self._voters = dict.fromkeys(member.sid for each in self._quorums for member in each.ensemble.voters)
        member = ensemble.member(sid)
        self._voting = member is not None and member.voting
        #: A server that is in no line is no observer: it has no vote and follows (spec: election 7.2).
        self._observer = member is not None and not member.voting
        self._config_text = ensemble.text
        self._self_vote = self.proposal
        self._received: dict[int, _Heard] = {}
        self._settled: dict[int, _Heard] = {}
        self._inbox: deque[tuple[int, Notification]] = deque(maxlen=INBOX_MAX)
        self._wait = interval_min
        self._deadline: float | None = None
        self._draining = False
        self._acks: tuple[int, ...] = ()
        self._effects: list[Effect] = []

    # -- what comes in

    def look(self, last_zxid: int, current_epoch: int, now: float) -> None:
        """
        Begin an election.

        @param last_zxid: the last zxid in the log of this server, committed or not.
        @param current_epoch: its current epoch.
        """
        assert not self.looking, "one election after the other"
        self.state = LOOKING
        self.electing = ()
        if self.vote is None:
            self.vote = Vote(self.sid, last_zxid, 0, current_epoch)
        # A peer may have made us believe any round: count on as Java's numbers do.
        self.round = self.round + 1 if self.round < (1 << 63) - 1 else -(1 << 63)
        zxid, epoch = (NOBODY, NOBODY) if self._observer else (last_zxid, current_epoch)
        self._self_vote = Vote(self.sid if self._voting else NOBODY, zxid, self.round, epoch)
        self._received = {}
        self._settled = {}
        self._wait = self._interval_min
        self._draining = False
        self.looking = True
        self._propose(self._self_vote)
        self._deadline = now + self._wait
        self._step(now)

    def abandon(self) -> None:
        """Give up the election that runs, if one does; the state stays LOOKING."""
        self.looking = False
        self._draining = False
        self._deadline = None
        self._inbox.clear()

    def settle(self, state: ServerState, vote: Vote | None = None) -> None:
        """
        Be in another state, or say another vote from now on (spec: election 8).

        @param vote: by default the one that there is.
        """
        assert not self.looking, "the election that runs decides about the state"
        self.state = state
        if vote is not None:
            self.vote = vote
        if state is not LEADING:
            self.electing = ()

    def receive(self, sid: int, notification: Notification, now: float) -> None:
        """
        Hear what a server says (spec: election 5).

        @param sid: the server at the other end of the connection.
        """
        if self._learns(notification):
            return
        if sid not in self._voters:
            if self.vote is not None:
                self._send(sid, self.vote._replace(round=self.round))
            return
        if not LOOKING <= notification.state <= OBSERVING:
            return
        if self.state is LOOKING:
            self._inbox.append((sid, notification))
            if notification.state == LOOKING and notification.vote.round < self.round and self.looking:
                self._send(sid, self.proposal)
            if self.looking:
                self._step(now)
        elif notification.state == LOOKING and self.vote is not None:
            if sid in self.electing:
                self._effects.append(LookingAgain(sid))
            self._send(sid, self.vote)

    def tick(self, now: float, heard: bool = True) -> None:
        """
        Let time pass; to be called at L{deadline}.

        @param heard: whether any server has taken the last message that there was for it.
        """
        if self._deadline is None or now < self._deadline:
            return
        if self._draining:
            self._conclude(self.proposal, self._acks)
            return
        if heard:
            self._tell()
            self._step(now)
        else:
            self._effects.append(Dial())
        self._wait = min(2 * self._wait, self._interval_max)
        if not self._draining:
            self._deadline = now + self._wait

    def deadline(self) -> float | None:
        """When L{tick} has something to do; C{None}: never."""
        return self._deadline

    def take(self) -> list[Effect]:
        """Return what is to be done, in order, and forget it."""
        effects, self._effects = self._effects, []
        return effects

    # -- what goes out

    def _send(self, sid: int, vote: Vote) -> None:
        self._effects.append(SendVote(sid, self.state, vote))

    def _propose(self, vote: Vote) -> None:
        self.proposal = vote._replace(round=self.round)
        self._tell()

    def _tell(self) -> None:
        """Tell every voter for whom this server votes; what it tells itself comes in like all the rest."""
        for sid in self._voters:
            if sid == self.sid:
                self._inbox.append((sid, Notification(LOOKING, self.proposal)))
            else:
                self._send(sid, self.proposal)

    # -- the loop (spec: election 7.4)

    def _learns(self, notification: Notification) -> bool:
        """Whether the ensemble has changed, and this server has not heard of it so far."""
        text = notification.config
        if not self._gossip or self.state is not LOOKING or text is None or text == self._config_text:
            return False
        try:
            ensemble = Ensemble.parse(text, multi_address=True)
        except ConfigError:
            return False  # the vote counts nevertheless
        if ensemble.version <= self.ensemble.version:
            return False
        self._effects.append(NewerEnsemble(ensemble))
        return True

    def _step(self, now: float) -> None:
        while self._inbox and self.looking:
            sid, notification = self._inbox.popleft()
            if self._draining:
                if beats(self._committed, notification.vote, self.proposal):
                    self._draining = False
                    self._inbox.appendleft((sid, notification))
                else:
                    self._deadline = now + FINALIZE_WAIT
                continue
            self._deadline = now + self._wait
            if notification.vote.leader not in self._voters:
                continue
            if notification.state == LOOKING:
                self._hear_looking(sid, notification, now)
            elif notification.state != OBSERVING:
                self._hear_settled(sid, notification)

    def _hear_looking(self, sid: int, notification: Notification, now: float) -> None:
        vote = notification.vote
        if self._self_vote.zxid == -1 or vote.zxid == -1 or vote.round < self.round:
            return
        if vote.round > self.round:
            # What was heard in an earlier round counts no more, our own proposal least of all.
            self.round = vote.round
            self._received = {}
            self._propose(vote if beats(self._committed, vote, self._self_vote) else self._self_vote)
        elif beats(self._committed, vote, self.proposal):
            self._propose(vote)
        self._received[sid] = _Heard(LOOKING, vote, notification.version)
        acks = self._count(self._received, _Heard(LOOKING, self.proposal, 0))
        if acks.satisfied:
            self._acks = tuple(acks.acks)
            self._draining = True
            self._deadline = now + FINALIZE_WAIT

    def _hear_settled(self, sid: int, notification: Notification) -> None:
        vote = notification.vote
        heard = _Heard(notification.state, vote, notification.version)
        if vote.round == self.round:
            self._received[sid] = heard
            if self._joins(self._received, heard):
                return
        self._settled[sid] = heard
        self._joins(self._settled, heard)

    def _joins(self, votes: dict[int, _Heard], heard: _Heard) -> bool:
        """Follow a leader, or lead, if a quorum says that this is so and the leader itself does not deny it."""
        leader, round_ = heard.vote.leader, heard.vote.round
        acks = self._count(votes, heard)
        if not acks.satisfied:
            return False
        if leader == self.sid:
            if round_ != self.round:
                return False
        elif leader not in votes or votes[leader].state != LEADING:
            return False
        self.round = round_
        self._conclude(heard.vote, tuple(acks.acks))
        return True

    def _count(self, votes: dict[int, _Heard], target: _Heard) -> AckSets:
        acks = AckSets(*self._quorums)
        for sid, heard in votes.items():
            if heard.same_as(target):
                acks.add(sid)
        return acks

    def _conclude(self, vote: Vote, acks: tuple[int, ...]) -> None:
        self.abandon()
        self.vote = vote
        if vote.leader == self.sid:
            self.state = LEADING
            self.electing = acks
        else:
            self.state = OBSERVING if self._observer else FOLLOWING
        self._effects.append(Concluded())
