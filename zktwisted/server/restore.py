"""
What the store restores into: the tree and the sessions of a server that is starting.

Knows images and log entries, and that their digests should agree.  Refuses to know files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zktwisted.server.digests import DigestCheck
from zktwisted.store.database import SnapshotDigest
from zktwisted.store.disk import FileBytes
from zktwisted.tree import image
from zktwisted.tree.replay import apply_entry
from zktwisted.wire import ops, txns

if TYPE_CHECKING:
    from zktwisted.server.core import ZooKeeperServer

__all__ = ["RestoreTarget"]

class RestoreTarget:
    """
    The server's tree and sessions while the store replays them.

    Compares digests as it goes (spec: storage 6); a mismatch is counted and logged once, and never stops anything.
    """

    def __init__(self, server: ZooKeeperServer) -> None:
        self._server = server
        self._fuzzy_until = 0
        self._check = DigestCheck(server.tree, server.metrics, "the log", enabled=server.config.digest_enabled)

    def reset(self) -> None:
        """Become the tree of a new database."""
        self._server.tree.reset()
        self._server.timeouts.clear()

    def load_image(self, data: FileBytes, offset: int) -> int:
        """Replace tree and sessions by an image."""
        sessions, end = image.load(self._server.tree, data, offset)
        self._server.timeouts.clear()
        self._server.timeouts.update(sessions)
        return end

    def loaded(self, zxid: int, digest: SnapshotDigest | None) -> None:
        """Note how far the snapshot is fuzzy: only from there on do digests have to agree."""
        # Without a digest it is not known how far: then it is until the first one that agrees.
        self._check.fuzzy = zxid > 0 and digest is None
        self._fuzzy_until = digest.zxid if digest is not None and digest.zxid > zxid else zxid

    def apply_entry(self, entry: bytes) -> None:
        """Replay one transaction."""
        server = self._server
        header, digest, body = apply_entry(server.tree, entry)
        if isinstance(body, txns.CreateSessionTxn):
            server.timeouts[header.client_id] = body.timeout
        elif header.type == ops.CLOSE_SESSION:
            server.timeouts.pop(header.client_id, None)
        if header.zxid >= self._fuzzy_until:
            self._check.compare(header.zxid, digest)
