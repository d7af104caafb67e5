"""
What a command is: a name, its arguments, its help, and the coroutine that does it; and the table of all of them.

The arguments are argparse's.  Its way to leave the process is turned into exceptions: a shell must outlive a mistake in
one line.
"""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from zktwisted.zkt.status import Problem, Status

if TYPE_CHECKING:
    from zktwisted.zkt.context import Context

__all__ = ["COMMANDS", "Argument", "Command", "HelpWanted", "Parser", "arg", "command", "find_command", "one_of"]

Run = Callable[["Context", argparse.Namespace], Awaitable[Any]]


class HelpWanted(Exception):
    """Somebody asked for help; the text is the exception's."""


class Parser(argparse.ArgumentParser):
    """Raises L{Problem} and L{HelpWanted} where argparse would end the process."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            add_help=False, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **options
        )
        self.add_argument("-h", "--help", action=_Help, nargs=0, help="show this text")

    def error(self, message: str) -> NoReturn:
        """See C{ArgumentParser}."""
        name = self.prog.split()[-1]
        hint = "zkt --help tells more" if name == "zkt" else f"see help {name}"
        if message.startswith("unrecognized arguments: -") and name != "zkt":
            hint += "; write -- before data that begins with -"
        raise Problem(Status.USAGE, message, hint=hint)


class _Help(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        raise HelpWanted(parser.format_help())


@dataclass(frozen=True)
class Argument:
    """One call of C{add_argument}; with C{group}, of a group of which one may be given (or must, if it is "+")."""

    names: tuple[str, ...]
    options: dict[str, Any]
    group: str = ""


def arg(*names: str, **options: Any) -> Argument:
    """Return an argument: the parameters are argparse's."""
    return Argument(names, options)


def one_of(*arguments: Argument, required: bool = False) -> list[Argument]:
    """Return arguments that exclude one another."""
    group = ("+" if required else "-") + arguments[0].names[0]
    return [Argument(each.names, each.options, group) for each in arguments]


@dataclass(frozen=True)
class Command:
    """
    A command.

    @ivar name: as ZooKeeper's shell has it, where it has it.
    @ivar summary: one line, for the list of commands.
    @ivar run: does it; what it returns is the exit status, C{None} for 0.
    @ivar more: paragraphs of help.
    @ivar examples: lines to try, and what they do.
    @ivar shell_only: it makes no sense but between other commands.
    @ivar trees: it works on whole trees; ZooKeeper's shell does not know it.
    @ivar raw: it reads its arguments itself.
    """

    name: str
    summary: str
    run: Run
    arguments: tuple[Argument, ...] = ()
    more: str = ""
    examples: tuple[tuple[str, str], ...] = ()
    shell_only: bool = False
    trees: bool = False
    raw: bool = False
    aliases: tuple[str, ...] = field(default=())

    def parser(self, prog: str = "") -> Parser:
        """Return what reads the arguments; C{prog} stands before the name in what it says."""
        epilog = "examples:\n" + "".join(
            f"  {prog}{line}\n      {what}\n" for line, what in self.examples
        ) if self.examples else None  # fmt: skip
        description = f"{self.summary}\n\n{self.more}" if self.more else self.summary
        parser = Parser(prog=f"{prog}{self.name}", description=description, epilog=epilog)
        groups: dict[str, Any] = {}
        for each in self.arguments:
            to: Any = parser
            if each.group:
                if each.group not in groups:
                    groups[each.group] = parser.add_mutually_exclusive_group(required=each.group.startswith("+"))
                to = groups[each.group]
            to.add_argument(*each.names, **each.options)
        if not self.raw:
            parser.add_argument("--json", action="store_const", const="json", dest="output", help="print JSON")
            parser.add_argument("--table", action="store_const", const="table", dest="output", help="print tables")
        return parser

    def parse(self, words: list[str], prog: str = "") -> argparse.Namespace:
        """
        Read arguments; options may stand anywhere before C{--}.

        @raise Problem: they are not understood.
        @raise HelpWanted: help was asked for.
        """
        if self.raw:
            return argparse.Namespace(words=words, output=None)
        parser = self.parser(prog)
        try:
            return parser.parse_intermixed_args(words)
        except argparse.ArgumentError as error:
            parser.error(str(error))


COMMANDS: dict[str, Command] = {}
"""All commands, by name."""


def command(name: str, summary: str, *arguments: Argument | Iterable[Argument], **options: Any) -> Callable[[Run], Run]:
    """Put a coroutine function into the table; the parameters are those of L{Command}."""

    def put(run: Run) -> Run:
        each: list[Argument] = []
        for one in arguments:
            each += [one] if isinstance(one, Argument) else one
        COMMANDS[name] = Command(name, summary, run, tuple(each), **options)
        return run

    return put


def find_command(name: str) -> Command:
    """
    Return a command; the case of letters does not matter.

    @raise Problem: there is none of this name.
    """
    if name in COMMANDS:
        return COMMANDS[name]
    folded = {each.lower(): each for each in COMMANDS}
    for found in COMMANDS.values():
        folded |= dict.fromkeys(found.aliases, found.name)
    if name.lower() in folded:
        return COMMANDS[folded[name.lower()]]
    close = difflib.get_close_matches(name.lower(), folded, 3, 0.6)
    hint = "help lists all commands"
    if close:
        hint = f"did you mean {' or '.join(folded[each] for each in close)}? {hint}"
    raise Problem(Status.USAGE, f"there is no command {name!r}", hint=hint)
