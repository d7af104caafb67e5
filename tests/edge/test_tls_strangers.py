"""Those who try to be somebody whom TLS does not know them to be: nobody is served before it is known who he is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import SSL
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from tests.authority import Authority, Identity
from tests.edge.test_tls import Client, TlsTestCase
from zktwisted.edge.keystore import Store

VERSIONS = (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION)


def gone(transport: StringTransport) -> bool:
    return bool(transport.disconnecting or transport.disconnected)


class StrangerTests(TlsTestCase):
    def shown(self, identity: Identity | None, version: int | None = None, **settings: Any) -> list[object]:
        """Whom the server admits of those who show a certificate; the connection of all others is closed."""
        self.admitted.clear()
        protocol, transport = self.connect(self.listener(**settings))
        Client(identity, version).talk(protocol, transport)
        self.assertEqual(gone(transport), not self.admitted)
        protocol.connectionLost(Failure(ConnectionError()))
        return [certificate for certificate, _ in self.admitted]

    def test_a_bad_certificate_is_not_the_same_as_none(self) -> None:
        """Where certificates are only wanted, a bad one is refused; where none is asked for, nobody has one."""
        stranger = Authority(Path(self.mktemp()), "Stranger").identity("client")
        expired = self.authority.identity("expired", days=-1)
        for version in VERSIONS:
            for bad in (stranger, expired):
                self.assertEqual(self.shown(bad, version, client_auth="want"), [])
                self.assertEqual(self.shown(bad, version, client_auth="need"), [])
                self.assertEqual(self.shown(bad, version, client_auth="none"), [None])
            self.assertEqual(self.shown(self.client, version, client_auth="want"), [self.client.certificate])
            self.assertEqual(self.shown(None, version, client_auth="want"), [None])

    def test_nobody_is_made_too_soon(self) -> None:
        """Whatever a client says before its last word of the handshake, there is nothing yet that it could talk to."""
        for version in VERSIONS:
            protocol, transport = self.connect(self.listener())
            client = Client(self.client, version)
            made = len(self.echoes)
            for _ in range(3):
                data = client.output()
                for at in range(len(data)):
                    self.assertEqual(len(self.echoes), made)
                    protocol.dataReceived(data[at : at + 1])
                client.tls.bio_write(transport.value()) if transport.value() else None
                transport.clear()
                if len(self.echoes) > made:
                    break
                client.handshake()
            self.assertEqual(len(self.echoes), made + 1)
            self.assertEqual(self.admitted.pop()[0], self.client.certificate)
            protocol.connectionLost(Failure(ConnectionError()))

    def test_words_without_tls_in_between(self) -> None:
        """Who begins a handshake and goes on without TLS has said nothing."""
        for plain in (False, True):
            protocol, transport = self.connect(self.listener(plain=plain))
            protocol.dataReceived(Client(self.client).output())
            protocol.dataReceived(b"ruok" * 10)
            self.assertTrue(gone(transport))
            self.assertEqual(self.echoes, [])
            protocol.connectionLost(Failure(ConnectionError()))

    def test_who_may_sign(self) -> None:
        """One whom the trust store holds as himself vouches for nobody else."""
        key = load_pem_private_key(self.client.store.read_bytes(), None)
        signed = Authority.signing(Path(self.mktemp()), self.client.certificate, key).identity("signed")
        trust = Store("ssl.trustStore", self.mktemp(), kind="PEM")
        Path(trust.location).write_bytes(self.client.certificate.public_bytes(Encoding.PEM))
        self.assertEqual(self.shown(self.client, trust_store=trust), [self.client.certificate])
        self.assertEqual(self.shown(signed, trust_store=trust), [])
        self.assertEqual(self.shown(signed), [])

    def test_what_a_certificate_is_for(self) -> None:
        """A certificate that is good for servers alone makes nobody a client."""
        for purpose, good in ((ExtendedKeyUsageOID.SERVER_AUTH, False), (ExtendedKeyUsageOID.CLIENT_AUTH, True)):
            identity = self.authority.identity("purpose", extension=x509.ExtendedKeyUsage([purpose]))
            self.assertEqual(self.shown(identity), [identity.certificate] * good)

    def test_renegotiation(self) -> None:
        """Nobody begins again on a connection and becomes somebody else."""
        protocol, transport = self.connect(self.listener())
        client = Client(self.client, SSL.TLS1_2_VERSION)
        client.talk(protocol, transport)
        client.tls.renegotiate()
        self.assertFalse(client.handshake())
        client.talk(protocol, transport)
        self.assertTrue(gone(transport))
        self.assertEqual(len(self.admitted), 1)
        protocol.connectionLost(Failure(ConnectionError()))
