"""
What the store asks of a disk, and what a crash may do to it.

A L{Disk} is B{one directory}.  Writes are queued by name and reach the medium together, at L{Disk.flush}; the
methods that prepare, read, cut and delete act at once and belong to start-up and to rare repairs.

What a crash means, and what every implementation has to keep:

- All that was queued before a flush whose callback got C{None} is there afterwards: contents, length, name.
- Of all that came later, anything may be there: nothing, everything, or a beginning of it that stops at any byte (but
  what L{Disk.create} begins a file with is there whole or not at all).
- L{Disk.write_atomic} and L{Stream.finish} leave the old content (or no file) or the whole new content under the name.
- A write or a sync that failed says nothing about what reached the medium, and asking a second time does not make it
  true.  So a disk that failed once fails for good; the process starts anew from what can be read.

This module knows neither file formats nor threads nor Twisted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from mmap import mmap
from typing import Protocol, TypeAlias

from zktwisted.errors import StoreError

__all__ = ["PARTIAL_PREFIX", "Compressor", "Disk", "Done", "FileBytes", "Stream"]

#: A stream's file has this before its name until it is complete: no server, ours or Java's, takes it for a snapshot.
PARTIAL_PREFIX = "partial."

#: The bytes of a file, whole or mapped: a slice of it is C{bytes}, and C{struct} and C{zlib} read it in place.
FileBytes: TypeAlias = bytes | mmap

#: Told once when a flush is over, in the thread that asked for it: C{None} when durable, otherwise why it is not.
Done: TypeAlias = Callable[[StoreError | None], None]


class Compressor(Protocol):
    """Turns a stream of chunks into another one, as C{zlib.compressobj} does."""

    def compress(self, data: bytes, /) -> bytes:
        """Take C{data}, return what is ready (may be empty)."""

    def flush(self) -> bytes:
        """Return all that is left."""


class Stream(Protocol):
    """
    A large file on its way: nothing is to be seen under its name before it is complete and durable.

    After a failure the stream has removed what it wrote; L{abort} is then harmless.
    """

    def write(self, data: bytes) -> Awaitable[None] | None:
        """
        Hand over the next bytes.

        @return: C{None} to go on, or an awaitable to wait for because enough is in memory; it fails with
            L{StoreError} when an earlier write failed.
        """

    def finish(self) -> Awaitable[None]:
        """Complete the file: write the rest, sync, give it its name, sync the directory."""

    def abort(self) -> None:
        """Give up and remove what was written."""


class Disk(Protocol):
    """
    One directory; see the module for what a crash means.

    Names are plain file names.  Everything raises L{StoreError} and nothing else.
    """

    #: The directory as a person would name it.
    path: str

    def exists(self) -> bool:
        """Say whether the directory is there."""

    def make(self) -> None:
        """Create the directory and the ones above it."""

    def writable(self) -> bool:
        """Say whether files can be created in the directory."""

    def names(self) -> list[str]:
        """List the directory, sorted."""

    def size(self, name: str) -> int:
        """Return a file's length in bytes."""

    def mtime_ms(self, name: str) -> int:
        """Return when a file was last written, in ms since the epoch."""

    def read(self, name: str) -> FileBytes:
        """Return a file's content; a large one is mapped, not copied."""

    def create(self, name: str, data: bytes) -> None:
        """Queue a new file which begins with C{data}; an old one of that name is emptied."""

    def append(self, name: str, data: bytes) -> None:
        """Queue C{data} for the end of a file that L{create} began."""

    def extend(self, name: str, size: int) -> None:
        """Queue growing that file to C{size} bytes with zeros that take no space; later data goes before them."""

    def close(self, name: str) -> None:
        """Queue that no more will come for that file."""

    def flush(self, done: Done) -> None:
        """Make durable all that was queued so far; at most one flush is in flight, what comes meanwhile is the next."""

    def write_atomic(self, name: str, data: bytes) -> Awaitable[None]:
        """Replace a small file whole: new content or old content, never a mixture."""

    def stream(self, name: str, compressor: Compressor | None = None) -> Stream:
        """Begin a large file, compressed on the way if asked for; its writes do not hold up L{flush}."""

    def truncate(self, name: str, size: int) -> None:
        """Cut a file to C{size} bytes, at once and durably."""

    def remove(self, name: str) -> None:
        """Delete a file, at once and durably; a missing one is no error."""

    def discard(self, names: list[str]) -> None:
        """Delete files some time soon, without holding up anything; failures are reported and forgotten."""
