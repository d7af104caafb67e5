"""What principals are called: the rules of Java's servers, and what is said of those that cannot be read."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from zktwisted.config import ServerConfig
from zktwisted.config.jaas import Jaas, Users, parse_jaas
from zktwisted.config.kerberos import KerberosLogin, KerberosNames, NoNameError, Principal, parse_principal
from zktwisted.config.logins import read_logins
from zktwisted.errors import ConfigError

MODULE = "com.sun.security.auth.module.Krb5LoginModule"
DIGEST = "org.apache.zookeeper.server.auth.DigestLoginModule"
REALM = "EXAMPLE.COM"
BASE = "dataDir=/nowhere/data\nclientPort=2181\n"
MEMBERS = "initLimit=5\nsyncLimit=5\n" + "".join(f"server.{sid}=h{sid}:1:2\n" for sid in (1, 2, 3))


class NamesTests(SynchronousTestCase):
    """Rules."""

    def test_principals(self) -> None:
        """They have a name, mostly a realm, and maybe a host."""
        for text, principal in (
            ("bob", Principal("bob")),
            ("bob/h", Principal("bob/h")),
            ("bob@R", Principal("bob", None, "R")),
            ("bob/h@R", Principal("bob", "h", "R")),
            ("bob/@", Principal("bob", "", "")),
        ):
            self.assertEqual(parse_principal(text), principal)
        for text in ("a@b@c", "a/b/c@R", "a@b/c"):
            self.assertRaises(NoNameError, parse_principal, text)

    def test_short_names(self) -> None:
        """The first rule that applies makes the name; these are what Java makes."""
        for rules, text, name in (
            ("DEFAULT", "bob", "bob"),
            ("DEFAULT", "bob/h", "bob/h"),
            ("DEFAULT", f"bob@{REALM}", "bob"),
            ("DEFAULT", f"bob/h@{REALM}", "bob"),
            ("RULE:[2:$1;$2](^.*;admin$)s/;admin$/X/ DEFAULT", f"bob/admin@{REALM}", "bobX"),
            ("RULE:[2:$1;$2](^.*;admin$)s/;admin$/X/ DEFAULT", f"bob/other@{REALM}", "bob"),
            ("RULE:[1:$1@$0](.*@OTHER)s/@.*//DEFAULT", "bob@OTHER", "bob"),
            ("RULE:[1:$0$1]", "bob@OTHER", "OTHERbob"),
            ("RULE:[1:$1]s/b/x/", "bobob@OTHER", "xobob"),
            ("RULE:[1:$1]s/b/x/g", "bobob@OTHER", "xoxox"),
            (r"RULE:[1:$1]s/(b)(o)/$2$1-\$/g", "bobob@OTHER", "ob-$ob-$b"),
            (r"RULE:[1:$1](\w+)s/\d+//  RULE:[1:rest]", "bob-1@OTHER", "rest"),
            (r"RULE:[1:$1](\w+)s/\d+//  RULE:[1:rest]", "bob12@OTHER", "bob"),
            ("RULE:[0:zero]RULE:[1:one]", "bob@OTHER", "one"),
        ):
            self.assertEqual(KerberosNames(rules, REALM).short_name(parse_principal(text)), name, rules)

    def test_nameless(self) -> None:
        """Nobody who has no name in Java has one here."""
        for rules, text in (
            ("DEFAULT", "bob@OTHER"),
            ("", f"bob@{REALM}"),
            ("RULE:[2:$1]", "bob@OTHER"),
            ("RULE:[1:$1](o)", "bob@OTHER"),
            ("RULE:[1:$1@$0]", "bob@OTHER"),
            ("RULE:[1:a/b]", "bob@OTHER"),
            (r"RULE:[1:$1](\w+)", "j\xf6rg@OTHER"),
        ):
            self.assertRaises(NoNameError, KerberosNames(rules, REALM).identity, text)

    def test_identities(self) -> None:
        """Host and realm stay, unless they are removed."""
        for remove_host, remove_realm, expected in (
            (False, False, f"bob/h@{REALM}"),
            (True, False, f"bob@{REALM}"),
            (False, True, "bob/h"),
            (True, True, "bob"),
        ):
            names = KerberosNames("DEFAULT", REALM, remove_host=remove_host, remove_realm=remove_realm)
            self.assertEqual(names.identity(f"bob/h@{REALM}"), expected)
            self.assertEqual(names.identity("bob"), "bob")

    def test_unreadable_rules(self) -> None:
        """They are told, with what is wrong."""
        for rules, said in (
            ("FOO", "no such rule: FOO"),
            ("DEFAULT RULE:", "no such rule: RULE:"),
            ("RULE:[]", "no such rule"),
            ("RULE:[:x]", "no such rule"),
            ("RULE:[1:$1](b(.)b)", "not understood"),
            ("RULE:[1:$1]s/(/x/", "not understood"),
            (r"RULE:[1:$1](\p{Alpha})", "not understood"),
            ("RULE:[1:$1]([a-z&&[^b]])", "not understood"),
            ("RULE:[1:$2]", "no $2"),
            ("RULE:[1:$1$]", "no $"),
            ("RULE:[1:$1]s/b/$1/", "not there"),
            ("RULE:[1:$1]s/b/$/", "not there"),
        ):
            error = self.assertRaises(ValueError, KerberosNames, rules)
            self.assertIn(said, str(error), rules)

    @settings(deadline=None, derandomize=True, max_examples=200)
    @given(
        st.lists(st.sampled_from("RULE:[,1,2:,$1,$0,],(,),.*,s/,/,g, ,DEFAULT".split(","))),
        st.text(alphabet="ab/@", max_size=8),
    )
    def test_any_rules(self, pieces: list[str], name: str) -> None:
        """They can be read or not, and give a simple name or none."""
        try:
            made = KerberosNames("".join(pieces), "a").short_name(parse_principal(name))
        except ValueError:
            return
        self.assertTrue("@" not in made and ("/" not in made or made == name))


class SettingsTests(SynchronousTestCase):
    """Keys."""

    def refused(self, text: str) -> ConfigError:
        """Return what is said of a configuration."""
        return self.assertRaises(ConfigError, ServerConfig.from_text, text, myid=1)

    def test_keys(self) -> None:
        """They are those of Java's servers, as properties and as keys of the file."""
        rules = "RULE:[1:$1](b.*)s/b/B/"
        for prefix in ("", "zookeeper."):
            config = ServerConfig.from_text(
                f"{BASE}{prefix}security.auth_to_local={rules}\n{prefix}kerberos.removeHostFromPrincipal=true\n"
                f"{prefix}kerberos.removeRealmFromPrincipal=true\n"
            )
            self.assertEqual(config.kerberos_names().identity("bob@OTHER"), "Bob")
            self.assertEqual(config.notes, ())
        config = ServerConfig.from_text(BASE, properties={"zookeeper.server.realm": "R"})
        self.assertEqual(config.server_realm, "R")

    def test_bad_rules(self) -> None:
        """They are told with their line and an example."""
        error = self.refused(f"{BASE}security.auth_to_local=RULE:[1:$1](x")
        self.assertEqual((error.key, error.line), ("security.auth_to_local", 3))
        self.assertIn("no such rule: (x", error.message)
        self.assertIn("DEFAULT", error.remedy or "")

    def test_bad_service(self) -> None:
        """The servers are services on hosts."""
        for service in ("zkquorum", "/h", "a/b/c", "a/", "a/b@", "a@b/c", "a\\\\/b/c"):
            error = self.refused(f"{BASE}quorum.auth.kerberos.servicePrincipal={service}")
            self.assertEqual((error.key, error.line), ("quorum.auth.kerberos.servicePrincipal", 3), service)
            self.assertIn("_HOST", error.remedy or "")
        for service in ("zkquorum/_HOST", "zkquorum/localhost@R"):
            ServerConfig.from_text(f"{BASE}quorum.auth.kerberos.servicePrincipal={service}")


