"""Snapshots beside writes, restarts, and disks that fail: each promise by itself, where test_crash mixes them all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.server.crashing import Life, check_tree, small_steps
from tests.server.model import nodes_of
from zktwisted.errors import DataDirectoryError, StoreError
from zktwisted.server.snapshots import SnapshotError
from zktwisted.store import snapshot, txnlog
from zktwisted.store.database import Trailer
from zktwisted.testing import MemoryClient, MemoryDisk
from zktwisted.tree import image
from zktwisted.wire import ops, proto
from zktwisted.wire.proto import ACL, Id

_EPHEMERAL, _SEQUENTIAL = 1, 2
_LOCAL = (ACL(31, Id("ip", "127.0.0.1")),)


def create(path: bytes, data: bytes = b"", flags: int = 0, acl: tuple[ACL, ...] = proto.OPEN_ACL) -> tuple[int, Any]:
    return ops.CREATE, proto.CreateRequest(path, data, acl, flags)


def set_data(path: bytes, data: bytes) -> tuple[int, Any]:
    return ops.SET_DATA, proto.SetDataRequest(path, data, -1)


def delete(path: bytes) -> tuple[int, Any]:
    return ops.DELETE, proto.DeleteRequest(path, -1)


def copy_of(disk: MemoryDisk, *, without: tuple[str, ...] = ()) -> MemoryDisk:
    made = MemoryDisk(disk.path)
    made.files = {name: data for name, data in disk.files.items() if name not in without}
    return made


class DurabilityTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.disk = MemoryDisk("/data/version-2")
        self.at = 0.0
        self.lines: list[str] = []
        globalLogPublisher.addObserver(self.observe)
        self.addCleanup(globalLogPublisher.removeObserver, self.observe)

    def observe(self, event: Any) -> None:
        """Keep what an operator has to read."""
        if event.get("log_level", LogLevel.info) >= LogLevel.warn:
            self.lines.append(str(event["log_format"]).format(**event))

    def start(self, *disks: MemoryDisk, serving: bool = True, **settings: Any) -> Life:
        self.at += 1.0
        log_disk, snap_disk = disks * 2 if len(disks) == 1 else disks or (self.disk, self.disk)
        life = Life(log_disk, snap_disk, self.at, Random(1), **settings)
        if serving:
            life.begin()
        return life

    def client(self, life: Life, session: MemoryClient | None = None) -> MemoryClient:
        client = life.endpoint.connect(10_000, session)
        life.settle()
        self.assertNotEqual(client.session_id, 0)
        return client

    def ask(self, life: Life, client: MemoryClient, *requests: tuple[int, Any]) -> None:
        for op, request in requests:
            client.send(op, request)
        life.settle()
        self.assertEqual(client.sent, [])
        self.assertEqual([reply.err for reply in client.replies], [0] * len(client.replies))

    def state(self, life: Life) -> tuple[object, ...]:
        """Return all that a restart has to bring back."""
        check_tree(life.core)
        own = {path: node.data for path, node in life.core.tree.nodes.items() if path.startswith(b"/zookeeper")}
        return life.core.last_zxid, nodes_of(life.core.tree), own, dict(life.core.timeouts)


class FuzzyTests(DurabilityTestCase):
    """A snapshot written while the tree changes, and the log, make the tree; whenever in its writing it changed."""

    def prepare(self, life: Life) -> tuple[MemoryClient, MemoryClient]:
        first, second = self.client(life), self.client(life)
        self.ask(life, first, *(create(b"/%s" % name, b"old") for name in (b"a", b"b", b"c")))
        self.ask(life, first, *(create(b"/%s/n" % name, b"old") for name in (b"a", b"b", b"c")))
        self.ask(life, first, create(b"/b/e", b"1", _EPHEMERAL), create(b"/b/n/deep", b"old"))
        return first, second

    def write_during(self, change: Callable[[MemoryClient, MemoryClient], None]) -> None:
        """Carry out the change at each step of a snapshot; see what that snapshot and the log come to."""
        steps = 0
        step = -1
        while step < steps:
            step += 1
            self.disk = disk = MemoryDisk()
            with small_steps(1):
                life = self.start()
                first, second = self.prepare(life)
                run: Any = life.service._run
                zxid = life.core.last_zxid
                life.service._run._storage.roll()  # type: ignore[union-attr]
                run._snapshot()
                for _ in range(step):
                    life.turn()
                change(first, second)
                steps = step
                while run._snapshots.running:
                    life.turn()
                    steps += 1
                life.settle()
                wanted = self.state(life)
            for name in ("snapshot.0", f"snapshot.{zxid:x}"):
                # By the fuzzy snapshot alone, and by the whole log alone.
                others = tuple(each for each in disk.files if each.startswith("snapshot.") and each != name)
                self.assertEqual(self.state(self.start(copy_of(disk, without=others))), wanted, (step, name))
            self.assertEqual(self.lines, [])
        self.assertGreater(step, 8)

    def test_successor_of_an_ephemeral(self) -> None:
        """A node goes with its session, and another session makes it anew."""

        def change(first: MemoryClient, second: MemoryClient) -> None:
            first.send(ops.CLOSE_SESSION)
            second.send(*create(b"/b/e", b"2", _EPHEMERAL))

        self.write_during(change)

    def test_new_family(self) -> None:
        """A node is deleted with its children, and made anew with others."""

        def change(first: MemoryClient, second: MemoryClient) -> None:
            for path in (b"/b/n/deep", b"/b/n", b"/b/e", b"/b"):
                first.send(*delete(path))
            for path in (b"/b", b"/b/m", b"/b/n", b"/b/n/deep", b"/b/n/deep/er"):
                second.send(*create(path, b"new"))

        self.write_during(change)

    def test_multi_across_the_tree(self) -> None:
        """A multi changes what has been written and what has not."""

        def change(first: MemoryClient, second: MemoryClient) -> None:
            moved = [delete(b"/a/n"), create(b"/c/from-a", b"x"), set_data(b"/c", b"new"), set_data(b"/a", b"new")]
            first.send(ops.MULTI, moved)
            second.send(ops.MULTI, [create(b"/a/n", b"again"), delete(b"/c/n"), create(b"/c/n/no", b"")])

        self.write_during(change)

    def test_sequence(self) -> None:
        """A number that was given to a node is not given again when that node is gone."""

        def change(first: MemoryClient, second: MemoryClient) -> None:
            for _ in range(3):
                first.send(*create(b"/b/q-", b"", _SEQUENTIAL))
            second.send(*delete(b"/b/q-0000000004"))
            second.send(*delete(b"/b/q-0000000003"))

        self.write_during(change)

    def test_acls(self) -> None:
        """Nodes get ACL lists that the snapshot's table does not have, and give up ones that it has."""

        def change(first: MemoryClient, second: MemoryClient) -> None:
            first.send(*create(b"/a/local", b"", 0, _LOCAL))
            for index, path in enumerate((b"/b", b"/b/n", b"/c")):
                acl = (*proto.OPEN_ACL, ACL(1, Id("ip", f"10.0.0.{index}")))
                second.send(ops.SET_ACL, proto.SetACLRequest(path, acl, -1))
            second.send(ops.SET_ACL, proto.SetACLRequest(b"/c", _LOCAL, -1))

        self.write_during(change)

    def test_quota(self) -> None:
        """What is counted for a quota is what is there."""

        def change(first: MemoryClient, second: MemoryClient) -> None:
            for path, data in (
                (b"/zookeeper/quota/b", b""),
                (b"/zookeeper/quota/b/zookeeper_limits", b"count=100,bytes=-1"),
                (b"/zookeeper/quota/b/zookeeper_stats", b"count=0,bytes=0"),
                (b"/b/more", b"four"),
            ):
                first.send(*create(path, data))
            second.send(*set_data(b"/b/n", b"longer than before"))
            second.send(*delete(b"/b/n/deep"))

        self.write_during(change)

    def test_sessions(self) -> None:
        """Sessions begin and end."""

        def change(first: MemoryClient, second: MemoryClient) -> None:
            first.send(*create(b"/a/e", b"", _EPHEMERAL))
            first.send(ops.CLOSE_SESSION)
            second.send(*create(b"/b/f", b"", _EPHEMERAL))

        self.write_during(change)


