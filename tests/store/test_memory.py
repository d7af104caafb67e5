"""The store that lives as long as the process."""

from __future__ import annotations

from random import Random

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.store.toy import Toy, write, write_snapshot
from zktwisted.errors import StoreError
from zktwisted.store.database import Options
from zktwisted.store.memory import MemoryDatabase, MemoryDirectory


def opened(**options: object) -> tuple[MemoryDatabase, Toy]:
    """Open a new one and write its first snapshot."""
    made = MemoryDatabase(Options(**options), Random(1))  # type: ignore[arg-type]
    toy = Toy()
    result = made.restore(toy)
    assert result.new and result.zxid == 0
    write_snapshot(made, toy, 0)
    return made, toy


class MemoryDatabaseTests(SynchronousTestCase):
    """A member of an ensemble needs the same of it as of files."""

    def test_history(self) -> None:
        """It restores, cuts, reads its log and keeps its epochs."""
        made, toy = opened(compression_method="gz")
        self.assertEqual(write(made, toy, 1, 2, 3, 4), [None])
        again = Toy()
        self.assertEqual((made.restore(again).zxid, again.zxids), (4, [1, 2, 3, 4]))
        self.assertEqual([zxid for zxid, _ in made.committed], [1, 2, 3, 4])
        self.assertEqual(made.last_logged_zxid(), 4)
        self.assertEqual([[zxid for zxid, _ in batch or []] for batch in made.log_from(2, 3, 0)], [[2, 3]])
        made.truncate(3)
        self.assertEqual((made.restore(again).zxid, again.zxids), (3, [1, 2, 3]))
        self.assertRaises(StoreError, made.truncate, 4)
        self.successResultOf(Deferred.fromCoroutine(self.keep_epochs(made)))

    async def keep_epochs(self, made: MemoryDatabase) -> None:
        self.assertEqual((await made.epochs(0))[:2], (0, 0))
        await made.write_epoch("acceptedEpoch", 3)
        self.assertEqual((await made.epochs(0))[:2], (3, 0))

    def test_forgets(self) -> None:
        """A snapshot takes the place of what came before it, so that memory does not fill up."""
        made, toy = opened()
        for zxid in range(1, 30):
            write(made, toy, zxid)
            if zxid % 5 == 0:
                made.roll()
                write_snapshot(made, toy, zxid)
        self.assertEqual(made._directory.names(), ["log.15", "log.1a", "snapshot.19"])
        again = Toy()
        made.restore(again)
        self.assertEqual(again.zxids, list(range(1, 30)))
        self.assertGreater(made.newest_snapshot_size(), 25 * 8)

    def test_replace(self) -> None:
        """An image takes its place as well."""
        made, toy = opened()
        write(made, toy, 1, 2, 3)
        image = Toy()
        image.zxids = [7]
        write_snapshot(made, image, 2)
        made.replace_history(2)
        again = Toy()
        self.assertEqual((made.restore(again).zxid, again.zxids), (2, [7]))

    def test_directory(self) -> None:
        """The directory does what a disk does."""
        directory = MemoryDirectory()
        directory.make()
        self.assertTrue(directory.exists() and directory.writable())
        directory.create("a", b"begin")
        directory.append("a", b" end")
        directory.extend("a", 100)
        directory.close("a")
        self.assertEqual((directory.size("a"), directory.mtime_ms("a"), directory.read("a")), (9, 0, b"begin end"))
        directory.truncate("a", 5)
        self.assertEqual(directory.read("a"), b"begin")
        stream = directory.stream("b")
        stream.write(b"x")
        stream.abort()
        directory.discard(["a", "nothing"])
        self.assertEqual(directory.names(), [])
        self.assertRaises(StoreError, directory.read, "a")
        done: list[StoreError | None] = []
        directory.flush(done.append)
        self.assertEqual(done, [None])
