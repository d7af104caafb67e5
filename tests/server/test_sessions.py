"""Sessions over connections in memory: opening, resuming, expiring, closing."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.server.world import World, create, read
from zktwisted.testing.disk import MemoryDisk
from zktwisted.tree.sessions import password_of
from zktwisted.wire import ops, proto


class SessionTests(SynchronousTestCase):
    """Opening, resuming, expiring, closing (spec: client-protocol 7, server-semantics 2)."""

    def setUp(self) -> None:
        self.world = World()

    def test_negotiation(self) -> None:
        """The timeout is kept between 2 and 20 ticks."""
        for asked, granted in ((1, 4000), (0, 4000), (-5, 4000), (10_000, 10_000), (10**9, 40_000)):
            self.assertEqual(self.world.client(asked).timeout, granted)

    def test_response(self) -> None:
        """The readOnly byte is there if and only if the request had one; the password is the id's."""
        for tail, size in ((b"", 40), (b"\0", 41), (b"\1", 41), (b"\1more", 41)):
            client = self.world.connect()
            client.send(client.connect_request(tail=tail))
            self.world.turn()
            self.assertEqual(len(client.pipe.value()), size)
            if tail:
                self.assertEqual(client.pipe.value()[-1:], b"\0")
            self.assertTrue(client.greet())
            self.assertEqual(client.password, password_of(client.session_id))

    def test_ids(self) -> None:
        """Each session's id is one more, with 1 in its top byte."""
        first, second = self.world.client().session_id, self.world.client().session_id
        self.assertEqual((second - first, first >> 56), (1, 1))

    def test_odd_password(self) -> None:
        """A new session needs no password of any length."""
        for password in (b"", b"12345", bytes(40)):
            client = self.world.connect()
            self.assertTrue(client.open(password=password))

    def test_seen_too_much(self) -> None:
        """Who has seen a later zxid than ours is turned away without a word; the same one is fine."""
        zxid = self.world.server.last_zxid
        client = self.world.connect()
        client.send(client.connect_request(seen=zxid + 1))
        self.world.turn()
        self.assertTrue(client.closed)
        self.assertEqual(client.pipe.value(), b"")
        self.assertTrue(self.world.connect().open(seen=zxid))

    def test_pipelined_behind_connect(self) -> None:
        """Requests right behind the ConnectRequest are kept, and answered behind its answer."""
        client = self.world.connect()
        client.send(client.connect_request() + client.request(ops.CREATE, create(b"/a", flags=1)) + client.request(11))
        self.world.turn()
        self.assertTrue(client.greet())
        self.assertEqual([reply[0] for reply in client.receive()], [1, -2])

    def test_expiry(self) -> None:
        """A silent session ends between timeout and timeout + tick, with its ephemerals and their watches."""
        client, watcher = self.world.client(4000), self.world.client(40_000)
        client.create(b"/e", flags=1)
        watcher.exists(b"/e", watch=True)
        self.world.advance(4)
        self.assertIn(client.session_id, self.world.server.sessions)
        self.assertFalse(client.closed)
        self.world.advance(2)
        self.assertNotIn(client.session_id, self.world.server.sessions)
        self.assertTrue(client.closed)
        watcher.receive()
        self.assertEqual([event[:2] for event in watcher.events], [(2, b"/e")])
        self.assertNotIn(client.session_id, self.world.server.timeouts)
        again = self.world.connect()
        self.assertFalse(again.open(4000, client.session_id, client.password))
        self.assertEqual((again.session_id, again.password, again.closed), (0, bytes(16), True))

    def test_touched(self) -> None:
        """Requests and pings keep it alive; auth packets do not."""
        pinging, silent = self.world.client(4000), self.world.client(4000)
        for _ in range(6):
            self.world.advance(2)
            pinging.ask(ops.PING, b"", -2)
            if not silent.closed:
                silent.send(silent.request(ops.AUTH, proto.AuthPacket(0, "digest", b"a:b"), -4))
        self.assertEqual((pinging.closed, silent.closed), (False, True))

    def test_survives_its_connection(self) -> None:
        """A broken connection ends nothing; the session is resumed with its password and a new timeout."""
        client = self.world.client(10_000)
        client.create(b"/e", flags=1)
        client.drop()
        self.world.advance(5)
        again = self.world.connect()
        self.assertTrue(again.open(8000, client.session_id, client.password))
        self.assertEqual((again.session_id, again.timeout, again.password), (client.session_id, 8000, client.password))
        stat = again.exists(b"/e")
        assert stat is not None
        self.assertEqual(stat.ephemeralOwner, client.session_id)
        self.world.advance(10)
        self.assertIsNone(self.world.client().exists(b"/e"))

    def test_moved_connection(self) -> None:
        """The same session from another connection closes the first one, whose late end harms nothing."""
        client = self.world.client()
        again = self.world.connect()
        self.assertTrue(again.open(10_000, client.session_id, client.password))
        self.assertTrue(client.closed)
        self.assertIs(self.world.server.by_session[client.session_id], again.protocol)
        again.create(b"/e", flags=1)

    def test_unknown(self) -> None:
        """An id that nobody has is refused, even with the right password."""
        client = self.world.connect()
        self.assertFalse(client.open(10_000, 0x1234, password_of(0x1234)))
        self.assertTrue(client.closed)

    def test_close(self) -> None:
        """A close is answered, then the connection ends; what is pipelined behind it is not looked at."""
        client, other = self.world.client(), self.world.client()
        client.create(b"/e", flags=1)
        client.send(client.request(ops.CLOSE_SESSION) + client.request(ops.CREATE, create(b"/late")))
        self.world.turn()
        self.assertEqual([reply[0] for reply in client.receive()], [2])
        self.assertTrue(client.closed)
        self.assertIsNone(other.exists(b"/e"))
        self.assertIsNone(other.exists(b"/late"))

    def test_close_with_pending_ephemerals(self) -> None:
        """An ephemeral node that is on its way when its session closes never stays."""
        disk = MemoryDisk()
        world = World(disk)
        client, other = world.client(), world.client()
        client.create(b"/old", flags=1)
        disk.hold = True
        client.send(
            client.request(ops.CREATE, create(b"/a"))
            + client.request(ops.CREATE, create(b"/e", flags=1))
            + client.request(ops.DELETE, proto.DeleteRequest(b"/old", -1))
            + client.request(ops.CREATE, create(b"/s", flags=3))
            + client.request(ops.CLOSE_SESSION)
        )
        world.turn()
        disk.complete()
        world.turn()
        self.assertEqual([reply[2] for reply in client.receive()], [0] * 5)
        self.assertEqual(
            [other.exists(path) is not None for path in (b"/a", b"/e", b"/s0000000002")], [True, False, False]
        )
        self.assertEqual(world.server.tree.ephemerals, {})

    def test_expiry_while_writes_are_pending(self) -> None:
        """A session that expires while its create waits for the disk leaves nothing; later writes get no answer."""
        disk = MemoryDisk()
        world = World(disk)
        client = world.client(4000)
        disk.hold = True
        client.put(ops.CREATE, create(b"/e", flags=1))
        world.turn()
        world.clock.advance(7)
        world.server.expire_sessions(world.clock.seconds() * 1000)
        client.put(ops.CREATE, create(b"/late", flags=1))
        for _ in range(3):
            if disk.in_flight:
                disk.complete()
            world.turn()
        self.assertTrue(client.closed)
        self.assertEqual([path for path in (b"/e", b"/late") if path in world.server.tree.nodes], [])

    def test_pipelined_behind_a_reconnect(self) -> None:
        """What a client sends right behind a reconnect is answered, however it is cut."""
        for size in (1, 50, 1000):
            client = self.world.client()
            client.create(b"/p-", flags=2)
            client.drop()
            again = self.world.connect()
            data = (
                again.connect_request(10_000, client.session_id, client.password)
                + again.request(ops.AUTH, proto.AuthPacket(0, "digest", b"a:b"), -4)
                + again.request(ops.SET_WATCHES, proto.SetWatches(0, [b"/zookeeper"], [], []), -8)
                + again.request(ops.GET_DATA, read(b"/"))
            )
            for start in range(0, len(data), size):
                again.send(data[start : start + size])
            self.assertTrue(again.greet())
            self.assertEqual([reply[0] for reply in again.receive()], [-4, -8, 1])

    def test_closing(self) -> None:
        """A session that is on its way out can neither be resumed nor written for."""
        disk = MemoryDisk()
        world = World(disk)
        client = world.client()
        disk.hold = True
        client.put(ops.CLOSE_SESSION)
        world.turn()
        again = world.connect()
        self.assertFalse(again.open(10_000, client.session_id, client.password))
        self.assertTrue(again.closed)
        disk.complete()
        world.turn()
        self.assertEqual([reply[2] for reply in client.receive()], [0])
        self.assertEqual((len(world.server.sessions), world.server.timeouts), (0, {}))

    def test_moved_with_a_write_under_way(self) -> None:
        """A write of the old connection is done, and the new one sees it; its answer goes nowhere."""
        disk = MemoryDisk()
        world = World(disk)
        client = world.client()
        disk.hold = True
        client.send(client.request(ops.CREATE, create(b"/a")))
        world.turn()
        again = world.connect()
        self.assertTrue(again.open(10_000, client.session_id, client.password))
        self.assertTrue(client.closed)
        again.put(ops.CREATE, create(b"/b", flags=1))
        again.put(ops.GET_DATA, read(b"/a"))
        for _ in range(3):
            if disk.in_flight:
                disk.complete()
            world.turn()
        self.assertEqual([reply[2] for reply in again.receive()], [0, 0])
        self.assertEqual(client.receive(), [])

    def test_gone_before_it_was_made(self) -> None:
        """A client that leaves while its session is being made leaves one that expires."""
        disk = MemoryDisk()
        world = World(disk)
        disk.hold = True
        client = world.connect()
        client.send(client.connect_request(4000))
        world.turn()
        client.drop()
        disk.complete()
        world.turn()
        self.assertEqual((len(world.server.sessions), world.server.by_session), (1, {}))
        disk.hold = False
        world.advance(7)
        self.assertEqual((len(world.server.sessions), world.server.timeouts), (0, {}))

    def test_after_a_restart(self) -> None:
        """Sessions come back with their whole timeout; the nodes of those that ended are gone."""
        disk = MemoryDisk()
        world = World(disk)
        kept, closed = world.client(10_000), world.client(10_000)
        kept.create(b"/kept", flags=1)
        closed.create(b"/closed", flags=1)
        closed.ask(ops.CLOSE_SESSION)
        digest, zxid = world.server.tree.digest, world.server.last_zxid
        world = World(disk)
        self.assertEqual((world.server.last_zxid, world.server.tree.digest, world.removed), (zxid, digest, []))
        client = world.connect()
        self.assertTrue(client.open(10_000, kept.session_id, kept.password, zxid))
        self.assertIsNotNone(client.exists(b"/kept"))
        self.assertIsNone(client.exists(b"/closed"))
        self.assertEqual(client.ask(ops.CREATE, create(b"/s-", flags=2))[0], zxid + 1)

    def test_expires_after_a_restart(self) -> None:
        """A client that never comes back expires, counted from the start."""
        disk = MemoryDisk()
        World(disk).client(10_000).create(b"/e", flags=1)
        world = World(disk)
        world.advance(9)
        self.assertIn(b"/e", world.server.tree.nodes)
        world.advance(4)
        self.assertNotIn(b"/e", world.server.tree.nodes)
