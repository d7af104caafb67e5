"""The differences between two servers that are as they should be, one by one, each with its reason.

What a sequence simply keeps clear of is in ``generate.Profile``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

# What Java's strings do not take from the wire and put back: malformed bytes, and what is outside of the BMP.
NO_BMP = re.compile("[\ufffd\U00010000-\U0010ffff]+")
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


def with_paths_of_java(answer: Any) -> Any:
    """Return an answer in which what Java cannot send back in a path is one U+FFFD."""
    if isinstance(answer, dict):
        return {
            key: NO_BMP.sub("\ufffd", value.decode("utf-8", "replace")).encode()
            if key == "path" and isinstance(value, bytes)
            else with_paths_of_java(value)
            for key, value in answer.items()
        }
    if type(answer) is tuple:
        return tuple(with_paths_of_java(value) for value in answer)
    return answer


def _of_ours(_lockstep: Any, _step: Any, theirs: Any, ours: Any) -> tuple[Any, Any]:
    """Let malformed paths come back as they were sent: Java has made U+FFFD of them. No node can have such a path."""
    return with_paths_of_java(theirs), with_paths_of_java(ours)


def known_for(theirs: str, ours: str) -> Known | None:
    """Return the rule for a pair of servers, named by release or ``ours``."""
    rules = []
    if "3.8" in theirs or "3.8" in ours:
        rules.append(_old_events)
    if ours == "ours":
        rules.append(_of_ours)

    def known(lockstep: Any, step: Any, one: Any, other: Any) -> tuple[Any, Any]:
        for rule in rules:
            one, other = rule(lockstep, step, one, other)
        return one, other

    return known
