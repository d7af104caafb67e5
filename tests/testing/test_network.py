"""The network in memory: what TCP promises, what Twisted's transports do, and faults as they were ordered."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import (
    CannotListenError,
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    DNSLookupError,
)
from twisted.internet.error import ConnectionRefusedError as RefusedError
from twisted.internet.error import TimeoutError as TimedOutError
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from zktwisted.config.ensemble import Address
from zktwisted.testing.clock import World
from zktwisted.testing.network import MemoryNetwork

ONE, TWO, THREE = "10.0.0.1", "10.0.0.2", "10.0.0.3"


class Recorder(Protocol):
    """Takes down what it is told."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.why: type | None = None
        self.log: list[str] = []

    @property
    def data(self) -> bytes:
        return b"".join(self.pieces)

    def dataReceived(self, data: bytes) -> None:
        assert self.why is None
        self.pieces.append(data)

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008
        assert self.why is None
        self.why = reason.type

    def pauseProducing(self) -> None:
        self.log.append("pause")

    def resumeProducing(self) -> None:
        self.log.append("resume")

    def stopProducing(self) -> None:
        self.log.append("stop")


class Net(SynchronousTestCase):
    """Three hosts; the second listens on port 80."""

    protocol: type[Recorder] = Recorder

    def setUp(self) -> None:
        self.make()

    def make(self, seed: int = 7, **settings: Any) -> None:
        self.world = World()
        self.net = MemoryNetwork(self.world.clock, Random(seed), **settings)
        self.hosts = [self.net.host(address) for address in (ONE, TWO, THREE)]
        self.served: list[Recorder] = []
        self.port: Any = self.successResultOf(self.hosts[1].server(Address(TWO, 80)).listen(self.factory(self.served)))

    def factory(self, made: list[Recorder]) -> Factory:
        factory = Factory()
        factory.noisy = False

        def build(address: object) -> Recorder:
            made.append(self.protocol())
            return made[-1]

        factory.buildProtocol = build  # type: ignore[method-assign, assignment]
        return factory

    def dial(self, source: int = 0, host: str = TWO, port: int = 80, timeout: float = 5) -> Deferred[Any]:
        return self.hosts[source].client(Address(host, port), timeout).connect(self.factory([]))

    def pair(self, source: int = 0) -> tuple[Recorder, Recorder]:
        """Return both ends of a new connection: the client's and the server's."""
        dialled = self.dial(source)
        self.world.advance(0.1)
        client: Recorder = self.successResultOf(dialled)
        return client, self.served[-1]

    def tearDown(self) -> None:
        self.assertEqual([str(failure) for failure in self.net.errors], [])


