"""The scheme C{token}: who has a name that was signed with our secret is that.  It belongs into C{twisted/plugins}."""

from __future__ import annotations

import os
from collections.abc import Sequence
from hmac import compare_digest, digest
from pathlib import Path

from twisted.plugin import IPlugin
from zope.interface import implementer

from zktwisted.edge.auth import AuthFailedError
from zktwisted.interfaces import IAuthenticationProvider
from zktwisted.wire.proto import Id


def sign(secret: bytes, name: str) -> bytes:
    """Make a token for a name: what a client sends in its auth packet."""
    return name.encode() + b":" + digest(secret, name.encode(), "sha256").hex().encode()


@implementer(IPlugin, IAuthenticationProvider)
class TokenProvider:
    """Compares tokens with the secret in the file that C{TOKEN_SECRET_FILE} names."""

    scheme = "token"

    def authenticate(self, data: bytes | None, address: str) -> Sequence[Id]:
        """See L{IAuthenticationProvider}."""
        secret = Path(os.environ["TOKEN_SECRET_FILE"]).read_bytes()
        name = (data or b"").partition(b":")[0].decode("utf-8", "replace")
        if not name or not compare_digest(sign(secret, name), data or b""):
            raise AuthFailedError("not signed with our secret")
        return (Id(self.scheme, name),)


provider = TokenProvider()
