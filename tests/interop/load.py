"""
Clients that write to an ensemble while a test does things to it, and remember what they were promised.

Each has one session, which it takes along from server to server; what it was promised is compared with the tree at the
end. Knows the raw protocol and the promises: what is acknowledged is there, in the order of each session; what a
session has seen it never sees older; a session whose client comes back in time is kept. Refuses to know what happens
to the servers.
"""

from __future__ import annotations

import contextlib
import random
import struct
import threading
import time
from collections.abc import Iterator, Mapping

from tests.interop.ensembles import PATIENCE, Ensemble, until
from tests.interop.rawclient import OPEN_ACL, Closed, RawSession, Silent, buffer
from tests.interop.trees import CREATE, EPHEMERAL, GET_DATA, SEQUENTIAL, SET_DATA, Tree

ROOT = "/load"
#: No writer is away for so long, and the tree is compared before it is over.
SESSION_MS = 300000
BATCH = 4
#: Seconds between two batches: enough work to be in the middle of some at any moment, and a tree that is soon compared.
PAUSE = 0.01
#: Seconds without an answer after which a client tries another server: one that is stopped never answers.
ANSWER = 1.0
STAT_CZXID, STAT_EPHEMERAL_OWNER = 0, 7


class Writer(threading.Thread):
    """One client: it creates, sets its register, and reads another's register, until it is told to stop."""

    def __init__(self, ports: list[int], name: int, others: int, seed: int) -> None:
        super().__init__(name=f"writer-{name}", daemon=True)
        self.ports = ports
        self.chance = random.Random(seed)
        self.top = f"{ROOT}/{name}"
        self.register = f"{ROOT}/register-{name}"
        self.watched = f"{ROOT}/register-{(name + 1) % others}"
        self.acknowledged: dict[str, int] = {}
        self.register_acknowledged = 0
        self.register_seen = 0
        self.counter = 0
        self.zxid = 0
        self.moves = 0
        self.failure: BaseException | None = None
        self._stopping = threading.Event()
        self.session = self._first()
        self.session_id = self.session.session_id
        self.password = self.session.password

    @property
    def count(self) -> int:
        """How many writes were acknowledged so far."""
        return len(self.acknowledged) + self.register_acknowledged

    def _first(self) -> RawSession:
        session = RawSession(self.ports[0], SESSION_MS)
        for path, flags in ((self.top, 0), (self.register, 0), (f"{self.top}/alive", EPHEMERAL)):
            session.create(path, b"0", flags)
        session.connection.timeout = ANSWER
        return session

    def run(self) -> None:
        """Write, and move on when the connection is lost."""
        try:
            while not self._stopping.wait(PAUSE):
                try:
                    self._batch()
                except (Closed, Silent):
                    self.session.connection.close()
                    self._move()
        except BaseException as error:  # noqa: BLE001 told by `finish`, in the test's thread
            self.failure = error
        finally:
            self.session.connection.close()

    def _batch(self) -> None:
        """Send some requests at once and take their answers in order."""
        kinds = [self.chance.choice((CREATE, SET_DATA, SET_DATA, GET_DATA)) for _ in range(BATCH)]
        numbers = []
        frames = []
        for xid, kind in enumerate(kinds):
            self.counter += kind != GET_DATA
            numbers.append(self.counter)
            frames.append(struct.pack(">ii", xid + 1, kind) + self._body(kind))
        self.session.connection.send(*frames)
        for xid, (kind, number) in enumerate(zip(kinds, numbers, strict=True)):
            frame = self.session.connection.receive()
            got, zxid, err = struct.unpack_from(">iqi", frame)
            assert got == xid + 1, "an answer is missing or out of order"
            assert err == 0, f"error {err}"
            assert zxid >= self.zxid, "the zxid of an answer went back"
            self.zxid = zxid
            self._note(kind, number, frame[16:])

    def _body(self, kind: int) -> bytes:
        data = buffer(b"%d" % self.counter)
        if kind == CREATE:
            return buffer(f"{self.top}/n-".encode()) + data + OPEN_ACL + struct.pack(">i", SEQUENTIAL)
        if kind == SET_DATA:
            return buffer(self.register.encode()) + data + struct.pack(">i", -1)
        return buffer(self.watched.encode()) + b"\0"

    def _note(self, kind: int, number: int, body: bytes) -> None:
        if kind == CREATE:
            self.acknowledged[body[4:].decode()] = number
        elif kind == SET_DATA:
            self.register_acknowledged = number
        else:
            seen = int(body[4 : 4 + int.from_bytes(body[:4], "big")])
            assert seen >= self.register_seen, "a session saw something older than before"
            self.register_seen = seen

    def _move(self) -> None:
        """Take the session to another server, and find there what was seen before."""
        deadline = time.monotonic() + PATIENCE
        while not self._stopping.is_set():
            assert time.monotonic() < deadline, "no server takes the session"
            try:
                self.session = RawSession(
                    self.chance.choice(self.ports), SESSION_MS, self.session_id, self.password, self.zxid, ANSWER
                )
                assert self.session.session_id == self.session_id, "the session is lost"
                if self.acknowledged:
                    last = next(reversed(self.acknowledged))
                    _, err, _ = self.session.call(GET_DATA, buffer(last.encode()) + b"\0")
                    assert err == 0, f"{last} was acknowledged and is not there after a move: error {err}"
            except (OSError, Closed, Silent):
                self.session.connection.close()
                self._stopping.wait(0.05)
            else:
                self.moves += 1
                return

    def finish(self) -> None:
        """Stop, and raise what went wrong."""
        self._stopping.set()
        self.join(PATIENCE)
        assert not self.is_alive()
        if self.failure is not None:
            raise AssertionError(f"{self.name}: {self.failure}") from self.failure

    def check(self, tree: Mapping[str, Tree]) -> None:
        """Compare with the tree at the end."""
        names = sorted(path for path in tree if path.startswith(f"{self.top}/n-"))
        lost = self.acknowledged.keys() - set(names)
        assert not lost, f"{self.name}: acknowledged and lost: {sorted(lost)[:5]}"
        numbers = [int(tree[path].data or b"0") for path in names]
        assert numbers == sorted(set(numbers)), f"{self.name}: not in the order of its session, or twice"
        for path, number in self.acknowledged.items():
            assert tree[path].data == b"%d" % number
        czxids = [tree[path].stat[STAT_CZXID] for path in names]
        assert czxids == sorted(czxids)
        register = int(tree[self.register].data or b"0")
        assert self.register_acknowledged <= register <= self.counter, self.name
        alive = tree.get(f"{self.top}/alive")
        assert alive is not None, f"{self.name}: its ephemeral is gone"
        assert alive.stat[STAT_EPHEMERAL_OWNER] == self.session_id


