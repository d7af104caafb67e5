"""
The simulator bites: every mistake that is planted is found, within two hundred seeds.

Most are found by the first.  A seed that is known to find one is tried first, so that the time goes to the rest; it is
a hint and no more, for every change of a server makes other runs of all seeds.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests.sim.planted import PLANTED
from zktwisted.testing.simulate import Outcome, simulate

_SEEDS = 200
_SECONDS = 25.0
_HINTS = {
    "applied_twice": 1,
    "elected_by_id": 11,
    "epoch_check_skipped": 1,
    "image_of_halves": 7,
    "leads_too_early": 2,
    "leads_without_followers": 9,
    "new_leader_acked_early": 2,
    "outstanding_changes_kept": 5,
    "owner_not_checked": 25,
    "read_from_the_past": 10,
    "touches_lost": 4,
    "truncated_one_too_few": 27,
}


class PlantedTests(SynchronousTestCase):
    """One test for each mistake."""

    def find(self, plant: Any) -> Outcome:
        plant(self.patch)
        # What a broken server logs is not a failure of this test.
        self.addCleanup(self.flushLoggedErrors)
        for seed in dict.fromkeys([_HINTS.get(plant.__name__, 0), *range(_SEEDS)]):
            outcome = simulate(seed, seconds=_SECONDS)
            if outcome.error:
                return outcome
        self.fail(f"{_SEEDS} seeds have not found: {plant.__doc__}")


def _test_of(plant: Any) -> Any:
    def test(self: PlantedTests) -> None:
        outcome = self.find(plant)
        self.assertTrue(outcome.trace)

    test.__doc__ = plant.__doc__
    return test


for _plant in PLANTED:
    setattr(PlantedTests, f"test_{_plant.__name__}", _test_of(_plant))


@pytest.mark.parametrize("seed", range(5))
def test_without_mistakes(seed: int) -> None:
    """The same runs go well when nothing is planted: it is the mistake that is found."""
    assert simulate(seed, seconds=_SECONDS).error == ""


def test_enough() -> None:
    """There are enough of them, and each says what it is."""
    assert len(PLANTED) >= 15
    assert all(plant.__doc__ for plant in PLANTED)
