"""
What a test server with TLS or SASL needs in files, and its clients, too: made anew each time, gone with the server.

Knows certificates and JAAS files, and no protocol.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from zktwisted.errors import ConfigError

__all__ = ["TlsFiles", "make_tls_files", "write_jaas"]

HOSTS = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class TlsFiles:
    """
    Files, all of them PEM.

    @ivar ca: the certificate of the authority that signed all others.
    @ivar certificate: a client's, and L{key}: its key.
    @ivar server: key and certificate of the servers.
    """

    ca: str
    certificate: str
    key: str
    server: str

    def paths(self) -> dict[str, str]:
        """What clients need, by name."""
        return {"ca": self.ca, "certificate": self.certificate, "key": self.key}

    def client_context(self) -> ssl.SSLContext:
        """What C{ssl} and asyncio connect with: trusts the authority and shows the client's certificate."""
        context = ssl.create_default_context(cafile=self.ca)
        context.load_cert_chain(self.certificate, self.key)
        return context


def make_tls_files(directory: Path) -> TlsFiles:
    """
    Make an authority, and let it sign a server's and a client's certificate.

    @raise ConfigError: the extra C{tls} is not installed.
    """
    try:
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    except ImportError as error:
        message = f"TLS needs packages that are not installed: {error.name}"
        raise ConfigError(message, remedy="pip install zktwisted[tls]") from error

    authority = _Authority()
    files = TlsFiles(*(str(directory / name) for name in ("ca.pem", "client.pem", "client-key.pem", "server.pem")))

    def pem(key: Any) -> bytes:
        made: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return made

    key, certificate = authority.sign("client", ())
    _write(files.ca, authority.certificate.public_bytes(Encoding.PEM))
    _write(files.certificate, certificate.public_bytes(Encoding.PEM))
    _write(files.key, pem(key))
    key, certificate = authority.sign("server", HOSTS)
    _write(files.server, pem(key) + certificate.public_bytes(Encoding.PEM))
    return files


def _write(path: str, data: bytes) -> None:
    Path(path).write_bytes(data)


class _Authority:
    """Signs, for a few days, and then nobody has its key any more."""

    def __init__(self) -> None:
        from cryptography.hazmat.primitives.asymmetric import ec

        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("zktwisted test authority")
        self.certificate = self._signed(self._name, self._key.public_key(), (), authority=True)

    def sign(self, name: str, hosts: tuple[str, ...]) -> tuple[Any, Any]:
        """Make a key and a certificate."""
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        return key, self._signed(_name(name), key.public_key(), hosts)

    def _signed(self, name: Any, key: Any, hosts: tuple[str, ...], authority: bool = False) -> Any:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes

        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=7))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )
        if authority:
            usage = dict.fromkeys(
                "content_commitment key_encipherment data_encipherment key_agreement encipher_only "
                "decipher_only digital_signature".split(),
                False,
            )
            builder = builder.add_extension(x509.KeyUsage(key_cert_sign=True, crl_sign=True, **usage), critical=True)
        if hosts:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False
            )
        return builder.sign(self._key, hashes.SHA256())


def _name(name: str) -> Any:
    from cryptography import x509

    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _general_name(host: str) -> Any:
    from cryptography import x509

    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def write_jaas(path: Path, users: Mapping[str, str]) -> None:
    """
    Write who may log in, and with which password.

    @raise ValueError: a name or a password cannot stand in such a file.
    """
    for name, password in users.items():
        if not name.isidentifier() or not set('"\\\n').isdisjoint(password):
            raise ValueError(f"the user {name!r}: a name is letters, digits and _, and no password has quotes in it")
    lines = "\n    ".join(f'user_{name}="{password}"' for name, password in users.items())
    module = "org.apache.zookeeper.server.auth.DigestLoginModule required"
    path.write_text(f"Server {{\n    {module}\n    {lines};\n}};\n", encoding="utf-8")
    path.chmod(0o600)
