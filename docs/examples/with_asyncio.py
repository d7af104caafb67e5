"""An asyncio program that uses ZooKeeper: Twisted runs in asyncio's loop, and a Deferred becomes a Future."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from twisted.internet import asyncioreactor


async def main(reactor: Any, hosts: str) -> None:
    """Count to five in a node, with requests made side by side by asyncio's own means."""
    # Imported once the reactor is chosen.
    from zktwisted import ZooKeeperClient

    loop = asyncio.get_running_loop()
    client = ZooKeeperClient(reactor, hosts)
    await client.connect().asFuture(loop)
    changed: asyncio.Queue[str] = asyncio.Queue()
    await client.ensure_path("/counter").asFuture(loop)
    await client.add_watch("/counter", lambda event: changed.put_nowait(event.path)).asFuture(loop)
    await asyncio.gather(*[client.set("/counter", b"%d" % number).asFuture(loop) for number in range(1, 6)])
    for _ in range(5):
        async with asyncio.timeout(10):
            print("changed", await changed.get())
    data, stat = await client.get("/counter").asFuture(loop)
    print(data.decode(), "version", stat.version)
    await client.close().asFuture(loop)


if __name__ == "__main__":
    loop = asyncio.new_event_loop()
    asyncioreactor.install(loop)
    # It imports the reactor, which has to be chosen before.
    from twisted.internet import task
    from twisted.internet.defer import Deferred

    task.react(lambda reactor: Deferred.fromFuture(loop.create_task(main(reactor, sys.argv[1]))))
