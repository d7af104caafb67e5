"""What the Java server does to its own harm (spec: client-protocol 12), and that it does none here."""

from __future__ import annotations

from struct import pack

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.server.world import World
from zktwisted.errors import Code
from zktwisted.server.reaper import Reaper
from zktwisted.testing.disk import MemoryDisk
from zktwisted.tree.znode import TTL_MASK
from zktwisted.wire import jute, ops, proto, txns
from zktwisted.wire.proto import ACL, OPEN_ACL, Id

BAD_ARGUMENTS = Code.BADARGUMENTS.value
UNIMPLEMENTED = Code.UNIMPLEMENTED.value
MARSHALLING = Code.MARSHALLINGERROR.value


class InternalOperationTests(SynchronousTestCase):
    """Operations that only servers make."""

    def test_delete_container(self) -> None:
        """12.1: deleteContainer from a client is unknown, deletes nothing and closes the connection."""
        world = World()
        client, other = world.client(), world.client()
        client.create(b"/kept")
        zxid = world.server.last_zxid
        self.assertEqual(client.ask(ops.DELETE_CONTAINER, proto.PathRequest(b"/kept")), (-1, UNIMPLEMENTED, b""))
        self.assertTrue(client.closed)
        self.assertIsNotNone(other.exists(b"/kept"))
        self.assertEqual(world.server.last_zxid, zxid)

    def test_delete_container_in_a_multi(self) -> None:
        """12.1: nor does it hide in a multi."""
        client = World().client()
        client.create(b"/kept")
        body = proto.encode_multi([(ops.DELETE_CONTAINER, proto.PathRequest(b"/kept"))])
        self.assertEqual(client.err(ops.MULTI, body), MARSHALLING)
        self.assertIsNotNone(client.exists(b"/kept"))

    def test_create_session(self) -> None:
        """12.2: createSession from a client is unknown; no second ConnectResponse, no other session."""
        world = World()
        for body in (b"", pack(">i", 5000)):
            client = world.client()
            sessions = len(world.server.sessions)
            self.assertEqual(client.ask(ops.CREATE_SESSION, body), (-1, UNIMPLEMENTED, b""))
            self.assertTrue(client.closed)
            self.assertEqual(len(world.server.sessions), sessions)

    def test_no_operations(self) -> None:
        """Numbers that are none, or stand only in transactions and multis, are answered -6 and close."""
        world = World()
        for op in (0, 10, 13, 23, 99, 108, -1, -2, -12, 1 << 30, -(1 << 31)):
            client = world.client()
            client.send(client.request(op) + client.request(ops.PING))
            self.assertEqual([reply[:3] for reply in client.receive()], [(1, -1, UNIMPLEMENTED)], op)
            self.assertTrue(client.closed)


class BadWriteTests(SynchronousTestCase):
    """12.3: a write that cannot be decoded."""

    def test_goes_on(self) -> None:
        """It is answered -5 with a zxid of its own; the connection and everybody's writes go on."""
        disk = MemoryDisk()
        world = World(disk)
        client, other = world.client(), world.client()
        zxid = world.server.last_zxid
        for op in (1, 2, 5, 7, 14, 15, 16, 19, 21):
            for body in (b"", b"\0\0\0\5/a", b"\x7f\xff\xff\xff"):
                zxid += 1
                self.assertEqual(client.ask(op, body), (zxid, MARSHALLING, b""))
        other.create(b"/after")
        client.set(b"/after")
        again = World(disk)
        self.assertEqual(again.server.last_zxid, zxid + 2)
        self.assertIn(b"/after", again.server.tree.nodes)

    def test_in_flight(self) -> None:
        """One between good ones hurts neither of them."""
        disk = MemoryDisk()
        world = World(disk)
        client = world.client()
        disk.hold = True
        for path in (b"/a", b"", b"/b"):
            body = jute.encode(proto.CreateRequest(path, b"", OPEN_ACL, 0)) if path else b"\0"
            client.put(ops.CREATE, body)
        world.turn()
        disk.complete()
        world.turn()
        self.assertEqual([reply[:3] for reply in client.receive()], [(1, 2, 0), (2, 3, MARSHALLING), (3, 4, 0)])

    def test_strange_values(self) -> None:
        """Nothing that can be decoded stops the server either: odd ids, counts, flags and versions."""
        world = World(MemoryDisk())
        client = world.client()
        for acl in (
            b"\xff\xff\xff\xfe",
            pack(">i", 1) + pack(">iii", -1, -1, -1),
            pack(">i", 1) + pack(">i", 31) + jute.pack_string("digest") + jute.pack_string(None),
            pack(">i", 1) + pack(">i", 31) + jute.pack_string("ip") + jute.pack_string("1.2.3.4/33"),
            pack(">i", 1) + pack(">i", 31) + jute.pack_buffer(b"\xed\xa0\x80") + jute.pack_buffer(b"\xff"),
            pack(">i", 1 << 30),
        ):
            for op in (ops.CREATE, ops.CREATE2):
                body = jute.pack_buffer(b"/x") + jute.pack_buffer(None) + acl + pack(">i", 0)
                self.assertLess(client.err(op, body), 0)
        client.create(b"/after")


