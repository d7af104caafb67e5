"""
A ZooKeeper server as a plain dictionary, written without a look at ours.

It is given the writes in the order of their arrival, gives each the next zxid, and says what its answer has to be and
what the nodes are then.  Nodes are values, so that a state is kept by copying one dictionary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from zktwisted.wire import ops
from zktwisted.wire.proto import ACL

OK, NO_NODE, BAD_VERSION, NO_CHILDREN, EXISTS, NOT_EMPTY = 0, -101, -103, -108, -110, -111
AFTER_FAILURE = -2
#: The owner of a container.
CONTAINER = -(1 << 63)

Acls = tuple[ACL, ...] | None


class Node(NamedTuple):
    """What there is to know of a node; C{created} is how many children it ever had."""

    data: bytes
    acl: Acls
    czxid: int
    mzxid: int
    pzxid: int
    ctime: int
    mtime: int
    version: int = 0
    created: int = 0
    aversion: int = 0
    owner: int = 0


class Write(NamedTuple):
    """One write as it arrived; C{request} of a multi is a list of (op, record)."""

    op: int
    session: int
    request: Any
    time: int


class Answer(NamedTuple):
    """What a write has to be answered."""

    zxid: int
    err: int = OK
    path: bytes | None = None
    results: Sequence[tuple[int, bytes | None]] = ()


class Failed(Exception):
    """An operation is refused; the argument is the code."""


class Model:
    """The state after C{zxid}."""

    def __init__(self) -> None:
        self.zxid = 0
        self.nodes: dict[bytes, Node] = {b"": Node(b"", None, 0, 0, 0, 0, 0)}
        self.sessions: dict[int, int] = {}

    def copy(self) -> Model:
        made = Model()
        made.zxid, made.nodes, made.sessions = self.zxid, dict(self.nodes), dict(self.sessions)
        return made

    def write(self, write: Write) -> Answer:
        self.zxid += 1
        op, session = write.op, write.session
        if op == ops.CREATE_SESSION:
            self.sessions[session] = write.request
            return Answer(self.zxid)
        if op == ops.CLOSE_SESSION:
            self.sessions.pop(session)
            for path in [path for path, node in self.nodes.items() if node.owner == session]:
                self._remove(path)
            return Answer(self.zxid)
        if op == ops.MULTI:
            return self._multi(write)
        try:
            return Answer(self.zxid, OK, self._one(op, write.request, write))
        except Failed as failed:
            return Answer(self.zxid, failed.args[0])

    def _multi(self, write: Write) -> Answer:
        before = dict(self.nodes)
        results: list[tuple[int, bytes | None]] = []
        for op, request in write.request:
            try:
                results.append((OK, self._one(op, request, write)))
            except Failed as failed:
                self.nodes = before
                left = len(write.request) - len(results) - 1
                results = [(OK, None)] * len(results) + [failed.args] + [(AFTER_FAILURE, None)] * left
                return Answer(self.zxid, OK, None, [(result[0], None) for result in results])
        return Answer(self.zxid, OK, None, results)

    def _one(self, op: int, request: Any, write: Write) -> bytes | None:
        nodes, zxid = self.nodes, self.zxid
        path: bytes = request.path
        if op in (ops.CREATE, ops.CREATE_CONTAINER):
            return self._create(path, request, write)
        node = nodes.get(path)
        if node is None:
            raise Failed(NO_NODE)
        if op == ops.SET_ACL:
            if request.version not in (-1, node.aversion):
                raise Failed(BAD_VERSION)
            nodes[path] = node._replace(acl=tuple(request.acl), aversion=node.aversion + 1)
            return None
        if op == ops.DELETE_CONTAINER:
            if node.owner != CONTAINER:
                raise Failed(BAD_VERSION)
        elif request.version not in (-1, node.version):
            raise Failed(BAD_VERSION)
        if op in (ops.DELETE, ops.DELETE_CONTAINER):
            if any(other.startswith(path + b"/") for other in nodes):
                raise Failed(NOT_EMPTY)
            self._remove(path)
        elif op == ops.SET_DATA:
            nodes[path] = node._replace(data=request.data, mzxid=zxid, mtime=write.time, version=node.version + 1)
        return None

    def _create(self, path: bytes, request: Any, write: Write) -> bytes:
        nodes, zxid = self.nodes, self.zxid
        above = path.rpartition(b"/")[0]
        parent = nodes.get(above)
        if parent is None:
            raise Failed(NO_NODE)
        if request.flags & 2:
            path += b"%010d" % parent.created
        if path in nodes:
            raise Failed(EXISTS)
        if parent.owner not in (0, CONTAINER):
            raise Failed(NO_CHILDREN)
        nodes[above] = parent._replace(pzxid=zxid, created=parent.created + 1)
        owner = write.session if request.flags & 1 else CONTAINER if request.flags == 4 else 0
        time = write.time
        nodes[path] = Node(request.data, tuple(request.acl), zxid, zxid, zxid, time, time, owner=owner)
        return path

    def _remove(self, path: bytes) -> None:
        del self.nodes[path]
        above = path.rpartition(b"/")[0]
        self.nodes[above] = self.nodes[above]._replace(pzxid=self.zxid)


def nodes_of(tree: Any) -> dict[bytes, Node]:
    """Return the nodes of a server's tree as the model has them, without ZooKeeper's own."""
    return {
        path: Node(
            node.data,
            None if node.acl.index == -1 else node.acl.acls,
            node.czxid,
            node.mzxid,
            node.pzxid,
            node.ctime,
            node.mtime,
            node.version,
            node.cversion,
            node.aversion,
            node.owner,
        )
        for path, node in tree.nodes.items()
        if not path.startswith(b"/zookeeper")
    }
