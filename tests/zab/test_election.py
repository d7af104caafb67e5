"""FastLeaderElection, one machine: what it says to whom, and when it is sure."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.config.tables import rows
from tests.zab.elections import FOLLOWING, LEADING, LOOKING, OBSERVING, Listener, ensemble
from zktwisted.config import Ensemble
from zktwisted.wire.votes import NOBODY, ServerState, Vote
from zktwisted.zab.election import INBOX_MAX, Dial, LookingAgain, NewerEnsemble, beats
from zktwisted.zab.quorum import Quorum


class OrderTests(SynchronousTestCase):
    """Which of two votes is better (spec: election 6.1)."""

    def test_table(self) -> None:
        """C{totalOrderPredicate} of the Java server's class, under a majority and with a weight of zero."""
        plain = Quorum(ensemble(5))
        lines = ["group.1=1:2:3:4:5", "weight.4=0"]
        grouped = Quorum(ensemble(5, 0, *lines))
        answers = set()
        for row in rows("fle_total_order"):
            quorum = plain if row["verifier"].startswith("majority") else grouped
            new = Vote(row["newId"], row["newZxid"], 1, row["newEpoch"])
            current = Vote(row["curId"], row["curZxid"], 2, row["curEpoch"])
            self.assertEqual(row["newWins"], beats(quorum, new, current), row)
            answers.add((row["verifier"], row["newWins"]))
        self.assertEqual(4, len(answers))

    def test_numbers_have_signs(self) -> None:
        """What an observer votes for at first loses against everything; who is unknown never wins."""
        quorum = Quorum(ensemble(3, 1))
        nobody = Vote(NOBODY, NOBODY, 1, NOBODY)
        self.assertTrue(beats(quorum, Vote(1, 0, 1, 0), nobody))
        self.assertFalse(beats(quorum, nobody, Vote(1, 0, 1, 0)))
        for sid in (4, 9):
            self.assertFalse(beats(quorum, Vote(sid, 9, 9, 9), Vote(1, 0, 1, 0)))


