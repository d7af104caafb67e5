"""
A server that comes late, or back, is synchronized: DIFF from memory and from the log, SNAP, TRUNC, whoever leads.

All that passes between the servers passes through relays, which tell how a leader began. Every case has the kind under
test on one end and a Java server on the other, or is all of one kind.
"""

from __future__ import annotations

import struct

import pytest

from tests.interop import trees
from tests.interop.conftest import MakeEnsemble
from tests.interop.ensembles import JAVA, JAVA_395, OURS, Ensemble, administrating, until
from tests.interop.rawclient import OPEN_ACL, buffer

#: Server 1 comes back; server 3 leads, since it is among the first and has the largest id.
PAIRS = {
    "ours from Java": {1: OURS, 2: JAVA, 3: JAVA},
    "Java from ours": {1: JAVA, 2: OURS, 3: OURS},
    "ours from ours": {1: OURS, 2: OURS, 3: OURS},
    "ours from Java 3.9.5": {1: OURS, 2: JAVA_395, 3: JAVA_395},
    "Java 3.9.5 from ours": {1: JAVA_395, 2: OURS, 3: OURS},
}
#: A window of few transactions in memory, and no log on disk is too long to be read instead of a snapshot.
WINDOW = 10
SHORT_WINDOW = {"commitLogCount": str(WINDOW), "snapshotSizeFactor": "0"}


def write(ensemble: Ensemble, sid: int, name: str, count: int) -> None:
    """Create some nodes through one server."""
    with administrating(ensemble[sid].running) as session:
        for number in range(count):
            session.create(f"/{name}-{number}", b"x" * 100)


def last_sync(ensemble: Ensemble, sid: int) -> str:
    """Return how a server was synchronized the last time."""
    assert ensemble.links is not None
    return ensemble.links.syncs(sid)[-1]


@pytest.mark.parametrize("pair", PAIRS)
def test_late(pair: str, make_ensemble: MakeEnsemble) -> None:
    """Who missed little gets it from memory, who missed more from the log, who has nothing a snapshot."""
    ensemble = make_ensemble(PAIRS[pair], config=SHORT_WINDOW, linked=True)
    ensemble.start(2, 3)
    assert ensemble.leader() == 3
    with administrating(ensemble[3].running) as session:
        trees.work(session, ensemble[3].port, "begin")
    for missed, expected in {"nothing-yet": "SNAP", "little": "DIFF", "much": "DIFF", "all": "SNAP"}.items():
        if missed == "all":
            ensemble[1].wipe()
        elif missed != "nothing-yet":
            write(ensemble, 2, missed, 3 * WINDOW if missed == "much" else WINDOW // 2)
        ensemble.start(1)
        assert last_sync(ensemble, 1) == expected, missed
        write(ensemble, 1, f"after-{missed}", 2)
        tree = ensemble.assert_equal()
        ensemble.kill9(1)
    assert f"/much-{3 * WINDOW - 1}" in tree


def cut_off_with(ensemble: Ensemble, name: str) -> int:
    """Let the leader log the creation of a node that nobody else hears of, end it, and return its id."""
    assert ensemble.links is not None
    leader = ensemble.leader()
    others = [member.sid for member in ensemble.running() if member.sid != leader]
    session = ensemble.session(leader)
    ensemble.links.silence([leader], others)
    body = buffer(name.encode()) + buffer(b"lost") + OPEN_ACL + struct.pack(">i", 0)
    session.connection.send(struct.pack(">ii", 1, trees.CREATE) + body)
    until(lambda: ensemble[leader].logs_hold(name.encode()), lambda: "the leader has it in its log")
    ensemble.kill9(leader)
    session.connection.close()
    # What it sent and the others have not received is gone with it.
    ensemble.links.break_off([leader], others)
    ensemble.links.heal()
    return leader


TAILS = {
    "ours cut off by Java": {1: JAVA, 2: JAVA, 3: OURS},
    "Java cut off by ours": {1: OURS, 2: OURS, 3: JAVA},
    "ours cut off by ours": {1: OURS, 2: OURS, 3: OURS},
    "ours cut off by Java 3.9.5": {1: JAVA_395, 2: JAVA_395, 3: OURS},
}


@pytest.mark.parametrize("mix", TAILS)
def test_tail_that_nobody_saw(mix: str, make_ensemble: MakeEnsemble) -> None:
    """
    What only a dead leader has logged is cut off when it returns to the others, by TRUNC or, later, by SNAP.

    If all were down and it is there when they begin again, it leads and all get it.
    """
    ensemble = make_ensemble(TAILS[mix], linked=True)
    ensemble.start(1, 3)
    ensemble.start(2)
    with administrating(ensemble[2].running) as session:
        trees.work(session, ensemble[2].port, "begin")
    cut_off = cut_off_with(ensemble, "/cut-at-once")
    assert cut_off == 3
    ensemble.wait()
    # Not even a session is opened before it is back: the new epoch has no transaction yet.
    ensemble.start(cut_off)
    assert last_sync(ensemble, cut_off) == "TRUNC"
    assert "/cut-at-once" not in ensemble.assert_equal()

    cut_off = cut_off_with(ensemble, "/cut-later")
    ensemble.wait()
    write(ensemble, ensemble.leader(), "meanwhile", 3)
    ensemble.start(cut_off)
    assert last_sync(ensemble, cut_off) == "SNAP"
    tree = ensemble.assert_equal()
    assert "/cut-later" not in tree and "/meanwhile-2" in tree

    kept = cut_off_with(ensemble, "/kept")
    ensemble.kill9(*(member.sid for member in ensemble.running()))
    ensemble.start(kept, 1 if kept != 1 else 2)
    assert ensemble.leader() == kept
    ensemble.start()
    assert "/kept" in ensemble.assert_equal()
