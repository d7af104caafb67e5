"""
Conversations that were recorded between ZooKeeper servers and their clients: the frames, and what each of them is.

A reply does not say which request it answers; the xid does, on the same connection.
"""

from __future__ import annotations

import gzip
import json
from collections import deque
from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from zktwisted.wire import jute, ops, proto

CLIENT = Path(__file__).parent.parent / "golden" / "client"


class Frame(NamedTuple):
    """A recorded frame."""

    #: File and line.
    where: str
    #: "connect request", "connect response", "request", "reply" or "event".
    kind: str
    #: The operation requested or answered.
    op: int
    data: bytes
    #: What the recorder called it.
    note: str
    #: How the recorder decoded it.
    decoded: dict[str, Any]
    #: The request that a reply answers.
    request: Frame | None


def rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a recording."""
    opened = gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else open(path, encoding="utf-8")
    with opened as file:
        return [json.loads(line) for line in file]


@cache
def frames() -> tuple[Frame, ...]:
    """Return every frame of every recording."""
    return tuple(chain.from_iterable(map(_frames_of, sorted(CLIENT.iterdir()))))


def _frames_of(path: Path) -> Iterator[Frame]:
    asked: dict[tuple[int, int], deque[Frame]] = {}
    begun: set[int] = set()
    for number, row in enumerate(rows(path), 1):
        if "frame" not in row:
            continue
        data, connection = bytes.fromhex(row["frame"]), row["conn"]
        kind, op, request, xid = "request", 0, None, 0
        if row["dir"] == "s2c":
            kind = "connect response" if row["note"].startswith("ConnectResponse") else "reply"
        elif connection not in begun:
            begun.add(connection)
            kind = "connect request"
        if kind == "request":
            xid, op = jute.decode(proto.RequestHeader, data)[0]
        elif kind == "reply":
            xid = jute.decode(proto.ReplyHeader, data)[0].xid
            if xid == ops.XID_NOTIFICATION:
                kind = "event"
            elif xid == ops.XID_PING:
                op = ops.PING
            elif (connection, xid) in asked:
                request = asked[connection, xid].popleft()
                op = request.op
        frame = Frame(f"{path.name}:{number}", kind, op, data, row["note"], row.get("decoded", {}), request)
        if kind == "request":
            asked.setdefault((connection, xid), deque()).append(frame)
        yield frame
