"""
The numbers of the client protocol: operations, flags, permissions, events, and how a zxid is put together.

Plain module constants beside the enums, because hot functions compare plain integers.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

__all__ = [
    "CreateFlag",
    "EventType",
    "KeeperState",
    "OpCode",
    "Perm",
    "WatchMode",
    "WatcherType",
    "make_zxid",
    "show_zxid",
    "zxid_counter",
    "zxid_epoch",
]


class OpCode(IntEnum):
    """Operations of the client protocol and types of transactions (spec: client-protocol 3.1)."""

    CREATE_SESSION = -10
    CLOSE_SESSION = -11
    ERROR = -1
    NOTIFICATION = 0
    CREATE = 1
    DELETE = 2
    EXISTS = 3
    GET_DATA = 4
    SET_DATA = 5
    GET_ACL = 6
    SET_ACL = 7
    GET_CHILDREN = 8
    SYNC = 9
    PING = 11
    GET_CHILDREN2 = 12
    CHECK = 13
    MULTI = 14
    CREATE2 = 15
    RECONFIG = 16
    CHECK_WATCHES = 17
    REMOVE_WATCHES = 18
    CREATE_CONTAINER = 19
    DELETE_CONTAINER = 20
    CREATE_TTL = 21
    MULTI_READ = 22
    AUTH = 100
    SET_WATCHES = 101
    SASL = 102
    GET_EPHEMERALS = 103
    GET_ALL_CHILDREN_NUMBER = 104
    SET_WATCHES2 = 105
    ADD_WATCH = 106
    WHO_AM_I = 107


CREATE_SESSION = -10
CLOSE_SESSION = -11
ERROR = -1
CREATE = 1
DELETE = 2
EXISTS = 3
GET_DATA = 4
SET_DATA = 5
GET_ACL = 6
SET_ACL = 7
GET_CHILDREN = 8
SYNC = 9
PING = 11
GET_CHILDREN2 = 12
CHECK = 13
MULTI = 14
CREATE2 = 15
RECONFIG = 16
CHECK_WATCHES = 17
REMOVE_WATCHES = 18
CREATE_CONTAINER = 19
DELETE_CONTAINER = 20
CREATE_TTL = 21
MULTI_READ = 22
AUTH = 100
SET_WATCHES = 101
SASL = 102
GET_EPHEMERALS = 103
GET_ALL_CHILDREN_NUMBER = 104
SET_WATCHES2 = 105
ADD_WATCH = 106
WHO_AM_I = 107

#: xids with a meaning of their own (spec: client-protocol 3.2).
XID_NOTIFICATION = -1
XID_PING = -2
XID_AUTH = -4
XID_SET_WATCHES = -8


class CreateFlag(IntEnum):
    """CreateMode on the wire (spec: client-protocol 3.5)."""

    PERSISTENT = 0
    EPHEMERAL = 1
    PERSISTENT_SEQUENTIAL = 2
    EPHEMERAL_SEQUENTIAL = 3
    CONTAINER = 4
    PERSISTENT_WITH_TTL = 5
    PERSISTENT_SEQUENTIAL_WITH_TTL = 6


class Perm(IntFlag):
    """Permission bits of an ACL entry."""

    READ = 1
    WRITE = 2
    CREATE = 4
    DELETE = 8
    ADMIN = 16
    ALL = 31


READ = 1
WRITE = 2
PERM_CREATE = 4
PERM_DELETE = 8
ADMIN = 16


class EventType(IntEnum):
    """Type of a WatcherEvent; a server only sends the first four."""

    NODE_CREATED = 1
    NODE_DELETED = 2
    NODE_DATA_CHANGED = 3
    NODE_CHILDREN_CHANGED = 4


class KeeperState(IntEnum):
    """State in a WatcherEvent; a server always sends SYNC_CONNECTED."""

    SYNC_CONNECTED = 3


class WatchMode(IntEnum):
    """Mode of an addWatch request."""

    PERSISTENT = 0
    PERSISTENT_RECURSIVE = 1


class WatcherType(IntEnum):
    """Which watches checkWatches and removeWatches mean."""

    CHILDREN = 1
    DATA = 2
    ANY = 3
    PERSISTENT = 4
    PERSISTENT_RECURSIVE = 5


def zxid_epoch(zxid: int) -> int:
    """Return the epoch of a zxid: its high 32 bits, unsigned."""
    return (zxid >> 32) & 0xFFFFFFFF


def zxid_counter(zxid: int) -> int:
    """Return the counter of a zxid: its low 32 bits, 0 for the zxid with which an epoch begins."""
    return zxid & 0xFFFFFFFF


def make_zxid(epoch: int, counter: int) -> int:
    """Put a zxid together; signed, as it stands on the wire."""
    zxid = (epoch & 0xFFFFFFFF) << 32 | (counter & 0xFFFFFFFF)
    return zxid - (1 << 64) if zxid >> 63 else zxid


def show_zxid(zxid: int) -> str:
    """Render a zxid (or session id) as ZooKeeper does: C{0x} and lower-case hex of the unsigned 64 bits."""
    return f"0x{zxid & 0xFFFFFFFFFFFFFFFF:x}"
