"""The command line of the benchmark: which rounds run in which order, and where the results go."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench import load, report, standing
from bench import scenarios as table
from bench.report import Results
from bench.servers import JAVA_CLASS_PATH, ROOT, Server, ServerFailed

DOCUMENT = ROOT / "docs" / "performance.md"
NOTES = Path(__file__).resolve().parent / "notes.md"


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    names = [*table.BY_NAME, *table.OTHERS]
    parser = argparse.ArgumentParser(
        prog="bench/run.py", description="Measures this server beside the Java server and writes docs/performance.md."
    )
    parser.add_argument("--quick", action="store_true", help="runs of 1.5 s, one round: a first look")
    parser.add_argument(
        "--scenario",
        action="append",
        choices=names,
        metavar="NAME",
        help=f"only this one (may be given several times): {', '.join(names)}",
    )
    parser.add_argument("--rounds", type=int, help="rounds of every scenario (3; with --quick 1)")
    parser.add_argument("--seconds", type=float, help="measured time of a run (4; with --quick 1.5)")
    parser.add_argument("--warm", type=float, help="seconds of mixed load that warm Java up (10; with --quick 5)")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--ours-only", action="store_true", help="leave the Java server out")
    only.add_argument("--java-only", action="store_true", help="leave our server out")
    parser.add_argument("--java-results", metavar="FILE", help="with --ours-only: take Java's side from this JSON")
    parser.add_argument("--from-json", metavar="FILE", help="measure nothing, write the page from this JSON")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    parser.add_argument(
        "--document", metavar="FILE", help="write the page there (a full run writes docs/performance.md by itself)"
    )
    parser.add_argument("--python", default=sys.executable, help="interpreter that runs our server")
    parser.add_argument("--compiled", metavar="PYTHON", help="measure also what is installed for this one, compiled")
    parser.add_argument("--java-classpath", default=JAVA_CLASS_PATH, help="jars of the Java server")
    parser.add_argument("--port", type=int, default=23400, help="first of the local ports (23400)")
    parser.add_argument("--work-dir", metavar="DIR", help="where data directories go: a real disk, not a tmpfs")
    parser.add_argument(
        "--profile",
        metavar="DIR",
        help="sample our server with py-spy during each load scenario and keep the stacks there",
    )
    return parser.parse_args(arguments)


def machine(settings: argparse.Namespace) -> dict[str, object]:
    """What the figures were made on; nothing that names the host."""
    info: dict[str, object] = {
        "cores": os.cpu_count(),
        "kernel": "Linux " + ".".join(platform.release().split("-")[0].split(".")[:2]),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
    }
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    if found:
        info["cpu"] = found[1]
    asked = subprocess.run(
        [settings.python, "-c", "import platform, twisted; print(platform.python_version(), twisted.__version__)"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if asked.returncode == 0:
        info["python"], info["twisted"] = asked.stdout.split()
    if shutil.which("java"):
        said = subprocess.run(["java", "-version"], capture_output=True, text=True, timeout=60, check=False).stderr
        quoted = re.search(r'(\S+) version "([^"]+)"', said)
        info["java"] = f"{quoted[1]} {quoted[2]}" if quoted else "Java"
    return info


class Run:
    """One whole benchmark: makes the servers, runs the rounds, gathers the results."""

    def __init__(self, settings: argparse.Namespace, directory: Path) -> None:
        self.settings = settings
        self.directory = directory
        self.rounds: int = settings.rounds or (1 if settings.quick else 3)
        self.seconds: float = settings.seconds or (1.5 if settings.quick else 4.0)
        self.warm: float = settings.warm if settings.warm is not None else (5.0 if settings.quick else 10.0)
        self.kinds = [
            kind for kind, left_out in (("java", settings.ours_only), ("ours", settings.java_only)) if not left_out
        ]
        if settings.compiled:
            self.kinds.append("compiled")
        self.chosen: list[str] = settings.scenario or [*table.BY_NAME, *table.OTHERS]
        self.failed: list[str] = []
        self.made = 0
        self.results: Results = {
            "machine": machine(settings),
            "settings": {
                "rounds": self.rounds,
                "seconds": self.seconds,
                "warm": self.warm,
                "quick": settings.quick,
                "steady_rate": standing.STEADY_RATE,
            },
        }
        self.zkload = load.build(directory)

    def say(self, text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)

    def make(self, kind: str, purpose: str) -> Server:
        """A server that is not started yet, with an empty directory of its own."""
        self.made += 1
        # A port is not used twice in a row: connections of the last server may linger on it.
        return Server(
            kind,
            self.settings.port + self.made % 50,
            self.directory / f"{purpose}-{kind}-{self.made}",
            python=self.settings.compiled if kind == "compiled" else self.settings.python,
            class_path=self.settings.java_classpath,
        )

    def order(self, number: int) -> list[str]:
        """Who goes first changes from round to round."""
        return self.kinds if number % 2 == 0 else self.kinds[::-1]

    def note(self, name: str, kind: str, figures: load.Figures) -> None:
        self.results.setdefault(name, {}).setdefault(kind, []).append(figures)
        if any(value for key, value in figures.items() if key.endswith("errors")):
            self.failed.append(f"{name} of {kind} had wrong or missing answers")

    def loads(self) -> None:
        """All load scenarios, on one server of each kind that stays up."""
        chosen = [scenario for scenario in table.SCENARIOS if scenario.name in self.chosen]
        if not chosen:
            return
        servers = {kind: self.make(kind, "load") for kind in self.kinds}
        try:
            for kind, server in servers.items():
                server.start()
                self.results["machine"][f"{kind}_server"] = server.version()
                self.say(f"{kind}: warming up")
                seconds = self.warm if kind == "java" else min(self.warm, 2.0)
                load.run(self.zkload, server, ("--mix", table.WARM_UP, "--conns", "50", "--depth", "8"), seconds, 0)
            for number in range(self.rounds):
                for scenario in chosen:
                    for kind in self.order(number):
                        self.one(scenario, servers[kind], number)
        finally:
            for server in servers.values():
                server.remove()

    def one(self, scenario: table.Scenario, server: Server, number: int) -> None:
        """One run of one scenario."""
        warmup = 0.5 if self.settings.quick else 1.5
        sampler = self.sampler(scenario.name, server, warmup) if server.kind == "ours" and not number else None
        try:
            figures = load.brief(load.run(self.zkload, server, scenario.arguments, self.seconds, warmup))
        finally:
            if sampler is not None:
                sampler.wait(self.seconds + 60)
        self.note(scenario.name, server.kind, figures)
        self.say(
            f"{scenario.name:14} {server.kind:4} {figures['us_per_op']:8.2f} us/op {figures['rate']:10.0f}/s "
            f"p99 {figures['p99_us'] / 1000:8.2f} ms, others {figures['other_cores']:.2f} cores, "
            f"errors {figures['errors']}"
        )

    def sampler(self, name: str, server: Server, warmup: float) -> subprocess.Popen[bytes] | None:
        """Starts py-spy on the server for the time of a run; its figures are then not to be trusted."""
        if not self.settings.profile:
            return None
        program = shutil.which("py-spy") or shutil.which("py-spy", path=str(Path(sys.executable).parent))
        if program is None:
            raise SystemExit("--profile needs py-spy: pip install py-spy (or pip install -e .[bench])")
        target = Path(self.settings.profile)
        target.mkdir(parents=True, exist_ok=True)
        return subprocess.Popen(
            [
                program,
                "record",
                "--pid",
                str(server.pid),
                "--duration",
                str(max(1, round(self.seconds + warmup))),
                "--rate",
                "500",
                "--format",
                "raw",
                "--function",
                "--nonblocking",
                "--output",
                str(target / f"{name}.txt"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def standing(self) -> None:
        """Everything that needs a server of its own."""
        bench = standing.Bench(self.zkload, self.make, self.settings.quick, self.say)
        for name, measure in standing.MEASUREMENTS.items():
            if name not in self.chosen:
                continue
            # Filling a million znodes takes minutes; a round of it is long enough to be its own median.
            for number in range(1 if name == "nodes" else self.rounds):
                for kind in self.order(number):
                    if kind == "compiled":
                        continue
                    self.say(f"{name}: {kind}")
                    figures = measure(bench, kind)
                    self.note(name, kind, figures)
                    self.say(f"{name} {kind} " + " ".join(f"{key}={value:.2f}" for key, value in figures.items()))


def hot_functions(directory: Path) -> str:
    """A summary of the stacks that ``--profile`` left, one block a scenario."""
    out = []
    for scenario in table.SCENARIOS:
        file = directory / f"{scenario.name}.txt"
        if file.exists():
            out.append(f"{scenario.title}: own share, share with callees")
            out += [
                f"  {own * 100:5.1f} % {whole * 100:5.1f} %  {name}"
                for name, own, whole in report.hottest(file.read_text(encoding="utf-8", errors="replace"))
            ]
    return "\n".join(out)


def publish(settings: argparse.Namespace, results: Results, whole: bool) -> None:
    """Writes the JSON and the page that were asked for, and prints the tables."""
    if NOTES.exists():
        results["notes"] = NOTES.read_text(encoding="utf-8")
    if settings.json:
        Path(settings.json).write_text(json.dumps(results, indent=1), encoding="utf-8")
    target = Path(settings.document) if settings.document else DOCUMENT if whole else None
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(report.markdown(results), encoding="utf-8")
    print(report.plain(results))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; 0, or 1 when an answer was wrong or a server failed, 2 when it could not begin."""
    settings = options(arguments)
    if settings.from_json:
        publish(settings, json.loads(Path(settings.from_json).read_text(encoding="utf-8")), whole=not settings.document)
        return 0
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # the servers inherit it: 5,000 sessions are 5,000 files
    directory = Path(tempfile.mkdtemp(prefix="zk-bench-", dir=settings.work_dir))
    try:
        run = Run(settings, directory)
        if settings.java_results:
            earlier = json.loads(Path(settings.java_results).read_text(encoding="utf-8"))
            run.results["machine"]["java_server"] = earlier.get("machine", {}).get("java_server", "?")
            for name in run.chosen:
                if "java" in earlier.get(name, {}):
                    run.results.setdefault(name, {})["java"] = earlier[name]["java"]
        try:
            run.loads()
            run.standing()
        except (ServerFailed, load.LoadFailed, OSError) as error:
            run.failed.append(str(error))
        whole = not (settings.quick or settings.scenario or len(run.kinds) < 2 or run.failed or settings.profile)
        publish(settings, run.results, whole)
        if settings.profile:
            print(hot_functions(Path(settings.profile)))
        for problem in run.failed:
            print(f"failed: {problem}", file=sys.stderr)
        return 1 if run.failed else 0
    except (load.LoadFailed, ServerFailed) as error:
        print(error, file=sys.stderr)
        return 2
    finally:
        shutil.rmtree(directory, ignore_errors=True)
