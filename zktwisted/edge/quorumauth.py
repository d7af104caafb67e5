"""
Servers that authenticate to one another: the exchange, on election and quorum ports alike.

L{Accepting} and L{Connecting} are its two sides, as values: bytes in, bytes out, done or failed.  L{QuorumAuth} is what
a server needs to begin one, and L{Guard} lets nobody through to a role who has not come through his.

With DIGEST-MD5 a server is whatever user its JAAS file says, and usually all are the same one; with Kerberos it is a
service on one of the hosts of the ensemble.  Nobody may act as somebody else: the name that is asked for has to be the
name that was shown, and who has none of the right form is not let in (CVE-2023-44981 was a check that somebody could do
without).

Rules: spec: election 3.1.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from secrets import token_bytes
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from zktwisted.config.jaas import Login, Users
from zktwisted.config.kerberos import KerberosLogin, NoNameError, parse_principal
from zktwisted.config.logins import read_logins
from zktwisted.errors import ProtocolError
from zktwisted.wire.gssapi import GssClient, GssResponse, GssServer
from zktwisted.wire.quorumauth import ERROR, IN_PROGRESS, MAGIC, SUCCESS, encode_auth, read_auth
from zktwisted.wire.sasl import NONCE_BYTES, DigestClient, DigestResponse, DigestServer, SaslError

if TYPE_CHECKING:
    from zktwisted.config import ServerConfig

__all__ = [
    "Accepting",
    "Admission",
    "Connecting",
    "DigestAdmission",
    "Exchange",
    "Guard",
    "KerberosAdmission",
    "QuorumAuth",
    "QuorumAuthError",
]

log = Logger()

_SERVICE, _SERVER = "zookeeper-quorum", "zk-quorum-sasl-md5"
#: In the name of a service: the host of the server that is called.
_HOST = "_HOST"
#: How many connections may be in an exchange at a time; the oldest goes first.
_PENDING_MAX = 100


InThread: TypeAlias = Callable[[Callable[[], bytes]], "Deferred[bytes]"]
"""Calls something where nobody has to wait for it."""


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

    def begin(self) -> Deferred[bytes]:
        """
        What to write before anything is read.

        Fails with L{QuorumAuthError}: the connection is to be closed.
        """

    def receive(self, data: bytes) -> bytes:
        """
        Take in what came, and return what to write.

        @raise QuorumAuthError: the connection is to be closed.
        """

    def end_of_input(self) -> bool:
        """Nothing more will come: whether what was said before the exchange counts nevertheless."""


class Admission(Protocol):
    """What those who call have to show."""

    def begin(self) -> DigestServer | GssServer:
        """Begin an exchange."""

    def judge(self, response: Any) -> bytes | None:
        """
        Look at what an exchange has led to, and return what is still to be said.

        @raise SaslError: it is not enough.
        """


class DigestAdmission:
    """Whoever knows the password of one of the users."""

    def __init__(self, users: Users, random: Callable[[int], bytes] = token_bytes) -> None:
        """@param random: gives as many random bytes as it is asked for."""
        self._users = users
        self._random = random

    def begin(self) -> DigestServer:
        """See L{Admission}."""
        return DigestServer(_SERVICE, _SERVER, self._random(NONCE_BYTES))

    def judge(self, response: DigestResponse) -> bytes:
        """See L{Admission}."""
        password = self._users.password(response.username)
        fits = response.checkPassword("" if password is None else password)
        if password is None or not fits:
            raise SaslError(f"{response.username!r} has not shown that it is that")
        if response.authzid != response.username:
            raise SaslError(f"{response.username!r} asks to act as another")
        return response.answer


class KerberosAdmission:
    """Whoever is a service on a host of the ensemble, in one of its realms."""

    def __init__(self, begin: Callable[[], GssServer], hosts: Collection[str], realms: Collection[str]) -> None:
        """
        @param begin: begins an exchange.
        @param hosts: the hosts of the ensemble's servers, as their lines name them.
        @param realms: those whose word counts: others that ours trusts could call anything a host of ours.
        """
        self._begin = begin
        self._realms = frozenset(realms)
        # Principals are mostly written in small letters (and _HOST is), whatever the server lines are.
        self._hosts = frozenset(hosts) | {host.lower() for host in hosts}

    def begin(self) -> GssServer:
        """See L{Admission}."""
        return self._begin()

    def judge(self, response: GssResponse) -> None:
        """See L{Admission}."""
        name = response.username
        if response.authzid != name:
            raise SaslError(f"{name!r} asks to act as another")
        try:
            principal = parse_principal(name)
        except NoNameError as error:
            raise SaslError(f"{name!r} is no service on a host: {error}") from error
        # Kerberos writes a slash that belongs to a component with a backslash before it.
        if principal.host not in self._hosts or "\\" in name:
            raise SaslError(f"{name!r} is no service on a host of this ensemble")
        if principal.realm not in self._realms:
            raise SaslError(f"{name!r} is of another realm than this ensemble")


class Accepting:
    """
    The side that was called, and wants to know by whom.

    @ivar user: who it is, C{None} as long as that is not known.
    """

    def __init__(self, admission: Admission, required: bool) -> None:
        """@param required: whether the connection is closed if nobody shows who he is."""
        self.done = False
        self.rest = b""
        self.user: str | None = None
        self._admission = admission
        self._required = required
        self._mechanism: DigestServer | GssServer | None = None
        self._buffer = b""

    def begin(self) -> Deferred[bytes]:
        """See L{Exchange}."""
        return succeed(b"")

    def receive(self, data: bytes) -> bytes:
        """See L{Exchange}."""
        self._buffer += data
        if self._mechanism is None and not MAGIC.startswith(self._buffer[:8]):
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
        if self._mechanism is None:
            self._mechanism = self._admission.begin()
        said = self._mechanism.step(token)
        if isinstance(said, bytes):
            return encode_auth(IN_PROGRESS, said)
        answer = self._admission.judge(said)
        self.user = said.username
        self._end()
        return encode_auth(SUCCESS, answer)

    def _end(self) -> None:
        self.done = True
        self.rest, self._buffer = self._buffer, b""

    def end_of_input(self) -> bool:
        """See L{Exchange}: who has said nothing against it may be one that knows no exchanges."""
        return not self._required


class Connecting:
    """The side that calls, and shows who it is."""

    def __init__(self, mechanism: DigestClient | GssClient, in_thread: InThread) -> None:
        """@param in_thread: where the mechanism may begin, since that can take long."""
        self.done = False
        self.rest = b""
        self._mechanism = mechanism
        self._in_thread = in_thread
        self._begun = False
        self._buffer = b""

    def begin(self) -> Deferred[bytes]:
        """See L{Exchange}."""
        return self._in_thread(self._mechanism.begin).addCallbacks(self._begin, self._cannot_begin)

    def _begin(self, token: bytes) -> bytes:
        self._begun = True
        return encode_auth(IN_PROGRESS, token)

    def _cannot_begin(self, reason: Failure) -> Failure:
        reason.trap(SaslError)
        return Failure(QuorumAuthError(reason.getErrorMessage()))

    def receive(self, data: bytes) -> bytes:
        """See L{Exchange}."""
        self._buffer += data
        if not self._begun:
            raise QuorumAuthError("it answers before it was asked")
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


class Errands:
    """
    Calls that may take long, one after the other.

    They wait for somebody else, who may never answer: one is all that others who need threads have to do without.
    """

    def __init__(self, in_thread: InThread) -> None:
        """@param in_thread: calls something in a thread."""
        self._in_thread = in_thread
        self._waiting: dict[Deferred[bytes], Callable[[], bytes]] = {}
        self._busy = False

    def run(self, call: Callable[[], bytes]) -> Deferred[bytes]:
        """Call something when its turn has come; it is left out if it is cancelled before."""
        done: Deferred[bytes] = Deferred(self._cancelled)
        self._waiting[done] = call
        self._next()
        return done

    def _cancelled(self, done: Deferred[bytes]) -> None:
        self._waiting.pop(done, None)

    def _next(self) -> None:
        if self._busy or not self._waiting:
            return
        done = next(iter(self._waiting))
        self._busy = True
        self._in_thread(self._waiting.pop(done)).addBoth(self._done, done)

    def _done(self, result: Any, done: Deferred[bytes]) -> None:
        self._busy = False
        if not done.called:  # else nobody waits for it any more
            done.callback(result)
        self._next()


class QuorumAuth:
    """What a server needs to authenticate to others, and to let them authenticate."""

    def __init__(
        self,
        admission: Admission,
        login: Callable[[str], DigestClient | GssClient] | None = None,
        required: bool = False,
        in_thread: InThread = maybeDeferred,
    ) -> None:
        """
        @param admission: who may call us.
        @param login: begins to show the server on a host who calls; C{None}: we call without an exchange.
        @param required: whether others have to authenticate.
        @param in_thread: calls something that may take long, and cannot be hurried.
        """
        self._admission = admission
        self._login = login
        self._required = required
        self._in_thread = in_thread

    @classmethod
    def from_config(cls, config: ServerConfig, in_thread: InThread) -> QuorumAuth | None:
        """
        What the settings C{quorum.auth.*} say; C{None}: there are no exchanges.

        @param in_thread: calls something in a thread.
        @raise ConfigError: see L{read_logins}; or the keytab of Kerberos holds another key.
        """
        servers, learner = read_logins(config)[1:]
        if servers is None:
            return None
        admission, required = _admission(servers, learner, config), config.quorum_auth_server_require_sasl
        if isinstance(learner, KerberosLogin):
            return cls(admission, _kerberos_login(learner, config), required, Errands(in_thread).run)
        return cls(admission, None if learner is None else _digest_login(learner), required)

    def accepting(self) -> Accepting:
        """Begin as the side that was called."""
        return Accepting(self._admission, self._required)

    @property
    def calls(self) -> bool:
        """Whether this server authenticates to those that it calls."""
        return self._login is not None

    def connecting(self, host: str) -> Connecting:
        """Begin as the side that calls a server, on the host that its line names."""
        assert self._login is not None, "nobody to log in as"
        return Connecting(self._login(host), self._in_thread)


def _admission(
    accepted: Users | KerberosLogin, learner: Login | KerberosLogin | None, config: ServerConfig
) -> Admission:
    if isinstance(accepted, Users):
        return DigestAdmission(accepted)
    from zktwisted.edge.kerberos import Acceptor, default_realm

    acceptor = Acceptor(accepted, config.jaas_file)
    ensemble = config.ensemble
    assert ensemble is not None, "servers are of an ensemble"
    hosts = {address.host for member in ensemble.members for address in member.addresses}
    principals = [each.principal or "" for each in (accepted, learner) if isinstance(each, KerberosLogin)]
    realms = {principal.partition("@")[2] or default_realm() for principal in principals} | {config.server_realm}
    return KerberosAdmission(lambda: GssServer(acceptor.context()), hosts, realms - {""})


def _digest_login(login: Login) -> Callable[[str], DigestClient]:
    def begin(host: str) -> DigestClient:
        nonce = token_bytes(NONCE_BYTES)
        return DigestClient(_SERVICE, _SERVER, login.username, login.password, nonce, login.username)

    return begin


def _kerberos_login(login: KerberosLogin, config: ServerConfig) -> Callable[[str], GssClient]:
    from zktwisted.edge.kerberos import Initiator

    initiator = Initiator(login, config.jaas_file)
    service, _, realm = config.quorum_auth_kerberos_service_principal.partition("@")
    # As with Java's servers, who call services of their own realm unless they are told another.
    realm = realm or config.server_realm or (login.principal or "").partition("@")[2]

    def begin(host: str) -> GssClient:
        name, _, named = service.partition("/")
        target = f"{name}/{host.lower() if named == _HOST else named}"
        return GssClient(initiator.context(f"{target}@{realm}" if realm else target))

    return begin


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
