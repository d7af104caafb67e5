"""The chain of a server: zxids, order, watches, sessions and the disk, over connections in memory."""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from tests.server.world import EPOCH, Client, World, create, read, set_data
from zktwisted.errors import Code
from zktwisted.testing.disk import MemoryDisk
from zktwisted.wire import jute, ops, proto
from zktwisted.wire.proto import ACL, OPEN_ACL, Id

NO_NODE = Code.NONODE.value
EXISTS = Code.NODEEXISTS.value
NO_AUTH = Code.NOAUTH.value
WORLD_READ = (ACL(31, Id("auth", "")), ACL(1, Id("world", "anyone")))
OWN = (ACL(31, Id("auth", "")),)
ADD_RECURSIVE = 1


class ZxidTests(SynchronousTestCase):
    """The zxid in every reply (spec: client-protocol 5.1)."""

    def test_every_reply(self) -> None:
        """A write's own, also when it fails; the last applied one for everything else; 0 for auth, -1 for unknown."""
        world = World()
        client = world.client()
        self.assertEqual(world.server.last_zxid, 1)
        self.assertEqual(client.ask(ops.CREATE, create(b"/a"))[:2], (2, 0))
        self.assertEqual(client.ask(ops.CREATE, create(b"/a"))[:2], (3, EXISTS))
        self.assertEqual(client.ask(ops.SET_DATA, b"\0")[:2], (4, -5))
        self.assertEqual(client.ask(ops.MULTI, b"\0")[:2], (5, -5))
        failed = proto.encode_multi([(ops.DELETE, proto.DeleteRequest(b"/nope", -1))])
        self.assertEqual(client.ask(ops.MULTI, failed)[:2], (6, 0))
        self.assertEqual(client.ask(ops.RECONFIG, proto.ReconfigRequest(None, None, None, -1))[:2], (7, -123))
        for op, body, err in (
            (ops.GET_DATA, read(b"/a"), 0),
            (ops.GET_DATA, read(b"/nope"), NO_NODE),
            (ops.EXISTS, b"", -5),
            (ops.GET_CHILDREN2, read(b"/"), 0),
            (ops.SYNC, proto.PathRequest(b"what/ever"), 0),
            (ops.SYNC, b"\0", -5),
            (ops.SET_WATCHES, proto.SetWatches(0, [], [], []), 0),
            (ops.ADD_WATCH, proto.AddWatchRequest(b"/a", 0), 0),
            (ops.CHECK_WATCHES, proto.WatchesRequest(b"/a", 1), -121),
        ):
            self.assertEqual(client.ask(op, body)[:2], (7, err), op)
        self.assertEqual(client.ask(ops.PING, b"", -2)[:2], (7, 0))
        self.assertEqual(client.ask(ops.AUTH, proto.AuthPacket(0, "digest", b"a:b"), -4)[:2], (0, 0))
        self.assertEqual(client.ask(ops.SASL, proto.SASLToken(b"x")), (0, 0, b"\xff\xff\xff\xff"))
        self.assertEqual(client.ask(ops.CLOSE_SESSION), (8, 0, b""))
        self.assertTrue(client.closed)
        other = world.client()
        self.assertEqual(other.ask(99)[:2], (-1, -6))
        self.assertTrue(other.closed)

    def test_sync_echoes(self) -> None:
        """A sync's path comes back whatever it is, null too."""
        client = World().client()
        for path in (b"/a", b"", b"no path", b"/\xc3\xa4", None):
            body = client.ask(ops.SYNC, proto.PathRequest(path))[2]
            self.assertEqual(jute.decode(proto.PathResponse, body)[0].path, path)

    def test_write_replies(self) -> None:
        """Each write answers with the record of its kind, the stat that it made."""
        world = World()
        client = world.client()
        world.clock.advance(1)
        body = client.ask(ops.CREATE2, create(b"/a-", b"xy", 2))[2]
        made = jute.decode(proto.Create2Response, body)[0]
        time = EPOCH + 1000
        self.assertEqual(made, (b"/a-0000000000", (2, 2, time, time, 0, 0, 0, 0, 2, 0, 2)))
        body = client.ask(ops.SET_DATA, set_data(b"/a-0000000000", b"xyz"))[2]
        self.assertEqual(jute.decode(proto.Stat, body)[0], (2, 3, time, time, 1, 0, 0, 0, 3, 0, 2))
        body = client.ask(ops.SET_ACL, proto.SetACLRequest(b"/a-0000000000", OPEN_ACL, 0))[2]
        self.assertEqual(jute.decode(proto.Stat, body)[0], (2, 3, time, time, 1, 0, 1, 0, 3, 0, 2))
        self.assertEqual(client.ask(ops.DELETE, proto.DeleteRequest(b"/a-0000000000", 1))[1:], (0, b""))

    def test_multi_reply(self) -> None:
        """Results by type; container and TTL creates are typed 15; a failed multi is errors with header err 0."""
        client = World(extended_types_enabled=True).client()
        results = proto.decode_multi_response(
            client.ask(
                ops.MULTI,
                proto.encode_multi(
                    [
                        (ops.CREATE, create(b"/p")),
                        (ops.CREATE2, create(b"/p/2")),
                        (ops.CREATE_CONTAINER, create(b"/c", flags=4)),
                        (ops.CREATE_TTL, proto.CreateTTLRequest(b"/t", b"", OPEN_ACL, 5, 1000)),
                        (ops.CHECK, proto.CheckVersionRequest(b"/p", 0)),
                        (ops.SET_DATA, set_data(b"/p", b"1")),
                        (ops.DELETE, proto.DeleteRequest(b"/p/2", -1)),
                    ]
                ),
            )[2],
            0,
        )
        self.assertEqual([(kind, err) for kind, err, _ in results], [(op, 0) for op in (1, 15, 15, 15, 13, 5, 2)])
        self.assertEqual(results[5][2].stat.version, 1)
        failed = client.ask(
            ops.MULTI,
            proto.encode_multi(
                [
                    (ops.CREATE, create(b"/x")),
                    (ops.CREATE, create(b"/p")),
                    (ops.DELETE, proto.DeleteRequest(b"/p", -1)),
                    (ops.DELETE, proto.DeleteRequest(b"/p", -1)),
                ]
            ),
        )
        self.assertEqual(failed[1], 0)
        errors = (0, EXISTS, -2, -2)
        expected = b"".join(b"\xff\xff\xff\xff\0" + 2 * (code % (1 << 32)).to_bytes(4, "big") for code in errors)
        self.assertEqual(failed[2], expected + b"\xff\xff\xff\xff\1\xff\xff\xff\xff")
        self.assertIsNone(client.exists(b"/x"))


