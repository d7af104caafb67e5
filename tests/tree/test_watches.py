"""Watches: registration, the events of each change, removal, setWatches, and the bytes of a notification."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from zktwisted.errors import Code, KeeperError
from zktwisted.tree.watches import (
    ANY,
    CHILDREN,
    DATA,
    NODE_CHILDREN_CHANGED,
    NODE_CREATED,
    NODE_DATA_CHANGED,
    NODE_DELETED,
    PERSISTENT,
    PERSISTENT_RECURSIVE,
    Watches,
    encode_event,
)

P, Q = b"/q/p", b"/q"


def listed(told: Iterable[object] | None) -> list[object]:
    return [] if told is None else list(told)


class EventTests(SynchronousTestCase):
    """The frame of a notification."""

    def test_bytes(self) -> None:
        """Length, ReplyHeader(-1, zxid, 0), type, state SyncConnected, path."""
        frame = encode_event(NODE_DELETED, b"/\xc3\xa9", 0x100000002)
        body = struct.pack(">iqiiii", -1, 0x100000002, 0, 2, 3, 3) + b"/\xc3\xa9"
        self.assertEqual(frame, struct.pack(">i", len(body)) + body)

    def test_setwatches_zxid(self) -> None:
        """-1 is a zxid too."""
        self.assertEqual(encode_event(1, b"/", -1)[8:16], b"\xff" * 8)


class TriggerTests(SynchronousTestCase):
    """Who is told of which change, once, and in which order."""

    def setUp(self) -> None:
        self.watches = Watches()

    def created(self, path: bytes = P, parent: bytes = Q) -> tuple[list[object], list[object]]:
        node, children = self.watches.created(path, parent)
        return listed(node), listed(children)

    def changed(self, path: bytes = P) -> list[object]:
        return listed(self.watches.changed(path))

    def deleted(self, path: bytes = P, parent: bytes = Q) -> tuple[list[object], list[object]]:
        node, children = self.watches.deleted(path, parent)
        return listed(node), listed(children)

    def test_nobody(self) -> None:
        """Without watches nobody is told."""
        self.assertEqual(self.watches.created(P, Q), (None, None))
        self.assertIsNone(self.watches.changed(P))
        self.assertEqual(self.watches.deleted(P, Q), (None, None))

    def test_standard_fires_once(self) -> None:
        """A one-shot watch is used up by the first event."""
        self.watches.add_data(P, "a")
        self.watches.add_data(P, "a")
        self.assertEqual(self.watches.count, 1)
        self.assertEqual(self.changed(), ["a"])
        self.assertEqual(self.changed(), [])
        self.assertEqual(self.watches.count, 0)

    def test_order_of_registration(self) -> None:
        """Watchers are told in the order in which they came."""
        for name in ("c", "a", "b", "a", "c"):
            self.watches.add_data(P, name)
        self.assertEqual(self.changed(), ["c", "a", "b"])

    def test_create(self) -> None:
        """The node's watchers hear of its creation, the parent's child watchers of the parent."""
        self.watches.add_data(P, "a")
        self.watches.add_child(Q, "b")
        self.watches.add_data(Q, "no")
        self.watches.add_child(P, "no")
        self.assertEqual(self.created(), (["a"], ["b"]))
        self.assertEqual(self.created(), ([], []))

    def test_delete_tells_once(self) -> None:
        """Data and child watchers of a deleted node hear of it, who is both only once."""
        self.watches.add_data(P, "a")
        self.watches.add_child(P, "b")
        self.watches.add_child(P, "a")
        self.watches.add_child(Q, "a")
        self.assertEqual(self.deleted(), (["a", "b"], ["a"]))
        self.assertEqual(self.watches.count, 0)

    def test_delete_with_child_watchers_only(self) -> None:
        """A child watch alone is told of the deletion."""
        self.watches.add_child(P, "b")
        self.assertEqual(self.deleted(), (["b"], []))

    def test_persistent(self) -> None:
        """A persistent watch sees its node and its children, survives, and nothing deeper concerns it."""
        self.watches.add_persistent(Q, "a")
        for _ in range(2):
            self.assertEqual(self.created(Q, b"/"), (["a"], []))
            self.assertEqual(self.changed(Q), ["a"])
            self.assertEqual(self.created(P, Q), ([], ["a"]))
            self.assertEqual(self.created(P + b"/x", P), ([], []))
            self.assertEqual(self.deleted(Q, b"/"), (["a"], []))

    def test_persistent_and_standard(self) -> None:
        """Both modes on a node are one event, and only the one-shot mode is used up."""
        self.watches.add_data(P, "a")
        self.watches.add_persistent(P, "a")
        self.watches.add_data(P, "b")
        self.assertEqual(self.changed(), ["a", "b"])
        self.assertEqual(self.changed(), ["a"])
        self.assertFalse(self.watches.check(P, "a", DATA))

    def test_recursive(self) -> None:
        """A recursive watch sees nodes at and below its path, and no children events."""
        self.watches.add_recursive(Q, "a")
        self.assertEqual(self.created(Q, b"/"), (["a"], []))
        self.assertEqual(self.created(P, Q), (["a"], []))
        self.assertEqual(self.changed(P + b"/x/y"), ["a"])
        self.assertEqual(self.changed(b"/qp"), [])
        self.assertEqual(self.changed(b"/"), [])

    def test_recursive_and_child(self) -> None:
        """A recursive and a child watch on one node give both events."""
        self.watches.add_recursive(Q, "a")
        self.watches.add_child(Q, "a")
        self.assertEqual(self.created(), (["a"], ["a"]))
        self.assertEqual(self.created(), (["a"], []))

    def test_recursive_on_the_root(self) -> None:
        """The root's recursive watch sees everything, the root included."""
        self.watches.add_recursive(b"/", "a")
        self.assertEqual(self.changed(b"/"), ["a"])
        self.assertEqual(self.created(b"/x", b"/"), (["a"], []))
        self.assertEqual(self.changed(b"/x/y/z"), ["a"])

    def test_ancestors_keep_their_standard_mode(self) -> None:
        """A change below uses up nothing above."""
        self.watches.add_data(Q, "a")
        self.watches.add_recursive(Q, "a")
        self.assertEqual(self.changed(P), ["a"])
        self.assertTrue(self.watches.check(Q, "a", DATA))
        self.assertEqual(self.changed(Q), ["a"])
        self.assertFalse(self.watches.check(Q, "a", DATA))

    def test_many_modes_one_event(self) -> None:
        """Standard here, recursive here and above: one event, own watchers first, then upwards."""
        self.watches.add_recursive(b"/", "root")
        self.watches.add_recursive(Q, "above")
        self.watches.add_recursive(Q, "a")
        self.watches.add_data(P, "a")
        self.watches.add_recursive(P, "b")
        self.assertEqual(self.changed(), ["a", "b", "above", "root"])
        self.assertEqual(self.changed(), ["b", "above", "a", "root"])

    def test_add_watch(self) -> None:
        """Modes 0 and 1 are known, others are refused."""
        self.watches.add_watch(P, "a", 0)
        self.watches.add_watch(P, "b", 1)
        self.assertTrue(self.watches.check(P, "a", PERSISTENT))
        self.assertTrue(self.watches.check(P, "b", PERSISTENT_RECURSIVE))
        error = self.assertRaises(KeeperError, self.watches.add_watch, P, "a", 2)
        self.assertEqual(error.code, Code.MARSHALLINGERROR)


