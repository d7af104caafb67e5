"""
The commands about quotas: setquota, listquota, delquota.

A quota is two nodes below /zookeeper/quota, which clients make; the servers count, and refuse what hard limits forbid.

Rules: spec: server-semantics 8.
"""

from __future__ import annotations

import contextlib
from argparse import Namespace

from zktwisted.client import ZooKeeperClient
from zktwisted.errors import NodeExistsError, NoNodeError, NotEmptyError
from zktwisted.tree.quota import StatsTrack
from zktwisted.zkt.command import Argument, arg, command, one_of
from zktwisted.zkt.context import Context
from zktwisted.zkt.nodes import levels
from zktwisted.zkt.paths import check_path, join, parent
from zktwisted.zkt.status import Problem, Status

__all__: list[str] = []

_ROOT = "/zookeeper/quota"
_LIMITS, _STATS = "/zookeeper_limits", "/zookeeper_stats"

_KINDS = {
    "n": ("nodes", "nodes, itself included; the servers only warn in their logs"),
    "b": ("size", "bytes of data; the servers only warn in their logs"),
    "N": ("count_hard_limit", "nodes; the servers refuse more, if enforceQuota=true there"),
    "B": ("byte_hard_limit", "bytes; the servers refuse more, if enforceQuota=true there"),
}


def _kinds(flags: bool) -> list[Argument]:
    options = {"action": "store_true"} if flags else {"type": int, "metavar": "VALUE"}
    return [arg(f"-{letter}", dest=name, help=text, **options) for letter, (name, text) in _KINDS.items()]


def _text(track: StatsTrack) -> str:
    """Return limits as ZooKeeper's shell writes them, every one of them."""
    return (
        f"count={track.nodes},bytes={track.size}=;"
        f"byteHardLimit={track.byte_hard_limit};countHardLimit={track.count_hard_limit}"
    )


async def _read(client: ZooKeeperClient, where: str) -> StatsTrack:
    try:
        return StatsTrack.parse((await client.get(where)).data)
    except ValueError as error:
        raise Problem(Status.CONFLICT, str(error), path=where) from None


async def _make(client: ZooKeeperClient, path: str) -> None:
    """Make the place of a quota, as far as it is not there."""
    where = _ROOT
    for name in path[1:].split("/"):
        where = join(where, name)
        with contextlib.suppress(NodeExistsError):
            await client.create(where)


async def _quota_beside(context: Context, client: ZooKeeperClient, path: str) -> None:
    """Refuse a quota above or below another: a node counts for one."""
    above = path
    while above != "/":
        above = parent(above)
        if above != "/" and await client.exists(_ROOT + above + _LIMITS) is not None:
            raise Problem(Status.CONFLICT, f"{above}, above it, has a quota already", path=path)
    if await client.exists(_ROOT + path) is None:
        return
    async for level in levels(context, client, _ROOT + path):
        for each in level:
            if each.endswith(_LIMITS) and each != _ROOT + path + _LIMITS:
                below = each.removeprefix(_ROOT).removesuffix(_LIMITS)
                raise Problem(Status.CONFLICT, f"{below}, below it, has a quota already", path=path)


@command(
    "setquota",
    "Limit how many nodes, or bytes of data, there may be at and below a node.",
    one_of(*_kinds(False), required=True),
    arg("path", help="of the node"),
    more="One limit at a time; those that were set before stay. -1 is none.",
    examples=(
        ("setquota -N 1000 /app", "at most 1000 nodes"),
        ("setquota -B 1000000 /app", "and at most a million bytes"),
    ),
)
async def setquota(context: Context, args: Namespace) -> None:
    """Set a limit."""
    path = check_path(args.path)
    name = next(name for name, _ in _KINDS.values() if getattr(args, name) is not None)
    value = getattr(args, name)
    if value < -1:
        raise Problem(Status.USAGE, f"{value} is no limit", hint="0 or more, or -1 for none")
    client = await context.client()
    if path == "/" or path.startswith("/zookeeper/") or path == "/zookeeper":
        raise Problem(Status.USAGE, "there are no quotas for the root and for what is the servers' own", path=path)
    if await client.exists(path) is None:
        raise NoNodeError(path=path)
    await _quota_beside(context, client, path)
    limits = _ROOT + path + _LIMITS
    try:
        track = (await _read(client, limits))._replace(**{name: value})
        await client.set(limits, _text(track).encode())
    except NoNodeError:
        await _make(client, path)
        await client.create(limits, _text(StatsTrack()._replace(**{name: value})).encode())
        await client.create(_ROOT + path + _STATS, b"count=0,bytes=0")
    context.show({"path": path, name: value}, "")


@command(
    "listquota",
    "Show the quota of a node, and how much of it is used.",
    arg("path", help="of the node"),
)
async def listquota(context: Context, args: Namespace) -> None:
    """Show limits and counts."""
    path = check_path(args.path)
    client = await context.client()
    limits = _ROOT + ("" if path == "/" else path) + _LIMITS
    if context.output == "text":
        context.show(None, f"absolute path is {limits}\n")
    try:
        quota = await _read(client, limits)
        used = await _read(client, limits.removesuffix(_LIMITS) + _STATS)
    except NoNodeError:
        raise Problem(Status.NO_NODE, "it has no quota", path=path, hint="setquota gives it one") from None
    value = {"quota": quota._asdict(), "used": {"nodes": used.nodes, "size": used.size}}
    text = f"Output quota for {path} {_text(quota)}\nOutput stat for {path} count={used.nodes},bytes={used.size}\n"
    context.show(value, text)


@command(
    "delquota",
    "Take a limit away, or the whole quota of a node.",
    one_of(*_kinds(True)),
    arg("path", help="of the node"),
    examples=(("delquota /app", "no quota any more"), ("delquota -b /app", "only the soft limit of bytes")),
)
async def delquota(context: Context, args: Namespace) -> None:
    """Take limits away."""
    path = check_path(args.path)
    client = await context.client()
    where = _ROOT + path
    try:
        track = await _read(client, where + _LIMITS)
        for name, _ in _KINDS.values():
            if getattr(args, name):
                await client.set(where + _LIMITS, _text(track._replace(**{name: -1})).encode())
                return
        for each in (where + _LIMITS, where + _STATS):
            await client.delete(each)
    except NoNodeError:
        raise Problem(Status.NO_NODE, "it has no quota", path=path) from None
    while where != _ROOT:
        try:
            await client.delete(where)
        except (NotEmptyError, NoNodeError):
            return
        where = parent(where)
