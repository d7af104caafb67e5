"""Fixtures that start the servers which the client tests talk to; a test that fails shows what its servers said."""

from __future__ import annotations

import resource
from collections.abc import Callable, Generator, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.interop.clients import servers
from tests.interop.ensembles import Ensemble
from tests.interop.kdc import Kdc
from tests.interop.process import STARTED, ServerProcess

#: Of how many servers a test that fails shows the log; the latest are the likeliest to tell.
SHOWN = 6

MakeServer = Callable[..., ServerProcess]
MakeEnsemble = Callable[..., Ensemble]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Forget the servers of tests before."""
    STARTED[:] = [server for server in STARTED if server.running()]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of each server's output under the report of a test that failed."""
    report = yield
    if report.failed:
        for server in STARTED[-SHOWN:]:
            where = "/".join(server.directory.parts[-3:])
            report.sections.append((f"{server.name}, {where}: what it said last", server.said()))
    return report


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[MakeServer]:
    """Return a maker of servers for one test, of the kind under test unless told; all are ended with the test."""
    made: list[ServerProcess] = []

    def make(kind: str | None = None, **options: Any) -> ServerProcess:
        directory = tmp_path / f"server-{len(made)}"
        made.append(servers.make_server(kind or servers.kind_under_test(), directory, **options))
        return made[-1]

    yield make
    for server in made:
        server.kill9()
        assert not servers.failures(server), "the server met something that it did not foresee"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Return a running server that the tests of one module share; each keeps to paths of its own."""
    running = servers.make_server(
        servers.kind_under_test(),
        tmp_path_factory.mktemp("server"),
        config={
            "tickTime": "500",
            "extendedTypesEnabled": "true",
            "enforceQuota": "true",
            # The password is "secret".
            "DigestAuthenticationProvider.superDigest": "super:lK75jTNcA+U9vtVEw5vB51mj/w4=",
        },
        properties={"znode.container.checkIntervalMs": "200", "znode.container.maxPerMinute": "1000000"},
    )
    running.start()
    yield running
    status = running.stop()
    if servers.kind_under_test() == servers.OURS:
        assert status == 0, running.output
        assert not servers.failures(running), "the server met something that it did not foresee"


@pytest.fixture
def make_ensemble(tmp_path: Path) -> Iterator[MakeEnsemble]:
    """Return a maker of ensembles for one test; all their servers are ended with it, and none may have stumbled."""
    made: list[Ensemble] = []

    def make(kinds: Mapping[int, str], **options: Any) -> Ensemble:
        for kind in {*kinds.values()} - {servers.OURS}:
            servers.need_java(kind)
        made.append(Ensemble(tmp_path / f"ensemble-{len(made)}", kinds, **options))
        return made[-1]

    yield make
    for ensemble in made:
        ensemble.close()
    assert not [line for ensemble in made for line in ensemble.failures()]


@pytest.fixture(scope="session")
def realm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kdc]:
    """Return a realm of Kerberos that all tests share; each makes principals of its own."""
    if find_spec("gssapi") is None:
        servers.missing("gssapi", "pip install gssapi")
    made = Kdc(tmp_path_factory.mktemp("realm"))
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture
def kdc(realm: Kdc) -> Iterator[Kdc]:
    """Return a realm of Kerberos that this process, and those that it starts, take for that of this machine."""
    with realm.here():
        yield realm


@pytest.fixture
def many_files() -> Iterator[None]:
    """Let this process and those that it starts have more files open than 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4096 if hard == resource.RLIM_INFINITY else min(4096, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
