"""
Who a client is: the identities of a connection and the packets that add to them.

Knows the schemes C{ip}, C{digest}, C{ensemble} and C{x509}, how an address is written, and which scheme a server may
demand (C{enforce.auth}).  Refuses to know sockets, requests and the tree: values in, values out.  What an ACL
makes of an identity is decided in L{zktwisted.tree.acl}.

Rules: spec: client-protocol 9.1, 9.2, 9.5; configuration 5.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from enum import Enum
from functools import lru_cache, partial
from hmac import compare_digest
from typing import TYPE_CHECKING, Protocol, cast

from twisted.logger import Logger
from zope.interface import implementer
from zope.interface.verify import verifyObject

from zktwisted.edge.saslauth import Sasl
from zktwisted.errors import ConfigError
from zktwisted.interfaces import IAuthenticationProvider
from zktwisted.wire.proto import Id
from zktwisted.wire.quorum import IDENTITIES_BYTES_MAX, IDENTITIES_MAX

if TYPE_CHECKING:
    from zktwisted.config import ServerConfig

__all__ = [
    "AuthDisconnectError",
    "AuthFailedError",
    "AuthOutcome",
    "AuthProviders",
    "DigestProvider",
    "EnsembleProvider",
    "Identities",
    "IpProvider",
    "X509Provider",
    "installed_providers",
    "java_address",
]

log = Logger()

PLUGIN = "plugin:"
"""How a property names a provider that is a plugin: by this and its scheme."""

RESERVED = frozenset({"auth", "digest", "ensemble", "ip", "sasl", "super", "world", "x509"})
"""Schemes that are the server's own."""

# Whatever a client says that it is, its requests have to go from one server to another, and each of its identities may
# have to be looked for in a long ACL; the rest is for those who have more to show than a name and a password.
_MOST = IDENTITIES_MAX // 10
_MOST_BYTES = IDENTITIES_BYTES_MAX // 2

SUPER = Id("super", "")
"""The identity that passes every ACL."""


class AuthFailedError(Exception):
    """The auth packet is refused: reply AUTHFAILED (-115), then close, reading nothing more."""


class AuthDisconnectError(AuthFailedError):
    """The auth packet is refused without an answer: close the connection."""


class AuthCounters(Protocol):
    """The counters that providers keep; L{zktwisted.server.metrics.ServerMetrics} has them."""

    ensemble_auth_success: int
    ensemble_auth_fail: int
    ensemble_auth_skip: int


class GenerateDigest(Protocol):
    """The function L{zktwisted.tree.schemes.generate_digest}."""

    def __call__(self, data: bytes, algorithm: str) -> str:
        """
        Hash C{user:password} into C{user:base64(hash)}.

        @raise ValueError: there is no such algorithm.
        """


def is_provider(name: str) -> bool:
    """Tell whether a property names the class of a provider (C{authProvider.1}, C{authProvider.sasl})."""
    return name.startswith("authProvider.")


def installed_providers() -> Iterable[object]:
    """What there is in C{twisted.plugins} of the kind of L{IAuthenticationProvider}."""
    from twisted.plugin import getPlugins  # which looks through directories

    return getPlugins(IAuthenticationProvider)


def _plugins(properties: Mapping[str, str], installed: Callable[[], Iterable[object]]) -> Iterable[object]:
    """
    The plugins that properties C{authProvider.N=plugin:SCHEME} name.

    @raise ConfigError: there is none for a scheme, or more than one.
    """
    wanted = {
        value.removeprefix(PLUGIN): name
        for name, value in sorted(properties.items())
        if is_provider(name) and value.startswith(PLUGIN)
    }
    found: list[object] = list(installed()) if wanted else []
    for scheme, name in wanted.items():
        fitting = [provider for provider in found if getattr(provider, "scheme", None) == scheme]
        if len(fitting) != 1 or scheme in RESERVED:
            there = ", ".join(sorted({str(getattr(provider, "scheme", "?")) for provider in found})) or "none"
            number = "no plugin" if not fitting else "more than one plugin"
            reason = "is not a plugin's to offer" if scheme in RESERVED else f"is offered by {number} here"
            raise ConfigError(f"the scheme {scheme} {reason}", key=name, remedy=f"the schemes of plugins: {there}")
        yield fitting[0]


