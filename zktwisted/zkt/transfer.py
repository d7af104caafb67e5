"""
The commands that take trees from one place to another: cp, mirror, export, import; and diff, which only compares.

All but export go through both trees beside each other and do what makes the second like the first.  Running one again
after it was interrupted therefore does the rest.
"""

from __future__ import annotations

import difflib
from argparse import Namespace
from contextlib import aclosing
from pathlib import Path
from typing import Any

from zktwisted.client import ACL, OPEN_ACL, Id, Perm, ZooKeeperClient
from zktwisted.errors import KeeperError, NoNodeError
from zktwisted.zkt.archive import DirectoryTree, DirectoryWriter, FileTree, FileWriter, LinesWriter, open_archive
from zktwisted.zkt.command import arg, command
from zktwisted.zkt.context import Context
from zktwisted.zkt.format import acl_text, show_size
from zktwisted.zkt.paths import Key, check_path, parent
from zktwisted.zkt.pipeline import Window
from zktwisted.zkt.progress import Progress
from zktwisted.zkt.status import Problem, Status
from zktwisted.zkt.trees import LiveTree, Pair, Record, beside

__all__ = ["locate"]

_REMOTE = "zk://"
_LINES = (".ndjson", ".jsonl", ".json")

ACLS = arg("--no-acls", dest="acls", action="store_false", help="leave ACLs alone; new nodes are open to everybody")
EPHEMERALS = arg("--ephemerals", action="store_true", help="ephemeral nodes as well, as ordinary ones")
DRY_RUN = arg("-n", "--dry-run", action="store_true", help="only show what would be done")
VERBOSE = arg("-v", "--verbose", action="store_true", help="show what is done, a node a line")
WHERE = "/path is a node of this server, zk://HOST:PORT/path one of another, which is asked with the same options."


async def locate(context: Context, text: str, args: Namespace) -> LiveTree | DirectoryTree | FileTree:
    """
    Return the tree that an argument names: C{/path}, C{zk://hosts/path}, or a file or directory.

    @raise Problem: it is none of these.
    """
    options = {"acls": args.acls, "ephemerals": args.ephemerals}
    if text.startswith(_REMOTE):
        hosts, slash, path = text.removeprefix(_REMOTE).partition("/")
        path = check_path(slash + path or "/")
        tree = LiveTree(context, await context.other_client(hosts), path, **options)
        tree.name = f"{_REMOTE}{hosts}{path}"
        return tree
    if text.startswith("/"):
        return LiveTree(context, await context.client(), check_path(text), **options)
    return open_archive(text.removeprefix("file:"))


async def _live(context: Context, text: str, args: Namespace) -> LiveTree:
    tree = await locate(context, text, args)
    if not isinstance(tree, LiveTree):
        raise Problem(Status.USAGE, "it is no node", path=text, hint="write /path or zk://HOST:PORT/path")
    return tree


async def _total(context: Context, tree: Any) -> int | None:
    return await tree.total() if context.progress and isinstance(tree, LiveTree) else None


# -- making one tree like another


