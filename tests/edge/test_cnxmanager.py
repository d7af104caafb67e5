"""Connections between election ports: who calls whom, and what becomes of messages when they break."""

from __future__ import annotations

from struct import pack
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.task import Clock
from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides

from tests.edge.elections import Line, Wires, settings
from tests.zab.elections import ensemble
from zktwisted.config import Ensemble
from zktwisted.config.ensemble import Address
from zktwisted.edge.cnxmanager import ElectionPortError, QuorumCnxManager
from zktwisted.wire.votes import FRAME_MAX, encode_initial

TWO = Address("10.0.0.2", 3888)


def message(text: bytes) -> bytes:
    """Put a text in a frame."""
    return pack(">i", len(text)) + text


def hello(sid: int, *addresses: tuple[str, int]) -> bytes:
    """Return what a server says first."""
    return encode_initial(sid, addresses or ((f"10.0.0.{sid}", 3888),), many=True)


class World(SynchronousTestCase):
    """Server 2 of three, with nothing decided."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.wires = Wires()
        self.heard: list[tuple[int, bytes]] = []
        self.make()

    def make(self, those: Ensemble | None = None, sid: int = 2, start: bool = True, **more: Any) -> Deferred[None]:
        those = those or ensemble()
        config = settings(sid, those, **more)
        self.manager = QuorumCnxManager(
            self.wires, self.clock, sid, config, those, lambda peer, body: self.heard.append((peer, body))
        )
        return Deferred.fromCoroutine(self.manager.start()) if start else Deferred()

    def call(self, data: bytes = b"") -> Line:
        return self.wires.call(TWO, data)

    def attempt(self) -> Any:
        """Return the newest attempt to connect."""
        return self.wires.attempts[-1]

    def called(self) -> list[str]:
        """Return where it was tried to connect to."""
        return [attempt.address.host for attempt in self.wires.attempts]


class DialTests(World):
    """The server calls others."""

    def test_a_smaller_server(self) -> None:
        """The connection that the larger server makes is the one: it says who it is and what waits."""
        self.manager.send(1, message(b"vote"))
        self.assertEqual((Address("10.0.0.1", 3888), 5.0), (self.attempt().address, self.attempt().timeout))
        self.assertFalse(self.manager.heard)
        line = self.attempt().succeed()
        expected = bytes.fromhex("ffffffffffff0000 0000000000000002 0000000d") + b"10.0.0.2:3888"
        self.assertEqual(expected + message(b"vote"), line.written())
        self.assertTrue(self.manager.heard)
        self.assertEqual((1,), self.manager.connected)
        self.manager.send(1, message(b"next"))
        self.assertEqual(message(b"next"), line.written())
        self.assertFalse(line.disconnecting)
        self.assertEqual(1, len(self.wires.attempts))

    def test_a_larger_server(self) -> None:
        """It is only told who called; it calls back, and then it gets what waits."""
        self.manager.send(3, message(b"vote"))
        line = self.attempt().succeed()
        self.assertEqual(hello(2)[8:], line.written()[8:])
        self.assertTrue(line.disconnecting)
        self.assertFalse(line.cut)
        self.assertFalse(self.manager.heard)
        line.lose()
        self.assertEqual((), self.manager.connected)
        back = self.call(hello(3))
        self.assertEqual(message(b"vote"), back.written())
        self.assertEqual((3,), self.manager.connected)

    def test_several_addresses(self) -> None:
        """They are named if that is allowed, and tried one after the other; the last that answered is tried first."""
        lines = ["server.1=10.0.0.1:2888:3888|10.1.0.1:2888:3888", "server.2=10.0.0.2:2888:3888|10.1.0.2:2888:3888"]
        those = Ensemble.parse([*lines, "server.3=10.0.0.3:2888:3888"], multi_address=True)
        self.wires = Wires()
        self.make(those, multi_address_enabled=True)
        self.assertEqual([TWO, Address("10.1.0.2", 3888)], list(self.wires.listening))
        self.manager.send(1, message(b"vote"))
        self.assertEqual((1.0, ["10.0.0.1"]), (self.attempt().timeout, self.called()))
        self.attempt().refuse()
        self.assertEqual((5.0, ["10.0.0.1", "10.1.0.1"]), (self.attempt().timeout, self.called()))
        line = self.attempt().succeed()
        self.assertEqual(hello(2, ("10.0.0.2", 3888), ("10.1.0.2", 3888)) + message(b"vote"), line.written())
        line.lose()
        self.manager.send(1, message(b"vote"))
        self.assertEqual("10.1.0.1", self.attempt().address.host)

    def reach(self, **more: Any) -> Line:
        """Connect to a server with two addresses, and then say something."""
        lines = ["server.1=10.0.0.1:2888:3888|10.1.0.1:2888:3889", "server.2=10.0.0.2:2888:3888"]
        self.wires = Wires()
        self.make(Ensemble.parse(lines, multi_address=True), multi_address_enabled=True, **more)
        self.manager.send(1, message(b"vote"))
        self.attempt().refuse()
        line: Line = self.attempt().succeed()
        line.clear()
        self.manager.send(1, message(b"next"))
        self.assertEqual(message(b"next"), line.written())
        return line

    def test_an_address_that_is_cut_off(self) -> None:
        """If a server with several addresses is not reached any more where it was, another one is tried at once."""
        line = self.reach()
        probe = self.attempt()
        self.assertEqual((Address("10.1.0.1", 3889), 1.0), (probe.address, probe.timeout))
        self.manager.send(1, message(b"more"))
        self.assertEqual(3, len(self.wires.attempts))  # one at a time
        self.clock.advance(1.0)
        self.assertTrue(probe.given_up and line.cut)
        self.assertEqual((4, "10.0.0.1"), (len(self.wires.attempts), self.attempt().address.host))
        line.lose()
        self.assertTrue(self.attempt().succeed().written().endswith(message(b"more")))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_an_address_that_is_not(self) -> None:
        """Who accepts a connection or refuses it is there; a probe says nothing, and none outlives its manager."""
        for outcome in ("succeed", "refuse"):
            line = self.reach()
            probe = getattr(self.attempt(), outcome)()
            if probe is not None:
                self.assertTrue(probe.disconnecting and not probe.cut)
                self.assertEqual(b"", probe.written())
            self.clock.advance(2.0)
            self.assertFalse(line.cut)
            self.manager.send(1, message(b"more"))
            self.assertEqual(4, len(self.wires.attempts))
            stopped = Deferred.fromCoroutine(self.manager.stop())
            line.lose()
            self.successResultOf(stopped)
            self.assertTrue(self.attempt().given_up)
            self.assertEqual([], self.clock.getDelayedCalls())

    def test_nobody_wants_to_know(self) -> None:
        """Without the setting, and with one address, nothing is probed."""
        self.reach(multi_address_reachability_check_enabled=False)
        self.assertEqual(2, len(self.wires.attempts))

    def test_one_attempt_at_a_time(self) -> None:
        """While one is under way nothing else is tried; when it has failed the next message tries again."""
        for _ in range(3):
            self.manager.send(1, message(b"vote"))
            self.manager.dial_all()
        self.assertEqual(["10.0.0.1"], self.called())
        self.attempt().refuse()
        self.assertEqual(["10.0.0.1"], self.called())
        self.manager.dial_all()
        self.assertEqual(["10.0.0.1"] * 2, self.called())

    def test_dialling_all(self) -> None:
        """Those for whom there is something, and who have no connection."""
        self.manager.dial_all()
        self.assertEqual([], self.called())
        self.manager.send(1, message(b"vote"))
        self.attempt().succeed()
        self.manager.send(3, message(b"vote"))
        self.attempt().refuse()
        self.manager.dial_all()
        self.assertEqual(["10.0.0.1", "10.0.0.3", "10.0.0.3"], self.called())

    def test_an_attempt_that_never_ends(self) -> None:
        """Also a name that is looked up for ever is given up after the time of an attempt."""
        self.make(sid=2, cnx_timeout=700, start=False)
        Deferred.fromCoroutine(self.manager.start())
        self.manager.send(1, message(b"vote"))
        self.clock.advance(0.69)
        self.assertFalse(self.attempt().given_up)
        self.clock.advance(0.02)
        self.assertTrue(self.attempt().given_up)
        self.manager.send(1, message(b"vote"))
        self.assertEqual(2, len(self.wires.attempts))

    def test_nobody(self) -> None:
        """A server that is in no ensemble cannot be called; nothing of it is kept."""
        self.manager.send(9, message(b"vote"))
        self.assertEqual([], self.wires.attempts)
        self.assertFalse(self.manager.heard)
        self.manager.dial_all()
        self.assertEqual([], self.wires.attempts)

    def test_the_ensemble_to_come(self) -> None:
        """Servers that only the coming ensemble has are found in it."""
        those = ensemble()
        self.manager = QuorumCnxManager(
            self.wires, self.clock, 2, settings(2, those), those, lambda peer, body: None, ensemble(5)
        )
        Deferred.fromCoroutine(self.manager.start())
        self.manager.send(5, message(b"vote"))
        self.assertEqual(["10.0.0.5"], self.called())

    def test_socket_options(self) -> None:
        """No delay always; probes as the setting says."""
        for keep_alive in (False, True):
            self.make(tcp_keep_alive=keep_alive)
            protocol = self.wires.listening[TWO].buildProtocol(None)  # type: ignore[arg-type]
            line = Line.__new__(Line)
            directlyProvides(line, ITCPTransport)
            Line.__init__(line, protocol)
            self.assertEqual((True, keep_alive), (line.no_delay, line.keep_alive))


class AcceptTests(World):
    """Others call the server."""

    def test_a_smaller_server(self) -> None:
        """It is not listened to any further; what there was with it is closed, and it is called back."""
        self.manager.send(1, message(b"vote"))
        old = self.attempt().succeed()
        line = self.call(hello(1, ("10.0.7.1", 3999)) + message(b"ignored"))
        self.assertTrue(line.disconnecting)
        self.assertTrue(old.cut)
        self.assertEqual(Address("10.0.7.1", 3999), self.attempt().address)
        self.assertEqual([], self.heard)
        old.lose()
        new = self.attempt().succeed()
        # The vote may have been lost with the old connection.
        self.assertTrue(new.written().endswith(message(b"vote")))
        self.assertEqual((1,), self.manager.connected)
        line.lose()
        self.assertEqual((1,), self.manager.connected)

    def test_where_a_smaller_server_is(self) -> None:
        """Where it says, if that can be called; else where the ensemble says; nowhere, if nobody knows."""
        for data, expected in (
            (hello(1, ("0.0.0.0", 3888)), ["10.0.0.1"]),
            (hello(1, ("::", 3888), ("fd00::1", 3888)), ["fd00::1"]),
            (pack(">q", 1), ["10.0.0.1"]),
            (hello(0, ("10.0.9.9", 1)), ["10.0.9.9"]),
            (pack(">q", 0), []),
            (hello(0, ("0.0.0.0", 3888)), []),
            # Not where somebody else is.
            (hello(0, ("10.0.0.3", 3888), ("10.0.0.2", 3888)), []),
            (hello(1, ("10.0.0.3", 3888)), ["10.0.0.1"]),
        ):
            self.wires = Wires()
            self.make()
            self.assertTrue(self.call(data).disconnecting)
            self.assertEqual(expected, self.called())

    def test_called_back_where_it_says(self) -> None:
        """Several announced addresses are tried one after the other."""
        self.call(hello(1, ("10.0.7.1", 1), ("10.0.7.2", 2)))
        self.attempt().refuse()
        self.assertEqual(["10.0.7.1", "10.0.7.2"], self.called())

    def test_announced_while_it_is_called(self) -> None:
        """The attempt that is under way goes on; where it says it is comes next, if nobody answers."""
        self.manager.send(1, message(b"vote"))
        self.call(hello(1, ("10.0.7.1", 3999)))
        self.assertEqual(["10.0.0.1"], self.called())
        self.attempt().refuse()
        self.assertEqual(["10.0.0.1", "10.0.7.1"], self.called())
        self.attempt().refuse()
        self.assertEqual(2, len(self.wires.attempts))

    def test_a_larger_server(self) -> None:
        """Its connection is the one; a later one takes its place."""
        first = self.call(hello(3) + message(b"a"))
        self.assertEqual([(3, b"a")], self.heard)
        self.manager.send(3, message(b"vote"))
        self.assertEqual(message(b"vote"), first.written())
        second = self.call(hello(3))
        self.assertEqual((True, False), (first.cut, second.cut))
        self.assertEqual(message(b"vote"), second.written())
        first.protocol.dataReceived(message(b"late"))
        first.lose()
        self.assertEqual((3,), self.manager.connected)
        second.protocol.dataReceived(message(b"b"))
        self.assertEqual([(3, b"a"), (3, b"b")], self.heard)
        self.assertEqual([], self.wires.attempts)

    def test_strangers(self) -> None:
        """A larger id that nobody knows is listened to and answered, in every form of introduction, then forgotten."""
        for data in (hello(9), pack(">q", 9), hello(9)[:7] + b"\0" + hello(9)[8:]):
            line = self.call(data + message(b"who?"))
            self.assertEqual((9, b"who?"), self.heard[-1])
            self.manager.send(9, message(b"vote"))
            self.assertEqual(message(b"vote"), line.written())
            line.lose()
            again = self.call(hello(9))
            self.assertEqual(b"", again.written())
            again.lose()

    def test_strangers_are_not_without_number(self) -> None:
        """Of those who come, a hundred stay; the ensemble's own are none of them."""
        three = self.call(hello(3))
        lines = [self.call(hello(sid)) for sid in range(100, 201)]
        self.assertEqual([True] + [False] * 100, [line.cut for line in lines])
        self.assertFalse(three.cut)
        for line in lines:
            line.lose()
        # So many are called back at the same time, too.
        those = ensemble(3, 0)
        self.wires = Wires()
        self.make(Ensemble(those.members[2:]), sid=3, standalone_enabled=False)
        for sid in range(-101, 0):
            self.wires.call(Address("10.0.0.3", 3888), hello(sid, ("10.0.7.1", 1)))
        self.assertEqual([True] + [False] * 100, [attempt.given_up for attempt in self.wires.attempts])

    def test_myself(self) -> None:
        """A server with our id has the wrong configuration."""
        line = self.call(hello(2) + message(b"x"))
        self.assertTrue(line.cut)
        self.assertEqual(([], []), (self.heard, self.wires.attempts))

    def test_observers_without_id(self) -> None:
        """Each gets an id below all others, so it is called back."""
        for host in ("10.0.7.1", "10.0.7.2"):
            line = self.call(hello((1 << 63) - 1, (host, 3888)))
            self.assertTrue(line.disconnecting)
            self.assertEqual(host, self.attempt().address.host)
        self.wires.attempts[0].succeed()
        self.attempt().succeed()
        self.assertEqual((-2, -1), self.manager.connected)

    def test_byte_by_byte(self) -> None:
        """It does not matter in which pieces anything comes."""
        data = hello(3) + message(b"one") + message(b"two") + message(b"x" * 300)
        expected = [(3, b"one"), (3, b"two"), (3, b"x" * 300)]
        line = self.call()
        for index in range(len(data)):
            line.protocol.dataReceived(data[index : index + 1])
        self.assertEqual(expected, self.heard)
        self.heard.clear()
        self.call(data)
        self.assertEqual(expected, self.heard)


