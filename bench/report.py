"""The arithmetic of the report and its text; numbers in, Markdown out. No process, no clock, no file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from bench import scenarios as table

Results = dict[str, Any]


@dataclass(frozen=True)
class Window:
    """A stretch of wall-clock time in seconds, both ends included."""

    start: float
    end: float


def median(values: Iterable[float]) -> float:
    """The middle value, or the mean of the two middle ones; NaN of nothing."""
    ordered = sorted(values)
    if not ordered:
        return math.nan
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that at least that share (0 to 1) of the values does not exceed; NaN of nothing."""
    ordered = sorted(values)
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def inside(times: Sequence[float], windows: Sequence[Window]) -> list[bool]:
    """For each moment, whether it lies in one of the windows."""
    return [any(window.start <= moment <= window.end for window in windows) for moment in times]


def of(results: Results, group: str, kind: str, field: str) -> float:
    """The median of one field over the rounds of one server in one group; NaN where it was not measured."""
    rounds = results.get(group, {}).get(kind, [])
    return median(one[field] for one in rounds if field in one)


def quiet_cost(slices: Sequence[Sequence[float]], others: float = 0.2) -> float | None:
    """CPU µs per operation over the quarters of a second in which the rest of the machine used few cores.

    A slice is (operations a second, cores of the server, cores of others). ``None`` when less than a quarter of the
    slices, or fewer than two, were quiet: then only the figure of the whole run is left.
    """
    chosen = [(rate, cores) for rate, cores, other in slices if other <= others]
    done = sum(rate for rate, _ in chosen)
    if len(chosen) < max(2, len(slices) / 4) or not done:
        return None
    return sum(cores for _, cores in chosen) * 1e6 / done


def ratio(above: float, below: float) -> float:
    """A quotient that is NaN where either side is missing or the divisor is 0."""
    return math.nan if math.isnan(above) or math.isnan(below) or below == 0 else above / below


def number(value: float, digits: int = 1) -> str:
    """A figure for a table cell; a dash where there is none."""
    return "–" if math.isnan(value) else f"{value:,.{digits}f}"


def verdict(value: float, floor: float, *, at_least: bool) -> str:
    """``yes``, or by how much the floor was missed, or a dash where nothing was measured."""
    if math.isnan(value):
        return "–"
    if value >= floor if at_least else value <= floor:
        return "yes"
    missing = 1 - value / floor if at_least else value / floor - 1
    return f"no, by {missing * 100:.0f} %"


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [_row(head), _row("---" for _ in head), *(_row(row) for row in rows), ""]


def load_rows(results: Results) -> list[list[str]]:
    """One row for each load scenario that was measured."""
    rows = []
    for scenario in table.SCENARIOS:
        if scenario.name not in results:
            continue
        java = of(results, scenario.name, "java", "us_per_op")
        ours = of(results, scenario.name, "ours", "us_per_op")
        compiled = of(results, scenario.name, "compiled", "us_per_op")
        speed = ratio(of(results, scenario.name, "ours", "rate"), of(results, scenario.name, "java", "rate"))
        better = ratio(java, ours)
        rows.append(
            [
                scenario.title,
                number(java),
                number(ours),
                number(better, 2),
                f"{scenario.floor:g}",
                verdict(better, scenario.floor, at_least=True),
                number(speed, 2),
                *([number(compiled), number(ratio(java, compiled), 2)] if has_compiled(results) else []),
            ]
        )
    return rows


def has_compiled(results: Results) -> bool:
    """Whether a server with compiled modules was measured as well."""
    return any("compiled" in results.get(scenario.name, {}) for scenario in table.SCENARIOS)


def _compared(
    results: Results, title: str, group: str, field: str, unit: float, digits: int, floor: float
) -> list[str]:
    """A row whose floor is a bound on ours over Java's."""
    java, ours = (of(results, group, kind, field) / unit for kind in ("java", "ours"))
    share = ratio(ours, java)
    return [
        title,
        number(java, digits),
        number(ours, digits),
        number(share, 2),
        f"at most {floor:g} of Java's",
        verdict(share, floor, at_least=False),
    ]


def _bounded(results: Results, title: str, group: str, field: str, floor: float, unit: str) -> list[str]:
    """A row whose floor is a bound on ours alone."""
    java, ours = (of(results, group, kind, field) for kind in ("java", "ours"))
    return [
        title,
        number(java),
        number(ours),
        number(ratio(ours, java), 2),
        f"at most {floor:g} {unit}",
        verdict(ours, floor, at_least=False),
    ]


