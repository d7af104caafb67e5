"""The commands about whole trees: walks, copies, archives, comparisons."""

from __future__ import annotations

import json
import os
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import SynchronousTestCase

from tests.zkt.world import THERE, ZktCase
from zktwisted.client import ACL, OPEN_ACL, READ_ACL, Id, ZooKeeperClient
from zktwisted.zkt.archive import DirectoryTree, DirectoryWriter, FileTree, FileWriter
from zktwisted.zkt.status import Problem, Status
from zktwisted.zkt.trees import Record
from zktwisted.zkt.walk import Walk


async def gather(tree: object) -> list[Record]:
    """Return all records of a tree."""
    return [record async for record in tree.records()]  # type: ignore[attr-defined]


async def refusal(tree: object) -> Problem:
    """Return what is told of a tree that cannot be read."""
    try:
        await gather(tree)
    except Problem as problem:
        return problem
    raise AssertionError("it could be read")


class TreeCase(ZktCase):
    """Makes trees."""

    def setUp(self) -> None:
        super().setUp()
        self.zk = self.connected()

    def grow(self, *paths: str, data: bytes = b"x", client: ZooKeeperClient | None = None) -> None:
        """Make nodes."""
        self.result(gatherResults([(client or self.zk).create(path, data) for path in paths]))

    def paths(self, root: str = "/", **options: object) -> list[str]:
        """Walk, and return the paths in their order."""

        async def walk() -> list[str]:
            made = Walk(self.context, await self.context.client(), root, **options)  # type: ignore[arg-type]
            return [made.path(node) async for node in made.nodes()]

        return self.wait(walk())


class WalkTests(TreeCase):
    """Walks."""

    def test_order(self) -> None:
        """A node stands before what is below it, and names are sorted, not paths."""
        self.grow("/t", "/t/a-b", "/t/a", "/t/a/z", "/t/a/z/0", "/t/b")
        self.assertEqual(["/t", "/t/a", "/t/a/z", "/t/a/z/0", "/t/a-b", "/t/b"], self.paths("/t"))
        self.assertEqual(["/t", "/t/a", "/t/a-b", "/t/b"], self.paths("/t", depth=1))
        self.assertEqual(["/t", "/t/a-b", "/t/b"], self.paths("/t", skip=lambda path: path == "/t/a"))

    def test_many(self) -> None:
        """Whatever the shape, every node comes once, in order, with bounded reading ahead."""
        self.grow("/m", *(f"/m/{n:03}" for n in range(300)))
        self.grow(*(f"/m/{n:03}/{m}" for n in range(0, 300, 7) for m in range(5)))
        found = self.paths("/m", data=True, acl=True)
        self.assertEqual(sorted(found, key=lambda path: path.split("/")), found)
        self.assertEqual(1 + 300 + 43 * 5, len(found))

    def test_changes_meanwhile(self) -> None:
        """Nodes that go while they are walked to are left out; a root that is not there is an error."""
        self.grow("/c", *(f"/c/{n:03}" for n in range(200)))

        async def walk() -> list[str]:
            made = Walk(self.context, await self.context.client(), "/c")
            found = []
            async for node in made.nodes():
                if not node.key:
                    # Behind what is read ahead at first.
                    await self.zk.delete("/c/199")
                found.append(made.path(node))
            return found

        self.assertEqual(200, len(self.wait(walk())))
        self.assertEqual(Status.NO_NODE, self.refused("find", "/none").status)

    def test_lost_connection(self) -> None:
        """Reads whose connection was lost are made again."""
        self.grow("/l", *(f"/l/{n:03}" for n in range(300)))
        context = self.make_context()

        async def walk() -> int:
            made = Walk(context, await context.client(), "/l")
            count = 0
            async for _ in made.nodes():
                count += 1
                if count == 100:
                    self.network.reset("10.0.0.1", "10.0.0.100")
            return count

        self.assertEqual(301, self.wait(walk()))


