"""
What the recipes are made of: asking again after a lost connection, waiting for an event, and a place in a line.

A L{Contender} is an ephemeral sequential node among others.  Its name has something in it that nobody else's has, so
that it is found again when the answer to its creation was lost.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar
from uuid import uuid4

from twisted.internet.defer import Deferred

from zktwisted.client.client import ZooKeeperClient
from zktwisted.client.states import State, WatchedEvent
from zktwisted.errors import ConnectionLossError, NodeExistsError, NoNodeError, SessionExpiredError

__all__ = ["Contender", "Wakeup", "over", "persist"]

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


def over(client: ZooKeeperClient) -> bool:
    """Whether there will be no other session: whoever waits for something waits in vain."""
    return client.state in (State.CLOSED, State.EXPIRED, State.AUTH_FAILED)


class Wakeup:
    """A watcher that can be awaited: once, for whichever event comes first."""

    def __init__(self) -> None:
        self._told: Deferred[None] = Deferred()

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
        self._own, self.name = uuid4().hex, None
        prefix = f"{self._path}/{self._own}{self._kind}"
        while self.name is None:
            try:
                path = await client.create(prefix, self._data, ephemeral=True, sequential=True)
            except NoNodeError:
                await persist(client.ensure_path, self._path)
            except ConnectionLossError:
                self.name = await self._find()
            else:
                self.name = path.rpartition("/")[2]
        self._session = client.session_id

    async def _find(self) -> str | None:
        """Return its node's name, if the answer to the creation was all that was lost."""
        try:
            names = await persist(self._client.children, self._path)
        except NoNodeError:
            return None
        return next((name for name in names if name.startswith(self._own)), None)

    async def turn(self) -> None:
        """
        Wait for its turn.

        @raise SessionExpiredError: its node is gone.
        """
        client = self._client
        while True:
            wakeup = Wakeup()
            several = self._limit > 1
            names = await persist(self._names, wakeup if several else None)
            # The server may still show the node of a session that is over.
            if self.name not in names or not self.alive:
                raise SessionExpiredError(path=f"{self._path}/{self.name}")
            before = [name for name in names[: names.index(self.name)] if self._kind_of(name) in self._waits_for]
            if len(before) < self._limit:
                return
            if not several:
                # Only the one before: when it goes, nobody else is woken.
                path = f"{self._path}/{before[-1]}"
                if await persist(client.exists, path, wakeup) is None:
                    continue
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

    async def leave(self) -> None:
        """Give the place up; also when it is not known whether there is one."""
        try:
            # A creation whose answer nobody waited for was carried out before what is asked now.
            name = self.name or await self._find()
            self.name = None
            if name is not None:
                await persist(self._client.delete, f"{self._path}/{name}")
        except (NoNodeError, SessionExpiredError):
            return  # the node went with the session

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
