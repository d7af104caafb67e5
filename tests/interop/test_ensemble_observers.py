"""An observer serves as a follower does and counts for nothing: ours under a Java leader, Java's under ours."""

from __future__ import annotations

import pytest

from tests.interop import trees
from tests.interop.clients import servers
from tests.interop.conftest import MakeEnsemble
from tests.interop.ensembles import JAVA, JAVA_395, OURS, administrating, until
from tests.interop.trees import EPHEMERAL

#: Servers 1 and 2 vote, 3 observes.
MIXES = {
    "ours observes Java": {1: JAVA, 2: JAVA, 3: OURS},
    "Java observes ours": {1: OURS, 2: OURS, 3: JAVA},
    "ours observes ours and Java": {1: JAVA, 2: OURS, 3: OURS},
    "ours observes Java 3.9.5": {1: JAVA_395, 2: JAVA_395, 3: OURS},
}


@pytest.mark.parametrize("mix", MIXES)
def test_observer(mix: str, make_ensemble: MakeEnsemble) -> None:
    """It is brought up to date, takes writes, keeps sessions that move, outlives its leader, and gives no quorum."""
    ensemble = make_ensemble(MIXES[mix], observers=[3])
    ensemble.start()
    for member in ensemble.running():
        with administrating(member.running) as session:
            trees.work(session, member.port, f"first-{member.sid}")
    ensemble.assert_equal()

    # A session moves from the observer to a voter and back, with its ephemeral.
    mine = ensemble.session(3)
    mine.create("/mine", b"", EPHEMERAL)
    for sid in (1, 3):
        mine.connection.close()
        moved = ensemble.session(sid, session_id=mine.session_id, password=mine.password)
        assert moved.session_id == mine.session_id
        mine = moved
    assert "/mine" in ensemble.assert_equal()

    # It comes back after it missed something.
    ensemble.kill9(3)
    with administrating(ensemble[1].running) as session:
        trees.work(session, ensemble[1].port, "missed")
    ensemble.start(3)
    mine = ensemble.session(3, session_id=mine.session_id, password=mine.password)
    assert mine.session_id != 0
    assert "/missed" in ensemble.assert_equal()

    # One voter of two is no quorum, whoever observes.
    assert ensemble.leader() == 2
    ensemble.kill9(1)
    until(lambda: ensemble[2].mode() is None and ensemble[3].mode() is None, lambda: "nobody serves without a quorum")
    ensemble.start(1)
    assert ensemble.leader() == 2
    mine = ensemble.session(3, session_id=mine.session_id, password=mine.password)
    assert mine.session_id != 0
    mine.close()
    tree = ensemble.assert_equal()
    assert "/mine" not in tree and "/missed" in tree


@pytest.mark.parametrize("mix", ["ours listens to Java", "Java listens to ours", "ours listens to ours"])
def test_observer_of_a_follower(mix: str, make_ensemble: MakeEnsemble) -> None:
    """An observer that listens to a follower has what the leader's own observers have, and costs the leader nothing."""
    follower, observer = {
        "ours listens to Java": (JAVA, OURS),
        "Java listens to ours": (OURS, JAVA),
        "ours listens to ours": (OURS, OURS),
    }[mix]
    ensemble = make_ensemble({1: follower, 2: OURS, 3: observer}, observers=[3], master_port=True)
    ensemble.start(1, 2)
    assert ensemble.leader() == 2
    with administrating(ensemble[1].running) as session:
        trees.work(session, ensemble[1].port, "before")
    ensemble.start(3)
    assert servers.monitor(ensemble[2].running)["synced_observers"] == "0"
    for member in ensemble.running():
        with administrating(member.running) as session:
            trees.work(session, member.port, f"at-{member.sid}")
    mine = ensemble.session(3)
    mine.create("/mine", b"", EPHEMERAL)
    assert "/mine" in ensemble.assert_equal()
    mine.connection.close()
    moved = ensemble.session(1, session_id=mine.session_id, password=mine.password)
    assert moved.session_id == mine.session_id
    back = ensemble.session(3, session_id=mine.session_id, password=mine.password)
    assert back.session_id == mine.session_id
    # The follower dies, and with it the quorum; afterwards everything is as it was.
    ensemble.kill9(1)
    ensemble.start(1)
    back = ensemble.session(3, session_id=mine.session_id, password=mine.password)
    assert back.session_id == mine.session_id
    back.close()
    assert "/mine" not in ensemble.assert_equal()
