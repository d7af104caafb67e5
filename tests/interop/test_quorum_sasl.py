"""Servers of any kinds that authenticate to one another by SASL: who does not is left outside, if so configured."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.interop import trees
from tests.interop.conftest import MakeEnsemble
from tests.interop.ensembles import FOLLOWER, JAVA, JAVA_395, LEADER, OURS, Ensemble, administrating, until
from tests.interop.process import HOST
from tests.interop.test_tls_ensembles import Stores

MODULE = "org.apache.zookeeper.server.auth.DigestLoginModule"
REQUIRED = {
    "quorum.auth.enableSasl": "true",
    "quorum.auth.learnerRequireSasl": "true",
    "quorum.auth.serverRequireSasl": "true",
}
OFFERED = {"quorum.auth.enableSasl": "true"}
PASSWORD = "testsecret"
MIXES = {
    "3.8.0, ours follows": {1: OURS, 2: JAVA, 3: JAVA},
    "3.8.0, ours leads": {1: JAVA, 2: JAVA, 3: OURS},
    "3.9.5, ours follows": {1: OURS, 2: JAVA_395, 3: JAVA_395},
    "3.9.5, ours leads": {1: JAVA_395, 2: OURS, 3: OURS},
    "ours alone": {1: OURS, 2: OURS, 3: OURS},
}


def properties(directory: Path, password: str = PASSWORD) -> dict[str, str]:
    """Write a JAAS file for servers, and return the properties that name it."""
    path = directory / f"quorum-{password}.conf"
    path.write_text(
        f'QuorumServer {{ {MODULE} required user_test="{PASSWORD}"; }};\n'
        f'QuorumLearner {{ {MODULE} required username="test" password="{password}"; }};\n',
        "utf-8",
    )
    return {"java.security.auth.login.config": str(path), "zookeeper.fips-mode": "false"}


def work_everywhere(ensemble: Ensemble, name: str) -> None:
    """Change the tree in every way, through each server."""
    for member in ensemble.running():
        with administrating(member.running) as session:
            trees.work(session, member.port, f"{name}-at-{member.sid}")


@pytest.mark.parametrize("mix", MIXES)
def test_required(mix: str, make_ensemble: MakeEnsemble, tmp_path: Path) -> None:
    """All authenticate, in both directions: they elect, agree, lose a leader, and take it back."""
    ensemble = make_ensemble(MIXES[mix], config=REQUIRED, properties=properties(tmp_path))
    ensemble.start(1, 3)
    assert ensemble.leader() == 3
    ensemble.start(2)
    work_everywhere(ensemble, "three")
    ensemble.kill9(3)
    assert ensemble.leader() in (1, 2)
    work_everywhere(ensemble, "without")
    ensemble.start(3)
    work_everywhere(ensemble, "again")
    ensemble.assert_equal(java_digests=False)


@pytest.mark.parametrize("other", [JAVA, OURS])
def test_migration(other: str, make_ensemble: MakeEnsemble, tmp_path: Path) -> None:
    """Servers of an ensemble without SASL get it one by one, in three rounds, while the others serve."""
    named = properties(tmp_path)
    ensemble = make_ensemble({1: OURS, 2: other, 3: OURS}, properties=named)
    ensemble.start()
    for config in (OFFERED, {**OFFERED, "quorum.auth.learnerRequireSasl": "true"}, REQUIRED):
        ensemble.config = {**ensemble.config, **config}
        for sid in (1, 2, 3):
            ensemble.stop(sid)
            ensemble.wait()
            ensemble.start(sid)
        work_everywhere(ensemble, f"{len(config)}-{[*config.values()].count('true')}-{len(ensemble.config)}")
    ensemble.assert_equal(java_digests=False)


@pytest.mark.parametrize("stranger", [JAVA, OURS])
def test_wrong_password(stranger: str, make_ensemble: MakeEnsemble, tmp_path: Path) -> None:
    """Who does not know it stays outside, and the others go on; with the right one it comes in."""
    right = properties(tmp_path)
    ensemble = make_ensemble({1: OURS, 2: OURS, 3: stranger}, config=REQUIRED, properties=right)
    ensemble.start(1, 2)
    ensemble.properties = properties(tmp_path, "guessed")
    ensemble.start(3, wait=False)
    refused = "has not shown that it is that"
    until(lambda: refused in ensemble[1].running.output, lambda: "the stranger is refused")
    assert ensemble[3].mode() is None
    assert {ensemble[1].mode(), ensemble[2].mode()} == {LEADER, FOLLOWER}
    assert "guessed" not in ensemble[1].running.output + ensemble[2].running.output
    ensemble.kill9(3)
    ensemble.properties = right
    ensemble.start(3)
    ensemble.assert_equal(java_digests=False)


def test_plain_server(make_ensemble: MakeEnsemble, tmp_path: Path) -> None:
    """Who does not authenticate at all is left outside where it is required, and let in where it is not."""
    named = properties(tmp_path)
    ensemble = make_ensemble({1: OURS, 2: OURS, 3: JAVA}, config=REQUIRED, properties=named)
    ensemble.start(1, 2)
    required, ensemble.config = (
        ensemble.config,
        {key: ensemble.config[key] for key in ensemble.config.keys() - REQUIRED},
    )
    ensemble.start(3, wait=False)
    until(lambda: "it does not authenticate" in ensemble[1].running.output, lambda: "the plain server is refused")
    assert ensemble[3].mode() is None
    for sid in (1, 2):
        ensemble.stop(sid)
    ensemble.config = {**required, **dict.fromkeys(REQUIRED, "false"), **OFFERED}
    ensemble.start(1, 2)
    ensemble.assert_equal(java_digests=False)


@pytest.mark.parametrize("other", [JAVA_395, OURS])
def test_with_tls(other: str, make_ensemble: MakeEnsemble, tmp_path: Path) -> None:
    """Both at once: the exchange is what is said first inside of TLS."""
    tls = {"sslQuorum": "true", **Stores(tmp_path / "authority").settings()}
    ensemble = make_ensemble({1: OURS, 2: other, 3: OURS}, config={**REQUIRED, **tls}, properties=properties(tmp_path))
    ensemble.start()
    work_everywhere(ensemble, "three")
    ensemble.kill9(3)
    ensemble.wait()
    work_everywhere(ensemble, "two")
    ensemble.assert_equal()


def test_half_exchanges(make_ensemble: MakeEnsemble, tmp_path: Path) -> None:
    """A hundred callers that stop in the middle do not keep servers from electing and following."""
    ensemble = make_ensemble({1: OURS, 2: OURS, 3: JAVA}, config=REQUIRED, properties=properties(tmp_path))
    ensemble.start(1, 2)
    leader = ensemble[ensemble.leader()]
    silent = []
    try:
        for port, opening in (
            (leader.election_port, b"\xff" * 6 + b"\0\1" + bytes(7) + b"\x09"),
            (leader.quorum_port, b""),
        ):
            for _ in range(120):
                connection = socket.create_connection((HOST, port))
                silent.append(connection)
                connection.sendall(opening + bytes.fromhex("5f2435013501edcc"))
        ensemble.start(3)
        work_everywhere(ensemble, "three")
    finally:
        for connection in silent:
            connection.close()
