"""
What servers say on their election ports: who is calling, and for whom they vote.

A connection begins with an initial message; everything after it is notifications, each in a frame.  All the forms that
ZooKeeper has used are read, the present one is written (spec: election 2.2, 2.3, 4).

This module knows the bytes and refuses to know who should win, or who should be calling.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import IntEnum
from ipaddress import ip_address
from struct import Struct
from typing import NamedTuple

from zktwisted.errors import ProtocolError

__all__ = [
    "FRAME_MAX",
    "NOBODY",
    "InitialMessage",
    "Notification",
    "ServerState",
    "Vote",
    "decode_notification",
    "encode_initial",
    "encode_notification",
    "read_initial",
]

#: The longest frame that is accepted, in bytes.
FRAME_MAX = 524_288

#: What a server without a vote writes for the leader (observers for zxid and epoch too) until it has heard of a better.
NOBODY = -(1 << 63)

#: The format of notifications that is written.
NOTIFICATION_VERSION = 2

_TAG_ONE = -65536
_TAG_MANY = -65535
_ADDRESSES_MAX = 2048

_INITIAL = Struct(">qqi")
_SID = Struct(">q")
_VOTE = Struct(">iqqq")
_VOTE_EPOCH = Struct(">iqqqqi")
_LENGTH = Struct(">i")
_CONFIG_AT = _VOTE_EPOCH.size + _LENGTH.size


class ServerState(IntEnum):
    """What a server is doing."""

    LOOKING = 0
    FOLLOWING = 1
    LEADING = 2
    OBSERVING = 3


class Vote(NamedTuple):
    """Whom a server wants as its leader."""

    #: The id of the leader.
    leader: int
    #: The last zxid of that leader.
    zxid: int
    #: The election in which it is said; each server counts its own.
    round: int
    #: The current epoch of that leader.
    peer_epoch: int


class Notification(NamedTuple):
    """A vote on the wire.  Who sends it is known by the connection and stands nowhere in it."""

    #: A L{ServerState}, or whatever number came.
    state: int
    vote: Vote
    #: The format, which tells how much the sender knows; 0 for the oldest.
    version: int = NOTIFICATION_VERSION
    #: The text of the sender's ensemble; C{None} in formats without one.
    config: str | None = None


class InitialMessage(NamedTuple):
    """The first bytes of a connection."""

    #: Who is calling.
    sid: int
    #: Where it can be reached for elections, (host, port) each, as it was written; none in the oldest form.
    addresses: tuple[tuple[str, int], ...] = ()
    #: Whether it came with the tag of several addresses.
    many: bool = False

    @property
    def usable(self) -> tuple[tuple[str, int], ...]:
        """The addresses that can be called back: not those that mean every address of a machine."""
        return tuple(address for address in self.addresses if not _is_wildcard(address[0]))


def encode_notification(state: int, vote: Vote, config: str) -> bytes:
    """
    Encode a notification of the present format, in its frame.

    @param config: the text of the sender's committed ensemble.
    """
    text = config.encode()
    leader, zxid, round_, peer_epoch = vote
    return b"".join(
        (
            _LENGTH.pack(_CONFIG_AT + len(text)),
            _VOTE_EPOCH.pack(state, leader, zxid, round_, peer_epoch, NOTIFICATION_VERSION),
            _LENGTH.pack(len(text)),
            text,
        )
    )


def decode_notification(body: bytes) -> Notification:
    """
    Decode a notification of any generation.

    @param body: what is in the frame.
    @raise ProtocolError: it has none of the known forms: skip it, the connection is as good as before.
    """
    size = len(body)
    if size < _VOTE.size:
        raise ProtocolError(f"a notification of {size} bytes")
    if size == _VOTE.size:
        state, leader, zxid, round_ = _VOTE.unpack(body)
        return Notification(state, Vote(leader, zxid, round_, zxid >> 32), 0)
    if size < _VOTE_EPOCH.size:
        raise ProtocolError(f"a notification of {size} bytes has no version")
    state, leader, zxid, round_, peer_epoch, version = _VOTE_EPOCH.unpack_from(body)
    vote = Vote(leader, zxid, round_, peer_epoch)
    if size == _VOTE_EPOCH.size:
        # What stands in the last field is 1, and yet this is how Java's servers count the messages of 3.4.
        return Notification(state, vote, 0)
    if version < NOTIFICATION_VERSION:
        return Notification(state, vote, version)
    if size < _CONFIG_AT:
        raise ProtocolError(f"a notification of {size} bytes ends in the length of its configuration")
    length: int = _LENGTH.unpack_from(body, _VOTE_EPOCH.size)[0]
    if not 0 <= length <= size - _CONFIG_AT:
        raise ProtocolError(f"a configuration of {length} bytes in a notification of {size}")
    text = body[_CONFIG_AT : _CONFIG_AT + length].decode("utf-8", "replace")
    return Notification(state, vote, version, text)


def encode_initial(sid: int, addresses: Sequence[tuple[str, int]], *, many: bool = False) -> bytes:
    """
    Encode an initial message.

    @param addresses: the election addresses of the caller, at least one.
    @param many: name them all, which servers before 3.6 do not understand; else only the first.
    """
    named = addresses if many else addresses[:1]
    text = "|".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in named).encode()
    return _INITIAL.pack(_TAG_MANY if many else _TAG_ONE, sid, len(text)) + text


def read_initial(buffer: bytes | bytearray) -> tuple[InitialMessage, int] | None:
    """
    Read an initial message of any form from the beginning of a connection.

    @return: the message and where the notifications begin; C{None} if more bytes are needed.
    @raise ProtocolError: nothing that can follow would make it one.
    """
    if len(buffer) < _SID.size:
        return None
    tag: int = _SID.unpack_from(buffer)[0]
    if tag >= 0:  # before 3.5: the caller's id and nothing else
        return InitialMessage(tag), _SID.size
    if tag not in (_TAG_ONE, _TAG_MANY):
        raise ProtocolError(f"an initial message with tag {tag}")
    if len(buffer) < _INITIAL.size:
        return None
    _, sid, length = _INITIAL.unpack_from(buffer)
    if not 0 < length <= _ADDRESSES_MAX:
        raise ProtocolError(f"addresses of {length} bytes")
    end = _INITIAL.size + length
    if len(buffer) < end:
        return None
    try:
        text = bytes(buffer[_INITIAL.size : end]).decode()
    except UnicodeDecodeError:
        raise ProtocolError("addresses that are no text") from None
    parts = text.rstrip("|").split("|")
    return InitialMessage(sid, tuple(map(_read_address, parts)), tag == _TAG_MANY), end


def _read_address(text: str) -> tuple[str, int]:
    found = re.fullmatch(r"\[([^\[\]]+)\]:([0-9]{1,5})|([^:\[\]]+):([0-9]{1,5})", text)
    if found is None or int(found[2] or found[4]) > 65535 or not text.isprintable():
        raise ProtocolError(f"{text!r} is no address with a port")
    return found[1] or found[3], int(found[2] or found[4])


def _is_wildcard(host: str) -> bool:
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False
