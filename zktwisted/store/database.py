"""
The files of one server: restore from them, log to them, write snapshots, throw old ones away.

L{Database} moves opaque entries and opaque images; what they mean is known to the L{Target} that it restores into.
L{NullDatabase} has the same face and keeps nothing, for a server that lives in another program's memory.

This module decides when a log is rolled and a snapshot is due, from counts and an injected source of chance.
It knows no transactions, no tree and no clock, and logs nothing: what an operator should know comes back as L{Note}s.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from zktwisted.errors import DataDirectoryError, ProtocolError, StoreError
from zktwisted.store import snapshot, txnlog
from zktwisted.store.disk import PARTIAL_PREFIX, Disk, Done, FileBytes
from zktwisted.store.epochs import Epochs, load_epochs, write_epoch
from zktwisted.store.history import Batch, read_log
from zktwisted.store.snapshot import SnapshotDigest, Trailer
from zktwisted.store.txnlog import Note, TxnLog

__all__ = [
    "Database",
    "Epochs",
    "Note",
    "NullDatabase",
    "Options",
    "QuorumStorage",
    "Restored",
    "SnapshotDigest",
    "Storage",
    "Target",
    "Trailer",
    "check_directories",
]

#: How many of the newest snapshots are tried (spec: storage 4).
_SNAPSHOTS_TRIED = 100
_INITIALIZE = "initialize"


@dataclass(frozen=True)
class Options:
    """What zoo.cfg and the system properties say about storage; names and defaults are ZooKeeper's."""

    #: snapCount: a snapshot is due after half of this to this many transactions, by chance.
    snap_count: int = 100_000
    #: snapSizeLimitInKb: the same for the bytes of the log, which count with their padding; 0 or less: no limit.
    snap_size_limit_kib: int = 4_194_304
    #: txnLogSizeLimitInKb: a log longer than this is rolled; 0 or less: no limit.
    txn_log_size_limit_kib: int = 0
    #: preAllocSize: a log grows by this much at a time; 0 or less: with each write.
    pre_alloc_size_kib: int = 65536
    #: snapshot.compression.method: C{gz}, C{snappy}, anything else is none.
    compression_method: str = ""
    #: commitLogCount: transactions kept in memory for servers that fell behind.
    commit_log_count: int = 500
    #: snapshot.trust.empty: start from logs alone.
    trust_empty: bool = False
    #: db.autocreate: a directory without any file is an empty database.
    autocreate: bool = True
    #: jute.maxbuffer + jute.maxbuffer.extrasize: the longest entry that is believed.
    max_entry: int = txnlog.DEFAULT_MAX_ENTRY


class Target(Protocol):
    """What is restored: a tree and the sessions."""

    def reset(self) -> None:
        """Become empty: the tree of a new database, no sessions."""

    def load_image(self, data: FileBytes, offset: int) -> int:
        """
        Replace everything by the image at C{offset} and return the offset behind it.

        @raise ProtocolError: it makes no sense; L{reset} or another image follows.
        """

    def loaded(self, zxid: int, digest: SnapshotDigest | None) -> None:
        """
        Take note that what stands now is (at least) the state after C{zxid}; the replay begins.

        @param zxid: from the snapshot's file name; 0 for an empty tree.
        @param digest: the tree digest once the transaction of its own zxid has been replayed.
        """

    def apply_entry(self, entry: bytes) -> None:
        """Apply one entry of the log; the results of single operations are not asked for (spec: storage 5)."""


@dataclass
class Restored:
    """What L{Database.restore} found."""

    #: The last transaction in the tree; -1 if this server must not be believed (no data, and none was expected).
    zxid: int = 0
    #: The zxid of the snapshot used, C{None} if there was none.
    snapshot_zxid: int | None = None
    #: Its name.
    snapshot_name: str | None = None
    #: When it was written, in ms since the epoch.
    snapshot_time_ms: int = 0
    #: Transactions replayed.
    entries: int = 0
    #: The database is new: C{snapshot.0} has to be written before anything is logged.
    new: bool = False
    #: What an operator should read.
    notes: list[Note] = field(default_factory=list)


