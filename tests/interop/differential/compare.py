"""Two answers side by side: which values must be equal, and which must only stand for the same thing.

Session ids, passwords and times belong to one run. Zxids are compared through a rule that the caller brings: a fixed
distance for two servers that were asked the same, a growing map for a recording.
"""

from __future__ import annotations

from typing import Any, Protocol

from .records import Bag, Millis, Password, SessionId, Zxid


class ZxidRule(Protocol):
    """Says whether zxid *theirs* and zxid *ours* name the same transaction."""

    def same(self, theirs: int, ours: int) -> bool:
        """Return whether they do."""
        ...


class Shifted:
    """Zxids that differ by a fixed number; 0 and -1 are no transactions and equal only themselves."""

    def __init__(self, shift: int = 0) -> None:
        self.shift = shift

    def same(self, theirs: int, ours: int) -> bool:
        """Return whether *ours* is *theirs* after the shift."""
        return theirs == ours if theirs in (0, -1) or ours in (0, -1) else theirs + self.shift == ours


class Growing:
    """Zxids paired as they are met: one to one, and in the same order on both sides."""

    def __init__(self) -> None:
        self._ours: dict[int, int] = {0: 0, -1: -1}
        self._theirs: dict[int, int] = {0: 0, -1: -1}

    def same(self, theirs: int, ours: int) -> bool:
        """Return whether the pair agrees with every pair before it, and remember it."""
        if theirs in self._ours or ours in self._theirs:
            return self._ours.get(theirs) == ours
        if any((a < theirs) != (b < ours) for a, b in self._ours.items()):
            return False
        self._ours[theirs] = ours
        self._theirs[ours] = theirs
        return True

    def ours(self, theirs: int) -> int:
        """Return our zxid for one of theirs, or the same number when it was never met."""
        return self._ours.get(theirs, theirs)


class Comparison:
    """What is known of the pair while it runs: which session of theirs is which of ours, and what to leave out.

    *ignored* names fields (of any record) that are not compared.
    """

    def __init__(self, zxids: ZxidRule, ignored: frozenset[str] = frozenset()) -> None:
        self.zxids = zxids
        self.ignored = ignored
        self.sessions: dict[int, int] = {0: 0}

    def pair_sessions(self, theirs: int, ours: int) -> None:
        """Say that a session of theirs corresponds to one of ours."""
        self.sessions[theirs] = ours

    def differences(self, theirs: Any, ours: Any, where: str = "") -> list[str]:
        """Return one line for each value that does not correspond."""
        if isinstance(theirs, dict) and isinstance(ours, dict):
            found = []
            for key in [*theirs, *(key for key in ours if key not in theirs)]:
                if key not in self.ignored:
                    found += self.differences(theirs.get(key), ours.get(key), f"{where}.{key}")
            if theirs.get("czxid", 0) == theirs.get("mzxid", 1) and ours.get("ctime") != ours.get("mtime"):
                found.append(f"{where}: made and changed by one transaction, ours at two times")
            return found
        if isinstance(theirs, tuple) and isinstance(ours, tuple) and not isinstance(theirs, Bag):
            found = [] if len(theirs) == len(ours) else [f"{where}: {len(theirs)} items, ours {len(ours)}"]
            for index, (one, other) in enumerate(zip(theirs, ours, strict=False)):
                found += self.differences(one, other, f"{where}[{index}]")
            return found
        if self._same(theirs, ours):
            return []
        return [f"{where}: {theirs!r}, ours {ours!r}"]

    def _same(self, theirs: Any, ours: Any) -> bool:
        if isinstance(theirs, Zxid) and isinstance(ours, Zxid):
            return self.zxids.same(theirs, ours)
        if isinstance(theirs, SessionId) and isinstance(ours, SessionId):
            return self.sessions.get(theirs, theirs) == ours
        if isinstance(theirs, Millis) and isinstance(ours, Millis):
            return (theirs == 0) == (ours == 0)
        if isinstance(theirs, Password) and isinstance(ours, Password):
            return len(theirs) == len(ours) and any(theirs) == any(ours)
        return bool(theirs == ours)
