"""
How a learner is brought up: which of DIFF, TRUNC and SNAP, and with which transactions (spec: quorum 6.2).

Pure functions over what the leader has: the zxid of the tree, the window of the last committed transactions in memory,
and the log on disk.  This module knows nothing of packets on their way, and nothing of who the learner is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from zktwisted.wire.ops import zxid_counter, zxid_epoch
from zktwisted.wire.quorum import DIFF, SNAP, TRUNC

__all__ = ["Entries", "History", "Plan", "log_limit", "plan", "plan_with_log"]

Entries = Sequence[tuple[int, bytes]]
"""Transactions as (zxid, entry), ascending."""


class History(Protocol):
    """What a server that brings others up knows of the past."""

    def last_zxid(self) -> int:
        """Return the zxid of the last transaction applied to the tree."""

    def window(self) -> Entries:
        """Return the last transactions that were applied, at most commitLogCount."""

    def newest_snapshot_size(self) -> int:
        """Return the size of the newest snapshot file in bytes, 0 without any."""


class Plan(NamedTuple):
    """
    What to send to a learner before it joins the broadcast.

    @ivar kind: DIFF, TRUNC or SNAP.
    @ivar zxid: what that packet carries; of SNAP, the zxid that the tree has now.
    @ivar entries: transactions, each sent as a PROPOSAL and its COMMIT.
    @ivar start: whatever is later than this zxid has to be forwarded.
    """

    kind: int
    zxid: int
    entries: list[tuple[int, bytes]]
    start: int


def plan(peer: int, last: int, window: Entries, *, forced: bool = False, log: bool = True) -> Plan | None:
    """
    Decide how to bring a learner up.

    @param peer: the last zxid in the learner's log.
    @param last: the last zxid in the tree.
    @param window: the last transactions applied, or none.
    @param forced: send an image whatever the learner has.
    @param log: whether the log on disk may be asked.
    @return: C{None} if the log has to be asked first: see L{plan_with_log}.
    """
    if forced:
        return _image(last)
    if peer == last:
        return Plan(DIFF, peer, [], peer)
    oldest, newest = (window[0][0], window[-1][0]) if window else (last, last)
    if peer > newest and zxid_counter(peer) != 0:
        return Plan(TRUNC, newest, [], newest)
    if oldest <= peer <= newest:
        walk = _Walk(peer, newest)
        walk.over(window, newest)
        return walk.plan() or _image(last)
    if peer < oldest and log:
        return None
    return _image(last)


def plan_with_log(peer: int, last: int, window: Entries, records: Entries | None) -> Plan:
    """
    Decide about a learner that is older than the window.

    @param records: what the log on disk holds, from C{peer} or before it, to its end; C{None} if it cannot be used.
        Records later than the window's begin are not looked at: they need not be committed.
    """
    if not records or records[0][0] > peer:
        return _image(last)
    oldest, newest = (window[0][0], window[-1][0]) if window else (last, last)
    walk = _Walk(peer, newest)
    walk.over(records, oldest)
    if walk.queued < oldest:
        # A gap between the end of the log and the window: nothing of this is of use.
        return _image(last)
    walk.over(window, newest)
    return walk.plan() or _image(last)


def log_limit(factor: float, snapshot_size: int) -> int | None:
    """
    Say how many bytes of log may be sent instead of an image.

    @param factor: snapshotSizeFactor.
    @return: 0 for any number; C{None} if the log is not to be read at all.
    """
    if factor < 0:
        return None
    return int(snapshot_size * (0.33 if factor > 1 else factor))


def _image(last: int) -> Plan:
    return Plan(SNAP, last, [], last)


class _Walk:
    """A walk over committed transactions, in the learner's stead: what it lacks, and what it has too much."""

    def __init__(self, peer: int, announced: int) -> None:
        self._peer = peer
        self._announced = announced
        self._kind = 0
        self._zxid = 0
        self._entries: list[tuple[int, bytes]] = []
        #: The last transaction that the learner will have.
        self.queued = peer

    def over(self, source: Iterable[tuple[int, bytes]], bound: int) -> None:
        """Walk over transactions up to C{bound}."""
        previous = -1
        for zxid, entry in source:
            if zxid > bound:
                break
            if zxid < self._peer:
                previous = zxid
                continue
            if self._kind == 0:
                if zxid == self._peer:
                    self._operation(DIFF, self._announced)
                    continue
                if zxid_counter(self._peer) == 0:
                    # The zxid with which an epoch begins is in no log: everybody of the epoch has it.
                    self._operation(DIFF, self._announced)
                elif zxid_epoch(zxid) != zxid_epoch(self._peer):
                    # What the learner has of its own may be older than what a truncation can name.
                    return
                else:
                    self._operation(TRUNC, previous)
            if zxid > self.queued:
                self._entries.append((zxid, entry))
                self.queued = zxid

    def _operation(self, kind: int, zxid: int) -> None:
        self._kind, self._zxid = kind, zxid

    def plan(self) -> Plan | None:
        """Return what came out of it; C{None} if the learner's history has no common point with ours."""
        return Plan(self._kind, self._zxid, self._entries, self.queued) if self._kind else None
