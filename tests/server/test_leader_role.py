"""A leader: every write becomes a transaction, is proposed, and is applied when it is committed."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.server.joined import ENSEMBLE, EPOCH_ZXID, Joined
from tests.server.world import EPOCH, World, create, lines, read, set_data
from zktwisted.errors import Code, ProtocolError
from zktwisted.server.leader import LeaderRole
from zktwisted.wire import jute, ops, proto, txns
from zktwisted.wire.proto import ACL, OPEN_ACL, Id

SESSION_MOVED = Code.SESSIONMOVED.value
SESSION_EXPIRED = Code.SESSIONEXPIRED.value


class Paper:
    """An agreement that only takes notes."""

    def __init__(self) -> None:
        self.proposed: list[int] = []
        self.entries: list[bytes] = []
        self.syncs: list[int] = []

    def propose(self, zxid: int, entry: bytes) -> None:
        self.proposed.append(zxid)
        self.entries.append(entry)

    def sync(self, channel: int) -> None:
        self.syncs.append(channel)

    def outcome(self) -> tuple[int, object]:
        """Type and record of what was proposed last."""
        header, body, _ = txns.decode_entry(self.entries[-1])
        return header.type, body


class LeaderCase(SynchronousTestCase):
    """A leader without learners."""

    def lead(self, zxid: int = EPOCH_ZXID, **settings: object) -> tuple[World, LeaderRole, Paper]:
        """Start a leader whose proposals are committed when the test says so."""
        world = World(begin=None, server_id=1, **settings)
        paper = Paper()
        role = LeaderRole(world.server, paper)
        role.start(zxid)
        return world, role, paper


class LeaderTests(LeaderCase):
    """A leader and its own clients."""

    def test_commit(self) -> None:
        """Nothing is visible before it is committed; replies and reads come in the order of the requests."""
        world, role, paper = self.lead()
        client = world.connect()
        client.send(client.connect_request())
        self.assertEqual((paper.proposed, client.receive()), ([EPOCH_ZXID + 1], []))
        role.committed(EPOCH_ZXID + 1)
        world.server.settle()
        self.assertTrue(client.greet())
        client.put(ops.CREATE, create(b"/a"))
        client.put(ops.EXISTS, read(b"/a"))
        client.put(ops.SET_DATA, set_data(b"/a"))
        client.put(ops.SYNC, proto.PathRequest(b"/"))
        self.assertEqual((role.in_flight, world.server.in_flight), (3, 3))
        self.assertEqual((client.receive(), world.server.last_zxid), ([], EPOCH_ZXID + 1))
        role.committed(EPOCH_ZXID + 2)
        world.server.settle()
        self.assertEqual([each[:3] for each in client.receive()], [(1, EPOCH_ZXID + 2, 0), (2, EPOCH_ZXID + 2, 0)])
        role.committed(EPOCH_ZXID + 3)
        world.server.settle()
        self.assertEqual([each[:3] for each in client.receive()], [(3, EPOCH_ZXID + 3, 0), (4, EPOCH_ZXID + 3, 0)])
        self.assertEqual(client.ask(ops.SYNC, proto.PathRequest(b"/"))[1], 0)
        self.assertEqual(role.in_flight, 0)

    def test_at_once(self) -> None:
        """Agreeing may take no time at all."""
        world, role, paper = self.lead()
        self.patch(paper, "propose", lambda zxid, entry: role.committed(zxid))
        client = world.connect()
        client.send(client.connect_request())
        world.server.settle()
        self.assertTrue(client.greet())
        client.put(ops.CREATE, create(b"/a"))
        world.server.settle()
        self.assertEqual(client.receive()[0][1:3], (EPOCH_ZXID + 2, 0))

    def test_wrong_commit(self) -> None:
        """A commit of anything but the oldest proposal is a mistake of ours."""
        _, role, _ = self.lead()
        self.assertRaises(AssertionError, role.committed, EPOCH_ZXID + 1)
        role.forwarded(5, 99, 0, ops.CREATE_SESSION, b"\0\0\x27\x10", None)
        self.assertRaises(AssertionError, role.committed, EPOCH_ZXID + 2)
        role.committed(EPOCH_ZXID + 1)

    def test_window(self) -> None:
        """What is applied is kept for those who fall behind, as it was proposed."""
        joined = Joined(1)
        client = joined.members[1].client()
        client.create(b"/a")
        for member in joined.members.values():
            self.patch(member.server.storage, "committed", [])
        client.set(b"/a")
        for member in joined.members.values():
            self.assertEqual(list(member.server.storage.committed), joined.history[-1:])

    def test_rollover(self) -> None:
        """The last zxid of an epoch is brought before the agreement, which ends the leadership; none follows it."""
        world, role, paper = self.lead(EPOCH_ZXID + 0xFFFFFFFD)
        first, second = world.connect(), world.connect()
        for client in (first, second):
            client.send(client.connect_request())
        role.forwarded(5, 99, 1, ops.CREATE, jute.encode(create(b"/a")), ())
        role.forwarded(5, 99, 2, ops.SYNC, b"", ())
        world.connect().send(first.connect_request())
        self.assertEqual(paper.proposed, [EPOCH_ZXID + 0xFFFFFFFE, EPOCH_ZXID + 0xFFFFFFFF])
        self.assertEqual(paper.syncs, [])
        role.stop()
        self.assertTrue(first.closed and second.closed)

    def test_sessions_begin_anew(self) -> None:
        """Each session of the database gets its whole timeout, and belongs to nobody yet."""
        world = World(begin=None)
        world.server.timeouts.update({7: 4000, 8: 9000})
        world.clock.advance(1000)
        role = LeaderRole(world.server, Paper())
        role.start(EPOCH_ZXID)
        tracked = {each.session_id: (each.timeout, each.owner) for each in world.server.sessions.sessions.values()}
        self.assertEqual(tracked, {7: (4000, None), 8: (9000, None)})
        world.server.expire_sessions(1_003_999)
        self.assertEqual(role.in_flight, 0)
        world.server.expire_sessions(1_006_000)
        self.assertEqual(role.in_flight, 1)

    def test_ids(self) -> None:
        """Session ids bear the server's id; none is given twice though the clock was set back, a closed one neither."""
        world = World(begin=None, server_id=200)
        given = world.server.ids.next + 1000
        world.server.timeouts.update({given: 4000, 1 << 56 | 0xFFFFFFFFFF: 4000})
        LeaderRole(world.server, Paper()).start(EPOCH_ZXID)
        self.assertEqual(world.server.ids.next, (given >> 16) + 1 << 16)
        self.assertEqual(world.server.ids.next >> 56 & 0xFF, 200)

    def test_leader_does_not_serve(self) -> None:
        """With leaderServes=no clients are sent away, and learners' writes go on."""
        world, role, paper = self.lead(leader_serves=False)
        client = world.connect()
        client.send(client.connect_request())
        self.assertTrue(client.closed)
        role.forwarded(5, 99, 0, ops.CREATE_SESSION, b"\0\0\x27\x10", None)
        role.committed(paper.proposed[0])
        self.assertEqual(world.server.timeouts, {99: 10_000})

    def test_two_at_a_time(self) -> None:
        """A role does not begin while another is on."""
        world, _, _ = self.lead()
        self.assertRaises(AssertionError, LeaderRole(world.server, Paper()).start, 2 * EPOCH_ZXID)

    def test_containers(self) -> None:
        """Containers go by the leader's transactions, and by nobody else's."""
        joined = Joined(1)
        client = joined.members[2].client()
        client.err(ops.CREATE_CONTAINER, proto.CreateRequest(b"/c", b"", OPEN_ACL, 4))
        client.create(b"/c/x")
        client.delete(b"/c/x")
        leader, learner = joined.members[1].server, joined.members[2].server
        self.assertEqual(learner.expendable_nodes(EPOCH), [])
        self.assertEqual(leader.expendable_nodes(EPOCH), [b"/c"])
        leader.delete_container(b"/c")
        joined.settle()
        self.assertNotIn(b"/c", learner.tree.nodes)


