"""The recipes of our client, story by story, with Java's server and with ours; and beside kazoo on one lock."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from kazoo.client import KazooClient
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from tests.client.stories import STORIES, line_of
from tests.interop.clients import servers
from tests.interop.clients.kazoos import client_of
from tests.interop.clients.ours import Zoo
from tests.interop.clients.proxy import Relay
from tests.interop.process import HOST, ServerProcess
from zktwisted.client import ZooKeeperClient
from zktwisted.client.recipes import Lock


@pytest.fixture(scope="module", params=[servers.OURS, servers.JAVA_380])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Return a running server of each kind."""
    running = servers.make_server(request.param, tmp_path_factory.mktemp("server"), config={"tickTime": "500"})
    running.start()
    yield running
    running.stop()
    if request.param == servers.OURS:
        assert not servers.failures(running)


class Stage:
    """Clients behind relays of their own, below a chroot."""

    def __init__(self, zoo: Zoo, server: ServerProcess, chroot: str) -> None:
        self._zoo = zoo
        self._server = server
        self._chroot = chroot
        self.relays: dict[ZooKeeperClient | None, Relay] = {}

    async def client(self, **options: Any) -> ZooKeeperClient:
        self.relays[None] = relay = Relay(self._server.port)
        client = self._zoo.client(f"{HOST}:{relay.port}{self._chroot}", **{"session_timeout": 10.0, **options})
        self.relays[client] = self.relays.pop(None)
        await client.connect()
        return client

    def cut(self, client: ZooKeeperClient) -> None:
        self.relays[client].cut()

    def heal(self, client: ZooKeeperClient) -> None:
        self.relays[client].heal()

    async def end_session(self, client: ZooKeeperClient) -> None:
        # Whoever has id and password may end it; to wait until it expires takes long, and test_client does it.
        heir = await self.client(session=client.session)
        await heir.close()

    def pause(self, seconds: float) -> Deferred[None]:
        return deferLater(self._zoo.reactor, seconds)


@pytest.mark.parametrize("name", STORIES)
def test_story(name: str, server: ServerProcess) -> None:
    """What the recipe promises, through lost connections and expired sessions."""
    stages: list[Stage] = []

    async def program(zoo: Zoo) -> None:
        maker = await zoo.connected(chroot=f"/{name}")
        await maker.ensure_path("/")
        stages.append(Stage(zoo, server, f"/{name}"))
        await STORIES[name](stages[0])

    try:
        Zoo(f"{HOST}:{server.port}").run(program)
    finally:
        for relay in stages[0].relays.values():
            relay.close()


def test_with_kazoo(server: ServerProcess) -> None:
    """One lock, and both kinds of clients in one line for it."""
    threads = ThreadPool(1, 1)
    threads.start()

    async def program(zoo: Zoo, kazoo: KazooClient) -> None:
        theirs = kazoo.Lock("/shared", "kazoo")
        first = Lock(await zoo.connected(), "/shared", b"first")
        last = Lock(await zoo.connected(), "/shared", b"last")
        stage = Stage(zoo, server, "")
        await first.acquire()
        theirs_now = deferToThreadPool(zoo.reactor, threads, theirs.acquire)
        await line_of(first, [b"first", b"kazoo"], stage)
        waiting = last.acquire()
        await line_of(first, [b"first", b"kazoo", b"last"], stage)
        await first.release()
        assert await theirs_now
        assert not waiting.called
        await deferToThreadPool(zoo.reactor, threads, theirs.release)
        await waiting
        await last.release()

    try:
        with client_of(server) as kazoo:
            Zoo(f"{HOST}:{server.port}").run(program, kazoo)
    finally:
        threads.stop()
