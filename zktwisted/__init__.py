"""
Apache ZooKeeper's server, and a client of it, in Python on Twisted.

This package knows the names that it promises to programs which embed it, and where each of them lives.
It imports none of them before one is asked for, so that C{import zktwisted} costs next to nothing and never
imports Twisted behind the back of a program that has yet to choose its reactor.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from zktwisted._version import __version__

if TYPE_CHECKING:
    from zktwisted.client import ZooKeeperClient
    from zktwisted.config import Ensemble, ServerConfig
    from zktwisted.server.service import ZooKeeperService

__all__ = ["Ensemble", "ServerConfig", "ZooKeeperClient", "ZooKeeperService", "__version__"]

_HOMES = {
    "Ensemble": "zktwisted.config",
    "ServerConfig": "zktwisted.config",
    "ZooKeeperClient": "zktwisted.client",
    "ZooKeeperService": "zktwisted.server.service",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used, and keep it (PEP 562)."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Name everything public, imported yet or not."""
    return sorted(set(globals()) | set(__all__))
