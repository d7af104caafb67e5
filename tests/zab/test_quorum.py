"""Counting, against what the Java server's classes counted."""

from __future__ import annotations

from itertools import combinations

from twisted.trial.unittest import SynchronousTestCase

from tests.config.tables import rows
from zktwisted.config import Ensemble
from zktwisted.zab.quorum import AckSets, Quorum


def majority(*voters: int, observers: tuple[int, ...] = ()) -> Quorum:
    """Make a plain majority of these servers."""
    lines = [f"server.{sid}=h{sid}:1:2:participant" for sid in voters]
    lines += [f"server.{sid}=h{sid}:1:2:observer" for sid in observers]
    return Quorum(Ensemble.parse(lines))


class TableTests(SynchronousTestCase):
    """The table that C{QuorumMaj} and C{QuorumHierarchical} filled in."""

    def test_majorities(self) -> None:
        """Java counts what it is given; of what has a vote, it and we think the same."""
        counted = 0
        for row in rows("quorum_verifier"):
            if row["verifier"] == "majority" and not set(row["set"]) - set(row["voting"]):
                quorum = majority(*row["voting"], observers=tuple(row["observing"]))
                self.assertEqual(row["containsQuorum"], quorum.contains(row["set"]), row)
                counted += 1
        self.assertGreater(counted, 100)

    def test_groups_and_weights(self) -> None:
        """With groups, some of weight zero, some with one heavy server."""
        counted = 0
        for row in rows("quorum_verifier"):
            if row["verifier"] == "hierarchical":
                quorum = Quorum(Ensemble.parse(row["config"]))
                if "weights" in row:
                    self.assertEqual(row["weights"], {str(sid): quorum.weight(sid) for sid in quorum.voters})
                else:
                    self.assertEqual(row["containsQuorum"], quorum.contains(row["set"]), row)
                counted += 1
        self.assertGreater(counted, 300)


class QuorumTests(SynchronousTestCase):
    def test_observers_do_not_count(self) -> None:
        """Servers without a vote, known or not, bring nobody nearer to a quorum."""
        quorum = majority(1, 2, 3, observers=(4, 5))
        self.assertFalse(quorum.contains([1, 4, 5, 9]))
        self.assertTrue(quorum.contains([1, 4, 3]))

    def test_any_two_quorums_share_a_server(self) -> None:
        """The one thing on which all else rests, for majorities of an even number and for groups with weights."""
        lines = [f"server.{sid}=h:1:2" for sid in range(1, 8)]
        grouped = [*lines, "group.1=1:2:3", "group.2=4:5", "group.3=6:7", "weight.1=2", "weight.3=0", "weight.7=0"]
        for quorum in (majority(1, 2, 3, 4), Quorum(Ensemble.parse(grouped))):
            sids = sorted(quorum.voters)
            sets = [set(some) for size in range(len(sids) + 1) for some in combinations(sids, size)]
            quorums = [some for some in sets if quorum.contains(some)]
            self.assertGreater(len(quorums), 1)
            for one, other in combinations(quorums, 2):
                self.assertTrue(one & other, (one, other))

    def test_weights(self) -> None:
        """A voter of a plain majority weighs 1, others nothing; in groups as it is written, or 1."""
        quorum = majority(1, 2, 3, observers=(4,))
        self.assertEqual([1, 0, 0], [quorum.weight(sid) for sid in (2, 4, 9)])
        lines = ["server.1=h:1:2", "server.2=h:1:2", "server.3=h:1:2", "group.1=1:2:3", "weight.2=0", "weight.3=7"]
        self.assertEqual([1, 0, 7], [Quorum(Ensemble.parse(lines)).weight(sid) for sid in (1, 2, 3)])

    def test_nobody(self) -> None:
        """No server is no quorum."""
        self.assertFalse(majority(1).contains([]))


class AckSetsTests(SynchronousTestCase):
    def test_one_ensemble(self) -> None:
        """It is satisfied with the server that completes the quorum, and stays so."""
        acks = AckSets(majority(1, 2, 3, observers=(4,)))
        seen = []
        for sid in (4, 1, 1, 9, 3, 2):
            acks.add(sid)
            seen.append(acks.satisfied)
        self.assertEqual([False, False, False, False, True, True], seen)
        self.assertEqual([1, 3, 2], list(acks.acks))

    def test_two_ensembles(self) -> None:
        """While the ensemble changes, the old and the new have to agree."""
        acks = AckSets(majority(1, 2, 3), majority(3, 4, 5))
        for sid in (1, 2):
            acks.add(sid)
        self.assertFalse(acks.satisfied)
        acks.add(4)
        self.assertFalse(acks.satisfied)
        acks.add(5)
        self.assertTrue(acks.satisfied)

    def test_nothing_to_satisfy(self) -> None:
        """Without an ensemble everything would be agreed: our mistake, at once."""
        self.assertRaises(AssertionError, AckSets)
