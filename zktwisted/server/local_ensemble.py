"""
An ensemble for trying out: several servers in one process, on one machine.

Each is a whole L{ZooKeeperService} with a data directory and ports of its own; they know one another only over TCP on
the loopback address, as servers on different machines would.  Whoever needs servers that fail one by one gives each a
process of its own.

This module knows how such an ensemble is laid out, and starts and stops it as one; it knows no protocol.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import Any, TypeVar

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.internet.interfaces import IAddress
from twisted.python.failure import Failure

from zktwisted.config import ServerConfig
from zktwisted.config.loader import Loading, Setting
from zktwisted.errors import ConfigError
from zktwisted.server.service import ZooKeeperService

__all__ = ["LocalEnsemble", "free_ports", "local_configs"]

HOST = "127.0.0.1"
CLIENT_PORT, QUORUM_PORT, ELECTION_PORT = 2181, 2888, 3888

#: What holds unless somebody says otherwise.  Nobody but this machine's users can ask for words.
_STANDARD = {"tickTime": "2000", "initLimit": "10", "syncLimit": "5", "4lw.commands.whitelist": "*"}

_T = TypeVar("_T")


def free_ports(wanted: Sequence[int]) -> list[int]:
    """
    Find TCP ports of the loopback address that nobody listens on.

    @param wanted: what each would best be; another takes the place of one that is in use.
    @return: as many, all different.
    """
    with ExitStack() as taken:
        found = []
        for port in wanted:
            trial = taken.enter_context(socket.socket())
            # As the server will listen: a port that the last run has just left is free.
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((HOST, port))
                trial.listen(1)
            except OSError:
                trial = taken.enter_context(socket.socket())
                trial.bind((HOST, 0))
            found.append(trial.getsockname()[1])
        return found


def local_configs(
    voters: int,
    observers: int,
    data_dir: str,
    settings: Iterable[Setting] = (),
    ports: Callable[[Sequence[int]], Sequence[int]] = free_ports,
) -> list[ServerConfig]:
    """
    The configurations of the servers, of which the last C{observers} have no vote.

    @param data_dir: gets a directory for each server, named by its id.
    @param settings: for all of them.
    @param ports: finds free ports near those that are usual.

    @raise ConfigError: a setting cannot work, or the directory is that of an ensemble of another size: what a majority
        of that one has agreed on need not be known to a majority of this one.
    """
    count = voters + observers
    found_ids = _ids_in(data_dir)
    if found_ids and found_ids != list(range(1, count + 1)):
        raise ConfigError(
            f"it holds the data of {len(found_ids)} servers, not {count}",
            file=data_dir,
            remedy=f"start {len(found_ids)}, or name another --data-dir",
        )
    found = ports([first + index for first in (CLIENT_PORT, QUORUM_PORT, ELECTION_PORT) for index in range(count)])
    clients, quorum, election = found[:count], found[count : 2 * count], found[2 * count :]
    lines = [
        (f"server.{index + 1}", f"{HOST}:{quorum[index]}:{election[index]}" + ":observer" * (index >= voters))
        for index in range(count)
    ]
    configs = []
    for index in range(count):
        own = {
            "standaloneEnabled": "false",
            "dataDir": os.path.join(os.path.abspath(data_dir), str(index + 1)),
            "clientPort": str(clients[index]),
            "clientPortAddress": HOST,
        }
        loading = Loading(
            [
                *(Setting(name, value, "default") for name, value in _STANDARD.items()),
                *settings,
                *(Setting(name, value, "--ensemble") for name, value in (*own.items(), *lines)),
            ],
            myid=index + 1,
        )
        configs.append(loading.result())
    return configs


def _ids_in(data_dir: str) -> list[int]:
    """The ids of the servers that have data in a directory."""
    try:
        names = os.listdir(data_dir)
    except OSError:  # it is not there yet, or starting will tell what is wrong with it
        return []
    return sorted(int(name) for name in names if name.isdecimal() and os.path.isdir(os.path.join(data_dir, name)))


class LocalEnsemble(MultiService):
    """
    Servers that start and stop together.

    @ivar servers: in the order of their ids.
    """

    def __init__(
        self,
        reactor: Any,
        configs: Iterable[ServerConfig],
        make_server: Callable[[Any, ServerConfig], ZooKeeperService] = ZooKeeperService,
    ) -> None:
        """@param configs: one for each server."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.servers = [make_server(reactor, config) for config in configs]
        for server in self.servers:
            self.addService(server)  # type: ignore[no-untyped-call]

    def when_serving(self) -> Deferred[list[str]]:
        """
        Wait until all of them serve.

        @return: fires with the role of each; fails with the reason why one of them cannot serve.
        """
        return _all(server.when_serving() for server in self.servers)

    def when_failed(self) -> Deferred[list[None]]:
        """
        Wait for the end of the first one that has to give up.

        @return: fails with its reason; fires when all have been stopped.
        """
        return _all(server.when_failed() for server in self.servers)

    @property
    def addresses(self) -> list[IAddress]:
        """Where clients connect, to any of them."""
        return [address for server in self.servers for address in server.addresses]


def _all(outcomes: Iterable[Deferred[_T]]) -> Deferred[list[_T]]:
    gathered = gatherResults(outcomes, consumeErrors=True)
    return gathered.addErrback(_first)


def _first(failure: Failure) -> Failure:
    """Take the reason out of what gathered it."""
    assert isinstance(failure.value, FirstError)
    reason: Failure = failure.value.subFailure
    return reason