class SearchTests(TreeCase):
    """find and tree."""

    def find(self, *words: str, status: int = 0) -> list[str]:
        """Return the paths that find shows."""
        return self.zkt("find", "/f", *words, status=status).splitlines()

    def test_find(self) -> None:
        """Each test finds what it says, and all together what all say."""
        self.grow("/f", "/f/lock-1", "/f/lock-2", "/f/other")
        self.grow("/f/lock-2/big", data=b"port=2181" * 2000)
        self.result(self.zk.create("/f/other/eph", b"", ephemeral=True))
        self.pass_time(3600)
        self.result(self.zk.set("/f/lock-1", b"new"))
        self.assertEqual(["/f/lock-1", "/f/lock-2"], self.find("--name", "lock-*"))
        self.assertEqual(["/f/lock-2/big"], self.find("--path", "/f/lock*/*"))
        self.assertEqual(["/f/lock-2/big"], self.find("--data", r"port=\d+"))
        self.assertEqual(["/f/lock-2/big"], self.find("--min-size", "10k"))
        self.assertEqual(["/f/other/eph"], self.find("--max-size", "0"))
        self.assertEqual(["/f/other/eph"], self.find("--ephemeral"))
        self.assertEqual(["/f/other/eph"], self.find("--owner", f"{self.zk.session_id:#x}"))
        self.assertEqual(["/f/lock-1"], self.find("--newer", "10m"))
        self.assertEqual(["/f/lock-2"], self.find("--older", "10m", "--name", "lock-*"))
        self.assertEqual(["/f", "/f/lock-1", "/f/lock-2", "/f/other"], self.find("--depth", "1"))
        self.assertEqual(["/f/lock-1", "/f/lock-2/big", "/f/other/eph"], self.find("--leaf"))
        self.assertEqual([], self.find("--name", "nothing", status=1))
        self.assertEqual(["/f/lock-1\0/f/lock-2\0"], self.find("--name", "lock-*", "-0"))
        row = json.loads(self.zkt("find", "/f", "--ephemeral", "--json"))
        self.assertEqual(("/f/other/eph", 0), (row["path"], row["stat"]["dataLength"]))

    def test_not_readable(self) -> None:
        """What we must not look at is told, and found by its name alone; the rest is found all the same."""
        self.grow("/f", "/f/open")
        self.result(self.zk.create("/f/secret", b"x", [ACL(16, Id("world", "anyone"))]))
        self.assertEqual(["/f", "/f/open", "/f/secret"], self.find())
        self.assertEqual(["/f/secret"], self.find("--name", "s*"))
        self.assertEqual("", self.screen.told)
        self.assertEqual(["/f", "/f/open"], self.find("--max-size", "1"))
        self.assertEqual("find: /f/secret: its ACL does not permit looking at it\n", self.screen.told)
        self.assertIn(" secret  (not readable)\n", self.zkt("tree", "/f"))
        self.assertEqual("name    size", self.zkt("ls", "-l", "/f")[:12])

    def test_tree(self) -> None:
        """A picture with sizes and counts of everything, also of what is not shown."""
        self.grow("/f", "/f/a", "/f/a/b", "/f/a/c", "/f/d", data=b"12345")
        self.assertEqual(
            "/f  (25 B, 4 below)\n"
            "\u251c\u2500\u2500 a  (15 B, 2 below)\n"
            "\u2502   \u251c\u2500\u2500 b  (5 B)\n"
            "\u2502   \u2514\u2500\u2500 c  (5 B)\n"
            "\u2514\u2500\u2500 d  (5 B)\n"
            "\n5 nodes, 25 B\n",
            self.zkt("tree", "/f"),
        )
        self.assertEqual(
            "/f  (25 B, 4 below)\n"
            "\u251c\u2500\u2500 a  (15 B, 2 below)\n"
            "\u2514\u2500\u2500 ... 1 more\n"
            "\n5 nodes, 25 B\n",
            self.zkt("tree", "/f", "-L", "1", "-n", "1", "--sort", "size"),
        )
        value = json.loads(self.zkt("tree", "/f", "--json"))
        self.assertEqual(
            (5, 25, ["a", "d"]), (value["nodes"], value["size"], [one["name"] for one in value["children"]])
        )
        self.assertIn("/f/a/b      1     5\n", self.zkt("tree", "/f", "--table"))


