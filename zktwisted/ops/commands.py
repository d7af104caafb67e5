"""
What the server tells about itself, as values: one table of commands for every surface.

The four-letter words (L{zktwisted.ops.fourletter}) render these values as text.  The names of the commands and of
the fields are those of ZooKeeper's admin server.  Everything is read from a L{ServerView} at the moment of asking;
nothing is cached, nothing waits, and no command changes more than statistics and the trace mask.

Rules: spec: operations 1 to 3.
"""

from __future__ import annotations

import getpass
import os
import platform
import socket
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from zktwisted._version import __version__
from zktwisted.ops.view import ConnectionView, ServerView, WatchesView

__all__ = ["COMMANDS", "VERSION", "Command", "Commands", "ConnectionView", "ServerView", "WatchesView"]

VERSION = f"3.9.5-zktwisted-{__version__}, built on 2026-11-22 00:00 UTC"
"""What C{srvr} says: clients and dashboards expect a release of ZooKeeper's first, then a date."""

LAST_OPERATIONS: Mapping[int, str] = {
    -11: "CLOS",
    -10: "SESS",
    1: "CREA",
    2: "DELE",
    3: "EXIS",
    4: "GETD",
    5: "SETD",
    6: "GETA",
    7: "SETA",
    8: "GETC",
    9: "SYNC",
    11: "PING",
    12: "GETC",
    13: "CHEC",
    14: "MULT",
    15: "CREA",
    16: "RECO",
    17: "CHKW",
    18: "REMW",
    19: "CREA",
    20: "DELE",
    21: "CREA",
    22: "MLTR",
    101: "SETW",
    102: "SASL",
    103: "GETE",
    104: "GETACN",
    105: "STW2",
    106: "ADDW",
    107: "HOMI",
}
"""What a connection's line calls the last op code: four letters, or a few more."""


Value = object
"""What stands in a reply: numbers, texts, lists and dicts of them."""


class Command(NamedTuple):
    """
    One row of the table.

    @ivar name: ZooKeeper's primary name.
    @ivar aliases: its other names; the four-letter word is the last.
    @ivar run: gives the fields of the reply.
    @ivar always: whether it answers while the server does not serve.
    """

    name: str
    aliases: tuple[str, ...]
    run: Callable[[Commands], dict[str, Value]]
    always: bool = False


