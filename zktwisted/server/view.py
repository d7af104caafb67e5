"""
How the running server looks from outside: what four-letter words and other surfaces may ask.

L{ServerView} has the shape that C{zktwisted.ops.view} describes.  It holds nothing of its own but the moment of the
start; every answer is read from the core when somebody asks.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from zktwisted.config import ServerConfig
from zktwisted.edge.client import ClientFactory, ClientProtocol
from zktwisted.server.front import FrontServer
from zktwisted.server.metrics import ServerMetrics, ServerStats
from zktwisted.tree.quota import StatsTrack, limits_path, stats_path
from zktwisted.tree.watches import Watches

__all__ = ["ServerView"]


class ServerView:
    """One server, from its start to its stop."""

    def __init__(
        self,
        core: FrontServer,
        factory: ClientFactory,
        client_port: Callable[[], int],
        monotonic: Callable[[], float],
        wall_ms: Callable[[], int],
        on_disk: bool,
    ) -> None:
        """
        @param client_port: gives the port that is bound, -1 for none.
        @param monotonic: the time, in seconds.
        @param on_disk: whether there are files.
        """
        self._core = core
        self._factory = factory
        self._client_port = client_port
        self._monotonic = monotonic
        self._wall_ms = wall_ms
        self._on_disk = on_disk
        self._started = monotonic()

    @property
    def config(self) -> ServerConfig:
        """The settings."""
        return self._core.config

    @property
    def serving(self) -> bool:
        """Whether clients are served now."""
        return self._core.serving

    @property
    def mode(self) -> str:
        """Always C{standalone}."""
        return "standalone"

    @property
    def read_only(self) -> bool:
        """Never: there is no ensemble to be cut off from."""
        return False

    @property
    def server_id(self) -> int:
        """C{myid}; 0 standalone."""
        return 0

    @property
    def client_port(self) -> int:
        """The port that is bound for clients, -1 if none."""
        return self._client_port()

    @property
    def stats(self) -> ServerStats:
        """Packets and latencies."""
        return self._core.stats

    @property
    def metrics(self) -> ServerMetrics:
        """Counters and summaries."""
        return self._core.metrics

    @property
    def uptime_ms(self) -> int:
        """Since the start."""
        return int((self._monotonic() - self._started) * 1000)

    @property
    def outstanding_requests(self) -> int:
        """Requests in the pipeline."""
        return self._core.outstanding.in_flight

    @property
    def drop_probability(self) -> float:
        """Of the connection throttle."""
        return self._core.connection_throttle.drop_probability

    @property
    def last_zxid(self) -> int:
        """Of the last applied transaction."""
        return self._core.last_zxid

    @property
    def node_count(self) -> int:
        """ZooKeeper's count of znodes."""
        return self._core.tree.node_count

    @property
    def approximate_data_size(self) -> int:
        """Lengths of all paths and data."""
        return self._core.tree.data_size

    @property
    def ephemerals(self) -> Mapping[int, Collection[bytes]]:
        """The paths of each session's ephemeral nodes."""
        return self._core.tree.ephemerals

    @property
    def global_sessions(self) -> int:
        """How many sessions there are."""
        return len(self._core.sessions)

    @property
    def local_sessions(self) -> int:
        """None: standalone there is no other kind of session to be had."""
        return 0

    def session_sets(self) -> Sequence[tuple[int, Sequence[int]]]:
        """The expiry buckets in time order: end (wall clock, ms) and session ids."""
        offset = self._wall_ms() - int(self._monotonic() * 1000)
        return [(end + offset, ids) for end, ids in self._core.sessions.buckets()]

    def connection_sets(self) -> Sequence[tuple[int, Sequence[ClientProtocol]]]:
        """The same for connections."""
        offset = self._wall_ms() - int(self._monotonic() * 1000)
        return [(round(end * 1000) + offset, members) for end, members in self._factory.expiry.sets()]

    @property
    def connections(self) -> Collection[ClientProtocol]:
        """All client connections, the one that is asking included."""
        return self._core.connections

    @property
    def watches(self) -> Watches:
        """The watches."""
        return self._core.watches

    @property
    def digests(self) -> Sequence[tuple[int, int, int]]:
        """Kept digests of the tree, the oldest first: zxid, digest, digest version."""
        return self._core.digests

    def quotas(self) -> Iterator[tuple[bytes, int, int, int, int]]:
        """The quotas that can be read: path, count limit, bytes limit, count, bytes."""
        tree = self._core.tree
        for path in tree.quotas.paths:
            limits, stats = tree.nodes.get(limits_path(path)), tree.nodes.get(stats_path(path))
            if limits is None or stats is None:
                continue
            try:
                limit, used = StatsTrack.parse(limits.data), StatsTrack.parse(stats.data)
            except ValueError:
                continue
            yield (
                path or b"/",
                limit.nodes if limit.count_hard_limit < 0 else limit.count_hard_limit,
                limit.size if limit.byte_hard_limit < 0 else limit.byte_hard_limit,
                used.nodes,
                used.size,
            )

    @property
    def data_dir(self) -> str | None:
        """The directory of the snapshots."""
        return self._core.config.snapshot_dir if self._on_disk else None

    @property
    def log_dir(self) -> str | None:
        """The directory of the logs."""
        return self._core.config.log_dir if self._on_disk else None