class TransferTests(TreeCase):
    """cp, mirror and diff between two servers."""

    def setUp(self) -> None:
        super().setUp()
        self.serve("10.0.0.2", extended_types_enabled=True)
        self.other = self.connected("10.0.0.2")

    def test_copy(self) -> None:
        """Data, null and ACLs arrive, also of nodes whose ACL would not let us make what is below them."""
        self.grow("/a", "/a/b", data=b"\0\xff")
        self.result(self.zk.create("/a/null", None))
        self.result(self.zk.create("/a/locked", b"l"))
        self.grow("/a/locked/in", "/a/locked/in/deep")
        self.result(self.zk.create("/a/locked/leaf", b"", READ_ACL))
        for path in ("/a/locked/in", "/a/locked"):
            self.result(self.zk.set_acl(path, READ_ACL))
        self.result(self.zk.create("/a/eph", b"", ephemeral=True))
        self.assertEqual("7 created\n", self.zkt("cp", "/a", f"zk://{THERE}/deep/down/a"))
        self.assertEqual("", self.zkt("diff", "/a", f"zk://{THERE}/deep/down/a"))
        there = "/deep/down/a"
        self.assertEqual(b"\0\xff", self.result(self.other.get(there + "/b")).data)
        self.assertIsNone(self.result(self.other.get(there + "/null")).data)
        for name in ("/locked", "/locked/in", "/locked/leaf"):
            self.assertEqual(list(READ_ACL), list(self.result(self.other.get_acl(there + name)).acl or ()))
        self.assertEqual(list(OPEN_ACL), list(self.result(self.other.get_acl(there + "/locked/in/deep")).acl or ()))
        self.assertIsNone(self.result(self.other.exists(there + "/eph")))
        self.assertEqual("0 created, 7 the same\n", self.zkt("cp", "/a", f"zk://{THERE}/deep/down/a"))

    def test_mirror(self) -> None:
        """What is different is changed, what is too much goes, leaves first; first it is only shown."""
        self.grow("/a", "/a/same", "/a/new", "/a/changed")
        self.grow("/a", "/a/same", "/a/changed", "/a/old", "/a/old/1", "/a/old/1/2", client=self.other)
        self.result(self.other.set("/a/changed", b"y"))
        self.result(self.other.set_acl("/a/same", [ACL(31, Id("ip", "10.0.0.100"))]))
        target = f"zk://{THERE}/a"
        lines = self.zkt("mirror", "-n", "/a", target).splitlines()
        self.assertEqual(
            [
                "set    /a/changed  (1 B)",
                "create /a/new  (1 B)",
                "delete /a/old/1/2",
                "delete /a/old/1",
                "delete /a/old",
                "setAcl /a/same  world:anyone:cdrwa",
                "would be: 1 created, 1 changed, 1 with another ACL, 3 deleted, 1 the same",
            ],
            lines,
        )
        different = self.zkt("diff", "/a", target, status=1).splitlines()
        self.assertEqual(["! /changed  data 1 B -> 1 B", "- /new", "+ /old", "+ /old/1", "+ /old/1/2"], different[:5])
        self.assertEqual("! /same  acl world:anyone:cdrwa -> ip:10.0.0.100:cdrwa", different[5])
        self.assertEqual("", self.zkt("diff", "-q", "/a", target, status=1))
        self.assertEqual({"path": "/changed", "in": "both", "differs": ["data"]},
                         json.loads(self.zkt("diff", "/a", target, "--json", status=1).splitlines()[0]))  # fmt: skip
        self.assertIn("    -x\n    +y\n", self.zkt("diff", "-t", "/a", target, status=1))
        self.zkt("cp", "/a", target)
        self.assertIsNotNone(self.result(self.other.exists("/a/old/1/2")))
        self.zkt("mirror", "/a", target)
        self.assertEqual("", self.zkt("diff", "/a", target))

    def test_acls_left_alone(self) -> None:
        """Without ACLs they are neither compared nor changed."""
        self.grow("/a")
        self.grow("/a", client=self.other)
        self.result(self.other.set_acl("/a", [ACL(31, Id("ip", "10.0.0.100"))]))
        self.assertEqual("", self.zkt("diff", "--no-acls", "/a", f"zk://{THERE}/a"))
        self.assertEqual("0 created, 1 the same\n", self.zkt("cp", "--no-acls", "/a", f"zk://{THERE}/a"))

    def test_the_servers_own(self) -> None:
        """Of a whole server everything is copied but what the servers keep for themselves."""
        self.grow("/a", "/z")
        self.grow("/gone", client=self.other)
        self.zkt("setquota", "-n", "5", "/a")
        self.zkt("mirror", "/", f"zk://{THERE}/")
        self.assertEqual([], self.result(self.other.children("/zookeeper/quota")))
        self.assertEqual(["a", "z", "zookeeper"], sorted(self.result(self.other.children("/"))))

    def test_refused(self) -> None:
        """What makes no sense is refused before anything is done."""
        self.grow("/a", "/a/b")
        for source, target in (("/a", "/a"), ("/a", "/a/b/c"), ("/a/b", "/a"), ("/", "/a")):
            self.assertEqual(Status.USAGE, self.refused("cp", source, target).status, (source, target))
        self.assertEqual(Status.USAGE, self.refused("cp", "/a", "relative").status)
        self.assertEqual(Status.NO_NODE, self.refused("mirror", "/none", f"zk://{THERE}/a").status)
        self.assertEqual(Status.NO_NODE, self.refused("diff", "/a", f"zk://{THERE}/a").status)
        self.assertEqual(Status.LOCAL, self.refused("diff", "/a", "no-such-file").status)
        self.assertIn(f"file:{os.getcwd()}", str(self.refused("diff", os.getcwd(), "/a")))
        problem = self.refused("cp", "/a", "zk://10.0.0.9:2181/a")
        self.assertEqual(Status.NO_CONNECTION, problem.status)
        self.assertIn("10.0.0.9", str(problem))

    def test_interrupted(self) -> None:
        """A copy that is interrupted ends at once; run again it does the rest."""
        self.grow("/a", *(f"/a/{n:04}" for n in range(600)))
        copy = self.begin("cp", "/a", f"zk://{THERE}/b")
        self.until(lambda: self.result(self.other.exists("/b/0010")) is not None)
        copy.cancel()
        self.until(lambda: copy.called)
        copy.addErrback(lambda _: None)
        self.assertLess(len(self.result(self.other.children("/b"))), 600)
        self.zkt("cp", "/a", f"zk://{THERE}/b")
        self.assertEqual("", self.zkt("diff", "/a", f"zk://{THERE}/b"))


