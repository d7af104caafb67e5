"""
The two threads of the process: the reactor's, where ZooKeeper happens, and the main one, which owns the terminal.

The main thread writes what commands show, gets Ctrl-C and waits for lines; so neither a slow reader nor a sleeping user
costs the session.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Coroutine
from queue import Empty, SimpleQueue
from threading import Event, Thread, get_ident
from typing import Any, BinaryIO, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from zktwisted.zkt.screen import Done, Piece, Screen
from zktwisted.zkt.status import Problem, Status

__all__ = ["Engine"]

T = TypeVar("T")

_CLEAR = b"\r\x1b[K"
#: What ends a command, or the process.
_ENDING = (signal.SIGINT, signal.SIGTERM)
#: How often, and after how many seconds each, the main thread is made to look for a signal.
_NUDGES, _NUDGE_SECONDS = 200, 0.05


class Engine:
    """
    @ivar reactor: runs in a thread of its own from L{start} to L{stop}.
    @ivar screen: for commands.
    """

    def __init__(self, reactor: Any, out: BinaryIO, err: BinaryIO) -> None:
        self.reactor = reactor
        self.screen = Screen(reactor.callFromThread)
        self._out = out
        self._err = err
        self._thread: Thread | None = None
        self._task: Deferred[Any] | None = None
        self._busy = False
        self._ended_by: Status | None = None
        self._status_shown = False
        # Whoever reads the output is gone: nothing is written any more.
        self._broken = False
        self._noticed = Event()
        # The end of the pipe in which Python notes signals, and where it did so before.
        self._noting = self._noted_before = -1

    def start(self) -> None:
        """Start the reactor, and take the signals."""
        run = self.reactor.run
        self._thread = Thread(target=run, kwargs={"installSignalHandlers": False}, daemon=True, name="reactor")
        self._thread.start()
        noted, self._noting = os.pipe()
        os.set_blocking(self._noting, False)
        Thread(target=self._nudge, args=(noted, get_ident()), daemon=True, name="signals").start()
        self._noted_before = signal.set_wakeup_fd(self._noting, warn_on_full_buffer=False)
        signal.signal(signal.SIGURG, lambda *_: None)
        signal.signal(signal.SIGINT, lambda *_: self._signalled(Status.INTERRUPTED))
        signal.signal(signal.SIGTERM, lambda *_: self._signalled(Status.TERMINATED))

    def stop(self) -> None:
        """Stop the reactor, and wait for its end."""
        if self._thread is not None:
            self.reactor.callFromThread(self.reactor.stop)
            self._thread.join()
            self._thread = None
        for number in (*_ENDING, signal.SIGURG):
            signal.signal(number, signal.SIG_DFL)
        if self._noting >= 0:
            signal.set_wakeup_fd(self._noted_before)
            os.close(self._noting)
            self._noting = -1

    # -- signals

    def _nudge(self, noted: int, main: int) -> None:
        """
        See to it that the main thread notices a signal.

        Python looks for signals when one interrupts the system call in which it waits.  What comes a moment before that
        call interrupts nothing, and would wait for the next key, or for the next piece of output.
        """
        while numbers := os.read(noted, 512):
            if not any(number in numbers for number in _ENDING):
                continue
            for _ in range(_NUDGES):
                if self._noticed.wait(_NUDGE_SECONDS):
                    break
                signal.pthread_kill(main, signal.SIGURG)  # which alone means nothing
            self._noticed.clear()
        os.close(noted)

    def _signalled(self, status: Status) -> None:
        """Ctrl-C or SIGTERM: end what is going on, and the second time the process."""
        self._noticed.set()
        if not self._busy:
            # Between commands: the main thread reads a line.
            if status is Status.INTERRUPTED:
                raise KeyboardInterrupt
            raise SystemExit(int(status))
        if self._ended_by in (Status.INTERRUPTED, Status.TERMINATED):
            os._exit(int(status))
        self._cancel(status)

    def _cancel(self, status: Status) -> None:
        self._ended_by = status
        self.reactor.callFromThread(self._cancel_task)

    def _cancel_task(self) -> None:
        if self._task is not None:
            self._task.cancel()

    # -- running

    def run(self, program: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """
        Run a coroutine function in the reactor's thread, and show what it shows, until it is done.

        @raise Problem: it was interrupted.
        @raise Exception: what it raised.
        """
        self._ended_by = None
        self._busy = True
        try:
            self.reactor.callFromThread(self._begin, program)
            while True:
                piece = self.screen.pieces.get()
                if isinstance(piece, Done):
                    break
                self.write(piece)
        finally:
            self._busy = False
        self._clear_status()
        # What has not been written yet can still fail, and then the command has.
        self._attempt(self._out.flush)
        if self._broken:
            raise Problem(Status.PIPE, "nobody reads the output any more")
        result = piece.result
        if isinstance(result, Failure):
            if self._ended_by is not None:
                raise Problem(self._ended_by, "interrupted")
            result.raiseException()
        found: T = result
        return found

    def _begin(self, program: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self._task = Deferred.fromCoroutine(program())
        self._task.addBoth(self._finished)

    def _finished(self, result: Any) -> None:
        self._task = None
        self.screen.pieces.put(Done(result))

    def ask(self, program: Callable[[], Coroutine[Any, Any, T]], seconds: float) -> T | None:
        """Run a coroutine function, and return its result; C{None} if it fails or takes too long."""
        answers: SimpleQueue[Any] = SimpleQueue()

        def begin() -> None:
            Deferred.fromCoroutine(program()).addTimeout(seconds, self.reactor).addBoth(answers.put)

        self.reactor.callFromThread(begin)
        try:
            result = answers.get(timeout=seconds + 1)
        except Empty:
            return None
        return None if isinstance(result, Failure) else result

    # -- writing

    def write(self, piece: Piece, again: bytes = b"") -> None:
        """
        Write a piece.

        @param again: what stands in the last line of the terminal, and shall stand there again.
        """
        try:
            self._attempt(self._write, piece, again)
        finally:
            self.screen.written(piece)

    def _attempt(self, write: Callable[..., None], *arguments: Any) -> None:
        """Write, unless nobody reads any more; whoever finds that out ends what is going on."""
        if self._broken:
            return
        try:
            write(*arguments)
        except OSError as error:
            # Python itself flushes once more at the end, and would complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ else 1)
            if not isinstance(error, BrokenPipeError):
                raise
            self._broken = True
            self._cancel(Status.PIPE)

    def _write(self, piece: Piece, again: bytes) -> None:
        self._clear_status()
        if piece.kind == "status":
            if piece.data:
                self._err.write(_CLEAR + self._one_row(piece.data))
                self._err.flush()
                self._status_shown = True
            return
        stream = self._out if piece.kind == "out" else self._err
        if stream is self._err:
            self._out.flush()
        stream.write((_CLEAR if again else b"") + piece.data + again)
        if stream is self._err or self.screen.pieces.empty():
            stream.flush()

    def _one_row(self, status: bytes) -> bytes:
        """As much of a status as the terminal has room for: what has gone on in another row cannot be taken away."""
        try:
            columns = os.get_terminal_size(self._err.fileno()).columns
        except OSError:
            columns = 0
        return status.decode()[: columns - 1].encode() if columns else status

    def _clear_status(self) -> None:
        if self._status_shown:
            self._status_shown = False
            self._err.write(_CLEAR)
            self._err.flush()
