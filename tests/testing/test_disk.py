"""The disk in memory: its faults are exactly those it was told to have."""

from __future__ import annotations

from random import Random

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.store.toy import Committed
from zktwisted.errors import StoreError
from zktwisted.store import snapshot
from zktwisted.testing.disk import MemoryDisk


class FlushTests(SynchronousTestCase):
    """When data is durable."""

    def setUp(self) -> None:
        self.done = Committed()

    def queue(self, disk: MemoryDisk, name: str = "a") -> None:
        disk.create(name, b"head")
        disk.extend(name, 10)
        disk.append(name, b"one")
        disk.append(name, b"two")

    def test_at_once(self) -> None:
        """Without a clock a flush is over when it returns; the padding stays behind the data."""
        disk = MemoryDisk()
        self.queue(disk)
        self.assertEqual(disk.names(), [])
        disk.flush(self.done)
        self.assertEqual((disk.files, self.done.results), ({"a": b"headonetwo"}, [None]))
        disk.append("a", b"!")
        disk.extend("a", 13)
        disk.close("a")
        disk.flush(self.done)
        self.assertEqual(disk.read("a"), b"headonetwo!\0\0")

    def test_held(self) -> None:
        """On hold a flush is over when the test says so; the next one has all that came meanwhile."""
        disk = MemoryDisk(hold=True)
        self.queue(disk)
        disk.flush(self.done)
        disk.flush(self.done)
        disk.append("a", b"later")
        disk.flush(self.done)
        self.assertTrue(disk.in_flight)
        disk.complete()
        self.assertEqual((self.done.results, disk.flushes), ([None, None], 2))
        self.assertEqual(disk.files["a"], b"headonetwo")
        disk.complete()
        self.assertEqual(self.done.results, [None] * 3)
        self.assertFalse(disk.in_flight)

    def test_clock(self) -> None:
        """With a clock it takes its time, and notes when a file was written."""
        clock = Clock()
        disk = MemoryDisk(clock=clock, latency=0.5)
        self.queue(disk)
        disk.flush(self.done)
        clock.advance(0.4)
        self.assertEqual(self.done.results, [])
        clock.advance(0.1)
        self.assertEqual(self.done.results, [None])
        self.assertEqual(disk.mtime_ms("a"), 500)
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_slow_files(self) -> None:
        """By the clock a small file and the end of a large one take their time too, in their order."""
        clock, latencies = Clock(), iter([3.0, 1.0, 0.0])
        disk = MemoryDisk(clock=clock, file_latency=lambda: next(latencies))
        first, stream = disk.write_atomic("a", b"1"), disk.stream("b")
        stream.write(b"2")
        second: Deferred[None] = stream.finish()  # type: ignore[assignment]
        self.assertEqual(disk.names(), [])
        clock.advance(1)
        self.assertEqual(disk.files, {"a": b"1"})
        self.successResultOf(first)
        self.assertNoResult(second)
        clock.advance(2)
        self.successResultOf(second)
        self.successResultOf(disk.write_atomic("a", b"3"))
        self.assertEqual(disk.files, {"a": b"3", "b": b"2"})
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_file_that_fails(self) -> None:
        """The small file that was told to fail keeps what it had; later ones are well."""
        disk = MemoryDisk()
        disk.fail_write(2)
        self.successResultOf(disk.write_atomic("a", b"1"))
        self.failureResultOf(disk.write_atomic("a", b"2"), StoreError)
        self.assertEqual(disk.files, {"a": b"1"})
        self.successResultOf(disk.write_atomic("a", b"3"))

    def test_nothing_to_do(self) -> None:
        """A flush of nothing is over at once."""
        MemoryDisk(hold=True).flush(self.done)
        self.assertEqual(self.done.results, [None])

    def test_failure_is_for_good(self) -> None:
        """The flush that was told to fail fails, with it everything that waits, and everything later."""
        disk = MemoryDisk(hold=True)
        disk.fail_flush(2)
        self.queue(disk)
        disk.flush(self.done)
        disk.complete()
        disk.append("a", b"x")
        disk.flush(self.done)
        disk.append("a", b"y")
        disk.flush(self.done)
        disk.complete()
        disk.append("a", b"z")
        disk.flush(self.done)
        self.assertEqual([type(error) for error in self.done.results], [type(None)] + [StoreError] * 3)

    def test_full(self) -> None:
        """What does not fit fails, in a flush, in a stream and in a small file."""
        disk = MemoryDisk(capacity=5)
        self.queue(disk)
        disk.flush(self.done)
        self.assertIn("No space left", str(self.done.results[0]))
        self.failureResultOf(disk.write_atomic("b", b"123456"), StoreError)
        stream = disk.stream("c")
        self.assertIsNone(stream.write(b"12345"))
        self.failureResultOf(stream.write(b"6"), StoreError)  # type: ignore[arg-type]
        self.failureResultOf(stream.finish(), StoreError)  # type: ignore[arg-type]
        self.assertEqual(disk.names(), [])