@lru_cache(maxsize=1024)
def java_address(host: str) -> str:
    """
    Write an address as Java's C{InetAddress.getHostAddress} does.

    IPv4 stays dotted; IPv6 becomes eight lower-case hexadecimal groups without compression
    (C{0:0:0:0:0:0:0:1}), a scope kept behind C{%}; an IPv4 address mapped into IPv6 is the IPv4 address.
    Anything else (a UNIX socket has no address) becomes the loopback address: only local users reach it.
    """
    address, percent, scope = host.partition("%")
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "127.0.0.1"
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    groups = parsed.exploded.split(":")
    return ":".join(f"{int(group, 16):x}" for group in groups) + percent + scope


class Identities:
    """
    The identities of one connection, in the order in which they were gained.

    Starts with the address.  Nothing is ever taken away, but an address behind which there was another.  Requests keep
    the tuple that was current when they were read, so an identity helps only requests behind the packet that brought
    it.

    @ivar current: the identities now: an immutable tuple, replaced when one is added.
    """

    __slots__ = ("current",)

    def __init__(self, address: str) -> None:
        """@param address: the client's address as L{java_address} writes it."""
        self.current: tuple[Id, ...] = (Id("ip", address),)

    def move(self, address: str) -> None:
        """Put another address in the place of the one that there was at first."""
        self.current = (Id("ip", address), *self.current[1:])

    def add(self, identities: Iterable[Id]) -> None:
        """Add identities that are not yet there."""
        for identity in identities:
            if identity not in self.current:
                self.current = (*self.current, identity)

    def have_room(self, identities: Sequence[Id]) -> bool:
        """Tell whether a connection may have these as well: no client has nearly as many as are too many."""
        all_of_them = {*self.current, *identities}
        size = sum(8 + len(scheme.encode()) + len(text.encode("utf-8", "replace")) for scheme, text in all_of_them)
        return len(all_of_them) <= _MOST and size <= _MOST_BYTES

    @property
    def schemes(self) -> set[str]:
        """The schemes of which the connection holds an identity."""
        return {identity.scheme for identity in self.current}


@implementer(IAuthenticationProvider)
class IpProvider:
    """Scheme C{ip}: the address itself.  An auth packet is accepted and brings nothing new."""

    scheme = "ip"

    def authenticate(self, data: bytes | None, address: str) -> Sequence[Id]:
        """See L{IAuthenticationProvider}."""
        return (Id("ip", address),)


@implementer(IAuthenticationProvider)
class DigestProvider:
    """
    Scheme C{digest}: anyone who knows C{user:password} is C{user:base64(hash)}.

    A wrong password is no failure but another identity, which no ACL names.
    """

    scheme = "digest"

    def __init__(self, generate: Callable[[bytes], str], super_digest: str | None = None) -> None:
        """
        @param generate: C{user:password} to C{user:base64(hash)}.
        @param super_digest: the generated text that makes its bearer the super user.
        """
        self._generate = generate
        self._super_digest = super_digest or None

    def authenticate(self, data: bytes | None, address: str) -> Sequence[Id]:
        """See L{IAuthenticationProvider}."""
        if data is None:
            raise AuthFailedError("digest without data")
        digest = self._generate(data)
        if self._super_digest is not None and compare_digest(digest.encode(), self._super_digest.encode()):
            return (SUPER, Id("digest", digest))
        return (Id("digest", digest),)


