"""Four-letter words, beside what a Java server answered."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.ops.fakes import FakeConnection, FakeView, FakeWatches, scratch
from zktwisted.config import ServerConfig
from zktwisted.ops import commands
from zktwisted.ops.fourletter import NOT_SERVING, TELNET_CLOSE, WORDS, FourLetterWords, java_date, java_double

GOLDEN = Path(__file__).parent.parent / "golden" / "client"
SESSION = 0x100003301A50000
CLIENT = "127.0.0.1:44518"


def recorded(version: str) -> dict[bytes, str]:
    """What a Java server of that version answered to each word."""
    sent: dict[int, bytes] = {}
    answered: dict[int, bytes] = {}
    with (GOLDEN / f"4lw_{version}.jsonl").open(encoding="utf-8") as rows:
        for row in map(json.loads, rows):
            if "raw" in row:
                side = sent if row["dir"] == "c2s" else answered
                side[row["conn"]] = side.get(row["conn"], b"") + bytes.fromhex(row["raw"])
    return {word: answered.get(conn, b"").decode() for conn, word in sent.items()}


def universal(seconds: float) -> time.struct_time:
    """The local time where the server was recorded."""
    return time.struct_time((*time.gmtime(seconds), "UTC", 0))


def version_of(srvr: str) -> str:
    """The version in the first line of C{srvr}."""
    return srvr.partition("\n")[0].partition(": ")[2]


def names(mntr: str) -> list[str]:
    """The names in C{mntr}."""
    return [line.partition("\t")[0] for line in mntr.splitlines()]


class GoldenCase(SynchronousTestCase):
    """The state in which the recorded server was, and its answers."""

    def setUp(self) -> None:
        self.golden = recorded("3.9.5")
        self.patch(commands, "VERSION", version_of(self.golden[b"srvr"]))
        self.patch(time, "localtime", universal)
        self.client = FakeConnection(
            CLIENT,
            packets_received=5,
            packets_sent=5,
            session_id=SESSION,
            last_op=106,
            established_ms=1795315169815,
            session_timeout_ms=10000,
            last_cxid=4,
            last_zxid=2,
            last_response_ms=3343151,
            last_latency=3,
            avg_latency=7,
            max_latency=19,
        )
        self.asking = FakeConnection("127.0.0.1:1", interest_ops=0, packets_received=1)
        self.view = FakeView(
            client_port=31002,
            connections=[self.client, self.asking],
            ephemerals={SESSION: [b"/fe"]},
            sessions=[(1795315180000, [SESSION])],
            expiring=[(1795315186000, [self.asking, self.client])],
            watches=FakeWatches([(b"/fe", self.client)], child_count=1),
            global_sessions=1,
            config=ServerConfig(four_letter_words_whitelist=("*",), tick_time=1000, max_client_cnxns=0),
        )
        stats = self.view.stats
        stats.packets_received, stats.packets_sent = 8, 8
        for latency in (3, 3, 5, 6, 19):
            stats.add_latency(latency)
        self.words = FourLetterWords(self.view, self.view.config)

    def ask(self, word: bytes, rest: bytes = b"") -> str:
        answer = self.words.answer(word, rest, "127.0.0.1:1")
        assert answer is not None
        return answer.decode()

    def asker(self, word: bytes) -> None:
        """Let the connection that asks have the recorded one's address."""
        found = re.search(r"/(\S+?)\[0\]|ip: /(\S+) sessionId: 0x0\n", self.golden[word])
        assert found is not None
        self.asking.remote_address = found[1] or found[2]


