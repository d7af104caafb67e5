"""
A queue of items, each of which is worked on by one at a time until it is done.
"""

from __future__ import annotations

from uuid import uuid4

from twisted.internet.defer import Deferred

from zktwisted.client.client import ZooKeeperClient
from zktwisted.client.recipes.contest import Wakeup, over, persist
from zktwisted.errors import ConnectionLossError, NodeExistsError, NoNodeError, SessionExpiredError

__all__ = ["Queue", "QueueItem"]


class QueueItem:
    """
    An item that somebody works on.

    If its session expires before it is L{done}, somebody else will get it.

    @ivar data: what was put into the queue.
    """

    def __init__(self, queue: Queue, name: str, data: bytes) -> None:
        self._queue = queue
        self._name = name
        self.data = data

    def done(self) -> Deferred[None]:
        """
        Take it out of the queue for good.

        @return: fails with L{SessionExpiredError<zktwisted.errors.SessionExpiredError>} if somebody else has it by now,
            or may have.
        """
        return Deferred.fromCoroutine(self._queue._done(self._name))

    def put_back(self) -> Deferred[None]:
        """Leave it to somebody else; it keeps its place."""
        return Deferred.fromCoroutine(self._queue._put_back(self._name))


class Queue:
    """
    Items in order of priority, and of arrival.

    An item is put at least once: when a connection is lost just after it was put, and somebody has already taken it,
    it is put again.
    """

    def __init__(self, client: ZooKeeperClient, path: str) -> None:
        """@param path: of the queue: a node that is made if it is not there."""
        self._client = client
        self._entries = f"{path}/entries"
        self._taken = f"{path}/taken"
        self._own = uuid4().hex.encode()
        self.path = path

    def put(self, data: bytes, priority: int = 100) -> Deferred[None]:
        """
        Put an item in.

        @param priority: 0 to 999, the smaller the sooner.
        """
        if not 0 <= priority <= 999:
            raise ValueError(f"{priority} is no priority: 0 to 999")
        return Deferred.fromCoroutine(self._put(data, priority))

    async def _put(self, data: bytes, priority: int) -> None:
        client, own = self._client, uuid4().hex
        prefix = f"{self._entries}/entry-{priority:03}-{own}-"
        while True:
            try:
                await client.create(prefix, data, sequential=True)
                return
            except NoNodeError:
                await persist(client.ensure_path, self._entries)
            except ConnectionLossError:
                if any(own in name for name in await self._names(self._entries)):
                    return

    async def _names(self, path: str, watch: Wakeup | None = None) -> list[str]:
        try:
            return await persist(self._client.children, path, watch)
        except NoNodeError:
            await persist(self._client.ensure_path, path)
            return await self._names(path, watch)

    def size(self) -> Deferred[int]:
        """Return how many items there are, those that are worked on too."""
        return Deferred.fromCoroutine(self._names(self._entries)).addCallback(len)

    def get(self) -> Deferred[bytes]:
        """Take the next item out, waiting for one; it is done with that.  Fires with its data."""
        return Deferred.fromCoroutine(self._get())

    async def _get(self) -> bytes:
        while True:
            item = await self._take()
            try:
                await item.done()
            except SessionExpiredError:
                if over(self._client):
                    raise
                continue
            return item.data

    def take(self) -> Deferred[QueueItem]:
        """Take the next item to work on it, waiting for one."""
        return Deferred.fromCoroutine(self._take())

    async def _take(self) -> QueueItem:
        while True:
            wakeup = Wakeup()
            try:
                taken = {*await self._names(self._taken, wakeup)}
                names = await self._names(self._entries, wakeup)
                for name in sorted(names, key=lambda name: (name[:10], name[-10:])):
                    if name not in taken:
                        item = await self._take_one(name)
                        if item is not None:
                            return item
                await wakeup.wait()
            except SessionExpiredError:
                if over(self._client):
                    raise

    async def _take_one(self, name: str) -> QueueItem | None:
        """Mark an item as ours; C{None}: somebody else was faster."""
        client, mark = self._client, f"{self._taken}/{name}"
        try:
            try:
                await persist(client.create, mark, self._own, ephemeral=True)
            except NodeExistsError:
                if not await self._ours(mark):
                    return None
            try:
                data, _stat = await persist(client.get, f"{self._entries}/{name}")
            except NoNodeError:  # done by somebody since we looked
                await self._put_back(name)
                return None
        except SessionExpiredError:
            raise
        except BaseException:
            await self._put_back(name)
            raise
        return QueueItem(self, name, data or b"")

    async def _ours(self, mark: str) -> bool:
        """Whether a mark is of this object and this session: then its creation was all that was not answered."""
        try:
            data, stat = await persist(self._client.get, mark)
        except NoNodeError:
            return False
        return data == self._own and stat.ephemeralOwner == self._client.session_id

    async def _done(self, name: str) -> None:
        client, mark = self._client, f"{self._taken}/{name}"
        session = client.session_id
        lost = False
        while True:
            if not await self._ours(mark):
                if lost and client.session_id == session:
                    return  # it was carried out: nobody else could have taken the mark away
                raise SessionExpiredError(path=mark)
            try:
                await client.transaction().delete(mark).delete(f"{self._entries}/{name}").commit()
                return
            except ConnectionLossError:
                lost = True

    async def _put_back(self, name: str) -> None:
        mark = f"{self._taken}/{name}"
        try:
            if await self._ours(mark):
                await persist(self._client.delete, mark)
        except (NoNodeError, SessionExpiredError):
            return  # it is nobody's, or somebody else's by now
