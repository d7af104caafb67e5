"""A Twisted program that follows a node of ZooKeeper and stays alive when servers do not."""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet import task
from twisted.internet.defer import Deferred

from zktwisted import ZooKeeperClient
from zktwisted.client import State, WatchedEvent
from zktwisted.errors import ConnectionLossError, NoNodeError, SessionExpiredError


async def main(reactor: Any, hosts: str) -> None:
    """Print what /app/config says, now and whenever it changes, until it says "stop"."""
    client = ZooKeeperClient(reactor, hosts)
    stopped: Deferred[None] = Deferred()

    async def show(reason: WatchedEvent | State) -> None:
        """Called for each change, and for each state of the connection."""
        if not client.state.connected:
            return
        try:
            if isinstance(reason, State):
                # Connected: perhaps in a new session, which has no watch yet.  What changed before is told by nobody.
                await client.add_watch("/app/config", show)
            data, stat = await client.get("/app/config")
        except (ConnectionLossError, SessionExpiredError):
            return  # the next connection is a reason to look again
        except NoNodeError:
            return  # the watch tells when there is one
        print(stat.version, data.decode(), flush=True)
        if data == b"stop" and not stopped.called:
            stopped.callback(None)

    async with client:
        await client.ensure_path("/app")
        client.listen(show)
        await show(client.state)
        print("watching", flush=True)
        await stopped


if __name__ == "__main__":
    task.react(lambda reactor: Deferred.fromCoroutine(main(reactor, sys.argv[1])))
