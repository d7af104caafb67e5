"""The epoch files (spec: quorum 5, storage 7)."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.store.toy import database
from zktwisted.errors import StoreError
from zktwisted.store.database import Epochs
from zktwisted.testing.disk import MemoryDisk


class EpochTests(SynchronousTestCase):
    """What is read and what is refused."""

    def setUp(self) -> None:
        self.disk = MemoryDisk("/data")

    def files(self, **contents: bytes) -> None:
        self.disk.files.update({name.replace("_", "."): content for name, content in contents.items()})

    def load(self, last_zxid: int) -> Epochs:
        return self.successResultOf(Deferred.fromCoroutine(database(self.disk).epochs(last_zxid)))  # type: ignore[arg-type]

    def refused(self, last_zxid: int) -> str:
        failure = self.failureResultOf(
            Deferred.fromCoroutine(database(self.disk).epochs(last_zxid)),  # type: ignore[arg-type]
            StoreError,
        )
        return str(failure.value)

    def test_missing(self) -> None:
        """A new server, and one whose files were lost, begins with the epoch of its history, and writes it down."""
        self.assertEqual(self.load(0), Epochs(0, 0))
        self.assertEqual(self.disk.files, {"acceptedEpoch": b"0", "currentEpoch": b"0"})
        self.disk.files.clear()
        self.assertEqual(self.load(0x300000007), Epochs(3, 3))
        self.assertEqual(self.disk.files, {"acceptedEpoch": b"3", "currentEpoch": b"3"})
        self.disk.files.clear()
        self.assertEqual(self.load(-1), Epochs(0, 0))

    def test_written(self) -> None:
        """They are read as they were written, by us or by Java."""
        opened = database(self.disk)
        for name, epoch in (("acceptedEpoch", 12), ("currentEpoch", 11)):
            self.successResultOf(opened.write_epoch(name, epoch))  # type: ignore[arg-type]
        self.assertEqual(self.disk.files, {"acceptedEpoch": b"12", "currentEpoch": b"11"})
        self.assertEqual(self.load(0xB00000001), Epochs(12, 11))
        self.files(acceptedEpoch=b"12\n", currentEpoch=b"11\n")
        self.assertEqual(self.load(0), Epochs(12, 11))

    def test_no_number(self) -> None:
        """Something else is refused, with its place."""
        self.files(acceptedEpoch=b"1", currentEpoch=b"one")
        self.assertEqual(self.refused(0), "Found 'one' in /data/currentEpoch, where an epoch should be")
        self.files(acceptedEpoch=b"", currentEpoch=b"0")
        self.assertEqual(self.refused(0), "Found '' in /data/acceptedEpoch, where an epoch should be")
        self.files(acceptedEpoch=b"2147483648", currentEpoch=b"2147483647")
        self.assertEqual(self.refused(0), "Found '2147483648' in /data/acceptedEpoch, where an epoch should be")

    def test_promise_behind(self) -> None:
        """A server cannot hold the history of an epoch that it never accepted."""
        self.files(acceptedEpoch=b"4", currentEpoch=b"5")
        self.assertIn("accepted epoch, 4 is less than the current epoch, 5", self.refused(0))

    def test_history_ahead(self) -> None:
        """Transactions of an epoch that was never accepted are somebody else's."""
        self.files(acceptedEpoch=b"10", currentEpoch=b"10")
        self.assertIn("current epoch, a, is older than the last zxid, 0xb00000001", self.refused(0xB00000001))
        self.assertEqual(self.disk.files, {"acceptedEpoch": b"10", "currentEpoch": b"10"})

    def test_crash_before_epoch(self) -> None:
        """A history that was logged, and the crash before its epoch was written: as a follower of that epoch has it."""
        for left in (None, b"", b"5", b"7", b"x"):
            self.files(acceptedEpoch=b"7", currentEpoch=b"5")
            if left is not None:
                # What was about to be written may be of an earlier crash: the history may be a part of that epoch's.
                self.files(currentEpoch_tmp=left)
            loaded = self.load(0x600000003)
            self.assertEqual((loaded[:2], len(loaded.notes)), ((7, 6), 1))
            self.assertEqual(self.disk.files["currentEpoch"], b"6")

    def test_cannot_be_written(self) -> None:
        """A full disk is told, and the promise is not made."""
        self.disk.capacity = 0
        self.assertIn("No space left", self.refused(0))
        failure = self.failureResultOf(database(self.disk).write_epoch("acceptedEpoch", 1), StoreError)  # type: ignore[arg-type]
        self.assertIn("No space left", str(failure.value))
