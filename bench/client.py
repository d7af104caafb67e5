"""
Our client beside kazoo: the same requests of one server, each client in a process of its own, turn by turn.

What is counted is CPU time of the client's process, all its threads, and requests per second; the server is ours.
Both clients do what their documentation shows: `get_async` and `wait`, `get` in a loop; and gathered Deferreds, `await`
in a loop.

    python bench/client.py [--seconds 2] [--rounds 3] [--document docs/performance-client.md]

Exit status 1 when a figure misses its floor: 3 times kazoo's pipelined reads per CPU second, and no slower at one
request at a time.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.report import median
from bench.servers import ROOT, Server

BATCH = 100
NODE, DATA = "/bench", b"x" * 100
Counts = dict[str, tuple[int, float, float]]

LOADS = {
    "get-pipelined": f"get 100 B, {BATCH} at a time",
    "get-single": "get 100 B, one at a time",
    "set-pipelined": f"set 100 B, {BATCH} at a time",
    "set-single": "set 100 B, one at a time",
}
#: The least that ours must reach, in requests: (per CPU second over kazoo's, per second over kazoo's).
FLOORS = {"get-pipelined": (3.0, 1.0), "get-single": (1.0, 1.0)}


class Stopwatch:
    """Repeats something for so many seconds, after as long a warm-up, and counts."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.perf_counter() + seconds
        self._measuring = False
        self._count = 0
        self._cpu = self._wall = 0.0

    def go_on(self, count: int) -> bool:
        """So many requests were answered; say whether more are wanted."""
        now = time.perf_counter()
        self._count += count
        if now < self._end:
            return True
        if self._measuring:
            self._cpu, self._wall = time.process_time() - self._cpu, now - self._wall
            return False
        self._measuring = True
        self._count, self._cpu, self._wall, self._end = 0, time.process_time(), now, now + self.seconds
        return True

    @property
    def counted(self) -> tuple[int, float, float]:
        """Requests, CPU seconds, seconds."""
        return self._count, self._cpu, self._wall


def kazoo(address: str, seconds: float) -> Counts:
    """All loads by kazoo."""
    from kazoo.client import KazooClient

    client = KazooClient(address)
    client.start()
    if not client.exists(NODE):
        client.create(NODE, DATA)
    counts: Counts = {}

    def pipelined(ask: Callable[[], Any]) -> tuple[int, float, float]:
        watch = Stopwatch(seconds)
        while True:
            asked = [ask() for _ in range(BATCH)]
            for one in asked:
                one.get()
            if not watch.go_on(BATCH):
                return watch.counted

    def single(ask: Callable[[], Any]) -> tuple[int, float, float]:
        watch = Stopwatch(seconds)
        while True:
            ask()
            if not watch.go_on(1):
                return watch.counted

    counts["get-pipelined"] = pipelined(lambda: client.get_async(NODE))
    counts["get-single"] = single(lambda: client.get(NODE))
    counts["set-pipelined"] = pipelined(lambda: client.set_async(NODE, DATA))
    counts["set-single"] = single(lambda: client.set(NODE, DATA))
    client.stop()
    client.close()
    return counts


def ours(address: str, seconds: float) -> Counts:
    """All loads by ours."""
    from twisted.internet import task
    from twisted.internet.defer import Deferred, gatherResults

    from zktwisted import ZooKeeperClient

    counts: Counts = {}

    async def loads(reactor: Any) -> None:
        async with ZooKeeperClient(reactor, address) as client:
            if not await client.exists(NODE):
                await client.create(NODE, DATA)

            async def pipelined(ask: Callable[[], Any]) -> tuple[int, float, float]:
                watch = Stopwatch(seconds)
                while True:
                    await gatherResults([ask() for _ in range(BATCH)])
                    if not watch.go_on(BATCH):
                        return watch.counted

            async def single(ask: Callable[[], Any]) -> tuple[int, float, float]:
                watch = Stopwatch(seconds)
                while True:
                    await ask()
                    if not watch.go_on(1):
                        return watch.counted

            counts["get-pipelined"] = await pipelined(lambda: client.get(NODE))
            counts["get-single"] = await single(lambda: client.get(NODE))
            counts["set-pipelined"] = await pipelined(lambda: client.set(NODE, DATA))
            counts["set-single"] = await single(lambda: client.set(NODE, DATA))

    try:
        task.react(lambda reactor: Deferred.fromCoroutine(loads(reactor)))
    except SystemExit as end:
        if end.code:
            raise
    return counts


