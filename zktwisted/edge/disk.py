"""
A directory of the real file system, written in threads of its own.

L{PosixDisk} keeps at most one flush in flight: its thread writes and syncs one batch, without the interpreter's lock,
while the next one gathers in memory.  Group commit falls out of that, no timer is tuned.  Large files have a second
thread, so that a snapshot's writes are never in front of a flush.

This module decides nothing about state and knows no file format.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from mmap import ACCESS_READ, mmap
from queue import SimpleQueue
from threading import Thread
from typing import Protocol

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger

from zktwisted.errors import StoreError
from zktwisted.store.disk import PARTIAL_PREFIX, Compressor, Done, FileBytes

__all__ = ["PosixDisk"]

_log = Logger()

#: Files up to this size are read whole, larger ones are mapped.
_MAP_MIN = 1 << 16
#: A stream holds back its writer when this much is in memory.
_STREAM_BUFFER = 1 << 20
#: A stream syncs after so much: else a log's sync would have to wait until the file system has written all of it.
_STREAM_SYNC = 1 << 20

_CREATE, _APPEND, _EXTEND, _CLOSE = range(4)
#: What to do, with which file, the data, a size.
_Operation = tuple[int, str, list[bytes], int]
#: Name of the file and seconds of one durable write.
_Sync = tuple[str, float]


class _Pool(Protocol):
    """What is used of a L{ThreadPool}."""

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def callInThread(self, func: Callable[..., object], *args: object) -> None: ...  # Twisted's name


class _OneThread:
    """
    A pool of one thread that does one thing after the other.

    Twisted's L{ThreadPool} of one thread does the same at several times the cost, which every flush would pay.
    """

    def __init__(self, name: str) -> None:
        self._work: SimpleQueue[tuple[Callable[..., object], tuple[object, ...]] | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name=name)

    def start(self) -> None:
        """Let it begin."""
        self._thread.start()

    def stop(self) -> None:
        """Wait for all that was given, and for the thread's end."""
        self._work.put(None)
        self._thread.join()

    def callInThread(self, func: Callable[..., object], *args: object) -> None:  # Twisted's name
        """Call C{func}, which must not raise, when its turn comes."""
        self._work.put((func, args))

    def _run(self) -> None:
        take = self._work.get
        while (work := take()) is not None:
            func, args = work
            func(*args)


@contextmanager
def _store_errors(what: str) -> Iterator[None]:
    """Turn what the system says into L{StoreError}."""
    try:
        yield
    except (OSError, ValueError) as e:
        raise _store_error(what, e) from e


def _store_error(what: str, error: OSError | ValueError) -> StoreError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return StoreError(f"{what}: {reason}")


def _write_all(fd: int, data: bytes) -> None:
    written = os.write(fd, data)
    if written < len(data):
        with memoryview(data) as view:
            while written < len(data):
                written += os.write(fd, view[written:])


class _Thread:
    """One thread and the way back from it."""

    def __init__(self, reactor: IReactorFromThreads, name: str, make_pool: Callable[[str], _Pool]) -> None:
        self._reactor = reactor
        self._name = name
        self._make_pool = make_pool
        self._pool: _Pool | None = None
        self._stopped = False

    def run(self, work: Callable[[], object], landed: Callable[[object, StoreError | None], None]) -> None:
        """Call C{work} in the thread, then C{landed(result, None)} or C{landed(None, error)} in the reactor's."""
        if self._stopped:
            landed(None, StoreError(f"{self._name}: stopped"))
            return
        if self._pool is None:
            self._pool = self._make_pool(self._name)
            self._pool.start()
        self._pool.callInThread(self._run, work, landed)

    def _run(self, work: Callable[[], object], landed: Callable[[object, StoreError | None], None]) -> None:
        result: object = None
        error: StoreError | None = None
        try:
            result = work()
        except StoreError as e:
            error = e
        except Exception as e:  # noqa: BLE001 (whatever it was, a flush that did not end well must not look well)
            error = StoreError(f"{type(e).__name__}: {e}")
        self._reactor.callFromThread(landed, result, error)

    def stop(self) -> None:
        """Wait for what runs and let the thread end."""
        self._stopped = True
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.stop()


