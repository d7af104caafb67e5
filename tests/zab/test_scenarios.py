"""
The stories in C{tests/scenarios}, played line by line.

Unindented lines are prose.  An indented line is something that happens, or that must be so::

    3 leads                               2 follows 3                        4 observes 3
    3 leads 1 and 2                       the begin of an epoch, of which "discovery" tells
    3 commits 1:1 1:2                     these are proposed and reach everybody, of which "commit" tells
    1 > 3: ACK 1:1                        the next packet from 1 to 3 is this one, and it arrives now
    1 disk: log 1:1                       the oldest thing that 1 asked of its disk is this, and it is done now
    1 tells: applies 1:1                  the next thing that 1 made known of itself
    3 proposes 1:2
    1 crashes                             2 leaves                           5 s pass
    1 has 1:1 1:2                         its tree, when it is up
    the disk of 1 has 1:1; epochs 1, 1    log, acceptedEpoch and currentEpoch, as a crash would leave them

C{nothing} in the place of a packet, a disk's work or a word demands that there is none.  A story ends with nothing
untold: every packet has arrived or was lost with its connection, every disk is done, every word was expected.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.zab.world import Server, World, parse, say, show, words_of

SCENARIOS = Path(__file__).parent.parent / "scenarios"


class Story:
    """One story while it is played."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rules: list[tuple[re.Pattern[str], Callable[..., None]]] = [
            (re.compile(pattern + "$"), rule)
            for pattern, rule in (
                (r"(\d) leads (\d(?: and \d)*)", self.leads),
                (r"(\d) commits (.*)", self.commits),
                (r"(\d) leads", lambda sid: self.server(sid).lead()),
                (r"(\d) (?:follows|observes) (\d)", lambda sid, of: self.server(sid).follow(self.server(of))),
                (r"(\d) > (\d): (.*)", self.arrives),
                (r"(\d) disk: (.*)", self.disk),
                (r"(\d) tells: (.*)", self.tells),
                (r"(\d) proposes (.*)", self.proposes),
                (r"(\d) syncs for (\d)", self.syncs),
                (r"(\d) asks (\d) for a sync", self.asks),
                (r"(\d) crashes", lambda sid: self.server(sid).crash()),
                (r"(\d) crashes, (\d+) more on its disk", lambda sid, n: self.server(sid).crash(int(n))),
                (r"(\d) leaves", lambda sid: self.server(sid).leave()),
                (r"(\d) has (.*)", self.has),
                (r"the disk of (\d) has (.*); epochs (\d+), (\d+)", self.on_disk),
                (r"the disk of (\d) is (full|free)", self.full),
                (r"at most (\d+) transactions are kept in memory", self.keep),
                (r"([\d.]+) s pass", lambda seconds: self.world.pass_time(float(seconds))),
            )
        ]

    def server(self, sid: str) -> Server:
        return self.world.servers[int(sid)]

    def play(self, line: str) -> None:
        for pattern, rule in self.rules:
            if (found := pattern.match(line)) is not None:
                rule(*found.groups())
                return
        raise AssertionError("nobody understands this")

    def expect(self, expected: str, found: str) -> None:
        assert expected == found, f"instead: {found}"

    def leads(self, sid: str, others: str) -> None:
        self.server(sid).lead()
        for other in others.split(" and "):
            self.server(other).follow(self.server(sid))
        self.quietly()

    def commits(self, sid: str, zxids: str) -> None:
        for zxid in zxids.split():
            self.proposes(sid, zxid)
        self.quietly()

    def quietly(self) -> None:
        """Let everything happen, and forget what was told of it."""
        self.world.settle()
        for server in self.world.servers.values():
            server.told.clear()

    def arrives(self, sender: str, receiver: str, expected: str) -> None:
        one, other = self.server(sender), self.server(receiver)
        up = one.link is not None and one.link.leader is other
        link = one.link if up else other.link
        waiting = (link.up if up else link.down) if link is not None else ()
        if not waiting or expected == "nothing":
            self.expect(expected, say(waiting[0]) if waiting else "nothing")
            return
        self.expect(expected, say(waiting[0]))
        assert link is not None
        if up:
            self.world.deliver_up(link)
        else:
            self.world.deliver_down(link)

    def disk(self, sid: str, expected: str) -> None:
        wanted = self.server(sid).wanted
        self.expect(expected, words_of(wanted[0]) if wanted else "nothing")
        if wanted:
            self.server(sid).done()

    def tells(self, sid: str, expected: str) -> None:
        told = self.server(sid).told
        self.expect(expected, words_of(told.pop(0)) if told else "nothing")

    def proposes(self, sid: str, zxid: str) -> None:
        self.expect(zxid, show(self.world.propose(int(sid))))

    def asks(self, sid: str, leader: str) -> None:
        machine = self.server(sid).machine
        machine.request(7, 1, 9, b"", None, self.world.now)  # type: ignore[union-attr]
        self.server(sid).perform()

    def syncs(self, leader: str, sid: str) -> None:
        told = self.server(leader).told.pop(0)
        self.server(leader).machine.sync(told.channel, self.world.now)  # type: ignore[union-attr]
        self.server(leader).perform()

    def has(self, sid: str, expected: str) -> None:
        self.expect(expected, " ".join(show(zxid) for zxid, _ in self.server(sid).tree) or "nothing")

    def on_disk(self, sid: str, log: str, accepted: str, current: str) -> None:
        server = self.server(sid)
        durable = " ".join(show(zxid) for zxid, _ in server.log[: server.durable]) or "nothing"
        self.expect(f"{log}; {accepted}, {current}", f"{durable}; {server.accepted_epoch}, {server.current_epoch}")

    def full(self, sid: str, how: str) -> None:
        self.server(sid).disk_full = how == "full"

    def keep(self, count: str) -> None:
        self.world.window = int(count)

    def untold(self) -> list[str]:
        """Return what the story does not tell."""
        found = []
        for sid, server in self.world.servers.items():
            found += [f"{sid} disk: {words_of(effect)}" for effect in server.wanted]
            found += [f"{sid} tells: {words_of(effect)}" for effect in server.told]
            if server.link is not None:
                found += [f"{sid} > {server.link.leader.sid}: {say(packet)}" for packet in server.link.up]
                found += [f"{server.link.leader.sid} > {sid}: {say(packet)}" for packet in server.link.down]
        return found


