"""
A client of ZooKeeper for Twisted: Deferreds, no threads.

L{ZooKeeperClient} is what programs use.  Nothing here imports the global reactor, or anything of the server.
"""

from __future__ import annotations

from zktwisted.client.acl import ACL, CREATOR_ALL_ACL, OPEN_ACL, READ_ACL, Id, Perm, digest_id
from zktwisted.client.answers import Children, Created
from zktwisted.client.client import PersistentWatch, ZooKeeperClient
from zktwisted.client.line import BacklogError
from zktwisted.client.states import EventType, State, WatchedEvent
from zktwisted.client.transaction import Reads, Transaction
from zktwisted.wire.ops import WatcherType
from zktwisted.wire.proto import Stat

__all__ = [
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
]
