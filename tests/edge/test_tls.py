"""TLS in memory: settings, handshakes, deadlines, one port for both, and files that change."""

from __future__ import annotations

from base64 import b64decode, encodebytes
from pathlib import Path
from typing import Any

from cryptography.x509 import Certificate
from OpenSSL import SSL
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import EventLoggingObserver, StringTransport
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.authority import PASSWORD, Authority, Identity
from zktwisted.config import ServerConfig
from zktwisted.edge.auth import AuthOutcome, AuthProviders, Identities, X509Provider
from zktwisted.edge.keystore import Store
from zktwisted.edge.tls import TlsContext, TlsSettings, openssl_cipher
from zktwisted.edge.unification import Handshakes, Refusal, TlsListener
from zktwisted.errors import ConfigError
from zktwisted.server.metrics import ServerMetrics

ADDRESS = IPv4Address("TCP", "192.0.2.7", 5000)


class Echo(Protocol):
    """Says what it is told in capitals."""

    data = b""
    lost = 0

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        assert self.transport is not None
        self.transport.write(data.upper())

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.lost += 1


class Client:
    """The other side: OpenSSL with what came and what goes."""

    def __init__(self, identity: Identity | None = None, version: int | None = None) -> None:
        context = SSL.Context(SSL.TLS_METHOD)
        if version is not None:
            context.set_min_proto_version(version)
            context.set_max_proto_version(version)
        if identity is not None:
            context.use_certificate_chain_file(str(identity.store))
            context.use_privatekey_file(str(identity.store))
        self.tls = SSL.Connection(context, None)
        self.tls.set_connect_state()
        self.handshake()

    def handshake(self) -> bool:
        try:
            self.tls.do_handshake()
        except SSL.Error:  # it has to wait, or was refused
            return False
        return True

    def output(self) -> bytes:
        try:
            return self.tls.bio_read(1 << 16)
        except SSL.WantReadError:
            return b""

    def talk(self, protocol: IProtocol, transport: StringTransport) -> None:
        """Carry bytes to and fro until nobody has any."""
        for _ in range(20):
            out, back = self.output(), transport.value()
            transport.clear()
            if not out and not back:
                return
            if back:
                self.tls.bio_write(back)
                self.handshake()
            if out and not transport.disconnecting:
                protocol.dataReceived(out)
        raise AssertionError("they never come to an end")


class TlsTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.authority = Authority(Path(self.mktemp()))
        self.server = self.authority.identity("server", ["localhost"])
        self.client = self.authority.identity("client", ["192.0.2.7"])
        self.clock = Clock()
        self.metrics = ServerMetrics()
        self.admitted: list[tuple[Certificate | None, str]] = []
        self.refusal: Refusal | None = None
        self.echoes: list[Echo] = []
        self.log = EventLoggingObserver()
        globalLogPublisher.addObserver(self.log)
        self.addCleanup(globalLogPublisher.removeObserver, self.log)
        self.addCleanup(lambda: self.assertEqual(self.clock.getDelayedCalls(), []))

    def settings(self, **more: Any) -> TlsSettings:
        own = {"key_store": Store("ssl.keyStore", str(self.server.store))}
        return TlsSettings("ssl", **{**own, "trust_store": self.trust(), **more})

    def trust(self) -> Store:
        return Store("ssl.trustStore", str(self.authority.trust))

    def listener(self, limit: int = -1, plain: bool = False, **settings: Any) -> TlsListener:
        self.context = TlsContext(self.settings(**settings))
        self.handshakes = Handshakes(self.clock, 5.0, self.metrics, limit)
        factory = Factory()

        def build(address: object) -> Echo:
            echo = Echo()
            self.echoes.append(echo)
            return echo

        factory.buildProtocol = build  # type: ignore[assignment]
        return TlsListener(self.context, self.handshakes, factory, self.admit, plain=plain)

    def admit(self, protocol: IProtocol, certificate: Certificate | None, host: str) -> None:
        self.admitted.append((certificate, host))
        if self.refusal is not None:
            raise self.refusal

    def connect(self, listener: TlsListener) -> tuple[Any, StringTransport]:
        protocol = listener.buildProtocol(ADDRESS)
        assert protocol is not None
        transport = StringTransport(peerAddress=ADDRESS)
        protocol.makeConnection(transport)
        return protocol, transport

    def logged(self) -> str:
        return "\n".join(str(event.get("log_format", "")).format(**event) for event in self.log)


