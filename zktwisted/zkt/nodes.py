"""The commands about single nodes: create, get, set, ls, stat, delete and what belongs to them."""

from __future__ import annotations

import binascii
import contextlib
from argparse import Namespace
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from zktwisted.client import OPEN_ACL, WatchedEvent, ZooKeeperClient
from zktwisted.errors import NoAuthError, NoNodeError
from zktwisted.tree.znode import TTL_MAX
from zktwisted.zkt.command import arg, command, one_of
from zktwisted.zkt.context import Context, steady
from zktwisted.zkt.format import (
    data_json,
    data_text,
    hex_dump,
    parse_acl,
    show_time,
    stat_json,
    stat_text,
    table,
)
from zktwisted.zkt.paths import check_path, join, parent
from zktwisted.zkt.pipeline import Window, in_order
from zktwisted.zkt.status import Problem, Status

__all__ = ["STAT", "WATCH", "levels", "watcher_of"]

STAT = arg("-s", "--stat", action="store_true", help="print the stat as well")
WATCH = arg("-w", "--watch", action="store_true", help="set a watch; the shell prints what it tells")
VERSION = arg("-v", "--version", type=int, default=-1, metavar="VERSION", help="only if it has this version")
_BATCH_BYTES, _OVERHEAD = 256 * 1024, 32
"""Bytes of a transaction of deletes, and of one of them beside its path."""

BASE64 = arg("-b", "--base64", action="store_true", help="the data is given in base64")
FILE = arg("-f", "--file", metavar="FILE", help="take the data from this file, to the byte")


def watcher_of(context: Context, wanted: bool = True) -> Any:
    """Return what is told of watches: the shell, if there is one."""
    if not wanted:
        return None
    return _unheard if context.shell is None else context.shell.watched


def _unheard(event: WatchedEvent) -> None:
    """Nobody is there any more when a watch of a single command tells something."""


def given_data(args: Namespace) -> bytes | None:
    """
    Return the data of a command line.

    @raise Problem: there are two of them, or they cannot be read.
    """
    if args.file is not None:
        if args.data is not None:
            raise Problem(Status.USAGE, "data and --file exclude one another")
        return Path(args.file).read_bytes()
    if args.data is None:
        return None
    data: bytes = args.data.encode("utf-8", "surrogateescape")
    if not args.base64:
        return data
    try:
        return b64decode(data, validate=True)
    except binascii.Error as error:
        raise Problem(Status.USAGE, f"the data is not base64: {error}") from None


@command(
    "create",
    "Make a node.",
    arg("path", help="of the node"),
    arg("data", nargs="?", help="its data; without any it is null, which is not the same as empty"),
    arg("acl", nargs="?", type=str, help="its ACL: SCHEME:ID:PERMISSIONS,...; without one everybody may do everything"),
    arg("-s", "--sequential", action="store_true", help="put a number behind its name, one higher each time"),
    arg("-e", "--ephemeral", action="store_true", help="it goes with the session, which is that of the shell"),
    arg("-c", "--container", action="store_true", help="it goes some time after its last child"),
    arg("-t", "--ttl", type=int, metavar="MS", help="it goes when nothing happened to it for so many milliseconds"),
    arg("-p", "--parents", action="store_true", help="make what is missing above it"),
    arg("-b", "--base64", action="store_true", help="the data is given in base64"),
    FILE,
    more="Permissions are letters: c create, d delete, r read, w write, a admin.",
    examples=(
        ("create /app 'some data'", "make a node with data"),
        ("create -p /app/a/b", "make a node and those above it, without data"),
        ("create -s /app/job- x", "make /app/job-0000000000, then /app/job-0000000001, ..."),
        ("create /app/secret x auth::cdrwa", "only for whoever has authenticated as we have"),
        ("create -t 60000 /app/lease", "gone a minute after the last change"),
    ),
)
async def create(context: Context, args: Namespace) -> None:
    """Make a node."""
    path = check_path(args.path, args.sequential)
    data = given_data(args)
    acl = OPEN_ACL if args.acl is None else parse_acl(args.acl)
    if args.ttl is not None and not 0 < args.ttl <= TTL_MAX:
        raise Problem(Status.USAGE, f"--ttl {args.ttl}: a time to live is 1 to {TTL_MAX} ms")
    try:
        client = await context.client()
        if args.parents:
            await client.ensure_path(parent(path))
        made = await client.create(
            path,
            data,
            acl,
            ephemeral=args.ephemeral,
            sequential=args.sequential,
            container=args.container,
            ttl_ms=args.ttl or 0,
        )
    except NoNodeError:
        hint = "-p makes what is missing"
        raise Problem(Status.NO_NODE, "there is no node above it", path=path, hint=hint) from None
    except ValueError as error:
        if "jute.maxbuffer" in str(error):
            raise
        raise Problem(Status.USAGE, str(error)) from None
    context.show({"path": made}, f"Created {made}\n")


