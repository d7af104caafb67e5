"""Whole elections over a network in memory: services with their connections, and those who would disturb them."""

from __future__ import annotations

from itertools import permutations
from random import Random
from struct import pack
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.edge.elections import settings as settings_of
from tests.zab.elections import ensemble
from zktwisted.config import Ensemble
from zktwisted.config.ensemble import Address
from zktwisted.edge.election import ElectionPortError, ElectionService
from zktwisted.testing.network import MemoryHost, MemoryNetwork
from zktwisted.wire.votes import ServerState, Vote, encode_initial, encode_notification

LOOKING, FOLLOWING, LEADING, OBSERVING = ServerState
PORT = 3888


class Stranger(Protocol):
    """A client that writes what it is told to, and keeps what it gets."""

    def __init__(self) -> None:
        self.got = b""
        self.lost = False

    def dataReceived(self, data: bytes) -> None:
        """See C{IProtocol}."""
        self.got += data

    def connectionLost(self, reason: object = None) -> None:
        """See C{IProtocol}."""
        self.lost = True


class World:
    """
    A network with a server on each of its hosts.

    @ivar votes: how each election ended: (server, vote), or (server, what went wrong).
    """

    def __init__(self, those: Ensemble | None = None, seed: int = 1) -> None:
        self.ensemble = those or ensemble()
        self.clock = Clock()
        self.random = Random(seed)
        self.network = MemoryNetwork(self.clock, self.random)
        self.services: dict[int, ElectionService] = {}
        self.votes: list[tuple[int, Vote | type]] = []

    def host(self, sid: int) -> MemoryHost:
        return self.network.host(f"10.0.0.{sid}")

    def start(self, sid: int, zxid: int = 0, epoch: int = 0, **more: Any) -> ElectionService:
        """Start a server and let it look for a leader."""
        config = settings_of(sid, self.ensemble, **more)
        service = ElectionService(self.host(sid), self.clock, self.clock.seconds, sid, config)
        self.services[sid] = service
        started = Deferred.fromCoroutine(service.start())
        started.addCallback(lambda _: self.look(sid, zxid, epoch))
        return service

    def look(self, sid: int, zxid: int = 0, epoch: int = 0) -> Deferred[None]:
        elected = self.services[sid].look(zxid, epoch)
        elected.addErrback(lambda failure: failure.type)
        return elected.addCallback(lambda outcome: self.votes.append((sid, outcome)))

    def stop(self, sid: int) -> None:
        """Stop a server as a process that ends well."""
        stopped = Deferred.fromCoroutine(self.services.pop(sid).stop())
        self.advance(0.2)
        assert stopped.called

    def kill(self, sid: int) -> None:
        """Stop a server as a process that is killed: what it had to do is done by nobody."""
        self.host(sid).kill()
        service = self.services.pop(sid)
        Deferred.fromCoroutine(service.stop())

    def advance(self, seconds: float) -> None:
        """Let time pass, one call after the other."""
        until = self.clock.seconds() + seconds
        calls = self.clock.calls  # the next one first
        while calls and calls[0].getTime() <= until:
            self.clock.advance(max(0.0, calls[0].getTime() - self.clock.seconds()))
        self.clock.advance(max(0.0, until - self.clock.seconds()))

    def call(self, sid: int, data: bytes = b"", host: str = "10.0.9.9") -> Stranger:
        """Let a stranger connect to a server, and write."""
        stranger: Any = Stranger()
        made = self.network.host(host).client(Address(f"10.0.0.{sid}", PORT), 5.0)
        made.connect(Factory.forProtocol(lambda: stranger))
        self.advance(0.05)
        stranger.transport.write(data)
        self.advance(0.05)
        found: Stranger = stranger
        return found

    @property
    def roles(self) -> str:
        """What each server is doing, as the first letters of it."""
        return "".join(self.services[sid].state.name[:2] for sid in sorted(self.services))


