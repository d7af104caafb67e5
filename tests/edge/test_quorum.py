"""Connections of the quorum port: packets, images, ends, and how a learner gets through (spec: quorum 2, 4, 6.4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.error import ConnectError, ConnectionDone
from twisted.internet.interfaces import IProtocol, IProtocolFactory
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from zktwisted.config.ensemble import Address
from zktwisted.edge.quorum import Dialer, QuorumFactory, QuorumProtocol
from zktwisted.errors import ProtocolError
from zktwisted.wire import quorum
from zktwisted.wire.proto import Id
from zktwisted.wire.quorum import QuorumPacket, pack_bare, pack_packet


class Listener:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.events: list[object] = []
        self.on_packet: Callable[[QuorumProtocol, QuorumPacket], None] | None = None

    def connected(self, connection: QuorumProtocol) -> None:
        self.events.append("connected")

    def received(self, connection: QuorumProtocol, packets: list[QuorumPacket]) -> None:
        self.events += packets
        if self.on_packet is not None:
            for packet in packets:
                self.on_packet(connection, packet)

    def read(self, connection: QuorumProtocol) -> None:
        self.events.append("read")

    def lost(self, connection: QuorumProtocol, reason: str) -> None:
        self.events.append(f"lost: {reason}")

    @property
    def packets(self) -> list[QuorumPacket]:
        return [event for event in self.events if isinstance(event, QuorumPacket)]


class Transport(StringTransport):
    """A transport that is asked for nodelay, and aborts."""

    no_delay = aborted = False

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.no_delay = enabled

    def abortConnection(self) -> None:
        self.aborted = True
        super().abortConnection()


def connected(data_max: int = 1000) -> tuple[QuorumProtocol, Transport, Listener]:
    """Return a connection that has just been made."""
    listener, transport = Listener(), Transport()
    connection = QuorumFactory(listener, data_max).buildProtocol(None)
    connection.makeConnection(transport)
    return connection, transport, listener


PACKETS = [
    QuorumPacket(quorum.FOLLOWERINFO, 1 << 32, b"\x00" * 20),
    QuorumPacket(quorum.PING, 7, b""),
    QuorumPacket(quorum.REQUEST, -1, b"x" * 300, (Id("ip", "127.0.0.1"), Id("digest", "bob:\u00e9"))),
    QuorumPacket(quorum.COMMIT, 9),
    QuorumPacket(99, 0, None, ()),
]
BYTES = b"".join(pack_packet(*packet) for packet in PACKETS)


class PacketTests(SynchronousTestCase):
    """What comes in."""

    def test_at_once(self) -> None:
        """All packets of a read are handed over, and then it is told that this was all."""
        connection, transport, listener = connected()
        self.assertTrue(transport.no_delay)
        connection.dataReceived(BYTES)
        self.assertEqual(listener.events, ["connected", *PACKETS, "read"])

    @settings(deadline=None, derandomize=True, max_examples=100)
    @given(st.lists(st.integers(1, 200), min_size=1, max_size=8))
    def test_any_pieces(self, sizes: list[int]) -> None:
        """However the bytes are cut, the packets are the same."""
        connection, _, listener = connected()
        at = turn = 0
        while at < len(BYTES):
            size = sizes[turn % len(sizes)]
            connection.dataReceived(BYTES[at : at + size])
            at += size
            turn += 1
        self.assertEqual(listener.packets, PACKETS)

    def test_too_long(self) -> None:
        """More than the limit costs the sender its connection, at its header, and what came before is kept."""
        connection, transport, listener = connected(data_max=100)
        good = pack_bare(quorum.ACK, 5)
        connection.dataReceived(good + pack_packet(quorum.PROPOSAL, 1, b"x" * 101)[:16])
        self.assertEqual(listener.packets, [QuorumPacket(quorum.ACK, 5)])
        self.assertIn("the limit is 100", str(listener.events[-1]))
        self.assertTrue(transport.aborted)
        connection.dataReceived(good)
        connection.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(len(listener.events), 3)

    @settings(deadline=None, derandomize=True, max_examples=300)
    @given(st.lists(st.binary(min_size=1, max_size=80), max_size=5))
    def test_noise(self, pieces: list[bytes]) -> None:
        """Any bytes are packets, the beginning of one, or the end of the connection, and never an error of ours."""
        connection, transport, listener = connected()
        for piece in pieces:
            connection.dataReceived(piece)
        losses = [event for event in listener.events if str(event).startswith("lost")]
        self.assertEqual(len(losses), int(transport.aborted))
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_mistake_of_ours(self) -> None:
        """What a receiver lets out ends this connection, and is logged."""
        connection, transport, listener = connected()

        def broken(connection: QuorumProtocol, packet: QuorumPacket) -> None:
            raise KeyError("oops")

        listener.on_packet = broken
        connection.dataReceived(BYTES)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        self.assertEqual((listener.events[-1], transport.aborted), ("lost: it could not be handled", True))

    def test_closed_meanwhile(self) -> None:
        """What stands behind the packet at which a connection was closed is not handed over."""
        connection, _, listener = connected()
        listener.on_packet = lambda connection, packet: connection.close()
        connection.dataReceived(BYTES)
        self.assertEqual(listener.events, ["connected", PACKETS[0]])


class EndTests(SynchronousTestCase):
    """How a connection ends."""

    def test_lost(self) -> None:
        """The other side goes."""
        connection, _, listener = connected()
        connection.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(listener.events[1:], ["lost: the connection was closed"])
        connection.send(b"x")
        connection.close()
        self.assertEqual(len(listener.events), 2)

    def test_lost_for_a_reason(self) -> None:
        """The reason is told where there is one."""
        connection, _, listener = connected()
        connection.connectionLost(Failure(OSError("no route")))
        self.assertEqual(listener.events[1:], ["lost: no route"])

    def test_closed(self) -> None:
        """Who closes is not told of it; what was sent goes out."""
        connection, transport, listener = connected()
        connection.send(b"last words")
        connection.close()
        connection.close()
        self.assertEqual((transport.value(), transport.disconnecting), (b"last words", True))
        connection.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(listener.events, ["connected"])

    def test_aborted(self) -> None:
        """Nothing is waited for."""
        connection, transport, listener = connected()
        connection.abort()
        self.assertEqual((transport.aborted, listener.events), (True, ["connected"]))


class ImageOutTests(SynchronousTestCase):
    """An image goes out."""

    def begun(self, *chunks: bytes) -> tuple[QuorumProtocol, Transport, Listener, list[str]]:
        connection, transport, listener = connected()
        progress: list[str] = []
        connection.send(b"SNAP")
        connection.send_image(iter(chunks), lambda: progress.append("on"))
        return connection, transport, listener, progress

    def test_as_fast_as_it_is_taken(self) -> None:
        """A piece is asked for when the last one is gone, and what is sent meanwhile stands behind all of them."""
        connection, transport, _, progress = self.begun(b"one", b"two")
        producer: Any = transport.producer
        self.assertFalse(transport.streaming)
        connection.send(b"behind")
        producer.resumeProducing()
        connection.send(b" it")
        self.assertEqual((transport.value(), connection.sending_image), (b"SNAPone", True))
        producer.resumeProducing()
        self.assertEqual(transport.value(), b"SNAPonetwo")
        producer.resumeProducing()
        self.assertEqual((transport.value(), connection.sending_image), (b"SNAPonetwobehind it", False))
        self.assertIsNone(transport.producer)
        self.assertEqual(progress, ["on"] * 3)
        connection.send(b"!")
        self.assertEqual(transport.value()[-1:], b"!")

    def test_closed_in_the_middle(self) -> None:
        """Half an image is of no use: the rest is not waited for."""
        connection, transport, _, _ = self.begun(b"one", b"two")
        producer: Any = transport.producer
        producer.resumeProducing()
        connection.close()
        self.assertTrue(transport.aborted)
        producer.resumeProducing()
        self.assertEqual(transport.value(), b"SNAPone")

    def test_lost_in_the_middle(self) -> None:
        """The producer is told, and does nothing more."""
        connection, transport, listener, _ = self.begun(b"one", b"two")
        producer: Any = transport.producer
        connection.connectionLost(Failure(ConnectionDone()))
        producer.stopProducing()
        producer.resumeProducing()
        self.assertEqual((transport.value(), listener.events[1:]), (b"SNAP", ["lost: the connection was closed"]))

    def test_cannot_be_made(self) -> None:
        """A tree that cannot be written costs this learner its connection."""

        def chunks() -> Iterator[bytes]:
            yield b"one"
            raise KeyError("oops")

        connection, transport, listener = connected()
        connection.send_image(chunks(), lambda: None)
        producer: Any = transport.producer
        producer.resumeProducing()
        producer.resumeProducing()
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        self.assertEqual((listener.events[-1], transport.aborted), ("lost: no image can be made for it", True))


class ImageInTests(SynchronousTestCase):
    """An image comes in place of packets."""

    def taken(self, pieces: list[bytes], size: int) -> tuple[list[bytes], Listener]:
        connection, _, listener = connected()
        image: list[bytes] = []

        def take(data: bytes) -> bytes | None:
            image.append(data)
            whole = b"".join(image)
            if len(whole) < size:
                return None
            image[:] = [whole[:size]]
            return whole[size:]

        def on_packet(connection: QuorumProtocol, packet: QuorumPacket) -> None:
            if packet.type == quorum.SNAP:
                connection.expect_image(take)

        listener.on_packet = on_packet
        for piece in pieces:
            connection.dataReceived(piece)
        return image, listener

    @settings(deadline=None, derandomize=True, max_examples=100)
    @given(st.integers(1, 120))
    def test_any_pieces(self, size: int) -> None:
        """The bytes behind SNAP are no packets, those behind the image are, however all of it is cut."""
        behind = [QuorumPacket(quorum.PROPOSAL, 8, b"p"), QuorumPacket(quorum.NEWLEADER, 1 << 32, b"config")]
        picture = bytes(range(200))
        data = pack_bare(quorum.SNAP, 7) + picture + b"".join(pack_packet(*packet) for packet in behind)
        image, listener = self.taken([data[at : at + size] for at in range(0, len(data), size)], 200)
        self.assertEqual((image, listener.packets), ([picture], [QuorumPacket(quorum.SNAP, 7), *behind]))

    def test_two(self) -> None:
        """An image may follow another."""
        data = (pack_bare(quorum.SNAP, 7) + b"abc") * 2
        connection, _, listener = connected()
        images: list[bytes] = []

        def take(data: bytes) -> bytes | None:
            images.append(data[:3])
            return data[3:] if len(data) >= 3 else None

        listener.on_packet = lambda connection, packet: connection.expect_image(take)
        connection.dataReceived(data)
        self.assertEqual((images, len(listener.packets)), ([b"abc", b"abc"], 2))

    def test_garbage(self) -> None:
        """What is no image ends the connection."""
        connection, transport, listener = connected()

        def take(data: bytes) -> bytes | None:
            raise ProtocolError("this is no image")

        listener.on_packet = lambda connection, packet: connection.expect_image(take)
        connection.dataReceived(pack_bare(quorum.SNAP, 7) + b"x")
        self.assertEqual((listener.events[-1], transport.aborted), ("lost: this is no image", True))


class Endpoint:
    """Connects when the test says so."""

    def __init__(self, network: FakeNetwork, address: Address, timeout: float) -> None:
        self.network = network
        self.address = address
        self.timeout = timeout

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        self.network.log.append((self.address.host, self.network.clock.seconds(), round(self.timeout, 3)))
        if self.address.host in self.network.refusing:
            return fail(ConnectError(string="refused"))
        made: Deferred[IProtocol] = Deferred()
        self.network.waiting.setdefault(self.address.host, []).append((made, factory))
        return made


class FakeNetwork:
    """A network of endpoints like that."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.log: list[tuple[str, float, float]] = []
        self.refusing: set[str] = set()
        self.waiting: dict[str, list[tuple[Deferred[IProtocol], IProtocolFactory]]] = {}

    def client(self, address: Address, timeout: float) -> Any:
        return Endpoint(self, address, timeout)

    def server(self, address: Address, backlog: int = 50) -> Any:
        raise AssertionError("nobody listens here")

    def answer(self, host: str) -> Transport:
        """Let the attempt that waits get through."""
        made, factory = self.waiting[host].pop(0)
        protocol: Any = factory.buildProtocol(None)  # type: ignore[arg-type]
        transport = Transport()
        protocol.makeConnection(transport)
        made.callback(protocol)
        return transport

    def refuse(self, host: str) -> None:
        made, _ = self.waiting[host].pop(0)
        made.errback(ConnectError(string="refused"))


