"""What test cases inherit to have a server, under the runners that their users have."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

SYNCHRONOUS = '''
import socket
from twisted.trial.unittest import SynchronousTestCase
from zktwisted.testing import ZooKeeperMixin

seen = set()


class Application(ZooKeeperMixin, SynchronousTestCase):
    zk_options = {"tick_time": 200}

    def setUp(self):
        super().setUp()
        seen.add(self.zk_hosts)

    def ask(self, word):
        with socket.create_connection(("127.0.0.1", self.zk_server.port)) as asking:
            asking.sendall(word)
            return b"".join(iter(lambda: asking.recv(4096), b""))

    def test_settings(self):
        self.assertIn(b"tickTime=200", self.ask(b"conf"))
        self.zk_server.stop_member()

    def test_started_again(self):
        self.assertEqual(b"imok", self.ask(b"ruok"))

    def test_the_same_server(self):
        self.assertEqual({self.zk_hosts}, seen)
'''

ASYNCHRONOUS = '''
from twisted.internet import reactor
from twisted.internet.endpoints import clientFromString, connectProtocol
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.trial.unittest import TestCase
from zktwisted.errors import ConfigError
from zktwisted.testing import TrialZooKeeperMixin


class Before:
    def setUp(self):
        self.before = not hasattr(self, "zk_hosts")
        return super().setUp()


class Answer(Protocol):
    def __init__(self):
        self.data, self.done = b"", Deferred()

    def dataReceived(self, data):
        self.data += data

    def connectionLost(self, reason):
        self.done.callback(self.data)


class Application(TrialZooKeeperMixin, Before, TestCase):
    async def test_it(self):
        self.assertTrue(self.before)
        host = clientFromString(reactor, f"tcp:{self.zk_hosts}")
        answer = await connectProtocol(host, Answer())
        answer.transport.write(b"ruok")
        self.assertEqual(b"imok", await answer.done)


class Wrong(TrialZooKeeperMixin, TestCase):
    zk_options = {"settings": {"tick_time": -1}}

    def test_it(self):
        pass
'''


def trial(program: str, directory: Path, status: int) -> str:
    """Run trial on a module of tests; return what it said."""
    (directory / "test_it.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "-m", "twisted.trial", "test_it"],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(directory), str(ROOT)])},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    assert done.returncode == status, done.stdout
    return done.stdout


def test_synchronous(tmp_path: Path) -> None:
    """A class of trial's synchronous tests has one server, which each finds as new, also if the last stopped it."""
    assert "PASSED (successes=3)" in trial(SYNCHRONOUS, tmp_path, 0)


def test_asynchronous(tmp_path: Path) -> None:
    """Each of trial's asynchronous tests has a server on its reactor, beside other mixins; what is wrong is told."""
    said = trial(ASYNCHRONOUS, tmp_path, 1)
    assert "tickTime" in said
    assert "FAILED (errors=1, successes=1)" in said
    assert "DirtyReactor" not in said
