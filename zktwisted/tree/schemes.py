"""
What an identity is worth: for each scheme, which ids an ACL may name and which identities match them.

Knows the stock schemes (ip, digest, sasl, x509, key, ensemble), the names of hash algorithms as Java spells
them, and the registry that a server asks.  Refuses to know how a client proves its identity, and what an
ACL list looks like (L{zktwisted.tree.acl} does).

Rules: spec: server-semantics 4.1, 4.2; client-protocol 9.2.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Iterable
from functools import lru_cache
from typing import Protocol

__all__ = [
    "DigestScheme",
    "EnsembleScheme",
    "ForeignScheme",
    "IpScheme",
    "KeyScheme",
    "SaslScheme",
    "Scheme",
    "Schemes",
    "X509Scheme",
    "generate_digest",
    "hash_name",
    "match_ip",
    "valid_digest",
    "valid_ip",
    "valid_sasl",
    "valid_x509",
]

_INTEGER = re.compile(r"[+-]?[0-9]{1,10}")
_HEX_GROUP = re.compile(r"[0-9A-Fa-f]{1,4}")
_KERBEROS = re.compile(r"[^/@]*(/[^/@]*)?@[^/@]*")
# One attribute of a distinguished name: a keyword or an OID, "=", then a value that is a quoted string, "#hex", or
# characters of which the special ones are escaped (RFC 2253 section 3; leading and inner blanks are tolerated).
_DN_PAIR = re.compile(
    r"\s*([A-Za-z][A-Za-z0-9]*|(?:[Oo][Ii][Dd]\.)?[0-9]+(?:\.[0-9]+)+)\s*=\s*"
    r'("(?:[^"\\]|\\.)*"\s*|#(?:[0-9A-Fa-f]{2})+\s*|(?:[^,;+"\\<>#=]|\\[0-9A-Fa-f]{2}|\\.|(?<!\s)[#=])*)'
)
_DN_KEYWORDS = frozenset(
    "CN C L S ST O OU T IP STREET DC DNQUALIFIER DNQ SURNAME GIVENNAME INITIALS GENERATION EMAIL EMAILADDRESS UID "
    "SERIALNUMBER".split()
)

# Java's MessageDigest names, upper case, to hashlib's.
_HASHES = {
    "MD5": "md5",
    "SHA": "sha1",
    "SHA1": "sha1",
    "SHA-1": "sha1",
    "SHA-224": "sha224",
    "SHA224": "sha224",
    "SHA-256": "sha256",
    "SHA256": "sha256",
    "SHA-384": "sha384",
    "SHA384": "sha384",
    "SHA-512": "sha512",
    "SHA512": "sha512",
    "SHA-512/224": "sha512_224",
    "SHA-512/256": "sha512_256",
    "SHA3-224": "sha3_224",
    "SHA3-256": "sha3_256",
    "SHA3-384": "sha3_384",
    "SHA3-512": "sha3_512",
}


def hash_name(algorithm: str) -> str:
    """
    Return hashlib's name for one of Java's hash algorithm names, in any case.

    @raise ValueError: this Python has no such algorithm.
    """
    name = _HASHES.get(algorithm.strip().upper())
    if name is None or name not in hashlib.algorithms_available:
        known = ", ".join(sorted(key for key, value in _HASHES.items() if value in hashlib.algorithms_available))
        raise ValueError(f"unknown hash algorithm {algorithm!r}; known: {known}")
    return name


def generate_digest(data: bytes | str, algorithm: str = "SHA1") -> str:
    """
    Return the digest id of C{user:password}: the user, a colon, and the base64 of the hash over everything.

    Bytes are read as UTF-8 and written again before they are hashed, so that malformed ones count as U+FFFD, as in
    Java.  Without a colon everything is the user's name.

    @raise ValueError: unknown algorithm.
    """
    text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
    # A lone surrogate, which only a str can bring, is a question mark to Java's encoder.
    raw = text.encode("utf-8", "replace")
    hashed = hashlib.new(hash_name(algorithm), raw, usedforsecurity=False).digest()
    return f"{text.partition(':')[0]}:{b64encode(hashed).decode('ascii')}"


def valid_digest(acl_id: str) -> bool:
    """Tell whether an ACL may name this digest id: two parts at a colon, empty ones at the end not counted."""
    parts = acl_id.rstrip(":").split(":")
    return len(parts) == 2


def _ipv4(text: str) -> bytes | None:
    parts = text.split(".")
    if len(parts) != 4 or not all(_INTEGER.fullmatch(part) for part in parts):
        return None
    numbers = [int(part) for part in parts]
    return bytes(numbers) if all(0 <= number <= 255 for number in numbers) else None


def _ipv6(text: str) -> bytes | None:
    head, gap, tail = text.partition("::")
    left = head.split(":") if head else []
    right = tail.split(":") if tail else []
    missing = 8 - len(left) - len(right)
    if (missing < 1 if gap else missing) or not all(_HEX_GROUP.fullmatch(group) for group in left + right):
        return None
    groups = [*left, *["0"] * missing, *right]
    return b"".join(int(group, 16).to_bytes(2, "big") for group in groups)


@lru_cache(maxsize=4096)
def _address(text: str) -> bytes | None:
    """Return the 4 or 16 bytes of an address, C{None} if it is none."""
    return _ipv4(text) or _ipv6(text)


@lru_cache(maxsize=4096)
def _network(acl_id: str) -> tuple[int, int, int] | None:
    """Return (bytes of an address, bits to drop, what remains) of C{addr[/bits]}, C{None} if malformed."""
    text, slash, bits_text = acl_id.partition("/")
    address = _address(text)
    if address is None:
        return None
    size = 8 * len(address)
    bits = size
    if slash:
        if not _INTEGER.fullmatch(bits_text):
            return None
        bits = int(bits_text)
        if not 0 <= bits <= size:
            return None
    drop = size - bits
    return len(address), drop, int.from_bytes(address, "big") >> drop


def valid_ip(acl_id: str) -> bool:
    """Tell whether an ACL may name this: an IPv4 or IPv6 address, optionally with C{/bits}."""
    return _network(acl_id) is not None


def match_ip(identity: str, acl_id: str) -> bool:
    """Tell whether an address lies within C{addr[/bits]}.  IPv4 and IPv6 never match each other."""
    network = _network(acl_id)
    address = _address(identity)
    if network is None or address is None:
        return False
    size, drop, prefix = network
    return len(address) == size and int.from_bytes(address, "big") >> drop == prefix


def valid_sasl(acl_id: str) -> bool:
    """Tell whether an ACL may name this: any text without C{@}, or C{name[/host]@REALM}."""
    return "@" not in acl_id or _KERBEROS.fullmatch(acl_id) is not None


def valid_x509(acl_id: str) -> bool:
    """Tell whether a text is a distinguished name (RFC 2253, C{;} as separator allowed); the empty one is."""
    at = 0
    if not acl_id.strip():
        return True
    while True:
        pair = _DN_PAIR.match(acl_id, at)
        if pair is None:
            return False
        keyword = pair[1].upper()
        if keyword[0].isalpha() and not keyword.startswith("OID.") and keyword not in _DN_KEYWORDS:
            return False
        at = pair.end()
        if at == len(acl_id):
            return True
        if acl_id[at] not in ",;+":
            return False
        at += 1


class Scheme(Protocol):
    """
    What the ACL check needs to know about one scheme.  Embedders may bring their own.

    @ivar name: as it stands in ACL entries.
    @ivar authenticated: an identity of this scheme may stand for C{auth} in an ACL.
    """

    name: str
    authenticated: bool

    def valid(self, acl_id: str) -> bool:
        """Tell whether an ACL entry may carry this id."""

    def matches(self, identity: str, acl_id: str) -> bool:
        """Tell whether a connection's identity is what an ACL entry names."""

    def user_name(self, identity: str) -> str:
        """Return what whoAmI shows of an identity."""


