"""
One story told to an ensemble of Java's servers and to one of ours: on the leader and on a follower, byte for byte.

What is left out: times, session ids, and the order of getEphemerals, which is a hash table's there.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping

import pytest

from tests.interop import rawclient
from tests.interop.conftest import MakeEnsemble
from tests.interop.ensembles import FOLLOWER, JAVA, JAVA_395, OURS, Ensemble, until
from tests.interop.process import four_letter_word
from tests.interop.rawclient import CLOSE_SESSION, OPEN_ACL, Closed, RawSession, buffer, vector
from tests.interop.trees import (
    CREATE,
    CREATE_CONTAINER,
    CREATE_TTL,
    DELETE,
    EPHEMERAL,
    GET_CHILDREN2,
    GET_DATA,
    MULTI,
    SEQUENTIAL,
    SET_ACL,
    SET_DATA,
    SYNC,
    strings,
)

EXISTS, CREATE2, RECONFIG, GET_EPHEMERALS = 3, 15, 16, 103
#: A time in ms since the epoch, in the years from 2020 to 2039.
TIME = re.compile(rb"\x00\x00\x01[\x70-\xff][\x00-\xff]{4}")

Answer = tuple[object, ...]


def node(path: bytes, flags: int = 0, acl: bytes = OPEN_ACL) -> bytes:
    """Encode a create."""
    return buffer(path) + buffer(b"data") + acl + struct.pack(">i", flags)


def change(path: bytes, version: int = -1) -> bytes:
    """Encode a setData."""
    return buffer(path) + buffer(b"new") + struct.pack(">i", version)


def removal(path: bytes) -> bytes:
    """Encode a delete."""
    return buffer(path) + struct.pack(">i", -1)


def together(*operations: tuple[int, bytes]) -> bytes:
    """Encode a multi."""
    parts = [struct.pack(">i?i", op, False, -1) + body for op, body in operations]
    return b"".join(parts) + struct.pack(">i?i", -1, True, -1)


WORLD_READ = rawclient.acl([(1, "world", "anyone"), (31, "digest", "ann:7RJfAeIvrl4zdj6sS2fXrQHDvHM=")])
STORY = (
    (CREATE, node(b"/a")),
    (CREATE, node(b"/a")),
    (CREATE2, node(b"/a/x-", SEQUENTIAL)),
    (CREATE, node(b"/e", EPHEMERAL)),
    (CREATE2, node(b"/f", EPHEMERAL)),
    (SET_DATA, change(b"/a")),
    (SET_DATA, change(b"/a", 7)),
    (SET_DATA, change(b"/none")),
    (DELETE, removal(b"/none")),
    (DELETE, removal(b"/a")),
    (SYNC, buffer(b"/what ever")),
    (MULTI, together((CREATE, node(b"/m")), (SET_DATA, change(b"/m")), (DELETE, removal(b"/m")))),
    (MULTI, together((CREATE, node(b"/m")), (SET_DATA, change(b"/none")), (DELETE, removal(b"/m")))),
    (MULTI, together((CREATE, node(b"/m")), (CREATE, node(b"/m/e", EPHEMERAL)))),
    (MULTI, together()),
    (CREATE_CONTAINER, node(b"/c", 4)),
    (CREATE_TTL, node(b"/t", 5) + struct.pack(">q", 100_000)),
    (RECONFIG, vector(None) * 3 + struct.pack(">q", -1)),
    (SET_ACL, buffer(b"/a") + OPEN_ACL + struct.pack(">i", -1)),
    (SET_ACL, buffer(b"/a") + vector([]) + struct.pack(">i", -1)),
    (CREATE, node(b"/s", 0, vector([]))),
    (CREATE, node(b"/s", 0, WORLD_READ)),
    (SET_DATA, change(b"/s")),
    (CREATE, node(b"/s/x")),
    (DELETE, removal(b"/s/x")),
    (SET_ACL, buffer(b"/s") + OPEN_ACL + struct.pack(">i", -1)),
    (MULTI, together((SET_DATA, change(b"/s")))),
    (EXISTS, buffer(b"/a") + b"\0"),
)


def ask(session: RawSession, op: int, body: bytes = b"") -> Answer:
    """Ask, and return what has to be the same."""
    try:
        zxid, err, answer = session.call(op, body)
    except Closed:
        return op, "closed"
    return (
        op,
        hex(zxid),
        err,
        TIME.sub(b"a time", answer.replace(struct.pack(">q", session.session_id), b"its session")),
    )


def tell(ensemble: Ensemble, sid: int) -> list[Answer]:
    """Tell the story to a server, and to another one when the session has moved there; tidy up."""
    session = ensemble.session(sid, 30000)
    said: list[Answer] = [(session.session_id >> 56, session.timeout_ms)]
    said += [ask(session, op, body) for op, body in STORY]
    _, _, config = session.call(GET_DATA, buffer(b"/zookeeper/config") + b"\0")
    said.append((re.sub(rb":\d+:\d+:", b"", TIME.sub(b"", config)),))
    _, _, ephemerals = session.call(GET_EPHEMERALS, buffer(b"/"))
    said.append(tuple(sorted(strings(ephemerals))))
    moved = ensemble.session(sid % 3 + 1, 31000, session.session_id, session.password)
    said.append((moved.session_id == session.session_id, moved.timeout_ms))
    if moved.session_id:
        # The leader knows whose the session is now; a follower lets the old connection read.
        said.append(ask(session, EXISTS, buffer(b"/a") + b"\0"))
        if said[-1][-1] != "closed":
            said.append(ask(session, SET_DATA, change(b"/a")))
        said.append(ask(moved, SET_DATA, change(b"/a")))
        session = moved
    said += [ask(session, CLOSE_SESSION), ask(session, EXISTS, buffer(b"/a") + b"\0")]
    session = ensemble.session(sid)
    _, _, listing = session.call(GET_CHILDREN2, buffer(b"/a") + b"\0")
    paths = [b"/a/" + name for name in strings(listing)] + [b"/a", b"/c", b"/e", b"/f", b"/m/e", b"/m", b"/s", b"/t"]
    said += [ask(session, DELETE, removal(path)) for path in paths]
    said.append(ask(session, CLOSE_SESSION))
    return said


SETTINGS: dict[str, Mapping[str, str]] = {
    "usual": {},
    "local sessions": {"localSessionsEnabled": "true"},
    "upgraded": {"localSessionsEnabled": "true", "localSessionsUpgradingEnabled": "true"},
    "eager": {"enableEagerACLCheck": "true"},
}


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("java", [JAVA, JAVA_395])
def test_answers(java: str, settings: str, make_ensemble: MakeEnsemble) -> None:
    """Leader and follower answer as Java's do: codes, zxids, results of multis, who is cut off, who is refused."""
    told = []
    for kind in (java, OURS):
        ensemble = make_ensemble({1: kind, 2: kind, 3: kind}, config=SETTINGS[settings])
        ensemble.start(2, 3)
        ensemble.start(1)
        assert ensemble.leader() == 3
        told.append([tell(ensemble, sid) for sid in (3, 1)])
        ensemble.close()
    theirs, ours = told
    for theirs_of_one, ours_of_one in zip(theirs, ours, strict=True):
        assert ours_of_one == theirs_of_one


