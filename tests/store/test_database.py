"""One server's files: restoring, logging, snapshots, purging (spec: storage 1 to 4, 8)."""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from tests.store.toy import Committed, Toy, begun, database, entry, restored, write, write_snapshot
from zktwisted.errors import DataDirectoryError, StoreError
from zktwisted.store.database import NullDatabase, check_directories
from zktwisted.testing.disk import MemoryDisk


class DirectoryTests(SynchronousTestCase):
    """The checks at start."""

    def refused(self, log_disk: MemoryDisk, snap_disk: MemoryDisk, autocreate: bool = True) -> str:
        with self.assertRaises(DataDirectoryError) as caught:
            check_directories(log_disk, snap_disk, autocreate)
        return str(caught.exception)

    def test_missing(self) -> None:
        """A missing directory is created, unless that is switched off."""
        log_disk, snap_disk = MemoryDisk("/log"), MemoryDisk("/snap")
        log_disk.made = False
        self.assertIn("Missing data directory /log", self.refused(log_disk, snap_disk, False))
        check_directories(log_disk, snap_disk)
        self.assertTrue(log_disk.made)
        snap_disk.made = False
        self.assertIn("Missing snap directory /snap", self.refused(log_disk, snap_disk, False))
        snap_disk.read_only = True
        self.assertIn("Unable to create snap directory /snap", self.refused(log_disk, snap_disk))

    def test_read_only(self) -> None:
        """Both have to be writable."""
        log_disk, snap_disk = MemoryDisk("/log"), MemoryDisk("/snap")
        snap_disk.read_only = True
        self.assertIn("Cannot write to snap directory /snap", self.refused(log_disk, snap_disk))
        log_disk.read_only = True
        self.assertIn("Cannot write to data directory /log", self.refused(log_disk, snap_disk))

    def test_mixed_up(self) -> None:
        """Two directories with each other's files are a mistake in the configuration; one directory has both."""
        log_disk, snap_disk = MemoryDisk("/log"), MemoryDisk("/snap")
        log_disk.files["snapshot.0"] = b""
        self.assertIn("Log directory has snapshot files.", self.refused(log_disk, snap_disk))
        del log_disk.files["snapshot.0"]
        snap_disk.files["log.1"] = b""
        self.assertIn("Snapshot directory has log files.", self.refused(log_disk, snap_disk))
        snap_disk.files["snapshot.0"] = b""
        check_directories(snap_disk, snap_disk)