def play(name: str, text: str) -> None:
    """Play a story; an error names the line that is not as it was told."""
    world = World(1, 2, 3, observers=(4,))
    story = Story(world)
    for number, line in enumerate(text.splitlines(), 1):
        if not line.startswith("    ") or not line.strip():
            continue
        try:
            story.play(re.sub(r"  +", " ", line.strip()))
        except AssertionError as e:
            raise AssertionError(f"{name}:{number}: {line.strip()}\n  {e}") from None
    untold = story.untold()
    assert not untold, f"{name}: untold: " + "\n  ".join(untold)


class ScenarioTests(SynchronousTestCase):
    """Every story is true."""


def _test_of(path: Path) -> Callable[[ScenarioTests], None]:
    def test(self: ScenarioTests) -> None:
        play(path.name, path.read_text(encoding="utf-8"))

    test.__doc__ = path.read_text(encoding="utf-8").splitlines()[0]
    return test


for _path in sorted(SCENARIOS.glob("*.txt")):
    setattr(ScenarioTests, f"test_{_path.stem}", _test_of(_path))


class DriverTests(SynchronousTestCase):
    """A story that is not true is found out."""

    STORY = "    3 leads\n    1 follows 3\n    1 > 3: FOLLOWERINFO of 1, epoch 0\n"

    def check(self, more: str, complaint: str) -> None:
        error = self.assertRaises(AssertionError, play, "story", self.STORY + more)
        self.assertIn(complaint, str(error))

    def test_wrong_line(self) -> None:
        """Another packet than the one that comes."""
        self.check("    3 > 1: NEWLEADER epoch 1\n", "story:4: 3 > 1: NEWLEADER epoch 1\n  instead: nothing")

    def test_wrong_disk(self) -> None:
        """Another work of the disk."""
        self.check("    3 disk: log 1:1\n", "instead: acceptedEpoch 1")

    def test_untold(self) -> None:
        """Something that happened, and is not told."""
        self.check("", "untold: 3 disk: acceptedEpoch 1")

    def test_not_nothing(self) -> None:
        """Nothing is something as well."""
        self.check("    3 disk: nothing\n", "instead: acceptedEpoch 1")

    def test_unknown(self) -> None:
        """A line that nobody understands."""
        self.check("    3 dances\n", "nobody understands this")

    def test_there_are_stories(self) -> None:
        """The stories have been found, and names are parsed as they are shown."""
        self.assertGreater(len(list(SCENARIOS.glob("*.txt"))), 5)
        self.assertEqual("5:3", show(parse("5:3")))

    def test_all_stories_are_in_the_documentation(self) -> None:
        """Each story has its place on the page that shows them."""
        page = (Path(__file__).parents[2] / "docs" / "internals" / "stories.md").read_text(encoding="utf-8")
        shown = re.findall(r"tests/scenarios/(\w+)\.txt", page)
        self.assertEqual(sorted(path.stem for path in SCENARIOS.glob("*.txt")), sorted(shown))
