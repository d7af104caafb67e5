"""Tables that real classes of the Java server computed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parent.parent / "golden" / "tables"


def rows(name: str) -> list[dict[str, Any]]:
    """Return the rows of a table."""
    with open(GOLDEN / f"{name}.jsonl", encoding="utf-8") as file:
        return [json.loads(line) for line in file]
