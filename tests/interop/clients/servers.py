"""
Choose the server that a client test talks to, and say plainly when a tool that a test needs is not there.

The environment variable ``ZKTWISTED_TEST_SERVER`` chooses: ``ours`` (the default), ``java-3.8.0`` or ``java-3.9.5``.
Running the client tests against Java's server shows that the tests themselves are right.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.interop.java import JavaServer, available
from tests.interop.process import ServerProcess, four_letter_word

OURS = "ours"
JAVA_380 = "java-3.8.0"
JAVA_395 = "java-3.9.5"

Values = Mapping[str, str]


def missing(tool: str, remedy: str) -> None:
    """Fail where the tools are promised (``CI=true``), skip with the remedy where they are not."""
    message = f"{tool} is not installed; {remedy}"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def need_program(name: str, package: str, path: str | None = None) -> str:
    """Return the file of a program, looked for in *path* if it is given; without it fail or skip, see `missing`."""
    found = shutil.which(name, path=path)
    if found is None:
        missing(name, f"apt-get install {package}")
    assert found is not None
    return found


def need_java(kind: str = JAVA_380) -> str:
    """Return the release number of a kind of Java server that can be started here; otherwise fail or skip."""
    version = kind.removeprefix("java-")
    if not available(version):
        if version == "3.9.5":
            pytest.skip("the jars of ZooKeeper 3.9.5 are not in the cache; Debian's 3.8.0 is compared all the same")
        missing("Java's ZooKeeper 3.8.0", "apt-get install --no-install-recommends zookeeper default-jre-headless")
    return version


def kind_under_test() -> str:
    """Return the kind of server that the client tests are aimed at."""
    return os.environ.get("ZKTWISTED_TEST_SERVER", OURS)


def make_server(
    kind: str,
    directory: Path,
    config: Values | None = None,
    properties: Values | None = None,
    data_dir: Path | None = None,
) -> ServerProcess:
    """Return a server of a kind, not started; ``properties`` are Java system properties with their full names."""
    directory.mkdir(parents=True, exist_ok=True)
    # Small preallocation: the tests make many logs.
    config = {"preAllocSize": "64", **(config or {})}
    server: ServerProcess
    if kind == OURS:
        from tests.interop.ours import OurServer

        server = OurServer(directory, config, properties)
    else:
        server = JavaServer(directory, need_java(kind), config=dict(config), properties=dict(properties or {}))
    if data_dir is not None:
        server.data_dir = data_dir
    return server


def monitor(server: ServerProcess) -> dict[str, str]:
    """Return the values of ``mntr`` by name, without their ``zk_``."""
    text = four_letter_word(server.port, b"mntr").decode()
    lines = (line.split("\t", 1) for line in text.splitlines() if "\t" in line)
    return {name.removeprefix("zk_"): value for name, value in lines}


def failures(server: ServerProcess) -> list[str]:
    """Return the lines of our server's output that tell of exceptions which it did not foresee."""
    return [line[:2000] for line in server.output.splitlines() if "log_failure" in line or "Traceback" in line]
