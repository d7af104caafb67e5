"""The shell, the screen and the process around them, without a process."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Coroutine
from io import BytesIO, StringIO
from typing import Any, TypeVar
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.zkt.world import ZktCase
from zktwisted.errors import Code, KeeperError, NoNodeError, keeper_error
from zktwisted.zkt.connect import Access
from zktwisted.zkt.context import Context
from zktwisted.zkt.engine import Engine
from zktwisted.zkt.lines import Completion, history_file
from zktwisted.zkt.main import main
from zktwisted.zkt.progress import Progress
from zktwisted.zkt.screen import Piece, Screen
from zktwisted.zkt.shell import Shell
from zktwisted.zkt.status import Problem, Status, explain

T = TypeVar("T")


class OneThread:
    """Stands in for the engine: runs everything at once, in the world of the test."""

    def __init__(self, case: ZktCase) -> None:
        self._case = case
        self.screen = case.screen

    def run(self, program: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return self._case.wait(program())

    def ask(self, program: Callable[[], Coroutine[Any, Any, T]], seconds: float) -> T | None:
        try:
            return self._case.wait(program())
        except KeeperError:
            return None


class Typed:
    """Stands in for a terminal at which somebody types."""

    def __init__(self, lines: list[Any]) -> None:
        self.lines = lines
        self.prompts: list[str] = []

    def begin(self) -> None:
        """Nothing is to be read."""

    def end(self) -> None:
        """Nothing is to be kept."""

    def read(self, prompt: str) -> str | None:
        self.prompts.append(prompt)
        line = self.lines.pop(0) if self.lines else None
        if isinstance(line, BaseException):
            raise line
        return line


class ShellTests(ZktCase):
    """Lines after lines."""

    def shell(self, *lines: Any, interactive: bool = False, status: int = 0, **options: Any) -> list[str]:
        """Type lines, and return what is shown, then what is told."""
        self.screen.shown, self.screen.told = b"", ""
        shell = Shell(self.context, OneThread(self), interactive, **options)  # type: ignore[arg-type]
        self.typed = shell._reader = Typed(list(lines))  # type: ignore[assignment]
        self.assertEqual(status, shell.run(), self.screen.told)
        return [*self.screen.shown.decode().splitlines(), *self.screen.told.splitlines()]

    def test_script(self) -> None:
        """A script goes on after a line that failed, and ends with the status of the last that did."""
        shown = self.shell("get /none", "", "create /a 'b c'", "nosuch", "get /a", status=Status.USAGE)
        self.assertEqual(["Created /a", "b c"], shown[:2])
        self.assertEqual("get: /none: there is no such node", shown[2])
        self.assertIn("nosuch", shown[3])

    def test_remarks(self) -> None:
        """What stands behind # at the beginning of a line is for people."""
        self.assertEqual(["Created /a"], self.shell("# let there be /a", "  #!", "create /a"))

    def test_stop_at_error(self) -> None:
        """With --exit-on-error it does not."""
        shown = self.shell("get /none", "version", status=Status.NO_NODE, stop_at_error=True)
        self.assertEqual(1, len(shown))

    def test_history_and_redo(self) -> None:
        """Commands are numbered, shown without secrets, and done again by number."""
        lines = ("create -s /n-", "addauth digest ann:secret", "redo 0", "redo 9", "redo x", "redo", "history", "quit")
        shown = self.shell(*lines, "ls /", status=Status.USAGE)
        self.assertEqual(["Created /n-0000000000", "Created /n-0000000001"], shown[:2])
        self.assertEqual("1 - addauth digest ***", shown[3])
        self.assertEqual("2 - create -s /n-", shown[4])
        self.assertEqual(2 + 7 + 3, len(shown), shown)

    def test_watches(self) -> None:
        """What watches tell is shown, unless it is switched off."""
        lines = ("create /w", "get -w /w", "set /w x", "addWatch -m PERSISTENT /w", "set /w y", "sync /w")
        quiet = ("printwatches", "printwatches off", "set /w z", "printwatches", "removewatches /w", "removewatches /w")
        shown = self.shell(*lines, *quiet, status=Status.NO_NODE)
        event = "WatchedEvent state:SyncConnected type:NodeDataChanged path:/w zxid: "
        self.assertEqual(["Created /w", "null", event], [line.rstrip("0123456789") for line in shown[:3]])
        self.assertTrue(shown[3].startswith(event))
        rest = ["Sync is OK", "printwatches is on", "printwatches is off", "removewatches: /w: there is no such watch"]
        self.assertEqual(rest, shown[4:])

    def test_close_and_connect(self) -> None:
        """Without a session commands fail and say so; connect begins another."""
        shown = self.shell("create -e /e", "close", "ls /", "connect", "getEphemerals", "connect 10.0.0.1:x", status=2)
        self.assertEqual(["Created /e", "[]"], shown[:2])
        self.assertEqual("ls: not connected (connect HOST:PORT)", shown[2])
        self.assertIn("'x' is no port", shown[3])

    def test_rejected_credentials(self) -> None:
        """They end the session, not the shell."""
        shown = self.shell("addauth nonsense x", "ls /", "connect", "ls /", status=Status.NO_CONNECTION)
        self.assertEqual("[zookeeper]", shown[0])
        self.assertIn("credentials", shown[1])
        self.assertIn("not connected", shown[2])

    def test_prompt(self) -> None:
        """With a terminal there is a prompt with server, state and number; Ctrl-C begins a line anew."""
        shown = self.shell("ls /", KeyboardInterrupt(), "version", None, interactive=True)
        self.assertIn("[zookeeper]", shown)
        self.assertEqual("[zkt: 10.0.0.1:2181(CONNECTED) 0] ", self.typed.prompts[0])
        self.assertEqual("[zkt: 10.0.0.1:2181(CONNECTED) 1] ", self.typed.prompts[2])
        self.assertIn("Tab completes", self.screen.told)

    def test_open_quotes_and_help(self) -> None:
        """A line that is none is told; help is shown wherever it is asked for."""
        shown = self.shell("create /a 'x", "help create", "ls --help", "help nosuch", status=2)
        self.assertIn("usage: create [-h]", shown[0])
        self.assertTrue(any("not closed" in line for line in shown))
        self.assertTrue(any("usage: ls [-h]" in line for line in shown))

    def test_completion(self) -> None:
        """Commands, options and paths; a node with children gets a slash, one without a blank."""
        for line in ("-p /app/one/x", "/app/other", "/app/o"):
            self.zkt("create", *line.split())
        completion = Completion(self.context, OneThread(self))  # type: ignore[arg-type]
        for before, text, expected in (
            ("", "getA", ["getAcl ", "getAllChildrenNumber "]),
            ("", "GETE", ["getEphemerals "]),
            ("help ", "mir", ["mirror "]),
            ("ls ", "-", ["-s ", "--stat ", "-w ", "--watch ", "-R ", "--recursive ", "-l ", "--long ", "--help ",
                          "--json ", "--table "]),
            ("ls ", "/", ["/app", "/zookeeper"]),
            ("get -s ", "/app/o", ["/app/o", "/app/one", "/app/other"]),
            ("get ", "/app/on", ["/app/one/"]),
            ("get ", "/app/ot", ["/app/other "]),
            ("get ", "/none/x", []),
            ("get ", "", ["/"]),
            ("printwatches ", "o", ["on", "off"]),
            ("nosuch ", "x", []),
        ):  # fmt: skip
            self.assertEqual(expected, completion.candidates(before, text), (before, text))


