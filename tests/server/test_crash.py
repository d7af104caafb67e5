"""
A server on disks that crash: what was acknowledged is there afterwards, and nothing is there by halves.

The stories are L{tests.server.crashing}'s; one that ends badly tells its seed, which tells the same story again.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from tests.server.crashing import Life, MakeDisk, Story, Wrong
from zktwisted.server.core import ZooKeeperServer
from zktwisted.store.database import Database
from zktwisted.store.disk import Done
from zktwisted.testing import MemoryDisk
from zktwisted.wire import ops, proto, txns

_SEEDS_EACH = 60


class CrashTests(SynchronousTestCase):
    """Three hundred stories of four or five lives each."""

    def tell(self, first: int) -> None:
        acknowledged = snapshots = 0
        for seed in range(first, first + _SEEDS_EACH):
            story = Story(seed)
            try:
                story.live()
            except Exception as error:
                raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
            acknowledged += len(story.acknowledged)
            snapshots += story.snapshots
        # That something happened in them.
        self.assertGreater(acknowledged, 50 * _SEEDS_EACH)
        self.assertGreater(snapshots, 0)

    def test_seeds_0(self) -> None:
        """The first stories end well."""
        self.tell(0)

    def test_seeds_1(self) -> None:
        """So do others."""
        self.tell(1000)

    def test_seeds_2(self) -> None:
        """So do others."""
        self.tell(2000)

    def test_seeds_3(self) -> None:
        """So do others."""
        self.tell(3000)

    def test_seeds_4(self) -> None:
        """So do others."""
        self.tell(4000)

    def test_same_story(self) -> None:
        """A seed tells the same story each time."""
        stories = [Story(5), Story(5)]
        for story in stories:
            story.live()
        self.assertEqual(stories[0].acknowledged, stories[1].acknowledged)
        self.assertEqual(stories[0].log_disk.files, stories[1].log_disk.files)


class HastyDisk(MemoryDisk):
    """Says that a flush is done when it begins."""

    def flush(self, done: Done) -> None:
        super().flush(lambda error: None)
        done(None)


class ForgetfulDisk(MemoryDisk):
    """Loses the end of the newest log in a crash, flushed or not."""

    def crash(self, entropy: Random) -> None:
        super().crash(entropy)
        logs = sorted((int(name[4:], 16), name) for name in self.files if name.startswith("log."))
        if logs:
            name = logs[-1][1]
            self.files[name] = self.files[name].rstrip(b"\0")[:-20]


class PlantedTests(SynchronousTestCase):
    """The stories bite: each of these mistakes is found, soon."""

    def find(self, make_disk: MakeDisk = MemoryDisk) -> str:
        for seed in range(40):
            try:
                Story(seed, make_disk).live()
            except Wrong as wrong:
                return str(wrong)
        self.fail("forty stories ended well that should not have")

    def test_acknowledged_before_the_flush(self) -> None:
        """A server that does not wait for its disk."""
        self.assertIn("clients were shown a zxid that is gone", self.find(HastyDisk))

    def test_lost_record(self) -> None:
        """A disk that loses the last record, although it was flushed."""
        self.assertIn("clients were shown a zxid that is gone", self.find(ForgetfulDisk))

    def test_half_a_multi(self) -> None:
        """A multi of which the part before the failure is carried out."""
        self.patch(txns, "is_failed", lambda operations: False)
        self.find()

    def test_snapshot_that_claims_too_much(self) -> None:
        """A snapshot named after a transaction that is prepared and not yet applied."""
        begin = ZooKeeperServer.snapshot_image

        def ahead(server: ZooKeeperServer) -> object:
            return (server.prepare.zxid, *begin(server)[1:])

        self.patch(ZooKeeperServer, "snapshot_image", ahead)
        self.find()

    def test_log_purged_too_soon(self) -> None:
        """A purge that leaves only the newest log, though older snapshots need older ones."""
        purge = Database.purge

        def greedy(database: Database, keep: int) -> list[str]:
            gone = purge(database, keep)
            disk = database._log_disk
            logs = sorted((name for name in disk.names() if name.startswith("log.")), key=lambda n: int(n[4:], 16))
            disk.discard(logs[:-1])
            return gone + logs[:-1]

        self.patch(Database, "purge", greedy)
        self.find()


class PendingTests(SynchronousTestCase):
    """What goes on between a request and its flush."""

    def test_close_beside_a_successor(self) -> None:
        """A session that closes leaves alone what another has put in place of its node."""
        disk = MemoryDisk(hold=True)
        life = Life(disk, disk, 0, Random(1))
        life.begin()
        first, second = life.endpoint.connect(), life.endpoint.connect()
        life.settle()
        mine = proto.CreateRequest(b"/master", b"1", proto.OPEN_ACL, 1)
        first.send(ops.CREATE, mine)
        life.settle()
        second.send(ops.DELETE, proto.DeleteRequest(b"/master", -1))
        second.send(ops.CREATE, mine._replace(data=b"2"))
        first.send(ops.CLOSE_SESSION)
        life.settle()
        self.assertEqual([reply.err for reply in second.replies], [0, 0])
        self.assertTrue(first.closed)
        self.assertEqual(life.core.tree.nodes[b"/master"].owner, second.session_id)
