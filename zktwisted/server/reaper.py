"""
The reaper: empty containers and outlived TTL nodes go.

It finds nothing out by itself and deletes nothing by itself: candidates come from the core, and each goes back to it as
a request like any other.  What is kept here is the pace.

Rules: spec: server-semantics 7.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from zktwisted.server.timers import CallLater

__all__ = ["Reaper"]

log = Logger()

#: Deletions are handed out this often, in seconds: many a time for each, if many are allowed.
_STEP = 0.05


class Reaper:
    """Deletes what may go, so many a minute."""

    def __init__(
        self,
        call_later: CallLater,
        candidates: Callable[[], list[bytes]],
        delete: Callable[[bytes], None],
        per_minute: int,
    ) -> None:
        """
        @param candidates: gives the paths that may go now.
        @param delete: submits the deletion of one; it is decided there whether it still may go.
        @param per_minute: how many may be submitted in a minute.
        """
        self._call_later = call_later
        self._candidates = candidates
        self._delete = delete
        pace = 60.0 / max(per_minute, 1)
        self._count = max(1, int(_STEP / pace))
        self._pause = pace * self._count
        self._waiting: deque[bytes] = deque()
        self._call: IDelayedCall | None = None

    def run(self) -> None:
        """Look for candidates and begin with them; if there are some left of the last time, go on with those."""
        if self._call is None:
            self._waiting.extend(self._candidates())
            self._step()

    def stop(self) -> None:
        """Forget what is left."""
        self._waiting.clear()
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _step(self) -> None:
        self._call = None
        waiting = self._waiting
        for _ in range(min(self._count, len(waiting))):
            path = waiting.popleft()
            log.info("Attempting to delete candidate container: {path}", path=path.decode("utf-8", "replace"))
            self._delete(path)
        if waiting:
            self._call = self._call_later(self._pause, self._step)
