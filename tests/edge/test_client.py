"""Connections of clients, over a transport in memory and against a server that does as it is told."""

from __future__ import annotations

from itertools import pairwise
from struct import pack, unpack_from

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactor, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.edge.fakes import (
    PASSWORD,
    SESSION,
    Client,
    FakeServer,
    auth,
    connect,
    reply,
    request,
    split,
)
from zktwisted.edge.connection import MAX_UNSENT
from zktwisted.edge.requests import Request
from zktwisted.ops.view import ConnectionView
from zktwisted.wire import ops
from zktwisted.wire.frames import frame
from zktwisted.wire.proto import Id

GET, SET, PING, CLOSE = ops.GET_DATA, ops.SET_DATA, ops.PING, ops.CLOSE_SESSION


class ConnectTests(SynchronousTestCase):
    """The beginning of a connection."""

    def test_accepted(self) -> None:
        """The response has the session and mirrors the readOnly byte, or its absence."""
        for read_only, size in ((False, 41), (True, 41), (None, 40)):
            server = FakeServer()
            client = Client(server)
            client.send(connect(read_only))
            response = client.take()
            self.assertEqual(size, len(response))
            length, version, timeout, session, password = unpack_from(">iiiqi", response)
            self.assertEqual((size - 4, 0, 10000, SESSION, 16), (length, version, timeout, session, password))
            self.assertEqual(PASSWORD, response[24:40])
            self.assertEqual([read_only], [seen for _, seen in server.connects])
            self.assertFalse(client.closed)

    def test_pipelined(self) -> None:
        """What follows the ConnectRequest is kept until the session is there, and then served, in order."""
        server = FakeServer()
        server.accepts = "later"
        client = Client(server)
        client.send(connect(), auth("digest", b"u:p"), request(1, GET, b"ab"), request(2, GET)[:6])
        client.send(request(2, GET)[6:])
        client.send(request(3, PING))
        self.assertEqual(b"", client.take())
        self.assertEqual("paused", client.transport.producerState)
        self.assertEqual([], server.answered)
        server.waiting[0].accept(SESSION, 4000, PASSWORD, True)
        server.flush_dirty()
        output = client.take()
        self.assertEqual(1, output[40])
        self.assertEqual(
            [(-4, 0, 0, b""), (1, 0x55, 0, b"ba"), (2, 0x55, 0, b""), (3, 0x55, 0, b"")], split(output[41:])
        )
        self.assertEqual("producing", client.transport.producerState)
        self.assertEqual([2, 2, 2], [len(identities) for _, identities in server.answered])

    def test_refused(self) -> None:
        """A refusal is a response of zeros, and the end; what follows is not read."""
        server = FakeServer()
        server.accepts = "refuse"
        client = Client(server)
        client.send(connect(), request(1, GET))
        self.assertEqual(frame(bytes(16) + pack(">i", 16) + bytes(17)), client.take())
        self.assertTrue(client.closed)

    def test_closed_without_reply(self) -> None:
        """Not serving, no token in the bucket, an unreadable request, the server's own refusal: no reply."""
        closing = FakeServer()
        closing.accepts = "close"
        stopped = FakeServer()
        stopped.serving = False
        exhausted = FakeServer(connection_throttle_tokens=1, connection_throttle_fill_time=100000)
        Client(exhausted).send(connect())
        for server, data in (
            (closing, connect()),
            (stopped, connect()),
            (exhausted, connect()),
            (FakeServer(), frame(bytes(20))),
            (FakeServer(), frame(b"")),
        ):
            client = Client(server)
            client.send(data)
            self.assertEqual(b"", client.take())
            self.assertTrue(client.closed)
        self.assertEqual(1, stopped.metrics.cnxn_closed_without_zk_server_running)

    def test_noise(self) -> None:
        """What is no client is closed without an answer, as soon as its first four bytes are there."""
        for data in (
            b"GET / HTTP/1.1\r\n\r\n",
            b"\x16\x03\x01\x02\x00",
            b"\xff\xff\xff\xff",
            b"RUOK",
            pack(">i", 1048576),
        ):
            client = Client(FakeServer())
            for byte in data[:3]:
                client.send(bytes([byte]))
            self.assertFalse(client.closed)
            client.send(data[3:])
            self.assertTrue(client.closed)
            self.assertEqual(b"", client.take())

    def test_too_many(self) -> None:
        """maxClientCnxns counts each address for itself; who is lost makes room."""
        server = FakeServer(max_client_cnxns=2)
        first, second, third = (Client(server, port=port) for port in (1, 2, 3))
        self.assertEqual([False, False, True], [c.closed for c in (first, second, third)])
        self.assertFalse(Client(server, host="10.0.0.1").closed)
        third.lose()
        self.assertEqual([], server.lost)
        first.lose()
        self.assertEqual([first.protocol], server.lost)
        self.assertFalse(Client(server).closed)
        self.assertEqual(1, server.metrics.connection_rejected)

    def test_behind_a_proxy(self) -> None:
        """With the PROXY protocol a client has the address that the proxy tells, also where it is counted."""
        server = FakeServer(max_client_cnxns=2)
        reactor = MemoryReactor()
        self.successResultOf(serverFromString(reactor, "haproxy:tcp:2181").listen(server.factory))
        proxies = reactor.tcpServers[0][1]
        transports = []
        for number in range(1, 5):
            address = "10.9.8.7" if number < 4 else "::1"
            transport = StringTransport(peerAddress=IPv4Address("TCP", "127.0.0.1", 4000), lenient=True)
            transports.append(transport)
            proxied = proxies.buildProtocol(transport.getPeer())
            proxied.makeConnection(transport)
            header = f"PROXY TCP{6 if ':' in address else 4} {address} {address} 500{number} 2181\r\n".encode()
            for part in (header[:9], header[9:] + connect()[:3], connect()[3:]):
                proxied.dataReceived(part)
        self.assertEqual([False, False, True, False], [transport.disconnecting for transport in transports])
        connections = list(server.connections)
        self.assertEqual(
            ["10.9.8.7:5001", "10.9.8.7:5002", "127.0.0.1:4000", "[0:0:0:0:0:0:0:1]:5004"],
            [connection.remote_address for connection in connections],
        )
        self.assertEqual((Id("ip", "10.9.8.7"),), connections[0].identities.current)
        self.assertEqual((2, 1), (server.counts.from_address("10.9.8.7"), server.counts.from_address("127.0.0.1")))
        for connection in connections:
            connection.connectionLost(Failure(ConnectionDone()))
        self.assertEqual((0, 0), (server.counts.total, server.counts.from_address("10.9.8.7")))

    def test_too_many_in_all(self) -> None:
        """maxCnxns counts connections without an address too."""
        server = FakeServer(max_cnxns=1)
        for closed in (False, True):
            transport = StringTransport()
            protocol = server.factory.buildProtocol(UNIXAddress(b""))
            protocol.makeConnection(transport)
            self.assertEqual(closed, transport.disconnecting)

    def test_addresses(self) -> None:
        """Addresses are written as Java does."""
        server = FakeServer()
        for address, shown, identity in (
            (IPv6Address("TCP", "::1", 7), "[0:0:0:0:0:0:0:1]:7", "0:0:0:0:0:0:0:1"),
            (UNIXAddress(b""), "127.0.0.1:0", "127.0.0.1"),
        ):
            protocol = server.factory.buildProtocol(address)
            self.assertEqual(shown, protocol.remote_address)
            self.assertEqual((Id("ip", identity),), protocol.identities.current)