class RestartTests(DurabilityTestCase):
    def test_many_restarts(self) -> None:
        """A server starts on what it left as often as one likes, and does not fill the disk when it purges."""
        settings = {"autopurge_purge_interval_ms": 1000, "snap_count": 10}
        wanted: tuple[object, ...] | None = None
        for turn in range(40):
            life = self.start(**settings)
            if wanted is not None:
                self.assertEqual(self.state(life), wanted)
            if turn % 3:
                client = self.client(life)
                path = b"/turn%d" % turn
                self.ask(life, client, create(path), *(set_data(path, b"%d" % n) for n in range(turn % 11)))
                client.send(ops.CLOSE_SESSION)
            life.settle()
            wanted = self.state(life)
            if turn % 4:
                life.stop()
            else:
                self.disk.crash(Random(turn))
        snapshots = [name for name in self.disk.files if name.startswith("snapshot.")]
        self.assertEqual(sorted(self.disk.files), sorted(snapshots + [n for n in self.disk.files if n[:4] == "log."]))
        self.assertLess(len(snapshots), 8)
        self.assertLess(len(self.disk.files), 20)

    def test_purge_keeps_enough(self) -> None:
        """With all but the oldest of the snapshots that a purge leaves damaged, nothing is lost."""
        life = self.start(snap_count=6)
        client = self.client(life)
        for number in range(60):
            self.ask(life, client, create(b"/n%d" % number))
        wanted = self.state(life)
        gone = life.service._run._storage.purge(3)  # type: ignore[union-attr]
        self.assertGreater(len(gone), 4)
        left = [name for _, name in snapshot.snapshot_files(self.disk.names())]
        self.assertEqual(len(left), 3)
        for name in left[:2]:
            self.disk.files[name] = self.disk.files[name][:40] + b"\xff" + self.disk.files[name][41:]
        self.assertEqual(self.state(self.start()), wanted)
        self.assertEqual(len(self.lines), 2)

    def test_two_directories(self) -> None:
        """With a dataLogDir, logs are there and snapshots in dataDir, and both are needed."""
        logs, snapshots = MemoryDisk("/log/version-2"), MemoryDisk("/data/version-2")
        life = self.start(logs, snapshots)
        self.ask(life, self.client(life), create(b"/a"), set_data(b"/a", b"x"))
        wanted = self.state(life)
        life.stop()
        self.assertEqual([name[:4] for name in logs.names()], ["log."])
        self.assertEqual([name[:4] for name in snapshots.names()], ["snap"])
        self.assertEqual(self.state(self.start(logs, snapshots)), wanted)
        life = self.start(snapshots, logs, serving=False)
        life.turn()
        self.assertIsInstance(life.failure, DataDirectoryError)
        self.assertIn("Log directory has snapshot files", str(life.failure))

    def test_digest_mismatch(self) -> None:
        """A tree that is not what the log says is told and counted, and served."""
        life = self.start()
        self.ask(life, self.client(life), create(b"/a", b"x"), create(b"/b"), create(b"/c"))
        life.stop()
        (name,) = [name for name in self.disk.files if name.startswith("log.")]
        entries = list(txnlog.LogReader(name, self.disk.files[name]))
        entries = [(zxid, entry.replace(b"\0\0\0\1x", b"\0\0\0\1y")) for zxid, entry in entries]
        self.disk.files[name] = txnlog.HEADER + txnlog.frame(entries)
        life = self.start()
        self.assertEqual(life.core.tree.nodes[b"/a"].data, b"y")
        self.assertEqual(life.core.metrics.digest_mismatches_count, 3)
        self.assertEqual(len([line for line in self.lines if "digest" in line]), 1, self.lines)
        self.ask(life, self.client(life), create(b"/d"))

    def test_clock_set_back(self) -> None:
        """A new session does not get the id of one that is still there."""
        life = self.start()
        before = self.client(life)
        self.ask(life, before, create(b"/e", b"", _EPHEMERAL))
        self.disk.crash(Random(1))
        self.at = 0.0
        after = self.client(life := self.start())
        self.assertNotEqual(after.session_id, before.session_id)
        self.assertEqual(len(life.core.timeouts), 2)


