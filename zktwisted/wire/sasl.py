"""
DIGEST-MD5 (RFC 2831), as Java speaks it: both sides, as values.

L{DigestServer} challenges and judges, L{DigestClient} responds and verifies.  Only C{auth} is offered, that is nothing
but authentication; C{md5-sess}, one exchange a nonce.  Passwords are compared by L{DigestResponse}, which has the form
of a credential of C{twisted.cred} (C{IUsernameHashedPassword}), so that any checker may know them.

This module refuses to know connections and where passwords are kept.  Nonces are handed in.  No error that it raises,
and no C{repr}, holds what a peer could use.

Rules: spec: client-protocol 9.3, election 3.1.
"""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import md5
from hmac import compare_digest

__all__ = ["NONCE_BYTES", "DigestClient", "DigestResponse", "DigestServer", "SaslError", "directives"]

NONCE_BYTES = 30
"""How many random bytes make a nonce."""

_CHALLENGE_MAX = 2048
_RESPONSE_MAX = 4096
_FIRST = b"00000001"

_SEPARATORS = rb'()<>@,;:\\"/\[\]?={} \t'
# Nothing is given back once it has matched: anybody may send a token, and with two runs of blanks to divide between
# each other the longest token would cost a seventh of a second.
_DIRECTIVE = re.compile(
    rb"[\s,]*+(?P<name>[^\x00-\x20\x7f-\xff" + _SEPARATORS + rb"]++)\s*+=\s*+"
    rb'(?:"(?P<quoted>(?:[^"\\]|\\.)*+)"|(?P<plain>[^\x00-\x20\x7f",]*+))\s*+(?=,|\Z)',
    re.DOTALL,
)
_END = re.compile(rb"[\s,]*+\Z")


class SaslError(Exception):
    """The other side has not shown that it is who it says; the message may be logged, and is for nobody's peer."""


def directives(token: bytes) -> dict[str, list[bytes]]:
    """
    Take a challenge or a response apart.

    @return: the values of each directive, by its name in lower case, in the order in which they stand.
    @raise SaslError: it has another form.
    """
    found: dict[str, list[bytes]] = {}
    position = 0
    while not _END.match(token, position):
        match = _DIRECTIVE.match(token, position)
        if match is None:
            raise SaslError("a token that is no list of directives")
        quoted, plain = match["quoted"], match["plain"]
        value = plain if quoted is None else re.sub(rb"\\(.)", rb"\1", quoted, flags=re.DOTALL)
        found.setdefault(match["name"].decode().lower(), []).append(value)
        position = match.end()
    return found


def _only(found: dict[str, list[bytes]], name: str) -> bytes | None:
    values = found.get(name)
    if values is None:
        return None
    if len(values) > 1:
        raise SaslError(f"{name} is there twice")
    return values[0]


def _needed(found: dict[str, list[bytes]], name: str) -> bytes:
    value = _only(found, name)
    if value is None:
        raise SaslError(f"{name} is missing")
    return value


def _quoted(value: bytes) -> bytes:
    return b'"' + re.sub(rb'(["\\])', rb"\\\1", value) + b'"'


def _hashable(text: str) -> bytes:
    """In ISO 8859-1 as far as that goes, in UTF-8 else: RFC 2831, 2.1.2.1."""
    try:
        return text.encode("iso-8859-1")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _md5(data: bytes) -> bytes:
    return md5(data, usedforsecurity=False).digest()


def _hex(data: bytes) -> bytes:
    return _md5(data).hex().encode()


class _Proof:
    """What both sides make of a password and of what they have told each other."""

    def __init__(
        self, username: str, realm: str, nonce: bytes, cnonce: bytes, uri: bytes, count: bytes, authzid: bytes | None
    ) -> None:
        self._user = _hashable(username) + b":" + _hashable(realm) + b":"
        self._session = b":" + nonce + b":" + cnonce + (b"" if authzid is None else b":" + authzid)
        self._middle = b":" + nonce + b":" + count + b":" + cnonce + b":auth:"
        self._uri = uri

    def key(self, password: str) -> bytes:
        """The secret of this exchange."""
        return _hex(_md5(self._user + _hashable(password)) + self._session)

    def response(self, key: bytes) -> bytes:
        """What the client shows."""
        return _hex(key + self._middle + _hex(b"AUTHENTICATE:" + self._uri))

    def answer(self, key: bytes) -> bytes:
        """What the server shows in return."""
        return _hex(key + self._middle + _hex(b":" + self._uri))


class DigestResponse:
    """
    The response of a client: a credential that can be compared with a password without containing one.

    @ivar username: who the client says that it is.
    @ivar authzid: as whom it wants to act; itself, unless it says otherwise.
    """

    def __init__(self, username: str, authzid: str, proof: _Proof, response: bytes) -> None:
        self.username = username
        self.authzid = authzid
        self._proof = proof
        self._response = response
        self._key: bytes | None = None

    def checkPassword(self, password: str | bytes) -> bool:
        """See C{IUsernameHashedPassword}.  How long it takes does not tell how much of it was right."""
        text = password.decode("utf-8", "surrogateescape") if isinstance(password, bytes) else password
        key = self._proof.key(text)
        if not compare_digest(self._proof.response(key), self._response):
            return False
        self._key = key
        return True

    @property
    def answer(self) -> bytes:
        """
        The token that shows the client that the server knows the password, too.

        @raise SaslError: no password has fit.
        """
        if self._key is None:
            raise SaslError("nothing has been proven yet")
        return b"rspauth=" + self._proof.answer(self._key)

    def __repr__(self) -> str:
        return f"<DigestResponse of {self.username!r}>"


