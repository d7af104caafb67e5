"""Clients that get TLS one by one while they work, on a server that takes both for a time, and then nothing else."""

from __future__ import annotations

import gc
import threading
from pathlib import Path

import pytest
from kazoo.client import KazooClient
from kazoo.retry import KazooRetry

from tests.authority import Authority
from tests.interop.clients import servers
from tests.interop.conftest import MakeServer
from tests.interop.ensembles import PATIENCE, until
from tests.interop.process import ServerProcess, free_port
from tests.interop.rawclient import Closed, RawSession


class Writer(threading.Thread):
    """A client that creates nodes for as long as it lives, and notes which were acknowledged."""

    def __init__(self, name: str, port: int, **options: object) -> None:
        super().__init__(name=name, daemon=True)
        retry = KazooRetry(max_tries=-1, delay=0.05, max_delay=0.2)
        self.client = KazooClient(
            f"localhost:{port}", timeout=30.0, connection_retry=retry, command_retry=retry.copy(), **options
        )
        self.acknowledged: list[str] = []
        self.failure: BaseException | None = None
        self._stopping = threading.Event()
        self.client.start(PATIENCE)
        self.session = self.client.client_id
        self.client.ensure_path(f"/{name}")
        self.start()

    def run(self) -> None:
        """Write until told to stop; a lost connection is no reason."""
        try:
            while not self._stopping.is_set():
                made = self.client.retry(self.client.create, f"/{self.name}/n-", b"", sequence=True)
                self.acknowledged.append(made.rpartition("/")[2])
        except BaseException as error:  # noqa: BLE001 told by `finish`, in the test's thread
            self.failure = error

    def finish(self) -> None:
        """Stop, look whether everything is there that was acknowledged, and end the session, the only one it had."""
        self._stopping.set()
        self.join(PATIENCE)
        assert not self.is_alive()
        assert self.failure is None, self.failure
        assert self.client.client_id == self.session
        lost = set(self.acknowledged) - set(self.client.get_children(f"/{self.name}"))
        assert not lost, f"acknowledged and lost: {sorted(lost)[:5]}"
        self.client.stop()
        self.client.close()


def progress(*writers: Writer, more: int = 30) -> None:
    """Return when each of them has written some more."""
    before = [len(writer.acknowledged) for writer in writers]
    until(
        lambda: all(
            len(writer.acknowledged) >= count + more or not writer.is_alive()
            for writer, count in zip(writers, before, strict=True)
        ),
        lambda: "all go on",
    )


def served_without_tls(port: int) -> bool:
    try:
        session = RawSession(port)
    except (Closed, ConnectionError):
        return False
    session.close()
    return True


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Return who signs for the server and its clients."""
    return Authority(tmp_path / "authority")


def restart(server: ServerProcess, **changes: str) -> None:
    """Stop a server and start it with other settings."""
    assert server.stop() == 0
    server.config.update({name.replace("__", "."): value for name, value in changes.items()})
    server.start()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_clients_from_plain_to_tls(authority: Authority, make_server: MakeServer) -> None:
    """Sessions outlive each step, nothing that was acknowledged is lost, and at the end TLS alone is served."""
    own, shown = authority.identity("server", ["localhost"]), authority.identity("client")
    options = {"use_ssl": True, "ca": str(authority.trust), "certfile": str(shown.store), "keyfile": str(shown.store)}
    server = make_server(servers.OURS)
    server.start()
    port = server.port
    plain = [Writer(f"plain-{number}", port) for number in range(2)]
    progress(*plain)
    stores = {"ssl__keyStore__location": str(own.store), "ssl__trustStore__location": str(authority.trust)}
    restart(server, client__portUnification="true", **stores)
    progress(*plain)
    secure = []
    for number, writer in enumerate(plain):
        secure.append(Writer(f"secure-{number}", port, **options))
        progress(*secure, *plain[number:])
        writer.finish()
    assert served_without_tls(port)
    server.port = free_port()  # for the four-letter words of this test
    restart(server, client__portUnification="false", secureClientPort=str(port))
    progress(*secure)
    assert not served_without_tls(port)
    for writer in secure:
        writer.finish()
    # kazoo forgets sockets whose server was away: they are collected while that is no error.
    del secure, plain, writer
    gc.collect()
