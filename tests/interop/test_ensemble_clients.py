"""Other people's clients on an ensemble of mixed servers: kazoo moves when its server dies, and zkCli sees one tree."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from kazoo.client import KazooClient

from tests.interop.clients.kazoos import RETRY, WAIT, Told
from tests.interop.conftest import MakeEnsemble
from tests.interop.ensembles import JAVA, OURS, Ensemble
from tests.interop.test_zkcli import RELEASES, run, spoken

MIXES = {
    "ours leads": {1: JAVA, 2: OURS, 3: OURS},
    "Java leads": {1: OURS, 2: OURS, 3: JAVA},
}


@contextlib.contextmanager
def client(hosts: str) -> Iterator[KazooClient]:
    """Give a started client of some servers, in this order."""
    made = KazooClient(hosts, timeout=40.0, connection_retry=RETRY, command_retry=RETRY, randomize_hosts=False)
    made.start(WAIT)
    try:
        yield made
    finally:
        made.stop()
        made.close()


def start(ensemble: Ensemble) -> None:
    """Start with server 3 as the leader."""
    ensemble.start(2, 3)
    ensemble.start(1)
    assert ensemble.leader() == 3


@pytest.mark.parametrize("mix", MIXES)
def test_kazoo(mix: str, make_ensemble: MakeEnsemble) -> None:
    """A lock stays with its owner while the owner's servers die one after the other; who waits is told elsewhere."""
    ensemble = make_ensemble(MIXES[mix])
    start(ensemble)
    with client(ensemble.hosts(3, 1, 2)) as owner, client(ensemble.hosts(2, 1, 3)) as other:
        session = owner.client_id
        lock = owner.Lock("/lock", "owner")
        assert lock.acquire(timeout=WAIT)
        told = Told()
        other.DataWatch("/counter", lambda data, stat: told(data))
        for round_number, sid in enumerate((3, 1, 2)):
            ensemble.kill9(sid)
            value = b"%d" % round_number
            if round_number == 0:
                owner.retry(owner.ensure_path, "/counter")
            owner.retry(owner.set, "/counter", value)
            told.until(lambda values, value=value: value in values)
            assert owner.retry(other.Lock("/lock").contenders) == ["owner"]
            ensemble.start(sid)
        assert owner.client_id == session
        owner.retry(lock.release)
        mine = other.Lock("/lock", "other")
        assert other.retry(mine.acquire, timeout=WAIT)
    ensemble.assert_equal()


@pytest.mark.parametrize("release", RELEASES)
def test_zkcli(release: str, make_ensemble: MakeEnsemble) -> None:
    """What Java's command line client writes at one server, it reads at the others."""
    ensemble = make_ensemble({1: OURS, 2: JAVA, 3: OURS})
    start(ensemble)
    writer, reader = ensemble[1].running, ensemble[3].running
    written = run(release, writer, script="create /cli first\ncreate -s /cli/n- a\nset /cli second\nsync /cli\nquit\n")
    assert written.returncode == 0, written.stdout
    read = run(release, reader, script="sync /cli\nget /cli\nls /cli\nquit\n")
    assert read.returncode == 0, read.stdout
    assert {"second", "[n-0000000000]"} <= {*spoken(read.stdout)}
    assert {"/cli", "/cli/n-0000000000"} <= ensemble.assert_equal().keys()
