"""Measures three servers on this machine that are one ensemble, ours beside Java's, in one run.

    python bench/ensemble.py                        # everything, about half an hour
    python bench/ensemble.py --quick                # a first look
    python bench/ensemble.py --scenario failover

Connections are spread over the three; the CPU of an operation is that of all three together. Prints a table with the
floor of each figure; exit status as that of ``run.py``.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import load, report, steady
from bench.load import Figures
from bench.report import Window, inside, percentile
from bench.scenarios import WARM_UP, Scenario
from bench.servers import JAVA_CLASS_PATH, Server, ServerFailed, answer

TIMES = {"tickTime": "2000", "initLimit": "10", "syncLimit": "5", "4lw.commands.whitelist": "*"}
SERVERS = 3
WAIT_S = 120.0
STEADY_RATE = 400.0
NODES, FEW_NODES, NODE_BYTES = 500_000, 50_000, 100


def _mix(name: str, title: str, mix: str, conns: int, depth: int, floor: float) -> Scenario:
    return Scenario(name, title, ("--mix", mix, "--conns", str(conns), "--depth", str(depth)), floor)


LOADS = (
    _mix("get", "get 100 B, 50 connections x 16", "get:1", 50, 16, 3.5),
    _mix("set", "set 100 B, 50 x 16", "set:1", 50, 16, 2.0),
    _mix("get-set", "get:90,set:10, 50 x 8", "get:90,set:10", 50, 8, 2.5),
)
FAILOVER_FLOOR = 1.0
FROZEN_FLOOR = 3.0
SNAP_FLOOR = 1.0
SNAP_P99_FLOOR = 3.0


def value_of(port: int, name: str) -> str | None:
    """One value of a server's ``mntr``; None when it has no such line, or does not answer."""
    for line in (answer(port, b"mntr") or b"").decode("utf-8", "replace").splitlines():
        key, _, value = line.partition("\t")
        if key == name:
            return value
    return None


class Trio:
    """Three servers of one kind; towards the load generator they look like one server with several addresses."""

    def __init__(self, kind: str, first_port: int, directory: Path, python: str, class_path: str) -> None:
        ports = [first_port + number for number in range(3 * SERVERS)]
        self.kind = kind
        self.directory = directory
        lines = {
            f"server.{sid}": f"127.0.0.1:{ports[SERVERS + sid - 1]}:{ports[2 * SERVERS + sid - 1]}"
            for sid in range(1, SERVERS + 1)
        }
        self.servers = {
            sid: Server(kind, ports[sid - 1], directory / str(sid), python, class_path, {**TIMES, **lines})
            for sid in range(1, SERVERS + 1)
        }

    @property
    def address(self) -> str:
        return ",".join(server.address for server in self.servers.values())

    @property
    def pid(self) -> str:
        return ",".join(str(server.pid) for server in self.servers.values())

    def last_words(self) -> str:
        """The end of what each process printed."""
        return "\n".join(server.last_words() for server in self.servers.values())

    def start(self) -> None:
        """Starts those that do not run, and waits until all serve."""
        missing = {sid: server for sid, server in self.servers.items() if server.process is None}
        for sid, server in missing.items():
            data = server.directory / "data"
            data.mkdir(parents=True, exist_ok=True)
            (data / "myid").write_text(f"{sid}\n", encoding="ascii")
        with ThreadPoolExecutor(SERVERS) as pool:
            for started in [pool.submit(server.start) for server in missing.values()]:
                started.result()

    def leader(self) -> int:
        """The id of the server that leads; waits until one does and all others follow it."""
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            for sid, server in self.servers.items():
                if value_of(server.port, "zk_synced_followers") in ("2", "2.0"):
                    return sid
            time.sleep(0.05)
        raise ServerFailed(f"{self.kind}: nobody leads two followers: {self.last_words()}")

    def kill(self, sid: int) -> None:
        """Ends a server as a crash does."""
        process, self.servers[sid].process = self.servers[sid].process, None
        assert process is not None
        process.kill()
        process.wait(30)

    def stop(self) -> None:
        for server in self.servers.values():
            server.stop()

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


