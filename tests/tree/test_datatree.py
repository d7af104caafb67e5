"""The tree: how stats evolve, what replaying does, what becomes of the nodes of sessions (spec: server-semantics 1)."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.tree.chain import (
    EXISTS,
    NO_NODE,
    OTHER,
    READ_ONLY,
    SESSION,
    SYSTEM,
    Chain,
    create,
    create_container,
    create_ttl,
    delete,
    fields,
    set_acl,
    set_data,
)
from zktwisted.tree.datatree import DataTree
from zktwisted.tree.znode import CONTAINER_OWNER, TTL_MASK, is_ephemeral, ttl_of
from zktwisted.wire import jute, ops, txns
from zktwisted.wire.proto import ACL, OPEN_ACL, Id, Stat

TIME = 1_000


def apply(tree: DataTree, zxid: int, kind: int, body: Any, session: int = SESSION) -> int:
    """Apply one transaction and return the code."""
    return tree.apply(txns.TxnHeader(session, 1, zxid, TIME + zxid, kind), body).err


def create_txn(path: bytes, cversion: int, ephemeral: bool = False, data: bytes = b"") -> txns.CreateTxn:
    return txns.CreateTxn(path, data, OPEN_ACL, ephemeral, cversion)


def stat(tree: DataTree, path: bytes) -> Stat:
    return jute.decode(Stat, tree.nodes[path].stat())[0]


class StatTests(SynchronousTestCase):
    """What each operation does to the node and to its parent (spec: server-semantics 1.4)."""

    def test_initial(self) -> None:
        """A new database has four nodes; the root is C{/} and the empty path."""
        tree = DataTree()
        zeros = Stat(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        self.assertEqual(
            {path: stat(tree, path) for path in tree.nodes},
            {
                b"": zeros._replace(cversion=-1, numChildren=1),
                b"/zookeeper": zeros._replace(cversion=-2, numChildren=2),
                b"/zookeeper/config": zeros._replace(aversion=-1),
                b"/zookeeper/quota": zeros,
            },
        )
        self.assertIs(tree.get(b"/"), tree.get(b""))
        self.assertEqual(tree.nodes[b"/zookeeper/config"].acl.acls, READ_ONLY)

    def test_life_of_a_node(self) -> None:
        """Created, changed, given another ACL, with children that come and go."""
        chain = Chain()
        t = chain.time
        chain.ok(create(b"/a", b"12"))
        expected = Stat(1, 1, t + 1, t + 1, 0, 0, 0, 0, 2, 0, 1)
        self.assertEqual(chain.stat(b"/a"), expected)
        root = chain.stat(b"")
        self.assertEqual((root.cversion, root.pzxid, root.mzxid, root.version, root.numChildren), (0, 1, 0, 0, 2))
        chain.ok(set_data(b"/a", b"123"))
        expected = expected._replace(mzxid=2, mtime=t + 2, version=1, dataLength=3)
        self.assertEqual(chain.stat(b"/a"), expected)
        self.assertEqual(chain.stat(b""), root)
        chain.ok(set_acl(b"/a", (ACL(17, Id("world", "anyone")),)), set_acl(b"/a", OPEN_ACL))
        expected = expected._replace(aversion=2)
        self.assertEqual(chain.stat(b"/a"), expected)
        chain.ok(create(b"/a/x"))
        self.assertEqual(chain.stat(b"/a"), expected._replace(cversion=1, numChildren=1, pzxid=5))
        chain.ok(create(b"/a/y", flags=1))
        self.assertEqual(chain.stat(b"/a"), expected._replace(cversion=2, numChildren=2, pzxid=6))
        chain.ok(delete(b"/a/x"))
        self.assertEqual(chain.stat(b"/a"), expected._replace(cversion=3, numChildren=1, pzxid=7))
        self.assertEqual(chain.tree.nodes[b"/a"].cversion, 2)
        chain.apply(chain.close(SESSION))
        self.assertEqual(chain.stat(b"/a"), expected._replace(cversion=4, numChildren=0, pzxid=8))
        chain.ok(create(b"/a/x", flags=2))
        self.assertIn(b"/a/x0000000002", chain.tree.nodes)
        self.assertEqual(chain.stat(b"/a"), expected._replace(cversion=5, numChildren=1, pzxid=9))

    def test_failed_writes_change_nothing(self) -> None:
        """They consume a zxid and leave every stat as it was."""
        chain = Chain()
        chain.ok(create(b"/a"))
        before = fields(chain.tree)
        for operation in (create(b"/a"), delete(b"/b"), set_data(b"/a", b"", 5), set_acl(b"/a", None)):
            self.assertNotEqual(chain.do(operation).err, 0)
        self.assertEqual((fields(chain.tree), chain.prepare.zxid), (before, 5))

    def test_ephemeral_owner(self) -> None:
        """Only an ordinary ephemeral node shows its owner."""
        chain = Chain(extended_types=True)
        chain.ok(create(b"/e", flags=1), create_container(b"/c"), create_ttl(b"/t", 77), create(b"/p"))
        shown = [chain.stat(path).ephemeralOwner for path in (b"/e", b"/c", b"/t", b"/p")]
        self.assertEqual(shown, [SESSION, 0, 0, 0])
        self.assertEqual(chain.tree.nodes[b"/c"].owner, CONTAINER_OWNER)
        self.assertEqual(ttl_of(chain.tree.nodes[b"/t"].owner), 77)

    def test_ttl_owner(self) -> None:
        """TTL and feature bits come apart as they were put together; ids under 0xff are nobody's session."""
        for ttl in (1, 1000, 0xFFFFFFFFFF):
            self.assertEqual(ttl_of(TTL_MASK | ttl), ttl)
        self.assertEqual([ttl_of(owner) for owner in (0, SESSION, CONTAINER_OWNER, -(1 << 62))], [0, 0, 0, 0])
        self.assertEqual([is_ephemeral(owner) for owner in (0, CONTAINER_OWNER, TTL_MASK | 5)], [False] * 3)
        self.assertEqual([is_ephemeral(owner) for owner in (SESSION, 1, -(1 << 62), TTL_MASK - 1)], [True] * 4)

    def test_quota_counters_are_no_change(self) -> None:
        """They move data and dataLength of the stats node, and neither its stat, nor the digest, nor a watch."""
        chain = Chain()
        chain.ok(create(b"/q"), create(b"/zookeeper/quota/q"))
        chain.ok(create(b"/zookeeper/quota/q/zookeeper_limits", b"count=9,bytes=99"))
        path = b"/zookeeper/quota/q/zookeeper_stats"
        chain.ok(create(path, b"whatever"))
        before = chain.stat(path)
        self.assertEqual(chain.tree.nodes[path].data, b"count=1,bytes=0")
        chain.ok(create(b"/q/a", b"1234567890"))
        self.assertEqual([change.path for change in chain.changes], [b"/q/a"])
        self.assertEqual(chain.tree.nodes[path].data, b"count=2,bytes=10")
        self.assertEqual(chain.stat(path), before._replace(dataLength=16))
        chain.ok(set_data(b"/q/a", b"1"), delete(b"/q/a"))
        self.assertEqual(chain.tree.nodes[path].data, b"count=1,bytes=0")
        self.assertEqual(chain.replayed().nodes[path].data, b"count=1,bytes=0")

    def test_deepest_quota(self) -> None:
        """Only the deepest path with a quota counts; one on the root is ignored."""
        chain = Chain()
        chain.ok(create(b"/q"), create(b"/q/r"))
        for path in (b"", b"/q", b"/q/r"):
            if path:
                chain.ok(create(b"/zookeeper/quota" + path))
            chain.ok(create(b"/zookeeper/quota" + path + b"/zookeeper_limits", b"count=9,bytes=99"))
            chain.ok(create(b"/zookeeper/quota" + path + b"/zookeeper_stats", b""))
        chain.ok(create(b"/q/r/x", b"1"), create(b"/q/s", b"22"))
        data = {
            path: chain.tree.nodes[b"/zookeeper/quota" + path + b"/zookeeper_stats"].data for path in (b"/q", b"/q/r")
        }
        self.assertEqual(data, {b"/q": b"count=3,bytes=2", b"/q/r": b"count=2,bytes=1"})