class OrderTests(SynchronousTestCase):
    """Who is answered when (spec: client-protocol 8.2)."""

    def test_replies_in_request_order(self) -> None:
        """Reads and pings behind a write wait for it, and see it."""
        disk = MemoryDisk(hold=True)
        world = World(disk)
        client = Client(world, "127.0.0.1")
        client.send(client.connect_request())
        world.turn()
        disk.complete()
        self.assertTrue(client.greet())
        client.send(
            client.request(ops.EXISTS, read(b"/a"))
            + client.request(ops.CREATE, create(b"/a"))
            + client.request(ops.EXISTS, read(b"/a"))
            + client.request(ops.PING, b"", -2)
            + client.request(ops.SYNC, proto.PathRequest(b"/"))
            + client.request(ops.SET_DATA, set_data(b"/a", b"1"))
            + client.request(ops.GET_DATA, read(b"/a"))
        )
        world.turn()
        self.assertEqual([reply[:3] for reply in client.receive()], [(1, 1, NO_NODE)])
        disk.complete()
        world.turn()
        expected = [(2, 2, 0), (3, 3, 0), (-2, 3, 0), (4, 3, 0), (5, 3, 0), (6, 3, 0)]
        self.assertEqual([(xid, err) for xid, _, err, _ in client.receive()], [(xid, err) for xid, _, err in expected])

    def test_sync_in_one_piece(self) -> None:
        """Of what comes together a sync in front is answered at once; behind a write it waits as that does."""
        disk = MemoryDisk()
        world = World(disk)
        client = world.client()
        disk.hold = True
        pieces = [(ops.SYNC, proto.PathRequest(b"/")), (ops.CREATE, create(b"/a"))]
        client.send(b"".join(client.request(op, record) for op, record in [*pieces, *pieces[:1]]))
        self.assertEqual([reply[0] for reply in client.receive()], [1])
        self.assertEqual(world.server.in_flight, 2)
        world.turn()
        self.assertEqual(client.receive(), [])
        disk.complete()
        self.assertEqual([reply[0] for reply in client.receive()], [2, 3])

    def test_one_piece_is_durable(self) -> None:
        """What was asked together is on the disk before anything of it is answered, all of it."""
        disk = MemoryDisk()
        world = World(disk)
        client = world.client()
        disk.hold = True
        asked = [(ops.CREATE, create(path)) for path in (b"/a", b"/b", b"/c")] + [(ops.SET_DATA, set_data(b"/b", b"1"))]
        client.send(b"".join(client.request(op, record) for op, record in asked))
        world.turn()
        self.assertEqual(client.receive(), [])
        disk.complete()
        self.assertEqual([err for _, _, err, _ in client.receive()], [0, 0, 0, 0])
        disk.crash(Random(1))
        disk.hold = False
        again = World(disk).client()
        self.assertEqual([again.get(path) for path in (b"/a", b"/b", b"/c")], [b"", b"1", b""])

    def test_session_gone_in_one_piece(self) -> None:
        """Who writes with a session that is over is closed; of what came together nothing is done."""
        world = World()
        client = world.client()
        zxid = world.server.last_zxid
        world.server.sessions.set_closing(client.session_id)
        client.send(b"".join(client.request(ops.CREATE, create(path)) for path in (b"/a", b"/b", b"/c")))
        world.turn()
        self.assertTrue(client.closed)
        client.drop()
        self.assertEqual((world.server.last_zxid, world.server.in_flight), (zxid, 0))
        self.assertEqual((world.server.outstanding.in_flight, world.server.metrics.stale_replies), (0, 0))

    def test_others_need_not_wait(self) -> None:
        """A write that is not durable yet holds up nobody else, and nobody sees it."""
        disk = MemoryDisk(hold=True)
        world = World(disk)
        writer, reader = Client(world, "127.0.0.1"), Client(world, "127.0.0.1")
        for client in (writer, reader):
            client.send(client.connect_request())
        world.turn()
        disk.complete()
        self.assertTrue(writer.greet() and reader.greet())
        writer.put(ops.CREATE, create(b"/a"))
        world.turn()
        self.assertIsNone(reader.exists(b"/a"))
        self.assertEqual(writer.receive(), [])
        disk.complete()
        self.assertIsNotNone(reader.exists(b"/a"))
        self.assertEqual(len(writer.receive()), 1)

    def test_group_commit(self) -> None:
        """Writes of one turn share a flush; those that come while it is in flight share the next one."""
        disk = MemoryDisk()
        world = World(disk)
        clients = [world.client() for _ in range(5)]
        disk.hold = True
        begun = disk.flushes
        for client in clients:
            client.put(ops.CREATE, create(b"/s-", flags=2))
        world.turn()
        self.assertEqual(disk.flushes, begun + 1)
        for client in clients:
            client.put(ops.CREATE, create(b"/s-", flags=2))
        world.turn()
        self.assertEqual(disk.flushes, begun + 1)
        disk.complete()
        world.turn()
        self.assertEqual([len(client.receive()) for client in clients], [1] * 5)
        self.assertEqual(disk.flushes, begun + 2)
        disk.complete()
        world.turn()
        self.assertEqual([len(client.receive()) for client in clients], [1] * 5)
        self.assertEqual(world.server.in_flight, 0)

    def test_any_chunks(self) -> None:
        """However the bytes are cut, the replies are the same."""
        streams = []
        for size in (1, 3, 7, 10_000):
            world = World()
            client = Client(world, "127.0.0.1")
            data = (
                client.connect_request()
                + client.request(ops.CREATE, create(b"/a", b"x"))
                + client.request(ops.GET_DATA, read(b"/a", True))
                + client.request(ops.SET_DATA, set_data(b"/a", b"y"))
                + client.request(ops.GET_CHILDREN, read(b"/"))
                + client.request(ops.CLOSE_SESSION)
                + client.request(ops.GET_DATA, read(b"/a"))
            )
            for start in range(0, len(data), size):
                client.send(data[start : start + size])
            world.turn()
            self.assertTrue(client.greet())
            client.receive()
            self.assertTrue(client.closed)
            streams.append((client.replies, client.events, client.order))
        self.assertEqual(streams[0][2], [1, 2, "event", 3, 4, 5])
        self.assertEqual(streams, [streams[0]] * 4)

    def test_quiesce(self) -> None:
        """Nothing more is taken; what was taken is answered first."""
        disk = MemoryDisk()
        world = World(disk)
        client = world.client()
        disk.hold = True
        client.put(ops.CREATE, create(b"/a"))
        done = world.server.quiesce()
        client.put(ops.CREATE, create(b"/b"))
        world.turn()
        self.assertNoResult(done)
        disk.complete()
        world.turn()
        self.successResultOf(done)
        self.assertEqual([reply[:3] for reply in client.receive()], [(1, 2, 0)])
        self.assertNotIn(b"/b", world.server.tree.nodes)
        self.assertEqual(self.successResultOf(world.server.quiesce()), None)


