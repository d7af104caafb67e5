"""What the README and the documentation show, run as a reader would run it."""

from __future__ import annotations

import doctest
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from queue import Queue

import pytest
from kazoo.client import KazooClient

from zktwisted.testing import TestServer

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "docs" / "examples"

# `twist` as it stands beside the interpreter, and the package as it stands here.
ENVIRONMENT = {
    **os.environ,
    "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    "PYTHONPATH": str(ROOT),
    "PYTHONUNBUFFERED": "1",
}


def python(*arguments: str | Path, cwd: Path, **environment: str) -> str:
    """Run Python to its end, which has to be a good one, and return what it printed."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=ENVIRONMENT | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Return where a fresh server serves, started by the command of the README but on a free port."""
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "twisted", "--log-file", str(tmp_path / "log"), "zookeeper"),
            *("--data-dir", str(tmp_path / "data"), "--client-endpoint", "tcp:0:interface=127.0.0.1"),
        ],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    try:
        line = server.stdout.readline()
        found = re.search(r"serves on (\S+), data in", line)
        assert found, f"the server said {line!r}"
        yield found.group(1)
    finally:
        server.terminate()
        assert server.wait(60) == 0
        server.stdout.close()


def program_of_the_readme(word: str) -> str:
    """The program in the README that has this word in it."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    return next(block for block in blocks if word in block)


def test_tour_of_the_readme(address: str, tmp_path: Path) -> None:
    """The sixty seconds with kazoo do what their comments say."""
    tour = program_of_the_readme("KazooClient")
    # A watch's function runs in a thread of kazoo's: wait for it where a reader would look at the screen.
    program = tour.replace("127.0.0.1:2181", address).replace(
        "with zk.Lock(", "while not zk.get_children('/app/workers'): pass\nwith zk.Lock(", 1
    )
    assert program.count(address) == 1
    printed = python("-c", program, cwd=tmp_path)
    assert "workers: []" in printed
    assert "alone" in printed


def test_server_of_the_readme(tmp_path: Path) -> None:
    """The program with a server in it says where it serves, and ends when it is told to: no thread holds it back."""
    program = subprocess.Popen(
        [sys.executable, "-c", program_of_the_readme("ZooKeeperService")],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    try:
        assert program.stdout.readline().startswith("serving on ")
        program.terminate()
        assert program.wait(60) == 0
    finally:
        program.kill()
        program.wait(60)
        program.stdout.close()


def clients_see(text: str, places: dict[str, str]) -> None:
    """Run what the tutorial's clients do, line by line; where one watches, it is told."""
    session = "".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    for told_place, place in places.items():
        assert told_place in session
        session = session.replace(told_place, place)
    # What a watch prints comes from a thread of kazoo's, somewhere between other lines.
    told: Queue[object] = Queue()
    session = session.replace("watch=print", "watch=told.put")
    event = "WatchedEvent(type='CHANGED', state='CONNECTED', path='/settings')"
    session = session.replace(f"{event}\n", "")
    example = doctest.DocTestParser().get_doctest(session, {"told": told}, "tutorial", "tutorial.md", 0)
    flags = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL | doctest.REPORT_ONLY_FIRST_FAILURE
    said: list[str] = []
    result = doctest.DocTestRunner(optionflags=flags, verbose=False).run(example, out=said.append, clear_globs=False)
    for value in list(example.globs.values()):
        if isinstance(value, KazooClient):
            value.stop()
            value.close()
    assert (result.attempted > 10, result.failed) == (True, 0), "".join(said)
    assert str(told.get(timeout=60)) == event
    assert event in text


def tutorial() -> tuple[str, str]:
    """The tutorial: what is about one server, and what is about three."""
    one, three = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8").split("## An ensemble in a minute")
    return one, three


def test_tutorial(address: str) -> None:
    """The tutorial's clients of one server see what it says."""
    clients_see(tutorial()[0], {"127.0.0.1:2181": address})


