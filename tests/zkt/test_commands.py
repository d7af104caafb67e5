"""The commands about nodes, ACLs, quotas and watches."""

from __future__ import annotations

import json
import shlex

from twisted.trial.unittest import SynchronousTestCase

from tests.client.world import Script
from tests.zkt.world import ZktCase
from zktwisted.zkt.command import COMMANDS, HelpWanted, find_command
from zktwisted.zkt.nodes import _delete
from zktwisted.zkt.shell import overview
from zktwisted.zkt.status import Problem, Status


class Deaf(Script):
    """A server that ends each connection at the first byte."""

    def dataReceived(self, data: bytes) -> None:
        self.drop()


class TableTests(SynchronousTestCase):
    """What is in the table of commands, and how their arguments are read."""

    def test_examples(self) -> None:
        """Every example of every help is a line that the command understands."""
        for command in COMMANDS.values():
            for line, _ in command.examples:
                words = shlex.split(line.partition(" | ")[0].partition(" > ")[0])
                self.assertEqual(command.name, words[0], line)
                self.assertIsNotNone(command.parse(words[1:]), line)

    def test_help(self) -> None:
        """Every command has a help that names all its options, and stands in the overview."""
        shown = overview("zkt ")
        for command in COMMANDS.values():
            self.assertIn(f"  {command.name} ", shown)
            if command.raw:
                continue
            text = str(self.assertRaises(HelpWanted, command.parse, ["--help"], "zkt "))
            self.assertIn(command.summary, text)
            self.assertIn(f"usage: zkt {command.name} ", text)
            for argument in command.arguments:
                self.assertIn(argument.names[-1] if argument.names[0].startswith("-") else "", text)
                self.assertTrue(argument.options.get("help"), f"{command.name} {argument.names}")

    def test_all_of_zookeepers(self) -> None:
        """No command of ZooKeeper's own shell is missing."""
        names = (
            "addWatch addauth close config connect create delete deleteall delquota get getAcl getAllChildrenNumber "
            "getEphemerals history listquota ls printwatches quit reconfig redo removewatches set setAcl setquota stat "
            "sync version whoami"
        )
        self.assertEqual(set(), set(names.split()) - set(COMMANDS))

    def test_options_anywhere(self) -> None:
        """Options may stand before, between and behind the rest; what follows -- is none."""
        parse = find_command("set").parse
        for words in (["-s", "-v", "3", "/a", "x"], ["/a", "-v", "3", "x", "-s"], ["/a", "x", "-sv3"]):
            args = parse(words)
            self.assertEqual(("/a", "x", 3, True), (args.path, args.data, args.version, args.stat), words)
        self.assertEqual("-s", parse(["/a", "--", "-s"]).data)
        self.assertEqual("-1", parse(["/a", "-1"]).data)

    def test_wrong_arguments(self) -> None:
        """A mistake in the arguments is told, with where to look."""
        for words, word in ((["get"], "path"), (["get", "/", "x"], "x"), (["set", "-v", "x", "/a", "b"], "'x'"),
                            (["setquota", "/a"], "-n"), (["setquota", "-n", "1", "-b", "2", "/a"], "-n"),
                            (["create", "/a", "-q"], "--")):  # fmt: skip
            problem = self.assertRaises(Problem, find_command(words[0]).parse, words[1:])
            self.assertEqual(Status.USAGE, problem.status)
            self.assertIn(word, str(problem))
            self.assertNotIn("\n", str(problem))
            self.assertIn(f"see help {words[0]}", str(problem))

    def test_unknown(self) -> None:
        """An unknown command is answered with those that may be meant."""
        for wrong, meant in (("gte", "get"), ("getacls", "getAcl"), ("remove", "removewatches"), ("mirrow", "mirror")):
            self.assertIn(meant, str(self.assertRaises(Problem, find_command, wrong)))
        self.assertEqual("getAcl", find_command("GETACL").name)
        self.assertEqual("quit", find_command("exit").name)


