"""A whole server with TLS, in memory and on a clock: ports, and what keeps it from starting."""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

from OpenSSL import SSL
from twisted.internet.endpoints import TCP4ServerEndpoint, UNIXServerEndpoint
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.authority import Authority, Identity
from zktwisted.config import ServerConfig
from zktwisted.edge.client import ClientFactory
from zktwisted.edge.unification import TlsListener
from zktwisted.errors import ConfigError
from zktwisted.server.run import SecureEndpoint
from zktwisted.server.service import ZooKeeperService


class TlsServiceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.authority = Authority(Path(self.mktemp()))
        self.server = self.authority.identity("server")
        self.client = self.authority.identity("client")

    def service(self, endpoints: Any = None, **settings: Any) -> ZooKeeperService:
        config = ServerConfig(
            **{
                "ssl_key_store_location": str(self.server.store),
                "ssl_trust_store_location": str(self.authority.trust),
                "client_port_address": "127.0.0.1" if settings.get("client_port") else None,
                "secure_client_port_address": "127.0.0.1" if settings.get("secure_client_port") else None,
                "four_letter_words_whitelist": ("*",),
                **settings,
            }
        )
        return ZooKeeperService(
            self.reactor, config, endpoints, store="memory", monotonic=self.reactor.seconds, entropy=Random(5)
        )

    def start(self, service: ZooKeeperService) -> dict[int, Any]:
        """Start it and return what listens, by port."""
        service.startService()
        self.assertEqual(self.successResultOf(service.when_serving()), "standalone")
        self.addCleanup(service.stopService)
        return {port: factory for port, factory, *_ in self.reactor.tcpServers}

    def asked(self, factory: Any, word: bytes, identity: Identity | None) -> bytes:
        """Ask a four-letter word over TLS."""
        context = SSL.Context(SSL.TLS_METHOD)
        if identity is not None:
            context.use_certificate_chain_file(str(identity.store))
            context.use_privatekey_file(str(identity.store))
        tls = SSL.Connection(context, None)
        tls.set_connect_state()
        transport = StringTransport()
        protocol = factory.buildProtocol(transport.getPeer())
        protocol.makeConnection(transport)
        said = b""
        for turn in range(6):
            try:
                tls.do_handshake()
                if turn == 2:
                    tls.send(word)
                said += tls.recv(1 << 16)
            except SSL.Error:
                pass
            try:
                protocol.dataReceived(tls.bio_read(1 << 16))
            except SSL.WantReadError:
                pass
            if transport.value():
                tls.bio_write(transport.value())
                transport.clear()
        protocol.connectionLost(Failure(ConnectionDone()))
        return said

    def test_ports(self) -> None:
        """Each port is what it was configured to be, and conf tells both."""
        factories = self.start(self.service(client_port=2181, secure_client_port=2281))
        self.assertIsInstance(factories[2181], ClientFactory)
        self.assertEqual(self.asked(factories[2281], b"ruok", self.client), b"imok")
        self.assertEqual(self.asked(factories[2281], b"ruok", None), b"")
        self.assertIn(b"secureClientPort=", self.asked(factories[2281], b"conf", self.client))

    def test_unified(self) -> None:
        """One port may be both."""
        factories = self.start(self.service(client_port=2181, client_port_unification=True))
        self.assertEqual(self.asked(factories[2181], b"ruok", self.client), b"imok")
        self.assertEqual(list(factories), [2181])

    def test_endpoints(self) -> None:
        """An endpoint may be marked to have TLS, whatever the ports of the configuration are."""
        plain, secure = (TCP4ServerEndpoint(self.reactor, port) for port in (1, 2))
        factories = self.start(self.service([plain, SecureEndpoint(secure)], secure_client_port=2281))
        self.assertIsInstance(factories[1], ClientFactory)
        self.assertIsInstance(factories[2], TlsListener)
        self.assertEqual(self.asked(factories[2], b"ruok", self.client), b"imok")

    def test_demand_on_endpoints(self) -> None:
        """Certificates may be demanded where TLS is on an endpoint alone, and nowhere else."""
        demand: Any = {"require_client_auth_scheme": ("x509",)}
        secure = SecureEndpoint(TCP4ServerEndpoint(self.reactor, 2))
        self.assertEqual(list(self.start(self.service([secure], **demand))), [2])
        service = self.service([TCP4ServerEndpoint(self.reactor, 3)], **demand)
        service.startService()
        self.assertEqual(self.failureResultOf(service.when_serving(), ConfigError).value.key, "requireClientAuthScheme")
        self.successResultOf(service.stopService())

    def test_stop(self) -> None:
        """A server that stops leaves no handshake behind."""
        service = self.service(secure_client_port=2281)
        listener = self.start(service)[2281]
        transport = StringTransport()
        protocol = listener.buildProtocol(transport.getPeer())
        protocol.makeConnection(transport)
        self.successResultOf(service.stopService())
        self.assertTrue(transport.disconnecting)
        protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def refused(self, **settings: Any) -> ConfigError:
        service = self.service(secure_client_port=2281, **settings)
        service.startService()
        error: ConfigError = self.failureResultOf(service.when_serving(), ConfigError).value
        self.assertEqual(self.reactor.tcpServers, [])
        self.successResultOf(service.stopService())
        return error

    def test_profile(self) -> None:
        """With the profile secure nothing is opened that lets others in, and no endpoint stays open that does."""
        local, everywhere = UNIXServerEndpoint(self.reactor, "/s"), TCP4ServerEndpoint(self.reactor, 1)
        secure: Any = {"profile": "secure"}
        factories = self.start(self.service([local, SecureEndpoint(everywhere)], **secure))
        self.assertEqual(list(factories), [1])
        for endpoints, settings, key in (
            (None, {"client_port": 2181, "client_port_address": None}, "clientPort"),
            (None, {"secure_client_port": 2281, "secure_client_port_address": None}, "ssl.clientAuth"),
            ([local, everywhere], {}, "--client-endpoint"),
            ([SecureEndpoint(everywhere)], {}, "ssl.clientAuth"),
        ):
            service = self.service(endpoints, ssl_client_auth="want", **secure, **settings)
            service.startService()
            error = self.failureResultOf(service.when_serving(), ConfigError).value
            self.assertEqual(error.key, key)
            self.successResultOf(service.stopService())

    def test_bad_store(self) -> None:
        """A store that is no good keeps the server from starting, before it opens a port."""
        self.assertEqual(self.refused(ssl_key_store_location="/nowhere.pem").key, "ssl.keyStore.location")
        self.assertEqual(self.refused(ssl_key_store_location="").key, "ssl.keyStore.location")

    def test_missing_packages(self) -> None:
        """Without the extra the error says what to install."""
        with mock.patch.dict(sys.modules, {"zktwisted.edge.clienttls": None}):
            self.assertIn("zktwisted[tls]", str(self.refused()))

    def test_nothing_is_loaded_in_vain(self) -> None:
        """A server without TLS needs none of it."""
        with mock.patch.dict(sys.modules, {"zktwisted.edge.clienttls": None, "zktwisted.edge.tlsnetwork": None}):
            self.assertEqual(list(self.start(self.service(client_port=2181))), [2181])
