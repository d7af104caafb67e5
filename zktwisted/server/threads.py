"""
What takes long, in a thread of its own, so that the reactor goes on meanwhile.

This module knows nothing of what it calls.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

__all__ = ["in_thread"]

_T = TypeVar("_T")


def in_thread(reactor: Any, call: Callable[[], _T], daemon: bool = False) -> Deferred[_T]:
    """
    Call something that takes long in a thread of its own.

    @param daemon: the process may end before the call.
    """
    done: Deferred[_T] = Deferred()

    def run() -> None:
        try:
            result = call()
        except BaseException:  # noqa: BLE001 (it is not swallowed but carried over)
            reactor.callFromThread(landed, done.errback, Failure())
        else:
            reactor.callFromThread(landed, done.callback, result)

    def landed(tell: Callable[[Any], None], outcome: object) -> None:
        thread.join()
        tell(outcome)

    thread = Thread(target=run, daemon=daemon)
    thread.start()
    return done
