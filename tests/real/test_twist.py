"""The command itself: what it prints, where it serves, and the status with which it ends."""

from __future__ import annotations

import os
import re
import resource
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 60.0
LINE = re.compile(r"^ZooKeeper serves on (\S+)(?: and (\S+))?, data in (\S+) \(zktwisted \S+\)$")
LOCAL = "tcp:0:interface=127.0.0.1"


class Twist:
    """One run of the command, in a directory of its own."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.endswith("JVMFLAGS")}
        environment["PYTHONPATH"] = str(ROOT)
        self.log = directory / "log"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "twisted", "--log-file", str(self.log), "zookeeper", *arguments],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def line(self) -> str:
        """Wait for the first line that it prints; an empty one if it ends without."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + PATIENCE
        text = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while not text.endswith(b"\n"):
                assert selector.select(deadline - time.monotonic()), f"nothing was printed after {text!r}"
                piece = os.read(self.process.stdout.fileno(), 4096)
                if not piece:
                    break
                text += piece
        return text.decode().rstrip("\n")

    def serving(self) -> re.Match[str]:
        """Wait until it serves; where is in the groups of the match."""
        line = self.line()
        match = LINE.match(line)
        if match is None:
            self.kill()
            pytest.fail(f"{line!r} is not the line of a server that serves: {self.process.communicate()[1].decode()}")
        return match

    def port(self) -> int:
        """Wait until it serves on a TCP port."""
        return int(self.serving()[1].rpartition(":")[2])

    def end(self) -> tuple[int, str]:
        """Wait for its end: exit status and standard error."""
        try:
            _, stderr = self.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        return self.process.returncode, stderr.decode()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to stop, and return the exit status."""
        self.process.send_signal(number)
        status, _ = self.end()
        return status

    def kill(self) -> None:
        """End it, however it is."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None and not stream.closed:
                stream.close()


class Launcher:
    """Starts commands in one directory, and ends them with the test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.started: list[Twist] = []

    def __call__(self, *arguments: str) -> Twist:
        self.started.append(Twist(self.directory, *arguments))
        return self.started[-1]

    def config(self, *lines: str) -> str:
        """Write a zoo.cfg with the data in this directory, and return its name."""
        path = self.directory / "zoo.cfg"
        path.write_text("\n".join([f"dataDir={self.directory / 'data'}", *lines]) + "\n")
        return str(path)


@pytest.fixture
def twist(tmp_path: Path) -> Iterator[Launcher]:
    """Return what starts the command."""
    launcher = Launcher(tmp_path)
    yield launcher
    for each in launcher.started:
        each.kill()


def ask(link: socket.socket, word: bytes) -> bytes:
    """Send a four-letter word and return the answer."""
    with link:
        link.settimeout(PATIENCE)
        link.sendall(word)
        answer = b""
        while piece := link.recv(65536):
            answer += piece
        return answer


def tcp(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), PATIENCE)


def test_nothing_but_an_endpoint(twist: Launcher) -> None:
    """Without a configuration it makes a data directory where it is, says so and serves; SIGTERM ends it with 0."""
    server = twist("--client-endpoint", LOCAL)
    match = server.serving()
    assert match[1].startswith("127.0.0.1:")
    assert Path(match[3]) == twist.directory / "zookeeper-data"
    assert (twist.directory / "zookeeper-data" / "version-2").is_dir()
    assert b"Mode: standalone" in ask(tcp(int(match[1].rpartition(":")[2])), b"srvr")
    assert server.stop() == 0


def test_interrupt(twist: Launcher) -> None:
    """Ctrl-C stops it in order, too."""
    server = twist("-e", LOCAL)
    server.serving()
    assert server.stop(signal.SIGINT) == 0


def test_configuration(twist: Launcher) -> None:
    """A zoo.cfg is followed: port 0 is any port, and the whitelist allows its words."""
    config = twist.config("clientPort=0", "clientPortAddress=127.0.0.1", "4lw.commands.whitelist=ruok, conf")
    server = twist("--config", config, "-Dzookeeper.maxCnxns=5", "--myid", "7")
    port = server.port()
    assert ask(tcp(port), b"ruok") == b"imok"
    answer = ask(tcp(port), b"conf").decode()
    assert "tickTime=3000\n" in answer
    assert f"dataDir={twist.directory / 'data' / 'version-2'}\n" in answer
    assert server.stop() == 0


def test_endpoints(twist: Launcher) -> None:
    """Several endpoints serve at once, a UNIX socket among them."""
    path = twist.directory / "s"
    server = twist("-e", LOCAL, "-e", f"unix:{path}")
    match = server.serving()
    assert match[2] == str(path)
    assert b"Zookeeper version" in ask(tcp(int(match[1].rpartition(":")[2])), b"srvr")
    link = socket.socket(socket.AF_UNIX)
    link.connect(str(path))
    assert b"Zookeeper version" in ask(link, b"srvr")
    assert server.stop() == 0
    assert not path.exists()


def test_behind_a_proxy(twist: Launcher) -> None:
    """A load balancer that speaks the PROXY protocol tells where clients come from."""
    server = twist("-e", f"haproxy:{LOCAL}", "-D", "4lw.commands.whitelist=cons")
    port = server.port()
    for said in (b"PROXY TCP4 10.9.8.7 10.9.8.1 5555 2181\r\n", b"PROXY TCP6 2001:db8::7 2001:db8::1 5555 2181\r\n"):
        client = said.split()[2]
        assert (b"10.9.8.7:5555" if b"." in client else b"2001:db8:0:0:0:0:0:7") in ask(tcp(port), said + b"cons")
    assert server.stop() == 0


def test_open_files(twist: Launcher) -> None:
    """It may have as many files open as the system allows, whatever it was started with."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    fewer = 1024 if hard == resource.RLIM_INFINITY else hard - 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (fewer, hard))
    try:
        server = twist("-e", LOCAL, "-D", "4lw.commands.whitelist=mntr")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert f"zk_max_file_descriptor_count\t{hard}\n".encode() in ask(tcp(server.port()), b"mntr")
    assert server.stop() == 0


