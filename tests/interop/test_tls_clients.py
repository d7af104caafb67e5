"""
Clients with TLS: kazoo, Java's command line client, openssl and raw sockets, and those who should not get in.

Certificates are made anew for each run (``tests/authority.py``).
"""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoAuthError, SessionClosedRequireSaslError
from kazoo.security import make_acl

from tests.authority import PASSWORD, Authority, Identity
from tests.interop.clients import servers
from tests.interop.ensembles import until
from tests.interop.java import class_path
from tests.interop.process import HOST, ServerProcess, free_port, readable
from tests.interop.rawclient import RawSession, buffer

RELEASES = (servers.JAVA_380, servers.JAVA_395)
SECONDS = 60.0
GET_DATA, AUTH = 4, 100
CLIENT_DN = "CN=client,O=Org\\, Inc,C=US"


class World:
    """An authority, those it vouches for, and servers that trust it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = Authority(directory / "authority")
        self.server = self.authority.identity("server", ["localhost", "127.0.0.1"])
        self.client = self.authority.identity("client")
        self.admin = self.authority.identity("admin")
        self.started: list[ServerProcess] = []

    def start(self, config: Mapping[str, str] | None = None, unified: bool = False) -> ServerProcess:
        """Start our server with a port for TLS: ``server.tls_port``."""
        port = free_port()
        own = {
            "ssl.keyStore.location": str(self.server.store),
            "ssl.trustStore.location": str(self.authority.trust),
            "X509AuthenticationProvider.superUser": "CN=admin,O=Org\\\\, Inc,C=US",
            **({"client.portUnification": "true"} if unified else {"secureClientPort": str(port)}),
            **(config or {}),
        }
        server = servers.make_server(servers.OURS, self.directory / f"server-{len(self.started)}", config=own)
        self.started.append(server)
        server.start()
        server.tls_port = server.port if unified else port  # type: ignore[attr-defined]
        return server

    def context(self, identity: Identity | None = None) -> ssl.SSLContext:
        """What a client in Python needs to connect."""
        context = ssl.create_default_context(cafile=str(self.authority.trust))
        if identity is not None:
            context.load_cert_chain(str(identity.store))
        return context

    def ask(self, server: ServerProcess, identity: Identity | None = None, word: bytes = b"ruok") -> bytes:
        """Ask a four-letter word over TLS."""
        raw = socket.create_connection((HOST, tls_port(server)), SECONDS)
        with closing(self.context(identity).wrap_socket(raw, server_hostname="localhost")) as link:
            link.sendall(word)
            answer = b""
            while chunk := link.recv(65536):
                answer += chunk
        return answer


def tls_port(server: ServerProcess) -> int:
    port: int = server.tls_port  # type: ignore[attr-defined]
    return port


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Return what the tests of this module share."""
    world = World(tmp_path_factory.mktemp("tls"))
    yield world
    for server in world.started:
        if server.running():
            assert server.stop() == 0, server.output
        assert not servers.failures(server), "the server met something that it did not foresee"


@pytest.fixture(scope="module")
def mutual(world: World) -> ServerProcess:
    """Return a server that demands certificates, as by default."""
    return world.start()


Connect = Callable[..., KazooClient]


@pytest.fixture
def connect(world: World) -> Iterator[Connect]:
    """Return a maker of started kazoo clients."""
    with ExitStack() as stack:

        def make(server: ServerProcess, identity: Identity | None = None, **more: Any) -> KazooClient:
            files = {} if identity is None else {"certfile": str(identity.store), "keyfile": str(identity.store)}
            trust = str(world.authority.trust)
            client = KazooClient(f"localhost:{tls_port(server)}", use_ssl=True, ca=trust, **files, **more)
            stack.callback(client.close)
            stack.callback(client.stop)
            client.start(SECONDS)
            return client

        yield make


# -- those who belong there --------------------------------------------------------------------------------------------


def test_kazoo_shows_a_certificate(world: World, mutual: ServerProcess, connect: Connect) -> None:
    """The subject of a certificate is an identity of its own, as Java writes it, and an ACL may name it."""
    client = connect(mutual, world.client)
    acl = [make_acl("x509", CLIENT_DN, all=True)]
    client.create("/mine", b"x", acl=acl)
    assert client.get("/mine")[0] == b"x"
    assert client.get_acls("/mine")[0] == acl
    other = connect(mutual, world.authority.identity("other"))
    with pytest.raises(NoAuthError):
        other.get("/mine")
    assert connect(mutual, world.admin).get("/mine")[0] == b"x"  # the super user
    client.create("/auth", b"", acl=[make_acl("auth", "", all=True)])
    assert [each.id.id for each in client.get_acls("/auth")[0]] == [CLIENT_DN]


