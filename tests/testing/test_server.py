"""The server in memory with its clients: time, and what can be broken."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from zktwisted.client import State
from zktwisted.errors import ConnectionLossError, NoNodeError
from zktwisted.testing import MemoryServer


class MemoryServerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = MemoryServer(seed=3, extended_types_enabled=True)
        self.addCleanup(self.server.close)

    def test_results(self) -> None:
        """What there is to be waited for comes, as a value or as an error."""
        client = self.server.client()
        self.assertEqual("/a", self.server.result(client.create("/a")))
        with self.assertRaises(NoNodeError):
            self.server.result(client.get("/none"))
        with self.assertRaises(AssertionError):
            self.server.result(Deferred())
        with self.assertRaises(AssertionError):
            self.server.until(lambda: False, limit=1)

    def test_time(self) -> None:
        """It passes when it is let; then everything happens at its time, so that sessions live on."""
        client = self.server.client(session_timeout=6.0)
        session = client.session_id
        self.server.result(client.create("/short", ttl_ms=10_000))
        called: list[float] = []
        self.server.clock.callLater(7.5, lambda: called.append(self.server.clock.seconds()))
        before = self.server.clock.seconds()
        self.server.advance(1000)
        self.assertEqual([before + 7.5], called)
        self.assertAlmostEqual(before + 1000, self.server.clock.seconds())
        self.assertEqual((State.CONNECTED, session), (client.state, client.session_id))
        self.assertIsNone(self.server.result(client.exists("/short")))

    def test_clock_of_the_test(self) -> None:
        """A test that has a clock gives it; both advance it."""
        clock = Clock()
        server = MemoryServer(clock)
        client = server.client(connect=False)
        connected = client.connect()
        clock.pump([0.01] * 20)
        self.assertEqual(State.CONNECTED, self.successResultOf(connected))
        server.close()
        self.assertEqual([], clock.getDelayedCalls())

    def test_same_each_time(self) -> None:
        """What chance decides is decided by the seed."""

        def story(seed: int) -> list[Any]:
            server = MemoryServer(seed=seed)
            clients = [server.client(), server.client()]
            for client in clients:
                server.drop(client)
            for client in clients:
                server.result(client.when_connected())
            told = [server.clock.seconds(), *(client.session for client in clients)]
            server.close()
            return told

        self.assertEqual(story(1), story(1))
        self.assertNotEqual(story(1), story(2))

    def test_drop(self) -> None:
        """A connection breaks, and the session goes on."""
        client = self.server.client()
        session = client.session_id
        asked = client.exists("/")
        self.server.drop(client)
        self.failureResultOf(asked, ConnectionLossError)
        self.server.result(client.when_connected())
        self.assertEqual(session, client.session_id)

    def test_cut(self) -> None:
        """A client that is cut off is alone until it is not."""
        client, other = self.server.client(), self.server.client()
        self.server.cut(client)
        self.server.cut(client)
        waiting = client.create("/a")
        self.server.advance(3)
        self.assertNoResult(waiting)
        self.assertEqual(State.CONNECTING, client.state)
        self.assertIsNone(self.server.result(other.exists("/a")))
        self.server.heal(client)
        self.server.result(waiting)

    def test_mute(self) -> None:
        """A request can be carried out and not be answered."""
        client, other = self.server.client(), self.server.client()
        self.server.mute(client)
        asked = client.create("/a")
        self.server.advance(1)
        self.assertNoResult(asked)
        self.assertIsNotNone(self.server.result(other.exists("/a")))
        self.server.heal(client)
        self.server.result(asked)

    def test_expire(self) -> None:
        """One session ends, others do not."""
        client, other = self.server.client(), self.server.client()
        self.server.result(client.create("/mine", ephemeral=True))
        session = other.session_id
        states: list[State] = []
        client.listen(states.append)
        self.server.expire(client)
        self.assertIn(State.EXPIRED, states)
        self.assertIsNone(self.server.result(other.exists("/mine")))
        self.assertEqual(session, other.session_id)
        self.server.result(client.create("/mine", ephemeral=True))
        final = self.server.client(renew=False)
        self.server.expire(final)
        self.assertEqual(State.EXPIRED, final.state)

    def test_close(self) -> None:
        """Nothing is left behind, whatever state clients are in."""
        clients = [self.server.client() for _ in range(3)]
        self.server.cut(clients[0])
        self.server.mute(clients[1])
        clients.append(self.server.client(connect=False))
        self.server.close()
        self.assertEqual([State.CLOSED] * 4, [client.state for client in clients])
        self.assertEqual([], self.server.clock.getDelayedCalls())
