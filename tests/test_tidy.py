"""
The rules of the house, as a test.

Which room may import which is a table here, checked by a walk over the syntax tree of every module; so are the
length of files and functions, the bare C{except}, and who may touch the global reactor.  Each rule is shown to
bite on a made-up module before it is trusted on ours.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "zktwisted"

FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70

# What would let time, chance or the outside world into a room whose answers must depend on its input alone.
OUTSIDE = frozenset(
    "asyncio concurrent io multiprocessing os pathlib random secrets select selectors shutil signal socket ssl "
    "subprocess tempfile threading time".split()
)

# Who may say that the global reactor is the one: a program's own surface, and a test case that trial runs.
REACTOR_USERS = frozenset(("zktwisted.kit.cases", "zktwisted.tap", "zktwisted.zkt.main"))


@dataclass(frozen=True)
class Room:
    """
    What the modules of one room may import.

    @ivar ours: rooms of ours, or single modules of them ("store.disk").
    @ivar others: packages that are neither ours nor the standard library's.
    @ivar forbidden: standard modules that have no place in this room.
    """

    ours: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    forbidden: frozenset[str] = frozenset()


_TWISTED = ("twisted", "zope", "attr", "attrs")
_EDGE = ("wire", "errors", "config", "store.disk", "edge", "interfaces", "_version")
_SERVER = ("wire", "errors", "config", "tree", "zab", "store", "edge", "server", "interfaces", "_version")

ROOMS = {
    "_version": Room(forbidden=OUTSIDE),
    "errors": Room(forbidden=OUTSIDE),
    "wire": Room(ours=("wire", "errors"), forbidden=OUTSIDE),
    "config": Room(
        ours=("errors", "config"), others=("attr", "attrs"), forbidden=OUTSIDE - {"os", "pathlib", "io"}
    ),
    "tree": Room(ours=("tree", "wire", "errors", "config"), forbidden=OUTSIDE),
    "zab": Room(ours=("zab", "wire", "errors", "config"), forbidden=OUTSIDE),
    "store": Room(
        ours=("store", "wire", "errors", "config"), others=("cramjam",), forbidden=OUTSIDE - {"io"}
    ),
    "interfaces": Room(ours=("wire", "errors"), others=("zope",)),
    "edge": Room(ours=_EDGE, others=(*_TWISTED, "OpenSSL", "cryptography", "service_identity")),
    # Whoever wants Kerberos installs the extra.
    "edge.kerberos": Room(ours=_EDGE, others=("gssapi",)),
    # It moves the machine of elections, as the server's drivers move those of the broadcast.
    "edge.election": Room(ours=(*_EDGE, "zab"), others=_TWISTED),
    "server": Room(ours=_SERVER, others=_TWISTED),
    # A client of a server in the same process is made by that server.
    "server.service": Room(ours=(*_SERVER, "client"), others=_TWISTED),
    "ops": Room(ours=("server", "edge", "config", "errors", "interfaces", "ops", "_version"), others=_TWISTED),
    "client": Room(ours=("client", "wire", "errors"), others=_TWISTED),
    # Whoever wants TLS installs the extra; the rest of the client does without.
    "client.tls": Room(ours=("client", "wire", "errors"), others=(*_TWISTED, "OpenSSL", "cryptography")),
    # Its front door names what is in the kit, too.
    "testing": Room(ours=(*_SERVER, "ops", "client", "testing", "kit"), others=_TWISTED),
    # The testing kit: what is done to real servers, and how the tests of others come by them.
    "kit": Room(ours=(*_SERVER, "client", "kit"), others=_TWISTED),
    "kit.credentials": Room(ours=("errors",), others=("cryptography",)),
    "kit.kazoo": Room(ours=("kit",), others=("kazoo",)),
    "kit.plugin": Room(ours=("kit",), others=("pytest", "kazoo")),
    "tap": Room(ours=("server", "ops", "config", "errors", "_version"), others=_TWISTED),
    # The command line of a client; of the tree it knows how quotas and owners are written.
    "zkt": Room(
        ours=("zkt", "client", "wire", "errors", "tree.quota", "tree.znode", "kit.command", "_version"), others=_TWISTED
    ),
    # A whole server answers four-letter words: the one module that puts it together may know who does.
    "server.run": Room(ours=(*_SERVER, "ops"), others=_TWISTED),
    # The front door names the rooms without importing them.
    "": Room(ours=("_version", "client", "config", "server.service"), forbidden=OUTSIDE),
}


def room_of(module: str) -> str:
    """Name the room of a module: C{zktwisted.tree.acl} is in C{tree}, C{zktwisted} itself in the empty name."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and full dotted name of everything a module imports, wherever in it the import stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield node.lineno, "." * node.level + f"{node.module or ''}.{alias.name}"


