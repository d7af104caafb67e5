"""A ZooKeeper server and a web page about it, in one process."""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.web.resource import Resource
from twisted.web.server import Site

from zktwisted import ServerConfig, ZooKeeperService


class Status(Resource):
    """Shows how the server is."""

    isLeaf = True

    def __init__(self, service: ZooKeeperService) -> None:
        super().__init__()
        self.service = service

    def render_GET(self, request: Any) -> bytes:
        return f"{self.service.status()}\n".encode()


async def main(reactor: Any, directory: str) -> None:
    """Start both, say where they are, and run until somebody stops the process."""
    config = ServerConfig(data_dir=directory, client_port=0, client_port_address="127.0.0.1")
    service = ZooKeeperService(reactor, config)
    # Before the process ends, what is under way is answered and the log is flushed.
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    service.startService()
    await service.when_serving()
    web = reactor.listenTCP(0, Site(Status(service)), interface="127.0.0.1")
    print("clients", service.addresses[0].port, "web", web.getHost().port, flush=True)
    await Deferred()


if __name__ == "__main__":
    task.react(lambda reactor: Deferred.fromCoroutine(main(reactor, sys.argv[1])))