def settings_of(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    names = [scenario.name for scenario in LOADS] + [*MEASUREMENTS]
    parser = argparse.ArgumentParser(prog="bench/ensemble.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="short runs, one round, few znodes: a first look")
    parser.add_argument("--scenario", action="append", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--rounds", type=int, help="rounds of every scenario (3; with --quick 1)")
    parser.add_argument("--seconds", type=float, help="measured time of a run under load (4; with --quick 1.5)")
    parser.add_argument("--kills", type=int, help="how often a leader is killed (7; with --quick 2)")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--ours-only", action="store_true", help="leave the Java servers out")
    only.add_argument("--java-only", action="store_true", help="leave our servers out")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    parser.add_argument("--python", default=sys.executable, help="interpreter that runs our servers")
    parser.add_argument("--compiled", metavar="PYTHON", help="measure also what is installed for this one, compiled")
    parser.add_argument("--java-classpath", default=JAVA_CLASS_PATH, help="jars of the Java servers")
    parser.add_argument("--port", type=int, default=23450, help="first of the local ports (23450)")
    parser.add_argument("--work-dir", metavar="DIR", help="where data directories go: a real disk, not a tmpfs")
    return parser.parse_args(arguments)


class Run:
    """One whole run: makes the ensembles, runs the rounds, gathers the figures."""

    def __init__(self, settings: argparse.Namespace, directory: Path) -> None:
        self.settings = settings
        self.directory = directory
        self.quick: bool = settings.quick
        self.rounds: int = settings.rounds or (1 if self.quick else 3)
        self.seconds: float = settings.seconds or (1.5 if self.quick else 4.0)
        self.kills: int = settings.kills or (2 if self.quick else 7)
        left_out = "java" if settings.ours_only else "ours" if settings.java_only else ""
        self.kinds = [kind for kind in ("java", "ours") if kind != left_out]
        if settings.compiled:
            self.kinds.append("compiled")
        self.chosen: list[str] = settings.scenario or [*(scenario.name for scenario in LOADS), *MEASUREMENTS]
        self.results: report.Results = {}
        self.failed: list[str] = []
        self.made = 0
        self.zkload = load.build(directory)

    def say(self, text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)

    @contextmanager
    def trio(self, kind: str) -> Iterator[Trio]:
        """A started ensemble, gone afterwards."""
        self.made += 1
        port = self.settings.port + 3 * SERVERS * (self.made % 5)
        python = self.settings.compiled if kind == "compiled" else self.settings.python
        made = Trio(kind, port, self.directory / f"{kind}-{self.made}", python, self.settings.java_classpath)
        try:
            made.start()
            made.leader()
            yield made
        finally:
            made.remove()

    def note(self, name: str, kind: str, figures: Figures) -> None:
        """Keeps the figures of a round, and tells them."""
        self.results.setdefault(name, {}).setdefault(kind, []).append(figures)
        if any(value for key, value in figures.items() if key.endswith("errors")):
            self.failed.append(f"{name} of {kind} had wrong or missing answers")
        self.say(f"{name} {kind} " + " ".join(f"{key}={value:.2f}" for key, value in figures.items()))

    def loads(self) -> None:
        """All loads, on one ensemble of each kind at a time: six servers would share the two or four cores."""
        chosen = [scenario for scenario in LOADS if scenario.name in self.chosen]
        for number in range(self.rounds if chosen else 0):
            for kind in self.kinds if number % 2 == 0 else self.kinds[::-1]:
                with self.trio(kind) as trio:
                    warm = (5.0 if self.quick else 15.0) if kind == "java" else 2.0
                    self.load(trio, ("--mix", WARM_UP, "--conns", "50", "--depth", "8"), warm)
                    for scenario in chosen:
                        self.note(scenario.name, kind, load.brief(self.load(trio, scenario.arguments, self.seconds)))

    def load(self, trio: Trio, arguments: tuple[str, ...], seconds: float) -> Figures:
        return load.run(self.zkload, trio, arguments, seconds, 0.5 if self.quick else 1.5)  # type: ignore[arg-type]

    def others(self) -> None:
        """Everything that does something to a server."""
        for name, measure in MEASUREMENTS.items():
            for kind in self.kinds if name in self.chosen else ():
                if kind == "compiled":
                    continue
                with self.trio(kind) as trio:
                    for figures in measure(self, trio):
                        self.note(name, kind, figures)


def failover(run: Run, trio: Trio) -> Iterator[Figures]:
    """The longest time without a successful write when the leader is killed in the midst of writes."""
    mix = ("--mix", "set:1", "--conns", "6", "--depth", "1", "--nodes", "100", "--reconnect")
    run.load(trio, mix, 2.0)
    for _ in range(run.kills):
        leader = trio.leader()
        pids = [server.pid for sid, server in trio.servers.items() if sid != leader]
        alive = _Part(trio, pids)
        killer = threading.Timer(3.0, trio.kill, [leader])
        killer.start()
        figures = load.run(run.zkload, alive, mix, 8.0, 0.5)  # type: ignore[arg-type]
        killer.join()
        yield {"gap_ms": figures["gap"]["ms"], "errors": figures["errors"]}
        trio.start()


class _Part:
    """All addresses of an ensemble, and only some of its processes: the others will not be there at the end."""

    def __init__(self, trio: Trio, pids: Sequence[int]) -> None:
        self.address = trio.address
        self.pid = ",".join(map(str, pids))
        self.last_words = trio.last_words


def frozen(run: Run, trio: Trio) -> Iterator[Figures]:
    """The 99th percentile of a steady load on a follower: before the other one is stopped, and once it is dropped."""
    leader = trio.leader()
    stopped, asked = [server for sid, server in trio.servers.items() if sid != leader]
    before_s, after_s = (4.0, 4.0) if run.quick else (15.0, 15.0)
    marks: dict[str, float] = {}

    def freeze() -> None:
        time.sleep(before_s)
        marks["stopped"] = time.time()
        os.kill(stopped.pid, signal.SIGSTOP)
        deadline = time.monotonic() + WAIT_S
        while value_of(trio.servers[leader].port, "zk_synced_followers") not in ("1", "1.0"):
            if time.monotonic() > deadline:
                return
            time.sleep(0.1)
        marks["dropped"] = time.time()

    steady.run(asked, STEADY_RATE, 2.0)
    thread = threading.Thread(target=freeze)
    thread.start()
    try:
        # A tick has 2 s: a follower that says nothing is dropped after 5 of them.
        samples, wrong = steady.run(asked, STEADY_RATE, before_s + 16.0 + after_s)
    finally:
        thread.join()
        os.kill(stopped.pid, signal.SIGCONT)
    if "dropped" not in marks:
        raise ServerFailed(f"{trio.kind}: a follower that stands still was not dropped")
    normal = [sample.ms for sample in samples if sample.due < marks["stopped"]]
    between = [sample.ms for sample in samples if marks["stopped"] <= sample.due < marks["dropped"]]
    after = [sample.ms for sample in samples if sample.due >= marks["dropped"]]
    figures = {
        "normal_p99_ms": percentile(normal, 0.99),
        "between_p99_ms": percentile(between, 0.99),
        "after_p99_ms": percentile(after, 0.99),
        "dropped_after_s": marks["dropped"] - marks["stopped"],
        "errors": wrong,
    }
    figures["p99_ratio"] = figures["after_p99_ms"] / figures["normal_p99_ms"]
    yield figures


def snap(run: Run, trio: Trio) -> Iterator[Figures]:
    """How long a server with nothing takes to serve many znodes, and what the leader's clients feel of it."""
    leader = trio.leader()
    nodes = FEW_NODES if run.quick else NODES
    load.prepare(run.zkload, trio.servers[leader], nodes, NODE_BYTES)
    learner = next(server for sid, server in trio.servers.items() if sid != leader)
    for _ in range(run.rounds):
        learner.stop()
        shutil.rmtree(learner.data)
        began = time.time()
        found: dict[str, float] = {}

        def sync(learner: Server = learner, found: dict[str, float] = found) -> None:
            time.sleep(5.0)
            found["from"] = time.time()
            found["serving_s"] = learner.start().serving_s
            found["to"] = time.time()

        thread = threading.Thread(target=sync)
        thread.start()
        samples, wrong = steady.run(trio.servers[leader], STEADY_RATE, 15.0 if run.quick else 30.0)
        thread.join()
        within = inside([sample.due for sample in samples], [Window(found["from"], found["to"])])
        during = [sample.ms for sample, yes in zip(samples, within, strict=True) if yes]
        normal = [sample.ms for sample in samples if began + 1.0 < sample.due < found["from"]]
        figures = {
            "serving_s": found["serving_s"],
            "during_p99_ms": percentile(during, 0.99),
            "normal_p99_ms": percentile(normal, 0.99),
            "during_max_ms": max(during, default=math.nan),
            "errors": wrong,
        }
        figures["p99_ratio"] = figures["during_p99_ms"] / figures["normal_p99_ms"]
        yield figures


MEASUREMENTS: dict[str, Callable[[Run, Trio], Iterator[Figures]]] = {
    "failover": failover,
    "frozen": frozen,
    "snap": snap,
}


def rows(results: report.Results) -> list[list[str]]:
    """The lines of the table: what, Java, ours, the ratio, its floor, and whether it holds."""
    lines = []
    for scenario in LOADS:
        java, ours = (report.of(results, scenario.name, kind, "us_per_op") for kind in ("java", "ours"))
        better = report.ratio(java, ours)
        held = report.verdict(better, scenario.floor, at_least=True)
        lines.append([f"CPU µs/op: {scenario.title}", java, ours, better, f">= {scenario.floor:g}", held])
    for title, name, field, floor in (
        ("ms without a write, leader killed", "failover", "gap_ms", FAILOVER_FLOOR),
        ("s until an empty server serves", "snap", "serving_s", SNAP_FLOOR),
    ):
        java, ours = (report.of(results, name, kind, field) for kind in ("java", "ours"))
        worse = report.ratio(ours, java)
        lines.append([title, java, ours, worse, f"<= {floor:g}", report.verdict(worse, floor, at_least=False)])
    for title, name, floor in (
        ("p99 after / before a follower stopped", "frozen", FROZEN_FLOOR),
        ("p99 during / before a SNAP sync", "snap", SNAP_P99_FLOOR),
    ):
        java, ours = (report.of(results, name, kind, "p99_ratio") for kind in ("java", "ours"))
        lines.append([title, java, ours, ours, f"<= {floor:g}", report.verdict(ours, floor, at_least=False)])
    return [[cell if isinstance(cell, str) else report.number(cell, 2) for cell in line] for line in lines]


def compiled_rows(results: report.Results) -> list[list[str]]:
    """The same of servers with compiled modules, as far as they were measured: without a floor."""
    lines = []
    for scenario in LOADS:
        java, ours = (report.of(results, scenario.name, kind, "us_per_op") for kind in ("java", "compiled"))
        if not math.isnan(ours):
            figures = [report.number(each, 2) for each in (java, ours, report.ratio(java, ours))]
            lines.append([f"compiled: {scenario.title}", *figures, "", ""])
    return lines


def table(results: report.Results) -> str:
    """The figures as a Markdown table."""
    head = ["medians", "Java", "ours", "ratio", "floor", "held"]
    lines = [head, ["---"] * len(head), *rows(results), *compiled_rows(results)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; 0, or 1 when an answer was wrong or a server failed, 2 when it could not begin."""
    settings = settings_of(arguments)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    directory = Path(tempfile.mkdtemp(prefix="zk-ensemble-", dir=settings.work_dir))
    try:
        run = Run(settings, directory)
        try:
            run.loads()
            run.others()
        except (ServerFailed, load.LoadFailed, OSError) as error:
            run.failed.append(str(error))
        if settings.json:
            Path(settings.json).write_text(json.dumps(run.results, indent=1), encoding="utf-8")
        print(table(run.results))
        for problem in run.failed:
            print(f"failed: {problem}", file=sys.stderr)
        return 1 if run.failed else 0
    except load.LoadFailed as error:
        print(error, file=sys.stderr)
        return 2
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