class WordTests(SynchronousTestCase):
    """Four-letter words."""

    def test_answered(self) -> None:
        """The text, then the end; what follows the word is ignored, and it may come in pieces."""
        for pieces in ((b"ruok\n",), (b"r", b"uo", b"k\n"), (b"ruok",)):
            server = FakeServer()
            client = Client(server)
            for piece in pieces:
                client.send(piece)
            self.assertEqual(b"RUOK127.0.0.1:5000", client.take())
            self.assertTrue(client.closed)
            client.send(b"more")
            self.assertEqual(b"", client.take())
            self.assertEqual(0, client.protocol.interest_ops)

    def test_longer(self) -> None:
        """The word stmk has eight bytes more."""
        client = Client(FakeServer())
        client.send(b"stmk1234")
        self.assertFalse(client.closed)
        client.send(b"5678\n")
        self.assertEqual(b"STMK12345678127.0.0.1:5000", client.take())

    def test_telnet(self) -> None:
        """Telnet's interrupt closes without a word."""
        client = Client(FakeServer())
        client.send(b"\xff\xf4\xff\xfd")
        self.assertEqual((b"", True), (client.take(), client.closed))

    def test_while_not_serving(self) -> None:
        """Words are answered all the same."""
        server = FakeServer()
        server.serving = False
        client = Client(server)
        client.send(b"srvr")
        self.assertEqual(b"SRVR127.0.0.1:5000", client.take())

    def test_not_after_connect(self) -> None:
        """With a session they are lengths, and bad ones, in however many pieces."""
        for pieces in ((b"ruok",), (b"r", b"u", b"o", b"k")):
            client = Client.connected(FakeServer())
            for piece in pieces:
                client.send(piece)
            self.assertEqual((b"", True), (client.take(), client.closed))

    def test_without_words(self) -> None:
        """A server that knows none takes them for noise."""
        server = FakeServer()
        server.words = None
        client = Client(server)
        client.send(b"ruok")
        self.assertEqual((b"", True), (client.take(), client.closed))