class LookingTests(SynchronousTestCase):
    """An election among servers that are all looking."""

    def test_alone(self) -> None:
        """The only voter elects itself, after the time in which somebody better could have spoken."""
        server = Listener(1, ensemble(1))
        self.assertEqual([], server.look(7, 2))
        self.assertIsNone(server.outcome)
        server.ring()
        self.assertAlmostEqual(100.2, server.now)
        self.assertEqual((LEADING, 1, 7, 1, 2), server.outcome)
        self.assertEqual((1,), server.machine.electing)

    def test_three_fresh_servers(self) -> None:
        """Each better vote is taken over and told to all; the winner is known after a silence of 200 ms."""
        server = Listener(1)
        self.assertEqual([(2, LOOKING, 1, 0, 1, 0), (3, LOOKING, 1, 0, 1, 0)], server.look())
        self.assertEqual([(2, LOOKING, 2, 0, 1, 0), (3, LOOKING, 2, 0, 1, 0)], server.hear(2, LOOKING, 2))
        # Two votes for 2 are a quorum, and yet there comes a better one.
        server.now += 0.1
        self.assertEqual([(2, LOOKING, 3, 0, 1, 0), (3, LOOKING, 3, 0, 1, 0)], server.hear(3, LOOKING, 3))
        server.now += 0.1
        self.assertEqual([], server.hear(2, LOOKING, 3))
        self.assertIsNone(server.outcome)
        began = server.now
        server.ring()
        self.assertAlmostEqual(0.2, server.now - began)
        self.assertEqual((FOLLOWING, 3, 0, 1, 0), server.outcome)
        self.assertEqual((), server.machine.electing)

    def test_the_winner_leads(self) -> None:
        """Who has the quorum for itself leads, and remembers who wanted it."""
        server = Listener(3)
        server.look()
        self.assertEqual([], server.hear(1, LOOKING, 1))
        server.hear(1, LOOKING, 3)
        server.ring()
        self.assertEqual((LEADING, 3, 0, 1, 0), server.outcome)
        self.assertEqual((3, 1), server.machine.electing)

    def test_news_of_nothing_better_prolong_the_silence(self) -> None:
        """The 200 ms begin again with every message that is taken out meanwhile."""
        server = Listener(3)
        server.look()
        server.hear(1, LOOKING, 3)
        server.now += 0.15
        server.hear(2, LOOKING, 2)
        began = server.now
        server.ring()
        self.assertAlmostEqual(0.2, server.now - began)
        self.assertEqual((LEADING, 3, 0, 1, 0), server.outcome)

    def test_epoch_then_zxid_then_id(self) -> None:
        """The longest history wins, not the largest id."""
        server = Listener(3)
        server.look(zxid=0x100000005, epoch=1)
        self.assertEqual([], server.hear(2, LOOKING, 2, 0x100000004, epoch=1))
        self.assertEqual(2, len(server.hear(2, LOOKING, 2, 0x100000006, epoch=1)))
        self.assertEqual([], server.hear(3, LOOKING, 3, 0x100000006, epoch=0))
        self.assertEqual(2, len(server.hear(1, LOOKING, 1, 1, epoch=2)))

    def test_a_silent_ensemble_is_asked_again(self) -> None:
        """Votes are repeated after 200, 400, 800 ms, and so on up to a minute."""
        server = Listener(1)
        server.look()
        waits = []
        for _ in range(11):
            before = server.now
            self.assertEqual([(2, LOOKING, 1, 0, 1, 0), (3, LOOKING, 1, 0, 1, 0)], server.ring())
            waits.append(round(server.now - before, 3))
        self.assertEqual([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 60.0, 60.0], waits)

    def test_nobody_has_heard_it(self) -> None:
        """While no vote was taken by anybody there is no point in replacing it: only connect."""
        server = Listener(1)
        server.look()
        self.assertEqual([], server.ring(heard=False))
        self.assertEqual([Dial()], server.others)
        self.assertEqual(2, len(server.ring()))

    def test_the_intervals_are_settings(self) -> None:
        """The first and the longest wait are given; a longest that is shorter than the first counts as the first."""
        for longest, expected in ((0.3, [0.1, 0.2, 0.3, 0.3]), (0.05, [0.1] * 4)):
            server = Listener(1, interval_min=0.1, interval_max=longest)
            server.look()
            waits = []
            for _ in range(4):
                before = server.now
                server.ring()
                waits.append(round(server.now - before, 3))
            self.assertEqual(expected, waits)

    def test_news_begin_the_wait_again(self) -> None:
        """The wait is one for silence."""
        server = Listener(1)
        server.look()
        server.now += 0.15
        server.hear(2, OBSERVING, 2)
        deadline = server.machine.deadline()
        self.assertAlmostEqual(100.35, deadline or 0)

    def test_ringing_early_does_nothing(self) -> None:
        """A timer that is not due changes nothing, and none is due before the first election."""
        server = Listener(1)
        self.assertIsNone(server.machine.deadline())
        server.machine.tick(server.now + 1000)
        server.look()
        server.machine.tick(server.now + 0.1)
        self.assertEqual([], server.said())

    def test_an_older_round(self) -> None:
        """FLEBackwardElectionRound: who is behind is told our vote, and does not count before it has caught up."""
        server = Listener(3)
        server.look()
        server.machine.abandon()
        server.look()
        self.assertEqual(2, server.machine.round)
        self.assertEqual([(1, LOOKING, 3, 0, 2, 0)], server.hear(1, LOOKING, 3, round_=1))
        self.assertEqual([(1, LOOKING, 3, 0, 2, 0), (2, LOOKING, 3, 0, 2, 0)], server.ring())
        self.assertEqual([], server.hear(1, LOOKING, 3, round_=2))
        server.ring()
        self.assertEqual((LEADING, 3, 0, 2, 0), server.outcome)

    def test_a_later_round(self) -> None:
        """Its number is taken over; what was heard and proposed before is forgotten, all but our own vote."""
        server = Listener(1, ensemble(5))
        server.look()
        server.hear(5, LOOKING, 5)
        self.assertEqual(5, server.machine.proposal.leader)
        said = server.hear(2, LOOKING, 2, round_=7)
        self.assertEqual([(sid, LOOKING, 2, 0, 7, 0) for sid in (2, 3, 4, 5)], said)
        # A vote that does not beat our own is not taken over, though the round is.
        server = Listener(3)
        server.look(zxid=9)
        self.assertEqual([(1, LOOKING, 3, 9, 4, 0), (2, LOOKING, 3, 9, 4, 0)], server.hear(2, LOOKING, 2, round_=4))
        server.hear(2, LOOKING, 3, 9, round_=4)
        server.ring()
        self.assertEqual((LEADING, 3, 9, 4, 0), server.outcome)

    def test_rounds_count_on(self) -> None:
        """The clock outlives elections, and a peer's absurd round breaks nothing."""
        server = Listener(1, ensemble(1))
        for expected in (1, 2, 3):
            server.look()
            server.ring()
            self.assertEqual(expected, server.machine.round)
        last = (1 << 63) - 1
        server = Listener(1)
        server.look()
        server.hear(2, LOOKING, 2, round_=last)
        server.machine.abandon()
        self.assertEqual(-(1 << 63), server.look()[0][4])

    def test_all_four_fields_must_agree(self) -> None:
        """Votes for one leader in another epoch, zxid or round are different votes."""
        for vote in ((3, 1, 1, 0), (3, 0, 1, -1), (2, 0, 1, 0)):
            server = Listener(3)
            server.look()
            leader, zxid, round_, epoch = vote
            server.hear(1, LOOKING, leader, zxid, round_, epoch)
            server.machine.take()
            if server.machine.proposal == (3, 0, 1, 0):
                server.ring()
                self.assertIsNone(server.outcome, vote)

    def test_zxid_minus_one(self) -> None:
        """Votes without a history are ignored, and so are all while our own is unknown."""
        server = Listener(1)
        server.look()
        self.assertEqual([], server.hear(3, LOOKING, 3, -1, epoch=9))
        self.assertEqual(1, server.machine.proposal.leader)
        server = Listener(1)
        server.look(zxid=-1)
        self.assertEqual([], server.hear(3, LOOKING, 3, 5, epoch=9))

    def test_a_message_speaks_for_its_sender_alone(self) -> None:
        """However often a server votes, it has one vote."""
        server = Listener(3, ensemble(5))
        server.look()
        for _ in range(3):
            server.hear(1, LOOKING, 3)
        server.ring()
        self.assertIsNone(server.outcome)
        server.hear(2, LOOKING, 3)
        server.ring()
        self.assertEqual((LEADING, 3, 0, 1, 0), server.outcome)

    def test_leaders_without_a_vote(self) -> None:
        """Who votes for an observer or a stranger is not heard."""
        for leader in (4, 9, NOBODY):
            server = Listener(1, ensemble(3, 1))
            server.look()
            self.assertEqual([], server.hear(2, LOOKING, leader, 99, 7, epoch=99))
            self.assertEqual(1, server.machine.proposal.leader)
            self.assertEqual(1, server.machine.round)

    def test_nothing_better_in_the_silence(self) -> None:
        """What ends the silence is anything better, of whatever state and round, and then it begins once more."""
        server = Listener(3)
        server.look(zxid=5)
        server.hear(1, LOOKING, 3, 5)
        server.hear(2, LOOKING, 2, 9, round_=0)  # better and too old: it ends the silence and does not count
        server.ring()
        self.assertIsNone(server.outcome)
        server.ring()
        self.assertEqual((LEADING, 3, 5, 1, 0), server.outcome)

    def test_abandoned(self) -> None:
        """An election that is given up says nothing more."""
        server = Listener(1)
        server.look()
        server.machine.abandon()
        self.assertIsNone(server.machine.deadline())
        self.assertEqual(LOOKING, server.machine.state)
        server.hear(2, LOOKING, 2)
        server.machine.tick(server.now + 10)
        self.assertEqual([], server.said())

    def test_before_the_first_election(self) -> None:
        """What others say is kept, a limited number of it, and counts when the election begins."""
        server = Listener(1)
        for sid in (2, 3, 9):
            self.assertEqual([], server.hear(sid, LOOKING, 3))
        server.look()
        server.ring()
        self.assertEqual((FOLLOWING, 3, 0, 1, 0), server.outcome)
        server = Listener(1)
        server.hear(2, LOOKING, 3)
        for _ in range(INBOX_MAX):
            server.hear(3, OBSERVING, 3)
        server.look()
        self.assertEqual(1, server.machine.proposal.leader)