def damaged(text: bytes, kind: bytes, old: bytes, new: bytes) -> bytes:
    """Change what the first block of a kind means."""
    begin, end = b"-----BEGIN %s-----\n" % kind, b"-----END %s-----" % kind
    before, _, rest = text.partition(begin)
    block, _, after = rest.partition(end)
    data = b64decode(block)
    assert old in data, "there is nothing to be damaged"
    return before + begin + encodebytes(data.replace(old, new)) + end + after


class HandshakeTests(TlsTestCase):
    def test_served(self) -> None:
        """After the handshake the protocol is made and talks, and its certificate is known before."""
        protocol, transport = self.connect(self.listener())
        client = Client(self.client)
        client.talk(protocol, transport)
        self.assertEqual(self.admitted, [(self.client.certificate, "192.0.2.7")])
        client.tls.send(b"hello")
        client.talk(protocol, transport)
        self.assertEqual(client.tls.recv(100), b"HELLO")
        self.assertEqual(self.handshakes.outstanding, 0)
        protocol.connectionLost(Failure(ConnectionError()))
        self.assertEqual(self.echoes[0].lost, 1)
        self.assertEqual(self.metrics.unsuccessful_handshake, 0)

    def test_data_with_the_end_of_the_handshake(self) -> None:
        """What comes in one piece with the last words of the handshake is not lost."""
        protocol, transport = self.connect(self.listener())
        client = Client(self.client)
        protocol.dataReceived(client.output())
        client.tls.bio_write(transport.value())
        transport.clear()
        self.assertTrue(client.handshake())
        client.tls.send(b"hello")
        protocol.dataReceived(client.output())
        self.assertEqual(self.echoes[0].data, b"hello")
        protocol.connectionLost(Failure(ConnectionError()))

    def test_closed_without_waiting(self) -> None:
        """A server that closes says goodbye and does not wait for the other's."""
        protocol, transport = self.connect(self.listener())
        client = Client(self.client)
        client.talk(protocol, transport)
        protocol.wrappedProtocol.transport.loseConnection()
        self.assertTrue(transport.value())
        self.assertTrue(transport.disconnecting)
        protocol.connectionLost(Failure(ConnectionError()))

    def test_without_a_certificate(self) -> None:
        """Who shows none is refused where one is needed, and let in where one is wanted or none is asked for."""
        for version in (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION):
            protocol, transport = self.connect(self.listener())
            Client(version=version).talk(protocol, transport)
            self.assertTrue(transport.disconnecting)
            protocol.connectionLost(Failure(ConnectionError()))
            self.assertEqual(self.echoes, [])
        self.assertEqual(self.metrics.unsuccessful_handshake, 2)
        self.assertIn("192.0.2.7:5000 failed: peer did not return a certificate", self.logged())
        for policy in ("want", "none"):
            protocol, transport = self.connect(self.listener(client_auth=policy))
            Client().talk(protocol, transport)
            self.assertEqual(self.admitted.pop(), (None, "192.0.2.7"))
            protocol.connectionLost(Failure(ConnectionError()))

    def test_refused(self) -> None:
        """A certificate that is good may still not be good enough; no protocol is connected then."""
        self.refusal = Refusal("because")
        protocol, transport = self.connect(self.listener())
        Client(self.client).talk(protocol, transport)
        self.assertTrue(transport.disconnected or transport.disconnecting)
        self.assertIsNone(self.echoes[0].transport)
        self.assertEqual(self.metrics.unsuccessful_handshake, 1)
        self.assertIn("because", self.logged())
        protocol.connectionLost(Failure(ConnectionError()))

    def test_deadline(self) -> None:
        """Who does not come to an end is cut off."""
        protocol, transport = self.connect(self.listener())
        protocol.dataReceived(Client(self.client).output()[:50])
        self.assertEqual(self.handshakes.outstanding, 1)
        self.clock.advance(4.9)
        self.assertFalse(transport.disconnecting)
        self.clock.advance(0.2)
        self.assertTrue(transport.disconnected or transport.disconnecting)
        self.assertEqual((self.handshakes.outstanding, self.metrics.unsuccessful_handshake), (0, 1))
        protocol.connectionLost(Failure(ConnectionError()))
        self.assertEqual((self.handshakes.outstanding, self.metrics.unsuccessful_handshake), (0, 1))

    def test_limit(self) -> None:
        """Beyond the limit nobody is taken, until there is room again."""
        listener = self.listener(limit=1)
        protocol, transport = self.connect(listener)
        self.assertIsNone(listener.buildProtocol(ADDRESS))
        self.assertEqual(self.metrics.tls_handshake_exceeded, 1)
        Client(self.client).talk(protocol, transport)
        other, _ = self.connect(listener)
        for each in (protocol, other):
            each.connectionLost(Failure(ConnectionError()))

    def test_stopped(self) -> None:
        """A server that goes closes what is not yet anybody's, and nothing else."""
        listener = self.listener(plain=True)
        served, transport = self.connect(listener)
        Client(self.client).talk(served, transport)
        silent, transport_of_silent = self.connect(listener)
        half, transport_of_half = self.connect(listener)
        half.dataReceived(Client(self.client).output()[:50])
        self.handshakes.stop()
        self.assertTrue(transport_of_half.disconnected or transport_of_half.disconnecting)
        self.assertTrue(transport_of_silent.disconnected or transport_of_silent.disconnecting)
        self.assertFalse(transport.disconnecting)
        for each in (served, silent, half):
            each.connectionLost(Failure(ConnectionError()))


