"""What a member of an ensemble tells an operator is what a Java server in the same role, beside it, tells."""

from __future__ import annotations

import re

import pytest

from tests.interop import trees
from tests.interop.conftest import MakeEnsemble
from tests.interop.ensembles import JAVA, JAVA_395, OURS, Ensemble, Member, administrating, until
from tests.interop.process import four_letter_word
from tests.interop.trees import EPHEMERAL

#: What is each server's own in C{conf}.
OWN = re.compile(
    r"(?<=^)(clientPort|dataDir|dataDirSize|dataLogDir|dataLogSize|serverId|electionPort|quorumPort)=.*", re.M
)
#: Gauges of what all servers hold alike; approximate_data_size counts characters there and bytes here.
SHARED = (
    "znode_count",
    "ephemerals_count",
    "global_sessions",
    "local_sessions",
    "quorum_size",
)


def said(member: Member, word: bytes) -> str:
    return four_letter_word(member.port, word).decode()


def metrics(member: Member) -> dict[str, str]:
    """What mntr says, by name."""
    return dict(line.partition("\t")[::2] for line in said(member, b"mntr").splitlines())


def compare(ours: Member, theirs: Member) -> None:
    """Hold two servers in one role against each other."""
    assert ours.mode() == theirs.mode()
    assert OWN.sub(r"\1", said(ours, b"conf")) == OWN.sub(r"\1", said(theirs, b"conf"))
    assert said(ours, b"isro") == said(theirs, b"isro")
    sessions = [re.findall(r"^(?:Global|0x).*$", said(member, b"dump"), re.M) for member in (ours, theirs)]
    assert [line for line in sessions[0] if not line.endswith(":")] == [
        line for line in sessions[1] if not line.endswith(":")
    ]
    assert sorted(sessions[0]) == sorted(sessions[1])
    mine, other = metrics(ours), metrics(theirs)
    assert [mine[f"zk_{name}"] for name in SHARED] == [other[f"zk_{name}"] for name in SHARED]
    # What nobody did on ours has no namespace, and no queue stands between the leader and its learners.
    missing = {name for name in other if name not in mine and not re.search("_namespace|_learner_handler_qp_", name)}
    assert not missing
    for name in ("server_state", "peer_state", "synced_followers", "learners", "pending_syncs"):
        assert mine.get(f"zk_{name}") == other.get(f"zk_{name}")


def agree(ensemble: Ensemble) -> None:
    """Wait until every server has applied what the last one has."""
    until(
        lambda: len({member.zxid() for member in ensemble.running()}) == 1,
        lambda: f"all are at one zxid, not {[hex(member.zxid()) for member in ensemble.running()]}",
    )


@pytest.mark.parametrize("kind", [JAVA, JAVA_395])
def test_follower(kind: str, make_ensemble: MakeEnsemble) -> None:
    """Two followers of a Java leader, one of each kind, tell the same."""
    ensemble = make_ensemble({1: OURS, 2: kind, 3: kind})
    ensemble.start()
    ours, theirs = ensemble[1], ensemble[2]
    if ensemble.leader() == 2:
        theirs = ensemble[3]
    with administrating(ours.running) as session:
        trees.work(session, ours.port, "work")
        session.create("/mine", b"", EPHEMERAL)
        agree(ensemble)
        compare(ours, theirs)


def test_leader(make_ensemble: MakeEnsemble) -> None:
    """Of two leaders of the same ensemble, one after the other, each tells of its followers what the other does."""
    ensemble = make_ensemble({1: JAVA, 2: JAVA, 3: OURS})
    ensemble.start(1, 2)
    ensemble.start(3)
    told = {}
    for kind in (JAVA, OURS):
        leader = ensemble[ensemble.leader()]
        assert leader.kind == kind
        figures = metrics(leader)
        names = ("learners", "synced_followers", "synced_non_voting_followers", "synced_observers", "pending_syncs")
        told[kind] = [figures[f"zk_{name}"] for name in names], set(figures)
        assert re.search(r"^Proposal sizes last/min/max: -?\d+/-?\d+/-?\d+$", said(leader, b"srvr"), re.M)
        if kind == JAVA:
            # The one with the larger id follows on.
            ensemble.kill9(leader.sid)
            ensemble.wait()
            ensemble.start(leader.sid)
    assert told[JAVA][0] == told[OURS][0] == ["2", "2", "0", "0", "0"]
    assert not {name for name in told[JAVA][1] - told[OURS][1] if not re.search("_namespace|_handler_qp_", name)}
