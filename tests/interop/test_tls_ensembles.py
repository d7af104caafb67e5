"""
Servers that use TLS among each other, ours beside Java's: every mix of kinds, the way from plain connections to TLS
under load, and those who should not get in.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.authority import PASSWORD, Authority, Identity
from tests.interop.clients import servers
from tests.interop.conftest import MakeEnsemble
from tests.interop.ensembles import JAVA, JAVA_395, OURS, until
from tests.interop.load import under_load
from tests.interop.process import HOST

SECONDS = 60.0


class Stores:
    """What all servers of an ensemble are given: they are on one host, so one certificate is good for all."""

    def __init__(self, directory: Path) -> None:
        self.authority = Authority(directory)
        self.server = self.authority.identity("server", ["localhost", HOST])

    def settings(self, identity: Identity | None = None, **more: str) -> dict[str, str]:
        """Settings of the family ``ssl.quorum``, in a form that Java of any release reads."""
        return {
            "ssl.quorum.keyStore.location": str((identity or self.server).p12),
            "ssl.quorum.keyStore.password": PASSWORD,
            "ssl.quorum.trustStore.location": str(self.authority.trust_p12),
            "ssl.quorum.trustStore.password": PASSWORD,
            **more,
        }

    def context(self, identity: Identity | None = None) -> ssl.SSLContext:
        """What a caller in Python needs."""
        context = ssl.create_default_context(cafile=str(self.authority.trust))
        if identity is not None:
            context.load_cert_chain(str(identity.store))
        return context


@pytest.fixture
def stores(tmp_path: Path) -> Stores:
    """Return the certificates of one ensemble."""
    return Stores(tmp_path / "authority")


def encrypted(port: int, context: ssl.SSLContext) -> bool:
    """Say whether a port shakes hands."""
    try:
        raw = socket.create_connection((HOST, port), SECONDS)
        with closing(context.wrap_socket(raw, server_hostname=HOST)) as link:
            return link.version() is not None
    except OSError:
        return False


def silent(port: int, say: bytes) -> bool:
    """Say whether a port closes on somebody who says something without TLS."""
    with socket.create_connection((HOST, port), SECONDS) as link:
        link.sendall(say)
        try:
            return all(chunk[:1] == b"\x15" for chunk in iter(lambda: link.recv(4096), b""))
        except ConnectionError:
            return True


MIXES = [
    {1: OURS, 2: OURS, 3: OURS},
    {1: JAVA_395, 2: OURS, 3: JAVA_395},
    {1: OURS, 2: JAVA_395, 3: OURS},
    {1: JAVA, 2: OURS, 3: OURS},
    {1: OURS, 2: JAVA, 3: JAVA},
]


@pytest.mark.parametrize("kinds", MIXES, ids=lambda kinds: "+".join(kinds.values()))
def test_mixed(kinds: dict[int, str], stores: Stores, make_ensemble: MakeEnsemble) -> None:
    """Servers of all kinds elect, replicate and catch up over TLS, whoever leads, and nothing else is accepted."""
    ensemble = make_ensemble(kinds, config={"sslQuorum": "true", **stores.settings()})
    ensemble.start()
    with under_load(ensemble, 2) as load:
        for _ in range(2):
            leader = ensemble.leader()
            ensemble.stop(leader)
            ensemble.wait()
            load.progress()
            ensemble.start(leader)
        load.progress()
    for member in ensemble.running():
        if member.kind == OURS:
            assert encrypted(member.election_port, stores.context(stores.server))
            assert silent(member.election_port, b"\xff\xff\xff\xff\xff\xff\xff\xfe" + bytes(20))


@pytest.mark.parametrize("kinds", [MIXES[1], MIXES[3]], ids=lambda kinds: "+".join(kinds.values()))
def test_from_plain_to_tls(kinds: dict[int, str], stores: Stores, make_ensemble: MakeEnsemble) -> None:
    """A running ensemble gets TLS in three rounds of restarts, under load, and loses nothing."""
    ensemble = make_ensemble(kinds)
    ensemble.start()
    rounds = (
        {"portUnification": "true", **stores.settings()},
        {"portUnification": "true", "sslQuorum": "true", **stores.settings()},
        {"sslQuorum": "true", **stores.settings()},
    )
    with under_load(ensemble, 2) as load:
        for settings in rounds:
            for key in ("portUnification", "sslQuorum"):
                ensemble.config.pop(key, None)
            ensemble.config.update(settings)
            leader = ensemble.leader()
            for sid in [sid for sid in kinds if sid != leader] + [leader]:
                ensemble.stop(sid)
                ensemble.start(sid)
            load.progress()


@pytest.mark.parametrize("java", [JAVA_395])
def test_to_ours_over_tls(java: str, stores: Stores, make_ensemble: MakeEnsemble) -> None:
    """A secured Java ensemble becomes ours, one server at a time."""
    ensemble = make_ensemble(dict.fromkeys((1, 2, 3), java), config={"sslQuorum": "true", **stores.settings()})
    ensemble.start()
    with under_load(ensemble, 2) as load:
        for sid in (1, 2, 3):
            ensemble.become(sid, OURS)
            load.progress()


Bad = Callable[[Stores, Path], Identity]
STRANGERS: dict[str, Bad] = {
    "authority": lambda stores, path: Authority(path / "other", "Other").identity("server", [HOST]),
    "expired": lambda stores, path: stores.authority.identity("expired", [HOST], days=-1),
    "name": lambda stores, path: stores.authority.identity("elsewhere", ["elsewhere.example"]),
}


@pytest.mark.parametrize(("kind", "server"), [*((kind, OURS) for kind in STRANGERS), ("name", JAVA)])
def test_a_server_with_a_wrong_certificate(
    kind: str, server: str, stores: Stores, make_ensemble: MakeEnsemble, tmp_path: Path
) -> None:
    """It finds nobody who talks to it, nobody's work is hurt, and with the right certificate it comes in."""
    ensemble = make_ensemble({1: OURS, 2: OURS, 3: server}, config={"sslQuorum": "true", **stores.settings()})
    ensemble.start(1, 2)
    wrong = STRANGERS[kind](stores, tmp_path)
    for member in ensemble.running():
        # A certificate that is good for TLS and names nobody is refused behind the handshake.
        raw = socket.create_connection((HOST, member.election_port), SECONDS)
        context = stores.context(wrong)
        with suppress(OSError), closing(raw), closing(context.wrap_socket(raw, server_hostname=HOST)) as link:
            link.sendall(bytes(8))
            assert not link.recv(100)
    others = [ensemble[sid].running for sid in (1, 2)]
    said = "names no server of the ensemble" if kind == "name" else "The handshake with {peer} failed"
    until(lambda: all(said in other.output for other in others), lambda: "the caller above is refused")
    before = [other.output.count(said) for other in others]
    right = dict(ensemble.config)
    ensemble.config.update(stores.settings(wrong))
    ensemble.start(3, wait=False)
    # It looks for a leader, and calls the others.
    until(
        lambda: all(other.output.count(said) > once for other, once in zip(others, before, strict=True)),
        lambda: "the others refuse it",
    )
    assert ensemble[3].mode() is None
    ensemble.stop(3)
    ensemble.config.update(right)
    ensemble.start(3)
    assert ensemble[3].mode() is not None


