"""
The shell: line after line, each a command; and the commands that only a shell has.

With a terminal it prompts; without one it reads a script, goes on after a line that failed, and ends with the status of
the last that did.
"""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Callable, Coroutine
from typing import Any

from zktwisted._version import __version__
from zktwisted.client import State, WatchedEvent, ZooKeeperClient
from zktwisted.client.hosts import parse_hosts
from zktwisted.zkt.command import COMMANDS, Command, HelpWanted, arg, command, find_command
from zktwisted.zkt.context import Context
from zktwisted.zkt.engine import Engine
from zktwisted.zkt.format import event_text
from zktwisted.zkt.lines import Completion, Lines, split_line
from zktwisted.zkt.status import Problem, Status, explain

__all__ = ["Shell", "overview", "perform"]

_SHOWN = 11
"""Lines that history shows."""

_SECRET = re.compile(r"^(\s*addauth\s+\S+\s+).*", re.IGNORECASE)


async def perform(context: Context, found: Command, args: Namespace) -> int:
    """Do what a command does, and return its exit status."""
    context.output = args.output or context.default_output
    try:
        result = await found.run(context, args)
    finally:
        await context.close_others()
    return int(result or 0)


class Shell:
    """
    @ivar lines: what was typed, for history and redo.
    @ivar print_watches: whether events are shown.
    @ivar over: whether quit was said.
    """

    def __init__(self, context: Context, engine: Engine, interactive: bool, stop_at_error: bool = False) -> None:
        self._context = context
        self._engine = engine
        self._interactive = interactive
        self._stop_at_error = stop_at_error
        self._reader = Lines(engine, interactive, Completion(context, engine))
        self._quiet = False
        self.lines: list[str] = []
        self.print_watches = True
        self.over = False
        context.shell = self
        context.prog = ""

    # -- in the reactor's thread

    def watched(self, event: WatchedEvent) -> None:
        """A watch has told something."""
        if self.print_watches and event.type >= 0:
            self._context.text(event_text(event))

    def watch_states(self, client: ZooKeeperClient) -> None:
        """Tell of the states of a new client."""
        connected = False

        def became(state: State) -> None:
            nonlocal connected
            # That it connects at all goes without saying; that it does so again does not.
            connected = connected or state is not State.CONNECTING
            if self._interactive and not self._quiet and connected:
                colour = "green" if state.connected else "yellow"
                self._context.note(self._context.paint(f"-- {state.value}", colour))

        client.listen(became)

    # -- in the main thread

    def run(self) -> int:
        """Read and do, to the end; return the exit status."""
        self._reader.begin()
        status = 0
        try:
            if self._interactive:
                self._do(self._greet)
            while not self.over:
                try:
                    line = self._reader.read(self._prompt())
                except KeyboardInterrupt:
                    if not self._interactive:
                        raise
                    # An empty line instead of the one that was begun.
                    self._say("")
                    continue
                if line is None:
                    if self._interactive:
                        self._say("")
                    break
                if not line.strip() or line.lstrip().startswith("#"):
                    continue
                failed = self._line(line)
                status = failed or status
                if failed and self._stop_at_error:
                    break
        finally:
            self._quiet = True
            self._reader.end()
        return 0 if self._interactive else status

    async def _greet(self) -> int:
        self._context.note(f"zkt {__version__}: help lists the commands, Tab completes, Ctrl-D leaves")
        await self._context.client()
        return 0

    def _line(self, line: str) -> int:
        """Do what a line says, and remember it."""
        try:
            words = split_line(line)
            line = self._redone(words) or line
        except Problem as problem:
            self.lines.append(line)
            return self._complain("", problem)
        self.lines.append(line)
        words = split_line(line)
        found: Command | None = None
        try:
            found = find_command(words[0])
            args = found.parse(words[1:])
        except HelpWanted as wanted:
            self._say(str(wanted).rstrip())
            return 0
        except Problem as problem:
            return self._complain(found.name if found else "", problem)
        return self._do(lambda: perform(self._context, found, args), found.name)

    def _redone(self, words: list[str]) -> str | None:
        """Return the line that redo stands for; C{None} if it is no redo."""
        if words[0].lower() != "redo" or len(words) < 2 or words[1].startswith("-"):
            return None
        number = int(words[1]) if words[1].isdecimal() else -1
        if not 0 <= number < len(self.lines):
            raise Problem(Status.USAGE, f"redo: there is no command {words[1]}", hint="history shows their numbers")
        line = self.lines[number]
        if split_line(line)[0].lower() == "redo":
            raise Problem(Status.USAGE, "redo: that was a redo itself")
        return line

    def _do(self, program: Callable[[], Coroutine[Any, Any, int]], name: str = "") -> int:
        try:
            return self._engine.run(program)
        except Exception as error:
            problem = explain(error)
            if problem.status in (Status.PIPE, Status.TERMINATED):
                raise problem from None
            if problem.status is Status.BUG and self._context.debug:
                raise
            return self._complain(name, problem)

    def _say(self, text: str) -> None:
        async def show() -> None:
            self._context.text(text + "\n")

        self._engine.run(show)

    def _complain(self, name: str, problem: Problem) -> int:
        async def show() -> None:
            self._context.note(self._context.paint(f"{name}: {problem}" if name else str(problem), "red"))

        self._engine.run(show)
        return int(problem.status)

    def _prompt(self) -> str:
        state = self._context.state
        text = f"[zkt: {self._context.access.hosts}({state.name}) {len(self.lines)}] "
        if not self._context.colour:
            return text
        code = "32" if state.connected else "33"
        # What readline shall not count stands between these two.
        return f"\x01\x1b[{code}m\x02{text.rstrip()}\x01\x1b[0m\x02 "


