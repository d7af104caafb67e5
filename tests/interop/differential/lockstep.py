"""Two servers asked the same sequences, step by step, and every answer compared.

Each step is done on both servers before the next begins: its requests go out over one connection, every answer to them
is awaited, and then a ping over every connection of the sequence brings whatever events the step has caused. So nothing
that is compared depends on time.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tests.interop.rawclient import (
    CLOSE_SESSION,
    OPEN_ACL,
    PING,
    Closed,
    RawConnection,
    RawSession,
    Silent,
    buffer,
    connect_request,
)

from . import records as op
from .compare import Comparison, Shifted
from .generate import CONNECTIONS
from .steps import Drop, Open, Raw, Request, Resume, Send, Step, Word
from .words import normal_answer

SUPER = b"super:adminpw"
SUPER_DIGEST = "super:YW0smZw1fP8Plz4LetS54OLjO/8="


def _settings(**properties: str) -> dict[str, dict[str, str]]:
    return {
        "config": {"tickTime": "2000", "minSessionTimeout": "30000", "maxSessionTimeout": "60000"},
        "properties": {
            "zookeeper.DigestAuthenticationProvider.superDigest": SUPER_DIGEST,
            "zookeeper.forceSync": "no",
            # Containers and TTL nodes go when a timer says so, which no two servers do at the same step.
            "znode.container.checkIntervalMs": "100000000",
            **{f"zookeeper.{name.replace('__', '.')}": value for name, value in properties.items()},
        },
    }


SETTINGS = _settings(extendedTypesEnabled="true", enforceQuota="true")
# What a server is like that nobody has configured.
PLAIN_SETTINGS = _settings()
# A connection has to authenticate before it may do anything else.
ENFORCED_SETTINGS = _settings(enforce__auth__enabled="true", enforce__auth__schemes="digest")
OPEN_SETTINGS = _settings(skipACL="yes", extendedTypesEnabled="true")
AUTHENTICATION = Request(op.AUTH, op.AUTH_OP, bytes(4) + buffer(b"digest") + buffer(b"alice:secret"), "auth")
UNIMPLEMENTED, SESSION_EXPIRED, UNKNOWN_SESSION = -6, -112, -12
ENDING_ERRORS = (-115, -124)
MARSHALLING_ERROR = -5


class Seat:
    """One connection of a sequence on one server, and the session behind it."""

    def __init__(self) -> None:
        self.connection: RawConnection | None = None
        self.session_id = 0
        self.password = bytes(16)

    def leave(self) -> None:
        """Close our end."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None


class Outcome(NamedTuple):
    """What one server answered to one step: replies and events in order, immediate replies apart, and the end."""

    frames: tuple[dict[str, Any], ...]
    immediate: tuple[dict[str, Any], ...] = ()
    end: str = "open"
    zxid: int = 0

    def comparable(self) -> dict[str, Any]:
        """Return the parts that must be equal."""
        return {"frames": self.frames, "immediate": self.immediate, "end": self.end}


