"""
The whole tree as a client sees it, and work that changes it in every way: what tests of several servers compare.

Knows the raw protocol; refuses to know which server answers.
"""

from __future__ import annotations

import contextlib
import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from tests.interop import rawclient
from tests.interop.process import ServerProcess, four_letter_word
from tests.interop.rawclient import RawSession, buffer

CREATE, DELETE, SET_DATA, GET_DATA, GET_ACL, SET_ACL, SYNC, GET_CHILDREN2, MULTI = 1, 2, 5, 4, 6, 7, 9, 12, 14
CREATE_CONTAINER, CREATE_TTL, AUTH = 19, 21, 100
EPHEMERAL, SEQUENTIAL = 1, 2
SECOND = 1000
#: How many nodes are asked for before the first is answered.
AT_ONCE = 50
DIGEST_ACL = rawclient.acl([(31, "digest", "ann:7RJfAeIvrl4zdj6sS2fXrQHDvHM="), (1, "ip", "10.0.0.0/8")])
#: zoo.cfg of servers whose tree is to be read and worked on: `administrator` knows the password.
CONFIG = {
    "extendedTypesEnabled": "true",
    "DigestAuthenticationProvider.superDigest": "super:lK75jTNcA+U9vtVEw5vB51mj/w4=",
}


class Tree(NamedTuple):
    """All that a client can see of one node."""

    data: bytes | None
    stat: tuple[int, ...]
    acl: bytes
    children: tuple[bytes, ...]


def read_tree(session: RawSession) -> dict[str, Tree]:
    """Return every node of the tree by its path."""
    found: dict[str, Tree] = {}
    waiting = [b"/"]
    while waiting:
        paths, waiting = waiting[:AT_ONCE], waiting[AT_ONCE:]
        watch = b"\0"
        answers = iter(
            session.calls(
                [
                    request
                    for path in map(buffer, paths)
                    for request in ((GET_DATA, path + watch), (GET_ACL, path), (GET_CHILDREN2, path + watch))
                ]
            )
        )
        for path in paths:
            _, err, body = next(answers)
            assert err == 0, path
            length = struct.unpack_from(">i", body)[0]
            data = None if length < 0 else body[4 : 4 + length]
            stat = struct.unpack(">qqqqiiiqiiq", body[4 + max(length, 0) :])
            _, _, acl = next(answers)
            _, _, listing = next(answers)
            children = tuple(sorted(strings(listing)))
            found[path.decode()] = Tree(data, stat, acl, children)
            waiting += [(b"" if path == b"/" else path) + b"/" + child for child in children]
    return found


def strings(body: bytes) -> Iterator[bytes]:
    """Give the strings of a vector at the start of ``body``."""
    count, offset = struct.unpack_from(">i", body)[0], 4
    for _ in range(count):
        length = struct.unpack_from(">i", body, offset)[0]
        yield body[offset + 4 : offset + 4 + length]
        offset += 4 + length


def sessions_of(server: ServerProcess) -> set[int]:
    """Return the ids of the sessions that a server knows, whether their clients are here or not."""
    text = four_letter_word(server.port, b"dump").decode()
    return {int(found, 16) for found in re.findall(r"^\t0x([0-9a-f]+)$", text, re.MULTILINE)}


def administrator(server: ServerProcess) -> RawSession:
    """Open a session that may read everything."""
    session = RawSession(server.port, 40 * SECOND)
    _, err, _ = session.call(AUTH, struct.pack(">i", 0) + buffer(b"digest") + buffer(b"super:secret"))
    assert err == 0
    return session


@contextlib.contextmanager
def connected(session: RawSession) -> Iterator[RawSession]:
    """Give a session, and end its connection afterwards but not the session."""
    try:
        yield session
    finally:
        session.connection.close()


def work(session: RawSession, port: int, name: str) -> None:
    """Change the tree in every way that a transaction can; what is made lies below ``/name``."""
    call, top = session.call, f"/{name}"

    def path(below: str) -> bytes:
        return buffer(f"{top}/{below}".encode())

    session.create(top, b"top")
    session.create(f"{top}/null", None)
    session.create(f"{top}/empty", b"")
    session.create(f"{top}/large", bytes(range(256)) * 1000)
    session.create(f"{top}/Grüße 日本", "Grüße".encode())
    for _ in range(30):
        session.create(f"{top}/seq-", b"s", SEQUENTIAL)
    for number in range(0, 30, 3):
        call(DELETE, path(f"seq-{4 + number:010d}") + struct.pack(">i", -1))
    for version in range(20):
        assert call(SET_DATA, path("empty") + buffer(b"v%d" % version) + struct.pack(">i", version))[1] == 0
    assert call(SET_ACL, path("empty") + DIGEST_ACL + struct.pack(">i", 0))[1] == 0
    assert call(CREATE, path("acl") + buffer(b"x") + DIGEST_ACL + struct.pack(">i", 0))[1] == 0
    assert call(CREATE_CONTAINER, path("container") + buffer(None) + rawclient.OPEN_ACL + struct.pack(">i", 4))[1] == 0
    session.create(f"{top}/container/child", b"")
    hour = struct.pack(">iq", 5, 3600 * SECOND)
    assert call(CREATE_TTL, path("ttl") + buffer(b"") + rawclient.OPEN_ACL + hour)[1] == 0
    # Quotas: kept in nodes that change without a transaction of their own.
    quota = f"/zookeeper/quota/{name}"
    session.create(f"{top}/counted", b"12345")
    session.create(quota, b"")
    session.create(f"{quota}/zookeeper_limits", b"count=1000,bytes=1000000")
    session.create(f"{quota}/zookeeper_stats", b"count=0,bytes=0")
    session.create(f"{top}/counted/more", b"1234567890")
    # One transaction of many operations, one that is refused in its middle, and single requests that are refused.
    operations = [
        (CREATE, path("multi") + buffer(b"m") + rawclient.OPEN_ACL + struct.pack(">i", 0)),
        (CREATE, path("multi/s-") + buffer(b"") + rawclient.OPEN_ACL + struct.pack(">i", SEQUENTIAL)),
        (SET_DATA, path("multi") + buffer(b"changed") + struct.pack(">i", 0)),
        (DELETE, path("null") + struct.pack(">i", 0)),
    ]
    assert call(MULTI, multi(operations))[1] == 0
    call(MULTI, multi([*operations[2:3], (DELETE, path("none") + struct.pack(">i", -1)), *operations[:1]]))
    assert call(DELETE, path("none") + struct.pack(">i", -1))[1] == -101
    assert call(CREATE, path("acl") + buffer(b"") + rawclient.OPEN_ACL + struct.pack(">i", 0))[1] == -110
    # Ephemerals of this session, which stays, and of one that is closed.
    session.create(f"{top}/mine", b"e", EPHEMERAL)
    session.create(f"{top}/mine-", b"es", EPHEMERAL | SEQUENTIAL)
    other = RawSession(port, 40 * SECOND)
    other.create(f"{top}/other", b"", EPHEMERAL)
    other.close()


def multi(operations: list[tuple[int, bytes]]) -> bytes:
    """Encode the body of a multi request."""
    parts = [struct.pack(">i?i", opcode, False, -1) + body for opcode, body in operations]
    return b"".join(parts) + struct.pack(">i?i", -1, True, -1)
