"""
One connection with one server: frames out, answers in the order of the requests.

All that a turn of the reactor asks for leaves in one write, and all that comes in one piece is decoded before anything
is sent again; what somebody asks for when he gets an answer leaves with the rest.  Events and answers are told in the
order in which the server sent them.  The connection sends pings and gives up a server that is silent.

It knows frames, xids and silence; it refuses to know sessions, other servers, and what comes after it.

Rules: spec: client-protocol 2, 3.2, 7.1, 8.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from socket import socket
from struct import Struct
from typing import Any, Protocol

from twisted.internet import tcp
from twisted.internet.interfaces import IDelayedCall, IProtocol, IPushProducer, IReactorTime, ITCPTransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from zktwisted.client import answers
from zktwisted.client.line import Line
from zktwisted.client.login import Login, SaslError
from zktwisted.errors import Code, ProtocolError, keeper_error
from zktwisted.wire import jute, ops, proto
from zktwisted.wire.frames import FRAME, frame

__all__ = ["Connection", "Owner"]

log = Logger()

MAX_ANSWER = 256 * 1024 * 1024
"""Bytes: no server sends more in a frame, and one that says so speaks another protocol."""

_GREETING_MAX = 4096
"""Bytes of a frame before there are requests."""

_SILENT_TICKS, _IDLE_TICKS, _TICKS = 4, 2, 6
"""Sixths of the session timeout: without a byte from the server it is given up; without one from us a ping is sent."""

_LOGIN_XID = 1
_token = answers.record(proto.SASLToken)
_PING = FRAME.pack(8, ops.XID_PING, ops.PING)
_unpack_int = Struct(">i").unpack_from
_unpack_header = Struct(">iqi").unpack_from


class Owner(Protocol):
    """
    Whose connection it is: a session.

    @ivar line: the requests.
    @ivar answered_zxid: the newest zxid of any answer to a request.
    @ivar told_zxid: the newest zxid of anything else that a server said.
    """

    line: Line
    answered_zxid: int
    told_zxid: int

    def opening(self, connection: Connection) -> tuple[proto.ConnectRequest, bool, float]:
        """Tell what to ask for: the request, its read-only byte, and how many seconds the answer may take."""

    def opened(self, connection: Connection, response: proto.ConnectResponse, read_only: bool) -> bool:
        """The server has answered; return whether there is a session."""

    def login(self) -> Login | None:
        """Tell how to log in; C{None}: not at all."""

    def entered(self, connection: Connection) -> None:
        """It is the session's connection from now on: requests are sent on it."""

    def refused(self, why: str) -> None:
        """The login has failed."""

    def fire(self, event: proto.WatcherEvent, zxid: int) -> None:
        """A watch was triggered."""

    def lost(self, connection: Connection, reason: Failure) -> None:
        """The connection is over; nothing more comes of it."""


