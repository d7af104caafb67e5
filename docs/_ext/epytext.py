"""
Lets autodoc read the docstrings of this project, whose fields and links are written as Twisted writes them.

``L{x}`` and ``C{x}`` become literals, ``@param x:`` and its family become Sphinx's fields.
"""

from __future__ import annotations

import re

from sphinx.application import Sphinx

INLINE = re.compile(r"\b[LCBI]\{([^{}]*)\}")
FIELD = re.compile(r"^(\s*)@(\w+)(?: (\w+))?:")
FIELDS = {"return": "returns", "ivar": "ivar", "cvar": "cvar", "param": "param", "raise": "raises", "see": "see"}


def literal(found: re.Match[str]) -> str:
    """Return a literal; one that a letter follows, as in a plural, needs an escape to end there."""
    follows = found.string[found.end() : found.end() + 1]
    return f"``{found[1]}``" + ("\\ " if follows.isalnum() else "")


def convert(lines: list[str]) -> list[str]:
    """Return the lines of a docstring in reStructuredText."""
    converted = []
    for line in lines:
        line = INLINE.sub(literal, line)
        if found := FIELD.match(line):
            indent, name, argument = found.groups()
            if converted and converted[-1].strip() and not converted[-1].lstrip().startswith(":"):
                converted.append("")
            label = " ".join(filter(None, [FIELDS.get(name, name), argument]))
            line = f"{indent}:{label}:{line[found.end():]}"
        converted.append(line)
    return converted


def setup(app: Sphinx) -> dict[str, bool]:
    """Hook into autodoc."""

    def process(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
        lines[:] = convert(lines)

    app.connect("autodoc-process-docstring", process)
    return {"parallel_read_safe": True}
