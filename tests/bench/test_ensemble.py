"""The table of the benchmark of ensembles."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from bench import ensemble


class TableTests(SynchronousTestCase):
    """Medians of the rounds, beside one another, with the floor that they have to reach."""

    def test_what_was_measured_is_held_against_its_floor(self) -> None:
        """More is better for Java's CPU over ours, less for times and for ratios of latencies."""
        results = {
            "get": {"java": [{"us_per_op": 40.0}], "ours": [{"us_per_op": cost} for cost in (9.0, 10.0, 50.0)]},
            "set": {"java": [{"us_per_op": 30.0}], "ours": [{"us_per_op": 30.0}]},
            "failover": {"java": [{"gap_ms": 600.0}], "ours": [{"gap_ms": 300.0}]},
            "snap": {
                "java": [{"serving_s": 2.0, "p99_ratio": 6.0}],
                "ours": [{"serving_s": 3.0, "p99_ratio": 2.0}],
            },
        }
        found = {line[0]: line[1:] for line in ensemble.rows(results)}
        self.assertEqual(
            ["40.00", "10.00", "4.00", ">= 3.5", "yes"], found["CPU µs/op: get 100 B, 50 connections x 16"]
        )
        self.assertEqual("no, by 50 %", found["CPU µs/op: set 100 B, 50 x 16"][-1])
        self.assertEqual(["–", "–", "–", ">= 2.5", "–"], found["CPU µs/op: get:90,set:10, 50 x 8"])
        self.assertEqual(["600.00", "300.00", "0.50", "<= 1", "yes"], found["ms without a write, leader killed"])
        self.assertEqual("no, by 50 %", found["s until an empty server serves"][-1])
        self.assertEqual(["6.00", "2.00", "2.00", "<= 3", "yes"], found["p99 during / before a SNAP sync"])
        self.assertEqual(len(ensemble.rows(results)) + 2, len(ensemble.table(results).splitlines()))

    def test_compiled_modules_have_lines_of_their_own(self) -> None:
        """They are held against no floor, and are not there if they were not measured."""
        results = {"set": {"java": [{"us_per_op": 30.0}], "ours": [{"us_per_op": 20.0}]}}
        self.assertNotIn("compiled", ensemble.table(results))
        results["set"]["compiled"] = [{"us_per_op": 12.0}]
        last = ensemble.table(results).splitlines()[-1]
        self.assertEqual("| compiled: set 100 B, 50 x 16 | 30.00 | 12.00 | 2.50 |  |  |", last)

    def test_all_members_have_the_same_lines_and_ports_of_their_own(self) -> None:
        """Three servers, nine ports, and every configuration names all three."""
        trio = ensemble.Trio("ours", 1000, Path("nowhere"), "python", "jars")
        self.assertEqual("127.0.0.1:1000,127.0.0.1:1001,127.0.0.1:1002", trio.address)
        for server in trio.servers.values():
            self.assertEqual("127.0.0.1:1004:1007", server.settings["server.2"])
            self.assertEqual({"server.1", "server.2", "server.3"}, {key for key in server.settings if "server." in key})
