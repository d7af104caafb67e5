"""
What a tree of znodes should do, told in plain dicts and without haste: no pending state, no indexes, no caches.

Every write is judged and done at once.  Each node is a dict; the cversion in it is the one that clients see, which
rises by one for each child that comes or goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from zktwisted.errors import Code
from zktwisted.wire import ops
from zktwisted.wire.proto import ACL, OPEN_ACL, Id, Stat

Node = dict[str, Any]
#: Outcome of a write: error code, path created, stat.
Outcome = tuple[int, bytes | None, Stat | None]

CREATED, DELETED, CHANGED = 1, 2, 3
TTL_MAX = 0xFFFFFFFFFF
LIMITS, STATS = b"/zookeeper_limits", b"/zookeeper_stats"
RESERVED = (b"/", b"/zookeeper", b"/zookeeper/quota", b"/zookeeper/config")


class Refused(Exception):
    """The write fails with a code."""


class Unreadable(Exception):
    """The whole multi fails, as if its bytes were none."""


def node(acl: Sequence[ACL], **fields: Any) -> Node:
    """Return a node of nothing but its ACL and what is said of it."""
    return {
        "data": b"",
        "acl": tuple(acl),
        "czxid": 0,
        "mzxid": 0,
        "pzxid": 0,
        "ctime": 0,
        "mtime": 0,
        "version": 0,
        "cversion": 0,
        "aversion": 0,
        "kind": "persistent",
        "owner": 0,
        "ttl": 0,
        "made": 0,
        **fields,
    }


def is_valid(path: bytes) -> bool:
    """Say whether a path may name a node; for the characters of the tests' paths."""
    if path == b"/":
        return True
    first, *names = path.split(b"/")
    return first == b"" and bool(names) and not {b"", b".", b".."} & set(names)


def key_of(path: bytes) -> bytes:
    return b"" if path == b"/" else path


def parent_of(path: bytes) -> bytes:
    """Return the key of the node above; the root answers to its name as to its key, so that it is above C{//}."""
    return key_of(path.rpartition(b"/")[0])


def quota_of(path: bytes) -> tuple[bytes, bytes]:
    """Return the path whose quota a node is part of, and the part's name with its slash; empty ones for others."""
    under = path.removeprefix(b"/zookeeper/quota/")
    limited, slash, name = under.rpartition(b"/")
    return (b"/" + limited, slash + name) if under != path and limited else (b"", b"")


def is_at_or_below(path: bytes, top: bytes) -> bool:
    return path == top or path.startswith(top + b"/")


def in_multi(op: int, request: Any) -> tuple[int, Any]:
    """Return the operation that a multi takes one for: there a create's flag says what it makes."""
    creates = (ops.CREATE, ops.CREATE2, ops.CREATE_CONTAINER)
    if request.path is None or (op in creates and (not 0 <= request.flags <= 4 or request.acl is None)):
        raise Unreadable
    if op == ops.CREATE_TTL and 0 <= request.flags <= 4:
        return ops.CREATE_CONTAINER if request.flags == 4 else ops.CREATE, request._replace(ttl=-1)
    if op in creates and request.flags == 4:
        return ops.CREATE_CONTAINER, request
    return op, request


