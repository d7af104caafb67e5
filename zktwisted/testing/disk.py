"""
A directory in memory that fails when told to, and crashes as L{zktwisted.store.disk} says a disk may.

Nothing in it happens by itself: flushes complete at once, when a clock gets there, or when the test says so, and what a
crash leaves is drawn from a source of chance that the test provides.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from zktwisted.errors import StoreError
from zktwisted.store.disk import PARTIAL_PREFIX, Compressor, Done

__all__ = ["MemoryDisk"]

#: Changes a file's content; what it is given is what a crash left of the bytes it would have written.
_Change = Callable[[int | None], None]


class MemoryDisk:
    """
    A L{zktwisted.store.disk.Disk} in memory.

    @ivar files: what is durable: content by name.
    @ivar path: what it calls itself in messages.
    @ivar hold: keep flushes in flight until L{complete} (ignored with a clock).
    @ivar clock: completes flushes, and files that are written whole; C{None}: they are complete at once.
    @ivar latency: draws how long a flush takes by that clock, in seconds.
    @ivar file_latency: draws how long it takes to give a whole file its name; 0: no time at all.
    @ivar capacity: bytes that fit, C{None} for no limit.
    @ivar flushes: how many flushes began.
    @ivar made: whether the directory exists.
    @ivar read_only: whether it refuses files.
    @ivar told_to_fail: whether it was, since the last L{crash}.
    @ivar on_change: called when something has become durable, was cut or deleted.
    """

    def __init__(
        self,
        path: str = "memory",
        *,
        clock: IReactorTime | None = None,
        latency: float | Callable[[], float] = 0.0,
        file_latency: float | Callable[[], float] = 0.0,
        hold: bool = False,
        capacity: int | None = None,
    ) -> None:
        """
        @param clock: completes each flush C{latency} seconds after it began.
        @param latency: seconds, or what draws them; C{file_latency} likewise.
        """
        self.path = path
        self.files: dict[str, bytes] = {}
        self.hold = hold
        self.capacity = capacity
        self.flushes = 0
        self.made = True
        self.read_only = False
        self.clock = clock
        self.latency: Callable[[], float] = latency if callable(latency) else lambda: latency
        self.file_latency: Callable[[], float] = file_latency if callable(file_latency) else lambda: file_latency
        self._mtimes: dict[str, int] = {}
        self._queue: list[_Operation] = []
        self._waiting: list[Done] = []
        self._flying: list[_Operation] = []
        self._flight: list[Done] | None = None
        self._delayed: IDelayedCall | None = None
        self._lost: list[_Operation] = []
        self._positions: dict[str, int] = {}
        self._failure: StoreError | None = None
        self._fail_flush = 0
        self._fail_stream = 0
        self._fail_write = 0
        self._replacing: list[tuple[str, bytes, IDelayedCall, Deferred[None]]] = []
        self._streams: list[_MemoryStream] = []
        self.told_to_fail = False
        self.on_change: Callable[[], object] = int

    # -- faults

    def fail_flush(self, nth: int = 1) -> None:
        """Let the nth flush from now fail; like all failures it is for good, until the next L{crash}."""
        self._fail_flush = nth
        self.told_to_fail = True

    def fail_stream(self, nth: int = 1) -> None:
        """Let the nth write to a stream from now fail."""
        self._fail_stream = nth
        self.told_to_fail = True

    def fail_write(self, nth: int = 1) -> None:
        """Let the nth small file that is written from now on keep its old content, and its writer hear of it."""
        self._fail_write = nth
        self.told_to_fail = True

    def crash(self, entropy: Random) -> None:
        """
        Forget what no flush has made durable, except what chance leaves of it, and all that anybody waited for.

        The disk is well again afterwards, as one that a new process opens.
        """
        left = self._lost + self._flying + self._queue
        if self._delayed is not None and self._delayed.active():
            self._delayed.cancel()
        self._delayed = None
        self._queue, self._flying, self._lost = [], [], []
        self._waiting, self._flight, self._failure = [], None, None
        self._fail_flush = self._fail_stream = self._fail_write = 0
        self.told_to_fail = False
        replacing, self._replacing = self._replacing, []
        for name, data, _, _ in replacing[: entropy.randrange(len(replacing) + 1) if replacing else 0]:
            self._replace(name, data)
        for _, _, call, _ in replacing:
            if call.active():
                call.cancel()
        fate = entropy.choice(("none", "all", "torn"))
        whole = {"none": 0, "all": len(left), "torn": entropy.randrange(len(left) + 1)}[fate]
        for operation in left[:whole]:
            operation.apply(self, len(operation.data))
        if fate == "torn" and whole < len(left):
            left[whole].apply(self, entropy.randrange(len(left[whole].data) + 1))
        for stream in self._streams:
            stream.crash(entropy)
        self._streams = []
        self._positions.clear()

    def successor(self) -> MemoryDisk:
        """
        Return the disk as the next process finds it.

        What a process that has died still does to this one, because something of it is swept away late, comes to
        nothing.
        """
        disk = MemoryDisk(self.path, clock=self.clock, hold=self.hold, capacity=self.capacity)
        disk.latency, disk.file_latency = self.latency, self.file_latency
        disk.made, disk.read_only = self.made, self.read_only
        disk.files, self.files = self.files, dict(self.files)
        disk._mtimes, self._mtimes = self._mtimes, {}
        return disk

    # -- at once

    def exists(self) -> bool:
        """Say whether the directory is there."""
        return self.made

    def make(self) -> None:
        """Create the directory."""
        if self.read_only:
            raise StoreError(f"{self.path}: Read-only file system")
        self.made = True

    def writable(self) -> bool:
        """Say whether files can be created."""
        return not self.read_only

    def names(self) -> list[str]:
        """List the directory, sorted."""
        return sorted(self.files)

    def size(self, name: str) -> int:
        """Return a file's length in bytes."""
        return len(self.read(name))

    def mtime_ms(self, name: str) -> int:
        """Return when a file was last written by the clock given, otherwise 0."""
        self.read(name)
        return self._mtimes.get(name, 0)

    def read(self, name: str) -> bytes:
        """Return a file's durable content."""
        try:
            return self.files[name]
        except KeyError:
            raise StoreError(f"{self.path}/{name}: No such file or directory") from None

    def truncate(self, name: str, size: int) -> None:
        """Cut a file."""
        self.files[name] = self.read(name)[:size]
        self.on_change()

    def remove(self, name: str) -> None:
        """Delete a file."""
        self.files.pop(name, None)
        self.on_change()

    def discard(self, names: list[str]) -> None:
        """Delete files."""
        for name in names:
            self.remove(name)

    # -- queued

    def create(self, name: str, data: bytes) -> None:
        """Queue a new file which begins with C{data}."""
        self._queue.append(_Create(name, data))

    def append(self, name: str, data: bytes) -> None:
        """Queue C{data} for the end of a file that L{create} began."""
        self._queue.append(_Append(name, data))

    def extend(self, name: str, size: int) -> None:
        """Queue growing that file with zeros."""
        self._queue.append(_Extend(name, b"", size))

    def close(self, name: str) -> None:
        """Queue that no more will come for that file."""
        self._queue.append(_Close(name, b""))

    def flush(self, done: Done) -> None:
        """Make durable all that was queued so far, then call C{done}; at once if there is nothing to wait for."""
        if self._failure is not None:
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
        self._flying, self._queue = self._queue, []
        self._flight, self._waiting = self._waiting, []
        self.flushes += 1
        if self.clock is not None:
            self._delayed = self.clock.callLater(self.latency(), self.complete)
        elif not self.hold:
            self.complete()

    @property
    def in_flight(self) -> bool:
        """Whether a flush has begun and not completed."""
        return self._flight is not None

    def complete(self) -> None:
        """Let the flush in flight complete, or fail if it was told to; the next one then begins."""
        flown = self._flight or []
        operations, self._flying, self._flight = self._flying, [], None
        error: StoreError | None = None
        if self._fail_flush:
            self._fail_flush -= 1
            if not self._fail_flush:
                error = StoreError(f"{self.path}: Input/output error")
        grown = sum(len(operation.data) for operation in operations)
        if error is None and not self._fits(grown):
            error = StoreError(f"{self.path}: No space left on device")
        if error is None:
            for operation in operations:
                operation.apply(self, len(operation.data))
            self.on_change()
            if self._waiting:
                self._launch()
        else:
            self._failure = error
            self._lost += operations + self._queue
            flown, self._waiting = flown + self._waiting, []
            self._queue = []
        for done in flown:
            done(error)

    def _fits(self, more: int) -> bool:
        return self.capacity is None or sum(map(len, self.files.values())) + more <= self.capacity

    def touch(self, name: str) -> None:
        """Note when a file was written."""
        if self.clock is not None:
            self._mtimes[name] = int(self.clock.seconds() * 1000)

    # -- whole files

    def write_atomic(self, name: str, data: bytes) -> Deferred[None]:
        """Replace a small file whole."""
        if self._fail_write:
            self._fail_write -= 1
            if not self._fail_write:
                return fail(StoreError(f"{self.path}/{name}: Input/output error"))
        if not self._fits(len(data)):
            return fail(StoreError(f"{self.path}: No space left on device"))
        latency = 0.0 if self.clock is None else self.file_latency()
        if self.clock is None or not latency:
            self._replace(name, data)
            return succeed(None)
        written: Deferred[None] = Deferred()
        call = self.clock.callLater(latency, self._replaced)
        self._replacing.append((name, data, call, written))
        return written

    def _replace(self, name: str, data: bytes) -> None:
        self.files[name] = data
        self.touch(name)
        self.on_change()

    def _replaced(self) -> None:
        # The oldest, whichever the time has come for: a disk does one after the other.
        name, data, _, written = self._replacing.pop(0)
        self._replace(name, data)
        written.callback(None)

    def stream(self, name: str, compressor: Compressor | None = None) -> _MemoryStream:
        """Begin a large file."""
        stream = _MemoryStream(self, name, compressor)
        self._streams.append(stream)
        return stream

    def stream_fault(self, more: int) -> StoreError | None:
        """Return why a stream cannot write, if it cannot."""
        if self._fail_stream:
            self._fail_stream -= 1
            if not self._fail_stream:
                return StoreError(f"{self.path}: Input/output error")
        return None if self._fits(more) else StoreError(f"{self.path}: No space left on device")


