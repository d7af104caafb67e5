"""
What stands between clients and a server: it records requests, and answers late, wrongly or not at all when told to.

L{Traffic} wraps what makes a server's connections.  It cuts both directions into frames, and gives on what it has no
order about; answers that it makes itself keep the order of the requests.  TLS is off already where it stands, and what
requests mean is known behind it.

Rules: spec: client-protocol 2, 3, 5.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from struct import Struct
from typing import Any

from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocolFactory, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure

from zktwisted.errors import Code
from zktwisted.kit.requests import RecordedRequest, Recording, Wanted, name_of, paths_of
from zktwisted.wire import ops
from zktwisted.wire.frames import WORDS, failure

__all__ = ["Faults", "Rule", "Traffic"]

_length_xid_op = Struct(">iii").unpack_from
_length_xid_zxid_code = Struct(">iiqi").unpack_from
#: Of a ConnectResponse: length, protocol version, timeout, session.
_session_of = Struct(">iiiq").unpack_from

_CODES = frozenset(Code)

FAIL, DELAY, LOSE_REQUEST, LOSE_ANSWER = "fail", "delay", "lose the request", "lose the answer"


@dataclass(eq=False)
class Rule:
    """
    What is done to requests.

    @ivar do: C{FAIL}, C{DELAY}, C{LOSE_REQUEST}, C{LOSE_ANSWER}.
    @ivar times: to how many it is still to be done; less than 0: to all.
    @ivar code: answered instead, by C{FAIL}.
    @ivar seconds: how late they are answered, by C{DELAY}.
    """

    do: str
    wanted: Wanted
    times: int = 1
    code: Code = Code.OK
    seconds: float = 0.0


@dataclass
class Faults:
    """
    What is done to requests at present, to whichever of several servers they are sent.

    @ivar delay: how late everything is that servers send, in seconds.
    """

    rules: list[Rule] = field(default_factory=list)
    recordings: list[Recording] = field(default_factory=list)
    delay: float = 0.0

    def clear(self) -> None:
        """Do nothing more to anything; what is recorded goes on."""
        self.rules.clear()
        self.delay = 0.0

    def meet(self, op: int, paths: tuple[str, ...]) -> list[Rule]:
        """Find what is to be done to a request that arrives, and count it."""
        found = [rule for rule in self.rules if rule.times and rule.wanted.matches(op, paths)]
        # One request cannot fail twice: the first that is not only late is the one.
        first = [rule for rule in found if rule.do != DELAY][:1]
        met = [rule for rule in found if rule.do == DELAY] + first
        for rule in met:
            rule.times -= 1
        self.rules[:] = [rule for rule in self.rules if rule.times]
        return met

    def record(self, op: int, request: RecordedRequest) -> None:
        """Tell the recordings of a request."""
        for recording in self.recordings:
            recording.add(op, request)


class Traffic:
    """
    The connections of one server.

    @ivar connections: those that are open.
    @ivar used: whether there has been one.
    """

    def __init__(self, clock: IReactorTime, faults: Faults) -> None:
        self.clock = clock
        self.faults = faults
        self.connections: dict[Tap, None] = {}
        self.used = False

    def wrap(self, factory: IProtocolFactory) -> IProtocolFactory:
        """Stand before a factory of L{zktwisted.edge.client.ClientProtocol}."""
        wrapped: IProtocolFactory = _Taps(self, factory)
        return wrapped

    def release(self) -> None:
        """Send now what is late."""
        for connection in list(self.connections):
            connection.release()

    def drop(self, session: int | None = None) -> int:
        """
        Break connections, as when a cable is cut.

        @param session: the one whose connection is meant; C{None}: all.
        @return: how many.
        """
        meant = [each for each in self.connections if session is None or each.session == session]
        for connection in meant:
            connection.abort()
        return len(meant)


class _Taps(WrappingFactory):
    noisy = False

    def __init__(self, traffic: Traffic, factory: IProtocolFactory) -> None:
        super().__init__(factory)  # type: ignore[no-untyped-call]
        self._traffic = traffic

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """See C{IProtocolFactory}."""
        return Tap(self, self._traffic, self.wrappedFactory.buildProtocol(addr))


@dataclass(eq=False)
class _Pending:
    """A request that is not answered yet; C{code} is what we answer in the server's place."""

    xid: int
    rules: list[Rule]
    recorded: RecordedRequest
    code: Code | None = None