class ReplayTests(SynchronousTestCase):
    """Applying what has been applied already, as a log is replayed over a snapshot (spec: server-semantics 11.2)."""

    def test_create_again(self) -> None:
        """An existing node is not made anew; the parent's counter and pzxid still rise."""
        tree = DataTree()
        self.assertEqual(apply(tree, 1, ops.CREATE, create_txn(b"/a", 1, data=b"1")), 0)
        self.assertEqual(apply(tree, 2, ops.CREATE, create_txn(b"/a", 5, data=b"2")), EXISTS)
        self.assertEqual((tree.nodes[b""].cversion, tree.nodes[b""].pzxid, tree.nodes[b"/a"].data), (5, 2, b"1"))
        self.assertEqual(apply(tree, 3, ops.CREATE, create_txn(b"/b", 3)), 0)
        self.assertEqual((tree.nodes[b""].cversion, tree.nodes[b""].pzxid), (5, 2))

    def test_old_create(self) -> None:
        """A parent cversion of -1 is what 3.3 wrote: one more than there is."""
        tree = DataTree()
        apply(tree, 1, ops.CREATE, create_txn(b"/a", -1))
        apply(tree, 2, ops.CREATE, create_txn(b"/b", -1))
        self.assertEqual((tree.nodes[b""].cversion, tree.nodes[b""].pzxid), (2, 2))

    def test_missing(self) -> None:
        """What is missing is told and is not fatal."""
        tree = DataTree()
        self.assertEqual(apply(tree, 1, ops.DELETE, txns.DeleteTxn(b"/a")), NO_NODE)
        self.assertEqual(apply(tree, 2, ops.SET_DATA, txns.SetDataTxn(b"/a", b"", 1)), NO_NODE)
        self.assertEqual(apply(tree, 3, ops.SET_ACL, txns.SetACLTxn(b"/a", OPEN_ACL, 1)), NO_NODE)
        self.assertEqual(apply(tree, 4, ops.CREATE, create_txn(b"/a/b", 1)), NO_NODE)
        self.assertEqual(apply(tree, 5, ops.ERROR, txns.ErrorTxn(-7)), -7)

    def test_failed_multi(self) -> None:
        """One error among the operations, and none of them is done."""
        tree = DataTree()
        operations = [
            (ops.CREATE, create_txn(b"/a", 1)),
            (ops.ERROR, txns.ErrorTxn(EXISTS)),
            (ops.ERROR, txns.ErrorTxn(-2)),
        ]
        body = txns.MultiTxn([txns.Txn(kind, jute.encode(each)) for kind, each in operations])
        results = tree.apply(txns.TxnHeader(SESSION, 1, 1, TIME, ops.MULTI), body).results
        self.assertEqual([(kind, each.err) for kind, each in results], [(-1, 0), (-1, EXISTS), (-1, SYSTEM)])
        self.assertEqual(len(tree.nodes), 4)

    def test_close_session(self) -> None:
        """It deletes the nodes that it names, those that it forgot, and minds no missing one."""
        for body in (None, txns.CloseSessionTxn([b"/a", b"/gone"])):
            tree = DataTree()
            apply(tree, 1, ops.CREATE, create_txn(b"/a", 1, ephemeral=True))
            apply(tree, 2, ops.CREATE, create_txn(b"/b", 2, ephemeral=True))
            apply(tree, 3, ops.CREATE, create_txn(b"/c", 3, ephemeral=True), OTHER)
            self.assertEqual(apply(tree, 4, ops.CLOSE_SESSION, body), 0)
            self.assertEqual(sorted(tree.nodes[b""].children or ()), [b"c", b"zookeeper"])
            self.assertEqual(tree.ephemerals, {OTHER: {b"/c": None}})

    def test_dead_ephemerals(self) -> None:
        """At a start the nodes of sessions that are gone go; TTL nodes and containers are nobody's."""
        chain = Chain(extended_types=True)
        chain.ok(create(b"/e", flags=1), create_container(b"/c"), create_ttl(b"/t", 5))
        chain.ok(create(b"/o", flags=1), session=OTHER)
        self.assertEqual(chain.tree.remove_dead_ephemerals({OTHER: 4000}, 9), [b"/e"])
        self.assertEqual(chain.paths(), {b"/c", b"/t", b"/o"})
        total = sum(node.compute_digest(path) for path, node in chain.tree.nodes.items())
        self.assertEqual(chain.tree.digest, total)

    def test_rebuild(self) -> None:
        """Indexes, counters and digest derived from the nodes are those that were kept."""
        chain = Chain(extended_types=True)
        chain.ok(create(b"/q"), create(b"/zookeeper/quota/q"))
        chain.ok(create(b"/zookeeper/quota/q/zookeeper_limits", b"count=9,bytes=99"))
        chain.ok(create(b"/zookeeper/quota/q/zookeeper_stats"), create(b"/q/e", b"123", flags=1))
        chain.ok(create_container(b"/c"), create_ttl(b"/q/t", 5), set_data(b"/", b"root"))
        tree = chain.tree
        kept = (tree.ephemerals, tree.containers, tree.ttls, dict(tree.quotas.paths), tree.digest, tree.data_size)
        before = fields(tree)
        tree.rebuild()
        self.assertEqual(
            (tree.ephemerals, tree.containers, tree.ttls, dict(tree.quotas.paths), tree.digest, tree.data_size), kept
        )
        self.assertEqual(fields(tree), before)

    def test_acls_are_counted(self) -> None:
        """A list leaves the table with the last node that has it."""
        chain = Chain()
        chain.ok(create(b"/a", acl=READ_ONLY), create(b"/b", acl=OPEN_ACL), set_acl(b"/b", READ_ONLY))
        lists = {acl.acls: acl.refs for _, acl in chain.tree.acls.items()}
        self.assertEqual(lists, {READ_ONLY: 3})
        chain.ok(delete(b"/a"), delete(b"/b"))
        self.assertEqual({acl.acls: acl.refs for _, acl in chain.tree.acls.items()}, {READ_ONLY: 1})


