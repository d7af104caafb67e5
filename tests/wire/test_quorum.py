"""Each packet recorded between servers decodes, and encodes to the same bytes; whatever else comes is refused."""

from __future__ import annotations

import re
from collections import Counter
from struct import pack

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.zab import recordings
from zktwisted.errors import ProtocolError
from zktwisted.wire import ops, quorum
from zktwisted.wire.proto import Id
from zktwisted.wire.quorum import LearnerInfo, QuorumPacket, pack_bare, pack_packet, read_packet, read_packets

identities = st.builds(Id, st.text(max_size=8), st.text(max_size=20))
packets = st.builds(
    QuorumPacket,
    st.integers(-(2**31), 2**31 - 1),
    st.integers(-(2**63), 2**63 - 1),
    st.none() | st.binary(max_size=40),
    st.none() | st.lists(identities, max_size=3).map(tuple),
)


#: What is said in the broadcast, by clients that are the same and by others, and now and then something else.
said = st.builds(
    QuorumPacket,
    st.sampled_from([1, 1, 2, 2, 3, 4, 5, 8, quorum.SNAP, quorum.NEWLEADER]),
    st.integers(0, 9),
    st.none() | st.binary(max_size=12),
    st.sampled_from([None, (), (Id("ip", "127.0.0.1"),), (Id("ip", "127.0.0.1"), Id("digest", "a:b"))]),
)


class RecordedTests(SynchronousTestCase):
    """What real servers said."""

    def test_same_bytes(self) -> None:
        """Each packet is the whole of its bytes, and encodes to them again."""
        count = 0
        for _, _, _, _, said in recordings.said():
            if said.packet is not None:
                self.assertEqual(said.raw, pack_packet(*said.packet), said.where)
                count += 1
        self.assertEqual(7096, count)

    def test_streams(self) -> None:
        """The packets of a connection follow one another without anything between them."""
        for conversation in recordings.conversations():
            packets = [said.packet for said in conversation.said if said.learner]
            stream = b"".join(said.raw for said in conversation.said if said.learner)
            found, offset = [], 0
            while (next_one := read_packet(stream, offset)) is not None:
                found.append(next_one[0])
                offset = next_one[1]
            self.assertEqual(packets, found, conversation.where)
            self.assertEqual(len(stream), offset, conversation.where)

    def test_payloads(self) -> None:
        """The payloads hold what the recorder found in them, and encode to the same bytes."""
        seen: Counter[str] = Counter()
        for _, _, _, _, said in recordings.said():
            packet, decoded = said.packet, said.decoded
            if packet is None:
                continue
            name, data = quorum.packet_name(packet.type), packet.data
            if packet.type in (quorum.FOLLOWERINFO, quorum.OBSERVERINFO):
                info = quorum.read_learner_info(data)
                self.assertEqual(
                    (decoded["serverid"], decoded["protocolVersion"], decoded["configVersion"]), info, said.where
                )
                self.assertEqual(data, quorum.pack_learner_info(info))
            elif packet.type in (quorum.LEADERINFO, quorum.ACKEPOCH):
                value = quorum.read_int(data)
                self.assertIn(value, decoded.values(), said.where)
                self.assertEqual(data, quorum.pack_int(value))
            elif packet.type == quorum.PING and said.learner:
                sessions = quorum.read_sessions(data)
                touched = [(one["sessionId"], one["timeout"]) for one in decoded.get("touch", [])]
                self.assertEqual(touched, sessions, said.where)
                self.assertEqual(data, quorum.pack_sessions(sessions))
            elif packet.type == quorum.REQUEST:
                request = quorum.read_request(data)
                self.assertEqual((decoded["sessionId"], decoded["cxid"], decoded["type"]), request[:3], said.where)
                self.assertEqual(data, quorum.pack_request(*request))
                self.assertEqual(pack_packet(*packet), quorum.pack_forwarded(*request, packet.authinfo))
            elif packet.type == quorum.REVALIDATE:
                if said.learner:
                    self.assertEqual(data, quorum.pack_session(*quorum.read_session(data)))
                else:
                    self.assertEqual(data, quorum.pack_validity(*quorum.read_validity(data)))
            elif packet.type in (quorum.COMMITANDACTIVATE, quorum.INFORMANDACTIVATE):
                self.assertEqual(data, quorum.pack_designated(*quorum.read_designated(data)))
            else:
                continue
            seen[name] += 1
        self.assertEqual(
            {
                "ACKEPOCH": 90,
                "COMMITANDACTIVATE": 17,
                "FOLLOWERINFO": 84,
                "INFORMANDACTIVATE": 4,
                "LEADERINFO": 90,
                "OBSERVERINFO": 6,
                "PING": 472,
                "REQUEST": 148,
                "REVALIDATE": 14,
            },
            dict(sorted(seen.items())),
        )


