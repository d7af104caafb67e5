"""
The wires between the servers of an ensemble, in the hands of a test: each can fall silent, break, and heal.

Every server gets its own address for each of the others, and behind that address is a relay of this module; so what
passes between two servers passes here and nowhere else. A server's address for itself is the wildcard, which it
announces, and which the others must not dial.

Knows TCP, and just enough of the quorum protocol to say how a learner was synchronized. Decides nothing.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tests.interop.process import HOST

CHUNK = 1 << 16
#: A direction of a connection that holds this much takes no more before some is gone, as a kernel's buffer does.
HELD_MAX = 1 << 20
#: How much of what a leader says first is remembered.
REMEMBERED = 4096
#: Seconds. A learner tries again when nobody listens yet; it cannot see that here, so the relay tries in its place.
TRIED_FOR = 1.0
TRY_PAUSE = 0.01
SYNC_KINDS = {13: "DIFF", 14: "TRUNC", 15: "SNAP"}
QUORUM, ELECTION = "quorum", "election"


def first_sync(said: bytes) -> str | None:
    """Return how the leader of a connection began to synchronize its learner; None when it did not get so far."""
    offset = 0
    while len(said) - offset >= 20:
        kind, _, length = struct.unpack_from(">iqi", said, offset)
        if kind in SYNC_KINDS:
            return SYNC_KINDS[kind]
        # The packets before it carry no identities.
        offset += 16 + max(length, 0) + 4
    return None


@dataclass
class Flow:
    """One direction of one connection: what was taken from *source* and has not gone to *sink*."""

    source: socket.socket
    sink: socket.socket
    way: tuple[int, int]
    held: bytearray = field(default_factory=bytearray)
    ended: bool = False


@dataclass
class Pair:
    """One relayed connection: from server *dialler* to a port of server *target*."""

    kind: str
    dialler: int
    target: int
    flows: tuple[Flow, Flow]
    said: bytearray = field(default_factory=bytearray)


class Links:
    """All wires of an ensemble, served by one thread; made before the servers, closed after them."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._listeners: dict[socket.socket, tuple[str, int, int, int]] = {}
        self._pairs: list[Pair] = []
        self._syncs: list[tuple[int, int, bytearray]] = []
        self._dialling: list[tuple[socket.socket, tuple[str, int, int, int], float]] = []
        self._silent: set[tuple[int, int]] = set()
        self._broken: set[tuple[int, int]] = set()
        self._orders: list[Callable[[], None]] = []
        self._done = threading.Condition()
        self._awake, self._waker = socket.socketpair()
        self._selector.register(self._awake, selectors.EVENT_READ)
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="links", daemon=True)
        self._thread.start()

    def add(self, kind: str, dialler: int, target: int, port: int) -> int:
        """Return the port at which server *dialler* finds what server *target* has at *port*."""
        listener = socket.create_server((HOST, 0))
        listener.setblocking(False)

        def begin() -> None:
            self._listeners[listener] = (kind, dialler, target, port)

        self._order(begin)
        return int(listener.getsockname()[1])

    def silence(self, sources: Iterable[int], targets: Iterable[int], both_ways: bool = True) -> None:
        """Let nothing through from *sources* to *targets*; connections stay, and what is sent waits in them."""
        ways = {(one, other) for one in sources for other in targets}
        if both_ways:
            ways |= {(other, one) for one, other in ways}
        self._order(lambda: self._silent.update(ways))

    def break_off(self, ones: Iterable[int], others: Iterable[int]) -> None:
        """End all connections between two sides, and every new one as soon as it is made."""
        ways = {(one, other) for one in ones for other in others}
        ways |= {(other, one) for one, other in ways}

        def do() -> None:
            self._broken.update(ways)
            for pair in list(self._pairs):
                if (pair.dialler, pair.target) in ways:
                    self._drop(pair)

        self._order(do)

    def heal(self) -> None:
        """Let everything through again; what waited goes first."""
        self._order(lambda: (self._silent.clear(), self._broken.clear(), None)[-1])

    def syncs(self, learner: int) -> list[str]:
        """Return how a learner was synchronized, connection by connection, as far as it came to that."""
        found: list[str] = []

        def read() -> None:
            found.extend(
                kind for dialler, _, said in self._syncs if dialler == learner and (kind := first_sync(bytes(said)))
            )

        self._order(read)
        return found

    def close(self) -> None:
        """End everything."""
        self._closing = True
        self._waker.send(b".")
        self._thread.join()
        for pair in list(self._pairs):
            self._drop(pair)
        for listener in self._listeners:
            listener.close()
        for client, _, _ in self._dialling:
            client.close()
        self._selector.close()
        self._awake.close()
        self._waker.close()

    def _order(self, order: Callable[[], None]) -> None:
        """Have something done in the thread of the relays, and return when it is done."""
        done: list[bool] = []

        def act() -> None:
            order()
            with self._done:
                done.append(True)
                self._done.notify_all()

        self._orders.append(act)
        self._waker.send(b".")
        with self._done:
            assert self._done.wait_for(lambda: done, 60.0), "the thread of the relays is gone"

    def _run(self) -> None:
        while not self._closing:
            self._arm()
            for key, events in self._selector.select(TRY_PAUSE if self._dialling else None):
                if key.fileobj is self._awake:
                    self._awake.recv(CHUNK)
                elif key.data is None:
                    self._accept(key.fileobj)  # type: ignore[arg-type]
                else:
                    self._move(key.fileobj, key.data, events)  # type: ignore[arg-type]
            waiting, self._dialling = self._dialling, []
            for client, route, deadline in waiting:
                self._dial(client, route, deadline)
            while self._orders:
                self._orders.pop(0)()

    def _arm(self) -> None:
        """Tell the selector whom to listen to: silent ways are not read, and held bytes want their sink."""
        wanted: dict[socket.socket, tuple[int, Pair | None]] = dict.fromkeys(
            self._listeners, (selectors.EVENT_READ, None)
        )
        for pair in self._pairs:
            for flow in pair.flows:
                if flow.way in self._silent:
                    continue
                if not flow.ended and len(flow.held) < HELD_MAX:
                    events, _ = wanted.get(flow.source, (0, None))
                    wanted[flow.source] = (events | selectors.EVENT_READ, pair)
                if flow.held:
                    events, _ = wanted.get(flow.sink, (0, None))
                    wanted[flow.sink] = (events | selectors.EVENT_WRITE, pair)
        known = {key.fileobj: key for key in self._selector.get_map().values() if key.fileobj is not self._awake}
        for link in known.keys() - wanted.keys():
            self._selector.unregister(link)
        for link, (events, pair) in wanted.items():
            if link not in known:
                self._selector.register(link, events, pair)
            elif known[link].events != events:
                self._selector.modify(link, events, pair)

    def _accept(self, listener: socket.socket) -> None:
        try:
            client = listener.accept()[0]
        except OSError:  # it went away again
            return
        route = self._listeners[listener]
        self._dial(client, route, time.monotonic() + (TRIED_FOR if route[0] == QUORUM else 0.0))

    def _dial(self, client: socket.socket, route: tuple[str, int, int, int], deadline: float) -> None:
        kind, dialler, target, port = route
        if (dialler, target) in self._broken:
            client.close()
            return
        try:
            # On the loopback device this is answered at once, also by a server that is stopped.
            server = socket.create_connection((HOST, port), 5.0)
        except OSError:
            if time.monotonic() < deadline:
                self._dialling.append((client, route, deadline))
            else:
                # The dialler learns by the end of its connection that nobody is there.
                client.close()
            return
        for link in (client, server):
            link.setblocking(False)
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pair = Pair(
            kind, dialler, target, (Flow(client, server, (dialler, target)), Flow(server, client, (target, dialler)))
        )
        self._pairs.append(pair)
        if kind == QUORUM:
            self._syncs.append((dialler, target, pair.said))

    def _move(self, link: socket.socket, pair: Pair, events: int) -> None:
        if pair not in self._pairs:  # it was dropped a moment ago
            return
        try:
            for flow in pair.flows:
                if flow.source is link and events & selectors.EVENT_READ:
                    data = link.recv(CHUNK)
                    flow.ended = not data
                    flow.held += data
                    if flow is pair.flows[1] and len(pair.said) < REMEMBERED:
                        pair.said += data
                if flow.held and flow.way not in self._silent:
                    with contextlib.suppress(BlockingIOError):
                        del flow.held[: flow.sink.send(flow.held)]
        except BlockingIOError:
            return
        except OSError:
            self._drop(pair)
            return
        if any(flow.ended and not flow.held for flow in pair.flows):
            # The servers never close one half alone.
            self._drop(pair)

    def _drop(self, pair: Pair) -> None:
        self._pairs.remove(pair)
        for flow in pair.flows:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(flow.source)
            flow.source.close()
