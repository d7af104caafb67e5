"""Servers of any kinds that authenticate to one another by Kerberos: each is a service on a host of the ensemble."""

from __future__ import annotations

import contextlib
import socket
from functools import partial
from pathlib import Path

import pytest

from tests.interop.conftest import MakeEnsemble
from tests.interop.ensembles import FOLLOWER, JAVA, JAVA_395, LEADER, OURS, until
from tests.interop.kdc import REALM, Kdc, jaas
from tests.interop.process import HOST, PATIENCE, four_letter_word
from tests.interop.test_quorum_sasl import REQUIRED, work_everywhere

SERVER = f"zkquorum/{HOST}@{REALM}"
MAGIC = bytes.fromhex("5f2435013501edcc")
SERVICE = {"quorum.auth.kerberos.servicePrincipal": "zkquorum/_HOST"}
MIXES = {
    "3.8.0": {1: OURS, 2: JAVA, 3: JAVA},
    "3.9.5": {1: JAVA_395, 2: JAVA_395, 3: OURS},
}


@pytest.fixture(scope="session")
def key(realm: Kdc) -> Path:
    """Return the keytab of all servers, which are on one host."""
    return realm.keytab(SERVER, name="quorum")


def properties(kdc: Kdc, key: Path, caller: Path | None = None, name: str = SERVER) -> dict[str, str]:
    """Return the properties that name a JAAS file for servers; *caller* and *name* are as whom they call others."""
    text = jaas("QuorumServer", key, SERVER) + jaas("QuorumLearner", caller or key, name)
    return {
        "java.security.auth.login.config": str(kdc.write("quorum.conf", text)),
        "java.security.krb5.conf": str(kdc.krb5_conf),
    }


@pytest.mark.parametrize("mix", MIXES)
def test_required(mix: str, make_ensemble: MakeEnsemble, kdc: Kdc, key: Path) -> None:
    """All authenticate, in both directions: they elect, agree, lose a leader, and take it back."""
    ensemble = make_ensemble(MIXES[mix], config={**REQUIRED, **SERVICE}, properties=properties(kdc, key))
    ensemble.start(1, 3)
    assert ensemble.leader() == 3
    ensemble.start(2)
    work_everywhere(ensemble, "three")
    ensemble.kill9(3)
    assert ensemble.leader() in (1, 2)
    ensemble.start(3)
    work_everywhere(ensemble, "again")
    ensemble.assert_equal(java_digests=False)


@pytest.mark.parametrize(
    ("stranger", "principal"), [(JAVA, f"zkquorum/elsewhere@{REALM}"), (OURS, f"zkquorum@{REALM}")]
)
def test_strangers(stranger: str, principal: str, make_ensemble: MakeEnsemble, kdc: Kdc, key: Path) -> None:
    """Who is a service on another host, or on none, is no server of this ensemble, whoever vouches for it."""
    right = properties(kdc, key)
    ensemble = make_ensemble({1: OURS, 2: OURS, 3: stranger}, config={**REQUIRED, **SERVICE}, properties=right)
    ensemble.start(1, 2)
    ensemble.properties = properties(kdc, key, kdc.keytab(principal), principal)
    ensemble.start(3, wait=False)
    refused = f"'{principal}' is no service on a host of this ensemble"
    until(lambda: refused in ensemble[1].running.output, lambda: "the stranger is refused")
    assert ensemble[3].mode() is None
    assert {ensemble[1].mode(), ensemble[2].mode()} == {LEADER, FOLLOWER}
    ensemble.kill9(3)
    ensemble.properties = right
    ensemble.start(3)
    ensemble.assert_equal(java_digests=False)


def test_no_tickets(make_ensemble: MakeEnsemble, kdc: Kdc, key: Path) -> None:
    """Who cannot show who it is says why, and keeps nobody else from working."""
    name = f"zkquorum/stale@{REALM}"
    stale = kdc.keytab(name)
    kdc.run("kadmin.local", "-q", f"cpw -randkey {name}")
    right = properties(kdc, key)
    ensemble = make_ensemble({1: OURS, 2: OURS, 3: OURS}, config={**REQUIRED, **SERVICE}, properties=right)
    ensemble.start(1, 2)
    ensemble.properties = properties(kdc, key, stale, name)
    ensemble.start(3, wait=False)
    why = f"cannot authenticate to {SERVER}: "
    until(lambda: why in ensemble[3].running.output, lambda: "it says why")
    assert ensemble[3].mode() is None
    assert {ensemble[1].mode(), ensemble[2].mode()} == {LEADER, FOLLOWER}
    ensemble.kill9(3)
    work_everywhere(ensemble, "two")


def answers(port: int) -> bool:
    """Say whether a server answers at all."""
    try:
        return four_letter_word(port, b"ruok") == b"imok"
    except OSError:
        return False


def test_silent_kdc(make_ensemble: MakeEnsemble, kdc: Kdc, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that waits for its ticket answers all the others meanwhile, and stops when it is told to."""
    with socket.create_server((HOST, 0)) as silent, contextlib.ExitStack() as held:
        port = silent.getsockname()[1]
        conf = kdc.krb5_conf.read_text("utf-8").replace(f":{kdc.port}", f":{port}")
        monkeypatch.setenv("KRB5_CONFIG", str(kdc.write("krb5.conf", conf)))
        ensemble = make_ensemble({1: OURS, 2: OURS}, config={**REQUIRED, **SERVICE}, properties=properties(kdc, key))
        ensemble.start(wait=False)
        for _ in ensemble.members:
            silent.settimeout(PATIENCE)
            held.enter_context(silent.accept()[0])
        for member in ensemble.members.values():
            until(partial(answers, member.port), lambda: "a server that waits answers others")
            # The library would give up by itself, but later than that.
            assert member.running.stop(15) == 0


def test_half_exchanges(make_ensemble: MakeEnsemble, kdc: Kdc, key: Path) -> None:
    """A hundred callers that stop in the middle do not keep servers from electing and following; none is replayed."""
    from zktwisted.config.kerberos import KerberosLogin
    from zktwisted.edge.kerberos import Initiator

    named = properties(kdc, key)
    ensemble = make_ensemble({1: OURS, 2: OURS, 3: JAVA}, config={**REQUIRED, **SERVICE}, properties=named)
    ensemble.start(1, 2)
    leader = ensemble[ensemble.leader()]
    initiator = Initiator(KerberosLogin(SERVER, True, str(key)))
    silent = []

    def begun(port: int, token: bytes, opening: bytes = b"") -> socket.socket:
        connection = socket.create_connection((HOST, port), 60)
        silent.append(connection)
        connection.sendall(opening + MAGIC + bytes(4) + len(token).to_bytes(4, "big") + token)
        return connection

    try:
        token = initiator.context(SERVER).step(b"")
        assert begun(leader.quorum_port, token).recv(12) == MAGIC + bytes(4)
        assert begun(leader.quorum_port, token).recv(12) == MAGIC + b"\xff" * 4
        introduction = b"\xff" * 6 + b"\0\1" + bytes(7) + b"\x09"
        for port, opening in ((leader.election_port, introduction), (leader.quorum_port, b"")):
            for _ in range(120):
                begun(port, initiator.context(SERVER).step(b""), opening)
        ensemble.start(3)
        work_everywhere(ensemble, "three")
    finally:
        for connection in silent:
            connection.close()
