"""
The records of the client protocol (spec: client-protocol 4), field by field in wire order.

Values only: what a server does with them is told elsewhere.  Paths are the UTF-8 bytes that came (L{jute.Path}).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from zktwisted.errors import ProtocolError
from zktwisted.wire import jute, ops
from zktwisted.wire.jute import Boolean, Buffer, Int, Long, Name, Path, Ustring

Vector = Sequence


class Id(NamedTuple):
    """An identity: a scheme and what it says."""

    scheme: Name
    id: Name


class ACL(NamedTuple):
    """One entry of an access control list."""

    perms: Int
    id: Id


#: What most nodes have: everybody may do everything.
OPEN_ACL = (ACL(31, Id("world", "anyone")),)
jute.share(OPEN_ACL[0])


class RequestHeader(NamedTuple):
    """In front of each request but the first."""

    xid: Int
    type: Int


class ReplyHeader(NamedTuple):
    """In front of each reply but the first."""

    xid: Int
    zxid: Long
    err: Int


class MultiHeader(NamedTuple):
    """In front of each operation and each result of a multi."""

    type: Int
    done: Boolean
    err: Int


class Stat(NamedTuple):
    """A node's stat as clients see it; 68 bytes."""

    czxid: Long
    mzxid: Long
    ctime: Long
    mtime: Long
    version: Int
    cversion: Int
    aversion: Int
    ephemeralOwner: Long
    dataLength: Int
    numChildren: Int
    pzxid: Long


class WatcherEvent(NamedTuple):
    """A notification."""

    type: Int
    state: Int
    path: Path


class ClientInfo(NamedTuple):
    """One identity of a whoAmI reply."""

    auth_scheme: Ustring
    user: Ustring


class ErrorResponse(NamedTuple):
    """The result of a failed operation of a multi; also addWatch's reply."""

    err: Int


class ConnectRequest(NamedTuple):
    """The first frame of a client; old clients end it before C{readOnly}, see L{decode_connect}."""

    protocol_version: Int
    last_zxid_seen: Long
    timeout: Int
    session_id: Long
    passwd: Buffer


class ConnectResponse(NamedTuple):
    """The first frame of a server, without the C{readOnly} byte that mirrors the request's."""

    protocol_version: Int
    timeout: Int
    session_id: Long
    passwd: Buffer


class AuthPacket(NamedTuple):
    """Body of an auth request."""

    type: Int
    scheme: Ustring
    auth: Buffer


class CreateRequest(NamedTuple):
    """Body of create, create2 and createContainer."""

    path: Path
    data: Buffer
    acl: Vector[ACL] | None
    flags: Int


class CreateTTLRequest(NamedTuple):
    """Body of createTTL; C{ttl} in ms."""

    path: Path
    data: Buffer
    acl: Vector[ACL] | None
    flags: Int
    ttl: Long


class DeleteRequest(NamedTuple):
    """Body of delete."""

    path: Path
    version: Int


class PathWatchRequest(NamedTuple):
    """Body of exists, getData, getChildren and getChildren2."""

    path: Path
    watch: Boolean


class SetDataRequest(NamedTuple):
    """Body of setData."""

    path: Path
    data: Buffer
    version: Int


class PathRequest(NamedTuple):
    """Body of getACL, sync, getAllChildrenNumber, deleteContainer and getEphemerals."""

    path: Path


class SetACLRequest(NamedTuple):
    """Body of setACL."""

    path: Path
    acl: Vector[ACL] | None
    version: Int


class CheckVersionRequest(NamedTuple):
    """Body of a check inside a multi."""

    path: Path
    version: Int


class ReconfigRequest(NamedTuple):
    """Body of reconfig."""

    joining_servers: Ustring
    leaving_servers: Ustring
    new_members: Ustring
    cur_config_id: Long


class SetWatches(NamedTuple):
    """Body of setWatches."""

    relative_zxid: Long
    data_watches: Vector[Path] | None
    exist_watches: Vector[Path] | None
    child_watches: Vector[Path] | None


