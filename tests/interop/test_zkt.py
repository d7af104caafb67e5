"""
The command ``zkt`` as a process: beside Java's zkCli, in scripts, between Java's servers and ours, at a terminal.

What both command lines can do has to look the same, line by line. What differs on purpose is masked: the words of
errors, and what zkCli tells of its own connection.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import zktwisted
from tests.authority import Authority
from tests.interop import test_zkcli
from tests.interop.clients import servers
from tests.interop.clients.proxy import Relay
from tests.interop.conftest import MakeEnsemble, MakeServer
from tests.interop.process import HOST, ServerProcess, free_port
from zktwisted.zkt.status import Status

SECONDS = 120.0
MODULE = "org.apache.zookeeper.server.auth.DigestLoginModule"
PROVIDER = "org.apache.zookeeper.server.auth.SASLAuthenticationProvider"
EXTENDED = {"zookeeper.extendedTypesEnabled": "true"}

# Lines of the script that one of the two answers otherwise on purpose: help and usage, an ACL with a typing error (of
# which zkCli sets the letters that it knows), what 3.8 has no options for, and a session that zkCli loses.
OTHERWISE = re.compile(
    r"help|setAcl /node world:anyone:xyz|nonsense|ls|get|create|ls -x /|addauth (digest|nonsense x)|history"
    r"|@UNTIL state:AuthFailed"
    r"|addWatch -m NONSENSE .*"
)
NOT_IN_38 = re.compile(r"get -[bx] .*|set -b .*")
# What zkCli says where something is refused; only that it is refused has to be the same.
REFUSALS = re.compile(
    r".*does not exist(\.|: .*)|Node (already exists|not empty): .*|TTLs cannot .*|ttl must .*|Path must .*"
    r"|Ephemerals cannot .*|Acl is not valid .*|Invalid path .*|version No .*|Insufficient permission .*|Quota has .*"
    r"|.* has a parent .* which has a quota|KeeperErrorCode = .*|Arguments are not valid .*|Command index .*"
    r"|Not connected"
)
OURS_REFUSED = re.compile(r"[A-Za-z]+: .*\S")
OWN_WORDS = ("Connecting to", "Welcome to", "JLine support", "KeeperErrorCode = InvalidACL")


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a command: nothing of the user's, and the package that is tested."""
    here = str(Path(zktwisted.__file__).resolve().parent.parent)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ZKT_", "NO_COLOR"))}
    paths = [here, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(paths), "TZ": "UTC", "ZKT_HISTORY": "", **more}


def command(server: ServerProcess | None, *words: str) -> list[str]:
    """Return the command line that does something at a server."""
    where = [] if server is None else ["--server", f"{HOST}:{server.port}"]
    return [sys.executable, "-m", "zktwisted.zkt", *where, *words]


def zkt(
    server: ServerProcess | None, *words: str, status: int = 0, given: bytes = b"", **more: str
) -> subprocess.CompletedProcess[bytes]:
    """Run the command once, and expect a status; whatever happens there is no traceback."""
    done = subprocess.run(
        command(server, *words), input=given, capture_output=True, timeout=SECONDS, check=False, env=environment(**more)
    )
    assert done.returncode == status, (words, done.stdout[-2000:], done.stderr)
    assert b"Traceback" not in done.stderr, done.stderr
    return done


def shown(server: ServerProcess, *words: str, status: int = 0) -> str:
    """Run the command once, and return what it shows."""
    return zkt(server, *words, status=status).stdout.decode()


def tree(server: ServerProcess, path: str) -> str:
    """Return how another command names a node of a server."""
    return f"zk://{HOST}:{server.port}{path}"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, ServerProcess]]:
    """Return a Java server and one of ours, both running, which the tests share."""
    kinds = {"java": servers.JAVA_380, "ours": servers.OURS}
    servers.need_java(servers.JAVA_380)
    made = {
        name: servers.make_server(kind, tmp_path_factory.mktemp(name), properties=EXTENDED)
        for name, kind in kinds.items()
    }
    for server in made.values():
        server.start()
    yield made
    for server in made.values():
        server.stop()
    assert not servers.failures(made["ours"])