class ScreenTests(SynchronousTestCase):
    """The way from commands to the terminal."""

    def engine(self, out: Any = None, err: Any = None) -> Engine:
        reactor = mock.Mock()
        reactor.callFromThread.side_effect = lambda call, *arguments: call(*arguments)
        return Engine(reactor, out or BytesIO(), err or BytesIO())

    def test_room(self) -> None:
        """Whoever shows much waits until most of it has been written."""
        screen = Screen(lambda call, *arguments: call(*arguments))
        self.successResultOf(screen.room())
        for _ in range(5):
            screen.out(b"x" * 100_000)
        room = screen.room()
        for _ in range(2):
            self.assertNoResult(room)
            screen.written(screen.pieces.get())  # type: ignore[arg-type]
        screen.written(screen.pieces.get())  # type: ignore[arg-type]
        self.successResultOf(room)

    def test_progress_makes_room(self) -> None:
        """A line of progress is taken away before anything else is written."""
        err, out = BytesIO(), BytesIO()
        engine = self.engine(out, err)
        for kind, data in (("status", b"1 node"), ("status", b"2 nodes"), ("out", b"/a\n"), ("err", b"oh\n")):
            engine.write(Piece(kind, data))
        clear = b"\r\x1b[K"
        self.assertEqual(clear + b"1 node" + clear + clear + b"2 nodes" + clear + b"oh\n", err.getvalue())
        self.assertEqual(b"/a\n", out.getvalue())

    def test_progress_in_a_narrow_terminal(self) -> None:
        """A line of progress is cut where the terminal ends: of one that goes on in the next row half would stay."""
        err = BytesIO()
        err.fileno = lambda: 2  # type: ignore[method-assign]
        engine = self.engine(err=err)
        sizes = [os.terminal_size((columns, 9)) for columns in (8, 80, 0)]
        with mock.patch("os.get_terminal_size", side_effect=sizes):
            for _ in sizes:
                engine.write(Piece("status", "\u254c 1,000 nodes".encode()))
        lines = err.getvalue().decode().split("\r\x1b[K")
        self.assertEqual(["", "\u254c 1,000", *["", "\u254c 1,000 nodes"] * 2], lines)

    def test_above_the_prompt(self) -> None:
        """What comes while somebody types is shown above the line, which stands there again."""
        out = BytesIO()
        self.engine(out).write(Piece("out", b"event\n"), b"> ls /")
        self.assertEqual(b"\r\x1b[Kevent\n> ls /", out.getvalue())

    def test_result(self) -> None:
        """What a command returns or raises comes out at the other end, after what it shows."""
        out = BytesIO()
        engine = self.engine(out)

        async def well() -> int:
            engine.screen.out("shown\n")
            return 5

        async def badly() -> int:
            raise NoNodeError(path="/x")

        self.assertEqual(5, engine.run(well))
        self.assertEqual(b"shown\n", out.getvalue())
        self.assertRaises(NoNodeError, engine.run, badly)

    def test_written_before_it_is_done(self) -> None:
        """A command whose last words cannot be written has failed, however fast it was."""

        class Full(BytesIO):
            def flush(self) -> None:
                raise OSError(errno.ENOSPC, "no room")

        engine = self.engine(Full())
        self.patch(os, "dup2", lambda *_: 0)

        async def quick() -> None:
            engine.screen.out("x\n")

        self.assertRaises(OSError, engine.run, quick)

    def test_reader_gone(self) -> None:
        """When nobody reads any more, the command is interrupted and nothing is written."""

        class Closed(BytesIO):
            def write(self, data: Any) -> int:
                raise BrokenPipeError

        engine = self.engine(Closed())
        ended = []

        async def endless() -> None:
            engine.screen.out("x\n")
            try:
                await Deferred()
            finally:
                ended.append(True)

        self.patch(os, "dup2", lambda *_: 0)
        problem = self.assertRaises(Problem, engine.run, endless)
        self.assertEqual((Status.PIPE, [True]), (problem.status, ended))

    def test_slow_answers(self) -> None:
        """Completion gets nothing from a server that does not answer."""
        engine = self.engine()
        engine.reactor.callLater = Clock().callLater

        async def fails() -> None:
            raise NoNodeError

        async def works() -> int:
            return 3

        self.assertIsNone(engine.ask(fails, 1))
        self.assertEqual(3, engine.ask(works, 1))

    def test_bar(self) -> None:
        """How far it is: with a bar where the end is known."""
        context = Context(Clock(), Access("x"), mock.Mock())
        progress = Progress(context, "copied", 200)
        for _ in range(50):
            progress.add(1024)
        self.assertEqual(
            "copied " + "\u2501" * 6 + "\u254c" * 18 + "  25%  50 nodes, 50.0 KiB, 25/s", progress.line(2.0)
        )
        progress.total = None
        self.assertEqual("copied 50 nodes, 50.0 KiB, 25/s", progress.line(2.0))

    def test_only_on_terminals(self) -> None:
        """Progress is shown on a terminal and nowhere else, and taken away at the end."""
        for shown, expected in ((False, 0), (True, 3)):
            clock, screen = Clock(), mock.Mock()
            context = Context(clock, Access("x"), screen)
            context.progress = shown
            with Progress(context, "copied"):
                clock.advance(0.25)
                clock.advance(0.25)
            self.assertEqual(expected, screen.status.call_count)
            self.assertEqual([], clock.getDelayedCalls())


