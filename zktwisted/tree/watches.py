"""
Watches: who is to be told what, and the bytes that tell it.

Knows two tables (data and child) of paths and watchers, the three modes, and which events a change of the tree makes
for whom.  Refuses to know what a watcher is (any hashable object; here a connection), whether it may read what it
would be told, and how the bytes reach it: the caller filters and delivers.

Paths are bytes as clients write them, the root being C{b"/"}.  Watchers are always told in the order in which they
registered: nothing here iterates over a set.

Rules: spec: server-semantics 6.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from struct import Struct
from typing import Final

from zktwisted.errors import Code, KeeperError

__all__ = [
    "ANY",
    "CHILDREN",
    "DATA",
    "NODE_CHILDREN_CHANGED",
    "NODE_CREATED",
    "NODE_DATA_CHANGED",
    "NODE_DELETED",
    "PERSISTENT",
    "PERSISTENT_RECURSIVE",
    "Watches",
    "encode_event",
]

# EventType on the wire.
NODE_CREATED: Final = 1
NODE_DELETED: Final = 2
NODE_DATA_CHANGED: Final = 3
NODE_CHILDREN_CHANGED: Final = 4

# Watcher type of checkWatches and removeWatches.
CHILDREN: Final = 1
DATA: Final = 2
ANY: Final = 3
PERSISTENT: Final = 4
PERSISTENT_RECURSIVE: Final = 5

# The modes that one watcher may have on one path of one table, side by side.
_STANDARD: Final = 1
_PERSISTENT: Final = 2
_RECURSIVE: Final = 4

# A whole event frame up to the text of the path: length, ReplyHeader(xid -1, zxid, err 0), type, state 3
# (SyncConnected), length of the path.
_pack_event = Struct(">iiqiiii").pack
_EVENT_HEAD = 28


def encode_event(type_: int, path: bytes, zxid: int) -> bytes:
    """
    Return the whole frame of a notification, its length field included.

    @param type_: one of the C{NODE_*} constants.
    @param path: as the client knows it: the root is C{b"/"}.
    @param zxid: of the transaction that caused it; -1 when no single one did (setWatches).
    """
    size = len(path)
    return _pack_event(_EVENT_HEAD + size, -1, zxid, 0, type_, 3, size) + path


class _Table:
    """
    One table: path to the watchers on it, watcher to the paths it watches.

    One dict per path keeps the watchers in order of registration and their modes in one small int; the second
    index is what makes closing a connection cheap.
    """

    __slots__ = ("by_path", "by_watcher", "count", "recursive")

    def __init__(self) -> None:
        self.by_path: dict[bytes, dict[Hashable, int]] = {}
        self.by_watcher: dict[Hashable, dict[bytes, None]] = {}
        # (path, watcher) pairs.
        self.count = 0
        # Pairs with the recursive mode: while there is none, no trigger walks up the path.
        self.recursive = 0

    def add(self, path: bytes, watcher: Hashable, mode: int) -> None:
        watchers = self.by_path.get(path)
        if watchers is None:
            watchers = self.by_path[path] = {}
        modes = watchers.get(watcher, 0)
        if modes & mode:
            return
        watchers[watcher] = modes | mode
        if mode == _RECURSIVE:
            self.recursive += 1
        if not modes:
            self.count += 1
            paths = self.by_watcher.get(watcher)
            if paths is None:
                self.by_watcher[watcher] = {path: None}
            else:
                paths[path] = None

    def modes(self, path: bytes, watcher: Hashable) -> int:
        watchers = self.by_path.get(path)
        return watchers.get(watcher, 0) if watchers is not None else 0

    def discard(self, path: bytes, watcher: Hashable, mode: int) -> bool:
        """Take modes away and tell whether one of them was there."""
        watchers = self.by_path.get(path)
        modes = watchers.get(watcher, 0) if watchers is not None else 0
        if watchers is None or not modes & mode:
            return False
        if modes & mode & _RECURSIVE:
            self.recursive -= 1
        left = modes & ~mode
        if left:
            watchers[watcher] = left
        else:
            del watchers[watcher]
            if not watchers:
                del self.by_path[path]
            self._forget(path, watcher)
        return True

    def _forget(self, path: bytes, watcher: Hashable) -> None:
        """A watcher has no mode left on a path: what is left to do after taking it out of C{by_path}."""
        self.count -= 1
        by_watcher = self.by_watcher
        paths = by_watcher[watcher]
        if len(paths) == 1:
            del by_watcher[watcher]
        else:
            del paths[path]

    def remove_watcher(self, watcher: Hashable) -> None:
        by_path = self.by_path
        for path in self.by_watcher.pop(watcher, ()):
            watchers = by_path[path]
            if watchers.pop(watcher) & _RECURSIVE:
                self.recursive -= 1
            self.count -= 1
            if not watchers:
                del by_path[path]

    def trigger(self, path: bytes) -> dict[Hashable, int] | None:
        """
        Return who watches exactly this path, and take the standard mode away from all of them.

        The result is the caller's until the next call; its values are of no use.
        """
        watchers = self.by_path.get(path)
        if watchers is None:
            return None
        lasting = False
        for modes in watchers.values():
            if modes != _STANDARD:
                lasting = True
                break
        if not lasting:
            # The common case: nothing but one-shot watches, and the whole entry goes.
            del self.by_path[path]
            self.count -= len(watchers)
            by_watcher = self.by_watcher
            for watcher in watchers:
                paths = by_watcher[watcher]
                if len(paths) == 1:
                    del by_watcher[watcher]
                else:
                    del paths[path]
            return watchers
        told = watchers.copy()
        for watcher, modes in told.items():
            if modes == _STANDARD:
                del watchers[watcher]
                self._forget(path, watcher)
            elif modes & _STANDARD:
                watchers[watcher] = modes & ~_STANDARD
        return told


class Watches:
    """
    All watches of one server.

    A trigger returns lists of watchers, or C{None} where nobody is to be told.  One watcher stands in one list at
    most once.

    @ivar data: the data table (getData, exists, addWatch).
    @ivar child: the child table (getChildren, persistent addWatch).
    """

    __slots__ = ("child", "data")

    def __init__(self) -> None:
        self.data = _Table()
        self.child = _Table()

    # Registration

    def add_data(self, path: bytes, watcher: Hashable) -> None:
        """Register what getData and exists ask for."""
        self.data.add(path, watcher, _STANDARD)

    def add_child(self, path: bytes, watcher: Hashable) -> None:
        """Register what getChildren asks for."""
        self.child.add(path, watcher, _STANDARD)

    def add_persistent(self, path: bytes, watcher: Hashable) -> None:
        """Register addWatch mode 0: data and children of the path, until removed."""
        self.data.add(path, watcher, _PERSISTENT)
        self.child.add(path, watcher, _PERSISTENT)

    def add_recursive(self, path: bytes, watcher: Hashable) -> None:
        """Register addWatch mode 1: data of the path and of everything below it, until removed."""
        self.data.add(path, watcher, _RECURSIVE)

    def add_watch(self, path: bytes, watcher: Hashable, mode: int) -> None:
        """
        Register an addWatch request.

        @raise KeeperError: MARSHALLINGERROR for an unknown mode.
        """
        if mode == 0:
            self.add_persistent(path, watcher)
        elif mode == 1:
            self.add_recursive(path, watcher)
        else:
            raise KeeperError(Code.MARSHALLINGERROR)

    # Triggers

    def _data_watchers(self, path: bytes) -> dict[Hashable, int] | None:
        data = self.data
        told = data.trigger(path) if path in data.by_path else None
        if not data.recursive:
            return told
        return _with_ancestors(data.by_path, path, told)

    def created(self, path: bytes, parent: bytes) -> tuple[Iterable[Hashable] | None, Iterable[Hashable] | None]:
        """
        A node came to be.

        @return: who gets NodeCreated(path), who gets NodeChildrenChanged(parent); in this order.
        """
        told = self._data_watchers(path) if self.data.by_path else None
        by_path = self.child.by_path
        return told, (self.child.trigger(parent) if parent in by_path else None)

    def changed(self, path: bytes) -> Iterable[Hashable] | None:
        """
        A node has new data.

        @return: who gets NodeDataChanged(path).
        """
        return self._data_watchers(path) if self.data.by_path else None

    def deleted(self, path: bytes, parent: bytes) -> tuple[Iterable[Hashable] | None, Iterable[Hashable] | None]:
        """
        A node is gone.

        @return: who gets NodeDeleted(path): those of the data table, then those of the child table that were not
            among them; and who gets NodeChildrenChanged(parent); in this order.
        """
        told = self._data_watchers(path) if self.data.by_path else None
        child = self.child
        if not child.by_path:
            return told, None
        others = child.trigger(path) if path in child.by_path else None
        if others is not None:
            # dict union keeps the place of keys that are there already, and nobody is told twice.
            told = others if told is None else told | others
        return told, (child.trigger(parent) if parent in child.by_path else None)

    # Removal

    def remove_watcher(self, watcher: Hashable) -> None:
        """Forget everything of a watcher: its connection closed."""
        self.data.remove_watcher(watcher)
        self.child.remove_watcher(watcher)

    def check(self, path: bytes, watcher: Hashable, type_: int) -> bool:
        """
        Answer checkWatches: does the watcher have such a watch on the path?

        @raise KeeperError: MARSHALLINGERROR for an unknown type.
        """
        if type_ == DATA:
            return bool(self.data.modes(path, watcher) & _STANDARD)
        if type_ == CHILDREN:
            return bool(self.child.modes(path, watcher) & _STANDARD)
        if type_ == ANY:
            return bool(self.data.modes(path, watcher) or self.child.modes(path, watcher))
        if type_ == PERSISTENT:
            return bool(self.data.modes(path, watcher) & _PERSISTENT)
        if type_ == PERSISTENT_RECURSIVE:
            return bool(self.data.modes(path, watcher) & _RECURSIVE)
        raise KeeperError(Code.MARSHALLINGERROR)

    def remove(self, path: bytes, watcher: Hashable, type_: int) -> bool:
        """
        Do removeWatches; tell whether there was anything to remove (if not, the answer is NOWATCHER).

        @raise KeeperError: MARSHALLINGERROR for an unknown type.
        """
        if not self.check(path, watcher, type_):
            return False
        if type_ == CHILDREN:
            self.child.discard(path, watcher, _STANDARD)
        elif type_ == DATA:
            self.data.discard(path, watcher, _STANDARD)
        elif type_ == ANY:
            self.data.discard(path, watcher, _STANDARD | _PERSISTENT | _RECURSIVE)
            self.child.discard(path, watcher, _STANDARD | _PERSISTENT | _RECURSIVE)
        elif type_ == PERSISTENT:
            self.data.discard(path, watcher, _PERSISTENT)
            self.child.discard(path, watcher, _PERSISTENT)
        else:
            self.data.discard(path, watcher, _RECURSIVE)
        return True

    # setWatches

    def set_watches(
        self,
        watcher: Hashable,
        relative_zxid: int,
        lists: Sequence[Sequence[bytes] | None],
        zxids: Callable[[bytes], tuple[int, int] | None],
    ) -> list[tuple[int, bytes]]:
        """
        Register what a reconnected client still wants, and find what it missed.

        @param relative_zxid: the last zxid that the client has seen.
        @param lists: data, exist and child paths; persistent and recursive ones if the request is setWatches2.
        @param zxids: gives (mzxid, pzxid) of the node at a path as clients write it, C{None} if there is none.

        @return: (event type, path) of the events to send at once, in order, unfiltered, with zxid -1.

        @raise KeeperError: MARSHALLINGERROR for a null list; what stood before it is registered.
        """
        events: list[tuple[int, bytes]] = []
        for which, paths in enumerate(lists):
            if paths is None:
                raise KeeperError(Code.MARSHALLINGERROR)
            for path in paths:
                event = self._set_watch(which, path, watcher, relative_zxid, zxids)
                if event:
                    events.append((event, path))
        return events

    def _set_watch(
        self,
        which: int,
        path: bytes,
        watcher: Hashable,
        relative_zxid: int,
        zxids: Callable[[bytes], tuple[int, int] | None],
    ) -> int:
        """Treat one path of setWatches and return the type of the event that it makes, 0 for none."""
        if which == 3:
            self.add_persistent(path, watcher)
            return 0
        if which == 4:
            self.add_recursive(path, watcher)
            return 0
        found = zxids(path)
        if which == 1:
            if found is not None:
                return NODE_CREATED
            self.add_data(path, watcher)
            return 0
        if found is None:
            return NODE_DELETED
        mzxid, pzxid = found
        if which == 0:
            if mzxid > relative_zxid:
                return NODE_DATA_CHANGED
            self.add_data(path, watcher)
            return 0
        if pzxid > relative_zxid:
            return NODE_CHILDREN_CHANGED
        self.add_child(path, watcher)
        return 0

    # Inspection

    @property
    def count(self) -> int:
        """How many watches there are: pairs of path and watcher, both tables together."""
        return self.data.count + self.child.count

    def summary(self) -> tuple[int, int, int]:
        """Return what C{wchs} tells of the data table: watchers, paths, watches."""
        return len(self.data.by_watcher), len(self.data.by_path), self.data.count

    def by_watcher(self) -> Iterator[tuple[Hashable, list[bytes]]]:
        """Give each watcher of the data table and its paths: C{wchc}."""
        for watcher, paths in self.data.by_watcher.items():
            yield watcher, list(paths)

    def by_path(self) -> Iterator[tuple[bytes, list[object]]]:
        """Give each path of the data table and its watchers: C{wchp}."""
        for path, watchers in self.data.by_path.items():
            yield path, list(watchers)


def _with_ancestors(
    by_path: dict[bytes, dict[Hashable, int]], path: bytes, told: dict[Hashable, int] | None
) -> dict[Hashable, int] | None:
    """Add to those who watch a path the recursive watchers of its ancestors, the nearest first, the root last."""
    found = None
    above = path
    while len(above) > 1:
        above = above[: above.rfind(b"/")] or b"/"
        watchers = by_path.get(above)
        if watchers is not None:
            for watcher, modes in watchers.items():
                if modes & _RECURSIVE:
                    if found is None:
                        found = {} if told is None else told.copy()
                    found[watcher] = modes
    return told if found is None else found
