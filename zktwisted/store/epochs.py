"""
The two epochs that a member of an ensemble keeps on disk, as decimal text in files of their own.

C{acceptedEpoch} is the highest epoch that the server has promised to a leader; C{currentEpoch} is the one whose
history it holds.  When which of them is written is not known here (spec: quorum 5, storage 7).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable
from typing import NamedTuple

from zktwisted.errors import StoreError
from zktwisted.store.disk import Disk
from zktwisted.store.txnlog import Note

__all__ = ["ACCEPTED", "CURRENT", "Epochs", "load_epochs", "write_epoch"]

ACCEPTED = "acceptedEpoch"
CURRENT = "currentEpoch"

#: It is the upper half of a zxid, which is signed.
_EPOCH_MAX = (1 << 31) - 1


class Epochs(NamedTuple):
    """What L{load_epochs} found."""

    accepted: int
    current: int
    #: What an operator should read.
    notes: tuple[Note, ...] = ()


def write_epoch(disk: Disk, name: str, epoch: int) -> Awaitable[None]:
    """Replace one of the files; it is durable when the result has come, and not changed if that fails."""
    return disk.write_atomic(name, str(epoch).encode())


async def load_epochs(disk: Disk, last_zxid: int) -> Epochs:
    """
    Read both files, write those that are missing, and hold them against the history.

    A crash between the end of a synchronization and the new C{currentEpoch} leaves transactions of a later epoch than
    that file tells.  Where the promise covers them, that is what happened: the log holds a beginning of what the
    leader of that later epoch had, as the log of any follower of it does, and the file is put right.  ZooKeeper
    believes C{currentEpoch.tmp} then, and without it refuses to start.  We do not look at that file: it may be of an
    earlier crash, and tell of an epoch of whose history we have a part only.

    @param last_zxid: the last transaction in the log or the snapshot, -1 for a server that must not be believed.

    @raise StoreError: a file is no number, or they contradict one another or the history.
    """
    epoch = max(last_zxid >> 32, 0)
    names = disk.names()
    current = _read(disk, names, CURRENT)
    accepted = _read(disk, names, ACCEPTED)
    notes: list[Note] = []
    if current is None:
        current = epoch
        await write_epoch(disk, CURRENT, current)
    elif epoch > current:
        if accepted is None or accepted < epoch:
            raise StoreError(
                f"{disk.path}: The current epoch, {current:x}, is older than the last zxid, 0x{last_zxid:x}"
            )
        notes.append(Note(False, f"{disk.path}: {CURRENT} is {epoch} and not {current}: a crash came in between"))
        current = epoch
        await write_epoch(disk, CURRENT, current)
    if accepted is None:
        accepted = max(epoch, current)
        await write_epoch(disk, ACCEPTED, accepted)
    if accepted < current:
        raise StoreError(f"{disk.path}: The accepted epoch, {accepted:x} is less than the current epoch, {current:x}")
    return Epochs(accepted, current, tuple(notes))


def _read(disk: Disk, names: list[str], name: str) -> int | None:
    if name not in names:
        return None
    text = bytes(disk.read(name)).decode("latin-1").split("\n", 1)[0].strip()
    if not re.fullmatch("[+-]?[0-9]{1,19}", text) or int(text) > _EPOCH_MAX:
        raise StoreError(f"Found {text!r} in {disk.path}/{name}, where an epoch should be")
    return int(text)
