"""
What programs build of nodes and watches: locks, elections, barriers, queues, counters, parties and caches.

Each works through the loss of connections, and says what it does when its session is over.  Nodes of locks are named as
kazoo names them, so both may be used on one path.
"""

from __future__ import annotations

from zktwisted.client.recipes.barrier import Barrier, DoubleBarrier
from zktwisted.client.recipes.cache import CachedNode, CacheEvent, Change, TreeCache
from zktwisted.client.recipes.counter import Counter
from zktwisted.client.recipes.election import LeaderElection
from zktwisted.client.recipes.lock import Lock, ReadLock, Semaphore, WriteLock
from zktwisted.client.recipes.party import Party
from zktwisted.client.recipes.queue import Queue, QueueItem

__all__ = [
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
]
