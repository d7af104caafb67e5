"""
L{ZooKeeperService}: a whole server as a Twisted service.

Here the rooms are joined: the core, the files, the client connections, the four-letter words and what is done
regularly; here they start and stop in order.  What a request means is not known here.

Each start makes all of it anew (L{Run}), so that nothing of the last time can be left over.  Whether it serves alone or
as one of an ensemble is told by the configuration.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Literal

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IStreamServerEndpoint
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from zktwisted.config import ServerConfig
from zktwisted.errors import ConfigError, StoreError
from zktwisted.server.run import Disks, Run

if TYPE_CHECKING:  # a server on its own has no use for them
    from twisted.internet.interfaces import IProtocolFactory

    from zktwisted.client import ZooKeeperClient
    from zktwisted.edge.network import Network
    from zktwisted.server.front import FrontServer
    from zktwisted.server.peer import QuorumPeer
    from zktwisted.server.processors import ProcessorFactory
    from zktwisted.store.database import NullDatabase

__all__ = ["ZooKeeperService"]

log = Logger()

_SERVING = ("standalone", "leader", "follower", "observer", "read-only")
#: What may happen to a server without a mistake of ours: a traceback would tell nothing.
_FORESEEN = (ConfigError, StoreError, CannotListenError, OSError)


def _wall_ms() -> int:
    return int(time.time() * 1000)


class ZooKeeperService(Service):
    """
    A ZooKeeper server.

    It does nothing before L{startService}, uses the reactor that it is given, and can be started again after it was
    stopped; several in one process know nothing of each other.

    @ivar config: the settings.
    """

    def __init__(
        self,
        reactor: Any,
        config: ServerConfig,
        client_endpoints: Sequence[IStreamServerEndpoint] | None = None,
        *,
        store: Literal["disk", "memory"] | NullDatabase = "disk",
        monotonic: Callable[[], float] = time.monotonic,
        wall_ms: Callable[[], int] = _wall_ms,
        entropy: Random | None = None,
        disks: Disks | None = None,
        network: Network | None = None,
        processors: Sequence[ProcessorFactory] = (),
        wrap_clients: Callable[[IProtocolFactory], IProtocolFactory] | None = None,
    ) -> None:
        """
        @param reactor: for timers, threads' results and, without C{client_endpoints}, TCP.
        @param client_endpoints: where clients connect; by default the configuration's C{client_port}, if it has one.
        @param store: C{"memory"} keeps no files: everything is gone after the stop.  In an ensemble that is safe as
            long as not all servers stop at a time, and none that stopped comes back with its old id before the others
            have noticed.  An object is what a server without an ensemble keeps its data in, in place of nothing.
        @param monotonic: the time by which sessions live, in seconds.
        @param wall_ms: the time that is written into nodes, in ms since the epoch.
        @param entropy: decides what ZooKeeper leaves to chance.
        @param disks: makes the directories to be used, instead of those of the configuration on the file system.
        @param network: how the servers of an ensemble reach each other, instead of TCP.
        @param processors: make stages of the program's own, to stand before each chain of request processors; see
            L{zktwisted.interfaces.IRequestProcessor}.
        @param wrap_clients: puts something between clients, their TLS taken off, and the server.

        @raise ConfigError: the data need a directory and C{data_dir} names none.
        """
        if isinstance(store, str) and store not in ("disk", "memory"):
            raise ValueError(f"store is {store!r}, neither 'disk' nor 'memory'")
        if store == "disk" and disks is None and not config.data_dir:
            raise ConfigError("dataDir is not set", key="dataDir", remedy="name a directory, or store='memory'")
        self.config = config
        self._reactor = reactor
        self._make_run = partial(
            Run,
            reactor,
            config,
            client_endpoints,
            memory=store == "memory" if isinstance(store, str) else store,
            monotonic=monotonic,
            wall_ms=wall_ms,
            entropy=entropy or Random(),
            disks=disks,
            network=network,
            processors=processors,
            wrap_clients=wrap_clients,
            serving=self._serving,
            failed=self._failed,
        )
        self._run: Run | None = None
        self._starting: Deferred[None] | None = None
        self._stopping: Deferred[None] | None = None
        self._state = "stopped"
        self._failure: Failure | None = None
        self._has_served = False
        self._serving_waiters: list[Deferred[str]] = []
        self._failed_waiters: list[Deferred[None]] = []
        self._stop_waiters: list[Deferred[None]] = []

    # -- what becomes of it

    def when_serving(self) -> Deferred[str]:
        """
        Wait until clients are answered.

        @return: fires with C{"standalone"}, or in an ensemble with C{"leader"}, C{"follower"}, C{"observer"} or
            C{"read-only"}; fails with the reason why the server could not start or had to give up, or with
            C{CancelledError} if it is stopped before.
        """
        waiter: Deferred[str] = Deferred()
        mode = self.mode
        if mode in _SERVING:
            waiter.callback(mode)
        elif self._failure is not None:
            waiter.errback(self._failure)
        else:
            self._serving_waiters.append(waiter)
        return waiter

    def when_failed(self) -> Deferred[None]:
        """
        Wait for the end of a server that serves.

        @return: fails with the reason if the server, once it has served, has to give up, which it does when its disk
            fails; fires with C{None} when it has been stopped.
        """
        waiter: Deferred[None] = Deferred()
        if self._has_served and self._failure is not None:
            waiter.errback(self._failure)
        else:
            self._failed_waiters.append(waiter)
        return waiter

    @property
    def addresses(self) -> list[IAddress]:
        """Where clients connect; empty while no port is open."""
        return [] if self._run is None else self._run.addresses

    @property
    def peer(self) -> QuorumPeer | None:
        """What makes it one of an ensemble, while it runs."""
        return None if self._run is None else self._run.peer

    @property
    def core(self) -> FrontServer | None:
        """What answers requests, while it runs."""
        return None if self._run is None else self._run.core

    @property
    def mode(self) -> str:
        """What the server is now, see L{status}."""
        return self._state if self._state != "running" or self._run is None else self._run.view.mode

    def status(self) -> dict[str, Any]:
        """
        Tell how the server is.

        @return: C{mode}: C{standalone}; in an ensemble C{leader}, C{follower}, C{observer}, C{read-only}, or
            C{looking} for a leader; or C{starting}, C{stopping}, C{stopped}, C{failed}.  While it serves also
            C{zxid}, C{sessions}, C{connections} and C{node_count} (ZooKeeper's, in which the root stands twice).
        """
        mode = self.mode
        status: dict[str, Any] = {"mode": mode}
        if mode in _SERVING and self._run is not None:
            view = self._run.view
            status |= {
                "zxid": view.last_zxid,
                "sessions": view.global_sessions,
                "connections": len(view.connections),
                "node_count": view.node_count,
            }
        return status

    def local_client(self, **options: Any) -> ZooKeeperClient:
        """
        Make a client of this server for a program in the same process; no socket is between them.

        It is a client like any other, with a session of its own that has to be started and closed, and has no address.

        @param options: of L{ZooKeeperClient<zktwisted.ZooKeeperClient>}.
        """
        # Not before: a server without clients of its own starts sooner without them.
        from zktwisted.client import ZooKeeperClient
        from zktwisted.edge.local import LocalEndpoint

        return ZooKeeperClient(self._reactor, LocalEndpoint(self._reactor, self._clients), **options)

    def _clients(self) -> IProtocolFactory | None:
        """What clients connect with, while clients are answered."""
        run = self._run
        return run._clients if run is not None and self.mode in _SERVING else None

    # -- starting

    def startService(self) -> None:
        """Begin to start; L{when_serving} tells how it went."""
        if self.running:
            return
        self.running = True
        if self._stopping is None:
            self._start()

    def _start(self) -> None:
        self._state = "starting"
        self._failure = None
        self._has_served = False
        self._starting = Deferred.fromCoroutine(self._run_start())
        self._starting.addErrback(lambda failure: log.failure("while starting", failure))

    async def _run_start(self) -> None:
        collecting = gc.isenabled()
        # A million nodes may be made and none becomes garbage: each collection would look at all of them in vain.
        # It is enabled only when who waits for us has had the opportunity to freeze what there is.
        gc.disable()
        try:
            await self._come_up()
        finally:
            if collecting:
                gc.enable()

    async def _come_up(self) -> None:
        try:
            run = self._run = self._make_run()
            await run.start()
        except CancelledError:
            return
        except Exception:  # noqa: BLE001 (it is handed on to whoever waits)
            self._failed(Failure())
            return
        if self._state == "starting":
            self._state = "running"
            if run.view.mode in _SERVING:
                self._serving(run.view.mode)

    def _serving(self, mode: str) -> None:
        """Clients are answered from now on, in this role."""
        if self._state in ("starting", "running"):
            self._has_served = True
            waiters, self._serving_waiters = self._serving_waiters, []
            for waiter in waiters:
                waiter.callback(mode)

    def _failed(self, failure: Failure) -> None:
        """Give up, whether it has served or not."""
        if self._state not in ("starting", "running"):
            # The first reason is the one that counts, and who stops does not mind any.
            log.info("While {state}: {reason}", state=self._state, reason=failure.getErrorMessage())
            return
        self._state = "failed"
        self._failure = failure
        if self._run is not None:
            self._run.give_up()
        if isinstance(failure.value, _FORESEEN) or hasattr(failure.value, "status"):
            log.error("The server gives up: {reason}", reason=failure.getErrorMessage())
        else:
            log.failure("The server gives up", failure, LogLevel.error)
        waiters: list[Deferred[Any]] = list(self._serving_waiters)
        self._serving_waiters.clear()
        if self._has_served:
            waiters += self._failed_waiters
            self._failed_waiters.clear()
        for waiter in waiters:
            waiter.errback(failure)

    # -- stopping

    def stopService(self) -> Deferred[None]:
        """
        Stop in order.

        @return: fires when the ports are closed, what was asked has been answered, the log is flushed, connections
            are closed and the disk's threads have ended.
        """
        if self.running:
            self.running = False
            if self._stopping is None:
                self._stopping = Deferred.fromCoroutine(self._run_stop())
                self._stopping.addBoth(self._stopped)
        if self._stopping is None:
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        self._stop_waiters.append(waiter)
        return waiter

    async def _run_stop(self) -> None:
        self._state = "stopping"
        run, starting = self._run, self._starting
        if run is not None:
            run.cancel()
        if starting is not None:
            await starting
        if run is not None:
            await run.stop()

    def _stopped(self, result: object) -> None:
        if isinstance(result, Failure):
            log.failure("while stopping", result)
        self._run = self._starting = self._stopping = None
        self._state = "stopped"
        self._failure = None
        self._has_served = False
        serving, self._serving_waiters = self._serving_waiters, []
        failed, self._failed_waiters = self._failed_waiters, []
        stopped, self._stop_waiters = self._stop_waiters, []
        if self.running:
            # Started again while it was stopping: who has waited since then waits for this start.
            self._serving_waiters = serving
            self._start()
        else:
            for each in serving:
                each.errback(CancelledError())
        for waiter in failed + stopped:
            waiter.callback(None)
