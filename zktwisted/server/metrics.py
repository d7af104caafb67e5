"""
What the server counts: the counters and summaries of ZooKeeper's metrics, and its older ServerStats.

Every name exists from the start and is printed even when nothing was counted, for monitors take a missing
line as an error.  A counter is a plain C{int} attribute (C{metrics.bytes_received_count += n}), a summary an
object with C{add}; that is all that the hot path pays.  Gauges are not kept here: they are read from the
server when somebody asks (L{zktwisted.ops.commands}).  This module knows no clock: durations are handed in.

Rules: spec: operations 3; the names are those of ZooKeeper 3.9.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal
from math import floor, log
from random import Random
from typing import Any, NamedTuple, TypeAlias, get_type_hints

__all__ = ["AdvancedSummary", "MetricSet", "ServerMetrics", "ServerStats", "Summary", "average"]

RESERVOIR = 4096
NOTHING_YET = 1 << 62
QUANTILES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("p999", 0.999))


def average(total: int, count: int) -> float:
    """The mean with four decimals, halves rounded up as Java does; 0.0 of nothing."""
    if not count:
        return 0.0
    return float((Decimal(total) / Decimal(count)).quantize(Decimal("0.0001"), ROUND_HALF_UP))


class Summary:
    """
    Count, sum, least and greatest of some whole numbers (milliseconds, bytes, lengths).

    @ivar count: how many were added.
    @ivar total: their sum.
    @ivar greatest: of them; 0 before the first.
    @ivar least: of them; before the first, more than any.
    """

    __slots__ = ("count", "greatest", "least", "total")

    def __init__(self, random: Random | None = None) -> None:
        """@param random: only L{AdvancedSummary} has a use for it."""
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.count = 0
        self.total = 0
        self.least = NOTHING_YET
        self.greatest = 0

    def add(self, value: int, times: int = 1) -> None:
        """
        Add a value.

        @param value: a whole number, not negative.
        @param times: how often; answering forty reads in one turn is one call.
        """
        self.count += times
        self.total += value * times
        if value > self.greatest:
            self.greatest = value
        if value < self.least:
            self.least = value

    @property
    def min(self) -> int:
        """The least value, 0 if there is none."""
        return self.least if self.count else 0

    @property
    def max(self) -> int:
        """The greatest value, 0 if there is none."""
        return self.greatest

    def values(self) -> Iterator[tuple[str, int | float]]:
        """The lines of this summary: (C{avg}, mean), (C{min}, …), …, in ZooKeeper's order."""
        yield "avg", average(self.total, self.count)
        yield "min", self.min
        yield "max", self.max
        yield "cnt", self.count
        yield "sum", self.total


class AdvancedSummary(Summary):
    """
    A L{Summary} with percentiles, out of a uniform sample of at most 4096 of the values.

    The sample is kept by skipping (Li's algorithm L): the position of the next value to take in is drawn in
    advance, so a full reservoir costs one comparison per value.
    """

    __slots__ = ("_next", "_random", "_sample", "_weight")

    def __init__(self, random: Random | None = None) -> None:
        """@param random: draws the sample."""
        self._random = random or Random(0)
        super().__init__()

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        self._sample: list[int] = []
        self._weight = 1.0
        self._next = 0  # of the count: from there on the sample wants a look

    def add(self, value: int, times: int = 1) -> None:
        """See L{Summary.add}."""
        # The base's work once more, without the call: this runs for each turn's reads.
        self.count = count = self.count + times
        self.total += value * times
        if value > self.greatest:
            self.greatest = value
        if value < self.least:
            self.least = value
        if count >= self._next:
            self._take(value, times)

    def _take(self, value: int, times: int) -> None:
        """Fill the sample, or put the value where the draw says, and draw which values enter it next."""
        sample, draw = self._sample, self._random.random
        weight, position = self._weight, self._next
        if len(sample) < RESERVOIR:
            sample.extend([value] * min(RESERVOIR - len(sample), times))
            if len(sample) < RESERVOIR:
                return
            position = RESERVOIR
        else:
            sample[int(draw() * RESERVOIR)] = value
        count = self.count
        while True:
            weight *= (1.0 - draw()) ** (1 / RESERVOIR)
            # Positions count from 1.
            position += int(log(1.0 - draw()) / log(1.0 - weight)) + 1
            if position > count:
                break
            sample[int(draw() * RESERVOIR)] = value
        self._weight, self._next = weight, position

    def percentile(self, quantile: float) -> int:
        """
        The value below which a share of the sample lies, between neighbours interpolated, halves rounded up.

        @param quantile: 0.0 to 1.0.
        """
        ordered = sorted(self._sample)
        return self._percentile(ordered, quantile)

    @staticmethod
    def _percentile(ordered: list[int], quantile: float) -> int:
        if not ordered:
            return 0
        position = quantile * (len(ordered) + 1)
        index = int(position)
        if index < 1:
            return ordered[0]
        if index >= len(ordered):
            return ordered[-1]
        lower, upper = ordered[index - 1], ordered[index]
        return floor(lower + (position - index) * (upper - lower) + 0.5)

    def values(self) -> Iterator[tuple[str, int | float]]:
        """See L{Summary.values}; the percentiles follow."""
        yield from super().values()
        ordered = sorted(self._sample)
        for name, quantile in QUANTILES:
            yield name, self._percentile(ordered, quantile)


