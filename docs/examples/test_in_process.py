"""Tests of a Twisted program: the server runs on the test's own reactor, and nothing blocks."""

from __future__ import annotations

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from zktwisted import ZooKeeperClient
from zktwisted.errors import NoAuthError
from zktwisted.testing import TrialZooKeeperMixin


class WithServer(TrialZooKeeperMixin, TestCase):
    async def test_serves(self) -> None:
        async with ZooKeeperClient(reactor, self.zk_hosts) as client:
            await client.create("/greeting", b"hello")
            data, _ = await client.get("/greeting")
            self.assertEqual(b"hello", data)

    async def test_refuses(self) -> None:
        async with ZooKeeperClient(reactor, self.zk_hosts) as client:
            self.zk_servers.fail("NOAUTH", op="create")
            with self.assertRaises(NoAuthError):
                await client.create("/greeting")

    async def test_session_ends(self) -> None:
        async with ZooKeeperClient(reactor, self.zk_hosts) as ann, ZooKeeperClient(reactor, self.zk_hosts) as bob:
            await ann.create("/ann", ephemeral=True)
            await self.zk_servers.expire(ann.session_id)
            self.assertIsNone(await bob.exists("/ann"))


class WithEnsemble(TrialZooKeeperMixin, TestCase):
    zk_options = {"members": 3}  # noqa: RUF012

    async def test_new_leader(self) -> None:
        async with ZooKeeperClient(reactor, self.zk_hosts) as client:
            await client.create("/greeting")
            await self.zk_servers.new_leader()
            self.assertTrue(await client.exists("/greeting"))
