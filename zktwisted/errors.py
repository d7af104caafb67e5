"""
Everything that can go wrong, by whom it concerns.

- L{KeeperError}: an answer.  The request was understood and refused; the wire carries its L{Code}.
- L{ProtocolError}: the peer broke the wire format.  Close the connection, log one line.
- L{StoreError}: the disk holds or does what it must not.  Stop before a promise is broken.
- L{ConfigError}: the operator wrote something that cannot work.  File, line, key, remedy.

This module knows the codes of the client protocol and nothing of who raises them.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Code", "ConfigError", "DataDirectoryError", "KeeperError", "ProtocolError", "ServerIdError", "StoreError"]


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
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code

    def __str__(self) -> str:
        try:
            return f"{Code(self.code).name} ({self.code})"
        except ValueError:
            return f"error {self.code}"


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
