"""
Recipes in a storm: connections break, answers are lost, sessions expire and programs give up, all by chance.

What chance decides follows from a seed; what must hold, holds at every moment.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, TimeoutError  # noqa: A004 (what addTimeout raises)
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase

from zktwisted.client import ZooKeeperClient
from zktwisted.client.recipes import Counter, LeaderElection, Lock, Party, Queue, Semaphore, TreeCache
from zktwisted.errors import KeeperError, SessionExpiredError
from zktwisted.testing import MemoryServer

SEEDS = range(3)
CLIENTS = 4
SECONDS = 30.0


class Storm:
    """A server, clients, and what happens to them until it calms down."""

    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)
        self.server = MemoryServer(seed=seed)
        self.clients = [self.server.client(session_timeout=4.0) for _ in range(CLIENTS)]
        self.calm = False
        self.running: dict[Deferred[Any], None] = {}

    def pause(self, most: float) -> Deferred[None]:
        """Let up to so many seconds pass."""
        return deferLater(self.server.clock, self.chance.uniform(0, most))

    async def impatient(self, asked: Deferred[Any]) -> Any:
        """Wait, mostly; C{None} for who gave up."""
        if self.calm or self.chance.random() < 0.6:
            return await asked
        try:
            return await asked.addTimeout(self.chance.uniform(0, 3.0), self.server.clock)
        except Exception as error:
            if isinstance(error, SessionExpiredError | CancelledError | TimeoutError):
                return None
            raise

    def begin(self, work: Coroutine[Any, Any, Any]) -> None:
        """Let something go on until it ends by itself."""
        began = Deferred.fromCoroutine(work)
        self.running[began] = None

    def hit(self) -> None:
        """Let something go wrong."""
        client = self.chance.choice(self.clients)
        what = self.chance.random()
        if what < 0.4:
            self.server.network.reset(self.server._hosts[client], "10.0.0.1")
        elif what < 0.7:
            self.server.mute(client)
            self.server.clock.callLater(self.chance.uniform(0, 2), self.server.heal, client)
        else:
            # Long enough for the session to expire, at times.
            self.server.network.refuse(self.server._hosts[client], "10.0.0.1")
            self.server.network.reset(self.server._hosts[client], "10.0.0.1")
            self.server.clock.callLater(self.chance.uniform(0, 9), self.server.heal, client)

    def rage(self, check: Callable[[], None]) -> None:
        """Let it all happen, and wait until all that goes on has ended."""
        end = self.server.clock.seconds() + SECONDS
        next_hit = 0.0
        while self.server.clock.seconds() < end:
            if self.server.clock.seconds() >= next_hit:
                self.hit()
                next_hit = self.server.clock.seconds() + self.chance.expovariate(1.0)
            self.server._step(next_hit) or self.server.advance(max(next_hit - self.server.clock.seconds(), 0))
            check()
        self.calm = True
        self.server.network.heal()
        ended: list[Any] = []
        for each in self.running:
            each.addBoth(ended.append)
        while len(ended) < len(self.running):
            assert self.server._step(end + 300), f"{len(self.running) - len(ended)} have not come to an end"
            check()
        assert ended == [None] * len(ended), ended


class StormTests(SynchronousTestCase):
    """One storm for each seed."""

    def storms(self) -> Any:
        for seed in SEEDS:
            storm = Storm(seed)
            yield storm
            storm.server.close()

    def exclusive(self, make: Callable[[ZooKeeperClient], Lock], limit: int) -> None:
        for storm in self.storms():
            locks = [make(client) for client in storm.clients for _ in range(2)]
            times = [0]

            async def work(lock: Lock, storm: Storm = storm, times: list[int] = times) -> None:
                while not storm.calm:
                    before = lock._state
                    self.assertEqual("free", before)
                    await storm.impatient(lock.acquire())
                    if lock._state == "acquired":
                        times[0] += lock.held
                        await storm.pause(1.0)
                        await lock.release()
                    else:
                        await storm.pause(0.1)

            def check(locks: list[Lock] = locks) -> None:
                self.assertLessEqual(sum(lock.held for lock in locks), limit)

            for lock in locks:
                storm.begin(work(lock))
            storm.rage(check)
            self.assertGreater(times[0], 5)
            self.assertEqual([], storm.server.result(storm.clients[0].children(locks[0].path)))

    def test_lock(self) -> None:
        """No two hold it at a moment, and in the end nobody does and no node is left."""
        self.exclusive(lambda client: Lock(client, "/lock"), 1)

    def test_semaphore(self) -> None:
        """No more than so many hold it."""
        self.exclusive(lambda client: Semaphore(client, "/semaphore", 3), 3)

    def test_counter(self) -> None:
        """It counts each addition that has succeeded once, and of the others what it says."""
        for storm in self.storms():
            sure, doubtful = [0], [0]

            async def work(client: ZooKeeperClient, storm: Storm, sure: list[int], doubtful: list[int]) -> None:
                counter = Counter(client, "/counter")
                while not storm.calm:
                    try:
                        done = await storm.impatient(counter.add())
                    except SessionExpiredError:
                        done = None
                    (sure if done else doubtful)[0] += 1
                    await storm.pause(0.5)

            for client in storm.clients:
                storm.begin(work(client, storm, sure, doubtful))
            storm.rage(int)
            value = storm.server.result(Counter(storm.clients[0], "/counter").value())
            self.assertGreater(sure[0], 50)
            self.assertTrue(sure[0] <= value <= sure[0] + doubtful[0], (sure, value, doubtful))

    def test_queue(self) -> None:
        """Each item that was put is got, whoever gives up or loses his session with it in hand."""
        for storm in self.storms():
            put: list[bytes] = []
            got: list[bytes] = []

            async def produce(client: ZooKeeperClient, storm: Storm, name: int, put: list[bytes] = put) -> None:
                queue, number = Queue(client, "/queue"), 0
                while not storm.calm:
                    item = b"%d-%d" % (name, number)
                    number += 1
                    await queue.put(item)
                    put.append(item)
                    await storm.pause(1.5)

            async def consume(client: ZooKeeperClient, storm: Storm, got: list[bytes] = got) -> None:
                queue = Queue(client, "/queue")
                while not storm.calm:
                    try:
                        item = await storm.impatient(queue.get().addTimeout(20.0, storm.server.clock))
                    except (SessionExpiredError, TimeoutError):
                        continue
                    if item is not None:
                        got.append(item)

            for number, client in enumerate(storm.clients):
                storm.begin(produce(client, storm, number))
                storm.begin(consume(client, storm))
            storm.rage(int)
            rest = Queue(storm.clients[0], "/queue")
            while storm.server.result(rest.size()):
                got.append(storm.server.result(rest.get()))
            self.assertGreater(len(put), 30)
            self.assertEqual(set(), {*put} - {*got})

    def test_election(self) -> None:
        """One leads at a moment, each comes to an end when it is told to, and nobody stays in the line."""
        for storm in self.storms():
            elections = [LeaderElection(client, "/leader", b"x") for client in storm.clients]
            terms = [0]

            async def lead(storm: Storm = storm, terms: list[int] = terms) -> None:
                terms[0] += 1
                await storm.pause(3.0)

            async def stand(election: LeaderElection, storm: Storm = storm) -> None:
                while not storm.calm:
                    await storm.impatient(election.run(lead))

            def check(elections: list[LeaderElection] = elections) -> None:
                self.assertLessEqual(sum(election.leading for election in elections), 1)

            for election in elections:
                storm.begin(stand(election))
            storm.rage(check)
            self.assertGreater(terms[0], 3)
            self.assertEqual([], storm.server.result(storm.clients[0].children("/leader")))

    def test_party(self) -> None:
        """In the end those are in who are, once each, and no others."""
        for storm in self.storms():
            parties = [Party(client, "/party", b"%d" % number) for number, client in enumerate(storm.clients)]

            async def come_and_go(party: Party, stays: bool, storm: Storm = storm) -> None:
                while not storm.calm:
                    await party.join()
                    await storm.pause(2.0)
                    await party.leave()
                if stays:
                    await party.join()

            for number, party in enumerate(parties):
                storm.begin(come_and_go(party, number < 2))
            storm.rage(int)
            self.assertEqual([b"0", b"1"], sorted(storm.server.result(parties[3].members())))

    def test_cache(self) -> None:
        """A copy that says that it is current is what the servers have, when they have done writing."""
        for storm in self.storms():
            caches = [TreeCache(client, "/tree") for client in storm.clients]
            for cache in caches:
                storm.server.result(cache.start())
            paths = ["/tree", "/tree/a", "/tree/b", "/tree/a/c", "/tree/a/d", "/tree/a/d/e"]

            async def write(client: ZooKeeperClient, storm: Storm = storm, paths: list[str] = paths) -> None:
                while not storm.calm:
                    path, what = storm.chance.choice(paths), storm.chance.random()
                    try:
                        if what < 0.4:
                            await client.create(path, b"new")
                        elif what < 0.7:
                            await client.set(path, b"%f" % what)
                        else:
                            await client.delete(path)
                    except KeeperError:
                        await storm.pause(0.1)

            for client in storm.clients:
                storm.begin(write(client))
            storm.rage(int)
            storm.server.until(lambda caches=caches: all(cache.current for cache in caches))
            storm.server.advance(1)
            client, found = storm.clients[0], {}
            for path in paths:
                if storm.server.result(client.exists(path)) is not None:
                    data, stat = storm.server.result(client.get(path))
                    names = storm.server.result(client.children(path))
                    found[path] = data, stat.czxid, stat.mzxid, stat.version, sorted(names)
            for cache in caches:
                copy = {}
                for path in paths:
                    node = cache.get(path)
                    if node is not None:
                        stat = node.stat
                        copy[path] = node.data, stat.czxid, stat.mzxid, stat.version, sorted(cache.children(path))
                self.assertEqual(found, copy)
                self.assertEqual(len(found), len(cache))
