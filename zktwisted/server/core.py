"""
ZooKeeperServer: the tree and all that stands around it, for as long as the process serves.

What lives for a whole run is here: the tree, watches, sessions of the database, client connections, the answers that
need nobody else, and what applying a transaction means to all of them.  How a request becomes a transaction is a
role's affair (L{zktwisted.server.roles}): standalone, leader, follower, observer or read-only.  A role begins with
C{start}, ends with C{stop}, and between them is L{ZooKeeperServer.role}; a server that looks for a leader has none.

Refuses to know sockets, files, timers and where time comes from; those are handed in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from zktwisted.server.digests import DigestCheck
from zktwisted.server.namespaces import counter_of_reads, counter_of_writes
from zktwisted.server.processors import Stage, decode_proposal
from zktwisted.server.restore import RestoreTarget
from zktwisted.server.standalone import StandaloneRole
from zktwisted.store.database import SnapshotDigest, Storage, Trailer
from zktwisted.tree import image
from zktwisted.tree.acl import AclList, check
from zktwisted.tree.datatree import Applied, Change, DataTree
from zktwisted.tree.paths import parent_of
from zktwisted.tree.prepare import Prepare, Proposal
from zktwisted.tree.reads import Reads, encode_reply
from zktwisted.tree.replay import Replayed, replay
from zktwisted.tree.schemes import Schemes
from zktwisted.tree.sessions import SessionIds, SessionTracker, check_password, password_of
from zktwisted.tree.watches import Watches, encode_event
from zktwisted.tree.znode import ttl_of
from zktwisted.wire import jute, ops, proto, txns
from zktwisted.wire.ops import show_zxid

if TYPE_CHECKING:
    from zktwisted.config import ServerConfig
    from zktwisted.config.ensemble import Ensemble
    from zktwisted.edge.client import ClientProtocol, Request
    from zktwisted.server.metrics import ServerMetrics
    from zktwisted.server.processors import ProcessorFactory
    from zktwisted.server.roles import Role
    from zktwisted.server.timers import CallLater

__all__ = ["ZooKeeperServer"]

log = Logger()

_CREATED = ops.EventType.NODE_CREATED.value
_CHANGED = ops.EventType.NODE_DATA_CHANGED.value
_CHILDREN = ops.EventType.NODE_CHILDREN_CHANGED.value
_DIGEST_EVERY = 128
_DIGESTS_KEPT = 1024
_CONFIG_NODE = b"/zookeeper/config"
#: The id in the session ids of a server without an ensemble.
STANDALONE_ID = 1


class ZooKeeperServer:
    """
    One server: the tree and all that stands around it.

    @ivar role: what it is at present; C{None}: it is looking for a leader.
    @ivar serving: whether requests are taken.
    @ivar tree: what has been applied.
    @ivar prepare: the pending state, of a server that makes transactions.
    @ivar sessions: the sessions that this server itself may end, and when (monotonic ms).
    @ivar timeouts: timeout in ms by id of each session of the database, as snapshots have them.
    @ivar connections: all client connections, in order of arrival.
    @ivar by_session: the connection of each session that has one.
    @ivar dirty: connections with output gathered during this turn.
    @ivar settling: connections that have replies to take.
    @ivar digests: (zxid, tree digest, digest version) of every 128th transaction.
    @ivar after_batch: called after each batch has been applied.
    @ivar submit: takes a write or a sync of a client; its C{reply} is set later and its connection told.
    @ivar submit_run: takes some of one client, in order.
    @ivar touch: notes that a connection's session was heard of.
    """

    role: Role | None

    def __init__(
        self,
        config: ServerConfig,
        storage: Storage,
        *,
        monotonic: Callable[[], float],
        wall_ms: Callable[[], int],
        call_later: CallLater,
        schemes: Schemes,
        metrics: ServerMetrics,
        fatal: Callable[[Exception], None],
        server_id: int = STANDALONE_ID,
        processors: Sequence[ProcessorFactory] = (),
    ) -> None:
        """
        @param monotonic: elapsed time, seconds.
        @param wall_ms: wall clock, ms; read only when a transaction is prepared.
        @param fatal: told once that the disk failed and the server has stopped.
        @param server_id: stands in the session ids that are made here.
        @param processors: make what an embedding program puts in front of each role's chain.
        """
        self.config = config
        self.storage = storage
        self.now = monotonic
        self.wall_ms = wall_ms
        self.call_later = call_later
        self.schemes = schemes
        self.metrics = metrics
        self.fatal = fatal
        self.processors = processors
        self.tree = DataTree()
        self.watches = Watches()
        count = counter_of_reads(metrics.read_per_namespace)
        self.reads = Reads(self.tree, self.watches, schemes, skip_acl=config.skip_acl, count=count)
        self.table = self.reads.table
        self._writes = counter_of_writes(metrics.write_per_namespace)
        self.table[ops.CLOSE_SESSION] = self._close_local
        self.prepare = Prepare(
            self.tree,
            schemes,
            skip_acl=config.skip_acl,
            enforce_quota=config.enforce_quota,
            extended_types=config.extended_types_enabled,
            digest_enabled=config.digest_enabled,
            close_session_txn=config.close_session_txn_enabled,
            reconfig_enabled=config.reconfig_enabled,
            soft_quota_exceeded=self._warn_quota,
            max_entry=config.jute_max_buffer + config.jute_max_buffer_extra_size,
        )
        self.sessions = SessionTracker(config.tick_time)
        self.timeouts: dict[int, int] = {}
        self.server_id = server_id
        self.ids = SessionIds(wall_ms(), server_id)
        self.role = None
        self.serving = False
        self.connections: dict[ClientProtocol, None] = {}
        self.by_session: dict[int, ClientProtocol] = {}
        self.dirty: list[ClientProtocol] = []
        self.settling: dict[ClientProtocol, None] = {}
        self.digests: deque[tuple[int, int, int]] = deque(maxlen=_DIGESTS_KEPT)
        self.after_batch: Callable[[], None] = lambda: None
        self.submit: Callable[[Request], None] = self.drop
        self.submit_run: Callable[[list[Request]], None] = self._submit_each
        self.touch: Callable[[ClientProtocol], None] = _ignore
        self._failed = False
        self.digest_check = DigestCheck(self.tree, metrics, "the leader", enabled=config.digest_enabled)

    @property
    def last_zxid(self) -> int:
        """The last transaction applied."""
        return self.reads.zxid

    @property
    def in_flight(self) -> int:
        """Writes and syncs on their way through the chain."""
        return 0 if self.role is None else self.role.in_flight

    @property
    def global_sessions(self) -> int:
        """How many sessions the whole ensemble knows."""
        if self.role is not None and self.role.makes_txns:
            return len(self.sessions) - self.local_sessions
        return len(self.timeouts)

    @property
    def local_sessions(self) -> int:
        """How many sessions only this server knows."""
        if self.role is None or not self.role.makes_txns:
            return len(self.sessions)
        if not self.config.local_sessions_enabled:
            return 0
        return sum(session.local for session in self.sessions.sessions.values())

    # Life

    def started(self, zxid: int) -> list[bytes]:
        """
        Take over what was restored, on a server without an ensemble.

        @return: the ephemeral nodes that were removed because their session is gone.
        """
        removed = self.tree.remove_dead_ephemerals(self.timeouts, zxid)
        self.restored(zxid)
        return removed

    def restored(self, zxid: int) -> None:
        """Take over what was restored, behind C{zxid}; no role may be on."""
        self.reads.zxid = zxid
        self.prepare.start(zxid)
        self.digest_check.fuzzy = False

    def image_loaded(self, zxid: int) -> None:
        """Take over an image that a leader has sent, perhaps while it went on with its transactions."""
        self.restored(zxid)
        self.digest_check.fuzzy = True

    def open(self) -> None:
        """Take requests from now on, standalone."""
        StandaloneRole(self).start(self.reads.zxid)

    def begin(self, role: Role, zxid: int, serving: bool = True) -> None:
        """Be this from now on, behind C{zxid}: roles say so when they start."""
        if self.role is not None:
            raise AssertionError(f"{role.name} begins while {self.role.name} is on")
        self.role = role
        self.reads.zxid = zxid
        self.prepare.start(zxid)
        # The clock from which ids are made may have been set back since these were given.
        top = self.server_id & 0xFF
        given = max((each for each in self.timeouts if each >> 56 & 0xFF == top), default=None)
        if given is not None and given >= self.ids.next:
            # Those right behind it may be known to clients whose sessions are over; a count begins anew each ms.
            self.ids.next = (given | 0xFFFF) + 1
        first = role.chain[0]
        self.submit = first.process_request
        self.submit_run = first.process_run if isinstance(first, Stage) else self._submit_each
        self.touch = role.touch
        self.serving = serving and not self._failed

    def end(self, role: Role) -> None:
        """Be it no more: what stopping a role ends with.  Connections are closed, what waits is never answered."""
        if self.role is role:
            self.role = None
            self.serving = False
            self.submit, self.submit_run, self.touch = self.drop, self._submit_each, _ignore
            self.settling.clear()
            self.sessions = SessionTracker(self.config.tick_time)
            self.close_clients()

    def quiesce(self) -> Deferred[None]:
        """Take no more requests; fires when all that were taken are durable and answered, or never can be."""
        self.serving = False
        return succeed(None) if self.role is None else self.role.quiesce()

    # Clients

    def connect(self, connection: ClientProtocol, request: proto.ConnectRequest, read_only: bool | None) -> None:
        """
        Open a session or resume one (spec: client-protocol 7.1, 7.4).

        @param read_only: whether the client puts up with a server that only answers reads; C{None}: it does not say.
        """
        role = self.role
        if role is None or not self.serving:
            connection.close("not serving")
            return
        if role.read_only and not read_only:
            connection.close("this server is in read-only mode")
            return
        if request.last_zxid_seen > self.reads.zxid:
            connection.close(
                f"the client has seen zxid {show_zxid(request.last_zxid_seen)}, "
                f"our last is {show_zxid(self.reads.zxid)}"
            )
            return
        timeout = self.config.clamp_session_timeout(request.timeout)
        session_id = request.session_id
        if session_id == 0:
            role.create_session(connection, timeout)
        elif role.read_only and session_id in self.timeouts:
            connection.close("its session is the ensemble's, and this server is in read-only mode")
        elif not check_password(session_id, request.passwd):
            # The password first: who does not know it must not disconnect who does (client-protocol 12.5).
            log.info("Incorrect password for session {session}", session=show_zxid(session_id))
            connection.refuse(role.read_only)
        else:
            self.metrics.connection_revalidate_count += 1
            role.resume(connection, session_id, timeout)

    def attach(self, connection: ClientProtocol, session_id: int, timeout: int) -> None:
        """Give a connection its session, and take the session from the connection that had it."""
        old = self.by_session.get(session_id)
        if old is not None and old is not connection:
            old.close("its session moved to another connection")
        self.by_session[session_id] = connection
        connection.accept(session_id, timeout, password_of(session_id), self.role is not None and self.role.read_only)

    def disconnected(self, connection: ClientProtocol) -> None:
        """Forget a connection; its session lives on until it expires."""
        self.connections.pop(connection, None)
        self.watches.remove_watcher(connection)
        session_id = connection.session_id
        # By id and connection: a late close must not forget the session's next connection (client-protocol 12.7).
        if session_id and self.by_session.get(session_id) is connection:
            del self.by_session[session_id]

    def answer(
        self,
        connection: ClientProtocol,
        identities: Sequence[proto.Id],
        xid: int,
        op: int,
        buf: bytes,
        start: int,
        end: int,
    ) -> bytes:
        """
        Answer a local operation in place.

        @param start: where the body begins in C{buf}; C{end}: where the frame ends.

        @return: the reply frame, length included.
        """
        return self.table[op](connection, identities, xid, buf, start, end)

    def _submit_each(self, run: Iterable[Request]) -> None:
        for request in run:
            self.submit(request)

    def submit_internal(self, op: int, session_id: int, body: bytes = b"") -> None:
        """Take a write that the server makes itself: an expiry, a deleteContainer."""
        if self.role is not None and not self._failed:
            self.role.submit_internal(op, session_id, body)

    # Applying

    def apply(self, proposal: Proposal, request: Request | None) -> Applied:
        """
        Do what is agreed upon, unless it is fused: to the tree, to the sessions, and to those who watch.

        @param request: whose transaction it is; C{None}: no client's of this server.
        """
        header = proposal.header
        watches = self.watches
        changes: list[Change] | None = [] if watches.data.count or watches.child.count else None
        applied = self.tree.commit(proposal, changes)
        self.prepare.applied(proposal)
        if not applied.err:
            self._writes.count_proposal(proposal)
        self._reached(header.zxid, changes)
        if header.type == ops.CREATE_SESSION:
            self._opened(header.client_id, proposal.body.timeout)
        elif header.type == ops.CLOSE_SESSION:
            self._closed(header.client_id, request)
        return applied

    def apply_fused(self, proposal: Proposal) -> bytes:
        """Do what L{apply} does, for a fused write; return what stands behind the header of its reply."""
        watches = self.watches
        changes: list[Change] | None = [] if watches.data.count or watches.child.count else None
        reply = self.tree.commit_fused(proposal, changes)
        self.prepare.applied(proposal)
        self._writes.count_fused(proposal)
        self._reached(proposal.header.zxid, changes)
        return reply

    def _reached(self, zxid: int, changes: list[Change] | None) -> None:
        """The tree is where this transaction has brought it: say so, and tell those who watch."""
        self.reads.zxid = zxid
        if not zxid % _DIGEST_EVERY and self.config.digest_enabled:
            self.digests.append((zxid, self.tree.digest, 2))
        if changes:
            self._tell(changes, zxid)

    def settle(self) -> None:
        """
        Let clients have the replies that applying has brought: what ends each list of effects, and each turn.

        What they ask next is taken in from inside of here.
        """
        self.settle_connections()
        self.flush_dirty()

    def settle_connections(self) -> None:
        """Let connections take their replies, which L{flush_dirty} sends."""
        settling, self.settling = self.settling, {}
        for connection in settling:
            self.settle_connection(connection)

    def settle_connection(self, connection: ClientProtocol) -> None:
        """Let a connection take the replies that have come; what breaks there costs nobody else anything."""
        try:
            connection.settled()
        except Exception:  # noqa: BLE001 (whatever it was, this connection ends with it)
            log.failure("A connection cannot take its replies")
            connection.close()

    def drop(self, request: Request) -> None:
        """End a request of a session that is gone, or of a role that is: nothing is said, the connection ends."""
        request.reply = b""
        if request.connection is not None:
            request.connection.settled()

    def flush_dirty(self) -> None:
        """Send what connections have gathered, one write each."""
        while self.dirty:
            dirty, self.dirty = self.dirty, []
            for connection in dirty:
                try:
                    connection.flush()
                except Exception:  # noqa: BLE001 (as above)
                    log.failure("A connection cannot send")
                    connection.close()

    def close_clients(self) -> None:
        """Close all connections; nothing that waits is answered."""
        for connection in list(self.connections):
            connection.close()

    def fail(self, error: Exception) -> None:
        """Stop: the disk has failed, and nothing that waits for it may ever be acknowledged."""
        if self._failed:
            return
        self._failed = True
        if self.role is not None:
            self.role.stop()
        self.close_clients()
        self.fatal(error)

    # What other servers have prepared

    def replay(self, zxid: int, entry: bytes) -> None:
        """
        Do what the ensemble has agreed upon, for no client of this server.

        @raise ProtocolError: that is no transaction.
        """
        done = self.replayed(entry)
        if done is None:
            proposal, digest = decode_proposal(entry)
            self.apply(proposal, None)
        else:
            digest = done.digest
        self.agreed(zxid, entry, digest)

    def replayed(self, entry: bytes) -> Replayed | None:
        """
        Do what L{apply} does, in one go if that can be: from the bytes of an entry to the tree and those who watch.

        @return: C{None}, and nothing has happened, if it cannot be.
        """
        watches = self.watches
        changes: list[Change] | None = [] if watches.data.count or watches.child.count else None
        done = replay(self.tree, entry, changes)
        if done is not None:
            header, path, node, _ = done
            self._writes.count(path, len(node.data or b""))
            self._reached(header.zxid, changes)
        return done

    def agreed(self, zxid: int, entry: bytes, digest: txns.TxnDigest | None = None) -> None:
        """
        Keep an applied transaction for servers that fall behind, and compare digests (spec: quorum 2.1).

        @param digest: of the tree, as the server that has prepared the transaction has it.
        """
        self.storage.committed.append((zxid, entry))
        self.digest_check.compare(zxid, digest)

    def put_config(self, ensemble: Ensemble) -> None:
        """Let the configuration node say who the ensemble is (spec: server-semantics 1.3, quorum 12.2)."""
        header = txns.TxnHeader(0, 0, ensemble.version, self.wall_ms(), ops.SET_DATA)
        data = ensemble.text.encode()
        self.tree.apply(header, txns.SetDataTxn(_CONFIG_NODE, data, -1))
        self.metrics.write_per_namespace.add("zookeeper", len(_CONFIG_NODE) + len(data))

    # Sessions

    def _opened(self, session_id: int, timeout: int) -> None:
        """A createSession is committed: the session exists, and its client is told."""
        self.timeouts[session_id] = timeout
        if self.role is not None:
            self.role.opened(session_id, timeout)

    def _closed(self, session_id: int, request: Request | None) -> None:
        """A closeSession is committed; who asked for it still gets the reply."""
        self.timeouts.pop(session_id, None)
        if self.role is not None:
            self.role.closed(session_id)
        connection = self.by_session.pop(session_id, None)
        if connection is not None and (request is None or request.connection is not connection):
            connection.close("its session has ended")

    def expire_sessions(self, now_ms: float) -> None:
        """Close the sessions whose time has come."""
        if self.role is None:
            return
        for session_id in self.sessions.expire_due(now_ms):
            session = self.sessions.sessions[session_id]
            log.info(
                "Expiring session {session}, timeout of {timeout}ms exceeded",
                session=show_zxid(session_id),
                timeout=session.timeout,
            )
            self.metrics.stale_sessions_expired += 1
            if session.local:
                self.end_local(session_id)
            else:
                self.submit_internal(ops.CLOSE_SESSION, session_id)

    def _close_local(
        self, connection: ClientProtocol, identities: Sequence[proto.Id], xid: int, buf: bytes, start: int, end: int
    ) -> bytes:
        """Answer the closeSession of a session that only this server knows, in its turn like a read."""
        self.end_local(connection.session_id, connection)
        return encode_reply(xid, self.reads.zxid, 0)

    def end_local(self, session_id: int, by: ClientProtocol | None = None) -> None:
        """A session that only this server knows ends; no transaction says so."""
        self.sessions.remove(session_id)
        connection = self.by_session.pop(session_id, None)
        if connection is not None and connection is not by:
            connection.close("its session has ended")

    def expendable_nodes(self, wall_ms: int) -> list[bytes]:
        """
        Return the containers and TTL nodes that nobody needs any more (spec: server-semantics 7).

        They are the affair of the server that makes transactions; on others there are none.
        """
        if self.role is None or not self.role.makes_txns:
            return []
        nodes = self.tree.nodes
        never_used_ms = self.config.container_max_never_used_interval_ms
        found = []
        for path in self.tree.containers:
            node = nodes[path]
            if not node.children and (
                node.cversion > 0 or (never_used_ms > 0 and wall_ms - node.mtime > never_used_ms)
            ):
                found.append(path)
        for path in self.tree.ttls:
            node = nodes[path]
            if not node.children and wall_ms - node.mtime > ttl_of(node.owner):
                found.append(path)
        return found

    def delete_container(self, path: bytes) -> None:
        """Delete a node that L{expendable_nodes} has found, if it still is expendable when its turn comes."""
        self.submit_internal(ops.DELETE_CONTAINER, 0, jute.pack_buffer(path))

    # Watches

    def _tell(self, changes: Iterable[Change], zxid: int) -> None:
        watches = self.watches
        for kind, path, acl, parent_acl in changes:
            path = path or b"/"
            if kind == _CHANGED:
                self._deliver(watches.changed(path), kind, path, zxid, acl)
                continue
            parent = parent_of(path) or b"/"
            told, parent_told = watches.created(path, parent) if kind == _CREATED else watches.deleted(path, parent)
            self._deliver(told, kind, path, zxid, acl)
            self._deliver(parent_told, _CHILDREN, parent, zxid, parent_acl)

    def _deliver(
        self, watchers: Iterable[object] | None, kind: int, path: bytes, zxid: int, acl: AclList | None
    ) -> None:
        """Tell of an event those who may read the node (spec: server-semantics 6.3)."""
        if watchers is None:
            return
        frame = encode_event(kind, path, zxid)
        everybody = acl is None or acl.world & ops.READ or self.config.skip_acl
        count = 0
        connection: Any  # a watcher of ours is a ClientProtocol
        for connection in watchers:
            count += 1
            if everybody or check(acl, ops.READ, connection.identities.current, self.schemes):
                connection.deliver(frame)
        (
            self.metrics.node_created_watch_count,
            self.metrics.node_deleted_watch_count,
            self.metrics.node_changed_watch_count,
            self.metrics.node_children_watch_count,
        )[kind - 1].add(count)

    def _warn_quota(self, path: bytes) -> None:
        log.warn("Quota exceeded (soft limit): {path}", path=path.decode("utf-8", "replace"))

    # Snapshots and restoring

    def snapshot_image(self) -> tuple[int, Iterator[bytes], Callable[[], Trailer]]:
        """Return the zxid of a snapshot that begins now, its chunks, and what gives its last sections at the end."""
        return self.reads.zxid, image.chunks(self.tree, self.timeouts), self._trailer

    def _trailer(self) -> Trailer:
        zxid = self.reads.zxid
        if self.digest_check.fuzzy:
            # An image that came while the leader went on: it has the digest of no transaction.
            return Trailer(None, None)
        digest = SnapshotDigest(zxid, 2, self.tree.digest if zxid else 0) if self.config.digest_enabled else None
        return Trailer(digest, zxid if self.config.serialize_last_processed_zxid_enabled else None)

    def restore_target(self) -> RestoreTarget:
        """Return what the store restores into."""
        return RestoreTarget(self)


def _ignore(connection: ClientProtocol) -> None:
    """Without a role no session lives here."""
