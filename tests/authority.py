"""
An authority that signs certificates for tests, anew in each run, in the forms in which servers and clients want them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from cryptography.x509.oid import NameOID

PASSWORD = "store-pass"
_NOW = datetime.now(UTC)


@dataclass(frozen=True)
class Identity:
    """
    A key and its certificate in files.

    @ivar store: PEM, with the key and the chain.
    @ivar p12: the same as PKCS12, with L{PASSWORD}.
    """

    store: Path
    certificate: x509.Certificate

    @property
    def p12(self) -> Path:
        return self.store.with_suffix(".p12")


class Authority:
    """
    An authority.

    @ivar trust: its own certificate, as PEM; beside it, as C{.p12}, with L{PASSWORD}.
    """

    def __init__(self, directory: Path, name: str = "Authority") -> None:
        self.directory = directory
        self.directory.mkdir(parents=True, exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._signed(self._name, self._key, [], 3650, authority=True)
        self.trust = directory / f"{name}-trust.pem"
        self.trust.write_bytes(self.certificate.public_bytes(Encoding.PEM))

    @cached_property
    def trust_p12(self) -> Path:
        """The certificate as PKCS12 that Java trusts."""
        path = self.trust.with_suffix(".p12")
        entry = pkcs12.PKCS12Certificate(self.certificate, b"authority")
        encryption = BestAvailableEncryption(PASSWORD.encode())
        path.write_bytes(pkcs12.serialize_java_truststore([entry], encryption))
        return path

    @classmethod
    def signing(cls, directory: Path, certificate: x509.Certificate, key: Any) -> Authority:
        """Somebody who signs with the certificate of somebody else, which may not be good for that."""
        made = cls(directory)
        made.certificate, made._key, made._name = certificate, key, certificate.subject
        return made

    def identity(
        self,
        name: str,
        hosts: Sequence[str] = (),
        *,
        days: float = 365,
        subject: x509.Name | None = None,
        extension: x509.ExtensionType | None = None,
    ) -> Identity:
        """
        Sign a certificate.

        @param hosts: names and addresses that it holds.
        @param days: until it expires; less than 0: it has expired.
        @param extension: what else it says, such as what it is good for.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = subject or x509.Name(
            [
                x509.NameAttribute(NameOID.COUNTRY_NAME, "US"),
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Org, Inc"),
                x509.NameAttribute(NameOID.COMMON_NAME, name),
            ]
        )
        certificate = self._signed(subject, key, hosts, days, extension=extension)
        path = self.directory / f"{name}.pem"
        made = Identity(path, certificate)
        encryption = BestAvailableEncryption(PASSWORD.encode())
        made.p12.write_bytes(
            pkcs12.serialize_key_and_certificates(name.encode(), key, certificate, [self.certificate], encryption)
        )
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path.write_bytes(pem + certificate.public_bytes(Encoding.PEM) + self.certificate.public_bytes(Encoding.PEM))
        return made

    def revoked(self, *certificates: x509.Certificate, days: float = 365) -> bytes:
        """Return a list of revoked certificates, as PEM; *days*: until there has to be another one."""
        builder = x509.CertificateRevocationListBuilder().issuer_name(self._name)
        builder = builder.last_update(_NOW - timedelta(days=400)).next_update(_NOW + timedelta(days=days))
        for certificate in certificates:
            entry = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number).revocation_date(_NOW)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def _signed(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        hosts: Sequence[str],
        days: float,
        authority: bool = False,
        extension: x509.ExtensionType | None = None,
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_NOW - timedelta(days=400))
            .not_valid_after(_NOW + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if hosts:
            names = [_general_name(host) for host in hosts]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if extension is not None:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