def serial(port: int, context: ssl.SSLContext) -> int:
    """Return the number of the certificate that a port shows."""
    raw = socket.create_connection((HOST, port), SECONDS)
    with closing(context.wrap_socket(raw, server_hostname=HOST)) as link:
        certificate = link.getpeercert()
        assert certificate is not None
        return int(str(certificate["serialNumber"]), 16)


def test_new_certificates(stores: Stores, make_ensemble: MakeEnsemble) -> None:
    """With sslQuorumReloadCertFiles new files count for new connections between servers, while all of them run."""
    config = {"sslQuorum": "true", "sslQuorumReloadCertFiles": "true", **stores.settings()}
    ensemble = make_ensemble({1: OURS, 2: OURS, 3: OURS}, config=config)
    ensemble.start()
    context = stores.context(stores.server)
    second = stores.authority.identity("second", ["localhost", HOST])
    second.p12.replace(stores.server.p12)
    for member in ensemble.running():
        until(
            lambda port=member.election_port: serial(port, context) == second.certificate.serial_number,
            lambda: "the new certificate is shown",
        )
    follower = ensemble.follower()
    ensemble.stop(follower)
    ensemble.start(follower)
    ensemble.assert_equal()


@pytest.mark.usefixtures("many_files")
def test_a_thousand_half_handshakes(stores: Stores, make_ensemble: MakeEnsemble) -> None:
    """Who holds handshakes open on the ports of servers is cut off, and servers come and go meanwhile."""
    limit = {"ssl.quorum.handshakeDetectionTimeoutMillis": "2000"}
    ensemble = make_ensemble({1: OURS, 2: OURS, 3: OURS}, config={"sslQuorum": "true", **stores.settings(**limit)})
    ensemble.start()
    follower = ensemble.follower()
    ports = [member.election_port for member in ensemble.running()] + [ensemble[ensemble.leader()].quorum_port]
    held = []
    for port in ports * 250:
        held.append(socket.create_connection((HOST, port), SECONDS))
        held[-1].sendall(b"\x16\x03\x01\x02\x00\x01")
    ensemble.stop(follower)
    ensemble.start(follower)
    for link in held:
        with closing(link), suppress(ConnectionError):
            while chunk := link.recv(4096):
                assert chunk[:1] == b"\x15"
    leader = ensemble[ensemble.leader()].running
    assert int(servers.monitor(leader)["unsuccessful_handshake"]) >= 500  # on either port
