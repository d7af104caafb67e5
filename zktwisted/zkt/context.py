"""
What a command has to do with the world: clients of servers, a screen, and how the answer is wanted.

A L{Context} lives as long as the process or the shell; commands get it as their first argument.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred

from zktwisted.client import State, ZooKeeperClient
from zktwisted.errors import ConnectionLossError
from zktwisted.zkt.connect import Access
from zktwisted.zkt.format import plain, table
from zktwisted.zkt.status import Problem, Status

__all__ = ["Context", "Output", "steady"]

T = TypeVar("T")

_RETRIES = 5
_COLOURS = {"red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36", "dim": "2", "bold": "1"}


class Output(Protocol):
    """Where things are shown; L{zktwisted.zkt.screen.Screen} is one."""

    def out(self, text: str | bytes) -> None:
        """Show on standard output."""

    def err(self, text: str) -> None:
        """Show on standard error."""

    def status(self, text: str) -> None:
        """Show on standard error for the time being."""

    def room(self) -> Deferred[None]:
        """Wait until not much is left to be shown."""


class Context:
    """
    @ivar reactor: the reactor, or a clock.
    @ivar access: how clients are made.
    @ivar output: text, json or table: for this command.
    @ivar default_output: likewise, for commands that do not say it.
    @ivar colour: whether colours may be shown.
    @ivar terminal: whether standard output is a terminal; data in it is made harmless then.
    @ivar progress: whether progress may be shown.
    @ivar shell: the shell, if there is one.
    @ivar now: tells the time, in seconds since 1970.
    @ivar prog: what stands before a command in messages: C{"zkt "}, or nothing in a shell.
    """

    def __init__(self, reactor: Any, access: Access, screen: Output) -> None:
        self.reactor = reactor
        self.access = access
        self.screen = screen
        self.output = self.default_output = "text"
        self.colour = self.terminal = self.progress = False
        self.debug = False
        self.shell: Any = None
        self.now: Callable[[], float] = time.time
        self.prog = "zkt "
        self._client: ZooKeeperClient | None = None
        self._introduced = False
        self._others: dict[str, ZooKeeperClient] = {}

    # -- clients

    @property
    def connected(self) -> bool:
        """Whether there is a client with a connection."""
        return self._client is not None and self._client.state.connected

    @property
    def state(self) -> State:
        """Of the client."""
        return State.CLOSED if self._client is None else self._client.state

    async def client(self) -> ZooKeeperClient:
        """
        Return the client, connected.

        @raise Problem: there is no connection.
        """
        if self._client is None:
            self._take(self.access.client(self.reactor))
        elif self._client.state in (State.CLOSED, State.AUTH_FAILED) and self.shell is not None:
            raise Problem(Status.NO_CONNECTION, "not connected", hint="connect HOST:PORT")
        assert self._client is not None
        await self._connected(self._client)
        return self._client

    def _take(self, client: ZooKeeperClient) -> None:
        """Have another client."""
        self._client = client
        self._introduced = False
        if self.shell is not None:
            self.shell.watch_states(client)

    async def _connected(self, client: ZooKeeperClient) -> None:
        """Connect, and say who we are, if that has not been done."""
        await self.access.ready(self.reactor, client)
        if not self._introduced:
            await self.access.introduce(client)
            self._introduced = True

    async def other_client(self, hosts: str) -> ZooKeeperClient:
        """Return a client of other servers, connected; it lives until the command is over."""
        if hosts not in self._others:
            client = self._others[hosts] = self.access.client(self.reactor, hosts)
            await self.access.ready(self.reactor, client, hosts)
            await self.access.introduce(client)
        return self._others[hosts]

    async def close_others(self) -> None:
        """Close the clients that the command asked for."""
        others, self._others = self._others, {}
        for client in others.values():
            await client.close()

    async def close(self) -> None:
        """Close all clients."""
        await self.close_others()
        if self._client is not None:
            await self._client.close()

    async def reconnect(self, hosts: str) -> None:
        """Close the client, and connect with other servers."""
        made = self.access.client(self.reactor, hosts)
        await self.close()
        self.access.hosts = hosts
        self._take(made)
        await self._connected(made)

    # -- showing

    def text(self, text: str | bytes) -> None:
        """Show text as it is: neither JSON nor a table, and with whatever colours are in it."""
        self.screen.out(text)

    def show(self, value: Any, text: str | Callable[[], str]) -> None:
        """
        Show a result, as it is wanted.

        @param value: for JSON, and for tables: a mapping, a list of mappings, or of values.
        @param text: or what makes it.
        """
        if self.output == "json":
            self.screen.out(json.dumps(value, ensure_ascii=False) + "\n")
        elif self.output == "table":
            self.screen.out(table(_rows(value)))
        else:
            shown = text if isinstance(text, str) else text()
            self.screen.out(plain(shown) if self.terminal else shown)

    def harmless(self, text: str) -> str:
        """Return text out of a node as it may be shown on this terminal, if it is one."""
        return plain(text) if self.terminal else text

    def note(self, text: str) -> None:
        """Tell something beside the result, on standard error."""
        self.screen.err(text + "\n")

    def paint(self, text: str, *colours: str) -> str:
        """Return text in colours, where there are any."""
        if not self.colour or not text:
            return text
        return f"\x1b[{';'.join(_COLOURS[each] for each in colours)}m{text}\x1b[0m"


def _rows(value: Any) -> list[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        if all(isinstance(each, Mapping) for each in value.values()) and value:
            return [{"": name, **each} for name, each in value.items()]
        return [{"field": name, "value": each} for name, each in value.items()]
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [each if isinstance(each, Mapping) else {"value": each} for each in value]
    return [{"value": value}]


async def steady(context: Context, client: ZooKeeperClient, ask: Callable[..., Awaitable[T]], *arguments: Any) -> T:
    """
    Read something; where the connection is lost meanwhile, wait for the next one and read again.

    @param ask: a read of the client's.
    """
    for _ in range(_RETRIES):
        try:
            return await ask(*arguments)
        except ConnectionLossError:
            await context.access.ready(context.reactor, client)
    return await ask(*arguments)
