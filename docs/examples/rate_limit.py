"""A ZooKeeper server that lets each session write so many times a second."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from zope.interface import implementer

from zktwisted import ServerConfig, ZooKeeperService
from zktwisted.interfaces import IRequestProcessor


@implementer(IRequestProcessor)
class RateLimit:
    """Holds a session's writes until it is time for them."""

    def __init__(self, clock: Any, pause: float, behind: Any) -> None:
        self.clock = clock
        self.pause = pause
        self.behind = behind
        self.next_at: dict[int, float] = {}
        self.held: dict[int, IDelayedCall] = {}

    def process_request(self, request: Any) -> None:
        now = self.clock.seconds()
        due = max(now, self.next_at.get(request.session_id, now))
        self.next_at[request.session_id] = due + self.pause
        if due == now:
            self.behind.process_request(request)
        else:
            self.held[id(request)] = self.clock.callLater(due - now, self.let_go, request)

    def let_go(self, request: Any) -> None:
        del self.held[id(request)]
        self.behind.process_request(request)

    def shutdown(self) -> None:
        for call in self.held.values():
            call.cancel()
        self.held.clear()


async def main(reactor: Any, directory: str) -> None:
    """Serve on port 2181, ten writes a second for each session."""
    config = ServerConfig(data_dir=directory, client_port=2181)
    service = ZooKeeperService(reactor, config, processors=[partial(RateLimit, reactor, 0.1)])
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    service.startService()
    await service.when_serving()
    await Deferred()


if __name__ == "__main__":
    task.react(lambda reactor: Deferred.fromCoroutine(main(reactor, sys.argv[1])))