class CreateTTLTests(SynchronousTestCase):
    """12.4: createTTL without a TTL flag."""

    def test_refused(self) -> None:
        """It is a bad argument, whatever the flag, the ttl and the setting; the log starts again."""
        for extended in (False, True):
            disk = MemoryDisk()
            world = World(disk, extended_types_enabled=extended)
            client = world.client()
            for flags in range(5):
                for ttl in (-1, 0, 5, -(1 << 63)):
                    request = proto.CreateTTLRequest(b"/t", b"", OPEN_ACL, flags, ttl)
                    self.assertEqual(client.err(ops.CREATE_TTL, request), BAD_ARGUMENTS, (flags, ttl))
            client.create(b"/after")
            again = World(disk, extended_types_enabled=extended)
            self.assertEqual(again.server.last_zxid, world.server.last_zxid)
            self.assertNotIn(b"/t", again.server.tree.nodes)

    def test_in_a_multi(self) -> None:
        """In a multi a createTTL with a plain flag makes the plain node that the flag says."""
        disk = MemoryDisk()
        client = World(disk).client()
        request = proto.CreateTTLRequest(b"/t", b"", OPEN_ACL, 0, -1)
        self.assertEqual(client.err(ops.MULTI, proto.encode_multi([(ops.CREATE_TTL, request)])), 0)
        self.assertEqual(World(disk).server.tree.nodes[b"/t"].owner, 0)


class PasswordTests(SynchronousTestCase):
    """12.5: a reconnect with a wrong password."""

    def test_harms_nobody(self) -> None:
        """It is refused, and the rightful client keeps connection, watches and session."""
        world = World()
        client = world.client()
        client.create(b"/e", flags=1)
        client.exists(b"/e", watch=True)
        for password in (bytes(16), b"", bytes(15), client.password + b"\0", None):
            stranger = world.connect()
            self.assertFalse(stranger.open(5000, client.session_id, password))  # type: ignore[arg-type]
            self.assertEqual((stranger.session_id, stranger.timeout, stranger.closed), (0, 0, True))
        self.assertFalse(client.closed)
        client.set(b"/e")
        self.assertEqual(len(client.events), 1)
        self.assertEqual(world.server.sessions.sessions[client.session_id].timeout, 10_000)

    def test_does_not_keep_a_session_alive(self) -> None:
        """Nor does it prolong a session that its client has left."""
        world = World()
        client = world.client(4000)
        client.drop()
        for _ in range(4):
            world.advance(2)
            world.connect().open(4000, client.session_id, bytes(16))
        self.assertNotIn(client.session_id, world.server.sessions)


