"""
Stand-ins for the outside world, for tests of ours and of the programs that embed us.

Knows the contracts that the real things keep.  Refuses to know the real reactor.
"""

from __future__ import annotations

from zktwisted.testing.client import MemoryClient, MemoryEndpoint, Reply
from zktwisted.testing.disk import MemoryDisk

__all__ = ["MemoryClient", "MemoryDisk", "MemoryEndpoint", "Reply"]