class SettledTests(SynchronousTestCase):
    """A server that comes to an ensemble with a leader."""

    def test_joining(self) -> None:
        """A quorum that follows, and the leader itself, are enough at once, whatever their round."""
        server = Listener(1)
        server.look(0x100000004, 1)
        self.assertEqual([], server.hear(3, LEADING, 3, 0, 5, 1))
        self.assertIsNone(server.outcome)
        server.hear(2, FOLLOWING, 3, 0, 5, 1)
        self.assertEqual((FOLLOWING, 3, 0, 5, 1), server.outcome)
        self.assertEqual(5, server.machine.round)

    def test_the_leader_must_say_so(self) -> None:
        """Followers of a leader that has crashed elect it not again."""
        for round_ in (1, 5):
            server = Listener(1, ensemble(5))
            server.look()
            for sid in (2, 3, 4):
                server.hear(sid, FOLLOWING, 5, 0, round_, 1)
            self.assertIsNone(server.outcome)
            server.hear(5, FOLLOWING, 4, 0, round_, 1)
            server.hear(2, FOLLOWING, 5, 0, round_, 1)
            self.assertIsNone(server.outcome)
            server.hear(5, LEADING, 5, 0, round_, 1)
            self.assertEqual((FOLLOWING, 5, 0, round_, 1), server.outcome)

    def test_old_followers_of_mine(self) -> None:
        """A leader that comes back believes those who still follow it only in its own round."""
        server = Listener(3)
        server.look()
        for sid in (1, 2):
            server.hear(sid, FOLLOWING, 3, 0, 8, 1)
        self.assertIsNone(server.outcome)
        server.hear(1, FOLLOWING, 3, 0, 1, 0)
        self.assertEqual((LEADING, 3, 0, 1, 0), server.outcome)
        self.assertEqual((3, 1), server.machine.electing)

    def test_zxid_and_round_may_differ(self) -> None:
        """ZOOKEEPER-1805: of settled servers only leader and epoch count."""
        server = Listener(1)
        server.look()
        server.hear(3, LEADING, 3, 0x20, 7, 4)
        server.hear(2, FOLLOWING, 3, 0x10, 3, 4)
        self.assertEqual((FOLLOWING, 3, 0x10, 3, 4), server.outcome)

    def test_epochs_may_not(self) -> None:
        """Votes of another epoch wait until the laggard has caught up."""
        server = Listener(1)
        server.look()
        server.hear(3, LEADING, 3, 0, 7, 4)
        server.hear(2, FOLLOWING, 3, 0, 7, 3)
        self.assertIsNone(server.outcome)
        server.hear(2, FOLLOWING, 3, 0, 7, 4)
        self.assertEqual((FOLLOWING, 3, 0, 7, 4), server.outcome)

    def test_epochs_of_old_servers(self) -> None:
        """ZOOKEEPER-1732: a server of another generation counts by its leader alone."""
        server = Listener(1)
        server.look()
        server.hear(3, LEADING, 3, 0, 7, 4)
        server.hear(2, FOLLOWING, 3, 0, 6, 0, version=0)
        self.assertEqual((FOLLOWING, 3, 0, 6, 0), server.outcome)
        server = Listener(1)
        server.look()
        server.hear(3, LEADING, 3, 0, 7, 4, version=0)
        server.hear(2, FOLLOWING, 3, 0, 7, 3, version=0)
        self.assertIsNone(server.outcome)

    def test_observers_do_not_testify(self) -> None:
        """What an observer follows says nothing, nor does a follower of somebody unknown."""
        server = Listener(1, ensemble(3, 1))
        server.look()
        server.hear(3, LEADING, 3, 0, 7, 4)
        for sid, state, leader in ((2, OBSERVING, 3), (4, FOLLOWING, 3), (2, FOLLOWING, 4)):
            server.hear(sid, state, leader, 0, 7, 4)
            self.assertIsNone(server.outcome)

    def test_what_was_not_heard_is_forgotten(self) -> None:
        """What still waits when an election is decided counts for no other."""
        server = Listener(1)
        server.hear(3, LEADING, 3, 0, 7, 4)
        server.hear(2, FOLLOWING, 3, 0, 7, 4)
        server.hear(2, LOOKING, 2, 99, 50, 99)
        server.look()
        self.assertEqual((FOLLOWING, 3, 0, 7, 4), server.outcome)
        server.look()
        self.assertEqual((1, 0, 8, 0), tuple(server.machine.proposal))

    def test_earlier_rounds_are_remembered(self) -> None:
        """What settled servers said survives the change to another round."""
        server = Listener(1)
        server.look()
        server.hear(3, LEADING, 3, 0, 7, 4)
        server.hear(2, LOOKING, 2, 0, 9, 0)
        self.assertEqual(9, server.machine.round)
        server.hear(2, FOLLOWING, 3, 0, 7, 4)
        self.assertEqual((FOLLOWING, 3, 0, 7, 4), server.outcome)

    def test_a_designated_leader(self) -> None:
        """Votes with round and epoch -1, as after a change of the ensemble, are votes like others."""
        server = Listener(1)
        server.look()
        server.hear(3, LEADING, 3, 0x300000001, -1, -1)
        self.assertIsNone(server.outcome)
        server.hear(2, FOLLOWING, 3, 0x300000001, -1, -1)
        self.assertEqual((FOLLOWING, 3, 0x300000001, -1, -1), server.outcome)
        self.assertEqual(-1, server.machine.round)

    def test_a_settled_vote_of_this_round_completes_the_quorum(self) -> None:
        """A follower that was faster than we counts with those who still look, if all its vote is the same."""
        server = Listener(1, ensemble(5))
        server.look()
        server.hear(3, LOOKING, 5)
        server.hear(4, FOLLOWING, 5)
        self.assertIsNone(server.outcome)  # there is a quorum, and nothing from the leader
        server.hear(5, LEADING, 5)
        self.assertEqual((FOLLOWING, 5, 0, 1, 0), server.outcome)


