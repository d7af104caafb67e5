"""The recipes when something goes wrong at the worst moment, each fault planted where it would do most harm."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from zktwisted.client import State, ZooKeeperClient
from zktwisted.client.recipes import Barrier, Counter, DoubleBarrier, LeaderElection, Lock, Party, Queue, TreeCache
from zktwisted.client.recipes.queue import QueueItem
from zktwisted.errors import NoAuthError, SessionExpiredError
from zktwisted.testing import MemoryEnsemble, MemoryServer
from zktwisted.wire.proto import ACL, Id

T = TypeVar("T")

_deferred = Deferred.fromCoroutine


class FaultCase(SynchronousTestCase):
    """One server, and clients of it."""

    def setUp(self) -> None:
        self.server = MemoryServer(seed=4)
        self.addCleanup(self.server.close)
        self.client = self.server.client(session_timeout=4.0)
        self.other = self.server.client(session_timeout=4.0)

    def result(self, asked: Deferred[T]) -> T:
        return self.server.result(asked)

    def children(self, path: str) -> list[str]:
        return sorted(self.result(self.other.children(path)))

    def unanswered(self, ask: Callable[[], Deferred[T]], then: Callable[[], object] | None = None) -> Deferred[T]:
        """Let something be asked and be carried out; the connection breaks before the answer comes."""
        self.server.mute(self.client)
        asked = ask()
        self.server.advance(0.2)
        self.assertNoResult(asked)
        if then is not None:
            then()
        self.server.drop(self.client)
        self.server.heal(self.client)
        return asked


class LockFaultTests(FaultCase):
    """Locks, and those who give up."""

    def test_cancelled_while_queued(self) -> None:
        """Its node goes; again and again, with nothing left in the client."""
        held, waiting = Lock(self.other, "/lock"), Lock(self.client, "/lock")
        self.result(held.acquire())
        for _ in range(30):
            asked = waiting.acquire().addTimeout(0.5, self.server.clock)
            self.server.advance(2)
            self.failureResultOf(asked)
            self.assertEqual(1, len(self.children("/lock")))
        self.assertEqual(0, len(self.client._watches))

    def test_cancelled_twice(self) -> None:
        """Who is impatient with giving up gives up all the same."""
        held, waiting = Lock(self.other, "/lock"), Lock(self.client, "/lock")
        self.result(held.acquire())
        asked = waiting.acquire()
        self.server.advance(1)
        self.assertEqual(2, len(self.children("/lock")))
        asked.cancel()
        asked.cancel()
        self.failureResultOf(asked, CancelledError)
        self.server.advance(1)
        self.assertEqual(1, len(self.children("/lock")))
        self.result(held.release())
        self.result(waiting.acquire())

    def test_release_that_is_cancelled(self) -> None:
        """The lock is let go of to the end."""
        lock = Lock(self.client, "/lock")
        self.result(lock.acquire())
        released = lock.release()
        released.cancel()
        self.failureResultOf(released, CancelledError)
        again = lock.acquire()
        self.result(again)
        self.assertEqual(1, len(self.children("/lock")))
        lock.release()
        self.server.advance(1)
        self.assertEqual([], self.children("/lock"))
        self.result(lock.acquire())

    def test_cancelled_while_nothing_is_known(self) -> None:
        """A creation without an answer leaves nothing behind when it is given up."""
        self.result(self.client.ensure_path("/lock"))
        lock = Lock(self.client, "/lock")
        asked: list[Deferred[None]] = []

        def ask() -> Deferred[None]:
            asked.append(lock.acquire())
            return asked[0]

        self.unanswered(ask, lambda: self.assertEqual(1, len(self.children("/lock"))))
        asked[0].cancel()
        self.server.advance(5)
        self.failureResultOf(asked[0], CancelledError)
        self.assertEqual([], self.children("/lock"))

    def test_expired_while_nothing_is_known(self) -> None:
        """The place that was got in vain goes with its session; another is got by the next."""
        self.result(self.client.ensure_path("/lock"))
        lock = Lock(self.client, "/lock")
        self.server.mute(self.client)
        asked = lock.acquire()
        self.server.advance(0.2)
        first = self.children("/lock")
        self.server.expire(self.client)
        self.result(asked)
        self.assertNotEqual(first, self.children("/lock"))
        self.assertEqual(1, len(self.children("/lock")))
        self.assertTrue(lock.held)

    def test_lost_before_anybody_asks(self) -> None:
        """Who asks too late whether the lock is lost is told at once."""
        lock = Lock(self.client, "/lock")
        self.successResultOf(lock.when_lost())
        self.result(lock.acquire())
        self.assertNoResult(lock.when_lost())
        self.server.expire(self.client)
        self.result(self.client.when_connected())
        self.assertFalse(lock.held)
        self.successResultOf(lock.when_lost())
        self.result(lock.release())
        self.result(lock.acquire())

    def test_node_that_somebody_deleted(self) -> None:
        """Who waits in a line and is not in it any more gets in line again."""
        held, waiting = Lock(self.other, "/lock"), Lock(self.client, "/lock")
        self.result(held.acquire())
        asked = waiting.acquire()
        self.server.advance(1)
        _, second = sorted(self.children("/lock"), key=lambda name: name[-10:])
        self.result(self.other.delete(f"/lock/{second}"))
        self.result(held.release())
        self.result(asked)
        self.assertNotEqual([second], self.children("/lock"))

    def test_refused(self) -> None:
        """A lock below what may not be written fails with the reason, and can be tried again."""
        self.result(self.other.create("/closed", acl=[ACL(1, Id("world", "anyone"))]))
        lock = Lock(self.client, "/closed")
        for _ in range(2):
            with self.assertRaises(NoAuthError):
                self.result(lock.acquire())

    def test_end_of_the_client(self) -> None:
        """Who waits is told that there is nothing to be waited for."""
        held, waiting = Lock(self.other, "/lock"), Lock(self.client, "/lock")
        self.result(held.acquire())
        asked = waiting.acquire()
        self.server.advance(1)
        self.result(self.client.close())
        self.failureResultOf(asked, SessionExpiredError)
        for made in (waiting.acquire(), LeaderElection(self.client, "/lock").run(lambda: self.fail("led"))):
            self.failureResultOf(made, SessionExpiredError)


class ElectionFaultTests(FaultCase):
    """Leaders whose session ends."""

    def test_given_up_while_the_work_winds_up(self) -> None:
        """Who is deposed, and then cancelled while his work winds up, does not stand again."""
        begun: list[str] = []
        wound_up: Deferred[None] = Deferred()

        async def lead() -> None:
            begun.append("begun")
            try:
                await Deferred()
            except CancelledError:
                await wound_up
                raise

        election = LeaderElection(self.client, "/leader")
        running = election.run(lead)
        self.server.until(lambda: begun)
        self.server.expire(self.client)
        self.assertNoResult(wound_up)
        running.cancel()
        self.server.advance(5)
        self.failureResultOf(running, CancelledError)
        self.assertEqual(["begun"], begun)
        self.assertEqual([], self.children("/leader"))

    def test_given_up(self) -> None:
        """The work is cancelled, and may say what it has come to; the next one leads when it has ended."""

        async def lead() -> str:
            try:
                await Deferred()
            except CancelledError:
                await self.client.sync()
            return "in order"

        async def follow() -> str:
            return "mine"

        first = LeaderElection(self.client, "/leader").run(lead)
        self.server.advance(1)
        second = LeaderElection(self.other, "/leader").run(follow)
        self.server.advance(1)
        first.cancel()
        self.assertNoResult(second)
        self.assertEqual("in order", self.result(first))
        self.assertEqual("mine", self.result(second))

    def test_work_that_fails(self) -> None:
        """Its error is the result, and the lead is given up."""

        async def lead() -> None:
            await self.client.sync()
            raise ZeroDivisionError

        with self.assertRaises(ZeroDivisionError):
            self.result(LeaderElection(self.client, "/leader").run(lead))
        self.assertEqual([], self.children("/leader"))


class QueueFaultTests(FaultCase):
    """No item is lost, and none is worked on by two."""

    def setUp(self) -> None:
        super().setUp()
        self.queue = Queue(self.client, "/queue")
        self.rival = Queue(self.other, "/queue")
        self.result(self.other.ensure_path("/queue/taken"))

    def put(self, *items: bytes) -> None:
        for item in items:
            self.result(self.rival.put(item))

    def test_two_by_one(self) -> None:
        """One object that takes twice at the same moment gets two items, not one twice."""
        self.put(b"a", b"b")
        taken = [self.queue.take(), self.queue.take(), self.queue.take()]
        first, second = self.result(taken[0]), self.result(taken[1])
        self.assertEqual({b"a", b"b"}, {first.data, second.data})
        self.server.advance(1)
        self.assertNoResult(taken[2])
        self.result(first.put_back())
        third = self.result(taken[2])
        self.assertEqual(first.data, third.data)
        # It is the other's now, and nothing of the first one's.
        self.failureResultOf_(first.done(), SessionExpiredError)
        self.result(gather(third.done(), second.done()))
        self.assertEqual(0, self.result(self.queue.size()))

    def failureResultOf_(self, asked: Deferred[Any], kind: type[Exception]) -> None:
        with self.assertRaises(kind):
            self.result(asked)

    def test_taken_without_an_answer(self) -> None:
        """The mark is found to be one's own."""
        self.put(b"a")
        item = self.result(self.unanswered(self.queue.take))
        self.result(item.done())
        self.assertEqual(0, self.result(self.queue.size()))

    def test_put_without_an_answer_and_expired(self) -> None:
        """Whether it was put is found out by the next session: it is there, and once."""
        self.put(b"first")
        put = self.unanswered(lambda: self.queue.put(b"second"), lambda: self.server.expire(self.client))
        self.result(put)
        self.assertEqual(2, self.result(self.rival.size()))

    def test_put_while_the_session_expires(self) -> None:
        """An item needs no session: the next one puts it."""
        self.put(b"first")
        self.server.network.refuse(self.server._hosts[self.client], "10.0.0.1")
        self.server.drop(self.client)
        self.server.until(lambda: not self.client.state.connected)
        put = self.queue.put(b"second")
        self.server.expire(self.client)
        self.server.heal(self.client)
        self.result(put)
        self.assertEqual(2, self.result(self.rival.size()))

    def test_put_at_the_end(self) -> None:
        """A client that is closed puts nothing."""
        self.result(self.client.close())
        self.failureResultOf_(self.queue.put(b"a"), SessionExpiredError)

    def mute_the_commit(self) -> list[None]:
        """Let the answer to the next transaction not come; return what tells whether it was asked for."""
        begun: list[None] = []
        transaction = self.client.transaction

        def make() -> Any:
            if not begun:
                self.server.mute(self.client)
            begun.append(None)
            return transaction()

        self.patch(self.client, "transaction", make)
        return begun

    def test_done_without_an_answer_and_expired(self) -> None:
        """What get has taken out is told, though nobody could say whether it was done; what it has not goes on."""
        self.put(b"a", b"b")
        begun = self.mute_the_commit()
        got = self.queue.get()
        self.server.until(lambda: begun)
        self.server.advance(0.5)
        self.assertEqual(1, self.result(self.rival.size()))
        self.server.expire(self.client)
        self.assertEqual(b"a", self.result(got))
        self.assertEqual(b"b", self.result(self.queue.get()))

    def test_cancelled_at_the_end(self) -> None:
        """Who is cancelled just as an item is taken out is told what it was."""
        self.put(b"a")
        begun = self.mute_the_commit()
        got = self.queue.get()
        self.server.until(lambda: begun)
        got.cancel()
        got.cancel()
        self.server.advance(0.5)
        self.assertNoResult(got)
        self.server.heal(self.client)
        self.assertEqual(b"a", self.result(got))
        self.assertEqual(0, self.result(self.rival.size()))

    def test_cancelled_while_waiting(self) -> None:
        """Nothing is marked, and nothing is left in the client."""
        self.put(b"a")
        self.result(self.queue.get())
        for _ in range(20):
            waiting = self.queue.take()
            self.server.advance(1)
            waiting.cancel()
            self.server.advance(1)
            self.failureResultOf(waiting, CancelledError)
        self.assertEqual(0, len(self.client._watches))
        self.put(b"b")
        self.assertEqual(b"b", self.result(self.rival.get()))

    def test_cancelled_at_any_moment(self) -> None:
        """However far it has come, an item is either told or left to others."""
        for step in range(40):
            data = b"%d" % step
            self.put(data)
            taking: Deferred[QueueItem] = self.queue.take()
            for _ in range(step):
                self.server._step(self.server.clock.seconds() + 10)
            taking.cancel()
            self.server.advance(1)
            told: list[Any] = []
            taking.addBoth(told.append)
            if isinstance(told[0], QueueItem):
                self.result(told[0].done())
            else:
                self.assertEqual(data, self.result(self.rival.get()))
            self.assertEqual(0, self.result(self.rival.size()))

    def test_done_by_another(self) -> None:
        """Whose session has expired in between has nothing to be done with, and does not say that it were done."""
        self.put(b"a")
        item = self.result(self.queue.take())
        self.server.expire(self.client)
        self.assertEqual(b"a", self.result(self.rival.get()))
        self.failureResultOf_(item.done(), SessionExpiredError)
        self.result(item.put_back())


