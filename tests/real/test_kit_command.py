"""A test server in a process of its own, and the orders that it takes by HTTP: what tests in any language have."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

from tests.real.kit import CONNECTED, LOST, PATIENCE, SUSPENDED, States, new_client
from zktwisted.kit.command import main
from zktwisted.kit.control import VERBS

ROOT = Path(__file__).parent.parent.parent

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return what starts the command with some options."""
    started: list[subprocess.Popen[str]] = []

    def start(*options: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "zktwisted.kit", *options],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with process:
            process.terminate()


def line_of(process: subprocess.Popen[str]) -> str:
    """Read a line of what it says."""
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


class Orders:
    """What a program in another language would do."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, verb: str, method: str = "GET", body: bytes | None = None, **headers: str) -> tuple[int, Any]:
        """Send a request; return the status and what is in the answer."""
        request = urllib.request.Request(f"{self.url}{verb}", data=body, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.status, json.load(answer)
        except HTTPError as refused:
            with refused:
                return refused.code, json.load(refused)

    def get(self, verb: str) -> Any:
        """Ask for something."""
        status, answer = self.ask(verb)
        assert status == 200, answer
        return answer["result"]

    def post(self, verb: str, **arguments: Any) -> Any:
        """Give an order."""
        status, answer = self.ask(verb, "POST", json.dumps(arguments).encode())
        assert status == 200, answer
        return answer["result"]

    def refused(self, verb: str, body: str) -> str:
        """Give an order that is none; return what is wrong with it."""
        status, answer = self.ask(verb, "POST", body.encode())
        assert status == 400, answer
        error: str = answer["error"]
        return error


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Orders]]:
    """Return the connect string of a server in another process, and who gives it orders."""
    process = subprocess.Popen(
        [sys.executable, "-m", "zktwisted.kit", "--print-port"],
        cwd=tmp_path_factory.mktemp("server"),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield f"127.0.0.1:{int(line_of(process))}", Orders(f"http://127.0.0.1:{int(line_of(process))}/")
    finally:
        process.terminate()
        assert process.wait(PATIENCE) == 0
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture
def orders(server: tuple[str, Orders]) -> Orders:
    """Return who gives orders to a server that is as new."""
    server[1].post("reset")
    return server[1]


@pytest.fixture
def client(server: tuple[str, Orders], orders: Orders) -> Iterator[KazooClient]:
    """Return a client that is connected."""
    client = new_client(server[0])
    client.start(timeout=PATIENCE)
    yield client
    client.stop()
    client.close()


# -- orders


def test_status(server: tuple[str, Orders], orders: Orders) -> None:
    """It tells where it is, and what it is."""
    assert orders.get("") == orders.get("status")
    assert orders.get("status") == {"hosts": server[0], "modes": {"1": "standalone"}, "leader": 1}


def test_fail(orders: Orders, client: KazooClient) -> None:
    """The next request fails, by name, for somebody in another process."""
    client.create("/a")
    orders.post("fail", code="NONODE", op="getData", path="/a")
    with pytest.raises(NoNodeError):
        client.get("/a")
    client.get("/a")
    orders.post("fail", code=-101, times=-1)
    with pytest.raises(NoNodeError):
        client.get("/a")
    orders.post("heal")
    client.get("/a")


def test_sessions(orders: Orders, client: KazooClient) -> None:
    """Sessions and what they have can be seen, and ended, by their ids as text."""
    states = States(client)
    session = f"0x{client.client_id[0]:x}"
    client.create("/mine", ephemeral=True)
    client.exists("/mine", watch=print)
    assert orders.get("sessions") == [session]
    assert orders.get("ephemerals") == {session: ["/mine"]}
    assert orders.get("watches") == {"/mine": [session]}
    assert orders.post("expire", session=session) == 1
    states.wait(SUSPENDED, LOST, CONNECTED)
    assert orders.get("ephemerals") == {}
    assert orders.post("expire") == 1
    states.wait(SUSPENDED, LOST, CONNECTED)


def test_connections(server: tuple[str, Orders], orders: Orders, client: KazooClient) -> None:
    """Connections break and are refused."""
    states = States(client)
    orders.post("reject")
    assert orders.post("drop", session=f"0x{client.client_id[0]:x}") == 1
    states.wait(SUSPENDED)
    orders.post("reject", rejecting=False)
    states.wait(CONNECTED)
    orders.post("drop_on", op="exists", answered=True)
    client.exists_async("/")
    states.wait(SUSPENDED, CONNECTED)


def test_delay(orders: Orders, client: KazooClient) -> None:
    """Answers are late, until all is healed."""
    orders.post("delay", seconds=3600, op="exists")
    late = client.exists_async("/")
    orders.get("sessions")
    assert not late.ready()
    orders.post("heal")
    assert late.get(timeout=PATIENCE)


def test_the_server_itself(server: tuple[str, Orders], orders: Orders, client: KazooClient) -> None:
    """It becomes read-only, stops, and starts."""
    states = States(client)
    orders.post("read_only")
    states.wait(SUSPENDED)
    assert orders.get("status")["modes"] == {"1": "read-only"}
    orders.post("read_only", read_only=False)
    states.wait(CONNECTED)
    orders.post("stop_member", member=1)
    states.wait(SUSPENDED)
    orders.post("start_member", member=1)
    states.wait(CONNECTED)


def test_record(orders: Orders, client: KazooClient) -> None:
    """What clients ask is told."""
    orders.post("record")
    client.create("/a")
    client.exists("/b")
    orders.post("stop_recording")
    client.exists("/c")
    session = f"0x{client.client_id[0]:x}"
    assert orders.get("requests") == [
        {"op": "create", "path": "/a", "paths": ["/a"], "session": session, "code": 0, "error": "OK"},
        {"op": "exists", "path": "/b", "paths": ["/b"], "session": session, "code": -101, "error": "NONODE"},
    ]
    orders.post("record")
    assert orders.get("requests") == []


def test_chroot(orders: Orders) -> None:
    """Each test may have a root of its own."""
    client = new_client(orders.post("chroot"))
    client.start(timeout=PATIENCE)
    assert client.get_children("/") == []
    client.stop()
    client.close()


def test_nonsense(orders: Orders) -> None:
    """What is wrong with an order is told in a sentence, and the server goes on."""
    assert orders.refused("fail", "{}") == "code is missing"
    assert orders.refused("fail", "{").startswith("that is no JSON")
    assert orders.refused("fail", "[]") == "a JSON object is needed, of arguments by name"
    assert orders.refused("fail", '{"code": "X"}').startswith("there is no code 'X'; there are OK")
    assert orders.refused("fail", '{"code": 1.5}') == "code: a code or its name is needed"
    assert orders.refused("fail", '{"code": 4711}') == "4711 is not a valid Code"
    assert orders.refused("delay", '{"seconds": "1"}') == "seconds: a number is needed"
    assert orders.refused("delay", '{"second": 1}').startswith("there is no argument 'second'; there are seconds, op")
    assert orders.refused("drop", '{"member": true}') == "member: a whole number is needed"
    assert orders.refused("drop", '{"session": "x"}').startswith("session: a session is needed")
    assert orders.refused("drop_on", '{"op": 5}') == "op: a string is needed"
    assert orders.refused("reject", '{"rejecting": 1}') == "rejecting: true or false is needed"
    assert orders.refused("partition", '{"groups": [1]}').startswith("groups: a list of lists of members is needed")
    assert orders.refused("partition", '{"groups": [[1]]}').startswith("this is one server, no ensemble")
    assert orders.refused("expire", '{"session": "0x5"}') == "there is no session 0x5"
    assert orders.refused("fail", '{"path": "' + "x" * 70000 + '"}').startswith("more than")
    assert orders.post("drop") == 0


def test_wrong_door(orders: Orders) -> None:
    """What is not there, is asked the wrong way, or by a page in a browser, is refused."""
    assert orders.ask("nothing")[0] == 404
    assert "there is no 'nothing'; there are reset, heal" in orders.ask("nothing")[1]["error"]
    assert orders.ask("reset") == (405, {"error": "reset wants POST"})
    assert orders.ask("status", "POST", b"") == (405, {"error": "status wants GET"})
    assert orders.ask("status", Origin="http://example.org")[0] == 403
    assert orders.ask("status", Host="example.org")[0] == 403
    assert orders.ask("status", Host="localhost:1")[0] == 200


def test_reference() -> None:
    """The page of the documentation has every verb, every argument and what each does."""
    page = (ROOT / "docs" / "reference" / "test-control.md").read_text(encoding="utf-8")
    for name, verb in VERBS.items():
        row = next((line for line in page.splitlines() if line.startswith(f"| `{verb.method} /{name}` |")), None)
        assert row is not None, name
        assert verb.does in row
        assert all(f"`{argument}`" in row for argument in verb.takes), row


# -- the command


def test_ends_by_signal(start: Start) -> None:
    """SIGTERM and SIGINT end it, and that is no failure."""
    for number in signal.SIGTERM, signal.SIGINT:
        process = start("--print-port", "--no-control")
        port = int(line_of(process))
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE):
            process.send_signal(number)
            out, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, out, err) == (0, "", "")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))


def test_ends_with_its_caller(start: Start) -> None:
    """With --until-eof it ends when who has started it does, even if that was killed."""
    process = start("--print-port", "--until-eof")
    int(line_of(process))
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(PATIENCE) == 0


def test_ensemble(start: Start) -> None:
    """Several servers, with a port for each; a partition and another leader by HTTP."""
    process = start("--print-port", "--members", "3", "--set", "tickTime=400")
    ports = line_of(process).split(",")
    orders = Orders(f"http://127.0.0.1:{line_of(process)}/")
    assert len(ports) == 3
    leader = orders.get("status")["leader"]
    assert orders.post("new_leader") != leader
    orders.post("partition", groups=[[1], [2, 3]])
    status = orders.get("status")
    assert status["modes"]["1"] in ("looking", "read-only")
    assert status["leader"] in (2, 3)
    orders.post("heal")
    assert sorted(orders.get("status")["modes"].values()) == ["follower", "follower", "leader"]
    with socket.create_connection(("127.0.0.1", int(ports[0])), timeout=PATIENCE) as asking:
        asking.sendall(b"conf")
        answer = b"".join(iter(lambda: asking.recv(4096), b""))
    assert b"tickTime=400\n" in answer


def test_json(start: Start) -> None:
    """All that a client needs, in one line; the files are there as long as the server is."""
    process = start("--print-json", "--tls", "--sasl", "ann:secret")
    told = json.loads(line_of(process))
    options = {"mechanism": "DIGEST-MD5", "username": "ann", "password": "secret"}
    files = told["tls"]
    for client in (
        new_client(told["hosts"], sasl_options=options),
        new_client(
            told["tls_hosts"], use_ssl=True, ca=files["ca"], certfile=files["certificate"], keyfile=files["key"]
        ),
    ):
        client.start(timeout=PATIENCE)
        client.stop()
        client.close()
    assert Orders(told["control"]).get("status")["tls"] == files
    process.terminate()
    assert process.wait(PATIENCE) == 0
    assert not os.path.exists(files["ca"])


def test_for_people(start: Start) -> None:
    """Without options it tells a person where it is."""
    process = start("--tls")
    assert line_of(process).startswith("Serving on 127.0.0.1:")
    assert line_of(process).startswith("With TLS on 127.0.0.1:")
    assert line_of(process).startswith("  ca: /")
    assert line_of(process).startswith("  certificate: /")
    assert line_of(process).startswith("  key: /")
    assert line_of(process).startswith("Orders at http://127.0.0.1:")


def test_cannot_start(capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be is told in a line, with an exit status; nothing is left of it, nor of who else wants signals."""
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for options, status, words in (
            (["--port", port], 1, "Address already in use"),
            (["--control-port", port], 1, "Address already in use"),
            (["--set", "tickTime=-1"], 1, "tickTime"),
            (["--members", "0"], 1, "no ensemble"),
            (["--port", "70000"], 2, "70000 is no port"),
            (["--port", port, "--members", "3"], 2, "an ensemble takes free ports"),
            (["--sasl", "ann"], 2, "a name and a password"),
            (["--print-port", "--print-json"], 2, "not allowed with"),
        ):
            try:
                ended = main(options)
            except SystemExit as leaving:  # argparse's
                ended = leaving.code  # type: ignore[assignment]
            said = capsys.readouterr()
            assert (ended, said.out) == (status, ""), said.err
            assert words in said.err
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
