"""
Recorded nodes beside ours: both as comparable tuples.
"""

from __future__ import annotations

from typing import Any

from zktwisted.tree.znode import CONTAINER_OWNER, Znode, ttl_of
from zktwisted.wire.proto import ACL, Id


def acls(rows: list[dict[str, Any]]) -> tuple[ACL, ...]:
    """Return an ACL list from its JSON form."""
    return tuple(ACL(row["perms"], Id(row["scheme"], row["id"])) for row in rows)


def facts(node: Znode, *, ttls: bool) -> tuple[object, ...]:
    """
    Return everything that a recorded node says, of one of ours; its ACL list's number comes first.

    @param ttls: whether the recording ZooKeeper knew TTLs; containers and TTL nodes then have no owner to see and are
        listed apart.
    """
    hidden = node.owner == CONTAINER_OWNER or (ttls and ttl_of(node.owner) > 0)
    return (
        node.acl.index,
        None if node.data is None else node.data.hex(),
        node.acl.acls,
        *(node.czxid, node.mzxid, node.pzxid, node.ctime, node.mtime, node.version, node.cversion, node.aversion),
        0 if hidden else node.owner & 0xFFFFFFFFFFFFFFFF,
        len(node.children or ()),
    )


def expected(row: dict[str, Any]) -> tuple[object, ...]:
    """Return the same of a recorded node."""
    return (
        row["aclIndex"],
        row["data"],
        acls(row["acl"]),
        *(int(row[name], 16) for name in ("czxid", "mzxid", "pzxid")),
        *(row[name] for name in ("ctime", "mtime", "version", "cversionStored", "aversion")),
        int(row["ephemeralOwner"], 16),
        row["numChildren"],
    )


def extended(nodes: dict[bytes, Znode]) -> tuple[list[str], list[str]]:
    """Return the paths of containers and of TTL nodes, sorted."""
    paths = sorted(nodes)
    return (
        [path.decode() for path in paths if nodes[path].owner == CONTAINER_OWNER],
        [path.decode() for path in paths if ttl_of(nodes[path].owner)],
    )