class RestoreTests(SynchronousTestCase):
    """What comes back, and when nothing may."""

    def setUp(self) -> None:
        self.disk = MemoryDisk()

    def fails(self, **options: object) -> str:
        with self.assertRaises(StoreError) as caught:
            restored(self.disk, **options)
        return str(caught.exception)

    def test_empty(self) -> None:
        """No file at all is a new database."""
        _, toy, result = restored(self.disk)
        self.assertEqual((result.zxid, result.new, result.snapshot_zxid), (0, True, None))
        self.assertEqual(toy.events, ["reset", "loaded 0"])

    def test_empty_not_expected(self) -> None:
        """With db.autocreate off the server knows that it knows nothing, unless the marker says that this is right."""
        base = MemoryDisk()
        opened = database(self.disk, autocreate=False)
        result = opened.restore(Toy())
        self.assertEqual((result.zxid, result.new), (-1, False))
        base.files["initialize"] = b""
        opened = database(self.disk, autocreate=False)
        opened._base = base
        result = opened.restore(Toy())
        self.assertEqual((result.zxid, result.new), (0, True))
        self.assertEqual(base.names(), [])
        self.assertEqual(opened.restore(Toy()).zxid, -1)

    def test_log_behind_snapshot(self) -> None:
        """The newest snapshot, and the log from there on."""
        opened, toy = begun(self.disk)
        write(opened, toy, 1, 2, 3)
        write_snapshot(opened, toy, 3)
        write(opened, toy, 4, 5)
        opened.roll()
        write(opened, toy, 6)
        self.assertEqual(self.disk.names(), ["log.1", "log.6", "snapshot.0", "snapshot.3"])
        again, other, result = restored(self.disk)
        self.assertEqual(other.zxids, [1, 2, 3, 4, 5, 6])
        self.assertEqual(other.events, ["image", "loaded 3"])
        self.assertEqual(other.digest, (3, 2, 3))
        self.assertEqual((result.zxid, result.entries, result.new), (6, 3, False))
        self.assertEqual((result.snapshot_zxid, result.snapshot_name), (3, "snapshot.3"))
        self.assertEqual(again.last_snapshot_zxid, 3)
        self.assertEqual(again.last_logged_zxid(), 6)
        self.assertEqual(result.notes, [])

    def test_never_appends_to_an_old_log(self) -> None:
        """After a restart a new log is begun."""
        opened, toy = begun(self.disk)
        write(opened, toy, 1)
        opened, toy, _ = restored(self.disk)
        write(opened, toy, 2)
        self.assertEqual(self.disk.names(), ["log.1", "log.2", "snapshot.0"])

    def test_file_name_wins(self) -> None:
        """The snapshot's name says where the replay begins, whatever it says inside."""
        opened, toy = begun(self.disk)
        write(opened, toy, 1, 2, 3)
        write_snapshot(opened, toy, 3)
        self.disk.files["snapshot.1"] = self.disk.files.pop("snapshot.3")
        _, other, result = restored(self.disk)
        self.assertEqual(other.zxids, [1, 2, 3, 2, 3])
        self.assertEqual((result.zxid, result.entries), (3, 2))

    def test_older_snapshot(self) -> None:
        """A snapshot that is broken is passed over, loudly; one that is incomplete too."""
        for damage in ("flip", "short", "empty", "refuse"):
            self.disk = MemoryDisk()
            opened, toy = begun(self.disk)
            write(opened, toy, 1, 2, 3)
            write_snapshot(opened, toy, 3)
            data = self.disk.files["snapshot.3"]
            self.disk.files["snapshot.3"] = {
                "flip": data[:30] + b"!" + data[31:],
                "short": data[:-13],
                "empty": b"",
                "refuse": data[:16] + b"\x7f" + data[17:],
            }[damage]
            _, other, result = restored(self.disk)
            self.assertEqual(other.zxids, [1, 2, 3], damage)
            self.assertEqual(result.snapshot_zxid, 0)
            self.assertTrue(any("snapshot.3" in note.text for note in result.notes))

    def test_no_good_snapshot(self) -> None:
        """If there are candidates and none can be read, there is no start."""
        begun(self.disk)
        data = self.disk.files["snapshot.0"]
        self.disk.files["snapshot.0"] = b"XXXX" + data[4:]
        self.assertIn("Not able to find valid snapshots in memory", self.fails())

    def test_logs_alone(self) -> None:
        """Logs without a snapshot are refused, unless they are said to be enough."""
        opened, toy = begun(self.disk)
        write(opened, toy, 1, 2)
        self.disk.files["snapshot.0"] = b""
        self.assertIn("No snapshot found, but there are log entries.", self.fails())
        _, other, result = restored(self.disk, trust_empty=True)
        self.assertEqual((other.zxids, result.zxid, result.new), ([1, 2], 2, False))

    def test_empty_newest_log(self) -> None:
        """A newest log of no bytes is deleted; an older one is damage."""
        opened, toy = begun(self.disk)
        write(opened, toy, 1)
        self.disk.files["log.2"] = b""
        _, other, result = restored(self.disk)
        self.assertEqual((other.zxids, self.disk.names()), ([1], ["log.1", "snapshot.0"]))
        self.assertEqual(len(result.notes), 1)
        opened, toy, _ = restored(self.disk)
        write(opened, toy, 2)
        self.disk.files["log.1"] = b""
        self.assertIn("log.1 has 0 bytes", self.fails())

    def test_short_newest_log(self) -> None:
        """A newest log with part of a header was not left by a crash."""
        begun(self.disk)
        self.disk.files["log.1"] = b"ZKLG"
        self.assertIn("log.1 has 4 bytes", self.fails())

    def test_out_of_order(self) -> None:
        """A zxid that falls is an error to report, and is applied."""
        opened, toy = begun(self.disk)
        write(opened, toy, 1, 3, 2)
        _, other, result = restored(self.disk)
        self.assertEqual((other.zxids, result.zxid), ([1, 3, 2], 3))
        self.assertIn("zxid 0x2 comes after 0x3", result.notes[0].text)

    def test_torn_place_is_reported(self) -> None:
        """Records that a damaged one hides are skipped, and reported."""
        opened, toy = begun(self.disk)
        write(opened, toy, 1, 2, 3)
        data = bytearray(self.disk.files["log.1"])
        data[16 + 2 * (13 + len(entry(1))) - 1] = 0
        self.disk.files["log.1"] = bytes(data)
        _, other, result = restored(self.disk)
        self.assertEqual(other.zxids, [1])
        self.assertTrue(result.notes[0].error)

    def test_entry_refused(self) -> None:
        """An entry that nobody understands stops the start, and is named."""
        opened, toy = begun(self.disk)
        write(opened, toy, 0x11)
        toy.refuse_entry = True
        with self.assertRaises(StoreError) as caught:
            opened.restore(toy)
        self.assertIn("log.11: zxid 0x11", str(caught.exception))

    def test_leftovers(self) -> None:
        """A snapshot that was being written when the server died is removed."""
        begun(self.disk)
        self.disk.files["partial.snapshot.5"] = b"some"
        restored(self.disk)
        self.assertEqual(self.disk.names(), ["snapshot.0"])

    def test_committed_window(self) -> None:
        """The last transactions replayed are kept for servers that fell behind."""
        opened, toy = begun(self.disk)
        write(opened, toy, *range(1, 11))
        opened, _, _ = restored(self.disk, commit_log_count=3)
        self.assertEqual([zxid for zxid, _ in opened.committed], [8, 9, 10])
        self.assertEqual(opened.committed[0][1], entry(8))
        opened, _, _ = restored(self.disk, commit_log_count=0)
        self.assertEqual(len(opened.committed), 0)


