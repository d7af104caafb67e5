"""
One run of a server, from a start to the stop: what was built for it, in which order it comes up and goes down.

Up: directories, ports (four-letter words are answered from here on), restore, snapshot, service: alone, or as a peer
that looks for a leader.  Down: ports, requests under way, the peer, the log, connections, threads.

This module joins the rooms and decides nothing about requests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, DeferredList, maybeDeferred
from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IListeningPort,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from twisted.python.failure import Failure

from zktwisted.config import ServerConfig
from zktwisted.config.secure import check_endpoint, check_ports
from zktwisted.edge.auth import AuthProviders
from zktwisted.edge.client import ClientFactory, SecureEndpoint
from zktwisted.edge.disk import PosixDisk
from zktwisted.errors import ConfigError, StoreError
from zktwisted.ops.fourletter import FourLetterWords
from zktwisted.server.core import STANDALONE_ID
from zktwisted.server.front import FrontServer
from zktwisted.server.metrics import ServerMetrics, ServerStats
from zktwisted.server.reaper import Reaper
from zktwisted.server.snapshots import Snapshots
from zktwisted.server.threads import in_thread
from zktwisted.server.timers import Ticker
from zktwisted.server.view import ServerView
from zktwisted.store.database import Database, NullDatabase, Options, Restored, check_directories
from zktwisted.store.disk import Disk
from zktwisted.tree.schemes import ForeignScheme, SaslScheme, Schemes, X509Scheme, generate_digest

if TYPE_CHECKING:
    from zktwisted.edge.clienttls import ClientTls
    from zktwisted.edge.network import Network
    from zktwisted.edge.tlsnetwork import TlsNetwork
    from zktwisted.server.peer import QuorumPeer
    from zktwisted.server.processors import ProcessorFactory

__all__ = ["Disks", "Run", "SecureEndpoint"]

log = Logger()

Disks = Callable[[ServerConfig], tuple[Disk, Disk]]
"""Makes the directories of the logs and of the snapshots; they may be one."""

#: A client that does not take what it was sent is cut off so long after the server has said all, in seconds.
_GRACE = 1.0
#: How often the files of TLS are looked at, in seconds, if so configured.
_LOOK_AT_FILES = 1.0

_T = TypeVar("_T")


class Run:
    """
    A server that starts once and stops once.

    @ivar core: what answers requests.
    @ivar view: how it looks.
    @ivar peer: what makes it one of an ensemble, C{None} for a server on its own.
    """

    _storage: Database | NullDatabase
    _log_disk: Disk | None = None
    _snap_disk: Disk | None = None

    def __init__(
        self,
        reactor: Any,
        config: ServerConfig,
        client_endpoints: Sequence[IStreamServerEndpoint] | None,
        *,
        memory: bool | NullDatabase,
        monotonic: Callable[[], float],
        wall_ms: Callable[[], int],
        entropy: Random,
        disks: Disks | None,
        network: Network | None,
        processors: Sequence[ProcessorFactory],
        wrap_clients: Callable[[IProtocolFactory], IProtocolFactory] | None,
        serving: Callable[[str], None],
        failed: Callable[[Failure], None],
    ) -> None:
        """
        @param memory: whether there are no files; or what a server on its own keeps its data in.
        @param serving: told the name of each role of a peer that begins to serve.
        @param failed: told once when the server cannot go on, in the reactor's thread; see L{give_up}.
        """
        self._reactor = reactor
        self._config = config
        self._endpoints = client_endpoints
        self._monotonic = monotonic
        self._wall_ms = wall_ms
        self._failed = failed
        self._cancelled = self._given_up = False
        self._ports: list[IListeningPort] = []
        self._tickers: list[Ticker] = []
        self._stoppable: list[PosixDisk] = []
        metrics, self._stats = ServerMetrics(Random(entropy.random())), ServerStats()
        self._tls = self._open_tls(metrics)
        self._threaded = not memory and disks is None
        self._storage = self._open_memory(memory, entropy) if memory else self._open_disks(disks, metrics, entropy)
        self._config_schemes(metrics)
        self.core = FrontServer(
            config,
            self._storage,
            monotonic=monotonic,
            wall_ms=wall_ms,
            call_later=reactor.callLater,
            schemes=self._schemes,
            auth=self._auth,
            metrics=metrics,
            stats=self._stats,
            entropy=entropy,
            fatal=lambda error: failed(Failure(error)),
            server_id=config.sid if config.distributed else STANDALONE_ID,
            processors=processors,
        )
        self._factory = ClientFactory(self.core, wall_ms)
        self._clients: IProtocolFactory = self._factory if wrap_clients is None else wrap_clients(self._factory)
        self._secure_port: IListeningPort | None = None
        self._quorum_tls: TlsNetwork | None = None
        self.view = ServerView(self.core, self._factory, self._client_port, monotonic, wall_ms, not memory)
        self.core.words = FourLetterWords(self.view, config)
        self.core.after_batch = self._after_batch
        self._snapshots = Snapshots(
            self._storage, self.core.snapshot_image, reactor.callLater, monotonic, self.core.metrics
        )
        self._reaper = Reaper(
            reactor.callLater,
            lambda: self.core.expendable_nodes(wall_ms()),
            self.core.delete_container,
            config.container_max_per_minute,
        )
        self.peer = self._make_peer(network, entropy, serving)
        self.view.peer = self.peer

    def _make_peer(self, network: Network | None, entropy: Random, serving: Callable[[str], None]) -> QuorumPeer | None:
        config, storage = self._config, self._storage
        if not config.distributed or config.ensemble is None or isinstance(storage, NullDatabase):
            return None
        # Not before: a server on its own starts sooner without a third of all modules.
        from zktwisted.edge.network import TcpNetwork
        from zktwisted.edge.quorumauth import QuorumAuth
        from zktwisted.server.peer import QuorumPeer, Surroundings

        around = Surroundings(
            core=self.core,
            storage=storage,
            snapshots=self._snapshots,
            network=network or self._network(TcpNetwork(self._reactor)),
            clock=self._reactor,
            monotonic=self._monotonic,
            entropy=Random(entropy.random()),
            restore=self._restore,
            in_thread=self._in_thread,
            beginning=self.view.begin,
            serving=serving,
            failed=self._failed,
            # Nobody waits for an answer of a KDC who wants to stop.
            auth=QuorumAuth.from_config(
                config, partial(in_thread, self._reactor, daemon=True) if self._threaded else maybeDeferred
            ),
        )
        return QuorumPeer(config, config.ensemble, around)

    def _network(self, network: Network) -> Network:
        """Put TLS around the way to the other servers, if so configured."""
        if not self._config.quorum_tls:
            return network
        try:
            from zktwisted.edge.tlsnetwork import TlsNetwork
        except ImportError as error:
            raise _no_tls(error) from error
        secure = self._quorum_tls = TlsNetwork(network, self._config, self._reactor, self.core.metrics)
        return secure

    def _open_tls(self, metrics: ServerMetrics) -> ClientTls | None:
        wanted = any(isinstance(endpoint, SecureEndpoint) for endpoint in self._endpoints or ())
        if not wanted and (self._endpoints is not None or not self._config.client_tls):
            return None
        # Not before: it needs packages that a server without TLS does not.
        try:
            from zktwisted.edge.clienttls import ClientTls
        except ImportError as error:
            raise _no_tls(error) from error
        return ClientTls(self._config, self._reactor, metrics, self._stats)

    def _config_schemes(self, metrics: ServerMetrics) -> None:
        config = self._config
        self._schemes = Schemes(None if config.digest_auth_enabled else [])
        self._auth = AuthProviders.from_config(config, generate_digest, metrics, tls=self._tls is not None)
        if "x509" in self._auth.schemes:
            self._schemes.add(X509Scheme(config.x509_super_user or None))
        if "sasl" in self._auth.schemes:
            self._schemes.add(SaslScheme(dict(config.properties).get("letAnySaslUserDoX")))
        for name in self._auth.foreign:
            self._schemes.add(ForeignScheme(name))

    def _open_disks(self, disks: Disks | None, metrics: ServerMetrics, entropy: Random) -> Database:
        config = self._config
        base: Disk | None = None
        if disks is not None:
            self._log_disk, self._snap_disk = disks(config)
        else:
            self._log_disk = self._posix_disk(config.log_dir, metrics)
            same = config.log_dir == config.snapshot_dir
            self._snap_disk = self._log_disk if same else self._posix_disk(config.snapshot_dir, metrics)
            base = self._posix_disk(config.data_log_dir, metrics)
        return Database(self._log_disk, self._snap_disk, self._options(), entropy, base=base)

    def _open_memory(self, kept: bool | NullDatabase, entropy: Random) -> Database | NullDatabase:
        if isinstance(kept, NullDatabase):
            return kept
        if not self._config.distributed:
            return NullDatabase()
        from zktwisted.store.memory import MemoryDatabase

        return MemoryDatabase(self._options(), entropy)

    def _options(self) -> Options:
        config = self._config
        return Options(
            snap_count=config.snap_count,
            snap_size_limit_kib=config.snap_size_limit_in_kb,
            txn_log_size_limit_kib=config.txn_log_size_limit_in_kb,
            pre_alloc_size_kib=config.pre_alloc_size,
            compression_method=config.snapshot_compression_method,
            commit_log_count=config.commit_log_count,
            trust_empty=config.snapshot_trust_empty,
            autocreate=config.db_autocreate,
            max_entry=config.jute_max_buffer + config.jute_max_buffer_extra_size,
        )

    def _posix_disk(self, path: str, metrics: ServerMetrics) -> PosixDisk:
        threshold = self._config.fsync_warning_threshold_ms

        def synced(seconds: float) -> None:
            metrics.fsynctime.add(int(seconds * 1000))
            if seconds * 1000 > threshold:
                self._stats.fsync_threshold_exceed_count += 1

        disk = PosixDisk(
            self._reactor,
            path,
            force_sync=self._config.force_sync,
            sync_warning_ms=threshold,
            on_sync=synced,
            monotonic=self._monotonic,
        )
        self._stoppable.append(disk)
        return disk

    # -- up

    async def start(self) -> None:
        """
        Come up.

        @raise CancelledError: L{cancel} was called meanwhile.
        @raise StoreError: the files are no good, or cannot be used.
        @raise CannotListenError: a port cannot be had.
        """
        if self._log_disk is not None and self._snap_disk is not None:
            check_directories(self._log_disk, self._snap_disk, self._config.datadir_autocreate)
        await self._listen()
        self._go_on()
        self._tick(self._factory.expiry.interval_ms / 1000, self._expire_connections, aligned=True)
        restored = await self._restore()
        self._go_on()
        if self.peer is None:
            await self._serve_alone(restored)
        else:
            await self._join(self.peer, restored)

    async def _serve_alone(self, restored: Restored) -> None:
        removed = self.core.started(restored.zxid)
        self._log_restored(restored, len(removed))
        if not isinstance(self._storage, NullDatabase):
            await self._first_snapshot(restored, bool(removed))
            self._go_on()
        self._begin_ticking()
        self.core.open()

    async def _join(self, peer: QuorumPeer, restored: Restored) -> None:
        self.core.restored(restored.zxid)
        self._log_restored(restored, 0)
        if restored.new:
            await self._snapshots.begin(hurry=True)
            self._go_on()
        self._begin_ticking()
        await peer.start()

    def cancel(self) -> None:
        """Come up no further."""
        self._cancelled = True
        if self.peer is not None:
            self.peer.cancel()
        self._snapshots.stop()

    def _go_on(self) -> None:
        if self._cancelled:
            raise CancelledError

    async def _listen(self) -> None:
        config = self._config
        factory = self._clients
        for tls in (self._tls, self._quorum_tls):
            if tls is not None:
                self._tick(_LOOK_AT_FILES, tls.refresh)
        check_ports(config, clients=self._endpoints is None)
        if self._endpoints is not None:
            for endpoint in self._endpoints:
                secure = self._tls is not None and isinstance(endpoint, SecureEndpoint)
                await self._listen_on(endpoint, self._tls.listener(factory) if self._tls and secure else factory)
                check_endpoint(config, self._ports[-1], tls=secure)
            return
        if config.client_port is not None:
            unified = self._tls is not None and config.client_port_unification
            inner = self._tls.listener(factory, plain=True) if self._tls and unified else factory
            await self._listen_at(config.client_port, config.client_port_address, inner)
        if config.secure_client_port is not None and self._tls is not None:
            listener = self._tls.listener(factory)
            await self._listen_at(config.secure_client_port, config.secure_client_port_address, listener)
            self._secure_port = self._ports[-1]
            self.view.secure_client_port = getattr(self._secure_port.getHost(), "port", -1)

    async def _listen_at(self, port: int, address: str | None, factory: IProtocolFactory) -> None:
        backlog = self._config.backlog
        if address is None:
            # Like Java: every address of both families with one socket, where there are both.
            try:
                await self._listen_on(_tcp(TCP6ServerEndpoint, self._reactor, port, backlog, "::"), factory)
                return
            except CannotListenError as error:
                log.debug("No IPv6: {reason}", reason=error)
        family = TCP6ServerEndpoint if address is not None and ":" in address else TCP4ServerEndpoint
        await self._listen_on(_tcp(family, self._reactor, port, backlog, address or ""), factory)

    async def _listen_on(self, endpoint: IStreamServerEndpoint, factory: IProtocolFactory) -> None:
        self._ports.append(await endpoint.listen(factory))
        self._go_on()

    async def _restore(self) -> Restored:
        storage, target = self._storage, self.core.restore_target()
        begun = self._monotonic()
        # In a thread, so that a monitor gets its answer while a big tree is read: the core is not used before it is
        # there.
        restored = await self._in_thread(lambda: storage.restore(target))
        elapsed = round((self._monotonic() - begun) * 1000)
        metrics = self.core.metrics
        metrics.dbinittime.add(elapsed)
        metrics.startup_txns_loaded.add(restored.entries)
        return restored

    async def _in_thread(self, call: Callable[[], _T]) -> _T:
        """Do what takes long where nobody has to wait for it; what is in memory does not take long."""
        return await in_thread(self._reactor, call) if self._threaded else call()

    def _log_restored(self, restored: Restored, removed: int) -> None:
        for note in restored.notes:
            (log.error if note.error else log.warn)("{note}", note=note.text)
        if self._log_disk is not None:
            log.info(
                "Restored to zxid 0x{zxid:x} from {snapshot} and {entries} transactions, {nodes} znodes",
                zxid=restored.zxid,
                snapshot=restored.snapshot_name or "no snapshot",
                entries=restored.entries,
                nodes=self.core.tree.node_count,
            )
        if removed:
            log.info("{count} ephemeral nodes of sessions that are over have been deleted", count=removed)

    async def _first_snapshot(self, restored: Restored, removed: bool) -> None:
        """Write what was restored, unless that is what the newest snapshot says already."""
        if restored.new or removed or restored.snapshot_zxid is None:
            # Nothing may be logged before: replaying it over what is on disk now would not give what is here.
            await self._snapshots.begin(hurry=True)
        elif restored.entries:
            self._snapshot()

    # -- what is done regularly

    def _tick(self, seconds: float, action: Callable[[], object], *, aligned: bool = False) -> None:
        ticker = Ticker(self._reactor.callLater, self._monotonic, seconds, action, aligned=aligned)
        self._tickers.append(ticker)
        ticker.start()

    def _begin_ticking(self) -> None:
        config = self._config
        self._tick(config.tick_time / 1000, self._expire_sessions, aligned=True)
        if self.core.throttler.enabled:
            self._tick(self.core.throttler.stall_time, lambda: self._factory.admit(self._monotonic()))
        if config.container_check_interval_ms > 0:
            self._tick(config.container_check_interval_ms / 1000, self._reaper.run)
        if config.autopurge_purge_interval_ms > 0 and self._log_disk is not None:
            self._purge()
            self._tick(config.autopurge_purge_interval_ms / 1000, self._purge)
        if config.jvm_pause_monitor:
            sleep = config.jvm_pause_sleep_time_ms / 1000
            monitor = Ticker(self._reactor.callLater, self._monotonic, sleep, int, stalled=self._stalled)
            self._tickers.append(monitor)
            monitor.start()

    def _expire_sessions(self) -> None:
        self.core.expire_sessions(int(self._monotonic() * 1000))

    def _expire_connections(self) -> None:
        self._factory.expire(self._monotonic())

    def _purge(self) -> None:
        try:
            gone = self._storage.purge(self._config.autopurge_snap_retain_count)
        except StoreError as error:
            log.warn("Purging failed: {reason}", reason=str(error))
            return
        if gone:
            log.info("Purged {count} files: {names}", count=len(gone), names=", ".join(gone))

    def _stalled(self, seconds: float) -> None:
        milliseconds = round(seconds * 1000)
        config = self._config
        if milliseconds > config.jvm_pause_warn_threshold_ms:
            say = log.warn
        elif milliseconds > config.jvm_pause_info_threshold_ms:
            say = log.info
        else:
            return
        self.core.metrics.jvm_pause_time_ms.add(milliseconds)
        say("The event loop stood still for {milliseconds} ms", milliseconds=milliseconds)

    def _after_batch(self) -> None:
        # A flush may come to its end after all has been given up.
        if not self._given_up and self._storage.snapshot_due():
            if self._snapshots.running:
                log.warn("Too busy to snap, skipping")
            else:
                self._snapshot()

    def _snapshot(self) -> None:
        self._snapshots.begin().addErrback(self._not_written)

    def _not_written(self, failure: Failure) -> None:
        if not isinstance(failure.value, CancelledError):
            self._failed(failure)

    # -- down

    def give_up(self) -> None:
        """Serve nobody any more, at once; L{stop} is still to follow."""
        self._given_up = True
        self._stop_timers()
        self._snapshots.stop()
        if self.peer is not None:
            self.peer.give_up()
        self.core.serving = False
        for connection in list(self.core.connections):
            connection.close()
        self._close_ports()

    async def stop(self) -> None:
        """Go down in order."""
        self._stop_timers()
        await self._close_ports()
        if not self._given_up:
            await self._drain_throttle()
            await self.core.quiesce()
        if self.peer is not None:
            await self.peer.stop()
        if not self._given_up:
            self._snapshots.stop()
            flushed: Deferred[None] = Deferred()
            self._storage.commit(partial(_fire, flushed))
            try:
                await flushed
            except StoreError as error:
                log.error("The log could not be flushed: {reason}", reason=str(error))
        self._snapshots.stop()
        await self._close_connections()
        if self.core.role is not None:
            self.core.role.stop()
        for disk in self._stoppable:
            disk.stop()

    async def _drain_throttle(self) -> None:
        """Let requests that wait in the request throttle have their turn, for request_throttler.shutdownTimeout."""
        throttler = self.core.throttler
        if not len(throttler):
            return
        drained: Deferred[None] = Deferred()
        until = self._monotonic() + self._config.request_throttler_shutdown_timeout / 1000

        def look() -> None:
            if not len(throttler) or self._given_up or self._monotonic() >= until:
                drained.callback(None)
                self._stop_timers()

        self._tick(throttler.stall_time, look)
        await drained

    def _stop_timers(self) -> None:
        for ticker in self._tickers:
            ticker.stop()
        self._tickers.clear()
        self._reaper.stop()

    def _close_ports(self) -> Deferred[Any]:
        for tls in (self._tls, self._quorum_tls):
            if tls is not None:
                tls.stop()
        ports, self._ports = self._ports, []
        return DeferredList([maybeDeferred(port.stopListening) for port in ports], consumeErrors=True)

    async def _close_connections(self) -> None:
        """Let connections go when they have taken what was written for them, or after a moment."""
        core = self.core
        for connection in list(core.connections):
            connection.close_after_flush()
        if not core.connections:
            return
        gone: Deferred[None] = Deferred()
        core.on_disconnected = lambda: None if core.connections or gone.called else gone.callback(None)
        cut: IDelayedCall = self._reactor.callLater(_GRACE, self._cut_off, gone)
        await gone
        if cut.active():
            cut.cancel()

    def _cut_off(self, gone: Deferred[None]) -> None:
        for connection in list(self.core.connections):
            connection.close()
        if not gone.called:
            gone.callback(None)

    # -- for the view

    @property
    def addresses(self) -> list[IAddress]:
        """Where clients connect."""
        return [port.getHost() for port in self._ports]

    def _client_port(self) -> int:
        plain = [port.getHost() for port in self._ports if port is not self._secure_port]
        return next((port for address in plain if (port := getattr(address, "port", None)) is not None), -1)


def _fire(waiting: Deferred[None], error: StoreError | None) -> None:
    if error is None:
        waiting.callback(None)
    else:
        waiting.errback(error)


def _tcp(family: Any, *arguments: object) -> IStreamServerEndpoint:
    """Make an endpoint; Twisted's own have no types."""
    endpoint: IStreamServerEndpoint = family(*arguments)
    return endpoint


def _no_tls(error: ImportError) -> ConfigError:
    return ConfigError(
        f"TLS needs packages that are not installed: {error.name}", remedy="pip install zktwisted[tls]"
    )
