"""
A directory of the real file system.

Most tests run the disk's threads by hand; those that use real threads wait for them on a queue, never by the clock.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from mmap import mmap
from pathlib import Path
from queue import Queue
from random import Random

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.store import golden
from tests.store.toy import Committed, Toy, write
from zktwisted.edge.disk import PosixDisk
from zktwisted.errors import StoreError
from zktwisted.store import snapshot
from zktwisted.store.database import Database, Options
from zktwisted.store.txnlog import TxnLog, log_files


@implementer(IReactorFromThreads)
class Inbox:
    """The reactor's side of threads: what they report waits here until it is asked for."""

    def __init__(self) -> None:
        self.calls: Queue[Callable[[], object]] = Queue()

    def callFromThread(
        self, function: Callable[..., object], *args: object, **kwargs: object
    ) -> None:  # Twisted's name
        self.calls.put(lambda: function(*args, **kwargs))

    def getThreadPool(self) -> None:
        """There is none: every disk has its own."""

    def suggestThreadPoolSize(self, size: int) -> None:
        """There is none."""

    def take(self) -> None:
        """Wait for one report and hand it over."""
        self.calls.get(timeout=30)()

    def take_all(self) -> None:
        """Hand over what is there."""
        while not self.calls.empty():
            self.take()


class ByHand:
    """A pool whose work is done when the test says so, in the test's thread."""

    def __init__(self) -> None:
        self.work: list[Callable[[], object]] = []
        self.running = False

    def start(self) -> None:
        self.running = True

    def stop(self) -> None:
        self.running = False

    def callInThread(self, func: Callable[..., object], *args: object) -> None:  # Twisted's name
        self.work.append(lambda: func(*args))

    def perform(self) -> None:
        """Do the oldest piece of work."""
        self.work.pop(0)()


