"""
The role of the server that leads: here every write of the ensemble becomes a transaction.

It knows the sessions of all servers, who may write for each of them, and when they expire; it prepares what its own
clients and those of its learners ask, proposes it, and applies what comes back as committed.  How servers agree is not
known here: L{Agreement} is told what to propose, and says through L{LeaderRole.committed} what is decided.

Rules: spec: quorum 8, 9, 11; server-semantics 2.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

from twisted.logger import Logger

from zktwisted.edge.requests import SUBMITTED_OPS, Request
from zktwisted.errors import Code
from zktwisted.server.admission import makes_ephemerals, refuse_eagerly
from zktwisted.server.processors import FinalRequestProcessor, PrepRequestProcessor, Stage, chained
from zktwisted.server.roles import Role, pack_timeout
from zktwisted.tree.sessions import SessionTracker
from zktwisted.wire import ops
from zktwisted.wire.ops import show_zxid

if TYPE_CHECKING:
    from zktwisted.edge.client import ClientProtocol
    from zktwisted.server.core import ZooKeeperServer
    from zktwisted.wire.proto import Id

__all__ = ["Agreement", "LeaderRole"]

log = Logger()

_LAST_COUNTER = 0xFFFFFFFF
_EXPIRED = Code.SESSIONEXPIRED.value
_MOVED = Code.SESSIONMOVED.value
_FORWARDED_OPS = SUBMITTED_OPS | {ops.CHECK, ops.DELETE_CONTAINER, ops.CREATE_SESSION}
#: The owner of sessions whose clients are connected to the leader itself; those of others are channels.
_OURSELVES = "leader"


class Agreement(Protocol):
    """What the leader's chain asks of whoever makes servers agree."""

    def propose(self, zxid: int, entry: bytes) -> None:
        """
        Bring a transaction before the ensemble; L{LeaderRole.committed} says when it is decided, in order of zxids.

        One whose counter is 0xffffffff is the end of this leadership (spec: quorum 8.6).
        """

    def sync(self, channel: int) -> None:
        """Tell a learner when all that was proposed until now is committed."""


class LeaderRequestProcessor(Stage):
    """Lets a local session become one of the ensemble when it is about to make an ephemeral node."""

    def __init__(self, core: ZooKeeperServer, role: LeaderRole) -> None:
        super().__init__(core)
        self._role = role
        self._eager = core.config.enable_eager_acl_check
        self._local = core.config.local_sessions_enabled

    def process_request(self, request: Request) -> None:
        """Take a request of a client of the leader itself; those of learners begin at the next stage."""
        role = self._role
        if self._eager and refuse_eagerly(self.core, request):
            return
        request.owner = _OURSELVES
        if self._local and role.is_local(request.session_id):
            if request.op == ops.CLOSE_SESSION:
                role.close_local(request)
                return
            if makes_ephemerals(request):
                role.upgrade(request)
        self.next.process_request(request)


class ProposalRequestProcessor(Stage):
    """Proposes transactions."""

    def __init__(self, core: ZooKeeperServer, agreement: Agreement) -> None:
        super().__init__(core)
        self._agreement = agreement
        self._over = False

    def process_request(self, request: Request) -> None:
        """Propose a transaction; a learner's sync has none, and is answered through its channel."""
        if self._over:
            return
        proposal = request.proposal
        if proposal is None:
            if request.connection is None:
                self._agreement.sync(request.owner)  # type: ignore[arg-type]
            else:
                self.next.process_request(request)
            return
        # First to where it waits: agreeing may take no time at all.
        self.next.process_request(request)
        zxid = proposal.header.zxid
        if zxid & _LAST_COUNTER == _LAST_COUNTER:
            # The epoch has no more zxids: whatever comes now would bear one of the next epoch.
            self._over = True
        self._agreement.propose(zxid, proposal.entry)

    def shutdown(self) -> None:
        """See L{IRequestProcessor}."""
        self._over = True


class CommitProcessor(Stage):
    """Holds what is proposed until it is committed; a sync of a client of ours waits for what was proposed before."""

    def __init__(self, core: ZooKeeperServer) -> None:
        super().__init__(core)
        self.waiting: deque[Request] = deque()

    def process_request(self, request: Request) -> None:
        """Take what has been proposed, or is about to be."""
        if self.waiting or request.proposal is not None:
            self.waiting.append(request)
        else:
            self.next.process_request(request)
            self.core.settle()

    def committed(self, zxid: int) -> None:
        """Hand on the oldest one that was proposed, and the syncs behind it."""
        waiting = self.waiting
        if not waiting or waiting[0].proposal.header.zxid != zxid:
            raise AssertionError(f"{show_zxid(zxid)} is committed, and it is not what was proposed next")
        self.next.process_request(waiting.popleft())
        while waiting and waiting[0].proposal is None:
            self.next.process_request(waiting.popleft())

    def shutdown(self) -> None:
        """See L{IRequestProcessor}."""
        self.waiting.clear()


class ToBeAppliedRequestProcessor(Stage):
    """Keeps what has been applied for learners that fall behind."""

    def process_request(self, request: Request) -> None:
        """Hand on, and keep: a learner that joins gets what is applied from the one place, the rest as it comes."""
        self.next.process_request(request)
        proposal = request.proposal
        if proposal is not None:
            self.core.agreed(proposal.header.zxid, proposal.entry)


