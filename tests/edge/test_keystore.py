"""
Key stores as openssl and keytool make them, and what is said of those that are no good.

The stores are in tests/golden/keystores, made by the make.sh there.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from twisted.trial.unittest import SynchronousTestCase

from zktwisted.edge.keystore import KeyStore, Store, TrustStore, load_key_store, load_trust_store
from zktwisted.errors import ConfigError

GOLDEN = Path(__file__).parent.parent / "golden" / "keystores"
PASSWORD = "store-pass"


def golden(name: str, password: str = PASSWORD, **more: str) -> Store:
    return Store("ssl.keyStore", str(GOLDEN / name), password, **more)


def names(store: KeyStore | TrustStore) -> list[str]:
    certificates = store.chain if isinstance(store, KeyStore) else store.certificates
    return [each.subject.rfc4514_string() for each in certificates]


class GoldenTests(SynchronousTestCase):
    """What openssl and keytool wrote is read."""

    def test_key_stores(self) -> None:
        """Every kind of store gives the same key, and the same chain with the key's own certificate first."""
        expected = load_key_store(golden("server.pem", ""))
        self.assertEqual(names(expected), ["CN=server,O=Example\\, Inc,C=US", "CN=Issuer,O=Example"])
        numbers = expected.key.private_numbers()  # type: ignore[union-attr]
        for path in sorted(GOLDEN.glob("server*")):
            found = load_key_store(golden(path.name))
            self.assertEqual(found.chain, expected.chain, path.name)
            self.assertEqual(found.key.private_numbers(), numbers, path.name)  # type: ignore[union-attr]

    def test_trust_stores(self) -> None:
        """Every kind of store gives the same certificates."""
        for path in sorted(GOLDEN.glob("trust*")):
            found = load_trust_store(golden(path.name))
            self.assertEqual(sorted(names(found)), ["CN=Issuer,O=Example", "CN=Root,O=Example"], path.name)

    def test_java_names_no_type(self) -> None:
        """PKCS12 may be called JKS, and JKS PKCS12: keytool makes the one and people call it the other."""
        self.assertEqual(len(load_key_store(golden("server-keytool.p12", kind="JKS")).chain), 2)
        self.assertEqual(len(load_key_store(golden("server-keytool.jks", kind="pkcs12")).chain), 2)

    def test_password_files(self) -> None:
        """The password in a file counts more than the one beside it, less one newline at its end."""
        path = Path(self.mktemp())
        for ending in ("", "\n", "\r\n"):
            path.write_bytes((PASSWORD + ending).encode())
            store = golden("server-keytool.jks", "wrong", password_path=str(path))
            self.assertEqual(len(load_key_store(store).chain), 2)
        path.write_text(PASSWORD + "\n\n")
        self.assertRaises(ConfigError, load_key_store, store)

    def test_secrets_do_not_show(self) -> None:
        """Neither a password nor a key is in what is printed of a store."""
        self.assertNotIn(PASSWORD, repr(golden("server.pem")))
        self.assertNotIn("key=", repr(load_key_store(golden("server.pem"))))

    def test_what_vouches_for_a_key_is_not_trusted(self) -> None:
        """A store of a key used as a trust store trusts nobody, instead of whoever signed the key."""
        for name in ("server-keytool.p12", "server-keytool.jks"):
            error = self.assertRaises(ConfigError, load_trust_store, golden(name))
            self.assertIn("no trusted certificate", str(error))


class Broken(NamedTuple):
    """
    A store that is no good.

    @ivar key: the end of the configuration's key that has to be named.
    @ivar words: what has to be said.
    """

    name: str
    data: bytes | None
    key: str
    words: str
    password: str = PASSWORD
    kind: str = ""
    trust: bool = False


def damaged(name: str, at: int) -> bytes:
    data = bytearray((GOLDEN / name).read_bytes())
    data[at] ^= 1
    return bytes(data)


def whole(name: str) -> bytes:
    return (GOLDEN / name).read_bytes()


def between(data: bytes, begin: bytes, end: bytes) -> bytes:
    start = data.index(begin)
    return data[start : data.index(end, start) + len(end)]


KEY = between(whole("server.pem"), b"-----BEGIN PRIVATE KEY", b"END PRIVATE KEY-----\n")
CERTIFICATE = between(whole("server.pem"), b"-----BEGIN CERT", b"END CERTIFICATE-----\n")
ROOT = whole("root.pem")
CRL = b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"

