"""The fixtures of the pytest plugin, in projects as their users have them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return what runs pytest on a file of tests, with this plugin and others, and gives what it says."""

    def run(tests: str, *options: str, plugins: tuple[str, ...] = (), status: int = 0, ini: str = "") -> str:
        (tmp_path / "test_it.py").write_text(tests)
        # Every warning is an error here, too, of which the plugin must cause none.
        (tmp_path / "pytest.ini").write_text(f"[pytest]\nfilterwarnings = error\n{ini}")
        named = [part for plugin in ("zktwisted.kit.plugin", *plugins) for part in ("-p", plugin)]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *named, "-p", "no:cacheprovider", *options],
            cwd=tmp_path,
            # What is installed beside it would be loaded as well, and the plugin itself a second time.
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
        assert done.returncode == status, done.stdout
        return done.stdout

    return run


def printed_by(program: str) -> str:
    """Run a program in an interpreter of its own and return what it printed."""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_costs_nothing() -> None:
    """The plugin imports nothing but itself: every run of pytest on the machine pays for it."""
    program = (
        "import sys, pytest, typing, os\n"
        "before = set(sys.modules)\n"
        "import zktwisted.kit.plugin\n"
        "print(sorted(set(sys.modules) - before))"
    )
    ours = ["zktwisted", "zktwisted._version", "zktwisted.kit", "zktwisted.kit.plugin"]
    assert printed_by(program) == str(ours)


def test_leaves_the_reactor_alone() -> None:
    """Servers in a thread install no global reactor: which one there is to be is the program's affair."""
    program = (
        "import socket, sys, urllib.request\n"
        "from zktwisted.testing import TestEnsemble\n"
        "with TestEnsemble(tls=True, sasl={'ann': 'secret'}) as servers:\n"
        "    urllib.request.urlopen(servers.serve_control()).close()\n"
        "    port = servers.ports_of(1)[1]\n"
        "    with socket.create_connection(('127.0.0.1', port)) as plain:\n"
        "        with servers.tls.client_context().wrap_socket(plain, server_hostname='localhost') as client:\n"
        "            client.sendall(b'ruok')\n"
        "            assert client.recv(4) == b'imok'\n"
        "    servers.new_leader()\n"
        "print('twisted.internet.reactor' in sys.modules)"
    )
    assert printed_by(program) == "False"


def test_each_test_has_a_clean_server(run: Run) -> None:
    """Tests share a server and nothing in it, whatever they leave."""
    said = run(
        """
        import pytest
        seen = set()

        @pytest.mark.parametrize("number", range(3))
        def test_it(zk_client, zk_server, zk_hosts, number):
            seen.add(zk_hosts)
            assert seen == {zk_server.hosts}
            assert zk_client.get_children("/") == ["zookeeper"]
            assert zk_client.create("/a-", sequence=True) == "/a-0000000000"
            zk_server.stop_member()

        def test_chroot(zk_chroot, zk_make_client):
            client = zk_make_client(hosts=zk_chroot)
            assert client.get_children("/") == []
            assert zk_make_client(timeout=7.0).get_children("/") != []
        """.replace("\n        ", "\n")
    )
    assert "4 passed" in said


def test_other_servers(run: Run) -> None:
    """An ensemble, TLS and SASL are there for the asking."""
    said = run(
        """
        def test_ensemble(zk_ensemble, zk_make_client):
            client = zk_make_client(hosts=zk_ensemble.hosts)
            client.create("/a")
            zk_ensemble.new_leader()
            assert client.retry(client.exists, "/a")

        def test_tls(zk_tls_server, zk_make_client):
            files = zk_tls_server.tls
            client = zk_make_client(
                hosts=zk_tls_server.tls_hosts, use_ssl=True,
                ca=files.ca, certfile=files.certificate, keyfile=files.key,
            )
            client.create("/a")

        def test_sasl(zk_sasl_server, zk_make_client):
            options = {"mechanism": "DIGEST-MD5", "username": "alice", "password": zk_sasl_server.sasl["alice"]}
            client = zk_make_client(hosts=zk_sasl_server.hosts, sasl_options=options)
            client.create("/a")
        """.replace("\n        ", "\n"),
        # kazoo's SASL is pure-sasl's, whose warnings are none of ours.
        "-W", "ignore::DeprecationWarning",
    )  # fmt: skip
    assert "3 passed" in said


