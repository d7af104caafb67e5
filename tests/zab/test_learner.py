"""The learner: what it says to every packet, in every phase, and what it never says too early."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.zab.world import ensemble_of, entry_of, hear, parse, say
from zktwisted.wire import ops, quorum
from zktwisted.wire.proto import Id
from zktwisted.wire.quorum import QuorumPacket
from zktwisted.zab.effects import Limits, Revalidated, Send
from zktwisted.zab.learner import Learner

LIMITS = Limits(tick=2.0, init_limit=10, sync_limit=5)
TEXT = ensemble_of(1, 2, 3).text.encode()

LEADERINFO = quorum.pack_int(0x10000)


class LearnerCase(SynchronousTestCase):
    """A learner with a history up to 1:4, that has promised epoch 1; its leader is of epoch 2."""

    observer = False

    def setUp(self) -> None:
        self.now = 50.0
        self.learner = self.make()
        self.greeting = hear(self.learner)

    def make(self, *, accepted: int = 1, current: int = 1, last: str = "1:4", **more: bool) -> Learner:
        return Learner(
            1, ensemble_of(1, 2, 3), accepted, current, parse(last), self.observer, LIMITS, self.now, 0, **more
        )

    def says(self, kind: int, zxid: str = "0:0", data: bytes | None = None) -> list[str]:
        """Let the leader say something; return what comes of it."""
        self.learner.receive(QuorumPacket(kind, parse(zxid), data), self.now)
        return hear(self.learner)

    def proposes(self, zxid: str) -> list[str]:
        return self.says(quorum.PROPOSAL, zxid, entry_of(parse(zxid)))

    def commits(self, zxid: str) -> list[str]:
        return self.says(quorum.COMMIT, zxid)

    def informs(self, zxid: str) -> list[str]:
        return self.says(quorum.INFORM, zxid, entry_of(parse(zxid)))

    def done(self, back: int = 0) -> list[str]:
        """Let the disk finish everything, or everything but the last few things."""
        self.learner.persisted(self.learner._token - back, self.now)
        return hear(self.learner)

    def promise(self) -> None:
        self.says(quorum.LEADERINFO, "2:0", LEADERINFO)
        self.done()

    def serve(self, *, kind: int = quorum.DIFF) -> None:
        """Come to the broadcast."""
        self.promise()
        self.says(kind, "1:4")
        self.says(quorum.NEWLEADER, "2:0", TEXT)
        self.done()
        self.assertTrue(self.says(quorum.UPTODATE, "-1")[0].startswith("serves"))

    def assert_left(self, found: list[str], *words: str) -> None:
        """The role is over, and that is the last that was heard of it."""
        self.assertTrue(found and found[-1].startswith("leaves"), found)
        for word in words:
            self.assertIn(word, found[-1])
        self.assertTrue(self.learner.ended)
        self.assertEqual([], self.proposes("2:1") + self.done())
        self.assertIsNone(self.learner.deadline())


class DiscoveryTests(LearnerCase):
    """Greeting and promise."""

    def test_greeting(self) -> None:
        """The first word is who we are, with the epoch that we have promised."""
        self.assertEqual(["0 < FOLLOWERINFO of 1, epoch 1"], self.greeting)

    def test_promise(self) -> None:
        """A higher epoch is written down, and then promised, with what our history is."""
        self.assertEqual(["acceptedEpoch 2"], self.says(quorum.LEADERINFO, "2:0", LEADERINFO))
        self.assertEqual(["0 < ACKEPOCH 1:4, epoch 1"], self.done())

    def test_promised_before(self) -> None:
        """The same epoch again: the answer is -1, so that it does not count again."""
        self.learner = self.make(accepted=2)
        hear(self.learner)
        self.assertEqual(["0 < ACKEPOCH 1:4, epoch -1"], self.says(quorum.LEADERINFO, "2:0", LEADERINFO))

    def test_epoch_that_cannot_be(self) -> None:
        """An epoch that makes zxids negative is never promised: nothing higher could be had again."""
        packet = QuorumPacket(quorum.LEADERINFO, -(1 << 63), LEADERINFO)
        self.learner.receive(packet, self.now)
        self.assert_left(hear(self.learner), "an epoch that cannot be")

    def test_lower_epoch(self) -> None:
        """A lower epoch than was promised to another leader: not with us."""
        self.learner = self.make(accepted=3)
        hear(self.learner)
        self.assert_left(self.says(quorum.LEADERINFO, "2:0", LEADERINFO), "epoch 2", "3 was promised")

    def test_something_else(self) -> None:
        """A leader that begins with anything else is none."""
        self.assert_left(self.says(quorum.DIFF, "2:0"), "instead of LEADERINFO")

    def test_short_payload(self) -> None:
        """Nor is one whose first packet is cut short."""
        self.assert_left(self.says(quorum.LEADERINFO, "2:0", b"\0"), "makes no sense")

    def test_disk_full(self) -> None:
        """An epoch that cannot be written is not promised."""
        self.says(quorum.LEADERINFO, "2:0", LEADERINFO)
        self.learner.failed(1, "no space left", self.now)
        self.assert_left(hear(self.learner), "no space left")

    def test_patience(self) -> None:
        """While the disk is busy nobody is called silent; before and after, the leader has initLimit."""
        self.assertEqual(self.now + 20, self.learner.deadline())
        self.says(quorum.LEADERINFO, "2:0", LEADERINFO)
        self.assertIsNone(self.learner.deadline())
        self.now += 100
        self.learner.tick(self.now)
        self.assertEqual(["0 < ACKEPOCH 1:4, epoch 1"], self.done())
        self.now += 19.5
        self.learner.tick(self.now)
        self.assertEqual([], hear(self.learner))
        self.now += 0.5
        self.learner.tick(self.now)
        self.assert_left(hear(self.learner), "no word from the leader for 20 s")


class FirstPacketTests(LearnerCase):
    """DIFF, TRUNC, SNAP, and nothing else."""

    def setUp(self) -> None:
        super().setUp()
        self.promise()

    def test_diff(self) -> None:
        """DIFF: nothing to do."""
        self.assertEqual([], self.says(quorum.DIFF, "1:4"))
        self.assertFalse(self.learner.discard)

    def test_snap(self) -> None:
        """SNAP: the image comes next, and until it is safe, memory is not to be trusted."""
        self.assertEqual(["load the image of 1:9"], self.says(quorum.SNAP, "1:9"))
        self.assertTrue(self.learner.loading)
        self.assertTrue(self.learner.discard)
        self.assertEqual([], self.done())
        self.assertFalse(self.learner.loading)
        self.assertTrue(self.learner.discard)
        self.assertEqual(["snapshot"], self.says(quorum.NEWLEADER, "2:0", TEXT))
        self.assertTrue(self.learner.discard)
        self.assertEqual(["currentEpoch 2"], self.done())
        self.assertFalse(self.learner.discard)
        self.assertEqual(["0 < ACK 2:0"], self.done())

    def test_slow_image(self) -> None:
        """A leader whose image does not come on is silent; one whose image does, is not."""
        self.says(quorum.SNAP, "1:9")
        for _ in range(5):
            self.now += 19
            self.learner.tick(self.now)
            self.learner.progress(self.now)
        self.assertEqual([], hear(self.learner))
        self.now += 20
        self.learner.tick(self.now)
        self.assert_left(hear(self.learner), "no word")

    def test_bad_image(self) -> None:
        """An image that is none ends the role; what came of it is to be thrown away."""
        self.says(quorum.SNAP, "1:9")
        self.learner.failed(self.learner._token, "no signature", self.now)
        self.assert_left(hear(self.learner), "no signature")
        self.assertTrue(self.learner.discard)

    def test_trunc(self) -> None:
        """TRUNC: what is too much goes, and a snapshot says so."""
        self.assertEqual(["truncate to 1:2"], self.says(quorum.TRUNC, "1:2"))
        self.assertEqual([], self.done())
        self.assertEqual(["snapshot"], self.says(quorum.NEWLEADER, "2:0", TEXT))

    def test_trunc_fails(self) -> None:
        """What cannot be forgotten must not live on: the process ends with status 13."""
        self.says(quorum.TRUNC, "1:2")
        self.learner.failed(self.learner._token, "no log file", self.now)
        self.assertEqual(["exits with 13, cannot truncate the history: no log file"], hear(self.learner))
        self.assertTrue(self.learner.ended)

    def test_something_else(self) -> None:
        """Anything else ends the process with status 13."""
        for kind in (quorum.UPTODATE, quorum.PROPOSAL, quorum.PING, 99):
            self.learner = self.make()
            self.promise()
            found = self.says(kind, "1:5")
            self.assertEqual(1, len(found))
            self.assertTrue(found[0].startswith("exits with 13"), found)

    def test_no_snapshot_at_all(self) -> None:
        """A server that was started from logs alone takes its first snapshot here, also for DIFF."""
        self.learner = self.make(snapshot_missing=True)
        hear(self.learner)
        self.promise()
        self.says(quorum.DIFF, "1:5")
        self.proposes("1:5")
        self.assertEqual(["applies 1:5"], self.commits("1:5"))
        self.assertTrue(self.learner.discard)
        self.assertEqual(["snapshot"], self.says(quorum.NEWLEADER, "2:0", TEXT))


class SynchronizationTests(LearnerCase):
    """History, and NEWLEADER in the only safe order."""

    def setUp(self) -> None:
        super().setUp()
        self.promise()

    def test_history(self) -> None:
        """History is taken over with NEWLEADER: log, epoch, acknowledgement, each when the one before is durable."""
        self.says(quorum.DIFF, "1:6")
        self.assertEqual([], self.proposes("1:5") + self.commits("1:5") + self.proposes("1:6") + self.commits("1:6"))
        self.assertEqual(["log 1:5", "applies 1:5", "log 1:6", "applies 1:6"], self.says(quorum.NEWLEADER, "2:0", TEXT))
        self.assertEqual([], self.done(back=1))
        self.assertEqual(["currentEpoch 2"], self.done())
        self.assertEqual(["0 < ACK 2:0"], self.done())
        self.assertEqual([], self.learner.pending)

    def test_in_flight(self) -> None:
        """A proposal without a commit is neither logged nor applied nor acknowledged before UPTODATE."""
        self.says(quorum.DIFF, "1:5")
        self.proposes("1:5")
        self.commits("1:5")
        self.proposes("1:6")
        self.assertEqual([], self.says(quorum.PING, "1:6"))
        self.assertEqual(["log 1:5", "applies 1:5"], self.says(quorum.NEWLEADER, "2:0", TEXT))
        self.assertEqual(["currentEpoch 2"], self.done())
        self.assertEqual(["0 < ACK 2:0"], self.done())
        # ZOOKEEPER-4394: a commit before UPTODATE waits for it.
        self.assertEqual([], self.commits("1:6"))
        self.assertEqual(["serves epoch 2", "0 < ACK 2:0", "log 1:6", "applies 1:6"], self.says(quorum.UPTODATE, "-1"))
        self.assertEqual(["0 < ACK 1:6"], self.done())

    def test_later_proposals(self) -> None:
        """What is proposed between NEWLEADER and UPTODATE waits as well."""
        self.says(quorum.DIFF, "1:4")
        self.says(quorum.NEWLEADER, "2:0", TEXT)
        self.done()
        self.assertEqual([], self.proposes("2:1") + self.commits("2:1") + self.proposes("2:2"))
        self.assertEqual(
            ["serves epoch 2", "0 < ACK 2:0", "log 2:1", "log 2:2", "applies 2:1"], self.says(quorum.UPTODATE, "-1")
        )
        self.assertEqual(["0 < ACK 2:1"], self.done(back=1))
        self.assertEqual(["0 < ACK 2:2"], self.done())

    def test_everything_at_once(self) -> None:
        """However much comes while the disk is busy, the order is the same."""
        self.says(quorum.DIFF, "1:5")
        self.proposes("1:5")
        self.commits("1:5")
        self.says(quorum.NEWLEADER, "2:0", TEXT)
        self.assertTrue(self.learner.busy)
        self.assertEqual([], self.proposes("2:1") + self.commits("2:1") + self.says(quorum.UPTODATE, "-1"))
        self.assertEqual(["currentEpoch 2"], self.done())
        self.assertEqual(["0 < ACK 2:0", "serves epoch 2", "0 < ACK 2:0", "log 2:1", "applies 2:1"], self.done())

    def test_behind_an_image(self) -> None:
        """Behind an image, what is committed is applied at once, and the snapshot has it."""
        self.says(quorum.SNAP, "1:6")
        self.done()
        # The leader wrote the image while it went on: what is in it already is not applied again.
        self.assertEqual([], self.proposes("1:6") + self.commits("1:6") + self.proposes("1:7"))
        self.assertEqual(["applies 1:7"], self.commits("1:7"))
        self.assertEqual(["snapshot"], self.says(quorum.NEWLEADER, "2:0", TEXT))
        self.assertEqual(["currentEpoch 2"], self.done())

    def test_hole(self) -> None:
        """A history with a hole is refused, before anything of it is ours (ZOOKEEPER-4925)."""
        self.says(quorum.DIFF, "1:7")
        self.proposes("1:5")
        self.commits("1:5")
        self.assert_left(self.proposes("1:7"), "0x100000007 comes after 0x100000005")

    def test_backwards(self) -> None:
        """So is one that goes back."""
        for zxid in ("1:5", "0:9"):
            self.learner = self.make()
            self.promise()
            self.says(quorum.DIFF, "1:7")
            self.proposes("1:5")
            self.assert_left(self.proposes(zxid))

    def test_next_epoch(self) -> None:
        """The history may go on in a higher epoch."""
        self.says(quorum.DIFF, "1:7")
        self.assertEqual([], self.proposes("1:5") + self.proposes("2:1"))
        self.assertIn("notes", self.proposes("3:4")[0])

    def test_commit_of_nothing(self) -> None:
        """A commit without a proposal is no history."""
        self.says(quorum.DIFF, "1:7")
        self.assert_left(self.commits("1:5"), "without any proposal")

    def test_commit_of_another(self) -> None:
        """Nor is a commit of another proposal than the oldest."""
        self.says(quorum.DIFF, "1:6")
        self.proposes("1:5")
        self.proposes("1:6")
        self.commits("1:6")
        self.assert_left(self.says(quorum.NEWLEADER, "2:0", TEXT), "another proposal is next")

    def test_commit_of_another_behind_an_image(self) -> None:
        """The same behind an image."""
        self.says(quorum.SNAP, "1:4")
        self.done()
        self.proposes("1:5")
        self.assert_left(self.commits("1:6"), "another proposal is next")

    def test_no_transaction(self) -> None:
        """A proposal that holds no transaction, another one, or one that no log may hold, is refused."""
        for data in (
            None,
            b"short",
            entry_of(parse("1:6")),
            entry_of(parse("1:5"))[:-4] + b"\0\0\0\x0d",
            entry_of(parse("1:5"))[:-4] + b"\0\0\0\x63",
        ):
            self.learner = self.make()
            self.promise()
            self.says(quorum.DIFF, "1:7")
            self.assert_left(self.says(quorum.PROPOSAL, "1:5", data))

    def test_new_leader_of_another_epoch(self) -> None:
        """NEWLEADER of another epoch than was promised, or twice, is refused."""
        self.says(quorum.DIFF, "1:4")
        self.assert_left(self.says(quorum.NEWLEADER, "3:0", TEXT), "NEWLEADER")
        self.learner = self.make()
        self.promise()
        self.says(quorum.DIFF, "1:4")
        self.says(quorum.NEWLEADER, "2:0", TEXT)
        self.done()
        self.assert_left(self.says(quorum.NEWLEADER, "2:0", TEXT), "NEWLEADER")

    def test_up_to_date_too_early(self) -> None:
        """UPTODATE without NEWLEADER is refused."""
        self.says(quorum.DIFF, "1:4")
        self.assert_left(self.says(quorum.UPTODATE, "-1"), "before NEWLEADER")

    def test_disk_fails(self) -> None:
        """A log or a snapshot that cannot be written ends the process; an epoch ends the role."""
        self.says(quorum.SNAP, "1:9")
        self.done()
        self.says(quorum.NEWLEADER, "2:0", TEXT)
        self.learner.failed(self.learner._token, "I/O error", self.now)
        self.assertEqual(["exits with 10, I/O error"], hear(self.learner))
        self.learner = self.make()
        self.promise()
        self.says(quorum.DIFF, "1:4")
        self.says(quorum.NEWLEADER, "2:0", TEXT)
        self.learner.failed(self.learner._token, "no space left", self.now)
        self.assertEqual(["leaves, no space left"], hear(self.learner)[-1:])

    def test_commit_and_activate(self) -> None:
        """Without dynamic configuration, a commit that names a new leader is a commit."""
        self.says(quorum.DIFF, "1:5")
        self.proposes("1:5")
        self.says(quorum.COMMITANDACTIVATE, "1:5", quorum.pack_designated(3))
        self.assertEqual(["log 1:5", "applies 1:5"], self.says(quorum.NEWLEADER, "2:0", TEXT))

    def test_limits(self) -> None:
        """After its acknowledgement of NEWLEADER a learner has less patience."""
        self.says(quorum.DIFF, "1:4")
        self.assertEqual(self.now + 20, self.learner.deadline())
        self.says(quorum.NEWLEADER, "2:0", TEXT)
        self.done()
        self.assertEqual(self.now + 10, self.learner.deadline())


class OldLeaderTests(LearnerCase):
    """A leader of before 3.4 knows no promises."""

    def test_all_of_it(self) -> None:
        """It begins with NEWLEADER; epoch and snapshot are written at UPTODATE."""
        self.assertEqual(["acceptedEpoch 2"], self.says(quorum.NEWLEADER, "2:0"))
        self.assertEqual([], self.done())
        self.says(quorum.DIFF, "1:5")
        self.proposes("1:5")
        self.commits("1:5")
        self.assertEqual(["snapshot"], self.says(quorum.UPTODATE, "-1"))
        self.assertEqual(["log 1:5", "applies 1:5"], self.done())
        self.assertEqual(["currentEpoch 2"], self.done())
        self.assertEqual(["serves epoch 2", "0 < ACK 2:0"], self.done())

    def test_bad_history(self) -> None:
        """A history with the wrong commit is refused here too, when its turn comes."""
        self.says(quorum.NEWLEADER, "2:0")
        self.done()
        self.says(quorum.DIFF, "1:6")
        self.proposes("1:5")
        self.proposes("1:6")
        self.commits("1:6")
        self.says(quorum.UPTODATE, "-1")
        self.assert_left(self.done(), "another proposal is next")


class BroadcastTests(LearnerCase):
    """A follower in the broadcast."""

    def setUp(self) -> None:
        super().setUp()
        self.serve()

    def test_proposal(self) -> None:
        """Logged at once, acknowledged when durable, applied when committed."""
        self.assertEqual(["log 2:1"], self.proposes("2:1"))
        self.assertEqual([(parse("2:1"), entry_of(parse("2:1")))], self.learner.pending)
        self.assertEqual(["0 < ACK 2:1"], self.done())
        self.assertEqual(["applies 2:1"], self.commits("2:1"))
        self.assertEqual([], self.learner.pending)

    def test_commit_before_the_disk(self) -> None:
        """A commit may overtake our own disk."""
        self.proposes("2:1")
        self.assertEqual(["applies 2:1"], self.commits("2:1"))
        self.assertEqual(["0 < ACK 2:1"], self.done())

    def test_group(self) -> None:
        """One flush makes several durable: all are acknowledged, in order, in one write, and never twice."""
        for counter in range(1, 5):
            self.proposes(f"2:{counter}")
        self.learner.persisted(self.learner._token - 1, self.now)
        (send,) = self.learner.take()
        assert isinstance(send, Send)
        packets = [quorum.read_packet(send.data, offset) for offset in range(0, len(send.data), 20)]
        self.assertEqual(["ACK 2:1", "ACK 2:2", "ACK 2:3"], [say(each[0]) for each in packets if each])
        self.assertEqual(["0 < ACK 2:4"], self.done())
        self.assertEqual([], self.done())

    def test_commit_of_nothing(self) -> None:
        """A commit while nothing is pending is noted and ignored."""
        found = self.commits("2:1")
        self.assertEqual(1, len(found))
        self.assertTrue(found[0].startswith("notes"))
        self.assertFalse(self.learner.ended)

    def test_commit_of_another(self) -> None:
        """A commit of another than the oldest: our history and the leader's are not one. Status 12."""
        self.proposes("2:1")
        self.proposes("2:2")
        self.assertEqual(["exits with 12, COMMIT 0x200000002, and 0x200000001 is next"], self.commits("2:2"))

    def test_hole(self) -> None:
        """A hole in what is proposed would become a hole in our history."""
        self.proposes("2:1")
        self.assert_left(self.proposes("2:3"), "0x200000003 comes after 0x200000001")

    def test_ping(self) -> None:
        """A sign of life carries the sessions that were heard of; none is empty, not null."""
        self.assertEqual(["wants a pong 2:0"], self.says(quorum.PING, "2:0"))
        self.learner.pong(parse("2:0"), [(77, 4000), (78, 6000)], self.now)
        self.assertEqual(["0 < PING 2:0, sessions 77 78"], hear(self.learner))
        self.learner.pong(parse("2:0"), [], self.now)
        (send,) = self.learner.take()
        assert isinstance(send, Send)
        self.assertEqual(quorum.pack_packet(quorum.PING, parse("2:0"), b""), send.data)

    def test_ping_of_many(self) -> None:
        """No packet is larger than jute.maxbuffer, however many sessions were heard of; none is left out."""
        sessions = [(number, 4000) for number in range(100_000)]
        self.learner.pong(parse("2:0"), sessions, self.now)
        told = []
        for effect in self.learner.take():
            assert isinstance(effect, Send)
            found = quorum.read_packet(effect.data)
            assert found is not None
            packet = found[0]
            self.assertEqual((quorum.PING, parse("2:0")), (packet.type, packet.zxid))
            self.assertLess(len(packet.data or b""), 0xFFFFF)
            told += quorum.read_sessions(packet.data)
        self.assertEqual(sessions, told)

    def test_conversation(self) -> None:
        """SYNC, REVALIDATE, requests."""
        self.assertEqual(["answers a sync"], self.says(quorum.SYNC))
        self.learner.receive(QuorumPacket(quorum.REVALIDATE, -1, quorum.pack_validity(77, True)), self.now)
        self.assertEqual([Revalidated(77, True)], self.learner.take())
        self.learner.revalidate(77, 4000, self.now)
        self.learner.request(77, 5, ops.CREATE, b"body", (Id("ip", "127.0.0.1"),), self.now)
        sent = b"".join(effect.data for effect in self.learner.take() if isinstance(effect, Send))
        first = quorum.read_packet(sent)
        assert first is not None
        second = quorum.read_packet(sent, first[1])
        assert second is not None
        self.assertEqual(QuorumPacket(quorum.REVALIDATE, -1, quorum.pack_session(77, 4000)), first[0])
        payload = quorum.pack_request(77, 5, ops.CREATE, b"body")
        self.assertEqual(QuorumPacket(quorum.REQUEST, -1, payload, (Id("ip", "127.0.0.1"),)), second[0])

    def test_not_for_us(self) -> None:
        """Whatever has no place in the broadcast is noted, and does nothing."""
        for kind in (quorum.UPTODATE, quorum.INFORM, quorum.NEWLEADER, quorum.DIFF, quorum.REQUEST, 99):
            found = self.says(kind, "2:1", entry_of(parse("2:1")))
            self.assertEqual(1, len(found), kind)
            self.assertTrue(found[0].startswith("notes"), found)
        self.assertFalse(self.learner.ended)

    def test_cut_short(self) -> None:
        """A payload that is cut short ends the role."""
        self.assert_left(self.says(quorum.REVALIDATE, "-1", b"\0"), "makes no sense")

    def test_silence(self) -> None:
        """A leader that is silent for syncLimit is left; any packet is a sign of it."""
        self.now += 9.5
        self.learner.tick(self.now)
        self.says(quorum.PING, "2:0")
        self.now += 9.5
        self.learner.tick(self.now)
        self.assertEqual([], hear(self.learner))
        self.now += 0.5
        self.learner.tick(self.now)
        self.assert_left(hear(self.learner), "no word from the leader for 10 s")

    def test_disconnected(self) -> None:
        """With the connection, the role ends; what was logged is still to be known."""
        self.proposes("2:1")
        self.learner.disconnected("reset by peer", self.now)
        self.assert_left(hear(self.learner), "reset by peer")
        self.assertEqual([parse("2:1")], [zxid for zxid, _ in self.learner.pending])

    def test_disk_fails(self) -> None:
        """A log that cannot be written is never acknowledged: the process ends."""
        self.proposes("2:1")
        self.learner.failed(self.learner._token, "I/O error", self.now)
        self.assertEqual(["exits with 10, I/O error"], hear(self.learner))
        self.learner.failed(self.learner._token, "I/O error", self.now)
        self.learner.request(7, 1, ops.SYNC, b"", None, self.now)
        self.assertEqual([], self.done())


