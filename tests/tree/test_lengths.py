"""No transaction is made that is longer than a log, or another server, will read (spec: storage 2.1)."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.tree.chain import MARSHALLING, OTHER, SESSION, Chain, Operation, check, create, set_acl, set_data
from zktwisted.wire import txns
from zktwisted.wire.proto import ACL, Id

MOST = 2000
#: What nobody has who is not attacking: names so long, and a request that says C{auth} so often.
IDENTITIES = tuple(Id("digest", f"{letter * 100}:x") for letter in "abcde")
LONG = tuple(ACL(31 + 32 * number, Id("auth", "")) for number in range(10))
SHORT = LONG[:1]


class LengthTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.chain = Chain(max_entry=MOST)
        self.chain.ok(create(b"/there"))

    def entries(self) -> None:
        """Make sure that all entries can be read, and say what the tree says, digests included."""
        self.assertLessEqual(max(map(len, self.chain.log)), MOST)
        self.assertEqual(self.chain.replayed().nodes.keys(), self.chain.tree.nodes.keys())

    def test_acls(self) -> None:
        """An ACL that would become too long fails, and nothing has happened; one that just fits does not."""
        digest = self.chain.prepare.digest
        for operation in (create(b"/a", acl=LONG), set_acl(b"/there", LONG)):
            self.assertEqual(self.chain.do(operation, identities=IDENTITIES).err, MARSHALLING)
            self.assertEqual((self.chain.prepare.digest, self.chain.prepare.pending), (digest, {}))
        self.assertEqual(self.chain.paths(), {b"/there"})
        for operation in (create(b"/a", acl=SHORT), set_acl(b"/there", SHORT)):
            self.assertEqual(self.chain.do(operation, identities=IDENTITIES).err, 0)
        self.entries()

    def test_multi(self) -> None:
        """So does a multi whose parts together would."""
        parts: list[Operation] = [check(b"/there", 0), create(b"/a", acl=SHORT), set_data(b"/a", b"1"), create(b"/b")]
        whole = self.chain.multi(*parts, identities=IDENTITIES)
        pieces = [create(b"/%d" % number, acl=SHORT) for number in range(5)]
        self.assertEqual(self.chain.apply(whole).err, 0)
        digest = self.chain.prepare.digest
        self.assertEqual(self.chain.apply(self.chain.multi(*pieces, identities=IDENTITIES)).err, MARSHALLING)
        self.assertEqual((self.chain.prepare.digest, self.chain.prepare.pending), (digest, {}))
        self.assertEqual(self.chain.paths(), {b"/there", b"/a", b"/b"})
        self.entries()

    def test_end_of_a_session(self) -> None:
        """A session with more nodes than can be named loses all of them nevertheless, whoever applies its end."""
        for number in range(100):
            self.chain.ok(create(b"/ephemeral-node-%04d" % number, flags=1))
        self.chain.ok(create(b"/another", flags=1), session=OTHER)
        proposal = self.chain.close(SESSION)
        named = txns.decode_entry(proposal.entry)[1].paths
        self.assertTrue(50 < len(named) < 100, named)
        self.assertEqual(self.chain.apply(proposal).err, 0)
        self.assertEqual(self.chain.paths(), {b"/there", b"/another"})
        self.assertEqual(self.chain.tree.ephemerals.keys(), {OTHER})
        self.entries()