class SlowDisk(MemoryDisk):
    """Lets a snapshot be complete when the test says so, and notes what happens in which order."""

    def __init__(self) -> None:
        super().__init__()
        self.history: list[str] = []
        self.waiting: list[Deferred[None]] = []

    def create(self, name: str, data: bytes) -> None:
        self.history.append(name)
        super().create(name, data)

    def write_atomic(self, name: str, data: bytes) -> Deferred[None]:
        self.history.append(f"{name} begins")
        done: Deferred[None] = Deferred()
        self.waiting.append(done)

        def written(_: None) -> None:
            self.history.append(name)
            self.files[name] = data

        return done.addCallback(written)


class FirstSnapshotTests(DurabilityTestCase):
    def until_it_waits(self, disk: SlowDisk) -> Life:
        life = self.start(disk, serving=False)
        for _ in range(20):
            life.turn()
        self.assertEqual(life.mode, "starting")
        early = life.endpoint.connect()
        self.assertTrue(early.closed)
        return life

    def test_new_directory(self) -> None:
        """Before snapshot.0 is durable nobody is served and nothing is logged."""
        disk = SlowDisk()
        life = self.until_it_waits(disk)
        self.assertEqual(disk.history, ["snapshot.0 begins"])
        disk.waiting.pop().callback(None)
        life.begin()
        self.client(life)
        self.assertEqual(disk.history, ["snapshot.0 begins", "snapshot.0", "log.1"])

    def with_dead_ephemerals(self) -> SlowDisk:
        """Make the directory of a server whose sessions got lost."""
        life = self.start()
        client = self.client(life)
        self.ask(life, client, create(b"/a"), create(b"/a/e", b"", _EPHEMERAL), create(b"/f", b"", _EPHEMERAL))
        zxid = life.core.last_zxid
        disk = SlowDisk()
        chunks: Iterator[bytes] = image.chunks(life.core.tree, {})
        disk.files[f"snapshot.{zxid:x}"] = b"".join(snapshot.encode(chunks, lambda: Trailer(None, zxid)))
        return disk

    def test_dead_ephemerals(self) -> None:
        """Nodes of sessions that do not exist are gone, also from the disk, before anybody is served."""
        disk = self.with_dead_ephemerals()
        (name,) = disk.files
        before = disk.files[name]
        life = self.until_it_waits(disk)
        disk.waiting.pop().callback(None)
        life.begin()
        self.assertNotEqual(disk.files[name], before)
        self.assertEqual(list(nodes_of(life.core.tree)), [b"", b"/a"])
        self.ask(life, self.client(life), set_data(b"/a", b"x"))
        wanted = self.state(life)
        disk.crash(Random(1))
        self.assertEqual(self.state(self.start(copy_of(disk))), wanted)

    def test_dead_ephemerals_on_a_bad_disk(self) -> None:
        """If that snapshot cannot be written, the server does not start, and nothing has changed."""
        disk = self.with_dead_ephemerals()
        files = dict(disk.files)
        life = self.until_it_waits(disk)
        disk.waiting.pop().errback(StoreError("Input/output error"))
        life.turn()
        self.assertEqual(life.mode, "failed")
        self.assertIsInstance(life.failure, SnapshotError)
        self.assertEqual(disk.files, files)
        self.assertEqual(len(self.lines), 1, self.lines)


