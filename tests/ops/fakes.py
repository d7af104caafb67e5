"""A server that can only be looked at."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from zktwisted.config import ServerConfig
from zktwisted.ops.commands import ConnectionView, ServerView, WatchesView
from zktwisted.server.metrics import ServerMetrics, ServerStats
from zktwisted.server.view import Leading


@dataclass(eq=False)
class FakeConnection:
    """A L{ConnectionView} of given values."""

    remote_address: str
    interest_ops: int = 1
    outstanding_requests: int = 0
    packets_received: int = 0
    packets_sent: int = 0
    session_id: int = 0
    last_op: int | None = None
    established_ms: int = 0
    session_timeout_ms: int = 0
    last_cxid: int = -1
    last_zxid: int = -1
    last_response_ms: int = 0
    last_latency: int = 0
    min_latency: int = 0
    avg_latency: int = 0
    max_latency: int = 0

    def reset_stats(self) -> None:
        """As ZooKeeper does."""
        self.packets_received = self.packets_sent = 0
        self.last_op, self.last_cxid, self.last_zxid = None, -1, -1
        self.last_response_ms = self.last_latency = 0
        self.min_latency = self.avg_latency = self.max_latency = 0


@dataclass
class FakeWatches:
    """A L{WatchesView} of a list of pairs."""

    pairs: list[tuple[bytes, FakeConnection]] = field(default_factory=list)
    child_count: int = 0

    @property
    def count(self) -> int:
        return len(self.pairs) + self.child_count

    def summary(self) -> tuple[int, int, int]:
        return len({id(w) for _, w in self.pairs}), len({path for path, _ in self.pairs}), len(self.pairs)

    def by_watcher(self) -> Iterator[tuple[object, list[bytes]]]:
        watchers = {id(watcher): watcher for _, watcher in self.pairs}
        for watcher in watchers.values():
            yield watcher, [path for path, other in self.pairs if other is watcher]

    def by_path(self) -> Iterator[tuple[bytes, list[object]]]:
        for path in dict.fromkeys(path for path, _ in self.pairs):
            yield path, [watcher for other, watcher in self.pairs if other == path]


@dataclass
class FakeView:
    """A L{ServerView} of given values."""

    config: ServerConfig = field(
        default_factory=lambda: ServerConfig(four_letter_words_whitelist=("*",), tick_time=1000)
    )
    serving: bool = True
    mode: str = "standalone"
    read_only: bool = False
    server_id: int = 0
    peer_state: str | None = None
    leading: Leading | None = None
    learner_master_id: int | None = None
    synced_observers: int | None = None
    client_port: int = 2181
    secure_client_port: int = -1
    stats: ServerStats = field(default_factory=ServerStats)
    metrics: ServerMetrics = field(default_factory=ServerMetrics)
    uptime_ms: int = 547
    outstanding_requests: int = 0
    drop_probability: float = 0.0
    last_zxid: int = 2
    node_count: int = 6
    approximate_data_size: int = 48
    ephemerals: Mapping[int, Collection[bytes]] = field(default_factory=dict)
    global_sessions: int = 0
    local_sessions: int = 0
    connections: Collection[ConnectionView] = ()
    watches: WatchesView = field(default_factory=FakeWatches)
    digests: Sequence[tuple[int, int, int]] = ()
    data_dir: str | None = None
    log_dir: str | None = None
    sessions: Sequence[tuple[int, Sequence[int]]] = ()
    local: Sequence[tuple[int, Sequence[int]]] | None = None
    timeouts: Mapping[int, int] | None = None
    expiring: Sequence[tuple[int, Sequence[ConnectionView]]] = ()
    all_quotas: Iterable[tuple[bytes, int, int, int, int]] = ()

    def session_sets(self) -> Sequence[tuple[int, Sequence[int]]]:
        return self.sessions

    def local_session_sets(self) -> Sequence[tuple[int, Sequence[int]]] | None:
        return self.local

    def session_timeouts(self) -> Mapping[int, int] | None:
        return self.timeouts

    def connection_sets(self) -> Sequence[tuple[int, Sequence[ConnectionView]]]:
        return self.expiring

    def quotas(self) -> Iterable[tuple[bytes, int, int, int, int]]:
        return self.all_quotas


def conforms(view: FakeView) -> ServerView:
    """Let the type checker hold the fake to the protocol."""
    return view


def scratch(case: SynchronousTestCase) -> Path:
    """A directory, not yet made, that goes with the test."""
    parent = tempfile.TemporaryDirectory()
    case.addCleanup(parent.cleanup)
    return Path(parent.name) / "data"
