"""
How the running server looks from outside: what four-letter words and other surfaces may ask.

L{ServerView} has the shape that C{zktwisted.ops.view} describes.  It holds nothing of its own but the moment of the
start; every answer is read from the core, and in an ensemble from the peer, when somebody asks.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from zktwisted.config import ServerConfig
from zktwisted.edge.client import ClientFactory, ClientProtocol
from zktwisted.server.front import FrontServer
from zktwisted.server.metrics import ServerMetrics, ServerStats
from zktwisted.tree.quota import StatsTrack, limits_path, stats_path
from zktwisted.tree.watches import Watches

__all__ = ["Leading", "ServerView"]


#: What each role does, in the words of ZooKeeper's peer states.
_STATES = {"leader": "leading", "follower": "following", "observer": "observing"}


class Leading(NamedTuple):
    """
    What a leader knows of those who follow it.

    @ivar learners: connected, whether they have caught up or not.
    @ivar synced_followers: followers that have caught up and get every proposal.
    @ivar synced_non_voting_followers: those among them that have no vote.
    @ivar synced_observers: observers that have caught up.
    @ivar pending_syncs: answers to C{sync} that wait for a commit.
    @ivar uptime_ms: since it leads.
    """

    learners: int
    synced_followers: int
    synced_non_voting_followers: int
    synced_observers: int
    pending_syncs: int
    uptime_ms: int


class ServerView:
    """
    One server, from its start to its stop.

    @ivar peer: the L{zktwisted.server.peer.QuorumPeer} in an ensemble, else C{None}.
    """

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
        self.peer: Any = None
        self.secure_client_port = -1

    def begin(self) -> None:
        """A role begins: ZooKeeper makes a new server object then, whose figures begin anew."""
        self._started = self._monotonic()
        self._core.stats.reset()

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
        """The name of the role; C{looking} without one."""
        role = self._core.role
        return "looking" if role is None else role.name

    @property
    def read_only(self) -> bool:
        """Whether reads are all that is served, without a quorum."""
        role = self._core.role
        return role is not None and role.read_only

    @property
    def server_id(self) -> int:
        """C{myid}; 0 standalone."""
        return self._core.config.sid

    @property
    def peer_state(self) -> str | None:
        """What it does in its quorum; only what a server that serves can do."""
        state = _STATES.get(self.mode)
        return None if state is None else f"{state} - broadcast"

    @property
    def leading(self) -> Leading | None:
        """On a leader: who follows."""
        machine = None if self.peer is None or self.mode != "leader" else self.peer.machine
        if machine is None:
            return None
        learners = machine.learners()
        synced = [learner for learner in learners if learner.forwarding]
        followers = [learner for learner in synced if not learner.observer]
        return Leading(
            learners=len(learners),
            synced_followers=len(followers),
            synced_non_voting_followers=sum(not learner.voting for learner in followers),
            synced_observers=len(synced) - len(followers),
            pending_syncs=machine.pending_syncs,
            uptime_ms=self.uptime_ms,
        )

    @property
    def learner_master_id(self) -> int | None:
        """On an observer: the id of the leader, or of the follower that serves it in the leader's stead."""
        if self.mode != "observer":
            return None
        master: int = -1 if self.peer is None else self.peer.learner_master
        return master

    @property
    def synced_observers(self) -> int | None:
        """On a leader, and on a follower that serves observers: how many of them have caught up."""
        master = None if self.peer is None or self.mode != "follower" else self.peer.observer_master
        if master is not None:
            return sum(bool(learner.forwarding) for learner in master.learners())
        leading = self.leading
        return None if leading is None else leading.synced_observers

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
        """Lengths of all paths and data; the root stands there twice, as in L{node_count}, once as a slash."""
        return self._core.tree.data_size + 1

    @property
    def ephemerals(self) -> Mapping[int, Collection[bytes]]:
        """The paths of each session's ephemeral nodes."""
        return self._core.tree.ephemerals

    @property
    def global_sessions(self) -> int:
        """How many sessions the whole ensemble knows."""
        return self._core.global_sessions

    @property
    def local_sessions(self) -> int:
        """How many sessions only this server knows."""
        return self._core.local_sessions

    def session_sets(self) -> Sequence[tuple[int, Sequence[int]]]:
        """The expiry buckets of global sessions in time order: end (wall clock, ms) and session ids."""
        return self._session_sets(local=False)

    def local_session_sets(self) -> Sequence[tuple[int, Sequence[int]]] | None:
        """The same of local sessions, where they are."""
        here = self._core.config.local_sessions_enabled and self.mode != "standalone"
        return self._session_sets(local=True) if here else None

    def _session_sets(self, local: bool) -> Sequence[tuple[int, Sequence[int]]]:
        offset = self._wall_ms() - int(self._monotonic() * 1000)
        return [(end + offset, ids) for end, ids in self._core.sessions.buckets(local)]

    def session_timeouts(self) -> Mapping[int, int] | None:
        """The timeouts of global sessions, where they do not expire."""
        role = self._core.role
        return None if role is None or role.makes_txns else self._core.timeouts

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
