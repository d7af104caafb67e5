"""
The packets between a leader and its learners (spec: quorum 1.1, 2).

QuorumPackets follow one another on the quorum port without any outer length; L{read_packet} finds where each ends.
Small payloads that only the quorum protocol has (LearnerInfo, touched sessions, revalidations, forwarded requests)
are here too; a transaction inside a packet stays the bytes that it is.

This module knows the encoding and refuses to know who may send what, and when.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from struct import Struct
from struct import error as struct_error
from typing import NamedTuple

from zktwisted.errors import ProtocolError
from zktwisted.wire import jute
from zktwisted.wire.proto import Id

__all__ = [
    "DEFAULT_DATA_MAX",
    "DIFF",
    "PROTOCOL_VERSION",
    "SNAP",
    "TRUNC",
    "LearnerInfo",
    "QuorumPacket",
    "RequestPayload",
    "pack_bare",
    "pack_packet",
    "packet_name",
    "read_packet",
    "read_packets",
]

Vector = Sequence


# What a QuorumPacket is (spec: quorum 1.1).
REQUEST = 1
PROPOSAL = 2
ACK = 3
COMMIT = 4
PING = 5
REVALIDATE = 6
SYNC = 7
INFORM = 8
COMMITANDACTIVATE = 9
NEWLEADER = 10
FOLLOWERINFO = 11
UPTODATE = 12
DIFF = 13
TRUNC = 14
SNAP = 15
OBSERVERINFO = 16
LEADERINFO = 17
ACKEPOCH = 18
INFORMANDACTIVATE = 19

_NAMES = {value: name for name, value in list(globals().items()) if name.isupper() and type(value) is int}

#: What learners and leaders of today speak; before it there was no LEADERINFO.
PROTOCOL_VERSION = 0x10000
#: The longest payload that is believed: jute.maxbuffer and its extra size, as they are by default.
DEFAULT_DATA_MAX = 2 * 0xFFFFF
#: How many identities a packet may name, and how many bytes they may have: no client has nearly as many.
IDENTITIES_MAX = 1000
IDENTITIES_BYTES_MAX = 1 << 20

_head = Struct(">iqi")
_unpack_head = _head.unpack_from
_pack_head = _head.pack
_bare = Struct(">iqii")
_pack_bare = _bare.pack
_iter_bare = _bare.iter_unpack
_int = Struct(">i")
_unpack_int = _int.unpack_from
_NULL = b"\xff\xff\xff\xff"
_HEAD = _head.size
_SMALLEST = _HEAD + len(_NULL)
#: What is said once a learner takes part: behind one of these stands another packet, and never an image.
_BROADCAST = frozenset((REQUEST, PROPOSAL, ACK, COMMIT, PING, REVALIDATE, SYNC, INFORM))
_new = tuple.__new__


class QuorumPacket(NamedTuple):
    """One packet: C{data} and C{authinfo} tell null (C{None}) from empty."""

    type: int
    zxid: int
    data: bytes | None = None
    authinfo: tuple[Id, ...] | None = None

    def __repr__(self) -> str:
        size = "" if self.data is None else f" {len(self.data)} bytes"
        return f"<{packet_name(self.type)} 0x{self.zxid & 0xFFFFFFFFFFFFFFFF:x}{size}>"


def packet_name(kind: int) -> str:
    """Name a type of packet as the specification does."""
    return _NAMES.get(kind, f"type {kind}")


def pack_bare(kind: int, zxid: int) -> bytes:
    """Encode a packet of type C{kind} that is nothing but its zxid: no data, no identities."""
    return _pack_bare(kind, zxid, -1, -1)


def pack_packet(kind: int, zxid: int, data: bytes | None = None, authinfo: Iterable[Id] | None = None) -> bytes:
    """Encode a packet."""
    if data is None:
        head = _pack_head(kind, zxid, -1)
    else:
        head = _pack_head(kind, zxid, len(data)) + data
    return head + (_NULL if authinfo is None else _pack_identities(tuple(authinfo)))


@lru_cache(maxsize=256)
def _pack_identities(authinfo: tuple[Id, ...]) -> bytes:
    return _int.pack(len(authinfo)) + b"".join([jute.encode(each) for each in authinfo])


def read_packet(
    buf: bytes | bytearray | memoryview, offset: int = 0, limit: int = DEFAULT_DATA_MAX
) -> tuple[QuorumPacket, int] | None:
    """
    Take the packet at C{offset}.

    @param limit: the longest payload that is believed, in bytes.
    @return: the packet and the offset behind it; C{None} if its end has not come yet.
    @raise ProtocolError: these bytes begin no packet.  Known as soon as the bytes that show it are there.
    """
    start = offset + _HEAD
    size = len(buf)
    if start > size:
        return None
    kind, zxid, length = _unpack_head(buf, offset)
    if length < 0:
        if length != -1:
            raise ProtocolError(f"packet of type {kind} with a payload of {length} bytes")
        data, end = None, start
    else:
        if length > limit:
            raise ProtocolError(f"packet of type {kind} with a payload of {length} bytes, the limit is {limit}")
        end = start + length
        data = None
    if end + 4 > size:
        return None
    if length >= 0:
        data = bytes(buf[start:end])
    count = _unpack_int(buf, end)[0]
    end += 4
    if count < 0:
        # Jute reads every negative count but -1 as an empty vector; no server writes one.
        return _new(QuorumPacket, (kind, zxid, data, None if count == -1 else ())), end
    identities = _read_identities(buf, end, count)
    if identities is None:
        return None
    return QuorumPacket(kind, zxid, data, identities[0]), identities[1]


def read_packets(
    buf: bytes, offset: int = 0, limit: int = DEFAULT_DATA_MAX
) -> tuple[list[QuorumPacket], int]:
    """
    Take all packets at C{offset} that are there, up to the first one behind which something else may stand: an image.

    Many packets come at a time once there is something to do, so this is what L{read_packet} does, without its call.

    @param limit: the longest payload that is believed, in bytes.
    @return: the packets and the offset behind them; none, if the end of the first has not come yet.
    @raise ProtocolError: the first one is no packet; those in front of such a one are returned.
    """
    packets: list[QuorumPacket] = []
    size = len(buf) - _SMALLEST
    view = memoryview(buf)
    # Many requests in a row come from clients that are the same to us.
    same, identities = _NULL, None
    while True:
        if offset <= size:
            kind, zxid, length = _unpack_head(buf, offset)
            end = start = offset + _HEAD
            data = None
            if 0 <= length <= limit:
                end += length
                data = buf[start:end]
            if length >= -1 and length <= limit and kind in _BROADCAST:
                if length < 0 and (kind == 3 or kind == 4) and buf.startswith(_NULL, end):
                    # ACK and COMMIT come in rows.
                    rest = view[offset : offset + (len(buf) - offset) // _SMALLEST * _SMALLEST]
                    for kind, zxid, length, count in _iter_bare(rest):
                        if length != -1 or count != -1 or (kind != 3 and kind != 4):
                            break
                        packets.append(_new(QuorumPacket, (kind, zxid, None, None)))
                        offset += _SMALLEST
                    continue
                if buf.startswith(_NULL, end):
                    packets.append(_new(QuorumPacket, (kind, zxid, data, None)))
                    offset = end + 4
                    continue
                if buf.startswith(same, end):
                    packets.append(_new(QuorumPacket, (kind, zxid, data, identities)))
                    offset = end + len(same)
                    continue
        try:
            found = read_packet(buf, offset, limit)
        except ProtocolError:
            if not packets:
                raise
            return packets, offset
        if found is None:
            return packets, offset
        packet, after = found
        packets.append(packet)
        if packet.type not in _BROADCAST:
            return packets, after
        if packet.authinfo is not None:
            identities = packet.authinfo
            same = buf[offset + _HEAD + len(packet.data or b"") : after]
        offset = after


def _read_identities(
    buf: bytes | bytearray | memoryview, offset: int, count: int
) -> tuple[tuple[Id, ...], int] | None:
    if count > IDENTITIES_MAX:
        raise ProtocolError(f"packet with {count} identities")
    bound = offset + IDENTITIES_BYTES_MAX
    texts: list[str] = []
    for _ in range(2 * count):
        if offset + 4 > len(buf):
            return None
        length: int = _unpack_int(buf, offset)[0]
        if length < -1 or offset + 4 + length > bound:
            raise ProtocolError(f"packet with an identity of {length} bytes")
        end = offset + 4 + max(length, 0)
        if end > len(buf):
            return None
        # A null string has no place in an identity; nobody sends one, and an empty one harms as little.
        texts.append(jute.text(bytes(buf[offset + 4 : end])))
        offset = end
    return tuple(map(Id, texts[::2], texts[1::2])), offset


# -- what a learner says of itself


class LearnerInfo(NamedTuple):
    """
    The payload of FOLLOWERINFO and OBSERVERINFO.

    C{sid} is C{None} where an old learner did not say who it is.
    """

    sid: int | None
    protocol_version: int = PROTOCOL_VERSION
    config_version: int = 0


_learner_info = Struct(">qiq")


def pack_learner_info(info: LearnerInfo) -> bytes:
    """Encode a LearnerInfo whose sid is known."""
    assert info.sid is not None
    return _learner_info.pack(info.sid, info.protocol_version, info.config_version)


def read_learner_info(data: bytes | None) -> LearnerInfo:
    """Decode a LearnerInfo of any age: what it is too short for has the value that it had before it was sent."""
    size = 0 if data is None else len(data)
    sid, protocol_version, config_version = _learner_info.unpack((data or b"")[:20].ljust(20, b"\x00"))
    return LearnerInfo(
        sid if size >= 8 else None,
        protocol_version if size >= 12 else 1,
        config_version if size >= 20 else 0,
    )


# -- single integers

_long = Struct(">q")


def pack_int(value: int) -> bytes:
    """Encode the payload of LEADERINFO (protocol version) or ACKEPOCH (currentEpoch, or -1)."""
    return _int.pack(value)


def read_int(data: bytes | None) -> int:
    """
    Decode the payload of LEADERINFO or ACKEPOCH.

    @raise ProtocolError: it has fewer than four bytes.
    """
    return jute.read_int(data or b"", 0)[0]


def read_designated(data: bytes | None) -> tuple[int, bytes]:
    """
    Decode the payload of COMMITANDACTIVATE or INFORMANDACTIVATE: who is to lead, and what stands behind it.

    @raise ProtocolError: it has fewer than eight bytes.
    """
    sid, end = jute.read_long(data or b"", 0)
    return sid, (data or b"")[end:]


def pack_designated(sid: int, entry: bytes = b"") -> bytes:
    """Encode the payload of COMMITANDACTIVATE, with C{entry} that of INFORMANDACTIVATE."""
    return _long.pack(sid) + entry


# -- sessions

_session = Struct(">qi")
_validity = Struct(">q?")


def pack_sessions(sessions: Iterable[tuple[int, int]]) -> bytes:
    """Encode touched sessions, (id, timeout in ms) each: the payload of a learner's PING."""
    return b"".join([_session.pack(session_id, timeout) for session_id, timeout in sessions])