class Side:
    """One of the two servers, as a sequence sees it."""

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.port = port
        self.admin = RawSession(port, timeout_ms=60000)
        _, err, _ = self.admin.call(op.AUTH_OP, bytes(4) + buffer(b"digest") + buffer(SUPER))
        assert err == 0, f"{name}: the super user's password is not accepted"
        self.seats = [Seat() for _ in range(CONNECTIONS)]
        self.root = b""
        self.start_zxid = 0

    def zxid(self) -> int:
        """Return the last zxid of the server."""
        return self.admin.call(op.PING_OP)[0]

    def close(self) -> None:
        """Close everything."""
        for seat in self.seats:
            seat.leave()
        self.admin.close()

    # -- one frame after the other

    def connect(self, seat: Seat, request: bytes) -> tuple[dict[str, Any], Outcome]:
        """Send a ConnectRequest over a new connection and return its greeting; the seat takes an accepted session."""
        old = seat.connection
        link = RawConnection(self.port)
        link.send(request)
        try:
            greeting = op.decode_connect_response(link.receive())
        except Closed:
            link.close()
            return {}, Outcome((), end="closed without a greeting")
        except Silent:
            link.close()
            return {}, Outcome((), end="no greeting")
        if not greeting["sessionId"]:
            end = self._await_end(link)
            link.close()
            return greeting, Outcome((greeting,), end=end)
        if old is not None and greeting["sessionId"] == seat.session_id:
            self._await_end(old)
        seat.leave()
        seat.connection, seat.session_id, seat.password = link, greeting["sessionId"], greeting["passwd"]
        return greeting, Outcome((greeting,))

    def _await_end(self, link: RawConnection) -> str:
        try:
            link.wait_closed()
        except Silent:
            return "still open"
        return "closed"

    def exchange(self, seat: Seat, requests: Sequence[Request]) -> Outcome:
        """Send requests in one segment and collect the answers."""
        link = seat.connection
        assert link is not None
        link.send(*(request.frame(self.root, self.start_zxid) for request in requests))
        waiting = [(op.PING if request.opcode == op.PING_OP else request.xid, request.opcode) for request in requests]
        frames: list[dict[str, Any]] = []
        immediate: list[dict[str, Any]] = []
        zxid = 0
        end = "open"
        while waiting and end == "open":
            try:
                frame = link.receive()
            except Closed:
                end = "closed"
                continue
            except Silent:
                end = f"no answer to {waiting}"
                continue
            decoded, opcode = self._decode(frame, waiting)
            if opcode in (op.AUTH_OP, op.SASL):
                immediate.append(decoded)
            else:
                frames.append(decoded)
            zxid = max(zxid, decoded.get("zxid", 0))
            if self._is_last(decoded, opcode):
                # Whatever comes between the answer that ends a connection and its end is a race.
                end = self._await_end(link)
        if end != "open":
            seat.leave()
        return Outcome(tuple(frames), tuple(immediate), end, zxid)

    def _decode(self, frame: bytes, waiting: list[tuple[int, int]]) -> tuple[dict[str, Any], int | None]:
        try:
            xid = op.header(frame)[0]
        except op.Malformed:
            return {"raw": frame}, None
        if xid == op.NOTIFICATION and not any(sent == xid for sent, _ in waiting):
            return op.decode_notification(frame), None
        for index, (sent, opcode) in enumerate(waiting):
            if sent == xid:
                del waiting[index]
                return op.decode_reply(opcode, frame), opcode
        return op.decode_reply(None, frame), None

    def _is_last(self, reply: dict[str, Any], opcode: int | None) -> bool:
        if reply.get("err") == UNIMPLEMENTED and reply.get("zxid") == -1:
            return True
        return opcode == CLOSE_SESSION or reply.get("err") in ENDING_ERRORS

    def events(self, seat: Seat) -> Outcome:
        """Ask a ping over a connection and return what came before its answer."""
        link = seat.connection
        assert link is not None
        link.send(PING)
        frames: list[dict[str, Any]] = []
        while True:
            try:
                frame = link.receive()
            except Closed:
                seat.leave()
                return Outcome(tuple(frames), end="closed")
            except Silent:
                seat.leave()
                return Outcome(tuple(frames), end="no answer to a ping")
            xid = op.header(frame)[0]
            if xid == op.PING:
                return Outcome((*frames, op.decode_reply(op.PING_OP, frame)))
            frames.append(op.decode_notification(frame) if xid == op.NOTIFICATION else op.decode_reply(None, frame))

    # -- the tree

    def dump(self, path: bytes) -> dict[bytes, dict[str, Any]]:
        """Return every node from *path* down: data, ACL and stat."""
        nodes: dict[bytes, dict[str, Any]] = {}
        todo = [path]
        while todo:
            path = todo.pop()
            _, err, body = self.admin.call(op.GET_DATA, buffer(path) + b"\0")
            if err:
                continue
            node = op.decode_reply(op.GET_DATA, bytes(16) + body)
            _, _, body = self.admin.call(op.GET_ACL, buffer(path))
            node["acl"] = op.decode_reply(op.GET_ACL, bytes(16) + body).get("acl")
            _, _, body = self.admin.call(op.GET_CHILDREN, buffer(path) + b"\0")
            children = op.decode_reply(op.GET_CHILDREN, bytes(16) + body)["children"]
            nodes[path] = node
            todo += [path.rstrip(b"/") + b"/" + child for child in children]
        return nodes

    def remove(self, paths: Sequence[bytes]) -> None:
        """Delete nodes, leaves first, in one transaction."""
        body = b"".join(
            struct.pack(">ibi", op.DELETE, 0, -1) + buffer(path) + struct.pack(">i", -1)
            for path in sorted(paths, key=len, reverse=True)
        )
        self.admin.call(op.MULTI, body + struct.pack(">ibi", -1, 1, -1))


class Difference(AssertionError):
    """The two servers answered a step differently."""

    def __init__(self, step: object, texts: Sequence[str], theirs: object, ours: object) -> None:
        super().__init__(texts)
        self.step = step
        self.texts = list(texts)
        self.theirs = theirs
        self.ours = ours


