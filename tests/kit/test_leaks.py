"""What clients hold, what of it is new, and how that is told."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from zktwisted.kit.leaks import Holdings, LeakError


class HoldingsTests(SynchronousTestCase):
    """Holdings are compared and complained of."""

    before = Holdings((1,), {"/a": [1]}, {1: ["/e"]})

    def test_nothing_new(self) -> None:
        """What was there, and what has gone, is no leak."""
        self.before.since(self.before).check()
        Holdings().since(self.before).check()

    def test_all_that_is_new(self) -> None:
        """Each piece is named, with its session."""
        now = Holdings((1, -1), {"/a": [1, 1, -1], "/b": [1]}, {1: ["/e", "/f"], -1: ["/g"]})
        error = self.assertRaises(LeakError, now.since(self.before).check)
        self.assertEqual(
            [
                "left behind:",
                "  session 0xffffffffffffffff",
                "  watch on /a, of session 0x1",
                "  watch on /a, of session 0xffffffffffffffff",
                "  watch on /b, of session 0x1",
                "  ephemeral node /g, of session 0xffffffffffffffff",
                "  ephemeral node /f, of session 0x1",
            ],
            str(error).splitlines(),
        )

    def test_kinds(self) -> None:
        """Only what was asked for is looked at."""
        now = Holdings((1,), {}, {})
        now.check("watches", "ephemerals")
        self.assertRaises(LeakError, now.check, "sessions")
        self.assertIsInstance(LeakError(), AssertionError)
        self.assertIn("watches", str(self.assertRaises(ValueError, Holdings().check, "watch")))
