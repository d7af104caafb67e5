"""
A few servers in slow motion: their machines, links that keep the order, disks that finish when they are told to.

Nothing happens by itself.  A test says which packet arrives, which disk is done, who crashes; so any interleaving can
be played, by hand or by chance.  Trees are lists of what was applied; whoever leads is told so by the test.
"""

from __future__ import annotations

from collections import deque
from struct import Struct
from typing import Any

from zktwisted.config.ensemble import Ensemble
from zktwisted.wire import ops, quorum
from zktwisted.wire.ops import make_zxid, zxid_counter, zxid_epoch
from zktwisted.wire.quorum import QuorumPacket, read_packet
from zktwisted.zab.effects import (
    ACCEPTED_EPOCH,
    Apply,
    Broadcast,
    Committed,
    Drop,
    Effect,
    Exit,
    Forwarded,
    Lead,
    Leave,
    Limits,
    LoadImage,
    Log,
    Note,
    Pong,
    ReadLog,
    Revalidate,
    Revalidated,
    Send,
    SendImage,
    Serve,
    Synced,
    TakeSnapshot,
    Touched,
    Truncate,
    WriteEpoch,
)
from zktwisted.zab.leader import Leader
from zktwisted.zab.learner import Learner
from zktwisted.zab.links import Links
from zktwisted.zab.machine import Machine

_header = Struct(">qiqqi")

Entries = list[tuple[int, bytes]]


def ensemble_of(*voters: int, observers: tuple[int, ...] = ()) -> Ensemble:
    """Return an ensemble of these servers."""
    lines = [f"server.{sid}=10.0.0.{sid}:2888:3888" for sid in voters]
    lines += [f"server.{sid}=10.0.0.{sid}:2888:3888:observer" for sid in observers]
    return Ensemble.parse(lines)


def entry_of(zxid: int, word: str = "") -> bytes:
    """Return a transaction with this zxid."""
    return _header.pack(0, 0, zxid, 0, ops.ERROR) + word.encode()


def show(zxid: int) -> str:
    """Show a zxid as C{epoch:counter}."""
    return "-1" if zxid == -1 else f"{zxid_epoch(zxid)}:{zxid_counter(zxid)}"


def parse(text: str) -> int:
    """Read C{epoch:counter}."""
    epoch, _, counter = text.partition(":")
    return -1 if text == "-1" else make_zxid(int(epoch), int(counter))


class Image:
    """An image on its way."""

    def __init__(self, tree: Entries) -> None:
        self.tree = tree


def say(packet: QuorumPacket | Image) -> str:
    """Show a packet in words."""
    if isinstance(packet, Image):
        return "an image"
    kind, zxid, data, _ = packet
    name = quorum.packet_name(kind)
    if kind in (quorum.FOLLOWERINFO, quorum.OBSERVERINFO):
        return f"{name} of {quorum.read_learner_info(data).sid}, epoch {zxid_epoch(zxid)}"
    if kind in (quorum.LEADERINFO, quorum.NEWLEADER):
        return f"{name} epoch {zxid_epoch(zxid)}"
    if kind == quorum.ACKEPOCH:
        return f"{name} {show(zxid)}, epoch {quorum.read_int(data)}"
    if kind in (quorum.UPTODATE, quorum.SYNC):
        return name
    if kind == quorum.PING and data:
        return f"{name} {show(zxid)}, sessions {' '.join(str(each) for each, _ in quorum.read_sessions(data))}"
    if kind == quorum.REQUEST:
        request = quorum.read_request(data)
        return f"{name} {ops.OpCode(request.op).name.lower()} of session {request.session_id}"
    if kind == quorum.REVALIDATE:
        return f"{name} {data.hex() if data else ''}"
    return f"{name} {show(zxid)}"


