"""TLS between servers, on a network in memory."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.authority import Authority, Identity
from zktwisted.config import ServerConfig
from zktwisted.config.ensemble import Address, Ensemble
from zktwisted.edge.tlsnetwork import TlsError, TlsNetwork
from zktwisted.server.metrics import ServerMetrics
from zktwisted.testing.network import MemoryNetwork

LINES = {f"server.{sid}": f"zk{sid}.example:2888:3888" for sid in (1, 2, 3)}
PORT = Address("zk1.example", 3888)


class Talker(Protocol):
    """Remembers what it is told."""

    transport: Any

    def __init__(self) -> None:
        self.data = b""
        self.lost = False

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.lost = True


class Talkers(Factory):
    noisy = False

    def __init__(self) -> None:
        self.made: list[Talker] = []

    def buildProtocol(self, addr: object) -> Talker:
        self.made.append(Talker())
        return self.made[-1]

    @property
    def connected(self) -> list[Talker]:
        return [each for each in self.made if each.transport is not None]


class TlsNetworkTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.memory = MemoryNetwork(self.clock, Random(1), chopping=0.5)
        self.memory.names = {f"zk{sid}.example": f"192.0.2.{sid}" for sid in (1, 2, 3)}
        self.authority = Authority(Path(self.mktemp()))
        self.metrics = ServerMetrics()
        self.listening = Talkers()
        self.calling = Talkers()
        self.addCleanup(lambda: self.assertEqual(self.memory.errors, []))

    def identity(self, sid: int) -> Identity:
        return self.authority.identity(f"zk{sid}", [f"zk{sid}.example"])

    def network(self, sid: int, identity: Identity | None = None, **settings: Any) -> TlsNetwork:
        values = {
            "ssl_quorum": True,
            "ssl_quorum_key_store_location": str((identity or self.identity(sid)).store),
            "ssl_quorum_trust_store_location": str(self.authority.trust),
            **settings,
        }
        config = ServerConfig(
            ensemble=Ensemble.parse(LINES), myid=sid, init_limit=5, sync_limit=5, data_dir="/d", **values
        )
        return TlsNetwork(self.memory.host(f"192.0.2.{sid}"), config, self.clock, self.metrics)

    def pump(self, seconds: float = 1.0) -> None:
        for _ in range(int(seconds * 100)):
            self.clock.advance(0.01)

    def listen(self, network: TlsNetwork) -> None:
        self.successResultOf(network.server(PORT).listen(self.listening))

    def call(self, network: TlsNetwork, timeout: float = 5.0) -> Deferred[IProtocol]:
        return network.client(PORT, timeout).connect(self.calling)

    def refused(self, made: Deferred[IProtocol]) -> str:
        error: TlsError = self.failureResultOf(made, TlsError).value
        self.assertEqual(self.calling.connected, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        return str(error)

    def talk(self, made: Deferred[IProtocol]) -> None:
        caller: Any = self.successResultOf(made)
        (answerer,) = self.listening.connected
        caller.transport.write(b"to")
        answerer.transport.write(b"fro" * 100_000)
        self.pump()
        self.assertEqual((answerer.data, caller.data), (b"to", b"fro" * 100_000))
        caller.transport.loseConnection()
        self.pump()
        self.assertTrue(answerer.lost and caller.lost)
        caller.transport.abortConnection()  # what is over stays so
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_members(self) -> None:
        """Two members of the ensemble reach one another, and nobody hears of it before the handshake is done."""
        self.listen(self.network(1))
        made = self.call(self.network(2))
        self.assertNoResult(made)
        self.assertEqual(self.calling.made, [])
        self.pump()
        self.talk(made)

    def test_a_name_that_was_not_called(self) -> None:
        """Who is reached has to be who was called."""
        self.listen(self.network(1, self.identity(2)))
        made = self.call(self.network(2))
        self.pump()
        self.assertIn("its certificate does not name zk1.example", self.refused(made))

    def test_a_stranger_calls(self) -> None:
        """A certificate that is good and names no member is refused, unless names do not matter."""
        stranger = self.authority.identity("stranger", ["other.example"])
        self.listen(self.network(1))
        made = self.call(self.network(2, stranger))
        self.pump()
        self.assertEqual(self.listening.connected, [])
        self.assertEqual(self.metrics.unsuccessful_handshake, 1)
        caller: Any = self.successResultOf(made)  # with TLS 1.3 it finds out when it is closed
        self.assertTrue(caller.lost)

    def test_a_stranger_where_names_do_not_matter(self) -> None:
        """Without hostnameVerification, or without clientHostnameVerification, certificates need no names."""
        stranger = self.authority.identity("stranger", ["other.example"])
        self.listen(self.network(1, ssl_quorum_client_hostname_verification=False))
        made = self.call(self.network(2, stranger))
        self.pump()
        self.talk(made)

    def test_names_of_neither_side(self) -> None:
        """hostnameVerification switches both checks off."""
        stranger = self.authority.identity("stranger")
        self.listen(self.network(1, stranger, ssl_quorum_hostname_verification=False))
        made = self.call(self.network(2, stranger, ssl_quorum_hostname_verification=False))
        self.pump()
        self.talk(made)

    def test_by_address(self) -> None:
        """Who has a certificate for the address that it calls from is no member for that."""
        self.listen(self.network(1))
        made = self.call(self.network(2, self.authority.identity("address", ["192.0.2.2"])))
        self.pump()
        self.assertEqual(self.listening.connected, [])
        caller: Any = self.successResultOf(made)
        self.assertTrue(caller.lost)

    def test_another_authority(self) -> None:
        """Certificates of another authority, and expired ones, are good for nothing, on either side."""
        other = Authority(Path(self.mktemp())).identity("zk1", ["zk1.example"])
        self.listen(self.network(1, other))
        made = self.call(self.network(2))
        self.pump()
        self.assertIn("certificate verify failed", self.refused(made))
        self.assertEqual(self.listening.connected, [])

    def test_plain_is_not_accepted(self) -> None:
        """Without port unification a caller without TLS is closed."""
        self.listen(self.network(1))
        made = self.memory.host("192.0.2.2").client(PORT, 5.0).connect(self.calling)
        self.pump()
        caller: Any = self.successResultOf(made)
        caller.transport.write(b"\xff\xff\xff\xff\xff\xff\xff\xfe" + bytes(20))
        self.pump()
        self.assertTrue(caller.lost)
        self.assertEqual(self.listening.connected, [])

    def test_unified(self) -> None:
        """With port unification callers come with TLS and without."""
        self.listen(self.network(1, port_unification=True))
        made = self.call(self.network(2, port_unification=True))
        self.pump()
        self.talk(made)
        self.listening.made.clear()
        made = self.call(self.network(2, ssl_quorum=False, port_unification=True))
        self.pump()
        self.successResultOf(made)
        self.calling.made[-1].transport.write(b"plain")
        self.pump()
        self.assertEqual(self.listening.connected[0].data, b"plain")
        self.assertIsNone(getattr(self.listening.connected[0].transport, "getPeerCertificate", None))

    def test_nobody_there(self) -> None:
        """The reason of a failure to connect is told as it is."""
        made = self.call(self.network(2))
        self.pump()
        self.assertNotIsInstance(self.failureResultOf(made).value, TlsError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_no_answer(self) -> None:
        """Somebody who accepts and says nothing is given up after the time of the attempt."""
        self.successResultOf(self.memory.host("192.0.2.1").server(PORT).listen(self.listening))
        made = self.call(self.network(2), timeout=2.0)
        self.pump(1.9)
        self.assertNoResult(made)
        self.pump(0.3)
        self.assertIn("the handshake takes too long", self.refused(made))

    def test_given_up(self) -> None:
        """An attempt can be given up before the connection and before the end of the handshake."""
        self.successResultOf(self.memory.host("192.0.2.1").server(PORT).listen(self.listening))
        for seconds in (0.0, 1.0):
            made = self.call(self.network(2))
            self.pump(seconds)
            made.cancel()
            self.failureResultOf(made, CancelledError)
            self.pump()
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_new_files(self) -> None:
        """sslQuorumReloadCertFiles looks at the files; without it they are left alone."""
        for reload, expected in ((True, True), (False, False)):
            network = self.network(1, ssl_quorum_reload_cert_files=reload)
            looked: list[bool] = []
            network.context.refresh = lambda looked=looked: looked.append(True)  # type: ignore[method-assign,misc]
            network.refresh()
            self.assertEqual(bool(looked), expected)