class CounterFaultTests(FaultCase):
    """Additions count once."""

    def test_without_an_answer(self) -> None:
        """However many answers are lost; no mark stays."""
        counter = Counter(self.client, "/counter")
        self.assertEqual(1, self.result(counter.add()))
        for number in range(2, 6):
            self.assertEqual(number, self.result(self.unanswered(counter.add)))
        self.assertEqual(5, self.result(Counter(self.other, "/counter").value()))
        self.server.advance(1)
        self.assertEqual([], self.children("/counter"))

    def test_cancelled(self) -> None:
        """Whether it counts or not, no mark stays."""
        counter = Counter(self.client, "/counter")
        self.result(counter.add())
        for step in range(30):
            adding = counter.add()
            for _ in range(step):
                self.server._step(self.server.clock.seconds() + 10)
            adding.cancel()
            adding.addErrback(lambda failure: failure.trap(CancelledError))
            self.server.advance(1)
            self.assertEqual([], self.children("/counter"))

    def test_expired_without_an_answer(self) -> None:
        """Nobody knows then whether it counts, and that is said."""
        counter = Counter(self.client, "/counter")
        self.result(counter.add())
        self.server.mute(self.client)
        adding = counter.add()
        self.server.advance(0.2)
        self.server.expire(self.client)
        with self.assertRaises(SessionExpiredError):
            self.result(adding)


