"""
The command C{zkt}: its options, one command or a shell, and the end of the process.

This is the only module of the room that imports the global reactor, and it does so late.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from twisted.logger import ILogObserver, globalLogBeginner, textFileLogObserver

from zktwisted.zkt import access, ensemble, nodes, quotas, search, shell, transfer, watching
from zktwisted.zkt.command import Command, HelpWanted, Parser, command, find_command
from zktwisted.zkt.connect import Access
from zktwisted.zkt.context import Context
from zktwisted.zkt.engine import Engine
from zktwisted.zkt.format import parse_age
from zktwisted.zkt.shell import Shell, overview, perform
from zktwisted.zkt.status import Problem, Status, explain

__all__ = ["main", "options_parser"]

#: What stands in the table of commands because these modules have been imported.
_ROOMS = (access, ensemble, nodes, quotas, search, shell, transfer, watching)

DEFAULT_SERVER = "127.0.0.1:2181"

_USAGE = "zkt [options] [command [arguments]]"
_ABOUT = """\
Look into ZooKeeper servers, Java's or zktwisted's, and change what is there.
With a command it does that and ends; without one it is a shell, or reads commands from standard input."""
_ENVIRONMENT = """\
environment:
  ZKT_SERVER     the connect string, where --server is not given
  ZKT_AUTH       SCHEME:AUTH, like --auth, unseen by other users of this machine
  ZKT_HISTORY    the file of the shell's history; empty for none
  NO_COLOR       if set, no colours"""


def options_parser() -> Parser:
    """Return what reads the options that stand before the command."""
    parser = Parser(prog="zkt", usage=_USAGE, description=_ABOUT, epilog=_ENVIRONMENT)
    add = parser.add_argument
    add("-s", "--server", "-server", metavar="HOSTS", help=f"HOST:PORT,HOST:PORT/CHROOT [{DEFAULT_SERVER}]")
    add("--timeout", type=parse_age, metavar="SECONDS", help="of the session [30]")
    add("-timeout", type=int, dest="timeout_ms", metavar="MS", help="the same in milliseconds, as zkCli.sh has it")
    add(
        "--wait",
        type=parse_age,
        metavar="SECONDS",
        help="how long to try to connect; without it until every server has been tried, at most 10 s",
    )
    add("-waitforconnection", action="store_true", help=argparse.SUPPRESS)
    add("-r", "--read-only", "-readonly", action="store_true", help="take a server that has lost its quorum as well")
    add("--auth", action="append", default=[], metavar="SCHEME:AUTH", help="authenticate, as addauth does")
    add("--auth-file", metavar="FILE", help="the same, a line each; others see command lines, not files")
    add("--sasl-file", metavar="FILE", help="authenticate by SASL (DIGEST-MD5): a file with USER:PASSWORD")
    add("--tls", action="store_true", help="connect by TLS; implied by the options that follow")
    add("--ca", metavar="FILE", help="certificates (PEM) to trust; without it those of this machine")
    add("--cert", metavar="FILE", help="our own certificate (PEM), with its chain")
    add("--key", metavar="FILE", help="its key (PEM); without it in the same file")
    add("--key-password-file", metavar="FILE", help="the password of the key")
    add("--no-check-names", action="store_true", help="take a certificate of any name")
    add("--max-buffer", type=int, default=0xFFFFF, metavar="BYTES", help="jute.maxbuffer of the servers [1048575]")
    add(
        "--json",
        action="store_const",
        const="json",
        default="text",
        dest="output",
        help="print JSON: a value a line; every command has this option as well",
    )
    add("--table", action="store_const", const="table", dest="output", help="print tables; likewise")
    add("--color", action=argparse.BooleanOptionalAction, help="colours, also where there is no terminal; or none")
    add("-e", "--exit-on-error", action="store_true", help="end a script at the first command that fails")
    add("--debug", action="store_true", help="tell on standard error what happens to the connection")
    add("-V", "--version", action="store_true", help="show the version")
    add("words", nargs=argparse.REMAINDER, metavar="command", help="help lists them")
    return parser


@command(
    "test-server",
    "Start a ZooKeeper server without files, for tests.",
    raw=True,
)
async def test_server(context: Context, args: argparse.Namespace) -> None:
    """Only gets here from a shell: a process of its own is L{main}'s to make."""
    raise Problem(Status.USAGE, "a server needs a process of its own", hint="zkt test-server, outside of this shell")


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the command.

    @param arguments: without the name of the command; those of the process by default.
    @return: the exit status.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    name = ""
    try:
        options = options_parser().parse_args(words)
        if options.version:
            options.words = ["version"]
        if options.words and options.words[0] == "test-server":
            return _test_server(options.words[1:])
        found = find_command(options.words[0]) if options.words else None
        name = found.name if found is not None else ""
        return _run(options, found)
    except HelpWanted as wanted:
        text = str(wanted)
        if text.startswith(f"usage: {_USAGE}"):
            text += "\n" + overview("zkt ")
        with contextlib.suppress(BrokenPipeError, AttributeError):
            sys.stdout.write(text if text.endswith("\n") else text + "\n")
            sys.stdout.flush()
        return 0
    except Exception as error:
        if "--debug" in words and not isinstance(error, Problem):
            raise
        return _leave(name, explain(error))
    except KeyboardInterrupt:
        return _leave(name, Problem(Status.INTERRUPTED, "interrupted"))


