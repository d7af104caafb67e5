"""A server in memory that stops and starts on a clock, and what it finds then."""

from __future__ import annotations

from random import Random

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from zktwisted import ServerConfig, ZooKeeperService
from zktwisted.kit.memory import KeptData
from zktwisted.server.roles import pack_timeout
from zktwisted.wire import jute, ops, proto


class KeptDataTests(SynchronousTestCase):
    """What is kept between two runs."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.kept = KeptData()
        self.service = ZooKeeperService(
            self.clock,
            ServerConfig(),
            [],
            store=self.kept,
            monotonic=self.clock.seconds,
            wall_ms=lambda: 5000,
            entropy=Random(1),
        )

    def start(self) -> None:
        self.service.startService()
        self.assertEqual("standalone", self.successResultOf(self.service.when_serving()))
        core = self.service.core
        assert core is not None
        self.kept.started(core)

    def stop(self, *, forget: bool) -> None:
        core = self.service.core
        assert core is not None
        stopping = self.service.stopService()
        self.clock.pump([0] * 3)
        self.successResultOf(stopping)
        if forget:
            self.kept.forget(core)
        else:
            self.kept.keep(core)

    def write(self) -> None:
        """Open a session and make a node for good, as clients would."""
        core = self.service.core
        assert core is not None
        core.submit_internal(ops.CREATE_SESSION, core.ids.make(), pack_timeout(4000))
        body = jute.encode(proto.CreateRequest(b"/a", b"x", proto.OPEN_ACL, 0))
        core.submit_internal(ops.CREATE, 0, body)
        self.clock.pump([0] * 3)

    def test_kept(self) -> None:
        """Nodes and sessions are there again, and so is the zxid."""
        self.start()
        self.write()
        before = self.service.status()
        core = self.service.core
        assert core is not None
        sessions = dict(core.timeouts)
        self.stop(forget=False)
        self.start()
        core = self.service.core
        assert core is not None
        self.assertEqual(before, self.service.status())
        self.assertEqual((1, sessions), (len(sessions), core.timeouts))
        self.assertEqual(b"x", core.tree.nodes[b"/a"].data)

    def test_forgotten(self) -> None:
        """Nothing is there; zxids go on, and no session id is given again in the same millisecond."""
        self.start()
        core = self.service.core
        assert core is not None
        empty = core.tree.digest
        self.write()
        zxid, given = core.last_zxid, core.ids.next - 1
        self.stop(forget=True)
        self.start()
        core = self.service.core
        assert core is not None
        self.assertEqual((zxid, {}, empty), (core.last_zxid, core.timeouts, core.tree.digest))
        self.assertGreater(core.ids.make(), given)
        self.write()
        self.assertEqual(zxid + 2, core.last_zxid)

    def test_forgotten_while_stopped(self) -> None:
        """What was kept may be forgotten afterwards."""
        self.start()
        self.write()
        self.stop(forget=False)
        self.kept.forget(None)
        self.start()
        core = self.service.core
        assert core is not None
        self.assertNotIn(b"/a", core.tree.nodes)