def test_much_data(world: World, mutual: ServerProcess, connect: Connect) -> None:
    """Requests and answers of any size go through, many at a time."""
    client = connect(mutual, world.client)
    large = os.urandom(900_000)
    client.create("/large", large)
    results = [client.get_async("/large") for _ in range(40)]
    assert all(result.get(SECONDS)[0] == large for result in results)
    for number in range(300):
        client.create_async(f"/large/{number}", b"")
    assert len(client.get_children("/large")) == 300


def test_kazoo_without_a_certificate(world: World, connect: Connect) -> None:
    """Where none is demanded a client may come without, and with one it has an identity where one is wanted."""
    acl = [make_acl("x509", CLIENT_DN, all=True)]
    wanted = world.start({"ssl.clientAuth": "want"})
    connect(wanted, world.client).create("/mine", b"x", acl=acl)
    with pytest.raises(NoAuthError):
        connect(wanted).get("/mine")
    none = world.start({"ssl.clientAuth": "none"})
    connect(none).create("/open", b"x")
    assert connect(none, world.client).get("/open")[0] == b"x"


@pytest.mark.parametrize("kind", ["pkcs12", "jks"])
def test_stores_of_keytool(world: World, connect: Connect, kind: str, tmp_path: Path) -> None:
    """Stores that keytool made serve, with passwords inline and from files."""
    keytool = servers.need_program("keytool", "default-jre-headless")
    extension = {"pkcs12": "p12", "jks": "jks"}[kind]
    own, trust = tmp_path / f"own.{extension}", tmp_path / f"trust.{extension}"
    source = ["-srckeystore", str(world.server.p12), "-srcstoretype", "pkcs12", "-srcstorepass", PASSWORD]
    target = ["-destkeystore", str(own), "-deststoretype", kind, "-deststorepass", PASSWORD]
    trusted = ["-alias", "ca", "-file", str(world.authority.trust), "-keystore", str(trust), "-storetype", kind]
    for arguments in (
        ["-importkeystore", *source, *target],
        ["-importcert", *trusted, "-storepass", PASSWORD],
    ):
        subprocess.run([keytool, "-noprompt", *arguments], check=True, capture_output=True, timeout=SECONDS)
    secret = tmp_path / "password"
    secret.write_text(PASSWORD + "\n")
    server = world.start(
        {
            "ssl.keyStore.location": str(own),
            "ssl.keyStore.passwordPath": str(secret),
            "ssl.trustStore.location": str(trust),
            "ssl.trustStore.password": PASSWORD,
        }
    )
    connect(server, world.client).create("/a", b"")
    assert PASSWORD not in server.output


def zkcli(world: World, kind: str, server: ServerProcess, identity: Identity, script: str) -> str:
    """Run Java's client over TLS and return what it printed."""
    values = {
        "client.secure": "true",
        "clientCnxnSocket": "org.apache.zookeeper.ClientCnxnSocketNetty",
        "ssl.keyStore.location": str(identity.p12),
        "ssl.keyStore.password": PASSWORD,
        "ssl.trustStore.location": str(world.authority.trust_p12),
        "ssl.trustStore.password": PASSWORD,
    }
    flags = [f"-Dzookeeper.{name}={value}" for name, value in values.items()]
    jvm = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djline.terminal=none"]
    path = str(class_path(servers.need_java(kind)))
    main = "org.apache.zookeeper.ZooKeeperMain"
    finished = subprocess.run(
        ["java", *jvm, *flags, "-cp", path, main, "-server", f"localhost:{tls_port(server)}"],
        input=script,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=3 * SECONDS,
        check=False,
    )
    return finished.stdout


@pytest.mark.parametrize("release", RELEASES)
def test_java(world: World, mutual: ServerProcess, release: str) -> None:
    """Java's client connects with its certificate and checks ours; whoami has its subject as Java writes it."""
    path = f"/java-{release}"
    output = zkcli(
        world, release, mutual, world.client, f"create {path} hello\nget {path}\ngetAcl {path}\nwhoami\nquit\n"
    )
    assert f"Created {path}" in output
    assert "hello" in output.splitlines()
    assert f"x509: {CLIENT_DN}" in output


