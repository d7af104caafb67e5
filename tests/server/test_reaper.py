"""The pace of the reaper."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from zktwisted.server.reaper import Reaper


class ReaperTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.found = [b"/%d" % number for number in range(100)]
        self.gone: list[bytes] = []

    def reaper(self, per_minute: int) -> Reaper:
        return Reaper(self.clock.callLater, lambda: list(self.found), self.gone.append, per_minute)

    def test_slowly(self) -> None:
        """Six a minute are one in ten seconds."""
        reaper = self.reaper(6)
        reaper.run()
        self.assertEqual(self.gone, [b"/0"])
        self.clock.pump([0.5] * 100)
        self.assertEqual(self.gone, [b"/%d" % number for number in range(6)])
        reaper.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_quickly(self) -> None:
        """Many a minute are several at a time; when all have been handed out nothing is left to be called."""
        reaper = self.reaper(10_000)
        reaper.run()
        self.clock.pump([0.05] * 5)
        self.assertLess(len(self.gone), 100)
        self.clock.pump([0.05] * 20)
        self.assertEqual(self.gone, self.found)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_busy(self) -> None:
        """A round that is not over is finished before the next one begins: no path is handed out twice."""
        reaper = self.reaper(60)
        reaper.run()
        self.clock.advance(1)
        reaper.run()
        self.clock.pump([1.0] * 200)
        self.assertEqual(self.gone, self.found)
        self.found = [b"/x"]
        reaper.run()
        self.assertEqual(self.gone[-1], b"/x")
