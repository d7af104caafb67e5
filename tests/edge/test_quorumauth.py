"""Servers that authenticate to one another: the bytes that Java's say, who gets in, and how long it may take."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable, Iterator
from pathlib import Path
from struct import pack
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.edge.elections import Line, Wires
from tests.edge.elections import settings as settings_of
from tests.edge.test_cnxmanager import TWO, hello, message
from tests.edge.test_quorum import FakeNetwork, Listener, Transport
from tests.zab.elections import ensemble
from zktwisted.config.ensemble import Address
from zktwisted.config.jaas import Login, Users
from zktwisted.edge.cnxmanager import QuorumCnxManager
from zktwisted.edge.quorum import Dialer, QuorumFactory, QuorumProtocol
from zktwisted.edge.quorumauth import (
    Accepting,
    Connecting,
    DigestAdmission,
    Exchange,
    Guard,
    QuorumAuth,
    QuorumAuthError,
)
from zktwisted.wire import quorum
from zktwisted.wire.quorum import QuorumPacket, pack_bare
from zktwisted.wire.quorumauth import ERROR, IN_PROGRESS, MAGIC, SUCCESS, AuthPacket, encode_auth, read_auth
from zktwisted.wire.sasl import DigestClient, directives

GOLDEN = Path(__file__).parent.parent / "golden"
USERS = Users({"test": "testsecret", "other": "othersecret"})
LOGIN = Login("test", "testsecret")
WRONG = Login("test", "guessed")
HELLO = encode_auth(IN_PROGRESS, b"")
REFUSED = encode_auth(ERROR, b"")
PACKET = pack_bare(quorum.FOLLOWERINFO, 1 << 32)


def admission_of(nonce: bytes = b"n" * 30) -> DigestAdmission:
    """Who may call, with a nonce that can be foretold."""
    return DigestAdmission(USERS, lambda size: nonce)


def login_of(login: Login, nonce: bytes = b"c" * 30) -> DigestClient:
    """As who calls, likewise."""
    return DigestClient(
        "zookeeper-quorum", "zk-quorum-sasl-md5", login.username, login.password, nonce, login.username
    )


def auth_of(login: Login | None = LOGIN, required: bool = True) -> QuorumAuth:
    """What a server has."""
    return QuorumAuth(admission_of(), None if login is None else lambda host: login_of(login), required)


def accepting_of(required: bool = True, nonce: bytes = b"n" * 30) -> Accepting:
    """The side that was called."""
    return Accepting(admission_of(nonce), required)


def begun(login: Login) -> Connecting:
    """The side that calls, when it has said its L{HELLO}."""
    connecting = Connecting(login_of(login), maybeDeferred)
    connecting.begin()
    return connecting


def recorded(path: str) -> Iterator[list[dict[str, Any]]]:
    """Yield the packets of each exchange of a recording."""
    connections: dict[int, list[dict[str, Any]]] = {}
    for line in (GOLDEN / path).read_text("utf-8").splitlines():
        row = json.loads(line)
        if row.get("kind") == "sasl":
            connections.setdefault(row["conn"], []).append(row)
    yield from connections.values()


class WireTests(SynchronousTestCase):
    """The packets."""

    def test_recorded(self) -> None:
        """Java's are read, and written alike."""
        rows = [row for path in ("election", "quorum") for each in recorded(f"{path}/sasl3.jsonl") for row in each]
        self.assertGreater(len(rows), 20)
        for row in rows:
            raw, decoded = bytes.fromhex(row["raw"]), row["decoded"]
            packet = AuthPacket(decoded["status"], bytes.fromhex(decoded["token"]))
            self.assertEqual(read_auth(raw + b"more"), (packet, len(raw)))
            self.assertEqual(encode_auth(*packet), raw)
            for cut in range(len(raw)):
                self.assertIsNone(read_auth(raw[:cut]))

    def test_null_token(self) -> None:
        """It may be null."""
        raw = encode_auth(SUCCESS, None)
        self.assertEqual(read_auth(raw), (AuthPacket(SUCCESS, None), 16))


