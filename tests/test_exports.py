"""What the package promises to programs that embed it, name by name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import zktwisted
from zktwisted import client, errors, testing
from zktwisted.client import recipes

ROOT = Path(__file__).parent.parent


def printed_by(program: str) -> str:
    """Run a program in an interpreter of its own and return what it printed."""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


class ExportsTests(SynchronousTestCase):
    """A name is public when it stands here; adding one is a decision, taking one away a breach."""

    def test_package(self) -> None:
        """The package itself: the service, its configuration, the servers it names, the client, the version."""
        names = ["Ensemble", "ServerConfig", "ZooKeeperClient", "ZooKeeperService", "__version__"]
        self.assertEqual(names, zktwisted.__all__)

    def test_client(self) -> None:
        """The client, and what it takes and gives."""
        names = (
            "ACL",
            "CREATOR_ALL_ACL",
            "OPEN_ACL",
            "READ_ACL",
            "BacklogError",
            "Children",
            "Created",
            "EventType",
            "Id",
            "Perm",
            "PersistentWatch",
            "Reads",
            "Stat",
            "State",
            "Transaction",
            "WatchedEvent",
            "WatcherType",
            "ZooKeeperClient",
            "digest_id",
        )
        self.assertEqual(list(names), client.__all__)

    def test_recipes(self) -> None:
        """The recipes."""
        names = (
            "Barrier",
            "CacheEvent",
            "CachedNode",
            "Change",
            "Counter",
            "DoubleBarrier",
            "LeaderElection",
            "Lock",
            "Party",
            "Queue",
            "QueueItem",
            "ReadLock",
            "Semaphore",
            "TreeCache",
            "WriteLock",
        )
        self.assertEqual(list(names), recipes.__all__)

    def test_errors(self) -> None:
        """The errors: one family of answers, and one class for each kind of fault."""
        names = (
            "AuthFailedError",
            "BadArgumentsError",
            "BadVersionError",
            "Code",
            "ConfigError",
            "ConnectionLossError",
            "DataDirectoryError",
            "DataInconsistencyError",
            "EphemeralOnLocalSessionError",
            "InvalidACLError",
            "KeeperError",
            "MarshallingError",
            "NewConfigNoQuorumError",
            "NoAuthError",
            "NoChildrenForEphemeralsError",
            "NoNodeError",
            "NoWatcherError",
            "NodeExistsError",
            "NotEmptyError",
            "NotReadOnlyError",
            "OperationTimeoutError",
            "ProtocolError",
            "QuotaExceededError",
            "ReconfigDisabledError",
            "ReconfigInProgressError",
            "RequestTimeoutError",
            "RuntimeInconsistencyError",
            "ServerIdError",
            "SessionClosedRequiresAuthError",
            "SessionExpiredError",
            "SessionMovedError",
            "StoreError",
            "SystemFaultError",
            "ThrottledOpError",
            "UnimplementedError",
            "UnknownSessionError",
            "keeper_error",
        )
        self.assertEqual(list(names), errors.__all__)

    def test_testing(self) -> None:
        """What other people's tests may use."""
        self.assertEqual(
            [
                "Holdings",
                "LeakError",
                "MemoryClient",
                "MemoryDisk",
                "MemoryEndpoint",
                "MemoryEnsemble",
                "MemoryNetwork",
            "MemoryServer",
                "RecordedRequest",
                "Recording",
                "Reply",
                "Servers",
                "SimulatedClient",
                "TestEnsemble",
                "TestServer",
                "TrialZooKeeperMixin",
                "Violation",
                "ZooKeeperMixin",
            ],
            testing.__all__,
        )

    def test_every_name_is_there(self) -> None:
        """Each public name can be had from the place that promises it."""
        for module in (zktwisted, client, recipes, errors, testing):
            for name in module.__all__:
                self.assertIsNotNone(getattr(module, name), f"{module.__name__}.{name}")

    def test_dir_names_what_is_not_imported_yet(self) -> None:
        """C{dir(zktwisted)} shows the public names before their first use."""
        self.assertLessEqual(set(zktwisted.__all__), set(dir(zktwisted)))

    def test_unknown_name(self) -> None:
        """A name that was never promised is an ordinary AttributeError."""
        with self.assertRaises(AttributeError) as caught:
            _ = zktwisted.ZooKeeper  # type: ignore[attr-defined]
        self.assertIn("ZooKeeper", str(caught.exception))

    def test_import_is_cheap(self) -> None:
        """C{import zktwisted} imports neither Twisted nor any room of ours."""
        program = (
            "import sys, zktwisted\n"
            "print([n for n in sys.modules if n.split('.')[0] == 'twisted' or n.startswith('zktwisted.')])"
        )
        self.assertEqual("['zktwisted._version']", printed_by(program))

    def test_import_leaves_the_reactor_alone(self) -> None:
        """No public name installs the global reactor: that choice stays with the program that embeds us."""
        program = (
            "import sys, zktwisted\n"
            "zktwisted.ZooKeeperService, zktwisted.ServerConfig, zktwisted.ZooKeeperClient\n"
            "import zktwisted.errors, zktwisted.testing\n"
            "print('twisted.internet.reactor' in sys.modules)"
        )
        self.assertEqual("False", printed_by(program))
