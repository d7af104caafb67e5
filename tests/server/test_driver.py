"""The drivers of the agreement: machines, connections, disks and roles, joined (spec: quorum 6, 7, 8, 11.2, 14)."""

from __future__ import annotations

from random import Random
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.server.quorum_world import THREE, Cable, Member, Servers
from zktwisted.config import Ensemble
from zktwisted.edge.quorum import QuorumFactory
from zktwisted.errors import StoreError
from zktwisted.server.leading import LeaderDriver
from zktwisted.tree import image
from zktwisted.wire import jute, ops, proto, quorum, txns
from zktwisted.wire.quorum import pack_bare, pack_packet
from zktwisted.zab.effects import Exit, Leave, Limits


class DriverCase(SynchronousTestCase):
    """Servers, and a look at what they leave behind."""

    def setUp(self) -> None:
        self.servers = Servers()
        self.clock = self.servers.clock
        self.one, self.two, self.three = (self.servers.add(sid) for sid in (1, 2, 3))

    def tearDown(self) -> None:
        for member in self.servers.members:
            if member.driver is not None:
                self.close(member)
        self.assertEqual(self.clock.getDelayedCalls(), [], "a delayed call outlives the drivers")

    def close(self, member: Member) -> None:
        """End a role in order."""
        closing = member.close()
        self.servers.turn()
        self.successResultOf(closing)

    def lead(self, leader: Member, *followers: Member) -> LeaderDriver:
        """Let a server lead and others follow."""
        driver = leader.lead()
        for follower in followers:
            self.servers.connect(follower, driver)
        self.servers.turn()
        self.assertEqual(
            [each.served[-1:] for each in (leader, *followers)], [["leader"]] + [["follower"]] * len(followers)
        )
        return driver

    def same(self, *members: Member) -> None:
        """All have the same tree."""
        first = members[0]
        for member in members:
            self.assertEqual(member.tree(), first.tree(), member.sid)
            self.assertEqual(member.core.tree.digest, first.core.tree.digest)
            self.assertEqual(member.core.metrics.digest_mismatches_count, 0)

    def restarted(self, member: Member) -> Member:
        """Return the server that a new process makes of the same disk."""
        again = Member(member.sid, self.clock, member.disk)
        again.epochs = dict(member.epochs)
        return again


