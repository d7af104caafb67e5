"""Elections of Java servers once more, with one of them replaced by our machine: it hears what that one heard."""

from __future__ import annotations

from typing import NamedTuple

from twisted.trial.unittest import SynchronousTestCase

from tests.wire.elections import Said, recording
from zktwisted.config import Ensemble
from zktwisted.wire.votes import ServerState, Vote, decode_notification
from zktwisted.zab.election import Election, SendVote

LOOKING, FOLLOWING, LEADING, OBSERVING = ServerState


class Part(NamedTuple):
    """One election in a recording."""

    name: str
    #: When it began and was over, in seconds of the recording.
    begin: float
    end: float
    #: Last zxid, epoch and round before it, by server.
    before: dict[int, tuple[int, int, int]]
    leader: int


_FRESH = (0, 0, 0)
_OLD = 0x100000006

PARTS = (
    Part("fresh3", 0, 4.4, {1: _FRESH, 2: _FRESH, 3: _FRESH}, 3),
    Part("fresh3_380", 0, 1.8, {1: _FRESH, 2: _FRESH, 3: _FRESH}, 3),
    Part("fresh3_380", 4.68, 5, {1: (0x100000015, 1, 1), 2: (0x100000015, 1, 1)}, 2),
    Part("fresh3_380", 7, 7.2, {3: (0x100000015, 1, 0)}, 2),
    Part("failover3", 0, 5.8, {1: _FRESH, 2: _FRESH, 3: _FRESH}, 3),
    # The leader was killed.
    Part("failover3", 6.03, 7.9, {1: (_OLD, 1, 1), 2: (_OLD, 1, 1)}, 2),
    # It comes back, hears of a later round first, and joins the others.
    Part("failover3", 13, 14, {3: (_OLD, 1, 0)}, 2),
    Part("failover3", 19, 20.7, {3: (0x200000004, 2, 0)}, 2),
    Part("failover3", 21.1, 22.4, {1: (0x200000011, 2, 2), 3: (0x200000011, 2, 2)}, 3),
    Part("staggered3", 0, 7.9, {1: _FRESH, 2: _FRESH}, 2),
    Part("staggered3", 8, 10.3, {3: _FRESH}, 2),
    Part("latejoin3", 0, 4.3, {1: _FRESH, 2: _FRESH}, 2),
    Part("latejoin3", 4.5, 7.1, {3: _FRESH}, 2),
    Part("five5", 0, 7, {3: _FRESH, 4: _FRESH, 5: _FRESH}, 5),
    Part("five5", 7, 8.3, {1: _FRESH}, 5),
    Part("five5", 8, 9.7, {2: _FRESH}, 5),
    Part("five5", 10.6, 11.2, {1: (0x100000004, 1, 1), 3: (0x100000004, 1, 1), 4: (0x100000004, 1, 1)}, 4),
    Part("five5", 11.09, 13, {2: (0x100000004, 1, 1)}, 4),
    # Server 5 weighs nothing.
    Part("weights_groups", 0, 7.7, dict.fromkeys(range(1, 6), _FRESH), 4),
    Part("mixed3", 0, 2, {1: _FRESH, 2: _FRESH}, 2),
    Part("mixed3", 2, 2.4, {3: _FRESH}, 2),
    Part("mixed3", 7, 7.7, {3: (0x100000013, 1, 0)}, 2),
    Part("observer", 0, 4.8, {1: _FRESH, 2: _FRESH, 3: _FRESH}, 3),
    Part("observer", 5, 7.4, {4: _FRESH}, 3),
)


def rank(vote: Vote) -> tuple[int, int, int, int]:
    """Order votes from worse to better."""
    return vote.round, vote.peer_epoch, vote.zxid, vote.leader


def play(machine: Election, heard: list[Said], begin: float, end: float) -> list[Vote]:
    """Let a machine hear it all, each at its time, and return how it voted while it was looking."""
    votes: list[Vote] = []

    def note() -> None:
        votes.extend(
            effect.vote for effect in machine.take() if isinstance(effect, SendVote) and effect.state is LOOKING
        )

    for said in heard:
        while (deadline := machine.deadline()) is not None and deadline < said.time:
            machine.tick(deadline)
        machine.receive(said.sender, decode_notification(said.data), max(begin, said.time))
        note()
    while (deadline := machine.deadline()) is not None and deadline < end + 2:
        machine.tick(deadline)
    note()
    return votes


class RecordedElectionTests(SynchronousTestCase):
    def test_parts(self) -> None:
        """
        It votes as the Java server did, and comes to the same end.

        The order in which a Java server heard what came over different connections is not known, and not all that it
        said was sent: there may be a step more or less between its first vote and its last.
        """
        same = 0
        for part in PARTS:
            notes = [said for said in recording(part.name) if said.kind == "notification"]
            notes = [said for said in notes if part.begin <= said.time <= part.end]
            for sid, (zxid, epoch, round_) in part.before.items():
                text = decode_notification(next(said for said in notes if said.sender == sid).data).config
                assert text is not None
                ensemble = Ensemble.parse(text)
                machine = Election(sid, ensemble)
                machine.round = round_
                heard = [said for said in notes if said.receiver == sid]
                begin = min(said.time for said in notes if sid in (said.sender, said.receiver)) - 0.01
                machine.look(zxid, epoch, begin)
                ours = play(machine, heard, begin, part.end)
                theirs = self.votes(notes, sid, ours[0])
                where = (part.name, part.begin, sid)
                self.assertEqual(theirs[0], ours[0], where)
                self.assertEqual(theirs[-1], ours[-1], where)
                better = list(dict.fromkeys(ours))
                self.assertEqual(sorted(better, key=rank), better, where)
                same += set(ours) == set(theirs)
                assert machine.vote is not None
                self.assertEqual(part.leader, machine.vote.leader, where)
                member = ensemble.member(sid)
                assert member is not None
                role = LEADING if sid == part.leader else FOLLOWING if member.voting else OBSERVING
                self.assertEqual(role, machine.state, where)
        self.assertGreater(same, 40)

    def votes(self, notes: list[Said], sid: int, first: Vote) -> list[Vote]:
        """How a recorded server voted in this election: messages of the last one may have been said again before."""
        decoded = [decode_notification(said.data) for said in notes if said.sender == sid]
        votes = [note.vote for note in decoded if note.state == LOOKING and note.vote.round >= first.round]
        self.assertIn(first, votes)
        return votes[votes.index(first) :]
