"""A test ensemble and what can be done to its members, as kazoo's clients see it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kazoo.exceptions import NoAuthError, NotReadOnlyCallError

from tests.real.kit import CONNECTED, LOST, PATIENCE, SUSPENDED, MakeClient, States, connecting, new_client
from zktwisted.testing import TestEnsemble, TestServer


@pytest.fixture(scope="module")
def shared() -> Iterator[TestEnsemble]:
    """Return an ensemble for all tests of this module."""
    with TestEnsemble() as ensemble:
        yield ensemble


@pytest.fixture
def ensemble(shared: TestEnsemble) -> TestEnsemble:
    """Return it as if it had just been started."""
    shared.clean()
    return shared


@pytest.fixture
def connect(ensemble: TestEnsemble) -> Iterator[MakeClient]:
    """Return a maker of clients that are connected."""
    yield from connecting(ensemble)


def test_is_an_ensemble(ensemble: TestEnsemble, connect: MakeClient) -> None:
    """Three servers, one of which leads; what one has agreed to, another has."""
    assert sorted(ensemble.modes().values()) == ["follower", "follower", "leader"]
    assert ensemble.modes()[ensemble.leader() or 0] == "leader"
    assert ensemble.hosts == ",".join(ensemble.hosts_of(member) for member in (1, 2, 3))
    connect(ensemble.hosts_of(1)).create("/a", b"x")
    other = connect(ensemble.hosts_of(2))
    other.sync("/")
    assert other.get("/a")[0] == b"x"


def test_clean(ensemble: TestEnsemble, connect: MakeClient) -> None:
    """For the next test there is nothing, and all are there."""
    connect().create("/a")
    ensemble.stop_member(1)
    ensemble.partition([2], [3])
    ensemble.clean()
    assert sorted(ensemble.modes().values()) == ["follower", "follower", "leader"]
    assert connect().get_children("/") == ["zookeeper"]


def test_new_leader(ensemble: TestEnsemble, connect: MakeClient) -> None:
    """Another one leads, and the session goes on."""
    client = connect()
    client.create("/mine", b"x", ephemeral=True)
    session = client.client_id
    old = ensemble.leader()
    new = ensemble.new_leader()
    assert new != old
    assert ensemble.leader() == new
    assert ensemble.modes()[old or 0] == "follower"
    assert client.retry(client.get, "/mine")[0] == b"x"
    assert client.client_id == session


def test_stop_and_start(ensemble: TestEnsemble, connect: MakeClient) -> None:
    """With one member less all goes on, and it catches up."""
    client = connect()
    stopped = ensemble.leader() or 0
    ensemble.stop_member(stopped)
    assert ensemble.modes()[stopped] == "stopped"
    client.retry(client.create, "/a", b"x")
    ensemble.start_member(stopped)
    other = connect(ensemble.hosts_of(stopped))
    other.sync("/")
    assert other.get("/a")[0] == b"x"


def test_all_stop_and_start(ensemble: TestEnsemble, connect: MakeClient) -> None:
    """What they have survives the stop of all."""
    client = connect()
    client.create("/a", b"x")
    session = client.client_id
    for member in 1, 2, 3:
        ensemble.stop_member(member)
    for member in 1, 2, 3:
        ensemble.start_member(member)
    assert client.retry(client.get, "/a")[0] == b"x"
    assert client.client_id == session


def test_partition(ensemble: TestEnsemble, connect: MakeClient) -> None:
    """Who has a majority goes on without the others, who serve nobody; healed, all have the same."""
    client = connect(ensemble.hosts_of(1))
    states = States(client)
    ensemble.partition([1], [2, 3])
    states.wait(SUSPENDED)
    assert ensemble.modes()[1] in ("looking", "read-only")
    assert ensemble.leader() in (2, 3)
    connect(ensemble.hosts_of(2)).create("/a", b"x")
    ensemble.heal()
    states.wait(CONNECTED)
    client.sync("/")
    assert client.get("/a")[0] == b"x"


def test_old_leader_cut_off(ensemble: TestEnsemble, connect: MakeClient) -> None:
    """A leader without a majority leads nobody."""
    old = ensemble.leader() or 0
    others = [member for member in (1, 2, 3) if member != old]
    ensemble.partition([old], others)
    assert ensemble.leader() in others
    connect(",".join(map(ensemble.hosts_of, others))).create("/a")


def test_read_only(ensemble: TestEnsemble, connect: MakeClient) -> None:
    """Without a quorum reads alone are served, as a real ensemble does it."""
    connect().create("/a", b"x")
    ensemble.read_only()
    assert set(ensemble.modes().values()) == {"read-only"}
    client = connect(read_only=True)
    assert client.get("/a")[0] == b"x"
    with pytest.raises(NotReadOnlyCallError):
        client.set("/a", b"y")
    ensemble.read_only(False)
    connect().set("/a", b"y")


def test_expire_wherever_it_is(ensemble: TestEnsemble, connect: MakeClient) -> None:
    """A session ends on all members, to whichever its client is connected."""
    for member in 1, 2, 3:
        client = connect(ensemble.hosts_of(member))
        client.create("/mine", ephemeral=True)
        states = States(client)
        ensemble.expire(client)
        states.wait(SUSPENDED, LOST, CONNECTED)
        assert client.exists("/mine") is None
        client.stop()


def test_drop_and_reject_one_member(ensemble: TestEnsemble, connect: MakeClient) -> None:
    """What is done to one member's clients does not touch the others'."""
    client, other = connect(ensemble.hosts_of(1)), connect(ensemble.hosts_of(2))
    states = States(client)
    ensemble.reject(member=1)
    assert ensemble.drop(member=1) == 1
    states.wait(SUSPENDED)
    assert other.connected
    client.set_hosts(ensemble.hosts)
    states.wait(CONNECTED)


def test_faults_on_any_member(ensemble: TestEnsemble, connect: MakeClient) -> None:
    """The next request fails, on whichever member it comes; a recording has those of all."""
    one, two = connect(ensemble.hosts_of(1)), connect(ensemble.hosts_of(2))
    ensemble.fail("NOAUTH", op="create")
    with ensemble.record() as recording:
        with pytest.raises(NoAuthError):
            two.create("/a")
        one.create("/a")
    assert [each.session for each in recording.requests] == [two.client_id[0], one.client_id[0]]


def test_leaks_on_any_member(ensemble: TestEnsemble, connect: MakeClient) -> None:
    """Watches of all members are seen, and each ephemeral node once."""
    one, two = connect(ensemble.hosts_of(1)), connect(ensemble.hosts_of(2))
    one.create("/mine", ephemeral=True)
    two.sync("/")
    two.get("/mine", watch=print)
    one.exists("/mine", watch=print)
    assert {path: sorted(sessions) for path, sessions in ensemble.watches().items()} == {
        "/mine": sorted((one.client_id[0], two.client_id[0]))
    }
    assert ensemble.ephemerals() == {one.client_id[0]: ["/mine"]}


def test_nonsense(ensemble: TestEnsemble) -> None:
    """What cannot be is refused with a sentence."""
    with pytest.raises(ValueError, match="there is no member 4; there are 1, 2, 3"):
        ensemble.partition([1, 4])
    with pytest.raises(ValueError, match="there is no member 0"):
        ensemble.hosts_of(0)
    ensemble.stop_member(1)
    with pytest.raises(ValueError, match="no majority"):
        ensemble.new_leader()
    with TestServer() as server, pytest.raises(ValueError, match="no ensemble"):
        server.new_leader()


def test_observer() -> None:
    """An observer has no vote, and serves."""
    with TestEnsemble(2, observers=1) as ensemble:
        assert sorted(ensemble.modes().values()) == ["follower", "leader", "observer"]
        client = new_client(ensemble.hosts_of(3))
        client.start(timeout=PATIENCE)
        client.create("/a")
        client.stop()
        client.close()
