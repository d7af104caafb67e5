"""How values look, and how people write some of them."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from zktwisted.client import ACL, Id, Stat
from zktwisted.zkt import format as shown
from zktwisted.zkt.lines import split_line
from zktwisted.zkt.paths import at, check_path, key_of
from zktwisted.zkt.status import Problem, Status


def stat(**values: int) -> Stat:
    """Return a stat that is all zero but for these."""
    return Stat(*(values.get(name, 0) for name in Stat._fields))


class AclTests(SynchronousTestCase):
    """ACLs as one argument."""

    def test_round_trip(self) -> None:
        """What is written is read again, ids with colons and commas in them among it."""
        for acl in (
            [ACL(31, Id("world", "anyone"))],
            [ACL(1, Id("digest", "ann:y+eocLjYQuwl5BmyFqbvTfQQVhk=")), ACL(31, Id("auth", ""))],
            [ACL(3, Id("x509", "CN=a,O=b")), ACL(16, Id("ip", "10.0.0.0/8"))],
            [ACL(0, Id("ip", "::1"))],
        ):
            self.assertEqual(acl, shown.parse_acl(shown.acl_text(acl)))

    def test_order_of_letters(self) -> None:
        """Permissions are told in the order in which ZooKeeper tells them, and taken in any."""
        self.assertEqual("world:anyone:cdrwa", shown.acl_text(shown.parse_acl("world:anyone:awrdc")))

    def test_wrong(self) -> None:
        """What is no ACL is a mistake on the command line, which is named."""
        for text, word in (("", "''"), ("world", "'world'"), ("world:anyone", "anyone"), ("world:anyone:rx", "'x'")):
            problem = self.assertRaises(Problem, shown.parse_acl, text)
            self.assertEqual(Status.USAGE, problem.status)
            self.assertIn(word, str(problem))


class StatTests(SynchronousTestCase):
    """Stats as text and for JSON."""

    def test_text(self) -> None:
        """Zxids and owners are hexadecimal and without a sign, the rest is decimal."""
        lines = shown.stat_text(stat(czxid=16, version=3, ephemeralOwner=-1, dataLength=7)).splitlines()
        self.assertEqual(11, len(lines))
        self.assertEqual("cZxid = 0x10", lines[0])
        self.assertEqual("dataVersion = 3", lines[6])
        self.assertEqual("ephemeralOwner = 0xffffffffffffffff", lines[8])

    def test_owner(self) -> None:
        """JSON says whose an ephemeral node is, and null of all others."""
        self.assertEqual("0x100016652a90000", shown.stat_json(stat(ephemeralOwner=0x100016652A90000))["ephemeralOwner"])
        self.assertIsNone(shown.stat_json(stat())["ephemeralOwner"])

    def test_times(self) -> None:
        """JSON has times in UTC, with milliseconds."""
        self.assertEqual("2001-09-09T01:46:40.007Z", shown.stat_json(stat(mtime=1_000_000_000_007))["mtime"])
        self.assertEqual("Sun Sep 09 01:46:40", shown.show_time(1_000_000_000_007, local=False)[:19])


class DataTests(SynchronousTestCase):
    """Data as text, for JSON and as a dump."""

    def test_json(self) -> None:
        """Text stays text; what is none comes in base64, and says so; null is null."""
        self.assertEqual({"data": "\u00e4"}, shown.data_json("\u00e4".encode()))
        self.assertEqual({"data": "/wA=", "encoding": "base64"}, shown.data_json(b"\xff\0"))
        self.assertEqual({"data": None}, shown.data_json(None))

    def test_dump(self) -> None:
        """Sixteen bytes a line, and what can be read of them."""
        lines = shown.hex_dump(bytes(range(60, 78))).splitlines()
        self.assertEqual("|00000000| 3c 3d 3e 3f 40 41 42 43 44 45 46 47 48 49 4a 4b |<=>?@ABCDEFGHIJK|", lines[3])
        self.assertEqual("|00000010| 4c 4d" + " " * 43 + "|LM              |", lines[4])
        self.assertEqual(6, len(lines))

    def test_harmless(self) -> None:
        """What is shown on a terminal moves no cursor."""
        self.assertEqual("a\\x1b[2Jb\nc\td\\x07", shown.plain("a\x1b[2Jb\nc\td\x07"))
        self.assertEqual("gr\u00fc\u00df dich \u4e2d", shown.plain("gr\u00fc\u00df dich \u4e2d"))


class NumberTests(SynchronousTestCase):
    """Sizes and ages."""

    def test_sizes(self) -> None:
        """Sizes are read and shown in units of 1024."""
        for text, size in (("0", 0), ("100", 100), ("10k", 10240), ("1.5M", 1572864), ("2GiB", 2 << 30), ("7B", 7)):
            self.assertEqual(size, shown.parse_size(text))
        self.assertEqual(["1023 B", "1.0 KiB", "1.5 MiB"], [shown.show_size(n) for n in (1023, 1024, 3 << 19)])

    def test_ages(self) -> None:
        """Ages are read in seconds."""
        for text, seconds in (("90", 90), ("90s", 90), ("5m", 300), ("2h", 7200), ("1d", 86400), ("1w", 604800)):
            self.assertEqual(seconds, shown.parse_age(text))

    def test_wrong(self) -> None:
        """Anything else is none."""
        for text in ("", "x", "-1", "1y", "k"):
            self.assertRaises(ValueError, shown.parse_age, text)
            self.assertRaises(ValueError, shown.parse_size, text)


class TableTests(SynchronousTestCase):
    """Tables."""

    def test_columns(self) -> None:
        """Numbers stand to the right, wide letters take two places, lines do not break."""
        rows = [{"name": "a", "size": 5}, {"name": "\u4e2d\u6587", "size": 100, "more": "x\ny"}]
        expected = "name  size  more\na        5\n\u4e2d\u6587   100  x\\ny\n"
        self.assertEqual(expected, shown.table(rows))


class PathTests(SynchronousTestCase):
    """Paths."""

    def test_right(self) -> None:
        """Whatever a server takes."""
        for path in ("/", "/a", "/a b/c'\"", "/\u4e2d/.hidden/...", "/a..b"):
            self.assertEqual(path, check_path(path))
        self.assertEqual("/a/", check_path("/a/", sequential=True))

    def test_wrong(self) -> None:
        """Whatever it does not is refused before it is asked."""
        for path in ("", "a", "/a/", "//", "/a//b", "/.", "/a/../b", "/a\0", "/a\n", "/\x7f", "/\ufff0", "/\U0001f600"):
            problem = self.assertRaises(Problem, check_path, path)
            self.assertEqual(Status.USAGE, problem.status)
            self.assertTrue(str(problem).isprintable())

    def test_keys(self) -> None:
        """The names below a root and the path are the same."""
        for root, path, key in (("/", "/", ()), ("/", "/a/b", ("a", "b")), ("/a", "/a", ()), ("/a", "/a/b", ("b",))):
            self.assertEqual(key, key_of(path, root))
            self.assertEqual(path, at(root, key))


class LineTests(SynchronousTestCase):
    """How lines fall into words."""

    def test_words(self) -> None:
        """Blanks separate, a quote at the beginning of a word joins, nothing else is special."""
        for line, words in (
            ("ls /", ["ls", "/"]),
            ("  create   /a 'two words' ", ["create", "/a", "two words"]),
            ('create /a "it\'s"', ["create", "/a", "it's"]),
            ("create /a it's", ["create", "/a", "it's"]),
            (r"create /a a\b", ["create", "/a", r"a\b"]),
            ('create /a ""', ["create", "/a", ""]),
            ('set /a a"b', ["set", "/a", 'a"b']),
            ("", []),
        ):
            self.assertEqual(words, split_line(line))

    def test_open_quote(self) -> None:
        """A quote that is not closed is a mistake that is shown."""
        for line in ("create /a 'x", 'create /a "x y', "get 'a'b"):
            self.assertIn("not closed", str(self.assertRaises(Problem, split_line, line)))
