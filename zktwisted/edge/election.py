"""
L{ElectionService}: the part of a server in elections, from its start to its end.

It joins the machine that decides (C{zktwisted.zab.election}) to connections (C{zktwisted.edge.cnxmanager}) and to time.
It goes on after an election: servers that come later learn from the others whom they follow.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from zktwisted.config import ServerConfig
from zktwisted.config.ensemble import Ensemble
from zktwisted.edge.cnxmanager import ElectionPortError, QuorumCnxManager
from zktwisted.edge.network import Network
from zktwisted.edge.quorumauth import QuorumAuth
from zktwisted.errors import ProtocolError
from zktwisted.wire.votes import ServerState, Vote, decode_notification, encode_notification
from zktwisted.zab.election import Concluded, Dial, Election, LookingAgain, NewerEnsemble, SendVote

__all__ = ["ElectionPortError", "ElectionService"]

log = Logger()

#: A timer that rings a little early is set again, but not for less than this, in seconds.
_TIMER_MIN = 0.001


class ElectionService:
    """
    Takes part in elections.

    @ivar sid: the id of this server.
    @ivar on_disloyal: while this server leads, told of each server that elected it and is looking for a leader again.
    """

    def __init__(
        self,
        network: Network,
        clock: IReactorTime,
        monotonic: Callable[[], float],
        sid: int,
        config: ServerConfig,
        ensemble: Ensemble | None = None,
        *,
        on_newer: Callable[[Ensemble], None] | None = None,
        auth: QuorumAuth | None = None,
    ) -> None:
        """
        @param clock: for timers.
        @param monotonic: the time by which an election proceeds, in seconds.
        @param ensemble: by default that of C{config}; this server is one of its members.
        @param on_newer: called when another server says, while this one is looking, that the ensemble has changed;
            to be answered with L{reconfigure}, now or when the new ensemble is saved.  C{None}: memberships are what
            the configuration says, and nobody else is asked.
        @param auth: how servers authenticate to one another; C{None}: they do not.
        """
        ensemble = ensemble or config.ensemble
        assert ensemble is not None, "an election needs an ensemble"
        self.sid = sid
        self.on_disloyal: Callable[[int], None] | None = None
        self._network = network
        self._clock = clock
        self._monotonic = monotonic
        self._config = config
        self._on_newer = on_newer
        self._auth = auth
        self._started = False
        self._result: Deferred[Vote] | None = None
        self._timer: IDelayedCall | None = None
        self._wanted = (0, 0)
        self._encoded: tuple[tuple[ServerState, Vote], bytes] | None = None
        self._begin(ensemble)

    def _begin(self, ensemble: Ensemble) -> None:
        config = self._config
        self._machine = Election(
            self.sid,
            ensemble,
            interval_min=config.fastleader_min_notification_interval / 1000,
            interval_max=config.fastleader_max_notification_interval / 1000,
            gossip=self._on_newer is not None,
        )
        self._manager = QuorumCnxManager(
            self._network, self._clock, self.sid, config, ensemble, self._received, auth=self._auth
        )
        self._config_text = ensemble.text
        self._encoded = None

    # -- life

    async def start(self) -> None:
        """
        Listen for the other servers; what they say is answered from the first L{look} on.

        @raise ElectionPortError: the port cannot be listened on, however often it is tried.
        """
        self._started = True
        await self._manager.start()

    async def stop(self) -> None:
        """Close all connections and the port; an election that runs fails with C{CancelledError}."""
        self._started = False
        if self._result is not None:
            self._result.cancel()
        self._machine.abandon()
        self._set_timer()
        await self._manager.stop()

    async def reconfigure(self, ensemble: Ensemble) -> None:
        """
        Go on in another ensemble: connections, votes and rounds begin anew, and so does an election that runs.

        State and vote stay as they are (spec: election 2.10, 7.8).

        @raise ElectionPortError: the port that is this server's now cannot be listened on.
        """
        state, vote = self._machine.state, self._machine.vote
        self._machine.abandon()
        self._set_timer()
        await self._manager.stop()
        self._begin(ensemble)
        self._machine.settle(state, vote)
        if self._started:
            await self._manager.start()
        if self._result is not None:
            self._machine.look(*self._wanted, self._monotonic())
            self._perform()

    # -- elections

    @property
    def state(self) -> ServerState:
        """What this server is doing."""
        return self._machine.state

    @property
    def vote(self) -> Vote | None:
        """Whom this server follows, or wanted to follow last; C{None} before the first election."""
        return self._machine.vote

    @property
    def round(self) -> int:
        """The number of the present or last election: the logical clock."""
        return self._machine.round

    @property
    def electing(self) -> tuple[int, ...]:
        """Who elected this server, if it is leading."""
        return self._machine.electing

    @property
    def connected(self) -> tuple[int, ...]:
        """The servers to which there is a connection, by id."""
        return self._manager.connected

    @property
    def ensemble(self) -> Ensemble:
        """Whose votes count."""
        return self._machine.ensemble

    def look(self, last_zxid: int, current_epoch: int) -> Deferred[Vote]:
        """
        Hold an election; L{state} is LOOKING until it is decided.

        @param last_zxid: the last zxid in the log of this server, committed or not.
        @param current_epoch: its current epoch.
        @return: fires with the vote that won, when L{state} and L{vote} are what follows from it; to be cancelled
            if nobody wants to know any more.
        """
        assert self._result is None, "one election after the other"
        result = self._result = Deferred(self._cancelled)
        self._wanted = (last_zxid, current_epoch)
        self._machine.look(last_zxid, current_epoch, self._monotonic())
        log.info(
            "Looking for a leader in round {round}, with zxid {zxid:#x} of epoch {epoch}",
            round=self._machine.round, zxid=last_zxid, epoch=current_epoch,
        )
        self._perform()
        return result

    def set_state(self, state: ServerState, vote: Vote | None = None) -> None:
        """
        Tell what this server is doing, for those who ask.

        @param vote: what they are told; by default as before.
        """
        self._machine.settle(state, vote)

    def _cancelled(self, _: Deferred[Vote]) -> None:
        self._result = None
        self._machine.abandon()
        self._set_timer()

    # -- the machine

    def _received(self, sid: int, body: bytes) -> None:
        try:
            notification = decode_notification(body)
        except ProtocolError as error:
            log.debug("Server {sid} says what nobody understands: {reason}", sid=sid, reason=str(error))
            return
        self._machine.receive(sid, notification, self._monotonic())
        self._perform()

    def _ring(self) -> None:
        self._timer = None
        self._machine.tick(self._monotonic(), self._manager.heard)
        self._perform()

    def _perform(self) -> None:
        concluded = False
        for effect in self._machine.take():
            if isinstance(effect, SendVote):
                self._manager.send(effect.sid, self._encode(effect.state, effect.vote))
            elif isinstance(effect, Dial):
                self._manager.dial_all()
            elif isinstance(effect, Concluded):
                concluded = True
            elif isinstance(effect, LookingAgain):
                if self.on_disloyal is not None:
                    self.on_disloyal(effect.sid)
            elif isinstance(effect, NewerEnsemble) and self._on_newer is not None:
                log.info("The ensemble has changed: version {version:x}", version=effect.ensemble.version)
                self._on_newer(effect.ensemble)
        self._set_timer()
        result = self._result
        if concluded and result is not None:
            self._result = None
            vote = self._machine.vote
            assert vote is not None
            log.info(
                "{state} after round {round}: leader {leader}, zxid {zxid:#x}",
                state=self._machine.state.name, round=vote.round, leader=vote.leader, zxid=vote.zxid,
            )
            result.callback(vote)

    def _encode(self, state: ServerState, vote: Vote) -> bytes:
        key = (state, vote)
        if self._encoded is None or self._encoded[0] != key:
            self._encoded = (key, encode_notification(state, vote, self._config_text))
        return self._encoded[1]

    def _set_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        deadline = self._machine.deadline()
        if deadline is not None:
            delay = max(deadline - self._monotonic(), _TIMER_MIN)
            self._timer = self._clock.callLater(delay, self._ring)
