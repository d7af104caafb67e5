"""
A session over many connections: its state, what a new connection has to be told, and the end.

Twisted's C{ClientService} keeps a connection up: one attempt after the other, each at the next server, with the pauses
that L{zktwisted.client.hosts} counts.  Here is told what a connection that was made is good for: whether the session
goes on, is a new one, or is over.

It knows states, credentials and watches as bytes to be sent; it refuses to know operations.

Rules: spec: client-protocol 7, 8.4, 9.2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Any

from twisted.application.internet import ClientService
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure

from zktwisted.client import answers
from zktwisted.client.connection import Connection
from zktwisted.client.hosts import Hosts
from zktwisted.client.line import Line
from zktwisted.client.login import Login
from zktwisted.client.readonly import Seeker
from zktwisted.client.states import State
from zktwisted.client.watches import Watches, call
from zktwisted.errors import (
    AuthFailedError,
    ConnectionLossError,
    KeeperError,
    ProtocolError,
    SessionExpiredError,
    keeper_error,
)
from zktwisted.wire import jute, ops, proto
from zktwisted.wire.ops import show_zxid

__all__ = ["Listener", "Session"]

log = Logger()

Listener = Callable[[State], Any]

_NO_PASSWORD = bytes(16)
_GOODBYE = 2.0
"""Seconds that the end of a session may take; then it is left to expire."""


class _Connections(Factory):
    """Makes the session's connections."""

    noisy = False

    def __init__(self, session: Session, clock: Any) -> None:
        self._session = session
        self._clock = clock

    def buildProtocol(self, addr: object) -> Any:
        """See C{IProtocolFactory}."""
        return Connection(self._session, self._clock)


class _Credential:
    """What the client has to say about who it is, and who waits for the servers to believe it."""

    def __init__(self, packet: bytes) -> None:
        self.packet = packet
        self.waiters: list[Deferred[None]] = []

    def settle(self, error: KeeperError | None) -> None:
        """Tell who waits."""
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            if not waiter.called:
                if error is None:
                    waiter.callback(None)
                else:
                    waiter.errback(error)


