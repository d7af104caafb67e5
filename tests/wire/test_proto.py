"""Every recorded frame of the client protocol decodes, and encodes to the same bytes again."""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar

from twisted.trial.unittest import SynchronousTestCase

from tests.wire import recordings
from tests.wire.recordings import Frame
from zktwisted.errors import Code, ProtocolError
from zktwisted.wire import jute, ops, proto

_MULTIS = {ops.MULTI: proto.MULTI_OPS, ops.MULTI_READ: proto.MULTI_READ_OPS}


def again(frame: Frame) -> bytes:
    """Return what decoding a frame and encoding the result gives."""
    if frame.kind == "connect request":
        return proto.encode_connect(*proto.decode_connect(frame.data))
    if frame.kind == "connect response":
        record, end = jute.decode(proto.ConnectResponse, frame.data)
        return proto.encode_connect(record, bool(frame.data[end]) if end < len(frame.data) else None)
    if frame.kind == "request":
        return request_again(frame)
    header, end = jute.decode(proto.ReplyHeader, frame.data)
    encoded = jute.encode(header)
    if frame.kind == "event":
        return encoded + jute.encode(jute.decode(proto.WatcherEvent, frame.data, end)[0])
    if header.err:
        return encoded
    if frame.op in _MULTIS:
        return encoded + proto.encode_multi_response(proto.decode_multi_response(frame.data, end))
    if frame.op in proto.REPLIES:
        return encoded + jute.encode(jute.decode(proto.REPLIES[frame.op], frame.data, end)[0])
    return encoded


def request_again(frame: Frame) -> bytes:
    header, end = jute.decode(proto.RequestHeader, frame.data)
    encoded = jute.encode(header)
    if frame.op in _MULTIS:
        return encoded + proto.encode_multi(proto.decode_multi(frame.data, end, _MULTIS[frame.op]))
    # No client asks for deleteContainer; the recorder did, in more than one form.
    if frame.op in proto.REQUESTS and frame.op != ops.DELETE_CONTAINER:
        return encoded + jute.encode(jute.decode(proto.REQUESTS[frame.op], frame.data, end)[0])
    return encoded


class RecordedFramesTests(SynchronousTestCase):
    def broken(self) -> dict[str, Frame]:
        """Return the requests of which the recorder or the server said that nobody can read them."""
        found = {frame.where: frame for frame in recordings.frames() if broken_by_the_recorder(frame)}
        for frame in recordings.frames():
            # Operations that answer so only when they could not read the request.
            if frame.request and frame.op in (ops.MULTI, ops.MULTI_READ):
                if jute.decode(proto.ReplyHeader, frame.data)[0].err == Code.MARSHALLINGERROR:
                    found[frame.request.where] = frame.request
        return found

    def test_same_bytes(self) -> None:
        """A frame of any kind, from any client and server, is encoded to the bytes that it was decoded from."""
        broken = self.broken()
        counts: Counter[str] = Counter()
        for frame in recordings.frames():
            if frame.where not in broken:
                result = again(frame)
                self.assertEqual(result, frame.data[: len(result)], frame.where)
                rest = len(frame.data) - len(result)
                self.assertTrue(rest == 0 or may_go_on(frame, rest), f"{frame.where}: {rest} bytes left")
                counts[frame.kind] += 1
        self.assertEqual(sorted(counts), ["connect request", "connect response", "event", "reply", "request"])
        self.assertGreater(counts.total(), 6000)

    def test_broken_frames(self) -> None:
        """What no server can read is a ProtocolError."""
        broken = self.broken()
        self.assertGreater(len(broken), 10)
        for frame in broken.values():
            with self.assertRaises(ProtocolError, msg=frame.where):
                again(frame)

    def test_every_operation(self) -> None:
        """The recordings hold a request of each operation that has a body, and a good reply of each likewise."""
        requests = {frame.op for frame in recordings.frames() if frame.kind == "request"}
        replies = {
            frame.op
            for frame in recordings.frames()
            if frame.kind == "reply" and len(frame.data) > HEADER and is_good(frame)
        }
        # A check stands in multis only, and these are counted as multis.
        self.assertEqual(set(proto.REQUESTS) - requests, set())
        self.assertEqual(set(proto.REPLIES) - replies, set())


HEADER = 16


def is_good(frame: Frame) -> bool:
    return jute.decode(proto.ReplyHeader, frame.data)[0].err == 0


def broken_by_the_recorder(frame: Frame) -> bool:
    return frame.note == "undecodable" or "undecodable" in frame.decoded


def may_go_on(frame: Frame, rest: int) -> bool:
    """Say whether bytes behind the record are known: ignored in requests, and the bodies of two errors."""
    if frame.kind == "connect request":
        # The recorder sent one byte too many.
        return rest == 1
    if frame.kind == "reply":
        return not is_good(frame) and frame.op in (ops.SASL, ops.MULTI_READ)
    return rest == len(frame.decoded.get("rest", "")) // 2


class ConnectTests(SynchronousTestCase):
    REQUEST = proto.ConnectRequest(0, 7, 30000, 0x100001109B80001, b"p" * 16)

    def test_read_only_byte(self) -> None:
        """The byte of newer clients is told apart from its absence: the response must mirror it."""
        for read_only in (None, False, True):
            data = proto.encode_connect(self.REQUEST, read_only)
            self.assertEqual(len(data), 44 if read_only is None else 45)
            self.assertEqual(proto.decode_connect(data), (self.REQUEST, read_only))

    def test_odd_read_only_byte(self) -> None:
        """Any byte but 0 means read-only, and what follows it is ignored."""
        data = proto.encode_connect(self.REQUEST, None)
        self.assertEqual(proto.decode_connect(data + b"\x80junk"), (self.REQUEST, True))

    def test_cut_short(self) -> None:
        """Every field up to the password must be there."""
        data = proto.encode_connect(self.REQUEST, None)
        for length in range(len(data)):
            with self.assertRaises(ProtocolError):
                proto.decode_connect(data[:length])