class RemovalTests(SynchronousTestCase):
    """checkWatches, removeWatches and closed connections."""

    def setUp(self) -> None:
        self.watches = Watches()

    def every_mode(self) -> None:
        self.watches.add_data(P, "a")
        self.watches.add_child(P, "a")
        self.watches.add_persistent(P, "a")
        self.watches.add_recursive(P, "a")

    def left(self) -> list[int]:
        return [type_ for type_ in (1, 2, 3, 4, 5) if self.watches.check(P, "a", type_)]

    def test_each_type(self) -> None:
        """Each type takes what it names and leaves the rest."""
        for type_, left in (
            (CHILDREN, [DATA, ANY, PERSISTENT, PERSISTENT_RECURSIVE]),
            (DATA, [CHILDREN, ANY, PERSISTENT, PERSISTENT_RECURSIVE]),
            (ANY, []),
            (PERSISTENT, [CHILDREN, DATA, ANY, PERSISTENT_RECURSIVE]),
            (PERSISTENT_RECURSIVE, [CHILDREN, DATA, ANY, PERSISTENT]),
        ):
            self.every_mode()
            self.assertTrue(self.watches.remove(P, "a", type_))
            self.assertEqual(self.left(), left)
            self.assertFalse(self.watches.remove(P, "a", type_))
            self.watches.remove(P, "a", ANY)
        self.assertEqual(self.watches.count, 0)
        self.assertEqual(self.watches.summary(), (0, 0, 0))

    def test_persistent_is_not_data(self) -> None:
        """A persistent watch is no data watch."""
        self.watches.add_persistent(P, "a")
        self.assertFalse(self.watches.check(P, "a", DATA))
        self.assertFalse(self.watches.remove(P, "a", CHILDREN))

    def test_own_watches_only(self) -> None:
        """Another connection's watches do not count, nor do those of another path."""
        self.watches.add_data(P, "a")
        self.assertFalse(self.watches.remove(P, "b", ANY))
        self.assertFalse(self.watches.check(Q, "a", ANY))

    def test_unknown_type(self) -> None:
        """Unknown types are refused."""
        for type_ in (0, 6, -1):
            for ask in (self.watches.check, self.watches.remove):
                error = self.assertRaises(KeeperError, ask, P, "a", type_)
                self.assertEqual(error.code, Code.MARSHALLINGERROR)

    def test_recursion_is_forgotten(self) -> None:
        """When the last recursive watch is gone, however it went, nothing below is told."""
        self.watches.add_recursive(Q, "a")
        self.watches.add_recursive(b"/", "b")
        self.watches.remove(Q, "a", PERSISTENT_RECURSIVE)
        self.watches.remove_watcher("b")
        self.assertEqual(self.watches.data.recursive, 0)
        self.assertIsNone(self.watches.changed(P))

    def test_remove_watcher(self) -> None:
        """A closed connection leaves nothing behind, and nobody else's watches go with it."""
        self.every_mode()
        self.watches.add_data(Q, "a")
        self.watches.add_data(P, "b")
        self.watches.remove_watcher("a")
        self.watches.remove_watcher("never")
        self.assertEqual(self.watches.count, 1)
        self.assertEqual(listed(self.watches.changed(P)), ["b"])


