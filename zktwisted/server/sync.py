"""
L{GroupCommit}: the Sync stage, which makes transactions durable many at a time.

What one turn of the reactor brings shares a flush, and what arrives while a flush is in flight shares the next one
(spec: quorum 11.2, storage 2.4).  Here is decided when to flush, and the order in which what is durable is handed on;
what is handed on (a request, the token of a machine) is not looked at, and what its being durable means is known to
whoever asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from zktwisted.store.database import Storage

if TYPE_CHECKING:
    from zktwisted.config import ServerConfig
    from zktwisted.server.timers import CallLater

__all__ = ["GroupCommit"]

log = Logger()

Item = TypeVar("Item")


def _nothing() -> None:
    """Nobody wants to know."""


class GroupCommit(Generic[Item]):
    """
    One log's waiting transactions, with at most one flush in flight.

    @ivar in_flight: items that were taken and not yet handed on.
    """

    __slots__ = (
        "_after_batch",
        "_batch_max",
        "_call",
        "_call_later",
        "_committing",
        "_ended",
        "_failed",
        "_flush_delay",
        "_flushed",
        "_gathered",
        "_idle",
        "_in_commit",
        "_now",
        "_persisted",
        "_poll_time",
        "_released",
        "_size",
        "_stopped",
        "_storage",
        "_waited_for",
        "in_flight",
    )

    def __init__(
        self,
        storage: Storage,
        config: ServerConfig,
        call_later: CallLater,
        now: Callable[[], float],
        persisted: Callable[[list[Item]], None],
        failed: Callable[[Exception], None],
        *,
        released: Callable[[], None] = _nothing,
        after_batch: Callable[[], None] = _nothing,
    ) -> None:
        """
        @param now: elapsed time, seconds.
        @param persisted: handed each batch that is durable, in the order of L{add}.
        @param failed: told once that the store failed, or what C{persisted} raised; nothing is handed on after that.
        @param released: called behind C{persisted}, when the batch does not count in L{in_flight} any more.
        @param after_batch: called last, when what has gathered meanwhile is on its way.
        """
        self._storage = storage
        self._call_later = call_later
        self._now = now
        self._persisted = persisted
        self._failed = failed
        self._released = released
        self._after_batch = after_batch
        self._flush_delay = config.flush_delay / 1000
        self._poll_time = config.max_write_queue_poll_time / 1000
        self._batch_max = config.max_batch_size
        self.in_flight = 0
        self._gathered: list[Item] = []
        self._size = 0
        self._call: Any = None
        self._committing = self._in_commit = self._stopped = False
        # Whether a batch has been handed on, and C{after_batch} waits for the next flush to begin.
        self._ended = False
        # When the last flush began, and how much had gathered when it was last waited for more.
        self._flushed = 0.0
        self._waited_for = 0
        self._idle: list[Deferred[None]] = []

    def add(self, entries: Sequence[tuple[int, bytes]], item: Item) -> None:
        """
        Log transactions, (zxid, entry) each.

        @param item: what is handed on when they are durable.
        """
        if not self._stopped:
            self._storage.append(entries)
            self._gather((item,), len(entries))

    def add_run(self, entries: Sequence[tuple[int, bytes]], items: Sequence[Item]) -> None:
        """
        Log transactions, (zxid, entry) each.

        @param items: handed on when they are durable: one for each, and what is to come in its turn between them.
        """
        if not self._stopped:
            self._storage.append(entries)
            self._gather(items, len(items))

    def join(self, item: Item) -> None:
        """Take what has no transaction of its own, and is to be handed on in its turn."""
        if not self._stopped:
            self._gather((item,), 1)

    def _gather(self, items: Sequence[Item], size: int) -> None:
        """
        Take what is to be handed on behind the next flush.

        @param size: what it counts for where the size of a batch is limited.
        """
        self.in_flight += len(items)
        self._gathered += items
        self._size += size
        if self._committing:
            return
        if self._call is None:
            # At the end of the turn: all connections that are readable now share one flush.
            self._call = self._call_later(0, self._turn_ends)
        elif self._size >= self._batch_max:
            self._commit()

    def idle(self) -> Deferred[None]:
        """Wait until nothing is in flight; fires also when nothing ever will be handed on any more."""
        if not self.in_flight or self._stopped:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._idle.append(waiting)
        return waiting

    def stop(self) -> None:
        """Hand nothing on any more."""
        self._end()
        self._tell_idle()

    def _end(self) -> None:
        self._stopped = True
        self._gathered = []
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _tell_idle(self) -> None:
        idle, self._idle = self._idle, []
        for waiting in idle:
            waiting.callback(None)

    def _look_first(self) -> None:
        """
        Let a turn pass before what has gathered is flushed: who has just been answered shares the flush.

        Clients that wait for each answer would otherwise part into two groups, each with flushes of its own.  A reactor
        polls between this call and what it asks for; it need not between the end of a flush and this call.
        """
        self._call = self._call_later(0, self._turn_ends)

    def _turn_ends(self) -> None:
        """Flush what this turn has brought, or wait for more of it as C{flushDelay} says (spec: storage 2.4)."""
        self._call = None
        gathered = len(self._gathered)
        if not gathered or self._committing:
            return
        left = self._flushed + self._flush_delay - self._now()
        if left <= 0 or gathered == self._waited_for:
            # The time is over, or nothing came while it was waited for.
            self._commit()
            return
        self._waited_for = gathered
        self._call = self._call_later(min(left, self._poll_time), self._turn_ends)

    def _commit(self) -> None:
        if self._in_commit:
            return  # the loop below, further down the stack, goes on
        self._in_commit = True
        try:
            # A loop, since a store may answer at once, and an answer may let in requests that were held back.
            while self._gathered and not self._committing and not self._stopped:
                batch, self._gathered, self._size = self._gathered, [], 0
                self._committing = True
                self._waited_for = 0
                self._flushed = self._now()
                self._storage.commit(partial(self._landed, batch))
        finally:
            self._in_commit = False
        if self._ended:
            self._ended = False
            self._after_batch()

    def _landed(self, batch: list[Item], error: Exception | None) -> None:
        """Go on behind a flush, or stop: a batch of which only a part was handed on must not be built upon."""
        self._committing = False
        if self._stopped:
            return
        if error is None:
            try:
                self._hand_on(batch)
            except Exception as mistake:  # noqa: BLE001 (whatever it was, the server ends with it)
                log.failure("A batch cannot be applied")
                error = mistake
        if error is not None and not self._stopped:
            self._end()
            self._failed(error)
            self._tell_idle()

    def _hand_on(self, batch: list[Item]) -> None:
        self._persisted(batch)
        self.in_flight -= len(batch)
        self._released()
        if self._gathered:
            self._ended = True
            if self._call is None:
                self._call = self._call_later(0, self._look_first)
        else:
            self._after_batch()
        if not self.in_flight:
            self._tell_idle()
