"""Any writes at all: taken apart by hand or by the codecs, prepared in flight, applied, replayed."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.tree.chain import (
    LOCAL,
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
    delete_container,
    fields,
    set_acl,
    set_data,
    signed,
)
from zktwisted.errors import ProtocolError
from zktwisted.tree import prepare
from zktwisted.wire import jute, ops, proto, txns
from zktwisted.wire.proto import ACL, OPEN_ACL, Id

NAMES = st.sampled_from([b"/a", b"/b", b"/a/x", b"/a/y", b"/a/x/1", b"/b/x", b"/s", b"/s/-", b"/", b"/zookeeper/n"])
DATA = st.sampled_from([None, b"", b"1", b"some more"])
VERSIONS = st.sampled_from([-1, -1, -1, 0, 1, 2])
ACLS = st.sampled_from([OPEN_ACL, OPEN_ACL, OPEN_ACL, READ_ONLY, (), (ACL(27, Id("world", "anyone")),)])
SINGLE = st.one_of(
    st.builds(create, NAMES, DATA, ACLS, st.sampled_from([0, 0, 0, 1, 2, 3])),
    st.builds(create_container, NAMES),
    st.builds(create_ttl, NAMES, st.integers(-1, 3)),
    st.builds(delete, NAMES, VERSIONS),
    st.builds(set_data, NAMES, DATA, VERSIONS),
)
IN_MULTI = st.one_of(SINGLE, st.builds(check, NAMES, VERSIONS))
WRITES = st.one_of(
    SINGLE,
    SINGLE,
    st.builds(set_acl, NAMES, ACLS, VERSIONS),
    st.builds(delete_container, NAMES),
    st.lists(IN_MULTI, max_size=4).map(lambda all_: (ops.MULTI, proto.encode_multi(all_))),
    st.just((ops.CLOSE_SESSION, b"")),
    st.tuples(st.sampled_from([1, 2, 5, 7, 14]), st.binary(max_size=12)),
)
STEPS = st.lists(st.tuples(WRITES, st.sampled_from([SESSION, OTHER]), st.integers(0, 3)), max_size=40)


NAME_TEXTS = st.sampled_from(
    ["world", "anyone", "digest", "ip", "auth", "a:b", "1.2.3.4/8", "sasl", "x509", "super", ""]
)
ANY_TEXT = st.one_of(st.none(), NAME_TEXTS, st.text(max_size=6))
ANY_ACL = st.one_of(
    st.none(),
    st.just(OPEN_ACL),
    st.lists(st.builds(ACL, st.integers(-(1 << 31), (1 << 31) - 1), st.builds(Id, ANY_TEXT, ANY_TEXT)), max_size=3),
)
ANY_PATH = st.one_of(
    st.none(), NAMES, st.binary(max_size=6), st.text(max_size=4).map(lambda text: b"/" + text.encode())
)
ANY_VERSION = st.integers(-(1 << 31), (1 << 31) - 1)
ANY_FLAGS = st.integers(-2, 8)
ANY_REQUEST = st.one_of(
    st.tuples(st.sampled_from([1, 15, 19]), st.builds(proto.CreateRequest, ANY_PATH, DATA, ANY_ACL, ANY_FLAGS)),
    st.tuples(
        st.just(21),
        st.builds(proto.CreateTTLRequest, ANY_PATH, DATA, ANY_ACL, ANY_FLAGS, st.integers(-(1 << 63), (1 << 63) - 1)),
    ),
    st.tuples(st.just(2), st.builds(proto.DeleteRequest, ANY_PATH, ANY_VERSION)),
    st.tuples(st.just(5), st.builds(proto.SetDataRequest, ANY_PATH, DATA, ANY_VERSION)),
    st.tuples(st.just(7), st.builds(proto.SetACLRequest, ANY_PATH, ANY_ACL, ANY_VERSION)),
    st.tuples(st.just(13), st.builds(proto.CheckVersionRequest, ANY_PATH, ANY_VERSION)),
)


def ttl_free(operations: list[Operation]) -> bool:
    """Tell whether no createTTL is there, for which a multi has rules of its own."""
    return all(op != ops.CREATE_TTL for op, _ in operations)


class ByHandTests(SynchronousTestCase):
    """The requests and transactions that are taken apart and put together by hand."""

    @settings(deadline=None, max_examples=400, derandomize=True)
    @given(ANY_REQUEST, st.binary(max_size=4), st.integers(0, 80), st.integers(0, 5))
    def test_decode(self, operation: Operation, damage: bytes, at: int, offset: int) -> None:
        """Any bytes give what the codec of the record gives, and end where it ends."""
        op, record = operation
        whole = jute.encode(record)
        for body in (whole, whole + damage, whole[:at], whole[:at] + damage + whole[at + len(damage) :]):
            buf = bytes(offset) + body
            outcomes = []
            for decode in (prepare._decode, lambda op, buf, at: jute.decode(proto.REQUESTS[op], buf, at)):
                try:
                    found, end = decode(op, buf, offset)
                    path, data, acl, *rest = (*found, None, None)
                    outcomes.append((path, data, list(acl) if isinstance(acl, tuple | list) else acl, rest, end))
                except ProtocolError:
                    outcomes.append(None)
            self.assertEqual(outcomes[0], outcomes[1], (op, buf))

    @settings(deadline=None, max_examples=200, derandomize=True)
    @given(st.lists(ANY_REQUEST, max_size=3), st.binary(max_size=4), st.integers(0, 120))
    def test_decode_multi(self, operations: list[Operation], damage: bytes, at: int) -> None:
        """Of a multi too: what is refused, and what it holds; a multi is never more than its parts."""
        whole = proto.encode_multi(operations)
        for body in (whole, whole[:at], whole[:at] + damage + whole[at + len(damage) :]):
            try:
                found = prepare._decode_multi(body)
            except ProtocolError:
                continue
            expected = proto.decode_multi(body, 0, proto.MULTI_OPS) if ttl_free(found) else None
            if expected is not None:
                self.assertEqual([tuple(one)[:2] for _, one in found], [tuple(one)[:2] for _, one in expected])

    @settings(deadline=None, max_examples=300, derandomize=True)
    @given(st.lists(st.tuples(ANY_REQUEST, st.booleans()), max_size=6))
    def test_anything(self, requests: list[tuple[Operation, bool]]) -> None:
        """Whatever a client sends becomes a transaction that a log gives back, and one code."""
        chain = Chain(extended_types=True, enforce_quota=True)
        for operation, alone in requests:
            op = operation[0]
            if alone and op != ops.CHECK:
                proposal = chain.propose(operation, identities=(LOCAL, Id("digest", "ann:x")))
            elif op == ops.SET_ACL:
                continue
            else:
                proposal = chain.multi(operation, operation)
            chain.apply(proposal)
            self.assertEqual(txns.decode_entry(proposal.entry)[0], proposal.header)
        self.assertEqual(fields(chain.replayed()), fields(chain.tree))
        self.assertEqual(signed(chain.prepare.digest), signed(chain.tree.digest))


class RandomTests(SynchronousTestCase):
    """Any writes, applied at any distance behind their preparation."""

    @settings(deadline=None, max_examples=250, derandomize=True)
    @given(STEPS)
    def test_digest(self, steps: list[tuple[Operation, int, int]]) -> None:
        """The digest promised with each transaction is the tree's once it is applied, and so is that of a replay."""
        chain = Chain(extended_types=True, enforce_quota=True)
        waiting = []
        for operation, session, count in steps:
            waiting.append(chain.propose(operation, session))
            for _ in range(min(count, len(waiting))):
                self.settle(chain, waiting.pop(0))
        for proposal in waiting:
            self.settle(chain, proposal)
        self.assertEqual(chain.prepare.pending, {})
        self.assertEqual(signed(chain.prepare.digest), signed(chain.tree.digest))
        self.assertEqual(fields(chain.replayed()), fields(chain.tree))
        everywhere = sum(node.compute_digest(path) for path, node in chain.tree.nodes.items())
        self.assertEqual(signed(everywhere), signed(chain.tree.digest))

    def settle(self, chain: Chain, proposal: object) -> None:
        assert not isinstance(proposal, bytes)
        applied = chain.apply(proposal)  # type: ignore[arg-type]
        header, _, digest = txns.decode_entry(proposal.entry)  # type: ignore[attr-defined]
        if digest is not None:
            self.assertEqual(digest.tree_digest, signed(chain.tree.digest))
        if header.type != ops.ERROR:
            # What preparation has judged good never fails when it is applied.
            self.assertEqual(applied.err, 0)
            if header.type != ops.MULTI or not any(kind == ops.ERROR for kind, _ in applied.results):
                self.assertEqual([each.err for _, each in applied.results], [0] * len(applied.results))

    def test_long_path(self) -> None:
        """Nothing but the frame limits the length of a path."""
        chain = Chain()
        chain.ok(create(b"/" + b"x" * 500_000))