class UnreadableWatchTests(SynchronousTestCase):
    """12.6: watches on what may not be read."""

    def test_delivery_is_filtered(self) -> None:
        """Watches can be set on paths of any form and on unreadable nodes; of these nothing is told."""
        world = World()
        owner, stranger = world.client(), world.client()
        owner.authenticate(b"ann:secret")
        owner.create(b"/h", acl=(ACL(31, Id("auth", "")),))
        for path in (b"/h", b"", b"no path", b"/a//b/", b"/\0", b"\xff", None):
            for mode in (0, 1):
                self.assertEqual(stranger.err(ops.ADD_WATCH, proto.AddWatchRequest(path, mode)), 0)
        owner.set(b"/h")
        owner.create(b"/h/x", acl=(ACL(31, Id("auth", "")),))
        owner.delete(b"/h/x")
        owner.delete(b"/h")
        stranger.receive()
        self.assertEqual(stranger.events, [])
        owner.create(b"/h")
        stranger.receive()
        self.assertEqual([event[:2] for event in stranger.events], [(1, b"/h")])
        stranger.drop()
        self.assertEqual(world.server.watches.count, 0)


class LateCloseTests(SynchronousTestCase):
    """12.7: the end of an old connection comes after the session has a new one."""

    def test_forgets_only_itself(self) -> None:
        """The new connection stays the session's: it is closed when the session is, and is told its events."""
        world = World()
        client, other = world.client(4000), world.client(40_000)
        again = world.connect()
        again.send(again.connect_request(4000, client.session_id, client.password))
        self.assertTrue(again.greet())
        self.assertTrue(client.closed)
        self.assertFalse(client.pipe.lost)
        again.exists(b"/x", watch=True)
        world.turn()
        self.assertTrue(client.pipe.lost)
        self.assertIs(world.server.by_session[client.session_id], again.protocol)
        other.create(b"/x")
        again.receive()
        self.assertEqual(len(again.events), 1)
        world.advance(8)
        self.assertTrue(again.closed)
        self.assertNotIn(client.session_id, world.server.by_session)

    def test_very_late(self) -> None:
        """Also when the old connection's end is noticed after a further one has come and gone."""
        world = World()
        client = world.client()
        second = world.connect()
        second.send(second.connect_request(10_000, client.session_id, client.password))
        second.protocol.connectionLost(Failure(ConnectionDone()))
        second.pipe.lost = True
        third = world.connect()
        third.send(third.connect_request(10_000, client.session_id, client.password))
        world.turn()
        self.assertTrue(client.pipe.lost)
        self.assertIs(world.server.by_session[client.session_id], third.protocol)


class ExtendedTypesTests(SynchronousTestCase):
    """Switching extended types off on data that has such nodes."""

    def test_nothing_is_destroyed(self) -> None:
        """TTL nodes and containers stay, at a start, when sessions end, and for their children; none is made anew."""
        disk = MemoryDisk()
        client = World(disk, extended_types_enabled=True).client()
        request = proto.CreateTTLRequest(b"/t", b"data", OPEN_ACL, 5, 100_000)
        self.assertEqual(client.err(ops.CREATE_TTL, request), 0)
        self.assertEqual(client.err(ops.CREATE_CONTAINER, proto.CreateRequest(b"/c", b"", OPEN_ACL, 4)), 0)
        client.create(b"/t/x")
        client.ask(ops.CLOSE_SESSION)
        for _ in range(2):
            world = World(disk, extended_types_enabled=False)
            self.assertEqual(world.removed, [])
            client = world.client(4000)
            self.assertEqual(client.get(b"/t"), b"data")
            stat = client.exists(b"/t")
            assert stat is not None
            self.assertEqual(stat.ephemeralOwner, 0)
            client.create(b"/t/y-", flags=2)
            self.assertEqual(client.err(ops.CREATE_TTL, request), UNIMPLEMENTED)
            body = jute.encode(proto.PathRequest(b"/"))
            names = jute.decode(proto.PathsResponse, client.ask(ops.GET_EPHEMERALS, body)[2])[0].paths
            self.assertEqual(names, [])
            world.advance(10)
        self.assertEqual({b"/t", b"/c", b"/t/x"} - world.server.tree.nodes.keys(), set())
        self.assertEqual(world.server.tree.nodes[b"/t"].owner, TTL_MASK | 100_000)


