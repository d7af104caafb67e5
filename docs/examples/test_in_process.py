"""A Twisted test with a ZooKeeper server of its own."""

from __future__ import annotations

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from zktwisted import ServerConfig, ZooKeeperService


class Everything(Protocol):
    """Collects what the server sends until it closes the connection."""

    def __init__(self) -> None:
        self.data = b""
        self.done: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Failure) -> None:
        self.done.callback(self.data)


class WithServer(TestCase):
    async def setUp(self) -> None:
        config = ServerConfig(client_port=0, client_port_address="127.0.0.1")
        self.server = ZooKeeperService(reactor, config, store="memory")
        self.server.startService()
        self.addCleanup(self.server.stopService)
        await self.server.when_serving()

    async def test_serves(self) -> None:
        """Any client of yours would do here; four letters are the shortest."""
        port = self.server.addresses[0].port
        client = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), Everything())
        client.transport.write(b"srvr")
        answer = await client.done
        self.assertIn(b"Mode: standalone", answer)
