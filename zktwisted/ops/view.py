"""
What operators' surfaces must know of a server, as protocols that the server conforms to.

Reading is all that they allow, but for the reset of a connection's figures.  Nothing here runs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from zktwisted.config import ServerConfig
    from zktwisted.server.metrics import ServerMetrics, ServerStats
    from zktwisted.server.view import Leading

__all__ = ["ConnectionView", "HasSession", "ServerView", "WatchesView"]


class ConnectionView(Protocol):
    """One client connection as C{cons} shows it.  Times in whole milliseconds."""

    @property
    def remote_address(self) -> str:
        """Address and port in Java's form: C{127.0.0.1:5000}, C{[0:0:0:0:0:0:0:1]:5000}."""

    @property
    def interest_ops(self) -> int:
        """1 while read from, 4 more while output waits, 0 for one that is answering a four-letter word."""

    @property
    def outstanding_requests(self) -> int:
        """Requests read and not answered."""

    @property
    def packets_received(self) -> int:
        """Since it was opened or reset."""

    @property
    def packets_sent(self) -> int:
        """Since it was opened or reset."""

    @property
    def session_id(self) -> int:
        """0 while there is no session; the fields below count only when there is one."""

    @property
    def last_op(self) -> int | None:
        """The op code of the last answer; C{None} before the first."""

    @property
    def established_ms(self) -> int:
        """When it was opened, wall clock."""

    @property
    def session_timeout_ms(self) -> int:
        """The session's timeout."""

    @property
    def last_cxid(self) -> int:
        """The cxid of the last answer, -1 before the first."""

    @property
    def last_zxid(self) -> int:
        """The zxid of the last answer, -1 before the first."""

    @property
    def last_response_ms(self) -> int:
        """When the last answer was given, monotonic; 0 before the first."""

    @property
    def last_latency(self) -> int:
        """Of the last answer."""

    @property
    def min_latency(self) -> int:
        """0 before the first answer."""

    @property
    def avg_latency(self) -> int:
        """Rounded down; 0 before the first answer."""

    @property
    def max_latency(self) -> int:
        """0 before the first answer."""

    def reset_stats(self) -> None:
        """Forget packets, latencies and what was last (C{crst})."""


class HasSession(Protocol):
    """A watcher: a connection with its session."""

    @property
    def session_id(self) -> int:
        """The session that watches."""


class WatchesView(Protocol):
    """The watches; L{zktwisted.tree.watches.Watches} is one, if its watchers are L{HasSession}."""

    @property
    def count(self) -> int:
        """All watches, on data and on children."""

    def summary(self) -> tuple[int, int, int]:
        """Watchers, paths and watches of the data table."""

    def by_watcher(self) -> Iterator[tuple[object, list[bytes]]]:
        """The paths that each L{HasSession} watches in the data table."""

    def by_path(self) -> Iterator[tuple[bytes, list[object]]]:
        """The L{HasSession} that watch each path in the data table."""


class ServerView(Protocol):
    """
    What the commands must know of a server; the server conforms to it.

    Only C{config}, C{serving}, C{metrics}, C{stats} and C{uptime_ms} are read while C{serving} is false.
    """

    @property
    def config(self) -> ServerConfig:
        """The settings."""

    @property
    def serving(self) -> bool:
        """Whether clients are served now."""

    @property
    def mode(self) -> str:
        """C{standalone}, C{leader}, C{follower}, C{observer} or C{read-only}; anything while C{serving} is false."""

    @property
    def read_only(self) -> bool:
        """Whether this server is cut off and serves reads only."""

    @property
    def server_id(self) -> int:
        """C{myid}; 0 standalone."""

    @property
    def peer_state(self) -> str | None:
        """What this server does in its ensemble, as C{leading - broadcast}; C{None} when it is not part of a quorum."""

    @property
    def leading(self) -> Leading | None:
        """On a leader only: who follows it."""

    @property
    def learner_master_id(self) -> int | None:
        """On an observer only: the id of the server that it gets everything from, -1 if unknown."""

    @property
    def synced_observers(self) -> int | None:
        """How many observers follow this server and have caught up; C{None} if it does not serve observers."""

    @property
    def client_port(self) -> int:
        """The port that is bound for clients, -1 if none."""

    @property
    def secure_client_port(self) -> int:
        """The port that is bound for clients with TLS alone, -1 if none."""

    @property
    def stats(self) -> ServerStats:
        """Packets and latencies."""

    @property
    def metrics(self) -> ServerMetrics:
        """Counters and summaries."""

    @property
    def uptime_ms(self) -> int:
        """Since the start."""

    @property
    def outstanding_requests(self) -> int:
        """Requests in the pipeline."""

    @property
    def drop_probability(self) -> float:
        """Of the connection throttle."""

    @property
    def last_zxid(self) -> int:
        """Of the last applied transaction."""

    @property
    def node_count(self) -> int:
        """ZooKeeper's count of znodes, in which the root stands twice: 5 on an empty server."""

    @property
    def approximate_data_size(self) -> int:
        """Lengths of all paths and data."""

    @property
    def ephemerals(self) -> Mapping[int, Collection[bytes]]:
        """The paths of each session's ephemeral nodes; sessions without any are left out."""

    @property
    def global_sessions(self) -> int:
        """How many sessions there are."""

    @property
    def local_sessions(self) -> int:
        """How many of them are local to this server."""

    def session_sets(self) -> Sequence[tuple[int, Sequence[int]]]:
        """The expiry buckets of global sessions in time order: end (wall clock, ms) and session ids."""

    def local_session_sets(self) -> Sequence[tuple[int, Sequence[int]]] | None:
        """The same of local sessions; C{None} where there are none to be had."""

    def session_timeouts(self) -> Mapping[int, int] | None:
        """
        The timeouts of global sessions where another server watches over them: session id to milliseconds.

        C{None} on a server that expires them itself, as C{session_sets} tells.
        """

    def connection_sets(self) -> Sequence[tuple[int, Sequence[ConnectionView]]]:
        """The same for connections."""

    @property
    def connections(self) -> Collection[ConnectionView]:
        """All client connections, the one that is asking included."""

    @property
    def watches(self) -> WatchesView:
        """The watches."""

    @property
    def digests(self) -> Sequence[tuple[int, int, int]]:
        """Kept digests of the tree, the oldest first: zxid, digest, digest version."""

    def quotas(self) -> Iterable[tuple[bytes, int, int, int, int]]:
        """
        The quotas: path, count limit, bytes limit, count, bytes.

        Limits are the hard ones where set, else the soft ones, -1 for none.  Quotas whose text cannot be read are
        left out.
        """

    @property
    def data_dir(self) -> str | None:
        """The directory that holds the snapshots (C{version-2}); C{None} when nothing is on disk."""

    @property
    def log_dir(self) -> str | None:
        """The directory that holds the logs."""
