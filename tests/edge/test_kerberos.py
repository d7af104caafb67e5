"""Clients and servers that authenticate by Kerberos: what they become, with contexts that need no KDC."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.portal import Portal
from twisted.internet.defer import CancelledError, Deferred, fail, maybeDeferred, succeed
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.edge.elections import Wires
from tests.edge.elections import settings as settings_of
from tests.edge.fakes import Client, FakeServer, request
from tests.edge.test_cnxmanager import message
from tests.edge.test_quorum import Listener, Transport
from tests.edge.test_saslauth import ADDRESS, MODULE, NULL, Talk, token
from tests.wire import contexts
from tests.zab.elections import ensemble
from zktwisted.config import ServerConfig
from zktwisted.config.jaas import Users
from zktwisted.config.kerberos import KerberosNames
from zktwisted.edge.cnxmanager import QuorumCnxManager
from zktwisted.edge.quorum import QuorumFactory, QuorumProtocol
from zktwisted.edge.quorumauth import (
    Accepting,
    Connecting,
    DigestAdmission,
    Errands,
    Guard,
    KerberosAdmission,
    QuorumAuth,
    QuorumAuthError,
)
from zktwisted.edge.saslauth import IIdentities, IPrincipal, PrincipalsChecker, Sasl, SaslRealm, name_of_principal
from zktwisted.wire import ops
from zktwisted.wire.gssapi import GssClient, GssResponse, GssServer
from zktwisted.wire.proto import Id
from zktwisted.wire.quorumauth import ERROR, IN_PROGRESS, SUCCESS, encode_auth
from zktwisted.wire.sasl import SaslError

SERVER = "zkquorum/h1@EXAMPLE.COM"


def sasl_of(*super_users: str, **options: Any) -> Sasl:
    """SASL by Kerberos."""
    names = name_of_principal(KerberosNames("DEFAULT", "EXAMPLE.COM", remove_realm=True))
    portal = Portal(SaslRealm(super_users, names), [PrincipalsChecker()])
    return Sasl(portal, begin=lambda: GssServer(contexts.Accepting()), **options)


class ClientTests(SynchronousTestCase):
    """What becomes of clients."""

    def talk(self, sasl: Sasl, *tokens: bytes) -> tuple[Client, FakeServer]:
        """Let a client say some tokens, with xids from 1."""
        server = FakeServer(sasl)
        client = Client.connected(server)
        client.send(*(request(xid, ops.SASL, token(each)) for xid, each in enumerate(tokens, 1)))
        return client, server

    def test_interfaces(self) -> None:
        """The pieces are what a portal of Twisted's wants."""
        verifyObject(ICredentialsChecker, PrincipalsChecker())
        verifyObject(IPrincipal, GssResponse("bob", "bob"))
        self.assertEqual(SaslRealm((), str.upper).requestAvatar(b"bob", None, IIdentities)[1], (Id("sasl", "BOB"),))

    def test_through(self) -> None:
        """Three tokens, of which the last is answered with none; then it is who it has shown to be."""
        client, _ = self.talk(sasl_of("bob"), b"ticket of bob@EXAMPLE.COM", b"", b"client:\1\0\0\0root")
        replies = client.replies()
        self.assertEqual([reply[:3] for reply in replies], [(1, 0, 0), (2, 0, 0), (3, 0, 0)])
        self.assertEqual([reply[3] for reply in replies], [token(b"welcome"), token(b"server:\1\0\0\0"), NULL])
        self.assertEqual(client.protocol.identities.current, (ADDRESS, Id("sasl", "bob"), Id("super", "")))
        client.send(request(4, ops.GET_DATA), request(5, ops.SASL, token(b"ticket of eve@EXAMPLE.COM")))
        self.assertEqual([(reply[0], reply[2]) for reply in client.replies()], [(4, 0), (5, -115)])
        self.assertTrue(client.closed)

    def test_no_name(self) -> None:
        """Whom Kerberos vouches for, but no rule gives a name, is nobody here, whoever it asks to be."""
        for principal in (b"bob@ELSEWHERE", b"a@b@EXAMPLE.COM", b"bob\\@EXAMPLE.COM@ELSEWHERE"):
            client, server = self.talk(sasl_of(), b"ticket of " + principal, b"", b"client:\1\0\0\0bob")
            self.assertEqual(client.replies()[-1], (3, 0, -115, NULL))
            self.assertTrue(client.closed)
            self.assertEqual(client.protocol.identities.current, (ADDRESS,))
            self.assertEqual(server.stats.auth_failed_count, 1)

    def test_refused(self) -> None:
        """Tokens that lead nowhere, those of DIGEST-MD5 among them."""
        for last in (b"", b"garbage", b'username="bob"', bytes(70000)):
            client, _ = self.talk(sasl_of(), last)
            self.assertEqual(client.replies(), [(1, 0, -115, NULL)])
            self.assertTrue(client.closed)
        client, _ = self.talk(sasl_of(required=True), b"")
        self.assertEqual(client.replies(), [(1, 0, -124, NULL)])
        client, _ = self.talk(sasl_of(lenient=True), b"")
        self.assertEqual(client.replies(), [(1, 0, 0, NULL)])
        self.assertFalse(client.closed)

    def test_names_of_users(self) -> None:
        """The rules count for names with passwords as well, which need none of them."""
        path = self.mktemp()
        Path(path).write_text(f'Server {{ {MODULE} required "user_ann/h@R"="s" user_bob="s"; }};', "utf-8")
        for settings, names in (
            ({}, {"ann/h@R": "ann/h@R", "bob": "bob"}),
            (
                {"auth_to_local": "RULE:[2:x$1]", "remove_host_from_principal": True},
                {"ann/h@R": "xann@R", "bob": "bob"},
            ),
        ):
            sasl = Sasl.from_config(ServerConfig(jaas_file=path, **settings))
            for user, name in names.items():
                talk = Talk(sasl)
                talk.respond(user, "s")
                self.assertEqual(talk.identities(), (ADDRESS, Id("sasl", name)))


