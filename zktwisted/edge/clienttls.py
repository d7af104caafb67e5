"""
TLS for clients: the context of C{ssl.*}, and what a client's certificate makes of its connection.

Rules: spec: client-protocol 9.4.
"""

from __future__ import annotations

from typing import Any, cast

from cryptography.x509 import Certificate
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IReactorTime

from zktwisted.config import ServerConfig
from zktwisted.edge.auth import X509Provider
from zktwisted.edge.certificates import distinguished_name, names_host
from zktwisted.edge.protocol import ClientProtocol
from zktwisted.edge.tls import TlsContext, TlsSettings
from zktwisted.edge.unification import Counters, Handshakes, Refusal, TlsListener

__all__ = ["ClientTls"]


class ClientTls:
    """TLS as one server offers it to its clients."""

    def __init__(self, config: ServerConfig, clock: IReactorTime, counters: Counters, stats: Any) -> None:
        """
        @param stats: is told how many handshakes are under way.

        @raise ConfigError: a store or a setting is no good.
        """
        self._settings = TlsSettings.from_config(config, "ssl")
        self._reload = config.client_cert_reload
        self._super_user = config.x509_super_user
        self.context = TlsContext(self._settings)
        limit = config.tls_handshake_limit
        self.handshakes = Handshakes(clock, self._settings.handshake_seconds, counters, limit)
        stats.tls_handshakes = self.handshakes

    def listener(self, factory: IProtocolFactory, *, plain: bool = False) -> TlsListener:
        """
        Put TLS before a factory of L{ClientProtocol}.

        @param plain: accept clients without it, too.
        """
        return TlsListener(self.context, self.handshakes, factory, self._admit, plain=plain)

    def refresh(self) -> None:
        """Look whether the files have changed, if that is wanted."""
        if self._reload:
            self.context.refresh()

    def stop(self) -> None:
        """Close connections whose handshake is not done."""
        self.handshakes.stop()

    def _admit(self, protocol: IProtocol, certificate: Certificate | None, host: str) -> None:
        if certificate is None:
            return
        if self._settings.client_host_names and not names_host(certificate, [host]):
            raise Refusal("its certificate does not name its address")
        connection = cast(ClientProtocol, protocol)
        subject = distinguished_name(certificate.subject)
        connection.identities.add(X509Provider.identities(subject, self._super_user))