class StreamTests(Net):
    """Bytes."""

    def test_bytes_in_order(self) -> None:
        """What is written arrives whole and in order, both ways, in whatever pieces."""
        sizes = set()
        for seed in range(20):
            self.make(seed, chopping=seed / 20)
            client, server = self.pair()
            random = Random(seed)
            sent, echoed = b"", b""
            for turn in range(60):
                data, back = random.randbytes(random.randrange(1, 300)), b"%d." % turn
                client.transport.write(data)
                server.transport.writeSequence([back, back])
                sent, echoed = sent + data, echoed + back + back
                if random.random() < 0.5:
                    self.world.advance(random.random() * 0.003)
            self.world.advance(1)
            self.assertEqual((server.data, client.data), (sent, echoed))
            sizes |= {len(piece) for piece in server.pieces}
        # Glued ones and single bytes have been among them.
        self.assertIn(1, sizes)
        self.assertGreater(max(sizes), 400)

    def test_whole(self) -> None:
        """Without chopping what was written in one turn is one piece."""
        self.make(chopping=0)
        client, server = self.pair()
        client.transport.write(b"ab")
        client.transport.write(b"c")
        self.world.advance(0.1)
        client.transport.write(b"d")
        self.world.advance(0.1)
        self.assertEqual(server.pieces, [b"abc", b"d"])

    def test_latency(self) -> None:
        """A slow way is slow in its direction only."""
        self.make(latency=(0.001, 0.001))
        client, server = self.pair()
        self.net.slow(ONE, TWO, (1.0, 1.0))
        client.transport.write(b"x")
        server.transport.write(b"y")
        self.world.advance(0.5)
        self.assertEqual((server.data, client.data), (b"", b"y"))
        self.world.advance(0.6)
        self.assertEqual(server.data, b"x")

    def test_same_seed(self) -> None:
        """A seed gives the same pieces at the same times; another gives others."""

        def run(seed: int) -> list[object]:
            self.make(seed, chopping=0.5)
            notes: list[object] = []
            self.net.on_note = lambda *note: notes.append((self.world.now, *note))
            client, server = self.pair()
            for _ in range(20):
                client.transport.write(bytes(50))
                server.transport.write(bytes(50))
                self.world.advance(0.01)
            client.transport.loseConnection()
            self.world.advance(1)
            return notes

        self.assertEqual(run(1), run(1))
        self.assertNotEqual(run(1), run(2))

    def test_back_pressure(self) -> None:
        """A writer's producer is paused while the reader does not read, and goes on when it does."""
        client, server = self.pair()
        server.transport.pauseProducing()
        client.transport.registerProducer(client, True)
        for _ in range(20):
            client.transport.write(bytes(20_000))
        self.world.advance(1)
        self.assertEqual((client.log, server.data), (["pause"], b""))
        server.transport.resumeProducing()
        self.world.advance(1)
        self.assertEqual((client.log, len(server.data)), (["pause", "resume"], 400_000))
        client.transport.unregisterProducer()
        with self.assertRaises(RuntimeError):
            for _ in range(2):
                client.transport.registerProducer(client, True)

    def test_pull_producer(self) -> None:
        """A producer that is asked for each piece is asked again whenever the last has been sent, until it ends."""
        client, server = self.pair()
        sizes = [5, 300_000, 1, 1]

        def produce() -> None:
            client.transport.write(bytes(sizes.pop(0)))
            if not sizes:
                client.transport.unregisterProducer()

        client.resumeProducing = produce  # type: ignore[method-assign]
        client.transport.registerProducer(client, False)
        self.assertEqual(len(sizes), 3)
        self.world.advance(1)
        self.assertEqual((sizes, len(server.data)), ([], 300_007))


class ClosingTests(Net):
    """Ends."""

    def test_lose(self) -> None:
        """What was written is sent before the end, even much; whoever closes reads no more."""
        client, server = self.pair()
        server.transport.write(b"on its way")
        client.transport.write(bytes(500_000))
        client.transport.loseConnection()
        client.transport.write(b"too")
        self.world.advance(1)
        self.assertEqual((client.why, server.why), (ConnectionDone, ConnectionDone))
        self.assertEqual((server.data, client.data), (bytes(500_000) + b"too", b""))

    def test_abort(self) -> None:
        """An abort is heard of in the next turn here, and there as a loss."""
        client, server = self.pair()
        client.transport.abortConnection()
        self.assertIsNone(client.why)
        self.world.advance(0)
        self.assertIs(client.why, ConnectionAborted)
        self.world.advance(1)
        self.assertIs(server.why, ConnectionLost)
        client.transport.write(b"x")
        client.transport.loseConnection()
        client.transport.abortConnection()
        self.world.advance(1)

    def test_written_to_a_closed_end(self) -> None:
        """Who goes on writing when the other end reads no more hears of it."""
        client, server = self.pair()
        server.transport.pauseProducing()
        client.transport.loseConnection()
        self.world.advance(1)
        self.assertIsNone(server.why)
        server.transport.write(b"x")
        self.world.advance(1)
        self.assertIs(server.why, ConnectionLost)

    def test_unread(self) -> None:
        """What came before the end is read before the end is told."""
        client, server = self.pair()
        server.transport.pauseProducing()
        client.transport.write(b"last words")
        client.transport.loseConnection()
        self.world.advance(1)
        server.transport.resumeProducing()
        self.world.advance(1)
        self.assertEqual((server.data, server.why), (b"last words", ConnectionDone))

    def test_producer_at_the_end(self) -> None:
        """A producer is stopped when its connection is lost."""
        client, server = self.pair()
        client.transport.registerProducer(client, True)
        server.transport.abortConnection()
        self.world.advance(1)
        self.assertEqual(client.log, ["stop"])
        client.transport.registerProducer(client, True)

    def test_half_close(self) -> None:
        """A protocol that knows halves of connections may answer behind the other's last word."""

        @implementer(IHalfCloseableProtocol)
        class Half(Recorder):
            def readConnectionLost(self) -> None:
                self.transport.write(b"answer")
                self.transport.loseConnection()

            def writeConnectionLost(self) -> None:
                pass

        self.protocol = Half
        self.make()
        client, server = self.pair()
        client.transport.write(b"question")
        client.transport.loseWriteConnection()
        self.world.advance(1)
        self.assertEqual((server.data, client.data), (b"question", b"answer"))
        self.assertIsNotNone(server.why)

    def test_exception(self) -> None:
        """What a protocol lets out is reported and ends its connection, as in a reactor."""
        client, server = self.pair()
        server.dataReceived = lambda data: 1 // 0  # type: ignore[method-assign, assignment]
        client.transport.write(b"x")
        self.world.advance(1)
        self.assertEqual((client.why, server.why), (ConnectionLost, ConnectionLost))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual([failure.type for failure in self.net.errors], [ZeroDivisionError])
        self.net.errors.clear()