def test_java_is_a_stranger(world: World, mutual: ServerProcess) -> None:
    """Java's client gets nothing with a certificate that somebody else signed."""
    stranger = Authority(world.directory / "java-stranger", "Stranger").identity("client")
    before = int(servers.monitor(mutual)["unsuccessful_handshake"])
    assert "cZxid" not in zkcli(world, servers.JAVA_380, mutual, stranger, "get -s /zookeeper\nquit\n")
    assert int(servers.monitor(mutual)["unsuccessful_handshake"]) > before


@pytest.mark.parametrize("release", RELEASES)
def test_java_checks_our_name(world: World, release: str) -> None:
    """Java's client does not talk to a server whose certificate names another host."""
    other = world.authority.identity("elsewhere", ["elsewhere.example"])
    server = world.start({"ssl.keyStore.location": str(other.store)})
    session = RawSession(server.port)
    session.create("/a", b"hello-java")
    session.close()
    assert "hello-java" not in zkcli(world, release, server, world.client, "get /a\nquit\n")
    until(lambda: "alert certificate unknown" in server.output, lambda: "it is refused for its certificate")


def test_openssl(world: World, mutual: ServerProcess) -> None:
    """Openssl finds the chain complete, and four-letter words are answered behind the handshake."""
    openssl = servers.need_program("openssl", "openssl")
    for version in ("-tls1_2", "-tls1_3"):
        arguments = ["-connect", f"{HOST}:{tls_port(mutual)}", "-servername", "localhost", "-verify_return_error"]
        arguments += ["-verify_hostname", "localhost", "-CAfile", str(world.authority.trust), "-ign_eof", version]
        arguments += ["-cert", str(world.client.store), "-key", str(world.client.store)]
        finished = subprocess.run(
            [openssl, "s_client", *arguments], input=b"srvr", capture_output=True, timeout=SECONDS, check=False
        )
        assert b"Verify return code: 0 (ok)" in finished.stdout
        assert b"Mode: standalone" in finished.stdout


def test_one_port_for_both(world: World, connect: Connect) -> None:
    """With client.portUnification one port serves with TLS and without."""
    server = world.start(unified=True)
    connect(server, world.client).create("/a", b"secret")
    plain = KazooClient(f"{HOST}:{server.port}")
    plain.start(SECONDS)
    try:
        assert plain.get("/a")[0] == b"secret"
    finally:
        plain.stop()
        plain.close()
    assert world.ask(server, world.client) == b"imok"


def test_one_port_for_both_and_a_demand(world: World, connect: Connect) -> None:
    """Who has to show a certificate, and comes without TLS to a port for both, is not served there."""
    server = world.start({"requireClientAuthScheme": "x509"}, unified=True)
    connect(server, world.client).create("/a", b"secret")
    for request in (b"/a", b"/zookeeper"):
        session = RawSession(server.port)
        assert session.call(GET_DATA, buffer(request) + b"\0")[1] == -124
        session.connection.close()
    # Nor does the word of an auth packet count for a certificate.
    session = RawSession(server.port)
    assert session.call(AUTH, bytes(4) + buffer(b"x509") + buffer(CLIENT_DN.encode()))[1] == -115
    session.connection.close()


def test_sasl_in_tls(world: World, connect: Connect, tmp_path: Path) -> None:
    """With the profile secure clients may show a password in the place of a certificate, inside of TLS."""
    jaas = tmp_path / "jaas.conf"
    jaas.write_text('Server { org.a.DigestLoginModule required user_bob="bobsecret"; };', "utf-8")
    server = world.start(
        {
            "profile": "secure",
            "4lw.commands.whitelist": "srvr,ruok,isro,mntr",
            "ssl.clientAuth": "none",
            "requireClientAuthScheme": "sasl",
            "java.security.auth.login.config": str(jaas),
        }
    )
    bob = {"mechanism": "DIGEST-MD5", "username": "bob", "password": "bobsecret"}
    client = connect(server, sasl_options=bob)
    client.create("/mine", b"x", acl=[make_acl("sasl", "bob", all=True)])
    assert client.get("/mine")[0] == b"x"
    nobody = connect(server, world.client)
    with pytest.raises(SessionClosedRequireSaslError):
        nobody.get("/mine")


# -- those who do not --------------------------------------------------------------------------------------------------


def refused(world: World, server: ServerProcess, context: ssl.SSLContext) -> str:
    """Connect and ask; return how the server said no."""
    raw = socket.create_connection((HOST, tls_port(server)), SECONDS)
    with closing(raw):
        try:
            with closing(context.wrap_socket(raw, server_hostname="localhost")) as link:
                link.sendall(b"ruok")
                answer = link.recv(100)  # with TLS 1.3 a client learns it when it reads
                assert not answer, answer
                return "closed"
        except (ssl.SSLError, ConnectionError) as error:
            return str(error)


