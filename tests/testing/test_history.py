"""Histories that cannot be, and clients that were told what is not so."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from zktwisted.config.ensemble import Address
from zktwisted.testing.checkers import Closing, Violation
from zktwisted.testing.client import Reply
from zktwisted.testing.clock import World
from zktwisted.testing.history import History, check_clients, check_sessions
from zktwisted.testing.network import MemoryNetwork
from zktwisted.testing.simulated import Entry, Operation, SimulatedClient, Watch
from zktwisted.wire import jute, ops, proto, txns
from zktwisted.wire.proto import Stat

ONE, TWO = 0x100000000000001, 0x200000000000001
BASE = 1 << 32


def create(path: bytes, ephemeral: bool = False) -> tuple[int, Any]:
    return ops.CREATE, txns.CreateTxn(path, b"x", proto.OPEN_ACL, ephemeral, 1)


def change(path: bytes, version: int, data: bytes = b"y") -> tuple[int, Any]:
    return ops.SET_DATA, txns.SetDataTxn(path, data, version)


OPEN: tuple[int, Any] = (ops.CREATE_SESSION, txns.CreateSessionTxn(6000))
CLOSE: tuple[int, Any] = (ops.CLOSE_SESSION, txns.CloseSessionTxn(()))
DELETE: tuple[int, Any] = (ops.DELETE, txns.DeleteTxn(b"/a"))
FAILED: tuple[int, Any] = (ops.ERROR, txns.ErrorTxn(-110))


def history(*done: tuple[tuple[int, Any], int, int]) -> History:
    """Make a history of ((type, body), session, cxid)."""
    entries = []
    for index, ((kind, body), session, cxid) in enumerate(done):
        zxid = BASE + 1 + index
        entries.append((zxid, txns.encode_entry(txns.TxnHeader(session, cxid, zxid, 0, kind), body)))
    return History(entries)


class HistoryTests(SynchronousTestCase):
    """What transactions come to."""

    def test_versions(self) -> None:
        """Every version of every node is remembered."""
        made = history((create(b"/a"), ONE, 1), (change(b"/a", 1), ONE, 2), (create(b"/a/b", True), TWO, 1))
        node = made.at(b"/a", BASE + 1)
        assert node is not None
        self.assertEqual((node.data, node.version, node.czxid, node.mzxid), (b"x", 0, BASE + 1, BASE + 1))
        self.assertIsNone(made.at(b"/a", BASE))
        now = made.at(b"/a")
        assert now is not None
        self.assertEqual((now.data, now.version, now.mzxid), (b"y", 1, BASE + 2))
        self.assertEqual(made.children(b"/a", BASE + 3), {b"b"})
        self.assertEqual((made.children(b"/a", BASE + 2), made.children(b"/", BASE + 3)), (set(), {b"a"}))
        self.assertEqual((made.last, made.made[TWO, 1]), (BASE + 3, BASE + 3))

    def test_sessions(self) -> None:
        """A session's ephemeral nodes end with it."""
        made = history((OPEN, ONE, 0), (create(b"/a", True), ONE, 1), (create(b"/b"), ONE, 2), (CLOSE, ONE, 3))
        self.assertEqual((made.opened, made.closed), ({ONE: BASE + 1}, {ONE: BASE + 4}))
        self.assertIsNone(made.at(b"/a"))
        self.assertIsNotNone(made.at(b"/b"))

    def test_impossible(self) -> None:
        """No server that knows what it does commits such things."""
        for done in (
            [(create(b"/a"), ONE, 1), (create(b"/a"), ONE, 2)],
            [(create(b"/a/b"), ONE, 1)],
            [(DELETE, ONE, 1)],
            [(create(b"/a"), ONE, 1), (change(b"/a", 2), ONE, 2)],
            [(create(b"/a"), ONE, 1), (create(b"/a/b"), ONE, 2), (DELETE, ONE, 3)],
            [(create(b"/a"), ONE, 1), (create(b"/b"), ONE, 1)],
            [(create(b"/a"), ONE, 2), (create(b"/b"), ONE, 1)],
        ):
            with self.assertRaises(Violation):
                history(*done)

    def test_late_and_refused(self) -> None:
        """What comes late from where a session was before may be there, if it has failed."""
        made = history((create(b"/a"), ONE, 2), (FAILED, ONE, 1))
        self.assertEqual(made.errors, {BASE + 2: -110})

    def test_multis(self) -> None:
        """A multi does all that it says or, if one thing fails, nothing."""

        def multi(*done: tuple[int, Any]) -> tuple[int, Any]:
            return ops.MULTI, txns.MultiTxn([txns.Txn(kind, jute.encode(body)) for kind, body in done])

        made = history((multi(create(b"/a"), change(b"/a", 1)), ONE, 1), (multi(FAILED, FAILED), ONE, 2))
        self.assertIsNotNone(made.at(b"/a"))
        self.assertEqual(made.errors, {BASE + 2: -110})

    def test_wrong_place(self) -> None:
        """A transaction that calls itself by another zxid."""
        entry = txns.encode_entry(txns.TxnHeader(ONE, 1, 5, 0, ops.CREATE), create(b"/a")[1])
        with self.assertRaises(Violation):
            History([(6, entry)])


