"""
The watches of a client: who is to be told what, and how a new connection learns of them.

A server forgets the watches of a connection with it; the client sets them again at the next one, and the server then
tells at once what has changed since the zxid up to which the client was told everything.  Paths are the server's, as
bytes.

Rules: spec: client-protocol 3.4, 4.2; server-semantics 6.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from zktwisted.client.states import EventType, WatchedEvent
from zktwisted.wire import jute, ops, proto
from zktwisted.wire.frames import FRAME

__all__ = ["CHILD", "DATA", "EXIST", "PERSISTENT", "RECURSIVE", "Watcher", "Watches", "call"]

log = Logger()

Watcher = Callable[[WatchedEvent], Any]
"""Who is told; it may be an C{async def}."""

DATA, EXIST, CHILD, PERSISTENT, RECURSIVE = range(5)
"""The kinds of watches, in the order in which SetWatches2 has them."""

#: Which one-shot watches an event ends.
_ENDS = {
    EventType.NODE_CREATED: (DATA, EXIST),
    EventType.NODE_DATA_CHANGED: (DATA, EXIST),
    EventType.NODE_DELETED: (DATA, EXIST, CHILD),
    EventType.NODE_CHILDREN_CHANGED: (CHILD,),
}
#: What the kinds of checkWatches and removeWatches stand for.
_MEANS = {
    ops.WatcherType.CHILDREN: (CHILD,),
    ops.WatcherType.DATA: (DATA, EXIST),
    ops.WatcherType.ANY: (DATA, EXIST, CHILD, PERSISTENT, RECURSIVE),
    ops.WatcherType.PERSISTENT: (PERSISTENT,),
    ops.WatcherType.PERSISTENT_RECURSIVE: (RECURSIVE,),
}
_CHUNK = 128 * 1024


def call(function: Callable[..., Any], *arguments: Any) -> None:
    """Call a function of the program's; what goes wrong in it is logged and ends nothing else."""
    try:
        result = function(*arguments)
    except Exception:  # noqa: BLE001 (it is the program's, and others wait to be told)
        log.failure("in {function}", function=function)
        return
    if isinstance(result, Coroutine):
        result = Deferred.fromCoroutine(result)
    if isinstance(result, Deferred):
        result.addErrback(lambda failure: log.failure("in {function}", failure, function=function))


class Watches:
    """All watches of one session."""

    def __init__(self, name: Callable[[bytes], str]) -> None:
        """@param name: makes a server's path the program's."""
        self._name = name
        self._kinds: tuple[dict[bytes, dict[Watcher, None]], ...] = ({}, {}, {}, {}, {})

    def __len__(self) -> int:
        return sum(len(watchers) for paths in self._kinds for watchers in paths.values())

    def add(self, kind: int, path: bytes, watcher: Watcher) -> None:
        """Remember who is to be told; the same one twice is told once."""
        self._kinds[kind].setdefault(path, {})[watcher] = None

    def has(self, kind: int, path: bytes, watcher: Watcher | None = None) -> bool:
        """Whether anybody, or this one, is to be told."""
        watchers = self._kinds[kind].get(path, {})
        return bool(watchers) if watcher is None else watcher in watchers

    def any_at(self, path: bytes) -> bool:
        """Whether anybody watches this path, in whatever way."""
        return any(path in paths for paths in self._kinds)

    def remove(self, kind: int, path: bytes, watcher: Watcher) -> None:
        """Forget one."""
        watchers = self._kinds[kind].get(path)
        if watchers is not None:
            watchers.pop(watcher, None)
            if not watchers:
                del self._kinds[kind][path]

    def drop(self, path: bytes, kind: ops.WatcherType) -> None:
        """Forget all that a removeWatches of this kind means."""
        for each in _MEANS[kind]:
            self._kinds[each].pop(path, None)

    def fire(self, event: int, path: bytes, zxid: int) -> None:
        """Tell all whom an event concerns, in the order in which they came."""
        kind = EventType(event)
        told: dict[Watcher, None] = {}
        for each in _ENDS[kind]:
            told |= self._kinds[each].pop(path, {})
        told |= self._kinds[PERSISTENT].get(path, {})
        recursive = self._kinds[RECURSIVE]
        if recursive and kind is not EventType.NODE_CHILDREN_CHANGED:
            for above in _upwards(path):
                told |= recursive.get(above, {})
        if told:
            what = WatchedEvent(kind, self._name(path), zxid)
            for watcher in told:
                call(watcher, what)

    def end(self) -> None:
        """The session is over: tell everybody that he will be told nothing more."""
        ended, self._kinds = self._kinds, ({}, {}, {}, {}, {})
        for paths in ended:
            for path, watchers in paths.items():
                for watcher in watchers:
                    call(watcher, WatchedEvent(EventType.NONE, self._name(path)))

    def requests(self, zxid: int, max_frame: int) -> list[bytes]:
        """
        Return the frames that set all watches at a new connection.

        @param zxid: up to it everything was told.
        @param max_frame: bytes that a frame may have (C{jute.maxbuffer}).
        """
        limit = min(_CHUNK, max_frame - 64)
        frames = []
        kinds: tuple[list[bytes], ...] = ([], [], [], [], [])
        size = 0
        for kind, paths in enumerate(self._kinds):
            for path in paths:
                if size and size + len(path) + 4 > limit:
                    frames.append(_set_watches(zxid, kinds))
                    kinds, size = ([], [], [], [], []), 0
                kinds[kind].append(path)
                size += len(path) + 4
        if size:
            frames.append(_set_watches(zxid, kinds))
        return frames


def _set_watches(zxid: int, kinds: tuple[list[bytes], ...]) -> bytes:
    """Return one frame; servers before 3.6 understand it as long as there are no persistent watches in it."""
    if kinds[PERSISTENT] or kinds[RECURSIVE]:
        op, body = ops.SET_WATCHES2, jute.encode(proto.SetWatches2(zxid, *kinds))
    else:
        op, body = ops.SET_WATCHES, jute.encode(proto.SetWatches(zxid, *kinds[:PERSISTENT]))
    return FRAME.pack(len(body) + 8, ops.XID_SET_WATCHES, op) + body


def _upwards(path: bytes) -> Iterator[bytes]:
    """Yield a path and all that are above it, to the root."""
    yield path
    while len(path) > 1:
        path = path[: path.rindex(b"/")] or b"/"
        yield path
