"""Access control lists as programs write them, and the identity that digest makes of a name and a password."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha1

from zktwisted.wire.ops import Perm
from zktwisted.wire.proto import ACL, OPEN_ACL, Id

__all__ = ["ACL", "CREATOR_ALL_ACL", "OPEN_ACL", "READ_ACL", "Id", "Perm", "digest_id"]

CREATOR_ALL_ACL = (ACL(Perm.ALL, Id("auth", "")),)
"""Whoever the client has authenticated as may do everything, others nothing."""

READ_ACL = (ACL(Perm.READ, Id("world", "anyone")),)
"""Everybody may read."""


def digest_id(user: str, password: str) -> Id:
    """Return the identity of who authenticates by the scheme C{digest} as C{user:password}."""
    # What ZooKeeper's servers compute; it guards nothing that is worth more than that.
    digest = sha1(f"{user}:{password}".encode(), usedforsecurity=False).digest()
    return Id("digest", f"{user}:{b64encode(digest).decode()}")
