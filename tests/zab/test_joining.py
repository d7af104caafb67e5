"""How a leader comes to lead, and how learners come to it: epochs, promises, greetings, histories."""

from __future__ import annotations

from tests.zab.leading import LeaderCase, Past
from tests.zab.world import ensemble_of, hear, parse
from zktwisted.wire import quorum
from zktwisted.wire.quorum import LearnerInfo, QuorumPacket, pack_packet
from zktwisted.zab.effects import Limits, ReadLog, Send


class EpochTests(LeaderCase):
    """A quorum agrees on an epoch."""

    def test_higher_than_any(self) -> None:
        """The epoch is higher than any that was promised, also to an observer; our own promise is written first."""
        self.assertEqual([], self.hello(9, epoch=7, observer=True))
        self.assertEqual(["acceptedEpoch 8"], self.hello(1, epoch=4))
        self.assertEqual([], self.hello(2, epoch=12))
        self.assertEqual(["9 < LEADERINFO epoch 8", "1 < LEADERINFO epoch 8", "2 < LEADERINFO epoch 8"], self.done())

    def test_epochs_that_cannot_be(self) -> None:
        """Nobody raises the epoch by more elections than there can have been, nor above all that there are."""
        for accepted, promised in ((0, (1 << 20) + 1), (0, 0xFFFFFFFF), (5, 1 << 31), ((1 << 31) - 3, (1 << 31) - 1)):
            self.leader = self.make(accepted=accepted)
            found = self.hello(1, epoch=promised)
            self.assert_dropped(found, 1, "cannot have promised epoch")
            self.assertEqual([f"acceptedEpoch {accepted + 1}"], self.hello(2, epoch=accepted))
        self.leader = self.make(accepted=7)
        self.assertEqual([f"acceptedEpoch {8 + (1 << 20)}"], self.hello(1, epoch=7 + (1 << 20)))

    def test_no_quorum_without_voters(self) -> None:
        """Observers and strangers may raise the epoch; they are no quorum."""
        self.assertEqual([], self.hello(9, 77) + self.hello(8, observer=True))

    def test_same_epoch_for_late_comers(self) -> None:
        """Once settled, the epoch is told to everybody, whatever they have promised."""
        self.hello(1)
        self.done()
        self.assertEqual(["2 < LEADERINFO epoch 1"], self.hello(2, epoch=7))

    def test_alone(self) -> None:
        """The only voter is a quorum."""
        self.leader = self.make(ensemble_of(3))
        self.assertEqual(["acceptedEpoch 1"], hear(self.leader))
        self.assertEqual(["currentEpoch 1"], self.done())
        self.assertEqual(["leads epoch 1"], self.done())
        self.assertEqual(["log 1:1"], self.propose("1:1"))
        self.assertEqual(["commits 1:1"], self.done())

    def test_promises(self) -> None:
        """An answer of -1 is no promise; the learner is brought up when others have promised."""
        self.leader = self.make(ensemble_of(1, 2, 3, 4, 5))
        for channel in (1, 2, 4):
            self.hello(channel)
        self.done()
        self.assertEqual([], self.promise(1, epoch=-1))
        self.assertEqual([], self.promise(2))
        self.assertEqual(
            [
                "currentEpoch 1",
                "1 < DIFF 0:0",
                "1 < NEWLEADER epoch 1",
                "2 < DIFF 0:0",
                "2 < NEWLEADER epoch 1",
                "4 < DIFF 0:0",
                "4 < NEWLEADER epoch 1",
            ],
            self.promise(4),
        )

    def test_unbelievable(self) -> None:
        """A server that must not be believed (zxid -1) does not count."""
        self.hello(1)
        self.done()
        self.assertEqual([], self.promise(1, "-1"))

    def test_ahead(self) -> None:
        """A learner that knows more than we do is dropped, as long as that may matter; the epoch outweighs the zxid."""
        self.past = Past("1:5")
        for epoch, zxid, ahead in ((1, "1:6", True), (1, "1:5", False), (2, "1:1", True), (0, "1:9", False)):
            self.leader = self.make(ensemble_of(1, 2, 3, 4, 5), accepted=2, current=1)
            self.hello(1, epoch=2)
            self.hello(2, epoch=2)
            self.done()
            found = self.promise(1, zxid, epoch)
            if ahead:
                self.assert_dropped(found, 1, "ahead of us")
            else:
                self.assertEqual([], found)

    def test_ahead_of_an_established_leader(self) -> None:
        """Once a quorum has promised, it does not matter any more: what is too much will be forgotten."""
        self.lead()
        self.leader.disconnected(2, self.now)
        self.hello(4, 2, epoch=7)
        self.assertEqual(["4 < TRUNC 1:0", "4 < NEWLEADER epoch 1"], self.promise(4, "7:5", 7))

    def test_acknowledgements(self) -> None:
        """A quorum, ourselves among them, has to acknowledge NEWLEADER; then all of it may serve."""
        self.hello(1)
        self.hello(2)
        self.done()
        self.promise(1)
        self.promise(2)
        self.assertEqual([], self.ack(1, "1:0"))
        self.assertEqual([], self.ack(2, "1:0"))
        self.assertEqual(["leads epoch 1", "1 < UPTODATE", "2 < UPTODATE"], self.done())

    def test_strangers_do_not_count(self) -> None:
        """Acknowledgements of observers and strangers are no quorum."""
        for channel, sid, observer in ((1, 1, False), (8, 8, True), (9, 77, False)):
            self.hello(channel, sid, observer=observer)
        self.done()
        for channel in (1, 8, 9):
            self.promise(channel)
        self.done()
        self.assertEqual([], self.ack(8, "1:0") + self.ack(9, "1:0"))
        self.assertEqual(["leads epoch 1", "1 < UPTODATE", "8 < UPTODATE", "9 < UPTODATE"], self.ack(1, "1:0"))

    def test_two_configurations(self) -> None:
        """While a configuration is being changed, old and new have to agree, and NEWLEADER tells the new one."""
        old, new = ensemble_of(1, 2, 3), ensemble_of(3, 4, 5)
        self.leader = self.make(old, last_seen=new)
        for channel in (1, 4):
            self.hello(channel)
        self.done()
        self.promise(1)
        self.promise(4)
        self.done()
        self.assertEqual([], self.ack(1, "1:0"))
        self.assertEqual("leads epoch 1", self.ack(4, "1:0")[0])
        self.propose("1:1")
        self.done()
        self.assertEqual([], self.ack(1, "1:1"))
        self.assertIn("commits 1:1", self.ack(4, "1:1"))
        self.leader.disconnected(4, self.now)
        self.assertEqual(["leaves, a quorum follows no longer"], self.passes(2)[-1:])

    def test_told_configuration(self) -> None:
        """NEWLEADER carries the configuration, letter by letter."""
        self.hello(1)
        self.done()
        self.leader.receive(1, QuorumPacket(quorum.ACKEPOCH, 0, quorum.pack_int(0)), self.now)
        sends = [effect.data for effect in self.leader.take() if isinstance(effect, Send)]
        text = ensemble_of(1, 2, 3).text.encode()
        self.assertTrue(sends[0].endswith(pack_packet(quorum.NEWLEADER, parse("1:0"), text)))

    def test_patience(self) -> None:
        """Each step may take initLimit, and no longer."""
        for steps, words in ((0, "no quorum came"), (1, "no quorum promised"), (2, "no quorum acknowledged")):
            self.leader = self.make()
            begin = self.now
            if steps:
                self.hello(1)
                self.done()
            if steps > 1:
                self.promise(1)
            found = self.passes(20)
            self.assertTrue(found[-1].startswith("leaves"), found)
            self.assertIn(words, found[-1])
            self.assertIsNone(self.leader.deadline())
            self.now = begin

    def test_steps_are_timed_one_by_one(self) -> None:
        """Time that one step took is not taken from the next."""
        self.passes(19)
        self.hello(1)
        self.done()
        self.passes(19)
        self.promise(1)
        self.passes(19)
        self.done()
        self.assertEqual(["leads epoch 1", "1 < UPTODATE"], self.ack(1, "1:0"))

    def test_disloyal(self) -> None:
        """With maxTimeToWaitForEpoch, a leader whose voter looks for another one gives up early."""
        self.leader = self.make(limits=Limits(tick=2.0, max_time_to_wait_for_epoch=3.0))
        self.leader.looking(1, self.now + 3)
        self.leader.looking(77, self.now + 4)
        self.assertEqual([], hear(self.leader))
        self.leader.looking(1, self.now + 4)
        self.assertTrue(hear(self.leader)[0].startswith("leaves, server 1 left"))

    def test_loyal(self) -> None:
        """Without it, or when the epoch is settled, it does not."""
        self.leader.looking(1, self.now + 19)
        self.assertFalse(self.leader.ended)
        self.leader = self.make(limits=Limits(tick=2.0, max_time_to_wait_for_epoch=0.0))
        self.hello(1)
        self.leader.looking(1, self.now + 19)
        self.assertFalse(self.leader.ended)

    def test_disk_full(self) -> None:
        """An epoch that cannot be written ends the leadership; a log that cannot be written the process."""
        self.hello(1)
        self.leader.failed(1, "no space left", self.now)
        self.assertEqual(["leaves, no space left"], hear(self.leader))
        self.leader = self.make()
        self.lead()
        self.propose("1:1")
        self.leader.failed(self.leader._token, "I/O error", self.now)
        self.assertEqual(["exits with 10, I/O error"], hear(self.leader))