class SectionTests(SynchronousTestCase):
    """Sections of JAAS files that ask for Kerberos."""

    def setUp(self) -> None:
        self.keytab = str(Path(self.mktemp()).absolute())
        Path(self.keytab).write_bytes(b"\x05\x02")

    def section(self, options: str, name: str = "Server") -> Jaas:
        """Parse a file of one section; C{KEYTAB} stands for the path of one that is there."""
        text = f"\n{name} {{ {MODULE} required {options.replace('KEYTAB', self.keytab)}; }};"
        return parse_jaas(text, "jaas.conf")

    def test_accepting(self) -> None:
        """A key, where it is, and whose."""
        for options, login in (
            ('useKeyTab=true keyTab="KEYTAB" principal="zk/h@R"', KerberosLogin("zk/h@R", True, self.keytab)),
            ('useKeyTab=TRUE keyTab="FILE:KEYTAB" principal="zk/h"', KerberosLogin("zk/h", True, self.keytab)),
            ('useKeyTab=true principal="zk/h" storeKey=true debug=true', KerberosLogin("zk/h", True)),
        ):
            self.assertEqual(self.section(options).accepting("Server"), login)

    def test_calling(self) -> None:
        """A key, or tickets."""
        key = 'useKeyTab=true keyTab="KEYTAB" principal="ann@R"'
        self.assertEqual(self.section(key).calling("Server"), KerberosLogin("ann@R", True, self.keytab))
        tickets = self.section('useTicketCache=true ticketCache="FILE:/c"')
        self.assertEqual(tickets.calling("Server"), KerberosLogin(None, False, None, True, "/c"))
        self.assertEqual(
            self.section("useTicketCache=true").calling("Server"), KerberosLogin(None, False, None, True, None)
        )

    def test_both(self) -> None:
        """Where a section has both, it is Kerberos, as in Java."""
        jaas = self.section(f'useKeyTab=true principal="zk/h@R"; {DIGEST} optional user_bob="b"')
        self.assertEqual(jaas.accepting("Server"), KerberosLogin("zk/h@R", True))
        self.assertIsInstance(parse_jaas(f"S {{ {DIGEST} required user_a=b; }};").accepting("S"), Users)

    def test_useless_sections(self) -> None:
        """Each is refused with file, line and what to write."""
        latin = str(Path(self.mktemp()).absolute())
        Path(latin).write_bytes(b"PK")
        accepted = (
            ("", "where its key is"),
            ('keyTab="KEYTAB" principal="zk/h@R"', "where its key is"),
            ('useKeyTab=true keyTab="KEYTAB"', "where its key is"),
            ('useKeyTab=true keyTab="/nowhere/k" principal="zk/h@R"', "/nowhere/k, which cannot be read"),
            ('useKeyTab=true keyTab="a\\0b" principal="zk/h@R"', "which cannot be read"),
            (f'useKeyTab=true keyTab="{latin}" principal="zk/h@R"', "which is no keytab"),
            ('useKeyTab=yes keyTab="KEYTAB" principal="zk/h@R"', "useKeyTab is neither true nor false"),
            ('useKeyTab=true keyTab="KEYTAB" principal="zk@R"', "zk@R, which is no service"),
            ('useKeyTab=true keyTab="KEYTAB" principal="zk"', "zk, which is no service"),
            ('useKeyTab=true keyTab="KEYTAB" principal="zk/a/b@R"', "which is no service"),
            ('useKeyTab=true keyTab="KEYTAB" principal="*"', "which is no service"),
        )
        called = (
            ("", "neither key nor tickets"),
            ('useKeyTab=true keyTab="KEYTAB"', "where its key is"),
            ('useKeyTab=true principal="ann"', "where its key is"),
        )
        for method, cases in (("accepting", accepted), ("calling", called)):
            for options, said in cases:
                with self.subTest(f"{method}: {options}"):
                    error = self.assertRaises(ConfigError, getattr(self.section(options), method), "Server")
                    self.assertIn(said, error.message)
                    self.assertEqual((error.file, error.line), ("jaas.conf", 2))
                    self.assertTrue(error.remedy)

    def config(self, text: str, lines: str = "") -> ServerConfig:
        """A configuration with a JAAS file."""
        path = Path(self.mktemp()).absolute()
        path.write_text(text, "utf-8")
        return ServerConfig.from_text(f"{BASE}java.security.auth.login.config={path}\n{lines}", myid=1)

    def test_the_extra(self) -> None:
        """It is named when it is missing, and only needed where Kerberos is asked for."""
        kerberos = f'Server {{ {MODULE} required useKeyTab=true keyTab="{self.keytab}" principal="zk/h@R"; }};'
        digest = f"Server {{ {DIGEST} required user_a=b; }};"
        with patch("zktwisted.config.logins.find_spec", return_value=None):
            error = self.assertRaises(ConfigError, self.config, kerberos)
            self.assertEqual(error.remedy, "pip install zktwisted[kerberos]")
            self.assertIsNotNone(error.file)
            self.config(digest)
        with patch("zktwisted.config.logins.find_spec", return_value=object()):
            config = self.config(kerberos, "fips-mode=true")
            self.assertEqual(read_logins(config).clients, KerberosLogin("zk/h@R", True, self.keytab))

    def test_each_its_own(self) -> None:
        """Clients may have to do with the one and servers with the other."""
        mixed = (
            f'Server {{ {MODULE} required useKeyTab=true keyTab="{self.keytab}" principal="zk/h@R"; }};'
            f"QuorumServer {{ {DIGEST} required user_a=b; }};"
            f"QuorumLearner {{ {DIGEST} required username=a password=b; }};"
        )
        lines = f"{MEMBERS}quorum.auth.enableSasl=true\nquorum.auth.learnerRequireSasl=true\n"
        with patch("zktwisted.config.logins.find_spec", return_value=object()):
            logins = read_logins(self.config(mixed, lines))
        self.assertIsInstance(logins.clients, KerberosLogin)
        self.assertIsInstance(logins.servers, Users)
        self.assertEqual(getattr(logins.learner, "username", None), "a")
