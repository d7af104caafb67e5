"""Votes and initial messages: what Java servers sent, every generation, and every way to be wrong."""

from __future__ import annotations

from struct import pack

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.wire.elections import everything
from zktwisted.config import Ensemble
from zktwisted.errors import ProtocolError
from zktwisted.wire.votes import (
    NOBODY,
    InitialMessage,
    Notification,
    Vote,
    decode_notification,
    encode_initial,
    encode_notification,
    read_initial,
)

LONG = st.integers(-(1 << 63), (1 << 63) - 1)


class RecordedTests(SynchronousTestCase):
    """What was recorded decodes to what the recorder saw in it, and encodes to the same bytes."""

    def test_notifications(self) -> None:
        """Every notification of every recording."""
        versions = set()
        states = set()
        observed = False
        for said in everything():
            if said.kind != "notification":
                continue
            note = decode_notification(said.data)
            vote = note.vote
            fields = (note.state, vote.leader, vote.zxid, vote.round, vote.peer_epoch, note.version, note.config)
            names = ("state", "leader", "zxid", "electionEpoch", "peerEpoch", "version", "config")
            self.assertEqual(tuple(_integer(said.decoded[name]) for name in names), fields, said.where)
            assert note.config is not None
            self.assertEqual(said.data, encode_notification(note.state, vote, note.config)[4:], said.where)
            versions.add(note.version)
            states.add(note.state)
            observed |= vote.leader == vote.zxid == vote.peer_epoch == NOBODY
        self.assertEqual({2}, versions)
        self.assertEqual({0, 1, 2}, states)
        self.assertTrue(observed)

    def test_their_configurations(self) -> None:
        """The text in each notification is one that we would have written."""
        texts = {decode_notification(said.data).config for said in everything() if said.kind == "notification"}
        self.assertGreater(len(texts), 15)
        for text in texts:
            assert text is not None
            self.assertEqual(text, Ensemble.parse(text, multi_address=True).text)

    def test_initial_messages(self) -> None:
        """Every initial message of every recording, with one address and with several."""
        counted = {False: 0, True: 0}
        for said in everything():
            if said.kind != "initial":
                continue
            found = read_initial(said.data)
            assert found is not None
            message, end = found
            self.assertEqual((said.sender, len(said.data)), (message.sid, end), said.where)
            self.assertEqual(said.decoded["protocolVersion"], -65535 if message.many else -65536, said.where)
            again = encode_initial(message.sid, message.addresses, many=message.many)
            self.assertEqual(said.data, again, said.where)
            counted[message.many] += 1
        self.assertGreater(min(counted.values()), 5)


def _integer(value: object) -> object:
    """Numbers that the recorder wrote in hexadecimal."""
    return int(value, 16) if isinstance(value, str) and value.startswith(("0x", "-0x")) else value


class NotificationTests(SynchronousTestCase):
    """Every generation, as the table of spec: election 4.2 has it."""

    def refused(self, body: bytes, words: str) -> None:
        """The body is no notification, and it is said why."""
        error = self.assertRaises(ProtocolError, decode_notification, body)
        self.assertIn(words, str(error))

    def test_28_bytes(self) -> None:
        """Up to 3.3: the epoch is that of the zxid, with its sign."""
        body = pack(">iqqq", 2, 3, 0x500000007, 9)
        self.assertEqual(Notification(2, Vote(3, 0x500000007, 9, 5), 0), decode_notification(body))
        body = pack(">iqqq", 0, 3, -1, 9)
        self.assertEqual(-1, decode_notification(body).vote.peer_epoch)

    def test_40_bytes(self) -> None:
        """3.4: the last field says 1 and is not read."""
        for last in (1, 7):
            body = pack(">iqqqqi", 1, 3, 4, 5, 6, last)
            self.assertEqual(Notification(1, Vote(3, 4, 5, 6), 0), decode_notification(body))

    def test_version_1(self) -> None:
        """More than 40 bytes and version 1: the rest means nothing."""
        for rest in (b"\0", b"\xff" * 4, b"x" * 90):
            body = pack(">iqqqqi", 1, 3, 4, 5, 6, 1) + rest
            self.assertEqual(Notification(1, Vote(3, 4, 5, 6), 1), decode_notification(body))

    def test_version_2_and_later(self) -> None:
        """The configuration has its length; what follows it means nothing."""
        for version in (2, 3):
            body = pack(">iqqqqii", 1, 3, 4, 5, 6, version, 2) + b"ab"
            self.assertEqual(Notification(1, Vote(3, 4, 5, 6), version, "ab"), decode_notification(body))
            self.assertEqual("ab", decode_notification(body + b"cd").config)

    def test_skipped(self) -> None:
        """Too short for what it says: to be skipped."""
        whole = pack(">iqqqqii", 0, 3, 4, 5, 6, 2, 3)
        for size in (0, 1, 27):
            self.refused(whole[:size], f"{size} bytes")
        for size in (29, 36, 39):
            self.refused(whole[:size], "no version")
        for size in (41, 43):
            self.refused(whole[:size], "ends in the length")
        self.refused(whole + b"ab", "configuration of 3 bytes")
        for length in (-1, -(1 << 31), (1 << 31) - 1):
            self.refused(pack(">iqqqqii", 0, 3, 4, 5, 6, 2, length) + b"abc", f"configuration of {length}")

    def test_text_that_is_none(self) -> None:
        """A configuration in no encoding is a bad configuration, and the vote counts."""
        body = pack(">iqqqqii", 0, 3, 4, 5, 6, 2, 2) + b"\xff\xfe"
        self.assertEqual(Notification(0, Vote(3, 4, 5, 6), 2, "��"), decode_notification(body))

    @given(st.integers(0, 3), LONG, LONG, LONG, LONG, st.text(max_size=40).filter(lambda text: text.isprintable()))
    @settings(deadline=None, derandomize=True, max_examples=100)
    def test_any(self, state: int, leader: int, zxid: int, round_: int, epoch: int, config: str) -> None:
        """Whatever is encoded comes back, in a frame of its length."""
        vote = Vote(leader, zxid, round_, epoch)
        data = encode_notification(state, vote, config)
        self.assertEqual(len(data) - 4, int.from_bytes(data[:4], "big"))
        self.assertEqual(Notification(state, vote, 2, config), decode_notification(data[4:]))

    @given(st.binary(max_size=80))
    @settings(deadline=None, derandomize=True, max_examples=300)
    def test_noise(self, body: bytes) -> None:
        """Noise is a notification or a ProtocolError, nothing else."""
        try:
            decode_notification(body)
        except ProtocolError:
            pass


