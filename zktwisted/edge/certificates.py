"""
What a certificate says of its owner: the name in the form that ACLs have, and whether it is a host's.

Rules: spec: client-protocol 9.4, configuration 6.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from cryptography import x509
from cryptography.x509.oid import NameOID
from service_identity import CertificateError, VerificationError
from service_identity.cryptography import verify_certificate_hostname, verify_certificate_ip_address

__all__ = ["distinguished_name", "names_host"]

# The types that RFC 2253 has words for; all others are written as numbers.
_WORDS = {
    "2.5.4.3": "CN",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "STREET",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.25": "DC",
}
_SPECIAL = frozenset(',=+<>#;"\\')
_BMP_STRING, _UNIVERSAL_STRING = 30, 28


def distinguished_name(name: x509.Name) -> str:
    r"""
    Write a name as Java's C{X500Principal.getName()} does: RFC 2253, as in C{CN=client,OU=Unit,O=Org\, Inc,C=US}.
    """
    return ",".join("+".join(_attribute(each) for each in rdn) for rdn in reversed(name.rdns))


def _attribute(attribute: x509.NameAttribute[str | bytes]) -> str:
    oid, value = attribute.oid.dotted_string, attribute.value
    word = _WORDS.get(oid)
    if word is None or not isinstance(value, str):
        return f"{word or oid}=#{_der(attribute).hex()}"
    text = "".join("\\" + each if each in _SPECIAL else each for each in value)
    # Blanks at either end need a backslash each; there are none behind the last that got one.
    left = len(text) - len(text.lstrip(" "))
    right = len(text) - len(text.rstrip(" ")) if left < len(text) else 0
    middle = text[left : len(text) - right]
    return f"{word}=" + "\\ " * left + middle + "\\ " * right


def _der(attribute: x509.NameAttribute[str | bytes]) -> bytes:
    value = attribute.value
    tag = attribute._type.value  # nothing public tells it
    if isinstance(value, str):
        encoding = {_BMP_STRING: "utf-16-be", _UNIVERSAL_STRING: "utf-32-be"}.get(tag, "utf-8")
        value = value.encode(encoding)
    size = len(value)
    if size < 0x80:
        return bytes([tag, size]) + value
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + value


def names_host(certificate: x509.Certificate, hosts: Iterable[str]) -> bool:
    """
    Tell whether a certificate is that of one of some hosts.

    Its alternative names count; one that has none may name its host as its common name, as old ones do.

    @param hosts: names or addresses.
    """
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        common = [str(each.value).lower() for each in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        return any(host.lower().rstrip(".") == common[-1] for host in hosts) if common else False
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return False
    return any(_names(certificate, alternatives, host) for host in hosts)


def _names(certificate: x509.Certificate, alternatives: x509.SubjectAlternativeName, host: str) -> bool:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        address = None
    try:
        if address is not None:
            verify_certificate_ip_address(certificate, str(address))
        else:
            verify_certificate_hostname(certificate, host.rstrip("."))
    except (VerificationError, CertificateError, ValueError):
        return False
    return True
