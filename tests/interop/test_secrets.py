"""
No secret is told: by no word, in no line of the log and none of its fields, by no error, whatever goes wrong.

A server has secrets wherever it can have any, and its clients have some; the same word is in all of them, and it is
looked for in everything that the server ever said.
"""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, load_pem_private_key, pkcs12

from tests.authority import Authority, Identity
from tests.interop.clients import servers
from tests.interop.conftest import MakeServer
from tests.interop.ensembles import until
from tests.interop.process import HOST, ServerProcess, four_letter_word, free_port
from tests.interop.rawclient import Closed, RawSession, buffer
from zktwisted.wire.sasl import DigestClient

SECRET = "sesame"  # is in each of them
MODULE = "org.apache.zookeeper.server.auth.DigestLoginModule"
AUTH, SASL, GET_DATA = 100, 102, 4
SECONDS = 60.0
WORDS = b"conf cons crst dirs dump envi gtmk hash isro mntr ruok srst srvr stat wchc wchp wchs nope".split()


def digest(text: str) -> str:
    return base64.b64encode(hashlib.sha1(text.encode(), usedforsecurity=False).digest()).decode()


#: What stands for a secret in other words; whoever has it needs the password no more.
HASHES = (digest("super:sesame-super"), digest("user:sesame-client"))


def store(identity: Identity, password: str) -> bytes:
    """Return a key and its certificate as PKCS12."""
    key = load_pem_private_key(identity.store.read_bytes(), None)
    encryption = BestAvailableEncryption(password.encode())
    return pkcs12.serialize_key_and_certificates(b"own", key, identity.certificate, None, encryption)  # type: ignore[arg-type]


class Secrets:
    """The files of a server that has secrets wherever it can."""

    def __init__(self, directory: Path) -> None:
        self.authority = Authority(directory / "authority")
        self.own = self.authority.identity("server", ["localhost"])
        self.keys = directory / "own.p12"
        self.keys.write_bytes(store(self.own, "sesame-store"))
        self.password = directory / "password"
        self.password.write_text("sesame-store\n", "utf-8")
        self.jaas = directory / "jaas.conf"
        users = 'user_bob="sesame-bob" user_super="sesame-jaas"'
        self.jaas.write_text(f"Server {{ {MODULE} required {users}; }};", "utf-8")
        self.jaas.chmod(0o600)
        self.port = free_port()

    def config(self, **more: str) -> dict[str, str]:
        return {
            "secureClientPort": str(self.port),
            "ssl.keyStore.location": str(self.keys),
            "ssl.keyStore.passwordPath": str(self.password),
            "ssl.keyStore.password": "sesame-inline",
            "ssl.trustStore.location": str(self.authority.trust),
            "ssl.trustStore.password": "sesame-trust",
            "client.certReload": "true",
            "java.security.auth.login.config": str(self.jaas),
            "SASLAuthenticationProvider.superPassword": "sesame-sasl",
            "DigestAuthenticationProvider.superDigest": f"super:{HASHES[0]}",
            **more,
        }


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Secrets:
    """Return the files, and put one more secret into the environment."""
    monkeypatch.setenv("SERVER_JVMFLAGS", "-Djavax.net.ssl.keyStorePassword=sesame-java -Dzookeeper.my.secret=sesame-d")
    return Secrets(tmp_path)


def nothing_told(text: str) -> None:
    """Look for secrets in a text."""
    for each in (SECRET, *HASHES):
        at = text.find(each)
        assert at < 0, text[max(0, at - 300) : at + 100]


def refused_digests(server: ServerProcess) -> None:
    """Authenticate by packets that are wrong in every way."""
    for scheme, data in (
        (b"digest", b"super:sesame-guess"),
        (b"digest", b"sesame-without-a-name"),
        (b"digest", b"user:sesame-client"),
        (b"nobody", b"sesame"),
        (b"ensemble", b"sesame"),
        (b"x509", b"sesame"),
        (b"sasl", b"sesame"),
    ):
        session = RawSession(server.port)
        with suppress(Closed):
            session.call(AUTH, bytes(4) + buffer(scheme) + buffer(data))
            session.call(GET_DATA, buffer(b"/zookeeper") + b"\0")
        session.connection.send(b"\0\0\0\1\0\0\0\x64" + bytes(4) + buffer(b"digest") + b"\0\0\0\x7fa:sesame")
        session.connection.close()


