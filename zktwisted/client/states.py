"""
The states of a session as a client sees them, and what watches tell.

Values only.
"""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import NamedTuple

__all__ = ["EventType", "State", "WatchedEvent"]


class State(Enum):
    """
    What a client is, and may tell a listener that it has become.

    While C{CONNECTING} nobody can say whether the session still lives: who holds a lock by it must not rely on it.
    """

    CLOSED = "closed"
    """Not started, or closed."""
    CONNECTING = "connecting"
    """Not connected: at the start, and whenever a connection was lost.  The session may go on."""
    CONNECTED = "connected"
    """The session lives."""
    CONNECTED_READ_ONLY = "connected read-only"
    """Connected with a server that has no quorum; writes fail, a server that has one is looked for."""
    EXPIRED = "expired"
    """The session is over.  A client that renews its sessions is C{CONNECTING} for the next one right after."""
    AUTH_FAILED = "auth failed"
    """The servers do not accept the credentials; nothing more is tried."""

    @property
    def connected(self) -> bool:
        """Whether requests are answered."""
        return self in (State.CONNECTED, State.CONNECTED_READ_ONLY)


class EventType(IntEnum):
    """What a watch tells (spec: client-protocol 3.4)."""

    NONE = -1
    """Of the session, not of a node: the watch is over without having been told anything, its session is no more."""
    NODE_CREATED = 1
    NODE_DELETED = 2
    NODE_DATA_CHANGED = 3
    NODE_CHILDREN_CHANGED = 4


class WatchedEvent(NamedTuple):
    """
    What a watch is told.

    @ivar type: an L{EventType}.
    @ivar path: the node, as the client names it (below its chroot).
    @ivar zxid: of the transaction; -1 where the server does not say (before 3.9, and after a reconnect).
    """

    type: EventType
    path: str
    zxid: int = -1
