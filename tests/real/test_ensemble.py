"""An ensemble by one command: what it prints, that it agrees, and how it ends."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kazoo.client import KazooClient

from tests.interop.process import free_port
from tests.real.test_twist import PATIENCE, Launcher, Twist, ask, tcp

SERVER = re.compile(r"Server (\d) serves on (127\.0\.0\.1:\d+) as (leader|follower|observer), data in (\S+)")
MEMBER = re.compile(r"ZooKeeper serves on (\S+) as (\w+) \(server (\d)\), data in \S+ \(zktwisted \S+\)")
LAST = re.compile(r"ZooKeeper serves on (\S+) \(zktwisted \S+\)")


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launcher]:
    """Return what starts the command."""
    launcher = Launcher(tmp_path)
    yield launcher
    for each in launcher.started:
        each.kill()


def lines_of(process: Twist, count: int) -> tuple[list[re.Match[str]], str]:
    """Wait until all serve; the line of each server, and the hosts that clients are to be told."""
    *servers, last = process.line().splitlines()
    matches = [match for match in map(SERVER.fullmatch, servers) if match]
    hosts = LAST.fullmatch(last)
    assert len(matches) == len(servers) == count and hosts is not None, (servers, last)
    return matches, hosts[1]


@pytest.mark.usefixtures("usual_ports")
def test_three_servers(launch: Launcher) -> None:
    """Three servers find a leader, agree on what a client of any of them writes, keep it, and stop with 0."""
    process = launch("--ensemble", "3", "--data-dir", "e")
    servers, hosts = lines_of(process, 3)
    assert hosts == ",".join(server[2] for server in servers)
    assert sorted(server[3] for server in servers) == ["follower", "follower", "leader"]
    assert [Path(server[4]) for server in servers] == [launch.directory / "e" / str(sid) for sid in (1, 2, 3)]
    client = KazooClient(hosts)
    client.start(PATIENCE)
    client.create("/greeting", b"hello")
    client.stop()
    client.close()
    for _, address, role in (server.group(1, 2, 3) for server in servers):
        port = int(address.rpartition(":")[2])
        told = ask(tcp(port), b"mntr").decode()
        assert f"zk_server_state\t{role}\n" in told
        assert "zk_quorum_size\t3\n" in told
        reader = KazooClient(address)
        reader.start(PATIENCE)
        reader.sync("/greeting")
        assert reader.get("/greeting")[0] == b"hello"
        reader.stop()
        reader.close()
    leader = next(server for server in servers if server[3] == "leader")
    told = ask(tcp(int(leader[2].rpartition(":")[2])), b"mntr").decode()
    assert "zk_synced_followers\t2\n" in told
    assert process.stop() == 0

    # The directories belong to the servers for good.
    process = launch("--ensemble", "3", "--data-dir", "e")
    servers, hosts = lines_of(process, 3)
    client = KazooClient(hosts)
    client.start(PATIENCE)
    client.sync("/greeting")
    assert client.get("/greeting")[0] == b"hello"
    client.stop()
    client.close()
    assert process.stop() == 0


@pytest.mark.usefixtures("usual_ports")
def test_observers(launch: Launcher) -> None:
    """A server without a vote follows as well; two ensembles find room beside each other."""
    first = launch("--ensemble", "1", "--observers", "1", "-d", "first")
    servers, hosts = lines_of(first, 2)
    assert [server[3] for server in servers] == ["leader", "observer"]
    second = launch("--ensemble", "1", "-d", "second")
    _, others = lines_of(second, 1)
    assert not set(hosts.split(",")) & set(others.split(","))
    assert [first.stop(), second.stop()] == [0, 0]


@pytest.mark.usefixtures("usual_ports")
def test_unwritable(launch: Launcher) -> None:
    """A server that cannot have its directory ends the ensemble with one line."""
    (launch.directory / "e").write_text("no directory")
    status, said = launch("--ensemble", "3", "-d", "e").end()
    assert status == 3
    assert said.count("\n") == 1 and str(launch.directory / "e" / "1") in said


def members(directory: Path, count: int, *lines: str) -> list[list[str]]:
    """Write a zoo.cfg for each server of an ensemble; the arguments with which each is started."""
    ports = [free_port() for _ in range(2 * count)]
    servers = [f"server.{sid}=127.0.0.1:{ports[2 * sid - 2]}:{ports[2 * sid - 1]}" for sid in range(1, count + 1)]
    common = ["tickTime=500", "initLimit=20", "syncLimit=10", "clientPort=0", "clientPortAddress=127.0.0.1", *lines]
    found = []
    for sid in range(1, count + 1):
        path = directory / f"zoo-{sid}.cfg"
        path.write_text("\n".join([f"dataDir={directory / str(sid)}", *common, *servers]) + "\n")
        found.append(["--myid", str(sid), "--config", str(path)])
    return found


def test_members(launch: Launcher) -> None:
    """Servers in processes of their own form an ensemble; what two agree on, the third has when it comes."""
    arguments = members(launch.directory, 3)
    first = [launch(*each) for each in arguments[:2]]
    matches = [MEMBER.fullmatch(process.line()) for process in first]
    assert {match[2] for match in matches if match} == {"leader", "follower"}
    assert [match[3] for match in matches if match] == ["1", "2"]
    hosts = ",".join(match[1] for match in matches if match)
    client = KazooClient(hosts)
    client.start(PATIENCE)
    client.create("/greeting", b"hello")
    client.stop()
    client.close()
    third = launch(*arguments[2])
    match = MEMBER.fullmatch(third.line())
    assert match is not None and match[2] == "follower"
    reader = KazooClient(match[1])
    reader.start(PATIENCE)
    reader.sync("/greeting")
    assert reader.get("/greeting")[0] == b"hello"
    reader.stop()
    reader.close()
    assert [process.stop() for process in (*first, third)] == [0, 0, 0]


def test_election_port_in_use(launch: Launcher) -> None:
    """A server that cannot have its election port gives up with 14, and says which."""
    (arguments,) = members(launch.directory, 1, "standaloneEnabled=false", "electionPortBindRetry=1")
    text = Path(arguments[-1]).read_text()
    port = int(text.rstrip().rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)):
        status, said = launch(*arguments).end()
    assert status == 14, said
    assert str(port) in said and said.count("\n") == 1


def test_strange_id(launch: Launcher) -> None:
    """A server that is on no line does not start."""
    (arguments, *_) = members(launch.directory, 3)
    status, said = launch("--myid", "7", *arguments[2:]).end()
    assert (status, said.count("\n")) == (1, 1)
    assert "My id 7 not in the peer list" in said


def test_alone(launch: Launcher) -> None:
    """One of three finds no leader: it says so to whoever asks, serves nobody, and stops in order all the same."""
    port = free_port()
    first, *_ = members(launch.directory, 3, f"clientPort={port}")
    process = launch(*first)
    answers = (ask(link, b"srvr") for link in attempts(port))
    assert next(answers) == b"This ZooKeeper instance is not currently serving requests\n"
    assert process.process.poll() is None
    assert process.stop() == 0


def attempts(port: int) -> Iterator[socket.socket]:
    """Try to connect until it can be done."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            yield tcp(port)
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, "nobody listens"