def words_of(effect: Effect) -> str:
    """Show an effect that is not a packet in words."""
    if isinstance(effect, Log | Apply | Committed):
        return ", ".join(transactions_of(effect))
    if isinstance(effect, WriteEpoch):
        return f"{effect.name} {effect.epoch}"
    if isinstance(effect, LoadImage):
        return f"load the image of {show(effect.zxid)}"
    if isinstance(effect, Truncate):
        return f"truncate to {show(effect.zxid)}"
    if isinstance(effect, TakeSnapshot):
        return "snapshot"
    if isinstance(effect, Lead):
        return f"leads epoch {effect.epoch}"
    if isinstance(effect, Serve):
        return f"serves epoch {effect.epoch}"
    if isinstance(effect, Drop):
        return f"drops a learner, {effect.reason}"
    if isinstance(effect, Leave):
        return f"leaves, {effect.reason}"
    if isinstance(effect, Exit):
        return f"exits with {effect.status}, {effect.reason}"
    if isinstance(effect, Note):
        return f"notes, {effect.text}"
    if isinstance(effect, ReadLog):
        return f"reads the log from {show(effect.zxid)} for {effect.channel}"
    if isinstance(effect, SendImage):
        return f"{effect.channel} < an image"
    if isinstance(effect, Forwarded):
        op = ops.OpCode(effect.op).name.lower() if effect.op in set(ops.OpCode) else str(effect.op)
        return f"{effect.channel} forwards {op} of {effect.session_id}"
    if isinstance(effect, Revalidate | Revalidated | Touched):
        return f"{type(effect).__name__.lower()} {' '.join(map(str, effect))}"
    return "answers a sync" if isinstance(effect, Synced) else f"wants a pong {show(effect.zxid)}"  # type: ignore[union-attr]


def transactions_of(effect: Effect) -> list[str]:
    """Show an effect that is about transactions in words, one by one; none, if it is about something else."""
    if isinstance(effect, Committed):
        return [f"commits {show(zxid)}" for zxid in effect.zxids]
    if isinstance(effect, Log | Apply):
        return [f"{'log' if isinstance(effect, Log) else 'applies'} {show(zxid)}" for zxid, _ in effect.entries]
    return []


def hear(machine: Machine) -> list[str]:
    """Return in words what a machine wants done, packet by packet, transaction by transaction."""
    found = []
    for effect in machine.take():
        if isinstance(effect, Send | Broadcast):
            channels = [effect.channel] if isinstance(effect, Send) else effect.channels
            packets, offset = [], 0
            data = effect.data if isinstance(effect, Send) else b"".join(effect.parts)
            while offset < len(data):
                one = read_packet(data, offset)
                assert one is not None, "half a packet"
                packets.append(one[0])
                offset = one[1]
            found += [f"{channel} < {say(packet)}" for channel in channels for packet in packets]
        else:
            found += transactions_of(effect) or [words_of(effect)]
    return found


class Link:
    """A connection of a learner to its leader: what is on its way, each way in order."""

    def __init__(self, channel: int, learner: Server, leader: Server) -> None:
        self.channel = channel
        self.learner = learner
        self.leader = leader
        self.up: deque[QuorumPacket] = deque()
        self.down: deque[QuorumPacket | Image] = deque()
        self.open = True


