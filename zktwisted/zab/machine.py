"""
What all machines of this room have in common: effects that wait to be taken, tokens, and an end.

It knows no rule of the protocol.
"""

from __future__ import annotations

from zktwisted.zab.effects import Effect, Exit, Leave, Note

__all__ = ["Machine"]


class Machine:
    """
    A machine that is fed with values and asked what it wants done.

    @ivar ended: whether it has said L{Leave} or L{Exit}; it wants nothing any more and hears nothing.
    """

    def __init__(self) -> None:
        self.ended = False
        self._effects: list[Effect] = []
        self._token = 0

    def take(self) -> list[Effect]:
        """Return the effects to be performed, in order, and forget them."""
        effects = self._effects
        if effects:
            self._effects = []
        return effects

    def _next_token(self) -> int:
        self._token += 1
        return self._token

    def _note(self, text: str) -> None:
        self._effects.append(Note(text))

    def _leave(self, reason: str) -> None:
        if not self.ended:
            self.ended = True
            self._effects.append(Leave(reason))

    def _exit(self, status: int, reason: str) -> None:
        if not self.ended:
            self.ended = True
            self._effects.append(Exit(status, reason))