def read_sessions(data: bytes | None) -> list[tuple[int, int]]:
    """
    Decode touched sessions.

    @raise ProtocolError: the last one is cut short.
    """
    try:
        return list(_session.iter_unpack(data or b""))
    except struct_error:
        raise ProtocolError(f"touched sessions in {len(data or b'')} bytes, not a multiple of 12") from None


def pack_session(session_id: int, timeout: int) -> bytes:
    """Encode the payload of a REVALIDATE that asks; C{timeout} in ms."""
    return _session.pack(session_id, timeout)


def read_session(data: bytes | None) -> tuple[int, int]:
    """
    Decode the payload of a REVALIDATE that asks: session id and timeout in ms.

    @raise ProtocolError: it is cut short.
    """
    try:
        session_id, timeout = _session.unpack_from(data or b"")
    except struct_error:
        raise ProtocolError(f"revalidation of a session in {len(data or b'')} bytes") from None
    return session_id, timeout


def pack_validity(session_id: int, valid: bool) -> bytes:
    """Encode the payload of a REVALIDATE that answers."""
    return _validity.pack(session_id, valid)


def read_validity(data: bytes | None) -> tuple[int, bool]:
    """
    Decode the payload of a REVALIDATE that answers.

    @raise ProtocolError: it is cut short.
    """
    try:
        session_id, valid = _validity.unpack_from(data or b"")
    except struct_error:
        raise ProtocolError(f"answer to a revalidation in {len(data or b'')} bytes") from None
    return session_id, valid


