"""Elections that were recorded between Java servers: what each said to whom."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from tests.wire.recordings import rows

ELECTION = Path(__file__).parent.parent / "golden" / "election"


class Said(NamedTuple):
    """A recorded message."""

    #: File and line.
    where: str
    #: When, in seconds since the recording began.
    time: float
    #: "initial" or "notification".
    kind: str
    conn: int
    sender: int
    receiver: int
    data: bytes
    #: How the recorder decoded it.
    decoded: dict[str, Any]


@cache
def recording(name: str) -> tuple[Said, ...]:
    """Return the messages of one file."""
    return tuple(_said(next(path for path in ELECTION.iterdir() if path.name.split(".")[0] == name)))


@cache
def everything() -> tuple[Said, ...]:
    """Return the messages of all files."""
    return tuple(said for path in sorted(ELECTION.iterdir()) for said in _said(path))


def meta(name: str) -> dict[str, Any]:
    """Return what the recorder said of one file."""
    row = rows(next(path for path in ELECTION.iterdir() if path.name.split(".")[0] == name))[0]
    found: dict[str, Any] = row["meta"]
    return found


def _said(path: Path) -> Iterator[Said]:
    for number, row in enumerate(rows(path), 1):
        kind = row.get("kind")
        if kind in ("initial", "notification"):
            data = bytes.fromhex(row["raw" if kind == "initial" else "frame"])
            where = f"{path.name}:{number}"
            yield Said(where, row["t"], kind, row["conn"], row["from"], row["to"], data, row["decoded"])