class Session:
    """
    A session, and the next one when it has expired.

    @ivar state: what it is at present.
    @ivar session_id: as the server has given it; 0 before.
    @ivar password: that goes with it.
    @ivar timeout: as negotiated, in seconds; what is asked for before.
    @ivar answered_zxid: the newest that any answer to a request had: all that watches had to tell up to it was told,
        since that comes before the answer.
    @ivar told_zxid: the newest that anything else had.  An event is no such limit: a transaction may have several, and
        the connection end between them; nor is the answer to one of several requests that set watches again.
    @ivar line: the requests.
    @ivar watches: the watches.
    """

    def __init__(
        self,
        reactor: Any,
        endpoints: Sequence[IStreamClientEndpoint],
        line: Line,
        watches: Watches,
        *,
        timeout: float,
        connect_timeout: float,
        read_only: bool,
        renew: bool,
        max_frame: int,
        entropy: Random,
        resume: tuple[int, bytes] | None = None,
        login: Callable[[], Login] | None = None,
    ) -> None:
        """
        @param timeout: of the session, in seconds, as asked for.
        @param connect_timeout: in seconds, of the answer to the request for a session.
        @param read_only: whether servers without a quorum will do.
        @param renew: whether an expired session is followed by a new one.
        @param max_frame: C{jute.maxbuffer} of the servers.
        @param resume: id and password of a session that is to go on.
        @param login: begins a login by SASL, which comes first on each connection.
        """
        self._reactor = reactor
        self.line = line
        self.watches = watches
        self._wanted = timeout
        self._connect_timeout = connect_timeout
        self._read_only = read_only
        self._renew = renew
        self._max_frame = max_frame
        self._login = login
        self._read_only_now = False
        self._oldest = 0
        self._hosts = Hosts(endpoints, entropy)
        self._service = ClientService(
            self._hosts, _Connections(self, reactor), retryPolicy=self._hosts.pause, clock=reactor
        )
        self._gone: Deferred[None] = succeed(None)
        self._connection: Connection | None = None
        self._seeker: Seeker | None = None
        self._credentials: list[_Credential] = []
        self._listeners: dict[Listener, None] = {}
        self._waiters: list[Deferred[State]] = []
        self._stopping: list[Deferred[None]] | None = None
        self._again = False
        self.state = State.CLOSED
        self.timeout = timeout
        self.session_id, self.password = resume or (0, _NO_PASSWORD)
        self.answered_zxid = self.told_zxid = 0
        self._writable = resume is not None
        line.refusal = SessionExpiredError

    # -- being observed

    @property
    def failures(self) -> int:
        """How many attempts came to nothing since there was a connection."""
        return 0 if self.state.connected else self._hosts.failures

    @property
    def last_zxid(self) -> int:
        """The newest zxid that the client has seen: no server may show it anything older."""
        return max(self.answered_zxid, self.told_zxid)

    @property
    def ended(self) -> bool:
        """Whether there will be no session any more, unless it is started again; also while it is being closed."""
        return self.line.refusal is not None

    @property
    def trouble(self) -> str | None:
        """Why the last connection, or the last attempt at one, came to nothing; C{None} while there is one."""
        return self._hosts.trouble

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call C{listener} with each state that the session gets into; the function returned ends that."""
        self._listeners[listener] = None
        return partial(self._listeners.pop, listener, None)

    def when_connected(self) -> Deferred[State]:
        """Return what fires with the state as soon as requests are answered, and fails if that will never be."""
        waiter: Deferred[State] = Deferred()
        self._waiters.append(waiter)
        self._tell_waiters()
        return waiter

    def _refusal(self) -> KeeperError:
        return AuthFailedError() if self.state is State.AUTH_FAILED else SessionExpiredError()

    def _become(self, state: State) -> None:
        self.state = state
        for listener in list(self._listeners):
            if self.state is not state:
                break  # whoever was told has closed the client, and all have been told of that
            call(listener, state)
        if state is self.state:
            self._tell_waiters()

    def _tell_waiters(self) -> None:
        """Tell whoever waits for a connection that there is one, or that there will be none."""
        connected = self.state.connected and not self.ended
        if not connected and (self._again or not self.ended):
            return
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.called:
                if connected:
                    waiter.callback(self.state)
                else:
                    waiter.errback(self._refusal())

    # -- beginning and end

    def start(self) -> None:
        """Connect, and stay connected; while the end is under way, after it."""
        if self._stopping is not None:
            self._again = True
            return
        if self.state in (State.CONNECTING, State.CONNECTED, State.CONNECTED_READ_ONLY):
            return
        self.line.refusal = None
        self._become(State.CONNECTING)
        self._service.startService()

    def stop(self) -> Deferred[None]:
        """End the session and the connection; what was asked before is answered before."""
        done: Deferred[None] = Deferred()
        if self._stopping is not None:
            self._again = False
            self._stopping.append(done)
            self._tell_waiters()
        else:
            self._stopping = [done]
            Deferred.fromCoroutine(self._stop()).addErrback(lambda failure: log.failure("while closing", failure))
        return done

    async def _stop(self) -> None:
        if self.state.connected:
            goodbye = self.line.add(ops.CLOSE_SESSION, b"", answers.nothing)
            self.line.refusal = SessionExpiredError
            try:
                await goodbye.addTimeout(_GOODBYE, self._reactor)
            except Exception as error:  # noqa: BLE001 (it is over one way or the other)
                log.info("The session is left to expire: {error}", error=error)
        self._over(State.CLOSED)
        await self._hang_up()
        stopping, self._stopping = self._stopping, None
        for done in stopping or ():
            done.callback(None)
        if self._again:
            self._again = False
            self.start()

    def _hang_up(self) -> Deferred[None]:
        """
        Connect no more, and return what fires when no connection is left.

        Twisted's service cannot be stopped again by whoever it has just told that it is: it is still about to.
        """
        if self._service.running:
            self._gone = self._service.stopService()
        gone: Deferred[None] = Deferred()
        self._gone.addCallback(gone.callback)
        return gone

    def _over(self, state: State) -> None:
        """Nothing more comes: tell everybody who waits for something."""
        self.line.refusal = AuthFailedError if state is State.AUTH_FAILED else SessionExpiredError
        connection, self._connection = self._connection, None
        self._stop_seeking()
        self._forget()
        if connection is not None:
            connection.abort("closed")
        if self.state is not state:
            self._become(state)
        self.watches.end()
        self.line.fail(self.line.refusal)
        for credential in self._credentials:
            credential.settle(self._refusal())

    def _forget(self) -> None:
        """There is no session any more."""
        self.session_id, self.password, self.timeout = 0, _NO_PASSWORD, self._wanted
        # What another session has seen is no promise to the next.
        self.answered_zxid = self.told_zxid = 0
        self._writable = False

    # -- identities

    def authenticate(self, scheme: str, data: bytes) -> Deferred[None]:
        """Tell this server, and all that follow, who the client is."""
        credential = _Credential(jute.encode(proto.AuthPacket(0, scheme, data)))
        done: Deferred[None] = Deferred()
        credential.waiters.append(done)
        self._credentials.append(credential)
        if self._connection is not None and self.state.connected:
            # The requests before it are read before it, so they have to be sent before it.
            self._connection.flush()
            self._present(self._connection, credential)
        return done

    def _present(self, connection: Connection, credential: _Credential) -> None:
        connection.authenticate(credential.packet, partial(self._presented, credential))

    def _presented(self, credential: _Credential, err: int) -> None:
        if err == 0:
            credential.settle(None)
            return
        self._credentials.remove(credential)
        error = keeper_error(err)
        self.refused(f"a credential is refused: {error}")
        credential.settle(error)

    # -- what connections ask (L{zktwisted.client.connection.Owner})

    def opening(self, connection: Connection) -> tuple[proto.ConnectRequest, bool, float]:
        """A connection is made: ask for the session, a new one if all that there was is one without a quorum."""
        self._connection = connection
        session_id, password = (self.session_id, self.password) if self._writable else (0, _NO_PASSWORD)
        request = proto.ConnectRequest(0, self.last_zxid, round(self._wanted * 1000), session_id, password)
        return request, self._read_only, self._connect_timeout

    def opened(self, connection: Connection, response: proto.ConnectResponse, read_only: bool) -> bool:
        """The server has answered."""
        if response.timeout <= 0:
            self._expired(connection)
            return False
        self.session_id, self.password = response.session_id, response.passwd or _NO_PASSWORD
        self.timeout = response.timeout / 1000
        self._writable = self._writable or not read_only
        self._read_only_now = read_only
        return True

    def login(self) -> Login | None:
        """Before anything else, as others may be refused before it."""
        return None if self._login is None else self._login()

    def refused(self, why: str) -> None:
        """The server does not believe the client, or the client not the server: the end."""
        log.warn("Not authenticated: {why}", why=why)
        self._hosts.trouble = why
        self._over(State.AUTH_FAILED)
        self._hang_up()

    def entered(self, connection: Connection) -> None:
        """Requests may come: tell the server who the client is and what it watches, and everybody that it is there."""
        self._hosts.trouble = None
        self._oldest = self.line.oldest
        for credential in self._credentials:
            self._present(connection, credential)
        connection.first(self.watches.requests(self.answered_zxid, self._max_frame))
        self.line.wake = connection.wake
        if self._read_only_now:
            self._seeker = Seeker(self._reactor, self._hosts, partial(connection.abort, "there is a quorum elsewhere"))
        self._become(State.CONNECTED_READ_ONLY if self._read_only_now else State.CONNECTED)

    def fire(self, event: proto.WatcherEvent, zxid: int) -> None:
        """A watch was triggered."""
        try:
            self.watches.fire(event.type, event.path or b"", zxid)
        except ValueError:
            raise ProtocolError(f"an event of type {event.type}") from None

    def lost(self, connection: Connection, reason: Failure) -> None:
        """
        A connection is over.

        What was asked while it was there is lost together, sent or not: a request must not be carried out when one
        before it was not.
        """
        if connection is not self._connection:
            return
        self._connection = None
        self._hosts.trouble = reason.getErrorMessage()
        self.line.wake = _nobody
        self._stop_seeking()
        if self.state.connected:
            if connection.lasted or self.line.oldest != self._oldest:
                # It was of some use; a server that ends one connection after the other is not asked without a pause.
                self._hosts.failures = 0
            log.info(
                "Session {session} lost its connection: {reason}",
                session=show_zxid(self.session_id),
                reason=reason.getErrorMessage(),
            )
            asked = self.line.all()
            self._become(State.CONNECTING)
            self.line.fail(ConnectionLossError, asked)

    def _expired(self, connection: Connection) -> None:
        log.info("Session {session} has expired", session=show_zxid(self.session_id))
        asked = self.line.all()
        if self.session_id:
            self._hosts.failures = 0  # it was a server that answers
        self._forget()
        if not self._renew:
            self._over(State.EXPIRED)
            self._hang_up()
            return
        # Who is told may ask for something, which is for the next session.
        self._become(State.EXPIRED)
        if self.state is State.EXPIRED:
            self._become(State.CONNECTING)
        self.watches.end()
        self.line.fail(SessionExpiredError, asked)
        connection.abort("the session has expired")

    def _stop_seeking(self) -> None:
        seeker, self._seeker = self._seeker, None
        if seeker is not None:
            seeker.stop()


def _nobody() -> None:
    """No connection is there to send anything."""