class BroadcastTests(DriverCase):
    """What everybody came for."""

    def test_write_anywhere(self) -> None:
        """A write at any server is read at every one, and is on every disk."""
        self.lead(self.three, self.one, self.two)
        for member in (self.one, self.two, self.three):
            client = member.world.client()
            client.create(b"/%d" % member.sid, b"data")
        for member in (self.one, self.two, self.three):
            self.assertEqual(sorted(member.core.tree.nodes[b""].children or ()), [b"1", b"2", b"3", b"zookeeper"])
        self.same(self.one, self.two, self.three)
        for member in (self.one, self.two, self.three):
            self.assertEqual(self.restarted(member).tree(), member.tree())
        self.assertEqual(self.three.epochs, {"acceptedEpoch": 1, "currentEpoch": 1})
        self.assertEqual(self.one.epochs, {"acceptedEpoch": 1, "currentEpoch": 1})

    def test_observer(self) -> None:
        """An observer hears of what is committed, and writes through the leader."""
        driver = self.lead(self.three, self.one)
        observer = self.servers.add(4)
        self.servers.connect(observer, driver, observer=True)
        self.servers.turn()
        client = observer.world.client()
        client.create(b"/seen")
        self.assertEqual(observer.served, ["observer"])
        self.same(self.one, self.three, observer)

    def test_one_write_a_turn(self) -> None:
        """What the clients of a server ask within a turn goes to the leader together, and so do the proposals."""
        driver = self.lead(self.three, self.one)
        ends = self.servers.cables[:2]
        clients = [self.one.world.client() for _ in range(3)]
        counts = [len(end.written) for end in ends]
        for client in clients:
            for number in range(4):
                client.put(ops.SET_DATA, proto.SetDataRequest(b"/zookeeper", b"%d" % number, -1))
        self.clock.advance(0)
        self.assertEqual(len(ends[0].written) - counts[0], 1)
        ends[0].carry()
        self.clock.advance(0)
        self.assertEqual(len(ends[1].written) - counts[1], 1)
        self.servers.turn()
        self.assertEqual([len(client.receive()) for client in clients], [4, 4, 4])
        self.assertEqual(driver.machine.pending, [])

    def test_not_without_a_quorum(self) -> None:
        """What only the leader has on its disk is nobody's answer."""
        self.lead(self.three, self.one)
        client = self.three.world.client()
        for cable in self.servers.cables:
            cable.cut = True
        client.put(ops.CREATE, proto.CreateRequest(b"/alone", b"", proto.OPEN_ACL, 0))
        self.servers.turn()
        self.assertEqual(client.receive(), [])
        self.assertNotIn(b"/alone", self.three.core.tree.nodes)
        self.close(self.three)
        # It is in the log, and so it is part of the history until another leader says otherwise.
        self.assertIn(b"/alone", self.three.core.tree.nodes)
        self.assertEqual(self.restarted(self.three).tree(), self.three.tree())

    def test_slow_disk(self) -> None:
        """A follower acknowledges when its disk has written, not before; the leader's own disk may be the last."""
        for held in (self.one, self.three):
            self.servers = Servers()
            self.clock = self.servers.clock
            self.one, self.two, self.three = (self.servers.add(sid) for sid in (1, 2, 3))
            held = self.servers.members[held.sid - 1]
            self.lead(self.three, self.one)
            client = self.three.world.client()
            held.disk.hold = True
            client.put(ops.CREATE, proto.CreateRequest(b"/slow", b"", proto.OPEN_ACL, 0))
            self.servers.turn()
            self.assertEqual(client.receive(), [])
            held.disk.hold = False
            held.disk.complete()
            self.servers.turn()
            self.assertEqual([reply[2] for reply in client.receive()], [0])
            self.same(self.one, self.three)
            for member in (self.one, self.three):
                self.close(member)

    def test_zxids_come_to_their_end(self) -> None:
        """A leader whose epoch has no zxids left leaves, and the next epoch goes on (ZOOKEEPER-1277)."""
        leader = self.servers.add(2, testingonly_initial_zxid=0xFFFFFFF9)
        self.lead(leader, self.one)
        client = leader.world.client()
        for number in range(10):
            client.put(ops.CREATE, proto.CreateRequest(b"/%d" % number, b"", proto.OPEN_ACL, 0))
        self.servers.turn()
        self.assertIsInstance(leader.ended[0], Leave)
        for member in (leader, self.one):
            self.close(member)
        self.assertEqual(leader.core.last_zxid, 0x1FFFFFFFE)
        self.lead(self.one, leader)
        self.one.world.client().create(b"/next")
        self.assertEqual(self.one.core.last_zxid, 0x200000002)
        self.same(self.one, leader)


