"""Crashes at any moment, by the hundred: what was acknowledged is there, and nothing that was not written."""

from __future__ import annotations

from random import Random

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.store.toy import Toy, database, entry
from zktwisted.errors import StoreError
from zktwisted.store.database import Database
from zktwisted.testing.disk import MemoryDisk

SEEDS = 400
ROUNDS = 4


class World:
    """
    One server's store, its clients and its bad luck.

    @ivar acknowledged: the highest zxid that a commit has called safe.
    """

    def __init__(self, seed: int) -> None:
        self.entropy = Random(seed)
        self.clock = Clock()
        latency = self.entropy.choice((0.001, 0.01))
        self.log_disk = MemoryDisk("log", clock=self.clock, latency=latency)
        apart = self.entropy.random() < 0.3
        self.snap_disk = MemoryDisk("snap", clock=self.clock, latency=latency) if apart else self.log_disk
        self.acknowledged = 0
        self.issued: dict[int, bytes] = {}
        self.zxid = 0
        self.failed = False

    def start(self) -> tuple[Database, Toy]:
        """Restore, check what came back against what was promised, and go on from there."""
        opened = database(
            self.log_disk,
            self.snap_disk,
            seed=self.entropy.randrange(1000),
            snap_count=20,
            txn_log_size_limit_kib=self.entropy.choice((-1, 6)),
            pre_alloc_size_kib=self.entropy.choice((0, 4)),
            compression_method=self.entropy.choice(("", "gz")),
        )
        toy = Toy()
        result = opened.restore(toy)
        assert result.zxid >= self.acknowledged, (result.zxid, self.acknowledged)
        assert toy.zxids == list(range(1, result.zxid + 1)), toy.zxids
        assert [note for note in result.notes if note.error] == []
        assert not result.new or self.acknowledged == 0
        for zxid, data in opened.committed:
            assert data == self.issued[zxid]
        self.zxid = self.acknowledged = result.zxid
        self.failed = False
        if result.new:
            for _ in opened.snapshot(0, toy.chunks(), toy.trailer):
                pass
        return opened, toy

    def live(self, opened: Database, toy: Toy) -> None:
        """Serve for a while, with pauses and faults, and stop anywhere."""
        entropy = self.entropy
        if entropy.random() < 0.3:
            self.log_disk.fail_flush(entropy.randrange(1, 20))
        snapshot = None
        for _ in range(entropy.randrange(60)):
            for _ in range(entropy.randrange(4)):
                self.zxid += 1
                data = self.issued[self.zxid] = entry(self.zxid, entropy.randbytes(entropy.randrange(200)))
                opened.append([(self.zxid, data)])
            last = self.zxid
            opened.commit(lambda error, last=last: self.committed(last, toy, error))  # type: ignore[misc]
            if self.failed:
                return
            if opened.snapshot_due() and snapshot is None:
                snapshot = opened.snapshot(len(toy.zxids), toy.chunks(), toy.trailer)
            if snapshot is not None and entropy.random() < 0.5 and next(snapshot, self) is self:
                snapshot = None
            if entropy.random() < 0.1:
                opened.purge(3)
            self.clock.advance(entropy.choice((0, 0.0005, 0.005, 0.02)))
            if self.failed:
                return

    def committed(self, last: int, toy: Toy, error: StoreError | None) -> None:
        """Apply what is safe."""
        if error is not None:
            self.failed = True
        else:
            assert not self.failed
            self.acknowledged = max(self.acknowledged, last)
            toy.zxids += range(len(toy.zxids) + 1, last + 1)

    def crash(self) -> None:
        """Lose power."""
        for disk in {id(disk): disk for disk in (self.log_disk, self.snap_disk)}.values():
            disk.crash(self.entropy)


class CrashTests(SynchronousTestCase):
    """Many short lives on one disk."""

    def test_seeds(self) -> None:
        """Whatever a crash leaves, the store starts from it and has kept its promises."""
        written = restarts = 0
        for seed in range(SEEDS):
            world = World(seed)
            try:
                for _ in range(ROUNDS):
                    opened, toy = world.start()
                    world.live(opened, toy)
                    world.crash()
                    restarts += 1
                world.start()
            except AssertionError as e:
                raise AssertionError(f"seed {seed}: {e}") from e
            except StoreError as e:
                raise AssertionError(f"seed {seed} does not start: {e}") from e
            written += world.acknowledged
            self.assertEqual(world.clock.getDelayedCalls(), [])
        self.assertEqual(restarts, SEEDS * ROUNDS)
        self.assertGreater(written, SEEDS * 30)
