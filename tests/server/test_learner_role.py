"""A learner to its clients: writes go to the leader and come back committed, reads are its own."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.server.joined import EPOCH_ZXID, Joined, Member
from tests.server.world import Client, create, lines, read, set_data
from zktwisted.errors import Code
from zktwisted.wire import jute, ops, proto, txns
from zktwisted.wire.proto import ACL, OPEN_ACL, Id

NO_NODE = Code.NONODE.value
EXISTS = Code.NODEEXISTS.value
EPHEMERAL_ON_LOCAL = Code.EPHEMERALONLOCALSESSION.value
SESSION_EXPIRED = Code.SESSIONEXPIRED.value


class JoinedTests(SynchronousTestCase):
    """Roles that are joined."""

    def joined(self, learners: int = 2, **settings: object) -> Joined:
        joined = self.world = Joined(learners, **settings)  # type: ignore[arg-type]
        return joined

    def tearDown(self) -> None:
        """Every server came to the same, without a digest that does not agree."""
        self.world.settle()
        trees = [
            {path: node.stat() + (node.data or b"") for path, node in member.server.tree.nodes.items()}
            for member in self.world.members.values()
            if member.role is not None
        ]
        for tree in trees:
            self.assertEqual(tree, trees[0])
        for member in self.world.members.values():
            self.assertEqual(member.server.metrics.digest_mismatches_count, 0)
            self.assertEqual(member.failures, [])


class WriteTests(JoinedTests):
    """Writes of a learner's clients."""

    def test_session(self) -> None:
        """A session is made by the leader's transaction, has the learner's id in it, and is known everywhere."""
        joined = self.joined()
        client = joined.members[2].client()
        self.assertEqual(client.session_id >> 56, 2)
        self.assertEqual(joined.members[2].sent, [(client.session_id, 0, ops.CREATE_SESSION, None)])
        for member in joined.members.values():
            self.assertEqual(member.server.timeouts, {client.session_id: 10_000})
        self.assertEqual(joined.leader.core.sessions.sessions[client.session_id].owner, 2)
        header, body, digest = txns.decode_entry(joined.history[0][1])
        self.assertEqual(header[:3], (client.session_id, 0, EPOCH_ZXID + 1))
        self.assertEqual((header.type, body), (ops.CREATE_SESSION, txns.CreateSessionTxn(10_000)))
        self.assertIsNotNone(digest)

    def test_replies(self) -> None:
        """Each write is answered with its own zxid and what its transaction came to."""
        client = self.joined().members[2].client()
        z = EPOCH_ZXID
        self.assertEqual(client.ask(ops.CREATE, create(b"/a"))[:2], (z + 2, 0))
        self.assertEqual(client.ask(ops.CREATE, create(b"/a"))[:2], (z + 3, EXISTS))
        self.assertEqual(client.ask(ops.SET_DATA, b"\0")[:2], (z + 4, -5))
        self.assertEqual(client.ask(ops.MULTI, b"\0")[:2], (z + 5, -5))
        self.assertEqual(client.ask(ops.RECONFIG, proto.ReconfigRequest(None, None, None, -1))[:2], (z + 6, -123))
        zxid, err, body = client.ask(ops.SET_DATA, set_data(b"/a", b"new"))
        self.assertEqual((zxid, err, jute.decode(proto.Stat, body)[0].version), (z + 7, 0, 1))
        self.assertEqual(client.get(b"/a"), b"new")
        self.assertEqual(client.ask(ops.CLOSE_SESSION), (z + 8, 0, b""))
        self.assertTrue(client.closed)

    def test_multi(self) -> None:
        """A multi's results are those of each operation; of a failed one, where it failed."""
        client = self.joined().members[3].client()
        body = proto.encode_multi([(ops.CREATE, create(b"/a")), (ops.SET_DATA, set_data(b"/a", b"x"))])
        results = proto.decode_multi_response(client.ask(ops.MULTI, body)[2], 0)
        self.assertEqual([(kind, err) for kind, err, _ in results], [(ops.CREATE, 0), (ops.SET_DATA, 0)])
        body = proto.encode_multi([(ops.CREATE, create(b"/b")), (ops.SET_DATA, set_data(b"/none"))] * 2)
        _, err, answer = client.ask(ops.MULTI, body)
        errors = [err for _, err, _ in proto.decode_multi_response(answer, 0)]
        self.assertEqual((err, errors), (0, [0, NO_NODE, -2, -2]))

    def test_identities(self) -> None:
        """Who the client is goes with the request, and the leader judges by it."""
        joined = self.joined()
        client, stranger = joined.members[2].client(), joined.members[3].client()
        client.authenticate(b"ann:secret")
        client.create(b"/mine", acl=(ACL(31, Id("auth", "")),))
        self.assertEqual([each.scheme for each in joined.members[2].sent[-1][3]], ["ip", "digest"])
        self.assertEqual(stranger.err(ops.SET_DATA, set_data(b"/mine")), Code.NOAUTH.value)
        client.set(b"/mine")

    def test_order(self) -> None:
        """Reads behind a write wait for it; other clients of the same server do not."""
        joined = self.joined()
        client, other = joined.members[2].client(), joined.members[2].client()
        joined.eager = False
        client.put(ops.CREATE, create(b"/a"))
        client.put(ops.EXISTS, read(b"/a"))
        client.put(ops.PING, b"", -2)
        self.assertEqual(client.receive(), [])
        self.assertIsNone(other.exists(b"/a"))
        joined.settle()
        self.assertEqual([(xid, err) for xid, _, err, _ in client.receive()], [(1, 0), (2, 0), (-2, 0)])

    def test_watch(self) -> None:
        """A watch at a learner fires when the change comes there, whoever has made it."""
        joined = self.joined()
        writer, watcher = joined.members[1].client(), joined.members[3].client()
        writer.create(b"/a")
        watcher.get(b"/a", watch=True)
        zxid = writer.set(b"/a")
        watcher.receive()
        self.assertEqual(watcher.events, [(3, b"/a", zxid)])

    def test_sync(self) -> None:
        """A sync is answered behind what was proposed before it, and makes no transaction."""
        joined = self.joined()
        writer, reader = joined.members[2].client(), joined.members[3].client()
        joined.eager = False
        writer.put(ops.CREATE, create(b"/a", b"new"))
        joined.links[2, 0].popleft()()
        reader.put(ops.SYNC, proto.PathRequest(b"/any"))
        reader.put(ops.GET_DATA, read(b"/a"))
        joined.links[3, 0].popleft()()
        joined.flush()
        self.assertEqual(reader.receive(), [])
        before = len(joined.history)
        joined.settle()
        (_, zxid, err, path), (_, _, found, body) = reader.receive()
        self.assertEqual((zxid, err, found), (EPOCH_ZXID + 3, 0, 0))
        self.assertEqual(path, jute.pack_buffer(b"/any"))
        self.assertIn(b"new", body)
        self.assertEqual(len(joined.history), before + 1)
        joined.eager = True
        self.assertEqual(reader.ask(ops.SYNC, proto.PathRequest(b"/"))[1], 0)

    def test_same_cxid_elsewhere(self) -> None:
        """What a session's client had asked for at another server is not taken for what it asks for here."""
        joined = self.joined()
        old = joined.members[2].client()
        joined.eager = False
        old.xid = 7
        old.put(ops.CREATE, create(b"/old"))
        new = joined.members[3].connect()
        new.send(new.connect_request(10_000, old.session_id, old.password))
        for link in ((2, 0), (3, 0), (0, 3)):
            joined.links[link].popleft()()
        joined.flush()
        self.assertTrue(new.greet())
        new.put(ops.CREATE, create(b"/new"))
        new.xid = 7
        new.put(ops.CREATE, create(b"/new/er"))
        joined.settle()
        self.assertEqual([(xid, err) for xid, _, err, _ in new.receive()], [(1, 0), (8, 0)])
        self.assertEqual(old.receive()[0][2], 0)

    def test_cxids_anew(self) -> None:
        """Nor if the client begins to count anew, and what it had asked for elsewhere is not committed yet."""
        joined = self.joined()
        old = joined.members[2].client()
        joined.eager = False
        old.put(ops.CREATE, create(b"/old"))
        joined.links[2, 0].popleft()()
        new = joined.members[3].connect()
        new.send(new.connect_request(10_000, old.session_id, old.password))
        for link in ((3, 0), (0, 3)):
            joined.links[link].popleft()()
        joined.flush()
        self.assertTrue(new.greet())
        new.put(ops.CREATE, create(b"/new"))
        joined.settle()
        (answer,) = new.receive()
        self.assertEqual((answer[0], jute.decode(proto.PathResponse, answer[3])[0].path), (1, b"/new"))
        (answer,) = old.receive()
        self.assertEqual((answer[0], jute.decode(proto.PathResponse, answer[3])[0].path), (1, b"/old"))

    def test_gone_meanwhile(self) -> None:
        """A client that does not wait for its answer harms nobody."""
        joined = self.joined()
        client, other = joined.members[2].client(), joined.members[2].client()
        joined.eager = False
        client.put(ops.CREATE, create(b"/a"))
        client.drop()
        other.put(ops.CREATE, create(b"/a"))
        joined.settle()
        self.assertEqual(other.receive()[0][2], EXISTS)


