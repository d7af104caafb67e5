"""Reading the log for a learner, and giving up a history (spec: quorum 6.2, 7.1)."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.store.toy import Toy, begun, database, entry, restored, write, write_snapshot
from zktwisted.errors import StoreError
from zktwisted.store import history
from zktwisted.store.database import Database
from zktwisted.testing.disk import MemoryDisk

EPOCH = 1 << 32


def read(opened: Database, zxid: int, until: int = 1 << 62, limit: int = 0) -> list[int] | None:
    """Return the zxids that are read, or C{None} if the log does not help."""
    zxids: list[int] = []
    for batch in opened.log_from(zxid, until, limit):
        if batch is None:
            return None
        for found, data in batch:
            assert data[12:20] == found.to_bytes(8, "big")
            zxids.append(found)
    return zxids


class ReadLogTests(SynchronousTestCase):
    """What comes out."""

    def setUp(self) -> None:
        self.disk = MemoryDisk()
        self.opened, self.toy = begun(self.disk)

    def test_from_anywhere(self) -> None:
        """From the last record that the learner may have, over all files, as far as is wanted."""
        for zxid in range(1, 10):
            write(self.opened, self.toy, zxid)
            if zxid % 3 == 0:
                self.opened.roll()
        for zxid in range(1, 10):
            self.assertEqual(read(self.opened, zxid), list(range(zxid, 10)))
        self.assertEqual(read(self.opened, 2, until=7), [2, 3, 4, 5, 6, 7])
        self.assertEqual(read(self.opened, 12), [9])

    def test_begins_too_late(self) -> None:
        """Without the record that the learner has, nobody knows what it misses."""
        write(self.opened, self.toy, 5, 6, 7)
        self.assertIsNone(read(self.opened, 4))
        self.assertEqual(read(self.opened, 5), [5, 6, 7])
        self.assertIsNone(read(database(MemoryDisk()), 4))

    def test_limit(self) -> None:
        """More bytes than allowed are none."""
        write(self.opened, self.toy, *range(1, 11), payload=b"x" * 100)
        size = len(entry(1, b"x" * 100))
        self.assertEqual(read(self.opened, 7, limit=3 * size), [7, 8, 9, 10])
        self.assertIsNone(read(self.opened, 7, limit=3 * size - 1))
        self.assertEqual(read(self.opened, 7, until=9, limit=2 * size), [7, 8, 9])

    def test_limit_between_batches(self) -> None:
        """A log that is too long is not read to its end."""
        self.patch(history, "_BATCH_RECORDS", 2)
        write(self.opened, self.toy, *range(1, 100))
        batches = list(self.opened.log_from(1, 1 << 62, 5 * len(entry(1))))
        self.assertIsNone(batches[-1])
        self.assertEqual(sum(len(batch) for batch in batches[:-1] if batch), 6)

    def test_batches(self) -> None:
        """However it is cut, it is the same."""
        write(self.opened, self.toy, *range(1, 30), payload=b"x" * 50)
        for records, size in ((1, 1 << 18), (7, 1 << 18), (512, 100), (512, 1000)):
            self.patch(history, "_BATCH_RECORDS", records)
            self.patch(history, "_BATCH_BYTES", size)
            self.assertEqual(read(self.opened, 3), list(range(3, 30)))

    def test_hole_within_an_epoch(self) -> None:
        """Where this server got an image once, its log has a hole, and is of no use to who stands before it."""
        write(self.opened, self.toy, 1, 2, 3)
        self.opened.roll()
        write(self.opened, self.toy, 8, 9)
        self.assertIsNone(read(self.opened, 2))
        self.assertIsNone(read(self.opened, 5))
        self.assertEqual(read(self.opened, 8), [8, 9])

    def test_epochs(self) -> None:
        """An epoch begins with 1; what comes between two of them without a record has left a snapshot."""
        write(self.opened, self.toy, EPOCH + 1, EPOCH + 2, 2 * EPOCH + 1, 2 * EPOCH + 2)
        everything = [EPOCH + 1, EPOCH + 2, 2 * EPOCH + 1, 2 * EPOCH + 2]
        self.assertEqual(read(self.opened, EPOCH + 1), everything)
        write_snapshot(self.opened, self.toy, EPOCH + 2)
        self.assertEqual(read(self.opened, EPOCH + 1), everything)
        write_snapshot(self.opened, self.toy, EPOCH + 5)
        self.assertIsNone(read(self.opened, EPOCH + 1))
        self.assertEqual(read(self.opened, 2 * EPOCH + 1), everything[2:])
        write(self.opened, self.toy, 3 * EPOCH + 2)
        self.assertIsNone(read(self.opened, 2 * EPOCH + 1))

    def test_while_it_is_written(self) -> None:
        """The file whose header is not on disk yet, and the same record twice, are passed over."""
        write(self.opened, self.toy, 1, 2, 3)
        self.opened.roll()
        write(self.opened, self.toy, 3, 4)
        self.disk.files["log.5"] = b""
        self.assertEqual(read(self.opened, 1), [1, 2, 3, 4])

    def test_damage(self) -> None:
        """A damaged log is an error."""
        write(self.opened, self.toy, 1, 2, 3)
        content = self.disk.files["log.1"]
        self.disk.files["log.1"] = content[:40] + b"?" + content[41:]
        self.assertRaises(StoreError, read, self.opened, 1)


class SnapshotSizeTests(SynchronousTestCase):
    """The size by which it is decided whether the log is worth reading."""

    def test_newest(self) -> None:
        """It is that of the newest snapshot that is complete."""
        disk = MemoryDisk()
        opened, toy = begun(disk)
        write(opened, toy, 1, 2)
        write_snapshot(opened, toy, 2)
        disk.files["snapshot.9"] = b"incomplete"
        self.assertEqual(opened.newest_snapshot_size(), len(disk.files["snapshot.2"]))
        self.assertEqual(database(MemoryDisk()).newest_snapshot_size(), 0)


class ReplaceHistoryTests(SynchronousTestCase):
    """Another server's image takes the place of all that was here."""

    def test_only_the_image_is_left(self) -> None:
        """Neither the log before it nor what is newer comes back, and logging goes on behind it."""
        disk = MemoryDisk()
        opened, toy = begun(disk)
        write(opened, toy, 1, 2, 3)
        write_snapshot(opened, toy, 3)
        write(opened, toy, 4, 5, 6, 7)
        opened.roll()
        write(opened, toy, 8, 9)
        write_snapshot(opened, toy, 9)
        image = Toy()
        image.zxids = [1, 2, 3, 50, 60]
        write_snapshot(opened, image, 6)
        opened.replace_history(6)
        self.assertEqual((disk.names(), opened.last_snapshot_zxid), (["snapshot.6"], 6))
        write(opened, image, 7)
        _, again, result = restored(disk)
        self.assertEqual((again.zxids, result.zxid), ([1, 2, 3, 50, 60, 7], 7))
