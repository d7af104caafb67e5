"""
What a server of an ensemble finds out about a write before it goes any further, from the request alone.

That is whether it would make ephemeral nodes, which a local session has to be upgraded for, and, if operators want it,
whether its client may do it at all (C{enableEagerACLCheck}).  Neither decides anything for the ensemble: the leader's
Prep stage judges every request again.

Rules: spec: server-semantics 2.4, 10.1; quorum 9.5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zktwisted.errors import Code, KeeperError, ProtocolError
from zktwisted.tree.acl import check, fix_acl
from zktwisted.wire import jute, ops, proto
from zktwisted.wire.frames import failure

if TYPE_CHECKING:
    from zktwisted.edge.requests import Request
    from zktwisted.server.core import ZooKeeperServer

__all__ = ["makes_ephemerals", "refuse_eagerly"]

_EPHEMERAL = (1, 3)
_UPGRADING = (ops.CREATE, ops.CREATE2)
_PERMISSIONS = {
    ops.CREATE: ops.PERM_CREATE,
    ops.CREATE2: ops.PERM_CREATE,
    ops.DELETE: ops.PERM_DELETE,
    ops.SET_DATA: ops.WRITE,
    ops.SET_ACL: ops.ADMIN,
}
_ON_PARENT = (ops.CREATE, ops.CREATE2, ops.DELETE)


def makes_ephemerals(request: Request) -> bool:
    """Say whether a create or multi would make ephemeral nodes; containers and TTL nodes never count."""
    op = request.op
    try:
        if op == ops.MULTI:
            operations = proto.decode_multi(request.body, 0, proto.MULTI_OPS)
        elif op in _UPGRADING:
            operations = [(op, jute.decode(proto.REQUESTS[op], request.body)[0])]
        else:
            return False
    except ProtocolError:
        return False  # it will fail, and make nothing
    return any(each in _UPGRADING and record.flags in _EPHEMERAL for each, record in operations)


def refuse_eagerly(core: ZooKeeperServer, request: Request) -> bool:
    """Answer a write of which this server sees that it is not allowed (spec: server-semantics 10.1); zxid 0."""
    perm = _PERMISSIONS.get(request.op)
    if perm is None:
        return False
    try:
        record: Any = jute.decode(proto.REQUESTS[request.op], request.body)[0]
        if request.op != ops.SET_DATA and request.op != ops.DELETE:
            fix_acl(record.acl, request.identities, core.schemes)
        path = record.path or b""
        node = core.tree.get(path.rpartition(b"/")[0] if request.op in _ON_PARENT else path)
        if check(node.acl, perm, request.identities, core.schemes, core.config.skip_acl):
            return False
        code = Code.NOAUTH.value
    except KeeperError as error:
        if error.code != Code.INVALIDACL.value:
            return False  # the leader may know the node
        code = error.code
    except ProtocolError:
        return False
    request.reply = failure(request.cxid, 0, code)
    request.connection.settled()
    return True
