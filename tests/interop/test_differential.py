"""Generated requests to a server of ours and to a Java server, every answer, event and disconnect compared.

3.9.5 is the release that we match. Against 3.8.0 the sequences keep clear of what has changed since
(``differential/generate.py``), and what is left is in ``differential/known.py``, each with its reason.

``ZKTWISTED_SEQUENCES`` says how many sequences are run against each release, ``ZKTWISTED_FIRST_SEED`` where the seeds
begin. A failure names its seed and prints the shortest sequence that was found to show it.
"""

from __future__ import annotations

import os
import struct

import pytest

from . import java
from .differential import records as op
from .differential.generate import Generator
from .differential.lockstep import ENFORCED_SETTINGS, OPEN_SETTINGS, PLAIN_SETTINGS
from .differential.pair import OURS, Pair, compare, smallest
from .differential.steps import Request, Send
from .rawclient import OPEN_ACL, buffer

SEQUENCES = int(os.environ.get("ZKTWISTED_SEQUENCES", "150"))
FIRST_SEED = int(os.environ.get("ZKTWISTED_FIRST_SEED", "1"))
LENGTH = 40
OTHER_SETTINGS = {
    "nothing configured": PLAIN_SETTINGS,
    "authentication enforced": ENFORCED_SETTINGS,
    "ACLs skipped": OPEN_SETTINGS,
}
WHY_NOT = {"3.8.0": "Debian's zookeeper package is not installed", "3.9.5": java.HOW_TO_395}


def need(release: str) -> None:
    """Skip a test whose Java server cannot be had here."""
    if not java.available(release):
        pytest.skip(WHY_NOT[release])


@pytest.mark.parametrize("release", ["3.8.0", "3.9.5"])
def test_ours_answers_as_java(release: str) -> None:
    """Whatever a client sends, valid or not, our server answers as the Java server does."""
    need(release)
    pair = Pair(release, OURS)
    try:
        compare(pair, release, range(FIRST_SEED, FIRST_SEED + SEQUENCES), LENGTH, pytest.fail)
    finally:
        pair.close()


@pytest.mark.parametrize("kind", list(OTHER_SETTINGS))
def test_ours_answers_as_java_when_set_up_so(kind: str) -> None:
    """With other settings the two agree as well."""
    need("3.9.5")
    pair = Pair("3.9.5", OURS, OTHER_SETTINGS[kind])
    try:
        compare(pair, "3.9.5", range(FIRST_SEED, FIRST_SEED + SEQUENCES // 5), LENGTH, pytest.fail)
    finally:
        pair.close()


def test_java_answers_as_java() -> None:
    """The comparison itself is sound: two Java servers of one release do not differ."""
    need("3.9.5")
    pair = Pair("3.9.5", "3.9.5")
    try:
        compare(pair, "3.9.5", range(10), LENGTH, pytest.fail)
    finally:
        pair.close()


def test_a_seed_makes_the_same_sequence_again() -> None:
    """A seed is all that it takes to repeat a failure."""
    for release in ("3.8.0", "3.9.5"):
        assert Generator(7, release).sequence(LENGTH) == Generator(7, release).sequence(LENGTH)


def test_a_difference_is_found_and_made_small() -> None:
    """A step that the two servers answer differently is found, and the steps around it are taken away."""
    need("3.8.0")
    need("3.9.5")
    # 3.8 answers a create2 inside of a multi as a create.
    record = buffer(b"/r@@@@/new") + buffer(b"") + OPEN_ACL + bytes(4)
    multi = struct.pack(">ibi", op.CREATE2, 0, -1) + record + struct.pack(">ibi", -1, 1, -1)
    create2 = Send(0, (Request(1, op.MULTI, multi, "multi"),))
    steps = Generator(3, "3.8.0").sequence(10)
    steps.insert(6, create2)
    pair = Pair("3.8.0", "3.9.5")
    try:
        difference = pair.difference(steps)
        assert difference is not None, "the difference was not seen"
        small, difference = smallest(pair, steps, difference)
    finally:
        pair.close()
    assert small == [create2]
    assert ".frames[0].results[0].type: 1, ours 15" in difference.texts
