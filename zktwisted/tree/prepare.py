"""
Preparation: a request against the pending state becomes a transaction, or an error transaction.

The pending state is the tree plus what has been prepared and not yet applied; requests are judged against it one at a
time, in order (spec: server-semantics 5, 10.1).  Knows every check of every write and the order of the checks.
Refuses to know how a transaction becomes durable or agreed upon, who is connected, and what time it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct
from struct import error as struct_error
from typing import Any

from zktwisted.errors import Code, KeeperError, ProtocolError
from zktwisted.tree import fused
from zktwisted.tree.acl import AclList, check, fix_acl
from zktwisted.tree.datatree import DataTree
from zktwisted.tree.paths import RESERVED, split_path, validate_path
from zktwisted.tree.proposal import ChangeRecord, Gone, Proposal
from zktwisted.tree.quota import enforce
from zktwisted.tree.schemes import Schemes
from zktwisted.tree.znode import CONTAINER_OWNER, TTL_MASK, TTL_MAX, Znode, is_ephemeral, ttl_of
from zktwisted.wire import jute, ops, proto, txns
from zktwisted.wire.proto import Id

__all__ = ["ChangeRecord", "Prepare", "Proposal"]

DIGEST_VERSION = 2
_SYSTEM: tuple[Id, ...] = ()
_OPEN_ACL = proto.OPEN_ACL
_OPEN_ACL_BYTES = jute.encode(proto.SetACLRequest(b"", _OPEN_ACL, 0))[4:-4]
_OPEN_ACL_SIZE = len(_OPEN_ACL_BYTES)
# The header and the digest of an entry, and the number of its paths.
_AROUND_PATHS = txns.HEADER_SIZE + txns.DIGEST_SIZE + 4
_pack_int = Struct(">i").pack
_unpack_int = Struct(">i").unpack_from
_pack_create_end = Struct(">?i").pack
_unpack_multi = Struct(">i?i").unpack_from
_CREATES = (ops.CREATE, ops.CREATE2)
# What is checked before the session is.
_FLAGS_FIRST = (ops.CREATE, ops.CREATE2, ops.CREATE_CONTAINER, ops.CREATE_TTL, ops.RECONFIG)


def _child_count(node: Znode) -> int:
    if isinstance(node, ChangeRecord):
        return node.child_count
    children = node.children
    return len(children) if children else 0


class Prepare:
    """
    The pending state of one server and the checks of every write.

    @ivar tree: what has been applied.
    @ivar zxid: the last one given out.
    @ivar digest: of the pending tree.
    @ivar session_error: the code by which every operation of the next request fails, its session being gone or
        another server's; 0: it is not.
    @ivar ephemeral_error: the same for the ephemeral nodes that it would make.
    @ivar pending: the nodes as they will be, by tree key, where they differ from the tree.
    @ivar fused: the operations that are prepared in one go where they are plainly good, by op code.
    """

    def __init__(
        self,
        tree: DataTree,
        schemes: Schemes,
        *,
        skip_acl: bool = False,
        enforce_quota: bool = False,
        extended_types: bool = False,
        digest_enabled: bool = True,
        close_session_txn: bool = True,
        reconfig_enabled: bool = False,
        soft_quota_exceeded: Callable[[bytes], None] = lambda path: None,
        max_entry: int = 2 * 0xFFFFF,
    ) -> None:
        """
        @param skip_acl: C{skipACL=yes}.
        @param extended_types: C{extendedTypesEnabled}: TTL nodes may be made.
        @param close_session_txn: whether a closeSession carries its paths.
        @param soft_quota_exceeded: told the path of a write that exceeds a soft limit.
        @param max_entry: the longest entry, in bytes, that the log and other servers will read: no longer one is made.
        """
        self.tree = tree
        self.schemes = schemes
        self.skip_acl = skip_acl
        self.enforce_quota = enforce_quota
        self.extended_types = extended_types
        self.digest_enabled = digest_enabled
        self.close_session_txn = close_session_txn
        self.reconfig_enabled = reconfig_enabled
        self.soft_quota_exceeded = soft_quota_exceeded
        self.max_entry = max_entry
        self.zxid = 0
        self.digest = tree.digest
        self.session_error = self.ephemeral_error = 0
        self.fused = fused.OPERATIONS if digest_enabled and not enforce_quota else {}
        self.pending: dict[bytes, Znode] = {}
        # Of the transaction being prepared: its records, and what they replaced, to be put back if it fails.
        self._touched: list[tuple[bytes, Znode]] = []
        self._replaced: list[Znode | None] = []
        self._session_id = 0
        self._identities: Sequence[Id] = _SYSTEM
        self._time = 0
        self._operations: dict[int, Callable[[int, Any], Any]] = {
            ops.CREATE: self._create,
            ops.CREATE2: self._create,
            ops.CREATE_CONTAINER: self._create,
            ops.CREATE_TTL: self._create,
            ops.DELETE: self._delete,
            ops.SET_DATA: self._set_data,
            ops.SET_ACL: self._set_acl,
            ops.CHECK: self._check,
            ops.DELETE_CONTAINER: self._delete_container,
            ops.RECONFIG: self._reconfig,
        }

    def start(self, zxid: int) -> None:
        """Begin behind C{zxid}, with nothing pending."""
        self.zxid = zxid
        self.digest = self.tree.digest
        self.session_error = self.ephemeral_error = 0
        self.pending.clear()

    def prepare(
        self, op: int, session_id: int, cxid: int, body: bytes, identities: Sequence[Id], time: int
    ) -> Proposal:
        """
        Turn a write into a transaction with the next zxid; a write that fails becomes an error transaction.

        @param body: the request's body as the client sent it.
        @param time: wall clock, ms.
        """
        self.zxid = zxid = self.zxid + 1
        fuse = self.fused.get(op)
        if fuse is not None and type(body) is bytes and not self.session_error and not self.ephemeral_error:
            proposal = fuse(self, op, session_id, cxid, body, zxid, time)
            if proposal is not None:
                return proposal
        self._session_id = session_id
        self._identities = identities
        self._time = time
        self._touched = []
        self._replaced = []
        digest = self.digest
        if op == ops.MULTI:
            return self._multi(session_id, cxid, body)
        try:
            if op == ops.CREATE_SESSION:
                txn: Any = jute.decode(txns.CreateSessionTxn, body)[0]
            elif op == ops.CLOSE_SESSION:
                txn = self._close_session()
            else:
                request, _ = _decode(op, body, 0)
                if self.session_error and op not in _FLAGS_FIRST:
                    raise KeeperError(self.session_error)
                txn = self._operations[op](op, request)
            header = txns.TxnHeader(session_id, cxid, zxid, time, op)
            entry = self._entry(header, _encode(txn) if txn else b"")
            if len(entry) > self.max_entry:  # an ACL for C{auth} grows with the identities that it stands for
                raise KeeperError(Code.MARSHALLINGERROR)
        except (KeeperError, ProtocolError) as e:
            code = e.code if isinstance(e, KeeperError) else Code.MARSHALLINGERROR.value
            self._roll_back(digest)
            header = txns.TxnHeader(session_id, cxid, zxid, time, ops.ERROR)
            error = txns.ErrorTxn(code)
            return Proposal(header, error, txns.encode_entry(header, error))
        return Proposal(header, txn, entry, self._touched)

    def applied(self, proposal: Proposal) -> None:
        """Forget the change records of a transaction that has been applied."""
        pending = self.pending
        for path, record in proposal.touched:
            if pending.get(path) is record:
                del pending[path]

    def _entry(self, header: txns.TxnHeader, body: bytes) -> bytes:
        if self.digest_enabled:
            return txns.pack_header(*header) + body + txns.pack_digest(DIGEST_VERSION, self.digest)
        return txns.pack_header(*header) + body

    def _roll_back(self, digest: int) -> None:
        pending = self.pending
        for (path, _), record in zip(reversed(self._touched), reversed(self._replaced), strict=True):
            if record is None:
                del pending[path]
            else:
                pending[path] = record
        self._touched = []
        self._replaced = []
        self.digest = digest

    def _multi(self, session_id: int, cxid: int, body: bytes) -> Proposal:
        digest = self.digest
        operations: list[tuple[int, Any]] = []
        try:
            requests = _decode_multi(body)
        except ProtocolError:
            return self._malformed(session_id, cxid)
        failed = False
        for op, request in requests:
            if failed:
                operations.append((ops.ERROR, txns.ErrorTxn(Code.RUNTIMEINCONSISTENCY.value)))
                continue
            try:
                if self.session_error and op not in _FLAGS_FIRST:
                    raise KeeperError(self.session_error)
                operations.append((op, self._operations[op](op, request)))
            except KeeperError as e:
                failed = True
                self._roll_back(digest)
                if e.code == Code.MARSHALLINGERROR.value:
                    # An ACL without an id, or limits of a quota that are no limits, spoil the whole multi.
                    return self._malformed(session_id, cxid)
                operations.append((ops.ERROR, txns.ErrorTxn(e.code)))
        header = txns.TxnHeader(session_id, cxid, self.zxid, self._time, ops.MULTI)
        # A MultiTxn, put together here: it is a vector of (type, buffer).
        parts = [_pack_int(len(operations))]
        for op, txn in operations:
            encoded = _encode(txn)
            parts += (_pack_int(op), _pack_int(len(encoded)), encoded)
        entry = self._entry(header, b"".join(parts))
        if len(entry) > self.max_entry:
            self._roll_back(digest)
            return self._malformed(session_id, cxid)
        return Proposal(header, None, entry, self._touched, operations)

    def _malformed(self, session_id: int, cxid: int) -> Proposal:
        header = txns.TxnHeader(session_id, cxid, self.zxid, self._time, ops.ERROR)
        error = txns.ErrorTxn(Code.MARSHALLINGERROR.value)
        return Proposal(header, error, txns.encode_entry(header, error))

    # The pending state

    def _find(self, path: bytes) -> Znode | None:
        """Return a node as it will be, by its tree key."""
        if self.pending:
            record = self.pending.get(path)
            if record is not None:
                return record if record.exists else None
        return self.tree.nodes.get(path)

    def _get(self, path: bytes) -> Znode:
        node = self._find(path)
        if node is None:
            raise KeeperError(Code.NONODE)
        return node

    def _put(self, path: bytes, record: Znode) -> None:
        """Enter a record that is complete, and count its digest instead of what it replaces."""
        self._touched.append((path, record))
        self._replaced.append(self.pending.get(path))
        self.pending[path] = record
        before = record.digest
        digest = record.digest = record.compute_digest(path) if record.exists else 0
        self.digest += digest - before

    def _allow(self, acl: AclList, perm: int) -> None:
        if not acl.world & perm and not check(acl, perm, self._identities, self.schemes, self.skip_acl):
            raise KeeperError(Code.NOAUTH)

    def _charge(self, path: bytes, count: int, size: int) -> None:
        """Refuse what exceeds a hard quota (spec: server-semantics 8)."""
        if self.enforce_quota and (count or size):
            quota = self.tree.quota_above(path)
            if quota is None:
                return
            limits, stats = quota
            if stats is None:
                # Nothing is counted yet; but limits that nobody can read refuse the change all the same.
                enforce(limits.data, b"", 0, 0)
            elif enforce(limits.data, stats.data, count, size):
                self.soft_quota_exceeded(path)

    # Operations: each returns its transaction record, its change records entered

    def _create(self, op: int, request: Any) -> Any:
        path, data, acls, flags = request[:4]
        if not 0 <= flags <= 6:
            raise KeeperError(Code.BADARGUMENTS)
        ttl = request.ttl if op == ops.CREATE_TTL else -1
        self._check_kind(op, flags, ttl)
        if self.session_error or self.ephemeral_error:
            self._check_session(flags)
        if path is None:
            raise KeeperError(Code.MARSHALLINGERROR)
        parent_path, _name = split_path(path)
        acl = acls if acls is _OPEN_ACL else fix_acl(acls, self._identities, self.schemes)
        parent = self._get(parent_path)
        self._allow(parent.acl, ops.PERM_CREATE)
        if flags in (2, 3, 6):
            path += b"%010d" % (parent.sequence if isinstance(parent, ChangeRecord) else parent.cversion)
        validate_path(path)
        if path == b"/" or self._find(path) is not None:
            raise KeeperError(Code.NODEEXISTS)
        if is_ephemeral(parent.owner):
            raise KeeperError(Code.NOCHILDRENFOREPHEMERALS)
        self._charge(path, 1, len(data) if data else 0)
        zxid, time = self.zxid, self._time
        change = ChangeRecord(parent)
        cversion = change.sequence = _next(change.sequence)
        if op == ops.CREATE_CONTAINER:
            owner = CONTAINER_OWNER
            txn: Any = txns.CreateContainerTxn(path, data, acl, cversion)
        elif op == ops.CREATE_TTL:
            owner = TTL_MASK | ttl
            txn = txns.CreateTTLTxn(path, data, acl, cversion, ttl)
        else:
            owner = self._session_id if flags in (1, 3) else 0
            txn = txns.CreateTxn(path, data, acl, owner != 0, cversion)
        change.child_count += 1
        if cversion > change.cversion:
            change.cversion = cversion
            change.pzxid = zxid
        self._put(parent_path, change)
        self._put(path, Znode(data, self.tree.acls.find(acl), zxid, zxid, time, time, 0, 0, 0, owner, zxid))
        return txn

    def _check_session(self, flags: int) -> None:
        """Refuse a node that its session may not make (spec: server-semantics 5.1, check 4)."""
        if flags in (1, 3) and self.ephemeral_error:
            raise KeeperError(self.ephemeral_error)
        if self.session_error:
            raise KeeperError(self.session_error)

    def _check_kind(self, op: int, flags: int, ttl: int) -> None:
        """Check create flags against the operation that carries them (spec: server-semantics 5.1, checks 2 and 3)."""
        if flags in (5, 6):
            if not self.extended_types:
                raise KeeperError(Code.UNIMPLEMENTED)
            if not 1 <= ttl <= TTL_MAX:
                raise KeeperError(Code.BADARGUMENTS)
        elif op == ops.CREATE_TTL:
            # Upstream lets flags 0 to 4 with ttl -1 pass, and dies of the transaction (client-protocol 12.4).
            raise KeeperError(Code.BADARGUMENTS)

    def _remove(self, path: bytes, node: Znode, parent_path: bytes, parent: Znode) -> None:
        """Enter the records of a deletion."""
        zxid = self.zxid
        change = ChangeRecord(parent)
        change.child_count -= 1
        if zxid > change.pzxid:
            change.pzxid = zxid
        self._put(parent_path, change)
        self._put(path, Gone(node))

    def _delete(self, op: int, request: Any) -> Any:
        path, version = request
        if path is None:
            raise KeeperError(Code.MARSHALLINGERROR)
        parent_path, _name = split_path(path)
        if path in RESERVED:
            raise KeeperError(Code.BADARGUMENTS)
        parent = self._get(parent_path)
        self._allow(parent.acl, ops.PERM_DELETE)
        node = self._get(path)
        _check_version(version, node.version)
        if _child_count(node):
            raise KeeperError(Code.NOTEMPTY)
        self._remove(path, node, parent_path, parent)
        return txns.DeleteTxn(path)

    def _delete_container(self, op: int, request: Any) -> Any:
        """Delete a container or TTL node that nobody needs; only the server itself asks (spec: server-semantics 7)."""
        path = request.path
        parent_path, _name = split_path(path)
        node = self._get(path)
        if _child_count(node):
            raise KeeperError(Code.NOTEMPTY)
        if node.owner != CONTAINER_OWNER and not ttl_of(node.owner):
            raise KeeperError(Code.BADVERSION)
        self._remove(path, node, parent_path, self._get(parent_path))
        return txns.DeleteTxn(path)

    def _set_data(self, op: int, request: Any) -> Any:
        path, data, version = request
        validate_path(path)
        key = b"" if path == b"/" else path
        node = self._get(key)
        self._allow(node.acl, ops.WRITE)
        if self.enforce_quota:
            before = len(node.data) if node.data else 0
            self._charge(key, 0, (len(data) if data else 0) - before)
        new_version = _check_version(version, node.version)
        change = ChangeRecord(node)
        change.data = data
        change.version = new_version
        change.mtime = self._time
        change.mzxid = self.zxid
        self._put(key, change)
        return txns.SetDataTxn(path, data, new_version)

    def _set_acl(self, op: int, request: Any) -> Any:
        path, acls, version = request
        validate_path(path)
        acl = fix_acl(acls, self._identities, self.schemes)
        key = b"" if path == b"/" else path
        node = self._get(key)
        self._allow(node.acl, ops.ADMIN)
        new_version = _check_version(version, node.aversion)
        change = ChangeRecord(node)
        change.acl = self.tree.acls.find(acl)
        change.aversion = new_version
        self._put(key, change)
        return txns.SetACLTxn(path, acl, new_version)

    def _check(self, op: int, request: Any) -> Any:
        path, version = request
        validate_path(path)
        node = self._get(b"" if path == b"/" else path)
        self._allow(node.acl, ops.READ)
        return txns.CheckVersionTxn(path, _check_version(version, node.version))

    def _reconfig(self, op: int, request: Any) -> Any:
        """Answer as a server without an ensemble does: there is nothing to reconfigure."""
        raise KeeperError(Code.UNIMPLEMENTED if self.reconfig_enabled else Code.RECONFIGDISABLED)

    def _close_session(self) -> Any:
        """Delete the session's ephemerals, in the tree and pending (spec: server-semantics 2.2)."""
        session_id = self._session_id
        paths: dict[bytes, None] = {}
        for path in self.tree.ephemerals.get(session_id, ()):
            # A pending transaction may have deleted it, and another session may have made its own there.
            node = self._find(path)
            if node is not None and node.owner == session_id:
                paths[path] = None
        for path, record in self.pending.items():
            if record.exists and record.owner == session_id:
                paths[path] = None
        for path in paths:
            parent_path, _name = split_path(path)
            self._remove(path, self._get(path), parent_path, self._get(parent_path))
        if not self.close_session_txn:
            return None
        named = []
        room = self.max_entry - _AROUND_PATHS
        for path in paths:
            room -= 4 + len(path)
            if room < 0:
                break  # whoever applies it deletes what else the session has
            named.append(path)
        return txns.CloseSessionTxn(named)


