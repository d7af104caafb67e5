"""
The two ends of a connection in memory, and what is on the wire between them.

What TCP promises holds: bytes come in the order in which they were written, each once, as long as the connection
lives; nothing is promised about how many come at a time.  A L{MemoryTransport} behaves to its protocol as Twisted's
does: C{loseConnection} sends what was written, C{abortConnection} does not, a producer is paused while too much waits,
and nothing is read after either.

This module knows one connection.  Who can reach whom, and how fast, its L{Wire} says.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from random import Random
from typing import Any, Protocol

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, IReactorTime, ITCPTransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

__all__ = ["FIN", "MADE", "RESET", "Direction", "MemoryTransport", "Wire"]

log = Logger()

#: So much may wait in a transport before its producer is asked to pause; Twisted's own figure.
_HIGH_WATER = 2**16
#: What the two kernels hold between a writer and a reader who does not read.
_WINDOW = 2**17

#: What goes over the wire beside bytes: the end, the end at once, and that the other end has accepted.
FIN = b"FIN"
RESET = b"RST"
MADE = b"SYN"


class Wire(Protocol):
    """What a connection has to know of the network."""

    clock: IReactorTime
    entropy: Random
    #: How likely bytes arrive in other pieces than they were written in.
    chopping: float
    #: Told of every exception that a protocol lets out.
    errors: list[Failure]

    def delay(self, source: str, target: str) -> float:
        """Draw how long a piece is on its way, in seconds."""

    def is_cut(self, source: str, target: str) -> bool:
        """Say whether nothing comes through at present."""

    def is_stopped(self, host: str) -> bool:
        """Say whether the process there reads nothing at present."""

    def run(self, host: str, call: Callable[[], object]) -> None:
        """Let the process there do something: now, or when it runs again."""

    def note(self, what: str, number: int, target: str, data: bytes) -> None:
        """Take down what has happened."""


class Direction:
    """
    One half of a connection: from a writer's buffer over the wire into a reader's.

    @ivar source: who writes.
    @ivar target: who reads.
    @ivar unread: what has arrived and was not read.
    @ivar waiting: bytes that have not been sent.
    """

    def __init__(self, wire: Wire, number: int, source: MemoryTransport, target: MemoryTransport) -> None:
        self.source, self.target = source, target
        self.unread = bytearray()
        self.waiting = 0
        self._wire = wire
        self._number = number
        self._buffer: deque[bytes] = deque()
        #: (when it was sent, when it arrives, bytes or one of the marks)
        self._flight: deque[tuple[float, float, bytearray | bytes]] = deque()
        self._outside = 0  # bytes on the wire or unread
        self._arrival = 0.0
        self._scheduled = False
        self._reading_later = False
        self._ended: bytes | None = None

    @property
    def host(self) -> str:
        """Where it leads to."""
        return self.target.host

    # -- the writer's end

    def write(self, data: bytes) -> None:
        """Take bytes to be sent."""
        self._buffer.append(data)
        self.waiting += len(data)
        self.send()

    def send(self) -> None:
        """Put on the wire what there is room for."""
        buffer = self._buffer
        while buffer and self._outside < _WINDOW:
            data = buffer.popleft()
            room = _WINDOW - self._outside
            if len(data) > room:
                buffer.appendleft(data[room:])
                data = data[:room]
            self.waiting -= len(data)
            self._outside += len(data)
            now = self._wire.clock.seconds()
            last = self._flight[-1] if self._flight else None
            if last is not None and last[0] == now and isinstance(last[2], bytearray):
                last[2].extend(data)
            else:
                self._launch(bytearray(data))

    def mark(self, what: bytes) -> None:
        """Put the end of the connection on the wire, behind what was sent; what was not is dropped."""
        self._buffer.clear()
        self.waiting = 0
        self._launch(what)

    def _launch(self, what: bytearray | bytes) -> None:
        now = self._wire.clock.seconds()
        self._arrival = max(self._arrival, now + self._wire.delay(self.source.host, self.target.host))
        self._flight.append((now, self._arrival, what))
        self._schedule()

    def _schedule(self) -> None:
        if self._flight and not self._scheduled:
            self._scheduled = True
            wait = max(self._flight[0][1] - self._wire.clock.seconds(), 0.0)
            self._wire.clock.callLater(wait, self._arrive)

    # -- the wire

    def retry(self) -> None:
        """The way is free again, or the reader has come back: what was held up comes a little later."""
        if self._flight:
            self._scheduled = True
            self._wire.clock.callLater(self._wire.entropy.uniform(0, 0.2), self._arrive)
        elif self.unread or self._ended is not None:
            self.read_later()

    def _arrive(self) -> None:
        self._scheduled = False
        wire = self._wire
        if wire.is_cut(self.source.host, self.target.host):
            return
        now = wire.clock.seconds()
        flight = self._flight
        while flight and flight[0][1] <= now:
            what = flight.popleft()[2]
            if isinstance(what, bytearray):
                self.unread += what
            elif what == MADE:
                wire.run(self.host, self.target.establish)
            else:
                self._end(what)
        self._schedule()
        self.read()

    def _end(self, what: bytes) -> None:
        if what == RESET:
            # What came before it has been read by now, if anybody reads.
            self.read()
        self._ended = what
        if what == RESET:
            self.unread.clear()
            wire = self._wire
            wire.note("reset", self._number, self.host, b"")
            wire.run(self.host, partial(self.target.lost, ConnectionLost()))

    # -- the reader's end

    def read_later(self) -> None:
        """Read in the reactor's next turn."""
        if not self._reading_later:
            self._reading_later = True
            self._wire.clock.callLater(0, self._read_now)

    def _read_now(self) -> None:
        self._reading_later = False
        self.read()

    def read(self) -> None:
        """Give the reader what has arrived, in pieces as chance has it."""
        target, wire, entropy = self.target, self._wire, self._wire.entropy
        while self.unread:
            if target.gone:
                # Nobody is there to read: whoever writes has to hear of it.
                self._drop()
                return
            if not target.reading or wire.is_stopped(target.host):
                return
            size = len(self.unread)
            if wire.chopping and entropy.random() < wire.chopping:
                size = entropy.randint(1, min(size, entropy.choice((1, 8, 64, 65536))))
            data = bytes(self.unread[:size])
            del self.unread[:size]
            self._outside -= size
            wire.note("data", self._number, self.host, data)
            target.received(data)
            if self._buffer:
                self._refill()
            if self.unread and size and entropy.random() < wire.chopping / 4:
                wire.clock.callLater(entropy.uniform(0, 0.01), self.read)
                return
        if self._ended == FIN and target.reading and not wire.is_stopped(target.host):
            target.finished()

    def _refill(self) -> None:
        # The news that there is room comes back over the wire, if anything does.
        if not self._wire.is_cut(self.target.host, self.source.host):
            self.send()
            self.source.drained()

    def _drop(self) -> None:
        self._outside -= len(self.unread)
        self.unread.clear()
        if not self.source.gone:
            self.target.outgoing.mark(RESET)


