"""Elections of many machines, with any delays, crashes and broken links: they agree, and they come to an end."""

from __future__ import annotations

from itertools import combinations
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from tests.zab.elections import ensemble
from tests.zab.electorate import World
from zktwisted.config import Ensemble
from zktwisted.zab.quorum import Quorum

ENSEMBLES = {
    "one": ensemble(1),
    "two": ensemble(2),
    "three": ensemble(3),
    "three and two observers": ensemble(3, 2),
    "four": ensemble(4),
    "five": ensemble(5),
    "groups": ensemble(6, 0, "group.1=1:2:3", "group.2=4:5", "group.3=6", "weight.2=3", "weight.6=0"),
}


def histories(random: Random, those: Ensemble) -> dict[int, tuple[int, int]]:
    """Draw (epoch, zxid) of each server: epochs of servers that were behind, histories of different length."""
    epochs = {member.sid: random.randint(0, 2) for member in those.members}
    return {sid: (epoch, (epoch << 32) + random.randint(0, 3)) for sid, epoch in epochs.items()}


class ElectorateTests(SynchronousTestCase):
    """Each run is decided by its seed."""

    def test_all_at_once(self) -> None:
        """
        Servers that begin together elect the one with the longest history at once, and nobody else ever leads.

        Where only servers of weight zero know more, they do not lead.
        """
        for name, those in ENSEMBLES.items():
            for seed in range(15):
                random = Random(seed)
                world = World(seed, those, histories(random, those))
                before = {sid: server.history for sid, server in world.servers.items()}
                for sid in world.servers:
                    world.later(random.uniform(0, 0.02), lambda world=world, sid=sid: world.start(sid))
                world.run(10.0, world.agreed)
                self.assertTrue(world.agreed(), (name, seed))
                self.assertLess(world.now, 3.0, (name, seed))
                quorum = Quorum(those)
                heavy = [sid for sid in sorted(quorum.voters) if quorum.weight(sid)]
                best = max(heavy, key=lambda sid: (before[sid], sid))
                if not any(before[sid] > before[best] for sid in quorum.voters):
                    self.assertEqual([best], [sid for _, sid, _, _ in world.won], (name, seed))

    def test_one_after_the_other(self) -> None:
        """Servers that begin at any time settle soon after the last; each leader is the best of who elected it."""
        for name, those in ENSEMBLES.items():
            for seed in range(15):
                random = Random(seed)
                world = World(seed, those, histories(random, those))
                starts = {sid: random.uniform(0, 4) for sid in world.servers}
                for sid, start in starts.items():
                    world.later(start, lambda world=world, sid=sid: world.start(sid))
                world.run(60.0, world.agreed)
                self.assertTrue(world.agreed(), (name, seed))
                self.assertLess(world.now, max(starts.values()) + 10.0, (name, seed))
                for _, sid, vote, electing in world.won:
                    self.assertEqual(sid, vote.leader)
                    self.assertTrue(Quorum(those).contains(electing), (name, seed))

    def test_whatever_happens(self) -> None:
        """
        Crashes, broken and cut links for twenty seconds: what a leader and a quorum had is never lost (the world
        asserts it), and when it is over all agree soon, and go on agreeing.
        """
        for name in ("two", "three", "three and two observers", "four", "five", "groups"):
            those = ENSEMBLES[name]
            for seed in range(25):
                random = Random(1000 + seed)
                world = World(seed, those, histories(random, those), worst_delay=random.choice((0.02, 0.1, 0.4)))
                # What was there before the beginning was not committed by anybody we know of.
                self.trouble(world, random)
                world.run(20.0)
                for link in world.links.values():
                    link.cut = False
                for sid in world.servers:
                    world.start(sid)
                world.run(200.0, world.agreed)
                self.assertTrue(world.agreed(), (name, seed))
                self.assertLess(world.now, 80.0, (name, seed))
                leaders = len(world.won)
                world.run(world.now + 30.0)
                self.assertTrue(world.agreed(), (name, seed))
                self.assertEqual(leaders, len(world.won), (name, seed))

    def trouble(self, world: World, random: Random) -> None:
        """Plan twenty seconds of faults."""
        sids = sorted(world.servers)
        for sid in sids:
            world.later(random.uniform(0, 2), lambda sid=sid: world.start(sid))
        for _ in range(random.randint(5, 40)):
            when = random.uniform(0, 19)
            sid, other = random.sample(sids, 2)
            what = random.random()
            if what < 0.35:
                world.later(when, lambda sid=sid: world.crash(sid))
                world.later(when + random.uniform(0.01, 3), lambda sid=sid: world.start(sid))
            elif what < 0.7:
                world.later(when, lambda one=sid, other=other: world.break_link(one, other))
            else:
                link = world.link(sid, other)
                world.later(when, lambda link=link, one=sid, other=other: self.cut(world, one, other))
                world.later(when + random.uniform(0.1, 5), lambda link=link: setattr(link, "cut", False))

    def cut(self, world: World, one: int, other: int) -> None:
        """Cut a link for a while."""
        world.link(one, other).cut = True
        world.break_link(one, other)

    def test_a_restart_disturbs_nobody(self) -> None:
        """A follower that comes back joins the ensemble as it is, whatever its round; the others do not vote again."""
        for seed in range(20):
            those = ensemble(3, 1)
            world = World(seed, those, dict.fromkeys(range(1, 5), (0, 0)))
            for sid in world.servers:
                world.start(sid)
            world.run(10.0, world.agreed)
            self.assertEqual([3], [sid for _, sid, _, _ in world.won])
            for sid in (1, 2, 4, 1):
                world.crash(sid)
                world.run(world.now + world.random.uniform(0, 0.4))
                world.start(sid)
                before = world.now
                world.run(world.now + 10.0, world.agreed)
                self.assertTrue(world.agreed(), seed)
                self.assertLess(world.now - before, 2.0, seed)
            self.assertEqual(1, len(world.won))

    def test_without_a_quorum(self) -> None:
        """Who cannot reach a quorum never leads."""
        for one, other in combinations(range(1, 5), 2):
            world = World(one * 5 + other, ensemble(4), dict.fromkeys(range(1, 5), (0, 0)))
            world.start(one)
            world.start(other)
            world.run(60.0)
            self.assertEqual([], world.won)

    def test_a_seed_is_a_run(self) -> None:
        """The same seed gives the same elections."""
        outcomes = []
        for _ in range(2):
            random = Random(5)
            world = World(5, ENSEMBLES["five"], histories(random, ENSEMBLES["five"]))
            self.trouble(world, random)
            world.run(40.0)
            outcomes.append((world.won, world.committed, sorted(world.pending.items())))
        self.assertEqual(outcomes[0], outcomes[1])
        self.assertTrue(outcomes[0][0])