class Load:
    """Several writers at once."""

    def __init__(self, ensemble: Ensemble, writers: int, seed: int = 1) -> None:
        self.ensemble = ensemble
        session = ensemble.session(ensemble.leader())
        session.create(ROOT)
        session.close()
        ports = [member.port for member in ensemble.members.values()]
        self.writers = [
            Writer(ports[name % len(ports) :] + ports[: name % len(ports)], name, writers, seed + name)
            for name in range(writers)
        ]
        for writer in self.writers:
            writer.start()

    @property
    def count(self) -> int:
        """How many writes were acknowledged so far."""
        return sum(writer.count for writer in self.writers)

    def progress(self, writes: int = 50) -> None:
        """Return when each writer has had some more writes acknowledged."""
        before = {writer: writer.count for writer in self.writers}

        def written() -> bool:
            failed = [writer for writer in self.writers if writer.failure is not None]
            for writer in failed:
                writer.finish()
            return all(writer.count >= before[writer] + writes for writer in self.writers)

        until(written, lambda: f"all writers go on: {[writer.count - before[writer] for writer in self.writers]}")

    def finish(self) -> None:
        """Stop all, and compare what they were promised with the one tree that all servers have."""
        for writer in self.writers:
            writer.finish()
        tree = self.ensemble.assert_equal(java_digests=False)
        for writer in self.writers:
            writer.check(tree)


@contextlib.contextmanager
def under_load(ensemble: Ensemble, writers: int, seed: int = 1) -> Iterator[Load]:
    """Give an ensemble that is being written to; at the end every promise is looked at."""
    load = Load(ensemble, writers, seed)
    try:
        yield load
        load.finish()
    finally:
        for writer in load.writers:
            writer._stopping.set()
            writer.join(PATIENCE)