def _within(name: str, allowed: tuple[str, ...]) -> bool:
    return any(name == one or name.startswith(one + ".") for one in allowed)


def check_imports(module: str, tree: ast.AST) -> Iterator[str]:
    """Complain of each import that the table does not allow."""
    room = ROOMS.get(module.removeprefix("zktwisted."), ROOMS.get(room_of(module)))
    if room is None:
        yield f"{module}: no room of this name is in the table"
        return
    for line, name in imports(tree):
        top = name.split(".")[0]
        where = f"{module}:{line}"
        if not top:
            yield f"{where}: relative import of {name}; write the full name"
        elif name.startswith("twisted.internet.reactor"):
            if module not in REACTOR_USERS:
                yield f"{where}: the global reactor; take one as an argument"
        elif top == "zktwisted":
            # `from zktwisted import wire` arrives as zktwisted.wire, `from zktwisted.wire import jute` one longer.
            own = "_version" if name == "zktwisted.__version__" else name.removeprefix("zktwisted.")
            if not _within(own, room.ours):
                yield f"{where}: imports {name}, above or beside its room"
        elif top in sys.stdlib_module_names:
            # A Random that is handed in is how chance comes into a pure room; its type has to have a name there.
            if top in room.forbidden and name != "random.Random":
                yield f"{where}: imports {top}, which has no place in this room"
        elif top not in room.others:
            yield f"{where}: imports {top}, which is not among its packages"


def check_layout(module: str, source: str, tree: ast.AST) -> Iterator[str]:
    """Complain of files and functions that are too long to hold in mind."""
    lines = source.count("\n")
    if lines > FILE_LINES_MAX:
        yield f"{module}: {lines} lines, more than {FILE_LINES_MAX}"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES_MAX:
                yield f"{module}:{node.lineno}: {node.name} has {length} lines, more than {FUNCTION_LINES_MAX}"


def check_habits(module: str, tree: ast.AST) -> Iterator[str]:
    """Complain of what hides failures or promises what is not there."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            yield f"{module}:{node.lineno}: bare except"
        elif isinstance(node, ast.Name) and node.id == "NotImplementedError":
            yield f"{module}:{node.lineno}: NotImplementedError"
        elif isinstance(node, ast.Name | ast.Attribute):
            name = node.id if isinstance(node, ast.Name) else node.attr
            if name == "inlineCallbacks":
                yield f"{module}:{node.lineno}: inlineCallbacks; write async def"
    if isinstance(tree, ast.Module) and ast.get_docstring(tree) is None:
        yield f"{module}: says neither what it knows nor what it refuses to know"


def modules() -> Iterator[tuple[str, str]]:
    """Yield name and source of every module that we ship."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        yield name, path.read_text(encoding="utf-8")


def complaints(module: str, source: str) -> list[str]:
    """Everything wrong with one module."""
    tree = ast.parse(source)
    return [
        *check_imports(module, tree),
        *check_layout(module, source, tree),
        *check_habits(module, tree),
    ]