CLIENTS = {"kazoo": kazoo, "ours": ours}


def measure(name: str, address: str, seconds: float) -> Counts:
    """One client's loads, in a process of its own."""
    command = [sys.executable, __file__, "--client", name, "--address", address, "--seconds", str(seconds)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120 + 20 * seconds)
    found: Counts = json.loads(done.stdout.splitlines()[-1])
    return found


COLUMNS = (
    "| load | kazoo, µs CPU | ours, µs CPU | requests per CPU second, ours over kazoo's "
    "| kazoo, requests/s | ours, requests/s | ours over kazoo's | at least | reached |"
)


def page(results: dict[str, list[Counts]]) -> tuple[str, bool]:
    """Return the table as Markdown, and whether every floor was reached."""
    rows = [
        COLUMNS,
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    good = True
    for load, words in LOADS.items():
        cpu, rate = {}, {}
        for name in CLIENTS:
            counted = [counts[load] for counts in results[name]]
            cpu[name] = median(cpu_s / count * 1e6 for count, cpu_s, _ in counted)
            rate[name] = median(count / wall for count, _, wall in counted)
        per_cpu, faster = cpu["kazoo"] / cpu["ours"], rate["ours"] / rate["kazoo"]
        floors = FLOORS.get(load)
        reached = floors is None or (per_cpu >= floors[0] and faster >= floors[1])
        good = good and reached
        rows.append(
            f"| {words} | {cpu['kazoo']:.1f} | {cpu['ours']:.1f} | {per_cpu:.1f} | {rate['kazoo']:,.0f} "
            f"| {rate['ours']:,.0f} | {faster:.1f} "
            f"| {f'{floors[0]:g} and {floors[1]:g}' if floors else '–'} "
            f"| {('yes' if reached else 'no') if floors else '–'} |"
        )
    return "\n".join(rows) + "\n", good


HEAD = """# Performance of the client

Written by `bench/client.py`; do not edit.
Figures of one machine: trust the ratios, repeat them on yours.

Both clients ask the same server, which is ours, for the same node of 100 bytes, each in a process of its own.
They take turns, {rounds} rounds of {seconds:g} s for each load.
CPU time is that of all threads of the client.

"""


def main() -> int:
    """Run what the command line asks for; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="of each load, after as long a warm-up")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--port", type=int, default=23448, help="of the server")
    parser.add_argument("--document", type=Path, help="write the page there")
    parser.add_argument("--client", choices=CLIENTS, help=argparse.SUPPRESS)
    parser.add_argument("--address", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.client:
        print(json.dumps(CLIENTS[chosen.client](chosen.address, chosen.seconds)))
        return 0
    results: dict[str, list[Counts]] = {name: [] for name in CLIENTS}
    with tempfile.TemporaryDirectory() as directory:
        server = Server("ours", chosen.port, Path(directory) / "server", settings={"forceSync": "no"})
        server.start()
        try:
            for _ in range(chosen.rounds):
                for name, counted in results.items():
                    counted.append(measure(name, server.address, chosen.seconds))
        finally:
            server.remove()
    text, good = page(results)
    print(text)
    if chosen.document is not None:
        head = HEAD.format(rounds=chosen.rounds, seconds=chosen.seconds)
        chosen.document.write_text(head + text, encoding="utf-8")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
