"""
A whole number that many change.
"""

from __future__ import annotations

from uuid import uuid4

from twisted.internet.defer import CancelledError, Deferred

from zktwisted.client.client import ZooKeeperClient
from zktwisted.client.recipes.contest import GONE, catch_up, make, persist
from zktwisted.errors import BadVersionError, ConnectionLossError, NoNodeError, SessionExpiredError

__all__ = ["Counter"]


class Counter:
    """
    A number in a node, as text.

    Each addition is made once: it leaves a mark beside the number, by which it is known after a lost connection.  If
    the session expires at that moment nobody can know, and
    L{SessionExpiredError<zktwisted.errors.SessionExpiredError>} says so.
    """

    def __init__(self, client: ZooKeeperClient, path: str, default: int = 0) -> None:
        """@param default: the number where there is no node yet."""
        self._client = client
        self._default = default
        self.path = path

    def value(self) -> Deferred[int]:
        """Return the number."""
        return Deferred.fromCoroutine(self._value())

    async def _value(self) -> int:
        try:
            data, _stat = await persist(self._client.get, self.path)
        except NoNodeError:
            return self._default
        return int(data or self._default)

    def add(self, number: int = 1) -> Deferred[int]:
        """Add to it, or take from it; fires with what it was then."""
        return Deferred.fromCoroutine(self._add(number))

    async def _add(self, number: int) -> int:
        client = self._client
        mark = f"{self.path}/{uuid4().hex}"
        while True:
            try:
                data, stat = await persist(client.get, self.path)
            except NoNodeError:
                await make(client, self.path, b"%d" % self._default)
                continue
            value = int(data or self._default) + number
            change = client.transaction().set(self.path, b"%d" % value, stat.version).create(mark, ephemeral=True)
            session = client.session_id
            try:
                await change.commit()
            except (BadVersionError, NoNodeError):
                continue
            except ConnectionLossError as lost:
                await catch_up(client, mark)
                if await persist(client.exists, mark) is None:
                    if client.session_id != session:
                        raise SessionExpiredError(path=self.path) from lost
                    continue
            except CancelledError:
                self._sweep(mark)
                raise
            self._sweep(mark)
            return value

    def _sweep(self, mark: str) -> None:
        """Take a mark away; nobody has to wait for that, and at the latest it goes with the session."""
        swept = Deferred.fromCoroutine(persist(self._client.delete, mark))
        swept.addErrback(lambda failure: failure.trap(*GONE))