class ElectionCase(SynchronousTestCase):
    """Worlds that are taken down in the end, with nothing left."""

    def make(self, those: Ensemble | None = None, seed: int = 1) -> World:
        world = World(those, seed)
        self.worlds.append(world)
        return world

    def setUp(self) -> None:
        self.worlds: list[World] = []

    def tearDown(self) -> None:
        for world in self.worlds:
            for sid in list(world.services):
                world.stop(sid)
            world.advance(30)
            self.assertEqual([], [call for call in world.clock.getDelayedCalls() if call.active()])
            self.assertEqual([], world.network.errors)
        self.assertEqual([], self.flushLoggedErrors())


class ServiceTests(ElectionCase):
    def test_in_all_orders(self) -> None:
        """Three servers settle within a second, in whatever order they start."""
        for seed, order in enumerate(permutations((1, 2, 3))):
            world = self.make(seed=seed)
            for sid in order:
                world.start(sid)
                world.advance(0.05)
            world.advance(1.0)
            self.assertEqual("FOFOLE", world.roles, order)
            self.assertEqual({(sid, Vote(3, 0, 1, 0)) for sid in (1, 2, 3)}, set(world.votes))
            for sid, service in world.services.items():
                self.assertEqual(tuple(other for other in (1, 2, 3) if other != sid), service.connected)

    def test_an_ensemble_of_one(self) -> None:
        """It needs nobody."""
        world = self.make(ensemble(1))
        world.start(1, standalone_enabled=False)
        world.advance(0.3)
        self.assertEqual([(1, Vote(1, 0, 1, 0))], world.votes)
        self.assertEqual((1,), world.services[1].electing)

    def test_observers(self) -> None:
        """They observe whom the voters follow, and connect to no observer."""
        world = self.make(ensemble(3, 2))
        for sid in range(1, 6):
            world.start(sid)
        world.advance(3.0)
        self.assertEqual("FOFOLEOBOB", world.roles)
        self.assertEqual((1, 2, 3), world.services[4].connected)
        self.assertEqual((1, 2, 3), world.services[5].connected)

    def test_restart(self) -> None:
        """A server that comes back joins the others, who go on; it is told the epoch in which they are."""
        for how in ("stop", "kill"):
            for sid in (1, 2):
                world = self.make(seed=sid)
                for each in (1, 2, 3):
                    world.start(each)
                world.advance(1.0)
                for each in (1, 2, 3):
                    service = world.services[each]
                    assert service.vote is not None
                    service.set_state(service.state, service.vote._replace(peer_epoch=1))
                world.votes.clear()
                getattr(world, how)(sid)
                world.advance(1.0)
                world.start(sid, 0x100000004, 1)
                world.advance(0.5)
                self.assertEqual([(sid, Vote(3, 0, 1, 1))], world.votes)
                self.assertEqual("FOFOLE", world.roles)

    def test_the_leader_is_gone(self) -> None:
        """The others elect one of themselves as soon as both look."""
        world = self.make()
        for sid in (1, 2, 3):
            world.start(sid)
        world.advance(1.0)
        world.kill(3)
        world.votes.clear()
        for sid in (1, 2):
            world.services[sid].set_state(LOOKING)
            world.look(sid, 5 - sid, 1)
        world.advance(0.5)
        self.assertEqual("LEFO", world.roles)
        self.assertEqual({(1, Vote(1, 4, 2, 1)), (2, Vote(1, 4, 2, 1))}, set(world.votes))

    def test_disloyal_voters(self) -> None:
        """Who waits for epochs hears that a server looks again that has elected it, if it wants to know."""
        world = self.make()
        for sid in (1, 2, 3):
            world.start(sid)
        world.advance(1.0)
        heard: list[int] = []
        leader = world.services[3]
        self.assertIn(leader.electing, ((1, 3), (3, 1), (2, 3), (3, 2), (3, 1, 2), (3, 2, 1), (1, 2, 3), (2, 1, 3)))
        voter = next(sid for sid in leader.electing if sid != 3)
        leader.on_disloyal = heard.append
        world.services[voter].set_state(LOOKING)
        world.look(voter)
        world.advance(0.1)
        self.assertEqual([voter], list(dict.fromkeys(heard)))
        self.assertEqual("LE", world.roles[4:])

    def test_cancelled(self) -> None:
        """An election that nobody wants any more says nothing more; another one can follow."""
        world = self.make()
        service = world.start(1)
        elected = service._result
        assert elected is not None
        elected.cancel()
        self.assertEqual([(1, CancelledError)], world.votes)
        self.assertEqual(LOOKING, service.state)
        world.advance(10)
        self.assertEqual([], [call for call in world.clock.getDelayedCalls() if call.active()])
        world.look(1)
        world.start(2)
        world.advance(3)
        self.assertEqual("FOLE", world.roles)

    def test_stopped_while_looking(self) -> None:
        """Whoever waits is told."""
        world = self.make()
        world.start(1)
        world.stop(1)
        self.assertEqual([(1, CancelledError)], world.votes)

    def test_one_election_at_a_time(self) -> None:
        """Two at once would be our own mistake."""
        world = self.make()
        service = world.start(1)
        self.assertRaises(AssertionError, service.look, 0, 0)

    def test_port_taken(self) -> None:
        """A server whose port is taken ends with the status for that."""
        world = self.make()
        world.start(1)
        config = settings_of(1, world.ensemble, election_port_bind_retry=2)
        other = ElectionService(world.host(1), world.clock, world.clock.seconds, 1, config)
        started = Deferred.fromCoroutine(other.start())
        world.advance(1.5)
        self.assertEqual(14, self.failureResultOf(started, ElectionPortError).value.status)

    def test_an_address_that_swallows_everything(self) -> None:
        """ZOOKEEPER-3756: connecting to one server takes for ever, and the others elect without delay."""
        world = self.make()
        world.network.isolate("10.0.0.1", "10.0.0.3")
        world.network.isolate("10.0.0.2", "10.0.0.3")
        for sid in (1, 2, 3):
            world.start(sid)
        world.advance(0.5)
        self.assertEqual("FOLELO", world.roles)
        world.network.heal()
        world.advance(20)
        self.assertEqual("FOLEFO", world.roles)

    def test_names(self) -> None:
        """Who cannot be found harms nobody, and is found when the name is known, or has another address."""
        lines = [f"server.{sid}=zk{sid}:2888:3888" for sid in (1, 2, 3)]
        world = self.make(Ensemble.parse(lines))
        world.network.names.update(zk1="10.0.0.1", zk2="10.0.0.2")
        world.start(1)
        world.start(2)
        world.advance(0.5)
        self.assertEqual("FOLE", world.roles)
        world.network.names["zk3"] = "10.0.0.3"
        world.start(3)
        world.advance(2)
        self.assertEqual("FOLEFO", world.roles)
        world.stop(1)
        world.network.names["zk1"] = "10.0.0.7"
        config = settings_of(1, world.ensemble)
        moved = ElectionService(world.network.host("10.0.0.7"), world.clock, world.clock.seconds, 1, config)
        world.services[1] = moved
        Deferred.fromCoroutine(moved.start())
        world.look(1)
        world.advance(2)
        self.assertEqual("FOLEFO", world.roles)

    def test_a_server_that_stands_still(self) -> None:
        """A process that was stopped holds up nobody; when it goes on it finds out how things are."""
        world = self.make()
        for sid in (1, 2, 3):
            world.start(sid)
        world.advance(1)
        world.host(2).stop()
        for sid in (1, 3):
            world.services[sid].set_state(LOOKING)
            world.look(sid, 9 if sid == 1 else 0)
        world.advance(1)
        self.assertEqual("LE", world.roles[:2])
        self.assertEqual("FO", world.roles[4:])
        world.host(2).go_on()
        world.services[2].set_state(LOOKING)
        world.look(2)
        world.advance(2)
        self.assertEqual("LEFOFO", world.roles)

    def test_half_open(self) -> None:
        """A server that lost its power comes back, and connections that nobody has ended are no obstacle."""
        for sid in (1, 2, 3):
            world = self.make(seed=sid)
            for each in (1, 2, 3):
                world.start(each)
            world.advance(1)
            world.votes.clear()
            world.host(sid).lose_power()
            Deferred.fromCoroutine(world.services.pop(sid).stop())
            world.advance(1)
            self.assertIn(sid, world.services[1 if sid > 1 else 2].connected)
            world.host(sid).power_on()
            world.start(sid)
            world.advance(5)
            self.assertEqual("FOFOLE", world.roles)
            self.assertEqual([(sid, Vote(3, 0, 1, 0))], world.votes)

    def test_broken_connections(self) -> None:
        """Whatever connections are reset while servers vote, they agree in the end."""
        for seed in range(20):
            world = self.make(ensemble(5), seed)
            for sid in range(1, 6):
                world.clock.callLater(world.random.uniform(0, 0.5), world.start, sid)
            for _ in range(30):
                world.advance(world.random.uniform(0, 0.06))
                one, other = world.random.sample(range(1, 6), 2)
                world.network.reset(f"10.0.0.{one}", f"10.0.0.{other}")
            world.advance(60)
            votes = {service.vote for service in world.services.values()}
            self.assertEqual(1, len({vote.leader for vote in votes if vote is not None}), seed)
            leader = world.services[1].vote
            assert leader is not None
            roles = {sid: LEADING if sid == leader.leader else FOLLOWING for sid in range(1, 6)}
            self.assertEqual(roles, {sid: service.state for sid, service in world.services.items()}, seed)


