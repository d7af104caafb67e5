"""A leader and learners whose messages take any time: one order for all, each client's answers in its own."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.server.joined import EPOCH_ZXID, Joined
from tests.server.model import Answer, Model, Write, nodes_of
from tests.server.world import Client, create, read, set_data
from zktwisted.errors import Code
from zktwisted.wire import jute, ops, proto, txns

_SESSION_ERRORS = (Code.SESSIONMOVED.value, Code.SESSIONEXPIRED.value)
_PATHS = (b"/a", b"/b", b"/a/c")

writes = st.one_of(
    st.builds(
        lambda path, flags: (ops.CREATE, create(path + (b"-" if flags & 2 else b""), b"x", flags)),
        st.sampled_from(_PATHS),
        st.integers(0, 3),
    ),
    st.builds(
        lambda path, version: (ops.SET_DATA, set_data(path, b"data", version)),
        st.sampled_from(_PATHS),
        st.integers(-1, 1),
    ),
    st.builds(lambda path: (ops.DELETE, proto.DeleteRequest(path, -1)), st.sampled_from(_PATHS)),
)
requests = st.one_of(
    writes,
    st.builds(lambda operations: (ops.MULTI, operations), st.lists(writes, min_size=1, max_size=3)),
    st.builds(lambda path: (ops.GET_DATA, read(path, True)), st.sampled_from(_PATHS)),
    st.just((ops.SYNC, proto.PathRequest(b"/"))),
    st.just((ops.PING, b"")),
)
actions = st.one_of(
    st.tuples(st.just("ask"), st.integers(0, 5), requests),
    st.tuples(st.just("ask"), st.integers(0, 5), requests),
    st.tuples(st.just("ask"), st.integers(0, 5), requests),
    st.tuples(st.just("move"), st.integers(0, 5), st.integers(1, 3)),
    st.tuples(st.just("close"), st.integers(0, 5), st.none()),
    st.tuples(st.just("drop"), st.integers(0, 5), st.none()),
    st.tuples(st.just("steps"), st.integers(1, 12), st.none()),
)


class Story:
    """
    Clients of joined roles, and what was asked of whom.

    @ivar asked: (op, record) of each write by session and cxid; cxids are unique.
    @ivar ended: connections that are no client's any more.
    """

    def __init__(self, local: bool, seed: int) -> None:
        self.joined = Joined(2, local_sessions_enabled=local, local_sessions_upgrading_enabled=local)
        self.entropy = Random(seed)
        self.asked: dict[tuple[int, int], tuple[int, Any]] = {}
        self.clients = [self.joined.members[1 + number % 3].client() for number in range(6)]
        self.ended: list[Client] = []
        self.cxid = 0
        self.joined.eager = False

    def ask(self, number: int, request: tuple[int, Any]) -> None:
        client, (op, record) = self.clients[number], request
        self.cxid += 1
        self.asked[client.session_id, self.cxid] = request
        body = proto.encode_multi(record) if op == ops.MULTI else record
        client.put(op, body, -2 if op == ops.PING else self.cxid)

    def move(self, number: int, sid: int) -> None:
        old = self.clients[number]
        old.receive()
        self.ended.append(old)
        client = self.clients[number] = self.joined.members[sid].connect()
        seen = max((zxid for _, zxid in old.stream), default=0)
        client.send(client.connect_request(10_000, old.session_id, old.password, seen))
        self.joined.settle(self.entropy)
        if client.closed or not client.greet():
            # The server is behind, or the session is over or was another server's own.
            self.clients[number] = self.joined.members[sid].client()

    def close(self, number: int, _: None) -> None:
        client = self.clients[number]
        self.cxid += 1
        self.asked[client.session_id, self.cxid] = (ops.CLOSE_SESSION, b"")
        client.put(ops.CLOSE_SESSION, b"", self.cxid)
        self._anew(number)

    def drop(self, number: int, _: None) -> None:
        self.clients[number].drop()
        self._anew(number)

    def _anew(self, number: int) -> None:
        self.ended.append(self.clients[number])
        member = self.joined.members[1 + self.entropy.randrange(3)]
        client = self.clients[number] = member.connect()
        client.send(client.connect_request())
        self.joined.settle(self.entropy)
        assert client.greet()

    def steps(self, count: int, _: None) -> None:
        for _step in range(count):
            self.joined.step(self.entropy)


class AnyRolesTests(SynchronousTestCase):
    """Whatever clients ask, and whenever messages come."""

    def replay(self, story: Story) -> tuple[Model, dict[tuple[int, int], Answer]]:
        """Let a model do what the leader's transactions are the outcome of; return it and what it answers."""
        model, answers = Model(), {}
        model.zxid = EPOCH_ZXID
        for zxid, entry in story.joined.history:
            header, body, _ = txns.decode_entry(entry)
            who = header.client_id, header.cxid
            failed = [body] if header.type == ops.ERROR else []
            if header.type == ops.MULTI:
                failed = [each for kind, each in txns.multi_operations(body) if kind == ops.ERROR]
            if any(each.err in _SESSION_ERRORS for each in failed):
                model.zxid += 1
                continue
            if header.type == ops.CREATE_SESSION:
                op, record = header.type, body.timeout
            else:
                op, record = story.asked[who]
            answers[who] = model.write(Write(op, header.client_id, record, header.time))
            self.assertEqual(answers[who].zxid, zxid)
        return model, answers

    def check_client(self, story: Story, client: Client, answers: dict[tuple[int, int], Answer]) -> None:
        """Each answer once and in order, with a zxid that does not fall, saying what the model says."""
        client.receive()
        xids = [xid for xid, *_ in client.replies if xid > 0]
        self.assertEqual(xids, sorted(set(xids)))
        zxids = [zxid for xid, zxid in client.stream if xid != -1]
        self.assertEqual(zxids, sorted(zxids))
        for xid, zxid, err, body in client.replies:
            op, _ = story.asked.get((client.session_id, xid), (ops.PING, b""))
            answer = answers.get((client.session_id, xid))
            if answer is None:
                self.assertIn(op, (ops.PING, ops.SYNC, ops.GET_DATA, ops.CLOSE_SESSION))
                continue
            self.assertEqual((zxid, err), (answer.zxid, answer.err))
            if op == ops.CREATE and not err:
                self.assertEqual(jute.decode(proto.PathResponse, body)[0].path, answer.path)
            if op == ops.MULTI:
                results = [each[1] for each in proto.decode_multi_response(body, 0)]
                self.assertEqual(results, [each[0] for each in answer.results])

    @given(st.lists(actions, max_size=40), st.booleans(), st.integers(0, 1 << 16))
    @settings(deadline=None, derandomize=True, max_examples=60)
    def test_any(self, story: list[tuple[str, int, Any]], local: bool, seed: int) -> None:
        """All servers come to the state that the model comes to, and every client hears what the model says."""
        told = Story(local, seed)
        for action, number, argument in story:
            getattr(told, action)(number, argument)
        joined = told.joined
        joined.settle(told.entropy)
        model, answers = self.replay(told)
        for member in joined.members.values():
            server = member.server
            self.assertEqual(nodes_of(server.tree), model.nodes)
            self.assertEqual(server.timeouts, model.sessions)
            self.assertEqual(server.last_zxid, model.zxid if joined.history or member.sid == 1 else 0)
            self.assertEqual(server.in_flight, 0)
            self.assertEqual(server.metrics.digest_mismatches_count, 0)
            self.assertEqual(member.failures, [])
        for client in told.clients + told.ended:
            self.check_client(told, client, answers)
        for client in told.clients:
            if not client.closed:
                self.assertEqual(client.protocol.outstanding_requests, 0)
