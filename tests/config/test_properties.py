"""Java properties files, as Java reads them."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from zktwisted.config.properties import Entry, decode_properties, parse_properties
from zktwisted.errors import ConfigError


def pairs(text: str) -> list[tuple[str, str]]:
    return [(entry.key, entry.value) for entry in parse_properties(text)]


class ParsePropertiesTests(SynchronousTestCase):
    def test_separators(self) -> None:
        """A key ends at an equals sign, a colon or a blank, with blanks around it."""
        for line in ("k=v", "k:v", "k v", "k = v", "  k\t:  v", "k\t \fv", "k =v  "):
            self.assertEqual(pairs(line), [("k", "v")], line)

    def test_value_keeps_separators(self) -> None:
        """Only the first separator counts."""
        self.assertEqual(pairs("server.1=a:2888:3888;2181"), [("server.1", "a:2888:3888;2181")])
        self.assertEqual(pairs("k==v"), [("k", "=v")])
        self.assertEqual(pairs("k : = v"), [("k", "= v")])

    def test_no_value(self) -> None:
        """A key alone has an empty value; so has one with a separator only."""
        self.assertEqual(pairs("k\nl=\nm:"), [("k", ""), ("l", ""), ("m", "")])

    def test_comments(self) -> None:
        """Lines that begin with # or ! are comments, and a backslash does not prolong them; others are not."""
        self.assertEqual(pairs("# a\n  ! b\\\nk=v # no comment\n\n \t\n"), [("k", "v # no comment")])

    def test_lines(self) -> None:
        """Each entry knows the line on which it begins, whatever ends lines."""
        text = "#\r\na=1\r\r\nb=2\\\n  3\nc=4"
        self.assertEqual(parse_properties(text), [Entry("a", "1", 2), Entry("b", "23", 4), Entry("c", "4", 6)])

    def test_continuation(self) -> None:
        """An odd number of backslashes at the end joins the next line without its leading blanks."""
        self.assertEqual(pairs("k=a\\\n   b\\\n\tc"), [("k", "abc")])
        self.assertEqual(pairs("k=a\\\\\nl=b"), [("k", "a\\"), ("l", "b")])
        self.assertEqual(pairs("k=a\\"), [("k", "a")])
        self.assertEqual(pairs("k=a\\\n# not a comment"), [("k", "a# not a comment")])

    def test_escapes(self) -> None:
        """Escapes stand for characters in keys and values; before anything else a backslash is dropped."""
        self.assertEqual(pairs("a\\=b\\:c\\ d=x\\ty\\u0041\\q"), [("a=b:c d", "x\tyAq")])
        self.assertEqual(pairs("k=\\ud83d\\ude00"), [("k", "\U0001f600")])

    def test_broken_escape(self) -> None:
        r"""A \u without four hexadecimal digits is the one thing that is wrong; the error names the line."""
        for bad in ("\\u12", "\\uxyzw", "\\u"):
            error = self.assertRaises(ConfigError, parse_properties, f"a=b\nk={bad}")
            self.assertEqual(error.line, 2)

    def test_repeated(self) -> None:
        """A repeated key comes out as often as it is written, in that order."""
        self.assertEqual(pairs("k=1\nl=2\nk=3"), [("k", "1"), ("l", "2"), ("k", "3")])

    @settings(deadline=None, max_examples=200, derandomize=True)
    @given(st.text())
    def test_total(self, text: str) -> None:
        """Any text parses, or is refused with a line."""
        try:
            entries = parse_properties(text)
        except ConfigError as error:
            self.assertIsNotNone(error.line)
        else:
            self.assertEqual(sorted(entries, key=lambda entry: entry.line), entries)


class DecodePropertiesTests(SynchronousTestCase):
    def test_encodings(self) -> None:
        """UTF-8, with or without a byte order mark, and else Latin-1."""
        self.assertEqual(decode_properties("k=\u00fc".encode()), "k=\u00fc")
        self.assertEqual(decode_properties("\ufeffk=\u00fc".encode()), "k=\u00fc")
        self.assertEqual(decode_properties("k=\u00fc".encode("latin-1")), "k=\u00fc")
