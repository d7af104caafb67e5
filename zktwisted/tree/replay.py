"""
What another server has prepared, or this one before it was started: from the bytes of an entry to the tree in one go.

Of the most frequent transactions (setData, create of a node that is open to everybody, and when a log is read also
multis with such operations) no records are made.  Whatever is not plainly one of these, or finds the tree other than
usual, as what replays over a fuzzy image may, is left to L{DataTree.apply}, which is the truth: a test demands equal
trees of both.
"""

from __future__ import annotations

from struct import Struct
from struct import error as struct_error
from typing import NamedTuple

from zktwisted.tree.acl import AclTable
from zktwisted.tree.datatree import Change, DataTree
from zktwisted.tree.znode import Znode
from zktwisted.wire import jute, ops, proto, txns

__all__ = ["Replayed", "apply_entry", "replay"]

_unpack_head = Struct(">qiqqi").unpack_from
_unpack_int = Struct(">i").unpack_from
_unpack_two = Struct(">ii").unpack_from
_unpack_end = Struct(">?i").unpack_from
_unpack_digest = Struct(">iq").unpack_from
_new = tuple.__new__

_SET_DATA = ops.SET_DATA
_CREATE = ops.CREATE
_CREATE2 = ops.CREATE2
_MULTI = ops.MULTI
_BODY = txns.HEADER_SIZE
_DIGEST = txns.DIGEST_SIZE
_OPEN_ACL = jute.encode(proto.SetACLRequest(b"", proto.OPEN_ACL, 0))[4:-4]
_OPEN_ACL_SIZE = len(_OPEN_ACL)

#: Parents whose digest is still to be computed, by path.
_Parents = dict[bytes, Znode]


class Replayed(NamedTuple):
    """
    A transaction that has been applied.

    @ivar path: of its node.
    @ivar node: as it is now.
    @ivar digest: of the tree, as whoever has prepared the transaction has it.
    """

    header: txns.TxnHeader
    path: bytes
    node: Znode
    digest: txns.TxnDigest


def replay(tree: DataTree, entry: bytes, changes: list[Change] | None = None) -> Replayed | None:
    """
    Apply a logged setData or create, of a node open to everybody.

    @param changes: as L{DataTree.apply} has it.
    @return: C{None}, and nothing has happened, if it is anything else.
    """
    end = len(entry) - _DIGEST
    if end < _BODY:
        return None
    header = _unpack_head(entry, 0)
    kind = header[4]
    if kind == _SET_DATA:
        done = _set_data(tree, entry, _BODY, end, header, changes)
    elif kind == _CREATE or kind == _CREATE2:
        done = _create(tree, entry, _BODY, end, header, changes, None)
    else:
        return None
    if done is None:
        return None
    path, node = done
    return _new(
        Replayed, (_new(txns.TxnHeader, header), path, node, _new(txns.TxnDigest, _unpack_digest(entry, end)))
    )


def apply_entry(tree: DataTree, entry: bytes) -> tuple[txns.TxnHeader, txns.TxnDigest | None, object]:
    """
    Apply one entry of the log; the results of its operations are not asked for.

    @return: its header, its digest, and its record, if one had to be made.

    @raise ProtocolError: that is no transaction.
    """
    done = replay(tree, entry)
    if done is not None:
        return done.header, done.digest, None
    if len(entry) >= _BODY + 4 + _DIGEST and _unpack_head(entry, 0)[4] == _MULTI:
        operations = _operations(entry)
        if operations is not None:
            header: txns.TxnHeader = _new(txns.TxnHeader, _unpack_head(entry, 0))
            _multi(tree, entry, header, operations)
            return header, _new(txns.TxnDigest, _unpack_digest(entry, len(entry) - _DIGEST)), None
    header, body, digest = txns.decode_entry(entry)
    tree.apply(header, body)
    return header, digest, body


def _operations(entry: bytes) -> list[tuple[int, int, int]] | None:
    """Find the operations of a multi: type, begin and end; C{None} if it failed, or is to be looked at more closely."""
    end = len(entry) - _DIGEST
    offset = _BODY + 4
    found = []
    for _ in range(_unpack_int(entry, _BODY)[0]):
        if offset + 8 > end:
            return None
        kind, size = _unpack_two(entry, offset)
        start = offset + 8
        offset = start + size
        if size < 0 or (kind != _SET_DATA and kind != _CREATE and kind != _CREATE2):
            return None
        found.append((kind, start, offset))
    return found if offset == end else None


def _multi(tree: DataTree, entry: bytes, header: txns.TxnHeader, operations: list[tuple[int, int, int]]) -> None:
    parents: _Parents = {}
    for kind, start, end in operations:
        if kind == _SET_DATA:
            done = _set_data(tree, entry, start, end, header, None)
        else:
            done = _create(tree, entry, start, end, header, None, parents)
        if done is None:
            _settle(tree, parents)
            tree.apply(header._replace(type=kind), txns.decode_body(kind, entry[start:end])[0])
    _settle(tree, parents)


def _settle(tree: DataTree, parents: _Parents) -> None:
    for path, node in parents.items():
        tree.touched(path, node)
    parents.clear()


def _set_data(
    tree: DataTree, entry: bytes, start: int, end: int, header: tuple[int, ...], changes: list[Change] | None
) -> tuple[bytes, Znode] | None:
    """Apply the setData whose record is there; C{None} if it is not plain."""
    try:
        after = start + 4 + _unpack_int(entry, start)[0]
        last = after + 4 + _unpack_int(entry, after)[0]
        if not start + 4 < after <= last - 4 or last + 4 != end:
            return None
        version = _unpack_int(entry, last)[0]
    except struct_error:
        return None
    path = entry[start + 4 : after]
    node = tree.nodes.get(path)
    # A node that is there has a path that is valid; the reserved ones have no digest.
    if node is None or not node.digest:
        return None
    tree.put(path, node, entry[after + 4 : last], version, header[2], header[3], changes)
    return path, node


def _create(
    tree: DataTree,
    entry: bytes,
    start: int,
    end: int,
    header: tuple[int, ...],
    changes: list[Change] | None,
    parents: _Parents | None,
) -> tuple[bytes, Znode] | None:
    """
    Apply the create whose record is there; C{None} if it is not plain.

    @param parents: where to leave the parent, if its digest may wait for more children.
    """
    try:
        after = start + 4 + _unpack_int(entry, start)[0]
        last = after + 4 + _unpack_int(entry, after)[0]
        acl_end = last + _OPEN_ACL_SIZE
        if not start + 4 < after <= last - 4 or acl_end + 5 != end or entry[last:acl_end] != _OPEN_ACL:
            return None
        ephemeral, cversion = _unpack_end(entry, acl_end)
    except struct_error:
        return None
    path = entry[start + 4 : after]
    parent_path = path.rpartition(b"/")[0]
    parent = tree.nodes.get(parent_path)
    if (
        parent is None
        or not parent.digest
        or cversion != parent.cversion + 1
        or parent_path == b"/zookeeper"
        or path in tree.nodes
    ):
        return None
    session_id, _, zxid, time, _ = header
    parent.cversion = cversion
    parent.pzxid = zxid
    if parents is None:
        tree.touched(parent_path, parent)
    else:
        parent.packed = None
        parents[parent_path] = parent
    owner = session_id if ephemeral else 0
    node = Znode(entry[after + 4 : last], AclTable.OPEN_UNSAFE, zxid, zxid, time, time, 0, 0, 0, owner, zxid)
    node.digest = node.compute_digest(path)
    tree.enter(parent_path, parent, path, node, changes)
    return path, node
