"""
Clients write to an ensemble while its servers are killed, stopped, started again, and cut off from one another.

Which fault hits which server comes from a seed, ``ZKTWISTED_SEED`` chooses another one; ``ZKTWISTED_FAULT_ROUNDS``
chooses how many there are. After each fault the writers go on before it is mended, since two of three servers are
enough, and at the end everything that was promised to anybody is looked at.
"""

from __future__ import annotations

import os
import random
import resource

import pytest

from tests.interop.clients import servers
from tests.interop.conftest import MakeEnsemble
from tests.interop.ensembles import JAVA, OURS, Ensemble
from tests.interop.load import Load, under_load

SEED = int(os.environ.get("ZKTWISTED_SEED", "20240229"))
ROUNDS = int(os.environ.get("ZKTWISTED_FAULT_ROUNDS", "1"))
WRITERS = 4
#: Who is silent is soon dropped, and snapshots are taken all the time.
CONFIG = {"syncLimit": "4", "snapCount": "300"}
MIXES = {
    "ours": {1: OURS, 2: OURS, 3: OURS},
    "ours and Java": {1: JAVA, 2: OURS, 3: OURS},
}


def killed(ensemble: Ensemble, load: Load, sid: int) -> None:
    """The server dies, the others go on, it comes back."""
    ensemble.kill9(sid)
    load.progress()
    ensemble.start(sid)


def restarted(ensemble: Ensemble, load: Load, sid: int) -> None:
    """The server ends politely and starts again at once."""
    ensemble.stop(sid)
    ensemble.start(sid)


def frozen(ensemble: Ensemble, load: Load, sid: int) -> None:
    """The server stands still: its connections stay and nothing comes. The others drop it, and it finds that out."""
    ensemble.freeze(sid)
    load.progress()
    ensemble.thaw(sid)


def silenced(ensemble: Ensemble, load: Load, sid: int) -> None:
    """Nothing passes between the server and the others, while its clients still reach it."""
    assert ensemble.links is not None
    others = [other for other in ensemble.members if other != sid]
    ensemble.links.silence([sid], others)
    load.progress()
    ensemble.links.heal()


def cut(ensemble: Ensemble, load: Load, sid: int) -> None:
    """All connections between the server and the others break, and no new ones are made."""
    assert ensemble.links is not None
    ensemble.links.break_off([sid], [other for other in ensemble.members if other != sid])
    load.progress()
    ensemble.links.heal()


def all_killed(ensemble: Ensemble, load: Load, sid: int) -> None:
    """All die at once, and the server is the last to come back, when the others have begun without it."""
    ensemble.kill9(*ensemble.members)
    ensemble.start(*(other for other in ensemble.members if other != sid))
    load.progress()
    ensemble.start(sid)


FAULTS = [killed, restarted, frozen, silenced, cut, all_killed]


@pytest.mark.parametrize("mix", MIXES)
def test_faults(mix: str, make_ensemble: MakeEnsemble) -> None:
    """
    Every fault hits the leader once and a follower once in each round; every promise is kept.

    Beside a Java server, whose starts take long, it is every second of these.
    """
    chance = random.Random(SEED)
    ensemble = make_ensemble(MIXES[mix], config=CONFIG, linked=True)
    ensemble.start()
    story = []
    try:
        with under_load(ensemble, WRITERS, SEED) as load:
            for _ in range(ROUNDS):
                faults = [(fault, leads) for fault in FAULTS for leads in (True, False)]
                for fault, leads in chance.sample(
                    faults, len(faults) if JAVA not in MIXES[mix].values() else len(faults) // 2
                ):
                    leader = ensemble.leader()
                    sid = leader if leads else chance.choice([sid for sid in ensemble.members if sid != leader])
                    story.append(f"{fault.__name__} {sid}{' who leads' if leads else ''}")
                    fault(ensemble, load, sid)
                    ensemble.wait()
                    load.progress()
    except AssertionError as error:
        raise AssertionError(f"seed {SEED}: {', '.join(story)}: {error}") from error


@pytest.mark.skipif(servers.kind_under_test() != OURS, reason="a Java server stays, serving nobody, when its log fails")
def test_log_cannot_be_written(make_ensemble: MakeEnsemble) -> None:
    """A follower, then the leader, whose disk takes no more ends before it promises anything; the others go on."""
    ensemble = make_ensemble({1: JAVA, 2: OURS, 3: OURS})
    ensemble.start(2, 3)
    ensemble.start(1)
    assert ensemble.leader() == 3
    with under_load(ensemble, WRITERS) as load:
        for sid in (2, 3):
            process = ensemble[sid].running
            size = max(path.stat().st_size for path in (ensemble[sid].data_dir / "version-2").glob("log.*"))
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
            assert ensemble.ends(sid) not in (0, None)
            assert "File too large" in process.output
            load.progress()
            ensemble.start(sid)
            load.progress()
