"""The recipes with a whole server in memory, where time passes only when it is let."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.task import deferLater

from tests.client.stories import STORIES
from tests.client.world import ClientCase
from zktwisted.client import ZooKeeperClient
from zktwisted.client.recipes import Lock, Queue

SERVER = "10.0.0.1"


class RecipeTests(ClientCase):
    """Each story; C{test_} and its name."""

    def setUp(self) -> None:
        super().setUp()
        self.serve(extended_types_enabled=True)
        self.homes: dict[ZooKeeperClient, str] = {}

    def tell(self, name: str) -> None:
        """Let a story happen."""
        self.result(ensureDeferred(STORIES[name](self.Stage(self))), 600)

    class Stage:
        """Clients on hosts of their own."""

        def __init__(self, case: RecipeTests) -> None:
            self._case = case

        async def client(self, **options: Any) -> ZooKeeperClient:
            case = self._case
            home = f"10.0.1.{len(case.homes) + 1}"
            client = case.client(here=home, **{"session_timeout": 2.0, **options})
            case.homes[client] = home
            await client.when_connected()
            return client

        def cut(self, client: ZooKeeperClient) -> None:
            home = self._case.homes[client]
            self._case.network.refuse(home, SERVER)
            self._case.network.reset(home, SERVER)

        def heal(self, client: ZooKeeperClient) -> None:
            self._case.network.mend(self._case.homes[client], SERVER)

        async def end_session(self, client: ZooKeeperClient) -> None:
            await self.pause(10)

        def pause(self, seconds: float) -> Deferred[None]:
            return deferLater(self._case.clock, seconds)


    # -- an answer that is lost

    def lost_answer(self, client: ZooKeeperClient, ask: Callable[[], Deferred[Any]]) -> Deferred[Any]:
        """Let a request be carried out, and the connection break before its answer comes."""
        home = self.homes[client]
        self.network.cut(SERVER, home)
        asked = ask()
        self.pass_time(0.5)
        self.assertNoResult(asked)
        self.network.reset(home, SERVER)
        self.pass_time(0.1)
        self.network.heal()
        return asked

    def test_lock_whose_creation_is_not_answered(self) -> None:
        """It finds its place again instead of getting another one behind it."""
        client = self.result(ensureDeferred(self.Stage(self).client()))
        self.result(client.ensure_path("/lock"))
        lock = Lock(client, "/lock")
        self.result(self.lost_answer(client, lock.acquire))
        self.assertEqual(1, len(self.result(client.children("/lock"))))
        self.result(lock.release())
        self.assertEqual([], self.result(client.children("/lock")))

    def test_lock_given_up_before_it_is_known(self) -> None:
        """Who cancels while the creation is under way leaves nothing behind."""
        client = self.result(ensureDeferred(self.Stage(self).client()))
        self.result(client.ensure_path("/lock"))
        lock = Lock(client, "/lock")
        asked = lock.acquire()
        self.clock.callLater(0.0001, asked.cancel)
        self.failure(asked, CancelledError)
        self.pass_time(1)
        self.assertEqual([], self.result(client.children("/lock")))
        self.result(lock.acquire())

    def test_item_whose_creation_is_not_answered(self) -> None:
        """It is in the queue once."""
        client = self.result(ensureDeferred(self.Stage(self).client()))
        queue = Queue(client, "/queue")
        self.result(queue.put(b"first"))
        self.result(self.lost_answer(client, lambda: queue.put(b"second")))
        self.assertEqual(2, self.result(queue.size()))
        self.result(self.lost_answer(client, queue.get))
        self.assertEqual(1, self.result(queue.size()))
        item = self.result(queue.take())
        self.assertEqual(b"second", item.data)
        self.result(self.lost_answer(client, item.done))
        self.assertEqual(0, self.result(queue.size()))


def _test(name: str) -> Any:
    def test(self: RecipeTests) -> None:
        self.tell(name)

    test.__name__ = f"test_{name}"
    test.__doc__ = STORIES[name].__doc__
    return test


for _name in STORIES:
    setattr(RecipeTests, f"test_{_name}", _test(_name))
