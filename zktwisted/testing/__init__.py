"""
What tests need: of programs that use ZooKeeper, of those that embed us, and of ours.

L{TestServer} and L{TestEnsemble} are real servers on real ports, for tests of any kind.  What begins with C{Memory} or
C{Simulated} stands in for the outside world, on a clock that is not real.

This package knows where each of these lives, and imports none before it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zktwisted.kit.cases import TrialZooKeeperMixin, ZooKeeperMixin
    from zktwisted.kit.leaks import Holdings, LeakError
    from zktwisted.kit.requests import RecordedRequest, Recording
    from zktwisted.kit.servers import Servers
    from zktwisted.kit.threaded import TestEnsemble, TestServer
    from zktwisted.testing.checkers import Violation
    from zktwisted.testing.client import MemoryClient, MemoryEndpoint, Reply
    from zktwisted.testing.disk import MemoryDisk
    from zktwisted.testing.ensemble import MemoryEnsemble
    from zktwisted.testing.network import MemoryNetwork
    from zktwisted.testing.server import MemoryServer
    from zktwisted.testing.simulated import SimulatedClient

__all__ = [
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
]

_HOMES = {
    "Holdings": "zktwisted.kit.leaks",
    "LeakError": "zktwisted.kit.leaks",
    "MemoryClient": "zktwisted.testing.client",
    "MemoryDisk": "zktwisted.testing.disk",
    "MemoryEndpoint": "zktwisted.testing.client",
    "MemoryEnsemble": "zktwisted.testing.ensemble",
    "MemoryNetwork": "zktwisted.testing.network",
    "MemoryServer": "zktwisted.testing.server",
    "RecordedRequest": "zktwisted.kit.requests",
    "Recording": "zktwisted.kit.requests",
    "Reply": "zktwisted.testing.client",
    "Servers": "zktwisted.kit.servers",
    "SimulatedClient": "zktwisted.testing.simulated",
    "TestEnsemble": "zktwisted.kit.threaded",
    "TestServer": "zktwisted.kit.threaded",
    "TrialZooKeeperMixin": "zktwisted.kit.cases",
    "Violation": "zktwisted.testing.checkers",
    "ZooKeeperMixin": "zktwisted.kit.cases",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used, and keep it (PEP 562)."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Name everything public, imported yet or not."""
    return sorted(set(globals()) | set(__all__))