class MessageTests(World):
    """One message waits for each server, and the last is said again."""

    def test_the_newest_waits(self) -> None:
        """Without a connection a message takes the place of the one before."""
        for text in (b"one", b"two", b"three"):
            self.manager.send(3, message(text))
        line = self.call(hello(3))
        self.assertEqual(message(b"three"), line.written())

    def test_who_does_not_read(self) -> None:
        """What is written does not pile up: the newest waits until the other end has read, and nobody else waits."""
        slow, other = self.call(hello(3)), self.attempt_one()
        slow.protocol.pauseProducing()
        for text in (b"one", b"two"):
            self.manager.send(3, message(text))
            self.manager.send(1, message(text))
        self.assertEqual(b"", slow.written())
        self.assertEqual(message(b"one") + message(b"two"), other.written())
        slow.protocol.resumeProducing()
        self.assertEqual(message(b"two"), slow.written())
        slow.protocol.pauseProducing()
        slow.protocol.resumeProducing()
        self.assertEqual(b"", slow.written())

    def attempt_one(self) -> Line:
        """Return the connection to server 1."""
        self.manager.send(1, message(b"x"))
        line: Line = self.attempt().succeed()
        line.clear()
        return line

    def test_said_again(self) -> None:
        """FLELostMessage: what was written last may be lost; a new connection begins with it, or with what is newer."""
        line = self.call(hello(3))
        self.assertEqual(b"", line.written())
        self.manager.send(3, message(b"one"))
        line.lose()
        line = self.call(hello(3))
        self.assertEqual(message(b"one"), line.written())
        line.lose()
        self.manager.send(3, message(b"two"))
        self.attempt().succeed().lose()
        line = self.call(hello(3))
        self.assertEqual(message(b"two"), line.written())

    def test_heard(self) -> None:
        """Whether anybody has taken what there was last."""
        self.assertFalse(self.manager.heard)
        self.call(hello(3))
        self.assertFalse(self.manager.heard)
        self.manager.send(1, message(b"one"))
        self.assertFalse(self.manager.heard)
        self.manager.send(3, message(b"one"))
        self.assertTrue(self.manager.heard)