def test_leader_that_does_not_serve(make_ensemble: MakeEnsemble) -> None:
    """With leaderServes=no the leader takes no client, and its followers' clients lack nothing."""
    told = []
    for kind in (JAVA, OURS):
        ensemble = make_ensemble({1: kind, 2: kind, 3: kind}, config={"leaderServes": "no"})
        ensemble.start(wait=False)
        session = ensemble.session(1)
        zxid, err, _ = session.call(CREATE, node(b"/a"))
        # Of 2 and 3 one follows, sooner or later, and the other one leads; until then it may be about to start.
        leader = until(
            lambda: next((5 - sid for sid in (2, 3) if ensemble[sid].mode() == FOLLOWER), None),  # noqa: B023
            lambda: "one of them follows",
        )
        with pytest.raises(Closed):
            RawSession(ensemble[leader].port)
        told.append((hex(zxid), err, ask(session, CLOSE_SESSION)))
        ensemble.close()
    assert told[0] == told[1]


READ_ONLY_STORY = (
    (EXISTS, buffer(b"/a") + b"\0"),
    (GET_DATA, buffer(b"/a") + b"\1"),
    (CREATE, node(b"/b")),
    (SET_DATA, change(b"/a")),
    (DELETE, removal(b"/a")),
    (MULTI, together((CREATE, node(b"/b")))),
    (SYNC, buffer(b"/")),
    (RECONFIG, vector(None) * 3 + struct.pack(">q", -1)),
    (CLOSE_SESSION, b""),
    (EXISTS, buffer(b"/a") + b"\0"),
)


def try_alone(port: int, session: RawSession | None = None, read_only: bytes = b"\1") -> RawSession | None:
    """Ask for a session, as a client that knows of read-only servers if not told otherwise; None: it was cut off."""
    identity = (0, rawclient.NO_PASSWORD) if session is None else (session.session_id, session.password)
    try:
        return RawSession(port, 30000, *identity, read_only=read_only)
    except Closed:
        return None


def tell_alone(port: int, of_all: RawSession) -> tuple[list[Answer], RawSession]:
    """Tell the story to a server without a leader; return what it says, and a session that is left there."""
    assert not any(try_alone(port, None, read_only) for read_only in (b"\0", b"")), "clients that do not know of it"
    assert try_alone(port, of_all) is None, "a session of the ensemble"
    session = try_alone(port)
    assert session is not None
    again = try_alone(port, session)
    assert again is not None
    assert again.session_id == session.session_id
    with pytest.raises(Closed):
        session.connection.receive()
    said: list[Answer] = [(again.session_id >> 56, again.timeout_ms, again.of_read_only_server)]
    said += [ask(again, op, body) for op, body in READ_ONLY_STORY]
    left = try_alone(port)
    assert left is not None
    for each in (session, again):
        each.connection.close()
    return said, left


@pytest.mark.parametrize("java", [JAVA, JAVA_395])
def test_read_only(java: str, make_ensemble: MakeEnsemble) -> None:
    """A server that has lost the others answers reads, refuses the rest, and ends when a leader is there again."""
    told = []
    for kind in (java, OURS):
        ensemble = make_ensemble(
            {1: kind, 2: kind, 3: kind},
            config={"localSessionsEnabled": "true", "localSessionsUpgradingEnabled": "true"},
            properties={"readonlymode.enabled": "true"},
        )
        ensemble.start(2, 3)
        ensemble.start(1)
        of_all = ensemble.session(1)
        of_all.create("/a", b"old")
        of_all.create("/e", b"", EPHEMERAL)
        ensemble.kill9(2, 3)
        until(lambda: four_letter_word(ensemble[1].port, b"isro") == b"ro", lambda: "it serves alone")  # noqa: B023
        assert ensemble[1].mode() == "read-only"
        said, left = tell_alone(ensemble[1].port, of_all)
        ensemble.start(2, wait=False)
        assert left.connection.wait_closed() == []
        left.connection.close()
        ensemble.wait()
        assert ensemble.session(1, 30000, of_all.session_id, of_all.password).session_id == of_all.session_id
        told.append(said)
        ensemble.close()
    assert told[1] == told[0]