class ObserverTests(LearnerCase):
    """An observer."""

    observer = True

    def test_greeting(self) -> None:
        """It says what it is."""
        self.assertEqual(["0 < OBSERVERINFO of 1, epoch 1"], self.greeting)

    def test_informs(self) -> None:
        """An INFORM is logged, and applied without waiting for it; nothing is acknowledged."""
        self.serve()
        self.assertEqual(["log 2:1", "applies 2:1"], self.informs("2:1"))
        self.assertEqual([], self.done())
        self.assertEqual([], self.learner.pending)

    def test_inform_and_activate(self) -> None:
        """So is one that names a new leader."""
        self.serve()
        data = quorum.pack_designated(3, entry_of(parse("2:1")))
        self.assertEqual(["log 2:1", "applies 2:1"], self.says(quorum.INFORMANDACTIVATE, "2:1", data))
        self.assert_left(self.says(quorum.INFORMANDACTIVATE, "2:2", b"short"))

    def test_informs_in_sync(self) -> None:
        """History for an observer: proposals with commits, and INFORMs."""
        self.promise()
        self.says(quorum.DIFF, "1:5")
        self.proposes("1:5")
        self.commits("1:5")
        self.informs("1:6")
        self.assertEqual(["log 1:5", "applies 1:5", "log 1:6", "applies 1:6"], self.says(quorum.NEWLEADER, "2:0", TEXT))
        self.done()
        self.done()
        self.assertEqual([], self.informs("2:1"))
        self.assertEqual(["serves epoch 2", "0 < ACK 2:0", "log 2:1", "applies 2:1"], self.says(quorum.UPTODATE, "-1"))
        self.assertEqual([], self.done())

    def test_informs_behind_an_image(self) -> None:
        """Behind an image an INFORM is applied at once; without a log the snapshot has it."""
        self.promise()
        self.says(quorum.SNAP, "1:6")
        self.done()
        data = quorum.pack_designated(3, entry_of(parse("1:7")))
        self.assertEqual(["applies 1:7"], self.says(quorum.INFORMANDACTIVATE, "1:7", data))
        self.assertEqual([], self.informs("1:8")[1:])

    def test_hole(self) -> None:
        """A hole is no history for an observer either."""
        self.serve()
        self.informs("2:1")
        self.assert_left(self.informs("2:3"))

    def test_commit_of_another_before_it_serves(self) -> None:
        """A wrong commit between NEWLEADER and UPTODATE: its history is not the leader's."""
        self.promise()
        self.says(quorum.DIFF, "1:4")
        self.says(quorum.NEWLEADER, "2:0", TEXT)
        self.done()
        self.proposes("2:1")
        self.proposes("2:2")
        self.commits("2:2")
        self.assert_left(self.says(quorum.UPTODATE, "-1"), "0x200000001 is next")

    def test_proposals_are_not_for_it(self) -> None:
        """Proposals and commits in the broadcast are not for an observer."""
        self.serve()
        self.assertTrue(self.proposes("2:1")[0].startswith("notes"))
        self.assertTrue(self.commits("2:1")[0].startswith("notes"))

    def test_without_log(self) -> None:
        """An observer that does not log (syncEnabled=false) only applies."""
        self.learner = Learner(1, ensemble_of(1, 2, 3), 1, 1, parse("1:4"), True, Limits(observer_log=False), self.now)
        hear(self.learner)
        self.promise()
        self.says(quorum.DIFF, "1:5")
        self.proposes("1:5")
        self.commits("1:5")
        self.assertEqual(["applies 1:5", "currentEpoch 2"], self.says(quorum.NEWLEADER, "2:0", TEXT))
        self.done()
        self.says(quorum.UPTODATE, "-1")
        self.assertEqual(["applies 2:1"], self.informs("2:1"))