class MultiTests(SynchronousTestCase):
    OPERATIONS: ClassVar[list[tuple[int, Any]]] = [
        (ops.CREATE, proto.CreateRequest(b"/a", None, list(proto.OPEN_ACL), 0)),
        (ops.CREATE2, proto.CreateRequest(b"/a", b"", [], 3)),
        (ops.CREATE_CONTAINER, proto.CreateRequest(b"/a", b"x", None, 4)),
        (ops.CREATE_TTL, proto.CreateTTLRequest(b"/a", b"x", None, 5, 1000)),
        (ops.DELETE, proto.DeleteRequest(b"/a", -1)),
        (ops.SET_DATA, proto.SetDataRequest(b"/a", b"x", 3)),
        (ops.CHECK, proto.CheckVersionRequest(b"/a", 3)),
    ]

    def decode(self, operations: list[tuple[int, Any]]) -> list[tuple[int, Any]]:
        return proto.decode_multi(proto.encode_multi(operations), 0, proto.MULTI_OPS)

    def test_every_operation(self) -> None:
        """What a multi may hold comes back as it was."""
        self.assertEqual({op for op, _ in self.OPERATIONS}, proto.MULTI_OPS)
        self.assertEqual(self.decode(self.OPERATIONS), self.OPERATIONS)

    def test_empty(self) -> None:
        """A multi of nothing is one."""
        self.assertEqual(self.decode([]), [])

    def test_last_header(self) -> None:
        """The header with C{done} ends the list, whatever else it says, and bytes behind it are ignored."""
        data = jute.encode(proto.MultiHeader(ops.DELETE, True, 7)) + b"junk"
        self.assertEqual(proto.decode_multi(data, 0, proto.MULTI_OPS), [])

    def test_cut_short(self) -> None:
        """A multi that ends anywhere before its end is refused whole."""
        data = proto.encode_multi(self.OPERATIONS)
        for length in range(len(data)):
            with self.assertRaises(ProtocolError):
                proto.decode_multi(data[:length], 0, proto.MULTI_OPS)

    def test_foreign_operation(self) -> None:
        """Operations that no multi holds are refused, and so are reads among writes and writes among reads."""
        read = (ops.GET_DATA, proto.PathWatchRequest(b"/a", False))
        foreign: list[tuple[int, Any]] = [
            read,
            (ops.SET_ACL, proto.SetACLRequest(b"/a", [], -1)),
            (ops.EXISTS, proto.PathWatchRequest(b"/a", False)),
            (ops.DELETE_CONTAINER, proto.PathRequest(b"/a")),
        ]
        for operation in foreign:
            with self.assertRaises(ProtocolError):
                self.decode([*self.OPERATIONS, operation])
        with self.assertRaises(ProtocolError):
            proto.decode_multi(proto.encode_multi([read, self.OPERATIONS[0]]), 0, proto.MULTI_READ_OPS)

    def test_null_path(self) -> None:
        """A null path is refused in every operation."""
        for op, record in self.OPERATIONS:
            with self.assertRaises(ProtocolError):
                self.decode([(op, record._replace(path=None))])

    def test_create_flags(self) -> None:
        """A create flag that does not exist is refused, but in a createTTL; whether one suits is not judged here."""
        for op, record in self.OPERATIONS[:4]:
            for flags in range(7):
                self.assertEqual(self.decode([(op, record._replace(flags=flags))])[0][1].flags, flags)
        for op, record in self.OPERATIONS[:3]:
            for flags in (-1, 7, 2**31 - 1):
                if op == ops.CREATE_TTL:
                    # Judged with its ttl, as an error of this one operation.
                    self.assertEqual(self.decode([(op, record._replace(flags=flags))])[0][1].flags, flags)
                    continue
                with self.assertRaises(ProtocolError):
                    self.decode([(op, record._replace(flags=flags))])

    def test_results(self) -> None:
        """Results of each kind, errors among them, come back as they were."""
        stat = proto.Stat(*range(11))
        results: list[tuple[int, int, Any]] = [
            (ops.CREATE, 0, proto.PathResponse(b"/a")),
            (ops.CREATE2, 0, proto.Create2Response(b"/a", stat)),
            (ops.DELETE, 0, None),
            (ops.CHECK, 0, None),
            (ops.SET_DATA, 0, proto.StatResponse(stat)),
            (ops.GET_DATA, 0, proto.GetDataResponse(None, stat)),
            (ops.GET_CHILDREN, 0, proto.PathsResponse([b"a", b"b"])),
            (ops.ERROR, Code.NONODE, proto.ErrorResponse(Code.NONODE)),
        ]
        self.assertEqual(proto.decode_multi_response(proto.encode_multi_response(results), 0), results)

    def test_results_of_unknown_type(self) -> None:
        """A result whose size nobody knows is refused."""
        with self.assertRaises(ProtocolError):
            proto.decode_multi_response(jute.encode(proto.MultiHeader(ops.SYNC, False, 0)) + proto.END_OF_MULTI, 0)
