"""
Real work by kazoo: what its users do all day works, and fails as they know it.

Every test keeps to a chroot of its own on one shared server; those that end servers start their own.
"""

from __future__ import annotations

import contextlib
import datetime
import socket
import struct
import threading
from collections import namedtuple
from collections.abc import Callable, Iterator
from typing import Any

import pytest

kazoo = pytest.importorskip("kazoo", reason="kazoo is not installed; pip install kazoo")

from kazoo.client import KazooClient, KazooState  # noqa: E402
from kazoo.exceptions import (  # noqa: E402
    AuthFailedError,
    BadArgumentsError,
    BadVersionError,
    ConnectionLoss,
    KazooException,
    NoAuthError,
    NoChildrenForEphemeralsError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    RolledBackError,
    RuntimeInconsistency,
)
from kazoo.protocol.serialization import (  # noqa: E402
    Create2,
    int_struct,
    long_struct,
    write_buffer,
    write_string,
)
from kazoo.protocol.states import EventType  # noqa: E402
from kazoo.recipe.cache import TreeCache, TreeEvent  # noqa: E402
from kazoo.security import (  # noqa: E402
    OPEN_ACL_UNSAFE,
    make_acl,
    make_digest_acl,
)

from tests.interop.process import HOST, ServerProcess  # noqa: E402

WAIT = 20.0
RETRY = {"max_tries": -1, "delay": 0.05, "backoff": 1, "max_delay": 0.2}

Connect = Callable[..., KazooClient]


