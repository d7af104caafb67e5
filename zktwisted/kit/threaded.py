"""
L{TestServer} and L{TestEnsemble}: servers for programs without a reactor, or with one that is none of our business.

Each has a reactor of its own in a thread of its own.  Every method may be called from any thread and returns when what
it does has been done.  What is done is known to L{zktwisted.kit.servers}.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, ParamSpec, Self

from zktwisted.errors import Code
from zktwisted.kit.credentials import TlsFiles
from zktwisted.kit.leaks import Holdings
from zktwisted.kit.requests import Recording
from zktwisted.kit.servers import Servers
from zktwisted.kit.thread import ReactorThread

__all__ = ["TestEnsemble", "TestServer"]

_P = ParamSpec("_P")


class TestServer:
    """
    A ZooKeeper server for tests: in this process, on a free port, without files.

    It serves between L{start} and L{stop}, or within a C{with} block, and can be started again.

    Where a method takes C{member}, that is the id of one server of an ensemble, from 1; C{None} is all of them.  Where
    one takes a C{session}, that is an id or a client: kazoo's, ours, or whatever has a C{client_id} or C{session_id}.
    """

    __test__ = False  # pytest takes every class of such a name for a test

    def __init__(
        self,
        *,
        port: int = 0,
        tls: bool = False,
        sasl: Mapping[str, str] | None = None,
        members: int = 1,
        observers: int = 0,
        **settings: Any,
    ) -> None:
        """
        @param port: for clients; 0: any that is free.
        @param tls: have a second port, for clients with TLS; needs the extra C{tls}.
        @param sasl: names and passwords of those who may log in by SASL.
        @param members: how many servers form an ensemble; 1: none.
        @param observers: how many more have no vote.
        @param settings: of L{zktwisted.ServerConfig}: C{tick_time=100}.
        """
        self._thread: ReactorThread | None = None
        self._servers: Servers | None = None
        self._pid = 0
        self._options: dict[str, Any] = {
            "port": port, "tls": tls, "sasl": sasl, "members": members, "observers": observers, "settings": settings,
        }  # fmt: skip

    # -- life

    def start(self) -> Self:
        """
        Start what is not started, and wait until clients are served; returns the server itself.

        @raise zktwisted.errors.ConfigError: a setting cannot work.
        @raise OSError: the port is taken.
        """
        if self._servers is not None:
            self._call(self._servers.start)
            return self
        thread = ReactorThread()
        thread.start()
        try:
            servers = thread.call(lambda: Servers(thread.reactor, **self._options))
            try:
                thread.call(servers.start)
            except BaseException:
                thread.call(servers.close)
                raise
        except BaseException:
            thread.stop()
            raise
        self._thread, self._servers, self._pid = thread, servers, os.getpid()
        return self

    def stop(self) -> None:
        """Stop; all data are gone.  A second call does nothing."""
        thread, self._thread = self._thread, None
        servers, self._servers = self._servers, None
        if thread is not None and servers is not None and self._pid == os.getpid():
            thread.call(servers.close)
            thread.stop()

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    def reset(self) -> None:
        """Begin anew on the same port: no node, no session, no fault.  Takes about a millisecond, of one server."""
        self._call(self._running.reset)

    def clean(self) -> None:
        """Be as if just started, for the next test: like L{reset}, if there is anything to forget; start if stopped."""
        if self._servers is None:
            self.start()
        self._call(self._running.clean)

    @property
    def _running(self) -> Servers:
        if self._servers is None:
            raise RuntimeError("the server is stopped; start() it, or use it in a with block")
        return self._servers

    def _call(self, function: Callable[_P, Any], *arguments: _P.args, **keywords: _P.kwargs) -> Any:
        if self._thread is None:
            raise RuntimeError("the server is stopped")
        if self._pid != os.getpid():
            raise RuntimeError("the server runs in the process that this one was forked from; start one here")
        return self._thread.call(function, *arguments, **keywords)

    def serve_control(self, port: int = 0) -> str:
        """
        Take orders by HTTP as well, until L{stop}, so that another process can make things go wrong here.

        @param port: of the loopback address; 0: any that is free.
        @return: the URL: C{"http://127.0.0.1:40002/"}.

        @raise OSError: the port is taken.
        """
        url: str = self._call(self._running.serve_control, port)
        return url

    # -- where it is

    @property
    def hosts(self) -> str:
        """The connect string: C{"127.0.0.1:40001"}."""
        return self._running.hosts

    @property
    def port(self) -> int:
        """The port for clients; of an ensemble, that of its first member."""
        return self._running.members[1].port.number

    @property
    def tls(self) -> TlsFiles:
        """
        The files for TLS.

        @raise ValueError: the server has none.
        """
        if self._running.tls is None:
            raise ValueError("this server has no TLS; make it with tls=True")
        return self._running.tls

    @property
    def tls_hosts(self) -> str:
        """
        The connect string for clients with TLS.

        @raise ValueError: the server has none.
        """
        return self._running.tls_hosts

    @property
    def sasl(self) -> dict[str, str]:
        """Names and passwords of those who may log in by SASL."""
        return dict(self._running.sasl or {})

    def mode(self) -> str:
        """What the first member is: C{standalone}, C{leader}, C{follower}, C{read-only}, C{looking}, C{stopped}."""
        return self.modes()[1]

    def modes(self) -> dict[int, str]:
        """What each member is, by id; an observer is C{observer}."""
        modes: dict[int, str] = self._call(self._running.modes)
        return modes

    def chroot(self) -> str:
        """Make a node of which nobody else knows; return the connect string of clients for which it is the root."""
        path: str = self._call(self._running.make_chroot)
        return self.hosts + path

    # -- sessions and connections

    def sessions(self) -> list[int]:
        """The ids of the sessions."""
        sessions: list[int] = self._call(self._running.sessions)
        return sessions

    def expire(self, session: Any = None) -> None:
        """
        End a session, as if its client had been silent for too long; C{None}: all.

        @raise ValueError: there is no such session.
        """
        if session is None:
            self._call(self._running.expire_all)
        else:
            self._call(self._running.expire, _session(session))

    def drop(self, session: Any = None, member: int | None = None) -> int:
        """Break the connection of a session, or all; sessions live on.  Returns how many were broken."""
        dropped: int = self._call(self._running.drop, None if session is None else _session(session), member)
        return dropped

    def reject(self, rejecting: bool = True, member: int | None = None) -> None:
        """Close new connections at once, until L{heal}; those that are there remain."""
        self._call(self._running.reject, rejecting, member)

    # -- requests

    def fail(self, code: Code | int | str, op: str | None = None, path: str | None = None, times: int = 1) -> None:
        """
        Answer the next request with an error, and do not carry it out.

        @param code: a L{Code<zktwisted.errors.Code>}, its number, or its name: C{"CONNECTIONLOSS"}.
        @param op: the next of this operation: C{"create"}, C{"get_data"}; by default any but those that client
            libraries make by themselves.
        @param path: of this path; C{*} stands for anything, and a client's chroot is part of it.
        @param times: so many; -1: all, until L{heal}.

        @raise ValueError: there is no such code or operation.
        """
        self._call(self._running.fail, code, op, path, times)

    def delay(self, seconds: float, op: str | None = None, path: str | None = None, times: int = -1) -> None:
        """
        Answer so much later, until L{heal}.

        @param op: requests of this operation; without C{op}, C{path} and C{times}, all that the server sends is late.
        @param path: of this path, see L{fail}.
        @param times: so many.

        @raise ValueError: there is no such operation, or this is no time.
        """
        self._call(self._running.delay, seconds, op, path, times)

    def drop_on(
        self, op: str | None = None, path: str | None = None, *, answered: bool = False, times: int = 1
    ) -> None:
        """
        Break the connection when the next request comes, see L{fail}.

        @param answered: carry the request out, and break the connection in place of the answer.

        @raise ValueError: there is no such operation.
        """
        self._call(self._running.drop_on, op, path, answered=answered, times=times)

    def read_only(self, read_only: bool = True) -> None:
        """Serve reads alone, to clients that put up with it, as a server does that has lost its ensemble."""
        self._call(self._running.read_only, read_only)

    def heal(self) -> None:
        """Take back all faults: what is stopped stays so."""
        self._call(self._running.heal)
        self._call(self._running.wait)

    @contextmanager
    def record(self, everything: bool = False) -> Iterator[Recording]:
        """
        Record what clients ask, within a C{with} block.

        @param everything: also what client libraries ask by themselves.
        """
        recording = Recording(everything)
        self._call(self._running.record, recording)
        try:
            yield recording
        finally:
            self._call(self._running.stop_recording, recording)

    # -- what clients have left

    def holdings(self) -> Holdings:
        """What clients hold at this moment: sessions, watches, ephemeral nodes."""
        holdings: Holdings = self._call(self._running.holdings)
        return holdings

    def watches(self) -> dict[str, list[int]]:
        """The sessions that watch, by path."""
        return self.holdings().watches

    def ephemerals(self) -> dict[int, list[str]]:
        """The paths of ephemeral nodes, by session."""
        return self.holdings().ephemerals

    @contextmanager
    def no_leaks(self, *kinds: str) -> Iterator[None]:
        """
        Make sure that a C{with} block leaves nothing on the server.

        @param kinds: C{"sessions"}, C{"watches"}, C{"ephemerals"}; by default all of them.

        @raise LeakError: it does; an C{AssertionError} that names each piece.
        @raise ValueError: there is no such kind.
        """
        Holdings().check(*kinds)  # a name that is wrong is told before the work
        before = self.holdings()
        yield
        self.holdings().since(before).check(*kinds)

    def assert_no_sessions(self) -> None:
        """@raise LeakError: clients have left sessions."""
        self.holdings().check("sessions")

    def assert_no_watches(self) -> None:
        """@raise LeakError: clients that are connected have watches."""
        self.holdings().check("watches")

    def assert_no_ephemerals(self) -> None:
        """@raise LeakError: there are ephemeral nodes."""
        self.holdings().check("ephemerals")

    # -- members

    def stop_member(self, member: int = 1) -> None:
        """Stop a server, as its process is stopped: connections break, the port refuses others, the data remain."""
        self._call(self._running.stop_member, member)

    def start_member(self, member: int = 1) -> None:
        """Start a server that was stopped, on its port, and wait until it serves, if there are others enough."""
        self._call(self._running.start_member, member)

    def wipe_member(self, member: int = 1) -> None:
        """Stop a server, and forget its data; in an ensemble the others have them, as a rule."""
        self._call(self._running.wipe_member, member)

    def ports_of(self, member: int) -> tuple[int, int]:
        """The ports of a server: for clients without TLS, and with; 0: it has none."""
        ports: tuple[int, int] = self._call(self._running.ports_of, member)
        return ports

    def hosts_of(self, member: int) -> str:
        """
        The connect string of one member.

        @raise ValueError: there is no such member.
        """
        return self._running.member(member).port.address

    def leader(self) -> int | None:
        """The id of the leader; C{None} while there is none."""
        leader: int | None = self._call(self._running.leader)
        return leader

    def new_leader(self) -> int:
        """
        Let another member lead; returns its id.

        @raise ValueError: without the leader there is no majority, or there is one server.
        """
        leader: int = self._call(self._running.new_leader)
        return leader

    def partition(self, *groups: Iterable[int]) -> None:
        """
        Part the members: C{partition([1], [2, 3])}.  Who is in no group reaches nobody.

        Returns when all have noticed.

        @raise ValueError: there is no such member, or there is one server.
        """
        self._call(self._running.partition, *groups)


class TestEnsemble(TestServer):
    """
    An ensemble for tests: several servers in this process, that speak over real sockets with one another.

    It is a L{TestServer} with several members.
    """

    __test__ = False

    def __init__(self, members: int = 3, **options: Any) -> None:
        """
        @param members: how many servers have a vote.
        @param options: of L{TestServer}.
        """
        super().__init__(members=members, **options)


def _session(client: Any) -> int:
    """
    The session of a client, or of an id.

    @raise ValueError: there is none.
    """
    if isinstance(client, int):
        session: Any = client
    else:
        session = getattr(client, "client_id", None) or getattr(client, "session_id", None)
    if isinstance(session, tuple):  # kazoo's, with its password
        session = session[0]
    if not isinstance(session, int) or not session:
        raise ValueError(f"{client!r} is no session and has none")
    return session