class SetWatches2(NamedTuple):
    """Body of setWatches2."""

    relative_zxid: Long
    data_watches: Vector[Path] | None
    exist_watches: Vector[Path] | None
    child_watches: Vector[Path] | None
    persistent_watches: Vector[Path] | None
    persistent_recursive_watches: Vector[Path] | None


class AddWatchRequest(NamedTuple):
    """Body of addWatch."""

    path: Path
    mode: Int


class WatchesRequest(NamedTuple):
    """Body of checkWatches and removeWatches."""

    path: Path
    type: Int


class SASLToken(NamedTuple):
    """Body of a SASL request and of its reply."""

    token: Buffer


class PathResponse(NamedTuple):
    """Reply of create and of sync."""

    path: Path


class Create2Response(NamedTuple):
    """Reply of create2, createContainer and createTTL."""

    path: Path
    stat: Stat


class StatResponse(NamedTuple):
    """Reply of exists, setData and setACL."""

    stat: Stat


class GetDataResponse(NamedTuple):
    """Reply of getData and of reconfig."""

    data: Buffer
    stat: Stat


class PathsResponse(NamedTuple):
    """Reply of getChildren and getEphemerals."""

    paths: Vector[Path] | None


class GetChildren2Response(NamedTuple):
    """Reply of getChildren2."""

    children: Vector[Path] | None
    stat: Stat


class GetACLResponse(NamedTuple):
    """Reply of getACL."""

    acl: Vector[ACL] | None
    stat: Stat


class GetAllChildrenNumberResponse(NamedTuple):
    """Reply of getAllChildrenNumber."""

    total_number: Int


class WhoAmIResponse(NamedTuple):
    """Reply of whoAmI."""

    client_info: Vector[ClientInfo] | None


#: Body of each request by operation; operations without a body, and multis, are not here.
REQUESTS: dict[int, type] = {
    ops.CREATE: CreateRequest,
    ops.CREATE2: CreateRequest,
    ops.CREATE_CONTAINER: CreateRequest,
    ops.CREATE_TTL: CreateTTLRequest,
    ops.DELETE: DeleteRequest,
    ops.DELETE_CONTAINER: PathRequest,
    ops.EXISTS: PathWatchRequest,
    ops.GET_DATA: PathWatchRequest,
    ops.GET_CHILDREN: PathWatchRequest,
    ops.GET_CHILDREN2: PathWatchRequest,
    ops.SET_DATA: SetDataRequest,
    ops.GET_ACL: PathRequest,
    ops.SET_ACL: SetACLRequest,
    ops.SYNC: PathRequest,
    ops.CHECK: CheckVersionRequest,
    ops.RECONFIG: ReconfigRequest,
    ops.CHECK_WATCHES: WatchesRequest,
    ops.REMOVE_WATCHES: WatchesRequest,
    ops.AUTH: AuthPacket,
    ops.SET_WATCHES: SetWatches,
    ops.SET_WATCHES2: SetWatches2,
    ops.SASL: SASLToken,
    ops.GET_EPHEMERALS: PathRequest,
    ops.GET_ALL_CHILDREN_NUMBER: PathRequest,
    ops.ADD_WATCH: AddWatchRequest,
}

#: Body of each reply without error, likewise; operations whose reply is a header alone are not here.
REPLIES: dict[int, type] = {
    ops.CREATE: PathResponse,
    ops.CREATE2: Create2Response,
    ops.CREATE_CONTAINER: Create2Response,
    ops.CREATE_TTL: Create2Response,
    ops.EXISTS: StatResponse,
    ops.GET_DATA: GetDataResponse,
    ops.GET_CHILDREN: PathsResponse,
    ops.GET_CHILDREN2: GetChildren2Response,
    ops.SET_DATA: StatResponse,
    ops.GET_ACL: GetACLResponse,
    ops.SET_ACL: StatResponse,
    ops.SYNC: PathResponse,
    ops.RECONFIG: GetDataResponse,
    ops.SASL: SASLToken,
    ops.GET_EPHEMERALS: PathsResponse,
    ops.GET_ALL_CHILDREN_NUMBER: GetAllChildrenNumberResponse,
    ops.ADD_WATCH: ErrorResponse,
    ops.WHO_AM_I: WhoAmIResponse,
}

