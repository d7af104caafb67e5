"""Requests through preparation and into a tree, by hand: several may be prepared before the first is applied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zktwisted.errors import Code
from zktwisted.server.replies import encode_write_reply
from zktwisted.tree.datatree import Applied, Change, DataTree
from zktwisted.tree.prepare import Prepare, Proposal
from zktwisted.tree.schemes import Schemes
from zktwisted.wire import jute, ops, proto, txns
from zktwisted.wire.proto import ACL, OPEN_ACL, Id, Stat

SESSION = 0x100001109B80001
OTHER = 0x100001109B80002
LOCAL = Id("ip", "127.0.0.1")
READ_ONLY = (ACL(1, Id("world", "anyone")),)
T0 = 1_700_000_000_000

OK = 0
SYSTEM = Code.RUNTIMEINCONSISTENCY.value
MARSHALLING = Code.MARSHALLINGERROR.value
UNIMPLEMENTED = Code.UNIMPLEMENTED.value
BAD_ARGUMENTS = Code.BADARGUMENTS.value
NO_NODE = Code.NONODE.value
NO_AUTH = Code.NOAUTH.value
BAD_VERSION = Code.BADVERSION.value
NO_CHILDREN = Code.NOCHILDRENFOREPHEMERALS.value
EXISTS = Code.NODEEXISTS.value
NOT_EMPTY = Code.NOTEMPTY.value
INVALID_ACL = Code.INVALIDACL.value
QUOTA = Code.QUOTAEXCEEDED.value

Operation = tuple[int, Any]


def create(path: bytes | None, data: bytes | None = b"", acl: Any = OPEN_ACL, flags: int = 0) -> Operation:
    return ops.CREATE, proto.CreateRequest(path, data, acl, flags)


def create_ttl(path: bytes, ttl: int, flags: int = 5, acl: Any = OPEN_ACL) -> Operation:
    return ops.CREATE_TTL, proto.CreateTTLRequest(path, b"", acl, flags, ttl)


def create_container(path: bytes) -> Operation:
    return ops.CREATE_CONTAINER, proto.CreateRequest(path, b"", OPEN_ACL, 4)


def delete(path: bytes | None, version: int = -1) -> Operation:
    return ops.DELETE, proto.DeleteRequest(path, version)


def set_data(path: bytes | None, data: bytes | None, version: int = -1) -> Operation:
    return ops.SET_DATA, proto.SetDataRequest(path, data, version)


def set_acl(path: bytes | None, acl: Any, version: int = -1) -> Operation:
    return ops.SET_ACL, proto.SetACLRequest(path, acl, version)


def check(path: bytes, version: int) -> Operation:
    return ops.CHECK, proto.CheckVersionRequest(path, version)


def delete_container(path: bytes) -> Operation:
    return ops.DELETE_CONTAINER, proto.PathRequest(path)


def commit(tree: DataTree, proposal: Proposal, changes: list[Change]) -> Applied:
    """Apply what was prepared; of a fused write tell the outcome from its reply, which has to be the usual one."""
    if not proposal.fused:
        return tree.commit(proposal, changes)
    header = proposal.header
    reply = tree.commit_fused(proposal, changes)
    if header.type == ops.SET_DATA:
        applied = Applied(0, None, reply)
    elif header.type == ops.MULTI:
        results = proto.decode_multi_response(reply, 0)
        applied = Applied(results=[(op, Applied(err, None, jute.encode(record.stat))) for op, err, record in results])
    else:
        path, end = jute.read_buffer(reply, 0)
        applied = Applied(0, path, reply[end:])
    assert encode_write_reply(header.type, header.cxid, header.zxid, applied)[20:] == reply
    return applied


class Chain:
    """
    A tree and its pending state, a zxid and a clock that counts on with each request.

    @ivar changes: what the tree told of the last applied transaction.
    """

    def __init__(self, **options: Any) -> None:
        self.tree = DataTree()
        self.soft: list[bytes] = []
        self.prepare = Prepare(self.tree, Schemes(), soft_quota_exceeded=self.soft.append, **options)
        self.time = T0
        self.changes: list[Change] = []
        self.log: list[bytes] = []

    def propose(
        self, operation: Operation, session: int = SESSION, identities: Sequence[Id] = (LOCAL,), cxid: int = 1
    ) -> Proposal:
        """Prepare one request; apply it later."""
        op, request = operation
        self.time += 1
        body = request if isinstance(request, bytes) else jute.encode(request)
        return self.prepare.prepare(op, session, cxid, body, identities, self.time)

    def apply(self, proposal: Proposal) -> Applied:
        """Apply what was prepared, as it stands in the log."""
        self.log.append(proposal.entry)
        self.changes = []
        applied = commit(self.tree, proposal, self.changes)
        self.prepare.applied(proposal)
        return applied

    def do(self, operation: Operation, session: int = SESSION, identities: Sequence[Id] = (LOCAL,)) -> Applied:
        """Prepare and apply."""
        return self.apply(self.propose(operation, session, identities))

    def ok(self, *operations: Operation, session: int = SESSION) -> None:
        """Do what has to succeed."""
        for operation in operations:
            applied = self.do(operation, session)
            assert applied.err == 0, (operation, applied)

    def multi(self, *operations: Operation, session: int = SESSION, identities: Sequence[Id] = (LOCAL,)) -> Proposal:
        """Prepare a multi."""
        return self.propose((ops.MULTI, proto.encode_multi(operations)), session, identities)

    def close(self, session: int) -> Proposal:
        """Prepare the end of a session."""
        return self.propose((ops.CLOSE_SESSION, b""), session)

    def stat(self, path: bytes) -> Stat:
        """Return a node's stat as clients see it."""
        return jute.decode(Stat, self.tree.nodes[path].stat())[0]

    def paths(self) -> set[bytes]:
        """Return all paths but those that are always there."""
        return {path for path in self.tree.nodes if path and not path.startswith(b"/zookeeper")}

    def replayed(self) -> DataTree:
        """Return the tree that the log makes of nothing."""
        tree = DataTree()
        for entry in self.log:
            header, body, digest = txns.decode_entry(entry)
            tree.apply(header, body)
            if digest is not None and digest.tree_digest != signed(tree.digest):
                raise AssertionError(f"digest of zxid {header.zxid}")
        return tree


def signed(value: int) -> int:
    """Make it a signed long."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


def fields(tree: DataTree) -> dict[bytes, tuple[object, ...]]:
    """Return all that counts of every node."""
    return {
        path: (node.data, node.acl.acls, node.stat(), node.cversion, node.owner, sorted(node.children or ()))
        for path, node in tree.nodes.items()
    }
