"""
The smallest thing that can be restored: it remembers which entries it was given.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from struct import error, pack, unpack_from

from zktwisted.errors import ProtocolError, StoreError
from zktwisted.store.database import Database, Options, Restored, SnapshotDigest, Trailer
from zktwisted.store.disk import FileBytes
from zktwisted.testing.disk import MemoryDisk


def entry(zxid: int, payload: bytes = b"") -> bytes:
    """Return an entry: a TxnHeader with this zxid, and any body."""
    return pack(">qiqqi", 7, 1, zxid, 1_000_000 + zxid, -1) + payload


class Toy:
    """
    A target whose image is the list of the zxids it has seen.

    @ivar zxids: those.
    @ivar events: what was asked of it, in order.
    @ivar digest: the one that the last snapshot had.
    """

    def __init__(self) -> None:
        self.zxids: list[int] = []
        self.events: list[str] = []
        self.digest: SnapshotDigest | None = None
        self.refuse_image = False
        self.refuse_entry = False

    def reset(self) -> None:
        self.events.append("reset")
        self.zxids = []

    def load_image(self, data: FileBytes, offset: int) -> int:
        self.events.append("image")
        try:
            (count,) = unpack_from(">i", data, offset)
            self.zxids = list(unpack_from(f">{count}q", data, offset + 4))
        except error as e:
            raise ProtocolError(str(e)) from e
        if self.refuse_image:
            raise ProtocolError("refused")
        return offset + 4 + 8 * count

    def loaded(self, zxid: int, digest: SnapshotDigest | None) -> None:
        self.events.append(f"loaded {zxid}")
        self.digest = digest

    def apply_entry(self, entry: bytes) -> None:
        if self.refuse_entry:
            raise ProtocolError("Unsupported Txn with type=99")
        (zxid,) = unpack_from(">q", entry, 12)
        self.zxids.append(zxid)

    def chunks(self) -> Iterator[bytes]:
        """Return the image as it is now, in two chunks."""
        return iter((pack(">i", len(self.zxids)), pack(f">{len(self.zxids)}q", *self.zxids)))

    def trailer(self) -> Trailer:
        """Return what follows the image."""
        last = self.zxids[-1] if self.zxids else 0
        return Trailer(SnapshotDigest(last, 2, len(self.zxids)), last)


class Committed:
    """Collects what became of commits."""

    def __init__(self) -> None:
        self.results: list[StoreError | None] = []

    def __call__(self, error: StoreError | None) -> None:
        self.results.append(error)


def database(disk: MemoryDisk, snap_disk: MemoryDisk | None = None, seed: int = 1, **options: object) -> Database:
    """Open a database in memory; logs are preallocated by 4 KiB unless said otherwise."""
    values: dict[str, object] = {"pre_alloc_size_kib": 4, **options}
    return Database(disk, snap_disk or disk, Options(**values), Random(seed))  # type: ignore[arg-type]


def restored(disk: MemoryDisk, **options: object) -> tuple[Database, Toy, Restored]:
    """Open and restore."""
    opened = database(disk, **options)
    toy = Toy()
    return opened, toy, opened.restore(toy)


def begun(disk: MemoryDisk, **options: object) -> tuple[Database, Toy]:
    """Open a new database and write its first snapshot."""
    opened, toy, _ = restored(disk, **options)
    write_snapshot(opened, toy, 0)
    return opened, toy


def write_snapshot(opened: Database, toy: Toy, zxid: int) -> None:
    """Write a snapshot without a pause."""
    for _ in opened.snapshot(zxid, toy.chunks(), toy.trailer):
        pass


def write(opened: Database, toy: Toy, *zxids: int, payload: bytes = b"") -> list[StoreError | None]:
    """Log and apply some entries, and return what the commit said."""
    committed = Committed()
    for zxid in zxids:
        opened.append([(zxid, entry(zxid, payload))])
        toy.zxids.append(zxid)
    opened.commit(committed)
    return committed.results
