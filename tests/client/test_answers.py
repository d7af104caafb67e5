"""The decoders for speed have the result of the plain ones, and nothing but a L{ProtocolError} comes out of them."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from zktwisted.client import answers
from zktwisted.errors import ProtocolError
from zktwisted.wire import jute, proto

LONG = st.integers(-(2**63), 2**63 - 1)
INT = st.integers(-(2**31), 2**31 - 1)
STATS = st.builds(proto.Stat, LONG, LONG, LONG, LONG, INT, INT, INT, LONG, INT, INT, LONG)
NAMES = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), max_size=5)
DATA = st.none() | st.binary(max_size=40)
some = settings(deadline=None, derandomize=True, max_examples=60)


def utf8(names: list[str]) -> list[bytes]:
    return [name.encode() for name in names]


class AnswerTests(SynchronousTestCase):
    """Every answer is found between whatever stands before and behind it."""

    def decoded(self, decode: answers.Decoder, encoded: bytes) -> Any:
        """Decode it in the midst of other bytes; cut short it must be refused, wherever the cut is."""
        value = decode(b"before" + encoded + b"behind", 6, 6 + len(encoded))
        for end in range(len(encoded)):
            self.assertRaises(ProtocolError, decode, b"before" + encoded[:end], 6, 6 + end)
        return value

    @some
    @given(DATA, STATS)
    def test_get(self, data: bytes | None, stat: proto.Stat) -> None:
        """Data, null data and no data."""
        expected = proto.GetDataResponse(data, stat)
        found = self.decoded(answers.get, jute.encode(expected))
        self.assertEqual(expected, found)
        self.assertEqual((proto.GetDataResponse, proto.Stat), (type(found), type(found.stat)))

    @some
    @given(STATS)
    def test_stat(self, stat: proto.Stat) -> None:
        """A stat alone."""
        for decode in (answers.stat, answers.stat_or_none):
            self.assertEqual(stat, self.decoded(decode, jute.encode(stat)))

    @some
    @given(NAMES, STATS)
    def test_children(self, names: list[str], stat: proto.Stat) -> None:
        """Names, with and without the stat."""
        encoded = jute.encode(proto.PathsResponse(utf8(names)))
        self.assertEqual(names, self.decoded(answers.children, encoded))
        encoded = jute.encode(proto.GetChildren2Response(utf8(names), stat))
        self.assertEqual((names, stat), self.decoded(answers.children_and_stat, encoded))

    @some
    @given(st.sampled_from([answers.get, answers.stat, answers.children, answers.children_and_stat]), st.binary())
    def test_anything(self, decode: answers.Decoder, data: bytes) -> None:
        """Any bytes are a value or a L{ProtocolError}."""
        try:
            decode(data, 0, len(data))
        except ProtocolError:
            pass

    def test_longer_than_its_frame(self) -> None:
        """A length that runs into the next answer is refused, though the bytes are there."""
        stat = jute.encode(proto.Stat(*range(11)))
        data = b"\0\0\0\x08" + stat + b"\xff" * 80
        self.assertRaises(ProtocolError, answers.get, data, 0, 72)
        self.assertRaises(ProtocolError, answers.children, b"\0\0\0\x01\0\0\0\x04abcd", 0, 10)
        self.assertRaises(ProtocolError, answers.record(proto.PathResponse), b"\0\0\0\x04abcd", 0, 6)

    def test_nothing(self) -> None:
        """An answer nobody reads."""
        self.assertIsNone(answers.nothing(b"", 0, 0))  # type: ignore[func-returns-value]