class WatchTests(SynchronousTestCase):
    """Who is told what, and when (spec: server-semantics 6)."""

    def setUp(self) -> None:
        self.world = World()
        self.client = self.world.client()

    def test_before_the_reply(self) -> None:
        """A client's own write delivers its own event first."""
        client = self.client
        client.create(b"/a")
        client.get(b"/a", watch=True)
        client.exists(b"/b", watch=True)
        client.ask(ops.GET_CHILDREN, read(b"/", True))
        client.set(b"/a")
        client.create(b"/b")
        self.assertEqual(client.events, [(3, b"/a", 3), (1, b"/b", 4), (4, b"/", 4)])
        self.assertEqual(client.order, [1, 2, 3, 4, "event", 5, "event", "event", 6])

    def test_others_first(self) -> None:
        """Whoever reads what a write has changed has heard of the change."""
        other = self.world.client()
        self.client.create(b"/a")
        other.get(b"/a", watch=True)
        self.client.put(ops.SET_DATA, set_data(b"/a", b"new"))
        other.put(ops.SYNC, proto.PathRequest(b"/"))
        other.put(ops.GET_DATA, read(b"/a"))
        self.world.turn()
        replies = other.receive()
        self.assertEqual(other.order, [1, "event", 2, 3])
        self.assertIn(b"new", replies[-1][3])

    def test_once(self) -> None:
        """A one-shot watch fires once; a persistent one and a recursive one for ever, each once per change."""
        writer = self.world.client()
        writer.create(b"/p")
        client = self.client
        client.get(b"/p", watch=True)
        client.ask(ops.ADD_WATCH, proto.AddWatchRequest(b"/p", 0))
        lasting = self.world.client()
        lasting.ask(ops.ADD_WATCH, proto.AddWatchRequest(b"/", ADD_RECURSIVE))
        once = self.world.client()
        once.get(b"/p", watch=True)
        writer.set(b"/p")
        writer.set(b"/p")
        writer.create(b"/p/x")
        writer.delete(b"/p/x")
        for each in (client, lasting, once):
            each.receive()
        self.assertEqual([event[:2] for event in client.events], [(3, b"/p"), (3, b"/p"), (4, b"/p"), (4, b"/p")])
        self.assertEqual([e[:2] for e in lasting.events], [(3, b"/p"), (3, b"/p"), (1, b"/p/x"), (2, b"/p/x")])
        self.assertEqual([event[:2] for event in once.events], [(3, b"/p")])

    def test_multi(self) -> None:
        """Each operation is told in order, all with one zxid; a failed multi is told to nobody."""
        client = self.client
        client.ask(ops.ADD_WATCH, proto.AddWatchRequest(b"/", ADD_RECURSIVE))
        failed = [(ops.CREATE, create(b"/a")), (ops.DELETE, proto.DeleteRequest(b"/nope", -1))]
        client.ask(ops.MULTI, proto.encode_multi(failed))
        self.assertEqual(client.events, [])
        done = [(ops.CREATE, create(b"/a")), (ops.SET_DATA, set_data(b"/a")), (ops.CREATE, create(b"/a/b"))]
        zxid = client.ask(ops.MULTI, proto.encode_multi(done))[0]
        self.assertEqual(client.events, [(1, b"/a", zxid), (3, b"/a", zxid), (1, b"/a/b", zxid)])

    def test_acl_filter(self) -> None:
        """Who may not read a node is not told of it, and has lost the one-shot watch all the same."""
        owner, stranger = self.world.client(), self.client
        owner.authenticate(b"ann:secret")
        owner.create(b"/a")
        stranger.get(b"/a", watch=True)
        stranger.ask(ops.GET_CHILDREN, read(b"/a", True))
        stranger.exists(b"/n", watch=True)
        self.assertEqual(self.world.server.watches.count, 3)
        self.assertEqual(owner.err(ops.SET_ACL, proto.SetACLRequest(b"/a", OWN, -1)), 0)
        owner.set(b"/a")
        owner.create(b"/a/x", acl=OWN)
        owner.create(b"/n", acl=OWN)
        stranger.receive()
        self.assertEqual((stranger.events, self.world.server.watches.count), ([], 0))
        self.assertEqual(stranger.err(ops.EXISTS, read(b"/a", True)), NO_AUTH)
        self.assertEqual(self.world.server.watches.count, 0)

    def test_acl_filter_by_node(self) -> None:
        """Of a recursive watch the readable nodes are told, under an unreadable parent too; a new identity helps."""
        owner, stranger = self.world.client(), self.client
        owner.authenticate(b"ann:secret")
        stranger.ask(ops.ADD_WATCH, proto.AddWatchRequest(b"/", ADD_RECURSIVE))
        owner.create(b"/h", acl=OWN)
        owner.create(b"/h/open")
        owner.create(b"/h/shown", acl=WORLD_READ)
        owner.set(b"/h")
        owner.delete(b"/h/open")
        stranger.receive()
        self.assertEqual([e[:2] for e in stranger.events], [(1, b"/h/open"), (1, b"/h/shown"), (2, b"/h/open")])
        stranger.authenticate(b"ann:secret")
        owner.set(b"/h")
        stranger.receive()
        self.assertEqual(stranger.events[-1][:2], (3, b"/h"))

    def test_skip_acl(self) -> None:
        """With skipACL everybody is told."""
        world = World(skip_acl=True)
        owner, stranger = world.client(), world.client()
        owner.authenticate(b"ann:secret")
        owner.create(b"/a", acl=OWN)
        stranger.get(b"/a", watch=True)
        owner.set(b"/a")
        stranger.receive()
        self.assertEqual(len(stranger.events), 1)

    def test_gone_with_the_connection(self) -> None:
        """Watches end with their connection; setWatches brings them back and tells what was missed."""
        client, writer = self.client, self.world.client()
        writer.create(b"/a")
        writer.create(b"/b")
        client.get(b"/a", watch=True)
        client.get(b"/b", watch=True)
        seen = self.world.server.last_zxid
        client.drop()
        self.assertEqual(self.world.server.watches.count, 0)
        writer.set(b"/a")
        again = self.world.connect()
        self.assertTrue(again.open(10_000, client.session_id, client.password, seen))
        again.ask(ops.SET_WATCHES, proto.SetWatches(seen, [b"/a", b"/b"], [], []), -8)
        self.assertEqual((again.events, again.order), ([(3, b"/a", -1)], ["event", -8]))
        writer.set(b"/b")
        again.receive()
        self.assertEqual(again.events[1][:2], (3, b"/b"))

    def test_no_event_for_acl(self) -> None:
        """Setting an ACL is told to nobody."""
        self.client.create(b"/a")
        self.client.get(b"/a", watch=True)
        self.client.err(ops.SET_ACL, proto.SetACLRequest(b"/a", OPEN_ACL, -1))
        self.assertEqual((self.client.events, self.world.server.watches.count), ([], 1))