class NodeTests(ZktCase):
    """create, get, set, ls, stat, delete, deleteall and the like."""

    def test_life_of_a_node(self) -> None:
        """From create to delete, as ZooKeeper's shell shows it."""
        self.assertEqual("Created /a\n", self.zkt("create", "/a", "one"))
        self.assertEqual("one\n", self.zkt("get", "/a"))
        self.assertEqual("", self.zkt("set", "-v", "0", "/a", "two"))
        self.assertIn("dataVersion = 1\n", self.zkt("get", "-s", "/a"))
        self.assertEqual("Created /a/b\n", self.zkt("create", "/a/b"))
        self.assertEqual("null\n", self.zkt("get", "/a/b"))
        self.assertEqual("[b]\n", self.zkt("ls", "/a"))
        self.assertEqual(12, len(self.zkt("ls", "-s", "/a").splitlines()))
        self.assertEqual("1\n", self.zkt("getAllChildrenNumber", "/a"))
        self.assertEqual("Sync is OK\n", self.zkt("sync", "/a"))
        self.assertEqual("", self.zkt("delete", "/a/b"))
        self.assertEqual("", self.zkt("deleteall", "/a"))
        self.assertEqual("[zookeeper]\n", self.zkt("ls"))

    def test_kinds(self) -> None:
        """Every kind of node that create knows."""
        self.zkt("create", "/top")
        self.assertEqual("Created /top/s-0000000000\n", self.zkt("create", "-s", "/top/s-", "x"))
        self.zkt("create", "-e", "/top/e", "x")
        self.zkt("create", "-c", "/top/c")
        self.zkt("create", "-t", "60000", "/top/t")
        rows = json.loads(self.zkt("ls", "-l", "--json", "/top"))
        self.assertEqual(["c", "e", "s-0000000000", "t"], [row["name"] for row in rows])
        self.assertEqual([None, True, None, None], [row["owner"] and row["owner"].startswith("0x") for row in rows])
        self.assertEqual("[/top/e]\n", self.zkt("getEphemerals", "/top"))
        for words in (("-t", "0"), ("-e", "-t", "1"), ("-c", "-s"), ("-t", str(1 << 40))):
            self.assertEqual(Status.USAGE, self.refused("create", *words, "/top/x").status)

    def test_parents(self) -> None:
        """-p makes what is missing, without it the hint names it."""
        self.assertIn("-p", str(self.refused("create", "/x/y/z", "data")))
        self.zkt("create", "-p", "/x/y/z", "data")
        self.assertEqual("/x\n/x/y\n/x/y/z\n", self.zkt("ls", "-R", "/x"))

    def test_data_as_it_is(self) -> None:
        """Data in base64 and from files comes back to the byte."""
        data = bytes(range(256))
        path = self.mktemp()
        with open(path, "wb") as file:
            file.write(data)
        self.zkt("create", "/bin", "-f", path)
        self.zkt("get", "-r", "/bin")
        self.assertEqual(data, self.screen.shown)
        encoded = self.zkt("get", "-b", "/bin").strip()
        self.zkt("set", "-b", "/bin", encoded)
        self.assertIn("|00000010| 10 11", self.zkt("get", "-x", "/bin"))
        self.assertEqual("base64", json.loads(self.zkt("get", "--json", "/bin"))["encoding"])
        self.assertEqual(Status.USAGE, self.refused("set", "-b", "/bin", "***").status)
        self.assertEqual(Status.USAGE, self.refused("set", "-f", path, "/bin", "x").status)
        self.assertEqual(Status.USAGE, self.refused("set", "/bin").status)
        self.assertEqual(Status.LOCAL, self.refused("set", "/bin", "-f", path + ".none").status)

    def test_terminal(self) -> None:
        """On a terminal data cannot move the cursor; in a pipe it is what it is."""
        self.zkt("create", "/evil", "\x1b[2Jx")
        self.assertEqual("\x1b[2Jx\n", self.zkt("get", "/evil"))
        self.context.terminal = True
        self.assertEqual("\\x1b[2Jx\n", self.zkt("get", "/evil"))

    def test_levels(self) -> None:
        """ls -R goes level by level, as ZooKeeper's shell does."""
        for path in ("/t", "/t/b", "/t/a", "/t/a/z", "/t/b/c"):
            self.zkt("create", path)
        self.assertEqual("/t\n/t/a\n/t/b\n/t/a/z\n/t/b/c\n", self.zkt("ls", "-R", "/t"))
        self.assertEqual(["/t", "/t/a", "/t/b", "/t/a/z", "/t/b/c"], json.loads(self.zkt("ls", "-R", "--json", "/t")))
        self.assertIn('"deleted": 5', self.zkt("deleteall", "-b", "1", "--json", "/t"))
        self.assertEqual(Status.USAGE, self.refused("deleteall", "/").status)

    def test_long_names(self) -> None:
        """What is deleted at once fits into a request, however long the paths are."""
        self.zkt("create", "/long")
        for number in range(6):
            self.zkt("create", f"/long/{number}" + "x" * 200_000)
        self.zkt("deleteall", "/long")
        self.assertEqual("[zookeeper]\n", self.zkt("ls"))

    def test_deleted_by_others(self) -> None:
        """That somebody else deletes there as well does no harm."""
        client = self.connected()
        for path in ("/busy", "/busy/a", "/busy/b"):
            self.zkt("create", path)
        self.wait(_delete(client, ["/busy/a", "/busy/gone", "/busy/b"]))
        self.assertEqual("[]\n", self.zkt("ls", "/busy"))

    def test_no_server(self) -> None:
        """Where all servers refuse it ends at once; with --wait not before that time."""
        for wait, least, most in ((None, 0.0, 2.0), (30.0, 29.0, 31.0)):
            context = self.make_context(wait=wait)
            context.access.hosts = "10.0.0.8:2181"
            before = self.world.now
            problem = self.refused("ls", context=context)
            self.assertEqual(Status.NO_CONNECTION, problem.status)
            self.assertIn("10.0.0.8", str(problem))
            self.assertTrue(least <= self.world.now - before <= most, self.world.now - before)
            self.wait(context.close())

    def test_somebody_who_hangs_up(self) -> None:
        """A port that wants TLS, or wants none, ends a connection that was made: that is worth a word."""
        self.script("10.0.0.8").buildProtocol = lambda addr: Deaf()  # type: ignore[method-assign]
        for tls, told in ((None, "--tls"), (lambda host: None, "without TLS")):
            context = self.make_context(tls=tls)
            context.access.hosts = "10.0.0.8:2181"
            problem = self.refused("ls", context=context)
            self.assertEqual(Status.NO_CONNECTION, problem.status)
            self.assertIn(told, str(problem.hint))
            self.wait(context.close())

    def test_json_and_tables(self) -> None:
        """The same values as JSON and as a table."""
        self.zkt("create", "/j", "x")
        self.assertEqual({"path": "/j", "data": "x"}, json.loads(self.zkt("get", "--json", "/j")))
        value = json.loads(self.zkt("get", "-s", "/j", "--json"))
        self.assertEqual(1, value["stat"]["dataLength"])
        self.assertEqual(["j", "zookeeper"], json.loads(self.zkt("ls", "--json", "/")))
        self.assertIn("\ndataLength      1\n", self.zkt("stat", "/j", "--table"))
        self.assertEqual("value\nj\nzookeeper\n", self.zkt("ls", "/", "--table"))
        self.context.default_output = "json"
        self.assertEqual({"path": "/k"}, json.loads(self.zkt("create", "/k")))
        self.assertEqual([], json.loads(self.zkt("getEphemerals")))

    def test_statuses(self) -> None:
        """Scripts can tell failures apart, people read where and what to do."""
        self.zkt("create", "/s")
        self.zkt("create", "/s/child")
        self.zkt("create", "-e", "/s/eph")
        for words, status in (
            (["get", "/none"], Status.NO_NODE),
            (["stat", "/none"], Status.NO_NODE),
            (["create", "/s"], Status.CONFLICT),
            (["delete", "/s"], Status.CONFLICT),
            (["delete", "-v", "7", "/s/child"], Status.CONFLICT),
            (["create", "/s/eph/child"], Status.CONFLICT),
            (["set", "/zookeeper/config", "x"], Status.DENIED),
            (["create", "/bad", "x", "nonsense:x:r"], Status.REFUSED),
            (["reconfig", "-remove", "1"], Status.REFUSED),
            (["get", "none"], Status.USAGE),
        ):
            problem = self.refused(*words)
            self.assertEqual(status, problem.status, words)
            self.assertNotIn("\n", str(problem))
            if words[0] != "reconfig":
                self.assertIn(next(word for word in words[1:] if word[0] in "/n"), str(problem))