def _leave(name: str, problem: Problem) -> int:
    """Tell why, in one line, and return the status."""
    if problem.status is not Status.PIPE:
        with contextlib.suppress(OSError, AttributeError):
            text = ": ".join(part for part in ("zkt", name, str(problem)) if part)
            if _colours(None, sys.stderr):
                text = f"\x1b[31m{text}\x1b[0m"
            sys.stderr.write(text + "\n")
            sys.stderr.flush()
    return int(problem.status)


def _test_server(words: list[str]) -> int:
    from zktwisted.kit.command import main as serve

    return serve(words)


def _run(options: argparse.Namespace, found: Command | None) -> int:
    """Do one command, or be a shell."""
    args = None
    if found is not None:
        args = found.parse(options.words[1:], "zkt ")
        if found.shell_only:
            raise Problem(Status.USAGE, "it makes sense only in the shell", hint="start zkt without a command")
    how = _access(options)
    _begin_log(options.debug)
    from twisted.internet import reactor

    engine = Engine(reactor, _bytes_of(sys.stdout), _bytes_of(sys.stderr))
    context = Context(reactor, how, engine.screen)
    context.default_output = options.output
    context.terminal = _is_terminal(sys.stdout)
    context.colour = _colours(options.color, sys.stdout)
    context.progress = _is_terminal(sys.stderr)
    context.debug = options.debug
    engine.start()
    try:
        if found is not None and args is not None:
            return engine.run(lambda: perform(context, found, args))
        interactive = _is_terminal(sys.stdin) and context.terminal
        return Shell(context, engine, interactive, options.exit_on_error).run()
    finally:
        with contextlib.suppress(Problem):
            engine.run(context.close)
        engine.stop()


def _bytes_of(stream: TextIO | None) -> BinaryIO:
    """Return where bytes are written; nowhere, where the stream was closed before we began."""
    return open(os.devnull, "wb") if stream is None else stream.buffer


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


def _colours(wanted: bool | None, stream: TextIO | None) -> bool:
    if wanted is not None:
        return wanted
    return _is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _begin_log(debug: bool) -> None:
    """Send what is logged to standard error, or nowhere: what concerns the user is told otherwise."""
    observers: list[ILogObserver] = [textFileLogObserver(sys.stderr)] if debug else []
    globalLogBeginner.beginLoggingTo(observers, redirectStandardIO=False, discardBuffer=True)
    if not debug:
        # What goes wrong where nobody waits for it: while objects are thrown away, at the end of the process.
        sys.unraisablehook = lambda _: None


def _access(options: argparse.Namespace) -> Access:
    """Return how clients are made, as the options say."""
    auth = [_pair(each, "--auth", "SCHEME:AUTH") for each in options.auth]
    if options.auth_file is not None:
        lines = _secret(options.auth_file).splitlines()
        auth += [_pair(line, options.auth_file, "SCHEME:AUTH, a line each") for line in lines if line.strip()]
    if "ZKT_AUTH" in os.environ and not auth:
        auth.append(_pair(os.environ["ZKT_AUTH"], "ZKT_AUTH", "SCHEME:AUTH"))
    sasl = None
    if options.sasl_file is not None:
        sasl = _pair(_secret(options.sasl_file).strip(), options.sasl_file, "USER:PASSWORD")
    timeout = 30.0 if options.timeout is None else options.timeout
    if options.timeout_ms is not None:
        timeout = options.timeout_ms / 1000
    if timeout <= 0:
        raise Problem(Status.USAGE, "--timeout has to be more than nothing")
    return Access(
        hosts=options.server or os.environ.get("ZKT_SERVER") or DEFAULT_SERVER,
        timeout=timeout,
        wait=options.wait,
        auth=tuple(auth),
        sasl=sasl,
        tls=_tls(options),
        read_only=options.read_only,
        max_frame=options.max_buffer,
    )


def _secret(file: str) -> str:
    return Path(file).read_text("utf-8", "surrogateescape")


def _pair(text: str, where: str, form: str) -> tuple[str, str]:
    first, colon, second = text.partition(":")
    if not colon or not first:
        # The text may be a password: it is not shown.
        raise Problem(Status.USAGE, f"{where} is not of the form {form}")
    return first, second


def _tls(options: argparse.Namespace) -> Any:
    """Return what the client needs for TLS; C{None} if it is not wanted."""
    given = (options.tls, options.ca, options.cert, options.key, options.no_check_names)
    if not any(given):
        return None
    try:
        from zktwisted.client.tls import tls_from_pem
    except ImportError as error:
        raise Problem(
            Status.USAGE, f"TLS needs more than is installed: {error}", hint="pip install 'zktwisted[tls]'"
        ) from None
    password = None
    if options.key_password_file is not None:
        password = Path(options.key_password_file).read_bytes().strip()
    try:
        return tls_from_pem(
            trust=options.ca,
            certificate=options.cert,
            key=options.key,
            password=password,
            check_names=not options.no_check_names,
        )
    except ValueError as error:
        raise Problem(Status.LOCAL, str(error)) from None
