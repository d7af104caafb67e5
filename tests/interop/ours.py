"""Our server in a process of its own, with the same interface as the Java server's launcher."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import zktwisted

from .process import ServerProcess


class OurServer(ServerProcess):
    """``twist zookeeper --config zoo.cfg``; the arguments are those of :class:`ServerProcess`.

    Java system properties are written into the configuration file, where the server reads them too: ``zookeeper.X`` as
    ``X``, others by their own names.
    """

    name = "zktwisted"

    def config_lines(self) -> dict[str, str]:
        """Return zoo.cfg with the system properties among its keys."""
        properties = {name.removeprefix("zookeeper."): value for name, value in self.properties.items()}
        return {**super().config_lines(), **properties}

    def command(self, config_file: Path) -> list[str]:
        """Return the command that runs the plugin with the interpreter of the tests."""
        return [sys.executable, "-m", "twisted", "zookeeper", "--config", str(config_file)]

    def environment(self) -> dict[str, str]:
        """Return the environment with the tested package importable, installed or not."""
        here = str(Path(zktwisted.__file__).resolve().parent.parent)
        paths = [here, *filter(None, [os.environ.get("PYTHONPATH")])]
        return {**super().environment(), "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
