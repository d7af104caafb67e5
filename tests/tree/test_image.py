"""The image of a tree: its bytes, ZooKeeper's own, walks over a tree that changes, damage (spec: storage 3, 5)."""

from __future__ import annotations

from random import Random
from struct import pack
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.store import golden, golden_nodes
from zktwisted.errors import ProtocolError
from zktwisted.store import snapshot
from zktwisted.store.disk import FileBytes
from zktwisted.store.snapshot import HEADER, SnapshotDigest, Trailer
from zktwisted.tree import image
from zktwisted.tree.acl import AclTable
from zktwisted.tree.znode import Znode
from zktwisted.wire.proto import ACL, Id

OPEN = (ACL(31, Id("world", "anyone")),)
READ = (ACL(1, Id("world", "anyone")),)


class BareTree:
    """Just what an image is made of."""

    def __init__(self) -> None:
        self.nodes: dict[bytes, Znode] = {}
        self.acls = AclTable()
        self.rebuilt = 0

    def rebuild(self) -> None:
        self.rebuilt += 1

    def add(self, path: bytes, data: bytes | None = b"", acls: tuple[ACL, ...] | None = OPEN, **stat: int) -> Znode:
        """Put in a node and tell its parent."""
        node = self.nodes[path] = Znode(data, self.acls.intern(acls), **stat)
        if path:
            parent, _, name = path.rpartition(b"/")
            children = self.nodes[parent].children
            if children is None:
                children = self.nodes[parent].children = {}
            children[name] = None
        return node

    def remove(self, path: bytes) -> None:
        """Take out a node and what is below it."""
        for name in list(self.nodes[path].children or ()):
            self.remove(path + b"/" + name)
        parent, _, name = path.rpartition(b"/")
        children = self.nodes[parent].children
        assert children is not None
        del children[name]
        del self.nodes[path]


def new_tree() -> BareTree:
    """Return the tree of a new database."""
    tree = BareTree()
    tree.add(b"", acls=None)
    tree.add(b"/zookeeper", acls=None)
    tree.add(b"/zookeeper/config", acls=READ, aversion=-1)
    tree.add(b"/zookeeper/quota", acls=None)
    return tree


def dump(tree: BareTree, sessions: dict[int, int] | None = None) -> bytes:
    """Return the whole image."""
    return b"".join(image.chunks(tree, sessions or {}))


def load(data: bytes, offset: int = 0) -> tuple[BareTree, dict[int, int], int]:
    """Return what an image holds and where it ends."""
    tree = BareTree()
    sessions, end = image.load(tree, data, offset)
    return tree, sessions, end


def facts(tree: BareTree) -> dict[bytes, tuple[object, ...]]:
    """Return everything about every node, comparable."""
    return {
        path: (
            node.data,
            node.acl.index,
            node.acl.acls,
            (node.czxid, node.mzxid, node.ctime, node.mtime, node.version, node.cversion, node.aversion),
            (node.owner, node.pzxid),
            sorted(node.children or ()),
        )
        for path, node in tree.nodes.items()
    }


class NewDatabaseTests(SynchronousTestCase):
    """The first snapshot of a new server."""

    def test_bytes(self) -> None:
        """It has exactly the 478 bytes that ZooKeeper's has."""
        trailer = Trailer(SnapshotDigest(0, 2, 0), 0)
        data = b"".join(snapshot.encode(image.chunks(new_tree(), {}), lambda: trailer))
        self.assertEqual(len(data), 478)
        self.assertEqual(data, golden.files(golden.STORAGE / "standalone-3.9.5-1")["snapshot.0"])
        for seal in (0xB8A23B49, 0x95B93D59, 0xBDE83F6D):
            self.assertIn(seal.to_bytes(8, "big") + b"\x00\x00\x00\x01/", data)


