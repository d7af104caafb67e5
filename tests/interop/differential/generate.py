"""Makes sequences of valid and slightly invalid requests from a seed, the same sequence from the same seed."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.interop.rawclient import OPEN_ACL, acl, buffer, vector

from . import records as op
from .steps import ROOT_TOKEN, Drop, Open, Raw, Request, Resume, Send, Step, Word, relative_zxid

ROOT = b"/" + ROOT_TOKEN
QUOTA = b"/zookeeper/quota/" + ROOT_TOKEN
CONNECTIONS = 3
HOUR_MS = 3_600_000

NAMES = (b"a", b"b", b"c")
ODD_NAMES = (
    b"", b".", b"..", b"...", b"a/", b"/a", b"a b", b"x\0y", b"x\x01y", b"x\x7fy", b"x\xc2\x9fy", b"x\xc2\xa0y",
    b"x\xff\xfey",
    "é".encode(), "\ud7ff".encode("utf-8", "surrogatepass"), "\ue000".encode(), "\uf8ff".encode(), "\uf900".encode(),
    "\uffef".encode(), "\ufff0".encode(), "\uffff".encode(), "😀".encode(), b"x\xed\xa0\x80y", b"x\xe2\x80\xa8y",
    b"n" * 300,
)  # fmt: skip
# What a connection may begin with instead of a ConnectRequest.
FIRST_BYTES = (
    b"ruok", b"ruok\n", b"isro", b"srvr", b"gtmk", b"srst", b"abcd", b"RUOK", b"\xff\xf4\xff\xfd",
    b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", b"\0\0\0\0", b"\0\0\0\4\0\0\0\0",
    b"\0\0\0\x14" + bytes(20), b"\0\0\0\x18" + bytes(24), b"\0\0\0\x1c" + bytes(24) + b"\0\0\0\x10",
    b"\0\0\0\x1c" + bytes(24) + b"\xff\xff\xff\xfe", b"\0\x10\0\0", b"\xff\xff\xff\xff",
)  # fmt: skip
OUTSIDE = (
    b"/",
    b"",
    b"a",
    b"//",
    b"/zookeeper",
    b"/zookeeper/quota",
    b"/zookeeper/config",
    b"/zookeeper/nothing",
    b"/absent",
)

WRITES = (
    op.CREATE,
    op.DELETE,
    op.SET_DATA,
    op.SET_ACL,
    op.CREATE2,
    op.RECONFIG,
    op.CREATE_CONTAINER,
    op.CREATE_TTL,
    op.MULTI,
)
ALICE = "alice:lNHdeIIGKDsPjWAEKuTzYTjnEsM="
READABLE_ACLS = (
    [(31, "world", "anyone")],
    [(1, "world", "anyone")],
    [(31, "world", "anyone"), (31, "world", "anyone")],
    [(1, "world", "anyone"), (31, "auth", "")],
    [(3, "world", "anyone"), (12, "digest", ALICE)],
    [(31, "ip", "127.0.0.1")],
    [(31, "ip", "127.0.0.0/8"), (1, "world", "anyone")],
    [(255, "world", "anyone")],
)
UNREADABLE_ACLS = (
    [(31, "auth", "")],
    [(31, "digest", ALICE)],
    [(2, "world", "anyone")],
    [(30, "world", "anyone")],
    [(16, "world", "anyone"), (15, "digest", ALICE)],
    [(0, "world", "anyone")],
    [(-1, "digest", ALICE)],
    [(31, "ip", "10.0.0.0/8")],
    [(31, "sasl", "bob")],
    [(31, "x509", "CN=bob")],
    [(4, "auth", "ignored"), (16, "auth", "")],
)
BAD_ACLS: tuple[list[tuple[int, str | None, str | None]] | None, ...] = (
    None,
    [],
    [(31, "world", "other")],
    [(31, "world", None)],
    [(31, None, "x")],
    [(31, "", "")],
    [(31, "nosuch", "x")],
    [(31, "super", "")],
    [(31, "digest", "x")],
    [(31, "digest", "a:b:c")],
    [(31, "digest", "a:")],
    [(31, "ip", "host")],
    [(31, "ip", "10.0.0.0/33")],
    [(31, "ip", "10.0.0.0/")],
    [(31, "ip", "1.2.3")],
    [(31, "ip", "256.1.1.1")],
    [(31, "sasl", "a@b@c")],
    [(31, "world", "anyone"), (31, "nosuch", "x")],
)


@dataclass(frozen=True)
class Profile:
    """Which of the differences between releases a sequence keeps clear of.

    *unreadable* allows ACLs without READ for everybody; *standard*, *persistent* and *recursive* are the kinds of
    watch in use; *short_writes* allows writes whose body is cut short; *old_release* stands for what 3.8 does
    differently, each explained where it is asked for.
    """

    unreadable: bool = True
    standard: bool = True
    persistent: bool = True
    recursive: bool = True
    exists: bool = True
    short_writes: bool = True
    old_release: bool = False


def profile_of(release: str, chooser: random.Random) -> Profile:
    """Return what may be asked of *release* and of ours, with the same answer expected.

    A write that cannot be decoded takes a zxid of its own in 3.8, as any write that fails, and in ours; 3.9 repeats the
    last one, of which an ensemble dies.

    A 3.8 server delivers events of nodes that the connection may not read, answers exists without READ, and keeps one
    watch mode for each path and connection. So a sequence for it has unreadable nodes, or watches of one kind.
    """
    if release.startswith("3.9"):
        return Profile(short_writes=False)
    kind = chooser.choice(("acl", "standard", "persistent", "recursive"))
    return Profile(
        unreadable=kind == "acl",
        standard=kind == "standard",
        persistent=kind == "persistent",
        recursive=kind == "recursive",
        exists=kind != "acl",
        old_release=True,
    )


class Generator:
    """One sequence: all choices come from *seed*."""

    def __init__(self, seed: int, release: str = "3.9.5") -> None:
        self.random = random.Random(seed)
        self.profile = profile_of(release, self.random)
        self._xid = 0
        self._calm = True
        self._quotas = self.chance(0.3)
        self._in_multi = False
        # What is there if everything so far has gone well; only a guess, so that requests often meet a node.
        self._nodes: list[bytes] = [ROOT]
        self._watched: list[bytes] = [ROOT]

    def sequence(self, length: int) -> list[Step]:
        """Return *length* steps, the first of which make a tree to work on."""
        steps: list[Step] = [self.planting()]
        while len(steps) < length:
            steps.append(self.step())
        return steps

    # -- small choices

    def chance(self, probability: float) -> bool:
        """Say yes with a probability."""
        return self.random.random() < probability

    def xid(self) -> int:
        """Return a new xid, seldom an unusual one."""
        self._xid += 1
        return self.random.choice((0, -77, 2**31 - 1)) if self.chance(0.01) else self._xid

    def sane_path(self, new: bool) -> bytes:
        """Return the path of a node that is probably there, or of one that probably is not but whose parent is."""
        path = self.random.choice(self._nodes)
        if not new:
            return path
        path += b"/" + self.random.choice(NAMES)
        if path.count(b"/") > 5:
            return ROOT + b"/a"
        return path

    def made(self, path: bytes | None) -> bytes | None:
        """Remember that a node was probably created."""
        if path and path not in self._nodes and self._calm:
            self._nodes.append(path)
        return path

    def leaf(self) -> bytes:
        """Return a node that probably has no children, and remember that it was probably deleted."""
        leaves = [one for one in self._nodes[1:] if not any(other.startswith(one + b"/") for other in self._nodes)]
        if not leaves:
            return ROOT
        leaf = self.random.choice(leaves)
        self._nodes.remove(leaf)
        return leaf

    def watched(self, path: bytes | None) -> bytes | None:
        """Remember that a path is probably watched."""
        if path:
            self._watched.append(path)
        return path

    def path(self, new: bool = False) -> bytes | None:
        """Return a path: mostly one of a small tree, so that requests meet each other."""
        roll = self.random.random()
        if self._calm or roll < 0.3:
            return self.sane_path(new)
        if roll < 0.35:
            return ROOT
        if roll < 0.42:
            return self.random.choice(OUTSIDE)
        if roll < 0.44 and not self.profile.old_release:
            # A null path in a multi makes no transaction in 3.8, in addWatch it breaks the server's connection for
            # good, and checkWatches finds it malformed.
            return None
        if roll < 0.48 and self._quotas:
            return QUOTA + self.random.choice(
                (b"", b"/a", b"/zookeeper_limits", b"/zookeeper_stats", b"/a/zookeeper_stats")
            )
        path = ROOT + b"".join(b"/" + self.random.choice(NAMES) for _ in range(self.random.choice((1, 1, 2, 2, 3))))
        if self.chance(0.06):
            path += b"/" + self.random.choice(ODD_NAMES) + self.random.choice((b"", b"", b"/z"))
        return path

    def data(self) -> bytes | None:
        """Return the data of a node."""
        return self.random.choice((b"", None, b"x", b"hello", bytes(range(100)), b"count=1,bytes=5"))

    def node_acl(self) -> bytes:
        """Return an encoded ACL list, mostly the open one."""
        roll = self.random.random()
        if roll < 0.70:
            return OPEN_ACL
        if roll < 0.80 and not self._calm:
            # 3.9 makes no transaction of a multi with a null list, and 3.8 has another answer to it.
            return acl(self.random.choice(BAD_ACLS[self._in_multi :]))
        if roll < 0.90 or not self.profile.unreadable:
            return acl(self.random.choice(READABLE_ACLS))
        return acl(self.random.choice(UNREADABLE_ACLS))

    def version(self) -> int:
        """Return an expected version."""
        if self._calm and self.chance(0.7):
            return -1
        return self.random.choice((-1, -1, 0, 0, 0, 1, 1, 2, 3, -2, 2**31 - 1))

    def boolean(self, probability: float = 0.4) -> bytes:
        """Return an encoded boolean for a watch flag; bytes but 0 and 1 mean true."""
        if self.profile.standard and self.chance(probability):
            return self.random.choice((b"\1", b"\1", b"\1", b"\x7f"))
        return b"\0"

    # -- requests

    def create_body(self, opcode: int, flags: int | None = None) -> bytes:
        """Return the body of create, create2, createContainer or createTTL."""
        if flags is None:
            flags = self.random.choice(
                (0, 0, 0, 0, 1, 1, 2, 2, 3, 4) if self._calm else (0, 1, 2, 3, 4, 5, 6, 7, -1, 255)
            )
        if opcode == op.CREATE_CONTAINER and flags in (1, 3):
            # Until it is applied, Java takes such a container for an ephemeral node of the session.
            flags -= 1
        body = buffer(self.made(self.path(new=True))) + buffer(self.data()) + self.node_acl()
        if opcode != op.CREATE_TTL:
            return body + struct.pack(">i", flags)
        if self._calm:
            return body + struct.pack(">iq", self.random.choice((5, 6)), self.random.choice((HOUR_MS, 2**40 - 1)))
        if self.chance(0.7):
            flags = self.random.choice((5, 6))
            ttl = self.random.choice((HOUR_MS, 2**40 - 1, 2**40, 0, -1, -(2**63)))
        else:
            # A flag without TTL and a negative ttl would end a 3.9.5 server for good, so they are never sent together.
            ttl = self.random.choice((HOUR_MS, 0, 2**40))
        return body + struct.pack(">iq", flags, ttl)

    def create(self) -> tuple[int, bytes]:
        """Return one of the four creates."""
        opcode = self.random.choice((op.CREATE,) * 5 + (op.CREATE2,) * 3 + (op.CREATE_CONTAINER, op.CREATE_TTL))
        return opcode, self.create_body(opcode)

    def delete(self) -> tuple[int, bytes]:
        """Return a delete."""
        path = self.leaf() if self._calm and self.chance(0.7) else self.path()
        return op.DELETE, buffer(path) + struct.pack(">i", self.version())

    def set_data(self) -> tuple[int, bytes]:
        """Return a setData."""
        return op.SET_DATA, buffer(self.path()) + buffer(self.data()) + struct.pack(">i", self.version())

    def set_acl(self) -> tuple[int, bytes]:
        """Return a setACL."""
        return op.SET_ACL, buffer(self.path()) + self.node_acl() + struct.pack(">i", self.version())

    def read(self) -> tuple[int, bytes]:
        """Return a read that may leave a watch."""
        opcode = self.random.choice((op.EXISTS, op.EXISTS, op.GET_DATA, op.GET_DATA, op.GET_CHILDREN, op.GET_CHILDREN2))
        if opcode == op.EXISTS and not self.profile.exists:
            opcode = op.GET_DATA
        path = self.path(opcode == op.EXISTS and self.chance(0.4))
        watch = self.boolean()
        return opcode, buffer(self.watched(path) if any(watch) else path) + watch

    def plain_read(self) -> tuple[int, bytes]:
        """Return a read of another kind."""
        opcode = self.random.choice(
            (op.GET_ACL, op.GET_ACL, op.SYNC, op.GET_ALL_CHILDREN_NUMBER, op.GET_EPHEMERALS, op.WHO_AM_I)
        )
        return opcode, b"" if opcode == op.WHO_AM_I else buffer(self.path())

    def add_watch(self) -> tuple[int, bytes]:
        """Return an addWatch."""
        modes = [0] * self.profile.persistent + [1] * self.profile.recursive
        if not modes:
            return self.read()
        mode = self.random.choice((2, -1)) if self.chance(0.05) else self.random.choice(modes)
        return op.ADD_WATCH, buffer(self.watched(self.path(self.chance(0.3)))) + struct.pack(">i", mode)

    def about_watches(self) -> tuple[int, bytes]:
        """Return a checkWatches or removeWatches."""
        kinds: tuple[int, ...] = (0, 1, 1, 2, 2, 3, 3, 3, 4, 5, 6)
        if self.profile.old_release:
            # 3.8 does not know the types 4 and 5, and takes a persistent watch for one of type 1 and 2 as well.
            kinds = (0, 1, 2, 3, 6) if self.profile.standard else (0, 3, 6)
        opcode = self.random.choice((op.CHECK_WATCHES, op.REMOVE_WATCHES))
        if self.profile.old_release:
            # 3.8 answers checkWatches of type 3 for the watches of every connection.
            opcode = op.REMOVE_WATCHES
        path = self.random.choice(self._watched) if self.chance(0.7) else self.path()
        return opcode, buffer(path) + struct.pack(">i", self.random.choice(kinds))

    def set_watches(self) -> tuple[int, bytes]:
        """Return a setWatches or setWatches2 with a zxid from before, at or after the recent changes."""
        opcode = self.random.choice((op.SET_WATCHES, op.SET_WATCHES2))

        def paths(allowed: bool) -> bytes:
            if not allowed:
                return vector([])
            return vector(
                [buffer(self.path(self.chance(0.3)) or b"/absent") for _ in range(self.random.choice((0, 1, 1, 2, 3)))]
            )

        if self.chance(0.05):
            # Java answers -5 to a null list, after the events of the lists before it; ours sends none of them.
            return opcode, relative_zxid(0) + vector(None) * (3 if opcode == op.SET_WATCHES else 5)
        profile = self.profile
        body = relative_zxid(self.random.choice((-20, 0, 5, 10, 20, 1000)))
        body += paths(profile.standard) + paths(profile.standard) + paths(profile.standard)
        if opcode == op.SET_WATCHES2:
            body += paths(profile.persistent) + paths(profile.recursive)
        return opcode, body

    def multi(self) -> tuple[int, bytes]:
        """Return a multi, mostly of operations that belong into one."""
        kinds: tuple[Callable[[], tuple[int, bytes]], ...] = (
            self._multi_create, self._multi_create, self.set_data, self.set_data, self.delete, self._check,
        )  # fmt: skip
        return op.MULTI, self._list_of(kinds, (self.set_acl, self.read, self._delete_container))

    def multi_read(self) -> tuple[int, bytes]:
        """Return a multiRead."""
        return op.MULTI_READ, self._list_of((self._get_data, self._get_children), (self.read, self._check))

    def _list_of(
        self,
        kinds: Sequence[Callable[[], tuple[int, bytes]]],
        foreign: Sequence[Callable[[], tuple[int, bytes]]],
    ) -> bytes:
        body = b""
        self._in_multi = True
        for _ in range(self.random.choice((0, 1, 1, 2, 2, 2, 3, 3, 4, 6))):
            # 3.8 makes no transaction of a multi with an operation that does not belong there.
            strange = self.chance(0.02) and not self._calm and not self.profile.old_release
            opcode, record = self.random.choice(foreign if strange else kinds)()
            body += struct.pack(">ibi", opcode, 0, self.random.choice((-1, -1, -1, 0, 7))) + record
        self._in_multi = False
        if self.chance(0.03) and self.profile.short_writes:
            return body
        return body + struct.pack(">ibi", self.random.choice((-1, -1, -1, 3)), self.random.choice((1, 1, 1, 5)), -1)

    def _multi_create(self) -> tuple[int, bytes]:
        if self.profile.old_release:
            # 3.8 answers a create2, container or TTL node inside of a multi as a create without a stat, and does not
            # refuse a multi as a whole for an unknown flag.
            return op.CREATE, self.create_body(op.CREATE, self.random.choice((0, 0, 1, 2, 3, 4)))
        return self.create()

    def _check(self) -> tuple[int, bytes]:
        return op.CHECK, buffer(self.path()) + struct.pack(">i", self.version())

    def _delete_container(self) -> tuple[int, bytes]:
        return op.DELETE_CONTAINER, buffer(self.path())

    def _get_data(self) -> tuple[int, bytes]:
        return op.GET_DATA, buffer(self.path()) + self.boolean()

    def _get_children(self) -> tuple[int, bytes]:
        return op.GET_CHILDREN, buffer(self.path()) + self.boolean()

    def quota(self) -> tuple[int, bytes]:
        """Return a step towards a quota: its nodes, or its limits."""
        base = QUOTA + self.random.choice((b"", b"", b"/a"))
        limits = self.random.choice(
            (b"count=3,bytes=-1", b"count=-1,bytes=10", b"count=4,bytes=20=;byteHardLimit=30;countHardLimit=6",
             b"count=100,bytes=1000=;byteHardLimit=200;countHardLimit=-1", b"junk", b"")
        )  # fmt: skip
        choice = self.random.randrange(6)
        if choice == 0:
            return op.CREATE, buffer(base) + buffer(b"") + OPEN_ACL + bytes(4)
        if choice in (1, 2):
            return op.CREATE, buffer(base + b"/zookeeper_limits") + buffer(limits) + OPEN_ACL + bytes(4)
        if choice == 3:
            return op.CREATE, buffer(base + b"/zookeeper_stats") + buffer(b"count=0,bytes=0") + OPEN_ACL + bytes(4)
        if choice == 4:
            return op.SET_DATA, buffer(base + b"/zookeeper_limits") + buffer(limits) + struct.pack(">i", -1)
        return op.DELETE, buffer(base + b"/zookeeper_limits") + struct.pack(">i", -1)

    def unusual(self) -> tuple[int, bytes]:
        """Return a request that seldom comes: reconfig, a token for SASL, a ping with a body."""
        return self.random.choice(
            (
                (
                    op.RECONFIG,
                    buffer(b"server.1=127.0.0.1:1:2;3") + buffer(None) + buffer(None) + struct.pack(">q", -1),
                ),
                (op.RECONFIG, buffer(None) * 3 + struct.pack(">q", 0)),
                (op.SASL, buffer(b"token")),
                (op.PING_OP, b""),
                (op.PING_OP, b"body"),
                (op.WHO_AM_I, b"rest"),
            )
        )

    def request(self) -> Request:
        """Return any request that leaves its connection open, sometimes with a body cut short, too long or damaged."""
        kinds: tuple[tuple[Callable[[], tuple[int, bytes]], int], ...] = (
            (self.create, 22), (self.delete, 10), (self.set_data, 10), (self.set_acl, 5), (self.read, 20),
            (self.plain_read, 6), (self.add_watch, 4), (self.about_watches, 5), (self.set_watches, 4), (self.multi, 9),
            (self.multi_read, 3), (self.quota, 6 * self._quotas), (self.unusual, 1),
        )  # fmt: skip
        self._calm = self.chance(0.65)
        make = self.random.choices([kind for kind, _ in kinds], [weight for _, weight in kinds])[0]
        opcode, body = make()
        # 3.8 gives a reconfig that it cannot decode no zxid, unlike its other writes.
        whole = opcode in (op.SASL, op.RECONFIG) or (opcode in WRITES and not self.profile.short_writes)
        if self.chance(0.03) and body and not whole:
            body = body[: self.random.randrange(len(body))]
            if opcode == op.CREATE_TTL:
                body = body[:6]
        elif self.chance(0.02):
            body += b"\0\1rest"
        elif self.chance(0.03) and body and not whole and self._may_be_damaged(opcode, body):
            # Without what could become a createTTL of the kind that ends a 3.9.5 server.
            at = self.random.randrange(len(body))
            body = body[:at] + self.random.choice((b"\0", b"\1", b"\x7f", b"\xff", b"/")) + body[at + 1 :]
        return self._request(opcode, body)

    def _may_be_damaged(self, opcode: int, body: bytes) -> bool:
        if op.CREATE_TTL in (opcode, *body):
            return False
        # 3.8 does not refuse a multi as a whole for a flag that does not exist.
        return opcode != op.MULTI or not self.profile.old_release

    def _request(self, opcode: int, body: bytes, xid: int | None = None) -> Request:
        if opcode in (op.SET_WATCHES, op.SET_WATCHES2):
            xid = -8
        return Request(self.xid() if xid is None else xid, opcode, body, op.OP_NAMES.get(opcode, str(opcode)))

    # -- steps

    def planting(self) -> Send:
        """Return the step that makes some nodes to begin with."""
        requests = []
        for path in (b"", b"/a", b"/b", b"/a/a", b"/a/b", b"/b/a"):
            if not path or self.chance(0.8):
                self._nodes += [ROOT + path] if path else []
                requests.append(self._request(op.CREATE, buffer(ROOT + path) + buffer(b"x") + OPEN_ACL + bytes(4)))
        return Send(0, tuple(requests))

    def step(self) -> Step:
        """Return one step: mostly one request, sometimes several in one segment, seldom trouble."""
        conn = self.random.randrange(CONNECTIONS)
        roll = self.random.random()
        if roll < 0.68:
            return Send(conn, (self.request(),))
        if roll < 0.85:
            return Send(conn, self.batch(self.random.randrange(2, 8)))
        if roll < 0.90:
            return Send(conn, (self.authentication(),))
        return self.trouble(conn)

    def batch(self, count: int) -> tuple[Request, ...]:
        """Return requests for one segment, without two that race in Java.

        Whether a setACL is seen by the check of a write behind it depends on whether it was applied in between; and a
        quota is checked against what was applied.
        """
        if self._quotas:
            return (self.request(),)
        requests: list[Request] = []
        while len(requests) < count:
            requests.append(self.request())
            if requests[-1].opcode == op.SET_ACL:
                break
        return tuple(requests)

    def authentication(self) -> Request:
        """Return an auth packet; some fail and end the connection."""
        scheme, token = self.random.choice(
            (
                (b"digest", b"alice:secret"), (b"digest", b"alice:secret"), (b"digest", b"bob:pw"),
                (b"digest", b"nocolon"), (b"digest", b""), (b"digest", b"\xff\xfe:x"), (b"ip", b""), (b"ip", b"x"),
                (b"digest", b"super:adminpw"), (b"digest", None), (b"world", b"anyone"), (b"sasl", b"x"),
                (b"nosuch", b""), (None, b""), (b"x509", b""),
            )
        )  # fmt: skip
        body = struct.pack(">i", self.random.choice((0, 5))) + buffer(scheme) + buffer(token)
        if self.chance(0.05):
            body = body[: self.random.randrange(len(body))]
        return self._request(op.AUTH_OP, body, self.random.choice((-4, -4, -4, 9999)))

    def trouble(self, conn: int) -> Step:
        """Return a step that ends a connection, makes one, or is no request at all."""
        roll = self.random.randrange(9)
        if roll == 0:
            before = self.batch(self.random.randrange(3))
            # Whether a write behind it still makes a transaction is a race in Java.
            after = [self._request(*self.plain_read()) for _ in range(self.random.randrange(3))]
            return Send(conn, (*before, self._request(op.CLOSE_SESSION, b""), *after))
        if roll == 1:
            opcodes = [10, 23, 99, 108, 200, 999, 0, -1, -2, -100, 2**31 - 1]
            if not self.profile.old_release:
                # 3.8 has a top level check of its own.
                opcodes.append(op.CHECK)
            return Send(conn, (self._request(self.random.choice(opcodes), buffer(ROOT) + bytes(4)),))
        if roll == 2:
            return Drop(conn)
        if roll == 3:
            return Resume(
                conn,
                timeout_ms=self.random.choice((30000, 60000, 1, 10**9)),
                read_only=self.random.choice((b"\0", b"", b"\1")),
            )
        if roll == 4:
            return Resume(conn, right=False)
        if roll in (5, 6):
            return self.opening(conn)
        if roll == 7:
            return Raw(
                conn,
                self.random.choice(
                    (b"\xff\xff\xff\xfd", b"\x7f\xff\xff\xff", b"\0\x10\0\0", b"\0\0\0\0", b"\0\0\0\4\0\0\0\1", b"ruok")
                ),
            )
        return Word(self.random.choice(FIRST_BYTES))

    def opening(self, conn: int) -> Open:
        """Return a ConnectRequest of one of the kinds that clients send, or should not."""
        return Open(
            conn,
            timeout_ms=self.random.choice((30000, 30000, 0, -5, 10**9)),
            password=self.random.choice((bytes(16), b"", None, b"p" * 40)),
            read_only=self.random.choice((b"\0", b"", b"\1", b"\0\7")),
            version=self.random.choice((0, 0, 7)),
            zxid_ahead=self.random.choice((None, None, -1, 0, 1, 2**40)),
            session_id=self.random.choice((0, 0, 0, 0, 0x1234567890ABCDEF, 1)),
        )
