"""A follower that serves observers."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.zab.leading import Past
from tests.zab.world import ensemble_of, entry_of, hear, parse
from zktwisted.wire import ops, quorum
from zktwisted.wire.quorum import LearnerInfo, QuorumPacket
from zktwisted.zab.effects import Limits
from zktwisted.zab.observer_master import ObserverMaster


class ObserverMasterTests(SynchronousTestCase):
    """A follower, up to 1:2 in epoch 1, that serves observers."""

    def setUp(self) -> None:
        self.now = 50.0
        self.past = Past("1:2", "1:1 1:2")
        limits = Limits(tick=2.0, observer_master_cache=150)
        self.master = ObserverMaster(1, ensemble_of(1, 2, 3), 1, parse("1:2"), self.past, limits, self.now)

    def says(self, channel: int, kind: int, zxid: str = "0:0", data: bytes | None = None) -> list[str]:
        self.master.receive(channel, QuorumPacket(kind, parse(zxid), data), self.now)
        return hear(self.master)

    def hello(self, channel: int, kind: int = quorum.OBSERVERINFO) -> list[str]:
        self.master.connected(channel, self.now)
        return self.says(channel, kind, "0:0", quorum.pack_learner_info(LearnerInfo(channel)))

    def promise(self, channel: int, zxid: str) -> list[str]:
        return self.says(channel, quorum.ACKEPOCH, zxid, quorum.pack_int(0))

    def serve(self, channel: int) -> None:
        self.hello(channel)
        self.promise(channel, "1:2")
        self.assertEqual([f"{channel} < UPTODATE"], self.says(channel, quorum.ACK, "1:0"))

    def commit(self, zxid: str) -> list[str]:
        self.past.last = parse(zxid)
        self.past.entries.append((parse(zxid), entry_of(parse(zxid))))
        self.master.committed(parse(zxid), entry_of(parse(zxid)), self.now)
        return hear(self.master)

    def test_bring_up(self) -> None:
        """An observer is told our epoch, and brought up at once; nobody has to agree."""
        self.assertEqual(["9 < LEADERINFO epoch 1"], self.hello(9))
        self.assertEqual(
            ["9 < DIFF 1:2", "9 < PROPOSAL 1:2", "9 < COMMIT 1:2", "9 < NEWLEADER epoch 1"], self.promise(9, "1:1")
        )
        self.assertEqual([], self.commit("1:3"))
        self.assertEqual(["9 < UPTODATE", "9 < INFORM 1:3"], self.says(9, quorum.ACK, "1:0"))
        self.assertEqual([], self.says(9, quorum.ACK, "1:0"))
        self.assertEqual(["9 < INFORM 1:4"], self.commit("1:4"))

    def test_from_the_log(self) -> None:
        """The log is asked for an observer that is older; an image if that does not help."""
        self.past.entries = self.past.entries[1:]
        self.hello(9)
        self.assertEqual(["reads the log from 0:0 for 9"], self.promise(9, "0:0"))
        self.commit("1:3")
        self.master.log_read(9, None, self.now)
        self.assertEqual(["9 < an image"], hear(self.master))
        self.commit("1:4")
        self.master.image_sent(9, self.now)
        self.assertEqual(["9 < INFORM 1:4", "9 < NEWLEADER epoch 1"], hear(self.master))

    def test_old(self) -> None:
        """An observer of before 3.4 gets NEWLEADER in front."""
        self.master.connected(9, self.now)
        self.assertEqual(["9 < NEWLEADER epoch 1", "9 < DIFF 1:2"], self.says(9, quorum.OBSERVERINFO, "1:2"))

    def test_followers_have_to_go(self) -> None:
        """Only observers are served; and each packet has its time."""
        self.assertIn("drops", self.hello(9, quorum.FOLLOWERINFO)[0])
        self.hello(8)
        self.assertIn("drops", self.says(8, quorum.PING)[0])

    def test_acknowledgement(self) -> None:
        """An observer that acknowledges a transaction is none."""
        self.serve(9)
        self.assertIn("an observer acknowledges 0x100000003", self.says(9, quorum.ACK, "1:3")[0])

    def test_takes_too_long(self) -> None:
        """What is kept for an observer is limited; what goes out to others at once is not."""
        self.serve(8)
        self.hello(9)
        self.promise(9, "1:2")
        self.assertEqual(["8 < INFORM 1:3"], self.commit("1:3"))
        self.assertEqual(["8 < INFORM 1:4"], self.commit("1:4"))
        found = self.commit("1:5")
        self.assertEqual("8 < INFORM 1:5", found[0])
        self.assertIn("drops a learner, 156 bytes", found[1])

    def test_requests(self) -> None:
        """Requests, touches and syncs are passed on; the answer of a sync finds its way."""
        self.serve(9)
        payload = quorum.pack_request(7, 3, ops.SYNC, b"/")
        self.assertEqual(["9 forwards sync of 7"], self.says(9, quorum.REQUEST, "-1", payload))
        self.assertEqual(["touched 9 [(7, 4000)]"], self.says(9, quorum.PING, "1:2", quorum.pack_sessions([(7, 4000)])))
        self.master.synced(9, self.now)
        self.master.synced(99, self.now)
        self.assertEqual(["9 < SYNC"], hear(self.master))
        self.assertIn("drops", self.says(9, quorum.REQUEST, "-1", b"short")[0])

    def test_revalidations(self) -> None:
        """The answer to an observer's question goes to it, in order; other answers are the follower's own."""
        self.serve(8)
        self.serve(9)
        self.assertEqual(["revalidate 8 7 4000"], self.says(8, quorum.REVALIDATE, "-1", quorum.pack_session(7, 4000)))
        self.assertEqual(["revalidate 9 5 6000"], self.says(9, quorum.REVALIDATE, "-1", quorum.pack_session(5, 6000)))
        self.assertFalse(self.master.answered(5, True, self.now))
        self.assertTrue(self.master.answered(7, True, self.now))
        found = hear(self.master)
        self.assertEqual("touched 8 [(7, 4000)]", found[1])
        self.assertTrue(found[0].startswith("8 < REVALIDATE"))
        self.assertTrue(self.master.answered(5, False, self.now))
        self.assertEqual(1, len(hear(self.master)))
        self.assertFalse(self.master.answered(5, True, self.now))

    def test_pings(self) -> None:
        """Pings every half tick; one that is silent has to go."""
        self.serve(9)
        for _ in range(9):
            self.now = self.master.deadline() or 0.0
            self.master.tick(self.now - 0.1)
            self.master.tick(self.now)
            self.assertEqual(["9 < PING 1:2"], hear(self.master))
        self.now += 1
        self.master.tick(self.now)
        self.assertIn("drops", hear(self.master)[0])
