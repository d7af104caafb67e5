"""
Trees that can be read from one end to the other: at a server, in a directory, in a file; and two beside each other.

All of them give L{Record}s in the same order (L{zktwisted.zkt.paths.Key}), so that any two can be compared as they go,
in memory that does not grow with them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import NamedTuple, Protocol

from zktwisted.client import ACL, OPEN_ACL, ZooKeeperClient
from zktwisted.errors import KeeperError, NoAuthError, NoNodeError
from zktwisted.zkt.context import Context
from zktwisted.zkt.paths import Key, at
from zktwisted.zkt.walk import Walk

__all__ = ["LiveTree", "Pair", "Record", "Tree", "beside"]

_OWN = "/zookeeper"
"""What the servers keep for themselves: no tree has it in it, but one that begins there."""


class Record(NamedTuple):
    """
    What is kept of a node.

    @ivar key: its path below the root of its tree.
    @ivar acl: C{None} where ACLs are left out.
    @ivar kind: container or ttl, where an export says it; C{None} where nobody does: servers tell it no client.
    @ivar ttl_ms: of kind ttl.
    """

    key: Key
    data: bytes | None = None
    acl: tuple[ACL, ...] | None = OPEN_ACL
    kind: str | None = None
    ttl_ms: int = 0

    @property
    def size(self) -> int:
        """Bytes of data."""
        return len(self.data or b"")


class Tree(Protocol):
    """
    A tree that can be read.

    @ivar name: for messages.
    """

    name: str

    def records(self) -> AsyncGenerator[Record, None]:
        """Yield all nodes, in order."""

    def show(self, key: Key) -> str:
        """Return the name of a node, for messages."""


class LiveTree:
    """
    A tree at a server.

    @ivar client: connected.
    @ivar root: path of its top.
    @ivar required: whether it is an error that there is no such node; else it is a tree without nodes.
    """

    def __init__(
        self, context: Context, client: ZooKeeperClient, root: str, *, acls: bool = True, ephemerals: bool = False
    ) -> None:
        """
        @param acls: whether to read ACLs.
        @param ephemerals: whether ephemeral nodes belong to it.
        """
        self._context = context
        self._acls = acls
        self._ephemerals = ephemerals
        self.client = client
        self.root = root
        self.name = root
        self.required = True

    def show(self, key: Key) -> str:
        """See L{Tree}."""
        return at(self.root, key)

    async def records(self) -> AsyncGenerator[Record, None]:
        """See L{Tree}."""
        walk = Walk(self._context, self.client, self.root, data=True, acl=self._acls, skip=lambda path: path == _OWN)
        async with aclosing(walk.nodes()) as nodes:
            try:
                async for node in nodes:
                    if node.denied:
                        raise NoAuthError(path=walk.path(node))
                    if self._ephemerals or not node.stat.ephemeralOwner:
                        yield Record(node.key, node.data, node.acl)
            except NoNodeError:
                # Whoever mirrors what is not there would delete everything.
                if self.required:
                    raise NoNodeError(path=self.name) from None

    async def total(self) -> int | None:
        """Return how many nodes there are, about; C{None} if the server does not say."""
        try:
            return 1 + await self.client.get_all_children_number(self.root)
        except KeeperError:
            return None


class Pair(NamedTuple):
    """The same place in two trees."""

    left: Record | None
    right: Record | None

    @property
    def key(self) -> Key:
        """The place."""
        record = self.left or self.right
        assert record is not None
        return record.key

    def differences(self) -> list[str]:
        """Return in what two nodes differ: C{data}, C{acl}."""
        left, right = self.left, self.right
        if left is None or right is None:
            return []
        found = []
        if left.data != right.data:
            found.append("data")
        if left.acl is not None and right.acl is not None and set(left.acl) != set(right.acl):
            found.append("acl")
        return found


async def beside(left: Tree, right: Tree) -> AsyncGenerator[Pair, None]:
    """Yield every place that is in one tree or in both, in order."""
    async with aclosing(left.records()) as lefts, aclosing(right.records()) as rights:
        one, other = await _next(lefts), await _next(rights)
        while one is not None or other is not None:
            if other is None or (one is not None and one.key < other.key):
                yield Pair(one, None)
                one = await _next(lefts)
            elif one is None or other.key < one.key:
                yield Pair(None, other)
                other = await _next(rights)
            else:
                yield Pair(one, other)
                one, other = await _next(lefts), await _next(rights)


async def _next(records: AsyncIterator[Record]) -> Record | None:
    try:
        return await anext(records)
    except StopAsyncIteration:
        return None
