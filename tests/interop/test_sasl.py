"""
Clients that authenticate by SASL, DIGEST-MD5: kazoo, Java's command line client of both releases, and bare frames.

The same JAAS files serve both kinds of server and Java's client.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoAuthError
from kazoo.security import make_acl

from tests.interop.clients import servers
from tests.interop.clients.kazoos import assert_not_authenticated, client_of, hosts
from tests.interop.conftest import MakeServer
from tests.interop.java import lead, zkcli_command
from tests.interop.process import HOST, ServerProcess, four_letter_word
from tests.interop.rawclient import Closed, RawSession, buffer
from zktwisted.wire.sasl import DigestClient

MODULE = "org.apache.zookeeper.server.auth.DigestLoginModule"
PROVIDER = "org.apache.zookeeper.server.auth.SASLAuthenticationProvider"
SASL, GET_DATA, WHO_AM_I = 102, 4, 107


def bob(password: str = "bobsecret") -> dict[str, str]:
    """What kazoo is told to authenticate."""
    return {"mechanism": "DIGEST-MD5", "username": "bob", "password": password}


@pytest.fixture
def server(make_server: MakeServer, tmp_path: Path) -> ServerProcess:
    """Return a server that knows some users."""
    return serving(make_server, tmp_path)


def serving(make_server: MakeServer, directory: Path, **properties: str) -> ServerProcess:
    """Start a server that knows some users, with more properties of Java's."""
    path = directory / "server.conf"
    path.write_text(f'Server {{ {MODULE} required user_bob="bobsecret" user_super="adminsecret"; }};', "utf-8")
    every = {
        "java.security.auth.login.config": str(path),
        "zookeeper.authProvider.sasl": PROVIDER,
        **{f"zookeeper.{name}": value for name, value in properties.items()},
    }
    if servers.kind_under_test() != servers.OURS:
        every["zookeeper.fips-mode"] = "false"
    server = make_server(properties=every)
    server.start()
    return server


@contextlib.contextmanager
def opened(server: ServerProcess) -> Iterator[RawSession]:
    """Give a session that has not authenticated."""
    session = RawSession(server.port)
    try:
        yield session
    finally:
        session.connection.close()


def test_kazoo(server: ServerProcess) -> None:
    """It authenticates, again when it connects again, and its nodes are closed to others."""
    with client_of(server, sasl_options=bob()) as client, client_of(server) as stranger:
        client.create("/mine", b"x", acl=[make_acl("sasl", "bob", all=True)])
        assert client.get("/mine")[0] == b"x"
        with pytest.raises(NoAuthError):
            stranger.get("/mine")
        stranger.create("/open", b"")
        client.restart()
        assert client.get("/mine")[0] == b"x"


def test_kazoo_with_a_wrong_password(server: ServerProcess) -> None:
    """It is told so."""
    assert_not_authenticated(KazooClient(hosts(server), sasl_options=bob("wrong")))


def zkcli(kind: str, server: ServerProcess, directory: Path, script: str, name: str, password: str) -> str:
    """Lead Java's client, logged in, through a script, and return what it printed."""
    version = servers.need_java(kind)
    path = directory / f"{name}.conf"
    path.write_text(f'Client {{ {MODULE} required username="{name}" password="{password}"; }};', "utf-8")
    properties = {"java.security.auth.login.config": str(path), "zookeeper.fips-mode": "false"}
    return lead(zkcli_command(version, f"{HOST}:{server.port}", properties), script)[1]


@pytest.mark.parametrize("release", [servers.JAVA_380, servers.JAVA_395])
def test_java_client(release: str, server: ServerProcess, tmp_path: Path) -> None:
    """It is who its JAAS file says, and may what its name may; so is C{super}, who may everything of SASL's."""
    script = "create /cli secret-of-bob sasl:bob:cdrwa\nget /cli\nwhoami\n@UNTIL SaslAuthenticated\nquit\n"
    printed = zkcli(release, server, tmp_path, script, "bob", "bobsecret").splitlines()
    assert "Created /cli" in printed
    assert "secret-of-bob" in printed
    assert "SaslAuthenticated" in "".join(printed)
    if release == servers.JAVA_395:
        assert "sasl: bob" in printed
    assert "secret-of-bob" in zkcli(release, server, tmp_path, "get /cli\nquit\n", "super", "adminsecret").splitlines()
    with opened(server) as stranger:
        assert stranger.call(GET_DATA, buffer(b"/cli") + b"\0")[1] == -102


