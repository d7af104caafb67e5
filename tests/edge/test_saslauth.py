"""Clients that authenticate by SASL: what they become, what the others are told, and who has to wait for it."""

from __future__ import annotations

from base64 import b64decode
from pathlib import Path
from struct import pack
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernameHashedPassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.edge.fakes import Client, FakeServer, request
from tests.wire.recordings import rows
from zktwisted.config import ServerConfig
from zktwisted.config.jaas import Users
from zktwisted.edge.auth import AuthOutcome, AuthProviders, Identities
from zktwisted.edge.saslauth import IIdentities, Sasl, SaslRealm, UsersChecker
from zktwisted.errors import ConfigError
from zktwisted.server.metrics import ServerMetrics
from zktwisted.tree.schemes import generate_digest
from zktwisted.wire import ops
from zktwisted.wire.proto import Id
from zktwisted.wire.sasl import DigestClient, SaslError, directives

GOLDEN = Path(__file__).parent.parent / "golden" / "client"
NULL = b"\xff\xff\xff\xff"
USERS = Users({"bob": "bobsecret", "super": "adminsecret"})
ADDRESS = Id("ip", "127.0.0.1")
MODULE = "org.apache.zookeeper.server.auth.DigestLoginModule"


def sasl_of(*super_users: str, **options: Any) -> Sasl:
    """SASL with our users."""
    return Sasl(Portal(SaslRealm(super_users), [UsersChecker(USERS)]), **options)


def token(data: bytes) -> bytes:
    """A token as it stands in requests and replies."""
    return pack(">i", len(data)) + data


class Talk:
    """A client that authenticates."""

    def __init__(self, sasl: Sasl, **settings: Any) -> None:
        self.server = FakeServer(sasl, **settings)
        self.client = Client.connected(self.server)

    def challenge(self) -> bytes:
        """Ask for a challenge."""
        self.client.send(request(1, ops.SASL, token(b"")))
        ((xid, zxid, err, body),) = self.client.replies()
        assert (xid, zxid, err) == (1, 0, 0)
        assert body[:4] == pack(">i", len(body) - 4)
        return body[4:]

    def respond(self, name: str = "bob", password: str = "bobsecret", authzid: str | None = None) -> DigestClient:
        """Ask for a challenge, and respond to it with xid 2."""
        mechanism = DigestClient("zookeeper", "zk-sasl-md5", name, password, b"c" * 30, authzid)
        self.response = mechanism.response(self.challenge())
        self.client.send(request(2, ops.SASL, token(self.response)))
        return mechanism

    def identities(self) -> tuple[Id, ...]:
        """Who it is by now."""
        return self.client.protocol.identities.current


