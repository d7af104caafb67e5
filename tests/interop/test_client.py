"""
Our client: the same list of tests with Java's server, with ours, and with ours in the same process without a socket;
then with an ensemble of ours whose leader dies.

Every test keeps to a chroot of its own on one server of each kind; those that cut connections do it with a relay.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, gatherResults

from tests.client.stories import Told
from tests.interop.clients import servers
from tests.interop.clients.ours import Program, Zoo
from tests.interop.clients.proxy import Relay
from tests.interop.conftest import MakeEnsemble
from tests.interop.ensembles import OURS
from tests.interop.process import HOST, ServerProcess
from zktwisted.client import (
    CREATOR_ALL_ACL,
    READ_ACL,
    EventType,
    State,
    WatchedEvent,
    WatcherType,
    ZooKeeperClient,
    digest_id,
)
from zktwisted.errors import (
    BadArgumentsError,
    BadVersionError,
    ConnectionLossError,
    InvalidACLError,
    KeeperError,
    NoAuthError,
    NoChildrenForEphemeralsError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    NoWatcherError,
    SessionExpiredError,
)

CREATED, DELETED, CHANGED, CHILDREN = (
    EventType.NODE_CREATED,
    EventType.NODE_DELETED,
    EventType.NODE_DATA_CHANGED,
    EventType.NODE_CHILDREN_CHANGED,
)


LOCAL = "local"
SETTINGS = {"tick_time": 500, "extended_types_enabled": True}
#: For tests of connections.
with_sockets = pytest.mark.parametrize("server", [servers.OURS, servers.JAVA_380], indirect=True)


@pytest.fixture(scope="module", params=[servers.OURS, servers.JAVA_380, LOCAL])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess | None]:
    """Return a running server of each kind; C{None} for one that every test has to itself, in its own process."""
    kind: str = request.param
    if kind == LOCAL:
        yield None
        return
    running = servers.make_server(
        kind,
        tmp_path_factory.mktemp("server"),
        config={"tickTime": "500", "extendedTypesEnabled": "true"},
        properties={"zookeeper.extendedTypesEnabled": "true"},
    )
    running.start()
    yield running
    running.stop()
    if kind == servers.OURS:
        assert not servers.failures(running)


@pytest.fixture
def run(server: ServerProcess | None, request: pytest.FixtureRequest) -> Any:
    """Return what runs a coroutine function with a client below a chroot of the test's own."""
    name = request.node.name.partition("[")[0]

    def run(program: Program, *arguments: Any) -> None:
        async def whole(zoo: Zoo) -> None:
            client = await zoo.connected(chroot=f"/{name}")
            await client.ensure_path("/")
            await program(zoo, client, *arguments)

        zoo = Zoo(**SETTINGS) if server is None else Zoo(f"{HOST}:{server.port}")
        zoo.run(whole)

    return run


@pytest.fixture
def relay(server: ServerProcess) -> Iterator[Relay]:
    """Return a relay in front of the server."""
    made = Relay(server.port)
    yield made
    made.close()


async def refused(kind: type[Exception], asked: Any) -> Any:
    """Expect an error, and return it."""
    with pytest.raises(kind) as caught:
        await asked
    return caught.value


# -- operations


def test_life_of_a_node(run: Any) -> None:
    """Versions, lengths and zxids are what they should be, from create to delete."""

    async def program(zoo: Zoo, zk: ZooKeeperClient) -> None:
        assert await zk.create("/node", b"one") == "/node"
        data, born = await zk.get("/node")
        assert data == b"one"
        assert (born.version, born.cversion, born.aversion, born.dataLength, born.numChildren) == (0, 0, 0, 3, 0)
        assert born.czxid == born.mzxid == born.pzxid == zk.last_zxid
        changed = await zk.set("/node", b"four", version=0)
        assert (changed.version, changed.dataLength, changed.czxid) == (1, 4, born.czxid)
        assert await zk.exists("/node") == changed
        assert await zk.create("/node/Kind-\u00e4\u4e2d") == "/node/Kind-\u00e4\u4e2d"
        assert await zk.children("/node") == ["Kind-\u00e4\u4e2d"]
        assert (await zk.children_and_stat("/node")).stat.numChildren == 1
        assert await zk.get_all_children_number("/node") == 1
        await zk.delete("/node/Kind-\u00e4\u4e2d")
        await zk.delete("/node", version=1)
        assert await zk.exists("/node") is None
        await zk.create("/null", None)
        assert (await zk.get("/null")).data is None
        await zk.sync()

    run(program)


