"""
The recorded side of a peer drives our machines: what they say is what the real server on the other side said.

What differs between two right servers is set aside: when a disk was done with a write, so acknowledgements are
compared among themselves; and what a connection was about to say when it broke.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from tests.zab.recordings import Conversation, Said, conversations, ensemble_of, meta
from tests.zab.recordings import said as recorded
from zktwisted.config.ensemble import Ensemble
from zktwisted.wire import quorum
from zktwisted.wire.quorum import QuorumPacket, read_packet
from zktwisted.zab.effects import (
    ACCEPTED_EPOCH,
    Apply,
    Broadcast,
    Committed,
    Drop,
    Exit,
    Lead,
    Leave,
    Limits,
    LoadImage,
    Log,
    Pong,
    ReadLog,
    Revalidated,
    Send,
    SendImage,
    Serve,
    Synced,
    WriteEpoch,
)
from zktwisted.zab.leader import Leader
from zktwisted.zab.learner import Learner

NOBODY = Ensemble(())


def split(data: bytes) -> list[QuorumPacket]:
    """Return the packets in some bytes."""
    found, offset = [], 0
    while offset < len(data):
        one = read_packet(data, offset)
        assert one is not None
        found.append(one[0])
        offset = one[1]
    return found


class Replay:
    """One of our learners in the place of a recorded one; its disk is done at once."""

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        theirs = [said.packet for said in conversation.said if said.packet and said.learner]
        by_type = {packet.type: packet for packet in reversed(theirs)}
        hello = by_type.get(quorum.FOLLOWERINFO) or by_type[quorum.OBSERVERINFO]
        promise = by_type.get(quorum.ACKEPOCH)
        info = quorum.read_learner_info(hello.data)
        accepted = hello.zxid >> 32
        current = quorum.read_int(promise.data) if promise else 0
        assert info.sid is not None
        self.said: list[QuorumPacket] = []
        self.logged: list[int] = []
        self.applied: list[int] = []
        self.synced = 0
        self.revalidated: list[tuple[int, bool]] = []
        self.ended: list[Leave | Exit] = []
        self.serving_after = -1
        self.machine = Learner(
            info.sid,
            NOBODY,
            accepted,
            accepted if current == -1 else current,
            promise.zxid if promise else 0,
            hello.type == quorum.OBSERVERINFO,
            Limits(),
            0.0,
            info.config_version,
        )
        # What its clients asked it, and the sessions that it had heard of, are taken from the recording.
        self.touched = [
            quorum.read_sessions(said.packet.data)
            for said in conversation.said
            if said.learner and said.packet and said.packet.type == quorum.PING
        ]
        self.perform()

    def perform(self) -> None:
        while effects := self.machine.take():
            for effect in effects:
                if isinstance(effect, Send):
                    self.said += split(effect.data)
                elif isinstance(effect, Pong):
                    self.machine.pong(effect.zxid, self.touched.pop(0) if self.touched else [], 0.0)
                elif isinstance(effect, Log):
                    self.logged += [zxid for zxid, _ in effect.entries]
                elif isinstance(effect, Apply):
                    self.applied += [zxid for zxid, _ in effect.entries]
                elif isinstance(effect, Serve):
                    self.serving_after = len(self.applied)
                elif isinstance(effect, Synced):
                    self.synced += 1
                elif isinstance(effect, Revalidated):
                    self.revalidated.append(effect)
                elif isinstance(effect, Leave | Exit):
                    self.ended.append(effect)
                token = getattr(effect, "token", None)
                if token is not None and not isinstance(effect, LoadImage):
                    self.machine.persisted(token, 0.0)

    def hear(self, said: Said) -> None:
        if said.packet is None:
            # The image: the driver has loaded it.
            self.machine.persisted(self.machine._awaited or 0, 0.0)
        elif said.packet.type == quorum.REQUEST:
            request = quorum.read_request(said.packet.data)
            self.machine.request(*request, said.packet.authinfo, 0.0)
        elif said.packet.type == quorum.REVALIDATE and said.learner:
            self.machine.revalidate(*quorum.read_session(said.packet.data), 0.0)
        elif not said.learner:
            self.machine.receive(said.packet, 0.0)
        self.perform()


def of(types: set[int]) -> Callable[[QuorumPacket], bool]:
    return lambda packet: packet.type in types


def is_380(conversation: Conversation) -> bool:
    """Whether the learner was of version 3.8.0."""
    mixed = conversation.file.startswith("mixed3") and conversation.learner != 3
    return mixed or "3.8.0" in meta(conversation.file)["server"]


def history(conversation: Conversation) -> list[int]:
    """Return the zxids of the transactions that came before NEWLEADER."""
    packets = [said.packet for said in conversation.said if said.packet]
    types = [packet.type for packet in packets]
    before = packets[: types.index(quorum.NEWLEADER)] if quorum.NEWLEADER in types else []
    return [packet.zxid for packet in before if packet.type == quorum.PROPOSAL]


class LearnerTests(SynchronousTestCase):
    """Our learner in the place of each learner that was recorded."""

    def each(self) -> list[tuple[Conversation, Replay]]:
        found = []
        for conversation in conversations():
            replay = Replay(conversation)
            for said in conversation.said:
                replay.hear(said)
            found.append((conversation, replay))
        self.assertGreater(len(found), 80)
        return found

    def theirs(self, conversation: Conversation, types: set[int]) -> list[QuorumPacket]:
        return [said.packet for said in conversation.said if said.learner and said.packet and said.packet.type in types]

    def test_same_words(self) -> None:
        """Greeting, promise, requests, revalidations, signs of life: the same bytes in the same order."""
        groups = (
            {quorum.FOLLOWERINFO, quorum.OBSERVERINFO, quorum.ACKEPOCH},
            {quorum.REQUEST, quorum.REVALIDATE},
            {quorum.PING},
        )
        for conversation, replay in self.each():
            for group in groups:
                theirs = self.theirs(conversation, group)
                ours = list(filter(of(group), replay.said))
                self.assertEqual(theirs, ours[: len(theirs)], conversation.where)
                if group != {quorum.PING}:
                    # Signs of life may be missing at the end: some learners were stopped.
                    self.assertEqual(len(theirs), len(ours), conversation.where)

    def test_same_acknowledgements(self) -> None:
        """What a follower has on its disk, it acknowledges, once and in order; nothing of the history it was sent."""
        compared = 0
        for conversation, replay in self.each():
            theirs = self.theirs(conversation, {quorum.ACK})
            ours = list(filter(of({quorum.ACK}), replay.said))
            if is_380(conversation):
                # It logs the history that it is sent like proposals, and acknowledges each piece of it.
                committed = history(conversation)
                theirs = [ack for ack in theirs if ack.zxid not in committed]
            self.assertEqual(theirs, ours[: len(theirs)], conversation.where)
            compared += len(theirs)
        self.assertEqual(1385, compared)

    def test_same_history(self) -> None:
        """What was committed, and nothing else, is applied: in order, and once."""
        for conversation, replay in self.each():
            committed = [
                said.packet.zxid
                for said in conversation.said
                if said.packet
                and not said.learner
                and said.packet.type
                in (quorum.COMMIT, quorum.COMMITANDACTIVATE, quorum.INFORM, quorum.INFORMANDACTIVATE)
            ]
            self.assertEqual(sorted(set(committed)), committed)
            if any(said.packet and said.packet.type == quorum.UPTODATE for said in conversation.said):
                self.assertEqual(committed, replay.applied, conversation.where)
            self.assertEqual([], replay.ended, conversation.where)

    def test_answers_come_through(self) -> None:
        """SYNC and the answers to REVALIDATE reach those who asked."""
        synced = revalidated = 0
        for _, replay in self.each():
            synced += replay.synced
            revalidated += len(replay.revalidated)
        self.assertEqual((6, 7), (synced, revalidated))


class Office:
    """One of our leaders in the place of a recorded one; what it proposes is taken from the recording."""

    def __init__(
        self, file: str, leader: int, epoch: int, ensemble: Ensemble, past: dict[int, bytes], last: int
    ) -> None:
        self.file = file
        self.last = last
        past = {zxid: past[zxid] for zxid in sorted(past) if zxid <= last}
        self.past = list(past.items())
        self.applied = self.past[-window_size(file) :]
        self.proposed: dict[int, bytes] = {}
        self.tokens: dict[int, int] = {}
        self.epoch_token = 0
        self.said: dict[int, list[QuorumPacket]] = {}
        self.committed: list[int] = []
        self.ended: list[Leave | Exit] = []
        self.machine = Leader(leader, ensemble, epoch - 1, epoch - 1, last, self, Limits(tick=1.0), 0.0)

    # History

    def last_zxid(self) -> int:
        return self.last

    def window(self) -> list[tuple[int, bytes]]:
        return self.applied

    def newest_snapshot_size(self) -> int:
        return 0

    # Driver

    def perform(self) -> None:
        while effects := self.machine.take():
            for effect in effects:
                if isinstance(effect, Send):
                    self.said.setdefault(effect.channel, []).extend(split(effect.data))
                elif isinstance(effect, Broadcast):
                    for channel in effect.channels:
                        self.said.setdefault(channel, []).extend(split(b"".join(effect.parts)))
                elif isinstance(effect, SendImage):
                    self.said.setdefault(effect.channel, []).append(QuorumPacket(quorum.SNAP, self.last))
                    self.machine.image_sent(effect.channel, 0.0)
                elif isinstance(effect, WriteEpoch):
                    if effect.name == ACCEPTED_EPOCH:
                        self.machine.persisted(effect.token, 0.0)
                    else:
                        self.epoch_token = effect.token
                elif isinstance(effect, Log):
                    self.tokens.update((zxid, effect.token) for zxid, _ in effect.entries)
                elif isinstance(effect, Lead):
                    self.last = effect.epoch << 32
                elif isinstance(effect, Committed):
                    self.committed += effect.zxids
                    self.applied += [(zxid, self.proposed[zxid]) for zxid in effect.zxids]
                    self.last = effect.zxids[-1]
                elif isinstance(effect, ReadLog):
                    self.machine.log_read(effect.channel, self.past + list(self.proposed.items()), 0.0)
                elif isinstance(effect, Drop):
                    # The recordings do not tell of every connection how it ended.
                    assert effect.reason == "it has come again", effect
                elif isinstance(effect, Leave | Exit):
                    self.ended.append(effect)

    def see(self, channel: int, said: Said) -> None:
        """Hear what a learner said; do what the recorded leader is seen to have done."""
        packet = said.packet
        if packet is None:
            return
        if said.learner:
            if channel not in self.said:
                self.said[channel] = []
                self.machine.connected(channel, 0.0)
            self.machine.receive(channel, packet, 0.0)
        elif packet.type in (quorum.PROPOSAL, quorum.INFORM, quorum.INFORMANDACTIVATE):
            entry = quorum.read_designated(packet.data)[1] if packet.type == quorum.INFORMANDACTIVATE else packet.data
            if packet.zxid > self.machine.last_proposed and self.machine.serving:
                self.proposed[packet.zxid] = entry or b""
                self.machine.propose(packet.zxid, entry or b"", 0.0)
        elif packet.type == quorum.UPTODATE:
            # At the latest now it was sure of its own disk.
            self.machine.persisted(self.epoch_token, 0.0)
        self.perform()
        if packet.type in (quorum.COMMIT, quorum.INFORM) and not said.learner and packet.zxid in self.tokens:
            # Whoever made it commit: at the latest now our own disk is done.
            self.machine.persisted(self.tokens[packet.zxid], 0.0)
        elif packet.type == quorum.SYNC:
            self.machine.sync(channel, 0.0)
        elif packet.type == quorum.REVALIDATE and not said.learner:
            self.machine.revalidated(channel, *quorum.read_validity(packet.data), 0.0)
        self.perform()


def window_size(file: str) -> int:
    """Return commitLogCount."""
    return 10 if file.startswith("snap_commitlog") else 500


def announced(conversation: Conversation) -> int | None:
    """Return what the leader had committed, as the first synchronization tells it."""
    for said in conversation.said:
        if said.packet and said.packet.type in (quorum.DIFF, quorum.TRUNC, quorum.SNAP):
            return said.packet.zxid
    return None


def offices() -> list[tuple[Office, dict[int, Conversation]]]:
    """Let our leaders replay every leadership whose begin was recorded."""
    found = []
    by_file: dict[str, list[Conversation]] = {}
    for conversation in conversations():
        if not conversation.file.startswith("reconfig"):
            by_file.setdefault(conversation.file, []).append(conversation)
    for file, all_of_file in by_file.items():
        by_number = {conversation.number: conversation for conversation in all_of_file}
        past: dict[int, bytes] = {}
        offices: dict[tuple[int, int], Office] = {}
        for name, number, _, _, said in recorded():
            if name != file:
                continue
            conversation = by_number[number]
            epoch = epoch_of(conversation)
            if epoch is None:
                continue
            key = conversation.leader, epoch
            if key not in offices:
                ensemble, last = ensemble_of(conversation), announced(conversation)
                assert ensemble is not None and last is not None
                offices[key] = Office(file, conversation.leader, epoch, ensemble, past, last)
                offices[key].perform()
            offices[key].see(number, said)
            packet = said.packet
            if packet is not None and packet.type in (quorum.PROPOSAL, quorum.INFORM):
                past[packet.zxid] = packet.data or b""
        for (leader, epoch), office in offices.items():
            theirs = {c.number: c for c in all_of_file if (c.leader, epoch_of(c)) == (leader, epoch)}
            found.append((office, theirs))
    return found


def epoch_of(conversation: Conversation) -> int | None:
    """Return the epoch of the leader, if it came to tell it and to bring the learner up."""
    types = {said.packet.type: said.packet for said in conversation.said if said.packet}
    if quorum.LEADERINFO not in types or quorum.NEWLEADER not in types:
        return None
    return types[quorum.LEADERINFO].zxid >> 32


class LeaderTests(SynchronousTestCase):
    """Our leader in the place of each leader that was recorded."""

    def test_same_words(self) -> None:
        """Epoch, history, NEWLEADER and UPTODATE, proposals, commits and answers: the same bytes, each in its order."""
        groups = (
            {quorum.LEADERINFO, quorum.DIFF, quorum.TRUNC, quorum.SNAP, quorum.NEWLEADER, quorum.UPTODATE},
            {quorum.PROPOSAL},
            {quorum.COMMIT},
            {quorum.INFORM},
            {quorum.SYNC, quorum.REVALIDATE},
        )
        compared = 0
        for office, theirs in offices():
            for number, conversation in theirs.items():
                for group in groups:
                    said = [each.packet for each in conversation.said if not each.learner and each.packet]
                    expected = [packet for packet in said if packet.type in group]
                    ours = list(filter(of(group), office.said.get(number, [])))
                    self.assertEqual(expected, ours[: len(expected)], conversation.where)
                    compared += len(expected)
            self.assertEqual([], office.ended)
        self.assertEqual(4251, compared)
