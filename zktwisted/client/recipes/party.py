"""
Who is there: each member has an ephemeral node below one path.
"""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

from twisted.internet.defer import Deferred

from zktwisted.client.client import ZooKeeperClient
from zktwisted.client.recipes.contest import make, persist
from zktwisted.client.states import State
from zktwisted.errors import NodeExistsError, NoNodeError, SessionExpiredError

__all__ = ["Party"]


class Party:
    """
    A group that clients join and leave.

    A member whose session expires is out, and in again as soon as it has another one.
    """

    def __init__(self, client: ZooKeeperClient, path: str, identifier: bytes = b"") -> None:
        """
        @param path: a node that is made if it is not there.
        @param identifier: who this member is, for L{members}.
        """
        self._client = client
        self._identifier = identifier
        self._own = f"{path}/{uuid4().hex}"
        self._end: Callable[[], None] | None = None
        self._session = 0
        self.path = path

    def join(self) -> Deferred[None]:
        """Be a member, until L{leave} or the end of the client."""
        if self._end is None:
            self._end = self._client.listen(self._again)
        return Deferred.fromCoroutine(self._join())

    async def _again(self, state: State) -> None:
        if state is State.CONNECTED and self._client.session_id != self._session:
            try:
                await self._join()
            except SessionExpiredError:
                return  # the next session will do

    async def _join(self) -> None:
        client = self._client
        while self._end is not None:
            try:
                await make(client, self.path)
                await persist(client.create, self._own, self._identifier, ephemeral=True)
            except NodeExistsError:
                stat = await persist(client.exists, self._own)
                if stat is not None and stat.ephemeralOwner == client.session_id:
                    break
                await self._delete()  # of a session that is over, and not swept away yet
            except SessionExpiredError:
                if client.ended:
                    raise
            else:
                break
        self._session = client.session_id
        if self._end is None:
            await self._delete()  # left meanwhile

    def leave(self) -> Deferred[None]:
        """Be no member any more."""
        if self._end is not None:
            self._end()
            self._end = None
        return Deferred.fromCoroutine(self._delete())

    async def _delete(self) -> None:
        try:
            await persist(self._client.delete, self._own)
        except (NoNodeError, SessionExpiredError):
            return

    def members(self) -> Deferred[list[bytes]]:
        """Return the identifiers of all members, in no order."""
        return Deferred.fromCoroutine(self._members())

    async def _members(self) -> list[bytes]:
        try:
            names = await persist(self._client.children, self.path)
        except NoNodeError:
            return []
        found = []
        for name in names:
            try:
                data, _stat = await persist(self._client.get, f"{self.path}/{name}")
            except NoNodeError:
                continue
            found.append(data or b"")
        return found
