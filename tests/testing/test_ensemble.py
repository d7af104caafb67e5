"""An ensemble in memory, as a program's own tests would use it."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from zktwisted.errors import StoreError
from zktwisted.testing.checkers import Violation
from zktwisted.testing.ensemble import MemoryEnsemble, members
from zktwisted.testing.simulated import Operation, SimulatedClient
from zktwisted.wire import ops, proto


class EnsembleCase(SynchronousTestCase):
    """Makes ensembles, and forgets them."""

    def make(self, *arguments: Any, **named: Any) -> MemoryEnsemble:
        ensemble = MemoryEnsemble(*arguments, **named)
        self.addCleanup(ensemble.close)
        return ensemble

    def ready(self, *arguments: Any, **named: Any) -> MemoryEnsemble:
        ensemble = self.make(*arguments, **named)
        ensemble.until_serving()
        return ensemble

    def client(self, ensemble: MemoryEnsemble, servers: Any = None) -> SimulatedClient:
        client = ensemble.client(servers)
        ensemble.until(lambda: client.connected, 5)
        return client

    def ask(self, ensemble: MemoryEnsemble, client: SimulatedClient, op: int, request: Any = None) -> Operation:
        """Ask, and let time pass until there is an answer or nobody to give one."""
        asked = client.send(op, request)
        assert asked is not None
        ensemble.until(lambda: asked.status != "pending", 20)
        return asked

    def create(self, ensemble: MemoryEnsemble, client: SimulatedClient, path: bytes, flags: int = 0) -> Operation:
        return self.ask(ensemble, client, ops.CREATE, proto.CreateRequest(path, b"x", proto.OPEN_ACL, flags))


class LifeTests(EnsembleCase):
    """Servers come, lead, follow, and go."""

    def test_first_leader(self) -> None:
        """The voters elect one of them, observers observe; all within moments, and clients get answers."""
        ensemble = self.make(3, observers=1, seed=7)
        self.assertEqual(set(ensemble.modes().values()), {"starting"})
        ensemble.advance(5.0)
        self.assertEqual(sorted(ensemble.modes().values()), ["follower", "follower", "leader", "observer"])
        client = self.client(ensemble, [4])
        self.assertTrue(self.create(ensemble, client, b"/a").ok)
        leader = ensemble.leader()
        assert leader is not None
        self.assertEqual(ensemble.checker.epoch_of(leader.sid), 1)

    def test_leader_dies(self) -> None:
        """What was acknowledged by a leader that dies is with its successor, and comes to the dead when it is back."""
        ensemble = self.ready()
        client = self.client(ensemble)
        self.assertTrue(self.create(ensemble, client, b"/a").ok)
        first = ensemble.leader()
        assert first is not None
        ensemble.crash(first.sid)
        self.assertEqual((first.mode, first.up), ("down", False))
        ensemble.until_serving()
        self.assertIsNot(ensemble.leader(), first)
        ensemble.until(lambda: client.connected, 10)
        read = self.ask(ensemble, client, ops.GET_DATA, proto.PathWatchRequest(b"/a", False))
        assert read.reply is not None
        self.assertEqual(read.reply.decode().data, b"x")
        ensemble.restart(first.sid)
        ensemble.until_serving()
        self.assertIn(b"/a", first.core.tree.nodes)

    def test_power_loss(self) -> None:
        """All machines go off at once; what was acknowledged is there when they are back."""
        ensemble = self.ready(seed=3)
        client = self.client(ensemble)
        for index in range(20):
            self.assertTrue(self.create(ensemble, client, b"/n%d" % index).ok)
        ensemble.power_loss()
        self.assertEqual(set(ensemble.modes().values()), {"down"})
        self.assertIsNone(ensemble.leader())
        ensemble.start()
        ensemble.until_serving()
        for server in ensemble.serving():
            self.assertEqual(sum(path.startswith(b"/n") for path in server.core.tree.nodes), 20)

    def test_stop(self) -> None:
        """Servers that are told to stop do so and leave nothing behind; they start again."""
        ensemble = self.ready()
        for server in ensemble.servers.values():
            server.stop()
            server.stop()
        ensemble.until(lambda: set(ensemble.modes().values()) == {"down"}, 10)
        ensemble.start()
        ensemble.until_serving()
        with self.assertRaises(RuntimeError):
            ensemble.servers[1].start()

    def test_one_server(self) -> None:
        """An ensemble of one is a standalone server."""
        ensemble = self.make(1)
        ensemble.until(lambda: ensemble.servers[1].mode == "standalone", 5)
        client = self.client(ensemble)
        self.assertTrue(self.create(ensemble, client, b"/a").ok)
        ensemble.crash(1)
        ensemble.restart(1)
        ensemble.until(lambda: client.connected, 10)
        self.assertEqual([zxid for zxid, _ in ensemble.checker.order()], [1, 2])

    def test_members(self) -> None:
        """Groups and weights are the caller's to give."""
        ensemble = members(2)
        self.assertEqual([str(member.addresses[0]) for member in ensemble.members], ["10.0.0.1:2888", "10.0.0.2:2888"])
        given = self.ready(settings={"ensemble": members(3, 1), "tick_time": 500})
        self.assertEqual((len(given.servers), given.servers[1].config.tick_time), (4, 500))


