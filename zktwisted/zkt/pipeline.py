"""
Many requests under way at a time, and not too many: their answers in order, and their first failure.

Nothing here knows what is asked for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

__all__ = ["WINDOW", "Window", "ignored", "in_order"]

K = TypeVar("K")
T = TypeVar("T")

WINDOW = 256
"""Requests under way at a time."""
_BYTES = 4 * 1024 * 1024
"""And bytes in them."""


def ignored(asked: Deferred[Any]) -> None:
    """Nobody waits for this any more."""
    asked.addErrback(lambda _: None)
    asked.cancel()


async def in_order(
    items: Iterable[K], ask: Callable[[K], Deferred[T]], window: int = WINDOW
) -> AsyncGenerator[tuple[K, T | Failure], None]:
    """
    Ask for each item, and yield it with its answer, or with its failure, in the order of the items.

    @param items: is asked for the next one only when there is room for it.
    """
    pending: deque[tuple[K, Deferred[Any]]] = deque()
    source = iter(items)
    more = True
    try:
        while more or pending:
            while more and len(pending) < window:
                try:
                    item = next(source)
                except StopIteration:
                    more = False
                else:
                    pending.append((item, ask(item)))
            if pending:
                first, asked = pending.popleft()
                yield first, await _outcome(asked)
    finally:
        for _, asked in pending:
            ignored(asked)


async def _outcome(asked: Deferred[Any]) -> Any:
    """Wait for a result, or for a failure as a value; but whoever interrupts the waiting ends it."""
    try:
        return await asked
    except CancelledError:
        raise
    except Exception:  # noqa: BLE001 (handed on as a value)
        return Failure()


class Window:
    """Writes under way: who adds one waits for room, and hears of the first failure of those before it."""

    def __init__(self, size: int = WINDOW) -> None:
        self._size = size
        self._under_way = self._bytes = 0
        self._failure: Failure | None = None
        self._waiting: Deferred[None] | None = None
        self._asked: dict[Deferred[Any], None] = {}

    async def add(self, asked: Awaitable[Any], size: int = 0) -> None:
        """
        Let a write be under way.

        @param asked: a Deferred or a coroutine.
        @param size: bytes that it keeps in memory.
        @raise Exception: what an earlier one failed with.
        """
        task: Deferred[Any] = asked if isinstance(asked, Deferred) else Deferred.fromCoroutine(asked)  # type: ignore[arg-type]
        self._under_way += 1
        self._bytes += size
        self._asked[task] = None
        task.addBoth(self._answered, task, size)
        await self._until(lambda: self._under_way < self._size and self._bytes < _BYTES)

    async def drained(self) -> None:
        """Wait until all are done; fails with what one of them failed with."""
        await self._until(lambda: not self._under_way)

    def give_up(self) -> None:
        """Wait for nothing any more."""
        for task in list(self._asked):
            ignored(task)

    async def _until(self, satisfied: Callable[[], bool]) -> None:
        while self._failure is None and not satisfied():
            self._waiting = Deferred()
            await self._waiting
        if self._failure is not None:
            self._failure.raiseException()

    def _answered(self, result: Any, task: Deferred[Any], size: int) -> None:
        self._under_way -= 1
        self._bytes -= size
        self._asked.pop(task, None)
        if isinstance(result, Failure) and self._failure is None:
            self._failure = result
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.called:
            waiting.callback(None)
