"""
The pytest plugin: fixtures of a real ZooKeeper, for tests of any kind.

pytest imports this module in every run of every project where the package is installed.  It imports nothing of ours,
and nothing of Twisted's, before a fixture is used, and has no hooks but those for its one option.

A fixture C{zk_..._session} lives as long as the run of pytest, or of one of its workers; the one without C{_session}
gives the same server to each test, clean.
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
def zk_server_session() -> Iterator[TestServer]:
    """Return the server of this run; nobody cleans it."""
    yield from _server()


@pytest.fixture
def zk_server(zk_server_session: TestServer) -> TestServer:
    """Return a ZooKeeper server without a single node; its methods make things go wrong."""
    zk_server_session.clean()
    return zk_server_session


@pytest.fixture
def zk_hosts(zk_server: TestServer) -> str:
    """Return the connect string of C{zk_server}: C{"127.0.0.1:40001"}."""
    return zk_server.hosts


@pytest.fixture
def zk_chroot(zk_server_session: TestServer) -> str:
    """Return a connect string with a root that nobody else uses; the server is not cleaned."""
    return zk_server_session.chroot()


@pytest.fixture
def zk_client(zk_server: TestServer) -> Iterator[Any]:
    """Return a kazoo client that is connected with C{zk_server}."""
    yield from _kazoo(zk_server.hosts)


@pytest.fixture
def zk_make_client(zk_server: TestServer) -> Iterator[Callable[..., Any]]:
    """Return a maker of kazoo clients of C{zk_server}; it takes C{KazooClient}'s arguments, and starts them."""
    made: list[Iterator[Any]] = []

    def make(**options: Any) -> Any:
        made.append(_kazoo(options.pop("hosts", zk_server.hosts), **options))
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
def zk_ensemble_session() -> Iterator[TestEnsemble]:
    """Return the ensemble of this run; nobody cleans it."""
    from zktwisted.kit.threaded import TestEnsemble

    with TestEnsemble() as ensemble:
        yield ensemble


@pytest.fixture
def zk_ensemble(zk_ensemble_session: TestEnsemble) -> TestEnsemble:
    """Return three servers that form an ensemble, without a single node."""
    zk_ensemble_session.clean()
    return zk_ensemble_session


@pytest.fixture(scope="session")
def zk_tls_server_session() -> Iterator[TestServer]:
    """Return the server with TLS of this run; nobody cleans it."""
    yield from _server(tls=True)


@pytest.fixture
def zk_tls_server(zk_tls_server_session: TestServer) -> TestServer:
    """Return a server with a second port for TLS, C{tls_hosts}; C{tls} has the files that clients need."""
    zk_tls_server_session.clean()
    return zk_tls_server_session


@pytest.fixture(scope="session")
def zk_sasl_server_session() -> Iterator[TestServer]:
    """Return the server with SASL of this run; nobody cleans it."""
    yield from _server(sasl=SASL_USERS)


@pytest.fixture
def zk_sasl_server(zk_sasl_server_session: TestServer) -> TestServer:
    """Return a server that knows the users C{alice} and C{bob}; C{sasl} has their passwords."""
    zk_sasl_server_session.clean()
    return zk_sasl_server_session
