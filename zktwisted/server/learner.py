"""
The role of a server that follows or observes: reads are its own, writes go to the leader and come back committed.

A write of a client waits here while the leader makes a transaction of it; when that arrives, committed, in the order of
all transactions, it is applied, and whoever waited for it is answered out of what applying came to.  How the bytes get
to the leader and back is not known here: L{Upstream} takes what is to be sent.

Rules: spec: quorum 8.5, 8.7, 9, 10, 11.1; server-semantics 2, 10.3.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

from twisted.logger import Logger

from zktwisted.edge.requests import Request
from zktwisted.errors import Code
from zktwisted.server.admission import makes_ephemerals, refuse_eagerly
from zktwisted.server.processors import FinalRequestProcessor, Stage, chained, decode_proposal
from zktwisted.server.roles import Role, pack_timeout
from zktwisted.tree.datatree import Applied
from zktwisted.tree.prepare import Proposal
from zktwisted.wire import ops
from zktwisted.wire.ops import show_zxid

if TYPE_CHECKING:
    from zktwisted.edge.client import ClientProtocol
    from zktwisted.server.core import ZooKeeperServer
    from zktwisted.tree.replay import Replayed
    from zktwisted.wire.proto import Id
    from zktwisted.wire.txns import TxnHeader

__all__ = ["LearnerRole", "Upstream"]

log = Logger()


class Upstream(Protocol):
    """The way to the leader."""

    @property
    def received_zxid(self) -> int:
        """The last transaction that the leader has told us of, committed or not."""

    def request(self, session_id: int, cxid: int, op: int, body: bytes, identities: Sequence[Id] | None) -> None:
        """Let the leader make a transaction of a write, or tell when a sync is due; it keeps their order."""

    def revalidate(self, session_id: int, timeout: int) -> None:
        """
        Ask the leader whether a client may go on with its session here.

        @param timeout: ms.
        """


class FollowerRequestProcessor(Stage):
    """Sends writes and syncs to the leader."""

    def __init__(self, core: ZooKeeperServer, role: LearnerRole) -> None:
        super().__init__(core)
        self._role = role
        self._eager = core.config.enable_eager_acl_check
        self._local = core.config.local_sessions_enabled

    def process_request(self, request: Request) -> None:
        """Take a request of a client of ours."""
        core, role = self.core, self._role
        if role.stopped or not core.serving:
            core.drop(request)
            return
        if self._eager and refuse_eagerly(core, request):
            return
        if self._local and role.is_local(request.session_id):
            if request.op == ops.CLOSE_SESSION:
                role.close_local(request)
                return
            if makes_ephemerals(request):
                role.upgrade(request)
        self.forward(request)

    def forward(self, request: Request) -> None:
        """Let a request wait for its answer, then ask for it: the answer may take no time at all."""
        self.next.process_request(request)
        identities = None if request.op == ops.CREATE_SESSION else request.identities
        self._role.upstream.request(request.session_id, request.cxid, request.op, request.body, identities)


class ObserverRequestProcessor(FollowerRequestProcessor):
    """The same on an observer."""


class CommitProcessor(Stage):
    """
    Holds writes until they are committed, and syncs until the leader says so.

    @ivar local_writes: the writes of our clients, in the order in which they went to the leader, each with the last
        transaction that had come from there.
    @ivar pending_syncs: the syncs.
    """

    def __init__(self, core: ZooKeeperServer, upstream: Upstream) -> None:
        super().__init__(core)
        self._upstream = upstream
        self.local_writes: deque[tuple[Request, int]] = deque()
        self.pending_syncs: deque[Request] = deque()

    def process_request(self, request: Request) -> None:
        """Take what is about to go to the leader."""
        if request.op == ops.SYNC:
            self.pending_syncs.append(request)
        else:
            self.local_writes.append((request, self._upstream.received_zxid))

    def committed(self, proposal: Proposal) -> None:
        """
        Hand on the write that a committed transaction is the outcome of, if it is one of ours.

        The leader makes one transaction of each write that we send, in the order in which we do.  A session's client
        may have come from another server, and some begin to count anew then: what it had asked for there may bear the
        cxid of our oldest.  But the leader had proposed it before it let the client go on here, and thus to us before
        we sent anything of that client.  (Observers hear of it only when it is committed, and may take it for theirs.)
        """
        request = self.claim(proposal.header)
        if request is None:
            self.core.apply(proposal, None)
        else:
            request.proposal = proposal
            self.next.process_request(request)

    def replayed(self, done: Replayed) -> None:
        """The same of a transaction that has been applied already."""
        header = done.header
        request = self.claim(header)
        if request is not None:
            path = None if header.type == ops.SET_DATA else done.path
            self.next.answer(request, header.zxid, Applied(0, path, done.node.stat()))

    def claim(self, header: TxnHeader) -> Request | None:
        """Take the write that a transaction is the outcome of, if it is one of ours."""
        if self.local_writes:
            request, before = self.local_writes[0]
            if request.session_id == header.client_id and request.cxid == header.cxid and header.zxid > before:
                self.local_writes.popleft()
                return request
        return None

    def synced(self) -> None:
        """Hand on the oldest sync."""
        if self.pending_syncs:
            self.next.process_request(self.pending_syncs.popleft())
        else:
            log.warn("The leader says that a sync is due, and none waits")

    def shutdown(self) -> None:
        """See L{IRequestProcessor}."""
        self.local_writes.clear()
        self.pending_syncs.clear()


class LearnerRole(Role):
    """
    A server that follows or observes.

    L{apply} works before L{start}: that is how a learner catches up.

    @ivar upstream: the way to the leader.
    """

    def __init__(self, core: ZooKeeperServer, upstream: Upstream, observer: bool = False) -> None:
        super().__init__(core)
        self.name = "observer" if observer else "follower"
        self.upstream = upstream
        processor = ObserverRequestProcessor if observer else FollowerRequestProcessor
        self._first = processor(core, self)
        self._commit = CommitProcessor(core, upstream)
        self.chain = chained(
            core,
            self._first,
            self._commit,
            FinalRequestProcessor(core),
        )
        # Sessions heard of since the leader was last told, with their timeouts in ms.
        self._touched: dict[int, int] = {}
        # Sessions that the leader is asked about, each with its connection and timeout.
        self._revalidating: dict[int, tuple[ClientProtocol, int]] = {}

    @property
    def in_flight(self) -> int:
        """Writes and syncs that the leader has not answered."""
        return len(self._commit.local_writes) + len(self._commit.pending_syncs)

    def stop(self) -> None:
        """Serve no more, at once."""
        self._touched.clear()
        self._revalidating.clear()
        super().stop()

    # What the leader says

    def apply(self, zxid: int, entry: bytes) -> None:
        """
        Apply a committed transaction; C{core.settle()} lets clients have their replies.

        @raise ProtocolError: that is no transaction.
        """
        core = self.core
        done = core.replayed(entry)
        if done is None:
            proposal, digest = decode_proposal(entry)
            self._commit.committed(proposal)
        else:
            digest = done.digest
            self._commit.replayed(done)
        core.agreed(zxid, entry, digest)

    def synced(self) -> None:
        """Everything is applied that was proposed before our oldest sync came to the leader."""
        self._commit.synced()

    def revalidated(self, session_id: int, valid: bool) -> None:
        """The leader says whether a client may go on with its session here."""
        connection, timeout = self._revalidating.pop(session_id, (None, 0))
        core = self.core
        if connection is None:
            log.warn("The leader speaks of session {session}, and nobody asked", session=show_zxid(session_id))
        elif connection in core.connections:
            if valid:
                self._attach(connection, session_id, timeout)
            else:
                connection.refuse()

    def touched(self, sessions: Iterable[tuple[int, int]]) -> None:
        """Note of which sessions an observer of ours has heard: ids and timeouts in ms."""
        self._touched.update(sessions)

    def take_touched(self) -> list[tuple[int, int]]:
        """Return the sessions that were heard of since the last call, with their timeouts in ms."""
        touched, self._touched = self._touched, {}
        return list(touched.items())

    # Sessions

    def touch(self, connection: ClientProtocol) -> None:
        """A session was heard of: the leader will be told, unless the session is our own."""
        session_id = connection.session_id
        session = self.core.sessions.sessions.get(session_id)
        if session is None:
            self._touched[session_id] = connection.session_timeout_ms
        else:
            self.core.sessions.touch(session, self.core.now() * 1000)

    def create_session(self, connection: ClientProtocol, timeout: int) -> None:
        """Give a client a session, of the ensemble or of this server alone."""
        if self.core.config.local_sessions_enabled:
            self.create_local(connection, timeout)
        else:
            super().create_session(connection, timeout)

    def resume(self, connection: ClientProtocol, session_id: int, timeout: int) -> None:
        """Ask the leader whether a client may go on here (spec: quorum 9.3); of our own sessions we know ourselves."""
        if self.is_local(session_id):
            super().resume(connection, session_id, timeout)
            return
        before, _ = self._revalidating.get(session_id, (None, 0))
        if before is not None:
            before.close("its session moved to another connection")
        self._revalidating[session_id] = connection, timeout
        self.upstream.revalidate(session_id, timeout)

    def opened(self, session_id: int, timeout: int) -> None:
        """A createSession is committed."""
        connection = self.opening.pop(session_id, None)
        if connection is not None and connection in self.core.connections:
            self._attach(connection, session_id, timeout)

    def closed(self, session_id: int) -> None:
        """A closeSession is committed."""
        super().closed(session_id)
        self._touched.pop(session_id, None)

    def _attach(self, connection: ClientProtocol, session_id: int, timeout: int) -> None:
        self._touched[session_id] = timeout
        self.core.attach(connection, session_id, timeout)

    def upgrade(self, request: Request) -> None:
        """Make a local session one of the ensemble, or note why its request is going to fail."""
        if not self.core.config.local_sessions_upgrading_enabled:
            # The leader does not know the session; our client hears the reason instead (spec: quorum 9.5).
            request.error = Code.EPHEMERALONLOCALSESSION.value
            return
        session = self.core.sessions.remove(request.session_id)
        if session is not None:
            log.info("Upgrading session {session}", session=show_zxid(session.session_id))
            self._touched[session.session_id] = session.timeout
            self.submit_internal(ops.CREATE_SESSION, session.session_id, pack_timeout(session.timeout))

    def submit_internal(self, op: int, session_id: int, body: bytes = b"") -> None:
        """Send the leader a write that we make ourselves."""
        self._first.forward(self.internal(op, session_id, 0, body))