class Storage(Protocol):
    """What a server needs of its store, with files or without."""

    def append(self, entries: Iterable[tuple[int, bytes]], /) -> None:
        """Collect (zxid, entry) pairs for the next L{commit}."""

    @property
    def committed(self) -> deque[tuple[int, bytes]]:
        """The last transactions applied, as (zxid, entry), oldest first, for servers that fell behind."""

    @property
    def snapshotting(self) -> bool:
        """Whether a snapshot is being written."""

    @property
    def last_snapshot_zxid(self) -> int:
        """The zxid of the newest complete snapshot, -1 without any."""

    def restore(self, target: Target) -> Restored:
        """Rebuild the last state."""

    def commit(self, done: Done) -> None:
        """Make durable what was appended."""

    def roll(self) -> None:
        """Let the next entry begin a new log file."""

    def snapshot_due(self) -> bool:
        """Say whether it is time for a snapshot."""

    def snapshot(
        self, zxid: int, chunks: Iterator[bytes], trailer: Callable[[], Trailer]
    ) -> Generator[Awaitable[None] | None, None, None]:
        """Write a snapshot in steps."""

    def purge(self, keep: int) -> list[str]:
        """Throw old files away."""


class QuorumStorage(Storage, Protocol):
    """What a member of an ensemble needs besides."""

    def epochs(self, last_zxid: int) -> Awaitable[Epochs]:
        """Read the epochs on disk."""

    def write_epoch(self, name: str, epoch: int) -> Awaitable[None]:
        """Replace one of them."""

    def log_from(self, zxid: int, until: int, limit: int) -> Iterator[Batch | None]:
        """Read the logs."""

    def newest_snapshot_size(self) -> int:
        """The size of the newest snapshot."""

    def last_logged_zxid(self) -> int:
        """The zxid of the last record on disk, -1 without logs."""

    def truncate(self, zxid: int) -> None:
        """Forget every transaction after C{zxid}."""

    def replace_history(self, zxid: int) -> None:
        """Forget all that is not the snapshot of C{zxid}."""


def check_directories(log_disk: Disk, snap_disk: Disk, autocreate: bool = True) -> None:
    """
    Make the two directories ready (spec: storage 1, start-up checks).

    @param autocreate: zookeeper.datadir.autocreate.
    @raise DataDirectoryError: a server must not start on them.
    """
    two = log_disk is not snap_disk and log_disk.path != snap_disk.path
    for disk, what in ((log_disk, "data"), (snap_disk, "snap")):
        if not disk.exists():
            if not autocreate:
                raise DataDirectoryError(f"Missing {what} directory {disk.path}, zookeeper.datadir.autocreate is false")
            try:
                disk.make()
            except StoreError as e:
                raise DataDirectoryError(f"Unable to create {what} directory {disk.path}: {e}") from e
    for disk, what in ((log_disk, "data"), (snap_disk, "snap")):
        if not disk.writable():
            raise DataDirectoryError(f"Cannot write to {what} directory {disk.path}")
    hint = "Check if dataLogDir and dataDir configuration is correct."
    if two and any(name.startswith("snapshot.") for name in log_disk.names()):
        raise DataDirectoryError(f"Log directory has snapshot files. {hint}")
    if two and any(name.startswith("log.") for name in snap_disk.names()):
        raise DataDirectoryError(f"Snapshot directory has log files. {hint}")