class ClientCase(SynchronousTestCase):
    """A client whose log is written by hand."""

    def setUp(self) -> None:
        world = World()
        network = MemoryNetwork(world.clock, Random(1))
        self.one = SimulatedClient(
            "one", network.host("10.0.1.1"), world.clock, [Address("10.0.0.1", 2181)], network.entropy
        )
        self.history = history(
            (OPEN, ONE, 0),
            (create(b"/a"), ONE, 1),
            (change(b"/a", 1), TWO, 1),
            (FAILED, ONE, 2),
            (DELETE, TWO, 2),
        )
        self.at = 0.0

    def told(
        self, op: int, request: Any, zxid: int, err: int = 0, body: bytes = b"", *, xid: int = 9, session: int = ONE
    ) -> Operation:
        """Let the client have been told something."""
        self.at += 1
        operation = Operation(session, self.one.server, xid, op, request, self.at)
        self.at += 1
        operation.completed, operation.status = self.at, "answered"
        operation.reply = Reply(xid, op, zxid, err, body)
        self.one.operations.append(operation)
        self.one.log.append(Entry("reply", self.at, session, zxid, operation))
        return operation

    def read(self, zxid: int, data: bytes, version: int, mzxid: int) -> None:
        stat = Stat(BASE + 2, mzxid, 0, 0, version, 0, 0, 0, len(data), 0, 0)
        body = jute.encode(proto.GetDataResponse(data, stat))
        self.told(ops.GET_DATA, proto.PathWatchRequest(b"/a", False), zxid, 0, body)

    def made(self, zxid: int, xid: int, err: int = 0, path: bytes = b"/a") -> None:
        body = b"" if err else jute.encode(proto.PathResponse(path))
        self.told(ops.CREATE, proto.CreateRequest(b"/a", b"x", proto.OPEN_ACL, 0), zxid, err, body, xid=xid)

    def check(self) -> None:
        check_clients(self.history, [self.one])

    def wrong(self, what: str) -> None:
        with self.assertRaises(Violation) as caught:
            self.check()
        self.assertIn(what, str(caught.exception))
        self.one.operations.clear()
        self.one.log.clear()
        self.one.watches.clear()


class TellingTests(ClientCase):
    """Answers that cannot be right."""

    def test_right(self) -> None:
        """What is so passes."""
        self.made(BASE + 2, 1)
        self.read(BASE + 2, b"x", 0, BASE + 2)
        self.read(BASE + 4, b"y", 1, BASE + 3)
        self.made(BASE + 4, 2, err=-110)
        self.told(ops.EXISTS, proto.PathWatchRequest(b"/a", False), BASE + 5, -101)
        self.told(ops.SYNC, proto.PathRequest(b"/"), BASE + 5)
        self.check()

    def test_reads(self) -> None:
        """A read of what was not there then, of other data, of another version, of what was never committed."""
        self.read(BASE + 1, b"x", 0, BASE + 2)
        self.wrong("at that zxid b'/a' is None")
        self.read(BASE + 2, b"y", 0, BASE + 2)
        self.wrong("it has b'x'")
        self.read(BASE + 3, b"y", 0, BASE + 2)
        self.wrong("at that zxid it is")
        self.read(BASE + 9, b"y", 1, BASE + 3)
        self.wrong("never committed")
        self.told(ops.EXISTS, proto.PathWatchRequest(b"/a", False), BASE + 2, -101)
        self.wrong("at that zxid b'/a' is Version")

    def test_children(self) -> None:
        """Children that are not there."""
        body = jute.encode(proto.PathsResponse([b"a", b"zookeeper", b"z"]))
        self.told(ops.GET_CHILDREN, proto.PathWatchRequest(b"/", False), BASE + 2, 0, body)
        self.wrong("told {")

    def test_writes(self) -> None:
        """A write that is not in the history, or elsewhere, or has failed, or had no reason to."""
        self.made(BASE + 2, 7)
        self.wrong("the history has it as None")
        self.made(BASE + 3, 1)
        self.wrong("the history has it as 0x100000002")
        self.made(BASE + 4, 2)
        self.wrong("its error is -110")
        self.made(BASE + 2, 1, path=b"/elsewhere")
        self.wrong("it made b'/elsewhere'")
        self.history.errors[BASE + 2] = -110
        self.made(BASE + 2, 1, err=-110)
        self.wrong("in front of it b'/a' is None")

    def test_moved(self) -> None:
        """A session that has moved on has nothing done where it was."""
        self.made(BASE + 3, 8, err=-118)
        self.check()

    def test_session_order(self) -> None:
        """A session's writes in another order than that in which it asked."""
        self.made(BASE + 4, 2, err=-110)
        self.told(ops.CREATE, proto.CreateRequest(b"/a", b"", proto.OPEN_ACL, 0), BASE + 2, 0,
                  jute.encode(proto.PathResponse(b"/a")), xid=3)  # fmt: skip
        self.history.made[ONE, 3] = BASE + 2
        self.wrong("what it asked for before")

    def test_real_time(self) -> None:
        """A write that comes before one that was answered before it was asked; a sync that does not show one."""
        change = proto.SetDataRequest(b"/a", b"y", -1)
        self.told(ops.SET_DATA, change, BASE + 3, xid=1, session=TWO)
        self.made(BASE + 2, 1)
        self.wrong("answered before it was asked")
        self.told(ops.SET_DATA, change, BASE + 3, xid=1, session=TWO)
        self.told(ops.SYNC, proto.PathRequest(b"/"), BASE + 2)
        self.wrong("does not show")