@command(
    "delete",
    "Delete a node that has no children.",
    arg("path", help="of the node"),
    VERSION,
    examples=(("delete /app/a", "whatever its version"), ("delete -v 3 /app/a", "only if nobody has changed it")),
)
async def delete(context: Context, args: Namespace) -> None:
    """Delete a node."""
    path = check_path(args.path)
    await (await context.client()).delete(path, args.version)


@command(
    "deleteall",
    "Delete a node and all that is below it.",
    arg("path", help="of the node"),
    arg("-b", "--batch", type=int, default=1000, metavar="SIZE", help="so many at a time, all or none [1000]"),
    examples=(("deleteall /app", "the whole tree"),),
)
async def deleteall(context: Context, args: Namespace) -> None:
    """Delete a subtree, from its leaves."""
    path = check_path(args.path)
    if path == "/":
        raise Problem(Status.USAGE, "the root cannot be deleted", path=path, hint="name what is below it")
    if args.batch < 1:
        raise Problem(Status.USAGE, f"--batch {args.batch} is not a number from 1")
    client = await context.client()
    found = [each async for level in levels(context, client, path) for each in level]
    window = Window()
    try:
        for batch in _batches(reversed(found), args.batch):
            await window.add(_delete(client, batch))
        await window.drained()
    finally:
        window.give_up()
    context.show({"path": path, "deleted": len(found)}, "")


def _batches(paths: Iterable[str], most: int) -> Iterator[list[str]]:
    """Yield the paths in groups that one request has room for."""
    batch: list[str] = []
    size = 0
    for path in paths:
        size += len(path.encode()) + _OVERHEAD
        if batch and (len(batch) == most or size > _BATCH_BYTES):
            yield batch
            batch, size = [], len(path.encode()) + _OVERHEAD
        batch.append(path)
    yield batch


async def _delete(client: ZooKeeperClient, paths: list[str]) -> None:
    """Delete nodes at once; one by one, if somebody else deletes there as well."""
    transaction = client.transaction()
    for path in paths:
        transaction.delete(path)
    try:
        await transaction.commit()
    except NoNodeError:
        for path in paths:
            with contextlib.suppress(NoNodeError):
                await client.delete(path)


async def levels(context: Context, client: ZooKeeperClient, path: str) -> Any:
    """Yield the paths of a subtree, level by level, sorted within the children of each node."""
    level = [path]
    yield level
    while level:
        below: list[str] = []
        answers = in_order(level, lambda each: Deferred.fromCoroutine(steady(context, client, client.children, each)))
        async with aclosing(answers):
            async for each, names in answers:
                if isinstance(names, Failure):
                    if each == path or not names.check(NoNodeError):
                        names.raiseException()
                    continue
                below += [join(each, name) for name in sorted(names)]
        level = below
        if level:
            yield level


@command(
    "get",
    "Show the data of a node.",
    arg("path", help="of the node"),
    STAT,
    WATCH,
    one_of(
        arg("-b", "--base64", action="store_true", help="in base64"),
        arg("-x", "--hex", action="store_true", help="as a hexadecimal dump"),
        arg("-r", "--raw", action="store_true", help="the bytes as they are, with nothing behind them"),
    ),
    examples=(
        ("get -s /app", "data and stat"),
        ("get --json /app", '{"path": "/app", "data": "..."}; base64 where it is no text'),
        ("get -r /app > FILE", "the data to the byte"),
    ),
)
async def get(context: Context, args: Namespace) -> None:
    """Show data."""
    path = check_path(args.path)
    client = await context.client()
    data, stat = await client.get(path, watcher_of(context, args.watch))
    if args.raw:
        context.text(data or b"")
        return
    if args.base64:
        text = b64encode(data or b"").decode() + "\n" if data is not None else "null\n"
    elif args.hex:
        text = hex_dump(data) if data is not None else "null\n"
    else:
        text = data_text(data) + "\n"
    value: dict[str, Any] = {"path": path, **data_json(data)}
    if args.stat:
        value["stat"] = stat_json(stat)
    if context.output == "table" and args.stat:
        value |= value.pop("stat")
    context.show(value, lambda: text + (stat_text(stat) if args.stat else ""))