def memory_rows(results: Results) -> list[list[str]]:
    """One row for each figure of memory, of starting, and of standing still."""
    rows = []
    if "start" in results:
        rows += [
            _compared(results, "resident memory after start, MiB", "start", "rss_kib", 1024, 1, table.START_RSS_FLOOR),
            _compared(results, "start to first answer, s", "start", "first_answer_s", 1, 2, table.START_TIME_FLOOR),
            _compared(results, "start to serving, s", "start", "serving_s", 1, 2, 1.0),
        ]
    if "idle" in results:
        rows += [
            _bounded(
                results,
                "per idle session, KiB (5,000 opened)",
                "idle",
                "kib_per_session",
                table.SESSION_KIB_FLOOR,
                "KiB",
            ),
            _bounded(
                results,
                "the same after a while of pings, KiB",
                "idle",
                "kib_per_session_held",
                table.SESSION_KIB_FLOOR,
                "KiB",
            ),
        ]
    if "nodes" in results:
        rows += [
            _compared(
                results, "500,000 znodes of 100 B loaded, MiB", "nodes", "rss_kib", 1024, 0, table.NODES_RSS_FLOOR
            ),
            _compared(
                results, "the same after a restart, MiB", "nodes", "restart_rss_kib", 1024, 0, table.NODES_RSS_FLOOR
            ),
            _compared(
                results, "restart with them to first answer, s", "nodes", "restart_first_s", 1, 2, table.RESTART_FLOOR
            ),
            _compared(
                results, "restart from the log to serving, s", "nodes", "restart_log_s", 1, 2, table.RESTART_FLOOR
            ),
            _compared(
                results,
                "restart from a snapshot to serving, s",
                "nodes",
                "restart_snapshot_s",
                1,
                2,
                table.RESTART_FLOOR,
            ),
            _bounded(
                results,
                "p99 while a snapshot of them is written, over its normal value",
                "nodes",
                "snapshot_p99_ratio",
                table.SNAPSHOT_P99_FLOOR,
                "times",
            ),
            _bounded(
                results,
                "longest garbage-collector pause with 1,000,000 znodes, ms",
                "nodes",
                "gc_pause_ms",
                table.PAUSE_MS_FLOOR,
                "ms",
            ),
            _bounded(
                results, "slowest ping with 1,000,000 znodes, ms", "nodes", "ping_max_ms", table.PAUSE_MS_FLOOR, "ms"
            ),
        ]
    return rows


def detail_rows(results: Results) -> list[list[str]]:
    """Rates and latencies of the load scenarios, and how busy the machine was with other things."""
    rows = []
    for scenario in table.SCENARIOS:
        for kind in ("java", "ours", "compiled"):
            rounds = results.get(scenario.name, {}).get(kind, [])
            if rounds:
                middle = {
                    field: of(results, scenario.name, kind, field)
                    for field in ("rate", "p50_us", "p99_us", "server_cores", "other_cores")
                }
                cpu = [one["us_per_op"] for one in rounds]
                rows.append(
                    [
                        scenario.name,
                        kind,
                        number(middle["rate"], 0),
                        number(middle["p50_us"], 0),
                        number(middle["p99_us"], 0),
                        number(middle["server_cores"], 2),
                        number(middle["other_cores"], 2),
                        f"{min(cpu):.1f}–{max(cpu):.1f} ({len(cpu)})",
                        str(sum(one["errors"] for one in rounds)),
                    ]
                )
    return rows


_HOW = """\
## How it was measured

`tox -e bench` (or `python bench/run.py`) compiles `bench/zkload.c`, a load generator of one thread that verifies
every reply, and runs it on the same machine as the servers. Both servers run beside each other, each with a data
directory on a real disk and the same configuration (`tickTime=2000`, `maxClientCnxns=0`, all else at its default, so
every acknowledged write has been forced to disk); only one of them is under load at a time. Java has its default
settings, apart from its admin server, which is off since ours starts none. It was warmed up for {warm:g} s with all
operations, and every run has a warm-up of its own. Rounds alternate between the two; each figure is the median of its
rounds.

**Server CPU per operation is the figure to trust**: it is what the server's process used, in user mode and in the
kernel, divided by the operations that were answered. On a shared machine rates swing with what else runs; CPU per
operation much less, and of each run only those quarters of a second count in which other processes used at most 0.2
cores (the whole run, when there are too few of them). The ratio is Java's figure divided by ours: above 1 ours needs
less. Throughput is ours divided by Java's; note that Java uses several cores where ours uses one and a disk thread.

Memory is the resident set of the process. Sessions: 5,000 opened, growth divided by their number; looked at again
after some rounds of pings. Znodes: filled through the protocol in multis, on one connection, then looked at, then
restarted twice (the first start replays the log where no snapshot has been written; the second one finds what a
running server wrote). The first answer is the first reply to `srvr`, of whatever kind; serving is the first one that
carries the version. The load beside a snapshot is an open loop of {rate:g} requests a second, half of them writes;
each latency counts from the time the request was due, and belongs to the snapshot when it was due while the file
grew. Garbage collector pauses are read inside the process with `gc.callbacks` (ours only). The slowest ping is of a
light mixed load on a million znodes.
"""