class ForwardedTests(LeaderCase):
    """What learners forward."""

    def setUp(self) -> None:
        self.world, self.role, self.paper = self.lead()
        for session, channel in ((98, 4), (99, 5)):
            self.role.forwarded(channel, session, 0, ops.CREATE_SESSION, b"\0\0\x27\x10", None)

    def test_owner(self) -> None:
        """A session belongs to the learner that brought it, until another one revalidates it."""
        body = jute.encode(create(b"/a"))
        self.role.forwarded(5, 99, 1, ops.CREATE, body, ())
        self.assertEqual(self.paper.outcome()[0], ops.CREATE)
        self.role.forwarded(4, 99, 1, ops.SET_DATA, jute.encode(set_data(b"/a")), ())
        self.assertEqual(self.paper.outcome(), (ops.ERROR, txns.ErrorTxn(SESSION_MOVED)))
        self.assertTrue(self.role.revalidate(4, 99, 8000))
        self.assertEqual(self.world.server.sessions.sessions[99].timeout, 8000)
        self.role.forwarded(4, 99, 2, ops.SET_DATA, jute.encode(set_data(b"/a")), ())
        self.assertEqual(self.paper.outcome()[0], ops.SET_DATA)
        for op, record in ((ops.DELETE, proto.DeleteRequest(b"/a", -1)), (ops.CREATE, create(b"/b"))):
            self.role.forwarded(5, 99, 2, op, jute.encode(record), ())
            self.assertEqual(self.paper.outcome(), (ops.ERROR, txns.ErrorTxn(SESSION_MOVED)))

    def test_moved_multi(self) -> None:
        """A multi of a session that has moved fails at its first operation."""
        operations = [(ops.CREATE, create(b"/a")), (ops.CHECK, proto.CheckVersionRequest(b"/", -1))]
        for each in (operations, operations[::-1]):
            self.role.forwarded(4, 99, 1, ops.MULTI, proto.encode_multi(each), ())
            kind, body = self.paper.outcome()
            assert isinstance(body, txns.MultiTxn)
            errors = [record.err for _, record in txns.multi_operations(body)]
            self.assertEqual((kind, errors), (ops.MULTI, [SESSION_MOVED, -2]))

    def test_adopted(self) -> None:
        """After a change of leaders the first one to write for a session has it."""
        self.world.server.sessions.sessions[99].owner = None
        self.role.forwarded(4, 99, 1, ops.CREATE, jute.encode(create(b"/a")), ())
        self.assertEqual(self.world.server.sessions.sessions[99].owner, 4)

    def test_unknown_session(self) -> None:
        """Writes of a session that is closing, or that nobody knows, are error transactions; its end is one always."""
        body = jute.encode(create(b"/a"))
        self.role.forwarded(4, 1234, 1, ops.CREATE, body, ())
        self.assertEqual(self.paper.outcome(), (ops.ERROR, txns.ErrorTxn(SESSION_EXPIRED)))
        self.role.forwarded(4, 98, 1, ops.CLOSE_SESSION, b"", ())
        self.assertEqual(self.paper.outcome()[0], ops.CLOSE_SESSION)
        self.role.forwarded(4, 98, 2, ops.CREATE, body, ())
        self.assertEqual(self.paper.outcome(), (ops.ERROR, txns.ErrorTxn(SESSION_EXPIRED)))
        self.role.forwarded(4, 1234, 2, ops.CLOSE_SESSION, b"", ())
        self.assertEqual(self.paper.outcome()[0], ops.CLOSE_SESSION)

    def test_flags_first(self) -> None:
        """What a create is told of its flags comes before what it is told of its session."""
        self.role.forwarded(4, 99, 1, ops.CREATE, jute.encode(create(b"/a", flags=9)), ())
        self.assertEqual(self.paper.outcome(), (ops.ERROR, txns.ErrorTxn(Code.BADARGUMENTS.value)))

    def test_revalidate(self) -> None:
        """Only a session that is known and not closing is valid."""
        self.assertFalse(self.role.revalidate(4, 1234, 8000))
        self.role.forwarded(4, 98, 1, ops.CLOSE_SESSION, b"", ())
        self.assertFalse(self.role.revalidate(4, 98, 8000))
        self.assertTrue(self.role.revalidate(4, 99, 8000))

    def test_touched(self) -> None:
        """Sessions of which learners hear live on; unknown ones are no matter."""
        self.world.clock.advance(9)
        self.role.touched(5, [(99, 10_000), (1234, 10_000)])
        self.world.server.expire_sessions(12_000)
        sessions = self.world.server.sessions.sessions
        self.assertEqual((sessions[98].closing, sessions[99].closing), (True, False))

    def test_sync(self) -> None:
        """A sync makes no transaction, whatever became of its session."""
        before = len(self.paper.proposed)
        for session in (99, 1234):
            self.role.forwarded(5, session, 1, ops.SYNC, jute.encode(proto.PathRequest(b"/")), ())
        self.assertEqual((self.paper.syncs, len(self.paper.proposed)), ([5, 5], before))

    def test_one_each(self) -> None:
        """Whatever a learner forwards becomes one transaction, so that the next one's is not taken for it."""
        for cxid, op in enumerate((1, 2, 5, 7, 14, 15, 16, 19, 20, 21, 13, -10, -11), 1):
            for body in (b"", b"\0\0\0\5/a", b"\x7f\xff\xff\xff"):
                before = len(self.paper.proposed)
                self.role.forwarded(5, 99, cxid, op, body, ())
                self.assertEqual(len(self.paper.proposed), before + 1, op)
                header, _, _ = txns.decode_entry(self.paper.entries[-1])
                self.assertEqual((header.client_id, header.cxid), (99, cxid))
        for zxid in self.paper.proposed:
            self.role.committed(zxid)
        self.assertEqual(self.world.failures, [])

    def test_check_alone(self) -> None:
        """A check by itself is no transaction that anybody could read: it fails."""
        self.role.forwarded(5, 99, 1, ops.CHECK, jute.encode(proto.CheckVersionRequest(b"/", -1)), ())
        self.assertEqual(self.paper.outcome(), (ops.ERROR, txns.ErrorTxn(Code.UNIMPLEMENTED.value)))
        self.role.forwarded(5, 99, 2, ops.CREATE, jute.encode(create(b"/a")), ())
        self.assertEqual(self.paper.outcome()[0], ops.CREATE)

    def test_not_forwarded(self) -> None:
        """What no learner forwards is ignored, and said."""
        with lines() as said:
            for op in (ops.GET_DATA, ops.PING, ops.AUTH, 999, -1):
                self.role.forwarded(5, 99, 1, op, b"", ())
        self.assertEqual((len(self.paper.proposed), len(said)), (2, 5))

    def test_local_elsewhere(self) -> None:
        """With local sessions a session that the leader does not know may be another server's own."""
        world, role, paper = self.lead(local_sessions_enabled=True)
        ours, theirs = 1 << 56 | 77, 2 << 56 | 77
        for session, flags, outcome in ((theirs, 0, ops.CREATE), (theirs, 1, ops.ERROR), (ours, 0, ops.ERROR)):
            role.forwarded(5, session, 1, ops.CREATE, jute.encode(create(b"/%d" % flags, flags=flags)), ())
            self.assertEqual(paper.outcome()[0], outcome)
            if outcome == ops.ERROR:
                self.assertEqual(paper.outcome()[1], txns.ErrorTxn(SESSION_EXPIRED))
        self.assertFalse(role.revalidate(5, theirs, 8000))
        self.assertEqual(len(world.server.sessions), 0)