class MembershipTests(ElectionCase):
    def test_reconfigure(self) -> None:
        """A server goes on in another ensemble: rounds begin anew, an election that runs too, roles stay."""
        world = self.make(ensemble(1))
        service = world.start(1, standalone_enabled=False)
        world.advance(1)
        self.assertEqual(LEADING, service.state)
        world.ensemble = ensemble(3)
        self.successResultOf(Deferred.fromCoroutine(service.reconfigure(world.ensemble)))
        self.assertEqual((LEADING, 0), (service.state, service.round))
        self.assertEqual(world.ensemble, service.ensemble)
        world.start(2)
        world.advance(1)
        self.assertEqual((2,), service.connected)
        service.set_state(LOOKING)
        world.look(1, 7)
        world.votes.clear()
        self.successResultOf(self.settle(world, service.reconfigure(ensemble(2))))
        world.advance(5)
        self.assertIn((1, Vote(1, 7, 1, 0)), world.votes)

    def settle(self, world: World, coroutine: Any) -> Deferred[None]:
        done = Deferred.fromCoroutine(coroutine)
        world.advance(0.2)
        return done

    def test_a_newer_ensemble(self) -> None:
        """Who looks is told by others that the ensemble has changed, if it wants to know."""
        newer = ensemble(3, 0, "version=100000002")
        world = self.make()
        told: list[Ensemble] = []
        config = settings_of(1, world.ensemble)
        service = ElectionService(
            world.host(1), world.clock, world.clock.seconds, 1, config, on_newer=told.append
        )
        world.services[1] = service
        Deferred.fromCoroutine(service.start())
        world.look(1)
        data = encode_notification(LOOKING, Vote(2, 9, 9, 9), newer.text)
        world.call(1, encode_initial(2, [("10.0.0.2", PORT)]) + data)
        self.assertEqual([newer], told)
        self.assertEqual(1, service.round)