class AnswerTests(SynchronousTestCase):
    """Who is answered what (the table of spec: election 5)."""

    def settled(self, state: ServerState) -> Listener:
        """Return server 1 of three and an observer, settled, with an epoch that it learnt after its election."""
        server = Listener(1, ensemble(3, 1))
        server.machine.settle(state, Vote(3, 0x20, 6, 0))
        server.machine.settle(state, Vote(3, 0x20, 6, 2))
        return server

    def test_settled(self) -> None:
        """Those who look are told the vote as it stands; the others know."""
        for state in (FOLLOWING, LEADING, OBSERVING):
            server = self.settled(state)
            for round_ in (1, 6, 99):
                self.assertEqual([(2, state, 3, 0x20, 6, 2)], server.hear(2, LOOKING, 2, 1 << 62, round_, 99))
            for other in (FOLLOWING, LEADING, OBSERVING):
                self.assertEqual([], server.hear(2, other, 2))
            self.assertEqual(state, server.machine.state)

    def test_servers_without_a_vote(self) -> None:
        """They are always answered, even if they make no sense; with our round, which is not that of the vote."""
        for state in (FOLLOWING, LEADING):
            server = self.settled(state)
            for sid in (4, 9, -1):
                for other in (0, 1, 2, 3, 7, -1):
                    self.assertEqual([(sid, state, 3, 0x20, 0, 2)], server.hear(sid, other, 2))
        server = Listener(1, ensemble(3, 1))
        server.look(5, 1)
        # While looking it is the vote that it had, which for the first time is itself, and not what it proposes now.
        server.hear(2, LOOKING, 2, 9, 4, 1)
        self.assertEqual([(4, LOOKING, 1, 5, 4, 1)], server.hear(4, LOOKING, NOBODY, NOBODY, 1, NOBODY))

    def test_looking_again(self) -> None:
        """A second election is told to strangers with the vote of the first."""
        server = self.settled(FOLLOWING)
        server.look(0x30, 2)
        self.assertEqual([(4, LOOKING, 3, 0x20, 1, 2)], server.hear(4, LOOKING, NOBODY))

    def test_states_that_are_none(self) -> None:
        """A voter in no known state is not heard."""
        for state in (-1, 4, 7):
            server = self.settled(FOLLOWING)
            self.assertEqual([], server.hear(2, state, 2))
            server.look()
            self.assertEqual([], server.hear(2, state, 2, 99, epoch=99))
            self.assertEqual(1, server.machine.proposal.leader)

    def test_all_sorts_of_versions(self) -> None:
        """Whoever looks is answered, of whatever generation."""
        for version in (0, 1, 2, 3):
            self.assertEqual(1, len(self.settled(FOLLOWING).hear(2, LOOKING, 2, version=version)))

    def test_disloyal_voters(self) -> None:
        """A leader hears of those who elected it and look again, and of nobody else."""
        server = Listener(3, ensemble(5))
        server.look()
        for sid in (1, 2):
            server.hear(sid, LOOKING, 3)
        server.ring()
        self.assertEqual(LEADING, server.machine.state)
        for sid, expected in ((4, []), (1, [LookingAgain(1)])):
            self.assertEqual([(sid, LEADING, 3, 0, 1, 0)], server.hear(sid, LOOKING, 1, round_=2))
            self.assertEqual(expected, server.others)
        server.machine.settle(LOOKING)
        server.look()
        server.hear(1, LOOKING, 1, round_=2)
        self.assertEqual([], server.others)


