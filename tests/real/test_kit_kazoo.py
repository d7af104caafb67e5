"""Programs that were written for kazoo's own test harness run unchanged, without Java: kazoo's own tests are such."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

PROGRAM = '''
import threading
import unittest

from kazoo.exceptions import ConnectionLoss
from kazoo.testing import KazooTestCase


class Application(KazooTestCase):
    def test_client(self):
        self.client.create("/a", b"x")
        self.assertEqual(b"x", self.client.get("/a")[0])
        self.assertIn(self.servers, self.hosts)
        self.assertEqual(3, len(list(self.cluster)))

    def test_each_has_its_root(self):
        self.assertIsNone(self.client.exists("/a"))

    def test_member(self):
        self.client.create("/a")
        self.cluster[0].stop()
        self.assertFalse(self.cluster[0].running)
        self.client.retry(self.client.set, "/a", b"y")
        self.cluster[0].run()
        self.assertTrue(self.cluster[0].running)
        port = self.cluster[0].client_port
        self.assertEqual(f"127.0.0.1:{port}", self.cluster[0].address)

    def test_session(self):
        session = self.client.client_id
        self.expire_session(threading.Event)
        self.assertNotEqual(session, self.client.client_id)
        session = self.client.client_id
        self.lose_connection(threading.Event)
        self.assertEqual(session, self.client.client_id)

    def test_another_client(self):
        other = self._get_client(timeout=7.0)
        other.start()
        self.client.create("/a")
        self.assertTrue(other.exists("/a"))

    def test_data_survive_the_stop_of_all(self):
        self.client.create("/a")
        self.cluster.stop()
        self.cluster.start()
        self.assertTrue(self.client.retry(self.client.exists, "/a"))


if __name__ == "__main__":
    unittest.main()
'''


def python(*arguments: str, cwd: Path, **environment: str) -> str:
    """Run Python to its good end; return what it printed."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        # No Java can be found, even if there is one.
        env={"PATH": str(cwd), "HOME": str(cwd), "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def pytest_on(*tests: str, cwd: Path, options: tuple[str, ...] = (), **environment: str) -> str:
    """Run pytest with the plugin, and nothing else that happens to be installed."""
    return python(
        *("-m", "pytest", "-q", "-p", "zktwisted.kit.plugin", "-p", "no:cacheprovider", *options, *tests),
        cwd=cwd,
        PYTEST_DISABLE_PLUGIN_AUTOLOAD="1",
        **environment,
    )


def test_unittest(tmp_path: Path) -> None:
    """With another import a program of the harness runs under unittest."""
    program = PROGRAM.replace("from kazoo.testing import", "from zktwisted.kit.kazoo import")
    assert program != PROGRAM
    (tmp_path / "program.py").write_text(program)
    assert "Ran 6 tests" in python("program.py", cwd=tmp_path)


@pytest.mark.parametrize("way", ["ini", "environment"])
def test_pytest(tmp_path: Path, way: str) -> None:
    """With a line in the configuration, or in the environment, it runs under pytest as it is."""
    (tmp_path / "test_program.py").write_text(PROGRAM)
    (tmp_path / "pytest.ini").write_text("[pytest]\n" + "zk_kazoo_harness = true\n" * (way == "ini"))
    environment = {"ZKTWISTED_KAZOO_HARNESS": "1"} if way == "environment" else {}
    options = ("-k", "member or session") if way == "environment" else ()
    said = pytest_on("test_program.py", cwd=tmp_path, options=options, **environment)
    assert ("2 passed" if options else "6 passed") in said


#: kazoo's own, as they were installed with it: those that wait for conditions, not for time.
UPSTREAM = ("test_barrier", "test_counter", "test_lease", "test_party")


def test_tests_of_kazoo(tmp_path: Path) -> None:
    """kazoo's own tests pass, modules of them as they are, without Java and without pyjks."""
    if importlib.util.find_spec("kazoo.tests") is None:
        pytest.skip("this kazoo was installed without its tests")
    options = ("-c", os.devnull, "--rootdir", str(tmp_path), "--pyargs")
    modules = [f"kazoo.tests.{module}" for module in UPSTREAM]
    said = pytest_on(*modules, cwd=tmp_path, options=options, ZKTWISTED_KAZOO_HARNESS="1")
    assert " passed" in said
    assert " skipped" not in said
