"""Preparation: the order of the checks, what is pending, and what becomes of what fails (spec: server-semantics 5)."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.tree.chain import (
    BAD_ARGUMENTS,
    BAD_VERSION,
    EXISTS,
    INVALID_ACL,
    LOCAL,
    MARSHALLING,
    NO_AUTH,
    NO_CHILDREN,
    NO_NODE,
    NOT_EMPTY,
    OK,
    OTHER,
    QUOTA,
    READ_ONLY,
    SESSION,
    SYSTEM,
    UNIMPLEMENTED,
    Chain,
    Operation,
    check,
    create,
    create_container,
    create_ttl,
    delete,
    delete_container,
    fields,
    set_acl,
    set_data,
)
from zktwisted.errors import Code
from zktwisted.tree.znode import TTL_MAX
from zktwisted.wire import ops, proto, txns
from zktwisted.wire.proto import ACL, OPEN_ACL, Id

WORLD_OTHER = (ACL(31, Id("world", "other")),)


class OrderTests(SynchronousTestCase):
    """A request with several faults gets the code of the first check that fails."""

    def world(self, **options: object) -> Chain:
        """Make a tree in which everything can go wrong; under C{/q} no node and no byte more has room."""
        chain = Chain(enforce_quota=True, **options)
        chain.ok(
            create(b"/p"),
            create(b"/p/there"),
            create(b"/p/full"),
            create(b"/p/full/x"),
            create(b"/closed", acl=READ_ONLY),
            create(b"/e", flags=1),
            create(b"/q"),
            create(b"/q/there", b"1234"),
            create(b"/q/e", flags=1),
            create(b"/dark", acl=(ACL(16, Id("world", "anyone")),)),
            create(b"/zookeeper/quota/q"),
            create(b"/zookeeper/quota/q/zookeeper_limits", b"count=3,bytes=4=;byteHardLimit=4;countHardLimit=3"),
            create(b"/zookeeper/quota/q/zookeeper_stats"),
        )
        chain.ok(create_container(b"/c"), create(b"/c/x"))
        self.assertEqual(chain.tree.nodes[b"/zookeeper/quota/q/zookeeper_stats"].data, b"count=3,bytes=4")
        return chain

    def check_all(self, chain: Chain, cases: list[tuple[Operation, int]]) -> None:
        """Ask in turn; each is refused with its code, consumes a zxid, and leaves nothing pending."""
        before = fields(chain.tree)
        for operation, code in cases:
            zxid = chain.prepare.zxid
            proposal = chain.propose(operation)
            self.assertEqual((proposal.header.type, proposal.body.err), (ops.ERROR, code), operation)
            self.assertEqual((proposal.header.zxid, chain.prepare.zxid), (zxid + 1, zxid + 1))
            self.assertEqual(chain.apply(proposal).err, code)
            self.assertEqual((chain.prepare.digest, chain.changes), (chain.tree.digest, []))
        self.assertEqual(fields(chain.tree), before)

    def test_create(self) -> None:
        """Flags, TTL, path, ACL, parent, permission, whole path, existence, ephemeral parent, quota."""
        cases = [
            (create(None, flags=7), BAD_ARGUMENTS),
            (create(None, flags=-1), BAD_ARGUMENTS),
            (create(None, flags=5), UNIMPLEMENTED),
            (create_ttl(b"x", 5, flags=6), UNIMPLEMENTED),
            (create_ttl(b"/p/x", -1, flags=0), BAD_ARGUMENTS),
            (create_ttl(b"/p/x", 5, flags=0), BAD_ARGUMENTS),
            (create(None, acl=None), MARSHALLING),
            (create(b"", acl=None), BAD_ARGUMENTS),
            (create(b"x", acl=None), BAD_ARGUMENTS),
            (create(b"/nope/\0", acl=None), BAD_ARGUMENTS),
            (create(b"/nope/x", acl=None), INVALID_ACL),
            (create(b"/nope/x", acl=()), INVALID_ACL),
            (create(b"/nope/x", acl=WORLD_OTHER), INVALID_ACL),
            (create(b"/nope/x", acl=(ACL(31, Id("auth", "")),)), INVALID_ACL),
            (create(b"/nope/x", acl=(ACL(31, Id(None, None)),)), INVALID_ACL),
            (create(b"/nope/x", acl=(ACL(31, Id("world", None)),)), MARSHALLING),
            (create(b"/nope/\x01"), NO_NODE),
            (create(b"/a//b"), NO_NODE),
            (create(b"/closed/\x01"), NO_AUTH),
            (create(b"/closed/x"), NO_AUTH),
            (create(b"/e/.."), BAD_ARGUMENTS),
            (create(b"/p/"), BAD_ARGUMENTS),
            (create(b"/p/\xff"), BAD_ARGUMENTS),
            (create("/p/\U0001f600".encode()), BAD_ARGUMENTS),
            (create(b"/"), EXISTS),
            (create(b"/p/there"), EXISTS),
            (create(b"/q/there"), EXISTS),
            (create(b"/e/x"), NO_CHILDREN),
            (create(b"/q/e/x"), NO_CHILDREN),
            (create(b"/q/x"), QUOTA),
        ]
        self.check_all(self.world(), cases)
        self.check_all(self.world(), [((ops.CREATE2, request), code) for (op, request), code in cases if op == 1])

    def test_create_with_extended_types(self) -> None:
        """A TTL counts from 1 to 40 bits; only opcode 21 carries one, and only with flags 5 and 6."""
        chain = self.world(extended_types=True)
        self.check_all(
            chain,
            [
                (create_ttl(b"x", 0), BAD_ARGUMENTS),
                (create_ttl(b"/p/x", -1), BAD_ARGUMENTS),
                (create_ttl(b"/p/x", TTL_MAX + 1), BAD_ARGUMENTS),
                (create_ttl(b"/p/x", -1, flags=6), BAD_ARGUMENTS),
                (create(b"/p/x", flags=5), BAD_ARGUMENTS),
                (create(b"/p/x", flags=6), BAD_ARGUMENTS),
                ((ops.CREATE_CONTAINER, create(b"/p/x", flags=5)[1]), BAD_ARGUMENTS),
                *[(create_ttl(b"/p/x", -1, flags=flags), BAD_ARGUMENTS) for flags in range(5)],
                *[(create_ttl(b"/p/x", 5, flags=flags), BAD_ARGUMENTS) for flags in range(5)],
                (create_ttl(b"/nope/x", 5, acl=None), INVALID_ACL),
            ],
        )
        chain.ok(create_ttl(b"/p/min", 1), create_ttl(b"/p/max", TTL_MAX), create_ttl(b"/p/s", 5, flags=6))
        self.assertEqual(sorted(chain.tree.ttls), [b"/p/max", b"/p/min", b"/p/s0000000004"])

    def test_delete(self) -> None:
        """Special path, parent, permission on the parent, node, version, children."""
        self.check_all(
            self.world(),
            [
                (delete(None), MARSHALLING),
                (delete(b"x"), BAD_ARGUMENTS),
                (delete(b"/p\0/x"), BAD_ARGUMENTS),
                *[(delete(path), BAD_ARGUMENTS) for path in (b"/", b"/zookeeper", b"/zookeeper/quota")],
                (delete(b"/zookeeper/config"), BAD_ARGUMENTS),
                (delete(b"/nope/x", 9), NO_NODE),
                (delete(b"/closed/nope", 9), NO_AUTH),
                (delete(b"/p/nope", 9), NO_NODE),
                (delete(b"/p/nope/"), NO_NODE),
                (delete(b"/p/full", 9), BAD_VERSION),
                (delete(b"/p/full", 0), NOT_EMPTY),
                (delete(b"/c"), NOT_EMPTY),
            ],
        )

    def test_delete_needs_nothing_on_the_node(self) -> None:
        """DELETE is asked of the parent only."""
        chain = self.world()
        chain.ok(delete(b"/closed"), delete(b"/dark"))

    def test_set_data(self) -> None:
        """Path, node, permission, quota, version."""
        self.check_all(
            self.world(),
            [
                (set_data(None, b""), BAD_ARGUMENTS),
                (set_data(b"", b""), BAD_ARGUMENTS),
                (set_data(b"/nope/", b""), BAD_ARGUMENTS),
                (set_data(b"/nope", b""), NO_NODE),
                (set_data(b"/closed", b"", 9), NO_AUTH),
                (set_data(b"/q/there", b"12345", 9), QUOTA),
                (set_data(b"/q/there", b"1235", 9), BAD_VERSION),
                (set_data(b"/p", b"", 1), BAD_VERSION),
                (set_data(b"/p", b"", -2), BAD_VERSION),
            ],
        )

    def test_set_acl(self) -> None:
        """Path, ACL, node, permission, version, which is the ACL's own."""
        chain = self.world()
        chain.ok(set_data(b"/p", b"1"))
        self.check_all(
            chain,
            [
                (set_acl(None, None), BAD_ARGUMENTS),
                (set_acl(b"/nope/", None), BAD_ARGUMENTS),
                (set_acl(b"/nope", None), INVALID_ACL),
                (set_acl(b"/nope", WORLD_OTHER), INVALID_ACL),
                (set_acl(b"/nope", OPEN_ACL), NO_NODE),
                (set_acl(b"/closed", OPEN_ACL, 9), NO_AUTH),
                (set_acl(b"/p", OPEN_ACL, 1), BAD_VERSION),
            ],
        )
        chain.ok(set_acl(b"/p", READ_ONLY, 0))

    def test_delete_container(self) -> None:
        """The reaper's own request: children, then what it is; a node that is missing is missing."""
        chain = self.world(extended_types=True)
        self.check_all(
            chain,
            [
                (delete_container(b"/nope"), NO_NODE),
                (delete_container(b"/c"), NOT_EMPTY),
                (delete_container(b"/e"), BAD_VERSION),
                (delete_container(b"/p/there"), BAD_VERSION),
            ],
        )
        chain.ok(delete(b"/c/x"), delete_container(b"/c"), create_ttl(b"/t", 1), delete_container(b"/t"))
        self.assertTrue(chain.paths().isdisjoint({b"/c", b"/t"}))

    def test_reconfig(self) -> None:
        """A server alone has nothing to reconfigure, and says first whether it might."""
        request = (ops.RECONFIG, proto.ReconfigRequest(None, None, "server.1=x", -1))
        self.check_all(self.world(), [(request, Code.RECONFIGDISABLED.value)])
        self.check_all(self.world(reconfig_enabled=True), [(request, UNIMPLEMENTED)])

    def test_check(self) -> None:
        """Inside a multi: path, node, permission, version."""
        for operation, code in (
            (check(b"/nope/", 9), BAD_ARGUMENTS),
            (check(b"/nope", 9), NO_NODE),
            (check(b"/dark", 9), NO_AUTH),
            (check(b"/p", 9), BAD_VERSION),
            (check(b"/p", 0), OK),
            (check(b"/p", -1), OK),
            (check(b"/", -1), OK),
        ):
            chain = self.world()
            applied = chain.apply(chain.multi(operation))
            self.assertEqual([each.err for _, each in applied.results], [code], operation)

    def test_undecodable(self) -> None:
        """A body cut short is an error transaction with a zxid of its own, whatever the operation."""
        chain = self.world()
        for op in (1, 2, 5, 7, 14, 15, 16, 19, 21):
            for body in (b"", b"\0\0\0\5/a", b"\xff\xff\xff\xfe"):
                zxid = chain.prepare.zxid
                proposal = chain.propose((op, body))
                self.assertEqual((proposal.header.type, proposal.header.zxid), (ops.ERROR, zxid + 1))
                self.assertEqual(proposal.body.err, MARSHALLING, (op, body))
                self.assertEqual(txns.decode_entry(proposal.entry)[:2], (proposal.header, proposal.body))

    def test_super_and_skip(self) -> None:
        """The super user passes every ACL; with skipACL everybody does."""
        chain = self.world()
        self.assertEqual(chain.do(create(b"/closed/x"), identities=(LOCAL, Id("super", ""))).err, OK)
        self.assertEqual(self.world(skip_acl=True).do(create(b"/closed/x")).err, OK)


