"""
L{TlsNetwork}: how servers reach one another with TLS, around any other L{Network}.

Who calls learns that the connection is there when the handshake is done and the other side's certificate names the host
that was called; who is called hears of a caller when its certificate names a member of the ensemble.  What is said over
the connections is not known here.

Rules: spec: election 3.2, configuration 6.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cryptography.x509 import Certificate
from OpenSSL import SSL
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IDelayedCall,
    IHandshakeListener,
    IListeningPort,
    IOpenSSLClientConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from zktwisted.config import ServerConfig
from zktwisted.config.ensemble import Address
from zktwisted.edge.certificates import names_host
from zktwisted.edge.network import Network
from zktwisted.edge.tls import TlsContext, TlsSettings
from zktwisted.edge.unification import Counters, Handshakes, Refusal, TlsListener, TlsProtocol, why

__all__ = ["TlsError", "TlsNetwork"]

log = Logger()


class TlsError(Exception):
    """A server was reached, and no connection with TLS came of it; the message says why."""


class TlsNetwork:
    """A network on which connections between servers have TLS, as C{sslQuorum} and C{portUnification} say."""

    def __init__(self, network: Network, config: ServerConfig, clock: IReactorTime, counters: Counters) -> None:
        """
        @param network: carries the bytes.

        @raise ConfigError: a store or a setting is no good.
        """
        self._network = network
        self._settings = TlsSettings.from_config(config, "ssl.quorum")
        self._calls = config.ssl_quorum
        self._plain = config.port_unification
        self._reload = config.ssl_quorum_reload_cert_files
        members = config.ensemble.members if config.ensemble is not None else ()
        addresses = [each for member in members for each in (*member.addresses, *member.election_addresses)]
        self._hosts = list(dict.fromkeys(address.host for address in addresses))
        self.context = TlsContext(self._settings)
        self._handshakes = Handshakes(clock, self._settings.handshake_seconds, counters)

    def server(self, address: Address, backlog: int = 50) -> IStreamServerEndpoint:
        """See L{Network.server}."""
        endpoint: IStreamServerEndpoint = _Server(self._network.server(address, backlog), self._listener)
        return endpoint

    def client(self, address: Address, timeout: float) -> IStreamClientEndpoint:
        """See L{Network.client}; the handshake has as long as the attempt may take, or the handshakes' own limit."""
        endpoint = self._network.client(address, timeout)
        if not self._calls:
            return endpoint
        seconds = min(timeout, self._settings.handshake_seconds)
        hosts = [address.host] if self._settings.host_names else None
        secure: IStreamClientEndpoint = _Client(endpoint, self.context, self._handshakes.clock, address, seconds, hosts)
        return secure

    def refresh(self) -> None:
        """Look whether the files have changed, if that is wanted."""
        if self._reload:
            self.context.refresh()

    def stop(self) -> None:
        """Close connections that others have made and whose handshake is not done."""
        self._handshakes.stop()

    def _listener(self, factory: IProtocolFactory) -> TlsListener:
        return TlsListener(self.context, self._handshakes, factory, self._admit, plain=self._plain)

    def _admit(self, protocol: IProtocol, certificate: Certificate | None, host: str) -> None:
        if certificate is None or not self._settings.client_host_names:
            return
        # The address that it calls from proves nothing: any certificate of the authority may name its own holder.
        if not names_host(certificate, self._hosts):
            raise Refusal("its certificate names no server of the ensemble")


@implementer(IStreamServerEndpoint)
class _Server:
    def __init__(self, endpoint: IStreamServerEndpoint, wrap: Callable[[IProtocolFactory], IProtocolFactory]) -> None:
        self._endpoint = endpoint
        self._wrap = wrap

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """See C{IStreamServerEndpoint}."""
        return self._endpoint.listen(self._wrap(protocolFactory))


@implementer(IStreamClientEndpoint)
class _Client:
    def __init__(
        self,
        endpoint: IStreamClientEndpoint,
        context: TlsContext,
        clock: IReactorTime,
        address: Address,
        seconds: float,
        hosts: list[str] | None,
    ) -> None:
        self._endpoint = endpoint
        self._clock = clock
        self._address = address
        self._seconds = seconds
        self._hosts = hosts
        self._creator = _Named(context, address.host)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """See C{IStreamClientEndpoint}."""
        gate = _Call(protocolFactory, self._clock, self._address, self._seconds, self._hosts)
        factory = TLSMemoryBIOFactory(self._creator, True, Factory.forProtocol(lambda: gate), self._clock)
        factory.protocol = TlsProtocol
        gate.connecting = self._endpoint.connect(factory)
        gate.connecting.addErrback(gate.failed)
        return gate.done


@implementer(IOpenSSLClientConnectionCreator)
class _Named:
    """Tells the other side whom is meant."""

    def __init__(self, context: TlsContext, host: str) -> None:
        self._context = context
        self._name = None if isIPAddress(host) or isIPv6Address(host) else host

    def clientConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:
        """See L{IOpenSSLClientConnectionCreator}."""
        connection = self._context.clientConnectionForTLS(tlsProtocol)
        if self._name is not None:
            connection.set_tlsext_host_name(self._name.encode("idna"))
        return connection


@implementer(IHandshakeListener)
class _Call(TwistedProtocol):
    """
    What stands in the place of a protocol until the handshake is done.

    @ivar done: fires with the protocol.
    """

    transport: Any

    def __init__(
        self, factory: IProtocolFactory, clock: IReactorTime, address: Address, seconds: float, hosts: list[str] | None
    ) -> None:
        self._factory = factory
        self._clock = clock
        self._address = address
        self._seconds = seconds
        self._hosts = hosts
        self._timer: IDelayedCall | None = None
        self.connecting: Deferred[Any] | None = None
        self.done: Deferred[IProtocol] = Deferred(self._given_up)

    def connectionMade(self) -> None:
        """See C{IProtocol}."""
        self._timer = self._clock.callLater(self._seconds, self._end, "the handshake takes too long")

    def handshakeCompleted(self) -> None:
        """See L{IHandshakeListener}."""
        certificate = self.transport.getPeerCertificate().to_cryptography()  # a server always shows one
        if self._hosts is not None and not names_host(certificate, self._hosts):
            self._end(f"its certificate does not name {self._address.host}")
            return
        self._stop()
        tls = self.transport
        protocol = self._factory.buildProtocol(tls.getPeer())
        if protocol is None:
            self._end("there is no use for it")
            return
        tls.wrappedProtocol = protocol
        protocol.makeConnection(tls)
        self.done.callback(protocol)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See C{IProtocol}."""
        self._end(why(reason))

    def failed(self, reason: Failure) -> None:
        """No connection was made."""
        self._stop()
        if not self.done.called:
            self.done.errback(reason)

    def _given_up(self, done: Deferred[IProtocol]) -> None:
        self._stop()
        if self.connecting is not None and not self.connecting.called:
            self.connecting.cancel()
        elif self.transport is not None:
            self.transport.abortConnection()

    def _stop(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _end(self, reason: str) -> None:
        self._stop()
        if self.done.called:
            return
        log.info("No TLS with {address}: {reason}", address=str(self._address), reason=reason)
        self.done.errback(TlsError(f"no TLS with {self._address}: {reason}"))
        self.transport.abortConnection()
