"""
The data of a test server without an ensemble: nothing is kept while it serves, everything between two of its runs.

Knows images of trees, and nothing of files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zktwisted.store.database import NullDatabase, Restored, Target
from zktwisted.tree import image

if TYPE_CHECKING:
    from zktwisted.server.core import ZooKeeperServer

__all__ = ["KeptData"]


class KeptData(NullDatabase):
    """
    What a server that stopped has left for its next start.

    zxids and session ids go on even when the data are forgotten: a client that was left over finds its session expired,
    instead of a server that it must not believe.
    """

    def __init__(self) -> None:
        super().__init__()
        self._image: bytes | None = None
        self._zxid = 0
        self._next_session: int | None = None

    def keep(self, core: ZooKeeperServer) -> None:
        """Keep what a server has that has just stopped."""
        self._image = b"".join(image.chunks(core.tree, core.timeouts))
        self._note(core)

    def forget(self, core: ZooKeeperServer | None) -> None:
        """Let the next start find nothing, C{core} being the server that has just stopped, if one has."""
        self._image = None
        if core is not None:
            self._note(core)

    def _note(self, core: ZooKeeperServer) -> None:
        self._zxid = core.last_zxid
        self._next_session = core.ids.next

    def restore(self, target: Target) -> Restored:
        """See L{NullDatabase}."""
        if self._image is None:
            target.reset()
        else:
            target.load_image(self._image, 0)
        target.loaded(self._zxid, None)
        return Restored(zxid=self._zxid)

    def started(self, core: ZooKeeperServer) -> None:
        """Let a server that has just started give no id twice: a count begins anew with each millisecond."""
        if self._next_session is not None and core.ids.next <= self._next_session:
            core.ids.next = (self._next_session | 0xFFFF) + 1
