"""
Sessions belong to the ensemble: a client moves between servers of different kinds and keeps its ephemerals and watches.

Over the raw protocol, so that the test decides which server a client talks to, and when.
"""

from __future__ import annotations

import struct

import pytest

from tests.interop import trees
from tests.interop.conftest import MakeEnsemble
from tests.interop.ensembles import JAVA, OURS, Ensemble, until
from tests.interop.rawclient import NO_PASSWORD, OPEN_ACL, Closed, RawSession, buffer, vector
from tests.interop.trees import EPHEMERAL, GET_DATA, SEQUENTIAL, SET_DATA

EXISTS, SET_WATCHES = 3, 101
NODE_DELETED, NODE_DATA_CHANGED = 2, 3
NO_NODE, EPHEMERAL_ON_LOCAL_SESSION = -101, -120
#: Server 3 leads.
MIXES = {
    "ours follows": {1: JAVA, 2: OURS, 3: JAVA},
    "ours leads": {1: JAVA, 2: JAVA, 3: OURS},
    "Java follows": {1: JAVA, 2: OURS, 3: OURS},
    "ours alone": {1: OURS, 2: OURS, 3: OURS},
}


def start(ensemble: Ensemble) -> None:
    """Start with server 3 as the leader."""
    ensemble.start(2, 3)
    ensemble.start(1)
    assert ensemble.leader() == 3


def set_data(session: RawSession, path: str, data: bytes) -> int:
    """Set the data of a node, and return the zxid."""
    zxid, err, _ = session.call(SET_DATA, buffer(path.encode()) + buffer(data) + struct.pack(">i", -1))
    assert err == 0
    return zxid


def told(session: RawSession, kind: int, path: str) -> bool:
    """Wait until a session is told of an event."""
    while (kind, path.encode()) not in session.events:
        frame = session.connection.receive()
        assert frame[:4] == b"\xff\xff\xff\xff"
        event, _, length = struct.unpack_from(">iii", frame, 16)
        session.events.append((event, frame[28 : 28 + length]))
    return True


def move(ensemble: Ensemble, session: RawSession, sid: int, last_zxid: int = 0) -> RawSession:
    """Take a session up at another server."""
    moved = ensemble.session(sid, 40000, session.session_id, session.password, last_zxid)
    assert moved.session_id == session.session_id, f"server {sid} refused the session"
    return moved


@pytest.mark.parametrize("mix", MIXES)
def test_moving(mix: str, make_ensemble: MakeEnsemble) -> None:
    """Round all servers, with changes between, over an old connection that lingers, and over the leader's death."""
    ensemble = make_ensemble(MIXES[mix])
    start(ensemble)
    other = ensemble.session(3)
    other.create("/watched", b"0")
    session = ensemble.session(1)
    session.create("/mine", b"", EPHEMERAL)
    zxid, err, _ = session.call(GET_DATA, buffer(b"/watched") + b"\1")
    assert err == 0
    for sid in (2, 3, 1):
        # What changes while it is away it is told when it sets its watches again.
        session.connection.close()
        zxid = set_data(other, "/watched", b"away")
        session = move(ensemble, session, sid, 0)
        call = struct.pack(">q", zxid - 1) + vector([buffer(b"/watched")]) + vector([]) + vector([])
        assert session.call(SET_WATCHES, call)[1] == 0
        assert told(session, NODE_DATA_CHANGED, "/watched")
        session.events.clear()
        _, err, _ = session.call(GET_DATA, buffer(b"/watched") + b"\1")
        assert err == 0
        # And what changes now, wherever, at once.
        set_data(other, "/watched", b"here")
        assert told(session, NODE_DATA_CHANGED, "/watched")

    # It moves, and its old connection says something: only the new one counts.
    old, session = session, move(ensemble, session, 2)
    old.connection.send(struct.pack(">ii", 99, SET_DATA) + buffer(b"/watched") + buffer(b"") + struct.pack(">i", -1))
    with pytest.raises(Closed):
        while True:
            frame = old.connection.receive()
            assert struct.unpack_from(">iqi", frame)[2] != 0, "the old connection wrote"
    set_data(session, "/watched", b"new")

    # A wrong password takes nobody's session.
    assert ensemble.session(1, 40000, session.session_id, NO_PASSWORD).session_id == 0

    ensemble.kill9(3)
    ensemble.wait()
    session = move(ensemble, session, 1)
    assert "/mine" in ensemble.assert_equal()
    ensemble.start(3)
    session = move(ensemble, session, 3)
    session.close()
    assert "/mine" not in ensemble.assert_equal()


