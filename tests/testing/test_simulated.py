"""Simulated clients: what they do when servers fall silent, go away, or have nothing more to say to them."""

from __future__ import annotations

from tests.testing.test_ensemble import EnsembleCase
from zktwisted.config.ensemble import Address
from zktwisted.wire import ops, proto


class ClientTests(EnsembleCase):
    """One client and three servers."""

    def setUp(self) -> None:
        self.ensemble = self.ready()
        self.one = self.client(self.ensemble)

    def kinds(self) -> list[str]:
        return [entry.kind for entry in self.one.log]

    def test_session_is_kept(self) -> None:
        """A client that asks nothing keeps its session by pings."""
        self.ensemble.advance(60)
        self.assertEqual(self.kinds(), ["session", "connected"])

    def test_move(self) -> None:
        """A client moves with its session, and what it had asked is lost or was answered."""
        session, server = self.one.session_id, self.one.server
        asked = self.one.send(ops.CREATE, proto.CreateRequest(b"/a", b"", proto.OPEN_ACL, 0))
        assert asked is not None
        self.one.move()
        self.assertEqual((asked.status, self.one.connected), ("lost", False))
        self.assertIsNone(self.one.send(ops.SYNC, proto.PathRequest(b"/")))
        self.ensemble.until(lambda: self.one.connected, 5)
        self.assertEqual(self.one.session_id, session)
        self.assertNotEqual(self.one.server, server)
        self.one.move(server)
        self.ensemble.until(lambda: self.one.connected, 5)
        self.assertEqual(self.one.server, server)

    def test_watch_moves_along(self) -> None:
        """What a client watches is told at the server to which it has moved, once, before what shows it."""
        other = self.client(self.ensemble)
        self.create(self.ensemble, other, b"/a")
        self.ask(self.ensemble, self.one, ops.SYNC, proto.PathRequest(b"/a"))
        for op in (ops.GET_DATA, ops.EXISTS, ops.GET_CHILDREN2):
            self.ask(self.ensemble, self.one, op, proto.PathWatchRequest(b"/a", True))
        self.ask(self.ensemble, self.one, ops.EXISTS, proto.PathWatchRequest(b"/b", True))
        self.assertEqual([watch.kind for watch in self.one.watches], ["data", "child", "exist"])
        self.one.move()
        self.ask(self.ensemble, other, ops.SET_DATA, proto.SetDataRequest(b"/a", b"y", -1))
        self.create(self.ensemble, other, b"/b")
        self.ensemble.until(lambda: self.one.connected, 5)
        self.ensemble.advance(1)
        events = [entry.what for entry in self.one.log if entry.kind == "event"]
        self.assertEqual(sorted((event.type, event.path) for event in events), [(1, b"/b"), (3, b"/a")])
        self.assertIsNone(self.one.watches[1].over)

    def test_silent_server(self) -> None:
        """A client that hears nothing for two thirds of its timeout goes to another server."""
        server = next(each for each in self.ensemble.servers.values() if each.address == self.one.server)
        server.freeze()
        self.ensemble.until(lambda: self.one.server != server.address and self.one.connected, 10)
        self.assertEqual(self.kinds(), ["session", "connected", "disconnected", "connected"])

    def test_expired(self) -> None:
        """A client whose session is over gets a new one, and its watches and ephemeral nodes are gone."""
        first = self.one.session_id
        self.create(self.ensemble, self.one, b"/a", flags=1)
        self.ask(self.ensemble, self.one, ops.EXISTS, proto.PathWatchRequest(b"/a", True))
        self.one.vanish()
        self.ensemble.advance(10)
        self.one.start()
        self.ensemble.until(lambda: self.one.connected, 5)
        self.assertNotEqual(self.one.session_id, first)
        self.assertIn("expired", self.kinds())
        self.assertTrue(self.one.watches[0].dropped)
        read = self.ask(self.ensemble, self.one, ops.EXISTS, proto.PathWatchRequest(b"/a", False))
        self.assertFalse(read.ok)

    def test_close(self) -> None:
        """A session that was closed in order is over for good; its client does nothing until it is started."""
        closing = self.one.close_session()
        assert closing is not None
        self.assertIsNone(self.one.close_session())
        self.ensemble.advance(5)
        self.assertTrue(closing.ok)
        self.assertEqual(self.kinds()[-2:], ["closed", "disconnected"])
        self.assertEqual(self.one.session_id, 0)
        self.one.start()
        self.one.start()
        self.ensemble.until(lambda: self.one.connected, 5)

    def test_close_cut_short(self) -> None:
        """Who is cut off while he closes his session does not come back to it."""
        self.one.close_session()
        self.one.move()
        self.ensemble.advance(5)
        self.assertEqual((self.kinds()[-1], self.one.session_id), ("expired", 0))

    def test_nobody_there(self) -> None:
        """A client without a server goes on trying."""
        self.ensemble.power_loss()
        self.ensemble.advance(20)
        self.assertFalse(self.one.connected)
        self.ensemble.start()
        self.ensemble.until(lambda: self.one.connected, 60)

    def test_operations(self) -> None:
        """Each request keeps when it was asked and answered, and how."""
        made = self.create(self.ensemble, self.one, b"/a")
        again = self.create(self.ensemble, self.one, b"/a")
        self.assertEqual((made.ok, again.ok, made.status), (True, False, "answered"))
        self.assertLess(made.invoked, made.completed)
        self.assertIsInstance(made.server, Address)
        self.assertIn("CREATE", repr(made))
        both = self.ask(
            self.ensemble,
            self.one,
            ops.MULTI,
            [(ops.DELETE, proto.DeleteRequest(b"/a", -1)), (ops.CHECK, proto.CheckVersionRequest(b"/", -1))],
        )
        self.assertTrue(both.ok)
        self.assertIn("client 1", repr(self.one))

    def test_spurious_event(self) -> None:
        """An event that nobody asked for, and answers out of their order, are against the rules."""
        self.one._told(1, proto.WatcherEvent(1, 3, b"/x"))
        self.assertIn("nobody asked", self.one.wrong[0])
        self.one.wrong.clear()
        asked = self.one.send(ops.SYNC, proto.PathRequest(b"/"))
        assert asked is not None
        asked.xid += 1
        with self.assertRaises(AssertionError):
            self.ensemble.advance(5)