class Commands:
    """
    The commands of one server.

    @ivar view: the server.
    @ivar trace_mask: kept because C{stmk} sets it and C{gtmk} reads it; nothing here is traced by it.
    """

    def __init__(self, view: ServerView) -> None:
        """@param view: the server to tell about."""
        self.view = view
        self.trace_mask = 306

    def configuration(self) -> dict[str, Value]:
        """The settings that ZooKeeper shows."""
        view, config = self.view, self.view.config
        return {
            "client_port": view.client_port,
            "data_dir": view.data_dir or "",
            "data_log_dir": view.log_dir or "",
            "tick_time": config.tick_time,
            "max_client_cnxns": config.max_client_cnxns,
            "min_session_timeout": config.min_session_timeout,
            "max_session_timeout": config.max_session_timeout,
            "server_id": view.server_id,
            "client_port_listen_backlog": config.client_port_listen_backlog,
            **ensemble_fields(view),
        }

    def connections(self) -> dict[str, Value]:
        """All connections with all their fields."""
        return {"connections": [connection_fields(c) for c in self.view.connections], "secure_connections": []}

    def connection_stat_reset(self) -> dict[str, Value]:
        """Reset the figures of every connection."""
        for connection in self.view.connections:
            connection.reset_stats()
        return {}

    def stat_reset(self) -> dict[str, Value]:
        """Reset the figures of the server, metrics included."""
        self.view.stats.reset()
        self.view.metrics.reset()
        return {}

    def dirs(self) -> dict[str, Value]:
        """What the data takes on disk."""
        return {
            "datadir_size": directory_size(self.view.data_dir),
            "logdir_size": directory_size(self.view.log_dir),
        }

    def dump(self) -> dict[str, Value]:
        """When sessions expire, and what would go with them."""
        own = self.view.session_timeouts() is None
        return {
            "expiry_time_to_session_ids": {
                str(end): list(ids) for end, ids in (self.view.session_sets() if own else ())
            },
            "session_id_to_ephemeral_paths": {
                str(session): [text(path) for path in paths] for session, paths in self.view.ephemerals.items()
            },
        }

    def environment(self) -> dict[str, Value]:
        """Where the server runs."""
        return dict(environment())

    def get_trace_mask(self) -> dict[str, Value]:
        """The trace mask."""
        return {"tracemask": self.trace_mask}

    def digest(self) -> dict[str, Value]:
        """The digests of the tree that were kept."""
        return {
            "digests": [
                {"zxid": zxid, "digest": digest, "digest_version": version}
                for zxid, digest, version in self.view.digests
            ]
        }

    def is_read_only(self) -> dict[str, Value]:
        """Whether only reads are served."""
        return {"read_only": self.view.read_only}

    def ruok(self) -> dict[str, Value]:
        """Nothing: an answer is the answer."""
        return {}

    def server_stats(self) -> dict[str, Value]:
        """The figures of C{srvr}."""
        view, stats = self.view, self.view.stats
        sizes = {
            "last_buffer_size": stats.client_response.last,
            "min_buffer_size": stats.client_response.min,
            "max_buffer_size": stats.client_response.max,
        }
        return {
            "version": VERSION,
            "read_only": view.read_only,
            "server_stats": {
                "packets_sent": stats.packets_sent,
                "packets_received": stats.packets_received,
                "fsync_threshold_exceed_count": stats.fsync_threshold_exceed_count,
                "client_response_stats": sizes,
                "data_dir_size": directory_size(view.data_dir),
                "log_dir_size": directory_size(view.log_dir),
                "provider_null": False,
                "last_processed_zxid": view.last_zxid,
                "outstanding_requests": view.outstanding_requests,
                "server_state": server_state(view),
                "avg_latency": stats.avg_latency,
                "max_latency": stats.max_latency,
                "min_latency": stats.min_latency,
                "num_alive_client_connections": len(view.connections),
                "auth_failed_count": stats.auth_failed_count,
                "non_mtlsremote_conn_count": stats.non_mtls_remote_conn_count,
                "non_mtlslocal_conn_count": stats.non_mtls_local_conn_count,
                "uptime": view.uptime_ms,
            },
            "client_response": sizes,
            **proposal_fields(view),
            "node_count": view.node_count,
        }

    def stats(self) -> dict[str, Value]:
        """The figures of C{srvr} and the connections in brief."""
        brief = [connection_fields(connection, brief=True) for connection in self.view.connections]
        return {**self.server_stats(), "connections": brief, "secure_connections": []}

    def watch_summary(self) -> dict[str, Value]:
        """How many data watches there are."""
        connections, paths, total = self.view.watches.summary()
        return {"num_connections": connections, "num_paths": paths, "num_total_watches": total}

    def watches(self) -> dict[str, Value]:
        """The paths that each session watches."""
        found: dict[str, list[str]] = {}
        for watcher, paths in self.view.watches.by_watcher():
            found.setdefault(str(session_of(watcher)), []).extend(text(path) for path in paths)
        return {"session_id_to_watched_paths": found}

    def watches_by_path(self) -> dict[str, Value]:
        """The sessions that watch each path."""
        return {
            "path_to_session_ids": {
                text(path): [session_of(watcher) for watcher in watchers]
                for path, watchers in self.view.watches.by_path()
            }
        }

    def monitor(self) -> dict[str, Value]:
        """All metrics by name, in the order of C{mntr}."""
        view = self.view
        found: dict[str, Value] = {"version": VERSION, "server_state": server_state(view)}
        if view.peer_state is not None:
            found["peer_state"] = view.peer_state
        if view.learner_master_id is not None:
            found["observer_master_id"] = view.learner_master_id
        for name, read in GAUGES.items():
            found[name] = read(view)
        found.update(quorum_gauges(view))
        for name, value in quota_gauges(view.quotas()):
            found[name] = value
        for sample in view.metrics.samples():
            found.update(sample.lines())
        return found


COMMANDS: tuple[Command, ...] = (
    Command("configuration", ("config", "conf"), Commands.configuration),
    Command("connection_stat_reset", ("crst",), Commands.connection_stat_reset),
    Command("connections", ("cons",), Commands.connections),
    Command("dirs", (), Commands.dirs),
    Command("dump", (), Commands.dump),
    Command("environment", ("env", "envi"), Commands.environment, always=True),
    Command("get_trace_mask", ("gtmk",), Commands.get_trace_mask, always=True),
    Command("hash", (), Commands.digest),
    Command("is_read_only", ("isro",), Commands.is_read_only),
    Command("monitor", ("mntr",), Commands.monitor),
    Command("ruok", (), Commands.ruok),
    Command("server_stats", ("srvr",), Commands.server_stats),
    Command("stat_reset", ("srst",), Commands.stat_reset),
    Command("stats", ("stat",), Commands.stats),
    Command("watch_summary", ("wchs",), Commands.watch_summary),
    Command("watches", ("wchc",), Commands.watches),
    Command("watches_by_path", ("wchp",), Commands.watches_by_path),
)


