"""When a batch is flushed: at the end of the turn, later as C{flushDelay} says, or as soon as it is full."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.server.world import World
from zktwisted.edge.requests import Request
from zktwisted.testing.disk import MemoryDisk
from zktwisted.wire import jute, ops, txns

_TIMEOUT = txns.CreateSessionTxn(10000)


class FlushTests(SynchronousTestCase):
    """The core alone: internal writes, and how often the disk is flushed."""

    def world(self, **settings: int) -> tuple[World, MemoryDisk]:
        """Start a server whose clock has left the last flush far behind."""
        disk = MemoryDisk()
        world = World(disk, **settings)
        world.clock.advance(100)
        return world, disk

    def write(self, world: World) -> None:
        """Begin a session: the smallest write."""
        world.server.submit_internal(ops.CREATE_SESSION, world.server.ids.make(), jute.encode(_TIMEOUT))

    def test_turn(self) -> None:
        """All writes of one turn share a flush, and the next turn's have their own."""
        world, disk = self.world()
        before = disk.flushes
        for _ in range(2):
            for _ in range(5):
                self.write(world)
            world.turn()
        self.assertEqual(disk.flushes - before, 2)
        self.assertEqual(world.server.last_zxid, 10)

    def test_full_batch(self) -> None:
        """A batch of maxBatchSize does not wait for the end of the turn."""
        world, _ = self.world(max_batch_size=3)
        for _ in range(3):
            self.write(world)
        self.assertEqual(world.server.last_zxid, 3)
        world.turn()
        self.assertEqual(world.server.last_zxid, 3)

    def test_delay(self) -> None:
        """With flushDelay a flush waits while more comes, but not longer than that after the last one."""
        world, _ = self.world(flush_delay=100, max_write_queue_poll_time=30)
        self.write(world)
        world.turn()
        self.assertEqual(world.server.last_zxid, 1)
        applied = []
        for _ in range(6):
            self.write(world)
            world.clock.advance(0.02)
            applied.append(world.server.last_zxid)
        self.assertEqual(applied[:4], [1, 1, 1, 1])
        self.assertEqual(applied[-1], 7)

    def test_delay_without_more(self) -> None:
        """When nothing comes for maxWriteQueuePollTime the flush does not wait for the rest of flushDelay."""
        world, _ = self.world(flush_delay=1000, max_write_queue_poll_time=30)
        self.write(world)
        world.turn()
        self.write(world)
        world.turn()
        self.assertEqual(world.server.last_zxid, 1)
        world.clock.advance(0.03)
        self.assertEqual(world.server.last_zxid, 2)

    def test_broken_connection(self) -> None:
        """A connection that breaks on its replies is closed; the others get theirs, and the server goes on."""
        world, _ = self.world()
        broken, whole = _Connection(ZeroDivisionError), _Connection(None)
        for connection in (broken, whole):
            session_id = world.server.ids.make()
            world.server.submit_internal(ops.CREATE_SESSION, session_id, jute.encode(_TIMEOUT))
            world.turn()
            world.server.submit(Request(connection, session_id, 1, ops.SET_DATA, b"", (), 0.0, 10000))
        world.turn()
        self.assertEqual((broken.closed, whole.closed), (True, False))
        self.assertEqual((broken.settlements, whole.settlements), (1, 1))
        self.assertEqual(world.failures, [])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class _Connection:
    parked = False

    def __init__(self, breaks: type[Exception] | None) -> None:
        self.breaks = breaks
        self.settlements = 0
        self.closed = False

    def settled(self) -> None:
        self.settlements += 1
        if self.breaks is not None:
            raise self.breaks

    def close(self) -> None:
        self.closed = True
