"""The table of what TLS costs."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from bench import tls


class TableTests(SynchronousTestCase):
    """Medians of the rounds, held against what they have to reach."""

    def test_floors(self) -> None:
        """CPU time counts, and half of Java's is the most that ours may need."""

        def rounds(*costs: float) -> list[tls.Figures]:
            return [{"get": cost, "handshake": 100 * cost} for cost in costs]

        text, good = tls.page({"java": rounds(9.0, 10.0, 80.0), "ours": rounds(1.0, 4.0, 5.0)})
        self.assertTrue(good)
        self.assertIn("| 10.0 | 4.0 | 2.5 | 2 | yes | 100,000 | 250,000 |", text)
        self.assertIn("| 1,000.0 | 400.0 | 2.5 | 2 | yes | 1,000 | 2,500 |", text)
        text, good = tls.page({"java": rounds(10.0), "ours": rounds(5.1)})
        self.assertFalse(good)
        self.assertEqual(text.count("| no |"), 2)
