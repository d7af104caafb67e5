"""What pytest needs to run the tests as trial does."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator

import pytest

#: Lines and columns that are shown of two values which are not equal; in CI, pytest itself knows no limit.
LINES, COLUMNS = 40, 300
HEAD, CONTEXT = 6, 2


@pytest.hookimpl(wrapper=True)
def pytest_assertrepr_compare() -> Generator[None, list[list[str] | None], list[list[str] | None]]:
    """Show of two large values what differs, and what is next to it."""
    found = yield
    return [told and [line[:COLUMNS] for line in shortened(told)] for told in found]


def shortened(told: list[str]) -> list[str]:
    """Leave out what is equal in a long comparison, and the end of one that is still too long."""
    if len(told) <= LINES:
        return told
    different = [number for number, line in enumerate(told) if line.startswith(("- ", "+ ", "? "))]
    near = {number + offset for number in different for offset in range(-CONTEXT, CONTEXT + 1)}
    kept = [line for number, line in enumerate(told) if number < HEAD or number in near]
    return [*kept[:LINES], f"... of {len(told)} lines"]


@pytest.fixture(scope="session", autouse=True)
def scratch_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Work in a scratch directory, as trial does: what a test leaves behind by a relative name is not left here."""
    before = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("work"))
    yield
    os.chdir(before)
