"""
Connections within one process: from a client in it to a server in it, without sockets.

L{LocalEndpoint} gives what is written at one end to the other in the reactor's next turn, in one piece and in order; an
end that does not read lets the other's producer wait, as a socket would.  It knows nothing of ZooKeeper.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.error import ConnectionRefusedError as RefusedError
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
    ITransport,
)
from twisted.python.failure import Failure
from zope.interface import implementer

__all__ = ["LocalEndpoint"]

#: Bytes under way to an end, from which on the other's producer waits.
_ENOUGH = 256 * 1024


@implementer(ITransport)
class _End:
    """One end of a connection: to the protocol there it is the transport."""

    disconnecting = False

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._protocol: Any = None
        self._other: _End | None = None
        self._incoming: list[bytes] = []
        self._size = 0
        self._reading = True
        self._over: Failure | None = None
        self._producer: Any = None
        self._paused = False
        self._call: IDelayedCall | None = None

    def join(self, other: _End, protocol: IProtocol) -> None:
        """Be the other end of C{other}."""
        self._other = other
        self._protocol = protocol

    # -- from the other end

    def _take(self, data: bytes) -> None:
        self._incoming.append(data)
        self._size += len(data)
        self._later()

    def _end(self, reason: Failure) -> None:
        """The other end is gone; what it wrote before comes first."""
        self._over = self._over or reason
        self._later()

    def _later(self) -> None:
        if self._call is None and self._protocol is not None and (self._reading or self._over):
            self._call = self._clock.callLater(0, self._deliver)

    def _deliver(self) -> None:
        self._call = None
        if self._incoming and self._reading:
            data = b"".join(self._incoming)
            self._incoming.clear()
            self._size = 0
            self._protocol.dataReceived(data)
            if self._other is not None:
                self._other._go_on()
        if self._over is not None and self._protocol is not None and not (self._incoming and self._reading):
            protocol, self._protocol = self._protocol, None
            self._producer = None
            self._incoming.clear()
            protocol.connectionLost(self._over)
        elif self._incoming or self._over:
            self._later()

    def _go_on(self) -> None:
        """The other end has read."""
        if self._paused:
            self._paused = False
            if self._producer is not None:
                self._producer.resumeProducing()

    # -- the transport

    def write(self, data: bytes) -> None:
        """See C{ITransport}."""
        if self._other is None or self.disconnecting or not data:
            return
        self._other._take(data)
        if self._other._size > _ENOUGH and self._producer is not None and not self._paused:
            self._paused = True
            self._producer.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """See C{ITransport}."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """See C{ITransport}: what was written arrives before."""
        self._close(Failure(ConnectionDone()))

    def abortConnection(self) -> None:
        """See C{ITCPTransport}: nothing more arrives."""
        if self._other is not None:
            self._other._incoming.clear()
            self._other._size = 0
        self._close(Failure(ConnectionAborted()))

    def _close(self, reason: Failure) -> None:
        other, self._other = self._other, None
        if other is None:
            return
        self.disconnecting = True
        self._incoming.clear()
        other._other = None
        other._end(Failure(ConnectionDone()))
        self._end(reason)

    def pauseProducing(self) -> None:
        """See C{IPushProducer}."""
        self._reading = False

    def resumeProducing(self) -> None:
        """See C{IPushProducer}."""
        self._reading = True
        if self._incoming:
            self._later()

    def stopProducing(self) -> None:
        """See C{IPushProducer}."""
        self.loseConnection()

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """See C{IConsumer}."""
        self._producer = producer

    def unregisterProducer(self) -> None:
        """See C{IConsumer}."""
        self._producer = None

    def getPeer(self) -> IAddress:
        """See C{ITransport}."""
        return UNIXAddress(None)

    def getHost(self) -> IAddress:
        """See C{ITransport}."""
        return UNIXAddress(None)


@implementer(IStreamClientEndpoint)
class LocalEndpoint:
    """Where a client in this process connects to a server in it."""

    def __init__(self, clock: IReactorTime, server: Callable[[], IProtocolFactory | None]) -> None:
        """
        @param clock: in whose next turn bytes arrive.
        @param server: gives the server's factory; C{None} while there is no server.
        """
        self._clock = clock
        self._server = server

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """See C{IStreamClientEndpoint}."""
        factory = self._server()
        there = None if factory is None else factory.buildProtocol(UNIXAddress(None))
        here = protocolFactory.buildProtocol(UNIXAddress(None))
        if there is None or here is None:
            return fail(RefusedError("no server runs here"))
        near, far = _End(self._clock), _End(self._clock)
        near.join(far, here)
        far.join(near, there)
        there.makeConnection(far)
        here.makeConnection(near)
        return succeed(here)
