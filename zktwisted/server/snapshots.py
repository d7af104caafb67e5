"""
When a snapshot is written, the server goes on: in slices of a millisecond, one snapshot at a time.

What a snapshot consists of comes from the core, how it gets on disk is the store's affair; this module only makes time
for it.  It does not decide when one is due.

Rules: spec: storage 3.3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import CooperativeTask, Cooperator, TaskStopped
from twisted.logger import Logger
from twisted.python.failure import Failure

from zktwisted.errors import StoreError
from zktwisted.server.metrics import ServerMetrics
from zktwisted.server.timers import CallLater
from zktwisted.store.database import Storage, Trailer

__all__ = ["Image", "SnapshotError", "Snapshots"]

log = Logger()

Image = tuple[int, Iterator[bytes], Callable[[], Trailer]]
"""The last zxid before the walk, the walk, and what is asked when it is over."""

#: Seconds of work in one turn of the reactor.
_SLICE = 0.001
#: Seconds until the next slice: clients have at least half of the time.
_PAUSE = 0.001


class SnapshotError(StoreError):
    """A snapshot could not be written: exit status 10."""


class Snapshots:
    """The snapshots of one server, one after the other."""

    def __init__(
        self,
        storage: Storage,
        image: Callable[[], Image],
        call_later: CallLater,
        monotonic: Callable[[], float],
        metrics: ServerMetrics,
    ) -> None:
        """
        @param image: begins an image of the tree as it is now.
        @param monotonic: the time, in seconds.
        """
        self._storage = storage
        self._image = image
        self._call_later = call_later
        self._monotonic = monotonic
        self._metrics = metrics
        self._task: CooperativeTask[Iterator[object]] | None = None
        # How much the disk has yet to do, of all that were begun.
        self._pending = 0
        self._over: list[Deferred[None]] = []

    @property
    def running(self) -> bool:
        """Whether one is being written."""
        return self._task is not None

    def begin(self, hurry: bool = False) -> Deferred[None]:
        """
        Write a snapshot.

        @param hurry: nobody is served before it is done.

        @return: fires when it is durable; fails with L{SnapshotError}, or with C{CancelledError} after L{stop}.
        """
        begun = self._monotonic()
        done: Deferred[None] = Deferred()
        try:
            zxid, chunks, trailer = self._image()
        except Exception as error:  # noqa: BLE001 (a tree that cannot be written is told like a disk that cannot)
            log.failure("The image of the tree cannot be made")
            done.errback(SnapshotError(f"Snapshot not written: {error}"))
            return done
        log.info("Snapshotting: 0x{zxid:x}", zxid=zxid)
        steps = self._storage.snapshot(zxid, chunks, trailer)
        cooperator = Cooperator(self._make_slice, lambda step: self._schedule(0 if hurry else _PAUSE, step))
        going = True
        task = self._task = cooperator.cooperate(self._relayed(steps, lambda: going))

        def written(_: object) -> None:
            nonlocal going
            going = False
            self._task = None
            elapsed = round((self._monotonic() - begun) * 1000)
            self._metrics.snapshottime.add(elapsed)
            log.info("Snapshot 0x{zxid:x} taken in {elapsed} ms", zxid=zxid, elapsed=elapsed)
            done.callback(None)

        def failed(failure: Failure) -> None:
            nonlocal going
            going = False
            self._task = None
            steps.close()
            if isinstance(failure.value, TaskStopped):
                done.errback(CancelledError())
                return
            self._metrics.snapshot_error_count += 1
            if not isinstance(failure.value, StoreError):
                log.failure("while writing a snapshot", failure)
            done.errback(SnapshotError(f"Snapshot 0x{zxid:x} not written: {failure.getErrorMessage()}"))

        task.whenDone().addCallbacks(written, failed)
        return done

    def stop(self) -> None:
        """Give up what is being written; its file goes, unless it was just about to be complete."""
        if self._task is not None:
            self._task.stop()

    async def abandon(self) -> None:
        """Give up what is being written, and wait until its file has gone or has come after all."""
        self.stop()
        if self._pending:
            over: Deferred[None] = Deferred()
            self._over.append(over)
            await over

    def _relayed(self, steps: Iterator[object], going: Callable[[], bool]) -> Iterator[object]:
        """
        Give the steps, each wait of theirs behind a Deferred that stays silent when the task has been stopped.

        A stopped task that waits for the disk would be told of its end a second time when the disk gives up the file.
        """
        for step in steps:
            if not isinstance(step, Deferred):
                yield step
                continue
            relay: Deferred[object] = Deferred()
            self._pending += 1

            def landed(result: object, relay: Deferred[object] = relay) -> None:
                self._pending -= 1
                if going():
                    relay.callback(result)
                if not self._pending:
                    over, self._over = self._over, []
                    for waiting in over:
                        waiting.callback(None)

            step.addBoth(landed)
            yield relay

    def _schedule(self, delay: float, step: Callable[[], None]) -> IDelayedCall:
        return self._call_later(delay, step)

    def _make_slice(self) -> Callable[[], bool]:
        monotonic = self._monotonic
        end = monotonic() + _SLICE
        return lambda: monotonic() >= end
