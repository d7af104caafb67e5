"""
How servers reach one another: endpoints made from addresses.

L{Network} is what a server needs of a network, so that a program can put another in its place (a network in memory, one
process's view of a simulated one); L{TcpNetwork} is the real one.  What is said over the connections is not known here.
"""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    TCP6ClientEndpoint,
    TCP6ServerEndpoint,
)
from twisted.internet.error import CannotListenError, DNSLookupError
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IProtocolFactory,
    IResolutionReceiver,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from zktwisted.config.ensemble import Address

__all__ = ["Network", "TcpNetwork"]

_IP_ADDRESSES = (IPv4Address, IPv6Address)


class Network(Protocol):
    """Where a server listens and connects.  Both ask for names again each time they are used."""

    def server(self, address: Address, backlog: int = 50) -> IStreamServerEndpoint:
        """
        Return where to listen.

        @param address: a name or address of this machine; the host C{""} is every address of both families.
        @param backlog: how many connections may wait to be accepted.
        """

    def client(self, address: Address, timeout: float) -> IStreamClientEndpoint:
        """
        Return where to connect to.

        @param timeout: how long an attempt may take, in seconds.
        """


class TcpNetwork:
    """TCP, by IPv4, IPv6 and names."""

    def __init__(self, reactor: Any) -> None:
        """@param reactor: makes the connections and looks up names."""
        self._reactor = reactor

    def server(self, address: Address, backlog: int = 50) -> IStreamServerEndpoint:
        """See L{Network.server}."""
        endpoint: IStreamServerEndpoint = _TcpServer(self._reactor, address, backlog)
        return endpoint

    def client(self, address: Address, timeout: float) -> IStreamClientEndpoint:
        """See L{Network.client}; of a name with several addresses, the first that answers is used."""
        make: Any = HostnameEndpoint
        if isIPAddress(address.host):
            make = TCP4ClientEndpoint
        elif isIPv6Address(address.host):
            make = TCP6ClientEndpoint
        endpoint: IStreamClientEndpoint = make(self._reactor, address.host, address.port, timeout=timeout)
        return endpoint


@implementer(IStreamServerEndpoint)
class _TcpServer:
    """Listens on an address, or on what a name stands for at that moment."""

    def __init__(self, reactor: Any, address: Address, backlog: int) -> None:
        self._reactor = reactor
        self._address = address
        self._backlog = backlog

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """See C{IStreamServerEndpoint}."""
        if self._address.host:
            looked_up = _look_up(self._reactor, self._address.host)
            return looked_up.addCallback(self._listen_on, protocolFactory)
        # As Java's wildcard: one socket for both families, where there are both.
        listening = self._listen_on("::", protocolFactory)
        return listening.addErrback(self._without_ipv6, protocolFactory)

    def _without_ipv6(self, failure: Failure, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        failure.trap(CannotListenError)
        return self._listen_on("", factory)

    def _listen_on(self, host: str, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        family: Any = TCP6ServerEndpoint if ":" in host else TCP4ServerEndpoint
        endpoint = family(self._reactor, self._address.port, self._backlog, host)
        listening: Deferred[IListeningPort] = endpoint.listen(factory)
        return listening


def _look_up(reactor: Any, host: str) -> Deferred[str]:
    """The first address of a name; an address stands for itself."""
    if isIPAddress(host) or isIPv6Address(host):
        return succeed(host)
    found: Deferred[str] = Deferred()
    reactor.nameResolver.resolveHostName(_FirstAddress(host, found), host, 0)
    return found


@implementer(IResolutionReceiver)
class _FirstAddress:
    """Waits for the end of a look-up: until then nobody may cancel it, and after it nobody needs to."""

    def __init__(self, host: str, found: Deferred[str]) -> None:
        self._host = host
        self._found = found
        self._addresses: list[str] = []

    def resolutionBegan(self, resolutionInProgress: object) -> None:
        """See C{IResolutionReceiver}."""

    def addressResolved(self, address: IAddress) -> None:
        """See C{IResolutionReceiver}."""
        if isinstance(address, _IP_ADDRESSES):
            self._addresses.append(address.host)

    def resolutionComplete(self) -> None:
        """See C{IResolutionReceiver}."""
        if self._addresses:
            self._found.callback(self._addresses[0])
        else:
            self._found.errback(DNSLookupError(f"no address for {self._host}"))
