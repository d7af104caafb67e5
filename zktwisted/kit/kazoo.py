"""
kazoo's own test harness without Java: what C{kazoo.testing} starts are servers of ours.

L{install} puts L{ZookeeperCluster} in the place of C{kazoo.testing.common}'s class; C{KazooTestHarness} and
C{KazooTestCase} then work as they are.  Importing them from here installs it, too.  C{ZOOKEEPER_PATH} is not needed,
nor C{pyjks}, which the original makes its certificates with.

The names and arguments are kazoo's.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import TYPE_CHECKING, Any

from zktwisted.kit.settings import settings_of
from zktwisted.kit.threaded import TestServer

if TYPE_CHECKING:
    from kazoo.testing.harness import KazooTestCase, KazooTestHarness

__all__ = ["KazooTestCase", "KazooTestHarness", "ManagedZooKeeper", "ZookeeperCluster", "install"]

_COMMON = "kazoo.testing.common"
#: kazoo asks for one, and leaves out tests that need a newer one.
_VERSION = "3.9.4"
#: What a cluster of kazoo's has in its zoo.cfg that servers in this process have no use for.
_WITHOUT = ("reconfigEnabled",)


def install() -> None:
    """
    Let C{kazoo.testing} use servers of ours from now on; a second call does nothing.

    @raise ImportError: kazoo is not installed.
    """
    common = sys.modules.get(_COMMON)
    if common is None:
        # In place of the original, which cannot be imported without pyjks, and takes a signal for itself.
        common = sys.modules[_COMMON] = ModuleType(_COMMON, __doc__)
    common.ZookeeperCluster = ZookeeperCluster  # type: ignore[attr-defined]
    common.ManagedZooKeeper = ManagedZooKeeper  # type: ignore[attr-defined]
    os.environ.setdefault("ZOOKEEPER_VERSION", _VERSION)
    import kazoo.testing.harness

    kazoo.testing.harness.ZookeeperCluster = ZookeeperCluster


def __getattr__(name: str) -> Any:
    """Give kazoo's own classes, after L{install}."""
    if name not in ("KazooTestHarness", "KazooTestCase"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    install()
    import kazoo.testing.harness

    return getattr(kazoo.testing.harness, name)


class ManagedZooKeeper:
    """One server of a cluster, as kazoo has it."""

    host = "127.0.0.1"

    def __init__(self, cluster: ZookeeperCluster, member: int) -> None:
        self._cluster = cluster
        self._member = member
        self._ports: tuple[int, int] = (0, 0)

    @property
    def running(self) -> bool:
        """Whether it was started and not stopped."""
        return self._cluster.running(self._member)

    @property
    def client_port(self) -> int:
        """The port for clients."""
        return self._cluster.ports(self._member)[0]

    @property
    def secure_client_port(self) -> int:
        """The port for clients with TLS."""
        return self._cluster.ports(self._member)[1]

    @property
    def address(self) -> str:
        """Where clients connect."""
        return f"{self.host}:{self.client_port}"

    @property
    def secure_address(self) -> str:
        """Where clients connect with TLS."""
        return f"{self.host}:{self.secure_client_port}"

    def run(self) -> None:
        """Start it."""
        self._cluster.run_member(self._member)

    def stop(self) -> None:
        """Stop it; its data remain."""
        self._cluster.stop_member(self._member)

    def reset(self) -> None:
        """Stop it, and forget its data."""
        self._cluster.wipe_member(self._member)

    def destroy(self) -> None:
        """Stop it, and forget its data."""
        self.reset()

    def get_logs(self, num_lines: int = 100) -> list[str]:
        """There are no log files."""
        return []


class ZookeeperCluster:
    """Servers that start and stop together, as kazoo has them."""

    def __init__(
        self,
        install_path: str | None = None,
        classpath: str | None = None,
        size: int = 3,
        port_offset: int = 20000,
        observer_start_id: int = -1,
        configuration_entries: Sequence[str] = (),
        java_system_properties: Sequence[str] = (),
        jaas_config: str | None = None,
    ) -> None:
        """
        @param size: how many servers.
        @param observer_start_id: from which id on they have no vote; -1: all have one.
        @param configuration_entries: lines of a zoo.cfg.
        @param java_system_properties: C{-Dname=value}.
        @param jaas_config: the text of a JAAS file.

        C{install_path}, C{classpath} and C{port_offset} are for Java alone; ports are free ones.
        """
        self._size = size
        self._voters = size if observer_start_id == -1 else observer_start_id - 1
        self._entries = [entry for entry in configuration_entries if entry.split("=")[0].strip() not in _WITHOUT]
        self._properties = dict(
            entry.removeprefix("-D").split("=", 1) for entry in java_system_properties if "=" in entry
        )
        self._jaas = jaas_config
        self._directory: TemporaryDirectory[str] | None = None
        self._server: TestServer | None = None
        self._servers = [ManagedZooKeeper(self, member) for member in range(1, size + 1)]

    def __getitem__(self, index: int) -> ManagedZooKeeper:
        """The server of this index, from 0."""
        return self._servers[index]

    def __iter__(self) -> Iterator[ManagedZooKeeper]:
        """All servers."""
        return iter(self._servers)

    # -- all of them

    def start(self) -> None:
        """Start all, and wait until they serve."""
        server = self._made()
        for member, mode in server.modes().items():
            if mode == "stopped":
                server.start_member(member)

    def stop(self) -> None:
        """Stop all; their data remain."""
        for server in self:
            server.stop()

    def reset(self) -> None:
        """Stop all, and forget their data."""
        for server in self:
            server.reset()

    def terminate(self) -> None:
        """Stop all, and leave nothing."""
        server, self._server = self._server, None
        if server is not None:
            server.stop()
        if self._directory is not None:
            self._directory.cleanup()
            self._directory = None

    def get_logs(self) -> list[str]:
        """There are no log files."""
        return []

    def get_ssl_client_configuration(self) -> dict[str, bytes]:
        """Return what a client with TLS needs, as PEM."""
        files = self._made().tls
        paths = {"client_key": files.key, "client_cert": files.certificate, "ca_cert": files.ca}
        return {name: Path(path).read_bytes() for name, path in paths.items()}

    # -- one of them

    def running(self, member: int) -> bool:
        """Whether a server was started and not stopped."""
        return self._server is not None and self._server.modes()[member] != "stopped"

    def ports(self, member: int) -> tuple[int, int]:
        """The ports of a server, without and with TLS."""
        return self._made().ports_of(member)

    def run_member(self, member: int) -> None:
        """Start a server."""
        self._made().start_member(member)

    def stop_member(self, member: int) -> None:
        """Stop a server."""
        if self._server is not None:
            self._server.stop_member(member)

    def wipe_member(self, member: int) -> None:
        """Stop a server, and forget its data."""
        if self._server is not None:
            self._server.wipe_member(member)

    def _made(self) -> TestServer:
        if self._server is None:
            self._server = TestServer(
                tls=True, members=self._voters, observers=self._size - self._voters, **self._settings()
            ).start()
        return self._server

    def _settings(self) -> dict[str, Any]:
        settings = settings_of(self._entries, self._properties)
        if self._jaas is not None:
            self._directory = TemporaryDirectory(prefix="zktwisted-")
            jaas = Path(self._directory.name) / "jaas.conf"
            jaas.write_text(self._jaas, encoding="utf-8")
            jaas.chmod(0o600)
            settings["jaas_file"] = str(jaas)
        return settings