class RoundTripTests(SynchronousTestCase):
    """What goes out comes in."""

    def test_everything(self) -> None:
        """Data or none, every field at its limits, ACLs, sessions, any names."""
        tree = new_tree()
        lowest, highest = -(1 << 63), (1 << 63) - 1
        tree.add(b"/null", None, (ACL(-1, Id("digest", "b\u00f6b:x")), *OPEN))
        tree.add(
            b"/limits",
            b"\x00" * 5000,
            czxid=highest,
            mzxid=lowest,
            ctime=-1,
            mtime=highest,
            version=-(1 << 31),
            cversion=(1 << 31) - 1,
            aversion=7,
            owner=lowest,
            pzxid=highest,
        )
        tree.add("/\u20ac \U0001f600".encode() + b"x" * 3000)
        sessions = {lowest: -(1 << 31), 5: 30_000, highest: 0}
        data = dump(tree, sessions)
        other, others, end = load(b"before" + data + b"behind", 6)
        self.assertEqual((facts(other), others, end), (facts(tree), sessions, 6 + len(data)))
        self.assertEqual(other.rebuilt, 1)
        self.assertEqual(dump(other, others), data)

    def test_chunk_sizes(self) -> None:
        """Chunks are large enough to be worth it and small enough to be quick."""
        tree = new_tree()
        for first in range(100):
            tree.add(b"/%d" % first)
            for second in range(50):
                tree.add(b"/%d/%d" % (first, second), b"x" * (10 * second))
        sizes = [len(chunk) for chunk in image.chunks(tree, dict.fromkeys(range(10000), 1))]
        self.assertLess(max(sizes), 64 * 1024)
        self.assertLess(len(sizes), 80)

    def test_unused_acls(self) -> None:
        """Lists that no node uses are dropped, and their numbers are not given again."""
        tree = new_tree()
        tree.acls.load(50, (ACL(4, Id("ip", "10.0.0.0/8")),))
        other, _, _ = load(dump(tree))
        self.assertEqual([index for index, _ in other.acls.items()], [1])
        self.assertEqual(other.acls.intern(OPEN).index, 51)

    def test_missing_acl(self) -> None:
        """A node whose list came up after the table was written is kept, and denies everybody until it is repaired."""
        tree = new_tree()
        walk = image.chunks(tree, {})
        parts = [next(walk) for _ in range(3)]
        tree.add(b"/late", b"", (ACL(31, Id("digest", "bob:x")),))
        data = b"".join((*parts, *walk))
        other, _, _ = load(data)
        acl = other.nodes[b"/late"].acl
        self.assertEqual((acl.index, acl.world), (2, 0))
        self.assertEqual(other.acls.intern(OPEN).index, 3)
        again, _, _ = load(dump(other))
        self.assertEqual((again.nodes[b"/late"].acl.index, again.nodes[b"/late"].acl.world), (2, 0))

    def test_replaces(self) -> None:
        """What a tree held before is gone."""
        tree = new_tree()
        tree.add(b"/old", acls=(ACL(3, Id("world", "anyone")),))
        image.load(tree, dump(new_tree()), 0)
        self.assertEqual(facts(tree), facts(new_tree()))


class FuzzyTests(SynchronousTestCase):
    """Walks over a tree that changes under them."""

    def test_seeds(self) -> None:
        """Whatever happens between two chunks, the image loads: parents first, each node once, none from nowhere."""
        self.patch(image, "_CHUNK_NODES", 3)
        for seed in range(200):
            entropy = Random(seed)
            tree = new_tree()
            for _ in range(60):
                self.create(tree, entropy)
            before = set(tree.nodes)
            ever = set(before)
            always = set(before)
            parts = []
            for chunk in image.chunks(tree, {}):
                parts.append(chunk)
                for _ in range(entropy.randrange(4)):
                    if entropy.random() < 0.5:
                        self.create(tree, entropy)
                    else:
                        self.delete(tree, entropy)
                ever |= set(tree.nodes)
                always &= set(tree.nodes)
            other, _, _ = load(b"".join(parts))
            self.assertTrue(always <= set(other.nodes) <= ever, seed)

    def create(self, tree: BareTree, entropy: Random) -> None:
        path = entropy.choice(list(tree.nodes)) + b"/%d" % entropy.randrange(6)
        if path not in tree.nodes and path.count(b"/") < 6:
            tree.add(path, b"x" * entropy.randrange(20))

    def delete(self, tree: BareTree, entropy: Random) -> None:
        path = entropy.choice(list(tree.nodes))
        if path and not path.startswith(b"/zookeeper"):
            tree.remove(path)


