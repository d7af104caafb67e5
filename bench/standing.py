"""What is measured on a server that is started for it alone: starting, memory, stalls, snapshots beside a load."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench import load, steady
from bench.load import Figures
from bench.report import inside, percentile
from bench.servers import ROOT, Server

SETTLE_S = 2.0
SESSIONS = 5000
NODES = 500_000
MANY_NODES = 1_000_000
NODE_BYTES = 100
STEADY_RATE = 600.0
"""Requests a second beside a snapshot, half of them writes."""
STEADY_SNAP_COUNT = 2000
"""``snapCount`` of that run: a snapshot begins every 3 to 7 s."""


@dataclass
class Bench:
    """What every measurement needs: the load generator, how to make a server, and whether to be quick."""

    zkload: Path
    make: Callable[..., Server]
    quick: bool
    say: Callable[[str], None]


def start(bench: Bench, kind: str) -> Figures:
    """Starts an empty server twice (the first time only fills the caches of the system) and looks at it."""
    for last in (False, True):
        server = bench.make(kind, "start")
        try:
            began = server.start()
            if last:
                time.sleep(SETTLE_S)
                return {
                    "first_answer_s": began.first_answer_s,
                    "serving_s": began.serving_s,
                    "rss_kib": server.rss_kib(),
                }
        finally:
            server.remove()
    raise AssertionError("unreachable")


def idle(bench: Bench, kind: str) -> Figures:
    """Holds 5,000 sessions that only ping, and divides the growth of the process by their number."""
    server = bench.make(kind, "idle")
    try:
        server.start()
        time.sleep(SETTLE_S)
        before = server.rss_kib()
        seconds = 4.0 if bench.quick else 20.0
        report = load.run(bench.zkload, server, ("--mode", "idle", "--conns", str(SESSIONS)), seconds, 0)
        figures = report["server"]
        return {
            "kib_per_session": (figures["rss_open_kb"] - before) / SESSIONS,
            "kib_per_session_held": (figures["rss_kb"] - before) / SESSIONS,
            "cores": figures["cores"],
            "open_s": report["open_seconds"],
            "errors": report["errors"],
        }
    finally:
        server.remove()


def nodes(bench: Bench, kind: str) -> Figures:
    """Fills a server with 500,000 znodes, restarts it twice, writes snapshots under a load, goes on to a million."""
    figures: Figures = {}
    server = bench.make(kind, "nodes")
    try:
        server.start()
        began = time.monotonic()
        load.prepare(bench.zkload, server, NODES, NODE_BYTES)
        figures["load_s"] = time.monotonic() - began
        time.sleep(SETTLE_S)
        figures["rss_kib"] = server.rss_kib()
        bench.say(f"{kind}: {NODES} znodes in {figures['load_s']:.1f} s, {figures['rss_kib'] // 1024} MiB")
        figures["stop_s"] = server.stop()

        server.settings["snapCount"] = str(STEADY_SNAP_COUNT)
        began_again = server.start()
        figures.update(restart_log_s=began_again.serving_s, restart_first_s=began_again.first_answer_s)
        time.sleep(SETTLE_S)
        figures["restart_rss_kib"] = server.rss_kib()
        bench.say(f"{kind}: restarted in {began_again.serving_s:.2f} s, {figures['restart_rss_kib'] // 1024} MiB")
        figures.update(_beside_snapshots(bench, server))
        server.stop()

        del server.settings["snapCount"]
        pauses = server.directory / "gc-pauses.txt"
        if kind == "ours":
            server.environment.update(PYTHONPATH=str(ROOT / "bench" / "gcprobe"), BENCH_GC_PAUSES=str(pauses))
        figures["restart_snapshot_s"] = server.start().serving_s
        bench.say(f"{kind}: restarted from a snapshot in {figures['restart_snapshot_s']:.2f} s")
        figures.update(_million(bench, server, pauses))
        return figures
    finally:
        server.remove()


def _beside_snapshots(bench: Bench, server: Server) -> Figures:
    """The 99th percentile of a steady load, in the time of snapshots and out of it."""
    steady.run(server, STEADY_RATE / 2, 1.0)
    watcher = steady.SnapshotWatcher(server.data)
    seconds = 20.0 if bench.quick else 60.0
    samples, wrong = steady.run(server, STEADY_RATE, seconds, watcher=watcher)
    within = inside([sample.due for sample in samples], watcher.windows)
    during = [sample.ms for sample, yes in zip(samples, within, strict=True) if yes]
    normal = [sample.ms for sample, yes in zip(samples, within, strict=True) if not yes]
    lengths = [window.end - window.start for window in watcher.windows]
    figures: Figures = {
        "snapshots": len(lengths),
        "snapshot_s": max(lengths, default=0.0),
        "snapshot_samples": len(during),
        "snapshot_max_ms": max(during, default=0.0),
        "normal_max_ms": max(normal, default=0.0),
        "steady_errors": wrong,
    }
    if len(during) >= 200 and len(normal) >= 200:
        figures["snapshot_p99_ms"] = percentile(during, 0.99)
        figures["normal_p99_ms"] = percentile(normal, 0.99)
        figures["snapshot_p99_ratio"] = figures["snapshot_p99_ms"] / figures["normal_p99_ms"]
        for name, write in (("read", False), ("write", True)):
            for label, inner in (("snapshot", True), ("normal", False)):
                chosen = [
                    one.ms for one, yes in zip(samples, within, strict=True) if yes is inner and one.write is write
                ]
                figures[f"{label}_{name}_p99_ms"] = percentile(chosen, 0.99)
    bench.say(
        f"{server.kind}: "
        + " ".join(
            f"{key}={value:.2f}" if isinstance(value, float) else f"{key}={value}" for key, value in figures.items()
        )
    )
    return figures


def _million(bench: Bench, server: Server, pauses: Path) -> Figures:
    """The longest stall under a light load with a million znodes."""
    load.prepare(bench.zkload, server, MANY_NODES, NODE_BYTES)
    figures: Figures = {}
    time.sleep(SETTLE_S)
    began = time.time()
    mix = (
        "--mix",
        "ping:40,get:30,set:15,create_delete:15",
        "--nodes",
        str(MANY_NODES),
        "--rate",
        "600",
        "--conns",
        "16",
    )
    report = load.run(bench.zkload, server, mix, 6.0 if bench.quick else 30.0, 1)
    figures["million_rss_kib"] = server.rss_kib()
    figures["ping_max_ms"] = report["kinds"]["ping"]["max_us"] / 1000
    figures["million_max_ms"] = report["total"]["max_us"] / 1000
    figures["million_errors"] = report["errors"]
    if pauses.exists():
        figures["gc_pause_ms"] = _longest(pauses, 0.0)
        figures["gc_pause_light_ms"] = _longest(pauses, began)
    bench.say(f"{server.kind}: a million: " + " ".join(f"{key}={value:.2f}" for key, value in figures.items()))
    return figures


def _longest(pauses: Path, since: float) -> float:
    """The longest garbage collection written down since a moment, in ms."""
    rows = [line.split() for line in pauses.read_text(encoding="ascii").splitlines()]
    return max((float(row[2]) for row in rows if len(row) == 3 and float(row[0]) >= since), default=0.0)


MEASUREMENTS: dict[str, Callable[[Bench, str], Figures]] = {"start": start, "idle": idle, "nodes": nodes}
__all__ = ["MEASUREMENTS", "STEADY_RATE", "Bench"]
