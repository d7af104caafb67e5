"""A whole server, in memory and on a clock: how it starts, serves, gives up and stops."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from struct import pack, unpack_from
from typing import Any

from twisted.application.service import IService, MultiService
from twisted.internet.defer import CancelledError, Deferred, fail, maybeDeferred
from twisted.internet.error import CannotListenError, ConnectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from zktwisted.config import ServerConfig
from zktwisted.errors import ConfigError, StoreError
from zktwisted.server.service import ZooKeeperService
from zktwisted.server.snapshots import SnapshotError
from zktwisted.store import snapshot
from zktwisted.testing import MemoryDisk
from zktwisted.wire import jute, ops, proto

NOW_MS = 1_700_000_000_000


class Transport(StringTransport):
    """A transport that is lost a moment after it was closed, as real ones are."""

    def __init__(self, reactor: MemoryReactorClock) -> None:
        super().__init__()
        self.reactor = reactor
        self.protocol: Any = None

    def loseConnection(self) -> None:
        if not self.disconnecting:
            super().loseConnection()
            self.reactor.callLater(0, self.protocol.connectionLost, Failure(ConnectionDone()))

    def abortConnection(self) -> None:
        self.loseConnection()


class Client:
    """A client of the first port that is open."""

    def __init__(self, reactor: MemoryReactorClock, factory: Any = None) -> None:
        self.reactor = reactor
        self.transport = Transport(reactor)
        self.protocol = (factory or reactor.tcpServers[-1][1]).buildProtocol(self.transport.getPeer())
        self.transport.protocol = self.protocol
        self.protocol.makeConnection(self.transport)
        self.session_id = 0
        self.cxid = 0

    @property
    def closed(self) -> bool:
        return self.transport.disconnecting

    def ask(self, data: bytes) -> bytes:
        """Send bytes, and return what has come back when the turn is over."""
        self.transport.clear()
        if not self.closed:
            self.protocol.dataReceived(data)
        self.reactor.advance(0)
        return self.transport.value()

    def connect(self, session_id: int = 0, password: bytes = bytes(16)) -> int:
        """Ask for a session of 4 seconds and return its id, 0 if it was refused."""
        body = pack(">iqiqi", 0, 0, 4000, session_id, 16) + password + b"\0"
        answer = self.ask(pack(">i", len(body)) + body)
        self.session_id = unpack_from(">q", answer, 12)[0]
        self.password = answer[24:40]
        return self.session_id

    def request(self, op: int, record: object) -> int | None:
        """Send a request; return the error code of its answer, C{None} while there is none."""
        self.cxid += 1
        body = pack(">ii", self.cxid, op) + jute.encode(record)
        answer = self.ask(pack(">i", len(body)) + body)
        error: int | None = unpack_from(">i", answer, 16)[0] if answer else None
        return error

    def create(self, path: bytes, flags: int = 0) -> int | None:
        """Create a node that everybody may change."""
        op = ops.CREATE_CONTAINER if flags == 4 else ops.CREATE2
        return self.request(op, proto.CreateRequest(path, b"data", list(proto.OPEN_ACL), flags))

    def exists(self, path: bytes) -> bool:
        return self.request(ops.EXISTS, proto.PathWatchRequest(path, False)) == 0


class ServiceTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.disk = MemoryDisk()
        self.entropy = Random(5)

    def service(self, store: Any = "disk", endpoints: Any = None, **settings: Any) -> ZooKeeperService:
        usual = {"client_port": 2181, "client_port_address": "127.0.0.1", "tick_time": 2000, "pre_alloc_size": 4}
        settings = {**usual, **settings}
        return ZooKeeperService(
            self.reactor,
            ServerConfig(data_dir="/d", four_letter_words_whitelist=("*",), **settings),
            endpoints,
            store=store,
            monotonic=self.reactor.seconds,
            wall_ms=lambda: NOW_MS + int(self.reactor.seconds() * 1000),
            entropy=self.entropy,
            disks=None if store == "memory" else lambda config: (self.disk, self.disk),
        )

    def started(self, store: Any = "disk", **settings: Any) -> ZooKeeperService:
        service = self.service(store, **settings)
        self.start(service)
        return service

    def start(self, service: ZooKeeperService) -> None:
        service.startService()
        self.turn()
        self.assertEqual(self.successResultOf(service.when_serving()), "standalone")

    def turn(self, seconds: float = 0.0) -> None:
        """Let some turns of the reactor pass."""
        self.reactor.pump([seconds] + [0] * 20)

    def stop(self, service: ZooKeeperService) -> None:
        stopped = service.stopService()
        self.turn()
        self.successResultOf(stopped)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def client(self) -> Client:
        client = Client(self.reactor)
        self.assertNotEqual(client.connect(), 0)
        return client


class LifeTests(ServiceTestCase):
    def test_interface(self) -> None:
        """It is a service, and goes where services go."""
        service = self.service("memory")
        self.assertTrue(IService.providedBy(service))
        parent = MultiService()
        service.setServiceParent(parent)
        parent.startService()
        self.successResultOf(service.when_serving())
        stopped: Any = parent.stopService()
        self.turn()
        self.successResultOf(stopped)

    def test_nothing_before_start(self) -> None:
        """Making one opens nothing; the waiting may begin."""
        service = self.service()
        waiting = [service.when_serving(), service.when_serving()]
        self.turn()
        self.assertEqual(self.reactor.tcpServers, [])
        self.assertEqual(self.disk.files, {})
        self.assertEqual(service.addresses, [])
        self.assertEqual(service.status(), {"mode": "stopped"})
        self.successResultOf(service.stopService())
        self.start(service)
        self.assertEqual([self.successResultOf(each) for each in waiting], ["standalone"] * 2)
        self.stop(service)

    def test_memory(self) -> None:
        """Without files it serves as soon as it is started, and forgets everything when it stops."""
        service = self.service("memory")
        service.startService()
        self.assertEqual(self.successResultOf(service.when_serving()), "standalone")
        client = self.client()
        self.assertEqual(client.create(b"/a"), 0)
        self.assertTrue(client.exists(b"/a"))
        self.assertEqual(
            service.status(), {"mode": "standalone", "zxid": 2, "sessions": 1, "connections": 1, "node_count": 6}
        )
        self.assertEqual(service.addresses[0].port, 2181)  # type: ignore[attr-defined]
        self.stop(service)
        self.assertTrue(client.closed)
        self.start(service)
        self.assertFalse(self.client().exists(b"/a"))
        self.stop(service)

    def test_again(self) -> None:
        """It starts again on the data that it left, with its sessions."""
        service = self.started()
        self.assertIn("snapshot.0", self.disk.files)
        client = self.client()
        self.assertEqual(client.create(b"/a"), 0)
        self.assertEqual(client.create(b"/e", flags=1), 0)
        self.stop(service)
        self.assertTrue(client.closed)
        self.assertEqual(service.status(), {"mode": "stopped"})
        self.start(service)
        again = Client(self.reactor)
        self.assertEqual(again.connect(client.session_id, client.password), client.session_id)
        self.assertTrue(again.exists(b"/a") and again.exists(b"/e"))
        self.stop(service)

    def test_two(self) -> None:
        """Two in one process know nothing of each other."""
        one, two = self.started("memory"), self.started("memory")
        clients = [Client(self.reactor, factory) for _, factory, *_ in self.reactor.tcpServers]
        for client in clients:
            client.connect()
        self.assertEqual(clients[0].create(b"/a"), 0)
        self.assertFalse(clients[1].exists(b"/a"))
        self.stop_both(one, two)

    def stop_both(self, *services: ZooKeeperService) -> None:
        stopped = [service.stopService() for service in services]
        self.turn()
        for each in stopped:
            self.successResultOf(each)

    def test_start_twice(self) -> None:
        """Starting what runs, and stopping what stops, changes nothing."""
        service = self.started()
        service.startService()
        self.assertEqual(len(self.reactor.tcpServers), 1)
        self.client()
        first, second = service.stopService(), service.stopService()
        self.turn()
        self.successResultOf(first)
        self.successResultOf(second)

    def test_start_while_stopping(self) -> None:
        """A start that comes while it stops is done afterwards."""
        service = self.started()
        self.client()
        self.disk.hold = True
        stopped = service.stopService()
        service.startService()
        waiting = service.when_serving()
        self.assertNoResult(waiting)
        self.disk.hold = False
        self.turn()
        self.turn(1.1)
        self.successResultOf(stopped)
        self.assertEqual(self.successResultOf(waiting), "standalone")
        self.stop(service)

    def test_stop_while_starting(self) -> None:
        """A stop that comes before it serves is no failure: who waits is told that it was cancelled."""
        service = self.service()
        service.startService()
        waiting, failing = service.when_serving(), service.when_failed()
        self.assertEqual(service.status(), {"mode": "starting"})
        self.stop(service)
        self.failureResultOf(waiting, CancelledError)
        self.assertIsNone(self.successResultOf(failing))
        self.assertEqual([name for name in self.disk.files if "snapshot" in name], [])
        self.start(service)
        self.stop(service)

    def test_configuration(self) -> None:
        """Files need a directory; a store of another kind is none."""
        self.assertRaises(ConfigError, ZooKeeperService, self.reactor, ServerConfig())
        self.assertRaises(ValueError, self.service, "tape")

    def throttled(self) -> tuple[ZooKeeperService, Client]:
        """Return a server whose one place in the chain is taken, and the client that has three more waiting."""
        service = self.started(request_throttle_max_requests=1, request_throttler_shutdown_timeout=5000)
        client = self.client()
        self.disk.hold = True
        for number in range(4):
            self.assertIsNone(client.create(b"/%d" % number))
        return service, client

    def test_throttled(self) -> None:
        """What waits in the request throttle is answered before the stop."""
        service, client = self.throttled()
        stopped = service.stopService()
        for _ in range(10):
            while self.disk.in_flight:
                self.disk.complete()
            self.turn(0.1)
        self.disk.hold = False
        self.successResultOf(stopped)
        self.assertEqual(len(client.transport.value()), 4 * (4 + 16 + 4 + 2 + 68))
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_throttled_too_long(self) -> None:
        """The stop does not wait for ever."""
        service, client = self.throttled()
        stopped = service.stopService()
        self.turn(4.9)
        self.assertNoResult(stopped)
        self.turn(0.3)
        self.disk.hold = False
        while self.disk.in_flight:
            self.disk.complete()
        for _ in range(12):
            self.turn(0.1)
        self.successResultOf(stopped)
        self.assertTrue(client.closed)
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class PortTests(ServiceTestCase):
    def test_words_while_starting(self) -> None:
        """The port is open and four-letter words are answered before the server serves; sessions are not."""
        service = self.service()
        service.startService()
        self.assertNoResult(service.when_serving())
        self.assertEqual(Client(self.reactor).transport.value(), b"")
        client = Client(self.reactor)
        client.protocol.dataReceived(b"srvr")
        self.assertEqual(client.transport.value(), b"This ZooKeeper instance is not currently serving requests\n")
        client = Client(self.reactor)
        client.protocol.dataReceived(b"ruok")
        self.assertEqual(client.transport.value(), b"imok")
        client = Client(self.reactor)
        client.protocol.dataReceived(pack(">iiqiqi", 45, 0, 0, 4000, 0, 16) + bytes(17))
        self.assertTrue(client.closed)
        self.assertEqual(client.transport.value(), b"")
        self.turn()
        self.assertIn(b"Mode: standalone", Client(self.reactor).ask(b"srvr"))
        self.stop(service)

    def test_every_word(self) -> None:
        """Every word finds what it asks for in a server that is not empty."""
        service = self.started()
        client = self.client()
        self.assertEqual(client.create(b"/q", flags=1), 0)
        for path in (b"/zookeeper/quota/q", b"/zookeeper/quota/q/zookeeper_limits"):
            self.assertEqual(client.create(path), 0)
        for word in (b"conf", b"cons", b"dump", b"mntr", b"stat", b"srvr", b"wchs", b"wchc", b"wchp", b"dirs"):
            self.assertNotEqual(Client(self.reactor).ask(word), b"", word)
        dump = Client(self.reactor).ask(b"dump").decode()
        self.assertIn(f"0x{client.session_id:x}:\n\t/q\n", dump)
        self.assertIn("Session Sets (1)/(1)", dump)
        self.assertIn("Connections Sets (", dump)
        self.assertIn(b"clientPort=2181\n", Client(self.reactor).ask(b"conf"))
        self.assertIn(b"sid=0x", Client(self.reactor).ask(b"cons"))
        self.assertIn(b"zk_ephemerals_count\t1\n", Client(self.reactor).ask(b"mntr"))
        self.stop(service)

    def test_every_address(self) -> None:
        """Without an address it listens on all of both families."""
        service = self.started("memory", client_port_address=None)
        self.assertEqual(self.reactor.tcpServers[0][3], "::")
        self.stop(service)

    def test_no_ipv6(self) -> None:
        """Where there is no IPv6 it listens on all of IPv4."""
        listen = self.reactor.listenTCP

        def listen_ipv4(port: int, factory: Any, backlog: int = 50, interface: str = "") -> object:
            if interface == "::":
                raise CannotListenError(interface, port, OSError(97, "Address family not supported by protocol"))
            return listen(port, factory, backlog, interface)

        self.patch(self.reactor, "listenTCP", listen_ipv4)
        service = self.started("memory", client_port_address=None)
        self.assertEqual([server[3] for server in self.reactor.tcpServers], [""])
        self.stop(service)

    def test_no_port(self) -> None:
        """Without a port none is opened."""
        service = self.started("memory", client_port=None, client_port_address=None)
        self.assertEqual((service.addresses, self.reactor.tcpServers), ([], []))
        self.stop(service)

    def test_taken(self) -> None:
        """A port that cannot be had is the end of the start, and the ports before it are closed again."""
        closed: list[bool] = []

        class Port:
            def stopListening(self) -> None:
                closed.append(True)

        class Endpoint:
            def __init__(self, outcome: Callable[[], Any]) -> None:
                self.outcome = outcome

            def listen(self, factory: object) -> Deferred[Any]:
                return maybeDeferred(self.outcome)

        error = CannotListenError("", 2181, OSError(98, "Address already in use"))
        service = self.service("memory", endpoints=[Endpoint(Port), Endpoint(lambda: fail(error))])
        service.startService()
        self.failureResultOf(service.when_serving(), CannotListenError)
        self.failureResultOf(service.when_serving(), CannotListenError)
        self.assertNoResult(service.when_failed())
        self.assertEqual(service.status(), {"mode": "failed"})
        self.assertEqual(closed, [True])
        self.stop(service)


class FailureTests(ServiceTestCase):
    def test_log(self) -> None:
        """A log that cannot be written: nothing is acknowledged, the port is closed, and who waits is told."""
        service = self.started()
        failing = service.when_failed()
        client = self.client()
        self.assertEqual(client.create(b"/a"), 0)
        self.disk.fail_flush()
        self.assertIsNone(client.create(b"/b"))
        self.assertTrue(client.closed)
        self.failureResultOf(failing, StoreError)
        self.failureResultOf(service.when_failed(), StoreError)
        self.failureResultOf(service.when_serving(), StoreError)
        self.assertEqual(service.status(), {"mode": "failed"})
        self.assertEqual(service.addresses, [])
        self.stop(service)
        self.disk.crash(self.entropy)
        self.start(service)
        self.assertTrue(self.client().exists(b"/a"))
        self.stop(service)

    def test_mistake(self) -> None:
        """A transaction that cannot be applied, which is a mistake of ours, stops the server too."""
        service = self.started()
        failing = service.when_failed()
        client = self.client()
        run = service._run
        assert run is not None
        self.patch(run.core, "apply_fused", lambda *_: 1 // 0)
        self.assertIsNone(client.create(b"/a"))
        self.assertTrue(client.closed)
        self.failureResultOf(failing, ZeroDivisionError)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)
        self.stop(service)
        self.start(service)
        self.assertTrue(self.client().exists(b"/a"))
        self.stop(service)

    def test_directory(self) -> None:
        """A directory that cannot be written is found before anything else happens."""
        self.disk.read_only = True
        service = self.service()
        service.startService()
        self.failureResultOf(service.when_serving(), StoreError)
        self.assertEqual(self.reactor.tcpServers, [])
        self.stop(service)

    def test_first_snapshot(self) -> None:
        """A database whose first snapshot cannot be written does not begin."""
        self.disk.fail_stream()
        service = self.service()
        service.startService()
        self.turn()
        self.failureResultOf(service.when_serving(), SnapshotError)
        self.stop(service)

    def test_later_snapshot(self) -> None:
        """A snapshot that fails while the server serves ends it."""
        service = self.started(snap_count=10)
        failing = service.when_failed()
        client = self.client()
        self.disk.fail_stream()
        for number in range(20):
            client.create(b"/%d" % number)
            self.turn(0.01)
        self.failureResultOf(failing, SnapshotError)
        self.stop(service)

    def test_damage(self) -> None:
        """Data that contradict themselves are not served."""
        self.disk.files["log.1"] = b"ZKLG" + bytes(12)
        service = self.service()
        service.startService()
        self.failureResultOf(service.when_serving(), StoreError)
        self.stop(service)


class HousekeepingTests(ServiceTestCase):
    def test_snapshots(self) -> None:
        """After so many transactions there is a snapshot, and purging leaves three of them and their logs."""
        service = self.started(snap_count=10, autopurge_purge_interval_ms=3_600_000)
        client = self.client()
        for number in range(200):
            self.assertEqual(client.create(b"/%d" % number), 0)
            self.turn(0.01)
        snapshots = [name for name in self.disk.files if name.startswith("snapshot.")]
        self.assertGreater(len(snapshots), 10)
        self.turn(3600)
        self.turn(0.01)
        newest = [name for name in self.disk.files if name.startswith("snapshot.")]
        self.assertEqual(len(newest), 3)
        self.assertLess(len([name for name in self.disk.files if name.startswith("log.")]), 6)
        self.stop(service)
        self.start(service)
        again = self.client()
        self.assertTrue(all(again.exists(b"/%d" % number) for number in range(200)))
        self.stop(service)

    def test_start_snapshot(self) -> None:
        """A start writes down what it replayed, and not what a snapshot says already."""
        service = self.started()
        self.assertEqual(self.client().create(b"/a"), 0)
        self.stop(service)
        self.start(service)
        self.turn(1)
        self.assertIn("snapshot.2", self.disk.files)
        self.stop(service)
        before = dict(self.disk.files)
        self.start(service)
        self.turn(1)
        self.assertEqual(self.disk.files, before)
        self.stop(service)

    def test_expiry(self) -> None:
        """A session that is silent for its timeout and a tick is over, with its nodes; who pings lives on."""
        service = self.started()
        silent, alive = self.client(), self.client()
        self.assertEqual(silent.create(b"/silent", flags=1), 0)
        self.assertEqual(alive.create(b"/alive", flags=1), 0)
        for _ in range(70):
            self.turn(0.1)
            alive.ask(pack(">iii", 8, -2, ops.PING))
        self.assertTrue(silent.closed)
        self.assertFalse(alive.exists(b"/silent"))
        self.assertTrue(alive.exists(b"/alive"))
        self.stop(service)

    def test_stall(self) -> None:
        """A process that stood still hears what clients sent meanwhile before it ends their sessions."""
        service = self.started()
        client = self.client()
        # All at once: the reactor's timers come before its sockets.
        self.reactor.advance(60)
        client.ask(pack(">iii", 8, -2, ops.PING))
        self.turn(0.01)
        self.assertFalse(client.closed)
        self.assertEqual(client.create(b"/a"), 0)
        self.stop(service)

    def test_silent_connection(self) -> None:
        """A connection that asks for nothing is closed."""
        service = self.started()
        client = Client(self.reactor)
        for _ in range(170):
            self.turn(0.1)
        self.assertTrue(client.closed)
        self.stop(service)

    def test_containers(self) -> None:
        """A container whose last child is gone goes at the next look; one that never had any stays."""
        service = self.started()
        client = self.client()
        for path in (b"/used", b"/fresh"):
            self.assertEqual(client.create(path, flags=4), 0)
        self.assertEqual(client.create(b"/used/child"), 0)
        self.assertEqual(client.request(ops.DELETE, proto.DeleteRequest(b"/used/child", -1)), 0)
        for _ in range(61):
            self.assertTrue(client.exists(b"/fresh"))
            self.turn(1.0)
        self.assertFalse(client.exists(b"/used"))
        self.assertTrue(client.exists(b"/fresh"))
        self.stop(service)

    def test_dead_ephemerals(self) -> None:
        """Ephemeral nodes whose session is gone are gone after a start, and the snapshot says so before it serves."""
        service = self.started()
        client = self.client()
        self.assertEqual(client.create(b"/e", flags=1), 0)
        run = service._run
        assert run is not None
        # As in a snapshot that was written while the session ended, the log behind it being lost.
        run.core.timeouts.clear()
        zxid, chunks, trailer = run.core.snapshot_image()
        image = b"".join(snapshot.encode(chunks, trailer))
        self.stop(service)
        self.disk.files = {snapshot.snapshot_name(zxid): image}
        self.assertIn(b"/e", image)
        self.start(service)
        self.assertNotIn(b"/e", self.disk.files[snapshot.snapshot_name(zxid)])
        self.assertFalse(self.client().exists(b"/e"))
        self.stop(service)
