"""
Mistakes that others have made, or that we could: each put into the servers of this process for as long as it is tried.

A mistake is a function that is given C{patch(object, name, value)}.  It says in one line what goes wrong, as a promise
broken; that the simulator finds it is shown by L{tests.sim.test_planted}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zktwisted.server.core import ZooKeeperServer
from zktwisted.server.driver import Driver
from zktwisted.server.following import LearnerDriver
from zktwisted.server.leader import LeaderRole
from zktwisted.server.learner import FollowerRequestProcessor, LearnerRole
from zktwisted.store.database import Database
from zktwisted.tree import reads
from zktwisted.tree.datatree import DataTree
from zktwisted.tree.prepare import Prepare
from zktwisted.tree.sessions import SessionTracker
from zktwisted.wire import ops
from zktwisted.wire.ops import zxid_epoch
from zktwisted.wire.quorum import DIFF
from zktwisted.zab import election, sync
from zktwisted.zab.effects import CURRENT_EPOCH, Apply, WriteEpoch
from zktwisted.zab.joining import Joining
from zktwisted.zab.leader import Leader
from zktwisted.zab.learner import Learner
from zktwisted.zab.links import Links

Patch = Callable[[Any, str, Any], None]


def ack_before_fsync(patch: Patch) -> None:
    """A server acknowledges what its disk has not yet."""
    log = Driver._log

    def hasty(self: Any, effect: Any) -> None:
        log(self, effect)
        self.machine.persisted(effect.token, self._now())

    patch(Driver, "_log", hasty)


def commit_at_half(patch: Patch) -> None:
    """Half of the voters, rounded down, are enough for a commit."""
    patch(Leader, "_quorum_acked", lambda self, proposal: len(proposal.acks) >= len(self._quorums[0].voters) // 2)


def epoch_check_skipped(patch: Patch) -> None:
    """A leader takes the epoch behind that of its last transaction, and nobody looks whether he has promised more."""
    offer, discover = Joining._offer, Learner._discover

    def forgetful(self: Any, sid: int, accepted_epoch: int, now: float) -> None:
        offer(self, sid, zxid_epoch(self.last_proposed), now)

    def obedient(self: Any, packet: Any) -> None:
        self._accepted_epoch = min(self._accepted_epoch, zxid_epoch(packet.zxid) - 1)
        discover(self, packet)

    patch(Joining, "_offer", forgetful)
    patch(Learner, "_discover", obedient)


def outstanding_changes_kept(patch: Patch) -> None:
    """A leader judges requests by what it prepared in an earlier leadership and nobody has agreed to."""
    start = Prepare.start

    def start_with_leftovers(self: Any, zxid: int) -> None:
        pending = dict(self.pending)
        start(self, zxid)
        self.pending.update(pending)

    patch(Prepare, "start", start_with_leftovers)


def truncated_one_too_few(patch: Patch) -> None:
    """TRUNC leaves the first transaction that it should remove."""
    truncate = Database.truncate
    patch(Database, "truncate", lambda self, zxid: truncate(self, zxid + 1))


def session_expired_early(patch: Patch) -> None:
    """A new leader does not give sessions their whole timeout anew."""

    def load(self: Any, timeouts: Any, now: float) -> None:
        for session_id, timeout in timeouts.items():
            self.add(session_id, timeout, now - timeout)

    patch(SessionTracker, "load", load)


def touches_lost(patch: Patch) -> None:
    """The leader does not hear of which sessions its learners have heard."""
    patch(LeaderRole, "touched", lambda self, channel, sessions: None)


def watch_lost_on_move(patch: Patch) -> None:
    """A client that moves with its watches is told that they are set, and they are not."""
    init = reads.Reads.__init__

    def forgetful(self: Any, *arguments: Any, **named: Any) -> None:
        init(self, *arguments, **named)

        def agree(connection: Any, identities: Any, xid: int, *rest: Any) -> bytes:
            return reads.encode_reply(xid, self.zxid, 0)

        self.table[ops.SET_WATCHES] = agree

    patch(reads.Reads, "__init__", forgetful)


def applied_twice(patch: Patch) -> None:
    """A learner that comes back is sent the last transaction that it has once more."""
    init = sync._Walk.__init__

    def generous(self: Any, peer: int, announced: int) -> None:
        init(self, peer, announced)
        self.queued = peer - 1

    def over(self: Any, source: Any, bound: int) -> None:
        for zxid, entry in source:
            if zxid > bound:
                break
            if zxid == self._peer and self._kind == 0:
                self._operation(DIFF, self._announced)
            if zxid > self.queued and self._kind:
                self._entries.append((zxid, entry))
                self.queued = zxid

    patch(sync._Walk, "__init__", generous)
    patch(sync._Walk, "over", over)


def new_leader_acked_early(patch: Patch) -> None:
    """NEWLEADER is acknowledged while the history is still on its way to the disk."""

    def log_history(self: Any) -> None:
        self.discard = self._snapshot_needed = False
        self._to_log = True
        self._apply_history()
        self._epoch_written()

    patch(Learner, "_log_history", log_history)


def epoch_before_history(patch: Patch) -> None:
    """The epoch is current on a disk that has not its history yet."""
    new_leader = Learner._new_leader

    def hasty(self: Any, zxid: int) -> None:
        self._effects.append(WriteEpoch(-1, CURRENT_EPOCH, self.epoch))
        new_leader(self, zxid)

    patch(Learner, "_new_leader", hasty)


def uncommitted_applied(patch: Patch) -> None:
    """A follower applies a proposal when it comes, and does nothing when it is committed."""
    accept = Learner._accept

    def hasty(self: Any, entries: list[tuple[int, bytes]]) -> None:
        accept(self, entries)
        self._effects.append(Apply(entries))

    def pop(self: Any, zxids: list[int]) -> None:
        for _ in zxids:
            if self._pending:
                self._pending.popleft()

    patch(Learner, "_accept", hasty)
    patch(Learner, "_commit", pop)


def image_beside_the_old(patch: Patch) -> None:
    """Sessions that a server had before it got an image live on beside those of the image."""
    load_image = LearnerDriver._load_image

    def keep(self: Any, effect: Any) -> None:
        before = dict(self._core.timeouts)
        load_image(self, effect)
        self._core.timeouts.update(before)

    patch(LearnerDriver, "_load_image", keep)


def image_of_halves(patch: Patch) -> None:
    """What is committed while an image is written comes behind NEWLEADER, so a learner serves half of it."""
    start = Links._start

    def hasty(self: Any, link: Any, plan: Any, behind: list[bytes]) -> None:
        start(self, link, plan, behind)
        self.image_sent(link.channel, link.heard)

    patch(Links, "_start", hasty)


def commits_out_of_order(patch: Patch) -> None:
    """A leader gathers commits while there is more to come, and tells the newest first."""
    commit = Leader._commit
    held: dict[Any, list[Any]] = {}

    def reversed_commit(self: Any, committed: list[Any]) -> None:
        gathered = held.pop(self, []) + committed
        if len(gathered) == 1 and self._outstanding:
            held[self] = gathered
        else:
            commit(self, gathered[::-1])

    patch(Leader, "_commit", reversed_commit)


def sync_answered_early(patch: Patch) -> None:
    """A follower answers a sync itself."""
    forward = FollowerRequestProcessor.forward

    def hasty(self: Any, request: Any) -> None:
        if request.op == ops.SYNC:
            self.next.next.process_request(request)
            self.core.settle()
        else:
            forward(self, request)

    patch(FollowerRequestProcessor, "forward", hasty)


def read_from_the_past(patch: Patch) -> None:
    """A server takes in a client that has seen more than it has itself."""
    connect = ZooKeeperServer.connect

    def lenient(self: Any, connection: Any, request: Any, read_only: bool | None) -> None:
        connect(self, connection, request._replace(last_zxid_seen=0), read_only)

    patch(ZooKeeperServer, "connect", lenient)


def elected_by_id(patch: Patch) -> None:
    """The highest id wins an election, and a leader does not mind that a follower is ahead of it."""
    patch(
        election,
        "beats",
        lambda quorum, new, current: quorum.weight(new.leader) > 0 and new.leader > current.leader,
    )

    def promise_of(self: Any, link: Any, current_epoch: int, now: float) -> None:
        promise(self, link, min(current_epoch, -1 if current_epoch == -1 else 0), now)

    promise = Joining._promise_of
    patch(Joining, "_promise_of", promise_of)


def owner_not_checked(patch: Patch) -> None:
    """What a client asked at a server that it has left is done, however late it comes."""
    judge = LeaderRole._judge

    def lenient(self: Any, request: Any) -> None:
        session = self.core.sessions.get(request.session_id)
        if session is not None:
            session.owner = request.owner
        judge(self, request)

    patch(LeaderRole, "_judge", lenient)


def ephemerals_outlive_sessions(patch: Patch) -> None:
    """A session's end leaves its ephemeral nodes."""
    apply = DataTree.apply

    def forgetful(self: Any, header: Any, body: Any, *rest: Any) -> Any:
        if header.type == ops.CLOSE_SESSION:
            header = header._replace(type=ops.CREATE_SESSION)
            rest = rest[:1]
        return apply(self, header, body, *rest)

    patch(DataTree, "apply", forgetful)


