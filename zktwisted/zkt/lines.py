"""
Lines that a user types: how they are split into words, how they are read, and what Tab puts behind them.

Reading is Python's readline where there is a terminal, and plain reading elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from pathlib import Path
from threading import Thread
from typing import Any

from zktwisted.client import ZooKeeperClient
from zktwisted.zkt.command import COMMANDS
from zktwisted.zkt.context import Context
from zktwisted.zkt.engine import Engine
from zktwisted.zkt.paths import join
from zktwisted.zkt.screen import Done
from zktwisted.zkt.status import Problem, Status

__all__ = ["Completion", "Lines", "split_line"]

_WORD = re.compile(r"""\s*(?:"([^"]*)"(?=\s|$)|'([^']*)'(?=\s|$)|(?!["'])(\S+))\s*""")
_HISTORY_LINES = 1000
_SECRET = re.compile(r"\s*addauth\b", re.IGNORECASE)
_PATIENCE = 2.0
"""Seconds that Tab may take."""


def split_line(line: str) -> list[str]:
    r"""
    Return the words of a line: between blanks, or from a quote at the beginning of a word to the next such quote.

    There is no other way to escape anything: C{it's} and C{a\b} are words as they stand.

    @raise Problem: a quote is not closed.
    """
    words = []
    at = 0
    line = line.strip()
    while at < len(line):
        found = _WORD.match(line, at)
        if found is None:
            raise Problem(Status.USAGE, f"a quote is not closed: {line[at:].strip()}")
        words.append(next(group for group in found.groups() if group is not None))
        at = found.end()
    return words


class Completion:
    """What may stand where the cursor is."""

    def __init__(self, context: Context, engine: Engine) -> None:
        self._context = context
        self._engine = engine
        self._found: list[str] = []

    def candidates(self, before: str, text: str) -> list[str]:
        """
        Return whole words that begin with C{text}.

        @param before: what stands before it in the line.
        """
        words = before.split()
        if not words or words[0] == "help":
            return [f"{name} " for name in sorted(COMMANDS) if name.lower().startswith(text.lower())]
        if text.startswith("-"):
            return self._options(words[0], text)
        if text.startswith("/"):
            return self._engine.ask(lambda: self._paths(text), _PATIENCE) or []
        if words[0] == "printwatches":
            return [each for each in ("on", "off") if each.startswith(text)]
        return [] if text else ["/"]

    def _options(self, name: str, text: str) -> list[str]:
        command = COMMANDS.get(name)
        names = [each for argument in (command.arguments if command else ()) for each in argument.names]
        names = [each for each in names if each.startswith("-")] + ["--help", "--json", "--table"]
        return [f"{each} " for each in names if each.startswith(text)]

    async def _paths(self, text: str) -> list[str]:
        above, _, beginning = text.rpartition("/")
        above = above or "/"
        client: ZooKeeperClient = await self._context.client()
        found = [join(above, name) for name in sorted(await client.children(above)) if name.startswith(beginning)]
        if len(found) == 1:
            stat = await client.exists(found[0])
            found[0] += "/" if stat is not None and stat.numChildren else " "
        return found

    def complete(self, text: str, number: int) -> str | None:
        """See C{readline.set_completer}."""
        import readline

        if number == 0:
            self._found = self.candidates(readline.get_line_buffer()[: readline.get_begidx()], text)
        return self._found[number] if number < len(self._found) else None


class Lines:
    """Reads lines, and meanwhile shows what watches tell."""

    def __init__(self, engine: Engine, interactive: bool, completion: Completion) -> None:
        self._engine = engine
        self._interactive = interactive
        self._completion = completion
        self._readline: Any = None
        self._file: Path | None = None

    def begin(self) -> None:
        """Read the history of former shells."""
        if not self._interactive:
            return
        try:
            import readline
        except ImportError:
            return
        self._readline = readline
        readline.set_auto_history(False)
        readline.set_completer_delims(" \t\n")
        readline.set_completer(self._completion.complete)
        readline.parse_and_bind("tab: complete")
        readline.set_history_length(_HISTORY_LINES)
        self._file = history_file()
        if self._file is not None:
            with contextlib.suppress(OSError):
                readline.read_history_file(self._file)

    def end(self) -> None:
        """Keep the history for later shells."""
        if self._readline is None or self._file is None:
            return
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.touch(mode=0o600)
            self._readline.write_history_file(self._file)

    def read(self, prompt: str) -> str | None:
        """Return the next line; C{None} if there is none."""
        announcer = Thread(target=self._announce, args=(prompt,), daemon=True)
        announcer.start()
        try:
            if self._interactive:
                line = input(prompt)
            else:
                raw = sys.stdin.buffer.readline() if sys.stdin else b""
                if not raw:
                    return None
                line = raw.decode("utf-8", "surrogateescape").rstrip("\n")
        except EOFError:
            return None
        finally:
            self._engine.screen.pieces.put(Done(None))
            announcer.join()
        if self._readline is not None and line.strip() and not _SECRET.match(line):
            self._readline.add_history(line)
        return line

    def _announce(self, prompt: str) -> None:
        """Show what comes while a line is read, above that line."""
        while not isinstance(piece := self._engine.screen.pieces.get(), Done):
            again = ""
            if self._interactive:
                typed = self._readline.get_line_buffer() if self._readline is not None else ""
                again = re.sub("[\x01\x02]", "", prompt) + typed
            self._engine.write(piece, again.encode("utf-8", "surrogateescape"))
            sys.stdout.flush()


def history_file() -> Path | None:
    """Return where the history is kept: C{ZKT_HISTORY}, or in the user's directory of states; empty for nowhere."""
    given = os.environ.get("ZKT_HISTORY")
    if given is not None:
        return Path(given) if given else None
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(base) / "zkt" / "history"
