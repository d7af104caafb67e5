"""What becomes of a session when the leader dies: three servers, no processes, no files, no waiting."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from zktwisted.testing import MemoryEnsemble
from zktwisted.wire import ops, proto


class LeaderDies(SynchronousTestCase):
    def setUp(self) -> None:
        # Chance is a seed here: the same one gives the same test, each time and everywhere.
        self.ensemble = MemoryEnsemble(servers=3, seed=11)
        self.addCleanup(self.ensemble.close)
        self.ensemble.until_serving()

    def test_session_goes_on(self) -> None:
        """A client keeps its session and its ephemeral node, and what it was told is there."""
        client = self.ensemble.client()
        self.ensemble.until(lambda: client.connected, limit=5)
        session = client.session_id
        create = client.send(ops.CREATE, proto.CreateRequest(b"/mine", b"", proto.OPEN_ACL, 1))
        assert create is not None
        self.ensemble.until(lambda: create.ok, limit=5)

        leader = self.ensemble.leader()
        assert leader is not None
        leader.crash(power=True)
        self.ensemble.until(lambda: self.ensemble.leader() not in (None, leader), limit=30)
        self.ensemble.until(lambda: client.connected, limit=10)

        self.assertEqual(client.session_id, session)
        exists = client.send(ops.EXISTS, proto.PathWatchRequest(b"/mine", False))
        assert exists is not None
        self.ensemble.until(lambda: exists.ok, limit=5)

        # It comes back, and catches up.
        leader.restart()
        self.ensemble.until_serving()
        self.assertEqual(leader.mode, "follower")
