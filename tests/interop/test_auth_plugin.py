"""The example of a plugin with a scheme of its own: installed, named in a configuration, and asked by clients."""

from __future__ import annotations

import runpy
import shutil
import struct
from pathlib import Path

import pytest

from tests.interop.clients import servers
from tests.interop.conftest import MakeServer
from tests.interop.process import ServerFailure
from tests.interop.rawclient import Closed, RawSession, acl, buffer

EXAMPLE = Path(__file__).parent.parent.parent / "docs" / "examples" / "token_auth.py"
SECRET = b"do not tell"
AUTH, CREATE, GET_ACL, GET_DATA, WHO_AM_I = 100, 1, 6, 4, 107


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install the plugin, with a secret."""
    plugins = tmp_path / "installed" / "twisted" / "plugins"
    plugins.mkdir(parents=True)
    shutil.copy(EXAMPLE, plugins)
    (tmp_path / "secret").write_bytes(SECRET)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "installed"))
    monkeypatch.setenv("TOKEN_SECRET_FILE", str(tmp_path / "secret"))


def authenticate(session: RawSession, token: bytes) -> int:
    """Send an auth packet, and return the error of its answer."""
    return session.call(AUTH, struct.pack(">i", 0) + buffer(b"token") + buffer(token))[1]


@pytest.mark.usefixtures("installed")
def test_token(make_server: MakeServer) -> None:
    """Who has a signed name is that, for ACLs too; who has not is disconnected."""
    server = make_server(servers.OURS, config={"authProvider.1": "plugin:token"})
    server.start()
    token = runpy.run_path(str(EXAMPLE))["sign"](SECRET, "ann")
    session, stranger = RawSession(server.port), RawSession(server.port)
    try:
        assert authenticate(session, token) == 0
        assert buffer(b"token") + buffer(b"ann") in session.call(WHO_AM_I)[2]
        node = buffer(b"/hers") + buffer(b"x") + acl([(31, "auth", "")]) + struct.pack(">i", 0)
        assert session.call(CREATE, node)[1] == 0
        assert session.call(GET_DATA, buffer(b"/hers") + b"\0")[1] == 0
        assert acl([(31, "token", "ann")]) in session.call(GET_ACL, buffer(b"/hers"))[2]
        assert stranger.call(GET_DATA, buffer(b"/hers") + b"\0")[1] == -102
        assert authenticate(stranger, token[:-1] + b"?") == -115
        with pytest.raises(Closed):
            stranger.call(GET_DATA, buffer(b"/") + b"\0")
    finally:
        session.connection.close()
        stranger.connection.close()
    assert SECRET.decode() not in server.output


def test_not_installed(make_server: MakeServer) -> None:
    """A plugin that is named and not there is told at the start."""
    server = make_server(servers.OURS, config={"authProvider.1": "plugin:token"})
    with pytest.raises(ServerFailure, match="the scheme token is offered by no plugin here"):
        server.start()
