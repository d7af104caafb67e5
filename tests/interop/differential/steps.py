"""What a generated sequence is made of: plain values that print as the Python that makes them again.

Every sequence works under a root of its own. In the bytes of a request the root is written ``r@@@@``, which has the
length of the real one, and a zxid relative to the sequence's start is a marked field of eight bytes; both are put in
when the request is sent, so a sequence can be run again, and on another server, as it is.
"""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

ROOT_TOKEN = b"r@@@@"
_ZXID_TOKEN = re.compile(rb"\xf5ZXID([\s\S]{3})")


def relative_zxid(distance: int) -> bytes:
    """Return the eight bytes that stand for the zxid *distance* after the sequence's start; it may be negative."""
    return b"\xf5ZXID" + distance.to_bytes(3, "big", signed=True)


def filled(data: bytes, root: bytes, start_zxid: int) -> bytes:
    """Return request bytes with the real root and zxids in them."""

    def zxid(match: re.Match[bytes]) -> bytes:
        return struct.pack(">q", start_zxid + int.from_bytes(match[1], "big", signed=True))

    return _ZXID_TOKEN.sub(zxid, data.replace(ROOT_TOKEN, root))


class Request(NamedTuple):
    """One framed request; *note* is for the reader."""

    xid: int
    opcode: int
    body: bytes
    note: str

    def frame(self, root: bytes, start_zxid: int) -> bytes:
        """Return the frame without its length."""
        return struct.pack(">ii", self.xid, self.opcode) + filled(self.body, root, start_zxid)


class Send(NamedTuple):
    """Requests over connection *conn* in one segment; every answer is awaited before the next step."""

    conn: int
    requests: tuple[Request, ...]


class Open(NamedTuple):
    """A new session in the place of connection *conn*, whose session is closed before."""

    conn: int
    timeout_ms: int = 30000
    password: bytes | None = bytes(16)
    read_only: bytes = b"\0"
    version: int = 0
    zxid_ahead: int | None = None
    session_id: int = 0


class Resume(NamedTuple):
    """A second connection for the session of *conn*; a false *right* spoils the password."""

    conn: int
    right: bool = True
    timeout_ms: int = 30000
    read_only: bytes = b"\0"


class Drop(NamedTuple):
    """Our end of the TCP connection is closed without a word; the session lives on."""

    conn: int


class Raw(NamedTuple):
    """Bytes that are no frame, over connection *conn*."""

    conn: int
    data: bytes


class Word(NamedTuple):
    """A four letter word, or what looks like one, over a connection of its own."""

    data: bytes


Step = Send | Open | Resume | Drop | Raw | Word