class DamageTests(SynchronousTestCase):
    """What is no image."""

    def node(self, path: bytes, index: int = -1) -> bytes:
        return pack(">i", len(path)) + path + pack(">i", 0) + pack(">qqqqqiiiqq", index, *[0] * 9)

    def refused(self, nodes: bytes, acls: bytes = pack(">i", 0)) -> str:
        with self.assertRaises(ProtocolError) as caught:
            load(pack(">i", 0) + acls + nodes)
        return str(caught.exception)

    def test_structure(self) -> None:
        """Nodes without a root, without a parent, twice, or with impossible fields."""
        end = b"\x00\x00\x00\x01/"
        root = self.node(b"")
        load(pack(">ii", 0, 0) + root + end)
        self.refused(end)
        self.refused(root)
        self.refused(root + root + end)
        self.assertIn("unable to find parent b'/a' of path b'/a/b'", self.refused(root + self.node(b"/a/b") + end))
        self.refused(self.node(b"/a") + end)
        self.refused(root + self.node(b"abc") + end)
        self.refused(root + self.node(b"/a") + self.node(b"/b") + self.node(b"/a") + end)
        self.refused(root + b"\x00\x00\x00\x01x")
        self.refused(root + b"\xff\xff\xff\xff")
        self.refused(root + pack(">i", 2) + b"/a" + pack(">i", -2) + bytes(68) + end)
        for index in (0, -2, 1 << 62):
            self.refused(root + self.node(b"/a", index) + end)

    def test_acls(self) -> None:
        """ACL lists with impossible numbers, counts or strings."""
        whole = (
            pack(">i", 1) + pack(">qi", 1, 1) + pack(">i", 31) + pack(">i", 5) + b"world" + pack(">i", 6) + b"anyone"
        )
        load(pack(">i", 0) + whole + self.node(b"") + b"\x00\x00\x00\x01/")
        for acls in (
            pack(">i", 1) + pack(">qi", 1, -1),
            pack(">i", 1) + pack(">qi", -1, 0),
            pack(">i", 1) + pack(">qii", 1, 1, 31) + pack(">i", -1),
            pack(">i", 1) + pack(">qii", 1, 1, 31) + pack(">i", 1 << 30),
            pack(">i", 1) + pack(">qii", 1, 1, 31) + pack(">i", 1) + b"\xff" + bytes(40),
            pack(">i", 1 << 30),
        ):
            self.refused(b"", acls)

    def test_cut_short(self) -> None:
        """Every beginning of an image that is not all of it."""
        tree = new_tree()
        tree.add(b"/a", b"data")
        data = dump(tree, {1: 2})
        for size in range(len(data)):
            self.assertRaises(ProtocolError, load, data[:size])

    @settings(deadline=None, derandomize=True, max_examples=300)
    @given(st.integers(0, 450), st.binary(min_size=1, max_size=12))
    def test_any_damage(self, at: int, garbage: bytes) -> None:
        """Overwritten bytes give another tree or a ProtocolError, nothing else."""
        tree = new_tree()
        tree.add(b"/a", b"data")
        data = dump(tree, {1: 2})
        try:
            load(data[:at] + garbage + data[at + len(garbage) :])
        except ProtocolError:
            return

    @settings(deadline=None, derandomize=True, max_examples=200)
    @given(st.binary(max_size=200))
    def test_any_bytes(self, data: bytes) -> None:
        """Any bytes at all."""
        for start in (b"", pack(">i", 0), pack(">ii", 0, 0), pack(">ii", 0, 0) + self.node(b"")):
            try:
                load(start + data)
            except ProtocolError:
                continue


def reread(pieces: list[bytes], **limits: int) -> tuple[BareTree, image.ImageReader]:
    """Return what a learner makes of the pieces of an image."""
    tree = new_tree()
    tree.rebuilt = 0
    reader = image.ImageReader(tree, **limits)
    for piece in pieces:
        reader.feed(piece)
    return tree, reader


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    """Return C{data} in pieces of these sizes, over and over."""
    pieces = []
    at = turn = 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        pieces.append(data[at : at + size])
        at += size
        turn += 1
    return pieces


