"""A ZooKeeper server in a process of its own: what a Java server and ours have in common for a test.

Knows how to hold a port, write a configuration file, start a command, wait until it serves, end it by its id, and show
what it said. Refuses to know what the command is: ``java.py`` and ``ours.py`` say that.
"""

from __future__ import annotations

import io
import os
import selectors
import signal
import socket
import subprocess
import time
import weakref
from collections.abc import Mapping
from pathlib import Path

from twisted.logger import eventAsText, eventsFromJSONLogFile

HOST = "127.0.0.1"
#: Seconds. Nothing that is waited for takes this long; a machine that does nothing else answers in one or two.
PATIENCE = 60.0
#: Seconds that one question may take where the same is asked again and again.
ATTEMPT = 5.0

#: The ports of `free_port`.
HELD: list[Reserved] = []
#: The servers that were started for the test that runs, and for its module: a test that fails shows what they said.
STARTED: list[ServerProcess] = []


class ServerFailure(AssertionError):
    """A server did not start, or ended on its own; the message carries the end of its output."""


class Reserved:
    """
    A port of a loopback address, or of all addresses, that nobody else is given while this lives.

    A bound socket holds it without listening: who binds with SO_REUSEADDR, as all servers do, can listen there, and
    neither a search for a free port nor an outgoing connection comes upon it, whether a server runs there or not.
    """

    def __init__(self, host: str = HOST, port: int = 0) -> None:
        """*host* is empty for all addresses: a server that listens on all cannot have what is in use on one."""
        everywhere = not host and socket.has_dualstack_ipv6()
        self._socket = socket.socket(socket.AF_INET6 if everywhere else socket.AF_INET)
        if everywhere:
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self._socket.bind((host, port))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.port: int = self._socket.getsockname()[1]

    def close(self) -> None:
        """Let others have it."""
        self._socket.close()


def free_port() -> int:
    """Return a port that nobody is given by chance as long as the tests run, on whichever address."""
    HELD.append(Reserved(""))
    return HELD[-1].port


def four_letter_word(port: int, word: bytes, timeout: float = PATIENCE) -> bytes:
    """Return the whole answer to a four letter word; empty when the server closes without one."""
    with socket.create_connection((HOST, port), timeout) as link:
        link.sendall(word)
        answer = b""
        while chunk := link.recv(65536):
            answer += chunk
    return answer


class ServerProcess:
    """One server: its directory, configuration, port and process.

    *config* are the lines of ``zoo.cfg`` but the port and the data directory; *properties* are Java system properties
    with their full names.
    """

    name = "server"

    def __init__(
        self,
        directory: Path,
        config: Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.data_dir = directory / "data"
        self.port = self.reserve()
        self.config = {
            "tickTime": "2000",
            "initLimit": "10",
            "syncLimit": "5",
            "4lw.commands.whitelist": "*",
            "admin.enableServer": "false",
            "maxClientCnxns": "0",
            **(config or {}),
        }
        self.properties = dict(properties or {})
        self._process: subprocess.Popen[bytes] | None = None

    def reserve(self) -> int:
        """Return a port that nobody else is given as long as this object is there."""
        held = Reserved()
        weakref.finalize(self, held.close)
        return held.port

    def command(self, config_file: Path) -> list[str]:
        """Return the command line that serves *config_file*."""
        raise AssertionError("a kind of server says how it is started")

    def environment(self) -> dict[str, str]:
        """Return the environment of the process."""
        return dict(os.environ)

    def config_lines(self) -> dict[str, str]:
        """Return the whole of zoo.cfg, key by key."""
        return {
            **self.config,
            "dataDir": str(self.data_dir),
            "clientPort": str(self.port),
            "clientPortAddress": HOST,
        }

    @property
    def pid(self) -> int:
        """The id of the running process."""
        assert self._process is not None, "the server was not started"
        return self._process.pid

    @property
    def output(self) -> str:
        """Everything that the process has printed so far."""
        log = self.directory / "output"
        return log.read_text("utf-8", "replace") if log.exists() else ""

    def start(self, wait: bool = True) -> None:
        """Start the process, and unless told otherwise return only once it serves."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        config_file = self.directory / "zoo.cfg"
        config_file.write_text("".join(f"{key}={value}\n" for key, value in self.config_lines().items()), "utf-8")
        with open(self.directory / "output", "ab") as output:
            self._process = subprocess.Popen(
                self.command(config_file),
                cwd=self.directory,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if self not in STARTED:
            STARTED.append(self)
        if wait:
            self.wait_until_serving()

    def said(self, lines: int = 25) -> str:
        """Return the end of what the process has printed; the log of ours, which is JSON, as one reads it."""
        shown: list[str] = []
        for line in self.output.splitlines():
            events = eventsFromJSONLogFile(io.StringIO(line + "\n"), "") if line.startswith("{") else iter(())
            text = next(map(eventAsText, events), line)
            if "Processing srvr command" not in text:  # that is who waits for it
                shown += text.splitlines()
        return "\n".join(line[:300] for line in shown[-lines:])

    def wait_until_serving(self) -> None:
        """Ask ``srvr`` until the server says which mode it is in."""
        assert self._process is not None, "the server was not started"
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                if b"Mode:" in four_letter_word(self.port, b"srvr", ATTEMPT):
                    return
            except OSError:
                pass
            try:
                status = self._process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
            raise ServerFailure(f"{self.name} ended with status {status}:\n{self.said()}")
        raise ServerFailure(f"{self.name} does not serve on port {self.port}:\n{self.said()}")

    def wait(self, timeout: float = PATIENCE) -> int:
        """Return the exit status of a process that ends on its own."""
        assert self._process is not None, "the server was not started"
        return self._process.wait(timeout)

    def stop(self, timeout: float = PATIENCE) -> int | None:
        """End the process politely, forcibly after *timeout* seconds, and return its exit status."""
        return self._end(signal.SIGTERM, timeout)

    def send(self, number: signal.Signals) -> None:
        """Send the process a signal."""
        assert self._process is not None, "the server was not started"
        self._process.send_signal(number)

    def kill9(self) -> None:
        """End the process at once, as a crash does."""
        self._end(signal.SIGKILL, PATIENCE)

    def _end(self, how: signal.Signals, timeout: float) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        if process.poll() is None:
            process.send_signal(how)
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait(timeout)

    def running(self) -> bool:
        """Say whether the process is there."""
        return self._process is not None and self._process.poll() is None


def readable(sockets: list[socket.socket], timeout: float) -> list[socket.socket]:
    """Return those of *sockets* that have something to read, waiting up to *timeout* seconds for the first."""
    if not sockets:
        return []
    with selectors.DefaultSelector() as selector:
        for each in sockets:
            selector.register(each, selectors.EVENT_READ)
        return [key.fileobj for key, _ in selector.select(max(0.0, timeout)) if isinstance(key.fileobj, socket.socket)]
