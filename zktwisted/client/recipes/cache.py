"""
A copy of a part of the tree in memory, kept up by one persistent recursive watch.

The order of answers and events is all that it takes: an answer shows every change that was told before it, and none
that is told after it.  What happens between two connections is told by nobody, so with each connection everything is
read again, and what is not there any more is dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, FirstError, gatherResults

from zktwisted.client.client import PersistentWatch, ZooKeeperClient
from zktwisted.client.states import EventType, State, WatchedEvent
from zktwisted.client.watches import call
from zktwisted.errors import (
    AuthFailedError,
    ConnectionLossError,
    KeeperError,
    NoAuthError,
    NoNodeError,
    SessionExpiredError,
)
from zktwisted.wire.proto import Stat

__all__ = ["CacheEvent", "CachedNode", "Change", "TreeCache"]

#: So many nodes are read side by side.
_AT_A_TIME = 500


class CachedNode(NamedTuple):
    """
    A node as it was last read.

    @ivar stat: of that moment: it is read again when its data change, not when children come and go, of which
        L{TreeCache.children} tells.
    """

    data: bytes | None
    stat: Stat


class Change(Enum):
    """What has become of a node."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"


class CacheEvent(NamedTuple):
    """
    A change of the copy.

    @ivar kind: what has become of the node.
    @ivar node: as it is now; as it was, for one that is gone.
    """

    kind: Change
    path: str
    node: CachedNode