class KindTests(SynchronousTestCase):
    """Which node a create makes follows its operation."""

    def test_kinds(self) -> None:
        """19 makes a container whatever its flags, 1 and 15 an ordinary node for flag 4."""
        chain = Chain()
        for number, (op, flags, kind) in enumerate(
            (
                (ops.CREATE, 0, "plain"),
                (ops.CREATE2, 4, "plain"),
                (ops.CREATE, 1, "ephemeral"),
                (ops.CREATE2, 3, "ephemeral"),
                (ops.CREATE_CONTAINER, 4, "container"),
                (ops.CREATE_CONTAINER, 0, "container"),
                (ops.CREATE_CONTAINER, 1, "container"),
            )
        ):
            applied = chain.do((op, proto.CreateRequest(b"/n%d-" % number, b"", OPEN_ACL, flags)))
            self.assertEqual(applied.err, OK)
            assert applied.path is not None
            found = (
                "container"
                if applied.path in chain.tree.containers
                else "ephemeral"
                if applied.path in chain.tree.ephemerals.get(SESSION, {})
                else "plain"
            )
            self.assertEqual(found, kind, (op, flags))
            self.assertEqual(chain.stat(applied.path).ephemeralOwner, SESSION if kind == "ephemeral" else 0)

    def test_null_and_empty_data(self) -> None:
        """Null data stays null, empty data empty."""
        chain = Chain()
        chain.ok(create(b"/null", None), create(b"/empty", b""), create(b"/x", b"x"), set_data(b"/x", None))
        self.assertEqual([chain.tree.nodes[path].data for path in (b"/null", b"/empty", b"/x")], [None, b"", None])

    def test_version_wraps(self) -> None:
        """A version counts over the end of 32 bits."""
        chain = Chain()
        chain.ok(create(b"/v"))
        chain.tree.nodes[b"/v"].version = chain.tree.nodes[b"/v"].aversion = 0x7FFFFFFF
        chain.ok(set_data(b"/v", b"", 0x7FFFFFFF), set_acl(b"/v", OPEN_ACL, 0x7FFFFFFF))
        self.assertEqual((chain.stat(b"/v").version, chain.stat(b"/v").aversion), (-0x80000000, -0x80000000))