class DigestScheme:
    """Scheme C{digest}: C{user:base64 hash}, compared as text."""

    name = "digest"
    authenticated = True

    def valid(self, acl_id: str) -> bool:
        """See L{Scheme.valid}."""
        return valid_digest(acl_id)

    def matches(self, identity: str, acl_id: str) -> bool:
        """See L{Scheme.matches}."""
        return identity == acl_id

    def user_name(self, identity: str) -> str:
        """Return the part before the first colon."""
        return identity.partition(":")[0]


class IpScheme:
    """Scheme C{ip}: the client's address, within C{addr[/bits]}."""

    name = "ip"
    authenticated = False

    def valid(self, acl_id: str) -> bool:
        """See L{Scheme.valid}."""
        return valid_ip(acl_id)

    def matches(self, identity: str, acl_id: str) -> bool:
        """See L{Scheme.matches}."""
        return match_ip(identity, acl_id)

    def user_name(self, identity: str) -> str:
        """Return the address."""
        return identity


class SaslScheme:
    """
    Scheme C{sasl}: names that SASL proved.

    @ivar anyone: the entry's id that every identity matches (C{letAnySaslUserDoX}), or C{None}.
    """

    name = "sasl"
    authenticated = True

    def __init__(self, anyone: str | None = None) -> None:
        self.anyone = anyone

    def valid(self, acl_id: str) -> bool:
        """See L{Scheme.valid}."""
        return valid_sasl(acl_id)

    def matches(self, identity: str, acl_id: str) -> bool:
        """See L{Scheme.matches}."""
        return identity in ("super", acl_id) or (self.anyone is not None and acl_id == self.anyone)

    def user_name(self, identity: str) -> str:
        """Return the whole id."""
        return identity


