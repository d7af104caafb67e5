"""Who a client is."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import Invalid, implementer
from zope.interface.verify import verifyObject

from zktwisted.config import ServerConfig
from zktwisted.edge.auth import (
    AuthDisconnectError,
    AuthFailedError,
    AuthOutcome,
    AuthProviders,
    DigestProvider,
    EnsembleProvider,
    Identities,
    IpProvider,
    java_address,
)
from zktwisted.errors import ConfigError
from zktwisted.interfaces import IAuthenticationProvider
from zktwisted.server.metrics import ServerMetrics
from zktwisted.tree.schemes import generate_digest
from zktwisted.wire import quorum
from zktwisted.wire.proto import Id
from zktwisted.wire.quorum import QuorumPacket

SUPER_ADMINPW = "super:YW0smZw1fP8Plz4LetS54OLjO/8="
SUPER = Id("super", "")
HOME = "127.0.0.1"


@implementer(IAuthenticationProvider)
class Broken:
    """A provider of somebody else's that breaks."""

    scheme = "broken"

    def authenticate(self, data: bytes | None, address: str) -> Sequence[Id]:
        raise KeyError(address)


class AddressTests(SynchronousTestCase):
    def test_java(self) -> None:
        """Addresses are written as Java writes them."""
        for host, expected in (
            ("127.0.0.1", "127.0.0.1"),
            ("::1", "0:0:0:0:0:0:0:1"),
            ("2001:DB8::1:0", "2001:db8:0:0:0:0:1:0"),
            ("fe80::1%eth0", "fe80:0:0:0:0:0:0:1%eth0"),
            ("::ffff:10.1.2.3", "10.1.2.3"),
            ("", "127.0.0.1"),
        ):
            self.assertEqual(java_address(host), expected)


class IdentitiesTests(SynchronousTestCase):
    def test_order(self) -> None:
        """The address comes first, the others as they were gained, each once."""
        identities = Identities(HOME)
        before = identities.current
        identities.add([Id("digest", "b:1"), Id("digest", "a:2"), Id("ip", HOME), Id("digest", "b:1")])
        self.assertEqual(identities.current, (Id("ip", HOME), Id("digest", "b:1"), Id("digest", "a:2")))
        self.assertEqual(before, (Id("ip", HOME),))
        self.assertEqual(identities.schemes, {"ip", "digest"})

    def test_room(self) -> None:
        """
        Nobody gains more by auth packets than a follower may tell its leader: a packet with more is an attack there,
        and ends the connection of the follower and all of its clients.
        """
        providers = AuthProviders([DigestProvider(generate_digest)])
        for data, most in ((b"%d:p", quorum.IDENTITIES_MAX), (b"%d" + b"\xff" * 50_000 + b":p", 10)):
            identities = Identities(HOME)
            outcomes = [providers.authenticate("digest", data % number, identities) for number in range(1500)]
            gained = outcomes.count(AuthOutcome.OK)
            self.assertEqual(outcomes, [AuthOutcome.OK] * gained + [AuthOutcome.FAILED] * (1500 - gained))
            self.assertEqual(len(identities.current), 1 + gained)
            self.assertTrue(1 < gained < most, gained)
            self.assertIs(providers.authenticate("digest", data % 0, identities), AuthOutcome.OK)
            # What else shows who somebody is does not come by such packets.
            identities.add([Id("sasl", "s" * 4096), SUPER])
            packet = quorum.pack_packet(quorum.REQUEST, -1, b"request", identities.current)
            self.assertEqual(
                quorum.read_packet(packet), (QuorumPacket(1, -1, b"request", identities.current), len(packet))
            )


class ProvidersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.metrics = ServerMetrics()

    def from_config(self, **settings: object) -> AuthProviders:
        config = ServerConfig().replace(**settings)
        return AuthProviders.from_config(config, generate_digest, self.metrics)

    def outcome(self, providers: AuthProviders, scheme: str | None, data: bytes | None) -> object:
        """The outcome and what the connection then is besides its address."""
        identities = Identities(HOME)
        return providers.authenticate(scheme, data, identities), list(identities.current[1:])

    def test_digest(self) -> None:
        """Any user and password is an identity."""
        providers = self.from_config()
        self.assertEqual(
            self.outcome(providers, "digest", b"bob:secret"),
            (AuthOutcome.OK, [Id("digest", "bob:fyVmFCwVbTJYrznoSu1koqYEYF0=")]),
        )

    def test_digest_super(self) -> None:
        """Who knows the super user's password is the super user too."""
        providers = self.from_config(digest_super_digest=SUPER_ADMINPW)
        self.assertEqual(
            self.outcome(providers, "digest", b"super:adminpw"),
            (AuthOutcome.OK, [Id("super", ""), Id("digest", SUPER_ADMINPW)]),
        )
        self.assertEqual(
            self.outcome(self.from_config(), "digest", b"super:adminpw"),
            (AuthOutcome.OK, [Id("digest", SUPER_ADMINPW)]),
        )

    def test_digest_without_colon(self) -> None:
        """Without a colon everything is the user."""
        _, identities = self.outcome(self.from_config(), "digest", b"bob")  # type: ignore[misc]
        self.assertTrue(identities[0].id.startswith("bob:"))

    def test_digest_algorithm(self) -> None:
        """The hash is the configured one; an unknown one is a configuration error with its key."""
        _, identities = self.outcome(  # type: ignore[misc]
            self.from_config(digest_algorithm="SHA-256"), "digest", b"bob:secret"
        )
        self.assertEqual(len(identities[0].id), len("bob:") + 44)
        error = self.assertRaises(ConfigError, self.from_config, digest_algorithm="ROT13")
        self.assertEqual(error.key, "DigestAuthenticationProvider.digestAlg")

    def test_refusals(self) -> None:
        """Null data, unknown schemes and those that are no auth packets' are refused and bring nothing."""
        providers = self.from_config()
        for scheme, data in (
            ("digest", None),
            (None, b"x"),
            ("world", b"anyone"),
            ("sasl", b""),
            ("x509", b""),
            ("auth", b""),
            ("super", b""),
            ("Digest", b"a:b"),
        ):
            self.assertEqual(self.outcome(providers, scheme, data), (AuthOutcome.FAILED, []))

    def test_digest_switched_off(self) -> None:
        """Without the digest provider its scheme is unknown."""
        providers = self.from_config(digest_auth_enabled=False)
        self.assertEqual(providers.schemes, ["ip"])
        self.assertEqual(self.outcome(providers, "digest", b"a:b"), (AuthOutcome.FAILED, []))

    def test_ip(self) -> None:
        """ip is accepted whatever it says, and is what the connection has already."""
        self.assertEqual(self.outcome(self.from_config(), "ip", None), (AuthOutcome.OK, []))

    def test_ensemble(self) -> None:
        """A client of another ensemble is disconnected without an answer; each kind is counted."""
        providers = self.from_config(
            properties=(
                ("zookeeper.authProvider.1", "org.apache.zookeeper.server.auth.EnsembleAuthenticationProvider"),
                ("zookeeper.ensembleAuthName", "one, two"),
            )
        )
        self.assertEqual(self.outcome(providers, "ensemble", b"two"), (AuthOutcome.OK, []))
        self.assertEqual(self.outcome(providers, "ensemble", b""), (AuthOutcome.OK, []))
        self.assertEqual(self.outcome(providers, "ensemble", b"three"), (AuthOutcome.DISCONNECT, []))
        metrics = self.metrics
        self.assertEqual(
            (metrics.ensemble_auth_success, metrics.ensemble_auth_skip, metrics.ensemble_auth_fail), (1, 1, 1)
        )

    def test_foreign_provider(self) -> None:
        """Another program's provider may be added; if it breaks, only its client suffers."""
        providers = self.from_config()
        providers.add(Broken())
        self.assertEqual(self.outcome(providers, "broken", b""), (AuthOutcome.FAILED, []))
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        self.assertRaises(Invalid, providers.add, object())

    def test_interface(self) -> None:
        """The stock providers keep the interface's promise."""
        digest = DigestProvider(lambda data: "u:h")
        ensemble = EnsembleProvider({"a"}, self.metrics)
        for provider in (IpProvider(), digest, ensemble):
            self.assertTrue(verifyObject(IAuthenticationProvider, provider))
        self.assertRaises(AuthFailedError, digest.authenticate, None, HOME)
        self.assertRaises(AuthDisconnectError, ensemble.authenticate, b"b", HOME)

    def test_enforced(self) -> None:
        """When a scheme is demanded, only connections that have one of its identities are served."""
        providers = self.from_config(enforce_auth_enabled=True, enforce_auth_schemes=("digest",))
        identities = Identities(HOME)
        self.assertFalse(providers.admits(identities))
        providers.authenticate("ip", b"", identities)
        self.assertFalse(providers.admits(identities))
        providers.authenticate("digest", b"a:b", identities)
        self.assertTrue(providers.admits(identities))
        self.assertTrue(self.from_config().admits(Identities(HOME)))
        self.assertFalse(self.from_config(require_client_auth_scheme=("digest",)).admits(Identities(HOME)))

    def test_enforced_unknown(self) -> None:
        """Demanding a scheme that is not there would lock everybody out, so it does not start."""
        error = self.assertRaises(
            ConfigError, self.from_config, enforce_auth_enabled=True, enforce_auth_schemes=("sasl", "digest")
        )
        self.assertIn("Authentication scheme sasl is not available.", str(error))
        error = self.assertRaises(ConfigError, self.from_config, require_client_auth_scheme=("sasl",))
        self.assertEqual(error.key, "requireClientAuthScheme")


class PluginTests(SynchronousTestCase):
    """Schemes that other programs bring."""

    def auth(self, *installed: object, **properties: str) -> AuthProviders:
        """The schemes of a configuration, with these plugins installed."""
        named = tuple((name.replace("_", "."), value) for name, value in properties.items())
        return AuthProviders.from_config(
            ServerConfig(properties=named), generate_digest, ServerMetrics(), lambda: installed
        )

    def test_named(self) -> None:
        """One that the configuration names is asked; one that is only installed is not."""
        named = self.auth(Broken(), authProvider_1="plugin:broken")
        self.assertEqual((named.schemes, named.foreign), (["broken", "digest", "ip"], ["broken"]))
        self.assertIs(named.authenticate("broken", b"", Identities(HOME)), AuthOutcome.FAILED)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        self.assertEqual(self.auth(Broken()).foreign, [])
        self.assertEqual(self.auth(Broken(), authProvider_1="plugin.broken").foreign, [])

    def test_unusable(self) -> None:
        """One that is not there, is there twice, or takes the place of a scheme of the server's own is refused."""
        own = Broken()
        own.scheme = "ip"
        for installed, wanted, said in (
            ((), "broken", "is offered by no plugin"),
            ((Broken(), Broken()), "broken", "more than one plugin"),
            ((own,), "ip", "is not a plugin's to offer"),
        ):
            error = self.assertRaises(ConfigError, self.auth, *installed, authProvider_x=f"plugin:{wanted}")
            self.assertEqual(error.key, "authProvider.x")
            self.assertIn(said, str(error))
