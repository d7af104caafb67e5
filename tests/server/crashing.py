"""
Lives of a whole server on disks that crash, drawn from a seed, and what has to be true after each crash.

A L{Story} has a few lives on the same disks.  In each, clients write and read on many pipelined connections while
flushes complete when chance says so, snapshots are taken piece by piece, logs roll and old files are purged; then the
machine crashes, or the disk fails or is full, or the server is stopped in order.  The next life has to begin exactly
where the L{tests.server.model} is after I{some} beginning of what was asked, and that beginning has to hold everything
that any client was told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from random import Random
from typing import Any

from twisted.internet.task import Clock

from tests.server.model import CONTAINER, Answer, Model, Node, Write, nodes_of
from zktwisted.config import ServerConfig
from zktwisted.server import snapshots
from zktwisted.server.service import ZooKeeperService
from zktwisted.testing import MemoryDisk
from zktwisted.testing.client import MemoryClient, MemoryEndpoint
from zktwisted.tree import image
from zktwisted.wire import jute, ops, proto
from zktwisted.wire.proto import ACL, Id

_ACLS = (
    proto.OPEN_ACL,
    (ACL(31, Id("ip", "127.0.0.1")),),
    (ACL(31, Id("world", "anyone")), ACL(1, Id("ip", "10.0.0.1"))),
)
_CREATES = (ops.CREATE, ops.CREATE2, ops.CREATE_CONTAINER)
_WALL = 1_700_000_000_000
_NODES = tuple(b"/p%d/n%d" % (i, j) for i in range(3) for j in range(4))
_PATHS = (*(b"/p%d" % i for i in range(3)), *_NODES, *(path + b"/x" for path in _NODES[:4]))

MakeDisk = Callable[[], MemoryDisk]


class Wrong(AssertionError):
    """A promise was broken."""


def expect(condition: object, what: str, *details: object) -> None:
    if not condition:
        raise Wrong(" ".join([what, *map(repr, details)]))


@contextmanager
def small_steps(nodes: int = 2) -> Iterator[None]:
    """Let a snapshot be written a few nodes at a time, with turns of everybody else in between."""
    before = image._CHUNK_NODES, snapshots._SLICE
    image._CHUNK_NODES, snapshots._SLICE = nodes, 0.0
    try:
        yield
    finally:
        image._CHUNK_NODES, snapshots._SLICE = before


class Life:
    """One server from its start to its end, with a clock of its own: a crash takes its timers along."""

    def __init__(
        self, log_disk: MemoryDisk, snap_disk: MemoryDisk, at: float, entropy: Random, **settings: Any
    ) -> None:
        self.clock = Clock()
        self.clock.advance(at)
        self.disks = {id(log_disk): log_disk, id(snap_disk): snap_disk}.values()
        self.endpoint = MemoryEndpoint(self.clock)
        config = ServerConfig(**{"pre_alloc_size": 0, "commit_log_count": 0, **settings})
        self.service = ZooKeeperService(
            self.clock,
            config,
            [self.endpoint],
            monotonic=self.clock.seconds,
            wall_ms=self.wall_ms,
            entropy=entropy,
            disks=lambda config: (log_disk, snap_disk),
        )
        self.failure: Any = None
        self.service.when_failed().addErrback(self._failed)
        self.starting = self.service.when_serving()
        self.starting.addErrback(self._failed)
        self.service.startService()

    def _failed(self, failure: Any) -> None:
        self.failure = failure.value

    def wall_ms(self) -> int:
        return _WALL + int(self.clock.seconds() * 1000)

    @property
    def core(self) -> Any:
        return self.service._run.core  # type: ignore[union-attr]

    @property
    def mode(self) -> str:
        return str(self.service.status()["mode"])

    def turn(self, seconds: float = 0.001) -> None:
        self.clock.advance(seconds)

    def flushed(self) -> None:
        for disk in self.disks:
            if disk.in_flight:
                disk.complete()

    def settle(self) -> None:
        """Let everything that is under way come to its end."""
        for _ in range(1000):
            self.turn()
            self.flushed()
            core = self.core
            if not core.in_flight and not self.service._run._snapshots.running:  # type: ignore[union-attr]
                break
        self.turn()

    def begin(self) -> None:
        for _ in range(2000):
            if self.mode != "starting":
                break
            self.turn(0)
            self.turn()
        expect(self.mode == "standalone", "the server did not start:", self.failure)

    def stop(self) -> None:
        """Stop in order."""
        stopped: list[None] = []
        self.service.stopService().addCallback(stopped.append)
        for _ in range(100):
            if stopped:
                return
            self.turn()
            self.flushed()
        raise Wrong("the server did not stop")


def check_tree(core: Any) -> None:
    """Check what is true of every tree, whatever has happened."""
    tree = core.tree
    digest = sum(node.compute_digest(path) for path, node in tree.nodes.items())
    expect((tree.digest - digest) % (1 << 64) == 0, "the tree's digest is not that of its nodes")
    expect(core.metrics.digest_mismatches_count == 0, "replaying came to another digest than the log has")
    children = {path.rpartition(b"/")[::2] for path in tree.nodes if path}
    listed = {(path, name) for path, node in tree.nodes.items() for name in node.children or ()}
    expect({(above, name) for above, name in children} == listed, "nodes and lists of children differ")
    owned = {(node.owner, path) for path, node in tree.nodes.items() if node.owner}
    indexed = {(owner, path) for owner, paths in tree.ephemerals.items() for path in paths}
    indexed |= {(CONTAINER, path) for path in tree.containers}
    expect(owned == indexed, "owned nodes and their index differ:", owned ^ indexed)
    dead = set(tree.ephemerals) - set(core.timeouts)
    expect(not dead, "ephemerals without a session:", dead)


@contextmanager
def one_piece(client: Any) -> Iterator[None]:
    """Let what a client sends come together, as from one that does not wait for answers."""
    deliver, pieces = client._deliver, list[bytes]()
    client._deliver = pieces.append
    try:
        yield
    finally:
        client._deliver = deliver
    deliver(b"".join(pieces))


class Actor:
    """A client, and what it has to be answered."""

    def __init__(self, client: MemoryClient, connecting: Answer | None) -> None:
        self.client = client
        #: The answer that its createSession will have, while that is under way.
        self.connecting = connecting
        self.expected: list[tuple[int, Answer | None]] = []
        self.looked_at = 0
        self.leaving = self.gone = False

    @property
    def ready(self) -> bool:
        return not (self.client.closed or self.leaving) and self.client.session_id != 0


class Story:
    """All that one seed brings about."""

    def __init__(self, seed: int, make_disk: MakeDisk = MemoryDisk) -> None:
        self.random = random = Random(seed)
        self.log_disk = make_disk()
        self.snap_disk = make_disk() if random.random() < 0.3 else self.log_disk
        self.log_disk.hold = random.random() < 0.9
        self.settings: dict[str, Any] = {
            "snap_count": random.choice((6, 6, 20, 100_000)),
            "pre_alloc_size": random.choice((0, 0, 8)),
            "txn_log_size_limit_in_kb": random.choice((-1, -1, 1)),
            "autopurge_purge_interval_ms": random.choice((0, 0, 20)),
            "snapshot_compression_method": random.choice(("", "", "", "gz")),
            "container_check_interval_ms": random.choice((60_000, 20)),
            "container_max_never_used_interval_ms": random.choice((0, 5)),
            "flush_delay": random.choice((0, 0, 0, 3)),
            "digest_enabled": random.random() < 0.9,
        }
        self.at = 0.0
        #: What is durable, as far as is known: the state at the beginning of this life.
        self.base = Model()
        self.model = Model()
        self.writes: list[Write] = []
        self.actors: list[Actor] = []
        #: The newest zxid that any client was shown.
        self.shown = 0
        self.acknowledged: dict[int, Write] = {}
        self.sequential: set[bytes] = set()
        self.snapshots = 0

    def live(self) -> None:
        """All the lives, and the end of the sessions."""
        with small_steps(self.random.choice((3, 10, 40))):
            for _ in range(3):
                self._one_life()
            self._last_life()

    # -- one life

    def _start(self) -> Life:
        random = self.random
        self.at += random.choice((0.001, 0.5))
        life = Life(self.log_disk, self.snap_disk, self.at, Random(random.random()), **self.settings)
        return life

    def _one_life(self) -> None:
        random = self.random
        life = self._start()
        if random.random() < 0.1:
            for _ in range(random.randrange(8)):
                life.turn()
            self._crash(life)
            return
        life.begin()
        self._compare(life)
        self._listen_in(life)
        self._reconnect(life)
        end = random.choice(("crash", "crash", "crash", "flush", "full", "stop"))
        turns = random.randrange(1, 70)
        for turn in range(turns):
            if turn == turns // 2:
                self._sabotage(end)
            self._turn(life)
            if life.failure is not None:
                break
        if end == "stop":
            life.stop()
            self._look()
            unanswered = [actor.expected for actor in self.actors if actor.expected and not actor.gone]
            expect(not unanswered, "requests were not answered before the stop:", unanswered)
            self.shown = self.model.zxid
        self._crash(life)

    def _sabotage(self, how: str) -> None:
        random = self.random
        if how == "flush":
            self.log_disk.fail_flush(random.randrange(1, 4))
        elif how == "full":
            disk = random.choice((self.log_disk, self.snap_disk))
            disk.capacity = sum(map(len, disk.files.values())) + random.randrange(500)

    def _turn(self, life: Life) -> None:
        random = self.random
        for actor in random.sample(self.actors, len(self.actors)):
            if actor.ready and actor.client.session_id in self.model.sessions:
                count = random.choice((0, 1, 2, 5))
                with one_piece(actor.client) if count == 5 else nullcontext():
                    for _ in range(count):
                        self._ask(life, actor)
                        if actor.leaving:
                            break
        if len(self.actors) < 6 and random.random() < 0.3:
            self._connect(life)
        if random.random() < 0.02:
            # Long enough for some sessions to end, or for all, and for connections of which nothing was heard.
            for actor in self.actors:
                actor.gone = True
            life.turn(random.choice((6, 6, 12)))
        elif random.random() < 0.8:
            life.turn()
        if random.random() < 0.6:
            life.flushed()
        if random.random() < 0.05 and self.actors:
            actor = random.choice(self.actors)
            actor.gone = True
            actor.client.disconnect()
        self._look()

    def _crash(self, life: Life) -> None:
        self.at = life.clock.seconds()
        for disk in life.disks:
            disk.capacity = None
            disk.crash(self.random)

    # -- requests

    def _listen_in(self, life: Life) -> None:
        """Hear of the writes that the server makes by itself: silent sessions end, and containers without use go."""
        core = life.core
        submit = core.submit_internal

        def submit_internal(op: int, session_id: int, body: bytes = b"") -> None:
            request = jute.decode(proto.PathRequest, body)[0] if op == ops.DELETE_CONTAINER else None
            self._write(life, op, session_id, request)
            submit(op, session_id, body)

        core.submit_internal = submit_internal

    def _write(self, life: Life, op: int, session: int, request: Any) -> Answer:
        write = Write(op, session, request, life.wall_ms())
        self.writes.append(write)
        return self.model.write(write)

    def _connect(self, life: Life) -> None:
        # The id is the server's to choose; who gets no answer does not learn it.
        session_id = life.core.ids.next
        expect(session_id not in self.model.sessions, "a session's id is given a second time")
        answer = self._write(life, ops.CREATE_SESSION, session_id, 10_000)
        self.actors.append(Actor(life.endpoint.connect(10_000), answer))

    def _reconnect(self, life: Life) -> None:
        before, self.actors = self.actors, []
        for actor in before:
            session_id = actor.client.session_id
            if session_id and not actor.client.refused and self.random.random() < 0.6:
                client = life.endpoint.connect(10_000, actor.client)
                life.turn()
                alive = session_id in self.model.sessions
                expect(client.refused != alive, "resuming a session gave", client.session_id, alive)
                if alive:
                    expect(client.session_id == session_id, "another session than that asked for")
                    self.actors.append(Actor(client, None))

    def _ask(self, life: Life, actor: Actor) -> None:
        random, client = self.random, actor.client
        kind = random.random()
        if kind < 0.1:
            path = random.choice(_PATHS)
            op = random.choice((ops.SYNC, ops.GET_DATA))
            request: Any = proto.PathRequest(path) if op == ops.SYNC else proto.PathWatchRequest(path, False)
            actor.expected.append((op, None))
            client.send(op, request)
            return
        if kind < 0.12:
            actor.leaving = True
            op, request = ops.CLOSE_SESSION, None
        elif kind < 0.3:
            op = ops.MULTI
            request = [self._operation(in_multi=True) for _ in range(random.choice((1, 2, 2, 3)))]
        else:
            op, request = self._operation()
        answer = self._write(life, op, client.session_id, request)
        actor.expected.append((op, answer))
        client.send(op, request)

    def _operation(self, in_multi: bool = False) -> tuple[int, Any]:
        random = self.random
        path = random.choice(_PATHS[random.choice((0, 3)) :])
        version = random.choice((-1, -1, -1, 0, 1))
        data = b"%d" % random.randrange(1000) * random.choice((1, 1, 10, 60))
        kind = random.choice(("create",) * 5 + ("set",) * 3 + ("delete", "delete", "acl", "check"))
        if kind == "delete":
            return ops.DELETE, proto.DeleteRequest(path, version)
        if kind == "set":
            return ops.SET_DATA, proto.SetDataRequest(path, data, version)
        if kind == "check" and in_multi:
            return ops.CHECK, proto.CheckVersionRequest(path, version)
        acl = random.choice(_ACLS)
        if kind == "acl" and not in_multi:
            return ops.SET_ACL, proto.SetACLRequest(path, acl, version)
        flags = random.choice((0, 0, 0, 1, 1, 2, 3))
        if random.random() < 0.2:
            path, flags = random.choice(_PATHS[:3]), 0
        if random.random() < 0.1:
            return ops.CREATE_CONTAINER, proto.CreateRequest(path, data, acl, 4)
        return ops.CREATE, proto.CreateRequest(path + b"-" if flags & 2 else path, data, acl, flags)

    # -- answers

    def _look(self) -> None:
        """Take in what the clients were told, and compare it with what they had to be told."""
        for actor in self.actors:
            client = actor.client
            if actor.connecting is not None and client.session_id:
                expect(self.writes[actor.connecting.zxid - self.base.zxid - 1].session == client.session_id, "whose?")
                self._told(actor.connecting)
                actor.connecting = None
            for reply in client.replies[actor.looked_at :]:
                op, answer = actor.expected.pop(0)
                self.shown = max(self.shown, reply.zxid)
                if answer is None:
                    continue
                expect((reply.zxid, reply.err) == answer[:2], "the answer to", op, "is", reply, "and not", answer)
                decoded = reply.decode()
                if op in _CREATES and not reply.err:
                    expect(decoded.path == answer.path, "created", decoded.path, answer.path)
                elif op == ops.MULTI:
                    results = [
                        (err if kind == ops.ERROR else 0, record.path if kind in _CREATES else None)
                        for kind, err, record in decoded
                    ]
                    expect(results == list(answer.results), "the multi's results are", results, answer.results)
                self._told(answer)
            actor.looked_at = len(client.replies)

    def _told(self, answer: Answer) -> None:
        """A write was acknowledged."""
        write = self.writes[answer.zxid - self.base.zxid - 1]
        expect(answer.zxid not in self.acknowledged, "a zxid was acknowledged for two writes:", answer.zxid)
        self.acknowledged[answer.zxid] = write
        self.shown = max(self.shown, answer.zxid)
        made = [(write.request, answer.path)] if write.op == ops.CREATE else []
        if write.op == ops.MULTI:
            made = [(one[1], result[1]) for one, result in zip(write.request, answer.results, strict=True)]
        for request, path in made:
            if path is not None and request.flags & 2:
                # The parent may have been deleted and made anew meanwhile: then it counts from 0 again.
                above = path.rpartition(b"/")[0]
                name = b"%x " % self._born(answer.zxid, above) + path
                expect(name not in self.sequential, "a sequence number was given twice:", path)
                self.sequential.add(name)

    def _born(self, zxid: int, path: bytes) -> int:
        """Return the czxid of the node C{path} as it was when C{zxid} had been applied."""
        model = self.base.copy()
        for write in self.writes[: zxid - model.zxid]:
            model.write(write)
        node = model.nodes.get(path)
        return node.czxid if node is not None else -zxid

    # -- after a crash

    def _compare(self, life: Life) -> None:
        """Find out how much survived, and whether that is all that had to and nothing else."""
        core = life.core
        zxid = core.last_zxid
        expect(zxid >= self.shown, "clients were shown a zxid that is gone:", self.shown, "of", zxid)
        expect(zxid <= self.base.zxid + len(self.writes), "more survived than was asked for", zxid)
        for write in self.writes[: zxid - self.base.zxid]:
            self.base.write(write)
        self._same(core, self.base)
        check_tree(core)
        self.model = self.base.copy()
        self.writes = []
        if self.random.random() < 0.8:
            self._restore_from_each_snapshot()

    def _same(self, core: Any, model: Model) -> None:
        nodes = nodes_of(core.tree)
        wrong = {
            path: (nodes.get(path), model.nodes.get(path))
            for path in nodes.keys() | model.nodes.keys()
            if nodes.get(path) != model.nodes.get(path)
        }
        expect(not wrong, f"after zxid {model.zxid} these nodes are not what they have to be:", wrong)
        expect(dict(core.timeouts) == model.sessions, "the sessions are", dict(core.timeouts), model.sessions)

    def _restore_from_each_snapshot(self) -> None:
        """Each snapshot that is left has to lead to the same tree, by the logs that are left."""
        same = self.log_disk is self.snap_disk
        names = sorted((int(name.split(".")[1], 16), name) for name in self.snap_disk.files if name[:4] == "snap")
        for index in range(len(names) - 1):
            newer = {name for _, name in names[index + 1 :]}
            log_disk, snap_disk = MemoryDisk(), MemoryDisk()
            log_disk.files = {name: data for name, data in self.log_disk.files.items() if name[:3] == "log"}
            snap_disk.files = {name: data for name, data in self.snap_disk.files.items() if name[:4] == "snap"}
            snap_disk.files = {name: data for name, data in snap_disk.files.items() if name not in newer}
            expect(same or not any(name[:3] == "log" for name in self.snap_disk.files), "a log among snapshots")
            life = Life(log_disk, snap_disk, self.at, Random(1))
            life.begin()
            self._same(life.core, self.base)
            check_tree(life.core)
            self.snapshots += 1

    def _last_life(self) -> None:
        """Sessions live until their timeout and not longer; then all stays as it is."""
        life = self._start()
        life.begin()
        self._compare(life)
        core = life.core
        lasting = {path: _what(node) for path, node in nodes_of(core.tree).items() if not node.owner}
        life.turn(5)
        life.flushed()
        expect(dict(core.timeouts) == self.base.sessions, "a session ended before its time")
        for _ in range(6):
            life.turn(2)
        expect(not core.sessions.deadline(), "a session outlives its timeout")
        if self.random.random() < 0.5:
            # A crash while the ends of the sessions are on their way: each is gone with its nodes, or neither.
            self._crash(life)
            life = self._start()
            life.begin()
            core = life.core
            check_tree(core)
            for session_id in core.timeouts:
                owned = {path for path, node in self.base.nodes.items() if node.owner == session_id}
                expect(set(core.tree.ephemerals.get(session_id, ())) == owned, "half of a session's nodes")
            for _ in range(10):
                life.turn(2)
        life.settle()
        nodes = nodes_of(core.tree)
        expect(not core.timeouts and not core.tree.ephemerals, "a session outlived its timeout")
        left = {path: _what(node) for path, node in nodes.items() if not node.owner}
        expect(left == lasting, "lasting nodes have changed")
        check_tree(core)
        life.stop()
        zxid = core.last_zxid
        self.at = life.clock.seconds()
        life = self._start()
        life.begin()
        expect(nodes_of(life.core.tree) == nodes, "an orderly restart changed nodes")
        expect(life.core.last_zxid == zxid, "an orderly restart changed the zxid")
        check_tree(life.core)


def _what(node: Node) -> tuple[object, ...]:
    """Return what the end of somebody else's session does not change."""
    return node._replace(pzxid=0)
