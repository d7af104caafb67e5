"""
ZooKeeperServer: where requests, transactions, the log and the tree meet.

The way of a write is to be read from top to bottom here: C{submit} prepares it (zxid, checks, transaction), appends it
to the log and gathers it with the others of its turn; C{_commit} asks the store to make the gathered batch durable;
C{_persisted} applies the batch in zxid order, tells the watchers and gives each request its reply.  A standalone
server is a quorum of one: its own log is the agreement.

Knows sessions, watches and connections as far as the chain needs them.  Refuses to know sockets, files, timers and
where time comes from; those are handed in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from struct import Struct
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from zktwisted.errors import Code, ProtocolError
from zktwisted.server.namespaces import count_read, count_writes
from zktwisted.server.replies import encode_write_reply
from zktwisted.server.restore import RestoreTarget
from zktwisted.store.database import SnapshotDigest, Storage, Trailer
from zktwisted.tree import image
from zktwisted.tree.acl import AclList, check
from zktwisted.tree.datatree import Change, DataTree
from zktwisted.tree.paths import parent_of
from zktwisted.tree.prepare import Prepare, Proposal
from zktwisted.tree.reads import Reads, encode_reply
from zktwisted.tree.schemes import Schemes
from zktwisted.tree.sessions import SessionIds, SessionTracker, check_password, password_of
from zktwisted.tree.watches import Watches, encode_event
from zktwisted.tree.znode import ttl_of
from zktwisted.wire import jute, ops, proto
from zktwisted.wire.ops import show_zxid

if TYPE_CHECKING:
    from zktwisted.config import ServerConfig
    from zktwisted.edge.client import ClientProtocol, Request
    from zktwisted.server.metrics import ServerMetrics

__all__ = ["ZooKeeperServer"]

log = Logger()

_CREATED = ops.EventType.NODE_CREATED.value
_CHANGED = ops.EventType.NODE_DATA_CHANGED.value
_CHILDREN = ops.EventType.NODE_CHILDREN_CHANGED.value
_DIGEST_EVERY = 128
_DIGESTS_KEPT = 1024
_pack_int = Struct(">i").pack
_STANDALONE_ID = 1


class CallLater(Protocol):
    """C{IReactorTime.callLater}."""

    def __call__(self, delay: float, function: Callable[[], None], /) -> object:
        """Call C{function} after C{delay} seconds."""


class ZooKeeperServer:
    """
    One server: the tree and all that stands around it.

    @ivar tree: what has been applied.
    @ivar sessions: who is expected to be heard of, and until when (monotonic ms).
    @ivar timeouts: timeout in ms by id of each session of the database, as snapshots have them.
    @ivar serving: whether requests are taken.
    @ivar connections: all client connections, in order of arrival.
    @ivar by_session: the connection of each session that has one.
    @ivar dirty: connections with output gathered during this turn.
    @ivar digests: (zxid, tree digest, digest version) of every 128th transaction.
    @ivar after_batch: called after each batch has been applied.
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
        metrics: ServerMetrics,
        fatal: Callable[[Exception], None],
    ) -> None:
        """
        @param monotonic: elapsed time, seconds.
        @param wall_ms: wall clock, ms; read only when a transaction is prepared.
        @param fatal: told once that the disk failed and the server has stopped.
        """
        self.config = config
        self.storage = storage
        self.now = monotonic
        self.wall_ms = wall_ms
        self.call_later = call_later
        self.schemes = schemes
        self.metrics = metrics
        self.fatal = fatal
        self.tree = DataTree()
        self.watches = Watches()
        self.reads = Reads(
            self.tree, self.watches, schemes, skip_acl=config.skip_acl, count=partial(count_read, metrics)
        )
        self.table = self.reads.table
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
        )
        self.sessions = SessionTracker(config.tick_time)
        self.timeouts: dict[int, int] = {}
        self.ids = SessionIds(wall_ms(), _STANDALONE_ID)
        self.serving = False
        self.connections: dict[ClientProtocol, None] = {}
        self.by_session: dict[int, ClientProtocol] = {}
        self.dirty: list[ClientProtocol] = []
        self.digests: deque[tuple[int, int, int]] = deque(maxlen=_DIGESTS_KEPT)
        self.after_batch: Callable[[], None] = lambda: None
        self._gathered: list[tuple[Proposal | None, Request | None]] = []
        self._in_flight = 0
        self._scheduled = False
        # When the last flush began, and how much had gathered when it was last waited for more.
        self._flushed = 0.0
        self._waited_for = 0
        self._committing = False
        self._in_commit = False
        self._failed = False
        self._drained: list[Deferred[None]] = []
        # Connections that wait for the createSession of their session.
        self._opening: dict[int, ClientProtocol] = {}

    @property
    def last_zxid(self) -> int:
        """The last transaction applied."""
        return self.reads.zxid

    @property
    def in_flight(self) -> int:
        """Writes and syncs between C{submit} and their reply."""
        return self._in_flight

    # Life

    def started(self, zxid: int) -> list[bytes]:
        """
        Take over what was restored: nothing pending behind C{zxid}, each session with its whole timeout ahead.

        @return: the ephemeral nodes that were removed because their session is gone.
        """
        removed = self.tree.remove_dead_ephemerals(self.timeouts, zxid)
        self.reads.zxid = zxid
        self.prepare.start(zxid)
        self.sessions.load(self.timeouts, self.now() * 1000)
        # The clock from which ids are made may have been set back since these were given.
        given = max((each for each in self.timeouts if each >> 56 == _STANDALONE_ID), default=0)
        self.ids.next = max(self.ids.next, given + 1)
        return removed

    def open(self) -> None:
        """Take requests from now on."""
        self.serving = True

    def quiesce(self) -> Deferred[None]:
        """Take no more requests; fires when all that were taken are durable and answered, or never can be."""
        self.serving = False
        if not self._in_flight or self._failed:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._drained.append(waiting)
        return waiting

    # Clients

    def touch(self, connection: ClientProtocol) -> None:
        """Note that a session was heard of."""
        session = self.sessions.sessions.get(connection.session_id)
        if session is not None:
            self.sessions.touch(session, self.now() * 1000)

    def connect(self, connection: ClientProtocol, request: proto.ConnectRequest, read_only: bool | None) -> None:
        """Open a session or resume one (spec: client-protocol 7.1, 7.4)."""
        if not self.serving:
            connection.close("not serving")
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
            session_id = self.ids.make()
            self.sessions.add(session_id, timeout, self.now() * 1000)
            self._opening[session_id] = connection
            self._propose(ops.CREATE_SESSION, session_id, 0, _pack_int(timeout), (), None)
            return
        # The password first: who does not know it must not disconnect who does (client-protocol 12.5).
        if not check_password(session_id, request.passwd):
            log.info("Incorrect password for session {session}", session=show_zxid(session_id))
            connection.refuse()
            return
        if not self.sessions.touch_id(session_id, self.now() * 1000, timeout) or session_id in self._opening:
            connection.refuse()
            return
        old = self.by_session.get(session_id)
        if old is not None and old is not connection:
            old.close("its session moved to another connection")
        self._attach(connection, session_id, timeout)

    def _attach(self, connection: ClientProtocol, session_id: int, timeout: int) -> None:
        self.by_session[session_id] = connection
        connection.accept(session_id, timeout, password_of(session_id), False)

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

    # The way of a write

    def submit(self, request: Request) -> None:
        """Take a write or a sync; its C{reply} is set later and its connection told."""
        session = self.sessions.sessions.get(request.session_id)
        if session is None or session.closing or not self.serving:
            # As a request of a session that is gone: the connection ends, there is nobody to answer.
            request.reply = b""
            request.connection.settled()
            return
        op = request.op
        if op == ops.SYNC:
            if self._in_flight:
                self._gather(None, request)
            else:
                request.reply = self._sync_reply(request)
                request.connection.settled()
            return
        if op == ops.CLOSE_SESSION:
            self.sessions.set_closing(request.session_id)
        self._propose(op, request.session_id, request.cxid, request.body, request.identities, request)

    def submit_internal(self, op: int, session_id: int, body: bytes = b"") -> None:
        """Take a write that the server makes itself: an expiry, a deleteContainer."""
        if not self._failed:
            self._propose(op, session_id, 0, body, (), None)

    def _propose(
        self,
        op: int,
        session_id: int,
        cxid: int,
        body: bytes,
        identities: Sequence[proto.Id],
        request: Request | None,
    ) -> None:
        proposal = self.prepare.prepare(op, session_id, cxid, body, identities, self.wall_ms())
        self.storage.append(proposal.header.zxid, proposal.entry)
        self._gather(proposal, request)

    def _gather(self, proposal: Proposal | None, request: Request | None) -> None:
        self._in_flight += 1
        self._gathered.append((proposal, request))
        if self._committing:
            return
        if not self._scheduled:
            # At the end of the turn: all connections that are readable now share one flush.
            self._scheduled = True
            self.call_later(0, self._turn_ends)
        elif len(self._gathered) == self.config.max_batch_size:
            self._commit()

    def _turn_ends(self) -> None:
        """Flush what this turn has brought, or wait for more of it as C{flushDelay} says (spec: storage 2.4)."""
        self._scheduled = False
        gathered = len(self._gathered)
        if not gathered or self._committing:
            return
        left = self._flushed + self.config.flush_delay / 1000 - self.now()
        if left <= 0 or gathered == self._waited_for:
            # The time is over, or nothing came while it was waited for.
            self._commit()
            return
        self._waited_for = gathered
        self._scheduled = True
        self.call_later(min(left, self.config.max_write_queue_poll_time / 1000), self._turn_ends)

    def _commit(self) -> None:
        if self._in_commit:
            return  # the loop below, further down the stack, goes on
        self._in_commit = True
        try:
            # A loop, since a store may answer at once, and an answer may let in requests that were held back.
            while self._gathered and not self._committing and not self._failed:
                batch, self._gathered = self._gathered, []
                self._committing = True
                self._waited_for = 0
                self._flushed = self.now()
                self.storage.commit(partial(self._landed, batch))
        finally:
            self._in_commit = False

    def _landed(self, batch: list[tuple[Proposal | None, Request | None]], error: Exception | None) -> None:
        """Go on behind a flush, or stop: a batch of which only a part was applied must not be built upon."""
        try:
            self._persisted(batch, error)
        except Exception as mistake:  # noqa: BLE001 (whatever it was, the server ends with it)
            log.failure("A batch cannot be applied")
            self.fail(mistake)

    def _persisted(self, batch: list[tuple[Proposal | None, Request | None]], error: Exception | None) -> None:
        """Apply a batch that is durable, answer it, and go on with what has gathered meanwhile."""
        self._committing = False
        if self._failed:
            return
        if error is not None:
            self.fail(error)
            return
        # Replies wait for the end of the batch where nobody can tell: no event may come between, no read be answered.
        settling: dict[ClientProtocol, None] = {}
        watches = self.watches
        for proposal, request in batch:
            if proposal is not None:
                self._apply(proposal, request)
            elif request is not None:
                request.reply = self._sync_reply(request)
            if request is not None:
                connection = request.connection
                if connection.parked or watches.count:
                    self._settle(connection)
                else:
                    settling[connection] = None
        for connection in settling:
            self._settle(connection)
        self._in_flight -= len(batch)
        self.flush_dirty()
        if self._gathered:
            self._commit()
        self.after_batch()
        if not self._in_flight:
            drained, self._drained = self._drained, []
            for waiting in drained:
                waiting.callback(None)

    def _settle(self, connection: ClientProtocol) -> None:
        """Let a connection take the replies that have come; what breaks there costs nobody else anything."""
        try:
            connection.settled()
        except Exception:  # noqa: BLE001 (whatever it was, this connection ends with it)
            log.failure("A connection cannot take its replies")
            connection.close()

    def fail(self, error: Exception) -> None:
        """Stop: the disk has failed, and nothing that waits for it may ever be acknowledged."""
        if self._failed:
            return
        self._failed = True
        self.serving = False
        self._gathered = []
        for connection in list(self.connections):
            connection.close()
        drained, self._drained = self._drained, []
        for waiting in drained:
            waiting.callback(None)
        self.fatal(error)

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

    def _apply(self, proposal: Proposal, request: Request | None) -> None:
        header = proposal.header
        zxid = header.zxid
        changes: list[Change] | None = [] if self.watches.count else None
        applied = self.tree.apply(header, proposal.body, changes, proposal.operations, proposal.digests)
        self.prepare.applied(proposal)
        self.reads.zxid = zxid
        if not applied.err:
            count_writes(self.metrics, proposal)
        if not zxid % _DIGEST_EVERY and self.config.digest_enabled:
            self.digests.append((zxid, self.tree.digest, 2))
        if changes:
            self._tell(changes, zxid)
        if header.type == ops.CREATE_SESSION:
            self._opened(header.client_id, proposal.body.timeout)
        elif header.type == ops.CLOSE_SESSION:
            self._closed(header.client_id, request)
        if request is not None:
            request.reply = encode_write_reply(request.op, request.cxid, zxid, applied)

    def _sync_reply(self, request: Request) -> bytes:
        """Echo a sync's path, whatever it is."""
        try:
            path, _ = jute.read_buffer(request.body, 0)
        except ProtocolError:
            return encode_reply(request.cxid, self.reads.zxid, Code.MARSHALLINGERROR)
        if path is not None and not path.isascii():
            path = jute.text(path).encode("utf-8", "surrogatepass")
        return encode_reply(request.cxid, self.reads.zxid, 0, jute.pack_buffer(path))

    # Sessions

    def _opened(self, session_id: int, timeout: int) -> None:
        """A createSession is committed: the session exists, and its client is told."""
        self.timeouts[session_id] = timeout
        connection = self._opening.pop(session_id, None)
        if connection is not None and connection in self.connections:
            self._attach(connection, session_id, timeout)

    def _closed(self, session_id: int, request: Request | None) -> None:
        """A closeSession is committed; who asked for it still gets the reply."""
        self.timeouts.pop(session_id, None)
        self.sessions.remove(session_id)
        self._opening.pop(session_id, None)
        connection = self.by_session.pop(session_id, None)
        if connection is not None and (request is None or request.connection is not connection):
            connection.close("its session has ended")

    def session_deadline(self) -> int | None:
        """Return when L{expire_sessions} has something to do, monotonic ms."""
        return self.sessions.deadline()

    def expire_sessions(self, now_ms: float) -> None:
        """Close the sessions whose time has come."""
        for session_id in self.sessions.expire_due(now_ms):
            timeout = self.sessions.sessions[session_id].timeout
            log.info(
                "Expiring session {session}, timeout of {timeout}ms exceeded",
                session=show_zxid(session_id),
                timeout=timeout,
            )
            self.metrics.stale_sessions_expired += 1
            self.submit_internal(ops.CLOSE_SESSION, session_id)

    def expendable_nodes(self, wall_ms: int) -> list[bytes]:
        """Return the containers and TTL nodes that nobody needs any more (spec: server-semantics 7)."""
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
        digest = None
        if self.config.digest_enabled:
            digest = SnapshotDigest(zxid, 2, self.tree.digest if zxid else 0)
        return Trailer(digest, zxid if self.config.serialize_last_processed_zxid_enabled else None)

    def restore_target(self) -> RestoreTarget:
        """Return what the store restores into."""
        return RestoreTarget(self)
