"""
Servers of different kinds agree: whoever leads, whoever follows, whoever only observes.

Every test goes through an ensemble's whole life with work on all its servers, and ends with the comparison of all trees
and digests.
"""

from __future__ import annotations

import pytest

from tests.interop import trees
from tests.interop.conftest import MakeEnsemble
from tests.interop.ensembles import JAVA, JAVA_395, OURS, Ensemble, administrating, until

MIXES = {
    "two Java, ours follows": {1: OURS, 2: JAVA, 3: JAVA},
    "two Java, ours leads": {1: JAVA, 2: JAVA, 3: OURS},
    "one Java follows": {1: JAVA, 2: OURS, 3: OURS},
    "one Java leads": {1: OURS, 2: OURS, 3: JAVA},
    "ours alone": {1: OURS, 2: OURS, 3: OURS},
    "two Java 3.9.5, ours follows": {1: OURS, 2: JAVA_395, 3: JAVA_395},
    "two Java 3.9.5, ours leads": {1: JAVA_395, 2: JAVA_395, 3: OURS},
}


def work_everywhere(ensemble: Ensemble, name: str) -> None:
    """Change the tree in every way, through each server."""
    for member in ensemble.running():
        with administrating(member.running) as session:
            trees.work(session, member.port, f"{name}-at-{member.sid}")


@pytest.mark.parametrize("mix", MIXES)
def test_whole_life(mix: str, make_ensemble: MakeEnsemble) -> None:
    """Start, a late third server, work everywhere, the leader's death, its return: the trees are always equal."""
    ensemble = make_ensemble(MIXES[mix])
    # Of two fresh servers the one with the larger id leads.
    ensemble.start(1, 3)
    assert ensemble.leader() == 3
    work_everywhere(ensemble, "two")
    ensemble.start(2)
    assert ensemble.leader() == 3
    work_everywhere(ensemble, "three")
    ensemble.assert_equal()
    ensemble.kill9(3)
    assert ensemble.leader() in (1, 2)
    work_everywhere(ensemble, "without")
    ensemble.start(3)
    assert ensemble.leader() in (1, 2)
    work_everywhere(ensemble, "again")
    tree = ensemble.assert_equal()
    assert sum(path.endswith("/mine") for path in tree) == 0, "sessions that were closed have ephemerals"
    assert sum(path.endswith("/other") for path in tree) == 0
    assert sum(path.endswith("/large") for path in tree) == 2 + 3 + 2 + 3


def test_weights(make_ensemble: MakeEnsemble) -> None:
    """Who has no weight never leads and is never needed, whatever its id; the others need each other."""
    weights = {"group.1": "1:2:3", "weight.1": "1", "weight.2": "1", "weight.3": "0"}
    ensemble = make_ensemble({1: JAVA, 2: OURS, 3: OURS}, config=weights)
    ensemble.start()
    assert ensemble.leader() in (1, 2)
    work_everywhere(ensemble, "all")
    ensemble.kill9(3)
    assert ensemble.leader() in (1, 2)
    work_everywhere(ensemble, "two")
    ensemble.start(3)
    ensemble.kill9(1)
    until(lambda: ensemble[2].mode() is None and ensemble[3].mode() is None, lambda: "one of two is too few")
    ensemble.start(1)
    work_everywhere(ensemble, "again")
    ensemble.assert_equal()
