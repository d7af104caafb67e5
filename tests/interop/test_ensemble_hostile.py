"""
Strangers on the ports that servers have for each other: noise, huge lengths, unknown types, and silence.

Each costs the stranger its connection and a line in the log, and nobody else anything.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
from collections.abc import Iterator

from tests.interop.clients import servers
from tests.interop.conftest import MakeEnsemble
from tests.interop.ensembles import JAVA, OURS, Ensemble, Member, until
from tests.interop.load import under_load
from tests.interop.process import HOST

SEED = int(os.environ.get("ZKTWISTED_SEED", "20240229"))
SECONDS = 60.0
ADDRESS = b"127.0.0.1:1"
ACK, PING, FOLLOWER_INFO, LEADER_INFO, ACK_EPOCH, NEW_LEADER, UNKNOWN = 3, 5, 11, 17, 18, 10, 99


def initial(sid: int, tag: int = -65536, address: bytes = ADDRESS, length: int | None = None) -> bytes:
    """Encode the first message on an election port."""
    return struct.pack(">qqi", tag, sid, len(address) if length is None else length) + address


def packet(kind: int, zxid: int = 0, data: bytes | None = None, length: int | None = None, ids: int = -1) -> bytes:
    """Encode a packet of the quorum port, with lengths that may lie."""
    size = (-1 if data is None else len(data)) if length is None else length
    return struct.pack(">iqi", kind, zxid, size) + (data or b"") + struct.pack(">i", ids)


def learner_info(sid: int, version: int = 0) -> bytes:
    """Encode what a learner says of itself."""
    return struct.pack(">qiq", sid, 0x10000, version)


HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) * 2
STRANGER = initial(9)
#: What is said on the election port, after which the server has to hang up.
ON_ELECTION = {
    "a web browser": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "TLS": HELLO,
    "ones": b"\xff" * 64,
    "an unknown tag": initial(9, tag=-65534),
    "a huge address": initial(9, length=0x7FFFFFFF),
    "a negative address": initial(9, length=-5),
    "no address": initial(9, address=b""),
    "an address without a port": initial(9, address=b"nowhere"),
    "a notification of no length": STRANGER + struct.pack(">i", 0),
    "a huge notification": STRANGER + struct.pack(">i", 0x7FFFFFFF),
    "a negative notification": STRANGER + struct.pack(">i", -1),
}
#: The same on the quorum port of the leader.
ON_QUORUM = {
    "a web browser": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "TLS": HELLO,
    "an unknown type": packet(UNKNOWN),
    "an ACK from nobody": packet(ACK, 1 << 32),
    "huge data": packet(FOLLOWER_INFO, 0, b"", 0x7FFFFFFF),
    "negative data": packet(FOLLOWER_INFO, 0, b"", -2),
    "many identities": packet(FOLLOWER_INFO, 0, learner_info(9), ids=0x7FFFFFFF),
    "a newer configuration": packet(FOLLOWER_INFO, 0, learner_info(9, version=99)),
    "huge data later": packet(FOLLOWER_INFO, 0, learner_info(9)) + packet(ACK_EPOCH, 0, b"", 0x7FFFFFFF),
    "a wrong answer to LEADERINFO": packet(FOLLOWER_INFO, 0, learner_info(9)) + packet(PING),
    "no epoch": packet(FOLLOWER_INFO, 0, learner_info(9)) + packet(ACK_EPOCH, 0, b"12"),
}


@contextlib.contextmanager
def calling(port: int, said: bytes = b"") -> Iterator[socket.socket]:
    """Give a connection on which something was said."""
    with socket.create_connection((HOST, port), SECONDS) as link:
        link.sendall(said)
        yield link


def hangs_up(link: socket.socket) -> bool:
    """Take what the server says until it ends the connection."""
    with contextlib.suppress(ConnectionResetError):
        while link.recv(65536):
            pass
    return True


def lines(member: Member) -> list[str]:
    """Return what a server has logged, but for who asked it for four letter words."""
    return [line for line in member.running.output.splitlines() if line.strip() and "command from" not in line]


def start(make_ensemble: MakeEnsemble) -> tuple[Ensemble, Member]:
    """Start with a leader of the kind under test, and return it, too."""
    ensemble = make_ensemble({1: JAVA, 2: OURS, 3: OURS})
    ensemble.start(2, 3)
    ensemble.start(1)
    assert ensemble.leader() == 3
    return ensemble, ensemble[3]


def test_bad_words(make_ensemble: MakeEnsemble) -> None:
    """Who says what no server says is hung up on, with one line in the log, and the ensemble never notices."""
    ensemble, leader = start(make_ensemble)
    ours = leader.played_by == OURS
    for port, words in ((leader.election_port, ON_ELECTION), (leader.quorum_port, ON_QUORUM)):
        for name, said in words.items():
            before = lines(leader)
            with calling(port, said) as link:
                assert hangs_up(link)
            if ours:
                until(lambda before=before: len(lines(leader)) > len(before), lambda name=name: f"{name} is logged")
                assert len(lines(leader)) == len(before) + 1, f"{name}: {lines(leader)[len(before) :]}"
    assert ensemble.leader() == 3
    assert leader.process is leader.processes[0]
    ensemble.assert_equal()


def test_those_who_say_nothing(make_ensemble: MakeEnsemble) -> None:
    """Many connections that say nothing, or half a word, keep no server from coming back."""
    ensemble, leader = start(make_ensemble)
    beginnings = [b"", STRANGER[:7], STRANGER[:-1], STRANGER]
    with contextlib.ExitStack() as open_ones, under_load(ensemble, 2) as load:
        for sid in (2, 3):
            # A Java server hears nobody else while one says nothing, so it is not asked to bear more than this.
            for said in beginnings * (10 if ensemble[sid].played_by == OURS else 0) or [STRANGER]:
                open_ones.enter_context(calling(ensemble[sid].election_port, said))
        for said in (b"", packet(FOLLOWER_INFO)[:9], packet(FOLLOWER_INFO, 0, learner_info(9))):
            for _ in range(10):
                open_ones.enter_context(calling(leader.quorum_port, said))
        for sid in (1, 2):
            ensemble.kill9(sid)
            load.progress()
            ensemble.start(sid)
        assert ensemble.leader() == 3


def test_noise(make_ensemble: MakeEnsemble) -> None:
    """Hundreds of connections with anything on them, while clients write: roles and writes stay as they were."""
    chance = random.Random(SEED)
    ensemble, leader = start(make_ensemble)
    openings = [STRANGER, initial(1), initial(2), packet(FOLLOWER_INFO, 0, learner_info(1)), *ON_QUORUM.values()]
    with under_load(ensemble, 2) as load:
        for _ in range(10):
            for _ in range(30):
                said = bytearray(chance.choice(openings) if chance.random() < 0.7 else b"")
                said += chance.randbytes(chance.randrange(200))
                for _ in range(chance.randrange(4)):
                    if said:
                        said[chance.randrange(len(said))] = chance.randrange(256)
                port = chance.choice([leader.election_port, leader.quorum_port, ensemble[2].election_port])
                with contextlib.suppress(OSError), calling(port, bytes(said)):
                    pass
            load.progress(10)
        assert ensemble.leader() == 3
    assert not servers.failures(leader.running)
