"""A server for connections to talk to: answers are simple, writes wait until the test says so."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from struct import pack, unpack_from
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from zktwisted.config import ServerConfig
from zktwisted.edge.auth import AuthOutcome, AuthProviders, DigestProvider, EnsembleProvider, Identities
from zktwisted.edge.client import ClientFactory, ClientProtocol, ClientServer, Request
from zktwisted.edge.requests import Words
from zktwisted.edge.saslauth import Conversation, Sasl
from zktwisted.edge.throttle import (
    ConnectionCounts,
    ConnectionThrottle,
    LargeRequests,
    OutstandingLimit,
    RequestThrottler,
)
from zktwisted.server.metrics import ServerMetrics, ServerStats
from zktwisted.wire import jute, ops, proto
from zktwisted.wire.frames import failure, frame

SESSION = 0x100001109B80001
PASSWORD = bytes(range(16))


class FakeWords:
    """Echoes four-letter words."""

    def length(self, word: bytes) -> int:
        return 12 if word == b"stmk" else 4

    def answer(self, word: bytes, rest: bytes = b"", peer: str = "") -> bytes | None:
        return None if word == b"\xff\xf4\xff\xfd" else word.upper() + rest + peer.encode()


class FakeServer:
    """
    A L{ClientServer}.

    Each reply to a local operation carries C{xid} and, as body, the request's body reversed.

    @ivar accepts: what C{connect} does: C{"now"}, C{"later"}, C{"refuse"} or C{"close"}.
    @ivar submitted: writes that wait for L{settle}.
    @ivar events: frames that the next setWatches delivers first.
    """

    def __init__(self, sasl: Sasl | None = None, **settings: Any) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.config = ServerConfig(**settings)
        self.serving = True
        self.last_zxid = 0x55
        self.metrics = ServerMetrics()
        self.stats = ServerStats()
        self.outstanding: OutstandingLimit[Any] = OutstandingLimit(self.config.global_outstanding_limit)
        self.throttler: RequestThrottler[Request] = RequestThrottler.from_config(self.config, self.metrics)
        self.large_requests = LargeRequests(
            self.config.large_request_threshold, self.config.large_request_max_bytes
        )
        self.connection_throttle = ConnectionThrottle.from_config(self.config, Random(0), self.now())
        self.counts = ConnectionCounts(self.config.max_client_cnxns, self.config.max_cnxns)
        self.words: Words | None = FakeWords()
        self.connections: dict[Any, None] = {}
        self.dirty: list[Any] = []
        self.accepts = "now"
        self.waiting: list[ClientProtocol] = []
        self.submitted: list[Request] = []
        self.answered: list[tuple[int, Sequence[proto.Id]]] = []
        self.events: list[bytes] = []
        self.touched = 0
        self.lost: list[ClientProtocol] = []
        self.sasl = sasl
        self.connects: list[tuple[proto.ConnectRequest, bool | None]] = []
        providers = (
            DigestProvider(lambda data: data.decode()),
            EnsembleProvider({"ours"}, self.metrics),
        )
        self.auth = AuthProviders(providers, self.config.enforced_schemes, self.sasl)
        self.factory = ClientFactory(conforms(self), lambda: 1_700_000_000_000)

    def now(self) -> float:
        return float(self.clock.seconds())

    def answer(
        self,
        connection: Any,
        identities: Sequence[proto.Id],
        xid: int,
        op: int,
        buf: bytes,
        start: int,
        end: int,
    ) -> bytes:
        self.answered.append((xid, identities))
        if op == ops.SET_WATCHES:
            events, self.events = self.events, []
            for event in events:
                connection.deliver(event)
        return reply(xid, self.last_zxid, buf[start:end][::-1])

    def submit(self, request: Request) -> None:
        self.submitted.append(request)

    def submit_run(self, run: list[Request]) -> None:
        for request in run:
            self.submit(request)

    def settle(self, count: int = 1, reply_with: bytes | None = None) -> None:
        """Answer the oldest submitted requests, and end the turn."""
        for _ in range(count):
            request = self.submitted.pop(0)
            request.reply = reply(request.cxid, self.last_zxid, b"done") if reply_with is None else reply_with
            request.connection.settled()
        self.flush_dirty()

    def flush_dirty(self) -> None:
        while self.dirty:
            dirty, self.dirty = self.dirty, []
            for connection in dirty:
                connection.flush()

    def touch(self, connection: Any) -> None:
        self.touched += 1

    def connect(self, connection: Any, request: proto.ConnectRequest, read_only: bool | None) -> None:
        self.connects.append((request, read_only))
        if self.accepts == "now":
            connection.accept(SESSION, request.timeout, PASSWORD)
        elif self.accepts == "later":
            self.waiting.append(connection)
        elif self.accepts == "refuse":
            connection.refuse()
        else:
            connection.close()

    def authenticate(self, connection: Any, scheme: str | None, data: bytes | None) -> AuthOutcome:
        return self.auth.authenticate(scheme, data, connection.identities)

    def converse(self, connection: Any) -> Conversation:
        return Conversation(self.auth.sasl, connection)

    def admits(self, identities: Identities) -> bool:
        return self.auth.admits(identities)

    def disconnected(self, connection: Any) -> None:
        self.lost.append(connection)


def conforms(server: FakeServer) -> ClientServer:
    """Let the type checker hold the fake to the protocol."""
    return server


class Client:
    """
    The other end.

    @ivar protocol: the server's end.
    """

    def __init__(self, server: FakeServer, host: str = "127.0.0.1", port: int = 5000) -> None:
        self.server = server
        address = IPv4Address("TCP", host, port)
        self.transport = StringTransport(peerAddress=address, lenient=True)
        self.protocol = server.factory.buildProtocol(address)
        self.protocol.makeConnection(self.transport)

    @classmethod
    def connected(cls, server: FakeServer, **kwargs: Any) -> Client:
        """A client that has its session."""
        client = cls(server, **kwargs)
        client.send(connect())
        client.take()
        server.touched = 0
        return client

    def send(self, *frames: bytes) -> None:
        """Let frames arrive in one piece."""
        self.protocol.dataReceived(b"".join(frames))

    def take(self) -> bytes:
        """What was sent to the client since the last call."""
        data: bytes = self.transport.value()
        self.transport.clear()
        return data

    def replies(self) -> list[tuple[int, int, int, bytes]]:
        """The same as xid, zxid, err and body."""
        return split(self.take())

    def xids(self) -> list[int]:
        """The same, only the xids."""
        return [xid for xid, _, _, _ in self.replies()]

    @property
    def closed(self) -> bool:
        return self.transport.disconnecting

    def lose(self) -> None:
        """The connection breaks."""
        self.protocol.connectionLost(Failure(ConnectionDone()))


def split(data: bytes) -> list[tuple[int, int, int, bytes]]:
    """Split replies."""
    found = []
    while data:
        (length,) = unpack_from(">i", data)
        xid, zxid, err = unpack_from(">iqi", data, 4)
        found.append((xid, zxid, err, data[20 : length + 4]))
        data = data[length + 4 :]
    return found


def reply(xid: int, zxid: int, body: bytes = b"", err: int = 0) -> bytes:
    """A reply's frame."""
    return frame(failure(xid, zxid, err)[4:] + body)


def connect(read_only: bool | None = False, session_id: int = 0, timeout: int = 10000) -> bytes:
    """A ConnectRequest's frame."""
    return frame(proto.encode_connect(proto.ConnectRequest(0, 0, timeout, session_id, bytes(16)), read_only))


def request(xid: int, op: int, body: bytes = b"") -> bytes:
    """A request's frame."""
    return frame(pack(">ii", xid, op) + body)


def auth(scheme: str, data: bytes | None, xid: int = -4) -> bytes:
    """An auth packet's frame."""
    return request(xid, ops.AUTH, jute.encode(proto.AuthPacket(0, scheme, data)))
