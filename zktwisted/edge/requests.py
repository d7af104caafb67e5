"""
What stands between the connections and the core: a request, and what a connection asks of its server.

Nothing here runs; the core implements L{ClientServer}, the connections make each L{Request}.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from zktwisted.wire import ops
from zktwisted.wire.frames import failure

if TYPE_CHECKING:
    from zktwisted.config import ServerConfig
    from zktwisted.edge.auth import AuthOutcome, Identities
    from zktwisted.edge.saslauth import Conversation
    from zktwisted.edge.throttle import (
        ConnectionCounts,
        ConnectionThrottle,
        LargeRequests,
        OutstandingLimit,
        RequestThrottler,
    )
    from zktwisted.wire.proto import ConnectRequest, Id

__all__ = ["KNOWN_OPS", "LOCAL_OPS", "SUBMITTED_OPS", "ClientServer", "Request"]

LOCAL_OPS = frozenset(
    (
        ops.EXISTS,
        ops.GET_DATA,
        ops.GET_ACL,
        ops.GET_CHILDREN,
        ops.PING,
        ops.GET_CHILDREN2,
        ops.CHECK_WATCHES,
        ops.REMOVE_WATCHES,
        ops.MULTI_READ,
        ops.SET_WATCHES,
        ops.GET_EPHEMERALS,
        ops.GET_ALL_CHILDREN_NUMBER,
        ops.SET_WATCHES2,
        ops.ADD_WATCH,
        ops.WHO_AM_I,
    )
)
"""Operations that this server answers out of its own memory, at once."""

SUBMITTED_OPS = frozenset(
    (
        ops.CREATE,
        ops.DELETE,
        ops.SET_DATA,
        ops.SET_ACL,
        ops.SYNC,
        ops.MULTI,
        ops.CREATE2,
        ops.RECONFIG,
        ops.CREATE_CONTAINER,
        ops.CREATE_TTL,
        ops.CLOSE_SESSION,
    )
)
"""
Operations whose answer comes later.

deleteContainer (20) is none of a client's, and createSession (-10) neither: only servers make them.
"""

KNOWN_OPS = LOCAL_OPS | SUBMITTED_OPS
"""What a client may ask, once it has its session."""


class Request:
    """
    One request that could not be answered at once.

    @ivar connection: the connection that it came from.
    @ivar session_id: the session.
    @ivar cxid: the client's xid.
    @ivar op: the op code.
    @ivar body: the bytes behind the request header.
    @ivar identities: of the connection when the request was read.
    @ivar received: when it was read, monotonic seconds.
    @ivar session_timeout_ms: of the session.
    @ivar reply: the whole frame of the answer; C{None}: not yet known; C{b""}: none comes, close the connection.
    @ivar ready: needs nobody else: may be evaluated as soon as it is the oldest.
    @ivar admitted: has passed the request throttle.
    @ivar late: waited too long before it came to its turn: answer THROTTLEDOP (-127).
    @ivar last: nothing is answered behind it, and then the connection is closed.
    @ivar large: its length, if it counts among the large requests, else 0.
    @ivar owner: on a leader: who brought it, the leader itself or the channel of a learner.
    @ivar proposal: behind the Prep stage: the transaction that it became.
    @ivar error: what its client is told should its transaction fail, instead of that transaction's code; 0: that code.
    """

    __slots__ = (
        "admitted",
        "body",
        "connection",
        "cxid",
        "error",
        "identities",
        "large",
        "last",
        "late",
        "op",
        "owner",
        "proposal",
        "ready",
        "received",
        "reply",
        "session_id",
        "session_timeout_ms",
    )

    def __init__(
        self,
        connection: Any,
        session_id: int,
        cxid: int,
        op: int,
        body: bytes,
        identities: tuple[Id, ...],
        received: float,
        session_timeout_ms: int,
    ) -> None:
        self.connection = connection
        self.session_id = session_id
        self.cxid = cxid
        self.op = op
        self.body = body
        self.identities = identities
        self.received = received
        self.session_timeout_ms = session_timeout_ms
        self.reply: bytes | None = None
        self.ready = False
        self.admitted = False
        self.late = False
        self.last = op == -11
        self.large = self.error = 0
        self.owner: object = None
        self.proposal: Any = None

    def __repr__(self) -> str:
        return f"<Request session {ops.show_zxid(self.session_id)} cxid {self.cxid} op {self.op}>"

    @property
    def connection_gone(self) -> bool:
        """Whether nobody is left to answer to."""
        return self.connection is None or bool(self.connection.gone)

    def refuse(self, code: int) -> None:
        """
        End it with an error, where it is known that it goes no further.

        @param code: what the client is told: one of L{zktwisted.errors.Code}.
        """
        if not self.connection_gone:
            server: ClientServer = self.connection._server
            self.reply = failure(self.cxid, server.last_zxid, code)
            self.connection.settled()
            server.flush_dirty()


class Words(Protocol):
    """Who answers four-letter words; C{zktwisted.ops.fourletter.FourLetterWords} does."""

    def length(self, word: bytes) -> int:
        """How many bytes a word needs before it can be answered, its own four included."""

    def answer(self, word: bytes, rest: bytes = b"", peer: str = "") -> bytes | None:
        """The text to write before closing; C{None}: close without a word."""


class ClientServer(Protocol):
    """
    What a connection asks of its server.

    @ivar serving: whether sessions are served now.
    @ivar metrics: C{zktwisted.server.metrics.ServerMetrics}.
    @ivar stats: C{zktwisted.server.metrics.ServerStats}.
    @ivar words: C{None}: four-letter words are not known here.
    @ivar connections: all connections, in the order in which they came.
    @ivar dirty: connections that want to be flushed at the end of the turn.
    """

    serving: bool
    config: ServerConfig
    metrics: Any
    stats: Any
    outstanding: OutstandingLimit[Any]
    throttler: RequestThrottler[Request]
    large_requests: LargeRequests
    connection_throttle: ConnectionThrottle
    counts: ConnectionCounts
    words: Words | None
    connections: dict[Any, None]
    dirty: list[Any]

    @property
    def last_zxid(self) -> int:
        """Of the last applied transaction."""

    def now(self) -> float:
        """Monotonic seconds."""

    def answer(
        self, connection: Any, identities: Sequence[Id], xid: int, op: int, buf: bytes, start: int, end: int
    ) -> bytes:
        """
        Evaluate one of L{LOCAL_OPS}; never raises.

        @param buf: holds the request's body from C{start} to C{end}.

        @return: the whole frame of the reply.
        """

    def submit(self, request: Request) -> None:
        """Take one of L{SUBMITTED_OPS}; later set its C{reply} and call C{settled} of its connection."""

    def submit_run(self, run: list[Request]) -> None:
        """Take some of one connection, in order; the list stays the caller's."""

    def flush_dirty(self) -> None:
        """Flush the connections in C{dirty}, and empty it."""

    def touch(self, connection: Any) -> None:
        """The session has been heard of."""

    def connect(self, connection: Any, request: ConnectRequest, read_only: bool | None) -> None:
        """Judge a ConnectRequest; now or later call C{accept}, C{refuse} or C{close} of the connection."""

    def authenticate(self, connection: Any, scheme: str | None, data: bytes | None) -> AuthOutcome:
        """Judge an auth packet; adds to the connection's identities."""

    def converse(self, connection: Any) -> Conversation:
        """Begin to authenticate a connection by SASL."""

    def admits(self, identities: Identities) -> bool:
        """Whether requests are served under these identities (C{enforce.auth})."""

    def disconnected(self, connection: Any) -> None:
        """The connection is gone; said once of each."""
