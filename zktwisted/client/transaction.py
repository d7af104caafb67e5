"""
Several operations as one request: all or nothing (multi), or many reads at once (multiRead).

Both only gather until L{commit<Transaction.commit>}; an object is good for one commit.

Rules: spec: client-protocol 6.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred

from zktwisted.client import answers
from zktwisted.client.line import Line
from zktwisted.errors import Code, KeeperError, keeper_error
from zktwisted.wire import ops, proto
from zktwisted.wire.proto import ACL, GetDataResponse, Stat

__all__ = ["Reads", "Transaction", "create_request"]


def create_request(
    path: bytes,
    data: bytes | None,
    acl: Sequence[ACL],
    *,
    ephemeral: bool = False,
    sequential: bool = False,
    container: bool = False,
    ttl_ms: int = 0,
) -> tuple[int, proto.CreateRequest | proto.CreateTTLRequest]:
    """
    Return operation and record of a create.

    @raise ValueError: the modes do not go together.
    """
    if container and (ephemeral or sequential or ttl_ms):
        raise ValueError("a container is neither ephemeral nor sequential, and has no time to live")
    if ttl_ms and ephemeral:
        raise ValueError("an ephemeral node lives as long as its session: it has no time to live of its own")
    if ttl_ms:
        flags = ops.CreateFlag.PERSISTENT_SEQUENTIAL_WITH_TTL if sequential else ops.CreateFlag.PERSISTENT_WITH_TTL
        return ops.CREATE_TTL, proto.CreateTTLRequest(path, data, acl, flags, ttl_ms)
    if container:
        return ops.CREATE_CONTAINER, proto.CreateRequest(path, data, acl, ops.CreateFlag.CONTAINER)
    return ops.CREATE, proto.CreateRequest(path, data, acl, ephemeral + 2 * sequential)


class _Several:
    """What transactions and reads have in common."""

    _op: int

    def __init__(self, line: Line, path: Callable[[str], bytes], name: Callable[[bytes], str]) -> None:
        self._line = line
        self._path = path
        self._name = name
        self._operations: list[tuple[int, Any]] = []
        self._paths: list[str] = []
        self._sent = False

    def __len__(self) -> int:
        return len(self._operations)

    def _add(self, op: int, record: Any, path: str) -> None:
        self._operations.append((op, record))
        self._paths.append(path)

    def _send(self) -> Deferred[Any]:
        if self._sent:
            raise ValueError("it was sent already")
        self._sent = True
        return self._line.add(self._op, proto.encode_multi(self._operations), answers.results)

    def _value(self, kind: int, record: Any) -> Any:
        """Return what an operation on its own would have answered."""
        if kind in (ops.CREATE, ops.CREATE2):
            return self._name(record.path)
        if kind == ops.SET_DATA:
            return record.stat
        if kind == ops.GET_CHILDREN:
            return [name.decode() for name in record.paths or ()]
        return record


class Transaction(_Several):
    """
    Operations that are carried out together or not at all.

    Each method adds one, and returns the transaction.
    """

    _op = ops.MULTI

    def create(
        self, path: str, data: bytes | None = b"", acl: Sequence[ACL] = proto.OPEN_ACL, **mode: Any
    ) -> Transaction:
        """Add a create; the keywords are those of L{ZooKeeperClient.create}.  Its result is the path."""
        self._add(*create_request(self._path(path), data, acl, **mode), path)
        return self

    def delete(self, path: str, version: int = -1) -> Transaction:
        """Add a delete.  Its result is C{None}."""
        self._add(ops.DELETE, proto.DeleteRequest(self._path(path), version), path)
        return self

    def set(self, path: str, data: bytes | None, version: int = -1) -> Transaction:
        """Add a set.  Its result is the stat."""
        self._add(ops.SET_DATA, proto.SetDataRequest(self._path(path), data, version), path)
        return self

    def check(self, path: str, version: int) -> Transaction:
        """Let all fail unless a node has this version; any for -1.  Its result is C{None}."""
        self._add(ops.CHECK, proto.CheckVersionRequest(self._path(path), version), path)
        return self

    def commit(self) -> Deferred[list[str | Stat | None]]:
        """
        Send it.

        @return: fires with the results, in the order of the operations; fails with the error of the operation that
            failed, its C{path}, and in C{results} the codes of all of them.
        """
        return self._send().addCallback(self._committed)

    def _committed(self, results: list[tuple[int, int, Any]]) -> list[str | Stat | None]:
        codes = [err for _kind, err, _record in results]
        for code, path in zip(codes, self._paths, strict=False):
            if code not in (Code.OK, Code.RUNTIMEINCONSISTENCY):
                error = keeper_error(code, path)
                error.results = tuple(codes)
                raise error
        return [self._value(kind, record) for kind, _err, record in results]


class Reads(_Several):
    """Reads that are made in one request.  Each method adds one, and returns the reads."""

    _op = ops.MULTI_READ

    def get(self, path: str) -> Reads:
        """Add a get."""
        self._add(ops.GET_DATA, proto.PathWatchRequest(self._path(path), False), path)
        return self

    def children(self, path: str) -> Reads:
        """Add a children."""
        self._add(ops.GET_CHILDREN, proto.PathWatchRequest(self._path(path), False), path)
        return self

    def commit(self) -> Deferred[list[GetDataResponse | list[str] | KeeperError]]:
        """
        Send them.

        @return: fires with the results, in the order of the reads; where one failed its error stands in the list.
        """
        return self._send().addCallback(self._read)

    def _read(self, results: list[tuple[int, int, Any]]) -> list[GetDataResponse | list[str] | KeeperError]:
        return [
            keeper_error(err, path) if err else self._value(kind, record)
            for (kind, err, record), path in zip(results, self._paths, strict=False)
        ]