class EndTests(SynchronousTestCase):
    """How the process ends, as far as no server is needed for it."""

    def end(self, *words: str, **environment: str) -> tuple[int, str, str]:
        """Run the command; return status, output and errors."""
        out, err = StringIO(), StringIO()
        with mock.patch.dict(os.environ, environment), mock.patch("sys.stdout", out), mock.patch("sys.stderr", err):
            status = main(words)
        return status, out.getvalue(), err.getvalue()

    def test_bad_lines(self) -> None:
        """A command line that is not understood: status 2, one line, nothing done."""
        for words, told in (
            (["--nosuch"], "--nosuch"),
            (["gte", "/"], "did you mean get?"),
            (["get"], "see help get"),
            (["history"], "only in the shell"),
            (["--auth", "secret", "ls"], "--auth is not of the form"),
            (["--timeout", "0", "ls"], "--timeout"),
            (["--timeout", "soon", "ls"], "soon"),
            (["--max-buffer", "x", "ls"], "--max-buffer"),
        ):
            status, out, err = self.end(*words)
            self.assertEqual((Status.USAGE, ""), (status, out), words)
            self.assertEqual(1, err.count("\n"), err)
            self.assertTrue(err.startswith("zkt: "))
            self.assertIn(told, err)

    def test_secrets_are_not_told(self) -> None:
        """Neither are passwords that were written in the wrong place."""
        _, _, err = self.end("--auth", "top-secret", "ls")
        self.assertNotIn("top-secret", err)
        _, _, err = self.end("ls", ZKT_AUTH="top-secret")
        self.assertNotIn("top-secret", err)

    def test_files(self) -> None:
        """Files of options that cannot be read: status 8, with the name."""
        for option in ("--auth-file", "--sasl-file", "--ca", "--cert"):
            status, _, err = self.end(option, "/no/such/file", "ls")
            self.assertEqual(Status.LOCAL, status, err)
            self.assertIn("/no/such/file: No such file", err)

    def test_help(self) -> None:
        """Help goes to standard output, and is no error."""
        status, out, err = self.end("--help")
        self.assertEqual((0, ""), (status, err))
        self.assertIn("ZKT_SERVER", out)
        self.assertIn("  mirror ", out)
        self.assertIn("examples:", self.end("cp", "--help")[1])

    def test_history_file(self) -> None:
        """The history is where the user says, or the system, or nowhere."""
        for environment, path in (
            ({"ZKT_HISTORY": "/x/y"}, "/x/y"),
            ({"ZKT_HISTORY": ""}, "None"),
            ({"XDG_STATE_HOME": "/s"}, "/s/zkt/history"),
        ):
            with mock.patch.dict(os.environ, environment):
                if "ZKT_HISTORY" not in environment:
                    os.environ.pop("ZKT_HISTORY", None)
                self.assertEqual(path, str(history_file()))

    def test_every_error(self) -> None:
        """Every code of ZooKeeper has a status of its own kind and a line; what is unforeseen is a mistake of ours."""
        for code in Code:
            problem = explain(keeper_error(code, "/p"))
            self.assertGreater(problem.status, Status.DIFFERENT)
            self.assertLess(problem.status, Status.BUG)
            self.assertIn("/p", str(problem))
            self.assertNotIn("\n", str(problem))
        self.assertEqual(Status.BUG, explain(RuntimeError("a\nb")).status)
        self.assertNotIn("\n", str(explain(RuntimeError("a\nb"))))
        self.assertEqual(Status.INTERRUPTED, explain(KeyboardInterrupt()).status)
        self.assertTrue(all(status.meaning for status in Status))
