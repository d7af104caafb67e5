"""A test server and everything that can be done to it, as kazoo's clients see it."""

from __future__ import annotations

import gc
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Queue

import pytest
from kazoo.exceptions import (
    ConnectionLoss,
    NoAuthError,
    NoNodeError,
    NotReadOnlyCallError,
    OperationTimeoutError,
    SessionExpiredError,
)
from kazoo.security import make_acl

from tests.real.kit import CONNECTED, LOST, PATIENCE, SUSPENDED, MakeClient, States, connecting, new_client
from zktwisted.errors import Code, ConfigError
from zktwisted.testing import LeakError, TestServer


@pytest.fixture
def server() -> Iterator[TestServer]:
    """Return a server of the test's own."""
    with TestServer() as server:
        yield server


@pytest.fixture
def connect(server: TestServer) -> Iterator[MakeClient]:
    """Return a maker of clients that are connected."""
    yield from connecting(server)


def no_answer(stranger: socket.socket) -> bool:
    """Say whether a connection is closed without an answer to what would get one."""
    try:
        stranger.sendall(b"ruok")
        return stranger.recv(4) == b""
    except ConnectionError:
        return True


# -- life


def test_leaves_nothing() -> None:
    """After the stop there is no thread, no open file and no port that was not there before."""
    with TestServer() as once:  # whatever Python opens when it does something for the first time
        port = once.port
        once.serve_control()
    gc.collect()  # what others left open must not make room for what we leave
    threads, files = set(threading.enumerate()), set(os.listdir("/proc/self/fd"))
    with TestServer(port=port) as server:
        server.serve_control()
        assert server.hosts == f"127.0.0.1:{port}"
        socket.create_connection(("127.0.0.1", port)).close()
    assert set(threading.enumerate()) <= threads
    assert set(os.listdir("/proc/self/fd")) <= files
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_stopped_server_says_so() -> None:
    """What is asked of a server that is not there is answered with a sentence."""
    server = TestServer()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="the server is stopped"):
            server.reset()
        with pytest.raises(RuntimeError, match="the server is stopped"):
            _ = server.hosts
        server.start()
        assert server.start() is server
        server.stop()
        server.stop()