class UnifiedTests(TlsTestCase):
    def test_plain(self) -> None:
        """What is no TLS record is served without TLS."""
        for first in (b"\0\0\0\x2d", b"ruok", b"\xff\xff", b"_$5"):
            protocol, transport = self.connect(self.listener(plain=True))
            protocol.dataReceived(first)
            protocol.dataReceived(b"more")
            self.assertEqual(transport.value(), (first + b"more").upper())
            self.assertIs(self.echoes[-1].transport, transport)
            protocol.connectionLost(Failure(ConnectionError()))
            self.assertEqual(self.echoes[-1].lost, 1)
        self.assertEqual(self.admitted, [])

    def test_tls(self) -> None:
        """What begins a handshake is served with TLS, even byte by byte."""
        protocol, transport = self.connect(self.listener(plain=True))
        client = Client(self.client)
        for byte in client.output():
            protocol.dataReceived(bytes([byte]))
        client.talk(protocol, transport)
        client.tls.send(b"hello")
        client.talk(protocol, transport)
        self.assertEqual(client.tls.recv(100), b"HELLO")
        protocol.connectionLost(Failure(ConnectionError()))

    def test_silence(self) -> None:
        """Who says nothing is taken to be plain after the deadline."""
        protocol, transport = self.connect(self.listener(plain=True))
        self.clock.advance(5.1)
        self.assertIs(self.echoes[0].transport, transport)
        protocol.connectionLost(Failure(ConnectionError()))

    def test_limit(self) -> None:
        """Handshakes have their limit here, too, and plain connections none."""
        listener = self.listener(plain=True, limit=0)
        protocol, transport = self.connect(listener)
        protocol.dataReceived(Client(self.client).output())
        self.assertTrue(transport.disconnected or transport.disconnecting)
        self.assertEqual(self.metrics.tls_handshake_exceeded, 1)
        protocol.connectionLost(Failure(ConnectionError()))
        protocol, transport = self.connect(listener)
        protocol.dataReceived(b"ruok")
        self.assertEqual(transport.value(), b"RUOK")
        protocol.connectionLost(Failure(ConnectionError()))

    def test_gone_before_a_word(self) -> None:
        """Who leaves without a word leaves nothing behind."""
        protocol, _ = self.connect(self.listener(plain=True))
        protocol.connectionLost(Failure(ConnectionError()))
        self.assertEqual(self.echoes, [])


