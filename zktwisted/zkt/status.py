"""
How C{zkt} ends: exit statuses, and one line for whatever went wrong.

L{Problem} is what commands raise, and what L{explain} makes of everything else that may go wrong.  Scripts look at the
status, people at the line: what failed, where, and what to do.
"""

from __future__ import annotations

from enum import IntEnum

from twisted.internet.defer import CancelledError

from zktwisted import errors
from zktwisted.client import BacklogError
from zktwisted.errors import Code, KeeperError

__all__ = ["Problem", "Status", "explain"]


class Status(IntEnum):
    """Exit statuses; the text of each is its line in the documentation."""

    meaning: str

    OK = 0, "done"
    DIFFERENT = 1, "`diff` found differences, `find` nothing, `watch --count` too little"
    USAGE = 2, "the command line was not understood; nothing was done"
    REFUSED = 3, "the server refused for a reason that is not below"
    NO_NODE = 4, "there is no such node"
    CONFLICT = 5, "the tree is not as the command needs it: the node exists, has children, has another version"
    DENIED = 6, "not permitted: by an ACL, by wrong credentials, by a quota, by a read-only server"
    NO_CONNECTION = 7, "no server answered, or the connection or the session was lost on the way"
    LOCAL = 8, "a file or directory on this machine: not found, not writable, not of the right format"
    BUG = 70, "a mistake in zkt; `--debug` shows more"
    INTERRUPTED = 130, "Ctrl-C"
    PIPE = 141, "whoever read the output has gone"
    TERMINATED = 143, "SIGTERM"

    def __new__(cls, value: int, meaning: str) -> Status:
        """Keep the text beside the number."""
        made = int.__new__(cls, value)
        made._value_ = value
        made.meaning = meaning
        return made


class Problem(Exception):
    """
    Something that the user is told in one line.

    @ivar status: what a process ends with that can do nothing about it.
    @ivar text: what failed.
    @ivar path: the node or file that it failed at.
    @ivar hint: what to do.
    """

    def __init__(self, status: Status, text: str, *, path: str | None = None, hint: str | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.path = path
        self.hint = hint

    def __str__(self) -> str:
        text = self.text if self.path is None else f"{self.path}: {self.text}"
        return f"{text} ({self.hint})" if self.hint else text


_REASONS: dict[type[Exception], tuple[Status, str, str | None]] = {
    errors.NoNodeError: (Status.NO_NODE, "there is no such node", None),
    errors.NodeExistsError: (Status.CONFLICT, "the node exists already", "change its data with set"),
    errors.NotEmptyError: (Status.CONFLICT, "the node has children", "deleteall deletes them as well"),
    errors.BadVersionError: (
        Status.CONFLICT,
        "it has another version by now",
        "look at it with get -s, and give the version that it has",
    ),
    errors.NoChildrenForEphemeralsError: (Status.CONFLICT, "an ephemeral node cannot have children", None),
    errors.NoAuthError: (
        Status.DENIED,
        "its ACL does not permit it",
        "authenticate with --auth SCHEME:AUTH or addauth; getAcl shows who may",
    ),
    errors.AuthFailedError: (
        Status.DENIED,
        "the server does not accept the credentials",
        "this session is over; give others",
    ),
    errors.SessionClosedRequiresAuthError: (
        Status.DENIED,
        "the server serves only who has authenticated",
        "see --sasl and --auth",
    ),
    errors.NotReadOnlyError: (
        Status.DENIED,
        "the server is read-only: it has lost its quorum",
        "try again, without --read-only",
    ),
    errors.QuotaExceededError: (Status.DENIED, "a quota would be exceeded", "listquota shows it"),
    errors.InvalidACLError: (
        Status.REFUSED,
        "the server does not take this ACL",
        "write SCHEME:ID:PERMISSIONS, such as world:anyone:r",
    ),
    errors.BadArgumentsError: (Status.REFUSED, "the server does not take this path or argument", None),
    errors.UnimplementedError: (
        Status.REFUSED,
        "the server does not know this operation",
        "an old release, or it is switched off in its configuration",
    ),
    errors.MarshallingError: (Status.REFUSED, "the server could not read the request", None),
    errors.NoWatcherError: (Status.NO_NODE, "there is no such watch", None),
    errors.ReconfigDisabledError: (
        Status.REFUSED,
        "the servers do not allow reconfiguration",
        "reconfigEnabled=true in their configuration",
    ),
    errors.ReconfigInProgressError: (Status.CONFLICT, "another reconfiguration is under way", "try again"),
    errors.NewConfigNoQuorumError: (
        Status.CONFLICT,
        "no quorum of the new configuration is connected",
        "start the new servers first",
    ),
    errors.EphemeralOnLocalSessionError: (Status.REFUSED, "a local session cannot have ephemeral nodes", None),
    errors.ThrottledOpError: (Status.REFUSED, "the server is overloaded, and has not carried it out", "try again"),
    errors.ConnectionLossError: (
        Status.NO_CONNECTION,
        "the connection was lost before the answer came",
        "it may have been carried out: look before trying again",
    ),
    errors.SessionExpiredError: (Status.NO_CONNECTION, "the session is over", "connect again"),
    errors.SessionMovedError: (Status.NO_CONNECTION, "the session is at another server by now", "try again"),
}


def _of_keeper(error: KeeperError) -> Problem:
    for kind in type(error).__mro__:
        if kind in _REASONS:
            status, text, hint = _REASONS[kind]
            return Problem(status, text, path=error.path, hint=hint)
    name = Code(error.code).name if error.code in set(Code) else "unknown"
    return Problem(Status.REFUSED, f"the server answers with error {int(error.code)} ({name})", path=error.path)


def explain(error: BaseException) -> Problem:
    """Return what to tell of an error; one that nobody foresaw is a mistake of ours."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, KeeperError):
        return _of_keeper(error)
    if isinstance(error, CancelledError | KeyboardInterrupt):
        return Problem(Status.INTERRUPTED, "interrupted")
    if isinstance(error, OSError):
        # What a file was called is the path; errors of connections have been made problems where they came.
        path = None if error.filename is None else str(error.filename)
        return Problem(Status.LOCAL, error.strerror or str(error), path=path)
    if isinstance(error, BacklogError):
        return Problem(Status.NO_CONNECTION, str(error))
    if isinstance(error, ValueError) and "jute.maxbuffer" in str(error):
        return Problem(Status.REFUSED, str(error), hint="raise it here with --max-buffer, and at the servers")
    text = str(error).splitlines()[0] if str(error) else "no more is known"
    return Problem(Status.BUG, f"{type(error).__name__}: {text}", hint="a mistake in zkt; --debug shows more")
