"""
A client's connection: bytes to requests, answers in the order of the requests.

Reads are answered where they stand in the input, as long as nothing older waits for its answer; everything else
becomes a L{Request} and waits in line.  All that one piece of input causes is sent in one write.  This module
knows frames, order, limits and closing; it refuses to know what a request means, which the server
(L{zktwisted.edge.requests.ClientServer}) answers.

Rules: spec: client-protocol 2, 5.1, 7, 8, 9, 10.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IProtocol, IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import classImplements

from zktwisted.edge.auth import AuthOutcome
from zktwisted.edge.connection import (
    CLOSED,
    CONNECTING,
    ENDING,
    HOLD_CONNECT,
    HOLD_OUTPUT,
    HOLD_OUTSTANDING,
    HOLD_SERVER,
    NEW,
    OPEN,
    Connection,
    cxid_and_zxid,
)
from zktwisted.edge.requests import KNOWN_OPS, LOCAL_OPS, SUBMITTED_OPS, Request
from zktwisted.errors import Code, ProtocolError
from zktwisted.wire import jute, ops, proto
from zktwisted.wire.frames import FRAME, WORDS, failure, frame, stranger

if TYPE_CHECKING:
    from zktwisted.edge.client import ClientFactory

__all__ = ["ClientProtocol"]

log = Logger()

NOTHING: frozenset[int] = frozenset()

MAX_TURN = 256 * 1024
"""Bytes of replies after which they are sent, and the client has to take them before more is answered."""

_unpack = FRAME.unpack_from


class ClientProtocol(Connection):
    """
    One client's connection: the incoming half.

    @ivar factory: who made it.
    """

    __slots__ = (
        "_bucket",
        "_direct",
        "_have",
        "_kept",
        "_large",
        "_need",
        "_pending",
        "_raw",
        "_read_only",
        "_since",
        "factory",
    )

    def __init__(self, factory: ClientFactory, host: str | None, port: int) -> None:
        """
        @param factory: who made it.
        @param host: the peer's address; C{None}: a socket without addresses.
        @param port: the peer's port.
        """
        super().__init__(factory.server, host, port, factory.wall_ms)
        self.factory = factory
        self._pending: list[Request] = []
        self._raw: list[bytes] = []  # input that is not yet a whole frame, or is held back
        self._have = 0  # its bytes
        self._need = 0  # how many are worth another look
        self._kept = False  # whether it is held back
        self._large = 0  # the length of the frame that _raw begins, if it counts as large
        self._direct = NOTHING  # the operations that may be answered in place
        self._read_only: bool | None = None
        self._since = 0.0
        self._bucket = -1

    # Coming and going.

    def connectionMade(self) -> None:
        """See C{IProtocol}: count the connection, or refuse it."""
        server = self._server
        refusal = server.counts.refusal(self.address)
        if refusal is not None:
            log.info("{refusal}", refusal=refusal)
            server.metrics.connection_rejected += 1
            self._bucket = -2
            self._lose()
            return
        server.connections[self] = None
        self._heard(server.now(), self.factory.expiry.sessionless_timeout_ms)

    def connectionLost(self, reason: Failure) -> None:
        """See C{IProtocol}."""
        if self._bucket == -2:
            self._lost()
            return
        server = self._server
        self.factory.expiry.forget(self)
        server.counts.release(self.address)
        server.connections.pop(self, None)
        if self.state < ENDING:
            server.metrics.connection_drop_count += 1
        pending = self._pending
        large = self._large + sum(request.large for request in pending)
        if large:
            server.large_requests.bytes -= large
        resumed = server.outstanding.gone(self, len(pending))
        if self.factory.throttled:
            server.throttler.finished(sum(request.admitted for request in pending))
        pending.clear()
        self._raw.clear()
        self._lost()
        server.disconnected(self)
        for connection in resumed:
            connection.proceed()
            connection.flush()

    def _heard(self, now: float, timeout_ms: int) -> None:
        """Give the connection its time anew.  Most calls find it in the right bucket already."""
        expiry = self.factory.expiry
        bucket = (int(now * 1000) + timeout_ms) // expiry.interval_ms
        if bucket != self._bucket:
            self._bucket = bucket
            expiry.touch(self, timeout_ms, now)

    # Input.

    def dataReceived(self, data: bytes) -> None:
        """See C{IProtocol}: serve what is whole in it, keep the rest, send all answers at once."""
        self._take(data)
        if self._server.dirty:  # room was made for others
            self._server.flush_dirty()

    def _take(self, data: bytes) -> None:
        if self.hold or self._raw:
            raw = self._raw
            raw.append(data)
            self._have += len(data)
            if self.hold:
                # One piece more than necessary is taken, so that short waits cost no call of the kernel.
                self._kept = True
                self._pause_reading()
                return
            if self._have < self._need:
                return
            data = b"".join(raw)
            raw.clear()
        self._dirty = True  # this turn's end is here: nobody else need flush
        if self.state == OPEN:
            self._serve(data)
        elif self.state == NEW and self._is_welcome():
            self._begin(data)
        self.flush()

    def flush(self) -> None:
        """Send all that is queued in one write, and go on with input that was held back."""
        self._dirty = False
        if self.out and not self.hold & HOLD_OUTPUT:
            self._push()
        if self._kept and not self.hold:
            self._kept, self._need = False, 0
            self._resume_reading()
            self._take(b"")

    def resumeProducing(self) -> None:
        """All that was waiting has been sent."""
        self.hold &= ~HOLD_OUTPUT
        if self.state != CLOSED:
            if self._pending:
                self.settled()
            self.flush()
            if self._server.dirty:  # room was made for others
                self._server.flush_dirty()

    def proceed(self) -> None:
        """The server has room again (C{globalOutstandingLimit}): L{flush} will go on with the input."""
        self.hold &= ~HOLD_OUTSTANDING

    def _keep(self, data: bytes, need: int) -> None:
        """
        Keep the beginning of a frame, or input that is held back.

        @param need: as many bytes, these included, are worth another look.
        """
        if data:
            self._raw.append(data)
            self._have = len(data)
            self._need = need
            if self.hold:
                self._kept = True

    def _begin(self, data: bytes) -> None:
        """The first bytes of a connection: a four-letter word, a ConnectRequest, or neither."""
        if len(data) < 4:
            self._keep(data, 4)
            return
        server = self._server
        words = server.words
        if words is not None and data[:4] in WORDS:
            need = words.length(data[:4])
            if len(data) < need:
                self._keep(data, need)
                return
            self.state = ENDING
            self.packets_received += 1
            text = words.answer(data[:4], data[4:need], self.remote_address)
            if text:
                self._send(text)
            self._lose()
            return
        length = int.from_bytes(data[:4], "big", signed=True)
        if not 0 <= length <= self.factory.max_frame:
            self.close(stranger(data))
            return
        if not server.serving:
            server.metrics.cnxn_closed_without_zk_server_running += 1
            self.close()
            return
        stop = length + 4
        if len(data) < stop:
            self._keep(data, stop)
            return
        try:
            request, read_only = proto.decode_connect(data[4:stop])
        except ProtocolError as error:
            self.close(f"its ConnectRequest cannot be read: {error}")
            return
        self.packets_received += 1
        server.stats.packets_received += 1
        server.metrics.bytes_received_count += stop
        self._connect(request, read_only)
        self._keep(data[stop:], 0)
        if self._raw and not self.hold:
            self._kept = True  # accepted at once: flush goes on

    def _connect(self, request: proto.ConnectRequest, read_only: bool | None) -> None:
        server = self._server
        throttle = server.connection_throttle
        now = server.now()
        if not throttle.admits(now, renew=request.session_id != 0):
            self.close("sessions are asked for faster than connection_throttle allows")
            return
        server.metrics.connection_token_deficit.add(throttle.deficit)
        server.metrics.connection_request_count += 1
        self.state = CONNECTING
        self.hold |= HOLD_CONNECT
        self._read_only = read_only
        self._since = now
        server.connect(self, request, read_only)

    def accept(self, session_id: int, timeout_ms: int, password: bytes, read_only_server: bool = False) -> None:
        """
        Tell the client that it has its session, and go on with its input.

        @param session_id: the session.
        @param timeout_ms: as negotiated.
        @param password: 16 bytes.
        @param read_only_server: told to clients that know of read-only servers.
        """
        if self.state != CONNECTING:
            return
        self.state = OPEN
        self.session_id = session_id
        self.session_timeout_ms = timeout_ms
        now = self._server.now()
        ms = max(int((now - self._since) * 1000), 0)
        self._answered(ops.CREATE_SESSION, -1, self._server.last_zxid, now, ms)
        self._respond(timeout_ms, session_id, password, read_only_server)
        self._heard(now, timeout_ms)
        self._choose()
        self.hold &= ~HOLD_CONNECT
        self.mark()

    def refuse(self, read_only_server: bool = False) -> None:
        """Tell the client that its session is none (any more), and close."""
        if self.state == CONNECTING:
            self._respond(0, 0, bytes(16), read_only_server)
            self.close_after_flush()

    def _respond(self, timeout_ms: int, session_id: int, password: bytes, read_only: bool) -> None:
        response = proto.ConnectResponse(0, timeout_ms, session_id, password)
        mirrored = None if self._read_only is None else read_only
        self.out.append(frame(proto.encode_connect(response, mirrored)))

    def _choose(self) -> None:
        """Find out which operations may be answered in place."""
        factory = self.factory
        barred = factory.throttled or (factory.enforced and not self._server.admits(self.identities))
        self._direct = NOTHING if barred else LOCAL_OPS

    def _serve(self, buf: bytes) -> None:
        """Serve the whole frames in C{buf}, keep the rest."""
        server = self._server
        if not server.serving:
            self.hold |= HOLD_SERVER
            self._keep(buf, 0)
            return
        answer, park = server.answer, self._park
        run: list[Request] = []
        limit = self.factory.usual_frame
        direct, identities = self._direct, self.identities.current
        pending, push = self._pending, self.out.append
        end = len(buf)
        position = reads = others = taken = size = last = 0
        now = server.now()
        need = 12
        while end - position >= 12:
            length, xid, op = _unpack(buf, position)
            stop = position + 4 + length
            if 8 <= length <= limit:
                if stop > end:
                    need = 4 + length
                    break
                if op in direct and not pending:
                    reply = answer(self, identities, xid, op, buf, position + 12, stop)
                    push(reply)
                    size += len(reply)
                    reads += 1
                    last = op
                    position = stop
                    if size > MAX_TURN:
                        self._served(reads, last, size, reply, now)
                        reads = size = 0
                        others += 1
                        self._push()
                        if self.hold:
                            break
                    continue
            if reads:
                self._served(reads, last, size, reply, now)
                reads = size = 0
                others += 1
            if not 8 <= length <= limit:
                self._hand_on(run)
                if not self._admits(length, xid, op):
                    break
                if stop > end:
                    need = 4 + length
                    break
            position_of_body, position = position + 12, stop
            taken += 1
            if direct and op in KNOWN_OPS:
                others += 1
                take = run.append if op in SUBMITTED_OPS else park
                if not self._submit(xid, op, buf[position_of_body:stop], now, take):
                    break
                continue
            others += op != ops.AUTH and op != ops.SASL
            self._hand_on(run)
            if not self._receive(xid, op, buf, position_of_body, stop, now):
                break
            direct, identities = self._direct, self.identities.current
        if reads:
            self._served(reads, last, size, reply, now)
            others = 1
        if taken:
            self.packets_received += taken
            server.stats.packets_received += taken
        self._consumed(buf, position, need, others, now)
        self._hand_on(run)

    def _hand_on(self, run: list[Request]) -> None:
        """Submit what already waits in line."""
        if len(run) == 1:
            self._server.submit(run.pop())
        elif run:
            self._server.submit_run(run)
            run.clear()

    def _consumed(self, buf: bytes, position: int, need: int, requests: int, now: float) -> None:
        """The end of a piece of input: note what was served, keep the rest."""
        server = self._server
        server.metrics.bytes_received_count += position
        state = self.state
        if requests and state < CLOSED:
            self._heard(now, self.session_timeout_ms)
            server.touch(self)
        if position < len(buf) and state == OPEN:
            rest = buf[position:]
            if len(rest) < 4:
                need = 4
            elif need == 12 and not self.hold:
                length = int.from_bytes(rest[:4], "big", signed=True)
                if not 8 <= length <= self.factory.max_frame:
                    self._admits(length, None, None)
                    return
            self._keep(rest, need)

    def _served(self, count: int, op: int, size: int, reply: bytes, now: float) -> None:
        """Note that so many requests were read and answered in place, the last of them with this reply."""
        server = self._server
        stats, metrics = server.stats, server.metrics
        self.packets_received += count
        stats.packets_received += count
        metrics.response_bytes += size - 4 * count
        metrics.readlatency.add(0, count)
        sizes = stats.client_response
        if count > 1:
            lengths = [len(one) for one in self.out[-count:]]
            sizes.add(min(lengths) - 4)
            sizes.add(max(lengths) - 4)
        sizes.add(len(reply) - 4)
        cxid, zxid = cxid_and_zxid(reply, 4)
        self._answered(op, cxid, zxid, now, 0, count)

    def _admits(self, length: int, xid: int | None, op: int | None) -> bool:
        """Judge the length of a frame that is none of the usual ones; if it is refused the connection is closed."""
        limit = self.factory.max_frame
        if 8 <= length <= limit:
            large = self._server.large_requests
            if not large.is_large(length) or self._large == length or large.admits(length):
                self._large = length if large.is_large(length) else 0
                return True
            self._server.metrics.large_requests_rejected += 1
            self._violated(f"its request (op {op}) of {length} bytes is one too many of largeRequestMaxBytes")
        elif 0 <= length < 8:
            self._violated(f"a frame of {length} bytes is too short for a request")
        else:
            operation = "unreadable operation" if op is None else f"op {op}, xid {xid}"
            self._violated(f"a frame of {length} bytes ({operation}); jute.maxbuffer allows {limit}")
        return False

    # Requests that are not answered in place.

    def _receive(self, xid: int, op: int, buf: bytes, start: int, end: int, now: float) -> bool:
        """Take in one request; C{False}: read no further for now."""
        server = self._server
        if op == ops.AUTH or op == ops.SASL:
            server.large_requests.bytes -= self._large
            self._large = 0
            answer = self._authenticate if op == ops.AUTH else self._sasl
            return answer(xid, buf, start, end)
        if self._direct is NOTHING and self.factory.enforced and not server.admits(self.identities):
            self._refuse(xid, Code.SESSIONCLOSEDREQUIRESASLAUTH)
            return False
        if op not in KNOWN_OPS:
            return self._submit(xid, op, b"", now, self._unknown)
        take = self._throttle if self.factory.throttled else server.submit if op in SUBMITTED_OPS else self._park
        return self._submit(xid, op, buf[start:end], now, take)

    def _submit(self, xid: int, op: int, body: bytes, now: float, take: Callable[[Request], None]) -> bool:
        """Line up a request and hand it on to C{take}; C{False}: read no further for now."""
        request = Request(self, self.session_id, xid, op, body, self.identities.current, now, self.session_timeout_ms)
        if self._large:
            request.large, self._large = self._large, 0
        self._pending.append(request)
        if xid > 0:
            self.outstanding_requests += 1
        total = self._server.outstanding
        total.in_flight += 1
        if request.last:
            self.state = ENDING
        take(request)
        if total.in_flight > total.limit and self._pending and total.must_pause(self, self.outstanding_requests):
            self.hold |= HOLD_OUTSTANDING
        return self.state == OPEN and not self.hold

    def _unknown(self, request: Request) -> None:
        log.info("Closing the connection of {peer}: unknown operation {op}", peer=self.remote_address, op=request.op)
        request.reply = failure(request.cxid, -1, Code.UNIMPLEMENTED)
        request.last = True
        self.state = ENDING
        self.settled()

    def _throttle(self, request: Request) -> None:
        self._server.throttler.submit(request)
        self.factory.admit(request.received)

    def _park(self, request: Request) -> None:
        """Keep what is answered here as soon as it is the oldest."""
        request.ready = self.parked = True
        if len(self._pending) == 1:
            self.settled()

    def _authenticate(self, xid: int, buf: bytes, start: int, end: int) -> bool:
        server = self._server
        try:
            packet, _ = jute.decode(proto.AuthPacket, buf[start:end])
        except ProtocolError as error:
            self._violated(f"its auth packet cannot be read: {error}")
            return False
        outcome = server.authenticate(self, packet.scheme, packet.auth)
        if outcome is AuthOutcome.OK:
            self._choose()
            self.out.append(failure(xid, 0, Code.OK))
            return True
        server.stats.auth_failed_count += 1
        if outcome is AuthOutcome.FAILED:
            self._refuse(xid, Code.AUTHFAILED)
        else:
            self._violated(None)
        return False

    def _sasl(self, xid: int, buf: bytes, start: int, end: int) -> bool:
        try:
            token, _ = jute.decode(proto.SASLToken, buf[start:end])
        except ProtocolError as error:
            self._violated(f"its SASL token cannot be read: {error}")
            return False
        if token.token is None:
            self._violated("its SASL token is null")
            return False
        self._converse(xid, token.token)
        return self.state == OPEN and not self.hold

    def _refuse(self, xid: int, code: int) -> None:
        """Answer at once, before anything older, and close."""
        self.out.append(failure(xid, 0, code))
        self.close_after_flush()

    def settled(self) -> None:
        """Queue the answers that are known, oldest first, up to the first that is not; L{flush} sends them."""
        server = self._server
        if self.state == CLOSED:
            server.metrics.stale_replies += 1
            return
        pending = self._pending
        push = self.out.append
        done = size = 0
        over = False
        for request in pending:
            reply = request.reply
            if reply is None:
                if not request.ready:
                    break
                reply = request.reply = self._evaluate(request)
            done += 1
            if not reply:
                over = True
                break
            push(reply)
            size += len(reply)
            if request.last:
                over = True
                break
            if size > MAX_TURN:
                self._push()
                size = 0
            if self.hold & HOLD_OUTPUT:
                break  # resumeProducing goes on
        if done:
            answered = pending[:done]
            self._note(answered if reply else answered[:-1])
            self._finished(answered)
        if over:
            if reply:
                self.close_after_flush()
            else:
                self.close("its session is gone, or the server is going")
        elif self.out:
            self.mark()

    def _finished(self, answered: list[Request]) -> None:
        """The oldest requests are answered: make room for others."""
        server = self._server
        pending = self._pending
        count = len(answered)
        for request in answered:
            if request.cxid > 0:
                self.outstanding_requests -= 1
            if request.large:
                server.large_requests.bytes -= request.large
        del pending[:count]
        if not pending:
            self.parked = False
        for connection in server.outstanding.finished(self, self.outstanding_requests, count):
            connection.proceed()
            connection.mark()
        if self.factory.throttled:
            # An unknown operation was answered without passing the throttle.
            server.throttler.finished(sum(request.admitted for request in answered))
            self.factory.admit(server.now())

    def _evaluate(self, request: Request) -> bytes:
        if request.late:
            return failure(request.cxid, self._server.last_zxid, Code.THROTTLEDOP)
        body = request.body
        return self._server.answer(self, request.identities, request.cxid, request.op, body, 0, len(body))


classImplements(ClientProtocol, IProtocol, IPushProducer)
