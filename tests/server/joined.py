"""Servers with roles, joined by an agreement in memory: what the leader proposes is committed when the test says so."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from twisted.internet.task import Clock

from tests.server.world import World
from zktwisted.config import ServerConfig
from zktwisted.config.ensemble import Ensemble
from zktwisted.server.leader import LeaderRole
from zktwisted.server.learner import LearnerRole
from zktwisted.server.processors import ProcessorFactory
from zktwisted.wire.proto import Id

ENSEMBLE = Ensemble.parse("\n".join(f"server.{sid}=127.0.0.1:{2880 + sid}:{3880 + sid}" for sid in (1, 2, 3)))
EPOCH_ZXID = 1 << 32

Message = Callable[[], None]


class Member(World):
    """
    A server of L{Joined}.

    @ivar sent: what it has asked the leader for: (session, cxid, op, identities), and (session, timeout).
    """

    def __init__(self, joined: Joined, sid: int, processors: Sequence[ProcessorFactory] = (), **settings: Any) -> None:
        self.joined = joined
        self.sid = sid
        self.sent: list[tuple[Any, ...]] = []
        config = ServerConfig(
            **{"tick_time": 2000, "init_limit": 10, "sync_limit": 5, "ensemble": ENSEMBLE, "myid": sid, **settings}
        )
        super().__init__(clock=joined.clock, config=config, server_id=sid, processors=processors, begin=None)

    def turn(self) -> None:
        if self.joined.eager:
            self.joined.settle()
        else:
            self.turn_alone()

    def turn_alone(self) -> None:
        """Only what this server does by itself."""
        super().turn()

    # The way to the leader, of a learner: upstream.

    @property
    def received_zxid(self) -> int:
        """What is proposed is known here at once, and committed when its message comes."""
        return self.joined.newest

    def request(self, session_id: int, cxid: int, op: int, body: bytes, identities: Sequence[Id] | None) -> None:
        self.sent.append((session_id, cxid, op, identities))
        leader = self.joined.leader
        self.up(lambda: leader.forwarded(self.sid, session_id, cxid, op, body, identities))

    def revalidate(self, session_id: int, timeout: int) -> None:
        self.sent.append((session_id, timeout))

        def ask() -> None:
            valid = self.joined.leader.revalidate(self.sid, session_id, timeout)
            self.down(lambda: self.role.revalidated(session_id, valid))

        self.up(ask)

    def up(self, message: Message) -> None:
        self.joined.links[self.sid, 0].append(message)

    def down(self, message: Message) -> None:
        self.joined.links[0, self.sid].append(message)

    @property
    def role(self) -> Any:
        return self.server.role


class Joined:
    """
    A leader, server 1, and learners.

    @ivar members: the servers by id.
    @ivar eager: whether a server's turn brings everything everywhere; otherwise L{step} does.
    @ivar proposed: (zxid, entry) of what is not committed.
    @ivar history: (zxid, entry) of what is.
    """

    def __init__(self, learners: int = 2, observers: Sequence[int] = (), **settings: Any) -> None:
        self.clock = Clock()
        self.eager = True
        self.proposed: deque[tuple[int, bytes, list[int]]] = deque()
        self.history: list[tuple[int, bytes]] = []
        self.links: dict[tuple[int, int], deque[Message]] = {}
        self.members = {sid: Member(self, sid, **settings) for sid in range(1, learners + 2)}
        self.leader = LeaderRole(self.members[1].server, self)
        for sid, member in self.members.items():
            if sid != 1:
                self.links[sid, 0] = deque()
                self.links[0, sid] = deque()
                LearnerRole(member.server, member, sid in observers).start(0)
        self.leader.start(EPOCH_ZXID)

    @property
    def newest(self) -> int:
        """The last transaction proposed."""
        return (self.proposed or self.history or [(EPOCH_ZXID, b"")])[-1][0]

    # The agreement.

    def propose(self, zxid: int, entry: bytes) -> None:
        assert zxid == self.newest + 1, hex(zxid)
        self.proposed.append((zxid, entry, []))

    def sync(self, channel: int) -> None:
        if self.proposed:
            self.proposed[-1][2].append(channel)
        else:
            self.members[channel].down(self.members[channel].role.synced)

    def commit(self) -> None:
        """Let the oldest proposal be committed."""
        zxid, entry, syncs = self.proposed.popleft()
        self.history.append((zxid, entry))
        for sid, member in self.members.items():
            if sid != 1 and member.role is not None:
                member.down(lambda role=member.role: role.apply(zxid, entry))
                for _ in range(syncs.count(sid)):
                    member.down(member.role.synced)
        self.leader.committed(zxid)

    def step(self, entropy: Random) -> bool:
        """Let one thing happen somewhere; tell whether there was anything."""
        open_links = [link for link, messages in self.links.items() if messages]
        choices = len(open_links) + bool(self.proposed)
        if not choices:
            return False
        chosen = entropy.randrange(choices)
        if chosen == len(open_links):
            self.commit()
        else:
            for _ in range(entropy.randrange(1, len(self.links[open_links[chosen]]) + 1)):
                self.links[open_links[chosen]].popleft()()
        self.flush()
        return True

    def flush(self) -> None:
        for member in self.members.values():
            member.server.settle()
            member.turn_alone()

    def settle(self, entropy: Random | None = None) -> None:
        """Go on until nothing is under way."""
        self.flush()
        while self.step(entropy or Random(0)):
            pass

    def advance(self, seconds: float) -> None:
        """Let time pass, half a tick at a time; learners tell of the sessions that they heard of."""
        while seconds > 0:
            step = min(seconds, 1.0)
            seconds -= step
            self.clock.advance(step)
            for sid, member in self.members.items():
                if sid != 1:
                    self.leader.touched(sid, member.role.take_touched())
            for member in self.members.values():
                member.server.expire_sessions(self.clock.seconds() * 1000)
            self.settle()