class ExportTests(TreeCase):
    """export and import, with a server."""

    def test_round_trips(self) -> None:
        """By way of each format a tree comes back the same."""
        self.grow("/a", "/a/b c", "/a/%25", "/a/\u00fc\u4e2d", "/a/%value", "/a/%value/x", "/a/.hidden")
        self.grow("/a/bin", data=bytes(range(256)))
        self.result(self.zk.create("/a/null", None))
        self.result(self.zk.create("/a/acl", b"x", [ACL(1, Id("ip", "::1")), ACL(31, Id("world", "anyone"))]))
        self.result(self.zk.create("/a/eph", b"", ephemeral=True))
        for name in ("a.ndjson", "a.json", "a.dir"):
            target = os.path.join(self.mktemp(), name)
            os.makedirs(os.path.dirname(target))
            self.assertIn("10 nodes", self.zkt("export", "/a", target))
            self.assertEqual("", self.zkt("diff", f"file:{target}", "/a"))
            self.assertEqual("10 created\n", self.zkt("import", target, "/copy"), name)
            self.assertEqual("", self.zkt("diff", "/copy", "/a"))
            self.assertIn("eph", self.zkt("diff", "/copy", "/a", "--ephemerals", status=1))
            self.zkt("deleteall", "/copy")

    def test_no_half_exports(self) -> None:
        """An export that fails leaves nothing; one that is there is not overwritten unawares."""
        self.grow("/a", "/a/b")
        self.result(self.zk.create("/a/secret", b"", [ACL(16, Id("world", "anyone"))]))
        directory = Path(self.mktemp())
        directory.mkdir()
        for name in ("x.ndjson", "x"):
            problem = self.refused("export", "/a", str(directory / name))
            self.assertEqual((Status.DENIED, "/a/secret"), (problem.status, problem.path))
        self.assertEqual([], list(directory.iterdir()))
        self.result(self.zk.set_acl("/a/secret", OPEN_ACL))
        for name in ("x.ndjson", "x"):
            self.zkt("export", "/a", str(directory / name))
            self.assertEqual(Status.LOCAL, self.refused("export", "/a", str(directory / name)).status)
        self.zkt("export", "-f", "/a", str(directory / "x.ndjson"))
        self.assertEqual(["x", "x.ndjson"], sorted(path.name for path in directory.iterdir()))

    def test_left_by_an_export_that_was_killed(self) -> None:
        """It is told which file is in the way, and what to do with it."""
        self.grow("/a")
        directory = Path(self.mktemp())
        (directory / "x.partial").mkdir(parents=True)
        (directory / "x.ndjson.partial").touch()
        for name in ("x.ndjson", "x"):
            problem = self.refused("export", "/a", str(directory / name))
            self.assertEqual((Status.LOCAL, str(directory / f"{name}.partial")), (problem.status, problem.path))
            self.assertIn("delete it", str(problem))
        self.assertEqual(["x.ndjson.partial", "x.partial"], sorted(path.name for path in directory.iterdir()))

    def test_standard_output(self) -> None:
        """Without a target the lines are shown."""
        self.grow("/a", "/a/b")
        header, *lines = map(json.loads, self.zkt("export", "/a").splitlines())
        self.assertEqual({"format": "zktwisted-tree", "version": 1, "root": "/a"}, header)
        self.assertEqual([{"path": "", "data": "x"}, {"path": "b", "data": "x"}], lines)

    def test_kinds(self) -> None:
        """What an export says of containers and times to live is made so."""
        path = Path(self.mktemp() + ".ndjson")
        path.write_text(
            '{"format": "zktwisted-tree", "version": 1}\n{"path": ""}\n'
            '{"path": "t", "kind": "ttl", "ttl_ms": 1000}\n{"path": "c", "kind": "container"}\n'
        )
        self.zkt("import", str(path), "/k")
        self.assertEqual(["c", "t"], sorted(self.result(self.zk.children("/k"))))
        self.pass_time(200)
        self.assertEqual(["c"], self.result(self.zk.children("/k")))

    def test_delete(self) -> None:
        """import --delete makes the tree what it was."""
        self.grow("/a", "/a/b")
        target = self.mktemp() + ".ndjson"
        self.zkt("export", "/a", target)
        self.grow("/a/c", "/a/c/d")
        self.result(self.zk.set("/a/b", b"changed"))
        lines = self.zkt("import", "-n", target, "/a").splitlines()
        self.assertEqual("would be: 0 created, 1 changed, 1 the same, 2 only there", lines[-1])
        self.zkt("import", "--delete", target, "/a")
        self.assertEqual("", self.zkt("diff", target, "/a"))


