"""
Limits on what clients may ask of the server at once.

Small pieces, each with one rule: how many connections, how fast they may come, how many requests and how
many large ones may be under way, and when a silent connection has had its time.  They count and decide;
pausing, closing and answering is done by whoever asked.  No reactor and no clock: times are monotonic seconds
handed in, chance is a C{Random} handed in.

Rules: spec: client-protocol 8.1, 8.3; configuration 3 and 4.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from random import Random
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from zktwisted.config import ServerConfig

__all__ = [
    "ConnectionCounts",
    "ConnectionExpiry",
    "ConnectionThrottle",
    "LargeRequests",
    "OutstandingLimit",
    "RequestThrottler",
    "ThrottleCounters",
    "WaitingRequest",
]


class ConnectionThrottle:
    """
    How fast sessions may be asked for: a token bucket, with random refusal while it stays empty ("blue").

    Asked once per ConnectRequest.  When it says no, the connection is closed without an answer, and clients,
    which come back after a moment, spread out.

    @ivar drop_probability: the present chance of a random refusal, 0.0 to 1.0.
    """

    def __init__(
        self,
        random: Random,
        now: float,
        *,
        tokens: int = 0,
        fill_time_ms: int = 1,
        fill_count: int = 1,
        freeze_time_ms: int = -1,
        drop_increase: float = 0.02,
        drop_decrease: float = 0.002,
        decrease_ratio: float = 0.0,
        weight_enabled: bool = False,
        global_session_weight: int = 3,
        renew_session_weight: int = 2,
        local_session_weight: int = 1,
    ) -> None:
        """
        @param random: decides the random refusals.
        @param now: the time, in seconds.
        @param tokens: what the bucket holds; 0: no throttle at all.
        @param fill_time_ms: the time in which C{fill_count} tokens come back.
        @param fill_count: see C{fill_time_ms}.
        @param freeze_time_ms: the least time between two changes of the chance; -1: never refuse at random.
        @param drop_increase: added to the chance while the bucket is empty.
        @param drop_decrease: taken off it while no more than C{decrease_ratio} of the bucket is used.
        @param decrease_ratio: see C{drop_decrease}.
        @param weight_enabled: take more than one token according to the kind of session.  The bucket and the
            filling are then counted in global sessions, that is, multiplied by their weight.
        @param global_session_weight: tokens for a new session.
        @param renew_session_weight: tokens for a session that comes back.
        @param local_session_weight: tokens for a new local session.
        """
        scale = global_session_weight if weight_enabled else 1
        self._random = random
        self._size = tokens * scale
        self._tokens = self._size
        self._fill_per_second = max(fill_count, 1) * scale * 1000 / max(fill_time_ms, 1)
        self._fill_time = fill_time_ms / 1000
        self._filled = now
        self._freeze_time = freeze_time_ms / 1000
        self._blue = freeze_time_ms != -1
        self._frozen = now
        self._drop_increase = drop_increase
        self._drop_decrease = drop_decrease
        self._decrease_point = decrease_ratio * self._size
        weights = (global_session_weight, renew_session_weight, local_session_weight)
        self._weights = weights if weight_enabled else (1, 1, 1)
        self.drop_probability = 0.0

    @classmethod
    def from_config(cls, config: ServerConfig, random: Random, now: float) -> ConnectionThrottle:
        """The throttle that the C{connection_throttle_*} settings describe."""
        return cls(
            random,
            now,
            tokens=config.connection_throttle_tokens,
            fill_time_ms=config.connection_throttle_fill_time,
            fill_count=config.connection_throttle_fill_count,
            freeze_time_ms=config.connection_throttle_freeze_time,
            drop_increase=config.connection_throttle_drop_increase,
            drop_decrease=config.connection_throttle_drop_decrease,
            decrease_ratio=config.connection_throttle_decrease_ratio,
            weight_enabled=config.connection_throttle_weight_enabled,
            global_session_weight=config.connection_throttle_global_session_weight,
            renew_session_weight=config.connection_throttle_renew_session_weight,
            local_session_weight=config.connection_throttle_local_session_weight,
        )

    @property
    def deficit(self) -> int:
        """The tokens that are missing from a full bucket."""
        return self._size - self._tokens

    def admits(self, now: float, *, renew: bool = False, local: bool = False) -> bool:
        """
        Take the tokens for one ConnectRequest if they are there.

        @param now: the time, in seconds.
        @param renew: the client brings a session id.
        @param local: sessions start as local ones here.

        @return: whether the session may be served.
        """
        if not self._size:
            return True
        since = now - self._filled
        if since > self._fill_time:
            fill = int(since * self._fill_per_second)
            self._tokens = min(self._tokens + fill, self._size)
            self._filled += fill / self._fill_per_second  # what is left over counts next time
        if self._blue and self._refuses_at_random(now):
            return False
        new_global, renewed, new_local = self._weights
        need = renewed if renew else new_local if local else new_global
        if self._tokens < need:
            return False
        self._tokens -= need
        return True

    def _refuses_at_random(self, now: float) -> bool:
        if now - self._frozen > self._freeze_time:
            if self._tokens < min(self._weights):
                self.drop_probability = min(self.drop_probability + self._drop_increase, 1.0)
            elif self.deficit <= self._decrease_point:
                self.drop_probability = max(self.drop_probability - self._drop_decrease, 0.0)
            self._frozen = now
        return self.drop_probability > 0 and self._random.random() < self.drop_probability


class ConnectionCounts:
    """
    How many connections there are, in all and from each address.

    @ivar total: connections that were admitted and are not yet released.
    """

    def __init__(self, per_address: int = 60, total: int = 0) -> None:
        """
        @param per_address: C{maxClientCnxns}; 0: no limit.
        @param total: C{maxCnxns}; 0: no limit.
        """
        self.per_address_limit = per_address
        self.total_limit = total
        self.total = 0
        self._by_address: dict[str, int] = {}

    def refusal(self, address: str | None) -> str | None:
        """
        Count one connection more, or say why not.

        @param address: the peer's address; C{None} if it has none (a UNIX socket): only the total counts.

        @return: C{None}: counted, call L{release} when it is gone.  Otherwise the reason for the log, and
            nothing was counted: close it.
        """
        if 0 < self.total_limit <= self.total:
            return f"Too many connections: max is {self.total_limit}"
        if address is not None:
            here = self._by_address.get(address, 0)
            if 0 < self.per_address_limit <= here:
                return f"Too many connections from /{address}: max is {self.per_address_limit}"
            self._by_address[address] = here + 1
        self.total += 1
        return None

    def release(self, address: str | None) -> None:
        """Count one connection less; once for each L{refusal} that gave C{None}."""
        self.total -= 1
        if address is not None:
            left = self._by_address[address] - 1
            if left:
                self._by_address[address] = left
            else:
                del self._by_address[address]

    def move(self, before: str | None, after: str | None) -> str | None:
        """
        Count a connection for another address, or say why not: then it counts as before.

        @param before: the address for which L{refusal} gave C{None}.
        @param after: the address that it turns out to come from, and for which it is to be released.
        """
        self.release(before)
        refused = self.refusal(after)
        if refused is not None:
            self.total += 1
            if before is not None:
                self._by_address[before] = self._by_address.get(before, 0) + 1
        return refused

    def from_address(self, address: str) -> int:
        """The connections from one address."""
        return self._by_address.get(address, 0)


class LargeRequests:
    """
    How many bytes of large requests may be under way.

    @ivar bytes: the bytes of the large requests under way.
    """

    def __init__(self, threshold: int = -1, max_bytes: int = 100 * 1024 * 1024) -> None:
        """
        @param threshold: C{largeRequestThreshold}: a longer request is large; -1: none is.
        @param max_bytes: C{largeRequestMaxBytes}.
        """
        self.threshold = threshold
        self.max_bytes = max_bytes
        self.bytes = 0

    def is_large(self, size: int) -> bool:
        """Tell whether a request of so many bytes counts."""
        return size > self.threshold >= 0

    def admits(self, size: int) -> bool:
        """
        Count a request if it is large; C{False}: it goes over the limit, close the connection.

        Ask when its length is known, so that a refused request is never held.
        """
        if not self.is_large(size):
            return True
        if self.bytes + size > self.max_bytes:
            return False
        self.bytes += size
        return True

    def release(self, size: int) -> None:
        """A request that was admitted has been answered, or its connection is gone."""
        if self.is_large(size):
            self.bytes -= size


Connection = TypeVar("Connection", bound=Hashable)


class OutstandingLimit(Generic[Connection]):
    """
    C{globalOutstandingLimit}: when too many requests are under way, stop reading from who has some.

    The owner counts (C{limit.in_flight += 1}) and asks L{must_pause} after reading; a paused connection is
    kept here until L{finished} or L{gone} gives it back.

    @ivar in_flight: requests taken in and not answered, over all connections.
    @ivar limit: above it connections are paused.
    """

    __slots__ = ("_paused", "in_flight", "limit")

    def __init__(self, limit: int = 1000) -> None:
        self.limit = limit
        self.in_flight = 0
        self._paused: dict[Connection, None] = {}

    def must_pause(self, connection: Connection, outstanding: int) -> bool:
        """
        Tell whether reading from this connection is to be paused now, and if so remember it.

        @param connection: any hashable value.
        @param outstanding: the connection's own requests under way.  One that has none is never paused, for
            then no answer of its own would resume it.
        """
        if self.in_flight > self.limit and outstanding > 0:
            self._paused[connection] = None
            return True
        return False

    def finished(self, connection: Connection, outstanding: int, count: int = 1) -> list[Connection]:
        """
        Some requests of a connection have been answered.

        @param outstanding: what the connection still has under way.
        @param count: how many were answered.

        @return: the connections from which reading goes on.
        """
        self.in_flight -= count
        if not self._paused:
            return []
        if self.in_flight < self.limit:
            resumed = list(self._paused)
            self._paused.clear()
            return resumed
        if outstanding <= 0 and connection in self._paused:
            del self._paused[connection]
            return [connection]
        return []

    def gone(self, connection: Connection, outstanding: int) -> list[Connection]:
        """
        A connection was lost together with its requests under way.

        @return: as L{finished}; never the lost connection.
        """
        self._paused.pop(connection, None)
        return self.finished(connection, outstanding, outstanding)


class WaitingRequest(Protocol):
    """What the throttler must know of a request."""

    @property
    def op(self) -> int:
        """The op code."""

    @property
    def received(self) -> float:
        """When it was read, monotonic seconds."""

    @property
    def session_timeout_ms(self) -> int:
        """The session's timeout."""

    @property
    def connection_gone(self) -> bool:
        """Whether nobody is left to answer to."""


