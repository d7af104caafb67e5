"""
What clients are promised, checked over all that they were told.

L{History} carries out what was committed on plain dictionaries and remembers every version of every node.
L{check_clients} holds each client's log against it:

- a write that was acknowledged is in the history under the zxid that the client was told, with the effect it was told,
  and one that failed had a reason to; none is there twice;
- one order for all: who is answered before another begins comes first, and a session's own come in their order;
- a read shows what was there at the zxid that it names, and a session never goes back;
- what a watch waits for is told before anything later is shown, and it is told in the end;
- a session lives as long as its client is heard of, and its ephemeral nodes as long as it does.

This module knows nothing of servers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from zktwisted.errors import Code
from zktwisted.testing.checkers import Closing, Violation
from zktwisted.testing.simulated import Operation, SimulatedClient, Watch
from zktwisted.wire import ops, txns
from zktwisted.wire.ops import show_zxid, zxid_epoch

__all__ = ["History", "Version", "check_clients", "check_sessions", "check_tree"]

_CREATES = (ops.CREATE, ops.CREATE2, ops.CREATE_CONTAINER, ops.CREATE_TTL)
_WRITES = (*_CREATES, ops.DELETE, ops.SET_DATA, ops.MULTI)
#: Errors of requests that were judged against a tree, so that the tree says whether they were right.
_JUDGED = (Code.NONODE, Code.NODEEXISTS, Code.BADVERSION, Code.NOTEMPTY, Code.NOCHILDRENFOREPHEMERALS)


class Version(NamedTuple):
    """A node as one transaction left it."""

    data: bytes | None
    version: int
    czxid: int
    mzxid: int
    owner: int


class History:
    """
    What was committed, and what it came to.

    @ivar zxids: in order.
    @ivar nodes: each path's versions as (zxid, version); C{None} where it was deleted.
    @ivar made: zxid of each request's transaction, by (session, cxid).
    @ivar errors: the error by zxid of those that failed.
    @ivar opened: zxid by session, and C{closed} likewise.
    """

    def __init__(self, entries: Iterable[tuple[int, bytes]]) -> None:
        """
        @param entries: (zxid, transaction), in order.
        @raise Violation: this cannot have come from a server that knew what it did.
        """
        self.zxids: list[int] = []
        self.nodes: dict[bytes, list[tuple[int, Version | None]]] = {b"/": [(0, Version(b"", 0, 0, 0, 0))]}
        self.made: dict[tuple[int, int], int] = {}
        self.errors: dict[int, int] = {}
        self.opened: dict[int, int] = {}
        self.closed: dict[int, int] = {}
        self._cxids: dict[int, int] = {}
        for zxid, entry in entries:
            header, body, _ = txns.decode_entry(entry)
            self._add(zxid, header, body)

    def _add(self, zxid: int, header: txns.TxnHeader, body: Any) -> None:
        if header.zxid != zxid or (self.zxids and zxid <= self.zxids[-1]):
            raise Violation(f"the history has {show_zxid(header.zxid)} where {show_zxid(zxid)} belongs")
        self.zxids.append(zxid)
        if header.cxid > 0:
            earlier = self.made.setdefault((header.client_id, header.cxid), zxid)
            if earlier != zxid:
                raise Violation(f"{show_zxid(zxid)} does what {show_zxid(earlier)} did already: {header}")
        if header.type == ops.CREATE_SESSION:
            self.opened.setdefault(header.client_id, zxid)
        elif header.type == ops.CLOSE_SESSION:
            self.closed.setdefault(header.client_id, zxid)
            for path in [path for path in self.nodes if self._owner(path) == header.client_id]:
                self._put(zxid, path, None)
        elif header.type == ops.MULTI:
            operations = txns.multi_operations(body)
            if txns.is_failed(operations):
                self.errors[zxid] = next((one.err for kind, one in operations if kind == ops.ERROR and one.err), 0)
            else:
                for kind, one in operations:
                    self._apply(zxid, header.client_id, kind, one)
        else:
            self._apply(zxid, header.client_id, header.type, body)
        if header.cxid > 0 and zxid not in self.errors and header.type != ops.CLOSE_SESSION:
            # What a session has asked elsewhere, before it moved, fails if it comes late; its end does not.
            if header.cxid < self._cxids.get(header.client_id, 0):
                raise Violation(f"{show_zxid(zxid)} was asked before what its session has had done already: {header}")
            self._cxids[header.client_id] = header.cxid

    def _owner(self, path: bytes) -> int:
        last = self.nodes[path][-1][1]
        return last.owner if last is not None else 0

    def _apply(self, zxid: int, session: int, kind: int, body: Any) -> None:
        if kind == ops.ERROR:
            self.errors[zxid] = body.err
            return
        if kind not in _WRITES and kind != ops.DELETE_CONTAINER:
            return
        path = body.path
        now = self.at(path)
        if kind in _CREATES:
            if now is not None:
                raise Violation(f"{show_zxid(zxid)} creates {path!r}, which is there")
            if self.at(parent_of(path)) is None:
                raise Violation(f"{show_zxid(zxid)} creates {path!r}, which has no parent")
            owner = session if getattr(body, "ephemeral", False) else 0
            self._put(zxid, path, Version(body.data, 0, zxid, zxid, owner))
        elif now is None:
            raise Violation(f"{show_zxid(zxid)} changes {path!r}, which is not there")
        elif kind == ops.SET_DATA:
            if body.version != now.version + 1:
                raise Violation(f"{show_zxid(zxid)} makes version {body.version} of {path!r} out of {now.version}")
            self._put(zxid, path, now._replace(data=body.data, version=body.version, mzxid=zxid))
        else:
            if self.children(path, zxid):
                raise Violation(f"{show_zxid(zxid)} deletes {path!r}, which has children")
            self._put(zxid, path, None)

    def _put(self, zxid: int, path: bytes, version: Version | None) -> None:
        self.nodes.setdefault(path, []).append((zxid, version))

    # -- asking

    @property
    def last(self) -> int:
        """The newest zxid, 0 of nothing."""
        return self.zxids[-1] if self.zxids else 0

    def at(self, path: bytes, zxid: int | None = None) -> Version | None:
        """Return a node as it was behind C{zxid}, now for C{None}; C{None} if there was none."""
        found = None
        for when, version in self.nodes.get(path, ()):
            if zxid is not None and when > zxid:
                break
            found = version
        return found

    def children(self, path: bytes, zxid: int) -> set[bytes]:
        """Return the names of a node's children as they were behind C{zxid}."""
        start = path.rstrip(b"/") + b"/"
        return {
            each[len(start) :]
            for each in self.nodes
            if each.startswith(start) and b"/" not in each[len(start) :] and each != b"/" and self.at(each, zxid)
        }

    def first_change(self, watch: Watch, since: int) -> int | None:
        """Return the first zxid behind C{since} that a watch has to tell of."""
        # Of the node's own changes a watch on its children is concerned with its end only.
        concerned = watch.kind != "child"
        found = [zxid for zxid, node in self.nodes.get(watch.path, ()) if zxid > since and (concerned or node is None)]
        if not concerned:
            for path in self.nodes:
                if path != b"/" and parent_of(path) == watch.path:
                    found += [
                        zxid
                        for zxid, version in self.nodes[path]
                        if zxid > since and (version is None or version.czxid == zxid)
                    ]
        return min(found, default=None)


