"""The table of commands."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from tests.ops.fakes import FakeConnection, FakeView, FakeWatches, scratch
from zktwisted.ops.commands import (
    COMMANDS,
    Commands,
    directory_size,
    last_operation,
    max_file_descriptors,
    open_file_descriptors,
    quota_gauges,
)
from zktwisted.ops.fourletter import WORDS


class TableTests(SynchronousTestCase):
    def setUp(self) -> None:
        client = FakeConnection("127.0.0.1:5000", session_id=7, last_op=4)
        self.view = FakeView(
            connections=[client, FakeConnection("127.0.0.1:5001")],
            ephemerals={7: [b"/e"]},
            sessions=[(972000, [7])],
            watches=FakeWatches([(b"/e", client), (b"/f", client)]),
            digests=[(0x80, 5, 2)],
        )

    def test_values(self) -> None:
        """Every command gives values that JSON can carry, under its own names."""
        source = Commands(self.view)
        for command in COMMANDS:
            fields = command.run(source)
            self.assertEqual(json.loads(json.dumps(fields)), fields, command.name)

    def test_names(self) -> None:
        """No name or alias stands twice, and every four-letter word but stmk is one."""
        found = [name for command in COMMANDS for name in (command.name, *command.aliases)]
        self.assertEqual(len(found), len(set(found)))
        words = {word.decode() for word in WORDS if word.isalpha()}
        self.assertEqual(words - set(found), {"stmk"})

    def test_dump(self) -> None:
        """Session ids are text as keys and numbers as values."""
        self.assertEqual(
            Commands(self.view).dump(),
            {"expiry_time_to_session_ids": {"972000": [7]}, "session_id_to_ephemeral_paths": {"7": ["/e"]}},
        )

    def test_watches(self) -> None:
        """Watches by session and by path."""
        source = Commands(self.view)
        self.assertEqual(source.watches(), {"session_id_to_watched_paths": {"7": ["/e", "/f"]}})
        self.assertEqual(source.watches_by_path(), {"path_to_session_ids": {"/e": [7], "/f": [7]}})
        self.assertEqual(source.watch_summary(), {"num_connections": 1, "num_paths": 2, "num_total_watches": 2})

    def test_connections(self) -> None:
        """A connection without a session has only the first fields."""
        with_session, without = Commands(self.view).connections()["connections"]  # type: ignore[misc, attr-defined]
        self.assertEqual(with_session["last_operation"], "GETD")
        self.assertEqual(len(without), 5)


class QuotaGaugeTests(SynchronousTestCase):
    def test_sums(self) -> None:
        """A namespace's gauges are the sums over its quotas; what has no limit shows -1."""
        quotas = [(b"/q6/a", 6, 7, 2, 0), (b"/q6/c", 16, 17, 2, 0), (b"/q1", 5, -1, 1, 3), (b"/q5", 7, -1, -1, -1)]
        self.assertEqual(
            dict(quota_gauges(quotas)),
            {
                "q6_quota_count_limit_per_namespace": 22,
                "q1_quota_count_limit_per_namespace": 5,
                "q5_quota_count_limit_per_namespace": 7,
                "q6_quota_bytes_limit_per_namespace": 24,
                "q1_quota_bytes_limit_per_namespace": -1,
                "q5_quota_bytes_limit_per_namespace": -1,
                "q6_quota_count_usage_per_namespace": 4,
                "q1_quota_count_usage_per_namespace": 1,
                "q6_quota_bytes_usage_per_namespace": 0,
                "q1_quota_bytes_usage_per_namespace": 3,
            },
        )


class FactTests(SynchronousTestCase):
    def test_directory_size(self) -> None:
        """Files count, directories and what is missing do not."""
        directory = scratch(self)
        self.assertEqual([directory_size(None), directory_size(str(directory))], [0, 0])
        (directory / "sub").mkdir(parents=True)
        (directory / "a").write_bytes(b"12345")
        (directory / "b").write_bytes(b"67")
        self.assertEqual(directory_size(str(directory)), 7)

    def test_descriptors(self) -> None:
        """The process has some files open, and not more than it may."""
        opened, limit = open_file_descriptors(), max_file_descriptors()
        self.assertTrue(opened == -1 or limit == -1 or 0 < opened <= limit)

    def test_last_operation(self) -> None:
        """Ops have short names; none yet is NA, unknown ones show their code."""
        self.assertEqual(
            [last_operation(op) for op in (None, 11, -10, 22, 999)], ["NA", "PING", "SESS", "MLTR", "0x3e7"]
        )
