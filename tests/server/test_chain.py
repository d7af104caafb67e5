"""The chains of the roles, and what an embedding program may put in front of them."""

from __future__ import annotations

import runpy
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.server.joined import EPOCH_ZXID, Joined
from tests.server.world import World, create, read, set_data
from zktwisted import ServerConfig, ZooKeeperService
from zktwisted.edge.requests import Request
from zktwisted.errors import Code
from zktwisted.interfaces import IRequestProcessor
from zktwisted.server.leader import LeaderRole
from zktwisted.server.readonly import ReadOnlyRole
from zktwisted.server.roles import Role
from zktwisted.server.standalone import StandaloneRole
from zktwisted.testing.client import MemoryEndpoint
from zktwisted.wire import ops, proto

THROTTLED = Code.THROTTLEDOP.value


def stages(role: Role) -> list[str]:
    """The names of a role's stages, as ZooKeeper's people say them."""
    return [type(stage).__name__.removesuffix("RequestProcessor").removesuffix("Processor") for stage in role.chain]


class ChainTests(SynchronousTestCase):
    """What a role's chain consists of (spec: quorum 11)."""

    def test_roles(self) -> None:
        """Each has ZooKeeper's stages, in ZooKeeper's order."""
        joined = Joined(2, observers=[3])
        roles: list[Role] = [StandaloneRole(World(begin=None).server), joined.leader]
        roles += [joined.members[sid].role for sid in (2, 3)] + [ReadOnlyRole(World(begin=None).server)]
        self.assertEqual(
            {role.name: stages(role) for role in roles},
            {
                "standalone": ["Prep", "Sync", "Final"],
                "leader": ["Leader", "Prep", "Proposal", "Commit", "ToBeApplied", "Final"],
                "follower": ["Follower", "Commit", "Final"],
                "observer": ["Observer", "Commit", "Final"],
                "read-only": ["ReadOnly"],
            },
        )
        for role in roles:
            for stage in role.chain:
                self.assertTrue(verifyObject(IRequestProcessor, stage))


@implementer(IRequestProcessor)
class Gate:
    """Holds requests while it is closed, and refuses what it is told to."""

    def __init__(self, behind: Any, refused: int = 0) -> None:
        self.behind = behind
        self.refused = refused
        self.closed = False
        self.held: list[Request] = []
        self.seen: list[int] = []
        self.ended = 0

    def process_request(self, request: Request) -> None:
        self.seen.append(request.op)
        if request.op == self.refused:
            request.refuse(THROTTLED)
        elif self.closed:
            self.held.append(request)
        else:
            self.behind.process_request(request)

    def open(self) -> None:
        """Let go of what is held."""
        self.closed = False
        held, self.held = self.held, []
        for request in held:
            self.behind.process_request(request)

    def shutdown(self) -> None:
        self.ended += 1


class ExampleTests(SynchronousTestCase):
    """The example of the documentation, in a whole server."""

    def test_rate_limit(self) -> None:
        """The first write of a session goes through at once, each further one when it is time; reads wait behind."""
        place = Path(__file__).parent.parent.parent / "docs" / "examples" / "rate_limit.py"
        limit = runpy.run_path(str(place))["RateLimit"]
        clock = Clock()
        endpoint = MemoryEndpoint(clock)
        service = ZooKeeperService(
            clock, ServerConfig(client_port=None), [endpoint], store="memory", processors=[partial(limit, clock, 0.5)]
        )
        service.startService()
        clock.advance(0)
        client, other = endpoint.connect(), endpoint.connect()
        clock.advance(0)
        for number in range(3):
            client.send(ops.CREATE, create(b"/%d" % number))
        client.send(ops.EXISTS, read(b"/2"))
        other.send(ops.CREATE, create(b"/other"))
        answered = []
        for _ in range(5):
            clock.advance(0)
            answered.append((len(client.replies), len(other.replies)))
            clock.advance(0.25)
        self.assertEqual(answered, [(1, 1), (1, 1), (2, 1), (2, 1), (4, 1)])
        clock.advance(1)
        for number in (3, 4):
            client.send(ops.CREATE, create(b"/%d" % number))
        clock.advance(0)
        stopped = service.stopService()
        clock.pump([0] * 10)
        self.successResultOf(stopped)
        self.assertEqual((len(client.replies), clock.getDelayedCalls()), (5, []))


