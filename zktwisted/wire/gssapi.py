"""
GSSAPI (RFC 4752), as Java speaks it: both sides, as values.

The two sides exchange tokens until each knows the other, which is a L{Context}'s matter; then the server says which
protection it offers for what follows, and the client which of that it takes, and as whom it wants to act.  Only C{auth}
is offered and taken, that is nothing but authentication: protection is TLS's.

This module refuses to know Kerberos, connections, and what a name may do.  No error that it raises holds a token.

Rules: spec: client-protocol 9.3, election 3.1.
"""

from __future__ import annotations

from typing import Protocol

from zktwisted.wire.sasl import SaslError

__all__ = ["TOKEN_MAX", "Context", "GssClient", "GssResponse", "GssServer"]

TOKEN_MAX = 65536
"""The longest token that is believed, in bytes; tickets that tell all groups of somebody are long."""

_NO_LAYER = 1
# Which layers, and in three bytes how much may be wrapped at once by them: nothing, without any (RFC 4752, 3.3).
_OFFER = _CHOICE = bytes((_NO_LAYER, 0, 0, 0))
_TOKENS_MAX = 8


class Context(Protocol):
    """
    One exchange of some mechanism, seen from one side.

    @ivar complete: whether the two sides know one another, as far as they have asked to.
    """

    complete: bool

    @property
    def peer(self) -> str:
        """Who the other side is, when it is complete."""

    @property
    def own(self) -> str:
        """As whom it knows this side, when it is complete."""

    def step(self, token: bytes) -> bytes:
        """
        Take in a token, an empty one to begin with, and return what to answer, which may be empty.

        @raise SaslError: there is nothing to answer, and never will be.
        """

    def wrap(self, message: bytes) -> bytes:
        """
        Make a token of a message by which the other side sees from whom it comes; it can be read by anybody.

        @raise SaslError: it cannot be done any more.
        """

    def unwrap(self, token: bytes) -> bytes:
        """
        Return the message in a token.

        @raise SaslError: it does not come from the other side, or is a second one.
        """


class GssResponse:
    """
    What has been shown: a credential that needs no more proof.

    @ivar username: the name that the other side has shown, as the mechanism writes it.
    @ivar authzid: as whom it wants to act; itself, unless it says otherwise.
    @ivar answer: what is still to be said to it, which is nothing.
    """

    answer: bytes | None = None

    def __init__(self, username: str, authzid: str) -> None:
        self.username = username
        self.authzid = authzid

    def __repr__(self) -> str:
        return f"<GssResponse of {self.username!r}>"


class GssServer:
    """The side that wants to know who the other is.  For one exchange."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._tokens = 0
        self._offered = False
        self._done = False

    def step(self, token: bytes) -> bytes | GssResponse:
        """
        Take in a token of the client, and return what to say next, or who it is.

        @raise SaslError: that will never be known.
        """
        self._tokens += 1
        if self._done or self._tokens > _TOKENS_MAX:
            raise SaslError("a token after the end")
        if len(token) > TOKEN_MAX:
            raise SaslError(f"a token of {len(token)} bytes")
        context = self._context
        if self._offered:
            self._done = True
            return self._chosen(context.unwrap(token))
        if not context.complete:
            if not token:
                raise SaslError("an empty token, with which other mechanisms begin")
            out = context.step(token)
            if out or not context.complete:
                return out
        elif token:
            raise SaslError("a token where an empty one belongs")
        self._offered = True
        return context.wrap(_OFFER)

    def _chosen(self, choice: bytes) -> GssResponse:
        if len(choice) < len(_CHOICE) or choice[0] != _NO_LAYER:
            raise SaslError("another quality of protection than auth")
        peer = self._context.peer
        try:
            authzid = choice[len(_CHOICE) :].decode("utf-8")
        except UnicodeDecodeError:
            raise SaslError("a name that is no text") from None
        return GssResponse(peer, authzid or peer)


class GssClient:
    """The side that says who it is, and wants to know whether the server is what it was taken for."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._responded = False

    def begin(self) -> bytes:
        """
        Return the first token.  What knows for the context who it is may have to be asked, which takes its time.

        @raise SaslError: this side cannot show who it is.
        """
        return self._context.step(b"")

    def response(self, challenge: bytes) -> bytes:
        """
        Respond to a token of the server.

        @raise SaslError: it cannot be responded to, or the server is somebody else.
        """
        if self._responded:
            raise SaslError("a challenge after the end")
        if len(challenge) > TOKEN_MAX:
            raise SaslError(f"a challenge of {len(challenge)} bytes")
        context = self._context
        if not context.complete:
            return context.step(challenge)
        offer = context.unwrap(challenge)
        if len(offer) != len(_OFFER) or not offer[0] & _NO_LAYER:
            raise SaslError("the server wants more protection than auth")
        self._responded = True
        return context.wrap(_CHOICE + context.own.encode())

    def verify(self, answer: bytes) -> None:
        """
        Make sure that the server had to say all that shows who it is.

        @raise SaslError: it had not, or says too much.
        """
        if not self._responded or answer:
            raise SaslError("the server has not shown who it is")
