"""Runs a coroutine that uses our client on a reactor of its own, to its end."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.selectreactor import SelectReactor
from twisted.python.failure import Failure

from tests.interop.process import PATIENCE
from zktwisted import ZooKeeperClient

Program = Callable[..., Coroutine[Any, Any, None]]


class Zoo:
    """
    What a test's coroutine is given: a reactor, and clients that are closed at the end.

    The reactor is not the global one: nothing of the client's needs that.
    """

    def __init__(self, hosts: str) -> None:
        self.reactor = SelectReactor()
        self.hosts = hosts
        self.clients: list[ZooKeeperClient] = []

    def client(self, hosts: str | None = None, **options: Any) -> ZooKeeperClient:
        """Make a client, not started."""
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
            try:
                await program(self, *arguments)
            finally:
                for client in self.clients:
                    await client.close()

        def start() -> None:
            done = Deferred.fromCoroutine(whole()).addTimeout(PATIENCE, self.reactor)
            done.addBoth(results.append).addBoth(lambda _: self.reactor.stop())

        self.reactor.callWhenRunning(start)
        self.reactor.run(installSignalHandlers=False)
        if isinstance(results[0], Failure):
            results[0].raiseException()


class Told:
    """A watcher or listener that remembers what it was told, and can be awaited."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._waiting: list[tuple[Callable[[list[Any]], object], Deferred[None]]] = []

    def __call__(self, value: Any) -> None:
        self.values.append(value)
        for check, waiter in list(self._waiting):
            if check(self.values):
                self._waiting.remove((check, waiter))
                waiter.callback(None)

    def until(self, check: Callable[[list[Any]], object]) -> Deferred[None]:
        """Wait until ``check`` likes the values told so far."""
        waiter: Deferred[None] = Deferred()
        if check(self.values):
            waiter.callback(None)
        else:
            self._waiting.append((check, waiter))
        return waiter