class Database:
    """
    The transaction logs and snapshots of one server.

    Order of calls: L{restore} once (and after L{truncate}), then L{append} and L{commit} for ever.
    """

    def __init__(
        self,
        log_disk: Disk,
        snap_disk: Disk,
        options: Options,
        entropy: Random,
        *,
        base: Disk | None = None,
    ) -> None:
        """
        @param log_disk: the directory of the logs.
        @param snap_disk: the directory of the snapshots; may be the very same object.
        @param entropy: decides how far from snapCount/2 to snapCount the next snapshot is.
        @param base: the directory above C{log_disk}, where the marker C{initialize} is looked for.
        """
        self._log_disk = log_disk
        self._snap_disk = snap_disk
        self._base = base
        self._options = options
        self._entropy = entropy
        self._log = TxnLog(log_disk, options.pre_alloc_size_kib)
        #: Collect (zxid, entry) pairs for the next L{commit}.
        self.append: Callable[[Iterable[tuple[int, bytes]]], None] = self._log.append
        #: The last transactions applied, as (zxid, entry), oldest first, for servers that fell behind.
        self.committed: deque[tuple[int, bytes]] = deque(maxlen=max(0, options.commit_log_count))
        self._snapshotting = False
        self._last_snapshot = -1
        # Logged since the last roll, in logs that were closed for their size.
        self._records = 0
        self._bytes = 0
        self._records_max = 0
        self._bytes_max = 0
        self._draw()

    @property
    def snapshotting(self) -> bool:
        """Whether a snapshot is being written."""
        return self._snapshotting

    @property
    def last_snapshot_zxid(self) -> int:
        """The zxid of the newest complete snapshot, -1 without any."""
        return self._last_snapshot

    # -- restoring

    def restore(self, target: Target) -> Restored:
        """
        Rebuild the last state from the newest snapshot that is whole and the logs behind it (spec: storage 4).

        @raise StoreError: the files are damaged in a way that no crash leaves, or contradict one another.
        """
        result = Restored()
        self._remove_partial()
        initialize = self._take_marker()
        self.committed.clear()
        logs = txnlog.log_files(self._log_disk.names())
        if not self._load_newest(target, result):
            target.reset()
            if logs and not self._options.trust_empty:
                raise StoreError(
                    "No snapshot found, but there are log entries. Something is broken! (If the logs are complete,"
                    f" start once with snapshot.trust.empty=true; see {self._snap_disk.path}, {self._log_disk.path})"
                )
            if not logs:
                result.new = initialize or self._options.autocreate
                result.zxid = 0 if result.new else -1
                target.loaded(0, None)
                return result
            target.loaded(0, None)
        self._replay(target, self._without_empty(logs, result), result)
        self._last_snapshot = -1 if result.snapshot_zxid is None else result.snapshot_zxid
        return result

    def _remove_partial(self) -> None:
        for name in self._snap_disk.names():
            if name.startswith(PARTIAL_PREFIX + "snapshot."):
                self._snap_disk.remove(name)

    def _take_marker(self) -> bool:
        if self._base is None or not self._base.exists() or _INITIALIZE not in self._base.names():
            return False
        self._base.remove(_INITIALIZE)
        return True

    def _load_newest(self, target: Target, result: Restored) -> bool:
        disk = self._snap_disk
        tried = 0
        for zxid, name in snapshot.snapshot_files(disk.names()):
            if tried == _SNAPSHOTS_TRIED:
                break
            if not snapshot.is_candidate(disk, name):
                result.notes.append(Note(False, f"{disk.path}: {name} is no complete snapshot, ignored"))
                continue
            tried += 1
            try:
                trailer = snapshot.load(name, snapshot.open_image(disk, name), target.load_image)
            except StoreError as e:
                result.notes.append(Note(True, f"{disk.path}: {e}; trying an older one"))
                continue
            target.loaded(zxid, trailer.digest)
            result.zxid = result.snapshot_zxid = zxid
            result.snapshot_name = name
            result.snapshot_time_ms = disk.mtime_ms(name)
            return True
        if tried:
            reasons = "; ".join(note.text for note in result.notes if note.error)
            raise StoreError(f"Not able to find valid snapshots in {disk.path}: {reasons}")
        return False

    def _without_empty(self, logs: list[tuple[int, str]], result: Restored) -> list[tuple[int, str]]:
        """Delete the newest log if it is empty: that is what a crash in its very creation leaves."""
        if logs and self._log_disk.size(logs[-1][1]) == 0:
            name = logs[-1][1]
            self._log_disk.remove(name)
            result.notes.append(Note(False, f"{self._log_disk.path}: {name} was empty and has been deleted"))
            return logs[:-1]
        return logs

    def _replay(self, target: Target, logs: list[tuple[int, str]], result: Restored) -> None:
        wanted = result.zxid + 1
        last = result.zxid
        apply = target.apply_entry
        remember = self.committed.append
        for _, name in logs[txnlog.log_to_start_with(logs, wanted) :]:
            reader = txnlog.LogReader(name, self._log_disk.read(name), self._options.max_entry)
            for zxid, entry in reader:
                if zxid < wanted:
                    continue
                if zxid <= last:
                    result.notes.append(Note(True, f"{name}: zxid 0x{zxid:x} comes after 0x{last:x}"))
                else:
                    last = zxid
                try:
                    apply(entry)
                except ProtocolError as e:
                    raise StoreError(f"{name}: zxid 0x{zxid:x} (before offset {reader.offset}): {e}") from e
                remember((zxid, entry))
                result.entries += 1
            note = reader.torn_note()
            if note is not None:
                result.notes.append(note)
        result.zxid = last

    # -- logging

    def commit(self, done: Done) -> None:
        """
        Make durable everything appended so far, then call C{done(None)}; after a failure C{done(StoreError)}, for ever.

        The callback may come before this method returns.
        """
        self._log.commit(done)
        limit = self._options.txn_log_size_limit_kib
        log = self._log
        if 0 < limit * 1024 < log.size:
            # Only a snapshot's roll starts counting towards the next snapshot.
            self._records += log.records
            self._bytes += log.size
            log.roll()

    def roll(self) -> None:
        """Let the next entry begin a new log file, and count towards the next snapshot from there."""
        self._log.roll()
        self._records = self._bytes = 0

    def snapshot_due(self) -> bool:
        """
        Say whether it is time for a snapshot; if so, roll the log and draw the next threshold.

        To be asked after L{commit}.  The answer is C{True} once: a server still busy with a snapshot skips this one.
        """
        log = self._log
        if self._records + log.records <= self._records_max and not 0 < self._bytes_max < self._bytes + log.size:
            return False
        self._draw()
        self.roll()
        return True

    def _draw(self) -> None:
        half = max(2, self._options.snap_count) // 2
        self._records_max = half + self._entropy.randrange(half)
        half = max(0, self._options.snap_size_limit_kib) * 1024 // 2
        self._bytes_max = half + self._entropy.randrange(half) if half else 0

    def last_logged_zxid(self) -> int:
        """Return the zxid of the last record on disk, -1 without logs."""
        return txnlog.last_logged_zxid(self._log_disk, self._options.max_entry)

    def truncate(self, zxid: int) -> None:
        """
        Forget every transaction after C{zxid}, in logs and snapshots; L{restore} must follow (spec: storage 2.6).

        Nothing may be on its way to the disk.  Nothing is touched if what would be left is no history.

        @raise StoreError: there is no record of C{zxid} or a later one, or no snapshot of C{zxid} or an earlier one.
        """
        self.roll()
        disk, snap_disk = self._log_disk, self._snap_disk
        logs = txnlog.log_files(disk.names())
        if not logs or self.last_logged_zxid() < zxid:
            raise StoreError(f"No log files found to truncate! zxid 0x{zxid:x}, directory {disk.path}")
        snapshots = snapshot.snapshot_files(snap_disk.names())
        usable = any(first <= zxid and snapshot.is_candidate(snap_disk, name) for first, name in snapshots)
        if not usable and not self._options.trust_empty:
            raise StoreError(f"No snapshot to truncate to! zxid 0x{zxid:x}, directory {snap_disk.path}")
        # The latest first: a crash in between leaves a history without holes.
        for first, name in reversed(logs):
            if first > zxid:
                disk.remove(name)
        for first, name in snapshots:
            if first > zxid:
                snap_disk.remove(name)
        remaining = [log for log in logs if log[0] <= zxid]
        if remaining:
            name = remaining[-1][1]
            reader = txnlog.LogReader(name, disk.read(name), self._options.max_entry)
            disk.truncate(name, txnlog.cut_offset(reader, zxid))
        self.committed.clear()

    # -- in an ensemble

    def epochs(self, last_zxid: int) -> Awaitable[Epochs]:
        """
        Read the epochs that are on disk, or put there those of a new database (spec: quorum 5).

        @raise StoreError: they are no numbers, or contradict one another or the history.
        """
        return load_epochs(self._snap_disk, last_zxid)

    def write_epoch(self, name: str, epoch: int) -> Awaitable[None]:
        """Replace C{acceptedEpoch} or C{currentEpoch}; durable when the result has come."""
        return write_epoch(self._snap_disk, name, epoch)

    def log_from(self, zxid: int, until: int, limit: int) -> Iterator[Batch | None]:
        """Read the logs, see L{read_log}; may be iterated in a thread, and while the log is being written."""
        return read_log(self._log_disk, self._snap_disk, zxid, until, limit, self._options.max_entry)

    def newest_snapshot_size(self) -> int:
        """Return the size of the newest snapshot in bytes, 0 without any (spec: quorum 6.2, rule 5)."""
        disk = self._snap_disk
        for _, name in snapshot.snapshot_files(disk.names()):
            if snapshot.is_candidate(disk, name):
                return disk.size(name)
        return 0

    def replace_history(self, zxid: int) -> None:
        """
        Forget all that is not the snapshot of C{zxid}, which has just been written: it is another server's history.

        Between our log and what will be logged from here on, transactions are missing; and what is newer than the
        image was never committed.  A later start must believe neither (spec: quorum 7.1).

        Nothing may be on its way to the disk.
        """
        self.roll()
        # The latest first, and the snapshots last: what a crash in between leaves is no history with a hole.
        for _, name in reversed(txnlog.log_files(self._log_disk.names())):
            self._log_disk.remove(name)
        for first, name in snapshot.snapshot_files(self._snap_disk.names()):
            if first != zxid:
                self._snap_disk.remove(name)
        self._last_snapshot = zxid

    # -- snapshots

    def snapshot(
        self, zxid: int, chunks: Iterator[bytes], trailer: Callable[[], Trailer]
    ) -> Generator[Awaitable[None] | None, None, None]:
        """
        Write a snapshot in steps: between them others may run, and an awaitable that comes out is to be waited for.

        An L{twisted.internet.task.Cooperator} drives such an iterator.  If waiting fails or the rest is not wanted,
        call C{close()} on it.  The file has its name, and is durable, when the last awaitable has fired and the
        iterator has come to its end.

        @param zxid: the last transaction applied when C{chunks} begins; the file's name.
        @param chunks: the image.
        @param trailer: asked when the image has been taken: digest and zxid as they are then.
        @raise StoreError: one is being written already, or snappy is not installed.
        """
        if self._snapshotting:
            raise StoreError("a snapshot is being written already")
        self._snapshotting = True
        try:
            method = self._options.compression_method
            name = snapshot.snapshot_name(zxid, method)
            stream = self._snap_disk.stream(name, snapshot.compressor(method))
            complete = False
            try:
                for data in snapshot.encode(chunks, trailer):
                    yield stream.write(data)
                yield stream.finish()
                complete = True
            finally:
                if not complete:
                    stream.abort()
            self._last_snapshot = max(self._last_snapshot, zxid)
        finally:
            self._snapshotting = False

    def purge(self, keep: int) -> list[str]:
        """
        Throw away all but the newest C{keep} snapshots, and the logs that none of these needs (spec: storage 8).

        @return: the names of the files that will go.
        @raise StoreError: C{keep} is less than 3.
        """
        if keep < 3:
            raise StoreError("count should be greater than or equal to 3")
        snap_names, log_names = self._snap_disk.names(), self._log_disk.names()
        kept: list[int] = []
        for zxid, name in snapshot.snapshot_files(snap_names):
            if len(kept) < keep and snapshot.is_candidate(self._snap_disk, name):
                kept.append(zxid)
        if not kept:
            return []
        oldest = kept[-1]
        old_snapshots = [
            name
            for name in snap_names
            if name.startswith("snapshot.") and txnlog.zxid_of_name(name, "snapshot") < oldest
        ]
        logs = txnlog.log_files(log_names)
        # The newest log that begins at that snapshot or before may go on beyond it.
        old_logs = [name for _, name in logs[: txnlog.log_to_start_with(logs, oldest)]]
        self._snap_disk.discard(old_snapshots)
        self._log_disk.discard(old_logs)
        return old_snapshots + old_logs


class NullDatabase:
    """A store without files: every commit succeeds at once, and nothing outlives the process."""

    snapshotting = False
    last_snapshot_zxid = -1

    def __init__(self) -> None:
        #: Nobody falls behind.
        self.committed: deque[tuple[int, bytes]] = deque(maxlen=0)

    def append(self, entries: Iterable[tuple[int, bytes]]) -> None:
        """Forget the entries."""

    def restore(self, target: Target) -> Restored:
        """Begin empty."""
        target.reset()
        target.loaded(0, None)
        return Restored()

    def commit(self, done: Done) -> None:
        """Call C{done} at once."""
        done(None)

    def roll(self) -> None:
        """Do nothing: there is no log."""

    def snapshot_due(self) -> bool:
        """Never."""
        return False

    def snapshot(
        self, zxid: int, chunks: Iterator[bytes], trailer: Callable[[], Trailer]
    ) -> Generator[Awaitable[None] | None, None, None]:
        """Write nothing."""
        yield from ()

    def purge(self, keep: int) -> list[str]:
        """There is nothing to throw away."""
        return []
