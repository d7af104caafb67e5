"""A server that has lost the others, to clients that put up with it (spec: quorum 13, client-protocol 7.5)."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.server.world import Client, World, create, read, set_data
from zktwisted.errors import Code
from zktwisted.server.readonly import ReadOnlyRole
from zktwisted.wire import ops, proto
from zktwisted.wire.proto import OPEN_ACL

NOT_READ_ONLY = Code.NOTREADONLY.value


class ReadOnlyTests(SynchronousTestCase):
    """The role, over connections in memory."""

    def setUp(self) -> None:
        """A server that has served: a node and a session of those days are there."""
        self.world = World(begin=None, server_id=3)
        server = self.world.server
        server.started(0)
        server.open()
        client = self.world.client()
        client.create(b"/a", b"old")
        self.session, self.password = client.session_id, client.password
        assert server.role is not None
        server.role.stop()
        self.world.turn()
        self.role = ReadOnlyRole(server)
        self.role.start(server.last_zxid)

    def connect(self, tail: bytes = b"\1", **request: object) -> Client:
        client = self.world.connect()
        client.send(client.connect_request(tail=tail, **request))  # type: ignore[arg-type]
        self.world.turn()
        return client

    def client(self) -> Client:
        client = self.connect()
        self.assertEqual(client.pipe.value()[-1:], b"\1")
        self.assertTrue(client.greet())
        return client

    def test_who_may_come(self) -> None:
        """Only who says that it knows of such servers."""
        for tail in (b"\0", b""):
            client = self.connect(tail)
            self.assertEqual((client.closed, client.pipe.value()), (True, b""))
        self.assertFalse(self.client().closed)

    def test_reads(self) -> None:
        """Reads, pings and watches are answered as ever."""
        client = self.client()
        self.assertEqual(client.session_id >> 56, 3)
        self.assertEqual(client.get(b"/a", watch=True), b"old")
        self.assertEqual(client.ask(ops.PING, b"", -2), (self.world.server.last_zxid, 0, b""))

    def test_writes(self) -> None:
        """Everything that would need a leader is refused, sync too, and the connection stays."""
        client = self.client()
        zxid = self.world.server.last_zxid
        for op, record in (
            (ops.CREATE, create(b"/b")),
            (ops.CREATE2, create(b"/b")),
            (ops.CREATE_CONTAINER, create(b"/b")),
            (ops.CREATE_TTL, proto.CreateTTLRequest(b"/b", b"", OPEN_ACL, 5, 10)),
            (ops.DELETE, proto.DeleteRequest(b"/a", -1)),
            (ops.SET_DATA, set_data(b"/a")),
            (ops.SET_ACL, proto.SetACLRequest(b"/a", OPEN_ACL, -1)),
            (ops.MULTI, proto.encode_multi([])),
            (ops.RECONFIG, proto.ReconfigRequest(None, None, None, -1)),
            (ops.SYNC, proto.PathRequest(b"/")),
        ):
            self.assertEqual(client.ask(op, record), (zxid, NOT_READ_ONLY, b""), op)
        self.assertFalse(client.closed)
        self.assertEqual(self.world.server.last_zxid, zxid)

    def test_order(self) -> None:
        """Answers come in the order of the requests."""
        client = self.client()
        client.send(
            client.request(ops.GET_DATA, read(b"/a"))
            + client.request(ops.SET_DATA, set_data(b"/a"))
            + client.request(ops.EXISTS, read(b"/a"))
            + client.request(ops.CLOSE_SESSION)
            + client.request(ops.PING, b"", -2)
        )
        self.assertEqual([(xid, err) for xid, _, err, _ in client.receive()], [(1, 0), (2, -119), (3, 0), (4, 0)])
        self.assertTrue(client.closed)
        self.assertEqual(self.world.server.local_sessions, 0)

    def test_sessions(self) -> None:
        """A session that was made here goes on here; the ensemble's are sent away, and others are over."""
        client = self.client()
        again = self.connect(session=client.session_id, password=client.password)
        self.assertTrue(again.greet())
        self.assertTrue(client.closed)
        theirs = self.connect(session=self.session, password=self.password)
        self.assertEqual((theirs.closed, theirs.pipe.value()), (True, b""))
        wrong = self.connect(session=again.session_id, password=b"wrong")
        self.assertEqual(wrong.pipe.value()[-1:], b"\1")
        self.assertFalse(wrong.greet())
        self.assertFalse(again.closed)
        self.world.advance(12)
        self.assertTrue(again.closed)
        over = self.connect(session=client.session_id, password=client.password)
        self.assertFalse(over.greet())
        self.assertIn(self.session, self.world.server.timeouts)

    def test_end(self) -> None:
        """When it ends its clients are disconnected, and their sessions are nobody's."""
        client = self.client()
        self.role.stop()
        self.assertTrue(client.closed)
        self.world.turn()
        self.world.server.open()
        again = self.world.connect()
        self.assertFalse(again.open(10_000, client.session_id, client.password))
