"""Runs a coroutine that uses our client on a reactor of its own, to its end."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.selectreactor import SelectReactor
from twisted.python.failure import Failure

from tests.interop.process import PATIENCE
from zktwisted import ServerConfig, ZooKeeperClient, ZooKeeperService

Program = Callable[..., Coroutine[Any, Any, None]]


class Zoo:
    """
    What a test's coroutine is given: a reactor, and clients that are closed at the end.

    The reactor is not the global one: nothing of the client's needs that.

    @ivar service: a server on the same reactor, if there are no hosts: clients are its local ones then.
    """

    def __init__(self, hosts: str = "", **settings: Any) -> None:
        """@param settings: of that server."""
        self.reactor = SelectReactor()
        self.hosts = hosts
        self.clients: list[ZooKeeperClient] = []
        self.service = None if hosts else ZooKeeperService(self.reactor, ServerConfig(**settings), [], store="memory")

    def client(self, hosts: str | None = None, **options: Any) -> ZooKeeperClient:
        """Make a client, not started."""
        if self.service is not None and hosts is None:
            made = self.service.local_client(**options)
        else:
            made = ZooKeeperClient(self.reactor, hosts or self.hosts, **options)
        self.clients.append(made)
        return made

    async def connected(self, hosts: str | None = None, **options: Any) -> ZooKeeperClient:
        """Make a client, and wait until it is connected."""
        client = self.client(hosts, **options)
        await client.connect()
        return client

    def run(self, program: Program, *arguments: Any) -> None:
        """Run a coroutine function with this object, and what else it takes."""
        results: list[Any] = []

        async def whole() -> None:
            if self.service is not None:
                self.service.startService()
                await self.service.when_serving()
            try:
                await program(self, *arguments)
            finally:
                for client in self.clients:
                    await client.close()
                if self.service is not None:
                    await self.service.stopService()

        def start() -> None:
            done = Deferred.fromCoroutine(whole()).addTimeout(2 * PATIENCE, self.reactor)
            done.addBoth(results.append).addBoth(lambda _: self.reactor.stop())

        self.reactor.callWhenRunning(start)
        self.reactor.run(installSignalHandlers=False)
        if isinstance(results[0], Failure):
            results[0].raiseException()