class FaultTests(EnsembleCase):
    """What breaks, and what does not."""

    def test_partition(self) -> None:
        """A leader that is cut off steps down, the others elect another; healed, all are one again."""
        ensemble = self.ready()
        old = ensemble.leader()
        assert old is not None
        others = [sid for sid in ensemble.servers if sid != old.sid]
        ensemble.partition([old.sid], others)
        ensemble.advance(20)
        self.assertEqual(old.mode, "looking")
        self.assertIn(ensemble.leader(), [ensemble.servers[sid] for sid in others])
        ensemble.heal()
        ensemble.until_serving()
        self.assertEqual(sorted(ensemble.modes().values()), ["follower", "follower", "leader"])

    def test_one_way(self) -> None:
        """A follower that nobody hears is given up; what was held up comes when the wire is mended."""
        ensemble = self.ready()
        leader = ensemble.leader()
        assert leader is not None
        deaf = next(sid for sid in ensemble.servers if sid != leader.sid)
        ensemble.cut(deaf, leader.sid)
        ensemble.until(lambda: not ensemble.servers[deaf].serving, 20)
        ensemble.heal()
        ensemble.until_serving()

    def test_freeze(self) -> None:
        """A leader that stands still loses its followers; going on, it finds out and follows."""
        ensemble = self.ready()
        leader = ensemble.leader()
        assert leader is not None
        leader.freeze()
        ensemble.advance(20)
        self.assertNotEqual(ensemble.leader(), leader)
        leader.thaw()
        ensemble.until(lambda: leader.mode == "follower", 30)

    def test_disk(self) -> None:
        """A server whose disk fails gives up, says why, and starts again on what there is; the others go on."""
        ensemble = self.ready()
        client = self.client(ensemble)
        leader = ensemble.leader()
        assert leader is not None
        broken = next(server for server in ensemble.servers.values() if server is not leader)
        broken.disk.fail_flush()
        for index in range(3):
            client.send(ops.CREATE, proto.CreateRequest(b"/n%d" % index, b"", proto.OPEN_ACL, 0))
        ensemble.until(lambda: broken.failure is not None, 10)
        self.assertEqual((broken.serving, ensemble.leader()), (False, leader))
        broken.restart()
        ensemble.until_serving()
        self.flushLoggedErrors(StoreError)

    def test_clocks(self) -> None:
        """Clocks may differ: in speed and in date."""
        ensemble = self.ready()
        server = ensemble.servers[1]
        server.skew(1.05, 3_600_000)
        before, world = server.clock.seconds(), ensemble.world.wall_ms()
        ensemble.advance(100)
        self.assertAlmostEqual(server.clock.seconds() - before, 105)
        self.assertEqual(server.clock.wall_ms() - world, 3_700_000)
        ensemble.until_serving()

    def test_reset(self) -> None:
        """Servers whose connections are reset find together again."""
        ensemble = self.ready()
        ensemble.reset(1, 2)
        ensemble.reset(2, 3)
        ensemble.advance(1)
        ensemble.until_serving()


class CheckTests(EnsembleCase):
    """The ensemble says when something is wrong, at the moment at which it is."""

    def test_until(self) -> None:
        """What does not come about is said to, with what the servers are."""
        ensemble = self.ready()
        with self.assertRaises(Violation) as caught:
            ensemble.until(lambda: False, 1, "the end of the world")
        self.assertIn("the end of the world", str(caught.exception))
        self.assertIn("leader", str(caught.exception))

    def test_server_without_reason(self) -> None:
        """A server that gives up although its disk is well."""
        ensemble = self.ready()
        service: Any = ensemble.servers[1].service
        service._failed(_failure())
        with self.assertRaises(Violation) as caught:
            ensemble.advance(1)
        self.assertIn("gives up without a reason: no reason", str(caught.exception))

    def test_tree_that_was_touched(self) -> None:
        """A server that has at a zxid what others had not."""
        ensemble = self.ready()
        client = self.client(ensemble)
        self.create(ensemble, client, b"/a")
        ensemble.advance(1)
        ensemble.servers[1].core.tree.digest += 1
        with self.assertRaises(Violation) as caught:
            ensemble.advance(1)
        self.assertIn("where others had", str(caught.exception))

    def test_epochs(self) -> None:
        """Epochs on a disk that fall, or are current and were not accepted."""
        for name, value, what in (("acceptedEpoch", b"0", "have fallen"), ("currentEpoch", b"2", "is accepted")):
            ensemble = self.ready()
            ensemble.servers[1].disk.files[name] = value
            with self.assertRaises(Violation) as caught:
                ensemble.advance(1)
            self.assertIn(what, str(caught.exception))

    def test_client_goes_back(self) -> None:
        """A client that is shown an older zxid than it has seen."""
        ensemble = self.ready()
        client = self.client(ensemble)
        self.create(ensemble, client, b"/a")
        client.last_zxid += 10
        with self.assertRaises(Violation) as caught:
            self.create(ensemble, client, b"/b")
        self.assertIn("behind", str(caught.exception))

    def test_same_seed(self) -> None:
        """A seed gives the same run, byte by byte; another gives another."""

        def run(seed: int) -> str:
            ensemble = self.ready(seed=seed)
            client = self.client(ensemble)
            for index in range(5):
                self.create(ensemble, client, b"/n%d" % index)
            ensemble.crash(2)
            ensemble.advance(10)
            return ensemble.trace_hash()

        self.assertEqual(run(1), run(1))
        self.assertNotEqual(run(1), run(2))

    def test_trace(self) -> None:
        """The trace reads as what has happened, and does not grow for ever."""
        ensemble = self.make()
        ensemble.trace_lines = 30
        ensemble.until_serving()
        client = self.client(ensemble)
        self.create(ensemble, client, b"/a")
        self.assertTrue(any("client 1 is told <CREATE" in line for line in ensemble.trace))
        for _ in range(100):
            ensemble.note("again")
        self.assertLessEqual(len(ensemble.trace), 60)


def _failure() -> Any:
    from twisted.python.failure import Failure

    return Failure(StoreError("no reason"))