class NonVoterTests(SynchronousTestCase):
    """Servers whose votes do not count."""

    def test_observer(self) -> None:
        """It asks the voters, wants nobody at first, takes over what it hears, and observes whom they follow."""
        server = Listener(4, ensemble(3, 1))
        nothing = (NOBODY, NOBODY, 1, NOBODY)
        self.assertEqual([(sid, LOOKING, *nothing) for sid in (1, 2, 3)], server.look(5, 1))
        self.assertEqual([(sid, LOOKING, 3, 7, 1, 1) for sid in (1, 2, 3)], server.hear(2, LOOKING, 3, 7, 1, 1))
        server.hear(1, FOLLOWING, 3, 7, 1, 1)
        self.assertIsNone(server.outcome)
        server.hear(3, LEADING, 3, 7, 1, 1)
        self.assertEqual((OBSERVING, 3, 7, 1, 1), server.outcome)

    def test_observer_among_looking_servers(self) -> None:
        """It finds the quorum too, by the same silence."""
        server = Listener(4, ensemble(3, 1))
        server.look()
        for sid in (1, 2):
            server.hear(sid, LOOKING, 2)
        server.ring()
        self.assertEqual((OBSERVING, 2, 0, 1, 0), server.outcome)

    def test_no_member(self) -> None:
        """Without a line of its own a server has no vote, knows its history all the same, and follows."""
        server = Listener(9)
        self.assertEqual((1, LOOKING, NOBODY, 5, 1, 1), server.look(5, 1)[0])
        server.hear(3, LEADING, 3, 7, 1, 1)
        server.hear(2, FOLLOWING, 3, 7, 1, 1)
        self.assertEqual((FOLLOWING, 3, 7, 1, 1), server.outcome)

    def test_weight_zero(self) -> None:
        """FLEZeroWeight: a server that weighs nothing is never elected, though its id be the largest."""
        those = ensemble(4, 0, "group.1=1:2:3:4", "weight.4=0")
        server = Listener(1, those)
        server.look()
        self.assertEqual([], server.hear(4, LOOKING, 4))
        self.assertEqual(3, len(server.hear(3, LOOKING, 3)))
        server.hear(2, LOOKING, 3)
        server.ring()
        self.assertEqual((FOLLOWING, 3, 0, 1, 0), server.outcome)

    def test_groups(self) -> None:
        """A whole group may be missing while the others each have a majority; not two of three."""
        groups = ("group.1=1:2:3", "group.2=4:5:6", "group.3=7:8:9")
        for votes, enough in (((6, 5, 3, 2), True), ((6, 5, 4, 3, 7), False), ((1, 2, 3), False)):
            server = Listener(6, ensemble(9, 0, *groups))
            server.look()
            for sid in votes:
                if sid != 6:
                    server.hear(sid, LOOKING, 6)
            server.ring()
            self.assertEqual(enough, server.outcome is not None, votes)