class HouseTests(SynchronousTestCase):
    """Our own modules keep the rules."""

    maxDiff = None

    def test_modules(self) -> None:
        """Every module that we ship: imports, length, habits."""
        found = [complaint for name, source in modules() for complaint in complaints(name, source)]
        self.assertEqual([], found)

    def test_every_room_is_walked(self) -> None:
        """The walk sees the package: it would be green on an empty directory too."""
        seen = {room_of(name) for name, _ in modules()}
        self.assertLessEqual({"", "errors", "wire", "tree", "store", "edge", "server", "tap"}, seen)

    def test_plugin_directory_is_no_package(self) -> None:
        """C{twisted/plugins} belongs to Twisted: an C{__init__.py} of ours there would hide the real package."""
        ours = {path.name for path in (ROOT / "twisted").rglob("*") if path.suffix == ".py"}
        self.assertEqual({"zktwisted_plugin.py"}, ours)

    def test_plugin_only_names_a_module(self) -> None:
        """Twisted imports every plugin on the machine to list them: ours must cost nothing there."""
        tree = ast.parse((ROOT / "twisted/plugins/zktwisted_plugin.py").read_text(encoding="utf-8"))
        self.assertEqual([], [name for _, name in imports(tree) if name.split(".")[0] == "zktwisted"])

    def test_tests_do_not_wait(self) -> None:
        """No unit test sleeps: time is an argument."""
        found = []
        for path in sorted((ROOT / "tests").rglob("*.py")):
            if path.relative_to(ROOT).parts[1] in ("interop", "packaging", "real") or path == Path(__file__):
                continue
            for line, name in imports(ast.parse(path.read_text(encoding="utf-8"))):
                if name == "time.sleep" or name.startswith("twisted.internet.reactor"):
                    found.append(f"{path.relative_to(ROOT)}:{line}: {name}")
        self.assertEqual([], found)