class ExchangeTests(SynchronousTestCase):
    """The two sides."""

    def test_recorded(self) -> None:
        """Each side says what Java's did, however it is cut."""
        for path in ("election/sasl3.jsonl", "quorum/sasl3.jsonl"):
            for rows in recorded(path):
                hello_, challenge, response, success = (bytes.fromhex(row["raw"]) for row in rows)
                nonce = b64decode(directives(challenge[16:])["nonce"][0])
                cnonce = b64decode(directives(response[16:])["cnonce"][0])
                for size in (1, 7, 1000):
                    accepting = accepting_of(nonce=nonce)
                    connecting = Connecting(login_of(LOGIN, cnonce), maybeDeferred)
                    self.assertEqual(self.successResultOf(connecting.begin()), hello_)
                    self.assertEqual(self.successResultOf(accepting.begin()), b"")
                    self.assertEqual(feed(accepting, hello_ + response + PACKET, size), challenge + success)
                    self.assertEqual(feed(connecting, challenge + success + PACKET, size), response)
                    self.assertEqual((accepting.done, accepting.user, connecting.done), (True, "test", True))

    def test_refused(self) -> None:
        """Wrong passwords, unknown users, and names that are not one's own; the other side is told, and fails."""
        for login, authzid in (
            (WRONG, "test"),
            (Login("eve", "testsecret"), "eve"),
            (Login("eve", ""), "eve"),
            (LOGIN, "other"),
            # What CVE-2023-44981 let through: a name that a check of its parts does without.
            (LOGIN, "test/host@REALM"),
            (LOGIN, "test@REALM"),
        ):
            for required in (True, False):
                with self.subTest(f"{login} as {authzid}, {required}"):
                    accepting = accepting_of(required)
                    challenge = accepting.receive(HELLO)[16:]
                    client = DigestClient(
                        "zookeeper-quorum", "zk-quorum-sasl-md5", login.username, login.password, b"c" * 30, authzid
                    )
                    response = encode_auth(IN_PROGRESS, client.response(challenge))
                    if required:
                        error = self.assertRaises(QuorumAuthError, accepting.receive, response)
                        self.assertEqual(error.farewell, REFUSED)
                        self.assertNotIn(login.password or "?", str(error))
                        self.assertFalse(accepting.done)
                    else:
                        self.assertEqual(accepting.receive(response + PACKET), REFUSED)
                        self.assertEqual((accepting.done, accepting.rest), (True, PACKET))
                    self.assertIsNone(accepting.user)

    def test_replay(self) -> None:
        """What was heard on one connection opens no other."""
        heard = accepting_of()
        response = begun(LOGIN).receive(heard.receive(HELLO))
        heard.receive(response)
        self.assertEqual(heard.user, "test")
        accepting = accepting_of(nonce=b"m" * 30)
        accepting.receive(HELLO)
        self.assertRaises(QuorumAuthError, accepting.receive, response)

    def test_no_exchange(self) -> None:
        """Who begins with something else is let in if that is allowed, and nothing of it is lost."""
        for first in (PACKET, message(b"vote"), b"\x16\x03\x01"):
            plain = accepting_of(False)
            self.assertEqual(plain.receive(first), b"")
            self.assertEqual((plain.done, plain.user, plain.rest), (True, None, first))
            strict = accepting_of()
            error = self.assertRaises(QuorumAuthError, strict.receive, first)
            self.assertEqual(error.farewell, b"")
        undecided = accepting_of()
        self.assertEqual(undecided.receive(MAGIC[:7]), b"")
        self.assertFalse(undecided.done)

    def test_connecting_to_strangers(self) -> None:
        """Who lets everybody in without knowing the password is no server of ours."""
        challenge = accepting_of().receive(HELLO)
        for answer in (
            encode_auth(SUCCESS, None),
            encode_auth(SUCCESS, b"rspauth=" + b"0" * 32),
            REFUSED,
            encode_auth(7, b""),
            encode_auth(IN_PROGRESS, b"nonsense"),
            challenge + challenge,
            challenge + encode_auth(SUCCESS, b"rspauth=" + b"0" * 32),
            PACKET,
            MAGIC + pack(">ii", 0, 1 << 30),
        ):
            with self.subTest(answer[:60]):
                self.assertRaises(QuorumAuthError, begun(LOGIN).receive, answer)

    @settings(deadline=None, derandomize=True, max_examples=150)
    @given(st.lists(st.binary(max_size=30) | st.sampled_from([MAGIC, HELLO, REFUSED, bytes(8)]), max_size=6))
    def test_anything(self, pieces: list[bytes]) -> None:
        """Whatever comes is waited out, passed on, or ends the connection; nobody gets in by it."""
        for side in (
            accepting_of(),
            accepting_of(False),
            begun(LOGIN),
        ):
            try:
                for piece in pieces:
                    if not side.done:
                        side.receive(piece)
            except QuorumAuthError:
                continue
            self.assertIsNone(getattr(side, "user", None))

    def test_long_tokens(self) -> None:
        """They are not waited for."""
        accepting = accepting_of()
        self.assertRaises(QuorumAuthError, accepting.receive, MAGIC + pack(">ii", 0, 65537))


