"""C{python -m zktwisted.zkt}: the command, where no script of that name is installed."""

from __future__ import annotations

import sys

from zktwisted.zkt.main import main

sys.exit(main())
