"""What is answered in place: the fused ways against the plain ones, and the requests about watches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.tree.chain import (
    BAD_ARGUMENTS,
    LOCAL,
    MARSHALLING,
    NO_AUTH,
    NO_NODE,
    OTHER,
    READ_ONLY,
    SESSION,
    Chain,
    create,
    create_container,
    set_data,
)
from zktwisted.errors import Code, KeeperError, ProtocolError
from zktwisted.tree.acl import check
from zktwisted.tree.reads import Reads, encode_reply
from zktwisted.tree.schemes import Schemes
from zktwisted.tree.watches import Watches, encode_event
from zktwisted.wire import jute, ops, proto
from zktwisted.wire.proto import ACL, Id, Stat

ANN = Id("digest", "ann:hash")
BOB = Id("digest", "bob:hash")
HIDDEN = (ACL(31, ANN),)
ADMIN_ONLY = (ACL(16, Id("world", "anyone")), ACL(31, ANN))
NO_WATCHER = Code.NOWATCHER.value


class Client:
    """Who asks."""

    def __init__(self, session_id: int = SESSION) -> None:
        self.session_id = session_id
        self.events: list[bytes] = []

    def deliver(self, frame: bytes) -> None:
        self.events.append(frame)


class World(Chain):
    """A tree with something of each kind in it, and its reads."""

    def __init__(self) -> None:
        super().__init__()
        self.watches = Watches()
        self.reads = Reads(self.tree, self.watches, Schemes())
        self.ok(
            create(b"/a", b"data"),
            create(b"/a/x", None, READ_ONLY),
            create(b"/a/" + b"y" * 300, b""),
            create("/a/\u00e4".encode()),
            create(b"/e", flags=1),
            create_container(b"/c"),
            create(b"/admin", acl=ADMIN_ONLY),
            create(b"/ge"),
            create(b"/ge/1", flags=1),
            create(b"/ge2", flags=1),
        )
        assert self.do(create(b"/hidden", b"secret", HIDDEN), identities=(LOCAL, ANN)).err == 0
        assert self.do(create(b"/hidden/x"), identities=(LOCAL, ANN)).err == 0
        self.ok(create(b"/other", flags=1), session=OTHER)
        self.ok(set_data(b"/a", b"changed"))
        self.reads.zxid = self.prepare.zxid

    def ask(self, op: int, body: bytes, client: Any = None, identities: Sequence[Id] = (LOCAL,), xid: int = 7) -> bytes:
        """Ask in the middle of a larger buffer, as it comes from a socket."""
        head, tail = b"\0\1\2", b"\1/a\1\1\1\1\1\1\1\1\1\1"
        start, end = len(head), len(head) + len(body)
        return self.reads.table[op](client or Client(), identities, xid, head + body + tail, start, end)

    def err(self, op: int, record: Any, client: Any = None, identities: Sequence[Id] = (LOCAL,)) -> int:
        """Ask, and return the code."""
        frame = self.ask(op, record if isinstance(record, bytes) else jute.encode(record), client, identities)
        header, _ = jute.decode(proto.ReplyHeader, frame, 4)
        assert len(frame) == 4 + int.from_bytes(frame[:4], "big")
        assert (header.xid, header.zxid) == (7, self.reads.zxid)
        return header.err

    def answer(self, op: int, record: Any, client: Any = None, identities: Sequence[Id] = (LOCAL,)) -> bytes:
        """Ask for something that is there, and return the body."""
        assert self.err(op, record, client, identities) == 0
        return self.ask(op, record if isinstance(record, bytes) else jute.encode(record), client, identities)[20:]

    def plain(self, op: int, body: bytes, identities: Sequence[Id]) -> tuple[bytes, str | None]:
        """Answer exists, getData and getChildren(2) by records; return the frame, and the watch that is set."""
        try:
            request, _ = jute.decode(proto.PathWatchRequest, body)
            path = request.path
            if path is None:
                raise ProtocolError
            if op == ops.EXISTS and b"\0" in path:
                raise KeeperError(Code.BADARGUMENTS)
            try:
                node = self.tree.get(path)
            except KeeperError as e:
                return encode_reply(7, self.reads.zxid, e.code), "data" if op == ops.EXISTS and request.watch else None
            if not check(node.acl, ops.READ, identities, self.reads.schemes):
                raise KeeperError(Code.NOAUTH)
        except KeeperError as e:
            return encode_reply(7, self.reads.zxid, e.code), None
        except ProtocolError:
            return encode_reply(7, self.reads.zxid, MARSHALLING), None
        stat = jute.decode(Stat, node.stat())[0]
        names = list(node.children or ())
        record = {
            ops.EXISTS: proto.StatResponse(stat),
            ops.GET_DATA: proto.GetDataResponse(node.data, stat),
            ops.GET_CHILDREN: proto.PathsResponse(names),
            ops.GET_CHILDREN2: proto.GetChildren2Response(names, stat),
        }[op]
        watch = "data" if op in (ops.EXISTS, ops.GET_DATA) else "child"
        return encode_reply(7, self.reads.zxid, 0, jute.encode(record)), watch if request.watch else None


FUSED = (ops.EXISTS, ops.GET_DATA, ops.GET_CHILDREN, ops.GET_CHILDREN2)
ODD_PATHS = (b"", b"/a/" + b"y" * 300, "/a/\u00e4".encode(), b"/\0", b"/\xff")
PATHS = st.sampled_from(
    (*b"/ /a /a/x /e /c /admin /hidden /hidden/x /nope /a/ a /zookeeper/config".split(), *ODD_PATHS)
)
BODIES = st.one_of(
    st.builds(
        lambda path, watch: jute.pack_buffer(path) + watch, PATHS, st.sampled_from([b"\0", b"\1", b"\2", b"\1x"])
    ),
    st.builds(lambda path, cut: (jute.pack_buffer(path) + b"\1")[:cut], PATHS, st.integers(0, 12)),
    st.sampled_from([b"\xff\xff\xff\xff\1", b"\xff\xff\xff\xfe\1", b"\x7f\xff\xff\xff/\1", b"\x80\0\0\0\1"]),
    st.binary(max_size=16),
)


class FusedTests(SynchronousTestCase):
    """exists, getData, getChildren and getChildren2 without records."""

    @settings(deadline=None, max_examples=600, derandomize=True)
    @given(st.sampled_from(FUSED), BODIES, st.sampled_from([(LOCAL,), (LOCAL, ANN), (LOCAL, BOB), (Id("super", ""),)]))
    def test_equal(self, op: int, body: bytes, identities: tuple[Id, ...]) -> None:
        """Any bytes give the same reply as the way through records, and set the same watch."""
        world = self.world
        client = Client()
        expected, watch = world.plain(op, body, identities)
        self.assertEqual(world.ask(op, body, client, identities).hex(), expected.hex())
        data, child = world.watches.data.by_watcher, world.watches.child.by_watcher
        found = "data" if client in data else "child" if client in child else None
        self.assertEqual(found, watch)
        world.watches.remove_watcher(client)

    def setUp(self) -> None:
        self.world = World()

    def test_skip_acl(self) -> None:
        """With skipACL everybody reads everything."""
        world = self.world
        world.reads.skip_acl = True
        for op in FUSED:
            self.assertEqual(world.err(op, proto.PathWatchRequest(b"/hidden", False)), 0)

    def test_ping(self) -> None:
        """A ping's answer has xid -2 whatever the request had."""
        frame = self.world.ask(ops.PING, b"")
        self.assertEqual(jute.decode(proto.ReplyHeader, frame, 4)[0], (-2, self.world.reads.zxid, 0))


