"""The grammar of server lines, against what Java makes of them."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.config.tables import rows
from zktwisted.config import Address, Ensemble, Member
from zktwisted.errors import ConfigError

THREE = "server.1=a:2888:3888;2181\nserver.2=b:2888:3888:observer\nserver.3=[::1]:2888:3888;127.0.0.1:2181"


class TableTests(SynchronousTestCase):
    """What Java 3.9.5 answers for many lines, we answer."""

    def test_server_lines(self) -> None:
        """A server line: its parts, its canonical text, or the error."""
        for row in rows("server_line"):
            self.assertEqual(self.server_line(row), row["error"] if not row["ok"] else None, row)

    def server_line(self, row: dict[str, Any]) -> str | None:
        """Compare one row; return the error, worded as Java's."""
        try:
            member = Member.parse(row["id"], row["value"], multi_address=row["multiAddressEnabled"])
        except ConfigError as error:
            self.assertEqual(error.key, f"server.{row['id']}")
            # A defect of Java's, for which we have a sentence.
            return row["error"] if "IndexOutOfBounds" in row.get("exception", "") else error.message
        self.assertEqual(member.text, row["toString"])
        self.assertEqual(member.role.upper(), row["type"])
        self.assertEqual([f"{each.host}:{each.port}" for each in member.addresses], row["addr"])
        elections = sorted(f"{each.host}:{each.port}" for each in member.election_addresses)
        self.assertEqual(elections, row["electionAddr"])
        client = member.client_address
        self.assertEqual(f"{client.host}:{client.port}" if client else None, row["clientAddr"])
        return None

    def test_dynamic_configs(self) -> None:
        """The lines of a whole ensemble: who votes, who observes, its text, or the error."""
        for row in rows("dynamic_config"):
            self.assertEqual(self.dynamic_config(row), row["error"] if not row["ok"] else None, row)

    def dynamic_config(self, row: dict[str, Any]) -> str | None:
        """Compare one row; return the error, worded as Java's."""
        try:
            ensemble = Ensemble.parse(row["lines"], strict=not row["configBackwardCompatibilityMode"])
            ensemble.check(standalone_enabled=row["standaloneEnabled"])
        except ConfigError as error:
            # A defect of Java's, for which we have a sentence.
            return row["error"] if "NullPointer" in row.get("exception", "") else error.message
        self.assertEqual(ensemble.text, row["toString"])
        self.assertEqual([member.sid for member in ensemble.voters], row["voting"])
        self.assertEqual([member.sid for member in ensemble.observers], row["observing"])
        self.assertEqual(ensemble.hierarchical, row["class"] == "QuorumHierarchical")
        self.assertEqual(f"{ensemble.version:x}", row["version"])
        return None


class EnsembleTests(SynchronousTestCase):
    def test_values(self) -> None:
        """Servers are values with their addresses, role and client address."""
        ensemble = Ensemble.parse(THREE)
        self.assertEqual([member.sid for member in ensemble.voters], [1, 3])
        self.assertEqual([member.sid for member in ensemble.observers], [2])
        self.assertEqual(ensemble.member(1), Ensemble.parse(THREE.splitlines()).members[0])
        self.assertIsNone(ensemble.member(4))
        third = ensemble.member(3)
        assert third is not None
        self.assertEqual(third.addresses, (Address("0:0:0:0:0:0:0:1", 2888),))
        self.assertEqual(third.client_address, Address("127.0.0.1", 2181))

    def test_canonical_text_is_stable(self) -> None:
        """What was printed parses to the same value and prints the same."""
        text = Ensemble.parse(f"{THREE}\nversion=1f").text
        self.assertEqual(Ensemble.parse(text), Ensemble.parse(f"{THREE}\nversion=1f"))
        self.assertEqual(Ensemble.parse(text).text, text)
        self.assertFalse(text.endswith("\n"))
        self.assertEqual(text.splitlines()[-1], "version=1f")

    def test_negative_version(self) -> None:
        """A version with the highest bit set prints as Java prints it."""
        self.assertEqual(Ensemble((), version=-1).text, "version=ffffffffffffffff")

    def test_error_names_key(self) -> None:
        """An error names the line that is wrong, as it is written."""
        error = self.assertRaises(ConfigError, Ensemble.parse, "server.1=a:1:2\nserver.02=x")
        self.assertEqual(error.key, "server.02")
        error = self.assertRaises(ConfigError, Ensemble.parse, "server.1=a:1:2\nserver.2=b:1:2:observer\ngroup.1=1:2")
        self.assertEqual(error.key, "group.1")

    def test_large_numbers(self) -> None:
        """Ids and versions have 64 bits."""
        for line in ("server.9223372036854775808=a:1:2", "version=ffffffffffffffff"):
            self.assertRaises(ConfigError, Ensemble.parse, line)

    @settings(deadline=None, max_examples=300, derandomize=True)
    @given(st.text(st.sampled_from("a1[]:;|. 65536-observer"), max_size=40), st.booleans())
    def test_total(self, value: str, multi: bool) -> None:
        """Any value is a server or refused, and what is a server prints so that it parses again."""
        try:
            member = Member.parse(1, value, multi_address=multi)
        except ConfigError:
            return
        self.assertEqual(Member.parse(1, member.text, multi_address=True).text, member.text)