class ClosingTests(FaultCase):
    """Clients that are closed under recipes that ask again and again."""

    def test_who_asks_for_ever(self) -> None:
        """Whoever asks while the client is being closed is told that it is at its end."""
        queue, counter = Queue(self.client, "/queue"), Counter(self.client, "/counter")
        party = Party(self.client, "/party")
        self.result(Queue(self.other, "/queue").put(b"a"))

        async def work(ask: Callable[[], Deferred[Any]]) -> None:
            while True:
                await ask()

        async def locked() -> None:
            async with Lock(self.client, "/lock"):
                await self.client.sync()

        asks = (queue.get, counter.add, lambda: _deferred(locked()), party.join, Barrier(self.client, "/none").wait)
        working = [_deferred(work(ask)) for ask in asks]
        self.server.advance(1)
        self.server.mute(self.client)
        closed = self.client.close()
        for each in (*asks, DoubleBarrier(self.client, "/meeting", 2).enter, DoubleBarrier(self.client, "/", 2).leave):
            self.failureResultOf(each(), SessionExpiredError)
        self.result(closed)
        for each in working:
            self.failureResultOf(each, SessionExpiredError)


class BarrierFaultTests(FaultCase):
    """Meetings and barriers."""

    def test_cancelled_at_any_moment(self) -> None:
        """Who gives up before it begins is not there, however far he had come."""
        self.result(self.client.ensure_path("/meeting"))
        for step in range(25):
            barrier = DoubleBarrier(self.client, "/meeting", 2)
            entering = barrier.enter()
            for _ in range(step):
                self.server._step(self.server.clock.seconds() + 10)
            entering.cancel()
            entering.cancel()
            self.failureResultOf(entering, CancelledError)
            self.server.advance(1)
            self.assertEqual([], self.children("/meeting"))
        self.assertEqual(0, len(self.client._watches))

    def test_expired_while_leaving(self) -> None:
        """The last one to leave opens the place for the next meeting, though its session ends as it does."""
        barrier = DoubleBarrier(self.client, "/meeting", 1)
        self.result(barrier.enter())
        delete = self.client.delete
        cut: list[str] = []

        def deleting(path: str) -> Deferred[None]:
            if path.endswith("ready") and not cut:
                cut.append(path)
                self.server.cut(self.client)
            return delete(path)

        self.patch(self.client, "delete", deleting)
        leaving = barrier.leave()
        self.server.until(lambda: cut)
        self.assertEqual(["ready"], self.children("/meeting"))
        self.server.expire(self.client)
        self.result(leaving)
        self.assertEqual([], self.children("/meeting"))

    def test_barrier_of_a_client_that_ends(self) -> None:
        """Nobody waits for ever with a client that is closed."""
        barrier = Barrier(self.client, "/barrier")
        self.result(barrier.create())
        waiting = [barrier.wait(), DoubleBarrier(self.client, "/meeting", 2).enter()]
        self.server.advance(1)
        self.result(self.client.close())
        for each in waiting:
            self.failureResultOf(each, SessionExpiredError)

    def test_party(self) -> None:
        """Who leaves while he joins is not in, and who joins without an answer is in once."""
        party = Party(self.client, "/party", b"me")
        self.result(self.unanswered(party.join))
        self.assertEqual([b"me"], self.result(party.members()))
        self.result(party.leave())
        joining = party.join()
        self.result(party.leave())
        self.result(joining)
        self.server.advance(1)
        self.assertEqual([], self.result(party.members()))


