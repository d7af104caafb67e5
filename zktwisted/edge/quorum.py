"""
Connections between a leader and its learners: packets in and out, images in and out, and how a learner gets through.

L{QuorumProtocol} is the same on both sides.  It finds packets, hands them to a L{QuorumReceiver}, and writes what it is
given.  It decides nothing about what a packet means: when an image follows in place of packets it is told.

Rules: spec: quorum 1.2, 2, 4, 6.4, 6.5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, cast

from twisted.internet.defer import CancelledError, Deferred, DeferredList, fail, succeed
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IAddress, IProtocol, IPullProducer, IReactorTime
from twisted.internet.protocol import Factory
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from zktwisted.config.ensemble import Address
from zktwisted.edge.quorumauth import Exchange, Guard, QuorumAuthError
from zktwisted.errors import ProtocolError
from zktwisted.wire.quorum import DEFAULT_DATA_MAX, QuorumPacket, read_packets

if TYPE_CHECKING:
    from zktwisted.edge.network import Network

__all__ = ["Dialer", "QuorumFactory", "QuorumProtocol", "QuorumReceiver"]

log = Logger()

_ATTEMPTS = 5


class QuorumReceiver(Protocol):
    """Who wants to hear of a connection."""

    def connected(self, connection: QuorumProtocol) -> None:
        """It is there."""

    def received(self, connection: QuorumProtocol, packets: list[QuorumPacket]) -> None:
        """Packets came; what follows the last one may be an image, see L{QuorumProtocol.expect_image}."""

    def read(self, connection: QuorumProtocol) -> None:
        """All that came at once has been handed over."""

    def lost(self, connection: QuorumProtocol, reason: str) -> None:
        """It is gone, and nothing more is heard of it; not called after L{QuorumProtocol.close}."""


class QuorumProtocol(TwistedProtocol):
    """
    One connection of the quorum port.

    @ivar peer: the other side, as a person would name it.
    @ivar closed: whether it has been closed, by whom ever.
    @ivar sending_image: whether an image is on its way out.
    """

    transport: Any

    def __init__(
        self, receiver: QuorumReceiver, data_max: int = DEFAULT_DATA_MAX, guard: Guard | None = None
    ) -> None:
        """
        @param data_max: the longest payload that is believed, in bytes.
        @param guard: with whom one has to get through before the receiver hears of the connection.
        """
        self.peer = ""
        self.closed = False
        self.sending_image = False
        self._receiver = receiver
        self._data_max = data_max
        self._guard = guard
        self._exchange: Exchange | None = None
        self._beginning: Deferred[None] = succeed(None)
        self._ready: Deferred[None] | None = None
        self._buffer = b""
        self._take_image: Callable[[bytes], bytes | None] | None = None
        # What waits behind an image.
        self._behind: list[bytes] = []

    # -- in

    def connectionMade(self) -> None:
        """See C{IProtocol}."""
        address = self.transport.getPeer()
        self.peer = f"{getattr(address, 'host', address)}:{getattr(address, 'port', '')}"
        with suppress(AttributeError):  # not every transport is TCP
            self.transport.setTcpNoDelay(True)
        if self._guard is None:
            self._receiver.connected(self)
        else:
            self._exchange = self._guard.begin(self)
            self._beginning = self._exchange.begin().addCallbacks(self.transport.write, self._cannot_begin)

    def _cannot_begin(self, reason: Failure) -> None:
        if reason.check(CancelledError) is None:
            self._refuse(QuorumAuthError(reason.getErrorMessage()))

    def ready(self) -> Deferred[None]:
        """
        Wait until the other side is known, where that takes an exchange; to cancel it ends the connection.

        Fails with L{QuorumAuthError}, or C{ConnectionLost}.
        """
        if self._exchange is None and not self.closed:
            return succeed(None)
        if self.closed:
            return fail(ConnectionLost())
        self._ready = Deferred(self._given_up)
        return self._ready

    def _given_up(self, _: Deferred[None]) -> None:
        self._ready = None
        self.abort()

    def _authenticate(self, exchange: Exchange, data: bytes) -> bytes:
        """Go on with an exchange; return what came after its end."""
        try:
            answer = exchange.receive(data)
        except QuorumAuthError as error:
            self.transport.write(error.farewell)
            self._refuse(error)
            return b""
        self.transport.write(answer)
        if not exchange.done:
            return b""
        self._exchange = None
        self._leave_guard()
        self._receiver.connected(self)
        ready, self._ready = self._ready, None
        if ready is not None:
            ready.callback(None)
        return exchange.rest

    def _refuse(self, error: QuorumAuthError) -> None:
        log.info("Closing the connection with {peer}: {reason}", peer=self.peer, reason=str(error))
        self.closed = True
        self.transport.loseConnection()
        self._unknown(error)

    def _leave_guard(self) -> None:
        if self._guard is not None:
            self._guard.forget(self)

    def _unknown(self, reason: Exception) -> None:
        """It is over before the other side was known: no receiver has heard of it."""
        self._leave_guard()
        self._beginning.cancel()
        self._exchange = None
        ready, self._ready = self._ready, None
        if ready is not None:
            ready.errback(reason)

    def expect_image(self, take: Callable[[bytes], bytes | None]) -> None:
        """
        What follows the packet just handed over is no packet.

        @param take: is given bytes as they come, until it returns those that were too many; may raise
            L{ProtocolError}.
        """
        self._take_image = take

    def dataReceived(self, data: bytes) -> None:
        """See C{IProtocol}."""
        if self.closed:
            return
        if self._exchange is not None:
            data = self._authenticate(self._exchange, data)
            if not data:
                return
        self._buffer = self._buffer + data if self._buffer else data
        try:
            self._read()
        except ProtocolError as error:
            self._lose(str(error))
        except Exception:  # noqa: BLE001 (whatever it was, this connection ends with it)
            log.failure("while reading from {peer}", peer=self.peer)
            self._lose("it could not be handled")

    def _read(self) -> None:
        receiver = self._receiver
        offset = 0
        while not self.closed:
            if self._take_image is not None:
                data, self._buffer, offset = self._buffer[offset:], b"", 0
                rest = self._take_image(data)
                if rest is None:
                    break
                self._take_image = None
                self._buffer = rest
                continue
            packets, offset = read_packets(self._buffer, offset, self._data_max)
            if not packets:
                break
            receiver.received(self, packets)
        if offset:
            self._buffer = self._buffer[offset:]
        if not self.closed:
            receiver.read(self)

    # -- out

    def send(self, data: bytes) -> None:
        """Write packets, behind an image that is on its way."""
        if self.closed:
            return
        if self.sending_image:
            self._behind.append(data)
        else:
            self.transport.write(data)

    def send_image(self, chunks: Iterator[bytes], progress: Callable[[], None]) -> None:
        """
        Write an image as fast as the other side takes it, and what is sent from now on behind it.

        @param chunks: asked for the next piece when the last one has been taken.
        @param progress: called whenever that has happened, and at the end.
        """
        self.sending_image = True
        self.transport.registerProducer(_ImageProducer(self, chunks, progress), False)

    def image_sent(self) -> None:
        """The image is out."""
        if self.closed:
            return
        self.transport.unregisterProducer()
        self.sending_image = False
        behind, self._behind = self._behind, []
        if behind:
            self.transport.write(b"".join(behind))

    # -- the end

    def close(self) -> None:
        """End it at once; what is still to be written is lost if the other side does not take it now."""
        if self.closed:
            return
        self.closed = True
        self._buffer = b""
        self._behind = []
        if self.sending_image:
            self.transport.unregisterProducer()
            self.transport.abortConnection()
        else:
            self.transport.loseConnection()

    def abort(self) -> None:
        """End it without waiting for anything to be written; a connection that is over already stays so."""
        self.closed = True
        self.transport.abortConnection()
        if self._exchange is not None:
            self._unknown(ConnectionLost())

    def _lose(self, reason: str) -> None:
        if not self.closed:
            self.abort()
            self._receiver.lost(self, reason)

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        """See C{IProtocol}."""
        if self._exchange is not None:
            self.closed = True
            self._unknown(ConnectionLost())
        if not self.closed:
            self.closed = True
            ended = reason is None or reason.check(ConnectionDone, ConnectionLost)
            self._receiver.lost(self, "the connection was closed" if ended else reason.getErrorMessage())


@implementer(IPullProducer)
class _ImageProducer:
    """Gives an image to a transport that asks for it."""

    def __init__(self, connection: QuorumProtocol, chunks: Iterator[bytes], progress: Callable[[], None]) -> None:
        self._connection = connection
        self._chunks = chunks
        self._progress = progress

    def resumeProducing(self) -> None:
        """See C{IPullProducer}."""
        connection = self._connection
        if connection.closed:
            return
        try:
            chunk = next(self._chunks, None)
        except Exception:  # noqa: BLE001 (a tree that cannot be written costs this learner its connection)
            log.failure("The image of the tree cannot be made")
            connection.transport.unregisterProducer()
            connection.sending_image = False
            connection._lose("no image can be made for it")
            return
        if chunk is None:
            connection.image_sent()
        else:
            connection.transport.write(chunk)
        self._progress()

    def stopProducing(self) -> None:
        """See C{IProducer}: the connection is lost, which is heard of otherwise."""


class QuorumFactory(Factory):
    """Makes connections: those that are accepted, or the one that was dialed."""

    noisy = False

    def __init__(
        self, receiver: QuorumReceiver, data_max: int = DEFAULT_DATA_MAX, guard: Guard | None = None
    ) -> None:
        self._receiver = receiver
        self._data_max = data_max
        self._guard = guard

    def buildProtocol(self, addr: IAddress | None) -> QuorumProtocol:
        """See C{IProtocolFactory}."""
        return QuorumProtocol(self._receiver, self._data_max, self._guard)


class Dialer:
    """
    How a learner gets through to its leader: all addresses at once, each several times, for a limited time.

    A leader begins to listen when it knows that it was elected, which is often a moment later than its followers know.
    """

    def __init__(
        self,
        network: Network,
        clock: IReactorTime,
        monotonic: Callable[[], float],
        *,
        pause: float,
        limit: float,
    ) -> None:
        """
        @param pause: seconds between two attempts.
        @param limit: seconds after which it is given up.
        """
        self._network = network
        self._clock = clock
        self._monotonic = monotonic
        self._pause = pause
        self._limit = limit

    async def connect(self, addresses: Sequence[Address], factory: Factory) -> QuorumProtocol:
        """
        Return the first connection that is made; the others are given up.

        @raise Exception: why the last attempt failed.
        """
        until = self._monotonic() + self._limit
        attempts = [Deferred.fromCoroutine(self._knock(address, factory, until)) for address in addresses]
        # A list of failures is dealt with below; one success ends the waiting.
        first = DeferredList(attempts, fireOnOneCallback=True, consumeErrors=True)
        try:
            outcome: Any = await first
        except Exception:  # no C{finally}: a process that has crashed is swept away through here, in any order
            _cancel(attempts)
            raise
        _cancel(attempts)
        if isinstance(outcome, list):
            failures = [failure for _, failure in outcome]
            raise failures[-1].value if failures else ConnectionLost("it has no address")
        return cast(QuorumProtocol, outcome[0])

    async def _knock(self, address: Address, factory: Factory, until: float) -> IProtocol:
        for attempt in range(_ATTEMPTS):
            left = until - self._monotonic()
            try:
                made: IProtocol = await self._network.client(address, max(left, 0.001)).connect(factory)
                if isinstance(made, QuorumProtocol):
                    await made.ready()
            except (CancelledError, QuorumAuthError):
                raise  # who does not let us in, or who is not to be trusted, is not asked again at once
            except Exception as error:
                log.debug("{address}: {reason}", address=address, reason=str(error))
                if attempt == _ATTEMPTS - 1 or until - self._monotonic() <= self._pause:
                    raise
            else:
                return made
            await deferLater(self._clock, self._pause, lambda: None)
        raise AssertionError("the last attempt has raised")


def _cancel(attempts: Sequence[Deferred[IProtocol]]) -> None:
    for attempt in attempts:
        attempt.cancel()
