"""
When enough servers agree: majorities, and groups with weights.

Rules: spec: quorum 12.1, election 6.3.  Only counting is known here; what the servers agree about is known to those who
count.
"""

from __future__ import annotations

from collections.abc import Collection

from zktwisted.config.ensemble import Ensemble

__all__ = ["AckSets", "Quorum"]


class Quorum:
    """
    How the votes of one ensemble count.

    @ivar ensemble: the ensemble.
    @ivar voters: the ids of its participants; ask it what it contains, its order means nothing.
    """

    __slots__ = ("_group_of", "_group_weights", "_weights", "ensemble", "voters")

    def __init__(self, ensemble: Ensemble) -> None:
        self.ensemble = ensemble
        self.voters = frozenset(member.sid for member in ensemble.voters)
        written = dict(ensemble.weights)
        self._weights = {member.sid: written.get(member.sid, 1) for member in ensemble.voters}
        self._group_of: dict[int, int] = {}
        self._group_weights: dict[int, int] = {}
        for gid, sids in ensemble.groups:
            total = sum(self.weight(sid) for sid in sids)
            if total:
                self._group_weights[gid] = total
                self._group_of.update(dict.fromkeys(sids, gid))

    def weight(self, sid: int) -> int:
        """What the vote of a server weighs: 1 under a plain majority, 0 for a server without a vote."""
        return self._weights.get(sid, 0)

    def contains(self, acks: Collection[int]) -> bool:
        """
        Say whether these servers are a quorum; servers without a vote do not count.

        Under a plain majority that is more than half of the voters.  With groups it is more than half of the groups
        that weigh anything, each by more than half of its weight.
        """
        counted = self.voters.intersection(acks)
        if not self.ensemble.hierarchical:
            return len(counted) > len(self.voters) // 2
        gathered = dict.fromkeys(self._group_weights, 0)
        for sid in counted:
            gid = self._group_of.get(sid)
            if gid is not None:
                gathered[gid] += self._weights[sid]
        won = sum(weight > self._group_weights[gid] // 2 for gid, weight in gathered.items())
        return won > len(gathered) // 2


class AckSets:
    """
    Who has agreed to one thing, under one ensemble or, while it changes, under the old and the new.

    @ivar acks: who has agreed, in the order in which they did; only servers with a vote in one of the ensembles.
    """

    __slots__ = ("_quorums", "_satisfied", "acks")

    def __init__(self, *quorums: Quorum) -> None:
        """
        @param quorums: each of them has to be satisfied; at least one.
        """
        assert quorums, "nothing to be satisfied"
        self._quorums = quorums
        self._satisfied = False
        self.acks: dict[int, None] = {}

    def add(self, sid: int) -> None:
        """Count a server; once more, or without a vote, changes nothing."""
        if sid not in self.acks and any(sid in quorum.voters for quorum in self._quorums):
            self.acks[sid] = None
            self._satisfied = all(quorum.contains(self.acks) for quorum in self._quorums)

    @property
    def satisfied(self) -> bool:
        """Whether there is a quorum under every ensemble."""
        return self._satisfied
