"""
Stand-ins for the outside world, for tests of ours and of the programs that embed us.

Knows the contracts that the real things keep.  Refuses to know the real reactor.
"""

from __future__ import annotations

from zktwisted.testing.checkers import Violation
from zktwisted.testing.client import MemoryClient, MemoryEndpoint, Reply
from zktwisted.testing.disk import MemoryDisk
from zktwisted.testing.ensemble import MemoryEnsemble
from zktwisted.testing.network import MemoryNetwork
from zktwisted.testing.server import MemoryServer
from zktwisted.testing.simulated import SimulatedClient

__all__ = [
    "MemoryClient",
    "MemoryDisk",
    "MemoryEndpoint",
    "MemoryEnsemble",
    "MemoryNetwork",
    "MemoryServer",
    "Reply",
    "SimulatedClient",
    "Violation",
]