def test_refusals(run: Any) -> None:
    """Each refusal is the class of its code, and names the node."""

    async def program(zoo: Zoo, zk: ZooKeeperClient) -> None:
        await zk.ensure_path("/a/b")
        await zk.create("/e", ephemeral=True)
        for asked, kind, path in (
            (zk.create("/a"), NodeExistsError, "/a"),
            (zk.create("/x/y"), NoNodeError, "/x/y"),
            (zk.create("/e/y"), NoChildrenForEphemeralsError, "/e/y"),
            (zk.create("/bad\x01"), BadArgumentsError, "/bad\x01"),
            (zk.create("/acl", acl=[]), InvalidACLError, "/acl"),
            (zk.delete("/a"), NotEmptyError, "/a"),
            (zk.delete("/a/b", version=4), BadVersionError, "/a/b"),
            (zk.set("/a", b"", version=7), BadVersionError, "/a"),
            (zk.get("/none"), NoNodeError, "/none"),
            (zk.children("/none"), NoNodeError, "/none"),
            (zk.get_acl("/none"), NoNodeError, "/none"),
        ):
            assert (await refused(kind, asked)).path == path
        assert zk.state is State.CONNECTED

    run(program)


def test_modes(run: Any) -> None:
    """All modes of create."""

    async def program(zoo: Zoo, zk: ZooKeeperClient) -> None:
        assert await zk.create("/s-", sequential=True) == "/s-0000000000"
        path, stat = await zk.create_and_stat("/e-", ephemeral=True, sequential=True)
        assert (path, stat.ephemeralOwner) == ("/e-0000000001", zk.session_id)
        assert await zk.create("/e", ephemeral=True) == "/e"
        assert {*await zk.get_ephemerals()} == {"/e", "/e-0000000001"}
        assert await zk.create("/box", container=True) == "/box"
        assert await zk.create("/short", ttl_ms=60_000) == "/short"
        path, stat = await zk.create_and_stat("/short-", ttl_ms=60_000, sequential=True)
        assert await zk.exists(path) == stat
        assert (await zk.create_and_stat("/box/in", container=True)).path == "/box/in"

    run(program)


def test_access(run: Any) -> None:
    """Lists are set, read and obeyed; an identity counts from where it is added."""

    async def program(zoo: Zoo, zk: ZooKeeperClient) -> None:
        await zk.create("/a", b"secret")
        await zk.add_auth("digest", "me:secret")
        identities = {(info.auth_scheme, (info.user or "").partition(":")[0]) for info in await zk.who_am_i()}
        assert {("ip", HOST), ("digest", "me")} <= identities
        assert (await zk.set_acl("/a", CREATOR_ALL_ACL, version=0)).aversion == 1
        acl, stat = await zk.get_acl("/a")
        assert ([entry.id for entry in acl], stat.aversion) == ([digest_id("me", "secret")], 1)
        await zk.create("/readable", acl=READ_ACL)
        other = await zoo.connected(chroot=zk.chroot)
        await refused(NoAuthError, other.get("/a"))
        await refused(NoAuthError, other.set("/readable", b""))
        third = await zoo.connected(chroot=zk.chroot, auth=[("digest", b"me:secret")])
        assert (await third.get("/a")).data == b"secret"

    run(program)


def test_wrong_scheme(run: Any) -> None:
    """A scheme that the server does not know is the end of the client."""

    async def program(zoo: Zoo, zk: ZooKeeperClient) -> None:
        with pytest.raises(KeeperError):
            await zk.add_auth("none-such", b"")
        assert zk.state is State.AUTH_FAILED
        await refused(KeeperError, zk.get("/"))

    run(program)


