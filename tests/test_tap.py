"""What twist zookeeper takes, says and ends with."""

from __future__ import annotations

import atexit
import errno
import gc
import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from types import ModuleType
from typing import Any
from unittest import mock

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import CannotListenError, ReactorNotRunning
from twisted.python.failure import Failure
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from zktwisted import tap
from zktwisted.config import Ensemble, Note, ServerConfig
from zktwisted.errors import ConfigError, DataDirectoryError, ServerIdError, StoreError
from zktwisted.server.local_ensemble import LocalEnsemble, local_configs
from zktwisted.server.run import SecureEndpoint
from zktwisted.server.snapshots import SnapshotError
from zktwisted.tap import DEFAULT_DATA_DIR, EnsembleProcess, Options, ServerProcess

VOTERS = "initLimit=10\nsyncLimit=5\nserver.1=a:2888:3888\nserver.2=b:2888:3888\nserver.3=c:2888:3888\n"
FLAGS = ("SERVER_JVMFLAGS", "JVMFLAGS", "ZOO_DATADIR_AUTOCREATE_DISABLE")


def parsed(*arguments: str) -> Options:
    options = Options()
    options.parseOptions(arguments)
    return options


class FakeReactor:
    """Keeps what is to be called; runs when told to."""

    def __init__(self) -> None:
        self.hooks: list[Callable[[], None]] = []
        self.running = False
        self.stops = 0

    def callWhenRunning(self, hook: Callable[[], None]) -> None:
        if self.running:
            hook()
        else:
            self.hooks.append(hook)

    def callFromThread(self, call: Callable[[], None]) -> None:
        call()

    def run(self) -> None:
        self.running = True
        for hook in self.hooks:
            hook()

    def stop(self) -> None:
        self.stops += 1
        if self.stops > 1:
            raise ReactorNotRunning


class FakeServer:
    """A server that starts when told to."""

    def __init__(self, reactor: object, config: ServerConfig, client_endpoints: list[object] | None = None) -> None:
        self.config = config
        self.client_endpoints = client_endpoints
        self.serving: Deferred[str] = Deferred()
        self.failing: Deferred[None] = Deferred()
        self.addresses: list[object] = [IPv4Address("TCP", "127.0.0.1", 2181)]
        self.calls: list[str] = []

    def startService(self) -> None:
        self.calls.append("start")

    def stopService(self) -> Deferred[None]:
        self.calls.append("stop")
        return succeed(None)

    def when_serving(self) -> Deferred[str]:
        return self.serving

    def when_failed(self) -> Deferred[None]:
        return self.failing


class Leaving(Exception):
    """A reason that says itself how the process has to end."""

    def __init__(self, reason: str, status: int) -> None:
        super().__init__(reason)
        self.status = status


class TapTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        for name in FLAGS:
            environment = mock.patch.dict(os.environ)
            environment.start()
            self.addCleanup(environment.stop)
            os.environ.pop(name, None)
        self.stdout, self.stderr = io.StringIO(), io.StringIO()
        for name, stream in (("stdout", self.stdout), ("stderr", self.stderr)):
            self.patch(sys, name, stream)
            self.patch(sys, f"__{name}__", stream)

    def exit_status(self, call: Callable[..., object], *arguments: object) -> object:
        return self.assertRaises(SystemExit, call, *arguments).code

    def zoo_cfg(self, text: str) -> str:
        directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, directory)
        path = os.path.join(directory, "zoo.cfg")
        with open(path, "w") as file:
            file.write(text)
        return path


