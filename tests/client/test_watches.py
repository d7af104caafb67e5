"""Who is told what, and how a new connection learns of the watches."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from zktwisted.client.states import EventType, WatchedEvent
from zktwisted.client.watches import CHILD, DATA, EXIST, PERSISTENT, RECURSIVE, Watches
from zktwisted.wire import jute, ops, proto
from zktwisted.wire.frames import FRAME
from zktwisted.wire.ops import WatcherType

CREATED, DELETED, CHANGED, CHILDREN = 1, 2, 3, 4
KINDS = (DATA, EXIST, CHILD, PERSISTENT, RECURSIVE)


class WatchesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.watches = Watches(lambda path: path.decode())
        self.told: list[Any] = []

    def watcher(self, name: object) -> Any:
        return lambda event: self.told.append((name, event))

    def told_by(self, event: int, path: bytes) -> list[object]:
        """Return whose watches at /a are told of an event; those that were told are over if they are one-shot."""
        self.told.clear()
        self.watches.fire(event, path, 9)
        return [name for name, _ in self.told]

    def test_who_is_told(self) -> None:
        """Each kind of watch is told of its events, and one-shot watches once."""
        for event, path, expected in (
            (CREATED, b"/a", [DATA, EXIST, PERSISTENT, RECURSIVE]),
            (CHANGED, b"/a", [DATA, EXIST, PERSISTENT, RECURSIVE]),
            (DELETED, b"/a", [DATA, EXIST, CHILD, PERSISTENT, RECURSIVE]),
            (CHILDREN, b"/a", [CHILD, PERSISTENT]),
            (CREATED, b"/a/b", [RECURSIVE]),
            (CHILDREN, b"/a/b", []),
            (DELETED, b"/a/b/c", [RECURSIVE]),
            (CREATED, b"/ab", []),
            (CREATED, b"/", []),
        ):
            self.watches = Watches(lambda path: path.decode())
            for kind in KINDS:
                self.watches.add(kind, b"/a", self.watcher(kind))
            self.assertEqual(expected, self.told_by(event, path), (event, path))
            again = [kind for kind in expected if kind in (PERSISTENT, RECURSIVE)]
            self.assertEqual(again, self.told_by(event, path), (event, path))

    def test_root(self) -> None:
        """A recursive watch on the root is told of everything."""
        self.watches.add(RECURSIVE, b"/", self.watcher("root"))
        for path in (b"/", b"/a", b"/a/b"):
            self.assertEqual(["root"], self.told_by(CHANGED, path))
        self.assertEqual(WatchedEvent(EventType.NODE_DATA_CHANGED, "/a/b", 9), self.told[0][1])

    def test_one_watcher_is_told_once(self) -> None:
        """However many watches it has on what happened."""
        watcher = self.watcher("it")
        for kind in KINDS:
            self.watches.add(kind, b"/a", watcher)
        self.watches.add(DATA, b"/a", watcher)
        self.assertEqual(5, len(self.watches))
        self.assertEqual(["it"], self.told_by(DELETED, b"/a"))

    def test_a_watcher_may_fail(self) -> None:
        """It is logged, and the others are told."""

        def fails(event: WatchedEvent) -> None:
            raise ZeroDivisionError

        async def fails_later(event: WatchedEvent) -> None:
            raise KeyError

        for watcher in (fails, fails_later, self.watcher("last")):
            self.watches.add(DATA, b"/a", watcher)
        self.assertEqual(["last"], self.told_by(CHANGED, b"/a"))
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.assertEqual(1, len(self.flushLoggedErrors(KeyError)))

    def test_a_watcher_may_be_a_coroutine(self) -> None:
        """It runs."""

        async def watcher(event: WatchedEvent) -> None:
            self.told.append(("coroutine", event))

        self.watches.add(DATA, b"/a", watcher)
        self.assertEqual(["coroutine"], self.told_by(CHANGED, b"/a"))

    def test_set_again_by_who_was_told(self) -> None:
        """A watch that is set while another is told is not told the same."""
        self.watches.add(DATA, b"/a", lambda event: self.watches.add(DATA, b"/a", self.watcher("next")))
        self.assertEqual([], self.told_by(CHANGED, b"/a"))
        self.assertEqual(["next"], self.told_by(CHANGED, b"/a"))

    def test_end(self) -> None:
        """At the end of a session all are told that it is, and none is left."""
        for kind in KINDS:
            self.watches.add(kind, b"/%d" % kind, self.watcher(kind))
        self.watches.end()
        self.assertEqual(
            [(kind, WatchedEvent(EventType.NONE, f"/{kind}", -1)) for kind in KINDS], self.told
        )
        self.assertEqual(0, len(self.watches))

    def test_removal(self) -> None:
        """Each kind that can be named takes away what it means; others stay."""
        for kind, gone in (
            (WatcherType.DATA, {DATA, EXIST}),
            (WatcherType.CHILDREN, {CHILD}),
            (WatcherType.PERSISTENT, {PERSISTENT}),
            (WatcherType.PERSISTENT_RECURSIVE, {RECURSIVE}),
            (WatcherType.ANY, {*KINDS}),
        ):
            for each in KINDS:
                self.watches.add(each, b"/a", self.watcher(each))
            self.watches.drop(b"/a", kind)
            self.assertEqual({*KINDS} - gone, {each for each in KINDS if self.watches.has(each, b"/a")})
        self.assertFalse(self.watches.any_at(b"/a"))

    def test_remove_one(self) -> None:
        """Of two watchers one goes, and the other is still told."""
        one, other = self.watcher(1), self.watcher(2)
        self.watches.add(PERSISTENT, b"/a", one)
        self.watches.add(PERSISTENT, b"/a", other)
        self.watches.remove(PERSISTENT, b"/a", one)
        self.watches.remove(PERSISTENT, b"/b", one)
        self.assertFalse(self.watches.has(PERSISTENT, b"/a", one))
        self.assertEqual([2], self.told_by(CHANGED, b"/a"))
        self.watches.remove(PERSISTENT, b"/a", other)
        self.assertEqual(0, len(self.watches))

    # -- for a new connection

    def decoded(self, frame: bytes) -> tuple[int, Any]:
        length, xid, op = FRAME.unpack_from(frame)
        self.assertEqual((len(frame) - 4, ops.XID_SET_WATCHES), (length, xid))
        kind = proto.SetWatches if op == ops.SET_WATCHES else proto.SetWatches2
        return op, jute.decode(kind, frame, 12)[0]

    def test_old_servers_understand_one_shot_watches(self) -> None:
        """The newer request is only sent for the watches that need it."""
        self.assertEqual([], self.watches.requests(5, 1000))
        self.watches.add(DATA, b"/a", print)
        self.watches.add(EXIST, b"/b", print)
        self.watches.add(CHILD, b"/c", print)
        (frame,) = self.watches.requests(5, 1000)
        self.assertEqual((ops.SET_WATCHES, proto.SetWatches(5, [b"/a"], [b"/b"], [b"/c"])), self.decoded(frame))
        self.watches.add(RECURSIVE, b"/d", print)
        self.watches.add(PERSISTENT, b"/e", print)
        (frame,) = self.watches.requests(5, 1000)
        expected = proto.SetWatches2(5, [b"/a"], [b"/b"], [b"/c"], [b"/e"], [b"/d"])
        self.assertEqual((ops.SET_WATCHES2, expected), self.decoded(frame))

    def test_chunks(self) -> None:
        """However many there are, no frame is longer than the server takes, and each watch is in one of them."""
        paths = {b"/node-%05d" % number for number in range(3000)}
        for kind in KINDS:
            for path in paths:
                self.watches.add(kind, path, print)
        for limit in (200, 5000, 0xFFFFF):
            frames = self.watches.requests(7, limit)
            self.assertGreater(len(frames), 1)
            self.assertLessEqual(max(map(len, frames)) - 4, min(limit, 128 * 1024 + 64))
            found: list[set[bytes]] = [set() for _ in KINDS]
            for frame in frames:
                _, record = self.decoded(frame)
                self.assertEqual(7, record[0])
                for kind, chunk in enumerate(record[1:]):
                    self.assertEqual(set(), found[kind] & set(chunk))
                    found[kind] |= set(chunk)
            self.assertEqual([paths] * 5, found)
