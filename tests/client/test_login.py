"""A client that logs in by SASL: what comes first, what waits, and what becomes of those who are not believed."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from tests.client.world import ClientCase, Script, Scripted
from zktwisted.client import EventType, State, ZooKeeperClient
from zktwisted.errors import AuthFailedError
from zktwisted.wire import jute, ops, proto
from zktwisted.wire.sasl import DigestServer

LOGIN = ("bob", "secret")
STAT = proto.Stat(*range(11))


class LoginTests(ClientCase):
    """Servers that authenticate, one way or another."""

    def arrived(self, server: Scripted, count: int = 1) -> Script:
        """Wait for a connection, give it a session, and return it."""
        self.until(lambda: len(server.connections) >= count and server.connections[count - 1].request)
        connection = server.connections[count - 1]
        connection.greet()
        return connection

    def reply(self, connection: Script, number: int, token: bytes | None, err: int = 0) -> None:
        """Answer the token with this number."""
        connection.answer(connection.asked[number][0], proto.SASLToken(token), zxid=0, err=err)

    def challenged(self, connection: Script) -> Any:
        """Send a challenge, and return the response, judged."""
        mechanism = DigestServer("zookeeper", "zk-sasl-md5", b"n" * 30)
        self.reply(connection, 0, mechanism.challenge)
        op, body = self.asked(connection, 2)[1][1:]
        self.assertEqual(ops.SASL, op)
        return mechanism.response(jute.decode(proto.SASLToken, body)[0].token)

    def log_in(self, connection: Script) -> None:
        """Let the client in."""
        self.assertEqual([(ops.SASL, bytes(4))], [each[1:] for each in self.asked(connection, 1)])
        response = self.challenged(connection)
        self.assertEqual("bob", response.username)
        self.assertTrue(response.checkPassword("secret"))
        self.reply(connection, 1, response.answer)

    def entering(self, **options: Any) -> tuple[ZooKeeperClient, Script, Scripted]:
        """Make a client that has begun to log in."""
        server = self.script()
        client = self.client(sasl=LOGIN, **options)
        connection = self.arrived(server)
        self.asked(connection, 1)
        return client, connection, server

    def test_before_everything(self) -> None:
        """Credentials, watches and requests come when the login is done, and so does the state."""
        client, connection, server = self.entering(auth=[("digest", b"a:b")])
        asked = client.exists("/a", lambda event: None)
        self.pass_time(1)
        self.assertEqual([ops.SASL], connection.ops)
        self.assertEqual(State.CONNECTING, client.state)
        self.log_in(connection)
        self.asked(connection, 4)
        self.assertEqual([ops.SASL, ops.SASL, ops.AUTH, ops.EXISTS], connection.ops)
        self.assertEqual(State.CONNECTED, client.state)
        connection.answer(connection.asked[3][0], STAT)
        self.assertEqual(STAT, self.result(asked))
        connection.drop()
        again = self.arrived(server, 2)
        self.log_in(again)
        self.asked(again, 4)
        self.assertEqual([ops.SASL, ops.SASL, ops.AUTH, ops.SET_WATCHES], again.ops)
        assert again.request is not None
        self.assertEqual(1, again.request.session_id)

    def test_in_pieces(self) -> None:
        """Tokens come as they come, and what follows the last one in the same piece is read."""
        _, connection, _ = self.entering()
        mechanism = DigestServer("zookeeper", "zk-sasl-md5", b"n" * 30)
        sent: list[bytes] = []
        connection.send, send = sent.append, connection.send  # type: ignore[method-assign]
        self.reply(connection, 0, mechanism.challenge)
        for byte in sent.pop():
            send(bytes([byte]))
            self.pass_time(0.01)
        response = mechanism.response(jute.decode(proto.SASLToken, self.asked(connection, 2)[1][2])[0].token)
        self.assertTrue(response.checkPassword("secret"))
        told: list[Any] = []
        self.clients[0].listen(lambda state: self.clients[0]._watches.add(3, b"/a", told.append))
        self.reply(connection, 1, response.answer)
        connection.event(EventType.NODE_CREATED, b"/a")
        send(b"".join(sent))
        self.until(lambda: told)

    def test_pings(self) -> None:
        """A server that thinks for long is asked whether it is there, and its pings are no tokens."""
        client, connection, _ = self.entering()
        for count in range(1, 7):
            self.until(lambda count=count: connection.ops == [ops.SASL] + [ops.PING] * count)
            connection.answer(ops.XID_PING, zxid=0)
        del connection.asked[1:]
        self.log_in(connection)
        self.until(lambda: client.state is State.CONNECTED)

    def failed(self, client: ZooKeeperClient, server: Scripted, asked: Deferred[Any], words: str) -> None:
        """A login has failed: that is the end, and it is said why."""
        self.failure(asked, AuthFailedError)
        self.assertEqual(State.AUTH_FAILED, client.state)
        self.failureResultOf(client.when_connected(), AuthFailedError)
        self.failureResultOf(client.get("/a"), AuthFailedError)
        self.assertIn(words, client.trouble or "")
        self.assertNotIn("secret", client.trouble or "")
        self.pass_time(30)
        self.assertEqual(1, len(server.connections))
        self.assertTrue(server.connections[0].lost)

    def test_wrong_password(self) -> None:
        """A server that does not believe the client says so by one code or the other."""
        for number, code in enumerate((-115, -124)):
            server = self.script(f"10.0.0.{number + 5}")
            client = self.client(f"10.0.0.{number + 5}", sasl=LOGIN)
            asked = client.get("/a")
            connection = self.arrived(server)
            self.asked(connection, 1)
            self.challenged(connection)
            self.reply(connection, 1, None, code)
            connection.drop()
            self.failed(client, server, asked, "password")

    def test_server_without_the_password(self) -> None:
        """The client does not talk to who only says that he is the server."""
        client, connection, server = self.entering()
        asked = client.get("/a")
        self.challenged(connection)
        self.reply(connection, 1, b"rspauth=" + b"0" * 32)
        self.failed(client, server, asked, "does not know the password")

    def test_servers_without_sasl(self) -> None:
        """Where nobody is authenticated, at once or in the end, the client is not, and does not go on as if it were."""
        for steps in (0, 1):
            server = self.script(f"10.0.0.{steps + 5}")
            client = self.client(f"10.0.0.{steps + 5}", sasl=LOGIN)
            asked = client.get("/a")
            connection = self.arrived(server)
            self.asked(connection, 1)
            if steps:
                self.challenged(connection)
            self.reply(connection, steps, None)
            self.failed(client, server, asked, "authenticates nobody")

    def test_lost_meanwhile(self) -> None:
        """A connection that is lost in the middle is no refusal: the next one begins anew, and requests wait for it."""
        client, connection, server = self.entering()
        asked = client.exists("/a")
        self.challenged(connection)
        connection.drop()
        again = self.arrived(server, 2)
        self.log_in(again)
        self.asked(again, 3)
        again.answer(again.asked[2][0], STAT)
        self.assertEqual(STAT, self.result(asked))
        self.assertEqual([State.CONNECTING, State.CONNECTED], self.states)

    def test_broken_protocol(self) -> None:
        """What is no answer to a token ends the connection."""
        server = self.script()
        client = self.client(sasl=LOGIN)
        for count, noise in enumerate(
            (
                b"\0\0\0\x0f" + bytes(15),
                b"\0\0\x20\0",
                b"\0\0\0\x14" + jute.encode(proto.ReplyHeader(77, 0, 0)) + bytes(4),
                b"\0\0\0\x14" + jute.encode(proto.ReplyHeader(1, 0, 0)) + b"\0\0\0\x09",
            ),
            1,
        ):
            connection = self.arrived(server, count)
            self.asked(connection, 1)
            connection.send(noise)
            self.until(lambda connection=connection: connection.lost)
            self.assertIn("broke the protocol", client.trouble or "")
        self.assertEqual([State.CONNECTING], self.states)

    def test_closed_meanwhile(self) -> None:
        """A client may be closed before it is let in."""
        client, connection, _ = self.entering()
        asked = client.get("/a")
        self.result(client.close())
        self.until(lambda: connection.lost)
        self.assertEqual(State.CLOSED, client.state)
        asked.addErrback(lambda failure: None)