class OptionsTests(TapTestCase):
    def test_nothing(self) -> None:
        """Without options the server is for this machine, at the usual port, with data in the working directory."""
        config = parsed().server_config()
        self.assertEqual((config.client_port_address, config.client_port), ("127.0.0.1", 2181))
        self.assertEqual((config.data_dir, config.tick_time), (os.path.abspath(DEFAULT_DATA_DIR), 2000))
        self.assertEqual(config.notes, ())

    def test_config(self) -> None:
        """A zoo.cfg is taken as it is, as an option or alone; --data-dir moves the data."""
        path = self.zoo_cfg("dataDir=/a\nclientPort=5\n")
        config = parsed("--config", path).server_config()
        self.assertEqual((config.data_dir, config.client_port, config.tick_time), ("/a", 5, 3000))
        self.assertIsNone(config.client_port_address)
        self.assertEqual(parsed(path).server_config(), config)
        self.assertEqual(parsed("-c", path, "-d", "/b").server_config().data_dir, "/b")
        self.assertRaises(UsageError, parsed, "-c", path, path)

    def test_positional(self) -> None:
        """A port, a directory and up to two numbers are what the Java server takes."""
        config = parsed("2182", "/d").server_config()
        self.assertEqual((config.client_port, config.data_dir, config.tick_time), (2182, "/d", 3000))
        self.assertIsNone(config.client_port_address)
        config = parsed("2182", "/d", "500", "7").server_config()
        self.assertEqual((config.tick_time, config.max_client_cnxns), (500, 7))
        self.assertRaises(UsageError, parsed, "2182", "/d", "500", "7", "8")
        self.assertRaises(UsageError, parsed, "zoo.cfg", "--check-config")

    def test_properties(self) -> None:
        """-D wins over the environment, and the file over both."""
        os.environ["SERVER_JVMFLAGS"] = "-Dzookeeper.snapCount=5 -Dzookeeper.maxCnxns=5"
        config = parsed("-Dzookeeper.snapCount=6", "--property", "forceSync = no").server_config()
        self.assertEqual((config.snap_count, config.max_cnxns, config.force_sync), (6, 5, False))
        path = self.zoo_cfg("dataDir=/a\nsnapCount=7")
        self.assertEqual(parsed("-D", "snapCount=6", "-c", path).server_config().snap_count, 7)
        self.assertTrue(parsed("-Dreadonlymode.enabled").server_config().readonlymode_enabled)
        self.assertRaises(UsageError, parsed, "-D", "=x")

    def test_endpoints(self) -> None:
        """Endpoints stand in for the client port."""
        options = parsed("-e", "tcp:0", "--client-endpoint", "unix:/s")
        self.assertEqual(options["client-endpoints"], ["tcp:0", "unix:/s"])
        self.assertIsNone(options.server_config().client_port)
        path = self.zoo_cfg("dataDir=/a\nsecureClientPort=2281\nssl.keyStore.location=/k.pem")
        self.assertFalse(parsed("-c", path, "-e", "tls:tcp:0").server_config().client_tls)

    def test_profile(self) -> None:
        """A profile that the command line names counts, whatever the file says."""
        self.assertEqual(parsed("--profile", "secure").server_config().profile, "secure")
        path = self.zoo_cfg("dataDir=/a\nclientPort=2181\nprofile=")
        error = self.assertRaises(ConfigError, parsed("-c", path, "--profile", "secure").server_config)
        self.assertEqual((error.key, error.line), ("clientPort", 2))
        self.assertEqual(self.exit_status(parsed, "-c", path, "--profile", "secure", "--check-config"), 2)
        self.assertIn("--profile: profile=secure", self.stdout.getvalue())

    def test_myid(self) -> None:
        """The id is a number."""
        self.assertEqual(parsed("--myid", "3").server_config().myid, 3)
        self.assertRaises(UsageError, parsed, "--myid", "x")

    def test_member(self) -> None:
        """Server lines and an id make a member of an ensemble."""
        path = self.zoo_cfg(f"dataDir=/a\nclientPort=5\n{VOTERS}")
        config = parsed("--myid", "2", "--config", path).server_config()
        self.assertEqual((config.distributed, config.sid), (True, 2))

    def test_ensemble(self) -> None:
        """A whole ensemble is made from two numbers; what it needs besides may be set."""
        options = parsed("--ensemble", "3", "--observers", "1", "-d", "/d", "-D", "snapCount=7")
        configs = options.ensemble_configs()
        self.assertEqual([config.sid for config in configs], [1, 2, 3, 4])
        self.assertEqual(configs[3].data_dir, "/d/4")
        self.assertTrue(configs[3].observer)
        self.assertEqual(configs[0].snap_count, 7)
        directory = os.path.join(os.getcwd(), "zookeeper-ensemble", "1")
        self.assertEqual(parsed("--ensemble", "1").ensemble_configs()[0].data_dir, directory)

    def test_ensemble_and_nonsense(self) -> None:
        """What cannot go together, and numbers that are none, are refused."""
        path = self.zoo_cfg("dataDir=/a")
        for arguments in (
            ("--ensemble", "x"),
            ("--ensemble", "0"),
            ("--ensemble", "101"),
            ("--ensemble", "3", "--observers", "-1"),
            ("--observers", "1"),
            ("--ensemble", "3", "--myid", "1"),
            ("--ensemble", "3", "--config", path),
            ("--ensemble", "3", path),
            ("--ensemble", "3", "2181", "/d"),
            ("--ensemble", "3", "-e", "tcp:0"),
            ("--ensemble", "3", "--profile", "secure"),
            ("--ensemble", "3", "--check-config"),
        ):
            self.assertRaises(UsageError, parsed, *arguments)

    def test_check_config(self) -> None:
        """--check-config prints the report and exits with its status."""
        path = self.zoo_cfg("dataDir=/srv/zk\nclientPort=5\n")
        self.assertEqual(self.exit_status(parsed, "-c", path, "--check-config"), 0)
        self.assertIn(f"{path}:2: clientPort=5", self.stdout.getvalue())
        self.assertEqual(self.exit_status(parsed, "-c", path, "-Dfoo=1", "--check-config"), 1)
        self.assertEqual(self.exit_status(parsed, "-c", path, "-Dssl.x=1", "--check-config"), 2)
        self.assertEqual(self.exit_status(parsed, "-c", "/nowhere", "--check-config"), 2)
        self.assertIn("/nowhere: cannot be read", self.stderr.getvalue())

    def test_version(self) -> None:
        """--version tells ours and Twisted's."""
        self.assertEqual(self.exit_status(parsed, "--version"), 0)
        self.assertRegex(self.stdout.getvalue(), r"^zktwisted \S+ \(Twisted \S+\)\n$")

    def test_help(self) -> None:
        """The help names every option with a text."""
        text = str(parsed())
        for name in (
            "config",
            "myid",
            "data-dir",
            "ensemble",
            "observers",
            "profile",
            "client-endpoint",
            "check-config",
            "property",
        ):
            self.assertRegex(text, rf"--{name}=?\s+[A-Z]")


