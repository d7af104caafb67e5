"""
A client on a connection in memory: requests go in as records, answers are there to be looked at.

Give L{MemoryEndpoint} to a L{zktwisted.server.service.ZooKeeperService} as its client endpoint, with a
C{twisted.internet.task.Clock} as its reactor, and nothing happens but what the test lets happen.  What a client asks is
with the server when L{MemoryClient.send} returns; what the server answers is in L{MemoryClient.replies} at once, and
the end of a connection is told in the clock's next turn.

This module knows frames.  It does not reconnect, and keeps no watches and no session alive.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamServerEndpoint,
    ITransport,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from zktwisted.wire import jute, ops, proto
from zktwisted.wire.frames import FRAME, frame

__all__ = ["MemoryClient", "MemoryEndpoint", "MemoryPort", "Reply"]

_SERVER = IPv4Address("TCP", "127.0.0.1", 2181)


class Reply(NamedTuple):
    """
    One answer.

    @ivar op: the operation that was asked for; -1 for an event.
    @ivar body: what follows the header, undecoded.
    """

    xid: int
    op: int
    zxid: int
    err: int
    body: bytes

    def decode(self) -> Any:
        """Return the body as a record of its operation; C{None} where there is none."""
        if self.op == ops.MULTI and not self.err:
            return proto.decode_multi_response(self.body, 0)
        record = proto.WatcherEvent if self.xid == -1 else proto.REPLIES.get(self.op)
        return None if self.err or record is None else jute.decode(record, self.body)[0]


@implementer(IListeningPort)
class MemoryPort:
    """What a L{MemoryEndpoint} that is listened on gives."""

    def __init__(self, endpoint: MemoryEndpoint) -> None:
        self._endpoint = endpoint

    def startListening(self) -> None:
        """See C{IListeningPort}: it listens from the beginning."""

    def stopListening(self) -> Deferred[None]:
        """See C{IListeningPort}."""
        self._endpoint.factory = None
        return succeed(None)

    def getHost(self) -> IAddress:
        """See C{IListeningPort}."""
        return _SERVER


@implementer(IStreamServerEndpoint)
class MemoryEndpoint:
    """
    Where clients in memory connect to a server.

    @ivar factory: the server's; C{None} while nobody listens.
    """

    def __init__(self, clock: IReactorTime) -> None:
        """@param clock: tells the end of connections, in its next turn."""
        self.clock = clock
        self.factory: IProtocolFactory | None = None
        self._connections = 0

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """See C{IStreamServerEndpoint}."""
        self.factory = protocolFactory
        port: IListeningPort = MemoryPort(self)
        return succeed(port)

    def connect(self, timeout_ms: int = 10_000, session: MemoryClient | None = None) -> MemoryClient:
        """
        Connect, and ask for a session.

        @param session: go on with the session of this client instead of opening one.
        @raise ConnectionDone: nobody listens.
        """
        if self.factory is None:
            raise ConnectionDone("nobody listens")
        self._connections += 1
        protocol = self.factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 10_000 + self._connections))
        assert protocol is not None
        client = MemoryClient(self.clock, protocol)
        client.ask_for_session(timeout_ms, session)
        return client


@implementer(ITransport)
class MemoryClient:
    """
    A client; to the server it is the transport.

    @ivar session_id: of its session, 0 before it has one.
    @ivar password: of its session.
    @ivar timeout_ms: as negotiated.
    @ivar refused: whether the session that it asked for is none.
    @ivar closed: whether the connection is over.
    @ivar replies: the answers, in order of arrival.
    @ivar events: what watches told; L{Reply.decode} gives C{WatcherEvent}s.
    @ivar sent: C{(xid, op)} of the requests that wait for an answer, oldest first.
    @ivar last_zxid: the newest that any answer had.
    """

    disconnecting = False

    def __init__(self, clock: IReactorTime, protocol: IProtocol) -> None:
        """@param protocol: the server's end."""
        self._clock = clock
        self._protocol = protocol
        self.session_id = 0
        self.password = bytes(16)
        self.timeout_ms = 0
        self.refused = self.closed = False
        self.replies: list[Reply] = []
        self.events: list[Reply] = []
        self.sent: list[tuple[int, int]] = []
        self.last_zxid = 0
        self._xid = 0
        self._reading = True
        self._connected = False
        self._unread: list[bytes] = []
        self._received = b""
        protocol.makeConnection(self)

    # -- the client's side

    def ask_for_session(self, timeout_ms: int, session: MemoryClient | None = None) -> None:
        """Send the ConnectRequest: the first that a connection needs."""
        seen, session_id, password = 0, 0, bytes(16)
        if session is not None:
            seen, session_id, password = session.last_zxid, session.session_id, session.password
        request = proto.ConnectRequest(0, seen, timeout_ms, session_id, password)
        self._deliver(frame(proto.encode_connect(request, False)))

    def send(self, op: int, request: Any = None, *, xid: int | None = None) -> int:
        """
        Send a request.

        @param request: the record of its body; for a multi, C{(op, record)} pairs; C{None} for none.
        @return: its xid.
        """
        if xid is None:
            self._xid += 1
            xid = self._xid
        body = b""
        if op == ops.MULTI:
            body = proto.encode_multi(request)
        elif request is not None:
            body = jute.encode(request)
        self.sent.append((xid, op))
        self._deliver(FRAME.pack(8 + len(body), xid, op) + body)
        return xid

    def disconnect(self) -> None:
        """End the connection; the session lives on."""
        if not self.closed:
            self.loseConnection()

    def _deliver(self, data: bytes) -> None:
        if self.closed:
            return
        if self._reading and not self._unread:
            self._protocol.dataReceived(data)
        else:
            self._unread.append(data)

    # -- the server's side: its transport

    def write(self, data: bytes) -> None:
        """See C{ITransport}: take answers."""
        self._received += data
        while len(self._received) >= 4:
            end = 4 + int.from_bytes(self._received[:4], "big")
            if len(self._received) < end:
                return
            answer, self._received = self._received[4:end], self._received[end:]
            if self._connected:
                self._answered(answer)
            else:
                self._accepted(answer)

    def _accepted(self, answer: bytes) -> None:
        response, _ = jute.decode(proto.ConnectResponse, answer)
        self._connected = True
        self.timeout_ms, self.session_id = response.timeout, response.session_id
        self.password = response.passwd or b""
        self.refused = self.session_id == 0

    def _answered(self, answer: bytes) -> None:
        header, at = jute.decode(proto.ReplyHeader, answer)
        op = -1
        if header.xid != -1:
            expected, op = self.sent.pop(0)
            if expected != header.xid:
                raise AssertionError(f"an answer to request {header.xid} where that to {expected} was due")
        reply = Reply(header.xid, op, header.zxid, header.err, answer[at:])
        self.last_zxid = max(self.last_zxid, header.zxid)
        (self.events if header.xid == -1 else self.replies).append(reply)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """See C{ITransport}."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """See C{ITransport}: nothing more is taken or given, and both ends hear of it."""
        if not self.closed:
            self.closed = True
            self._clock.callLater(0, self._protocol.connectionLost, Failure(ConnectionDone()))

    def abortConnection(self) -> None:
        """See C{ITCPTransport}."""
        self.loseConnection()

    def pauseProducing(self) -> None:
        """See C{IPushProducer}."""
        self._reading = False

    def resumeProducing(self) -> None:
        """See C{IPushProducer}: what was not read waits for the next turn."""
        if not self._reading:
            self._reading = True
            self._clock.callLater(0, self._go_on)

    def _go_on(self) -> None:
        while self._unread and self._reading and not self.closed:
            self._protocol.dataReceived(self._unread.pop(0))

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """See C{IConsumer}: the client takes everything at once, so no producer is ever paused."""

    def unregisterProducer(self) -> None:
        """See C{IConsumer}."""

    def getPeer(self) -> IAddress:
        """See C{ITransport}."""
        return _SERVER

    def getHost(self) -> IAddress:
        """See C{ITransport}."""
        return _SERVER