class AccessTests(ZktCase):
    """addauth, whoami, getAcl, setAcl."""

    def test_acls(self) -> None:
        """An ACL is set, shown and obeyed."""
        self.zkt("create", "/a", "x", "world:anyone:r")
        self.assertEqual("'world,'anyone\n: r\n", self.zkt("getAcl", "/a"))
        problem = self.refused("set", "/a", "y")
        self.assertEqual(Status.DENIED, problem.status)
        self.assertIn("/a", str(problem))
        self.zkt("addauth", "digest", "ann:secret")
        self.assertEqual("Auth scheme: User\ndigest: ann\nip: 10.0.0.100\n", self.zkt("whoami"))
        self.zkt("create", "/mine", "x", "auth::cdrwa")
        entry = {"scheme": "digest", "id": "ann:7RJfAeIvrl4zdj6sS2fXrQHDvHM=", "perms": "cdrwa"}
        self.assertEqual([entry], json.loads(self.zkt("getAcl", "--json", "/mine")))
        self.assertEqual("", self.zkt("setAcl", "/mine", "world:anyone:cdrwa"))
        self.assertIn("aclVersion = 2", self.zkt("setAcl", "-s", "-v", "1", "/mine", "world:anyone:cdrwa"))
        self.assertEqual(Status.CONFLICT, self.refused("setAcl", "-v", "1", "/mine", "world:anyone:r").status)

    def test_recursive(self) -> None:
        """setAcl -R reaches all below, even when it shuts us out of the top."""
        self.zkt("create", "-p", "/r/a/b")
        self.zkt("setAcl", "-R", "/r", "world:anyone:a")
        self.assertEqual("'world,'anyone\n: a\n", self.zkt("getAcl", "/r/a/b"))

    def test_credentials_of_the_command_line(self) -> None:
        """They are accepted, or not, before anything else is asked."""
        self.zkt("create", "/a", "x", "digest:ann:7RJfAeIvrl4zdj6sS2fXrQHDvHM=:r")
        self.assertEqual(Status.DENIED, self.refused("get", "/a").status)
        ann = self.make_context(auth=(("digest", "ann:secret"),))
        self.assertEqual("x\n", self.zkt("get", "/a", context=ann))
        late = self.make_context(auth=(("digest", "ann:secret"),))
        self.network.refuse("10.0.0.100", "10.0.0.1")
        self.assertEqual(Status.NO_CONNECTION, self.refused("get", "/a", context=late).status)
        self.network.heal()
        self.assertEqual("x\n", self.zkt("get", "/a", context=late))
        wrong = self.make_context(auth=(("nonsense", "x"), ("digest", "ann:secret")))
        self.assertIn("credentials", str(self.refused("create", "/b", context=wrong)))
        self.assertEqual(Status.NO_NODE, self.refused("get", "/b").status)

    def test_wrong_credentials(self) -> None:
        """They end the session, and say so; the credentials are not shown."""
        problem = self.refused("addauth", "nonsense", "top-secret")
        self.assertEqual(Status.DENIED, problem.status)
        self.assertNotIn("top-secret", str(problem))