@pytest.mark.usefixtures("usual_ports")
def test_tutorial_of_three(tmp_path: Path) -> None:
    """So do those of three, which are started as it says and print what it says."""
    text = tutorial()[1]
    command = re.findall(r"```sh\n\.venv/bin/twist (zookeeper --ensemble .*)\n```", text)
    servers = subprocess.Popen(
        [sys.executable, "-m", "twisted", "--log-file", str(tmp_path / "log"), *command[0].split()],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert servers.stdout is not None
    try:
        said = [servers.stdout.readline() for _ in range(4)]
        shapes = re.findall(r"^((?:Server|ZooKeeper).*)$", text, re.MULTILINE)
        addresses = re.compile(r"127\.0\.0\.1:\d+|/\S+|leader|follower|\(zktwisted \S+\)")
        assert [addresses.sub("", line.strip()) for line in said] == [addresses.sub("", line) for line in shapes]
        one, two, *_ = (re.findall(r"127\.0\.0\.1:\d+", line)[0] for line in said)
        hosts = re.findall(r"127\.0\.0\.1:\d+,\S+", said[-1])[0]
        clients_see(
            text,
            {
                '"127.0.0.1:2181,127.0.0.1:2182,127.0.0.1:2183"': f'"{hosts}"',
                'KazooClient("127.0.0.1:2181"),': f'KazooClient("{one}"),',
                'KazooClient("127.0.0.1:2182")': f'KazooClient("{two}")',
            },
        )
    finally:
        servers.terminate()
        assert servers.wait(60) == 0
        servers.stdout.close()


def test_embedding(tmp_path: Path) -> None:
    """The server in a program of one's own serves beside a web page, stops in order, and finds its data again."""
    for attempt in range(2):
        program = subprocess.Popen(
            [sys.executable, str(EXAMPLES / "embed.py"), "data"],
            cwd=tmp_path,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert program.stdout is not None
        try:
            _, clients, _, web = program.stdout.readline().split()
            client = KazooClient(f"127.0.0.1:{clients}")
            client.start(timeout=60)
            assert (client.exists("/kept") is None) == (attempt == 0)
            client.ensure_path("/kept")
            with urllib.request.urlopen(f"http://127.0.0.1:{web}/", timeout=60) as page:
                assert page.read().strip()
            client.stop()
            client.close()
        finally:
            program.terminate()
            program.wait(60)
            program.stdout.close()


def test_in_process(tmp_path: Path) -> None:
    """The example of a Twisted test passes under trial."""
    assert "PASSED" in python("-m", "twisted.trial", EXAMPLES / "test_in_process.py", cwd=tmp_path)


def test_server_in_memory(tmp_path: Path) -> None:
    """So does the one in which the server, the clients and the time are in memory."""
    assert "PASSED" in python("-m", "twisted.trial", EXAMPLES / "test_in_memory.py", cwd=tmp_path)


def test_ensemble_in_memory(tmp_path: Path) -> None:
    """So does the one with an ensemble that breaks when it is told to."""
    assert "PASSED" in python("-m", "twisted.trial", EXAMPLES / "test_ensemble.py", cwd=tmp_path)


def test_client(tmp_path: Path) -> None:
    """The example of a Twisted program prints a node whenever it changes, through the end of a session."""
    server = TestServer().start()
    program = subprocess.Popen(
        [sys.executable, str(EXAMPLES / "watch_config.py"), server.hosts],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    client = KazooClient(server.hosts)
    client.start(timeout=60)
    try:
        assert program.stdout.readline() == "watching\n"
        client.create("/app/config", b"first")
        assert program.stdout.readline() == "0 first\n"
        (of_program,) = set(server.sessions()) - {client.client_id[0]}
        server.expire(of_program)
        assert program.stdout.readline() == "0 first\n"
        client.set("/app/config", b"stop")
        assert program.stdout.readline() == "1 stop\n"
        assert program.wait(60) == 0
    finally:
        program.kill()
        program.wait(60)
        program.stdout.close()
        client.stop()
        client.close()
        server.stop()


def test_asyncio(address: str, tmp_path: Path) -> None:
    """So does the one on asyncio's loop, which counts to five."""
    said = python(EXAMPLES / "with_asyncio.py", address, cwd=tmp_path).splitlines()
    assert said == ["changed /counter"] * 5 + ["5 version 5"]


def test_with_unittest(tmp_path: Path) -> None:
    """The examples of tests for unittest pass under it."""
    assert "Ran 3 tests" in python("-W", "error", EXAMPLES / "test_with_unittest.py", cwd=tmp_path)


def test_with_pytest(tmp_path: Path) -> None:
    """The sample project's tests pass with the fixtures of the plugin."""
    shutil.copytree(EXAMPLES / "sample", tmp_path / "sample")
    # Loaded by name, not by entry point: it need not be installed here.
    plugin = ("-p", "zktwisted.kit.plugin", "-p", "no:cacheprovider")
    said = python("-m", "pytest", "-q", *plugin, ".", cwd=tmp_path / "sample", PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    assert "5 passed" in said