class PendingTests(SynchronousTestCase):
    """What is prepared counts for what comes behind it, before any of it is applied."""

    def test_chain_of_writes(self) -> None:
        """Each of several writes in flight sees those before it; applied in order they come to what was promised."""
        chain = Chain()
        proposals = [
            chain.propose(create(b"/a")),
            chain.propose(create(b"/a")),
            chain.propose(create(b"/a/b", b"1")),
            chain.propose(set_data(b"/a/b", b"2", 0)),
            chain.propose(set_data(b"/a/b", b"3", 0)),
            chain.propose(delete(b"/a")),
            chain.propose(delete(b"/a/b", 1)),
            chain.propose(set_data(b"/a/b", b"4")),
            chain.propose(delete(b"/a")),
            chain.propose(create(b"/a/c")),
            chain.propose(create(b"/a", b"again")),
        ]
        self.assertEqual(chain.paths(), set())
        codes = [OK, EXISTS, OK, OK, BAD_VERSION, NOT_EMPTY, OK, NO_NODE, OK, NO_NODE, OK]
        self.assertEqual([chain.apply(each).err for each in proposals], codes)
        self.assertEqual(chain.tree.nodes[b"/a"].data, b"again")
        self.assertEqual(chain.prepare.pending, {})
        self.assertEqual([each.header.zxid for each in proposals], list(range(1, 12)))

    def test_a_record_outlives_older_ones(self) -> None:
        """Applying the first of two changes of a node must not forget the second."""
        chain = Chain()
        chain.ok(create(b"/a"))
        first, second = chain.propose(set_data(b"/a", b"1")), chain.propose(set_data(b"/a", b"2"))
        chain.apply(first)
        third = chain.propose(set_data(b"/a", b"3", 2))
        self.assertEqual([chain.apply(second).err, chain.apply(third).err], [OK, OK])

    def test_acl_and_ephemeral_parent(self) -> None:
        """A pending ACL and a pending ephemeral parent are judged like applied ones."""
        chain = Chain()
        chain.ok(create(b"/a"))
        proposals = [
            chain.propose(set_acl(b"/a", READ_ONLY)),
            chain.propose(create(b"/a/x")),
            chain.propose(create(b"/e", flags=1)),
            chain.propose(create(b"/e/x")),
        ]
        self.assertEqual([chain.apply(each).err for each in proposals], [OK, NO_AUTH, OK, NO_CHILDREN])

    def test_sequence_numbers(self) -> None:
        """They count all creates under a parent, pending ones too; deletes do not lower them, failures do not count."""
        chain = Chain()
        chain.ok(create(b"/s"))
        proposals = [
            chain.propose(create(b"/s/a-", flags=2)),
            chain.propose(create(b"/s/plain")),
            chain.propose(delete(b"/s/plain")),
            chain.propose(create(b"/s/a-0000000000")),
            chain.propose(create(b"/s/b-", flags=3)),
            chain.propose(create(b"/s/", flags=2)),
        ]
        applied = [chain.apply(each) for each in proposals]
        self.assertEqual([each.err for each in applied], [OK, OK, OK, EXISTS, OK, OK])
        self.assertEqual(
            [each.path for each in applied if each.path],
            [b"/s/a-0000000000", b"/s/plain", b"/s/b-0000000002", b"/s/0000000003"],
        )

    def test_close_session(self) -> None:
        """It takes the ephemerals of the tree and the pending ones, but not those with a pending delete."""
        for named in (True, False):
            chain = Chain(close_session_txn=named)
            chain.ok(create(b"/p"), create(b"/p/old", flags=1), create(b"/p/gone", flags=1))
            chain.ok(create(b"/p/other", flags=1), session=OTHER)
            proposals = [
                chain.propose(delete(b"/p/gone")),
                chain.propose(create(b"/p/new", flags=1)),
                chain.close(SESSION),
                chain.propose(create(b"/p/old"), OTHER),
                chain.propose(delete(b"/p/new"), OTHER),
            ]
            close = proposals[2]
            paths = sorted(close.body.paths) if named else close.body
            self.assertEqual(paths, [b"/p/new", b"/p/old"] if named else None)
            for proposal in proposals[:3]:
                chain.apply(proposal)
            self.assertEqual(chain.paths(), {b"/p", b"/p/other"})
            told = {(change.type, change.path) for change in chain.changes}
            self.assertEqual(told, {(2, b"/p/old"), (2, b"/p/new")})
            self.assertEqual([chain.apply(each).err for each in proposals[3:]], [OK, NO_NODE])
            self.assertEqual(chain.stat(b"/p").pzxid, proposals[3].header.zxid)
            self.assertEqual(fields(chain.replayed()), fields(chain.tree))

    def test_ids_of_the_header(self) -> None:
        """The transaction carries session, cxid, zxid, time and type."""
        chain = Chain()
        proposal = chain.propose(create(b"/a"), OTHER, cxid=77)
        self.assertEqual(proposal.header, txns.TxnHeader(OTHER, 77, 1, chain.time, ops.CREATE))
        header, body, digest = txns.decode_entry(proposal.entry)
        self.assertEqual((header, body.path, body.parent_cversion), (proposal.header, b"/a", 1))
        assert digest is not None
        self.assertEqual(digest.version, 2)

    def test_without_digest(self) -> None:
        """C{digest.enabled=false}: entries end behind their body."""
        chain = Chain(digest_enabled=False)
        self.assertIsNone(txns.decode_entry(chain.propose(create(b"/a")).entry)[2])