class OrderTests(SynchronousTestCase):
    """Replies come in the order of the requests."""

    SCRIPT = (
        connect(),
        auth("digest", b"u:p"),
        request(1, GET, b"/abc"),
        request(-2, PING),
        request(2, SET, b"12345"),
        request(3, GET, b"behind"),
        request(4, ops.SYNC),
        auth("ip", b""),
        request(5, GET),
        request(6, CLOSE),
        request(7, GET),
    )

    def run_script(self, size: int) -> list[tuple[int, int, int, bytes]]:
        """Let the script arrive in pieces of so many bytes; writes are answered at the end."""
        server = FakeServer()
        client = Client(server)
        data = b"".join(self.SCRIPT)
        for start in range(0, len(data), size):
            client.send(data[start : start + size])
        output = client.take()
        server.settle(len(server.submitted))
        output += client.take()
        self.assertTrue(client.closed)
        self.assertEqual([], server.submitted)
        self.assertEqual(10, client.protocol.packets_received)
        self.assertEqual(10, client.protocol.packets_sent)
        return split(output[41:])

    def test_chunks(self) -> None:
        """Whole, byte by byte or cut anywhere: the same answers."""
        whole = self.run_script(10_000)
        self.assertEqual([-4, 1, -2, -4, 2, 3, 4, 5, 6], [xid for xid, _, _, _ in whole])
        self.assertEqual(b"dniheb", whole[5][3])
        for size in (1, 2, 3, 5, 11, 12, 13, 16, 17, 40, 64):
            self.assertEqual(whole, self.run_script(size), size)

    def test_read_waits_for_write(self) -> None:
        """A read behind a write is evaluated after it, with the identities under which it was read."""
        server = FakeServer()
        client = Client.connected(server)
        client.send(request(1, SET), request(2, GET), auth("digest", b"u:p"), request(3, GET))
        self.assertEqual([-4], client.xids())
        self.assertEqual([], server.answered)
        self.assertEqual(3, client.protocol.outstanding_requests)
        server.settle()
        self.assertEqual([1, 2, 3], client.xids())
        self.assertEqual([1, 2], [len(identities) for _, identities in server.answered])
        self.assertEqual(0, client.protocol.outstanding_requests)

    def test_settled_out_of_order(self) -> None:
        """An answer that is known early waits for those before it."""
        server = FakeServer()
        client = Client.connected(server)
        client.send(request(1, SET), request(2, GET), request(3, SET), request(4, GET))
        first, second = server.submitted
        second.reply = reply(3, 9)
        client.protocol.settled()
        server.flush_dirty()
        self.assertEqual([], client.xids())
        first.reply = reply(1, 8)
        client.protocol.settled()
        server.flush_dirty()
        self.assertEqual([1, 2, 3, 4], client.xids())

    def test_one_write(self) -> None:
        """All answers of a turn leave in one write."""
        server = FakeServer()
        client = Client.connected(server)
        writes: list[bytes] = []
        client.transport.write = writes.append  # type: ignore[method-assign]
        client.send(*(request(xid, GET) for xid in range(1, 41)))
        self.assertEqual(1, len(writes))
        self.assertEqual(1, server.touched)
        client.send(*(request(xid, SET) for xid in range(1, 4)))
        for waiting in server.submitted:
            waiting.reply = reply(waiting.cxid, 1)
            client.protocol.settled()
        self.assertEqual(1, len(writes))
        server.flush_dirty()
        self.assertEqual(2, len(writes))

    def test_runs(self) -> None:
        """Writes of one piece are handed on together, and before what may end the connection is looked at."""
        server = FakeServer(jute_max_buffer=5000)
        client = Client.connected(server)
        runs: list[tuple[list[int], int, bool]] = []

        def take(run: list[Request]) -> None:
            runs.append(([request.cxid for request in run], len(run[0].identities), client.closed))

        server.submit_run = take  # type: ignore[method-assign]
        one, two, *others = (request(xid, SET) for xid in range(1, 6))
        client.send(one, request(9, GET), two, auth("digest", b"u:p"), *others, pack(">iii", 5001, 6, SET))
        self.assertEqual([([1, 2], 1, False), ([3, 4, 5], 2, False)], runs)
        self.assertTrue(client.closed)

    def test_run_answered_at_once(self) -> None:
        """Where a piece was held back because of too many requests it goes on when these are answered."""
        server = FakeServer(global_outstanding_limit=1)
        client = Client.connected(server)

        def answer(run: list[Request]) -> None:
            for each in run:
                each.reply = reply(each.cxid, 1)
            client.protocol.settled()

        server.submit_run = answer  # type: ignore[method-assign]
        client.send(*(request(xid, SET) for xid in range(1, 7)))
        self.assertEqual([1, 2, 3, 4, 5, 6], client.xids())
        self.assertEqual(0, client.protocol.outstanding_requests)

    def test_events_first(self) -> None:
        """Events that a setWatches fires, and those of a write, come before the reply."""
        server = FakeServer()
        client = Client.connected(server)
        server.events = [reply(-1, -1, b"one"), reply(-1, -1, b"two")]
        client.send(request(1, GET), request(-8, ops.SET_WATCHES), request(2, GET))
        self.assertEqual([1, -1, -1, -8, 2], client.xids())
        client.send(request(3, SET))
        client.protocol.deliver(reply(-1, 7))
        server.settle()
        self.assertEqual([-1, 3], client.xids())

    def test_event_alone(self) -> None:
        """An event outside of the connection's own turn asks for a flush, once."""
        server = FakeServer()
        client = Client.connected(server)
        client.protocol.deliver(reply(-1, 7))
        client.protocol.deliver(reply(-1, 8))
        self.assertEqual([client.protocol], server.dirty)
        server.flush_dirty()
        self.assertEqual([-1, -1], client.xids())