@implementer(IAuthenticationProvider)
class EnsembleProvider:
    """
    Scheme C{ensemble}: the client says which ensemble it means to talk to.

    No identity comes of it.  A client that means another ensemble is disconnected before it does harm.
    """

    scheme = "ensemble"

    def __init__(self, names: Collection[str], counters: AuthCounters) -> None:
        """
        @param names: the names of this ensemble; empty: any name is accepted.
        @param counters: where to count.
        """
        self._names = frozenset(names)
        self._counters = counters

    def authenticate(self, data: bytes | None, address: str) -> Sequence[Id]:
        """See L{IAuthenticationProvider}."""
        counters = self._counters
        if not data or not self._names:
            counters.ensemble_auth_skip += 1
        elif data.decode("utf-8", "replace") in self._names:
            counters.ensemble_auth_success += 1
        else:
            counters.ensemble_auth_fail += 1
            raise AuthDisconnectError("the client is looking for another ensemble")
        return ()


@implementer(IAuthenticationProvider)
class X509Provider:
    """
    Scheme C{x509}: the subject of the certificate that the client showed when its connection began.

    An auth packet adds nothing: it is accepted on a connection that has such an identity and refused on others.
    """

    scheme = "x509"

    @staticmethod
    def identities(subject: str, super_user: str) -> Sequence[Id]:
        """
        The identities of who has shown a certificate.

        @param subject: as RFC 2253 writes it.
        @param super_user: the subject that may do everything; C{""}: nobody.
        """
        own = Id("x509", subject)
        return (own, Id("super", subject)) if super_user and subject == super_user else (own,)

    def authenticate(self, data: bytes | None, address: str) -> Sequence[Id]:
        """See L{IAuthenticationProvider}."""
        raise AuthFailedError("no certificate was shown when the connection began")


class AuthOutcome(Enum):
    """What the connection does after an auth packet."""

    OK = "reply err 0"
    FAILED = "reply AUTHFAILED (-115), then close and read no more"
    DISCONNECT = "close without a reply"


