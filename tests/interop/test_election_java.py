"""
What a server says on its election port to one who is server 1 of three, or a server that nobody knows.

The questions are those that were put to Java servers for the specification; they are put to Java's servers again here,
so that both give the answers that are written down. The one who asks is a script with a socket.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from struct import pack

import pytest

from tests.interop.conftest import MakeEnsemble
from tests.interop.ensembles import JAVA, JAVA_395, OURS, Ensemble
from tests.interop.process import HOST, PATIENCE, readable
from zktwisted.wire.votes import (
    Notification,
    ServerState,
    Vote,
    decode_notification,
    encode_initial,
    encode_notification,
    read_initial,
)

LOOKING, FOLLOWING, LEADING, OBSERVING = ServerState
KINDS = [OURS, JAVA, JAVA_395]
#: Seconds: what must not come would have come within them.
SILENCE = 0.4
FOLLOWER_INFO = 11


class Line:
    """A connection, from the script's end."""

    def __init__(self, link: socket.socket) -> None:
        self.link = link
        link.settimeout(PATIENCE)

    def send(self, data: bytes) -> None:
        """Write."""
        self.link.sendall(data)

    def ask(self, body: bytes) -> None:
        """Write a notification that has no frame yet."""
        self.send(pack(">i", len(body)) + body)

    def take(self, size: int) -> bytes:
        """Read so many bytes."""
        data = b""
        while len(data) < size:
            more = self.link.recv(size - len(data))
            assert more, f"the server hung up after {data!r}"
            data += more
        return data

    def hear(self) -> Notification:
        """Read a notification."""
        return decode_notification(self.take(int.from_bytes(self.take(4), "big")))

    def introduction(self) -> tuple[int, tuple[tuple[str, int], ...]]:
        """Read an initial message."""
        data = self.take(20)
        found = read_initial(data + self.take(int.from_bytes(data[16:], "big")))
        assert found is not None
        return found[0].sid, found[0].addresses

    def silent(self) -> bool:
        """Say whether nothing comes."""
        return not readable([self.link], SILENCE)

    def ended(self) -> bool:
        """Wait until the server has hung up; what it says before does not matter."""
        with contextlib.suppress(ConnectionResetError):
            while self.link.recv(65536):
                pass
        return True


class Peer:
    """The script: server 1 of an ensemble whose others run."""

    def __init__(self, ensemble: Ensemble) -> None:
        self.ensemble = ensemble
        self.sockets = contextlib.ExitStack()
        self.election = self.listen(ensemble[1].election_port)
        self.quorum = self.listen(ensemble[1].quorum_port)

    def listen(self, port: int = 0) -> socket.socket:
        """Listen on a port."""
        listening = self.sockets.enter_context(socket.socket())
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((HOST, port))
        listening.listen(20)
        listening.settimeout(PATIENCE)
        return listening

    def call(self, sid: int, *said: bytes) -> Line:
        """Connect to a server's election port, and say something."""
        link = socket.create_connection((HOST, self.ensemble[sid].election_port), PATIENCE)
        line = Line(self.sockets.enter_context(link))
        line.send(b"".join(said))
        return line

    def hello(self, sid: int = 1, port: int | None = None) -> bytes:
        """Return the initial message of a server, by default of this one."""
        return encode_initial(sid, [(HOST, self.ensemble[1].election_port if port is None else port)])

    def accept(self, listening: socket.socket | None = None) -> Line:
        """Wait until somebody calls."""
        link, _ = (listening or self.election).accept()
        return Line(self.sockets.enter_context(link))

    def channel(self, sid: int) -> Line:
        """Return the connection with a larger server: it is called, and calls back."""
        assert self.call(sid, self.hello()).ended()
        while True:
            line = self.accept()
            caller, addresses = line.introduction()
            if caller == sid:
                assert addresses == ((HOST, self.ensemble[sid].election_port),)
                return line


@pytest.fixture
def settled(make_ensemble: MakeEnsemble, request: pytest.FixtureRequest) -> Iterator[Peer]:
    """Give a script that is server 1, beside servers 2 and 3 of one kind, of which 3 leads."""
    ensemble = make_ensemble({1: OURS, 2: request.param, 3: request.param})
    ensemble.start(2, 3)
    assert ensemble.leader() == 3
    peer = Peer(ensemble)
    with peer.sockets:
        yield peer


def until_settled(line: Line) -> Notification:
    """Read a notification of a server that has settled; one from before may be said again first."""
    heard = line.hear()
    while heard.state == LOOKING:
        heard = line.hear()
    return heard