class ConfigNodeTests(SynchronousTestCase):
    """/zookeeper/config in an ensemble (spec: server-semantics 1.3, 9.3)."""

    def test_text(self) -> None:
        """It tells the members and the version, since when this server knows; no digest counts it."""
        world = World(begin=None)
        digest = world.server.tree.digest
        world.clock.advance(7)
        world.server.put_config(ENSEMBLE)
        world.server.open()
        client = world.client()
        body = client.ask(ops.GET_DATA, read(b"/zookeeper/config"))[2]
        data, stat = jute.decode(proto.GetDataResponse, body)[0]
        self.assertEqual(data, ENSEMBLE.text.encode())
        self.assertTrue(data.startswith(b"server.1=127.0.0.1:2881:3881:participant\n"), data)
        self.assertTrue(data.endswith(b"\nversion=0"), data)
        self.assertEqual((stat.mzxid, stat.mtime, stat.version, stat.aversion), (0, EPOCH + 7000, -1, -1))
        self.assertEqual(world.server.tree.digest, digest)

    def test_reconfig(self) -> None:
        """Members cannot be changed while an ensemble runs, whatever the setting says."""
        client = Joined(1, reconfig_enabled=True).members[2].client()
        request = proto.ReconfigRequest("server.9=h:1:2;3", None, None, -1)
        self.assertEqual(client.err(ops.RECONFIG, request), Code.RECONFIGDISABLED.value)


