"""Clients that do anything, on sockets that take little: every answer once and in order, nothing left counted."""

from __future__ import annotations

import socket
from struct import pack

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import tcp
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionLost
from twisted.internet.testing import MemoryReactor
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.server.world import Client, World, create, read
from zktwisted.testing.disk import MemoryDisk
from zktwisted.wire import ops, proto


class SocketTests(SynchronousTestCase):
    """Sending past the reactor, on a socket."""

    def setUp(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.peer = socket.create_connection(listening.getsockname(), timeout=10)
            served, address = listening.accept()
        self.addCleanup(self.peer.close)
        self.addCleanup(served.close)
        served.setblocking(False)
        served.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.world = World()
        self.reactor = MemoryReactor()
        self.protocol = self.world.factory.buildProtocol(IPv4Address("TCP", *address))
        self.transport = tcp.Connection(served, self.protocol, self.reactor)
        self.transport.connected = True
        self.helper = Client(self.world, "127.0.0.1")
        self.protocol.makeConnection(self.transport)
        self.protocol.dataReceived(self.helper.connect_request())
        self.world.turn()
        self.assertEqual(len(self.take(41)), 41)

    def take(self, size: int) -> bytes:
        """Read exactly so much, letting the transport write when the socket has room."""
        data = b""
        while len(data) < size:
            if self.transport in self.reactor.getWriters():
                self.assertIsNone(self.transport.doWrite())
            self.peer.setblocking(False)
            try:
                data += self.peer.recv(size - len(data))
            except BlockingIOError:
                if self.transport not in self.reactor.getWriters():
                    self.peer.settimeout(10)
                    data += self.peer.recv(size - len(data))
        return data

    def test_at_once(self) -> None:
        """A short answer leaves at once: nothing is left for the reactor."""
        self.protocol.dataReceived(self.helper.request(ops.PING))
        self.assertEqual(self.reactor.getWriters(), [])
        self.assertEqual(self.take(20)[4:8], pack(">i", -2))

    def test_in_order(self) -> None:
        """What the socket does not take waits in the transport, and nothing overtakes it."""
        creator = self.world.client()
        creator.create(b"/big", bytes(range(250)) * 400)
        requests = b"".join(self.helper.request(ops.GET_DATA, read(b"/big"), xid) for xid in range(1, 30))
        size = 4 + 16 + 4 + 100_000 + 68
        self.protocol.dataReceived(requests)
        self.assertEqual(self.reactor.getWriters(), [self.transport])
        for xid in range(1, 30):
            reply = self.take(size)
            self.assertEqual((len(reply), reply[4:8]), (size, pack(">i", xid)))
            self.assertEqual(reply[24:100_024], bytes(range(250)) * 400)
        self.protocol.dataReceived(self.helper.request(ops.PING))
        self.assertEqual(self.take(20)[4:8], pack(">i", -2))
        self.assertEqual(self.protocol.hold, 0)

    def test_broken(self) -> None:
        """A peer that has gone is found out by the transport, as always."""
        self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, pack("ii", 1, 0))
        self.peer.close()
        self.protocol.dataReceived(self.helper.request(ops.PING))
        self.assertEqual(self.reactor.getWriters(), [self.transport])
        self.assertIsInstance(self.transport.doWrite(), ConnectionLost)
        self.protocol.connectionLost(Failure(ConnectionLost()))
        self.assertNotIn(self.protocol, self.world.server.connections)


ACTIONS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(
            "write write read read ping sync large auth list watch block unblock disk turn turn tick drop fail".split()
        ),
    ),
    max_size=60,
)


class RandomTests(SynchronousTestCase):
    """Clients that do anything, under tight limits."""

    @settings(deadline=None, max_examples=100, derandomize=True)
    @given(
        ACTIONS,
        st.sampled_from([0, 1, 3]),
        st.sampled_from([1, 3, 1000]),
        st.sampled_from([-1, 500]),
        st.sampled_from([5, 17, 10_000]),
        st.booleans(),
    )
    def test_answered_in_order(
        self, actions: list[tuple[int, str]], throttle: int, outstanding: int, large: int, chunk: int, kept: bool
    ) -> None:
        """Each request is answered once and in order, unless its connection ended; nothing is left counted."""
        disk = MemoryDisk()
        world = World(
            disk if kept else None,
            request_throttle_max_requests=throttle,
            global_outstanding_limit=outstanding,
            large_request_threshold=large,
        )
        clients = [Talker(world, chunk) for _ in range(3)]
        disk.hold = True
        for number, action in actions:
            if action == "disk":
                if disk.in_flight:
                    disk.complete()
            elif action == "turn":
                world.turn()
            elif action == "tick":
                world.clock.advance(0.1)
                world.factory.admit(world.clock.seconds())
            else:
                clients[number].act(action)
        disk.hold = False
        for _ in range(300):
            if disk.in_flight:
                disk.complete()
            world.turn()
            world.factory.admit(world.clock.seconds())  # as the throttle's stall timer does
            for talker in clients:
                talker.go_on()
        for talker in clients:
            talker.client.receive()
            if talker.ended:
                continue
            replies = [reply[0] for reply in talker.client.replies]
            self.assertEqual([xid for xid in replies if xid != -4], talker.sent)
            self.assertEqual(replies.count(-4), talker.auths)
            self.assertEqual([reply[2] for reply in talker.client.replies], [0] * len(replies))
            zxids = [reply[1] for reply in talker.client.replies if reply[0] != -4]
            self.assertEqual(zxids, sorted(zxids))
            latest = 0
            for xid, zxid in talker.client.stream:
                if xid == -1:
                    # An event comes before the first reply that may show its change.
                    self.assertGreater(zxid, latest)
                elif xid != -4:
                    latest = zxid
        server = world.server
        self.assertEqual((server.outstanding.in_flight, server.throttler.in_pipeline, server.in_flight), (0, 0, 0))
        self.assertEqual((server.large_requests.bytes, len(server.throttler), server.dirty), (0, 0, []))
        for talker in clients:
            talker.client.drop()
        self.assertEqual((server.connections, server.by_session, server.watches.count), ({}, {}, 0))