def _in_multi(op: int, request: Any) -> tuple[int, Any]:
    """
    Return the operation that stands in a multi: there the flag of a create says what it makes, not the opcode alone.

    @raise ProtocolError: no ACL, or a flag for a TTL in a request without one; either spoils the whole multi.
    """
    if op not in (ops.CREATE, ops.CREATE2, ops.CREATE_CONTAINER, ops.CREATE_TTL):
        return op, request
    flags = request[3]
    if op == ops.CREATE_TTL:
        if not 0 <= flags <= 4:
            return op, request
        request = proto.CreateRequest(*request[:4])
        return ops.CREATE_CONTAINER if flags == 4 else ops.CREATE, request
    if flags > 4:
        raise ProtocolError(f"create flag {flags} without a ttl inside a multi")
    if request[2] is None:
        raise ProtocolError("null ACL inside a multi")
    return ops.CREATE_CONTAINER if flags == 4 else op, request


def _decode(op: int, buf: bytes, offset: int) -> tuple[Any, int]:
    """
    Decode a request; the most frequent ones by hand, which costs a third of the way through their records' codecs.

    @raise ProtocolError: it is none.
    """
    if op == ops.SET_DATA and type(buf) is bytes:
        try:
            after = offset + 4 + _unpack_int(buf, offset)[0]
            end = after + 4 + _unpack_int(buf, after)[0]
            if offset + 4 <= after and after + 4 <= end:
                version = _unpack_int(buf, end)[0]
                return (buf[offset + 4 : after], buf[after + 4 : end], version), end + 4
        except struct_error:
            pass  # a null buffer, or none at all: the codec knows
    if op in _CREATES:
        path, at = jute.read_buffer(buf, offset)
        data, at = jute.read_buffer(buf, at)
        after = at + _OPEN_ACL_SIZE
        if buf[at:after] == _OPEN_ACL_BYTES:
            flags, after = jute.read_int(buf, after)
            return (path, data, _OPEN_ACL, flags), after
    return jute.decode(proto.REQUESTS[op], buf, offset)