class QuotaTests(ZktCase):
    """setquota, listquota, delquota."""

    def test_life_of_a_quota(self) -> None:
        """Limits come one by one, are enforced, shown, and go."""
        self.zkt("create", "-p", "/q/a", "xx")
        self.zkt("setquota", "-N", "3", "/q")
        self.zkt("setquota", "-b", "100", "/q")
        self.assertEqual(
            "absolute path is /zookeeper/quota/q/zookeeper_limits\n"
            "Output quota for /q count=-1,bytes=100=;byteHardLimit=-1;countHardLimit=3\n"
            "Output stat for /q count=2,bytes=2\n",
            self.zkt("listquota", "/q"),
        )
        self.zkt("create", "/q/b")
        problem = self.refused("create", "/q/c")
        self.assertEqual(Status.DENIED, problem.status)
        self.assertIn("quota", str(problem))
        self.zkt("delquota", "-N", "/q")
        self.zkt("create", "/q/c")
        self.assertEqual({"nodes": 4, "size": 2}, json.loads(self.zkt("listquota", "--json", "/q"))["used"])
        self.zkt("delquota", "/q")
        self.assertEqual(Status.NO_NODE, self.refused("listquota", "/q").status)
        self.assertEqual("/zookeeper/quota\n", self.zkt("ls", "-R", "/zookeeper/quota"))

    def test_one_on_the_way(self) -> None:
        """A node counts for one quota: neither above nor below another."""
        self.zkt("create", "-p", "/q/a/b")
        self.zkt("setquota", "-n", "3", "/q/a")
        for path, other in (("/q", "/q/a"), ("/q/a/b", "/q/a")):
            problem = self.refused("setquota", "-n", "3", path)
            self.assertEqual(Status.CONFLICT, problem.status)
            self.assertIn(other, problem.text)
        self.zkt("setquota", "-n", "4", "/q/a")
        for path, status in (("/none", Status.NO_NODE), ("/", Status.USAGE), ("/zookeeper/quota", Status.USAGE)):
            self.assertEqual(status, self.refused("setquota", "-n", "3", path).status)
        self.assertEqual(Status.USAGE, self.refused("setquota", "-n", "-2", "/q/a").status)


