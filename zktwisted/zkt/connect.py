"""
How C{zkt} comes to its clients: where the servers are, who it is there, and how long it tries.

Everything here was said on the command line or in the environment, and holds for all servers that a command talks to.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as TooLate
from twisted.internet.task import LoopingCall

from zktwisted.client import State, ZooKeeperClient
from zktwisted.client.hosts import parse_hosts
from zktwisted.errors import AuthFailedError, KeeperError
from zktwisted.zkt.status import Problem, Status

__all__ = ["Access"]

_PATIENCE = 10.0
"""Seconds for a connection, where nobody said how many."""
_HUNG_UP = ("closed cleanly", "lost in a non-clean")
"""Twisted's words for a connection that was made and ended by the other side."""
_GLANCE = 0.02
"""Seconds between two looks at what has become of the attempts."""


@dataclass
class Access:
    """
    @ivar hosts: the connect string.
    @ivar timeout: of sessions, in seconds.
    @ivar wait: seconds until a connection has to be there; C{None} gives up as soon as all servers have refused.
    @ivar auth: schemes and what they need.
    @ivar sasl: user and password for SASL.
    @ivar tls: for the client; C{None} without TLS.
    @ivar read_only: servers without a quorum will do.
    @ivar max_frame: C{jute.maxbuffer}.
    """

    hosts: str
    timeout: float = 30.0
    wait: float | None = None
    auth: tuple[tuple[str, str], ...] = ()
    sasl: tuple[str, str] | None = None
    tls: Callable[[str], Any] | None = None
    read_only: bool = False
    max_frame: int = 0xFFFFF

    def client(self, reactor: Any, hosts: str | None = None) -> ZooKeeperClient:
        """
        Return a client, not started.

        @param hosts: another connect string.
        @raise Problem: it is none.
        """
        options: dict[str, Any] = {}
        if self.sasl is not None:
            options["sasl"] = self.sasl
        if self.tls is not None:
            options["tls"] = self.tls
        try:
            return ZooKeeperClient(
                reactor,
                self.hosts if hosts is None else hosts,
                session_timeout=self.timeout,
                read_only=self.read_only,
                max_frame=self.max_frame,
                **options,
            )
        except ValueError as error:
            raise Problem(Status.USAGE, str(error), hint="write HOST:PORT,HOST:PORT/CHROOT") from None

    async def introduce(self, client: ZooKeeperClient) -> None:
        """
        Say who we are, and wait until that is accepted.

        Nothing is asked before: a server that does not accept it may close the connection with a request unread, and
        the reason is lost with it.
        """
        for scheme, data in self.auth:
            await client.add_auth(scheme, data)

    async def ready(self, reactor: Any, client: ZooKeeperClient, hosts: str | None = None) -> None:
        """
        Wait until a client is connected.

        @raise Problem: it will not be, or not in time.
        """
        if client.state.connected:
            return
        hosts = self.hosts if hosts is None else hosts
        waiting = client.connect()
        patience = _Patience(client, len(parse_hosts(hosts)[0]), waiting)
        if self.wait is None:
            patience.begin(reactor)
        seconds = _PATIENCE if self.wait is None else self.wait
        try:
            await waiting.addTimeout(seconds, reactor)
        except AuthFailedError:
            raise
        except (KeeperError, TooLate, CancelledError) as error:
            if isinstance(error, CancelledError) and not patience.over:
                raise
            raise Problem(
                Status.NO_CONNECTION,
                f"no connection with {hosts}" + (f": {_reason(client.trouble)}" if client.trouble else ""),
                hint=self._hint(client.trouble or ""),
            ) from None
        finally:
            patience.end()

    def _hint(self, trouble: str) -> str:
        """Tell what to do when there is no connection, for this reason."""
        if not any(words in trouble for words in _HUNG_UP):
            return "does a server run there? --server or ZKT_SERVER say where, --wait SECONDS how long to try"
        if self.tls is None:
            return "somebody is there and hangs up: a port for TLS wants --tls or --ca FILE"
        return "somebody is there and hangs up: is that a port without TLS?"


def _reason(trouble: str) -> str:
    """Return what a system said, without what Twisted says around it."""
    return re.sub(r"^.*: \d+: ", "", trouble).rstrip(".")


class _Patience:
    """
    Ends the waiting for a connection when every server has been tried in vain.

    @ivar over: whether that was so.
    """

    def __init__(self, client: ZooKeeperClient, servers: int, waiting: Deferred[State]) -> None:
        self._client = client
        # In a shell there may have been attempts before; they say nothing of now.
        self._enough = client.failures + servers
        self._waiting = waiting
        self._look = LoopingCall(self._looked)
        self.over = False

    def begin(self, reactor: Any) -> None:
        """Look, and look again."""
        self._look.clock = reactor
        self._look.start(_GLANCE)

    def end(self) -> None:
        """Look no more."""
        if self._look.running:
            self._look.stop()

    def _looked(self) -> None:
        if self._client.failures >= self._enough:
            self.over = True
            self.end()
            self._waiting.cancel()