class InitialMessageTests(SynchronousTestCase):
    def test_one_address(self) -> None:
        """The bytes of the specification's example; others of several addresses are not named."""
        data = encode_initial(2, [("127.0.0.1", 41202), ("10.0.0.1", 3888)])
        expected = "ffffffffffff0000 0000000000000002 0000000f" + b"127.0.0.1:41202".hex()
        self.assertEqual(bytes.fromhex(expected), data)

    def test_several_addresses(self) -> None:
        """All are named, IPv6 in brackets."""
        data = encode_initial(2, [("10.0.0.5", 3888), ("2001:db8:0:0:0:0:0:1", 3889)], many=True)
        self.assertEqual(bytes.fromhex("ffffffffffff0001"), data[:8])
        self.assertEqual(b"10.0.0.5:3888|[2001:db8:0:0:0:0:0:1]:3889", data[20:])

    def test_before_3_5(self) -> None:
        """Eight bytes, and frames at once; no id is too large for a server."""
        for sid in (0, 9, (1 << 63) - 1):
            self.assertEqual((InitialMessage(sid), 8), read_initial(pack(">q", sid) + b"\0\0\0\x1c"))

    def test_byte_by_byte(self) -> None:
        """Nothing before the last byte, and nothing of what follows it."""
        for many in (False, True):
            data = encode_initial(7, [("h1", 1), ("::1", 65535)], many=many)
            for end in range(len(data)):
                self.assertIsNone(read_initial(data[:end]))
            addresses = (("h1", 1), ("::1", 65535)) if many else (("h1", 1),)
            for rest in (b"", b"x"):
                self.assertEqual((InitialMessage(7, addresses, many), len(data)), read_initial(data + rest))

    def test_either_tag_takes_several_addresses(self) -> None:
        """They are split in both forms."""
        data = encode_initial(7, [("h1", 1), ("h2", 2)], many=True)
        found = read_initial(data[:7] + b"\0" + data[8:])
        self.assertEqual((InitialMessage(7, (("h1", 1), ("h2", 2))), len(data)), found)

    def test_wildcards_cannot_be_called_back(self) -> None:
        """What means every address of the caller is no address for us."""
        addresses = (("0.0.0.0", 1), ("::", 2), ("0:0:0:0:0:0:0:0", 3), ("h", 4), ("::1", 5))
        found = read_initial(encode_initial(7, addresses, many=True))
        assert found is not None
        self.assertEqual(addresses, found[0].addresses)
        self.assertEqual((("h", 4), ("::1", 5)), found[0].usable)

    def test_unknown_tags(self) -> None:
        """Other negative numbers are refused as soon as they are there."""
        for tag in (-1, -65534, -65537, -(1 << 63)):
            self.assertRaises(ProtocolError, read_initial, pack(">q", tag))

    def test_lengths(self) -> None:
        """1 to 2048, and it is known before the text comes."""
        for length in (0, -1, 2049, (1 << 31) - 1):
            self.assertRaises(ProtocolError, read_initial, pack(">qqi", -65536, 1, length))
        longest = encode_initial(1, [("h" * 2046, 1)])
        self.assertEqual(len(longest), (read_initial(longest) or (None, 0))[1])

    def test_malformed_addresses(self) -> None:
        """No port, too much, a bracket too few, no text."""
        one = ("h", "h:", ":1", "h:x", "h:1:2", "h:65536", "h:-1", "h\n:1", "h:١")
        for text in (*one, "[::1:1", "[::1]", "[::1]:", "[::1]1", "::1:3888", "|", "h:1||h:2", "h:1|h"):
            raw = text.encode()
            self.assertRaises(ProtocolError, read_initial, pack(">qqi", -65536, 1, len(raw)) + raw)
        self.assertRaises(ProtocolError, read_initial, pack(">qqi", -65536, 1, 4) + b"\xff:10")

    @given(st.binary(max_size=60), st.sampled_from([b"", pack(">qq", -65536, 3), pack(">qqi", -65535, 3, 12)]))
    @settings(deadline=None, derandomize=True, max_examples=300)
    def test_noise(self, noise: bytes, before: bytes) -> None:
        """Noise is an initial message, the beginning of one, or a ProtocolError, nothing else."""
        try:
            read_initial(before + noise)
        except ProtocolError:
            pass
