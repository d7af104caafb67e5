"""The arithmetic and the page of the benchmark's report."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from twisted.trial.unittest import SynchronousTestCase

from bench import report, scenarios
from bench.report import Window


def _rounds(*costs: float, rate: float = 1000.0) -> list[dict[str, float]]:
    return [
        {
            "us_per_op": cost,
            "rate": rate,
            "p50_us": 1.0,
            "p99_us": 2.0,
            "server_cores": 1.0,
            "other_cores": 0.0,
            "errors": 0,
        }
        for cost in costs
    ]


class Arithmetic(SynchronousTestCase):
    def test_median_is_the_middle_or_the_mean_of_the_two_middle_ones(self) -> None:
        self.assertEqual(report.median([3, 1, 100]), 3)
        self.assertEqual(report.median([4, 1, 2, 100]), 3)
        self.assertTrue(math.isnan(report.median([])))

    def test_percentile_is_the_nearest_rank(self) -> None:
        values = list(range(1, 101))
        self.assertEqual(report.percentile(values, 0.99), 99)
        self.assertEqual(report.percentile(values, 1.0), 100)
        self.assertEqual(report.percentile([7.0], 0.5), 7.0)
        self.assertTrue(math.isnan(report.percentile([], 0.5)))

    def test_windows_include_both_ends(self) -> None:
        windows = [Window(1.0, 2.0), Window(5.0, 5.0)]
        self.assertEqual(report.inside([0.9, 1.0, 2.0, 2.1, 5.0], windows), [False, True, True, False, True])
        self.assertEqual(report.inside([1.0], []), [False])

    def test_cost_counts_only_the_slices_in_which_others_were_quiet(self) -> None:
        quiet, busy = [100_000.0, 0.5, 0.1], [50_000.0, 1.0, 1.4]
        self.assertAlmostEqual(report.quiet_cost([quiet, busy, quiet, [200_000.0, 1.0, -0.01]]), 5.0)
        self.assertIsNone(report.quiet_cost([quiet, busy, busy]))
        self.assertIsNone(report.quiet_cost([quiet, quiet] + [busy] * 9))
        self.assertIsNone(report.quiet_cost([[0.0, 0.1, 0.0]] * 4))
        self.assertIsNone(report.quiet_cost([]))

    def test_ratio_of_something_missing_is_missing(self) -> None:
        self.assertEqual(report.ratio(6.0, 3.0), 2.0)
        for above, below in ((math.nan, 1.0), (1.0, math.nan), (1.0, 0.0)):
            self.assertTrue(math.isnan(report.ratio(above, below)))

    def test_verdict_says_by_how_much_a_floor_was_missed(self) -> None:
        self.assertEqual(report.verdict(4.0, 4.0, at_least=True), "yes")
        self.assertEqual(report.verdict(3.0, 4.0, at_least=True), "no, by 25 %")
        self.assertEqual(report.verdict(0.7, 0.7, at_least=False), "yes")
        self.assertEqual(report.verdict(1.05, 0.7, at_least=False), "no, by 50 %")
        self.assertEqual(report.verdict(math.nan, 1.0, at_least=False), "–")

    def test_numbers_have_separators_and_a_dash_for_none(self) -> None:
        self.assertEqual(report.number(12345.678), "12,345.7")
        self.assertEqual(report.number(math.nan), "–")


class Page(SynchronousTestCase):
    results: ClassVar[dict[str, Any]] = {
        "machine": {"cores": 2, "python": "3.11.7", "twisted": "26.10.0", "kernel": "Linux 6.1"},
        "settings": {"rounds": 3, "seconds": 4.0, "warm": 10, "steady_rate": 600},
        "get-pipelined": {"java": _rounds(20, 25, 90, rate=2000.0), "ours": _rounds(4, 5, 6)},
        "start": {"java": [{"rss_kib": 65536, "first_answer_s": 0.2, "serving_s": 0.4}]},
    }

    def test_a_load_row_holds_medians_ratio_floor_and_throughput(self) -> None:
        (row,) = report.load_rows(self.results)
        self.assertEqual(row, ["get 100 B, 50 connections x 16", "25.0", "5.0", "5.00", "4", "yes", "0.50"])

    def test_what_was_not_measured_has_a_dash(self) -> None:
        first = report.memory_rows(self.results)[0]
        self.assertEqual(first, ["resident memory after start, MiB", "64.0", "–", "–", "at most 0.7 of Java's", "–"])

    def test_the_page_has_every_section_that_was_measured(self) -> None:
        page = report.markdown({**self.results, "notes": "The kernel."})
        for heading in ("# Performance", "## CPU per operation", "## Memory", "## What stands in the way", "## How it"):
            self.assertIn(heading, page)
        self.assertNotIn("{", page)
        self.assertIn("20.0–90.0 (3)", page)
        self.assertNotIn("## CPU per operation", report.markdown({}))

    def test_every_row_of_a_table_has_as_many_cells_as_its_head(self) -> None:
        everything = {scenario.name: {"java": _rounds(2), "ours": _rounds(1)} for scenario in scenarios.SCENARIOS}
        everything.update({name: {"java": [{}], "ours": [{}]} for name in scenarios.OTHERS})
        widths: list[set[int]] = [set()]
        for line in report.markdown(everything).splitlines():
            if line.startswith("|"):
                widths[-1].add(line.count(" |"))
            elif widths[-1]:
                widths.append(set())
        self.assertEqual([len(width) for width in widths if width], [1, 1, 1])

    def test_compiled_modules_have_two_columns_more(self) -> None:
        name = scenarios.SCENARIOS[0].name
        java = report.of(self.results, name, "java", "us_per_op")
        rounds = [{**one, "us_per_op": java / 8} for one in self.results[name]["ours"]]
        results = {**self.results, name: {**self.results[name], "compiled": rounds}}
        self.assertEqual([report.number(java / 8), "8.00"], report.load_rows(results)[0][-2:])
        for page in (report.markdown(results), report.plain(results)):
            self.assertIn("compiled", page)
        self.assertEqual(len(report.load_rows(self.results)[0]) + 2, len(report.load_rows(results)[0]))

    def test_the_terminal_gets_one_line_for_each_figure(self) -> None:
        self.assertEqual(len(report.plain(self.results).splitlines()), 4)


class Stacks(SynchronousTestCase):
    def test_own_and_whole_shares_of_functions(self) -> None:
        stacks = (
            "main (a.py:1);read (b.py:2);pack (c.py:3) 6\nmain (a.py:9);read (b.py:7) 2\nmain (a.py) 2\nnot a stack\n"
        )
        self.assertEqual(
            report.hottest(stacks),
            [("pack (c.py)", 0.6, 0.6), ("main (a.py)", 0.2, 1.0), ("read (b.py)", 0.2, 0.8)],
        )

    def test_no_stacks_no_shares(self) -> None:
        self.assertEqual(report.hottest(""), [])


class Table(SynchronousTestCase):
    def test_names_are_unique_and_floors_above_one(self) -> None:
        self.assertEqual(len(scenarios.BY_NAME), len(scenarios.SCENARIOS))
        self.assertFalse(set(scenarios.BY_NAME) & set(scenarios.OTHERS))
        self.assertTrue(all(scenario.floor > 1 for scenario in scenarios.SCENARIOS))
