"""
Our client where servers want to know who it is: SASL and TLS, with Java's servers and with ours.

Certificates are made anew for each run (``tests/authority.py``).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import gatherResults
from twisted.internet.ssl import Certificate, optionsForClientTLS
from twisted.internet.task import deferLater

import zktwisted
from tests.authority import PASSWORD, Authority, Identity
from tests.client.stories import Told
from tests.interop.clients import servers
from tests.interop.clients.ours import Zoo
from tests.interop.clients.proxy import Relay
from tests.interop.process import HOST, free_port
from zktwisted.client import ACL, Id, Perm, State
from zktwisted.client.tls import TlsOptions, tls_from_pem
from zktwisted.errors import AuthFailedError, ConnectionLossError, NoAuthError

MODULE = "org.apache.zookeeper.server.auth.DigestLoginModule"
BOB = ("bob", "bob's secret")
BOBS = [ACL(Perm.ALL, Id("sasl", "bob"))]
CLIENT_DN = "CN=client,O=Org\\, Inc,C=US"


class World:
    """An authority, those it vouches for, and a server that knows them, and Bob by his password."""

    def __init__(self, kind: str, directory: Path) -> None:
        self.authority = Authority(directory / "authority")
        own = self.authority.identity("server", ["localhost", "127.0.0.1"])
        self.client = self.authority.identity("client")
        self.tls_port = free_port()
        jaas = directory / "jaas.conf"
        jaas.write_text(f'Server {{ {MODULE} required user_bob="{BOB[1]}"; }};', "utf-8")
        self.server = servers.make_server(
            kind,
            directory / "server",
            config={
                "tickTime": "500",
                "secureClientPort": str(self.tls_port),
                "ssl.clientAuth": "want",
                "ssl.keyStore.location": str(own.p12),
                "ssl.keyStore.password": PASSWORD,
                "ssl.trustStore.location": str(self.authority.trust_p12),
                "ssl.trustStore.password": PASSWORD,
            },
            properties={
                "java.security.auth.login.config": str(jaas),
                "zookeeper.authProvider.sasl": "org.apache.zookeeper.server.auth.SASLAuthenticationProvider",
                **(
                    {}
                    if kind == servers.OURS
                    else {
                        "zookeeper.fips-mode": "false",
                        "zookeeper.serverCnxnFactory": "org.apache.zookeeper.server.NettyServerCnxnFactory",
                    }
                ),
            },
        )

    def tls(self, identity: Identity | None = None, **options: Any) -> TlsOptions:
        """What a client needs to connect."""
        return tls_from_pem(self.authority.trust, identity and identity.store, **options)


@pytest.fixture(scope="module", params=[servers.OURS, servers.JAVA_380, servers.JAVA_395])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Return a world with a running server of each kind."""
    made = World(request.param, tmp_path_factory.mktemp("world"))
    made.server.start()
    yield made
    made.server.stop()
    if request.param == servers.OURS:
        assert not servers.failures(made.server)


@pytest.fixture
def plain(world: World) -> Zoo:
    """Return a zoo of clients at the port without TLS."""
    return Zoo(f"{HOST}:{world.server.port}")


@pytest.fixture
def secure(world: World) -> Zoo:
    """Return a zoo of clients at the port with TLS."""
    return Zoo(f"localhost:{world.tls_port}")


@pytest.fixture
def relay(request: pytest.FixtureRequest, world: World) -> Iterator[Relay]:
    """Return a relay in front of one of the ports."""
    made = Relay(getattr(world.server, request.param, 0) or world.tls_port)
    yield made
    made.close()


# -- SASL


@pytest.mark.parametrize("relay", ["port"], indirect=True)
def test_login(plain: Zoo, relay: Relay) -> None:
    """Who has shown his password has his name, also after the connection was lost; nobody else has."""

    async def program(zoo: Zoo) -> None:
        bob = await zoo.connected(f"{HOST}:{relay.port}", sasl=BOB, auth=[("digest", "me:too")])
        told = Told()
        await bob.create("/bobs", b"x", BOBS)
        await bob.get("/bobs", told)
        stranger = await zoo.connected()
        with pytest.raises(NoAuthError):
            await stranger.get("/bobs")
        relay.cut()
        waiting = bob.get("/bobs")
        waiting.addErrback(lambda failure: failure.trap(ConnectionLossError) and bob.get("/bobs"))
        relay.heal()
        assert (await waiting).data == b"x"
        names = {(info.auth_scheme, (info.user or "").partition(":")[0]) for info in await bob.who_am_i()}
        assert {("sasl", "bob"), ("digest", "me"), ("ip", HOST)} <= names
        await bob.delete("/bobs")
        await told.until(lambda values: values)
        assert told.values[0].path == "/bobs"

    plain.run(program)


