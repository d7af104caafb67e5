"""
Drives a leader: learners on one side, the role that has transactions agreed upon on the other.

What is committed goes to the role, what the role proposes to the machine.  What is said to whom, and when, is
L{zktwisted.zab.leader}'s affair.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zktwisted.edge.quorum import QuorumProtocol
from zktwisted.server.driver import Station
from zktwisted.server.learners import LearnersDriver
from zktwisted.server.metrics import Summary
from zktwisted.zab import effects
from zktwisted.zab.leader import Leader

__all__ = ["LeaderDriver"]


class LeaderDriver(LearnersDriver[Leader]):
    """
    Drives a leader: the receiver of all connections that learners make, and what the role asks for agreement.
    """

    def __init__(
        self, station: Station, make_role: Callable[[LeaderDriver], Any], leading: Callable[[int], None]
    ) -> None:
        """
        @param make_role: makes the role that asks us for agreement.
        @param leading: told the epoch when a quorum follows, before clients are served.
        """
        super().__init__(station, make_role(self))
        self._leading = leading
        self._syncs = (0, 0, 0, 0)
        self._handlers |= {
            effects.Lead: self._lead,
            effects.Committed: self._committed,
            effects.Forwarded: self._forwarded,
            effects.Revalidate: self._revalidate,
            effects.Touched: self._touched,
        }

    def read(self, connection: QuorumProtocol) -> None:
        """That was all for now."""
        super().read(connection)
        if self.machine.syncs != self._syncs:
            self._count_syncs()

    def gone(self, channel: int) -> None:
        """See L{LearnersDriver.gone}."""
        self.role.learner_gone(channel)

    # -- what the role asks for

    def propose(self, zxid: int, entry: bytes) -> None:
        """Let a quorum agree on a transaction."""
        if not self._ended:
            self._metrics.proposal_count += 1
            self._core.stats.proposal.add(len(entry))
            self.machine.propose(zxid, entry, self._now())
            self.later()

    def sync(self, channel: int) -> None:
        """A learner's sync has come to its turn."""
        if not self._ended:
            self.machine.sync(channel, self._now())
            self.later()

    # -- effects

    def _lead(self, effect: effects.Lead) -> None:
        self._leading(effect.epoch)
        self.role.start(effect.epoch << 32 | (self._core.config.testingonly_initial_zxid or 0))
        self.served()

    def _committed(self, effect: effects.Committed) -> None:
        logged, committed = self._logged, self.role.committed
        for zxid in effect.zxids:
            entry = logged.pop(zxid, None)
            if entry is not None:
                self._newest = entry
                self._decided += 1
            committed(zxid)

    def _measure(self, age: int, count: int) -> None:
        super()._measure(age, count)
        self._metrics.commit_count += count
        self._metrics.quorum_ack_latency.add(age, count)

    def _count_syncs(self) -> None:
        metrics, before = self._metrics, self._syncs
        images, diffs, images_running, diffs_running = self._syncs = self.machine.syncs
        begun = images - before[0], diffs - before[1]
        metrics.snap_count += begun[0]
        metrics.diff_count += begun[1]
        _count_running(metrics.inflight_snap_count, begun[0], before[2], images_running)
        _count_running(metrics.inflight_diff_count, begun[1], before[3], diffs_running)

    def _forwarded(self, effect: effects.Forwarded) -> None:
        self.role.forwarded(*effect)

    def _revalidate(self, effect: effects.Revalidate) -> None:
        channel, session_id, timeout = effect
        valid = self.role.revalidate(channel, session_id, timeout)
        self.machine.revalidated(channel, session_id, valid, self._now())

    def _touched(self, effect: effects.Touched) -> None:
        self.role.touched(effect.channel, effect.sessions)


def _count_running(summary: Summary, begun: int, before: int, now: int) -> None:
    """Note how many there were when one began, and how many are left when one has ended."""
    if begun:
        summary.add(max(now, 1))
    if now < before + begun:
        summary.add(now)