@pytest.mark.parametrize("release", [servers.JAVA_380, servers.JAVA_395])
def test_java_client_with_a_wrong_password(release: str, server: ServerProcess, tmp_path: Path) -> None:
    """It is told so, and gets nothing."""
    printed = zkcli(release, server, tmp_path, "get /zookeeper\nquit\n", "bob", "wrong")
    assert "AuthFailed" in printed


def respond(session: RawSession, response: bytes | None = None, password: str = "bobsecret") -> bytes:
    """Authenticate with bare frames, or with a response that was heard elsewhere; return the response."""
    _, err, body = session.call(SASL, buffer(b""))
    assert err == 0
    own = DigestClient("zookeeper", "zk-sasl-md5", "bob", password, b"c" * 30).response(body[4:])
    _, err, body = session.call(SASL, buffer(response or own))
    assert err == (0 if response is None and password == "bobsecret" else -115)
    assert body.startswith(b"\xff\xff\xff\xff" if err else b"\0\0\0\x28rspauth=")
    return own


def test_replayed_nonce(server: ServerProcess) -> None:
    """What was heard on one connection does not open another, which is closed."""
    with opened(server) as victim, opened(server) as session:
        respond(session, respond(victim))
        with pytest.raises(Closed):
            session.call(GET_DATA, buffer(b"/") + b"\0")


def test_nothing_is_told(make_server: MakeServer, tmp_path: Path) -> None:
    """Passwords are in no word's answer and in no log, whether they are right or wrong."""
    server = serving(make_server, tmp_path, **{"SASLAuthenticationProvider.superPassword": "othersecret"})
    with opened(server) as session, opened(server) as stranger:
        respond(session)
        respond(stranger, password="wrongsecret")
        said = "".join(four_letter_word(server.port, word).decode() for word in (b"conf", b"cons", b"dump", b"mntr"))
    assert "clientPort=" in said
    assert "secret" not in said
    if servers.kind_under_test() == servers.OURS:
        assert "'bob' has not shown" in server.output
        assert "secret" not in server.output


HOW = {
    "sessionRequireClientSASLAuth": {"sessionRequireClientSASLAuth": "true"},
    "enforce.auth.enabled": {"enforce.auth.enabled": "true", "enforce.auth.schemes": "sasl"},
    "requireClientAuthScheme": {"requireClientAuthScheme": "sasl"},
}


@pytest.mark.parametrize("how", HOW)
def test_required(how: str, make_server: MakeServer, tmp_path: Path) -> None:
    """Who does not authenticate is not served; who does is."""
    if how == "requireClientAuthScheme" and servers.kind_under_test() != servers.OURS:
        pytest.skip("no Java server takes notice of it")
    server = serving(make_server, tmp_path, **HOW[how])
    with opened(server) as session:
        assert session.call(GET_DATA, buffer(b"/") + b"\0")[1] == -124
    with opened(server) as session:
        respond(session)
        assert session.call(GET_DATA, buffer(b"/") + b"\0")[1] == 0


def test_failures_allowed(make_server: MakeServer, tmp_path: Path) -> None:
    """Where it is allowed, who fails is served as nobody in particular."""
    server = serving(make_server, tmp_path, allowSaslFailedClients="true")
    with opened(server) as session:
        session.call(SASL, buffer(b""))
        assert session.call(SASL, buffer(b"nonsense"))[1:] == (0, b"\xff\xff\xff\xff")
        assert session.call(GET_DATA, buffer(b"/") + b"\0")[1] == 0