class MetricSet:
    """
    Counters or summaries of one name, one for each key (a namespace, a server id).

    A key appears with its first value.  There are at most L{MetricSet.LIMIT} keys: a client that invents
    first path elements must not fill the memory; further keys are not counted.
    """

    LIMIT = 1000

    __slots__ = ("_kind", "_members", "_random")

    def __init__(self, kind: type[Summary] | None, random: Random) -> None:
        """
        @param kind: the class of the summaries; C{None}: counters.
        @param random: handed to the summaries.
        """
        self._kind = kind
        self._random = random
        self._members: dict[str, Summary | int] = {}

    def add(self, key: str, value: int, times: int = 1) -> None:
        """Add a value to the key's counter or summary."""
        member = self._members.get(key)
        if member is None:
            if len(self._members) >= self.LIMIT:
                return
            member = self._members[key] = self._kind(self._random) if self._kind is not None else 0
        if isinstance(member, int):
            self._members[key] = member + value * times
        else:
            member.add(value, times)

    def member(self, key: str) -> Summary | None:
        """Return the key's summary, to be added to directly; C{None}: it is one too many, or these are counters."""
        if self._kind is None:
            return None
        member = self._members.get(key)
        if member is None and len(self._members) < self.LIMIT:
            member = self._members[key] = self._kind(self._random)
        return member if isinstance(member, Summary) else None

    def reset(self) -> None:
        """Forget the values; the keys stay."""
        for key, member in self._members.items():
            if isinstance(member, int):
                self._members[key] = 0
            else:
                member.reset()

    def items(self) -> list[tuple[str, Summary | int]]:
        """The keys and what was counted, in the order in which they came."""
        return list(self._members.items())


class CounterSet(MetricSet):
    """A L{MetricSet} of counters."""

    __slots__ = ()

    def __init__(self, random: Random) -> None:
        super().__init__(None, random)


class SummarySet(MetricSet):
    """A L{MetricSet} of L{Summary}."""

    __slots__ = ()

    def __init__(self, random: Random) -> None:
        super().__init__(Summary, random)


class AdvancedSummarySet(MetricSet):
    """A L{MetricSet} of L{AdvancedSummary}."""

    __slots__ = ()

    def __init__(self, random: Random) -> None:
        super().__init__(AdvancedSummary, random)


Counter: TypeAlias = int


class Sample(NamedTuple):
    """
    One metric as it stands now.

    @ivar name: without C{zk_} and without a key.
    @ivar kind: C{gauge}, C{counter} or C{summary}.
    @ivar key: the key within a set, C{None} outside of sets.
    @ivar value: the number, or the summary itself.
    """

    name: str
    kind: str
    key: str | None
    value: int | float | Summary

    def lines(self) -> Iterator[tuple[str, int | float]]:
        """The names and numbers that C{mntr} prints for it."""
        name = self.name if self.key is None else f"{self.key}_{self.name}"
        if isinstance(self.value, Summary):
            for prefix, number in self.value.values():
                yield f"{prefix}_{name}", number
        else:
            yield name, self.value


