"""ACLs: acceptance, the check, the shared table, and the schemes' own rules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from zktwisted.errors import Code, KeeperError
from zktwisted.tree.acl import AclList, AclTable, check, fix_acl, is_super, mask_digests
from zktwisted.tree.schemes import (
    DigestScheme,
    EnsembleScheme,
    ForeignScheme,
    KeyScheme,
    SaslScheme,
    Schemes,
    X509Scheme,
    generate_digest,
    hash_name,
    match_ip,
    valid_digest,
    valid_ip,
    valid_sasl,
    valid_x509,
)
from zktwisted.wire.proto import ACL, Id

TABLES = Path(__file__).parents[1] / "golden" / "tables"

READ, WRITE, CREATE, DELETE, ADMIN, ALL = 1, 2, 4, 8, 16, 31
OPEN = ACL(ALL, Id("world", "anyone"))
BOB = Id("digest", "bob:fyVmFCwVbTJYrznoSu1koqYEYF0=")
ALICE = Id("digest", "alice:V55/p2T0OpjQ+low3NVAH4aLvm0=")
LOCAL = Id("ip", "127.0.0.1")
SUPER = Id("super", "")
STOCK = Schemes()
NULL: Any = None
NAMES = st.builds(
    Id,
    st.sampled_from(("digest", "ip", "sasl", "x509", "key", "own", "ensemble", "world", "super", "none")),
    st.sampled_from(("a", "A", "b", "any", "super", "127.0.0.1", "127.0.0.0/8")),
)


def rows(name: str) -> list[dict[str, Any]]:
    with (TABLES / f"{name}.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def acl(*entries: ACL) -> AclList:
    return AclList(1, entries)


class DigestTests(SynchronousTestCase):
    """Digest ids are what Java makes of the same bytes."""

    def test_golden(self) -> None:
        """Every recorded password gives the recorded id, from text and from bytes."""
        for row in rows("digest_auth"):
            text = row["idPassword"]
            self.assertEqual(generate_digest(text), row["digest"])
            self.assertEqual(generate_digest(text.encode("utf-8")), row["digest"])

    def test_malformed_utf8(self) -> None:
        """Malformed bytes count as the replacement character."""
        self.assertEqual(generate_digest(b"u:\xff"), generate_digest("u:\ufffd"))

    def test_lone_surrogate(self) -> None:
        """A surrogate that stands alone is hashed as a question mark."""
        self.assertEqual(generate_digest("u:\ud800"), generate_digest("u:?"))

    def test_algorithms(self) -> None:
        """Java's spellings are understood in any case, and they differ in their hashes."""
        self.assertEqual(generate_digest("a:b", "sha-1"), generate_digest("a:b"))
        self.assertEqual(generate_digest("a:b", "SHA"), generate_digest("a:b", "SHA1"))
        self.assertEqual(
            generate_digest("super:secret", "SHA-256"), "super:WTA5ucCHTdJq645xIMibj8HviTPeB5mMuJ4/+v1dIEw="
        )
        made = {generate_digest("a:b", name) for name in ("MD5", "SHA1", "SHA-256", "SHA-512", "SHA3-256")}
        self.assertEqual(len(made), 5)

    def test_unknown_algorithm(self) -> None:
        """An unknown algorithm is told with what is known."""
        error = self.assertRaises(ValueError, hash_name, "SHA-7")
        self.assertIn("SHA3-256", str(error))

    def test_valid(self) -> None:
        """An id has two parts, empty ones at the end not counted."""
        for good in ("a:b", ":b", "a:b:", "a:b::"):
            self.assertTrue(valid_digest(good), good)
        for bad in ("a", "a:", "a:b:c", "", ":", "::"):
            self.assertFalse(valid_digest(bad), bad)


