"""Servers of an ensemble in memory that authenticate to one another: all roles, and nothing left of half exchanges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.protocol import Factory, Protocol

from tests.server.test_peer import PeerCase
from zktwisted.config.ensemble import Address
from zktwisted.testing.ensemble import MemoryEnsemble
from zktwisted.wire.quorumauth import IN_PROGRESS, encode_auth

MODULE = "org.apache.zookeeper.server.auth.DigestLoginModule"


class SaslTests(PeerCase):
    """All is as it is without."""

    def secured(self, **settings: Any) -> MemoryEnsemble:
        """Return servers that insist on it."""
        path = Path(self.mktemp()).absolute()
        path.write_text(
            f'QuorumServer {{ {MODULE} required user_a="b"; }};\n'
            f'QuorumLearner {{ {MODULE} required username="a" password="b"; }};',
            "utf-8",
        )
        names = ("enable_sasl", "learner_require_sasl", "server_require_sasl")
        return self.ensemble(
            observers=1, jaas_file=str(path), **{f"quorum_auth_{name}": True for name in names}, **settings
        )

    def test_roles(self) -> None:
        """They elect, follow and observe; when the leader is gone they do it again."""
        ensemble = self.secured()
        ensemble.until_serving()
        self.assertEqual(ensemble.modes(), {1: "follower", 2: "follower", 3: "leader", 4: "observer"})
        self.create(ensemble, self.client(ensemble, 4), b"/a")
        ensemble.crash(3)
        ensemble.until(lambda: len(ensemble.serving()) == 3 and ensemble.leader() is not None, 60)
        self.create(ensemble, self.client(ensemble, 4), b"/b")

    def test_observer_master(self) -> None:
        """A follower that serves observers insists on it, too."""
        ensemble = self.secured(observer_master_port=2191)
        ensemble.until_serving()
        self.create(ensemble, self.client(ensemble, 4), b"/a")

    def test_stopped_in_every_state(self) -> None:
        """Whenever a server is stopped, nothing of it is left, whoever is in the midst of an exchange with it."""
        for moment in (0.006, 0.012, 0.02, 0.05, 0.1, 0.2, 0.21, 0.22, 0.23, 0.24, 0.25, 0.3, 2.0):
            ensemble = self.secured()
            ensemble.advance(moment)
            stranger = Factory.forProtocol(Protocol)
            address = ensemble.servers[3].host.address
            endpoint = ensemble.network.host("10.9.9.9").client(Address(address, 2888), 5.0)
            lost = []
            endpoint.connect(stranger).addCallbacks(
                lambda protocol: protocol.transport.write(encode_auth(IN_PROGRESS, b"")), lost.append
            )
            ensemble.advance(0.01)
            for server in ensemble.servers.values():
                server.stop()
            ensemble.advance(3)
            for server in ensemble.servers.values():
                self.assertEqual((server.mode, server.clock.getDelayedCalls()), ("down", []), (moment, server.sid))
                self.assertEqual(ensemble.network.ends_at(server.host.address), [], (moment, server.sid))
        self.assertEqual(lost, [], "the last time the leader listened")
