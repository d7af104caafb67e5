"""
One znode: its data, ACL, stat fields and children.

Knows how a node looks to a client (the packed Stat) and how it counts in the tree digest.
Refuses to know paths, parents, and who may touch it.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, ClassVar
from zlib import crc32

if TYPE_CHECKING:
    from zktwisted.tree.acl import AclList

__all__ = [
    "CONTAINER_OWNER",
    "TTL_MASK",
    "TTL_MAX",
    "Znode",
    "digest_of",
    "is_ephemeral",
    "pack_stat",
    "pack_stored",
    "ttl_of",
]

#: Stored ephemeralOwner of a container, 0x8000000000000000 as a signed long (spec: server-semantics 1.2).
CONTAINER_OWNER = -(1 << 63)
#: Top byte 0xFF: an extended owner; below it 16 bits of feature (0 = TTL) and 40 bits of value.
TTL_MASK = -(1 << 56)
#: Largest TTL in ms, 40 bits.
TTL_MAX = 0xFFFFFFFFFF

#: czxid, mzxid, ctime, mtime, version, cversion, aversion, ephemeralOwner, dataLength, numChildren, pzxid.
pack_stat = Struct(">qqqqiiiqiiq").pack
#: czxid, mzxid, pzxid, ctime, mtime, version, cversion, aversion, owner: what of a node counts in its digest.
pack_stored = Struct(">qqqqqiiiq").pack
#: Data up to this size is copied to be digested: one long checksum costs less than three calls.
_JOIN_MAX = 2048


def ttl_of(owner: int) -> int:
    """Return the TTL in ms that an ephemeralOwner stands for, or 0 if it is no TTL node's."""
    if owner < 0 and owner & TTL_MASK == TTL_MASK and not (owner >> 40) & 0xFFFF:
        return owner & TTL_MAX
    return 0


def is_ephemeral(owner: int) -> bool:
    """
    Say whether an ephemeralOwner is a session id.

    Owners under 0xFF are never taken for sessions, also when extended types are switched off: nodes must not be
    destroyed because of a setting (spec: storage 4, trap of step 7).
    """
    return owner != 0 and owner != CONTAINER_OWNER and (owner > 0 or owner & TTL_MASK != TTL_MASK)


def digest_of(path: bytes, data: bytes | None, stored: bytes) -> int:
    """
    Return a node's digest: CRC-32 over path, data and stored stat (spec: storage 6).

    @param path: as a tree key, the root being C{b""}; none below C{/zookeeper}, those do not count.
    @param stored: what L{pack_stored} makes.
    """
    if not data:
        return crc32(path + stored)
    if len(data) <= _JOIN_MAX:
        return crc32(path + data + stored)
    return crc32(stored, crc32(data, crc32(path)))


def _int32(value: int) -> int:
    return (value + 0x80000000 & 0xFFFFFFFF) - 0x80000000


class Znode:
    """
    One node of the tree.

    @ivar data: its content; C{None} and C{b""} are different values.
    @ivar acl: its interned ACL list.
    @ivar cversion: the I{stored} value: children ever created (spec: server-semantics 1.1).
    @ivar owner: the I{stored} ephemeralOwner, signed.
    @ivar children: names of children in creation order, C{None} for none.
    @ivar packed: the 68 bytes of its Stat as clients see it, C{None} when a change made them stale.
    @ivar digest: what the node adds to the tree digest.
    @cvar exists: whether there is such a node, or will be: of what is pending some are on their way out.
    """

    exists: ClassVar[bool] = True

    __slots__ = (
        "acl",
        "aversion",
        "children",
        "ctime",
        "cversion",
        "czxid",
        "data",
        "digest",
        "mtime",
        "mzxid",
        "owner",
        "packed",
        "pzxid",
        "version",
    )

    def __init__(
        self,
        data: bytes | None,
        acl: AclList,
        czxid: int = 0,
        mzxid: int = 0,
        ctime: int = 0,
        mtime: int = 0,
        version: int = 0,
        cversion: int = 0,
        aversion: int = 0,
        owner: int = 0,
        pzxid: int = 0,
    ) -> None:
        self.data = data
        self.acl = acl
        self.czxid = czxid
        self.mzxid = mzxid
        self.ctime = ctime
        self.mtime = mtime
        self.version = version
        self.cversion = cversion
        self.aversion = aversion
        self.owner = owner
        self.pzxid = pzxid
        self.children: dict[bytes, None] | None = None
        self.packed: bytes | None = None
        self.digest = 0

    def stat(self) -> bytes:
        """Return the Stat record as clients see it: 68 bytes, cached until the next change."""
        packed = self.packed
        if packed is None:
            children = self.children
            count = len(children) if children else 0
            data = self.data
            owner = self.owner
            cversion = 2 * self.cversion - count
            packed = self.packed = pack_stat(
                self.czxid,
                self.mzxid,
                self.ctime,
                self.mtime,
                self.version,
                cversion if -0x80000000 <= cversion <= 0x7FFFFFFF else _int32(cversion),
                self.aversion,
                owner if owner == 0 or is_ephemeral(owner) else 0,
                len(data) if data else 0,
                count,
                self.pzxid,
            )
        return packed

    def compute_digest(self, path: bytes) -> int:
        """
        Return the node's digest, 0 for the server's own nodes (spec: storage 6).

        @param path: the path as a tree key, the root being C{b""}.
        """
        if path.startswith(b"/zookeeper/"):
            return 0
        return digest_of(
            path,
            self.data,
            pack_stored(
                self.czxid,
                self.mzxid,
                self.pzxid,
                self.ctime,
                self.mtime,
                self.version,
                self.cversion,
                self.aversion,
                self.owner,
            ),
        )
