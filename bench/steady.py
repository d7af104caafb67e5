"""A steady load whose every latency is kept with its time, to be laid beside what the server did meanwhile.

An open loop in this process: request *i* is due at *i*/rate and its latency counts from then, so a server that
stands still is charged for all that fell due meanwhile. Light by intent (some hundred requests a second): it
looks at the server's stalls, ``zkload`` looks at its speed.
"""

from __future__ import annotations

import os
import selectors
import socket
import struct
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from bench.report import Window
from bench.servers import Server

_CREATE, _DELETE, _GET, _SET, _PING, _CLOSE = 1, 2, 4, 5, 11, -11
PATH = b"/bench-steady"
DATA = b"x" * 100


@dataclass(frozen=True)
class Sample:
    """One request: when it was due (wall clock, seconds), its latency in ms, and whether it was a write."""

    due: float
    ms: float
    write: bool


def _text(value: bytes) -> bytes:
    return struct.pack(">i", len(value)) + value


def _frame(xid: int, kind: int, body: bytes = b"") -> bytes:
    return struct.pack(">iii", 8 + len(body), xid, kind) + body


def _receive(connection: socket.socket) -> bytes:
    data = b""
    while len(data) < 4 or len(data) < 4 + struct.unpack(">i", data[:4])[0]:
        piece = connection.recv(65536)
        if not piece:
            raise ConnectionError("the server closed the connection")
        data += piece
    return data[4:]


def _connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    hello = struct.pack(">iqiq", 0, 0, 30000, 0) + _text(bytes(16)) + b"\0"
    connection.sendall(struct.pack(">i", len(hello)) + hello)
    _receive(connection)
    return connection


class _Client:
    """One connection: what waits for an answer, in order, and the bytes of a reply that is not whole yet."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.waiting: deque[tuple[float, bool]] = deque()
        self.data = b""

    def take(self, clock_offset: float, samples: list[Sample]) -> int:
        """Reads what is there; returns how many replies carried an error."""
        self.data += self.socket.recv(262144)
        now = time.monotonic()
        wrong = position = 0
        while len(self.data) - position >= 20:
            length, _xid, _zxid, code = struct.unpack_from(">iiqi", self.data, position)
            if len(self.data) - position < 4 + length:
                break
            position += 4 + length
            due, write = self.waiting.popleft()
            samples.append(Sample(due + clock_offset, (now - due) * 1000, write))
            wrong += code != 0
        self.data = self.data[position:]
        return wrong


class SnapshotWatcher:
    """Finds the times in which a server writes a snapshot, by the files that it grows.

    Every file of the data directory that is no log is looked at; a change starts or prolongs a window, and
    half a second without one ends it.
    """

    def __init__(self, directory: Path, gap_s: float = 0.5) -> None:
        self.directory = directory
        self.gap_s = gap_s
        self.known = self._sizes()
        self.windows: list[Window] = []

    def _sizes(self) -> dict[str, int]:
        sizes = {}
        with os.scandir(self.directory) as entries:
            for entry in entries:
                if not entry.name.startswith("log."):
                    try:
                        sizes[entry.name] = entry.stat().st_size
                    except FileNotFoundError:
                        continue
        return sizes

    def look(self, now: float) -> None:
        """Compares the directory with the last look."""
        sizes = self._sizes()
        if sizes == self.known:
            return
        self.known = sizes
        if self.windows and now - self.windows[-1].end < self.gap_s:
            self.windows[-1] = Window(self.windows[-1].start, now)
        else:
            self.windows.append(Window(now, now))


def run(
    server: Server, rate: float, seconds: float, connections: int = 8, watcher: SnapshotWatcher | None = None
) -> tuple[list[Sample], int]:
    """Every second request a read, every second a write of 100 bytes; returns the samples and the error count."""
    opener = _connect(server.port)
    acl = struct.pack(">ii", 1, 31) + _text(b"world") + _text(b"anyone")
    opener.sendall(_frame(1, _CREATE, _text(PATH) + _text(DATA) + acl + struct.pack(">i", 0)))
    _receive(opener)
    opener.close()
    clients = [_Client(_connect(server.port)) for _ in range(connections)]
    selector = selectors.DefaultSelector()
    for client in clients:
        client.socket.setblocking(False)
        selector.register(client.socket, selectors.EVENT_READ, client)
    samples: list[Sample] = []
    wrong = sent = 0
    read = _text(PATH) + b"\0"
    write = _text(PATH) + _text(DATA) + struct.pack(">i", -1)
    began = time.monotonic()
    offset = time.time() - began
    looked = 0.0
    while True:
        now = time.monotonic()
        due = began + sent / rate
        if now - began < seconds:
            while due <= now:
                client = clients[sent // 2 % connections]
                is_write = bool(sent & 1)
                client.waiting.append((due, is_write))
                client.socket.sendall(_frame(sent + 1, _SET, write) if is_write else _frame(sent + 1, _GET, read))
                sent += 1
                due = began + sent / rate
        elif not any(client.waiting for client in clients) or now - began > seconds + 60:
            break
        for key, _ in selector.select(max(0.0, min(due - now, 0.01))):
            wrong += key.data.take(offset, samples)
        if watcher is not None and now - looked >= 0.01:
            looked = now
            watcher.look(now + offset)
    wrong += sum(len(client.waiting) for client in clients)
    for client in clients:
        client.socket.close()
    opener = _connect(server.port)
    opener.sendall(_frame(2, _DELETE, _text(PATH) + struct.pack(">i", -1)))
    _receive(opener)
    opener.close()
    selector.close()
    return samples, wrong
