"""The directive ``twist-help``: what ``twist zookeeper --help`` prints, from the options themselves."""

from __future__ import annotations

import os

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx


class TwistHelp(Directive):
    """Put the text of the help into a literal block."""

    def run(self) -> list[nodes.Node]:
        """Ask the options for their help, at a width that fits the page."""
        os.environ["COLUMNS"] = "90"
        from zktwisted.tap import Options

        options = Options()
        options.parent = None
        text = str(options).replace(options.getSynopsis(), "Usage: twist zookeeper " + Options.synopsis, 1)
        return [nodes.literal_block(text, text.strip("\n"), language="text")]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("twist-help", TwistHelp)
    return {"parallel_read_safe": True}
