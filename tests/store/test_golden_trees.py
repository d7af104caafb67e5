"""
Whole directories that ZooKeeper left, restored into a real tree.

Nodes, ACLs, sessions and the tree digest have to be those that ZooKeeper's own classes come to, and a directory on
which they give up has to be refused.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from tests.store import golden, golden_nodes
from zktwisted.errors import StoreError
from zktwisted.store.database import Database, Options, Restored, SnapshotDigest, Trailer
from zktwisted.store.disk import FileBytes
from zktwisted.store.snapshot import snapshot_files
from zktwisted.testing.disk import MemoryDisk
from zktwisted.tree import image
from zktwisted.tree.datatree import DataTree
from zktwisted.wire import txns
from zktwisted.wire.ops import OpCode


class TreeTarget:
    """
    A tree and its sessions, which compare digests as they go.

    @ivar compared: how many digests were compared.
    """

    def __init__(self) -> None:
        self.reset()
        self.compared = 0

    def reset(self) -> None:
        self.tree = DataTree()
        self.sessions: dict[int, int] = {}
        self._fuzzy_until = 0

    def load_image(self, data: FileBytes, offset: int) -> int:
        self.sessions, end = image.load(self.tree, data, offset)
        return end

    def loaded(self, zxid: int, digest: SnapshotDigest | None) -> None:
        self._fuzzy_until = digest.zxid if digest is not None else zxid

    def apply_entry(self, entry: bytes) -> None:
        header, body, digest = txns.decode_entry(entry)
        if header.type == OpCode.CREATE_SESSION:
            assert isinstance(body, txns.CreateSessionTxn)
            self.sessions[header.client_id] = body.timeout
        elif header.type == OpCode.CLOSE_SESSION:
            self.sessions.pop(header.client_id, None)
        self.tree.apply(header, body)
        if digest is not None and header.zxid >= self._fuzzy_until:
            assert self.tree.digest == digest.tree_digest, (hex(header.zxid), self.tree.digest, digest)
            self.compared += 1


def restored(disk: MemoryDisk, **options: object) -> tuple[Restored, TreeTarget]:
    """Restore a directory."""
    target = TreeTarget()
    opened = Database(disk, disk, Options(**options), Random(1))  # type: ignore[arg-type]
    return opened.restore(target), target


class GoldenTreeTests(SynchronousTestCase):
    """Every recorded directory."""

    def check(self, directory: Path, target: TreeTarget) -> None:
        """Compare a tree with what ZooKeeper's classes came to."""
        expected = golden.tree(directory)
        # Some directories were read with TTLs switched off.
        ttls = bool(expected["ttls"])
        containers, with_ttl = golden_nodes.extended(target.tree.nodes)
        self.assertEqual(
            (containers, with_ttl if ttls else []), (sorted(expected["containers"]), sorted(expected["ttls"]))
        )
        # Numbers of ACL lists are no part of the tree: those of snapshots that could not be read are used up there.
        self.assertEqual(
            {path.decode() or "/": golden_nodes.facts(node, ttls=ttls)[1:] for path, node in target.tree.nodes.items()},
            {node["path"]: golden_nodes.expected(node)[1:] for node in expected["nodes"]},
            directory.name,
        )
        sessions = {f"0x{session & 0xFFFFFFFFFFFFFFFF:x}": timeout for session, timeout in target.sessions.items()}
        self.assertEqual(sessions, expected["sessions"], directory.name)
        self.assertEqual(target.tree.digest, expected["treeDigest"], directory.name)

    def test_every_directory(self) -> None:
        """The tree, or the refusal."""
        trees = refused = 0
        for directory in golden.directories():
            disk = golden.disk(directory)
            if directory.name == "empty":
                # 3.8 gives up on an empty newest log; 3.9 deletes it, and so do we.
                directory = golden.STORAGE / "broken-3.9.5" / "empty"
            expected = golden.tree(directory)
            if "exception" in expected:
                refused += 1
                self.assertRaises(StoreError, restored, disk)
                continue
            trees += 1
            result, target = restored(disk)
            self.assertEqual(f"0x{result.zxid:x}", expected["restoredZxid"], directory.name)
            self.check(directory, target)
        self.assertEqual((trees, refused), (34, 8))

    def test_any_snapshot_will_do(self) -> None:
        """From each of a directory's snapshots alone the same tree comes out, with every digest on the way right."""
        for version in ("3.8.0", "3.9.5"):
            directory = golden.STORAGE / f"standalone-{version}-2"
            for _, name in snapshot_files(list(golden.files(directory))):
                disk = golden.disk(directory)
                for _, other in snapshot_files(disk.names()):
                    if other != name:
                        disk.remove(other)
                result, target = restored(disk)
                self.assertEqual(result.snapshot_name, name)
                self.assertGreater(target.compared, 0)
                self.check(directory, target)

    def test_history_over_its_own_result(self) -> None:
        """
        A later snapshot under an earlier name, that is the history replayed over its own result, changes nothing.

        It is what a fuzzy snapshot asks for: each transaction may find its effects in place already.
        """
        directory = golden.STORAGE / "standalone-3.9.5-2"
        for late, early in (("snapshot.34", 0x15), ("snapshot.34", 2), ("snapshot.34", 1), ("snapshot.34", 0)):
            disk = golden.disk(directory)
            data = disk.read(late)
            for _, name in snapshot_files(disk.names()):
                disk.remove(name)
            disk.files[f"snapshot.{early:x}"] = data
            result, target = restored(disk)
            self.assertEqual(result.snapshot_zxid, early)
            self.check(directory, target)

    def test_written_again(self) -> None:
        """A restored tree, written as a snapshot of each kind and read again, is the same tree."""
        for version in ("3.8.0", "3.9.5"):
            directory = golden.STORAGE / f"standalone-{version}-2"
            for method in ("", "gz", "snappy"):
                disk = golden.disk(directory)
                result, target = restored(disk)
                tree, last = target.tree, result.zxid
                opened = Database(disk, disk, Options(compression_method=method), Random(1))
                trailer = Trailer(SnapshotDigest(last, 2, tree.digest), last)
                list(opened.snapshot(last, image.chunks(tree, target.sessions), partial(Trailer, *trailer)))
                for name in disk.names():
                    if name.startswith("log."):
                        disk.remove(name)
                again, other = restored(disk)
                self.assertEqual((again.zxid, again.entries, again.notes), (last, 0, []))
                self.check(directory, other)
