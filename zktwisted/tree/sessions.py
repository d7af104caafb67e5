"""
Sessions: ids and passwords, timeouts, and which ones are due to expire.

Knows for each session its timeout, its owner and the bucket of time in which it expires.  Refuses to know clocks
(every call that depends on time is given C{now}, milliseconds of a monotonic clock), connections, and what expiry does
to the tree.

Rules: spec: server-semantics 2.1, 2.3; client-protocol 7.3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from struct import Struct
from typing import Final

from zktwisted.errors import Code, KeeperError

__all__ = [
    "Session",
    "SessionIds",
    "SessionTracker",
    "check_password",
    "first_session_id",
    "password_of",
]

_SUPER_SECRET: Final = 0xB3415C00
_MULTIPLIER: Final = 0x5DEECE66D
_MASK48: Final = (1 << 48) - 1
_CONTAINER_OWNER: Final = -(1 << 63)

_pack_password = Struct("<IIII").pack


def password_of(session_id: int) -> bytes:
    """
    Return the 16 bytes that prove possession of a session.

    They are a function of the id, so that every server of an ensemble can verify them after any restart: a
    checksum, not security.

    @param session_id: signed or unsigned.
    """
    state = ((session_id ^ _SUPER_SECRET) ^ _MULTIPLIER) & _MASK48
    words = []
    for _ in range(4):
        state = (state * _MULTIPLIER + 0xB) & _MASK48
        words.append(state >> 16)
    return _pack_password(*words)


def check_password(session_id: int, password: bytes | None) -> bool:
    """Tell whether a password belongs to a session; none belongs to session 0."""
    return session_id != 0 and password == password_of(session_id)


def _signed(value: int) -> int:
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


def first_session_id(millis: int, server_id: int) -> int:
    """
    Return the id that a server's session ids count up from: signed, the server's id in the top byte.

    @param millis: a clock in ms; only its low 40 bits count.
    @param server_id: myid; 1 for a standalone server.
    """
    value = _signed((millis << 24) % (1 << 64) >> 8 | server_id << 56)
    # That value as an ephemeral owner marks a container.
    return value + 1 if value == _CONTAINER_OWNER else value


class SessionIds:
    """
    Makes session ids: one more for each session.

    @ivar next: the id that comes next.
    """

    __slots__ = ("next",)

    def __init__(self, millis: int, server_id: int) -> None:
        self.next = first_session_id(millis, server_id)

    def make(self) -> int:
        """Return a new id, signed."""
        made = self.next
        self.next = _signed(made + 1)
        return made


class Session:
    """
    One session that this server tracks.

    @ivar session_id: signed.
    @ivar timeout: negotiated, ms.
    @ivar bucket: when it expires, ms: a multiple of the tick.
    @ivar owner: who may write for it: whatever the server uses to tell learners apart; C{None} is nobody yet.
    @ivar closing: it is being closed: no touch helps it any more.
    @ivar local: known to this server only (C{localSessionsEnabled}).
    """

    __slots__ = ("bucket", "closing", "local", "owner", "session_id", "timeout")

    def __init__(self, session_id: int, timeout: int, bucket: int, local: bool) -> None:
        self.session_id = session_id
        self.timeout = timeout
        self.bucket = bucket
        self.owner: object = None
        self.closing = False
        self.local = local

    def __repr__(self) -> str:
        return f"<Session 0x{self.session_id & (1 << 64) - 1:x} timeout={self.timeout} bucket={self.bucket}>"


class SessionTracker:
    """
    The sessions that a standalone server, a leader, or a server with local sessions may expire.

    A session expires at the first tick after C{now + timeout}, strictly, so it lives between timeout and
    timeout + tick after it was last heard of.  All that expire at the same tick are one bucket.

    @ivar tick: length of a bucket, ms.
    @ivar sessions: id to L{Session}, closing ones included.
    """

    __slots__ = ("_buckets", "sessions", "tick")

    def __init__(self, tick: int) -> None:
        """
        @param tick: C{tickTime}, ms.
        """
        self.tick = tick
        self.sessions: dict[int, Session] = {}
        # Expiry time to the sessions in it, in order of arrival.
        self._buckets: dict[int, dict[Session, None]] = {}

    def __len__(self) -> int:
        return len(self.sessions)

    def __contains__(self, session_id: object) -> bool:
        return session_id in self.sessions

    def get(self, session_id: int) -> Session | None:
        """Return a session, C{None} if it is unknown."""
        return self.sessions.get(session_id)

    def add(self, session_id: int, timeout: int, now: float, local: bool = False) -> Session:
        """
        Track a session, or touch it if it is tracked already.

        @param timeout: ms.
        @param now: ms.
        """
        session = self.sessions.get(session_id)
        if session is None:
            bucket = (int(now + timeout) // self.tick + 1) * self.tick
            session = self.sessions[session_id] = Session(session_id, timeout, bucket, local)
            self._enter(bucket, session)
        else:
            self.touch(session, now, timeout)
        return session

    def load(self, timeouts: Mapping[int, int], now: float) -> None:
        """Track the sessions of the database, each with its whole timeout ahead: what a start or a new epoch does."""
        for session_id, timeout in timeouts.items():
            self.add(session_id, timeout, now)

    def _enter(self, bucket: int, session: Session) -> None:
        members = self._buckets.get(bucket)
        if members is None:
            self._buckets[bucket] = {session: None}
        else:
            members[session] = None

    def _leave(self, session: Session) -> None:
        members = self._buckets.get(session.bucket)
        if members is not None and session in members:
            del members[session]
            if not members:
                del self._buckets[session.bucket]

    def touch(self, session: Session, now: float, timeout: int | None = None) -> bool:
        """
        Note that a session was heard of.  Within the same tick this is one comparison.

        @param now: ms.
        @param timeout: a newly negotiated one, ms.

        @return: whether the session is alive; one that is closing is not.
        """
        if session.closing:
            return False
        if timeout is not None:
            session.timeout = timeout
        tick = self.tick
        bucket = (int(now + session.timeout) // tick + 1) * tick
        if bucket != session.bucket:
            self._leave(session)
            session.bucket = bucket
            self._enter(bucket, session)
        return True

    def touch_id(self, session_id: int, now: float, timeout: int | None = None) -> bool:
        """Note that a session was heard of; C{False} for an unknown or closing one."""
        session = self.sessions.get(session_id)
        return session is not None and self.touch(session, now, timeout)

    def deadline(self) -> int | None:
        """Return when to call L{expire_due} next, ms; C{None} if there is nothing to wait for."""
        return min(self._buckets, default=None)

    def expire_due(self, now: float) -> list[int]:
        """
        Mark the sessions closing whose time has come, and return their ids for the server to close.

        They stay known until L{remove}: the transaction that closes them says when they end.

        @param now: ms.
        """
        expired: list[int] = []
        for bucket in sorted(bucket for bucket in self._buckets if bucket <= now):
            for session in self._buckets.pop(bucket):
                session.closing = True
                expired.append(session.session_id)
        return expired

    def set_closing(self, session_id: int) -> bool:
        """Mark a session closing; tell whether it is known."""
        session = self.sessions.get(session_id)
        if session is None:
            return False
        session.closing = True
        self._leave(session)
        return True

    def remove(self, session_id: int) -> Session | None:
        """Forget a session and return it: it was closed, or its server went away."""
        session = self.sessions.pop(session_id, None)
        if session is not None:
            self._leave(session)
        return session

    def check(self, session_id: int, owner: object, unknown: int = Code.UNKNOWNSESSION) -> Session:
        """
        Check that a request may act for a session, and adopt its owner if it has none.

        @param owner: who brought the request.
        @param unknown: the code for an unknown session: a leader says SESSIONEXPIRED.

        @raise KeeperError: C{unknown}; SESSIONEXPIRED if it is closing; SESSIONMOVED if it has another owner.
        """
        session = self.sessions.get(session_id)
        if session is None:
            raise KeeperError(unknown)
        if session.closing:
            raise KeeperError(Code.SESSIONEXPIRED)
        if session.owner != owner:
            if session.owner is not None:
                raise KeeperError(Code.SESSIONMOVED)
            session.owner = owner
        return session

    def set_owner(self, session_id: int, owner: object) -> None:
        """
        Say who may write for a session from now on.

        @raise KeeperError: SESSIONEXPIRED if it is unknown or closing.
        """
        session = self.sessions.get(session_id)
        if session is None or session.closing:
            raise KeeperError(Code.SESSIONEXPIRED)
        session.owner = owner

    def timeouts(self, local: bool | None = None) -> dict[int, int]:
        """
        Return id to timeout in ms.

        @param local: only local sessions, or only global ones; C{None}: all.
        """
        return {
            session_id: session.timeout
            for session_id, session in self.sessions.items()
            if local is None or session.local is local
        }

    def buckets(self, local: bool | None = None) -> Iterator[tuple[int, list[int]]]:
        """
        Give (expiry time in ms, session ids) in the order of time: what C{dump} shows.

        @param local: as L{timeouts}; buckets without such sessions are left out.
        """
        for bucket in sorted(self._buckets):
            members = [
                session.session_id for session in self._buckets[bucket] if local is None or session.local is local
            ]
            if members:
                yield bucket, members
