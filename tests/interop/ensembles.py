"""
Several servers that are one ensemble, of any mix of kinds: ours, Java 3.8.0, Java 3.9.5.

Knows ports, configurations, processes, who leads, and how the trees of all servers are compared. A member can be ended
and come back as another kind on the same data directory: that is migration. Refuses to know what a test is about.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from tests.interop import trees
from tests.interop.clients import servers
from tests.interop.links import ELECTION, QUORUM, Links
from tests.interop.process import ATTEMPT, HOST, PATIENCE, Reserved, ServerFailure, ServerProcess, four_letter_word
from tests.interop.rawclient import NO_PASSWORD, Closed, RawSession, Silent
from tests.interop.trees import Tree

#: The kind under test: ours, unless ZKTWISTED_TEST_SERVER puts a Java server in its place.
OURS = servers.OURS
JAVA = servers.JAVA_380
JAVA_395 = servers.JAVA_395
WILDCARD = "0.0.0.0"
LEADER, FOLLOWER, OBSERVER = "leader", "follower", "observer"
CONFIG = {"tickTime": "500", "initLimit": "30", "syncLimit": "20", "maxSessionTimeout": "300000", **trees.CONFIG}
CONFIG_NODE = "/zookeeper/config"

T = TypeVar("T")


def until(ask: Callable[[], T | None], what: Callable[[], str], patience: float = PATIENCE) -> T:
    """Ask again and again until the answer is not None or False; *what* tells what did not come to be."""
    deadline = time.monotonic() + patience
    while True:
        answer = ask()
        if answer is not None and answer is not False:
            return answer
        assert time.monotonic() < deadline, f"within {patience} s it did not come to be that {what()}"
        # Another process is waited for, and it tells nobody.
        time.sleep(0.03)


class Member:
    """One server of an ensemble: its id, its ports and its data stay, its process and even its kind may change."""

    def __init__(self, sid: int, kind: str, observer: bool, directory: Path, host: str = HOST) -> None:
        self.sid = sid
        self.host = host
        self.kind = kind
        self.observer = observer
        self.directory = directory
        self.data_dir = directory / "data"
        self.data_dir.mkdir(parents=True)
        (self.data_dir / "myid").write_text(f"{sid}\n", "ascii")
        # Behind relays a server listens on all addresses.
        place = "" if host == HOST else host
        self.reserved = [Reserved(), Reserved(place), Reserved(place)]
        self.port, self.quorum_port, self.election_port = (held.port for held in self.reserved)
        self.process: ServerProcess | None = None
        self.processes: list[ServerProcess] = []
        self.stopped = False

    @property
    def role(self) -> str:
        """What the configuration says that it is."""
        return "observer" if self.observer else "participant"

    @property
    def played_by(self) -> str:
        """Its kind, or the kind that is tried in place of ours."""
        return servers.kind_under_test() if self.kind == OURS else self.kind

    @property
    def running(self) -> ServerProcess:
        """Its process."""
        assert self.process is not None, f"server {self.sid} was not started"
        return self.process

    def mode(self) -> str | None:
        """Return what it says that it is: leader, follower, observer; None while it does not serve."""
        if self.process is None or self.stopped:
            return None
        if not self.process.running():
            raise ServerFailure(f"server {self.sid} ended on its own:\n{self.process.said()}")
        try:
            text = four_letter_word(self.port, b"srvr", ATTEMPT).decode()
        except OSError:
            return None
        found = [line.removeprefix("Mode: ") for line in text.splitlines() if line.startswith("Mode: ")]
        return found[0] if found else None

    def zxid(self) -> int:
        """Return the last zxid that it says it has applied."""
        text = four_letter_word(self.port, b"srvr").decode()
        return int(next(line for line in text.splitlines() if line.startswith("Zxid: "))[6:], 16)

    def wipe(self) -> None:
        """Take its data from it, but not its id; it must not be running."""
        assert self.process is None
        shutil.rmtree(self.data_dir / "version-2")

    def logs_hold(self, marker: bytes) -> bool:
        """Say whether its transaction log has these bytes on disk."""
        return any(marker in path.read_bytes() for path in (self.data_dir / "version-2").glob("log.*"))


class Ensemble:
    """
    The servers of one test by their ids.

    *kinds* says which server is of which kind, *observers* which are no voters. With *linked* everything between
    servers passes through relays that a test can cut. With *master_port* observers listen to followers; that port is
    the same for all, so every server has a loopback address of its own.
    """

    def __init__(
        self,
        directory: Path,
        kinds: Mapping[int, str],
        observers: Iterable[int] = (),
        config: Mapping[str, str] | None = None,
        linked: bool = False,
        properties: Mapping[str, str] | None = None,
        master_port: bool = False,
    ) -> None:
        voters_no_more = frozenset(observers)
        self.config = {**CONFIG, **(config or {})}
        self.properties = properties
        hosts = {sid: f"127.0.0.{sid + 1}" if master_port else HOST for sid in kinds}
        self.members = {
            sid: Member(sid, kind, sid in voters_no_more, directory / str(sid), hosts[sid])
            for sid, kind in kinds.items()
        }
        if master_port:
            first, *others = self.members.values()
            first.reserved.append(Reserved(first.host))
            port = first.reserved[-1].port
            self.config["observerMasterPort"] = str(port)
            for member in others:
                member.reserved.append(Reserved(member.host, port))
        self.links = Links() if linked else None
        self._sessions: list[RawSession] = []
        self._addresses: dict[tuple[int, int], str] = {}
        for one in self.members.values():
            for other in self.members.values():
                self._addresses[one.sid, other.sid] = self._address(one, other)

    def _address(self, one: Member, other: Member) -> str:
        """Return how *other* is called in the configuration of *one*."""
        quorum, election = other.quorum_port, other.election_port
        host = other.host
        if self.links is not None:
            if one is other:
                host = WILDCARD
            else:
                quorum = self.links.add(QUORUM, one.sid, other.sid, quorum)
                election = self.links.add(ELECTION, one.sid, other.sid, election)
        return f"{host}:{quorum}:{election}:{other.role}"

    def __getitem__(self, sid: int) -> Member:
        return self.members[sid]

    def running(self) -> list[Member]:
        """Return the members that are started and not stopped in their tracks."""
        return [member for member in self.members.values() if member.process is not None and not member.stopped]

    def hosts(self, *sids: int) -> str:
        """Return a client's connection string of some servers, of all unless told."""
        return ",".join(f"{HOST}:{self.members[sid].port}" for sid in sids or self.members)

    def start(self, *sids: int, wait: bool = True) -> None:
        """Start some servers, all that are not running unless told, and return when all running ones serve."""
        for sid in sids or [sid for sid, member in self.members.items() if member.process is None]:
            member = self.members[sid]
            assert member.process is None
            config = {
                **self.config,
                **{f"server.{other}": self._addresses[sid, other] for other in self.members},
                **({"peerType": "observer"} if member.observer else {}),
            }
            turn = member.directory / f"turn-{len(member.processes)}"
            process = servers.make_server(member.played_by, turn, config, self.properties, member.data_dir)
            process.port = member.port
            member.process = process
            member.processes.append(process)
            process.start(wait=False)
        if wait:
            self.wait()

    def wait(self) -> int:
        """Wait until every running server serves, and one of them leads; return its id."""
        return until(self._settled, lambda: f"all servers serve: {self._modes()}")

    def _modes(self) -> dict[int, str | None]:
        return {member.sid: member.mode() for member in self.running()}

    def _settled(self) -> int | None:
        modes = self._modes()
        leaders = [sid for sid, mode in modes.items() if mode == LEADER]
        expected = {OBSERVER if self.members[sid].observer else FOLLOWER for sid in modes if sid not in leaders}
        return leaders[0] if len(leaders) == 1 and {*modes.values()} == {LEADER, *expected} else None

    def leader(self) -> int:
        """Return who leads, waiting until somebody does."""
        return self.wait()

    def follower(self) -> int:
        """Return the follower with the smallest id."""
        leader = self.wait()
        return min(member.sid for member in self.running() if member.sid != leader and not member.observer)

    def stop(self, sid: int) -> None:
        """End a server politely."""
        self._ended(sid, lambda process: process.stop())

    def kill9(self, *sids: int) -> None:
        """End servers as a crash does, those that are stopped too."""
        for sid in sids:
            self._ended(sid, lambda process: process.kill9())

    def _ended(self, sid: int, end: Callable[[ServerProcess], object]) -> None:
        member = self.members[sid]
        end(member.running)
        member.process = None
        member.stopped = False

    def ends(self, sid: int) -> int:
        """Wait until a server ends on its own, and return its exit status."""
        member = self.members[sid]
        status = member.running.wait(PATIENCE)
        member.process = None
        return status

    def freeze(self, *sids: int) -> None:
        """Stop servers in their tracks: SIGSTOP."""
        for sid in sids:
            self._signal(sid, signal.SIGSTOP)
            self.members[sid].stopped = True

    def thaw(self, *sids: int) -> None:
        """Let servers go on: SIGCONT."""
        for sid in sids:
            self._signal(sid, signal.SIGCONT)
            self.members[sid].stopped = False

    def _signal(self, sid: int, number: signal.Signals) -> None:
        process = self.members[sid].running
        assert process.running(), process.said()
        with contextlib.suppress(ProcessLookupError):
            process.send(number)

    def become(self, sid: int, kind: str) -> None:
        """End a server politely and start another kind of server in its place, on its data."""
        self.stop(sid)
        self.members[sid].kind = kind
        self.start(sid)

    def session(
        self, sid: int, timeout_ms: int = 40000, session_id: int = 0, password: bytes = NO_PASSWORD, last_zxid: int = 0
    ) -> RawSession:
        """
        Open a session at a server, or take one up, as soon as the server serves; its connection ends with the test.

        Whether a session was refused (its id is 0) is the test's to see.
        """

        def attempt() -> RawSession | None:
            try:
                return RawSession(self.members[sid].port, timeout_ms, session_id, password, last_zxid)
            except (OSError, Closed, Silent):
                return None

        session = until(attempt, lambda: f"server {sid} answers who asks for a session")
        self._sessions.append(session)
        return session

    def zxid(self) -> int:
        """Return the last zxid that all running servers have applied, when it is the same; something was written."""

        def same() -> int | None:
            found = {member.zxid() for member in self.running()}
            return found.pop() if len(found) == 1 else None

        return until(same, lambda: "all servers have applied the same")

    def trees(self) -> dict[int, dict[str, Tree]]:
        """
        Return the tree of every running server, each with everything that was committed before.

        Servers that have stood still for longer than the others bear elect again, and end their connections.
        """

        def read() -> dict[int, dict[str, Tree]] | None:
            try:
                return self._trees()
            except (OSError, Closed, Silent):
                return None

        return until(read, lambda: f"all servers serve while they are read: {self._modes()}")

    def _trees(self) -> dict[int, dict[str, Tree]]:
        self.wait()
        found = {}
        with contextlib.ExitStack() as connections:
            readers = {
                member.sid: connections.enter_context(administrating(member.running)) for member in self.running()
            }
            for sid, reader in readers.items():
                _, err, _ = reader.call(trees.SYNC, trees.buffer(b"/"))
                assert err == 0
                found[sid] = trees.read_tree(reader)
        for tree in found.values():
            # Every server writes its own configuration there, with its own clock; it is no part of what is agreed.
            tree[CONFIG_NODE] = Tree(b"", (), b"", ())
        return found

    def assert_equal(self, java_digests: bool = True) -> dict[str, Tree]:
        """
        All running servers have the same tree, and none of them ever met a digest that was not its own.

        Without *java_digests* only ours are asked for the latter: Java 3.8.0 at times counts a mismatch when it is
        brought up to date in the midst of writes, also among its own kind, and then has the right tree all the same.
        """
        found = self.trees()
        first, *others = found
        for sid in others:
            differing = [
                (path, found[first].get(path), found[sid].get(path))
                for path in sorted(found[first].keys() | found[sid].keys())
                if found[first].get(path) != found[sid].get(path)
            ]
            assert not differing, f"servers {first} and {sid} differ: {differing[:3]}"
        digests: dict[str, str] = {}
        for member in self.running():
            if java_digests or member.played_by == OURS:
                assert int(servers.monitor(member.running)["digest_mismatches_count"]) == 0, f"server {member.sid}"
            for line in four_letter_word(member.port, b"hash").decode().splitlines():
                zxid, _, digest = line.partition(": ")
                assert digests.setdefault(zxid, digest) == digest, f"server {member.sid}: {line}"
        return found[first]

    def close(self) -> None:
        """End all that was started."""
        for session in self._sessions:
            session.connection.close()
        for member in self.members.values():
            for process in member.processes:
                process.kill9()
            for held in member.reserved:
                held.close()
        if self.links is not None:
            self.links.close()

    def failures(self) -> list[str]:
        """Return what our servers said of exceptions that they did not foresee."""
        processes = [process for member in self.members.values() for process in member.processes]
        return [line for process in processes for line in servers.failures(process)]


@contextlib.contextmanager
def administrating(server: ServerProcess) -> Iterator[RawSession]:
    """Give a session that may read everything, and close it."""
    session = trees.administrator(server)
    try:
        yield session
    finally:
        session.close()