def test_forked_process_is_told(server: TestServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was forked has no server thread: it hears that, instead of waiting."""
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(RuntimeError, match="forked"):
        server.reset()
    monkeypatch.undo()


def test_own_thread_is_told(server: TestServer) -> None:
    """What runs in the server's thread cannot wait for it."""
    thread = server._thread
    assert thread is not None
    with pytest.raises(RuntimeError, match="own thread"):
        thread.call(server.reset)


def test_taken_port(server: TestServer) -> None:
    """A port that somebody has is refused, and nothing is left of the attempt."""
    threads = set(threading.enumerate())
    with pytest.raises(OSError, match="in use"):
        TestServer(port=server.port).start()
    assert set(threading.enumerate()) <= threads


def test_wrong_setting() -> None:
    """A setting that cannot work is refused as it is in a zoo.cfg."""
    with pytest.raises(ConfigError, match="tickTime"):
        TestServer(tick_time=-1).start()
    with pytest.raises(ValueError, match="no ensemble"):
        TestServer(members=0).start()


def test_settings_count(connect: MakeClient) -> None:
    """Settings are those of the server."""
    with TestServer(tick_time=100) as quick:
        connect(quick.hosts)
        assert quick._running.members[1].service.config.min_session_timeout == 200


def test_production_timeouts(server: TestServer) -> None:
    """Unless told, session timeouts are those that a production server gives."""
    config = server._running.members[1].service.config
    assert (config.min_session_timeout, config.max_session_timeout) == (4000, 40000)


# -- reset


def test_reset(server: TestServer, connect: MakeClient) -> None:
    """After a reset there is nothing, at the same place; a client that was left over begins a new session."""
    client = connect()
    session = client.client_id[0]
    states = States(client)
    assert client.create("/item-", sequence=True) == "/item-0000000000"
    client.create("/mine", ephemeral=True)
    hosts = server.hosts
    server.reset()
    states.wait(SUSPENDED, LOST, CONNECTED)
    assert server.hosts == hosts
    assert client.client_id[0] != session
    assert client.get_children("/") == ["zookeeper"]
    assert client.create("/item-", sequence=True) == "/item-0000000000"


def test_reset_takes_faults_back(server: TestServer, connect: MakeClient) -> None:
    """No fault of one test reaches the next."""
    server.fail(Code.NOAUTH, times=-1)
    server.delay(3600)
    server.reject()
    server.read_only()
    server.reset()
    client = connect()
    client.create("/a")
    assert server.mode() == "standalone"


def test_who_connects_during_a_reset_waits(server: TestServer) -> None:
    """The port stays open: nobody is refused, and the new server answers."""
    member = server._running.members[1]
    server._call(member.wipe, stay_open=True)
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as early:
        early.sendall(b"ruok")
        server._call(member.start)
        assert early.recv(4) == b"imok"


def test_many_resets_give_no_session_twice(server: TestServer) -> None:
    """However quickly tests follow one another, a session id is never given again."""
    sessions = set()
    for _ in range(20):
        client = new_client(server.hosts)
        client.start(timeout=PATIENCE)
        sessions.add(client.client_id[0])
        client.stop()
        client.close()
        server.reset()
    assert len(sessions) == 20


def test_clean(server: TestServer, connect: MakeClient) -> None:
    """For the next test a server is as new, also one that was stopped; one that nobody used is left alone."""
    first = server._running.members[1].service.core
    server.clean()
    assert server._running.members[1].service.core is first
    server.chroot()
    server.clean()
    assert connect().get_children("/") == ["zookeeper"]
    connect().create("/a")
    server.stop_member()
    server.clean()
    assert connect().get_children("/") == ["zookeeper"]


def test_clean_when_stopped() -> None:
    """A test that stops the server of all tests altogether spoils nothing for the next."""
    server = TestServer()
    try:
        server.clean()
        assert server.mode() == "standalone"
    finally:
        server.stop()


def test_chroot(server: TestServer, connect: MakeClient) -> None:
    """Each chroot is a root of its own."""
    one, other = connect(server.chroot()), connect(server.chroot())
    one.create("/a", b"one")
    assert other.exists("/a") is None
    assert (one.get_children("/"), other.get_children("/")) == (["a"], [])
    server.fail("NOAUTH", times=-1)
    server.delay(3600)
    server.chroot()
    server.stop_member()
    with pytest.raises(ValueError, match="no server runs"):
        server.chroot()
    server.heal()
    server.start()
    assert server.mode() == "standalone"


# -- sessions and connections


def test_expire(server: TestServer, connect: MakeClient) -> None:
    """A session ends, its ephemeral nodes go, its client is told; others are left alone."""
    client, other = connect(), connect()
    states = States(client)
    client.create("/mine", ephemeral=True)
    kept = other.client_id
    server.expire(client)
    assert other.exists("/mine") is None
    states.wait(SUSPENDED, LOST, CONNECTED)
    assert other.client_id == kept
    assert len(server.sessions()) == 2
    server.expire(kept[0])
    server.expire()


def test_expire_nobody(server: TestServer, connect: MakeClient) -> None:
    """What is no session is named."""
    with pytest.raises(ValueError, match="there is no session 0x5"):
        server.expire(5)
    with pytest.raises(ValueError, match="is no session"):
        server.expire("5")
    client = connect()
    client.stop()
    with pytest.raises(ValueError, match="has none"):
        server.expire(client)
    server.expire()


def test_drop(server: TestServer, connect: MakeClient) -> None:
    """A connection breaks, and the session goes on over the next."""
    client, other = connect(), connect()
    states, others = States(client), States(other)
    session = client.client_id
    assert server.drop(client) == 1
    states.wait(SUSPENDED, CONNECTED)
    assert client.client_id == session
    assert server.drop() == 2
    states.wait(SUSPENDED, CONNECTED)
    others.wait(SUSPENDED, CONNECTED)


def test_reject(server: TestServer, connect: MakeClient) -> None:
    """New connections are closed, those that are there go on."""
    client = connect()
    server.reject()
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as stranger:
        assert no_answer(stranger)
    client.create("/a")
    states = States(client)
    server.drop()
    states.wait(SUSPENDED)
    server.heal()
    states.wait(CONNECTED)


# -- requests


def test_fail(server: TestServer, connect: MakeClient) -> None:
    """One request is answered with an error and not carried out; the next is."""
    client = connect()
    server.fail("CONNECTIONLOSS")
    with pytest.raises(ConnectionLoss):
        client.create("/a")
    assert client.exists("/a") is None
    client.create("/a")


def test_fail_one_kind(server: TestServer, connect: MakeClient) -> None:
    """Only requests of the operation and the path are meant, as often as was said."""
    client = connect()
    client.create("/a")
    client.create("/b")
    server.fail(Code.OPERATIONTIMEOUT, op="getData", path="/a*", times=2)
    assert client.get("/b")[0] == b""
    assert client.exists("/a")
    for _ in range(2):
        with pytest.raises(OperationTimeoutError):
            client.get("/a")
    client.get("/a")
    server.fail(Code.SESSIONEXPIRED, op="create", times=-1)
    for path in "/c", "/d", "/e":
        with pytest.raises(SessionExpiredError):
            client.create(path)
    server.heal()
    client.create("/c")


def test_fail_keeps_the_order(server: TestServer, connect: MakeClient) -> None:
    """Requests under way at a time are answered in their order, the failed one between the others."""
    client = connect()
    server.fail(Code.NOAUTH, op="create", path="/7")
    done: Queue[int] = Queue()
    results = []
    for number in range(20):
        result = client.create_async(f"/{number}")
        result.rawlink(lambda _, number=number: done.put(number))
        results.append(result)
    for result in results:
        result.wait(PATIENCE)
    assert [number for number, result in enumerate(results) if result.exception is not None] == [7]
    assert [done.get(timeout=PATIENCE) for _ in results] == list(range(20))


def test_fail_nonsense(server: TestServer) -> None:
    """A code or an operation that there is not is named, with those that there are."""
    with pytest.raises(ValueError, match=r"no code 'X'.*CONNECTIONLOSS"):
        server.fail("X")
    with pytest.raises(ValueError, match=r"no operation 'cerate'.*create"):
        server.fail("NONODE", op="cerate")
    with pytest.raises(ValueError, match="OK is no error"):
        server.fail(0)
    with pytest.raises(ValueError, match="no delay"):
        server.delay(-1)


def test_delay(server: TestServer, connect: MakeClient) -> None:
    """An answer is late, and so is what follows on its connection; others are not."""
    client, other = connect(), connect()
    client.create("/a")
    server.delay(3600, op="get_data", path="/a")
    late, behind = client.get_async("/a"), client.exists_async("/a")
    assert other.exists("/a")
    other.set("/a", b"x")
    assert not late.ready()
    assert not behind.ready()
    server.heal()
    assert late.get(timeout=PATIENCE)[0] == b""
    assert behind.get(timeout=PATIENCE)


def test_delay_everything(server: TestServer, connect: MakeClient) -> None:
    """All that the server sends is late, also to who connects."""
    client = connect()
    server.delay(3600)
    late = client.exists_async("/")
    with socket.create_connection(("127.0.0.1", server.port), timeout=0.2) as stranger:
        stranger.sendall(b"ruok")
        with pytest.raises(TimeoutError):
            stranger.recv(4)
        assert not late.ready()
        server.heal()
        stranger.settimeout(PATIENCE)
        assert stranger.recv(4) == b"imok"
    assert late.get(timeout=PATIENCE)


def test_short_delay_is_over_by_itself(server: TestServer, connect: MakeClient) -> None:
    """An answer that is late comes."""
    client = connect()
    server.delay(0.01, times=2)
    assert client.exists("/")
    assert client.exists("/")


def test_drop_on_request(server: TestServer, connect: MakeClient) -> None:
    """The connection breaks before the request, or after what it does: the client cannot tell which, the test can."""
    client = connect()
    states = States(client)
    server.drop_on("create")
    with pytest.raises(ConnectionLoss):
        client.create("/before")
    states.wait(SUSPENDED, CONNECTED)
    assert client.exists("/before") is None
    server.drop_on("create", "/after", answered=True)
    with pytest.raises(ConnectionLoss):
        client.create("/after")
    states.wait(SUSPENDED, CONNECTED)
    assert client.exists("/after")


def test_read_only(server: TestServer, connect: MakeClient) -> None:
    """Reads alone are served, to clients that put up with it."""
    connect().create("/a", b"x")
    server.read_only()
    assert server.mode() == "read-only"
    client = connect(read_only=True)
    assert client.client_state == "CONNECTED_RO"
    assert client.get("/a")[0] == b"x"
    with pytest.raises(NotReadOnlyCallError):
        client.set("/a", b"y")
    server.read_only(False)
    other = connect()
    other.set("/a", b"y")


def test_no_session_ends_while_read_only(server: TestServer, connect: MakeClient) -> None:
    """Sessions are the ensemble's: a server that has lost it ends only those that it has made itself."""
    session = connect().client_id[0]
    server.read_only()
    for who in session, None:
        with pytest.raises(ValueError, match="no server can end a session at present"):
            server.expire(who)
    client = connect(read_only=True)
    states = States(client)
    server.expire(client)
    states.wait(SUSPENDED, LOST)


# -- the server itself


def test_stop_and_start(server: TestServer, connect: MakeClient) -> None:
    """Nobody is there for a while; sessions, data and ephemeral nodes are when it is back."""
    client = connect()
    states = States(client)
    session = client.client_id
    client.create("/kept", b"x")
    client.create("/mine", ephemeral=True)
    server.stop_member()
    states.wait(SUSPENDED)
    assert server.mode() == "stopped"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port))
    server.start_member()
    server.start_member()
    states.wait(CONNECTED)
    assert client.client_id == session
    assert client.get("/kept")[0] == b"x"
    assert server.ephemerals() == {session[0]: ["/mine"]}


