"""
L{QuorumCnxManager}: the connections over which servers vote.

Between two servers there is one connection, and it is the one that the server with the larger id has made; the other
one may only knock, and is called back (spec: election 2).  For each server at most one message waits, the newest.

Attempts to connect are not repeated here.  Whoever has something to say tries to connect by saying it, and an election
says everything again, ever more rarely (C{zktwisted.zab.election}); a C{ClientService} with a policy of its own would
call servers to whom nobody has anything to say, and call again each time that a knock has ended as it should.

This module knows who may call whom, and refuses to know what is said.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList, maybeDeferred
from twisted.internet.error import CannotListenError, DNSLookupError
from twisted.internet.error import ConnectionRefusedError as ConnectionRefused
from twisted.internet.interfaces import IDelayedCall, IListeningPort, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from zktwisted.config import ServerConfig
from zktwisted.config.ensemble import Address, Ensemble
from zktwisted.edge.channel import ElectionFactory, ElectionProtocol, ProbeFactory
from zktwisted.edge.network import Network
from zktwisted.edge.quorumauth import QuorumAuth
from zktwisted.wire.votes import InitialMessage, encode_initial

__all__ = ["ElectionPortError", "QuorumCnxManager"]

log = Logger()

#: The id of observers that have none.
_ANONYMOUS = (1 << 63) - 1
#: How long to wait before a port is tried again, in seconds.
_LISTEN_PAUSE = 1.0
_LISTEN_RETRIES = 3
#: How many connections may be open that have not said who they are; the oldest goes first.
_UNKNOWN_MAX = 100
#: How many servers outside the ensemble may be connected or called at a time; the oldest goes first.
_STRANGERS_MAX = 100


class ElectionPortError(Exception):
    """
    No election address can be listened on: the process has to end.

    @ivar status: its exit status.
    """

    status = 14


class _Peer:
    """
    Another server.

    @ivar channel: the connection that is used.
    @ivar pending: the newest message, if it is still to be sent.
    @ivar last: the message that was sent last, on this connection or an earlier one.
    @ivar queued: whether there ever was a message.
    @ivar dialling: the attempt to connect that is under way.
    @ivar announced: where it wants to be called when the present attempt has failed.
    @ivar answered: the address that was reached last, which is tried first.
    @ivar probing: the attempt to find out whether the other end of the channel can still be reached.
    @ivar proving: a connection that we have made, on which we are about to show who we are.
    """

    __slots__ = (
        "announced", "answered", "channel", "dialling", "last", "pending", "probing", "proving", "queued", "sid",
    )  # fmt: skip

    def __init__(self, sid: int) -> None:
        self.sid = sid
        self.channel: ElectionProtocol | None = None
        self.pending: bytes | None = None
        self.last: bytes | None = None
        self.queued = False
        self.dialling: Deferred[None] | None = None
        self.announced: tuple[Address, ...] = ()
        self.answered: Address | None = None
        self.probing: Deferred[Any] | None = None
        self.proving: ElectionProtocol | None = None

    def give_up(self) -> None:
        """Try no more to reach it."""
        for attempt in (self.dialling, self.probing):
            if attempt is not None:
                attempt.cancel()


class QuorumCnxManager:
    """
    The connections of one server with all others.

    @ivar sid: the id of this server.
    @ivar keep_alive: whether TCP probes idle connections.
    """

    def __init__(
        self,
        network: Network,
        clock: IReactorTime,
        sid: int,
        config: ServerConfig,
        ensemble: Ensemble,
        receive: Callable[[int, bytes], None],
        last_seen: Ensemble | None = None,
        auth: QuorumAuth | None = None,
    ) -> None:
        """
        @param ensemble: where the servers are; its member C{sid} says where to listen.
        @param receive: is given the id of a server and what it says.
        @param last_seen: the ensemble that is to come, where servers are looked for that the other does not have.
        @param auth: how servers authenticate to one another; C{None}: they do not.
        """
        self.sid = sid
        self._auth = auth
        self.keep_alive = config.tcp_keep_alive
        self._network = network
        self._clock = clock
        self._config = config
        self._ensembles = [each for each in (ensemble, last_seen) if each is not None]
        self._receive = receive
        self._connect_timeout = config.cnx_timeout / 1000
        self._probe_timeout = config.multi_address_reachability_check_timeout_ms / 1000
        self._probes = config.multi_address_enabled and config.multi_address_reachability_check_enabled
        silence = config.quorum_cnxn_timeout_ms
        self._introduction_timeout = (silence if silence > 0 else config.tick_time * config.sync_limit) / 1000
        self._peers: dict[int, _Peer] = {}
        self._unknown: dict[ElectionProtocol, IDelayedCall] = {}
        self._open: dict[ElectionProtocol, None] = {}
        self._all_closed: Deferred[None] | None = None
        self._ports: list[IListeningPort] = []
        self._listening: list[Deferred[None]] = []
        self._next_anonymous = -1
        self._stopped = True

    # -- life

    async def start(self) -> None:
        """
        Listen; the first address that succeeds is enough, the others are tried on.

        @raise ElectionPortError: no address can be listened on, and it is to be given up.
        """
        self._stopped = False
        self._listening = [Deferred.fromCoroutine(self._listen(address)) for address in self._addresses()]
        attempts = DeferredList(self._listening, fireOnOneCallback=True, consumeErrors=True)
        outcome: Any = await attempts
        if isinstance(outcome, list):
            failure = outcome[-1][1]
            if failure.check(CancelledError):
                failure.raiseException()
            raise ElectionPortError(f"the election port cannot be listened on: {failure.getErrorMessage()}")

    async def stop(self) -> None:
        """Close everything, and wait until all is closed; messages that wait are forgotten."""
        self._stopped = True
        for attempt in self._listening:
            attempt.cancel()
        ports, self._ports = self._ports, []
        for port in ports:
            await maybeDeferred(port.stopListening)
        self.forget()
        if self._open:
            self._all_closed = Deferred()
            await self._all_closed

    def forget(self) -> None:
        """Close all connections and forget what was to be sent; still listen."""
        peers, self._peers = self._peers, {}
        for peer in peers.values():
            peer.give_up()
        for connection in list(self._open):
            connection.close()

    def _addresses(self) -> list[Address]:
        member = self._ensembles[0].member(self.sid)
        assert member is not None, f"server {self.sid} is no member of its ensemble"
        if self._config.quorum_listen_on_all_ips:
            return [Address("", port) for port in dict.fromkeys(each.port for each in member.election_addresses)]
        return list(member.election_addresses)

    async def _listen(self, address: Address) -> None:
        retries = self._config.election_port_bind_retry
        tries = retries if retries >= 0 else _LISTEN_RETRIES
        failed = 0
        while True:
            try:
                port = await self._network.server(address).listen(ElectionFactory(self))
            except (CannotListenError, DNSLookupError, OSError) as error:
                failed += 1
                log.warn("The election port {address} cannot be listened on: {reason}", address=address, reason=error)
                if failed == tries:
                    raise
                await deferLater(self._clock, _LISTEN_PAUSE)
                continue
            self._ports.append(port)
            log.info("Elections take place on {address}", address=address)
            return

    # -- sending

    def send(self, sid: int, message: bytes) -> None:
        """
        Send a message when there is a connection; it takes the place of one that still waits.

        @param message: in its frame.
        """
        if self._stopped:
            return
        peer = self._peer(sid)
        peer.pending = message
        peer.queued = True
        if peer.channel is not None:
            self._flush(peer)
            self._probe(peer, peer.channel)
        else:
            self._dial(peer)

    def dial_all(self) -> None:
        """Connect to every server for which there ever was a message."""
        for peer in list(self._peers.values()):
            if peer.queued:
                self._dial(peer)

    @property
    def heard(self) -> bool:
        """Whether any server has taken the last message that there was for it."""
        return any(peer.queued and peer.pending is None for peer in self._peers.values())

    @property
    def connected(self) -> tuple[int, ...]:
        """The servers with a connection, by id."""
        return tuple(sorted(sid for sid, peer in self._peers.items() if peer.channel is not None))

    def _flush(self, peer: _Peer) -> None:
        channel = peer.channel
        if peer.pending is not None and channel is not None and channel.writable:
            peer.last, peer.pending = peer.pending, None
            channel.write(peer.last)

    # -- connecting

    def _peer(self, sid: int) -> _Peer:
        peer = self._peers.get(sid)
        if peer is None:
            if not self._configured(sid):
                strangers = [each for each in self._peers.values() if not self._configured(each.sid)]
                if len(strangers) >= _STRANGERS_MAX:
                    self._dismiss(strangers[0])
            peer = self._peers[sid] = _Peer(sid)
        return peer

    def _dismiss(self, peer: _Peer) -> None:
        del self._peers[peer.sid]
        peer.give_up()
        if peer.channel is not None:
            peer.channel.close()

    def _forget_stranger(self, peer: _Peer) -> None:
        """Of servers outside the ensemble nothing is kept when they are gone: anybody may call himself one."""
        gone = peer.channel is None and peer.dialling is None
        if gone and self._knows(peer) and not self._configured(peer.sid):
            del self._peers[peer.sid]

    def _knows(self, peer: _Peer) -> bool:
        return not self._stopped and self._peers.get(peer.sid) is peer

    def _configured(self, sid: int) -> tuple[Address, ...]:
        for ensemble in self._ensembles:
            member = ensemble.member(sid)
            if member is not None:
                return member.election_addresses
        return ()

    def _dial(self, peer: _Peer, addresses: tuple[Address, ...] = ()) -> None:
        if self._stopped or peer.channel is not None or peer.proving is not None:
            return
        if peer.dialling is not None:
            peer.announced = addresses or peer.announced
            return
        addresses = addresses or self._configured(peer.sid)
        if not addresses:
            log.warn("There is no server {sid} to be connected to", sid=peer.sid)
            self._forget_stranger(peer)
            return
        if peer.answered in addresses:
            addresses = (peer.answered, *(each for each in addresses if each != peer.answered))
        attempt = Deferred.fromCoroutine(self._knock(peer, addresses))
        if not attempt.called:
            peer.dialling = attempt
        attempt.addCallback(self._attempted, peer, attempt)

    async def _knock(self, peer: _Peer, addresses: tuple[Address, ...]) -> None:
        """Try one address after the other, each name looked up anew."""
        shorter = min(self._connect_timeout, self._probe_timeout)
        for number, address in enumerate(addresses, 1):
            timeout = self._connect_timeout if number == len(addresses) else shorter
            endpoint = self._network.client(address, timeout)
            # The look-up of a name has no limit of its own.
            attempt = endpoint.connect(ElectionFactory(self, peer.sid)).addTimeout(timeout, self._clock)
            try:
                await attempt
            except Exception as error:  # noqa: BLE001 (whatever a network has for failures: this address is none)
                if not self._knows(peer):
                    return
                log.debug(
                    "Server {sid} is not reached at {address}: {reason}", sid=peer.sid, address=address, reason=error
                )
            else:
                peer.answered = address
                return

    def _attempted(self, _: None, peer: _Peer, attempt: Deferred[None]) -> None:
        if peer.dialling is attempt:
            peer.dialling = None
        if not self._knows(peer):
            return
        announced, peer.announced = peer.announced, ()
        if peer.channel is None and announced:
            self._dial(peer, announced)
        else:
            self._forget_stranger(peer)

    # -- of several addresses, the one in use may be cut off: TCP would find out much later

    def _probe(self, peer: _Peer, channel: ElectionProtocol) -> None:
        """Knock where a channel leads to; if nobody is there, another address may be better."""
        addresses = self._configured(peer.sid)
        if not self._probes or len(addresses) < 2 or peer.probing is not None:
            return
        host = getattr(channel.transport.getPeer(), "host", addresses[0].host)
        port = next((address.port for address in addresses if address.host == host), addresses[0].port)
        endpoint = self._network.client(Address(host, port), self._probe_timeout)
        attempt = endpoint.connect(ProbeFactory())
        attempt.addTimeout(self._probe_timeout, self._clock)
        peer.probing = attempt
        attempt.addErrback(self._unreachable, peer, channel)
        attempt.addBoth(self._probed, peer)

    def _unreachable(self, failure: Failure, peer: _Peer, channel: ElectionProtocol) -> None:
        if failure.check(ConnectionRefused) is None and self._knows(peer) and peer.channel is channel:
            log.info("Server {sid} is not reached any more at {peer}", sid=peer.sid, peer=channel.peer)
            channel.close()
            peer.channel = peer.answered = None
            self._dial(peer)

    def _probed(self, _: object, peer: _Peer) -> None:
        peer.probing = None

    # -- what connections tell

    def opened(self, connection: ElectionProtocol, dialled: bool) -> None:
        """A connection is made: introduce ourselves, or wait for the other to do it."""
        if self._stopped:
            connection.close()
        self._open[connection] = None
        if self._stopped:
            return
        if not dialled:
            strangers = [each for each in self._unknown if each.sid is None]
            if len(strangers) >= _UNKNOWN_MAX:
                self._known(strangers[0])
                strangers[0].close()
            self._await(connection)
            return
        assert connection.sid is not None
        connection.write(self._introduction())
        auth = self._auth
        addresses = self._configured(connection.sid)
        if auth is None or not auth.calls or not addresses:
            self._called(connection)
        else:
            self._peer(connection.sid).proving = connection
            self._await(connection)
            connection.authenticate(auth.connecting(addresses[0].host), lambda: self._called(connection))

    def _called(self, connection: ElectionProtocol) -> None:
        """Somebody is reached, and knows who we are (spec: election 2.6)."""
        self._known(connection)
        assert connection.sid is not None
        self._peer(connection.sid).proving = None
        if connection.sid > self.sid:
            connection.say_goodbye()  # it will call back
        else:
            self._adopt(connection, connection.sid)

    def introduced(self, connection: ElectionProtocol, message: InitialMessage) -> None:
        """Somebody has said who he is; if so configured he has to prove it."""
        if self._auth is None:
            self._believe(connection, message)
        else:
            connection.authenticate(self._auth.accepting(), lambda: self._believe(connection, message))

    def _believe(self, connection: ElectionProtocol, message: InitialMessage) -> None:
        """We know who has called (spec: election 2.4)."""
        self._known(connection)
        sid = message.sid
        if sid == _ANONYMOUS:
            sid = self._next_anonymous
            self._next_anonymous -= 1
        if sid == self.sid:
            log.warn("{peer} calls itself server {sid}, which is this server", peer=connection.peer, sid=sid)
            connection.close()
        elif sid > self.sid:
            if not connection.over:
                connection.sid = sid
                self._adopt(connection, sid)
        else:
            peer = self._peer(sid)
            if peer.channel is not None:
                # It would not call if it could still use that one.
                peer.channel.close()
                peer.channel = None
            connection.say_goodbye()
            self._dial(peer, self._believable(sid, message))

    def _believable(self, sid: int, message: InitialMessage) -> tuple[Address, ...]:
        """
        Where it wants to be called: not where another server is, which would take us for a new connection of ours.
        """
        addresses = [Address(host, port) for host, port in message.usable]
        others = [member for each in self._ensembles for member in each.members if member.sid != sid]
        return tuple(
            address for address in addresses if not any(address in member.election_addresses for member in others)
        )

    def received(self, connection: ElectionProtocol, body: bytes) -> None:
        """A server says something."""
        assert connection.sid is not None
        self._receive(connection.sid, body)

    def resumed(self, connection: ElectionProtocol) -> None:
        """What was written has been taken: there is room again."""
        peer = self._peers.get(connection.sid) if connection.sid is not None else None
        if peer is not None and peer.channel is connection:
            self._flush(peer)

    def lost(self, connection: ElectionProtocol) -> None:
        """A connection is over."""
        self._known(connection)
        self._open.pop(connection, None)
        peer = self._peers.get(connection.sid) if connection.sid is not None else None
        if peer is not None and peer.proving is connection:
            peer.proving = None
        if peer is not None and peer.channel is connection:
            peer.channel = None
            self._forget_stranger(peer)
        if self._all_closed is not None and not self._open:
            closed, self._all_closed = self._all_closed, None
            closed.callback(None)

    def _adopt(self, connection: ElectionProtocol, sid: int) -> None:
        peer = self._peer(sid)
        older, peer.channel = peer.channel, connection
        if older is not None:
            older.close()
        if peer.pending is not None:
            self._flush(peer)
        elif peer.last is not None:
            # Nobody knows whether it arrived (the last vote of an election comes once).
            connection.write(peer.last)

    def _introduction(self) -> bytes:
        member = self._ensembles[0].member(self.sid)
        assert member is not None
        return encode_initial(self.sid, member.election_addresses, many=self._config.multi_address_enabled)

    def _await(self, connection: ElectionProtocol) -> None:
        """Give a connection some time to come about."""
        self._unknown[connection] = self._clock.callLater(self._introduction_timeout, self._silent, connection)

    def _known(self, connection: ElectionProtocol) -> None:
        timer = self._unknown.pop(connection, None)
        if timer is not None and timer.active():
            timer.cancel()

    def _silent(self, connection: ElectionProtocol) -> None:
        del self._unknown[connection]
        what = "say" if self._auth is None else "say and prove"
        log.info(
            "Closing the election connection with {peer}: it does not {what} who it is", peer=connection.peer, what=what
        )
        connection.close()
