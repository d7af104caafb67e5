"""
What recipes do when connections are lost and sessions expire, as stories for any server.

A L{Stage} makes clients, each of which can be cut off without the others noticing.  Stories neither know what kind of
server it is, nor whether time is real.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred, gatherResults

from zktwisted.client import State, ZooKeeperClient
from zktwisted.client.recipes import (
    Barrier,
    Change,
    Counter,
    DoubleBarrier,
    LeaderElection,
    Lock,
    Party,
    Queue,
    ReadLock,
    Semaphore,
    TreeCache,
    WriteLock,
)
from zktwisted.errors import ConnectionLossError, SessionExpiredError

#: How often something is looked at that nobody tells of, with pauses of 50 ms: for a minute.
TRIES = 1200


class Stage(Protocol):
    """Where a story takes place."""

    async def client(self, **options: Any) -> ZooKeeperClient:
        """Return a client that is connected, in a way of its own."""

    def cut(self, client: ZooKeeperClient) -> None:
        """End its connection, and let it make no other."""

    def heal(self, client: ZooKeeperClient) -> None:
        """Let it connect again."""

    async def end_session(self, client: ZooKeeperClient) -> None:
        """Let the session of a client that is cut off be over."""

    def pause(self, seconds: float) -> Deferred[None]:
        """Let time pass."""


class Told:
    """A listener that remembers, and can be awaited."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._waiting: list[tuple[Callable[[list[Any]], object], Deferred[None]]] = []

    def __call__(self, value: Any) -> None:
        self.values.append(value)
        for check, waiter in list(self._waiting):
            if check(self.values):
                self._waiting.remove((check, waiter))
                waiter.callback(None)

    def until(self, check: Callable[[list[Any]], object]) -> Deferred[None]:
        """Wait until C{check} likes what was told so far."""
        waiter: Deferred[None] = Deferred()
        if check(self.values):
            waiter.callback(None)
        else:
            self._waiting.append((check, waiter))
        return waiter


async def lose(stage: Stage, client: ZooKeeperClient) -> None:
    """Let a client lose its connection, and find another for the same session."""
    states, session = Told(), client.session_id
    end = client.listen(states)
    stage.cut(client)
    await states.until(lambda values: State.CONNECTING in values)
    stage.heal(client)
    await states.until(lambda values: State.CONNECTED in values)
    end()
    assert client.session_id == session


async def away(stage: Stage, client: ZooKeeperClient) -> None:
    """Cut a client off, and let its session end."""
    stage.cut(client)
    await stage.end_session(client)


async def expire(stage: Stage, client: ZooKeeperClient) -> None:
    """Let a client's session expire, and the client have another."""
    session = client.session_id
    await away(stage, client)
    stage.heal(client)
    await client.when_connected()
    assert client.session_id != session


def nothing_yet(*asked: Deferred[Any]) -> bool:
    """Whether none of these has happened."""
    return not any(each.called and not each.paused for each in asked)


async def line_of(lock: Lock, expected: list[bytes], stage: Stage) -> None:
    """Wait until these stand in a line."""
    for _ in range(TRIES):
        if await lock.contenders() == expected:
            return
        await stage.pause(0.05)
    assert await lock.contenders() == expected


# -- locks


async def lock_in_order(stage: Stage) -> None:
    """A lock goes from one to the next in the order of asking; who gave up is passed over."""
    clients = [await stage.client() for _ in range(4)]
    locks = [Lock(client, "/lock", b"%d" % number) for number, client in enumerate(clients)]
    waiting = []
    for number, lock in enumerate(locks):
        waiting.append(lock.acquire())
        await line_of(locks[0], [b"%d" % each for each in range(number + 1)], stage)
    await waiting[0]
    assert locks[0].held
    assert not locks[1].held
    assert nothing_yet(*waiting[1:])
    waiting[1].cancel()
    await line_of(locks[0], [b"0", b"2", b"3"], stage)
    try:
        await waiting[1]
    except CancelledError:
        pass
    await locks[0].release()
    assert not locks[0].held
    await waiting[2]
    assert nothing_yet(waiting[3])
    again = locks[0].acquire()
    await locks[2].release()
    await waiting[3]
    await locks[3].release()
    await again
    for wrong in (locks[0].acquire, locks[2].release):
        try:
            wrong()
        except ValueError:
            continue
        raise AssertionError(wrong)
    await locks[0].release()
    async with locks[1]:
        assert locks[1].held
    assert await locks[1].contenders() == []


