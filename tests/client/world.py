"""A world for clients: servers in memory, real ones and such as say what a test lets them say."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from zktwisted import ServerConfig, ZooKeeperService
from zktwisted.client import State, ZooKeeperClient
from zktwisted.config.ensemble import Address
from zktwisted.testing.clock import World
from zktwisted.testing.network import MemoryNetwork
from zktwisted.wire import jute, proto
from zktwisted.wire.frames import FRAME, frame

T = TypeVar("T")

HERE = "10.0.0.100"


class Script(Protocol):
    """
    A connection with a server that does what it is told.

    @ivar request: the ConnectRequest.
    @ivar read_only: its last byte.
    @ivar asked: (xid, op, body) of the requests.
    """

    def __init__(self) -> None:
        self.request: proto.ConnectRequest | None = None
        self.read_only: bool | None = None
        self.asked: list[tuple[int, int, bytes]] = []
        self.pieces: list[int] = []
        self.lost = False
        self._input = b""

    def dataReceived(self, data: bytes) -> None:
        self.pieces.append(len(data))
        self._input += data
        while len(self._input) >= 4:
            end = 4 + int.from_bytes(self._input[:4], "big")
            if len(self._input) < end:
                break
            payload, self._input = self._input[4:end], self._input[end:]
            if self.request is None:
                self.request, self.read_only = proto.decode_connect(payload)
            else:
                _, xid, op = FRAME.unpack_from(frame(payload))
                self.asked.append((xid, op, payload[8:]))

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.lost = True

    @property
    def ops(self) -> list[int]:
        """What was asked for."""
        return [op for _, op, _ in self.asked]

    def greet(
        self, timeout_ms: int = 6000, session_id: int = 1, password: bytes = b"p" * 16, read_only: bool = False
    ) -> None:
        """Grant the session."""
        response = proto.ConnectResponse(0, timeout_ms, session_id, password)
        self.send(frame(proto.encode_connect(response, read_only)))

    def expire(self) -> None:
        """Refuse the session."""
        self.greet(0, 0, bytes(16))
        self.drop()

    def answer(self, xid: int, body: Any = b"", *, zxid: int = 1, err: int = 0) -> None:
        """Send an answer."""
        encoded = body if isinstance(body, bytes) else jute.encode(body)
        self.send(frame(jute.encode(proto.ReplyHeader(xid, zxid, err)) + encoded))

    def event(self, kind: int, path: bytes, zxid: int = -1) -> None:
        """Send an event."""
        self.answer(-1, proto.WatcherEvent(kind, 3, path), zxid=zxid)

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.transport.write(data)

    def drop(self) -> None:
        """Close the connection."""
        self.transport.loseConnection()


class Scripted(Factory):
    """
    A server that does what it is told.

    @ivar connections: all that there were.
    """

    def __init__(self) -> None:
        self.connections: list[Script] = []

    def buildProtocol(self, addr: Any) -> Script:
        self.connections.append(Script())
        return self.connections[-1]


class ClientCase(SynchronousTestCase):
    """Makes servers and clients, and lets time pass."""

    def setUp(self) -> None:
        self.world = World()
        # No piece is broken up here but where a test wants it.
        self.network = MemoryNetwork(self.world.clock, Random(3), chopping=0.0)
        self.clients: list[ZooKeeperClient] = []
        self.states: list[State] = []
        self.addCleanup(self._nothing_is_left)

    def _nothing_is_left(self) -> None:
        """Close all clients; no call of theirs may be left behind."""
        for client in self.clients:
            client.stopService()
        self.pass_time(5)
        self.assertEqual([State.CLOSED] * len(self.clients), [client.state for client in self.clients])
        self.assertEqual([], self.network.errors)
        mine = [call for call in self.clock.getDelayedCalls() if "zktwisted.client" in repr(call)]
        self.assertEqual([], mine)

    @property
    def clock(self) -> Any:
        """The world's."""
        return self.world.clock

    def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        self.world.advance(seconds)

    def until(self, what: Callable[[], object], limit: float = 30.0) -> None:
        """Let time pass until something is so."""
        end = self.world.now + limit
        while not what():
            if not self.world.step(end):
                self.fail(f"within {limit} seconds it did not come to be")

    def result(self, deferred: Deferred[T], limit: float = 30.0) -> T:
        """Let time pass until there is a result."""
        results: list[Any] = []
        deferred.addBoth(results.append)
        self.until(lambda: results, limit)
        if isinstance(results[0], Failure):
            results[0].raiseException()
        value: T = results[0]
        return value

    def failure(self, deferred: Deferred[Any], kind: type[Exception], limit: float = 30.0) -> Any:
        """Let time pass until there is an error of this kind, and return it."""
        with self.assertRaises(kind) as caught:
            self.result(deferred, limit)
        return caught.exception

    # -- servers

    def serve(self, address: str = "10.0.0.1", **settings: Any) -> ZooKeeperService:
        """Start a real server, in memory."""
        service = ZooKeeperService(
            self.clock,
            ServerConfig(**{"tick_time": 500, **settings}),
            [self.network.host(address).server(Address("", 2181))],
            store="memory",
            monotonic=self.clock.seconds,
            wall_ms=self.world.wall_ms,
            entropy=Random(5),
        )
        service.startService()
        self.result(service.when_serving())
        self.addCleanup(lambda: self.result(service.stopService()))
        return service

    def script(self, address: str = "10.0.0.1") -> Scripted:
        """Start a server that does what it is told."""
        scripted = Scripted()
        self.successResultOf(self.network.host(address).server(Address("", 2181)).listen(scripted))
        return scripted

    # -- clients

    def client(self, *addresses: str, start: bool = True, here: str = HERE, **options: Any) -> ZooKeeperClient:
        """Make a client of the servers at these addresses, and start it."""
        host = self.network.host(here)
        endpoints = [host.client(Address(address, 2181), timeout=2.0) for address in addresses or ("10.0.0.1",)]
        client = ZooKeeperClient(self.clock, endpoints, **{"entropy": Random(1), **options})
        client.listen(self.states.append)
        self.clients.append(client)
        if start:
            client.startService()
        return client

    def connected(self, *addresses: str, **options: Any) -> ZooKeeperClient:
        """Make a client, and wait until it is connected."""
        client = self.client(*addresses, **options)
        self.result(client.when_connected())
        return client

    def scripted(self, **options: Any) -> tuple[ZooKeeperClient, Script, Scripted]:
        """Make a client that is connected with a scripted server."""
        server = self.script()
        client = self.client(**options)
        return client, self.greeted(client, server), server

    def greeted(self, client: ZooKeeperClient, server: Scripted, count: int = 1, **how: Any) -> Script:
        """Wait for the next connection, and grant it what it asks for."""
        self.until(lambda: len(server.connections) >= count and server.connections[count - 1].request)
        connection = server.connections[count - 1]
        connection.greet(**how)
        self.until(lambda: client.state.connected)
        return connection

    def asked(self, connection: Script, count: int) -> list[tuple[int, int, bytes]]:
        """Wait until so many requests have come, and return them."""
        self.until(lambda: len(connection.asked) >= count)
        return connection.asked


