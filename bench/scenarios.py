"""The table of what is measured under load, with the floor that each figure has to reach."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scenario:
    """One load: arguments of ``zkload``, and how often Java's CPU per operation must hold ours."""

    name: str
    title: str
    arguments: tuple[str, ...]
    floor: float
    unit: str = "operation"


def _mix(name: str, title: str, mix: str, conns: int, depth: int, floor: float, *more: str) -> Scenario:
    return Scenario(name, title, ("--mix", mix, "--conns", str(conns), "--depth", str(depth), *more), floor)


SCENARIOS = (
    _mix("get-pipelined", "get 100 B, 50 connections x 16", "get:1", 50, 16, 4.0),
    _mix("get-single", "get 100 B, 16 x 1", "get:1", 16, 1, 1.5),
    _mix("get-set", "get:90,set:10, 50 x 8", "get:90,set:10", 50, 8, 3.0),
    _mix("get-4k", "get 4 KiB, 50 x 8", "get:1", 50, 8, 3.0, "--size", "4096"),
    _mix("set-pipelined", "set 100 B, 50 x 16", "set:1", 50, 16, 1.8),
    _mix("set-single", "set 100 B, 16 x 1", "set:1", 16, 1, 1.8),
    _mix("create", "create sequential, 50 x 8", "create:1", 50, 8, 2.0),
    _mix("multi", "multi of 4 sets, 50 x 8", "multi:1", 50, 8, 2.0, "--multi-ops", "4"),
    Scenario(
        "connect", "connect and close of sessions, 32 at a time", ("--mode", "connect", "--conns", "32"), 2.0, "session"
    ),
    Scenario("watchfan", "one set told to 500 watchers", ("--mode", "watchfan", "--conns", "500"), 3.0, "event"),
)
"""Every load scenario, in the order of the report."""

WARM_UP = "get:50,exists:5,children:5,set:20,create:5,multi:5,watch:5,ping:5"
"""What a server gets before anything is measured, so that Java's compiler has seen the paths."""

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}

# The measurements that are no load scenario, by the name that --scenario takes.
START = "start"
IDLE = "idle"
NODES = "nodes"
OTHERS = (START, IDLE, NODES)

# Floors of those: ours over Java's, at most, unless the name says otherwise.
START_RSS_FLOOR = 0.7
START_TIME_FLOOR = 0.5
SESSION_KIB_FLOOR = 6.0
NODES_RSS_FLOOR = 1.0
RESTART_FLOOR = 1.0
PAUSE_MS_FLOOR = 50.0
SNAPSHOT_P99_FLOOR = 3.0
