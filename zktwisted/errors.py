"""
Everything that can go wrong, by whom it concerns.

- L{KeeperError}: an answer.  The request was understood and refused; the wire carries its L{Code}.  A server raises it
  with a code; a client's program gets the class of that code (L{keeper_error}), so that it can catch what it expects.
- L{ProtocolError}: the peer broke the wire format.  Close the connection, log one line.
- L{StoreError}: the disk holds or does what it must not.  Stop before a promise is broken.
- L{ConfigError}: the operator wrote something that cannot work.  File, line, key, remedy.

This module knows the codes of the client protocol and nothing of who raises them.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = [
    "AuthFailedError",
    "BadArgumentsError",
    "BadVersionError",
    "Code",
    "ConfigError",
    "ConnectionLossError",
    "DataDirectoryError",
    "DataInconsistencyError",
    "EphemeralOnLocalSessionError",
    "InvalidACLError",
    "KeeperError",
    "MarshallingError",
    "NewConfigNoQuorumError",
    "NoAuthError",
    "NoChildrenForEphemeralsError",
    "NoNodeError",
    "NoWatcherError",
    "NodeExistsError",
    "NotEmptyError",
    "NotReadOnlyError",
    "OperationTimeoutError",
    "ProtocolError",
    "QuotaExceededError",
    "ReconfigDisabledError",
    "ReconfigInProgressError",
    "RequestTimeoutError",
    "RuntimeInconsistencyError",
    "ServerIdError",
    "SessionClosedRequiresAuthError",
    "SessionExpiredError",
    "SessionMovedError",
    "StoreError",
    "SystemFaultError",
    "ThrottledOpError",
    "UnimplementedError",
    "UnknownSessionError",
    "keeper_error",
]


class Code(IntEnum):
    """Error codes as they stand in a ReplyHeader (spec: client-protocol 3.3)."""

    OK = 0
    SYSTEMERROR = -1
    RUNTIMEINCONSISTENCY = -2
    DATAINCONSISTENCY = -3
    CONNECTIONLOSS = -4
    MARSHALLINGERROR = -5
    UNIMPLEMENTED = -6
    OPERATIONTIMEOUT = -7
    BADARGUMENTS = -8
    UNKNOWNSESSION = -12
    NEWCONFIGNOQUORUM = -13
    RECONFIGINPROGRESS = -14
    APIERROR = -100
    NONODE = -101
    NOAUTH = -102
    BADVERSION = -103
    NOCHILDRENFOREPHEMERALS = -108
    NODEEXISTS = -110
    NOTEMPTY = -111
    SESSIONEXPIRED = -112
    INVALIDCALLBACK = -113
    INVALIDACL = -114
    AUTHFAILED = -115
    SESSIONMOVED = -118
    NOTREADONLY = -119
    EPHEMERALONLOCALSESSION = -120
    NOWATCHER = -121
    REQUESTTIMEOUT = -122
    RECONFIGDISABLED = -123
    SESSIONCLOSEDREQUIRESASLAUTH = -124
    QUOTAEXCEEDED = -125
    THROTTLEDOP = -127


class KeeperError(Exception):
    """
    A request that was understood and refused.

    @ivar code: the L{Code} that the reply header carries.
    @ivar path: the node that it was about, where a client knows it.
    @ivar results: of a transaction that failed, the code of each of its operations: 0 before the one that failed.
    """

    code: int = Code.SYSTEMERROR
    path: str | None = None
    results: tuple[int, ...] = ()

    def __init__(self, code: int | None = None, path: str | None = None) -> None:
        if code is None:
            code = self.code
        super().__init__(code)
        self.code = code
        if path is not None:
            self.path = path

    def __str__(self) -> str:
        try:
            text = f"{Code(self.code).name} ({self.code})"
        except ValueError:
            text = f"error {self.code}"
        return text if self.path is None else f"{text}: {self.path}"


class NoNodeError(KeeperError):
    """There is no such node."""

    code = Code.NONODE


class NodeExistsError(KeeperError):
    """There is a node of this name already."""

    code = Code.NODEEXISTS


class NotEmptyError(KeeperError):
    """The node has children."""

    code = Code.NOTEMPTY


class BadVersionError(KeeperError):
    """The node (or its ACL, or the configuration) is not of the version that was asked for."""

    code = Code.BADVERSION


class NoAuthError(KeeperError):
    """The node's ACL does not allow it to the identities of this connection."""

    code = Code.NOAUTH


class InvalidACLError(KeeperError):
    """The ACL is empty, or names a scheme or an identity that cannot be."""

    code = Code.INVALIDACL


