"""
The role of a server without an ensemble: its own log is the agreement.

Rules: spec: quorum 11; server-semantics 2, 10.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from zktwisted.edge.requests import Request
from zktwisted.server.processors import (
    FinalRequestProcessor,
    PrepRequestProcessor,
    SyncRequestProcessor,
    chained,
)
from zktwisted.server.roles import Role
from zktwisted.server.sync import GroupCommit
from zktwisted.tree.sessions import SessionTracker

if TYPE_CHECKING:
    from zktwisted.server.core import ZooKeeperServer

__all__ = ["StandaloneRole"]


class StandaloneRole(Role):
    """
    A server on its own.

    @ivar group: the transactions that are not yet durable.
    """

    name = "standalone"
    makes_txns = True

    def __init__(self, core: ZooKeeperServer) -> None:
        super().__init__(core)
        self.group: GroupCommit[Request] = GroupCommit(
            core.storage,
            core.config,
            core.call_later,
            core.now,
            lambda batch: self._sync.persisted(batch),
            core.fail,
            released=core.flush_dirty,
            after_batch=lambda: core.after_batch(),
        )
        self._prep = PrepRequestProcessor(core)
        self._sync = SyncRequestProcessor(core, self.group)
        self.chain = chained(
            core,
            self._prep,
            self._sync,
            FinalRequestProcessor(core),
        )

    @property
    def in_flight(self) -> int:
        """Writes and syncs on their way to the disk and back."""
        return self.group.in_flight

    def _track(self) -> None:
        core = self.core
        core.sessions = SessionTracker(core.config.tick_time)
        core.sessions.load(core.timeouts, core.now() * 1000)

    def quiesce(self) -> Deferred[None]:
        """Fire when what was taken is durable and answered."""
        return self.group.idle()

    def submit_internal(self, op: int, session_id: int, body: bytes = b"") -> None:
        """Take a write that the server makes itself."""
        self._prep.process_request(self.internal(op, session_id, 0, body))
