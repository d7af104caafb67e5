"""
What clients ask, as tests speak of it: names of operations, paths, codes; and what is recorded of it.

It reads the beginning of a request as far as its path, and refuses to know what a request does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from zktwisted.errors import Code, ProtocolError
from zktwisted.wire import ops, proto
from zktwisted.wire.ops import OpCode

__all__ = ["RecordedRequest", "Recording", "Wanted", "code_of", "name_of", "paths_of"]

#: What a client library asks by itself: "the next request" is none of these, unless it is named.
HOUSEKEEPING = frozenset((ops.PING, ops.AUTH, ops.SASL, ops.SET_WATCHES, ops.SET_WATCHES2, ops.CLOSE_SESSION))

_WITHOUT_PATH = HOUSEKEEPING | {ops.WHO_AM_I, ops.RECONFIG, ops.MULTI, ops.MULTI_READ}
#: What a program means who says "create": client libraries send one or the other.
_FAMILIES = {
    "create": frozenset((ops.CREATE, ops.CREATE2, ops.CREATE_CONTAINER, ops.CREATE_TTL)),
    "getchildren": frozenset((ops.GET_CHILDREN, ops.GET_CHILDREN2)),
    "setwatches": frozenset((ops.SET_WATCHES, ops.SET_WATCHES2)),
}
_BY_NAME = {op.name.replace("_", "").lower(): frozenset((op.value,)) for op in OpCode} | _FAMILIES
#: What goes through the wire as one operation more than what is meant.
_SAME = {ops.CREATE2: "create", ops.GET_CHILDREN2: "get_children", ops.SET_WATCHES2: "set_watches"}
_NAMES = {op.value: op.name.lower() for op in OpCode} | _SAME


def name_of(op: int) -> str:
    """Name an operation: C{"create"}, C{"get_data"}; client libraries' variants of one have one name."""
    return _NAMES.get(op, str(op))


def ops_of(name: str) -> frozenset[int]:
    """
    The operations that a name stands for, C{get_data} or C{getData}.

    @raise ValueError: it stands for none.
    """
    found = _BY_NAME.get(name.replace("_", "").lower())
    if found is None:
        known = ", ".join(sorted({name for op, name in _NAMES.items() if op > 0}))
        raise ValueError(f"there is no operation {name!r}; there are {known}")
    return found


def code_of(code: int | str | Code) -> Code:
    """
    A code by its number or its name, C{-4} or C{"CONNECTIONLOSS"} or C{"connection_loss"}.

    @raise ValueError: there is none.
    """
    if isinstance(code, str):
        wanted = code.replace("_", "").upper()
        for each in Code:
            if each.name == wanted:
                return each
        raise ValueError(f"there is no code {code!r}; there are {', '.join(each.name for each in Code)}")
    return Code(code)


def paths_of(op: int, body: bytes) -> tuple[str, ...]:
    """
    The paths that a request names, as the server knows them: with the client's chroot.

    @param body: what follows the operation's number.
    """
    if op in (ops.MULTI, ops.MULTI_READ):
        try:
            parts = proto.decode_multi(body, 0, proto.MULTI_OPS if op == ops.MULTI else proto.MULTI_READ_OPS)
        except ProtocolError:
            return ()
        return tuple(_text(record.path) for _, record in parts)
    size = int.from_bytes(body[:4], "big", signed=True)
    if op in _WITHOUT_PATH or size < 0 or len(body) < 4 + size:
        return ()
    return (_text(body[4 : 4 + size]),)


def _text(path: bytes | str) -> str:
    return path if isinstance(path, str) else path.decode("utf-8", "replace")


@dataclass
class RecordedRequest:
    """
    A request that a client has sent.

    @ivar op: the operation: C{"create"}, C{"get_data"}, C{"multi"}.
    @ivar path: the node that it names, with the client's chroot; C{None} if it names none, or several.
    @ivar paths: all of them, of a multi.
    @ivar session: the client's session.
    @ivar code: what it was answered, C{Code.OK} or an error; C{None}: nothing, as yet.
    """

    op: str
    paths: tuple[str, ...]
    session: int
    code: Code | int | None = None

    @property
    def path(self) -> str | None:
        """The one path."""
        return self.paths[0] if len(self.paths) == 1 else None


@dataclass(frozen=True)
class Wanted:
    """
    Which requests are meant.

    @ivar ops: the operations; none: all that are no client library's own.
    @ivar path: the path, in which C{*} stands for anything; C{None}: any.
    """

    ops: frozenset[int] = frozenset()
    path: str | None = None

    @classmethod
    def of(cls, op: str | None, path: str | None) -> Wanted:
        """@raise ValueError: there is no such operation, or no request could name this path."""
        if path is not None and path[:1] not in ("/", *"*?["):
            raise ValueError(f"{path!r} is no path: it begins with '/', or with '*' for anything")
        return cls(frozenset() if op is None else ops_of(op), path)

    def matches(self, op: int, paths: tuple[str, ...]) -> bool:
        """Whether a request is meant."""
        if op not in self.ops if self.ops else op in HOUSEKEEPING:
            return False
        return self.path is None or any(fnmatchcase(path, self.path) for path in paths)


@dataclass
class Recording:
    """
    What clients have asked since the recording began, in the order of arrival.

    @ivar everything: also what client libraries ask by themselves: pings, authentication, the end of sessions.
    """

    everything: bool = False
    _requests: list[RecordedRequest] = field(default_factory=list)

    def add(self, op: int, request: RecordedRequest) -> None:
        """Record a request."""
        if self.everything or op not in HOUSEKEEPING:
            self._requests.append(request)

    @property
    def requests(self) -> list[RecordedRequest]:
        """All of them."""
        return list(self._requests)

    def of(self, op: str | None = None, path: str | None = None, session: int | None = None) -> list[RecordedRequest]:
        """
        Those of an operation, of a path (C{*} stands for anything), of a session.

        @raise ValueError: there is no such operation.
        """
        names = None if op is None else {name_of(each) for each in ops_of(op)}
        return [
            request
            for request in self._requests
            if (names is None or request.op in names)
            and (path is None or any(fnmatchcase(each, path) for each in request.paths))
            and (session is None or request.session == session)
        ]

    def clear(self) -> None:
        """Forget what there is."""
        self._requests.clear()