class Tap(ProtocolWrapper):
    """
    One connection.

    @ivar session: whose it is, 0 as long as nobody knows.
    """

    factory: Any
    transport: Any

    def __init__(self, factory: Any, traffic: Traffic, protocol: Any) -> None:
        super().__init__(factory, protocol)
        self.session = 0
        self._server = protocol
        self._traffic = traffic
        self._faults = traffic.faults
        self._limit: int = protocol.factory.max_frame
        self._raw = False  # nothing that has frames
        self._began = self._accepted = False  # the ConnectRequest is through, its answer
        self._broken = False
        self._zxid = 0
        self._incoming = b""
        self._outgoing = b""
        self._pending: deque[_Pending] = deque()
        self._late: deque[tuple[float, bytes | None]] = deque()  # when to send what; None is the end
        self._burst: list[bytes] = []  # to be sent in one piece
        self._call: IDelayedCall | None = None

    @property
    def identities(self) -> Any:
        """Who the client is: certificates tell it from outside."""
        return self._server.identities

    def connectionMade(self) -> None:
        """See C{IProtocol}."""
        self._traffic.connections[self] = None
        self._traffic.used = True
        super().connectionMade()  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See C{IProtocol}."""
        self._traffic.connections.pop(self, None)
        if self._call is not None:
            self._call.cancel()
            self._call = None
        self._broken = True
        self._late.clear()
        self._burst.clear()
        self._pending.clear()
        super().connectionLost(reason)  # type: ignore[no-untyped-call]

    def abort(self) -> None:
        """Break the connection: nothing more arrives."""
        self._broken = True
        self._late.clear()
        self._burst.clear()
        self.transport.abortConnection()

    def release(self) -> None:
        """Send now what is late."""
        now = self._traffic.clock.seconds()
        self._late = deque((now, data) for _, data in self._late)
        if self._call is not None:
            self._call.reset(0)

    # -- from the client

    def dataReceived(self, data: bytes) -> None:
        """See C{IProtocol}."""
        if self._raw:
            self.wrappedProtocol.dataReceived(data)
            return
        data = self._incoming + data
        passed = []
        position = 0
        while len(data) - position >= 4:
            size = int.from_bytes(data[position : position + 4], "big", signed=True)
            if (not self._began and data[:4] in WORDS) or not 0 <= size <= self._limit:
                self._raw = True
                passed.append(data[position:])
                position = len(data)
                break
            stop = position + 4 + size
            if stop > len(data):
                break
            if self._arrived(data[position:stop]):
                passed.append(data[position:stop])
            position = len(data) if self._broken else stop
        self._incoming = data[position:]
        if passed:
            self.wrappedProtocol.dataReceived(b"".join(passed))

    def _arrived(self, frame: bytes) -> bool:
        """Take in a request; say whether the server gets it."""
        if not self._began:
            self._began = True
            return True
        if len(frame) < 12:
            return True
        _, xid, op = _length_xid_op(frame)
        paths = paths_of(op, frame[12:])
        recorded = RecordedRequest(name_of(op), paths, self.session)
        self._faults.record(op, recorded)
        pending = _Pending(xid, self._faults.meet(op, paths), recorded)
        self._pending.append(pending)
        for rule in pending.rules:
            if rule.do == LOSE_REQUEST:
                self.abort()
                return False
            if rule.do == FAIL:
                pending.code = rule.code
        if pending.code is not None:
            self._answer_ours()
            return False
        return True

    def _answer_ours(self) -> None:
        """Send the answers of ours whose turn it is."""
        while self._pending and (code := self._pending[0].code) is not None:
            pending = self._pending.popleft()
            self._answer(pending, failure(pending.xid, self._zxid, code))
        self._flush()

    # -- from the server

    def write(self, data: bytes) -> None:
        """See C{ITransport}."""
        if self._raw:
            self._send(data)
        else:
            data = self._outgoing + data
            position = 0
            while len(data) - position >= 4:
                stop = position + 4 + int.from_bytes(data[position : position + 4], "big")
                if stop > len(data):
                    break
                self._answered(data[position:stop])
                position = stop
            self._outgoing = data[position:]
        self._flush()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """See C{ITransport}."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """See C{ITransport}: what is late arrives before."""
        if self._late:
            self._late.append((self._late[-1][0], None))
        else:
            super().loseConnection()  # type: ignore[no-untyped-call]

    def _answered(self, frame: bytes) -> None:
        if not self._accepted:
            self._accepted = True
            if len(frame) >= 20:
                self.session = _session_of(frame)[3]
            self._send(frame)
            return
        _, xid, zxid, _ = _length_xid_zxid_code(frame)
        if xid != ops.XID_NOTIFICATION and zxid > 0:
            self._zxid = zxid
        pending = next((each for each in self._pending if each.xid == xid and each.code is None), None)
        if pending is None:
            self._send(frame)
            return
        self._pending.remove(pending)
        self._answer(pending, frame)
        self._answer_ours()

    def _answer(self, pending: _Pending, frame: bytes) -> None:
        code = _length_xid_zxid_code(frame)[3]
        pending.recorded.code = Code(code) if code in _CODES else code
        if any(rule.do == LOSE_ANSWER for rule in pending.rules):
            self.abort()
        else:
            self._send(frame, max((rule.seconds for rule in pending.rules), default=0.0))

    # -- to the client

    def _send(self, data: bytes, delay: float = 0.0) -> None:
        if self._broken:
            return
        delay += self._faults.delay
        if delay or self._late:
            self._late.append((self._traffic.clock.seconds() + delay, data))
            self._wait()
        else:
            self._burst.append(data)

    def _flush(self) -> None:
        if self._burst:
            data = b"".join(self._burst)
            self._burst.clear()
            self.transport.write(data)

    def _wait(self) -> None:
        if self._call is None and self._late:
            clock = self._traffic.clock
            self._call = clock.callLater(max(self._late[0][0] - clock.seconds(), 0.0), self._due)

    def _due(self) -> None:
        self._call = None
        now = self._traffic.clock.seconds()
        while self._late and self._late[0][0] <= now:
            data = self._late.popleft()[1]
            if data is None:
                self._flush()
                super().loseConnection()  # type: ignore[no-untyped-call]
                return
            self._burst.append(data)
        self._flush()
        self._wait()