class StreamTests(SynchronousTestCase):
    """The image that a leader sends."""

    def whole(self) -> tuple[BareTree, dict[int, int], bytes]:
        tree = new_tree()
        tree.add(b"/null", None, (ACL(-1, Id("digest", "b\u00f6b:x")), *OPEN), owner=7, czxid=5)
        tree.add(b"/a", b"x" * 700)
        for number in range(30):
            tree.add(b"/a/%d" % number, b"%d" % number, READ)
        tree.add(b"/null/\xe2\x82\xac", b"")
        sessions = {5: 30_000, (1 << 63) - 1: 0, -1: 7}
        return tree, sessions, b"".join(image.stream(tree, sessions))

    def test_bytes(self) -> None:
        """It is the image of a snapshot with the signature behind it, and nothing else."""
        tree, sessions, data = self.whole()
        self.assertEqual(data, dump(tree, sessions) + b"\x00\x00\x00\x0aBenWasHere")

    def test_in_one_piece(self) -> None:
        """All of it comes over, what stood there before goes, and what follows is left to others."""
        tree, sessions, data = self.whole()
        other, reader = reread([data + b"more", b" and", b" more"])
        self.assertTrue(reader.done)
        self.assertEqual((reader.sessions, reader.rest, other.rebuilt), (sessions, b"more and more", 1))
        self.assertEqual(facts(other), facts(tree))

    @settings(deadline=None, derandomize=True, max_examples=150)
    @given(st.lists(st.integers(1, 300), min_size=1, max_size=6), st.binary(max_size=5))
    def test_any_pieces(self, sizes: list[int], behind: bytes) -> None:
        """However it is cut, it is the same tree, and the same is left behind it."""
        tree, sessions, data = self.whole()
        other, reader = reread(cut(data + behind, sizes))
        self.assertTrue(reader.done)
        self.assertEqual((facts(other), reader.sessions, reader.rest), (facts(tree), sessions, behind))

    def test_not_all_of_it(self) -> None:
        """Nothing is done before the last byte of the signature is there."""
        _, _, data = self.whole()
        other, reader = reread(list(map(bytes, zip(data[:-1], strict=True))))
        self.assertEqual((reader.done, other.rebuilt), (False, 0))
        reader.feed(data[-1:])
        self.assertEqual((reader.done, other.rebuilt), (True, 1))

    def test_no_sessions(self) -> None:
        """The smallest image."""
        tree, reader = reread(cut(dump(new_tree()) + b"\x00\x00\x00\x0aBenWasHere", [1]))
        self.assertEqual((facts(tree), reader.sessions, reader.done), (facts(new_tree()), {}, True))

    def test_signature(self) -> None:
        """An image with another end is none."""
        _, _, data = self.whole()
        for end in (b"\x00\x00\x00\x0aBenWasHerf", b"\x00\x00\x00\x0bBenWasHere!", b"B"):
            for size in (1, 1000):
                self.assertRaises(ProtocolError, reread, cut(data[:-14] + end, [size]))

    def test_memory(self) -> None:
        """What cannot be a node is not waited for, and the longest that can be is taken."""
        head = pack(">iii", 0, 0, 0)
        for nodes in (
            pack(">i", 1001),
            pack(">i", 0) + pack(">i", 1001),
            pack(">i", 1 << 30),
            pack(">i", 0) + pack(">i", (1 << 31) - 1),
        ):
            self.assertRaises(ProtocolError, reread, cut(head[:8] + nodes, [1]), field_max=1000)
        acls = pack(">ii", 0, 1) + pack(">qi", 1, 1 << 20)
        self.assertRaises(ProtocolError, reread, [acls, *[pack(">iii", 31, 0, 0)] * 300], field_max=1000)
        tree = new_tree()
        tree.add(b"/" + b"p" * 999, b"x" * 1000)
        data = b"".join(image.stream(tree, {}))
        self.assertEqual(facts(reread(cut(data, [100]), field_max=1000)[0]), facts(tree))

    @settings(deadline=None, derandomize=True, max_examples=300)
    @given(st.integers(0, 2500), st.binary(min_size=1, max_size=12), st.integers(1, 400))
    def test_any_damage(self, at: int, garbage: bytes, size: int) -> None:
        """Overwritten bytes give another tree, an image that has no end, or a ProtocolError."""
        _, _, data = self.whole()
        try:
            reread(cut(data[:at] + garbage + data[at + len(garbage) :], [size]))
        except ProtocolError:
            return

    @settings(deadline=None, derandomize=True, max_examples=200)
    @given(st.binary(max_size=200), st.integers(1, 50))
    def test_any_bytes(self, data: bytes, size: int) -> None:
        """Any bytes at all."""
        for start in (b"", pack(">i", 0), pack(">ii", 0, 0)):
            try:
                reread(cut(start + data, [size]))
            except ProtocolError:
                continue


class GoldenTests(SynchronousTestCase):
    """Snapshots that ZooKeeper wrote."""

    def read(self, directory: Any, name: str) -> tuple[BareTree, dict[int, int], bytes]:
        tree = BareTree()
        sessions: dict[int, int] = {}
        ends: list[int] = []

        def load_image(data: FileBytes, offset: int) -> int:
            found, end = image.load(tree, data, offset)
            sessions.update(found)
            ends.append(end)
            return end

        data = snapshot.open_image(golden.disk(directory), name)
        snapshot.load(name, data, load_image)
        return tree, sessions, data[len(HEADER) : ends[0]]

    def test_every_snapshot(self) -> None:
        """Each node, list and session is what ZooKeeper reads; written again it is the same image."""
        count = 0
        for directory in golden.directories():
            for _, name in snapshot.snapshot_files(list(golden.files(directory))):
                expected = golden.snapshot(directory, name)
                if "exception" in expected:
                    continue
                tree, sessions, data = self.read(directory, name)
                self.assertEqual(
                    {f"0x{session:x}": timeout for session, timeout in sessions.items()}, expected["sessions"]
                )
                for index, acls in expected["aclCache"].items():
                    used = tree.acls.get(int(index))
                    if used is not None:
                        self.assertEqual(used.acls, golden_nodes.acls(acls))
                self.assertEqual(
                    {path.decode() or "/": golden_nodes.facts(node, ttls=False) for path, node in tree.nodes.items()},
                    {node["path"]: golden_nodes.expected(node) for node in expected["nodes"]},
                    (directory.name, name),
                )
                self.assertEqual(golden_nodes.extended(tree.nodes)[0], sorted(expected["containers"]))
                if len(tree.acls.items()) == len(expected["aclCache"]):
                    self.assertEqual(dump(tree, sessions), data)
                    count += 1
        self.assertGreater(count, 40)
