"""
Drives a machine of L{zktwisted.zab}: feeds it with packets and the time, and does what it wants done.

Effects are performed in order.  What only waits (a log entry, a file, a snapshot) is begun, and the machine hears when
it is over; nothing is promised before, since the machine holds the promise back.  Requests of clients gather until the
turn of the reactor ends; what is sent is gathered by connection, and one delayed call waits for the machine's deadline.

This module decides nothing: which effect follows what is the machine's affair, what a transaction does the role's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from struct import Struct
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from zktwisted.edge.quorum import QuorumProtocol
from zktwisted.errors import StoreError
from zktwisted.server.snapshots import Snapshots
from zktwisted.server.sync import GroupCommit
from zktwisted.server.timers import CallLater
from zktwisted.store.database import QuorumStorage, Restored
from zktwisted.wire import quorum
from zktwisted.zab import effects
from zktwisted.zab.leader import Leader
from zktwisted.zab.learner import Learner
from zktwisted.zab.observer_master import ObserverMaster

if TYPE_CHECKING:
    from zktwisted.config import Ensemble
    from zktwisted.server.front import FrontServer

__all__ = ["Driver", "Ended", "InThread", "Station"]

log = Logger()

#: A transaction's time stands behind session, cxid and zxid.
_time_of = Struct(">20xq").unpack_from

#: Later than this is late: the process stood still meanwhile, and what others sent is still to be read.
_LATE = 0.1
_MARGIN = 0.001

_T = TypeVar("_T")
_M = TypeVar("_M", Leader, Learner, ObserverMaster)

Ended = effects.Leave | effects.Exit


class InThread(Protocol):
    """Does what takes long where nobody has to wait for it."""

    def __call__(self, call: Callable[[], _T], /) -> Awaitable[_T]:
        """Return what C{call} returns."""


@dataclass(frozen=True)
class Station:
    """
    What a driver works with: the parts of a server that outlive a role.

    @ivar core: tree, sessions, clients.
    @ivar storage: log and snapshots.
    @ivar restore: reads the database from the disk again, into the core's tree.
    @ivar now: elapsed time, seconds.
    @ivar in_thread: calls something that takes long.
    @ivar epoch_written: told that an epoch is on disk.
    @ivar field_max: the longest data that is believed, in bytes.
    """

    core: FrontServer
    storage: QuorumStorage
    snapshots: Snapshots
    restore: Callable[[], Awaitable[Restored]]
    ensemble: Ensemble
    call_later: CallLater
    now: Callable[[], float]
    in_thread: InThread
    epoch_written: Callable[[str, int], None]
    field_max: int = quorum.DEFAULT_DATA_MAX


class Driver(Generic[_M]):
    """
    Drives one machine, for as long as its role lasts.

    @ivar machine: the machine.
    @ivar over: fires with the effect that ended the role, once.
    @ivar reload: whether the database in memory has to be thrown away at the end.
    """

    machine: _M

    def __init__(self, station: Station, role: Any) -> None:
        self.role = role
        #: Called when the role has begun to serve.
        self.served: Callable[[], object] = lambda: None
        self.over: Deferred[Ended] = Deferred()
        self.reload = False
        self._station = station
        self._core = station.core
        self._storage = station.storage
        self._now = station.now
        self._ended = self._performing = self._closed = False
        self._turn: IDelayedCall | None = None
        self._timer: IDelayedCall | None = None
        self._due = 0.0
        self._out: dict[int, list[bytes]] = {}
        #: Logged and not applied, by zxid.
        self._logged: dict[int, bytes] = {}
        #: On their way to the disk: of each token how many, and the newest of them.
        self._flushing: deque[tuple[int, bytes]] = deque()
        #: What was decided in this turn: how many, and the newest of them.
        self._decided = 0
        self._newest = b""
        self._metrics = station.core.metrics
        #: What is under way on the disk, apart from the log.
        self._work: dict[Deferred[None], None] = {}
        self._group: GroupCommit[int] = GroupCommit(
            station.storage,
            station.core.config,
            station.call_later,
            station.now,
            self._persisted,
            station.core.fail,
            after_batch=station.core.after_batch,
        )
        self._handlers: dict[type, Callable[[Any], None]] = {
            effects.Send: self._send,
            effects.Broadcast: self._broadcast,
            effects.Log: self._log,
            effects.WriteEpoch: self._write_epoch,
            effects.Note: self._note,
            effects.Leave: self._end,
            effects.Exit: self._end,
        }

    # -- the loop

    def perform(self) -> None:
        """Do what the machine wants done, until it wants nothing more, and wait for its deadline."""
        if self._performing or self._ended:
            return
        self._performing = True
        machine, handlers = self.machine, self._handlers
        try:
            while True:
                wanted = machine.take()
                if not wanted:
                    # Replies go out, and clients' next requests may come in.
                    self._core.settle()
                    wanted = machine.take()
                    if not wanted:
                        break
                for effect in wanted:
                    handlers[type(effect)](effect)
                    if self._ended:
                        return
        except Exception as mistake:  # noqa: BLE001 (whatever it was, the server ends with it)
            log.failure("An effect of the agreement cannot be performed")
            self._ended = True
            self._core.fail(mistake)
            return
        finally:
            self._performing = False
            self._flush()
            if self._decided:
                decided, self._decided = self._decided, 0
                self._measure(self._age(self._newest), decided)
        self._arm()

    def _age(self, entry: bytes) -> int:
        """How long ago a transaction was made, in ms; by two clocks, if another server made it."""
        return max(0, self._core.wall_ms() - int(_time_of(entry)[0]))

    def _measure(self, age: int, count: int) -> None:
        """
        Note how long it took that transactions are decided; once for all of a turn, by the newest.

        @param age: ms since that one was made.
        """
        self._metrics.propagation_latency.add(age, count)

    def _flushed(self, newest: bytes, count: int) -> None:
        """Note how long it took that transactions are on our disk, as L{_measure} does."""
        self._metrics.proposal_ack_creation_latency.add(self._age(newest), count)

    def later(self) -> None:
        """L{perform} at the end of the turn: what other clients ask until then goes along."""
        if self._turn is None and not self._performing and not self._ended:
            self._turn = self._station.call_later(0, self._turn_ends)

    def _turn_ends(self) -> None:
        self._turn = None
        self.perform()

    def _arm(self) -> None:
        due = self.machine.deadline()
        if due is None or self._ended:
            return
        timer = self._timer
        if timer is None:
            self._timer = self._station.call_later(max(due - self._now(), 0), self._wake)
        elif due < self._due:
            timer.reset(max(due - self._now(), 0))
        else:
            return  # it will look again when it wakes up
        self._due = due

    def _wake(self) -> None:
        self._timer = None
        if self._now() - self._due > _LATE:
            # We stood still: what the others have sent meanwhile is read before anybody is found to be silent.
            self._timer = self._station.call_later(_MARGIN, self._tick)
        else:
            self._tick()

    def _tick(self) -> None:
        self._timer = None
        now = self._now()
        due = self.machine.deadline()
        if due is not None and now >= due:
            self.machine.tick(now)
            self.perform()
        else:
            self._arm()

    # -- connections

    def connection(self, channel: int) -> QuorumProtocol | None:
        """Return what is at the other end of a channel."""

    def _send(self, effect: effects.Send) -> None:
        channel, data = effect
        self._out.setdefault(channel, []).append(data)

    def _broadcast(self, effect: effects.Broadcast) -> None:
        channels, parts = effect
        for channel in channels:
            self._out.setdefault(channel, []).extend(parts)

    def _flush(self) -> None:
        if not self._out:
            return
        out, self._out = self._out, {}
        for channel, parts in out.items():
            connection = self.connection(channel)
            if connection is not None:
                connection.send(b"".join(parts) if len(parts) > 1 else parts[0])

    # -- the disk

    def _log(self, effect: effects.Log) -> None:
        token, entries = effect
        self._logged.update(entries)
        self._flushing.append((len(entries), entries[-1][1]))
        self._group.add(entries, token)

    def _persisted(self, tokens: list[int]) -> None:
        if not self._ended:
            flown = [self._flushing.popleft() for _ in tokens]
            self._flushed(flown[-1][1], sum([count for count, _ in flown]))
            machine: Any = self.machine
            machine.persisted(tokens[-1], self._now())
            self.perform()

    def begin(self, token: int, work: Awaitable[None]) -> None:
        """Let something go on beside all else; the machine hears when it is done, or that it cannot be."""
        machine: Any = self.machine

        async def run() -> None:
            try:
                await work
            except CancelledError:
                return  # the role is over
            except StoreError as error:
                outcome = partial(machine.failed, token, str(error))
            else:
                outcome = partial(machine.persisted, token)
            if not self._ended:
                outcome(self._now())
                self.perform()

        self.watch(run())

    def watch(self, work: Any) -> None:
        """Let something go on beside all else; the role is not over before it is."""
        running: Deferred[None] = Deferred.fromCoroutine(work)
        self._work[running] = None

        def done(result: object) -> None:
            self._work.pop(running, None)
            if isinstance(result, Failure) and not result.check(CancelledError):
                log.failure("while working for the agreement", result)
                self._core.fail(result.value if isinstance(result.value, Exception) else StoreError(str(result.value)))

        running.addBoth(done)

    def _write_epoch(self, effect: effects.WriteEpoch) -> None:
        async def write() -> None:
            await self._storage.write_epoch(effect.name, effect.epoch)
            self._station.epoch_written(effect.name, effect.epoch)

        self.begin(effect.token, write())

    def _note(self, effect: effects.Note) -> None:
        log.warn("{text}", text=effect.text)

    # -- the end

    def leave(self, reason: str) -> None:
        """End the role from outside."""
        if not self._ended:
            self._end(effects.Leave(reason))

    def _end(self, effect: Ended) -> None:
        if self._ended:
            return
        self._flush()
        self._stop_listening()
        self.over.callback(effect)

    def _stop_listening(self) -> None:
        self._ended = True
        for call in (self._turn, self._timer):
            if call is not None and call.active():
                call.cancel()
        self._turn = self._timer = None

    def silence(self) -> None:
        """Promise nothing more to anybody, at once: the disk has failed."""
        self._stop_listening()
        self._group.stop()
        self.hang_up()

    def hang_up(self) -> list[QuorumProtocol]:
        """Close the connections, and return them."""
        return []

    async def close(self) -> list[QuorumProtocol]:
        """
        Wait for the disk, and leave a database that holds all that is in the log (spec: quorum 7.5, 14.1).

        Clients are disconnected first.  What was logged and not committed is part of our history until the next leader
        says otherwise.

        @return: the connections, which are closed, and may be waiting for somebody to read the last of what was said.
        """
        self._stop_listening()
        self.role.stop()
        connections = self.hang_up()
        await self._group.idle()
        self._group.stop()
        if self._work:
            await DeferredList(list(self._work))
        if not self.reload:
            core = self._core
            for zxid, entry in self._logged.items():
                if zxid > core.last_zxid:
                    core.replay(zxid, entry)
        self._logged.clear()
        return connections
