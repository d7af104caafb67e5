"""
Listening with TLS, or with TLS and without on one port.

A connection is nobody's before its handshake is done: what it is for is made then, with its certificate known.  Until
then it has a deadline and, if so configured, one of a limited number of places; nobody else waits for it.  On a port
for both, the first byte decides, and a plain connection costs nothing from then on: its transport is handed over.

Rules: spec: configuration 4, 6; election 3.2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from cryptography.x509 import Certificate
from OpenSSL import SSL
from twisted.internet import tcp
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHandshakeListener,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from zktwisted.edge.auth import java_address
from zktwisted.edge.tls import TlsContext

__all__ = ["Counters", "Handshakes", "Refusal", "TlsListener", "TlsProtocol", "why"]

log = Logger()

# The types of TLS records.  Nothing that clients or servers say without TLS begins so.
_RECORDS = range(20, 25)


class Refusal(Exception):
    """A certificate that is good is not good enough; the message says why."""


class Counters(Protocol):
    """What is counted; L{zktwisted.server.metrics.ServerMetrics} has it."""

    unsuccessful_handshake: int
    tls_handshake_exceeded: int


class Handshakes:
    """
    The handshakes under way on the ports of one kind.

    @ivar outstanding: how many there are.
    """

    def __init__(self, clock: IReactorTime, seconds: float, counters: Counters, limit: int = -1) -> None:
        """
        @param seconds: how long each may take.
        @param limit: how many there may be; less than 0: any number.
        """
        self.clock = clock
        self.seconds = seconds
        self.outstanding = 0
        self._counters = counters
        self._limit = limit
        self._undecided: dict[TwistedProtocol, None] = {}

    def begin(self, protocol: TwistedProtocol, late: Callable[[], object]) -> IDelayedCall:
        """A connection is there of which nobody knows yet what it is; return what ends its time."""
        self._undecided[protocol] = None
        return self.clock.callLater(self.seconds, late)

    def end(self, protocol: TwistedProtocol) -> None:
        """It is known, or gone."""
        self._undecided.pop(protocol, None)

    def stop(self) -> None:
        """Close all of them: the server goes."""
        for protocol in list(self._undecided):
            protocol.transport.abortConnection()  # type: ignore[union-attr]

    def full(self) -> bool:
        """Tell whether there is no place for another one, and count it if so."""
        if self._limit < 0 or self.outstanding < self._limit:
            return False
        self._counters.tls_handshake_exceeded += 1
        return True

    def failed(self) -> None:
        """Count one that came to nothing."""
        self._counters.unsuccessful_handshake += 1


class TlsProtocol(TLSMemoryBIOProtocol):
    """Twisted's, which does not wait for a goodbye: whoever gives none would keep a closed connection open."""

    transport: Any

    def makeConnection(self, transport: Any) -> None:
        """See C{IProtocol}."""
        if ITCPTransport.providedBy(transport):
            transport.setTcpNoDelay(True)
        super().makeConnection(transport)  # type: ignore[no-untyped-call]

    def setTcpNoDelay(self, enabled: bool) -> None:
        """See C{ITCPTransport}: Twisted's class claims to be one, whatever is below it."""
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(enabled)

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """See C{ITCPTransport}."""
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpKeepAlive(enabled)

    def abortConnection(self) -> None:
        """See C{ITCPTransport}; what is over already stays so."""
        if self._tlsConnection is not None:
            super().abortConnection()  # type: ignore[no-untyped-call]

    def _shutdownTLS(self) -> None:
        super()._shutdownTLS()  # type: ignore[no-untyped-call]
        if self._handshakeDone:
            self.transport.loseConnection()


class TlsListener(Factory):
    """Makes connections with TLS for a factory that knows nothing of it."""

    noisy = False

    def __init__(
        self,
        context: TlsContext,
        handshakes: Handshakes,
        factory: IProtocolFactory,
        admit: Callable[[IProtocol, Certificate | None, str], None],
        *,
        plain: bool = False,
    ) -> None:
        """
        @param factory: makes what speaks over them.
        @param admit: told of each protocol, before it is connected, the other side's certificate and address; may
            raise L{Refusal}.
        @param plain: whether connections without TLS are accepted as well.
        """
        self.handshakes = handshakes
        self.inner = factory
        self.admit = admit
        self._plain = plain
        gates = _Gates(self)
        self._tls = TLSMemoryBIOFactory(context, False, gates, handshakes.clock)
        self._tls.protocol = TlsProtocol

    def doStart(self) -> None:
        """See C{IProtocolFactory}."""
        super().doStart()  # type: ignore[no-untyped-call]
        self.inner.doStart()

    def doStop(self) -> None:
        """See C{IProtocolFactory}."""
        super().doStop()  # type: ignore[no-untyped-call]
        self.inner.doStop()

    def buildProtocol(self, addr: IAddress | None) -> IProtocol | None:  # type: ignore[override]
        """See C{IProtocolFactory}."""
        return _Peek(self, addr) if self._plain else self.secure(addr)

    def secure(self, address: Any) -> IProtocol | None:
        """Make a connection that begins with a handshake; C{None}: there are too many."""
        return None if self.handshakes.full() else self._tls.buildProtocol(address)