class GoldenTests(GoldenCase):
    def test_srvr(self) -> None:
        """Latency, packets and the rest are byte for byte Java's."""
        self.assertEqual(self.ask(b"srvr"), self.golden[b"srvr"])

    def test_stat(self) -> None:
        """So are the brief lines of connections."""
        self.asker(b"stat")
        self.view.stats.packets_received, self.view.stats.packets_sent = 9, 9
        self.assertEqual(self.ask(b"stat"), self.golden[b"stat"])

    def test_cons(self) -> None:
        """So are the full lines of connections, with and without a session."""
        self.asker(b"cons")
        self.view.connections = [self.asking, self.client]
        self.assertEqual(self.ask(b"cons"), self.golden[b"cons"])

    def test_dump(self) -> None:
        """So are sessions, ephemeral nodes and connections."""
        self.asker(b"dump")
        self.assertEqual(self.ask(b"dump"), self.golden[b"dump"])

    def test_conf_and_dirs(self) -> None:
        """So are the settings and the sizes of the directories."""
        golden = self.golden[b"conf"]
        directory = scratch(self)
        directory.mkdir()
        size = int(re.findall(r"dataDirSize=(\d+)", golden)[0])
        with (directory / "log.1").open("wb") as file:
            file.truncate(size - 3)
        (directory / "snapshot.0").write_bytes(b"abc")
        self.view.data_dir = self.view.log_dir = str(directory)
        recorded_dir = re.findall(r"dataDir=(.*)", golden)[0]
        self.assertEqual(self.ask(b"conf").replace(str(directory), recorded_dir), golden)
        self.assertEqual(self.ask(b"dirs"), self.golden[b"dirs"])

    def test_watches(self) -> None:
        """So are the three views of the watches."""
        for word in (b"wchs", b"wchc", b"wchp"):
            self.assertEqual(self.ask(word), self.golden[word])

    def test_small_ones(self) -> None:
        """So are the short answers, line ends or none."""
        for word in (b"ruok", b"isro", b"gtmk", b"hash", b"crst", b"srst"):
            self.assertEqual(self.ask(word), self.golden[word])

    def test_mntr_names(self) -> None:
        """Every metric that Java prints is printed here, and none besides; numbers look alike."""
        self.view.metrics.read_per_namespace.add("fe", 72)
        self.view.metrics.write_per_namespace.add("fe", 4)
        ours, golden = self.ask(b"mntr"), self.golden[b"mntr"]
        self.assertEqual(sorted(names(ours)), sorted(names(golden)))
        self.assertEqual(len(names(ours)), len(set(names(ours))))
        self.assertEqual(set(names(recorded("3.8.0")[b"mntr"])) - set(names(ours)), set())

        def looks(text: str) -> dict[str, str]:
            return {
                name: re.sub(r"\d+", "1", value.replace("-", ""))
                for name, _, value in (line.partition("\t") for line in text.splitlines())
            }

        self.assertEqual(looks(ours), looks(golden))

    def test_mntr_order(self) -> None:
        """Version and state come first, then gauges, counters, summaries, as monitors have seen them."""
        order = names(self.ask(b"mntr"))
        self.assertEqual(order[:2], ["zk_version", "zk_server_state"])
        marks = ["zk_min_client_response_size", "zk_bytes_received_count", "zk_avg_fsynctime", "zk_avg_readlatency"]
        self.assertEqual(marks, sorted(marks, key=order.index))

    def test_mntr_values(self) -> None:
        """The gauges have the values of the recorded server."""
        values = dict(line.split("\t") for line in self.ask(b"mntr").splitlines())
        golden = dict(line.split("\t") for line in self.golden[b"mntr"].splitlines())
        for name in (
            "version server_state ephemerals_count num_alive_connections avg_latency outstanding_requests znode_count "
            "global_sessions watch_count approximate_data_size uptime max_latency connection_drop_probability"
        ).split():
            self.assertEqual(values[f"zk_{name}"], golden[f"zk_{name}"], name)

    def test_unknown(self) -> None:
        """What Java takes for the length of a packet is no word here either."""
        for word, answer in self.golden.items():
            if word not in WORDS and not answer:
                self.assertIn(word, (b"lsnp", b"icfg", b"xyzw"))


