"""
Replies of writes and syncs: what applying a transaction came to, as the client that asked for it gets to see it.

Rules: spec: client-protocol 5, 6.2.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from zktwisted.errors import Code, ProtocolError
from zktwisted.tree.datatree import Applied
from zktwisted.tree.reads import encode_reply
from zktwisted.wire import jute, ops, proto

if TYPE_CHECKING:
    from zktwisted.edge.requests import Request

__all__ = ["encode_sync_reply", "encode_write_reply"]

_pack_int = Struct(">i").pack
_pack_header = Struct(">iiqi").pack
_pack_result = Struct(">i?i").pack
_SET_DATA = _pack_result(ops.SET_DATA, False, 0)


def encode_write_reply(op: int, xid: int, zxid: int, applied: Applied) -> bytes:
    """Return the reply frame of a write, its length field included (spec: client-protocol 5, 6.2)."""
    if applied.err:
        return encode_reply(xid, zxid, applied.err)
    if op == ops.SET_DATA or op == ops.SET_ACL:
        return _pack_header(84, xid, zxid, 0) + applied.stat
    if op == ops.CREATE:
        return encode_reply(xid, zxid, 0, jute.pack_buffer(applied.path))
    if op in (ops.CREATE2, ops.CREATE_CONTAINER, ops.CREATE_TTL):
        return encode_reply(xid, zxid, 0, jute.pack_buffer(applied.path) + applied.stat)
    if op == ops.MULTI:
        return encode_reply(xid, zxid, 0, b"".join(map(_encode_result, applied.results)) + proto.END_OF_MULTI)
    return encode_reply(xid, zxid, 0)


def encode_sync_reply(request: Request, zxid: int) -> bytes:
    """Echo a sync's path, whatever it is."""
    try:
        path, _ = jute.read_buffer(request.body, 0)
    except ProtocolError:
        return encode_reply(request.cxid, zxid, Code.MARSHALLINGERROR)
    if path is not None and not path.isascii():
        path = jute.text(path).encode("utf-8", "surrogatepass")
    return encode_reply(request.cxid, zxid, 0, jute.pack_buffer(path))


def _encode_result(result: tuple[int, Applied]) -> bytes:
    op, applied = result
    err = applied.err
    if op == ops.ERROR or err:
        return _pack_result(ops.ERROR, False, err) + _pack_int(err)
    if op == ops.SET_DATA:
        return _SET_DATA + applied.stat
    if op == ops.CREATE:
        return _pack_result(op, False, 0) + jute.pack_buffer(applied.path)
    if op in (ops.CREATE2, ops.CREATE_CONTAINER, ops.CREATE_TTL):
        return _pack_result(ops.CREATE2, False, 0) + jute.pack_buffer(applied.path) + applied.stat
    return _pack_result(op, False, 0)
