"""The Sync stage by itself: what is handed on, in which order, and when no more."""

from __future__ import annotations

from random import Random

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from zktwisted.config import ServerConfig
from zktwisted.errors import StoreError
from zktwisted.server.sync import GroupCommit
from zktwisted.store.database import Database, Options
from zktwisted.store.txnlog import LogReader
from zktwisted.testing.disk import MemoryDisk
from zktwisted.wire import ops, txns


def entry(zxid: int) -> bytes:
    """The smallest transaction."""
    return txns.encode_entry(txns.TxnHeader(1, 0, zxid, 0, ops.ERROR), txns.ErrorTxn(-1))


class GroupCommitTests(SynchronousTestCase):
    """Items are numbers; each has the transaction of its number."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.disk = MemoryDisk()
        self.told: list[object] = []
        self.group = self.make()

    def make(self, **settings: int) -> GroupCommit[int]:
        self.storage = Database(self.disk, self.disk, Options(pre_alloc_size_kib=0), Random(1))
        return GroupCommit(
            self.storage,
            ServerConfig(**settings),
            self.clock.callLater,
            self.clock.seconds,
            self.take,
            self.told.append,
            released=lambda: self.told.append(("released", self.group.in_flight)),
            after_batch=lambda: self.told.append("after"),
        )

    def take(self, batch: list[int]) -> None:
        self.told.append(batch)
        if 13 in batch:
            raise ZeroDivisionError

    def add(self, *zxids: int) -> None:
        for zxid in zxids:
            self.group.add([(zxid, entry(zxid))], zxid)

    def test_batch(self) -> None:
        """One turn's items come in one batch, in order; then their count, then whoever looks after snapshots."""
        self.add(1, 2)
        self.group.join(7)
        self.add(3)
        self.assertEqual((self.told, self.group.in_flight, self.disk.flushes), ([], 4, 0))
        self.clock.advance(0)
        self.assertEqual(self.told, [[1, 2, 7, 3], ("released", 0), "after"])
        self.assertEqual(self.disk.flushes, 1)

    def test_run(self) -> None:
        """A run comes in its place, each item of it counted, also one without a transaction."""
        self.add(1)
        self.group.add_run([(2, entry(2)), (3, entry(3))], [2, 7, 3])
        self.add(4)
        self.assertEqual((self.told, self.group.in_flight, self.disk.flushes), ([], 5, 0))
        self.clock.advance(0)
        self.assertEqual(self.told, [[1, 2, 7, 3, 4], ("released", 0), "after"])
        (name,) = self.disk.names()
        self.assertEqual([zxid for zxid, _ in LogReader(name, self.disk.read(name))], [1, 2, 3, 4])
        self.assertEqual(self.disk.flushes, 1)
        self.group.stop()
        self.group.add_run([(5, entry(5))], [5])
        self.assertEqual(self.group.in_flight, 0)

    def test_one_flush_in_flight(self) -> None:
        """What comes while a flush is in flight waits for it, and shares the next one."""
        self.disk.hold = True
        self.add(1)
        self.clock.advance(0)
        self.add(2)
        self.clock.advance(0)
        self.add(3)
        self.clock.advance(0)
        self.assertEqual((self.told, self.group.in_flight), ([], 3))
        self.disk.complete()
        self.assertEqual(self.told, [[1], ("released", 2)])
        self.clock.advance(0)
        self.assertEqual(self.told, [[1], ("released", 2), "after"])
        self.disk.complete()
        self.assertEqual(self.told[3:], [[2, 3], ("released", 0), "after"])

    def test_answered_share_the_next_flush(self) -> None:
        """A flush that follows another leaves a turn to those who were just answered."""
        self.disk.hold = True
        self.add(1)
        self.clock.advance(0)
        self.add(2)
        self.disk.complete()
        self.add(3)
        self.clock.advance(0)
        self.disk.complete()
        self.assertEqual(self.told, [[1], ("released", 1), "after", [2, 3], ("released", 0), "after"])

    def test_idle(self) -> None:
        """Who waits for all to be handed on hears of it when the last one is."""
        self.assertIsNone(self.successResultOf(self.group.idle()))
        self.disk.hold = True
        self.add(1)
        idle = self.group.idle()
        self.clock.advance(0)
        self.add(2)
        self.disk.complete()
        self.assertNoResult(idle)
        self.clock.advance(0)
        self.disk.complete()
        self.successResultOf(idle)
        self.assertEqual(self.told[-1], "after")

    def test_failing_disk(self) -> None:
        """When the disk fails that is told once, and nothing is handed on any more."""
        self.disk.hold = True
        self.add(1)
        self.clock.advance(0)
        self.add(2)
        idle = self.group.idle()
        self.disk.fail_flush()
        self.disk.complete()
        self.add(3)
        self.clock.advance(0)
        self.assertEqual(len(self.told), 1)
        self.assertIsInstance(self.told[0], StoreError)
        self.successResultOf(idle)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_mistake(self) -> None:
        """What cannot be taken ends it as a failing disk does."""
        self.add(13)
        self.clock.advance(0)
        self.add(14)
        self.clock.advance(0)
        self.assertEqual(self.told[0], [13])
        self.assertEqual([type(each) for each in self.told[1:]], [ZeroDivisionError])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_stop(self) -> None:
        """A stopped one hands on nothing, logs nothing, and leaves no call behind."""
        self.disk.hold = True
        self.add(1)
        self.clock.advance(0)
        self.add(2)
        idle = self.group.idle()
        self.group.stop()
        self.group.stop()
        self.successResultOf(idle)
        self.successResultOf(self.group.idle())
        self.disk.complete()
        self.add(3)
        self.disk.hold = False
        self.storage.commit(self.told.append)
        self.assertEqual((self.told, self.storage.last_logged_zxid()), ([None], 2))
        self.group = self.make()
        self.add(4)
        self.group.stop()
        self.assertEqual((self.told, self.clock.getDelayedCalls()), ([None], []))