class TriggerTests(SynchronousTestCase):
    """When a snapshot is due."""

    def test_count(self) -> None:
        """After half of snapCount to snapCount transactions, by chance, and then anew."""
        seen = set()
        for seed in range(50):
            opened = database(MemoryDisk(), seed=seed, snap_count=100)
            toy, zxid = Toy(), 0
            for _ in range(3):
                begin = zxid
                while not opened.snapshot_due():
                    zxid += 1
                    write(opened, toy, zxid)
                seen.add(zxid - begin)
        self.assertTrue(51 <= min(seen) < 60 and 90 < max(seen) <= 100, seen)

    def test_minimum(self) -> None:
        """The least snapCount is 2."""
        for count in (-5, 0, 1, 2):
            opened = database(MemoryDisk(), snap_count=count)
            write(opened, Toy(), 1, 2)
            self.assertTrue(opened.snapshot_due())
            self.assertFalse(opened.snapshot_due())

    def test_size(self) -> None:
        """The padded size of the log counts too; 0 or less switches that off."""
        for limit, due in ((16, True), (40, False), (0, False), (-1, False)):
            opened = database(MemoryDisk(), snap_size_limit_kib=limit, pre_alloc_size_kib=16)
            write(opened, Toy(), 1)
            self.assertEqual(opened.snapshot_due(), due, limit)

    def test_rolls(self) -> None:
        """The log is rolled, so that an older snapshot's log can go one day."""
        disk = MemoryDisk()
        opened, toy = begun(disk, snap_count=2)
        write(opened, toy, 1, 2)
        self.assertTrue(opened.snapshot_due())
        write(opened, toy, 3)
        self.assertEqual(disk.names(), ["log.1", "log.3", "snapshot.0"])

    def test_log_size_limit(self) -> None:
        """txnLogSizeLimitInKb rolls the log, and does not keep snapCount from being reached."""
        disk = MemoryDisk()
        opened = database(disk, txn_log_size_limit_kib=1, pre_alloc_size_kib=0, snap_count=8)
        toy = Toy()
        for zxid in range(1, 5):
            write(opened, toy, zxid, payload=b"x" * 1024)
        self.assertEqual(disk.names(), ["log.1", "log.2", "log.3", "log.4"])
        while not opened.snapshot_due():
            zxid += 1
            write(opened, toy, zxid, payload=b"x" * 1024)
        self.assertTrue(4 < zxid <= 8)