class IpTests(SynchronousTestCase):
    """Addresses and prefixes are read and compared as the Java server does it."""

    def test_golden(self) -> None:
        """Validity and every match of the recorded table."""
        for row in rows("ip_acl"):
            expr = row["expr"]
            self.assertEqual(valid_ip(expr), row["isValid"], expr)
            for address, matched in row["matches"].items():
                self.assertEqual(match_ip(address, expr), matched, (address, expr))

    def test_java_text_of_ipv6(self) -> None:
        """The uncompressed form in which identities are written matches compressed entries."""
        self.assertTrue(match_ip("0:0:0:0:0:0:0:1", "::1"))
        self.assertTrue(match_ip("2001:db8:0:0:0:0:0:9", "2001:DB8::/32"))
        self.assertFalse(match_ip("fe80:0:0:0:0:0:0:1%eth0", "fe80::/10"))

    def test_malformed(self) -> None:
        """What is no address is neither valid nor matched."""
        for bad in ("::ffff:1.2.3.4", "1::2::3", "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7::8", ":1:2:3:4:5:6:7", "12345::"):
            self.assertFalse(valid_ip(bad), bad)
            self.assertFalse(match_ip(bad, bad), bad)
        self.assertTrue(valid_ip("::"))
        self.assertTrue(valid_ip("1:2:3:4:5:6::8/0"))

    @settings(deadline=None, max_examples=100, derandomize=True)
    @given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 32))
    def test_prefix(self, one: int, other: int, bits: int) -> None:
        """Two addresses match under a prefix exactly if their leading bits are equal."""

        def dotted(value: int) -> str:
            return ".".join(str(part) for part in value.to_bytes(4, "big"))

        self.assertEqual(match_ip(dotted(one), f"{dotted(other)}/{bits}"), one >> 32 - bits == other >> 32 - bits)


class OtherSchemeTests(SynchronousTestCase):
    """sasl, x509, key, ensemble, and the registry."""

    def test_sasl(self) -> None:
        """Names without a realm are free; with one they are Kerberos names."""
        for good in ("", "bob", "a/b/c", "bob@R", "zk/host@R"):
            self.assertTrue(valid_sasl(good), good)
        for bad in ("a@b@c", "a/b/c@R", "a@b/c"):
            self.assertFalse(valid_sasl(bad), bad)
        scheme = SaslScheme(anyone="any")
        self.assertTrue(scheme.matches("bob", "bob"))
        self.assertTrue(scheme.matches("super", "bob"))
        self.assertTrue(scheme.matches("eve", "any"))
        self.assertFalse(scheme.matches("eve", "bob"))
        self.assertFalse(SaslScheme().matches("eve", "any"))

    def test_x509(self) -> None:
        """Distinguished names are parsed; the configured super user matches everything."""
        for good in (
            "",
            "CN=a",
            "cn=a, OU=b;O=c",
            r"CN=client,O=Org\, Inc,C=US",
            'CN="a,b"',
            "1.2.3=#0401",
            "CN=a+UID=b",
        ):
            self.assertTrue(valid_x509(good), good)
        for bad in ("cn", "CN=a,", "=a", "XY=a", "CN=a,b", 'CN="a', "CN=a\\"):
            self.assertFalse(valid_x509(bad), bad)
        scheme = X509Scheme("CN=boss")
        self.assertTrue(scheme.matches("CN=boss", "CN=a"))
        self.assertTrue(scheme.matches("CN=a", "CN=a"))
        self.assertFalse(scheme.matches("CN=b", "CN=a"))

    def test_key_and_ensemble(self) -> None:
        """A key is opaque; the name of an ensemble is nobody's right."""
        self.assertTrue(KeyScheme().valid("x"))
        self.assertTrue(KeyScheme().matches("x", "x"))
        self.assertFalse(EnsembleScheme().valid("x"))
        self.assertFalse(EnsembleScheme().matches("x", "x"))

    def test_user_names(self) -> None:
        """whoAmI shows a digest's user, other ids whole, and nothing for a scheme without a provider."""
        schemes = Schemes([*STOCK.by_name.values(), SaslScheme(), X509Scheme(), KeyScheme(), EnsembleScheme()])
        for scheme, identity, shown in (
            ("digest", "bob:hash", "bob"),
            ("ip", "127.0.0.1", "127.0.0.1"),
            ("sasl", "bob@R", "bob@R"),
            ("x509", "CN=a", "CN=a"),
            ("key", "k", "k"),
            ("ensemble", "e", "e"),
            ("super", "CN=boss", ""),
        ):
            self.assertEqual(schemes.user_name(scheme, identity), shown)

    def test_registry(self) -> None:
        """digest can be left out, ip cannot; reserved names are refused."""
        self.assertIsNone(Schemes([]).get("digest"))
        self.assertIsNotNone(Schemes([]).get("ip"))

        class World(KeyScheme):
            name = "world"

        self.assertRaises(ValueError, STOCK.add, World())


