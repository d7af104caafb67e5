"""
Which server is tried next, and how long after the last.

It knows the list of servers that a program gave, in an order of its own, and refuses to know what became of a
connection but that it was one.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING, Any

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

if TYPE_CHECKING:
    from zktwisted.client.tls import TlsOptions

__all__ = ["Hosts", "connect_seconds", "endpoints_of", "parse_hosts"]

DEFAULT_PORT = 2181
_FIRST_PAUSE, _LAST_PAUSE = 0.2, 10.0
"""Seconds after the first and after any later round through all servers."""
_STEP = 0.05
"""Seconds, at most, from one server to the next: not all clients of a dead one come to the next at the same moment."""


def parse_hosts(text: str) -> tuple[list[tuple[str, int]], str]:
    """
    Read a connect string: C{"one:2181,two:2181,[::1]:2181/chroot"}.

    @return: hosts and ports, and the chroot, empty without one.
    @raise ValueError: it names no server, a port that is none, or a chroot that is no path.
    """
    text = text.strip()
    names, slash, chroot = text.partition("/")
    chroot = ("/" + chroot).rstrip("/") if slash else ""
    if "//" in chroot:
        raise ValueError(f"{chroot!r} is no path")
    found = []
    for name in names.split(","):
        name = name.strip()
        if not name:
            continue
        host, colon, port = name.rpartition(":")
        if name.endswith("]") or not colon or (":" in host and not host.startswith("[")):
            host, port = name, str(DEFAULT_PORT)
        if not port.isdecimal() or not 0 < int(port) < 65536:
            raise ValueError(f"{port!r} is no port ({name!r})")
        found.append((host.removeprefix("[").removesuffix("]"), int(port)))
    if not found:
        raise ValueError(f"{text!r} names no server")
    return found, chroot


def connect_seconds(wanted: float | None, session_timeout: float, servers: int) -> float:
    """Return how long an attempt may take: what is wanted, or a server's share of the session timeout."""
    return wanted or max(session_timeout / servers, 1.0)


def endpoints_of(
    reactor: Any,
    hosts: str | IStreamClientEndpoint | Sequence[IStreamClientEndpoint],
    session_timeout: float,
    connect_timeout: float | None,
    tls: TlsOptions | None,
) -> tuple[list[IStreamClientEndpoint], str]:
    """
    Return where the servers are, and the chroot that a connect string ends with.

    @raise ValueError: no server is named, or in a way that is none.
    """
    if isinstance(hosts, str):
        addresses, chroot = parse_hosts(hosts)
        seconds = connect_seconds(connect_timeout, session_timeout, len(addresses))
        return [_endpoint(reactor, host, port, seconds, tls) for host, port in addresses], chroot
    if tls is not None:
        raise ValueError("tls goes with a connect string: endpoints bring their own")
    endpoints = [hosts] if IStreamClientEndpoint.providedBy(hosts) else list(hosts)
    if not endpoints:
        raise ValueError("no server is named")
    return endpoints, ""


def _endpoint(reactor: Any, host: str, port: int, timeout: float, tls: TlsOptions | None) -> IStreamClientEndpoint:
    """Return where one is, behind TLS if that is wanted; a name is looked up anew at each attempt."""
    endpoint: IStreamClientEndpoint
    if isIPAddress(host):
        endpoint = TCP4ClientEndpoint(reactor, host, port, timeout)
    elif isIPv6Address(host):
        endpoint = TCP6ClientEndpoint(reactor, host, port, timeout)
    else:
        endpoint = HostnameEndpoint(reactor, host, port, timeout)
    if tls is None:
        return endpoint
    from zktwisted.client.tls import TlsEndpoint

    return TlsEndpoint(endpoint, tls(host), reactor)


@implementer(IStreamClientEndpoint)
class Hosts:
    """
    All servers as one endpoint: each attempt is at the next of them.

    @ivar failures: attempts since the last connection that became a session's.
    @ivar trouble: why the last one failed; C{None}: it did not.
    """

    def __init__(self, endpoints: Sequence[IStreamClientEndpoint], entropy: Random) -> None:
        """
        @param endpoints: where the servers are; their order is not kept.
        @param entropy: decides about order and pauses.
        """
        self._endpoints = list(endpoints)
        self._entropy = entropy
        entropy.shuffle(self._endpoints)
        self._next = 0
        self.failures = 0
        self.trouble: str | None = None

    def __len__(self) -> int:
        return len(self._endpoints)

    def __repr__(self) -> str:
        return f"<{len(self._endpoints)} servers>"

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """See C{IStreamClientEndpoint}."""
        endpoint = self._endpoints[self._next]
        self._next = (self._next + 1) % len(self._endpoints)
        made: Deferred[IProtocol] = endpoint.connect(protocolFactory)
        return made.addErrback(self._failed)

    def _failed(self, failure: Failure) -> Failure:
        self.trouble = failure.getErrorMessage()
        return failure

    def probe(self, number: int) -> IStreamClientEndpoint:
        """Return one of the servers, to be asked something without making it the next."""
        return self._endpoints[number % len(self._endpoints)]

    def prefer(self, number: int) -> None:
        """Let the next attempt be at this one."""
        self._next = number % len(self._endpoints)

    def pause(self, attempt: int = 0) -> float:
        """
        Return how long to wait before the next attempt, in seconds.

        A server that is lost is a reason to ask the next one, not to wait; only who has asked all of them in vain waits
        longer and longer.

        @param attempt: Twisted's count, which begins anew with each connection, whatever became of it; not used.
        """
        self.failures += 1
        rounds, others = divmod(self.failures - 1, len(self._endpoints))
        if others or not rounds:
            return self._entropy.uniform(0, _STEP)
        pause = min(_FIRST_PAUSE * 2.0 ** min(rounds - 1, 10), _LAST_PAUSE)
        return pause * self._entropy.uniform(0.5, 1)
