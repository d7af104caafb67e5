"""Fixtures for pytest: a ZooKeeper server for the tests of one module."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def zookeeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of a server that has nothing in it, such as 127.0.0.1:40123."""
    directory: Path = tmp_path_factory.mktemp("zookeeper")
    server = subprocess.Popen(
        [
            *("twist", "--log-file", "/dev/null", "zookeeper"),
            *("--data-dir", str(directory), "--client-endpoint", "tcp:0:interface=127.0.0.1"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    # "ZooKeeper serves on 127.0.0.1:40123, data in ..."
    address = server.stdout.readline().split("serves on ")[1].split(",")[0]
    yield address
    server.terminate()
    server.wait()
    server.stdout.close()
