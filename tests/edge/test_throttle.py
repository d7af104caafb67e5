"""Limits count what they must and let go of it again."""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from zktwisted.edge.throttle import (
    ConnectionCounts,
    ConnectionExpiry,
    ConnectionThrottle,
    LargeRequests,
    OutstandingLimit,
    RequestThrottler,
)
from zktwisted.server.metrics import ServerMetrics

PING, CREATE_SESSION, CLOSE_SESSION, GET_DATA = 11, -10, -11, 4


class Request:
    """A request as the throttler sees it."""

    def __init__(self, op: int = GET_DATA, received: float = 0.0) -> None:
        self.op = op
        self.received = received
        self.session_timeout_ms = 1000
        self.connection_gone = False


class ConnectionThrottleTests(SynchronousTestCase):
    def test_off(self) -> None:
        """Without tokens there is no throttle."""
        throttle = ConnectionThrottle(Random(1), 0.0)
        self.assertTrue(all(throttle.admits(0.0) for _ in range(1000)))
        self.assertEqual(throttle.deficit, 0)

    def test_bucket(self) -> None:
        """A full bucket allows a burst; later ones come at the speed of the filling, fractions kept."""
        throttle = ConnectionThrottle(Random(1), 0.0, tokens=3, fill_time_ms=100, fill_count=1)
        self.assertEqual([throttle.admits(0.0) for _ in range(4)], [True, True, True, False])
        self.assertEqual(throttle.deficit, 3)
        self.assertEqual([throttle.admits(0.15), throttle.admits(0.15)], [True, False])
        self.assertEqual([throttle.admits(0.26), throttle.admits(0.26)], [True, False])
        self.assertEqual([throttle.admits(9.0) for _ in range(4)], [True, True, True, False])

    def test_weights(self) -> None:
        """With weights the bucket is counted in new global sessions; other kinds take less of it."""
        throttle = ConnectionThrottle(Random(1), 0.0, tokens=2, weight_enabled=True)
        self.assertTrue(throttle.admits(0.0))
        self.assertEqual(throttle.deficit, 3)
        self.assertTrue(throttle.admits(0.0, renew=True))
        self.assertTrue(throttle.admits(0.0, local=True))
        self.assertFalse(throttle.admits(0.0, local=True))

    def test_random_refusal(self) -> None:
        """While the bucket stays empty the chance of a refusal rises, once a freeze time; then it falls."""
        throttle = ConnectionThrottle(
            Random(1),
            0.0,
            tokens=2,
            fill_time_ms=1000,
            freeze_time_ms=10,
            drop_increase=0.25,
            drop_decrease=0.5,
        )
        for now in (0.0, 0.0, 0.02, 0.021, 0.04):
            throttle.admits(now)
        self.assertEqual(throttle.drop_probability, 0.5)
        for step in range(20):
            throttle.admits(0.1 + step / 50)
        self.assertEqual(throttle.drop_probability, 1.0)
        self.assertFalse(throttle.admits(0.9))
        throttle.admits(10.0)
        self.assertEqual(throttle.drop_probability, 0.5)
        throttle.admits(20.0)
        self.assertEqual(throttle.drop_probability, 0.0)
        self.assertTrue(throttle.admits(30.0))


class ConnectionCountsTests(SynchronousTestCase):
    def test_per_address(self) -> None:
        """Each address has its own limit; a connection that went makes room."""
        counts = ConnectionCounts(per_address=2)
        self.assertEqual([counts.refusal("1.1.1.1"), counts.refusal("1.1.1.1")], [None, None])
        self.assertEqual(counts.refusal("1.1.1.1"), "Too many connections from /1.1.1.1: max is 2")
        self.assertIsNone(counts.refusal("2.2.2.2"))
        counts.release("1.1.1.1")
        self.assertIsNone(counts.refusal("1.1.1.1"))
        self.assertEqual((counts.total, counts.from_address("1.1.1.1")), (3, 2))

    def test_total(self) -> None:
        """The total counts connections without an address too, and a refused one is not counted."""
        counts = ConnectionCounts(per_address=0, total=2)
        self.assertEqual([counts.refusal(None), counts.refusal("::1")], [None, None])
        self.assertEqual(counts.refusal(None), "Too many connections: max is 2")
        counts.release(None)
        counts.release("::1")
        self.assertEqual((counts.total, counts.from_address("::1")), (0, 0))


class LargeRequestsTests(SynchronousTestCase):
    def test_limit(self) -> None:
        """Only large requests count, and only up to the limit, until they are released."""
        large = LargeRequests(threshold=10, max_bytes=30)
        self.assertEqual([large.admits(size) for size in (10, 11, 15, 11, 10)], [True, True, True, False, True])
        self.assertEqual(large.bytes, 26)
        large.release(10)
        large.release(15)
        self.assertTrue(large.admits(11))

    def test_off(self) -> None:
        """By default no request is large."""
        large = LargeRequests()
        self.assertTrue(large.admits(1 << 30))
        self.assertEqual(large.bytes, 0)


