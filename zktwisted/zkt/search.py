"""The commands that look through a tree: find and tree."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from zktwisted.zkt.command import arg, command
from zktwisted.zkt.context import Context
from zktwisted.zkt.format import parse_age, parse_size, show_size, show_time, stat_json
from zktwisted.zkt.paths import check_path, join
from zktwisted.zkt.progress import Progress
from zktwisted.zkt.status import Problem, Status
from zktwisted.zkt.walk import Node, Walk

__all__: list[str] = []


def _pattern(text: str) -> re.Pattern[bytes]:
    try:
        return re.compile(text.encode())
    except re.error as error:
        raise ValueError(f"{text!r} is no regular expression: {error}") from None


def _session(text: str) -> int:
    value = int(text, 16)
    return value - (1 << 64) if value >= 1 << 63 else value


# argparse says the name of a type when it does not accept something.
_pattern.__name__, _session.__name__ = "regular expression", "session id (hexadecimal)"
parse_age.__name__, parse_size.__name__ = "time (90s, 5m, 2h, 7d)", "size (100, 10k, 1.5M)"


@command(
    "find",
    "Find nodes, by name, data, owner, size or age.",
    arg("path", nargs="?", default="/", help="where to begin [/]"),
    arg("--name", metavar="GLOB", help="the last name of the path is like this; * stands for any letters"),
    arg("--path", dest="glob", metavar="GLOB", help="the whole path is like this"),
    arg("--data", type=_pattern, metavar="REGEXP", help="the data has this in it"),
    arg("--ephemeral", action="store_true", help="only ephemeral nodes"),
    arg("--owner", type=_session, metavar="SESSION", help="ephemeral, of this session (0x...)"),
    arg("--min-size", type=parse_size, metavar="SIZE", help="this many bytes of data, or more: 100, 10k, 1.5M"),
    arg("--max-size", type=parse_size, metavar="SIZE", help="this many, or less; 0 finds nodes without data"),
    arg("--newer", type=parse_age, metavar="TIME", help="changed within this time: 90s, 5m, 2h, 7d"),
    arg("--older", type=parse_age, metavar="TIME", help="not changed within this time"),
    arg("--leaf", action="store_true", help="without children"),
    arg("--depth", type=int, metavar="N", help="at most so many levels below PATH"),
    arg("-l", "--long", action="store_true", help="with size, time of the last change, and owner if it is ephemeral"),
    arg("-0", "--null", action="store_true", help="end paths with a null byte, for xargs -0"),
    more=(
        "All that is asked for has to be true of a node. Ages are measured by the clock of this machine.\n"
        "The status is 1 if nothing is found.\n"
        "What our ACLs do not let us look at is told on standard error, and found only by its name."
    ),
    examples=(
        ("find /app --name 'lock-*' --older 1d", "locks that nobody has touched since yesterday"),
        ("find --ephemeral -l", "all ephemeral nodes, and since when"),
        ("find --data 'port=\\d+' /conf", "by a regular expression"),
        ("find /app --min-size 100k --json", "for a script: path and stat, a line each"),
    ),
    trees=True,
)
async def find(context: Context, args: Namespace) -> Status:
    """Find nodes."""
    path = check_path(args.path)
    by_name, tests = list(_name_tests(args)), list(_tests(args, context.now()))
    client = await context.client()
    walk = Walk(context, client, path, data=args.data is not None, depth=args.depth)
    found = 0
    rows = []
    with Progress(context, "looked at") as progress:
        async with aclosing(walk.nodes()) as nodes:
            async for node in nodes:
                progress.add(node.stat.dataLength)
                where = walk.path(node)
                if not all(test(where) for test in by_name):
                    continue
                if node.denied and tests:
                    context.note(f"find: {where}: its ACL does not permit looking at it")
                if tests and (node.denied or not all(test(node) for test in tests)):
                    continue
                found += 1
                if context.output == "table":
                    rows.append(_row(where, node))
                else:
                    _show_found(context, args, where, node)
                    await context.screen.room()
    if context.output == "table":
        context.show(rows, "")
    return Status.OK if found else Status.DIFFERENT


def _row(path: str, node: Node) -> dict[str, Any]:
    stat = node.stat
    owner = f"{stat.ephemeralOwner:#x}" if stat.ephemeralOwner else ""
    return {"size": stat.dataLength, "changed": show_time(stat.mtime), "path": path, "owner": owner}


def _show_found(context: Context, args: Namespace, path: str, node: Node) -> None:
    if context.output == "json":
        context.show({"path": path, "stat": stat_json(node.stat)}, "")
    elif args.long:
        row = _row(path, node)
        owner = f"  ({row['owner']})" if row["owner"] else ""
        context.show(row, f"{row['size']:>8}  {row['changed']}  {path}{owner}\n")
    elif args.null:
        context.text(path + "\0")
    else:
        context.show(path, path + "\n")


def _name_tests(args: Namespace) -> Iterator[Callable[[str], bool]]:
    """Yield what has to be true of a path."""
    if args.name is not None:
        yield lambda path: fnmatchcase(path.rpartition("/")[2], args.name)
    if args.glob is not None:
        yield lambda path: fnmatchcase(path, args.glob)


def _tests(args: Namespace, now: float) -> Iterator[Callable[[Node], bool]]:
    """Yield what has to be true of a node, for which we have to be allowed to look at it."""
    if args.ephemeral:
        yield lambda node: node.stat.ephemeralOwner != 0
    if args.owner is not None:
        yield lambda node: node.stat.ephemeralOwner == args.owner
    if args.min_size is not None:
        yield lambda node: node.stat.dataLength >= args.min_size
    if args.max_size is not None:
        yield lambda node: node.stat.dataLength <= args.max_size
    if args.newer is not None:
        yield lambda node: node.stat.mtime / 1000 >= now - args.newer
    if args.older is not None:
        yield lambda node: node.stat.mtime / 1000 < now - args.older
    if args.leaf:
        yield lambda node: node.stat.numChildren == 0
    if args.data is not None:
        yield lambda node: node.data is not None and args.data.search(node.data) is not None


# -- tree


@dataclass
class _Branch:
    """
    A node of the picture, with what is below it.

    @ivar nodes: it and all below.
    @ivar size: bytes of data in them.
    """

    name: str
    ephemeral: bool
    nodes: int = 1
    size: int = 0
    denied: bool = False
    below: list[_Branch] = field(default_factory=list)

    def value(self) -> dict[str, Any]:
        """For JSON."""
        found: dict[str, Any] = {"name": self.name, "nodes": self.nodes, "size": self.size}
        if self.ephemeral:
            found["ephemeral"] = True
        if self.below:
            found["children"] = [each.value() for each in self.below]
        return found


@command(
    "tree",
    "Show a tree, with sizes and counts.",
    arg("path", nargs="?", default="/", help="where to begin [/]"),
    arg("-L", "--depth", type=int, metavar="N", help="show at most so many levels; sizes and counts are of everything"),
    arg("--sort", choices=("name", "size", "nodes"), default="name", help="order within a node [name]"),
    arg("-n", "--limit", type=int, metavar="N", help="show at most N children of a node"),
    more=(
        "Beside a node stand the bytes of data in it and below it, and how many nodes it has below.\n"
        "What is shown is kept in memory: of a large tree look at a few levels."
    ),
    examples=(
        ("tree /app", "everything"),
        ("tree -L 2 --sort size", "where the data is"),
        ("tree -L 1 -n 10 --sort nodes", "the ten largest trees"),
    ),
    trees=True,
)
async def tree(context: Context, args: Namespace) -> None:
    """Show a tree."""
    path = check_path(args.path)
    for name in ("depth", "limit"):
        if getattr(args, name) is not None and getattr(args, name) < 0:
            raise Problem(Status.USAGE, f"--{name} {getattr(args, name)} is less than nothing")
    client = await context.client()
    top = await _grow(context, Walk(context, client, path), args.depth)
    _order(top, args.sort)
    top.name = path
    if context.output != "text":
        rows = list(_flat(top, "")) if context.output == "table" else top.value()
        context.show(rows, "")
        return
    paint = context.paint
    lines = [paint(context.harmless(path), "bold", "blue") + paint(_beside(top), "dim")]
    lines += _picture(context, top, "", args.limit)
    for start in range(0, len(lines), 1000):
        context.text("\n".join(lines[start : start + 1000]) + "\n")
        await context.screen.room()
    context.text(paint(f"\n{top.nodes:,} nodes, {show_size(top.size)}\n", "dim"))


async def _grow(context: Context, walk: Walk, depth: int | None) -> _Branch:
    """Read a tree; nodes below C{depth} only count."""
    way: list[_Branch] = []
    with Progress(context, "looked at") as progress:
        async with aclosing(walk.nodes()) as nodes:
            async for node in nodes:
                progress.add(node.stat.dataLength)
                del way[len(node.key) :]
                ephemeral = node.stat.ephemeralOwner != 0
                branch = _Branch(node.key[-1] if node.key else "", ephemeral, 0, denied=node.denied)
                if way and (depth is None or len(node.key) <= depth):
                    way[-1].below.append(branch)
                way.append(branch)
                for each in way:
                    each.nodes += 1
                    each.size += node.stat.dataLength
    return way[0]


def _order(branch: _Branch, by: str) -> None:
    if by != "name":
        branch.below.sort(key=lambda each: -getattr(each, by))
    for each in branch.below:
        _order(each, by)


def _flat(branch: _Branch, above: str) -> Any:
    path = join(above, branch.name) if above else branch.name
    yield {"path": path, "nodes": branch.nodes, "size": branch.size}
    for each in branch.below:
        yield from _flat(each, path)


def _beside(branch: _Branch) -> str:
    words = []
    if branch.ephemeral:
        words.append("ephemeral")
    if branch.size:
        words.append(show_size(branch.size))
    if branch.nodes > 1:
        words.append(f"{branch.nodes - 1:,} below")
    if branch.denied:
        words.append("not readable")
    return f"  ({', '.join(words)})" if words else ""


def _picture(context: Context, branch: _Branch, before: str, limit: int | None) -> Any:
    shown = branch.below if limit is None else branch.below[:limit]
    left = len(branch.below) - len(shown)
    for each in shown:
        last = each is branch.below[-1]
        name = context.harmless(each.name)
        colours = ("bold", "blue") if each.nodes > 1 else ("yellow",) if each.ephemeral else ()
        name = context.paint(name, *colours) if colours else name
        yield f"{before}{'└── ' if last else '├── '}{name}{context.paint(_beside(each), 'dim')}"
        yield from _picture(context, each, before + ("    " if last else "│   "), limit)
    if left:
        yield f"{before}└── {context.paint(f'... {left:,} more', 'dim')}"
