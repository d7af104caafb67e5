"""
L{Servers}: one server or an ensemble, and everything that a test may do to it, on a reactor of the caller's.

Nothing here blocks: what waits is a coroutine.  L{zktwisted.kit.threaded} has the same for programs without a reactor.
What the verbs mean for requests is known to L{zktwisted.kit.traffic}, for one server to L{zktwisted.kit.member}.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from uuid import uuid4

from twisted.internet.error import CannotListenError
from twisted.internet.task import deferLater

from zktwisted.config import Ensemble, ServerConfig
from zktwisted.errors import Code
from zktwisted.kit.credentials import TlsFiles, make_tls_files, write_jaas
from zktwisted.kit.leaks import Holdings
from zktwisted.kit.links import Links
from zktwisted.kit.member import Member
from zktwisted.kit.requests import Recording, Wanted, code_of
from zktwisted.kit.traffic import DELAY, FAIL, LOSE_ANSWER, LOSE_REQUEST, Faults, Rule

__all__ = ["Servers"]

_LEADS, _SERVES = ("leader", "standalone"), ("standalone", "leader", "follower", "observer")
#: What a production server gives its clients, with a tick that lets an ensemble notice sooner what happened to it.
_USUAL = {"tick_time": 500, "min_session_timeout": 4000, "max_session_timeout": 40000}
_USUAL_ENSEMBLE = {"init_limit": 20, "sync_limit": 10, "readonlymode_enabled": True, "standalone_enabled": False}
#: How often something is looked at that nobody tells of, and for how long, in seconds.
_STEP, _PATIENCE = 0.005, 60.0


class Servers:
    """
    Real servers in this process, without files.

    @ivar members: the servers by id, from 1; one on its own is 1.
    @ivar tls: the files for TLS; C{None} without.
    """

    def __init__(
        self,
        reactor: Any,
        *,
        members: int = 1,
        observers: int = 0,
        port: int = 0,
        tls: bool = False,
        sasl: Mapping[str, str] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """
        @param members: how many have a vote; 1: a server without an ensemble.
        @param observers: how many have none.
        @param port: for clients, of one server; 0: any that is free.
        @param tls: have a second port for clients with TLS.
        @param sasl: who may log in by SASL, with which password.
        @param settings: of L{ServerConfig}, by its attributes.

        @raise ConfigError: a setting cannot work, or something is missing for TLS.
        @raise OSError: the port is taken.
        """
        if members < 1 or observers < 0:
            raise ValueError(f"{members} members and {observers} observers are no ensemble")
        self._reactor = reactor
        self._faults = Faults()
        self._directory: Path | None = None
        self.tls: TlsFiles | None = None
        self._control: Any = None  # a twisted.internet.tcp.Port
        self.sasl = dict(sasl) if sasl else None
        try:
            values = self._credentials(tls, settings or {})
            self._make(values, members, observers, port, tls)
        except BaseException:
            self._remove_files()
            raise

    def _make(self, values: Mapping[str, Any], members: int, observers: int, port: int, tls: bool) -> None:
        reactor = self._reactor
        count = members + observers
        self._links = Links(reactor, range(1, count + 1)) if count > 1 else None
        ensemble = None
        if self._links is not None:
            roles = ["participant"] * members + ["observer"] * observers
            ensemble = Ensemble.parse({f"server.{i}": Links.line(i, role) for i, role in enumerate(roles, 1)})
        self.voters = members
        self.members: dict[int, Member] = {}
        for each in range(1, count + 1):
            config = _config(values, ensemble, each)
            self.members[each] = Member(
                reactor, config, self._faults, self._links, port=port if count == 1 else 0, tls=tls
            )

    def _credentials(self, tls: bool, settings: Mapping[str, Any]) -> dict[str, Any]:
        values = dict(settings)
        if not tls and not self.sasl:
            return values
        directory = self._directory = Path(mkdtemp(prefix="zktwisted-"))
        if tls:
            self.tls = make_tls_files(directory)
            usual = {
                "ssl_key_store_location": self.tls.server,
                "ssl_trust_store_location": self.tls.ca,
                # A client may show a certificate; those of ours are of the same authority.
                "ssl_client_auth": "want",
            }
            values = usual | values
        if self.sasl:
            jaas = directory / "jaas.conf"
            write_jaas(jaas, self.sasl)
            values = {"jaas_file": str(jaas)} | values
        return values

    # -- where they are

    @property
    def hosts(self) -> str:
        """Where clients connect: C{"127.0.0.1:40001,127.0.0.1:40002"}."""
        return ",".join(member.port.address for member in self.members.values())

    @property
    def tls_hosts(self) -> str:
        """
        Where clients connect with TLS.

        @raise ValueError: these servers have none.
        """
        ports = [member.secure_port for member in self.members.values()]
        if None in ports:
            raise ValueError("these servers have no TLS; make them with tls=True")
        return ",".join(port.address for port in ports if port is not None)

    def modes(self) -> dict[int, str]:
        """What each is: C{standalone}, C{leader}, C{follower}, C{observer}, C{read-only}, C{looking}, C{stopped}."""
        return {member.id: member.mode for member in self.members.values()}

    def leader(self) -> int | None:
        """The id of the one that leads; C{None} while there is none."""
        return next((member.id for member in self.members.values() if member.mode in _LEADS), None)

    # -- life

    async def start(self) -> None:
        """
        Start all, and wait until they serve.

        @raise ConfigError: a file or a setting is no good.
        """
        for member in self._all():
            if not member.running:
                await member.start()
        await self.wait()

    async def close(self) -> None:
        """Stop all, and leave nothing."""
        control, self._control = self._control, None
        if control is not None:
            await control.stopListening()
        for member in self._all():
            await member.close()
        self._remove_files()

    def _remove_files(self) -> None:
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    async def serve_control(self, port: int = 0) -> str:
        """
        Take orders by HTTP.

        @return: the URL.
        @raise OSError: the port is taken, or they are taken already.
        """
        from zktwisted.kit.control import Control

        if self._control is not None:
            raise OSError("orders are taken already")
        try:
            self._control = await Control(self).listen(self._reactor, port)
        except CannotListenError as error:
            raise OSError(str(error)) from error
        return f"http://127.0.0.1:{self._control.getHost().port}/"

    async def reset(self) -> None:
        """Begin anew: no node, no session, no fault; connections are closed, and ports remain."""
        self.heal()
        for member in self._all():
            await member.wipe(stay_open=True)
        await self.start()

    async def clean(self) -> None:
        """Be for the next test as if all had just been started, those that were stopped as well."""
        if any(member.traffic.used for member in self._all()):
            await self.reset()
        else:
            self.heal()
            await self.start()

    async def stop_member(self, member: int) -> None:
        """Stop one, as its process is stopped; its data remain."""
        await self.member(member).stop()
        await self.wait()

    async def start_member(self, member: int) -> None:
        """Start one that was stopped, and wait until it serves, if there are others enough."""
        if not self.member(member).running:
            await self.member(member).start()
        await self.wait()

    async def wipe_member(self, member: int) -> None:
        """Stop one, and forget its data."""
        await self.member(member).wipe()
        await self.wait()

    def ports_of(self, member: int) -> tuple[int, int]:
        """The ports of one: for clients without TLS, and with; 0: it has none."""
        secure = self.member(member).secure_port
        return self.member(member).port.number, 0 if secure is None else secure.number

    async def wait(self) -> None:
        """
        Wait until every running server has noticed with whom it can serve, and serves, if that is enough of them.

        @raise TimeoutError: it does not; a minute is enough.
        @raise Exception: a server has given up, for this reason.
        """
        running = [member for member in self._all() if member.running]
        await self._until(
            lambda: any(each.mode == "failed" for each in running) or all(map(self._is_settled, running)),
            "the servers do not come to rest",
        )
        for member in running:
            if member.mode == "failed":
                await member.service.when_serving()

    def _is_settled(self, member: Member) -> bool:
        if self._links is None:
            return member.mode in ("standalone", "read-only")
        near = [each for each in self._all() if each.running and self._near(member, each)]
        leaders = [each for each in near if each.mode == "leader"]
        if sum(each.id <= self.voters for each in near) * 2 <= self.voters:
            return member.mode in ("looking", "read-only")
        return len(leaders) == 1 and member.mode in _SERVES

    def _near(self, one: Member, other: Member) -> bool:
        return self._links is None or one is other or self._links.reachable(one.id, other.id)

    async def _until(self, condition: Callable[[], bool], otherwise: str) -> None:
        begun = self._reactor.seconds()
        while not condition():
            if self._reactor.seconds() - begun > _PATIENCE:
                raise TimeoutError(f"{otherwise}: {self.modes()}")
            await deferLater(self._reactor, _STEP)

    def _all(self) -> list[Member]:
        return list(self.members.values())

    def member(self, member: int) -> Member:
        """@raise ValueError: there is none of this id."""
        if member not in self.members:
            raise ValueError(f"there is no member {member}; there are {', '.join(map(str, self.members))}")
        return self.members[member]

    # -- sessions and connections

    def sessions(self) -> list[int]:
        """The ids of the sessions."""
        return sorted({session for member in self._all() for session in member.sessions()})

    async def expire(self, session: int) -> None:
        """
        End a session, as if its client had been silent for too long.

        @raise ValueError: there is no such session, or no server that could end it.
        """
        await self._expire([session])

    async def expire_all(self) -> int:
        """
        End all sessions; return how many.

        @raise ValueError: there is no server that could end them.
        """
        meant = self.sessions()
        await self._expire(meant)
        return len(meant)

    async def _expire(self, sessions: list[int]) -> None:
        known = self.sessions()
        for session in sessions:
            ended = [member.expire(session) for member in self._all()]
            if session not in known:
                raise ValueError(f"there is no session 0x{session & (1 << 64) - 1:x}")
            if not any(ended):
                raise ValueError(f"no server can end a session at present: {self.modes()}")
        await self._until(lambda: not set(sessions) & set(self.sessions()), "sessions do not end")

    def drop(self, session: int | None = None, member: int | None = None) -> int:
        """
        Break connections; sessions live on.

        @param session: whose connection; C{None}: all.
        @param member: of which server; C{None}: of all.
        @return: how many.
        """
        meant = self._all() if member is None else [self.member(member)]
        return sum(each.traffic.drop(session) for each in meant)

    def reject(self, rejecting: bool = True, member: int | None = None) -> None:
        """Close new connections at once, or no more; those that are there remain."""
        for each in self._all() if member is None else [self.member(member)]:
            for port in each.ports:
                port.rejecting = rejecting

    # -- requests

    def fail(self, code: Code | int | str, op: str | None = None, path: str | None = None, times: int = 1) -> None:
        """
        Answer requests with an error instead of carrying them out.

        @param code: a code or its name, C{"CONNECTIONLOSS"}.
        @param op: of this operation, C{"create"}; C{None}: any but what client libraries ask by themselves.
        @param path: of this path, in which C{*} stands for anything.
        @param times: how many requests; -1: all, until L{heal}.

        @raise ValueError: there is no such code or operation.
        """
        found = code_of(code)
        if found is Code.OK:
            raise ValueError("OK is no error")
        self._faults.rules.append(Rule(FAIL, Wanted.of(op, path), times, code=found))

    def delay(self, seconds: float, op: str | None = None, path: str | None = None, times: int = -1) -> None:
        """
        Answer late.

        @param seconds: how late; what follows on the same connection waits, too.
        @param op: this operation, see L{fail}; without C{op} and C{path} all that servers send is late.
        @param times: how many requests; -1: all, until L{heal}.

        @raise ValueError: there is no such operation, or this is no time.
        """
        if not 0 <= seconds < 86400:
            raise ValueError(f"{seconds} is no delay in seconds")
        if op is None and path is None and times < 0:
            self._faults.delay = seconds
        else:
            self._faults.rules.append(Rule(DELAY, Wanted.of(op, path), times, seconds=seconds))

    def drop_on(
        self, op: str | None = None, path: str | None = None, *, answered: bool = False, times: int = 1
    ) -> None:
        """
        Break the connection on which a request comes.

        @param op: this operation, see L{fail}.
        @param answered: carry the request out, and break the connection in place of the answer; by default the request
            never reaches the server.

        @raise ValueError: there is no such operation.
        """
        self._faults.rules.append(Rule(LOSE_ANSWER if answered else LOSE_REQUEST, Wanted.of(op, path), times))

    def heal(self) -> None:
        """
        Do nothing more to requests and connections, let members reach one another; who is stopped stays so.

        What is late is sent at once.
        """
        self._faults.clear()
        for member in self._all():
            member.traffic.release()
        self.reject(False)
        if self._links is not None:
            self._links.heal()
        elif self.members[1].running:
            self.members[1].set_read_only(False)

    def record(self, recording: Recording) -> None:
        """Record requests from now on."""
        self._faults.recordings.append(recording)

    def stop_recording(self, recording: Recording) -> None:
        """Record no more."""
        if recording in self._faults.recordings:
            self._faults.recordings.remove(recording)

    # -- ensembles

    async def read_only(self, read_only: bool = True) -> None:
        """
        Serve reads alone, to clients that put up with it, as without a quorum; C{False}: serve all again.

        In an ensemble no member reaches another then.
        """
        if self._links is None:
            self.members[1].set_read_only(read_only)
        elif read_only:
            self._links.partition([])
            await self._until(
                lambda: all(member.mode == "read-only" for member in self._all() if member.running),
                "not all are read-only",
            )
        else:
            self._links.heal()
            await self.wait()

    async def partition(self, *groups: Iterable[int]) -> None:
        """
        Part the members: only those of one group reach one another, and who is in no group reaches nobody.

        @raise ValueError: this is no ensemble, or there is no such member.
        """
        links = self._ensemble()
        sides = [list(group) for group in groups]
        for member in [each for side in sides for each in side]:
            self.member(member)
        links.partition(sides)
        await self.wait()

    async def new_leader(self) -> int:
        """
        Let another one lead.

        @return: its id.
        @raise ValueError: without the leader there is no majority of running members, or no ensemble.
        """
        links = self._ensemble()
        await self.wait()
        old = self.leader()
        others = [member.id for member in self._all() if member.running and member.id != old]
        if old is None or sum(member <= self.voters for member in others) * 2 <= self.voters:
            raise ValueError(f"without the leader there is no majority: {self.modes()}")
        links.partition([[old], others])
        await self.wait()
        links.heal()
        await self.wait()
        leader = self.leader()
        assert leader is not None, "they have come to rest"
        return leader

    def _ensemble(self) -> Links:
        if self._links is None:
            raise ValueError("this is one server, no ensemble; make it with several members")
        return self._links

    # -- what clients have left

    def holdings(self) -> Holdings:
        """What clients hold at this moment: sessions, watches, ephemeral nodes."""
        ephemerals: dict[int, list[str]] = {}
        leader = self.leader()
        for member in self._all():
            if member.running and (leader is None or member.id == leader):
                ephemerals |= member.ephemerals()
        watches: dict[str, list[int]] = {}
        for member in self._all():
            for path, session in member.watches():
                watches.setdefault(path, []).append(session)
        return Holdings(tuple(self.sessions()), watches, ephemerals)

    async def make_chroot(self, name: str = "test") -> str:
        """
        Make a node of which nobody else knows; no fault touches that.

        @return: its path.
        @raise ValueError: no server runs that could make one.
        """
        leader = self.leader()
        if leader is None:
            raise ValueError(f"no server runs that could make a node: {self.modes()}")
        path = f"/{name}-{uuid4().hex[:12]}"
        async with self.members[leader].client() as client:
            await client.create(path)
        return path


def _config(values: Mapping[str, Any], ensemble: Ensemble | None, member: int) -> ServerConfig:
    usual: dict[str, Any] = {"four_letter_words_whitelist": ("*",), "max_client_cnxns": 0}
    if "tick_time" not in values:
        usual |= _USUAL
    if ensemble is not None:
        usual |= _USUAL_ENSEMBLE | {"ensemble": ensemble, "myid": member}
    return ServerConfig(**usual | dict(values))

