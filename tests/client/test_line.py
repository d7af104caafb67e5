"""The line of requests: order, the window, cancellation, and who is told that nothing will come."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase

from zktwisted.client.answers import nothing
from zktwisted.client.line import BacklogError, Line
from zktwisted.errors import ConnectionLossError, SessionExpiredError
from zktwisted.wire.frames import FRAME


class LineTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.line = Line(window=3, max_waiting=5, max_frame=100)
        self.woken = 0
        self.made: list[Any] = []
        self.line.wake = self.wake

    def wake(self) -> None:
        self.woken += 1

    def add(self, path: str = "/a", body: bytes = b"") -> Any:
        asked = self.line.add(4, body, nothing, path)
        self.made.append(asked)
        return asked

    def tearDown(self) -> None:
        for asked in self.made:
            asked.addErrback(lambda failure: None)

    def xids(self, data: bytes) -> list[int]:
        """Return the xids of frames."""
        found = []
        while data:
            length, xid, op = FRAME.unpack_from(data)
            self.assertEqual(4, op)
            found.append(xid)
            data = data[4 + length :]
        return found

    def test_window(self) -> None:
        """So many are under way, no more; the next go when there is room, in their order."""
        for _ in range(5):
            self.add()
        self.assertEqual([1, 2, 3], self.xids(self.line.take()))
        self.assertEqual(b"", self.line.take())
        self.assertTrue(self.line.waiting)
        self.line.under_way.popleft()
        self.assertEqual([4], self.xids(self.line.take()))
        self.assertEqual([2, 3, 4], [entry[0] for entry in self.line.under_way])
        self.assertEqual((4, 5), (len(self.line), self.woken))

    def test_backlog(self) -> None:
        """When too many wait the next is not taken; those that wait are as before."""
        kept = [self.add() for _ in range(5)]
        self.failureResultOf(self.add(), BacklogError)
        self.assertEqual(5, len(self.line))
        for each in kept:
            self.assertNoResult(each)

    def test_too_large(self) -> None:
        """A request for which the server would close the connection fails alone."""
        self.assertNoResult(self.add(body=bytes(92)))
        failure = self.failureResultOf(self.add(body=bytes(93)), ValueError)
        self.assertIn("jute.maxbuffer", str(failure.value))
        self.assertEqual(1, len(self.line))

    def test_refusal(self) -> None:
        """A line that is closed takes nothing, and says why."""
        self.line.refusal = SessionExpiredError
        failure = self.failureResultOf(self.add("/x"), SessionExpiredError)
        self.assertEqual("/x", failure.value.path)
        self.assertFalse(self.line.waiting)

    def test_cancelled_before_it_is_sent(self) -> None:
        """It is not sent."""
        _, second, _ = self.add(), self.add(), self.add()
        second.cancel()
        self.failureResultOf(second, CancelledError)
        self.assertEqual([1, 3], self.xids(self.line.take()))

    def test_cancelled_make_room(self) -> None:
        """Requests that are cancelled while nothing can be sent take nobody's place."""
        for _ in range(3):
            for each in [self.add() for _ in range(5)]:
                each.cancel()
                self.failureResultOf(each, CancelledError)
        self.assertNoResult(self.add())
        self.assertEqual([16], self.xids(self.line.take()))

    def test_cancelled_later(self) -> None:
        """It keeps its place, since its answer will come."""
        first = self.add()
        self.line.take()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        second = self.add()
        self.assertEqual([2], self.xids(self.line.take()))
        self.assertEqual([1, 2], [entry[0] for entry in self.line.under_way])
        self.line.fail(ConnectionLossError)
        self.failureResultOf(second, ConnectionLossError)

    def test_fail(self) -> None:
        """All in the line are told, oldest first, each of its own path."""
        told: list[str | None] = []
        for number in range(5):
            self.add(f"/{number}").addErrback(lambda failure: told.append(failure.value.path))
        self.line.take()
        self.line.fail(ConnectionLossError)
        self.assertEqual(["/0", "/1", "/2", "/3", "/4"], told)
        self.assertEqual(0, len(self.line))
        self.assertFalse(self.line.waiting)

    def test_fail_some(self) -> None:
        """Who came later stays."""
        lost = [self.add(), self.add()]
        self.line.take()
        asked = self.line.all()
        later = self.add()
        self.line.fail(ConnectionLossError, asked)
        for each in lost:
            self.failureResultOf(each, ConnectionLossError)
        self.assertNoResult(later)
        self.assertEqual([3], self.xids(self.line.take()))

    def test_large_requests_go_in_pieces(self) -> None:
        """A megabyte is enough for one write."""
        line = Line(window=100, max_waiting=100, max_frame=1_000_000)
        for _ in range(4):
            line.add(4, bytes(400_000), nothing)
        self.assertEqual([1, 2], self.xids(line.take()))
        self.assertEqual([3, 4], self.xids(line.take()))
        line.add(4, bytes(900_000), nothing)
        line.add(4, bytes(900_000), nothing)
        self.assertEqual([5], self.xids(line.take()))

    def test_room(self) -> None:
        """Who waits for room is called when there is some, as many as there is room for."""
        self.successResultOf(self.line.room())
        for _ in range(3):
            self.add()
        one, other = self.line.room(), self.line.room()
        one.addCallback(lambda _: [self.add()])
        self.line.take()
        self.assertNoResult(one)
        self.line.under_way.popleft()
        self.line.moved()
        self.successResultOf(one)
        self.assertNoResult(other)
        self.line.fail(ConnectionLossError)
        self.successResultOf(other)

    def test_xids_wrap(self) -> None:
        """After the largest there comes 1: others have a meaning of their own."""
        self.line._xid = 0x7FFFFFFE
        self.add(), self.add()
        self.assertEqual([0x7FFFFFFF, 1], self.xids(self.line.take()))
