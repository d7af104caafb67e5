"""Whatever a peer sends costs the peer its connection at most: machines fed with noise, in every phase."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.zab.leading import LeaderCase
from tests.zab.world import ensemble_of, entry_of, hear, parse
from zktwisted.wire import quorum
from zktwisted.wire.quorum import LearnerInfo, QuorumPacket
from zktwisted.zab.effects import Drop, Exit, Leave, Limits
from zktwisted.zab.learner import Learner

zxids = st.sampled_from([parse(each) for each in ("-1", "0:0", "1:0", "1:1", "1:2", "1:3", "2:0", "2:1", "7:0")])
payloads = (
    st.none()
    | st.binary(max_size=24)
    | zxids.map(entry_of)
    | st.sampled_from([quorum.pack_int(1), quorum.pack_int(-1), quorum.pack_learner_info(LearnerInfo(2))])
)
packets = st.builds(QuorumPacket, st.integers(-1, 21), zxids, payloads)
#: What is right more often: a history goes on with 2:1.
broadcast = st.sampled_from(
    [QuorumPacket(quorum.PROPOSAL, parse(f"2:{counter}"), entry_of(parse(f"2:{counter}"))) for counter in range(1, 5)]
    + [QuorumPacket(quorum.COMMIT, parse(f"2:{counter}")) for counter in range(1, 5)]
    + [QuorumPacket(quorum.INFORM, parse(f"2:{counter}"), entry_of(parse(f"2:{counter}"))) for counter in range(1, 5)]
)
acks = st.sampled_from([QuorumPacket(quorum.ACK, parse(f"1:{counter}")) for counter in range(1, 4)])
#: How a leader of epoch 2 lets a learner take part.
GREETING = (
    QuorumPacket(quorum.LEADERINFO, parse("2:0"), quorum.pack_int(0x10000)),
    QuorumPacket(quorum.DIFF, parse("1:1")),
    QuorumPacket(quorum.NEWLEADER, parse("2:0"), b""),
    QuorumPacket(quorum.UPTODATE, -1),
)


class NoiseTests(SynchronousTestCase):
    """Any packets, at any time."""

    @settings(deadline=None, derandomize=True, max_examples=300)
    @given(st.lists(packets, max_size=12), st.integers(0, 4), st.booleans())
    def test_learner(self, noise: list[QuorumPacket], phase: int, observer: bool) -> None:
        """A learner ends its role, or its process as it is told to, or goes on; nothing else happens."""
        learner = Learner(1, ensemble_of(1, 2, 3), 1, 1, parse("1:1"), observer, Limits(), 0.0)
        for packet in [*GREETING[:phase], *noise]:
            learner.receive(packet, 0.0)
            for effect in learner.take():
                if isinstance(effect, Exit):
                    self.assertIn(effect.status, (12, 13))
            learner.persisted(learner._token, 0.0)
        effects = learner.take()
        self.assertFalse(any(isinstance(effect, Leave | Exit) for effect in effects[:-1]))

    @settings(deadline=None, derandomize=True, max_examples=300)
    @given(st.lists(packets, max_size=12), st.integers(0, 3), st.booleans())
    def test_leader(self, noise: list[QuorumPacket], phase: int, observer: bool) -> None:
        """A leader drops the one that it came from, and nobody else; it leads on."""
        case = LeaderCase()
        case.setUp()
        case.lead()
        case.commit("1:1")
        case.propose("1:2")
        leader = case.leader
        leader.connected(9, case.now)
        hello = quorum.OBSERVERINFO if observer else quorum.FOLLOWERINFO
        right = [
            QuorumPacket(hello, parse("1:0"), quorum.pack_learner_info(LearnerInfo(9))),
            QuorumPacket(quorum.ACKEPOCH, parse("1:1"), quorum.pack_int(-1)),
            QuorumPacket(quorum.ACK, parse("1:0")),
        ]
        for packet in right[:phase] + noise:
            leader.receive(9, packet, case.now)
            for effect in leader.take():
                if isinstance(effect, Drop) and effect.reason != "it has come again":
                    self.assertEqual(9, effect.channel)
        self.assertFalse(leader.ended)
        # A stranger's acknowledgements commit nothing.
        self.assertEqual([parse("1:2")], [zxid for zxid, _ in leader.pending])

    @settings(deadline=None, derandomize=True, max_examples=300)
    @given(st.lists(st.lists(packets | broadcast, max_size=8), max_size=4), st.integers(3, 4), st.booleans())
    def test_learner_many(self, pieces: list[list[QuorumPacket]], phase: int, observer: bool) -> None:
        """A learner does of many packets what it does of them one by one."""
        one, many = (Learner(1, ensemble_of(1, 2, 3), 1, 1, parse("1:1"), observer, Limits(), 0.0) for _ in range(2))
        for learner in (one, many):
            for packet in GREETING[:phase]:
                learner.receive(packet, 0.0)
                learner.persisted(learner._token, 0.0)
            hear(learner)
        for piece in pieces:
            for packet in piece:
                one.receive(packet, 0.0)
            many.receive_all(piece, 0.0)
            did = [hear(learner) for learner in (one, many)]
            if observer:  # what it logs, and what it applies: no promise stands between them
                did = [sorted(words, key=lambda each: each.partition(" ")[0]) for words in did]
            self.assertEqual(did[0], did[1])
            for learner in (one, many):
                learner.persisted(learner._token, 0.0)
            self.assertEqual(hear(one), hear(many))
            ends = [(each.ended, each.pending, each.received_zxid) for each in (one, many)]
            self.assertEqual(ends[0], ends[1])

    @settings(deadline=None, derandomize=True, max_examples=300)
    @given(st.lists(st.tuples(st.integers(1, 2), st.lists(packets | acks, max_size=8)), max_size=6), st.booleans())
    def test_leader_many(self, pieces: list[tuple[int, list[QuorumPacket]]], observed: bool) -> None:
        """To each learner, and to itself, a leader says of many packets what it says of them one by one."""
        one, many = LeaderCase(), LeaderCase()
        for case in (one, many):
            case.setUp()
            case.lead()
            if observed:
                case.join(9, observer=True)
            case.propose(*(f"1:{counter}" for counter in range(1, 4)))
            case.leader.sync(1, case.now)
        for channel, piece in pieces:
            for packet in piece:
                one.leader.receive(channel, packet, one.now)
            many.leader.receive_all(channel, piece, many.now)
            found = [_by_whom(hear(case.leader)) for case in (one, many)]
            self.assertEqual(found[0], found[1])
            self.assertEqual(one.leader.pending, many.leader.pending)
            self.assertEqual(one.leader.learners(), many.leader.learners())


def _by_whom(said: list[str]) -> dict[str, list[str]]:
    """Sort what a leader says by whom it concerns: between them there is no order."""
    sorted_out: dict[str, list[str]] = {}
    for words in said:
        sorted_out.setdefault(words.partition(" < ")[0] if " < " in words else "itself", []).append(words)
    return sorted_out
