"""
Which part of the tree is used how much: reads and writes by the first element of their paths.

The figures are ZooKeeper's C{read_per_namespace} and C{write_per_namespace}, in bytes (spec: operations 3.4).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zktwisted.wire import ops, txns

if TYPE_CHECKING:
    from zktwisted.server.metrics import MetricSet, Summary
    from zktwisted.tree.proposal import Proposal

__all__ = ["WriteCounter", "counter_of_reads", "counter_of_writes"]

_STAT_SIZE = 68
_WITH_DATA = frozenset((ops.CREATE, ops.CREATE2, ops.CREATE_CONTAINER, ops.CREATE_TTL, ops.SET_DATA))
_COUNTED = _WITH_DATA | {ops.DELETE, ops.DELETE_CONTAINER}


class _Counter:
    """
    Counts uses of paths by their first element.

    This runs for every operation, so the summary of each first element is remembered by its bytes.

    @ivar known: those summaries.
    """

    __slots__ = ("_extra", "_sizes", "known")

    def __init__(self, sizes: MetricSet, extra: int) -> None:
        self.known: dict[bytes, Summary] = {}
        self._sizes = sizes
        self._extra = extra

    def count(self, path: bytes, size: int) -> None:
        """Count one use of a path; C{size}: of what is read or written there."""
        end = path.find(b"/", 1)
        first = path[1:end] if end > 0 else path[1:]
        summary = self.known.get(first)
        if summary is None:
            if not first:
                return
            summary = self._sizes.member(first.decode("utf-8", "replace"))
            if summary is None:
                return
            if len(self.known) < self._sizes.LIMIT:
                self.known[first] = summary
        # Summary.add, without the call: this is a share of every read that one can see.
        value = len(path) + size + self._extra
        summary.count += 1
        summary.total += value
        if value > summary.greatest:
            summary.greatest = value
        if value < summary.least:
            summary.least = value


def counter_of_reads(sizes: MetricSet) -> Callable[[bytes, int], None]:
    """Return what counts one node read: its path, and the bytes of its data, or of its children's names."""
    return _Counter(sizes, _STAT_SIZE).count


class WriteCounter(_Counter):
    """Counts writes by the first element of their paths."""

    __slots__ = ()

    def count_proposal(self, proposal: Proposal) -> None:
        """Count the operations of a transaction that has been applied."""
        operations = proposal.operations
        if operations is None:
            self._count_one(proposal.header.type, proposal.body)
        elif not txns.is_failed(operations):
            for op, txn in operations:
                self._count_one(op, txn)

    def count_fused(self, proposal: Proposal) -> None:
        """Count the operations of a transaction of which nothing but the touched nodes was made."""
        touched = proposal.touched
        if proposal.header.type == ops.MULTI:
            for path, node in touched:
                self.count(path, len(node.data or b""))
        else:
            # Of a create the last one is the new node, in front of it is its parent.
            path, node = touched[-1]
            self.count(path, len(node.data or b""))

    def _count_one(self, op: int, txn: Any) -> None:
        if op in _COUNTED:
            data = txn.data if op in _WITH_DATA else None
            self.count(txn.path, len(data) if data else 0)


def counter_of_writes(sizes: MetricSet) -> WriteCounter:
    """Return what counts transactions that have been applied."""
    return WriteCounter(sizes, 0)