class LeaderRole(Role):
    """A server that leads."""

    name = "leader"
    makes_txns = True

    def __init__(self, core: ZooKeeperServer, agreement: Agreement) -> None:
        """@param agreement: makes the ensemble agree."""
        super().__init__(core)
        self._prep = PrepRequestProcessor(core, self._judge)
        self._commit = CommitProcessor(core)
        self.chain = chained(
            core,
            LeaderRequestProcessor(core, self),
            self._prep,
            ProposalRequestProcessor(core, agreement),
            self._commit,
            ToBeAppliedRequestProcessor(core),
            FinalRequestProcessor(core),
        )

    @property
    def in_flight(self) -> int:
        """Transactions that are proposed and not committed, and the syncs that wait for them."""
        return len(self._commit.waiting)

    def start(self, zxid: int) -> None:
        """
        Lead from now on.

        @param zxid: the epoch's first, which nothing bears: the next transaction has the one behind it.
        """
        core = self.core
        # Every session gets its whole timeout anew, and belongs to whoever writes for it first.
        core.sessions = SessionTracker(core.config.tick_time)
        core.sessions.load(core.timeouts, core.now() * 1000)
        core.prepare.reconfig_enabled = False
        core.begin(self, zxid, core.config.leader_serves)

    # What the ensemble decides

    def committed(self, zxid: int) -> None:
        """Apply the next of what was proposed; C{core.settle()} lets clients have their replies."""
        self._commit.committed(zxid)

    # Learners

    def forwarded(
        self, channel: int, session_id: int, cxid: int, op: int, body: bytes, identities: Sequence[Id] | None
    ) -> None:
        """
        Take what a learner's client asks for: it becomes a transaction, perhaps an error, or a sync of that channel.

        @param channel: the learner's; by it its sessions are known.
        """
        if op not in _FORWARDED_OPS:
            log.warn("A learner forwards operation {op}, which is not to be forwarded", op=op)
            return
        request = self.internal(op, session_id, cxid, body, identities or ())
        request.owner = channel
        self._prep.process_request(request)

    def revalidate(self, channel: int, session_id: int, timeout: int) -> bool:
        """
        Say whether a client may go on with its session at a learner, to which it belongs then.

        @param timeout: ms.
        """
        self.core.metrics.revalidate_count += 1
        sessions = self.core.sessions
        session = sessions.get(session_id)
        if session is None or session.local or not sessions.touch(session, self.core.now() * 1000, timeout):
            return False
        session.owner = channel
        connection = self.core.by_session.get(session_id)
        if connection is not None:
            connection.close("its session moved to another server")
        return True

    def touched(self, channel: int, sessions: Iterable[tuple[int, int]]) -> None:
        """
        Note of which sessions a learner has heard.

        @param sessions: ids and timeouts in ms.
        """
        now = self.core.now() * 1000
        touch_id = self.core.sessions.touch_id
        for session_id, timeout in sessions:
            touch_id(session_id, now, timeout)

    def learner_gone(self, channel: int) -> None:
        """A learner's connection has ended; its sessions live on, and move when their clients come back."""

    # Sessions

    def create_session(self, connection: ClientProtocol, timeout: int) -> None:
        """Give a client a session, of the ensemble or of this server alone."""
        if self.core.config.local_sessions_enabled:
            self.create_local(connection, timeout)
        else:
            super().create_session(connection, timeout)

    def resume(self, connection: ClientProtocol, session_id: int, timeout: int) -> None:
        """Let a client go on here, whoever it was connected to: the session belongs to us then."""
        session = self.core.sessions.get(session_id)
        if session is not None:
            session.owner = _OURSELVES
        super().resume(connection, session_id, timeout)

    def upgrade(self, request: Request) -> None:
        """Make a local session one of the ensemble, or note why its request is going to fail."""
        if not self.core.config.local_sessions_upgrading_enabled:
            request.error = Code.EPHEMERALONLOCALSESSION.value
            return
        session = self.core.sessions.sessions[request.session_id]
        session.local = False
        log.info("Upgrading session {session}", session=show_zxid(session.session_id))
        self.submit_internal(ops.CREATE_SESSION, session.session_id, pack_timeout(session.timeout))

    def submit_internal(self, op: int, session_id: int, body: bytes = b"") -> None:
        """Take a write that the leader makes itself."""
        request = self.internal(op, session_id, 0, body)
        request.owner = _OURSELVES
        self._prep.process_request(request)

    def _judge(self, request: Request) -> None:
        """Say what is wrong with a request's session, if anything is (spec: server-semantics 2.3, quorum 9.4)."""
        prepare = self.core.prepare
        prepare.session_error = prepare.ephemeral_error = 0
        op = request.op
        if op < 0 or op == ops.DELETE_CONTAINER:
            return  # whoever asks, a session may be closed
        if op == ops.CHECK:
            # It is a transaction only within a multi: by itself no server could read it.
            prepare.session_error = Code.UNIMPLEMENTED.value
            return
        session = self.core.sessions.get(request.session_id)
        if session is None:
            if self._may_be_local_elsewhere(request.session_id):
                prepare.ephemeral_error = _EXPIRED
            else:
                prepare.session_error = _EXPIRED
        elif session.closing:
            prepare.session_error = _EXPIRED
        else:
            if session.owner is None:
                session.owner = request.owner
            if session.owner != request.owner:
                prepare.session_error = _MOVED
            elif session.local:
                prepare.ephemeral_error = request.error or _EXPIRED

    def _may_be_local_elsewhere(self, session_id: int) -> bool:
        core = self.core
        return core.config.local_sessions_enabled and session_id >> 56 & 0xFF != core.server_id & 0xFF