class ServerMetrics:
    """
    All counters and summaries of one server.

    The annotations below are the table: each attribute is made from its own, and printed in their order.
    """

    # what clients send and get
    bytes_received_count: Counter
    response_bytes: Counter
    watch_bytes: Counter
    connection_request_count: Counter
    connection_rejected: Counter
    connection_drop_count: Counter
    connection_revalidate_count: Counter
    revalidate_count: Counter
    sessionless_connections_expired: Counter
    stale_sessions_expired: Counter
    cnxn_closed_without_zk_server_running: Counter
    # throttling
    throttled_ops: Counter
    request_throttle_wait_count: Counter
    stale_requests: Counter
    stale_requests_dropped: Counter
    stale_replies: Counter
    large_requests_rejected: Counter
    # the chain of processors
    prep_processor_request_queued: Counter
    outstanding_changes_queued: Counter
    outstanding_changes_removed: Counter
    sync_processor_request_queued: Counter
    request_commit_queued: Counter
    requests_not_forwarded_to_commit_processor: Counter
    skip_learner_request_to_next_processor_count: Counter
    # snapshots and the database
    snapshot_error_count: Counter
    snapshot_rate_limited_count: Counter
    restore_error_count: Counter
    restore_rate_limited_count: Counter
    digest_mismatches_count: Counter
    # quorum and election
    proposal_count: Counter
    commit_count: Counter
    learner_proposal_received_count: Counter
    learner_commit_received_count: Counter
    looking_count: Counter
    diff_count: Counter
    snap_count: Counter
    quit_leading_due_to_disloyal_voter: Counter
    unrecoverable_error_count: Counter
    # watches and caches
    add_dead_watcher_stall_time: Counter
    dead_watchers_queued: Counter
    dead_watchers_cleared: Counter
    response_packet_cache_hits: Counter
    response_packet_cache_misses: Counter
    response_packet_get_children_cache_hits: Counter
    response_packet_get_children_cache_misses: Counter
    # authentication and TLS
    ensemble_auth_success: Counter
    ensemble_auth_fail: Counter
    ensemble_auth_skip: Counter
    unsuccessful_handshake: Counter
    tls_handshake_exceeded: Counter
    insecure_admin_count: Counter

    quota_exceeded_error_per_namespace: CounterSet

    # counts and milliseconds without percentiles
    connection_token_deficit: Summary
    socket_closing_time: Summary
    netty_queued_buffer_capacity: Summary
    prep_processor_queue_size: Summary
    prep_process_time: Summary
    proposal_process_time: Summary
    fsynctime: Summary
    sync_processor_queue_size: Summary
    sync_process_time: Summary
    sync_processor_batch_size: Summary
    snapshottime: Summary
    restore_time: Summary
    dbinittime: Summary
    startup_snap_load_time: Summary
    startup_txns_loaded: Summary
    startup_txns_load_time: Summary
    commit_process_time: Summary
    requests_in_session_queue: Summary
    pending_session_queue_size: Summary
    session_queues_drained: Summary
    reads_issued_from_session_queue: Summary
    reads_after_write_in_session_queue: Summary
    read_commit_proc_req_queued: Summary
    write_commit_proc_req_queued: Summary
    commit_commit_proc_req_queued: Summary
    read_commit_proc_issued: Summary
    write_commit_proc_issued: Summary
    concurrent_request_processing_in_commit_processor: Summary
    time_waiting_empty_pool_in_commit_processor_read_ms: Summary
    write_batch_time_in_commit_processor: Summary
    learner_request_processor_queue_size: Summary
    election_time: Summary
    unavailable_time: Summary
    leader_unavailable_time: Summary
    follower_sync_time: Summary
    observer_sync_time: Summary
    inflight_snap_count: Summary
    inflight_diff_count: Summary
    node_created_watch_count: Summary
    node_deleted_watch_count: Summary
    node_changed_watch_count: Summary
    node_children_watch_count: Summary

    # milliseconds with percentiles
    readlatency: AdvancedSummary
    updatelatency: AdvancedSummary
    propagation_latency: AdvancedSummary
    read_final_proc_time_ms: AdvancedSummary
    write_final_proc_time_ms: AdvancedSummary
    request_throttle_queue_time_ms: AdvancedSummary
    prep_processor_queue_time_ms: AdvancedSummary
    close_session_prep_time: AdvancedSummary
    sync_processor_queue_time_ms: AdvancedSummary
    sync_processor_queue_flush_time_ms: AdvancedSummary
    sync_processor_queue_and_flush_time_ms: AdvancedSummary
    read_commitproc_time_ms: AdvancedSummary
    write_commitproc_time_ms: AdvancedSummary
    local_write_committed_time_ms: AdvancedSummary
    server_write_committed_time_ms: AdvancedSummary
    quorum_ack_latency: AdvancedSummary
    proposal_latency: AdvancedSummary
    proposal_ack_creation_latency: AdvancedSummary
    commit_propagation_latency: AdvancedSummary
    om_proposal_process_time_ms: AdvancedSummary
    om_commit_process_time_ms: AdvancedSummary
    dead_watchers_cleaner_latency: AdvancedSummary
    jvm_pause_time_ms: AdvancedSummary

    # by the first element of the path, or by server id
    read_per_namespace: SummarySet
    write_per_namespace: SummarySet
    learner_handler_qp_size: SummarySet
    ack_latency: AdvancedSummarySet
    learner_handler_qp_time_ms: AdvancedSummarySet

    def __init__(self, random: Random | None = None) -> None:
        """@param random: draws the samples of which percentiles are taken."""
        random = random or Random(0)
        for name, kind in METRICS.items():
            setattr(self, name, 0 if kind is int else kind(random))

    def reset(self) -> None:
        """Set everything back to nothing (C{srst} does); keys of sets stay."""
        for name, kind in METRICS.items():
            if kind is int:
                setattr(self, name, 0)
            else:
                getattr(self, name).reset()

    def samples(self) -> Iterator[Sample]:
        """Every metric in the order of C{mntr}: counters, their sets, summaries, their sets."""
        for name, kind in METRICS.items():
            metric = getattr(self, name)
            if kind is int:
                yield Sample(name, "counter", None, metric)
            elif isinstance(metric, MetricSet):
                for key, member in metric.items():
                    yield Sample(name, "counter" if kind is CounterSet else "summary", key, member)
            else:
                yield Sample(name, "summary", None, metric)


