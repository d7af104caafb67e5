"""
A client that lives in a world of its own time: it keeps a session, moves from server to server, and remembers.

A L{SimulatedClient} does what a real one does: it pings, gives a silent server up, tries the next one with the zxid it
has seen, registers its watches again, and is told when its session has ended.  What it asked and what it was told, in
the order in which it was told, is its L{log<SimulatedClient.log>}: that is what checkers read.

It judges only what a client can judge at once: answers in the order of the requests, zxids that never fall, events
that somebody asked for.  What ought to be in the answers it does not know.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, NamedTuple

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from zktwisted.config.ensemble import Address
from zktwisted.errors import Code
from zktwisted.testing.client import Reply
from zktwisted.testing.network import MemoryHost
from zktwisted.wire import jute, ops, proto
from zktwisted.wire.frames import FRAME, frame
from zktwisted.wire.ops import show_zxid

__all__ = ["Entry", "Operation", "SimulatedClient", "Watch"]

_READS_WITH_WATCH = (ops.EXISTS, ops.GET_DATA, ops.GET_CHILDREN, ops.GET_CHILDREN2)


class Operation:
    """
    One request, and what became of it.

    @ivar session: the session in which it was sent.
    @ivar request: its record; for a multi C{(op, record)} pairs.
    @ivar server: where it was sent.
    @ivar invoked: when it was sent, and C{completed}: when it was answered, in seconds of the world.
    @ivar status: C{"pending"}, C{"answered"}, or C{"lost"}: the connection ended before, so it may have had its effect.
    @ivar reply: the answer.
    """

    __slots__ = ("completed", "invoked", "op", "reply", "request", "server", "session", "status", "xid")

    def __init__(self, session: int, server: Address, xid: int, op: int, request: Any, invoked: float) -> None:
        self.session = session
        self.server = server
        self.xid = xid
        self.op = op
        self.request = request
        self.invoked = invoked
        self.completed = 0.0
        self.status = "pending"
        self.reply: Reply | None = None

    @property
    def ok(self) -> bool:
        """Whether it was answered, and well."""
        return self.reply is not None and self.reply.err == 0

    def __repr__(self) -> str:
        name = ops.OpCode(self.op).name
        told = self.status
        if self.reply is not None:
            told = f"{show_zxid(self.reply.zxid)} err {self.reply.err}"
        return f"<{name} {self.request} of {show_zxid(self.session)} xid {self.xid}: {told}>"


class Watch:
    """
    A watch that a client has set.

    @ivar kind: C{"data"}, C{"exist"} (on a node that is not there) or C{"child"}.
    @ivar since: the zxid of the answer that set it: what changes later must be told.
    @ivar index: where in the client's log that answer stands.
    @ivar over: where in the log it was told or dropped, C{None} while it waits.
    @ivar dropped: whether it ended with its session.
    """

    __slots__ = ("dropped", "index", "kind", "over", "path", "session", "since")

    def __init__(self, session: int, kind: str, path: bytes, since: int, index: int) -> None:
        self.session = session
        self.kind = kind
        self.path = path
        self.since = since
        self.index = index
        self.over: int | None = None
        self.dropped = False

    def __repr__(self) -> str:
        return f"<Watch {self.kind} {self.path!r} since {show_zxid(self.since)} of {show_zxid(self.session)}>"


class Entry(NamedTuple):
    """
    Something that a client was told.

    @ivar kind: C{"session"} (a new one), C{"connected"}, C{"disconnected"}, C{"expired"}, C{"reply"}, C{"event"},
        C{"watching"} (its watches are set again at another server).
    @ivar what: the operation of a reply, the C{WatcherEvent} of an event.
    """

    kind: str
    at: float
    session: int
    zxid: int = 0
    what: Any = None


class _Wire(Protocol):
    """One connection of a client: frames."""

    def __init__(self, client: SimulatedClient) -> None:
        self.client = client
        self.greeted = False
        self.watching = True  # but not between the request to set watches again and its answer
        self._input = b""

    def connectionMade(self) -> None:
        self.client._made(self)

    def dataReceived(self, data: bytes) -> None:
        self._input += data
        while len(self._input) >= 4:
            end = 4 + int.from_bytes(self._input[:4], "big")
            if len(self._input) < end:
                break
            payload, self._input = self._input[4:end], self._input[end:]
            self.client._received(self, payload)

    def connectionLost(self, reason: Failure = Failure(CancelledError())) -> None:  # noqa: B008 (Twisted's default)
        self.client._lost(self)


class SimulatedClient:
    """
    A client; see the module.

    @ivar name: what it is called in traces.
    @ivar session_id: of its session, 0 while it has none.
    @ivar server: where it is connected or connecting to.
    @ivar connected: whether it may L{send}.
    @ivar operations: all it ever asked, in order.
    @ivar log: what it was told, in order.
    @ivar watches: all it ever set.
    @ivar wrong: what it was told against the rules.
    @ivar on_connected: called when it is connected.
    @ivar on_reply: called with each operation that was answered or is lost.
    @ivar on_entry: called with each L{Entry}.
    """

    def __init__(
        self,
        name: str,
        host: MemoryHost,
        clock: IReactorTime,
        servers: Sequence[Address],
        entropy: Random,
        timeout_ms: int = 6000,
    ) -> None:
        """@param timeout_ms: the session timeout that it asks for."""
        self.name = name
        self.host = host
        self.session_id = 0
        self.connected = False
        self.operations: list[Operation] = []
        self.log: list[Entry] = []
        self.watches: list[Watch] = []
        self.wrong: list[str] = []
        self.on_connected: Callable[[], object] = int
        self.on_reply: Callable[[Operation], object] = id
        self.on_entry: Callable[[Entry], object] = id
        self.last_zxid = 0
        self.timeout_ms = timeout_ms
        self._wanted_ms = timeout_ms
        self._clock = clock
        self._entropy = entropy
        self._servers = list(servers)
        self.server = self._servers[0]
        self._password = bytes(16)
        self._xid = 0
        self._pending: deque[Operation] = deque()
        self._watching: dict[tuple[str, bytes], Watch] = {}
        self._wire: _Wire | None = None
        self._attempt: Deferred[Any] | None = None
        self._running = self._leaving = False
        self._retry: IDelayedCall | None = None
        self._ticker: IDelayedCall | None = None
        self._heard = self._spoken = 0.0

    def __repr__(self) -> str:
        return f"<SimulatedClient {self.name} session {show_zxid(self.session_id)}>"

    # -- what it is told to do

    def start(self) -> None:
        """Connect to some server and keep connected from now on."""
        if not self._running:
            self._running, self._leaving = True, False
            self._tick()
            self._dial()

    def vanish(self) -> None:
        """Die: the session is left to expire, the connection is reset."""
        self._running = False
        self._drop()
        self._stop_timers()

    def move(self, server: Address | None = None) -> None:
        """Go on with the session at another server, as one does when a connection breaks."""
        self._drop()
        if self._running:
            self._dial(server)

    def close_session(self) -> Operation | None:
        """End the session in order; the client has none then and does nothing until L{start}."""
        operation = self.send(ops.CLOSE_SESSION)
        self._leaving = self._leaving or operation is not None
        return operation

    def send(self, op: int, request: Any = None) -> Operation | None:
        """
        Ask for something.

        @param request: the record; for a multi, C{(op, record)} pairs; C{None} for none.
        @return: what will be told of it; C{None} if no server is there to be asked.
        """
        if not self.connected or self._wire is None or self._leaving:
            return None
        self._xid += 1
        operation = Operation(self.session_id, self.server, self._xid, op, request, self._clock.seconds())
        self.operations.append(operation)
        self._pending.append(operation)
        body = b""
        if op == ops.MULTI:
            body = proto.encode_multi(request)
        elif request is not None:
            body = jute.encode(request)
        self._write(FRAME.pack(8 + len(body), self._xid, op) + body)
        return operation

    # -- connections

    def _write(self, data: bytes) -> None:
        assert self._wire is not None and self._wire.transport is not None
        self._spoken = self._clock.seconds()
        self._wire.transport.write(data)

    def _dial(self, server: Address | None = None) -> None:
        self._retry = None
        if server is None:
            others = [each for each in self._servers if each != self.server]
            server = self._entropy.choice(others or self._servers)
        self.server = server
        self._heard = self._spoken = self._clock.seconds()
        wire = self._wire = _Wire(self)
        factory = Factory.forProtocol(lambda: wire)
        factory.noisy = False
        patience = max(self.timeout_ms / 1000 / len(self._servers), 0.2)
        attempt = self._attempt = self.host.client(server, patience).connect(factory)
        attempt.addCallbacks(lambda _: None, lambda failure: self._lost(wire))

    def _made(self, wire: _Wire) -> None:
        self._attempt = None
        if wire is not self._wire:
            assert wire.transport is not None
            wire.transport.loseConnection()
            return
        request = proto.ConnectRequest(0, self.last_zxid, self._wanted_ms, self.session_id, self._password)
        self._write(frame(proto.encode_connect(request, False)))

    def _drop(self) -> None:
        wire, self._wire = self._wire, None
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.cancel()
        if wire is not None:
            if wire.transport is not None:
                wire.transport.loseConnection()
            self._disconnected()
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def _lost(self, wire: _Wire) -> None:
        if wire is self._wire:
            self._wire = self._attempt = None
            self._disconnected()
            if self._running:
                self._retry = self._clock.callLater(self._entropy.uniform(0.02, 0.4), self._dial)

    def _disconnected(self) -> None:
        if self.connected:
            self.connected = False
            self._note("disconnected")
        pending, self._pending = self._pending, deque()
        for operation in pending:
            operation.status = "lost"
            operation.completed = self._clock.seconds()
            self.on_reply(operation)
        if self._leaving:
            # Whether the session is closed nobody has said; nobody will ask again.
            self._running = self._leaving = False
            self._over("expired")
            self._stop_timers()

    def _over(self, how: str) -> None:
        self._note(how)
        for watch in self._watching.values():
            watch.over, watch.dropped = len(self.log), True
        self._watching.clear()
        self.session_id, self._password, self.last_zxid = 0, bytes(16), 0

    def _tick(self) -> None:
        """Ping, and give up who says nothing."""
        self._ticker = self._clock.callLater(self.timeout_ms / 6000, self._tick)
        now, timeout = self._clock.seconds(), self.timeout_ms / 1000
        wire = self._wire
        if wire is None or self._attempt is not None:
            return
        if now - self._heard > timeout * 2 / 3:
            transport: Any = wire.transport
            self._wire = None
            transport.abortConnection()
            self._disconnected()
            if self._running:
                self._dial()
        elif self.connected and now - self._spoken > timeout / 3.5:
            self._write(FRAME.pack(8, ops.XID_PING, ops.PING))

    def _stop_timers(self) -> None:
        for call in (self._ticker, self._retry):
            if call is not None and call.active():
                call.cancel()
        self._ticker = self._retry = None

    # -- what it is told

    def _note(self, kind: str, zxid: int = 0, what: Any = None) -> None:
        entry = Entry(kind, self._clock.seconds(), self.session_id, zxid, what)
        self.log.append(entry)
        self.on_entry(entry)

    def _received(self, wire: _Wire, payload: bytes) -> None:
        if wire is not self._wire:
            return
        self._heard = self._clock.seconds()
        if not wire.greeted:
            wire.greeted = True
            self._greeted(payload)
            return
        header, at = jute.decode(proto.ReplyHeader, payload)
        if header.xid == ops.XID_NOTIFICATION:
            self._told(header.zxid, jute.decode(proto.WatcherEvent, payload, at)[0])
        elif header.xid in (ops.XID_PING, ops.XID_SET_WATCHES):
            self._seen(header.zxid)
            if header.xid == ops.XID_SET_WATCHES:
                wire.watching = True
                self._note("watching", header.zxid)
        elif not self._pending or self._pending[0].xid != header.xid:
            self.wrong.append(f"{self}: an answer to xid {header.xid} where {list(self._pending)} wait")
        else:
            self._answered(self._pending.popleft(), header, payload[at:])

    def _greeted(self, payload: bytes) -> None:
        response, _ = jute.decode(proto.ConnectResponse, payload)
        if response.session_id == 0 or response.timeout <= 0:
            if not self.session_id:
                self.wrong.append(f"{self}: refused a new session")
            self._over("expired")
            self._drop()
            if self._running:
                self._dial()
            return
        if self.session_id not in (0, response.session_id):
            self.wrong.append(f"{self}: another session than it asked for: {show_zxid(response.session_id)}")
        fresh = self.session_id == 0
        self.session_id, self._password = response.session_id, response.passwd or b""
        self.timeout_ms = response.timeout
        self.connected = True
        if fresh:
            self._note("session")
        self._note("connected", what=self.server)
        if self._watching and self._wire is not None:
            self._wire.watching = False
            self._watch_again()
        self.on_connected()

    def _watch_again(self) -> None:
        kinds: dict[str, list[bytes]] = {"data": [], "exist": [], "child": []}
        for kind, path in self._watching:
            kinds[kind].append(path)
        request = proto.SetWatches(self.last_zxid, kinds["data"], kinds["exist"], kinds["child"])
        body = jute.encode(request)
        self._write(FRAME.pack(8 + len(body), ops.XID_SET_WATCHES, ops.SET_WATCHES) + body)

    def _seen(self, zxid: int) -> None:
        if zxid > 0:
            if zxid < self.last_zxid:
                self.wrong.append(f"{self}: shown {show_zxid(zxid)} behind {show_zxid(self.last_zxid)}")
            self.last_zxid = max(self.last_zxid, zxid)

    def _answered(self, operation: Operation, header: Any, body: bytes) -> None:
        operation.completed = self._clock.seconds()
        operation.status = "answered"
        operation.reply = Reply(header.xid, operation.op, header.zxid, header.err, body)
        self._seen(header.zxid)
        self._note("reply", header.zxid, operation)
        if operation.op in _READS_WITH_WATCH and operation.request.watch:
            self._set_watch(operation, header)
        if operation.op == ops.CLOSE_SESSION and self._leaving:
            self._leaving = self._running = False
            self._over("closed")
            self._drop()
            self._stop_timers()
        self.on_reply(operation)

    def _set_watch(self, operation: Operation, header: Any) -> None:
        kind = "child" if operation.op in (ops.GET_CHILDREN, ops.GET_CHILDREN2) else "data"
        if header.err == Code.NONODE and operation.op == ops.EXISTS:
            kind = "exist"
        elif header.err:
            return
        key = kind, operation.request.path
        if key not in self._watching:
            watch = Watch(self.session_id, kind, operation.request.path, header.zxid, len(self.log) - 1)
            self._watching[key] = watch
            self.watches.append(watch)

    def _told(self, zxid: int, event: Any) -> None:
        # Events that come because watches were set again carry no zxid that would be new.
        self._note("event", zxid, event)
        kinds = {
            ops.EventType.NODE_CREATED: ("data", "exist"),
            ops.EventType.NODE_DATA_CHANGED: ("data", "exist"),
            ops.EventType.NODE_DELETED: ("data", "exist", "child"),
            ops.EventType.NODE_CHILDREN_CHANGED: ("child",),
        }[ops.EventType(event.type)]
        fired = [self._watching.pop((kind, event.path), None) for kind in kinds]
        for watch in fired:
            if watch is not None:
                watch.over = len(self.log) - 1
        # Of a node that is gone one is told twice who sets a watch for its data and one for its children again.
        if not any(fired) and self._wire is not None and self._wire.watching:
            self.wrong.append(f"{self}: an event that nobody asked for: {event}")