class Server:
    """
    One server: what is on its disk, what is in its memory, and the machine of its role.

    @ivar log: what is in the log; C{durable} of it survives a crash.
    @ivar tree: what has been applied.
    @ivar wanted: effects that were not performed at once because they take time, with their tokens.
    @ivar told: all other effects, for tests that want to see them; they forget what they have seen.
    """

    def __init__(self, sid: int, world: World, observer: bool = False) -> None:
        self.sid = sid
        self.world = world
        self.observer = observer
        self.accepted_epoch = 0
        self.current_epoch = 0
        self.log: Entries = []
        self.durable = 0
        self.tree: Entries = []
        self.machine: Leader | Learner | None = None
        self.link: Link | None = None
        self.links: dict[int, Link] = {}
        self.wanted: deque[WriteEpoch | Log | LoadImage | Truncate | TakeSnapshot] = deque()
        self.told: list[Effect] = []
        #: The zxid that the database was set to, where no transaction says it: begin of an epoch, image, truncation.
        self.begin = 0
        self.snapshot_zxid = 0
        self.serving = False
        self.exit_status: int | None = None
        self.disk_full = False
        self.touched: list[tuple[int, int]] = []

    # -- the history that the leader machine asks for

    def last_zxid(self) -> int:
        last = self.tree[-1][0] if self.tree else 0
        return max(last, self.begin)

    def window(self) -> Entries:
        return self.tree[-self.world.window :] if self.world.window else []

    def newest_snapshot_size(self) -> int:
        return 0

    # -- roles

    def last_logged(self) -> int:
        return self.last_zxid()

    def lead(self) -> Leader:
        machine = Leader(
            self.sid,
            self.world.ensemble,
            self.accepted_epoch,
            self.current_epoch,
            self.last_logged(),
            self,
            self.world.limits,
            self.world.now,
        )
        self.machine = machine
        self.perform()
        return machine

    def follow(self, leader: Server) -> Learner:
        machine = Learner(
            self.sid,
            self.world.ensemble,
            self.accepted_epoch,
            self.current_epoch,
            self.last_logged(),
            self.observer,
            self.world.limits,
            self.world.now,
        )
        self.machine = machine
        self.link = Link(self.world.next_channel(), self, leader)
        leader.links[self.link.channel] = self.link
        assert isinstance(leader.machine, Leader)
        leader.machine.connected(self.link.channel, self.world.now)
        self.perform()
        return machine

    def leave(self) -> None:
        """End the role, as its driver does: the log is flushed; what is in it is part of the history."""
        machine = self.machine
        if machine is None:
            return
        while self.wanted and isinstance(self.wanted[0], Log):
            self.done(tell=False)
        self.wanted.clear()
        self.durable = len(self.log)
        if isinstance(machine, Learner) and machine.discard:
            self.tree = list(self.log)
            self.begin = self.snapshot_zxid
        else:
            self.tree += machine.pending
        self.end()

    def crash(self, survives: int = 0) -> None:
        """Lose what is not on disk; C{survives} of the log's unflushed records are there all the same."""
        self.log = self.log[: self.durable + survives]
        self.durable = len(self.log)
        self.tree = list(self.log)
        self.begin = self.snapshot_zxid
        self.wanted.clear()
        self.end()

    def end(self) -> None:
        self.machine = None
        self.serving = False
        for link in [*self.links.values(), *([self.link] if self.link else [])]:
            self.world.cut(link)
        self.link = None

    # -- effects

    def perform(self) -> None:
        """Do what the machine wants and takes no time."""
        while self.machine is not None and (effects := self.machine.take()):
            for effect in effects:
                self.one(effect)

    def one(self, effect: Effect) -> None:
        machine = self.machine
        if isinstance(effect, Send):
            self.write(effect.channel, effect.data)
        elif isinstance(effect, Broadcast):
            for channel in effect.channels:
                self.write(channel, b"".join(effect.parts))
        elif isinstance(effect, WriteEpoch | LoadImage | Truncate | TakeSnapshot):
            self.wanted.append(effect)
        elif isinstance(effect, Log):
            self.log += effect.entries
            self.wanted.append(effect)
        elif isinstance(effect, Apply):
            self.tree += effect.entries
            self.told.append(effect)
        elif isinstance(effect, Committed):
            for committed in effect.zxids:
                entry = next(entry for zxid, entry in reversed(self.log) if zxid == committed)
                self.tree.append((committed, entry))
            self.told.append(effect)
        elif isinstance(effect, Lead):
            self.begin = make_zxid(effect.epoch, 0)
            self.serving = True
            self.told.append(effect)
        elif isinstance(effect, SendImage):
            link = self.links.get(effect.channel)
            if link is not None:
                link.down.append(QuorumPacket(quorum.SNAP, self.last_zxid()))
                link.down.append(Image(list(self.tree)))
                assert isinstance(machine, Links)
                machine.image_sent(effect.channel, self.world.now)
        elif isinstance(effect, ReadLog):
            assert isinstance(machine, Leader)
            machine.log_read(effect.channel, list(self.log), self.world.now)
        elif isinstance(effect, Drop):
            self.told.append(effect)
            self.world.cut(self.links[effect.channel])
        elif isinstance(effect, Pong):
            assert isinstance(machine, Learner)
            machine.pong(effect.zxid, self.touched, self.world.now)
            self.touched = []
        elif isinstance(effect, Exit):
            self.exit_status = effect.status
            self.told.append(effect)
        else:
            if isinstance(effect, Serve):
                self.serving = True
            self.told.append(effect)

    def write(self, channel: int, data: bytes) -> None:
        link = self.link if channel == 0 else self.links.get(channel)
        if link is None:
            return
        queue: deque[Any] = link.up if link is self.link else link.down
        offset = 0
        while offset < len(data):
            found = read_packet(data, offset)
            assert found is not None, "half a packet"
            queue.append(found[0])
            offset = found[1]

    def done(self, tell: bool = True, index: int = 0) -> Effect:
        """Let the disk finish the oldest thing that it was asked for, or another one."""
        effect = self.wanted[index]
        del self.wanted[index]
        if self.disk_full and isinstance(effect, WriteEpoch | TakeSnapshot):
            assert self.machine is not None
            self.machine.failed(effect.token, "no space left on the disk", self.world.now)
            self.perform()
            return effect
        if isinstance(effect, WriteEpoch):
            if effect.name == ACCEPTED_EPOCH:
                assert effect.epoch >= self.accepted_epoch
                self.accepted_epoch = effect.epoch
            else:
                assert effect.epoch >= self.current_epoch
                self.current_epoch = effect.epoch
        elif isinstance(effect, Log):
            self.durable += len(effect.entries)
        elif isinstance(effect, TakeSnapshot):
            self.log = list(self.tree)
            self.durable = len(self.log)
            self.snapshot_zxid = self.last_zxid()
        elif isinstance(effect, Truncate):
            self.log = [each for each in self.log if each[0] <= effect.zxid]
            self.durable = len(self.log)
            self.tree = list(self.log)
            self.begin = effect.zxid
            self.snapshot_zxid = min(self.snapshot_zxid, effect.zxid)
        if tell and self.machine is not None:
            self.machine.persisted(effect.token, self.world.now)
            self.perform()
        return effect

    def image_arrives(self, image: Image) -> None:
        """Load an image: that is what the oldest thing wanted is about."""
        effect = self.wanted[-1]
        assert isinstance(effect, LoadImage), self.wanted
        self.tree = list(image.tree)
        self.begin = effect.zxid


