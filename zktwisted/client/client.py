"""
L{ZooKeeperClient}: every operation of ZooKeeper as a Deferred.

It knows operations, the chroot and what a program wants to be told; how requests travel is known to
L{zktwisted.client.session}, L{zktwisted.client.connection} and L{zktwisted.client.line}.

Rules: spec: client-protocol 4 to 6; server-semantics.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IStreamClientEndpoint

from zktwisted.client import answers
from zktwisted.client.answers import Children, Created
from zktwisted.client.hosts import connect_seconds, endpoints_of
from zktwisted.client.line import Line, Note
from zktwisted.client.login import Login
from zktwisted.client.session import Listener, Session
from zktwisted.client.states import State, WatchedEvent
from zktwisted.client.transaction import Reads, Transaction, create_request
from zktwisted.client.watches import CHILD, DATA, EXIST, PERSISTENT, RECURSIVE, Watcher, Watches
from zktwisted.errors import (
    BadArgumentsError,
    Code,
    ConnectionLossError,
    KeeperError,
    NodeExistsError,
    NoWatcherError,
    SessionExpiredError,
)
from zktwisted.wire import jute, ops, proto
from zktwisted.wire.jute import pack_buffer
from zktwisted.wire.ops import WatcherType
from zktwisted.wire.proto import ACL, OPEN_ACL, ClientInfo, GetACLResponse, GetDataResponse, Stat

if TYPE_CHECKING:
    from zktwisted.client.tls import TlsOptions

__all__ = ["PersistentWatch", "ZooKeeperClient"]

_CONFIG = b"/zookeeper/config"
_WATCH, _NO_WATCH = b"\x01", b"\x00"

_path_of = answers.record(proto.PathResponse)
_created = answers.record(proto.Create2Response)
_acl = answers.record(proto.GetACLResponse)
_number = answers.record(proto.GetAllChildrenNumberResponse)
_identities = answers.record(proto.WhoAmIResponse)


class ZooKeeperClient(Service):
    """
    A client of ZooKeeper servers; a Twisted service.

    Nothing is done before L{startService} (or L{connect}).  From then on it keeps a session, whatever becomes of
    connections and servers, until L{stopService} (or L{close}) ends it.

    Requests may be made at any time.  They are sent in the order in which they were made, many at a time, and answered
    in that order; what a watch has to tell comes before any answer that shows the change.  A request that is made
    while there is no connection waits for one.  When a connection is lost, all that was asked on it fails with
    L{ConnectionLossError<zktwisted.errors.ConnectionLossError>}, and may have been carried out.

    A path that does not begin with C{"/"} is a mistake of the program's, and raises a
    L{BadArgumentsError<zktwisted.errors.BadArgumentsError>} at once; all else that may go wrong comes by the Deferred.

    Each Deferred can be awaited and cancelled.  A request that is cancelled before it was sent is not sent; later, its
    answer is thrown away.
    """

    def __init__(
        self,
        reactor: Any,
        hosts: str | IStreamClientEndpoint | Sequence[IStreamClientEndpoint],
        *,
        chroot: str = "",
        session_timeout: float = 10.0,
        connect_timeout: float | None = None,
        auth: Sequence[tuple[str, bytes | str]] = (),
        sasl: tuple[str, str] | None = None,
        tls: TlsOptions | None = None,
        read_only: bool = False,
        renew: bool = True,
        session: tuple[int, bytes] | None = None,
        max_outstanding: int = 1000,
        max_waiting: int = 100_000,
        max_frame: int = 0xFFFFF,
        entropy: Random | None = None,
    ) -> None:
        """
        @param reactor: for connections and timers.
        @param hosts: where the servers are: C{"one:2181,two:2181/chroot"}, an endpoint, or several.
        @param chroot: where the client's root is in the servers' tree, if C{hosts} does not say it.
        @param session_timeout: in seconds; the servers have the last word.
        @param connect_timeout: in seconds, for each server; by default each gets its share of C{session_timeout}.
        @param auth: schemes and what they need: C{("digest", "name:password")}.
        @param sasl: name and password, to log in by SASL (DIGEST-MD5) at each connection, before anything else.
        @param tls: makes connections secure where C{hosts} is a string: called with the name of a host it returns what
            Twisted's C{optionsForClientTLS} does, which is one; L{zktwisted.client.tls.tls_from_pem} makes another.
            Endpoints bring their own.
        @param read_only: as long as there is no session connect also with servers that have lost their quorum, and
            read there; they refuse sessions of others.
        @param renew: begin a new session when one has expired; without it the client is done then.
        @param session: id and password of a session that is to go on.
        @param max_outstanding: how many requests may be under way; more wait here.
        @param max_waiting: how many may wait here; more fail with L{BacklogError<zktwisted.client.BacklogError>}.
        @param max_frame: C{jute.maxbuffer} of the servers: bytes of a request.
        @param entropy: decides about the order of servers and the pauses between attempts.

        @raise ValueError: C{hosts} names no server, or something else cannot be.
        """
        _check(session_timeout=session_timeout, max_outstanding=max_outstanding, max_waiting=max_waiting)
        endpoints, root = endpoints_of(reactor, hosts, session_timeout, connect_timeout, tls)
        chroot = chroot or root
        if chroot and not chroot.startswith("/"):
            raise ValueError(f"the chroot {chroot!r} is no path")
        self.chroot = chroot.rstrip("/")
        self._root = self.chroot.encode()
        self._line = Line(max_outstanding, max_waiting, max_frame)
        self._watches = Watches(self._name)
        self._session = Session(
            reactor,
            endpoints,
            self._line,
            self._watches,
            timeout=session_timeout,
            connect_timeout=connect_seconds(connect_timeout, session_timeout, len(endpoints)),
            read_only=read_only,
            renew=renew,
            max_frame=max_frame,
            entropy=entropy or Random(),
            resume=session,
            login=None if sasl is None else lambda: Login(*sasl),
        )
        for scheme, data in auth:
            # Who gave them with the rest hears of a failure by the state.
            self.add_auth(scheme, data).addErrback(lambda failure: failure.trap(KeeperError))

    # -- the session

    @property
    def state(self) -> State:
        """What the session is at present."""
        return self._session.state

    @property
    def ended(self) -> bool:
        """
        Whether requests fail at once, with nothing to wait for: it is not started, is closed or about to be, or has
        come to its end, by an expired session that is not renewed or by credentials that are refused.
        """
        return self._session.ended

    @property
    def trouble(self) -> str | None:
        """Why the last connection, or the last attempt at one, came to nothing; C{None} while there is one."""
        return self._session.trouble

    @property
    def failures(self) -> int:
        """How many attempts came to nothing since there was a connection."""
        return self._session.failures

    @property
    def session_id(self) -> int:
        """Of the session; 0 while there is none."""
        return self._session.session_id

    @property
    def session(self) -> tuple[int, bytes]:
        """Id and password, with which another client could go on with the session."""
        return self._session.session_id, self._session.password

    @property
    def session_timeout(self) -> float:
        """In seconds, as the servers granted it."""
        return self._session.timeout

    @property
    def last_zxid(self) -> int:
        """The newest zxid that any answer had."""
        return self._session.last_zxid

    def listen(self, listener: Listener) -> Callable[[], None]:
        """
        Be told of states.

        @param listener: is called with each L{State} that the client gets into; may be an C{async def}.
        @return: a function that ends it.
        """
        return self._session.listen(listener)

    def startService(self) -> None:
        """Begin to connect."""
        self.running = True
        self._session.start()

    def stopService(self) -> Deferred[None]:
        """End the session, and connect no more; fires when that is done."""
        self.running = False
        return self._session.stop()

    def when_connected(self) -> Deferred[State]:
        """Wait until requests are answered; fails if that will never be, because of credentials or a closed client."""
        return self._session.when_connected()

    def connect(self) -> Deferred[State]:
        """Start, and wait until connected."""
        if not self.running:
            self.startService()
        return self.when_connected()

    def close(self) -> Deferred[None]:
        """The same as L{stopService}."""
        return self.stopService()

    async def __aenter__(self) -> ZooKeeperClient:
        await self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def room(self) -> Deferred[None]:
        """
        Wait until another request would be sent at once.

        A program that has a million requests to make waits for this before each, and never has more than
        C{max_outstanding} of them in memory.
        """
        return self._line.room()

    def add_auth(self, scheme: str, data: bytes | str) -> Deferred[None]:
        """
        Authenticate; with each new connection it is done again.

        @return: fires when a server has accepted it; if none does, the client is at its end
            (L{State.AUTH_FAILED<zktwisted.client.State>}).
        """
        return self._session.authenticate(scheme, data.encode() if isinstance(data, str) else data)

    # -- paths

    def _path(self, path: str) -> bytes:
        """Return the path as the server has it."""
        if path[:1] != "/":
            # A server would take it, and say that there is no such node, or watch it for ever.
            raise BadArgumentsError(path=path)
        if not self._root:
            return path.encode()
        return self._root if path == "/" else self._root + path.encode()

    def _name(self, path: bytes) -> str:
        """Return the path as the program has it; of what is not below the chroot, the server's."""
        root = self._root
        if root and path.startswith(root) and path[len(root) : len(root) + 1] in (b"/", b""):
            path = path[len(root) :] or b"/"
        return path.decode("utf-8", "replace")

    # -- nodes

    def create(
        self,
        path: str,
        data: bytes | None = b"",
        acl: Sequence[ACL] = OPEN_ACL,
        *,
        ephemeral: bool = False,
        sequential: bool = False,
        container: bool = False,
        ttl_ms: int = 0,
    ) -> Deferred[str]:
        """
        Make a node.

        @param ephemeral: it goes with the session.
        @param sequential: its name gets a number that grows with each child of its parent.
        @param container: it goes some time after its last child.
        @param ttl_ms: it goes when it had neither changes nor children for so long.
        @return: fires with its path.
        """
        op, record = create_request(
            self._path(path), data, acl, ephemeral=ephemeral, sequential=sequential, container=container, ttl_ms=ttl_ms
        )
        decode = _path_of if op == ops.CREATE else _created
        return self._line.add(op, jute.encode(record), decode, path).addCallback(self._made)

    def create_and_stat(
        self, path: str, data: bytes | None = b"", acl: Sequence[ACL] = OPEN_ACL, **mode: Any
    ) -> Deferred[Created]:
        """Make a node, as L{create}; fires with its path and its stat."""
        op, record = create_request(self._path(path), data, acl, **mode)
        op = ops.CREATE2 if op == ops.CREATE else op
        return self._line.add(op, jute.encode(record), _created, path).addCallback(self._made_with_stat)

    def _made(self, made: proto.PathResponse | proto.Create2Response) -> str:
        return self._name(made.path or b"")

    def _made_with_stat(self, made: proto.Create2Response) -> Created:
        return Created(self._name(made.path or b""), made.stat)

    def ensure_path(self, path: str, acl: Sequence[ACL] = OPEN_ACL) -> Deferred[None]:
        """Make a node and all above it, as far as they are not there."""
        return Deferred.fromCoroutine(self._ensure_path(path, acl))

    async def _ensure_path(self, path: str, acl: Sequence[ACL]) -> None:
        path = (self.chroot + path).rstrip("/")
        # From above: that many requests, but all at once.
        ends = [at for at, letter in enumerate(path) if letter == "/" and at] + [len(path)] * bool(path)
        asked = []
        for end in ends:
            record = proto.CreateRequest(path[:end].encode(), b"", acl, 0)
            asked.append(self._line.add(ops.CREATE, jute.encode(record), answers.nothing, path[:end]))
        try:
            await self._all_made(asked)
        finally:
            for each in asked:
                each.addErrback(lambda failure: None)  # of those that nobody came to wait for

    async def _all_made(self, asked: list[Deferred[None]]) -> None:
        failed: KeeperError | None = None
        for each in asked:
            try:
                await each
            except NodeExistsError:
                failed = None
            except KeeperError as error:
                # Whoever may not create /a may still find /a/b there.
                failed = failed or error
            else:
                failed = None
        if failed is not None:
            raise failed

    def delete(self, path: str, version: int = -1) -> Deferred[None]:
        """Delete a node, if it has this version; any for -1."""
        body = jute.encode(proto.DeleteRequest(self._path(path), version))
        return self._line.add(ops.DELETE, body, answers.nothing, path)

    def set(self, path: str, data: bytes | None, version: int = -1) -> Deferred[Stat]:
        """Give a node other data, if it has this version; any for -1.  Fires with its stat."""
        body = jute.encode(proto.SetDataRequest(self._path(path), data, version))
        return self._line.add(ops.SET_DATA, body, answers.stat, path)

    def get(self, path: str, watch: Watcher | None = None) -> Deferred[GetDataResponse]:
        """
        Read a node.

        @param watch: is told, once, of the next change.
        @return: fires with C{data} and C{stat}.
        """
        return self._get(self._path(path), path, watch)

    def _get(self, raw: bytes, path: str, watch: Watcher | None) -> Deferred[GetDataResponse]:
        if watch is None:
            return self._line.add(ops.GET_DATA, pack_buffer(raw) + _NO_WATCH, answers.get, path)
        note = partial(self._watched, DATA, raw, watch)
        return self._line.add(ops.GET_DATA, pack_buffer(raw) + _WATCH, answers.get, path, note)

    def exists(self, path: str, watch: Watcher | None = None) -> Deferred[Stat | None]:
        """
        Read a node's stat; C{None} where there is no node.

        @param watch: is told, once, of the next change: also that the node was made.
        """
        raw = self._path(path)
        if watch is None:
            return self._line.add(ops.EXISTS, pack_buffer(raw) + _NO_WATCH, answers.stat_or_none, path)
        note = partial(self._watched, DATA, raw, watch)
        return self._line.add(ops.EXISTS, pack_buffer(raw) + _WATCH, answers.stat_or_none, path, self._absent(note, raw,
                              watch))  # fmt: skip

    def children(self, path: str, watch: Watcher | None = None) -> Deferred[list[str]]:
        """
        Read the names of a node's children, in no order.

        @param watch: is told, once, when children come or go, or the node is deleted.
        """
        return self._children(ops.GET_CHILDREN, answers.children, path, watch)

    def children_and_stat(self, path: str, watch: Watcher | None = None) -> Deferred[Children]:
        """Read the names of a node's children, as L{children}, and its stat."""
        return self._children(ops.GET_CHILDREN2, answers.children_and_stat, path, watch)

    def _children(self, op: int, decode: answers.Decoder, path: str, watch: Watcher | None) -> Deferred[Any]:
        raw = self._path(path)
        if watch is None:
            return self._line.add(op, pack_buffer(raw) + _NO_WATCH, decode, path)
        return self._line.add(
            op, pack_buffer(raw) + _WATCH, decode, path, partial(self._watched, CHILD, raw, watch)
        )

    def unwatch(self, path: str, watcher: Watcher) -> None:
        """
        Tell nothing more to somebody who was given to L{get}, L{exists} or L{children} of this path.

        No server is asked: it tells the client, which tells nobody.
        """
        for kind in (DATA, EXIST, CHILD):
            self._watches.remove(kind, self._path(path), watcher)

    def _watched(self, kind: int, raw: bytes, watcher: Watcher, err: int, wanted: bool) -> None:
        if err == 0 and wanted:
            self._watches.add(kind, raw, watcher)

    def _absent(self, note: Note, raw: bytes, watcher: Watcher) -> Note:
        def watched(err: int, wanted: bool) -> None:
            if err != Code.NONODE:
                note(err, wanted)
            elif wanted:
                self._watches.add(EXIST, raw, watcher)

        return watched

    def get_acl(self, path: str) -> Deferred[GetACLResponse]:
        """Read a node's C{acl}, and its C{stat}."""
        return self._line.add(ops.GET_ACL, pack_buffer(self._path(path)), _acl, path)

    def set_acl(self, path: str, acl: Sequence[ACL], version: int = -1) -> Deferred[Stat]:
        """Give a node another ACL, if its ACL has this version; any for -1.  Fires with its stat."""
        body = jute.encode(proto.SetACLRequest(self._path(path), acl, version))
        return self._line.add(ops.SET_ACL, body, answers.stat, path)

    def sync(self, path: str = "/") -> Deferred[None]:
        """Let the server catch up: reads after it show all that was committed before it."""
        return self._line.add(ops.SYNC, pack_buffer(self._path(path)), answers.nothing, path)

    def transaction(self) -> Transaction:
        """Begin to gather operations that are carried out together."""
        return Transaction(self._line, self._path, self._name)

    def reads(self) -> Reads:
        """Begin to gather reads that are made in one request."""
        return Reads(self._line, self._path, self._name)

    def get_ephemerals(self, prefix: str = "/") -> Deferred[list[str]]:
        """Return the paths of this session's ephemeral nodes that begin with C{prefix}."""
        asked = self._line.add(ops.GET_EPHEMERALS, pack_buffer(self._path(prefix)), answers.children, prefix)
        return asked.addCallback(lambda paths: [self._name(path.encode()) for path in paths])

    def get_all_children_number(self, path: str) -> Deferred[int]:
        """Return how many nodes there are below one, on all levels."""
        asked = self._line.add(ops.GET_ALL_CHILDREN_NUMBER, pack_buffer(self._path(path)), _number, path)
        return asked.addCallback(lambda answer: answer.total_number)

    def who_am_i(self) -> Deferred[list[ClientInfo]]:
        """Return the identities that the server has of this connection."""
        asked = self._line.add(ops.WHO_AM_I, b"", _identities)
        return asked.addCallback(lambda answer: list(answer.client_info or ()))

    # -- the ensemble

    def get_config(self, watch: Watcher | None = None) -> Deferred[GetDataResponse]:
        """Read the configuration of the ensemble, as its members keep it; it is outside of any chroot."""
        return self._get(_CONFIG, _CONFIG.decode(), watch)

    def reconfig(
        self,
        joining: str | None = None,
        leaving: str | None = None,
        members: str | None = None,
        from_config: int = -1,
    ) -> Deferred[GetDataResponse]:
        """
        Change the members of the ensemble.

        @param joining: C{server.N=...} lines of those that come or change, with commas between them.
        @param leaving: ids of those that go, likewise.
        @param members: all there are to be, instead of the other two.
        @param from_config: version of the configuration that is to be changed; any for -1.
        @return: fires with the new configuration.
        """
        body = jute.encode(proto.ReconfigRequest(joining, leaving, members, from_config))
        return self._line.add(ops.RECONFIG, body, answers.get, _CONFIG.decode())

    # -- watches that stay

    def add_watch(self, path: str, watcher: Watcher, *, recursive: bool = False) -> Deferred[PersistentWatch]:
        """
        Be told of all changes of a node, its data and its list of children, until the watch is removed.

        The watch outlives connections, but what happens while there is none is never told: who keeps a copy of nodes
        reads them anew each time the client is connected (L{listen}).

        @param watcher: is told; may be an C{async def}.
        @param recursive: be told of all nodes below as well, and then not of lists of children.
        @return: fires when it is set, with what removes it.
        """
        raw = self._path(path)
        kind = RECURSIVE if recursive else PERSISTENT
        mode = ops.WatchMode.PERSISTENT_RECURSIVE if recursive else ops.WatchMode.PERSISTENT
        body = jute.encode(proto.AddWatchRequest(raw, mode))
        note = partial(self._watched, kind, raw, watcher)
        asked = self._line.add(ops.ADD_WATCH, body, answers.nothing, path, note)
        return asked.addCallback(lambda _: PersistentWatch(self, path, watcher, recursive))

    def remove_watches(self, path: str, kind: WatcherType = WatcherType.ANY) -> Deferred[None]:
        """
        Remove all watches of this client at a path.

        @param kind: of which kind; servers before 3.9 know children, data and any.
        @return: fails with L{NoWatcherError<zktwisted.errors.NoWatcherError>} if there are none.
        """
        raw = self._path(path)

        def dropped(err: int, wanted: bool) -> None:
            if err == 0:
                self._watches.drop(raw, kind)

        body = jute.encode(proto.WatchesRequest(raw, kind))
        return self._line.add(ops.REMOVE_WATCHES, body, answers.nothing, path, dropped)

    def check_watches(self, path: str, kind: WatcherType = WatcherType.ANY) -> Deferred[bool]:
        """Tell whether the server knows of watches of this client at a path; C{kind} as for L{remove_watches}."""

        def answered(result: Any) -> bool:
            if result is None:
                return True
            result.trap(NoWatcherError)
            return False

        body = jute.encode(proto.WatchesRequest(self._path(path), kind))
        return self._line.add(ops.CHECK_WATCHES, body, answers.nothing, path).addBoth(answered)

    def _remove(self, path: str, watcher: Watcher, recursive: bool) -> Deferred[None]:
        """Remove one persistent watch."""
        raw = self._path(path)
        kind = RECURSIVE if recursive else PERSISTENT
        if not self._watches.has(kind, raw, watcher):
            return succeed(None)
        self._watches.remove(kind, raw, watcher)
        if self._watches.has(kind, raw) or not self.state.connected:
            # Others still want it, or nobody is there to be told: the next connection will not hear of it.
            return succeed(None)
        return Deferred.fromCoroutine(self._remove_at_server(raw, path, recursive))

    async def _remove_at_server(self, raw: bytes, path: str, recursive: bool) -> None:
        exact = WatcherType.PERSISTENT_RECURSIVE if recursive else WatcherType.PERSISTENT
        try:
            await self._ask_to_remove(raw, path, exact)
        except (NoWatcherError, ConnectionLossError, SessionExpiredError):
            return  # either way it is gone
        except KeeperError as error:
            # Before 3.9 servers know no kind that means only these.  All kinds at this path would do, but others may
            # still want theirs; then the server goes on telling, and nobody listens.
            if not isinstance(error, BadArgumentsError) and error.code != Code.MARSHALLINGERROR:
                raise
            if not self._watches.any_at(raw):
                await self._ask_to_remove(raw, path, WatcherType.ANY)

    def _ask_to_remove(self, raw: bytes, path: str, kind: WatcherType) -> Deferred[None]:
        body = jute.encode(proto.WatchesRequest(raw, kind))
        return self._line.add(ops.REMOVE_WATCHES, body, answers.nothing, path)


def _check(**numbers: float) -> None:
    """@raise ValueError: a number is not more than 0."""
    for name, value in numbers.items():
        if value <= 0:
            raise ValueError(f"{name} is {value}, and has to be more than 0")


class PersistentWatch:
    """
    A watch that stays until it is removed, or its session expires.

    @ivar path: what it watches.
    @ivar recursive: whether all that is below as well.
    """

    def __init__(self, client: ZooKeeperClient, path: str, watcher: Callable[[WatchedEvent], Any], recursive: bool):
        self._client = client
        self._watcher = watcher
        self.path = path
        self.recursive = recursive

    def remove(self) -> Deferred[None]:
        """Tell nothing more: from this moment, whatever the server still sends."""
        return self._client._remove(self.path, self._watcher, self.recursive)
