"""Snapshots beside everything else that a server does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from random import Random

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from zktwisted.errors import StoreError
from zktwisted.server.metrics import ServerMetrics
from zktwisted.server.snapshots import SnapshotError, Snapshots
from zktwisted.store.database import Database, Options, Trailer
from zktwisted.testing import MemoryDisk


class SnapshotsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.disk = MemoryDisk()
        self.metrics = ServerMetrics()
        self.chunks = 0
        storage = Database(self.disk, self.disk, Options(), Random(1))
        self.snapshots = Snapshots(storage, self.image, self.clock.callLater, self.clock.seconds, self.metrics)

    def image(self) -> tuple[int, Iterator[bytes], Callable[[], Trailer]]:
        return 0x15, self.walk(), lambda: Trailer(None, 0x15)

    def walk(self) -> Iterator[bytes]:
        for _ in range(10):
            self.chunks += 1
            # Each takes as long as a large chunk does.
            self.clock.rightNow += 0.0006
            yield b"chunk"

    def test_slices(self) -> None:
        """Two chunks fill a slice, and between slices others have their turn."""
        done = self.snapshots.begin()
        seen = []
        for _ in range(4):
            self.clock.advance(0.001)
            seen.append(self.chunks)
        self.assertTrue(all(later - earlier <= 2 for earlier, later in pairwise(seen)), seen)
        self.assertNoResult(done)
        self.assertTrue(self.snapshots.running)
        self.clock.pump([0.001] * 10)
        self.successResultOf(done)
        self.assertFalse(self.snapshots.running)
        self.assertIn(b"chunk" * 10, self.disk.files["snapshot.15"])
        self.assertEqual(self.metrics.snapshottime.count, 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_failure(self) -> None:
        """A disk that fails is told, and leaves nothing behind that looks like a snapshot."""
        self.disk.fail_stream(3)
        done = self.snapshots.begin()
        self.clock.pump([0.001] * 20)
        self.failureResultOf(done, SnapshotError)
        self.assertFalse(self.snapshots.running)
        self.assertNotIn("snapshot.15", self.disk.files)
        self.assertEqual(self.metrics.snapshot_error_count, 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop(self) -> None:
        """One that is stopped leaves nothing behind, and the next can begin."""
        done = self.snapshots.begin()
        self.clock.pump([0.001] * 2)
        self.snapshots.stop()
        self.failureResultOf(done, CancelledError)
        self.assertEqual([name for name in self.disk.files if name.startswith("snapshot")], [])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        done = self.snapshots.begin(hurry=True)
        self.clock.pump([0] * 20)
        self.successResultOf(done)

    def test_stop_while_waiting(self) -> None:
        """One that is stopped while it waits for the disk minds nothing that the disk says afterwards."""
        for answer in (None, Failure(StoreError("given up"))):
            waiting: Deferred[None] = Deferred()

            def steps(waiting: Deferred[None] = waiting, answer: Failure | None = answer) -> Iterator[object]:
                try:
                    yield waiting
                finally:
                    waiting.callback(answer)  # type: ignore[arg-type]

            self.snapshots._storage.snapshot = lambda *_, steps=steps: steps()  # type: ignore[method-assign, misc]
            done = self.snapshots.begin(hurry=True)
            self.clock.advance(0)
            self.assertNoResult(done)
            self.snapshots.stop()
            self.failureResultOf(done, CancelledError)
            self.assertFalse(self.snapshots.running)
            self.assertIsNone(self.successResultOf(waiting))

    def test_no_image(self) -> None:
        """A tree that cannot be written fails like a disk that cannot."""
        self.snapshots._image = lambda: 1 // 0  # type: ignore[assignment]
        self.failureResultOf(self.snapshots.begin(), SnapshotError)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
