"""
What a command shows, on its way from the reactor's thread to the one that owns the terminal.

Writing to a pipe or a terminal may block for as long as somebody reads slowly; the reactor must not wait for that, or
the session is lost.  So commands put what they show into a L{Screen}, the main thread writes it, and a command that
shows much waits for room.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Lock
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, succeed

__all__ = ["Done", "Piece", "Screen"]

_ENOUGH = 256 * 1024
"""Bytes that may wait to be written."""


class Piece(NamedTuple):
    """
    Something to be written.

    @ivar kind: C{"out"}, C{"err"}, or C{"status"}: a line that the next thing written replaces.
    """

    kind: str
    data: bytes


class Done(NamedTuple):
    """The end of a command: what it returned, or the exception that it raised."""

    result: Any


class Screen:
    """
    Both ends of the way.

    @ivar pieces: L{Piece}s and L{Done}s for the main thread.
    """

    def __init__(self, call_in_reactor: Callable[..., object]) -> None:
        """@param call_in_reactor: C{reactor.callFromThread}."""
        self._call = call_in_reactor
        self._lock = Lock()
        self._size = 0
        self._waiting: list[Deferred[None]] = []
        self.pieces: SimpleQueue[Piece | Done] = SimpleQueue()

    # -- in the reactor's thread

    def out(self, text: str | bytes) -> None:
        """Show on standard output."""
        self._put("out", text)

    def err(self, text: str) -> None:
        """Show on standard error."""
        self._put("err", text)

    def status(self, text: str) -> None:
        """Show on standard error until something else is shown; empty to take it away."""
        self._put("status", text)

    def _put(self, kind: str, text: str | bytes) -> None:
        data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
        with self._lock:
            self._size += len(data)
        self.pieces.put(Piece(kind, data))

    def room(self) -> Deferred[None]:
        """Return what fires when there is not much left to be written."""
        with self._lock:
            if self._size < _ENOUGH:
                return succeed(None)
            waiter: Deferred[None] = Deferred()
            self._waiting.append(waiter)
            return waiter

    # -- in the main thread

    def written(self, piece: Piece) -> None:
        """A piece has been written, or nobody wants it any more."""
        with self._lock:
            self._size -= len(piece.data)
            if self._size >= _ENOUGH or not self._waiting:
                return
            waiting, self._waiting = self._waiting, []
        self._call(_fire, waiting)


def _fire(waiting: list[Deferred[None]]) -> None:
    for waiter in waiting:
        if not waiter.called:
            waiter.callback(None)