class TreeCache:
    """
    All nodes from a path downwards.

    @ivar current: whether the copy follows the servers at this moment; it is of yesterday while there is no connection.
    """

    def __init__(self, client: ZooKeeperClient, path: str = "/") -> None:
        """@param path: the uppermost node; it need not be there."""
        self._client = client
        self._nodes: dict[str, CachedNode] = {}
        self._children: dict[str, dict[str, None]] = {}
        self._listeners: dict[Callable[[CacheEvent], Any], None] = {}
        self._end: Callable[[], None] | None = None
        self._watch: PersistentWatch | None = None
        self._session = 0
        self._round = 0
        self._seen: dict[str, None] | None = None
        self._ready: list[Deferred[None]] = []
        self.path = path
        self.current = False

    # -- looking

    def get(self, path: str) -> CachedNode | None:
        """Return a node, C{None} where there is none; asks no server."""
        return self._nodes.get(path)

    def children(self, path: str) -> list[str]:
        """Return the names of a node's children, in no order; asks no server."""
        return list(self._children.get(path, ()))

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, path: str) -> bool:
        return path in self._nodes

    def listen(self, listener: Callable[[CacheEvent], Any]) -> Callable[[], None]:
        """Call C{listener} with each change; the function returned ends that."""
        self._listeners[listener] = None
        return partial(self._listeners.pop, listener, None)

    # -- beginning and end

    def start(self) -> Deferred[None]:
        """
        Begin to follow.

        @return: fires when everything was read; fails if the servers do not let it, or if the client is closed.
        """
        ready: Deferred[None] = Deferred()
        if self.current:
            ready.callback(None)
            return ready
        self._ready.append(ready)
        if self._end is None:
            self._end = self._client.listen(self._state)
            if self._client.state.connected:
                self._begin()
        if self._client.ended:
            self._give_up(SessionExpiredError(path=self.path))
        return ready

    def close(self) -> Deferred[None]:
        """Follow no more; the copy stays as it is."""
        if self._end is not None:
            self._end()
            self._end = None
        self._round += 1
        self.current = False
        watch, self._watch = self._watch, None
        ready, self._ready = self._ready, []
        for waiter in ready:
            waiter.cancel()
        done: Deferred[None] = Deferred()
        if watch is None:
            done.callback(None)
            return done
        return watch.remove()

    # -- following

    def _state(self, state: State) -> None:
        self.current = False
        if state.connected:
            self._begin()
        elif self._client.ended:
            self._give_up(SessionExpiredError(path=self.path))

    def _begin(self) -> None:
        """Read everything, and drop what was not seen in doing so."""
        self._round += 1
        call(self._read_all, self._round)

    async def _read_all(self, number: int) -> None:
        client = self._client
        try:
            if self._watch is None or self._session != client.session_id:
                self._watch = None
                session = client.session_id
                watch = await client.add_watch(self.path, self._told, recursive=True)
                if number != self._round:
                    if self._end is None:
                        await watch.remove()
                    return
                self._watch, self._session = watch, session
            self._seen = {}
            paths = [self.path]
            while paths:
                asked = [Deferred.fromCoroutine(self._read_node(number, path)) for path in paths[:_AT_A_TIME]]
                found = await gatherResults(asked, consumeErrors=True)
                paths = [*paths[_AT_A_TIME:], *(child for children in found for child in children)]
        except (FirstError, KeeperError) as error:
            reason: Any = error.subFailure.value if isinstance(error, FirstError) else error
            if isinstance(reason, ConnectionLossError | SessionExpiredError | AuthFailedError):
                return  # with the next connection it begins again, if there is one
            if not self._give_up(reason):
                raise
            return
        if number == self._round:
            self._complete()

    async def _read_node(self, number: int, path: str) -> list[str]:
        """Read a node, and return the paths of its children."""
        node, names = self._client.get(path), self._client.children(path)
        names.addErrback(lambda failure: [] if failure.check(NoNodeError, NoAuthError) else failure)
        try:
            data, stat = await node
        except (NoNodeError, NoAuthError):
            if number == self._round:
                self._remove(path)
            await names
            return []
        except KeeperError:
            names.addErrback(lambda failure: None)
            raise
        if number == self._round:
            self._put(path, CachedNode(data, stat))
        prefix = path.rstrip("/")
        return [f"{prefix}/{name}" for name in await names]

    def _complete(self) -> None:
        seen, self._seen = self._seen or {}, None
        for path in [path for path in self._nodes if path not in seen]:
            self._remove(path)
        self.current = True
        ready, self._ready = self._ready, []
        for waiter in ready:
            if not waiter.called:
                waiter.callback(None)

    def _give_up(self, reason: Exception) -> bool:
        """Let those know who wait for the copy that there will be none; return whether there are any."""
        ready, self._ready = self._ready, []
        for waiter in ready:
            if not waiter.called:
                waiter.errback(reason)
        return bool(ready)

    def _told(self, event: WatchedEvent) -> None:
        if event.type is EventType.NODE_DELETED:
            self._remove(event.path)
        elif event.type is not EventType.NONE and self._end is not None:
            call(self._read_again, self._round, event.path)

    async def _read_again(self, number: int, path: str) -> None:
        try:
            data, stat = await self._client.get(path)
        except (NoNodeError, NoAuthError, ConnectionLossError, SessionExpiredError):
            return  # that it is gone is told, or everything is read again
        if number == self._round:
            self._put(path, CachedNode(data, stat))

    def _put(self, path: str, node: CachedNode) -> None:
        before = self._nodes.get(path)
        if self._seen is not None:
            self._seen[path] = None
        if before is not None and before.stat.mzxid == node.stat.mzxid and before.stat.czxid == node.stat.czxid:
            return
        self._nodes[path] = node
        if path != self.path:
            parent, _, name = path.rpartition("/")
            self._children.setdefault(parent or "/", {})[name] = None
        self._tell(Change.ADDED if before is None else Change.CHANGED, path, node)

    def _remove(self, path: str) -> None:
        if self._seen is not None:
            self._seen.pop(path, None)
        node = self._nodes.pop(path, None)
        if node is None:
            return
        parent, _, name = path.rpartition("/")
        names = self._children.get(parent or "/")
        if names is not None:
            names.pop(name, None)
            if not names:
                del self._children[parent or "/"]
        self._tell(Change.REMOVED, path, node)

    def _tell(self, kind: Change, path: str, node: CachedNode) -> None:
        for listener in list(self._listeners):
            call(listener, CacheEvent(kind, path, node))