class PacketTests(SynchronousTestCase):
    """Packets of any content, whole and in pieces."""

    @settings(deadline=None, derandomize=True, max_examples=200)
    @given(packets, st.binary(max_size=5))
    def test_round_trip(self, packet: QuorumPacket, behind: bytes) -> None:
        """A packet is read as it was written, and what is behind it is left alone."""
        raw = pack_packet(*packet)
        self.assertEqual((packet, len(raw)), read_packet(raw + behind))

    @settings(deadline=None, derandomize=True, max_examples=100)
    @given(packets)
    def test_pieces(self, packet: QuorumPacket) -> None:
        """As long as its end has not come, a packet is not there."""
        raw = pack_packet(*packet)
        for end in range(len(raw)):
            self.assertIsNone(read_packet(raw[:end]))

    @settings(deadline=None, derandomize=True, max_examples=300)
    @given(st.binary(max_size=64))
    def test_noise(self, noise: bytes) -> None:
        """Any bytes begin a packet, or may begin one, or are refused: nothing else happens."""
        try:
            found = read_packet(noise)
        except ProtocolError:
            return
        self.assertTrue(found is None or found[1] <= len(noise))

    @settings(deadline=None, derandomize=True, max_examples=300)
    @given(st.lists(said, max_size=8), st.binary(max_size=30), st.integers(0, 3))
    def test_many(self, sent: list[QuorumPacket], behind: bytes, ahead: int) -> None:
        """Many at a time are what they are one by one, up to what makes no sense, and never beyond an image's begin."""
        raw = bytes(ahead) + b"".join(pack_packet(*each) for each in sent) + behind
        offset = ahead
        while True:
            packets, after = [], offset
            error = None
            try:
                while (found := read_packet(raw, after)) is not None:
                    packets.append(found[0])
                    after = found[1]
                    if found[0].type in (quorum.SNAP, quorum.NEWLEADER, quorum.UPTODATE):
                        break
            except ProtocolError as e:
                error = str(e)
            if error is not None and not packets:
                self.assertRaisesRegex(ProtocolError, re.escape(error), read_packets, raw, offset)
                return
            together, end = read_packets(raw, offset)
            self.assertEqual(packets[: len(together)], together)
            self.assertTrue(together or not packets)
            if not together:
                self.assertEqual(offset, end)
                return
            if len(together) == len(packets):
                self.assertEqual(after, end)
            else:
                self.assertNotIn(together[-1].type, (quorum.PROPOSAL, quorum.ACK, quorum.COMMIT, quorum.REQUEST))
            offset = end

    @settings(deadline=None, derandomize=True, max_examples=50)
    @given(st.lists(st.sampled_from([pack_bare(3, 1), pack_bare(4, 2), pack_bare(5, 3), pack_packet(2, 4, b"x")])))
    def test_rows(self, sent: list[bytes]) -> None:
        """Rows of acknowledgements and commits, and what stands between them."""
        raw = b"".join(sent)
        for end in (len(raw), len(raw) - 1, len(raw) - 5):
            expected, offset = [], 0
            while (found := read_packet(raw[: max(0, end)], offset)) is not None:
                expected.append(found[0])
                offset = found[1]
            self.assertEqual((expected, offset), read_packets(raw[: max(0, end)]))

    def test_many_too_long(self) -> None:
        """What is longer than the limit is refused when it is the first, and not with those before it."""
        raw = pack_bare(quorum.ACK, 5) + pack_packet(quorum.PROPOSAL, 1, b"x" * 101)
        self.assertEqual(([QuorumPacket(quorum.ACK, 5)], 20), read_packets(raw, 0, 100))
        self.assertRaises(ProtocolError, read_packets, raw, 20, 100)

    def test_bare(self) -> None:
        """A packet that is nothing but its zxid has null data and null identities."""
        self.assertEqual(pack_packet(quorum.COMMIT, 7), pack_bare(quorum.COMMIT, 7))

    def test_null_and_empty(self) -> None:
        """Null and empty differ on the wire."""
        for packet in (QuorumPacket(5, 1, None, None), QuorumPacket(5, 1, b"", None), QuorumPacket(5, 1, b"", ())):
            found = read_packet(pack_packet(*packet))
            assert found is not None
            self.assertEqual(packet, found[0])

    def test_offset(self) -> None:
        """A packet is found where it begins, in any kind of buffer."""
        raw = b"junk" + pack_packet(2, 9, b"data")
        for buf in (raw, bytearray(raw), memoryview(raw)):
            self.assertEqual((QuorumPacket(2, 9, b"data"), len(raw)), read_packet(buf, 4))

    def test_too_long(self) -> None:
        """A payload beyond the limit is refused by its length, before it has come."""
        head = pack(">iqi", 2, 1, 101)
        self.assertRaises(ProtocolError, read_packet, head, 0, 100)
        self.assertIsNone(read_packet(head, 0, 101))
        self.assertRaises(ProtocolError, read_packet, pack(">iqi", 2, 1, 2**31 - 1))

    def test_negative(self) -> None:
        """A length below -1 is refused."""
        self.assertRaises(ProtocolError, read_packet, pack(">iqi", 2, 1, -2))

    def test_identities(self) -> None:
        """So are more identities, and longer ones, than any client has."""
        head = pack_bare(1, 1)[:-4]
        self.assertRaises(ProtocolError, read_packet, head + pack(">i", quorum.IDENTITIES_MAX + 1))
        self.assertIsNone(read_packet(head + pack(">i", quorum.IDENTITIES_MAX)))
        self.assertRaises(ProtocolError, read_packet, head + pack(">ii", 1, quorum.IDENTITIES_BYTES_MAX))
        self.assertRaises(ProtocolError, read_packet, head + pack(">ii", 1, -2))

    def test_shown(self) -> None:
        """A packet shows its name, its zxid and how much it carries; never what."""
        self.assertEqual("<PROPOSAL 0x100000001 6 bytes>", repr(QuorumPacket(2, 2**32 + 1, b"secret")))
        self.assertEqual("<UPTODATE 0xffffffffffffffff>", repr(QuorumPacket(12, -1)))
        self.assertEqual("<type 99 0x0>", repr(QuorumPacket(99, 0)))