class AuthTests(SynchronousTestCase):
    """Identities of a connection (spec: client-protocol 9)."""

    def test_read_behind(self) -> None:
        """An identity counts for what is read behind it."""
        world = World()
        client = world.client()
        client.authenticate(b"ann:secret")
        client.create(b"/a", acl=OWN)
        other = world.client()
        other.send(
            other.request(ops.GET_DATA, read(b"/a"))
            + other.request(ops.AUTH, proto.AuthPacket(0, "digest", b"ann:secret"), -4)
            + other.request(ops.GET_DATA, read(b"/a"))
        )
        self.assertEqual([(reply[0], reply[2]) for reply in other.receive()], [(1, NO_AUTH), (-4, 0), (2, 0)])

    def test_failure(self) -> None:
        """It is answered -115 and closes; what is behind it gets no answer."""
        for scheme, data in (("world", b""), ("sasl", b""), ("what", b""), (None, b""), ("digest", None)):
            client = World().client()
            client.send(client.request(ops.AUTH, proto.AuthPacket(0, scheme, data), -4) + client.request(ops.PING))
            self.assertEqual([reply[:3] for reply in client.receive()], [(-4, 0, -115)])
            self.assertTrue(client.closed)

    def test_enforced(self) -> None:
        """Without an identity of the schemes asked for, everything but auth is answered -124 and closes."""
        settings = {"enforce_auth_enabled": True, "enforce_auth_schemes": ("digest",)}
        for op in (ops.PING, ops.GET_DATA, ops.CREATE, ops.CLOSE_SESSION, 99):
            client = World(**settings).client()
            self.assertEqual(client.ask(op, b"")[:2], (0, -124))
            self.assertTrue(client.closed)
        client = World(**settings).client()
        client.authenticate(b"", "ip")
        client.authenticate(b"ann:secret")
        client.create(b"/a")


