"""A line on the terminal that tells how far long work has come."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import LoopingCall

from zktwisted.zkt.context import Context
from zktwisted.zkt.format import show_size

__all__ = ["Progress"]

_EVERY = 0.2
"""Seconds between two looks."""
_BAR = 24


class Progress:
    """
    How far it is, shown while it is used as a context manager, and only on a terminal.

    @ivar done: nodes so far.
    @ivar size: bytes so far.
    @ivar total: nodes there will be; C{None} where nobody knows.
    """

    def __init__(self, context: Context, verb: str, total: int | None = None) -> None:
        self._context = context
        self._verb = verb
        self._began = context.reactor.seconds()
        self._shown = LoopingCall(self._show)
        self.done = self.size = 0
        self.total = total

    def __enter__(self) -> Progress:
        if self._context.progress:
            self._shown.clock = self._context.reactor
            self._shown.start(_EVERY, now=False)
        return self

    def __exit__(self, *_: Any) -> None:
        if self._shown.running:
            self._shown.stop()
            self._context.screen.status("")

    def add(self, size: int = 0) -> None:
        """Another node, of so many bytes."""
        self.done += 1
        self.size += size

    def _show(self) -> None:
        self._context.screen.status(self.line(self._context.reactor.seconds() - self._began))

    def line(self, seconds: float) -> str:
        """Return the line, after so many seconds."""
        bar = ""
        if self.total:
            share = min(self.done / self.total, 1.0)
            bar = f"{'━' * round(share * _BAR)}{'╌' * (_BAR - round(share * _BAR))} {share:4.0%}  "
        rate = self.done / seconds if seconds > 0 else 0.0
        size = f", {show_size(self.size)}" if self.size else ""
        return f"{self._verb} {bar}{self.done:,} nodes{size}, {rate:,.0f}/s"