class SaslTests(SynchronousTestCase):
    """What becomes of clients."""

    def test_interfaces(self) -> None:
        """Realm and checker are what a portal of Twisted's wants."""
        verifyObject(IRealm, SaslRealm())
        verifyObject(ICredentialsChecker, UsersChecker(USERS))
        self.assertRaises(TypeError, SaslRealm().requestAvatar, "bob", None, IRealm)
        self.assertEqual(SaslRealm().requestAvatar(b"bob", None, IIdentities)[1], (Id("sasl", "bob"),))

    def test_credential(self) -> None:
        """A client's response is a credential of Twisted's."""
        server: Any = Sasl(random=bytes).begin()
        client = DigestClient("zookeeper", "zk-sasl-md5", "bob", "secret", b"c" * 30)
        verifyObject(IUsernameHashedPassword, server.response(client.response(server.challenge)))

    def test_right_password(self) -> None:
        """The client has the name that it has shown, is shown in return that the server knows the password, goes on."""
        talk = Talk(sasl_of())
        mechanism = talk.respond()
        talk.client.send(request(3, ops.GET_DATA))
        (xid, zxid, err, body), (next_xid, *_) = talk.client.replies()
        self.assertEqual((xid, zxid, err, next_xid), (2, 0, 0, 3))
        mechanism.verify(body[4:])
        self.assertEqual(talk.identities(), (ADDRESS, Id("sasl", "bob")))
        self.assertEqual(talk.server.answered[-1][1], talk.identities())
        self.assertFalse(talk.client.closed)

    def test_recorded(self) -> None:
        """Java's client gets the replies that Java's server gave it."""
        for name in ("java_sasl_3.9.5.jsonl", "java_saslbad_3.9.5.jsonl"):
            recorded = [row for row in rows(GOLDEN / name) if row.get("decoded", {}).get("op") == "sasl"]
            nonces = [
                bytes.fromhex(row["decoded"]["body"]["token"])
                for row in recorded
                if row["dir"] == "s2c" and b"nonce" in bytes.fromhex(row["decoded"]["body"]["token"] or "")
            ]
            for at in range(0, len(recorded), 4):
                with self.subTest(f"{name}, {at}"):
                    nonce = b64decode(directives(nonces[at // 4])["nonce"][0])
                    talk = Talk(sasl_of(random=lambda size, nonce=nonce: nonce))
                    for asked, answered in zip(recorded[at : at + 4 : 2], recorded[at + 1 : at + 4 : 2], strict=True):
                        talk.client.send(framed(asked["frame"]))
                        self.assertEqual(talk.client.take(), framed(answered["frame"]))
                    self.assertEqual(talk.client.closed, "bad" in name)

    def test_wrong_password(self) -> None:
        """AUTHFAILED with a null token, then the end: what was sent behind is not served."""
        for name, password in (("bob", "wrong"), ("eve", "bobsecret"), ("eve", ""), ("", "")):
            with self.subTest(name):
                talk = Talk(sasl_of())
                talk.respond(name, password)
                talk.client.send(request(3, ops.GET_DATA))
                self.assertEqual(talk.client.replies(), [(2, 0, -115, NULL)])
                self.assertTrue(talk.client.closed)
                self.assertEqual(talk.identities(), (ADDRESS,))
                self.assertEqual(talk.server.answered, [])
                self.assertEqual(talk.server.stats.auth_failed_count, 1)

    def test_required(self) -> None:
        """Where it is demanded the error says so, and without it nothing is served."""
        for settings in (
            {"session_require_client_sasl_auth": True},
            {"enforce_auth_enabled": True, "enforce_auth_schemes": ("digest", "sasl")},
        ):
            with self.subTest(settings):
                talk = Talk(sasl_of(required=True, lenient=True), **settings)
                talk.respond(password="wrong")
                self.assertEqual(talk.client.replies(), [(2, 0, -124, NULL)])
                self.assertTrue(talk.client.closed)
                talk = Talk(sasl_of(required=True), **settings)
                talk.client.send(request(1, ops.PING))
                self.assertEqual(talk.client.replies(), [(1, 0, -124, b"")])
                self.assertTrue(talk.client.closed)
                talk = Talk(sasl_of(required=True), **settings)
                talk.respond()
                talk.client.take()
                talk.client.send(request(3, ops.GET_DATA))
                self.assertEqual(talk.client.xids(), [3])

    def test_lenient(self) -> None:
        """Where it is allowed who fails is nobody in particular, and cannot try again on this connection."""
        talk = Talk(sasl_of(lenient=True))
        talk.respond(password="wrong")
        self.assertEqual(talk.client.replies(), [(2, 0, 0, NULL)])
        talk.client.send(request(3, ops.SASL, token(talk.response)), request(4, ops.GET_DATA))
        self.assertEqual([reply[:3] for reply in talk.client.replies()], [(3, 0, 0), (4, 0x55, 0)])
        self.assertEqual(talk.identities(), (ADDRESS,))
        self.assertFalse(talk.client.closed)

    def test_replayed_response(self) -> None:
        """What an eavesdropper has heard is of no use on a connection of his own."""
        heard = Talk(sasl_of())
        heard.respond()
        talk = Talk(sasl_of())
        talk.challenge()
        talk.client.send(request(2, ops.SASL, token(heard.response)))
        self.assertEqual(talk.client.replies(), [(2, 0, -115, NULL)])
        self.assertTrue(talk.client.closed)

    def test_once(self) -> None:
        """Who has authenticated cannot do it again."""
        talk = Talk(sasl_of())
        talk.respond()
        talk.client.take()
        talk.client.send(request(3, ops.SASL, token(b"")))
        self.assertEqual(talk.client.replies(), [(3, 0, -115, NULL)])
        self.assertTrue(talk.client.closed)

    def test_first_token(self) -> None:
        """Whatever it is, it is answered with a challenge."""
        talk = Talk(sasl_of())
        talk.client.send(request(1, ops.SASL, token(b"\0garbage")))
        self.assertIn(b'realm="zk-sasl-md5"', talk.client.replies()[0][3])

    def test_garbage(self) -> None:
        """A response that is none is a failure like others."""
        talk = Talk(sasl_of())
        talk.challenge()
        talk.client.send(request(2, ops.SASL, token(b"\0garbage")))
        self.assertEqual(talk.client.replies(), [(2, 0, -115, NULL)])

    def test_nonces_differ(self) -> None:
        """Each connection has its own."""
        self.assertNotEqual(Talk(sasl_of()).challenge(), Talk(sasl_of()).challenge())

    def test_another_name(self) -> None:
        """To ask to act as somebody else changes nothing: the identity is the one that was shown."""
        talk = Talk(sasl_of())
        talk.respond(authzid="super")
        self.assertEqual(talk.identities(), (ADDRESS, Id("sasl", "bob")))

    def test_super_users(self) -> None:
        """Those who are named may do everything."""
        talk = Talk(sasl_of("alice", "bob"))
        talk.respond()
        self.assertEqual(talk.identities(), (ADDRESS, Id("sasl", "bob"), Id("super", "")))

    def test_auth_packet(self) -> None:
        """The scheme has no auth packets."""
        auth = AuthProviders((), ("sasl",), sasl_of())
        self.assertEqual(auth.schemes, ["ip", "sasl"])
        self.assertIs(auth.authenticate("sasl", b"bob", Identities("127.0.0.1")), AuthOutcome.FAILED)


@implementer(ICredentialsChecker)
class Slow:
    """A checker that takes its time."""

    credentialInterfaces = (IUsernameHashedPassword,)

    def __init__(self) -> None:
        self.asked: list[tuple[Any, Deferred[Any]]] = []

    def requestAvatarId(self, credentials: Any) -> Deferred[Any]:
        """See C{ICredentialsChecker}."""
        answer: Deferred[Any] = Deferred()
        self.asked.append((credentials, answer))
        return answer


class SlowPortalTests(SynchronousTestCase):
    """A portal of a program's own, which asks somewhere else."""

    def setUp(self) -> None:
        self.slow = Slow()
        self.talk = Talk(Sasl(Portal(SaslRealm(), [self.slow])))
        self.talk.respond()
        self.talk.client.send(request(3, ops.GET_DATA))
        self.credentials, self.answer = self.slow.asked[0]

    def test_waits(self) -> None:
        """What the client sends meanwhile is served when it is known who it is."""
        self.assertEqual(self.talk.client.take(), b"")
        self.assertTrue(self.credentials.checkPassword(b"bobsecret"))
        self.answer.callback(self.credentials.username)
        self.assertEqual(self.talk.client.xids(), [2, 3])
        self.assertEqual(self.talk.server.answered[-1][1], (ADDRESS, Id("sasl", "bob")))

    def test_refused_later(self) -> None:
        """It is as if it had been refused at once."""
        self.answer.errback(UnauthorizedLogin())
        self.assertEqual(self.talk.client.replies(), [(2, 0, -115, NULL)])
        self.assertTrue(self.talk.client.closed)
        self.assertEqual(self.talk.server.answered, [])

    def test_breaks(self) -> None:
        """A checker that breaks lets nobody in."""
        self.answer.errback(RuntimeError("the directory is away"))
        self.assertEqual(self.talk.client.replies(), [(2, 0, -115, NULL)])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_client_gone(self) -> None:
        """A client that has left is told nothing."""
        self.talk.client.lose()
        self.credentials.checkPassword("bobsecret")
        self.answer.callback("bob")
        self.assertEqual(self.talk.client.take(), b"")

    def test_accepts_unproven(self) -> None:
        """A checker that accepts without having compared cannot answer the client, which is let go."""
        self.answer.callback("bob")
        self.assertEqual(len(self.flushLoggedErrors(SaslError)), 1)
        self.assertEqual(self.talk.client.replies(), [(2, 0, -115, NULL)])
        self.assertEqual(self.talk.identities(), (ADDRESS,))
        self.assertTrue(self.talk.client.closed)


class ConfigTests(SynchronousTestCase):
    """SASL as a configuration has it."""

    def setUp(self) -> None:
        self.path = self.mktemp()
        text = (
            f'Server {{ {MODULE} required user_bob="b" user_super="s"; }};\nOther {{ {MODULE} required user_a="a"; }};'
        )
        Path(self.path).write_text(text, "utf-8")

    def auth(self, **settings: Any) -> AuthProviders:
        """The schemes of a configuration."""
        return AuthProviders.from_config(ServerConfig(**settings), generate_digest, ServerMetrics())

    def become(self, auth: AuthProviders, name: str, password: str) -> tuple[Id, ...]:
        """Who a client is after it has tried."""
        talk = Talk(auth.sasl)
        talk.respond(name, password)
        return talk.identities()[1:]

    def test_none(self) -> None:
        """Without a file there is no SASL."""
        self.assertEqual(self.auth().schemes, ["digest", "ip"])
        self.assertIsNone(self.auth().sasl.portal)

    def test_users(self) -> None:
        """The section Server is for clients, if no other is named."""
        auth = self.auth(jaas_file=self.path)
        self.assertEqual(auth.schemes, ["digest", "ip", "sasl"])
        self.assertEqual(self.become(auth, "bob", "b"), (Id("sasl", "bob"),))
        other = self.auth(jaas_file=self.path, sasl_server_section="Other")
        self.assertEqual(self.become(other, "bob", "b"), ())
        self.assertEqual(self.become(other, "a", "a"), (Id("sasl", "a"),))

    def test_super_password(self) -> None:
        """It takes the place of the one in the file."""
        auth = self.auth(jaas_file=self.path, sasl_super_password="x")
        self.assertEqual(self.become(auth, "super", "s"), ())
        self.assertEqual(self.become(auth, "super", "x"), (Id("sasl", "super"),))

    def test_super_users(self) -> None:
        """There may be any number of them."""
        auth = self.auth(jaas_file=self.path, sasl_super_user="bob", properties=(("superUser.1", "super"),))
        for name in ("bob", "super"):
            self.assertEqual(self.become(auth, name, name[0]), (Id("sasl", name), Id("super", "")))

    def test_demands(self) -> None:
        """Both ways to demand it; leniency gives way."""
        for settings in (
            {"session_require_client_sasl_auth": True},
            {"enforce_auth_enabled": True, "enforce_auth_schemes": ("sasl",)},
        ):
            auth = self.auth(jaas_file=self.path, allow_sasl_failed_clients=True, **settings)
            self.assertEqual((auth.enforced, auth.sasl.required, auth.sasl.lenient), ({"sasl"}, True, False))
            self.assertRaises(ConfigError, self.auth, **settings)
        self.assertTrue(self.auth(jaas_file=self.path, allow_sasl_failed_clients=True).sasl.lenient)


def framed(frame: str) -> bytes:
    """A frame of a recording, with its length."""
    return token(bytes.fromhex(frame))