class DiskTests(SynchronousTestCase):
    """A disk that fails (spec: storage)."""

    def test_nothing_acknowledged(self) -> None:
        """No write of the failed flush is answered or shown, every connection is closed, and it is said once."""
        disk = MemoryDisk()
        world = World(disk)
        writer, reader = world.client(), world.client()
        writer.create(b"/before")
        reader.exists(b"/a", watch=True)
        disk.hold = True
        disk.fail_flush()
        writer.put(ops.CREATE, create(b"/a"))
        world.turn()
        writer.put(ops.CREATE, create(b"/b"))
        reader.put(ops.SET_DATA, set_data(b"/before"))
        world.turn()
        waiting = world.server.quiesce()
        disk.complete()
        world.turn()
        for client in (writer, reader):
            self.assertEqual((client.receive(), client.events, client.closed), ([], [], True))
        self.assertEqual(len(world.failures), 1)
        self.assertIn("Input/output error", str(world.failures[0]))
        self.successResultOf(waiting)
        late = world.connect()
        late.send(late.connect_request())
        world.turn()
        self.assertEqual((late.closed, late.pipe.value()), (True, b""))
        world.server.expire_sessions(10**9)
        world.turn()
        self.assertEqual((len(world.failures), world.server.tree.nodes.keys() & {b"/a", b"/b"}), (1, set()))

    def test_starts_again(self) -> None:
        """When the disk is well again nothing that was acknowledged is lost."""
        disk = MemoryDisk()
        world = World(disk)
        client = world.client()
        client.create(b"/before")
        disk.fail_flush()
        client.put(ops.CREATE, create(b"/a"))
        world.turn()
        self.assertEqual((len(world.failures), client.receive()), (1, []))
        disk.crash(Random(2))
        again = World(disk).client()
        self.assertIsNotNone(again.exists(b"/before"))
        again.create(b"/after")

    def test_mistake(self) -> None:
        """A batch that cannot be applied stops the server like a disk that fails: nothing is built upon half of it."""
        world = World()
        client = world.client()

        def mistake(*arguments: object) -> None:
            raise ZeroDivisionError

        self.patch(world.server, "_tell", mistake)
        client.exists(b"/a", watch=True)
        client.put(ops.CREATE, create(b"/a"))
        world.turn()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual((client.receive(), client.closed), ([], True))
        self.assertEqual([type(error) for error in world.failures], [ZeroDivisionError])

    def test_full(self) -> None:
        """A disk that is full is one that fails."""
        disk = MemoryDisk()
        world = World(disk)
        client = world.client()
        disk.capacity = sum(map(len, disk.files.values())) + 1000
        client.put(ops.CREATE, create(b"/big", bytes(2000)))
        world.turn()
        self.assertEqual((client.receive(), client.closed), ([], True))
        self.assertIn("No space left", str(world.failures[0]))