class EagerTests(SynchronousTestCase):
    """C{enableEagerACLCheck} (spec: server-semantics 10.1)."""

    def test_refused_at_once(self) -> None:
        """What is plainly not allowed gets no further than the client's own server, leader or learner, and no zxid."""
        for sid in (1, 2):
            joined = Joined(1, enable_eager_acl_check=True)
            owner, client = joined.members[sid].client(), joined.members[sid].client()
            owner.authenticate(b"ann:secret")
            owner.create(b"/mine", acl=(ACL(31, Id("auth", "")),))
            owner.create(b"/mine/x")
            before = len(joined.history)
            no_auth, invalid = Code.NOAUTH.value, Code.INVALIDACL.value
            for op, record, code in (
                (ops.CREATE, create(b"/mine/y"), no_auth),
                (ops.CREATE2, create(b"/mine/y"), no_auth),
                (ops.DELETE, proto.DeleteRequest(b"/mine/x", -1), no_auth),
                (ops.SET_DATA, set_data(b"/mine"), no_auth),
                (ops.SET_ACL, proto.SetACLRequest(b"/mine", OPEN_ACL, -1), no_auth),
                (ops.CREATE, proto.CreateRequest(b"/z", b"", (), 0), invalid),
                (ops.SET_ACL, proto.SetACLRequest(b"/mine/x", (), -1), invalid),
            ):
                self.assertEqual(client.ask(op, record), (0, code, b""), op)
            self.assertEqual(len(joined.history), before)

    def test_the_rest(self) -> None:
        """What this server cannot judge, or allows, goes on to the leader."""
        client = Joined(1, enable_eager_acl_check=True).members[2].client()
        client.create(b"/a")
        client.set(b"/a")
        self.assertEqual(client.err(ops.SET_DATA, set_data(b"/none")), Code.NONODE.value)
        self.assertEqual(client.err(ops.SET_DATA, b"\0"), Code.MARSHALLINGERROR.value)
        self.assertEqual(client.err(ops.MULTI, proto.encode_multi([])), 0)