NOTE = st.builds(
    lambda state, leader, zxid, round_, epoch, version, config: pack(
        ">iqqqqi", state, leader, zxid, round_, epoch, version
    )
    + config,
    st.integers(-1, 5),
    st.integers(-1, 5) | st.integers(-(1 << 63), (1 << 63) - 1),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.integers(-1, 5) | st.integers(-(1 << 63), (1 << 63) - 1),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.integers(-1, 3),
    st.binary(max_size=60),
)
FRAMED = st.builds(lambda body: pack(">i", len(body)) + body, NOTE | st.binary(min_size=1, max_size=60))
LENGTHS = st.builds(lambda length: pack(">i", length), st.integers(-(1 << 31), (1 << 31) - 1))
SIDS = st.integers(-2, 6) | st.integers(-(1 << 63), (1 << 63) - 1)
ADDRESS = st.sampled_from(
    [b"10.0.0.1:3888", b"10.0.0.3:3888", b"nowhere:1", b"10.0.9.9:1", b"0.0.0.0:3888", b"[::1]:3888", b"a|b", b"\xff"]
)
HELLO = st.builds(
    lambda tag, sid, text: pack(">qqi", tag, sid, len(text)) + text,
    st.sampled_from([-65536, -65535, -65534]),
    SIDS.filter(lambda sid: sid not in (1, 2, 3)),
    ADDRESS,
)
OLD_HELLO = st.builds(lambda sid: pack(">q", sid), SIDS.filter(lambda sid: sid not in (1, 2, 3)))
ATTACK = st.tuples(
    st.one_of(HELLO, HELLO, OLD_HELLO, st.binary(max_size=40)),
    st.lists(st.one_of(FRAMED, FRAMED, LENGTHS, st.binary(max_size=30)), max_size=6),
)


