"""JAAS files: what Java reads in them is read, and what is wrong is told without a secret."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from zktwisted.config.jaas import Login, Users, parse_jaas, read_jaas
from zktwisted.errors import ConfigError

MODULE = "org.apache.zookeeper.server.auth.DigestLoginModule"
FILE = f"""
/* Clients. */
Server {{
       {MODULE} required
       user_super="adminsecret"  // may do all
       user_bob="bob's \\"secret\\"";
}};
"Quorum Server" {{ {MODULE} REQUIRED user_test='testsecret'; {MODULE} optional 'user_a b'=c; }};
QuorumLearner {{ {MODULE} required username="test" password="p\\143ss\\tword\\\\"; }};
Kerberos {{ com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true keyTab="/etc/k"; }};
Other {{ com.example.Login required; }};
Empty {{ {MODULE} required; }};
"""


def broken(text: str) -> ConfigError:
    """Return what is said of a file."""
    try:
        parse_jaas(text, "jaas.conf")
    except ConfigError as error:
        return error
    raise AssertionError("nothing is wrong with it")


class JaasTests(SynchronousTestCase):
    """What a file holds."""

    def setUp(self) -> None:
        self.jaas = parse_jaas(FILE, "jaas.conf")

    def test_users(self) -> None:
        """The users of a section are those of all its modules, whichever way they are quoted."""
        users = self.jaas.users("Server")
        self.assertEqual(users.names, ("bob", "super"))
        self.assertEqual(users.password("super"), "adminsecret")
        self.assertEqual(users.password("bob"), 'bob\'s "secret"')
        self.assertIsNone(users.password("eve"))
        self.assertEqual(self.jaas.users("Quorum Server").names, ("a b", "test"))
        self.assertEqual(self.jaas.users("Quorum Server").password("a b"), "c")

    def test_with_user(self) -> None:
        """A user that is added takes the place of one of that name."""
        users = Users({"super": "old", "bob": "b"}).with_user("super", "new")
        self.assertEqual((users.password("super"), users.password("bob")), ("new", "b"))

    def test_login(self) -> None:
        """With the escapes that C has in strings."""
        login = self.jaas.login("QuorumLearner")
        self.assertEqual((login.username, login.password), ("test", "pcss\tword\\"))

    def test_unusable_sections(self) -> None:
        """The section, its line and what to write are named."""
        for section, line, said in (
            ("Kerberos", 10, "Kerberos"),
            ("Other", 11, "com.example.Login"),
            ("Empty", 12, "no users"),
            ("QuorumLearner", 9, "no users"),
        ):
            with self.subTest(section):
                error = self.assertRaises(ConfigError, self.jaas.users, section)
                self.assertEqual((error.file, error.line), ("jaas.conf", line))
                self.assertIn(said, error.message)
                self.assertTrue(error.remedy)
        self.assertIn("username", self.assertRaises(ConfigError, self.jaas.login, "Server").message)
        missing = self.assertRaises(ConfigError, self.jaas.users, "Client")
        self.assertIn("QuorumLearner", missing.remedy or "")

    def test_nothing_shows_a_secret(self) -> None:
        """Passwords are in no representation of what holds them."""
        shown = [repr(self.jaas), repr(self.jaas.sections), repr(self.jaas.users("Server"))]
        shown += [repr(self.jaas.login("QuorumLearner")), repr(Login("ann", "hidden-secret"))]
        self.assertFalse([text for text in shown if "secret" in text or "pcss" in text])

    def test_broken_files(self) -> None:
        """Each is refused with its line, and never with a word of what may be a password."""
        begin = f"Server {{\n {MODULE} required\n"
        for text, line, said in (
            (begin + ' user_bob="sesame\n";};', 3, "does not end"),
            (begin + ' user_bob="sesame"', 3, "the file ends"),
            (begin + ' user_bob "sesame";};', 3, '"="'),
            (begin + " user_bob=;};", 3, "the value of an option"),
            (begin + ' user_bob="sesame" sesame;};', 3, '"="'),
            (begin + ' user_bob="sesame" user_bob="sesame";};', 3, "user_bob is there twice"),
            (begin + ' user_bob="${sesame}";};', 3, "Java property"),
            (begin + " user_bob=/sesame;};", 3, "'/'"),
            (begin + ' user_bob="a";}', 3, '";"'),
            (begin + ' user_bob="a";};Server {};', 3, "Server is there twice"),
            (begin + ' user_bob="a";};Other {};', 3, "class of a login module"),
            ("Server {\n a.B sesame user_bob=x;};", 2, "required, requisite, sufficient or optional"),
            ("/* Server", 1, "comment does not end"),
            ("Server\n=", 2, '"{"'),
            ("{", 1, "name of a section"),
            ("Server, Client {", 1, "','"),
        ):
            with self.subTest(text):
                error = broken(text)
                self.assertEqual((error.file, error.line), ("jaas.conf", line))
                self.assertIn(said, error.message)
                self.assertNotIn("sesame", str(error))

    def test_an_empty_file(self) -> None:
        """It has no sections."""
        self.assertEqual(parse_jaas(" // nothing\n").sections, {})

    @settings(deadline=None, derandomize=True, max_examples=200)
    @given(st.text(alphabet="ab \"'\\{};=/*\n$required", max_size=40))
    def test_any_text(self, text: str) -> None:
        """Every text is a file or an error with a line."""
        try:
            parse_jaas(text)
        except ConfigError as error:
            self.assertIsNotNone(error.line)


class FileTests(SynchronousTestCase):
    """Files on disk."""

    def test_read(self) -> None:
        """In UTF-8, with or without a byte order mark."""
        path = Path(self.mktemp())
        path.write_bytes(b"\xef\xbb\xbf" + f'Server {{ {MODULE} required user_jörg="ü"; }};'.encode())
        self.assertEqual(read_jaas(path).users("Server").password("jörg"), "ü")

    def test_unreadable(self) -> None:
        """A file that is not there, a directory, a name that cannot be one, another encoding."""
        latin = self.mktemp()
        Path(latin).write_bytes(b"//\n// \xfc")
        os.mkdir(directory := self.mktemp())
        for path, line in (("/nowhere/jaas.conf", None), (directory, None), ("a\0b", None), (latin, 2)):
            with self.subTest(path):
                error = self.assertRaises(ConfigError, read_jaas, path)
                self.assertEqual((error.file, error.line), (path, line))
