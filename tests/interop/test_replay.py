"""Recorded conversations of real clients with a Java server, replayed against a server of ours.

Every answer must be the recorded one, but for what belongs to one run (session ids, times, the order of sets) and for
the differences that are listed here, one by one, each with its reason.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from . import java
from .differential.replay import Difference, Replay, read_rows
from .java import JavaServer
from .ours import OurServer
from .process import ServerProcess

RECORDINGS = Path(__file__).parent.parent / "golden" / "client"

NAMES_395 = (
    "4lw_3.9.5.jsonl",
    "c_3.9.5.jsonl",
    "java380_basic_3.9.5.jsonl",
    "java380_errors_3.9.5.jsonl",
    "java380_session_3.9.5.jsonl",
    "java_auth_3.9.5.jsonl",
    "java_basic_3.9.5.jsonl",
    "java_errors_3.9.5.jsonl",
    "java_session_3.9.5.jsonl",
    "java_setwatches_3.9.5.jsonl.gz",
    "java_watches_3.9.5.jsonl",
    "kazoo_3.9.5.jsonl",
    "node_3.9.5.jsonl",
    "raw_3.9.5.jsonl.gz",
    "raw_defaults_3.9.5.jsonl",
)
# Of 3.8.0 only what clients say: its raw recording differs from 3.9.5's in what follows from what, and the release that
# we match is 3.9.5.
NAMES_380 = (
    "4lw_3.8.0.jsonl",
    "c_3.8.0.jsonl",
    "java_basic_3.8.0.jsonl",
    "java_errors_3.8.0.jsonl",
    "java_watches_3.8.0.jsonl",
    "kazoo_3.8.0.jsonl",
)


class Known(NamedTuple):
    """A difference that is as it should be: the recordings, the step and the text that it shows in, and why."""

    recording: str
    mark: str
    text: str
    reason: str

    def covers(self, recording: str, difference: Difference) -> bool:
        """Say whether this explains *difference*."""
        return bool(
            re.search(self.recording, recording)
            and re.search(self.mark, difference.mark)
            and re.search(self.text, difference.text)
        )


ON_PURPOSE = (
    Known(
        r"raw_3\.9\.5",
        "body cut short|empty body",
        r"^(create|get_data)\.zxid",
        "3.9 repeats the last zxid for a write that it cannot decode, of which an ensemble dies; ours has its own",
    ),
)
BETWEEN_RELEASES = (
    Known(r"3\.8\.0", "", r"^event\.zxid: -1,", "a notification carries the zxid of its transaction since 3.9"),
    Known(
        r"java_errors_3\.8\.0",
        "exists needs no permission",
        r"^exists\.(err: 0, ours -102|stat)",
        "exists needs READ since 3.8.4 and 3.9.2 (ZOOKEEPER-2590)",
    ),
    Known(
        r"java_(errors|watches)_3\.8\.0",
        "removeWatches",
        r"^(check|remove)_watches\.err: -5, ours (-121|0)",
        "3.8 does not know the watcher types 4 and 5 (ZOOKEEPER-4466)",
    ),
    Known(r"4lw_3\.8\.0", "mntr", "", "3.9 has more metrics"),
    Known(
        r"c_3\.8\.0",
        "exists on the second handle",
        "the connection was closed, the recorded server answered",
        "two handles take one session from each other in turns; which of them is answered first is a race",
    ),
)


def settings(rows: list[dict[str, Any]]) -> dict[str, Mapping[str, str]]:
    """Return the zoo.cfg lines and Java properties that a recording was made with, as launchers take them."""
    meta = rows[0]["meta"]
    properties = dict(flag.removeprefix("-D").split("=", 1) for flag in meta["jvm"])
    # The recorded server was standalone, and read-only mode is for a member of an ensemble.
    properties.pop("readonlymode.enabled", None)
    return {"config": dict(line.split("=", 1) for line in meta["zoo.cfg"]), "properties": properties}


def replay(name: str, server: ServerProcess, rows: list[dict[str, Any]], safe: bool) -> None:
    """Replay one recording against a server that is not started yet, and fail with every unexplained difference."""
    server.start()
    try:
        played = Replay(rows, server.port, safe)
        differences = played.run()
    finally:
        server.kill9()
    unexplained = [
        one for one in differences if not any(known.covers(name, one) for known in ON_PURPOSE + BETWEEN_RELEASES)
    ]
    assert not unexplained, "\n".join([f"{len(unexplained)} differences", *map(str, unexplained[:20])])
    assert played.compared > 0, "the recording holds nothing to compare"


@pytest.mark.parametrize("name", NAMES_395 + NAMES_380)
def test_ours_answers_as_recorded(name: str, tmp_path: Path) -> None:
    """A server of ours gives the answers that a Java server gave to a real client."""
    rows = read_rows(RECORDINGS / name)
    replay(name, OurServer(tmp_path, **settings(rows)), rows, safe=True)


@pytest.mark.skipif(not java.available("3.9.5"), reason=java.HOW_TO_395)
@pytest.mark.parametrize(
    "name", ["4lw_3.9.5.jsonl", "c_3.9.5.jsonl", "java_errors_3.8.0.jsonl", "java_watches_3.9.5.jsonl"]
)
def test_java_answers_as_recorded(name: str, tmp_path: Path) -> None:
    """The replay itself is sound: the Java server gives the recorded answers too."""
    rows = read_rows(RECORDINGS / name)
    replay(name, JavaServer(tmp_path, "3.9.5", **settings(rows)), rows, safe=False)