class OverflowTests(SynchronousTestCase):
    """The counter of children at the end of 32 bits (spec: server-semantics 5.1, overflow)."""

    def chain(self) -> Chain:
        chain = Chain()
        chain.ok(create(b"/s"))
        chain.tree.nodes[b"/s"].cversion = 0x7FFFFFFE
        return chain

    def test_one_at_a_time(self) -> None:
        """The stored counter stays at its largest value: the same number again, which the same prefix has already."""
        chain = self.chain()
        paths = [chain.do(create(b"/s/a", flags=2)).path for _ in range(2)]
        self.assertEqual(paths, [b"/s/a2147483646", b"/s/a2147483647"])
        before = chain.stat(b"/s")
        self.assertEqual(chain.do(create(b"/s/a", flags=2)).err, EXISTS)
        self.assertEqual(chain.do(create(b"/s/b", flags=2)).path, b"/s/b2147483647")
        after = chain.stat(b"/s")
        self.assertEqual((after.pzxid, chain.tree.nodes[b"/s"].cversion), (before.pzxid, 0x7FFFFFFF))
        self.assertEqual(chain.prepare.digest & (1 << 64) - 1, chain.tree.digest & (1 << 64) - 1)

    def test_in_flight(self) -> None:
        """Several in flight, and several in one multi, see the counter wrapped."""
        expected = [b"/s/a2147483646", b"/s/a2147483647", b"/s/a-2147483648", b"/s/a-2147483647"]
        chain = self.chain()
        proposals = [chain.propose(create(b"/s/a", flags=2)) for _ in range(4)]
        self.assertEqual([chain.apply(each).path for each in proposals], expected)
        self.assertEqual(chain.prepare.digest, chain.tree.digest)
        chain = self.chain()
        results = chain.apply(chain.multi(*[create(b"/s/a", flags=2)] * 4)).results
        self.assertEqual([each.path for _, each in results], expected)
        self.assertEqual((chain.prepare.digest, chain.stat(b"/s").cversion), (chain.tree.digest, -6))
