"""
The first bytes of a connection, and how an answer is put in its frame.

A connection to a client port begins with the length of a ConnectRequest or with a four-letter word; this module
tells them apart and names what else knocks there (a TLS hello, an HTTP request), so that a log can say it.  It
refuses to know connections, and what the words mean.

Rules: spec: client-protocol 2.1, 2.2, 5.1, 10.
"""

from __future__ import annotations

from struct import Struct

__all__ = ["FRAME", "WORDS", "failure", "frame", "stranger"]

FRAME = Struct(">iii")
"""Length, xid and op code: how every request frame begins."""

WORDS = frozenset(
    b"conf cons crst dirs dump envi gtmk hash isro mntr ruok srst srvr stat stmk wchc wchp wchs".split()
) | {b"\xff\xf4\xff\xfd"}
"""The four-letter words, and what telnet sends when its user interrupts it."""

HTTP = frozenset((b"GET ", b"HEAD", b"POST", b"PUT ", b"DELE", b"OPTI", b"PATC", b"CONN", b"TRAC", b"PRI "))

_header = Struct(">iiqi").pack
_length = Struct(">i").pack


def frame(payload: bytes) -> bytes:
    """Put a payload in a frame: its length, then itself."""
    return _length(len(payload)) + payload


def failure(xid: int, zxid: int, code: int) -> bytes:
    """The whole frame of a reply that is only a header; C{code} 0 is success without a body."""
    return _header(16, xid, zxid, code)


def stranger(head: bytes) -> str:
    """
    Say in words what knocked at the client port.

    @param head: the first bytes, at least four, which are neither a four-letter word nor a length that is allowed.
    """
    if head[0] == 0x16 and head[1] == 3:
        return "a TLS hello on a port without TLS"
    if head[:4] in HTTP:
        return "an HTTP request"
    if head[:4].isalpha():
        return f"an unknown four-letter word {head[:4].decode('ascii', 'replace')!r}"
    return f"neither a frame of an allowed length nor a four-letter word ({head[:4].hex(' ')})"