class NoChildrenForEphemeralsError(KeeperError):
    """Ephemeral nodes have no children."""

    code = Code.NOCHILDRENFOREPHEMERALS


class BadArgumentsError(KeeperError):
    """The path, or something else in the request, is of a form that it must not have."""

    code = Code.BADARGUMENTS


class MarshallingError(KeeperError):
    """The server could not read the request."""

    code = Code.MARSHALLINGERROR


class UnimplementedError(KeeperError):
    """The server does not know the operation, or has it switched off."""

    code = Code.UNIMPLEMENTED


class NotReadOnlyError(KeeperError):
    """The server is read-only at present, and the request would have to be agreed on."""

    code = Code.NOTREADONLY


class QuotaExceededError(KeeperError):
    """A quota that is enforced would be exceeded."""

    code = Code.QUOTAEXCEEDED


class ThrottledOpError(KeeperError):
    """The request waited too long at an overloaded server, and was not carried out."""

    code = Code.THROTTLEDOP


class EphemeralOnLocalSessionError(KeeperError):
    """A local session cannot have ephemeral nodes."""

    code = Code.EPHEMERALONLOCALSESSION


class NoWatcherError(KeeperError):
    """There is no such watch."""

    code = Code.NOWATCHER


class AuthFailedError(KeeperError):
    """The server does not accept the credentials."""

    code = Code.AUTHFAILED


class SessionClosedRequiresAuthError(KeeperError):
    """The server serves only who has authenticated."""

    code = Code.SESSIONCLOSEDREQUIRESASLAUTH


class ConnectionLossError(KeeperError):
    """The connection ended before the answer came: whether the request was carried out is not known."""

    code = Code.CONNECTIONLOSS


class SessionExpiredError(KeeperError):
    """The session is over, and with it its ephemeral nodes and watches; or the client is closed."""

    code = Code.SESSIONEXPIRED


class SessionMovedError(KeeperError):
    """The session is at another server by now."""

    code = Code.SESSIONMOVED


class UnknownSessionError(KeeperError):
    """The server does not know the session."""

    code = Code.UNKNOWNSESSION


class OperationTimeoutError(KeeperError):
    """The operation took too long."""

    code = Code.OPERATIONTIMEOUT


class RequestTimeoutError(KeeperError):
    """The request took too long."""

    code = Code.REQUESTTIMEOUT


class NewConfigNoQuorumError(KeeperError):
    """No quorum of the new configuration is connected and up to date."""

    code = Code.NEWCONFIGNOQUORUM


class ReconfigInProgressError(KeeperError):
    """Another reconfiguration is under way."""

    code = Code.RECONFIGINPROGRESS


class ReconfigDisabledError(KeeperError):
    """The servers do not allow reconfiguration."""

    code = Code.RECONFIGDISABLED


class RuntimeInconsistencyError(KeeperError):
    """In a transaction: an operation before this one failed, or a server's data are inconsistent."""

    code = Code.RUNTIMEINCONSISTENCY


class DataInconsistencyError(KeeperError):
    """The server found its data inconsistent."""

    code = Code.DATAINCONSISTENCY


class SystemFaultError(KeeperError):
    """The server met something that it did not foresee."""

    code = Code.SYSTEMERROR


_CLASSES: dict[int, type[KeeperError]] = {kind.code: kind for kind in KeeperError.__subclasses__()}


def keeper_error(code: int, path: str | None = None) -> KeeperError:
    """
    Return the error of a code: of the class that is that code's own, where it has one.

    @param path: the node that the request was about.
    """
    return _CLASSES.get(code, KeeperError)(code, path)


class ProtocolError(Exception):
    """The peer sent bytes that are no message; the only error a decoder raises."""


class StoreError(Exception):
    """The files are damaged, contradictory or out of reach: the server must not serve from them."""


class DataDirectoryError(StoreError):
    """A data directory is missing, read-only, or holds the files of the other one: exit code 3."""


class ConfigError(Exception):
    """
    A setting that cannot work.

    @ivar message: what is wrong, one sentence.
    @ivar file: the configuration file, if the setting came from one.
    @ivar line: its line number, from 1.
    @ivar key: the key as it was written.
    @ivar remedy: what to write instead.
    """

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        line: int | None = None,
        key: str | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.file = file
        self.line = line
        self.key = key
        self.remedy = remedy

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line) if part is not None)
        text = f"{self.key}: {self.message}" if self.key else self.message
        if place:
            text = f"{place}: {text}"
        return f"{text} ({self.remedy})" if self.remedy else text


class ServerIdError(ConfigError):
    """The id of this server is none of the ensemble's: exit code 1."""
