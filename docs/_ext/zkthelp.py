"""The directives ``zkt-help``, ``zkt-commands`` and ``zkt-statuses``: what ``zkt`` says, from its own tables."""

from __future__ import annotations

import os

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

os.environ["COLUMNS"] = "90"


class ZktHelp(Directive):
    """Put the help of the options that stand before a command into a literal block."""

    def run(self) -> list[nodes.Node]:
        from zktwisted.zkt.main import options_parser

        text = options_parser().format_help()
        return [nodes.literal_block(text, text.strip("\n"), language="text")]


class ZktCommands(Directive):
    """Put the help of every command into a section of its own."""

    def run(self) -> list[nodes.Node]:
        from zktwisted.zkt import main
        from zktwisted.zkt.command import COMMANDS

        assert main.main
        found: list[nodes.Node] = []
        for name in sorted(COMMANDS, key=str.lower):
            command = COMMANDS[name]
            if command.raw:
                continue
            section = nodes.section(ids=[f"zkt-{name.lower()}"], names=[f"zkt {name}".lower()])
            section += nodes.title(text=name)
            text = command.parser("zkt ").format_help()
            section += nodes.literal_block(text, text.strip("\n"), language="text")
            found.append(section)
        return found


class ZktStatuses(Directive):
    """Put the table of exit statuses into a definition list."""

    def run(self) -> list[nodes.Node]:
        from zktwisted.zkt.status import Status

        listed = nodes.bullet_list()
        for status in Status:
            paragraph = nodes.paragraph()
            paragraph += nodes.strong(text=str(int(status)))
            for number, part in enumerate(f": {status.meaning}".split("`")):
                paragraph += nodes.literal(text=part) if number % 2 else nodes.Text(part)
            listed += nodes.list_item("", paragraph)
        return [listed]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("zkt-help", ZktHelp)
    app.add_directive("zkt-commands", ZktCommands)
    app.add_directive("zkt-statuses", ZktStatuses)
    return {"parallel_read_safe": True}
