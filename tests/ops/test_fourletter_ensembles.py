"""Four-letter words of the members of ensembles, beside what Java servers in every role answered."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.ops.fakes import FakeConnection, FakeView, scratch
from tests.ops.test_fourletter import names, universal, version_of
from zktwisted.config import Ensemble, ServerConfig
from zktwisted.ops import commands
from zktwisted.ops.commands import Commands
from zktwisted.ops.fourletter import FourLetterWords
from zktwisted.server.view import Leading

GOLDEN = Path(__file__).parent.parent / "golden" / "fourletter" / "ensembles_3.9.5.jsonl"
ROLES = ("leader", "follower", "observer", "read-only")
STATES = {"leader": "leading - broadcast", "follower": "following - broadcast", "observer": "observing - broadcast"}

SERVERS = """\
server.1=127.0.0.1:{q}1:{e}1
server.2=127.0.0.1:{q}2:{e}2
server.3=127.0.0.1:{q}3:{e}3
server.4=127.0.0.1:{q}4:{e}4:observer"""

Sets = list[tuple[int, list[str]]]


def recorded(role: str, ensemble: str = "plain") -> dict[str, str]:
    """What a server in that role answered to each word."""
    with GOLDEN.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return {row["word"]: row["text"] for row in rows if (row["role"], row["ensemble"]) == (role, ensemble)}


def instant(text: str) -> int:
    """Milliseconds of a date as C{dump} prints it."""
    tail = re.sub(r"^... ", "", text).replace(" UTC", "")
    return round((time.mktime(time.strptime(tail, "%b %d %H:%M:%S %Y")) - time.timezone) * 1000)


def sets(dump: str, title: str) -> Sets | None:
    """The expiry buckets under a title: end and the lines that follow it; C{None} without the title."""
    found = re.search(rf"^{title} \(\d+\)/\(\d+\):\n((?:\d+ expire at .*\n(?:\t.*\n)*)*)", dump, re.MULTILINE)
    if found is None:
        return None
    buckets = re.findall(r"\d+ expire at (.*):\n((?:\t.*\n)*)", found[1])
    return [(instant(date), members.split("\n\t")) for date, members in ((d, m.strip()) for d, m in buckets)]


def sessions(buckets: Sets | None) -> list[tuple[int, list[int]]] | None:
    """Such buckets with session ids."""
    if buckets is None:
        return None
    return [(end, [int(text, 16) for text in members if text]) for end, members in buckets]


class RoleCase(SynchronousTestCase):
    """Views in the state of the recorded servers."""

    def setUp(self) -> None:
        self.patch(commands, "VERSION", version_of(recorded("leader")["srvr"]))
        self.patch(time, "localtime", universal)

    def view(self, role: str, ensemble: str = "plain", golden: dict[str, str] | None = None) -> FakeView:
        golden = golden or recorded(role, ensemble)
        view = FakeView(config=self.config(golden), mode=role, read_only=role == "read-only")
        view.server_id = view.config.sid
        view.peer_state = STATES.get(role)
        view.client_port = view.config.client_port or -1
        if role == "leader":
            view.leading = Leading(3, 2, 0, 1, 0, 9465)
            view.synced_observers = 1
        if role == "observer":
            view.learner_master_id = 2
        if "srvr" in golden:
            self.set_figures(view, golden["srvr"])
        if "dump" in golden:
            self.set_sessions(view, golden["dump"])
        return view

    def config(self, golden: dict[str, str]) -> ServerConfig:
        """The recorded server's settings."""
        fields = dict(re.findall(r"^(\w+)=(.*)$", golden.get("conf", recorded("leader")["conf"]), re.MULTILINE))
        quorum, election = fields["quorumPort"][:-1], fields["electionPort"][:-1]
        return ServerConfig(
            four_letter_words_whitelist=("*",),
            data_dir="/srv/zookeeper",
            client_port=int(fields["clientPort"]),
            tick_time=2000,
            max_client_cnxns=0,
            init_limit=10,
            sync_limit=5,
            myid=int(fields["serverId"]),
            ensemble=Ensemble.parse(SERVERS.format(q=quorum, e=election)),
        )

    def set_figures(self, view: FakeView, srvr: str) -> None:
        figures = dict(re.findall(r"^([\w /]+): (.*)$", srvr, re.MULTILINE))
        stats = view.stats
        # The answer itself counts as received before and as sent after it is made.
        stats.packets_received, stats.packets_sent = int(figures["Received"]) - 1, int(figures["Sent"])
        view.last_zxid, view.node_count = int(figures["Zxid"], 16), int(figures["Node count"])
        view.connections = [FakeConnection("127.0.0.1:1")] * int(figures["Connections"])
        low, average, high = figures["Latency min/avg/max"].split("/")
        if float(average):
            stats.add_latency(int(low))
            stats.add_latency(int(high))
            rest = next(n for n in range(1, 50) if (float(average) * (n + 2) - int(low) - int(high)) / n >= int(low))
            total = round(float(average) * (rest + 2)) - int(low) - int(high)
            for index in range(rest):
                stats.add_latency(total // rest + (index < total % rest))
        if "Proposal sizes last/min/max" in figures:
            last, least, most = map(int, figures["Proposal sizes last/min/max"].split("/"))
            for size in (least, most, last):
                stats.proposal.add(size)

    def set_sessions(self, view: FakeView, dump: str) -> None:
        view.local = sessions(sets(dump, "Local Session Sets"))
        view.sessions = sessions(sets(dump, "Session Sets") or sets(dump, "Global Session Sets")) or []
        if "Global Sessions(" in dump:
            found = re.findall(r"^0x(\w+)\t(\d+)ms$", dump, re.MULTILINE)
            view.timeouts = {int(session, 16): int(timeout) for session, timeout in reversed(found)}
        ephemerals = dump.partition("Sessions with Ephemerals")[2].partition("Connections dump")[0]
        view.ephemerals = {
            int(session, 16): [path.encode() for path in paths.split()]
            for session, paths in re.findall(r"^0x(\w+):\n((?:\t.*\n)*)", ephemerals, re.MULTILINE)
        }
        expiring: list[tuple[int, list[FakeConnection]]] = []
        for end, members in sets(dump, "Connections Sets") or []:
            lines = [re.fullmatch(r"ip: /(\S+) sessionId: 0x(\w+)", member) for member in members if member]
            expiring.append((end, [FakeConnection(m[1], session_id=int(m[2], 16)) for m in lines if m]))
        view.expiring = expiring

    def ask(self, view: FakeView, word: str) -> str:
        answer = FourLetterWords(view, view.config).answer(word.encode())
        assert answer is not None
        return answer.decode()


class GoldenTests(RoleCase):
    def test_srvr(self) -> None:
        """Figures and mode are byte for byte Java's, and the leader's proposals stand at the end."""
        for role in ROLES:
            ensemble = "local sessions" if role == "read-only" else "plain"
            golden = recorded(role, ensemble)["srvr"]
            ours = self.ask(self.view(role, ensemble), "srvr")
            # The average is rounded from other numbers than those that were recorded.
            self.assertEqual(
                re.sub(r"max: (\d+)/[\d.]+/", r"max: \1//", ours, count=1),
                re.sub(r"max: (\d+)/[\d.]+/", r"max: \1//", golden, count=1),
            )

    def test_stat(self) -> None:
        """So is what stat says, but for the connections."""
        for role in ROLES:
            ensemble = "local sessions" if role == "read-only" else "plain"
            golden = recorded(role, ensemble)
            view = self.view(role, ensemble)
            self.set_figures(view, golden["stat"])
            view.connections = [FakeConnection("127.0.0.1:1") for _ in view.connections]

            def but_connections(text: str) -> str:
                return re.sub(
                    r"^ /.*$", " /", re.sub(r"max: (\d+)/[\d.]+/", r"max: \1//", text, count=1), flags=re.MULTILINE
                )

            self.assertEqual(but_connections(self.ask(view, "stat")), but_connections(golden["stat"]))

    def test_conf(self) -> None:
        """The settings of the ensemble follow, and its members while this server is one of a quorum."""
        for role in ROLES:
            golden = recorded(role, "local sessions" if role == "read-only" else "plain")["conf"]
            view = self.view(role, golden={"conf": golden})
            directory = scratch(self)
            directory.mkdir()
            with (directory / "log.1").open("wb") as file:
                file.truncate(int(re.findall(r"dataDirSize=(\d+)", golden)[0]))
            view.data_dir = view.log_dir = str(directory)
            theirs = re.findall(r"dataDir=(.*)", golden)[0]
            self.assertEqual(self.ask(view, "conf").replace(str(directory), theirs), golden)

    def test_dump(self) -> None:
        """The leader tells when sessions expire, the others what timeouts they have; local ones expire on each."""
        for role, ensemble in (
            ("leader", "plain"),
            ("follower", "plain"),
            ("observer", "plain"),
            ("leader", "local sessions"),
            ("follower", "local sessions"),
            ("observer", "local sessions"),
            ("read-only", "local sessions"),
        ):
            golden = recorded(role, ensemble)["dump"]
            self.assertEqual(self.ask(self.view(role, ensemble), "dump"), golden, (role, ensemble))

    def test_isro(self) -> None:
        """Whoever has a quorum can write."""
        for role in ROLES:
            golden = recorded(role, "local sessions" if role == "read-only" else "plain")["isro"]
            self.assertEqual(self.ask(self.view(role), "isro"), golden)

    def test_mntr_names(self) -> None:
        """Every metric that Java prints in a role is printed here in that role, and none besides."""
        for role in ROLES:
            golden = recorded(role, "local sessions" if role == "read-only" else "plain")["mntr"]
            view = self.view(role)
            for name, key in re.findall(r"^zk_sum_(\w+?)_((?:read|write)_per_namespace)\t", golden, re.MULTILINE):
                getattr(view.metrics, key).add(name, 1)
            for sid in re.findall(r"^zk_sum_(\d)_learner_handler_qp_size\t", golden, re.MULTILINE):
                view.metrics.learner_handler_qp_size.add(sid, 1)
                view.metrics.learner_handler_qp_time_ms.add(sid, 1)
            for sid in re.findall(r"^zk_sum_(\d)_ack_latency\t", golden, re.MULTILINE):
                view.metrics.ack_latency.add(sid, 1)
            self.assertEqual(sorted(names(self.ask(view, "mntr"))), sorted(names(golden)), role)

    def test_mntr_values(self) -> None:
        """The state comes first, and the figures of a quorum are its own."""
        for role in ROLES:
            golden = recorded(role, "local sessions" if role == "read-only" else "plain")["mntr"]
            theirs = dict(line.split("\t") for line in golden.splitlines())
            ours = dict(line.split("\t") for line in self.ask(self.view(role), "mntr").splitlines())
            heads = [name for name in list(theirs)[:4] if re.search("version|state|master", name)]
            self.assertEqual(list(ours)[: len(heads)], heads)
            told = "state|quorum_size|learners|^zk_synced|pending_syncs|leader_uptime|proposal_size|observer_master_id"
            for name in [*heads, *(name for name in theirs if re.search(told, name))]:
                self.assertEqual(ours[name], theirs[name], (role, name))

    def test_looking(self) -> None:
        """Without a quorum nothing is served, and every word says what Java's says."""
        for word, golden in recorded("looking").items():
            view = self.view("follower")
            view.serving = False
            self.assertEqual(self.ask(view, word), golden, word)

    def test_read_only_small_ones(self) -> None:
        """A read-only server answers everything else as ever."""
        golden = recorded("read-only", "local sessions")
        view = self.view("read-only", "local sessions")
        view.digests = [(0x100000080, 13464858989, 2)]
        for word in ("hash", "wchs", "ruok", "gtmk", "crst"):
            self.assertEqual(self.ask(view, word), golden[word])


class CommandTests(RoleCase):
    def test_server_stats(self) -> None:
        """The leader's proposals are told by their names, others have none."""
        fields: Any = Commands(self.view("leader")).server_stats()
        self.assertEqual(
            fields["proposal_stats"], {"last_buffer_size": 91, "min_buffer_size": 48, "max_buffer_size": 91}
        )
        self.assertNotIn("proposal_stats", Commands(self.view("follower")).server_stats())

    def test_dump(self) -> None:
        """Only who watches over sessions tells when they expire."""
        leader: Any = Commands(self.view("leader")).dump()
        self.assertEqual(len(leader["expiry_time_to_session_ids"]), 4)
        view = self.view("follower")
        view.sessions = [(1, [2])]
        follower: Any = Commands(view).dump()
        self.assertEqual(follower["expiry_time_to_session_ids"], {})
        self.assertEqual(len(follower["session_id_to_ephemeral_paths"]), 3)

    def test_several_addresses(self) -> None:
        """Several ports stand side by side."""
        view = self.view("leader")
        line = "server.1=127.0.0.1:1:2|127.0.0.2:3:4\nserver.2=127.0.0.1:5:6"
        view.config = view.config.replace(myid=1, ensemble=Ensemble.parse(line, multi_address=True))
        self.assertIn("\nelectionPort=2|4\nquorumPort=1|3\n", self.ask(view, "conf"))
