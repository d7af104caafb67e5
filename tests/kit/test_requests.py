"""Names of operations and codes, the paths of requests, and what is recorded."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from zktwisted.errors import Code
from zktwisted.kit.requests import RecordedRequest, Recording, Wanted, code_of, name_of, ops_of, paths_of
from zktwisted.wire import jute, ops, proto
from zktwisted.wire.ops import OpCode


class NameTests(SynchronousTestCase):
    """What a test calls an operation."""

    def test_every_operation(self) -> None:
        """Each has a name that stands for it, in either spelling."""
        for op in OpCode:
            name = name_of(op.value)
            self.assertIn(op.value, ops_of(name), name)
            words = name.split("_")
            self.assertIn(op.value, ops_of(words[0] + "".join(word.title() for word in words[1:])))

    def test_variants(self) -> None:
        """Libraries send one or the other: the test need not know which."""
        self.assertEqual({name_of(op) for op in (ops.CREATE, ops.CREATE2)}, {"create"})
        self.assertEqual(ops_of("create"), {ops.CREATE, ops.CREATE2, ops.CREATE_CONTAINER, ops.CREATE_TTL})
        self.assertEqual(ops_of("create2"), {ops.CREATE2})
        self.assertEqual(ops_of("getChildren"), {ops.GET_CHILDREN, ops.GET_CHILDREN2})

    def test_unknown(self) -> None:
        """What there is not is told with what there is."""
        self.assertIn("get_data", str(self.assertRaises(ValueError, ops_of, "get")))
        self.assertEqual("4711", name_of(4711))

    def test_codes(self) -> None:
        """A code is itself, its number, its name."""
        for way in (Code.CONNECTIONLOSS, -4, "CONNECTIONLOSS", "connection_loss"):
            self.assertIs(Code.CONNECTIONLOSS, code_of(way))
        self.assertRaises(ValueError, code_of, "NOTHING")
        self.assertRaises(ValueError, code_of, 4711)


class PathTests(SynchronousTestCase):
    """The paths that a request names."""

    def test_one(self) -> None:
        """Most name one, in front."""
        for op in (ops.CREATE, ops.GET_DATA, ops.DELETE, ops.SYNC, ops.ADD_WATCH, ops.REMOVE_WATCHES):
            self.assertEqual(("/a/\xe4",), paths_of(op, jute.pack_buffer("/a/\xe4".encode()) + b"rest"))

    def test_none(self) -> None:
        """Some name none, whatever their bytes look like; so does what is cut short or null."""
        body = jute.pack_buffer(b"/a")
        for op in (ops.PING, ops.AUTH, ops.SASL, ops.SET_WATCHES2, ops.CLOSE_SESSION, ops.WHO_AM_I, ops.RECONFIG):
            self.assertEqual((), paths_of(op, body))
        for broken in (b"", body[:-1], b"\xff\xff\xff\xff"):
            self.assertEqual((), paths_of(ops.GET_DATA, broken))
        self.assertEqual(("",), paths_of(ops.GET_DATA, bytes(4)))

    def test_multi(self) -> None:
        """A multi names one for each of its operations; one that cannot be read none."""
        body = proto.encode_multi(
            [
                (ops.CREATE, proto.CreateRequest(b"/a", b"", proto.OPEN_ACL, 0)),
                (ops.DELETE, proto.DeleteRequest(b"/b", -1)),
            ]
        )
        self.assertEqual(("/a", "/b"), paths_of(ops.MULTI, body))
        self.assertEqual((), paths_of(ops.MULTI, body[:-1]))
        self.assertEqual((), paths_of(ops.MULTI_READ, body))


class WantedTests(SynchronousTestCase):
    """Which requests a fault means."""

    def test_any(self) -> None:
        """Without a name it is any that a program makes; with one, that, whoever makes it."""
        self.assertTrue(Wanted.of(None, None).matches(ops.GET_DATA, ("/a",)))
        self.assertFalse(Wanted.of(None, None).matches(ops.PING, ()))
        self.assertTrue(Wanted.of("ping", None).matches(ops.PING, ()))
        self.assertFalse(Wanted.of("ping", None).matches(ops.GET_DATA, ("/a",)))

    def test_path(self) -> None:
        """A path is meant as it is, or by a pattern; a multi, if one of its paths is."""
        self.assertTrue(Wanted.of(None, "/a").matches(ops.GET_DATA, ("/a",)))
        self.assertFalse(Wanted.of(None, "/a").matches(ops.GET_DATA, ("/a/b",)))
        self.assertTrue(Wanted.of(None, "/a*").matches(ops.GET_DATA, ("/a/b",)))
        self.assertTrue(Wanted.of("multi", "/b").matches(ops.MULTI, ("/a", "/b")))
        self.assertFalse(Wanted.of(None, "/a").matches(ops.WHO_AM_I, ()))
        self.assertTrue(Wanted.of(None, "*/b").matches(ops.GET_DATA, ("/a/b",)))

    def test_no_path(self) -> None:
        """What no request could ever name is a mistake, which would else be a fault that never happens."""
        for path in ("", "a", "jobs/*"):
            self.assertRaises(ValueError, Wanted.of, None, path)


class RecordingTests(SynchronousTestCase):
    """What is recorded can be asked for."""

    def test_of(self) -> None:
        """By operation, path and session."""
        recording = Recording()
        for op, path, session in ((ops.CREATE2, "/a", 1), (ops.GET_DATA, "/a", 2), (ops.GET_DATA, "/b", 1)):
            recording.add(op, RecordedRequest(name_of(op), (path,), session))
        self.assertEqual(["/a"], [each.path for each in recording.of("create")])
        self.assertEqual(["create", "get_data"], [each.op for each in recording.of(path="/a")])
        self.assertEqual(["/b"], [each.path for each in recording.of("get_data", session=1)])
        self.assertEqual(3, len(recording.of()))
        self.assertRaises(ValueError, recording.of, "take")

    def test_housekeeping(self) -> None:
        """What a library does by itself is left out, unless it is asked for."""
        for everything in (False, True):
            recording = Recording(everything)
            recording.add(ops.PING, RecordedRequest("ping", (), 1))
            self.assertEqual(everything, bool(recording.requests))
            self.assertIsNone(RecordedRequest("ping", (), 1).path)
