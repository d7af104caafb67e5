"""
A server process is killed, or its disk is full, in the middle of many pipelined writes: nothing acknowledged is lost.

Which request comes next, on which connection, and after how many answers the server is killed, all comes from one seed;
what the disk had done by then does not, which is the point. ``ZKTWISTED_SEED`` chooses another seed,
``ZKTWISTED_CRASH_ROUNDS`` another number of rounds.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import struct
import subprocess
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.interop import rawclient
from tests.interop.clients import servers
from tests.interop.conftest import MakeServer
from tests.interop.process import ServerProcess
from tests.interop.rawclient import CLOSE_SESSION, Closed, RawSession, buffer

SEED = int(os.environ.get("ZKTWISTED_SEED", "20240229"))
ROUNDS = int(os.environ.get("ZKTWISTED_CRASH_ROUNDS", "50"))
WRITERS = 4
PIPELINE = 16
EPHEMERAL, SEQUENTIAL = 1, 2
CREATE, EXISTS, GET_DATA, SET_DATA, GET_CHILDREN, MULTI = 1, 3, 4, 5, 8, 14
NODE_DELETED = 2
#: Sessions of a crashed writer live this long after the crash.
SESSION_MS = 6000
CONFIG = {"tickTime": "250", "maxSessionTimeout": "40000", "snapCount": "200"}
MEBIBYTE = 1 << 20


class Ledger:
    """What was acknowledged, over all crashes."""

    def __init__(self) -> None:
        self.sequential: dict[str, bytes] = {}
        self.registers: dict[str, int] = {}
        self.attempted: dict[str, int] = {}
        self.pairs: set[int] = set()
        self.next_pair = 0
        self.zxid = 0
        self.answers = 0


class Writer:
    """One connection with its pipeline of requests; its answers go to the ledger."""

    def __init__(self, server: ServerProcess, ledger: Ledger, chance: random.Random, name: str) -> None:
        self.session = RawSession(server.port, SESSION_MS)
        self.ledger = ledger
        self.chance = chance
        self.register = f"/register/{name}"
        ledger.registers.setdefault(self.register, 0)
        ledger.attempted.setdefault(self.register, 0)
        self._waiting: deque[Callable[[bytes], None]] = deque()
        self._xid = 1000

    def fill(self) -> None:
        """Send requests until the pipeline is full."""
        while len(self._waiting) < PIPELINE:
            self.chance.choices([self.draw, self.write, self.pair, self.bind], [5, 3, 2, 1])[0]()

    def send(self, opcode: int, body: bytes, acknowledged: Callable[[bytes], None]) -> None:
        """Send one request; ``acknowledged`` gets the body of its answer."""
        self._xid += 1
        self._waiting.append(acknowledged)
        self.session.connection.send(struct.pack(">ii", self._xid, opcode) + body)

    def receive(self) -> None:
        """Take one answer, which must be the oldest request's and no error."""
        frame = self.session.connection.receive()
        xid, zxid, err = struct.unpack_from(">iqi", frame)
        assert xid == self._xid - len(self._waiting) + 1, "an answer is missing or out of order"
        assert err == 0
        self.ledger.zxid = max(self.ledger.zxid, zxid)
        self.ledger.answers += 1
        self._waiting.popleft()(frame[16:])

    def drain(self) -> None:
        """Take the answers that the server had sent before it died."""
        with contextlib.suppress(Closed):
            while True:
                self.receive()
        self.session.connection.close()

    def draw(self) -> None:
        """Create a sequential node."""
        data = self.chance.randbytes(self.chance.choice((0, 10, 1000)))

        def acknowledged(answer: bytes) -> None:
            path = answer[4:].decode()
            assert path not in self.ledger.sequential, f"{path} was given twice"
            self.ledger.sequential[path] = data

        self.send(CREATE, creation("/drawn/n-", data, SEQUENTIAL), acknowledged)

    def write(self) -> None:
        """Set this writer's register to the number of its writes."""
        number = self.ledger.attempted[self.register] = self.ledger.attempted[self.register] + 1

        def acknowledged(answer: bytes) -> None:
            self.ledger.registers[self.register] = number

        body = buffer(self.register.encode()) + buffer(b"%d" % number) + struct.pack(">i", -1)
        self.send(SET_DATA, body, acknowledged)

    def pair(self) -> None:
        """Create two nodes in one transaction."""
        number = self.ledger.next_pair
        self.ledger.next_pair += 1
        body = b"".join(
            struct.pack(">i?i", CREATE, False, -1) + creation(f"/pairs/{half}-{number}", b"", 0) for half in "ab"
        )

        def acknowledged(answer: bytes) -> None:
            self.ledger.pairs.add(number)

        self.send(MULTI, body + struct.pack(">i?i", -1, True, -1), acknowledged)

    def bind(self) -> None:
        """Create an ephemeral node."""
        self.send(CREATE, creation("/bound/e-", b"", EPHEMERAL | SEQUENTIAL), lambda answer: None)