@pytest.mark.parametrize("mix", ["ours follows", "ours leads"])
def test_ends(mix: str, make_ensemble: MakeEnsemble) -> None:
    """Whose client is gone expires, wherever it was and whoever leads by then; whose client is there does not."""
    ensemble = make_ensemble(MIXES[mix])
    start(ensemble)
    watcher = ensemble.session(2)
    # It is begun first: if what it asks did not count it would end first.
    kept = ensemble.session(1, 8000)
    kept.create("/kept", b"", EPHEMERAL)
    ending = {sid: ensemble.session(sid, 8000) for sid in (1, 2, 3)}
    events = set()
    for sid, gone in ending.items():
        assert gone.timeout_ms == 8000
        path = gone.create(f"/gone-{sid}-", b"", EPHEMERAL | SEQUENTIAL).encode()
        watcher.call(trees.SYNC, buffer(b"/"))
        assert watcher.call(EXISTS, buffer(path) + b"\1")[1] == 0
        events.add((NODE_DELETED, path))
        gone.connection.close()

    def ended() -> bool:
        # Requests of a client keep its session, at a follower as at the leader.
        assert kept.call(EXISTS, buffer(b"/kept") + b"\0")[1] == 0
        watcher.call(EXISTS, buffer(b"/") + b"\0")
        return events <= {*watcher.events}

    until(ended, lambda: "the sessions of clients that are gone end")
    assert kept.call(EXISTS, buffer(b"/kept") + b"\0")[1] == 0
    for sid, gone in ending.items():
        again = ensemble.session(sid, 8000, gone.session_id, gone.password)
        assert again.session_id == 0, "an expired session was given again"
    # A new leader goes on counting: what nobody claims ends.
    gone = ensemble.session(1, 3000)
    gone.create("/gone-with-leader", b"", EPHEMERAL)
    gone.connection.close()
    ensemble.kill9(3)
    ensemble.wait()
    watcher = move(ensemble, watcher, 2)
    if watcher.call(EXISTS, buffer(b"/gone-with-leader") + b"\1")[1] == 0:
        assert told(watcher, NODE_DELETED, "/gone-with-leader")
    assert watcher.call(EXISTS, buffer(b"/gone-with-leader") + b"\0")[1] == NO_NODE
    ensemble.start(3)
    assert not [path for path in ensemble.assert_equal() if path.startswith("/gone")]


LOCAL = {"localSessionsEnabled": "true"}


@pytest.mark.parametrize("mix", MIXES)
def test_local_sessions(mix: str, make_ensemble: MakeEnsemble) -> None:
    """A session costs the ensemble nothing before it makes an ephemeral; from then on it may move."""
    ensemble = make_ensemble(MIXES[mix], config={**LOCAL, "localSessionsUpgradingEnabled": "true"})
    start(ensemble)
    ensemble.session(3).create("/first")
    for sid in (1, 2, 3):
        before = ensemble.zxid()
        session = ensemble.session(sid)
        assert session.call(EXISTS, buffer(b"/") + b"\0")[1] == 0
        assert ensemble.zxid() == before, "a local session was told to the ensemble"
        session.create(f"/plain-{sid}")
        refused = ensemble.session(sid % 3 + 1, 40000, session.session_id, session.password)
        assert refused.session_id == 0, "another server knows a local session"
        session.create(f"/eph-{sid}", b"", EPHEMERAL)
        moved = move(ensemble, session, sid % 3 + 1)
        assert moved.call(EXISTS, buffer(f"/eph-{sid}".encode()) + b"\0")[1] == 0
        moved.close()
        before = ensemble.zxid()
        ensemble.session(sid).close()
        assert ensemble.zxid() == before, "the end of a local session was told to the ensemble"
    tree = ensemble.assert_equal()
    assert {"/plain-1", "/plain-2", "/plain-3"} <= tree.keys()
    assert not [path for path in tree if path.startswith("/eph")]


def test_local_sessions_without_upgrade(make_ensemble: MakeEnsemble) -> None:
    """Where sessions stay local, they have no ephemerals."""
    ensemble = make_ensemble({1: JAVA, 2: OURS, 3: OURS}, config=LOCAL)
    start(ensemble)
    for sid in (1, 2, 3):
        session = ensemble.session(sid)
        body = buffer(f"/eph-{sid}".encode()) + buffer(b"") + OPEN_ACL + struct.pack(">i", EPHEMERAL)
        assert session.call(trees.CREATE, body)[1] == EPHEMERAL_ON_LOCAL_SESSION
        session.create(f"/plain-{sid}")
        session.close()
    ensemble.assert_equal()


def test_nobody_serves_alone(make_ensemble: MakeEnsemble) -> None:
    """Clients of a server that lost its quorum lose their connection, and have their sessions when it is back."""
    ensemble = make_ensemble({1: OURS, 2: OURS, 3: JAVA})
    start(ensemble)
    session = ensemble.session(2)
    session.create("/mine", b"", EPHEMERAL)
    ensemble.kill9(1, 3)
    with pytest.raises(Closed):
        while True:
            session.connection.receive()
    until(lambda: ensemble[2].mode() is None, lambda: "server 2 does not serve alone")
    ensemble.start(3)
    session = move(ensemble, session, 2)
    assert session.call(EXISTS, buffer(b"/mine") + b"\0")[1] == 0
    ensemble.start(1)
    session.close()
    assert "/mine" not in ensemble.assert_equal()