def markdown(results: Results) -> str:
    """The whole page; shows what was measured and leaves out what was not."""
    machine = results.get("machine", {})
    settings = results.get("settings", {})
    lines = [
        "# Performance",
        "",
        "Written by `bench/run.py`; do not edit. Figures of one machine: trust the ratios, repeat them on yours.",
        "",
        "- Machine: "
        + ", ".join(
            str(value)
            for value in (
                f"{machine.get('cores', '?')} cores",
                machine.get("cpu", ""),
                f"{machine.get('memory_gib', '?')} GiB",
                machine.get("kernel", ""),
            )
            if value
        ),
        f"- Ours: zktwisted on Python {machine.get('python', '?')}, Twisted {machine.get('twisted', '?')}",
        f"- Java's: ZooKeeper {machine.get('java_server', '?')}, {machine.get('java', '?')}",
        f"- Rounds: {settings.get('rounds', '?')} of {settings.get('seconds', '?')} s each"
        + (" (a quick run: figures are rougher than those of a full one)" if settings.get("quick") else ""),
        "",
    ]
    if rows := load_rows(results):
        lines += ["## CPU per operation", ""]
        lines += _table(
            [
                "scenario",
                "Java, µs",
                "ours, µs",
                "Java over ours",
                "at least",
                "reached",
                "throughput, ours over Java's",
                *(["compiled, µs", "Java over compiled"] if has_compiled(results) else []),
            ],
            rows,
        )
    if rows := memory_rows(results):
        lines += ["## Memory, starting, standing still", ""]
        lines += _table(["figure", "Java", "ours", "ours over Java's", "floor", "reached"], rows)
    if notes := results.get("notes"):
        lines += ["## What stands in the way", "", str(notes).strip(), ""]
    if rows := detail_rows(results):
        lines += ["## Rates and latencies", ""]
        lines += _table(
            [
                "scenario",
                "server",
                "operations/s",
                "p50, µs",
                "p99, µs",
                "cores of the server",
                "cores of others",
                "µs per operation, range (rounds)",
                "errors",
            ],
            rows,
        )
    lines.append(_HOW.format(warm=settings.get("warm", 10), rate=settings.get("steady_rate", 600)))
    return "\n".join(lines)


def plain(results: Results) -> str:
    """The same two tables for a terminal."""
    out = []
    for row in load_rows(results):
        out.append(
            f"{row[0]:46} java {row[1]:>8} ours {row[2]:>8} ratio {row[3]:>6} floor {row[4]:>4} {row[5]:12} "
            f"rate x{row[6]}" + (f" compiled {row[7]:>8} ratio {row[8]:>6}" if len(row) > 7 else "")
        )
    for row in memory_rows(results):
        out.append(f"{row[0]:64} java {row[1]:>9} ours {row[2]:>9} ours/java {row[3]:>6}  {row[4]}: {row[5]}")
    return "\n".join(out)


def hottest(stacks: str, count: int = 25) -> list[tuple[str, float, float]]:
    """Per function its own share and its share with callees, from ``a;b;c 12`` lines (py-spy's raw format)."""
    own: dict[str, int] = {}
    whole: dict[str, int] = {}
    total = 0
    for line in stacks.splitlines():
        stack, _, times = line.rpartition(" ")
        if not times.isdigit():
            continue
        frames = [
            frame.rpartition(":")[0] if frame.rpartition(":")[2].rstrip(")").isdigit() else frame
            for frame in stack.split(";")
        ]
        frames = [frame + ")" if frame.count("(") > frame.count(")") else frame for frame in frames]
        total += int(times)
        own[frames[-1]] = own.get(frames[-1], 0) + int(times)
        for frame in set(frames):
            whole[frame] = whole.get(frame, 0) + int(times)
    best = sorted(whole, key=lambda frame: (-own.get(frame, 0), -whole[frame], frame))[:count]
    return [(frame, own.get(frame, 0) / total, whole[frame] / total) for frame in best] if total else []
