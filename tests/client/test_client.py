"""Every operation, with a whole server in memory; and an ensemble in memory whose leader dies."""

from __future__ import annotations

import gc
from random import Random
from typing import Any

from twisted.internet.defer import CancelledError, ensureDeferred
from twisted.trial.unittest import SynchronousTestCase

from tests.client.world import ClientCase
from zktwisted.client import (
    CREATOR_ALL_ACL,
    OPEN_ACL,
    READ_ACL,
    Created,
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
    KeeperError,
    NoAuthError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    NoWatcherError,
    ReconfigDisabledError,
    SessionExpiredError,
)
from zktwisted.testing import MemoryEnsemble

CHANGED, CREATED, DELETED = EventType.NODE_DATA_CHANGED, EventType.NODE_CREATED, EventType.NODE_DELETED


class OperationTests(ClientCase):
    """What each operation answers."""

    def setUp(self) -> None:
        super().setUp()
        self.serve(extended_types_enabled=True)
        self.zk = self.connected()

    def run_program(self, program: Any) -> Any:
        """Run a coroutine to its end."""
        return self.result(ensureDeferred(program))

    def test_life_of_a_node(self) -> None:
        """Made, read, changed, deleted; each answer shows what the one before did."""

        async def program() -> None:
            zk = self.zk
            self.assertEqual("/node", await zk.create("/node", b"one"))
            data, stat = await zk.get("/node")
            self.assertEqual((b"one", 0, 3), (data, stat.version, stat.dataLength))
            self.assertEqual(stat, await zk.exists("/node"))
            changed = await zk.set("/node", b"four", version=0)
            self.assertEqual((1, 4), (changed.version, changed.dataLength))
            self.assertEqual(["node"], [name for name in await zk.children("/") if name != "zookeeper"])
            await zk.create("/node/b")
            children, stat = await zk.children_and_stat("/node")
            self.assertEqual((["b"], 1), (children, stat.numChildren))
            self.assertEqual(1, await zk.get_all_children_number("/node"))
            await zk.delete("/node/b")
            await zk.delete("/node", version=1)
            self.assertIsNone(await zk.exists("/node"))
            await zk.sync()

        self.run_program(program())

    def test_null_data(self) -> None:
        """No data are other than empty data."""
        self.result(self.zk.create("/null", None))
        self.result(self.zk.create("/empty"))
        self.assertIsNone(self.result(self.zk.get("/null")).data)
        self.assertEqual(b"", self.result(self.zk.get("/empty")).data)

    def test_refusals(self) -> None:
        """Each is raised as the class of its code, with the path."""
        self.result(self.zk.create("/a"))
        self.result(self.zk.create("/a/b"))
        for asked, kind, path in (
            (self.zk.create("/a"), NodeExistsError, "/a"),
            (self.zk.create("/x/y"), NoNodeError, "/x/y"),
            (self.zk.delete("/a"), NotEmptyError, "/a"),
            (self.zk.set("/a", b"", version=7), BadVersionError, "/a"),
            (self.zk.get_acl("/none"), NoNodeError, "/none"),
            (self.zk.create("/bad\x01"), BadArgumentsError, "/bad\x01"),
        ):
            self.assertEqual(path, self.failure(asked, kind).path)
        for wrong in ("", "relative"):
            self.assertRaises(BadArgumentsError, self.zk.get, wrong)

    def test_modes(self) -> None:
        """Each mode of create makes a node of its kind."""

        async def program() -> None:
            zk = self.zk
            await zk.create("/parent")
            self.assertEqual("/parent/s-0000000000", await zk.create("/parent/s-", sequential=True))
            made = await zk.create_and_stat("/parent/e-", ephemeral=True, sequential=True)
            self.assertIsInstance(made, Created)
            self.assertEqual(("/parent/e-0000000001", zk.session_id), (made.path, made.stat.ephemeralOwner))
            self.assertEqual(zk.session_id, (await zk.create_and_stat("/mine", ephemeral=True)).stat.ephemeralOwner)
            self.assertEqual({"/mine", made.path}, {*await zk.get_ephemerals()})
            self.assertEqual([made.path], await zk.get_ephemerals("/parent"))
            self.assertEqual("/box", await zk.create("/box", container=True))
            self.assertEqual("/short", await zk.create("/short", ttl_ms=1000))
            path, stat = await zk.create_and_stat("/short-", ttl_ms=1000, sequential=True)
            self.assertTrue(path.startswith("/short-0"))
            self.assertEqual(stat, await zk.exists(path))

        self.run_program(program())
        for mode in ({"container": True, "ephemeral": True}, {"ttl_ms": 1, "ephemeral": True}):
            with self.assertRaises(ValueError):
                self.zk.create("/wrong", **mode)

    def test_ensure_path(self) -> None:
        """What is not there is made, as far as it is not there."""
        self.result(self.zk.ensure_path("/a/b/c"))
        self.result(self.zk.ensure_path("/a/b/c/d/"))
        self.result(self.zk.ensure_path("/"))
        self.assertEqual(["d"], self.result(self.zk.children("/a/b/c")))
        self.result(self.zk.create("/e", ephemeral=True))
        self.failure(self.zk.ensure_path("/e/below"), KeeperError)

    def test_ensure_path_that_fails(self) -> None:
        """Whatever becomes of it, one error is told, and none is left over."""
        self.result(self.zk.create("/closed", acl=READ_ACL))
        self.failure(self.zk.ensure_path("/closed/a/b/c"), NoAuthError)
        cancelled = self.zk.ensure_path("/closed/a/b/c")
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)
        self.pass_time(1)
        closing = self.zk.ensure_path("/a/b/c")
        self.result(self.zk.close())
        closing.addErrback(lambda failure: None)
        self.failureResultOf(self.zk.ensure_path("/a/b/c"), SessionExpiredError)
        gc.collect()
        self.assertEqual([], self.flushLoggedErrors())

    def test_access(self) -> None:
        """Who may what: lists are set and read, and identities count from where they are added."""

        async def program() -> None:
            zk = self.zk
            await zk.create("/a")
            acl, stat = await zk.get_acl("/a")
            self.assertEqual((list(OPEN_ACL), 0), (acl, stat.aversion))
            await zk.add_auth("digest", "me:secret")
            users = [info.user for info in await zk.who_am_i()]
            self.assertIn("me", " ".join(users))
            self.assertEqual(1, (await zk.set_acl("/a", CREATOR_ALL_ACL, version=0)).aversion)
            self.assertEqual(digest_id("me", "secret"), (await zk.get_acl("/a")).acl[0].id)
            await zk.create("/readable", acl=READ_ACL)

        self.run_program(program())
        other = self.connected()
        self.failure(other.get("/a"), NoAuthError)
        self.failure(other.set("/readable", b""), NoAuthError)
        third = self.connected(auth=[("digest", b"me:secret")])
        self.assertEqual(b"", self.result(third.get("/a")).data)

    def test_transaction(self) -> None:
        """All of it, with the results in order; or nothing, with the reason."""

        async def program() -> None:
            zk = self.zk
            done = await (
                zk.transaction()
                .create("/t", b"1")
                .set("/t", b"22")
                .check("/t", 1)
                .create("/t/s-", sequential=True)
                .create("/t/box", container=True)
                .delete("/t/s-0000000000")
                .commit()
            )
            self.assertEqual(["/t", None, "/t/s-0000000000", "/t/box", None], [*done[:1], *done[2:]])
            self.assertEqual((1, 2), (done[1].version, done[1].dataLength))
            refused = zk.transaction().create("/u").delete("/none").create("/v")
            self.assertEqual(3, len(refused))
            with self.assertRaises(NoNodeError) as caught:
                await refused.commit()
            self.assertEqual(("/none", (0, -101, -2)), (caught.exception.path, caught.exception.results))
            self.assertIsNone(await zk.exists("/u"))
            self.assertEqual([], await zk.transaction().commit())

        self.run_program(program())

    def test_a_transaction_is_committed_once(self) -> None:
        """The second time is a mistake of the program's."""
        transaction = self.zk.transaction().create("/t")
        self.result(transaction.commit())
        self.assertRaises(ValueError, transaction.commit)

    def test_reads(self) -> None:
        """Many reads in one request; each fails on its own."""
        self.result(self.zk.create("/a", b"data"))
        self.result(self.zk.create("/a/b"))
        found = self.result(self.zk.reads().get("/a").get("/none").children("/a").commit())
        self.assertEqual((b"data", ["b"]), (found[0].data, found[2]))
        self.assertIsInstance(found[1], NoNodeError)
        self.assertEqual("/none", found[1].path)

    def test_configuration(self) -> None:
        """A server on its own has an empty one, and refuses to change it."""
        self.assertEqual(0, self.result(self.zk.get_config()).stat.version)
        self.failure(self.zk.reconfig(leaving="3"), KeeperError)
        self.assertTrue(issubclass(ReconfigDisabledError, KeeperError))

    def test_chroot(self) -> None:
        """A client below a chroot sees nothing of what is above it, in answers, events and lists."""

        async def program() -> None:
            zk = below
            await zk.ensure_path("/")
            told: list[Any] = []
            await zk.exists("/a", told.append)
            self.assertEqual("/a", await zk.create("/a", ephemeral=True))
            self.assertEqual([WatchedEvent(CREATED, "/a", zk.last_zxid)], told)
            self.assertEqual(["a"], await zk.children("/"))
            self.assertEqual(["/a"], await zk.get_ephemerals())
            self.assertEqual(["/b", "/b/s-0000000000"], await zk.transaction().create("/b").create(
                "/b/s-", sequential=True).commit())  # fmt: skip
            self.assertEqual("/c", (await zk.create_and_stat("/c")).path)
            await zk.ensure_path("/x/y")
            self.assertIsNotNone(await self.zk.exists("/app/one/x/y"))
            self.assertIsNone(await self.zk.exists("/a"))
            self.assertEqual({"a", "b", "c", "x"}, {*await self.zk.children("/app/one")})
            await zk.get_config()

        below = self.connected(chroot="/app/one/")
        self.run_program(program())
        self.assertRaises(ValueError, ZooKeeperClient, self.clock, "10.0.0.1", chroot="app")
        self.assertEqual("/app", ZooKeeperClient(self.clock, "10.0.0.1,10.0.0.2/app").chroot)

    # -- watches

    def test_watches(self) -> None:
        """Each is told once, before the answer to what caused it."""

        async def program() -> None:
            zk = self.zk
            told: list[Any] = []
            await zk.exists("/a", told.append)
            await zk.create("/a")
            await zk.get("/a", told.append)
            await zk.children("/a", told.append)
            await zk.create("/a/b")
            await zk.children_and_stat("/a", told.append)
            await zk.set("/a", b"x")
            await zk.set("/a", b"y")
            await zk.delete("/a/b")
            kinds = [(event.type, event.path) for event in told]
            expected = [EventType.NODE_CREATED, EventType.NODE_CHILDREN_CHANGED, EventType.NODE_DATA_CHANGED]
            self.assertEqual([(kind, "/a") for kind in [*expected, EventType.NODE_CHILDREN_CHANGED]], kinds)
            self.assertEqual(sorted(event.zxid for event in told), [event.zxid for event in told])

        self.run_program(program())

    def test_persistent_watches(self) -> None:
        """They are told of everything until they are removed; of two on a path one can stay."""

        async def program() -> None:
            zk = self.zk
            told: list[Any] = []
            others: list[Any] = []
            watch = await zk.add_watch("/a", told.append)
            deep = await zk.add_watch("/a", others.append, recursive=True)
            self.assertEqual(("/a", False, True), (watch.path, watch.recursive, deep.recursive))
            await zk.create("/a")
            await zk.create("/a/b")
            await zk.set("/a", b"x")
            self.assertEqual(
                [CREATED, EventType.NODE_CHILDREN_CHANGED, CHANGED], [event.type for event in told]
            )
            self.assertEqual(["/a", "/a/b", "/a"], [event.path for event in others])
            await watch.remove()
            await watch.remove()
            self.assertFalse(await zk.check_watches("/a", WatcherType.PERSISTENT))
            self.assertTrue(await zk.check_watches("/a", WatcherType.PERSISTENT_RECURSIVE))
            await zk.delete("/a/b")
            self.assertEqual((3, 4), (len(told), len(others)))
            twice = await zk.add_watch("/a", told.append, recursive=True)
            await deep.remove()
            await zk.set("/a", b"y")
            self.assertEqual((4, 4), (len(told), len(others)))
            await twice.remove()
            self.assertFalse(await zk.check_watches("/a"))

        self.run_program(program())

    def test_remove_watches(self) -> None:
        """All of a kind at a path go; where there are none it is an error."""

        async def program() -> None:
            zk = self.zk
            told: list[Any] = []
            await zk.create("/a")
            await zk.get("/a", told.append)
            await zk.children("/a", told.append)
            await zk.remove_watches("/a", WatcherType.DATA)
            with self.assertRaises(NoWatcherError):
                await zk.remove_watches("/a", WatcherType.DATA)
            await zk.set("/a", b"x")
            self.assertEqual([], told)
            await zk.create("/a/b")
            self.assertEqual(1, len(told))

        self.run_program(program())

    def test_watch_removed_while_away(self) -> None:
        """The next connection does not hear of it."""
        told: list[Any] = []
        watch = self.result(self.zk.add_watch("/a", told.append))
        self.network.refuse("10.0.0.100", "10.0.0.1")
        self.network.reset("10.0.0.100", "10.0.0.1")
        self.until(lambda: self.zk.state is State.CONNECTING)
        self.result(watch.remove())
        self.network.heal()
        self.until(lambda: self.zk.state is State.CONNECTED)
        self.assertFalse(self.result(self.zk.check_watches("/a")))

    # -- sessions

    def test_connection_lost(self) -> None:
        """The session goes on, with its ephemeral nodes and its watches; what changed meanwhile is told."""
        zk, other = self.zk, self.connected(here="10.0.0.101")
        told: list[Any] = []
        self.result(zk.create("/mine", ephemeral=True))
        self.result(zk.create("/a"))
        self.result(zk.get("/a", told.append))
        session = zk.session_id
        self.network.isolate("10.0.0.100", "10.0.0.1")
        self.network.reset("10.0.0.100", "10.0.0.1")
        self.until(lambda: zk.state is State.CONNECTING)
        self.network.heal()
        self.result(other.set("/a", b"changed"))
        asked = zk.get("/a")
        self.assertEqual(b"changed", self.result(asked).data)
        self.assertEqual((session, [(CHANGED, "/a")]), (zk.session_id, [event[:2] for event in told]))
        self.assertEqual(session, self.result(zk.exists("/mine")).ephemeralOwner)

    def test_expired(self) -> None:
        """A client that was cut off for too long learns that its session is over, and begins another."""
        zk = self.zk
        told: list[Any] = []
        self.result(zk.create("/mine", ephemeral=True))
        self.result(zk.exists("/mine", told.append))
        session = zk.session_id
        self.network.isolate("10.0.0.100", "10.0.0.1")
        lost = zk.get("/mine")
        self.pass_time(30)
        self.failureResultOf(lost, ConnectionLossError)
        waiting = zk.get("/mine")
        self.network.heal()
        self.failure(waiting, SessionExpiredError)
        self.until(lambda: zk.state is State.CONNECTED)
        self.assertNotEqual(session, zk.session_id)
        self.assertIn(State.EXPIRED, self.states)
        self.assertEqual([WatchedEvent(EventType.NONE, "/mine")], told)
        self.assertIsNone(self.result(zk.exists("/mine")))

    def test_closed(self) -> None:
        """A session that is closed takes its ephemeral nodes with it at once."""
        other = self.connected()
        told: list[Any] = []
        self.result(self.zk.create("/mine", ephemeral=True))
        self.result(other.exists("/mine", told.append))
        self.result(self.zk.close())
        self.until(lambda: told, 1)
        self.assertEqual(DELETED, told[0].type)

    def test_session_of_another(self) -> None:
        """One client goes on with the session of another, and owns what that had made."""
        self.result(self.zk.create("/mine", ephemeral=True))
        heir = self.connected(session=self.zk.session)
        self.assertEqual(self.zk.session_id, heir.session_id)
        self.assertEqual(["/mine"], self.result(heir.get_ephemerals()))

    def test_alive_without_requests(self) -> None:
        """Pings keep the session."""
        session = self.zk.session_id
        self.result(self.zk.create("/mine", ephemeral=True))
        self.pass_time(100)
        self.assertEqual((session, State.CONNECTED), (self.zk.session_id, self.zk.state))
        self.assertEqual([State.CONNECTING, State.CONNECTED], self.states)

    def test_large(self) -> None:
        """Data up to C{jute.maxbuffer} arrive whole, in whatever pieces; more is refused before it is sent."""
        self.network.chopping = 0.9
        data = bytes(range(256)) * 4000
        self.result(self.zk.create("/large", data))
        self.assertEqual(data, self.result(self.zk.get("/large")).data)
        self.failure(self.zk.set("/large", bytes(0xFFFFF)), ValueError)
        self.assertEqual(State.CONNECTED, self.zk.state)

    def test_many(self) -> None:
        """Ten thousand requests, made at once, are answered in their order."""
        made: list[int] = []
        self.result(self.zk.create("/c", b""))
        for number in range(10_000):
            asked = self.zk.set("/c", b"%d" % number) if number % 10 == 0 else self.zk.get("/c")
            asked.addCallback(lambda _, number=number: made.append(number))
        self.until(lambda: len(made) == 10_000)
        self.assertEqual([*range(10_000)], made)


