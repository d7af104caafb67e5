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

extensions = ["myst_parser", "sphinx.ext.autodoc", "epytext", "twisthelp", "zkthelp", "zoocfg"]
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
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