class HarmTests(World):
    """Whoever breaks the rules loses his connection, and nobody else anything."""

    def setUp(self) -> None:
        super().setUp()
        events: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        self.events = events

    def logged(self) -> list[str]:
        """Return the lines that were logged since the last time."""
        shown = [event for event in self.events if event["log_level"] > LogLevel.debug]
        lines = [formatEvent(event) for event in shown if event["log_namespace"].endswith(("cnxmanager", "channel"))]
        self.events.clear()
        return lines

    def test_lengths(self) -> None:
        """A frame of no length, a negative one or more than 524288 bytes ends the connection."""
        good = self.call(hello(3))
        self.logged()
        for length in (0, -1, -(1 << 31), FRAME_MAX + 1, (1 << 31) - 1):
            line = self.call(hello(9) + message(b"x") + pack(">i", length) + message(b"never"))
            self.assertTrue(line.cut, length)
            line.protocol.dataReceived(message(b"late"))
            line.lose()
            said = f"Closing the election connection with 10.0.0.9:40000: a frame of {length} bytes"
            self.assertEqual([said], self.logged())
            self.assertEqual((9, b"x"), self.heard.pop())
            self.assertEqual([], self.heard)
        self.assertFalse(good.cut)
        line = self.call(hello(9) + pack(">i", FRAME_MAX))
        for _ in range(FRAME_MAX // 65536):
            line.protocol.dataReceived(bytes(65536))
        self.assertEqual([(9, bytes(FRAME_MAX))], self.heard)
        self.assertFalse(line.cut)

    def test_introductions(self) -> None:
        """Unknown tags, malformed addresses and other protocols end it, too."""
        tls = bytes.fromhex("1603010200010001fc0303")
        for data in (
            pack(">q", -65534),
            pack(">qqi", -65536, 3, 0),
            pack(">qqi", -65536, 3, 1 << 30),
            hello(3)[:-5] + b"xxxxx",
            tls + bytes(1000) + b"\xff" * 8,
            b"GET / HTTP/1.1\r\nHost: zk\r\n\r\n",
        ):
            self.logged()
            line = self.call(data)
            self.assertTrue(line.cut, data)
            self.assertEqual(1, len(self.logged()), data)
        self.assertEqual(([], []), (self.heard, self.wires.attempts))

    def test_silence(self) -> None:
        """Who does not say who he is has ten seconds, or what the setting says; afterwards silence is allowed."""
        for expected, setting in ((10.0, -1), (3.0, 3000), (10.0, 0)):
            self.wires = Wires()
            self.make(quorum_cnxn_timeout_ms=setting)
            silent, slow = self.call(), self.call(hello(3)[:-1])
            good = self.call(hello(3))
            self.clock.advance(expected - 0.01)
            self.assertEqual([False] * 3, [line.cut for line in (silent, slow, good)])
            self.clock.advance(0.02)
            self.assertEqual([True, True, False], [line.cut for line in (silent, slow, good)])
            self.clock.advance(100_000)
            self.assertFalse(good.cut)
            self.assertEqual([], self.clock.getDelayedCalls())

    def test_many_silent_connections(self) -> None:
        """The oldest of more than a hundred gives way; who speaks is heard all the same."""
        lines = [self.call() for _ in range(101)]
        self.assertEqual([True] + [False] * 100, [line.cut for line in lines])
        self.call(hello(3) + message(b"x"))
        self.assertEqual([(3, b"x")], self.heard)
        for line in lines:
            line.lose()
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_nothing_after_the_end(self) -> None:
        """What has come with a message after which everything was closed is not heard."""
        line = self.call(hello(3))
        self.manager._receive = lambda sid, body: self.heard.append((sid, body)) or self.manager.forget()
        line.protocol.dataReceived(message(b"last") + message(b"late"))
        line.protocol.dataReceived(message(b"later"))
        self.assertEqual([(3, b"last")], self.heard)
        self.assertTrue(line.cut)

    def test_what_others_write_to_a_caller(self) -> None:
        """A smaller server that was called is listened to in the same way."""
        self.manager.send(1, message(b"vote"))
        line = self.attempt().succeed()
        line.protocol.dataReceived(message(b"yes") + pack(">i", 0))
        self.assertEqual([(1, b"yes")], self.heard)
        self.assertTrue(line.cut)


class ListenTests(World):
    """The port, and the end of it all."""

    def setUp(self) -> None:
        super().setUp()
        self.wires = Wires()

    def test_addresses(self) -> None:
        """It listens where the ensemble says, or everywhere on that port."""
        self.successResultOf(self.make())
        self.assertEqual([TWO], list(self.wires.listening))
        self.wires = Wires()
        self.successResultOf(self.make(quorum_listen_on_all_ips=True))
        self.assertEqual([Address("", 3888)], list(self.wires.listening))

    def test_a_port_that_is_taken(self) -> None:
        """It is tried three times, a second apart, or as often as the setting says; then the process has to end."""
        for retries, tries in ((3, 3), (-1, 3), (1, 1), (5, 5)):
            self.wires = Wires()
            self.wires.taken.add(TWO)
            started = self.make(election_port_bind_retry=retries)
            for number in range(1, tries):
                self.assertNoResult(started)
                self.assertEqual(number, len(self.wires.tried))
                self.clock.advance(1.0)
            failure = self.failureResultOf(started, ElectionPortError)
            self.assertEqual(14, failure.value.status)
            self.assertIn("Address already in use", str(failure.value))
            self.assertEqual(tries, len(self.wires.tried))
            self.assertEqual([], self.clock.getDelayedCalls())

    def test_a_port_that_becomes_free(self) -> None:
        """Without a limit it waits for as long as it takes."""
        self.wires.taken.add(TWO)
        started = self.make(election_port_bind_retry=0)
        for _ in range(100):
            self.clock.advance(1.0)
        self.assertNoResult(started)
        self.wires.taken.clear()
        self.clock.advance(1.0)
        self.successResultOf(started)
        self.assertEqual([TWO], list(self.wires.listening))

    def test_one_of_two_addresses(self) -> None:
        """One is enough to begin with; the other is tried on, and given up without harm."""
        lines = ["server.1=10.0.0.1:2888:3888", "server.2=10.0.0.2:2888:3888|10.1.0.2:2888:3888"]
        those = Ensemble.parse(lines, multi_address=True)
        for becomes_free in (True, False):
            self.wires = Wires()
            self.wires.taken.add(TWO)
            self.successResultOf(self.make(those, multi_address_enabled=True))
            self.assertEqual([Address("10.1.0.2", 3888)], list(self.wires.listening))
            if becomes_free:
                self.wires.taken.clear()
            self.clock.pump([1.0] * 3)
            self.assertEqual(becomes_free, TWO in self.wires.listening)
            self.assertEqual([], self.clock.getDelayedCalls())

    def test_stop(self) -> None:
        """Everything is closed and nothing is left, and only then it is said."""
        self.successResultOf(self.make())
        silent, three = self.call(), self.call(hello(3))
        self.manager.send(1, message(b"vote"))
        stopped = Deferred.fromCoroutine(self.manager.stop())
        self.assertEqual({}, self.wires.listening)
        self.assertTrue(self.attempt().given_up)
        self.assertTrue(silent.cut and three.cut)
        silent.lose()
        self.assertNoResult(stopped)
        three.lose()
        self.successResultOf(stopped)
        self.assertEqual([], self.clock.getDelayedCalls())
        self.manager.send(1, message(b"vote"))
        self.manager.dial_all()
        self.assertEqual(1, len(self.wires.attempts))

    def test_stop_while_the_port_is_taken(self) -> None:
        """It is not tried any more."""
        self.wires.taken.add(TWO)
        started = self.make()
        self.successResultOf(Deferred.fromCoroutine(self.manager.stop()))
        self.failureResultOf(started, CancelledError)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_connections_that_come_too_late(self) -> None:
        """What was accepted before the stop and is made after it is closed at once."""
        self.successResultOf(self.make())
        factory = self.wires.listening[TWO]
        self.successResultOf(Deferred.fromCoroutine(self.manager.stop()))
        line = Line(factory.buildProtocol(None))  # type: ignore[arg-type]
        self.assertTrue(line.cut)
        line.lose()
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_attempts_that_succeed_too_late(self) -> None:
        """An attempt that was given up and is made nevertheless is closed, and harms nobody."""
        self.successResultOf(self.make())
        self.manager.send(1, message(b"vote"))
        attempt = self.attempt()
        line = Line(attempt.factory.buildProtocol(None))
        self.manager.send(1, message(b"more"))
        stopped = Deferred.fromCoroutine(self.manager.stop())
        self.assertTrue(line.cut)
        line.lose()
        self.successResultOf(stopped)