class ChangingTests(SynchronousTestCase):
    """Ensembles that change."""

    def newer(self) -> Ensemble:
        """Return an ensemble of five with a higher version."""
        return ensemble(5, 0, "version=100000003")

    def test_two_ensembles(self) -> None:
        """While the ensemble is being changed a leader needs both quorums, and all voters are asked."""
        server = Listener(1, None, last_seen=self.newer())
        self.assertEqual([2, 3, 4, 5], [sid for sid, *_ in server.look(zxid=9)])
        server.hear(2, LOOKING, 1, 9)
        server.ring()
        self.assertIsNone(server.outcome)
        server.hear(4, LOOKING, 1, 9)
        server.ring()
        self.assertEqual((LEADING, 1, 9, 1, 0), server.outcome)
        # One that is not newer does not count.
        self.assertEqual([2, 3], [sid for sid, *_ in Listener(1, None, last_seen=ensemble(5)).look()])

    def test_gossip(self) -> None:
        """A newer ensemble is learnt while looking, from anybody, and its message counts for nothing else."""
        for sid in (2, 9):
            server = Listener(1, gossip=True)
            server.look()
            self.assertEqual([], server.hear(sid, LOOKING, 2, 9, 9, 9, config=self.newer().text))
            self.assertEqual([NewerEnsemble(self.newer())], server.others)
            self.assertEqual(1, server.machine.round)

    def test_what_is_not_learnt(self) -> None:
        """Older and equal ensembles, nonsense, and everything while settled or where nothing is to be learnt."""
        older = ensemble(5, 0, "version=1")
        for text in (ensemble(2).text, ensemble(5).text, "nonsense", "", "server.1=h:1:2\nversion=ffffffffffffffff"):
            server = Listener(1, gossip=True)
            server.look()
            self.assertEqual(2, len(server.hear(2, LOOKING, 2, config=text)), text)
            self.assertEqual([], server.others)
        server = Listener(1, self.newer(), gossip=True)
        server.look()
        server.hear(2, LOOKING, 2, config=older.text)
        self.assertEqual(2, server.machine.proposal.leader)
        server = Listener(1, gossip=True)
        server.machine.settle(FOLLOWING, Vote(3, 0, 1, 0))
        self.assertEqual([(2, FOLLOWING, 3, 0, 1, 0)], server.hear(2, LOOKING, 2, config=self.newer().text))
        server = Listener(1)
        server.look()
        self.assertEqual(2, len(server.hear(2, LOOKING, 2, config=self.newer().text)))

    def test_the_states_are_the_machines_own(self) -> None:
        """While an election runs nobody else says how it ends; there is one at a time."""
        server = Listener(1)
        server.look()
        self.assertRaises(AssertionError, server.machine.settle, FOLLOWING)
        self.assertRaises(AssertionError, server.machine.look, 0, 0, 0.0)