@implementer(ITCPTransport)
class MemoryTransport:
    """
    One end of a connection.

    @ivar host: where it is.
    @ivar incoming: what comes.
    @ivar outgoing: what goes.
    @ivar reading: whether the protocol wants to be given bytes.
    @ivar gone: whether this end is closed, lost, or was forgotten with its process.
    @ivar on_made: called when the connection has come about.
    """

    incoming: Direction
    outgoing: Direction

    def __init__(self, wire: Wire, host: str, here: IPv4Address, there: IPv4Address) -> None:
        self.host = host
        self.reading = True
        self.gone = False
        self.connected = False
        self.disconnecting = False
        self.protocol: IProtocol | None = None
        self.on_made: Callable[[MemoryTransport], None] | None = None
        self._wire = wire
        self._here, self._there = here, there
        self._producer: Any = None
        self._streaming = False
        self._paused = self._resuming = False
        self._no_delay = self._keep_alive = False

    def __repr__(self) -> str:
        return f"<MemoryTransport {self._here.host}:{self._here.port} - {self._there.host}:{self._there.port}>"

    # -- the wire's side

    def open(self, protocol: IProtocol) -> None:
        """Begin to serve a protocol."""
        self.protocol = protocol
        self.connected = True
        self._guarded(protocol.makeConnection, self)

    def establish(self) -> None:
        """The other end has accepted."""
        made, self.on_made = self.on_made, None
        if self.gone:
            self.outgoing.mark(RESET)
        elif made is not None:
            made(self)

    def received(self, data: bytes) -> None:
        """Give the protocol bytes."""
        if self.protocol is not None:
            self._guarded(self.protocol.dataReceived, data)

    def finished(self) -> None:
        """The other end writes no more."""
        if self.gone:
            return
        protocol: Any = self.protocol
        if IHalfCloseableProtocol.providedBy(protocol):
            self.reading = False
            self._guarded(protocol.readConnectionLost)
            return
        self.outgoing.mark(FIN)
        self.lost(ConnectionDone())

    def lost(self, why: Exception) -> None:
        """The connection is over: tell the protocol, now and once."""
        if self.gone:
            return
        self.gone = True
        self.connected = self.reading = False
        self.disconnecting = True
        protocol, self.protocol = self.protocol, None
        producer, self._producer = self._producer, None
        if producer is not None:
            self._guarded(producer.stopProducing)
        if protocol is not None:
            self._wire.note("lost", 0, self.host, type(why).__name__.encode())
            self._guarded(protocol.connectionLost, Failure(why))

    def forget(self) -> None:
        """The process is no more: nobody is told anything."""
        self.gone = True
        self.connected = self.reading = False
        self.protocol = self._producer = self.on_made = None

    def drained(self) -> None:
        """All that was written may be on the wire by now."""
        if self.outgoing.waiting or self.gone:
            return
        if self._producer is not None and (self._paused or not self._streaming):
            if not self._resuming:
                self._resuming = True
                # What a buffer holds has to be taken before there is room for more.
                wait = self._wire.delay(self.host, self._there.host) / 4
                self._wire.clock.callLater(wait, self._wire.run, self.host, self._resume)
        elif self.disconnecting:
            self._close()

    def _resume(self) -> None:
        self._resuming = False
        if self._producer is not None and not self.gone and not self.outgoing.waiting:
            self._paused = False
            self._guarded(self._producer.resumeProducing)
            if self._streaming or self.disconnecting:
                self.drained()

    def _later(self, call: Callable[[], object]) -> None:
        self._wire.clock.callLater(0, self._wire.run, self.host, call)

    def _close(self) -> None:
        self._later(self._closed)

    def _closed(self) -> None:
        # What was written since the close was asked for is still sent, as by Twisted.
        if not self.gone and not self.outgoing.waiting:
            self.outgoing.mark(FIN)
            self.lost(ConnectionDone())

    def _guarded(self, call: Callable[..., object], *arguments: object) -> None:
        """Call a protocol as a reactor does: what it lets out ends its connection and is reported."""
        try:
            call(*arguments)
        except Exception:  # noqa: BLE001 (it is reported, and the connection ends with it)
            failure = Failure()
            self._wire.errors.append(failure)
            log.failure("A protocol failed", failure)
            if not self.gone:
                self.outgoing.mark(RESET)
                self.lost(ConnectionLost())

    # -- the protocol's side

    def write(self, data: bytes) -> None:
        """See C{ITransport}."""
        if self.gone or not self.connected or not data:
            return
        self.outgoing.write(bytes(data))
        if self._producer is not None and not self._streaming:
            self.drained()
        if self._streaming and not self._paused and self.outgoing.waiting > _HIGH_WATER:
            self._paused = True
            self._producer.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """See C{ITransport}."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """See C{ITransport}: nothing more is read; it closes when all is sent."""
        if self.gone or self.disconnecting:
            return
        self.disconnecting = True
        self.reading = False
        if not self.outgoing.waiting:
            self._close()

    def abortConnection(self) -> None:
        """See C{ITCPTransport}: what was not sent is lost, and both ends hear of it."""
        if self.gone or not self.connected:
            return
        self.disconnecting = True
        self.connected = self.reading = False
        self.outgoing.mark(RESET)
        self._later(partial(self.lost, ConnectionAborted()))

    def loseWriteConnection(self) -> None:
        """See C{ITCPTransport}."""
        if not self.gone:
            self.outgoing.mark(FIN)
            self.connected = False

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """See C{IConsumer}."""
        if self._producer is not None:
            raise RuntimeError(f"{producer!r} cannot be registered while {self._producer!r} still is")
        if self.gone:
            producer.stopProducing()
            return
        self._producer, self._streaming = producer, streaming
        self._paused = False
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        """See C{IConsumer}."""
        self._producer = None
        self._streaming = self._paused = False
        if self.disconnecting and not self.gone and not self.outgoing.waiting:
            self._close()

    def pauseProducing(self) -> None:
        """See C{IPushProducer}: read no more for now."""
        self.reading = False

    def resumeProducing(self) -> None:
        """See C{IPushProducer}."""
        if self.connected and not self.disconnecting and not self.reading:
            self.reading = True
            self.incoming.read_later()

    def stopProducing(self) -> None:
        """See C{IProducer}."""
        self.loseConnection()

    def getPeer(self) -> IPv4Address:
        """See C{ITransport}."""
        return self._there

    def getHost(self) -> IPv4Address:
        """See C{ITransport}."""
        return self._here

    def getTcpNoDelay(self) -> bool:
        """See C{ITCPTransport}."""
        return self._no_delay

    def setTcpNoDelay(self, enabled: bool) -> None:
        """See C{ITCPTransport}: taken down, and without effect."""
        self._no_delay = enabled

    def getTcpKeepAlive(self) -> bool:
        """See C{ITCPTransport}."""
        return self._keep_alive

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """See C{ITCPTransport}: taken down, and without effect."""
        self._keep_alive = enabled