class World:
    """Servers, time, and the connections between them."""

    def __init__(self, *voters: int, observers: tuple[int, ...] = (), limits: Limits | None = None) -> None:
        self.ensemble = ensemble_of(*voters, observers=observers)
        self.limits = limits or Limits(tick=1.0, init_limit=10, sync_limit=5)
        self.now = 100.0
        self.window = 500
        self.servers = {sid: Server(sid, self) for sid in voters}
        self.servers.update({sid: Server(sid, self, observer=True) for sid in observers})
        self._channels = 0

    def next_channel(self) -> int:
        self._channels += 1
        return self._channels

    def cut(self, link: Link) -> None:
        """Break a connection: what was on its way is lost; both ends will hear of it."""
        if not link.open:
            return
        link.open = False
        link.up.clear()
        link.down.clear()
        link.leader.links.pop(link.channel, None)
        if link.leader.machine is not None:
            assert isinstance(link.leader.machine, Leader)
            link.leader.machine.disconnected(link.channel, self.now)
            link.leader.perform()
        if link.learner.link is link:
            link.learner.link = None
            if isinstance(link.learner.machine, Learner):
                link.learner.machine.disconnected("the connection is lost", self.now)
                link.learner.perform()

    def deliver_up(self, link: Link) -> QuorumPacket:
        """Let the leader hear the next packet of a learner."""
        packet = link.up.popleft()
        assert isinstance(link.leader.machine, Leader)
        link.leader.machine.receive(link.channel, packet, self.now)
        link.leader.perform()
        return packet

    def deliver_down(self, link: Link) -> QuorumPacket:
        """Let a learner hear the next packet of its leader; the image behind a SNAP comes with it."""
        packet = link.down.popleft()
        assert isinstance(packet, QuorumPacket) and isinstance(link.learner.machine, Learner)
        link.learner.machine.receive(packet, self.now)
        link.learner.perform()
        if packet.type == quorum.SNAP and link.open:
            image = link.down.popleft()
            assert isinstance(image, Image)
            link.learner.image_arrives(image)
        return packet

    def propose(self, sid: int, word: str = "") -> int:
        """Let a leader propose a transaction."""
        server = self.servers[sid]
        assert isinstance(server.machine, Leader)
        zxid = server.machine.last_proposed + 1
        server.machine.propose(zxid, entry_of(zxid, word), self.now)
        server.perform()
        return zxid

    def settle(self) -> None:
        """Let everything arrive and every disk finish, until nothing is left to do."""
        busy = True
        while busy:
            busy = False
            for server in self.servers.values():
                while server.wanted:
                    server.done()
                    busy = True
                link = server.link
                if link is None:
                    continue
                while link.open and link.up:
                    self.deliver_up(link)
                    busy = True
                while link.open and link.down:
                    self.deliver_down(link)
                    busy = True

    def pass_time(self, seconds: float) -> None:
        """Let time go by, in steps, as the machines ask for."""
        end = self.now + seconds
        while True:
            deadlines = [
                deadline
                for server in self.servers.values()
                if server.machine is not None and (deadline := server.machine.deadline()) is not None
            ]
            self.now = min([end, *(max(self.now, deadline) for deadline in deadlines)])
            for server in self.servers.values():
                if server.machine is not None:
                    server.machine.tick(self.now)
                    server.perform()
            if self.now >= end:
                return
