"""
The outgoing half of a client connection: what is sent, when, and what operators see of it.

Output is gathered in a list of frames and leaves in one write.  On a plain socket that has nothing waiting it is
sent at once, past the reactor's round of C{write}: for a client that waits for each answer that is half of the
cost.  Knows nothing of requests; L{zktwisted.edge.protocol} is the incoming half.

Rules: spec: client-protocol 8.1; operations 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from socket import socket
from struct import Struct
from typing import TYPE_CHECKING, Any

from twisted.internet import tcp
from twisted.internet.interfaces import ITCPTransport
from twisted.logger import Logger

from zktwisted.edge.auth import Identities, java_address
from zktwisted.edge.requests import LOCAL_OPS, ClientServer, Request
from zktwisted.wire.ops import show_zxid
from zktwisted.wire.proto import Id

if TYPE_CHECKING:
    from zktwisted.edge.saslauth import Conversation

__all__ = ["CLOSED", "CONNECTING", "ENDING", "NEW", "OPEN", "Connection", "cxid_and_zxid"]

log = Logger()

# The life of a connection.  It only ever moves forward.
NEW, CONNECTING, OPEN, ENDING, CLOSED = range(5)

# Why its input is not read: the client does not take its output, too much is under way, the session is being
# made, the server takes nothing in just now, somebody looks at the password.
HOLD_OUTPUT, HOLD_OUTSTANDING, HOLD_CONNECT, HOLD_SERVER, HOLD_LOGIN = 1, 2, 4, 8, 16

cxid_and_zxid = Struct(">iq").unpack_from
"""The cxid and zxid of a reply's frame, from its byte 4 on."""

MAX_UNSENT = 16 * 1024 * 1024
"""Bytes of events that wait for a client which does not read; then it is disconnected."""


