"""
One server of the kit: a whole L{ZooKeeperService} between its ports and its data, started and stopped as asked.

What it serves survives a stop, as if it were on a disk, and nothing survives the process.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IStreamServerEndpoint

from zktwisted.config import ServerConfig
from zktwisted.edge.client import ClientFactory, SecureEndpoint
from zktwisted.edge.local import LocalEndpoint
from zktwisted.kit.links import Links
from zktwisted.kit.memory import KeptData
from zktwisted.kit.port import ClientPort
from zktwisted.kit.traffic import Faults, Traffic
from zktwisted.server.readonly import ReadOnlyRole
from zktwisted.server.service import ZooKeeperService
from zktwisted.store.memory import MemoryDirectory
from zktwisted.wire import ops

if TYPE_CHECKING:
    from zktwisted.client import ZooKeeperClient

__all__ = ["Member"]


class Member:
    """
    A server.

    @ivar id: its id in an ensemble; 1 without one.
    @ivar port: where clients connect; L{secure_port}: with TLS, C{None} without.
    @ivar traffic: its clients' connections.
    @ivar running: whether it was started and not stopped.
    """

    def __init__(
        self,
        reactor: Any,
        config: ServerConfig,
        faults: Faults,
        links: Links | None = None,
        *,
        port: int = 0,
        tls: bool = False,
    ) -> None:
        """
        @param config: all but the ports.
        @param links: the way to the others; C{None}: there are none.
        @param port: for clients; 0: any that is free.
        @param tls: open another for clients with TLS.
        """
        self._reactor = reactor
        self.id = config.sid or 1
        self.config = config
        self.running = False
        self.port = ClientPort(reactor, port)
        self.secure_port = ClientPort(reactor) if tls else None
        self.traffic = Traffic(reactor, faults)
        endpoints: list[IStreamServerEndpoint] = [self.port]
        if self.secure_port is not None:
            endpoints.append(SecureEndpoint(self.secure_port))
        self._kept: KeptData | None = None
        if links is None:
            self._kept = KeptData()
            self.service = ZooKeeperService(
                reactor, config, endpoints, store=self._kept, wrap_clients=self.traffic.wrap
            )
        else:
            self._directory = MemoryDirectory()
            self.service = ZooKeeperService(
                reactor,
                config,
                endpoints,
                disks=lambda _: (self._directory, self._directory),
                network=links.of(self.id),
                wrap_clients=self.traffic.wrap,
            )

    @property
    def mode(self) -> str:
        """What it is, see L{ZooKeeperService.status}."""
        return self.service.mode

    @property
    def ports(self) -> list[ClientPort]:
        """Where clients connect, in all ways."""
        return [self.port] if self.secure_port is None else [self.port, self.secure_port]

    # -- life

    async def start(self) -> None:
        """Start; a member of an ensemble need not serve yet when this is done."""
        self.running = True
        self.service.startService()
        if self._kept is not None:
            await self.service.when_serving()
            assert self.service.core is not None, "it serves"
            self._kept.started(self.service.core)

    async def stop(self) -> None:
        """Stop, as a process is stopped: connections break, ports are closed, and the data remain."""
        core = await self._stop()
        if core is not None and self._kept is not None:
            self._kept.keep(core)

    async def _stop(self) -> Any:
        self.running = False
        self.traffic.drop()
        core = self.service.core
        await self.service.stopService()
        return core

    async def wipe(self, stay_open: bool = False) -> None:
        """
        Stop, and forget all data.

        @param stay_open: until the next start let clients wait, instead of refusing them.
        """
        for port in self.ports if stay_open else ():
            port.hold()
        core = await self._stop()
        self.traffic.used = False
        if self._kept is not None:
            self._kept.forget(core)
        else:
            self._directory.discard(self._directory.names())

    async def close(self) -> None:
        """Stop, and give back the ports."""
        await self._stop()
        for port in self.ports:
            await port.close()

    def client(self) -> ZooKeeperClient:
        """Make a client that no fault touches."""
        # Not before: a server starts sooner without clients of its own.
        from zktwisted.client import ZooKeeperClient

        self.traffic.used = True
        core = self.service.core
        assert core is not None, "it serves"
        factory = ClientFactory(core)
        return ZooKeeperClient(self._reactor, LocalEndpoint(self._reactor, lambda: factory))

    # -- what it has

    def sessions(self) -> list[int]:
        """The sessions that the server knows."""
        core = self.service.core
        if core is None:
            return []
        return sorted({*core.timeouts, *core.sessions.sessions})

    def watches(self) -> Iterator[tuple[str, int]]:
        """The watches of clients that are connected: path and session, once for each table that has them."""
        core = self.service.core
        if core is None:
            return
        for table in (core.watches.data, core.watches.child):
            for path, watchers in table.by_path.items():
                for connection in watchers:
                    if connection in core.connections and core.by_session.get(connection.session_id) is connection:
                        yield path.decode("utf-8", "replace"), connection.session_id

    def ephemerals(self) -> dict[int, list[str]]:
        """The paths of ephemeral nodes by session."""
        core = self.service.core
        if core is None:
            return {}
        return {
            session: sorted(path.decode("utf-8", "replace") for path in paths)
            for session, paths in core.tree.ephemerals.items()
            if paths
        }

    # -- what is done to it

    def expire(self, session: int) -> bool:
        """End a session, as if its time were over; C{False}: this server cannot, or does not know it."""
        core = self.service.core
        if core is None or core.role is None:
            return False
        known = core.sessions.sessions.get(session)
        if known is not None and known.local:
            core.end_local(session)
            return True
        if not core.role.makes_txns or session not in core.timeouts:
            return False
        core.submit_internal(ops.CLOSE_SESSION, session)
        core.settle()
        return True

    def set_read_only(self, read_only: bool) -> None:
        """Let a server without an ensemble serve as one that has lost it."""
        core = self.service.core
        if core is None or core.role is None or core.role.read_only == read_only:
            return
        core.role.stop()
        if read_only:
            ReadOnlyRole(core).start(core.last_zxid)
        else:
            core.open()