class CacheFaultTests(FaultCase):
    """Copies that cannot be made."""

    def test_closed_client(self) -> None:
        """Nobody waits for a copy that will never be there."""
        waiting = self.server.client()
        self.server.cut(waiting)
        started = TreeCache(waiting, "/").start()
        self.assertNoResult(started)
        self.result(waiting.close())
        self.failureResultOf(started, SessionExpiredError)
        self.failureResultOf(TreeCache(waiting, "/").start(), SessionExpiredError)

    def test_expired(self) -> None:
        """A session that expires is followed by another, and the copy is of that one then."""
        self.result(self.other.create("/a", b"1"))
        cache = TreeCache(self.client, "/a")
        self.server.cut(self.client)
        started = cache.start()
        self.server.expire(self.client)
        self.result(started)
        found = cache.get("/a")
        assert found is not None
        self.assertEqual(b"1", found.data)

    def test_refused(self) -> None:
        """What the server will not do is told to who waits."""

        async def refuses(*_: Any, **__: Any) -> None:
            raise NoAuthError

        self.patch(self.client, "add_watch", refuses)
        self.failureResultOf(TreeCache(self.client, "/").start(), NoAuthError)


class LagTests(SynchronousTestCase):
    """
    A server that lags behind.

    What was asked of one server is carried out while the client is with another already, which hears of it later.
    """

    def setUp(self) -> None:
        self.ensemble = MemoryEnsemble(3, seed=6)
        self.addCleanup(self.ensemble.close)
        self.ensemble.until_serving()
        self.leader = self.ensemble.leader()
        assert self.leader is not None
        self.followers = [server for server in self.ensemble.servers.values() if server is not self.leader]
        self.here = "10.9.9.9"
        network = self.ensemble.network
        host = network.host(self.here)
        endpoints = [host.client(server.address, 2.0) for server in self.followers]
        network.refuse(self.here, self.followers[1].address.host)
        self.client = ZooKeeperClient(self.ensemble.world.clock, endpoints, entropy=Random(1), session_timeout=20.0)
        self.result(self.client.connect())
        self.result(self.client.ensure_path("/queue/entries"))
        self.result(self.client.ensure_path("/lock"))
        self.result(Counter(self.client, "/counter").add())
        self.ensemble.advance(1)  # its mark is swept away
        self.addCleanup(lambda: self.result(self.client.close()))

    def result(self, asked: Deferred[T]) -> T:
        results: list[Any] = []
        asked.addBoth(results.append)
        self.ensemble.until(lambda: results, 60)
        if isinstance(results[0], Failure):
            results[0].raiseException()
        found: T = results[0]
        return found

    def moving(self, ask: Callable[[], Deferred[T]]) -> T:
        """Ask one follower, go to the other before any of them has written it down, and wait for the result."""
        for server in self.followers:
            server.disk.latency = lambda: 0.5
        asked = ask()
        self.ensemble.advance(0.1)
        self.assertNoResult(asked)
        network = self.ensemble.network
        there, other = (server.address.host for server in self.followers)
        network.refuse(self.here, there)
        network.mend(self.here, other)
        network.reset(self.here, there)
        session = self.client.session_id
        self.ensemble.until(lambda: self.client.state is State.CONNECTING, 1)
        self.ensemble.until(lambda: self.client.state is State.CONNECTED, 0.3)
        self.assertEqual(session, self.client.session_id)
        self.assertNoResult(asked)
        found = self.result(asked)
        self.ensemble.advance(3)
        return found

    def test_counter(self) -> None:
        """It counts once."""
        counter = Counter(self.client, "/counter")
        self.assertEqual(2, self.moving(counter.add))
        self.assertEqual(2, self.result(counter.value()))

    def test_lock(self) -> None:
        """There is one place in the line, not two, of which nobody would know the first."""
        self.moving(Lock(self.client, "/lock").acquire)
        self.assertEqual(1, len(self.result(self.client.children("/lock"))))

    def test_queue(self) -> None:
        """The item is there once."""
        queue = Queue(self.client, "/queue")
        self.moving(lambda: queue.put(b"a"))
        self.assertEqual(1, self.result(queue.size()))


def gather(*asked: Deferred[Any]) -> Deferred[Any]:
    """Wait for all."""

    async def whole() -> None:
        for each in asked:
            await each

    work: Coroutine[Any, Any, None] = whole()
    return _deferred(work)
