"""How a server in each role looks from outside."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from zktwisted.config import Ensemble, ServerConfig
from zktwisted.server.metrics import ServerStats
from zktwisted.server.view import Leading, ServerView
from zktwisted.tree.sessions import SessionTracker

SERVERS = "server.1=a:1:2\nserver.2=b:1:2\nserver.3=c:1:2\nserver.4=d:1:2:observer"


class ViewCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = 100.0
        config = ServerConfig(init_limit=10, sync_limit=5, myid=3, ensemble=Ensemble.parse(SERVERS))
        self.core: Any = SimpleNamespace(
            config=config,
            role=None,
            stats=ServerStats(),
            sessions=SessionTracker(1000),
            timeouts={0x100: 4000, 0x200: 5000},
            global_sessions=2,
            local_sessions=1,
        )
        factory: Any = None
        self.view = ServerView(self.core, factory, lambda: 2181, lambda: self.now, lambda: 5_000_000, True)

    def take_role(self, name: str, **settings: Any) -> None:
        """Let the core have a role of this name."""
        settings = {"read_only": False, "makes_txns": False, **settings}
        self.core.role = SimpleNamespace(name=name, **settings)


def learner(sid: int, *, observer: bool = False, voting: bool = True, forwarding: bool = True) -> SimpleNamespace:
    return SimpleNamespace(sid=sid, observer=observer, voting=voting and not observer, forwarding=forwarding)


class RoleTests(ViewCase):
    def test_looking(self) -> None:
        """Without a role there is no state to be told."""
        self.assertEqual(self.view.mode, "looking")
        self.assertEqual(self.view.server_id, 3)
        self.assertFalse(self.view.read_only)
        self.assertIsNone(self.view.peer_state)
        self.assertIsNone(self.view.leading)
        self.assertIsNone(self.view.session_timeouts())

    def test_roles(self) -> None:
        """Each role has its mode and its words for what it does."""
        for name, state in (
            ("leader", "leading - broadcast"),
            ("follower", "following - broadcast"),
            ("observer", "observing - broadcast"),
            ("standalone", None),
        ):
            self.take_role(name)
            self.assertEqual((self.view.mode, self.view.peer_state), (name, state))
        self.take_role("read-only", read_only=True)
        self.assertTrue(self.view.read_only)
        self.assertIsNone(self.view.peer_state)

    def test_leading(self) -> None:
        """A leader tells who follows: connected ones, those that have caught up, and which of them have no vote."""
        self.take_role("leader", makes_txns=True)
        self.assertIsNone(self.view.leading)
        followers = [learner(1), learner(2, forwarding=False), learner(7, voting=False)]
        observers = [learner(4, observer=True), learner(5, observer=True, forwarding=False)]
        machine = SimpleNamespace(learners=lambda: [*followers, *observers], pending_syncs=6)
        self.view.peer = SimpleNamespace(machine=machine, observer_master=None)
        self.view.begin()
        self.now += 1.5
        self.assertEqual(self.view.leading, Leading(5, 2, 1, 1, 6, 1500))
        self.assertEqual(self.view.synced_observers, 1)
        self.take_role("follower")
        self.assertIsNone(self.view.leading)

    def test_observing(self) -> None:
        """An observer tells whom it listens to."""
        self.take_role("observer")
        self.assertEqual(self.view.learner_master_id, -1)
        self.view.peer = SimpleNamespace(learner_master=2, machine=None, observer_master=None)
        self.assertEqual(self.view.learner_master_id, 2)
        self.take_role("follower")
        self.assertIsNone(self.view.learner_master_id)

    def test_serving_observers(self) -> None:
        """A follower that serves observers tells how many; one that does not tells nothing."""
        self.take_role("follower")
        self.assertIsNone(self.view.synced_observers)
        self.view.peer = SimpleNamespace(machine=None, observer_master=None)
        self.assertIsNone(self.view.synced_observers)
        observers = [learner(4, observer=True), learner(5, observer=True, forwarding=False)]
        self.view.peer.observer_master = SimpleNamespace(learners=lambda: observers)
        self.assertEqual(self.view.synced_observers, 1)

    def test_begin(self) -> None:
        """Uptime and figures are those of the role."""
        self.core.stats.packets_received = 5
        self.now += 2
        self.assertEqual(self.view.uptime_ms, 2000)
        self.view.begin()
        self.now += 0.25
        self.assertEqual((self.view.uptime_ms, self.core.stats.packets_received), (250, 0))


class SessionTests(ViewCase):
    def test_where_sessions_expire(self) -> None:
        """Who makes transactions ends sessions; the others know their timeouts."""
        self.core.sessions.add(0x100, 4000, 100_000)
        self.take_role("leader", makes_txns=True)
        self.assertIsNone(self.view.session_timeouts())
        ((end, ids),) = self.view.session_sets()
        self.assertEqual(list(ids), [0x100])
        # By the wall clock, in a bucket of one tick.
        self.assertTrue(5_004_000 <= end <= 5_005_000, end)
        self.take_role("follower")
        self.assertEqual(self.view.session_timeouts(), {0x100: 4000, 0x200: 5000})

    def test_local_sessions(self) -> None:
        """Local sessions are kept apart, and are told of only where there can be any."""
        self.core.sessions.add(0x100, 4000, 100_000)
        self.core.sessions.add(0x300, 4000, 100_000, local=True)
        self.take_role("leader", makes_txns=True)
        self.assertIsNone(self.view.local_session_sets())
        self.core.config = self.core.config.replace(local_sessions_enabled=True)
        local, all_ = self.view.local_session_sets(), self.view.session_sets()
        assert local is not None
        self.assertEqual([list(ids) for _, ids in local], [[0x300]])
        self.assertEqual([list(ids) for _, ids in all_], [[0x100]])
        self.assertEqual((self.view.global_sessions, self.view.local_sessions), (2, 1))
        self.take_role("standalone", makes_txns=True)
        self.assertIsNone(self.view.local_session_sets())
