"""
A world of machines that hold elections: links that break, servers that crash, and time that is only a number.

A link is what the connections of real servers are: in order both ways, one message waiting for each server, and the
last one said again when the link is back.  After an election the winners do what Zab does as far as it matters here:
a leader that is joined by a quorum begins an epoch and appends to the history of all who have joined; it gives up when
nobody comes.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import combinations
from random import Random

from zktwisted.config import Ensemble
from zktwisted.wire.votes import ServerState, Vote, decode_notification, encode_notification
from zktwisted.zab.election import Concluded, Dial, Election, SendVote
from zktwisted.zab.quorum import Quorum

LOOKING, FOLLOWING, LEADING, OBSERVING = ServerState

#: How long a leader waits for a quorum, and how long a follower knocks at a leader that does not lead, in seconds.
INIT_LIMIT = 3.0
JOIN_LIMIT = 0.6


class Server:
    """
    A server: what it has on disk, and what runs.

    @ivar machine: C{None} while it is crashed.
    @ivar joined: of a leader, who has joined it; it has begun its epoch when C{established}.
    @ivar life: changes with each crash and each election, so that what was planned before does not count.
    """

    def __init__(self, sid: int, history: tuple[int, int]) -> None:
        self.sid = sid
        self.epoch, self.zxid = history
        self.machine: Election | None = None
        self.joined: dict[int, None] = {}
        self.established = False
        self.life = 0

    @property
    def history(self) -> tuple[int, int]:
        return self.epoch, self.zxid

    def settled(self) -> bool:
        return self.machine is not None and self.machine.state is not LOOKING


class Link:
    """What is between two servers."""

    def __init__(self) -> None:
        self.up = self.dialling = self.cut = False
        self.made = 0
        self.arrival: dict[int, float] = {}


class World:
    """
    All of it.

    @ivar won: (time, sid, vote, who elected it) of each leader.
    @ivar committed: the newest history that a leader and a quorum had in common.
    @ivar worst_delay: the slowest message, in seconds.
    """

    def __init__(
        self, seed: int, ensemble: Ensemble, histories: dict[int, tuple[int, int]], worst_delay: float = 0.05
    ) -> None:
        self.random = Random(seed)
        self.ensemble = ensemble
        self.quorum = Quorum(ensemble)
        self.now = 0.0
        self.worst_delay = worst_delay
        self.won: list[tuple[float, int, Vote, tuple[int, ...]]] = []
        self.committed = (-1, -1)
        self.servers = {member.sid: Server(member.sid, histories[member.sid]) for member in ensemble.members}
        self.links = {pair: Link() for pair in combinations(sorted(self.servers), 2)}
        self.pending: dict[tuple[int, int], bytes | None] = {}
        self.last: dict[tuple[int, int], bytes] = {}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._made = 0

    # -- time

    def later(self, delay: float, call: Callable[[], None]) -> None:
        self._made += 1
        heappush(self._events, (self.now + delay, self._made, call))

    def run(self, until: float, done: Callable[[], bool] | None = None) -> None:
        """Let things happen until a time, or until it is done."""
        while done is None or not done():
            if not self._events or self._events[0][0] > until:
                break
            self.now, _, call = heappop(self._events)
            call()
        else:
            return
        self.now = until

    def delay(self) -> float:
        return self.random.uniform(0.0005, self.worst_delay)

    # -- servers

    def start(self, sid: int) -> None:
        server = self.servers[sid]
        if server.machine is None:
            server.machine = Election(sid, self.ensemble, interval_max=4.0)
            self.look(server)

    def crash(self, sid: int) -> None:
        server = self.servers[sid]
        server.machine = None
        self.leave(server)
        for pair in self.links:
            if sid in pair:
                self.break_link(*pair)
        for other in self.servers:
            self.pending.pop((sid, other), None)
            self.last.pop((sid, other), None)

    def leave(self, server: Server) -> None:
        """Forget the role."""
        server.life += 1
        followers, server.joined = server.joined, {}
        server.established = False
        for sid in followers:
            self.later(self.random.uniform(0, 0.5), lambda sid=sid, life=self.servers[sid].life: self.orphan(sid, life))
        for leader in self.servers.values():
            if server.sid in leader.joined:
                del leader.joined[server.sid]
                if leader.established and not self.quorum.contains([leader.sid, *leader.joined]):
                    self.later(0.5, lambda leader=leader, life=leader.life: self.orphan(leader.sid, life))

    def orphan(self, sid: int, life: int) -> None:
        """The role is over: look for another leader."""
        server = self.servers[sid]
        if server.life == life and server.settled():
            self.look(server)

    def look(self, server: Server) -> None:
        self.leave(server)
        assert server.machine is not None
        server.machine.look(server.zxid, server.epoch, self.now)
        self.perform(server)

    # -- machines

    def perform(self, server: Server) -> None:
        machine = server.machine
        assert machine is not None
        for effect in machine.take():
            if isinstance(effect, SendVote):
                data = encode_notification(effect.state, effect.vote, self.ensemble.text)
                self.send(server.sid, effect.sid, data[4:])
            elif isinstance(effect, Dial):
                for source, target in list(self.pending):
                    if source == server.sid:
                        self.dial(source, target)
            elif isinstance(effect, Concluded):
                self.concluded(server)
        deadline = machine.deadline()
        if deadline is not None:
            self.later(max(deadline - self.now, 0.0), lambda: self.ring(server, machine, deadline))

    def ring(self, server: Server, machine: Election, deadline: float) -> None:
        if server.machine is machine and machine.deadline() == deadline:
            mine = [message for (source, _), message in self.pending.items() if source == server.sid]
            machine.tick(max(self.now, deadline), heard=any(message is None for message in mine))
            self.perform(server)

    # -- links

    def link(self, one: int, other: int) -> Link:
        return self.links[min(one, other), max(one, other)]

    def send(self, source: int, target: int, data: bytes) -> None:
        self.pending[source, target] = data
        if self.link(source, target).up:
            self.flush(source, target)
        else:
            self.dial(source, target)

    def flush(self, source: int, target: int) -> None:
        data = self.pending.get((source, target))
        if data is not None:
            self.pending[source, target] = None
            self.last[source, target] = data
            self.transmit(source, target, data)

    def transmit(self, source: int, target: int, data: bytes) -> None:
        link = self.link(source, target)
        arrival = max(link.arrival.get(target, 0.0), self.now + self.delay())
        link.arrival[target] = arrival
        self.later(arrival - self.now, lambda made=link.made: self.arrive(source, target, data, made))

    def arrive(self, source: int, target: int, data: bytes, made: int) -> None:
        server, link = self.servers[target], self.link(source, target)
        if link.up and link.made == made and server.machine is not None:
            server.machine.receive(source, decode_notification(data), self.now)
            self.perform(server)

    def dial(self, one: int, other: int) -> None:
        link = self.link(one, other)
        if not link.up and not link.dialling:
            link.dialling = True
            self.later(self.delay(), lambda: self.connect(one, other))

    def connect(self, one: int, other: int) -> None:
        link = self.link(one, other)
        link.dialling = False
        if link.cut or None in (self.servers[one].machine, self.servers[other].machine):
            return
        link.up = True
        link.made += 1
        link.arrival = {}
        for source, target in ((one, other), (other, one)):
            if self.pending.get((source, target)) is not None:
                self.flush(source, target)
            elif (source, target) in self.last:
                self.transmit(source, target, self.last[source, target])

    def break_link(self, one: int, other: int) -> None:
        """What is on its way is lost, and nobody is told."""
        self.link(one, other).up = False

    # -- what comes after an election

    def concluded(self, server: Server) -> None:
        machine = server.machine
        assert machine is not None and machine.vote is not None
        server.life += 1
        life = server.life
        if machine.state is LEADING:
            self.won.append((self.now, server.sid, machine.vote, machine.electing))
            self.later(INIT_LIMIT, lambda: self.give_up(server, life))
            self.gather(server)
        else:
            self.later(self.delay(), lambda: self.join(server, life, self.now + JOIN_LIMIT))

    def give_up(self, server: Server, life: int) -> None:
        if server.life == life and not server.established:
            self.look(server)

    def join(self, server: Server, life: int, until: float) -> None:
        if server.life != life or server.machine is None or server.machine.vote is None:
            return
        leader = self.servers[server.machine.vote.leader]
        reachable = not self.link(server.sid, leader.sid).cut
        if reachable and leader.machine is not None and leader.machine.state is LEADING:
            if server.history > leader.history and not leader.established:
                return self.look(server)  # a leader refuses whoever knows more than itself, until it has begun
            leader.joined[server.sid] = None
            self.gather(leader)
        elif self.now < until:
            self.later(0.1, lambda: self.join(server, life, until))
        else:
            self.look(server)

    def gather(self, leader: Server) -> None:
        """A quorum begins an epoch; who joins later learns its history."""
        machine = leader.machine
        assert machine is not None and machine.vote is not None
        members = [leader, *(self.servers[sid] for sid in leader.joined)]
        if not leader.established and self.quorum.contains([server.sid for server in members]):
            leader.established = True
            assert leader.history >= self.committed, f"server {leader.sid} leads and has lost what was committed"
            leader.epoch = max(server.epoch for server in members) + 1
            leader.zxid = (leader.epoch << 32) + self.random.randint(0, 3)
            self.committed = leader.history
        if leader.established:
            for server in members:
                server.epoch, server.zxid = leader.history
                assert server.machine is not None and server.machine.vote is not None
                vote = server.machine.vote._replace(peer_epoch=leader.epoch)
                server.machine.settle(server.machine.state, vote)

    # -- how it is

    def agreed(self) -> bool:
        """Whether all servers have settled, with one leader that has begun its epoch."""
        if not all(server.settled() for server in self.servers.values()):
            return False
        leaders = [server for server in self.servers.values() if server.established]
        return len(leaders) == 1 and len(leaders[0].joined) == len(self.servers) - 1
