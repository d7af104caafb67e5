"""
Conversations between leaders and learners, recorded from real servers: whole ones, in both directions, in order.

A recording may begin or end in the middle of nothing; only connections that begin with the first packet of a learner
are given out, and an end may have cut off what one side had said already.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from tests.wire.recordings import rows
from zktwisted.config.ensemble import Ensemble
from zktwisted.wire.quorum import QuorumPacket, read_packet

QUORUM = Path(__file__).parent.parent / "golden" / "quorum"


class Said(NamedTuple):
    """
    One packet, or one image.

    @ivar where: file and line.
    @ivar learner: whether the learner said it.
    @ivar packet: C{None} for an image.
    """

    where: str
    time: float
    learner: bool
    packet: QuorumPacket | None
    raw: bytes
    decoded: dict[str, Any]


class Conversation(NamedTuple):
    """One connection."""

    file: str
    number: int
    learner: int
    leader: int
    said: list[Said]

    @property
    def where(self) -> str:
        return f"{self.file}, connection {self.number}"


def packet_of(raw: bytes) -> QuorumPacket:
    """Decode one packet that is all of these bytes."""
    found = read_packet(raw)
    assert found is not None and found[1] == len(raw)
    return found[0]


@cache
def said() -> tuple[tuple[str, int, int, int, Said], ...]:
    """Return everything said, in order: file, connection, from, to, and what."""
    return tuple(_said())


def _said() -> Iterator[tuple[str, int, int, int, Said]]:
    for path in sorted(QUORUM.iterdir()):
        for line, row in enumerate(rows(path), 1):
            if row.get("kind") not in ("packet", "snapshot"):
                continue
            raw = bytes.fromhex(row["raw"])
            what = Said(
                f"{path.name}:{line}",
                row.get("t", 0.0),
                row["dir"] == "c2s",
                packet_of(raw) if row["kind"] == "packet" else None,
                raw,
                row.get("decoded", {}),
            )
            yield path.name, row["conn"], row["from"], row["to"], what


@cache
def conversations() -> tuple[Conversation, ...]:
    """Return the connections, by file and in the order in which they began."""
    found: dict[tuple[str, int], Conversation] = {}
    for file, number, sender, receiver, what in said():
        learner, leader = (sender, receiver) if what.learner else (receiver, sender)
        conversation = found.setdefault((file, number), Conversation(file, number, learner, leader, []))
        conversation.said.append(what)
    return tuple(found.values())


@cache
def meta(file: str) -> dict[str, Any]:
    """Return what is said of a recording in its first row."""
    first: dict[str, Any] = rows(QUORUM / file)[0]["meta"]
    return first


def ensemble_of(conversation: Conversation) -> Ensemble | None:
    """Return the ensemble that the leader told in NEWLEADER."""
    for what in conversation.said:
        if what.packet is not None and what.packet.type == 10 and what.packet.data:
            return Ensemble.parse(what.packet.data.decode(), multi_address=True)
    return None
