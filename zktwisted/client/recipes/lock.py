"""
Locks: of one, of many readers or one writer, and of so many at a time.

Whoever waits keeps its place through lost connections, and gets another one when its session expires.  Whoever has a
lock has it as long as its session lives, which it cannot be sure of while it is not connected: L{Lock.held} tells.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from zktwisted.client.client import ZooKeeperClient
from zktwisted.client.recipes.contest import Contender, shielded
from zktwisted.client.states import State
from zktwisted.errors import SessionExpiredError

__all__ = ["Lock", "ReadLock", "Semaphore", "WriteLock"]


class Lock:
    """
    A lock that one has at a time, in the order of asking.

    It is an asynchronous context manager; an object is good for one holder at a time, again and again.
    """

    _kind = "__lock__"
    _waits_for = frozenset(["__lock__"])

    def __init__(self, client: ZooKeeperClient, path: str, identifier: bytes = b"", *, _limit: int = 1) -> None:
        """
        @param path: of the lock: a node that is made if it is not there.
        @param identifier: who the client is, for L{contenders}.
        """
        self._client = client
        self._contender = Contender(client, path, self._kind, self._waits_for, _limit, identifier)
        self._state = "free"
        self.path = path

    @property
    def held(self) -> bool:
        """Whether it is held for certain: acquired, by the session that lives, and the client is connected."""
        return self._state == "acquired" and self._client.state.connected and self._contender.alive

    def acquire(self) -> Deferred[None]:
        """
        Wait for the lock.

        @return: fires when it is held; cancelled (C{addTimeout} does that), the place in the line is given up.
        """
        # Who was let go of stands in the line a little longer, and is passed like any other.
        if self._state not in ("free", "being released"):
            raise ValueError(f"{self.path} is {self._state} by this object")
        self._state = "being acquired"
        return Deferred.fromCoroutine(self._acquire())

    async def _acquire(self) -> None:
        while True:
            try:
                await self._contender.join()
                await self._contender.turn()
            except SessionExpiredError:
                # The place is lost; whoever still wants the lock begins again at the end of the line.
                if self._client.ended:
                    self._state = "free"
                    raise
            except BaseException:
                try:
                    await self._contender.leave()
                finally:
                    self._state = "free"
                raise
            else:
                self._state = "acquired"
                return

    def release(self) -> Deferred[None]:
        """
        Let go; who cancels that only ceases to wait for it.

        @return: fires when others can have it.  Of a lock that was lost with its session nothing is left to do.
        """
        if self._state != "acquired":
            raise ValueError(f"{self.path} is not held by this object")
        self._state = "being released"
        return shielded(self._release())

    async def _release(self) -> None:
        try:
            await self._contender.leave()
        finally:
            if self._state == "being released":
                self._state = "free"

    def when_lost(self) -> Deferred[None]:
        """
        Return what fires when the session by which the lock is held is over: others may have it then.

        If it is not held, not even by a session that is out of reach, it fires at once.
        """
        stop = self._client.listen(lambda state: check(state))
        lost: Deferred[None] = Deferred(lambda _: stop())

        def check(state: State) -> None:
            if (self._client.ended or not self._contender.alive) and not lost.called:
                stop()
                lost.callback(None)

        check(self._client.state)
        return lost

    def contenders(self) -> Deferred[list[bytes]]:
        """Return the identifiers of who has the lock and who waits for it, in their order."""
        return Deferred.fromCoroutine(self._contender.everybody())

    async def __aenter__(self) -> Lock:
        await self.acquire()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.release()


class WriteLock(Lock):
    """The lock of one who writes: no other, writer or reader, has it meanwhile."""

    _waits_for = frozenset(["__lock__", "__rlock__"])


class ReadLock(Lock):
    """The lock of those who read: many have it at a time, while no writer has."""

    _kind = "__rlock__"


class Semaphore(Lock):
    """A lock that so many have at a time, in the order of asking.  All who use a path must agree on the number."""

    _kind = "__lease__"
    _waits_for = frozenset(["__lease__"])

    def __init__(self, client: ZooKeeperClient, path: str, leases: int = 1, identifier: bytes = b"") -> None:
        """@param leases: how many may have it."""
        if leases < 1:
            raise ValueError(f"{leases} leases are none")
        super().__init__(client, path, identifier, _limit=leases)