class _Gates(Factory):
    noisy = False

    def __init__(self, listener: TlsListener) -> None:
        self._listener = listener

    def buildProtocol(self, addr: IAddress | None) -> _Gate:
        """See C{IProtocolFactory}."""
        return _Gate(self._listener, addr)


@implementer(IHandshakeListener)
class _Gate(TwistedProtocol):
    """What stands in the place of a protocol until the handshake is done."""

    transport: Any

    def __init__(self, listener: TlsListener, address: Any) -> None:
        self._listener = listener
        self._address = address
        self._timer: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """See C{IProtocol}."""
        handshakes = self._listener.handshakes
        handshakes.outstanding += 1
        self._timer = handshakes.begin(self, self._late)

    def handshakeCompleted(self) -> None:
        """See L{IHandshakeListener}."""
        self._end()
        tls = self.transport
        protocol = self._listener.inner.buildProtocol(self._address)
        if protocol is None:
            tls.abortConnection()
            return
        certificate = tls.getPeerCertificate()
        try:
            shown = None if certificate is None else certificate.to_cryptography()
            self._listener.admit(protocol, shown, java_address(getattr(self._address, "host", "")))
        except (Refusal, ValueError) as refusal:
            log.info("Closing the connection of {peer}: {reason}", peer=_place(self._address), reason=str(refusal))
            self._listener.handshakes.failed()
            tls.abortConnection()
            return
        tls.wrappedProtocol = protocol
        protocol.makeConnection(tls)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See C{IProtocol}."""
        if self._timer is not None:
            self._end()
            self._listener.handshakes.failed()
            log.info("The handshake with {peer} failed: {reason}", peer=_place(self._address), reason=why(reason))

    def _late(self) -> None:
        log.info("The handshake with {peer} takes too long", peer=_place(self._address))
        self._timer = None
        handshakes = self._listener.handshakes
        handshakes.end(self)
        handshakes.outstanding -= 1
        handshakes.failed()
        self.transport.abortConnection()

    def _end(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            self._listener.handshakes.end(self)
            self._listener.handshakes.outstanding -= 1
            timer.cancel()


class _Peek(TwistedProtocol):
    """Looks at the first byte, and gives the connection to whom it belongs; who says nothing is plain."""

    transport: Any

    def __init__(self, listener: TlsListener, address: Any) -> None:
        self._listener = listener
        self._address = address
        self._timer: IDelayedCall | None = None
        self._inner: IProtocol | None = None

    def connectionMade(self) -> None:
        """See C{IProtocol}."""
        self._timer = self._listener.handshakes.begin(self, self._silent)

    def dataReceived(self, data: bytes) -> None:
        """See C{IProtocol}."""
        if self._inner is None:
            self._decide(data[0] in _RECORDS)
        if self._inner is not None:
            self._inner.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See C{IProtocol}."""
        self._stop()
        if self._inner is not None:
            self._inner.connectionLost(reason)

    def _silent(self) -> None:
        self._timer = None
        self._decide(False)

    def _stop(self) -> None:
        self._listener.handshakes.end(self)
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _decide(self, tls: bool) -> None:
        self._stop()
        listener, transport = self._listener, self.transport
        inner = listener.secure(self._address) if tls else listener.inner.buildProtocol(self._address)
        if inner is None:
            transport.abortConnection()
            return
        self._inner = inner
        if isinstance(transport, tcp.Connection):
            transport.protocol = inner  # what comes from now on does not come here
        inner.makeConnection(transport)


def _place(address: Any) -> str:
    """An address as people write it."""
    host = getattr(address, "host", None)
    return "a local client" if host is None else f"{java_address(host)}:{address.port}"


def why(reason: Failure) -> str:
    """Put the end of a handshake in words."""
    error = reason.value
    if isinstance(error, SSL.Error) and error.args and isinstance(error.args[0], list | tuple):
        return "; ".join(str(each[-1]) for each in error.args[0] if each) or "it was not TLS"
    return reason.getErrorMessage()
