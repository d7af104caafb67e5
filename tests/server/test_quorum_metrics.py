"""What the servers of an ensemble count of their agreement, under ZooKeeper's names (spec: operations 3.4)."""

from __future__ import annotations

from typing import Any

from tests.server.quorum_world import THREE
from tests.server.test_driver import DriverCase
from zktwisted.server.metrics import ServerMetrics, Summary
from zktwisted.wire import ops, proto


def counts(metrics: ServerMetrics) -> dict[str, int]:
    """The figures that a write moves, by name."""
    counters = ("proposal_count", "commit_count", "learner_proposal_received_count", "learner_commit_received_count")
    summaries = (
        "quorum_ack_latency",
        "proposal_latency",
        "proposal_ack_creation_latency",
        "commit_propagation_latency",
        "propagation_latency",
    )
    found: dict[str, int] = {name: getattr(metrics, name) for name in counters}
    found |= {name: getattr(metrics, name).count for name in summaries}
    return {name: number for name, number in found.items() if number}


class WriteTests(DriverCase):
    def test_a_write(self) -> None:
        """Each server counts its part of every write, and how long it took."""
        driver = self.lead(self.three, self.one)
        observer = self.servers.add(4)
        self.servers.connect(observer, driver, observer=True)
        self.servers.turn()
        client = self.one.world.client()
        for number in range(3):
            client.create(b"/%d" % number)
        # The session was one, too.
        self.assertEqual(
            counts(self.three.core.metrics),
            {
                "proposal_count": 4,
                "commit_count": 4,
                "quorum_ack_latency": 4,
                "proposal_ack_creation_latency": 4,
                "propagation_latency": 4,
            },
        )
        self.assertEqual(
            counts(self.one.core.metrics),
            {
                "learner_proposal_received_count": 4,
                "learner_commit_received_count": 4,
                "proposal_latency": 4,
                "proposal_ack_creation_latency": 4,
                "commit_propagation_latency": 4,
                "propagation_latency": 4,
            },
        )
        self.assertEqual(
            counts(observer.core.metrics),
            {"learner_commit_received_count": 4, "commit_propagation_latency": 4, "propagation_latency": 4},
        )
        sizes = self.three.core.stats.proposal
        self.assertTrue(0 < sizes.min <= sizes.last <= sizes.max)

    def test_the_node_of_the_ensemble(self) -> None:
        """Writing down who the ensemble is counts as the write that it is."""
        core = self.one.core
        core.put_config(THREE)
        ((name, summary),) = core.metrics.write_per_namespace.items()
        assert isinstance(summary, Summary)
        self.assertEqual((name, summary.count), ("zookeeper", 1))
        self.assertEqual(summary.total, len(b"/zookeeper/config") + len(THREE.text))

    def test_latency(self) -> None:
        """A write takes as long as the quorum's disks; all writes of a turn count, by the newest."""
        self.lead(self.three, self.one)
        client = self.three.world.client()
        self.one.disk.hold = True
        for number in range(2):
            client.put(ops.CREATE, proto.CreateRequest(b"/%d" % number, b"", proto.OPEN_ACL, 0))
        self.servers.turn()
        self.servers.advance(1.5)
        self.one.disk.hold = False
        self.one.disk.complete()
        self.servers.turn()
        self.assertEqual(len(client.receive()), 2)
        latency = self.three.core.metrics.quorum_ack_latency
        self.assertEqual((latency.count, latency.max), (3, 1500))
        self.assertEqual(self.one.core.metrics.proposal_ack_creation_latency.max, 1500)
        self.assertEqual(self.one.core.metrics.proposal_latency.max, 0)

    def test_clocks_that_differ(self) -> None:
        """A follower whose clock is behind has waited for no time, not for less."""
        self.lead(self.three, self.one)
        self.one.core.wall_ms = lambda: 0
        self.three.world.client().create(b"/a")
        latency = self.one.core.metrics.commit_propagation_latency
        self.assertEqual((latency.count, latency.min, latency.max), (2, 0, 0))


class SyncTests(DriverCase):
    def syncs(self) -> list[Any]:
        metrics = self.three.core.metrics
        return [
            (metrics.snap_count, metrics.diff_count),
            [(each.count, each.max, each.total) for each in (metrics.inflight_snap_count, metrics.inflight_diff_count)],
        ]

    def test_ways_to_catch_up(self) -> None:
        """The leader counts whom it brings up how, and how many of them there are at a time."""
        driver = self.lead(self.three, self.one)
        self.assertEqual(self.syncs(), [(0, 1), [(0, 0, 0), (2, 1, 1)]])
        self.three.world.client().create(b"/a")
        self.servers.connect(self.two, driver)
        self.servers.turn()
        (snaps, diffs), (images, others) = self.syncs()
        self.assertEqual((snaps, diffs), (1, 1))
        self.assertEqual((images, others), ((2, 1, 1), (2, 1, 1)))
        # Nothing of it was a proposal to the one that came late.
        self.assertEqual(self.two.core.metrics.learner_proposal_received_count, 0)
        self.assertEqual(self.two.core.metrics.commit_propagation_latency.count, 0)