class _Change:
    """Makes one live tree like another tree, step by step."""

    def __init__(self, context: Context, target: LiveTree, args: Namespace, delete: bool) -> None:
        """@param delete: whether nodes that the other tree does not have are deleted."""
        self._context = context
        self._target = target
        self._client: ZooKeeperClient = target.client
        self._dry = args.dry_run
        self._told = args.dry_run or args.verbose
        self._delete = delete
        self._window = Window()
        # ACLs that are given when all below their nodes is done: they may forbid us to make it.
        self._closing: list[tuple[Key, tuple[ACL, ...]]] = []
        # What is to be made when the next node tells whether it has children.
        self._held: Record | None = None
        self._doomed: list[Key] = []
        self._ours: tuple[ACL, ...] = ()
        self.rows: list[dict[str, Any]] = []
        self.counts = dict.fromkeys(("created", "changed", "acls", "deleted", "same", "left"), 0)

    async def run(self, source: Any, progress: Progress) -> None:
        """Go through both trees."""
        root = self._target.root
        if root != "/" and not self._dry:
            await self._client.ensure_path(parent(root))
        try:
            async with aclosing(beside(source, self._target)) as pairs:
                async for pair in pairs:
                    await self._step(pair)
                    progress.add(pair.left.size if pair.left else 0)
            await self._release(None)
            await self._close(None)
            await self._delete_doomed(None)
            await self._window.drained()
        finally:
            self._window.give_up()

    async def _step(self, pair: Pair) -> None:
        key = pair.key
        await self._release(key)
        await self._close(key)
        await self._delete_doomed(key)
        left, right = pair.left, pair.right
        if left is None:
            if self._delete:
                self._doomed.append(key)
            else:
                self.counts["left"] += 1
        elif right is None:
            self._held = left
        else:
            await self._change(left, pair.differences())

    async def _change(self, left: Record, differences: list[str]) -> None:
        path = self._target.show(left.key)
        if "data" in differences:
            self._tell("set", path, left)
            self.counts["changed"] += 1
            if not self._dry:
                await self._window.add(self._client.set(path, left.data), left.size)
        if "acl" in differences and left.acl is not None:
            self._tell("setAcl", path, left)
            self.counts["acls"] += 1
            self._closing.append((left.key, left.acl))
        if not {"data", "acl"} & set(differences):
            self.counts["same"] += 1

    async def _release(self, key: Key | None) -> None:
        """Make the node that was held back, now that the next is known."""
        record, self._held = self._held, None
        if record is None:
            return
        path = self._target.show(record.key)
        self._tell("create", path, record)
        self.counts["created"] += 1
        if self._dry:
            return
        acl = OPEN_ACL if record.acl is None else record.acl
        inner = key is not None and key[: len(record.key)] == record.key
        if inner and not _lets_create(acl):
            self._closing.append((record.key, acl))
            acl = (*acl, *await self._own_acl())
        made = self._client.create(path, record.data, acl, container=record.kind == "container", ttl_ms=record.ttl_ms)
        await self._window.add(made, record.size)

    async def _own_acl(self) -> tuple[ACL, ...]:
        """Return what lets us go on below a node until it has its own ACL."""
        if not self._ours:
            try:
                found = await self._client.who_am_i()
                self._ours = tuple(ACL(Perm.ALL, Id(each.auth_scheme or "", each.user or "")) for each in found)
            except KeeperError:
                self._ours = ()  # a server before 3.7; then whoever may not create has to authenticate
            if not self._ours:
                self._ours = tuple(OPEN_ACL)
            self._ours = tuple(each for each in self._ours if each.id.scheme == "ip") or self._ours
        return self._ours

    async def _close(self, key: Key | None) -> None:
        """Give ACLs to nodes below which all is done."""
        while self._closing:
            above, acl = self._closing[-1]
            if key is not None and key[: len(above)] == above:
                return
            self._closing.pop()
            if not self._dry:
                await self._window.add(self._client.set_acl(self._target.show(above), acl))

    async def _delete_doomed(self, key: Key | None) -> None:
        """Delete, from its leaves, a subtree of which the last node has been seen."""
        if not self._doomed or (key is not None and key[: len(self._doomed[0])] == self._doomed[0]):
            return
        doomed, self._doomed = self._doomed, []
        for each in reversed(doomed):
            path = self._target.show(each)
            self._tell("delete", path, None)
            self.counts["deleted"] += 1
            if not self._dry:
                await self._window.add(self._gone(path))

    async def _gone(self, path: str) -> None:
        try:
            await self._client.delete(path)
        except NoNodeError:
            return  # gone already

    def _tell(self, action: str, path: str, record: Record | None) -> None:
        if not self._told:
            return
        value: dict[str, Any] = {"action": action, "path": path}
        text = f"{action:<7}{self._context.harmless(path)}"
        if record is not None and action == "setAcl":
            value["acl"] = acl_text(record.acl or ())
            text += f"  {value['acl']}"
        elif record is not None:
            value["size"] = record.size
            text += f"  ({show_size(record.size)})"
        if self._context.output == "table":
            self.rows.append(value)
        else:
            self._context.show(value, text + "\n")


def _lets_create(acl: Any) -> bool:
    return any(who.scheme == "world" and perms & Perm.CREATE for perms, who in acl)