def overview(prog: str) -> str:
    """Return all commands, with a line for each."""
    groups: dict[str, list[Command]] = {"Commands of ZooKeeper's own shell:": [], "More:": [], "In the shell:": []}
    for each in sorted(COMMANDS.values(), key=lambda one: one.name.lower()):
        at = 1 if each.trees else 2 if each.shell_only else 0
        list(groups.values())[at].append(each)
    width = max(map(len, COMMANDS))
    text = ""
    for title, found in groups.items():
        text += f"{title}\n" + "".join(f"  {each.name:<{width}}  {each.summary}\n" for each in found) + "\n"
    return text + f"{prog}help COMMAND tells more of one, with examples.\n"


@command(
    "help",
    "Show all commands, or how to use one.",
    arg("name", nargs="?", metavar="command", help="which"),
    examples=(("help create", "arguments, options and examples of create"),),
)
async def help_(context: Context, args: Namespace) -> None:
    """Show help."""
    if args.name is None:
        context.show({each.name: each.summary for each in COMMANDS.values()}, overview(context.prog))
        return
    found = find_command(args.name)
    if found.raw:
        context.text(f"{found.summary}\n\nzkt {found.name} --help tells more.\n")
    else:
        context.text(found.parser(context.prog).format_help())


@command(
    "history",
    "Show the last commands, with their numbers.",
    shell_only=True,
    more="Passwords given to addauth are not shown, and not kept in the file of the history.",
)
async def history(context: Context, args: Namespace) -> None:
    """Show the last lines."""
    lines = [_SECRET.sub(r"\1***", line) for line in context.shell.lines]
    numbered = list(enumerate(lines))[-_SHOWN:]
    context.show(dict(numbered), "".join(f"{number} - {line}\n" for number, line in numbered))


@command(
    "redo",
    "Do a command again.",
    arg("number", help="its number, as history shows it"),
    shell_only=True,
)
async def redo(context: Context, args: Namespace) -> None:
    """Only gets here without a number that can be; the shell puts the line in its place."""
    raise Problem(Status.USAGE, f"there is no command {args.number}", hint="history shows their numbers")


@command(
    "printwatches",
    "Say whether the shell shows what watches tell, or change it.",
    arg("switch", nargs="?", choices=("on", "off"), help="on or off"),
    shell_only=True,
)
async def printwatches(context: Context, args: Namespace) -> None:
    """Show or change the switch."""
    if args.switch is not None:
        context.shell.print_watches = args.switch == "on"
        return
    word = "on" if context.shell.print_watches else "off"
    context.show({"printwatches": word}, f"printwatches is {word}\n")


@command(
    "connect",
    "Connect with other servers, in a new session.",
    arg("hosts", nargs="?", metavar="host:port", help="a connect string; without one, the same servers again"),
    shell_only=True,
    examples=(("connect zk1:2181,zk2:2181/app", "two servers, and /app as the root"),),
)
async def connect(context: Context, args: Namespace) -> None:
    """Connect anew."""
    hosts = args.hosts or context.access.hosts
    try:
        parse_hosts(hosts)
    except ValueError as error:
        raise Problem(Status.USAGE, str(error)) from None
    await context.reconnect(hosts)


@command("close", "End the session, and stay in the shell.", shell_only=True)
async def close(context: Context, args: Namespace) -> None:
    """Close the client."""
    await context.close()


@command("quit", "Leave the shell.", shell_only=True, aliases=("exit", "q"))
async def quit_(context: Context, args: Namespace) -> None:
    """End the shell."""
    context.shell.over = True
