"""
L{QuorumPeer}: one server of an ensemble, from LOOKING to LEADING, FOLLOWING or OBSERVING and back, until it is stopped.

Each turn of its loop is an election and the role that comes of it.  A role ends for many reasons (no quorum, no leader,
a step too late); what follows is always the same: clients are disconnected, the disk has the last word, and the next
election begins with a database that holds all that is in the log.

This module knows who does what next.  It refuses to know votes, packets and transactions: those are the election's
(L{zktwisted.edge.election}), the machines' (L{zktwisted.zab}) and the roles' (L{zktwisted.server.roles}).

Rules: spec: quorum 4, 5, 7.5, 10, 13, 14; election 8.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import IListeningPort, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from zktwisted.config.ensemble import Address, Ensemble, Member
from zktwisted.edge.election import ElectionService
from zktwisted.edge.network import Network
from zktwisted.edge.quorum import Dialer, QuorumFactory, QuorumProtocol
from zktwisted.edge.quorumauth import Exchange, Guard, QuorumAuth
from zktwisted.server.driver import Driver, Ended, InThread, Station
from zktwisted.server.following import LearnerDriver
from zktwisted.server.leader import LeaderRole
from zktwisted.server.leading import LeaderDriver
from zktwisted.server.learner import LearnerRole
from zktwisted.server.learners import CoreHistory, LearnersDriver
from zktwisted.server.observers import ObserverMasterDriver
from zktwisted.server.readonly import ReadOnlyRole
from zktwisted.server.snapshots import Snapshots
from zktwisted.store.database import QuorumStorage, Restored
from zktwisted.store.epochs import ACCEPTED, CURRENT
from zktwisted.wire.votes import ServerState, Vote
from zktwisted.zab.effects import Exit, Limits
from zktwisted.zab.leader import Leader
from zktwisted.zab.learner import Learner
from zktwisted.zab.observer_master import ObserverMaster

if TYPE_CHECKING:
    from zktwisted.config import ServerConfig
    from zktwisted.server.front import FrontServer

__all__ = ["PeerExit", "QuorumPeer", "Surroundings"]

log = Logger()

#: A read-only server is not worth starting before an election has had this long, in seconds.
_READ_ONLY_AFTER = 2.0

_T = TypeVar("_T")


class PeerExit(Exception):
    """
    The process has to end.

    @ivar status: with this exit status (spec: quorum 1.4).
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class Surroundings:
    """
    What a peer is given by the server that it is a part of.

    @ivar restore: reads the database from the disk into the core.
    @ivar in_thread: calls something that takes long.
    @ivar beginning: told that a role is about to serve.
    @ivar serving: told the name of the role that serves from now on.
    @ivar failed: told once that the process has to end.
    @ivar auth: how servers authenticate to one another; C{None}: they do not.
    """

    core: FrontServer
    storage: QuorumStorage
    snapshots: Snapshots
    network: Network
    clock: IReactorTime
    monotonic: Callable[[], float]
    entropy: Random
    restore: Callable[[], Awaitable[Restored]]
    in_thread: InThread
    beginning: Callable[[], None]
    serving: Callable[[str], None]
    failed: Callable[[Failure], None]
    auth: QuorumAuth | None = None