def test_wrong_password(plain: Zoo, world: World) -> None:
    """That is the end of the client, with an error that says so; the password is nowhere told."""

    async def program(zoo: Zoo) -> None:
        for who in (("bob", "another secret"), ("nobody", "another secret")):
            client = zoo.client(sasl=who)
            states = Told()
            client.listen(states)
            with pytest.raises(AuthFailedError):
                await client.connect()
            with pytest.raises(AuthFailedError):
                await client.get("/")
            assert states.values == [State.CONNECTING, State.AUTH_FAILED]
            assert "password" in str(client.trouble)
            assert "another secret" not in str(client.trouble)

    plain.run(program)
    assert "another secret" not in world.server.output


# -- TLS


@pytest.mark.parametrize("relay", ["tls_port"], indirect=True)
def test_behind_tls(secure: Zoo, world: World, relay: Relay) -> None:
    """A client is known by its certificate; much data goes both ways, and lost connections are replaced."""

    async def program(zoo: Zoo) -> None:
        client = await zoo.connected(f"localhost:{relay.port}", tls=world.tls(world.client), sasl=BOB)
        assert client.trouble is None
        await client.create("/mine", b"x", [ACL(Perm.ALL, Id("x509", CLIENT_DN))])
        names = {(info.auth_scheme, info.user) for info in await client.who_am_i()}
        assert {("x509", CLIENT_DN), ("sasl", "bob")} <= names
        stranger = await zoo.connected(tls=world.tls())
        with pytest.raises(NoAuthError):
            await stranger.get("/mine")
        large = bytes(range(256)) * 3500
        await client.create("/large", large)
        assert all(found.data == large for found in await gatherResults([client.get("/large") for _ in range(30)]))
        await gatherResults([client.set("/large", large) for _ in range(10)])
        await gatherResults([client.create(f"/large/{number}") for number in range(300)])
        assert len(await stranger.children("/large")) == 300
        session = client.session_id
        states = Told()
        client.listen(states)
        relay.cut()
        await states.until(lambda values: State.CONNECTING in values)
        relay.heal()
        assert (await client.get("/mine")).data == b"x"
        assert client.session_id == session
        await client.delete("/mine")

    secure.run(program)


async def trouble(zoo: Zoo, words: str = "", **options: Any) -> None:
    """Make a client that cannot connect, and wait until it says why."""
    client = zoo.client(**options)
    client.startService()
    while client.trouble is None or words not in client.trouble:
        assert client.state is State.CONNECTING
        await deferLater(zoo.reactor, 0.01)
    await client.close()


def test_servers_that_are_not_trusted(secure: Zoo, world: World, tmp_path: Path) -> None:
    """A certificate has to be of the right authority, and name the host; who wants no name checked says so."""
    strangers = Authority(tmp_path / "strangers", "Strangers")

    async def program(zoo: Zoo) -> None:
        await trouble(zoo, "verify failed", tls=tls_from_pem(strangers.trust))
        # Looked up, it is this machine; the certificate does not name it.
        other = f"127.0.0.2:{world.tls_port}"
        await trouble(zoo, "127.0.0.2", hosts=other, tls=world.tls())
        await zoo.connected(other, tls=world.tls(check_names=False))
        await trouble(zoo, "verify failed", hosts=other, tls=tls_from_pem(strangers.trust, check_names=False))

    secure.run(program)


def test_options_of_twisted(secure: Zoo, world: World) -> None:
    """What Twisted itself makes does as well."""
    trust = Certificate.loadPEM(world.authority.trust.read_bytes())

    async def program(zoo: Zoo) -> None:
        client = await zoo.connected(tls=partial(optionsForClientTLS, trustRoot=trust))
        assert "/zookeeper" in [f"/{name}" for name in await client.children("/")]

    secure.run(program)


PROGRAM = """
import sys
from twisted.internet.endpoints import clientFromString
from twisted.internet.task import react
from zktwisted.client import ZooKeeperClient

async def main(reactor):
    async with ZooKeeperClient(reactor, clientFromString(reactor, sys.argv[1])) as client:
        print(*await client.children("/"))

react(main)
"""


def test_endpoint_of_twisted(world: World) -> None:
    """So does an endpoint from a string, which is for programs on the global reactor."""
    endpoint = f"tls:localhost:{world.tls_port}:trustRoots={world.authority.trust.parent}/trusted"
    trusted = world.authority.trust.parent / "trusted"
    trusted.mkdir()
    (trusted / "authority.pem").write_bytes(world.authority.trust.read_bytes())
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM, endpoint],
        env={**os.environ, "PYTHONPATH": str(Path(zktwisted.__file__).parent.parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "zookeeper" in finished.stdout.split(), finished.stderr


def test_no_tls_there(world: World, plain: Zoo) -> None:
    """A port without TLS is no server for who wants it, and the other way round; both go on trying, with a reason."""

    async def program(zoo: Zoo) -> None:
        await trouble(zoo, tls=world.tls())
        await trouble(zoo, hosts=f"{HOST}:{world.tls_port}", session_timeout=2.0)

    plain.run(program)
