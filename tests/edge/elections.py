"""A network of which the test decides everything: who listens, which attempts succeed, what is written."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError, ConnectionDone
from twisted.internet.error import ConnectionRefusedError as RefusedError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamClientEndpoint, IStreamServerEndpoint
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from zktwisted.config import Ensemble, ServerConfig
from zktwisted.config.ensemble import Address


def settings(sid: int, ensemble: Ensemble, **more: Any) -> ServerConfig:
    """Return the settings of a server; a tick is 2 s and a follower may lag 5 of them."""
    limits = {"tick_time": 2000, "init_limit": 10, "sync_limit": 5}
    return ServerConfig(myid=sid, ensemble=ensemble, data_dir="unused", **limits, **more)


class Line(StringTransport):
    """
    One end of a connection.

    @ivar protocol: what uses it.
    @ivar cut: it was ended at once.
    """

    def __init__(self, protocol: Any, host: str = "10.0.0.9") -> None:
        super().__init__(peerAddress=IPv4Address("TCP", host, 40000))
        self.protocol = protocol
        self.cut = self.no_delay = self.keep_alive = False
        protocol.makeConnection(self)

    def abortConnection(self) -> None:
        """See C{ITCPTransport}."""
        self.cut = self.disconnecting = True

    def unregisterProducer(self) -> None:
        """See C{IConsumer}: once more does no harm, as with a real transport."""
        self.producer = None

    def setTcpNoDelay(self, enabled: bool) -> None:
        """See C{ITCPTransport}."""
        self.no_delay = enabled

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """See C{ITCPTransport}."""
        self.keep_alive = enabled

    def lose(self) -> None:
        """The connection is over."""
        self.protocol.connectionLost(Failure(ConnectionDone()))

    def written(self) -> bytes:
        """Return what was written since the last time."""
        data: bytes = self.value()
        self.clear()
        return data


@implementer(IListeningPort)
class Port:
    """A port that listens."""

    def __init__(self, network: Wires, address: Address) -> None:
        self._network, self._address = network, address

    def startListening(self) -> None:
        """See C{IListeningPort}."""

    def stopListening(self) -> None:
        """See C{IListeningPort}."""
        del self._network.listening[self._address]

    def getHost(self) -> IPv4Address:
        """See C{IListeningPort}."""
        return IPv4Address("TCP", "127.0.0.1", self._address.port)


class Attempt:
    """An attempt to connect that waits for its outcome."""

    def __init__(self, address: Address, timeout: float, factory: Any) -> None:
        self.address, self.timeout, self.factory = address, timeout, factory
        self.given_up = False
        self.made: Deferred[Any] = Deferred(self._cancelled)

    def _cancelled(self, _: Deferred[Any]) -> None:
        self.given_up = True

    def succeed(self) -> Line:
        """Let it be connected, and return our end."""
        line = Line(self.factory.buildProtocol(None), self.address.host)
        self.made.callback(line.protocol)
        return line

    def refuse(self) -> None:
        """Let it fail."""
        self.made.errback(RefusedError())


class Wires:
    """
    A L{zktwisted.edge.network.Network}.

    @ivar listening: the factory of each port that listens, and its backlog.
    @ivar taken: ports that cannot be listened on.
    @ivar tried: each address at which it was tried to listen.
    @ivar attempts: to connect, the newest last.
    """

    def __init__(self) -> None:
        self.listening: dict[Address, IProtocolFactory] = {}
        self.taken: set[Address] = set()
        self.tried: list[Address] = []
        self.attempts: list[Attempt] = []

    def server(self, address: Address, backlog: int = 50) -> IStreamServerEndpoint:
        """See L{zktwisted.edge.network.Network}."""
        return Listening(self, address)

    def client(self, address: Address, timeout: float) -> IStreamClientEndpoint:
        """See L{zktwisted.edge.network.Network}."""
        return Connecting(self, address, timeout)

    def call(self, address: Address, data: bytes = b"", host: str = "10.0.0.9") -> Line:
        """Connect to a port that listens, and write."""
        line = Line(self.listening[address].buildProtocol(None), host)  # type: ignore[arg-type]
        if data:
            line.protocol.dataReceived(data)
        return line


@implementer(IStreamServerEndpoint)
class Listening:
    def __init__(self, wires: Wires, address: Address) -> None:
        self._wires, self._address = wires, address

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """See C{IStreamServerEndpoint}."""
        wires, address = self._wires, self._address
        wires.tried.append(address)
        if address in wires.taken:
            return fail(CannotListenError(address.host, address.port, OSError(98, "Address already in use")))
        wires.listening[address] = protocolFactory
        return succeed(Port(wires, address))


@implementer(IStreamClientEndpoint)
class Connecting:
    def __init__(self, wires: Wires, address: Address, timeout: float) -> None:
        self._wires, self._address, self._timeout = wires, address, timeout

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        """See C{IStreamClientEndpoint}."""
        attempt = Attempt(self._address, self._timeout, protocolFactory)
        self._wires.attempts.append(attempt)
        return attempt.made
