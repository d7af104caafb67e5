"""
ZooKeeper's C client (Debian's libzookeeper-mt) on a server: all its calls, watches over a cut connection, sessions.

A small program of ours is compiled against the library and prints every answer; the lines must be those that it prints
on Java's server, which are kept in ``clients/c_client.expected``.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.clients import servers
from tests.interop.clients.leading import lead
from tests.interop.clients.proxy import Relay
from tests.interop.process import HOST, ServerProcess

CLIENTS = Path(__file__).with_name("clients")
SECONDS = 60.0


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the path of the compiled program."""
    compiler = servers.need_program("gcc", "gcc libc6-dev")
    if not Path("/usr/include/zookeeper/zookeeper.h").exists():
        servers.missing("ZooKeeper's C client", "apt-get install libzookeeper-mt-dev")
    path = tmp_path_factory.mktemp("c") / "c_client"
    source = str(CLIENTS / "c_client.c")
    subprocess.run([compiler, "-O1", "-o", str(path), source, "-lzookeeper_mt", "-lpthread"], check=True)
    return str(path)


@pytest.fixture
def relay(server: ServerProcess) -> Iterator[Relay]:
    """Return a relay before the server, which the test may cut."""
    relay = Relay(server.port)
    yield relay
    relay.close()


def test_all_calls(program: str, server: ServerProcess, relay: Relay) -> None:
    """Every call of the C client answers as it does with Java's server, also what it missed while cut off."""
    arguments = [program, "tour", f"{HOST}:{server.port}", f"{HOST}:{relay.port}"]
    status, lines = lead(arguments, relay)
    assert lines == (CLIENTS / "c_client.expected").read_text(encoding="utf-8").splitlines()
    assert status == 0


def test_a_session_is_taken_up_by_another_process(program: str, server: ServerProcess) -> None:
    """A session that one process left behind goes on in another; a wrong password neither gets nor hurts it."""

    def run(*arguments: str) -> list[str]:
        finished = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=SECONDS, check=True)
        return finished.stdout.splitlines()

    address = f"{HOST}:{server.port}"
    (left,) = run("leave", address)
    _, session, password = left.split()
    assert run("resume", address, session, "00" * 16) == ["refused"]
    resumed, stat = run("resume", address, session, password)
    assert resumed == "resumed the same"
    assert stat.startswith("exists /left ok") and "owner=me" in stat
    # That process closed the session in good order: it is no more.
    assert run("resume", address, session, password) == ["refused"]