def refused_tokens(server: ServerProcess) -> None:
    """Authenticate by SASL with a right password, a wrong one, as somebody unknown, and with nonsense."""
    for name, password in (("bob", "sesame-bob"), ("bob", "sesame-guess"), ("eve", "sesame-guess"), (None, "")):
        session = RawSession(server.port)
        challenge = session.call(SASL, buffer(b""))[2][4:]
        response = b'username="bob",password="sesame",response=sesame'
        if name is not None:
            response = DigestClient("zookeeper", "zk-sasl-md5", name, password, b"c" * 30).response(challenge)
        with suppress(Closed):
            session.call(SASL, buffer(response))
        session.connection.close()


def asked(port: int) -> str:
    """Ask every word there is, and one that is none."""
    return "".join(four_letter_word(port, word).decode() for word in WORDS)


def test_a_server(secrets: Secrets, make_server: MakeServer) -> None:
    """It serves, is asked and attacked, is given files that are no good, and stops; its secrets are nowhere."""
    server = make_server(servers.OURS, config=secrets.config())
    server.start()
    refused_digests(server)
    refused_tokens(server)
    with suppress(Closed):
        RawSession(server.port, session_id=1 << 56, password=b"sesame-of-sesame").connection.close()
    for data in (b"\x16\x03\x01\2\0sesame" + bytes(600), b"sesame" * 100):
        with socket.create_connection((HOST, secrets.port), SECONDS) as link, suppress(ConnectionError):
            link.sendall(data)
            while link.recv(4096):
                pass
    said = asked(server.port)
    assert "zk_auth_failed_count" in said  # they are answers
    secrets.password.write_text("sesame-and-wrong\n", "utf-8")
    until(lambda: "the old ones stay in use" in server.output, lambda: "the new password is refused")
    secrets.keys.write_bytes(b"sesame")
    until(lambda: server.output.count("the old ones stay in use: {reason}") > 1, lambda: "the new store is refused")
    said += asked(server.port)
    server.stop()
    for expected in ("has not shown", "no such provider", "Authentication failed for scheme"):
        assert expected in server.output  # it was attacked
    nothing_told(said + server.output)


BROKEN = {
    "wrong password": {"ssl.keyStore.passwordPath": "", "ssl.keyStore.password": "sesame-guess"},
    "no file of the password": {"ssl.keyStore.passwordPath": "/nowhere"},
    "trust store": {"ssl.trustStore.type": "JKS", "ssl.trustStore.password": "sesame"},
    "misspelt": {"ssl.keyStore.pasword": "sesame", "ssl.quorum.keyStore.passwd": "sesame", "superSecret": "sesame"},
    "escape": {"ssl.keyStore.password": "sesame\\uZZ"},
    "digest": {"DigestAuthenticationProvider.superDigest": "sesame", "DigestAuthenticationProvider.digestAlg": "no"},
    "no scheme": {"enforce.auth.enabled": "true", "enforce.auth.schemes": "mine"},
}
JAAS = {
    "open": 'Server { a.DigestLoginModule required user_bob="sesame',
    "odd": 'Server { a.DigestLoginModule required user_bob="sesame" user_bob sesame = ; };',
    "another module": 'Server { a.Other required password="sesame"; };',
    "reference": 'Server { a.DigestLoginModule required user_bob="${sesame}"; };',
    "flag": 'Server { a.DigestLoginModule "sesame" user_bob="sesame"; };',
}


@pytest.mark.parametrize("case", [*BROKEN, *JAAS])
def test_a_server_that_does_not_start(case: str, secrets: Secrets, tmp_path: Path) -> None:
    """What is wrong with a configuration is told without the secrets in it, and so is the rest of it."""
    if case in JAAS:
        secrets.jaas.write_text(JAAS[case], "utf-8")
    values = {"dataDir": str(tmp_path / "data"), **secrets.config(**BROKEN.get(case, {}))}
    path = tmp_path / "zoo.cfg"
    path.write_text("".join(f"{key}={value}\n" for key, value in values.items()), "utf-8")
    paths = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    arguments = ["-D", "zookeeper.other.password=sesame", "--config", str(path)]
    for more in ((), ("--check-config",)):
        if not more and case == "misspelt":
            continue  # with that it would serve
        finished = subprocess.run(
            [sys.executable, "-m", "twisted", "zookeeper", *arguments, *more],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        text = finished.stdout + finished.stderr
        assert finished.returncode in (1, 2), text
        nothing_told(text)
        assert "Traceback" not in text
