"""Quotas: their text, which one a path falls under, and when a change is too much."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from zktwisted.errors import Code, KeeperError
from zktwisted.tree.quota import (
    QuotaTable,
    StatsTrack,
    enforce,
    exceeded,
    limits_path,
    quota_of_limits_path,
    quota_of_stats_path,
    stats_path,
    updated,
)

TABLE = Path(__file__).parents[1] / "golden" / "tables" / "stats_track.jsonl"
NUMBERS = st.integers(-1, 2**63 - 1)


class TextTests(SynchronousTestCase):
    """The text of limits and stats nodes."""

    def test_golden(self) -> None:
        """Every recorded text gives the recorded numbers and text, or is refused."""
        with TABLE.open(encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                text = None if row["text"] is None else row["text"].encode()
                if "exception" in row:
                    self.assertRaises(ValueError, StatsTrack.parse, text)
                    continue
                track = StatsTrack.parse(text)
                self.assertEqual(
                    track, (row["count"], row["bytes"], row["countHardLimit"], row["byteHardLimit"]), row["text"]
                )
                self.assertEqual(track.render().hex(), row["statsBytes"])

    def test_odd(self) -> None:
        """An empty value before a second equals sign is no limit; none at all is refused, as is a number too big."""
        self.assertEqual(StatsTrack.parse(b"count==5,bytes=6").nodes, -1)
        self.assertEqual(StatsTrack.parse(b","), StatsTrack())
        self.assertEqual(StatsTrack.parse(b"count=+7"), StatsTrack(nodes=7))
        for bad in (b"count=", b"count", b",count=1", b"count=1 ", b"count=9223372036854775808", b"\xff"):
            self.assertRaises(ValueError, StatsTrack.parse, bad)

    @settings(deadline=None, max_examples=100, derandomize=True)
    @given(st.builds(StatsTrack, NUMBERS, NUMBERS, NUMBERS, NUMBERS))
    def test_round_trip(self, track: StatsTrack) -> None:
        """What is written is read back."""
        self.assertEqual(StatsTrack.parse(track.render()), track)

    def test_updated(self) -> None:
        """A change moves the counters and keeps the limits; a text that is none is left alone."""
        self.assertEqual(updated(b"count=3,bytes=10", 1, 5), b"count=4,bytes=15")
        self.assertEqual(updated(b"count=3,bytes=10", -1, -10), b"count=2,bytes=0")
        self.assertEqual(updated(b"count=1,bytes=2=;byteHardLimit=9", 0, 1), b"count=1,bytes=3=;byteHardLimit=9")
        self.assertEqual(updated(b"garbage", 1, 1), b"garbage")


class PathTests(SynchronousTestCase):
    """Where limits and counters are kept."""

    def test_there_and_back(self) -> None:
        """The paths of both nodes, and back from them to the path that they are about."""
        self.assertEqual(limits_path(b"/a/b"), b"/zookeeper/quota/a/b/zookeeper_limits")
        self.assertEqual(stats_path(b"/a"), b"/zookeeper/quota/a/zookeeper_stats")
        for path in (b"", b"/a", b"/a/b"):
            self.assertEqual(quota_of_limits_path(limits_path(path)), path)
            self.assertEqual(quota_of_stats_path(stats_path(path)), path)
            self.assertIsNone(quota_of_limits_path(stats_path(path)))
            self.assertIsNone(quota_of_stats_path(limits_path(path)))

    def test_others(self) -> None:
        """Such names elsewhere are ordinary nodes."""
        for path in (
            b"/a/zookeeper_limits",
            b"/zookeeper/quota",
            b"/zookeeper/quota/a",
            b"/zookeeper/quotas/zookeeper_limits",
        ):
            self.assertIsNone(quota_of_limits_path(path))


class TableTests(SynchronousTestCase):
    """The paths that have a quota."""

    def test_deepest(self) -> None:
        """The deepest path at or above counts; a name's beginning is not above it."""
        table = QuotaTable()
        self.assertIsNone(table.find(b"/a/b"))
        table.add(b"/a")
        table.add(b"/a/b/c")
        for path, found in (
            (b"/a", b"/a"),
            (b"/a/b", b"/a"),
            (b"/a/b/c", b"/a/b/c"),
            (b"/a/b/c/d/e", b"/a/b/c"),
            (b"/ab", None),
            (b"", None),
        ):
            self.assertEqual(table.find(path), found)
        table.discard(b"/a")
        table.discard(b"/never")
        self.assertIsNone(table.find(b"/a/b"))
        table.clear()
        self.assertIsNone(table.find(b"/a/b/c"))

    def test_root(self) -> None:
        """A quota on the root is ignored."""
        table = QuotaTable()
        table.add(b"")
        table.add(b"/")
        self.assertIsNone(table.find(b"/a"))


class EnforcementTests(SynchronousTestCase):
    """When a change is too much."""

    def test_equal_is_allowed(self) -> None:
        """A limit may be reached and not passed."""
        self.assertIsNone(exceeded(StatsTrack(count_hard_limit=3), StatsTrack(2, 0), 1, 0))
        self.assertTrue(exceeded(StatsTrack(count_hard_limit=3), StatsTrack(3, 0), 1, 0))
        self.assertIsNone(exceeded(StatsTrack(byte_hard_limit=9), StatsTrack(1, 4), 0, 5))
        self.assertTrue(exceeded(StatsTrack(byte_hard_limit=9), StatsTrack(1, 4), 0, 6))

    def test_soft(self) -> None:
        """A soft limit only warns, and is not looked at where there is a hard one."""
        self.assertIs(exceeded(StatsTrack(nodes=1), StatsTrack(1, 0), 1, 0), False)
        self.assertIsNone(exceeded(StatsTrack(nodes=1, count_hard_limit=9), StatsTrack(1, 0), 1, 0))
        self.assertIs(exceeded(StatsTrack(size=1), StatsTrack(1, 1), 1, 1), False)

    def test_unchanged_is_not_judged(self) -> None:
        """What a change leaves as it is may be over its limit already."""
        over = StatsTrack(9, 9)
        self.assertIsNone(exceeded(StatsTrack(count_hard_limit=1, byte_hard_limit=1), over, 0, 0))
        self.assertTrue(exceeded(StatsTrack(byte_hard_limit=1), over, 0, -1))

    def test_enforce(self) -> None:
        """Hard limits refuse, soft ones report, unreadable texts are an internal failure."""
        self.assertFalse(enforce(b"count=5,bytes=-1", b"count=1,bytes=0", 1, 0))
        self.assertTrue(enforce(b"count=1,bytes=-1", b"count=1,bytes=0", 1, 0))
        error = self.assertRaises(KeeperError, enforce, b"countHardLimit=1", b"count=1,bytes=0", 1, 0)
        self.assertEqual(error.code, Code.QUOTAEXCEEDED)
        error = self.assertRaises(KeeperError, enforce, b"x", b"count=1,bytes=0", 1, 0)
        self.assertEqual(error.code, Code.MARSHALLINGERROR)
