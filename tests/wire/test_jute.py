"""Jute: what is null stays null, what is cut short is refused, and a count on the wire costs no memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from zktwisted.errors import ProtocolError
from zktwisted.wire import jute, ops, proto, txns
from zktwisted.wire.jute import Boolean, Buffer, Int, Long, Path, Ustring

Vector = Sequence


class Inner(NamedTuple):
    number: Long
    name: Ustring


class Everything(NamedTuple):
    """One field of each kind, fixed ones side by side and alone."""

    flag: Boolean
    number: Int
    data: Buffer
    big: Long
    path: Path
    inner: Inner
    names: Vector[Ustring] | None
    inners: Vector[Inner] | None
    last: Boolean


_texts = st.none() | st.text(st.characters(exclude_categories=["Cs"]))
_longs = st.integers(-(2**63), 2**63 - 1)
_ints = st.integers(-(2**31), 2**31 - 1)
_inners = st.builds(Inner, _longs, _texts)
_everything = st.builds(
    Everything,
    st.booleans(),
    _ints,
    st.none() | st.binary(),
    _longs,
    st.none() | st.binary(),
    _inners,
    st.none() | st.lists(_texts),
    st.none() | st.lists(_inners),
    st.booleans(),
)

SAMPLE = Everything(True, -2, b"data", 2**40, b"/a", Inner(-1, "x"), ["a", None, ""], [Inner(1, None)], False)


def records() -> list[type[Any]]:
    """Return every record type of the protocol and of the log."""
    return [
        each
        for module in (proto, txns)
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, tuple) and each.__module__ == module.__name__
    ]


def decoders() -> dict[str, Callable[[jute.Buf], object]]:
    """Return everything that makes values of bytes, by name."""
    found: dict[str, Callable[[jute.Buf], object]] = {
        record.__name__: lambda data, record=record: jute.decode(record, data) for record in records()
    }
    for read in (jute.read_int, jute.read_long, jute.read_buffer, jute.read_string, jute.read_count):
        found[read.__name__] = lambda data, read=read: read(data, 0)
    for kind in ops.OpCode:
        found[f"body of {kind}"] = lambda data, kind=kind: txns.decode_body(kind, data)
    found["connect"] = proto.decode_connect
    found["multi"] = lambda data: proto.decode_multi(data, 0, proto.MULTI_OPS)
    found["multi read"] = lambda data: proto.decode_multi(data, 0, proto.MULTI_READ_OPS)
    found["multi response"] = lambda data: proto.decode_multi_response(data, 0)
    found["entry"] = txns.decode_entry
    found["operations"] = lambda data: txns.multi_operations(jute.decode(txns.MultiTxn, data)[0])
    return found


DECODERS = decoders()


class PrimitiveTests(SynchronousTestCase):
    def test_null_and_empty(self) -> None:
        """Null and empty are two values, of a buffer, a string and a vector."""
        self.assertEqual(jute.read_buffer(b"\xff\xff\xff\xff", 0), (None, 4))
        self.assertEqual(jute.read_buffer(b"\0\0\0\0", 0), (b"", 4))
        self.assertEqual(jute.read_string(b"\xff\xff\xff\xff", 0), (None, 4))
        self.assertEqual(jute.read_string(b"\0\0\0\0", 0), ("", 4))
        self.assertEqual(jute.decode(proto.PathsResponse, b"\xff\xff\xff\xff")[0].paths, None)
        self.assertEqual(jute.decode(proto.PathsResponse, b"\0\0\0\0")[0].paths, [])
        self.assertEqual(jute.pack_buffer(None) + jute.pack_buffer(b""), b"\xff\xff\xff\xff\0\0\0\0")
        self.assertEqual(jute.pack_string(None) + jute.pack_string(""), b"\xff\xff\xff\xff\0\0\0\0")
        for paths in (None, []):
            encoded = jute.encode(proto.PathsResponse(paths))
            self.assertEqual(jute.decode(proto.PathsResponse, encoded)[0].paths, paths)

    def test_negative_lengths(self) -> None:
        """A length under -1 is refused; a count under -1 reads as an empty vector."""
        for length in (-2, -(2**31)):
            data = length.to_bytes(4, "big", signed=True) + b"behind"
            with self.assertRaises(ProtocolError):
                jute.read_buffer(data, 0)
            with self.assertRaises(ProtocolError):
                jute.read_string(data, 0)
            self.assertEqual(jute.decode(proto.PathsResponse, data), (proto.PathsResponse([]), 4))

    def test_length_past_the_end(self) -> None:
        """A length that the bytes do not bear is refused, by one byte or by two thousand million."""
        for length in (4, 2**31 - 1):
            with self.assertRaises(ProtocolError):
                jute.read_buffer(length.to_bytes(4, "big") + b"abc", 0)

    def test_booleans(self) -> None:
        """Any byte but 0 is true; 1 is written."""
        for byte in range(256):
            request, _ = jute.decode(proto.PathWatchRequest, b"\0\0\0\0" + bytes([byte]))
            self.assertIs(request.watch, byte != 0)
        self.assertEqual(jute.encode(proto.PathWatchRequest(b"", True))[-1], 1)

    def test_sizes_at_the_limits(self) -> None:
        """Integers keep their sign at both ends."""
        for number in (-(2**63), -1, 0, 2**63 - 1):
            self.assertEqual(jute.read_long(number.to_bytes(8, "big", signed=True), 0), (number, 8))
        for number in (-(2**31), -1, 0, 2**31 - 1):
            self.assertEqual(jute.read_int(number.to_bytes(4, "big", signed=True), 0), (number, 4))


class TextTests(SynchronousTestCase):
    def test_outside_the_plane(self) -> None:
        """A character that Java wrote as two surrogates reads as the one that it is, and leaves as standard UTF-8."""
        cesu = "\U0001f40d".encode("utf-16-be")
        pair = "".join(chr(int.from_bytes(cesu[i : i + 2], "big")) for i in (0, 2)).encode("utf-8", "surrogatepass")
        self.assertEqual(len(pair), 6)
        read, _ = jute.read_string(jute.pack_buffer(b"user-" + pair), 0)
        self.assertEqual(read, "user-\U0001f40d")
        self.assertEqual(jute.pack_string(read), jute.pack_buffer("user-\U0001f40d".encode()))

    def test_malformed(self) -> None:
        """Bytes that are no text read as replacement characters, and are no error."""
        for raw in (b"a\xffb", b"\xc3", b"\xed\xa0\xbd", b"\xed\xa0\xbd\xff"):
            read, end = jute.read_string(jute.pack_buffer(raw), 0)
            assert read is not None
            self.assertIn("�", read)
            self.assertEqual(end, 4 + len(raw))
            read.encode()

    def test_byte_order_mark(self) -> None:
        """A mark at the beginning is a character like others."""
        self.assertEqual(jute.read_string(jute.pack_string("\ufeffx"), 0)[0], "\ufeffx")

    def test_paths_stay_bytes(self) -> None:
        """A path is never decoded on its way through, so that a malformed one leaves as it came."""
        data = jute.encode(proto.PathRequest(b"/\xff\xed\xa0\xbd"))
        self.assertEqual(jute.decode(proto.PathRequest, data)[0].path, b"/\xff\xed\xa0\xbd")


class RecordTests(SynchronousTestCase):
    @settings(deadline=None, derandomize=True, max_examples=200)
    @given(_everything, st.binary(max_size=8), st.binary(max_size=8))
    def test_there_and_back(self, record: Everything, before: bytes, behind: bytes) -> None:
        """A record comes back from its bytes, wherever they stand."""
        data = jute.encode(record)
        read, end = jute.decode(Everything, before + data + behind, len(before))
        self.assertEqual((read, end), (record, len(before) + len(data)))
        self.assertIs(type(read), Everything)
        self.assertIs(type(read.inner), Inner)

    def test_any_buffer(self) -> None:
        """Bytes, bytearrays and memoryviews read alike, and what is read is bytes that the buffer does not own."""
        data = jute.encode(SAMPLE)
        buffer = bytearray(data)
        read, _ = jute.decode(Everything, memoryview(buffer))
        buffer[:] = bytes(len(buffer))
        self.assertEqual(read, SAMPLE)
        self.assertEqual(jute.decode(Everything, bytearray(data))[0], SAMPLE)

    def test_cut_short(self) -> None:
        """A record that ends at any byte before its last is refused."""
        data = jute.encode(SAMPLE)
        for length in range(len(data)):
            with self.assertRaises(ProtocolError):
                jute.decode(Everything, data[:length])

    def test_known_bytes(self) -> None:
        """The fields stand in order, big-endian, without padding."""
        self.assertEqual(
            jute.encode(SAMPLE),
            b"\1\xff\xff\xff\xfe"
            b"\0\0\0\4data"
            b"\0\0\1\0\0\0\0\0"
            b"\0\0\0\2/a"
            b"\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\1x"
            b"\0\0\0\3\0\0\0\1a\xff\xff\xff\xff\0\0\0\0"
            b"\0\0\0\1\0\0\0\0\0\0\0\1\xff\xff\xff\xff"
            b"\0",
        )

    def test_open_acl(self) -> None:
        """The ACL entry of nearly every node is read to one object, and all others as they are."""
        shared = proto.OPEN_ACL[0]
        others = [
            shared._replace(perms=30),
            shared._replace(id=proto.Id("world", "anyon")),
            proto.ACL(31, proto.Id(None, "")),
        ]
        for acl in (shared, *others):
            data = jute.encode(acl)
            self.assertEqual(jute.decode(proto.ACL, data), (acl, len(data)))
            self.assertEqual(jute.decode(proto.ACL, b"x" + data, 1), (acl, len(data) + 1))
            for length in range(len(data)):
                with self.assertRaises(ProtocolError):
                    jute.decode(proto.ACL, data[:length])
        self.assertIs(jute.decode(proto.ACL, jute.encode(proto.ACL(31, proto.Id("world", "anyone"))))[0], shared)


class TotalTests(SynchronousTestCase):
    """Decoders read anything, or refuse it with a ProtocolError; nothing else leaves them."""

    def attempt(self, data: bytes) -> None:
        for name, decode in DECODERS.items():
            try:
                decode(data)
            except ProtocolError:
                pass
            except Exception as e:  # noqa: BLE001 - that none comes is the promise
                self.fail(f"{name} of {data.hex()}: {e!r}")

    @settings(deadline=None, derandomize=True, max_examples=300)
    @given(st.binary(max_size=120))
    def test_noise(self, data: bytes) -> None:
        """Of any bytes."""
        self.attempt(data)

    @settings(deadline=None, derandomize=True, max_examples=300)
    @given(
        st.lists(
            st.sampled_from([-(2**31), -2, -1, 0, 1, 2, 4, 5, 14, 15, 2**31 - 1]).map(
                lambda number: number.to_bytes(4, "big", signed=True)
            )
            | st.binary(max_size=5),
            max_size=24,
        )
    )
    def test_numbers(self, parts: list[bytes]) -> None:
        """Of counts, lengths and types that mean something, in places where they mean something else."""
        self.attempt(b"".join(parts))

    @settings(deadline=None, derandomize=True, max_examples=200)
    @given(st.sampled_from(ops.OpCode), st.binary(max_size=80), st.booleans())
    def test_entries(self, kind: int, body: bytes, in_multi: bool) -> None:
        """Of log entries of every type with any body, alone and inside a multi."""
        if in_multi:
            body = jute.encode(txns.MultiTxn([txns.Txn(kind, body)]))
            kind = ops.MULTI
        entry = jute.encode(txns.TxnHeader(1, 2, 3, 4, kind)) + body
        try:
            _, record, _ = txns.decode_entry(entry)
            if kind == ops.MULTI:
                txns.multi_operations(record)
        except ProtocolError:
            pass

    def test_memory(self) -> None:
        """A count that promises two thousand million elements takes no memory for them."""
        data = b"\x7f\xff\xff\xff" * 8
        for decode in DECODERS.values():
            tracemalloc.start()
            try:
                decode(data)
            except ProtocolError:
                pass
            finally:
                peak = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
            self.assertLess(peak, 100_000)

    def test_many_nulls(self) -> None:
        """A full frame of the smallest elements takes a bounded multiple of its size."""
        count = 0xFFFFF // 4 - 1
        data = count.to_bytes(4, "big") + b"\xff\xff\xff\xff" * count
        tracemalloc.start()
        try:
            response, end = jute.decode(proto.PathsResponse, data)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert response.paths is not None
        self.assertEqual((len(response.paths), end), (count, len(data)))
        self.assertLess(peak, 4 * len(data))