class CheckTests(SynchronousTestCase):
    """Who may do what."""

    def test_nothing_denies_nothing(self) -> None:
        """No list and an empty list allow everything."""
        self.assertTrue(check(None, ADMIN, [LOCAL], STOCK))
        self.assertTrue(check(acl(), ADMIN, [], STOCK))
        self.assertTrue(acl().world & ADMIN)

    def test_world(self) -> None:
        """world:anyone grants its permissions to everybody, added up over entries."""
        some = acl(ACL(READ, Id("world", "anyone")), ACL(WRITE, Id("world", "anyone")), ACL(CREATE, BOB))
        self.assertEqual(some.world, READ | WRITE)
        self.assertTrue(check(some, WRITE, [], STOCK))
        self.assertFalse(check(some, CREATE, [LOCAL], STOCK))
        self.assertTrue(check(some, CREATE, [LOCAL, BOB], STOCK))

    def test_super_and_skip(self) -> None:
        """A super identity and skipACL pass everything."""
        mine = acl(ACL(ALL, BOB))
        self.assertFalse(check(mine, READ, [ALICE], STOCK))
        self.assertTrue(check(mine, READ, [ALICE, SUPER], STOCK))
        self.assertTrue(check(mine, READ, [], STOCK, skip=True))
        self.assertTrue(is_super([LOCAL, SUPER]))
        self.assertFalse(is_super([LOCAL]))

    def test_any_of_the_permissions(self) -> None:
        """One of several wanted permissions is enough."""
        self.assertTrue(check(acl(ACL(ADMIN, BOB)), READ | ADMIN, [BOB], STOCK))
        self.assertFalse(check(acl(ACL(WRITE, BOB)), READ | ADMIN, [BOB], STOCK))

    def test_scheme_must_agree_and_be_there(self) -> None:
        """An id helps only under its own scheme, and only while the server has that scheme."""
        self.assertFalse(check(acl(ACL(ALL, BOB)), READ, [Id("sasl", BOB.id)], STOCK))
        self.assertFalse(check(acl(ACL(ALL, BOB)), READ, [BOB], Schemes([])))
        self.assertTrue(check(acl(ACL(READ, Id("ip", "127.0.0.0/8"))), READ, [LOCAL], STOCK))

    def test_own_scheme(self) -> None:
        """A scheme that another program brings is asked like a stock one."""

        class Even:
            name = "even"
            authenticated = False

            def valid(self, acl_id: str) -> bool:
                return acl_id == "any"

            def matches(self, identity: str, acl_id: str) -> bool:
                return int(identity) % 2 == 0

            def user_name(self, identity: str) -> str:
                return "n" + identity

        schemes = Schemes([Even()])
        entry = ACL(READ, Id("even", "any"))
        self.assertEqual(fix_acl([entry], [], schemes), (entry,))
        self.assertTrue(check(acl(entry), READ, [Id("even", "4")], schemes))
        self.assertFalse(check(acl(entry), READ, [Id("even", "5")], schemes))

    @settings(deadline=None, derandomize=True, max_examples=300)
    @given(
        st.lists(st.builds(ACL, st.sampled_from((READ, WRITE, ALL)), NAMES), min_size=1, max_size=6), st.lists(NAMES)
    )
    def test_long(self, entries: list[ACL], identities: list[Id]) -> None:
        """Long lists, and many identities, give nobody more or less."""

        class Loose(DigestScheme):
            def matches(self, identity: str, acl_id: str) -> bool:
                return identity == acl_id.swapcase()

        kinds = (SaslScheme("any"), X509Scheme("b"), KeyScheme(), ForeignScheme("own"), EnsembleScheme())
        others = [ACL(ALL, Id("key", f"other {number}")) for number in range(40)]
        strangers = [Id("key", f"stranger {number}") for number in range(40)]
        for schemes in (Schemes([DigestScheme(), *kinds]), Schemes([Loose(), *kinds]), STOCK):
            expected = check(acl(*entries), READ, identities, schemes)
            self.assertIs(check(acl(*others, *entries), READ, [*strangers, *identities], schemes), expected)


