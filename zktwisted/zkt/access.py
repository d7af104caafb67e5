"""The commands about who may do what: addauth, whoami, getAcl, setAcl."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from zktwisted.client import ACL
from zktwisted.zkt.command import arg, command
from zktwisted.zkt.context import Context
from zktwisted.zkt.format import parse_acl, perms_text, stat_json, stat_text
from zktwisted.zkt.nodes import STAT, levels
from zktwisted.zkt.paths import check_path
from zktwisted.zkt.pipeline import Window

__all__: list[str] = []


@command(
    "addauth",
    "Authenticate.",
    arg("scheme", help="digest, or another that the servers know"),
    arg("auth", nargs="?", default="", help="what it needs: NAME:PASSWORD for digest"),
    more=(
        "Whatever the shell does after it is done by this identity as well, also after a lost connection.\n"
        "Where the server does not accept it the session is over. For a single command: --auth."
    ),
    examples=(("addauth digest ann:secret", "be ann"),),
)
async def addauth(context: Context, args: Namespace) -> None:
    """Authenticate."""
    await (await context.client()).add_auth(args.scheme, args.auth)


@command("whoami", "Show who the server takes us for.")
async def whoami(context: Context, args: Namespace) -> None:
    """Show our identities."""
    found = sorted(await (await context.client()).who_am_i())
    value = [{"scheme": each.auth_scheme, "user": each.user} for each in found]
    context.show(value, "Auth scheme: User\n" + "".join(f"{each.auth_scheme}: {each.user}\n" for each in found))


def _acl_lines(acl: Any) -> str:
    return "".join(f"'{who.scheme},'{who.id}\n: {perms_text(perms)}\n" for perms, who in acl or ())


def acl_json(acl: Any) -> list[dict[str, str]]:
    """Return an ACL for JSON."""
    return [{"scheme": who.scheme, "id": who.id, "perms": perms_text(perms)} for perms, who in acl or ()]


@command(
    "getAcl",
    "Show the ACL of a node.",
    arg("path", help="of the node"),
    STAT,
    examples=(("getAcl /app", "who may do what"), ("getAcl --table /app", "as a table")),
)
async def get_acl(context: Context, args: Namespace) -> None:
    """Show an ACL."""
    path = check_path(args.path)
    acl, stat = await (await context.client()).get_acl(path)
    value: Any = acl_json(acl)
    if args.stat and context.output == "json":
        value = {"acl": value, "stat": stat_json(stat)}
    context.show(value, lambda: _acl_lines(acl) + (stat_text(stat) if args.stat else ""))


@command(
    "setAcl",
    "Give a node another ACL.",
    arg("path", help="of the node"),
    arg("acl", help="SCHEME:ID:PERMISSIONS, with commas between"),
    STAT,
    arg("-v", "--version", type=int, default=-1, metavar="VERSION", help="only if the ACL has this version"),
    arg("-R", "--recursive", action="store_true", help="all that is below it as well"),
    more="Permissions are letters: c create, d delete, r read, w write, a admin.",
    examples=(
        ("setAcl /app world:anyone:r,auth::cdrwa", "everybody may read, we may do everything"),
        ("setAcl -R /app world:anyone:cdrwa", "everybody, everything, everywhere below"),
    ),
)
async def set_acl(context: Context, args: Namespace) -> None:
    """Change an ACL, or those of a subtree."""
    path = check_path(args.path)
    acl: list[ACL] = parse_acl(args.acl)
    client = await context.client()
    if not args.recursive:
        stat = await client.set_acl(path, acl, args.version)
        context.show(stat_json(stat), stat_text(stat) if args.stat else "")
        return
    # All are known before the first is changed, which may be the last that we see of what is below it.
    found = [each async for level in levels(context, client, path) for each in level]
    window = Window()
    try:
        for each in found:
            await window.add(client.set_acl(each, acl, args.version))
        await window.drained()
    finally:
        window.give_up()
    context.show({"path": path, "changed": len(found)}, "")