class SnapshotTests(SynchronousTestCase):
    """Writing snapshots."""

    def test_one_at_a_time(self) -> None:
        """A second one is refused while the first is being written."""
        opened, toy = begun(MemoryDisk())
        first = opened.snapshot(1, toy.chunks(), toy.trailer)
        next(first)
        self.assertTrue(opened.snapshotting)
        self.assertRaises(StoreError, next, opened.snapshot(2, toy.chunks(), toy.trailer))
        for _ in first:
            pass
        self.assertFalse(opened.snapshotting)
        self.assertEqual(opened.last_snapshot_zxid, 1)

    def test_given_up(self) -> None:
        """One that is closed early leaves nothing, and the next one may begin."""
        disk = MemoryDisk()
        opened, toy = begun(disk)
        first = opened.snapshot(1, toy.chunks(), toy.trailer)
        next(first)
        first.close()
        self.assertEqual(disk.names(), ["snapshot.0"])
        self.assertFalse(opened.snapshotting)
        write_snapshot(opened, toy, 2)
        self.assertEqual(disk.names(), ["snapshot.0", "snapshot.2"])

    def test_failure(self) -> None:
        """A failed write comes out as a failed awaitable."""
        disk = MemoryDisk()
        opened, toy = begun(disk)
        disk.fail_stream(2)
        steps = opened.snapshot(1, toy.chunks(), toy.trailer)
        outcomes = [next(steps), next(steps)]
        self.assertIsNone(outcomes[0])
        self.failureResultOf(outcomes[1], StoreError)  # type: ignore[arg-type]
        steps.close()
        self.assertEqual((disk.names(), opened.snapshotting, opened.last_snapshot_zxid), (["snapshot.0"], False, 0))

    def test_compressed(self) -> None:
        """Each method is written and read."""
        for method, name in (("gz", "snapshot.2.gz"), ("snappy", "snapshot.2.snappy"), ("", "snapshot.2")):
            disk = MemoryDisk()
            opened, toy = begun(disk, compression_method=method)
            write(opened, toy, 1, 2)
            write_snapshot(opened, toy, 2)
            self.assertIn(name, disk.files)
            _, other, result = restored(disk)
            self.assertEqual((other.zxids, result.snapshot_name), ([1, 2], name))


class TruncateTests(SynchronousTestCase):
    """Forgetting transactions."""

    def history(self) -> tuple[MemoryDisk, Toy]:
        disk = MemoryDisk()
        opened, toy = begun(disk)
        write(opened, toy, 2, 4)
        write_snapshot(opened, toy, 4)
        opened.roll()
        write(opened, toy, 6, 8)
        opened.roll()
        write(opened, toy, 10)
        write_snapshot(opened, toy, 10)
        return disk, toy

    def test_every_target(self) -> None:
        """Exactly the transactions up to the target remain, whether one has that zxid or not."""
        for target, left in (
            (2, [2]),
            (3, [2]),
            (4, [2, 4]),
            (5, [2, 4]),
            (7, [2, 4, 6]),
            (8, [2, 4, 6, 8]),
            (10, [2, 4, 6, 8, 10]),
        ):
            disk, _ = self.history()
            database(disk).truncate(target)
            opened, toy, result = restored(disk)
            self.assertEqual((toy.zxids, result.zxid), (left, left[-1]), target)
            self.assertEqual(opened.last_logged_zxid(), left[-1])
            write(opened, toy, 20)
            _, toy, _ = restored(disk)
            self.assertEqual(toy.zxids, [*left, 20])

    def test_before_everything(self) -> None:
        """A target before the first record leaves the first snapshot."""
        disk, _ = self.history()
        database(disk).truncate(1)
        _, toy, result = restored(disk)
        self.assertEqual((toy.zxids, result.zxid, disk.names()), ([], 0, ["snapshot.0"]))

    def test_impossible(self) -> None:
        """A target beyond what was logged cannot be truncated to."""
        disk, _ = self.history()
        self.assertRaises(StoreError, database(disk).truncate, 11)
        self.assertRaises(StoreError, database(MemoryDisk()).truncate, 1)

    def test_no_snapshot_left(self) -> None:
        """Where only a snapshot behind the target has the history, nothing is touched: it would be lost."""
        disk, toy = self.history()
        for name in ("snapshot.0", "snapshot.4"):
            del disk.files[name]
        before = dict(disk.files)
        with self.assertRaises(StoreError) as caught:
            database(disk).truncate(8)
        self.assertIn("No snapshot to truncate to! zxid 0x8", str(caught.exception))
        self.assertEqual(disk.files, before)
        _, again, _ = restored(disk)
        self.assertEqual(again.zxids, toy.zxids)

    def test_in_a_running_server(self) -> None:
        """A server cuts, restores and goes on without a new start."""
        disk, _ = self.history()
        opened, toy, _ = restored(disk)
        write(opened, toy, 12, 14)
        opened.truncate(12)
        result = opened.restore(toy)
        self.assertEqual((toy.zxids, result.zxid), ([2, 4, 6, 8, 10, 12], 12))
        self.assertEqual([zxid for zxid, _ in opened.committed], [12])
        write(opened, toy, 13)
        _, toy, _ = restored(disk)
        self.assertEqual(toy.zxids, [2, 4, 6, 8, 10, 12, 13])


