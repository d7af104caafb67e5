"""What a Java server does to its own harm, and ours does not: each deviation on purpose, over the raw protocol."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from .differential import records as op
from .differential.lockstep import SETTINGS
from .ours import OurServer
from .rawclient import OPEN_ACL, PING, Closed, RawConnection, RawSession, buffer, connect_request

UNIMPLEMENTED, BAD_ARGUMENTS, NO_NODE = -6, -8, -101


@pytest.fixture(scope="module", params=[True, False], ids=["extended types", "plain types"])
def port(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Return the port of a server of ours, with TTL nodes and without."""
    properties = {**SETTINGS["properties"], "zookeeper.extendedTypesEnabled": str(request.param).lower()}
    server = OurServer(tmp_path_factory.mktemp("ours"), config=SETTINGS["config"], properties=properties)
    server.start()
    yield server.port
    assert server.running(), server.output
    server.stop()


def refused(session: RawSession, opcode: int, body: bytes) -> None:
    """Check that a request is answered as one of an opcode that does not exist, and the connection closed."""
    assert session.call(opcode, body)[:2] == (-1, UNIMPLEMENTED)
    with pytest.raises(Closed):
        session.connection.receive()
    session.connection.close()


def test_delete_container_is_for_the_server(port: int) -> None:
    """In Java any client can delete any childless node with opcode 20, whatever its ACL."""
    session = RawSession(port)
    path = session.create("/kept-", flags=2).encode()
    refused(session, op.DELETE_CONTAINER, buffer(path))
    again = RawSession(port)
    assert again.call(op.EXISTS, buffer(path) + b"\0")[1] == 0
    again.close()


def test_create_session_is_for_the_server(port: int) -> None:
    """In Java a client's createSession sets up its session again, and answers with a second ConnectResponse."""
    session = RawSession(port)
    refused(session, op.CREATE_SESSION, struct.pack(">i", 5000))


@pytest.mark.parametrize("flags", [0, 1, 2, 3, 4])
def test_a_ttl_node_without_the_flag(port: int, flags: int) -> None:
    """In Java createTTL with another flag and a negative ttl is logged, stops the server and every start after."""
    session = RawSession(port)
    path = f"/ttl-{flags}".encode()
    body = buffer(path) + buffer(b"") + OPEN_ACL + struct.pack(">iq", flags, -1)
    assert session.call(op.CREATE_TTL, body)[1] == BAD_ARGUMENTS
    assert session.call(op.EXISTS, buffer(path) + b"\0")[1] == NO_NODE
    session.close()


def test_a_strangers_wrong_password(port: int) -> None:
    """In Java a reconnect with a wrong password ends the rightful connection before the password is looked at."""
    session = RawSession(port)
    wrong = bytes(byte ^ 1 for byte in session.password)
    stranger = RawConnection(port)
    stranger.send(connect_request(20000, session.session_id, wrong))
    greeting = op.decode_connect_response(stranger.receive())
    assert (greeting["timeOut"], greeting["sessionId"]) == (0, 0)
    assert stranger.wait_closed() == []
    stranger.close()
    session.connection.send(PING)
    assert op.header(session.connection.receive())[::2] == (op.PING, 0)
    session.close()


def test_a_body_cut_short_stops_nothing(port: int) -> None:
    """In a Java ensemble a write that cannot be decoded stops all writes; here it is an error like any other."""
    session = RawSession(port)
    for opcode in (
        op.CREATE,
        op.DELETE,
        op.SET_DATA,
        op.SET_ACL,
        op.CREATE2,
        op.CREATE_CONTAINER,
        op.CREATE_TTL,
        op.MULTI,
    ):
        assert session.call(opcode, b"\0\0\0\5/a")[1] == -5
    session.create("/after-", flags=2)
    session.close()


def test_the_log_of_all_this_can_be_read_again(tmp_path: Path) -> None:
    """Nothing that was refused is found in the log by the next start."""
    server = OurServer(tmp_path, **SETTINGS)
    server.start()
    session = RawSession(server.port)
    session.call(op.CREATE_TTL, buffer(b"/t") + buffer(b"") + OPEN_ACL + struct.pack(">iq", 0, -1))
    session.call(op.CREATE, b"\0\0\0\5/a")
    path = session.create("/there")
    session.connection.close()
    server.kill9()
    server.start()
    session = RawSession(server.port)
    assert session.call(op.EXISTS, buffer(path.encode()) + b"\0")[1] == 0
    session.close()
    server.stop()
