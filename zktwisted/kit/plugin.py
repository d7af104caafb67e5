"""
The pytest plugin: fixtures of a real ZooKeeper, for tests of any kind.

pytest imports this module in every run of every project where the package is installed.  It imports nothing of ours,
and nothing of Twisted's, before a fixture is used, and has no hooks but those for its one option.

Servers live as long as the run of pytest, or of one of its workers, and are given to each test clean; the one that is
shared is never cleaned, and no other fixture touches it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from zktwisted.kit.threaded import TestEnsemble, TestServer

#: What the servers with SASL let in.
SASL_USERS = {"alice": "alice-secret", "bob": "bob-secret"}

_HARNESS = "zk_kazoo_harness"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a project say that its tests are written for kazoo's own harness."""
    parser.addini(_HARNESS, "Let kazoo.testing.KazooTestHarness use servers of zktwisted's, without Java.", "bool")


def pytest_configure(config: pytest.Config) -> None:
    """Take the place of Java, if that is wanted; the environment says so as well."""
    if config.getini(_HARNESS) or os.environ.get("ZKTWISTED_KAZOO_HARNESS") == "1":
        from zktwisted.kit.kazoo import install

        install()


def _server(**options: Any) -> Iterator[TestServer]:
    from zktwisted.kit.threaded import TestServer

    with TestServer(**options) as server:
        yield server


@pytest.fixture(scope="session")
def _zk_server() -> Iterator[TestServer]:
    """Return the server of this run."""
    yield from _server()


@pytest.fixture
def zk_server(_zk_server: TestServer) -> TestServer:
    """Return a ZooKeeper server without a single node; its methods make things go wrong."""
    _zk_server.clean()
    return _zk_server


@pytest.fixture
def zk_hosts(zk_server: TestServer) -> str:
    """Return the connect string of C{zk_server}: C{"127.0.0.1:40001"}."""
    return zk_server.hosts


@pytest.fixture(scope="session")
def zk_shared_server() -> Iterator[TestServer]:
    """Return a server for the whole run, another than C{zk_server}; nobody cleans it."""
    yield from _server()


@pytest.fixture
def zk_chroot(zk_shared_server: TestServer) -> str:
    """Return a connect string with a root on C{zk_shared_server} that nobody else uses."""
    return zk_shared_server.chroot()


@pytest.fixture
def zk_client(zk_server: TestServer) -> Iterator[Any]:
    """Return a kazoo client that is connected with C{zk_server}."""
    yield from _kazoo(zk_server.hosts)


@pytest.fixture
def zk_make_client(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Return a maker of started kazoo clients, with C{KazooClient}'s arguments; C{hosts} is C{zk_hosts} by default."""
    made: list[Iterator[Any]] = []

    def make(hosts: str | None = None, **options: Any) -> Any:
        made.append(_kazoo(request.getfixturevalue("zk_hosts") if hosts is None else hosts, **options))
        return next(made[-1])

    yield make
    for client in reversed(made):
        next(client, None)


def _kazoo(hosts: str, **options: Any) -> Iterator[Any]:
    try:
        from kazoo.client import KazooClient
    except ImportError:
        pytest.fail(
            "zk_client is a kazoo client: pip install kazoo; or connect a client of another kind with zk_hosts",
            pytrace=False,
        )
    client = KazooClient(hosts, **options)
    client.start(timeout=30)
    try:
        yield client
    finally:
        client.stop()
        client.close()


@pytest.fixture
def zk_no_leaks(zk_server: TestServer) -> Iterator[None]:
    """Fail a test that leaves sessions, watches or ephemeral nodes on C{zk_server}."""
    with zk_server.no_leaks():
        yield


@pytest.fixture(scope="session")
def _zk_ensemble() -> Iterator[TestEnsemble]:
    """Return the ensemble of this run."""
    from zktwisted.kit.threaded import TestEnsemble

    with TestEnsemble() as ensemble:
        yield ensemble


@pytest.fixture
def zk_ensemble(_zk_ensemble: TestEnsemble) -> TestEnsemble:
    """Return three servers that form an ensemble, without a single node."""
    _zk_ensemble.clean()
    return _zk_ensemble


@pytest.fixture(scope="session")
def _zk_tls_server() -> Iterator[TestServer]:
    """Return the server with TLS of this run."""
    yield from _server(tls=True)


@pytest.fixture
def zk_tls_server(_zk_tls_server: TestServer) -> TestServer:
    """Return a server with a second port for TLS, C{tls_hosts}; C{tls} has the files that clients need."""
    _zk_tls_server.clean()
    return _zk_tls_server


@pytest.fixture(scope="session")
def _zk_sasl_server() -> Iterator[TestServer]:
    """Return the server with SASL of this run."""
    yield from _server(sasl=SASL_USERS)


@pytest.fixture
def zk_sasl_server(_zk_sasl_server: TestServer) -> TestServer:
    """Return a server that knows the users C{alice} and C{bob}; C{sasl} has their passwords."""
    _zk_sasl_server.clean()
    return _zk_sasl_server
