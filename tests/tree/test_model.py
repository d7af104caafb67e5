"""
The tree and what prepares its transactions, against a model in plain dicts.

Random writes are prepared while earlier ones are still to be applied; each outcome, event and stat must be what the
model says, although the model does each write at once.  Meanwhile images of the changing tree are taken, and what
was logged is replayed over them, and into an empty tree.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from tests.tree.chain import commit
from tests.tree.model import LIMITS, STATS, Model, Node, Outcome
from zktwisted.errors import Code, ProtocolError
from zktwisted.tree import image
from zktwisted.tree.datatree import Applied, Change, DataTree
from zktwisted.tree.prepare import Prepare, Proposal
from zktwisted.tree.schemes import Schemes
from zktwisted.tree.znode import CONTAINER_OWNER, TTL_MASK, Znode
from zktwisted.wire import jute, ops, proto, txns
from zktwisted.wire.proto import ACL, OPEN_ACL, Id, Stat

ANYONE = Id("world", "anyone")
USER = Id("digest", "user:hash")
ADDRESS = Id("ip", "127.0.0.1")

ACLS: list[list[ACL] | None] = [
    list(OPEN_ACL),
    list(OPEN_ACL) * 2,
    [ACL(31, USER)],
    [ACL(31, Id("auth", ""))],
    [ACL(1, ANYONE), ACL(2, USER), ACL(16, Id("auth", ""))],
    [ACL(31 - 4, ANYONE)],
    [ACL(31 - 8, ANYONE)],
    [ACL(31 - 2, ANYONE)],
    [ACL(31 - 1, ANYONE)],
    [ACL(31, Id("digest", "nobody"))],
    [ACL(31, Id("world", "someone"))],
    [ACL(31, Id("world", None))],
    [ACL(31, Id("what", "x"))],
    [],
    None,
]
#: Operations of clients that are prepared.
WRITES = [
    ops.CREATE,
    ops.CREATE2,
    ops.CREATE_CONTAINER,
    ops.CREATE_TTL,
    ops.DELETE,
    ops.SET_DATA,
    ops.SET_ACL,
    ops.MULTI,
]
ODD_PATHS = [
    b"/",
    b"",
    b"a",
    b"//",
    b"/a/",
    b"/a//b",
    b"/./a",
    b"/zookeeper",
    b"/zookeeper/quota",
    b"/zookeeper/config",
]


class Near(NamedTuple):
    """A path that is told by the nodes there are: the last but so many, or a child of it."""

    back: int
    name: bytes | None


names = st.sampled_from([b"a", b"b", b"c", b"d-"])
usual_paths = st.lists(names, min_size=1, max_size=3).map(lambda parts: b"/" + b"/".join(parts))
rare_paths = st.one_of(usual_paths, usual_paths, usual_paths, st.none() | st.sampled_from(ODD_PATHS))
old_paths = st.builds(Near, st.integers(0, 12), st.none())
paths = st.one_of(old_paths, old_paths, old_paths, rare_paths)
new_paths = st.one_of(*[st.builds(Near, st.integers(0, 12), names)] * 4, rare_paths)
acls = st.one_of(st.just(ACLS[0]), st.just(ACLS[0]), st.sampled_from(ACLS))
datas = st.sampled_from([None, b"", b"x", b"hello", b"y" * 300])
versions = st.one_of(st.just(-1), st.just(-1), st.integers(-2, 3))
flags = st.one_of(st.sampled_from([0, 0, 0, 1, 2, 3]), st.integers(-1, 7))
ttls = st.one_of(st.just(1000), st.sampled_from([-1, 0, 1, 2**40 - 1, 2**40]))

creates = st.tuples(
    st.sampled_from([ops.CREATE, ops.CREATE, ops.CREATE2, ops.CREATE_CONTAINER]),
    st.builds(proto.CreateRequest, new_paths, datas, acls, flags),
)
ttl_creates = st.tuples(
    st.just(ops.CREATE_TTL),
    st.builds(proto.CreateTTLRequest, new_paths, datas, acls, st.one_of(st.sampled_from([5, 6]), flags), ttls),
)
deletes = st.tuples(st.just(ops.DELETE), st.builds(proto.DeleteRequest, paths, versions))
set_datas = st.tuples(st.just(ops.SET_DATA), st.builds(proto.SetDataRequest, paths, datas, versions))
set_acls = st.tuples(st.just(ops.SET_ACL), st.builds(proto.SetACLRequest, paths, acls, versions))
checks = st.tuples(st.just(ops.CHECK), st.builds(proto.CheckVersionRequest, paths, versions))
# What mostly succeeds, so that there is a tree to speak of.
open_acls = st.just(ACLS[0])
new_children = st.builds(Near, st.integers(0, 12), names)
good_creates = st.one_of(
    st.tuples(
        st.sampled_from([ops.CREATE, ops.CREATE2, ops.CREATE_CONTAINER]),
        st.builds(proto.CreateRequest, new_children, datas, open_acls, st.sampled_from([0, 0, 1, 2, 3])),
    ),
    st.tuples(
        st.just(ops.CREATE_TTL),
        st.builds(proto.CreateTTLRequest, new_children, datas, open_acls, st.sampled_from([5, 6]), st.just(1000)),
    ),
)
good_multis = st.one_of(
    good_creates,
    good_creates,
    st.tuples(st.just(ops.SET_DATA), st.builds(proto.SetDataRequest, old_paths, datas, st.just(-1))),
    st.tuples(st.just(ops.CHECK), st.builds(proto.CheckVersionRequest, old_paths, st.just(-1))),
)
any_writes = st.one_of(creates, creates, creates, ttl_creates, deletes, set_datas, set_acls)
in_multis = st.one_of(creates, creates, ttl_creates, deletes, set_datas, checks)


class Machine(RuleBasedStateMachine):
    """Prepares, applies late, and compares."""

    def __init__(self) -> None:
        super().__init__()
        self.tree = DataTree()
        self.model = Model()
        self.prepare = Prepare(self.tree, Schemes(), extended_types=True)
        #: Prepared and not yet applied, with what the model has said of each.
        self.pending: deque[tuple[Proposal, Any, list[tuple[int, bytes]]]] = deque()
        self.log: list[bytes] = []
        self.sessions = {1: (ADDRESS, USER), 2: (ADDRESS,)}
        self.next_session = 3
        self.cxid = 0
        #: Images under way: the position in the log at which each was begun, what is to come of it, and what came.
        self.images: list[tuple[int, Iterator[bytes], list[bytes]]] = []

    @initialize(close_session_txn=st.booleans())
    def choose(self, close_session_txn: bool) -> None:
        self.prepare.close_session_txn = close_session_txn

    # Writes

    def there(self, path: Near | bytes | None) -> bytes | None:
        """Return the path that is meant, as things will be when all that is pending has been applied."""
        if not isinstance(path, Near):
            return path
        # What a client writes into the counters of a quota is another test's.
        nodes = [each for each in self.model.nodes if not each.endswith(STATS)]
        near = nodes[-1 - path.back % len(nodes)]
        return near + b"/" + path.name if path.name else near or b"/"

    def ask(self, op: int, session: int, body: bytes) -> Proposal:
        """Prepare a write, and tell the model who asks."""
        model = self.model
        model.zxid += 1
        model.time += 7
        model.session, model.identities = session, self.sessions.get(session, ())
        model.events = []
        self.cxid += 1
        return self.prepare.prepare(op, session, self.cxid, body, model.identities, model.time)

    def enqueue(self, proposal: Proposal, expected: Any) -> None:
        header, body, digest = txns.decode_entry(proposal.entry)
        assert header == proposal.header
        assert header.zxid == self.model.zxid
        if proposal.operations is not None:
            assert txns.multi_operations(body) == [(op, listed(txn)) for op, txn in proposal.operations]
        elif proposal.body is not None:
            assert jute.encode(body) == jute.encode(proposal.body)
        assert (digest is None) == (header.type == ops.ERROR)
        self.log.append(proposal.entry)
        self.pending.append((proposal, expected, self.model.events))

    @rule(
        session=st.sampled_from([0, 0, 1]),
        write=any_writes,
    )
    def any_write(self, session: int, write: tuple[int, Any]) -> None:
        self.write(session, write)

    def write(self, session: int, write: tuple[int, Any]) -> None:
        op, request = write[0], write[1]._replace(path=self.there(write[1].path))
        proposal = self.ask(op, sorted(self.sessions)[session], jute.encode(request))
        self.enqueue(proposal, self.model.write(op, request))

    @rule(session=st.sampled_from([0, 0, 1]), create=good_creates)
    def grow(self, session: int, create: tuple[int, Any]) -> None:
        self.write(session, create)

    @rule(
        session=st.sampled_from([0, 0, 1]), writes=st.lists(in_multis, max_size=5) | st.lists(good_multis, max_size=5)
    )
    def any_multi(self, session: int, writes: list[tuple[int, Any]]) -> None:
        self.multi(session, writes)

    def multi(self, session: int, writes: list[tuple[int, Any]]) -> None:
        requests = [(op, request._replace(path=self.there(request.path))) for op, request in writes]
        proposal = self.ask(ops.MULTI, sorted(self.sessions)[session], proto.encode_multi(requests))
        expected = self.model.multi(requests)
        self.enqueue(proposal, (expected, None, None) if isinstance(expected, int) else expected)

    @rule(path=old_paths | usual_paths)
    def limit(self, path: Near | bytes) -> None:
        """Someone gives a quota to a path, which may have no node yet."""
        limited = self.there(path)
        assert limited is not None
        if limited == b"/" or limited.startswith(b"/zookeeper"):
            return
        above = b"/zookeeper/quota"
        wanted = []
        for name in limited.split(b"/")[1:]:
            above += b"/" + name
            wanted.append(above)
        wanted += [above + LIMITS, above + STATS]
        missing = [each for each in wanted if each not in self.model.nodes]
        self.multi(0, [(ops.CREATE, proto.CreateRequest(each, b"count=5", ACLS[0], 0)) for each in missing])

    @rule(path=old_paths | usual_paths)
    def reap(self, path: Near | bytes) -> None:
        """The server itself asks for the end of a container or TTL node."""
        request = proto.PathRequest(self.there(path))
        proposal = self.ask(ops.DELETE_CONTAINER, 0, jute.encode(request))
        self.enqueue(proposal, self.model.write(ops.DELETE_CONTAINER, request))

    @rule(session=st.sampled_from([0, 1]))
    def close(self, session: int) -> None:
        """A session ends; another of the same identities begins."""
        closing = sorted(self.sessions)[session]
        proposal = self.ask(ops.CLOSE_SESSION, closing, b"")
        self.model.close_session()
        self.enqueue(proposal, (0, None, None))
        self.sessions[self.next_session] = self.sessions.pop(closing)
        self.next_session += 1

    # Applying

    @rule(count=st.integers(1, 5))
    def apply(self, count: int) -> None:
        for _ in range(min(count, len(self.pending))):
            self.apply_one()

    def apply_one(self) -> None:
        proposal, expected, events = self.pending.popleft()
        changes: list[Change] = []
        applied = commit(self.tree, proposal, changes)
        self.prepare.applied(proposal)
        kind = proposal.header.type
        if kind == ops.MULTI:
            assert results(applied) == [(each, shown(each, one)) for each, one in expected]
        else:
            found = outcome(applied)
            # A create that was fused packs no stat, for no reply has it.
            assert found == shown(kind, expected) or (proposal.fused and found == (*expected[:2], None))
        told = [(change.type, change.path) for change in changes]
        if kind == ops.CLOSE_SESSION:
            told, events = sorted(told), sorted(events)
        assert told == events
        digest = txns.decode_entry(proposal.entry)[2]
        if digest is not None:
            assert digest == (2, signed(self.tree.digest))

    # Images

    @precondition(lambda self: len(self.images) < 2)
    @rule()
    def begin_image(self) -> None:
        begun = len(self.log) - len(self.pending)
        self.images.append((begun, image.chunks(self.tree, {}), []))

    @precondition(lambda self: self.images)
    @rule(which=st.integers(0, 1))
    def go_on_with_image(self, which: int) -> None:
        _, chunks, done = self.images[which % len(self.images)]
        done.extend(islice(chunks, 1))

    # The end

    def teardown(self) -> None:
        while self.pending:
            self.apply_one()
        compare(self.tree, self.model)
        assert self.prepare.digest == self.tree.digest
        for path, node in self.tree.nodes.items():
            # Nothing pending is left over: what is prepared next is judged against the tree.
            assert self.prepare._find(path) is node
        empty = DataTree()
        replay(empty, self.log)
        compare(empty, self.model)
        for begun, chunks, done in self.images:
            restored = DataTree()
            image.load(restored, b"".join([*done, *chunks]), 0)
            replay(restored, self.log[begun:])
            # Counters are counted afresh where a tree is loaded, quotas within quotas included.
            for path, node in restored.nodes.items():
                if path.endswith(STATS):
                    restored.data_size -= len(node.data or b"")
                    node.data = self.model.nodes[path]["data"]
                    restored.data_size += len(node.data or b"")
            compare(restored, self.model)


def listed(txn: Any) -> Any:
    """Return a record as it is read: its ACL is a list then."""
    return txn._replace(acl=list(txn.acl)) if "acl" in txn._fields else txn


def signed(digest: int) -> int:
    return (digest + 2**63) % 2**64 - 2**63


def results(applied: Applied) -> list[tuple[int, Outcome]]:
    """Return what became of the operations of a multi."""
    return [(op, outcome(one)) for op, one in applied.results]


def outcome(applied: Applied) -> Outcome:
    return applied.err, applied.path, jute.decode(Stat, applied.stat)[0] if applied.stat else None


def shown(kind: int, expected: Outcome) -> Outcome:
    """Return what the tree should tell: only the code of a failure."""
    return expected if kind != ops.ERROR else (expected[0], None, None)


def replay(tree: DataTree, log: list[bytes]) -> None:
    for entry in log:
        header, body, _ = txns.decode_entry(entry)
        tree.apply(header, body)


def stored_owner(node: Node) -> int:
    owner: int = node["owner"]
    return {"container": CONTAINER_OWNER, "ttl": TTL_MASK | node["ttl"]}.get(node["kind"], owner)


def compare(tree: DataTree, model: Model) -> None:
    """Compare all that can be seen of a tree, and all that it derives from that."""
    assert set(tree.nodes) == set(model.nodes)
    uses: dict[int, int] = {}
    for path, expected in model.nodes.items():
        node: Znode = tree.nodes[path]
        assert node.data == expected["data"], path
        assert node.acl.acls == expected["acl"], path
        assert node.owner == stored_owner(expected), path
        assert node.cversion == expected["made"], path
        assert sorted(node.children or ()) == sorted(model.children(path)), path
        node.packed = None
        assert jute.decode(Stat, node.stat())[0] == model.stat(path), path
        uses[node.acl.index] = uses.get(node.acl.index, 0) + 1
    assert tree.digest % 2**64 == sum(node.compute_digest(path) for path, node in tree.nodes.items())
    assert tree.data_size == sum(len(path) + len(node["data"] or b"") for path, node in model.nodes.items())
    assert set(tree.quotas.paths) == model.quotas
    assert set(tree.containers) == model.of_kind("container")
    assert set(tree.ttls) == model.of_kind("ttl")
    assert {path for owned in tree.ephemerals.values() for path in owned} == model.of_kind("ephemeral")
    for session, owned in tree.ephemerals.items():
        assert sorted(owned) == sorted(model.ephemerals(session)) != []
    uses.pop(-1, None)
    tree.acls.purge_unused()
    assert {index: acl.refs for index, acl in tree.acls.items()} == uses


class ModelTests(SynchronousTestCase):
    def test_model(self) -> None:
        """Whatever is written, in whatever order it is applied, the tree is as the model says."""
        run_state_machine_as_test(  # type: ignore[no-untyped-call]
            Machine,
            settings=settings(max_examples=60, stateful_step_count=40, deadline=None, derandomize=True, database=None),
        )


class AnyBytesTests(SynchronousTestCase):
    """What cannot be decoded becomes an error transaction, and what can be is not taken for such."""

    def check(self, op: int, body: bytes) -> None:
        try:
            if op == ops.MULTI:
                requests = proto.decode_multi(body, 0, proto.MULTI_OPS)
                readable = not isinstance(Model().multi(requests), int)
            else:
                jute.decode(proto.REQUESTS[op], body)
                readable = True
        except ProtocolError:
            readable = False
        proposal = Prepare(DataTree(), Schemes(), extended_types=True).prepare(op, 1, 1, body, (), 1)
        if op == ops.MULTI:
            self.assertEqual(proposal.header.type, ops.MULTI if readable else ops.ERROR)
        elif not readable:
            self.assertEqual((proposal.header.type, proposal.body.err), (ops.ERROR, Code.MARSHALLINGERROR))

    @settings(max_examples=300, deadline=None, derandomize=True, database=None)
    @given(st.sampled_from(WRITES), st.binary(max_size=60))
    def test_noise(self, op: int, body: bytes) -> None:
        """Of any bytes."""
        self.check(op, body)

    @settings(max_examples=300, deadline=None, derandomize=True, database=None)
    @given(any_writes, st.data())
    def test_damage(self, write: tuple[int, Any], data: st.DataObject) -> None:
        """Of a request that is cut short or has a byte changed, alone and in a multi."""
        op, request = write
        if isinstance(request.path, Near):
            request = request._replace(path=b"/zookeeper/" + (request.path.name or b"x"))
        inside = op not in (ops.SET_ACL,) and data.draw(st.booleans())
        body = proto.encode_multi([(op, request)]) if inside else jute.encode(request)
        op = ops.MULTI if inside else op
        self.check(op, body)
        position = data.draw(st.integers(0, len(body) - 1))
        self.check(op, body[:position])
        self.check(op, body[:position] + bytes([data.draw(st.integers(0, 255))]) + body[position + 1 :])
