"""
C{python -m zktwisted.kit}: a test server in a process of its own.
"""

from __future__ import annotations

import sys

from zktwisted.kit.command import main

if __name__ == "__main__":
    sys.exit(main(program="python -m zktwisted.kit"))