class WatchTests(ClientCase):
    """Watches that told too little, too late, or of nothing."""

    def watch(self, kind: str, since: int, index: int = 0, session: int = ONE, path: bytes = b"/a") -> Watch:
        watch = Watch(session, kind, path, since, index)
        self.one.watches.append(watch)
        return watch

    def test_late(self) -> None:
        """A change is shown before the watch for it is told."""
        self.read(BASE + 2, b"x", 0, BASE + 2)
        self.read(BASE + 3, b"y", 1, BASE + 3)
        self.one.log.append(Entry("event", 9, ONE, BASE + 3))
        self.watch("data", BASE + 2).over = 2
        self.wrong("before it was told of")
        self.one.log += [Entry("event", 9, ONE, BASE + 5), Entry("event", 9, ONE, BASE + 3)]
        self.watch("data", BASE + 2).over = 1
        self.one.log.insert(0, Entry("connected", 0, ONE))
        self.one.watches[0].over = 2
        self.wrong("before <Watch")

    def test_never(self) -> None:
        """A watch that waits although something has happened; but not if the session is another by now."""
        self.watch("data", BASE + 2)
        self.one.connected = True
        self.check()
        self.one.session_id = ONE
        self.wrong("was never told")

    def test_of_nothing(self) -> None:
        """A watch that told of what did not happen; a change of data is nothing to who waits for children."""
        self.watch("child", BASE + 2, path=b"/").over = 0
        self.history.nodes.pop(b"/a")
        self.wrong("but nothing has happened")
        self.watch("child", BASE + 2, path=b"/")
        self.check()

    def test_came_and_went(self) -> None:
        """A node that came and went while the client was at no server is not told of."""
        self.watch("exist", BASE + 1)
        self.one.log.append(Entry("watching", 1, ONE, BASE + 5))
        self.read(BASE + 5, b"", 0, 0)
        self.one.operations.clear()
        self.check()
        self.one.log[0] = Entry("watching", 1, ONE, BASE + 1)
        self.wrong("before it was told of")


class SessionTests(ClientCase):
    """Sessions that end before their time."""

    def check_closing(self, at: float, since: float = 0.0, disturbed: float | None = None) -> None:
        times = [] if disturbed is None else [disturbed]
        check_sessions(self.history, [self.one], [Closing(ONE, at, 1, 0, since)], 1.0, times)

    def test_early(self) -> None:
        """A client that was heard of less than its timeout ago, and nothing was broken."""
        self.one.log.append(Entry("session", 1.0, ONE))
        self.at = 10.0
        self.made(BASE + 2, 1)
        self.check_closing(18.0)
        self.check_closing(16.0, disturbed=12.0)
        with self.assertRaises(Violation):
            self.check_closing(16.0)

    def test_new_leader(self) -> None:
        """A leader that has not yet waited for a whole timeout."""
        self.one.log.append(Entry("session", 1.0, ONE))
        with self.assertRaises(Violation):
            self.check_closing(16.0, since=12.0, disturbed=12.0)

    def test_asked_for(self) -> None:
        """A session may be closed whenever its client asks."""
        self.one.log.append(Entry("session", 1.0, ONE))
        check_sessions(self.history, [self.one], [Closing(ONE, 2.0, 1, 5, 0.0)], 1.0, [])
