"""
A session over connections that come and go, with servers that say what the test lets them say.

What is sent when, what becomes of requests, and in which order it is all told.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred

from tests.client.world import HERE, ClientCase, Script
from zktwisted.client import EventType, State, WatchedEvent, ZooKeeperClient
from zktwisted.errors import AuthFailedError, ConnectionLossError, NoAuthError, NoNodeError, SessionExpiredError
from zktwisted.wire import jute, ops, proto
from zktwisted.wire.frames import frame

STAT = proto.Stat(*range(11))
DATA = proto.GetDataResponse(b"data", STAT)


class ConnectTests(ClientCase):
    """From nothing to a session."""

    def test_new_session(self) -> None:
        """The first request asks for a new session; what the server grants is known when the client is connected."""
        client, connection, _ = self.scripted(session_timeout=8.0)
        self.assertEqual(proto.ConnectRequest(0, 0, 8000, 0, bytes(16)), connection.request)
        self.assertEqual(False, connection.read_only)
        self.assertEqual((1, b"p" * 16), client.session)
        self.assertEqual((1, 6.0), (client.session_id, client.session_timeout))
        self.assertEqual([State.CONNECTING, State.CONNECTED], self.states)

    def test_greeting_in_pieces(self) -> None:
        """Bytes come as they come."""
        server = self.script()
        client = self.client()
        asked = client.get("/a")
        self.until(lambda: server.connections and server.connections[0].request)
        connection = server.connections[0]
        response = proto.ConnectResponse(0, 6000, 1, b"p" * 16)
        answer = jute.encode(proto.ReplyHeader(1, 7, 0)) + jute.encode(DATA)
        for byte in frame(proto.encode_connect(response, False)):
            connection.send(bytes([byte]))
            self.pass_time(0.01)
        self.asked(connection, 1)
        for byte in frame(answer):
            connection.send(bytes([byte]))
            self.pass_time(0.01)
        self.assertEqual(DATA, self.successResultOf(asked))
        self.assertEqual(7, client.last_zxid)

    def test_session_of_another(self) -> None:
        """Id and password of a session are enough to go on with it."""
        _, connection, _ = self.scripted(session=(77, b"x" * 16))
        assert connection.request is not None
        self.assertEqual((77, b"x" * 16), connection.request[3:])

    def test_numbers_that_cannot_be(self) -> None:
        """No request would ever be sent, or no session last: that is told at once."""
        for name in ("session_timeout", "max_outstanding", "max_waiting"):
            for value in (0, -1):
                options: dict[str, Any] = {name: value}
                error = self.assertRaises(ValueError, ZooKeeperClient, self.clock, "10.0.0.1", **options)
                self.assertIn(name, str(error))

    def test_nobody_answers(self) -> None:
        """A server that accepts and says nothing is given up, and the next is asked."""
        servers = [self.script("10.0.0.1"), self.script("10.0.0.2")]
        client = self.client("10.0.0.1", "10.0.0.2", connect_timeout=1.0)
        self.until(lambda: all(server.connections for server in servers), 3)
        self.assertEqual(State.CONNECTING, client.state)
        self.until(lambda: len(servers[0].connections) + len(servers[1].connections) == 6, 10)
        for server in servers:
            self.assertEqual([True, True], [connection.lost for connection in server.connections[:2]])

    def test_no_zookeeper(self) -> None:
        """What is no answer of a ZooKeeper server ends the connection, and one line in the log says so."""
        server = self.script()
        client = self.client()
        for count, noise in enumerate((b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0\0\0\x10" + bytes(16), b"\0\0\0\0"), 1):
            self.until(lambda count=count: len(server.connections) == count and server.connections[-1].request)
            server.connections[-1].send(noise)
            self.until(lambda: server.connections[-1].lost)
        self.assertEqual(State.CONNECTING, client.state)

    def test_why_not(self) -> None:
        """As long as there is no connection it is told why, and how often it was tried."""
        client = self.client()
        self.assertEqual((False, 0), (client.ended, client.failures))
        self.pass_time(3)
        self.assertIn("no host is called", client.trouble or "")
        failures = client.failures
        self.assertGreater(failures, 2)
        server = self.script()
        self.until(lambda: server.connections)
        server.connections[0].drop()
        self.until(lambda: client.failures > failures)
        self.greeted(client, server, 2)
        self.assertEqual((None, 0), (client.trouble, client.failures))
        self.result(client.close())
        self.assertTrue(client.ended)

    def test_server_that_ends_each_connection(self) -> None:
        """It is asked less and less often, though it grants a session each time; one that answers is asked at once."""
        server = self.script()
        client = self.client()
        count = [0]

        def greet_and_drop() -> None:
            while len(server.connections) > count[0] and server.connections[count[0]].request:
                server.connections[count[0]].greet()
                server.connections[count[0]].drop()
                count[0] += 1

        end = self.world.now + 60
        while self.world.now < end and self.world.step(end):
            greet_and_drop()
        self.assertLess(count[0], 20)
        self.assertGreater(count[0], 5)
        last = self.greeted(client, server, count[0] + 1)
        asked = client.exists("/a")
        self.asked(last, 1)
        last.answer(last.asked[0][0], STAT)
        self.result(asked)
        last.drop()
        before = self.world.now
        self.greeted(client, server, count[0] + 2)
        self.assertLess(self.world.now - before, 0.5)

    def test_refused_at_first(self) -> None:
        """A client may be there before its servers."""
        client = self.client()
        self.pass_time(3)
        server = self.script()
        self.greeted(client, server)

    def test_not_started(self) -> None:
        """Before the start there is nothing to wait for."""
        client = self.client(start=False)
        self.failureResultOf(client.get("/a"), SessionExpiredError)
        self.failureResultOf(client.when_connected(), SessionExpiredError)
        self.assertEqual(State.CLOSED, client.state)

    def test_waiter_that_is_cancelled(self) -> None:
        """It is left alone when the connection is there."""
        server = self.script()
        client = self.client()
        waiter = client.when_connected()
        waiter.cancel()
        self.failureResultOf(waiter, CancelledError)
        self.greeted(client, server)


class RequestTests(ClientCase):
    """What travels on one connection."""

    def test_one_write_a_turn(self) -> None:
        """What is asked for in one turn travels together; what is asked for in answers, too."""
        client, connection, _ = self.scripted()
        connection.pieces.clear()
        more: list[Deferred[Any]] = []
        for _ in range(10):
            client.get("/a").addCallback(lambda _: more.append(client.get("/b")))
        self.asked(connection, 10)
        self.assertEqual(1, len(connection.pieces))
        answer = jute.encode(DATA)
        connection.send(
            b"".join(frame(jute.encode(proto.ReplyHeader(xid, 1, 0)) + answer) for xid, _, _ in connection.asked)
        )
        self.asked(connection, 20)
        self.assertEqual(2, len(connection.pieces))
        connection.drop()
        self.until(lambda: client.state is State.CONNECTING)
        for each in more:
            self.failureResultOf(each, ConnectionLossError)

    def test_before_the_connection(self) -> None:
        """Requests wait for a connection, and are sent in their order behind what the server must know first."""
        server = self.script()
        client = self.client(auth=[("digest", "me:secret")])
        first, second = client.get("/a"), client.exists("/b")
        connection = self.greeted(client, server)
        asked = self.asked(connection, 3)
        self.assertEqual([ops.AUTH, ops.GET_DATA, ops.EXISTS], connection.ops)
        self.assertEqual([-4, 1, 2], [xid for xid, _, _ in asked])
        connection.answer(-4, zxid=0)
        connection.answer(1, DATA)
        connection.answer(2, err=-101)
        self.assertEqual(DATA, self.result(first))
        self.assertIsNone(self.result(second))

    def test_refusals(self) -> None:
        """Each code is a class of its own, and names the node."""
        client, connection, _ = self.scripted()
        for code, kind in ((-101, NoNodeError), (-102, NoAuthError)):
            asked = client.get("/a/b")
            xid = self.asked(connection, 1)[-1][0]
            connection.answer(xid, err=code)
            error = self.failure(asked, kind)
            self.assertEqual((code, "/a/b"), (error.code, error.path))
            connection.asked.clear()

    def test_event_before_answer(self) -> None:
        """What a watch tells and what answers tell comes in the server's order."""
        client, connection, _ = self.scripted()
        told: list[str] = []
        client.get("/a", lambda event: told.append(f"{event.type.name} {event.path} {event.zxid}"))
        self.asked(connection, 1)
        connection.answer(1, DATA)
        client.set("/a", b"x").addCallback(lambda _: told.append("set"))
        client.get("/a").addCallback(lambda _: told.append("get"))
        self.asked(connection, 3)
        connection.event(3, b"/a", zxid=9)
        connection.answer(2, STAT)
        connection.answer(3, DATA)
        self.until(lambda: len(told) == 3)
        self.assertEqual(["NODE_DATA_CHANGED /a 9", "set", "get"], told)

    def test_await(self) -> None:
        """A coroutine goes on where its answer stands in the stream, before what came after it."""
        client, connection, _ = self.scripted()
        told: list[Any] = []

        async def program() -> None:
            told.append((await client.get("/a")).data)
            try:
                await client.get("/b")
            except NoNodeError as error:
                told.append(error.path)

        done = ensureDeferred(program())
        client.get("/x").addCallback(lambda _: told.append("other"))
        self.asked(connection, 2)
        connection.answer(1, DATA)
        connection.answer(2, DATA)
        self.asked(connection, 3)
        connection.answer(3, err=-101)
        self.result(done)
        self.assertEqual([b"data", "other", "/b"], told)

    def test_cancelled(self) -> None:
        """The answer to a request that was cancelled is thrown away, and its watch tells nobody."""
        client, connection, _ = self.scripted()
        told: list[Any] = []
        cancelled, other = client.get("/a", told.append), client.get("/b")
        self.asked(connection, 2)
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)
        connection.answer(1, DATA)
        connection.answer(2, DATA)
        self.assertEqual(DATA, self.result(other))
        connection.event(3, b"/a")
        self.pass_time(1)
        self.assertEqual([], told)
        refused = client.get("/c")
        self.asked(connection, 3)
        refused.cancel()
        self.failureResultOf(refused, CancelledError)
        connection.answer(3, err=-101)
        self.pass_time(1)
        self.assertEqual(State.CONNECTED, client.state)

    def test_window(self) -> None:
        """No more than C{max_outstanding} requests are under way."""
        client, connection, _ = self.scripted(max_outstanding=2)
        asked = [client.get(f"/{number}") for number in range(5)]
        room = client.room()
        self.pass_time(1)
        self.assertEqual(2, len(connection.asked))
        self.assertNoResult(room)
        for xid in range(1, 6):
            self.asked(connection, xid)
            connection.answer(xid, DATA)
            self.result(asked[xid - 1])
            self.assertLessEqual(len(connection.asked), xid + 2)
        self.successResultOf(room)

    def test_removal_that_is_cancelled(self) -> None:
        """Once it is sent it happens: the next server does not hear of the watch."""
        client, connection, server = self.scripted()
        told: list[Any] = []
        watch = client.get("/a", told.append)
        self.asked(connection, 1)
        connection.answer(1, DATA)
        self.result(watch)
        removed = client.remove_watches("/a")
        self.asked(connection, 2)
        removed.cancel()
        self.failureResultOf(removed, CancelledError)
        connection.answer(2)
        self.pass_time(0.1)
        connection.drop()
        again = self.greeted(client, server, 2)
        self.pass_time(1)
        self.assertEqual([], again.asked)

    def test_unwatch(self) -> None:
        """Who does not want to be told any more is not, and others are."""
        client, connection, _ = self.scripted()
        one, other = [], []
        asked = [client.get("/a", one.append), client.children("/a", one.append), client.exists("/a", other.append)]
        self.asked(connection, 3)
        connection.answer(1, DATA)
        connection.answer(2, bytes(4))
        connection.answer(3, STAT)
        for each in asked:
            self.result(each)
        client.unwatch("/a", one.append)
        client.unwatch("/b", one.append)
        connection.event(3, b"/a")
        connection.event(4, b"/a")
        self.until(lambda: other)
        self.pass_time(1)
        self.assertEqual(([], 1), (one, len(other)))

    def test_broken_protocol(self) -> None:
        """Whatever a server must not send ends the connection, not the client; nothing that waits is forgotten."""
        short = frame(jute.encode(proto.ReplyHeader(1, 1, 0)) + b"\0\0\0\x08")
        noises = (
            frame(jute.encode(proto.ReplyHeader(9, 1, 0))),
            frame(jute.encode(proto.ReplyHeader(-4, 1, 0))),
            frame(jute.encode(proto.ReplyHeader(-7, 1, 0))),
            frame(jute.encode(proto.ReplyHeader(-1, 1, 0)) + jute.encode(proto.WatcherEvent(9, 3, b"/a"))),
            frame(jute.encode(proto.ReplyHeader(-1, 1, 0)) + b"\0"),
            frame(jute.encode(proto.ReplyHeader(-8, 1, -3))),
            frame(b"short"),
            b"\xff\xff\xff\xff",
            b"\x7f\xff\xff\xff" + bytes(40),
        )
        server = self.script()
        client = self.client()
        for count, noise in enumerate((short, *noises), 1):
            connection = self.greeted(client, server, count)
            asked = client.get("/a")
            xid = self.asked(connection, 1)[0][0]
            if noise is short:
                self.assertEqual(1, xid)
            connection.send(noise)
            self.failure(asked, ConnectionLossError, 3)
            self.until(lambda connection=connection: connection.lost)


