"""What is done again and again, and after a stall."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from zktwisted.server.timers import Ticker


class TickerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.times: list[float] = []

    def ticker(self, interval: float, **options: object) -> Ticker:
        def action() -> None:
            self.times.append(round(self.clock.seconds(), 2))

        return Ticker(self.clock.callLater, self.clock.seconds, interval, action, **options)  # type: ignore[arg-type]

    def test_interval(self) -> None:
        """The first time is one interval after the start, and so on until the stop, which leaves no call behind."""
        self.clock.advance(1.5)
        ticker = self.ticker(2)
        ticker.start()
        self.clock.pump([0.25] * 20)
        self.assertEqual(self.times, [3.5, 5.5])
        ticker.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_aligned(self) -> None:
        """Aligned to the multiples of the interval, it comes just behind them."""
        self.clock.advance(1.5)
        ticker = self.ticker(2, aligned=True)
        ticker.start()
        self.clock.pump([0.01] * 500)
        self.assertEqual(self.times, [2.01, 4.01, 6.01])
        ticker.stop()

    def test_stall(self) -> None:
        """After a stall the action waits for one more turn, in which what has come meanwhile is read."""
        stalls: list[float] = []
        ticker = self.ticker(2, stalled=stalls.append)
        ticker.start()
        self.clock.advance(30)
        self.assertEqual(self.times, [])
        self.clock.advance(0.001)
        self.assertEqual(self.times, [30.0])
        self.assertAlmostEqual(stalls[0], 28, places=1)
        self.clock.advance(2.01)
        self.assertEqual(self.times, [30.0, 32.01])
        self.assertLess(stalls[1], 0.1)
        ticker.stop()

    def test_failure(self) -> None:
        """An action that fails is logged, and its next time comes."""
        calls: list[int] = []

        def action() -> None:
            calls.append(1)
            raise ZeroDivisionError

        ticker = Ticker(self.clock.callLater, self.clock.seconds, 1, action)
        ticker.start()
        self.clock.pump([1.05] * 2)
        self.assertEqual(len(calls), 2)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)
        ticker.stop()

    def test_stop_within(self) -> None:
        """An action may stop its own ticker."""
        ticker = Ticker(self.clock.callLater, self.clock.seconds, 1, lambda: ticker.stop())
        ticker.start()
        self.clock.advance(1.05)
        self.assertEqual(self.clock.getDelayedCalls(), [])
