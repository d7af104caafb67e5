"""Time that stands still: what is called when, and by whose clock."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from zktwisted.testing.clock import BusyError, World


class WorldTests(SynchronousTestCase):
    """One world, many clocks."""

    def setUp(self) -> None:
        self.world = World()
        self.told: list[object] = []

    def tell(self, what: object) -> None:
        self.told.append((what, self.world.now))

    def test_order(self) -> None:
        """Each call has its own time, and calls of one time come in the order in which they were asked for."""
        clock, other = self.world.clock, self.world.make_clock()
        clock.callLater(2, self.tell, "late")
        other.callLater(1, self.tell, "first")
        clock.callLater(1, self.tell, "clocks in the order of their making")
        other.callLater(1, self.tell, "second")
        self.world.advance(3)
        self.assertEqual(
            self.told,
            [("clocks in the order of their making", 1), ("first", 1), ("second", 1), ("late", 2)],
        )
        self.assertEqual((self.world.now, self.world.steps), (3, 4))

    def test_step(self) -> None:
        """A step is one call, and whoever watches is told behind it."""
        self.world.clock.callLater(1, self.tell, "one")
        self.world.clock.callLater(1, self.tell, "two")
        self.world.after_step = lambda: self.tell("step")
        self.assertTrue(self.world.step())
        self.assertEqual([what for what, _ in self.told], ["one", "step"])
        self.assertFalse(self.world.step(until=0.5))
        self.assertTrue(self.world.step())
        self.assertFalse(self.world.step())

    def test_rates(self) -> None:
        """A clock that goes fast reaches its times early, and none ever goes back."""
        fast = self.world.make_clock(start=100, rate=2)
        fast.callLater(4, lambda: self.tell(fast.seconds()))
        self.world.advance(2)
        self.assertEqual(self.told, [(104, 2)])
        fast.set_rate(0.5)
        self.world.advance(2)
        self.assertEqual(fast.seconds(), 105)

    def test_delayed_calls(self) -> None:
        """Calls can be put off, brought forward and cancelled, and are listed until they are called."""
        clock = self.world.clock
        early = clock.callLater(1, self.tell, "early")
        late = clock.callLater(2, self.tell, "late")
        gone = clock.callLater(3, self.tell, "gone")
        early.reset(4)
        late.reset(1)
        gone.cancel()
        self.assertEqual(clock.getDelayedCalls(), [late, early])
        self.world.advance(5)
        self.assertEqual(self.told, [("late", 1), ("early", 4)])
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_frozen(self) -> None:
        """A process that stands still is late with everything, and its clock has gone on."""
        clock = self.world.make_clock()
        clock.callLater(1, lambda: self.tell(clock.seconds()))
        clock.freeze()
        self.world.advance(5)
        self.assertEqual(self.told, [])
        clock.thaw()
        self.world.advance(0)
        self.assertEqual(self.told, [(5, 5)])

    def test_forgotten(self) -> None:
        """Of a dead process nothing is ever called."""
        clock = self.world.make_clock()
        clock.callLater(1, self.tell, "before")
        clock.forget()
        clock.callLater(1, self.tell, "after")
        self.world.advance(5)
        self.assertEqual((self.told, clock.getDelayedCalls()), ([], []))

    def test_wall(self) -> None:
        """The date goes on with the world, and may be wrong in one process."""
        wrong = self.world.make_clock(wall_offset_ms=-60_000)
        date = self.world.wall_ms()
        self.world.advance(1.5)
        self.assertEqual((self.world.wall_ms() - date, wrong.wall_ms() - date), (1500, -58_500))

    def test_busy(self) -> None:
        """Calls that beget calls without any time passing are found out."""

        def again() -> None:
            self.world.clock.callLater(0, again)

        again()
        with self.assertRaises(BusyError):
            self.world.advance(1)
