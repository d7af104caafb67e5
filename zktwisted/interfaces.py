"""
What other programs may plug into the server, as zope interfaces.

This module names the places and the promises; it holds no behaviour and imports no room of the server.

- L{IAuthenticationProvider}: a scheme by which clients say who they are.
- L{IRequestProcessor}: a stage of the chain that requests go through.
"""

from __future__ import annotations

from typing import Any

from zope.interface import Attribute, Interface

__all__ = ["IAuthenticationProvider", "IRequestProcessor"]


class IAuthenticationProvider(Interface):
    """
    One scheme by which clients say who they are.

    The stock providers C{ip}, C{digest}, C{ensemble} and C{x509} are in L{zktwisted.edge.auth}.

    A scheme of one's own is a plugin of Twisted's: an object that provides this and C{twisted.plugin.IPlugin}, in a
    module of C{twisted.plugins}.  It is asked only where the configuration names its scheme,
    C{authProvider.1=plugin:SCHEME}.  In ACLs its ids are text that is equal or not.
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
    One stage of the chain that requests go through, on their way to being agreed upon, applied and answered.

    The chains of the roles are made of such stages, and a program that embeds a server may put its own in front: it
    hands the server factories, and each is called with the next stage whenever a role begins.

    Such a stage sees what waits for an answer: the writes, syncs and closeSessions of this server's clients, as
    L{zktwisted.edge.requests.Request}.  Reads and pings are answered in place, before any chain.
    """

    def process_request(request: Any) -> None:  # noqa: N805 (zope interfaces have no self)
        """
        Take a request: hand it to the next stage's C{process_request}, now or later, or end it with its C{refuse}.

        Answers go out in the order in which a client asked: what is kept here holds up what the same client asks after
        it, and nobody else.  Must not raise.
        """

    def shutdown() -> None:
        """The role ends, its clients' connections are closed: let go of what is kept, there is nobody to answer."""
