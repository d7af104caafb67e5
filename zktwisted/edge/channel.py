"""
L{ElectionProtocol}: one connection between two election ports.

It finds the initial message and the frames in what comes, and knows whether the other end takes what is written.  Whose
connection is the one that is used, and what the frames mean, it refuses to know.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any
from typing import Protocol as Interface

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IAddress, IPushProducer, ITCPTransport
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from zktwisted.edge.quorumauth import Exchange, QuorumAuthError
from zktwisted.errors import ProtocolError
from zktwisted.wire.votes import FRAME_MAX, InitialMessage, read_initial

__all__ = ["ElectionFactory", "ElectionProtocol", "ProbeFactory"]

log = Logger()

_LENGTH = Struct(">i")


class Manager(Interface):
    """
    Who has many connections.

    @ivar keep_alive: whether TCP probes idle connections.
    """

    keep_alive: bool

    def opened(self, connection: ElectionProtocol, dialled: bool) -> None:
        """A connection is made."""

    def introduced(self, connection: ElectionProtocol, message: InitialMessage) -> None:
        """Who has called says who it is."""

    def received(self, connection: ElectionProtocol, body: bytes) -> None:
        """A frame has come."""

    def resumed(self, connection: ElectionProtocol) -> None:
        """What was written has been taken: there is room again."""

    def lost(self, connection: ElectionProtocol) -> None:
        """A connection is over."""


@implementer(IPushProducer)
class ElectionProtocol(Protocol):
    """
    A connection between two election ports.

    @ivar sid: the server at the other end, once it is known.
    @ivar writable: whether the other end takes what is written.
    @ivar over: whether nothing can be said to the other end any more.
    """

    transport: Any

    def __init__(self, manager: Manager, sid: int | None = None) -> None:
        """@param sid: whom we have called; C{None}: somebody calls us."""
        self.over = False
        self.sid = sid
        self.writable = True
        self.peer = "?"
        self._manager = manager
        self._dialled = sid is not None
        self._buffer = bytearray()
        self._exchange: Exchange | None = None
        self._authenticated: Callable[[], None] = lambda: None
        self._beginning: Deferred[None] = succeed(None)
        self._closed = False

    # -- Protocol

    def connectionMade(self) -> None:
        """See C{IProtocol}."""
        transport = self.transport
        address = transport.getPeer()
        self.peer = f"{getattr(address, 'host', address)}:{getattr(address, 'port', '')}"
        if ITCPTransport.providedBy(transport):
            transport.setTcpNoDelay(True)
            transport.setTcpKeepAlive(self._manager.keep_alive)
        transport.registerProducer(self, True)
        self._manager.opened(self, self._dialled)

    def dataReceived(self, data: bytes) -> None:
        """See C{IProtocol}."""
        if self._closed:
            return
        self._buffer += data
        try:
            if self.sid is None and self._exchange is None and not self._introduce():
                return
            if self._exchange is not None and not self._authenticate(self._exchange):
                return
            self._read_frames()
        except ProtocolError as error:
            log.info("Closing the election connection with {peer}: {reason}", peer=self.peer, reason=str(error))
            if isinstance(error, QuorumAuthError) and error.farewell:
                self.write(error.farewell)
                self.say_goodbye()
            else:
                self.close()

    def _introduce(self) -> bool:
        found = read_initial(self._buffer)
        if found is None:
            return False
        message, end = found
        del self._buffer[:end]
        self._manager.introduced(self, message)
        return not self._closed

    def authenticate(self, exchange: Exchange, then: Callable[[], None]) -> None:
        """
        Read no notifications before the end of an exchange.

        @param then: called when the other end has come through it, or need not.
        """
        self._exchange, self._authenticated = exchange, then
        self._beginning = exchange.begin().addCallbacks(self.write, self._cannot_begin)

    def _cannot_begin(self, reason: Failure) -> None:
        if reason.check(CancelledError) is None:
            log.info("No election connection with {peer}: {reason}", peer=self.peer, reason=reason.getErrorMessage())
            self.close()

    def _authenticate(self, exchange: Exchange) -> bool:
        data = bytes(self._buffer)
        self._buffer.clear()
        self.write(exchange.receive(data))
        if not exchange.done:
            return False
        self._exchange = None
        self._buffer += exchange.rest
        self._authenticated()
        return not self._closed

    def _read_frames(self) -> None:
        buffer, offset = self._buffer, 0
        while len(buffer) - offset >= 4 and not self._closed:
            length: int = _LENGTH.unpack_from(buffer, offset)[0]
            if not 0 < length <= FRAME_MAX:
                raise ProtocolError(f"a frame of {length} bytes")
            end = offset + 4 + length
            if len(buffer) < end:
                break
            body = bytes(buffer[offset + 4 : end])
            offset = end
            self._manager.received(self, body)
        del buffer[:offset]

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        """See C{IProtocol}."""
        self.over = True
        self._beginning.cancel()
        if self._exchange is not None and not self._closed and self._exchange.end_of_input():
            self._authenticated()  # it may only have wanted to be called
        self._closed = True
        self._buffer.clear()
        self._manager.lost(self)

    # -- IPushProducer: the other end does not read

    def pauseProducing(self) -> None:
        """See C{IPushProducer}."""
        self.writable = False

    def resumeProducing(self) -> None:
        """See C{IPushProducer}."""
        self.writable = True
        self._manager.resumed(self)

    def stopProducing(self) -> None:
        """See C{IProducer}."""
        self.writable = False

    # -- what the manager does with it

    def write(self, data: bytes) -> None:
        """Write, whether the other end reads or not."""
        if not self._closed and data:
            self.transport.write(data)

    def say_goodbye(self) -> None:
        """Close it when all is written."""
        self._closed = True
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def close(self) -> None:
        """Close it at once."""
        self._closed = True
        self.transport.abortConnection()


class ElectionFactory(Factory):
    """Makes connections: those that are accepted, or one that was dialled."""

    noisy = False

    def __init__(self, manager: Manager, sid: int | None = None) -> None:
        self._manager = manager
        self._sid = sid

    def buildProtocol(self, addr: IAddress | None) -> ElectionProtocol:
        """See C{IProtocolFactory}."""
        return ElectionProtocol(self._manager, self._sid)


class ProbeFactory(Factory):
    """Makes connections over which nothing is said."""

    noisy = False

    def buildProtocol(self, addr: IAddress | None) -> _Probe:
        """See C{IProtocolFactory}."""
        return _Probe()


class _Probe(Protocol):
    """It has reached its aim by being made."""

    transport: Any

    def connectionMade(self) -> None:
        """See C{IProtocol}."""
        self.transport.loseConnection()
