"""The first bytes of a connection, and frames of answers."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from zktwisted.ops import fourletter
from zktwisted.wire.frames import FRAME, WORDS, failure, frame, stranger


class FrameTests(SynchronousTestCase):
    """L{frame}, L{failure} and L{FRAME}."""

    def test_frame(self) -> None:
        """A payload follows its length; none is a length of 0."""
        self.assertEqual(b"\0\0\0\3abc", frame(b"abc"))
        self.assertEqual(b"\0\0\0\0", frame(b""))

    def test_failure(self) -> None:
        """A reply without a body: xid, zxid and code are signed."""
        self.assertEqual(bytes.fromhex("00000010 fffffffc ffffffffffffffff fffffffa"), failure(-4, -1, -6))

    def test_header(self) -> None:
        """A request begins with length, xid and op code, each signed."""
        self.assertEqual((8, -2, -11), FRAME.unpack(bytes.fromhex("00000008 fffffffe fffffff5")))


class StrangerTests(SynchronousTestCase):
    """L{stranger} and L{WORDS}."""

    def test_words(self) -> None:
        """The words that are recognised are those that are answered."""
        self.assertEqual(fourletter.WORDS, WORDS)

    def test_names(self) -> None:
        """What is no client is named for the log."""
        for head, word in (
            (bytes.fromhex("160301020001"), "TLS"),
            (b"GET / HTTP/1.1", "HTTP"),
            (b"POST", "HTTP"),
            (b"RUOK", "RUOK"),
            (b"\xff\xff\xff\xff", "ff ff ff ff"),
            (b"\x16\x07ab", "16 07"),
        ):
            self.assertIn(word, stranger(head))