class EnsembleTests(SynchronousTestCase):
    """Three servers in memory."""

    def test_leader_dies(self) -> None:
        """The session, its node and its watch live on at another server; every write that was answered is there."""
        ensemble = MemoryEnsemble(3, seed=5)
        self.addCleanup(ensemble.close)
        ensemble.until_serving()
        here = ensemble.network.host("10.9.9.9")
        endpoints = [here.client(server.address, 2.0) for server in ensemble.servers.values()]
        client = ZooKeeperClient(ensemble.world.clock, endpoints, entropy=Random(2), session_timeout=20.0)
        client.startService()
        ensemble.until(lambda: client.state is State.CONNECTED, 10)
        session, told, counted, answered = client.session_id, [], [0], []

        async def program() -> None:
            await client.create("/mine", ephemeral=True)
            await client.create("/counter", b"0")
            await client.add_watch("/counter", lambda event: told.append(event.type))
            while counted[0] < 200:
                try:
                    await client.set("/counter", b"%d" % (counted[0] + 1))
                except ConnectionLossError:
                    answered.append("lost")
                    continue
                counted[0] += 1

        done = ensureDeferred(program())
        ensemble.until(lambda: counted[0] > 50, 30)
        leader = ensemble.leader()
        assert leader is not None
        leader.crash(power=True)
        ensemble.until(lambda: done.called, 120)
        self.successResultOf(done)
        self.assertEqual(session, client.session_id)
        read = client.get("/counter")
        ensemble.until(lambda: read.called, 10)
        self.assertEqual(b"200", self.successResultOf(read).data)
        self.assertEqual({EventType.NODE_DATA_CHANGED}, {*told})
        closed = client.close()
        ensemble.until(lambda: closed.called, 10)