BROKEN = [
    Broken("absent.pem", None, "location", "cannot be read: No such file"),
    Broken("empty.jks", b"", "location", "it is empty"),
    Broken("store.unknown", KEY, "type", "Unable to auto-detect store file type"),
    Broken("bad-type.pem", KEY, "type", "Bad value for ssl.keyStore.type: DER", kind="DER"),
    Broken("store.bcfks", b"0", "location", "BCFKS cannot be read"),
    Broken("bcfks.p12", b"0", "type", "BCFKS cannot be read", kind="bcfks"),
    Broken("no-key.pem", ROOT, "location", "there is no private key in it"),
    Broken("no-certificate.pem", KEY, "location", "there is no certificate for its private key"),
    Broken("other-certificate.pem", KEY + ROOT, "location", "none of its certificates belongs"),
    Broken("bad-key.pem", KEY.replace(b"M", b"A", 1) + CERTIFICATE, "location", "its private key cannot be read"),
    Broken("bad-certificate.pem", KEY + CERTIFICATE.replace(b"MII", b"MAA", 1), "location", "certificate 1 cannot be"),
    Broken("half-certificate.pem", KEY + CERTIFICATE + ROOT[:200], "location", "its last certificate is not whole"),
    Broken("binary.pem", whole("server-keytool.p12"), "location", "there is no private key in it"),
    Broken("no-password.pem", whole("server-encrypted.pem"), "password", "no password is set", ""),
    Broken("wrong.pem", whole("server-encrypted.pem"), "password", "or the password is wrong", "guess-it"),
    Broken("wrong.p12", whole("server-keytool.p12"), "password", "or the password is wrong", "guess-it"),
    Broken("none.p12", whole("server-openssl.p12"), "password", "or the password is wrong", ""),
    Broken("wrong.jks", whole("server-keytool.jks"), "password", "or the password is wrong", "guess-it"),
    Broken("key-password.jks", whole("other-password.jks"), "password", "another password than the store"),
    Broken("damaged.p12", damaged("server-keytool.p12", 400), "password", "no PKCS12 store that can be read"),
    Broken("half.p12", whole("server-keytool.p12")[:500], "password", "no PKCS12 store that can be read"),
    Broken("text.p12", b"once upon a time", "password", "no PKCS12 store that can be read"),
    Broken("pem.p12", whole("server.pem"), "type", "it is a PEM file and no PKCS12 store"),
    Broken("pem.jks", whole("server.pem"), "type", "it is a PEM file and no JKS store"),
    Broken("damaged.jks", damaged("server-keytool.jks", 40), "password", "it is damaged"),
    Broken("half.jks", whole("server-keytool.jks")[:300], "password", "it is damaged"),
    Broken("text.jks", b"once upon a time", "type", "it is no JKS store"),
    Broken("old.jks", b"\xce\xce\xce\xce" + bytes(40), "location", "it is a JCEKS store"),
    Broken("trust.jks", whole("trust-keytool.jks"), "location", "there is no private key in it"),
    Broken("trust.p12", whole("trust-keytool.p12"), "location", "there is no private key in it"),
    Broken("nobody.pem", KEY, "location", "there is no trusted certificate", trust=True),
    Broken("bad-trust.pem", ROOT + CERTIFICATE.replace(b"MII", b"MAA", 1), "location", "certificate 2", trust=True),
    Broken("bad-crl.pem", ROOT + CRL, "location", "a list of revoked certificates in it cannot be read", trust=True),
    Broken("wrong-trust.jks", whole("trust-keytool.jks"), "password", "or the password is wrong", "guess-it", "", True),
    Broken("wrong-trust.p12", whole("trust-keytool.p12"), "password", "or the password is wrong", "guess-it", "", True),
]


class BrokenTests(SynchronousTestCase):
    """What is no good is told with its file, its key and what to do, and without its password."""

    def test_broken(self) -> None:
        """Each of them gives an error that names it."""
        directory = Path(self.mktemp())
        directory.mkdir()
        self.assertGreaterEqual(len(BROKEN), 20)
        for case in BROKEN:
            path = directory / case.name
            if case.data is not None:
                path.write_bytes(case.data)
            prefix = "ssl.trustStore" if case.trust else "ssl.keyStore"
            load = load_trust_store if case.trust else load_key_store
            error = self.assertRaises(ConfigError, load, Store(prefix, str(path), case.password, kind=case.kind))
            self.assertEqual(error.key, f"{prefix}.{case.key}", case.name)
            self.assertIn(case.words, error.message)
            self.assertIn(str(path), error.message)
            self.assertTrue(error.remedy, case.name)
            for secret in (PASSWORD, "guess-it"):
                self.assertNotIn(secret, str(error))

    def test_password_files(self) -> None:
        """A file of a password that is no good is named with its own key."""
        path = Path(self.mktemp())
        store = golden("server-keytool.jks", password_path=str(path))
        for data, words in ((None, "No such file"), (b"\xff\xfe", "it is no text"), (b"guess-it", "is wrong")):
            if data is not None:
                path.write_bytes(data)
            error = self.assertRaises(ConfigError, load_key_store, store)
            self.assertEqual(error.key, "ssl.keyStore.passwordPath")
            self.assertIn(words, error.message)
            self.assertNotIn("guess-it", str(error))

    def test_any_byte_may_be_wrong(self) -> None:
        """Whatever has happened to a store, it is an error that says so, or it is read all the same."""
        path = Path(self.mktemp())
        for name in ("server-keytool.jks", "server-sec1.pem"):
            kind = "JKS" if name.endswith("jks") else "PEM"
            data = (GOLDEN / name).read_bytes()
            for at in range(0, len(data), 7):
                path.write_bytes(data[:at] + bytes([data[at] ^ 0x41]) + data[at + 1 :])
                try:
                    load_key_store(Store("ssl.keyStore", str(path), PASSWORD, kind=kind))
                except ConfigError as error:
                    self.assertIn(str(path), str(error))