async def lock_and_lost_connections(stage: Stage) -> None:
    """Who holds and who waits keep their places."""
    one, two = await stage.client(), await stage.client()
    first, second = Lock(one, "/lock", b"1"), Lock(two, "/lock", b"2")
    await first.acquire()
    waiting = second.acquire()
    await line_of(first, [b"1", b"2"], stage)
    lost = first.when_lost()
    await lose(stage, one)
    await lose(stage, two)
    assert first.held
    assert nothing_yet(waiting, lost)
    assert await first.contenders() == [b"1", b"2"]
    stage.cut(one)
    released = first.release()
    stage.heal(one)
    await released
    await waiting
    assert second.held
    lost.cancel()
    lost.addErrback(lambda failure: failure.trap(CancelledError))
    stage.cut(two)
    states = Told()
    two.listen(states)
    await states.until(lambda values: State.CONNECTING in values)
    assert not second.held
    stage.heal(two)
    await two.when_connected()
    assert second.held


async def lock_and_expired_sessions(stage: Stage) -> None:
    """Who held it learns that it is lost and the next one has it; who waited waits at the end of the line."""
    clients = [await stage.client() for _ in range(3)]
    locks = [Lock(client, "/lock", b"%d" % number) for number, client in enumerate(clients)]
    await locks[0].acquire()
    waiting = [None, locks[1].acquire()]
    await line_of(locks[0], [b"0", b"1"], stage)
    waiting.append(locks[2].acquire())
    await line_of(locks[0], [b"0", b"1", b"2"], stage)
    await expire(stage, clients[1])
    await line_of(locks[0], [b"0", b"2", b"1"], stage)
    assert nothing_yet(waiting[1], waiting[2])
    lost = locks[0].when_lost()
    await expire(stage, clients[0])
    await lost
    assert not locks[0].held
    await waiting[2]
    await locks[0].release()
    again = locks[0].acquire()
    await locks[2].release()
    await waiting[1]
    assert nothing_yet(again)
    # Whoever closes his client lets go of everything.
    await clients[1].close()
    await again


async def lock_excludes(stage: Stage) -> None:
    """However often connections are lost, no two are inside."""
    clients = [await stage.client() for _ in range(4)]
    inside: list[int] = []
    times = [0] * len(clients)

    async def work(number: int) -> None:
        lock = Lock(clients[number], "/lock")
        for _ in range(6):
            async with lock:
                assert inside == []
                inside.append(number)
                try:
                    await clients[number].sync()
                except ConnectionLossError:
                    pass
                times[number] += 1
                inside.remove(number)

    async def trouble() -> None:
        for client in clients * 2:
            await lose(stage, client)

    await gatherResults([Deferred.fromCoroutine(each) for each in (*map(work, range(4)), trouble())])
    assert times == [6] * 4
    assert await clients[0].children("/lock") == []


async def readers_and_writers(stage: Stage) -> None:
    """Readers share; a writer is alone, and no later reader passes it."""
    clients = [await stage.client() for _ in range(4)]
    readers = [ReadLock(client, "/lock", b"r") for client in clients[:3]]
    writer = WriteLock(clients[3], "/lock", b"w")
    await readers[0].acquire()
    await readers[1].acquire()
    writing = writer.acquire()
    await line_of(writer, [b"r", b"r", b"w"], stage)
    reading = readers[2].acquire()
    await line_of(writer, [b"r", b"r", b"w", b"r"], stage)
    await lose(stage, clients[3])
    await readers[0].release()
    assert nothing_yet(writing, reading)
    await expire(stage, clients[1])
    await writing
    assert nothing_yet(reading)
    await writer.release()
    await reading
    assert readers[2].held


async def semaphore(stage: Stage) -> None:
    """So many have it at a time; when one lets go, or its session expires, the next has it."""
    clients = [await stage.client() for _ in range(4)]
    leases = [Semaphore(client, "/semaphore", 2, b"%d" % number) for number, client in enumerate(clients)]
    await leases[0].acquire()
    await leases[1].acquire()
    third = leases[2].acquire()
    await line_of(leases[0], [b"0", b"1", b"2"], stage)
    fourth = leases[3].acquire()
    await line_of(leases[0], [b"0", b"1", b"2", b"3"], stage)
    await lose(stage, clients[2])
    assert nothing_yet(third, fourth)
    await leases[0].release()
    await third
    assert nothing_yet(fourth)
    await expire(stage, clients[1])
    await fourth
    try:
        Semaphore(clients[0], "/semaphore", 0)
    except ValueError:
        return
    raise AssertionError("no leases")