def _decode_multi(buf: bytes) -> list[tuple[int, Any]]:
    """Decode the operations of a multi, as L{proto.decode_multi} does, and say what each of them makes."""
    requests: list[tuple[int, Any]] = []
    offset = 0
    try:
        while True:
            op, done, _err = _unpack_multi(buf, offset)
            if done:
                return requests
            if op not in proto.MULTI_OPS:
                raise ProtocolError(f"operation {op} inside a multi")
            request, offset = _decode(op, buf, offset + 9)
            if request[0] is None:
                raise ProtocolError("null path inside a multi")
            if op in _CREATE_OPS and not 0 <= request[3] <= 6:
                raise ProtocolError(f"create flag {request[3]} inside a multi")
            requests.append(_in_multi(op, request))
    except struct_error:
        raise ProtocolError("a multi without its end") from None


# Of a createTTL in a multi an unknown flag is an error of that operation alone.
_CREATE_OPS = (ops.CREATE, ops.CREATE2, ops.CREATE_CONTAINER)


def _encode(txn: Any) -> bytes:
    """Encode a transaction record, the most frequent ones by hand."""
    kind = type(txn)
    if kind is txns.SetDataTxn:
        path, data, version = txn
        if data is not None:
            return b"".join((_pack_int(len(path)), path, _pack_int(len(data)), data, _pack_int(version)))
    if kind is txns.CreateTxn and txn[2] is _OPEN_ACL:
        path, data, _acl, ephemeral, cversion = txn
        end = _pack_create_end(ephemeral, cversion)
        return b"".join((_pack_int(len(path)), path, jute.pack_buffer(data), _OPEN_ACL_BYTES, end))
    return jute.encode(txn)


def _check_version(expected: int, version: int) -> int:
    """
    Compare a version and return the one that follows it, wrapping at 32 bits.

    @raise KeeperError: BADVERSION.
    """
    if expected != -1 and expected != version:
        raise KeeperError(Code.BADVERSION)
    return _next(version)


def _next(counter: int) -> int:
    """Count on, wrapping at 32 bits."""
    return counter + 1 if counter < 0x7FFFFFFF else -0x80000000
