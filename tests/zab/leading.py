"""What tests of a leader begin with: a leader, its past, and learners that say what a test wants them to say."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.zab.world import Entries, ensemble_of, entry_of, hear, parse
from zktwisted.config.ensemble import Ensemble
from zktwisted.wire import quorum
from zktwisted.wire.quorum import LearnerInfo, QuorumPacket
from zktwisted.zab.effects import Limits
from zktwisted.zab.leader import Leader

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
        self.leader.image_sent(channel, self.now)
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
            self.leader.image_sent(channel, self.now)
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