def parent_of(path: bytes) -> bytes:
    """Return a path's parent."""
    return path.rpartition(b"/")[0] or b"/"


# -- clients


def check_clients(history: History, clients: Sequence[SimulatedClient], *, settled: bool = True) -> None:
    """
    Hold what clients were told against what was committed.

    @param settled: whether everything has come to rest: then what is to be told was told.
    @raise Violation: they were told something else.
    """
    for client in clients:
        for operation in client.operations:
            if operation.reply is not None:
                _check_reply(history, client, operation)
        _check_session_order(client)
        for watch in client.watches:
            _check_watch(history, client, watch, settled)
    _check_real_time([operation for client in clients for operation in client.operations])


def _wrong(client: SimulatedClient, operation: Operation, why: str) -> Violation:
    return Violation(f"{client.name} was told {operation}, but {why}")


def _check_reply(history: History, client: SimulatedClient, operation: Operation) -> None:
    assert operation.reply is not None
    zxid, err = operation.reply.zxid, operation.reply.err
    if zxid > history.last and zxid & 0xFFFFFFFF:
        raise _wrong(client, operation, "that zxid was never committed")
    if operation.op in (ops.GET_DATA, ops.EXISTS, ops.GET_CHILDREN, ops.GET_CHILDREN2):
        _check_read(history, client, operation, zxid)
    elif operation.op in _WRITES:
        made = history.made.get((operation.session, operation.xid))
        if err in (Code.SESSIONMOVED, Code.SESSIONEXPIRED) and made is None:
            return
        if made != zxid:
            raise _wrong(client, operation, f"the history has it as {made if made is None else show_zxid(made)}")
        failed = history.errors.get(zxid, 0)
        if operation.op == ops.MULTI and err == 0:
            # Its results tell of the failure.
            errors = [record.err for kind, _, record in operation.reply.decode() if kind == ops.ERROR]
            err = next((each for each in errors if each), 0)
        if failed != err:
            raise _wrong(client, operation, f"in the history its error is {failed}")
        _check_judgement(history, client, operation, zxid)


