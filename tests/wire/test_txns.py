"""Every entry of the recorded logs decodes, and encodes to the same bytes again; so do entries of older servers."""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar

from twisted.trial.unittest import SynchronousTestCase

from tests.store import golden
from zktwisted.errors import ProtocolError
from zktwisted.wire import jute, ops, proto, txns

HEADER = txns.TxnHeader(0x100001109B80001, 3, 2**32 + 5, 1795000000000, ops.CREATE)
DIGEST = txns.TxnDigest(2, -(2**62))


def header(kind: int) -> txns.TxnHeader:
    return HEADER._replace(type=kind)


def recorded() -> list[tuple[str, dict[str, Any]]]:
    """Return what ZooKeeper read from each whole entry of each log, with the place where it stands."""
    found = []
    for directory in golden.directories():
        for name in golden.files(directory):
            if not name.startswith("log."):
                continue
            for row in golden.rows(directory, name):
                if row.get("crcOk") and "zxid" in row:
                    found.append((f"{directory.parent.name}/{directory.name}/{name}:{row['offset']}", row))
    return found


def show_acls(acls: Any) -> Any:
    return acls and [{"perms": acl.perms, "scheme": acl.id.scheme, "id": acl.id.id} for acl in acls]


#: The recorder's names of the fields that are not called alike.
NAMES = {"timeOut": "timeout", "parentCVersion": "parent_cversion", "paths2Delete": "paths"}


def show(record: Any, name: str) -> Any:
    """Return a field of a record as the recorder shows it."""
    value = getattr(record, NAMES.get(name, name))
    if name == "acl":
        return show_acls(value)
    if name == "paths2Delete":
        return value and [path.decode() for path in value]
    if isinstance(value, bytes):
        return value.decode() if name == "path" else value.hex()
    return value


class RecordedLogsTests(SynchronousTestCase):
    def check_fields(self, where: str, record: Any, expected: dict[str, Any]) -> None:
        for name, value in expected.items():
            if name == "txns":
                self.assertEqual(len(record.txns), len(value))
                for (kind, inner), row in zip(txns.multi_operations(record), value, strict=True):
                    self.assertEqual(kind, row["type"], where)
                    self.check_fields(where, inner, row["txn"])
                    encoded = jute.encode(inner).hex()
                    # Ensembles may log what went before a failure with the type of an error and the bytes it had.
                    self.assertEqual(encoded, row["data"] if kind != ops.ERROR else row["data"][:8], where)
            elif name != "class":
                self.assertEqual(show(record, name), value, f"{where} {name}")

    def test_same_bytes(self) -> None:
        """Each entry holds what ZooKeeper's own classes read from it, and is written as it was."""
        counts: Counter[int] = Counter()
        for where, row in recorded():
            entry = bytes.fromhex(row["entry"])
            head, body, digest = txns.decode_entry(entry)
            self.assertEqual(
                (ops.show_zxid(head.zxid), ops.show_zxid(head.client_id), head.cxid, head.time, head.type),
                (row["zxid"], row["session"], row["cxid"], row["time"], row["type"]),
                where,
            )
            self.check_fields(where, body, row["txn"])
            expected = row.get("digest")
            if expected:
                assert digest is not None
                self.assertEqual(digest, (expected["version"], expected["treeDigest"]), where)
            else:
                self.assertIsNone(digest, where)
            self.assertEqual(txns.encode_entry(head, body, digest), entry, where)
            counts[head.type] += 1
        # A check stands only in multis; create2 and deleteContainer are in the logs too.
        self.assertEqual(set(txns.BODIES) - set(counts), {ops.CHECK})
        self.assertGreater(counts.total(), 1000)