def test_wrong_clients(world: World, mutual: ServerProcess) -> None:
    """Nobody comes in without a certificate, with one of another authority, or with one that has expired."""
    stranger = Authority(world.directory / "stranger", "Stranger").identity("client")
    expired = world.authority.identity("expired", days=-1)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        for identity in (None, stranger, expired):
            context = world.context(identity)
            context.minimum_version = context.maximum_version = version
            assert "alert" in refused(world, mutual, context).lower()
    assert world.ask(mutual, world.client) == b"imok"


def test_revoked_clients(world: World, tmp_path: Path) -> None:
    """With ssl.crl a certificate that was revoked is refused, and others are not."""
    revoked = world.authority.identity("revoked")
    trust = tmp_path / "trust.pem"
    trust.write_bytes(world.authority.trust.read_bytes() + world.authority.revoked(revoked.certificate))
    server = world.start({"ssl.crl": "true", "ssl.trustStore.location": str(trust)})
    assert "revoked" in refused(world, server, world.context(revoked))
    assert world.ask(server, world.client) == b"imok"


def test_clients_whose_names_are_checked(world: World) -> None:
    """With ssl.clientHostnameVerification a client's certificate has to name its address."""
    server = world.start({"ssl.clientHostnameVerification": "true"})
    refused(world, server, world.context(world.client))
    assert world.ask(server, world.authority.identity("named", ["127.0.0.1"])) == b"imok"


def test_old_protocols(world: World, mutual: ServerProcess) -> None:
    """TLS before 1.2 is not spoken, and nobody is talked into it."""
    openssl = servers.need_program("openssl", "openssl")
    for version in ("-tls1", "-tls1_1"):
        arguments = ["-connect", f"{HOST}:{tls_port(mutual)}", version, "-cipher", "ALL:@SECLEVEL=0"]
        finished = subprocess.run(
            [openssl, "s_client", *arguments], input=b"", capture_output=True, timeout=SECONDS, check=False
        )
        assert finished.returncode != 0
        assert b"alert protocol version" in finished.stderr


def test_no_session_is_resumed(world: World, mutual: ServerProcess) -> None:
    """Each connection shows its certificate anew, whatever was agreed on the one before."""
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = world.context(world.client)
        context.minimum_version = context.maximum_version = version
        session = None
        for _ in range(2):
            raw = socket.create_connection((HOST, tls_port(mutual)), SECONDS)
            with closing(context.wrap_socket(raw, server_hostname="localhost", session=session)) as link:
                assert not link.session_reused
                link.sendall(b"ruok")
                assert link.recv(100) == b"imok"
                session = link.session


def test_no_tls_at_all(world: World, mutual: ServerProcess) -> None:
    """What is no handshake gets nothing."""
    for data in (b"ruok", b"GET / HTTP/1.0\r\n\r\n", b"\0\0\0\x2d" + bytes(45), b"\x16\x03\x01\xff\xff" + bytes(65535)):
        with socket.create_connection((HOST, tls_port(mutual)), SECONDS) as link:
            with suppress(ConnectionError):
                link.sendall(data)
                while chunk := link.recv(4096):
                    assert b"imok" not in chunk


