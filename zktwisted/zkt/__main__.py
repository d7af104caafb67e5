"""
Where the process begins: the script C{zkt}, and C{python -m zktwisted.zkt}.

Whoever presses Ctrl-C while the rest is imported gets the same answer as later.
"""

from __future__ import annotations

import sys

__all__ = ["run"]

_INTERRUPTED = 130


def run() -> int:
    """Run the command, and return its exit status."""
    try:
        from zktwisted.zkt.main import main

        return main()
    except KeyboardInterrupt:
        return _INTERRUPTED


if __name__ == "__main__":
    sys.exit(run())
