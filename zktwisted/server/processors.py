"""
The stages that the chains of several roles are made of, each an L{IRequestProcessor}.

A stage does one thing to a request and hands it to the next one, now or when what it waits for has come.  What a
client asks at one time, and what one flush makes durable, may go through as a run, which costs less.  What stands
in which chain is written in the role: L{zktwisted.server.standalone}, L{leader<zktwisted.server.leader>},
L{learner<zktwisted.server.learner>}, L{readonly<zktwisted.server.readonly>}.

The order of answers is no stage's affair: each connection keeps its own (L{zktwisted.edge.protocol}).

Rules: spec: quorum 11; server-semantics 10.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from zope.interface import classImplements

from zktwisted.edge.requests import Request
from zktwisted.errors import Code
from zktwisted.interfaces import IRequestProcessor
from zktwisted.server.replies import encode_sync_reply, encode_write_reply
from zktwisted.server.sync import GroupCommit
from zktwisted.tree.datatree import Applied
from zktwisted.tree.prepare import Proposal
from zktwisted.tree.reads import encode_reply
from zktwisted.wire import ops, txns
from zktwisted.wire.txns import TxnDigest

if TYPE_CHECKING:
    from zktwisted.server.core import ZooKeeperServer

__all__ = [
    "FinalRequestProcessor",
    "PrepRequestProcessor",
    "ProcessorFactory",
    "Stage",
    "SyncRequestProcessor",
    "chained",
    "decode_proposal",
]

_SESSION_MOVED = Code.SESSIONMOVED.value

ProcessorFactory = Callable[[Any], Any]
"""Makes a program's own L{IRequestProcessor}, given the one behind it."""


def decode_proposal(entry: bytes) -> tuple[Proposal, TxnDigest | None]:
    """
    Make what another server has prepared into what this one applies.

    @return: the transaction, and the digest of the tree that is to result; C{None} if the other server keeps none.

    @raise ProtocolError: that is no transaction.
    """
    header, body, digest = txns.decode_entry(entry)
    operations = txns.multi_operations(body) if header.type == ops.MULTI else None
    return Proposal(header, body, entry, (), operations), digest


class Stage:
    """
    A stage of ours.

    @ivar core: the server.
    @ivar next: the stage behind it.
    """

    next: Any

    def __init__(self, core: ZooKeeperServer) -> None:
        self.core = core

    def process_request(self, request: Request) -> None:
        """See L{IRequestProcessor}: by default there is nothing to do here."""
        self.next.process_request(request)

    def process_run(self, run: Sequence[Request]) -> None:
        """Take some requests, in order."""
        for request in run:
            self.process_request(request)

    def shutdown(self) -> None:
        """See L{IRequestProcessor}: by default nothing is kept."""


classImplements(Stage, IRequestProcessor)


def chained(core: ZooKeeperServer, *stages: Any) -> list[Any]:
    """Link the stages of a role, and put before them what the embedding program wants in front."""
    for stage, behind in pairwise(stages):
        stage.next = behind
    chain = list(stages)
    for factory in reversed(core.processors):
        chain.insert(0, factory(chain[0]))
    return chain