class SetWatchesTests(SynchronousTestCase):
    """What a reconnected client asks for again."""

    def setUp(self) -> None:
        self.watches = Watches()
        self.nodes = {b"/old": (3, 3), b"/equal": (5, 5), b"/new": (6, 6)}

    def set(self, *lists: list[bytes] | None) -> list[tuple[int, bytes]]:
        return self.watches.set_watches("a", 5, lists, self.nodes.get)

    def test_data(self) -> None:
        """A missing node was deleted, a newer one changed, an old or equal one is watched."""
        self.assertEqual(
            self.set([b"/gone", b"/old", b"/equal", b"/new"], [], []),
            [(NODE_DELETED, b"/gone"), (NODE_DATA_CHANGED, b"/new")],
        )
        self.assertEqual([path for path, _ in self.watches.by_path()], [b"/old", b"/equal"])

    def test_exist(self) -> None:
        """A node that is there was created; one that is not is watched."""
        self.assertEqual(self.set([], [b"/gone", b"/old"], []), [(NODE_CREATED, b"/old")])
        self.assertTrue(self.watches.check(b"/gone", "a", DATA))

    def test_child(self) -> None:
        """As for data, by pzxid and in the child table."""
        self.assertEqual(
            self.set([], [], [b"/gone", b"/equal", b"/new"]),
            [(NODE_DELETED, b"/gone"), (NODE_CHILDREN_CHANGED, b"/new")],
        )
        self.assertTrue(self.watches.check(b"/equal", "a", CHILDREN))

    def test_persistent(self) -> None:
        """Persistent and recursive ones are registered and never make an event."""
        self.assertEqual(self.set([], [], [], [b"/gone", b"/new"], [b"/new"]), [])
        self.assertTrue(self.watches.check(b"/gone", "a", PERSISTENT))
        self.assertTrue(self.watches.check(b"/new", "a", PERSISTENT_RECURSIVE))

    def test_order(self) -> None:
        """Events come in the order of the lists."""
        self.assertEqual(
            self.set([b"/new"], [b"/old"], [b"/gone"]),
            [(NODE_DATA_CHANGED, b"/new"), (NODE_CREATED, b"/old"), (NODE_DELETED, b"/gone")],
        )

    def test_null_list(self) -> None:
        """A null list is refused; what stood before it is registered."""
        error = self.assertRaises(KeeperError, self.set, [b"/old"], None, [b"/equal"])
        self.assertEqual(error.code, Code.MARSHALLINGERROR)
        self.assertTrue(self.watches.check(b"/old", "a", DATA))
        self.assertFalse(self.watches.check(b"/equal", "a", CHILDREN))


class InspectionTests(SynchronousTestCase):
    """What operators are shown."""

    def test_counts(self) -> None:
        """wchs, wchc and wchp tell of the data table; the count covers both."""
        watches = Watches()
        watches.add_data(P, "a")
        watches.add_data(Q, "a")
        watches.add_persistent(P, "b")
        watches.add_child(Q, "c")
        self.assertEqual(watches.count, 5)
        self.assertEqual(watches.summary(), (2, 2, 3))
        self.assertEqual(list(watches.by_watcher()), [("a", [P, Q]), ("b", [P])])
        self.assertEqual(list(watches.by_path()), [(P, ["a", "b"]), (Q, ["a"])])


