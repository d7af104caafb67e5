"""Let C{twist} and C{twistd} find the ZooKeeper server; nothing of it is imported before it is asked for."""

from __future__ import annotations

from twisted.application.service import ServiceMaker

ZooKeeper = ServiceMaker("ZooKeeper", "zktwisted.tap", "A ZooKeeper server.", "zookeeper")
