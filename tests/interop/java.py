"""Apache ZooKeeper's own server, to compare with: 3.8.0 as Debian packages it, and 3.9.5 from the jars that
PyPI's ``pyspark`` ships.

The download for 3.9.5 is hundreds of megabytes, so it is only made by ``python -m tests.interop.java``, which ``tox``
runs before the tests, and when ``ZKTWISTED_JAVA_395=1`` says so; its jars are kept in the user's cache directory.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from .process import ServerProcess

MAIN_CLASS = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
# The manifest of Debian's jar does not name all that its TLS needs of Netty.
DEBIAN_JARS = tuple(
    Path(f"/usr/share/java/{name}.jar")
    for name in ("zookeeper", "slf4j-nop", "netty-codec", "netty-resolver", "netty-tcnative")
)
PYSPARK = "pyspark==4.3.0"
WANTED_JARS = ("zookeeper", "netty", "slf4j-api", "metrics-core", "snappy-java", "commons-", "audience")
HOW_TO_395 = "the jars of Apache ZooKeeper 3.9.5 are not here; ZKTWISTED_JAVA_395=1 tox -e interop fetches them"
FETCH_SECONDS = 300.0
ZKCLI_SECONDS = 180.0
FOREIGN_JARS = ("osx", "windows", "aarch", "riscv")


def cache_directory() -> Path:
    """Return where the jars of 3.9.5 are, or would be."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "zktwisted" / "java-3.9.5"


def _fetch_395(target: Path) -> None:
    """Download pyspark's source distribution and keep the jars that a ZooKeeper server needs, if it can be had."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", scratch, PYSPARK]
        try:
            subprocess.run(command, check=True, timeout=FETCH_SECONDS)
        except subprocess.SubprocessError:
            return
        partial = target.with_name(target.name + ".partial")
        partial.mkdir(parents=True, exist_ok=True)
        with tarfile.open(next(Path(scratch).glob("pyspark-*.tar.gz"))) as archive:
            for member in archive:
                jar = os.path.basename(member.name)
                if not jar.endswith(".jar") or not jar.startswith(WANTED_JARS):
                    continue
                content = None if any(word in jar for word in FOREIGN_JARS) else archive.extractfile(member)
                if content is not None:
                    with open(partial / jar, "wb") as kept:
                        shutil.copyfileobj(content, kept)
        partial.rename(target)


@cache
def class_path(version: str) -> str | None:
    """Return the Java class path of a release, or None where it is not to be had on this machine."""
    if shutil.which("java") is None:
        return None
    if version == "3.8.0":
        return ":".join(map(str, DEBIAN_JARS)) if DEBIAN_JARS[0].exists() else None
    if version == "3.9.5":
        jars = cache_directory()
        return f"{jars}/*" if jars.is_dir() else None
    raise ValueError(f"no Java server of version {version!r} is known here")


def zkcli_command(version: str, address: str, properties: Mapping[str, str]) -> list[str]:
    """Return the command that starts the command line client of a release."""
    return [
        *("java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djline.terminal=none"),
        *(f"-D{key}={value}" for key, value in properties.items()),
        *("-cp", str(class_path(version)), "org.apache.zookeeper.ZooKeeperMain"),
        *("-server", address),
    ]


def lead(command: Sequence[str], script: str) -> tuple[int, str]:
    """
    Lead a client through a script, a command a line; return its exit status, and what it printed, both outputs in one.

    A line C{@UNTIL word} waits until the client has printed that word once more: its thread for events prints when it
    comes to it, and "quit" does not wait for that.
    """
    printed: list[str] = []
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as client:
        assert client.stdin and client.stdout
        watchdog = threading.Timer(ZKCLI_SECONDS, client.kill)
        watchdog.start()
        try:
            for line in script.splitlines(keepends=True):
                if not line.startswith("@UNTIL "):
                    client.stdin.write(line)
                    continue
                client.stdin.flush()
                printed.append("")
                while line.split()[1] not in printed[-1]:
                    printed.append(client.stdout.readline())
                    assert printed[-1], "".join(printed)
            with contextlib.suppress(BrokenPipeError):  # it has ended sooner, and said why
                client.stdin.close()
            printed.append(client.stdout.read())
            return client.wait(), "".join(printed)
        finally:
            watchdog.cancel()
            client.kill()


def available(version: str) -> bool:
    """Say whether the Java server of a release can be started on this machine."""
    return class_path(version) is not None


def best_version() -> str | None:
    """Return the newest release that can be started here: 3.9.5, else 3.8.0, else None."""
    return next((version for version in ("3.9.5", "3.8.0") if available(version)), None)


class JavaServer(ServerProcess):
    """A standalone Java server of release *version*; the other arguments are those of :class:`ServerProcess`."""

    def __init__(self, directory: Path, version: str, **options: Mapping[str, str]) -> None:
        super().__init__(directory, **options)
        self.version = version
        self.name = f"Apache ZooKeeper {version}"

    def command(self, config_file: Path) -> list[str]:
        """Return the java command: a small heap and the serial collector, since a test keeps little and is short."""
        path = class_path(self.version)
        assert path is not None, f"{self.name} is not on this machine"
        flags = [f"-D{name}={value}" for name, value in self.properties.items()]
        jvm = ["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]
        return ["java", *jvm, *flags, "-cp", path, MAIN_CLASS, str(config_file)]


if __name__ == "__main__":
    if os.environ.get("ZKTWISTED_JAVA_395") == "1" and not cache_directory().is_dir():
        _fetch_395(cache_directory())