def test_transaction(run: Any) -> None:
    """All or nothing, with results in order and the reason of a failure."""

    async def program(zoo: Zoo, zk: ZooKeeperClient) -> None:
        done = await (
            zk.transaction()
            .create("/t", b"1")
            .set("/t", b"22")
            .check("/t", 1)
            .create("/t/s-", sequential=True)
            .create("/t/box", container=True)
            .create("/t/short", ttl_ms=60_000)
            .delete("/t/s-0000000000")
            .commit()
        )
        assert [done[0], *done[2:]] == ["/t", None, "/t/s-0000000000", "/t/box", "/t/short", None]
        assert done[1].version == 1
        error = await refused(NoNodeError, zk.transaction().create("/u").delete("/none").create("/v").commit())
        assert (error.path, error.results) == ("/none", (0, -101, -2))
        assert await zk.exists("/u") is None
        found = await zk.reads().get("/t").get("/none").children("/t").commit()
        assert (found[0].data, sorted(found[2])) == (b"22", ["box", "short"])
        assert isinstance(found[1], NoNodeError)

    run(program)


def test_configuration(run: Any) -> None:
    """It can be read from below a chroot; a server on its own cannot be given members."""

    async def program(zoo: Zoo, zk: ZooKeeperClient) -> None:
        assert (await zk.get_config()).stat is not None
        await refused(KeeperError, zk.reconfig(joining="server.5=127.0.0.1:1:2;3"))

    run(program)


# -- watches


def test_watches(run: Any) -> None:
    """One-shot watches tell once, and before the answer to what caused them."""

    async def program(zoo: Zoo, zk: ZooKeeperClient) -> None:
        told = Told()
        await zk.exists("/a", told)
        await zk.create("/a")
        await zk.get("/a", told)
        await zk.children("/a", told)
        await zk.create("/a/b")
        await zk.set("/a", b"x")
        await zk.set("/a", b"y")
        await zk.exists("/a/b", told)
        await zk.delete("/a/b")
        assert [event[:2] for event in told.values] == [
            (CREATED, "/a"), (CHILDREN, "/a"), (CHANGED, "/a"), (DELETED, "/a/b")
        ]  # fmt: skip

    run(program)


def test_persistent_watches(run: Any) -> None:
    """They tell until they are removed, whatever the server's release knows of their removal."""

    async def program(zoo: Zoo, zk: ZooKeeperClient) -> None:
        told, deep = Told(), Told()
        watch = await zk.add_watch("/a", told)
        recursive = await zk.add_watch("/b", deep, recursive=True)
        await zk.create("/a")
        await zk.create("/a/x")
        await zk.set("/a", b"x")
        assert [event[:2] for event in told.values] == [(CREATED, "/a"), (CHILDREN, "/a"), (CHANGED, "/a")]
        await zk.create("/b")
        await zk.create("/b/x")
        await zk.delete("/b/x")
        assert [event[:2] for event in deep.values] == [(CREATED, "/b"), (CREATED, "/b/x"), (DELETED, "/b/x")]
        await watch.remove()
        await zk.get("/b", Told())
        await recursive.remove()
        await zk.set("/a", b"y")
        await zk.create("/b/y")
        assert (len(told.values), len(deep.values)) == (3, 3)
        assert not await zk.check_watches("/a")
        assert zk.state is State.CONNECTED

    run(program)


def test_remove_watches(run: Any) -> None:
    """Watches are removed by kind; what is not there cannot be."""

    async def program(zoo: Zoo, zk: ZooKeeperClient) -> None:
        told = Told()
        await zk.create("/a")
        await zk.get("/a", told)
        await zk.children("/a", told)
        assert await zk.check_watches("/a", WatcherType.DATA)
        await zk.remove_watches("/a", WatcherType.DATA)
        assert not await zk.check_watches("/a", WatcherType.DATA)
        await refused(NoWatcherError, zk.remove_watches("/a", WatcherType.DATA))
        await zk.set("/a", b"x")
        assert told.values == []
        await zk.create("/a/b")
        assert [event.type for event in told.values] == [CHILDREN]

    run(program)


# -- many and much


def test_pipelined(run: Any) -> None:
    """Thousands of requests made at once are answered in order, each with its own answer."""

    async def program(zoo: Zoo, zk: ZooKeeperClient) -> None:
        await gatherResults([zk.create(f"/{number}", b"%d" % number) for number in range(500)])
        order: list[int] = []
        asked = []
        for number in range(5000):
            one = zk.get(f"/{number % 500}")
            one.addCallback(lambda found, number=number: order.append(number) or int(found.data or b"-1"))
            asked.append(one)
        assert await gatherResults(asked) == [number % 500 for number in range(5000)]
        assert order == [*range(5000)]
        counter = [zk.set("/0", b"%d" % number) for number in range(300)]
        assert [stat.version for stat in await gatherResults(counter)] == [*range(1, 301)]

    run(program)


