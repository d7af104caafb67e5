"""
Java's own command line client, led through all its commands against our server and against Java's.

The output must be the same, line by line: results, stats, zxids, error texts, exit codes. Only what cannot be the same
is masked: times, session ids, ports. What the client's event thread prints comes when it comes, so it is compared apart
from the rest.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.clients import servers
from tests.interop.java import ZKCLI_SECONDS, lead, zkcli_command
from tests.interop.process import HOST, ServerProcess

# What the client does. It is waited for in places: a command given before the answer to a wrong addauth is here may
# lose that answer, by the reset of a connection that the server closes with something unread; "printwatches off"
# silences events that are still on their way to the screen; and "quit" waits for none of them.
SCRIPT = Path(__file__).with_name("clients") / "zkcli.txt"
SERVER_CONFIG = {"extendedTypesEnabled": "true", "enforceQuota": "true"}
RELEASES = (servers.JAVA_380, servers.JAVA_395)

MASKS = [
    (re.compile(r"\b[A-Z][a-z]{2} [A-Z][a-z]{2} \d\d \d\d:\d\d:\d\d \w+ \d{4}"), "<time>"),
    (re.compile(r"127\.0\.0\.1:\d+"), "<server>"),
    (re.compile(r"^(ZooKeeper CLI version: ).*"), r"\1<version>"),
]
SESSION = re.compile(r"0x1[0-9a-f]{13,15}\b|0x[2-9a-f][0-9a-f]{13,15}\b")
IDENTITY = re.compile(r"^(ip|digest): ")
LIST = re.compile(r"\[(\S+(?:, \S+)*)\]")
EVENT = re.compile(r"^WatchedEvent ")
# What the client's thread for events prints, each at one go, also inside a line that a command prints in pieces.
TOLD = re.compile(r"\n(WATCHER::|WatchedEvent .*)\n")
# An event that is not to be printed, if the client's thread for events is not late.
SILENT = "path:/silent"


def command(kind: str, server: ServerProcess, chroot: str = "") -> list[str]:
    """Return the command that starts the client of a Java release at a server."""
    return zkcli_command(servers.need_java(kind), f"{HOST}:{server.port}{chroot}", {"user.timezone": "UTC"})


def run(
    kind: str, server: ServerProcess, *arguments: str, chroot: str = "", script: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run the client once, with its two outputs in one."""
    return subprocess.run(
        [*command(kind, server, chroot), *arguments],
        input=script,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=ZKCLI_SECONDS,
        check=False,
    )


def untangled(output: str) -> str:
    """Return what the client printed with all that its thread for events said at the end."""
    return "\n".join([TOLD.sub("", output), *TOLD.findall(output), ""])


def spoken(output: str) -> list[str]:
    """Return the lines of the client's main thread."""
    return TOLD.sub("", output).splitlines()


def masked(output: str) -> tuple[list[str], list[str]]:
    """Return the lines of the client's main thread, and the events in their order."""
    sessions: dict[str, str] = {}
    lines, events = [], []
    for line in output.splitlines():
        for pattern, instead in MASKS:
            line = pattern.sub(instead, line)
        line = SESSION.sub(lambda found: sessions.setdefault(found[0], f"<session {len(sessions) + 1}>"), line)
        if found := LIST.fullmatch(line):
            # The server gives ephemerals in any order, and not every command sorts what it was given.
            line = f"[{', '.join(sorted(found[1].split(', ')))}]"
        if EVENT.match(line) and "state:Closed" not in line and SILENT not in line:
            events.append(line)
        elif line and line != "WATCHER::" and not EVENT.match(line) and not line.startswith("SLF4J"):
            lines.append(line)
    # whoami tells the identities in the order of a hash table.
    for start, line in enumerate(lines):
        if line == "Auth scheme: User":
            end = next(n for n in range(start + 1, len(lines)) if not IDENTITY.match(lines[n]))
            lines[start + 1 : end] = sorted(lines[start + 1 : end])
    return lines, events


def transcript(kind: str, server: ServerProcess) -> tuple[list[str], list[str]]:
    """Lead a client through the script and return what it printed."""
    script = SCRIPT.read_text(encoding="utf-8").replace("@SERVER@", f"{HOST}:{server.port}")
    status, printed = lead(command(kind, server), script)
    assert status == 0, printed
    return masked(untangled(printed))


@pytest.fixture(params=RELEASES)
def release(request: pytest.FixtureRequest) -> str:
    """Return each release of the client that is on this machine."""
    servers.need_java(request.param)
    return str(request.param)


@pytest.fixture
def tested(tmp_path: Path) -> Iterator[ServerProcess]:
    """Return the server under test, fresh."""
    yield from running(servers.kind_under_test(), tmp_path / "tested")


@pytest.fixture
def reference(release: str, tmp_path: Path) -> Iterator[ServerProcess]:
    """Return a fresh Java server of the client's release."""
    yield from running(release, tmp_path / "reference")


def running(kind: str, directory: Path) -> Iterator[ServerProcess]:
    """Give a server that serves, and end it."""
    server = servers.make_server(kind, directory, config=SERVER_CONFIG)
    server.start()
    try:
        yield server
    finally:
        server.kill9()


def test_untangled() -> None:
    """What the thread for events says between the pieces of a line is taken out of it, and not forgotten."""
    event = "WatchedEvent state:SyncConnected type:None path:null"
    printed = f"first\n[a\nWATCHER::\n, b\n{event}\n]\nlast\n"
    assert masked(untangled(printed)) == (["first", "[a, b]", "last"], [event])
    assert spoken(printed) == ["first", "[a, b]", "last"]


def test_every_command(release: str, tested: ServerProcess, reference: ServerProcess) -> None:
    """The client prints the same, command for command, and the same events."""
    expected, expected_events = transcript(release, reference)
    lines, events = transcript(release, tested)
    assert lines == expected
    assert events == expected_events


def test_single_commands_and_their_exit_status(server: ServerProcess) -> None:
    """One command on the command line: its output, its exit status, below a chroot too."""
    kind = servers.JAVA_380
    created = run(kind, server, "create", "/cli", "data")
    assert "Created /cli" in created.stdout
    assert created.returncode == 0
    assert spoken(run(kind, server, "-waitforconnection", "get", "/cli").stdout)[-1] == "data"
    below = run(kind, server, "create", "/below", "x", chroot="/cli")
    assert "Created /below" in below.stdout
    assert spoken(run(kind, server, "ls", "/cli").stdout)[-1] == "[below]"
    refused = run(kind, server, "delete", "/cli")
    assert "Node not empty: /cli" in refused.stdout
    assert refused.returncode == 1