def feed(side: Exchange, data: bytes, size: int) -> bytes:
    """Let data arrive in pieces; return what was written."""
    out, rest = b"", data
    while rest and not side.done:
        out += side.receive(rest[:size])
        rest = rest[size:]
    assert side.rest + rest == PACKET, "what follows the exchange is kept"
    return out


class QuorumTests(SynchronousTestCase):
    """The quorum port."""

    def setUp(self) -> None:
        self.clock = Clock()

    def tearDown(self) -> None:
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def made(self, begin: Callable[[], Exchange]) -> tuple[QuorumProtocol, Transport, Listener, Guard]:
        """A connection that has just been made."""
        guard = Guard(begin, self.clock, 20.0)
        listener, transport = Listener(), Transport()
        connection = QuorumFactory(listener, 1000, guard).buildProtocol(None)
        connection.makeConnection(transport)
        return connection, transport, listener, guard

    def test_through(self) -> None:
        """The receiver hears of a connection when the exchange is done, and of the packet right behind it."""
        connection, transport, listener, _ = self.made(auth_of().accepting)
        connection.dataReceived(HELLO)
        challenge = transport.value()
        transport.clear()
        self.assertEqual(listener.events, [])
        connection.dataReceived(begun(LOGIN).receive(challenge) + PACKET)
        self.assertEqual(listener.events, ["connected", QuorumPacket(quorum.FOLLOWERINFO, 1 << 32), "read"])
        self.assertIn(b"rspauth=", transport.value())
        self.successResultOf(connection.ready())

    def test_refused(self) -> None:
        """It is told so, and no receiver hears of it."""
        connection, transport, listener, _ = self.made(auth_of().accepting)
        connection.dataReceived(HELLO)
        response = begun(WRONG).receive(transport.value())
        transport.clear()
        connection.dataReceived(response)
        self.assertEqual((transport.value(), transport.disconnecting), (REFUSED, True))
        connection.dataReceived(PACKET)
        connection.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(listener.events, [])
        self.failureResultOf(connection.ready(), ConnectionLost)

    def test_half_an_exchange(self) -> None:
        """It is given so much time, and no more."""
        for data in (b"", MAGIC[:5], HELLO):
            connection, transport, listener, _ = self.made(auth_of().accepting)
            connection.dataReceived(data)
            self.clock.advance(19.9)
            self.assertFalse(transport.aborted)
            self.clock.advance(0.2)
            self.assertTrue(transport.aborted)
            connection.connectionLost(Failure(ConnectionDone()))
            self.assertEqual(listener.events, [])

    def test_lost(self) -> None:
        """One that breaks is forgotten."""
        connection, _, listener, guard = self.made(auth_of().accepting)
        connection.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(listener.events, [])
        guard.close()

    def test_end_of_the_role(self) -> None:
        """Who is not through when the role ends is let go."""
        connection, transport, listener, guard = self.made(auth_of().accepting)
        guard.close()
        self.assertTrue(transport.aborted and connection.closed)
        self.assertEqual(listener.events, [])

    def test_many(self) -> None:
        """So many may be in an exchange; then the oldest makes room."""
        guard = Guard(auth_of().accepting, self.clock, 20.0)
        transports = []
        for _ in range(101):
            transports.append(Transport())
            QuorumFactory(Listener(), 1000, guard).buildProtocol(None).makeConnection(transports[-1])
        self.assertEqual([each.aborted for each in transports], [True] + [False] * 100)
        guard.close()