METRICS: dict[str, type] = get_type_hints(ServerMetrics)
"""The kind of each metric: C{int} for a counter, else the class of the summary or set."""


class BufferSizes:
    """Last, least and greatest size of something sent, -1 before the first."""

    __slots__ = ("last", "max", "min")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.last = self.min = self.max = -1

    def add(self, size: int) -> None:
        """One more was sent, of so many bytes."""
        self.last = size
        if size > self.max:
            self.max = size
        if size < self.min or self.min < 0:
            self.min = size


class ServerStats:
    """
    The older figures, which C{srvr}, C{stat} and the gauges show.

    @ivar packets_received: from clients, four-letter words included.
    @ivar packets_sent: to clients: replies, events, four-letter words' texts.
    @ivar fsync_threshold_exceed_count: flushes that took longer than C{fsync.warningthresholdms}.
    @ivar client_response: sizes of the replies.
    @ivar proposal: sizes of the proposals of a leader.
    @ivar tls_handshakes: those of clients: its C{outstanding} is how many are under way; C{None} without TLS.
    """

    __slots__ = (
        "_latency_max",
        "_latency_min",
        "_latency_total",
        "auth_failed_count",
        "client_response",
        "fsync_threshold_exceed_count",
        "latency_count",
        "non_mtls_local_conn_count",
        "non_mtls_remote_conn_count",
        "packets_received",
        "packets_sent",
        "proposal",
        "tls_handshakes",
    )

    def __init__(self) -> None:
        self.client_response = BufferSizes()
        self.proposal = BufferSizes()
        self.fsync_threshold_exceed_count = 0
        self.auth_failed_count = 0
        self.non_mtls_local_conn_count = 0
        self.non_mtls_remote_conn_count = 0
        self.tls_handshakes: Any = None
        self.reset()

    def reset(self) -> None:
        """C{srst}: latency, packets and sizes; not the counts of failures, which are for the whole run."""
        self.packets_received = 0
        self.packets_sent = 0
        self.reset_latency()
        self.client_response.reset()
        self.proposal.reset()

    def reset_latency(self) -> None:
        """Forget the latencies only."""
        self.latency_count = 0
        self._latency_total = 0
        self._latency_min: int | None = None
        self._latency_max = 0

    def add_latency(self, ms: int, times: int = 1) -> None:
        """
        A request was answered.

        @param ms: the whole milliseconds since it was read.
        @param times: how many requests were.
        """
        self.latency_count += times
        self._latency_total += ms * times
        if ms > self._latency_max:
            self._latency_max = ms
        if self._latency_min is None or ms < self._latency_min:
            self._latency_min = ms

    @property
    def min_latency(self) -> int:
        """In milliseconds, 0 if nothing was answered."""
        return self._latency_min or 0

    @property
    def avg_latency(self) -> float:
        """In milliseconds with four decimals, 0.0 if nothing was answered."""
        return average(self._latency_total, self.latency_count)

    @property
    def max_latency(self) -> int:
        """In milliseconds, 0 if nothing was answered."""
        return self._latency_max
