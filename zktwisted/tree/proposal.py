"""
What is prepared and not yet applied: the nodes as they will be, and the transaction that makes them so.

Values only: L{zktwisted.tree.prepare} makes them, L{zktwisted.tree.datatree} does what they say.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zktwisted.tree.znode import Znode
from zktwisted.wire import txns

__all__ = ["ChangeRecord", "Gone", "Proposal", "Touched"]


class ChangeRecord(Znode):
    """
    A node as it will be once what is pending has been applied: a copy, to be changed and then entered.

    @ivar child_count: how many children it has then.
    @ivar sequence: the next sequence number of its children.  It is the stored cversion until that cannot grow any
        more; from then on it wraps while the cversion stays (spec: server-semantics 5.1, overflow).
    """

    __slots__ = ("child_count", "sequence")

    child_count: int
    sequence: int

    def __init__(self, node: Znode) -> None:
        """@param node: what it is now, or will be before this change."""
        self.data = node.data
        self.acl = node.acl
        self.czxid = node.czxid
        self.mzxid = node.mzxid
        self.ctime = node.ctime
        self.mtime = node.mtime
        self.version = node.version
        self.cversion = node.cversion
        self.aversion = node.aversion
        self.owner = node.owner
        self.pzxid = node.pzxid
        self.digest = node.digest
        if isinstance(node, ChangeRecord):
            self.child_count = node.child_count
            self.sequence = node.sequence
        else:
            children = node.children
            self.child_count = len(children) if children else 0
            self.sequence = node.cversion


class Gone(ChangeRecord):
    """A node that will not be there any more."""

    __slots__ = ()

    exists = False


#: What a transaction makes of the nodes that it touches, by tree key, in the order in which it does so.
Touched = Sequence[tuple[bytes, Znode]]


class Proposal:
    """
    A prepared transaction on its way to being durable, agreed upon, and applied.

    @ivar header: its TxnHeader.
    @ivar entry: header, body and digest as they are logged and proposed.
    @ivar touched: the nodes as they are afterwards; empty when another server has prepared it.
    @ivar fused: C{touched} is all that is needed to apply it: body and operations were never made
        (L{zktwisted.tree.fused}).
    @ivar body: the record of its type.
    @ivar operations: of a multi: its operations, decoded.
    """

    __slots__ = ("body", "entry", "fused", "header", "operations", "touched")

    def __init__(
        self,
        header: txns.TxnHeader,
        body: Any,
        entry: bytes,
        touched: Touched = (),
        operations: list[tuple[int, Any]] | None = None,
        fused: bool = False,
    ) -> None:
        self.header = header
        self.body = body
        self.entry = entry
        self.touched = touched
        self.operations = operations
        self.fused = fused