class PosixDisk:
    """
    A L{zktwisted.store.disk.Disk} on the file system.

    Call L{stop} at the end: its threads keep the process alive.

    @ivar path: the directory.
    @ivar slow_syncs: how many syncs took longer than the threshold (fsync_threshold_exceed_count).
    """

    def __init__(
        self,
        reactor: IReactorFromThreads,
        path: str,
        *,
        force_sync: bool = True,
        sync_warning_ms: int = 1000,
        on_sync: Callable[[float], None] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        make_pool: Callable[[str], _Pool] | None = None,
    ) -> None:
        """
        @param reactor: what threads report back to.
        @param force_sync: C{False} (forceSync=no) leaves it to the system when data reaches the medium.
        @param sync_warning_ms: warn of a sync that takes longer (fsync.warningthresholdms).
        @param on_sync: told the seconds that each sync of a queued file took.
        @param make_pool: makes the pool of one thread, given its name.
        """
        self.path = path
        self.slow_syncs = 0
        self._force_sync = force_sync
        self._sync_warning_ms = sync_warning_ms
        self._on_sync = on_sync
        self._monotonic = monotonic
        make = make_pool or _OneThread
        self._thread = _Thread(reactor, f"disk {path}", make)
        self._bulk = _Thread(reactor, f"bulk {path}", make)
        self._queue: list[_Operation] = []
        self._waiting: list[Done] = []
        self._flight: list[Done] | None = None
        self._failure: StoreError | None = None
        # Only the thread touches it.
        self._files: dict[str, int] = {}

    # -- at once

    def exists(self) -> bool:
        """Say whether the directory is there."""
        return os.path.isdir(self.path)

    def make(self) -> None:
        """Create the directory and the ones above it."""
        with _store_errors(self.path):
            os.makedirs(self.path, exist_ok=True)

    def writable(self) -> bool:
        """Say whether files can be created in the directory."""
        return os.access(self.path, os.W_OK | os.X_OK)

    def names(self) -> list[str]:
        """List the directory, sorted."""
        with _store_errors(self.path):
            return sorted(os.listdir(self.path))

    def size(self, name: str) -> int:
        """Return a file's length in bytes."""
        with _store_errors(self._join(name)):
            return os.stat(self._join(name)).st_size

    def mtime_ms(self, name: str) -> int:
        """Return when a file was last written, in ms since the epoch."""
        with _store_errors(self._join(name)):
            return os.stat(self._join(name)).st_mtime_ns // 1_000_000

    def read(self, name: str) -> FileBytes:
        """Return a file's content; a large one is mapped, not copied."""
        with _store_errors(self._join(name)), open(self._join(name), "rb") as file:
            if os.fstat(file.fileno()).st_size < _MAP_MIN:
                return file.read()
            return mmap(file.fileno(), 0, access=ACCESS_READ)

    def truncate(self, name: str, size: int) -> None:
        """Cut a file to C{size} bytes, at once and durably."""
        with _store_errors(self._join(name)):
            fd = os.open(self._join(name), os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.ftruncate(fd, size)
                os.fsync(fd)
            finally:
                os.close(fd)

    def remove(self, name: str) -> None:
        """Delete a file, at once and durably; a missing one is no error."""
        with _store_errors(self._join(name)):
            with suppress(FileNotFoundError):
                os.unlink(self._join(name))
            self._sync_directory()

    def stop(self) -> None:
        """Wait for writes on their way and let the threads end; nothing may be asked afterwards."""
        self._thread.stop()
        self._bulk.stop()
        for fd in self._files.values():
            os.close(fd)
        self._files.clear()

    # -- in the thread

    def create(self, name: str, data: bytes) -> None:
        """Queue a new file which begins with C{data}; an old one of that name is emptied."""
        self._queue.append((_CREATE, name, [data], 0))

    def append(self, name: str, data: bytes) -> None:
        """Queue C{data} for the end of a file that L{create} began."""
        queue = self._queue
        if queue and queue[-1][0] == _APPEND and queue[-1][1] == name:
            queue[-1][2].append(data)
        else:
            queue.append((_APPEND, name, [data], 0))

    def extend(self, name: str, size: int) -> None:
        """Queue growing that file to C{size} bytes with zeros that take no space; later data goes before them."""
        self._queue.append((_EXTEND, name, [], size))

    def close(self, name: str) -> None:
        """Queue that no more will come for that file."""
        self._queue.append((_CLOSE, name, [], 0))

    def flush(self, done: Done) -> None:
        """Make durable all that was queued so far, then call C{done}; at once if there is nothing to wait for."""
        if self._failure is not None:
            self._queue.clear()
            done(self._failure)
        elif self._flight is None:
            if self._queue:
                self._waiting.append(done)
                self._launch()
            else:
                done(None)
        elif self._queue:
            self._waiting.append(done)
        else:
            self._flight.append(done)

    def _launch(self) -> None:
        operations, self._queue = self._queue, []
        self._flight, self._waiting = self._waiting, []
        self._thread.run(partial(self._perform, operations), self._landed)

    def _landed(self, result: object, error: StoreError | None) -> None:
        flown = self._flight or []
        self._flight = None
        if error is not None:
            # What is on the medium now nobody knows; and a second sync may well succeed without having written what
            # the first one failed to write.
            self._failure = error
            flown += self._waiting
            self._waiting = []
            self._queue.clear()
            _log.critical("Severe unrecoverable error, cannot write {error}", error=error)
        else:
            if self._waiting:
                self._launch()
            if isinstance(result, list):
                self._report(result)
        for done in flown:
            try:
                done(error)
            except Exception:  # noqa: BLE001 (the others have to be told as well)
                _log.failure("while telling that a flush is over")

    def _report(self, syncs: list[_Sync]) -> None:
        for name, seconds in syncs:
            if self._on_sync is not None:
                self._on_sync(seconds)
            if seconds * 1000 > self._sync_warning_ms:
                self.slow_syncs += 1
                _log.warn(
                    "fsync-ing {name} took {milliseconds} ms, which will adversely affect operation latency."
                    " File size is {size} bytes.",
                    name=self._join(name),
                    milliseconds=round(seconds * 1000),
                    size=self.size(name),
                )

    def _perform(self, operations: list[_Operation]) -> list[_Sync]:
        """In the thread: write one batch and make it durable."""
        syncs: list[_Sync] = []
        name = ""
        try:
            for kind, name, data, size in operations:
                if kind == _APPEND:
                    begun = self._monotonic()
                    _write_all(self._files[name], b"".join(data))
                    syncs.append((name, self._monotonic() - begun))
                elif kind == _CREATE:
                    self._create(name, data[0])
                elif kind == _EXTEND:
                    os.pwrite(self._files[name], b"\0", size - 1)
                else:
                    os.close(self._files.pop(name))
        except (OSError, ValueError) as e:
            raise _store_error(self._join(name), e) from e
        return syncs if self._force_sync else []

    def _create(self, name: str, data: bytes) -> None:
        old = self._files.pop(name, None)
        if old is not None:
            os.close(old)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        if self._force_sync:
            # Each write returns when it is durable, as if fdatasync followed: one system call instead of two, and so
            # one wait for the interpreter's lock.  And the beginning is there before anything makes the file longer:
            # a power failure must not leave a long file without it.
            flags |= os.O_DSYNC
        fd = self._files[name] = os.open(self._join(name), flags, 0o666)
        _write_all(fd, data)
        if self._force_sync:
            self._sync_directory()

    def write_atomic(self, name: str, data: bytes) -> Deferred[None]:
        """Replace a small file whole: new content or old content, never a mixture."""
        finished: Deferred[None] = Deferred()
        self._thread.run(partial(self._write_atomic, name, data), partial(_fire, finished))
        return finished

    def _write_atomic(self, name: str, data: bytes) -> None:
        temporary = self._join(name + ".tmp")
        with _store_errors(self._join(name)):
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
            try:
                _write_all(fd, data)
                os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(temporary, self._join(name))
            self._sync_directory()

    def stream(self, name: str, compressor: Compressor | None = None) -> _PosixStream:
        """Begin a large file, compressed on the way if asked for; its writes do not hold up L{flush}."""
        return _PosixStream(self._bulk, self.path, name, compressor, self._force_sync)

    def discard(self, names: list[str]) -> None:
        """Delete files some time soon; failures are logged and forgotten."""
        if names:
            self._bulk.run(partial(self._discard, names), self._discarded)

    def _discard(self, names: list[str]) -> list[str]:
        failures: list[str] = []
        for name in names:
            try:
                os.unlink(self._join(name))
            except OSError as e:
                failures.append(f"{self._join(name)}: {e.strerror}")
        return failures

    def _discarded(self, result: object, error: StoreError | None) -> None:
        failures = result if isinstance(result, list) else [str(error)]
        for reason in failures:
            _log.warn("Failed to remove {reason}", reason=reason)

    def _join(self, name: str) -> str:
        return os.path.join(self.path, name)

    def _sync_directory(self) -> None:
        _sync_directory(self.path)


def _sync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _fire(waiting: Deferred[None], result: object, error: StoreError | None) -> None:
    if error is None:
        waiting.callback(None)
    else:
        waiting.errback(error)


class _PosixStream:
    """A L{zktwisted.store.disk.Stream} into a file of a partial name, by the bulk thread."""

    def __init__(
        self, thread: _Thread, directory: str, name: str, compressor: Compressor | None, force_sync: bool
    ) -> None:
        self._thread = thread
        self._directory = directory
        self._name = os.path.join(directory, name)
        self._partial = os.path.join(directory, PARTIAL_PREFIX + name)
        self._compressor = compressor
        self._force_sync = force_sync
        self._buffer: list[bytes] = []
        self._buffered = 0
        self._launched = 0
        self._in_flight = False
        self._failure: StoreError | None = None
        self._room: Deferred[None] | None = None
        self._finished: Deferred[None] | None = None
        self._aborted = False
        # Only the thread touches these.
        self._fd = -1
        self._exists = False
        self._unsynced = 0

    def write(self, data: bytes) -> Deferred[None] | None:
        """Hand over the next bytes; wait for the Deferred, if one comes back, before the next."""
        if self._failure is not None:
            return fail(self._failure)
        self._buffer.append(data)
        self._buffered += len(data)
        if not self._in_flight:
            self._launch()
        if self._buffered < _STREAM_BUFFER:
            return None
        if self._room is None:
            self._room = Deferred()
        return self._room

    def finish(self) -> Deferred[None]:
        """Complete the file: write the rest, sync, give it its name, sync the directory."""
        if self._failure is not None:
            return fail(self._failure)
        finished = self._finished = Deferred()
        if not self._in_flight:
            self._launch()
        return finished

    def abort(self) -> None:
        """Give up and remove what was written."""
        if not self._aborted:
            self._aborted = True
            self._buffer.clear()
            self._failure = self._failure or StoreError(f"{self._name}: given up")
            self._thread.run(self._remove, _ignore)

    def _launch(self) -> None:
        chunks, self._buffer = self._buffer, []
        self._in_flight = True
        self._launched = self._buffered
        self._thread.run(partial(self._perform, chunks, self._finished is not None), self._landed)

    def _landed(self, result: object, error: StoreError | None) -> None:
        self._in_flight = False
        if error is not None or self._aborted:
            self._failure = error = error or self._failure
            room, self._room = self._room, None
            finished, self._finished = self._finished, None
            for waiting in (room, finished):
                if waiting is not None:
                    _fire(waiting, None, error)
            return
        self._buffered -= self._launched
        if result is True:
            if self._finished is not None:
                self._finished.callback(None)
            return
        if self._buffer or self._finished is not None:
            self._launch()
        if self._room is not None and self._buffered < _STREAM_BUFFER // 2:
            room, self._room = self._room, None
            room.callback(None)

    def _perform(self, chunks: list[bytes], last: bool) -> bool:
        """In the thread: write what has gathered and, at the end, give the file its name."""
        try:
            with _store_errors(self._name):
                self._write_chunks(chunks)
                if last:
                    self._complete()
        except BaseException:
            self._remove()
            raise
        return last

    def _write_chunks(self, chunks: list[bytes]) -> None:
        if self._fd < 0:
            self._fd = os.open(self._partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
            self._exists = True
        compressor = self._compressor
        for chunk in chunks:
            data = chunk if compressor is None else compressor.compress(chunk)
            if data:
                _write_all(self._fd, data)
            self._unsynced += len(data)
            if self._unsynced >= _STREAM_SYNC and self._force_sync:
                os.fdatasync(self._fd)
                self._unsynced = 0

    def _complete(self) -> None:
        if self._compressor is not None:
            _write_all(self._fd, self._compressor.flush())
        if self._force_sync:
            os.fsync(self._fd)
        fd, self._fd = self._fd, -1
        os.close(fd)
        os.rename(self._partial, self._name)
        self._exists = False
        if self._force_sync:
            _sync_directory(self._directory)

    def _remove(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)
        if self._exists:
            self._exists = False
            with suppress(OSError):
                os.unlink(self._partial)


def _ignore(result: object, error: StoreError | None) -> None:
    """Nobody waits for this."""