class GreetingTests(LeaderCase):
    """Who may come."""

    def setUp(self) -> None:
        super().setUp()
        self.lead()

    def greet(self, channel: int, data: bytes | None, kind: int = quorum.FOLLOWERINFO, zxid: str = "1:0") -> list[str]:
        self.leader.connected(channel, self.now)
        return self.says(channel, kind, zxid, data)

    def test_first_packet(self) -> None:
        """The first packet has to be a greeting."""
        for channel, kind in enumerate((quorum.ACK, quorum.ACKEPOCH, quorum.PING, quorum.REQUEST, 99), 10):
            self.assert_dropped(self.greet(channel, None, kind), channel, "HELLO")

    def test_out_of_turn(self) -> None:
        """Each stage of a learner has its packet; another one ends it."""
        self.greet(10, quorum.pack_learner_info(LearnerInfo(2)))
        self.assert_dropped(self.says(10, quorum.ACK, "1:0"), 10, "PROMISE")
        self.greet(11, quorum.pack_learner_info(LearnerInfo(2)))
        self.promise(11, "1:0")
        self.assert_dropped(self.says(11, quorum.PING, "1:0", b""), 11, "SYNCING")

    def test_cut_short(self) -> None:
        """A promise that is cut short is none."""
        self.greet(10, quorum.pack_learner_info(LearnerInfo(2)))
        self.assert_dropped(self.says(10, quorum.ACKEPOCH, "1:0", b"\0"), 10, "makes no sense")

    def test_newer_configuration(self) -> None:
        """A learner whose configuration is newer than ours is not for us to lead."""
        info = quorum.pack_learner_info(LearnerInfo(2, 0x10000, 99))
        self.assert_dropped(self.greet(10, info), 10, "newer than ours")

    def test_our_own_id(self) -> None:
        """Nor is one that says it is us: its acknowledgements would count for our own disk."""
        self.assert_dropped(self.greet(10, quorum.pack_learner_info(LearnerInfo(3))), 10, "our own id")

    def test_unknown(self) -> None:
        """A server that is in no configuration is served as a follower without a vote."""
        self.join(10, 77)
        self.propose("1:1")
        self.assertEqual([], self.ack(10, "1:1"))
        self.assertEqual([], self.done()[3:])
        (view,) = [each for each in self.leader.learners() if each.sid == 77]
        self.assertEqual((False, False, True), (view.observer, view.voting, view.forwarding))

    def test_old(self) -> None:
        """A learner of before 3.4 gets no LEADERINFO, and NEWLEADER in front of its history, without any text."""
        self.commit("1:1", "1:2")
        info = quorum.pack_learner_info(LearnerInfo(2, 1))[:12]
        self.assertEqual(
            ["10 < NEWLEADER epoch 1", "10 < DIFF 1:2", "10 < PROPOSAL 1:2", "10 < COMMIT 1:2"],
            self.greet(10, info, zxid="1:1")[-4:],
        )
        self.assertEqual(["10 < UPTODATE"], self.ack(10, "1:0"))

    def test_nameless(self) -> None:
        """A learner that does not say who it is gets a number below zero; each its own."""
        for channel in (10, 11):
            found = self.greet(channel, None)
            self.assertEqual([f"{channel} < NEWLEADER epoch 1", f"{channel} < DIFF 1:0"], found)
        self.assertEqual([-1, -2], [each.sid for each in self.leader.learners() if each.channel >= 10])

    def test_again(self) -> None:
        """A server that comes again is given up on its older connection."""
        self.hello(10, 1, epoch=1)
        found = self.promise(10, "1:0", -1)
        self.assertEqual("drops a learner, it has come again", found[0])
        self.assertEqual([2, 10], [each.channel for each in self.leader.learners()])

    def test_again_counts_anew(self) -> None:
        """What it acknowledged before does not count any more: it is made to forget it first."""
        self.propose("1:1")
        self.ack(1, "1:1")
        self.hello(10, 1, epoch=1)
        found = self.promise(10, "1:1", -1)
        self.assertEqual(["10 < TRUNC 1:0", "10 < PROPOSAL 1:1", "10 < NEWLEADER epoch 1"], found[1:])
        self.assertEqual([], self.ack(1, "1:1") + self.done())
        self.assertEqual("10 < UPTODATE", self.ack(10, "1:0")[0])
        self.assertIn("commits 1:1", self.ack(10, "1:1"))

    def test_unknown_channels(self) -> None:
        """What comes on a connection that is gone is ignored."""
        self.leader.disconnected(1, self.now)
        self.leader.disconnected(1, self.now)
        self.leader.progress(1, self.now)
        self.leader.revalidated(1, 7, True, self.now)
        self.leader.log_read(1, None, self.now)
        self.assertEqual([], self.ack(1, "1:1"))


