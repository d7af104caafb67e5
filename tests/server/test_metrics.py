"""Counters, summaries and the older server statistics."""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from zktwisted.server.metrics import (
    METRICS,
    RESERVOIR,
    AdvancedSummary,
    MetricSet,
    ServerMetrics,
    ServerStats,
    Summary,
)


class SummaryTests(SynchronousTestCase):
    def test_empty(self) -> None:
        """Nothing is zero everywhere, the mean a float."""
        self.assertEqual(list(Summary().values()), [("avg", 0.0), ("min", 0), ("max", 0), ("cnt", 0), ("sum", 0)])

    def test_values(self) -> None:
        """The mean has four decimals, halves up."""
        summary = Summary()
        for value in (3, 3, 5):
            summary.add(value)
        self.assertEqual(list(summary.values()), [("avg", 3.6667), ("min", 3), ("max", 5), ("cnt", 3), ("sum", 11)])

    def test_zero_is_a_least_value(self) -> None:
        """A zero that was added is the least value, whenever it came."""
        summary = Summary()
        summary.add(0)
        summary.add(5)
        self.assertEqual((summary.min, summary.max), (0, 5))

    def test_times(self) -> None:
        """Adding a value n times is n additions."""
        one, many = AdvancedSummary(Random(3)), AdvancedSummary(Random(3))
        for value, times in ((7, 3), (1, 2), (9, RESERVOIR), (4, 1000)):
            many.add(value, times)
            for _ in range(times):
                one.add(value)
        self.assertEqual(list(one.values()), list(many.values()))


class AdvancedSummaryTests(SynchronousTestCase):
    def test_percentiles_of_few(self) -> None:
        """Between two values the percentile is interpolated and rounded, as a Java server printed it."""
        summary = AdvancedSummary(Random(1))
        summary.add(6)
        summary.add(19)
        self.assertEqual(list(summary.values())[5:], [("p50", 13), ("p95", 19), ("p99", 19), ("p999", 19)])

    def test_empty(self) -> None:
        """The percentiles of nothing are zero."""
        self.assertEqual(AdvancedSummary(Random(1)).percentile(0.5), 0)

    def test_sample_is_uniform(self) -> None:
        """The sample stays bounded and stands for all values, early and late ones alike."""
        summary = AdvancedSummary(Random(20))
        for value in range(100_000):
            summary.add(value)
        self.assertLess(abs(summary.percentile(0.5) - 50_000), 3_000)
        self.assertLess(abs(summary.percentile(0.99) - 99_000), 1_000)
        self.assertEqual(len(summary._sample), RESERVOIR)

    def test_reset(self) -> None:
        """After a reset nothing is left."""
        summary = AdvancedSummary(Random(1))
        summary.add(9, 2 * RESERVOIR)
        summary.reset()
        self.assertEqual({number for _, number in summary.values()}, {0})
        summary.add(5)
        self.assertEqual(summary.percentile(0.5), 5)


class ServerMetricsTests(SynchronousTestCase):
    def test_each_has_its_own(self) -> None:
        """Two servers in one process share nothing."""
        one, other = ServerMetrics(), ServerMetrics()
        one.fsynctime.add(3)
        one.bytes_received_count += 7
        self.assertEqual((other.fsynctime.count, other.bytes_received_count), (0, 0))

    def test_all_printed(self) -> None:
        """Every name is there before anything was counted, except the sets, which have no keys yet."""
        names = [sample.name for sample in ServerMetrics().samples()]
        self.assertEqual(names, [name for name, kind in METRICS.items() if not issubclass(kind, MetricSet)])
        self.assertIn("unrecoverable_error_count", names)

    def test_sets(self) -> None:
        """A set prints its key in front of the name."""
        metrics = ServerMetrics()
        metrics.write_per_namespace.add("a", 4)
        metrics.quota_exceeded_error_per_namespace.add("a", 1)
        metrics.quota_exceeded_error_per_namespace.add("a", 1)
        lines = [line for sample in metrics.samples() if sample.key for line in sample.lines()]
        self.assertEqual(
            lines,
            [
                ("a_quota_exceeded_error_per_namespace", 2),
                ("avg_a_write_per_namespace", 4.0),
                ("min_a_write_per_namespace", 4),
                ("max_a_write_per_namespace", 4),
                ("cnt_a_write_per_namespace", 1),
                ("sum_a_write_per_namespace", 4),
            ],
        )

    def test_sets_are_bounded(self) -> None:
        """However many namespaces clients invent, only so many are kept."""
        metrics = ServerMetrics()
        for number in range(3000):
            metrics.read_per_namespace.add(f"n{number}", 1)
        self.assertEqual(len(metrics.read_per_namespace.items()), metrics.read_per_namespace.LIMIT)

    def test_reset(self) -> None:
        """A reset sets every number to zero and keeps the keys."""
        metrics = ServerMetrics()
        metrics.response_bytes = 9
        metrics.readlatency.add(3)
        metrics.write_per_namespace.add("a", 4)
        metrics.reset()
        numbers = {number for sample in metrics.samples() for _, number in sample.lines()}
        self.assertEqual(numbers, {0})
        self.assertEqual(len(metrics.write_per_namespace.items()), 1)


class ServerStatsTests(SynchronousTestCase):
    def test_latency(self) -> None:
        """Least, mean and greatest latency."""
        stats = ServerStats()
        self.assertEqual((stats.min_latency, stats.avg_latency, stats.max_latency), (0, 0.0, 0))
        stats.add_latency(3)
        stats.add_latency(0, times=3)
        stats.add_latency(19)
        self.assertEqual((stats.min_latency, stats.avg_latency, stats.max_latency), (0, 4.4, 19))

    def test_sizes(self) -> None:
        """Sizes are -1 before the first."""
        stats = ServerStats()
        sizes = stats.client_response
        self.assertEqual((sizes.last, sizes.min, sizes.max), (-1, -1, -1))
        for size in (20, 89, 40):
            sizes.add(size)
        self.assertEqual((sizes.last, sizes.min, sizes.max), (40, 20, 89))

    def test_reset(self) -> None:
        """Srst forgets traffic and latency, but not failures."""
        stats = ServerStats()
        stats.packets_received = stats.packets_sent = stats.fsync_threshold_exceed_count = 5
        stats.add_latency(9)
        stats.client_response.add(9)
        stats.reset()
        self.assertEqual((stats.packets_received, stats.packets_sent, stats.max_latency), (0, 0, 0))
        self.assertEqual((stats.client_response.last, stats.fsync_threshold_exceed_count), (-1, 5))
