"""
Leaders, learners and disks in any order of events: what must hold always, holds after each of them.

The election is played by chance, mostly well and sometimes badly: Zab itself has to see to it that a leader without
the history of a quorum never comes to lead.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.zab.world import Entries, Link, Server, World
from zktwisted.wire import quorum
from zktwisted.wire.ops import show_zxid, zxid_counter, zxid_epoch
from zktwisted.wire.quorum import QuorumPacket, read_packet
from zktwisted.zab import sync
from zktwisted.zab.effects import Apply, Committed, Effect, Exit, Lead, Limits, Log, Serve
from zktwisted.zab.joining import Joining
from zktwisted.zab.leader import Leader, Proposal
from zktwisted.zab.learner import Learner
from zktwisted.zab.links import Link as ServersLink
from zktwisted.zab.sync import Plan

RUNS = 150
STEPS = 350
#: Within how many worlds a mistake has to be found out.
SEEDS_MAX = 300


class Watched(Server):
    """A server whose every word is checked."""

    world: Chance

    def one(self, effect: Effect) -> None:
        super().one(effect)
        self.told.clear()
        if isinstance(effect, Exit):
            raise AssertionError(f"{self.sid} exits: {effect.reason}")
        if isinstance(effect, Lead):
            leader = self.world.leaders.setdefault(effect.epoch, self.sid)
            assert leader == self.sid, f"{leader} and {self.sid} lead epoch {effect.epoch}"
        if isinstance(effect, Lead | Committed | Serve) or (isinstance(effect, Apply) and self.serving):
            self.world.is_history(self, by_quorum=isinstance(effect, Lead | Committed))

    def write(self, channel: int, data: bytes) -> None:
        offset = 0
        while offset < len(data):
            found = read_packet(data, offset)
            assert found is not None
            packet, offset = found
            if packet.type == quorum.ACK and zxid_counter(packet.zxid) == 0:
                assert self.current_epoch == zxid_epoch(packet.zxid), "NEWLEADER acknowledged before currentEpoch"
            elif packet.type == quorum.ACK:
                durable = [zxid for zxid, _ in self.log[: self.durable]]
                assert packet.zxid in durable, f"{show_zxid(packet.zxid)} acknowledged before it is on disk"
            elif packet.type == quorum.LEADERINFO:
                assert self.accepted_epoch == zxid_epoch(packet.zxid), "LEADERINFO before acceptedEpoch"
            elif packet.type == quorum.ACKEPOCH:
                machine = self.machine
                assert machine is None or self.accepted_epoch == machine.epoch, "ACKEPOCH before acceptedEpoch"
        super().write(channel, data)


class Chance(World):
    """A world in which things happen by chance."""

    def __init__(self, seed: int, restless: bool = False) -> None:
        """
        @param restless: lose connections often, so that many leaders begin and few get to lead.
        """
        self.random = Random(seed)
        self.restless = restless
        voters = self.random.choice(((1, 2, 3), (1, 2, 3), (1, 2, 3, 4, 5), (1,)))
        observers = self.random.choice(((), (9,)))
        factor = self.random.choice((-1.0, 0.33))
        forced = self.random.random() < 0.05
        limits = Limits(1.0, 10, 5, snapshot_size_factor=factor, force_snapshot_sync=forced)
        super().__init__(*voters, observers=observers, limits=limits)
        self.servers = {sid: Watched(sid, self, observer=sid in observers) for sid in (*voters, *observers)}
        self.window = self.random.choice((0, 1, 3, 500))
        self.voters = voters
        #: What has been committed, ever.
        self.history: Entries = []
        self.leaders: dict[int, int] = {}
        self.kinds: dict[int, int] = {}
        self.steps = 0

    # -- what must hold

    def is_history(self, server: Server, by_quorum: bool) -> None:
        """What a server takes for committed is what others have taken for it, and a quorum has it on disk."""
        common = min(len(server.tree), len(self.history))
        assert server.tree[:common] == self.history[:common], f"{server.sid} has another history"
        if len(server.tree) <= len(self.history):
            return
        assert by_quorum, f"{server.sid} knows of a commit before its leader"
        self.history = list(server.tree)
        holders = [each for each in self.voters if holds(self.servers[each], self.history)]
        assert len(holders) > len(self.voters) // 2, f"committed on the disks of {holders} only"

    def check(self) -> None:
        """What holds of each server at any time."""
        for server in self.servers.values():
            assert server.accepted_epoch >= server.current_epoch
            for one, other in zip(server.log, server.log[1:], strict=False):
                dense = other[0] == one[0] + 1 or zxid_epoch(other[0]) > zxid_epoch(one[0])
                assert dense, f"the log of {server.sid} goes from {show_zxid(one[0])} to {show_zxid(other[0])}"
            if server.log and server.serving:
                assert server.current_epoch >= zxid_epoch(server.log[-1][0]), f"{server.sid} logs another epoch"

    # -- what may happen

    def play(self, steps: int) -> None:
        """Let things happen, and come to an end."""
        while self.steps < steps:
            self.step()
        self.heal()

    def step(self) -> None:
        self.steps += 1
        weights = {
            self.arrival: 50,
            self.disk_work: 30,
            self.proposal: 10,
            self.time: 2,
            self.loss: 8 if self.restless else 0.4,
            self.crash: 0.6,
            self.election: 15 if self.restless else 3,
            self.joining: 8,
        }
        event: Callable[[], None] = self.random.choices(list(weights), list(weights.values()))[0]
        event()
        for server in self.servers.values():
            if server.machine is not None and server.machine.ended:
                server.leave()
        self.check()

    def links(self) -> list[Link]:
        return [server.link for server in self.servers.values() if server.link is not None]

    def arrival(self) -> None:
        ways = [(link, up) for link in self.links() for up in (True, False) if (link.up if up else link.down)]
        if ways:
            link, up = self.random.choice(ways)
            if up:
                self.deliver_up(link)
            else:
                packet = self.deliver_down(link)
                self.kinds[packet.type] = self.kinds.get(packet.type, 0) + 1

    def disk_work(self) -> None:
        busy = [server for server in self.servers.values() if server.wanted]
        if busy:
            # The log keeps its order; other files are done when they are.
            server = self.random.choice(busy)
            first = {isinstance(effect, Log): index for index, effect in reversed(list(enumerate(server.wanted)))}
            server.done(index=self.random.choice(sorted(first.values())))

    def proposal(self) -> None:
        leading = [sid for sid, server in self.servers.items() if isinstance(server.machine, Leader) and server.serving]
        if leading:
            self.propose(self.random.choice(leading))

    def time(self) -> None:
        self.pass_time(self.random.choice((0.1, 0.5, 0.5, 1.0, 6.0)))

    def loss(self) -> None:
        if self.links():
            self.cut(self.random.choice(self.links()))

    def crash(self) -> None:
        server = self.random.choice(list(self.servers.values()))
        server.crash(self.random.randint(0, 3))

    def election(self) -> None:
        looking = [server for server in self.servers.values() if server.machine is None and not server.observer]
        if len(looking) > len(self.voters) // 2:
            best = max(looking, key=lambda server: (server.current_epoch, server.last_logged(), server.sid))
            (self.random.choice(looking) if self.random.random() < 0.3 else best).lead()

    def joining(self) -> None:
        looking = [server for server in self.servers.values() if server.machine is None]
        leading = [server for server in self.servers.values() if isinstance(server.machine, Leader)]
        if looking and leading:
            self.random.choice(looking).follow(self.random.choice(leading))

    # -- the end

    def heal(self) -> None:
        """Let the best lead, and everybody follow: then all have one history, and it can go on."""
        for server in self.servers.values():
            if server.machine is not None:
                server.leave()
        voters = [self.servers[sid] for sid in self.voters]
        leader = max(voters, key=lambda server: (server.current_epoch, server.last_logged(), server.sid))
        leader.lead()
        others = [server for server in self.servers.values() if server is not leader]
        # A server that has promised more than the leader's epoch stays away for as long as that leader leads: the
        # highest promise comes first.
        for server in sorted(others, key=lambda server: -server.accepted_epoch):
            server.follow(leader)
            assert server.link is not None
            self.deliver_up(server.link)
        self.settle()
        for server in others:
            # Who was ahead of a leader that had no quorum yet comes again.
            if server.machine is not None and server.machine.ended:
                server.leave()
                server.follow(leader)
        self.settle()
        self.propose(leader.sid, "the last one")
        self.settle()
        for server in self.servers.values():
            assert server.serving, f"{server.sid} does not serve"
            assert server.tree == self.history == server.log, f"{server.sid} has something else in the end"
        assert self.history[-1][1].endswith(b"the last one")


def holds(server: Server, history: Entries) -> bool:
    """Whether a server has a history on disk, all of it."""
    return server.log[: min(server.durable, len(history))] == history


class AnyOrderTests(SynchronousTestCase):
    """Many worlds, each with its own chance."""

    def test_safe_and_sound(self) -> None:
        """Whatever happens in whatever order, nothing that must hold is broken; and all comes to a good end."""
        kinds: dict[int, int] = {}
        committed = epochs = 0
        for seed in range(RUNS):
            world = Chance(seed, restless=seed % 3 == 0)
            try:
                world.play(STEPS)
            except AssertionError as e:
                raise AssertionError(f"seed {seed}, step {world.steps}: {e}") from e
            for kind, count in world.kinds.items():
                kinds[kind] = kinds.get(kind, 0) + count
            committed += len(world.history)
            epochs += len(world.leaders)
        # Chance has been everywhere.
        for kind in (quorum.DIFF, quorum.TRUNC, quorum.SNAP, quorum.UPTODATE, quorum.COMMIT, quorum.INFORM):
            self.assertGreater(kinds.get(kind, 0), 10, quorum.packet_name(kind))
        self.assertGreater(committed, 5 * RUNS)
        self.assertGreater(epochs, 2 * RUNS)


class BiteTests(SynchronousTestCase):
    """The checks bite: each of these mistakes is found out, by chance, within some of the worlds."""

    def assert_found(self, where: Any, name: str, mistake: Callable[..., Any], restless: bool = False) -> None:
        """With the mistake in the place of the method, a world comes to a bad end."""
        self.patch(where, name, mistake)
        for seed in range(SEEDS_MAX):
            try:
                Chance(seed, restless).play(STEPS)
            except AssertionError:
                return
        self.fail("not found out")

    def test_acknowledged_before_it_is_on_disk(self) -> None:
        """A follower acknowledges what it has only begun to write."""
        accept = Learner._accept

        def mistake(self: Learner, entries: Entries) -> None:
            accept(self, entries)
            self._logged(self._token)

        self.assert_found(Learner, "_accept", mistake)

    def test_less_than_a_quorum(self) -> None:
        """A proposal is committed by half of the voters."""

        def mistake(self: Leader, proposal: Proposal) -> bool:
            return len(proposal.acks) >= max(1, len(self._quorums[0].voters) // 2)

        self.assert_found(Leader, "_quorum_acked", mistake)

    def test_epoch_by_less_than_a_quorum(self) -> None:
        """An epoch is settled by half of the voters."""

        def mistake(self: Leader, sids: dict[int, None]) -> bool:
            voters = self._quorums[0].voters
            return len(voters.intersection(sids)) >= max(1, len(voters) // 2)

        self.assert_found(Joining, "_contains", mistake)

    def test_follower_that_is_ahead(self) -> None:
        """A leader takes no notice of a follower that knows more."""
        promise_of = Joining._promise_of

        def mistake(self: Joining, link: ServersLink, epoch: int, now: float) -> None:
            summary, self._summary = self._summary, (2**31, 0)
            promise_of(self, link, epoch, now)
            self._summary = summary

        self.assert_found(Joining, "_promise_of", mistake)

    def test_promise_counted_twice(self) -> None:
        """A follower that has promised the epoch before, to another leader, promises it again."""
        answer = Learner._answer
        self.assert_found(Learner, "_answer", lambda self, epoch: answer(self, self._current_epoch), True)

    def test_lower_epoch(self) -> None:
        """A follower takes an epoch below the one that it has promised."""
        discover = Learner._discover

        def mistake(self: Learner, packet: QuorumPacket) -> None:
            self._accepted_epoch = min(self._accepted_epoch, zxid_epoch(packet.zxid) - 1)
            discover(self, packet)

        self.assert_found(Learner, "_discover", mistake)

    def test_epoch_before_history(self) -> None:
        """currentEpoch is written while the history of the epoch is still on its way to the disk."""

        def mistake(self: Learner) -> None:
            self.discard = self._snapshot_needed = False
            self._to_log = True
            self._apply_history()
            self._write_epoch()

        self.assert_found(Learner, "_log_history", mistake)

    def test_no_snapshot(self) -> None:
        """An image is acknowledged without a snapshot of it."""
        new_leader = Learner._new_leader

        def mistake(self: Learner, zxid: int) -> None:
            self._snapshot_needed = False
            new_leader(self, zxid)

        self.assert_found(Learner, "_new_leader", mistake)

    def test_uncommitted_taken_for_history(self) -> None:
        """Proposals that are not committed are applied with NEWLEADER."""
        log_history = Learner._log_history

        def mistake(self: Learner) -> None:
            self._committed.extend(zxid for zxid, _ in self._not_logged if zxid not in self._committed)
            log_history(self)

        self.assert_found(Learner, "_log_history", mistake)

    def test_cut_too_late(self) -> None:
        """TRUNC keeps one transaction too many."""
        plan = sync.plan

        def mistake(*args: Any, **more: Any) -> Plan | None:
            found = plan(*args, **more)
            return found._replace(zxid=found.zxid + 1) if found and found.kind == quorum.TRUNC else found

        self.assert_found(sync, "plan", mistake)

    def test_forgotten_on_the_way(self) -> None:
        """Proposals that are on their way are not sent to a follower that comes."""
        self.assert_found(Leader, "_outstanding_after", lambda self, start: [])

    def test_old_acknowledgements(self) -> None:
        """What a follower acknowledged before it came again still counts."""
        self.assert_found(Leader, "_forget_acks", lambda self, sid: None)

    def test_leads_alone(self) -> None:
        """A leader leads as soon as anybody has acknowledged NEWLEADER."""
        synced = Joining._synced

        def mistake(self: Joining, link: ServersLink, now: float) -> None:
            self._new_leader_acks._satisfied = True
            synced(self, link, now)

        self.assert_found(Joining, "_synced", mistake)