class ViolationTests(SynchronousTestCase):
    """What closes a connection."""

    def assert_closed(self, server: FakeServer, data: bytes, before: list[int] | None = None) -> None:
        """The data close a connection; nothing but the replies to requests before are sent."""
        client = Client.connected(server)
        client.send(data)
        self.assertTrue(client.closed)
        self.assertEqual(before or [], client.xids())
        client.send(request(99, GET))
        self.assertEqual(b"", client.take())

    def test_lengths(self) -> None:
        """Negative, shorter than a header, longer than jute.maxbuffer; replies before are sent no more."""
        for length in (-1, 0, 7, 1048576, 0x7FFFFFFF):
            self.assert_closed(FakeServer(), pack(">i", length))
            self.assert_closed(FakeServer(), pack(">iii", length, 1, GET))

    def test_longest(self) -> None:
        """A frame of jute.maxbuffer is taken, in any pieces."""
        server = FakeServer(jute_max_buffer=5000)
        client = Client.connected(server)
        data = request(1, GET, bytes(4992))
        client.send(data[:7])
        client.send(data[7:3000])
        client.send(data[3000:] + request(2, GET, bytes(4992)))
        self.assertEqual([1, 2], client.xids())
        client.send(pack(">iii", 5001, 3, GET))
        self.assertTrue(client.closed)

    def test_unknown_operation(self) -> None:
        """UNIMPLEMENTED with zxid -1 behind what is older, then the end; so for operations among servers."""
        for op in (0, 10, 13, 20, -10, -1, 23, 99, 108):
            server = FakeServer()
            client = Client.connected(server)
            client.send(request(1, GET), request(2, op), request(3, GET))
            self.assertEqual([(1, 0x55, 0, b""), (2, -1, -6, b"")], client.replies())
            self.assertTrue(client.closed)
        server = FakeServer()
        client = Client.connected(server)
        client.send(request(1, SET), request(2, 20), request(3, GET))
        self.assertEqual([], client.xids())
        self.assertFalse(client.closed)
        server.settle()
        self.assertEqual([1, 2], client.xids())
        self.assertTrue(client.closed)

    def test_auth_failure(self) -> None:
        """AUTHFAILED with zxid 0, then the end; pipelined requests get nothing."""
        for scheme, data in (("world", b"anyone"), ("digest", None), ("sasl", b"")):
            server = FakeServer()
            client = Client.connected(server)
            client.send(request(1, GET), auth(scheme, data), request(2, GET))
            self.assertEqual([(1, 0x55, 0, b""), (-4, 0, -115, b"")], client.replies())
            self.assertTrue(client.closed)
            self.assertEqual([1], [xid for xid, _ in server.answered])
            self.assertEqual(1, server.stats.auth_failed_count)

    def test_auth_disconnect(self) -> None:
        """The wrong ensemble is closed without a reply."""
        self.assert_closed(FakeServer(), auth("ensemble", b"theirs") + request(1, GET))

    def test_auth_unreadable(self) -> None:
        """An auth packet that cannot be read, a null SASL token: closed without a reply."""
        self.assert_closed(FakeServer(), request(-4, ops.AUTH, b"\0\0\0\0"))
        self.assert_closed(FakeServer(), request(1, ops.SASL, b"\xff\xff\xff\xff"))
        self.assert_closed(FakeServer(), request(1, ops.SASL, b"\0"))

    def test_auth_only_touches_nothing(self) -> None:
        """Auth packets alone are no sign of the session; nor are pieces of a request."""
        server = FakeServer()
        client = Client.connected(server)
        client.send(auth("digest", b"u:p"))
        client.send(request(1, GET)[:9])
        self.assertEqual(0, server.touched)
        client.send(request(1, GET)[9:])
        self.assertEqual(1, server.touched)

    def test_sasl_not_configured(self) -> None:
        """The answer is a null token, and nobody is authenticated."""
        server = FakeServer()
        client = Client.connected(server)
        client.send(request(1, ops.SASL, pack(">i", 0)), request(2, GET))
        self.assertEqual([(1, 0, 0, b"\xff\xff\xff\xff"), (2, 0x55, 0, b"")], client.replies())

    def test_enforced(self) -> None:
        """Without a demanded scheme even a ping is answered -124 with zxid 0, then the end."""
        for op in (GET, PING, SET, CLOSE):
            server = FakeServer(enforce_auth_enabled=True, enforce_auth_schemes=("digest",))
            client = Client.connected(server)
            client.send(auth("ip", b""), request(3, op), request(4, op))
            self.assertEqual([(-4, 0, 0, b""), (3, 0, -124, b"")], client.replies())
            self.assertTrue(client.closed)

    def test_enforced_and_satisfied(self) -> None:
        """With it, everything is as ever."""
        server = FakeServer(enforce_auth_enabled=True, enforce_auth_schemes=("digest",))
        client = Client.connected(server)
        client.send(auth("digest", b"u:p"), request(3, GET))
        self.assertEqual([-4, 3], client.xids())
        self.assertFalse(client.closed)