class DialerTests(SynchronousTestCase):
    """A learner that wants to get through."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.network = FakeNetwork(self.clock)
        self.listener = Listener()

    def tearDown(self) -> None:
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def dial(self, *hosts: str, limit: float = 20.0) -> Deferred[QuorumProtocol]:
        dialer = Dialer(self.network, self.clock, self.clock.seconds, pause=0.1, limit=limit)
        return Deferred.fromCoroutine(
            dialer.connect([Address(host, 2888) for host in hosts], QuorumFactory(self.listener))
        )

    def test_at_once(self) -> None:
        """The leader listens."""
        dialing = self.dial("a")
        transport = self.network.answer("a")
        connection = self.successResultOf(dialing)
        self.assertIs(connection.transport, transport)
        self.assertEqual(self.network.log, [("a", 0.0, 20.0)])

    def test_five_times(self) -> None:
        """The leader does not listen yet: five attempts, with pauses, and that is it."""
        self.network.refusing.add("a")
        dialing = self.dial("a")
        self.clock.pump([0.1] * 4)
        self.assertEqual([round(when, 3) for _, when, _ in self.network.log], [0.0, 0.1, 0.2, 0.3, 0.4])
        self.assertEqual([left for _, _, left in self.network.log], [20.0, 19.9, 19.8, 19.7, 19.6])
        self.failureResultOf(dialing, ConnectError)

    def test_later(self) -> None:
        """It listens at the third attempt."""
        self.network.refusing.add("a")
        dialing = self.dial("a")
        self.clock.advance(0.1)
        self.network.refusing.clear()
        self.clock.advance(0.1)
        self.assertNoResult(dialing)
        self.network.answer("a")
        self.successResultOf(dialing)

    def test_deadline(self) -> None:
        """Attempts that take long are fewer."""
        dialing = self.dial("a", limit=1.0)
        self.clock.advance(0.95)
        self.network.refuse("a")
        self.failureResultOf(dialing, ConnectError)

    def test_several_addresses(self) -> None:
        """All are tried at once, the first that answers is used, and the others are given up."""
        self.network.refusing.add("a")
        dialing = self.dial("a", "b", "c")
        self.assertEqual([host for host, _, _ in self.network.log], ["a", "b", "c"])
        transport = self.network.answer("c")
        self.assertIs(self.successResultOf(dialing).transport, transport)
        made, _ = self.network.waiting["b"].pop()
        self.assertTrue(made.called)

    def test_all_refuse(self) -> None:
        """None answers."""
        self.network.refusing |= {"a", "b"}
        dialing = self.dial("a", "b")
        self.clock.pump([0.1] * 4)
        self.failureResultOf(dialing, ConnectError)
        self.assertEqual(len(self.network.log), 10)

    def test_given_up(self) -> None:
        """Who dials may be told to stop, while it waits for an answer or for the next attempt."""
        dialing = self.dial("a")
        dialing.cancel()
        self.failureResultOf(dialing, CancelledError)
        self.network.refusing.add("a")
        dialing = self.dial("a", "b")
        dialing.cancel()
        self.failureResultOf(dialing, CancelledError)