def server_state(view: ServerView) -> str:
    """The mode, C{read-only} before all others."""
    return "read-only" if view.read_only else view.mode


def ensemble_fields(view: ServerView) -> dict[str, Value]:
    """What C{conf} tells besides in an ensemble; the members only while this server is one of a quorum."""
    config = view.config
    member, ensemble = config.member, config.ensemble
    if member is None or ensemble is None:
        return {}
    fields: dict[str, Value] = {
        "init_limit": config.init_limit,
        "sync_limit": config.sync_limit,
        "election_alg": config.election_alg,
        "election_port": "|".join(str(address.port) for address in member.election_addresses),
        "quorum_port": "|".join(str(address.port) for address in member.addresses),
        "peer_type": 1 if config.observer else 0,
    }
    if not view.read_only:
        fields["membership"] = ensemble.text
    return fields


def proposal_fields(view: ServerView) -> dict[str, Value]:
    """The sizes of proposals, on a leader."""
    if view.leading is None:
        return {}
    sizes = view.stats.proposal
    return {
        "proposal_stats": {
            "last_buffer_size": sizes.last,
            "min_buffer_size": sizes.min,
            "max_buffer_size": sizes.max,
        }
    }


def session_of(watcher: object) -> int:
    """The session of a L{HasSession}."""
    session: int = watcher.session_id  # type: ignore[attr-defined]
    return session


def text(path: bytes) -> str:
    """A path for people."""
    return path.decode("utf-8", "replace")


def last_operation(op: int | None) -> str:
    """What C{cons} calls an op code: C{NA} for none."""
    return "NA" if op is None else LAST_OPERATIONS.get(op, f"0x{op & 0xFFFFFFFF:x}")


def connection_fields(connection: ConnectionView, brief: bool = False) -> dict[str, Value]:
    """The fields of one connection; only the first five if C{brief} or if it has no session."""
    fields: dict[str, Value] = {
        "remote_socket_address": connection.remote_address,
        "interest_ops": connection.interest_ops,
        "outstanding_requests": connection.outstanding_requests,
        "packets_received": connection.packets_received,
        "packets_sent": connection.packets_sent,
    }
    if not brief and connection.session_id:
        fields |= {
            "session_id": connection.session_id,
            "last_operation": last_operation(connection.last_op),
            "established": connection.established_ms,
            "session_timeout": connection.session_timeout_ms,
            "last_cxid": connection.last_cxid,
            "last_zxid": connection.last_zxid,
            "last_response_time": connection.last_response_ms,
            "last_latency": connection.last_latency,
            "min_latency": connection.min_latency,
            "avg_latency": connection.avg_latency,
            "max_latency": connection.max_latency,
        }
    return fields


def directory_size(path: str | None) -> int:
    """The sizes of the files in a directory, added up; 0 if there is none."""
    total = 0
    try:
        with os.scandir(path or os.devnull) as entries:
            for entry in entries:
                try:
                    total += entry.stat().st_size if entry.is_file() else 0
                except FileNotFoundError:
                    continue  # purged while we looked
    except (FileNotFoundError, NotADirectoryError):
        return 0
    return total


def open_file_descriptors() -> int:
    """How many files and sockets this process has open; -1 where the system does not tell."""
    for directory in ("/proc/self/fd", "/dev/fd"):
        try:
            return len(os.listdir(directory))
        except OSError:
            continue
    return -1


def max_file_descriptors() -> int:
    """How many files and sockets this process may have open; -1 where the system does not tell."""
    try:
        import resource
    except ImportError:  # not on Windows
        return -1
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _memory(pages: str) -> str:
    """So many of the system's pages in whole megabytes."""
    try:
        return f"{os.sysconf(pages) * os.sysconf('SC_PAGE_SIZE') >> 20}MB"
    except (AttributeError, ValueError, OSError):
        return "<NA>"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, ImportError, OSError):  # a user id without a name, as containers have
        return "?"


def _directory() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed under us
        return "?"


