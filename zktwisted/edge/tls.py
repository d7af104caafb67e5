"""
TLS as it is configured: protocols, ciphers, who has to show a certificate, and what happens when the files change.

L{TlsSettings} are the values of one family of settings (C{ssl.*} for clients, C{ssl.quorum.*} between servers);
L{TlsContext} makes connections of them for L{TLSMemoryBIOFactory}, those of the moment: files that have changed count
for the connections that come after.  Who listens and who calls is not known here.

Rules: spec: configuration 6, election 3.2.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from cryptography.x509 import Certificate
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator
from twisted.logger import Logger
from zope.interface import implementer

from zktwisted.config import ServerConfig
from zktwisted.edge.keystore import KeyStore, Store, TrustStore, load_key_store, load_trust_store
from zktwisted.errors import ConfigError

__all__ = ["TlsContext", "TlsSettings", "openssl_cipher"]

log = Logger()

_VERSIONS = {"TLSv1.2": SSL.TLS1_2_VERSION, "TLSv1.3": SSL.TLS1_3_VERSION}
_PROTOCOLS = {"TLS": ("TLSv1.2", "TLSv1.3"), "TLSv1.3": ("TLSv1.2", "TLSv1.3"), "TLSv1.2": ("TLSv1.2",)}
#: What has been broken; Java's own settings switch it off as well.
_UNSAFE = frozenset(("SSLv2Hello", "SSLv3", "TLSv1", "TLSv1.1"))
_VERIFY = {"none": SSL.VERIFY_NONE, "want": SSL.VERIFY_PEER, "need": SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT}
#: Forward secrecy for everyone, first with authenticated encryption.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES"
#: What OpenSSL says of files that others found readable.
_REFUSED = (SSL.Error, crypto.Error)
_CIPHERS_1_3 = ("TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256")


@dataclass(frozen=True)
class TlsSettings:
    """
    One family of settings.

    @ivar prefix: how its keys begin: C{ssl} or C{ssl.quorum}.
    @ivar trust_store: C{None}: those whom the system trusts.
    @ivar client_auth: C{none}, C{want} or C{need}.
    @ivar host_names: whether the name of a server that is called has to stand in its certificate.
    @ivar client_host_names: whether that of a caller has to.
    @ivar handshake_seconds: how long a handshake may take.
    """

    prefix: str
    key_store: Store
    trust_store: Store | None = None
    protocol: str = ""
    enabled_protocols: tuple[str, ...] = ()
    cipher_suites: tuple[str, ...] = ()
    client_auth: str = "need"
    host_names: bool = True
    client_host_names: bool = False
    revocation_lists: bool = False
    handshake_seconds: float = 5.0

    @classmethod
    def from_config(cls, config: ServerConfig, prefix: str) -> TlsSettings:
        """Take the family C{ssl} or C{ssl.quorum} of a configuration."""
        names = prefix.replace(".", "_")

        def value(name: str) -> Any:
            return getattr(config, f"{names}_{name}")

        def store(kind: str) -> Store:
            name = "key_store" if kind == "keyStore" else "trust_store"
            fields = [value(f"{name}_{field}") for field in ("location", "password", "password_path", "type")]
            return Store(f"{prefix}.{kind}", *fields)

        return cls(
            prefix=prefix,
            key_store=store("keyStore"),
            trust_store=store("trustStore") if value("trust_store_location") else None,
            protocol=value("protocol"),
            enabled_protocols=value("enabled_protocols"),
            cipher_suites=value("ciphersuites"),
            client_auth=value("client_auth").lower(),
            host_names=value("hostname_verification"),
            client_host_names=value("hostname_verification") and value("client_hostname_verification"),
            revocation_lists=value("crl"),
            handshake_seconds=max(value("handshake_detection_timeout_millis"), 1) / 1000,
        )

    @property
    def protocols(self) -> tuple[str, ...]:
        """
        The versions of TLS that are spoken.

        @raise ConfigError: none is left.
        """
        key = f"{self.prefix}.enabledProtocols" if self.enabled_protocols else f"{self.prefix}.protocol"
        wanted: Sequence[str] = self.enabled_protocols
        if not wanted:
            wanted = _PROTOCOLS.get(self.protocol or "TLSv1.3", (self.protocol,))
        known = tuple(name for name in wanted if name in _VERSIONS)
        for name in wanted:
            if name not in _VERSIONS and name not in _UNSAFE:
                raise ConfigError(f"there is no protocol {name}", key=key, remedy="write TLSv1.2,TLSv1.3")
        if not known:
            raise ConfigError(f"{', '.join(wanted)}: no longer safe", key=key, remedy="write TLSv1.2,TLSv1.3")
        return known

    @property
    def files(self) -> list[str]:
        """The files on which it depends."""
        return self.key_store.files + (self.trust_store.files if self.trust_store is not None else [])


def openssl_cipher(name: str) -> str:
    """
    Return OpenSSL's name of a cipher suite of TLS 1.2 for that of Java (IANA's); other names stay as they are.
    """
    if not name.startswith("TLS_") or "_WITH_" not in name:
        return name
    exchange, _, cipher = name.removeprefix("TLS_").partition("_WITH_")
    parts = cipher.split("_")
    if cipher.startswith("CHACHA20_POLY1305"):
        short = "CHACHA20-POLY1305"
    else:
        # AES_128_CBC_SHA256: the bits belong to the name, and CBC is what is meant without a word.
        parts[0:2] = ["".join(parts[0:2])]
        short = "-".join(part for part in parts if part != "CBC")
    front = exchange.replace("_", "-")
    return short if front == "RSA" else f"{front}-{short}"


@implementer(IOpenSSLServerConnectionCreator, IOpenSSLClientConnectionCreator)
class TlsContext:
    """
    What connections are made of.

    @ivar settings: as they were configured.
    """

    def __init__(self, settings: TlsSettings) -> None:
        """@raise ConfigError: a file or a setting is no good; file and key are told."""
        self.settings = settings
        for name in settings.enabled_protocols:
            if name in _UNSAFE:
                key = f"{settings.prefix}.enabledProtocols"
                log.warn("{key}: {name} is no longer safe and not offered", key=key, name=name)
        self._seen = self._state()
        self._server, self._client = self._load()

    # -- connections

    def serverConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:
        """See L{IOpenSSLServerConnectionCreator}."""
        return SSL.Connection(self._server, None)

    def clientConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:
        """See L{IOpenSSLClientConnectionCreator}."""
        return SSL.Connection(self._client, None)

    # -- files that change

    def refresh(self) -> None:
        """Look whether the files have changed; if they are no good now, what was there stays, and that is said once."""
        state = self._state()
        if state == self._seen:
            return
        self._seen = state
        try:
            self._server, self._client = self._load()
        except ConfigError as error:
            log.error("The new files of TLS are no good, so the old ones stay in use: {reason}", reason=str(error))
        else:
            log.info("The files of {prefix} have changed: new connections use them", prefix=self.settings.prefix)

    def _state(self) -> list[tuple[int, ...] | None]:
        """What would be different if a file were: a link may point elsewhere, too, as Kubernetes changes secrets."""
        state: list[tuple[int, ...] | None] = []
        for path in self.settings.files:
            try:
                found = os.stat(path)
            except OSError:
                state.append(None)
            else:
                state.append((found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size))
        return state

    # -- making contexts

    def _load(self) -> tuple[SSL.Context, SSL.Context]:
        settings = self.settings
        if not settings.key_store.location:
            location = f"{settings.prefix}.keyStore.location"
            raise ConfigError(
                f"Keystore is required for SSL server: {location}",
                key=location,
                remedy="name the file of the server's key and certificates",
            )
        own = load_key_store(settings.key_store)
        _remark_on_age(settings.key_store, own.chain[0])
        trusted = load_trust_store(settings.trust_store) if settings.trust_store is not None else None
        server = self._context(own, trusted)
        server.set_verify(_VERIFY[settings.client_auth])
        for certificate in trusted.certificates if trusted is not None else ():
            server.add_client_ca(certificate)
        client = self._context(own, trusted)
        client.set_verify(SSL.VERIFY_PEER)
        return server, client

    def _context(self, own: KeyStore, trusted: TrustStore | None) -> SSL.Context:
        settings = self.settings
        context = SSL.Context(SSL.TLS_METHOD)
        # No session is resumed: each connection proves anew who it is, to the certificates that count now.
        context.set_options(
            SSL.OP_NO_TICKET | SSL.OP_NO_COMPRESSION | SSL.OP_CIPHER_SERVER_PREFERENCE | SSL.OP_NO_RENEGOTIATION
        )
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        # Most connections are idle most of the time.
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        self._set_ciphers(context, self._set_protocols(context))
        try:
            context.use_certificate(own.chain[0])
            context.use_privatekey(cast(Any, own.key))  # what it does not take it says
            for certificate in own.chain[1:]:
                context.add_extra_chain_cert(certificate)
            context.check_privatekey()
        except (*_REFUSED, TypeError, ValueError) as error:
            raise settings.key_store.error(
                f"OpenSSL does not take its key: {_words(error)}", "use a key of RSA (2048 bits or more) or of EC"
            ) from None
        try:
            self._set_trust(context, trusted)
        except _REFUSED as error:
            assert settings.trust_store is not None, "only what is in a file can be wrong"
            raise settings.trust_store.error(
                f"OpenSSL does not take what is in it: {_words(error)}", "make the store anew"
            ) from None
        return context

    def _set_protocols(self, context: SSL.Context) -> tuple[str, ...]:
        protocols = self.settings.protocols
        versions = [_VERSIONS[name] for name in protocols]
        context.set_min_proto_version(min(versions))
        context.set_max_proto_version(max(versions))
        return protocols

    def _set_ciphers(self, context: SSL.Context, protocols: tuple[str, ...]) -> None:
        names = self.settings.cipher_suites
        if not names:
            context.set_cipher_list(_CIPHERS.encode())
            return
        modern = [name for name in names if name in _CIPHERS_1_3]
        others = [openssl_cipher(name) for name in names if name not in _CIPHERS_1_3]
        usable = [name for name in others if _is_cipher(name)]
        if len(usable) < len(others):
            missing = [name for name in names if name not in _CIPHERS_1_3 and not _is_cipher(openssl_cipher(name))]
            log.warn("{key}: not known to OpenSSL: {names}", key=self._cipher_key, names=", ".join(missing))
        # A version for which no suite is left is not spoken.
        left = [n for n in protocols if (modern if n == "TLSv1.3" else usable)]
        if not left:
            raise ConfigError(
                f"{', '.join(names)}: none of them goes with {', '.join(protocols)}",
                key=self._cipher_key,
                remedy="remove it, or name suites such as TLS_AES_256_GCM_SHA384",
            )
        context.set_min_proto_version(min(_VERSIONS[name] for name in left))
        context.set_max_proto_version(max(_VERSIONS[name] for name in left))
        context.set_cipher_list(":".join(usable or [_CIPHERS]).encode())
        if modern and hasattr(context, "set_tls13_ciphersuites"):
            context.set_tls13_ciphersuites(":".join(modern).encode())

    @property
    def _cipher_key(self) -> str:
        return f"{self.settings.prefix}.ciphersuites"

    def _set_trust(self, context: SSL.Context, trusted: TrustStore | None) -> None:
        settings = self.settings
        if trusted is None:
            context.set_default_verify_paths()
        store = context.get_cert_store()
        assert store is not None
        flags = crypto.X509StoreFlags.PARTIAL_CHAIN  # as in Java, what is in the store needs nobody above it
        for certificate in trusted.certificates if trusted is not None else ():
            store.add_cert(crypto.X509.from_cryptography(certificate))
        if settings.revocation_lists:
            if trusted is None or not trusted.revoked:
                raise ConfigError(
                    "there is no list of revoked certificates",
                    key=f"{settings.prefix}.crl",
                    remedy=f"append the lists, as PEM, to the PEM file of {settings.prefix}.trustStore.location",
                )
            for revoked in trusted.revoked:
                store.add_crl(revoked)
            flags |= crypto.X509StoreFlags.CRL_CHECK | crypto.X509StoreFlags.CRL_CHECK_ALL
        store.set_flags(flags)


def _is_cipher(name: str) -> bool:
    try:
        SSL.Context(SSL.TLS_METHOD).set_cipher_list(name.encode())
    except SSL.Error:
        return False
    return True


def _words(error: Exception) -> str:
    """What OpenSSL says, without the rest; it never quotes a key."""
    found: Iterable[Any] = error.args[0] if error.args and isinstance(error.args[0], list) else ()
    return "; ".join(str(each[-1]) for each in found) or str(error)


def _remark_on_age(store: Store, certificate: Certificate) -> None:
    ends = certificate.not_valid_after_utc
    if ends < datetime.now(UTC):
        log.error("{file}: the certificate has expired at {ends}", file=store.location, ends=ends.isoformat())