class PlainTests(SynchronousTestCase):
    """The other reads."""

    def setUp(self) -> None:
        self.world = World()

    def test_get_acl(self) -> None:
        """READ or ADMIN is needed; without ADMIN the hashes of digests are not shown."""
        world = self.world
        for path, identities, code in (
            (b"/nope", (LOCAL,), NO_NODE),
            (b"/hidden", (LOCAL,), NO_AUTH),
            (b"/hidden", (LOCAL, ANN), 0),
            (b"/admin", (LOCAL,), 0),
            (b"/a/x", (LOCAL,), 0),
            (None, (LOCAL,), MARSHALLING),
        ):
            self.assertEqual(world.err(ops.GET_ACL, proto.PathRequest(path), None, identities), code, path)
        self.assertEqual(world.err(ops.GET_ACL, b"\0\0"), MARSHALLING)
        acl = (ACL(1, Id("world", "anyone")), ACL(31, ANN))
        self.assertEqual(world.do(create(b"/mixed", acl=acl)).err, 0)
        for identities, shown in (((LOCAL,), "ann:x"), ((LOCAL, ANN), "ann:hash")):
            body = world.answer(ops.GET_ACL, proto.PathRequest(b"/mixed"), None, identities)
            response, _ = jute.decode(proto.GetACLResponse, body)
            self.assertEqual([entry.id.id for entry in response.acl or ()], ["anyone", shown])
            self.assertEqual(response.stat, world.stat(b"/mixed"))

    def test_multi_read(self) -> None:
        """Each operation succeeds or fails on its own, and sets no watch."""
        world, client = self.world, Client()
        read = proto.PathWatchRequest
        request = proto.encode_multi(
            [
                (ops.GET_DATA, read(b"/a", True)),
                (ops.GET_CHILDREN, read(b"/nope", True)),
                (ops.GET_DATA, read(b"/hidden", False)),
                (ops.GET_CHILDREN, read(b"/", True)),
            ]
        )
        results = proto.decode_multi_response(world.answer(ops.MULTI_READ, request, client), 0)
        self.assertEqual([(kind, err) for kind, err, _ in results], [(4, 0), (-1, NO_NODE), (-1, NO_AUTH), (8, 0)])
        self.assertEqual(results[0][2], (b"changed", world.stat(b"/a")))
        self.assertEqual(results[1][2].err, NO_NODE)
        self.assertEqual(sorted(results[3][2].paths), sorted(world.tree.nodes[b""].children or ()))
        self.assertEqual(world.watches.count, 0)
        self.assertEqual(world.answer(ops.MULTI_READ, proto.encode_multi([])), proto.END_OF_MULTI)
        for bad in (
            [(ops.GET_DATA, read(b"/a", True)), (ops.DELETE, proto.DeleteRequest(b"/a", -1))],
            [(ops.EXISTS, read(b"/a", True))],
            [(ops.GET_DATA, read(None, True))],
        ):
            self.assertEqual(world.err(ops.MULTI_READ, proto.encode_multi(bad)), MARSHALLING)

    def test_long_multi_read(self) -> None:
        """One that asks for a large node very often is refused before it fills the memory."""
        self.world.ok(create(b"/large", bytes(1 << 20)))
        reads = [(ops.GET_DATA, proto.PathWatchRequest(b"/large", False))] * 100
        few = self.world.answer(ops.MULTI_READ, proto.encode_multi(reads[:16]))
        self.assertEqual(len(proto.decode_multi_response(few, 0)), 16)
        self.assertEqual(self.world.err(ops.MULTI_READ, proto.encode_multi(reads)), MARSHALLING)

    def test_get_ephemerals(self) -> None:
        """The session's own, by a plain prefix of the text; none, blank or the root is all."""
        for prefix, expected in (
            (None, {b"/e", b"/ge/1", b"/ge2"}),
            (b"", {b"/e", b"/ge/1", b"/ge2"}),
            (b" ", {b"/e", b"/ge/1", b"/ge2"}),
            (b"/", {b"/e", b"/ge/1", b"/ge2"}),
            (b"/ge", {b"/ge/1", b"/ge2"}),
            (b"/ge/", {b"/ge/1"}),
            (b"/nope", set()),
        ):
            body = self.world.answer(ops.GET_EPHEMERALS, proto.PathRequest(prefix))
            self.assertEqual(set(jute.decode(proto.PathsResponse, body)[0].paths or ()), expected, prefix)
        body = self.world.answer(ops.GET_EPHEMERALS, proto.PathRequest(b"/"), Client(OTHER))
        self.assertEqual(jute.decode(proto.PathsResponse, body)[0].paths, [b"/other"])

    def test_get_all_children_number(self) -> None:
        """Descendants without the node itself; the root's are all the others."""
        world = self.world
        for path, expected in ((b"/", len(world.tree.nodes) - 1), (b"/a", 3), (b"/zookeeper", 2), (b"/e", 0)):
            body = world.answer(ops.GET_ALL_CHILDREN_NUMBER, proto.PathRequest(path))
            self.assertEqual(int.from_bytes(body, "big"), expected, path)
        for path, code in ((b"/nope", NO_NODE), (b"/hidden", NO_AUTH), (None, MARSHALLING)):
            self.assertEqual(world.err(ops.GET_ALL_CHILDREN_NUMBER, proto.PathRequest(path)), code)

    def test_who_am_i(self) -> None:
        """One entry per identity, without hashes."""
        body = self.world.answer(ops.WHO_AM_I, b"", None, (LOCAL, ANN, Id("super", "")))
        infos = jute.decode(proto.WhoAmIResponse, body)[0].client_info
        self.assertEqual(infos, [("ip", "127.0.0.1"), ("digest", "ann"), ("super", "")])

    def test_exists(self) -> None:
        """A NUL is refused; a watch on a node that may not be read is not set."""
        client = Client()
        self.assertEqual(self.world.err(ops.EXISTS, proto.PathWatchRequest(b"/\0", True), client), BAD_ARGUMENTS)
        self.assertEqual(self.world.err(ops.EXISTS, proto.PathWatchRequest(b"/hidden", True), client), NO_AUTH)
        self.assertEqual(self.world.watches.count, 0)


