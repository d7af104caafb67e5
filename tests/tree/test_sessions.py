"""Sessions: ids, passwords, owners, and when they expire."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from zktwisted.errors import Code, KeeperError
from zktwisted.tree.sessions import (
    SessionIds,
    SessionTracker,
    check_password,
    first_session_id,
    password_of,
)

TABLE = Path(__file__).parents[1] / "golden" / "tables" / "session_password.jsonl"


class PasswordTests(SynchronousTestCase):
    """Passwords are a function of the id."""

    def test_golden(self) -> None:
        """Every recorded id, signed or not, has the recorded password."""
        with TABLE.open(encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                session_id = row["sessionId"]
                self.assertEqual(password_of(session_id).hex(), row["passwd"])
                self.assertEqual(password_of(session_id % 2**64).hex(), row["passwd"])
                self.assertEqual(check_password(session_id, bytes.fromhex(row["passwd"])), session_id != 0)

    def test_wrong(self) -> None:
        """Another session's, a short and a null password are refused."""
        self.assertFalse(check_password(5, password_of(6)))
        self.assertFalse(check_password(5, password_of(5)[:15]))
        self.assertFalse(check_password(5, None))


class IdTests(SynchronousTestCase):
    """Session ids."""

    def test_layout(self) -> None:
        """Server id on top, then 40 bits of the clock, then a counter."""
        self.assertEqual(first_session_id(0x1109B8, 1), 0x0100_0011_09B8_0000)
        self.assertEqual(first_session_id(0xABCDEF_1234567890, 3), 0x0312_3456_7890_0000)

    def test_signed(self) -> None:
        """Ids are signed longs, and the one that would mark a container is never made."""
        self.assertEqual(first_session_id(1, 0xFE), 0xFE00_0000_0001_0000 - 2**64)
        self.assertEqual(first_session_id(0, 0x80), -(2**63) + 1)

    def test_count(self) -> None:
        """Each id is one more than the one before, and the sum stays a signed long."""
        ids = SessionIds(0x1109B8, 1)
        self.assertEqual([ids.make() for _ in range(3)], [0x0100_0011_09B8_0000 + n for n in range(3)])
        ids.next = 2**63 - 1
        self.assertEqual([ids.make(), ids.make()], [2**63 - 1, -(2**63)])