class TimeTests(ClientCase):
    """Silence on both sides."""

    def test_pings(self) -> None:
        """A client that asks nothing keeps its session alive, and one that asks enough sends no pings."""
        client, connection, _ = self.scripted()  # granted 6 s: a tick is 1 s
        for _ in range(20):
            self.pass_time(1)
            while len(connection.asked) and connection.asked[-1][0] == -2:
                connection.answer(*connection.asked.pop()[:1])
        self.assertEqual([], connection.ops)
        self.assertEqual(State.CONNECTED, client.state)
        pieces = len(connection.pieces)
        self.assertTrue(5 <= pieces <= 10, connection.pieces)
        for xid in range(1, 21):
            asked = client.get("/a")
            self.until(lambda xid=xid: connection.asked and connection.asked[-1][0] == xid)
            connection.answer(xid, DATA)
            self.result(asked)
            self.pass_time(0.9)
        self.assertNotIn(ops.PING, connection.ops)

    def test_silent_server(self) -> None:
        """A server that is silent for two thirds of the timeout is given up; what was asked is lost."""
        client, connection, _ = self.scripted()
        asked = client.get("/a")
        self.pass_time(3.9)
        self.assertNoResult(asked)
        self.pass_time(1.2)
        self.failureResultOf(asked, ConnectionLossError)
        self.until(lambda: connection.lost)
        self.assertEqual([State.CONNECTING, State.CONNECTED, State.CONNECTING], self.states)


