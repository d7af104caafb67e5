"""
The tree as a snapshot has it: sessions, ACL lists, nodes, and the terminator C{/}.

L{chunks} walks a tree that goes on changing; what comes out is fuzzy and is made right by replaying the log from the
transaction at which the walk began (spec: storage 5).  L{load} reads such an image, ours or a Java server's.

A leader sends an image to a learner as it stands, with a signature behind it (spec: quorum 6.5): L{stream} and
L{ImageReader}, which takes it in whatever pieces it comes.

This module knows neither files nor seals nor sockets, and no index of the tree: C{tree.rebuild()} makes those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from mmap import mmap
from struct import Struct, error
from typing import Protocol

from zktwisted.errors import ProtocolError
from zktwisted.tree.acl import AclList, AclTable
from zktwisted.tree.znode import Znode
from zktwisted.wire.proto import ACL, Id

__all__ = ["ImageReader", "ImageTree", "chunks", "load", "stream"]

#: A chunk is yielded when it has this many bytes or nodes: well below a millisecond of work.
_CHUNK_BYTES = 32 * 1024
_CHUNK_NODES = 256

_INT = Struct(">i")
_LONG = Struct(">q")
_SESSION = Struct(">qi")
#: aclId, then StatPersisted: czxid, mzxid, ctime, mtime, version, cversion, aversion, ephemeralOwner, pzxid.
_NODE = Struct(">qqqqqiiiqq")
_NULL = b"\xff\xff\xff\xff"
_TERMINATOR = b"\x00\x00\x00\x01/"
#: Behind an image that a leader sends.
_SIGNATURE = b"\x00\x00\x00\x0aBenWasHere"
#: A path or the data of a node can be no longer: jute.maxbuffer and as much again.
_FIELD_MAX = 2 * 0xFFFFF
#: Numbers of ACL lists only grow; one that cannot grow any more is not real.
_ACL_INDEX_MAX = 1 << 62
#: Lengths up to here are not packed again each time.
_LENGTHS = [_INT.pack(n) for n in range(2048)]


class ImageTree(Protocol):
    """What of a tree is in an image."""

    #: By path, the root being C{b""}.
    nodes: dict[bytes, Znode]
    acls: AclTable

    def rebuild(self) -> None:
        """Derive everything else (indexes, quotas, the digest) from the nodes."""


def chunks(tree: ImageTree, sessions: Mapping[int, int]) -> Iterator[bytes]:
    """
    Yield the image piece by piece; between two pieces the tree may change.

    Parents come before their children, in depth-first order.  A node deleted during the walk is left out or not, one
    created is in or not; no node is there without its parent.

    @param sessions: timeout in ms by session id; read before the first chunk comes out.
    """
    table = list(sessions.items())
    yield _INT.pack(len(table))
    rest = iter(table)
    while part := b"".join([_SESSION.pack(*session) for session in islice(rest, _CHUNK_NODES * 8)]):
        yield part
    lists = tree.acls.items()
    yield _INT.pack(len(lists))
    for index, acl in lists:
        yield _LONG.pack(index) + _encode_acls(acl)
    yield from _node_chunks(tree.nodes)
    yield _TERMINATOR


def stream(tree: ImageTree, sessions: Mapping[int, int]) -> Iterator[bytes]:
    """Yield what a leader sends behind SNAP: the image, and the signature that tells that all of it came."""
    yield from chunks(tree, sessions)
    yield _SIGNATURE


def _encode_acls(acl: AclList) -> bytes:
    parts = [_INT.pack(len(acl.acls))]
    for perms, (scheme, acl_id) in acl.acls:
        parts += (_INT.pack(perms), _encode_string(scheme), _encode_string(acl_id))
    return b"".join(parts)


def _encode_string(text: str) -> bytes:
    data = text.encode("utf-8", "surrogatepass")
    return _INT.pack(len(data)) + data


def _node_chunks(nodes: dict[bytes, Znode]) -> Iterator[bytes]:
    lengths, pack_int, pack_node = _LENGTHS, _INT.pack, _NODE.pack
    short = len(lengths)
    # The names still to be visited, by the prefix that makes them paths.  They are copies: only the nodes on the way
    # down to the current one have theirs copied, and a child that has gone in the meantime is left out.
    stack: list[tuple[bytes, Iterator[bytes]]] = [(b"", iter((b"",)))]
    parts: list[bytes] = []
    size = count = 0
    while stack:
        prefix, names = stack[-1]
        for name in names:
            path = prefix + name
            node = nodes.get(path)
            if node is None:
                continue
            data = node.data
            if data is None:
                data_length, data = _NULL, b""
            else:
                n = len(data)
                size += n
                data_length = lengths[n] if n < short else pack_int(n)
            n = len(path)
            size += n + 76
            parts += (
                lengths[n] if n < short else pack_int(n),
                path,
                data_length,
                data,
                pack_node(
                    node.acl.index,
                    node.czxid,
                    node.mzxid,
                    node.ctime,
                    node.mtime,
                    node.version,
                    node.cversion,
                    node.aversion,
                    node.owner,
                    node.pzxid,
                ),
            )
            count += 1
            children = node.children
            if children:
                stack.append((path + b"/", iter(tuple(children))))
            if size >= _CHUNK_BYTES or count >= _CHUNK_NODES:
                yield b"".join(parts)
                parts = []
                size = count = 0
            if children:
                break
        else:
            stack.pop()
    if parts:
        yield b"".join(parts)


def load(tree: ImageTree, data: bytes | mmap, offset: int) -> tuple[dict[int, int], int]:
    """
    Replace a tree by an image.

    @param data: what contains it.
    @param offset: where it begins.

    @return: timeouts in ms by session id, and the offset behind the image.

    @raise ProtocolError: it makes no sense; the tree is then in no state to be used.
    """
    tree.nodes.clear()
    tree.acls.clear()
    nodes = _Nodes(tree)
    try:
        sessions, offset = _load_sessions(data, offset)
        offset = _load_acls(tree.acls, data, offset)
        offset = nodes.load(data, offset)
    except (error, UnicodeDecodeError) as e:
        raise ProtocolError(f"the image is cut short or garbled: {e}") from e
    if not nodes.complete:
        raise ProtocolError(f"the image is cut short behind {nodes.count} nodes")
    tree.acls.purge_unused()
    tree.rebuild()
    return sessions, offset


def _load_sessions(data: bytes | mmap, offset: int) -> tuple[dict[int, int], int]:
    (count,) = _INT.unpack_from(data, offset)
    offset += _INT.size
    sessions: dict[int, int] = {}
    for _ in range(count):
        session, timeout = _SESSION.unpack_from(data, offset)
        offset += _SESSION.size
        sessions[session] = timeout
    return sessions, offset


def _load_acls(table: AclTable, data: bytes | mmap, offset: int) -> int:
    (lists,) = _INT.unpack_from(data, offset)
    offset += _INT.size
    for _ in range(lists):
        offset = _load_acl(table, data, offset)
    return offset


def _load_acl(table: AclTable, data: bytes | mmap, offset: int) -> int:
    (index,) = _LONG.unpack_from(data, offset)
    (count,) = _INT.unpack_from(data, offset + _LONG.size)
    offset += _LONG.size + _INT.size
    if count < 0 or not 0 < index < _ACL_INDEX_MAX:
        raise ProtocolError(f"ACL list {index} with {count} entries")
    acls: list[ACL] = []
    for _ in range(count):
        (perms,) = _INT.unpack_from(data, offset)
        scheme, offset = _load_string(data, offset + _INT.size)
        acl_id, offset = _load_string(data, offset)
        acls.append(ACL(perms, Id(scheme, acl_id)))
    table.load(index, acls)
    return offset


def _load_string(data: bytes | mmap, offset: int) -> tuple[str, int]:
    (length,) = _INT.unpack_from(data, offset)
    offset += _INT.size
    end = offset + length
    if length < 0:
        raise ProtocolError(f"a string of {length} bytes")
    if end > len(data):
        raise error(f"a string of {length} bytes")
    return data[offset:end].decode("utf-8", "surrogatepass"), end


class _Nodes:
    """
    The nodes of an image, read one behind the other.

    @ivar count: how many have been read.
    @ivar complete: whether the terminator has been read.
    """

    def __init__(self, tree: ImageTree) -> None:
        self._tree = tree
        self._parent: Znode | None = None
        # No path equals it, so the first node always looks for its parent.
        self._parent_path = b"//"
        self.count = 0
        self.complete = False

    def load(self, data: bytes | mmap, offset: int) -> int:
        """
        Read all nodes that are there whole, and the terminator.

        @return: the offset behind them.
        @raise ProtocolError: they make no sense.
        """
        nodes = self._tree.nodes
        use = self._tree.acls.use
        read_int, read_node = _INT.unpack_from, _NODE.unpack_from
        parent, parent_path = self._parent, self._parent_path
        count = self.count
        start = offset
        try:
            while True:
                start = offset
                (length,) = read_int(data, offset)
                offset += 4
                if length == 1:
                    if data[offset : offset + 1] != b"/":
                        if offset == len(data):
                            break
                        raise ProtocolError(f"the path {data[offset : offset + 1]!r}")
                    start = offset + 1
                    self.complete = True
                    break
                end = offset + length
                if length < 0:
                    raise ProtocolError(f"a path of {length} bytes")
                path = data[offset:end]
                (data_length,) = read_int(data, end)
                offset = end + 4
                content: bytes | None = None
                if data_length >= 0:
                    end = offset + data_length
                    content = data[offset:end]
                    offset = end
                elif data_length < -1:
                    raise ProtocolError(f"a path of {length} and data of {data_length} bytes")
                index, czxid, mzxid, ctime, mtime, version, cversion, aversion, owner, pzxid = read_node(data, offset)
                offset += 68
                if index < -1 or index == 0 or index >= _ACL_INDEX_MAX:
                    raise ProtocolError(f"node {path!r} with ACL list {index}")
                node = Znode(content, use(index), czxid, mzxid, ctime, mtime, version, cversion, aversion, owner, pzxid)
                if count:
                    cut = path.rfind(b"/")
                    if path[:cut] != parent_path or parent is None:
                        parent_path = path[:cut]
                        parent = nodes.get(parent_path)
                        if parent is None or cut < 0:
                            raise ProtocolError(
                                f"Invalid Datatree, unable to find parent {parent_path!r} of path {path!r}"
                            )
                    if parent.children is None:
                        parent.children = {}
                    parent.children[path[cut + 1 :]] = None
                elif path:
                    raise ProtocolError(f"the first node is {path!r} and not the root")
                nodes[path] = node
                count += 1
        except error:
            pass  # the node at C{start} is not all there
        self._parent, self._parent_path, self.count = parent, parent_path, count
        if len(nodes) != count or (self.complete and not count):
            raise ProtocolError(f"{count} nodes with {len(nodes)} paths")
        return start

    def size_of_next(self, data: bytes, offset: int, field_max: int) -> int:
        """
        Return how many bytes the node at C{offset} needs at least, as far as can be told from what is there of it.

        @param field_max: the longest path or data that is believed.
        """
        size = _INT.size
        for more in (_INT.size, _NODE.size):
            if len(data) < offset + size:
                break
            length: int = _INT.unpack_from(data, offset + size - _INT.size)[0]
            if length > field_max:
                raise ProtocolError(f"a path or data of {length} bytes")
            if length == 1 and more == _INT.size:
                return size + length  # the terminator
            size += max(length, 0) + more
        return size


class ImageReader:
    """
    Replaces a tree by an image that comes in pieces, with the signature behind it.

    The tree is empty from the beginning, grows as the pieces come, and is of use only when L{done}.  But for the tree,
    never more is in memory than a node that is not complete.

    @ivar sessions: timeouts in ms by session id.
    @ivar done: whether all of it has come.
    @ivar rest: what came behind it.
    """

    def __init__(self, tree: ImageTree, field_max: int = _FIELD_MAX) -> None:
        """@param field_max: the longest path or data that is believed, in bytes."""
        tree.nodes.clear()
        tree.acls.clear()
        self.sessions: dict[int, int] = {}
        self.done = False
        self.rest = b""
        self._tree = tree
        self._nodes = _Nodes(tree)
        self._field_max = field_max
        self._pending_max = 2 * field_max + _NODE.size + 4 * _INT.size
        self._pieces: list[bytes] = []
        self._size = 0
        # With less than this nothing can be done.
        self._needed = 0
        # What comes next, and how many of it.
        self._step: Callable[[bytes, int], int] = self._read_count
        self._then: Callable[[bytes, int], int] = self._read_sessions
        self._left = 0

    def feed(self, data: bytes) -> None:
        """
        Take the next piece.

        @raise ProtocolError: this is no image; the tree is then in no state to be used.
        """
        if self.done:
            self.rest += data
            return
        self._pieces.append(data)
        self._size += len(data)
        if self._size >= self._needed:
            self._read(b"".join(self._pieces))

    def _read(self, whole: bytes) -> None:
        self._needed = offset = 0
        step = None
        try:
            while step != self._step and not self.done:
                step = self._step
                offset = step(whole, offset)
        except UnicodeDecodeError as e:
            raise ProtocolError(f"the image is garbled: {e}") from e
        rest = whole[offset:]
        if self.done:
            self.rest = rest
            self._pieces = []
            return
        if max(self._needed, len(rest)) > self._pending_max:
            raise ProtocolError("something in the image is longer than anything can be")
        self._pieces = [rest]
        self._size = len(rest)

    # Each reads as much as there is and returns the offset behind it.

    def _read_count(self, data: bytes, offset: int) -> int:
        if len(data) < offset + _INT.size:
            return offset
        (self._left,) = _INT.unpack_from(data, offset)
        self._step = self._then
        return offset + _INT.size

    def _read_sessions(self, data: bytes, offset: int) -> int:
        count = min(max(self._left, 0), (len(data) - offset) // _SESSION.size)
        end = offset + count * _SESSION.size
        self.sessions.update(_SESSION.iter_unpack(data[offset:end]))
        self._left -= count
        if self._left <= 0:
            self._step, self._then = self._read_count, self._read_acls
        return end

    def _read_acls(self, data: bytes, offset: int) -> int:
        table = self._tree.acls
        try:
            while self._left > 0:
                offset = _load_acl(table, data, offset)
                self._left -= 1
        except error:
            return offset
        self._step = self._read_nodes
        return offset

    def _read_nodes(self, data: bytes, offset: int) -> int:
        offset = self._nodes.load(data, offset)
        if self._nodes.complete:
            self._step = self._read_signature
        else:
            self._needed = self._nodes.size_of_next(data, offset, self._field_max)
        return offset

    def _read_signature(self, data: bytes, offset: int) -> int:
        end = offset + len(_SIGNATURE)
        found = data[offset:end]
        if not _SIGNATURE.startswith(found):
            raise ProtocolError(f"the image ends with {found!r}")
        if found != _SIGNATURE:
            return offset
        self._tree.acls.purge_unused()
        self._tree.rebuild()
        self.done = True
        return end
