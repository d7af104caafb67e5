"""
The directives ``zoo-cfg-settings`` and ``zoo-cfg-others``: the keys of ``zoo.cfg``, from the class that holds them.

Nothing about a key is written in the docs; what stands there is what the server reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx


def inline(text: str) -> list[nodes.Node]:
    """Turn ``C{code}`` into literals; the rest stays text."""
    parts = re.split(r"C\{([^}]*)\}", text)
    return [nodes.literal(part, part) if index % 2 else nodes.Text(part) for index, part in enumerate(parts) if part]


def table(widths: Sequence[int], heads: Sequence[str], rows: Iterable[Sequence[list[nodes.Node]]]) -> nodes.table:
    """Build a table whose cells are lists of inline nodes."""

    def row(cells: Iterable[list[nodes.Node]]) -> nodes.row:
        return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", *cell)) for cell in cells))

    group = nodes.tgroup("", *(nodes.colspec(colwidth=width) for width in widths), cols=len(widths))
    group += nodes.thead("", row([nodes.Text(head)] for head in heads))
    group += nodes.tbody("", *map(row, rows))
    return nodes.table("", group)


class Settings(Directive):
    """One table for each group of settings."""

    def run(self) -> list[nodes.Node]:
        """Read the keys of the configuration class."""
        from zktwisted.config import Section, ServerConfig
        from zktwisted.config.fields import render

        found: list[nodes.Node] = []
        for section in Section:
            rows = []
            for key in ServerConfig.keys():
                if key.section is not section:
                    continue
                default = key.default_text or render(key, key.default) or "none"
                unit = f" {key.unit}" if key.unit and not key.default_text and key.default not in (-1, 0) else ""
                kind = f"{key.kind.value}, in {key.unit}" if key.unit and key.unit != "hours" else key.kind.value
                rows.append(
                    [
                        [nodes.literal(key.name, key.name)],
                        [nodes.literal(key.attribute, key.attribute)],
                        [nodes.Text(kind)],
                        [nodes.Text(default + unit)],
                        inline(key.doc),
                    ]
                )
            part = nodes.section("", nodes.title("", section.value), ids=[nodes.make_id(section.value)])
            part += table((22, 22, 14, 14, 40), ("Key", "Attribute", "Value", "Default", "Meaning"), rows)
            found.append(part)
        return found


class Others(Directive):
    """The keys that are refused or ignored, with the reason."""

    def run(self) -> list[nodes.Node]:
        """Read the tables of verdicts."""
        from zktwisted.config import others

        verdicts = sorted(others.verdicts(), key=lambda pair: pair[0].lower())
        refused = [(name, verdict) for name, verdict in verdicts if isinstance(verdict, others.Refused)]
        ignored = [(name, verdict) for name, verdict in verdicts if isinstance(verdict, others.Ignored)]
        parts: list[nodes.Node] = []
        for title, heads, rows in (
            (
                "Keys that are refused",
                ("Key", "Why", "What to do"),
                [[[nodes.literal(n, n)], [nodes.Text(v.message)], [nodes.Text(v.remedy)]] for n, v in refused],
            ),
            (
                "Keys that are ignored",
                ("Key", "Why"),
                [[[nodes.literal(name, name)], [nodes.Text(verdict.reason)]] for name, verdict in ignored],
            ),
        ):
            part = nodes.section("", nodes.title("", title), ids=[nodes.make_id(title)])
            part += table([30] * len(heads), heads, rows)
            parts.append(part)
        return parts


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("zoo-cfg-settings", Settings)
    app.add_directive("zoo-cfg-others", Others)
    return {"parallel_read_safe": True}