def creation(path: str, data: bytes, flags: int) -> bytes:
    """Encode the body of a create."""
    return buffer(path.encode()) + buffer(data) + rawclient.OPEN_ACL + struct.pack(">i", flags)


def children(session: RawSession, path: str) -> set[str]:
    """Return the names of a node's children."""
    _, err, body = session.call(GET_CHILDREN, buffer(path.encode()) + b"\0")
    assert err == 0
    names, offset = set(), 4
    while offset < len(body):
        length = int.from_bytes(body[offset : offset + 4], "big")
        names.add(body[offset + 4 : offset + 4 + length].decode())
        offset += 4 + length
    return names


def data_of(session: RawSession, path: str) -> bytes:
    """Return a node's data."""
    _, err, body = session.call(GET_DATA, buffer(path.encode()) + b"\0")
    assert err == 0, f"{path} was acknowledged and is not there"
    length = int.from_bytes(body[:4], "big", signed=True)
    return body[4 : 4 + max(0, length)]


@contextlib.contextmanager
def visiting(server: ServerProcess) -> Iterator[RawSession]:
    """Give a session, and close it."""
    session = RawSession(server.port)
    try:
        yield session
    finally:
        session.close()


def prepare(server: ServerProcess) -> None:
    """Create the nodes below which the writers write."""
    with visiting(server) as session:
        for path in ("/drawn", "/register", "/pairs", "/bound", "/guests"):
            session.create(path)
        for writer in range(WRITERS):
            session.create(f"/register/{writer}", b"0")


def check(server: ServerProcess, ledger: Ledger, fresh: set[str]) -> None:
    """Everything acknowledged is there: ``fresh`` of the drawn nodes with their data, the others by name."""
    with visiting(server) as session:
        zxid, _, _ = session.call(EXISTS, buffer(b"/") + b"\0")
        assert zxid > ledger.zxid, "the server went back in time"
        names = {f"/drawn/{name}" for name in children(session, "/drawn")}
        assert ledger.sequential.keys() <= names, sorted(ledger.sequential.keys() - names)[:5]
        for path in fresh:
            assert data_of(session, path) == ledger.sequential[path]
        for register, number in ledger.registers.items():
            found = int(data_of(session, register))
            assert number <= found <= ledger.attempted[register], register
            # What was written and not acknowledged counts from now on, if it is there.
            ledger.registers[register] = found
        pairs = children(session, "/pairs")
        halves = [{int(name[2:]) for name in pairs if name.startswith(half)} for half in "ab"]
        assert halves[0] == halves[1], "half of a transaction is there"
        assert ledger.pairs <= halves[0]
        assert children(session, "/guests") == set(), "a closed session has ephemerals"


def guest(server: ServerProcess) -> None:
    """Open a session with ephemerals and close it."""
    session = RawSession(server.port)
    session.create("/guests/e-", b"", EPHEMERAL | SEQUENTIAL)
    session.create("/guests/e-", b"", EPHEMERAL | SEQUENTIAL)
    assert session.call(CLOSE_SESSION)[1] == 0
    session.connection.close()


def crash(server: ServerProcess, ledger: Ledger, chance: random.Random, end: Callable[[], object]) -> None:
    """Write on all connections, and call ``end`` after some answers."""
    writers = [Writer(server, ledger, chance, str(name)) for name in range(WRITERS)]
    guest(server)
    for _ in range(chance.randrange(1, 300)):
        writer = chance.choice(writers)
        writer.fill()
        writer.receive()
    for writer in writers:
        writer.fill()
    end()
    for writer in writers:
        writer.drain()


def until_no_ephemerals(server: ServerProcess) -> None:
    """Wait until the sessions of the dead writers have expired and their nodes are gone."""
    with visiting(server) as session:
        for name in children(session, "/bound"):
            path = f"/bound/{name}".encode()
            if session.call(EXISTS, buffer(path) + b"\1")[1] == 0:
                while (NODE_DELETED, path) not in session.events:
                    frame = session.connection.receive()
                    session.events.append((int.from_bytes(frame[16:20], "big"), frame[28:]))
        assert children(session, "/bound") == set()