class PayloadTests(SynchronousTestCase):
    """Payloads that are cut short."""

    def test_learner_info(self) -> None:
        """Learners of all ages: what is missing has the value of before it was sent."""
        full = quorum.pack_learner_info(LearnerInfo(3, 0x10000, 9))
        self.assertEqual(LearnerInfo(3, 0x10000, 9), quorum.read_learner_info(full + b"more"))
        self.assertEqual(LearnerInfo(3, 0x10000, 0), quorum.read_learner_info(full[:12]))
        self.assertEqual(LearnerInfo(3, 1, 0), quorum.read_learner_info(full[:8]))
        self.assertEqual(LearnerInfo(None, 1, 0), quorum.read_learner_info(full[:7]))
        self.assertEqual(LearnerInfo(None, 1, 0), quorum.read_learner_info(None))

    def test_short(self) -> None:
        """Everything else is refused when it is cut short."""
        for read, data in (
            (quorum.read_int, b"\0\0\0"),
            (quorum.read_sessions, bytes(13)),
            (quorum.read_session, bytes(11)),
            (quorum.read_validity, bytes(8)),
            (quorum.read_request, bytes(15)),
            (quorum.read_designated, bytes(7)),
        ):
            self.assertRaises(ProtocolError, read, data)
        for read in (quorum.read_int, quorum.read_session, quorum.read_validity, quorum.read_request):
            self.assertRaises(ProtocolError, read, None)
        self.assertEqual([], quorum.read_sessions(None))

    def test_request(self) -> None:
        """A request has any body, also none."""
        for body in (b"", b"body"):
            payload = quorum.pack_request(-5, 3, ops.SYNC, body)
            self.assertEqual((-5, 3, ops.SYNC, body), quorum.read_request(payload))


class ZxidTests(SynchronousTestCase):
    """How a zxid is put together."""

    def test_parts(self) -> None:
        """A zxid comes apart into what it was made of; the last epochs are negative numbers on the wire."""
        for epoch, counter in ((0, 0), (1, 0), (5, 2**32 - 1), (2**31, 7), (2**32 - 1, 2**32 - 1)):
            zxid = ops.make_zxid(epoch, counter)
            self.assertEqual((epoch, counter), (ops.zxid_epoch(zxid), ops.zxid_counter(zxid)))
            self.assertTrue(-(2**63) <= zxid < 2**63)
        self.assertEqual(0x100000002, ops.make_zxid(1, 2))
        self.assertEqual(-1, ops.make_zxid(-1, -1))
