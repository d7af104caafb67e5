"""What stands between clients and a server: frames in any pieces, answers in their order, and on time."""

from __future__ import annotations

from struct import pack
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from zktwisted.errors import Code
from zktwisted.kit.requests import Recording, Wanted
from zktwisted.kit.traffic import DELAY, FAIL, LOSE_ANSWER, LOSE_REQUEST, Faults, Rule, Traffic
from zktwisted.wire import jute, ops
from zktwisted.wire.frames import failure, frame

CONNECT = frame(bytes(44))
ACCEPTED = frame(pack(">iiqi", 0, 4000, 0x17, 16) + bytes(16))


def request(xid: int, op: int = ops.GET_DATA, path: str = "/a") -> bytes:
    return frame(pack(">ii", xid, op) + jute.pack_buffer(path.encode()) + b"\x00")


class Server(Protocol):
    """A server that keeps what it gets, and answers when it is told to."""

    def __init__(self, factory: Any) -> None:
        self.factory = factory
        self.got = b""
        self.lost: list[Failure] = []

    def dataReceived(self, data: bytes) -> None:
        self.got += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.append(reason)


class Servers(Factory):
    max_frame = 1000

    def buildProtocol(self, addr: Any) -> Server:
        self.made = Server(self)
        return self.made


class Transport(StringTransport):
    """One that loses its connection in the turn after it was told to, as a real one."""

    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True