class DiskCase(SynchronousTestCase):
    """A directory of its own for each test."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.path.mkdir(parents=True)
        self.inbox = Inbox()
        self.pools: dict[str, ByHand] = {}
        self.done = Committed()

    def by_hand(self, **options: object) -> PosixDisk:
        """Open the directory with threads that run by hand."""

        def pool(name: str) -> ByHand:
            return self.pools.setdefault(name.split(" ")[0], ByHand())

        disk = PosixDisk(self.inbox, str(self.path), make_pool=pool, **options)  # type: ignore[arg-type]
        self.addCleanup(disk.stop)
        return disk

    def threaded(self, **options: object) -> PosixDisk:
        """Open the directory with its real threads."""
        disk = PosixDisk(self.inbox, str(self.path), **options)  # type: ignore[arg-type]
        self.addCleanup(disk.stop)
        return disk

    def turn(self, which: str = "disk") -> None:
        """Let a thread by hand do one piece of work and report it."""
        self.pools[which].perform()
        self.inbox.take_all()

    def events(self) -> list[LogEvent]:
        """Collect what is logged."""
        events: list[LogEvent] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        return events


class FlushTests(DiskCase):
    """Batches on their way to the medium."""

    def test_one_in_flight(self) -> None:
        """While a flush is in flight all that comes is the next batch; its callbacks come with that."""
        disk = self.by_hand()
        disk.create("log.1", b"head")
        disk.append("log.1", b"1")
        disk.flush(self.done)
        disk.flush(self.done)
        for data in (b"2", b"3", b"4"):
            disk.append("log.1", data)
            disk.flush(self.done)
        self.assertEqual(len(self.pools["disk"].work), 1)
        self.turn()
        self.assertEqual(self.done.results, [None, None])
        self.assertEqual((self.path / "log.1").read_bytes(), b"head1")
        self.assertEqual(len(self.pools["disk"].work), 1)
        self.turn()
        self.assertEqual(self.done.results, [None] * 5)
        self.assertEqual((self.path / "log.1").read_bytes(), b"head1234")
        self.assertEqual(self.pools["disk"].work, [])

    def test_unasked(self) -> None:
        """What nobody asked to be durable stays in memory."""
        disk = self.by_hand()
        disk.create("log.1", b"head")
        disk.flush(self.done)
        disk.append("log.1", b"1")
        self.turn()
        self.assertEqual((self.done.results, self.pools["disk"].work), ([None], []))
        disk.flush(self.done)
        self.turn()
        self.assertEqual((self.path / "log.1").read_bytes(), b"head1")

    def test_nothing_to_do(self) -> None:
        """A flush of nothing is over at once, and starts no thread."""
        self.by_hand().flush(self.done)
        self.assertEqual((self.done.results, self.pools), ([None], {}))

    def test_two_files(self) -> None:
        """A rolled file's rest and the next file go together."""
        disk = self.by_hand()
        log = TxnLog(disk, 4)
        for zxid in (1, 2):
            log.append([(zxid, bytes(12) + zxid.to_bytes(8, "big") + bytes(12))])
            log.roll()
        log.commit(self.done)
        self.turn()
        self.assertEqual([name for _, name in log_files(disk.names())], ["log.1", "log.2"])
        self.assertEqual(disk._files, {})

    def test_sparse(self) -> None:
        """Preallocated space takes no room on the medium."""
        disk = self.by_hand()
        log = TxnLog(disk)
        log.append([(1, bytes(32))])
        log.commit(self.done)
        self.turn()
        status = (self.path / "log.1").stat()
        self.assertEqual(status.st_size, 67_108_880)
        self.assertLess(status.st_blocks * 512, 1 << 20)

    def test_callback_that_fails(self) -> None:
        """A callback's own error does not keep the others from being told."""
        disk = self.by_hand()
        disk.create("log.1", b"head")

        def broken(error: StoreError | None) -> None:
            raise RuntimeError("mine")

        disk.flush(broken)
        disk.flush(self.done)
        self.turn()
        self.assertEqual(self.done.results, [None])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_flags(self) -> None:
        """Writes are durable when they return, unless forceSync is off."""
        flags = os.O_DSYNC
        for force, expected in ((True, flags), (False, 0)):
            opened: list[int] = []
            real = os.open

            def spy(
                path: str, mode: int, *rest: int, real: Callable[..., int] = real, opened: list[int] = opened
            ) -> int:
                opened.append(mode)
                return real(path, mode, *rest)

            self.patch(os, "open", spy)
            disk = self.by_hand(force_sync=force)
            disk.create("log.1", b"head")
            disk.flush(self.done)
            self.turn()
            self.patch(os, "open", real)
            self.assertEqual([mode & flags for mode in opened if mode & os.O_CREAT], [expected])
            self.assertEqual(len([mode for mode in opened if mode & os.O_DIRECTORY == os.O_DIRECTORY]), int(force))


class FailureTests(DiskCase):
    """A disk that cannot write."""

    def test_for_good(self) -> None:
        """After a failed write everything that waits fails, and everything later, without another try."""
        disk = self.by_hand()
        events = self.events()
        (self.path / "log.1").mkdir()
        disk.create("log.1", b"head")
        disk.flush(self.done)
        disk.append("log.1", b"1")
        disk.flush(self.done)
        self.turn()
        self.assertEqual([str(error) for error in self.done.results], [f"{self.path}/log.1: Is a directory"] * 2)
        disk.append("log.1", b"2")
        disk.flush(self.done)
        self.assertEqual(len(self.done.results), 3)
        self.assertIs(self.done.results[2], self.done.results[0])
        self.assertEqual(self.pools["disk"].work, [])
        self.assertEqual(len([event for event in events if event["log_level"].name == "critical"]), 1)

    def test_full(self) -> None:
        """A full disk fails the flush; with room again everything acknowledged is there."""
        room = 4096
        real = os.write

        def limited(fd: int, data: bytes) -> int:
            nonlocal room
            if not room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            written = real(fd, data[:room])
            room -= written
            return written

        disk = self.by_hand()
        opened, toy = Database(disk, disk, Options(pre_alloc_size_kib=0), Random(1)), Toy()
        opened.restore(toy)
        self.finish(opened, toy)
        self.patch(os, "write", limited)
        results: list[StoreError | None] = []
        for zxid in range(1, 20):
            results_of_one = write(opened, toy, zxid, payload=b"x" * 500)
            if self.pools["disk"].work:
                self.turn()
            results += results_of_one
        self.patch(os, "write", real)
        acknowledged = results.count(None)
        self.assertTrue(0 < acknowledged < 19)
        self.assertIn("No space left on device", str(results[-1]))
        toy = Toy()
        Database(disk, disk, Options(), Random(1)).restore(toy)
        self.assertEqual(toy.zxids[:acknowledged], list(range(1, acknowledged + 1)))

    def finish(self, opened: Database, toy: Toy) -> None:
        for _ in opened.snapshot(0, toy.chunks(), toy.trailer):
            while self.pools["bulk"].work:
                self.turn("bulk")

    def test_unexpected(self) -> None:
        """Any other exception in the thread fails the flush too."""
        disk = self.by_hand()
        disk.append("log.1", b"never created")
        disk.flush(self.done)
        self.turn()
        self.assertIsInstance(self.done.results[0], StoreError)