class Talker:
    """A client that sends in pieces, as far as the server reads, and remembers what it asked."""

    def __init__(self, world: World, chunk: int) -> None:
        self.world = world
        self.client = world.client(40_000)
        self.chunk = chunk
        self.sent: list[int] = []
        self.auths = 0
        self.ended = False
        self.unsent = b""

    def act(self, action: str) -> None:
        client = self.client
        if self.ended:
            return
        if action == "drop":
            self.ended = True
            client.drop()
        elif action == "fail":
            self.ended = True
            self.say(client.request(99))
        elif action == "block":
            client.pipe.blocked = True
        elif action == "unblock":
            client.pipe.unblock()
        elif action == "auth":
            self.auths += 1
            self.say(client.request(ops.AUTH, proto.AuthPacket(0, "digest", b"a:b"), -4))
        else:
            op, record = {
                "write": (ops.CREATE, create(b"/s-", flags=2)),
                "large": (ops.CREATE, create(b"/l-", bytes(100_000), 2)),
                "read": (ops.GET_DATA, read(b"/")),
                "list": (ops.GET_CHILDREN, read(b"/")),
                "watch": (ops.GET_CHILDREN2, read(b"/", True)),
                "sync": (ops.SYNC, proto.PathRequest(b"/")),
                "ping": (ops.PING, b""),
            }[action]
            xid = -2 if action == "ping" else len(self.sent) + 1
            self.sent.append(xid)
            self.say(client.request(op, record, xid))

    def say(self, data: bytes) -> None:
        self.unsent += data
        self.push()

    def push(self) -> None:
        pipe = self.client.pipe
        size = self.chunk if len(self.unsent) < 5000 else 20_000
        while self.unsent and pipe.producerState != "paused" and not pipe.disconnecting:
            piece, self.unsent = self.unsent[:size], self.unsent[size:]
            self.client.send(piece)

    def go_on(self) -> None:
        """Read everything and send what is left."""
        self.client.pipe.unblock()
        if not self.ended or self.unsent:
            self.push()


class AccountingTests(SynchronousTestCase):
    """Nothing is left counted when everybody has gone."""

    def test_all_gone(self) -> None:
        """However connections end: closed, dropped, refused, in the middle of a frame or of a write."""
        disk = MemoryDisk()
        world = World(disk, request_throttle_max_requests=3, large_request_threshold=500, global_outstanding_limit=4)
        clients = [world.client() for _ in range(6)]
        disk.hold = True
        for number, client in enumerate(clients):
            client.put(ops.CREATE, create(b"/%d" % number, bytes(600), 1))
            client.put(ops.EXISTS, read(b"/"))
        clients[0].put(ops.CLOSE_SESSION)
        clients[1].put(99)
        clients[2].put(ops.AUTH, b"")
        clients[3].send(clients[3].request(ops.CREATE, create(b"/x", bytes(700)))[:100])
        world.connect().send(b"what")
        world.turn()
        for client in clients[2:5]:
            client.drop()
        for _ in range(10):
            if disk.in_flight:
                disk.complete()
            world.turn()
        disk.hold = False
        clients[5].drop()
        world.advance(30)
        server = world.server
        self.assertEqual(
            (server.connections, server.by_session, server.counts.total, server.large_requests.bytes), ({}, {}, 0, 0)
        )
        self.assertEqual((server.outstanding.in_flight, server.throttler.in_pipeline, server.in_flight), (0, 0, 0))
        self.assertEqual((server.timeouts, len(server.sessions), server.tree.ephemerals), ({}, 0, {}))
        self.assertIsNone(world.factory.deadline())