class AuthProviders:
    """
    The schemes of one server, and those that it demands.

    @ivar enforced: schemes of which a connection needs one identity; empty: none is needed.
    @ivar sasl: the scheme C{sasl}, which has packets of its own.
    """

    def __init__(
        self,
        providers: Iterable[object] = (),
        enforced: Iterable[str] = (),
        sasl: Sasl | None = None,
        enforcing_key: str = "enforce.auth.schemes",
    ) -> None:
        """
        @param providers: objects that provide L{IAuthenticationProvider}.  C{ip} is always there.
        @param enforced: see C{enforce.auth.schemes}.
        @param sasl: what clients have of SASL; C{None}: nothing.
        @param enforcing_key: the key of the configuration that names the demanded schemes.

        @raise ConfigError: a demanded scheme is not there.
        """
        self._providers: dict[str, IAuthenticationProvider] = {}
        self.add(IpProvider())
        for provider in providers:
            self.add(provider)
        self.sasl = sasl or Sasl()
        self.enforced = frozenset(enforced)
        for scheme in sorted(self.enforced - {*self.schemes}):
            raise ConfigError(
                f"Authentication scheme {scheme} is not available.",
                key=enforcing_key,
                remedy="name schemes out of " + ", ".join(self.schemes),
            )

    @classmethod
    def from_config(
        cls,
        config: ServerConfig,
        generate: GenerateDigest,
        counters: AuthCounters,
        installed: Callable[[], Iterable[object]] = installed_providers,
        *,
        tls: bool = False,
    ) -> AuthProviders:
        """
        The schemes that a configuration asks for.

        @param config: its C{DigestAuthenticationProvider.*}, C{enforce.auth.*} and, among the properties,
            C{authProvider.*} and C{ensembleAuthName}.
        @param generate: hashes for the digest scheme.
        @param counters: where the ensemble scheme counts.
        @param installed: tells what there is of plugins; asked if the configuration names one.
        @param tls: whether clients have TLS somewhere, be it not on a port of the configuration.

        @raise ConfigError: a demanded scheme, plugin or hash algorithm is not there, or the JAAS file is no good.
        """
        providers: list[object] = []
        if config.digest_auth_enabled:
            algorithm = config.digest_algorithm
            try:
                generate(b"", algorithm)
            except ValueError as unknown:
                key, remedy = "DigestAuthenticationProvider.digestAlg", "write SHA1, SHA-256 or SHA3-256"
                raise ConfigError(str(unknown), key=key, remedy=remedy) from unknown
            digest = partial(generate, algorithm=algorithm)
            providers.append(DigestProvider(digest, config.digest_super_digest))
        properties = {name.removeprefix("zookeeper."): value for name, value in config.properties}
        classes = {value.rpartition(".")[2] for name, value in properties.items() if is_provider(name)}
        if "EnsembleAuthenticationProvider" in classes:
            names = (name.strip() for name in properties.get("ensembleAuthName", "").split(","))
            providers.append(EnsembleProvider({name for name in names if name}, counters))
        if tls or config.client_tls or "X509AuthenticationProvider" in classes:
            providers.append(X509Provider())
        providers += _plugins(properties, installed)
        return cls(providers, config.enforced_schemes, Sasl.from_config(config), config.enforcing_key)

    @property
    def foreign(self) -> list[str]:
        """The schemes that are not the server's own, sorted."""
        return [scheme for scheme in self.schemes if scheme not in RESERVED]

    @property
    def schemes(self) -> list[str]:
        """The names of the schemes that are there, sorted."""
        return sorted({*self._providers, "sasl"} if self.sasl.portal is not None else self._providers)

    def add(self, provider: object) -> None:
        """
        Add a scheme or replace one.

        @raise zope.interface.Invalid: C{provider} does not provide L{IAuthenticationProvider}.
        """
        verifyObject(IAuthenticationProvider, provider)
        checked = IAuthenticationProvider(provider)
        self._providers[checked.scheme] = checked

    def authenticate(self, scheme: str | None, data: bytes | None, identities: Identities) -> AuthOutcome:
        """
        Judge one auth packet and add what it brings to the connection's identities.

        @param scheme: the packet's scheme.  C{world}, C{sasl} and C{auth} are no schemes of auth packets.
        @param data: the packet's auth bytes, C{None} for a null buffer.
        @param identities: the connection's.
        """
        provider = self._providers.get(scheme) if scheme is not None else None
        if provider is None:
            log.info("Authentication failed for scheme {scheme!r}: no such provider", scheme=scheme)
            return AuthOutcome.FAILED
        if scheme == X509Provider.scheme and scheme in identities.schemes:
            return AuthOutcome.OK  # the handshake has proved it
        try:
            gained = tuple(cast(Sequence[Id], provider.authenticate(data, identities.current[0].id)))
            if not identities.have_room(gained):
                raise AuthFailedError("that is one identity too many, or a far too long one")
            identities.add(gained)
        except AuthDisconnectError as refusal:
            log.info("Authentication failed for scheme {scheme}: {why}", scheme=scheme, why=str(refusal))
            return AuthOutcome.DISCONNECT
        except AuthFailedError as refusal:
            log.info("Authentication failed for scheme {scheme}: {why}", scheme=scheme, why=str(refusal))
            return AuthOutcome.FAILED
        except Exception:  # noqa: BLE001
            # A provider may come from another program; whatever it breaks on must cost its client only.
            log.failure("Authentication provider for scheme {scheme} broke", scheme=scheme)
            return AuthOutcome.FAILED
        return AuthOutcome.OK

    def admits(self, identities: Identities) -> bool:
        """
        Tell whether a request other than auth and sasl may be read from a connection with these identities.

        If not, it is answered SESSIONCLOSEDREQUIRESASLAUTH (-124) and the connection is closed.
        """
        enforced = self.enforced
        return not enforced or any(identity.scheme in enforced for identity in identities.current)