PIECES = (
    *(request(xid, op, b"/abc") for xid, op in ((1, GET), (2, SET), (-2, PING), (3, ops.SYNC), (4, CLOSE))),
    request(5, GET, bytes(600)),
    request(6, 20),
    request(7, ops.SASL, bytes(4)),
    request(8, ops.SASL),
    auth("digest", b"u:p"),
    auth("world", b""),
    auth("ensemble", b"theirs"),
    pack(">i", 7),
    pack(">i", -1),
    b"ruok",
    b"",
)


class CuttingTests(SynchronousTestCase):
    """How input is cut makes no difference."""

    def outcome(self, pieces: list[bytes]) -> tuple[bytes, bool, object, int]:
        """What becomes of input in such pieces, when writes are answered at the end."""
        server = FakeServer(jute_max_buffer=500)
        client = Client(server)
        for piece in pieces:
            client.send(piece)
        server.settle(len(server.submitted))
        return client.take(), client.closed, server.answered, server.outstanding.in_flight

    @settings(deadline=None, max_examples=150, derandomize=True)
    @given(
        st.booleans(),
        st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=20)), max_size=8),
        st.lists(st.integers(0, 300), max_size=12),
    )
    def test_cut(self, connected: bool, frames: list[bytes], cuts: list[int]) -> None:
        """Good and bad frames, and noise: whole, cut anywhere, byte by byte."""
        data = (connect() if connected else b"") + b"".join(frames)
        places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
        whole = self.outcome([data])
        self.assertEqual(whole, self.outcome([data[a:b] for a, b in pairwise(places)]))
        self.assertEqual(whole, self.outcome([bytes([byte]) for byte in data]))