def test_large(run: Any) -> None:
    """Nearly a megabyte goes and comes; what a server would not take is refused here."""

    async def program(zoo: Zoo, zk: ZooKeeperClient) -> None:
        data = bytes(range(256)) * 4000
        await zk.create("/large", data)
        assert (await zk.get("/large")).data == data
        await refused(ValueError, zk.set("/large", bytes(0xFFFFF)))
        await gatherResults([zk.get("/large") for _ in range(20)])

    run(program)


def test_many_more_than_go_at_a_time(run: Any) -> None:
    """A program that waits for room has no more requests in memory than are under way, and loses none."""

    async def program(zoo: Zoo, zk: ZooKeeperClient) -> None:
        client = await zoo.connected(chroot=zk.chroot, max_outstanding=50)
        await client.create("/a")
        data, most, asked = bytes(20_000), 0, []
        for number in range(1500):
            await client.room()
            asked.append(client.set("/a", data) if number % 3 else client.get("/a"))
            most = max(most, len(client._line))
        answers = await gatherResults(asked)
        assert most == 50
        assert [answer.version for number, answer in enumerate(answers) if number % 3] == [*range(1, 1001)]

    run(program)


def test_cancelled(run: Any) -> None:
    """A cancelled request fails at once; those beside it are answered as if nothing were."""

    async def program(zoo: Zoo, zk: ZooKeeperClient) -> None:
        await zk.create("/a", b"x")
        asked = [zk.get("/a") for _ in range(20)]
        for one in asked[::2]:
            one.cancel()
        for one in asked[::2]:
            await refused(CancelledError, one)
        sent = [zk.get("/a") for _ in range(20)]
        zk.sync()
        await asked[1]
        sent[3].cancel()
        await refused(CancelledError, sent[3])
        assert (await sent[19]).data == b"x"

    run(program)


# -- connections and sessions


@with_sockets
def test_connection_lost(run: Any, relay: Relay) -> None:
    """Session, ephemeral nodes and watches outlive a connection; what changed meanwhile is told, and only that."""

    async def program(zoo: Zoo, other: ZooKeeperClient) -> None:
        zk = await zoo.connected(f"{HOST}:{relay.port}{other.chroot}")
        states, told, lasting = Told(), Told(), Told()
        zk.listen(states)
        session = zk.session_id
        await zk.create("/mine", ephemeral=True)
        for name in ("/changed", "/same", "/deleted"):
            await zk.create(name)
            await zk.get(name, told)
        await zk.exists("/created", told)
        await zk.children("/", told)
        await zk.add_watch("/same", lasting)
        lost = zk.get("/same")
        relay.cut()
        await refused(ConnectionLossError, lost)
        await states.until(lambda values: values)
        await other.set("/changed", b"x")
        await other.delete("/deleted")
        await other.create("/created")
        waiting = zk.get("/changed")
        relay.heal()
        assert (await waiting).data == b"x"
        assert states.values == [State.CONNECTING, State.CONNECTED]
        assert {event[:2] for event in told.values} == {
            (CHANGED, "/changed"), (DELETED, "/deleted"), (CREATED, "/created"), (CHILDREN, "/")
        }  # fmt: skip
        assert (await zk.exists("/mine")).ephemeralOwner == session == zk.session_id
        await other.set("/same", b"x")
        await lasting.until(lambda values: values)
        await told.until(lambda values: len(values) == 5)
        assert lasting.values[0][:2] == told.values[-1][:2] == (CHANGED, "/same")

    run(program)


@with_sockets
def test_many_watches_move_along(run: Any, relay: Relay) -> None:
    """More watches than go into one frame are set again, by several."""

    async def program(zoo: Zoo, other: ZooKeeperClient) -> None:
        zk = await zoo.connected(f"{HOST}:{relay.port}{other.chroot}")
        told, deep = Told(), Told()
        long_name = "n" * 200
        await gatherResults([zk.exists(f"/{long_name}-{number}", told) for number in range(2000)])
        await zk.add_watch("/", deep, recursive=True)
        relay.cut()
        await other.create(f"/{long_name}-0")
        relay.heal()
        await told.until(lambda values: len(values) == 1)
        await gatherResults([other.create(f"/{long_name}-{number}") for number in range(1, 2000)])
        await told.until(lambda values: len(values) == 2000)
        await deep.until(lambda values: len(values) >= 1999)

    run(program)


