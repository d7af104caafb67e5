"""The leader: epochs, histories, quorums, proposals, and whom it drops; and a follower that serves observers."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.zab.world import Entries, ensemble_of, entry_of, hear, parse
from zktwisted.config.ensemble import Ensemble
from zktwisted.wire import ops, quorum
from zktwisted.wire.proto import Id
from zktwisted.wire.quorum import LearnerInfo, QuorumPacket, pack_packet
from zktwisted.zab.effects import Forwarded, Limits, ReadLog, Revalidate, Send, Touched
from zktwisted.zab.leader import Leader
from zktwisted.zab.links import Stage
from zktwisted.zab.observer_master import ObserverMaster

LIMITS = Limits(tick=2.0, init_limit=10, sync_limit=5)


class Past:
    """The history of the server that leads, as a test wants it."""

    def __init__(self, last: str = "0:0", window: str = "") -> None:
        self.last = parse(last)
        self.entries: Entries = [(parse(each), entry_of(parse(each))) for each in window.split()]
        self.snapshot_size = 0

    def last_zxid(self) -> int:
        return self.last

    def window(self) -> Entries:
        return self.entries

    def newest_snapshot_size(self) -> int:
        return self.snapshot_size


class LeaderCase(SynchronousTestCase):
    """Server 3 leads servers 1 and 2; channels 1 and 2 are theirs, unless a test says otherwise."""

    limits = LIMITS

    def setUp(self) -> None:
        self.now = 50.0
        self.past = Past()
        self.leader = self.make()

    def make(
        self,
        ensemble: Ensemble | None = None,
        *,
        accepted: int = 0,
        current: int = 0,
        last_seen: Ensemble | None = None,
        limits: Limits | None = None,
    ) -> Leader:
        return Leader(
            3,
            ensemble or ensemble_of(1, 2, 3),
            accepted,
            current,
            self.past.last,
            self.past,
            limits or self.limits,
            self.now,
            last_seen=last_seen,
        )

    def says(self, channel: int, kind: int, zxid: str = "0:0", data: bytes | None = None) -> list[str]:
        """Let a learner say something; return what comes of it."""
        self.leader.receive(channel, QuorumPacket(kind, parse(zxid), data), self.now)
        return hear(self.leader)

    def done(self) -> list[str]:
        """Let our own disk finish everything."""
        self.leader.persisted(self.leader._token, self.now)
        return hear(self.leader)

    def hello(self, channel: int, sid: int | None = None, *, epoch: int = 0, observer: bool = False) -> list[str]:
        """Let a learner connect and greet."""
        self.leader.connected(channel, self.now)
        data = quorum.pack_learner_info(LearnerInfo(channel if sid is None else sid))
        return self.says(channel, quorum.OBSERVERINFO if observer else quorum.FOLLOWERINFO, f"{epoch}:0", data)

    def promise(self, channel: int, zxid: str = "0:0", epoch: int = 0) -> list[str]:
        return self.says(channel, quorum.ACKEPOCH, zxid, quorum.pack_int(epoch))

    def ack(self, channel: int, *zxids: str) -> list[str]:
        return [each for zxid in zxids for each in self.says(channel, quorum.ACK, zxid)]

    def join(self, channel: int, sid: int | None = None, *, zxid: str | None = None, observer: bool = False) -> None:
        """Let a learner come to the broadcast of an epoch that has begun."""
        self.hello(channel, sid, epoch=self.leader.epoch, observer=observer)
        self.promise(channel, zxid or f"{self.leader.epoch}:0", -1)
        epoch = f"{self.leader.epoch}:0"
        self.ack(channel, epoch, epoch)

    def lead(self, *channels: int) -> None:
        """Come to lead."""
        for channel in channels or (1, 2):
            self.hello(channel)
        self.done()
        for channel in channels or (1, 2):
            self.promise(channel)
        self.done()
        for channel in channels or (1, 2):
            self.ack(channel, "1:0")
        self.assertTrue(self.leader.serving)
        for channel in channels or (1, 2):
            # That of UPTODATE.
            self.ack(channel, "1:0")
        self.past.last = parse("1:0")
        hear(self.leader)

    def propose(self, *zxids: str) -> list[str]:
        for zxid in zxids:
            self.leader.propose(parse(zxid), entry_of(parse(zxid)), self.now)
        return hear(self.leader)

    def commit(self, *zxids: str) -> None:
        """Propose, and let everybody acknowledge and apply."""
        self.propose(*zxids)
        self.done()
        for learner in self.leader.learners():
            if learner.forwarding:
                self.ack(learner.channel, *zxids)
        self.past.last = parse(zxids[-1])
        self.past.entries += [(parse(each), entry_of(parse(each))) for each in zxids]

    def passes(self, seconds: float) -> list[str]:
        """Let time pass, tick by tick, as the leader asks for it."""
        end = self.now + seconds
        while (deadline := self.leader.deadline()) is not None and deadline <= end:
            self.now = deadline
            self.leader.tick(self.now)
        self.now = end
        return hear(self.leader)

    def assert_dropped(self, found: list[str], channel: int, *words: str) -> None:
        """One learner has to go, and that is all."""
        dropped = [each for each in found if each.startswith("drops")]
        self.assertEqual(1, len(dropped), found)
        for word in words:
            self.assertIn(word, dropped[0])
        self.assertNotIn(channel, [each.channel for each in self.leader.learners()])
        self.assertFalse(self.leader.ended)
        self.assertEqual([], self.ack(channel, "1:0"))


class EpochTests(LeaderCase):
    """A quorum agrees on an epoch."""

    def test_higher_than_any(self) -> None:
        """The epoch is higher than any that was promised, also to an observer; our own promise is written first."""
        self.assertEqual([], self.hello(9, epoch=7, observer=True))
        self.assertEqual(["acceptedEpoch 8"], self.hello(1, epoch=4))
        self.assertEqual([], self.hello(2, epoch=12))
        self.assertEqual(
            ["9 < LEADERINFO epoch 8", "1 < LEADERINFO epoch 8", "2 < LEADERINFO epoch 8"], self.done()
        )

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
        self.assertEqual(
            [
                "10 < an image",
                "10 < PROPOSAL 1:2",
                "10 < COMMIT 1:2",
                "10 < PROPOSAL 1:3",
                "10 < NEWLEADER epoch 1",
            ],
            hear(self.leader),
        )

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
        self.assertEqual(1, self.leader.proposal_count)
        self.assertEqual((32, 32, 32), self.leader.proposal_sizes)
        self.leader.propose(parse("1:2"), entry_of(parse("1:2"), "more"), self.now)
        self.assertEqual((36, 32, 36), self.leader.proposal_sizes)

    def test_same_bytes(self) -> None:
        """A proposal is encoded once: everybody gets the very same bytes, an observer's differ in their type."""
        self.join(9, observer=True)
        entry = entry_of(parse("1:1"), "body")
        self.leader.propose(parse("1:1"), entry, self.now)
        broadcast = self.leader.take()[0]
        self.assertEqual(((1, 2), pack_packet(quorum.PROPOSAL, parse("1:1"), entry)), broadcast)
        self.leader.persisted(self.leader._token, self.now)
        self.leader.receive(1, QuorumPacket(quorum.ACK, parse("1:1")), self.now)
        self.assertEqual(((9,), pack_packet(quorum.INFORM, parse("1:1"), entry)), self.leader.take()[1])

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
        self.assertEqual(["9 < an image", "9 < NEWLEADER epoch 1"], hear(self.master))

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
        self.assertEqual(
            ["touched 9 [(7, 4000)]"], self.says(9, quorum.PING, "1:2", quorum.pack_sessions([(7, 4000)]))
        )
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