class DigestServer:
    """The side that wants to know who the other is.  For one exchange."""

    def __init__(self, service: str, realm: str, nonce: bytes) -> None:
        """
        @param service: the name of the protocol; with the realm it is what the client says that it wants to talk to.
        @param nonce: L{NONCE_BYTES} bytes that have never been used.
        """
        self._uri = f"{service}/{realm}".encode()
        self._realm = realm
        self._nonce = b64encode(nonce)
        self._challenged = False
        self._responded = False

    def step(self, token: bytes) -> bytes | DigestResponse:
        """
        Take in a token of the client, and return the challenge, or its response.

        @raise SaslError: see L{response}.
        """
        if self._challenged:
            return self.response(token)
        # Whatever the first token is: mechanisms that begin with the client need none here.
        self._challenged = True
        return self.challenge

    @property
    def challenge(self) -> bytes:
        """The first token, in answer to whatever the client begins with."""
        return b'realm="%s",nonce="%s",charset=utf-8,algorithm=md5-sess' % (self._realm.encode(), self._nonce)

    def response(self, token: bytes) -> DigestResponse:
        """
        Read the client's response, which is still to be compared with its password.

        @raise SaslError: it does not belong to the challenge, or is a second one.
        """
        if self._responded:
            raise SaslError("a second response to one challenge")
        self._responded = True
        if len(token) > _RESPONSE_MAX:
            raise SaslError(f"a response of {len(token)} bytes")
        found = directives(token)
        charset = _only(found, "charset")
        if charset is not None and charset.lower() != b"utf-8":
            raise SaslError("another charset than UTF-8")
        if not compare_digest(_needed(found, "nonce"), self._nonce):
            raise SaslError("a response to another challenge")
        if _needed(found, "nc") != _FIRST:
            raise SaslError("a nonce is used a second time")
        if (_only(found, "qop") or b"auth").lower() != b"auth":
            raise SaslError("another quality of protection than auth")
        uri = _needed(found, "digest-uri")
        if uri.lower() != self._uri.lower():
            raise SaslError("a response for another service")
        cnonce = _needed(found, "cnonce")
        if not cnonce:
            raise SaslError("an empty cnonce")
        encoding = "iso-8859-1" if charset is None else "utf-8"
        authzid = _only(found, "authzid")
        try:
            username = _needed(found, "username").decode(encoding)
            realm = (_only(found, "realm") or b"").decode(encoding)
            authorized = username if not authzid else authzid.decode("utf-8")
        except UnicodeDecodeError:
            raise SaslError("a name that is no text") from None
        proof = _Proof(username, realm, self._nonce, cnonce, uri, _FIRST, authzid)
        return DigestResponse(username, authorized, proof, _needed(found, "response"))


class DigestClient:
    """The side that says who it is.  For one exchange."""

    def __init__(
        self, service: str, server: str, username: str, password: str, nonce: bytes, authzid: str | None = None
    ) -> None:
        """
        @param service: the name of the protocol.
        @param server: the name of the server, after the service.
        @param nonce: L{NONCE_BYTES} bytes that have never been used.
        @param authzid: as whom to act, C{None}: not said.
        """
        self._uri = f"{service}/{server}".encode()
        self._username = username
        self._password = password
        self._cnonce = b64encode(nonce)
        self._authzid = None if authzid is None else authzid.encode()
        self._expected: bytes | None = None

    def begin(self) -> bytes:
        """Return the first token, which is empty: the server begins."""
        return b""

    @property
    def responded(self) -> bool:
        """Whether the challenge has come."""
        return self._expected is not None

    def response(self, challenge: bytes) -> bytes:
        """
        Respond to the server's challenge.

        @raise SaslError: it cannot be responded to.
        """
        if self.responded:
            raise SaslError("a second challenge")
        if len(challenge) > _CHALLENGE_MAX:
            raise SaslError(f"a challenge of {len(challenge)} bytes")
        found = directives(challenge)
        nonce = _needed(found, "nonce")
        if _needed(found, "algorithm").lower() != b"md5-sess":
            raise SaslError("another algorithm than md5-sess")
        offered = _only(found, "qop")
        if offered is not None and b"auth" not in re.split(rb"[\s,]+", offered.lower()):
            raise SaslError("the server wants more protection than auth")
        charset = _only(found, "charset")
        if charset is not None and charset.lower() != b"utf-8":
            raise SaslError("another charset than UTF-8")
        encoding = "utf-8" if charset else "iso-8859-1"
        realms = found.get("realm", [])
        try:
            realm = realms[0].decode(encoding) if realms else ""
            username = self._username.encode(encoding)
        except UnicodeError:
            raise SaslError("a name that the server cannot read") from None
        proof = _Proof(self._username, realm, nonce, self._cnonce, self._uri, _FIRST, self._authzid)
        key = proof.key(self._password)
        self._expected = proof.answer(key)
        parts = [b"charset=utf-8"] if charset else []
        parts.append(b"username=" + _quoted(username))
        if realms:
            parts.append(b"realm=" + _quoted(realms[0]))
        parts += [b"nonce=" + _quoted(nonce), b"nc=" + _FIRST, b"cnonce=" + _quoted(self._cnonce)]
        parts += [b"digest-uri=" + _quoted(self._uri), b"maxbuf=65536", b"response=" + proof.response(key), b"qop=auth"]
        if self._authzid is not None:
            parts.append(b"authzid=" + _quoted(self._authzid))
        return b",".join(parts)

    def verify(self, answer: bytes) -> None:
        """
        Make sure that the server knows the password as well.

        @raise SaslError: it does not.
        """
        expected, shown = self._expected, _needed(directives(answer[:_CHALLENGE_MAX]), "rspauth")
        if expected is None or not compare_digest(expected, shown):
            raise SaslError("the server does not know the password")
