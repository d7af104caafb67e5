"""What a server sends, taken apart into plain values, with a mark on each value that differs from run to run.

A decoded frame is a nest of dicts, tuples and scalars. Numbers whose value belongs to one run are instances of
:class:`Zxid`, :class:`SessionId` and :class:`Millis`; a :class:`Bag` is a list whose order means nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

NOTIFICATION, PING, AUTH = -1, -2, -4
CREATE, DELETE, EXISTS, GET_DATA, SET_DATA, GET_ACL, SET_ACL, GET_CHILDREN, SYNC = range(1, 10)
PING_OP, GET_CHILDREN2, CHECK, MULTI, CREATE2, RECONFIG, CHECK_WATCHES, REMOVE_WATCHES = range(11, 19)
CREATE_CONTAINER, DELETE_CONTAINER, CREATE_TTL, MULTI_READ = range(19, 23)
AUTH_OP, SET_WATCHES, SASL, GET_EPHEMERALS, GET_ALL_CHILDREN_NUMBER, SET_WATCHES2, ADD_WATCH, WHO_AM_I = range(100, 108)
CREATE_SESSION, CLOSE_SESSION = -10, -11

OP_NAMES = {
    value: name.lower().removesuffix("_op")
    for name, value in list(globals().items())
    if isinstance(value, int) and name.isupper() and name not in ("NOTIFICATION", "PING", "AUTH")
}


class Zxid(int):
    """A transaction id."""


class SessionId(int):
    """The id of a session, as the owner of a node."""


class Millis(int):
    """A wall clock time in milliseconds."""


class Password(bytes):
    """The password of a session."""


class Bag(tuple[Any, ...]):
    """Items in no particular order, sorted here so that equal bags are equal tuples."""

    __slots__ = ()

    def __new__(cls, items: list[Any]) -> Bag:
        return super().__new__(cls, sorted(items, key=repr))


class Malformed(Exception):
    """A frame does not hold what its kind of reply should."""


class Reader:
    """Reads jute values off a frame, in order."""

    def __init__(self, frame: bytes, offset: int = 0) -> None:
        self.frame = frame
        self.offset = offset

    def unpack(self, layout: str) -> tuple[Any, ...]:
        """Read a fixed layout."""
        try:
            values = struct.unpack_from(layout, self.frame, self.offset)
        except struct.error as error:
            raise Malformed(str(error)) from None
        self.offset += struct.calcsize(layout)
        return values

    def integer(self) -> int:
        """Read an int."""
        value: int = self.unpack(">i")[0]
        return value

    def buffer(self) -> bytes | None:
        """Read a buffer or string, None for null."""
        length = self.integer()
        if length == -1:
            return None
        end = self.offset + length
        if length < -1 or end > len(self.frame):
            raise Malformed(f"a buffer of {length} bytes at {self.offset}")
        value = self.frame[self.offset : end]
        self.offset = end
        return value

    def vector(self, item: Callable[[], Any]) -> list[Any] | None:
        """Read a vector, None for null."""
        count = self.integer()
        return None if count == -1 else [item() for _ in range(count)]

    def bag(self, item: Callable[[], Any]) -> Bag | None:
        """Read a vector whose order means nothing."""
        items = self.vector(item)
        return None if items is None else Bag(items)

    def stat(self) -> dict[str, Any]:
        """Read a Stat."""
        fields = self.unpack(">qqqqiiiqiiq")
        czxid, mzxid, ctime, mtime, version, cversion, aversion, owner, length, children, pzxid = fields
        return {
            "czxid": Zxid(czxid),
            "mzxid": Zxid(mzxid),
            "ctime": Millis(ctime),
            "mtime": Millis(mtime),
            "version": version,
            "cversion": cversion,
            "aversion": aversion,
            "ephemeralOwner": SessionId(owner),
            "dataLength": length,
            "numChildren": children,
            "pzxid": Zxid(pzxid),
        }

    def acl(self) -> tuple[int, bytes | None, bytes | None]:
        """Read one ACL."""
        return self.integer(), self.buffer(), self.buffer()

    def rest(self) -> bytes:
        """Return what was not read."""
        return self.frame[self.offset :]


def _create2(reader: Reader) -> dict[str, Any]:
    return {"path": reader.buffer(), "stat": reader.stat()}


def _get_data(reader: Reader) -> dict[str, Any]:
    return {"data": reader.buffer(), "stat": reader.stat()}


def _multi(reader: Reader) -> dict[str, Any]:
    results = []
    while True:
        kind, done, err = reader.unpack(">ibi")
        result: dict[str, Any] = {"type": kind, "done": done, "err": err}
        results.append(result)
        if done:
            return {"results": tuple(results)}
        if kind == -1:
            result["error"] = reader.integer()
        elif kind in BODIES:
            result.update(BODIES[kind](reader))
        elif kind not in (DELETE, CHECK):
            raise Malformed(f"a result of type {kind}")


def _who_am_i(reader: Reader) -> dict[str, Any]:
    return {"identities": reader.bag(lambda: (reader.buffer(), reader.buffer()))}


def _get_acl(reader: Reader) -> dict[str, Any]:
    """Read a GetACLResponse; ``auth`` expands to a set of identities, so the order of equal schemes says nothing."""
    entries = reader.vector(reader.acl)
    if entries is None:
        return {"acl": None, "stat": reader.stat()}
    schemes = tuple((perms, scheme) for perms, scheme, _ in entries)
    return {"acl": Bag(entries), "schemes": schemes, "stat": reader.stat()}


BODIES: dict[int, Callable[[Reader], dict[str, Any]]] = {
    CREATE: lambda reader: {"path": reader.buffer()},
    CREATE2: _create2,
    CREATE_CONTAINER: _create2,
    CREATE_TTL: _create2,
    EXISTS: lambda reader: {"stat": reader.stat()},
    SET_DATA: lambda reader: {"stat": reader.stat()},
    SET_ACL: lambda reader: {"stat": reader.stat()},
    GET_DATA: _get_data,
    RECONFIG: _get_data,
    GET_ACL: _get_acl,
    GET_CHILDREN: lambda reader: {"children": reader.bag(reader.buffer)},
    GET_CHILDREN2: lambda reader: {"children": reader.bag(reader.buffer), "stat": reader.stat()},
    SYNC: lambda reader: {"path": reader.buffer()},
    MULTI: _multi,
    MULTI_READ: _multi,
    ADD_WATCH: lambda reader: {"error": reader.integer()},
    GET_EPHEMERALS: lambda reader: {"ephemerals": reader.bag(reader.buffer)},
    GET_ALL_CHILDREN_NUMBER: lambda reader: {"total": reader.integer()},
    WHO_AM_I: _who_am_i,
    SASL: lambda reader: {"token": reader.buffer()},
}


def header(frame: bytes) -> tuple[int, int, int]:
    """Return (xid, zxid, err) of a reply or notification."""
    xid, zxid, err = Reader(frame).unpack(">iqi")
    return xid, zxid, err


def decode_connect_response(frame: bytes) -> dict[str, Any]:
    """Take a ConnectResponse apart; a missing readOnly byte is None."""
    reader = Reader(frame)
    version, timeout, session = reader.unpack(">iiq")
    password = reader.buffer()
    return {
        "protocolVersion": version,
        "timeOut": timeout,
        "sessionId": SessionId(session),
        "passwd": None if password is None else Password(password),
        "readOnly": reader.rest().hex() or None,
    }


def decode_notification(frame: bytes) -> dict[str, Any]:
    """Take a watch notification apart."""
    reader = Reader(frame)
    _, zxid, err = reader.unpack(">iqi")
    kind, state = reader.unpack(">ii")
    path = reader.buffer()
    return {"event": kind, "state": state, "path": path, "zxid": Zxid(zxid), "err": err, "rest": reader.rest()}


def decode_reply(opcode: int | None, frame: bytes) -> dict[str, Any]:
    """Take the reply to a request of *opcode* apart; whatever does not fit is kept as bytes."""
    try:
        reader = Reader(frame)
        xid, zxid, err = reader.unpack(">iqi")
    except Malformed:
        return {"raw": frame}
    reply: dict[str, Any] = {"xid": xid, "zxid": Zxid(zxid), "err": err}
    body = BODIES.get(opcode) if opcode is not None else None
    if body is not None and err == 0:
        start = reader.offset
        try:
            reply.update(body(reader))
        except Malformed:
            reader.offset = start
    if opcode != MULTI_READ or err == 0:
        # A multiRead that fails as a whole carries the results before the failure, which no client looks at.
        reply["rest"] = reader.rest()
    return reply