def half_a_handshake(port: int) -> socket.socket:
    """Begin a handshake, and say no more."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    hello = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        hello.do_handshake()
    link = socket.create_connection((HOST, port), SECONDS)
    link.sendall(outgoing.read()[:100])
    return link


def outstanding(server: ServerProcess, count: int) -> None:
    """Wait until a server knows of so many handshakes that are under way."""
    until(
        lambda: int(servers.monitor(server)["outstanding_tls_handshake"]) == count,
        lambda: f"{count} handshakes are under way",
    )


def until_closed(links: list[socket.socket]) -> None:
    """Wait until the server has closed all of them."""
    waiting = list(links)
    while waiting:
        ready = readable(waiting[:500], SECONDS)
        assert ready, "the server holds on to a connection"
        for link in ready:
            try:
                gone = not link.recv(4096)
            except ConnectionError:
                gone = True
            if gone:
                waiting.remove(link)
                link.close()


@pytest.mark.parametrize("unified", [False, True])
def test_half_a_handshake(world: World, unified: bool) -> None:
    """Who does not go on is closed after the deadline and counted, and others are served meanwhile."""
    server = world.start({"ssl.handshakeDetectionTimeoutMillis": "6000"}, unified)
    half = half_a_handshake(tls_port(server))
    outstanding(server, 1)
    until_closed([half])
    assert servers.monitor(server)["outstanding_tls_handshake"] == "0"
    assert servers.monitor(server)["unsuccessful_handshake"] == "1"


@pytest.mark.usefixtures("many_files")
def test_a_thousand_half_handshakes(world: World, connect: Connect) -> None:
    """A thousand of them at once cost others nothing but a little time, and all are closed."""
    server = world.start({"ssl.handshakeDetectionTimeoutMillis": "4000"})
    busy = connect(server, world.client)
    busy.create("/a", b"x")
    with ExitStack() as stack:
        links = [stack.enter_context(closing(half_a_handshake(tls_port(server)))) for _ in range(1000)]
        assert busy.get("/a")[0] == b"x"
        assert connect(server, world.client).get("/a")[0] == b"x"
        until_closed(links)
    assert servers.monitor(server)["outstanding_tls_handshake"] == "0"
    assert int(servers.monitor(server)["unsuccessful_handshake"]) >= 1000
    assert busy.get("/a")[0] == b"x"


def test_limit_of_handshakes(world: World) -> None:
    """Beyond the limit connections are closed at once, and counted; when there is room, others come in."""
    limits = {"netty.server.outstandingHandshake.limit": "3", "ssl.handshakeDetectionTimeoutMillis": "20000"}
    server = world.start(limits)
    held = [half_a_handshake(tls_port(server)) for _ in range(3)]
    outstanding(server, 3)
    with socket.create_connection((HOST, tls_port(server)), SECONDS) as link:
        until_closed([link])
    assert servers.monitor(server)["tls_handshake_exceeded"] == "1"
    for link in held:
        link.close()
    outstanding(server, 0)
    assert world.ask(server, world.client) == b"imok"


# -- certificates that change ------------------------------------------------------------------------------------------


def shown(world: World, server: ServerProcess) -> int:
    """Return the serial number of the certificate that a new connection is shown."""
    raw = socket.create_connection((HOST, tls_port(server)), SECONDS)
    with closing(world.context(world.client).wrap_socket(raw, server_hostname="localhost")) as link:
        certificate = link.getpeercert()
        assert certificate is not None
        return int(str(certificate["serialNumber"]), 16)


def until_shown(world: World, server: ServerProcess, identity: Identity) -> None:
    """Connect until the server shows a certificate; it looks at its files once in a second."""
    until(
        lambda: shown(world, server) == identity.certificate.serial_number,
        lambda: "the new certificate is shown",
    )


def test_new_certificates(world: World, connect: Connect, tmp_path: Path) -> None:
    """New files are used by new connections, old connections stay; broken files change nothing, and that is said."""
    first, second, third = (world.authority.identity(f"server-{n}", ["localhost"]) for n in range(3))
    versions = [tmp_path / f"version-{n}" for n in range(3)]
    for version, identity in zip(versions, (first, second, third), strict=True):
        version.mkdir()
        (version / "tls.pem").write_bytes(identity.store.read_bytes())
    # As Kubernetes keeps a secret: the file is a link through a link that is replaced.
    (tmp_path / "..data").symlink_to(versions[0].name)
    (tmp_path / "tls.pem").symlink_to("..data/tls.pem")
    server = world.start({"ssl.keyStore.location": str(tmp_path / "tls.pem"), "client.certReload": "true"})
    assert shown(world, server) == first.certificate.serial_number
    old = connect(server, world.client)
    old.create("/a", b"x")

    def swap(target: str) -> None:
        (tmp_path / "..new").symlink_to(target)
        (tmp_path / "..new").rename(tmp_path / "..data")

    swap(versions[1].name)
    until_shown(world, server, second)
    assert old.get("/a")[0] == b"x"

    def replace(content: bytes) -> None:
        # At one go: what is half written would be one more broken file.
        (tmp_path / "written").write_bytes(content)
        (tmp_path / "written").replace(versions[1] / "tls.pem")

    replace(b"broken")
    while "the old ones stay in use" not in server.output:
        assert shown(world, server) == second.certificate.serial_number
    replace(third.store.read_bytes())
    until_shown(world, server, third)
    assert old.get("/a")[0] == b"x"
    assert server.output.count("the old ones stay in use: {reason}") == 1
    assert not servers.failures(server)
