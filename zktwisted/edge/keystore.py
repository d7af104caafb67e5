"""
Key stores and trust stores as Java servers use them: PEM, PKCS12 and JKS.

Knows the three formats and their passwords; gives keys and certificates of C{cryptography}.  Refuses to know what they
are for: connections, protocols and who is trusted are L{zktwisted.edge.tls}'s.

A store that is no good is the operator's to mend, so every error names the file, the key of the configuration and what
to do; no error holds a password or a key.

Rules: spec: configuration 6.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from struct import Struct
from struct import error as StructError  # noqa: N812 (it is an exception)
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
    pkcs12,
)

from zktwisted.errors import ConfigError

__all__ = ["KeyStore", "Store", "TrustStore", "load_key_store", "load_trust_store"]

_BY_EXTENSION = {".jks": "JKS", ".pem": "PEM", ".p12": "PKCS12", ".bcfks": "BCFKS"}
_TYPES = ("PEM", "PKCS12", "JKS")

_JKS_MAGIC = b"\xfe\xed\xfe\xed"
_JCEKS_MAGIC = b"\xce\xce\xce\xce"
_PRIVATE_KEY, _CERTIFICATE = 1, 2
#: What Java mixes into the checksum of a key store: part of the format.
_JKS_SALT = b"Mighty Aphrodite"
_u16, _i32, _i64 = Struct(">H"), Struct(">i"), Struct(">q")
_HASH_SIZE = 20
# Tags of DER.
_SEQUENCE, _OCTET_STRING = 0x30, 0x04
#: No store of keys is larger, and nobody should wait for one that is.
_SIZE_MAX = 16 << 20

_BROKEN = (ValueError, TypeError, IndexError, StructError, UnsupportedAlgorithm, x509.InvalidVersion)
_PEM_KEY = re.compile(rb"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.+?-----END \1-----", re.DOTALL)
_PEM_CERTIFICATE = re.compile(
    rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----(.+?)-----END (?:X509 |TRUSTED )?CERTIFICATE-----", re.DOTALL
)
_PEM_CRL = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)


@dataclass(frozen=True)
class Store:
    """
    What the configuration says of one store.

    @ivar prefix: the keys of the configuration begin so: C{ssl.keyStore}, C{ssl.quorum.trustStore}.
    @ivar password: as it was written; C{""}: none.
    @ivar password_path: a file that holds the password and counts more.
    @ivar kind: C{PEM}, C{PKCS12} or C{JKS}; C{""}: as the file's name says.
    """

    prefix: str
    location: str
    password: str = field(default="", repr=False)
    password_path: str = ""
    kind: str = ""

    @property
    def files(self) -> list[str]:
        """The files on which it depends."""
        return [path for path in (self.location, self.password_path) if path]

    def error(self, message: str, remedy: str, part: str = "location") -> ConfigError:
        """What is wrong with it, and which of its keys to look at."""
        return ConfigError(f"{self.location}: {message}", key=f"{self.prefix}.{part}", remedy=remedy)

    def secret(self) -> str:
        """
        Return the password.

        @raise ConfigError: the file that holds it cannot be read.
        """
        if not self.password_path:
            return self.password
        try:
            text = Path(self.password_path).read_bytes().decode()
        except OSError as error:
            raise ConfigError(
                f"{self.password_path}: cannot be read: {error.strerror}",
                key=f"{self.prefix}.passwordPath",
                remedy="name a file that holds the password and that this user can read",
            ) from None
        except UnicodeDecodeError:
            raise ConfigError(
                f"{self.password_path}: it is no text",
                key=f"{self.prefix}.passwordPath",
                remedy="name a file that holds nothing but the password",
            ) from None
        return re.sub(r"\r?\n\Z", "", text)

    def type(self) -> str:
        """
        Tell what kind of store it is: what was said, or what the file's name ends with.

        @raise ConfigError: it is none that can be read.
        """
        kind = self.kind.strip().upper()
        if not kind:
            found = _BY_EXTENSION.get(os.path.splitext(self.location)[1].lower())
            if found is None:
                raise ConfigError(
                    f"Unable to auto-detect store file type from file name: {self.location}",
                    key=f"{self.prefix}.type",
                    remedy="write PEM, PKCS12 or JKS, or name the file .pem, .p12 or .jks",
                )
            kind = found
        if kind == "BCFKS":
            remedy = "convert it to PKCS12 with keytool -importkeystore"
            raise self.error("stores of the type BCFKS cannot be read", remedy, "type" if self.kind else "location")
        if kind not in _TYPES:
            raise self.error(f"Bad value for {self.prefix}.type: {self.kind}", "write PEM, PKCS12 or JKS", "type")
        return kind


@dataclass(frozen=True)
class KeyStore:
    """
    A private key, its certificate and those that vouch for it.

    @ivar chain: the key's own certificate first.
    """

    key: PrivateKeyTypes = field(repr=False)
    chain: tuple[x509.Certificate, ...]


@dataclass(frozen=True)
class TrustStore:
    """
    Who is trusted.

    @ivar revoked: lists of certificates that no longer count (only PEM files hold such).
    """

    certificates: tuple[x509.Certificate, ...]
    revoked: tuple[x509.CertificateRevocationList, ...] = ()


def load_key_store(store: Store) -> KeyStore:
    """
    Read the first private key of a store and its certificates.

    @raise ConfigError: it cannot be read, the password is wrong, or it holds no key with a certificate.
    """
    key, certificates = _load(store, _KEYS)
    if key is None:
        raise store.error("there is no private key in it", "name the store that holds the key of this server")
    try:
        own = next((each for each in certificates if _public(each) == _public(key)), None)
        chain = () if own is None else _chain(own, certificates)
    except _BROKEN:  # much of a certificate is only looked at when it is asked for
        raise store.error("a certificate in it cannot be read", "make the store anew") from None
    if own is None:
        raise store.error(
            "there is no certificate for its private key in it" if not certificates else
            "none of its certificates belongs to its private key",
            "put the key's own certificate into it, and those that vouch for that one",
        )  # fmt: skip
    return KeyStore(key, chain)


def load_trust_store(store: Store) -> TrustStore:
    """
    Read the certificates of a store.

    @raise ConfigError: it cannot be read, the password is wrong, or it holds none.
    """
    certificates, revoked = _load(store, _TRUST)
    if not certificates:
        raise store.error("there is no trusted certificate in it", "put the certificates of the authorities into it")
    return TrustStore(tuple(certificates), tuple(revoked))


def _load(store: Store, readers: dict[str, Callable[[Store, bytes, str], Any]]) -> Any:
    kind = store.type()
    data = _read(store)
    if not data:
        raise store.error("it is empty", "name the file that holds the store")
    # As in Java, the two say by their first byte which they are: keytool makes PKCS12 and people call it .jks.
    if kind == "JKS" and data[0] == _SEQUENCE:
        kind = "PKCS12"
    elif kind == "PKCS12" and data.startswith(_JKS_MAGIC):
        kind = "JKS"
    if kind != "PEM" and data.lstrip().startswith(b"-----BEGIN"):
        raise store.error(f"it is a PEM file and no {kind} store", f"write {store.prefix}.type=PEM", "type")
    return readers[kind](store, data, store.secret())


def _read(store: Store) -> bytes:
    try:
        with open(store.location, "rb") as file:
            data = file.read(_SIZE_MAX + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no name of a file"
        raise store.error(f"cannot be read: {reason}", "name a file that this user can read") from None
    if len(data) > _SIZE_MAX:
        raise store.error("it is too large", "name the file that holds the store")
    return data


def _password_error(store: Store, message: str) -> ConfigError:
    part = "passwordPath" if store.password_path else "password"
    return store.error(message, f"look at {store.prefix}.{part}, and whether the file is whole", part)


def _public(thing: Any) -> bytes:
    public: bytes = thing.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return public


def _chain(own: x509.Certificate, others: Sequence[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    """Put certificates so that each vouches for the one before; the rest are not sent."""
    chain = [own]
    while chain[-1].issuer != chain[-1].subject:
        above = next((each for each in others if each.subject == chain[-1].issuer and each not in chain), None)
        if above is None:
            break
        chain.append(above)
    return tuple(chain)


# PEM


def _pem_key(store: Store, data: bytes, password: str) -> tuple[PrivateKeyTypes | None, list[x509.Certificate]]:
    found = _PEM_KEY.search(data)
    if found is None:
        return None, []
    text = found.group()
    encrypted = b"ENCRYPTED" in text
    if encrypted and not password:
        raise store.error("its private key is encrypted and no password is set", "set the password", "password")
    try:
        key = load_pem_private_key(text, password.encode() if encrypted else None)
    except _BROKEN:
        if encrypted:
            raise _password_error(store, "its private key cannot be read, or the password is wrong") from None
        raise store.error("its private key cannot be read", "make the file anew") from None
    return key, _pem_certificates(store, data)


def _pem_certificates(store: Store, data: bytes) -> list[x509.Certificate]:
    certificates = []
    for number, found in enumerate(_PEM_CERTIFICATE.finditer(data), 1):
        text = b"-----BEGIN CERTIFICATE-----" + found.group(1) + b"-----END CERTIFICATE-----\n"
        try:
            certificates.append(x509.load_pem_x509_certificate(text))
        except _BROKEN:
            raise store.error(f"its certificate {number} cannot be read", "make the file anew") from None
    if data.count(b"-----BEGIN CERTIFICATE-----") > len(certificates):
        raise store.error("its last certificate is not whole", "make the file anew")
    return certificates


def _pem_trust(
    store: Store, data: bytes, password: str
) -> tuple[list[x509.Certificate], list[x509.CertificateRevocationList]]:
    try:
        revoked = [x509.load_pem_x509_crl(found.group() + b"\n") for found in _PEM_CRL.finditer(data)]
    except _BROKEN:
        raise store.error("a list of revoked certificates in it cannot be read", "make the file anew") from None
    return _pem_certificates(store, data), revoked


# PKCS12


def _pkcs12(store: Store, data: bytes, password: str) -> pkcs12.PKCS12KeyAndCertificates:
    try:
        return pkcs12.load_pkcs12(data, password.encode())
    except _BROKEN:
        raise _password_error(store, "it is no PKCS12 store that can be read, or the password is wrong") from None


def _pkcs12_key(store: Store, data: bytes, password: str) -> tuple[PrivateKeyTypes | None, list[x509.Certificate]]:
    content = _pkcs12(store, data, password)
    own = [] if content.cert is None else [content.cert.certificate]
    return content.key, own + [each.certificate for each in content.additional_certs]


def _pkcs12_trust(
    store: Store, data: bytes, password: str
) -> tuple[list[x509.Certificate], list[x509.CertificateRevocationList]]:
    content = _pkcs12(store, data, password)
    others = [each.certificate for each in content.additional_certs]
    if content.cert is None:
        return others, []
    # Who vouches for a key in the store is not trusted for that, nor is it in Java.
    chain = _chain(content.cert.certificate, others)
    return [each for each in others if each not in chain], []


# JKS


class _Jks:
    """A JKS file, whose checksum is right, read from front to back."""

    def __init__(self, store: Store, data: bytes, password: str) -> None:
        self._store = store
        self._data = data
        self._at = 4
        self._secret = password.encode("utf-16-be")
        self.key: bytes | None = None
        self.chain: list[x509.Certificate] = []
        self.trusted: list[x509.Certificate] = []
        if data.startswith(_JCEKS_MAGIC):
            raise store.error("it is a JCEKS store", "convert it to PKCS12 with keytool -importkeystore")
        if not data.startswith(_JKS_MAGIC):
            raise store.error("it is no JKS store", f"write its {store.prefix}.type", "type")
        digest = hashlib.sha1(self._secret + _JKS_SALT + data[:-_HASH_SIZE], usedforsecurity=False).digest()
        if not hmac.compare_digest(digest, data[-_HASH_SIZE:]):
            raise _password_error(store, "it is damaged, or the password is wrong")
        try:
            self._read()
        except _BROKEN:
            raise store.error("an entry in it cannot be read", "make the store anew") from None

    def _read(self) -> None:
        version = self._number(_i32)
        if version not in (1, 2):
            raise ValueError("a version that nobody knows")
        for _ in range(self._number(_i32)):
            self._entry(version)

    def _number(self, form: Struct) -> int:
        value: int = form.unpack_from(self._data, self._at)[0]
        self._at += form.size
        return value

    def _bytes(self, size: int) -> bytes:
        data = self._data[self._at : self._at + size]
        if size < 0 or len(data) != size:
            raise ValueError("beyond the end")
        self._at += size
        return data

    def _certificate(self, version: int) -> x509.Certificate:
        if version == 2:
            self._bytes(self._number(_u16))  # its type, always X.509
        return x509.load_der_x509_certificate(self._bytes(self._number(_i32)))

    def _entry(self, version: int) -> None:
        tag = self._number(_i32)
        self._bytes(self._number(_u16))  # the alias
        self._number(_i64)  # when it was made
        if tag == _PRIVATE_KEY:
            key = self._bytes(self._number(_i32))
            chain = [self._certificate(version) for _ in range(self._number(_i32))]
            if self.key is None:
                self.key, self.chain = key, chain
        elif tag == _CERTIFICATE:
            self.trusted.append(self._certificate(version))
        else:
            raise ValueError("an entry that nobody knows")

    def private_key(self, protected: bytes) -> PrivateKeyTypes:
        """Take off the protection that JKS has of its own: a keystream of chained hashes, and a hash as proof."""
        encrypted = _inner_octets(protected)
        salt, body, proof = encrypted[:_HASH_SIZE], encrypted[_HASH_SIZE:-_HASH_SIZE], encrypted[-_HASH_SIZE:]
        stream, last = bytearray(), salt
        while len(stream) < len(body):
            last = hashlib.sha1(self._secret + last, usedforsecurity=False).digest()
            stream += last
        plain = bytes(a ^ b for a, b in zip(body, stream, strict=False))
        if not hmac.compare_digest(hashlib.sha1(self._secret + plain, usedforsecurity=False).digest(), proof):
            raise self._store.error(
                "its private key has another password than the store",
                "give both the same: keytool -keypasswd",
                "passwordPath" if self._store.password_path else "password",
            )
        return load_der_private_key(plain, None)


def _inner_octets(der: bytes) -> bytes:
    """Return the octets of an EncryptedPrivateKeyInfo: SEQUENCE (algorithm, OCTET STRING)."""
    at, _ = _der_header(der, 0, _SEQUENCE)
    at, size = _der_header(der, at, _SEQUENCE)
    at, size = _der_header(der, at + size, _OCTET_STRING)
    return der[at : at + size]


def _der_header(der: bytes, at: int, tag: int) -> tuple[int, int]:
    """Return where a DER value begins and how long it is."""
    if der[at] != tag:
        raise ValueError("not the DER that was expected")
    size = der[at + 1]
    at += 2
    if size & 0x80:
        count = size & 0x7F
        size = int.from_bytes(der[at : at + count], "big")
        at += count
    return at, size


def _jks_key(store: Store, data: bytes, password: str) -> tuple[PrivateKeyTypes | None, list[x509.Certificate]]:
    content = _Jks(store, data, password)
    if content.key is None:
        return None, []
    try:
        return content.private_key(content.key), content.chain
    except _BROKEN:
        raise store.error("its private key cannot be read", "make the store anew") from None


def _jks_trust(
    store: Store, data: bytes, password: str
) -> tuple[list[x509.Certificate], list[x509.CertificateRevocationList]]:
    return _Jks(store, data, password).trusted, []


_KEYS: dict[str, Callable[[Store, bytes, str], Any]] = {"PEM": _pem_key, "PKCS12": _pkcs12_key, "JKS": _jks_key}
_TRUST: dict[str, Callable[[Store, bytes, str], Any]] = {"PEM": _pem_trust, "PKCS12": _pkcs12_trust, "JKS": _jks_trust}
