"""
Servers that authenticate to one another: the exchange, on election and quorum ports alike.

L{Accepting} and L{Connecting} are its two sides, as values: bytes in, bytes out, done or failed.  L{QuorumAuth} is what
a server needs to begin one, and L{Guard} lets nobody through to a role who has not come through his.

With DIGEST-MD5 a server is whatever user its JAAS file says, and usually all are the same one.  Nobody may act as
somebody else: the name that is asked for has to be the name that was shown (CVE-2023-44981 was a check that somebody
could do without).

Rules: spec: election 3.1.
"""

from __future__ import annotations

from collections.abc import Callable
from secrets import token_bytes
from typing import TYPE_CHECKING, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from zktwisted.config.jaas import Login, Users
from zktwisted.config.logins import read_logins
from zktwisted.errors import ProtocolError
from zktwisted.wire.quorumauth import ERROR, IN_PROGRESS, MAGIC, SUCCESS, encode_auth, read_auth
from zktwisted.wire.sasl import NONCE_BYTES, DigestClient, DigestServer, SaslError

if TYPE_CHECKING:
    from zktwisted.config import ServerConfig

__all__ = ["Accepting", "Connecting", "Exchange", "Guard", "QuorumAuth", "QuorumAuthError"]

log = Logger()

_SERVICE, _SERVER = "zookeeper-quorum", "zk-quorum-sasl-md5"
#: How many connections may be in an exchange at a time; the oldest goes first.
_PENDING_MAX = 100


class QuorumAuthError(ProtocolError):
    """
    The other side has not shown that it may be here.

    @ivar farewell: what it is to be told before the connection is closed.
    """

    def __init__(self, message: str, farewell: bytes = b"") -> None:
        super().__init__(message)
        self.farewell = farewell


class Exchange(Protocol):
    """
    One side of an exchange.

    @ivar done: whether the connection may be used; then L{rest} has come after it.
    @ivar rest: see there.
    """

    done: bool
    rest: bytes

    def begin(self) -> bytes:
        """What to write before anything is read."""

    def receive(self, data: bytes) -> bytes:
        """
        Take in what came, and return what to write.

        @raise QuorumAuthError: the connection is to be closed.
        """

    def end_of_input(self) -> bool:
        """Nothing more will come: whether what was said before the exchange counts nevertheless."""


class Accepting:
    """
    The side that was called, and wants to know by whom.

    @ivar user: who it is, C{None} as long as that is not known.
    """

    def __init__(self, users: Users, required: bool, nonce: bytes) -> None:
        """@param required: whether the connection is closed if nobody shows who he is."""
        self.done = False
        self.rest = b""
        self.user: str | None = None
        self._users = users
        self._required = required
        self._mechanism = DigestServer(_SERVICE, _SERVER, nonce)
        self._challenged = False
        self._buffer = b""

    def begin(self) -> bytes:
        """See L{Exchange}."""
        return b""

    def receive(self, data: bytes) -> bytes:
        """See L{Exchange}."""
        self._buffer += data
        if not self._challenged and not MAGIC.startswith(self._buffer[:8]):
            if self._required:
                raise QuorumAuthError("it does not authenticate")
            self._end()
            return b""
        out = b""
        try:
            while not self.done:
                found = read_auth(self._buffer)
                if found is None:
                    break
                packet, end = found
                self._buffer = self._buffer[end:]
                out += self._step(packet.token or b"")
        except (SaslError, ProtocolError) as error:
            farewell = out + encode_auth(ERROR, b"")
            if self._required:
                raise QuorumAuthError(str(error), farewell) from error
            log.info("A server has not authenticated, which is not required of it: {reason}", reason=str(error))
            self._end()
            return farewell
        return out

    def _step(self, token: bytes) -> bytes:
        if not self._challenged:
            self._challenged = True
            return encode_auth(IN_PROGRESS, self._mechanism.challenge)
        response = self._mechanism.response(token)
        password = self._users.password(response.username)
        fits = response.checkPassword("" if password is None else password)
        if password is None or not fits:
            raise SaslError(f"{response.username!r} has not shown that it is that")
        if response.authzid != response.username:
            raise SaslError(f"{response.username!r} asks to act as another")
        self.user = response.username
        self._end()
        return encode_auth(SUCCESS, response.answer)

    def _end(self) -> None:
        self.done = True
        self.rest, self._buffer = self._buffer, b""

    def end_of_input(self) -> bool:
        """See L{Exchange}: who has said nothing against it may be one that knows no exchanges."""
        return not self._required


