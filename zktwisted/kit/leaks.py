"""
What clients hold on a server, and what of it they should have let go.

Pure values: who asks brings what was held before and after.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

__all__ = ["Holdings", "LeakError"]

KINDS = ("sessions", "watches", "ephemerals")
"""What clients may leave behind."""


class LeakError(AssertionError):
    """Something was left behind; the message names each piece."""


@dataclass(frozen=True)
class Holdings:
    """
    What clients hold.

    @ivar sessions: their ids.
    @ivar watches: the sessions that watch, by path; one that watches data and children stands there twice.
    @ivar ephemerals: the paths of ephemeral nodes, by session.
    """

    sessions: tuple[int, ...] = ()
    watches: dict[str, list[int]] = field(default_factory=dict)
    ephemerals: dict[int, list[str]] = field(default_factory=dict)

    def since(self, before: Holdings) -> Holdings:
        """What is held now and was not held before."""
        watches = {
            path: list((Counter(sessions) - Counter(before.watches.get(path, []))).elements())
            for path, sessions in self.watches.items()
        }
        ephemerals = {
            session: [path for path in paths if path not in before.ephemerals.get(session, [])]
            for session, paths in self.ephemerals.items()
        }
        return Holdings(
            tuple(session for session in self.sessions if session not in before.sessions),
            {path: sessions for path, sessions in watches.items() if sessions},
            {session: paths for session, paths in ephemerals.items() if paths},
        )

    def check(self, *kinds: str) -> None:
        """
        Complain of what there is.

        @param kinds: C{"sessions"}, C{"watches"}, C{"ephemerals"}; by default all of them.

        @raise LeakError: there is some.
        @raise ValueError: there is no such kind.
        """
        found = []
        for kind in kinds or KINDS:
            if kind not in KINDS:
                raise ValueError(f"there is no kind {kind!r}; there are {', '.join(KINDS)}")
            found += getattr(self, f"_{kind}_left")()
        if found:
            raise LeakError("left behind:\n  " + "\n  ".join(found))

    def _sessions_left(self) -> list[str]:
        return [f"session {_show(session)}" for session in self.sessions]

    def _watches_left(self) -> list[str]:
        return [
            f"watch on {path}, of session {_show(session)}"
            for path, sessions in sorted(self.watches.items())
            for session in sessions
        ]

    def _ephemerals_left(self) -> list[str]:
        return [
            f"ephemeral node {path}, of session {_show(session)}"
            for session, paths in sorted(self.ephemerals.items())
            for path in paths
        ]


def _show(session: int) -> str:
    return f"0x{session & (1 << 64) - 1:x}"