class Lockstep:
    """A pair of servers, fresh and alike, which are only ever asked through here.

    *known* may look at a pair of outcomes and return them with a listed difference taken out; it may change the
    distance between the servers' zxids. With *authenticate*, every connection but the last begins with an auth packet.
    """

    def __init__(
        self,
        theirs: tuple[str, int],
        ours: tuple[str, int],
        known: Callable[[Lockstep, Step, Any, Any], tuple[Any, Any]] | None = None,
        authenticate: bool = False,
    ) -> None:
        self.authenticate = authenticate
        self.theirs = Side(*theirs)
        self.ours = Side(*ours)
        self.shift = Shifted(self.ours.zxid() - self.theirs.zxid())
        self.comparison = Comparison(self.shift)
        self.comparison.pair_sessions(self.theirs.admin.session_id, self.ours.admin.session_id)
        self.known = known
        self.steps_done = 0
        self.requests_done = 0
        self._count = 0

    def close(self) -> None:
        """Close every connection to both."""
        self.theirs.close()
        self.ours.close()

    def run(self, steps: Sequence[Step]) -> None:
        """Run one sequence under a root of its own; raise :class:`Difference` at the first one."""
        self._count += 1
        root = f"r{self._count:04d}".encode()
        assert len(root) == 5, "more sequences than names for their roots"
        for side in (self.theirs, self.ours):
            side.root = root
            side.start_zxid = side.zxid()
            side.admin.call(op.CREATE, buffer(b"/" + root) + buffer(b"") + OPEN_ACL + bytes(4))
        self.shift.shift = self.ours.start_zxid - self.theirs.start_zxid
        try:
            for seat in range(CONNECTIONS):
                self._step(Open(seat))
            for step in steps:
                self._step(step)
            self._compare_trees(root)
        finally:
            self._clean_up(root)

    def _compare_trees(self, root: bytes) -> None:
        for path in (b"/" + root, b"/zookeeper/quota/" + root):
            theirs, ours = self.theirs.dump(path), self.ours.dump(path)
            self._compare("the tree at the end", theirs, ours)

    def _clean_up(self, root: bytes) -> None:
        for side in (self.theirs, self.ours):
            for seat in side.seats:
                self._end_session(side, seat)
            for path in (b"/" + root, b"/zookeeper/quota/" + root):
                side.remove(list(side.dump(path)))

    def _end_session(self, side: Side, seat: Seat) -> None:
        if seat.connection is None and seat.session_id:
            side.connect(seat, connect_request(30000, seat.session_id, seat.password))
        if seat.connection is not None:
            side.exchange(seat, [Request(1, CLOSE_SESSION, b"", "close")])
        seat.leave()
        seat.session_id = 0

    # -- steps

    def _step(self, step: Step) -> None:
        self.steps_done += 1
        if isinstance(step, Word):
            answers = [self._word(side, step) for side in (self.theirs, self.ours)]
            self._compare(step, *answers)
            return
        pairs = (self.theirs, self.theirs.seats[step.conn]), (self.ours, self.ours.seats[step.conn])
        if isinstance(step, Open):
            for side, seat in pairs:
                self._end_session(side, seat)
            self._connect(step, [self._open_request(side, step) for side, _ in pairs])
        elif isinstance(step, Resume):
            if all(seat.session_id for _, seat in pairs):
                self._resume(step)
        elif any(seat.connection is None for _, seat in pairs):
            # The step before has ended the connection; this one is for another.
            self._step(Resume(step.conn) if all(seat.session_id for _, seat in pairs) else Open(step.conn))
            if all(seat.connection is not None for _, seat in pairs):
                self._step(step)
            return
        elif isinstance(step, Drop):
            for _, seat in pairs:
                seat.leave()
        elif isinstance(step, Raw):
            self._compare(step, *(self._raw(side, seat, step) for side, seat in pairs))
        else:
            self.requests_done += len(step.requests)
            self._exchange(step, pairs)
        self._events(step)

    def _exchange(self, step: Send, pairs: Sequence[tuple[Side, Seat]]) -> None:
        theirs, ours = (side.exchange(seat, step.requests) for side, seat in pairs)
        if any(request.opcode == CLOSE_SESSION for request in step.requests):
            for outcome, (_, seat) in zip((theirs, ours), pairs, strict=True):
                if outcome.end == "closed":
                    seat.session_id = 0
            theirs, ours = _close_last(theirs), _close_last(ours)
        self._compare(step, theirs.comparable(), ours.comparable())

    def _raw(self, side: Side, seat: Seat, step: Raw) -> dict[str, Any]:
        assert seat.connection is not None
        seat.connection.send_raw(step.data)
        end = side._await_end(seat.connection)
        seat.leave()
        return {"end": end}

    def _word(self, side: Side, step: Word) -> dict[str, Any]:
        link = RawConnection(side.port)
        link.send_raw(step.data)
        try:
            answer = normal_answer(step.data, link.receive_raw())
        except Silent:
            answer = "the connection stays open"
        link.close()
        return {"answer": answer}

    def _open_request(self, side: Side, step: Open) -> bytes:
        seen = 0 if step.zxid_ahead is None else side.zxid() + step.zxid_ahead
        return connect_request(step.timeout_ms, step.session_id, step.password, seen, step.read_only, step.version)

    def _connect(self, step: Open | Resume, requests: Sequence[bytes]) -> None:
        outcomes = []
        for side, request in zip((self.theirs, self.ours), requests, strict=True):
            outcomes.append(side.connect(side.seats[step.conn], request))
        (their_greeting, theirs), (our_greeting, ours) = outcomes
        if their_greeting.get("sessionId") and our_greeting.get("sessionId"):
            self.comparison.pair_sessions(their_greeting["sessionId"], our_greeting["sessionId"])
        self._compare(step, theirs.comparable(), ours.comparable())
        if self.authenticate and step.conn < CONNECTIONS - 1 and their_greeting.get("sessionId"):
            self._step(Send(step.conn, (AUTHENTICATION,)))

    def _resume(self, step: Resume) -> None:
        requests = []
        for side in (self.theirs, self.ours):
            seat = side.seats[step.conn]
            password = seat.password if step.right else bytes(byte ^ 1 for byte in seat.password)
            requests.append(connect_request(step.timeout_ms, seat.session_id, password, 0, step.read_only))
        self._connect(step, requests)
        if not step.right:
            # Java closes the rightful connection for a stranger's wrong password, which we do not copy. Both are
            # closed here, so that the sequence goes on alike.
            for side in (self.theirs, self.ours):
                side.seats[step.conn].leave()

    def _events(self, step: Step) -> None:
        for theirs, ours in zip(self.theirs.seats, self.ours.seats, strict=True):
            if theirs.connection is None or ours.connection is None:
                if (theirs.connection is None) != (ours.connection is None):
                    raise Difference(step, ["one server has closed the connection"], theirs.__dict__, ours.__dict__)
                continue
            their_events, our_events = self.theirs.events(theirs), self.ours.events(ours)
            closes = isinstance(step, Open) or (
                isinstance(step, Send) and any(request.opcode == CLOSE_SESSION for request in step.requests)
            )
            if closes:
                # A session's end deletes its nodes in no particular order.
                their_events, our_events = (
                    Outcome(tuple(sorted(outcome.frames, key=_event_order)), end=outcome.end)
                    for outcome in (their_events, our_events)
                )
            self._compare(step, their_events.comparable(), our_events.comparable())

    def _compare(self, step: object, theirs: Any, ours: Any) -> None:
        if self.known is not None:
            theirs, ours = self.known(self, step, theirs, ours)  # type: ignore[arg-type]
        texts = self.comparison.differences(theirs, ours)
        if texts:
            raise Difference(step, texts, theirs, ours)


