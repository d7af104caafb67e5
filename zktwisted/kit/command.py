"""
C{zkt test-server}, which is also C{python -m zktwisted.kit}: a test server in a process of its own, for any language.

It prints where it is, serves until it is told to end, and leaves nothing.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from threading import Event, Thread
from typing import Any

from zktwisted.errors import ConfigError
from zktwisted.kit.settings import settings_of
from zktwisted.kit.threaded import TestServer

__all__ = ["main"]


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program,
        description="Start a ZooKeeper server for tests: on a free port of this machine, without files.",
        epilog="It serves until it gets SIGTERM or SIGINT. Faults are asked for by HTTP at the control port.",
    )
    say = parser.add_mutually_exclusive_group()
    say.add_argument(
        "--print-port",
        action="store_true",
        help="print the port for clients (of an ensemble several, with commas between), and the control port in the "
        "next line",
    )
    say.add_argument("--print-json", action="store_true", help="print all that clients need, as JSON in one line")
    parser.add_argument("--port", type=_port, default=0, help="for clients; by default any that is free")
    parser.add_argument("--control-port", type=_port, default=0, help="for HTTP; by default any that is free")
    parser.add_argument("--no-control", action="store_true", help="take no orders by HTTP")
    parser.add_argument("--members", type=int, default=1, metavar="N", help="be an ensemble of so many servers")
    parser.add_argument("--observers", type=int, default=0, metavar="N", help="with so many more without a vote")
    parser.add_argument("--tls", action="store_true", help="serve with TLS on a second port, with new certificates")
    parser.add_argument(
        "--sasl", action="append", default=[], metavar="NAME:PASSWORD", help="let somebody log in by SASL; repeatable"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a setting, as in a zoo.cfg; repeatable"
    )
    parser.add_argument(
        "--until-eof", action="store_true", help="end when the standard input ends, as it does when the caller does"
    )
    return parser


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{port} is no port")
    return port


def main(arguments: Sequence[str] | None = None, program: str = "zkt test-server") -> int:
    """
    Be a test server until told to end.

    @return: the exit status: 0; 1: it could not start; 2: it was told nonsense.
    """
    parser = _parser(program)
    options = parser.parse_args(sys.argv[1:] if arguments is None else list(arguments))
    users = dict(each.partition(":")[::2] for each in options.sasl)
    if not all(users.values()):
        parser.error("--sasl needs a name and a password: --sasl alice:secret")
    if options.port and options.members + options.observers > 1:
        parser.error("--port is of one server; an ensemble takes free ports")
    ended = Event()
    before = {number: signal.signal(number, lambda *_: ended.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return _serve(options, users, ended)
    except (ConfigError, OSError, ValueError) as error:
        sys.stderr.write(f"{program}: {error}\n")
        return 1
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _serve(options: argparse.Namespace, users: dict[str, str], ended: Event) -> int:
    with TestServer(
        port=options.port,
        tls=options.tls,
        sasl=users,
        members=options.members,
        observers=options.observers,
        **settings_of(options.set),
    ) as server:
        control = None if options.no_control else server.serve_control(options.control_port)
        if options.until_eof:
            Thread(target=_wait_for_end, args=(ended,), daemon=True).start()
        sys.stdout.write(_introduction(options, server, control))
        sys.stdout.flush()
        ended.wait()
    return 0


def _wait_for_end(ended: Event) -> None:
    while sys.stdin.buffer.read(4096):
        pass
    ended.set()


def _introduction(options: argparse.Namespace, server: TestServer, control: str | None) -> str:
    if options.print_port:
        ports = ",".join(host.rsplit(":", 1)[1] for host in server.hosts.split(","))
        return "\n".join([ports] + ([] if control is None else [control.rstrip("/").rsplit(":", 1)[1]])) + "\n"
    known: dict[str, Any] = {"hosts": server.hosts, "control": control}
    if options.tls:
        known |= {"tls_hosts": server.tls_hosts, "tls": server.tls.paths()}
    if options.print_json:
        return json.dumps(known) + "\n"
    lines = [f"Serving on {server.hosts}"]
    if options.tls:
        lines.append(f"With TLS on {server.tls_hosts}")
        lines += [f"  {name}: {path}" for name, path in server.tls.paths().items()]
    if control is not None:
        lines.append(f"Orders at {control}")
    return "\n".join(lines) + "\n"