PATHS = (b"/", b"/a", b"/a/b", b"/a/b/c", b"/ab")


def above(path: bytes) -> bytes:
    return path[: path.rfind(b"/")] or b"/"


class Model:
    """The rules, written for reading: (table, path, watcher) to a set of modes."""

    def __init__(self) -> None:
        self.modes: dict[tuple[str, bytes, int], set[str]] = {}

    def add(self, table: str, path: bytes, watcher: int, mode: str) -> None:
        self.modes.setdefault((table, path, watcher), set()).add(mode)

    def drop(self, table: str, path: bytes, watcher: int, modes: set[str]) -> bool:
        had = self.modes.get((table, path, watcher), set())
        found = bool(had & modes)
        had -= modes
        if not had:
            self.modes.pop((table, path, watcher), None)
        return found

    def fire(self, table: str, path: bytes) -> set[int]:
        told = {watcher for kind, at, watcher in self.modes if (kind, at) == (table, path)}
        for watcher in told:
            self.drop(table, path, watcher, {"standard"})
        while table == "data" and path != b"/":
            path = above(path)
            told |= {
                w for (kind, at, w), modes in self.modes.items() if (kind, at) == (table, path) and "recursive" in modes
            }
        return told


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "data",
                "child",
                "persistent",
                "recursive",
                "created",
                "changed",
                "deleted",
                "close",
                "r1",
                "r2",
                "r3",
                "r4",
                "r5",
            ]
        ),
        st.sampled_from(PATHS),
        st.integers(0, 3),
    ),
    max_size=40,
)


class ModelTests(SynchronousTestCase):
    """Any order of registrations, changes and removals does what the rules say."""

    @settings(deadline=None, max_examples=300, derandomize=True)
    @given(STEPS)
    def test_against_the_rules(self, steps: list[tuple[str, bytes, int]]) -> None:
        """The same watchers are told, the same watches are left, and the counters agree."""
        watches, model = Watches(), Model()
        for step, path, who in steps:
            if step in ("created", "changed", "deleted"):
                self.change(watches, model, step, path)
            elif step[0] == "r" and step[1:].isdigit():
                self.remove(watches, model, int(step[1:]), path, who)
            elif step == "close":
                watches.remove_watcher(who)
                model.modes = {key: modes for key, modes in model.modes.items() if key[2] != who}
            else:
                self.register(watches, model, step, path, who)
            self.assertEqual(watches.count, len(model.modes))
            recursive = [modes for modes in model.modes.values() if "recursive" in modes]
            self.assertEqual(watches.data.recursive, len(recursive))
            data = {(at, watcher) for table, at, watcher in model.modes if table == "data"}
            self.assertEqual({(at, watcher) for at, ws in watches.by_path() for watcher in ws}, data)
            self.assertEqual({(at, watcher) for watcher, ats in watches.by_watcher() for at in ats}, data)

    def register(self, watches: Watches, model: Model, step: str, path: bytes, who: int) -> None:
        if step == "data":
            watches.add_data(path, who)
            model.add("data", path, who, "standard")
        elif step == "child":
            watches.add_child(path, who)
            model.add("child", path, who, "standard")
        elif step == "persistent":
            watches.add_persistent(path, who)
            model.add("data", path, who, "persistent")
            model.add("child", path, who, "persistent")
        else:
            watches.add_recursive(path, who)
            model.add("data", path, who, "recursive")

    def change(self, watches: Watches, model: Model, step: str, path: bytes) -> None:
        expected = model.fire("data", path)
        if step == "changed":
            told, children = watches.changed(path), None
            wanted: set[int] = set()
        else:
            told, children = getattr(watches, step)(path, above(path))
            if step == "deleted":
                expected |= model.fire("child", path)
            wanted = model.fire("child", above(path))
        for got, rule in ((listed(told), expected), (listed(children), wanted)):
            self.assertEqual(set(got), rule)
            self.assertEqual(len(got), len(rule))

    def remove(self, watches: Watches, model: Model, type_: int, path: bytes, who: int) -> None:
        every = {"standard", "persistent", "recursive"}
        found = {
            1: lambda: model.drop("child", path, who, {"standard"}),
            2: lambda: model.drop("data", path, who, {"standard"}),
            3: lambda: model.drop("data", path, who, every) | model.drop("child", path, who, every),
            4: lambda: model.drop("child", path, who, {"persistent"}) | model.drop("data", path, who, {"persistent"}),
            5: lambda: model.drop("data", path, who, {"recursive"}),
        }[type_]()
        self.assertEqual(watches.remove(path, who, type_), found)
