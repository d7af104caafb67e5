"""Two ways of a write, one truth: what is prepared in one go is byte for byte what the way through records gives."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.tree.chain import (
    OTHER,
    READ_ONLY,
    SESSION,
    Chain,
    Operation,
    check,
    create,
    create_container,
    create_ttl,
    delete,
    fields,
    set_acl,
    set_data,
)
from zktwisted.errors import ProtocolError
from zktwisted.server.replies import encode_write_reply
from zktwisted.tree.datatree import Applied, Change, DataTree
from zktwisted.tree.proposal import Proposal
from zktwisted.tree.replay import apply_entry, replay
from zktwisted.wire import jute, ops, proto, txns
from zktwisted.wire.proto import ACL, OPEN_ACL, Id

PATHS = st.sampled_from([b"/a", b"/b", b"/a/x", b"/a/x/1", b"/s/-", b"/a/.", b"/a/.b", b"/", b"", b"/zookeeper/n"])
ODD_PATHS = st.one_of(st.none(), PATHS, PATHS, st.sampled_from([b"/\xc3\xa4", b"/\xff", b"a", b"//", b"/a/", b"/a\0"]))
DATA = st.sampled_from([None, b"", b"1", b"some more", b"y" * 5000])
VERSIONS = st.sampled_from([-1, -1, -1, 0, 1, 2])
ACLS = st.sampled_from([OPEN_ACL, OPEN_ACL, OPEN_ACL, READ_ONLY, (), (ACL(27, Id("world", "anyone")),)])
FLAGS = st.sampled_from([0, 0, 0, 1, 2, 3, 4, -1])
OPEN_CREATES = st.builds(create, PATHS, DATA, st.just(OPEN_ACL), st.integers(0, 3))
SETS = st.builds(set_data, PATHS, DATA, st.just(-1))
SINGLE = st.one_of(
    OPEN_CREATES,
    OPEN_CREATES,
    SETS,
    SETS,
    st.builds(create, ODD_PATHS, DATA, ACLS, FLAGS),
    st.builds(lambda one: (ops.CREATE2, one[1]), OPEN_CREATES),
    st.builds(create_container, PATHS),
    st.builds(create_ttl, PATHS, st.integers(1, 3)),
    st.builds(delete, PATHS, VERSIONS),
    st.builds(set_data, ODD_PATHS, DATA, VERSIONS),
)
MULTIS = st.one_of(
    st.lists(SETS, max_size=4),
    st.lists(st.one_of(SETS, SETS, SINGLE, st.builds(check, PATHS, VERSIONS)), max_size=4),
)
WRITES = st.one_of(
    SINGLE,
    SINGLE,
    SINGLE,
    st.builds(set_acl, PATHS, ACLS, VERSIONS),
    MULTIS.map(lambda all_: (ops.MULTI, proto.encode_multi(all_))),
    st.just((ops.CLOSE_SESSION, b"")),
)
STEPS = st.lists(st.tuples(WRITES, st.sampled_from([SESSION, OTHER]), st.integers(0, 3)), max_size=40)


class Pair:
    """Two chains that are asked the same; one of them goes the long way only."""

    def __init__(self, test: SynchronousTestCase, **options: bool) -> None:
        self.test = test
        self.fused = Chain(extended_types=True, **options)
        self.plain = Chain(extended_types=True, **options)
        self.plain.prepare.fused = {}
        self.waiting: list[tuple[Proposal, Proposal]] = []
        self.count = self.read = 0

    def propose(self, operation: Operation, session: int = SESSION) -> None:
        fused, plain = (chain.propose(operation, session) for chain in (self.fused, self.plain))
        self.test.assertEqual((fused.header, fused.entry), (plain.header, plain.entry), operation)
        self.test.assertEqual(self.fused.prepare.digest, self.plain.prepare.digest)
        self.test.assertEqual(list(self.fused.prepare.pending), list(self.plain.prepare.pending))
        self.test.assertFalse(plain.fused)
        self.count += fused.fused
        self.waiting.append((fused, plain))

    def apply(self) -> None:
        fused, plain = self.waiting.pop(0)
        first, second = self.fused.apply(fused), self.plain.apply(plain)
        header = fused.header
        replies = [encode_write_reply(header.type, header.cxid, header.zxid, one) for one in (first, second)]
        self.test.assertEqual(replies[0], replies[1])
        self.test.assertEqual(told(self.fused.changes), told(self.plain.changes))
        self.test.assertEqual(self.fused.tree.digest, self.plain.tree.digest)

    def finish(self) -> None:
        """Apply what waits, and compare all there is."""
        while self.waiting:
            self.apply()
        one, other = self.fused.tree, self.plain.tree
        self.test.assertEqual(self.fused.prepare.pending, {})
        self.test.assertEqual(fields(one), fields(other))
        self.test.assertEqual(one.data_size, other.data_size)
        self.test.assertEqual(one.ephemerals, other.ephemerals)
        self.test.assertEqual({i: a.refs for i, a in one.acls.items()}, {i: a.refs for i, a in other.acls.items()})
        for path, node in one.nodes.items():
            self.test.assertEqual(node.digest, node.compute_digest(path), path)
        self.replay(self.fused.log)

    def replay(self, log: list[bytes]) -> None:
        """Apply a log twice, each entry in one go where that can be; the second time over what is there."""
        quick, restored, plain = DataTree(), DataTree(), DataTree()
        for number, entry in enumerate(log + log):
            header, body, digest = txns.decode_entry(entry)
            expected_changes: list[Change] = []
            expected = plain.apply(header, body, expected_changes)
            changes: list[Change] = []
            done = replay(quick, entry, changes)
            if done is None:
                self.test.assertEqual(changes, [])
                applied = quick.apply(header, body, changes)
            else:
                self.read += number < len(log)
                self.test.assertEqual((done.header, done.digest), (header, digest))
                self.test.assertIs(done.node, quick.nodes[done.path])
                applied = Applied(0, None if header.type == ops.SET_DATA else done.path, done.node.stat())
            replies = [encode_write_reply(header.type, header.cxid, header.zxid, one) for one in (applied, expected)]
            self.test.assertEqual(replies[0], replies[1])
            self.test.assertEqual(told(changes), told(expected_changes))
            self.test.assertEqual(apply_entry(restored, entry)[:2], (header, digest))
            for tree in (quick, restored):
                self.test.assertEqual((tree.digest, tree.data_size), (plain.digest, plain.data_size))
        for tree in (quick, restored):
            self.test.assertEqual(fields(tree), fields(plain))
            self.test.assertEqual(tree.ephemerals, plain.ephemerals)
            self.test.assertEqual(
                {acl.acls: acl.refs for acl in tree.acls}, {acl.acls: acl.refs for acl in plain.acls}
            )


def told(changes: list[Change]) -> list[object]:
    """Return changes by value."""
    return [(kind, path, acl.acls, parent and parent.acls) for kind, path, acl, parent in changes]


class FusedTests(SynchronousTestCase):
    @settings(deadline=None, max_examples=300, derandomize=True)
    @given(STEPS)
    def test_equal(self, steps: list[tuple[Operation, int, int]]) -> None:
        """Any writes, prepared at any distance ahead, give equal entries, outcomes, changes and trees."""
        pair = Pair(self)
        for path in (b"/a", b"/s"):
            pair.propose(create(path))
        for operation, session, count in steps:
            pair.propose(operation, session)
            for _ in range(min(count, len(pair.waiting))):
                pair.apply()
        pair.finish()

    @settings(deadline=None, max_examples=200, derandomize=True)
    @given(st.one_of(SINGLE, MULTIS), st.binary(max_size=4), st.integers(0, 120))
    def test_damaged(self, wanted: Operation | list[Operation], damage: bytes, at: int) -> None:
        """So do requests with bytes cut off, changed or added."""
        op, request = (ops.MULTI, proto.encode_multi(wanted)) if isinstance(wanted, list) else wanted
        whole = request if isinstance(request, bytes) else jute.encode(request)
        pair = Pair(self)
        pair.propose(create(b"/a"))
        for body in (whole, whole + damage, whole[:at], whole[:at] + damage + whole[at + len(damage) :]):
            pair.propose((op, body))
        pair.finish()

    def test_used(self) -> None:
        """The usual writes go the short way."""
        pair = Pair(self)
        pair.propose(create(b"/a", b"x"))
        pair.propose(create(b"/a/-", b"", flags=3))
        pair.propose(set_data(b"/a", b"y", 0))
        pair.propose((ops.MULTI, proto.encode_multi([set_data(b"/a", b"z"), set_data(b"/a", b"", 2)])))
        self.assertEqual(pair.count, 4)
        pair.finish()
        self.assertEqual(pair.read, 3)

    def test_not_used(self) -> None:
        """Where quotas are enforced, and without digests, everything goes the long way."""
        for options in ({"enforce_quota": True}, {"digest_enabled": False}):
            pair = Pair(self, **options)
            pair.propose(create(b"/a", b"x"))
            pair.propose(set_data(b"/a", b"y", 0))
            self.assertEqual(pair.count, 0)
            pair.finish()

    @settings(deadline=None, max_examples=200, derandomize=True)
    @given(st.one_of(OPEN_CREATES, SETS), st.binary(max_size=4), st.integers(0, 160))
    def test_damaged_entries(self, operation: Operation, damage: bytes, at: int) -> None:
        """Of an entry that is not whole, nothing is read that decoding it would not give."""
        chain = Chain()
        for path in (b"/a", b"/b"):
            chain.ok(create(path))
        entry = chain.propose(operation).entry
        for one in (entry + damage, entry[:at], entry[:at] + damage + entry[at + len(damage) :]):
            trees = DataTree(), DataTree()
            for tree in trees:
                for before in chain.log:
                    apply_entry(tree, before)
            done = replay(trees[0], one)
            if done is not None:
                header, body, digest = txns.decode_entry(one)
                self.assertEqual((done.header, done.digest), (header, digest))
                trees[1].apply(header, body)
            self.assertEqual(fields(trees[0]), fields(trees[1]))
            self.assertEqual(trees[0].digest, trees[1].digest)

    @settings(deadline=None, derandomize=True, max_examples=200)
    @given(st.lists(OPEN_CREATES | SETS, max_size=6), st.binary(max_size=4), st.integers(0, 300))
    def test_damaged_multis(self, operations: list[Operation], damage: bytes, at: int) -> None:
        """A multi out of a damaged log does what decoding it does, or both refuse it."""
        chain = Chain()
        for path in (b"/a", b"/b"):
            chain.ok(create(path))
        entry = chain.multi(*operations).entry
        for one in (entry, entry + damage, entry[:at], entry[:at] + damage + entry[at + len(damage) :]):
            trees = DataTree(), DataTree()
            for tree in trees:
                for before in chain.log:
                    apply_entry(tree, before)
            try:
                header, body, digest = txns.decode_entry(one)
                trees[1].apply(header, body)
            except ProtocolError:
                self.assertRaises(ProtocolError, apply_entry, trees[0], one)
                continue
            self.assertEqual(apply_entry(trees[0], one)[:2], (header, digest))
            self.assertEqual(fields(trees[0]), fields(trees[1]))
            self.assertEqual(trees[0].digest, trees[1].digest)

    def test_counters_at_their_end(self) -> None:
        """A version and a cversion that cannot grow wrap as the long way says."""
        for counter in (0x7FFFFFFE, 0x7FFFFFFF):
            pair = Pair(self)
            pair.propose(create(b"/a"))
            pair.finish()
            for chain in (pair.fused, pair.plain):
                node = chain.tree.nodes[b"/a"]
                node.version = node.cversion = counter
                chain.tree.rebuild()
                chain.prepare.start(chain.prepare.zxid)
            for _ in range(3):
                pair.propose(set_data(b"/a", b""))
                pair.propose(create(b"/a/-", flags=2))
            pair.finish()
