"""A seed is a run: here, in another process, and whatever Python's hashes are."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.sim.planted import commit_at_half
from zktwisted.testing import simulate

ROOT = Path(__file__).parent.parent.parent
_SEEDS = (4, 5, 26)


def run(seed: int, hash_seed: str) -> str:
    """Run a seed in a process of its own and return what it says of it."""
    done = subprocess.run(
        [sys.executable, "-m", "zktwisted.testing.simulate", "--seed", str(seed), "--seconds", "15"],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return done.stdout


def test_same_everywhere() -> None:
    """The trace, byte by byte, is the same in two processes with other hashes, and in this one."""
    for seed in _SEEDS:
        first, second = run(seed, "1"), run(seed, "271828")
        assert re.match(rf"seed {seed}: \('[0-9a-f]{{32}}', ", first)
        assert first == second
        assert simulate.simulate(seed, seconds=15.0).trace_hash in first


def test_seeds_differ() -> None:
    """Another seed is another run."""
    assert len({simulate.simulate(seed, seconds=3.0).trace_hash for seed in range(4)}) == 4


def test_failure_is_told(capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """A failure comes with the end of its trace and the command that plays it again, which does."""
    commit_at_half(monkeypatch.setattr)
    assert simulate.main(["--seed", "0", "--seconds", "15"]) == 1
    told = capsys.readouterr().out
    assert "seed 0 FAILED" in told
    assert "is committed, and only the disks of" in told
    assert "serves as leader behind 0x100000000" in told
    assert "replay it: python -m zktwisted.testing.simulate --seed 0 --seconds 15" in told
    assert simulate.main(["--seed", "0", "--seconds", "15"]) == 1
    assert capsys.readouterr().out == told


def test_many(capsys) -> None:  # type: ignore[no-untyped-def]
    """Several seeds run in several processes, and the sum is told."""
    assert simulate.main(["--first", "7", "--seeds", "3", "--seconds", "3", "--jobs", "2"]) == 0
    assert re.match(r"3 seeds in \d+ s: \d+ transactions, \d+ epochs, 0 failures \[\]\n", capsys.readouterr().out)
