"""Many requests at a time, and not too many."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.zkt.world import ZktCase
from zktwisted.zkt.pipeline import Window, in_order
from zktwisted.zkt.walk import Walk


class OrderTests(SynchronousTestCase):
    """Answers in the order of the questions."""

    def setUp(self) -> None:
        self.asked: list[Deferred[int]] = []
        self.taken = 0
        self.answers: list[Any] = []

    def items(self) -> Iterator[int]:
        for number in range(100):
            self.taken += 1
            yield number

    def ask(self, number: int) -> Deferred[int]:
        self.asked.append(Deferred())
        return self.asked[-1]

    async def gather(self) -> None:
        answers = in_order(self.items(), self.ask, 5)
        async with aclosing(answers):
            async for pair in answers:
                self.answers.append(pair)

    def test_window(self) -> None:
        """So many are asked for and no more, and the items are not looked at before there is room for them."""
        done = Deferred.fromCoroutine(self.gather())
        self.assertEqual((5, 5), (len(self.asked), self.taken))
        self.asked[1].callback(11)
        self.assertEqual([], self.answers)
        self.asked[0].callback(10)
        self.assertEqual([(0, 10), (1, 11)], self.answers)
        self.assertEqual((7, 7), (len(self.asked), self.taken))
        for asked in self.asked:  # which grows meanwhile
            if not asked.called:
                asked.callback(0)
        self.successResultOf(done)
        self.assertEqual(list(range(100)), [number for number, _ in self.answers])

    def test_failures(self) -> None:
        """A failure is an answer like any other."""
        done = Deferred.fromCoroutine(self.gather())
        self.asked[0].errback(KeyError("x"))
        self.assertIsInstance(self.answers[0][1], Failure)
        done.cancel()
        self.failureResultOf(done, CancelledError)

    def test_interrupted(self) -> None:
        """Whoever is interrupted waits for nothing any more."""
        done = Deferred.fromCoroutine(self.gather())
        done.cancel()
        self.failureResultOf(done, CancelledError)
        self.assertTrue(all(asked.called for asked in self.asked))


class WindowTests(SynchronousTestCase):
    """Writes under way."""

    def begin(self, window: Window, size: int = 0) -> tuple[Deferred[int], Deferred[None]]:
        """Add a write; return it, and who waits for room."""
        asked: Deferred[int] = Deferred()
        return asked, Deferred.fromCoroutine(window.add(asked, size))

    def test_room(self) -> None:
        """So many at a time, and so many bytes."""
        window = Window(2)
        first, room = self.begin(window)
        self.successResultOf(room)
        second, room = self.begin(window)
        self.assertNoResult(room)
        first.callback(1)
        self.successResultOf(room)
        large, room = self.begin(window, 5_000_000)
        second.callback(1)
        self.assertNoResult(room)
        large.callback(1)
        self.successResultOf(room)
        self.successResultOf(Deferred.fromCoroutine(window.drained()))

    def test_failure(self) -> None:
        """The first failure ends the waiting, and whatever comes after it."""
        window = Window(1)
        first, room = self.begin(window)
        first.errback(KeyError("first"))
        self.failureResultOf(room, KeyError)
        self.failureResultOf(Deferred.fromCoroutine(window.drained()), KeyError)
        second, room = self.begin(window)
        self.failureResultOf(room, KeyError)
        window.give_up()
        self.assertTrue(second.called)


class WalkTests(ZktCase):
    """What a walk keeps in memory."""

    def test_reading_ahead(self) -> None:
        """However wide a tree is on many levels, only so many nodes are read before somebody wants them."""
        zk = self.connected()
        path = ""
        for _ in range(5):
            path += "/a"
            self.result(zk.create(path))
            for number in range(150):
                zk.create(f"{path}/b{number:03}")
        self.result(zk.sync("/"))

        async def walk() -> int:
            most = 0
            made = Walk(self.context, await self.context.client(), "/a", data=True)
            async for _ in made.nodes():
                most = max(most, sum(pending.asked is not None for pending in made._stack))
            return most

        most = self.wait(walk())
        self.assertGreater(most, 64)
        self.assertLessEqual(most, 129)