class WatchTests(ZktCase):
    """watch, which follows changes."""

    def test_follows(self) -> None:
        """All that happens at and below a node, with the new data, so many times."""
        other = self.connected()
        followed = self.begin("watch", "/w", "--data", "--json", "-n", "4")
        self.until(lambda: "watching /w" in self.screen.told)
        for asked in (other.create("/w", b"1"), other.create("/w/a", b"2"), other.set("/w/a", b"3\n"),
                      other.create("/elsewhere"), other.delete("/w/a")):  # fmt: skip
            self.result(asked)
        self.assertEqual(0, self.result(followed))
        events = [json.loads(line) for line in self.screen.shown.splitlines()]
        self.assertEqual(["created", "created", "changed", "deleted"], [event["event"] for event in events])
        self.assertEqual(["/w", "/w/a", "/w/a", "/w/a"], [event["path"] for event in events])
        self.assertTrue(all(event["zxid"].startswith("0x") for event in events))

    def test_only_one_node(self) -> None:
        """-1 tells of the list of children instead of the children."""
        other = self.connected()
        self.result(other.create("/w"))
        followed = self.begin("watch", "-1", "/w", "-n", "1")
        self.until(lambda: "watching" in self.screen.told)
        self.result(other.create("/w/a"))
        self.result(followed)
        self.assertIn("children  /w\n", self.screen.shown.decode())

    def test_time(self) -> None:
        """--for ends it: well, or with status 1 when a count was not reached."""
        self.assertEqual("", self.zkt("watch", "--for", "5s"))
        self.assertEqual("", self.zkt("watch", "--for", "5s", "-n", "1", status=1))

    def test_lost_sessions(self) -> None:
        """When the session is lost the watch is set again in the next, and the user told."""
        followed = self.begin("watch", "/", "-n", "1")
        self.until(lambda: "watching" in self.screen.told)
        self.network.partition({"10.0.0.1"}, {"10.0.0.100"})
        self.until(lambda: "lost" in self.screen.told, 60)
        self.pass_time(60)
        self.network.heal()
        self.until(lambda: self.screen.told.count("watching /") == 2, 60)
        self.result(self.connected(here="10.0.0.101").create("/new"))
        self.assertEqual(0, self.result(followed))
        self.assertIn("created   /new", self.screen.shown.decode())
