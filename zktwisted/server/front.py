"""
The server as client connections see it: the core, and the limits and identities that stand before it.

L{FrontServer} has what L{zktwisted.edge.requests.ClientServer} asks for.  What a request does is the core's
affair; here is only who may send one, and how many.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from zktwisted.config import ServerConfig
from zktwisted.edge.auth import AuthOutcome, AuthProviders, Identities
from zktwisted.edge.requests import Request, Words
from zktwisted.edge.saslauth import Conversation
from zktwisted.edge.throttle import (
    ConnectionCounts,
    ConnectionThrottle,
    LargeRequests,
    OutstandingLimit,
    RequestThrottler,
)
from zktwisted.server.core import STANDALONE_ID, ZooKeeperServer
from zktwisted.server.metrics import ServerMetrics, ServerStats
from zktwisted.server.processors import ProcessorFactory
from zktwisted.server.timers import CallLater
from zktwisted.store.database import Storage
from zktwisted.tree.schemes import Schemes

__all__ = ["FrontServer"]


class FrontServer(ZooKeeperServer):
    """
    A core with its front.

    @ivar auth: the schemes of auth packets; an embedding program may add its own.
    @ivar words: the four-letter words, C{None}: none are answered.
    @ivar on_disconnected: called when a connection is gone.
    """

    def __init__(
        self,
        config: ServerConfig,
        storage: Storage,
        *,
        monotonic: Callable[[], float],
        wall_ms: Callable[[], int],
        call_later: CallLater,
        schemes: Schemes,
        auth: AuthProviders,
        metrics: ServerMetrics,
        stats: ServerStats,
        entropy: Random,
        fatal: Callable[[Exception], None],
        server_id: int = STANDALONE_ID,
        processors: Sequence[ProcessorFactory] = (),
    ) -> None:
        """@param entropy: decides which connections the throttle refuses."""
        super().__init__(
            config,
            storage,
            monotonic=monotonic,
            wall_ms=wall_ms,
            call_later=call_later,
            schemes=schemes,
            metrics=metrics,
            fatal=fatal,
            server_id=server_id,
            processors=processors,
        )
        self.stats = stats
        self.auth = auth
        self.outstanding: OutstandingLimit[Any] = OutstandingLimit(config.outstanding_limit)
        self.throttler: RequestThrottler[Request] = RequestThrottler.from_config(config, metrics)
        self.large_requests = LargeRequests(config.large_request_threshold, config.large_request_max_bytes)
        self.connection_throttle = ConnectionThrottle.from_config(config, entropy, monotonic())
        self.counts = ConnectionCounts(config.max_client_cnxns, config.max_cnxns)
        self.words: Words | None = None
        self.on_disconnected: Callable[[], None] = lambda: None

    def authenticate(self, connection: Any, scheme: str | None, data: bytes | None) -> AuthOutcome:
        """Judge an auth packet; adds to the connection's identities."""
        return self.auth.authenticate(scheme, data, connection.identities)

    def converse(self, connection: Any) -> Conversation:
        """Begin to authenticate a connection by SASL."""
        return Conversation(self.auth.sasl, connection)

    def admits(self, identities: Identities) -> bool:
        """Whether requests are served under these identities (C{enforce.auth})."""
        return self.auth.admits(identities)

    def disconnected(self, connection: Any) -> None:
        """Forget a connection."""
        super().disconnected(connection)
        self.on_disconnected()
