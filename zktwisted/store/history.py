"""
Reading the logs of a server that runs: what a learner that fell far behind has missed.

What is sent to whom is decided elsewhere; here it is seen to that nothing is missing in what is read
(spec: quorum 6.2, rule 5).
"""

from __future__ import annotations

from collections.abc import Iterator

from zktwisted.store import snapshot, txnlog
from zktwisted.store.disk import Disk

__all__ = ["Batch", "read_log"]

Batch = list[tuple[int, bytes]]
"""(zxid, entry) pairs in order."""

#: A batch is handed over when it has so many records or bytes: about a millisecond of work.
_BATCH_RECORDS = 512
_BATCH_BYTES = 1 << 18


def read_log(
    log_disk: Disk, snap_disk: Disk, zxid: int, until: int, limit: int, max_entry: int = txnlog.DEFAULT_MAX_ENTRY
) -> Iterator[Batch | None]:
    """
    Read the logs in batches: first the last record of C{zxid} or before, then all up to C{until}.

    C{None} comes, as the last thing, where the logs do not help: they begin later, there is more than C{limit} in
    them, or transactions are missing between two records.  Such a hole is where this server got an image from its
    leader; within an epoch zxids tell of it, between two epochs a snapshot does.

    @param until: the last zxid that is wanted.
    @param limit: bytes, 0 for no limit.
    @raise StoreError: a log is damaged.
    """
    images = [first for first, _ in snapshot.snapshot_files(snap_disk.names())]
    before: tuple[int, bytes] | None = None
    batch: Batch = []
    size = total = 0
    last = -1
    for record in _records(log_disk, zxid, max_entry):
        found, entry = record
        if found <= zxid:
            before = record
            continue
        if before is None:
            yield None
            return
        if last < 0:
            batch.append(before)
            last = before[0]
        if found > until:
            break
        if found <= last:
            continue
        if not _adjoin(last, found, images):
            yield None
            return
        last = found
        batch.append(record)
        size += len(entry)
        if len(batch) >= _BATCH_RECORDS or size >= _BATCH_BYTES:
            total += size
            if 0 < limit < total:
                yield None
                return
            yield batch
            batch = []
            size = 0
    if last < 0:
        if before is None:
            yield None
            return
        batch.append(before)
    if 0 < limit < total + size:
        yield None
    elif batch:
        yield batch


def _records(disk: Disk, zxid: int, max_entry: int) -> Iterator[tuple[int, bytes]]:
    logs = txnlog.log_files(disk.names())
    for _, name in logs[txnlog.log_to_start_with(logs, zxid) :]:
        data = disk.read(name)
        if len(data) >= len(txnlog.HEADER):  # else its first record is on its way
            yield from txnlog.LogReader(name, data, max_entry)


def _adjoin(last: int, zxid: int, images: list[int]) -> bool:
    """Say whether nothing was committed between two records."""
    if last >> 32 == zxid >> 32:
        return zxid == last + 1
    return zxid & 0xFFFFFFFF == 1 and not any(last < image < zxid for image in images)
