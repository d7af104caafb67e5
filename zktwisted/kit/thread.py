"""
A reactor of its own in a thread of its own, for programs that have no reactor, or another one.

It is never the global reactor, takes no signals, and is gone without a trace after L{ReactorThread.stop}.  What runs on
it is not known here.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread, current_thread
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure

__all__ = ["ReactorThread"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

#: Nothing that the kit does takes so long, in seconds: a test that hangs should say where.
_LONGEST = 120.0


class ReactorThread:
    """
    A reactor that runs in a thread.

    @ivar reactor: the reactor; only its own thread may use it.
    """

    def __init__(self) -> None:
        self.reactor = _make_reactor()
        self._thread = Thread(target=self._run, name="zktwisted test server", daemon=True)

    def start(self) -> None:
        """Begin to run."""
        self._thread.start()

    def _run(self) -> None:
        self.reactor.run(installSignalHandlers=False)
        _dismantle(self.reactor)

    def call(self, function: Callable[_P, Any], *arguments: _P.args, **keywords: _P.kwargs) -> Any:
        """
        Call something in the reactor's thread, from any other, and wait for what comes of it.

        @param function: returns a value, a coroutine or a Deferred.
        @return: the value, or what the coroutine or the Deferred came to.

        @raise RuntimeError: the reactor runs no more, or this is its thread.
        """
        if current_thread() is self._thread:
            raise RuntimeError("called from the server's own thread, which cannot wait for itself")
        if not self._thread.is_alive():
            raise RuntimeError("the server is stopped")
        outcome: Future[Any] = Future()
        self.reactor.callFromThread(_carry_out, outcome, function, arguments, keywords)
        return outcome.result(_LONGEST)

    def stop(self) -> None:
        """Stop the reactor and end the thread; a second call does nothing."""
        if self._thread.is_alive():
            self.reactor.callFromThread(self.reactor.stop)
            self._thread.join(_LONGEST)


def _make_reactor() -> Any:
    # The class alone: importing twisted.internet.reactor, or installing one, would choose for the whole program.
    try:
        from twisted.internet.epollreactor import EPollReactor
    except ImportError:  # not on Linux
        from twisted.internet.selectreactor import SelectReactor

        reactor: Any = SelectReactor()
    else:
        reactor = EPollReactor()
    # Else Twisted believes that this thread is the one of the program's own reactor.
    reactor._registerAsIOThread = False
    return reactor


def _dismantle(reactor: Any) -> None:
    """Close what a reactor keeps open after it has stopped; programs end then, as a rule, and so it does not."""
    for reader in list(reactor._internalReaders):
        reactor._internalReaders.discard(reader)
        reactor.removeReader(reader)
        reader.connectionLost(None)
    reactor.disconnectAll()
    poller = getattr(reactor, "_poller", None)
    if poller is not None:
        poller.close()


def _carry_out(outcome: Future[Any], function: Callable[..., Any], arguments: Any, keywords: Any) -> None:
    def tell(result: Any) -> None:
        if isinstance(result, Failure):
            outcome.set_exception(result.value)
        else:
            outcome.set_result(result)

    waiting: Deferred[Any] = maybeDeferred(function, *arguments, **keywords)
    waiting.addBoth(tell)
