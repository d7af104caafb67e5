"""
What the recipes are made of: asking again after a lost connection, waiting for an event, and a place in a line.

A request whose connection was lost may be carried out when the client is with another server already, which hears of it
later.  Whoever wants to know what has become of one asks that server to L{catch_up} first.

A L{Contender} is an ephemeral sequential node among others.  Its name has something in it that nobody else's has, so
that it is found again when the answer to its creation was lost.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec, TypeVar
from uuid import uuid4

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from zktwisted.client.client import ZooKeeperClient
from zktwisted.client.states import WatchedEvent
from zktwisted.errors import AuthFailedError, ConnectionLossError, NodeExistsError, NoNodeError, SessionExpiredError

__all__ = ["GONE", "Contender", "Wakeup", "after", "catch_up", "make", "persist", "shielded", "to_the_end"]

P = ParamSpec("P")
T = TypeVar("T")

#: What stands before the number of a sequential node, and what kind of contender that is.
_SEQUENCE = re.compile(r"(__\w+?__|-lock-)(\d{10})$")


async def persist(ask: Callable[P, Awaitable[T]], *arguments: P.args, **named: P.kwargs) -> T:
    """Ask until there is an answer; for requests that do no harm when they are carried out twice."""
    while True:
        try:
            return await ask(*arguments, **named)
        except ConnectionLossError:
            continue  # what is asked next waits for the next connection


async def catch_up(client: ZooKeeperClient, path: str) -> None:
    """Let the server show whatever became of all that was asked before, of other servers too."""
    await persist(client.sync, path)


def shielded(work: Coroutine[Any, Any, T]) -> Deferred[T]:
    """Begin what is done to its end; who cancels the Deferred only ceases to wait."""
    waiter: Deferred[T] = Deferred()
    Deferred.fromCoroutine(work).chainDeferred(waiter)
    return waiter


def after(work: Deferred[None]) -> Deferred[None]:
    """Return what fires behind some work whose result goes elsewhere; who cancels it does not cancel the work."""
    behind: Deferred[None] = Deferred()
    work.addCallback(behind.callback)
    return behind


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Do something to its end and return what it returns, whoever cancels that."""
    results: list[Any] = []
    done = Deferred.fromCoroutine(work).addBoth(results.append)
    while not results:
        try:
            await after(done)
        except CancelledError:
            continue
    if isinstance(results[0], Failure):
        results[0].raiseException()
    found: T = results[0]
    return found


GONE = (NoNodeError, SessionExpiredError, AuthFailedError)
"""Why there is nothing left to be deleted: it is not there, or it goes with the session."""


class Wakeup:
    """
    A watcher that can be awaited: once, for whichever event comes first.

    It is a context manager, behind which the client forgets it: who gives up a hundred times leaves nothing behind.
    """

    def __init__(self, client: ZooKeeperClient, *paths: str) -> None:
        """@param paths: where it may be set."""
        self._client = client
        self._paths = paths
        self._told: Deferred[None] = Deferred()

    def __enter__(self) -> Wakeup:
        return self

    def __exit__(self, *_: object) -> None:
        for path in self._paths:
            self._client.unwatch(path, self)

    def __call__(self, event: WatchedEvent) -> None:
        """See L{zktwisted.client.watches.Watcher}."""
        self.wake()

    def wake(self) -> None:
        """Let who waits go on."""
        if not self._told.called:
            self._told.callback(None)

    def wait(self) -> Deferred[None]:
        """Return what fires with the first event."""
        return self._told


class Contender:
    """
    One place in a line below a path.

    @ivar name: of its node, C{None} while it has none.
    """

    def __init__(
        self, client: ZooKeeperClient, path: str, kind: str, waits_for: frozenset[str], limit: int, data: bytes
    ) -> None:
        """
        @param kind: what stands in the name before the number.
        @param waits_for: kinds of those that have to leave before it has its turn.
        @param limit: how many of them may be there with it, itself counted.
        @param data: of its node: who it is.
        """
        self._client = client
        self._path = path
        self._kind = kind
        self._waits_for = waits_for
        self._limit = limit
        self._data = data
        self._own = uuid4().hex
        self._session = 0
        self.name: str | None = None

    @property
    def alive(self) -> bool:
        """Whether its node is of the client's present session."""
        return self.name is not None and self._session == self._client.session_id

    async def join(self) -> None:
        """Get a place at the end of the line."""
        client = self._client
        own, self.name = uuid4().hex, None
        self._own = own
        prefix = f"{self._path}/{own}{self._kind}"
        while self.name is None:
            try:
                path = await client.create(prefix, self._data, ephemeral=True, sequential=True)
            except NoNodeError:
                await persist(client.ensure_path, self._path)
            except ConnectionLossError:
                self.name = await self._find(own)
            else:
                self.name = path.rpartition("/")[2]
        self._session = client.session_id

    async def _find(self, own: str) -> str | None:
        """Return its node's name, if the answer to the creation was all that was lost."""
        await catch_up(self._client, self._path)
        try:
            names = await persist(self._client.children, self._path)
        except NoNodeError:
            return None
        return next((name for name in names if name.startswith(own)), None)

    async def turn(self) -> None:
        """
        Wait for its turn.

        @raise SessionExpiredError: its node is gone.
        """
        while True:
            with Wakeup(self._client, self._path) as wakeup:
                names = await persist(self._names, wakeup if self._limit > 1 else None)
                # The server may still show the node of a session that is over.
                if self.name not in names or not self.alive:
                    raise SessionExpiredError(path=f"{self._path}/{self.name}")
                before = [name for name in names[: names.index(self.name)] if self._kind_of(name) in self._waits_for]
                if len(before) < self._limit:
                    return
                if self._limit > 1:
                    await wakeup.wait()
                else:
                    await self._end_of(f"{self._path}/{before[-1]}")

    async def _end_of(self, path: str) -> None:
        """Wait for the one before: when that goes, nobody else is woken."""
        with Wakeup(self._client, path) as wakeup:
            if await persist(self._client.exists, path, wakeup) is not None:
                await wakeup.wait()

    async def _names(self, watch: Wakeup | None) -> list[str]:
        """Return the line: the names of all contenders, the first first."""
        try:
            names = await self._client.children(self._path, watch)
        except NoNodeError:
            return []
        return sorted(filter(_SEQUENCE.search, names), key=lambda name: name[-10:])

    def _kind_of(self, name: str) -> str:
        found = _SEQUENCE.search(name)
        return found.group(1).replace("-lock-", "__lock__") if found else ""

    def leave(self) -> Deferred[None]:
        """Give the place up, to the end; also when it is not known whether there is one."""
        name, self.name = self.name, None
        return shielded(self._leave(name, self._own))

    async def _leave(self, name: str | None, own: str) -> None:
        try:
            # A creation whose answer nobody waited for was carried out before what is asked now.
            name = name or await self._find(own)
            if name is not None:
                await persist(self._client.delete, f"{self._path}/{name}")
        except GONE:
            return

    async def everybody(self) -> list[bytes]:
        """Return the data of all contenders, the first first."""
        found = []
        for name in await persist(self._names, None):
            try:
                data, _stat = await persist(self._client.get, f"{self._path}/{name}")
            except NoNodeError:
                continue
            found.append(data or b"")
        return found


async def make(client: ZooKeeperClient, path: str, data: bytes = b"") -> None:
    """Make a node, and those above it, if they are not there."""
    while True:
        try:
            await persist(client.create, path, data)
        except NodeExistsError:
            return
        except NoNodeError:
            await persist(client.ensure_path, path.rpartition("/")[0])
        else:
            return
