"""The leader in the broadcast: proposals, acknowledgements, commits, and whom it drops."""

from __future__ import annotations

from tests.zab.leading import LeaderCase
from tests.zab.world import ensemble_of, entry_of, hear, parse
from zktwisted.config.ensemble import Ensemble
from zktwisted.wire import ops, quorum
from zktwisted.wire.proto import Id
from zktwisted.wire.quorum import QuorumPacket, pack_bare, pack_packet
from zktwisted.zab.effects import Broadcast, Forwarded, Log, Revalidate, Send, Touched
from zktwisted.zab.links import Stage


class BroadcastTests(LeaderCase):
    """Proposals, acknowledgements, commits."""

    def setUp(self) -> None:
        super().setUp()
        self.lead()

    def test_proposal(self) -> None:
        """A proposal goes to everybody, and to our own log."""
        self.assertEqual(["1 < PROPOSAL 1:1", "2 < PROPOSAL 1:1", "log 1:1"], self.propose("1:1"))
        self.assertEqual(parse("1:1"), self.leader.last_proposed)
        self.assertEqual([(parse("1:1"), entry_of(parse("1:1")))], self.leader.pending)

    def test_same_bytes(self) -> None:
        """A proposal is encoded once: everybody gets the very same bytes, an observer's differ in their type."""
        self.join(9, observer=True)
        entry = entry_of(parse("1:1"), "body")
        self.leader.propose(parse("1:1"), entry, self.now)
        broadcast = self.leader.take()[0]
        self.assertEqual(((1, 2), [pack_packet(quorum.PROPOSAL, parse("1:1"), entry)]), broadcast)
        self.leader.persisted(self.leader._token, self.now)
        self.leader.receive(1, QuorumPacket(quorum.ACK, parse("1:1")), self.now)
        self.assertEqual(((9,), [pack_packet(quorum.INFORM, parse("1:1"), entry)]), self.leader.take()[1])

    def test_commit_by_any_quorum(self) -> None:
        """Any two of three commit, ourselves or not; what comes later changes nothing."""
        commit = ["1 < COMMIT 1:1", "2 < COMMIT 1:1", "commits 1:1"]
        self.propose("1:1")
        self.assertEqual([], self.ack(1, "1:1"))
        self.assertEqual(commit, self.ack(2, "1:1"))
        self.assertEqual([], self.done())
        self.assertEqual([], self.leader.pending)

    def test_twice_is_once(self) -> None:
        """The same acknowledgement twice is one."""
        self.propose("1:1")
        self.assertEqual([], self.ack(1, "1:1", "1:1"))

    def test_in_order(self) -> None:
        """No proposal is committed before the one in front of it; then as many as are ready, in one go."""
        self.propose("1:1", "1:2", "1:3")
        self.assertEqual([], self.ack(1, "1:2", "1:3"))
        self.assertEqual([], self.ack(2, "1:2", "1:3", "1:1"))
        self.assertEqual(
            [
                "1 < COMMIT 1:1",
                "1 < COMMIT 1:2",
                "1 < COMMIT 1:3",
                "2 < COMMIT 1:1",
                "2 < COMMIT 1:2",
                "2 < COMMIT 1:3",
                "commits 1:1",
                "commits 1:2",
                "commits 1:3",
            ],
            self.ack(1, "1:1"),
        )

    def test_many_at_once(self) -> None:
        """Proposals of one turn are one write to each follower and one to the log; so are commits of one read."""
        for counter in (1, 2, 3):
            self.leader.propose(parse(f"1:{counter}"), entry_of(parse(f"1:{counter}")), self.now)
        broadcast, log = self.leader.take()
        assert isinstance(broadcast, Broadcast) and isinstance(log, Log)
        self.assertEqual((3, 3), (len(broadcast.parts), len(log.entries)))
        acks = [QuorumPacket(quorum.ACK, parse(f"1:{counter}")) for counter in (1, 2, 3)]
        self.leader.receive_all(1, acks[:2], self.now)
        self.assertEqual([], self.leader.take())
        self.leader.receive_all(2, acks, self.now)
        broadcast, committed = self.leader.take()
        self.assertEqual(([parse("1:1"), parse("1:2")],), committed)
        self.assertEqual(((1, 2), [b"".join(pack_bare(quorum.COMMIT, each.zxid) for each in acks[:2])]), broadcast)
        self.assertEqual(["1 < COMMIT 1:3", "2 < COMMIT 1:3", "commits 1:3"], self.done())

    def test_proposals_keep_their_place(self) -> None:
        """What is said between two proposals stays between them."""
        self.leader.propose(parse("1:1"), entry_of(parse("1:1")), self.now)
        self.leader.revalidated(1, 7, True, self.now)
        self.leader.propose(parse("1:2"), entry_of(parse("1:2")), self.now)
        found = [each for each in hear(self.leader) if each.startswith(("1 <", "log"))]
        self.assertEqual(
            ["1 < PROPOSAL 1:1", "log 1:1", "1 < REVALIDATE 000000000000000701", "1 < PROPOSAL 1:2", "log 1:2"], found
        )

    def test_sync_between_commits(self) -> None:
        """Of commits that are decided together, those that a sync does not wait for come behind its answer."""
        self.propose("1:1")
        self.leader.sync(1, self.now)
        self.propose("1:2")
        acks = [QuorumPacket(quorum.ACK, parse(f"1:{counter}")) for counter in (1, 2)]
        self.leader.receive_all(1, acks, self.now)
        self.leader.receive_all(2, acks, self.now)
        found = hear(self.leader)
        self.assertEqual(["1 < COMMIT 1:1", "1 < SYNC", "1 < COMMIT 1:2"], [s for s in found if s.startswith("1 <")])

    def test_other_acknowledgements(self) -> None:
        """Acknowledgements of UPTODATE, of history and of what nobody proposed are ignored."""
        self.commit("1:1")
        self.assertEqual([], self.ack(1, "1:0", "1:1", "1:7", "0:3"))

    def test_observers_do_not_count(self) -> None:
        """An observer's acknowledgement, or a stranger's, does not count."""
        self.join(9, observer=True)
        self.join(8, 77)
        self.propose("1:1")
        self.assertEqual([], self.ack(9, "1:1") + self.ack(8, "1:1") + self.done())
        self.assertIn("commits 1:1", self.ack(1, "1:1"))

    def test_groups(self) -> None:
        """With groups and weights, what counts is what weighs."""
        text = [*ensemble_of(1, 2, 3).lines(), "group.1=1:2:3", "weight.1=0", "weight.2=1", "weight.3=3"]
        self.leader = self.make(Ensemble.parse(text))
        self.past.last = 0
        self.hello(1)
        self.done()
        self.promise(1)
        self.done()
        self.propose("1:1")
        self.assertEqual([], self.ack(1, "1:1"))
        self.assertIn("commits 1:1", self.done())

    def test_rollover(self) -> None:
        """With the last zxid of an epoch the leadership ends, and nothing is proposed (ZOOKEEPER-1277)."""
        self.propose("1:4294967294")
        self.done()
        self.assertIn("commits 1:4294967294", self.ack(1, "1:4294967294"))
        found = self.propose("1:4294967295")
        self.assertEqual(1, len(found))
        self.assertIn("rollover", found[0])
        self.assertEqual([], self.leader.pending)

    def test_too_early_or_again(self) -> None:
        """It is a mistake of ours to propose before we lead, or the same zxid twice."""
        self.propose("1:1")
        self.assertRaises(AssertionError, self.propose, "1:1")
        self.leader = self.make()
        self.assertRaises(AssertionError, self.propose, "1:1")

    def test_sync(self) -> None:
        """A sync is answered when what is proposed now is committed: behind the commit; at once if nothing is."""
        self.leader.sync(1, self.now)
        self.assertEqual(["1 < SYNC"], hear(self.leader))
        self.propose("1:1")
        self.leader.sync(2, self.now)
        self.propose("1:2")
        self.leader.sync(1, self.now)
        self.leader.sync(1, self.now)
        self.leader.sync(99, self.now)
        self.assertEqual([], hear(self.leader))
        self.assertEqual(4, self.leader.pending_syncs)
        self.done()
        self.assertEqual(["1 < COMMIT 1:1", "2 < COMMIT 1:1", "commits 1:1", "2 < SYNC"], self.ack(1, "1:1"))
        self.assertEqual(["1 < SYNC", "1 < SYNC"], self.ack(1, "1:2")[-2:])
        self.assertEqual(0, self.leader.pending_syncs)

    def test_conversation(self) -> None:
        """Requests, touches and revalidations are passed on; answers come back."""
        self.leader.receive(1, QuorumPacket(quorum.PING, 0, quorum.pack_sessions([(7, 4000)])), self.now)
        self.leader.receive(1, QuorumPacket(quorum.PING, 0, b""), self.now)
        who = (Id("ip", "127.0.0.1"),)
        payload = quorum.pack_request(7, 3, ops.CREATE, b"body")
        self.leader.receive(2, QuorumPacket(quorum.REQUEST, -1, payload, who), self.now)
        self.leader.receive(2, QuorumPacket(quorum.REVALIDATE, -1, quorum.pack_session(7, 4000)), self.now)
        self.assertEqual(
            [Touched(1, [(7, 4000)]), Forwarded(2, 7, 3, ops.CREATE, b"body", who), Revalidate(2, 7, 4000)],
            self.leader.take(),
        )
        self.leader.revalidated(2, 7, False, self.now)
        answer = pack_packet(quorum.REVALIDATE, -1, quorum.pack_validity(7, False))
        self.assertEqual([Send(2, answer)], self.leader.take())

    def test_not_for_us(self) -> None:
        """Unknown packets are noted; payloads that are cut short cost their sender the connection."""
        self.assertTrue(self.says(1, 99)[0].startswith("notes"))
        self.assertTrue(self.says(1, quorum.COMMIT, "1:1")[0].startswith("notes"))
        self.assert_dropped(self.says(1, quorum.PING, "1:0", bytes(5)), 1, "makes no sense")
        self.assert_dropped(self.says(2, quorum.REQUEST, "-1", bytes(5)), 2, "makes no sense")

    def test_ended(self) -> None:
        """When it is over, nothing is heard of it any more."""
        self.leader.disconnected(1, self.now)
        self.leader.disconnected(2, self.now)
        self.assertTrue(self.passes(2)[-1].startswith("leaves"))
        self.leader.connected(5, self.now)
        self.leader.sync(1, self.now)
        self.leader.tick(self.now)
        self.assertEqual([], self.hello(6) + self.propose("1:9") + self.done() + self.ack(1, "1:9"))