class SyncTests(DriverCase):
    """How a server that was away is brought up."""

    def history(self, count: int = 10) -> None:
        """Let three servers agree on something, then stop all of them."""
        self.lead(self.three, self.one, self.two)
        self.write(self.three, count)
        for member in (self.three, self.one, self.two):
            self.close(member)
        self.servers.turn()

    def write(self, member: Member, count: int, prefix: bytes = b"n") -> None:
        client = member.world.client()
        for number in range(count):
            client.create(b"/" + prefix + b"%d" % number, b"x" * 50)
        client.drop()

    def late(self, member: Member, driver: LeaderDriver) -> tuple[Cable, Cable]:
        ends = self.servers.connect(member, driver)
        self.servers.turn()
        self.assertEqual(member.served[-1:], ["follower"], member.ended)
        return ends

    def kinds(self, cable: Cable) -> list[int]:
        """Return the types of the packets of a synchronization without an image."""
        data = b"".join(cable.written)
        found, offset = [], 0
        while (read := quorum.read_packet(data, offset)) is not None:
            packet, offset = read
            found.append(packet.type)
            if packet.type == quorum.UPTODATE:
                break
        return found

    def test_diff(self) -> None:
        """From the leader's memory."""
        self.history()
        driver = self.lead(self.three, self.one)
        self.write(self.one, 3, b"later")
        ends = self.late(self.two, driver)
        self.assertIn(quorum.DIFF, self.kinds(ends[1]))
        self.same(self.one, self.two, self.three)
        self.assertEqual(self.restarted(self.two).tree(), self.one.tree())

    def test_diff_from_the_log(self) -> None:
        """From the leader's disk, when memory does not reach so far back."""
        self.history()
        self.patch(Member, "limits", lambda member: Limits(tick=2.0, snapshot_size_factor=0))
        driver = self.lead(self.three, self.one)
        self.write(self.one, 20, b"later")
        committed = self.three.storage.committed
        while len(committed) > 3:
            committed.popleft()
        ends = self.late(self.two, driver)
        kinds = self.kinds(ends[1])
        self.assertIn(quorum.DIFF, kinds)
        self.assertEqual(kinds.count(quorum.PROPOSAL), 21)
        self.same(self.one, self.two, self.three)

    def test_damaged_log(self) -> None:
        """A log that cannot be read is no reason not to help: an image has everything."""
        self.history()
        self.patch(Member, "limits", lambda member: Limits(tick=2.0, snapshot_size_factor=0))
        driver = self.lead(self.three, self.one)
        self.write(self.one, 20, b"later")
        self.three.storage.committed.clear()
        for name in self.three.disk.names():
            if name.startswith("log."):
                self.three.disk.files[name] = b"not a log at all"
        self.late(self.two, driver)
        self.same(self.one, self.two, self.three)

    def test_trunc(self) -> None:
        """What only one server had goes, from its memory and its disk."""
        self.lead(self.three, self.one, self.two)
        self.write(self.three, 5)
        client = self.three.world.client()
        for cable in self.servers.cables:
            cable.cut = True
        client.put(ops.CREATE, proto.CreateRequest(b"/lost", b"", proto.OPEN_ACL, 0))
        self.servers.turn()
        for member in (self.three, self.one, self.two):
            self.close(member)
        self.assertIn(b"/lost", self.three.core.tree.nodes)
        driver = self.lead(self.two, self.one)
        self.late(self.three, driver)
        self.same(self.one, self.two, self.three)
        self.assertNotIn(b"/lost", self.three.core.tree.nodes)
        self.assertEqual(self.restarted(self.three).tree(), self.one.tree())

    def test_applied_without_a_log(self) -> None:
        """What a truncation is followed by is applied and not logged: the log ends there, and the snapshot goes on."""
        self.history(3)
        zxid = self.three.core.last_zxid
        cable = self.scripted(self.three, self.three.learner())
        entries = [txns.TxnHeader(1, 1, zxid - 1 + number, 5, ops.ERROR) for number in (1, 2, 3)]
        self.feed(cable, pack_packet(quorum.LEADERINFO, 2 << 32, b"\0\1\0\0"), pack_bare(quorum.TRUNC, zxid - 1))
        for header in entries:
            data = jute.encode(header) + b"\0\0\0\0"
            self.feed(cable, pack_packet(quorum.PROPOSAL, header.zxid, data), pack_bare(quorum.COMMIT, header.zxid))
        self.feed(cable, pack_bare(quorum.NEWLEADER, 2 << 32))
        self.assertEqual(self.three.core.last_zxid, zxid + 2)
        names = self.three.disk.names()
        self.assertEqual(
            [name for name in names if not name.endswith("Epoch")], [f"snapshot.{zxid + 2:x}"], "the log has a hole"
        )
        self.assertEqual(self.restarted(self.three).core.last_zxid, zxid + 2)

    def test_trunc_impossible(self) -> None:
        """A server that cannot go back must not go on: its process ends with 13."""
        driver = self.three.learner()
        cable = self.scripted(self.three, driver)
        self.feed(cable, quorum.pack_packet(quorum.LEADERINFO, 1 << 32, b"\0\1\0\0"))
        self.feed(cable, pack_bare(quorum.TRUNC, 5))
        (ended,) = self.three.ended
        assert isinstance(ended, Exit)
        self.assertEqual(ended.status, 13)

    def scripted(self, member: Member, driver: Any) -> Cable:
        """Return the leader's end of a cable, with nobody there."""
        end, other = Cable(), Cable()
        end.other, other.other = other, end
        end.protocol = QuorumFactory(driver).buildProtocol(None)
        other.protocol = QuorumFactory(_Nobody()).buildProtocol(None)
        other.protocol.makeConnection(other)
        end.protocol.makeConnection(end)
        self.servers.cables += [end]
        driver.follow(end.protocol, member.machine())
        return other

    def feed(self, cable: Cable, *pieces: bytes) -> None:
        for piece in pieces:
            cable.other.protocol.dataReceived(piece)
            self.servers.turn()

    def test_image(self) -> None:
        """A new server gets all of it, and keeps it: snapshot, epoch, nothing of its own from before."""
        self.history(30)
        self.patch(Member, "limits", lambda member: Limits(tick=2.0, force_snapshot_sync=True))
        driver = self.lead(self.three, self.one)
        self.write(self.one, 3, b"later")
        self.late(self.two, driver)
        self.same(self.one, self.two, self.three)
        again = self.restarted(self.two)
        self.assertEqual(again.tree(), self.one.tree())
        self.assertEqual([name for name in self.two.disk.names() if name.startswith("log.")], [])
        self.assertEqual(self.two.epochs["currentEpoch"], 2)

    def test_image_while_the_leader_goes_on(self) -> None:
        """Clients are served while an image goes out, and what they write comes behind it."""
        self.patch(image, "_CHUNK_NODES", 20)
        self.history(600)
        self.patch(Member, "limits", lambda member: Limits(tick=2.0, force_snapshot_sync=True))
        driver = self.lead(self.three, self.one)
        client = self.three.world.client()
        self.servers.connect(self.two, driver)
        self.two.served.clear()
        number = 0
        while not self.two.served:
            client.put(ops.CREATE, proto.CreateRequest(b"/during%d" % number, b"", proto.OPEN_ACL, 0))
            client.put(ops.SET_DATA, proto.SetDataRequest(b"/n%d" % (number * 7 % 600), b"new", -1))
            number += 1
            self.clock.advance(0)
            for cable in self.servers.cables:
                cable.carry()
            self.assertLess(number, 100)
        self.assertGreater(number, 20)
        self.servers.turn()
        self.assertEqual([reply[2] for reply in client.receive()], [0, 0] * number)
        self.same(self.one, self.two, self.three)
        again = self.restarted(self.two)
        self.assertEqual(again.tree(), self.one.tree())
        # The image is of no moment: no digest of it is claimed, and none is missed when its log is replayed.
        self.assertEqual(again.core.metrics.digest_mismatches_count, 0)

    def test_image_in_part(self) -> None:
        """Of an image that did not come to its end nothing is left (ZOOKEEPER-3642)."""
        self.history(600)
        before, zxid = self.two.tree(), self.two.core.last_zxid
        self.patch(Member, "limits", lambda member: Limits(tick=2.0, force_snapshot_sync=True))
        driver = self.lead(self.three, self.one)
        self.write(self.one, 3, b"later")
        self.servers.connect(self.two, driver)
        for _ in range(8):
            self.clock.advance(0)
            for cable in self.servers.cables:
                cable.carry()
        self.assertTrue(self.two.driver.reload)
        self.assertNotEqual(self.two.tree(), before)
        self.close(self.two)
        self.assertEqual((self.two.tree(), self.two.core.last_zxid), (before, zxid))
        self.assertEqual(self.restarted(self.two).tree(), before)

    def test_garbage_for_an_image(self) -> None:
        """An image that makes no sense ends the role, and the database is read again."""
        self.history()
        before = self.two.tree()
        driver = self.two.learner()
        cable = self.scripted(self.two, driver)
        self.feed(cable, pack_packet(quorum.LEADERINFO, 2 << 32, b"\0\1\0\0"))
        self.feed(cable, pack_bare(quorum.SNAP, 1 << 33), b"\0\0\0\0\0\0\0\0\0\0\0\1x")
        self.assertIsInstance(self.two.ended[0], Leave)
        self.close(self.two)
        self.assertEqual(self.two.tree(), before)

    def slow(self, member: Member) -> list[float]:
        """Let the disk of a server be slow with whole files; what is returned says how slow."""
        seconds = [0.0]
        member.disk.clock = self.clock
        member.disk.file_latency = lambda: seconds[0]
        return seconds

    def test_snapshot_under_way(self) -> None:
        """A snapshot that is being written of a tree that an image replaces is given up."""
        seconds = self.slow(self.two)
        self.history(30)
        seconds[0] = 5.0
        writing = self.two.snapshots.begin()
        self.clock.advance(0)
        self.assertTrue(self.two.snapshots.running)
        seconds[0] = 0.0
        self.patch(Member, "limits", lambda member: Limits(tick=2.0, force_snapshot_sync=True))
        driver = self.lead(self.three, self.one)
        self.write(self.one, 1, b"later")
        self.servers.connect(self.two, driver)
        self.servers.turn()
        self.failureResultOf(writing)
        self.assertEqual(self.two.served[-1:], ["follower"])
        self.same(self.one, self.two, self.three)
        self.servers.advance(6)

    def test_ended_while_the_image_is_written(self) -> None:
        """A role is not over before the snapshot of an image is: the next one has no need of another image."""
        seconds = self.slow(self.two)
        self.history(30)
        self.patch(Member, "limits", lambda member: Limits(tick=2.0, force_snapshot_sync=True))
        driver = self.lead(self.three, self.one)
        self.write(self.one, 1, b"later")
        self.servers.connect(self.two, driver)
        seconds[0] = 0.0
        while not self.two.snapshots.running:
            self.clock.advance(0)
            for cable in self.servers.cables:
                cable.carry()
            seconds[0] = 5.0 if self.two.driver.reload else 0.0
        closing = self.two.close()
        self.servers.turn()
        self.assertNoResult(closing)
        self.servers.advance(6)
        self.successResultOf(closing)
        self.same(self.one, self.two)
        self.assertEqual(self.restarted(self.two).tree(), self.one.tree())

    def test_snapshot_that_comes_late(self) -> None:
        """A snapshot that was about to be complete when its history was truncated does not come back."""
        self.lead(self.three, self.one, self.two)
        self.write(self.three, 5)
        client = self.three.world.client()
        for cable in self.servers.cables:
            cable.cut = True
        client.put(ops.CREATE, proto.CreateRequest(b"/lost", b"", proto.OPEN_ACL, 0))
        self.servers.turn()
        for member in (self.three, self.one, self.two):
            self.close(member)
        seconds = self.slow(self.three)
        seconds[0] = 5.0
        writing = self.three.snapshots.begin()
        self.clock.advance(0)
        seconds[0] = 0.0
        driver = self.lead(self.two, self.one)
        self.servers.connect(self.three, driver)
        self.servers.turn()
        self.failureResultOf(writing)
        self.servers.advance(6)
        self.assertEqual(self.three.served[-1:], ["follower"])
        self.same(self.one, self.two, self.three)
        self.assertNotIn(b"/lost", self.restarted(self.three).core.tree.nodes)

    def test_image_takes_the_place_of_everything(self) -> None:
        """Of what was in memory before, nothing is left: no session, no window, not even the configuration node."""
        self.history(5)
        self.patch(Member, "limits", lambda member: Limits(tick=2.0, force_snapshot_sync=True))
        self.three.core.put_config(Ensemble.parse("server.9=nine:1:2"))
        self.two.core.timeouts[77] = 5000
        driver = self.lead(self.three, self.one)
        zxid = self.three.core.last_zxid
        self.late(self.two, driver)
        self.assertEqual(self.two.core.timeouts, self.three.core.timeouts)
        self.assertEqual(self.two.core.tree.nodes[b"/zookeeper/config"].data, THREE.text.encode())
        self.assertEqual([each for each, _ in self.two.storage.committed if each <= zxid], [])
        self.write(self.one, 2, b"later")
        reads: list[str] = []
        self.patch(self.two.storage, "restore", reads.append)
        self.close(self.two)
        self.assertEqual((self.two.tree(), reads), (self.three.tree(), []))

    def test_trunc_to_what_nobody_logged(self) -> None:
        """The last zxid is what the leader says, whether anything bears it or not."""
        self.history(3)
        cable = self.scripted(self.three, self.three.learner())
        self.feed(cable, pack_packet(quorum.LEADERINFO, 2 << 32, b"\0\1\0\0"), pack_bare(quorum.TRUNC, 1 << 32))
        self.assertEqual((self.three.core.last_zxid, self.three.tree().get(b"/n0")), (1 << 32, None))

    def test_slow_image(self) -> None:
        """However long an image takes, a learner that takes it is not given up."""
        self.patch(image, "_CHUNK_NODES", 20)
        self.history(300)
        self.patch(Member, "limits", lambda member: Limits(tick=2.0, init_limit=2, force_snapshot_sync=True))
        driver = self.lead(self.three, self.one)
        self.two.ended.clear()
        follower, leader = self.servers.connect(self.two, driver)
        for _ in range(60):
            self.clock.advance(1)
            for cable in self.servers.cables[:-2]:
                while cable.carry():
                    self.clock.advance(0)
            for cable in (follower, leader):
                cable.carry()
        self.servers.turn()
        self.assertEqual((self.two.served[-1:], self.two.ended), (["follower"], []))
        self.same(self.one, self.two, self.three)

    def test_gone_before_it_began(self) -> None:
        """A connection that was lost before the machine was made ends the role all the same."""
        driver = self.three.learner()
        end, other = Cable(), Cable()
        end.other, other.other = other, end
        end.protocol = QuorumFactory(driver).buildProtocol(None)
        end.protocol.makeConnection(end)
        end.protocol.connectionLost(Failure(ConnectionDone()))
        driver.follow(end.protocol, self.three.machine())
        self.assertIsInstance(self.three.ended[0], Leave)


