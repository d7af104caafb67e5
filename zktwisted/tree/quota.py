"""
Quotas: how limits and counters are written, which quota a path falls under, and when a change exceeds it.

Knows the text of C{zookeeper_limits} and C{zookeeper_stats} nodes and the set of paths with a quota.  Refuses to know
nodes: the tree reads and writes those two nodes itself and asks here.

Rules: spec: server-semantics 8.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from zktwisted.errors import Code, KeeperError

__all__ = [
    "LIMITS_NAME",
    "QUOTA_ROOT",
    "STATS_NAME",
    "QuotaTable",
    "StatsTrack",
    "enforce",
    "exceeded",
    "limits_path",
    "quota_of_limits_path",
    "quota_of_stats_path",
    "stats_path",
    "updated",
]

QUOTA_ROOT = b"/zookeeper/quota"
LIMITS_NAME = b"zookeeper_limits"
STATS_NAME = b"zookeeper_stats"

_LIMITS_END = b"/" + LIMITS_NAME
_STATS_END = b"/" + STATS_NAME

_LONG = re.compile(r"[+-]?[0-9]+")
_SEPARATORS = re.compile(r"[,;]+")


class StatsTrack(NamedTuple):
    """
    What a limits or stats node says.  -1 is no limit.

    @ivar nodes: nodes (C{count=}): counted, or the soft limit.
    @ivar size: bytes of data (C{bytes=}): counted, or the soft limit.
    @ivar count_hard_limit: nodes, enforced.
    @ivar byte_hard_limit: bytes, enforced.
    """

    nodes: int = -1
    size: int = -1
    count_hard_limit: int = -1
    byte_hard_limit: int = -1

    @classmethod
    def parse(cls, text: bytes | None) -> StatsTrack:
        """
        Read C{count=N,bytes=M=;byteHardLimit=X;countHardLimit=Y}, keys in any order, missing ones -1.

        @raise ValueError: this is no such text.
        """
        if not text:
            return cls()
        found: dict[str, int] = {}
        parts = _SEPARATORS.split(text.decode("utf-8", "replace"))
        while parts and not parts[-1]:
            parts.pop()
        for part in parts:
            # What follows a second "=" is ignored: the one before ";" is there to keep old parsers happy.
            fields = part.rstrip("=").split("=")
            if len(fields) < 2:
                raise ValueError(f"not a quota text: {text!r}")
            found[fields[0]] = _long(fields[1]) if fields[1] else -1
        get = found.get
        return cls(get("count", -1), get("bytes", -1), get("countHardLimit", -1), get("byteHardLimit", -1))

    def render(self) -> bytes:
        """Return the text that every parser understands."""
        text = f"count={self.nodes},bytes={self.size}"
        hard = []
        if self.byte_hard_limit != -1:
            hard.append(f"byteHardLimit={self.byte_hard_limit}")
        if self.count_hard_limit != -1:
            hard.append(f"countHardLimit={self.count_hard_limit}")
        if hard:
            text += "=;" + ";".join(hard)
        return text.encode("ascii")


def _long(text: str) -> int:
    if not _LONG.fullmatch(text):
        raise ValueError(f"not a number: {text!r}")
    value = int(text)
    if not -(1 << 63) <= value < 1 << 63:
        raise ValueError(f"not a 64 bit number: {text!r}")
    return value


def limits_path(path: bytes) -> bytes:
    """Return where the limits of a path are kept; the root is C{b""}."""
    return QUOTA_ROOT + path + _LIMITS_END


def stats_path(path: bytes) -> bytes:
    """Return where the counters of a path are kept; the root is C{b""}."""
    return QUOTA_ROOT + path + _STATS_END


def quota_of_limits_path(path: bytes) -> bytes | None:
    """Return the path that a limits node limits, C{None} if this is no limits node's path."""
    if path.startswith(b"/zookeeper/quota/") and path.endswith(_LIMITS_END):
        return path[len(QUOTA_ROOT) : -len(_LIMITS_END)]
    return None


def quota_of_stats_path(path: bytes) -> bytes | None:
    """Return the path that a stats node counts for, C{None} if this is no stats node's path."""
    if path.startswith(b"/zookeeper/quota/") and path.endswith(_STATS_END):
        return path[len(QUOTA_ROOT) : -len(_STATS_END)]
    return None


class QuotaTable:
    """
    The paths that have a quota.

    Only the deepest one above a path counts for it, and one on the root counts for nothing, as upstream.

    @ivar paths: the paths, as tree keys.  While it is empty there is nothing to ask here.
    """

    __slots__ = ("paths",)

    def __init__(self) -> None:
        self.paths: dict[bytes, None] = {}

    def add(self, path: bytes) -> None:
        """Put a quota on a path: its limits node was created."""
        if path and path != b"/":
            self.paths[path] = None

    def discard(self, path: bytes) -> None:
        """Take the quota off a path: its limits node was deleted."""
        self.paths.pop(path, None)

    def clear(self) -> None:
        """Forget all."""
        self.paths.clear()

    def find(self, path: bytes) -> bytes | None:
        """
        Return the deepest path with a quota that is this path or above it, C{None} if there is none.
        """
        paths = self.paths
        if not paths:
            return None
        while path:
            if path in paths:
                return path
            path = path[: path.rfind(b"/")]
        return None


def exceeded(limits: StatsTrack, stats: StatsTrack, count: int, size: int) -> bool | None:
    """
    Tell whether a change exceeds a quota: C{True} a hard limit, C{False} only a soft one, C{None} neither.

    @param limits: what the limits node says.
    @param stats: what the stats node says, before the change.
    @param count: nodes that the change adds.
    @param size: bytes that it adds, negative if it shrinks.
    """
    soft = False
    for added, used, hard_limit, soft_limit in (
        (count, stats.nodes, limits.count_hard_limit, limits.nodes),
        (size, stats.size, limits.byte_hard_limit, limits.size),
    ):
        if not added:
            continue
        if hard_limit > -1:
            if used + added > hard_limit:
                return True
        elif soft_limit > -1 and used + added > soft_limit:
            soft = True
    return False if soft else None


def enforce(limits: bytes | None, stats: bytes | None, count: int, size: int) -> bool:
    """
    Refuse a change that exceeds a hard limit (C{enforceQuota}).  Ask only if both nodes exist.

    @param limits: data of the limits node.
    @param stats: data of the stats node.
    @param count: nodes that the change adds.
    @param size: bytes that it adds, negative if it shrinks.

    @return: whether it exceeds a soft limit, which is worth a warning and no more.

    @raise KeeperError: QUOTAEXCEEDED; MARSHALLINGERROR if one of the texts cannot be read.
    """
    try:
        verdict = exceeded(StatsTrack.parse(limits), StatsTrack.parse(stats), count, size)
    except ValueError:
        raise KeeperError(Code.MARSHALLINGERROR) from None
    if verdict:
        raise KeeperError(Code.QUOTAEXCEEDED)
    return verdict is False


def updated(stats: bytes | None, count: int, size: int) -> bytes | None:
    """
    Return what a stats node says after a change.

    @param stats: what it said; a text that cannot be read stays as it is, since clients may write any.
    @param count: nodes that the change added, negative if it removed some.
    @param size: bytes that it added.
    """
    try:
        track = StatsTrack.parse(stats)
    except ValueError:
        return stats
    return track._replace(nodes=track.nodes + count, size=track.size + size).render()
