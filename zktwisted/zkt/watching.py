"""The commands about watches: addWatch, removewatches, and watch, which goes on telling."""

from __future__ import annotations

import json
import time
from argparse import Namespace
from collections import deque
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as TooLate

from zktwisted.client import EventType, State, WatchedEvent, WatcherType, ZooKeeperClient
from zktwisted.errors import KeeperError, NoNodeError
from zktwisted.zkt.command import arg, command, one_of
from zktwisted.zkt.context import Context
from zktwisted.zkt.format import data_json, data_text, parse_age
from zktwisted.zkt.nodes import watcher_of
from zktwisted.zkt.paths import check_path
from zktwisted.zkt.status import Problem, Status

__all__: list[str] = []

_WORDS = {
    EventType.NODE_CREATED: ("created", "green"),
    EventType.NODE_DELETED: ("deleted", "red"),
    EventType.NODE_DATA_CHANGED: ("changed", "yellow"),
    EventType.NODE_CHILDREN_CHANGED: ("children", "blue"),
}


@command(
    "addWatch",
    "Set a watch that stays until it is removed.",
    arg("path", help="of the node, which need not be there yet"),
    arg(
        "-m",
        "--mode",
        choices=("PERSISTENT", "PERSISTENT_RECURSIVE"),
        default="PERSISTENT_RECURSIVE",
        help="only this node and its list of children, or all that is below it [PERSISTENT_RECURSIVE]",
    ),
    shell_only=True,
    more="The shell prints what it tells. See watch for a command that does nothing else.",
    examples=(("addWatch /app", "all changes at and below /app"),),
)
async def add_watch(context: Context, args: Namespace) -> None:
    """Set a persistent watch."""
    path = check_path(args.path)
    recursive = args.mode == "PERSISTENT_RECURSIVE"
    await (await context.client()).add_watch(path, watcher_of(context), recursive=recursive)


@command(
    "removewatches",
    "Remove the watches at a path.",
    arg("path", help="of the node"),
    one_of(
        arg("-c", "--children", action="store_const", const=WatcherType.CHILDREN, dest="kind", help="of children"),
        arg("-d", "--data", action="store_const", const=WatcherType.DATA, dest="kind", help="of data"),
        arg("-a", "--any", action="store_const", const=WatcherType.ANY, dest="kind", help="of any kind, the default"),
    ),
    arg("-l", "--local", action="store_true", help="also when the server cannot be asked"),
    shell_only=True,
)
async def removewatches(context: Context, args: Namespace) -> None:
    """Remove watches."""
    path = check_path(args.path)
    await (await context.client()).remove_watches(path, args.kind or WatcherType.ANY)


@command(
    "watch",
    "Follow what happens to nodes, until Ctrl-C.",
    arg("path", nargs="?", default="/", help="of the node, which need not be there yet [/]"),
    arg("-1", "--only", action="store_true", help="only this node and its list of children, not what is below"),
    arg("-d", "--data", action="store_true", help="show the new data"),
    arg("-n", "--count", type=int, metavar="N", help="end after N changes"),
    arg("--for", type=parse_age, dest="seconds", metavar="TIME", help="end after this time, such as 30s or 5m"),
    more=(
        "It goes on when the connection or the session is lost and says so on standard error: what happened\n"
        "meanwhile is not told. With --json a line is an object. With --count it ends with status 1 if --for\n"
        "was over before."
    ),
    examples=(
        ("watch /app", "everything at and below /app"),
        ("watch -d -n 1 /app/config", "wait for one change, and show the new data"),
        ("watch --json / | jq .path", "for a script"),
    ),
    trees=True,
)
async def watch(context: Context, args: Namespace) -> Status:
    """Follow changes."""
    path = check_path(args.path)
    if args.count is not None and args.count < 1:
        raise Problem(Status.USAGE, f"--count {args.count} is not a number from 1")
    client = await context.client()
    following = _Following(context, client, path, args)
    stop = client.listen(following.became)
    try:
        await following.begin()
        over = following.run()
        if args.seconds is not None:
            over.addTimeout(args.seconds, context.reactor)
        await over
    except TooLate:
        return Status.OK if args.count is None else Status.DIFFERENT
    finally:
        stop()
        await following.end()
    return Status.OK


class _Following:
    """One run of the command."""

    def __init__(self, context: Context, client: ZooKeeperClient, path: str, args: Namespace) -> None:
        self._context = context
        self._client = client
        self._path = path
        self._args = args
        self._left = args.count
        self._watch: Any = None
        self._events: deque[WatchedEvent] = deque()
        self._wake: Deferred[None] | None = None
        self._lost = False

    async def begin(self) -> None:
        """Set the watch."""
        self._watch = await self._client.add_watch(self._path, self._told, recursive=not self._args.only)
        self._context.note(self._context.paint(f"watching {self._path}", "dim"))

    async def end(self) -> None:
        """Remove it: in a shell the session goes on."""
        if self._watch is not None and self._client.state.connected:
            await self._watch.remove()

    def run(self) -> Deferred[None]:
        """Return what fires when enough was shown."""
        return Deferred.fromCoroutine(self._run())

    async def _run(self) -> None:
        while self._left is None or self._left > 0:
            while not self._events:
                self._wake = Deferred()
                await self._wake
            event = self._events.popleft()
            if event.type is EventType.NONE:
                # The session is over, and its watches with it: the next one needs its own.
                self._watch = None
                await self.begin()
                continue
            await self._show(event)
            await self._context.screen.room()
            if self._left is not None:
                self._left -= 1

    def _told(self, event: WatchedEvent) -> None:
        self._events.append(event)
        wake, self._wake = self._wake, None
        if wake is not None and not wake.called:
            wake.callback(None)

    async def _show(self, event: WatchedEvent) -> None:
        word, colour = _WORDS[event.type]
        value: dict[str, Any] = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "event": word, "path": event.path}
        if event.zxid >= 0:
            value["zxid"] = f"{event.zxid:#x}"
        text = ""
        if self._args.data and event.type in (EventType.NODE_CREATED, EventType.NODE_DATA_CHANGED):
            try:
                data = (await self._client.get(event.path)).data
            except NoNodeError:
                pass  # gone again; that is told next
            except KeeperError as error:
                self._context.note(f"{event.path}: {error}")
            else:
                value |= data_json(data)
                text = "  " + data_text(data).replace("\n", "\\n")
        if self._context.output == "json":
            self._context.text(json.dumps(value, ensure_ascii=False) + "\n")
            return
        paint = self._context.paint
        line = f"{paint(value['time'][11:19], 'dim')}  {paint(f'{word:<8}', colour)}  "
        self._context.text(line + self._context.harmless(event.path + text) + "\n")

    def became(self, state: State) -> None:
        """The client has got into a state."""
        if state is State.CONNECTING and not self._lost:
            self._lost = True
            self._context.note("the connection is lost; what happens now is not told")
        elif state.connected and self._lost:
            self._lost = False
            self._context.note("connected again")
