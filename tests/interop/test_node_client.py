"""
node-zookeeper-client, from npm, on a server: nodes, transactions, watches over a cut connection, sessions, access.

The package is installed once into the user's cache directory.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.clients import servers
from tests.interop.clients.leading import lead
from tests.interop.clients.proxy import Relay
from tests.interop.process import HOST, ServerProcess

PACKAGE = "node-zookeeper-client@1.1.3"
SCRIPT = Path(__file__).with_name("clients") / "node_client.js"
INSTALL_SECONDS = 120.0


@pytest.fixture(scope="module")
def node_path() -> Path:
    """Return the directory of the installed package."""
    npm = servers.need_program("npm", "npm")
    servers.need_program("node", "nodejs")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    target = cache / "zktwisted" / PACKAGE.replace("@", "-")
    if not (target / "node_modules" / "node-zookeeper-client").is_dir():
        target.mkdir(parents=True, exist_ok=True)
        command = [npm, "install", "--prefix", str(target), "--no-save", "--no-audit", "--no-fund", PACKAGE]
        installed = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
        if installed.returncode:
            servers.missing(PACKAGE, f"npm could not fetch it: {installed.stderr.strip()[-500:]}")
    return target / "node_modules"


@pytest.fixture
def relay(server: ServerProcess) -> Iterator[Relay]:
    """Return a relay before the server, which the test may cut."""
    relay = Relay(server.port)
    yield relay
    relay.close()


def test_the_tour(node_path: Path, server: ServerProcess, relay: Relay) -> None:
    """Every part of the tour goes well."""
    arguments = ["node", str(SCRIPT), f"{HOST}:{server.port}", f"{HOST}:{relay.port}"]
    status, lines = lead(arguments, relay, {**os.environ, "NODE_PATH": str(node_path)})
    assert lines == ["nodes", "transactions", "watches", "missed", "access"], "\n".join(lines)
    assert status == 0
