"""
What listens for clients: makes their connections, and keeps what concerns them all.

Rules: spec: client-protocol 8.1, 8.3.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.internet.protocol import ServerFactory
from zope.interface import implementer

from zktwisted.edge.protocol import ClientProtocol
from zktwisted.edge.requests import SUBMITTED_OPS, ClientServer, Request
from zktwisted.edge.throttle import ConnectionExpiry

__all__ = ["ClientFactory", "ClientProtocol", "ClientServer", "Request", "SecureEndpoint"]


def wall_clock_ms() -> int:
    """The wall clock, in milliseconds."""
    return int(time.time() * 1000)


@implementer(IStreamServerEndpoint)
class SecureEndpoint:
    """An endpoint on which clients have to use TLS, as the settings C{ssl.*} say."""

    def __init__(self, endpoint: IStreamServerEndpoint) -> None:
        """@param endpoint: where to listen, without TLS of its own."""
        self._endpoint = endpoint

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """See C{IStreamServerEndpoint}; the factory brings the TLS."""
        return self._endpoint.listen(protocolFactory)


class ClientFactory(ServerFactory):
    """
    Makes the connections of one server, on as many ports as listen for it.

    @ivar server: the server.
    @ivar expiry: when silent connections have had their time; drive it with L{expire}.
    @ivar max_frame: the longest request, C{jute.maxbuffer}.
    @ivar usual_frame: a request of at most so many bytes needs no further look at its length.
    @ivar throttled: whether the request throttle is on.
    @ivar enforced: whether clients must authenticate.
    """

    noisy = False

    def __init__(self, server: ClientServer, wall_ms: Callable[[], int] = wall_clock_ms) -> None:
        """
        @param server: the server; its C{config}, C{throttler} and C{large_requests} are looked at now.
        @param wall_ms: the wall clock, in milliseconds.
        """
        config = server.config
        self.server = server
        self.wall_ms = wall_ms
        self.expiry: ConnectionExpiry[ClientProtocol] = ConnectionExpiry(config.sessionless_cnxn_timeout)
        self.max_frame = config.jute_max_buffer
        threshold = server.large_requests.threshold
        self.usual_frame = self.max_frame if threshold < 0 else min(self.max_frame, threshold)
        self.throttled = server.throttler.enabled
        self.enforced = bool(config.enforced_schemes)
        self._admitting = False

    def buildProtocol(self, addr: IAddress | None) -> ClientProtocol:  # type: ignore[override]
        """See C{IProtocolFactory}."""
        host = getattr(addr, "host", None)
        return ClientProtocol(self, host, getattr(addr, "port", 0))

    def expire(self, now: float) -> None:
        """
        Close the connections that were silent for too long.

        @param now: the server's monotonic time, in seconds.
        """
        for connection in self.expiry.expired(now):
            self.server.metrics.sessionless_connections_expired += 1
            connection.close("it was silent for too long")

    def deadline(self) -> float | None:
        """When L{expire} may next have something to do, in seconds; C{None}: never."""
        return self.expiry.deadline()

    def admit(self, now: float) -> None:
        """
        Let requests that wait in the request throttle go on, as far as there is room.

        @param now: the server's monotonic time, in seconds.
        """
        if self._admitting:
            return  # the loop below, further down the stack, sees the room that was made
        self._admitting = True
        server = self.server
        throttler = server.throttler
        try:
            for request, late in throttler.ready(now):
                server.metrics.request_throttle_queue_time_ms.add(max(int((now - request.received) * 1000), 0))
                request.admitted = True
                request.late = late
                if request.connection.transport is None:
                    throttler.finished()  # the connection is lost already: nobody will say so later
                if request.op in SUBMITTED_OPS and not late:
                    server.submit(request)
                elif not request.connection.gone:
                    request.ready = request.connection.parked = True
                    request.connection.settled()
        finally:
            self._admitting = False
        for request in throttler.take_dropped():
            request.connection.close()
