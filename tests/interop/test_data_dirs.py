"""
A data directory goes back and forth between our server and Java's, and nothing is lost or changed on the way.

After each change of hands the whole tree is compared, as a client sees it: data, stats, ACLs, children, ephemerals,
and the sessions; no server may find that a transaction does not give the digest that it carries. Servers end politely
or crash, and snapshots are of every compression.
"""

from __future__ import annotations

import contextlib
import importlib.util
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.interop import trees
from tests.interop.clients import servers
from tests.interop.rawclient import RawSession
from tests.interop.trees import SECOND, Tree, administrator, connected, read_tree, sessions_of, work


class Case(NamedTuple):
    """How a directory travels."""

    java: str
    first: str
    compression: str
    crash: bool


CASES = [
    Case(servers.JAVA_380, "ours", "", crash=False),
    Case(servers.JAVA_380, "java", "", crash=True),
    Case(servers.JAVA_380, "ours", "gz", crash=True),
    Case(servers.JAVA_380, "java", "snappy", crash=False),
    Case(servers.JAVA_395, "ours", "snappy", crash=True),
]


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.first}-first-{c.java}-{c.compression or 'plain'}")
def test_back_and_forth(case: Case, tmp_path: Path) -> None:
    """Each of four changes of hands leaves the tree and the sessions as they were, and every digest right."""
    servers.need_java(case.java)
    if case.compression == "snappy" and importlib.util.find_spec("cramjam") is None:
        servers.missing("the snappy extra", "pip install zktwisted[snappy]")
    hands = ["ours", case.java] if case.first == "ours" else [case.java, "ours"]
    if servers.kind_under_test() != servers.OURS:
        hands = [servers.kind_under_test() if hand == "ours" else hand for hand in hands]
    before: dict[str, Tree] = {}
    living: dict[int, bytes] = {}
    for turn in range(5):
        server = servers.make_server(
            hands[turn % 2],
            tmp_path / f"turn-{turn}",
            config={
                # Snapshots are taken while the work goes on.
                "snapCount": "50",
                "snapshot.compression.method": case.compression,
                **trees.CONFIG,
            },
            data_dir=tmp_path / "data",
        )
        server.start()
        try:
            with contextlib.ExitStack() as connections:
                visitor = connections.enter_context(connected(administrator(server)))
                after = read_tree(visitor)
                if before:
                    assert after == before
                assert set(living) <= sessions_of(server)
                for session, password in living.items():
                    taken_up = RawSession(server.port, 40 * SECOND, session, password)
                    connections.enter_context(connected(taken_up))
                    assert taken_up.session_id == session, "the session was refused"
                worker = connections.enter_context(connected(administrator(server)))
                living[worker.session_id] = worker.password
                work(worker, server.port, f"turn-{turn}")
                before = read_tree(visitor)
                assert int(servers.monitor(server)["digest_mismatches_count"]) == 0, server.output
                visitor.close()
        finally:
            status = server.kill9() if case.crash else server.stop()
        assert case.crash or hands[turn % 2] != servers.OURS or status == 0
    suffixes = {path.suffix for path in (tmp_path / "data" / "version-2").glob("snapshot.*")}
    assert ("." + case.compression in suffixes) or not case.compression
    assert sum(path.endswith("/mine") for path in before) == 5
