"""The options of clients' sockets."""

from __future__ import annotations

from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.edge.fakes import FakeServer


@implementer(ITCPTransport)
class TCPTransport(StringTransport):
    """A transport that remembers the options of its socket."""

    no_delay = keep_alive = False

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Remember."""
        self.no_delay = enabled

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Remember."""
        self.keep_alive = enabled


class SocketTests(SynchronousTestCase):
    """What is asked of the socket."""

    def test_options(self) -> None:
        """Small answers are sent at once; C{clientTcpKeepAlive} is passed on."""
        for keep_alive in (False, True):
            server = FakeServer(client_tcp_keep_alive=keep_alive)
            transport = TCPTransport()
            server.factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 5000)).makeConnection(transport)
            self.assertEqual((True, keep_alive), (transport.no_delay, transport.keep_alive))