def test_killed_in_the_middle_of_writes(make_server: MakeServer) -> None:
    """After each of many crashes everything acknowledged is there, once, and nothing of closed sessions is."""
    chance = random.Random(SEED)
    ledger = Ledger()
    server = make_server(config=CONFIG)
    server.start()
    prepare(server)
    for round_number in range(ROUNDS):
        known = set(ledger.sequential)
        crash(server, ledger, chance, server.kill9)
        server.start()
        try:
            check(server, ledger, set(ledger.sequential) - known)
        except AssertionError as error:
            raise AssertionError(f"seed {SEED}, round {round_number}: {error}") from error
    until_no_ephemerals(server)
    assert int(servers.monitor(server)["digest_mismatches_count"]) == 0, server.output
    assert ledger.answers > 20 * ROUNDS


def test_stopped_in_the_middle_of_writes(make_server: MakeServer) -> None:
    """SIGTERM under load ends the server with status 0 and loses nothing either."""
    chance = random.Random(SEED + 1)
    ledger = Ledger()
    server = make_server(config=CONFIG)
    server.start()
    prepare(server)
    statuses: list[int | None] = []
    for _ in range(3):
        crash(server, ledger, chance, lambda: statuses.append(server.stop()))
        server.start()
        check(server, ledger, set(ledger.sequential))
    if servers.kind_under_test() == servers.OURS:
        assert statuses == [0, 0, 0], server.output


def write_until_it_ends(server: ServerProcess) -> tuple[set[str], int]:
    """Write nodes of some size until the server is gone; return what was acknowledged and its exit status."""
    acknowledged = set()
    session = RawSession(server.port, 20000)
    with contextlib.suppress(Closed):
        while True:
            acknowledged.add(session.create("/drawn/n-", bytes(20000), SEQUENTIAL))
    session.connection.close()
    return acknowledged, server.wait()


def check_end(server: ServerProcess, output_before: str, status: int, reason: str) -> None:
    """The server ended with an error and said why in one line."""
    if servers.kind_under_test() == servers.OURS:
        assert status not in (0, None), server.output
        # Beside that line there is the log, which twist writes as JSON when nobody watches.
        lines = server.output[len(output_before) :].splitlines()
        said = [line for line in lines if reason in line and not line.startswith("{")]
        assert len(said) == 1, server.output
        assert "Traceback" not in server.output


def check_drawn(server: ServerProcess, acknowledged: set[str]) -> None:
    """All nodes acknowledged before are there, whole, and the server takes more."""
    with visiting(server) as session:
        assert acknowledged <= {f"/drawn/{name}" for name in children(session, "/drawn")}
        for path in acknowledged:
            assert data_of(session, path) == bytes(20000)
        assert session.create("/drawn/n-", b"more", SEQUENTIAL) not in acknowledged
    assert int(servers.monitor(server)["digest_mismatches_count"]) == 0, server.output


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return the mount point of a file system of four mebibytes."""
    point = tmp_path / "disk"
    point.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16m", "zktwisted-test", str(point)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small file system can only be mounted by root; the next test limits the size of files instead")
    yield point
    subprocess.run(["umount", "--lazy", str(point)], check=True)


def test_full_disk(make_server: MakeServer, small_disk: Path) -> None:
    """A server whose disk is full stops before it acknowledges, says so, and goes on when there is room."""
    server = make_server(config=CONFIG, data_dir=small_disk / "data")
    server.start()
    prepare(server)
    filler = small_disk / "filler"
    filler.write_bytes(bytes(13 * MEBIBYTE))
    before = server.output
    acknowledged, status = write_until_it_ends(server)
    check_end(server, before, status, "No space left on device")
    filler.unlink()
    server.start()
    check_drawn(server, acknowledged)


def test_file_too_large(make_server: MakeServer) -> None:
    """The same when it is the size of files that is limited."""
    server = make_server(config=CONFIG)
    server.start()
    prepare(server)
    before = server.output
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (MEBIBYTE, resource.RLIM_INFINITY))
    acknowledged, status = write_until_it_ends(server)
    check_end(server, before, status, "File too large")
    server.start()
    check_drawn(server, acknowledged)