class BringUpTests(LeaderCase):
    """Histories for those who come."""

    def setUp(self) -> None:
        super().setUp()
        self.lead()

    def test_nothing_between(self) -> None:
        """Between NEWLEADER and its acknowledgement nothing is sent; then UPTODATE, and what was held back."""
        self.commit("1:1")
        self.hello(10, 1, epoch=1)
        self.assertEqual(["10 < DIFF 1:1", "10 < NEWLEADER epoch 1"], self.promise(10, "1:1", -1)[1:])
        self.assertNotIn("10 < PROPOSAL 1:2", self.propose("1:2"))
        self.done()
        self.assertEqual(["2 < COMMIT 1:2", "commits 1:2"], self.ack(2, "1:2"))
        self.assertEqual(["10 < UPTODATE", "10 < PROPOSAL 1:2", "10 < COMMIT 1:2"], self.ack(10, "1:0"))
        self.assertIn("10 < PROPOSAL 1:3", self.propose("1:3"))

    def test_observer_is_held_back_too(self) -> None:
        """The same for an observer, which gets what is committed and nothing else."""
        self.commit("1:1")
        self.propose("1:2")
        self.hello(10, 10, epoch=1, observer=True)
        self.assertEqual(["10 < DIFF 1:1", "10 < NEWLEADER epoch 1"], self.promise(10, "1:1", -1))
        self.done()
        self.ack(2, "1:2")
        self.propose("1:3")
        self.assertEqual(["10 < UPTODATE", "10 < INFORM 1:2"], self.ack(10, "1:0"))
        self.done()
        self.assertIn("10 < INFORM 1:3", self.ack(2, "1:3"))

    def test_committed_and_not_applied(self) -> None:
        """What is committed, and not in our tree yet, is not forgotten by anybody, and is sent with its commit."""
        self.commit("1:1")
        self.propose("1:2", "1:3", "1:4")
        self.done()
        self.ack(1, "1:2", "1:3")
        self.leader.disconnected(2, self.now)
        self.hello(10, 2, epoch=1)
        self.assertEqual(
            [
                "10 < DIFF 1:3",
                "10 < PROPOSAL 1:3",
                "10 < COMMIT 1:3",
                "10 < PROPOSAL 1:4",
                "10 < NEWLEADER epoch 1",
            ],
            self.promise(10, "1:2", -1),
        )

    def test_image_of_what_is_applied(self) -> None:
        """An image is only counted on for what is applied when it is decided."""
        self.commit("1:1")
        self.past.entries = []
        self.propose("1:2", "1:3")
        self.done()
        self.ack(1, "1:2")
        self.leader.disconnected(2, self.now)
        self.hello(10, 2, epoch=1)
        self.assertEqual(["reads the log from 0:0 for 10"], self.promise(10, "0:0", -1))
        self.leader.log_read(10, None, self.now)
        self.assertEqual(["10 < an image"], hear(self.leader))
        self.leader.image_sent(10, self.now)
        self.assertEqual(
            [
                "10 < PROPOSAL 1:2",
                "10 < COMMIT 1:2",
                "10 < PROPOSAL 1:3",
                "10 < NEWLEADER epoch 1",
            ],
            hear(self.leader),
        )

    def test_committed_while_an_image_goes_out(self) -> None:
        """The image may have half of what is committed meanwhile, so all of that stands in front of NEWLEADER."""
        self.commit("1:1", "1:2", "1:3")
        self.past.entries = self.past.entries[2:]
        self.leader.disconnected(2, self.now)
        self.hello(10, 2, epoch=1)
        self.promise(10, "1:0", -1)
        self.leader.log_read(10, None, self.now)
        self.assertEqual(["10 < an image"], hear(self.leader))
        self.propose("1:4", "1:5")
        self.done()
        self.ack(1, "1:4")
        self.leader.progress(10, self.now)
        self.assertEqual([], hear(self.leader))
        self.leader.image_sent(10, self.now)
        self.assertEqual(
            ["10 < PROPOSAL 1:4", "10 < PROPOSAL 1:5", "10 < COMMIT 1:4", "10 < NEWLEADER epoch 1"], hear(self.leader)
        )
        self.leader.image_sent(10, self.now)
        self.ack(1, "1:5")
        self.assertEqual(["10 < UPTODATE", "10 < COMMIT 1:5"], self.ack(10, "1:0"))

    def test_acknowledged_before_the_image_is_out(self) -> None:
        """Who acknowledges NEWLEADER before it was sent has to go."""
        self.commit("1:1", "1:2")
        self.past.entries = self.past.entries[1:]
        self.hello(10, 2, epoch=1)
        self.promise(10, "1:0", -1)
        self.leader.log_read(10, None, self.now)
        hear(self.leader)
        self.assertIn("stage IMAGING", " ".join(self.ack(10, "1:0")))

    def test_log(self) -> None:
        """The log is read for those who are older than the window; what happens meanwhile is kept."""
        self.commit("1:1", "1:2", "1:3", "1:4")
        everything = list(self.past.entries)
        self.past.entries = everything[2:]
        self.past.snapshot_size = 1000
        self.leader.disconnected(2, self.now)
        self.hello(10, 2, epoch=1)
        self.leader.receive(10, QuorumPacket(quorum.ACKEPOCH, parse("1:1"), quorum.pack_int(-1)), self.now)
        self.assertEqual([ReadLog(10, parse("1:1"), 330)], self.leader.take())
        self.commit("1:5")
        self.propose("1:6")
        self.leader.log_read(10, [*everything, (parse("1:5"), b"")], self.now)
        found = hear(self.leader)
        self.assertEqual("10 < DIFF 1:4", found[0])
        self.assertEqual(
            ["10 < PROPOSAL 1:2", "10 < PROPOSAL 1:3", "10 < PROPOSAL 1:4", "10 < PROPOSAL 1:5", "10 < PROPOSAL 1:6"],
            [each for each in found if "PROPOSAL" in each],
        )
        self.assertEqual(
            ["10 < COMMIT 1:2", "10 < COMMIT 1:3", "10 < COMMIT 1:4", "10 < COMMIT 1:5"],
            [each for each in found if "COMMIT" in each],
        )
        self.assertEqual("10 < NEWLEADER epoch 1", found[-1])
        self.leader.log_read(10, everything, self.now)
        self.assertEqual([], hear(self.leader))

    def test_log_of_no_use(self) -> None:
        """If the log cannot be used, an image it is, with what is not in it behind it."""
        self.commit("1:1", "1:2", "1:3", "1:4")
        self.past.entries = self.past.entries[2:]
        self.leader.disconnected(2, self.now)
        self.hello(10, 2, epoch=1)
        self.promise(10, "1:1", -1)
        self.commit("1:5")
        self.propose("1:6")
        self.leader.log_read(10, None, self.now)
        self.leader.image_sent(10, self.now)
        self.assertEqual(["10 < an image", "10 < PROPOSAL 1:6", "10 < NEWLEADER epoch 1"], hear(self.leader))

    def test_never_the_log(self) -> None:
        """With a negative snapshotSizeFactor, or when images are forced, the log is not read."""
        for limits in (
            Limits(tick=2.0, snapshot_size_factor=-1.0),
            Limits(tick=2.0, force_snapshot_sync=True),
        ):
            self.past = Past()
            self.leader = self.make(limits=limits)
            self.lead()
            self.commit("1:1", "1:2", "1:3")
            self.past.entries = self.past.entries[1:]
            self.hello(10, 2, epoch=1)
            self.assertIn("10 < an image", self.promise(10, "1:1", -1))

    def test_too_many(self) -> None:
        """Observers have to come again when too many are brought up; followers have not, but they count."""
        self.leader = self.make(limits=Limits(tick=2.0, max_concurrent_snap_syncs=2, max_concurrent_diff_syncs=1))
        self.past.last = 0
        self.lead()
        for channel in (20, 21):
            self.hello(channel, observer=True)
            self.promise(channel, "-1")
            self.leader.log_read(channel, None, self.now)
            self.assertIn(f"{channel} < an image", hear(self.leader))
        self.hello(22, observer=True)
        self.promise(22, "-1")
        self.leader.log_read(22, None, self.now)
        self.assert_dropped(hear(self.leader), 22, "too many")
        self.hello(10, 2, epoch=1)
        self.promise(10, "-1", -1)
        self.leader.log_read(10, None, self.now)
        self.assertIn("10 < an image", hear(self.leader))
        # The other kind has a limit of its own.
        self.hello(23, observer=True)
        self.assertIn("23 < DIFF 1:0", self.promise(23, "1:0"))
        self.hello(24, observer=True)
        self.assert_dropped(self.promise(24, "1:0"), 24, "too many")
        # A place is free when a learner is done, or gone.
        self.ack(23, "1:0")
        self.hello(25, observer=True)
        self.assertIn("25 < DIFF 1:0", self.promise(25, "1:0"))
        for channel in (20, 21, 10):
            self.leader.disconnected(channel, self.now)
        self.assertEqual((0, 1), self.leader.syncs[2:])

    def test_early_acknowledgements(self) -> None:
        """Version 3.8 acknowledges its history, and proposals, before NEWLEADER (ZOOKEEPER-4685): they count."""
        self.commit("1:1")
        self.propose("1:2")
        self.leader.disconnected(1, self.now)
        self.hello(10, 1, epoch=1)
        self.promise(10, "1:1", -1)
        self.assertEqual([], self.ack(10, "1:1", "1:2"))
        self.assertEqual(["2 < COMMIT 1:2", "commits 1:2"], self.done())
        self.assertEqual(["10 < UPTODATE", "10 < COMMIT 1:2"], self.ack(10, "1:0"))