letters = st.characters(
    codec="utf-8", max_codepoint=0xFFEF, exclude_categories=("Cc", "Cs", "Co", "Cn"), exclude_characters="/"
)
names = st.text(letters, min_size=1, max_size=6).filter(lambda name: name not in (".", ".."))
acls = st.lists(
    st.builds(
        ACL, st.integers(0, 31), st.builds(Id, st.sampled_from(["world", "ip", "x509"]), st.text("aZ:,=/ ", max_size=8))
    ),
    min_size=1,
    max_size=3,
).map(tuple)
properties = st.tuples(
    st.none() | st.binary(max_size=20), st.just(tuple(OPEN_ACL)) | acls, st.sampled_from([None, "container", "ttl"])
)
shapes = st.recursive(
    properties.map(lambda one: (one, {})),
    lambda below: st.tuples(properties, st.dictionaries(names, below, max_size=4)),
    max_leaves=12,
)


def records_of(shape: object, key: tuple[str, ...] = ()) -> list[Record]:
    """Return a made-up tree as records, in order."""
    (data, acl, kind), below = shape  # type: ignore[misc]
    found = [Record(key, data, acl, kind, 77 if kind == "ttl" else 0)]
    for name in sorted(below):
        found += records_of(below[name], (*key, name))
    return found


