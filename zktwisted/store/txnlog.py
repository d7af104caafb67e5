"""
The transaction log: its bytes, how they are written and what damage in them means.

A log file is a header, records, and zeros up to a preallocated length.  A record is the Adler-32 of an entry in
8 bytes, the entry's length, the entry, and one byte C{B} (spec: storage 2).

This module knows of an entry only that its TxnHeader holds the zxid.  It knows no transactions and no snapshots.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum
from struct import Struct
from typing import NamedTuple
from zlib import adler32

from zktwisted.errors import StoreError
from zktwisted.store.disk import Disk, Done, FileBytes

__all__ = [
    "DEFAULT_MAX_ENTRY",
    "HEADER",
    "End",
    "LogReader",
    "Note",
    "TxnLog",
    "cut_offset",
    "frame",
    "last_logged_zxid",
    "log_files",
    "log_name",
    "log_to_start_with",
    "zxid_of_name",
]

#: "ZKLG", version 2, dbid 0.
HEADER = bytes.fromhex("5a4b4c47 00000002 0000000000000000")
#: jute.maxbuffer + jute.maxbuffer.extrasize as they are by default.
DEFAULT_MAX_ENTRY = 2 * 0xFFFFF

_MAGIC = int.from_bytes(HEADER[:4], "big")
_RECORD = Struct(">qi")
_pack_record = Struct(">Qi").pack
_unpack_record = _RECORD.unpack_from
#: zxid within TxnHeader, behind clientId and cxid.
_ZXID = Struct(">q")
_ZXID_OFFSET = 12
_TXN_HEADER_SIZE = 32
#: A file is extended when less than this is left of it.
_PREALLOC_MARGIN = 4096
#: How far behind a torn place to look for records that it cut off.
_SEARCH = 1 << 16
_WINDOW = 1 << 20


def zxid_of_name(name: str, prefix: str) -> int:
    """
    Return the zxid in a file name such as C{log.1a} or C{snapshot.1a.gz}, or -1 if it is no such name.

    Like ZooKeeper, tolerate further parts: C{log.5.bak} is a log (spec: storage 1).
    """
    parts = name.split(".")
    if parts[0] != prefix or len(parts) < 2:
        return -1
    digits = parts[1]
    if digits[:1] in ("+", "-"):
        digits = digits[1:]
    # Only what int() and ZooKeeper agree on: no spaces, no underscores, no 0x, no digits of other alphabets.
    if not digits or len(digits) > 64 or not all(digit in "0123456789abcdefABCDEF" for digit in digits):
        return -1
    zxid = int(parts[1], 16)
    return zxid if -(1 << 63) <= zxid < 1 << 63 else -1


def log_name(zxid: int) -> str:
    """Name the log whose first record has this zxid."""
    return f"log.{zxid & 0xFFFFFFFFFFFFFFFF:x}"


def log_files(names: list[str]) -> list[tuple[int, str]]:
    """Pick the logs out of a directory, as (zxid, name) in order of zxid."""
    return sorted((zxid, name) for name in names if (zxid := zxid_of_name(name, "log")) >= 0)


def log_to_start_with(logs: list[tuple[int, str]], zxid: int) -> int:
    """Return the index of the newest log that begins at C{zxid} or before: the first that may hold it."""
    return max((index for index, (first, _) in enumerate(logs) if first <= zxid), default=0)


def frame(entries: list[tuple[int, bytes]]) -> bytes:
    """Return the records of (zxid, entry) pairs, as they stand in a log."""
    parts: list[bytes] = []
    for _, entry in entries:
        parts += (_pack_record(adler32(entry), len(entry)), entry, b"B")
    return b"".join(parts)


class Note(NamedTuple):
    """Something that an operator should read: the store logs nothing itself."""

    #: Whether it is an error; otherwise a warning.
    error: bool
    #: One sentence.
    text: str


class End(Enum):
    """Why reading a log stopped; all of these are ends that a crash can leave (spec: storage 2.5)."""

    EOF = "the file ends here"
    TORN = "the file ends inside a record"
    PADDING = "zeros follow"
    PARTIAL = "the last record was written in part"


class LogReader:
    """
    The records of one log file, in order, each checked.

    Iterate once for (zxid, entry); then L{end} and L{offset} say why and where it stopped.

    @ivar end: why reading stopped, C{None} while it goes on.
    @ivar offset: where the next record begins, or would.
    @ivar last_zxid: the zxid of the last record returned, -1 before the first.
    """

    def __init__(self, name: str, data: FileBytes, max_entry: int = DEFAULT_MAX_ENTRY) -> None:
        """
        Look at the file header.

        @raise StoreError: if there is none.
        """
        if len(data) < len(HEADER):
            raise StoreError(f"Transaction log {name} has {len(data)} bytes: too short to have a header")
        magic = int.from_bytes(data[:4], "big")
        if magic != _MAGIC:
            raise StoreError(f"Transaction log: {name} has invalid magic number {magic} != {_MAGIC}")
        self.name = name
        self.end: End | None = None
        self.offset = len(HEADER)
        self.last_zxid = -1
        self._data = data
        self._max = max_entry

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        data = self._data
        size = len(data)
        longest = self._max
        offset = self.offset
        read_zxid = _ZXID.unpack_from
        while True:
            start = offset + 12
            if start > size:
                self.end = End.EOF if offset == size else End.TORN
                return
            checksum, length = _unpack_record(data, offset)
            if length == 0:
                self.end = End.PADDING
                return
            if not 0 < length <= longest:
                raise self._fatal(f"Unreasonable length = {length}")
            stop = start + length
            if stop >= size:
                self.end = End.TORN
                return
            if data[stop] != 0x42:
                self.end = End.PARTIAL
                return
            entry = data[start:stop]
            if adler32(entry) != checksum:
                raise self._fatal("CRC check failed")
            if length < _TXN_HEADER_SIZE:
                raise self._fatal(f"an entry of {length} bytes has no transaction header")
            (zxid,) = read_zxid(entry, _ZXID_OFFSET)
            self.offset = offset = stop + 1
            self.last_zxid = zxid
            yield zxid, entry

    def _fatal(self, what: str) -> StoreError:
        return StoreError(f"{what} in {self.name} at offset {self.offset}")

    def torn_note(self) -> Note | None:
        """
        Once iterated: say so if the place where reading stopped is not just the end of an interrupted write.

        ZooKeeper skips whatever follows such a place without a word.  We skip it too, the file may have got there by
        a crash; but if whole records follow, it was damaged later, and someone has to know.
        """
        data, offset = self._data, self.offset
        if self.end is None or self.end is End.EOF:
            return None
        found = self._next_record(offset)
        if found is None:
            return None
        windows = (data[at : at + _WINDOW] for at in range(offset, len(data), _WINDOW))
        rest = sum(len(window) - window.count(0) for window in windows)
        return Note(
            True,
            f"{self.name} is damaged at offset {offset}: {self.end.value}, yet a valid record follows at offset"
            f" {found}; it and all behind it were skipped ({rest} bytes that are not zero)",
        )

    def _next_record(self, offset: int) -> int | None:
        """Return where a valid record begins behind the torn place at C{offset}, looking a limited way."""
        data, size = self._data, len(self._data)
        window = data[offset : offset + _WINDOW]
        if window == bytes(len(window)):
            return None
        if self.end is End.PARTIAL:
            after = offset + 13 + int(_unpack_record(data, offset)[1])
            if self._valid(after):
                return after
        first = offset + len(window) - len(window.lstrip(b"\0"))
        # A checksum of 32 bits stands in 8 bytes, so a record begins with four zeros and maybe more.
        candidates = range(max(offset + 1, first - 8), min(size, first + _SEARCH))
        return next((at for at in candidates if self._valid(at)), None)

    def _valid(self, offset: int) -> bool:
        data = self._data
        start = offset + 12
        if start + _TXN_HEADER_SIZE >= len(data):
            return False
        checksum, length = _unpack_record(data, offset)
        stop = start + length
        if not _TXN_HEADER_SIZE <= length <= self._max or stop >= len(data) or data[stop] != 0x42:
            return False
        return bool(adler32(data[start:stop]) == checksum)


def last_logged_zxid(disk: Disk, max_entry: int = DEFAULT_MAX_ENTRY) -> int:
    """Return the zxid of the last record in a directory, -1 if there is no log (spec: storage 2.5)."""
    logs = log_files(disk.names())
    if not logs:
        return -1
    zxid, name = logs[-1]
    data = disk.read(name)
    if not data:
        return zxid
    reader = LogReader(name, data, max_entry)
    for _ in reader:
        pass
    return zxid if reader.last_zxid == -1 else reader.last_zxid


def cut_offset(reader: LogReader, zxid: int) -> int:
    """
    Return the length at which a log has to be cut to keep exactly its records up to C{zxid}.

    ZooKeeper keeps one record too many if it has none with exactly that zxid; we do not (spec: storage 2.6).
    """
    offset = reader.offset
    for found, _ in reader:
        if found > zxid:
            break
        offset = reader.offset
    return offset


class TxnLog:
    """
    The log being written: entries are collected, framed together at L{commit}, and put into a new file after every
    start and every L{roll}, named by its first zxid.

    @ivar size: length of the current file with its padding, 0 without one.
    @ivar records: records since the file was begun.
    """

    def __init__(self, disk: Disk, prealloc_kib: int = 65536) -> None:
        self._disk = disk
        self._prealloc = prealloc_kib * 1024
        self._name: str | None = None
        self._position = 0
        self._padded = 0
        self._batch: list[tuple[int, bytes]] = []
        self.size = 0
        self.records = 0

    def append(self, entries: Iterable[tuple[int, bytes]]) -> None:
        """Collect (zxid, entry) pairs; they are safe once a later L{commit} has said so."""
        self._batch += entries

    def commit(self, done: Done) -> None:
        """Make everything appended so far durable and say so; without anything new, wait for what is on its way."""
        if self._batch:
            self._write()
        self._disk.flush(done)

    def roll(self) -> None:
        """Let the next entry begin a new file."""
        if self._batch:
            self._write()
        if self._name is not None:
            self._disk.close(self._name)
            self._name = None
            self._position = self._padded = self.size = self.records = 0

    def _write(self) -> None:
        batch = self._batch
        self._batch = []
        name = self._name
        if name is None:
            name = self._name = log_name(batch[0][0])
            self._disk.create(name, HEADER)
            self._position = self._padded = len(HEADER)
        if self._prealloc > 0 and self._position + _PREALLOC_MARGIN >= self._padded:
            if self._position > self._padded:
                self._padded = (self._position + self._prealloc) // self._prealloc * self._prealloc
            else:
                self._padded += self._prealloc
            self._disk.extend(name, self._padded)
        data = frame(batch)
        self._disk.append(name, data)
        self._position += len(data)
        self.records += len(batch)
        self.size = max(self._position, self._padded)
