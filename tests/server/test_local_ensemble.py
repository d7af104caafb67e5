"""An ensemble for trying out: how it is laid out, started and stopped."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from zktwisted.config import Address, ServerConfig
from zktwisted.config.loader import Setting
from zktwisted.errors import ConfigError
from zktwisted.server.local_ensemble import LocalEnsemble, local_configs


def as_wanted(ports: Sequence[int]) -> Sequence[int]:
    return ports


class ConfigTests(SynchronousTestCase):
    def test_three(self) -> None:
        """Three voters have ports side by side on the loopback address, and a directory each."""
        configs = local_configs(3, 0, "/d", ports=as_wanted)
        self.assertEqual([config.sid for config in configs], [1, 2, 3])
        self.assertEqual([config.data_dir for config in configs], ["/d/1", "/d/2", "/d/3"])
        self.assertEqual([config.client_port for config in configs], [2181, 2182, 2183])
        self.assertEqual({config.client_port_address for config in configs}, {"127.0.0.1"})
        self.assertEqual(len({config.ensemble for config in configs}), 1)
        ensemble = configs[0].ensemble
        assert ensemble is not None
        self.assertEqual(ensemble.members[2].addresses, (Address("127.0.0.1", 2890),))
        self.assertEqual(ensemble.members[2].election_addresses, (Address("127.0.0.1", 3890),))
        self.assertEqual([config.notes for config in configs], [()] * 3)
        self.assertTrue(configs[0].allows_four_letter_word("mntr"))

    def test_observers(self) -> None:
        """The last servers have no vote; a single voter is an ensemble all the same."""
        configs = local_configs(1, 2, "/d", ports=as_wanted)
        self.assertEqual([config.observer for config in configs], [False, True, True])
        self.assertTrue(all(config.distributed for config in configs))

    def test_ports(self) -> None:
        """Whatever ports are free are taken, none of them twice."""
        asked: list[Sequence[int]] = []

        def free(wanted: Sequence[int]) -> Sequence[int]:
            asked.append(wanted)
            return range(5000, 5000 + len(wanted))

        configs = local_configs(2, 0, "/d", ports=free)
        self.assertEqual([list(wanted) for wanted in asked], [[2181, 2182, 2888, 2889, 3888, 3889]])
        ensemble = configs[1].ensemble
        assert ensemble is not None
        found = [(*member.addresses, *member.election_addresses) for member in ensemble.members]
        self.assertEqual([[port for _, port in each] for each in found], [[5002, 5004], [5003, 5005]])
        self.assertEqual([config.client_port for config in configs], [5000, 5001])

    def test_settings(self) -> None:
        """What is set holds for each of them, but not where each has its own."""
        given = [Setting("snapCount", "7", "-D", None, True), Setting("clientPort", "9", "-D", None, True)]
        configs = local_configs(3, 0, "/d", [*given, Setting("tickTime", "500", "-D", None, True)], ports=as_wanted)
        self.assertEqual([config.snap_count for config in configs], [7, 7, 7])
        self.assertEqual([config.client_port for config in configs], [2181, 2182, 2183])
        self.assertEqual(configs[0].tick_time, 500)
        error = self.assertRaises(ConfigError, local_configs, 3, 0, "/d", [Setting("tickTime", "x")], as_wanted)
        self.assertEqual(error.key, "tickTime")

    def test_another_size(self) -> None:
        """A directory belongs to an ensemble of so many servers."""
        directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, directory)
        for name in ("1", "2", "3", "notes"):
            os.mkdir(os.path.join(directory, name))
        self.assertEqual(len(local_configs(2, 1, directory, ports=as_wanted)), 3)
        for voters in (1, 2, 5):
            error = self.assertRaises(ConfigError, local_configs, voters, 0, directory, ports=as_wanted)
            self.assertEqual(error.message, f"it holds the data of 3 servers, not {voters}")
            self.assertEqual(error.file, directory)


class FakeServer(Service):
    """Serves and fails when told to."""

    def __init__(self, reactor: object, config: ServerConfig) -> None:
        self.config = config
        self.serving: Deferred[str] = Deferred()
        self.failing: Deferred[None] = Deferred()
        self.stopped: Deferred[None] = Deferred()
        self.addresses = [IPv4Address("TCP", "127.0.0.1", config.client_port or 0)]

    def when_serving(self) -> Deferred[str]:
        return self.serving

    def when_failed(self) -> Deferred[None]:
        return self.failing

    def stopService(self) -> Deferred[None]:
        super().stopService()  # type: ignore[no-untyped-call]
        return self.stopped


class EnsembleTests(SynchronousTestCase):
    def ensemble(self) -> tuple[LocalEnsemble, list[Any]]:
        make: Any = FakeServer
        ensemble = LocalEnsemble(None, local_configs(3, 0, "/d", ports=as_wanted), make)
        return ensemble, list(ensemble.servers)

    def test_life(self) -> None:
        """It serves when all do, and has stopped when all have."""
        ensemble, servers = self.ensemble()
        self.assertFalse(any(server.running for server in servers))
        ensemble.startService()
        self.assertTrue(all(server.running for server in servers))
        serving = ensemble.when_serving()
        servers[2].serving.callback("leader")
        servers[0].serving.callback("follower")
        self.assertNoResult(serving)
        servers[1].serving.callback("follower")
        self.assertEqual(self.successResultOf(serving), ["follower", "follower", "leader"])
        self.assertEqual([getattr(address, "port", 0) for address in ensemble.addresses], [2181, 2182, 2183])
        stopping = ensemble.stopService()
        for server in servers:
            self.assertNoResult(stopping)
            server.stopped.callback(None)
        self.successResultOf(stopping)

    def test_failure(self) -> None:
        """The first server that fails gives the reason, and that of the others is not lost in the log."""
        ensemble, servers = self.ensemble()
        serving, failed = ensemble.when_serving(), ensemble.when_failed()
        servers[1].serving.errback(ConfigError("no"))
        self.failureResultOf(serving, ConfigError)
        servers[0].serving.errback(CancelledError())
        servers[2].failing.errback(OSError("disk"))
        self.failureResultOf(failed, OSError)
        self.assertEqual(self.flushLoggedErrors(), [])
