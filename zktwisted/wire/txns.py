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

#: What may stand inside a multi (spec: storage 2.2); a L{CheckVersionTxn} stands nowhere else.
MULTI_TYPES = frozenset(BODIES) - {
    ops.CREATE_SESSION,
    ops.CLOSE_SESSION,
    ops.MULTI,
    ops.RECONFIG,
    ops.SET_ACL,
}

_header = Struct(">qiqqi")
_digest = Struct(">iq")
HEADER_SIZE = _header.size
DIGEST_SIZE = _digest.size
_VERSION_2 = b"\x00\x00\x00\x02"
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
        if kind != ops.CREATE:
            raise
    old, end = jute.decode(_CreateTxnV0, buf, offset)
    return CreateTxn(*old, -1), end


def _ends_bare(entry: jute.Buf, offset: int) -> bool:
    """
    Say whether a closeSession has no body: nothing follows its header, or nothing but a digest.

    Twelve bytes that begin with the digest's version 2 could only otherwise be two paths in eight bytes, their lengths
    included: both empty, and no ephemeral node is called so.
    """
    rest = len(entry) - offset
    return rest == 0 or (rest == DIGEST_SIZE and entry[offset : offset + 4] == _VERSION_2)


def decode_entry(entry: jute.Buf) -> tuple[TxnHeader, Any, TxnDigest | None]:
    """
    Decode a log entry or the payload of a proposal.

    The body is C{None} for a closeSession that does not name its nodes, as servers before 3.6 wrote it.

    @raise ProtocolError: the entry is none; also a check outside a multi.
    """
    header, offset = jute.decode(TxnHeader, entry)
    if header.type == ops.CHECK:
        raise ProtocolError("unsupported transaction type 13 outside a multi")
    body: Any = None
    if header.type != ops.CLOSE_SESSION or not _ends_bare(entry, offset):
        body, offset = decode_body(header.type, entry, offset)
    digest = None
    if len(entry) - offset >= DIGEST_SIZE:
        digest, _ = jute.decode(TxnDigest, entry, offset)
    return header, body, digest


def encode_entry(header: TxnHeader, body: Any, digest: TxnDigest | None = None) -> bytes:
    """Encode a log entry, the inverse of L{decode_entry}."""
    entry = _header.pack(*header)
    if body is not None:
        entry += jute.encode(body)
    if digest is not None:
        entry += _digest.pack(*digest)
    return entry


def multi_operations(multi: MultiTxn) -> list[tuple[int, Any]]:
    """
    Decode the operations of a multi: C{(type, record)} each.

    @raise ProtocolError: one of them may not stand in a multi, or is cut short.
    """
    return [(txn.type, _operation(txn.type, txn.data or b"")) for txn in multi.txns or ()]


def _operation(kind: int, data: bytes) -> Any:
    if kind not in MULTI_TYPES:
        raise ProtocolError(f"transaction type {kind} inside a multi")
    return decode_body(kind, data)[0]


def is_failed(operations: Sequence[tuple[int, Any]]) -> bool:
    """Say whether a multi failed, and thus does nothing."""
    return any(kind == ops.ERROR for kind, _ in operations)