class PurgeTests(SynchronousTestCase):
    """Throwing old files away."""

    def test_keeps(self) -> None:
        """The newest snapshots stay, and every log that one of them may need."""
        disk = MemoryDisk()
        opened, toy = begun(disk)
        for zxid in range(1, 13):
            write(opened, toy, zxid)
            if zxid % 2 == 0:
                write_snapshot(opened, toy, zxid)
            if zxid % 3 == 0:
                opened.roll()
        self.assertEqual(
            [name for name in disk.names() if name.startswith("log")], ["log.1", "log.4", "log.7", "log.a"]
        )
        disk.files["snapshot.c0"] = b"incomplete"
        disk.files["snapshot.zz"] = b""
        gone = opened.purge(3)
        self.assertEqual(
            gone, ["snapshot.0", "snapshot.2", "snapshot.4", "snapshot.6", "snapshot.zz", "log.1", "log.4"]
        )
        self.assertEqual(disk.names(), ["log.7", "log.a", "snapshot.8", "snapshot.a", "snapshot.c", "snapshot.c0"])
        self.assertEqual(opened.purge(3), [])
        for name in ("snapshot.a", "snapshot.c"):
            del disk.files[name]
        _, other, _ = restored(disk)
        self.assertEqual(other.zxids, toy.zxids)

    def test_two_directories(self) -> None:
        """Logs and snapshots may be apart."""
        log_disk, snap_disk = MemoryDisk("log"), MemoryDisk("snap")
        opened, toy = database(log_disk, snap_disk), Toy()
        opened.restore(toy)
        for zxid in range(1, 6):
            write(opened, toy, zxid)
            write_snapshot(opened, toy, zxid)
            opened.roll()
        opened.purge(3)
        self.assertEqual(
            (log_disk.names(), snap_disk.names()),
            (["log.3", "log.4", "log.5"], ["snapshot.3", "snapshot.4", "snapshot.5"]),
        )

    def test_nothing_to_keep(self) -> None:
        """Without a good snapshot nothing is touched, and fewer than three are refused."""
        disk = MemoryDisk()
        disk.files["snapshot.1"] = b""
        disk.files["log.1"] = b""
        opened = database(disk)
        self.assertEqual(opened.purge(3), [])
        self.assertEqual(len(disk.files), 2)
        with self.assertRaises(StoreError) as caught:
            opened.purge(2)
        self.assertIn("count should be greater than or equal to 3", str(caught.exception))


class FailureTests(SynchronousTestCase):
    """A disk that fails."""

    def test_for_good(self) -> None:
        """After a failed flush every commit fails: nobody is told that something is safe when it may not be."""
        disk = MemoryDisk()
        opened, toy = begun(disk)
        self.assertEqual(write(opened, toy, 1), [None])
        disk.fail_flush()
        for zxid in (2, 3):
            (error,) = write(opened, toy, zxid)
            self.assertIsInstance(error, StoreError)
        disk.crash(Random(1))
        _, other, _ = restored(disk)
        self.assertEqual(other.zxids[:1], [1])

    def test_full(self) -> None:
        """A full disk is the same; with room again, a restart has everything that was acknowledged."""
        disk = MemoryDisk(capacity=9000)
        opened, toy = begun(disk)
        acknowledged = []
        for zxid in range(1, 100):
            (error,) = write(opened, toy, zxid, payload=b"x" * 500)
            if error is not None:
                self.assertIn("No space left on device", str(error))
                break
            acknowledged.append(zxid)
        self.assertTrue(5 < len(acknowledged) < 20)
        disk.crash(Random(2))
        disk.capacity = None
        _, other, _ = restored(disk)
        self.assertEqual(other.zxids[: len(acknowledged)], acknowledged)


class NullDatabaseTests(SynchronousTestCase):
    """The store without files."""

    def test_everything(self) -> None:
        """It begins empty, commits at once and never wants anything."""
        opened, toy, committed = NullDatabase(), Toy(), Committed()
        result = opened.restore(toy)
        self.assertEqual((result.zxid, result.new, toy.events), (0, False, ["reset", "loaded 0"]))
        opened.append([(1, entry(1))])
        opened.commit(committed)
        opened.roll()
        self.assertEqual(committed.results, [None])
        self.assertFalse(opened.snapshot_due())
        self.assertEqual(list(opened.snapshot(1, toy.chunks(), toy.trailer)), [])
        self.assertEqual(opened.purge(3), [])