class SyncTimeTests(DiskCase):
    """How long syncs take."""

    def test_slow(self) -> None:
        """A sync over the threshold is counted and warned of; all are told to who asks."""
        times = iter((0.0, 0.5, 10.0, 11.25))
        told: list[float] = []
        events = self.events()
        disk = self.by_hand(monotonic=lambda: next(times), on_sync=told.append)
        for _ in range(2):
            disk.create("log.1", b"head")
            disk.append("log.1", b"1")
            disk.flush(self.done)
            self.turn()
        self.assertEqual((told, disk.slow_syncs), ([0.5, 1.25], 1))
        (warning,) = [event for event in events if event["log_level"].name == "warn"]
        self.assertEqual((warning["milliseconds"], warning["size"]), (1250, 5))

    def test_not_asked_for(self) -> None:
        """With forceSync off there are no syncs to be slow."""
        told: list[float] = []
        disk = self.by_hand(force_sync=False, on_sync=told.append, sync_warning_ms=-1)
        disk.create("log.1", b"head")
        disk.append("log.1", b"1")
        disk.flush(self.done)
        self.turn()
        self.assertEqual((told, disk.slow_syncs, self.done.results), ([], 0, [None]))


class StreamTests(DiskCase):
    """Large files."""

    def test_appears_when_complete(self) -> None:
        """Until it is complete it has a name that nobody takes for a snapshot."""
        disk = self.by_hand()
        stream = disk.stream("snapshot.1")
        self.assertIsNone(stream.write(b"one"))
        self.turn("bulk")
        self.assertEqual(disk.names(), ["partial.snapshot.1"])
        self.assertEqual(snapshot.snapshot_files(disk.names()), [])
        stream.write(b"two")
        finished = stream.finish()
        self.turn("bulk")
        self.assertNoResult(finished)
        self.turn("bulk")
        self.successResultOf(finished)
        self.assertEqual((disk.names(), disk.read("snapshot.1")), (["snapshot.1"], b"onetwo"))

    def test_back_pressure(self) -> None:
        """Who writes faster than the disk is told to wait; memory is bounded."""
        disk = self.by_hand()
        stream = disk.stream("snapshot.1")
        chunk = bytes(100_000)
        written = 0
        while (wait := stream.write(chunk)) is None:
            written += len(chunk)
        self.assertLess(written, 1 << 21)
        self.assertNoResult(wait)
        while not wait.called:
            self.turn("bulk")
        self.successResultOf(wait)
        self.assertIsNone(stream.write(chunk))
        finished = stream.finish()
        while self.pools["bulk"].work:
            self.turn("bulk")
        self.successResultOf(finished)
        self.assertEqual(disk.size("snapshot.1"), written + 2 * len(chunk))

    def test_does_not_delay_flushes(self) -> None:
        """It has a thread of its own."""
        disk = self.by_hand()
        disk.stream("snapshot.1").write(b"x")
        disk.create("log.1", b"head")
        disk.flush(self.done)
        self.turn("disk")
        self.assertEqual(self.done.results, [None])
        self.assertEqual(len(self.pools["bulk"].work), 1)

    def test_compressed(self) -> None:
        """Compression happens in the thread."""
        disk = self.by_hand()
        stream = disk.stream("snapshot.1.gz", snapshot.compressor("gz"))
        stream.write(b"some text" * 1000)
        finished = stream.finish()
        while self.pools["bulk"].work:
            self.turn("bulk")
        self.successResultOf(finished)
        self.assertLess(disk.size("snapshot.1.gz"), 200)
        self.assertEqual(snapshot.open_image(disk, "snapshot.1.gz"), b"some text" * 1000)

    def test_aborted(self) -> None:
        """One that is given up leaves nothing, whenever that is."""
        for steps in range(4):
            disk = self.by_hand()
            stream = disk.stream("snapshot.1")
            stream.write(b"one")
            finished: Deferred[None] | None = None
            if steps > 0:
                self.turn("bulk")
            if steps > 1:
                stream.write(b"two")
            if steps > 2:
                finished = stream.finish()
            stream.abort()
            stream.abort()
            while self.pools["bulk"].work:
                self.turn("bulk")
            self.assertEqual(disk.names(), [])
            if finished is not None:
                self.failureResultOf(finished, StoreError)
            self.failureResultOf(stream.write(b"more"), StoreError)  # type: ignore[arg-type]
            self.failureResultOf(stream.finish(), StoreError)

    def test_failure(self) -> None:
        """A failed write fails what waits and what comes, and leaves nothing."""
        disk = self.by_hand()
        (self.path / "partial.snapshot.1").mkdir()
        stream = disk.stream("snapshot.1")
        stream.write(b"one")
        finished = stream.finish()
        self.turn("bulk")
        self.failureResultOf(finished, StoreError)
        self.failureResultOf(stream.write(b"two"), StoreError)  # type: ignore[arg-type]
        stream.abort()
        self.turn("bulk")
        self.assertEqual(disk.names(), ["partial.snapshot.1"])


