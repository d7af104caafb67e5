"""
A queue of items, each of which is worked on by one at a time until it is done.
"""

from __future__ import annotations

from uuid import uuid4

from twisted.internet.defer import Deferred

from zktwisted.client.client import ZooKeeperClient
from zktwisted.client.recipes.contest import GONE, Wakeup, catch_up, persist, shielded, to_the_end
from zktwisted.errors import ConnectionLossError, NodeExistsError, NoNodeError, SessionExpiredError

__all__ = ["Queue", "QueueItem"]


class QueueItem:
    """
    An item that somebody works on.

    If its session expires before it is L{done}, somebody else will get it.

    @ivar data: what was put into the queue.
    """

    def __init__(self, queue: Queue, name: str, token: bytes, data: bytes) -> None:
        self._queue = queue
        self._name = name
        self._token = token
        self.data = data

    def done(self) -> Deferred[None]:
        """
        Take it out of the queue for good; who cancels that only ceases to wait for it.

        @return: fails with L{SessionExpiredError<zktwisted.errors.SessionExpiredError>} if somebody else has it by now,
            or may have.
        """
        return shielded(self._queue._done(self._name, self._token))

    def put_back(self) -> Deferred[None]:
        """Leave it to somebody else; it keeps its place."""
        return self._queue._put_back(self._name, self._token)


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
        self.path = path

    def put(self, data: bytes, priority: int = 100) -> Deferred[None]:
        """
        Put an item in.

        @param priority: 0 to 999, the smaller the sooner.
        @return: fires when it is there; through lost connections and sessions, as long as the client lives.
        """
        if not 0 <= priority <= 999:
            raise ValueError(f"{priority} is no priority: 0 to 999")
        return Deferred.fromCoroutine(self._put(data, priority))

    async def _put(self, data: bytes, priority: int) -> None:
        own = uuid4().hex
        prefix = f"{self._entries}/entry-{priority:03}-{own}-"
        doubtful = False
        while True:
            try:
                if doubtful:
                    await catch_up(self._client, self._entries)
                    if any(own in name for name in await self._names(self._entries)):
                        return
                    doubtful = False
                await self._create(prefix, data)
                return
            except ConnectionLossError:
                doubtful = True
            except SessionExpiredError:
                # What is put belongs to no session: the next one finds out, or does it.
                if self._client.ended:
                    raise
                doubtful = True

    async def _create(self, prefix: str, data: bytes) -> None:
        while True:
            try:
                await self._client.create(prefix, data, sequential=True)
                return
            except NoNodeError:
                await persist(self._client.ensure_path, self._entries)

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
        """
        Take the next item out, waiting for one; it is done with that.

        @return: fires with its data: also when it was cancelled just as the item was taken out, which would be lost.
        """
        return Deferred.fromCoroutine(self._get())

    async def _get(self) -> bytes:
        while True:
            item = await self._take()
            if await to_the_end(self._finish(item._name, item._token)):
                return item.data

    def take(self) -> Deferred[QueueItem]:
        """Take the next item to work on it, waiting for one."""
        return Deferred.fromCoroutine(self._take())

    async def _take(self) -> QueueItem:
        while True:
            try:
                with Wakeup(self._client, self._taken, self._entries) as wakeup:
                    taken = {*await self._names(self._taken, wakeup)}
                    names = await self._names(self._entries, wakeup)
                    for name in sorted(names, key=lambda name: (name[:10], name[-10:])):
                        if name not in taken:
                            item = await self._take_one(name)
                            if item is not None:
                                return item
                    await wakeup.wait()
            except SessionExpiredError:
                if self._client.ended:
                    raise

    async def _take_one(self, name: str) -> QueueItem | None:
        """Mark an item as taken; C{None}: somebody else was faster."""
        client, mark, token = self._client, f"{self._taken}/{name}", uuid4().hex.encode()
        try:
            try:
                await persist(client.create, mark, token, ephemeral=True)
            except NodeExistsError:
                if not await self._marked(mark, token):
                    return None
            data, _stat = await persist(client.get, f"{self._entries}/{name}")
        except SessionExpiredError:
            raise
        except NoNodeError:  # done by somebody since we looked
            await self._put_back(name, token)
            return None
        except BaseException:
            await self._put_back(name, token)
            raise
        return QueueItem(self, name, token, data or b"")

    async def _marked(self, mark: str, token: bytes) -> bool:
        """Whether a mark is the one that was made with this token, by this session."""
        try:
            data, stat = await persist(self._client.get, mark)
        except NoNodeError:
            return False
        return data == token and stat.ephemeralOwner == self._client.session_id

    async def _done(self, name: str, token: bytes) -> None:
        if not await self._take_out(name, token):
            raise SessionExpiredError(path=f"{self._taken}/{name}")

    async def _take_out(self, name: str, token: bytes) -> bool | None:
        """Take an item out for good; return whether that was done, C{None} where nobody can know."""
        client, mark = self._client, f"{self._taken}/{name}"
        session, lost = client.session_id, False
        try:
            while await self._marked(mark, token):
                try:
                    await client.transaction().delete(mark).delete(f"{self._entries}/{name}").commit()
                except ConnectionLossError:
                    lost = True
                    await catch_up(client, mark)
                else:
                    return True
        except SessionExpiredError:
            return None if lost else False
        # As long as the session is the same nobody else can have taken the mark away.
        return (client.session_id == session or None) if lost else False

    async def _finish(self, name: str, token: bytes) -> bool:
        """Take an item out for good; return whether that was done, or nobody else will do it."""
        done = await self._take_out(name, token)
        while done is None:
            try:
                done = await persist(self._client.exists, f"{self._entries}/{name}") is None
            except SessionExpiredError:
                if self._client.ended:
                    raise
        return done

    def _put_back(self, name: str, token: bytes) -> Deferred[None]:
        return shielded(self._unmark(f"{self._taken}/{name}", token))

    async def _unmark(self, mark: str, token: bytes) -> None:
        try:
            # The mark may have been made for an answer that nobody waited for.
            await catch_up(self._client, mark)
            if await self._marked(mark, token):
                await persist(self._client.delete, mark)
        except GONE:
            return  # it is nobody's, or somebody else's by now
