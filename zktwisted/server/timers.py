"""
Something that is done again and again.

L{Ticker} judges time by the clock that it was given; the reactor's only wakes it.  It knows nothing of what it does.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

__all__ = ["CallLater", "Ticker"]

log = Logger()

CallLater = Callable[..., IDelayedCall]
"""C{reactor.callLater}."""

#: Later than this is late: the process stood still meanwhile.
_LATE = 0.1
#: A wake-up on the stroke would find, after rounding to milliseconds, that it is not yet time.
_MARGIN = 0.001


class Ticker:
    """
    Calls an action at regular times, from L{start} to L{stop}.

    After a stall (a long collection, a suspended machine, another program's code in the reactor's thread) the action
    waits for one more turn of the reactor: what clients sent meanwhile is read first, and nobody is declared dead
    because we were.
    """

    def __init__(
        self,
        call_later: CallLater,
        monotonic: Callable[[], float],
        interval: float,
        action: Callable[[], object],
        *,
        aligned: bool = False,
        stalled: Callable[[float], object] | None = None,
    ) -> None:
        """
        @param monotonic: the time, in seconds.
        @param interval: in seconds.
        @param aligned: at the multiples of the interval; otherwise each time one interval after the last.
        @param stalled: told the seconds by which the action is late, however little.
        """
        self._call_later = call_later
        self._monotonic = monotonic
        self._interval = max(interval, _MARGIN)
        self._action = action
        self._aligned = aligned
        self._stalled = stalled
        self._due = 0.0
        self._call: IDelayedCall | None = None
        self._running = False

    def start(self) -> None:
        """Begin; the first time is one interval from now, or at its next multiple."""
        self._running = True
        self._arm()

    def stop(self) -> None:
        """End, at once."""
        self._running = False
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _arm(self) -> None:
        now, interval = self._monotonic(), self._interval
        due = (now // interval + 1) * interval if self._aligned else now + interval
        self._due = due + _MARGIN if self._aligned else due
        self._call = self._call_later(self._due - now, self._wake)

    def _wake(self) -> None:
        late = self._monotonic() - self._due
        if self._stalled is not None:
            self._stalled(max(late, 0.0))
        if late > _LATE:
            self._call = self._call_later(_MARGIN, self._act)
        else:
            self._act()

    def _act(self) -> None:
        self._call = None
        try:
            self._action()
        except Exception:  # noqa: BLE001 (whatever it was, the next time is due all the same)
            log.failure("while doing what is done regularly")
        if self._running:
            self._arm()