async def election(stage: Stage) -> None:
    """One leads; when its session is over it is told, the next leads, and it stands again."""
    one, two = await stage.client(), await stage.client()
    told, done = Told(), {"one": Deferred(), "two": Deferred()}

    def leader(name: str) -> Any:
        async def lead() -> str:
            told(f"{name} leads")
            try:
                await done[name]
            except CancelledError:
                told(f"{name} is stopped")
                done[name] = Deferred()
                raise
            return f"{name} is done"

        return lead

    elections = [LeaderElection(client, "/election", name) for client, name in ((one, b"one"), (two, b"two"))]
    first = elections[0].run(leader("one"))
    await told.until(lambda values: values == ["one leads"])
    second = elections[1].run(leader("two"))
    for _ in range(TRIES):
        if await elections[0].contenders() == [b"one", b"two"]:
            break
        await stage.pause(0.05)
    await lose(stage, one)
    await lose(stage, two)
    assert elections[0].leading
    assert not elections[1].leading
    await expire(stage, one)
    await told.until(lambda values: len(values) == 3)
    assert sorted(told.values[1:]) == ["one is stopped", "two leads"]
    assert nothing_yet(first, second)
    done["two"].callback(None)
    assert await second == "two is done"
    await told.until(lambda values: values[3:] == ["one leads"])
    await stage.pause(0.05)  # we are called by it: it has to stand still to be cancelled
    first.cancel()
    await told.until(lambda values: values[4:] == ["one is stopped"])
    try:
        await first
    except CancelledError:
        return
    raise AssertionError("cancelled, and yet led")


# -- barriers


async def barrier(stage: Stage) -> None:
    """Everybody waits as long as it stands, whatever becomes of connections and sessions."""
    clients = [await stage.client() for _ in range(3)]
    barriers = [Barrier(client, "/deep/barrier") for client in clients]
    await barriers[0].wait()
    await barriers[0].remove()
    await barriers[0].create()
    await barriers[1].create()
    waiting = [each.wait() for each in barriers[1:]]
    await lose(stage, clients[1])
    await expire(stage, clients[2])
    await stage.pause(0.2)
    assert nothing_yet(*waiting)
    await barriers[0].remove()
    await gatherResults(waiting)


async def double_barrier(stage: Stage) -> None:
    """Nobody is in before all are, nobody out before all are through; twice."""
    clients = [await stage.client() for _ in range(3)]
    barriers = [DoubleBarrier(client, "/meeting", 3) for client in clients]
    for trouble in (lose, expire):
        entering = [barriers[0].enter(), barriers[1].enter()]
        await trouble(stage, clients[0])
        await stage.pause(0.2)
        assert nothing_yet(*entering)
        await barriers[2].enter()
        await gatherResults(entering)
        leaving = [barriers[1].leave(), barriers[0].leave()]
        await trouble(stage, clients[1])
        await stage.pause(0.2)
        assert nothing_yet(*leaving)
        await trouble(stage, clients[2])
        await barriers[2].leave()
        await gatherResults(leaving)
    assert await clients[0].children("/meeting") == []
    given_up = barriers[0].enter()
    await stage.pause(0.2)
    given_up.cancel()
    given_up.addErrback(lambda failure: failure.trap(CancelledError))
    for _ in range(TRIES):
        if await clients[1].children("/meeting") == []:
            return
        await stage.pause(0.05)
    raise AssertionError(await clients[1].children("/meeting"))


# -- queue, counter, party


async def queue(stage: Stage) -> None:
    """Items come by priority and age; one that was taken by who is gone comes again."""
    one, two = await stage.client(), await stage.client()
    putter, getter = Queue(one, "/queue"), Queue(two, "/queue")
    early = getter.get()
    await putter.put(b"first")
    assert await early == b"first"
    for data, priority in ((b"c", 100), (b"a", 1), (b"d", 100), (b"b", 50)):
        await putter.put(data, priority)
    assert await getter.size() == 4
    item = await getter.take()
    other = await putter.take()
    assert (item.data, other.data) == (b"a", b"b")
    await item.put_back()
    assert await putter.get() == b"a"
    await other.done()
    held = await getter.take()
    assert held.data == b"c"
    await lose(stage, two)
    waiting = [putter.get(), putter.get()]
    assert await waiting[0] == b"d"
    assert nothing_yet(waiting[1])
    await expire(stage, two)
    assert await waiting[1] == b"c"
    try:
        await held.done()
    except SessionExpiredError:
        pass
    else:
        raise AssertionError("done with what was somebody else's")
    stage.cut(one)
    put = putter.put(b"late")
    stage.heal(one)
    await put
    assert await getter.get() == b"late"
    assert await getter.size() == 0


async def queue_of_many(stage: Stage) -> None:
    """However many take, and however often connections are lost, each item is done once."""
    clients = [await stage.client() for _ in range(3)]
    queues = [Queue(client, "/queue") for client in clients]
    got: list[bytes] = []

    async def consume(queue: Queue) -> None:
        while (data := await queue.get()) != b"end":
            got.append(data)

    async def trouble() -> None:
        for client in clients[1:] * 2:
            await lose(stage, client)

    consumers = [Deferred.fromCoroutine(consume(each)) for each in queues]
    troubles = Deferred.fromCoroutine(trouble())
    await gatherResults([queues[0].put(b"%d" % number) for number in range(40)])
    await troubles
    await gatherResults([queues[0].put(b"end", 999) for _ in range(3)])
    await gatherResults(consumers)
    assert sorted(map(int, got)) == [*range(40)]


