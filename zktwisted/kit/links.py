"""
How the members of a test ensemble reach one another: over TCP on this machine, until somebody parts them.

Their addresses in the configuration are names; each port is one that the system chose when its owner began to listen,
so that no two ensembles on a machine meet.  What is said over the connections is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.error import ConnectionRefusedError as RefusedError
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from zope.interface import implementer

from zktwisted.config.ensemble import Address

__all__ = ["Links"]

HOST = "127.0.0.1"
QUORUM, ELECTION = 20000, 30000


class Links:
    """The network between the members."""

    def __init__(self, reactor: Any, members: Sequence[int]) -> None:
        self._reactor = reactor
        self._members = members
        self._ports: dict[int, int] = {}
        self._parted: set[frozenset[int]] = set()
        self._connections: WeakKeyDictionary[Any, frozenset[int]] = WeakKeyDictionary()

    @staticmethod
    def line(member: int, role: str) -> str:
        """What a C{server.N} line says of a member."""
        return f"{HOST}:{QUORUM + member}:{ELECTION + member}:{role}"

    def of(self, member: int) -> MemberLinks:
        """The network as one member has it: a L{zktwisted.edge.network.Network}."""
        return MemberLinks(self, member)

    def partition(self, groups: Iterable[Iterable[int]]) -> None:
        """Let only members of one group reach one another; who is in no group reaches nobody."""
        sides = [frozenset(group) for group in groups]
        self._parted = {
            frozenset((one, other))
            for one in self._members
            for other in self._members
            if one < other and not any({one, other} <= side for side in sides)
        }
        for transport, pair in list(self._connections.items()):
            if pair in self._parted:
                transport.abortConnection()

    def heal(self) -> None:
        """Let all reach one another."""
        self._parted.clear()

    def reachable(self, one: int, other: int) -> bool:
        """Whether one member may connect to another."""
        return frozenset((one, other)) not in self._parted

    def listen(self, address: Address, factory: IProtocolFactory, backlog: int) -> Deferred[IListeningPort]:
        """Listen for a member."""
        listening: Deferred[Any] = TCP4ServerEndpoint(self._reactor, 0, backlog, HOST).listen(factory)
        return listening.addCallback(self._listens, address.port)

    def _listens(self, port: IListeningPort, name: int) -> IListeningPort:
        host: Any = port.getHost()
        self._ports[name] = host.port
        return _Port(port, lambda: self._ports.pop(name, None))

    def connect(self, member: int, address: Address, factory: IProtocolFactory, timeout: float) -> Deferred[IProtocol]:
        """Connect a member to another."""
        other = address.port % 10000
        port = self._ports.get(address.port)
        if port is None or not self.reachable(member, other):
            return fail(RefusedError(f"member {member} cannot reach member {other}"))
        connecting: Deferred[Any] = TCP4ClientEndpoint(self._reactor, HOST, port, timeout=timeout).connect(factory)
        return connecting.addCallback(self._connected, frozenset((member, other)))

    def _connected(self, protocol: Any, pair: frozenset[int]) -> IProtocol:
        transport = protocol.transport
        if transport is not None:
            self._connections[transport] = pair
            if pair in self._parted:
                transport.abortConnection()
        connected: IProtocol = protocol
        return connected


class MemberLinks:
    """See L{Links.of}."""

    def __init__(self, links: Links, member: int) -> None:
        self._links = links
        self._member = member

    def server(self, address: Address, backlog: int = 50) -> IStreamServerEndpoint:
        """See L{zktwisted.edge.network.Network.server}."""
        return _Server(self._links, address, backlog)

    def client(self, address: Address, timeout: float) -> IStreamClientEndpoint:
        """See L{zktwisted.edge.network.Network.client}."""
        return _Client(self._links, self._member, address, timeout)


@implementer(IListeningPort)
class _Port:
    """A port that nobody connects to any more when it has been closed: its number may be anybody's then."""

    def __init__(self, port: IListeningPort, closed: Callable[[], object]) -> None:
        self._port = port
        self._closed = closed

    def startListening(self) -> None:
        """See C{IListeningPort}: it does."""

    def stopListening(self) -> Deferred[None] | None:
        """See C{IListeningPort}."""
        self._closed()
        return self._port.stopListening()

    def getHost(self) -> IAddress:
        """See C{IListeningPort}."""
        return self._port.getHost()


@implementer(IStreamServerEndpoint)
class _Server:
    def __init__(self, links: Links, address: Address, backlog: int) -> None:
        self._links = links
        self._address = address
        self._backlog = backlog

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """See C{IStreamServerEndpoint}."""
        return self._links.listen(self._address, protocolFactory, self._backlog)


@implementer(IStreamClientEndpoint)
class _Client:
    def __init__(self, links: Links, member: int, address: Address, timeout: float) -> None:
        self._links = links
        self._member = member
        self._address = address
        self._timeout = timeout

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """See C{IStreamClientEndpoint}."""
        return self._links.connect(self._member, self._address, protocolFactory, self._timeout)