class FileTests(DiskCase):
    """What acts at once, and small files."""

    def test_directory(self) -> None:
        """It can be missing, made, and listed."""
        disk = PosixDisk(self.inbox, str(self.path / "a" / "b"))
        self.assertFalse(disk.exists())
        self.assertRaises(StoreError, disk.names)
        disk.make()
        disk.make()
        self.assertEqual((disk.exists(), disk.writable(), disk.names()), (True, True, []))
        (self.path / "file").write_bytes(b"")
        self.assertRaises(StoreError, PosixDisk(self.inbox, str(self.path / "file" / "b")).make)

    def test_read(self) -> None:
        """A small file is read, a large one mapped; slices of both are bytes."""
        disk = self.by_hand()
        (self.path / "empty").write_bytes(b"")
        (self.path / "small").write_bytes(b"small")
        (self.path / "large").write_bytes(b"large" * 20_000)
        self.assertEqual((disk.read("empty"), disk.read("small")), (b"", b"small"))
        large = disk.read("large")
        self.assertIsInstance(large, mmap)
        self.assertEqual((len(large), large[5:10]), (100_000, b"large"))
        self.assertEqual(disk.size("large"), 100_000)
        self.assertEqual(disk.mtime_ms("large"), (self.path / "large").stat().st_mtime_ns // 1_000_000)

    def test_missing(self) -> None:
        """A missing file is a StoreError that names it, but may be removed."""
        disk = self.by_hand()
        for ask in (disk.read, disk.size, disk.mtime_ms, lambda name: disk.truncate(name, 0)):
            with self.assertRaises(StoreError) as caught:
                ask("nothing")
            self.assertIn(f"{self.path}/nothing: No such file or directory", str(caught.exception))
        disk.remove("nothing")

    def test_truncate_and_remove(self) -> None:
        """Files are cut and deleted."""
        disk = self.by_hand()
        (self.path / "a").write_bytes(b"12345")
        disk.truncate("a", 2)
        self.assertEqual(disk.read("a"), b"12")
        disk.remove("a")
        self.assertEqual(disk.names(), [])

    def test_discard(self) -> None:
        """Files go in the background; one that cannot is warned of and forgotten."""
        disk = self.by_hand()
        events = self.events()
        (self.path / "a").write_bytes(b"")
        (self.path / "b").mkdir()
        disk.discard([])
        self.assertEqual(self.pools, {})
        disk.discard(["a", "b", "c"])
        self.turn("bulk")
        self.assertEqual(disk.names(), ["b"])
        self.assertEqual(len([event for event in events if event["log_level"].name == "warn"]), 2)

    def test_write_atomic(self) -> None:
        """A small file is replaced whole, or not at all."""
        disk = self.by_hand()
        for data in (b"1", b"two"):
            written = disk.write_atomic("currentEpoch", data)
            self.turn()
            self.successResultOf(written)
            self.assertEqual((disk.read("currentEpoch"), disk.names()), (data, ["currentEpoch"]))
        (self.path / "other").mkdir()
        written = disk.write_atomic("other", b"x")
        self.turn()
        self.failureResultOf(written, StoreError)


class ThreadTests(DiskCase):
    """With real threads."""

    def test_database(self) -> None:
        """Writes and snapshots of two lives are there in the third."""
        expected: list[int] = []
        for life in range(3):
            disk = self.threaded()
            opened, toy = Database(disk, disk, Options(pre_alloc_size_kib=4), Random(1)), Toy()
            result = opened.restore(toy)
            self.assertEqual(toy.zxids, expected)
            self.assertEqual((result.new, result.notes), (life == 0, []))
            if result.new:
                self.snapshot(opened, toy, 0)
            for zxid in range(life * 100 + 1, life * 100 + 51):
                results = write(opened, toy, zxid)
                while not results:
                    self.inbox.take()
                self.assertEqual(results, [None])
            self.snapshot(opened, toy, toy.zxids[-1])
            results = write(opened, toy, *range(life * 100 + 51, life * 100 + 60))
            while not results:
                self.inbox.take()
            expected = toy.zxids
            disk.stop()
        self.assertEqual(len([name for name in os.listdir(self.path) if name.startswith("snapshot.")]), 4)

    def snapshot(self, opened: Database, toy: Toy, zxid: int) -> None:
        for wait in opened.snapshot(zxid, toy.chunks(), toy.trailer):
            if wait is not None:
                assert isinstance(wait, Deferred)
                while not wait.called:
                    self.inbox.take()
                self.successResultOf(wait)

    def test_recorded_directory(self) -> None:
        """A directory that ZooKeeper left is read from a real file system as from memory."""
        directory = golden.STORAGE / "standalone-3.9.5-2"
        self.path = golden.laid_out(directory, self.path)
        disk = self.threaded()
        self.assertEqual({name: disk.read(name)[:] for name in disk.names()}, golden.files(directory))

    def test_stop_waits(self) -> None:
        """Stopping waits for what is on its way, and no thread stays behind."""
        disk = self.threaded()
        disk.create("log.1", b"head")
        disk.flush(self.done)
        stream = disk.stream("snapshot.1")
        stream.write(b"x" * 100_000)
        disk.stop()
        self.assertEqual((self.path / "log.1").read_bytes(), b"head")
        self.assertEqual((self.path / "partial.snapshot.1").stat().st_size, 100_000)
        self.inbox.take_all()
        self.assertEqual(self.done.results, [None])
        stream.abort()
        disk.create("log.2", b"head")
        disk.flush(self.done)
        self.assertIsInstance(self.done.results[1], StoreError)
        self.assertNotIn("log.2", disk.names())