class Connecting:
    """The side that calls, and shows who it is."""

    def __init__(self, login: Login, nonce: bytes) -> None:
        self.done = False
        self.rest = b""
        self._mechanism = DigestClient(_SERVICE, _SERVER, login.username, login.password, nonce, login.username)
        self._buffer = b""

    def begin(self) -> bytes:
        """See L{Exchange}."""
        return encode_auth(IN_PROGRESS, b"")

    def receive(self, data: bytes) -> bytes:
        """See L{Exchange}."""
        self._buffer += data
        out = b""
        try:
            while not self.done:
                found = read_auth(self._buffer)
                if found is None:
                    break
                packet, end = found
                self._buffer = self._buffer[end:]
                out += self._step(packet.status, packet.token or b"")
        except (SaslError, ProtocolError) as error:
            raise QuorumAuthError(str(error)) from error
        return out

    def _step(self, status: int, token: bytes) -> bytes:
        if status == IN_PROGRESS:
            return encode_auth(IN_PROGRESS, self._mechanism.response(token))
        if status != SUCCESS:
            raise SaslError("it does not let us in")
        self._mechanism.verify(token)
        self.done = True
        self.rest, self._buffer = self._buffer, b""
        return b""

    def end_of_input(self) -> bool:
        """See L{Exchange}."""
        return False


class QuorumAuth:
    """What a server needs to authenticate to others, and to let them authenticate."""

    def __init__(
        self,
        users: Users,
        login: Login | None = None,
        required: bool = False,
        random: Callable[[int], bytes] = token_bytes,
    ) -> None:
        """
        @param users: who may call us.
        @param login: as whom we call others; C{None}: without an exchange.
        @param required: whether others have to authenticate.
        @param random: gives as many random bytes as it is asked for.
        """
        self._users = users
        self._login = login
        self._required = required
        self._random = random

    @classmethod
    def from_config(cls, config: ServerConfig) -> QuorumAuth | None:
        """
        What the settings C{quorum.auth.*} say; C{None}: there are no exchanges.

        @raise ConfigError: see L{read_logins}.
        """
        logins = read_logins(config)
        if logins.servers is None:
            return None
        return cls(logins.servers, logins.learner, config.quorum_auth_server_require_sasl)

    def accepting(self) -> Accepting:
        """Begin as the side that was called."""
        return Accepting(self._users, self._required, self._random(NONCE_BYTES))

    @property
    def calls(self) -> bool:
        """Whether this server authenticates to those that it calls."""
        return self._login is not None

    def connecting(self) -> Connecting:
        """Begin as the side that calls."""
        assert self._login is not None, "nobody to log in as"
        return Connecting(self._login, self._random(NONCE_BYTES))


class _Guarded(Protocol):
    """A connection in an exchange."""

    peer: str

    def abort(self) -> None:
        """End it at once."""


class Guard:
    """
    Whose connections of one port, or to one server, are still in their exchange, and for how long they may be.

    They are of no role yet, so they are ended here when the role is: L{close}.
    """

    def __init__(self, begin: Callable[[], Exchange], clock: IReactorTime, patience: float) -> None:
        """
        @param begin: begins an exchange.
        @param patience: seconds that one may take.
        """
        self._begin = begin
        self._clock = clock
        self._patience = patience
        self._pending: dict[_Guarded, IDelayedCall] = {}

    def begin(self, connection: _Guarded) -> Exchange:
        """Begin with a connection; L{forget} it when it is through, or gone."""
        if len(self._pending) >= _PENDING_MAX:
            next(iter(self._pending)).abort()
        self._pending[connection] = self._clock.callLater(self._patience, self._late, connection)
        return self._begin()

    def forget(self, connection: _Guarded) -> None:
        """A connection is through, or gone."""
        timer = self._pending.pop(connection, None)
        if timer is not None and timer.active():
            timer.cancel()

    def close(self) -> None:
        """End all that are not through."""
        for connection in list(self._pending):
            connection.abort()

    def _late(self, connection: _Guarded) -> None:
        log.info("Closing the connection with {peer}: it takes too long to authenticate", peer=connection.peer)
        connection.abort()