def environment() -> Iterator[tuple[str, str]]:
    """Java's keys; those of the virtual machine tell of the interpreter."""
    machine = platform.machine()
    yield "zookeeper.version", VERSION
    yield "host.name", socket.gethostname()
    yield "java.version", platform.python_version()
    yield "java.vendor", platform.python_implementation()
    yield "java.home", sys.prefix
    yield "java.class.path", os.pathsep.join(sys.path)
    yield "java.library.path", "<NA>"
    yield "java.io.tmpdir", tempfile.gettempdir()
    yield "java.compiler", "<NA>"
    yield "os.name", platform.system()
    yield "os.arch", {"x86_64": "amd64", "AMD64": "amd64"}.get(machine, machine)
    yield "os.version", platform.release()
    yield "user.name", _user()
    yield "user.home", os.path.expanduser("~")
    yield "user.dir", _directory()
    yield "os.memory.free", _memory("SC_AVPHYS_PAGES")
    yield "os.memory.max", _memory("SC_PHYS_PAGES")
    yield "os.memory.total", _memory("SC_PHYS_PAGES")


GAUGES: Mapping[str, Callable[[ServerView], int | float]] = {
    "avg_latency": lambda view: view.stats.avg_latency,
    "max_latency": lambda view: view.stats.max_latency,
    "min_latency": lambda view: view.stats.min_latency,
    "packets_received": lambda view: view.stats.packets_received,
    "packets_sent": lambda view: view.stats.packets_sent,
    "num_alive_connections": lambda view: len(view.connections),
    "outstanding_requests": lambda view: view.outstanding_requests,
    "uptime": lambda view: view.uptime_ms,
    "znode_count": lambda view: view.node_count,
    "watch_count": lambda view: view.watches.count,
    "ephemerals_count": lambda view: sum(map(len, view.ephemerals.values())),
    "approximate_data_size": lambda view: view.approximate_data_size,
    "global_sessions": lambda view: view.global_sessions,
    "local_sessions": lambda view: view.local_sessions,
    "open_file_descriptor_count": lambda view: open_file_descriptors(),
    "max_file_descriptor_count": lambda view: max_file_descriptors(),
    "connection_drop_probability": lambda view: view.drop_probability,
    "last_client_response_size": lambda view: view.stats.client_response.last,
    "max_client_response_size": lambda view: view.stats.client_response.max,
    "min_client_response_size": lambda view: view.stats.client_response.min,
    "outstanding_tls_handshake": lambda view: getattr(view.stats.tls_handshakes, "outstanding", 0),
    "auth_failed_count": lambda view: view.stats.auth_failed_count,
    "non_mtls_remote_conn_count": lambda view: view.stats.non_mtls_remote_conn_count,
    "non_mtls_local_conn_count": lambda view: view.stats.non_mtls_local_conn_count,
}
"""The gauges of every server, each with the way to read it."""


def quorum_gauges(view: ServerView) -> Iterator[tuple[str, int]]:
    """The gauges of a member of an ensemble, and those of its leader."""
    if view.peer_state is None or view.config.ensemble is None:
        return
    yield "quorum_size", len(view.config.ensemble.voters)
    if view.synced_observers is not None:
        yield "synced_observers", view.synced_observers
    leading = view.leading
    if leading is None:
        return
    yield "learners", leading.learners
    yield "synced_followers", leading.synced_followers
    yield "synced_non_voting_followers", leading.synced_non_voting_followers
    yield "pending_syncs", leading.pending_syncs
    yield "leader_uptime", leading.uptime_ms
    yield "last_proposal_size", view.stats.proposal.last
    yield "max_proposal_size", view.stats.proposal.max
    yield "min_proposal_size", view.stats.proposal.min


def quota_gauges(quotas: Iterable[tuple[bytes, int, int, int, int]]) -> Iterator[tuple[str, int]]:
    """
    The gauges of quotas: for each first path element the sums over its quotas.

    A limit that is not set does not count, unless no quota of the namespace has one: then it is -1.
    """
    kinds = ("quota_count_limit", "quota_bytes_limit", "quota_count_usage", "quota_bytes_usage")
    sums: dict[str, list[int]] = {}
    for path, *numbers in quotas:
        namespace = text(path.split(b"/")[1])
        known = sums.setdefault(namespace, [-1, -1, -1, -1])
        for index, number in enumerate(numbers):
            if number >= 0:
                known[index] = max(known[index], 0) + number
    for index, kind in enumerate(kinds):
        for namespace, known in sums.items():
            if index < 2 or known[index] >= 0:
                yield f"{namespace}_{kind}_per_namespace", known[index]
