"""Endpoints with TLS on the command line: our prefix C{tls:}, and Twisted's own C{ssl:}."""

from __future__ import annotations

import socket
import ssl
from contextlib import closing
from pathlib import Path

import pytest

from tests.authority import Authority
from tests.real.test_twist import PATIENCE, Launcher, ask, ends, tcp, twist  # noqa: F401 (twist is a fixture)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Return who signs."""
    return Authority(tmp_path / "authority")


def trusting(authority: Authority) -> ssl.SSLContext:
    """What a client needs that shows its certificate."""
    context = ssl.create_default_context(cafile=str(authority.trust))
    context.load_cert_chain(str(authority.identity("client").store))
    return context


def test_tls(twist: Launcher, authority: Authority) -> None:  # noqa: F811
    """C{tls:} before an endpoint, of TCP or of a file, serves with the settings of TLS."""
    server = authority.identity("server", ["localhost"])
    path = twist.directory / "socket"
    settings = [f"-Dssl.keyStore.location={server.store}", f"-Dssl.trustStore.location={authority.trust}"]
    endpoints = ["-e", "tls:tcp:0:interface=127.0.0.1", "-e", f"tls:unix:{path}"]
    process = twist(*settings, *endpoints)
    port = int(process.serving()[1].split(" and ")[0].rpartition(":")[2])
    local = socket.socket(socket.AF_UNIX)
    local.settimeout(PATIENCE)
    local.connect(str(path))
    for raw in (tcp(port), local):
        with closing(trusting(authority).wrap_socket(raw, server_hostname="localhost")) as link:
            assert b"Mode: standalone" in ask(link, b"srvr")
    assert process.stop() == 0


def test_twisteds_own(twist: Launcher, authority: Authority) -> None:  # noqa: F811
    """C{ssl:} is Twisted's: TLS without certificates of clients."""
    server = authority.identity("server", ["localhost"])
    process = twist("-e", f"ssl:0:interface=127.0.0.1:privateKey={server.store}:certKey={server.store}")
    with closing(trusting(authority).wrap_socket(tcp(process.port()), server_hostname="localhost")) as link:
        assert b"Mode: standalone" in ask(link, b"srvr")
    assert process.stop() == 0


def test_no_key_store(twist: Launcher) -> None:  # noqa: F811
    """Without a key store the process ends with the key that is missing."""
    ends(twist("-e", "tls:tcp:0:interface=127.0.0.1"), 2, "ssl.keyStore.location")


def test_profile(twist: Launcher, authority: Authority) -> None:  # noqa: F811
    """With the profile secure a process ends rather than listen for everybody, and says what to set."""
    ends(twist("--profile", "secure", "-e", "tcp:0"), 2, "put tls: before it")
    config = twist.directory / "zoo.cfg"
    config.write_text(f"dataDir={twist.directory / 'data'}\nclientPort=0\nprofile=secure\n", "utf-8")
    ends(twist("-c", str(config)), 2, "write clientPortAddress=127.0.0.1, or secureClientPort")
    server = authority.identity("server", ["localhost"])
    store = f"-Dssl.keyStore.location={server.store}"
    ends(twist("--profile", "secure", store, "-e", "tls:tcp:0"), 2, "ssl.trustStore.location")
    process = twist("--profile", "secure", store, f"-Dssl.trustStore.location={authority.trust}", "-e", "tls:tcp:0")
    with closing(trusting(authority).wrap_socket(tcp(process.port()), server_hostname="localhost")) as link:
        assert b"Mode: standalone" in ask(link, b"srvr")
    assert process.stop() == 0
    local = twist("--profile", "secure", "-e", "tcp:0:interface=127.0.0.1")
    with closing(tcp(local.port())) as link:
        assert b"Mode: standalone" in ask(link, b"srvr")
    assert local.stop() == 0
