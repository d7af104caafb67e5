"""A TCP relay on the loopback address that can cut its connections, and take none, at a test's word."""

from __future__ import annotations

import contextlib
import select
import socket
import threading

from tests.interop.process import HOST, PATIENCE


class Relay:
    """
    Pass bytes between a port of its own and a server's, both ways, in one thread.

    `cut` ends every connection and refuses new ones until `heal`; `port` stays the same.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._pairs: dict[socket.socket, socket.socket] = {}
        # Bound and not listening, it keeps the port from everybody else while the relay takes no connections.
        self._held = socket.socket()
        self._held.bind((HOST, 0))
        self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.port: int = self._held.getsockname()[1]
        self._listener: socket.socket | None = socket.create_server((HOST, self.port))
        self._lock = threading.Lock()
        self._awake, self._waker = socket.socketpair()
        self._passed = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """End all connections; the port refuses others."""
        with self._lock:
            for link in list(self._pairs):
                self._drop(link)
            if self._listener is not None:
                self._listener.close()
            self._listener = None
        # As long as the thread waits for the listener it is not closed, and nobody else can listen there.
        self._passed.clear()
        self._waker.send(b".")
        assert self._passed.wait(PATIENCE), "the thread of the relay is gone"

    def heal(self) -> None:
        """Take connections again."""
        with self._lock:
            self._listener = socket.create_server((HOST, self.port))
        self._waker.send(b".")

    def close(self) -> None:
        """End everything."""
        self.cut()
        self._closing = True
        self._waker.send(b".")
        self._thread.join()
        self._awake.close()
        self._waker.close()
        self._held.close()

    def _run(self) -> None:
        while not self._closing:
            with self._lock:
                watched = [self._awake, *self._pairs, *filter(None, [self._listener])]
            with contextlib.suppress(OSError, ValueError):  # one of them was closed meanwhile: look again
                ready = select.select(watched, [], [])[0]
                with self._lock:
                    for link in ready:
                        self._serve(link)
            self._passed.set()

    def _serve(self, link: socket.socket) -> None:
        if link is self._awake:
            link.recv(4096)
        elif link is self._listener:
            client = link.accept()[0]
            server = socket.create_connection((HOST, self._target))
            self._pairs[client], self._pairs[server] = server, client
        elif link in self._pairs:
            data = b""
            with contextlib.suppress(OSError):
                data = link.recv(65536)
            if data:
                self._pairs[link].sendall(data)
            else:
                self._drop(link)

    def _drop(self, link: socket.socket) -> None:
        other = self._pairs.pop(link, None)
        link.close()
        if other is not None:
            self._pairs.pop(other, None)
            other.close()
