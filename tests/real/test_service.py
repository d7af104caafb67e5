"""The service on a real reactor: sockets, files, threads."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from pathlib import Path
from struct import pack
from typing import Any, cast

import pytest
import pytest_twisted
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, UNIXServerEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure

from zktwisted import ServerConfig, ZooKeeperService
from zktwisted.wire import jute, ops, proto

reactor = cast(Any, global_reactor)

CONNECT = pack(">iiqiqi", 45, 0, 0, 4000, 0, 16) + bytes(17)


class Collector(Protocol):
    """Collects what the server sends."""

    def __init__(self) -> None:
        self.data = b""
        self.closed: Deferred[bytes] = Deferred()
        self._waiting: list[tuple[int, Deferred[bytes]]] = []

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        while self._waiting and len(self.data) >= self._waiting[0][0]:
            self._waiting.pop(0)[1].callback(self.data)

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.closed.callback(self.data)

    def send(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)

    async def take(self, count: int) -> bytes:
        """Wait until so many bytes have come, and take them."""
        waiting: Deferred[bytes] = Deferred()
        if len(self.data) >= count:
            waiting.callback(self.data)
        else:
            self._waiting.append((count, waiting))
        await waiting
        taken, self.data = self.data[:count], self.data[count:]
        return taken

    async def frame(self) -> bytes:
        """Wait for one frame."""
        return await self.take(int.from_bytes(await self.take(4), "big"))


async def connected(service: ZooKeeperService) -> Collector:
    address = cast(Any, service.addresses[0])
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", address.port)
    return cast(Collector, await connectProtocol(endpoint, Collector()))


async def session(service: ZooKeeperService) -> Collector:
    client = await connected(service)
    client.send(CONNECT)
    await client.frame()
    return client


async def request(client: Collector, op: int, record: object) -> int:
    """Send a request and return the error code of its answer."""
    body = pack(">ii", 1, op) + jute.encode(record)
    client.send(pack(">i", len(body)) + body)
    return int.from_bytes((await client.frame())[12:16], "big", signed=True)


def create(path: bytes, data: bytes = b"") -> proto.CreateRequest:
    return proto.CreateRequest(path, data, list(proto.OPEN_ACL), 0)


class Start:
    """Starts services, and stops them with the test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.services: list[ZooKeeperService] = []

    async def __call__(self, store: Any = "disk", **settings: Any) -> ZooKeeperService:
        config = ServerConfig(
            data_dir=str(self.directory), client_port=0, client_port_address="127.0.0.1", **settings
        )
        service = ZooKeeperService(reactor, config, store=store)
        self.services.append(service)
        service.startService()
        await service.when_serving()
        return service


@pytest_twisted.async_yield_fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Return what starts a service on the data of this test."""
    starter = Start(tmp_path)
    yield starter
    for service in starter.services:
        await service.stopService()


@pytest_twisted.ensureDeferred
async def test_again(start: Start) -> None:
    """What was acknowledged is there after a stop and a start, on another port, and no thread is left over."""
    before = set(threading.enumerate())
    service = await start()
    client = await session(service)
    assert await request(client, ops.CREATE, create(b"/a")) == 0
    await service.stopService()
    await client.closed
    assert set(threading.enumerate()) <= before
    service.startService()
    assert await service.when_serving() == "standalone"
    client = await session(service)
    assert await request(client, ops.CREATE, create(b"/a")) == -110
    await service.stopService()
    assert service.addresses == []


@pytest_twisted.ensureDeferred
async def test_two(start: Start) -> None:
    """Two in one process are two servers."""
    one, two = await start(), await start("memory")
    assert one.addresses != two.addresses
    for service in (one, two):
        client = await session(service)
        assert await request(client, ops.CREATE, create(b"/a")) == 0


@pytest_twisted.ensureDeferred
async def test_answers_before_the_stop(start: Start) -> None:
    """What was taken in before the stop is answered in whole frames, then the connection is closed."""
    service = await start()
    client = await session(service)
    body = pack(">ii", 1, ops.DELETE) + jute.encode(proto.DeleteRequest(b"/none", -1))
    client.send(b"".join([pack(">i", len(body)) + body] * 100))
    assert (await client.frame())[12:16] == pack(">i", -101)
    await service.stopService()
    assert len(await client.closed) % 20 == 0


@pytest_twisted.ensureDeferred
async def test_who_does_not_read(start: Start) -> None:
    """A client that does not take its answers does not keep the server from stopping."""
    service = await start("memory")
    client = await session(service)
    assert await request(client, ops.CREATE, create(b"/a", b"x" * 500_000)) == 0
    transport = cast(Any, client.transport)
    transport.pauseProducing()
    body = pack(">ii", 1, ops.GET_DATA) + jute.encode(proto.PathWatchRequest(b"/a", False))
    client.send(b"".join([pack(">i", len(body)) + body] * 100))
    other = await session(service)
    assert await request(other, ops.CREATE, create(b"/b")) == 0
    await service.stopService()
    transport.resumeProducing()
    await client.closed


@pytest_twisted.ensureDeferred
async def test_unix(tmp_path: Path) -> None:
    """Any endpoint will do."""
    path = tmp_path / "s"
    service = ZooKeeperService(reactor, ServerConfig(), [UNIXServerEndpoint(reactor, str(path))], store="memory")
    service.startService()
    await service.when_serving()
    assert cast(Any, service.addresses[0]).name == str(path).encode()
    await service.stopService()
    assert not path.exists()


@pytest_twisted.ensureDeferred
async def test_stop_while_restoring(start: Start) -> None:
    """A stop that comes while the data are read waits for the thread that reads them."""
    service = await start()
    await service.stopService()
    before = set(threading.enumerate())
    service.startService()
    waiting = service.when_serving()
    await service.stopService()
    assert set(threading.enumerate()) <= before
    with pytest.raises(CancelledError):
        await waiting