@command(
    "set",
    "Change the data of a node.",
    arg("path", help="of the node"),
    arg("data", nargs="?", help="its new data"),
    STAT,
    VERSION,
    BASE64,
    FILE,
    examples=(
        ("set /app 'new data'", "whatever its version"),
        ("set -v 3 /app x", "only if nobody has changed it since version 3"),
        ("set -f app.json /app", "from a file"),
    ),
)
async def set_(context: Context, args: Namespace) -> None:
    """Change data."""
    path = check_path(args.path)
    data = given_data(args)
    if data is None:
        raise Problem(Status.USAGE, "the data is missing", hint="set PATH DATA, or set PATH --file FILE")
    stat = await (await context.client()).set(path, data, args.version)
    context.show(stat_json(stat), stat_text(stat) if args.stat else "")


@command(
    "stat",
    "Show the stat of a node.",
    arg("path", help="of the node"),
    WATCH,
    more="With -w also where there is no node: then the watch tells when there is one.",
    examples=(("stat --json /app", "for a script"),),
)
async def stat_(context: Context, args: Namespace) -> None:
    """Show a stat."""
    path = check_path(args.path)
    stat = await (await context.client()).exists(path, watcher_of(context, args.watch))
    if stat is None:
        raise NoNodeError(path=path)
    context.show(stat_json(stat), lambda: stat_text(stat))


@command(
    "ls",
    "Show the children of a node.",
    arg("path", nargs="?", default="/", help="of the node [/]"),
    STAT,
    WATCH,
    one_of(
        arg("-R", "--recursive", action="store_true", help="all that is below, a path a line"),
        arg("-l", "--long", action="store_true", help="a table: sizes, children, versions, owners, times"),
    ),
    examples=(
        ("ls /app", "[a, b]"),
        ("ls -l /app", "with sizes and versions"),
        ("ls -R --json /app", "a list of paths for a script"),
    ),
)
async def ls(context: Context, args: Namespace) -> None:
    """Show children."""
    path = check_path(args.path)
    client = await context.client()
    watcher = watcher_of(context, args.watch)
    if args.recursive:
        if watcher is not None:
            await client.children(path, watcher)
        found = []
        async for level in levels(context, client, path):
            if context.output == "text":
                context.text("".join(context.harmless(each) + "\n" for each in level))
                await context.screen.room()
            else:
                found += level
        if context.output != "text":
            context.show(found, "")
        return
    names, stat = await client.children_and_stat(path, watcher)
    names.sort()
    if args.long:
        rows = await _long(context, client, path, names)
        context.show(rows, lambda: table(rows) if rows else "")
    elif args.stat:
        value: Any = {"children": names, "stat": stat_json(stat)}
        if context.output == "table":
            value = {"children": names, **stat_json(stat)}
        context.show(value, lambda: f"[{', '.join(names)}]\n{stat_text(stat)}")
    else:
        context.show(names, lambda: f"[{', '.join(names)}]\n")


async def _long(context: Context, client: ZooKeeperClient, path: str, names: list[str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []

    def ask(name: str) -> Deferred[Any]:
        return Deferred.fromCoroutine(steady(context, client, client.exists, join(path, name)))

    answers = in_order(names, ask)
    async with aclosing(answers):
        async for name, stat in answers:
            if isinstance(stat, Failure):
                stat.trap(NoAuthError)
                rows.append({"name": name})
                continue
            if stat is None:
                continue
            rows.append(
                {
                    "name": name,
                    "size": stat.dataLength,
                    "children": stat.numChildren,
                    "version": stat.version,
                    "changed": show_time(stat.mtime),
                    "owner": f"{stat.ephemeralOwner:#x}" if stat.ephemeralOwner else None,
                }
            )
    return rows


@command(
    "getAllChildrenNumber",
    "Count all that is below a node.",
    arg("path", help="of the node"),
    examples=(("getAllChildrenNumber /app", "on all levels"),),
)
async def get_all_children_number(context: Context, args: Namespace) -> None:
    """Count a subtree."""
    path = check_path(args.path)
    number = await (await context.client()).get_all_children_number(path)
    context.show(number, f"{number}\n")


@command(
    "getEphemerals",
    "Show the ephemeral nodes of this session.",
    arg("path", nargs="?", default="/", help="only those below it [/]"),
    more="They are those that this shell has made; find --ephemeral shows everybody's.",
)
async def get_ephemerals(context: Context, args: Namespace) -> None:
    """Show the session's ephemeral nodes."""
    path = check_path(args.path)
    paths = sorted(await (await context.client()).get_ephemerals(path))
    context.show(paths, f"[{', '.join(paths)}]\n")


@command(
    "sync",
    "Let the server catch up with the leader.",
    arg("path", help="any; it makes no difference to today's servers"),
    more="What is read after it has all that was committed before it.",
)
async def sync(context: Context, args: Namespace) -> None:
    """Let the server catch up."""
    path = check_path(args.path)
    await (await context.client()).sync(path)
    context.show({"synced": path}, "Sync is OK\n")
