"""
Transactions as they stand in the log and in proposals (spec: server-semantics 11, storage 2.2).

An entry is a TxnHeader, the record of its type, and mostly a TxnDigest.  Values only; what they do to a tree is told
in the tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Any, NamedTuple

from zktwisted.errors import ProtocolError
from zktwisted.wire import jute, ops
from zktwisted.wire.jute import Boolean, Buffer, Int, Long, Path
from zktwisted.wire.proto import ACL

Vector = Sequence


class TxnHeader(NamedTuple):
    """Who did it, when: session, cxid, zxid, ms since the epoch, type."""

    client_id: Long
    cxid: Int
    zxid: Long
    time: Long
    type: Int


class TxnDigest(NamedTuple):
    """The tree's digest after the transaction, signed; version 2."""

    version: Int
    tree_digest: Long


class CreateTxn(NamedTuple):
    """A node that is persistent, or ephemeral of the header's session; C{parent_cversion} is the new stored value."""

    path: Path
    data: Buffer
    acl: Vector[ACL] | None
    ephemeral: Boolean
    parent_cversion: Int


class _CreateTxnV0(NamedTuple):
    """As logs of 3.3 have it."""

    path: Path
    data: Buffer
    acl: Vector[ACL] | None
    ephemeral: Boolean


class CreateContainerTxn(NamedTuple):
    """A container node."""

    path: Path
    data: Buffer
    acl: Vector[ACL] | None
    parent_cversion: Int


class CreateTTLTxn(NamedTuple):
    """A TTL node; C{ttl} in ms."""

    path: Path
    data: Buffer
    acl: Vector[ACL] | None
    parent_cversion: Int
    ttl: Long


class DeleteTxn(NamedTuple):
    """A node removed."""

    path: Path


class SetDataTxn(NamedTuple):
    """Data replaced; C{version} is the new one."""

    path: Path
    data: Buffer
    version: Int


class SetACLTxn(NamedTuple):
    """ACL replaced by an expanded list; C{version} is the new aversion."""

    path: Path
    acl: Vector[ACL] | None
    version: Int


class CheckVersionTxn(NamedTuple):
    """A check that held, only inside a multi."""

    path: Path
    version: Int


class CreateSessionTxn(NamedTuple):
    """A session begins; C{timeout} in ms."""

    timeout: Int


class CloseSessionTxn(NamedTuple):
    """A session ends, and these nodes with it."""

    paths: Vector[Path] | None


class ErrorTxn(NamedTuple):
    """A failed write: nothing but its code."""

    err: Int


class Txn(NamedTuple):
    """One operation of a multi: its type and its encoded record."""

    type: Int
    data: Buffer


class MultiTxn(NamedTuple):
    """The operations of a multi; without any effect if one of them has type -1."""

    txns: Vector[Txn] | None


#: The record of each transaction type (spec: server-semantics 11.2).
BODIES: dict[int, type] = {
    ops.CREATE: CreateTxn,
    ops.CREATE2: CreateTxn,
    ops.CREATE_CONTAINER: CreateContainerTxn,
    ops.CREATE_TTL: CreateTTLTxn,
    ops.DELETE: DeleteTxn,
    ops.DELETE_CONTAINER: DeleteTxn,
    ops.SET_DATA: SetDataTxn,
    ops.RECONFIG: SetDataTxn,
    ops.SET_ACL: SetACLTxn,
    ops.CHECK: CheckVersionTxn,
    ops.CREATE_SESSION: CreateSessionTxn,
    ops.CLOSE_SESSION: CloseSessionTxn,
    ops.ERROR: ErrorTxn,
    ops.MULTI: MultiTxn,
}

_header = Struct(">qiqqi")
_digest = Struct(">iq")
HEADER_SIZE = _header.size
DIGEST_SIZE = _digest.size
pack_header = _header.pack
pack_digest = _digest.pack


def decode_body(kind: int, buf: jute.Buf, offset: int = 0) -> tuple[Any, int]:
    """
    Decode the record of a transaction of type C{kind}.

    @raise ProtocolError: no such type, or bytes cut short.
    """
    record = BODIES.get(kind)
    if record is None:
        raise ProtocolError(f"unsupported transaction type {kind}")
    try:
        return jute.decode(record, buf, offset)
    except ProtocolError:
        if kind == ops.CLOSE_SESSION and offset == len(buf):
            return CloseSessionTxn(None), offset
        if kind != ops.CREATE:
            raise
    old, end = jute.decode(_CreateTxnV0, buf, offset)
    return CreateTxn(old.path, old.data, old.acl, old.ephemeral, -1), end


def decode_entry(entry: jute.Buf) -> tuple[TxnHeader, Any, TxnDigest | None]:
    """
    Decode a log entry or the payload of a proposal.

    A closeSession of old logs has no body (and with it no digest): its record then holds C{None} for paths.

    @raise ProtocolError: the entry is none; also a check outside a multi.
    """
    header, offset = jute.decode(TxnHeader, entry)
    if header.type == ops.CHECK:
        raise ProtocolError("unsupported transaction type 13 outside a multi")
    if header.type == ops.CLOSE_SESSION and len(entry) - offset == DIGEST_SIZE and entry[offset + 3] == 2:
        # Two ways to read 12 bytes: a digest behind no body, or one path of 4 bytes.  A digest begins with version 2,
        # and a vector of 2 paths needs... at least 8 bytes of two lengths; those would have to be 4 zero bytes each.
        body: Any
        try:
            body, end = decode_body(header.type, entry, offset)
        except ProtocolError:
            body, end = CloseSessionTxn(None), offset
    else:
        body, end = decode_body(header.type, entry, offset)
    digest = None
    if len(entry) - end >= DIGEST_SIZE:
        digest, _ = jute.decode(TxnDigest, entry, end)
    return header, body, digest


def encode_entry(header: TxnHeader, body: Any, digest: TxnDigest | None = None) -> bytes:
    """Encode a log entry; a C{None} body is the empty one."""
    entry = _header.pack(*header)
    if body is not None:
        entry += jute.encode(body)
    if digest is not None:
        entry += _digest.pack(*digest)
    return entry


def multi_operations(multi: MultiTxn) -> list[tuple[int, Any]]:
    """Decode the operations of a multi: C{(type, record)} each."""
    return [(txn.type, decode_body(txn.type, txn.data or b"")[0]) for txn in multi.txns or ()]


def is_failed(operations: Sequence[tuple[int, Any]]) -> bool:
    """Say whether a multi failed, and thus does nothing."""
    return any(kind == ops.ERROR for kind, _ in operations)