def _check_read(history: History, client: SimulatedClient, operation: Operation, zxid: int) -> None:
    assert operation.reply is not None
    path = operation.request.path
    node = history.at(path, zxid)
    if (operation.reply.err == 0) != (node is not None) or operation.reply.err not in (0, Code.NONODE):
        raise _wrong(client, operation, f"at that zxid {path!r} is {node}")
    if node is None:
        return
    record = operation.reply.decode()
    if operation.op in (ops.GET_CHILDREN, ops.GET_CHILDREN2):
        listed = record.children if operation.op == ops.GET_CHILDREN2 else record.paths
        names = {name for name in listed if path != b"/" or name != b"zookeeper"}
        if names != history.children(path, zxid):
            raise _wrong(client, operation, f"told {names}, at that zxid it has {history.children(path, zxid)}")
        return
    stat = record.stat
    told = stat.version, stat.czxid, stat.mzxid, stat.ephemeralOwner
    true = node.version, node.czxid, node.mzxid, node.owner
    if path != b"/" and told != true:
        raise _wrong(client, operation, f"told {told}, at that zxid it is {true}")
    if operation.op == ops.GET_DATA and (record.data or b"") != (node.data or b""):
        raise _wrong(client, operation, f"told {record.data!r}, at that zxid it has {node.data!r}")


def _check_judgement(history: History, client: SimulatedClient, operation: Operation, zxid: int) -> None:
    """Say whether one request was rightly granted or refused, by the tree in front of it."""
    assert operation.reply is not None
    if operation.op == ops.MULTI:
        return
    request, before = operation.request, zxid - 1
    path = request.path
    node, expected, err = history.at(path, before), 0, operation.reply.err
    if operation.op in _CREATES:
        parent = history.at(parent_of(path), before)
        if err == 0:
            made = operation.reply.decode().path
            if not made.startswith(path) or history.at(made, zxid) is None or history.at(made, before) is not None:
                raise _wrong(client, operation, f"it made {made!r}")
            return
        if parent is None:
            expected = Code.NONODE
        elif node is not None and not request.flags & 2:
            expected = Code.NODEEXISTS
        elif parent.owner:
            expected = Code.NOCHILDRENFOREPHEMERALS
    elif node is None:
        expected = Code.NONODE
    elif request.version not in (-1, node.version):
        expected = Code.BADVERSION
    elif operation.op == ops.DELETE and history.children(path, before):
        expected = Code.NOTEMPTY
    if err != expected and (err == 0 or err in _JUDGED):
        raise _wrong(client, operation, f"in front of it {path!r} is {node}")


def _check_session_order(client: SimulatedClient) -> None:
    """A session's writes come in the order in which it asked for them."""
    last: dict[int, tuple[int, int]] = {}
    for operation in client.operations:
        if operation.reply is None or operation.op not in _WRITES or operation.reply.err in (-112, -118):
            continue
        xid, zxid = last.get(operation.session, (0, 0))
        if operation.xid > xid and operation.reply.zxid <= zxid:
            raise _wrong(client, operation, f"what it asked for before has {show_zxid(zxid)}")
        last[operation.session] = operation.xid, operation.reply.zxid


def _check_real_time(operations: list[Operation]) -> None:
    """What was answered before something was asked comes before it; behind a sync it is visible."""
    answered = [each for each in operations if each.reply is not None and each.reply.zxid > 0]
    ends = sorted((each for each in answered if each.op in _WRITES), key=lambda each: each.completed)
    newest, taken = 0, 0
    for operation in sorted(answered, key=lambda each: each.invoked):
        while taken < len(ends) and ends[taken].completed < operation.invoked:
            reply = ends[taken].reply
            assert reply is not None
            newest, taken = max(newest, reply.zxid), taken + 1
        reply = operation.reply
        assert reply is not None
        if operation.op in _WRITES and reply.zxid <= newest and reply.err not in (-112, -118):
            raise Violation(f"{operation} comes behind {show_zxid(newest)}, which was answered before it was asked")
        # A leader that has lost its ensemble and does not know it yet answers syncs as well: of its own epoch only.
        if operation.op == ops.SYNC and reply.err == 0 and zxid_epoch(reply.zxid) == zxid_epoch(newest):
            if reply.zxid < newest:
                raise Violation(f"{operation} does not show {show_zxid(newest)}, which was answered before")


