"""How Sphinx builds these pages."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_ext")]

from zktwisted import __version__  # noqa: E402 (found by the line above)

project = "zktwisted"
author = "the zktwisted developers"
copyright = "the zktwisted developers"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "epytext", "twisthelp"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

html_theme = "alabaster"
html_theme_options = {
    "description": "Apache ZooKeeper's server in Python on Twisted",
    "fixed_sidebar": True,
}

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_format = "short"
# What Twisted, zope and the standard library define has pages of its own, elsewhere.
nitpick_ignore_regex = [
    ("py:.*", r"(twisted|zope|collections|typing|enum|os|ssl)\..*"),
    ("py:class", r"(optional|sequence|mapping|callable|iterable|awaitable).*"),
    # A private base or alias has no page; the text around it says what is promised.
    ("py:.*", r".*\b_[a-z].*"),
]