class _Nobody:
    """Hears everything and says nothing."""

    def connected(self, connection: object) -> None: ...

    def received(self, connection: object, packets: object) -> None: ...

    def read(self, connection: object) -> None: ...

    def lost(self, connection: object, reason: str) -> None: ...


class FailureTests(DriverCase):
    """What goes wrong."""

    def test_disk_of_a_follower(self) -> None:
        """It acknowledges nothing that is not on its disk, stops for good, and the others go on."""
        self.lead(self.three, self.one, self.two)
        end = self.servers.cables[0]
        client = self.three.world.client()
        written = len(end.written)
        self.one.disk.fail_flush()
        client.create(b"/a")
        self.assertEqual(len(end.written), written)
        self.assertEqual([type(error) for error in self.one.world.failures], [StoreError])
        self.assertFalse(self.one.core.serving)
        client.create(b"/b")
        self.assertEqual(len(end.written), written)
        self.same(self.two, self.three)
        self.assertEqual(len(self.three.driver.machine.learners()), 2)
        self.one.driver.silence()
        self.servers.turn()
        self.assertEqual(len(self.three.driver.machine.learners()), 1)

    def test_disk_of_the_leader(self) -> None:
        """It stops for good as well, and says nothing any more."""
        self.lead(self.three, self.one, self.two)
        client = self.three.world.client()
        self.three.disk.fail_flush()
        client.put(ops.CREATE, proto.CreateRequest(b"/a", b"", proto.OPEN_ACL, 0))
        self.clock.advance(0)
        self.clock.advance(0)
        self.assertEqual([type(error) for error in self.three.world.failures], [StoreError])
        self.three.driver.silence()
        written = [len(cable.written) for cable in self.servers.cables]
        self.servers.turn()
        self.assertEqual([len(cable.written) for cable in self.servers.cables][1::2], written[1::2])
        self.assertTrue(all(isinstance(ended, Leave) for each in (self.one, self.two) for ended in each.ended))
        self.assertTrue(client.closed)

    def test_epoch_cannot_be_written(self) -> None:
        """A promise that cannot be kept is not made; the role ends, and may be tried again."""
        self.one.disk.capacity = 0
        driver = self.three.lead()
        self.servers.connect(self.one, driver)
        self.servers.turn()
        self.assertIsInstance(self.one.ended[0], Leave)
        self.assertEqual(self.one.epochs, {"acceptedEpoch": 0, "currentEpoch": 0})
        self.assertNotIn(quorum.ACKEPOCH.to_bytes(4, "big"), b"".join(self.servers.cables[0].written)[36:])
        self.close(self.one)
        self.one.disk.capacity = None
        self.servers.connect(self.one, driver)
        self.servers.turn()
        self.assertEqual(self.one.served, ["follower"])

    def test_epoch_on_its_way(self) -> None:
        """A role is not over before its promise is on the disk: the next one has to know of it."""
        written: Deferred[None] = Deferred()
        self.patch(self.one.storage, "write_epoch", lambda name, epoch: written)
        driver = self.three.lead()
        self.servers.connect(self.one, driver)
        self.servers.turn()
        closing = self.one.close()
        self.servers.turn()
        self.assertNoResult(closing)
        written.callback(None)
        self.successResultOf(closing)
        self.assertEqual(self.one.epochs["acceptedEpoch"], 1)

    def test_flush_on_its_way(self) -> None:
        """Nor is it over before its log is."""
        self.lead(self.three, self.one)
        client = self.three.world.client()
        self.one.disk.hold = True
        client.put(ops.CREATE, proto.CreateRequest(b"/a", b"", proto.OPEN_ACL, 0))
        self.servers.turn()
        closing = self.one.close()
        self.servers.turn()
        self.assertNoResult(closing)
        self.one.disk.hold = False
        self.one.disk.complete()
        self.successResultOf(closing)
        self.assertIn(b"/a", self.one.core.tree.nodes)
        self.assertEqual(self.restarted(self.one).tree(), self.one.tree())

    def test_mistake_of_ours(self) -> None:
        """An effect that cannot be performed ends the server: what comes next would build upon it."""
        self.lead(self.three, self.one)

        def broken(proposal: object, request: object) -> None:
            raise KeyError("oops")

        self.patch(self.one.driver.role.core, "apply", broken)
        client = self.three.world.client()
        client.put(ops.CREATE, proto.CreateRequest(b"/a", b"", proto.OPEN_ACL, 0))
        self.servers.turn()
        self.assertEqual([type(error) for error in self.one.world.failures], [KeyError])
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_leader_is_gone(self) -> None:
        """Followers leave, and their clients with them."""
        self.lead(self.three, self.one, self.two)
        clients = [member.world.client() for member in (self.one, self.two, self.three)]
        closing = self.three.close()
        # Who closes them may wait no longer than it wants for somebody to read the rest.
        connections = self.successResultOf(closing)
        self.assertEqual([connection.closed for connection in connections], [True, True])
        for connection in connections:
            connection.abort()
        self.servers.turn()
        for member in (self.one, self.two):
            self.assertIsInstance(member.ended[0], Leave)
            self.close(member)
        self.servers.turn()
        self.assertTrue(all(client.closed for client in clients))

    def test_noise(self) -> None:
        """Whoever sends garbage loses its connection, and nobody else anything."""
        driver = self.lead(self.three, self.one, self.two)
        entropy = Random(5)
        for _ in range(20):
            cable, other = Cable(), Cable()
            cable.other, other.other = other, cable
            cable.protocol = QuorumFactory(driver).buildProtocol(None)
            other.protocol = QuorumFactory(_Nobody()).buildProtocol(None)
            other.protocol.makeConnection(other)
            cable.protocol.makeConnection(cable)
            self.servers.cables += [cable]
            cable.protocol.dataReceived(entropy.randbytes(200))
            self.servers.turn()
            self.assertTrue(cable.over)
        client = self.one.world.client()
        client.create(b"/still")
        self.same(self.one, self.two, self.three)
        self.assertEqual(self.flushLoggedErrors(), [])


