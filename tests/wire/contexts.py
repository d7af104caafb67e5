"""Contexts of a mechanism for tests: it believes what it is told, by who talks to it and not by somebody else."""

from __future__ import annotations

from zktwisted.wire.sasl import SaslError

BOB = "bob@EXAMPLE.COM"


class _Context:
    mine, others = b"", b""

    def __init__(self) -> None:
        self.complete = False
        self.peer = ""
        self.own = ""

    def wrap(self, message: bytes) -> bytes:
        """Seal a message, which anybody can read."""
        return self.mine + message

    def unwrap(self, token: bytes) -> bytes:
        """Open what the other side has sealed."""
        if not token.startswith(self.others):
            raise SaslError("a broken seal")
        return token.removeprefix(self.others)


class Accepting(_Context):
    """The server's side; *mutual*: it shows who it is before anything else, in a token of its own."""

    mine, others = b"server:", b"client:"

    def __init__(self, mutual: bool = True) -> None:
        super().__init__()
        self._mutual = mutual

    def step(self, token: bytes) -> bytes:
        """Take a ticket."""
        if not token.startswith(b"ticket of "):
            raise SaslError("no ticket")
        self.peer = token.removeprefix(b"ticket of ").decode()
        self.complete = True
        return b"welcome" if self._mutual else b""


class Initiating(_Context):
    """The client's side; *own* is who it is, *error* what is said of that when it begins."""

    mine, others = b"client:", b"server:"

    def __init__(self, own: str = BOB, error: str = "") -> None:
        super().__init__()
        self.own = own
        self._error = error

    def step(self, token: bytes) -> bytes:
        """Show a ticket, and see who takes it."""
        if self._error:
            raise SaslError(self._error)
        if not token:
            return b"ticket of " + self.own.encode()
        if token != b"welcome":
            raise SaslError("somebody else")
        self.complete = True
        return b""
