"""What a client reads for TLS, and says of files that are no good; that it connects is shown with real servers."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from OpenSSL import SSL
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import optionsForClientTLS
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase

from tests.authority import Authority
from zktwisted.client import ZooKeeperClient
from zktwisted.client.hosts import endpoints_of
from zktwisted.client.tls import TlsEndpoint, tls_from_pem


class PemTests(SynchronousTestCase):
    """Files of an authority of our own."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.authority = Authority(self.directory)
        self.own = self.authority.identity("client").store

    def file(self, name: str, content: bytes) -> Path:
        path = self.directory / name
        path.write_bytes(content)
        return path

    def locked(self) -> Path:
        """Write the key into a file of its own, with a password."""
        key = load_pem_private_key(self.own.read_bytes(), None)
        encryption = BestAvailableEncryption(b"open")
        return self.file("key.pem", key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))

    def test_options(self) -> None:
        """They are for any host, with a key beside the certificate or in a file of its own."""
        for options in (
            tls_from_pem(),
            tls_from_pem(self.authority.trust),
            tls_from_pem(self.authority.trust, self.own),
            tls_from_pem(self.authority.trust, self.own, self.locked(), password=b"open"),
            tls_from_pem(self.authority.trust, self.own, check_names=False),
        ):
            for host in ("zk.example", "10.0.0.1", "::1"):
                creator = options(host)
                self.assertTrue(IOpenSSLClientConnectionCreator.providedBy(creator))
                factory = TLSMemoryBIOFactory(creator, True, Factory.forProtocol(Protocol), Clock())
                context = creator.clientConnectionForTLS(factory.buildProtocol(None)).get_context()
                self.assertEqual(SSL.VERIFY_PEER, context.get_verify_mode() & SSL.VERIFY_PEER)

    def test_refused(self) -> None:
        """Files that are missing, or hold something else, are named; a password is not."""
        noise = self.file("noise.pem", b"noise")
        trust, own, locked = self.authority.trust, self.own, self.locked()
        for arguments, password, words in (
            ((noise,), None, "noise.pem holds no certificate"),
            ((trust, noise), None, "noise.pem holds no certificate"),
            ((trust, trust), None, "trust.pem holds no key"),
            ((trust, own, noise), None, "noise.pem holds no key"),
            ((trust, own, locked), None, "key.pem and its password"),
            ((trust, own, own), b"wrong-one", "client.pem and its password"),
            ((trust, own, locked), b"wrong-one", "key.pem holds no key"),
        ):
            with self.assertRaises(ValueError) as caught:
                tls_from_pem(*arguments, password=password)
            self.assertIn(words, str(caught.exception))
            self.assertNotIn("wrong-one", str(caught.exception))
        self.assertRaises(OSError, tls_from_pem, self.directory / "missing.pem")

    def test_endpoints(self) -> None:
        """Each server of a connect string is behind TLS for its own name; an endpoint brings its own."""
        reactor = MemoryReactorClock()
        names: list[str] = []

        def options(host: str) -> IOpenSSLClientConnectionCreator:
            names.append(host)
            return optionsForClientTLS(host)

        made, _ = endpoints_of(reactor, "one:1,two:2", 6.0, None, options)
        self.assertEqual([TlsEndpoint] * 2, [*map(type, made)])
        self.assertEqual(["one", "two"], names)
        plain = HostnameEndpoint(reactor, "one", 1)
        self.assertRaises(ValueError, ZooKeeperClient, reactor, plain, tls=options)