class ConnectingTests(Net):
    """Connections that come about, or do not."""

    def test_addresses(self) -> None:
        """Each end knows both addresses."""
        client, server = self.pair()
        self.assertEqual((client.transport.getPeer().host, client.transport.getPeer().port), (TWO, 80))
        self.assertEqual(server.transport.getPeer(), client.transport.getHost())
        self.assertEqual(server.transport.getHost(), client.transport.getPeer())
        self.assertEqual(self.port.getHost().port, 80)

    def test_refused(self) -> None:
        """Nobody listens, or he is told to refuse."""
        dialled = [self.dial(port=81), self.dial(host=THREE)]
        self.net.refuse(ONE, TWO)
        dialled.append(self.dial())
        self.world.advance(1)
        for each in dialled:
            self.failureResultOf(each, RefusedError)
        self.pair(source=2)

    def test_names(self) -> None:
        """Names are looked up at each connect."""
        dialled = self.dial(host="two.example")
        self.world.advance(1)
        self.failureResultOf(dialled, DNSLookupError)
        self.net.names["two.example"] = TWO
        dialled = self.dial(host="two.example")
        self.world.advance(1)
        self.successResultOf(dialled)

    def test_timeout(self) -> None:
        """Nothing comes back: the attempt ends with its time; a way that is free again in time is found."""
        self.net.cut(TWO, ONE)
        lost, found = self.dial(timeout=3), self.dial(timeout=30)
        self.world.advance(2.9)
        self.assertNoResult(lost)
        self.world.advance(0.2)
        self.failureResultOf(lost, TimedOutError)
        self.net.heal()
        self.world.advance(2)
        self.successResultOf(found)

    def test_cancel(self) -> None:
        """An attempt can be given up, at any moment; the server sees at most a connection that ends."""
        for moment in (0, 0.0003, 0.0011, 0.0015):
            self.make(latency=(0.001, 0.001))
            dialled = self.dial()
            self.world.advance(moment)
            dialled.cancel()
            self.failureResultOf(dialled, CancelledError)
            self.world.advance(10)
            self.assertEqual([server.why for server in self.served], [ConnectionLost] * len(self.served))
            self.assertEqual(self.world.clock.getDelayedCalls(), [])

    def test_ports(self) -> None:
        """A port is taken once, on addresses of one's own; 0 is any; closed, it refuses."""
        host = self.hosts[1]
        for address in (Address(TWO, 80), Address("0.0.0.0", 80), Address(ONE, 82)):
            self.failureResultOf(host.server(address).listen(self.factory([])), CannotListenError)
        free: Any = self.successResultOf(host.server(Address("", 0)).listen(self.factory([])))
        other: Any = self.successResultOf(host.server(Address("", 0)).listen(self.factory([])))
        self.assertNotEqual(free.getHost().port, other.getHost().port)
        client, _ = self.pair()
        self.successResultOf(self.port.stopListening())
        dialled = self.dial()
        self.world.advance(1)
        self.failureResultOf(dialled, RefusedError)
        self.assertIsNone(client.why)

    def test_no_protocol(self) -> None:
        """A factory that makes no protocol lets the other end see the end."""
        self.port._factory.buildProtocol = lambda address: None
        dialled = self.dial()
        self.world.advance(1)
        client = self.successResultOf(dialled)
        self.assertIs(client.why, ConnectionLost)


