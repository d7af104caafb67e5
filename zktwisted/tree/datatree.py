"""
DataTree: the znodes, and what a committed transaction does to them.

Knows nodes, ACL references, the ephemeral, container and TTL indexes, quota counters and the tree digest.  Refuses to
know where transactions come from, who may make them (that was decided when they were prepared), and who watches: it
only tells what changed.

Applying is idempotent in the sense of spec: storage 5, so that a log may be replayed over a fuzzy snapshot.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from struct import Struct
from types import MappingProxyType
from typing import Any, NamedTuple

from zktwisted.errors import Code, KeeperError
from zktwisted.tree.acl import AclList, AclTable
from zktwisted.tree.proposal import Proposal
from zktwisted.tree.quota import (
    QuotaTable,
    StatsTrack,
    limits_path,
    quota_of_limits_path,
    quota_of_stats_path,
    stats_path,
    updated,
)
from zktwisted.tree.znode import CONTAINER_OWNER, TTL_MASK, TTL_MAX, Znode, digest_of, pack_stored, ttl_of
from zktwisted.wire import jute, ops, txns
from zktwisted.wire.proto import ACL, END_OF_MULTI, OPEN_ACL, Id, MultiHeader

__all__ = ["Applied", "Change", "DataTree"]

_READ_ONLY = (ACL(1, Id("world", "anyone")),)

CREATED = ops.EventType.NODE_CREATED.value
DELETED = ops.EventType.NODE_DELETED.value
DATA_CHANGED = ops.EventType.NODE_DATA_CHANGED.value


class Change(NamedTuple):
    """One node that changed, as watches need to hear of it."""

    #: NODE_CREATED, NODE_DELETED or NODE_DATA_CHANGED.
    type: int
    #: Path as a tree key.
    path: bytes
    #: The node's ACL (of a deleted node: the one it had).
    acl: AclList
    #: Its parent's, where the parent has changed too.
    parent_acl: AclList | None


class Applied(NamedTuple):
    """What applying a transaction came to: the material of its reply."""

    #: 0 or the code that the client gets.
    err: int = 0
    #: The path created.
    path: bytes | None = None
    #: The 68 bytes of the node's Stat, where the reply has one.
    stat: bytes = b""
    #: Of a multi: the outcome of each operation, with its type.
    results: Sequence[tuple[int, Applied]] = ()


_OK = Applied()
_pack_int = Struct(">i").pack
_SET_DATA_RESULT = jute.encode(MultiHeader(ops.SET_DATA, False, 0))
_NONE: Mapping[bytes, int] = MappingProxyType({})


class DataTree:
    """
    All znodes of one server.

    @ivar nodes: by path, the root being C{b""}.
    @ivar acls: the ACL lists in use.
    @ivar digest: the sum of all nodes' digests (spec: storage 6).
    @ivar ephemerals: paths by session id.
    @ivar containers: paths of container nodes.
    @ivar ttls: paths of TTL nodes.
    @ivar quotas: the paths that have a quota.
    @ivar data_size: lengths of all paths and data, in bytes.
    """

    __slots__ = ("_known", "acls", "containers", "data_size", "digest", "ephemerals", "nodes", "quotas", "ttls")

    def __init__(self) -> None:
        self.nodes: dict[bytes, Znode] = {}
        self.acls = AclTable()
        self.quotas = QuotaTable()
        self._known: Mapping[bytes, int] = {}
        self.reset()

    def reset(self) -> None:
        """Become the tree of a new database (spec: server-semantics 1.3)."""
        self.nodes.clear()
        self.acls.clear()
        open_unsafe = self.acls.OPEN_UNSAFE
        root = Znode(None, open_unsafe)
        root.data = b""
        zookeeper = Znode(b"", open_unsafe)
        config = Znode(b"", self.acls.intern(_READ_ONLY), aversion=-1)
        root.children = {b"zookeeper": None}
        zookeeper.children = {b"config": None, b"quota": None}
        self.nodes[b""] = root
        self.nodes[b"/zookeeper"] = zookeeper
        self.nodes[b"/zookeeper/config"] = config
        self.nodes[b"/zookeeper/quota"] = Znode(b"", open_unsafe)
        self.rebuild()

    @property
    def node_count(self) -> int:
        """ZooKeeper's count, in which the root stands twice."""
        return len(self.nodes) + 1

    def rebuild(self) -> None:
        """Derive the indexes, the quota counters and the digest from the nodes: what follows loading an image."""
        self.ephemerals: dict[int, dict[bytes, None]] = {}
        self.containers: dict[bytes, None] = {}
        self.ttls: dict[bytes, None] = {}
        self.quotas.clear()
        digest = size = 0
        for path, node in self.nodes.items():
            node.digest = node.compute_digest(path)
            digest += node.digest
            size += len(path) + (len(node.data) if node.data else 0)
            if node.owner:
                self._index_owner(path, node.owner)
            if path.startswith(b"/zookeeper/quota/"):
                limited = quota_of_limits_path(path)
                if limited is not None:
                    self.quotas.add(limited)
        self.digest = digest
        self.data_size = size
        for path in self.quotas.paths:
            self._recount(path)

    def get(self, path: bytes) -> Znode:
        """
        Return a node by the path that a client wrote, C{b"/"} and C{b""} being the root.

        @raise KeeperError: NONODE.
        """
        node = self.nodes.get(path)
        if node is None:
            if path != b"/":
                raise KeeperError(Code.NONODE)
            node = self.nodes[b""]
        return node

    def descendants(self, path: bytes) -> Iterator[bytes]:
        """Give the paths below a node, parents first; the tree must not change meanwhile."""
        nodes = self.nodes
        stack = [path]
        while stack:
            here = stack.pop()
            node = nodes.get(here)
            if node is not None and node.children:
                for name in node.children:
                    child = here + b"/" + name
                    yield child
                    stack.append(child)

    # Transactions

    def commit(self, proposal: Proposal, changes: list[Change] | None = None) -> Applied:
        """
        Do what a proposal says: one that was prepared here, or the bytes of another server's.

        @param changes: as L{apply} has it.
        """
        touched = proposal.touched
        known = {path: record.digest for path, record in touched} if touched else _NONE
        return self.apply(proposal.header, proposal.body, changes, proposal.operations, known)

    def commit_fused(self, proposal: Proposal, changes: list[Change] | None = None) -> bytes:
        """
        Do what a proposal says of which nothing but the touched nodes was made; such a one does not fail.

        @param changes: as L{apply} has it.
        @return: what its client gets behind the header of the reply (spec: client-protocol 5, 6.2).
        """
        touched = proposal.touched
        kind = proposal.header.type
        if kind == ops.SET_DATA:
            path, record = touched[0]
            return self._replace(path, record, changes)
        if kind == ops.MULTI:
            results = [_SET_DATA_RESULT + self._replace(path, record, changes) for path, record in touched]
            return b"".join(results) + END_OF_MULTI
        (parent_path, record), (path, node) = touched
        parent = self.nodes[parent_path]
        parent.cversion = record.cversion
        parent.pzxid = record.pzxid
        parent.packed = None
        self.digest += record.digest - parent.digest
        parent.digest = record.digest
        self.enter(parent_path, parent, path, node, changes)
        reply = _pack_int(len(path)) + path
        return reply if kind == ops.CREATE else reply + node.stat()

    def _replace(self, path: bytes, record: Znode, changes: list[Change] | None) -> bytes:
        """Give a node its new data, and return its Stat."""
        node = self.nodes[path]
        data = record.data
        before = node.data
        grown = (len(data) if data else 0) - (len(before) if before else 0)
        node.data = data
        node.version = record.version
        node.mtime = record.mtime
        node.mzxid = record.mzxid
        self.digest += record.digest - node.digest
        node.digest = record.digest
        node.packed = record.packed
        self.data_size += grown
        if changes is not None:
            changes.append(Change(DATA_CHANGED, path, node.acl, None))
        if self.quotas.paths:
            self._count(path, 0, grown)
        return node.packed or node.stat()

    def put(
        self, path: bytes, node: Znode, data: bytes, version: int, zxid: int, time: int, changes: list[Change] | None
    ) -> None:
        """Give a node that counts in the digest its new data."""
        before = node.data
        self.data_size += len(data) - (len(before) if before else 0)
        node.data = data
        node.version = version
        node.mtime = time
        node.mzxid = zxid
        node.packed = None
        # What compute_digest does, in one go: this is half of the cost of applying what another server has prepared.
        digest = digest_of(
            path,
            data,
            pack_stored(
                node.czxid,
                zxid,
                node.pzxid,
                node.ctime,
                time,
                version,
                node.cversion,
                node.aversion,
                node.owner,
            ),
        )
        self.digest += digest - node.digest
        node.digest = digest
        if changes is not None:
            changes.append(Change(DATA_CHANGED, path, node.acl, None))
        if self.quotas.paths:
            self._count(path, 0, len(data) - (len(before) if before else 0))

    def touched(self, path: bytes, node: Znode) -> None:
        """A node's fields are others than its digest and its Stat say."""
        node.packed = None
        digest = node.compute_digest(path)
        self.digest += digest - node.digest
        node.digest = digest

    def enter(
        self, parent_path: bytes, parent: Znode, path: bytes, node: Znode, changes: list[Change] | None
    ) -> None:
        """Enter a new node that is open to everybody and knows its digest, below a parent that knows the rest."""
        name = path[len(parent_path) + 1 :]
        if parent.children is None:
            parent.children = {name: None}
        else:
            parent.children[name] = None
        self.nodes[path] = node
        node.acl = self.acls.intern(OPEN_ACL)
        self.digest += node.digest
        data = node.data
        size = len(data) if data else 0
        self.data_size += len(path) + size
        if node.owner:
            self._index_owner(path, node.owner)
        if changes is not None:
            changes.append(Change(CREATED, path, node.acl, parent.acl))
        if self.quotas.paths:
            self._count(path, 1, size)

    def apply(
        self,
        header: txns.TxnHeader,
        body: Any,
        changes: list[Change] | None = None,
        operations: Sequence[tuple[int, Any]] | None = None,
        digests: Mapping[bytes, int] = _NONE,
    ) -> Applied:
        """
        Do what a committed transaction says.

        @param changes: where to tell what changed, in the order of the events; C{None}: nobody asks.
        @param operations: of a multi: its operations, if somebody has decoded them already.
        @param digests: what the nodes add to the tree digest afterwards, by path, as far as the preparation on this
            very server has found it out; the others are computed.  Half of a write's cost here would be digests.

        @return: the outcome; errors are told there and never raised, for the transaction is committed.
        """
        self._known = digests
        kind = header.type
        if kind == ops.MULTI:
            if operations is None:
                operations = txns.multi_operations(body)
            return self._apply_multi(header, operations, changes)
        return self._apply_one(kind, header, body, changes)

    def _apply_multi(
        self, header: txns.TxnHeader, operations: Sequence[tuple[int, Any]], changes: list[Change] | None
    ) -> Applied:
        if txns.is_failed(operations):
            results = []
            failed = False
            for kind, body in operations:
                if kind == ops.ERROR:
                    failed = True
                    err = body.err
                else:
                    err = Code.RUNTIMEINCONSISTENCY.value if failed else 0
                results.append((ops.ERROR, Applied(err)))
            return Applied(results=results)
        return Applied(results=[(kind, self._apply_one(kind, header, body, changes)) for kind, body in operations])

    def _apply_one(self, kind: int, header: txns.TxnHeader, body: Any, changes: list[Change] | None) -> Applied:
        try:
            if kind == ops.SET_DATA or kind == ops.RECONFIG:
                return self._set_data(body, header.zxid, header.time, changes)
            if kind in (ops.CREATE, ops.CREATE2, ops.CREATE_CONTAINER, ops.CREATE_TTL):
                owner = 0
                if kind == ops.CREATE_CONTAINER:
                    owner = CONTAINER_OWNER
                elif kind == ops.CREATE_TTL:
                    owner = TTL_MASK | (body.ttl & TTL_MAX)
                elif body.ephemeral:
                    owner = header.client_id
                return self._create(body, owner, header.zxid, header.time, changes)
            if kind == ops.DELETE or kind == ops.DELETE_CONTAINER:
                self._delete(body.path, header.zxid, changes)
            elif kind == ops.SET_ACL:
                return self._set_acl(body)
            elif kind == ops.CLOSE_SESSION:
                self._close_session(header, body, changes)
            elif kind == ops.ERROR:
                return Applied(body.err)
        except KeeperError as e:
            return Applied(e.code)
        return _OK

    def _create(self, txn: Any, owner: int, zxid: int, time: int, changes: list[Change] | None) -> Applied:
        path: bytes = txn.path
        parent_path, _, name = path.rpartition(b"/")
        nodes = self.nodes
        parent = nodes.get(parent_path)
        if parent is None:
            raise KeeperError(Code.NONODE)
        acl = self.acls.intern(txn.acl)
        children = parent.children
        existing = nodes.get(path)
        cversion = txn.parent_cversion
        if cversion == -1:
            cversion = parent.cversion + 1
        if cversion > parent.cversion:
            parent.cversion = cversion
            parent.pzxid = zxid
        if children is not None and name in children and existing is not None:
            self.acls.release(existing.acl)
            existing.acl = acl
            self._changed(parent_path, parent)
            raise KeeperError(Code.NODEEXISTS)
        if existing is not None:
            # An orphan that replaying over a fuzzy snapshot has left.
            self._forget(path, existing)
        if children is None:
            parent.children = {name: None}
        else:
            children[name] = None
        self._changed(parent_path, parent)
        data = txn.data
        node = nodes[path] = Znode(data, acl, zxid, zxid, time, time, 0, 0, 0, owner, zxid)
        self._changed(path, node)
        self.data_size += len(path) + (len(data) if data else 0)
        if owner:
            self._index_owner(path, owner)
        if changes is not None:
            changes.append(Change(CREATED, path, acl, parent.acl))
        if path.startswith(b"/zookeeper/quota/"):
            self._quota_created(path)
        if self.quotas.paths:
            self._count(path, 1, len(data) if data else 0)
        return Applied(0, path, node.stat())

    def _delete(self, path: bytes, zxid: int, changes: list[Change] | None) -> None:
        parent_path, _, name = path.rpartition(b"/")
        parent = self.nodes.get(parent_path)
        if parent is None or not path:
            # No transaction of ours names the root here; one that does, out of a damaged log, must not delete it.
            raise KeeperError(Code.NONODE)
        children = parent.children
        if children is not None and name in children:
            del children[name]
            if not children:
                parent.children = None
        if zxid > parent.pzxid:
            parent.pzxid = zxid
        self._changed(parent_path, parent)
        node = self.nodes.pop(path, None)
        if node is None:
            raise KeeperError(Code.NONODE)
        self._forget(path, node)
        if changes is not None:
            changes.append(Change(DELETED, path, node.acl, parent.acl))
        if self.quotas.paths:
            limited = quota_of_limits_path(path)
            if limited is not None:
                self.quotas.discard(limited)
            self._count(path, -1, -len(node.data) if node.data else 0)

    def _set_data(self, txn: Any, zxid: int, time: int, changes: list[Change] | None) -> Applied:
        path: bytes = txn.path
        if path == b"/":
            path = b""
        node = self.nodes.get(path)
        if node is None:
            raise KeeperError(Code.NONODE)
        data: bytes | None = txn.data
        before = len(node.data) if node.data else 0
        grown = (len(data) if data else 0) - before
        node.data = data
        node.version = txn.version
        node.mtime = time
        node.mzxid = zxid
        self._changed(path, node)
        self.data_size += grown
        if changes is not None:
            changes.append(Change(DATA_CHANGED, path, node.acl, None))
        if self.quotas.paths:
            self._count(path, 0, grown)
        return Applied(0, None, node.stat())

    def _set_acl(self, txn: Any) -> Applied:
        path: bytes = txn.path
        if path == b"/":
            path = b""
        node = self.nodes.get(path)
        if node is None:
            raise KeeperError(Code.NONODE)
        acl = self.acls.intern(txn.acl)
        self.acls.release(node.acl)
        node.acl = acl
        node.aversion = txn.version
        self._changed(path, node)
        return Applied(0, None, node.stat())

    def _close_session(
        self, header: txns.TxnHeader, txn: txns.CloseSessionTxn | None, changes: list[Change] | None
    ) -> None:
        paths: list[bytes | None] = list(txn.paths) if txn is not None and txn.paths is not None else []
        left = self.ephemerals.pop(header.client_id, None)
        if left:
            named = set(paths)
            paths += [path for path in left if path not in named]
        for path in paths:
            try:
                self._delete(path or b"", header.zxid, changes)
            except KeeperError:
                # Replay over a fuzzy snapshot: it is gone already.
                continue

    def remove_dead_ephemerals(self, sessions: dict[int, int], zxid: int) -> list[bytes]:
        """Delete the ephemeral nodes of sessions that do not exist, without a transaction (spec: storage 4, step 7)."""
        self._known = _NONE
        removed = []
        for session_id in [each for each in self.ephemerals if each not in sessions]:
            for path in list(self.ephemerals.pop(session_id)):
                self._delete(path, zxid, None)
                removed.append(path)
        return removed

    # What hangs on a node

    def _changed(self, path: bytes, node: Znode) -> None:
        """A node's fields have changed."""
        node.packed = None
        digest = self._known.get(path)
        if digest is None:
            digest = node.compute_digest(path)
        self.digest += digest - node.digest
        node.digest = digest

    def _forget(self, path: bytes, node: Znode) -> None:
        """A node leaves the tree."""
        self.digest -= node.digest
        self.data_size -= len(path) + (len(node.data) if node.data else 0)
        self.acls.release(node.acl)
        owner = node.owner
        if owner:
            if owner == CONTAINER_OWNER:
                self.containers.pop(path, None)
            elif ttl_of(owner):
                self.ttls.pop(path, None)
            else:
                paths = self.ephemerals.get(owner)
                if paths is not None:
                    paths.pop(path, None)
                    if not paths:
                        del self.ephemerals[owner]

    def _index_owner(self, path: bytes, owner: int) -> None:
        if owner == CONTAINER_OWNER:
            self.containers[path] = None
        elif ttl_of(owner):
            self.ttls[path] = None
        else:
            self.ephemerals.setdefault(owner, {})[path] = None

    # Quotas

    def _quota_created(self, path: bytes) -> None:
        limited = quota_of_limits_path(path)
        if limited is not None:
            self.quotas.add(limited)
            return
        counted = quota_of_stats_path(path)
        if counted is not None:
            self._recount(counted)

    def _recount(self, path: bytes) -> None:
        """Write afresh what the stats node of a path says."""
        stats = self.nodes.get(stats_path(path))
        if stats is None:
            return
        nodes = self.nodes
        count = size = 0
        top = nodes.get(path)
        if top is not None:
            count = 1
            size = len(top.data) if top.data else 0
            for below in self.descendants(path):
                node = nodes.get(below)
                if node is not None:
                    count += 1
                    size += len(node.data) if node.data else 0
        self._set_stats(stats, StatsTrack(count, size).render())

    def _count(self, path: bytes, count: int, size: int) -> None:
        """Keep the stats node of the deepest quota above a changed node."""
        limited = self.quotas.find(path)
        if limited is None or (count == 0 and size == 0):
            return
        stats = self.nodes.get(stats_path(limited))
        if stats is not None:
            self._set_stats(stats, updated(stats.data, count, size))

    def _set_stats(self, node: Znode, data: bytes | None) -> None:
        self.data_size += (len(data) if data else 0) - (len(node.data) if node.data else 0)
        node.data = data
        node.packed = None

    def quota_above(self, path: bytes) -> tuple[Znode, Znode | None] | None:
        """Return the limits node of the deepest quota above a path, and its stats node if there is one."""
        limited = self.quotas.find(path)
        if limited is None:
            return None
        limits, stats = self.nodes.get(limits_path(limited)), self.nodes.get(stats_path(limited))
        return None if limits is None else (limits, stats)