class MultiTests(SynchronousTestCase):
    """All or nothing."""

    def errors(self, chain: Chain, *operations: Operation) -> list[tuple[int, int]]:
        return [(kind, each.err) for kind, each in chain.apply(chain.multi(*operations)).results]

    def test_all(self) -> None:
        """Later operations see earlier ones; the parent's effects add up under one zxid and time."""
        chain = Chain()
        results = chain.apply(
            chain.multi(
                create(b"/m"),
                create(b"/m/a", b"1"),
                create(b"/m/b"),
                check(b"/m/a", 0),
                set_data(b"/m/a", b"22", 0),
                delete(b"/m/b"),
            )
        ).results
        self.assertEqual(
            [(kind, each.err) for kind, each in results], [(1, 0), (1, 0), (1, 0), (13, 0), (5, 0), (2, 0)]
        )
        stat = chain.stat(b"/m")
        self.assertEqual((stat.cversion, stat.numChildren, stat.pzxid), (3, 1, 1))
        child = chain.stat(b"/m/a")
        self.assertEqual((child.czxid, child.mzxid, child.version, child.dataLength), (1, 1, 1, 2))
        self.assertEqual([change.path for change in chain.changes], [b"/m", b"/m/a", b"/m/b", b"/m/a", b"/m/b"])

    def test_nothing(self) -> None:
        """A failed one changes nothing, consumes a zxid, and says which operation it was."""
        chain = Chain()
        chain.ok(create(b"/there"), create(b"/p"))
        before = fields(chain.tree)
        results = self.errors(
            chain, create(b"/p/x", flags=2), create(b"/there"), set_data(b"/there", b""), delete(b"/p")
        )
        self.assertEqual(results, [(-1, 0), (-1, EXISTS), (-1, SYSTEM), (-1, SYSTEM)])
        self.assertEqual((fields(chain.tree), chain.changes), (before, []))
        self.assertEqual((chain.prepare.zxid, chain.prepare.pending), (3, {}))
        self.assertEqual(chain.prepare.digest, chain.tree.digest)

    def test_rolled_back_to_what_was_pending(self) -> None:
        """What earlier writes have pending is put back as it was, sequence numbers and digest included."""
        chain = Chain()
        chain.ok(create(b"/p"))
        first = chain.propose(create(b"/p/a-", b"1", flags=2))
        digest, pending = chain.prepare.digest, dict(chain.prepare.pending)
        failed = chain.multi(
            create(b"/p/b-", flags=2),
            create(b"/p/b-", flags=2),
            set_data(b"/p/a-0000000000", b"2"),
            delete(b"/p/a-0000000000"),
            delete(b"/nope"),
        )
        self.assertEqual((chain.prepare.digest, chain.prepare.pending), (digest, pending))
        second = chain.propose(create(b"/p/a-", flags=2))
        third = chain.propose(set_data(b"/p/a-0000000000", b"3", 0))
        for proposal in (first, failed, second, third):
            self.assertEqual(chain.apply(proposal).err, OK)
        self.assertEqual(chain.paths(), {b"/p", b"/p/a-0000000000", b"/p/a-0000000001"})
        self.assertEqual(fields(chain.replayed()), fields(chain.tree))

    def test_empty(self) -> None:
        """A multi of nothing succeeds and consumes a zxid."""
        chain = Chain()
        self.assertEqual(self.errors(chain), [])
        self.assertEqual(chain.prepare.zxid, 1)

    def test_refused_whole(self) -> None:
        """What may not stand in a multi refuses all of it: one error, no results."""
        chain = Chain()
        for operations in (
            [create(b"/a"), set_acl(b"/a", OPEN_ACL)],
            [create(b"/a"), delete_container(b"/a")],
            [create(b"/a"), (ops.GET_DATA, proto.PathWatchRequest(b"/a", False))],
            [create(b"/a"), create(b"/b", flags=7)],
            [create(b"/a"), create(b"/b", flags=5)],
            [create(b"/a"), create(None)],
            [create(b"/a"), delete(None)],
            [create(b"/a"), create(b"/b", acl=None)],
        ):
            proposal = chain.multi(*operations)
            self.assertEqual((proposal.header.type, proposal.body), (ops.ERROR, txns.ErrorTxn(MARSHALLING)))
            self.assertEqual(chain.apply(proposal).err, MARSHALLING)
        self.assertEqual(chain.paths(), set())
        whole = proto.encode_multi([create(b"/a"), delete(b"/a")])
        for end in range(len(whole)):
            self.assertEqual(chain.propose((ops.MULTI, whole[:end])).body, txns.ErrorTxn(MARSHALLING), end)

    def test_ttl_off(self) -> None:
        """A TTL create is refused in its place while extended types are off."""
        chain = Chain()
        results = self.errors(chain, create(b"/a"), create_ttl(b"/b", 5))
        self.assertEqual(results, [(-1, 0), (-1, UNIMPLEMENTED)])

    def test_kinds(self) -> None:
        """Containers and TTL nodes can be made, and a plain flag makes a plain node of createTTL's request."""
        chain = Chain(extended_types=True)
        results = self.errors(
            chain, create_container(b"/c"), create_ttl(b"/t", 5), create_ttl(b"/p", -1, flags=0), create(b"/k", flags=4)
        )
        self.assertEqual([err for _, err in results], [0, 0, 0, 0])
        self.assertEqual((list(chain.tree.containers), list(chain.tree.ttls)), ([b"/c", b"/k"], [b"/t"]))
        self.assertEqual(chain.tree.nodes[b"/p"].owner, 0)
        self.assertEqual(fields(chain.replayed()), fields(chain.tree))