class ReplayTests(SynchronousTestCase):
    """Transactions of other servers (spec: quorum 2.1)."""

    def test_digests(self) -> None:
        """One after which the trees are not equal is counted and said once, and changes nothing else."""
        joined = Joined(1)
        client = joined.members[1].client()
        world = World(begin=None)
        for path in (b"/a", b"/b", b"/c"):
            client.create(path)
        with lines() as said:
            for zxid, entry in joined.history[1:]:
                world.server.replay(zxid, entry)
        self.assertEqual(world.server.metrics.digest_mismatches_count, 0)
        world = World(begin=None)
        with lines() as said:
            for zxid, entry in joined.history[2:]:
                world.server.replay(zxid, entry)
        self.assertEqual(world.server.metrics.digest_mismatches_count, 2)
        self.assertEqual((len(said), world.server.last_zxid), (1, joined.history[-1][0]))

    def test_fuzzy(self) -> None:
        """Behind an image that was written while the leader went on, digests count from the first that agrees."""
        joined = Joined(1)
        client = joined.members[1].client()
        for path in (b"/a", b"/b", b"/c"):
            client.create(path)
        world = World(begin=None)
        for zxid, entry in joined.history:
            world.server.replay(zxid, entry)
        world.server.image_loaded(joined.history[0][0])
        for zxid, entry in joined.history[1:]:
            world.server.replay(zxid, entry)
        self.assertEqual(world.server.metrics.digest_mismatches_count, 0)
        world.server.tree.digest += 1
        world.server.replay(*joined.history[-1])
        self.assertEqual(world.server.metrics.digest_mismatches_count, 1)

    def test_no_transaction(self) -> None:
        """What is none is told to whoever brought it."""
        self.assertRaises(ProtocolError, World(begin=None).server.replay, 1, b"\0" * 12)