class SettingsTests(TlsTestCase):
    def spoken(self, **settings: Any) -> set[str]:
        """The versions in which a client can connect."""
        spoken = set()
        for name, version in (("TLSv1.2", SSL.TLS1_2_VERSION), ("TLSv1.3", SSL.TLS1_3_VERSION)):
            protocol, transport = self.connect(self.listener(**settings))
            Client(self.client, version).talk(protocol, transport)
            if self.admitted:
                spoken.add(name)
            self.admitted.clear()
            protocol.connectionLost(Failure(ConnectionError()))
        return spoken

    def test_protocols(self) -> None:
        """The versions are those that were asked for, and never the broken ones."""
        both = {"TLSv1.2", "TLSv1.3"}
        for settings, expected in (
            ({}, both),
            ({"protocol": "TLSv1.2"}, {"TLSv1.2"}),
            ({"protocol": "TLSv1.3"}, both),
            ({"protocol": "TLS"}, both),
            ({"enabled_protocols": ("TLSv1.3",)}, {"TLSv1.3"}),
            ({"enabled_protocols": ("TLSv1", "TLSv1.1", "TLSv1.2")}, {"TLSv1.2"}),
        ):
            self.assertEqual(self.spoken(**settings), expected, str(settings))
        self.assertIn("TLSv1.1 is no longer safe", self.logged())

    def test_bad_protocols(self) -> None:
        """A version that there is not, or none that is safe, is an error with its key."""
        for settings, key in (
            ({"enabled_protocols": ("TLSv1.1", "SSLv3")}, "ssl.enabledProtocols"),
            ({"enabled_protocols": ("TLSv9",)}, "ssl.enabledProtocols"),
            ({"protocol": "TLSv1"}, "ssl.protocol"),
        ):
            error = self.assertRaises(ConfigError, TlsContext, self.settings(**settings))
            self.assertEqual(error.key, key)

    def test_cipher_names(self) -> None:
        """Java's names are OpenSSL's in other words."""
        for java, openssl in (
            ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256"),
            ("TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384", "ECDHE-ECDSA-AES256-SHA384"),
            ("TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", "ECDHE-RSA-AES256-SHA"),
            ("TLS_DHE_RSA_WITH_AES_256_GCM_SHA384", "DHE-RSA-AES256-GCM-SHA384"),
            ("TLS_RSA_WITH_AES_128_CBC_SHA256", "AES128-SHA256"),
            ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"),
            ("ECDHE-RSA-AES128-SHA", "ECDHE-RSA-AES128-SHA"),
        ):
            self.assertEqual(openssl_cipher(java), openssl)
            SSL.Context(SSL.TLS_METHOD).set_cipher_list(openssl.encode())

    def test_ciphers(self) -> None:
        """Only suites that were asked for are used; versions for which none is left are not spoken."""
        old = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
        new = "TLS_AES_128_GCM_SHA256"
        self.assertEqual(self.spoken(cipher_suites=(old,)), {"TLSv1.2"})
        self.assertEqual(self.spoken(cipher_suites=(new,)), {"TLSv1.3"})
        self.assertEqual(self.spoken(cipher_suites=(old, new, "TLS_NO_SUCH_SUITE")), {"TLSv1.2", "TLSv1.3"})
        self.assertIn("not known to OpenSSL: TLS_NO_SUCH_SUITE", self.logged())
        error = self.assertRaises(ConfigError, TlsContext, self.settings(cipher_suites=("TLS_NO_SUCH_SUITE",)))
        self.assertEqual(error.key, "ssl.ciphersuites")

    def test_revocation_lists(self) -> None:
        """Lists are demanded where they are to be looked at, and count."""
        error = self.assertRaises(ConfigError, TlsContext, self.settings(revocation_lists=True))
        self.assertEqual(error.key, "ssl.crl")
        path = Path(self.mktemp())
        path.write_bytes(self.authority.trust.read_bytes() + self.authority.revoked(self.client.certificate))
        store = Store("ssl.trustStore", str(path), kind="PEM")
        self.assertEqual(self.spoken(revocation_lists=True, trust_store=store), set())
        self.assertEqual(self.spoken(trust_store=store), {"TLSv1.2", "TLSv1.3"})

    def test_useless_lists(self) -> None:
        """Without a list that counts nobody gets in: an old one, another authority's, or one that somebody forged."""
        forger = Authority.signing(Path(self.mktemp()), self.authority.certificate, Authority(Path(self.mktemp()))._key)
        for lists, good in (
            (self.authority.revoked(), True),
            (self.authority.revoked(days=-1), False),
            (Authority(Path(self.mktemp()), "Other").revoked(), False),
            (forger.revoked(), False),
        ):
            path = Path(self.mktemp())
            path.write_bytes(self.authority.trust.read_bytes() + lists)
            store = Store("ssl.trustStore", str(path), kind="PEM")
            spoken = self.spoken(revocation_lists=True, trust_store=store)
            self.assertEqual(spoken, {"TLSv1.2", "TLSv1.3"} if good else set())

    def test_who_is_trusted(self) -> None:
        """Certificates of another authority and expired ones are refused; one that is itself in the store is not."""
        trusted = self.client
        for identity in (
            Authority(Path(self.mktemp())).identity("client"),
            self.authority.identity("expired", days=-1),
        ):
            self.client = identity
            self.assertEqual(self.spoken(), set())
        self.client = trusted
        own = Store("ssl.trustStore", self.mktemp(), kind="PEM")
        Path(own.location).write_bytes(trusted.store.read_bytes().partition(b"-----END CERTIFICATE-----\n")[0])
        with open(own.location, "ab") as file:
            file.write(b"-----END CERTIFICATE-----\n")
        self.assertEqual(self.spoken(trust_store=own), {"TLSv1.2", "TLSv1.3"})

    def test_from_config(self) -> None:
        """The family of settings becomes what is asked for here."""
        config = ServerConfig(
            ssl_key_store_location="/k.p12",
            ssl_key_store_password=PASSWORD,
            ssl_client_auth="Want",
            ssl_hostname_verification=False,
            ssl_client_hostname_verification=True,
            ssl_handshake_detection_timeout_millis=250,
        )
        settings = TlsSettings.from_config(config, "ssl")
        self.assertEqual(settings.key_store, Store("ssl.keyStore", "/k.p12", PASSWORD))
        self.assertEqual((settings.trust_store, settings.client_auth), (None, "want"))
        self.assertEqual((settings.client_host_names, settings.handshake_seconds), (False, 0.25))
        self.assertNotIn(PASSWORD, repr(config) + repr(settings))

    def test_no_key_store(self) -> None:
        """Without a key store there is no server."""
        error = self.assertRaises(ConfigError, TlsContext, self.settings(key_store=Store("ssl.keyStore", "")))
        self.assertEqual(error.message, "Keystore is required for SSL server: ssl.keyStore.location")

    def test_damage_within(self) -> None:
        """What is wrong deep within a certificate or a list is told with its file and its key as well."""
        own, trust = self.server.store.read_bytes(), self.authority.trust.read_bytes() + self.authority.revoked()
        for name, whole, kind, old, new in (
            ("keyStore", own, b"CERTIFICATE", b"server", b"\xfferver"),  # no UTF-8
            ("keyStore", own, b"CERTIFICATE", b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x12"),  # no version
            ("trustStore", trust, b"CERTIFICATE", b"Authority", b"\xffuthority"),
            ("trustStore", trust, b"CERTIFICATE", b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x12"),
            ("trustStore", trust, b"X509 CRL", b"Authority", b"\xffuthority"),
            ("trustStore", trust, b"X509 CRL", b"\x02\x01\x01\x30", b"\x02\x01\x11\x30"),
        ):
            path = Path(self.mktemp())
            path.write_bytes(damaged(whole, kind, old, new))
            field = "key_store" if name == "keyStore" else "trust_store"
            store = Store(f"ssl.{name}", str(path), kind="PEM")
            error = self.assertRaises(
                ConfigError, TlsContext, self.settings(revocation_lists=kind != b"CERTIFICATE", **{field: store})
            )
            self.assertEqual(error.key, f"ssl.{name}.location")
            self.assertIn(str(path), error.message)

    def test_expired_certificate_of_our_own(self) -> None:
        """It is used, as in Java, and the log says what is wrong."""
        expired = self.authority.identity("old", days=-1)
        TlsContext(self.settings(key_store=Store("ssl.keyStore", str(expired.store))))
        self.assertIn("the certificate has expired", self.logged())


class ChangeTests(TlsTestCase):
    def shown(self, listener: TlsListener) -> Certificate:
        protocol, transport = self.connect(listener)
        client = Client(self.client)
        client.talk(protocol, transport)
        protocol.connectionLost(Failure(ConnectionError()))
        certificate = client.tls.get_peer_certificate()
        assert certificate is not None
        return certificate.to_cryptography()

    def test_new_files(self) -> None:
        """New files count for new connections; broken ones change nothing and are remarked on once."""
        first, second = self.authority.identity("first"), self.authority.identity("second")
        path = Path(self.mktemp())
        path.write_bytes(first.store.read_bytes())
        listener = self.listener(key_store=Store("ssl.keyStore", str(path), kind="PEM"))
        self.context.refresh()
        self.assertEqual(self.shown(listener), first.certificate)
        path.write_bytes(b"broken" * 50)
        for _ in range(3):
            self.context.refresh()
        self.assertEqual(self.shown(listener), first.certificate)
        self.assertEqual(self.logged().count("the old ones stay in use"), 1)
        path.unlink()
        self.context.refresh()
        path.write_bytes(second.store.read_bytes())
        self.context.refresh()
        self.assertEqual(self.shown(listener), second.certificate)


class IdentityTests(SynchronousTestCase):
    def test_super_user(self) -> None:
        """Only the whole subject makes a super user."""
        schemes = [each.scheme for each in X509Provider.identities("CN=a", "CN=a")]
        self.assertEqual(schemes, ["x509", "super"])
        for super_user in ("", "CN=A", "CN=a,O=b"):
            self.assertEqual([each.scheme for each in X509Provider.identities("CN=a", super_user)], ["x509"])
        self.assertEqual([each.scheme for each in X509Provider.identities("", "")], ["x509"])

    def test_auth_packets(self) -> None:
        """An auth packet of the scheme is refused without a certificate and accepted with one."""
        providers = AuthProviders([X509Provider()])
        identities = Identities("192.0.2.7")
        self.assertIs(providers.authenticate("x509", b"CN=a", identities), AuthOutcome.FAILED)
        identities.add(X509Provider.identities("CN=a", ""))
        self.assertIs(providers.authenticate("x509", None, identities), AuthOutcome.OK)
        self.assertEqual(len(identities.current), 2)