class ThrottleCounters(Protocol):
    """The metrics that the throttler keeps; L{zktwisted.server.metrics.ServerMetrics} has them."""

    throttled_ops: int
    request_throttle_wait_count: int
    stale_requests: int
    stale_requests_dropped: int


Request = TypeVar("Request", bound=WaitingRequest)

NEVER_THROTTLED = frozenset((11, -10, -11))
"""ping, createSession, closeSession: refusing them would end sessions that are well, or keep dead ones."""


class RequestThrottler(Generic[Request]):
    """
    C{request_throttle_max_requests}: requests wait here until the chain of processors has room.

    The queue is one for all connections, so order is kept.  A request whose client is gone, or has given up,
    is dropped instead of run; one that waited longer than C{throttled_op_wait_time} is run as refused
    (THROTTLEDOP, -127).

    @ivar enabled: whether there is anything to do at all; if not, do not ask.
    @ivar in_pipeline: requests in the chain now.
    """

    def __init__(
        self,
        counters: ThrottleCounters,
        *,
        max_requests: int = 0,
        stall_time_ms: int = 100,
        drop_stale: bool = True,
        stale_connection_check: bool = True,
        stale_latency_check: bool = False,
        throttled_op_wait_ms: int = 0,
    ) -> None:
        """
        @param counters: where to count.
        @param max_requests: how many may be in the chain; 0: no limit, L{enabled} is false.
        @param stall_time_ms: how often a queue that does not move is looked through for stale requests.
        @param drop_stale: whether stale requests are dropped; otherwise they are only counted.
        @param stale_connection_check: a request is stale when its connection is gone.
        @param stale_latency_check: a request is stale when it waited longer than its session's timeout.
        @param throttled_op_wait_ms: see above; 0: never refuse.
        """
        self._counters = counters
        self.max_requests = max_requests
        self.stall_time = stall_time_ms / 1000
        self._drop_stale = drop_stale
        self._stale_connection_check = stale_connection_check
        self._stale_latency_check = stale_latency_check
        self._throttled_wait = throttled_op_wait_ms / 1000
        self._queue: deque[Request] = deque()
        self.in_pipeline = 0
        self.dropped: list[Request] = []

    @classmethod
    def from_config(cls, config: ServerConfig, counters: ThrottleCounters) -> RequestThrottler[Request]:
        """The throttler that the C{request_throttle_*} and related settings describe."""
        return cls(
            counters,
            max_requests=config.request_throttle_max_requests,
            stall_time_ms=config.request_throttle_stall_time,
            drop_stale=config.request_throttle_drop_stale,
            stale_connection_check=config.request_stale_connection_check,
            stale_latency_check=config.request_stale_latency_check,
            throttled_op_wait_ms=config.throttled_op_wait_time,
        )

    @property
    def enabled(self) -> bool:
        """Whether requests may have to wait."""
        return self.max_requests > 0

    def __len__(self) -> int:
        return len(self._queue)

    def submit(self, request: Request) -> None:
        """Put a request at the end of the queue; L{ready} then gives it back, perhaps at once."""
        if self.enabled and (self._queue or self.in_pipeline >= self.max_requests):
            self._counters.request_throttle_wait_count += 1
        self._queue.append(request)

    def ready(self, now: float) -> Iterator[tuple[Request, bool]]:
        """
        Take the requests for which there is room; each is counted in L{in_pipeline}.

        @param now: the time, in seconds.

        @return: pairs of a request and whether it must be answered THROTTLEDOP instead of run.
        """
        queue = self._queue
        while queue:
            request = queue[0]
            stale = self._is_stale(request, now)
            if stale and self._drop_stale and self.enabled:
                self._counters.stale_requests_dropped += 1
                self.dropped.append(queue.popleft())
                continue
            if self.in_pipeline >= self.max_requests > 0:
                return
            queue.popleft()
            self._counters.stale_requests += stale
            self.in_pipeline += 1
            late = 0 < self._throttled_wait < now - request.received and request.op not in NEVER_THROTTLED
            self._counters.throttled_ops += late
            yield request, late

    def finished(self, count: int = 1) -> None:
        """Requests have left the chain; ask L{ready} afterwards."""
        self.in_pipeline -= count

    def take_dropped(self) -> list[Request]:
        """The requests dropped since the last call; close the connections that they came from."""
        dropped, self.dropped = self.dropped, []
        return dropped

    def deadline(self, now: float) -> float | None:
        """When to ask L{ready} again even if nothing finishes; C{None}: nothing waits."""
        return now + self.stall_time if self._queue else None

    def _is_stale(self, request: Request, now: float) -> bool:
        if request.op == -11:  # a closeSession is worth running for a client that is gone
            return False
        if self._stale_connection_check and request.connection_gone:
            return True
        return self._stale_latency_check and (now - request.received) * 1000 > request.session_timeout_ms


