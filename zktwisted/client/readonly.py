"""
Looking for a server that has a quorum, on behalf of a client that is connected with one that has none.

It asks one server after the other C{isro}, on connections of its own, and refuses to know sessions.

Rules: spec: client-protocol 7.5, 10.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from zktwisted.client.hosts import Hosts

__all__ = ["Seeker"]

_FIRST_PAUSE, _LAST_PAUSE = 0.5, 10.0
"""Seconds before the first round through all servers, and before any later one."""
_PATIENCE = 5.0


class _Isro(Protocol):
    """Asks one server, and keeps what it says."""

    def __init__(self, answered: Deferred[bytes]) -> None:
        self._answered = answered
        self._text = b""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"isro")

    def dataReceived(self, data: bytes) -> None:
        self._text += data

    def connectionLost(self, reason: Failure = Failure(CancelledError())) -> None:  # noqa: B008 (Twisted's default)
        if not self._answered.called:
            self._answered.callback(self._text)


class Seeker:
    """Looks until it finds, or is told to stop."""

    def __init__(self, clock: IReactorTime, hosts: Hosts, found: Callable[[], object]) -> None:
        """@param found: is called once; C{hosts} then has the server that was found as its next."""
        self._clock = clock
        self._hosts = hosts
        self._found = found
        self._pause = _FIRST_PAUSE
        self._number = 0
        self._asking: Deferred[bool] | None = None
        self._call: IDelayedCall | None = clock.callLater(self._pause, self._ask)

    def stop(self) -> None:
        """Look no more."""
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None
        if self._asking is not None:
            self._asking.cancel()

    def _ask(self) -> None:
        self._asking = Deferred.fromCoroutine(self._ask_one(self._number))
        self._asking.addCallbacks(self._asked, lambda failure: failure.trap(CancelledError))

    async def _ask_one(self, number: int) -> bool:
        """Return whether a server has a quorum; one that cannot be asked has none."""
        answered: Deferred[bytes] = Deferred()
        try:
            connected = self._hosts.probe(number).connect(Factory.forProtocol(lambda: _Isro(answered)))
            protocol: Any = await connected
            try:
                return (await answered.addTimeout(_PATIENCE, self._clock)) == b"rw"
            finally:
                protocol.transport.abortConnection()
        except CancelledError:
            raise
        except Exception:  # noqa: BLE001 (whatever keeps it from answering, it is not the one that is looked for)
            return False

    def _asked(self, writable: bool) -> None:
        if self._call is None:
            return
        if writable:
            self._hosts.prefer(self._number)
            self._found()
            return
        self._number += 1
        pause = 0.0
        if self._number % len(self._hosts) == 0:
            pause = self._pause = min(self._pause * 2, _LAST_PAUSE)
        self._call = self._clock.callLater(pause, self._ask)