@with_sockets
def test_expired(run: Any, relay: Relay) -> None:
    """Who is away for too long learns that his session is over, and has another."""

    async def program(zoo: Zoo, other: ZooKeeperClient) -> None:
        zk = await zoo.connected(f"{HOST}:{relay.port}{other.chroot}", session_timeout=5.0)
        states, told, gone = Told(), Told(), Told()
        zk.listen(states)
        session = zk.session_id
        await zk.create("/mine", ephemeral=True)
        await zk.exists("/mine", told)
        await other.exists("/mine", gone)
        relay.cut()
        await gone.until(lambda values: values)
        waiting = zk.create("/late", ephemeral=True)
        relay.heal()
        await refused(SessionExpiredError, waiting)
        await states.until(lambda values: State.CONNECTED in values)
        assert states.values == [State.CONNECTING, State.EXPIRED, State.CONNECTING, State.CONNECTED]
        assert told.values == [WatchedEvent(EventType.NONE, "/mine")]
        assert zk.session_id != session
        assert await zk.exists("/late") is None
        await zk.create("/mine", ephemeral=True)

    run(program)


@with_sockets
def test_session_of_another(run: Any, relay: Relay) -> None:
    """One client goes on with the session of another that is away, and may end it."""

    async def program(zoo: Zoo, zk: ZooKeeperClient) -> None:
        first = await zoo.connected(f"{HOST}:{relay.port}{zk.chroot}", renew=False)
        states = Told()
        first.listen(states)
        await first.create("/mine", ephemeral=True)
        session = first.session
        relay.cut()
        await states.until(lambda values: State.CONNECTING in values)
        heir = await zoo.connected(chroot=zk.chroot, session=session)
        assert heir.session_id == session[0]
        assert await heir.get_ephemerals() == ["/mine"]
        await heir.close()
        relay.heal()
        await states.until(lambda values: State.EXPIRED in values)
        assert await zk.exists("/mine") is None

    run(program)


def test_closed(run: Any) -> None:
    """Closing ends the session at once, after what was asked before."""

    async def program(zoo: Zoo, zk: ZooKeeperClient) -> None:
        other, told = await zoo.connected(chroot=zk.chroot), Told()
        await other.create("/mine", ephemeral=True)
        await zk.exists("/mine", told)
        asked = [other.get("/mine") for _ in range(100)]
        closed = other.close()
        await gatherResults(asked)
        await closed
        await told.until(lambda values: values)
        assert told.values[0].type == DELETED

    run(program)


# -- an ensemble


def test_leader_dies(make_ensemble: MakeEnsemble) -> None:
    """Sessions at every server of an ensemble live through the death of its leader; no answered write is missing."""
    ensemble = make_ensemble({1: OURS, 2: OURS, 3: OURS})
    ensemble.start()
    leader = ensemble.leader()

    async def program(zoo: Zoo) -> None:
        clients = [await zoo.connected(session_timeout=20.0) for _ in range(6)]
        sessions = [client.session_id for client in clients]
        told = Told()
        await clients[0].create("/counters")
        await clients[0].add_watch("/counters", told, recursive=True)
        answered = dict.fromkeys(clients, 0)
        for number, client in enumerate(clients):
            await client.create(f"/counters/{number}", b"0", ephemeral=True)
        killed = False
        while min(answered.values()) < 60:
            if not killed and min(answered.values()) >= 20:
                killed = True
                ensemble.kill9(leader)
            for number, client in enumerate(clients):
                try:
                    await client.set(f"/counters/{number}", b"%d" % (answered[client] + 1))
                except ConnectionLossError:
                    continue
                answered[client] += 1
        assert killed
        for number, client in enumerate(clients):
            await client.sync()
            for other, reader in enumerate(clients):
                await reader.sync()
                data, stat = await reader.get(f"/counters/{number}")
                assert (data, stat.ephemeralOwner) == (b"%d" % answered[client], sessions[number]), other
        assert [client.session_id for client in clients] == sessions
        await clients[1].set("/counters/0", b"end")
        await told.until(lambda values: values[-1][:2] == (CHANGED, "/counters/0"))

    Zoo(ensemble.hosts()).run(program)