async def counter(stage: Stage) -> None:
    """Each addition counts once, whatever becomes of connections."""
    clients = [await stage.client() for _ in range(3)]
    counters = [Counter(client, "/a/counter", 5) for client in clients]
    assert await counters[0].value() == 5
    assert await counters[0].add(-2) == 3

    async def work(each: Counter) -> None:
        for _ in range(8):
            await each.add(10)

    async def trouble() -> None:
        for client in clients * 2:
            await lose(stage, client)

    await gatherResults([Deferred.fromCoroutine(each) for each in (*map(work, counters), trouble())])
    assert await counters[1].value() == 3 + 3 * 8 * 10
    await expire(stage, clients[2])
    assert await counters[2].add() == 244


async def party(stage: Stage) -> None:
    """Who joins is there until he leaves; a session that expires is followed by another membership."""
    one, two = await stage.client(), await stage.client()
    first, second = Party(one, "/party", b"one"), Party(two, "/party", b"two")
    assert await first.members() == []
    await first.join()
    await second.join()
    await second.join()
    assert sorted(await first.members()) == [b"one", b"two"]
    await lose(stage, one)
    assert sorted(await second.members()) == [b"one", b"two"]
    await away(stage, two)
    assert await first.members() == [b"one"]
    stage.heal(two)
    await two.when_connected()
    for _ in range(TRIES):
        if len(await first.members()) == 2:
            break
        await stage.pause(0.05)
    assert sorted(await first.members()) == [b"one", b"two"]
    await second.leave()
    assert await first.members() == [b"one"]
    await lose(stage, two)
    assert await first.members() == [b"one"]


# -- cache


async def cache(stage: Stage) -> None:
    """It has what the servers have: at first, after each change, and after whatever happened while nobody told."""
    writer, reader = await stage.client(), await stage.client()
    for path in ("/top", "/top/a", "/top/b", "/top/b/c", "/other"):
        await writer.create(path, path.encode())
    found, changes = TreeCache(reader, "/top"), Told()
    end = found.listen(changes)
    await found.start()
    await found.start()
    assert found.current
    assert len(changes.values) == len(found) == 4
    assert sorted(found.children("/top")) == ["a", "b"]
    assert (found.get("/top/b/c").data, "/other" in found, found.get("/other")) == (b"/top/b/c", False, None)

    changes.values.clear()
    await writer.create("/top/b/d", b"d")
    await writer.set("/top/a", b"changed")
    await writer.delete("/top/b/c")
    await writer.create("/other/x")
    await changes.until(lambda values: len(values) == 3)
    assert [(event.kind, event.path) for event in sorted(changes.values, key=lambda event: event.path)] == [
        (Change.CHANGED, "/top/a"), (Change.REMOVED, "/top/b/c"), (Change.ADDED, "/top/b/d")
    ]  # fmt: skip
    assert found.get("/top/a").stat == await writer.exists("/top/a")

    for number, trouble in enumerate((lose, expire)):
        changes.values.clear()
        stage.cut(reader)
        if trouble is expire:
            stage.heal(reader)
            await reader.when_connected()
            await away(stage, reader)
        else:
            states = Told()
            end_states = reader.listen(states)
            await states.until(lambda values: State.CONNECTING in values)
            end_states()
        assert not found.current
        await writer.create(f"/top/new-{number}", b"n")
        await writer.create(f"/top/new-{number}/below")
        await writer.set("/top/a", b"while away %d" % number)
        await writer.delete("/top/b/d")
        stage.heal(reader)
        await found.start()
        made = {f"/top/new-{each}{below}" for each in range(number + 1) for below in ("", "/below")}
        expected = {"/top", "/top/a", "/top/b"} | made
        assert {path for path in expected if path in found} == expected
        assert len(found) == len(expected)
        assert found.get("/top/a").data == b"while away %d" % number
        assert "/top/b/d" not in found
        assert found.children("/top/b") == []
        await writer.create("/top/b/d", b"again")
        await changes.until(lambda values: (Change.ADDED, "/top/b/d") in [event[:2] for event in values])

    end()
    end()
    await found.close()
    changes.values.clear()
    await writer.set("/top/a", b"after")
    await reader.sync()
    assert (changes.values, found.get("/top/a").data) == ([], b"while away 1")
    empty = TreeCache(reader, "/nowhere")
    await empty.start()
    assert len(empty) == 0


STORIES = {
    story.__name__: story
    for story in (
        lock_in_order,
        lock_and_lost_connections,
        lock_and_expired_sessions,
        lock_excludes,
        readers_and_writers,
        semaphore,
        election,
        barrier,
        double_barrier,
        queue,
        queue_of_many,
        counter,
        party,
        cache,
    )
}
