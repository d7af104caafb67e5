"""
L{Role}: what a server is to its clients at a time, and the base of everything that it can be.

A role owns a chain of request processors, the way of a write, to be read from top to bottom in its constructor; it
decides who may have a session, and what a request needs before it is applied.  What all roles share (the tree, the
connections, applying) is the core's (L{zktwisted.server.core}) and outlives them.

A role starts once and stops once; what was under way when it stops is never answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed

from zktwisted.edge.requests import Request
from zktwisted.tree.sessions import SessionTracker
from zktwisted.wire import ops

if TYPE_CHECKING:
    from zktwisted.edge.client import ClientProtocol
    from zktwisted.server.core import ZooKeeperServer
    from zktwisted.wire.proto import Id

__all__ = ["Role", "pack_timeout"]

pack_timeout = Struct(">i").pack
"""The body of a createSession."""


class Role:
    """
    What a server is at a time.

    @cvar name: as operators see it.
    @cvar read_only: nothing can be written here, and only clients are served that know it.
    @cvar makes_txns: writes become transactions here, and sessions of all servers expire here.
    @ivar core: the server.
    @ivar chain: the way of a write: L{IRequestProcessor}s, the first one first.
    @ivar stopped: whether it is over.
    @ivar opening: connections that wait for the createSession of their session, by its id.
    """

    name: str
    read_only = False
    makes_txns = False
    chain: list[Any]

    def __init__(self, core: ZooKeeperServer) -> None:
        self.core = core
        self.opening: dict[int, ClientProtocol] = {}
        self.stopped = False

    # Life

    @property
    def in_flight(self) -> int:
        """Writes and syncs on their way through the chain."""
        return 0

    def start(self, zxid: int) -> None:
        """Serve from now on, C{zxid} being the last transaction applied."""
        self._track()
        self.core.begin(self, zxid)

    def _track(self) -> None:
        """Begin to watch over the sessions that are this role's to end."""
        self.core.sessions = SessionTracker(self.core.config.tick_time)

    def stop(self) -> None:
        """Serve no more, at once; a second call does nothing."""
        if self.stopped:
            return
        self.stopped = True
        for stage in self.chain:
            stage.shutdown()
        self.opening.clear()
        self.core.end(self)

    def quiesce(self) -> Deferred[None]:
        """Fire when what was taken is answered, or never will be."""
        return succeed(None)

    # Sessions

    def touch(self, connection: ClientProtocol) -> None:
        """A session was heard of."""
        core = self.core
        session = core.sessions.sessions.get(connection.session_id)
        if session is not None:
            core.sessions.touch(session, core.now() * 1000)

    def create_session(self, connection: ClientProtocol, timeout: int) -> None:
        """
        Give a client a session, now or when it is agreed upon.

        @param timeout: as negotiated, ms.
        """
        session_id = self.core.ids.make()
        self.opening[session_id] = connection
        self.submit_internal(ops.CREATE_SESSION, session_id, pack_timeout(timeout))

    def create_local(self, connection: ClientProtocol, timeout: int) -> None:
        """Give a client a session of which no other server knows."""
        core = self.core
        session_id = core.ids.make()
        core.sessions.add(session_id, timeout, core.now() * 1000, local=True)
        core.attach(connection, session_id, timeout)

    def close_local(self, request: Request) -> None:
        """Let the closeSession of a session that no other server knows be answered in its turn, like a read."""
        self.core.sessions.set_closing(request.session_id)
        request.ready = request.connection.parked = True
        request.connection.settled()

    def is_local(self, session_id: int) -> bool:
        """Say whether no other server knows a session."""
        session = self.core.sessions.sessions.get(session_id)
        return session is not None and session.local

    def resume(self, connection: ClientProtocol, session_id: int, timeout: int) -> None:
        """Let a client that has proved who it is have its session, or refuse it."""
        core = self.core
        if not core.sessions.touch_id(session_id, core.now() * 1000, timeout) or session_id in self.opening:
            connection.refuse(self.read_only)
            return
        core.attach(connection, session_id, timeout)

    def opened(self, session_id: int, timeout: int) -> None:
        """A createSession is applied: its client is told, if it is one of ours."""
        connection = self.opening.pop(session_id, None)
        if connection is not None and connection in self.core.connections:
            self.core.attach(connection, session_id, timeout)

    def closed(self, session_id: int) -> None:
        """A closeSession is applied."""
        self.core.sessions.remove(session_id)
        self.opening.pop(session_id, None)

    # Writes

    def submit_internal(self, op: int, session_id: int, body: bytes = b"") -> None:
        """Take a write that the server makes itself."""

    def internal(self, op: int, session_id: int, cxid: int = 0, body: bytes = b"", ids: Sequence[Id] = ()) -> Request:
        """Make a request that no connection of ours has sent."""
        return Request(None, session_id, cxid, op, body, tuple(ids), 0.0, 0)