def _check_watch(history: History, client: SimulatedClient, watch: Watch, settled: bool) -> None:
    end = len(client.log) if watch.over is None else watch.over
    since = watch.since
    if watch.kind == "exist":
        # A node that came and went while the client was away leaves no trace where its watch is set again.
        again = [entry.zxid for entry in client.log[watch.index : end] if entry.kind == "watching"]
        since = max([since, *(zxid for zxid in again if history.at(watch.path, zxid) is None)])
    change = history.first_change(watch, since)
    if change is None:
        if watch.over is not None and not watch.dropped:
            raise Violation(f"{client.name} was told of {watch}, but nothing has happened")
        return
    for entry in client.log[watch.index + 1 : end]:
        if entry.session == watch.session and entry.kind == "reply" and entry.zxid >= change:
            raise Violation(
                f"{client.name} was shown {entry.what} before it was told of {watch}, which"
                f" {show_zxid(change)} concerns"
            )
        if entry.kind == "event" and 0 < change < entry.zxid and entry.session == watch.session:
            raise Violation(f"{client.name} was told of {entry} before {watch}, which {show_zxid(change)} concerns")
    if settled and watch.over is None and client.connected and watch.session == client.session_id:
        raise Violation(f"{client.name} was never told of {watch}, which {show_zxid(change)} concerns")


# -- sessions and trees


def check_sessions(
    history: History,
    clients: Sequence[SimulatedClient],
    closings: Sequence[Closing],
    tick: float,
    disturbances: Sequence[float],
) -> None:
    """
    No session ends before its time.

    @param tick: C{tickTime}, in seconds.
    @param disturbances: when anything was done to servers or wires, or a role changed: around these a server may not
        have been able to tell the leader of whom it has heard.
    @raise Violation: one did.
    """
    owners = {entry.session: client for client in clients for entry in client.log if entry.kind == "session"}
    for closing in closings:
        client = owners.get(closing.session)
        if closing.cxid or client is None or closing.session not in history.opened:
            continue
        timeout = client.timeout_ms / 1000
        # Clocks may be as wrong as the simulation lets them be.
        slack = 0.1 * timeout
        opened = next(entry.at for entry in client.log if entry.session == closing.session)
        if closing.at < closing.since + timeout - slack and opened < closing.since:
            raise Violation(f"{closing} ends a session of {client.name} before the leader could have heard of it")
        if any(closing.at - timeout - 3 * tick < at <= closing.at for at in disturbances):
            continue
        heard = [
            operation.invoked
            for operation in client.operations
            if operation.session == closing.session and operation.reply is not None and operation.completed < closing.at
        ]
        if closing.at < max(heard, default=opened) + timeout - slack:
            raise Violation(f"{closing} ends a session of {client.name}, heard of at {max(heard, default=opened)}")


def check_tree(history: History, core: Any, name: str) -> None:
    """
    A server that has come to rest has what the history says, in every way in which it keeps it.

    @raise Violation: it has something else.
    """
    tree = core.tree
    ours = {
        path or b"/": (node.data or b"", node.version, node.czxid, node.mzxid, max(node.owner, 0))
        for path, node in tree.nodes.items()
        if path and not path.startswith(b"/zookeeper")
    }
    true = {
        path: (node.data or b"", *node[1:])
        for path in history.nodes
        if path != b"/" and (node := history.at(path)) is not None
    }
    paths = sorted(ours.keys() | true.keys())
    wrong = {path: (ours.get(path), true.get(path)) for path in paths if ours.get(path) != true.get(path)}
    if wrong:
        raise Violation(f"{name} has nodes that are not what was committed: {wrong}")
    sessions = {session for session in history.opened if session not in history.closed}
    if set(core.timeouts) != sessions:
        raise Violation(f"{name} has the sessions {set(core.timeouts)}, not {sessions}")
    digest = sum(node.compute_digest(path) for path, node in tree.nodes.items())
    if (tree.digest - digest) % (1 << 64):
        raise Violation(f"{name} has a digest that is not that of its nodes")
    owned = {(node.owner, path) for path, node in tree.nodes.items() if node.owner > 0}
    if owned != {(owner, path) for owner, paths in tree.ephemerals.items() for path in paths}:
        raise Violation(f"{name} has ephemeral nodes and an index of them that differ")
    dead = {owner for owner, _ in owned if owner not in core.timeouts}
    if dead:
        raise Violation(f"{name} has ephemeral nodes of sessions that are over: {dead}")
