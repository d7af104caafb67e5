"""
The role of a server that has lost the others and still answers reads, to clients that put up with it.

Rules: spec: quorum 13; client-protocol 7.5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zktwisted.edge.requests import Request
from zktwisted.errors import Code
from zktwisted.server.processors import Stage, chained
from zktwisted.server.roles import Role
from zktwisted.wire import ops

if TYPE_CHECKING:
    from zktwisted.edge.client import ClientProtocol
    from zktwisted.server.core import ZooKeeperServer

__all__ = ["ReadOnlyRole"]


class ReadOnlyRequestProcessor(Stage):
    """
    Refuses whatever would need a leader.

    ZooKeeper lets sessions and reads go on from here, to a Prep and a Final stage; sessions are made without a request
    here, and reads are answered in place, so that nothing would ever come there.
    """

    def __init__(self, core: ZooKeeperServer, role: ReadOnlyRole) -> None:
        super().__init__(core)
        self._role = role

    def process_request(self, request: Request) -> None:
        """Take a request of a client: the end of its session is its own affair, nothing else is."""
        if request.op == ops.CLOSE_SESSION:
            self._role.close_local(request)
        else:
            request.refuse(Code.NOTREADONLY)


class ReadOnlyRole(Role):
    """A server without a leader, of which clients know that what they read may be old."""

    name = "read-only"
    read_only = True

    def __init__(self, core: ZooKeeperServer) -> None:
        super().__init__(core)
        self.chain = chained(
            core,
            ReadOnlyRequestProcessor(core, self),
        )

    def create_session(self, connection: ClientProtocol, timeout: int) -> None:
        """Give a client a session of which no other server will ever know."""
        self.create_local(connection, timeout)