class X509Scheme:
    """
    Scheme C{x509}: the subject of a client certificate.

    @ivar super_user: the subject that matches every entry (C{X509AuthenticationProvider.superUser}), or C{None}.
    """

    name = "x509"
    authenticated = True

    def __init__(self, super_user: str | None = None) -> None:
        self.super_user = super_user

    def valid(self, acl_id: str) -> bool:
        """See L{Scheme.valid}."""
        return valid_x509(acl_id)

    def matches(self, identity: str, acl_id: str) -> bool:
        """See L{Scheme.matches}."""
        return identity == acl_id or (self.super_user is not None and identity == self.super_user)

    def user_name(self, identity: str) -> str:
        """Return the whole subject."""
        return identity


class KeyScheme:
    """Scheme C{key}, the sample provider of upstream: ids are opaque and equal or not."""

    name = "key"
    authenticated = True

    def valid(self, acl_id: str) -> bool:
        """See L{Scheme.valid}."""
        return True

    def matches(self, identity: str, acl_id: str) -> bool:
        """See L{Scheme.matches}."""
        return identity == acl_id

    def user_name(self, identity: str) -> str:
        """Return the whole id."""
        return identity


class ForeignScheme(KeyScheme):
    """A scheme that another program brings: its ids are opaque, too, and equal or not."""

    def __init__(self, name: str) -> None:
        self.name = name


class EnsembleScheme:
    """Scheme C{ensemble}: names an ensemble to connect to and never anybody's rights."""

    name = "ensemble"
    authenticated = False

    def valid(self, acl_id: str) -> bool:
        """No ACL may name it."""
        return False

    def matches(self, identity: str, acl_id: str) -> bool:
        """Nothing matches."""
        return False

    def user_name(self, identity: str) -> str:
        """Return the whole id."""
        return identity


class Schemes:
    """
    The schemes of one server.

    The schemes C{world}, C{auth} and C{super} are no providers and cannot be added: L{zktwisted.tree.acl} knows
    them itself.

    @ivar by_name: name to L{Scheme}.
    """

    __slots__ = ("by_name",)

    def __init__(self, schemes: Iterable[Scheme] | None = None) -> None:
        """
        @param schemes: what is there besides C{ip}; C{None} is upstream's default: C{digest}.
        """
        self.by_name: dict[str, Scheme] = {}
        self.add(IpScheme())
        for scheme in (DigestScheme(),) if schemes is None else schemes:
            self.add(scheme)

    def add(self, scheme: Scheme) -> None:
        """
        Add a scheme, or replace the one of its name.

        @raise ValueError: its name is one of those that ACLs reserve.
        """
        if scheme.name in ("world", "auth", "super"):
            raise ValueError(f"{scheme.name!r} is not a scheme that can be provided")
        self.by_name[scheme.name] = scheme

    def get(self, name: str) -> Scheme | None:
        """Return a scheme, C{None} if the server does not have it."""
        return self.by_name.get(name)

    def user_name(self, scheme: str, identity: str) -> str:
        """Return what whoAmI shows of an identity: nothing for a scheme that is no provider (C{super})."""
        known = self.by_name.get(scheme)
        return known.user_name(identity) if known is not None else ""