class SessionTests(JoinedTests):
    """Sessions of a learner's clients."""

    def move(self, client: Client, member: Member) -> tuple[Client, bool]:
        """Let a client go on at another server."""
        again = member.connect()
        return again, again.open(10_000, client.session_id, client.password)

    def test_touched(self) -> None:
        """The leader hears of sessions through the learners, and lets them live; a silent one ends everywhere."""
        joined = self.joined()
        client, silent = joined.members[2].client(4000), joined.members[3].client(4000)
        silent.create(b"/e", flags=1)
        self.assertEqual(joined.members[3].role.take_touched(), [(silent.session_id, 4000)])
        for _ in range(10):
            joined.advance(1)
            client.ask(ops.PING, b"", -2)
        self.assertFalse(client.closed)
        self.assertTrue(silent.closed)
        self.assertIsNone(client.exists(b"/e"))
        for member in joined.members.values():
            self.assertEqual(list(member.server.timeouts), [client.session_id])

    def test_touched_by_coming(self) -> None:
        """A client that has come, or come back, and says nothing was heard of all the same."""
        joined = self.joined()
        client = joined.members[2].client(5000)
        self.assertEqual(joined.members[2].role.take_touched(), [(client.session_id, 5000)])
        self.move(client, joined.members[3])
        self.assertEqual(joined.members[3].role.take_touched(), [(client.session_id, 10_000)])
        self.assertEqual(joined.members[3].role.take_touched(), [])

    def test_moves(self) -> None:
        """A session goes on at any server; the old connection may read, and is closed when it writes."""
        joined = self.joined()
        for sid, target in ((2, 3), (2, 1), (1, 2), (2, 2)):
            client = joined.members[sid].client()
            again, granted = self.move(client, joined.members[target])
            self.assertTrue(granted)
            self.assertEqual(again.session_id, client.session_id)
            path = b"/%d-%d" % (sid, target)
            again.create(path)
            if sid == 2 != target:
                self.assertIsNotNone(client.exists(path))
                client.put(ops.SET_DATA, set_data(path))
                joined.settle()
                self.assertEqual(client.receive(), [])
            self.assertTrue(client.closed)
            again.set(path)
            again.ask(ops.CLOSE_SESSION)

    def test_moved_multi(self) -> None:
        """A multi of a session that has moved closes the connection as a single write does."""
        joined = self.joined()
        client = joined.members[2].client()
        self.assertTrue(self.move(client, joined.members[3])[1])
        client.put(ops.MULTI, proto.encode_multi([(ops.CREATE, create(b"/a")), (ops.CREATE, create(b"/b"))]))
        joined.settle()
        self.assertEqual((client.receive(), client.closed), ([], True))
        self.assertNotIn(b"/a", joined.leader.core.tree.nodes)

    def test_moved_close(self) -> None:
        """A closeSession is not asked who sends it."""
        joined = self.joined()
        client = joined.members[2].client()
        again, _ = self.move(client, joined.members[3])
        self.assertEqual(client.err(ops.CLOSE_SESSION), 0)
        self.assertTrue(again.closed)
        self.assertEqual(joined.leader.core.timeouts, {})

    def test_wrong_password(self) -> None:
        """It is refused without a question to the leader, and harms nobody."""
        joined = self.joined()
        client = joined.members[2].client()
        stranger = joined.members[2].connect()
        sent = len(joined.members[2].sent)
        self.assertFalse(stranger.open(10_000, client.session_id, bytes(16)))
        self.assertEqual(len(joined.members[2].sent), sent)
        self.assertFalse(client.closed)

    def test_over(self) -> None:
        """A session that is over is refused."""
        joined = self.joined()
        client = joined.members[2].client()
        client.ask(ops.CLOSE_SESSION)
        again, granted = self.move(client, joined.members[3])
        self.assertEqual((granted, again.session_id, again.closed), (False, 0, True))

    def test_twice_at_once(self) -> None:
        """Of two that want one session at one server the later one gets it."""
        joined = self.joined()
        client = joined.members[2].client()
        joined.eager = False
        first, second = joined.members[3].connect(), joined.members[3].connect()
        for each in (first, second):
            each.send(each.connect_request(10_000, client.session_id, client.password))
        joined.settle()
        self.assertTrue(first.closed)
        self.assertTrue(second.greet())
        self.assertFalse(second.closed)

    def test_gone_while_asked(self) -> None:
        """A client that does not wait until the leader has been asked is forgotten; its session lives on."""
        joined = self.joined()
        client = joined.members[2].client()
        joined.eager = False
        again = joined.members[3].connect()
        again.send(again.connect_request(10_000, client.session_id, client.password))
        again.drop()
        joined.settle()
        self.assertEqual(joined.members[3].server.by_session, {})
        with lines() as said:
            joined.members[3].role.revalidated(client.session_id, True)
            joined.members[3].role.synced()
        self.assertEqual(len(said), 2)
        self.assertIn(client.session_id, joined.leader.core.sessions)

    def test_seen_too_much(self) -> None:
        """Who has seen more than this server is sent away."""
        client = self.joined().members[2].connect()
        client.send(client.connect_request(seen=EPOCH_ZXID + 5))
        self.assertTrue(client.closed)

    def test_end_of_role(self) -> None:
        """What is under way when a role ends is never answered; every client is disconnected, sessions live on."""
        joined = self.joined()
        member = joined.members[2]
        client, waiting = member.client(), member.connect()
        client.create(b"/b")
        joined.eager = False
        client.put(ops.SET_DATA, set_data(b"/b"))
        client.put(ops.CREATE, create(b"/a"))
        waiting.send(waiting.connect_request())
        joined.links[2, 0].popleft()()
        joined.commit()
        joined.links[0, 2].popleft()()
        role = member.role
        role.stop()
        role.stop()
        self.assertTrue(client.closed and waiting.closed)
        self.assertEqual((member.server.serving, member.role, role.in_flight), (False, None, 0))
        stranger = member.connect()
        stranger.send(stranger.connect_request())
        self.assertTrue(stranger.closed)
        joined.links[0, 2].clear()
        joined.settle()
        self.assertEqual((client.receive(), member.server.metrics.stale_replies), ([], 0))
        self.assertIn(client.session_id, joined.leader.core.timeouts)


