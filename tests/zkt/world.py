"""The command line in a world without processes: servers in memory, and a screen that remembers."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, succeed

from tests.client.world import ClientCase
from zktwisted.client import ZooKeeperClient
from zktwisted.zkt import main
from zktwisted.zkt.command import find_command
from zktwisted.zkt.connect import Access
from zktwisted.zkt.context import Context
from zktwisted.zkt.shell import perform
from zktwisted.zkt.status import Problem, explain

T = TypeVar("T")

HERE, THERE = "10.0.0.1:2181", "10.0.0.2:2181"

# Importing it fills the table of commands.
assert main.main


class Remembered:
    """
    A screen that remembers.

    @ivar shown: standard output.
    @ivar told: standard error.
    @ivar statuses: lines of progress.
    """

    def __init__(self) -> None:
        self.shown = b""
        self.told = ""
        self.statuses: list[str] = []

    def out(self, text: str | bytes) -> None:
        self.shown += text.encode() if isinstance(text, str) else text

    def err(self, text: str) -> None:
        self.told += text

    def status(self, text: str) -> None:
        self.statuses.append(text)

    def room(self) -> Deferred[None]:
        return succeed(None)


class MemoryAccess(Access):
    """Makes clients of servers in memory."""

    case: ZktCase

    def client(self, reactor: Any, hosts: str | None = None) -> ZooKeeperClient:
        address = (hosts or self.hosts).partition(":")[0]
        return self.case.client(address, start=False)


class ZktCase(ClientCase):
    """
    Runs commands.

    @ivar context: as of a command line.
    @ivar screen: what it shows.
    """

    def setUp(self) -> None:
        super().setUp()
        self.serve(extended_types_enabled=True, enforce_quota=True)
        self.screen = Remembered()
        self.context = self.make_context()

    def make_context(self, **options: Any) -> Context:
        """Return another, with a client of its own."""
        access = MemoryAccess(hosts=HERE, **options)
        access.case = self
        context = Context(self.clock, access, self.screen)
        context.now = lambda: self.world.wall_ms() / 1000
        return context

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Let time pass until a coroutine is done."""
        return self.result(Deferred.fromCoroutine(coroutine))

    def begin(self, *words: str, context: Context | None = None) -> Deferred[int]:
        """Begin with a command."""
        found = find_command(words[0])
        return Deferred.fromCoroutine(perform(context or self.context, found, found.parse(list(words[1:]))))

    def zkt(self, *words: str, status: int = 0, context: Context | None = None) -> str:
        """Run a command that ends well, and return what it shows."""
        self.screen.shown = b""
        self.assertEqual(status, self.result(self.begin(*words, context=context)), self.screen.told)
        return self.screen.shown.decode("utf-8", "replace")

    def refused(self, *words: str, context: Context | None = None) -> Problem:
        """Run a command that fails, and return what would be told."""
        try:
            self.result(self.begin(*words, context=context))
        except Exception as error:  # noqa: BLE001 (explaining it is what is tested)
            return explain(error)
        self.fail(f"{words} went well")
