"""
A login by SASL, DIGEST-MD5: what the client answers to a server's tokens.

One object is good for one connection.  It knows tokens, and refuses to know how they travel and what becomes of a
client that is not believed.

Rules: spec: client-protocol 9.3.
"""

from __future__ import annotations

from secrets import token_bytes

from zktwisted.wire.sasl import NONCE_BYTES, DigestClient, SaslError

__all__ = ["Login", "SaslError"]

_SERVICE, _SERVER = "zookeeper", "zk-sasl-md5"


class Login:
    """One exchange, which the client begins with an empty token."""

    def __init__(self, username: str, password: str) -> None:
        self._mechanism = DigestClient(_SERVICE, _SERVER, username, password, token_bytes(NONCE_BYTES))

    def answer(self, err: int, token: bytes | None) -> bytes | None:
        """
        Answer what the server has said.

        @param err: the code of its reply.
        @return: the next token; C{None}: each knows of the other that it has the password.
        @raise SaslError: one of them does not.
        """
        if err:
            raise SaslError(f"the server does not accept the password (error {err})")
        if token is None:
            # It has no SASL, or lets those in who failed: this client has asked to be known.
            raise SaslError("the server authenticates nobody by SASL")
        if not self._mechanism.responded:
            return self._mechanism.response(token)
        self._mechanism.verify(token)
        return None