class OlderServersTests(SynchronousTestCase):
    ACLS: ClassVar[list[proto.ACL]] = list(proto.OPEN_ACL)

    def test_create_without_cversion(self) -> None:
        """A create of a server before 3.4 says nothing of its parent: C{parent_cversion} is -1."""
        body = jute.encode(txns.CreateTxn(b"/a", b"x", self.ACLS, True, 7))[:-4]
        read = txns.decode_entry(jute.encode(header(ops.CREATE)) + body)
        self.assertEqual(read, (header(ops.CREATE), txns.CreateTxn(b"/a", b"x", self.ACLS, True, -1), None))

    def test_create_without_cversion_in_a_multi(self) -> None:
        """Likewise inside a multi."""
        body = jute.encode(txns.CreateTxn(b"/a", None, None, False, 7))[:-4]
        multi = txns.MultiTxn([txns.Txn(ops.CREATE, body)])
        self.assertEqual(txns.multi_operations(multi), [(ops.CREATE, txns.CreateTxn(b"/a", None, None, False, -1))])

    def test_only_create(self) -> None:
        """No other transaction may end early, create2 neither."""
        body = jute.encode(txns.CreateTxn(b"/a", b"x", self.ACLS, True, 7))[:-4]
        for kind in (ops.CREATE2, ops.CREATE_CONTAINER, ops.CREATE_TTL):
            with self.assertRaises(ProtocolError):
                txns.decode_entry(jute.encode(header(kind)) + body)

    def test_close_session_without_body(self) -> None:
        """A closeSession may end with its header, or have a digest and no body."""
        for digest in (None, DIGEST, txns.TxnDigest(2, 0), txns.TxnDigest(2, -1)):
            entry = txns.encode_entry(header(ops.CLOSE_SESSION), None, digest)
            self.assertEqual(txns.decode_entry(entry), (header(ops.CLOSE_SESSION), None, digest))

    def test_close_session_with_body(self) -> None:
        """Any paths that nodes can have are read as paths, with a digest and without one."""
        for paths in (None, [], [b"/a"], [b"/abc"], [b"/abcd"], [b"/a", b"/b"], [b"/a"] * 40):
            for digest in (None, DIGEST):
                body = txns.CloseSessionTxn(paths)
                entry = txns.encode_entry(header(ops.CLOSE_SESSION), body, digest)
                self.assertEqual(txns.decode_entry(entry), (header(ops.CLOSE_SESSION), body, digest))

    def test_without_digest(self) -> None:
        """Entries without a digest, and with bytes behind it that nobody knows, are read."""
        body = txns.SetDataTxn(b"/a", None, 3)
        entry = txns.encode_entry(header(ops.SET_DATA), body)
        self.assertEqual(txns.decode_entry(entry), (header(ops.SET_DATA), body, None))
        self.assertEqual(txns.decode_entry(entry + b"eleven byte"), (header(ops.SET_DATA), body, None))
        entry = txns.encode_entry(header(ops.SET_DATA), body, DIGEST)
        self.assertEqual(txns.decode_entry(entry + b"more"), (header(ops.SET_DATA), body, DIGEST))


class RefusedTests(SynchronousTestCase):
    def test_unknown_types(self) -> None:
        """A transaction of an unknown type is refused, and so is a check that stands alone."""
        for kind in (0, 3, 4, 9, 12, 17, 22, 100, -2, ops.CHECK):
            with self.assertRaises(ProtocolError):
                txns.decode_entry(jute.encode(header(kind)) + b"\0" * 40)

    def test_foreign_types_in_a_multi(self) -> None:
        """What a multi never holds is refused inside it: no multi in a multi, no session, no ACL."""
        for kind in (ops.MULTI, ops.CREATE_SESSION, ops.CLOSE_SESSION, ops.SET_ACL, ops.RECONFIG, ops.GET_DATA):
            with self.assertRaises(ProtocolError):
                txns.multi_operations(txns.MultiTxn([txns.Txn(kind, b"\0" * 40)]))

    def test_empty_operation(self) -> None:
        """An operation of a multi without bytes, null or empty, is refused."""
        for data in (None, b""):
            with self.assertRaises(ProtocolError):
                txns.multi_operations(txns.MultiTxn([txns.Txn(ops.DELETE, data)]))

    def test_null_multi(self) -> None:
        """A multi whose list is null has no operations."""
        self.assertEqual(txns.multi_operations(txns.MultiTxn(None)), [])

    def test_cut_short(self) -> None:
        """An entry that ends within its header or its body is refused."""
        entry = txns.encode_entry(header(ops.SET_DATA), txns.SetDataTxn(b"/a", b"x", 3))
        for length in range(len(entry)):
            with self.assertRaises(ProtocolError):
                txns.decode_entry(entry[:length])


class FailedMultiTests(SynchronousTestCase):
    def test_is_failed(self) -> None:
        """One error among the operations of a multi means that it failed."""
        good = (ops.DELETE, txns.DeleteTxn(b"/a"))
        self.assertFalse(txns.is_failed([]))
        self.assertFalse(txns.is_failed([good]))
        self.assertTrue(txns.is_failed([good, (ops.ERROR, txns.ErrorTxn(-101)), (ops.ERROR, txns.ErrorTxn(-2))]))
