"""
Drives the part of a follower that serves observers in the leader's stead.

Observers are learners on one side; on the other is the follower, whose connection carries what they ask for, and which
tells what became of it.  What is said to whom is L{zktwisted.zab.observer_master}'s affair.

Rules: spec: quorum 10.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import DeferredList

from zktwisted.edge.quorum import QuorumProtocol
from zktwisted.server.driver import Station
from zktwisted.server.learners import LearnersDriver
from zktwisted.zab import effects
from zktwisted.zab.observer_master import ObserverMaster

if TYPE_CHECKING:
    from zktwisted.server.following import LearnerDriver

__all__ = ["ObserverMasterDriver"]


class ObserverMasterDriver(LearnersDriver[ObserverMaster]):
    """Drives the observers of one follower, for as long as it follows."""

    def __init__(self, station: Station, follower: LearnerDriver, machine: ObserverMaster) -> None:
        """@param follower: whose observers they are."""
        super().__init__(station, None)
        self.machine = machine
        self._follower = follower
        self._handlers |= {
            effects.Forwarded: self._forwarded,
            effects.Revalidate: self._revalidate,
            effects.Touched: self._touched,
        }
        self.perform()

    # -- what the follower tells

    def committed(self, zxid: int, entry: bytes) -> None:
        """A transaction has been applied."""
        if not self._ended:
            self.machine.committed(zxid, entry, self._now())
            self.later()

    def synced(self, channel: int) -> None:
        """The leader has answered the sync of an observer."""
        if not self._ended:
            self.machine.synced(channel, self._now())
            self.later()

    def answered(self, session_id: int, valid: bool) -> bool:
        """The leader says whether a session is alive; tell whether it was an observer that had asked."""
        ours = self.machine.answered(session_id, valid, self._now())
        self.later()
        return ours

    # -- effects

    def _forwarded(self, effect: effects.Forwarded) -> None:
        self._follower.forward(*effect)

    def _revalidate(self, effect: effects.Revalidate) -> None:
        self._follower.revalidate(effect.session_id, effect.timeout)

    def _touched(self, effect: effects.Touched) -> None:
        self._follower.role.touched(effect.sessions)

    # -- the end

    async def close(self) -> list[QuorumProtocol]:
        """Let the observers go."""
        self._stop_listening()
        connections = self.hang_up()
        if self._work:
            await DeferredList(list(self._work))
        return connections
