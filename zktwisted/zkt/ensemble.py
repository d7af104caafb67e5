"""The commands about the servers: config, reconfig, version."""

from __future__ import annotations

import re
from argparse import Namespace
from pathlib import Path

from zktwisted._version import __version__
from zktwisted.zkt.command import arg, command, one_of
from zktwisted.zkt.context import Context
from zktwisted.zkt.format import data_text, stat_json, stat_text
from zktwisted.zkt.nodes import STAT, WATCH, watcher_of
from zktwisted.zkt.status import Problem, Status

__all__: list[str] = []

_SERVER = re.compile(r"^server\.(\d+)\s*=\s*(.+)$", re.MULTILINE)


def _client_addresses(config: str) -> list[str]:
    """Return where clients connect, of a configuration of the ensemble."""
    found = []
    for _, server in _SERVER.findall(config):
        address, _, client = server.partition(";")
        if client:
            host = address.partition(":")[0]
            found.append(client if ":" in client else f"{host}:{client}")
    return found


@command(
    "config",
    "Show the members of the ensemble.",
    STAT,
    WATCH,
    arg("-c", "--client", action="store_true", help="only the version, and where clients connect"),
    more="A server that stands alone has no members to show.",
    examples=(("config -c", "a connect string for clients"),),
)
async def config(context: Context, args: Namespace) -> None:
    """Show the ensemble's configuration."""
    data, stat = await (await context.client()).get_config(watcher_of(context, args.watch))
    text = data_text(data or b"")
    found = re.search(r"^version=(\S+)", text, re.MULTILINE)
    version = found[1] if found else ""
    addresses = _client_addresses(text)
    value = {"version": version, "servers": dict(_SERVER.findall(text)), "clients": addresses}
    if args.stat:
        value["stat"] = stat_json(stat)
    shown = f"{version} {','.join(addresses)}\n" if args.client else text + "\n"
    context.show(value, lambda: shown + (stat_text(stat) if args.stat else ""))


@command(
    "reconfig",
    "Change the members of the ensemble.",
    STAT,
    arg(
        "-v",
        "--version",
        type=lambda text: int(text, 16),
        default=-1,
        metavar="VERSION",
        help="only if the configuration has this version, in hexadecimal as config shows it",
    ),
    one_of(
        arg("-file", "--file", metavar="FILE", help="a file with the server lines of all members"),
        arg("-members", "--members", metavar="SERVERS", help="all members: server.N=...,server.M=..."),
        arg("-add", "--add", action="append", metavar="SERVERS", help="members that come, or change"),
    ),
    arg("-remove", "--remove", action="append", metavar="IDS", help="ids of members that go"),
    more=(
        "A member is server.N=HOST:PORT:PORT[:ROLE];[HOST:]PORT. The servers have to allow it:\n"
        "reconfigEnabled=true, and write permission for /zookeeper/config."
    ),
    examples=(
        ("reconfig -add 'server.4=zk4:2888:3888;2181'", "one more"),
        ("reconfig -remove 4", "and without it again"),
    ),
)
async def reconfig(context: Context, args: Namespace) -> None:
    """Change the ensemble."""
    members = args.members
    if args.file is not None:
        found = _SERVER.findall(Path(args.file).read_text("utf-8", "replace"))
        if not found:
            raise Problem(Status.LOCAL, "there are no lines server.N=... in it", path=args.file)
        members = ",".join(f"server.{number}={server.strip()}" for number, server in found)
    joining = ",".join(args.add) if args.add else None
    leaving = ",".join(args.remove) if args.remove else None
    if members is not None and leaving is not None:
        raise Problem(Status.USAGE, "--remove does not go with a whole list of members")
    if not (members or joining or leaving):
        raise Problem(Status.USAGE, "nothing is to be changed", hint="--add, --remove, --members or --file")
    data, stat = await (await context.client()).reconfig(joining, leaving, members, args.version)
    text = data_text(data or b"")
    value = {"servers": dict(_SERVER.findall(text)), "stat": stat_json(stat)}
    shown = f"Committed new configuration:\n{text}\n"
    context.show(value, lambda: shown + (stat_text(stat) if args.stat else ""))


@command("version", "Show the version of this command.")
async def version(context: Context, args: Namespace) -> None:
    """Show our version."""
    context.show({"version": __version__}, f"ZooKeeper CLI version: zkt {__version__}\n")