class QuorumPeer:
    """
    One server of an ensemble.

    @ivar state: what it is now.
    @ivar accepted_epoch: as on disk, like L{current_epoch}.
    @ivar machine: what agrees with the others, C{None} while LOOKING.
    @ivar learner_master: the id of the server that we followed or observed last, -1 at first; of one that serves
        observers in the leader's stead, if that is so.
    """

    def __init__(self, config: ServerConfig, ensemble: Ensemble, around: Surroundings) -> None:
        self.config = config
        self.ensemble = ensemble
        self.sid = config.sid
        self.accepted_epoch = self.current_epoch = 0
        self._around = around
        self._core = around.core
        self._now = around.monotonic
        self._metrics = around.core.metrics
        member = ensemble.member(self.sid)
        self.observer = member is not None and not member.voting
        self.limits = _limits(config)
        self._driver: Driver[Any] | None = None
        self._master: ObserverMasterDriver | None = None
        #: The masters that this observer may turn to, in the order of its turns.
        self.learner_master = -1
        self._masters: list[Member] = []
        self._read_only: ReadOnlyRole | None = None
        self._ports: list[IListeningPort] = []
        self._leaving: list[QuorumProtocol] = []
        self._election = ElectionService(
            around.network, around.clock, around.monotonic, self.sid, config, ensemble, auth=around.auth
        )
        self._guards: list[Guard] = []
        self._main: Deferred[None] | None = None
        self._waiting: Deferred[Any] | None = None
        self._stopping = False
        #: Since when nobody is served, seconds.
        self._unavailable = self._now()
        self._data_max = config.jute_max_buffer + config.jute_max_buffer_extra_size
        self._station = Station(
            core=around.core,
            storage=around.storage,
            snapshots=around.snapshots,
            restore=self._restore,
            ensemble=ensemble,
            call_later=around.clock.callLater,
            now=around.monotonic,
            in_thread=around.in_thread,
            epoch_written=self._epoch_written,
            field_max=self._data_max,
        )

    @property
    def state(self) -> ServerState:
        """What it is, as far as its vote says."""
        return ServerState(self._election.state)

    @property
    def vote(self) -> Vote | None:
        """Whom it has elected."""
        return self._election.vote

    @property
    def machine(self) -> Leader | Learner | None:
        """What agrees with the others."""
        return None if self._driver is None else getattr(self._driver, "machine", None)

    @property
    def observer_master(self) -> ObserverMaster | None:
        """What serves observers, while this server follows and has a port for them."""
        return None if self._master is None else self._master.machine

    # -- life

    async def start(self) -> None:
        """
        Begin to look for a leader; the database has been restored.

        @raise StoreError: the epochs on disk contradict the history.
        @raise ElectionPortError: the election port cannot be had.
        """
        epochs = await self._around.storage.epochs(self._core.last_zxid)
        for note in epochs.notes:
            (log.error if note.error else log.warn)("{note}", note=note.text)
        self.accepted_epoch, self.current_epoch = epochs.accepted, epochs.current
        await self._election.start()
        if self._stopping:
            raise CancelledError
        self._main = Deferred.fromCoroutine(self._run())

    def cancel(self) -> None:
        """Begin nothing any more."""
        self._stopping = True
        if self._waiting is not None:
            self._waiting.cancel()

    def give_up(self) -> None:
        """Say nothing more to anybody, at once; L{stop} is still to follow."""
        if self._driver is not None:
            self._driver.silence()
        self.cancel()

    async def stop(self) -> None:
        """Leave the role, whatever it is, and the ensemble."""
        self.cancel()
        if self._main is not None:
            await self._main
        await self._election.stop()

    async def _run(self) -> None:
        """Live."""
        try:
            while True:
                await self._look()
                await self._play()
        except CancelledError:
            pass
        except Exception:  # noqa: BLE001 (whatever it was, the server ends with it)
            self._around.failed(Failure())

    async def _wait(self, event: Deferred[_T]) -> _T:
        """Wait for what may be given up; nothing else is interrupted by L{stop}."""
        self._waiting = event
        if self._stopping:
            event.cancel()
        try:
            return await event
        finally:
            self._waiting = None

    async def _pause(self, seconds: float) -> None:
        if seconds > 0:
            await self._wait(deferLater(self._around.clock, seconds, lambda: None))

    async def _restore(self) -> Restored:
        restored = await self._around.restore()
        for note in restored.notes:
            (log.error if note.error else log.warn)("{note}", note=note.text)
        self._core.restored(restored.zxid)
        return restored

    def _epoch_written(self, name: str, epoch: int) -> None:
        if name == ACCEPTED:
            self.accepted_epoch = epoch
        elif name == CURRENT:
            self.current_epoch = epoch

    # -- LOOKING

    async def _look(self) -> None:
        """Take part in an election until it is decided."""
        self._metrics.looking_count += 1
        begun = self._now()
        read_only = None
        if self.config.readonlymode_enabled:
            delay = max(_READ_ONLY_AFTER, self.config.tick_time / 1000)
            read_only = self._around.clock.callLater(delay, self._serve_reads)
        log.info("LOOKING, at 0x{zxid:x} of epoch {epoch}", zxid=self._core.last_zxid, epoch=self.current_epoch)
        try:
            await self._wait(self._election.look(self._core.last_zxid, self.current_epoch))
        finally:
            if read_only is not None and read_only.active():
                read_only.cancel()
            if self._read_only is not None:
                self._read_only.stop()
                self._read_only = None
        if self.state != ServerState.OBSERVING:
            self._metrics.election_time.add(round((self._now() - begun) * 1000))

    def _serve_reads(self) -> None:
        """There is no quorum: let those read who want to, nevertheless (spec: quorum 13)."""
        self._around.beginning()
        self._read_only = ReadOnlyRole(self._core)
        self._core.put_config(self.ensemble)
        self._read_only.start(self._core.last_zxid)
        log.info("Serving reads without a quorum")
        self._around.serving(self._read_only.name)

    # -- a role

    async def _play(self) -> None:
        """Be what the election has decided, until that ends."""
        vote = self._election.vote
        assert vote is not None, "an election that is decided has a vote"
        log.info("{state}, the leader is {leader}", state=self.state.name, leader=vote.leader)
        if self.state == ServerState.LEADING:
            await self._lead()
        else:
            await self._learn(vote)

    async def _through(self, driver: Driver[Any], role: Coroutine[Any, Any, None]) -> None:
        """Live through a role, and let it end in order."""
        self._driver = driver
        failure: Exception | None = None
        try:
            await role
        except Exception as error:  # noqa: BLE001 (it is raised again; no C{finally}, which a crash would pass through)
            failure = error
        self._driver = None
        self._unavailable = self._now()
        self._election.on_disloyal = None
        self._election.set_state(ServerState.LOOKING)
        # Who has not taken in the meantime what the last role left for him does not read any more.
        for connection in self._leaving:
            connection.abort()
        closed = self._close_ports()
        for guard in self._guards:
            guard.close()
        self._guards.clear()
        self._leaving = await driver.close()
        master, self._master = self._master, None
        if master is not None:
            self._leaving += await master.close()
        await closed
        await self._close_ports()  # one that came late
        if failure is not None:
            raise failure

    def _close_ports(self) -> Deferred[Any]:
        ports, self._ports = self._ports, []
        return DeferredList([maybeDeferred(port.stopListening) for port in ports], consumeErrors=True)

    def _left(self, outcome: Ended) -> None:
        """@raise PeerExit: the process has to end."""
        if isinstance(outcome, Exit):
            log.critical("{reason}", reason=outcome.reason)
            raise PeerExit(outcome.status, outcome.reason)
        log.warn("The role of {role} ends: {reason}", role=self.state.name, reason=outcome.reason)

    def _begin(self, epoch: int) -> None:
        """A role is about to serve: settled servers answer with its epoch from now on (spec: election 8)."""
        vote = self._election.vote
        if vote is not None:
            self._election.set_state(self.state, vote._replace(peer_epoch=epoch))
        self._election.on_disloyal = None
        self._around.beginning()

    def _serving(self) -> None:
        assert self._driver is not None, "only a role serves"
        name = self._driver.role.name
        waited = round((self._now() - self._unavailable) * 1000)
        self._metrics.unavailable_time.add(waited)
        if name == "leader":
            self._metrics.leader_unavailable_time.add(waited)
        log.info("Serving as {role} at 0x{zxid:x}", role=name, zxid=self._core.last_zxid)
        self._around.serving(name)

    # LEADING

    async def _lead(self) -> None:
        driver = LeaderDriver(self._station, lambda agreement: LeaderRole(self._core, agreement), self._begin)
        driver.served = self._serving
        self._core.put_config(self.ensemble)
        machine = driver.machine = Leader(
            self.sid,
            self.ensemble,
            self.accepted_epoch,
            self.current_epoch,
            self._core.last_zxid,
            CoreHistory(self._station),
            self.limits,
            self._now(),
        )
        await self._through(driver, self._led(driver, machine))

    async def _led(self, driver: LeaderDriver, machine: Leader) -> None:
        if await self._listen(driver):
            self._election.on_disloyal = lambda sid: self._disloyal(driver, machine, sid)
            driver.perform()
            ended = await self._wait(driver.over)
            self._left(ended)

    def _disloyal(self, driver: LeaderDriver, machine: Leader, sid: int) -> None:
        """One of those who elected us looks for a leader again (spec: quorum 5.3)."""
        machine.looking(sid, self._now())
        if machine.ended:
            self._metrics.quit_leading_due_to_disloyal_voter += 1
        driver.perform()

    def _guard(self, begin: Callable[[], Exchange]) -> Guard:
        """Let nobody through who has not authenticated; until the end of the role."""
        guard = Guard(begin, self._around.clock, self.config.init_limit * self.config.tick_time / 1000)
        self._guards.append(guard)
        return guard

    async def _listen(self, driver: LeaderDriver) -> bool:
        """Listen for learners on every address of ours; one is enough."""
        member = self.ensemble.member(self.sid)
        await self._listen_on(driver, member.addresses if member is not None else ())
        return bool(self._ports)

    async def _listen_on(self, driver: LearnersDriver[Any], addresses: Iterable[Address]) -> None:
        auth = self._around.auth
        guard = None if auth is None else self._guard(auth.accepting)
        factory = QuorumFactory(driver, self._data_max, guard)
        if self.config.quorum_listen_on_all_ips:
            addresses = dict.fromkeys(Address("", address.port) for address in addresses)
        for address in addresses:
            try:
                port = await self._around.network.server(address).listen(factory)
            except Exception as error:  # noqa: BLE001 (why ever it cannot be had, others may do)
                log.error("Cannot listen for learners on {address}: {reason}", address=address, reason=str(error))
            else:
                self._ports.append(port)
            if self._stopping:
                raise CancelledError

    # FOLLOWING and OBSERVING

    async def _learn(self, vote: Vote) -> None:
        observer = self.state == ServerState.OBSERVING
        leader = self.ensemble.member(vote.leader)
        if leader is None:
            log.warn("The leader {sid} is not in our list of servers", sid=vote.leader)
            await self._pause(self.config.leader_connect_delay_during_retry_ms / 1000)
            return
        self._core.put_config(self.ensemble)
        driver = LearnerDriver(self._station, lambda upstream: LearnerRole(self._core, upstream, observer), self._begin)
        await self._through(driver, self._learned(driver, leader, observer))
        if observer:
            # Not all observers at once (spec: election 7.7).
            await self._pause(self._around.entropy.random() * self.config.observer_election_delay_ms / 1000)

    async def _learned(self, driver: LearnerDriver, leader: Member, observer: bool) -> None:
        sync_time = self._metrics.observer_sync_time if observer else self._metrics.follower_sync_time
        begun = self._now()

        def served() -> None:
            sync_time.add(round((self._now() - begun) * 1000))
            if not observer and self.config.observer_master_port:
                self._serve_observers(driver)
            self._serving()

        driver.served = served
        try:
            await self._follow(driver, leader, observer)
        except _UnreachableError as error:
            log.warn("Cannot reach the leader {sid}: {reason}", sid=leader.sid, reason=str(error))
        else:
            ended = await self._wait(driver.over)
            self._left(ended)

    def _serve_observers(self, follower: LearnerDriver) -> None:
        """Be a leader to observers, too (spec: quorum 10.3)."""
        machine = ObserverMaster(
            self.sid,
            self.ensemble,
            follower.machine.epoch,
            self._core.last_zxid,
            CoreHistory(self._station),
            self.limits,
            self._now(),
        )
        master = self._master = follower.master = ObserverMasterDriver(self._station, follower, machine)
        member = self.ensemble.member(self.sid)
        hosts = dict.fromkeys(address.host for address in member.addresses) if member is not None else ()
        follower.watch(self._listen_on(master, [Address(host, self.config.observer_master_port) for host in hosts]))

    def _next_master(self) -> Member:
        """Return whom an observer turns to next: each voter in its turn, in an order of our own."""
        if not self._masters:
            self._masters = [voter for voter in self.ensemble.voters if voter.sid != self.sid]
            self._around.entropy.shuffle(self._masters)
        return self._masters.pop()

    async def _follow(self, driver: LearnerDriver, leader: Member, observer: bool) -> None:
        config = self.config
        dialer = Dialer(
            self._around.network,
            self._around.clock,
            self._now,
            pause=config.leader_connect_delay_during_retry_ms / 1000,
            limit=(config.connect_to_learner_master_limit or config.init_limit) * config.tick_time / 1000,
        )
        master, addresses = leader, leader.addresses
        if observer and config.observer_master_port:
            if not self._masters:
                await self._pause(self._around.entropy.random() * config.observer_reconnect_delay_ms / 1000)
            master = self._next_master()
            addresses = tuple(Address(each.host, config.observer_master_port) for each in master.addresses)
        self.learner_master = master.sid
        auth, host = self._around.auth, master.addresses[0].host
        guard = self._guard(lambda: auth.connecting(host)) if auth is not None and auth.calls else None
        factory = QuorumFactory(driver, self._data_max, guard)
        dialing = Deferred.fromCoroutine(dialer.connect(addresses, factory))
        try:
            connection = await self._wait(dialing)
        except CancelledError:
            raise
        except Exception as error:
            raise _UnreachableError(str(error)) from error
        machine = Learner(
            self.sid,
            self.ensemble,
            self.accepted_epoch,
            self.current_epoch,
            self._core.last_zxid,
            observer,
            self.limits,
            self._now(),
            self.ensemble.version,
            snapshot_missing=self._around.storage.last_snapshot_zxid < 0 and config.snapshot_trust_empty,
        )
        driver.follow(connection, machine)


class _UnreachableError(Exception):
    """The leader could not be reached."""


def _limits(config: ServerConfig) -> Limits:
    """What the machines have to keep to."""
    wait = config.leader_max_time_to_wait_for_epoch
    return Limits(
        tick=config.tick_time / 1000,
        init_limit=config.init_limit,
        sync_limit=config.sync_limit,
        max_time_to_wait_for_epoch=wait / 1000 if wait >= 0 else -1.0,
        max_concurrent_snap_syncs=config.leader_max_concurrent_snap_syncs,
        max_concurrent_diff_syncs=config.leader_max_concurrent_diff_syncs,
        snapshot_size_factor=config.snapshot_size_factor,
        force_snapshot_sync=config.force_snapshot_sync,
        observer_log=config.sync_enabled,
        observer_master_cache=config.observer_master_size_limit,
    )