def test_wipe(server: TestServer, connect: MakeClient) -> None:
    """A server may also lose all it has."""
    client = connect()
    client.create("/a")
    server.wipe_member()
    server.start_member()
    assert client.retry(client.exists, "/a") is None


def test_no_such_member(server: TestServer) -> None:
    """There is one."""
    with pytest.raises(ValueError, match="there is no member 2; there are 1"):
        server.stop_member(2)


# -- what clients do


def test_record(server: TestServer, connect: MakeClient) -> None:
    """Requests are there in their order, with what they were answered, and no more after the block."""
    client = connect(server.chroot())
    root = client.chroot
    with server.record() as recording:
        client.create("/a")
        with pytest.raises(NoNodeError):
            client.get("/b")
        transaction = client.transaction()
        transaction.create("/c")
        transaction.set_data("/a", b"x")
        transaction.commit()
        client.get_children("/")
    client.delete("/a")
    assert [(each.op, each.path, each.code) for each in recording.requests] == [
        ("create", f"{root}/a", Code.OK),
        ("get_data", f"{root}/b", Code.NONODE),
        ("multi", None, Code.OK),
        ("get_children", root, Code.OK),
    ]
    assert recording.requests[2].paths == (f"{root}/c", f"{root}/a")
    assert {each.session for each in recording.requests} == {client.client_id[0]}
    assert [each.op for each in recording.of(path="*/a")] == ["create", "multi"]
    assert len(recording.of("getChildren", session=client.client_id[0])) == 1
    recording.clear()
    assert recording.requests == []