async def _make_like(context: Context, source: Any, target: LiveTree, args: Namespace, delete: bool) -> None:
    """Make C{target} like C{source}, and say what that was."""
    if isinstance(source, LiveTree) and source.client is target.client:
        one, other = source.root.rstrip("/") + "/", target.root.rstrip("/") + "/"
        if one.startswith(other) or other.startswith(one):
            raise Problem(Status.USAGE, f"{source.root} and {target.root} are in one another")
    target.required = False
    change = _Change(context, target, args, delete)
    verb = "compared" if args.dry_run else "copied"
    with Progress(context, verb, await _total(context, source)) as progress:
        await change.run(source, progress)
    counts = change.counts
    words = [f"{counts[name]:,} {text}" for name, text in (
        ("created", "created"), ("changed", "changed"), ("acls", "with another ACL"), ("deleted", "deleted"),
        ("same", "the same"), ("left", "only there"),
    ) if counts[name] or name == "created"]  # fmt: skip
    would = "would be: " if args.dry_run else ""
    if change.rows:
        context.show(change.rows, "")
    context.show(counts, f"{would}{', '.join(words)}\n")


@command(
    "cp",
    "Copy a tree.",
    arg("source", help="the node that is copied, with all below it"),
    arg("target", help="the node that becomes its copy; what is missing above it is made"),
    DRY_RUN,
    VERBOSE,
    ACLS,
    EPHEMERALS,
    more=(
        f"{WHERE}\n"
        "Nodes that are there already get data and ACL of the source; nodes that the source does not have stay\n"
        "(see mirror). Versions, times and the counters of sequential names begin anew, and containers and nodes\n"
        "with a time to live become ordinary ones: servers do not tell which they are. /zookeeper is not copied."
    ),
    examples=(
        ("cp /app /app.old", "on one server"),
        ("cp /app zk://other:2181/app", "to another"),
        ("cp -n zk://other:2181/app /app", "what would change here"),
    ),
    trees=True,
)
async def cp(context: Context, args: Namespace) -> None:
    """Copy a tree."""
    source, target = await _live(context, args.source, args), await _live(context, args.target, args)
    await _make_like(context, source, target, args, False)


@command(
    "mirror",
    "Make a tree the same as another: copy it, and delete what it does not have.",
    arg("source", help="the node that is copied, with all below it"),
    arg("target", help="the node that becomes its mirror image"),
    DRY_RUN,
    VERBOSE,
    ACLS,
    EPHEMERALS,
    more=(
        f"{WHERE}\n"
        "As cp, but nodes below the target that the source does not have are deleted. Ephemeral nodes there stay,\n"
        "except with --ephemerals. Look with --dry-run first."
    ),
    examples=(
        ("mirror -n zk://other:2181/app /app", "what would change"),
        ("mirror /app zk://other:2181/app", "do it"),
    ),
    trees=True,
)
async def mirror(context: Context, args: Namespace) -> None:
    """Mirror a tree."""
    source, target = await _live(context, args.source, args), await _live(context, args.target, args)
    await _make_like(context, source, target, args, True)


@command(
    "import",
    "Make nodes from a file or directory that export wrote.",
    arg("source", help="the file or directory; - is standard input"),
    arg("target", nargs="?", default="/", help="the node that becomes what was exported [/]"),
    DRY_RUN,
    VERBOSE,
    arg("--delete", action="store_true", help="delete what is not in the export, as mirror does"),
    ACLS,
    EPHEMERALS,
    more=(
        "Nodes that are there already get data and ACL of the export. A file is checked from end to end before\n"
        "anything is changed."
    ),
    examples=(
        ("import app.ndjson /app", "back to where it was"),
        ("import -n --delete app.ndjson /app", "what would have to change"),
    ),
    trees=True,
)
async def import_(context: Context, args: Namespace) -> None:
    """Import a tree."""
    source = open_archive(args.source)
    await _make_like(context, source, await _live(context, args.target, args), args, args.delete)


@command(
    "export",
    "Write a tree into a file or a directory.",
    arg("source", help="the node, with all below it"),
    arg(
        "target",
        nargs="?",
        default="-",
        help="the file (.ndjson, .jsonl, .json) or a new directory; - is standard output [-]",
    ),
    arg("-f", "--force", action="store_true", help="replace the file if it exists"),
    ACLS,
    EPHEMERALS,
    more=(
        "Data is kept to the byte, ACLs as well; versions and times are not, so that two exports of the same tree\n"
        "are the same. A directory has a directory or file for each node.\n"
        "What is written has its name only when it is whole."
    ),
    examples=(
        ("export /app app.ndjson", "a line of JSON for each node"),
        ("export /app app/", "a directory, to be looked through and changed with any tool"),
        ("export / | gzip > all.ndjson.gz", "everything"),
    ),
    trees=True,
)
async def export(context: Context, args: Namespace) -> None:
    """Export a tree."""
    source = await _live(context, args.source, args)
    writer: LinesWriter | FileWriter | DirectoryWriter
    path = Path(args.target)
    if await source.client.exists(source.root) is None:
        raise NoNodeError(path=source.name)
    if args.target == "-":
        writer = LinesWriter(context.text, source.root)
    elif path.suffix in _LINES and not args.target.endswith("/"):
        writer = FileWriter(path, source.root, args.force)
    else:
        writer = DirectoryWriter(path)
    writer.begin()
    try:
        with Progress(context, "exported", await _total(context, source)) as progress:
            async with aclosing(source.records()) as records:
                async for record in records:
                    writer.add(record)
                    progress.add(record.size)
                    await context.screen.room()
            writer.end()
    except BaseException:
        writer.give_up()
        raise
    if args.target != "-":
        value = {"nodes": progress.done, "size": progress.size, "target": args.target}
        context.show(value, f"{progress.done:,} nodes, {show_size(progress.size)}, in {args.target}\n")