class TrafficTests(SynchronousTestCase):
    """One connection."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.faults = Faults()
        self.traffic = Traffic(self.clock, self.faults)
        self.servers = Servers()
        self.tap = self.traffic.wrap(self.servers).buildProtocol(IPv4Address("TCP", "127.0.0.1", 1))
        self.transport = Transport()
        self.tap.makeConnection(self.transport)
        self.server = self.servers.made

    def begin(self) -> None:
        """Let the client have its session, and forget how."""
        self.tap.dataReceived(CONNECT)
        self.answer(ACCEPTED)
        self.server.got = b""
        self.transport.clear()

    def answer(self, *frames: bytes) -> None:
        assert self.server.transport is not None
        self.server.transport.write(b"".join(frames))

    def test_session(self) -> None:
        """The session is known as soon as the client knows it."""
        self.tap.dataReceived(CONNECT)
        self.assertEqual(0, self.tap.session)
        self.answer(ACCEPTED)
        self.assertEqual(0x17, self.tap.session)
        self.assertEqual((CONNECT, ACCEPTED), (self.server.got, self.transport.value()))
        self.assertTrue(self.traffic.used)

    def test_words(self) -> None:
        """Four letters are no frame, and nor is their answer."""
        self.tap.dataReceived(b"ru")
        self.tap.dataReceived(b"ok")
        self.assertEqual(b"ruok", self.server.got)
        self.answer(b"imok")
        self.assertEqual(b"imok", self.transport.value())

    def test_nonsense(self) -> None:
        """What is no frame is the server's to refuse, at once and as it came."""
        for nonsense in (b"GET / HTTP/1.1\r\n", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", pack(">i", 1001)):
            self.setUp()
            self.begin()
            self.tap.dataReceived(request(1) + nonsense)
            self.assertEqual(request(1) + nonsense, self.server.got)

    @settings(deadline=None, derandomize=True, max_examples=50)
    @given(st.lists(st.integers(1, 30), max_size=40), st.booleans())
    def test_pieces(self, sizes: list[int], short: bool) -> None:
        """In whatever pieces requests and answers come, all go on, in order."""
        self.setUp()
        self.begin()
        asked = b"".join(request(xid) for xid in range(1, 6)) + frame(b"12345") * short
        answered = b"".join(failure(xid, 9, 0) for xid in range(1, 6))
        for data, take in ((asked, self.tap.dataReceived), (answered, self.answer)):
            rest = data
            for size in sizes:
                take(rest[:size])
                rest = rest[size:]
            take(rest)
        self.assertEqual(asked, self.server.got)
        self.assertEqual(answered, self.transport.value())

    def test_recording(self) -> None:
        """A request is recorded when it comes, and what it was answered when that goes out."""
        recording = Recording()
        self.faults.recordings.append(recording)
        self.begin()
        self.tap.dataReceived(request(1, ops.CREATE) + request(2) + request(3) + request(-2, ops.PING))
        self.assertEqual([None] * 3, [each.code for each in recording.requests])
        self.answer(failure(1, 5, Code.NODEEXISTS), failure(-1, 5, 0), failure(2, 5, 0), failure(3, 5, 4711))
        self.assertEqual([Code.NODEEXISTS, Code.OK, 4711], [each.code for each in recording.requests])
        self.assertEqual({0x17}, {each.session for each in recording.requests})

    def test_fail(self) -> None:
        """The answer of ours waits for those before it, and has the last zxid that the client has seen."""
        self.faults.rules.append(Rule(FAIL, Wanted.of(None, "/b"), code=Code.NOAUTH))
        self.begin()
        self.tap.dataReceived(request(1) + request(2, path="/b") + request(3) + request(4, path="/b"))
        self.assertEqual(request(1) + request(3) + request(4, path="/b"), self.server.got)
        self.assertEqual(b"", self.transport.value())
        self.answer(failure(1, 7, 0))
        self.assertEqual(failure(1, 7, 0) + failure(2, 7, Code.NOAUTH), self.transport.value())
        self.assertEqual([], self.faults.rules)

    def test_fail_alone(self) -> None:
        """Without anything before it, it is answered at once, before the server is asked what follows."""
        self.faults.rules.append(Rule(FAIL, Wanted(), times=2, code=Code.NOAUTH))
        self.begin()
        self.tap.dataReceived(request(1) + request(2) + request(3))
        self.assertEqual(failure(1, 0, Code.NOAUTH) + failure(2, 0, Code.NOAUTH), self.transport.value())
        self.assertEqual(request(3), self.server.got)

    def test_same_xid(self) -> None:
        """Auth packets all have one xid, and are answered before what is older: the server answers what it got."""
        self.faults.rules.append(Rule(FAIL, Wanted.of("auth", None), code=Code.NOAUTH))
        recording = Recording(everything=True)
        self.faults.recordings.append(recording)
        self.begin()
        self.tap.dataReceived(request(1) + request(-4, ops.AUTH) + request(-4, ops.AUTH))
        self.answer(failure(-4, 7, 0), failure(1, 7, 0))
        self.assertEqual(
            failure(-4, 7, 0) + failure(1, 7, 0) + failure(-4, 7, Code.NOAUTH), self.transport.value()
        )
        self.assertEqual([Code.OK, Code.NOAUTH, Code.OK], [each.code for each in recording.requests])

    def test_shorter_delay(self) -> None:
        """What is less late does not overtake what is later."""
        self.begin()
        self.faults.delay = 2.0
        self.answer(failure(-1, 1, 0))
        self.faults.delay = 0.5
        self.answer(failure(-1, 2, 0))
        self.clock.advance(1)
        self.assertEqual(b"", self.transport.value())
        self.clock.advance(1)
        self.assertEqual(failure(-1, 1, 0) + failure(-1, 2, 0), self.transport.value())

    def test_delay(self) -> None:
        """What is late comes then, and what follows it right behind."""
        self.faults.rules.append(Rule(DELAY, Wanted.of(None, "/b"), seconds=2.0))
        self.begin()
        self.tap.dataReceived(request(1) + request(2, path="/b") + request(3))
        self.answer(failure(1, 1, 0), failure(2, 1, 0), failure(3, 1, 0))
        self.assertEqual(failure(1, 1, 0), self.transport.value())
        self.clock.advance(1.9)
        self.assertEqual(failure(1, 1, 0), self.transport.value())
        self.clock.advance(0.2)
        self.assertEqual(failure(1, 1, 0) + failure(2, 1, 0) + failure(3, 1, 0), self.transport.value())

    def test_delay_and_fail(self) -> None:
        """One request may be late and fail."""
        self.faults.rules.append(Rule(DELAY, Wanted(), seconds=2.0))
        self.faults.rules.append(Rule(FAIL, Wanted(), code=Code.NOAUTH))
        self.begin()
        self.tap.dataReceived(request(1))
        self.assertEqual(b"", self.transport.value())
        self.clock.advance(2)
        self.assertEqual(failure(1, 0, Code.NOAUTH), self.transport.value())

    def test_everything_is_late(self) -> None:
        """Events, pings and the end as well, which comes after what was said before."""
        self.begin()
        self.faults.delay = 1.0
        event = failure(-1, 3, 0)
        self.answer(event)
        self.clock.advance(0.5)
        self.answer(event)
        assert self.server.transport is not None
        self.server.transport.loseConnection()
        self.clock.advance(0.5)
        self.assertEqual(event, self.transport.value())
        self.assertFalse(self.transport.disconnecting)
        self.clock.advance(0.5)
        self.assertEqual(event + event, self.transport.value())
        self.assertTrue(self.transport.disconnecting)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_release(self) -> None:
        """Healed, what is late comes at once."""
        self.begin()
        self.faults.delay = 3600.0
        self.answer(failure(-1, 3, 0))
        self.faults.clear()
        self.traffic.release()
        self.clock.advance(0)
        self.assertEqual(failure(-1, 3, 0), self.transport.value())

    def test_lose_request(self) -> None:
        """The request never comes, nor do those behind it, nor an answer to those before it."""
        self.faults.rules.append(Rule(LOSE_REQUEST, Wanted.of(None, "/b")))
        self.begin()
        self.tap.dataReceived(request(1) + request(2, path="/b") + request(3))
        self.assertTrue(self.transport.aborted)
        self.answer(failure(1, 1, 0))
        self.assertEqual((request(1), b""), (self.server.got, self.transport.value()))

    def test_lose_answer(self) -> None:
        """The request comes, and what it was answered is recorded and goes nowhere."""
        recording = Recording()
        self.faults.recordings.append(recording)
        self.faults.rules.append(Rule(LOSE_ANSWER, Wanted.of(None, "/b")))
        self.begin()
        self.tap.dataReceived(request(1) + request(2, path="/b"))
        self.answer(failure(1, 1, 0), failure(2, 1, 0), failure(-1, 1, 0))
        self.assertTrue(self.transport.aborted)
        self.assertEqual(b"", self.transport.value()[len(failure(1, 1, 0)) :])
        self.assertEqual([Code.OK, Code.OK], [each.code for each in recording.requests])

    def test_drop(self) -> None:
        """One session's connection breaks, or all; one that is gone is forgotten, with what was late on it."""
        self.begin()
        self.assertEqual(0, self.traffic.drop(5))
        self.assertEqual(1, self.traffic.drop(0x17))
        self.assertEqual(1, self.traffic.drop())
        self.faults.delay = 1.0
        self.setUp()
        self.begin()
        self.faults.delay = 1.0
        self.answer(failure(-1, 1, 0))
        self.tap.connectionLost(Failure(connectionDone.value))
        self.assertEqual(([], 0), (self.clock.getDelayedCalls(), self.traffic.drop()))
        self.assertEqual(1, len(self.server.lost))