@implementer(IProtocol, IPushProducer)
class Connection:
    """
    One connection.

    @ivar open: whether requests are sent on it.
    @ivar lasted: whether it lived for longer than a moment.
    """

    def __init__(self, owner: Owner, clock: IReactorTime) -> None:
        self._owner = owner
        self._line = owner.line
        self._clock = clock
        self.open = self.lasted = False
        self._over = False
        self.transport: Any = None
        self._plain: tcp.Connection | None = None
        self._socket: socket | None = None
        self._paused = False
        self._flush_due = False
        self._flush_call: IDelayedCall | None = None
        self._timer: IDelayedCall | None = None
        self._tick = 0.0
        self._heard = self._spoken = False
        self._silent = self._idle = 0
        self._raw: list[bytes] = []
        self._have = self._need = 0
        self._identities: deque[Callable[[int], object]] = deque()
        self._login: Login | None = None

    # -- coming and going

    def makeConnection(self, transport: Any) -> None:
        """See C{IProtocol}."""
        self.transport = transport
        if isinstance(transport, tcp.Connection) and not transport.TLS:
            self._plain = transport
            self._socket = transport.socket
        if ITCPTransport.providedBy(transport):
            transport.setTcpNoDelay(True)
        transport.registerProducer(self, True)
        self.connectionMade()

    def connectionMade(self) -> None:
        """See C{IProtocol}: ask for the session."""
        request, read_only, timeout = self._owner.opening(self)
        self._timer = self._clock.callLater(timeout, self.abort, "no answer to the request for a session")
        self._send(frame(proto.encode_connect(request, read_only)))

    def connectionLost(self, reason: Failure) -> None:
        """See C{IProtocol}."""
        self._end(reason)
        self._plain = self._socket = self.transport = None

    def abort(self, why: str) -> None:
        """End the connection now; the session hears of it before this returns."""
        if not self._over:
            self._end(Failure(keeper_error(Code.CONNECTIONLOSS, why)))
            self.transport.abortConnection()

    def _end(self, reason: Failure) -> None:
        if self._over:
            return
        self._over = True
        self.open = False
        for call in (self._timer, self._flush_call):
            if call is not None and call.active():
                call.cancel()
        if self.transport is not None:
            self.transport.unregisterProducer()
        self._owner.lost(self, reason)

    # -- time

    def _begin_ticks(self, timeout_ms: int) -> None:
        self._tick = max(timeout_ms / 1000 / _TICKS, 0.001)
        self._timer = self._clock.callLater(self._tick, self._ticked)

    def _ticked(self) -> None:
        """A sixth of the session timeout has passed."""
        self.lasted = True
        self._silent = 0 if self._heard else self._silent + 1
        self._idle = 0 if self._spoken else self._idle + 1
        self._heard = self._spoken = False
        if self._silent >= _SILENT_TICKS:
            self.abort(f"nothing came for {self._silent * self._tick:.1f} seconds")
            return
        self._timer = self._clock.callLater(self._tick, self._ticked)
        if self._idle >= _IDLE_TICKS:
            self._idle = 0
            self._send(_PING)

    # -- output

    def wake(self) -> None:
        """There is something to be sent: at the end of this turn."""
        if not self._flush_due:
            self._flush_due = True
            self._flush_call = self._clock.callLater(0, self.flush)

    def flush(self) -> None:
        """Send all that may be sent."""
        self._flush_due = False
        line = self._line
        while line.waiting and self.open and not self._paused:
            data = line.take()
            if not data:
                break
            self._send(data)

    def first(self, frames: list[bytes]) -> None:
        """Send what must be with the server before any request: identities and watches."""
        if frames:
            self._send(b"".join(frames))

    def authenticate(self, packet: bytes, answered: Callable[[int], object]) -> None:
        """
        Send an auth packet.

        @param answered: is called with the code of the answer.
        """
        self._identities.append(answered)
        self._send(FRAME.pack(len(packet) + 8, ops.XID_AUTH, ops.AUTH) + packet)

    def _send(self, data: bytes) -> None:
        """Send at once what the socket takes; leave the rest, or all, to the transport."""
        self._spoken = True
        plain = self._plain
        # Names of Twisted's own: nothing may overtake what its buffers hold.  For one request at a time it saves a
        # turn of the reactor, and two changes of what it waits for.
        if plain is not None and not plain.dataBuffer and not plain._tempDataBuffer:
            try:
                sent = self._socket.send(data)  # type: ignore[union-attr]
            except OSError:
                # Full, or broken: the transport finds out which, and does what is to be done.
                sent = 0
            if sent == len(data):
                return
            data = data[sent:]
        self.transport.write(data)

    def pauseProducing(self) -> None:
        """See C{IPushProducer}: the transport has enough."""
        self._paused = True

    def resumeProducing(self) -> None:
        """See C{IPushProducer}."""
        self._paused = False
        self.flush()

    def stopProducing(self) -> None:
        """See C{IPushProducer}: C{connectionLost} follows."""

    # -- input

    def dataReceived(self, data: bytes) -> None:
        """See C{IProtocol}: decode what is whole in it, tell everybody, send what they ask for next."""
        if self._over:
            return
        self._heard = True
        if self._raw:
            self._raw.append(data)
            self._have += len(data)
            if self._have < self._need:
                return
            data = b"".join(self._raw)
            self._raw.clear()
        self._flush_due = True  # this turn's end is here
        try:
            at = self._read(data) if self.open else self._logging_in(data) if self._login else self._greeted(data)
        except ProtocolError as error:
            log.warn("The server does not speak ZooKeeper's protocol: {error}", error=error)
            self.abort(f"the server broke the protocol: {error}")
        else:
            self._received(data, at)

    def _received(self, data: bytes, at: int) -> None:
        """All whole frames in C{data} were told; keep the rest, and end this turn."""
        if self._over:
            return
        if at < len(data):
            self._raw.append(data[at:] if at else data)
            self._have = len(data) - at
            self._need = 4 + _unpack_int(data, at)[0] if self._have >= 4 else 4
        self._line.moved()
        call = self._flush_call
        if call is not None and call.active():
            call.cancel()
        self.flush()

    def _greeted(self, data: bytes) -> int:
        """The first frame: the server's answer to the request for a session."""
        if len(data) < 4:
            return 0
        end = 4 + _unpack_int(data, 0)[0]
        if not 4 <= end <= _GREETING_MAX:
            raise ProtocolError(f"it begins with {data[:8]!r}")
        if len(data) < end:
            return 0
        response, at = jute.decode(proto.ConnectResponse, data[:end], 4)
        read_only = at < end and data[at] != 0
        assert self._timer is not None
        self._timer.cancel()
        self._begin_ticks(max(response.timeout, 1))
        if not self._owner.opened(self, response, read_only):
            return len(data)
        self._login = self._owner.login()
        if self._login is None:
            return self._enter(data, end)
        self._say(b"")
        return self._logging_in(data, end)

    def _enter(self, data: bytes, at: int) -> int:
        # While the owner takes it over, nothing is sent but what it sends itself.
        self._owner.entered(self)
        if self._over:
            return len(data)
        self.open = True
        return self._read(data, at)

    def _say(self, token: bytes) -> None:
        """Send a token; no request is under way that could be taken for it."""
        body = jute.encode(proto.SASLToken(token))
        self._send(FRAME.pack(len(body) + 8, _LOGIN_XID, ops.SASL) + body)

    def _logging_in(self, data: bytes, at: int = 0) -> int:
        """Read the frames of a login, and after it all others; return where the rest begins."""
        assert self._login is not None
        while len(data) - at >= 4:
            length = _unpack_int(data, at)[0]
            if not 16 <= length <= _GREETING_MAX:
                raise ProtocolError(f"a frame of {length} bytes while logging in")
            end = at + 4 + length
            if end > len(data):
                break
            xid, _zxid, err = _unpack_header(data, at + 4)
            if xid != ops.XID_PING:
                if xid != _LOGIN_XID:
                    raise ProtocolError(f"an answer with xid {xid} while logging in")
                token = None if err else _token(data, at + 20, end).token
                try:
                    answer = self._login.answer(err, token)
                except SaslError as error:
                    self._owner.refused(str(error))
                    return len(data)
                if answer is None:
                    self._login = None
                    return self._enter(data, end)
                self._say(answer)
            at = end
        return at

    def _read(self, data: bytes, at: int = 0) -> int:
        """Tell whoever it concerns of each frame that is whole; return where the rest begins."""
        size = len(data)
        owner = self._owner
        under_way = self._line.under_way
        while size - at >= 20:
            length = _unpack_int(data, at)[0]
            end = at + 4 + length
            if end > size:
                if length > MAX_ANSWER:
                    raise ProtocolError(f"a frame of {length} bytes")
                return at
            if length < 16:
                raise ProtocolError(f"a frame of {length} bytes")
            xid, zxid, err = _unpack_header(data, at + 4)
            if xid > 0:
                if zxid > owner.answered_zxid:
                    owner.answered_zxid = zxid
                if not under_way or under_way[0][0] != xid:
                    raise ProtocolError(f"an answer to request {xid}, which is not the next")
                entry = under_way[0]
                value = None if err else entry[2](data, at + 20, end)
                under_way.popleft()
                if entry[4] is not None:
                    entry[4](err, not entry[1].called)
                if err:
                    self._refused(err, entry[1], entry[2], entry[3])
                elif not entry[1].called:
                    entry[1].callback(value)
            else:
                if zxid > owner.told_zxid:
                    owner.told_zxid = zxid
                self._special(xid, zxid, err, data, at + 20, end)
            if self._over:
                return size
            at = end
        if size - at >= 4 and not 16 <= _unpack_int(data, at)[0] <= MAX_ANSWER:
            raise ProtocolError(f"a frame of {_unpack_int(data, at)[0]} bytes")
        return at

    def _refused(self, err: int, answer: Any, decode: answers.Decoder, path: str | None) -> None:
        if answer.called:
            return
        if err == Code.NONODE and decode is answers.stat_or_none:
            answer.callback(None)
        else:
            answer.errback(keeper_error(err, path))

    def _special(self, xid: int, zxid: int, err: int, data: bytes, at: int, end: int) -> None:
        """What is no answer to a request."""
        if xid == ops.XID_NOTIFICATION:
            event, behind = jute.decode(proto.WatcherEvent, data, at)
            if behind > end:
                raise ProtocolError("an event longer than its frame")
            self._owner.fire(event, zxid)
        elif xid == ops.XID_AUTH:
            if not self._identities:
                raise ProtocolError("an answer to no auth packet")
            self._identities.popleft()(err)
        elif xid == ops.XID_SET_WATCHES:
            if err:
                self.abort(f"the watches could not be set again: error {err}")
        elif xid != ops.XID_PING:
            raise ProtocolError(f"an answer with xid {xid}")
