"""The outgoing half of a connection over Twisted's own TCP transport, with a socket that is made of lists."""

from __future__ import annotations

from errno import EAGAIN, EPIPE
from typing import Any

from twisted.internet import main, tcp
from twisted.internet.address import IPv4Address
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.edge.fakes import Client, FakeServer, connect, reply, request, split
from zktwisted.edge.client import ClientProtocol
from zktwisted.wire import ops

GET, SET, CLOSE = ops.GET_DATA, ops.SET_DATA, ops.CLOSE_SESSION


class FakeSocket:
    """
    A socket that takes as much as it is told.

    @ivar room: bytes that it takes before it is full.
    @ivar broken: whether sending fails.
    """

    def __init__(self) -> None:
        self.sent = b""
        self.sends = 0
        self.room = 1 << 30
        self.broken = False

    def setsockopt(self, *options: int) -> None:
        """TCP_NODELAY."""

    def setblocking(self, flag: int) -> None:
        """Twisted asks for it."""

    def fileno(self) -> int:
        return 7

    def send(self, data: bytes) -> int:
        if self.broken:
            raise OSError(EPIPE, "broken")
        if not self.room and data:
            raise BlockingIOError(EAGAIN, "full")
        self.sends += 1
        taken = bytes(data[: self.room])
        self.room -= len(taken)
        self.sent += taken
        return len(taken)

    def take(self) -> bytes:
        sent, self.sent = self.sent, b""
        return sent


class FakeReactor:
    """Notes who wants to read and write."""

    def __init__(self) -> None:
        self.readers: set[Any] = set()
        self.writers: set[Any] = set()
        self.later: list[Any] = []
        self.addReader = self.readers.add
        self.addWriter = self.writers.add
        self.removeReader = self.readers.discard
        self.removeWriter = self.writers.discard

    def callLater(self, delay: float, function: Any, *args: Any) -> None:
        self.later.append(function)


class PlainSocketTests(SynchronousTestCase):
    """Output that goes past the transport never overtakes what is in it."""

    def setUp(self) -> None:
        self.server = FakeServer()
        self.reactor = FakeReactor()
        self.socket = FakeSocket()
        address = IPv4Address("TCP", "127.0.0.1", 1)
        self.protocol: ClientProtocol = self.server.factory.buildProtocol(address)
        made: tuple[Any, ...] = (self.socket, self.protocol, ("127.0.0.1", 1), None, 1, self.reactor)
        self.transport = tcp.Server(*made)
        self.transport.startReading()
        self.protocol.makeConnection(self.transport)
        self.protocol.dataReceived(connect())
        self.socket.take()

    def drain(self) -> object:
        """The socket has room again: let the transport write until it wants no more."""
        self.socket.room = 1 << 30
        result: object = None
        while self.transport in self.reactor.writers and result is None:
            result = self.transport.doWrite()
        return result

    def xids(self) -> list[int]:
        """Of the replies that came out of the socket since the last call."""
        return [xid for xid, _, _, _ in split(self.socket.take())]

    def test_at_once(self) -> None:
        """All replies of a piece of input are one send, and the reactor is not asked for anything."""
        before = self.socket.sends
        self.protocol.dataReceived(request(1, GET) + request(2, GET))
        self.assertEqual([1, 2], self.xids())
        self.assertEqual(1, self.socket.sends - before)
        self.assertEqual(set(), self.reactor.writers)

    def test_partly(self) -> None:
        """What the socket does not take is sent later, and before what comes after it."""
        for room in (0, 1, 25):
            self.socket.room = room
            self.protocol.dataReceived(request(1, GET) + request(2, GET))
            self.socket.room = 1 << 30
            self.protocol.dataReceived(request(3, GET))
            self.protocol.deliver(reply(-1, 1))
            self.server.flush_dirty()
            self.assertEqual(room, len(self.socket.sent))
            self.drain()
            self.assertEqual([1, 2, 3, -1], self.xids())
            self.protocol.dataReceived(request(4, GET))
            self.assertEqual([4], self.xids())

    def test_pressure(self) -> None:
        """A transport that holds much makes its connection wait, and go on when it has sent everything."""
        self.server.answer = lambda c, i, xid, *rest: reply(xid, 1, bytes(200_000))  # type: ignore[method-assign]
        self.socket.room = 1000
        self.protocol.dataReceived(b"".join(request(xid, GET) for xid in range(1, 5)))
        self.assertEqual(4, self.protocol.interest_ops & 4)
        self.protocol.dataReceived(request(5, GET))
        self.assertNotIn(self.transport, self.reactor.readers)
        self.drain()
        self.assertEqual([1, 2, 3, 4, 5], self.xids())
        self.assertIn(self.transport, self.reactor.readers)
        self.assertEqual(1, self.protocol.interest_ops)

    def test_close_after_output(self) -> None:
        """A closeSession's reply is written before the end, even if the client is slow."""
        self.server.answer = lambda c, i, xid, *rest: reply(xid, 1, bytes(200_000))  # type: ignore[method-assign]
        self.socket.room = 0
        self.protocol.dataReceived(request(1, GET) + request(2, CLOSE))
        self.server.settle()
        result = self.drain()
        self.assertEqual([1, 2], self.xids())
        self.assertIs(main.CONNECTION_DONE, result)

    def test_close_at_once(self) -> None:
        """Closing now does not wait for a client that does not read."""
        self.socket.room = 0
        self.protocol.dataReceived(request(1, GET))
        self.protocol.close()
        self.assertEqual(1, len(self.reactor.later))
        self.assertEqual(set(), self.reactor.writers)

    def test_broken(self) -> None:
        """A broken socket is the transport's to find out; nothing is raised."""
        self.socket.broken = True
        self.protocol.dataReceived(request(1, GET))
        self.assertIs(main.CONNECTION_LOST, self.transport.doWrite())
        self.protocol.connectionLost(Failure(main.CONNECTION_LOST))
        self.assertEqual([self.protocol], self.server.lost)

    def test_words_before_the_end(self) -> None:
        """The answer to a four-letter word is written before the end."""
        client = Client(self.server)
        client.send(b"ruok")
        self.assertEqual(b"RUOK127.0.0.1:5000", client.take())
        self.assertIsNone(client.transport.producer)