class FailingDiskTests(DurabilityTestCase):
    """The server stops before it acknowledges, says so in one line, and starts again with nothing lost."""

    def fail_with(self, sabotage: Callable[[Life], None], reason: str, **settings: Any) -> Life:
        self.disk.hold = True
        life = self.start(**settings)
        clients = [self.client(life) for _ in range(3)]
        for client in clients:
            self.ask(life, client, create(b"/%x" % client.session_id, b"acknowledged"))
        wanted = self.state(life)
        told = [list(client.replies) for client in clients]
        sabotage(life)
        for _ in range(5):
            for client in clients:
                client.send(*set_data(b"/%x" % client.session_id, b"not acknowledged"))
                client.send(ops.GET_DATA, proto.PathWatchRequest(b"/%x" % client.session_id, False))
                client.send(*create(b"/new-", b"", _SEQUENTIAL))
            life.turn()
        life.flushed()
        for _ in range(10):
            life.turn()
        self.assertEqual(life.mode, "failed")
        self.assertIn(reason, str(life.failure))
        self.assertTrue(all(client.closed for client in clients))
        self.assertEqual([client.replies for client in clients], told)
        self.assertEqual(len(self.lines), 1, self.lines)
        self.assertIn(reason, self.lines[0])
        self.assertEqual(self.state(life), wanted)
        life.stop()
        self.assertEqual(len(self.lines), 1, self.lines)
        self.disk.capacity = None
        self.disk.crash(Random(3))
        life = self.start()
        zxid, nodes, _, sessions = self.state(life)
        self.assertGreaterEqual(zxid, wanted[0])
        self.assertEqual(sessions, wanted[3])
        self.assertLessEqual(wanted[1].keys(), nodes.keys())  # type: ignore[attr-defined]
        for client in clients:
            self.ask(life, self.client(life, client), set_data(b"/%x" % client.session_id, b"again"))
        return life

    def full(self, life: Life) -> None:
        self.disk.capacity = sum(map(len, self.disk.files.values())) + 100

    def test_flush(self) -> None:
        """A flush fails."""
        self.fail_with(lambda life: self.disk.fail_flush(), "Input/output error")

    def test_full(self) -> None:
        """The disk is full."""
        self.fail_with(self.full, "No space left on device")

    def test_full_with_logs_that_roll(self) -> None:
        """The disk is full, and logs are small."""
        self.fail_with(self.full, "No space left on device", txn_log_size_limit_in_kb=1, pre_alloc_size=4)

    def test_snapshot(self) -> None:
        """A snapshot cannot be written: the server gives up while its log is still good, and says once why."""
        life = self.start(snap_count=4)
        client = self.client(life)
        self.disk.fail_stream(2)
        for number in range(20):
            client.send(*create(b"/%d" % number))
            life.turn()
        self.assertEqual(life.mode, "failed")
        self.assertIsInstance(life.failure, SnapshotError)
        self.assertEqual(len(self.lines), 1, self.lines)
        acknowledged = [reply.decode().path for reply in client.replies]
        self.assertGreater(len(acknowledged), 1)
        life.stop()
        self.disk.crash(Random(1))
        self.assertLessEqual(set(acknowledged), self.start().core.tree.nodes.keys())

    def test_flush_after_the_end(self) -> None:
        """A flush that comes to its end when the server has given up begins nothing any more."""
        self.disk.hold = True
        life = self.start(snap_count=4)
        client = self.client(life)
        for number in range(6):
            client.send(*create(b"/%d" % number))
        life.turn()
        life.service._failed(Failure(StoreError("Input/output error")))
        life.flushed()
        run: Any = life.service._run
        self.assertFalse(run._snapshots.running)
        self.assertEqual(client.replies, [])
        life.stop()
        self.assertEqual(len(self.lines), 1, self.lines)

    def test_same_service_again(self) -> None:
        """The service that gave up can be started again itself, and knows what it has acknowledged."""
        life = self.fail_with(lambda life: self.disk.fail_flush(), "Input/output error")
        wanted = self.state(life)
        self.disk.fail_flush()
        lost = self.client_without_answer(life)
        self.assertEqual(life.mode, "failed")
        life.stop()
        self.disk.crash(Random(2))
        life.failure = None
        life.service.startService()
        life.begin()
        self.assertGreaterEqual(life.core.last_zxid, wanted[0])
        self.assertTrue(lost.closed)
        self.client(life)

    def client_without_answer(self, life: Life) -> MemoryClient:
        client = life.endpoint.connect()
        life.settle()
        self.assertEqual(client.session_id, 0)
        return client

    def test_still_full(self) -> None:
        """A server that is started while the disk is still full gives up again, until there is room."""
        life = self.start()
        self.ask(life, self.client(life), create(b"/a", bytes(500)))
        wanted = self.state(life)
        life.stop()
        for _ in range(3):
            self.disk.capacity = sum(map(len, self.disk.files.values()))
            life = self.start(serving=False)
            for _ in range(10):
                life.turn()
            self.assertEqual(life.mode, "failed")
            life.stop()
            self.disk.crash(Random(1))
        self.assertEqual(len(self.lines), 3, self.lines)
        self.disk.capacity = None
        self.assertEqual(self.state(self.start()), wanted)

    def test_while_stopping(self) -> None:
        """A flush that fails during an orderly stop: the stop comes to its end, and nobody was told too much."""
        self.disk.hold = True
        life = self.start()
        client = self.client(life)
        self.disk.fail_flush()
        client.send(*create(b"/a"))
        life.turn()
        life.stop()
        self.assertEqual(client.replies, [])
        self.assertTrue(client.closed)
        self.assertEqual(len(self.lines), 1, self.lines)
        self.disk.crash(Random(1))
        self.start()