# -- beside zkCli


def as_compared(output: str) -> tuple[list[str], list[str]]:
    """Return the lines that both have to print, and the events of nodes."""
    lines, events = test_zkcli.masked(output)
    found: list[str] = []
    for line in lines:
        if line.startswith(OWN_WORDS):
            continue
        found.append("<refused>" if REFUSALS.fullmatch(line) or OURS_REFUSED.fullmatch(line) else line)
    kept = [re.sub(r" zxid: .*", "", event) for event in events]
    return found, [event for event in kept if "type:None" not in event and "WatchRemoved" not in event]


@pytest.mark.parametrize("release", test_zkcli.RELEASES)
def test_beside_zkcli(release: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Led through the same commands at the same kind of server, both print the same, and the same events."""
    servers.need_java(release)
    script = tmp_path / "script"
    left_out = [OTHERWISE] + [NOT_IN_38] * (release == servers.JAVA_380)
    lines = test_zkcli.SCRIPT.read_text("utf-8").splitlines()
    lines = [line for line in lines if not any(pattern.fullmatch(line) for pattern in left_out)]
    script.write_text("\n".join(lines) + "\n", "utf-8")
    printed: list[str] = []
    monkeypatch.setattr(test_zkcli, "SCRIPT", script)
    monkeypatch.setattr(test_zkcli, "masked", lambda output: (printed.append(output), ([], []))[1])
    for server in test_zkcli.running(release, tmp_path / "reference"):
        test_zkcli.transcript(release, server)
    monkeypatch.undo()
    for server in test_zkcli.running(release, tmp_path / "tested"):
        text = "".join(f"{line}\n" for line in lines if not line.startswith("@UNTIL "))
        text = text.replace("@SERVER@", f"{HOST}:{server.port}")
        done = subprocess.run(
            command(server), input=text.encode(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=SECONDS, check=False, env=environment(),
        )  # fmt: skip
        printed.append(done.stdout.decode())
    (expected, expected_events), (found, events) = map(as_compared, printed)
    assert found == expected
    assert events == expected_events
    assert len(found) > 250
    assert len(events) > 10


def test_reconfig_and_config(make_ensemble: MakeEnsemble) -> None:
    """Of an ensemble of Java's, which alone can be changed while it runs: the same configuration as zkCli shows."""
    servers.need_java(servers.JAVA_380)
    settings = {"reconfigEnabled": "true", "skipACL": "yes"}
    ensemble = make_ensemble({1: servers.JAVA_380, 2: servers.JAVA_380, 3: servers.JAVA_380}, config=settings)
    ensemble.start()
    member = ensemble.members[1]
    theirs = test_zkcli.spoken(test_zkcli.run(servers.JAVA_380, member, "config", "-s").stdout)
    ours = shown(member, "config", "-s").splitlines()
    assert len(ours) == 15
    assert ours == theirs[len(theirs) - len(ours) :]
    # Not the leader: where it goes, its followers look for another, and may not tell their clients what was committed.
    gone, stays = ("3", "2") if ensemble.leader() != 3 else ("2", "3")
    changed = shown(member, "reconfig", "-remove", gone)
    assert changed.startswith("Committed new configuration:\nserver.1=")
    assert f"server.{gone}=" not in changed
    value = json.loads(shown(member, "config", "--json"))
    assert sorted(value["servers"]) == ["1", stays]
    refused = zkt(member, "reconfig", "-v", "1", "-remove", stays, status=Status.CONFLICT)
    assert b"version" in refused.stderr


# -- in scripts


def test_single_commands(pair: Mapping[str, ServerProcess]) -> None:
    """Each kind of end has its status and one line; below a chroot, with credentials, from the environment."""
    server = pair["ours"]
    shown(server, "create", "/one", "data")
    where = f"{HOST}:{server.port}/one"
    assert zkt(None, "create", "-e", "/in", "x", ZKT_SERVER=where).stdout == b"Created /in\n"
    assert zkt(None, "-server", where, "-timeout", "5000", "-waitforconnection", "ls", "/").stdout == b"[]\n"
    for words, status, line in (
        (("get", "/none"), Status.NO_NODE, "get: /none: there is no such node"),
        (("create", "/one"), Status.CONFLICT, "create: /one: the node exists already (change its data with set)"),
        (("gte", "/"), Status.USAGE, "there is no command 'gte' (did you mean get? help lists all commands)"),
        (("create", "/big", "-f", "/no/such"), Status.LOCAL, "create: /no/such: No such file or directory"),
    ):
        done = zkt(server, *words, status=status)
        assert (done.stdout, done.stderr.decode()) == (b"", f"zkt: {line}\n")
    assert b"Created /mine" in zkt(server, "--auth", "digest:a:b", "create", "/mine", "x", "auth::cdrwa").stdout
    assert b"/mine" in zkt(server, "get", "/mine", status=Status.DENIED).stderr
    assert zkt(server, "get", "/mine", ZKT_AUTH="digest:a:b").stdout == b"x\n"


@pytest.mark.parametrize("kind", ["ours", "java"])
def test_scripts(pair: Mapping[str, ServerProcess], kind: str) -> None:
    """Commands come from standard input; after one that failed the script goes on, unless told otherwise."""
    script = b"create /two data\nget /two\nget /none\nversion\nquit\nget /two\n"
    done = zkt(pair[kind], given=script, status=Status.NO_NODE)
    assert done.stdout.startswith(b"Created /two\ndata\nZooKeeper CLI version: zkt ")
    assert done.stdout.count(b"\n") == 3
    assert done.stderr == b"get: /none: there is no such node\n"
    done = zkt(pair[kind], "-e", given=script, status=Status.CONFLICT)
    assert (done.stdout, done.stderr.count(b"\n")) == (b"", 1)
    done = zkt(pair[kind], "--auth", "nonsense:top-secret", "ls", status=Status.DENIED)
    assert b"credentials" in done.stderr
    assert b"top-secret" not in done.stderr


def test_no_server() -> None:
    """Where nobody listens it says so at once, and ends."""
    port = free_port()
    done = zkt(None, "-s", f"{HOST}:{port}", "ls", status=Status.NO_CONNECTION)
    assert b"refused" in done.stderr
    assert done.stderr.count(b"\n") == 1
    zkt(None, "-s", f"{HOST}:x", "ls", status=Status.USAGE)


def test_lost_connection(pair: Mapping[str, ServerProcess]) -> None:
    """What is followed is followed through a lost connection, and the user told."""
    relay = Relay(pair["ours"].port)
    try:
        with running(None, "-s", f"{HOST}:{relay.port}", "watch", "/lost", "-n", "1", "--json") as following:
            following.until("watching /lost")
            relay.cut()
            following.until("the connection is lost")
            relay.heal()
            following.until("connected again")
            shown(pair["ours"], "create", "/lost")
            assert following.process.wait(SECONDS) == 0
            assert json.loads(following.process.stdout.read())["path"] == "/lost"  # type: ignore[union-attr]
    finally:
        relay.close()


def test_signals_and_readers(pair: Mapping[str, ServerProcess]) -> None:
    """Ctrl-C, SIGTERM and a reader that goes away end it, with the status that belongs to it, and without noise."""
    for number, status in ((signal.SIGINT, Status.INTERRUPTED), (signal.SIGTERM, Status.TERMINATED)):
        with running(pair["ours"], "watch", "/") as following:
            following.until("watching /")
            following.process.send_signal(number)
            assert following.process.wait(SECONDS) == status
            assert following.until("interrupted").endswith("zkt: watch: interrupted\n")
    many = "".join(f'{{"path": "{number}"}}\n' for number in range(5000))
    given = b'{"format": "zktwisted-tree", "version": 1}\n{"path": ""}\n' + many.encode()
    zkt(pair["ours"], "import", "-", "/many", given=given)
    with running(pair["ours"], "find", "/many", "-l") as found:
        assert found.process.stdout is not None
        assert found.process.stdout.readline()
        found.process.stdout.close()
        assert found.process.wait(SECONDS) == Status.PIPE
        assert found.rest() == ""
    shown(pair["ours"], "deleteall", "/many")
    with open("/dev/full", "wb") as full:
        ended = subprocess.run(
            command(pair["ours"], "ls"), stdout=full, stderr=subprocess.PIPE, timeout=SECONDS, check=False,
            env=environment(),
        )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (Status.LOCAL, b"zkt: ls: No space left on device\n")


class Running:
    """
    A command that goes on.

    @ivar process: it.
    """

    def __init__(self, server: ServerProcess | None, *words: str) -> None:
        self.process = subprocess.Popen(
            command(server, *words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
        )
        self._told = ""
        self._watchdog = threading.Timer(SECONDS, self.process.kill)
        self._watchdog.start()

    def until(self, words: str) -> str:
        """Wait until it has told something; return all that it has told."""
        assert self.process.stderr is not None
        while words not in self._told:
            line = self.process.stderr.readline().decode()
            assert line, self._told
            self._told += line
        return self._told

    def rest(self) -> str:
        """Return what else it told."""
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: Any) -> None:
        self._watchdog.cancel()
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


def running(server: ServerProcess | None, *words: str) -> Running:
    """Start a command that goes on."""
    return Running(server, *words)


# -- trees


def archive(path: Path, nodes: int) -> None:
    """Write an export with so many nodes: odd names, bytes of all kinds, ACLs, nulls."""
    odd = ["with blank", "100%", "%value", ".hidden", "\u00fc\u4e2d", "quote'\"", "back\\slash", "a" * 200]
    with path.open("w", encoding="utf-8") as file:

        def put(**value: Any) -> None:
            file.write(json.dumps(value) + "\n")

        put(format="zktwisted-tree", version=1)
        put(path="", data=None)
        count = 1
        for name in odd:
            put(path=name, data="AP+ADQo=", encoding="base64", acl=["ip:127.0.0.1:cdrwa", "world:anyone:r"])
            put(path=f"{name}/{name}", data="x\ny", acl=["world:anyone:r"])
            count += 2
        for number in range(nodes - count):
            if number % 100 == 0:
                put(path=f"n{number // 100:04}", data="")
            else:
                put(path=f"n{number // 100:04}/{number % 100:02}", data=f"value {number}")


def test_there_and_back(pair: Mapping[str, ServerProcess], tmp_path: Path) -> None:
    """Ten thousand nodes go into Java's server, from there to ours, into a directory, and are the same everywhere."""
    java, ours = pair["java"], pair["ours"]
    first = tmp_path / "first.ndjson"
    archive(first, 10_000)
    assert shown(java, "import", str(first), "/big/tree") == "10,000 created\n"
    assert shown(java, "cp", "/big/tree", tree(ours, "/big")) == "10,000 created\n"
    assert shown(ours, "getAllChildrenNumber", "/big") == "9999\n"
    directory = tmp_path / "directory"
    assert "10,000 nodes" in shown(ours, "export", "/big", str(directory))
    assert shown(java, "diff", f"file:{directory}", "/big/tree") == ""
    assert shown(ours, "diff", f"file:{first}", "/big") == ""


def test_copies(pair: Mapping[str, ServerProcess], tmp_path: Path) -> None:
    """cp, mirror and diff, from each kind of server to the other."""
    first = tmp_path / "first.ndjson"
    archive(first, 60)
    for name, source, target in (("/x", pair["java"], pair["ours"]), ("/y", pair["ours"], pair["java"])):
        shown(source, "import", str(first), name)
        shown(source, "cp", name, tree(target, name))
        script = f"set {name}/n0000/01 changed\ncreate -p {name}/extra/deep\ndelete {name}/n0000/02\n"
        zkt(target, given=script.encode())
        different = shown(source, "diff", "-t", name, tree(target, name), status=Status.DIFFERENT)
        assert "! /n0000/01  data 7 B -> 7 B\n    @@ -1 +1 @@\n    -value 1\n    +changed\n- /n0000/02\n" in different
        assert different.startswith("+ /extra\n+ /extra/deep\n")
        done = shown(source, "mirror", name, tree(target, name))
        assert done == "1 created, 1 changed, 2 deleted, 58 the same\n"
        assert shown(source, "diff", name, tree(target, name)) == ""


def test_exports(pair: Mapping[str, ServerProcess], tmp_path: Path) -> None:
    """export, import and diff by way of each format, from Java's server to ours."""
    first = tmp_path / "first.ndjson"
    archive(first, 60)
    shown(pair["java"], "import", str(first), "/z")
    for form in ("a.json", "a.ndjson", "directory"):
        shown(pair["java"], "export", "/z", str(tmp_path / form))
        shown(pair["ours"], "import", str(tmp_path / form), f"/{form}")
        assert shown(pair["ours"], "diff", f"/{form}", tree(pair["java"], "/z")) == ""
    again = zkt(pair["java"], "export", "/z").stdout
    assert again == (tmp_path / "a.ndjson").read_bytes()
    zkt(pair["ours"], "import", "-", "/z", given=again)
    assert shown(pair["ours"], "diff", "-q", "/z", f"file:{first}") == ""


# -- credentials


def test_tls_and_sasl(make_server: MakeServer, tmp_path: Path) -> None:
    """By TLS with a certificate of our own, and by SASL, as the options say; and what is told when they are wrong."""
    authority = Authority(tmp_path / "authority")
    port = free_port()
    users = tmp_path / "jaas"
    users.write_text(f'Server {{ {MODULE} required user_bob="secret"; }};', "utf-8")
    server = make_server(
        servers.OURS,
        config={
            "secureClientPort": str(port),
            "ssl.keyStore.location": str(authority.identity("server", ["127.0.0.1"]).store),
            "ssl.trustStore.location": str(authority.trust),
        },
        properties={"java.security.auth.login.config": str(users), "zookeeper.authProvider.sasl": PROVIDER},
    )
    server.start()
    own = str(authority.identity("client").store)
    secure = ("-s", f"{HOST}:{port}", "--ca", str(authority.trust))
    assert b"x509: CN=client" in zkt(None, *secure, "--cert", own, "whoami").stdout
    refused = zkt(None, "-s", f"{HOST}:{port}", "--tls", "--cert", own, "ls", status=Status.NO_CONNECTION)
    assert b"certificate" in refused.stderr.lower()
    assert b"no certificate in PEM" in zkt(None, *secure, "--cert", str(users), "ls", status=Status.LOCAL).stderr
    password = tmp_path / "password"
    password.write_text("bob:secret\n", "utf-8")
    assert "sasl: bob\n" in shown(server, "--sasl-file", str(password), "whoami")
    password.write_text("bob:wrong\n", "utf-8")
    assert b"wrong" not in zkt(server, "--sasl-file", str(password), "whoami", status=Status.DENIED).stderr


# -- at a terminal

# Makes the terminal that it is given its own, so that Ctrl-C there is a signal here.
STARTER = (
    "import fcntl, os, runpy, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "sys.argv[0] = 'zkt'; runpy.run_module('zktwisted.zkt', run_name='__main__')"
)


class Terminal:
    """
    A terminal, and a shell at it.

    @ivar keys: where what is typed goes.
    @ivar screen: all that was written to it.
    """

    def __init__(self, server: ServerProcess, history: Path, *words: str) -> None:
        self.keys, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-c", STARTER, "-s", f"{HOST}:{server.port}", *words],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment(ZKT_HISTORY=str(history), TERM="xterm", INPUTRC="/dev/null"),
        )
        os.close(theirs)
        self.screen = ""
        self._seen = 0

    def until(self, words: str) -> str:
        """Wait until these words have been written behind those waited for before; return what came till then."""
        while words not in self.screen[self._seen :]:
            assert select.select([self.keys], [], [], SECONDS)[0], self.screen
            self.screen += self._read()
        seen, self._seen = self._seen, self.screen.index(words, self._seen) + len(words)
        return self.screen[seen : self._seen]

    def _read(self) -> str:
        try:
            piece = os.read(self.keys, 65536)
        except OSError:
            piece = b""
        assert piece, f"it has ended: {self.screen}"
        return piece.decode("utf-8", "replace")

    def type(self, text: str, words: str) -> str:
        """Type something, and wait for what it brings."""
        os.write(self.keys, text.encode())
        return self.until(words)

    def close(self) -> None:
        """End the shell, if it has not ended, and throw the terminal away."""
        self.process.kill()
        self.process.wait()
        os.close(self.keys)


