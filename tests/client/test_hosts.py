"""The list of servers: how it is read, and in what order and how fast it is gone through."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from zktwisted.client.hosts import Hosts, endpoints_of, parse_hosts

ADDRESS = IPv4Address("TCP", "127.0.0.1", 2181)


class Endpoint:
    """An endpoint that remembers that somebody came."""

    def __init__(self, name: int, came: list[int]) -> None:
        self.name = name
        self.came = came

    def connect(self, factory: Any) -> Deferred[Any]:
        self.came.append(self.name)
        return Deferred()


class ParseTests(SynchronousTestCase):
    """Connect strings."""

    def test_forms(self) -> None:
        """Names, addresses, ports and the chroot are where users of ZooKeeper write them."""
        for text, expected in (
            ("one", ([("one", 2181)], "")),
            (" one:2182 , two ", ([("one", 2182), ("two", 2181)], "")),
            ("one:1,two:2/app/x", ([("one", 1), ("two", 2)], "/app/x")),
            ("one/", ([("one", 2181)], "")),
            ("[::1]:2183,[fe80::1],::2", ([("::1", 2183), ("fe80::1", 2181), ("::2", 2181)], "")),
        ):
            self.assertEqual(expected, parse_hosts(text), text)

    def test_refused(self) -> None:
        """What names no server, or no port, or no path is refused with what is wrong."""
        for text, words in (("", "no server"), ("/app", "no server"), ("one:x", "'x'"), ("one:70000", "'70000'"),
                            ("one:0", "'0'"), ("one//a", "no path")):  # fmt: skip
            with self.assertRaises(ValueError) as caught:
                parse_hosts(text)
            self.assertIn(words, str(caught.exception))

    def test_endpoints(self) -> None:
        """Addresses are connected to as they are, names are looked up."""
        made, chroot = endpoints_of(MemoryReactorClock(), "127.0.0.1:1,[::1]:1,zk.example/app", 6.0, None, None)
        self.assertEqual([TCP4ClientEndpoint, TCP6ClientEndpoint, HostnameEndpoint], [*map(type, made)])
        self.assertEqual("/app", chroot)


class HostsTests(SynchronousTestCase):
    """Going through them."""

    def hosts(self, count: int, seed: int = 1) -> tuple[Hosts, list[int]]:
        came: list[int] = []
        return Hosts([Endpoint(name, came) for name in range(count)], Random(seed)), came  # type: ignore[misc]

    def test_everyone_in_turn(self) -> None:
        """Each attempt is at the next, all of them before the first again; the order is chance's."""
        orders = set()
        for seed in range(20):
            hosts, came = self.hosts(3, seed)
            for _ in range(6):
                hosts.connect(None)  # type: ignore[arg-type]
            self.assertEqual([0, 1, 2], sorted(came[:3]))
            self.assertEqual(came[:3], came[3:])
            orders.add(tuple(came[:3]))
        self.assertGreater(len(orders), 3)

    def test_preferred(self) -> None:
        """Who was found to be better is the next."""
        hosts, came = self.hosts(3)
        hosts.connect(None)  # type: ignore[arg-type]
        hosts.probe(2).connect(None)  # type: ignore[arg-type]
        hosts.prefer(2)
        hosts.connect(None)  # type: ignore[arg-type]
        self.assertEqual(came[1], came[2])

    def test_pauses(self) -> None:
        """The next server is asked at once; only after each round through all of them the pause grows, up to 10 s."""
        hosts, _ = self.hosts(3)
        first = [hosts.pause() for _ in range(3)]
        self.assertLess(max(first), 0.05)
        later = [hosts.pause() for _ in range(60)]
        for at, pause in enumerate(later):
            if at % 3:
                self.assertLess(pause, 0.05)
        rounds = later[::3]
        self.assertTrue(0.1 <= rounds[0] <= 0.2, rounds)
        self.assertTrue(0.2 <= rounds[1] <= 0.4, rounds)
        self.assertTrue(5 <= rounds[-1] <= 10, rounds)
        # Jitter: no two of the late ones are the same.
        self.assertEqual(len(set(rounds)), len(rounds))
        hosts.failures = 0
        self.assertLess(hosts.pause(), 0.05)
