"""Builds ``zkload`` and runs it against one server; the only place that knows its options and its JSON."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench import report as report_maths
from bench.servers import Server

SOURCE = Path(__file__).resolve().parent / "zkload.c"
Figures = dict[str, Any]


class LoadFailed(Exception):
    """The load generator could not be built or could not run."""


def build(directory: Path) -> Path:
    """Compiles ``zkload`` into a directory and returns the program."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise LoadFailed("no C compiler: install one (on Debian: apt-get install gcc libc6-dev)")
    program = directory / "zkload"
    done = subprocess.run(
        [compiler, "-O2", "-o", str(program), str(SOURCE)], capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode:
        raise LoadFailed(f"zkload does not compile:\n{done.stderr}")
    return program


def run(program: Path, server: Server, arguments: tuple[str, ...], seconds: float, warmup: float) -> Figures:
    """One run of the load against a server; returns the parsed JSON report of ``zkload``.

    A run whose answers were wrong is no exception: its ``errors`` is above 0, and the report shows it.
    """
    command = [
        str(program),
        "--hosts",
        server.address,
        "--pids",
        str(server.pid),
        "--json",
        "--limit",
        "300",
        "--seconds",
        str(seconds),
        "--warmup",
        str(warmup),
        *arguments,
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + warmup + 660, check=False)
    except subprocess.TimeoutExpired as error:
        raise LoadFailed(f"zkload did not end: {' '.join(command)}") from error
    if done.stderr:
        print(done.stderr.rstrip()[-600:], file=sys.stderr)
    if done.returncode > 1:
        raise LoadFailed(
            f"zkload could not run ({done.returncode}): {done.stderr.strip()[-400:]}\n{server.last_words()}"
        )
    if not done.stdout.strip():
        if "--prepare-only" in arguments and done.returncode == 0:
            return {}
        raise LoadFailed(f"zkload reported nothing: {done.stderr.strip()[-400:]}\n{server.last_words()}")
    report: Figures = json.loads(done.stdout.strip().splitlines()[-1])
    return report


def prepare(program: Path, server: Server, nodes: int, size: int) -> None:
    """Fills the server with that many znodes of that many bytes."""
    run(program, server, ("--prepare-only", "--nodes", str(nodes), "--size", str(size)), 1, 0)


def brief(report: Figures) -> Figures:
    """The few numbers of a run that the benchmark keeps."""
    whole = report["server"]["us_per_op"]
    quiet = report_maths.quiet_cost(report["slices"])
    return {
        "us_per_op": whole if quiet is None else quiet,
        "us_per_op_whole": whole,
        "rate": report["total"]["rate"],
        "p50_us": report["total"]["p50_us"],
        "p99_us": report["total"]["p99_us"],
        "server_cores": report["server"]["cores"],
        "other_cores": max(0.0, report["machine"]["other_cores"]) + report["machine"]["steal_cores"],
        "errors": report["errors"],
    }
