"""
Real work by kazoo: what its users do all day works, and fails as they know it.

Every test keeps to a chroot of its own on one shared server; those that end servers start their own.
"""

from __future__ import annotations

import socket
import struct
from collections import namedtuple
from collections.abc import Iterator
from typing import Any

import pytest
from kazoo.client import KazooClient, KazooState
from kazoo.exceptions import (
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
from kazoo.protocol.serialization import (
    Create,
    Create2,
    MultiHeader,
    Transaction,
    int_struct,
    long_struct,
    write_buffer,
    write_string,
)
from kazoo.protocol.states import EventType
from kazoo.security import (
    OPEN_ACL_UNSAFE,
    make_acl,
    make_digest_acl,
)

from tests.interop.clients.kazoos import WAIT, Connect, Told, client_of, connecting
from tests.interop.conftest import MakeServer
from tests.interop.ensembles import until
from tests.interop.process import HOST, ServerProcess


@pytest.fixture
def connect(server: ServerProcess, request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Return a maker of started clients below the test's own chroot."""
    with connecting(server, "/" + request.node.name) as make:
        yield make


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
        raw_request(dying, struct.pack(">iqiqi", 0, 0, 6000, 0, 16) + bytes(17))
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


def test_watches_and_session_survive_a_crash_of_the_server(make_server: MakeServer) -> None:
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
        watch = client.ChildrenWatch("/")
        watch(lambda names: children(sorted(names)))
        for end in (server.kill9, server.stop):
            end()
            states.until(lambda values: values[-1:] == [KazooState.SUSPENDED])
            server.start()
            states.until(lambda values: values[-1:] == [KazooState.CONNECTED])
            # kazoo does that in a thread of its own, and takes it for done if the next end comes in the middle of it.
            until(lambda: watch._watch_established, lambda: "the children are watched again")
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


class CreateTTLWithChild(namedtuple("CreateTTLWithChild", "path ttl")):
    """Both by one transaction, so that the node is at no time without its child."""

    type = Transaction.type

    def serialize(self) -> bytes:
        """Return the bytes of a multi."""
        operations = (CreateTTL(self.path, self.ttl), Create(f"{self.path}/child", b"", OPEN_ACL_UNSAFE, 0))
        parts = [MultiHeader(operation.type, False, -1).serialize() + operation.serialize() for operation in operations]
        return b"".join(parts) + MultiHeader(-1, True, -1).serialize()

    @staticmethod
    def deserialize(data: bytes, offset: int) -> list[object]:
        """Leave its results alone; that there is no error says enough."""
        return []


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
    call(client, CreateTTLWithChild(chroot + "/parent", 1))
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
