"""
Whether this server's tree is what other servers, or the server's own past, say that it is.

Each transaction tells the digest of the tree that it results in.  A mismatch is counted and logged once, and never
stops anything (spec: quorum 2.1, storage 6).  What a digest is made of is known to the tree.
"""

from __future__ import annotations

from twisted.logger import Logger

from zktwisted.server.metrics import ServerMetrics
from zktwisted.tree.datatree import DataTree
from zktwisted.tree.prepare import DIGEST_VERSION
from zktwisted.wire.ops import show_zxid
from zktwisted.wire.txns import TxnDigest

__all__ = ["DigestCheck"]

log = Logger()


class DigestCheck:
    """
    Holds a tree against digests as its transactions are applied.

    @ivar fuzzy: whether the tree may be ahead of its transactions, as behind an image that was taken while they went
        on: then digests need not agree before they once did.
    """

    def __init__(self, tree: DataTree, metrics: ServerMetrics, source: str, *, enabled: bool) -> None:
        """
        @param source: who tells the digests, for the log.
        @param enabled: whether the tree keeps one itself.
        """
        self.fuzzy = False
        self._tree = tree
        self._metrics = metrics
        self._source = source
        self._enabled = enabled
        self._told = False

    def compare(self, zxid: int, digest: TxnDigest | None) -> None:
        """Compare the digest that came with the transaction just applied, if one did."""
        if digest is None or digest.version != DIGEST_VERSION or not self._enabled:
            return
        if digest.tree_digest == self._tree.digest:
            self.fuzzy = False
        elif not self.fuzzy:
            self._metrics.digest_mismatches_count += 1
            if not self._told:
                self._told = True
                log.error(
                    "The tree's digest is {ours} where {source} says {theirs}, first at zxid {zxid}",
                    ours=self._tree.digest,
                    source=self._source,
                    theirs=digest.tree_digest,
                    zxid=show_zxid(zxid),
                )
