"""Connections within the process keep what a socket promises: order, the end, and no end of patience."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.error import ConnectionRefusedError as RefusedError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from zktwisted.edge.local import LocalEndpoint


class End(Protocol):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def connectionMade(self) -> None:
        self.told.append("made")

    def dataReceived(self, data: bytes) -> None:
        self.told.append(data)

    def connectionLost(self, reason: Any = None) -> None:
        self.told.append(reason.type)

    # As a producer.

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")


class LocalTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.there = End()
        endpoint = LocalEndpoint(self.clock, lambda: Factory.forProtocol(lambda: self.there))
        self.here: Any = self.successResultOf(endpoint.connect(Factory.forProtocol(End)))
        for end in (self.here, self.there):
            self.assertEqual(["made"], end.told)
            end.told.clear()

    def turn(self) -> None:
        self.clock.advance(0)

    def test_bytes(self) -> None:
        """What is written in one turn arrives in the next, in one piece."""
        self.here.transport.write(b"one ")
        self.here.transport.writeSequence([b"two", b" ", b"three"])
        self.there.transport.write(b"back")
        self.assertEqual([], self.there.told)
        self.turn()
        self.assertEqual(([b"one two three"], [b"back"]), (self.there.told, self.here.told))

    def test_closed(self) -> None:
        """What was written before arrives before the end; both ends hear of it, once."""
        self.here.transport.write(b"last")
        self.here.transport.loseConnection()
        self.here.transport.write(b"later")
        self.there.transport.write(b"too late")
        self.here.transport.loseConnection()
        self.turn()
        self.assertEqual(([b"last", ConnectionDone], [ConnectionDone]), (self.there.told, self.here.told))
        self.there.transport.loseConnection()
        self.turn()
        self.assertEqual((2, 1, []), (len(self.there.told), len(self.here.told), self.clock.getDelayedCalls()))

    def test_aborted(self) -> None:
        """What was written is gone."""
        self.here.transport.write(b"last")
        self.here.transport.abortConnection()
        self.turn()
        self.assertEqual(([ConnectionDone], [ConnectionAborted]), (self.there.told, self.here.told))

    def test_who_does_not_read(self) -> None:
        """Nothing arrives until it reads again; meanwhile a producer at the other end waits."""
        self.here.transport.registerProducer(self.here, True)
        self.there.transport.pauseProducing()
        self.here.transport.write(b"x" * 200_000)
        self.assertEqual([], self.here.told)
        self.here.transport.write(b"x" * 200_000)
        self.here.transport.write(b"x")
        self.turn()
        self.assertEqual((["pause"], []), (self.here.told, self.there.told))
        self.there.transport.resumeProducing()
        self.turn()
        self.assertEqual(["pause", "resume"], self.here.told)
        self.assertEqual([b"x" * 400_001], self.there.told)

    def test_closed_by_who_does_not_read(self) -> None:
        """The end comes also to who reads nothing."""
        self.there.transport.pauseProducing()
        self.here.transport.write(b"unread")
        self.here.transport.loseConnection()
        self.turn()
        self.assertEqual([ConnectionDone], self.there.told)

    def test_nobody_there(self) -> None:
        """Without a server a connection is refused."""
        endpoint = LocalEndpoint(self.clock, lambda: None)
        self.failureResultOf(endpoint.connect(Factory.forProtocol(End)), RefusedError)
