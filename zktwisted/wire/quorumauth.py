"""
The packets in which servers authenticate to one another, on election and quorum ports alike.

This module knows their layout; what the tokens in them mean it refuses to know.

Rules: spec: election 3.1.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from zktwisted.errors import ProtocolError

__all__ = ["ERROR", "IN_PROGRESS", "MAGIC", "SUCCESS", "AuthPacket", "encode_auth", "read_auth"]

MAGIC = bytes.fromhex("5f2435013501edcc")
"""How each packet begins, and nothing else does that is said on these ports."""

IN_PROGRESS, SUCCESS, ERROR = 0, 1, -1

TOKEN_MAX = 65536
"""The longest token that is believed, in bytes."""

_HEAD = Struct(">8sii")


class AuthPacket(NamedTuple):
    """One step."""

    status: int
    token: bytes | None


def encode_auth(status: int, token: bytes | None) -> bytes:
    """Encode a packet."""
    return _HEAD.pack(MAGIC, status, -1 if token is None else len(token)) + (token or b"")


def read_auth(buffer: bytes) -> tuple[AuthPacket, int] | None:
    """
    Read a packet from the beginning of what came.

    @return: the packet and where it ends; C{None} if more bytes are needed.
    @raise ProtocolError: nothing that can follow would make it one.
    """
    if not MAGIC.startswith(buffer[:8]):
        raise ProtocolError("what came is no packet of an authentication")
    if len(buffer) < _HEAD.size:
        return None
    _, status, length = _HEAD.unpack_from(buffer)
    if not -1 <= length <= TOKEN_MAX:
        raise ProtocolError(f"a token of {length} bytes")
    end = _HEAD.size + max(length, 0)
    if len(buffer) < end:
        return None
    return AuthPacket(status, None if length < 0 else buffer[_HEAD.size : end]), end