class FixTests(SynchronousTestCase):
    """What a client may store."""

    def refused(
        self, code: int, *entries: ACL, identities: tuple[Id, ...] = (LOCAL,), schemes: Schemes = STOCK
    ) -> None:
        error = self.assertRaises(KeeperError, fix_acl, entries, identities, schemes)
        self.assertEqual(error.code, code)

    def test_empty(self) -> None:
        """No list and an empty list are refused."""
        self.refused(Code.INVALIDACL)
        error = self.assertRaises(KeeperError, fix_acl, None, [], STOCK)
        self.assertEqual(error.code, Code.INVALIDACL)

    def test_duplicates(self) -> None:
        """Of equal entries the first is kept, in place; the same id with other permissions is another entry."""
        one, two = ACL(READ, BOB), ACL(WRITE, BOB)
        self.assertEqual(fix_acl([one, two, OPEN, one, OPEN], [], STOCK), (one, two, OPEN))

    def test_permissions_are_not_judged(self) -> None:
        """Permission values are stored as sent."""
        odd = [ACL(0, Id("world", "anyone")), ACL(255, Id("world", "anyone"))]
        self.assertEqual(fix_acl(odd, [], STOCK), tuple(odd))

    def test_bad_ids(self) -> None:
        """Ids that their scheme refuses, and schemes that are not there."""
        for scheme, acl_id in (
            ("world", "other"),
            ("super", ""),
            ("digest", "a"),
            ("ip", "x"),
            ("host", "a"),
            ("x509", "CN=a"),
            ("sasl", "bob"),
            ("", ""),
        ):
            self.refused(Code.INVALIDACL, OPEN, ACL(ALL, Id(scheme, acl_id)))
        self.refused(Code.INVALIDACL, ACL(ALL, BOB), schemes=Schemes([]))

    def test_nulls(self) -> None:
        """A null scheme is a bad ACL; a null id is an internal failure, as upstream."""
        self.refused(Code.INVALIDACL, ACL(ALL, Id(NULL, "a")))
        self.refused(Code.INVALIDACL, ACL(ALL, Id("host", NULL)))
        self.refused(Code.MARSHALLINGERROR, ACL(ALL, Id("world", NULL)))
        self.refused(Code.MARSHALLINGERROR, ACL(ALL, Id("digest", NULL)))

    def test_auth(self) -> None:
        """auth becomes one entry per authenticated identity, in place and with its permissions; its id is ignored."""
        sent = [ACL(READ, Id("world", "anyone")), ACL(WRITE, Id("auth", "whoever")), ACL(ADMIN, Id("ip", "::1"))]
        self.assertEqual(
            fix_acl(sent, [LOCAL, BOB, SUPER, ALICE], STOCK),
            (sent[0], ACL(WRITE, BOB), ACL(WRITE, ALICE), sent[2]),
        )
        self.assertEqual(fix_acl([ACL(ALL, Id("auth", NULL))], [BOB], STOCK), (ACL(ALL, BOB),))

    def test_auth_without_identity(self) -> None:
        """An address and a super identity alone authenticate nobody."""
        self.refused(Code.INVALIDACL, ACL(ALL, Id("auth", "")), identities=(LOCAL, SUPER))

    def test_auth_many_times(self) -> None:
        """Thousands of entries, each for hundreds of identities, are refused before they fill the memory."""
        entries = [ACL(perms, Id("auth", "")) for perms in range(1000)]
        identities = [Id("digest", f"{number}:x") for number in range(1000)]
        self.assertEqual(len(fix_acl(entries[:10], identities, STOCK)), 10_000)
        error = self.assertRaises(KeeperError, fix_acl, entries * 40, identities, STOCK)
        self.assertEqual(error.code, Code.MARSHALLINGERROR)


