"""Elections on real sockets: IPv4, IPv6 and names in one ensemble."""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from typing import Any, cast

import pytest
import pytest_twisted
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, DeferredList

from zktwisted import ServerConfig
from zktwisted.config import Ensemble
from zktwisted.edge.election import ElectionPortError, ElectionService
from zktwisted.edge.network import TcpNetwork
from zktwisted.wire.votes import ServerState, Vote

reactor = cast(Any, global_reactor)

HOSTS = {1: "127.0.0.1", 2: "[::1]", 3: "localhost"}
PATIENCE = 60.0


@pytest.fixture
def ports() -> Iterator[list[int]]:
    """Give ports that nobody else is given meanwhile."""
    with ExitStack() as held:
        found = []
        for _ in range(6):
            holder = held.enter_context(socket.socket())
            holder.bind(("127.0.0.1", 0))
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.append(holder.getsockname()[1])
        yield found


def has_ipv6() -> bool:
    """Say whether this machine has an IPv6 loopback address."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest_twisted.async_yield_fixture
async def services(ports: list[int]) -> AsyncIterator[dict[int, ElectionService]]:
    """Give three servers that listen; they are stopped with the test."""
    hosts = HOSTS if has_ipv6() else {**HOSTS, 2: "127.0.0.1"}
    ensemble = Ensemble.parse([f"server.{sid}={hosts[sid]}:{ports[sid - 1]}:{ports[sid + 2]}" for sid in hosts])
    found = {}
    for sid in hosts:
        config = ServerConfig(
            myid=sid, ensemble=ensemble, data_dir="unused", tick_time=2000, init_limit=10, sync_limit=5,
            tcp_keep_alive=True, election_port_bind_retry=1,
        )
        found[sid] = ElectionService(TcpNetwork(reactor), reactor, time.monotonic, sid, config)
        await found[sid].start()
    yield found
    for service in found.values():
        await service.stop()
    assert not [call for call in reactor.getDelayedCalls() if call.func is not None and "zktwisted" in repr(call.func)]


async def elected(services: dict[int, ElectionService], history: dict[int, int]) -> dict[int, Vote]:
    """Let some servers elect, and return how each sees it."""
    sids = sorted(history)
    looks = [services[sid].look(history[sid], 0).addTimeout(PATIENCE, reactor) for sid in sids]
    outcome: Any = await DeferredList(looks, fireOnOneErrback=True)
    return {sid: vote for sid, (_, vote) in zip(sids, outcome, strict=True)}


@pytest_twisted.ensureDeferred
async def test_three_servers(services: dict[int, ElectionService]) -> None:
    """They elect the one with the longest history, go on when it is gone, and take it back."""
    votes = await elected(services, {1: 0, 2: 7, 3: 0})
    assert set(votes.values()) == {Vote(2, 7, 1, 0)}
    states = {sid: service.state for sid, service in services.items()}
    assert states == {1: ServerState.FOLLOWING, 2: ServerState.LEADING, 3: ServerState.FOLLOWING}
    await services[2].stop()
    for sid in (1, 3):
        services[sid].set_state(ServerState.LOOKING)
    votes = await elected(services, {1: 0, 3: 0})
    assert set(votes.values()) == {Vote(3, 0, 2, 0)}
    await services[2].start()
    assert (await elected(services, {2: 9}))[2].leader == 3
    assert services[2].state == ServerState.FOLLOWING


@pytest_twisted.ensureDeferred
async def test_a_port_that_is_taken(services: dict[int, ElectionService]) -> None:
    """A second server on the same port has to end."""
    first = services[1]
    again = ElectionService(TcpNetwork(reactor), reactor, time.monotonic, 1, first._config)
    with pytest.raises(ElectionPortError):
        await Deferred.fromCoroutine(again.start())
    await again.stop()
