"""Tests with unittest: one server for each class, clean for each test."""

from __future__ import annotations

import unittest

from kazoo.client import KazooClient

from zktwisted.testing import ZooKeeperMixin


class WithServer(ZooKeeperMixin, unittest.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.client = KazooClient(self.zk_hosts)
        self.client.start()
        self.addCleanup(self.client.close)
        self.addCleanup(self.client.stop)

    def test_empty(self) -> None:
        self.assertEqual(["zookeeper"], self.client.get_children("/"))
        self.client.create("/a")

    def test_still_empty(self) -> None:
        self.assertEqual(["zookeeper"], self.client.get_children("/"))
        self.client.create("/a")


class WithTls(ZooKeeperMixin, unittest.TestCase):
    zk_options = {"tls": True}  # noqa: RUF012

    def test_tls(self) -> None:
        files = self.zk_server.tls
        client = KazooClient(
            self.zk_server.tls_hosts, use_ssl=True, ca=files.ca, certfile=files.certificate, keyfile=files.key
        )
        client.start()
        client.create("/a")
        client.stop()
        client.close()


if __name__ == "__main__":
    unittest.main()