class MaskTests(SynchronousTestCase):
    """What getACL shows to who lacks ADMIN."""

    def test_mask(self) -> None:
        """Digest ids lose their hash, others stay."""
        self.assertEqual(
            mask_digests([ACL(READ, BOB), OPEN, ACL(WRITE, LOCAL)]),
            (ACL(READ, Id("digest", "bob:x")), OPEN, ACL(WRITE, LOCAL)),
        )


class TableTests(SynchronousTestCase):
    """Lists are shared, counted and numbered."""

    def setUp(self) -> None:
        self.table = AclTable()

    def test_shared(self) -> None:
        """Equal lists are one object, and the last release takes it out."""
        first = self.table.intern([OPEN])
        self.assertIs(self.table.intern((OPEN,)), first)
        self.assertEqual((first.index, first.refs, len(self.table)), (1, 2, 1))
        self.table.release(first)
        self.assertEqual(self.table.items(), [(1, first)])
        self.table.release(first)
        self.assertEqual(self.table.items(), [])

    def test_numbers_only_grow(self) -> None:
        """A number is not given twice, also when its list is gone."""
        self.table.release(self.table.intern([OPEN]))
        self.assertEqual(self.table.intern([OPEN]).index, 2)

    def test_open_unsafe(self) -> None:
        """The server's own open list has number -1 and is not counted."""
        special = self.table.intern(None)
        self.assertIs(special, AclTable.OPEN_UNSAFE)
        self.assertEqual((special.index, special.world), (-1, ALL))
        self.table.release(special)
        self.assertIs(self.table.use(-1), special)
        self.assertIs(self.table.get(-1), special)
        self.assertEqual((special.refs, len(self.table)), (0, 0))

    def test_load(self) -> None:
        """Loaded lists keep their numbers, nodes count them, and what no node uses can be purged."""
        self.table.load(7, [OPEN])
        self.table.load(3, [ACL(READ, BOB)])
        used = self.table.use(7)
        self.assertIs(self.table.intern([OPEN]), used)
        self.assertEqual(used.refs, 2)
        self.assertEqual(self.table.purge_unused(), 1)
        self.assertEqual([index for index, _ in self.table.items()], [7])
        self.assertEqual(self.table.intern([ACL(READ, BOB)]).index, 8)

    def test_load_equal_lists(self) -> None:
        """Two numbers for equal lists both stay usable, and releasing one does not hide the other."""
        self.table.load(1, [OPEN])
        self.table.load(2, [OPEN])
        one, two = self.table.use(1), self.table.use(2)
        self.table.release(two)
        self.assertIs(self.table.intern([OPEN]), one)
        self.table.release(one)
        self.table.release(one)
        self.assertEqual(len(self.table), 0)

    def test_unknown_number(self) -> None:
        """A number that a fuzzy snapshot's table lacks denies everybody and is not given to another list."""
        missing = self.table.use(5)
        self.assertFalse(check(missing, ALL, [LOCAL, BOB], STOCK))
        self.assertEqual(missing.index, 5)
        self.assertEqual(self.table.intern([OPEN]).index, 6)
        self.table.release(missing)
        self.assertIsNone(self.table.get(5))

    def test_clear(self) -> None:
        """A cleared table is a new one."""
        self.table.intern([OPEN])
        self.table.clear()
        self.assertEqual(len(self.table), 0)
        self.assertEqual(self.table.intern([OPEN]).index, 1)
        self.assertEqual([each.index for each in self.table], [1])

    @settings(deadline=None, max_examples=50, derandomize=True)
    @given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=40))
    def test_counts(self, steps: list[tuple[int, bool]]) -> None:
        """After any order of uses and releases the table holds exactly the lists in use."""
        table = AclTable()
        held: list[list[AclList]] = [[], [], [], []]
        for which, take in steps:
            if take:
                held[which].append(table.intern([ACL(which, Id("world", "anyone"))]))
            elif held[which]:
                table.release(held[which].pop())
        self.assertEqual(
            {index: each.refs for index, each in table.items()},
            {uses[0].index: len(uses) for uses in held if uses},
        )
