#!/usr/bin/env python3
"""
Run the unit tests under trial and under pytest, and hold both to the same count.

A test that only one of the two finds is a test that half of our users' tools pass over in silence.
Arguments are paths, as pytest takes them; the exit status is 0 only where both are green and agree.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree


def run_trial(paths: list[str], scratch: Path) -> tuple[int, int]:
    """Run the tests under trial and return its exit status and how many it ran."""
    modules = [path.rstrip("/").removesuffix(".py").replace("/", ".") for path in paths]
    options = ["--reporter", "text", "--temp-directory", str(scratch / "trial")]
    command = [sys.executable, "-m", "twisted.trial", *options, *modules]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    ran = 0
    for line in process.stdout:
        sys.stdout.write(line)
        if found := re.fullmatch(r"Ran (\d+) tests? in .*\n?", line):
            ran = int(found.group(1))
    return process.wait(), ran


def run_pytest(paths: list[str], scratch: Path) -> tuple[int, int]:
    """Run the tests under pytest and return its exit status and how many it ran."""
    report = scratch / "pytest.xml"
    status = subprocess.call([sys.executable, "-m", "pytest", "-q", f"--junit-xml={report}", *paths])
    if not report.exists():
        return status or 1, 0
    suites = ElementTree.parse(report).getroot().iter("testsuite")
    return status, sum(int(suite.get("tests", "0")) for suite in suites)


def main(paths: list[str]) -> int:
    """Run both; the first failure of either is the answer, and then a difference between the counts."""
    with tempfile.TemporaryDirectory(prefix="zktwisted-unit-") as name:
        scratch = Path(name)
        trial_status, by_trial = run_trial(paths, scratch)
        sys.stdout.flush()
        pytest_status, by_pytest = run_pytest(paths, scratch)
    if trial_status or pytest_status:
        print(f"unit: trial ended with {trial_status}, pytest with {pytest_status}")
        return trial_status or pytest_status
    if by_trial != by_pytest or not by_trial:
        print(f"unit: trial ran {by_trial} tests and pytest {by_pytest}: one of them passes some over")
        return 1
    print(f"unit: trial and pytest ran the same {by_trial} tests")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
