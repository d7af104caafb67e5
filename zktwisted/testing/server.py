"""
A server in memory, its clients, and the clock that both of them live by: for tests of programs on Twisted.

Nothing happens but what a test lets happen, and each time the same: no port, no thread, no file, no second of waiting.
The server is a real one, and so are the clients; what is between them can be broken.

It knows one server; L{zktwisted.testing.MemoryEnsemble} has many.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from zktwisted.client import ZooKeeperClient
from zktwisted.config import ServerConfig
from zktwisted.config.ensemble import Address
from zktwisted.server.service import ZooKeeperService
from zktwisted.testing.network import MemoryNetwork

__all__ = ["MemoryServer"]

T = TypeVar("T")

_SERVER = "10.0.0.1"
_PORT = 2181
_BEGINNING_MS = 1_700_000_000_000


class MemoryServer:
    """
    A server and its clients.

    @ivar clock: the only clock there is; a program under test has it for its reactor.
    @ivar service: the server.
    @ivar network: what is between it and its clients: each of them is a host of its own.
    """

    def __init__(self, clock: Clock | None = None, *, seed: int = 0, **settings: Any) -> None:
        """
        Start a server, and wait until it serves.

        @param clock: a clock that the test has already.
        @param seed: decides all that is left to chance.
        @param settings: of L{ServerConfig<zktwisted.ServerConfig>}.
        """
        self.clock = clock if clock is not None else Clock()
        self.network = MemoryNetwork(self.clock, Random(seed), chopping=0.0)
        self._seed = seed
        self._hosts: dict[ZooKeeperClient, str] = {}
        self.service = ZooKeeperService(
            self.clock,
            ServerConfig(**settings),
            [self.network.host(_SERVER).server(Address("", _PORT))],
            store="memory",
            monotonic=self.clock.seconds,
            wall_ms=lambda: _BEGINNING_MS + int(self.clock.seconds() * 1000),
            entropy=Random(seed),
        )
        self.service.startService()
        self.result(self.service.when_serving())

    def client(self, *, connect: bool = True, **options: Any) -> ZooKeeperClient:
        """
        Make a client.

        @param connect: wait until it is connected; otherwise the test has to start it.
        @param options: of L{ZooKeeperClient<zktwisted.ZooKeeperClient>}.
        """
        number = len(self._hosts) + 1
        address = f"10.1.{number >> 8}.{number & 255}"
        endpoint = self.network.host(address).client(Address(_SERVER, _PORT), timeout=5.0)
        client = ZooKeeperClient(self.clock, endpoint, **{"entropy": Random(self._seed + number), **options})
        self._hosts[client] = address
        if connect:
            self.result(client.connect())
        return client

    # -- time

    def _step(self, end: float) -> bool:
        """Let the next thing happen that falls due until C{end}; return whether there was one."""
        due = min((call.getTime() for call in self.clock.getDelayedCalls()), default=end + 1)
        if due > end:
            return False
        self.clock.advance(max(due - self.clock.seconds(), 0))
        return True

    def advance(self, seconds: float) -> None:
        """Let time pass, and in it everything at its time: a client that has to ping pings."""
        end = self.clock.seconds() + seconds
        while self._step(end):
            pass
        self.clock.advance(max(end - self.clock.seconds(), 0))

    def until(self, condition: Callable[[], object], limit: float = 60.0) -> None:
        """
        Let time pass until something is so.

        @param limit: seconds of the clock.
        @raise AssertionError: it is not so by then.
        """
        end = self.clock.seconds() + limit
        while not condition():
            if not self._step(end):
                raise AssertionError(f"not so after {limit} seconds")

    def result(self, deferred: Deferred[T], limit: float = 60.0) -> T:
        """Let time pass until there is a result, and return it, or raise the error that there is."""
        results: list[Any] = []
        deferred.addBoth(results.append)
        self.until(lambda: results, limit)
        if isinstance(results[0], Failure):
            results[0].raiseException()
        found: T = results[0]
        return found

    # -- faults

    def drop(self, client: ZooKeeperClient) -> None:
        """Break a client's connection; it will make another."""
        self.network.reset(self._hosts[client], _SERVER)
        self.until(lambda: not client.state.connected)

    def cut(self, client: ZooKeeperClient) -> None:
        """Break a client's connection, and let it make no other before L{heal}."""
        self.network.refuse(self._hosts[client], _SERVER)
        if client.state.connected:
            self.drop(client)

    def mute(self, client: ZooKeeperClient) -> None:
        """Let nothing come from the server to a client before L{heal}: what it asks for is done and not answered."""
        self.network.cut(_SERVER, self._hosts[client])

    def heal(self, client: ZooKeeperClient) -> None:
        """Let a client connect again, and hear what was held up."""
        self.network.mend(self._hosts[client], _SERVER)
        self.network.mend(_SERVER, self._hosts[client])

    def expire(self, client: ZooKeeperClient) -> None:
        """Let a client's session expire, and the client have the next one, if it renews it; other sessions live on."""
        session = client.session_id
        self.cut(client)
        self.until(lambda: not self._lives(session), limit=3600.0)
        self.heal(client)
        self.until(lambda: client.session_id != session and (client.state.connected or client.ended))

    def _lives(self, session_id: int) -> bool:
        core = self.service.core
        return core is not None and session_id in core.timeouts

    def close(self) -> None:
        """Close all clients and the server; nothing is left on the clock."""
        self.network.heal()
        for client in self._hosts:
            self.result(client.close())
        self.result(self.service.stopService())
        self.advance(1)  # what is on its way arrives
