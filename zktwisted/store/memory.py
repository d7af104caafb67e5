"""
A store that lives as long as the process: what an ensemble of memory-only servers elects, synchronizes and cuts by.

The files are those of L{zktwisted.store.database.Database}, in a directory of memory; all that is older than the last
snapshot goes.  Nothing here fails and nothing survives.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterator
from dataclasses import replace
from random import Random
from typing import Any

from zktwisted.errors import StoreError
from zktwisted.store.database import Database, Options, Trailer
from zktwisted.store.disk import Compressor, Done
from zktwisted.store.snapshot import snapshot_files
from zktwisted.store.txnlog import log_files, log_to_start_with

__all__ = ["MemoryDatabase", "MemoryDirectory"]


class _Ready:
    """Something to wait for that is there."""

    def __await__(self) -> Generator[Any, None, None]:
        yield from ()


class MemoryDirectory:
    """A L{zktwisted.store.disk.Disk} that is a dictionary."""

    path = "memory"

    def __init__(self) -> None:
        self._files: dict[str, bytearray] = {}

    def exists(self) -> bool:
        """It always is."""
        return True

    def make(self) -> None:
        """There is nothing to make."""

    def writable(self) -> bool:
        """It always is."""
        return True

    def names(self) -> list[str]:
        """List it, sorted."""
        return sorted(self._files)

    def _file(self, name: str) -> bytearray:
        try:
            return self._files[name]
        except KeyError:
            raise StoreError(f"{self.path}/{name}: No such file") from None

    def size(self, name: str) -> int:
        """Return a file's length in bytes."""
        return len(self._file(name))

    def mtime_ms(self, name: str) -> int:
        """Nobody knows."""
        self._file(name)
        return 0

    def read(self, name: str) -> bytes:
        """Return a file's content."""
        return bytes(self._file(name))

    def create(self, name: str, data: bytes) -> None:
        """Begin a file."""
        self._files[name] = bytearray(data)

    def append(self, name: str, data: bytes) -> None:
        """Make it longer."""
        self._file(name).extend(data)

    def extend(self, name: str, size: int) -> None:
        """Room need not be made in advance."""

    def close(self, name: str) -> None:
        """Nothing is open."""

    def flush(self, done: Done) -> None:
        """It is as durable as it will ever be."""
        done(None)

    def write_atomic(self, name: str, data: bytes) -> Awaitable[None]:
        """Replace a file."""
        self._files[name] = bytearray(data)
        return _Ready()

    def stream(self, name: str, compressor: Compressor | None = None) -> _MemoryStream:
        """Begin a large file; nothing is gained by compressing it."""
        return _MemoryStream(self._files, name)

    def truncate(self, name: str, size: int) -> None:
        """Cut a file."""
        del self._file(name)[size:]

    def remove(self, name: str) -> None:
        """Delete a file; a missing one is no error."""
        self._files.pop(name, None)

    def discard(self, names: list[str]) -> None:
        """Delete files."""
        for name in names:
            self.remove(name)


class _MemoryStream:
    """A file on its way."""

    def __init__(self, files: dict[str, bytearray], name: str) -> None:
        self._files = files
        self._name = name
        self._data = bytearray()

    def write(self, data: bytes) -> None:
        """Take the next bytes."""
        self._data += data

    def finish(self) -> Awaitable[None]:
        """Give the file its name."""
        self._files[self._name] = self._data
        return _Ready()

    def abort(self) -> None:
        """Forget it."""


class MemoryDatabase(Database):
    """A L{Database} without files, for a member of an ensemble."""

    def __init__(self, options: Options, entropy: Random) -> None:
        """@param options: as for files; none are compressed or preallocated."""
        directory = MemoryDirectory()
        plain = replace(options, compression_method="", pre_alloc_size_kib=0, snap_size_limit_kib=0)
        super().__init__(directory, directory, plain, entropy)
        self._directory = directory

    def snapshot(
        self, zxid: int, chunks: Iterator[bytes], trailer: Callable[[], Trailer]
    ) -> Generator[Awaitable[None] | None, None, None]:
        """Write a snapshot in steps, and forget what it makes superfluous."""
        yield from super().snapshot(zxid, chunks, trailer)
        directory = self._directory
        names = directory.names()
        directory.discard([name for first, name in snapshot_files(names) if first < zxid])
        logs = log_files(names)
        directory.discard([name for _, name in logs[: log_to_start_with(logs, zxid)]])