class MakeServiceTests(TapTestCase):
    def setUp(self) -> None:
        super().setUp()
        module = ModuleType("zktwisted.server.service")
        module.ZooKeeperService = FakeServer  # type: ignore[attr-defined]
        modules = mock.patch.dict(sys.modules, {"zktwisted.server.service": module})
        modules.start()
        self.addCleanup(modules.stop)

    def test_service(self) -> None:
        """The server gets the configuration and real endpoints."""
        server: Any = tap.makeService(parsed("-d", "/d", "-e", "tcp:0:interface=127.0.0.1")).server
        self.assertEqual(server.config.data_dir, "/d")
        self.assertEqual(len(server.client_endpoints), 1)
        server = tap.makeService(parsed("-d", "/d", "-e", "tls:tcp:0:interface=127.0.0.1", "-e", "unix:/s")).server
        self.assertEqual([isinstance(each, SecureEndpoint) for each in server.client_endpoints], [True, False])
        server = tap.makeService(parsed()).server
        self.assertIsNone(server.client_endpoints)
        self.assertEqual(server.calls, [])

    def test_errors(self) -> None:
        """A configuration that cannot work is one line on standard error and exit status 2."""
        for arguments, line in (
            (("-D", "tickTime=0"), "-D: tickTime: tickTime is not set (write milliseconds, such as 2000)\n"),
            (("-e", "nonsense:5"), "--client-endpoint: nonsense:5 is no endpoint: Unknown endpoint type: 'nonsense'"),
            (("-e", "tcp"), "--client-endpoint: tcp is no endpoint: "),
            (("-e", "systemd:domain=INET:index=9"), "index=9 is no endpoint: there is no such socket (write "),
            (("-e", "tls:x:5"), "--client-endpoint: tls:x:5 is no endpoint: Unknown endpoint type: 'x'"),
            (("-c", "/nowhere"), "/nowhere: cannot be read: No such file or directory"),
        ):
            self.stderr.truncate(0)
            self.stderr.seek(0)
            self.assertEqual(self.exit_status(tap.makeService, parsed(*arguments)), 2)
            self.assertIn(line, self.stderr.getvalue())
            self.assertEqual(self.stderr.getvalue().count("\n"), 1)

    def test_unknown_id(self) -> None:
        """An id that the server lines do not name ends the process with 1, as with Java."""
        path = self.zoo_cfg(f"dataDir=/nowhere\n{VOTERS}")
        self.assertEqual(self.exit_status(tap.makeService, parsed("-c", path, "--myid", "7")), 1)
        self.assertIn("My id 7 not in the peer list", self.stderr.getvalue())

    def test_ensemble(self) -> None:
        """An ensemble is made of whole servers."""
        process = tap.makeService(parsed("--ensemble", "3", "-d", "/d"))
        assert isinstance(process, EnsembleProcess) and isinstance(process.server, LocalEnsemble)
        self.assertEqual([server.config.sid for server in process.server.servers], [1, 2, 3])
        self.assertEqual(self.exit_status(tap.makeService, parsed("--ensemble", "3", "-D", "tickTime=0")), 2)
        self.assertIn("tickTime is not set", self.stderr.getvalue())