def test_leaks_fail_a_test(run: Run) -> None:
    """A test that asks for it fails when it leaves something, and is told what."""
    said = run(
        """
        import pytest
        pytestmark = pytest.mark.usefixtures("zk_no_leaks")

        def test_tidy(zk_make_client):
            client = zk_make_client()
            client.create("/mine", ephemeral=True)

        def test_untidy(zk_hosts):
            from kazoo.client import KazooClient
            global client
            client = KazooClient(zk_hosts)
            client.start()
            client.create("/forgotten", ephemeral=True)

        @pytest.fixture(scope="module", autouse=True)
        def stop():
            yield
            client.stop()
            client.close()
        """.replace("\n        ", "\n"),
        status=1,
    )
    assert "ephemeral node /forgotten" in said
    assert "2 passed, 1 error" in said


def test_asyncio(run: Run) -> None:
    """A test that runs asyncio's loop is not in the way of the server's, nor the server in its way."""
    said = run(
        """
        import asyncio

        async def ask(host, port):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(b"ruok")
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
            return answer

        def test_it(zk_server):
            assert asyncio.run(ask("127.0.0.1", zk_server.port)) == b"imok"
        """.replace("\n        ", "\n")
    )
    assert "1 passed" in said


@pytest.mark.parametrize("reactor", ["default", "asyncio"])
def test_beside_pytest_twisted(run: Run, reactor: str) -> None:
    """pytest-twisted has its reactor, whichever it is, and the server has its own."""
    said = run(
        """
        import pytest_twisted
        from zktwisted import ZooKeeperClient

        @pytest_twisted.ensureDeferred
        async def test_it(zk_server):
            from twisted.internet import reactor

            async with ZooKeeperClient(reactor, zk_server.hosts) as client:
                await client.create("/a", b"x")
                assert (await client.get("/a"))[0] == b"x"
        """.replace("\n        ", "\n"),
        "--reactor", reactor, "-W", "ignore::DeprecationWarning",
        plugins=("pytest_twisted",),
    )  # fmt: skip
    assert "1 passed" in said


def test_beside_xdist(run: Run) -> None:
    """Each worker has a server of its own."""
    said = run(
        """
        import os
        import pytest

        @pytest.mark.parametrize("number", range(8))
        def test_it(zk_client, zk_server, number):
            assert zk_client.get_children("/") == ["zookeeper"]
            zk_client.create("/a")
            zk_client.create("/server", os.environ["PYTEST_XDIST_WORKER"].encode())
            assert zk_client.get("/server")[0].decode() == os.environ["PYTEST_XDIST_WORKER"]
        """.replace("\n        ", "\n"),
        "-n", "2",
        plugins=("xdist.plugin",),
    )  # fmt: skip
    assert "8 passed" in said


def test_without_kazoo(run: Run) -> None:
    """Who has no kazoo is told what to do, and the server is there nevertheless."""
    said = run(
        """
        import sys
        sys.modules["kazoo"] = sys.modules["kazoo.client"] = None

        def test_client(zk_client):
            pass

        def test_server(zk_server):
            assert zk_server.hosts
        """.replace("\n        ", "\n"),
        status=1,
    )
    assert "pip install kazoo" in said
    assert "1 passed, 1 error" in said


def test_without_the_extra(run: Run) -> None:
    """Who has not what TLS needs is told how to get it."""
    said = run(
        """
        import sys
        sys.modules["cryptography"] = None

        def test_tls(zk_tls_server):
            pass
        """.replace("\n        ", "\n"),
        status=1,
    )
    assert "pip install zktwisted[tls]" in said


def test_fixtures_are_explained(run: Run) -> None:
    """pytest --fixtures tells what each is."""
    said = run("def test_it(): pass", "--fixtures")
    for name in ("zk_server", "zk_hosts", "zk_client", "zk_ensemble", "zk_chroot", "zk_tls_server", "zk_sasl_server"):
        assert f"\n{name} -- " in said.replace(" [session scope]", ""), said
    assert "no docstring" not in said
