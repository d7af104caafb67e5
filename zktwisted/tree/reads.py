"""
Everything that is answered in place: reads, pings, and the requests about watches.

Each operation takes a whole frame apart and puts a whole reply frame together.  exists, getData, getChildren and
getChildren2 are fused: offsets into the request, one look-up, one pack.  That costs about 1 µs instead of 5 for the
way through records; a test demands equal bytes of both ways.

Knows the tree, the watches and who may read.  Refuses to know connections (a watcher is any object that can be told
of an event) and the order of replies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct
from struct import error as struct_error
from typing import Any, Protocol

from zktwisted.errors import Code, KeeperError, ProtocolError
from zktwisted.tree.acl import check, mask_digests
from zktwisted.tree.datatree import DataTree
from zktwisted.tree.schemes import Schemes
from zktwisted.tree.watches import Watches, encode_event
from zktwisted.tree.znode import Znode
from zktwisted.wire import jute, ops, proto
from zktwisted.wire.proto import Id

__all__ = ["Reads", "Watcher", "encode_reply"]

_unpack_int = Struct(">i").unpack_from
_pack_int = Struct(">i").pack
_pack_header = Struct(">iiqi").pack
_pack_header_int = Struct(">iiqii").pack
_LENGTHS = [_pack_int(n) for n in range(256)]
_MARSHALLING = Code.MARSHALLINGERROR.value
_NO_NODE = Code.NONODE.value
_NO_AUTH = Code.NOAUTH.value
# How long the answer to a multiRead may be, in bytes: a request of 320 KB can ask twenty thousand times for one node.
_MULTI_READ_MAX = 64 << 20


class Watcher(Protocol):
    """Who asks: somebody with a session that can be told of events."""

    session_id: int

    def __hash__(self) -> int:
        """By identity."""

    def deliver(self, frame: bytes) -> None:
        """Take an event frame, length included."""


def encode_reply(xid: int, zxid: int, err: int, body: bytes = b"") -> bytes:
    """Return a reply frame, its length field included."""
    return _pack_header(16 + len(body), xid, zxid, err) + body


class Reads:
    """
    The local operations of one server.

    @ivar zxid: what replies carry: the last transaction applied to the tree.
    """

    def __init__(
        self,
        tree: DataTree,
        watches: Watches,
        schemes: Schemes,
        *,
        skip_acl: bool = False,
        count: Callable[[bytes, int], None] = lambda path, size: None,
    ) -> None:
        """
        @param skip_acl: C{skipACL=yes}.
        @param count: told the path and the bytes of each node read (spec: operations 3.4, read_per_namespace).
        """
        self.count = count
        self.tree = tree
        self.watches = watches
        self.schemes = schemes
        self.skip_acl = skip_acl
        self.zxid = 0
        #: By op code: called with (watcher, identities, xid, buffer, start of the body, end of the frame).
        self.table: dict[int, Callable[[Any, Sequence[Id], int, bytes, int, int], bytes]] = {
            ops.EXISTS: self.exists,
            ops.GET_DATA: self.get_data,
            ops.GET_CHILDREN: self.get_children,
            ops.GET_CHILDREN2: self.get_children2,
            ops.PING: self.ping,
        }
        for op, method in (
            (ops.GET_ACL, self._get_acl),
            (ops.CHECK_WATCHES, self._check_watches),
            (ops.REMOVE_WATCHES, self._remove_watches),
            (ops.MULTI_READ, self._multi_read),
            (ops.SET_WATCHES, self._set_watches),
            (ops.SET_WATCHES2, self._set_watches2),
            (ops.ADD_WATCH, self._add_watch),
            (ops.GET_EPHEMERALS, self._get_ephemerals),
            (ops.GET_ALL_CHILDREN_NUMBER, self._get_all_children_number),
            (ops.WHO_AM_I, self._who_am_i),
        ):
            self.table[op] = self._plain(method)

    def _plain(
        self, method: Callable[[Any, Sequence[Id], bytes], bytes]
    ) -> Callable[[Any, Sequence[Id], int, bytes, int, int], bytes]:
        """Make an operation that returns a body, or raises, into one that returns a frame."""

        def answer(watcher: Any, identities: Sequence[Id], xid: int, buf: bytes, start: int, end: int) -> bytes:
            try:
                body = method(watcher, identities, buf[start:end])
            except KeeperError as e:
                return encode_reply(xid, self.zxid, e.code)
            except ProtocolError:
                return encode_reply(xid, self.zxid, _MARSHALLING)
            return encode_reply(xid, self.zxid, 0, body)

        return answer

    # Fused

    def ping(self, watcher: Any, identities: Sequence[Id], xid: int, buf: bytes, start: int, end: int) -> bytes:
        """Answer with xid -2, whatever the request had."""
        return _pack_header(16, ops.XID_PING, self.zxid, 0)

    def get_data(self, watcher: Any, identities: Sequence[Id], xid: int, buf: bytes, start: int, end: int) -> bytes:
        """Answer getData; the watch is set only on success."""
        try:
            stop = start + 4 + _unpack_int(buf, start)[0]
        except struct_error:
            return _pack_header(16, xid, self.zxid, _MARSHALLING)
        start += 4
        if not start <= stop < end:
            return _pack_header(16, xid, self.zxid, _MARSHALLING)
        path = buf[start:stop]
        node = self.tree.nodes.get(path)
        if node is None:
            if path != b"/":
                return _pack_header(16, xid, self.zxid, _NO_NODE)
            node = self.tree.nodes[b""]
        if not node.acl.world & 1 and not self._may_read(node, identities):
            return _pack_header(16, xid, self.zxid, _NO_AUTH)
        if buf[stop]:
            self.watches.add_data(path, watcher)
        data = node.data
        self.count(path, len(data) if data else 0)
        if data is None:
            return _pack_header_int(88, xid, self.zxid, 0, -1) + (node.packed or node.stat())
        length = len(data)
        return _pack_header_int(88 + length, xid, self.zxid, 0, length) + data + (node.packed or node.stat())

    def exists(self, watcher: Any, identities: Sequence[Id], xid: int, buf: bytes, start: int, end: int) -> bytes:
        """Answer exists; the watch is set on a missing node too, but not without READ on one that is there."""
        try:
            stop = start + 4 + _unpack_int(buf, start)[0]
        except struct_error:
            return _pack_header(16, xid, self.zxid, _MARSHALLING)
        start += 4
        if not start <= stop < end:
            return _pack_header(16, xid, self.zxid, _MARSHALLING)
        path = buf[start:stop]
        node = self.tree.nodes.get(path)
        if node is None:
            if path == b"/":
                node = self.tree.nodes[b""]
            else:
                if b"\0" in path:
                    return _pack_header(16, xid, self.zxid, Code.BADARGUMENTS.value)
                if buf[stop]:
                    self.watches.add_data(path, watcher)
                return _pack_header(16, xid, self.zxid, _NO_NODE)
        if not node.acl.world & 1 and not self._may_read(node, identities):
            return _pack_header(16, xid, self.zxid, _NO_AUTH)
        if buf[stop]:
            self.watches.add_data(path, watcher)
        self.count(path, 0)
        return _pack_header(84, xid, self.zxid, 0) + (node.packed or node.stat())

    def get_children(self, watcher: Any, identities: Sequence[Id], xid: int, buf: bytes, start: int, end: int) -> bytes:
        """Answer getChildren."""
        return self._list(watcher, identities, xid, buf, start, end, False)

    def get_children2(
        self, watcher: Any, identities: Sequence[Id], xid: int, buf: bytes, start: int, end: int
    ) -> bytes:
        """Answer getChildren2."""
        return self._list(watcher, identities, xid, buf, start, end, True)

    def _list(
        self, watcher: Any, identities: Sequence[Id], xid: int, buf: bytes, start: int, end: int, with_stat: bool
    ) -> bytes:
        try:
            stop = start + 4 + _unpack_int(buf, start)[0]
        except struct_error:
            return _pack_header(16, xid, self.zxid, _MARSHALLING)
        start += 4
        if not start <= stop < end:
            return _pack_header(16, xid, self.zxid, _MARSHALLING)
        path = buf[start:stop]
        node = self.tree.nodes.get(path)
        if node is None:
            if path != b"/":
                return _pack_header(16, xid, self.zxid, _NO_NODE)
            node = self.tree.nodes[b""]
        if not node.acl.world & 1 and not self._may_read(node, identities):
            return _pack_header(16, xid, self.zxid, _NO_AUTH)
        if buf[stop]:
            self.watches.add_child(path, watcher)
        body = _encode_names(node.children)
        self.count(path, len(body) - 4 * (len(node.children) + 1) if node.children else 0)
        if with_stat:
            body += node.packed or node.stat()
        return _pack_header(16 + len(body), xid, self.zxid, 0) + body

    def _may_read(self, node: Znode, identities: Sequence[Id], perm: int = ops.READ) -> bool:
        return check(node.acl, perm, identities, self.schemes, self.skip_acl)

    # Plain: by records

    def _readable(self, path: bytes | None, identities: Sequence[Id], perm: int = ops.READ) -> Znode:
        if path is None:
            raise KeeperError(Code.MARSHALLINGERROR)
        node = self.tree.get(path)
        if not node.acl.world & perm and not self._may_read(node, identities, perm):
            raise KeeperError(Code.NOAUTH)
        return node

    def _get_acl(self, watcher: Watcher, identities: Sequence[Id], body: bytes) -> bytes:
        path = jute.decode(proto.PathRequest, body)[0].path
        node = self._readable(path, identities, ops.READ | ops.ADMIN)
        acls: Sequence[proto.ACL] = node.acl.acls
        if not self._may_read(node, identities, ops.ADMIN):
            acls = mask_digests(acls)
        return _pack_int(len(acls)) + b"".join([jute.encode(acl) for acl in acls]) + node.stat()

    def _multi_read(self, watcher: Watcher, identities: Sequence[Id], body: bytes) -> bytes:
        parts = []
        room = _MULTI_READ_MAX
        for op, request in proto.decode_multi(body, 0, proto.MULTI_READ_OPS):
            try:
                node = self._readable(request.path, identities)
            except KeeperError as e:
                parts.append(jute.encode(proto.MultiHeader(ops.ERROR, False, e.code)) + _pack_int(e.code))
                continue
            parts.append(jute.encode(proto.MultiHeader(op, False, 0)))
            if op == ops.GET_DATA:
                parts.append(jute.pack_buffer(node.data) + node.stat())
            else:
                parts.append(_encode_names(node.children))
            room -= len(parts[-1])
            if room < 0:
                raise KeeperError(Code.MARSHALLINGERROR)
        return b"".join(parts) + proto.END_OF_MULTI

    def _get_ephemerals(self, watcher: Watcher, identities: Sequence[Id], body: bytes) -> bytes:
        prefix = jute.decode(proto.PathRequest, body)[0].path
        paths = self.tree.ephemerals.get(watcher.session_id, {})
        if prefix is None or not prefix.strip() or prefix == b"/":
            return _encode_names(paths)
        return _encode_names({path: None for path in paths if path.startswith(prefix)})

    def _get_all_children_number(self, watcher: Watcher, identities: Sequence[Id], body: bytes) -> bytes:
        path = jute.decode(proto.PathRequest, body)[0].path
        self._readable(path, identities)
        assert path is not None
        if path in (b"/", b""):
            # Java counts the root among its own descendants when it is called by the empty path.
            return _pack_int(len(self.tree.nodes) - (path == b"/"))
        return _pack_int(sum(1 for _ in self.tree.descendants(path)))

    def _who_am_i(self, watcher: Watcher, identities: Sequence[Id], body: bytes) -> bytes:
        infos = [
            proto.ClientInfo(each.scheme, self.schemes.user_name(each.scheme or "", each.id or ""))
            for each in identities
        ]
        return jute.encode(proto.WhoAmIResponse(infos))

    # Watches

    def _add_watch(self, watcher: Watcher, identities: Sequence[Id], body: bytes) -> bytes:
        request, _ = jute.decode(proto.AddWatchRequest, body)
        self.watches.add_watch(request.path or b"", watcher, request.mode)
        return b"\0\0\0\0"

    def _check_watches(self, watcher: Watcher, identities: Sequence[Id], body: bytes) -> bytes:
        request, _ = jute.decode(proto.WatchesRequest, body)
        if not self.watches.check(request.path or b"", watcher, request.type) or request.path is None:
            raise KeeperError(Code.NOWATCHER)
        return b""

    def _remove_watches(self, watcher: Watcher, identities: Sequence[Id], body: bytes) -> bytes:
        request, _ = jute.decode(proto.WatchesRequest, body)
        if request.path is None or not self.watches.remove(request.path, watcher, request.type):
            raise KeeperError(Code.NOWATCHER)
        return b""

    def _set_watches(self, watcher: Watcher, identities: Sequence[Id], body: bytes) -> bytes:
        request, _ = jute.decode(proto.SetWatches, body)
        return self._restore_watches(watcher, request.relative_zxid, request[1:])

    def _set_watches2(self, watcher: Watcher, identities: Sequence[Id], body: bytes) -> bytes:
        request, _ = jute.decode(proto.SetWatches2, body)
        return self._restore_watches(watcher, request.relative_zxid, request[1:])

    def _restore_watches(self, watcher: Watcher, zxid: int, lists: Sequence[Sequence[bytes | None] | None]) -> bytes:
        paths = [None if each is None else [path or b"" for path in each] for each in lists]
        for kind, path in self.watches.set_watches(watcher, zxid, paths, self._zxids):
            watcher.deliver(encode_event(kind, path, -1))
        return b""

    def _zxids(self, path: bytes) -> tuple[int, int] | None:
        node = self.tree.nodes.get(b"" if path == b"/" else path)
        return None if node is None else (node.mzxid, node.pzxid)


def _encode_names(names: dict[bytes, None] | None) -> bytes:
    """Encode a vector of ustrings."""
    if not names:
        return b"\0\0\0\0"
    lengths = _LENGTHS
    parts = [_pack_int(len(names))]
    for name in names:
        length = len(name)
        parts.append(lengths[length] if length < 256 else _pack_int(length))
        parts.append(name)
    return b"".join(parts)
