"""
A running ensemble moves from Java's servers to ours and back, one server at a time, and nobody has to notice.

While clients write through all servers: nothing that was acknowledged is lost, and no session.
"""

from __future__ import annotations

import pytest
from kazoo.client import KazooClient

from tests.interop.clients.kazoos import RETRY, WAIT, Told
from tests.interop.conftest import MakeEnsemble
from tests.interop.ensembles import JAVA, JAVA_395, OURS, Ensemble
from tests.interop.load import under_load

WRITERS = 4


def roll(ensemble: Ensemble, kind: str) -> list[int]:
    """Make every server one of another kind: followers first, the leader last, as one does it."""
    leader = ensemble.leader()
    order = [sid for sid in ensemble.members if sid != leader] + [leader]
    for sid in order:
        ensemble.become(sid, kind)
    return order


@pytest.mark.parametrize("java", [JAVA, JAVA_395])
def test_there_and_back(java: str, make_ensemble: MakeEnsemble) -> None:
    """3 Java, then 3 ours, then 3 Java, with clients of two kinds that move on and keep their sessions."""
    ensemble = make_ensemble({1: java, 2: java, 3: java}, config={"snapCount": "300"})
    ensemble.start()
    kazoo = KazooClient(ensemble.hosts(), timeout=40.0, connection_retry=RETRY, command_retry=RETRY)
    kazoo.start(WAIT)
    try:
        first = kazoo.client_id
        told = Told()
        kazoo.ensure_path("/kazoo/counter")
        kazoo.create("/kazoo/alive", b"", ephemeral=True)
        kazoo.DataWatch("/kazoo/counter", lambda data, stat: told(data))
        with under_load(ensemble, WRITERS) as load:
            for round_number, kind in enumerate((OURS, java)):
                for sid in roll(ensemble, kind):
                    assert ensemble[sid].kind == kind
                load.progress()
                value = b"%d" % round_number
                kazoo.retry(kazoo.set, "/kazoo/counter", value)
                told.until(lambda values, value=value: value in values)
        assert all(writer.moves for writer in load.writers)
        assert kazoo.client_id == first, "kazoo had to open another session"
        assert kazoo.retry(kazoo.exists, "/kazoo/alive") is not None
    finally:
        kazoo.stop()
        kazoo.close()
    assert {member.kind for member in ensemble.running()} == {java}
