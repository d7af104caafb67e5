"""
A walk through a tree of nodes: every node, in one order, with many reads under way and bounded memory.

The order is that of paths, name by name (L{zktwisted.zkt.paths.Key}): a node stands before what is below it,
and there names are sorted.  Two walks in this order can be compared as they go.

What is kept: the names of the children that are still to come on the way down, and at most so many nodes read ahead.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred

from zktwisted.client import ACL, Stat, ZooKeeperClient
from zktwisted.errors import NoAuthError, NoNodeError
from zktwisted.zkt.context import Context, steady
from zktwisted.zkt.paths import Key, at, join
from zktwisted.zkt.pipeline import ignored

__all__ = ["Node", "Walk"]

_UNKNOWN = Stat(*(0 for _ in Stat._fields))
_AHEAD = 128
"""Nodes that are read before somebody wants them."""


class Node(NamedTuple):
    """
    A node as a walk found it.

    @ivar key: its path below the walk's root.
    @ivar data: C{None} also where it was not asked for.
    @ivar acl: likewise.
    @ivar children: their names, sorted.
    @ivar denied: whether its ACL does not let us read it; then nothing is known of it.
    """

    key: Key
    stat: Stat
    data: bytes | None = None
    acl: tuple[ACL, ...] | None = None
    children: tuple[str, ...] = ()
    denied: bool = False


class _Pending:
    """A node that is still to come, and what was asked about it."""

    __slots__ = ("asked", "key", "path")

    def __init__(self, path: str, key: Key) -> None:
        self.path = path
        self.key = key
        self.asked: Deferred[Node | None] | None = None


class Walk:
    """
    One walk.

    @ivar known: how many nodes have been met so far, those that are still to come among them.
    """

    def __init__(
        self,
        context: Context,
        client: ZooKeeperClient,
        root: str,
        *,
        data: bool = False,
        acl: bool = False,
        depth: int | None = None,
        skip: Callable[[str], bool] | None = None,
    ) -> None:
        """
        @param root: path of the node where it begins.
        @param data: whether to read data.
        @param acl: whether to read ACLs.
        @param depth: how many levels below the root to look at.
        @param skip: says of paths whether they, and what is below them, are left out.
        """
        self._context = context
        self._client = client
        self._root = root
        self._data = data
        self._acl = acl
        self._depth = depth
        self._skip = skip or (lambda path: False)
        self._stack = [_Pending(root, ())]
        self._ahead = 0
        self.known = 1

    async def nodes(self) -> AsyncGenerator[Node, None]:
        """
        Yield every node.  Those that go away meanwhile are left out.

        @raise NoNodeError: there is no root.
        """
        stack = self._stack
        try:
            while stack:
                self._read_ahead()
                pending = stack.pop()
                assert pending.asked is not None
                try:
                    node = await pending.asked
                finally:
                    self._ahead -= 1
                if node is None:
                    if not pending.key:
                        raise NoNodeError(path=self._root)
                    continue
                for name in reversed(node.children):
                    path = join(pending.path, name)
                    if not self._skip(path):
                        stack.append(_Pending(path, (*node.key, name)))
                        self.known += 1
                yield node
        finally:
            for pending in stack:
                if pending.asked is not None:
                    ignored(pending.asked)

    def _read_ahead(self) -> None:
        """Ask about the next nodes, of which the very next has to be asked about."""
        for pending in reversed(self._stack[-_AHEAD:]):
            if pending.asked is None:
                if self._ahead >= _AHEAD and pending is not self._stack[-1]:
                    return
                self._ahead += 1
                pending.asked = Deferred.fromCoroutine(self._read(pending.path, pending.key))

    async def _read(self, path: str, key: Key) -> Node | None:
        ask = self._steady
        try:
            acl = Deferred.fromCoroutine(ask(self._client.get_acl, path)) if self._acl else None
            try:
                if self._data:
                    data, stat = await ask(self._client.get, path)
                else:
                    data, stat = None, await ask(self._client.exists, path)
                    if stat is None:
                        raise NoNodeError(path=path)
                children: list[str] = []
                if stat.numChildren and (self._depth is None or len(key) < self._depth):
                    children = await ask(self._client.children, path)
            except BaseException:
                if acl is not None:
                    ignored(acl)
                raise
            entries = None if acl is None else tuple((await acl).acl or ())
        except NoNodeError:
            return None
        except NoAuthError:
            return Node(key, _UNKNOWN, denied=True)
        return Node(key, stat, data, entries, tuple(sorted(children)))

    async def _steady(self, ask: Callable[..., Any], path: str) -> Any:
        return await steady(self._context, self._client, ask, path)

    def path(self, node: Node) -> str:
        """Return the path of a node of this walk."""
        return at(self._root, node.key)
