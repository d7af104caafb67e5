"""Which of DIFF, TRUNC and SNAP a learner gets, and with what: the whole table, and its edges."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from zktwisted.wire.ops import make_zxid, zxid_counter, zxid_epoch
from zktwisted.wire.quorum import DIFF, SNAP, TRUNC
from zktwisted.zab import sync
from zktwisted.zab.sync import Plan


def zxids(text: str) -> list[int]:
    """Read zxids: C{5:1 5:2}, or C{5:1-4} for a run."""
    found = []
    for word in text.split():
        epoch, _, counters = word.partition(":")
        first, _, last = counters.partition("-")
        found += [make_zxid(int(epoch), counter) for counter in range(int(first), int(last or first) + 1)]
    return found


def zxid(text: str) -> int:
    return zxids(text)[0]


def entries(text: str) -> list[tuple[int, bytes]]:
    return [(each, b"%d" % each) for each in zxids(text)]


class Case(NamedTuple):
    """
    One line of the table.

    @ivar log: what the log on disk holds; C{None} if it is not to be asked.
    @ivar expected: kind and zxid; C{"SNAP"} has the zxid of the tree.
    @ivar sent: the transactions sent.
    """

    name: str
    peer: str
    last: str
    window: str
    log: str | None
    expected: str
    sent: str = ""


CASES = (
    # Nothing but the tree.
    Case("both are new", "0:0", "0:0", "", None, "DIFF 0:0"),
    Case("an empty tree in an epoch", "0:0", "1:0", "", None, "SNAP"),
    Case("nothing in memory, the learner is behind", "5:4", "5:5", "", None, "SNAP"),
    Case("nothing in memory, the learner is ahead", "5:6", "5:5", "", None, "TRUNC 5:5"),
    Case("nothing in memory, the learner heard of the epoch", "6:0", "5:5", "", None, "SNAP"),
    # Around the window.
    Case("equal", "5:9", "5:9", "5:5-9", None, "DIFF 5:9"),
    Case("equal, an epoch has begun", "6:0", "6:0", "5:5-9", None, "DIFF 6:0"),
    Case("one before the window", "5:4", "5:9", "5:5-9", None, "SNAP"),
    Case("first of the window", "5:5", "5:9", "5:5-9", None, "DIFF 5:9", "5:6-9"),
    Case("within the window", "5:7", "5:9", "5:5-9", None, "DIFF 5:9", "5:8-9"),
    Case("last of the window, an epoch has begun", "5:9", "6:0", "5:5-9", None, "DIFF 5:9"),
    Case("one behind the window", "5:10", "5:9", "5:5-9", None, "TRUNC 5:9"),
    Case("one behind the window, an epoch has begun", "5:10", "6:0", "5:5-9", None, "TRUNC 5:9"),
    Case("far behind the window, of a higher epoch", "7:3", "6:0", "5:5-9", None, "TRUNC 5:9"),
    Case("a window of one", "5:9", "5:10", "5:10", None, "SNAP"),
    # Between two epochs.
    Case("the end of the epoch before", "5:9", "6:2", "5:5-9 6:1-2", None, "DIFF 6:2", "6:1-2"),
    Case("a tail of the epoch before", "5:10", "6:2", "5:5-9 6:1-2", None, "SNAP"),
    Case("the begin of the epoch", "6:0", "6:2", "5:5-9 6:1-2", None, "DIFF 6:2", "6:1-2"),
    Case("the begin of an epoch without transactions", "6:0", "7:2", "5:9 7:1-2", None, "DIFF 7:2", "7:1-2"),
    Case("the begin of the next epoch, as the last one known", "7:0", "6:2", "5:9 6:1-2", None, "SNAP"),
    Case("a hole in the window, within an epoch", "5:7", "5:9", "5:5-6 5:8-9", None, "TRUNC 5:6", "5:8-9"),
    Case("twice in the window", "5:6", "5:8", "5:5 5:6 5:6 5:7 5:7 5:8", None, "DIFF 5:8", "5:7-8"),
    # From the log.
    Case("the log and the window", "5:2", "5:9", "5:5-9", "5:1-9", "DIFF 5:9", "5:3-9"),
    Case("the log begins with the learner's last", "5:2", "5:9", "5:5-9", "5:2-9", "DIFF 5:9", "5:3-9"),
    Case("the log begins one later", "5:2", "5:9", "5:5-9", "5:3-9", "SNAP"),
    Case("the log goes on beyond what is committed", "5:2", "5:9", "5:5-9", "5:1-12", "DIFF 5:9", "5:3-9"),
    Case("the log ends where the window begins", "5:2", "5:9", "5:5-9", "5:1-5", "DIFF 5:9", "5:3-9"),
    Case("a gap between the log and the window", "5:2", "5:9", "5:5-9", "5:1-4", "SNAP"),
    Case("no log", "5:2", "5:9", "5:5-9", "", "SNAP"),
    Case("the log alone", "5:2", "5:6", "", "5:1-6", "DIFF 5:6", "5:3-6"),
    Case("the log alone, an epoch has begun", "5:2", "6:0", "", "5:1-6", "SNAP"),
    Case("a tail within the log", "5:4", "6:9", "6:5-9", "5:1-3 5:5-6 6:1-9", "TRUNC 5:3", "5:5-6 6:1-9"),
    Case("a tail at the end of an epoch", "5:4", "6:9", "6:5-9", "5:1-3 6:1-9", "SNAP"),
    Case("the begin of an epoch, in the log", "6:0", "6:9", "6:5-9", "5:1-3 6:1-9", "DIFF 6:9", "6:1-9"),
    Case("a fresh learner, and a log from the first transaction", "0:0", "1:9", "1:5-9", "1:1-9", "SNAP"),
    Case("twice in the log and the window", "5:2", "5:9", "5:5-9", "5:1-6 5:5-6", "DIFF 5:9", "5:3-9"),
)


def decide(case: Case) -> Plan:
    plan = sync.plan(zxid(case.peer), zxid(case.last), entries(case.window), log=case.log is not None)
    if plan is None:
        assert case.log is not None
        plan = sync.plan_with_log(zxid(case.peer), zxid(case.last), entries(case.window), entries(case.log))
    return plan


class TableTests(SynchronousTestCase):
    """The table of the decision."""

    def test_table(self) -> None:
        """Each line of the table."""
        kinds = {"DIFF": DIFF, "TRUNC": TRUNC, "SNAP": SNAP}
        for case in CASES:
            plan = decide(case)
            kind, _, announced = case.expected.partition(" ")
            self.assertEqual(kinds[kind], plan.kind, case.name)
            self.assertEqual(zxid(announced or case.last), plan.zxid, case.name)
            self.assertEqual(entries(case.sent), plan.entries, case.name)
            if plan.kind == SNAP:
                self.assertEqual(zxid(case.last), plan.start, case.name)
            elif plan.entries:
                self.assertEqual(plan.entries[-1][0], plan.start, case.name)

    def test_log_is_asked_only_if_it_may_help(self) -> None:
        """The log is read for learners older than the window, and for no other."""
        window = entries("5:5-9")
        self.assertIsNone(sync.plan(zxid("5:4"), zxid("5:9"), window))
        for peer in ("5:5", "5:9", "5:10", "6:0"):
            self.assertIsNotNone(sync.plan(zxid(peer), zxid("5:9"), window), peer)

    def test_forced(self) -> None:
        """C{forceSnapshotSync} sends an image even to a learner that has everything."""
        plan = sync.plan(zxid("5:9"), zxid("5:9"), entries("5:5-9"), forced=True)
        self.assertEqual(Plan(SNAP, zxid("5:9"), [], zxid("5:9")), plan)

    def test_negative(self) -> None:
        """A learner that must not be believed (zxid -1) gets an image."""
        self.assertEqual(SNAP, sync.plan_with_log(-1, zxid("5:9"), entries("5:5-9"), entries("5:1-9")).kind)
        self.assertEqual(SNAP, sync.plan_with_log(-1, zxid("5:9"), [], None).kind)

    def test_limit(self) -> None:
        """How much log may be sent depends on how large an image would be."""
        self.assertEqual(330, sync.log_limit(0.33, 1000))
        self.assertEqual(330, sync.log_limit(7, 1000))
        self.assertEqual(1000, sync.log_limit(1, 1000))
        self.assertEqual(0, sync.log_limit(0, 1000))
        self.assertEqual(0, sync.log_limit(0.33, 0))
        self.assertIsNone(sync.log_limit(-1, 1000))


#: A history that was committed: some transactions in each of some epochs.
histories = st.lists(st.integers(0, 5), min_size=1, max_size=4).map(
    lambda counts: [make_zxid(epoch, counter + 1) for epoch, count in enumerate(counts, 1) for counter in range(count)]
)


class PropertyTests(SynchronousTestCase):
    """What holds for any histories."""

    @settings(deadline=None, derandomize=True, max_examples=400)
    @given(histories, st.data())
    def test_becomes_equal(self, history: list[int], data: st.DataObject) -> None:
        """
        After it, the learner has the leader's history and nothing else.

        The learner has a part of it, and perhaps a tail of its own from the epoch in which it stopped.
        """
        size = data.draw(st.integers(0, len(history)))
        own = history[:size]
        base = own[-1] if own else 0
        # Its own tail cannot be of an epoch of which others have more: those have been acknowledged.
        later = [each for each in history[size:] if zxid_epoch(each) == zxid_epoch(base)]
        tail = data.draw(st.integers(0, 2)) if base and not later else 0
        mine = own + [base + 1 + step for step in range(tail)]
        window = history[data.draw(st.integers(0, len(history))) :]
        last = history[-1] if history else 0
        peer = mine[-1] if mine else 0
        pairs = [(each, b"") for each in history]
        plan = sync.plan(peer, last, [(each, b"") for each in window])
        if plan is None:
            plan = sync.plan_with_log(peer, last, [(each, b"") for each in window], pairs)
        if plan.kind == SNAP:
            mine = list(history)
        elif plan.kind == TRUNC:
            mine = [each for each in mine if each <= plan.zxid]
        mine += [each for each, _ in plan.entries]
        self.assertEqual(history, mine)
        self.assertTrue(plan.start == last or zxid_counter(plan.start) == 0 or not history)
