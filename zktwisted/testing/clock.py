"""
Time that stands still until somebody lets it pass: one world, and in it a clock for each process.

A L{World} knows what is the next thing to happen and lets it happen, one call at a time, at exactly its time.  Each
L{ProcessClock} is what one process has for a reactor: it may go fast or slow, stand still as a process that was
stopped does, and be forgotten with everything that was to be called.

This module knows nothing of servers.  No call ever happens because real time has passed.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

from twisted.internet.base import DelayedCall
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

__all__ = ["BusyError", "ProcessClock", "World"]

#: So many calls without any time passing are a loop that would never end.
_BUSY = 50_000


class BusyError(AssertionError):
    """Calls beget calls, and no time passes."""


@implementer(IReactorTime)
class ProcessClock:
    """
    The time as one process sees it, and what it has to do later.

    @ivar rate: seconds that pass here while one passes in the world.
    @ivar wall_offset_ms: by how much its wall clock is wrong, ms.
    @ivar frozen: it stands still; what falls due meanwhile is late.
    @ivar forgotten: the process is no more: nothing is called, whatever is asked for.
    """

    def __init__(self, world: World, *, start: float = 0.0, rate: float = 1.0, wall_offset_ms: int = 0) -> None:
        """@param start: what L{seconds} says at this moment."""
        self.rate = rate
        self.wall_offset_ms = wall_offset_ms
        self.frozen = self.forgotten = False
        self._world = world
        self._local, self._base = start, world.now
        self._heap: list[tuple[float, int, DelayedCall]] = []
        self._made = 0

    def seconds(self) -> float:
        """See C{IReactorTime}; never falls, whatever is done to the rate."""
        now = self._local + (self._world.now - self._base) * self.rate
        return max(now, self._local)

    def wall_ms(self) -> int:
        """Tell the date, as far as this process knows it, in ms."""
        return self._world.wall_ms() + self.wall_offset_ms

    def set_rate(self, rate: float) -> None:
        """Go faster or slower from now on."""
        self._local, self._base = self.seconds(), self._world.now
        self.rate = rate

    def freeze(self) -> None:
        """Call nothing until L{thaw}, as a process that got a SIGSTOP; the time goes on."""
        self.frozen = True

    def thaw(self) -> None:
        """Go on: what fell due meanwhile is called now."""
        self.frozen = False

    def forget(self) -> None:
        """Drop all there was to do, now and later: the process has died."""
        self.forgotten = True
        self._heap.clear()

    def callLater(self, delay: float, callable: Callable[..., object], *args: Any, **kw: Any) -> IDelayedCall:  # noqa: A002
        """See C{IReactorTime}."""
        call = DelayedCall(self.seconds() + delay, callable, args, kw, self._cancelled, self._reset, self.seconds)
        if not self.forgotten:
            self._push(call)
        made: IDelayedCall = call
        return made

    def _push(self, call: DelayedCall) -> None:
        self._made += 1
        heappush(self._heap, (call.getTime(), self._made, call))

    def _cancelled(self, call: DelayedCall) -> None:
        """See C{DelayedCall}: it is passed over when its time comes."""

    def _reset(self, call: DelayedCall) -> None:
        """See C{DelayedCall}: it is to be called earlier."""
        if not self.forgotten:
            self._push(call)

    def getDelayedCalls(self) -> list[IDelayedCall]:
        """See C{IReactorTime}."""
        found: dict[DelayedCall, None] = {}
        for _, _, call in sorted(self._heap, key=lambda entry: (entry[2].getTime(), entry[1])):
            if not (call.called or call.cancelled):
                found[call] = None
        return list(found)

    def due(self) -> float | None:
        """Return at what time of the world there is something to do here; C{None}: never."""
        heap = self._heap
        while heap and not self.frozen:
            at, made, call = heap[0]
            if call.called or call.cancelled:
                heappop(heap)
                continue
            later = call.getTime()
            if later > at:
                heappop(heap)
                heappush(heap, (later, made, call))
                continue
            return max(self._base + (at - self._local) / self.rate, self._world.now)
        return None

    def call_next(self) -> None:
        """Do what L{due} told of."""
        at, _, call = heappop(self._heap)
        # Rounding must not let anybody find that his time has not quite come.
        if self.seconds() < at:
            self._local, self._base = at, self._world.now
        call.called = 1
        call.func(*call.args, **call.kw)


class World:
    """
    What passes for the whole world: its time, and all the clocks in it.

    @ivar now: seconds since it began.
    @ivar clock: the clock of what belongs to no process: wires, clients, who watches.
    @ivar after_step: called after each call.
    @ivar steps: how many calls there were.
    """

    def __init__(self, *, wall_ms: int = 1_700_000_000_000) -> None:
        """@param wall_ms: the date at the beginning."""
        self.now = 0.0
        self.steps = 0
        self.after_step: Callable[[], object] = int
        self._wall_ms = wall_ms
        self._busy = 0
        self._clocks: list[ProcessClock] = []
        self.clock = self.make_clock()

    def seconds(self) -> float:
        """Tell the time that has passed since the beginning."""
        return self.now

    def wall_ms(self) -> int:
        """Tell the date, in ms."""
        return self._wall_ms + round(self.now * 1000)

    def make_clock(self, *, start: float = 0.0, rate: float = 1.0, wall_offset_ms: int = 0) -> ProcessClock:
        """Return the clock of a process that begins now; see L{ProcessClock}."""
        self._clocks = [clock for clock in self._clocks if not clock.forgotten]
        clock = ProcessClock(self, start=start, rate=rate, wall_offset_ms=wall_offset_ms)
        self._clocks.append(clock)
        return clock

    def _next(self) -> tuple[float, ProcessClock] | None:
        found: tuple[float, ProcessClock] | None = None
        for clock in self._clocks:
            due = clock.due()
            if due is not None and (found is None or due < found[0]):
                found = due, clock
        return found

    def step(self, until: float | None = None) -> bool:
        """
        Let the next thing happen.

        @param until: but nothing later than this time.
        @return: whether there was something.
        @raise BusyError: calls beget calls without end.
        """
        found = self._next()
        if found is None or (until is not None and found[0] > until):
            return False
        at, clock = found
        self._busy = self._busy + 1 if at <= self.now else 0
        if self._busy > _BUSY:
            raise BusyError(f"at {self.now}: {_BUSY} calls, and no time has passed")
        self.now = max(self.now, at)
        self.steps += 1
        clock.call_next()
        self.after_step()
        return True

    def advance(self, seconds: float) -> None:
        """Let time pass, and all that falls due in it."""
        until = self.now + seconds
        while self.step(until):
            pass
        self.now = max(self.now, until)
