"""
TLS for a client: endpoints behind it, and what is read from PEM files for it.

It stands on Twisted's own TLS, with the client's reactor for its timers: C{wrapClientTLS} of older releases, and
C{clientFromString} of any, take the global one, and on another reactor what they hold back for a turn is never sent.
Imported only where TLS is wanted, since it needs what comes with the extra C{tls}.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    optionsForClientTLS,
    platformTrust,
    trustRootFromCertificates,
)
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

__all__ = ["TlsEndpoint", "TlsOptions", "tls_from_pem"]

TlsOptions = Callable[[str], IOpenSSLClientConnectionCreator]
"""What makes connections secure, for the name of a host: Twisted's C{optionsForClientTLS} is one."""


@implementer(IStreamClientEndpoint)
class TlsEndpoint:
    """A server behind TLS."""

    def __init__(
        self, endpoint: IStreamClientEndpoint, creator: IOpenSSLClientConnectionCreator, clock: IReactorTime
    ) -> None:
        """
        @param endpoint: where it is.
        @param creator: whom to trust, and what to show.
        @param clock: for the timers of Twisted's TLS.
        """
        self._endpoint = endpoint
        self._creator = creator
        self._clock = clock

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """See C{IStreamClientEndpoint}: the handshake goes on when it fires."""
        secure = TLSMemoryBIOFactory(self._creator, True, protocolFactory, self._clock)
        connected: Deferred[Any] = self._endpoint.connect(secure)
        return connected.addCallback(lambda protocol: protocol.wrappedProtocol)


@implementer(IOpenSSLClientConnectionCreator)
class _AnyName:
    """Trusts a certificate of the right authority, whatever name stands in it."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._context = CertificateOptions(**options).getContext()

    def clientConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:
        """See C{IOpenSSLClientConnectionCreator}."""
        return SSL.Connection(self._context, None)


def tls_from_pem(
    trust: str | Path | None = None,
    certificate: str | Path | None = None,
    key: str | Path | None = None,
    *,
    password: bytes | None = None,
    check_names: bool = True,
) -> TlsOptions:
    """
    Read what a client needs for TLS from files.

    @param trust: certificates of the authorities that may vouch for servers; by default those of the platform.
    @param certificate: the client's own, with those between it and its authority behind it, where servers ask for one.
    @param key: its private key, if that is in another file.
    @param password: of the key.
    @param check_names: whether a server's certificate has to name the host that was asked for.
    @raise OSError: a file cannot be read.
    @raise ValueError: it holds something else.
    """
    options: dict[str, Any] = {}
    if certificate is not None:
        # As cryptography has them: what Twisted wants of pyOpenSSL's own is deprecated there.
        own, *above = _certificates(certificate)
        options |= {"certificate": own, "extraCertChain": above, "privateKey": _key(key or certificate, password)}
    root = platformTrust()
    if trust is not None:
        known = [Certificate(crypto.X509.from_cryptography(each)) for each in _certificates(trust)]
        root = trustRootFromCertificates(known)
    if not check_names:
        creator = _AnyName({**options, "trustRoot": root})
        return lambda host: creator
    return lambda host: optionsForClientTLS(host, root, extraCertificateOptions=dict(options))


def _certificates(path: str | Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(Path(path).read_bytes())
    except ValueError:
        raise ValueError(f"{path} holds no certificate in PEM") from None


def _key(path: str | Path, password: bytes | None) -> PrivateKeyTypes:
    try:
        return load_pem_private_key(Path(path).read_bytes(), password)
    except TypeError:
        raise ValueError(f"the key in {path} and its password do not go together") from None
    except ValueError:
        raise ValueError(f"{path} holds no key in PEM that can be read") from None