#: What a multi and a multiRead may hold (spec: client-protocol 6.1).
MULTI_OPS = frozenset(
    [ops.CREATE, ops.CREATE2, ops.CREATE_CONTAINER, ops.CREATE_TTL, ops.DELETE, ops.SET_DATA, ops.CHECK]
)
MULTI_READ_OPS = frozenset([ops.GET_DATA, ops.GET_CHILDREN])

END_OF_MULTI = jute.encode(MultiHeader(-1, True, -1))


def decode_connect(frame: jute.Buf) -> tuple[ConnectRequest, bool | None]:
    """
    Decode a ConnectRequest.

    @return: the request and its C{readOnly} byte, C{None} when the client did not send one: the response must mirror
        that, since C clients read a reply of fixed size.
    @raise ProtocolError: even the password is missing.
    """
    request, end = jute.decode(ConnectRequest, frame)
    return request, (frame[end] != 0 if end < len(frame) else None)


def encode_connect(record: ConnectRequest | ConnectResponse, read_only: bool | None) -> bytes:
    """Encode a ConnectRequest or ConnectResponse, with a C{readOnly} byte unless C{read_only} is C{None}."""
    return jute.encode(record) + (b"" if read_only is None else b"\x01" if read_only else b"\x00")


def decode_multi(buf: jute.Buf, offset: int, allowed: frozenset[int]) -> list[tuple[int, Any]]:
    """
    Decode the operations of a multi or multiRead.

    @param allowed: L{MULTI_OPS} or L{MULTI_READ_OPS}; the two never mix.
    @return: C{(opcode, record)} each.
    @raise ProtocolError: an operation that may not stand there, a null path, an invalid create flag, or bytes cut
        short; the whole request is refused then.
    """
    return list(_multi_ops(buf, offset, allowed))


def _multi_ops(buf: jute.Buf, offset: int, allowed: frozenset[int]) -> Iterator[tuple[int, Any]]:
    header, offset = jute.decode(MultiHeader, buf, offset)
    while not header.done:
        if header.type not in allowed:
            raise ProtocolError(f"operation {header.type} inside a multi")
        record: Any
        record, offset = jute.decode(REQUESTS[header.type], buf, offset)
        if record.path is None:
            raise ProtocolError("null path inside a multi")
        if isinstance(record, CreateRequest) and not 0 <= record.flags <= 6:
            raise ProtocolError(f"create flag {record.flags} inside a multi")
        yield header.type, record
        header, offset = jute.decode(MultiHeader, buf, offset)


def encode_multi(operations: Sequence[tuple[int, Any]]) -> bytes:
    """Encode the body of a multi or multiRead."""
    parts = [jute.encode(MultiHeader(op, False, -1)) + jute.encode(record) for op, record in operations]
    return b"".join(parts) + END_OF_MULTI


def decode_multi_response(buf: jute.Buf, offset: int) -> list[tuple[int, int, Any]]:
    """
    Decode the results of a multi or multiRead.

    @return: C{(type, err, record or None)} each.
    """
    results: list[tuple[int, int, Any]] = []
    header, offset = jute.decode(MultiHeader, buf, offset)
    while not header.done:
        kind = ErrorResponse if header.type == ops.ERROR else REPLIES.get(header.type)
        record: Any = None
        if kind is not None:
            record, offset = jute.decode(kind, buf, offset)
        elif header.type not in (ops.DELETE, ops.CHECK):
            raise ProtocolError(f"result of type {header.type} inside a multi")
        results.append((header.type, header.err, record))
        header, offset = jute.decode(MultiHeader, buf, offset)
    return results


def encode_multi_response(results: Sequence[tuple[int, int, Any]]) -> bytes:
    """Encode results as L{decode_multi_response} returns them."""
    parts = [
        jute.encode(MultiHeader(op, False, err)) + (b"" if record is None else jute.encode(record))
        for op, err, record in results
    ]
    return b"".join(parts) + END_OF_MULTI