class DialerTests(SynchronousTestCase):
    """A learner that has to authenticate."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.network = FakeNetwork(self.clock)
        self.listener = Listener()

    def tearDown(self) -> None:
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def dial(self, *hosts: str, login: Login = LOGIN) -> Deferred[QuorumProtocol]:
        guard = Guard(lambda: auth_of(login).connecting("a"), self.clock, 5.0)
        dialer = Dialer(self.network, self.clock, self.clock.seconds, pause=0.1, limit=20.0)
        addresses = [Address(host, 2888) for host in hosts]
        return Deferred.fromCoroutine(dialer.connect(addresses, QuorumFactory(self.listener, 1000, guard)))

    def answer(self, host: str) -> tuple[Any, Transport]:
        """Let an attempt get through, and return the connection."""
        made, factory = self.network.waiting[host].pop(0)
        protocol: Any = factory.buildProtocol(None)  # type: ignore[arg-type]
        transport = Transport()
        protocol.makeConnection(transport)
        made.callback(protocol)
        return protocol, transport

    def test_through(self) -> None:
        """The connection is given out when the exchange is done."""
        dialing = self.dial("a")
        protocol, transport = self.answer("a")
        self.assertEqual(transport.value(), HELLO)
        leader = accepting_of()
        transport.clear()
        protocol.dataReceived(leader.receive(HELLO))
        self.assertNoResult(dialing)
        protocol.dataReceived(leader.receive(transport.value()))
        self.assertIs(self.successResultOf(dialing), protocol)
        self.assertEqual(leader.user, "test")
        self.assertEqual(self.listener.events, ["connected"])

    def test_refused(self) -> None:
        """It is not tried again at once."""
        dialing = self.dial("a", login=WRONG)
        protocol, transport = self.answer("a")
        protocol.dataReceived(accepting_of().receive(HELLO) + REFUSED)
        self.failureResultOf(dialing, QuorumAuthError)
        self.assertTrue(transport.disconnecting)
        self.assertEqual(self.listener.events, [])

    def test_silence(self) -> None:
        """A leader that does not go on is called again; when that is given up, so is the connection."""
        dialing = self.dial("a")
        _, transport = self.answer("a")
        self.clock.advance(5.0)
        self.assertTrue(transport.aborted)
        self.clock.advance(0.1)
        _, again = self.answer("a")
        dialing.cancel()
        self.failureResultOf(dialing, CancelledError)
        self.assertTrue(again.aborted)

    def test_two_addresses(self) -> None:
        """The first that is through is used."""
        dialing = self.dial("a", "b")
        _, slow = self.answer("a")
        protocol, transport = self.answer("b")
        leader = accepting_of()
        transport.clear()
        protocol.dataReceived(leader.receive(HELLO))
        protocol.dataReceived(leader.receive(transport.value()))
        self.assertIs(self.successResultOf(dialing), protocol)
        self.assertTrue(slow.aborted)


class ElectionTests(SynchronousTestCase):
    """The election port of server 2."""

    def setUp(self) -> None:
        self.make()

    def make(self, auth: QuorumAuth | None = None) -> None:
        self.clock = Clock()
        self.wires = Wires()
        self.heard: list[tuple[int, bytes]] = []
        those = ensemble()
        self.manager = QuorumCnxManager(
            self.wires,
            self.clock,
            2,
            settings_of(2, those),
            those,
            lambda sid, body: self.heard.append((sid, body)),
            auth=auth or auth_of(),
        )
        self.successResultOf(Deferred.fromCoroutine(self.manager.start()))

    def through(self, line: Line, login: Login = LOGIN) -> bytes:
        """Authenticate as the one that has called; return what is said afterwards."""
        connecting = begun(login)
        said = HELLO
        while said and not connecting.done:
            line.protocol.dataReceived(said)
            said = connecting.receive(line.written())
        return connecting.rest

    def test_called(self) -> None:
        """A larger server is the one to talk to when it has shown who it is."""
        line = self.wires.call(TWO, hello(3))
        self.manager.send(3, message(b"vote"))
        self.assertEqual((line.written(), self.manager.connected), (b"", ()))
        self.assertEqual(self.through(line), message(b"vote"))
        line.protocol.dataReceived(message(b"theirs"))
        self.assertEqual((self.manager.connected, self.heard), ((3,), [(3, b"theirs")]))
        self.clock.advance(60)
        self.assertFalse(line.disconnecting)

    def test_called_by_a_smaller_server(self) -> None:
        """It is called back when it has shown who it is, not before."""
        line = self.wires.call(TWO, hello(1))
        self.assertEqual(self.wires.attempts, [])
        self.through(line)
        self.assertTrue(line.disconnecting)
        self.assertEqual([attempt.address.host for attempt in self.wires.attempts], ["10.0.0.1"])

    def test_called_by_a_stranger(self) -> None:
        """It is told that it does not get in, and nobody is called back; who is connected stays so."""
        good = self.wires.call(TWO, hello(3))
        self.through(good)
        for sid, login in ((1, WRONG), (3, WRONG)):
            line = self.wires.call(TWO, hello(sid))
            self.assertRaises(QuorumAuthError, self.through, line, login)
            self.assertTrue(line.disconnecting)
        plain = self.wires.call(TWO, hello(3) + message(b"vote"))
        self.assertTrue(plain.cut)
        self.assertEqual((self.wires.attempts, self.heard, good.disconnecting), ([], [], False))

    def test_not_required(self) -> None:
        """Who does not authenticate is heard, whether it stays or only wants to be called."""
        self.make(auth_of(required=False))
        self.wires.call(TWO, hello(3) + message(b"vote"))
        self.assertEqual((self.heard, self.manager.connected), ([(3, b"vote")], (3,)))
        line = self.wires.call(TWO, hello(1))
        self.assertEqual(self.wires.attempts, [])
        line.lose()
        self.assertEqual([attempt.address.host for attempt in self.wires.attempts], ["10.0.0.1"])
        late = self.wires.call(TWO, hello(3))
        late.lose()
        self.assertEqual(self.manager.connected, (3,))

    def test_required_and_gone(self) -> None:
        """Who leaves before it has shown who it is is not called back."""
        self.wires.call(TWO, hello(1)).lose()
        self.assertEqual((self.wires.attempts, self.clock.getDelayedCalls()), ([], []))

    def test_calling(self) -> None:
        """A smaller server hears who we are, gets the proof, and then what waits; it is called once."""
        self.manager.send(1, message(b"vote"))
        line = self.wires.attempts[-1].succeed()
        written = line.written()
        self.assertTrue(written.endswith(b"10.0.0.2:3888" + HELLO))
        self.manager.send(1, message(b"newer"))
        self.assertEqual((len(self.wires.attempts), line.written()), (1, b""))
        accepting = accepting_of()
        line.protocol.dataReceived(accepting.receive(HELLO))
        self.assertFalse(self.manager.heard)
        line.protocol.dataReceived(accepting.receive(line.written()))
        self.assertEqual(line.written(), message(b"newer"))
        self.assertEqual((self.manager.connected, accepting.user), ((1,), "test"))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_calling_a_larger_server(self) -> None:
        """It is let go after the proof, which it needs to call back."""
        self.manager.send(3, message(b"vote"))
        line = self.wires.attempts[-1].succeed()
        self.assertFalse(line.disconnecting)
        line.written()
        accepting = accepting_of()
        line.protocol.dataReceived(accepting.receive(HELLO))
        line.protocol.dataReceived(accepting.receive(line.written()))
        self.assertTrue(line.disconnecting)
        self.assertFalse(line.cut)

    def test_calling_in_vain(self) -> None:
        """Who refuses us, or hangs up, is called again when there is something to say."""
        for end in (lambda line: line.protocol.dataReceived(REFUSED), lambda line: None):
            self.make()
            self.manager.send(1, message(b"vote"))
            line = self.wires.attempts[-1].succeed()
            end(line)
            line.lose()
            self.assertEqual((self.manager.connected, self.clock.getDelayedCalls()), ((), []))
            self.manager.send(1, message(b"vote"))
            self.assertEqual(len(self.wires.attempts), 2)

    def test_without_login(self) -> None:
        """Who need not authenticate to others does not."""
        self.make(auth_of(login=None))
        self.manager.send(1, message(b"vote"))
        self.assertTrue(self.wires.attempts[-1].succeed().written().endswith(message(b"vote")))

    def test_half_an_exchange(self) -> None:
        """In both directions it is given as much time as somebody who does not say who he is."""
        lines = [self.wires.call(TWO, hello(3) + HELLO)]
        self.manager.send(1, message(b"vote"))
        lines.append(self.wires.attempts[-1].succeed())
        self.clock.advance(9.9)
        self.assertEqual([line.cut for line in lines], [False, False])
        self.clock.advance(0.2)
        self.assertEqual([line.cut for line in lines], [True, True])
        for line in lines:
            line.lose()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_many(self) -> None:
        """So many callers may be unknown at a time; the oldest makes room, and those that we call stay."""
        self.manager.send(1, message(b"vote"))
        ours = self.wires.attempts[-1].succeed()
        lines = [self.wires.call(TWO, hello(3) + HELLO) for _ in range(101)]
        self.assertEqual([line.cut for line in lines], [True] + [False] * 100)
        self.assertFalse(ours.cut)
