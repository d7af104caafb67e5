"""
What the tests of kazoo share: started clients below a chroot of the test's own, and callbacks that can be waited for.

Kept out of ``conftest.py`` so that only these tests need kazoo.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

from kazoo.client import KazooClient
from kazoo.protocol.states import KeeperState

from tests.interop.process import HOST, PATIENCE, ServerProcess

WAIT = PATIENCE
RETRY = {"max_tries": -1, "delay": 0.05, "backoff": 1, "max_delay": 0.2}

Connect = Callable[..., KazooClient]


@contextlib.contextmanager
def client_of(server: ServerProcess, **options: Any) -> Iterator[KazooClient]:
    """Give a client of one server, closed at the end."""
    client = KazooClient(hosts(server), timeout=10.0, connection_retry=RETRY, **options)
    client.start(WAIT)
    try:
        yield client
    finally:
        close(client)


def hosts(server: ServerProcess) -> str:
    """Return the connection string of a server."""
    return f"{HOST}:{server.port}"


def close(client: KazooClient) -> None:
    """End a client's session and its threads."""
    client.stop()
    client.close()


class Told:
    """A callback that remembers what it was told, and can be waited for."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._changed = threading.Condition()

    def __call__(self, *values: Any) -> None:
        with self._changed:
            self.values.append(values[0] if len(values) == 1 else values)
            self._changed.notify_all()

    def until(self, check: Callable[[list[Any]], object]) -> list[Any]:
        """Wait until ``check`` likes the values told so far, and return them."""
        with self._changed:
            if not self._changed.wait_for(lambda: check(self.values), WAIT):
                raise AssertionError(f"after {WAIT} s only this was told: {self.values}")
            return list(self.values)


def assert_not_authenticated(client: KazooClient) -> None:
    """
    Start a client and wait until it has been told that its credentials do not count; end it.

    It says that it is connected before it shows them, and that it is closed right after it was refused, so that neither
    the end of `start` nor the error of a request is certain.
    """
    states = Told()
    client.add_listener(lambda _: states(client.client_state))
    try:
        client.start_async()
        states.until(lambda values: KeeperState.AUTH_FAILED in values)
        assert not client.connected
    finally:
        close(client)


@contextlib.contextmanager
def connecting(server: ServerProcess, chroot: str) -> Iterator[Connect]:
    """Give a maker of started clients below a chroot; all are closed at the end."""
    clients: list[KazooClient] = []
    with client_of(server) as maker:
        maker.ensure_path(chroot)

    def make(chroot: str = chroot, **options: Any) -> KazooClient:
        client = KazooClient(hosts(server) + chroot, timeout=10.0, connection_retry=RETRY, **options)
        clients.append(client)
        client.start(WAIT)
        return client

    try:
        yield make
    finally:
        for client in clients:
            close(client)