# -- comparing


@command(
    "diff",
    "Compare two trees.",
    arg("left", help="a node, a file or a directory"),
    arg("right", help="another"),
    arg("-q", "--quiet", action="store_true", help="show nothing; the status tells"),
    arg("-t", "--text", action="store_true", help="show differences of data line by line"),
    ACLS,
    EPHEMERALS,
    more=(
        f"{WHERE}\n"
        "Anything else is an export: a file or a directory, file:/path where the name begins with a slash.\n"
        "Compared are data and ACLs, not versions and times. - is only in the left tree, + only in\n"
        "the right one, ! differs. The status is 0 if they are the same, and 1 if not."
    ),
    examples=(
        ("diff /app zk://other:2181/app", "two servers"),
        ("diff app.ndjson /app", "what has changed since the export"),
        ("diff -t /a /b", "with the lines that differ"),
    ),
    trees=True,
)
async def diff(context: Context, args: Namespace) -> Status:
    """Compare two trees."""
    left, right = await locate(context, args.left, args), await locate(context, args.right, args)
    for tree in (left, right):
        if isinstance(tree, LiveTree) and await tree.client.exists(tree.root) is None:
            hint = f"for the file of this name write file:{tree.name}" if Path(tree.name).exists() else None
            raise Problem(Status.NO_NODE, "there is no such node", path=tree.name, hint=hint)
    found = 0
    rows: list[dict[str, Any]] = []
    with Progress(context, "compared", await _total(context, left)) as progress:
        async with aclosing(beside(left, right)) as pairs:
            async for pair in pairs:
                progress.add(pair.left.size if pair.left else 0)
                differences = pair.differences()
                if pair.left is not None and pair.right is not None and not differences:
                    continue
                found += 1
                if args.quiet:
                    break
                if context.output == "text":
                    context.text(_shown(context, pair, differences, args.text))
                    await context.screen.room()
                else:
                    rows.append(_difference(pair, differences))
                    if context.output == "json":
                        context.show(rows.pop(), "")
                        await context.screen.room()
    if rows:
        context.show(rows, "")
    return Status.DIFFERENT if found else Status.OK


def _name(pair: Pair) -> str:
    return "/" + "/".join(pair.key)


def _difference(pair: Pair, differences: list[str]) -> dict[str, Any]:
    where = "both" if pair.left and pair.right else "left" if pair.left else "right"
    return {"path": _name(pair), "in": where, "differs": differences}


def _shown(context: Context, pair: Pair, differences: list[str], by_line: bool) -> str:
    path = context.harmless(_name(pair))
    left, right = pair.left, pair.right
    if left is None or right is None:
        sign, colour = ("-", "red") if right is None else ("+", "green")
        return context.paint(f"{sign} {path}", colour) + "\n"
    words = []
    if "data" in differences:
        words.append(f"data {_size(left)} -> {_size(right)}")
    if "acl" in differences:
        words.append(f"acl {acl_text(left.acl or ())} -> {acl_text(right.acl or ())}")
    text = context.paint(f"! {path}", "yellow") + f"  {context.harmless('; '.join(words))}\n"
    if by_line and "data" in differences:
        one, other = ((each.data or b"").decode("utf-8", "replace").splitlines() for each in (left, right))
        for line in list(difflib.unified_diff(one, other, lineterm="", n=1))[2:]:
            colour = {"-": "red", "+": "green"}.get(line[0], "dim")
            text += "    " + context.paint(context.harmless(line), colour) + "\n"
    return text


def _size(record: Record) -> str:
    return "null" if record.data is None else show_size(record.size)
