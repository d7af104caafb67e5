"""A small blocking client of the raw protocol: frames out, frames in, and nothing decided for the test.

It shares no code with the server under test, so that an error in our codec cannot hide itself here.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Sequence

from .process import HOST, PATIENCE

PING = struct.pack(">ii", -2, 11)
CLOSE_SESSION = -11
NO_PASSWORD = bytes(16)


class Closed(Exception):
    """The server closed the connection."""


class Silent(Exception):
    """Nothing came before the deadline."""


class RawConnection:
    """One TCP connection: framed or plain bytes, in both directions, each wait with a deadline in seconds."""

    def __init__(self, port: int, timeout: float = PATIENCE) -> None:
        self.timeout = timeout
        self._buffer = bytearray()
        self._socket = socket.create_connection((HOST, port), timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.closed = False

    def send_raw(self, data: bytes) -> None:
        """Send bytes as they are; a connection that the server has closed meanwhile swallows them."""
        try:
            self._socket.sendall(data)
        except OSError:
            self.closed = True

    def send(self, *frames: bytes) -> None:
        """Send frames, each with its length in front, in one segment."""
        self.send_raw(b"".join(struct.pack(">i", len(frame)) + frame for frame in frames))

    def _fill(self, deadline: float) -> None:
        self._socket.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            chunk = self._socket.recv(262144)
        except TimeoutError:
            raise Silent from None
        except OSError:
            chunk = b""
        if not chunk:
            self.closed = True
            raise Closed
        self._buffer += chunk

    def receive(self, timeout: float | None = None) -> bytes:
        """Return the next frame, or raise :class:`Closed` or :class:`Silent`."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            if len(self._buffer) >= 4:
                length = int.from_bytes(self._buffer[:4], "big")
                if len(self._buffer) >= 4 + length:
                    frame = bytes(self._buffer[4 : 4 + length])
                    del self._buffer[: 4 + length]
                    return frame
            self._fill(deadline)

    def receive_raw(self, timeout: float | None = None) -> bytes:
        """Return everything up to the server's close."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        try:
            while True:
                self._fill(deadline)
        except Closed:
            content = bytes(self._buffer)
            self._buffer.clear()
            return content

    def wait_closed(self, timeout: float | None = None) -> list[bytes]:
        """Wait for the server's close and return the frames that came before it."""
        frames = []
        while True:
            try:
                frames.append(self.receive(timeout))
            except Closed:
                return frames

    def close(self) -> None:
        """Close our side."""
        self._socket.close()
        self.closed = True


def buffer(value: bytes | None) -> bytes:
    """Encode a jute buffer or string; None is null."""
    return b"\xff\xff\xff\xff" if value is None else struct.pack(">i", len(value)) + value


def vector(items: Sequence[bytes] | None) -> bytes:
    """Encode a jute vector of items that are encoded already; None is null."""
    return b"\xff\xff\xff\xff" if items is None else struct.pack(">i", len(items)) + b"".join(items)


def acl(entries: Sequence[tuple[int, str | None, str | None]] | None) -> bytes:
    """Encode a list of (perms, scheme, id)."""

    def text(value: str | None) -> bytes:
        return buffer(None if value is None else value.encode())

    if entries is None:
        return vector(None)
    return vector([struct.pack(">i", perms) + text(scheme) + text(ident) for perms, scheme, ident in entries])


OPEN_ACL = acl([(31, "world", "anyone")])


def connect_request(
    timeout_ms: int = 20000,
    session_id: int = 0,
    password: bytes | None = NO_PASSWORD,
    last_zxid: int = 0,
    read_only: bytes = b"\0",
    version: int = 0,
) -> bytes:
    """Encode a ConnectRequest; an empty *read_only* is a client of before that field."""
    return struct.pack(">iqiq", version, last_zxid, timeout_ms, session_id) + buffer(password) + read_only


class RawSession:
    """A session over one :class:`RawConnection`: requests by opcode, replies in order, notifications apart."""

    def __init__(
        self,
        port: int,
        timeout_ms: int = 20000,
        session_id: int = 0,
        password: bytes = NO_PASSWORD,
        last_zxid: int = 0,
        patience: float = PATIENCE,
        read_only: bytes = b"\0",
    ) -> None:
        self.connection = RawConnection(port, patience)
        self.connection.send(connect_request(timeout_ms, session_id, password, last_zxid, read_only))
        try:
            answer = self.connection.receive()
        except (Closed, Silent):
            self.connection.close()
            raise
        _, self.timeout_ms, self.session_id = struct.unpack_from(">iiq", answer)
        self.password = answer[20:36]
        self.of_read_only_server = answer[36:] == b"\1"
        self.events: list[tuple[int, bytes]] = []
        self._xid = 0

    def call(self, opcode: int, body: bytes = b"", timeout: float | None = None) -> tuple[int, int, bytes]:
        """Make one request and return (zxid, err, body); notifications met on the way go to ``events``."""
        return self.calls([(opcode, body)], timeout)[0]

    def calls(
        self, requests: Sequence[tuple[int, bytes]], timeout: float | None = None
    ) -> list[tuple[int, int, bytes]]:
        """Make requests at once, and return what `call` does for each."""
        frames = [struct.pack(">ii", self._xid + 1 + index, op) + body for index, (op, body) in enumerate(requests)]
        self._xid += len(frames)
        self.connection.send(*frames)
        answers: list[tuple[int, int, bytes]] = []
        while len(answers) < len(requests):
            frame = self.connection.receive(timeout)
            xid, zxid, err = struct.unpack_from(">iqi", frame)
            if xid != -1:
                answers.append((zxid, err, frame[16:]))
                continue
            kind, _, length = struct.unpack_from(">iii", frame, 16)
            self.events.append((kind, frame[28 : 28 + length]))
        return answers

    def create(self, path: str, data: bytes | None = b"", flags: int = 0) -> str:
        """Create a node that everybody may do anything with, and return its path."""
        _, err, body = self.call(1, buffer(path.encode()) + buffer(data) + OPEN_ACL + struct.pack(">i", flags))
        assert err == 0, f"create {path}: error {err}"
        return body[4:].decode()

    def close(self) -> None:
        """Close the session, then the connection."""
        try:
            self.call(CLOSE_SESSION)
        except (Closed, Silent):
            pass
        self.connection.close()