class ReaperTests(SynchronousTestCase):
    """Containers and TTL nodes that nobody needs (spec: server-semantics 7)."""

    def reap(self, world: World) -> list[bytes]:
        """Run the reaper once and return what is gone by it."""
        before = set(world.server.tree.nodes)
        reaper = Reaper(
            world.clock.callLater,
            lambda: world.server.expendable_nodes(world.wall_ms()),
            world.server.delete_container,
            10_000,
        )
        reaper.run()
        world.turn()
        reaper.stop()
        return sorted(before - set(world.server.tree.nodes))

    def test_containers(self) -> None:
        """A container goes when it has had children and has none; its watches fire; it is in the log."""
        disk = MemoryDisk()
        world = World(disk)
        client = world.client(40_000)
        for path in (b"/used", b"/never", b"/full"):
            self.assertEqual(client.err(ops.CREATE_CONTAINER, proto.CreateRequest(path, b"", OPEN_ACL, 4)), 0)
        client.create(b"/used/x")
        client.create(b"/full/x")
        self.assertEqual(self.reap(world), [])
        client.delete(b"/used/x")
        client.exists(b"/used", watch=True)
        self.assertEqual(self.reap(world), [b"/used"])
        client.receive()
        self.assertEqual(client.events, [(2, b"/used", world.server.last_zxid)])
        self.assertEqual(self.reap(world), [])
        self.assertNotIn(b"/used", World(disk).server.tree.nodes)

    def test_never_used(self) -> None:
        """One that never had a child goes after a while, if that is asked for."""
        world = World(container_max_never_used_interval_ms=5000)
        client = world.client(40_000)
        client.err(ops.CREATE_CONTAINER, proto.CreateRequest(b"/never", b"", OPEN_ACL, 4))
        world.clock.advance(5)
        self.assertEqual(self.reap(world), [])
        world.clock.advance(0.01)
        self.assertEqual(self.reap(world), [b"/never"])

    def test_ttl(self) -> None:
        """A TTL node goes when it has been left alone for longer, and has no children; setData refreshes it."""
        world = World(extended_types_enabled=True)
        client = world.client(40_000)
        for path in (b"/t", b"/set", b"/full"):
            client.err(ops.CREATE_TTL, proto.CreateTTLRequest(path, b"", OPEN_ACL, 5, 1000))
        client.create(b"/full/x")
        world.clock.advance(0.6)
        client.set(b"/set")
        self.assertEqual(self.reap(world), [])
        world.clock.advance(0.5)
        self.assertEqual(self.reap(world), [b"/t"])
        world.clock.advance(1)
        self.assertEqual(self.reap(world), [b"/set"])
        client.delete(b"/full/x")
        self.assertEqual(self.reap(world), [b"/full"])

    def test_used_again_meanwhile(self) -> None:
        """A candidate that has a child by the time its turn comes stays; one that is gone does no harm."""
        world = World()
        client = world.client(40_000)
        for path in (b"/a", b"/b"):
            client.err(ops.CREATE_CONTAINER, proto.CreateRequest(path, b"", OPEN_ACL, 4))
            client.create(path + b"/x")
            client.delete(path + b"/x")
        found = world.server.expendable_nodes(world.wall_ms())
        self.assertEqual(found, [b"/a", b"/b"])
        client.put(ops.CREATE, proto.CreateRequest(b"/a/again", b"", OPEN_ACL, 0))
        client.put(ops.DELETE, proto.DeleteRequest(b"/b", -1))
        client.put(ops.CREATE, proto.CreateRequest(b"/b", b"", OPEN_ACL, 0))
        for path in found:
            world.server.delete_container(path)
        world.turn()
        self.assertIsNotNone(client.receive() and client.exists(b"/a/again"))
        self.assertIsNotNone(client.exists(b"/b"))

    def test_log_entry(self) -> None:
        """The transaction is the server's own: session 0, cxid 0, type 20."""
        entries: list[bytes] = []
        world = World()
        client = world.client()
        client.err(ops.CREATE_CONTAINER, proto.CreateRequest(b"/c", b"", OPEN_ACL, 4))
        self.patch(world.server.storage, "append", lambda pairs: entries.extend(entry for _, entry in pairs))
        world.server.delete_container(b"/c")
        world.turn()
        header, body, _ = txns.decode_entry(entries[0])
        self.assertEqual((header.client_id, header.cxid, header.type, body.path), (0, 0, ops.DELETE_CONTAINER, b"/c"))
