"""Settings of a zoo.cfg for test servers, and who may log in."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from zktwisted.config.jaas import read_jaas
from zktwisted.errors import ConfigError
from zktwisted.kit.credentials import write_jaas
from zktwisted.kit.settings import settings_of


class SettingsTests(SynchronousTestCase):
    """Lines become settings."""

    def test_lines(self) -> None:
        """Only what was said is in it, under the names that a program uses."""
        found = settings_of(["tickTime=100", "4lw.commands.whitelist=*"], {"zookeeper.skipACL": "yes"})
        self.assertEqual((100, ("*",), True), tuple(found[name] for name in (
            "tick_time", "four_letter_words_whitelist", "skip_acl"
        )))  # fmt: skip
        self.assertNotIn("data_dir", found)
        self.assertNotIn("min_session_timeout", settings_of([]))

    def test_wrong(self) -> None:
        """What cannot work is refused as in the file."""
        self.assertRaises(ConfigError, settings_of, ["tickTime=x"])


class JaasTests(SynchronousTestCase):
    """The file of who may log in."""

    def test_written_as_it_is_read(self) -> None:
        """Whatever may stand in a password is read back."""
        path = Path(self.mktemp())
        write_jaas(path, {"ann": "a b;{}='", "bob": "\xe4"})
        users = read_jaas(path).users("Server")
        self.assertEqual(("ann", "bob"), users.names)
        self.assertEqual(("a b;{}='", "\xe4"), (users.password("ann"), users.password("bob")))
        self.assertEqual(0o600, path.stat().st_mode & 0o777)

    def test_refused(self) -> None:
        """What cannot stand there is refused, and the password is not told."""
        for name, password in (("a b", "secret"), ("ann", 'sec"ret'), ("ann", "sec\\ret"), ("ann", "sec\nret")):
            error = self.assertRaises(ValueError, write_jaas, Path(self.mktemp()), {name: password})
            self.assertNotIn("ret", str(error))
