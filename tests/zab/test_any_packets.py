"""Whatever a peer sends costs the peer its connection at most: machines fed with noise, in every phase."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.zab.leading import LeaderCase
from tests.zab.world import ensemble_of, entry_of, parse
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


class NoiseTests(SynchronousTestCase):
    """Any packets, at any time."""

    @settings(deadline=None, derandomize=True, max_examples=300)
    @given(st.lists(packets, max_size=12), st.integers(0, 4), st.booleans())
    def test_learner(self, noise: list[QuorumPacket], phase: int, observer: bool) -> None:
        """A learner ends its role, or its process as it is told to, or goes on; nothing else happens."""
        learner = Learner(1, ensemble_of(1, 2, 3), 1, 1, parse("1:1"), observer, Limits(), 0.0)
        right = [
            QuorumPacket(quorum.LEADERINFO, parse("2:0"), quorum.pack_int(0x10000)),
            QuorumPacket(quorum.DIFF, parse("1:1")),
            QuorumPacket(quorum.NEWLEADER, parse("2:0"), b""),
            QuorumPacket(quorum.UPTODATE, -1),
        ]
        for packet in right[:phase] + noise:
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