# -- forwarded requests

_request = Struct(">qii")
_pack_forwarded = Struct(">iqiqii").pack
_REQUEST = _request.size


class RequestPayload(NamedTuple):
    """The payload of REQUEST: a client's request without its header."""

    session_id: int
    cxid: int
    op: int
    body: bytes


def pack_forwarded(
    session_id: int, cxid: int, op: int, body: bytes, authinfo: Iterable[Id] | None
) -> bytes:
    """Encode a REQUEST, packet and payload."""
    identities = _NULL if authinfo is None else _pack_identities(tuple(authinfo))
    return _pack_forwarded(REQUEST, -1, _REQUEST + len(body), session_id, cxid, op) + body + identities


def pack_request(session_id: int, cxid: int, op: int, body: bytes) -> bytes:
    """Encode the payload of REQUEST."""
    return _request.pack(session_id, cxid, op) + body


def read_request(data: bytes | None) -> RequestPayload:
    """
    Decode the payload of REQUEST.

    @raise ProtocolError: it ends before the operation.
    """
    if data is None or len(data) < _REQUEST:
        raise ProtocolError(f"forwarded request of {len(data or b'')} bytes")
    session_id, cxid, op = _request.unpack_from(data)
    return RequestPayload(session_id, cxid, op, data[_REQUEST:])