class WatchTests(SynchronousTestCase):
    """Requests about watches."""

    def setUp(self) -> None:
        self.world = World()
        self.client = Client()

    def test_add_check_remove(self) -> None:
        """Each type finds and removes what it means, of the calling connection only."""
        world, client = self.world, self.client
        request = proto.WatchesRequest
        self.assertEqual(world.answer(ops.ADD_WATCH, proto.AddWatchRequest(b"/p", 0), client), b"\0\0\0\0")
        self.assertEqual(world.err(ops.ADD_WATCH, proto.AddWatchRequest(b"/p", 1), client), 0)
        self.assertEqual(world.err(ops.ADD_WATCH, proto.AddWatchRequest(b"/p", 2), client), MARSHALLING)
        self.assertEqual(world.err(ops.EXISTS, proto.PathWatchRequest(b"/p", True), client), NO_NODE)
        found = {kind: world.err(ops.CHECK_WATCHES, request(b"/p", kind), client) for kind in range(7)}
        self.assertEqual(found, {0: MARSHALLING, 1: NO_WATCHER, 2: 0, 3: 0, 4: 0, 5: 0, 6: MARSHALLING})
        self.assertEqual(world.err(ops.CHECK_WATCHES, request(b"/p", 3), Client()), NO_WATCHER)
        self.assertEqual(world.err(ops.CHECK_WATCHES, request(None, 3), client), NO_WATCHER)
        self.assertEqual(world.err(ops.REMOVE_WATCHES, request(b"/p", 2), client), 0)
        self.assertEqual(world.err(ops.REMOVE_WATCHES, request(b"/p", 2), client), NO_WATCHER)
        self.assertEqual(world.err(ops.CHECK_WATCHES, request(b"/p", 4), client), 0)
        self.assertEqual(world.err(ops.REMOVE_WATCHES, request(b"/p", 3), client), 0)
        self.assertEqual((world.watches.count, client.events), (0, []))
        self.assertEqual(world.err(ops.REMOVE_WATCHES, request(None, 3), client), NO_WATCHER)

    def test_set_watches(self) -> None:
        """What changed since is told at once with zxid -1, in the order of the lists; the rest is registered."""
        world, client = self.world, self.client
        now = world.reads.zxid
        stat = world.stat(b"/a")
        self.assertEqual(stat.mzxid, now)
        lists = ([b"/a", b"/nope", b"/e"], [b"/e", b"/nope2"], [b"/", b"/c", b"/gone"])
        self.assertEqual(world.err(ops.SET_WATCHES, proto.SetWatches(now - 1, *lists), client), 0)
        expected = [(3, b"/a"), (2, b"/nope"), (1, b"/e"), (2, b"/gone")]
        self.assertEqual(client.events, [encode_event(kind, path, -1) for kind, path in expected])
        self.assertEqual(set(world.watches.data.by_watcher[client]), {b"/e", b"/nope2"})
        self.assertEqual(set(world.watches.child.by_watcher[client]), {b"/", b"/c"})

    def test_set_watches_unchanged(self) -> None:
        """Seen up to the very zxid of the change is unchanged."""
        world, client = self.world, self.client
        now = world.reads.zxid
        self.assertEqual(world.err(ops.SET_WATCHES, proto.SetWatches(now, [b"/a"], [], [b"/a"]), client), 0)
        self.assertEqual((client.events, world.watches.count), ([], 2))

    def test_set_watches2(self) -> None:
        """Persistent and recursive ones are registered and never told of at once."""
        world, client = self.world, self.client
        request = proto.SetWatches2(0, [], [], [], [b"/a"], [b"/r"])
        self.assertEqual(world.err(ops.SET_WATCHES2, request, client), 0)
        self.assertEqual((client.events, world.watches.count), ([], 3))

    def test_set_watches_null(self) -> None:
        """A null list is refused where it stands; a truncated request sets nothing."""
        world, client = self.world, self.client
        self.assertEqual(world.err(ops.SET_WATCHES, proto.SetWatches(99, [b"/a"], None, []), client), MARSHALLING)
        self.assertEqual(world.watches.count, 1)
        whole = jute.encode(proto.SetWatches(99, [b"/c"], [], []))
        other = Client()
        self.assertEqual(world.err(ops.SET_WATCHES, whole[:-1], other), MARSHALLING)
        self.assertNotIn(other, world.watches.data.by_watcher)