class CloseTests(SynchronousTestCase):
    """Ends of connections."""

    def test_close_session(self) -> None:
        """Later requests are thrown away; the reply comes, then the end."""
        server = FakeServer()
        client = Client.connected(server)
        client.send(request(1, SET), request(2, CLOSE), request(3, GET))
        client.send(request(4, GET))
        self.assertEqual([SET, CLOSE], [r.op for r in server.submitted])
        server.settle()
        self.assertFalse(client.closed)
        server.settle()
        self.assertEqual([1, 2], client.xids())
        self.assertTrue(client.closed)

    def test_moved(self) -> None:
        """An empty reply: the session moved, the connection is closed without one."""
        server = FakeServer()
        client = Client.connected(server)
        client.send(request(1, SET), request(2, SET))
        server.settle(reply_with=b"")
        self.assertEqual(b"", client.take())
        self.assertTrue(client.closed)
        server.settle()
        self.assertEqual(1, server.metrics.stale_replies)

    def test_lost(self) -> None:
        """Everything is let go of; answers that come later are stale; the server is told once."""
        server = FakeServer()
        client = Client.connected(server)
        client.send(request(1, SET), request(2, GET))
        self.assertEqual(2, server.outstanding.in_flight)
        client.lose()
        self.assertEqual([client.protocol], server.lost)
        self.assertEqual((0, 0, {}), (server.outstanding.in_flight, server.counts.total, server.connections))
        self.assertTrue(server.submitted[0].connection_gone)
        server.settle()
        client.protocol.deliver(reply(-1, 1))
        client.protocol.close()
        server.flush_dirty()
        self.assertEqual(1, server.metrics.connection_drop_count)

    def test_close_now(self) -> None:
        """What is queued is not sent."""
        server = FakeServer()
        client = Client.connected(server)
        client.protocol.deliver(reply(-1, 1))
        client.protocol.close("tested")
        server.flush_dirty()
        self.assertEqual((b"", True, False), (client.take(), client.closed, client.transport.disconnected))
        client.protocol.close()
        self.assertTrue(client.transport.disconnected)

    def test_silent(self) -> None:
        """Without a session after nio.sessionlessCnxnTimeout, with one after its timeout; bytes renew it."""
        server = FakeServer()
        silent, session = Client(server), Client.connected(server)
        server.clock.advance(9)
        server.factory.expire(server.now())
        self.assertEqual([False, False], [silent.closed, session.closed])
        session.send(request(-2, PING))
        deadline = server.factory.deadline()
        assert deadline is not None
        self.assertLessEqual(deadline, server.now() + 6)
        server.factory.expire(deadline)
        self.assertEqual([True, False], [silent.closed, session.closed])
        silent.lose()
        session.lose()
        self.assertIsNone(server.factory.deadline())

    def test_not_serving(self) -> None:
        """A server that stops takes no more requests, but those that it took are answered."""
        server = FakeServer()
        client = Client.connected(server)
        client.send(request(1, SET))
        server.serving = False
        client.send(request(2, GET))
        client.send(request(3, GET))
        self.assertEqual([], client.xids())
        server.settle()
        self.assertEqual([1], client.xids())


