"""The differences between two servers that are as they should be, one by one, each with its reason.

What a sequence simply keeps clear of is in ``generate.Profile``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Known = Callable[[Any, Any, Any, Any], tuple[Any, Any]]


def without_event_zxids(answer: Any) -> Any:
    """Return an answer whose notifications say nothing of their transaction."""
    if not isinstance(answer, dict) or "frames" not in answer:
        return answer
    frames = tuple(
        {key: value for key, value in frame.items() if key != "zxid"} if "event" in frame else frame
        for frame in answer["frames"]
    )
    return {**answer, "frames": frames}


def _old_events(_lockstep: Any, _step: Any, theirs: Any, ours: Any) -> tuple[Any, Any]:
    """Leave zxids of notifications out: up to 3.8 they are all -1."""
    return without_event_zxids(theirs), without_event_zxids(ours)


def known_for(theirs: str, ours: str) -> Known | None:
    """Return the rule for a pair of servers, named by release or ``ours``."""
    if "3.8" in theirs or "3.8" in ours:
        return _old_events
    return None