def admission() -> KerberosAdmission:
    """Who may call servers on h1 and H2."""
    return KerberosAdmission(lambda: GssServer(contexts.Accepting()), ["h1", "H2"], ["EXAMPLE.COM", "OTHER"])


def calling(own: str = SERVER, error: str = "") -> GssClient:
    """A server that calls."""
    return GssClient(contexts.Initiating(own, error))


class ExchangeTests(SynchronousTestCase):
    """Between servers."""

    def exchange(self, own: str, required: bool = True) -> tuple[Accepting, Connecting]:
        """Let one call another, until nothing is said any more."""
        accepting, connecting = Accepting(admission(), required), Connecting(calling(own), maybeDeferred)
        said = self.successResultOf(connecting.begin())
        while said and not accepting.done:
            said = connecting.receive(accepting.receive(said))
        return accepting, connecting

    def test_through(self) -> None:
        """Both know each other."""
        for own in (SERVER, "zkquorum/h2@EXAMPLE.COM", "zkquorum/H2@EXAMPLE.COM", "other/h1@OTHER"):
            accepting, connecting = self.exchange(own)
            self.assertEqual((accepting.user, accepting.done, connecting.done), (own, True, True))

    def test_hosts(self) -> None:
        """Who is no service on a host of the ensemble is not let in; nor who has no host: CVE-2023-44981."""
        for own in (
            "zkquorum/h1@ELSEWHERE",  # whose KDC calls h1 what it likes
            "zkquorum/h1@example.com",
            "zkquorum/h1@",
            "zkquorum/elsewhere@EXAMPLE.COM",
            "zkquorum/H1@EXAMPLE.COM",
            "zkquorum@EXAMPLE.COM",
            "zkquorum/@EXAMPLE.COM",
            "zkquorum",
            "zkquorum/h1",
            "a/h1/b@EXAMPLE.COM",
            "a@h1@EXAMPLE.COM",
            "zkquorum\\/h1@EXAMPLE.COM",
        ):
            with self.subTest(own):
                error = self.assertRaises(QuorumAuthError, self.exchange, own)
                self.assertEqual(error.farewell, encode_auth(ERROR, b""))
                self.assertIn(own.replace("\\", "\\\\"), str(error))

    def test_acting_as_others(self) -> None:
        """The name that is asked for has to be the one that was shown."""
        self.assertRaises(SaslError, admission().judge, GssResponse(SERVER, "zkquorum/h2@EXAMPLE.COM"))
        self.assertRaises(SaslError, admission().judge, GssResponse("bob@EXAMPLE.COM", SERVER))
        self.assertIsNone(admission().judge(GssResponse(SERVER, SERVER)))

    def test_not_required(self) -> None:
        """Where it is not required who has failed is heard nevertheless."""
        accepting = Accepting(admission(), False)
        self.assertEqual(accepting.receive(encode_auth(IN_PROGRESS, b"") + b"packet"), encode_auth(ERROR, b""))
        self.assertEqual((accepting.done, accepting.user, accepting.rest), (True, None, b"packet"))

    def test_other_mechanisms(self) -> None:
        """Those who call with a password, or are called by one, do not understand each other."""
        self.assertRaises(QuorumAuthError, Accepting(admission(), True).receive, encode_auth(IN_PROGRESS, b""))
        connecting = Connecting(calling(), maybeDeferred)
        said = self.successResultOf(connecting.begin())
        digest = Accepting(DigestAdmission(Users({"a": "b"})), True)
        self.assertRaises(QuorumAuthError, connecting.receive, digest.receive(said))

    def test_cannot_begin(self) -> None:
        """Who has no ticket says why, and does not call."""
        connecting = Connecting(calling(error="no ticket"), maybeDeferred)
        self.assertEqual(str(self.failureResultOf(connecting.begin(), QuorumAuthError).value), "no ticket")

    def test_answers_too_soon(self) -> None:
        """Nothing is believed before anything was said."""
        for status, said in ((SUCCESS, b""), (IN_PROGRESS, b"welcome")):
            context = contexts.Initiating(SERVER)
            connecting = Connecting(GssClient(context), lambda call: Deferred())
            connecting.begin()
            self.assertRaises(QuorumAuthError, connecting.receive, encode_auth(status, said))
            self.assertFalse(connecting.done or context.complete)


