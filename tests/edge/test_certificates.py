"""
What certificates say of their owners.

The names in RFC 2253 are those that Java 17's X500Principal.getName() gave for the same certificates.
"""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.x509 import NameAttribute, RelativeDistinguishedName
from cryptography.x509.oid import NameOID
from twisted.trial.unittest import SynchronousTestCase

from tests.authority import Authority
from zktwisted.edge.certificates import distinguished_name, names_host


def name(*rdns: dict[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name(
        [RelativeDistinguishedName([NameAttribute(oid, text) for oid, text in rdn.items()]) for rdn in rdns]
    )


CN, O = NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME  # noqa: E741

NAMES = [
    (
        name({NameOID.COUNTRY_NAME: "US"}, {O: "Org, Inc"}, {NameOID.ORGANIZATIONAL_UNIT_NAME: "Unit"}, {CN: "client"}),
        "CN=client,OU=Unit,O=Org\\, Inc,C=US",
    ),
    (name({CN: 'a=b+c<d>e#f;g"h\\i'}), 'CN=a\\=b\\+c\\<d\\>e\\#f\\;g\\"h\\\\i'),
    (name({CN: "#x"}, {O: "  two  blanks  "}), "O=\\ \\ two  blanks\\ \\ ,CN=\\#x"),
    (
        name({CN: " "}, {NameOID.EMAIL_ADDRESS: "a@b.example"}, {NameOID.SERIAL_NUMBER: "17"}),
        "2.5.4.5=#13023137,1.2.840.113549.1.9.1=#160b6140622e6578616d706c65,CN=\\ ",
    ),
    (
        name(
            {CN: "Jürgen Groß 日本"},
            {NameOID.STATE_OR_PROVINCE_NAME: "Bayern"},
            {NameOID.STREET_ADDRESS: "X 1"},
            {NameOID.LOCALITY_NAME: "Y"},
            {NameOID.DOMAIN_COMPONENT: "example"},
            {NameOID.USER_ID: "me"},
        ),
        "UID=me,DC=example,L=Y,STREET=X 1,ST=Bayern,CN=Jürgen Groß 日本",
    ),
    (name({NameOID.GIVEN_NAME: "Ø" * 70}), "2.5.4.42=#0c818c" + "c398" * 70),
]


class NameTests(SynchronousTestCase):
    def test_as_java_writes_them(self) -> None:
        """The parts come last first, words for the usual types, backslashes and numbers where Java has them."""
        for given, expected in NAMES:
            self.assertEqual(distinguished_name(given), expected)

    def test_several_in_one_part(self) -> None:
        """What stands in one part is joined with a plus."""
        given = name({NameOID.ORGANIZATIONAL_UNIT_NAME: "u", CN: "b"})
        self.assertEqual(sorted(distinguished_name(given).split("+")), ["CN=b", "OU=u"])


class HostTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.authority = Authority(Path(self.mktemp()))

    def certificate(self, common: str, *hosts: str) -> x509.Certificate:
        return self.authority.identity("x", hosts, subject=name({CN: common})).certificate

    def test_alternative_names(self) -> None:
        """Names and addresses among the alternative names count, whatever their case; the common name does not."""
        certificate = self.certificate("common.example", "zk1.example", "*.wild.example", "192.0.2.1", "2001:db8::1")
        for host in ("zk1.example", "ZK1.example", "a.wild.example", "192.0.2.1", "2001:db8:0:0:0:0:0:1"):
            self.assertTrue(names_host(certificate, ["none.example", host]), host)
        for host in ("common.example", "zk2.example", "a.b.wild.example", "192.0.2.2", "2001:db8::2", "", "a b"):
            self.assertFalse(names_host(certificate, [host]), host)
        self.assertFalse(names_host(certificate, []))

    def test_common_name(self) -> None:
        """The common name counts where there are no alternative names."""
        certificate = self.certificate("zk1.example")
        self.assertTrue(names_host(certificate, ["ZK1.example"]))
        self.assertFalse(names_host(certificate, ["zk2.example"]))

    def test_unreadable_names(self) -> None:
        """Alternative names that cannot be read name nobody, and the common name does not stand in for them."""
        x400 = b"\x30\x0f\xa3\x00\x82\x0bzk1.example"  # a name of a kind that nobody reads, and one that counted
        for names in (b"\x30\x05zk1", x400, b"\x30\x00"):
            broken = x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, names)
            certificate = self.authority.identity("x", subject=name({CN: "zk1.example"}), extension=broken).certificate
            self.assertFalse(names_host(certificate, ["zk1.example"]), names)