class QuotaTests(SynchronousTestCase):
    """Limits on the deepest path that has any (spec: server-semantics 8)."""

    def chain(self, limits: bytes, enforce: bool = True) -> Chain:
        chain = Chain(enforce_quota=enforce)
        chain.ok(
            create(b"/q"),
            create(b"/zookeeper/quota/q"),
            create(b"/zookeeper/quota/q/zookeeper_limits", limits),
            create(b"/zookeeper/quota/q/zookeeper_stats"),
        )
        return chain

    def stats(self, chain: Chain) -> bytes | None:
        return chain.tree.nodes[b"/zookeeper/quota/q/zookeeper_stats"].data

    def test_hard(self) -> None:
        """As much as the limit is allowed, more is not."""
        chain = self.chain(b"count=1,bytes=1=;byteHardLimit=5;countHardLimit=2")
        chain.ok(create(b"/q/a", b"12345"))
        self.assertEqual(chain.do(create(b"/q/b")).err, QUOTA)
        self.assertEqual(chain.do(set_data(b"/q/a", b"123456")).err, QUOTA)
        chain.ok(set_data(b"/q/a", b"54321"), set_data(b"/q/a", b""), set_data(b"/q", b"12345"))
        self.assertEqual((self.stats(chain), chain.soft), (b"count=2,bytes=5", []))

    def test_soft(self) -> None:
        """A soft limit is only told."""
        chain = self.chain(b"count=2,bytes=2")
        chain.ok(create(b"/q/a", b"12"))
        self.assertEqual(chain.soft, [])
        chain.ok(create(b"/q/b"), set_data(b"/q/b", b"1"))
        self.assertEqual(chain.soft, [b"/q/b", b"/q/b"])

    def test_off(self) -> None:
        """Without enforcement the figures are kept and nothing is refused."""
        chain = self.chain(b"count=1,bytes=1=;byteHardLimit=1;countHardLimit=1", enforce=False)
        chain.ok(create(b"/q/a", b"123"), create(b"/q/a/b", b"4"), delete(b"/q/a/b"))
        self.assertEqual(self.stats(chain), b"count=2,bytes=3")

    def test_unreadable(self) -> None:
        """Limits that nobody can read make writes below fail."""
        chain = self.chain(b"garbage")
        self.assertEqual(chain.do(create(b"/q/a")).err, MARSHALLING)

    def test_overshoot(self) -> None:
        """It is checked against what is applied: several in flight, or in one multi, can go beyond."""
        chain = self.chain(b"count=2,bytes=-1=;countHardLimit=2")
        proposals = [chain.propose(create(b"/q/%d" % n)) for n in range(3)]
        self.assertEqual([chain.apply(each).err for each in proposals], [OK] * 3)
        self.assertEqual(chain.do(create(b"/q/x")).err, QUOTA)

    def test_lifted(self) -> None:
        """Deleting the limits node lifts the quota and freezes the figures."""
        chain = self.chain(b"count=1,bytes=-1=;countHardLimit=1")
        chain.ok(delete(b"/zookeeper/quota/q/zookeeper_limits"), create(b"/q/a"), create(b"/q/b"))
        self.assertEqual(self.stats(chain), b"count=1,bytes=0")