def test_record_everything(server: TestServer) -> None:
    """On request there is also what client libraries do by themselves."""
    with server.record(everything=True) as recording:
        client = new_client(server.hosts, auth_data=[("digest", "ann:secret")])
        client.start(timeout=PATIENCE)
        client.stop()
        client.close()
    assert [each.op for each in recording.requests] == ["auth", "close_session"]


def test_leaks(server: TestServer, connect: MakeClient) -> None:
    """What a block leaves behind is named, piece by piece; what was there before is not."""
    before = connect()
    before.create("/old", ephemeral=True)
    before.get("/old", watch=print)
    with server.no_leaks():
        client = new_client(server.hosts)
        client.start(timeout=PATIENCE)
        client.create("/new", ephemeral=True)
        client.get_children("/", watch=print)
        client.stop()
        client.close()
    with pytest.raises(LeakError) as caught, server.no_leaks():
        client = connect()
        client.create("/new", ephemeral=True)
        client.get_children("/", watch=print)
    session = f"0x{client.client_id[0]:x}"
    assert str(caught.value).splitlines()[1:] == [
        f"  session {session}",
        f"  watch on /, of session {session}",
        f"  ephemeral node /new, of session {session}",
    ]
    with server.no_leaks("watches", "ephemerals"):
        connect()
    with pytest.raises(LeakError, match="watch on /old"):
        server.assert_no_watches()
    with pytest.raises(LeakError, match="/old"):
        server.assert_no_ephemerals()
    with pytest.raises(LeakError, match="session"):
        server.assert_no_sessions()
    assert set(server.watches()) == {"/old", "/"}
    server.reset()
    server.assert_no_ephemerals()


