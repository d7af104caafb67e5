"""The recipes of kazoo, each by several clients at once, as their documentation promises them."""

from __future__ import annotations

import datetime
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from kazoo.client import KazooClient
from kazoo.recipe.cache import TreeCache, TreeEvent

from tests.interop.clients.kazoos import WAIT, Connect, Told, connecting
from tests.interop.process import ServerProcess


@pytest.fixture
def connect(server: ServerProcess, request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Return a maker of started clients below the test's own chroot."""
    with connecting(server, "/" + request.node.name) as make:
        yield make


def in_threads(*jobs: Callable[[], None]) -> None:
    """Run the jobs at once and wait for all; the first exception is raised here."""
    errors: list[BaseException] = []

    def run(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:  # noqa: BLE001 (raised again in the thread of the test)
            errors.append(error)

    threads = [threading.Thread(target=run, args=(job,), daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
        assert not thread.is_alive(), "a job hangs"
    if errors:
        raise errors[0]


def test_lock(connect: Connect) -> None:
    """Of several clients one at a time holds a lock; its holder can be read and it can be had without waiting."""
    clients = [connect() for _ in range(3)]
    inside: list[int] = []
    order: list[int] = []

    def job(number: int) -> Callable[[], None]:
        def work() -> None:
            for _ in range(5):
                with clients[number].Lock("/lock", f"client-{number}"):
                    inside.append(number)
                    assert inside == [number]
                    order.append(number)
                    inside.remove(number)

        return work

    in_threads(*[job(number) for number in range(3)])
    assert len(order) == 15
    held = clients[0].Lock("/lock", "holder")
    assert held.acquire()
    assert not clients[1].Lock("/lock", "other").acquire(blocking=False)
    assert clients[1].Lock("/lock").contenders() == ["holder"]
    held.release()


def test_read_write_lock(connect: Connect) -> None:
    """Readers share; a writer waits for them."""
    one, two = connect(), connect()
    reading = one.ReadLock("/lock", "r1")
    also_reading = two.ReadLock("/lock", "r2")
    assert reading.acquire() and also_reading.acquire()
    assert not two.WriteLock("/lock", "w").acquire(blocking=False)
    reading.release()
    also_reading.release()
    assert two.WriteLock("/lock", "w").acquire(timeout=WAIT)


def test_semaphore(connect: Connect) -> None:
    """No more leases than agreed are given out; a lease given back, or lost with its session, can be had again."""
    one, two, three = connect(), connect(), connect()
    leases = [client.Semaphore("/semaphore", name, max_leases=2) for client, name in ((one, "1"), (two, "2"))]
    assert all(lease.acquire(timeout=WAIT) for lease in leases)
    third = three.Semaphore("/semaphore", "3", max_leases=2)
    assert not third.acquire(blocking=False)
    assert third.lease_holders() == {"1", "2"} or sorted(third.lease_holders()) == ["1", "2"]
    two.stop()
    assert third.acquire(timeout=WAIT)
    leases[0].release()


def test_election(connect: Connect) -> None:
    """Every contender leads once, one after another."""
    clients = [connect() for _ in range(3)]
    leaders: list[str] = []

    def job(number: int) -> Callable[[], None]:
        def lead() -> None:
            leaders.append(str(number))

        return lambda: clients[number].Election("/election", str(number)).run(lead)

    in_threads(*[job(number) for number in range(3)])
    assert sorted(leaders) == ["0", "1", "2"]


def test_queues(connect: Connect) -> None:
    """A queue gives each item once, by priority then order; a locking queue only after consumption."""
    producer, consumer = connect(), connect()
    queue = producer.Queue("/queue")
    for number in range(20):
        queue.put(str(number).encode(), priority=50 if number < 10 else 40)
    taken = [consumer.Queue("/queue").get() for _ in range(20)]
    assert taken == [str(number).encode() for number in [*range(10, 20), *range(10)]]
    assert consumer.Queue("/queue").get() is None

    locking = producer.LockingQueue("/locking")
    locking.put_all([b"a", b"b"])
    other = consumer.LockingQueue("/locking")
    assert locking.get(WAIT) == b"a"
    assert other.get(WAIT) == b"b"
    assert locking.consume() and other.consume()
    assert len(locking) == 0


def test_counter(connect: Connect) -> None:
    """Increments from several clients at once are all counted."""
    clients = [connect() for _ in range(3)]
    clients[0].Counter("/counter").value  # noqa: B018 (the node is made by its first reading)

    def job(client: KazooClient) -> Callable[[], None]:
        def count() -> None:
            counter = client.Counter("/counter")
            for _ in range(10):
                counter += 2
                counter -= 1

        return count

    in_threads(*[job(client) for client in clients])
    assert clients[0].Counter("/counter").value == 30
    real = clients[0].Counter("/real", default=1.0)
    real += 0.5
    assert real.value == 1.5


def test_barriers(connect: Connect) -> None:
    """A barrier holds until removed; a double barrier is entered and left together."""
    one, two = connect(), connect()
    barrier = one.Barrier("/barrier")
    barrier.create()
    assert not two.Barrier("/barrier").wait(0)
    in_threads(lambda: two.Barrier("/barrier").wait(WAIT), barrier.remove)
    assert two.Barrier("/barrier").wait(0)

    steps: list[str] = []

    def job(client: KazooClient, name: str) -> Callable[[], None]:
        def work() -> None:
            double = client.DoubleBarrier("/double", 2, name)
            double.enter()
            steps.append("in")
            double.leave()
            steps.append("out")

        return work

    in_threads(job(one, "one"), job(two, "two"))
    assert sorted(steps) == ["in", "in", "out", "out"]
    assert steps[0] == "in"


def test_parties(connect: Connect) -> None:
    """Members of a party are seen by the others and go when they leave or die."""
    one, two = connect(), connect()
    party, other = one.Party("/party", "one"), two.Party("/party", "two")
    party.join()
    other.join()
    assert sorted(party) == ["one", "two"]
    two.stop()
    assert list(party) == ["one"]
    party.leave()
    assert len(party) == 0
    shallow = one.ShallowParty("/shallow", "me")
    shallow.join()
    assert len(shallow) == 1


def test_partitioner(connect: Connect) -> None:
    """A set is divided among its members without overlap."""
    one, two = connect(), connect()
    items = tuple(range(7))
    parts = [
        client.SetPartitioner("/parts", items, identifier=name, time_boundary=0.1)
        for name, client in (("one", one), ("two", two))
    ]

    def settled() -> bool:
        for part in parts:
            if part.release:
                part.release_set()
            elif part.allocating:
                part.wait_for_acquire(0.1)
        return all(part.acquired for part in parts) and len([*parts[0], *parts[1]]) == len(items)

    deadline = time.monotonic() + WAIT
    while not settled():
        assert time.monotonic() < deadline, [part.state for part in parts]
    assert sorted([*parts[0], *parts[1]]) == list(items)
    for part in parts:
        part.finish()


def test_data_and_children_watches(connect: Connect) -> None:
    """The lasting watches of kazoo follow a node through birth, changes, death and rebirth."""
    watcher, actor = connect(), connect()
    data, children = Told(), Told()
    watcher.DataWatch("/node")(lambda value, stat: data(value))
    data.until(lambda values: values == [None])
    expected: list[bytes | None] = [None]
    for step in (b"1", b"2", None, b"3"):
        if step is None:
            actor.delete("/node")
        elif actor.exists("/node"):
            actor.set("/node", step)
        else:
            actor.create("/node", step)
        expected.append(step)
        data.until(lambda values: values == expected)
    watcher.ChildrenWatch("/node")(lambda names: children(sorted(names)))
    for names in (["a"], ["a", "b"], ["b"]):
        if len(names) == 1 and names == ["b"]:
            actor.delete("/node/a")
        else:
            actor.create("/node/" + names[-1], b"")
        children.until(lambda values, names=names: values[-1] == names)


def test_tree_cache(connect: Connect) -> None:
    """A tree cache mirrors a whole subtree and tells what happened to it."""
    watcher, actor = connect(), connect()
    actor.create("/root/a/b", b"1", makepath=True)
    told = Told()
    cache = TreeCache(watcher, "/root")
    cache.listen(lambda event: told((event.event_type, event.event_data.path if event.event_data else None)))
    cache.start()
    told.until(lambda values: (TreeEvent.INITIALIZED, None) in values)
    assert cache.get_data("/root/a/b").data == b"1"
    actor.create("/root/c", b"2")
    told.until(lambda values: (TreeEvent.NODE_ADDED, "/root/c") in values)
    actor.set("/root/a/b", b"3")
    told.until(lambda values: (TreeEvent.NODE_UPDATED, "/root/a/b") in values)
    actor.delete("/root/a/b")
    told.until(lambda values: (TreeEvent.NODE_REMOVED, "/root/a/b") in values)
    assert cache.get_children("/root") == {"a", "c"}
    cache.close()


def test_leases(connect: Connect) -> None:
    """A non-blocking lease is had by one client at a time."""
    one, two = connect(), connect()
    hour = datetime.timedelta(hours=1)
    assert one.NonBlockingLease("/lease", hour, identifier="one")
    assert not two.NonBlockingLease("/lease", hour, identifier="two")
    assert one.NonBlockingLease("/lease", hour, identifier="one")