def last_record_not_restored(patch: Patch) -> None:
    """A start passes over the last record of the log."""
    restore = Database.restore

    class Short:
        """Hands on each record when the next one comes."""

        def __init__(self, target: Any) -> None:
            self._target, self._held = target, b""

        def __getattr__(self, name: str) -> Any:
            return getattr(self._target, name)

        def apply_entry(self, entry: bytes) -> None:
            if self._held:
                self._target.apply_entry(self._held)
            self._held = entry

    patch(Database, "restore", lambda self, target: restore(self, Short(target)))


def leads_without_followers(patch: Patch) -> None:
    """A leader goes on when a quorum follows no longer."""
    patch(Leader, "_is_followed", lambda self: True)


def leads_too_early(patch: Patch) -> None:
    """A leader begins to serve when only its own disk has its history."""

    def try_lead(self: Any, now: float) -> None:
        self._new_leader_acks._satisfied = True
        attempt(self, now)

    attempt = Joining._try_lead
    patch(Joining, "_try_lead", try_lead)


def events_late(patch: Patch) -> None:
    """A watch is told behind the answer that shows its change."""
    deliver = ZooKeeperServer._deliver

    def late(self: Any, *arguments: Any) -> None:
        self.call_later(0.01, lambda: (deliver(self, *arguments), self.flush_dirty()))

    patch(ZooKeeperServer, "_deliver", late)


def answers_mixed_up(patch: Patch) -> None:
    """A follower takes any transaction of a session for the answer to its oldest request."""
    committed = LearnerRole.apply

    def careless(self: Any, zxid: int, entry: bytes) -> None:
        writes = self._commit.local_writes
        if writes:
            writes[0].cxid = int.from_bytes(entry[8:12], "big", signed=True)
        committed(self, zxid, entry)

    patch(LearnerRole, "apply", careless)


PLANTED: tuple[Callable[[Patch], None], ...] = (
    ack_before_fsync,
    commit_at_half,
    epoch_check_skipped,
    outstanding_changes_kept,
    truncated_one_too_few,
    session_expired_early,
    touches_lost,
    watch_lost_on_move,
    applied_twice,
    new_leader_acked_early,
    epoch_before_history,
    uncommitted_applied,
    image_beside_the_old,
    image_of_halves,
    commits_out_of_order,
    sync_answered_early,
    read_from_the_past,
    elected_by_id,
    owner_not_checked,
    ephemerals_outlive_sessions,
    last_record_not_restored,
    leads_without_followers,
    leads_too_early,
    events_late,
    answers_mixed_up,
)