class SupervisionTests(LeaderCase):
    """Who is still there."""

    def setUp(self) -> None:
        super().setUp()
        self.lead()

    def keep_alive(self, seconds: int, *channels: int, acks: bool = True) -> list[str]:
        """Let time pass, with signs of life from some; return what is no ping."""
        found: list[str] = []
        for _ in range(seconds):
            found += self.passes(1)
            for channel in channels:
                found += self.says(channel, quorum.PING, "1:0", b"")
        return [each for each in found if "PING" not in each]

    def test_pings(self) -> None:
        """Every half tick, with the last zxid proposed; not to those who have not been brought up."""
        self.hello(10, 9, observer=True)
        self.assertEqual(["1 < PING 1:0", "2 < PING 1:0"], self.passes(1))
        self.propose("1:1")
        self.promise(10, "1:0")
        self.assertEqual(["1 < PING 1:1", "2 < PING 1:1", "10 < PING 1:1"], self.passes(1))

    def test_silent_follower(self) -> None:
        """A learner that is silent for syncLimit is dropped; the others are not."""
        self.assertEqual([], self.keep_alive(9, 1))
        self.assertEqual(["drops a learner, no word from learner 2 for 10 s"], self.keep_alive(2, 1))
        self.assertEqual([1], [each.channel for each in self.leader.learners()])

    def test_never_acknowledges_new_leader(self) -> None:
        """One that does not acknowledge NEWLEADER has initLimit."""
        self.hello(10, 9, observer=True)
        self.promise(10, "1:0")
        self.assertEqual([], self.keep_alive(19, 1, 2))
        self.assertEqual(["drops a learner, no word from learner 9 for 20 s"], self.keep_alive(2, 1, 2))

    def test_slow_image(self) -> None:
        """One that takes its image bit by bit is not silent."""
        self.hello(10, 9, observer=True)
        self.promise(10, "-1")
        self.leader.log_read(10, None, self.now)
        for _ in range(5):
            self.assertNotIn("drops", " ".join(self.keep_alive(19, 1, 2)))
            self.leader.progress(10, self.now)

    def test_says_nothing(self) -> None:
        """One that never says who it is has to go as well."""
        self.leader.connected(10, self.now)
        self.assertEqual([], self.leader.learners()[2:])
        self.assertEqual(["drops a learner, no word from learner 0 for 20 s"], self.keep_alive(21, 1, 2))

    def test_waits_for_us(self) -> None:
        """One that has acknowledged NEWLEADER waits for us, and may be silent."""
        self.leader = self.make(ensemble_of(1, 2, 3, 4, 5))
        self.past.last = 0
        self.hello(1)
        self.hello(2)
        self.done()
        self.promise(1)
        self.promise(2)
        self.done()
        self.ack(1, "1:0")
        self.assertEqual([], [each for each in self.passes(15) if "drops" in each])
        self.assertEqual(["leads epoch 1", "1 < UPTODATE", "2 < UPTODATE"], self.ack(2, "1:0"))
        self.assertEqual([], [each for each in self.passes(9) if "drops" in each])

    def test_does_not_acknowledge(self) -> None:
        """A follower that answers pings and acknowledges no proposal is dropped after syncLimit; others go on."""
        self.propose("1:1")
        self.done()
        self.assertIn("commits 1:1", self.ack(1, "1:1"))
        self.assertEqual([], self.keep_alive(10, 1, 2))
        self.assertEqual(["drops a learner, learner 2 does not acknowledge 0x100000001"], self.keep_alive(2, 1, 2))

    def test_acknowledges_late(self) -> None:
        """One that is late, and comes on, is not dropped; nor is one that was brought up with history."""
        counter = 0
        for _ in range(8):
            counter += 1
            self.propose(f"1:{counter}")
            self.done()
            self.ack(1, f"1:{counter}")
            self.assertEqual([], self.keep_alive(8, 1, 2))
            self.ack(2, f"1:{counter}")
        self.commit(f"1:{counter + 1}")
        self.leader.disconnected(2, self.now)
        self.join(10, 2, zxid=f"1:{counter}")
        self.assertEqual([], self.keep_alive(15, 1, 10))

    def test_observers_acknowledge_nothing(self) -> None:
        """Nobody expects acknowledgements of an observer."""
        self.join(9, observer=True)
        self.commit("1:1")
        self.assertEqual([], self.keep_alive(30, 1, 2, 9))

    def test_quorum_lost(self) -> None:
        """Without a quorum the leadership ends with the tick."""
        self.leader.disconnected(1, self.now)
        self.assertEqual([], self.keep_alive(5, 2))
        self.propose("1:1")
        self.leader.disconnected(2, self.now)
        self.assertEqual("leaves, a quorum follows no longer", self.passes(2)[-1])
        self.assertEqual([parse("1:1")], [zxid for zxid, _ in self.leader.pending])

    def test_synced(self) -> None:
        """What operators see of a learner."""
        self.hello(10, 9, observer=True)
        self.assertEqual(
            [
                (1, 1, False, True, Stage.SERVING, True, True),
                (2, 2, False, True, Stage.SERVING, True, True),
                (10, 9, True, False, Stage.PROMISE, False, False),
            ],
            self.leader.learners(),
        )