class ExpiryTests(SynchronousTestCase):
    """When sessions expire."""

    def setUp(self) -> None:
        self.tracker = SessionTracker(2000)

    def test_next_tick_strictly(self) -> None:
        """A session ends at the first tick after its timeout, never at it."""
        self.tracker.add(1, 4000, 0)
        self.assertEqual(self.tracker.deadline(), 6000)
        self.assertEqual(self.tracker.expire_due(5999.9), [])
        self.assertEqual(self.tracker.expire_due(6000), [1])
        self.assertIsNone(self.tracker.deadline())

    def test_fraction(self) -> None:
        """Fractions of a millisecond do not make it live shorter."""
        self.tracker.add(1, 4000, 1999.9)
        self.assertEqual(self.tracker.deadline(), 6000)
        self.tracker.add(2, 4000, 2000.1)
        self.assertEqual(self.tracker.expire_due(6000), [1])
        self.assertEqual(self.tracker.deadline(), 8000)

    def test_touch(self) -> None:
        """A touch moves the end; within a tick it changes nothing."""
        session = self.tracker.add(1, 4000, 0)
        self.assertTrue(self.tracker.touch(session, 1000))
        self.assertEqual(session.bucket, 6000)
        self.assertTrue(self.tracker.touch(session, 3000))
        self.assertEqual(session.bucket, 8000)
        self.assertEqual(self.tracker.expire_due(6000), [])
        self.assertEqual(self.tracker.deadline(), 8000)

    def test_new_timeout(self) -> None:
        """A reconnect brings its own timeout, longer or shorter, and later touches use it."""
        session = self.tracker.add(1, 40000, 0)
        self.assertTrue(self.tracker.touch_id(1, 100, 4000))
        self.assertEqual((session.timeout, session.bucket), (4000, 6000))
        self.tracker.touch(session, 5000)
        self.assertEqual(session.bucket, 10000)
        self.assertFalse(self.tracker.touch_id(2, 100))

    def test_expired_is_closing_until_removed(self) -> None:
        """An expired session cannot be revived, and stays known until its close is applied."""
        session = self.tracker.add(1, 4000, 0)
        self.tracker.expire_due(6000)
        self.assertFalse(self.tracker.touch(session, 6001))
        self.assertIn(1, self.tracker)
        self.assertEqual(self.tracker.expire_due(60000), [])
        self.assertIs(self.tracker.remove(1), session)
        self.assertIsNone(self.tracker.remove(1))
        self.assertNotIn(1, self.tracker)

    def test_closing(self) -> None:
        """A session marked closing is not expired besides."""
        self.tracker.add(1, 4000, 0)
        self.assertTrue(self.tracker.set_closing(1))
        self.assertTrue(self.tracker.set_closing(1))
        self.assertFalse(self.tracker.set_closing(2))
        self.assertIsNone(self.tracker.deadline())
        self.assertFalse(self.tracker.touch_id(1, 10))

    def test_order(self) -> None:
        """Sessions expire in the order of their buckets, then of arrival."""
        for session_id, timeout in ((5, 9000), (3, 4000), (9, 4000), (1, 4000)):
            self.tracker.add(session_id, timeout, 0)
        self.assertEqual(self.tracker.expire_due(10**6), [3, 9, 1, 5])

    def test_load(self) -> None:
        """After a start every known session has its whole timeout."""
        self.tracker.load({7: 4000, 8: 9000}, 10_000)
        self.assertEqual(list(self.tracker.buckets()), [(16000, [7]), (20000, [8])])
        self.assertEqual(self.tracker.timeouts(), {7: 4000, 8: 9000})

    def test_add_twice(self) -> None:
        """Adding a known session touches it."""
        session = self.tracker.add(1, 4000, 0)
        self.assertIs(self.tracker.add(1, 6000, 1), session)
        self.assertEqual((len(self.tracker), session.bucket), (1, 8000))

    def test_dump(self) -> None:
        """Buckets are shown in the order of time, local and global sessions apart."""
        self.tracker.add(1, 9000, 0)
        self.tracker.add(2, 4000, 0, local=True)
        self.tracker.add(3, 4000, 0)
        self.assertEqual(list(self.tracker.buckets()), [(6000, [2, 3]), (10000, [1])])
        self.assertEqual(list(self.tracker.buckets(local=True)), [(6000, [2])])
        self.assertEqual(self.tracker.timeouts(local=False), {1: 9000, 3: 4000})
        self.assertIn("0x1 ", repr(self.tracker.get(1)))

    @settings(deadline=None, max_examples=100, derandomize=True)
    @given(
        st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3000), st.sampled_from([None, 4000, 11000]))),
        st.sampled_from([500, 2000, 3000]),
    )
    def test_against_a_model(self, steps: list[tuple[int, int, int | None]], tick: int) -> None:
        """Whatever is touched when, a silent session lives for its timeout and at most one tick longer."""
        tracker = SessionTracker(tick)
        now = 0
        last: dict[int, tuple[int, int]] = {}
        for session_id, wait, timeout in steps:
            now += wait
            for expired in tracker.expire_due(now):
                touched, limit = last.pop(expired)
                self.assertGreater(now, touched + limit)
                tracker.remove(expired)
            for touched, limit in last.values():
                self.assertLess(now, touched + limit + tick + 1)
            if session_id in last:
                self.assertTrue(tracker.touch_id(session_id, now, timeout))
                last[session_id] = now, timeout or last[session_id][1]
            else:
                tracker.add(session_id, timeout or 5000, now)
                last[session_id] = now, timeout or 5000
            deadline = tracker.deadline()
            self.assertIsNotNone(deadline)
            self.assertEqual(sum(len(ids) for _, ids in tracker.buckets()), len(last))


class OwnerTests(SynchronousTestCase):
    """Who may act for a session."""

    def test_check(self) -> None:
        """The first who asks is adopted; another one finds that the session moved."""
        tracker = SessionTracker(2000)
        tracker.add(1, 4000, 0)
        here, there = object(), object()
        self.assertIs(tracker.check(1, here), tracker.get(1))
        tracker.check(1, here)
        self.assertEqual(self.assertRaises(KeeperError, tracker.check, 1, there).code, Code.SESSIONMOVED)
        tracker.set_owner(1, there)
        tracker.check(1, there)
        self.assertEqual(self.assertRaises(KeeperError, tracker.check, 1, here).code, Code.SESSIONMOVED)

    def test_unknown_and_closing(self) -> None:
        """Unknown and closing sessions have their own codes."""
        tracker = SessionTracker(2000)
        tracker.add(1, 4000, 0)
        tracker.set_closing(1)
        self.assertEqual(self.assertRaises(KeeperError, tracker.check, 1, self).code, Code.SESSIONEXPIRED)
        self.assertEqual(self.assertRaises(KeeperError, tracker.check, 2, self).code, Code.UNKNOWNSESSION)
        error = self.assertRaises(KeeperError, tracker.check, 2, self, Code.SESSIONEXPIRED)
        self.assertEqual(error.code, Code.SESSIONEXPIRED)
        for session_id in (1, 2):
            error = self.assertRaises(KeeperError, tracker.set_owner, session_id, self)
            self.assertEqual(error.code, Code.SESSIONEXPIRED)
