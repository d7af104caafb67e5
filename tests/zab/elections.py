"""What tests of elections are made of."""

from __future__ import annotations

from zktwisted.config import Ensemble
from zktwisted.wire.votes import Notification, ServerState, Vote
from zktwisted.zab.election import Concluded, Election, SendVote

LOOKING, FOLLOWING, LEADING, OBSERVING = ServerState


def ensemble(voters: int = 3, observers: int = 0, *more: str) -> Ensemble:
    """Return an ensemble of servers 1 to C{voters}, and observers after them."""
    roles = ["participant"] * voters + ["observer"] * observers
    lines = [f"server.{sid}=10.0.0.{sid}:2888:3888:{role}" for sid, role in enumerate(roles, 1)]
    return Ensemble.parse([*lines, *more])


class Listener:
    """
    A server that is told what the others say, and what it answers.

    @ivar now: the time, in seconds.
    """

    def __init__(self, sid: int, those: Ensemble | None = None, **more: object) -> None:
        self.machine = Election(sid, those or ensemble(), **more)  # type: ignore[arg-type]
        self.now = 100.0

    def look(self, zxid: int = 0, epoch: int = 0) -> list[tuple[int, ...]]:
        """Begin an election, and return what is said."""
        self.machine.look(zxid, epoch, self.now)
        return self.said()

    def hear(
        self,
        sid: int,
        state: ServerState | int,
        leader: int,
        zxid: int = 0,
        round_: int = 1,
        epoch: int = 0,
        *,
        version: int = 2,
        config: str | None = None,
    ) -> list[tuple[int, ...]]:
        """Let a server say something, and return what is answered."""
        vote = Vote(leader, zxid, round_, epoch)
        self.machine.receive(sid, Notification(state, vote, version, config), self.now)
        return self.said()

    def said(self) -> list[tuple[int, ...]]:
        """Return (to, state, leader, zxid, round, epoch) of each vote; other effects are kept for L{others}."""
        effects = self.machine.take()
        self.others = [effect for effect in effects if not isinstance(effect, SendVote)]
        return [(effect.sid, effect.state, *effect.vote) for effect in effects if isinstance(effect, SendVote)]

    def ring(self, heard: bool = True) -> list[tuple[int, ...]]:
        """Let time pass until the machine wants to be called, and return what it says then."""
        deadline = self.machine.deadline()
        assert deadline is not None, "it waits for nothing"
        assert deadline > self.now, "it is late"
        self.now = deadline
        self.machine.tick(self.now, heard)
        return self.said()

    @property
    def outcome(self) -> tuple[int, ...] | None:
        """State and vote, if the last call has ended the election."""
        machine = self.machine
        if Concluded() not in self.others:
            return None
        assert machine.vote is not None
        assert not machine.looking and machine.deadline() is None
        return (machine.state, *machine.vote)
