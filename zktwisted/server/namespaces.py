"""
Which part of the tree is used how much: reads and writes by the first element of their paths.

The figures are ZooKeeper's C{read_per_namespace} and C{write_per_namespace}, in bytes (spec: operations 3.4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zktwisted.tree.prepare import Proposal
from zktwisted.wire import ops, txns

if TYPE_CHECKING:
    from zktwisted.server.metrics import ServerMetrics

__all__ = ["count_read", "count_writes"]

_STAT_SIZE = 68
_WITH_DATA = frozenset((ops.CREATE, ops.CREATE2, ops.CREATE_CONTAINER, ops.CREATE_TTL, ops.SET_DATA))
_COUNTED = _WITH_DATA | {ops.DELETE, ops.DELETE_CONTAINER}


def _namespace(path: bytes) -> str:
    """Return the first element of a path, empty for the root."""
    parts = path.split(b"/", 2)
    return parts[1].decode("utf-8", "replace") if len(parts) > 1 else ""


def count_read(metrics: ServerMetrics, path: bytes, size: int) -> None:
    """
    Count one node read.

    @param size: bytes of its data, or of its children's names.
    """
    namespace = _namespace(path)
    if namespace:
        metrics.read_per_namespace.add(namespace, len(path) + size + _STAT_SIZE)


def count_writes(metrics: ServerMetrics, proposal: Proposal) -> None:
    """Count the operations of a transaction that has been applied."""
    if proposal.fused:
        # Of a create the last one is the new node, in front of it is its parent.
        touched = proposal.touched if proposal.header.type == ops.MULTI else proposal.touched[-1:]
        for path, node in touched:
            namespace = _namespace(path)
            if namespace:
                metrics.write_per_namespace.add(namespace, len(path) + (len(node.data) if node.data else 0))
        return
    operations = proposal.operations
    if operations is None:
        op = proposal.header.type
        if op in _COUNTED:
            _count_write(metrics, op, proposal.body)
    elif not txns.is_failed(operations):
        for op, txn in operations:
            if op in _COUNTED:
                _count_write(metrics, op, txn)


def _count_write(metrics: ServerMetrics, op: int, txn: Any) -> None:
    path = txn.path
    namespace = _namespace(path)
    if namespace:
        data = txn.data if op in _WITH_DATA else None
        metrics.write_per_namespace.add(namespace, len(path) + (len(data) if data else 0))
