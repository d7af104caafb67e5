"""Lead a client program that talks to its test: lines starting with ``@`` are wishes, the rest is its story."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Mapping

from tests.interop.clients.proxy import Relay

#: After which a program that does not end is ended.
SECONDS = 120.0


def lead(arguments: list[str], relay: Relay, environment: Mapping[str, str] | None = None) -> tuple[int, list[str]]:
    """Run a program to its end, do its wishes to ``relay``, and return its exit status and all its other lines."""
    wishes = {"@cut": relay.cut, "@heal": relay.heal}
    lines = []
    with subprocess.Popen(
        arguments,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=None if environment is None else dict(environment),
        text=True,
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        watchdog = threading.Timer(SECONDS, program.kill)
        watchdog.start()
        try:
            for line in program.stdout:
                if line.strip() in wishes:
                    wishes[line.strip()]()
                    program.stdin.write("done\n")
                    program.stdin.flush()
                else:
                    lines.append(line.rstrip())
            return program.wait(), lines
        finally:
            watchdog.cancel()