class ReconnectTests(ClientCase):
    """The session outlives its connections."""

    def test_resumed(self) -> None:
        """The next connection goes on with id, password, and the zxid that was seen."""
        client, connection, server = self.scripted(session_timeout=6.0)
        asked = client.get("/a")
        self.asked(connection, 1)
        connection.answer(1, DATA, zxid=0x500000007)
        self.result(asked)
        connection.drop()
        again = self.greeted(client, server, 2)
        self.assertEqual(proto.ConnectRequest(0, 0x500000007, 6000, 1, b"p" * 16), again.request)
        self.assertEqual([State.CONNECTING, State.CONNECTED] * 2, self.states)

    def test_what_was_asked_is_lost_together(self) -> None:
        """Sent or not: a request is not carried out when one before it may not have been.  Later ones wait."""
        client, connection, server = self.scripted(max_outstanding=2)
        lost = [client.get(f"/{number}") for number in range(4)]
        self.asked(connection, 2)
        later: list[Deferred[Any]] = []
        lost[0].addErrback(lambda failure: later.append(client.get("/later")) or failure)
        connection.drop()
        self.until(lambda: client.state is State.CONNECTING)
        for number, each in enumerate(lost):
            self.assertEqual(f"/{number}", self.failureResultOf(each, ConnectionLossError).value.path)
        again = self.greeted(client, server, 2)
        self.assertEqual(ops.GET_DATA, self.asked(again, 1)[0][1])
        again.answer(again.asked[0][0], DATA)
        self.assertEqual(DATA, self.result(later[0]))

    def test_a_listener_hears_first(self) -> None:
        """The state is told before what was asked fails: who fails knows why."""
        client, connection, _ = self.scripted()
        told: list[Any] = []
        client.get("/a").addErrback(lambda failure: told.append(client.state))
        client.listen(told.append)
        connection.drop()
        self.until(lambda: len(told) == 2)
        self.assertEqual([State.CONNECTING] * 2, told)

    def test_a_listener_that_ends(self) -> None:
        """It is told nothing more; one that fails does not keep others from being told."""
        client, connection, server = self.scripted()
        told: list[Any] = []
        end = client.listen(told.append)
        end_failing = client.listen(lambda state: 1 // 0)
        heard: list[State] = []
        client.listen(lambda state: heard.append(state))
        end()
        end()
        connection.drop()
        self.greeted(client, server, 2)
        self.assertEqual([], told)
        self.assertEqual([State.CONNECTING, State.CONNECTED], heard)
        self.assertEqual(2, len(self.flushLoggedErrors(ZeroDivisionError)))
        end_failing()

    def test_a_listener_that_closes(self) -> None:
        """Whoever is told after it hears of the end last, not of what was before it."""
        client, connection, _ = self.scripted()
        client.listen(lambda state: client.close() if state is State.CONNECTING else None)
        told: list[State] = []
        client.listen(told.append)
        connection.drop()
        self.until(lambda: client.state is State.CLOSED)
        self.assertEqual([State.CLOSED], told)

    def test_watches_are_set_again(self) -> None:
        """All kinds, with the zxid that was seen before; and only those that have not been told."""
        client, connection, server = self.scripted()
        told: list[Any] = []
        client.get("/data", told.append)
        client.exists("/exist", told.append)
        client.exists("/there", told.append)
        client.children("/child", told.append)
        client.get("/told", told.append)
        client.add_watch("/persistent", told.append)
        client.add_watch("/recursive", told.append, recursive=True)
        self.asked(connection, 7)
        bodies: list[Any] = [DATA, None, STAT, proto.PathsResponse([]), DATA, proto.ErrorResponse(0)]
        for xid, body in enumerate([*bodies, proto.ErrorResponse(0)], 1):
            connection.answer(xid, b"" if body is None else body, err=-101 if body is None else 0, zxid=xid)
        connection.event(3, b"/told", zxid=8)
        self.until(lambda: told)
        connection.drop()
        again = self.greeted(client, server, 2)
        xid, op, body = self.asked(again, 1)[0]
        self.assertEqual((ops.XID_SET_WATCHES, ops.SET_WATCHES2), (xid, op))
        expected = proto.SetWatches2(
            7, [b"/data", b"/there"], [b"/exist"], [b"/child"], [b"/persistent"], [b"/recursive"]
        )
        self.assertEqual(expected, jute.decode(proto.SetWatches2, body)[0])
        asked = client.get("/x")
        self.asked(again, 2)
        # What changed meanwhile comes before the answer that the watches are set, and before all others.
        again.event(1, b"/exist")
        again.answer(-8)
        again.answer(self.asked(again, 2)[1][0], DATA)
        self.result(asked)
        self.assertEqual(["/told", "/exist"], [event.path for event in told])

    def test_cut_between_two_events(self) -> None:
        """One transaction, two events, and the connection ends between them: the second is told at the next one."""
        self.serve()
        other, client = self.connected(), self.connected(here="10.0.0.101")
        told: list[str] = []

        def cut(event: WatchedEvent) -> None:
            told.append(event.path)
            if len(told) == 1:
                connection = client._session._connection
                assert connection is not None
                connection.abort("between two events")

        for path in ("/a", "/b"):
            self.result(other.create(path))
            self.result(client.get(path, cut))
        self.result(other.transaction().set("/a", b"1").set("/b", b"1").commit())
        self.until(lambda: len(told) == 2)
        self.assertEqual(["/a", "/b"], sorted(told))
        self.assertEqual(0, len(client._watches))

    def test_cut_while_watches_are_set_again(self) -> None:
        """What answers one chunk of them says nothing of what the others have to tell."""
        client, connection, server = self.scripted(max_frame=200)
        asked = [client.exists(f"/node-{number:04}", lambda event: None) for number in range(20)]
        for xid, _, _ in list(self.asked(connection, 20)):
            connection.answer(xid, STAT, zxid=7)
        self.result(asked[-1])
        connection.drop()
        for count in (2, 3):
            again = self.greeted(client, server, count)
            self.asked(again, 2)
            _, op, body = again.asked[0]
            self.assertEqual((ops.SET_WATCHES, 7), (op, jute.decode(proto.SetWatches, body)[0].relative_zxid))
            again.answer(ops.XID_SET_WATCHES, zxid=20)
            again.answer(ops.XID_PING, zxid=21)
            self.until(lambda: client.last_zxid == 21)
            again.drop()
        last = self.greeted(client, server, 4)
        self.assertEqual(21, last.request.last_zxid_seen if last.request else None)

    def test_watches_in_chunks(self) -> None:
        """More watches than go into one frame are set by several, before any request."""
        client, connection, server = self.scripted(max_frame=2000)
        told: list[Any] = []
        asked = [client.exists(f"/node-{number:04}", told.append) for number in range(300)]
        self.asked(connection, 300)
        for xid in range(1, 301):
            connection.answer(xid, err=-101)
        self.result(asked[-1])
        connection.drop()
        self.until(lambda: client.state is State.CONNECTING)
        last = client.get("/x")
        again = self.greeted(client, server, 2)
        self.until(lambda: ops.GET_DATA in again.ops)
        self.assertEqual([], told)
        self.assertEqual({ops.SET_WATCHES}, {*again.ops[:-1]})
        self.assertGreater(len(again.ops), 2)
        paths: list[bytes] = []
        for _, _, body in again.asked[:-1]:
            self.assertLessEqual(len(body) + 8, 2000)
            paths += jute.decode(proto.SetWatches, body)[0].exist_watches or []
        self.assertEqual([b"/node-%04d" % number for number in range(300)], paths)
        again.drop()
        self.failure(last, ConnectionLossError)

    def test_moves_to_another_host(self) -> None:
        """When a server goes, the session goes on at another."""
        servers = {name: self.script(name) for name in ("10.0.0.1", "10.0.0.2", "10.0.0.3")}
        client = self.client(*servers, session_timeout=9.0)
        self.until(lambda: any(server.connections for server in servers.values()))
        (first,) = [name for name, server in servers.items() if server.connections]
        self.greeted(client, servers[first])
        self.network.host(first).kill()
        self.until(lambda: any(s.connections and s.connections[0].request for n, s in servers.items() if n != first), 2)
        (second,) = [name for name, server in servers.items() if server.connections and name != first]
        again = self.greeted(client, servers[second])
        assert again.request is not None
        self.assertEqual((1, b"p" * 16), again.request[3:])

    def test_identities_are_presented_again(self) -> None:
        """Each server is told who the client is, before anything else."""
        client, connection, server = self.scripted()
        done = client.add_auth("digest", "me:secret")
        self.asked(connection, 1)
        connection.drop()
        again = self.greeted(client, server, 2)
        client.get("/a").addErrback(lambda failure: None)
        self.asked(again, 2)
        self.assertEqual([ops.AUTH, ops.GET_DATA], again.ops)
        packet, _ = jute.decode(proto.AuthPacket, again.asked[0][2])
        self.assertEqual(proto.AuthPacket(0, "digest", b"me:secret"), packet)
        self.assertNoResult(done)
        again.answer(-4, zxid=0)
        self.result(done)

    def test_identity_in_its_place(self) -> None:
        """What was asked before is asked without it."""
        client, connection, _ = self.scripted()
        client.get("/before").addErrback(lambda failure: None)
        client.add_auth("digest", b"me:secret").addErrback(lambda failure: None)
        client.get("/behind").addErrback(lambda failure: None)
        self.asked(connection, 3)
        self.assertEqual([ops.GET_DATA, ops.AUTH, ops.GET_DATA], connection.ops)


class EndTests(ClientCase):
    """Expired, not believed, closed."""

    def expire(self, client: Any, connection: Script, server: Any) -> None:
        connection.drop()
        self.until(lambda: len(server.connections) == 2 and server.connections[1].request)
        server.connections[1].expire()
        self.until(lambda: State.EXPIRED in self.states)

    def test_expired_and_renewed(self) -> None:
        """Everything of the old session is over, and told so; the client has a new one by itself."""
        client, connection, server = self.scripted()
        told: list[Any] = []
        client.add_watch("/a", told.append)
        client.exists("/b", told.append)
        self.asked(connection, 2)
        connection.answer(1, proto.ErrorResponse(0), zxid=50)
        connection.answer(2, STAT, zxid=50)
        connection.drop()
        self.until(lambda: client.state is State.CONNECTING)
        waits = client.create("/mine", ephemeral=True)
        self.expire(client, connection, server)
        self.failureResultOf(waits, SessionExpiredError)
        self.assertEqual([WatchedEvent(EventType.NONE, path) for path in ("/b", "/a")], told)
        self.assertEqual(0, client.session_id)
        third = self.greeted(client, server, 3, session_id=2)
        self.assertEqual(proto.ConnectRequest(0, 0, 10000, 0, bytes(16)), third.request)
        self.pass_time(1)
        self.assertEqual([], third.asked)
        self.assertEqual(2, client.session_id)
        connects = [State.CONNECTING, State.CONNECTED]
        self.assertEqual([*connects, State.CONNECTING, State.EXPIRED, *connects], self.states)

    def test_expired_after_a_long_time(self) -> None:
        """However long it had to wait for a server, that one is asked for the next session at once."""
        client, connection, server = self.scripted()
        self.network.refuse(HERE, "10.0.0.1")
        connection.drop()
        self.pass_time(120)
        self.network.heal()
        self.until(lambda: len(server.connections) == 2 and server.connections[1].request)
        server.connections[1].expire()
        before = self.world.now
        self.greeted(client, server, 3)
        self.assertLess(self.world.now - before, 0.5)

    def test_asked_by_who_is_told_of_the_end(self) -> None:
        """That is for the next session."""
        client, connection, server = self.scripted()
        made: list[Any] = []

        def listener(state: State) -> None:
            if state is State.EXPIRED:
                made.append(client.create("/mine", ephemeral=True))

        client.listen(listener)
        self.expire(client, connection, server)
        third = self.greeted(client, server, 3)
        self.assertEqual(ops.CREATE, self.asked(third, 1)[0][1])
        third.answer(third.asked[0][0], proto.PathResponse(b"/mine"))
        self.assertEqual("/mine", self.result(made[0]))

    def test_expired_for_good(self) -> None:
        """A client that is not to renew its session is at its end, and does not connect again."""
        client, connection, server = self.scripted(renew=False)
        self.expire(client, connection, server)
        self.pass_time(30)
        self.assertEqual(2, len(server.connections))
        self.assertEqual(State.EXPIRED, client.state)
        self.failureResultOf(client.get("/a"), SessionExpiredError)
        self.failureResultOf(client.when_connected(), SessionExpiredError)
        client.startService()
        self.greeted(client, server, 3)

    def test_not_believed(self) -> None:
        """Credentials that a server refuses end everything; nothing is tried again."""
        client, connection, server = self.scripted()
        done = client.add_auth("digest", "me:secret")
        state: list[State] = []
        done.addErrback(lambda failure: state.append(client.state) or failure)
        asked = client.get("/a")
        self.asked(connection, 2)
        connection.answer(-4, zxid=0, err=-115)
        self.failure(done, AuthFailedError)
        self.assertEqual([State.AUTH_FAILED], state)
        self.failureResultOf(asked, AuthFailedError)
        self.failureResultOf(client.get("/b"), AuthFailedError)
        self.failureResultOf(client.when_connected(), AuthFailedError)
        self.pass_time(30)
        self.assertEqual(State.AUTH_FAILED, client.state)
        self.assertEqual(1, len(server.connections))

    def test_closed(self) -> None:
        """What was asked before is answered before; then the session is ended, and the server told."""
        client, connection, server = self.scripted()
        asked = client.get("/a")
        closed, again = client.close(), client.close()
        self.failureResultOf(client.get("/b"), SessionExpiredError)
        self.asked(connection, 2)
        self.assertEqual([ops.GET_DATA, ops.CLOSE_SESSION], connection.ops)
        connection.answer(1, DATA)
        self.assertEqual(DATA, self.result(asked))
        connection.answer(2)
        self.result(closed)
        self.result(again)
        self.assertEqual((State.CLOSED, 0), (client.state, client.session_id))
        self.until(lambda: connection.lost)
        self.pass_time(30)
        self.assertEqual(1, len(server.connections))
        self.failureResultOf(client.get("/c"), SessionExpiredError)
        # And once more.
        self.result(client.close())
        client.startService()
        second = self.greeted(client, server, 2)
        assert second.request is not None
        self.assertEqual(0, second.request.session_id)

    def test_closed_again_by_who_hears_that_it_is(self) -> None:
        """That is closed already; so it is where a connection was there and no session yet."""
        server = self.script()
        for count, greeted in ((1, False), (2, True)):
            client = self.client()
            self.until(lambda count=count: len(server.connections) == count and server.connections[-1].request)
            if greeted:
                self.greeted(client, server, count)
            closed = client.close().addCallback(lambda _, client=client: client.close())
            self.result(closed)
            self.assertEqual(State.CLOSED, client.state)
            self.until(lambda: server.connections[-1].lost)

    def test_started_while_closing(self) -> None:
        """It begins anew when the end has come; who changes his mind again has it closed."""
        client, connection, server = self.scripted()
        closed = client.close()
        self.failureResultOf(client.when_connected(), SessionExpiredError)
        connected = client.connect()
        self.asked(connection, 1)
        self.assertNoResult(connected)
        connection.answer(1)
        self.result(closed)
        self.until(lambda: len(server.connections) == 2 and server.connections[1].request)
        again = server.connections[1]
        assert again.request is not None
        self.assertEqual(0, again.request.session_id)
        again.greet(session_id=2)
        self.assertEqual(State.CONNECTED, self.result(connected))
        client.close()
        waiting = client.connect()
        closed = client.close()
        self.asked(again, 1)
        again.answer(again.asked[0][0])
        self.result(closed)
        self.failureResultOf(waiting, SessionExpiredError)
        self.pass_time(10)
        self.assertEqual((State.CLOSED, 2), (client.state, len(server.connections)))

    def test_closed_without_an_answer(self) -> None:
        """A server that does not answer does not keep the client from closing."""
        client, connection, _ = self.scripted()
        asked = client.get("/a")
        closed = client.close()
        self.result(closed, 3)
        self.failureResultOf(asked, SessionExpiredError)
        self.until(lambda: connection.lost)

    def test_closed_while_connecting(self) -> None:
        """Whoever waits is told."""
        client = self.client()
        waits, connected = client.get("/a"), client.when_connected()
        self.pass_time(1)
        self.result(client.close())
        self.failureResultOf(waits, SessionExpiredError)
        self.failureResultOf(connected, SessionExpiredError)

    def test_closed_while_the_server_thinks(self) -> None:
        """The connection that was about to become the session's is given up."""
        server = self.script()
        client = self.client()
        self.until(lambda: server.connections and server.connections[0].request)
        self.result(client.close())
        self.until(lambda: server.connections[0].lost)

    def test_context_manager(self) -> None:
        """C{async with} connects and closes."""
        server = self.script()
        client = self.client(start=False)
        inside: list[State] = []

        async def program() -> None:
            async with client as same:
                inside.append(same.state)

        done = ensureDeferred(program())
        connection = self.greeted(client, server)
        self.asked(connection, 1)
        connection.answer(1)
        self.result(done)
        self.assertEqual([State.CONNECTED], inside)


class ReadOnlyTests(ClientCase):
    """Servers without a quorum."""

    def test_read_only(self) -> None:
        """The client says that they will do, and looks for one that has a quorum; then the session is a new one."""
        server = self.script("10.0.0.1")
        client = self.client("10.0.0.1", read_only=True)
        connection = self.greeted(client, server, read_only=True, session_id=5)
        self.assertTrue(connection.read_only)
        self.assertEqual(State.CONNECTED_READ_ONLY, client.state)
        told: list[Any] = []
        client.get("/a", told.append)
        self.asked(connection, 1)
        connection.answer(1, DATA)
        # A tick, and it asks: this one has no quorum yet.
        self.until(lambda: len(server.connections) == 2)
        probe = server.connections[1]
        self.until(lambda: probe.pieces)
        probe.send(b"ro")
        probe.drop()
        self.until(lambda: len(server.connections) == 3 and server.connections[2].pieces)
        server.connections[2].send(b"rw")
        server.connections[2].drop()
        again = self.greeted(client, server, 4)
        assert again.request is not None
        self.assertEqual((0, bytes(16)), again.request[3:])
        self.assertEqual([ops.SET_WATCHES], self.asked(again, 1) and again.ops)
        self.assertEqual(State.CONNECTED, client.state)
        # It has a session with a quorum now, which it keeps at any server.
        again.drop()
        last = self.greeted(client, server, 5, read_only=True)
        assert last.request is not None
        self.assertEqual((1, b"p" * 16), last.request[3:])

    def test_all_are_asked(self) -> None:
        """In each round every server is asked, one after the other; rounds come less and less often."""
        servers = [self.script(f"10.0.0.{number}") for number in (1, 2, 3)]
        client = self.client("10.0.0.1", "10.0.0.2", "10.0.0.3", read_only=True)
        self.until(lambda: any(server.connections for server in servers))
        (first,) = [server for server in servers if server.connections]
        self.greeted(client, first, read_only=True, timeout_ms=600_000)

        def asked() -> int:
            probes = [each for server in servers for each in server.connections if each.pieces == [4]]
            for probe in probes:
                if not probe.lost:
                    probe.send(b"ro")
                    probe.drop()
            return len(probes)

        self.until(lambda: asked() == 3, 1.0)
        self.until(lambda: asked() == 6, 1.5)
        began = self.world.now
        self.until(lambda: asked() == 30, 100)
        self.assertGreater(self.world.now - began, 30)

    def test_closed_while_looking(self) -> None:
        """The search ends with the client."""
        server = self.script()
        client = self.client(read_only=True)
        connection = self.greeted(client, server, read_only=True)
        self.until(lambda: len(server.connections) == 2 and server.connections[1].pieces)
        closed = client.close()
        self.asked(connection, 1)
        connection.answer(1)
        self.result(closed)
        self.until(lambda: server.connections[1].lost)