def test_again(twist: Launcher) -> None:
    """It starts again on the data that it left."""
    for _ in range(2):
        server = twist("-e", LOCAL, "--data-dir", "data")
        assert b"Mode: standalone" in ask(tcp(server.port()), b"srvr")
        assert server.stop() == 0


def ends(server: Twist, status: int, *words: str) -> None:
    """Check that a run ends with a status and one line with these words on standard error, and serves nothing."""
    assert server.line() == ""
    ended, stderr = server.end()
    assert stderr.count("\n") == 1, stderr
    assert all(word in stderr for word in words), stderr
    assert ended == status


def test_port_in_use(twist: Launcher) -> None:
    """A port that is taken is named, with status 1."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ends(twist("-e", f"tcp:{port}:interface=127.0.0.1"), 1, f"127.0.0.1:{port}", "Address already in use")
        config = twist.config(f"clientPort={port}", "clientPortAddress=127.0.0.1")
        ends(twist("-c", config), 1, f"127.0.0.1:{port}", "Address already in use")


def test_no_directory(twist: Launcher) -> None:
    """A data directory that cannot be one is named, with status 3."""
    path = twist.directory / "file"
    path.write_text("")
    ends(twist("-e", LOCAL, "-d", str(path / "data")), 3, str(path))


def test_missing_directory(twist: Launcher) -> None:
    """Where directories may not be created, a missing one is named, with status 3."""
    path = twist.directory / "none"
    ends(twist("-e", LOCAL, "-d", str(path), "-Ddatadir.autocreate=false"), 3, str(path))
    assert not path.exists()


def test_other_layout(twist: Launcher) -> None:
    """Snapshots where only logs belong are another layout: status 3, and nothing is touched."""
    logs = twist.directory / "logs" / "version-2"
    logs.mkdir(parents=True)
    (logs / "snapshot.5").write_bytes(b"")
    config = twist.config("clientPort=0", f"dataLogDir={logs.parent}")
    ends(twist("-c", config), 3, "snapshot")
    assert [path.name for path in logs.iterdir()] == ["snapshot.5"]


def test_bad_configuration(twist: Launcher) -> None:
    """A line that cannot work is named with file, line, key and remedy, with status 2."""
    config = twist.config("clientPort=x")
    ends(twist("-c", config), 2, f'{config}:2: clientPort: For input string: "x" (write a port from 0 to 65535)')
    ends(twist("-c", twist.config("secureClientPort=2281")), 2, ":2: secureClientPort: ", "ssl.keyStore.location")
    ends(twist("-c", twist.config("oraclePath=/o")), 2, ":2: oraclePath: an oracle that decides between two servers")
    ends(twist("-e", "nonsense:1"), 2, "nonsense:1 is no endpoint")


def test_wrong_id(twist: Launcher) -> None:
    """The data of another server are refused, with status 2."""
    (twist.directory / "data").mkdir()
    (twist.directory / "data" / "myid").write_text("3\n")
    ends(twist("-c", twist.config("clientPort=0"), "--myid", "4"), 2, "myid:1: the id is 3 there, not 4")


@pytest.mark.parametrize(("line", "status"), [("tickTime=2000", 0), ("tickTme=2000", 1), ("tickTime=0", 2)])
def test_check_config(twist: Launcher, line: str, status: int) -> None:
    """--check-config explains the file on standard output, starts nothing, and says by its status what it found."""
    config = twist.directory / "check.cfg"
    config.write_text(f"dataDir=/srv/zookeeper\nclientPort=2181\n{line}\n")
    run = twist("--config", str(config), "--check-config")
    stdout, stderr = run.process.communicate(timeout=PATIENCE)
    assert f"{config}:3: {line}" in stdout.decode()
    assert (run.process.returncode, stderr) == (status, b"")