UNNOTICED = """
import signal, sys
from threading import get_ident
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from zktwisted.zkt.engine import Engine
from zktwisted.zkt.status import Problem

async def interrupted():
    signal.pthread_kill(get_ident(), signal.SIGINT)
    await Deferred()

engine = Engine(reactor, sys.stdout.buffer, sys.stderr.buffer)
engine.start()
try:
    engine.run(interrupted)
except Problem as problem:
    print(int(problem.status))
finally:
    engine.stop()
"""


def test_ctrl_c_that_interrupts_nothing() -> None:
    """A signal counts also when it does not reach the main thread in the middle of its waiting."""
    done = subprocess.run(
        [sys.executable, "-c", UNNOTICED], capture_output=True, timeout=SECONDS, check=False, env=environment()
    )
    assert (done.stdout, done.stderr) == (b"130\n", b"")


def test_shell_at_a_terminal(pair: Mapping[str, ServerProcess], tmp_path: Path) -> None:
    """Prompt, completion, history, events above the prompt, Ctrl-C for a command and for a line, Ctrl-D."""
    server = pair["ours"]
    shown(server, "create", "-p", "/shell/first")
    history = tmp_path / "state" / "history"
    terminal = Terminal(server, history)
    try:
        terminal.until("(CONNECTED) 0]")
        terminal.type("getAllC\t", "getAllChildrenNumber ")
        terminal.type("/she\t", "/shell/")
        terminal.type("fi\t", "first ")
        assert "\r\n0\r\n" in terminal.type("\n", "(CONNECTED) 1]")
        terminal.type("addWatch /shell\n", "(CONNECTED) 2]")
        terminal.type("addauth digest ann:secr", "secr")
        shown(server, "set", "/shell/first", "x")
        again = terminal.until("addauth digest ann:secr")
        assert "WatchedEvent state:SyncConnected type:NodeDataChanged path:/shell/first" in again
        terminal.type("et\n", "(CONNECTED) 3]")
        terminal.type("watch /shell/first\n", "watching /shell/first")
        terminal.type("\x03", "watch: interrupted")
        terminal.until("(CONNECTED) 4]")
        terminal.type("nonsense\x03", "(CONNECTED) 4]")
        terminal.type("\x1b[A\x1b[A\n", "(CONNECTED) 5]")
        terminal.type("history\n", "(CONNECTED) 6]")
        assert "1 - addWatch /shell\r\n2 - addauth digest ***\r\n3 - watch /shell/first\r\n" in terminal.screen
        assert "4 - addWatch /shell\r\n5 - history\r\n" in terminal.screen
        os.write(terminal.keys, b"\x04")
        assert terminal.process.wait(SECONDS) == 0
    finally:
        terminal.close()
    kept = history.read_text("utf-8").splitlines()
    assert kept == [
        "getAllChildrenNumber /shell/first ",
        "addWatch /shell",
        "watch /shell/first",
        "addWatch /shell",
        "history",
    ]
    assert history.stat().st_mode & 0o077 == 0
    plain = Terminal(server, history, "--no-color")
    try:
        plain.until("(CONNECTED) 0]")
        plain.type("\x1b[A", "history")
        plain.type("\n", "0 - history")
        plain.until("(CONNECTED) 1]")
        plain.type("quit\n", "quit")
        assert plain.process.wait(SECONDS) == 0
        assert "\x1b[3" not in plain.screen
    finally:
        plain.close()
