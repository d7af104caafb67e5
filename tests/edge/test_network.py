"""Endpoints from addresses: names asked for each time, both families, all addresses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import CannotListenError, DNSLookupError
from twisted.internet.interfaces import IHostnameResolver, IReactorPluggableNameResolver, IResolutionReceiver
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from zktwisted.config.ensemble import Address
from zktwisted.edge.network import TcpNetwork


@implementer(IHostnameResolver)
class Names:
    """Answers from a table, and remembers what it was asked."""

    def __init__(self) -> None:
        self.table: dict[str, list[Any]] = {}
        self.asked: list[str] = []

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type] | None = None,
        transportSemantics: str = "TCP",
    ) -> None:
        self.asked.append(hostName)
        resolutionReceiver.resolutionBegan(None)  # type: ignore[arg-type]
        for make, host in self.table.get(hostName, []):
            resolutionReceiver.addressResolved(make("TCP", host, portNumber))
        resolutionReceiver.resolutionComplete()


@implementer(IReactorPluggableNameResolver)
class Reactor(MemoryReactorClock):
    """A reactor in memory that looks names up in a table."""

    def __init__(self) -> None:
        super().__init__()
        self.nameResolver = self.names = Names()
        self.no_ipv6 = False

    def installNameResolver(self, resolver: object) -> object:
        raise AssertionError("nobody should")

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        if self.no_ipv6 and ":" in interface:
            raise CannotListenError(interface, port, OSError("no IPv6"))
        return super().listenTCP(port, factory, backlog, interface)


class TcpNetworkTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = Reactor()
        self.names = self.reactor.names
        self.network = TcpNetwork(self.reactor)

    def listened(self) -> list[tuple[int, int, str]]:
        """Port, backlog and interface of each listening port."""
        return [(port, backlog, interface) for port, _, backlog, interface in self.reactor.tcpServers]

    def test_addresses(self) -> None:
        """Addresses of both families are used as they are; nobody is asked."""
        for host in ("127.0.0.1", "::1"):
            self.successResultOf(self.network.server(Address(host, 3888), 7).listen(Factory()))
        self.assertEqual([(3888, 7, "127.0.0.1"), (3888, 7, "::1")], self.listened())
        self.assertEqual([], self.names.asked)

    def test_names_are_asked_for_each_time(self) -> None:
        """A server that moved is found at the next attempt: to listen, and to connect."""
        server = self.network.server(Address("zk1", 3888))
        self.names.table["zk1"] = [(IPv4Address, "10.0.0.1")]
        self.successResultOf(server.listen(Factory()))
        self.names.table["zk1"] = [(IPv6Address, "fd00::1"), (IPv4Address, "10.0.0.2")]
        self.successResultOf(server.listen(Factory()))
        self.assertEqual(["10.0.0.1", "fd00::1"], [interface for _, _, interface in self.listened()])

        client = self.network.client(Address("zk1", 3888), 5.0)
        client.connect(Factory.forProtocol(Protocol)).addErrback(lambda _: None)
        self.reactor.advance(1)
        self.names.table["zk1"] = [(IPv4Address, "10.0.0.3")]
        client.connect(Factory.forProtocol(Protocol)).addErrback(lambda _: None)
        self.reactor.advance(1)
        dialled = [(host, port) for host, port, *_ in self.reactor.tcpClients]
        self.assertEqual([("fd00::1", 3888), ("10.0.0.2", 3888), ("10.0.0.3", 3888)], dialled)
        self.assertEqual(["zk1"] * 4, self.names.asked)

    def test_unknown_names(self) -> None:
        """A name that nobody knows is an ordinary failure."""
        self.failureResultOf(self.network.server(Address("nowhere", 3888)).listen(Factory()), DNSLookupError)
        self.failureResultOf(self.network.client(Address("nowhere", 3888), 5).connect(Factory()), DNSLookupError)
        self.failureResultOf(self.network.client(Address("a..b", 3888), 5).connect(Factory()), ValueError)

    def test_every_address(self) -> None:
        """No host is every address: one socket for both families, or IPv4 where there is nothing else."""
        server = self.network.server(Address("", 3888))
        self.successResultOf(server.listen(Factory()))
        self.reactor.no_ipv6 = True
        self.successResultOf(server.listen(Factory()))
        self.assertEqual(["::", ""], [interface for _, _, interface in self.listened()])

    def test_connecting_takes_so_long_at_most(self) -> None:
        """An attempt ends after its time."""
        attempt = self.network.client(Address("10.0.0.9", 3888), 5.0).connect(Factory.forProtocol(Protocol))
        self.assertEqual(5.0, self.reactor.tcpClients[0][3])
        self.reactor.tcpClients[0][2].clientConnectionFailed(None, CannotListenError("", 1, OSError()))
        self.failureResultOf(attempt, CannotListenError)