class FaultTests(Net):
    """Wires, processes, machines."""

    def test_one_way(self) -> None:
        """A wire cut in one direction holds back what goes there, and nothing is lost."""
        client, server = self.pair()
        self.net.cut(ONE, TWO)
        client.transport.write(b"question")
        server.transport.write(b"news")
        self.world.advance(60)
        self.assertEqual((server.data, client.data), (b"", b"news"))
        client.transport.write(b"?")
        self.net.mend(ONE, TWO)
        self.world.advance(1)
        self.assertEqual(server.data, b"question?")

    def test_partition(self) -> None:
        """Those on one side reach each other."""
        first, second = self.pair(0), self.pair(2)
        self.net.partition([ONE, TWO], [THREE])
        for client, server in (first, second):
            client.transport.write(b"x")
            server.transport.write(b"y")
        self.world.advance(9)
        self.assertEqual([(server.data, client.data) for client, server in (first, second)], [(b"x", b"y"), (b"", b"")])
        self.net.heal()
        self.world.advance(1)
        self.assertEqual((second[1].data, second[0].data), (b"x", b"y"))

    def test_full_while_cut(self) -> None:
        """A long silence fills the buffers, and no more than that is on the way at once."""
        client, server = self.pair()
        client.transport.registerProducer(client, True)
        self.net.cut(TWO, ONE)
        client.transport.write(bytes(400_000))
        self.world.advance(9)
        self.assertLess(len(server.data), 200_000)
        self.assertEqual(client.log, ["pause"])
        self.net.heal()
        self.world.advance(9)
        self.assertEqual((len(server.data), client.log), (400_000, ["pause", "resume"]))

    def test_reset(self) -> None:
        """A reset ends the connections between two hosts and no others."""
        first, second = self.pair(0), self.pair(2)
        self.assertEqual(self.net.reset(ONE, TWO), 1)
        self.world.advance(0)
        self.assertEqual([end.why for end in first + second], [ConnectionLost, ConnectionLost, None, None])

    def test_killed(self) -> None:
        """A process that is killed hears nothing; what it sent arrives, and then the reset."""
        client, server = self.pair()
        attempt = self.hosts[1].client(Address(ONE, 1), 5).connect(self.factory([]))
        server.transport.write(b"last words")
        self.hosts[1].kill()
        client.transport.write(b"x")
        self.world.advance(9)
        self.assertEqual((client.data, client.why, server.why), (b"last words", ConnectionLost, None))
        self.assertNoResult(attempt)
        dialled = self.dial()
        self.world.advance(1)
        self.failureResultOf(dialled, RefusedError)

    def test_power(self) -> None:
        """A machine that goes off tells nobody; when it is back, whoever still talks to it learns that it was away."""
        quiet, _ = self.pair()
        talking, _ = self.pair()
        self.hosts[1].lose_power()
        talking.transport.write(b"hello?")
        dialled = self.dial(timeout=20)
        self.world.advance(10)
        self.assertEqual((quiet.why, talking.why), (None, None))
        self.hosts[1].power_on()
        self.world.advance(5)
        self.assertEqual((quiet.why, talking.why), (None, ConnectionLost))
        self.failureResultOf(dialled, RefusedError)

    def test_stopped(self) -> None:
        """A process that stands still reads and accepts when it goes on, and its own attempts wait as well."""
        client, server = self.pair()
        mine = self.hosts[1].client(Address(THREE, 1), 5).connect(self.factory([]))
        self.hosts[1].stop()
        client.transport.write(b"x")
        dialled = self.dial()
        self.world.advance(3)
        self.successResultOf(dialled)
        self.assertEqual((server.data, len(self.served)), (b"", 1))
        self.assertNoResult(mine)
        self.hosts[1].go_on()
        self.world.advance(1)
        self.assertEqual((server.data, len(self.served)), (b"x", 2))
        self.failureResultOf(mine, RefusedError)

    def test_many(self) -> None:
        """Connections that are over are forgotten."""
        for _ in range(200):
            client, _ = self.pair()
            client.transport.loseConnection()
            self.world.advance(0.1)
        self.assertLess(len(self.net._connections), 100)