class PressureTests(SynchronousTestCase):
    """Limits on what waits."""

    def test_output(self) -> None:
        """While the client takes nothing, nothing is answered; then it goes on where it stopped."""
        server = FakeServer()
        client = Client.connected(server)
        client.protocol.pauseProducing()
        client.send(request(1, GET), request(2, GET)[:5])
        client.send(request(2, GET)[5:])
        self.assertEqual(([], "paused"), (server.answered, client.transport.producerState))
        self.assertEqual(4, client.protocol.interest_ops)
        client.protocol.resumeProducing()
        self.assertEqual([1, 2], client.xids())
        self.assertEqual("producing", client.transport.producerState)
        self.assertEqual(1, client.protocol.interest_ops)

    def test_output_of_one_turn(self) -> None:
        """Large replies to many small requests are not gathered without bound."""
        server = FakeServer()
        client = Client.connected(server)
        server.answer = lambda c, i, xid, *rest: reply(xid, 1, bytes(100_000))  # type: ignore[method-assign]
        taken: list[bytes] = []

        def write(data: bytes) -> None:
            taken.append(data)
            client.protocol.pauseProducing()

        client.transport.write = write  # type: ignore[method-assign]
        client.send(*(request(xid, GET) for xid in range(1, 8)))
        self.assertEqual([1, 2, 3], [xid for xid, _, _, _ in split(b"".join(taken))])
        client.protocol.resumeProducing()
        client.protocol.resumeProducing()
        self.assertEqual(list(range(1, 8)), [xid for xid, _, _, _ in split(b"".join(taken))])
        taken.clear()
        client.protocol.resumeProducing()
        client.send(request(8, SET), *(request(xid, GET) for xid in range(9, 16)))
        server.settle()
        self.assertEqual([8, 9, 10, 11], [xid for xid, _, _, _ in split(b"".join(taken))])
        client.protocol.resumeProducing()
        client.protocol.resumeProducing()
        self.assertEqual(list(range(8, 16)), [xid for xid, _, _, _ in split(b"".join(taken))])

    def test_events_without_end(self) -> None:
        """Who never takes its events is disconnected at a bound."""
        server = FakeServer()
        client = Client.connected(server)
        client.protocol.pauseProducing()
        event = reply(-1, 1, bytes(1 << 20))
        for _ in range(MAX_UNSENT // len(event)):
            client.protocol.deliver(event)
        self.assertFalse(client.closed)
        client.protocol.deliver(event)
        self.assertTrue(client.transport.disconnected)

    def test_global_outstanding_limit(self) -> None:
        """Above the limit who has something under way waits, and goes on when there is room."""
        server = FakeServer(global_outstanding_limit=2)
        busy, idle = Client.connected(server), Client.connected(server)
        busy.send(*(request(xid, SET) for xid in range(1, 6)))
        self.assertEqual(3, len(server.submitted))
        idle.send(request(1, GET))
        self.assertEqual([1], idle.xids())
        busy.send(request(6, SET))
        self.assertEqual("paused", busy.transport.producerState)
        server.settle(2)
        self.assertEqual([1, 2], busy.xids())
        self.assertEqual(3, len(server.submitted))
        server.settle(3)
        server.settle(1)
        self.assertEqual([3, 4, 5, 6], busy.xids())
        self.assertEqual(0, server.outstanding.in_flight)
        self.assertEqual("producing", busy.transport.producerState)

    def test_resumed_by_a_loss(self) -> None:
        """Room that a lost connection leaves is used at once."""
        server = FakeServer(global_outstanding_limit=2)
        busy, other = Client.connected(server), Client.connected(server)
        other.send(request(1, SET), request(2, SET))
        busy.send(request(1, SET), request(2, SET), request(3, SET))
        self.assertEqual(3, len(server.submitted))
        other.lose()
        self.assertEqual(5, len(server.submitted))

    def test_large_requests(self) -> None:
        """Large requests under way are bounded; one too many closes its connection before it is held."""
        server = FakeServer(large_request_threshold=100, large_request_max_bytes=350)
        client = Client.connected(server)
        client.send(request(1, SET, bytes(142)), request(2, GET, bytes(142))[:50])
        self.assertEqual(300, server.large_requests.bytes)
        other = Client.connected(server)
        other.send(request(1, SET, bytes(92)))
        self.assertFalse(other.closed)
        other.send(request(2, SET, bytes(93))[:12])
        self.assertTrue(other.closed)
        self.assertEqual(1, server.metrics.large_requests_rejected)
        client.send(request(2, GET, bytes(142))[50:])
        server.settle(1)
        self.assertEqual([1, 2], client.xids())
        self.assertEqual(0, server.large_requests.bytes)
        client.send(auth("digest", bytes(120)))
        client.send(request(3, GET, bytes(142))[:20])
        self.assertEqual(150, server.large_requests.bytes)
        client.lose()
        self.assertEqual(0, server.large_requests.bytes)


class ThrottleTests(SynchronousTestCase):
    """The request throttle."""

    def test_order(self) -> None:
        """With room for one at a time, all connections' requests come one after another."""
        server = FakeServer(request_throttle_max_requests=1)
        one, two = Client.connected(server), Client.connected(server)
        one.send(request(1, GET), request(2, SET), request(3, GET))
        two.send(request(1, GET))
        self.assertEqual([[1], []], [one.xids(), two.xids()])
        server.settle()
        self.assertEqual([[2, 3], [1]], [one.xids(), two.xids()])
        self.assertEqual(0, server.throttler.in_pipeline)

    def test_many(self) -> None:
        """A long queue is no deep stack."""
        server = FakeServer(request_throttle_max_requests=1, global_outstanding_limit=100_000)
        client = Client.connected(server)
        client.send(request(1, SET), *(request(xid, GET) for xid in range(2, 3000)))
        server.settle()
        self.assertEqual(list(range(1, 3000)), client.xids())

    def test_late(self) -> None:
        """Who waited too long is answered THROTTLEDOP, but a ping never."""
        server = FakeServer(request_throttle_max_requests=1, throttled_op_wait_time=1000)
        client = Client.connected(server)
        client.send(request(1, SET), request(2, SET), request(3, GET), request(-2, PING))
        server.clock.advance(2)
        server.settle()
        self.assertEqual(
            [(1, 0), (2, -127), (3, -127), (-2, 0)], [(xid, err) for xid, _, err, _ in client.replies()]
        )
        self.assertEqual([], server.submitted)

    def test_gone(self) -> None:
        """The requests of a lost connection are dropped, and what they held is free again."""
        server = FakeServer(request_throttle_max_requests=1)
        lost, other = Client.connected(server), Client.connected(server)
        lost.send(request(1, SET), request(2, SET), request(3, GET))
        other.send(request(1, GET))
        lost.lose()
        server.factory.admit(server.now())
        server.flush_dirty()
        self.assertEqual([1], other.xids())
        self.assertEqual((1, 0), (len(server.submitted), server.throttler.in_pipeline))

    def test_gone_but_run(self) -> None:
        """Kept by configuration, or a closeSession: run for nobody, and not counted for ever."""
        server = FakeServer(request_throttle_max_requests=1, request_throttle_drop_stale=False)
        client = Client.connected(server)
        client.send(request(1, SET), request(2, GET), request(3, CLOSE))
        client.lose()
        server.factory.admit(server.now())
        self.assertEqual([SET, CLOSE], [r.op for r in server.submitted])
        self.assertEqual(0, server.throttler.in_pipeline)


class FigureTests(SynchronousTestCase):
    """What operators see."""

    def view(self, client: Client) -> ConnectionView:
        """Hold the connection to the protocol."""
        return client.protocol

    def test_connection(self) -> None:
        """The fields of C{cons}."""
        server = FakeServer()
        client = Client.connected(server)
        view = self.view(client)
        self.assertEqual(
            (SESSION, 10000, ops.CREATE_SESSION, -1),
            (view.session_id, view.session_timeout_ms, view.last_op, view.last_cxid),
        )
        client.send(request(7, GET), request(8, SET))
        server.clock.advance(0.25)
        server.settle()
        self.assertEqual(
            ("127.0.0.1:5000", 1, 0), (view.remote_address, view.interest_ops, view.outstanding_requests)
        )
        self.assertEqual((3, 3), (view.packets_received, view.packets_sent))
        self.assertEqual((SET, 8, 0x55), (view.last_op, view.last_cxid, view.last_zxid))
        self.assertEqual(
            (250, 0, 83, 250), (view.last_latency, view.min_latency, view.avg_latency, view.max_latency)
        )
        self.assertEqual((1_700_000_000_000, 1_000_250), (view.established_ms, view.last_response_ms))
        client.send(request(-2, PING))
        self.assertEqual((PING, 8), (view.last_op, view.last_cxid))
        view.reset_stats()
        self.assertEqual(
            (0, 0, None, -1), (view.packets_received, view.packets_sent, view.last_op, view.last_cxid)
        )

    def test_server(self) -> None:
        """Packets, bytes, sizes and latencies of all connections."""
        server = FakeServer()
        client = Client.connected(server)
        data = (request(1, GET, bytes(10)), request(2, GET), request(3, GET, bytes(5)), request(4, SET))
        client.send(*data)
        server.clock.advance(0.125)
        server.settle()
        stats, metrics = server.stats, server.metrics
        self.assertEqual((5, 5), (stats.packets_received, stats.packets_sent))
        self.assertEqual(len(connect()) + sum(map(len, data)), metrics.bytes_received_count)
        self.assertEqual(4 * 16 + 19, metrics.response_bytes)
        sizes = stats.client_response
        self.assertEqual((20, 26, 16), (sizes.last, sizes.max, sizes.min))
        self.assertEqual((3, 0), (metrics.readlatency.count, metrics.readlatency.max))
        self.assertEqual((1, 125), (metrics.updatelatency.count, metrics.updatelatency.max))
        self.assertEqual((5, 125), (stats.latency_count, stats.max_latency))
        self.assertEqual(1, metrics.connection_request_count)