class Model:
    """The nodes of a server, and what the last writes told the watches."""

    def __init__(self) -> None:
        self.nodes: dict[bytes, Node] = {
            b"": node(OPEN_ACL, cversion=-1, data=b""),
            b"/zookeeper": node(OPEN_ACL, cversion=-2),
            b"/zookeeper/quota": node(OPEN_ACL),
            b"/zookeeper/config": node([ACL(1, Id("world", "anyone"))], aversion=-1),
        }
        #: Paths with a quota, and what the stats node of each path counts.
        self.quotas: set[bytes] = set()
        self.tracks: dict[bytes, tuple[int, int]] = {}
        self.events: list[tuple[int, bytes]] = []
        self.zxid = self.time = self.session = 0
        self.identities: tuple[Id, ...] = ()

    # What is asked

    def write(self, op: int, request: Any) -> Outcome:
        """Do a write that stands alone."""
        try:
            return self._operation(op, request)
        except Refused as e:
            return e.args[0], None, None

    def multi(self, requests: Sequence[tuple[int, Any]]) -> int | list[tuple[int, Outcome]]:
        """Do all or nothing: the outcome of each with the type of its result, or one code."""
        before = deepcopy((self.nodes, self.quotas, self.tracks, self.events))
        try:
            operations = [in_multi(op, request) for op, request in requests]
        except Unreadable:
            return Code.MARSHALLINGERROR
        results: list[tuple[int, Outcome]] = []
        for position, (op, request) in enumerate(operations):
            try:
                results.append((op, self._operation(op, request)))
            except Refused as e:
                self.nodes, self.quotas, self.tracks, self.events = before
                if e.args[0] == Code.MARSHALLINGERROR:
                    return Code.MARSHALLINGERROR
                codes = [0] * position + [e.args[0]] + [Code.RUNTIMEINCONSISTENCY] * (len(operations) - position - 1)
                return [(ops.ERROR, (code, None, None)) for code in codes]
        return results

    def close_session(self) -> None:
        """End the session that asks."""
        for path in self.ephemerals(self.session):
            self._remove(path)

    # What can be seen

    def children(self, path: bytes) -> list[bytes]:
        """Return the names of a node's children."""
        below = [each.rpartition(b"/") for each in self.nodes if each]
        return [name for parent, _, name in below if parent == path]

    def ephemerals(self, session: int) -> list[bytes]:
        """Return the nodes that end with a session."""
        return [path for path, each in self.nodes.items() if each["kind"] == "ephemeral" and each["owner"] == session]

    def of_kind(self, kind: str) -> set[bytes]:
        return {path for path, each in self.nodes.items() if each["kind"] == kind}

    def stat(self, path: bytes) -> Stat:
        """Return a node's stat as clients see it."""
        each = self.nodes[path]
        return Stat(
            each["czxid"],
            each["mzxid"],
            each["ctime"],
            each["mtime"],
            each["version"],
            each["cversion"],
            each["aversion"],
            each["owner"],
            len(each["data"] or b""),
            len(self.children(path)),
            each["pzxid"],
        )

    # What is done

    def _operation(self, op: int, request: Any) -> Outcome:
        if op in (ops.CREATE, ops.CREATE2, ops.CREATE_CONTAINER, ops.CREATE_TTL):
            return self._create(op, request)
        if op == ops.DELETE:
            return self._delete(request)
        if op == ops.DELETE_CONTAINER:
            return self._delete_container(request)
        if op == ops.SET_DATA:
            return self._set_data(request)
        if op == ops.SET_ACL:
            return self._set_acl(request)
        assert op == ops.CHECK
        return self._check(request)

    def _create(self, op: int, request: Any) -> Outcome:
        path, flags, ttl = request.path, request.flags, getattr(request, "ttl", -1)
        expect(0 <= flags <= 6, Code.BADARGUMENTS)
        plain_of_multi = op != ops.CREATE_TTL
        expect(flags < 5 or 1 <= ttl <= TTL_MAX, Code.BADARGUMENTS)
        expect(flags >= 5 or plain_of_multi, Code.BADARGUMENTS)
        expect(path is not None, Code.MARSHALLINGERROR)
        expect(b"/" in path, Code.BADARGUMENTS)
        parent = parent_of(path)
        acl = self._accept(request.acl)
        expect(parent in self.nodes, Code.NONODE)
        self._allow(parent, 4)
        above = self.nodes[parent]
        if flags in (2, 3, 6):
            path += b"%010d" % above["made"]
        expect(is_valid(path), Code.BADARGUMENTS)
        expect(key_of(path) not in self.nodes, Code.NODEEXISTS)
        expect(above["kind"] != "ephemeral", Code.NOCHILDRENFOREPHEMERALS)
        made = node(acl, data=request.data, czxid=self.zxid, mzxid=self.zxid, pzxid=self.zxid)
        made["ctime"] = made["mtime"] = self.time
        if op == ops.CREATE_CONTAINER:
            made["kind"] = "container"
        elif op == ops.CREATE_TTL:
            made.update(kind="ttl", ttl=ttl)
        elif flags in (1, 3):
            made.update(kind="ephemeral", owner=self.session)
        self.nodes[path] = made
        above["made"] += 1
        above["cversion"] += 1
        above["pzxid"] = self.zxid
        self.events.append((CREATED, path))
        self._quota_created(path)
        self._count(path, 1, len(request.data or b""))
        return 0, path, self.stat(path)

    def _delete(self, request: Any) -> Outcome:
        path = request.path
        expect(path is not None, Code.MARSHALLINGERROR)
        expect(b"/" in path and path not in RESERVED, Code.BADARGUMENTS)
        parent = parent_of(path)
        expect(parent in self.nodes, Code.NONODE)
        self._allow(parent, 8)
        expect(path in self.nodes, Code.NONODE)
        expect(request.version in (-1, self.nodes[path]["version"]), Code.BADVERSION)
        expect(not self.children(path), Code.NOTEMPTY)
        self._remove(path)
        return 0, None, None

    def _delete_container(self, request: Any) -> Outcome:
        expect(b"/" in request.path, Code.BADARGUMENTS)
        expect(request.path in self.nodes, Code.NONODE)
        expect(not self.children(request.path), Code.NOTEMPTY)
        expect(self.nodes[request.path]["kind"] in ("container", "ttl"), Code.BADVERSION)
        self._remove(request.path)
        return 0, None, None

    def _remove(self, path: bytes) -> None:
        above = self.nodes[path.rpartition(b"/")[0]]
        above["cversion"] += 1
        above["pzxid"] = self.zxid
        gone = self.nodes.pop(path)
        self.events.append((DELETED, path))
        limited, name = quota_of(path)
        if name == LIMITS:
            self.quotas.discard(limited)
        self._count(path, -1, -len(gone["data"] or b""))

    def _existing(self, path: bytes | None, perm: int) -> tuple[bytes, Node]:
        assert path is not None
        expect(key_of(path) in self.nodes, Code.NONODE)
        self._allow(key_of(path), perm)
        return key_of(path), self.nodes[key_of(path)]

    def _set_data(self, request: Any) -> Outcome:
        expect(request.path is not None and is_valid(request.path), Code.BADARGUMENTS)
        path, found = self._existing(request.path, 2)
        expect(request.version in (-1, found["version"]), Code.BADVERSION)
        self._count(path, 0, len(request.data or b"") - len(found["data"] or b""))
        found.update(data=request.data, version=found["version"] + 1, mzxid=self.zxid, mtime=self.time)
        self.events.append((CHANGED, path))
        return 0, None, self.stat(path)

    def _set_acl(self, request: Any) -> Outcome:
        expect(request.path is not None and is_valid(request.path), Code.BADARGUMENTS)
        acl = self._accept(request.acl)
        path, found = self._existing(request.path, 16)
        expect(request.version in (-1, found["aversion"]), Code.BADVERSION)
        found.update(acl=acl, aversion=found["aversion"] + 1)
        return 0, None, self.stat(path)

    def _check(self, request: Any) -> Outcome:
        expect(is_valid(request.path), Code.BADARGUMENTS)
        _, found = self._existing(request.path, 1)
        expect(request.version in (-1, found["version"]), Code.BADVERSION)
        return 0, None, None

    # Quotas

    def _quota_created(self, path: bytes) -> None:
        limited, name = quota_of(path)
        if name == LIMITS:
            self.quotas.add(limited)
        elif name == STATS:
            counted = [each for where, each in self.nodes.items() if is_at_or_below(where, limited)]
            counted = counted if limited in self.nodes else []
            self._track(limited, len(counted), sum(len(each["data"] or b"") for each in counted))

    def _count(self, path: bytes, count: int, size: int) -> None:
        """Only the deepest quota above a node counts it."""
        limited = max((each for each in self.quotas if is_at_or_below(path, each)), key=len, default=None)
        if limited is not None and b"/zookeeper/quota" + limited + STATS in self.nodes:
            counted = self.tracks[limited]
            self._track(limited, counted[0] + count, counted[1] + size)

    def _track(self, limited: bytes, count: int, size: int) -> None:
        self.tracks[limited] = count, size
        self.nodes[b"/zookeeper/quota" + limited + STATS]["data"] = b"count=%d,bytes=%d" % (count, size)

    # Who may

    def _allow(self, path: bytes, perm: int) -> None:
        for acl in self.nodes[path]["acl"]:
            if acl.perms & perm and (acl.id.scheme == "world" or acl.id in self.identities):
                return
        raise Refused(Code.NOAUTH)

    def _accept(self, acls: Sequence[ACL] | None) -> tuple[ACL, ...]:
        expect(acls, Code.INVALIDACL)
        assert acls is not None
        accepted: list[ACL] = []
        for acl in acls:
            here = [acl]
            if acl.id.scheme == "auth":
                here = [ACL(acl.perms, each) for each in self.identities if each.scheme == "digest"]
                expect(here, Code.INVALIDACL)
            elif acl.id.scheme == "world":
                expect(acl.id.id is not None, Code.MARSHALLINGERROR)
                expect(acl.id.id == "anyone", Code.INVALIDACL)
            else:
                expect(acl.id.scheme == "digest" and acl.id.id.count(":") == 1, Code.INVALIDACL)
            accepted += [each for each in here if each not in accepted]
        return tuple(accepted)


def expect(condition: object, code: int) -> None:
    """Refuse with C{code} unless the condition holds."""
    if not condition:
        raise Refused(code)