class _Operation:
    """One queued change."""

    def __init__(self, name: str, data: bytes, size: int = 0) -> None:
        self.name = name
        self.data = data
        self.size = size

    def apply(self, disk: MemoryDisk, kept: int) -> None:
        """Carry it out as far as the first C{kept} bytes of its data."""
        self.change(disk, self.data[:kept])
        disk.touch(self.name)

    def change(self, disk: MemoryDisk, data: bytes) -> None:
        """Change the file."""


class _Create(_Operation):
    def change(self, disk: MemoryDisk, data: bytes) -> None:
        # The beginning is there whole or not at all.
        disk.files[self.name] = data if len(data) == len(self.data) else b""
        disk._positions[self.name] = len(disk.files[self.name])


class _Append(_Operation):
    def change(self, disk: MemoryDisk, data: bytes) -> None:
        old, at = disk.files[self.name], disk._positions[self.name]
        disk.files[self.name] = old[:at] + data + old[at + len(data) :]
        disk._positions[self.name] = at + len(data)


class _Extend(_Operation):
    def change(self, disk: MemoryDisk, data: bytes) -> None:
        disk.files[self.name] = disk.files[self.name].ljust(self.size, b"\0")


class _Close(_Operation):
    def change(self, disk: MemoryDisk, data: bytes) -> None:
        disk._positions.pop(self.name, None)