@pytest.mark.parametrize("settled", KINDS, indirect=True)
def test_a_voter(settled: Peer) -> None:
    """Whoever looks is told the leader, in every generation of notifications; what makes no sense is not heard."""
    line = settled.channel(3)
    config = "server.1=nonsense"
    vote = Vote(1, 1 << 50, 99, 99)
    line.send(encode_notification(LOOKING, vote, config))
    answer = until_settled(line)
    assert (answer.state, answer.vote.leader, answer.version) == (LEADING, 3, 2)
    assert answer.vote.zxid == 0
    assert answer.vote.peer_epoch == 1
    assert answer.config is not None
    assert answer.config.endswith("version=0")
    looking = pack(">iqqqq", LOOKING, *vote)
    for body in (looking[:28], looking + pack(">i", 1), looking + pack(">ii", 1, 7), looking + pack(">ii", 2, 0)):
        line.ask(body)
        assert line.hear() == answer, body
    for body in (
        looking,
        looking[:20],
        pack(">i", 7) + looking[4:] + pack(">ii", 2, 0),
        looking + pack(">ii", 2, 1000),
        looking + pack(">ii", 2, -1),
        *(pack(">i", state) + looking[4:] + pack(">ii", 2, 0) for state in (FOLLOWING, LEADING, OBSERVING)),
    ):
        line.ask(body)
        assert line.silent(), body
    line.send(encode_notification(LOOKING, vote, config))
    assert line.hear() == answer
    follower = settled.channel(2)
    follower.send(encode_notification(LOOKING, vote, config))
    heard = until_settled(follower)
    assert heard._replace(state=LEADING) == answer
    assert heard.state == FOLLOWING
    line.send(pack(">i", 0))
    assert line.ended()
    line = settled.channel(3)
    line.send(pack(">i", 524289))
    assert line.ended()
    assert settled.ensemble.leader() == 3


@pytest.mark.parametrize("settled", KINDS, indirect=True)
def test_strangers(settled: Peer) -> None:
    """A larger id is answered at once, whatever it says; a smaller one is called back where it says that it is."""
    for hello in (settled.hello(9), pack(">q", 9), encode_initial(9, [("a", 1), ("::1", 2)], many=True)):
        line = settled.call(3, hello)
        for state in (LOOKING, FOLLOWING, LEADING, OBSERVING, 7):
            line.ask(pack(">iqqqqii", state, 9, 1 << 50, 99, 99, 2, 0))
            answer = until_settled(line)
            assert (answer.state, answer.vote.leader) == (LEADING, 3)
        line.link.close()
    assert settled.call(3, pack(">q", 1)).ended()
    assert settled.accept().introduction()[0] == 3
    elsewhere = settled.listen()
    assert settled.call(3, settled.hello(0, elsewhere.getsockname()[1])).ended()
    assert settled.accept(elsewhere).introduction()[0] == 3
    for said in (
        pack(">q", -65534),
        pack(">q", -1),
        pack(">qqi", -65536, 1, 0),
        pack(">qqi", -65536, 1, 2049),
        pack(">qqi", -65536, 1, 9) + b"localhost",
    ):
        assert settled.call(3, said).ended()
    assert settled.ensemble.leader() == 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_script_is_elected(make_ensemble: MakeEnsemble, kind: str) -> None:
    """Who has the longer history is followed, though its id be the smaller: the server comes to its quorum port."""
    ensemble = make_ensemble({1: OURS, 2: kind})
    peer = Peer(ensemble)
    with peer.sockets:
        ensemble.start(2, wait=False)
        line = peer.accept()
        assert line.introduction()[0] == 2
        first = line.hear()
        assert (first.state, first.vote) == (LOOKING, Vote(2, 0, 1, 0))
        assert first.config is not None
        vote = Vote(1, 0x500000003, 1, 5)
        line.send(encode_notification(LOOKING, vote, first.config))
        heard = line.hear()
        while heard.vote.leader != 1:
            heard = line.hear()
        assert (heard.state, heard.vote) == (LOOKING, vote)
        learner = peer.accept(peer.quorum)
        assert int.from_bytes(learner.take(4), "big") == FOLLOWER_INFO


@pytest.mark.parametrize("kind", KINDS)
def test_a_larger_script_is_elected(make_ensemble: MakeEnsemble, kind: str) -> None:
    """The larger id calls; whoever calls it is hung up on and called back."""
    ensemble = make_ensemble({1: OURS, 2: kind, 3: OURS})
    peer = Peer(ensemble)
    with peer.sockets:
        election, quorum = peer.listen(ensemble[3].election_port), peer.listen(ensemble[3].quorum_port)
        ensemble.start(2, wait=False)
        knock = peer.accept(election)
        assert knock.introduction()[0] == 2
        knock.link.close()
        line = peer.call(2, encode_initial(3, [(HOST, ensemble[3].election_port)]))
        first = line.hear()
        assert (first.state, first.vote) == (LOOKING, Vote(2, 0, 1, 0))
        assert first.config is not None
        line.send(encode_notification(LOOKING, Vote(3, 0, 1, 0), first.config))
        heard = line.hear()
        while heard.vote.leader != 3:
            heard = line.hear()
        assert (heard.state, heard.vote) == (LOOKING, Vote(3, 0, 1, 0))
        learner = peer.accept(quorum)
        assert int.from_bytes(learner.take(4), "big") == FOLLOWER_INFO
