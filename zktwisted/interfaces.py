"""
What other programs may plug into the server, as zope interfaces.

This module names the places and the promises; it holds no behaviour and imports no room of the server.

- L{IAuthenticationProvider}: a scheme by which clients say who they are.
"""

from __future__ import annotations

from zope.interface import Attribute, Interface

__all__ = ["IAuthenticationProvider"]


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