class _MemoryStream:
    """A L{zktwisted.store.disk.Stream} in memory."""

    def __init__(self, disk: MemoryDisk, name: str, compressor: Compressor | None) -> None:
        self._disk = disk
        self._name = name
        self._compressor = compressor
        self._parts: list[bytes] = []
        self._size = 0
        self._failure: StoreError | None = None
        self._over = False

    def write(self, data: bytes) -> Awaitable[None] | None:
        """Take the next bytes."""
        fault = self._failure or self._disk.stream_fault(self._size + len(data))
        if fault is not None:
            self._failure = fault
            return fail(fault)
        if self._compressor is not None:
            data = self._compressor.compress(data)
        self._parts.append(data)
        self._size += len(data)
        return None

    def finish(self) -> Awaitable[None]:
        """Give the file its name."""
        fault = self._failure or self._disk.stream_fault(self._size)
        if fault is not None:
            self._failure = fault
            return fail(fault)
        if self._compressor is not None:
            self._parts.append(self._compressor.flush())
        self._over = True
        return self._disk.write_atomic(self._name, b"".join(self._parts))

    def abort(self) -> None:
        """Forget what was written."""
        self._over = True

    def crash(self, entropy: Random) -> None:
        """Leave a part of an unfinished file, or nothing."""
        if not self._over and entropy.random() < 0.5:
            data = b"".join(self._parts)
            self._disk.files[PARTIAL_PREFIX + self._name] = data[: entropy.randrange(len(data) + 1)]
        self._over = True
        self._failure = StoreError(f"{self._disk.path}: crashed")
