"""
What other programs may plug into the server, as zope interfaces.

This module names the places and the promises; it holds no behaviour and imports no room of the server.

- L{IAuthenticationProvider}: a scheme by which clients say who they are.
- L{IRequestProcessor}: a stage in front of, or within, the chain that answers requests.
"""

from __future__ import annotations

from zope.interface import Attribute, Interface

__all__ = ["IAuthenticationProvider", "IRequestProcessor"]


class IAuthenticationProvider(Interface):
    """
    One scheme by which clients say who they are.

    The stock providers C{ip}, C{digest} and C{ensemble} are in L{zktwisted.edge.auth}.
    A scheme of one's own is registered with L{zktwisted.edge.auth.AuthProviders.add}.
    """

    scheme = Attribute("The scheme's name as it stands in ACL entries and auth packets, a C{str}.")

    def authenticate(data: bytes | None, address: str) -> object:  # noqa: N805 (zope interfaces have no self)
        """
        Judge the contents of one auth packet.

        @param data: the packet's auth bytes; C{None} for a null buffer.
        @param address: the client's address in Java's textual form (see L{zktwisted.edge.auth.java_address}).

        @return: a sequence of L{zktwisted.wire.proto.Id}, the identities that the connection gains (may be
            empty: accepted, nothing gained).

        @raise zktwisted.edge.auth.AuthFailedError: the client is refused: it is answered AUTHFAILED and the
            connection is closed.
        @raise zktwisted.edge.auth.AuthDisconnectError: the connection is closed without an answer.
        """


class IRequestProcessor(Interface):
    """
    One stage of the chain that answers a client's requests.

    A stage in front of the chain (a rate limit, a recorder, a refusal) keeps the next stage and calls its
    C{process}, or answers by itself.
    """

    def process(request: object) -> object:  # noqa: N805 (zope interfaces have no self)
        """
        Answer one request or pass it on.

        Called once per request, in the order in which the connection sent them, in the reactor thread.
        The chain asks C{type(result) is bytes} once; whatever waits keeps its place, so replies leave in
        request order even when a later one is ready first.

        @param request: what the client sent: session id, cxid, op code, body and the connection's identities.
            A stage may look, but must not change it.

        @return: C{bytes}, the reply without its length field, ready now; a Deferred that fires with such
            bytes, or with C{None} when the connection is gone; or C{None} when there is nothing to send.
        """
