"""A server with clients in memory: a clock that stands still, connections without sockets, a disk that does as told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from random import Random
from struct import pack
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure

from zktwisted.config import ServerConfig
from zktwisted.edge.auth import AuthProviders
from zktwisted.edge.client import ClientFactory, ClientProtocol
from zktwisted.ops.fourletter import FourLetterWords
from zktwisted.server.core import STANDALONE_ID
from zktwisted.server.front import FrontServer
from zktwisted.server.metrics import ServerMetrics, ServerStats
from zktwisted.server.processors import ProcessorFactory
from zktwisted.server.view import ServerView
from zktwisted.store.database import Database, NullDatabase, Options, Restored, Storage
from zktwisted.testing.disk import MemoryDisk
from zktwisted.tree.schemes import Schemes, generate_digest
from zktwisted.wire import jute, ops, proto
from zktwisted.wire.proto import OPEN_ACL, ConnectRequest, ConnectResponse, ReplyHeader, Stat, WatcherEvent

#: The wall clock when the clock of a world stands at 0, ms.
EPOCH = 1_700_000_000_000


class Pipe(StringTransport):
    """
    A connection's transport.

    @ivar blocked: the peer does not read: what is written waits, and the protocol is told to pause.
    """

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.blocked = False
        self.aborted = False
        self.lost = False
        self.waiting = b""

    def write(self, data: bytes) -> None:
        if self.disconnecting:
            return
        if self.blocked:
            self.waiting += data
            if self.producer is not None:
                self.producer.pauseProducing()
        else:
            super().write(data)

    def unblock(self) -> None:
        """The peer has read all."""
        self.blocked = False
        data, self.waiting = self.waiting, b""
        super().write(data)
        if self.producer is not None:
            self.producer.resumeProducing()

    def resumeProducing(self) -> None:
        # As on a socket: whoever asks may not know yet that it is over.
        if not self.disconnecting:
            super().resumeProducing()

    def loseConnection(self) -> None:
        self.disconnecting = True

    def abortConnection(self) -> None:
        self.aborted = self.disconnecting = True


class World:
    """
    A server that is started, and its clients.

    @ivar failures: what the server was told to be fatal.
    """

    def __init__(
        self,
        disk: MemoryDisk | None = None,
        *,
        clock: Clock | None = None,
        config: ServerConfig | None = None,
        server_id: int = STANDALONE_ID,
        processors: Sequence[ProcessorFactory] = (),
        begin: Callable[[FrontServer], object] | None = FrontServer.open,
        **settings: Any,
    ) -> None:
        """@param begin: gives the server its role; C{None}: the test does."""
        self.clock = clock or Clock()
        self.config = config or ServerConfig(**{"tick_time": 2000, **settings})
        self.disk = disk
        storage: Storage = NullDatabase()
        if disk is not None:
            storage = Database(disk, disk, Options(pre_alloc_size_kib=0), Random(1))
        self.failures: list[Exception] = []
        metrics = ServerMetrics(Random(1))
        self.server = FrontServer(
            self.config,
            storage,
            monotonic=self.clock.seconds,
            wall_ms=self.wall_ms,
            call_later=self.clock.callLater,
            schemes=Schemes(),
            auth=AuthProviders.from_config(self.config, generate_digest, metrics),
            metrics=metrics,
            stats=ServerStats(),
            entropy=Random(1),
            fatal=self.failures.append,
            server_id=server_id,
            processors=processors,
        )
        self.factory = ClientFactory(self.server, self.wall_ms)
        self.server.words = FourLetterWords(
            ServerView(self.server, self.factory, lambda: 2181, self.clock.seconds, self.wall_ms, False), self.config
        )
        self.pipes: list[tuple[ClientProtocol, Pipe]] = []
        self.restored: Restored = storage.restore(self.server.restore_target())
        if disk is not None and self.restored.new:
            zxid, chunks, trailer = self.server.snapshot_image()
            for _ in storage.snapshot(zxid, chunks, trailer):
                pass
        self.removed = self.server.started(self.restored.zxid)
        if begin is not None:
            begin(self.server)

    def wall_ms(self) -> int:
        return EPOCH + int(self.clock.seconds() * 1000)

    def turn(self) -> None:
        """Let the reactor go round until nothing more happens by itself."""
        for _ in range(4):
            self.clock.advance(0)
            for protocol, pipe in self.pipes:
                if pipe.disconnecting and not pipe.lost:
                    pipe.lost = True
                    protocol.connectionLost(Failure(ConnectionDone()))

    def advance(self, seconds: float) -> None:
        """Let time pass, a tick at a time, and do what is regularly done."""
        while seconds > 0:
            step = min(seconds, 0.5)
            seconds -= step
            self.clock.advance(step)
            self.server.expire_sessions(self.clock.seconds() * 1000)
            self.factory.expire(self.clock.seconds())
            self.turn()

    def connect(self, host: str = "127.0.0.1") -> Client:
        """Open a connection, nothing more."""
        return Client(self, host)

    def client(self, timeout: int = 10_000, host: str = "127.0.0.1") -> Client:
        """Open a session."""
        client = self.connect(host)
        client.open(timeout)
        return client


class Client:
    """
    The other end of a connection.

    @ivar events: (type, path, zxid) of the notifications received.
    @ivar replies: (xid, zxid, err, body) of the replies, in the order of all that came.
    @ivar order: what came: C{"event"} or the xid of a reply.
    @ivar stream: (xid, zxid) of all that came.
    """

    def __init__(self, world: World, host: str) -> None:
        self.world = world
        self.pipe = Pipe(world)
        self.protocol = world.factory.buildProtocol(IPv4Address("TCP", host, 40000))
        world.pipes.append((self.protocol, self.pipe))
        self.protocol.makeConnection(self.pipe)
        self.session_id = 0
        self.password = bytes(16)
        self.timeout = 0
        self.xid = 0
        self.events: list[tuple[int, bytes, int]] = []
        self.replies: list[tuple[int, int, int, bytes]] = []
        self.order: list[object] = []
        self.stream: list[tuple[int, int]] = []
        self.greeted = False
        self._input = b""

    @property
    def closed(self) -> bool:
        """Whether the server has closed the connection."""
        return self.pipe.disconnecting

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.protocol.dataReceived(data)

    def drop(self) -> None:
        """Break the connection."""
        self.pipe.disconnecting = True
        self.world.turn()

    # Frames

    def connect_request(
        self, timeout: int = 10_000, session: int = 0, password: bytes = bytes(16), seen: int = 0, tail: bytes = b"\0"
    ) -> bytes:
        """Return the frame of a ConnectRequest."""
        return frame(jute.encode(ConnectRequest(0, seen, timeout, session, password)) + tail)

    def open(self, timeout: int = 10_000, session: int = 0, password: bytes = bytes(16), seen: int = 0) -> bool:
        """Open a session or resume one; tell whether it was granted."""
        self.send(self.connect_request(timeout, session, password, seen))
        self.world.turn()
        return self.greet()

    def greet(self) -> bool:
        """Take the ConnectResponse."""
        data = self._take()
        size = int.from_bytes(data[:4], "big")
        response, end = jute.decode(ConnectResponse, data, 4)
        assert end + 1 == 4 + size == 41 or end == 4 + size, (end, size)
        self._input = data[4 + size :]
        self.greeted = True
        self.session_id, self.timeout, self.password = response.session_id, response.timeout, response.passwd or b""
        return self.timeout > 0

    def _take(self) -> bytes:
        data = self._input + self.pipe.value()
        self.pipe.clear()
        return data

    def receive(self) -> list[tuple[int, int, int, bytes]]:
        """Take what came, and return the replies in it."""
        data = self._take()
        new = []
        while len(data) >= 4:
            size = int.from_bytes(data[:4], "big")
            if len(data) < 4 + size:
                break
            header, start = jute.decode(ReplyHeader, data, 4)
            body = data[start : 4 + size]
            self.stream.append((header.xid, header.zxid))
            if header.xid == -1:
                event = jute.decode(WatcherEvent, body)[0]
                self.events.append((event.type, event.path or b"", header.zxid))
                self.order.append("event")
            else:
                new.append((*header, body))
                self.order.append(header.xid)
            data = data[4 + size :]
        self._input = data
        self.replies += new
        return new

    # Requests

    def request(self, op: int, record: Any = b"", xid: int | None = None) -> bytes:
        """Return the frame of a request."""
        if xid is None:
            self.xid += 1
            xid = self.xid
        body = record if isinstance(record, bytes) else jute.encode(record)
        return frame(pack(">ii", xid, op) + body)

    def put(self, op: int, record: Any = b"", xid: int | None = None) -> None:
        """Send a request, and do not wait."""
        self.send(self.request(op, record, xid))

    def ask(self, op: int, record: Any = b"", xid: int | None = None) -> tuple[int, int, bytes]:
        """Send a request, let the server work, and return zxid, err and body of the one reply."""
        self.put(op, record, xid)
        self.world.turn()
        (reply,) = self.receive()
        assert reply[0] == (self.xid if xid is None else xid), reply
        return reply[1:]

    def err(self, op: int, record: Any = b"") -> int:
        """Ask, and return the code."""
        return self.ask(op, record)[1]

    def create(self, path: bytes, data: bytes = b"", acl: Any = OPEN_ACL, flags: int = 0) -> bytes:
        """Create a node, and return its path."""
        _, err, body = self.ask(ops.CREATE, proto.CreateRequest(path, data, acl, flags))
        assert err == 0, err
        made = jute.decode(proto.PathResponse, body)[0].path
        assert made is not None
        return made

    def get(self, path: bytes, watch: bool = False) -> bytes | None:
        """Return a node's data."""
        _, err, body = self.ask(ops.GET_DATA, proto.PathWatchRequest(path, watch))
        assert err == 0, err
        return jute.decode(proto.GetDataResponse, body)[0].data

    def exists(self, path: bytes, watch: bool = False) -> Stat | None:
        """Return a node's stat, C{None} without one."""
        _, err, body = self.ask(ops.EXISTS, proto.PathWatchRequest(path, watch))
        return jute.decode(Stat, body)[0] if err == 0 else None

    def set(self, path: bytes, data: bytes = b"") -> int:
        """Set a node's data, and return the zxid."""
        zxid, err, _ = self.ask(ops.SET_DATA, proto.SetDataRequest(path, data, -1))
        assert err == 0, err
        return zxid

    def delete(self, path: bytes) -> int:
        """Delete a node, and return the zxid."""
        zxid, err, _ = self.ask(ops.DELETE, proto.DeleteRequest(path, -1))
        assert err == 0, err
        return zxid

    def authenticate(self, data: bytes, scheme: str = "digest") -> None:
        """Add an identity."""
        assert self.ask(ops.AUTH, proto.AuthPacket(0, scheme, data), -4)[:2] == (0, 0)


def frame(payload: bytes) -> bytes:
    """Put a payload in a frame."""
    return pack(">i", len(payload)) + payload


def create(path: bytes, data: bytes = b"", flags: int = 0) -> proto.CreateRequest:
    return proto.CreateRequest(path, data, OPEN_ACL, flags)


def read(path: bytes, watch: bool = False) -> proto.PathWatchRequest:
    return proto.PathWatchRequest(path, watch)


def set_data(path: bytes, data: bytes = b"", version: int = -1) -> proto.SetDataRequest:
    return proto.SetDataRequest(path, data, version)


@contextmanager
def lines() -> Iterator[list[str]]:
    """Gather what is logged, as text."""
    texts: list[str] = []
    with capturedLogs() as events:
        yield texts
    texts += [formatEvent(event) for event in events]