class ServerProcessTests(TapTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.reactor = FakeReactor()
        self.frozen: list[bool] = []
        self.exits: list[int] = []
        self.at_exit: list[Callable[[], None]] = []
        self.signals: dict[int, Any] = {}
        self.thresholds: list[tuple[int, ...]] = []
        self.patch(gc, "freeze", lambda: self.frozen.append(True))
        self.patch(gc, "set_threshold", lambda *values: self.thresholds.append(values))
        self.patch(os, "_exit", self.exits.append)
        self.patch(atexit, "register", self.at_exit.append)
        self.patch(signal, "signal", self.signals.__setitem__)

    def started(self, **settings: Any) -> tuple[ServerProcess, Any]:
        config = ServerConfig(data_dir="/d", **settings)
        server: Any = FakeServer(self.reactor, config)
        reactor: Any = self.reactor
        process = ServerProcess(reactor, config, server)
        process.startService()
        return process, server

    def test_serving(self) -> None:
        """One friendly line tells address, data directory and version, and what is loaded is frozen."""
        process, server = self.started()
        self.reactor.run()
        self.assertEqual(self.stdout.getvalue(), "")
        self.assertEqual(len(self.thresholds), 1)
        server.addresses += [IPv6Address("TCP", "::1", 5), UNIXAddress("/s")]
        server.serving.callback("standalone")
        self.assertRegex(
            self.stdout.getvalue(),
            r"^ZooKeeper serves on 127.0.0.1:2181 and \[::1\]:5 and /s, data in /d \(zktwisted \S+\)\n$",
        )
        self.assertEqual(self.frozen, [True])
        self.successResultOf(process.stopService())
        self.assertEqual(server.calls, ["start", "stop"])

    def test_member(self) -> None:
        """A member of an ensemble tells its id and its role, too."""
        ensemble = Ensemble.parse("server.1=a:1:2\nserver.2=b:1:2")
        _, server = self.started(init_limit=10, sync_limit=5, myid=2, ensemble=ensemble)
        self.reactor.run()
        server.serving.callback("follower")
        line = "ZooKeeper serves on 127.0.0.1:2181 as follower (server 2), data in /d (zktwisted"
        self.assertIn(line, self.stdout.getvalue())

    def test_ensemble(self) -> None:
        """An ensemble has a line for each server, and one with all addresses, when all serve."""
        make: Any = FakeServer
        reactor: Any = self.reactor
        configs = local_configs(2, 0, "/d", ports=lambda wanted: wanted)
        ensemble = LocalEnsemble(reactor, [], make)
        servers: list[Any] = [FakeServer(reactor, config) for config in configs]
        servers[1].addresses = [IPv4Address("TCP", "127.0.0.1", 2182)]
        ensemble.servers.extend(servers)
        process = EnsembleProcess(reactor, ensemble)
        process.startService()
        self.reactor.run()
        servers[0].serving.callback("leader")
        self.assertEqual(self.stdout.getvalue(), "")
        servers[1].serving.callback("follower")
        first, second, last = self.stdout.getvalue().splitlines()
        self.assertEqual(first, "Server 1 serves on 127.0.0.1:2181 as leader, data in /d/1")
        self.assertEqual(second, "Server 2 serves on 127.0.0.1:2182 as follower, data in /d/2")
        self.assertRegex(last, r"^ZooKeeper serves on 127\.0\.0\.1:2181,127\.0\.0\.1:2182 \(zktwisted \S+\)$")
        servers[1].failing.errback(Failure(DataDirectoryError("/d/2: gone")))
        self.assertEqual(self.stderr.getvalue(), "/d/2: gone\n")
        self.at_exit[0]()
        self.assertEqual(self.exits, [3])

    def test_no_port(self) -> None:
        """A server without a port says so."""
        _, server = self.started()
        server.addresses = []
        server.serving.callback("standalone")
        self.assertEqual(self.stdout.getvalue(), "")  # nothing until signals are heard
        self.reactor.run()
        self.assertIn("serves on no client port,", self.stdout.getvalue())

    def test_signals(self) -> None:
        """Signals stop the reactor, and a second one does no harm: so the process ends by itself, with 0."""
        self.started()
        self.assertEqual(set(self.signals), {signal.SIGTERM, signal.SIGINT})
        self.signals.clear()
        self.reactor.run()
        for number in (signal.SIGTERM, signal.SIGINT):
            self.signals[number](number, None)
        self.assertEqual(self.reactor.stops, 2)
        self.assertEqual(self.at_exit, [])

    def test_failures(self) -> None:
        """A server that cannot start ends the process with one line and the exit status of the Java server."""
        in_use = OSError(errno.EADDRINUSE, "Address already in use")
        for error, status, line in (
            (
                CannotListenError("127.0.0.1", 2181, in_use),
                1,
                "Cannot listen on 127.0.0.1:2181: Address already in use",
            ),
            (CannotListenError("", 2181, in_use), 1, "Cannot listen on 2181: Address already in use"),
            (ConfigError("no", key="dataDir"), 2, "dataDir: no"),
            (ServerIdError("My id 7 not in the peer list"), 1, "My id 7 not in the peer list"),
            (Leaving("the election port is in use", 14), 14, "the election port is in use"),
            (DataDirectoryError("/d: log directory has snapshot files"), 3, "/d: log directory has snapshot files"),
            (PermissionError(errno.EACCES, "Permission denied", "/d"), 3, "/d: Permission denied"),
        ):
            self.setUp()
            _, server = self.started()
            server.serving.errback(Failure(error))
            self.assertEqual(self.stderr.getvalue(), f"{line}\n")
            self.assertEqual(self.reactor.stops, 0)
            self.reactor.run()
            self.assertEqual(self.reactor.stops, 1)
            self.at_exit[0]()
            self.assertEqual(self.exits, [status])

    def test_unexpected_failure(self) -> None:
        """What should not happen is logged with its traceback as well."""
        self.reactor.run()
        _, server = self.started()
        server.serving.errback(Failure(ZeroDivisionError("oops")))
        self.assertEqual(self.stderr.getvalue(), "The server fails: oops\n")
        self.at_exit[0]()
        self.assertEqual(self.exits, [1])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_failure_later(self) -> None:
        """A server that has to give up after it has served ends the process in the same way."""
        for error, status in ((StoreError, 1), (DataDirectoryError, 3), (SnapshotError, 10)):
            self.setUp()
            self.reactor.run()
            _, server = self.started()
            server.serving.callback("standalone")
            server.failing.errback(Failure(error("/d/version-2/log.1: No space left on device")))
            self.assertEqual(self.stderr.getvalue(), "/d/version-2/log.1: No space left on device\n")
            self.assertEqual(self.reactor.stops, 1)
            self.at_exit[0]()
            self.assertEqual(self.exits, [status])

    def test_stopped_while_starting(self) -> None:
        """A server that is stopped before it serves has not failed."""
        _, server = self.started()
        server.serving.errback(Failure(CancelledError()))
        self.assertEqual(self.stderr.getvalue(), "")
        self.assertEqual(self.at_exit, [])

    def test_notes(self) -> None:
        """Remarks on the configuration go to the log."""
        from twisted.logger import globalLogPublisher

        events: list[Any] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        self.started(notes=(Note("warning", "w", "a", "f", 1), Note("note", "n")))
        logged = [(event["log_level"].name, event["note"]) for event in events]
        self.assertEqual(logged, [("warn", "f:1: a: w"), ("info", "n")])

    def test_closed_output(self) -> None:
        """A process without standard output serves all the same."""
        self.patch(sys, "__stdout__", None)
        _, server = self.started()
        self.reactor.run()
        server.serving.callback("standalone")
        self.assertEqual(self.frozen, [True])


class ImportTests(SynchronousTestCase):
    def test_plugin_is_light(self) -> None:
        """Looking for plugins, and asking for our help, imports neither the server nor a reactor."""
        program = (
            "import sys; from twisted.plugins import zktwisted_plugin; assert 'zktwisted' not in sys.modules;"
            "zktwisted_plugin.ZooKeeper.options().parseOptions(['-d', '/d']);"
            "print([m for m in sys.modules if m.startswith(('zktwisted.server', 'zktwisted.config', 'zktwisted.tree'))"
            " or m == 'twisted.internet.reactor'])"
        )
        root = os.path.dirname(os.path.dirname(os.path.abspath(tap.__file__)))
        environment = {**os.environ, "PYTHONPATH": root}
        out = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=True
        )
        self.assertEqual(out.stdout, "[]\n")