class ConnectionExpiry(Generic[Connection]):
    """
    When a silent connection has had its time, in coarse buckets as sessions are.

    A connection without a session has C{nio.sessionlessCnxnTimeout}, one with a session that of the session.
    Times are rounded up to the next full bucket, so nothing expires early and touching is cheap.
    """

    def __init__(self, sessionless_timeout_ms: int = 10000) -> None:
        self.sessionless_timeout_ms = sessionless_timeout_ms
        self.interval_ms = max(sessionless_timeout_ms // 2, 1)
        self._bucket_of: dict[Connection, int] = {}
        self._buckets: dict[int, dict[Connection, None]] = {}

    def touch(self, connection: Connection, timeout_ms: int, now: float) -> None:
        """
        The connection was heard of: give it its timeout anew.

        @param timeout_ms: the session's timeout, or L{sessionless_timeout_ms}.
        @param now: the time, in seconds.
        """
        bucket = (int(now * 1000) + timeout_ms) // self.interval_ms + 1
        before = self._bucket_of.get(connection)
        if before == bucket:
            return
        if before is not None:
            self._leave(connection, before)
        self._bucket_of[connection] = bucket
        self._buckets.setdefault(bucket, {})[connection] = None

    def forget(self, connection: Connection) -> None:
        """The connection is closed.  Unknown ones are ignored."""
        bucket = self._bucket_of.pop(connection, None)
        if bucket is not None:
            self._leave(connection, bucket)

    def _leave(self, connection: Connection, bucket: int) -> None:
        members = self._buckets[bucket]
        del members[connection]
        if not members:
            del self._buckets[bucket]

    def expired(self, now: float) -> list[Connection]:
        """Take out the connections whose time is over; close them."""
        now_ms = int(now * 1000)
        gone: list[Connection] = []
        for bucket in sorted(bucket for bucket in self._buckets if bucket * self.interval_ms <= now_ms):
            gone.extend(self._buckets.pop(bucket))
        for connection in gone:
            del self._bucket_of[connection]
        return gone

    def deadline(self) -> float | None:
        """When L{expired} may next have something, in seconds; C{None}: no connections."""
        return min(self._buckets) * self.interval_ms / 1000 if self._buckets else None

    def sets(self) -> list[tuple[float, list[Connection]]]:
        """The buckets in time order: when each ends, in seconds, and who is in it."""
        return [(b * self.interval_ms / 1000, list(self._buckets[b])) for b in sorted(self._buckets)]