class RuleTests(SynchronousTestCase):
    """Each rule bites; each is quiet where it should be."""

    def assert_bites(self, module: str, source: str, *words: str) -> None:
        """The made-up module gives exactly one complaint, which has these words in it."""
        found = complaints(module, f'"""Knows."""\n{source}')
        self.assertEqual(1, len(found), found)
        for word in words:
            self.assertIn(word, found[0])

    def assert_quiet(self, module: str, source: str) -> None:
        """The made-up module gives no complaint."""
        self.assertEqual([], complaints(module, f'"""Knows."""\n{source}'))

    def test_upwards(self) -> None:
        """A pure room may not import what stands above it, in any spelling."""
        self.assert_bites("zktwisted.tree.x", "from zktwisted.server import service", "zktwisted.server.service")
        self.assert_bites("zktwisted.tree.x", "import zktwisted.server.service", "above or beside")
        self.assert_bites("zktwisted.wire.x", "from zktwisted import config", "zktwisted.config")
        self.assert_bites("zktwisted.wire.x", "from zktwisted import __version__", "__version__")
        self.assert_quiet("zktwisted.ops.x", "from zktwisted import __version__")

    def test_sideways(self) -> None:
        """The pure rooms never import one another."""
        self.assert_bites("zktwisted.tree.x", "from zktwisted.store import txnlog", "beside")
        self.assert_bites("zktwisted.store.x", "from zktwisted.tree.datatree import DataTree", "beside")

    def test_only_the_whole_server_knows_operators_surfaces(self) -> None:
        """C{ops} looks at C{server}; the way back is one module's."""
        self.assert_quiet("zktwisted.server.run", "from zktwisted.ops.fourletter import FourLetterWords")
        self.assert_bites("zktwisted.server.core", "from zktwisted.ops.fourletter import FourLetterWords", "ops")
        self.assert_bites("zktwisted.server.run", "from zktwisted import tap", "tap")

    def test_edge_sees_only_the_contract_of_the_store(self) -> None:
        """C{edge} implements C{store.disk} and knows no file format."""
        self.assert_quiet("zktwisted.edge.disk", "from zktwisted.store.disk import Disk")
        self.assert_bites("zktwisted.edge.disk", "from zktwisted.store.txnlog import scan", "store.txnlog")

    def test_hidden_imports(self) -> None:
        """An import inside a function or under TYPE_CHECKING counts like any other."""
        self.assert_bites("zktwisted.tree.x", "def f():\n    import time", "time")
        self.assert_bites("zktwisted.tree.x", "if TYPE_CHECKING:\n    from zktwisted.edge import disk", "edge")

    def test_outside_world(self) -> None:
        """Time, chance, files, sockets and threads are not for pure rooms; the rest of the library is."""
        for name in ("time", "random", "os.path", "socket", "threading", "subprocess"):
            self.assert_bites("zktwisted.tree.x", f"import {name}", name.split(".")[0])
        self.assert_bites("zktwisted.store.x", "from random import choice", "random")
        self.assert_quiet("zktwisted.tree.x", "import struct, zlib\nfrom collections import OrderedDict")
        self.assert_quiet("zktwisted.store.x", "from random import Random")

    def test_twisted_stays_above(self) -> None:
        """The pure rooms and the configuration do without Twisted."""
        for room in ("wire.x", "tree.x", "store.x", "zab.x", "errors", "config"):
            self.assert_bites(f"zktwisted.{room}", "from twisted.internet import defer", "twisted")

    def test_reactor(self) -> None:
        """Only who faces the user may import the global reactor, and nobody by way of a name."""
        self.assert_quiet("zktwisted.tap", "def f():\n    from twisted.internet import reactor")
        for room in ("server.service", "edge.client", "testing.disk", "ops.admin"):
            self.assert_bites(f"zktwisted.{room}", "from twisted.internet import reactor", "reactor")
            self.assert_bites(f"zktwisted.{room}", "import twisted.internet.reactor", "reactor")

    def test_strangers(self) -> None:
        """A package that we do not depend on cannot be imported, whatever the room."""
        self.assert_bites("zktwisted.server.x", "import kazoo.client", "kazoo")
        self.assert_bites("zktwisted.tree.x", "import attrs", "attrs")

    def test_relative(self) -> None:
        """Imports are written in full."""
        self.assert_bites("zktwisted.tree.x", "from . import acl", "relative")
        self.assert_bites("zktwisted.tree.x", "from .acl import check", "relative")

    def test_new_rooms(self) -> None:
        """A new room has to be put into the table first."""
        self.assert_bites("zktwisted.attic.x", "import struct", "no room")

    def test_length(self) -> None:
        """The last line that is allowed is allowed, the next is not."""
        self.assert_quiet("zktwisted.tree.x", "\n" * (FILE_LINES_MAX - 1))
        self.assert_bites("zktwisted.tree.x", "\n" * FILE_LINES_MAX, str(FILE_LINES_MAX + 1))
        body = "    x = 1\n"
        self.assert_quiet("zktwisted.tree.x", "def f():\n" + body * (FUNCTION_LINES_MAX - 1))
        self.assert_bites("zktwisted.tree.x", "async def f():\n" + body * FUNCTION_LINES_MAX, "f has")

    def test_habits(self) -> None:
        """Bare excepts, unfinished methods and generator Deferreds are named with their line."""
        self.assert_bites("zktwisted.tree.x", "try:\n    f()\nexcept:\n    pass", "x:4", "bare except")
        self.assert_quiet("zktwisted.tree.x", "try:\n    f()\nexcept ValueError:\n    pass")
        self.assert_bites("zktwisted.tree.x", "def f():\n    raise NotImplementedError", "NotImplementedError")
        self.assert_bites("zktwisted.server.x", "@defer.inlineCallbacks\ndef f(): pass", "async def")

    def test_docstring(self) -> None:
        """A module without a docstring is found."""
        self.assertEqual(1, len(complaints("zktwisted.tree.x", "import struct\n")))
