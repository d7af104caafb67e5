"""
A port of a server that comes and goes: its number stays the server's from the first use to the last.

L{ClientPort} is an endpoint.  While nobody listens the number is kept from other programs and connections are refused;
across a reset it stays open, and who connects meanwhile waits.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import IAddress, IListeningPort, IProtocol, IProtocolFactory, IStreamServerEndpoint
from twisted.internet.protocol import Factory
from zope.interface import implementer

__all__ = ["ClientPort"]

HOST = "127.0.0.1"


@implementer(IStreamServerEndpoint)
class ClientPort:
    """
    Where the clients of one server connect.

    @ivar number: the port.
    @ivar rejecting: whether new connections are closed at once.
    """

    def __init__(self, reactor: Any, number: int = 0) -> None:
        """
        @param number: the port; 0: one that is free.

        @raise OSError: somebody listens there.
        """
        self._reactor = reactor
        self.rejecting = False
        # Bound and never listening: the system gives the number to nobody else, and answers for nobody.
        self._reservation = socket.socket()
        self._reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._reservation.bind((HOST, number))
        except OSError:
            self._reservation.close()
            raise
        self.number: int = self._reservation.getsockname()[1]
        self._port: Any = None  # a twisted.internet.tcp.Port
        self._factory: IProtocolFactory | None = None
        self._held = False
        self._door = _Door(self)

    @property
    def address(self) -> str:
        """As it stands in a connect string."""
        return f"{HOST}:{self.number}"

    def hold(self) -> None:
        """Stay open through the next stop of the server; who connects meanwhile waits for the next start."""
        self._held = True
        if self._port is not None:
            self._port.stopReading()

    def close(self) -> Deferred[None]:
        """Give up the number."""
        self._reservation.close()
        return self._shut()

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """See C{IStreamServerEndpoint}."""
        self._factory = protocolFactory
        self._held = False
        if self._port is not None:
            self._port.startReading()
            return succeed(_Listening(self))
        listening: Deferred[Any] = TCP4ServerEndpoint(self._reactor, self.number, 128, HOST).listen(self._door)
        return listening.addCallback(self._opened)

    def _opened(self, port: Any) -> IListeningPort:
        self._port = port
        return _Listening(self)

    def _leave(self) -> Deferred[None]:
        self._factory = None
        return succeed(None) if self._held else self._shut()

    def _shut(self) -> Deferred[None]:
        port, self._port = self._port, None
        if port is None:
            return succeed(None)
        closed: Deferred[None] = succeed(None).addCallback(lambda _: port.stopListening())
        return closed

    def build(self, address: Any) -> IProtocol | None:
        """Make a connection; C{None} closes it."""
        return None if self.rejecting or self._factory is None else self._factory.buildProtocol(address)


@implementer(IListeningPort)
class _Listening:
    """The port as the server has it."""

    def __init__(self, port: ClientPort) -> None:
        self._port = port

    def startListening(self) -> None:
        """See C{IListeningPort}: it does."""

    def stopListening(self) -> Deferred[None]:
        """See C{IListeningPort}."""
        return self._port._leave()

    def getHost(self) -> IAddress:
        """See C{IListeningPort}."""
        return IPv4Address("TCP", HOST, self._port.number)


class _Door(Factory):
    """Asks for each connection whose it is."""

    noisy = False

    def __init__(self, port: ClientPort) -> None:
        self._port = port

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """See C{IProtocolFactory}."""
        return self._port.build(addr)
