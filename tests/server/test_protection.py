"""Limits: what a client may do to a server, and what it hears when it does more (spec: client-protocol 2.2, 8)."""

from __future__ import annotations

from struct import pack

from twisted.internet.address import UNIXAddress
from twisted.trial.unittest import SynchronousTestCase

from tests.server.world import Client, Pipe, World, create, frame, lines, read
from zktwisted.edge import connection
from zktwisted.edge.protocol import MAX_TURN
from zktwisted.testing.disk import MemoryDisk
from zktwisted.wire import ops, proto
from zktwisted.wire.proto import Id

THROTTLED = -127


class FirstBytesTests(SynchronousTestCase):
    """What knocks at a client port that is no client."""

    def refused(self, data: bytes, text: str, chunk: int = 10_000) -> None:
        """Check that it is closed without an answer and with one line."""
        world = World()
        client = world.connect()
        with lines() as log:
            for start in range(0, len(data), chunk):
                client.send(data[start : start + chunk])
            world.turn()
            client.send(b"and more")
        self.assertTrue(client.closed, data)
        self.assertEqual(client.pipe.value(), b"")
        self.assertEqual(len(log), 1, log)
        self.assertIn(text, log[0])
        self.assertIn("127.0.0.1:40000", log[0])
        self.assertEqual((world.server.connections, world.server.counts.total), ({}, 0))

    def test_strangers(self) -> None:
        """HTTP, TLS, other words and noise are closed with a line that names them."""
        for chunk in (1, 10_000):
            self.refused(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP", chunk)
            self.refused(b"POST / HTTP/1.1\r\n", "HTTP", chunk)
            self.refused(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "TLS", chunk if chunk > 1 else 5)
            self.refused(b"helo", "four-letter word", chunk)
            self.refused(b"RUOK", "four-letter word", chunk)
            self.refused(b"\xff\xff\xff\xff", "ff ff ff ff", chunk)
            self.refused(pack(">i", 1_048_576), "length", chunk)

    def test_bad_connect_requests(self) -> None:
        """An empty frame, and one too short for a ConnectRequest, are closed with a line."""
        self.refused(frame(b""), "ConnectRequest")
        self.refused(frame(bytes(27)), "ConnectRequest")
        self.refused(frame(bytes(24) + b"\xff\xff\xff\xfe"), "ConnectRequest")

    def test_silence(self) -> None:
        """Who sends nothing, or never a whole ConnectRequest, is closed after 10 to 20 seconds."""
        world = World()
        silent, slow, greeted = world.connect(), world.connect(), world.client(40_000)
        slow.send(pack(">i", 45))
        for _ in range(9):
            world.advance(1)
            slow.send(b"\0")
        self.assertEqual((silent.closed, slow.closed), (False, False))
        with lines() as log:
            for _ in range(11):
                world.advance(1)
                if not slow.closed:
                    slow.send(b"\0")
        self.assertEqual((silent.closed, slow.closed, greeted.closed), (True, True, False))
        self.assertEqual(len(log), 2, log)
        self.assertEqual(world.server.metrics.sessionless_connections_expired, 2)

    def test_silence_setting(self) -> None:
        """C{nio.sessionlessCnxnTimeout} says how long."""
        world = World(sessionless_cnxn_timeout=1000)
        client = world.connect()
        world.advance(0.9)
        self.assertFalse(client.closed)
        world.advance(1.1)
        self.assertTrue(client.closed)


class FrameTests(SynchronousTestCase):
    """Frames of a session."""

    def test_jute_maxbuffer(self) -> None:
        """The limit itself is accepted; one byte more closes, with session, operation, size and limit in the log."""
        world = World(jute_max_buffer=1000)
        client = world.client()
        room = 1000 - len(client.request(ops.CREATE, create(b"/a"))) + 4
        client.create(b"/a", bytes(room))
        for length in (12, 13, 500, 2000):
            client = world.client()
            whole = client.request(ops.CREATE, create(b"/b", bytes(room + 1)), xid=77)
            with lines() as log:
                client.send(whole[:length])
                world.turn()
            self.assertTrue(client.closed)
            self.assertEqual(client.receive(), [])
            self.assertEqual(len(log), 1, log)
            for text in (f"session 0x{client.session_id:x}", "op 1", "1001", "jute.maxbuffer", "1000"):
                self.assertIn(text, log[0])
        client = world.client()
        with lines() as log:
            client.send(pack(">i", 1001))
            world.turn()
        self.assertTrue(client.closed)
        self.assertIn("1001", log[0])
        self.assertNotIn(b"/b", world.server.tree.nodes)

    def test_default_limit(self) -> None:
        """1,048,575 bytes fit by default; the reply may be longer."""
        world = World()
        client = world.client()
        room = 1_048_575 - len(client.request(ops.CREATE, create(b"/a"))) + 4
        client.create(b"/a", bytes(room))
        self.assertEqual(client.get(b"/a"), bytes(room))

    def test_bad_lengths(self) -> None:
        """Negative, too short for a header, or a four-letter word too late: closed without an answer, one line."""
        for head in (pack(">i", -1), pack(">i", 0), frame(bytes(7)), b"ruok", pack(">i", -(1 << 31)) + bytes(8)):
            client = World().client()
            with lines() as log:
                client.send(head)
                client.world.turn()
            self.assertTrue(client.closed, head)
            self.assertEqual((client.receive(), len(log)), ([], 1), log)

    def test_good_ones_before_are_answered(self) -> None:
        """What came before the bad frame and could be answered is not lost on the way."""
        client = World().client()
        client.send(client.request(ops.PING) + client.request(99) + pack(">i", -1))
        self.assertEqual([reply[2] for reply in client.receive()], [0, -6])

    def test_reads_cut_short(self) -> None:
        """An undecodable read is answered -5 and the connection stays; undecodable auth and SASL close it."""
        world = World()
        client = world.client()
        for op in (3, 4, 6, 8, 12, 17, 18, 22, 101, 103, 104, 105, 106):
            self.assertEqual(client.err(op, b"\0\0\0\7/a"), -5, op)
        for op, body in ((ops.AUTH, b"\0"), (ops.SASL, b""), (ops.SASL, b"\xff\xff\xff\xff")):
            client = world.client()
            client.put(op, body)
            world.turn()
            self.assertEqual((client.receive(), client.closed), ([], True))


class CountTests(SynchronousTestCase):
    """How many connections there may be."""

    def test_per_address(self) -> None:
        """C{maxClientCnxns}: one too many of an address is closed at once, with a line; others are let in."""
        world = World(max_client_cnxns=2)
        first, _ = world.client(host="10.0.0.1"), world.client(host="10.0.0.1")
        with lines() as log:
            third = world.connect("10.0.0.1")
        self.assertTrue(third.closed)
        self.assertEqual(log, ["Too many connections from /10.0.0.1: max is 2"])
        self.assertFalse(world.client(host="10.0.0.2").closed)
        first.drop()
        self.assertTrue(world.connect("10.0.0.1").open())
        self.assertEqual(world.server.metrics.connection_rejected, 1)

    def test_all(self) -> None:
        """C{maxCnxns} counts all addresses; 0 is no limit."""
        world = World(max_cnxns=2, max_client_cnxns=0)
        first, _ = world.client(host="10.0.0.1"), world.client(host="10.0.0.2")
        with lines() as log:
            third = world.connect("10.0.0.3")
        self.assertEqual((third.closed, log), (True, ["Too many connections: max is 2"]))
        world.turn()
        first.drop()
        self.assertTrue(world.connect("10.0.0.3").open())
        world = World(max_client_cnxns=0)
        self.assertEqual([world.client().closed for _ in range(100)], [False] * 100)

    def test_connection_throttle(self) -> None:
        """C{connection_throttle_tokens}: a burst beyond the bucket is turned away, until it has filled again."""
        world = World(connection_throttle_tokens=3, connection_throttle_fill_time=1000)
        clients = []
        for _ in range(5):
            client = world.connect()
            with lines() as log:
                client.send(client.connect_request())
                world.turn()
            clients.append((client.closed, len(client.pipe.value()), len(log)))
        self.assertEqual(clients, [(False, 41, 0)] * 3 + [(True, 0, 1)] * 2)
        world.advance(1.5)
        self.assertTrue(world.connect().open())


class OutstandingTests(SynchronousTestCase):
    """C{globalOutstandingLimit}: who has requests under way is not read from while there are too many."""

    def test_paused_and_resumed(self) -> None:
        """All requests are answered in the end, in order, and never many more than the limit are taken in."""
        disk = MemoryDisk()
        world = World(disk, global_outstanding_limit=10)
        clients = [world.client() for _ in range(3)]
        idle = world.client()
        disk.hold = True
        for client in clients:
            client.send(b"".join(client.request(ops.CREATE, create(b"/s-", flags=2)) for _ in range(50)))
            client.put(ops.PING, b"", -2)
        world.turn()
        self.assertLessEqual(world.server.in_flight, 13)
        self.assertEqual([client.pipe.producerState for client in clients], ["paused"] * 3)
        # Who has nothing under way is served.
        self.assertIsNone(idle.exists(b"/nothing"))
        most = 0
        for _ in range(60):
            if disk.in_flight:
                disk.complete()
            world.turn()
            most = max(most, world.server.in_flight)
        self.assertLessEqual(most, 26)
        for client in clients:
            client.receive()
            self.assertEqual([reply[0] for reply in client.replies], [*range(1, 51), -2])
            self.assertEqual(client.pipe.producerState, "producing")
        self.assertEqual((world.server.outstanding.in_flight, world.server.in_flight), (0, 0))

    def test_lost_while_paused(self) -> None:
        """A connection that ends with requests under way makes room."""
        disk = MemoryDisk()
        world = World(disk, global_outstanding_limit=5)
        client, other = world.client(), world.client()
        disk.hold = True
        client.send(b"".join(client.request(ops.CREATE, create(b"/s-", flags=2)) for _ in range(6)))
        other.send(b"".join(other.request(ops.CREATE, create(b"/t-", flags=2)) for _ in range(3)))
        world.turn()
        client.drop()
        for _ in range(6):
            if disk.in_flight:
                disk.complete()
            world.turn()
        self.assertEqual(len(other.receive()), 3)
        self.assertEqual(world.server.outstanding.in_flight, 0)


class ThrottlerTests(SynchronousTestCase):
    """C{request_throttle_max_requests}: requests wait until there is room in the chain."""

    def world(self, **settings: object) -> tuple[World, MemoryDisk]:
        disk = MemoryDisk()
        return World(disk, request_throttle_max_requests=2, **settings), disk

    def settle(self, world: World, disk: MemoryDisk) -> None:
        """Let the disk do all that it is asked."""
        disk.hold = False
        for _ in range(4):
            if disk.in_flight:
                disk.complete()
            world.turn()

    def test_waiting(self) -> None:
        """No more than so many are in the chain; all are answered in order, reads among them."""
        world, disk = self.world()
        client, other = world.client(), world.client()
        disk.hold = True
        for each in (client, other):
            each.send(
                each.request(ops.CREATE, create(b"/s-", flags=2))
                + each.request(ops.CREATE, create(b"/s-", flags=2))
                + each.request(ops.EXISTS, read(b"/"))
                + each.request(ops.CREATE, create(b"/s-", flags=2))
                + each.request(ops.PING, b"", -2)
            )
        world.turn()
        self.assertEqual((world.server.in_flight, len(world.server.throttler)), (2, 8))
        for _ in range(20):
            if disk.in_flight:
                disk.complete()
            world.turn()
            self.assertLessEqual(world.server.in_flight, 2)
        for each in (client, other):
            each.receive()
            self.assertEqual([reply[0] for reply in each.replies], [1, 2, 3, 4, -2])
            self.assertEqual([reply[2] for reply in each.replies], [0] * 5)
        self.assertEqual((world.server.throttler.in_pipeline, len(world.server.throttler)), (0, 0))

    def test_stale(self) -> None:
        """What waits for a connection that is gone is dropped, but for a closeSession."""
        world, disk = self.world()
        client, gone = world.client(), world.client()
        disk.hold = True
        client.send(client.request(ops.CREATE, create(b"/a")) + client.request(ops.CREATE, create(b"/b")))
        gone.send(gone.request(ops.CREATE, create(b"/dropped")) + gone.request(ops.CLOSE_SESSION))
        world.turn()
        gone.drop()
        self.settle(world, disk)
        self.assertEqual(world.server.metrics.stale_requests_dropped, 1)
        self.assertNotIn(b"/dropped", world.server.tree.nodes)
        self.assertNotIn(gone.session_id, world.server.sessions)
        self.assertEqual((world.server.throttler.in_pipeline, world.server.outstanding.in_flight), (0, 0))

    def test_closed_and_not_yet_lost(self) -> None:
        """A closeSession that goes on between the close of its connection and the end of it counts once."""
        world, disk = self.world()
        client, old = world.client(), world.client()
        disk.hold = True
        client.send(client.request(ops.CREATE, create(b"/a")) + client.request(ops.CREATE, create(b"/b")))
        old.send(old.request(ops.CLOSE_SESSION))
        world.turn()
        again = world.connect()
        again.send(again.connect_request(10_000, old.session_id, old.password))
        self.assertEqual((old.closed, old.pipe.lost), (True, False))
        disk.hold = False
        disk.complete()
        self.settle(world, disk)
        self.assertEqual((old.pipe.lost, world.server.throttler.in_pipeline), (True, 0))
        self.assertNotIn(old.session_id, world.server.sessions)

    def test_unknown_operations(self) -> None:
        """What is answered without passing the throttle makes no room in it."""
        world, disk = self.world()
        for _ in range(3):
            client = world.client()
            client.put(99)
            self.assertTrue(client.closed)
        client = world.client()
        disk.hold = True
        for _ in range(5):
            client.put(ops.CREATE, create(b"/s-", flags=2))
        world.turn()
        self.assertEqual((world.server.in_flight, len(world.server.throttler)), (2, 3))

    def test_too_late(self) -> None:
        """C{throttled_op_wait_time}: who waited longer is answered -127, nothing is done; pings are never refused."""
        world, disk = self.world(throttled_op_wait_time=500)
        client = world.client()
        disk.hold = True
        for path in (b"/a", b"/b", b"/late"):
            client.put(ops.CREATE, create(path))
        client.put(ops.EXISTS, read(b"/"))
        client.put(ops.PING, b"", -2)
        world.turn()
        world.clock.advance(1)
        self.settle(world, disk)
        self.assertEqual([reply[2] for reply in client.receive()], [0, 0, THROTTLED, THROTTLED, 0])
        self.assertNotIn(b"/late", world.server.tree.nodes)
        self.assertEqual(client.err(ops.EXISTS, read(b"/a")), 0)


class LargeRequestTests(SynchronousTestCase):
    """C{largeRequestThreshold} and C{largeRequestMaxBytes}."""

    def test_too_many(self) -> None:
        """One large request too many closes its connection; small ones and others go on; the room comes back."""
        disk = MemoryDisk()
        world = World(disk, large_request_threshold=1000, large_request_max_bytes=2500)
        clients = [world.client() for _ in range(3)]
        disk.hold = True
        with lines() as log:
            for number, client in enumerate(clients):
                client.put(ops.CREATE, create(b"/%d" % number, bytes(1100)))
            world.turn()
        self.assertEqual([client.closed for client in clients], [False, False, True])
        self.assertEqual(len(log), 1)
        self.assertIn("largeRequestMaxBytes", log[0])
        small = clients[0]
        small.put(ops.CREATE, create(b"/small", bytes(900)))
        disk.hold = False
        disk.complete()
        world.turn()
        self.assertEqual([len(client.receive()) for client in clients], [2, 1, 0])
        self.assertEqual(world.server.large_requests.bytes, 0)
        world.client().create(b"/2", bytes(1100))
        self.assertEqual(world.server.metrics.large_requests_rejected, 1)

    def test_counted_from_the_first_bytes(self) -> None:
        """It counts as soon as its length is known, once however it is cut, and no longer when its client leaves."""
        world = World(large_request_threshold=1000, large_request_max_bytes=2500)
        client = world.client()
        whole = client.request(ops.CREATE, create(b"/a", bytes(2000)))
        for start in range(0, 60, 12):
            client.send(whole[start : start + 12])
        self.assertEqual(world.server.large_requests.bytes, len(whole) - 4)
        other = world.client()
        other.put(ops.CREATE, create(b"/b", bytes(1500)))
        world.turn()
        self.assertTrue(other.closed)
        client.drop()
        self.assertEqual(world.server.large_requests.bytes, 0)
        again = world.client()
        for start in range(0, len(whole), 100):
            again.send(whole[start : start + 100])
        world.turn()
        self.assertEqual([reply[2] for reply in again.receive()], [0])
        self.assertEqual(world.server.large_requests.bytes, 0)


class NeverReadingTests(SynchronousTestCase):
    """A client that does not read what it asks for."""

    def feed(self, client: Client, data: bytes, times: int) -> int:
        """Send as long as the server reads; return how many pieces it took."""
        for number in range(times):
            if client.pipe.producerState == "paused" or client.closed:
                return number
            client.send(data)
        return times

    def test_replies(self) -> None:
        """It is no longer read from, and what waits for it is bounded; when it reads again it gets everything."""
        world = World()
        client = world.client()
        client.create(b"/big", bytes(100_000))
        client.pipe.blocked = True
        request = b"".join(client.request(ops.GET_DATA, read(b"/big"), xid=5) for _ in range(50))
        taken = self.feed(client, request, 1000)
        self.assertLess(taken, 10)
        self.assertLess(len(client.pipe.waiting) + sum(map(len, client.protocol.out)), MAX_TURN + 200_000)
        answered = 0
        for _ in range(50 * taken):
            client.pipe.unblock()
            client.pipe.blocked = True
            answered += len(client.receive())
            self.assertLess(len(client.pipe.waiting), MAX_TURN + 200_000)
        self.assertEqual(answered, 50 * taken)
        client.pipe.unblock()
        self.assertEqual(client.pipe.producerState, "producing")
        self.assertFalse(client.closed)

    def test_behind_a_write(self) -> None:
        """The same for reads that had to wait for a write."""
        disk = MemoryDisk()
        world = World(disk)
        client = world.client()
        client.create(b"/big", bytes(100_000))
        disk.hold = True
        client.pipe.blocked = True
        client.put(ops.SET_DATA, proto.SetDataRequest(b"/big", bytes(100_001), -1))
        client.send(b"".join(client.request(ops.GET_DATA, read(b"/big"), xid=5) for _ in range(50)))
        world.turn()
        disk.complete()
        world.turn()
        self.assertLess(len(client.pipe.waiting) + sum(map(len, client.protocol.out)), MAX_TURN + 200_000)
        answered = 0
        for _ in range(60):
            client.pipe.unblock()
            client.pipe.blocked = True
            answered += len(client.receive())
        self.assertEqual(answered, 51)

    def test_events(self) -> None:
        """Events that it does not take end its connection, with one line, and nothing is kept."""
        self.patch(connection, "MAX_UNSENT", 5000)
        world = World()
        client, writer = world.client(), world.client()
        client.ask(ops.ADD_WATCH, proto.AddWatchRequest(b"/", 1))
        client.pipe.blocked = True
        writer.create(b"/a")
        self.assertFalse(client.closed)
        with lines() as log:
            for _ in range(200):
                writer.set(b"/a")
        self.assertTrue(client.pipe.aborted)
        self.assertEqual(len(log), 1, log)
        self.assertIn("does not read", log[0])
        self.assertEqual((client.protocol.out, world.server.watches.count), ([], 0))
        self.assertFalse(writer.closed)

    def test_expires(self) -> None:
        """It lives no longer than its session; closing does not wait for it."""
        world = World()
        client = world.client(4000)
        client.create(b"/big", bytes(500_000))
        client.pipe.blocked = True
        client.put(ops.GET_DATA, read(b"/big"))
        client.put(ops.GET_DATA, read(b"/big"))
        world.advance(8)
        self.assertTrue(client.pipe.aborted)

    def test_close_session(self) -> None:
        """A closeSession whose answer is not taken is cut off in the end."""
        world = World()
        client = world.client(4000)
        client.pipe.blocked = True
        client.put(ops.CLOSE_SESSION)
        world.clock.advance(0)
        self.assertEqual((client.pipe.disconnecting, client.pipe.aborted), (True, False))
        client.send(bytes(10_000))
        world.clock.advance(20)
        world.factory.expire(world.clock.seconds())
        self.assertTrue(client.pipe.aborted)


class WordTests(SynchronousTestCase):
    """Four-letter words on the client port (spec: client-protocol 10)."""

    def test_answered_and_closed(self) -> None:
        """In one piece or several, with a line end or without; what is refused is refused in words."""
        for pieces in ((b"ruok",), (b"ruok\n",), (b"r", b"u", b"ok"), (b"ru", b"ok\r\n")):
            client = World(four_letter_words_whitelist=("*",)).connect()
            for piece in pieces:
                client.send(piece)
            self.assertEqual((client.pipe.value(), client.closed), (b"imok", True))
        client = World().connect()
        client.send(b"ruok")
        self.assertEqual(client.pipe.value(), b"ruok is not executed because it is not in the whitelist.\n")
        client = World().connect()
        client.send(b"srvr")
        self.assertIn(b"Mode: standalone", client.pipe.value())

    def test_stmk(self) -> None:
        """stmk waits for its eight bytes more."""
        client = World(four_letter_words_whitelist=("*",)).connect()
        client.send(b"stmk" + bytes(7))
        self.assertFalse(client.closed)
        client.send(b"\2")
        self.assertEqual((client.pipe.value(), client.closed), (b"2", True))

    def test_before_serving(self) -> None:
        """They are answered while no session is."""
        world = World(four_letter_words_whitelist=("*",))
        world.server.serving = False
        client = world.connect()
        client.send(b"ruok")
        self.assertEqual(client.pipe.value(), b"imok")
        client = world.connect()
        client.send(client.connect_request())
        self.assertEqual((client.pipe.value(), client.closed), (b"", True))


class AddressTests(SynchronousTestCase):
    """Who a client is by its address alone."""

    def test_unix(self) -> None:
        """Connections of a UNIX socket count together and are local."""
        world = World(max_client_cnxns=1)
        for _ in range(3):
            protocol = world.factory.buildProtocol(UNIXAddress(None))
            protocol.makeConnection(Pipe(world))
            self.assertEqual(protocol.identities.current, (Id("ip", "127.0.0.1"),))
        self.assertEqual(world.server.counts.total, 3)