class PrepRequestProcessor(Stage):
    """Gives each write its zxid and its time, and turns it into a transaction, or an error transaction."""

    def __init__(self, core: ZooKeeperServer, judge: Callable[[Request], None] | None = None) -> None:
        """@param judge: says to C{core.prepare} what is wrong with the request's session, where that may be."""
        super().__init__(core)
        self._prepare = core.prepare.prepare
        self._judge = judge
        self._over = False

    def process_request(self, request: Request) -> None:
        """Prepare a request of a client, a learner, or of the server itself."""
        core = self.core
        op = request.op
        if self._over:
            # The zxids are another role's now.
            core.drop(request)
            return
        if request.connection is not None:
            session = core.sessions.sessions.get(request.session_id)
            if session is None or session.closing or not core.serving:
                core.drop(request)
                return
        if op != ops.SYNC:
            if self._judge is not None:
                self._judge(request)
            if op < 0:
                self._track(request)
            request.proposal = self._prepare(
                op, request.session_id, request.cxid, request.body, request.identities, core.wall_ms()
            )
        self.next.process_request(request)

    def process_run(self, run: Sequence[Request]) -> None:
        """Prepare what one connection has asked at one time."""
        core = self.core
        first = run[0]
        session = core.sessions.sessions.get(first.session_id)
        if self._over or session is None or session.closing or not core.serving:
            core.drop(first)  # its connection ends with it, and with that what stands behind it
            return
        if self._judge is not None:
            super().process_run(run)
            return
        prepare, time = self._prepare, core.wall_ms()
        for request in run:
            op = request.op
            if op < 0:
                self._track(request)
            if op != ops.SYNC:
                request.proposal = prepare(
                    op, request.session_id, request.cxid, request.body, request.identities, time
                )
        self.next.process_run(run)

    def shutdown(self) -> None:
        """See L{IRequestProcessor}: a program's own processor may let go of requests later."""
        self._over = True

    def _track(self, request: Request) -> None:
        """A session begins or ends: from here on its time runs, or nothing helps it any more."""
        sessions = self.core.sessions
        if request.op == ops.CLOSE_SESSION:
            sessions.set_closing(request.session_id)
        elif len(request.body) >= 4:
            timeout = int.from_bytes(request.body[:4], "big", signed=True)
            session = sessions.add(request.session_id, timeout, self.core.now() * 1000)
            session.owner = request.owner


class SyncRequestProcessor(Stage):
    """Logs transactions, and hands them on when they are durable."""

    def __init__(self, core: ZooKeeperServer, group: GroupCommit[Request]) -> None:
        super().__init__(core)
        self._group = group

    def process_request(self, request: Request) -> None:
        """Log a request's transaction; a sync has none and waits for those before it."""
        proposal = request.proposal
        if proposal is not None:
            self._group.add(((proposal.header.zxid, proposal.entry),), request)
        elif self._group.in_flight:
            self._group.join(request)
        else:
            self.next.process_request(request)
            self.core.settle()

    def process_run(self, run: Sequence[Request]) -> None:
        """Log the transactions of some requests."""
        if run[0].proposal is None and not self._group.in_flight:
            super().process_run(run)
            return
        proposals = [request.proposal for request in run if request.proposal is not None]
        self._group.add_run([(proposal.header.zxid, proposal.entry) for proposal in proposals], run)

    def persisted(self, batch: list[Request]) -> None:
        """Hand on what is durable."""
        self.next.process_run(batch)
        self.core.settle_connections()

    def shutdown(self) -> None:
        """See L{IRequestProcessor}."""
        self._group.stop()


class FinalRequestProcessor(Stage):
    """Applies what is agreed upon, and answers."""

    def process_request(self, request: Request) -> None:
        """Apply a request's transaction; its client gets the reply when L{ZooKeeperServer.settle} is called."""
        self.process_run((request,))

    def process_run(self, run: Sequence[Request]) -> None:
        """Do the same for some requests, one after the other."""
        core = self.core
        for request in run:
            proposal: Proposal | None = request.proposal
            if proposal is None:
                request.reply = encode_sync_reply(request, core.last_zxid)
                self._settle(request)
            elif proposal.fused:
                body = core.apply_fused(proposal)
                if request.connection is not None:
                    request.reply = encode_reply(request.cxid, proposal.header.zxid, 0, body)
                    self._settle(request)
            else:
                self.answer(request, proposal.header.zxid, core.apply(proposal, request))

    def answer(self, request: Request, zxid: int, applied: Applied) -> None:
        """Tell a request's client what its transaction came to, which is applied."""
        if request.connection is None:
            return
        if (applied.err or applied.results) and _has_moved(applied):
            # Its session is another server's now: nothing is said, the connection ends.
            request.reply = b""
        else:
            if request.error and applied.err:
                applied = applied._replace(err=request.error)
            request.reply = encode_write_reply(request.op, request.cxid, zxid, applied)
        self._settle(request)

    def _settle(self, request: Request) -> None:
        core = self.core
        connection = request.connection
        watches = core.watches
        if connection.parked or watches.data.count or watches.child.count:
            core.settle_connection(connection)
        else:
            core.settling[connection] = None


def _has_moved(applied: Applied) -> bool:
    """Say whether a write, or one of a multi, failed since its session is another server's."""
    if applied.err:
        return applied.err == _SESSION_MOVED
    return applied.results[0][0] == ops.ERROR and any(each.err == _SESSION_MOVED for _, each in applied.results)
