"""A program on Twisted, tested with a server, clients and a clock that are all in the test."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.trial.unittest import SynchronousTestCase

from zktwisted import ZooKeeperClient
from zktwisted.errors import NodeExistsError
from zktwisted.testing import MemoryServer


class Presence:
    """The program under test: it wants a name for itself alone, and asks every half minute until it has it."""

    def __init__(self, clock: IReactorTime, client: ZooKeeperClient, name: str) -> None:
        self.clock = clock
        self.client = client
        self.path = f"/names/{name}"
        self.present = False

    async def appear(self) -> None:
        try:
            await self.client.create(self.path, ephemeral=True)
        except NodeExistsError:
            self.clock.callLater(30, lambda: Deferred.fromCoroutine(self.appear()))
        else:
            self.present = True


class PresenceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = MemoryServer()
        self.addCleanup(self.server.close)
        self.first, self.second = (
            Presence(self.server.clock, self.server.client(session_timeout=10.0), "one") for _ in range(2)
        )
        self.server.result(self.first.client.create("/names"))
        self.server.result(Deferred.fromCoroutine(self.first.appear()))
        self.server.result(Deferred.fromCoroutine(self.second.appear()))

    def test_connection_breaks(self) -> None:
        """Who comes back in time has kept his name."""
        self.server.drop(self.first.client)
        self.server.advance(100)
        self.assertFalse(self.second.present)

    def test_session_expires(self) -> None:
        """The name of one who is away for too long goes to the next who asks."""
        self.server.cut(self.first.client)
        self.server.advance(9)
        self.assertFalse(self.second.present)
        self.server.advance(30)
        self.assertTrue(self.second.present)
