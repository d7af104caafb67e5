"""
SASL for clients: whom their tokens make of them.

L{Sasl} is what a server has of it: a C{Portal} of C{twisted.cred}, at which clients log in with a
L{zktwisted.wire.sasl.DigestResponse} or a L{zktwisted.wire.gssapi.GssResponse} and become identities, and what becomes
of those who fail.  L{Conversation} is one connection's part.  A portal may take its time; its client waits meanwhile,
and nobody else.

This module refuses to know requests other than those with tokens, and what an identity may do.

Rules: spec: client-protocol 9.3, 9.5.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from secrets import token_bytes
from typing import TYPE_CHECKING, Any, Protocol

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import ICredentials, IUsernameHashedPassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import Attribute, Interface, classImplements, implementer

from zktwisted.config.jaas import Users
from zktwisted.config.kerberos import KerberosNames, NoNameError
from zktwisted.config.logins import read_logins
from zktwisted.errors import Code
from zktwisted.wire.frames import failure, frame
from zktwisted.wire.gssapi import GssResponse, GssServer
from zktwisted.wire.proto import Id
from zktwisted.wire.sasl import NONCE_BYTES, DigestResponse, DigestServer, SaslError

if TYPE_CHECKING:
    from zktwisted.config import ServerConfig

__all__ = [
    "Conversation",
    "IIdentities",
    "IPrincipal",
    "Mechanism",
    "PrincipalsChecker",
    "Sasl",
    "SaslRealm",
    "UsersChecker",
    "name_of_principal",
]

log = Logger()


class IPrincipal(ICredentials):
    """Somebody for whom a third party vouches, such as Kerberos."""

    username = Attribute("The name that has been shown, as C{name/host@REALM}.")


# Said here, since the room of bytes knows nothing of Twisted.
classImplements(DigestResponse, IUsernameHashedPassword)
classImplements(GssResponse, IPrincipal)

_SERVICE, _REALM = "zookeeper", "zk-sasl-md5"
_NO_TOKEN = b"\xff\xff\xff\xff"


class IIdentities(Interface):
    """What clients become at a portal: a sequence of L{zktwisted.wire.proto.Id}."""


class Mechanism(Protocol):
    """The server's side of one exchange."""

    def step(self, token: bytes) -> bytes | DigestResponse | GssResponse:
        """
        Take in a token, and return what to say next, or with what the client logs in.

        @raise SaslError: it is no use to go on.
        """


@implementer(IRealm)
class SaslRealm:
    """Who has shown a name by SASL has it as the scheme C{sasl}'s."""

    def __init__(self, super_users: Collection[str] = (), names: Callable[[str], str] = str) -> None:
        """
        @param super_users: the names of those who may do everything.
        @param names: what is made of a name; raises C{UnauthorizedLogin} for one that has no place here.
        """
        self._super_users = frozenset(super_users)
        self._names = names

    def requestAvatar(self, avatarId: Any, mind: object, *interfaces: Any) -> tuple[Any, Any, Callable[[], None]]:
        """See C{IRealm}."""
        if IIdentities not in interfaces:
            raise TypeError("clients become identities")
        name = self._names(avatarId.decode() if isinstance(avatarId, bytes) else str(avatarId))
        own = Id("sasl", name)
        identities = (own, Id("super", "")) if name in self._super_users else (own,)
        return IIdentities, identities, lambda: None


@implementer(ICredentialsChecker)
class UsersChecker:
    """Knows the passwords of a JAAS file."""

    credentialInterfaces = (IUsernameHashedPassword,)

    def __init__(self, users: Users) -> None:
        self._users = users

    def requestAvatarId(self, credentials: Any) -> Deferred[Any]:
        """See C{ICredentialsChecker}: somebody unknown takes as long as a wrong password."""
        password = self._users.password(credentials.username)
        fits = credentials.checkPassword("" if password is None else password)
        if password is None or not fits:
            return fail(UnauthorizedLogin("no such user" if password is None else "wrong password"))
        return succeed(credentials.username)


@implementer(ICredentialsChecker)
class PrincipalsChecker:
    """Believes whom Kerberos vouches for."""

    credentialInterfaces = (IPrincipal,)

    def requestAvatarId(self, credentials: Any) -> Deferred[Any]:
        """See C{ICredentialsChecker}."""
        return succeed(credentials.username)