class Connection:
    """
    The outgoing half, and the figures.

    @ivar state: C{NEW}, C{CONNECTING}, C{OPEN}, C{ENDING} (input is thrown away) or C{CLOSED}.
    @ivar hold: why input is kept instead of served; a sum of the C{HOLD_} numbers.
    @ivar out: frames to be sent.
    @ivar parked: whether requests that need only this server wait behind others.
    @ivar address: the client's address in Java's form; C{None} for a UNIX socket.
    """

    __slots__ = (
        "_conversation",
        "_dirty",
        "_latency_count",
        "_latency_total",
        "_plain",
        "_reading",
        "_server",
        "_socket",
        "_unsent",
        "address",
        "established_ms",
        "hold",
        "identities",
        "last_cxid",
        "last_latency",
        "last_op",
        "last_response_ms",
        "last_zxid",
        "max_latency",
        "min_latency",
        "out",
        "outstanding_requests",
        "packets_received",
        "packets_sent",
        "parked",
        "port",
        "session_id",
        "session_timeout_ms",
        "state",
        "transport",
    )

    def __init__(self, server: ClientServer, host: str | None, port: int, wall_ms: Callable[[], int]) -> None:
        """
        @param server: the server.
        @param host: the peer's address as Twisted gives it; C{None}: a socket without addresses.
        @param port: the peer's port.
        @param wall_ms: the wall clock, in milliseconds.
        """
        self._server = server
        self.address = None if host is None else java_address(host)
        self.port = port
        self.identities = Identities(self.address or "127.0.0.1")
        self.established_ms = wall_ms()
        self.state = NEW
        self.hold = 0
        self.out: list[bytes] = []
        self.session_id = 0
        self.session_timeout_ms = 0
        self.outstanding_requests = 0
        self.parked = False
        self.transport: Any = None
        self._plain: tcp.Connection | None = None
        self._socket: socket | None = None
        self._conversation: Conversation | None = None
        self._dirty = False
        self._reading = True
        self._unsent = 0
        self.reset_stats()

    @property
    def gone(self) -> bool:
        """Whether nothing can be sent any more."""
        return self.state == CLOSED

    # What operators see: ops.view.ConnectionView.

    @property
    def remote_address(self) -> str:
        """Address and port in Java's form: C{127.0.0.1:5000}, C{[0:0:0:0:0:0:0:1]:5000}."""
        address = self.address or "127.0.0.1"
        return f"[{address}]:{self.port}" if ":" in address else f"{address}:{self.port}"

    @property
    def interest_ops(self) -> int:
        """1 while read from, 4 more while output waits, 0 for one that is answering a four-letter word."""
        waiting = self.hold & HOLD_OUTPUT or self.out
        return (1 if self._reading and self.state < ENDING else 0) + (4 if waiting else 0)

    @property
    def avg_latency(self) -> int:
        """Milliseconds, rounded down; 0 before the first answer."""
        return self._latency_total // self._latency_count if self._latency_count else 0

    def reset_stats(self) -> None:
        """Forget packets, latencies and what was last."""
        self.packets_received = self.packets_sent = 0
        self.last_op: int | None = None
        self.last_cxid = self.last_zxid = -1
        self.last_response_ms = self.last_latency = 0
        self.min_latency = self.max_latency = 0
        self._latency_count = self._latency_total = 0

    def _answered(self, op: int, cxid: int, zxid: int, now: float, ms: int, times: int = 1) -> None:
        """Note the latency of some answers, of which the last had this op, cxid and zxid."""
        self._server.stats.add_latency(ms, times)
        self.last_op = op
        if cxid >= 0:
            self.last_cxid = cxid
        self.last_zxid = zxid
        self.last_response_ms = int(now * 1000)
        self.last_latency = ms
        if ms > self.max_latency:
            self.max_latency = ms
        if ms < self.min_latency or not self._latency_count:
            self.min_latency = ms
        self._latency_count += times
        self._latency_total += ms * times

    def _note(self, answered: list[Request]) -> None:
        """Count some answers.  Requests that came in one piece, and wait for one batch, share their latency."""
        if not answered:
            return
        server = self._server
        sizes = server.stats.client_response
        count = len(answered)
        last = answered[-1]
        size = total = len(last.reply or b"") - 4
        if count > 1:
            lengths = [len(request.reply or b"") for request in answered]
            total = sum(lengths) - 4 * count
            sizes.add(min(lengths) - 4)
            sizes.add(max(lengths) - 4)
        server.metrics.response_bytes += total
        sizes.add(size)
        if count > 1 and (self.parked or answered[0].received != last.received):
            self._note_runs(answered, server.now())
        else:
            self._note_run(last, server.now(), count)

    def _note_runs(self, answered: list[Request], now: float) -> None:
        """Count answers that differ in their latency, or of which some are reads and some are writes."""
        count = 0
        before = answered[0]
        local = before.op in LOCAL_OPS
        for request in answered:
            if request.received != before.received or (request.op in LOCAL_OPS) is not local:
                self._note_run(before, now, count)
                local, count = request.op in LOCAL_OPS, 0
            before = request
            count += 1
        self._note_run(before, now, count)

    def _note_run(self, request: Request, now: float, count: int) -> None:
        """Count answers of one latency, the last of them given."""
        ms = max(int((now - request.received) * 1000), 0)
        metrics = self._server.metrics
        (metrics.readlatency if request.op in LOCAL_OPS else metrics.updatelatency).add(ms, count)
        cxid, zxid = cxid_and_zxid(request.reply or b"", 4)
        self._answered(request.op, cxid, zxid, now, ms, count)

    # Who the client is: L{zktwisted.edge.saslauth} tells.

    def _converse(self, xid: int, token: bytes) -> None:
        """Take in a token of SASL's."""
        if self._conversation is None:
            self._conversation = self._server.converse(self)
        self._conversation.take(xid, token)

    def hold_for_login(self) -> None:
        """Read no further until L{end_of_login}."""
        self.hold |= HOLD_LOGIN

    def authenticated(self, identities: Sequence[Id]) -> None:
        """The client has shown who it is."""
        self.identities.add(identities)
        self._choose()

    def count_failed_login(self) -> None:
        """The client has not shown who it is."""
        self._server.stats.auth_failed_count += 1

    def end_of_login(self) -> None:
        """What there was to say of it has been queued: go on."""
        self.hold &= ~HOLD_LOGIN
        if self.state != CLOSED and not self._dirty:  # not within this connection's own turn
            self.flush()
            if self._server.dirty:
                self._server.flush_dirty()

    def _choose(self) -> None:
        """The identities are others: what the client may do may be, too."""

    # The transport.

    def makeConnection(self, transport: Any) -> None:
        """See C{IProtocol}."""
        self.transport = transport
        if isinstance(transport, tcp.Connection) and not transport.TLS:
            self._plain = transport
            self._socket = transport.socket
        if ITCPTransport.providedBy(transport):
            # An event and the reply after it may leave in two writes: the second must not wait until the client's
            # system acknowledges the first, which takes it 40 ms.
            transport.setTcpNoDelay(True)
            if self._server.config.client_tcp_keep_alive:
                transport.setTcpKeepAlive(True)
        transport.registerProducer(self, True)
        self.connectionMade()

    def connectionMade(self) -> None:
        """See C{IProtocol}."""

    def _is_welcome(self) -> bool:
        """
        Take over the address that a proxy told in front of the first bytes (PROXY protocol).

        @return: whether there may be one connection more from there.
        """
        if getattr(self.transport, "wrappedProtocol", None) is None:
            return True
        server, peer = self._server, self.transport.getPeer()
        host = getattr(peer, "host", None)
        address = None if host is None else java_address(host)
        if address != self.address:
            refusal = server.counts.move(self.address, address)
            if refusal is not None:
                log.info("{refusal}", refusal=refusal)
                server.metrics.connection_rejected += 1
                self._lose()
                return False
            self.address = address
            self.identities.move(address or "127.0.0.1")
        self.port = getattr(peer, "port", 0)
        return True

    def pauseProducing(self) -> None:
        """The transport has enough waiting to be sent: serve no more requests for now."""
        self.hold |= HOLD_OUTPUT

    def resumeProducing(self) -> None:
        """All that was waiting has been sent."""
        self.hold &= ~HOLD_OUTPUT
        if self.state != CLOSED:
            self.flush()

    def stopProducing(self) -> None:
        """The transport is lost; C{connectionLost} follows."""

    def _pause_reading(self) -> None:
        if self._reading and self.state < CLOSED:
            self._reading = False
            self.transport.pauseProducing()

    def _resume_reading(self) -> None:
        if not self._reading and self.state < CLOSED:
            self._reading = True
            self.transport.resumeProducing()

    def mark(self) -> None:
        """Ask for L{flush} at the end of this turn."""
        if not self._dirty:
            self._dirty = True
            self._server.dirty.append(self)

    def deliver(self, frame: bytes) -> None:
        """Queue the frame of a watch event."""
        if self.state == CLOSED:
            return
        self.out.append(frame)
        self._server.metrics.watch_bytes += len(frame) - 4
        if not self._dirty:
            self.mark()
        if self.hold & HOLD_OUTPUT:
            self._unsent += len(frame)
            if self._unsent > MAX_UNSENT:
                self.close(f"it does not read: {self._unsent} bytes of events wait for it")

    def flush(self) -> None:
        """Send all that is queued in one write; close, if that was asked for."""
        self._dirty = False
        if self.out and not self.hold & HOLD_OUTPUT:
            self._push()

    def _push(self) -> None:
        """Send what is in C{out}, which is not empty."""
        out = self.out
        count = len(out)
        data = out[0] if count == 1 else b"".join(out)
        out.clear()
        self._unsent = 0
        self.packets_sent += count
        self._server.stats.packets_sent += count
        self._send(data)

    def _send(self, data: bytes) -> None:
        """Send at once what the socket takes; leave the rest, or all, to the transport."""
        plain = self._plain
        # Names of Twisted's own: nothing may overtake what its buffers hold.
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

    def close_after_flush(self) -> None:
        """Send what is queued, read nothing more, close."""
        if self.state < CLOSED:
            self.state = ENDING
            if self.out:
                self._push()
            self._lose()

    def _violated(self, reason: str | None) -> None:
        """Close, but send first what is answered: however the input was cut, the client gets the same."""
        if self.out and not self.hold & HOLD_OUTPUT:
            self._push()
        self.close(reason)

    def close(self, reason: str | None = None) -> None:
        """
        Close now, without what is queued.  A second call no longer waits for the client.

        @param reason: for the log; C{None}: not worth a line.
        """
        if self.state == CLOSED:
            if self.transport is not None:
                self.transport.abortConnection()
            return
        if reason is not None:
            log.info(
                "Closing the connection of {peer}, session {session}: {reason}",
                peer=self.remote_address,
                session=show_zxid(self.session_id),
                reason=reason,
            )
        self.out.clear()
        waiting = self.hold & HOLD_OUTPUT
        if self._plain is not None and (self._plain.dataBuffer or self._plain._tempDataBuffer):
            waiting = HOLD_OUTPUT
        self._lose()
        if waiting:  # it would wait for a client that does not read
            self.transport.abortConnection()

    def _lose(self) -> None:
        self.state = CLOSED
        # A registered producer that is paused would keep the transport from closing.
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def _lost(self) -> None:
        """Let go of everything: a cycle left behind could outlive the garbage collector's interest in it."""
        self.state = CLOSED
        self.out.clear()
        self._plain = self._socket = self.transport = self._conversation = None
