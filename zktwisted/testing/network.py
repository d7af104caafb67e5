"""
A network in memory: hosts with addresses, listening ports, connections that are slow, cut, refused, reset.

L{MemoryHost} has the shape of L{zktwisted.edge.network.Network}, so a server takes one for its network; clients dial
from hosts of their own.  Everything happens on the clock that was given and is drawn from the chance that was given:
the same seed gives the same network.

Faults are those which TCP and wires have.  A cut wire holds bytes back and does not lose them; a host whose power fails
tells nobody; a process that is killed resets its connections.  Inside a live connection no byte is ever lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from random import Random

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import (
    CannotListenError,
    ConnectionAborted,
    ConnectionLost,
    DNSLookupError,
)
from twisted.internet.error import ConnectionRefusedError as RefusedError
from twisted.internet.error import TimeoutError as TimedOutError
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from zktwisted.config.ensemble import Address
from zktwisted.testing.transport import MADE, RESET, Direction, MemoryTransport

__all__ = ["MemoryHost", "MemoryNetwork"]

_WILDCARDS = ("", "0.0.0.0", "::")  # noqa: S104 (a name for every address)
#: How long the first packet of a connection waits before it is sent again, in seconds.
_SYN_AGAIN = 1.0


class MemoryNetwork:
    """
    All hosts, and what is between them.

    @ivar names: host names, and the address each stands for; a name that is not here cannot be resolved.
    @ivar latency: least and most seconds that a piece is on its way; L{slow} has exceptions.
    @ivar chopping: how likely bytes arrive in other pieces than they were written in, 0 to 1.
    @ivar errors: what protocols let out: none of them should.
    @ivar on_note: called with (what, connection, host, data) for each thing that happens.
    """

    def __init__(
        self,
        clock: IReactorTime,
        entropy: Random,
        *,
        latency: tuple[float, float] = (0.0002, 0.002),
        chopping: float = 0.2,
    ) -> None:
        """
        @param clock: on which everything happens.
        @param entropy: decides about delays and pieces.
        """
        self.clock = clock
        self.entropy = entropy
        self.latency = latency
        self.chopping = chopping
        self.names: dict[str, str] = {}
        self.errors: list[Failure] = []
        self.on_note: Callable[[str, int, str, bytes], object] | None = None
        self._hosts: dict[str, MemoryHost] = {}
        self._connections: dict[int, tuple[MemoryTransport, MemoryTransport]] = {}
        self._made = 0
        self._cuts: dict[tuple[str, str], None] = {}
        self._refusals: dict[tuple[str, str], None] = {}
        self._slow: dict[tuple[str, str], tuple[float, float]] = {}
        self._sweep_at = 64

    def host(self, address: str) -> MemoryHost:
        """Return the host with an address, a new one where there was none."""
        found = self._hosts.get(address)
        if found is None:
            found = self._hosts[address] = MemoryHost(self, address)
        return found

    # -- faults

    def cut(self, source: str, target: str) -> None:
        """Let nothing come from C{source} to C{target}, silently; the other way is as before."""
        self._cuts[source, target] = None

    def isolate(self, one: str, other: str) -> None:
        """Let nothing come between two hosts."""
        self.cut(one, other)
        self.cut(other, one)

    def partition(self, *groups: Iterable[str]) -> None:
        """Let hosts of one group reach those of no other; hosts in no group reach all."""
        sides = [list(group) for group in groups]
        for index, side in enumerate(sides):
            for other in sides[index + 1 :]:
                for host in side:
                    for remote in other:
                        self.isolate(host, remote)

    def refuse(self, source: str, target: str) -> None:
        """Refuse new connections from C{source} to C{target}; those that there are live on."""
        self._refusals[source, target] = None

    def slow(self, source: str, target: str, latency: tuple[float, float]) -> None:
        """Let pieces from C{source} to C{target} take so many seconds, at least and at most."""
        self._slow[source, target] = latency

    def heal(self) -> None:
        """Let everything come through again, at the usual speed; what was held up comes now."""
        self._cuts.clear()
        self._refusals.clear()
        self._slow.clear()
        self._retry(lambda one, other: True)

    def mend(self, source: str, target: str) -> None:
        """Let bytes come from C{source} to C{target} again."""
        self._cuts.pop((source, target), None)
        self._refusals.pop((source, target), None)
        self._retry(lambda one, other: {one, other} == {source, target})

    def reset(self, one: str, other: str) -> int:
        """Reset all connections between two hosts, and say how many that were."""
        count = 0
        for near, far in list(self._connections.values()):
            if {near.host, far.host} == {one, other} and not (near.gone and far.gone):
                count += 1
                for end in (near, far):
                    self.clock.callLater(0, self.run, end.host, partial(end.lost, ConnectionLost()))
        return count

    def _retry(self, concerned: Callable[[str, str], bool]) -> None:
        for near, far in list(self._connections.values()):
            if concerned(near.host, far.host):
                for way in (near.outgoing, far.outgoing):
                    way.retry()
                    way.send()
                    way.source.drained()

    # -- what connections ask (L{zktwisted.testing.transport.Wire})

    def delay(self, source: str, target: str) -> float:
        """Draw how long a piece is on its way, in seconds."""
        least, most = self._slow.get((source, target), self.latency)
        return self.entropy.uniform(least, most)

    def is_cut(self, source: str, target: str) -> bool:
        """Say whether nothing comes through at present."""
        return (source, target) in self._cuts or self._hosts[target].without_power

    def is_stopped(self, host: str) -> bool:
        """Say whether nobody reads there at present."""
        return self._hosts[host].stopped

    def run(self, host: str, call: Callable[[], object]) -> None:
        """Let the process there do something: now, or when it runs again."""
        self._hosts[host].run(call)

    def note(self, what: str, number: int, target: str, data: bytes) -> None:
        """Take down what has happened."""
        if self.on_note is not None:
            self.on_note(what, number, target, data)

    # -- connecting

    def resolve(self, name: str, here: str) -> MemoryHost | None:
        """Return the host of a name or address, as seen from C{here}."""
        address = here if name in (*_WILDCARDS, "localhost", "127.0.0.1") else self.names.get(name, name)
        return self._hosts.get(address)

    def refuses(self, source: str, target: str) -> bool:
        """Say whether new connections are refused."""
        return (source, target) in self._refusals

    def join(self, client: MemoryHost, server: MemoryHost, port: MemoryPort) -> MemoryTransport:
        """Make a connection: the server's end is open, the client's L{MemoryTransport.on_made} is still to come."""
        self._made += 1
        number = self._made
        from_address = IPv4Address("TCP", client.address, 20_000 + number % 40_000)
        to_address = IPv4Address("TCP", server.address, port.number)
        near = MemoryTransport(self, client.address, from_address, to_address)
        far = MemoryTransport(self, server.address, to_address, from_address)
        near.outgoing = far.incoming = Direction(self, number, near, far)
        far.outgoing = near.incoming = Direction(self, number, far, near)
        self._sweep()
        self._connections[number] = near, far
        self.note("connect", number, server.address, b"%d" % port.number)
        far.outgoing.mark(MADE)
        server.run(partial(port.accept, far, from_address))
        return near

    def _sweep(self) -> None:
        """Forget connections that are over at both ends, now and then."""
        if len(self._connections) >= self._sweep_at:
            self._connections = {
                number: (near, far) for number, (near, far) in self._connections.items() if not (near.gone and far.gone)
            }
            self._sweep_at = max(64, 2 * len(self._connections))

    def ends_at(self, host: str) -> list[tuple[MemoryTransport, MemoryTransport]]:
        """Return the connections of a host that live at its end: that end, and the other."""
        found = []
        for near, far in self._connections.values():
            if near.host == host and not near.gone:
                found.append((near, far))
            if far.host == host and not far.gone:
                found.append((far, near))
        return found


class MemoryHost:
    """
    A machine with one process on it; as a network, what that process sees of it.

    @ivar address: its IP address.
    @ivar stopped: the process does not run at present (SIGSTOP): it reads nothing and accepts nobody.
    @ivar without_power: the machine is off: nothing comes, and nobody answers for it.
    """

    def __init__(self, network: MemoryNetwork, address: str) -> None:
        self.address = address
        self.stopped = self.without_power = False
        self.ports: dict[int, MemoryPort] = {}
        self.attempts: dict[_Attempt, None] = {}
        self._network = network
        self._next_port = 40_000
        self._postponed: list[Callable[[], object]] = []

    # -- a network, as zktwisted.edge.network has it

    def server(self, address: Address, backlog: int = 50) -> MemoryServerEndpoint:
        """Return where to listen."""
        return MemoryServerEndpoint(self._network, self, address)

    def client(self, address: Address, timeout: float) -> MemoryClientEndpoint:
        """Return where to connect to; the name is resolved at each connect."""
        return MemoryClientEndpoint(self._network, self, address, timeout)

    # -- faults

    def stop(self) -> None:
        """Let the process stand still: its kernel still accepts and takes bytes, as far as it has room."""
        self.stopped = True

    def go_on(self) -> None:
        """Let the process run again."""
        self.stopped = False
        postponed, self._postponed = self._postponed, []
        for call in postponed:
            self._network.clock.callLater(0, self.run, call)
        for here, _ in self._network.ends_at(self.address):
            here.incoming.read_later()

    def run(self, call: Callable[[], object]) -> None:
        """Let the process do something: now, or when it runs again."""
        if self.stopped:
            self._postponed.append(call)
        else:
            call()

    def kill(self) -> None:
        """
        Let the process die at once.  The kernel lives: what was sent still arrives, and then the connections are
        reset.
        """
        self._die()
        self.stopped = False

    def lose_power(self) -> None:
        """Let the machine go off at once: nobody hears anything of it until L{power_on}."""
        self.without_power = True
        self._die()
        self.stopped = False

    def power_on(self) -> None:
        """Let the machine come back; who still believes in a connection with it learns better by using it."""
        self.without_power = False
        self._network._retry(lambda one, other: self.address in (one, other))

    def _die(self) -> None:
        self.ports.clear()
        self._postponed.clear()
        attempts, self.attempts = self.attempts, {}
        for attempt in attempts:
            attempt.forget()
        for here, _ in self._network.ends_at(self.address):
            here.forget()
            if not self.without_power:
                here.outgoing.mark(RESET)

    def take_port(self, number: int) -> int:
        """Return the number of a port that is free: that which was asked for, or any for 0."""
        if number == 0:
            self._next_port += 1
            return self._next_port
        if number in self.ports:
            raise CannotListenError(self.address, number, OSError(98, "Address already in use"))
        return number


@implementer(IListeningPort)
class MemoryPort:
    """
    A port that is listened on.

    @ivar number: the port's.
    """

    def __init__(self, network: MemoryNetwork, host: MemoryHost, number: int, factory: IProtocolFactory) -> None:
        self.number = number
        self._network = network
        self._host = host
        self._factory = factory
        factory.doStart()

    def accept(self, end: MemoryTransport, peer: IAddress) -> None:
        """Serve a connection, if nobody has changed his mind meanwhile."""
        if end.gone or self._host.ports.get(self.number) is not self:
            end.outgoing.mark(RESET)
            end.forget()
            return
        protocol = self._factory.buildProtocol(peer)
        if protocol is None:
            end.connected = True
            end.abortConnection()
        else:
            end.open(protocol)
            end.incoming.read_later()

    def startListening(self) -> None:
        """See C{IListeningPort}: it listens from the beginning."""

    def stopListening(self) -> Deferred[None]:
        """See C{IListeningPort}."""
        if self._host.ports.get(self.number) is self:
            del self._host.ports[self.number]
            self._factory.doStop()
        return succeed(None)

    def getHost(self) -> IAddress:
        """See C{IListeningPort}."""
        return IPv4Address("TCP", self._host.address, self.number)


@implementer(IStreamServerEndpoint)
class MemoryServerEndpoint:
    """Where a process may listen."""

    def __init__(self, network: MemoryNetwork, host: MemoryHost, address: Address) -> None:
        self._network = network
        self._host = host
        self._address = address

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """See C{IStreamServerEndpoint}."""
        name, number = self._address
        if self._network.resolve(name, self._host.address) is not self._host:
            return fail(CannotListenError(name, number, OSError(99, "Cannot assign requested address")))
        try:
            number = self._host.take_port(number)
        except CannotListenError as error:
            return fail(error)
        port = self._host.ports[number] = MemoryPort(self._network, self._host, number, protocolFactory)
        listening: IListeningPort = port
        return succeed(listening)


@implementer(IStreamClientEndpoint)
class MemoryClientEndpoint:
    """Where a process may connect to."""

    def __init__(self, network: MemoryNetwork, host: MemoryHost, address: Address, timeout: float) -> None:
        self._network = network
        self._host = host
        self._address = address
        self._timeout = timeout

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """See C{IStreamClientEndpoint}; cancelling it gives the attempt up."""
        return _Attempt(self._network, self._host, self._address, self._timeout, protocolFactory).made


class _Attempt:
    """One attempt to connect."""

    def __init__(
        self, network: MemoryNetwork, host: MemoryHost, address: Address, timeout: float, factory: IProtocolFactory
    ) -> None:
        self.made: Deferred[IProtocol] = Deferred(self._cancelled)
        self._network = network
        self._host = host
        self._address = address
        self._factory = factory
        self._end: MemoryTransport | None = None
        self._calls: list[IDelayedCall] = [network.clock.callLater(timeout, self._fails, TimedOutError())]
        host.attempts[self] = None
        factory.doStart()
        self._later(0, self._resolve)

    def _later(self, delay: float, call: Callable[[], None]) -> None:
        self._calls[1:] = [self._network.clock.callLater(delay, call)]

    def _resolve(self) -> None:
        there = self._network.resolve(self._address.host, self._host.address)
        if there is None:
            self._fails(DNSLookupError(f"no host is called {self._address.host}"))
        else:
            self._later(self._network.delay(self._host.address, there.address), partial(self._knock, there))

    def _knock(self, there: MemoryHost) -> None:
        network, here = self._network, self._host.address
        if network.is_cut(here, there.address) or network.is_cut(there.address, here):
            self._later(_SYN_AGAIN, partial(self._knock, there))
            return
        port = there.ports.get(self._address.port)
        if port is None or network.refuses(here, there.address):
            self._later(network.delay(there.address, here), partial(self._fails, RefusedError()))
            return
        end = network.join(self._host, there, port)
        end.on_made = self._open
        self._end = end

    def _open(self, end: MemoryTransport) -> None:
        self.forget()
        protocol = self._factory.buildProtocol(end.getPeer())
        if protocol is None:
            end.connected = True
            end.abortConnection()
            self.made.errback(ConnectionAborted())
            return
        end.open(protocol)
        self.made.callback(protocol)

    def forget(self) -> None:
        """Do no more."""
        self._host.attempts.pop(self, None)
        for call in self._calls:
            if call.active():
                call.cancel()

    def _give_up(self) -> None:
        self.forget()
        if self._end is not None and not self._end.gone:
            self._end.outgoing.mark(RESET)
            self._end.forget()
        self._factory.doStop()

    def _cancelled(self, made: Deferred[IProtocol]) -> None:
        self._give_up()

    def _fails(self, why: Exception) -> None:
        self._host.run(partial(self._fail, why))

    def _fail(self, why: Exception) -> None:
        if self in self._host.attempts:
            self._give_up()
            self.made.errback(why)