class FrontTests(SynchronousTestCase):
    """A program's own processor in front."""

    def gates(self, world: World) -> list[Gate]:
        assert world.server.role is not None
        return [stage for stage in world.server.role.chain if isinstance(stage, Gate)]

    def test_sees(self) -> None:
        """It sees writes, syncs and the ends of sessions; reads, pings and what the server does itself it does not."""
        world = World(processors=[Gate])
        client = world.client()
        client.create(b"/a")
        client.get(b"/a")
        client.ask(ops.PING, b"", -2)
        client.ask(ops.SYNC, proto.PathRequest(b"/"))
        client.ask(ops.CLOSE_SESSION)
        self.assertEqual(self.gates(world)[0].seen, [ops.CREATE, ops.SYNC, ops.CLOSE_SESSION])

    def test_sees_each(self) -> None:
        """What comes in one piece it sees one by one, and what it refuses of it is answered in its turn."""
        world = World(processors=[lambda behind: Gate(behind, ops.DELETE)])
        client = world.client()
        asked = [ops.CREATE, ops.DELETE, ops.SYNC, ops.SET_DATA]
        records = [create(b"/a"), proto.DeleteRequest(b"/a", -1), proto.PathRequest(b"/"), set_data(b"/a", b"1")]
        client.send(b"".join(map(client.request, asked, records)))
        world.turn()
        self.assertEqual(self.gates(world)[0].seen, asked)
        self.assertEqual([(xid, err) for xid, _, err, _ in client.receive()], [(1, 0), (2, THROTTLED), (3, 0), (4, 0)])

    def test_order(self) -> None:
        """Of several the first one is asked first."""
        world = World(processors=[lambda behind: Gate(behind, ops.DELETE), Gate])
        client = world.client()
        self.assertEqual(client.err(ops.DELETE, proto.DeleteRequest(b"/a", -1)), THROTTLED)
        client.create(b"/a")
        self.assertEqual([gate.seen for gate in self.gates(world)], [[ops.DELETE, ops.CREATE], [ops.CREATE]])

    def test_refuses(self) -> None:
        """What it refuses is answered in its turn, and no transaction."""
        world = World(processors=[lambda behind: Gate(behind, ops.DELETE)])
        client = world.client()
        zxid = world.server.last_zxid
        client.put(ops.CREATE, create(b"/a"))
        client.put(ops.DELETE, proto.DeleteRequest(b"/a", -1))
        client.put(ops.EXISTS, read(b"/a"))
        world.turn()
        self.assertEqual([(xid, err) for xid, _, err, _ in client.receive()], [(1, 0), (2, THROTTLED), (3, 0)])
        self.assertEqual(world.server.last_zxid, zxid + 1)

    def test_holds(self) -> None:
        """What it holds holds up its own client only, and is answered when it is let go of."""
        for role in ("standalone", "leader", "follower"):
            joined = Joined(1, processors=[Gate])
            world: World = joined.members[1 if role == "leader" else 2]
            if role == "standalone":
                world = World(processors=[Gate])
            client, other = world.client(), world.client()
            (gate,) = self.gates(world)
            gate.closed = True
            client.put(ops.CREATE, create(b"/a"))
            client.put(ops.EXISTS, read(b"/a"))
            world.turn()
            self.assertEqual(client.receive(), [])
            self.assertIsNone(other.exists(b"/a"))
            gate.open()
            world.turn()
            self.assertEqual([(xid, err) for xid, _, err, _ in client.receive()], [(1, 0), (2, 0)])
            gate.closed = True
            client.put(ops.SYNC, proto.PathRequest(b"/"))
            gate.refused, gate.closed = ops.SYNC, False
            gate.held[0].refuse(THROTTLED)
            self.assertEqual(client.receive()[0][1:3], (world.server.last_zxid, THROTTLED))

    def test_too_late(self) -> None:
        """What it lets go of when the client, the session or the role is gone harms nobody."""
        world = World(processors=[Gate])
        (gate,) = self.gates(world)
        gone, client = world.client(4000), world.client(40_000)
        gate.closed = True
        gone.put(ops.CREATE, create(b"/a"))
        gone.drop()
        gate.held[0].refuse(THROTTLED)
        world.advance(8)
        gate.open()
        world.turn()
        self.assertNotIn(b"/a", world.server.tree.nodes)
        gate.closed = True
        client.put(ops.CREATE, create(b"/b"))
        zxid = world.server.last_zxid
        role = world.server.role
        assert role is not None
        role.stop()
        world.server.open()
        gate.open()
        world.turn()
        self.assertEqual((client.receive(), client.closed, gate.ended), ([], True, 1))
        self.assertEqual(world.server.last_zxid, zxid)
        world.client().create(b"/c")
        self.assertEqual(world.server.last_zxid, zxid + 2)
        self.assertNotIn(b"/b", world.server.tree.nodes)
        self.assertNotIn(gate, self.gates(world))

    def test_too_late_read_only(self) -> None:
        """The same where nothing can be written."""
        world = World(begin=None, processors=[Gate])
        role = ReadOnlyRole(world.server)
        role.start(0)
        client = world.connect()
        client.send(client.connect_request(tail=b"\1"))
        world.turn()
        self.assertTrue(client.greet())
        (gate,) = self.gates(world)
        gate.closed = True
        client.put(ops.CREATE, create(b"/a"))
        client.put(ops.CLOSE_SESSION)
        role.stop()
        world.server.open()
        gate.open()
        self.assertEqual((client.receive(), client.closed), ([], True))

    def test_too_late_in_an_ensemble(self) -> None:
        """The same for a learner's role, and a leader's; the next leadership has all its zxids."""
        for sid in (1, 2):
            joined = Joined(1, processors=[Gate])
            member = joined.members[sid]
            client = member.client()
            (gate,) = self.gates(member)
            gate.closed = True
            client.put(ops.CREATE, create(b"/a"))
            member.role.stop()
            LeaderRole(member.server, joined).start(2 * EPOCH_ZXID)
            gate.open()
            self.assertEqual((len(joined.proposed), joined.history[-1][0]), (0, EPOCH_ZXID + 1))
            self.assertEqual((len(member.sent), client.receive()), (sid - 1, []))
            self.assertEqual(member.server.prepare.zxid, 2 * EPOCH_ZXID)