class LocalSessionTests(JoinedTests):
    """Sessions that only their server knows (spec: server-semantics 2.4, quorum 9.5)."""

    def joined(self, learners: int = 2, **settings: object) -> Joined:
        return super().joined(learners, local_sessions_enabled=True, **settings)

    def test_no_transaction(self) -> None:
        """They begin, live, write and end without one of their own."""
        for sid in (1, 2):
            joined = self.joined()
            client = joined.members[sid].client()
            self.assertEqual(joined.history, [])
            client.create(b"/a")
            self.assertEqual(joined.leader.core.timeouts, {})
            self.assertEqual((joined.members[sid].server.local_sessions, joined.leader.core.global_sessions), (1, 0))
            zxid, err, _ = client.ask(ops.CLOSE_SESSION)
            self.assertEqual((zxid, err, client.closed), (EPOCH_ZXID + 1, 0, True))
            self.assertEqual(len(joined.history), 1)
            self.assertEqual(joined.members[sid].server.local_sessions, 0)

    def test_close_in_turn(self) -> None:
        """The end of one is answered behind what its client has asked for before."""
        joined = self.joined()
        client = joined.members[2].client()
        client.put(ops.CREATE, create(b"/a"))
        client.put(ops.CLOSE_SESSION)
        joined.settle()
        self.assertEqual([(xid, err) for xid, _, err, _ in client.receive()], [(1, 0), (2, 0)])
        self.assertTrue(client.closed)

    def test_closing(self) -> None:
        """One whose end waits for its turn is not given to anybody else, and does not expire."""
        joined = self.joined()
        client = joined.members[2].client(4000)
        joined.eager = False
        client.put(ops.CREATE, create(b"/a"))
        client.put(ops.CLOSE_SESSION)
        again = joined.members[2].connect()
        again.send(again.connect_request(4000, client.session_id, client.password))
        joined.clock.advance(20)
        joined.members[2].server.expire_sessions(20_000)
        self.assertTrue(again.closed)
        self.assertFalse(client.closed)
        joined.settle()
        self.assertEqual([xid for xid, *_ in client.receive()], [1, 2])

    def test_at_home_only(self) -> None:
        """One goes on at its own server only, and ends there when it is silent."""
        for sid in (1, 2):
            joined = self.joined()
            client = joined.members[sid].client(4000)
            for other, granted in ((3, False), (sid, True)):
                again = joined.members[other].connect()
                self.assertEqual(again.open(4000, client.session_id, client.password), granted)
            joined.advance(8)
            self.assertTrue(again.closed)
            self.assertFalse(joined.members[sid].connect().open(4000, client.session_id, client.password))
            self.assertEqual(joined.history, [])

    def test_no_ephemerals(self) -> None:
        """Without upgrading it makes no ephemeral node; the leader's clients learn more of a multi than others."""
        for sid, in_multi in ((1, EPHEMERAL_ON_LOCAL), (2, SESSION_EXPIRED)):
            client = self.joined().members[sid].client()
            for op in (ops.CREATE, ops.CREATE2):
                self.assertEqual(client.err(op, create(b"/e", flags=1)), EPHEMERAL_ON_LOCAL)
            body = proto.encode_multi([(ops.CREATE, create(b"/a")), (ops.CREATE, create(b"/e", flags=3))])
            results = proto.decode_multi_response(client.ask(ops.MULTI, body)[2], 0)
            self.assertEqual([err for _, err, _ in results], [0, in_multi])
            self.assertEqual(client.err(ops.CREATE_CONTAINER, proto.CreateRequest(b"/c", b"", OPEN_ACL, 4)), 0)

    def test_upgrade(self) -> None:
        """The first ephemeral node makes the session one of the ensemble, by a transaction of its own."""
        requests = (
            (ops.CREATE, create(b"/e", flags=1)),
            (ops.CREATE2, create(b"/e", flags=3)),
            (ops.MULTI, proto.encode_multi([(ops.CREATE, create(b"/a")), (ops.CREATE, create(b"/e", flags=1))])),
        )
        for sid in (1, 2):
            for op, request in requests:
                joined = self.joined(local_sessions_upgrading_enabled=True)
                client = joined.members[sid].client()
                client.create(b"/first")
                self.assertEqual(client.ask(op, request)[:2], (EPOCH_ZXID + 3, 0))
                kinds = [txns.decode_entry(entry)[0].type for _, entry in joined.history]
                self.assertEqual(kinds, [ops.CREATE, ops.CREATE_SESSION, op])
                for member in joined.members.values():
                    self.assertEqual(list(member.server.timeouts), [client.session_id])
                    self.assertEqual(member.server.local_sessions, 0)
                again = joined.members[3].connect()
                self.assertTrue(again.open(10_000, client.session_id, client.password))
                joined.advance(14)
                self.assertTrue(again.closed)
                self.assertEqual(joined.leader.core.tree.ephemerals, {})

    def test_no_upgrade(self) -> None:
        """Whatever else it does, it stays local."""
        for sid in (1, 2):
            joined = self.joined(local_sessions_upgrading_enabled=True, extended_types_enabled=True)
            client = joined.members[sid].client()
            operations = [
                (ops.CREATE, create(b"/a")),
                (ops.SET_DATA, set_data(b"/a")),
                (ops.CREATE_CONTAINER, create(b"/c", flags=4)),
                (ops.CREATE_TTL, proto.CreateTTLRequest(b"/t", b"", OPEN_ACL, 5, 1000)),
                (ops.CHECK, proto.CheckVersionRequest(b"/a", -1)),
                (ops.DELETE, proto.DeleteRequest(b"/a", -1)),
            ]
            self.assertEqual(client.err(ops.MULTI, proto.encode_multi(operations)), 0)
            self.assertEqual(client.err(ops.MULTI, b"\0"), -5)
            self.assertEqual(client.err(ops.CREATE, b"\0"), -5)
            self.assertEqual(joined.members[sid].server.local_sessions, 1)
            self.assertEqual(len(joined.history), 3)

    def test_upgrade_once(self) -> None:
        """Ephemeral nodes that are asked for at once share one upgrade; the end of the session waits for it."""
        for sid in (1, 2):
            joined = self.joined(local_sessions_upgrading_enabled=True)
            client = joined.members[sid].client()
            joined.eager = False
            for _ in range(2):
                client.put(ops.CREATE, create(b"/e", flags=3))
            client.put(ops.CLOSE_SESSION)
            joined.settle()
            self.assertEqual([err for _, _, err, _ in client.receive()], [0, 0, 0])
            kinds = [txns.decode_entry(entry)[0].type for _, entry in joined.history]
            self.assertEqual(kinds, [ops.CREATE_SESSION, ops.CREATE, ops.CREATE, ops.CLOSE_SESSION])