# -- TLS and SASL


def test_tls(connect: MakeClient) -> None:
    """Clients that trust the new authority connect, and are whom their certificate names."""
    with TestServer(tls=True) as server:
        files = server.tls
        client = connect(
            server.tls_hosts, use_ssl=True, ca=files.ca, certfile=files.certificate, keyfile=files.key
        )
        client.create("/mine", acl=[make_acl("x509", "CN=client", all=True)])
        assert client.get("/mine")[0] == b""
        server.fail("NOAUTH", op="get_data")  # faults reach behind TLS
        with pytest.raises(NoAuthError):
            client.get("/mine")
        context = files.client_context()
        host, port = server.tls_hosts.split(":")
        with (
            socket.create_connection((host, int(port)), timeout=PATIENCE) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secure,
        ):
            secure.sendall(b"srvr")
            assert secure.recv(9) == b"Zookeeper"
        client.stop()
        directory = os.path.dirname(files.ca)
    assert not os.path.exists(directory)


def test_no_tls(server: TestServer) -> None:
    """A server without TLS says how to have it."""
    with pytest.raises(ValueError, match="tls=True"):
        _ = server.tls
    with pytest.raises(ValueError, match="tls=True"):
        _ = server.tls_hosts
    assert server.sasl == {}


def test_sasl(connect: MakeClient) -> None:
    """Who has a password is somebody, and only with it."""
    with TestServer(sasl={"ann": "secret"}) as server:
        options = {"mechanism": "DIGEST-MD5", "username": "ann", "password": server.sasl["ann"]}
        client = connect(server.hosts, sasl_options=options)
        client.create("/mine", acl=[make_acl("sasl", "ann", all=True)])
        assert client.get("/mine")[0] == b""
        client.stop()


def test_what_cannot_start_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files for TLS and SASL go with a server that never was."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(ValueError, match="quotes"):
        TestServer(sasl={"ann": 'a"b'}).start()
    with pytest.raises(ConfigError, match="tickTime"):
        TestServer(tls=True, tick_time=-1).start()
    with TestServer(tls=True):
        assert list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())
