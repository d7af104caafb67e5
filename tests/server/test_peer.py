"""A server of an ensemble, from LOOKING to a role and back (spec: quorum 4, 5, 7.5, 10, 12.6, 13, 14)."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from zktwisted.config import ServerConfig
from zktwisted.config.ensemble import Address, Ensemble
from zktwisted.edge.election import ElectionPortError
from zktwisted.errors import StoreError
from zktwisted.server.peer import PeerExit
from zktwisted.server.service import ZooKeeperService
from zktwisted.testing.clock import World
from zktwisted.testing.disk import MemoryDisk
from zktwisted.testing.ensemble import MemoryEnsemble, MemoryMember
from zktwisted.testing.network import MemoryNetwork
from zktwisted.testing.simulated import Operation, SimulatedClient
from zktwisted.wire import ops, proto
from zktwisted.wire.votes import ServerState
from zktwisted.zab.effects import Exit


class PeerCase(SynchronousTestCase):
    """An ensemble in memory."""

    def ensemble(self, servers: int = 3, observers: int = 0, start: bool = True, **settings: Any) -> MemoryEnsemble:
        made = MemoryEnsemble(servers, observers, seed=11, settings=settings, start=start)
        self.addCleanup(made.close)
        return made

    def client(self, ensemble: MemoryEnsemble, *servers: int) -> SimulatedClient:
        """Return a client that is connected."""
        client = ensemble.client(servers or None)
        ensemble.until(lambda: client.connected, 30)
        return client

    def ask(self, ensemble: MemoryEnsemble, client: SimulatedClient, op: int, request: Any) -> Operation:
        """Ask for something, and wait for the answer."""
        operation = client.send(op, request)
        assert operation is not None, "it is not connected"
        ensemble.until(lambda: operation.status != "pending", 30)
        return operation

    def create(self, ensemble: MemoryEnsemble, client: SimulatedClient, path: bytes) -> None:
        self.assertTrue(self.ask(ensemble, client, ops.CREATE, proto.CreateRequest(path, b"x", proto.OPEN_ACL, 0)).ok)

    def has(self, server: MemoryMember, path: bytes) -> bool:
        return path in server.core.tree.nodes


class _Slow:
    """An endpoint that takes its time."""

    def __init__(self, listening: Deferred[Any]) -> None:
        self.listening = listening

    def listen(self, factory: object) -> Deferred[Any]:
        return self.listening


class _Port:
    """What it comes to."""

    stopped = False

    def stopListening(self) -> None:
        self.stopped = True


class LifeTests(PeerCase):
    """Up, and down in every state."""

    def test_three(self) -> None:
        """They elect the highest, serve, and tell so."""
        ensemble = self.ensemble(start=False)
        ensemble.start()
        waiting = {sid: server.service.when_serving() for sid, server in ensemble.servers.items() if server.service}
        self.assertEqual(ensemble.modes(), {1: "starting", 2: "starting", 3: "starting"})
        ensemble.until_serving()
        self.assertEqual({sid: self.successResultOf(each) for sid, each in waiting.items()}, ensemble.modes())
        self.assertEqual(ensemble.modes(), {1: "follower", 2: "follower", 3: "leader"})
        for server in ensemble.servers.values():
            peer: Any = server.service.peer if server.service else None
            self.assertEqual((peer.accepted_epoch, peer.current_epoch, peer.vote.leader), (1, 1, 3))
            self.assertEqual(peer.vote.peer_epoch, 1)
            self.assertEqual(server.disk.files["currentEpoch"], b"1")
        self.assertIs(ensemble.leader(), ensemble.servers[3])

    def test_alone(self) -> None:
        """A server that nobody joins looks, says so, and is stopped while it does."""
        ensemble = self.ensemble(start=False)
        ensemble.servers[1].restart()
        ensemble.advance(5)
        server = ensemble.servers[1]
        assert server.service is not None
        self.assertEqual(server.service.status(), {"mode": "looking"})
        waiting = server.service.when_serving()
        server.stop()
        ensemble.advance(1)
        self.failureResultOf(waiting, CancelledError)
        self.assertEqual((server.mode, server.clock.getDelayedCalls()), ("down", []))

    def test_stopped_in_every_state(self) -> None:
        """Whenever a server is stopped, nothing of it is left: no delayed call, no port, no connection."""
        for moment in (
            0.006,
            0.008,
            0.01,
            0.012,
            0.015,
            0.02,
            0.05,
            0.1,
            0.15,
            0.2,
            0.21,
            0.22,
            0.23,
            0.24,
            0.25,
            0.3,
            0.5,
            2.0,
        ):
            ensemble = self.ensemble(observers=1)
            ensemble.advance(moment)
            for server in ensemble.servers.values():
                server.stop()
            ensemble.advance(3)
            for server in ensemble.servers.values():
                self.assertEqual((server.mode, server.clock.getDelayedCalls()), ("down", []), (moment, server.sid))
                self.assertEqual(ensemble.network.ends_at(server.host.address), [], (moment, server.sid))
            ensemble.start()
            ensemble.until_serving()

    def test_one_after_the_other(self) -> None:
        """Servers that are stopped in order leave, those that are left go on as long as they are a quorum."""
        ensemble = self.ensemble()
        ensemble.until_serving()
        client = self.client(ensemble, 1)
        self.create(ensemble, client, b"/a")
        ensemble.servers[3].stop()
        ensemble.until(lambda: ensemble.leader() is ensemble.servers[2], 30)
        ensemble.until_serving()
        client = self.client(ensemble, 1)
        self.create(ensemble, client, b"/b")
        ensemble.servers[2].stop()
        ensemble.until(lambda: ensemble.servers[1].mode == "looking", 30)
        ensemble.start()
        ensemble.until_serving()
        for server in ensemble.servers.values():
            self.assertTrue(self.has(server, b"/a") and self.has(server, b"/b"))

    def test_an_ensemble_of_one(self) -> None:
        """standaloneEnabled=false: a single voter elects itself, and writes."""
        ensemble = self.ensemble(1, standalone_enabled=False)
        ensemble.until_serving()
        self.assertEqual(ensemble.modes(), {1: "leader"})
        client = self.client(ensemble)
        self.create(ensemble, client, b"/a")
        ensemble.crash(1)
        ensemble.restart(1)
        ensemble.until_serving()
        self.assertTrue(self.has(ensemble.servers[1], b"/a"))

    def test_observer(self) -> None:
        """An observer serves, and loses its leader as others do."""
        ensemble = self.ensemble(observers=1)
        ensemble.until_serving()
        self.assertEqual(ensemble.modes()[4], "observer")
        # Who only looks on counts no elections, as Java's observers do not.
        counts = [server.core.metrics.election_time.count for server in ensemble.servers.values()]
        self.assertEqual(counts, [1, 1, 1, 0])
        client = self.client(ensemble, 4)
        self.create(ensemble, client, b"/a")
        ensemble.crash(3)
        ensemble.until(lambda: ensemble.leader() is not None and ensemble.leader() is not ensemble.servers[3], 60)
        ensemble.until_serving()
        client = self.client(ensemble, 4)
        self.create(ensemble, client, b"/b")


class LossTests(PeerCase):
    """A role ends."""

    def test_leader_dies(self) -> None:
        """The others elect a new one; what was acknowledged is there, the epoch is a new one."""
        ensemble = self.ensemble()
        ensemble.until_serving()
        client = self.client(ensemble, 1, 2)
        self.create(ensemble, client, b"/a")
        ensemble.crash(3)
        took = ensemble.until(lambda: ensemble.leader() is ensemble.servers[2], 30)
        self.assertLess(took, 5)
        ensemble.until_serving()
        client = self.client(ensemble, 1)
        self.create(ensemble, client, b"/b")
        ensemble.restart(3)
        ensemble.until_serving()
        self.assertEqual(ensemble.modes(), {1: "follower", 2: "leader", 3: "follower"})
        ensemble.advance(1)
        for server in ensemble.servers.values():
            self.assertTrue(self.has(server, b"/a") and self.has(server, b"/b"))
            self.assertEqual(server.core.metrics.digest_mismatches_count, 0)
            self.assertEqual(server.disk.files["currentEpoch"], b"2")

    def test_leader_is_cut_off(self) -> None:
        """A leader without a quorum stops serving; its clients hear nothing that is not true, and go elsewhere."""
        ensemble = self.ensemble()
        ensemble.until_serving()
        client = self.client(ensemble, 3)
        ensemble.partition([3], [1, 2])
        ensemble.until(lambda: ensemble.servers[3].mode == "looking", 30)
        ensemble.until(lambda: not client.connected, 1)
        ensemble.until(lambda: ensemble.leader() is ensemble.servers[2], 30)
        ensemble.heal()
        ensemble.until_serving()
        self.assertEqual(ensemble.modes(), {1: "follower", 2: "leader", 3: "follower"})

    def test_uncommitted_tail(self) -> None:
        """What a leader had logged alone counts in its votes, and goes when another history was chosen."""
        ensemble = self.ensemble()
        ensemble.until_serving()
        client = self.client(ensemble, 3)
        ensemble.partition([3], [1, 2])
        client.send(ops.CREATE, proto.CreateRequest(b"/alone", b"", proto.OPEN_ACL, 0))
        ensemble.until(lambda: ensemble.servers[3].mode == "looking", 30)
        self.assertTrue(self.has(ensemble.servers[3], b"/alone"))
        ensemble.until(lambda: ensemble.leader() is ensemble.servers[2], 30)
        other = self.client(ensemble, 1)
        self.create(ensemble, other, b"/other")
        ensemble.heal()
        ensemble.until_serving()
        ensemble.advance(1)
        for server in ensemble.servers.values():
            self.assertEqual((self.has(server, b"/alone"), self.has(server, b"/other")), (False, True))

    def test_disk_fails(self) -> None:
        """A server whose disk fails gives up at once; the others go on."""
        ensemble = self.ensemble()
        ensemble.until_serving()
        client = self.client(ensemble, 1)
        service: Any = ensemble.servers[3].service
        failed = service.when_failed()
        ensemble.servers[3].disk.fail_flush()
        client.send(ops.CREATE, proto.CreateRequest(b"/a", b"", proto.OPEN_ACL, 0))
        ensemble.until(lambda: ensemble.servers[3].failure is not None, 30)
        self.failureResultOf(failed, StoreError)
        ensemble.until(lambda: ensemble.leader() is ensemble.servers[2], 30)
        self.create(ensemble, self.client(ensemble, 2), b"/b")

    def test_exit(self) -> None:
        """What the machine finds beyond repair ends the process, with the status that tells why."""
        ensemble = self.ensemble()
        ensemble.until_serving()
        service: Any = ensemble.servers[1].service
        failed = service.when_failed()
        driver = service.peer._driver
        driver._end(Exit(12, "COMMIT of what was not next"))
        ensemble.until(lambda: ensemble.servers[1].failure is not None, 5)
        error = self.failureResultOf(failed, PeerExit).value
        self.assertEqual((error.status, str(error)), (12, "COMMIT of what was not next"))

    def test_tells_at_once(self) -> None:
        """Others learn that a server has no leader any more when it does, not when its disk is ready."""
        ensemble = self.ensemble()
        ensemble.until_serving()
        service: Any = ensemble.servers[1].service
        driver = service.peer._driver
        closing: Deferred[list[object]] = Deferred()
        self.patch(driver, "close", lambda: closing)
        driver.leave("enough")
        self.assertEqual(service.peer.state, ServerState.LOOKING)
        ensemble.advance(1)
        self.assertEqual(service.peer.state, ServerState.LOOKING)
        driver.role.stop()
        closing.callback([])
        ensemble.until_serving()

    def test_port_that_comes_late(self) -> None:
        """A port that is had only when the role is over is given back."""
        ensemble = self.ensemble(observer_master_port=2889)
        service: Any = ensemble.servers[1].service
        network = service.peer._around.network
        listening: Deferred[Any] = Deferred()
        server = network.server
        network.server = lambda address, backlog=50: (
            _Slow(listening) if address.port == 2889 else server(address, backlog)
        )
        ensemble.until_serving()
        service.peer._driver.leave("enough")
        ensemble.advance(1)
        self.assertIsNone(service.peer.machine)
        port = _Port()
        listening.callback(port)
        network.server = server
        self.assertTrue(port.stopped)
        ensemble.until_serving()

    def test_leader_cannot_listen(self) -> None:
        """Who cannot listen does not lead; it looks again, and another does."""
        ensemble = self.ensemble()
        service: Any = ensemble.servers[3].service
        network = service.peer._around.network
        server, refused = network.server, []

        def broken(address: Any, backlog: int = 50) -> Any:
            if address.port == 2888:
                refused.append(address)
                raise OSError("in use")
            return server(address, backlog)

        network.server = broken
        ensemble.until(lambda: refused, 30)
        network.server = server
        ensemble.until_serving()
        self.assertEqual(len(refused), 1)


class StartTests(PeerCase):
    """What is found at a start."""

    def setUp(self) -> None:
        self.world = World()
        self.network = MemoryNetwork(self.world.clock, Random(1))

    def service(self, sid: int, disk: MemoryDisk | None = None, **settings: Any) -> ZooKeeperService:
        """Return one of three servers; without a disk it keeps all in memory."""
        lines = "\n".join(f"server.{each}=10.0.0.{each}:2888:3888;2181" for each in (1, 2, 3))
        values = {"init_limit": 10, "sync_limit": 5, "tick_time": 1000, **settings}
        clock = self.world.make_clock()
        return ZooKeeperService(
            clock,
            ServerConfig(myid=sid, ensemble=Ensemble.parse(lines), **values),
            [],
            store="memory" if disk is None else "disk",
            disks=None if disk is None else lambda config: (disk, disk),
            monotonic=clock.seconds,
            wall_ms=clock.wall_ms,
            entropy=Random(sid),
            network=self.network.host(f"10.0.0.{sid}"),
        )

    def test_election_port(self) -> None:
        """A port that cannot be had is the end, with 14."""
        endpoint = self.network.host("10.0.0.1").server(Address("10.0.0.1", 3888))
        self.successResultOf(endpoint.listen(Factory.forProtocol(Protocol)))
        service = self.service(1, election_port_bind_retry=1)
        waiting = service.when_serving()
        service.startService()
        self.world.advance(10)
        error: Any = self.failureResultOf(waiting, ElectionPortError).value
        self.assertEqual((error.status, service.mode), (14, "failed"))
        service.stopService()
        self.world.advance(1)

    def test_epochs_contradict(self) -> None:
        """Files that cannot be are refused."""
        disk = MemoryDisk()
        disk.files.update({"acceptedEpoch": b"1", "currentEpoch": b"2"})
        service = self.service(1, disk)
        waiting = service.when_serving()
        service.startService()
        self.world.advance(1)
        self.assertIn("accepted epoch, 1 is less than", str(self.failureResultOf(waiting, StoreError).value))

    def test_memory(self) -> None:
        """Servers without files elect, replicate, and bring up one that comes later."""
        services = [self.service(sid) for sid in (1, 2, 3)]
        for service in services[:2]:
            service.startService()
        self.world.advance(3)
        self.assertEqual([service.mode for service in services], ["follower", "leader", "stopped"])
        services[2].startService()
        self.world.advance(3)
        self.assertEqual([service.mode for service in services], ["follower", "leader", "follower"])
        for service in services:
            service.stopService()
        self.world.advance(3)
        self.assertEqual([service.mode for service in services], ["stopped"] * 3)

    def test_started_again(self) -> None:
        """A service that was stopped starts again, as another process would."""
        disks = {sid: MemoryDisk() for sid in (1, 2, 3)}
        services = [self.service(sid, disk) for sid, disk in disks.items()]
        for epoch in (1, 2, 3):
            for service in services:
                service.startService()
            self.world.advance(3)
            self.assertEqual([service.mode for service in services], ["follower", "follower", "leader"])
            self.assertEqual({disk.files["currentEpoch"] for disk in disks.values()}, {b"%d" % epoch})
            for service in services:
                service.stopService()
            self.world.advance(3)
            self.assertEqual([service.mode for service in services], ["stopped"] * 3)


class EmptyTests(PeerCase):
    """A server without data among others that have some (db.autocreate)."""

    def without_data(self, **settings: Any) -> tuple[MemoryEnsemble, MemoryMember]:
        ensemble = self.ensemble(start=False)
        for sid in (2, 3):
            ensemble.restart(sid)
        ensemble.until_serving()
        self.create(ensemble, self.client(ensemble, 2, 3), b"/a")
        server = ensemble.servers[1]
        server.config = server.config.replace(**settings)
        return ensemble, server

    def test_brought_up(self) -> None:
        """It gets everything from the leader, whether it was to begin anew or not."""
        for settings in ({}, {"db_autocreate": False}):
            ensemble, server = self.without_data(**settings)
            server.restart()
            ensemble.until_serving()
            self.assertEqual(server.mode, "follower")
            self.assertTrue(self.has(server, b"/a"))

    def test_no_voice(self) -> None:
        """Without a word that this is right it elects nobody: what the others had agreed on might be lost."""
        ensemble, server = self.without_data(db_autocreate=False)
        ensemble.crash(3)
        server.restart()
        ensemble.advance(30)
        self.assertEqual(ensemble.modes(), {1: "looking", 2: "looking", 3: "down"})
        ensemble.restart(3)
        ensemble.until_serving()
        self.assertTrue(self.has(server, b"/a"))


class ObserverMasterTests(PeerCase):
    """Observers that turn to followers (spec: quorum 10.3)."""

    def setUp(self) -> None:
        self.made = self.ensemble(observers=2, observer_master_port=2889)
        self.made.until_serving()

    def master_of(self, sid: int) -> int:
        """Return the id of the follower that serves an observer."""
        found = []
        for server in self.made.servers.values():
            peer: Any = server.service.peer if server.service else None
            if peer is not None and peer.observer_master is not None:
                found += [server.sid for learner in peer.observer_master.learners() if learner.sid == sid]
        self.assertEqual(len(found), 1, found)
        return found[0]

    def test_everything(self) -> None:
        """Reads, writes, syncs, sessions that move: all goes through the follower, and the leader knows of nothing."""
        leader: Any = self.made.servers[3].service
        self.assertEqual(sorted(learner.sid for learner in leader.peer.machine.learners()), [1, 2])
        self.assertIsNone(leader.peer.observer_master)
        self.assertLess(self.master_of(4), 3)
        one, two = self.client(self.made, 4), self.client(self.made, 5)
        self.create(self.made, one, b"/a")
        self.create(self.made, two, b"/b")
        self.assertTrue(self.ask(self.made, one, ops.SYNC, proto.PathRequest(b"/")).ok)
        self.assertTrue(self.has(self.made.servers[4], b"/b"))
        session = one.session_id
        one.move(self.made.servers[5].address)
        self.made.until(lambda: one.connected and one.server == self.made.servers[5].address, 30)
        self.assertEqual(one.session_id, session)
        self.create(self.made, one, b"/c")
        self.made.advance(20)
        self.assertTrue(one.connected and one.session_id == session)
        for server in self.made.servers.values():
            self.assertTrue(self.has(server, b"/c"), server.sid)
            self.assertEqual(server.core.metrics.digest_mismatches_count, 0)

    def test_sync_of_the_follower_itself(self) -> None:
        """The syncs of a follower's clients and of its observers' clients are told apart."""
        master = self.master_of(4)
        clients = [self.client(self.made, master), self.client(self.made, 4)]
        asked = [client.send(ops.SYNC, proto.PathRequest(b"/%d" % turn)) for turn in range(5) for client in clients]
        self.made.until(lambda: all(each is not None and each.ok for each in asked), 10)

    def test_master_dies(self) -> None:
        """An observer whose master is gone finds another, and misses nothing."""
        master = self.master_of(4)
        client = self.client(self.made, 3)
        self.create(self.made, client, b"/before")
        self.made.crash(master)
        self.create(self.made, client, b"/meanwhile")
        self.made.until_serving(120)
        self.assertNotEqual(self.master_of(4), master)
        self.made.advance(1)
        self.assertTrue(self.has(self.made.servers[4], b"/meanwhile"))
        self.create(self.made, self.client(self.made, 4), b"/after")

    def test_stopped(self) -> None:
        """A follower with observers leaves nothing behind."""
        for server in self.made.servers.values():
            server.stop()
        self.made.advance(3)
        for server in self.made.servers.values():
            self.assertEqual((server.mode, server.clock.getDelayedCalls()), ("down", []))


class ReadOnlyTests(PeerCase):
    """Reads without a quorum."""

    def test_read_only(self) -> None:
        """A server that finds no quorum serves reads after a while, and no more when it has found one."""
        ensemble = self.ensemble(start=False, readonlymode_enabled=True)
        ensemble.restart(1)
        server = ensemble.servers[1]
        assert server.service is not None
        waiting = server.service.when_serving()
        ensemble.advance(1.9)
        self.assertEqual(server.mode, "looking")
        ensemble.until(lambda: server.mode == "read-only", 2)
        self.assertEqual(self.successResultOf(waiting), "read-only")
        ensemble.start()
        ensemble.until_serving()
        ensemble.until(lambda: server.mode == "follower", 30)
        # And those that found one at once serve no reads later.
        ensemble.advance(5)
        self.assertEqual(ensemble.modes(), {1: "follower", 2: "follower", 3: "leader"})

    def test_stopped_while_read_only(self) -> None:
        """It can be stopped then, too."""
        ensemble = self.ensemble(start=False, readonlymode_enabled=True)
        ensemble.restart(1)
        server = ensemble.servers[1]
        ensemble.until(lambda: server.mode == "read-only", 5)
        server.stop()
        ensemble.advance(3)
        self.assertEqual((server.mode, server.clock.getDelayedCalls()), ("down", []))


class SettingsTests(PeerCase):
    """Settings of an ensemble."""

    def test_leader_serves_no(self) -> None:
        """The leader leaves clients to the others."""
        ensemble = self.ensemble(leader_serves=False)
        ensemble.until(lambda: set(ensemble.modes().values()) == {"leader", "follower"}, 30)
        ensemble.advance(1)
        self.assertFalse(ensemble.servers[3].core.serving)
        client = self.client(ensemble, 1)
        self.create(ensemble, client, b"/a")

    def test_all_addresses(self) -> None:
        """quorumListenOnAllIPs: the leader listens on every address of its machine."""
        for everywhere, host in ((False, "10.0.0.3"), (True, "")):
            ensemble = self.ensemble(quorum_listen_on_all_ips=everywhere)
            service: Any = ensemble.servers[3].service
            network = service.peer._around.network
            listened = self.watched(network)
            ensemble.until_serving()
            self.assertIn(Address(host, 2888), listened)

    def watched(self, network: Any) -> list[Address]:
        """Return the addresses on which a server listens from now on."""
        server, listened = network.server, []

        def listen(address: Address, backlog: int = 50) -> Any:
            listened.append(address)
            return server(address, backlog)

        network.server = listen
        return listened

    def test_config_node(self) -> None:
        """/zookeeper/config says who the ensemble is, on each server."""
        ensemble = self.ensemble()
        ensemble.until_serving()
        for server in ensemble.servers.values():
            node = server.core.tree.nodes[b"/zookeeper/config"]
            self.assertEqual(node.data, ensemble.members.text.encode())