class Sasl:
    """
    SASL for the clients of one server.

    @ivar portal: where they log in.  A program that embeds a server may put another in its place: it is given
        L{DigestResponse}s, or L{GssResponse}s where the configuration has Kerberos, and asked for L{IIdentities}.
        C{None}: there is no SASL.
    @ivar required: whether those who are not authenticated so are not served.
    @ivar lenient: whether those who fail are served nevertheless, as nobody in particular.
    """

    def __init__(
        self,
        portal: Portal | None = None,
        *,
        required: bool = False,
        lenient: bool = False,
        random: Callable[[int], bytes] = token_bytes,
        begin: Callable[[], Mechanism] | None = None,
    ) -> None:
        """
        @param random: gives as many random bytes as it is asked for.
        @param begin: begins an exchange; by default one of DIGEST-MD5.
        """
        self.portal = portal
        self.required = required
        self.lenient = lenient and not required
        self.begin = begin or (lambda: DigestServer(_SERVICE, _REALM, random(NONCE_BYTES)))

    @classmethod
    def from_config(cls, config: ServerConfig) -> Sasl:
        """
        What a configuration says.

        @raise ConfigError: see L{read_logins}; or the keytab of Kerberos holds another key.
        """
        accepted = read_logins(config).clients
        properties = {name.removeprefix("zookeeper."): value for name, value in config.properties}
        super_users = {value for name, value in properties.items() if name.startswith("superUser.")}
        super_users = {*super_users, config.sasl_super_user} - {""}
        portal, begin = None, None
        if isinstance(accepted, Users):
            portal = Portal(SaslRealm(super_users, _name_of_user(config.kerberos_names())), [UsersChecker(accepted)])
        elif accepted is not None:
            from zktwisted.edge.kerberos import Acceptor, default_realm

            acceptor = Acceptor(accepted, config.jaas_file)
            names = config.kerberos_names(default_realm())
            portal = Portal(SaslRealm(super_users, name_of_principal(names)), [PrincipalsChecker()])

            def begin() -> GssServer:
                return GssServer(acceptor.context())

        return cls(
            portal,
            required="sasl" in config.enforced_schemes,
            lenient=config.allow_sasl_failed_clients,
            begin=begin,
        )


def _name_of_user(names: KerberosNames) -> Callable[[str], str]:
    """As in Java, the rules of Kerberos count for users who have a realm in their names; but they need none."""

    def name_of(user: str) -> str:
        try:
            return names.identity(user)
        except NoNameError:
            return user

    return name_of


def name_of_principal(names: KerberosNames) -> Callable[[str], str]:
    """What L{SaslRealm} makes of principals: who has no name among these is not let in."""

    def name_of(principal: str) -> str:
        try:
            return names.identity(principal)
        except NoNameError as error:
            # Java gives it the name that it asks for.
            log.info("{principal!r} has no name here: {why}", principal=principal, why=str(error))
            raise UnauthorizedLogin("it has no name here") from error

    return name_of


class Conversation:
    """The tokens of one connection."""

    def __init__(self, sasl: Sasl, connection: Any) -> None:
        """@param connection: a L{zktwisted.edge.protocol.ClientProtocol}."""
        self._sasl = sasl
        self._connection = connection
        self._mechanism: Mechanism | None = None

    def take(self, xid: int, token: bytes) -> None:
        """Take a token in.  If it cannot be answered yet the connection is held (C{hold_for_login})."""
        sasl = self._sasl
        if sasl.portal is None:
            self._reply(xid, Code.OK, None)  # nobody is authenticated
            return
        if self._mechanism is None:
            self._mechanism = sasl.begin()
        try:
            said = self._mechanism.step(token)
        except SaslError as error:
            self._fail(xid, str(error))
            return
        if isinstance(said, bytes):
            self._reply(xid, Code.OK, said)
            return
        if said.authzid != said.username:
            # The identity is always the authenticated one.
            log.info("{user!r} asks to act as another, which nobody may", user=said.username)
        self._connection.hold_for_login()
        login: Deferred[Any] = sasl.portal.login(said, None, IIdentities)
        login.addCallback(self._proven, xid, said)
        login.addErrback(self._disproven, xid, said)
        login.addCallback(self._go_on)

    def _proven(self, outcome: tuple[Any, Any, Any], xid: int, response: DigestResponse | GssResponse) -> None:
        connection = self._connection
        if connection.gone:
            return
        answer = response.answer
        connection.authenticated(tuple(outcome[1]))
        log.info("{peer} is {user!r}, by SASL", peer=connection.remote_address, user=response.username)
        self._reply(xid, Code.OK, answer)

    def _disproven(self, reason: Failure, xid: int, response: DigestResponse | GssResponse) -> None:
        if not self._connection.gone:
            if reason.check(UnauthorizedLogin) is None:
                log.failure("A login by SASL could not be judged", reason)
            self._fail(xid, f"{response.username!r} has not shown that it is that")

    def _go_on(self, _: None) -> None:
        self._connection.end_of_login()

    def _fail(self, xid: int, why: str) -> None:
        connection = self._connection
        log.info("Authentication of {peer} by SASL failed: {why}", peer=connection.remote_address, why=why)
        connection.count_failed_login()
        if self._sasl.lenient:
            self._reply(xid, Code.OK, None)
            return
        self._reply(xid, Code.SESSIONCLOSEDREQUIRESASLAUTH if self._sasl.required else Code.AUTHFAILED, None)
        connection.close_after_flush()

    def _reply(self, xid: int, code: int, token: bytes | None) -> None:
        body = _NO_TOKEN if token is None else len(token).to_bytes(4, "big") + token
        self._connection.out.append(frame(failure(xid, 0, code)[4:] + body))