class HarmTests(ElectionCase):
    """Whatever comes to the election port, servers elect, and those that have settled stay as they are."""

    @given(st.lists(ATTACK, min_size=1, max_size=4), st.integers(0, 5))
    @settings(deadline=None, derandomize=True, max_examples=150)
    def test_noise(self, attacks: list[tuple[bytes, list[bytes]]], seed: int) -> None:
        """Noise, lengths of all sizes, wrong tags, strangers, and connections that say half of it and stay."""
        self.setUp()
        world = self.make(seed=seed)
        for sid in (1, 3):
            world.start(sid)
        for number, (hello, frames) in enumerate(attacks):
            world.call(1 + 2 * (number % 2), hello + b"".join(frames), host=f"10.0.9.{number}")
        world.start(2)
        world.advance(3)
        self.assertEqual("FOLE", world.roles[:2] + world.roles[4:])
        before = world.roles
        for number, (hello, frames) in enumerate(attacks):
            world.call(1 + number % 3, hello + b"".join(frames), host=f"10.0.9.{number}")
        world.advance(20)
        self.assertEqual(before, world.roles)
        self.assertEqual(FOLLOWING, world.services[2].state)
        for sid, service in world.services.items():
            self.assertLessEqual({1, 2, 3} - {sid}, set(service.connected))
        self.tearDown()

    def test_silent_connections_block_nobody(self) -> None:
        """However many connections say nothing, the others elect at once."""
        world = self.make()
        world.start(3)
        silent = [world.call(3, b"\xff" * (number % 8), host=f"10.0.8.{number}") for number in range(30)]
        began = world.clock.seconds()
        world.start(1)
        world.start(2)
        world.advance(0.5)
        self.assertEqual("FOFOLE", world.roles)
        self.assertFalse(any(stranger.lost for stranger in silent[-5:]))
        world.advance(11)
        self.assertTrue(all(stranger.lost for stranger in silent))
        self.assertGreater(world.clock.seconds(), began)

    def test_a_stranger_is_answered(self) -> None:
        """A larger id that is in no ensemble hears how things are, and changes nothing."""
        world = self.make()
        for sid in (1, 2, 3):
            world.start(sid)
        world.advance(1)
        question = encode_notification(LOOKING, Vote(9, 1 << 40, 99, 99), world.ensemble.text)
        stranger = world.call(2, encode_initial(9, [("10.0.9.9", PORT)]) + question)
        self.assertEqual(encode_notification(FOLLOWING, Vote(3, 0, 1, 0), world.ensemble.text), stranger.got)
        self.assertFalse(stranger.lost)

    def test_a_server_that_does_not_read(self) -> None:
        """What cannot be written to one waits and is replaced; the others are told everything."""
        world = self.make(ensemble(3, 1))
        for sid in (1, 2, 3):
            world.start(sid)
        world.advance(1)
        question = encode_notification(LOOKING, Vote(3, 0, 1, 0), world.ensemble.text)
        stranger: Any = world.call(1, encode_initial(9, [("10.0.9.9", PORT)]) + question)
        stranger.transport.pauseProducing()
        for _ in range(40):
            stranger.transport.write(question * 100)
            world.advance(0.1)
        self.assertLess(len(stranger.got), 1000)
        unsent = max(
            (near if near.host == "10.0.0.1" else far).outgoing.waiting
            for near, far in world.network._connections.values()
            if "10.0.9.9" in (near.host, far.host)
        )
        self.assertLess(unsent, 100_000)
        world.start(4)
        world.advance(1)
        self.assertEqual("FOFOLEOB", world.roles)