class CrashTests(SynchronousTestCase):
    """What a crash leaves."""

    def test_every_fate(self) -> None:
        """What was flushed is there; of the rest nothing, everything, or a beginning torn at any byte."""
        seen = set()
        for seed in range(300):
            disk, done = MemoryDisk(hold=True), Committed()
            disk.create("a", b"head")
            disk.append("a", b"safe")
            disk.flush(done)
            disk.complete()
            disk.append("a", b"12345")
            disk.flush(done)
            disk.append("a", b"678")
            disk.crash(Random(seed))
            left = disk.files["a"]
            self.assertTrue(b"headsafe12345678".startswith(left) and left.startswith(b"headsafe"))
            self.assertEqual(done.results, [None])
            seen.add(left[8:])
        self.assertEqual(seen, {b"12345678"[:size] for size in range(9)})

    def test_beginning(self) -> None:
        """The beginning of a new file is there whole or not at all."""
        seen = set()
        for seed in range(100):
            disk = MemoryDisk(hold=True)
            disk.create("a", b"head")
            disk.flush(Committed())
            disk.crash(Random(seed))
            seen.add(disk.files.get("a"))
        self.assertEqual(seen, {None, b"", b"head"})

    def test_small_files(self) -> None:
        """Files that are being replaced have the new content or the old one, the earlier replaced first."""
        seen = set()
        for seed in range(50):
            clock = Clock()
            disk = MemoryDisk(clock=clock, file_latency=1)
            disk.files["a"] = b"0"
            results = [disk.write_atomic("a", b"1"), disk.write_atomic("b", b"2")]
            disk.crash(Random(seed))
            clock.advance(5)
            for result in results:
                self.assertNoResult(result)
            seen.add((disk.files["a"], disk.files.get("b")))
        self.assertEqual(seen, {(b"0", None), (b"1", None), (b"1", b"2")})

    def test_on_change(self) -> None:
        """Who wants to is told of each change that is durable."""
        disk, told = MemoryDisk(hold=True), []
        disk.on_change = lambda: told.append(sorted(disk.files.items()))
        disk.create("a", b"1")
        disk.flush(Committed())
        self.assertEqual(told, [])
        disk.complete()
        self.successResultOf(disk.write_atomic("b", b"22"))
        disk.truncate("b", 1)
        disk.remove("a")
        self.assertEqual(told, [[("a", b"1")], [("a", b"1"), ("b", b"22")], [("a", b"1"), ("b", b"2")], [("b", b"2")]])

    def test_successor(self) -> None:
        """The next process finds what was durable, and the last one changes nothing of it any more."""
        disk = MemoryDisk(hold=True)
        self.successResultOf(disk.write_atomic("a", b"1"))
        disk.crash(Random(1))
        after = disk.successor()
        self.successResultOf(disk.write_atomic("a", b"2"))
        self.assertEqual((after.files, after.hold, after.path), ({"a": b"1"}, True, disk.path))

    def test_well_again(self) -> None:
        """After a crash the disk works, and nobody hears of what was under way."""
        clock, done = Clock(), Committed()
        disk = MemoryDisk(clock=clock, latency=1)
        disk.fail_flush()
        disk.create("a", b"head")
        disk.flush(done)
        disk.crash(Random(1))
        self.assertEqual((clock.getDelayedCalls(), done.results), ([], []))
        disk.create("b", b"head")
        disk.flush(done)
        clock.advance(1)
        self.assertEqual(done.results, [None])

    def test_streams(self) -> None:
        """An unfinished stream leaves part of a file that is no snapshot, or nothing."""
        seen = set()
        for seed in range(50):
            disk = MemoryDisk()
            stream = disk.stream("snapshot.1")
            stream.write(b"12")
            whole = disk.stream("snapshot.0")
            whole.finish()
            disk.crash(Random(seed))
            self.assertEqual(snapshot.snapshot_files(disk.names()), [(0, "snapshot.0")])
            self.failureResultOf(stream.write(b"x"), StoreError)  # type: ignore[arg-type]
            seen.add(disk.files.get("partial.snapshot.1"))
        self.assertEqual(seen, {None, b"", b"1", b"12"})


class FileTests(SynchronousTestCase):
    """What acts at once."""

    def test_files(self) -> None:
        """Small files are replaced, cut and deleted; a missing one is a StoreError, but may be deleted."""
        disk = MemoryDisk()
        self.successResultOf(disk.write_atomic("a", b"one"))
        self.successResultOf(disk.write_atomic("a", b"three"))
        disk.truncate("a", 2)
        self.assertEqual((disk.read("a"), disk.size("a"), disk.mtime_ms("a")), (b"th", 2, 0))
        disk.discard(["a", "b"])
        disk.remove("c")
        for ask in (disk.read, disk.size, disk.mtime_ms):
            self.assertRaises(StoreError, ask, "a")

    def test_stream(self) -> None:
        """A stream's file appears when it is finished, compressed if asked for; an aborted one never."""
        disk = MemoryDisk()
        for name, method in (("plain", ""), ("zipped", "gz")):
            stream = disk.stream(name, snapshot.compressor(method))
            stream.write(b"one")
            stream.write(b"two")
            self.assertNotIn(name, disk.files)
            self.successResultOf(stream.finish())  # type: ignore[arg-type]
        self.assertEqual(disk.files["plain"], b"onetwo")
        self.assertEqual(disk.files["zipped"][:2], b"\x1f\x8b")
        stream = disk.stream("gone")
        stream.write(b"x")
        stream.abort()
        self.assertEqual(disk.names(), ["plain", "zipped"])
