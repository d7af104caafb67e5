"""
What test cases inherit from to have a server: unittest's, trial's synchronous ones, and trial's that return Deferreds.

Knows when the servers of tests start and stop, and nothing about what is done to them.
"""

from __future__ import annotations

import atexit
from typing import TYPE_CHECKING, Any, ClassVar

from zktwisted.kit.threaded import TestServer

if TYPE_CHECKING:
    from collections.abc import Coroutine

    # What they are mixed into; at run time that is somebody else's class.
    from unittest import TestCase as _Case

    from zktwisted.kit.servers import Servers
else:
    _Case = object

__all__ = ["TrialZooKeeperMixin", "ZooKeeperMixin"]


class ZooKeeperMixin(_Case):
    """
    For C{unittest.TestCase} and trial's C{SynchronousTestCase}: a server for the class, clean for each test.

    @cvar zk_options: of L{TestServer}: C{{"members": 3}}, C{{"tls": True}}.
    @ivar zk_server: the L{TestServer}.
    @ivar zk_hosts: its connect string.
    """

    zk_options: ClassVar[dict[str, Any]] = {}
    zk_server: ClassVar[TestServer]

    @classmethod
    def setUpClass(cls) -> None:
        """Start the server."""
        super().setUpClass()
        cls.zk_server = TestServer(**cls.zk_options).start()
        cls.addClassCleanup(cls.zk_server.stop)

    def setUp(self) -> None:
        """Clean it."""
        super().setUp()
        case = type(self)
        if "zk_server" not in vars(case):  # trial runs no setUpClass
            case.zk_server = TestServer(**case.zk_options).start()
            atexit.register(case.zk_server.stop)
        self.zk_server.clean()

    @property
    def zk_hosts(self) -> str:
        """Where clients connect."""
        return self.zk_server.hosts


class TrialZooKeeperMixin(_Case):
    """
    For trial's asynchronous C{TestCase}: a server for each test, on the test's own reactor.

    @cvar zk_options: of L{Servers}.
    @ivar zk_servers: the L{Servers}: what waits is a coroutine, or after C{ensureDeferred} a Deferred.
    @ivar zk_hosts: the connect string.
    """

    zk_options: ClassVar[dict[str, Any]] = {}
    zk_servers: Servers
    zk_hosts: str

    def setUp(self) -> Any:
        """Start the server."""
        from twisted.internet.defer import Deferred

        return Deferred.fromCoroutine(self._zk_start())

    async def _zk_start(self) -> None:
        from twisted.internet import reactor
        from twisted.internet.defer import maybeDeferred

        from zktwisted.kit.servers import Servers

        await maybeDeferred(super().setUp)
        self.zk_servers = Servers(reactor, **self.zk_options)
        self.addCleanup(self._zk_stop)
        await self.zk_servers.start()
        self.zk_hosts = self.zk_servers.hosts

    def _zk_stop(self) -> Any:
        from twisted.internet.defer import Deferred

        stopping: Coroutine[Any, Any, None] = self.zk_servers.close()
        return Deferred.fromCoroutine(stopping)