@pytest.fixture
def connect(server: ServerProcess, request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Return a maker of started clients below the test's own chroot."""
    clients: list[KazooClient] = []
    chroot = "/" + request.node.name.replace("[", "-").replace("]", "")
    with client_of(server) as maker:
        maker.ensure_path(chroot)

    def make(chroot: str = chroot, **options: Any) -> KazooClient:
        client = KazooClient(hosts(server) + chroot, timeout=10.0, connection_retry=RETRY, **options)
        clients.append(client)
        client.start(WAIT)
        return client

    yield make
    for client in clients:
        close(client)


@contextlib.contextmanager
def client_of(server: ServerProcess, **options: Any) -> Iterator[KazooClient]:
    """Give a client of one server, closed at the end."""
    client = KazooClient(hosts(server), timeout=10.0, connection_retry=RETRY, **options)
    client.start(WAIT)
    try:
        yield client
    finally:
        close(client)


def hosts(server: ServerProcess) -> str:
    """Return the connection string of a server."""
    return f"{HOST}:{server.port}"


def close(client: KazooClient) -> None:
    """End a client's session and its threads."""
    client.stop()
    client.close()


class Told:
    """A callback that remembers what it was told, and can be waited for."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._changed = threading.Condition()

    def __call__(self, *values: Any) -> None:
        with self._changed:
            self.values.append(values[0] if len(values) == 1 else values)
            self._changed.notify_all()

    def until(self, check: Callable[[list[Any]], object]) -> list[Any]:
        """Wait until ``check`` likes the values told so far, and return them."""
        with self._changed:
            if not self._changed.wait_for(lambda: check(self.values), WAIT):
                raise AssertionError(f"after {WAIT} s only this was told: {self.values}")
            return list(self.values)


# -- nodes ------------------------------------------------------------------------------------------------------------


def test_create_read_change_delete(connect: Connect) -> None:
    """The life of a node shows the versions, lengths and zxids that it should."""
    client = connect()
    assert client.create("/node", b"one") == "/node"
    data, born = client.get("/node")
    assert data == b"one"
    assert (born.version, born.cversion, born.aversion, born.dataLength, born.numChildren) == (0, 0, 0, 3, 0)
    assert born.czxid == born.mzxid == born.pzxid
    assert born.ctime == born.mtime

    changed = client.set("/node", b"four")
    assert (changed.version, changed.dataLength, changed.czxid) == (1, 4, born.czxid)
    assert changed.mzxid > born.mzxid
    assert client.exists("/node") == changed

    client.create("/node/child", b"")
    parent = client.exists("/node")
    assert (parent.cversion, parent.numChildren, parent.mzxid) == (1, 1, changed.mzxid)
    assert parent.pzxid > changed.mzxid
    assert client.get("/node/child")[0] == b""

    client.delete("/node/child")
    assert client.exists("/node").cversion == 2
    client.delete("/node", version=1)
    assert client.exists("/node") is None


def test_refusals(connect: Connect) -> None:
    """Each refused request raises the exception of its code and leaves the tree as it was."""
    client = connect()
    client.create("/a/b/c", b"x", makepath=True)
    with pytest.raises(NodeExistsError):
        client.create("/a/b", b"")
    with pytest.raises(NoNodeError):
        client.create("/none/child", b"")
    with pytest.raises(NotEmptyError):
        client.delete("/a/b")
    with pytest.raises(BadVersionError):
        client.set("/a/b/c", b"y", version=7)
    with pytest.raises(BadVersionError):
        client.delete("/a/b/c", version=7)
    for absent in (client.get, client.get_children, client.get_acls, client.delete):
        with pytest.raises(NoNodeError):
            absent("/none")
    assert client.exists("/none") is None
    assert client.get("/a/b/c")[0] == b"x"
    client.delete("/a", recursive=True)
    assert client.get_children("/") == []


def test_create_answers_with_the_stat(connect: Connect) -> None:
    """create2 answers with the path and the stat that a read gives."""
    client = connect()
    path, stat = client.create("/with-stat", b"data", include_data=True)
    assert path == "/with-stat"
    assert stat == client.exists("/with-stat")
    path, stat = client.create("/seq-", b"", sequence=True, ephemeral=True, include_data=True)
    assert path == "/seq-0000000001"
    assert stat.ephemeralOwner == client.client_id[0]


def test_names_outside_ascii(connect: Connect) -> None:
    """Paths of any script come back as they were given."""
    client = connect()
    names = ["Grüße", "日本", "with space", "e\u0301"]
    for name in names:
        assert client.create("/" + name, name.encode()) == "/" + name
    assert sorted(client.get_children("/")) == sorted(names)
    assert client.get("/日本")[0] == "日本".encode()
    with pytest.raises(BadArgumentsError):
        client.create("/beyond-the-basic-plane-\U0001f600", b"")


def test_sequences(connect: Connect) -> None:
    """Sequence numbers rise without repeating, also after deletion and when several clients draw them."""
    one, two = connect(), connect()
    one.create("/queue", b"")
    drawn = [
        result.get(WAIT)
        for result in [c.create_async("/queue/item-", b"", sequence=True) for _ in range(50) for c in (one, two)]
    ]
    assert sorted(drawn) == [f"/queue/item-{number:010d}" for number in range(100)]
    for path in drawn:
        one.delete(path)
    assert one.create("/queue/item-", b"", sequence=True) == "/queue/item-0000000100"
    assert one.create("/queue/", b"", sequence=True) == "/queue/0000000101"


def test_large_data_and_its_limit(connect: Connect) -> None:
    """Nearly a mebibyte goes through; beyond the limit the connection is closed and the session lives on."""
    client = connect()
    large = bytes(range(256)) * 4000
    client.create("/large", large)
    assert client.get("/large")[0] == large
    session = client.client_id
    with pytest.raises((ConnectionLoss, ConnectionError)):
        client.create_async("/larger", b"x" * (1 << 20)).get(WAIT)
    assert client.retry(client.exists, "/larger") is None
    assert client.client_id == session


def test_many_children(connect: Connect) -> None:
    """Five thousand children are created in pipelines and listed at once."""
    client = connect()
    client.create("/many", b"")
    names = [f"child-with-a-name-of-some-length-{number}" for number in range(5000)]
    for result in [client.create_async("/many/" + name, b"") for name in names]:
        result.get(WAIT)
    children, stat = client.get_children("/many", include_data=True)
    assert sorted(children) == sorted(names)
    assert (stat.numChildren, stat.cversion) == (5000, 5000)
    for result in [client.delete_async("/many/" + name) for name in names]:
        result.get(WAIT)
    assert client.get_children("/many") == []
    assert client.exists("/many").cversion == 10000


def test_answers_keep_the_order_of_requests(connect: Connect) -> None:
    """Reads and writes sent in one pipeline see each other in the order in which they were sent."""
    client = connect()
    client.create("/counter", b"0")
    results = []
    for number in range(1, 200):
        results.append((number, client.set_async("/counter", str(number).encode()), client.get_async("/counter")))
    for number, written, read in results:
        assert written.get(WAIT).version == number
        data, stat = read.get(WAIT)
        assert (data, stat.version) == (str(number).encode(), number)


def test_sync(connect: Connect) -> None:
    """sync answers with the path it was given."""
    client = connect()
    assert client.sync("/") == "/"


# -- transactions -----------------------------------------------------------------------------------------------------


def test_transaction_commits(connect: Connect) -> None:
    """All operations of a transaction happen, in order, with one zxid."""
    client = connect()
    client.create("/old", b"")
    transaction = client.transaction()
    transaction.create("/a", b"1")
    transaction.create("/a/seq-", b"", sequence=True)
    transaction.create("/e", b"", ephemeral=True)
    transaction.set_data("/a", b"2")
    transaction.check("/a", 1)
    transaction.delete("/old")
    created, sequential, ephemeral, changed, checked, deleted = transaction.commit()
    assert (created, sequential, ephemeral, checked, deleted) == ("/a", "/a/seq-0000000000", "/e", True, True)
    assert (changed.version, changed.dataLength) == (1, 1)
    assert changed.czxid == changed.mzxid == client.exists("/e").czxid
    assert client.exists("/old") is None
    assert client.transaction().commit() == []


def test_transaction_rolls_back(connect: Connect) -> None:
    """One refused operation undoes all; the results name the culprit, those before it and those after."""
    client = connect()
    transaction = client.transaction()
    transaction.create("/a", b"")
    transaction.set_data("/none", b"")
    transaction.create("/b", b"")
    before, culprit, after = transaction.commit()
    assert (type(before), type(culprit), type(after)) == (RolledBackError, NoNodeError, RuntimeInconsistency)
    assert client.get_children("/") == []
    for operation, error in [
        (lambda t: t.check("/", 99), BadVersionError),
        (lambda t: t.delete("/none"), NoNodeError),
        (lambda t: t.create("/x/y", b""), NoNodeError),
    ]:
        transaction = client.transaction()
        operation(transaction)
        assert [type(result) for result in transaction.commit()] == [error]


# -- watches ----------------------------------------------------------------------------------------------------------


def test_watches_fire_once_each(connect: Connect) -> None:
    """Data, existence and child watches tell the event they wait for, once."""
    watcher, actor = connect(), connect()
    actor.create("/node", b"")
    data, births, children = Told(), Told(), Told()
    watcher.get("/node", watch=data)
    watcher.exists("/later", watch=births)
    watcher.get_children("/node", watch=children)

    actor.set("/node", b"1")
    actor.set("/node", b"2")
    actor.create("/later", b"")
    actor.create("/node/child", b"")
    actor.create("/node/another", b"")
    assert [(e.type, e.path) for e in births.until(len)] == [(EventType.CREATED, "/later")]
    assert [(e.type, e.path) for e in children.until(len)] == [(EventType.CHILD, "/node")]

    gone = Told()
    watcher.get("/later", watch=gone)
    actor.delete("/later")
    assert [(e.type, e.path) for e in gone.until(len)] == [(EventType.DELETED, "/later")]
    assert [(e.type, e.path) for e in data.values] == [(EventType.CHANGED, "/node")]
    assert len(children.values) == 1


def test_an_event_comes_before_the_reply_that_shows_the_change(connect: Connect) -> None:
    """A client that reads the new data has been told of the change before."""
    watcher, actor = connect(), connect()
    actor.create("/node", b"0")
    for number in range(1, 30):
        told = Told()
        seen = watcher.get("/node", watch=told)[0]
        assert seen == str(number - 1).encode()
        actor.set("/node", str(number).encode())
        watcher.sync("/")
        assert watcher.get("/node")[0] == str(number).encode()
        told.until(len)


# -- sessions ---------------------------------------------------------------------------------------------------------


def test_ephemerals_go_with_their_session(connect: Connect) -> None:
    """Ephemeral nodes carry their owner, refuse children, and go when the session is closed."""
    owner, other = connect(), connect()
    owner.create("/e", b"", ephemeral=True)
    owner.create("/seq-", b"", ephemeral=True, sequence=True)
    assert other.exists("/e").ephemeralOwner == owner.client_id[0]
    with pytest.raises(NoChildrenForEphemeralsError):
        other.create("/e/child", b"")
    gone = Told()
    other.get("/e", watch=gone)
    owner.stop()
    assert gone.until(len)[0].type == EventType.DELETED
    assert other.get_children("/") == []


def test_a_session_expires(connect: Connect, server: ServerProcess, request: pytest.FixtureRequest) -> None:
    """A session whose client has vanished without a word is ended and its ephemerals with it."""
    other = connect()
    with socket.create_connection((HOST, server.port), WAIT) as dying:
        raw_request(dying, struct.pack(">iqiqi", 0, 0, 1000, 0, 16) + bytes(17))
        path = f"/{request.node.name}/e".encode()
        create = struct.pack(f">iii{len(path)}si", 1, 1, len(path), path, 0)
        answer = raw_request(dying, create + struct.pack(">iii5si6si", 1, 31, 5, b"world", 6, b"anyone", 1))
        assert answer[16:] == struct.pack(">i", len(path)) + path
        gone = Told()
        assert other.exists("/e", watch=gone).ephemeralOwner
    assert gone.until(len)[0].type == EventType.DELETED


def raw_request(connection: socket.socket, body: bytes) -> bytes:
    """Send one frame and return the one that answers it (the header: xid, zxid, error)."""
    connection.sendall(struct.pack(">i", len(body)) + body)
    stream = connection.makefile("rb")
    return stream.read(struct.unpack(">i", stream.read(4))[0])


def test_a_dead_session_is_refused(connect: Connect) -> None:
    """A client that comes back for a closed session is told that it is lost, and is given a new one."""
    first = connect()
    dead = first.client_id
    first.stop()
    second = connect(client_id=dead)
    assert second.exists("/") is not None
    assert second.client_id != dead


def test_watches_and_session_survive_a_crash_of_the_server(make_server: Callable[..., ServerProcess]) -> None:
    """After ``kill -9`` and a new start a client has its session, ephemerals and watches as before."""
    server = make_server()
    server.start()
    with client_of(server) as client:
        session = client.client_id
        states, told, children = Told(), Told(), Told()
        client.add_listener(states)
        client.create("/node", b"before")
        client.create("/e", b"mine", ephemeral=True)
        client.DataWatch("/node")(lambda data, stat: told(data))
        client.ChildrenWatch("/")(lambda names: children(sorted(names)))
        for end in (server.kill9, server.stop):
            end()
            states.until(lambda values: values[-1:] == [KazooState.SUSPENDED])
            server.start()
            states.until(lambda values: values[-1:] == [KazooState.CONNECTED])
        assert KazooState.LOST not in states.values
        assert client.client_id == session
        assert client.get("/e")[1].ephemeralOwner == session[0]
        client.set("/node", b"after")
        told.until(lambda values: values[-1] == b"after")
        client.create("/new", b"")
        children.until(lambda values: "new" in values[-1])
        with client_of(server) as other:
            assert other.exists("/e") is not None


def test_a_change_missed_while_away_is_told_on_return(connect: Connect) -> None:
    """A lasting watch of a client that was cut off tells it on return what it missed."""
    away, actor = connect(), connect()
    actor.create("/node", b"0")
    told = Told()
    away.DataWatch("/node")(lambda data, stat: told(data))
    told.until(len)
    away._connection._socket.shutdown(socket.SHUT_RDWR)
    actor.set("/node", b"1")
    told.until(lambda values: values[-1] == b"1")


def test_chroot(connect: Connect, request: pytest.FixtureRequest) -> None:
    """Below a chroot paths, children and events are relative to it."""
    client = connect()
    client.create("/a/b", b"", makepath=True)
    below = connect(f"/{request.node.name}/a")
    told = Told()
    assert below.get_children("/", watch=told) == ["b"]
    assert below.create("/c", b"") == "/c"
    assert told.until(len)[0].path == "/"
    assert sorted(client.get_children("/a")) == ["b", "c"]


# -- access -----------------------------------------------------------------------------------------------------------


def test_digest_acls(connect: Connect) -> None:
    """Only the user named by an ACL may do what it grants; everybody may read what is open."""
    owner, stranger = connect(), connect()
    owner.add_auth("digest", "ann:secret")
    mine = make_digest_acl("ann", "secret", all=True)
    open_to_read = make_acl("world", "anyone", read=True)
    owner.create("/mine", b"data", acl=[mine])
    owner.create("/readable", b"data", acl=[mine, open_to_read])
    for attempt in (
        lambda: stranger.get("/mine"),
        lambda: stranger.set("/readable", b""),
        lambda: stranger.create("/readable/child", b""),
        lambda: stranger.get_children("/mine"),
        lambda: stranger.set_acls("/readable", OPEN_ACL_UNSAFE),
    ):
        with pytest.raises(NoAuthError):
            attempt()
    assert stranger.get("/readable")[0] == b"data"
    assert owner.exists("/mine").dataLength == 4
    acls, stat = owner.get_acls("/readable")
    assert acls == [mine, open_to_read]
    stranger.add_auth("digest", "ann:secret")
    assert stranger.get("/mine")[0] == b"data"
    assert owner.set_acls("/mine", OPEN_ACL_UNSAFE).aversion == stat.aversion + 1
    with pytest.raises(BadVersionError):
        owner.set_acls("/mine", [mine], version=9)


def test_auth_survives_a_reconnection(connect: Connect) -> None:
    """kazoo repeats its credentials when it comes back, and may then do what it could."""
    client = connect(auth_data=[("digest", "bob:pw")])
    client.create("/mine", b"", acl=[make_digest_acl("bob", "pw", all=True)])
    states = Told()
    client.add_listener(states)
    client._connection._socket.shutdown(socket.SHUT_RDWR)
    states.until(lambda values: values[-2:] == [KazooState.SUSPENDED, KazooState.CONNECTED])
    assert client.retry(client.get, "/mine")[0] == b""


def test_super_user(connect: Connect) -> None:
    """The super user of the configuration passes every ACL; a wrong password does not."""
    owner, pretender, root = connect(), connect(), connect()
    owner.add_auth("digest", "ann:secret")
    owner.create("/mine", b"", acl=[make_digest_acl("ann", "secret", all=True)])
    pretender.add_auth("digest", "super:guess")
    with pytest.raises(NoAuthError):
        pretender.set("/mine", b"")
    root.add_auth("digest", "super:secret")
    assert root.set("/mine", b"1").version == 1
    root.delete("/mine")


def test_unknown_auth_scheme(connect: Connect) -> None:
    """Credentials of a scheme that the server does not have are refused."""
    client = connect()
    with pytest.raises((AuthFailedError, ConnectionLoss)):
        client.add_auth_async("nonsense", "x").get(WAIT)


def test_ip_acls(connect: Connect) -> None:
    """ACLs by address match single addresses and prefixes."""
    client = connect()
    client.create("/here", b"", acl=[make_acl("ip", "127.0.0.1", read=True)])
    client.create("/net", b"", acl=[make_acl("ip", "127.0.0.0/8", read=True)])
    client.create("/elsewhere", b"", acl=[make_acl("ip", "10.0.0.0/8", read=True)])
    assert client.get("/here")[0] == client.get("/net")[0] == b""
    with pytest.raises(NoAuthError):
        client.get("/elsewhere")
    with pytest.raises(NoAuthError):
        client.set("/here", b"")


# -- containers and time to live (kazoo has no call for them; its connection carries the requests) --------------------


class CreateContainer(namedtuple("CreateContainer", "path")):
    """createContainer with the open ACL and no data."""

    type = 19
    flags = 4

    def serialize(self) -> bytes:
        """Return path, data, ACL and flags as the protocol wants them."""
        acl = int_struct.pack(1) + int_struct.pack(31) + write_string("world") + write_string("anyone")
        return write_string(self.path) + write_buffer(b"") + acl + int_struct.pack(self.flags)

    deserialize = Create2.deserialize


class CreateTTL(namedtuple("CreateTTL", "path ttl")):
    """createTTL of a persistent node."""

    type = 21
    flags = 5

    def serialize(self) -> bytes:
        """Return the bytes of a container's request with the time to live after it."""
        return CreateContainer.serialize(self) + long_struct.pack(self.ttl)

    deserialize = Create2.deserialize


def call(client: KazooClient, request: Any) -> Any:
    """Send a request that kazoo has no method for."""
    result = client.handler.async_result()
    client._call(request, result)
    return result.get(WAIT)


def test_containers_go_with_their_last_child(connect: Connect, request: pytest.FixtureRequest) -> None:
    """A container is deleted after its last child; one that never had any stays."""
    client = connect()
    chroot = f"/{request.node.name}"
    call(client, CreateContainer(chroot + "/never-used"))
    path, stat = call(client, CreateContainer(chroot + "/container"))
    assert path == chroot + "/container"
    assert stat.ephemeralOwner == 0
    gone = Told()
    client.exists("/container", watch=gone)
    client.create("/container/child", b"")
    client.delete("/container/child")
    assert gone.until(len)[0].type == EventType.DELETED
    assert client.exists("/never-used") is not None


def test_time_to_live(connect: Connect, request: pytest.FixtureRequest) -> None:
    """A node with a time to live goes when it has not been changed for that long, unless it has children."""
    client = connect()
    chroot = f"/{request.node.name}"
    call(client, CreateTTL(chroot + "/parent", 1))
    client.create("/parent/child", b"")
    call(client, CreateTTL(chroot + "/long", 3600000))
    _path, stat = call(client, CreateTTL(chroot + "/short", 300))
    assert stat.ephemeralOwner == 0
    gone = Told()
    if client.exists("/short", watch=gone):
        assert gone.until(len)[0].type == EventType.DELETED
    assert client.exists("/long") is not None
    assert client.exists("/parent/child") is not None


# -- four-letter words and configuration ------------------------------------------------------------------------------


def test_four_letter_words(connect: Connect) -> None:
    """kazoo's command() and server_version() understand the answers."""
    client = connect()
    assert client.command(b"ruok") == "imok"
    assert "Mode: standalone" in client.command(b"srvr")
    assert "zk_num_alive_connections\t" in client.command(b"mntr")
    assert "clientPort=" in client.command(b"conf")
    version = client.server_version()
    assert version[0] == 3 and version[1] >= 8


def test_reconfig_is_refused(connect: Connect) -> None:
    """A standalone server refuses reconfig with an error and goes on."""
    client = connect()
    with pytest.raises(KazooException):
        client.reconfig(joining="server.9=127.0.0.1:1:2:participant;3", leaving=None, new_members=None)
    assert client.exists("/") is not None


# -- recipes ----------------------------------------------------------------------------------------------------------


def in_threads(*jobs: Callable[[], None]) -> None:
    """Run the jobs at once and wait for all; the first exception is raised here."""
    errors: list[BaseException] = []

    def run(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:  # noqa: BLE001 (raised again in the thread of the test)
            errors.append(error)

    threads = [threading.Thread(target=run, args=(job,), daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
        assert not thread.is_alive(), "a job hangs"
    if errors:
        raise errors[0]


def test_lock(connect: Connect) -> None:
    """Of several clients one at a time holds a lock; its holder can be read and it can be had without waiting."""
    clients = [connect() for _ in range(3)]
    inside: list[int] = []
    order: list[int] = []

    def job(number: int) -> Callable[[], None]:
        def work() -> None:
            for _ in range(5):
                with clients[number].Lock("/lock", f"client-{number}"):
                    inside.append(number)
                    assert inside == [number]
                    order.append(number)
                    inside.remove(number)

        return work

    in_threads(*[job(number) for number in range(3)])
    assert len(order) == 15
    held = clients[0].Lock("/lock", "holder")
    assert held.acquire()
    assert not clients[1].Lock("/lock", "other").acquire(blocking=False)
    assert clients[1].Lock("/lock").contenders() == ["holder"]
    held.release()


def test_read_write_lock(connect: Connect) -> None:
    """Readers share; a writer waits for them."""
    one, two = connect(), connect()
    reading = one.ReadLock("/lock", "r1")
    also_reading = two.ReadLock("/lock", "r2")
    assert reading.acquire() and also_reading.acquire()
    assert not two.WriteLock("/lock", "w").acquire(blocking=False)
    reading.release()
    also_reading.release()
    assert two.WriteLock("/lock", "w").acquire(timeout=WAIT)


def test_semaphore(connect: Connect) -> None:
    """No more leases than agreed are given out; a lease given back, or lost with its session, can be had again."""
    one, two, three = connect(), connect(), connect()
    leases = [client.Semaphore("/semaphore", name, max_leases=2) for client, name in ((one, "1"), (two, "2"))]
    assert all(lease.acquire(timeout=WAIT) for lease in leases)
    third = three.Semaphore("/semaphore", "3", max_leases=2)
    assert not third.acquire(blocking=False)
    assert third.lease_holders() == {"1", "2"} or sorted(third.lease_holders()) == ["1", "2"]
    two.stop()
    assert third.acquire(timeout=WAIT)
    leases[0].release()


def test_election(connect: Connect) -> None:
    """Every contender leads once, one after another."""
    clients = [connect() for _ in range(3)]
    leaders: list[str] = []

    def job(number: int) -> Callable[[], None]:
        def lead() -> None:
            leaders.append(str(number))

        return lambda: clients[number].Election("/election", str(number)).run(lead)

    in_threads(*[job(number) for number in range(3)])
    assert sorted(leaders) == ["0", "1", "2"]


def test_queues(connect: Connect) -> None:
    """A queue gives each item once, by priority then order; a locking queue only after consumption."""
    producer, consumer = connect(), connect()
    queue = producer.Queue("/queue")
    for number in range(20):
        queue.put(str(number).encode(), priority=50 if number < 10 else 40)
    taken = [consumer.Queue("/queue").get() for _ in range(20)]
    assert taken == [str(number).encode() for number in [*range(10, 20), *range(10)]]
    assert consumer.Queue("/queue").get() is None

    locking = producer.LockingQueue("/locking")
    locking.put_all([b"a", b"b"])
    other = consumer.LockingQueue("/locking")
    assert locking.get(WAIT) == b"a"
    assert other.get(WAIT) == b"b"
    assert locking.consume() and other.consume()
    assert len(locking) == 0


def test_counter(connect: Connect) -> None:
    """Increments from several clients at once are all counted."""
    clients = [connect() for _ in range(3)]
    clients[0].Counter("/counter").value  # noqa: B018 (the node is made by its first reading)

    def job(client: KazooClient) -> Callable[[], None]:
        def count() -> None:
            counter = client.Counter("/counter")
            for _ in range(10):
                counter += 2
                counter -= 1

        return count

    in_threads(*[job(client) for client in clients])
    assert clients[0].Counter("/counter").value == 30
    real = clients[0].Counter("/real", default=1.0)
    real += 0.5
    assert real.value == 1.5


def test_barriers(connect: Connect) -> None:
    """A barrier holds until removed; a double barrier is entered and left together."""
    one, two = connect(), connect()
    barrier = one.Barrier("/barrier")
    barrier.create()
    assert not two.Barrier("/barrier").wait(0)
    in_threads(lambda: two.Barrier("/barrier").wait(WAIT), barrier.remove)
    assert two.Barrier("/barrier").wait(0)

    steps: list[str] = []

    def job(client: KazooClient, name: str) -> Callable[[], None]:
        def work() -> None:
            double = client.DoubleBarrier("/double", 2, name)
            double.enter()
            steps.append("in")
            double.leave()
            steps.append("out")

        return work

    in_threads(job(one, "one"), job(two, "two"))
    assert sorted(steps) == ["in", "in", "out", "out"]
    assert steps[0] == "in"


def test_parties(connect: Connect) -> None:
    """Members of a party are seen by the others and go when they leave or die."""
    one, two = connect(), connect()
    party, other = one.Party("/party", "one"), two.Party("/party", "two")
    party.join()
    other.join()
    assert sorted(party) == ["one", "two"]
    two.stop()
    assert list(party) == ["one"]
    party.leave()
    assert len(party) == 0
    shallow = one.ShallowParty("/shallow", "me")
    shallow.join()
    assert len(shallow) == 1


def test_partitioner(connect: Connect) -> None:
    """A set is divided among its members without overlap."""
    one, two = connect(), connect()
    items = tuple(range(7))
    parts = [
        client.SetPartitioner("/parts", items, identifier=name, time_boundary=0.1)
        for name, client in (("one", one), ("two", two))
    ]

    def settled() -> bool:
        for part in parts:
            if part.release:
                part.release_set()
            elif part.allocating:
                part.wait_for_acquire(0.1)
        return all(part.acquired for part in parts) and len([*parts[0], *parts[1]]) == len(items)

    for _ in range(100):
        if settled():
            break
    assert sorted([*parts[0], *parts[1]]) == list(items)
    for part in parts:
        part.finish()


def test_data_and_children_watches(connect: Connect) -> None:
    """The lasting watches of kazoo follow a node through birth, changes, death and rebirth."""
    watcher, actor = connect(), connect()
    data, children = Told(), Told()
    watcher.DataWatch("/node")(lambda value, stat: data(value))
    data.until(lambda values: values == [None])
    expected: list[bytes | None] = [None]
    for step in (b"1", b"2", None, b"3"):
        if step is None:
            actor.delete("/node")
        elif actor.exists("/node"):
            actor.set("/node", step)
        else:
            actor.create("/node", step)
        expected.append(step)
        data.until(lambda values: values == expected)
    watcher.ChildrenWatch("/node")(lambda names: children(sorted(names)))
    for names in (["a"], ["a", "b"], ["b"]):
        if len(names) == 1 and names == ["b"]:
            actor.delete("/node/a")
        else:
            actor.create("/node/" + names[-1], b"")
        children.until(lambda values, names=names: values[-1] == names)


def test_tree_cache(connect: Connect) -> None:
    """A tree cache mirrors a whole subtree and tells what happened to it."""
    watcher, actor = connect(), connect()
    actor.create("/root/a/b", b"1", makepath=True)
    told = Told()
    cache = TreeCache(watcher, "/root")
    cache.listen(lambda event: told((event.event_type, event.event_data.path if event.event_data else None)))
    cache.start()
    told.until(lambda values: (TreeEvent.INITIALIZED, None) in values)
    assert cache.get_data("/root/a/b").data == b"1"
    actor.create("/root/c", b"2")
    told.until(lambda values: (TreeEvent.NODE_ADDED, "/root/c") in values)
    actor.set("/root/a/b", b"3")
    told.until(lambda values: (TreeEvent.NODE_UPDATED, "/root/a/b") in values)
    actor.delete("/root/a/b")
    told.until(lambda values: (TreeEvent.NODE_REMOVED, "/root/a/b") in values)
    assert cache.get_children("/root") == {"a", "c"}
    cache.close()


def test_leases(connect: Connect) -> None:
    """A non-blocking lease is had by one client at a time."""
    one, two = connect(), connect()
    hour = datetime.timedelta(hours=1)
    assert one.NonBlockingLease("/lease", hour, identifier="one")
    assert not two.NonBlockingLease("/lease", hour, identifier="two")
    assert one.NonBlockingLease("/lease", hour, identifier="one")