class AnswerTests(GoldenCase):
    def test_environment(self) -> None:
        """The keys are Java's, in their order, and say where the server runs."""
        expected = (
            "zookeeper.version host.name java.version java.vendor java.home java.class.path java.library.path "
            "java.io.tmpdir java.compiler os.name os.arch os.version user.name user.home user.dir os.memory.free "
            "os.memory.max os.memory.total"
        ).split()
        first, *rest = self.ask(b"envi").splitlines()
        self.assertEqual(first, "Environment:")
        self.assertEqual([line.partition("=")[0] for line in rest], expected)

    def test_hash(self) -> None:
        """Each digest has its line; zxids are hexadecimal."""
        self.view.digests = [(0x80, 37037633993, 2), (0x100, -5, 2)]
        self.assertEqual(self.ask(b"hash"), "80: 37037633993\n100: -5\n")

    def test_reset_connections(self) -> None:
        """crst forgets what connections did, not that they are there."""
        self.ask(b"crst")
        self.view.connections = [self.client]
        self.assertEqual(
            self.ask(b"cons"),
            f" /{CLIENT}[1](queued=0,recved=0,sent=0,sid=0x100003301a50000,lop=NA,est=1795315169815,to=10000,"
            "lzxid=0xffffffffffffffff,lresp=0,llat=0,minlat=0,avglat=0,maxlat=0)\n\n",
        )

    def test_reset_server(self) -> None:
        """srst forgets latencies, packets and metrics; its own answer is the first packet sent."""
        self.ask(b"srst")
        self.assertIn("Latency min/avg/max: 0/0.0/0\nReceived: 1\nSent: 1\n", self.ask(b"srvr"))

    def test_trace_mask(self) -> None:
        """stmk takes eight bytes, signed, and gtmk tells them; fewer are closed silently."""
        self.assertEqual(self.words.length(b"stmk"), 12)
        self.assertEqual(self.ask(b"stmk", b"\0\0\0\0\0\0\1\2\n"), "258")
        self.assertEqual(self.ask(b"gtmk"), "258")
        self.assertEqual(self.ask(b"stmk", b"\xff" * 8), "-1")
        self.assertIsNone(self.words.answer(b"stmk", b"\0\0"))
        self.assertEqual(self.ask(b"gtmk"), "-1")

    def test_extra_input(self) -> None:
        """What follows a word does not matter."""
        self.assertEqual(self.ask(b"ruok", b"\n"), "imok")
        self.assertEqual(self.words.length(b"ruok"), 4)

    def test_telnet(self) -> None:
        """telnet's farewell is answered by closing."""
        self.assertIsNone(self.words.answer(TELNET_CLOSE))
        self.assertIn(TELNET_CLOSE, WORDS)

    def test_whitelist(self) -> None:
        """Words that are not on the list are refused in words; srvr never is."""
        self.words = FourLetterWords(self.view, ServerConfig(four_letter_words_whitelist=("ruok",)))
        for word in sorted(WORDS - {TELNET_CLOSE, b"ruok", b"srvr"}):
            text = f"{word.decode()} is not executed because it is not in the whitelist.\n"
            self.assertEqual(self.ask(word), text)
        self.assertEqual(self.ask(b"ruok"), "imok")
        self.assertIn("Mode: standalone", self.ask(b"srvr"))

    def test_not_serving(self) -> None:
        """While the server does not serve, most words say so."""
        self.view.serving = False
        odd = {b"ruok": "imok", b"gtmk": "306", b"isro": "null", b"hash": NOT_SERVING[:-1]}
        for word, text in odd.items():
            self.assertEqual(self.ask(word), text)
        self.assertTrue(self.ask(b"envi").startswith("Environment:\n"))
        self.assertEqual(self.ask(b"stmk", bytes(8)), "0")
        for word in sorted(WORDS - {TELNET_CLOSE, b"envi", b"stmk", *odd}):
            self.assertEqual(self.ask(word), NOT_SERVING)

    def test_read_only(self) -> None:
        """A server that serves reads only says so."""
        self.view.read_only = True
        self.assertEqual(self.ask(b"isro"), "ro")
        second = self.ask(b"srvr").splitlines()[1]
        self.assertEqual(second, "READ-ONLY mode; serving only read-only clients")
        self.assertIn("Mode: read-only\n", self.ask(b"stat"))

    def test_packets_counted(self) -> None:
        """Each word is a packet received, its answer a packet sent."""
        stats = self.view.stats
        self.ask(b"ruok")
        self.assertEqual((stats.packets_received, stats.packets_sent), (9, 9))
        self.assertEqual(self.view.metrics.bytes_received_count, 4)

    def test_paths(self) -> None:
        """Paths are text; bytes that are none do no harm."""
        self.view.watches = FakeWatches([("/é".encode(), self.client), (b"/\xff", self.client)])
        self.assertEqual(self.ask(b"wchc"), f"0x{SESSION:x}\n\t/é\n\t/\ufffd\n\n")

    def test_empty(self) -> None:
        """Nothing to tell is told in the same shape."""
        self.view.connections, self.view.ephemerals = (), {}
        self.view.sessions, self.view.expiring, self.view.watches = (), (), FakeWatches()
        self.assertEqual(self.ask(b"wchs"), "0 connections watching 0 paths\nTotal watches:0\n")
        self.assertEqual([self.ask(word) for word in (b"wchc", b"wchp", b"cons")], ["\n"] * 3)
        self.assertEqual(
            self.ask(b"dump"),
            "SessionTracker dump:\nSession Sets (0)/(0):\nephemeral nodes dump:\nSessions with Ephemerals (0):\n"
            "Connections dump:\nConnections Sets (0)/(0):\n",
        )


class TextTests(SynchronousTestCase):
    def test_double(self) -> None:
        """Numbers look as Java writes them."""
        for number, text in (
            (0.0, "0.0"),
            (7.2, "7.2"),
            (3.6667, "3.6667"),
            (0.001, "0.001"),
            (0.0005, "5.0E-4"),
            (9999999.9999, "9999999.9999"),
            (1e7, "1.0E7"),
            (12345678.25, "1.234567825E7"),
            (-12345678.0, "-1.2345678E7"),
        ):
            self.assertEqual(java_double(number), text)

    def test_date(self) -> None:
        """Dates look as Java writes them, days with two digits."""
        self.patch(time, "localtime", universal)
        self.assertEqual(java_date(1795315180999), "Sun Nov 22 02:39:40 UTC 2026")
        self.assertEqual(java_date(0), "Thu Jan 01 00:00:00 UTC 1970")

    def test_version(self) -> None:
        """The version starts with a release of ZooKeeper's, as clients expect, and has a date."""
        self.assertTrue(re.fullmatch(r"\d+\.\d+\.\d+-\S+, built on \d{4}-\d\d-\d\d \d\d:\d\d UTC", commands.VERSION))
