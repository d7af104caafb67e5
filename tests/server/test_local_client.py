"""A client of a server in the same process: no socket, and all that a client can do."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred, gatherResults
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from zktwisted import ServerConfig, ZooKeeperService
from zktwisted.client import State
from zktwisted.errors import ConnectionLossError, SessionExpiredError


class LocalClientTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.service = ZooKeeperService(
            self.clock,
            ServerConfig(),
            [],
            store="memory",
            monotonic=self.clock.seconds,
            # Session ids are made of it: a start within the same millisecond would make the same again.
            wall_ms=lambda: int(self.clock.seconds() * 1000),
        )
        self.service.startService()
        self.addCleanup(self.stop)

    def stop(self) -> None:
        self.result(self.service.stopService())

    def result(self, deferred: Deferred[Any]) -> Any:
        """Let time pass until there is a result."""
        for _ in range(2000):
            if deferred.called and not deferred.paused:
                break
            self.clock.advance(0.01)
        return self.successResultOf(deferred)

    def test_operations(self) -> None:
        """Writes, reads, watches and the end of a session."""
        told: list[Any] = []

        async def program() -> None:
            async with self.service.local_client() as client, self.service.local_client(chroot="/app") as other:
                await client.create("/app", b"x")
                await client.get("/app", told.append)
                await client.set("/app", b"y")
                self.assertEqual("/app", told[0].path)
                await other.create("/mine", ephemeral=True)
                self.assertEqual(["mine"], await client.children("/app"))
                await gatherResults([client.get("/app") for _ in range(3000)])
                large = bytes(1_000_000)
                await gatherResults([client.set("/app", large) for _ in range(5)])
                self.assertEqual([large] * 5, [(await client.get("/app")).data for _ in range(5)])
                self.assertEqual("ip", (await client.who_am_i())[0].auth_scheme)
                await other.close()
                self.assertEqual([], await client.children("/app"))

        self.result(ensureDeferred(program()))
        self.assertEqual(0, self.service.status()["connections"])

    def test_no_socket(self) -> None:
        """The server listens nowhere."""
        self.assertEqual([], self.service.addresses)
        client = self.service.local_client()
        self.result(client.connect())
        self.result(client.close())

    def test_server_stops(self) -> None:
        """The client hears of it, and finds the server again when it is back; its session, kept in memory, is not."""
        client = self.service.local_client()
        self.result(client.connect())
        session = client.session_id
        self.result(self.service.stopService())
        self.clock.advance(0.1)
        self.assertEqual(State.CONNECTING, client.state)
        asked = client.exists("/")
        self.service.startService()
        self.clock.pump([0.1] * 300)
        self.failureResultOf(asked, SessionExpiredError, ConnectionLossError)
        self.result(client.when_connected())
        self.assertNotEqual(session, client.session_id)
        self.result(client.close())
