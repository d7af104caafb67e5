"""
The most frequent writes in one go: setData, create of an ordinary node, and multis of setData.

Each function takes a request apart by offsets, judges it, and puts the log entry together around bytes of the request
itself; no record of the request or of the transaction is made.  From bytes to bytes that costs half of the way
through L{zktwisted.tree.prepare}, which is the truth: whatever is not plainly good here (an error, an ACL of its own,
a quota, a null) is left to it, untouched, and a test demands equal entries of both.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from struct import error as struct_error
from typing import TYPE_CHECKING
from zlib import crc32

from zktwisted.tree.acl import AclTable
from zktwisted.tree.paths import is_plain_name
from zktwisted.tree.proposal import ChangeRecord, Proposal
from zktwisted.tree.znode import Znode, digest_of, pack_stat, pack_stored
from zktwisted.wire import jute, ops, proto, txns

if TYPE_CHECKING:
    from zktwisted.tree.prepare import Prepare

__all__ = ["OPERATIONS"]

_unpack_int = Struct(">i").unpack_from
_unpack_multi = Struct(">i?i").unpack_from
_pack_int = Struct(">i").pack
_pack_two = Struct(">ii").pack
_pack_end_of_set = Struct(">iiq").pack
_pack_end_of_create = Struct(">?iiq").pack
_pack_digest = txns.pack_digest
_pack_header = txns.pack_header
_new = tuple.__new__

_SET_DATA = ops.SET_DATA
_MULTI = ops.MULTI
_DIGEST_VERSION = 2
_LAST = 0x7FFFFFFF
# Up to here the cversion that clients see, nearly twice the stored one, does not wrap.
_CVERSION_MAX = 0x3FFFFFFF
_JOIN_MAX = 2048
_OPEN_ACL_BYTES = jute.encode(proto.SetACLRequest(b"", proto.OPEN_ACL, 0))[4:-4]
_OPEN_ACL_SIZE = len(_OPEN_ACL_BYTES)


def _changed(prepare: Prepare, path: bytes, data: bytes, expected: int, zxid: int, time: int) -> ChangeRecord | None:
    """Return a node with new data, C{None} where the long way has to look at it."""
    node: Znode | None = prepare.pending.get(path)
    if node is None:
        node = prepare.tree.nodes.get(path)
    # A node that is there has a path that is valid.  The reserved ones have no digest, those that are going neither.
    if node is None or not node.digest or not path or not node.acl.world & ops.WRITE:
        return None
    version = node.version
    if (expected != version and expected != -1) or version == _LAST:
        return None
    record = ChangeRecord(node)
    record.data = data
    record.version = version = version + 1
    record.mzxid = zxid
    record.mtime = time
    czxid, pzxid, ctime = record.czxid, record.pzxid, record.ctime
    cversion, aversion, owner = record.cversion, record.aversion, record.owner
    stored = pack_stored(czxid, zxid, pzxid, ctime, time, version, cversion, aversion, owner)
    digest = record.digest = crc32(path + data + stored) if len(data) < _JOIN_MAX else digest_of(path, data, stored)
    prepare.digest += digest - node.digest
    if owner or cversion > _CVERSION_MAX:
        record.packed = None
    else:
        children = record.child_count
        record.packed = pack_stat(
            czxid, zxid, ctime, time, version, 2 * cversion - children, aversion, 0, len(data), children, pzxid
        )
    return record


def set_data(
    prepare: Prepare, op: int, session_id: int, cxid: int, body: bytes, zxid: int, time: int
) -> Proposal | None:
    """Prepare a setData; C{None}, and nothing has happened, if that is not plain."""
    try:
        after = 4 + _unpack_int(body, 0)[0]
        end = after + 4 + _unpack_int(body, after)[0]
        if not 4 <= after <= end - 4:
            return None
        expected = _unpack_int(body, end)[0]
    except struct_error:
        return None
    path = body[4:after]
    record = _changed(prepare, path, body[after + 4 : end], expected, zxid, time)
    if record is None:
        return None
    prepare.pending[path] = record
    entry = (
        _pack_header(session_id, cxid, zxid, time, _SET_DATA)
        + body[:end]
        + _pack_end_of_set(record.version, _DIGEST_VERSION, prepare.digest)
    )
    header = _new(txns.TxnHeader, (session_id, cxid, zxid, time, _SET_DATA))
    return Proposal(header, None, entry, ((path, record),), None, True)


def multi(prepare: Prepare, op: int, session_id: int, cxid: int, body: bytes, zxid: int, time: int) -> Proposal | None:
    """Prepare a multi in which every operation is a setData; C{None}, and nothing has happened, if one is not plain."""
    pending = prepare.pending
    digest = prepare.digest
    touched: list[tuple[bytes, ChangeRecord]] = []
    replaced: list[Znode | None] = []
    parts = [b"", b""]
    offset = 0
    good = False
    try:
        while True:
            op, done, _err = _unpack_multi(body, offset)
            if done:
                good = True
                break
            if op != _SET_DATA:
                break
            start = offset + 9
            after = start + 4 + _unpack_int(body, start)[0]
            end = after + 4 + _unpack_int(body, after)[0]
            if not start + 4 <= after <= end - 4:
                break
            offset = end + 4
            path = body[start + 4 : after]
            record = _changed(prepare, path, body[after + 4 : end], _unpack_int(body, end)[0], zxid, time)
            if record is None:
                break
            touched.append((path, record))
            replaced.append(pending.get(path))
            pending[path] = record
            parts += (_pack_two(_SET_DATA, offset - start), body[start:end], _pack_int(record.version))
    except struct_error:
        pass
    if not good:
        for (path, _), old in zip(reversed(touched), reversed(replaced), strict=True):
            if old is None:
                del pending[path]
            else:
                pending[path] = old
        prepare.digest = digest
        return None
    parts[0] = _pack_header(session_id, cxid, zxid, time, _MULTI)
    parts[1] = _pack_int(len(touched))
    parts.append(_pack_digest(_DIGEST_VERSION, prepare.digest))
    header = _new(txns.TxnHeader, (session_id, cxid, zxid, time, _MULTI))
    return Proposal(header, None, b"".join(parts), touched, None, True)


def create(prepare: Prepare, op: int, session_id: int, cxid: int, body: bytes, zxid: int, time: int) -> Proposal | None:
    """
    Prepare a create of a persistent or ephemeral node that is open to everybody, with a sequence number or without.

    C{None}, and nothing has happened, if that is not plain.
    """
    try:
        after = 4 + _unpack_int(body, 0)[0]
        end = after + 4 + _unpack_int(body, after)[0]
        if not 4 <= after <= end - 4:
            return None
        acl_end = end + _OPEN_ACL_SIZE
        flags = _unpack_int(body, acl_end)[0]
    except struct_error:
        return None
    if not 0 <= flags <= 3 or body[end:acl_end] != _OPEN_ACL_BYTES:
        return None
    path = body[4:after]
    parent_path, slash, name = path.rpartition(b"/")
    pending, nodes = prepare.pending, prepare.tree.nodes
    parent = pending.get(parent_path) or nodes.get(parent_path)
    if (
        parent is None
        or not parent.digest
        or parent.owner
        or not parent.acl.world & ops.PERM_CREATE
        or parent.cversion >= _LAST - 1
        or parent_path == b"/zookeeper"
        or not slash
    ):
        return None
    if flags & 2:
        path += b"%010d" % parent.cversion
        name = path[len(parent_path) + 1 :]
    if not is_plain_name(name) or path in nodes or path in pending:
        return None
    data = body[after + 4 : end]
    owner = session_id if flags & 1 else 0
    change = ChangeRecord(parent)
    cversion = change.cversion = change.sequence = parent.cversion + 1
    change.child_count += 1
    change.pzxid = zxid
    change.digest = change.compute_digest(parent_path)
    node = Znode(data, AclTable.OPEN_UNSAFE, zxid, zxid, time, time, 0, 0, 0, owner, zxid)
    node.digest = digest_of(path, data, pack_stored(zxid, zxid, zxid, time, time, 0, 0, 0, owner))
    prepare.digest += change.digest - parent.digest + node.digest
    pending[parent_path] = change
    pending[path] = node
    entry = b"".join(
        (
            _pack_header(session_id, cxid, zxid, time, op),
            _pack_int(len(path)),
            path,
            body[after:acl_end],
            _pack_end_of_create(owner != 0, cversion, _DIGEST_VERSION, prepare.digest),
        )
    )
    header = _new(txns.TxnHeader, (session_id, cxid, zxid, time, op))
    return Proposal(header, None, entry, ((parent_path, change), (path, node)), None, True)


#: By op code: called with (prepare, op, session id, cxid, body, zxid, time).
OPERATIONS: dict[int, Callable[[Prepare, int, int, int, bytes, int, int], Proposal | None]] = {
    ops.SET_DATA: set_data,
    ops.CREATE: create,
    ops.CREATE2: create,
    ops.MULTI: multi,
}
