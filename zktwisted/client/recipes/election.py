"""
The election of one among many who does something, and of the next when that one is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from zktwisted.client.client import ZooKeeperClient
from zktwisted.client.recipes.contest import after
from zktwisted.client.recipes.lock import Lock

__all__ = ["LeaderElection"]

T = TypeVar("T")


class LeaderElection:
    """All who L{run} on one path; one of them leads."""

    def __init__(self, client: ZooKeeperClient, path: str, identifier: bytes = b"") -> None:
        """
        @param path: a node that is made if it is not there.
        @param identifier: who the client is, for L{contenders}.
        """
        self._lock = Lock(client, path, identifier)

    @property
    def leading(self) -> bool:
        """Whether this one leads for certain: while it is not connected another one may."""
        return self._lock.held

    def run(self, lead: Callable[[], Coroutine[Any, Any, T]]) -> Deferred[T]:
        """
        Stand for election until C{lead} has come to its end.

        When the session is over while C{lead} runs, C{lead} is cancelled, and called again when the election is won
        again.  When the connection is lost it goes on; L{leading} tells.

        @param lead: an C{async def} that is called when the election is won.
        @return: fires with what C{lead} returns; the next one leads then.  Cancelled, it cancels C{lead} and stands no
            more.
        """
        return Deferred.fromCoroutine(self._run(lead))

    async def _run(self, lead: Callable[[], Coroutine[Any, Any, T]]) -> T:
        while True:
            async with self._lock:
                results: list[T | Failure] = []
                work = Deferred.fromCoroutine(lead()).addBoth(results.append)
                deposed = self._lock.when_lost()
                deposed.addCallbacks(lambda _, work=work: work.cancel(), lambda failure: failure.trap(CancelledError))
                try:
                    await after(work)
                    again = deposed.called
                except CancelledError:  # by the program: who waits here is not cancelled with the work
                    again = False
                    work.cancel()
                    await after(work)
                finally:
                    deposed.cancel()
                result = results[0]
                if not isinstance(result, Failure):
                    return result
                if not again or not result.check(CancelledError):
                    result.raiseException()

    def contenders(self) -> Deferred[list[bytes]]:
        """Return the identifiers of all who stand, the leader's first."""
        return self._lock.contenders()
