"""What tests of whole programs share."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator

import pytest


@pytest.fixture
def usual_ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """
    Be the only test, of all that run at a time, whose servers come upon the usual ports.

    An ensemble that is begun by one command looks which ports are free before its servers listen on them.
    """
    with open(tmp_path_factory.getbasetemp().parent / "usual-ports", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
