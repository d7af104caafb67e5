"""A TCP relay on the loopback address that can cut its connections, and take none, at a test's word."""

from __future__ import annotations

import contextlib
import select
import socket
import threading

from tests.interop.process import HOST


class Relay:
    """
    Pass bytes between a port of its own and a server's, both ways, in one thread.

    `cut` ends every connection and refuses new ones until `heal`; `port` stays the same.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._listener: socket.socket | None = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._awake, self._waker = socket.socketpair()
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
        self._waker.send(b".")

    def heal(self) -> None:
        """Take connections again."""
        with self._lock:
            self._listener = socket.create_server((HOST, self.port))
        self._waker.send(b".")

    def close(self) -> None:
        """End everything."""
        self._closing = True
        self.cut()
        self._thread.join()
        self._awake.close()
        self._waker.close()

    def _run(self) -> None:
        while not self._closing:
            with self._lock:
                watched = [self._awake, *self._pairs, *filter(None, [self._listener])]
            with contextlib.suppress(OSError, ValueError):  # one of them was closed meanwhile: look again
                ready = select.select(watched, [], [])[0]
                with self._lock:
                    for link in ready:
                        self._serve(link)

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
