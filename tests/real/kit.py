"""What the tests of the testing kit share: kazoo's clients, which are not ours and see what anybody would see."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from queue import Queue
from typing import Any

from kazoo.client import KazooClient, KazooState

from zktwisted.testing import TestEnsemble, TestServer

PATIENCE = 60
#: Come back at once: what is waited for is the server.
SOON = {"max_tries": -1, "delay": 0.01, "backoff": 1, "max_jitter": 0.01}

MakeClient = Callable[..., KazooClient]


def new_client(hosts: str, **options: Any) -> KazooClient:
    """Make a client that is not started and comes back at once; its session lasts as long as servers let it."""
    return KazooClient(hosts, **{"timeout": 40.0, "connection_retry": SOON, "command_retry": SOON, **options})


def connecting(server: TestServer | TestEnsemble) -> Iterator[MakeClient]:
    """Give a maker of clients that are connected, and end them."""
    made = []

    def make(hosts: str | None = None, **options: object) -> KazooClient:
        client = new_client(hosts or server.hosts, **options)
        made.append(client)
        client.start(timeout=PATIENCE)
        return client

    yield make
    for client in made:
        client.stop()
        client.close()


class States:
    """The states that a client reports, in order."""

    def __init__(self, client: KazooClient) -> None:
        self._states: Queue[str] = Queue()
        client.add_listener(self._states.put)

    def wait(self, *states: str) -> None:
        """Wait for these, one after the other."""
        for state in states:
            seen = self._states.get(timeout=PATIENCE)
            assert seen == state, f"{seen}, where {state} was expected"


LOST, SUSPENDED, CONNECTED = KazooState.LOST, KazooState.SUSPENDED, KazooState.CONNECTED
