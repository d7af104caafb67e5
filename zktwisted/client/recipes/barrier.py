"""
Barriers: a node that holds everybody back while it is there, and a meeting that begins and ends for all together.
"""

from __future__ import annotations

from uuid import uuid4

from twisted.internet.defer import Deferred

from zktwisted.client.client import ZooKeeperClient
from zktwisted.client.recipes.contest import GONE, Wakeup, make, persist, shielded
from zktwisted.errors import NodeExistsError, NoNodeError, SessionExpiredError

__all__ = ["Barrier", "DoubleBarrier"]

_READY = "ready"


class Barrier:
    """While it stands everybody who comes to it waits."""

    def __init__(self, client: ZooKeeperClient, path: str) -> None:
        self._client = client
        self.path = path

    def create(self) -> Deferred[None]:
        """Put it up; it may stand already."""
        return Deferred.fromCoroutine(make(self._client, self.path))

    def remove(self) -> Deferred[None]:
        """Take it away, whether it stands or not."""
        return Deferred.fromCoroutine(self._remove())

    async def _remove(self) -> None:
        try:
            await persist(self._client.delete, self.path)
        except NoNodeError:
            return

    def wait(self) -> Deferred[None]:
        """Wait until it does not stand: through lost connections and sessions, as long as the client lives."""
        return Deferred.fromCoroutine(self._wait())

    async def _wait(self) -> None:
        while True:
            try:
                with Wakeup(self._client, self.path) as wakeup:
                    if await persist(self._client.exists, self.path, wakeup) is None:
                        return
                    await wakeup.wait()
            except SessionExpiredError:
                if self._client.ended:
                    raise


class DoubleBarrier:
    """
    A meeting of so many: nobody is in before all are there, nobody out before all are through.

    Somebody whose session expires counts as one who has left.
    """

    def __init__(self, client: ZooKeeperClient, path: str, count: int, identifier: bytes = b"") -> None:
        """
        @param count: how many make the meeting.
        @param identifier: who the client is: the data of its node.
        """
        self._client = client
        self._count = count
        self._identifier = identifier
        self._own = f"{path}/{uuid4().hex}"
        self.path = path

    def enter(self) -> Deferred[None]:
        """Wait until all are there; cancelled, this one is there no more."""
        return Deferred.fromCoroutine(self._enter())

    async def _enter(self) -> None:
        try:
            while True:
                try:
                    await self._enter_once()
                    return
                except SessionExpiredError:
                    if self._client.ended:
                        raise
        except BaseException:
            await self._withdraw()
            raise

    async def _enter_once(self) -> None:
        client, ready = self._client, f"{self.path}/{_READY}"
        await make(client, self.path)
        await self._be_there()
        session = client.session_id
        while True:
            with Wakeup(client, ready) as wakeup:
                if await persist(client.exists, ready, wakeup) is not None:
                    return
                if len(await self._present()) >= self._count:
                    await make(client, ready)
                    return
                await wakeup.wait()
            if client.session_id != session:
                raise SessionExpiredError(path=self._own)

    async def _be_there(self) -> None:
        try:
            await persist(self._client.create, self._own, self._identifier, ephemeral=True)
        except NodeExistsError:
            stat = await persist(self._client.exists, self._own)
            if stat is None or stat.ephemeralOwner != self._client.session_id:
                raise SessionExpiredError(path=self._own) from None

    async def _present(self, watch: Wakeup | None = None) -> list[str]:
        try:
            names = await persist(self._client.children, self.path, watch)
        except NoNodeError:
            return []
        return [name for name in names if name != _READY]

    def leave(self) -> Deferred[None]:
        """Be through, and wait until all are."""
        return Deferred.fromCoroutine(self._leave())

    async def _leave(self) -> None:
        await self._withdraw()
        while True:
            try:
                with Wakeup(self._client, self.path) as wakeup:
                    if not await self._present(wakeup):
                        await self._delete(f"{self.path}/{_READY}")
                        return
                    await wakeup.wait()
            except SessionExpiredError:
                if self._client.ended:
                    raise

    def _withdraw(self) -> Deferred[None]:
        """Be there no more; it is done to its end."""
        return shielded(self._delete_own())

    async def _delete_own(self) -> None:
        try:
            await self._delete(self._own)
        except GONE:
            return

    async def _delete(self, path: str) -> None:
        try:
            await persist(self._client.delete, path)
        except NoNodeError:
            return
