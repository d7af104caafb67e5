"""Starts, asks, watches and stops one server process, ours or Java's.

Knows command lines, ``zoo.cfg`` and ``/proc``; knows nothing of load or of reports. Every wait is
bounded, and only the process that was started here is ever signalled, by its id.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
JAVA_CLASS_PATH = "/usr/share/java/zookeeper.jar:/usr/share/java/slf4j-nop.jar"
JAVA_MAIN = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
START_LIMIT_S = 180.0
STOP_LIMIT_S = 30.0


class ServerFailed(Exception):
    """A server did not start, or ended while it was needed; the text says what it printed last."""


@dataclass
class Started:
    """How long a start took, in seconds from the moment the process was made."""

    first_answer_s: float
    serving_s: float


@dataclass
class Server:
    """One server process with a data directory of its own.

    ``kind`` is ``"java"``, ``"ours"``, or ``"compiled"``: ours as it is installed for that interpreter. ``settings``
    are further lines of ``zoo.cfg``; all servers get the same ones, and whatever is not named there has its default
    (so ``forceSync`` is on).
    """

    kind: str
    port: int
    directory: Path
    python: str = sys.executable
    class_path: str = JAVA_CLASS_PATH
    settings: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def data(self) -> Path:
        """Where the logs and snapshots are."""
        return self.directory / "data" / "version-2"

    def command(self) -> list[str]:
        """The command line that starts this server."""
        config = str(self.directory / "zoo.cfg")
        if self.kind == "java":
            # The admin server is off because ours has none to start: it would cost Java memory and time.
            return ["java", "-Dzookeeper.admin.enableServer=false", "-cp", self.class_path, JAVA_MAIN, config]
        # Without -P the sources here would come before what is installed.
        options = ["-P"] if self.kind == "compiled" else []
        return [*self.prefix, self.python, *options, "-m", "twisted", "zookeeper", "-c", config]

    def start(self) -> Started:
        """Starts the process and waits until it serves; ``ServerFailed`` when it does not."""
        (self.directory / "data").mkdir(parents=True, exist_ok=True)
        lines = {
            "tickTime": "2000",
            "dataDir": str(self.directory / "data"),
            "clientPort": str(self.port),
            "clientPortAddress": "127.0.0.1",
            "maxClientCnxns": "0",
            **self.settings,
        }
        text = "".join(f"{key}={value}\n" for key, value in lines.items())
        (self.directory / "zoo.cfg").write_text(text, encoding="utf-8")
        if answer(self.port) is not None:
            raise ServerFailed(f"port {self.port} is in use by another process")
        began = time.monotonic()
        with open(self.directory / "output.txt", "ab") as output:
            self.process = subprocess.Popen(
                self.command(),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**_usual_environment(), **self.environment},
                start_new_session=True,
            )
        first = 0.0
        while time.monotonic() - began < START_LIMIT_S:
            # A short limit: Java may take a connection while it starts and never answer it.
            said = answer(self.port, limit_s=0.2)
            now = time.monotonic() - began
            if said:
                first = first or now
                if said.startswith(b"Zookeeper version"):
                    return Started(first, now)
            if self.process.poll() is not None:
                raise ServerFailed(f"{self.kind} ended with {self.process.returncode}: {self.last_words()}")
            time.sleep(0.002)
        self.stop()
        raise ServerFailed(f"{self.kind} did not serve within {START_LIMIT_S:.0f} s: {self.last_words()}")

    def last_words(self) -> str:
        """The end of what the process printed."""
        try:
            return (self.directory / "output.txt").read_bytes()[-800:].decode("utf-8", "replace").strip()
        except OSError:
            return "(it printed nothing)"

    def stop(self) -> float:
        """Asks the process to end, and after 30 s makes it end; returns the seconds that it took."""
        process, self.process = self.process, None
        if process is None:
            return 0.0
        began = time.monotonic()
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(STOP_LIMIT_S)
        return time.monotonic() - began

    def remove(self) -> None:
        """Stops the process and removes its directory."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def rss_kib(self) -> int:
        """Resident memory of the process."""
        return rss_kib(self.pid)

    def cpu_s(self) -> float:
        """CPU time that the process used so far, in user mode and in the kernel."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def version(self) -> str:
        """The version that the server gives in its answer to ``srvr``."""
        said = answer(self.port) or b""
        return said.partition(b"\n")[0].decode("utf-8", "replace").removeprefix("Zookeeper version: ").partition("-")[0]


def _usual_environment() -> dict[str, str]:
    """Ours, but for what would have every start compile the sources anew: what pip installs is compiled once."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def rss_kib(pid: int) -> int:
    """``VmRSS`` of a process in KiB."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise ServerFailed(f"process {pid} has no memory any more")


def answer(port: int, word: bytes = b"srvr", limit_s: float = 5.0) -> bytes | None:
    """What the server on a local port answers to a four-letter word; ``None`` when nobody listens."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=limit_s) as connection:
            connection.sendall(word)
            said = b""
            while piece := connection.recv(65536):
                said += piece
            return said
    except TimeoutError:
        return b""
    except OSError:
        return None