def _close_last(outcome: Outcome) -> Outcome:
    """Return the outcome of a closeSession with its events sorted: the deletions come in no particular order."""
    events = [frame for frame in outcome.frames if "event" in frame]
    others = [frame for frame in outcome.frames if "event" not in frame]
    return outcome._replace(frames=(*others, *sorted(events, key=_event_order)))


def _event_order(frame: dict[str, Any]) -> tuple[int, int, bytes]:
    return ("event" not in frame, frame.get("event", 0), frame.get("path") or b"")


def shrink(steps: list[Step], fails: Callable[[list[Step]], bool], attempts: int = 150) -> list[Step]:
    """Return a shorter sequence that *fails* too: first without steps, then without requests of a step."""
    size = max(1, len(steps) // 2)
    while size >= 1 and attempts > 0:
        at = 0
        while at < len(steps) and attempts > 0:
            candidate = steps[:at] + steps[at + size :]
            attempts -= 1
            if candidate and fails(candidate):
                steps = candidate
            else:
                at += size
        size //= 2
    for index, step in enumerate(steps):
        if not isinstance(step, Send):
            continue
        for request in step.requests:
            left = tuple(one for one in steps[index].requests if one is not request)  # type: ignore[union-attr]
            candidate = [*steps[:index], Send(step.conn, left), *steps[index + 1 :]]
            if left and attempts > 0 and fails(candidate):
                steps = candidate
            attempts -= 1
    return steps