class ErrandsTests(SynchronousTestCase):
    """Calls that may take long."""

    def setUp(self) -> None:
        self.running: list[tuple[Callable[[], bytes], Deferred[bytes]]] = []
        self.errands = Errands(self.start)

    def start(self, call: Callable[[], bytes]) -> Deferred[bytes]:
        done: Deferred[bytes] = Deferred()
        self.running.append((call, done))
        return done

    def test_one_by_one(self) -> None:
        """The next begins when the last has ended, however that was."""
        results = [self.errands.run(lambda: b"a"), self.errands.run(lambda: b"b"), self.errands.run(lambda: b"c")]
        self.assertEqual(len(self.running), 1)
        self.running[0][1].callback(b"a")
        self.assertEqual(self.successResultOf(results[0]), b"a")
        self.assertEqual(len(self.running), 2)
        self.running[1][1].errback(SaslError("b"))
        self.failureResultOf(results[1], SaslError)
        self.running[2][1].callback(self.running[2][0]())
        self.assertEqual(self.successResultOf(results[2]), b"c")

    def test_cancelled(self) -> None:
        """What waits is left out; what runs cannot be stopped, and the next waits for it."""
        first, second, third = (self.errands.run(bytes) for _ in range(3))
        second.cancel()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.failureResultOf(second, CancelledError)
        self.assertEqual(len(self.running), 1)
        self.running[0][1].errback(SaslError("too late"))
        self.assertEqual(len(self.running), 2)
        self.running[1][1].callback(b"x")
        self.assertEqual(self.successResultOf(third), b"x")

    def test_at_once(self) -> None:
        """What has ended before it is waited for is no trouble."""
        errands = Errands(lambda call: succeed(call()))
        self.assertEqual([self.successResultOf(errands.run(lambda: b"x")) for _ in range(3)], [b"x"] * 3)