class TimeTests(DriverCase):
    """One delayed call, and what it is for."""

    def test_silent_leader(self) -> None:
        """A follower gives up a leader that says nothing, after syncLimit and not before."""
        self.lead(self.three, self.one)
        self.servers.advance(30)
        self.assertEqual(self.one.ended, [])
        for cable in self.servers.cables:
            cable.cut = True
        self.servers.advance(9)
        self.assertEqual(self.one.ended, [])
        self.servers.advance(2)
        self.assertIsInstance(self.one.ended[0], Leave)

    def test_leader_without_followers(self) -> None:
        """A leader whose quorum is gone leaves."""
        self.lead(self.three, self.one)
        for cable in self.servers.cables:
            cable.cut = True
        self.servers.advance(25)
        self.assertIsInstance(self.three.ended[0], Leave)

    def test_stall(self) -> None:
        """A process that stood still reads first what others have sent, before it finds that they were silent."""
        self.lead(self.three, self.one)
        self.servers.cables[1].write(pack_bare(quorum.PING, 0))
        self.clock.advance(30)
        self.servers.cables[1].carry()
        self.clock.advance(0.01)
        self.assertEqual(self.one.ended, [])

    def test_earlier_deadline(self) -> None:
        """What becomes due earlier than what was waited for is done in time."""
        driver = self.lead(self.three, self.one)
        ticks: list[float] = []
        due = [100.0]
        machine = SimpleNamespace(
            tick=ticks.append,
            deadline=lambda: None if ticks else due[0],
            take=list,
            disconnected=lambda channel, now: None,
        )
        self.patch(driver, "machine", machine)
        self.clock.pump([0.5] * 4)
        for due[0] in (50.0, 5.0, 30.0, 4.0):
            driver.perform()
        self.clock.pump([0.5] * 3)
        self.assertEqual(ticks, [])
        self.clock.pump([0.5])
        self.assertEqual(ticks, [4.0])

    def test_few_calls(self) -> None:
        """However much is said, one call waits."""
        self.lead(self.three, self.one, self.two)
        client = self.one.world.client()
        for number in range(20):
            client.create(b"/%d" % number)
        self.assertLessEqual(len(self.clock.getDelayedCalls()), 3)