class ArchiveTests(SynchronousTestCase):
    """Files and directories without a server."""

    def read(self, tree: object) -> list[Record]:
        return self.successResultOf(Deferred.fromCoroutine(gather(tree)))

    @settings(deadline=None, derandomize=True, max_examples=25)
    @given(shapes)
    def test_whatever(self, shape: object) -> None:
        """Any tree comes back as it was: names, bytes, ACLs, kinds."""
        records = records_of(shape)
        base = Path(self.mktemp())
        base.mkdir()
        for writer, tree in (
            (FileWriter(base / "a.ndjson", "/"), FileTree(str(base / "a.ndjson"))),
            (FileWriter(base / "a.json", "/"), FileTree(str(base / "a.json"))),
            (DirectoryWriter(base / "a"), DirectoryTree(base / "a")),
        ):
            writer.begin()
            for record in records:
                writer.add(record)
            writer.end()
            self.assertEqual(records, self.read(tree))

    def test_any_order(self) -> None:
        """Lines may stand in any order, and a document may be laid out in any way."""
        path = Path(self.mktemp())
        path.write_text('{"format": "zktwisted-tree", "version": 1}\n\n{"path": "b/c"}\n{"path": "b"}\n{"path": ""}\n')
        self.assertEqual([(), ("b",), ("b", "c")], [record.key for record in self.read(FileTree(str(path)))])
        document = {"nodes": [{"path": "a", "data": "x"}, {"path": ""}], "version": 1, "format": "zktwisted-tree"}
        path.write_text(json.dumps(document, indent=4))
        self.assertEqual([(), ("a",)], [record.key for record in self.read(FileTree(str(path)))])

    def test_bad_files(self) -> None:
        """What is no export is refused, with the line."""
        head = '{"format": "zktwisted-tree", "version": 1}\n'
        for text, words in (
            ("", "line 1: it is no JSON"),
            (head, "no nodes"),
            ("hello\n", "line 1: it is no JSON"),
            ('{"nodes": [\n{]}\n', "line 2: it is no JSON"),
            ('{"x": 1}\n', "no export"),
            ('{"format": "zktwisted-tree", "version": 9}\n', "version 9"),
            (head + "{\n", "line 2: it is no JSON"),
            (head + "[]\n", "line 2"),
            (head + '{"path": "/a"}\n', "line 2"),
            (head + '{"path": "", "data": 5}\n', '"data"'),
            (head + '{"path": "", "data": "*", "encoding": "base64"}\n', "line 2"),
            (head + '{"path": "", "encoding": "rot13", "data": ""}\n', "rot13"),
            (head + '{"path": "", "acl": ["x"]}\n', "'x'"),
            (head + '{"path": "", "kind": "ttl"}\n', "ttl_ms"),
            (head + '{"path": "", "kind": "odd"}\n', "'odd'"),
            (head + '{"path": ""}\n{"path": "a/b"}\n', "above 'a/b'"),
            (head + '{"path": ""}\n{"path": ""}\n', "twice"),
        ):
            path = Path(self.mktemp())
            path.write_text(text)
            problem = self.successResultOf(Deferred.fromCoroutine(refusal(FileTree(str(path)))))
            self.assertEqual(Status.LOCAL, problem.status)
            self.assertIn(words, str(problem))
            self.assertIn(str(path), str(problem))

    def test_bad_directories(self) -> None:
        """So is a directory that nobody can have meant."""

        def plain(path: Path) -> None:
            (path / "100%").write_text("")

        def node(path: Path) -> None:
            (path / "%node.json").write_text("[]")

        def kind(path: Path) -> None:
            (path / "%node.json").write_text('{"kind": "odd"}')

        def link(path: Path) -> None:
            (path / "link").symlink_to(path)

        for make, words in ((plain, "%25"), (node, "%node.json"), (kind, "odd"), (link, "neither")):
            path = Path(self.mktemp())
            path.mkdir()
            make(path)
            problem = self.successResultOf(Deferred.fromCoroutine(refusal(DirectoryTree(path))))
            self.assertEqual(Status.LOCAL, problem.status)
            self.assertIn(words, str(problem))

    def test_long_names(self) -> None:
        """A name that no file can have is refused, with a way out."""
        writer = DirectoryWriter(Path(self.mktemp()))
        writer.begin()
        writer.add(Record(()))
        writer.add(Record(("x" * 256,)))
        self.assertIn("ndjson", str(self.assertRaises(Problem, writer.end)))
        writer.give_up()