class ConnectionTests(SynchronousTestCase):
    """Connections whose first token takes its time."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.asked: list[Deferred[bytes]] = []
        self.cancelled: list[Deferred[bytes]] = []

    def tearDown(self) -> None:
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def later(self, call: Callable[[], bytes]) -> Deferred[bytes]:
        self.asked.append(Deferred(self.cancelled.append))
        return self.asked[-1]

    def auth(self) -> QuorumAuth:
        return QuorumAuth(admission(), lambda host: calling(), True, self.later)

    def dialled(self) -> tuple[QuorumProtocol, Transport, Listener]:
        guard = Guard(lambda: self.auth().connecting("h1"), self.clock, 20.0)
        listener, transport = Listener(), Transport()
        connection = QuorumFactory(listener, 1000, guard).buildProtocol(None)
        connection.makeConnection(transport)
        return connection, transport, listener

    def test_quorum(self) -> None:
        """Nothing is written before it is there."""
        connection, transport, _ = self.dialled()
        self.assertEqual(transport.value(), b"")
        self.asked[0].callback(b"ticket")
        self.assertEqual(transport.value(), encode_auth(IN_PROGRESS, b"ticket"))
        connection.abort()

    def test_quorum_without_ticket(self) -> None:
        """The connection is given up, and who waits for it told why."""
        connection, transport, listener = self.dialled()
        ready = connection.ready()
        self.asked[0].errback(SaslError("no ticket"))
        self.assertIn("no ticket", str(self.failureResultOf(ready, QuorumAuthError).value))
        self.assertTrue(transport.disconnecting)
        connection.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(listener.events, [])

    def test_quorum_lost(self) -> None:
        """One that breaks meanwhile, or takes too long, does not ask any more."""
        connection, _, _ = self.dialled()
        connection.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.cancelled, self.asked)
        connection, transport, _ = self.dialled()
        ready = connection.ready()
        self.clock.advance(20.1)
        self.failureResultOf(ready, ConnectionLost)
        self.assertTrue(transport.aborted)
        self.assertEqual(self.cancelled, self.asked)

    def manager(self, wires: Wires) -> QuorumCnxManager:
        those = ensemble()
        manager = QuorumCnxManager(
            wires, self.clock, 2, settings_of(2, those), those, lambda sid, body: None, auth=self.auth()
        )
        self.successResultOf(Deferred.fromCoroutine(manager.start()))
        return manager

    def test_election(self) -> None:
        """Nothing but who we are is written before it is there."""
        wires = Wires()
        self.manager(wires).send(1, message(b"vote"))
        line = wires.attempts[-1].succeed()
        self.assertTrue(line.written().endswith(b"10.0.0.2:3888"))
        self.asked[0].callback(b"ticket")
        self.assertEqual(line.written(), encode_auth(IN_PROGRESS, b"ticket"))
        line.lose()

    def test_election_without_ticket(self) -> None:
        """The connection is given up; there is another when there is something to say."""
        wires = Wires()
        manager = self.manager(wires)
        manager.send(1, message(b"vote"))
        line = wires.attempts[-1].succeed()
        self.asked[0].errback(SaslError("no ticket"))
        self.assertTrue(line.cut)
        line.lose()
        manager.send(1, message(b"vote"))
        self.assertEqual(len(wires.attempts), 2)
        wires.attempts[-1].succeed().lose()
        self.assertEqual(self.cancelled, self.asked[1:])

    def test_hosts(self) -> None:
        """Each server is called by the host of its line."""
        hosts: list[str] = []

        def login(host: str) -> GssClient:
            hosts.append(host)
            return calling()

        auth = QuorumAuth(admission(), login, True, lambda call: fail(SaslError("no ticket")))
        those, wires = ensemble(), Wires()
        manager = QuorumCnxManager(
            wires, self.clock, 2, settings_of(2, those), those, lambda sid, body: None, auth=auth
        )
        self.successResultOf(Deferred.fromCoroutine(manager.start()))
        for sid in (1, 3):
            manager.send(sid, message(b"vote"))
            wires.attempts[-1].succeed().lose()
        self.assertEqual(hosts, ["10.0.0.1", "10.0.0.3"])
