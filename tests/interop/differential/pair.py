"""A pair of servers for sequences, made anew whenever a difference has left the two in unlike states."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.interop.java import JavaServer
from tests.interop.ours import OurServer
from tests.interop.process import ServerProcess

from .generate import Generator
from .known import known_for
from .lockstep import ENFORCED_SETTINGS, SETTINGS, Difference, Lockstep, shrink
from .steps import Step

OURS = "ours"
MAXIMUM_OF_SEQUENCES = 9000


def _memory() -> str | None:
    """Return a directory in memory, where there is one: nothing here is about disks."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


class Pair:
    """Two servers by name: a Java release or ``ours``."""

    def __init__(self, theirs: str, ours: str = OURS, settings: Mapping[str, dict[str, str]] = SETTINGS) -> None:
        self.names = (theirs, ours)
        self.settings = settings
        self._servers: list[ServerProcess] = []
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._lockstep: Lockstep | None = None

    @property
    def lockstep(self) -> Lockstep:
        """The running pair, started when it is first asked for."""
        if self._lockstep is None:
            self._scratch = tempfile.TemporaryDirectory(dir=_memory(), prefix="zktwisted-differential-")
            for index, name in enumerate(self.names):
                directory = Path(self._scratch.name) / str(index)
                directory.mkdir()
                server = (
                    OurServer(directory, **self.settings)
                    if name == OURS
                    else JavaServer(directory, name, **self.settings)
                )
                self._servers.append(server)
                server.start()
            theirs, ours = self._servers
            self._lockstep = Lockstep(
                (theirs.name, theirs.port),
                (ours.name, ours.port),
                known_for(self.names[0], self.names[1]),
                authenticate=self.settings is ENFORCED_SETTINGS,
            )
        return self._lockstep

    def close(self) -> None:
        """End both servers; the next use starts fresh ones."""
        if self._lockstep is not None:
            self._lockstep.close()
            self._lockstep = None
        for server in self._servers:
            server.kill9()
        self._servers.clear()
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None

    def difference(self, steps: list[Step]) -> Difference | None:
        """Run one sequence and return its first difference; the servers are new ones after it."""
        try:
            self.lockstep.run(steps)
        except Difference as found:
            self.close()
            return found
        return None


def smallest(pair: Pair, steps: list[Step], found: Difference) -> tuple[list[Step], Difference]:
    """Return a shorter sequence that shows a difference too, and that difference."""
    latest = [found]

    def fails(candidate: list[Step]) -> bool:
        difference = pair.difference(candidate)
        if difference is not None:
            latest[0] = difference
        return difference is not None

    return shrink(steps, fails, attempts=100), latest[0]


def compare(pair: Pair, release: str, seeds: range, length: int, report: Callable[[str], None]) -> None:
    """Run one sequence for each seed, and *report* the first one that shows a difference."""
    assert len(seeds) < MAXIMUM_OF_SEQUENCES, "a pair has so many roots"
    for seed in seeds:
        steps = Generator(seed, release).sequence(length)
        found = pair.difference(steps)
        if found is None:
            continue
        steps, found = smallest(pair, steps, found)
        lines = [
            f"seed {seed} against {release}: {len(steps)} steps show the difference",
            *(f"    {step!r}," for step in steps),
            f"at {found.step!r}",
            *found.texts[:12],
            f"theirs {found.theirs!r}",
            f"ours   {found.ours!r}",
        ]
        report("\n".join(lines))
        return