class OutstandingLimitTests(SynchronousTestCase):
    def test_pause_and_resume(self) -> None:
        """Over the limit, who has requests under way is paused, until enough of all are answered."""
        limit: OutstandingLimit[str] = OutstandingLimit(3)
        limit.in_flight += 4
        self.assertFalse(limit.must_pause("idle", 0))
        self.assertTrue(limit.must_pause("a", 2))
        self.assertTrue(limit.must_pause("b", 2))
        self.assertEqual(limit.finished("b", 1), [])
        self.assertEqual(limit.finished("b", 0), ["a", "b"])
        self.assertEqual(limit.finished("a", 1), [])
        self.assertFalse(limit.must_pause("a", 1))

    def test_own_answers(self) -> None:
        """A connection whose own requests are all answered reads on even when others keep the count high."""
        limit: OutstandingLimit[str] = OutstandingLimit(1)
        limit.in_flight = 9
        limit.must_pause("a", 1)
        self.assertEqual(limit.finished("a", 0), ["a"])
        self.assertEqual(limit.in_flight, 8)

    def test_gone(self) -> None:
        """A lost connection takes its requests with it and is not resumed."""
        limit: OutstandingLimit[str] = OutstandingLimit(2)
        limit.in_flight = 5
        limit.must_pause("a", 4)
        limit.must_pause("b", 1)
        self.assertEqual(limit.gone("a", 4), ["b"])
        self.assertEqual(limit.in_flight, 1)


class RequestThrottlerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.metrics = ServerMetrics()

    def throttler(self, **settings: object) -> RequestThrottler[Request]:
        return RequestThrottler(self.metrics, **settings)  # type: ignore[arg-type]

    def test_room(self) -> None:
        """Requests run in order as long as there is room; the others wait for those to finish."""
        throttler = self.throttler(max_requests=2)
        requests = [Request() for _ in range(4)]
        self.assertIsNone(throttler.deadline(0.0))
        for request in requests:
            throttler.submit(request)
        self.assertEqual([r for r, _ in throttler.ready(0.0)], requests[:2])
        self.assertEqual(list(throttler.ready(0.0)), [])
        self.assertEqual(throttler.deadline(1.0), 1.1)
        throttler.finished()
        self.assertEqual([r for r, _ in throttler.ready(0.0)], requests[2:3])
        throttler.finished(2)
        self.assertEqual([r for r, _ in throttler.ready(0.0)], requests[3:])
        self.assertEqual((throttler.in_pipeline, len(throttler)), (1, 0))

    def test_stale_dropped(self) -> None:
        """A waiting request whose client is gone is dropped, but a closeSession is run all the same."""
        throttler = self.throttler(max_requests=1)
        throttler.submit(Request())
        list(throttler.ready(0.0))
        gone, close = Request(), Request(CLOSE_SESSION)
        gone.connection_gone = close.connection_gone = True
        throttler.submit(gone)
        throttler.submit(close)
        self.assertEqual(list(throttler.ready(0.0)), [])
        self.assertEqual(throttler.take_dropped(), [gone])
        self.assertEqual(throttler.take_dropped(), [])
        throttler.finished()
        self.assertEqual(list(throttler.ready(0.0)), [(close, False)])
        self.assertEqual(self.metrics.stale_requests_dropped, 1)

    def test_stale_kept(self) -> None:
        """Without dropping, stale requests are only counted."""
        throttler = self.throttler(max_requests=1, drop_stale=False, stale_latency_check=True)
        late = Request(received=0.0)
        throttler.submit(late)
        self.assertEqual(list(throttler.ready(1.5)), [(late, False)])
        self.assertEqual((self.metrics.stale_requests, self.metrics.stale_requests_dropped), (1, 0))

    def test_late(self) -> None:
        """A request that waited too long is refused, unless it keeps or ends a session."""
        throttler = self.throttler(max_requests=9, throttled_op_wait_ms=100)
        for op in (GET_DATA, PING, CREATE_SESSION, CLOSE_SESSION):
            throttler.submit(Request(op, received=1.0))
        throttler.submit(Request(received=1.2))
        verdicts = [late for _, late in throttler.ready(1.2)]
        self.assertEqual(verdicts, [True, False, False, False, False])
        self.assertEqual(self.metrics.throttled_ops, 1)

    def test_off(self) -> None:
        """Without a maximum nothing waits."""
        throttler = self.throttler()
        self.assertFalse(throttler.enabled)
        for _ in range(50):
            throttler.submit(Request())
        self.assertEqual(len(list(throttler.ready(0.0))), 50)
        self.assertEqual(self.metrics.request_throttle_wait_count, 0)


class ConnectionExpiryTests(SynchronousTestCase):
    def test_silence(self) -> None:
        """A silent connection goes after its timeout, at most one bucket later; a touched one stays."""
        expiry: ConnectionExpiry[str] = ConnectionExpiry(10000)
        expiry.touch("silent", 10000, 1.0)
        expiry.touch("busy", 10000, 1.0)
        self.assertEqual(expiry.expired(11.0), [])
        expiry.touch("busy", 10000, 11.0)
        self.assertEqual(expiry.deadline(), 15.0)
        self.assertEqual(expiry.sets(), [(15.0, ["silent"]), (25.0, ["busy"])])
        self.assertEqual(expiry.expired(15.0), ["silent"])
        expiry.forget("silent")
        expiry.forget("busy")
        self.assertIsNone(expiry.deadline())
        self.assertEqual(expiry.expired(1000.0), [])
