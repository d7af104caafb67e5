"""
What must be true of the servers of an ensemble after every step, whatever was done to them.

- One leader is established per epoch, and it has in its history all that was ever committed.
- Everywhere the same transaction does the same to the same state: as zxids are dense within an epoch, the servers'
  sequences are then prefixes of one another.
- What is committed is on the disks of a quorum, flushed; so is the history that a leader begins with.
- A server for which an epoch is current has the history with which that epoch began.
- Epochs on a disk never fall, and none is current that was not accepted.
- A server that serves stands where every other stood at that zxid.
- Nothing is left to be done behind the end of a process.

L{ServerChecker} listens in on the servers of one L{zktwisted.testing.ensemble.MemoryEnsemble}; it changes nothing that
they do.  What clients are promised is L{zktwisted.testing.history}'s matter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from zktwisted.store.snapshot import snapshot_files
from zktwisted.testing.disk import MemoryDisk
from zktwisted.wire import ops
from zktwisted.wire.ops import show_zxid, zxid_epoch

if TYPE_CHECKING:
    from zktwisted.testing.ensemble import MemoryEnsemble, MemoryMember

__all__ = ["Closing", "ServerChecker", "Violation"]

_COUNTER = 0xFFFFFFFF
_ACCEPTED, _CURRENT = "acceptedEpoch", "currentEpoch"


class Violation(AssertionError):
    """Something that must be true was not."""


class Closing(NamedTuple):
    """
    A leader's decision that a session ends.

    @ivar cxid: of the client's request; 0 where the leader has found the session expired.
    @ivar since: when this leader began to serve.
    """

    session: int
    at: float
    sid: int
    cxid: int
    since: float


class _State(NamedTuple):
    """All that transactions change, in short."""

    digest: int
    sessions: tuple[tuple[int, int], ...]


class ServerChecker:
    """
    The checks of one ensemble; see the module.

    @ivar entries: every transaction that any server has prepared or applied, by zxid.
    @ivar committed: zxids that a server which serves has applied, in order of discovery.
    @ivar leaders: (server, time) of each epoch whose leader was established.
    @ivar bases: the last zxid that each of those had when it began.
    @ivar closings: in order.
    """

    def __init__(self, ensemble: MemoryEnsemble, *, enabled: bool = True) -> None:
        """@param enabled: otherwise only who leads which epoch is taken down, and nothing is checked."""
        self._ensemble = ensemble
        self._enabled = enabled
        self.entries: dict[int, bytes] = {}
        self.committed: dict[int, None] = {}
        self.leaders: dict[int, tuple[int, float]] = {}
        self.bases: dict[int, int] = {}
        self.closings: list[Closing] = []
        self._wrong: list[str] = []
        self._effects: dict[int, tuple[_State, _State]] = {}
        self._states: dict[int, _State] = {}
        self._epochs: dict[int, tuple[bytes, bytes]] = {}
        self._tops: dict[int, int] = {}
        #: What was on a server's disk when an epoch became current there.
        self._took_up: dict[tuple[int, int], dict[str, bytes]] = {}
        self._looked_at: dict[int, tuple[object, int, int]] = {}

    def _complain(self, what: str) -> None:
        self._wrong.append(what)
        self._ensemble.note(f"WRONG: {what}")

    def epoch_of(self, sid: int) -> int:
        """Return the newest epoch that a server was established to lead, -1 for none."""
        return max((epoch for epoch, (leader, _) in self.leaders.items() if leader == sid), default=-1)

    # -- listening in

    def born(self, server: MemoryMember, core: Any) -> None:
        """A process is about to start: listen in on it."""
        begin, prepare = core.begin, core.prepare.prepare
        apply, apply_fused, replayed = core.apply, core.apply_fused, core.replayed

        def begun(role: Any, zxid: int, *arguments: Any, **named: Any) -> None:
            before = core.last_zxid
            begin(role, zxid, *arguments, **named)
            self._begun(server, role.name, before, zxid)

        def applied(proposal: Any, request: Any) -> Any:
            zxid, before, last = proposal.header.zxid, _state(core), core.last_zxid
            result = apply(proposal, request)
            self._applied(server, core, zxid, proposal.entry, before, last)
            return result

        def applied_fused(proposal: Any) -> Any:
            before, last = _state(core), core.last_zxid
            reply = apply_fused(proposal)
            self._applied(server, core, proposal.header.zxid, proposal.entry, before, last)
            return reply

        def applied_at_once(entry: bytes) -> Any:
            before, last = _state(core), core.last_zxid
            done = replayed(entry)
            if done is not None:
                self._applied(server, core, done.header.zxid, entry, before, last)
            return done

        def prepared(op: int, session_id: int, cxid: int, *arguments: Any, **named: Any) -> Any:
            proposal = prepare(op, session_id, cxid, *arguments, **named)
            self._prepared(server, proposal.header, proposal.entry)
            return proposal

        core.begin = begun
        if self._enabled:
            core.prepare.prepare = prepared
            core.apply, core.apply_fused, core.replayed = applied, applied_fused, applied_at_once

    def stopped(self, server: MemoryMember) -> None:
        """A process has stopped in order: it must have cleared up."""
        # What a disk has begun it finishes, whoever is still interested.
        left = [call for call in server.clock.getDelayedCalls() if not _of_disk(call)]
        if left:
            self._complain(f"server {server.sid} has stopped and left to be called: {left}")
        # One that is about to close needs another turn of the reactor.
        ends = self._ensemble.network.ends_at(server.host.address)
        connections = [here for here, _ in ends if not here.disconnecting]
        if connections or server.host.ports:
            self._complain(f"server {server.sid} has stopped and left open: {connections} {server.host.ports}")

    def _begun(self, server: MemoryMember, role: str, before: int, zxid: int) -> None:
        ensemble = self._ensemble
        ensemble.note(f"server {server.sid} serves as {role} behind {show_zxid(zxid)}, had {show_zxid(before)}")
        if role == "standalone":
            self._begun_alone(zxid)
        if role != "leader":
            return
        epoch = zxid_epoch(zxid)
        if epoch in self.leaders:
            self._complain(f"server {server.sid} leads epoch {epoch}, as {self.leaders[epoch][0]} did")
        if zxid_epoch(before) >= epoch:
            self._complain(f"server {server.sid} leads epoch {epoch} with a history up to {show_zxid(before)}")
        self.leaders[epoch] = server.sid, ensemble.world.now
        self.bases[epoch] = before
        self._check_base(server, epoch, before)
        ends = self._ends(epoch)
        for earlier, top in self._tops.items():
            if earlier < epoch and ends.get(earlier, 0) < top:
                self._complain(
                    f"server {server.sid} leads epoch {epoch} without {show_zxid(top)}, which was committed:"
                    f" its history ends with {show_zxid(before)}"
                )

    def _check_base(self, server: MemoryMember, epoch: int, base: int) -> None:
        """With NEWLEADER a quorum has the leader's history on disk, and only then its epoch is current there."""
        entry = self.entries.get(base)
        if entry is None:
            return
        durable = [sid for sid, each in self._ensemble.servers.items() if _holds(each.disk.files, base, entry)]
        if not contains_quorum(self._ensemble, durable):
            self._complain(f"server {server.sid} leads with {show_zxid(base)}, and only the disks of {durable} have it")
        for (sid, taken), files in self._took_up.items():
            if taken == epoch and _logs(self._ensemble.servers[sid]) and not _holds(files, base, entry):
                self._complain(f"epoch {epoch} became current on server {sid} without {show_zxid(base)}")

    def _begun_alone(self, zxid: int) -> None:
        """Without an ensemble, what is on disk at the start is what was agreed upon; the rest never was."""
        lost = [each for each in self.committed if each > zxid]
        if lost:
            self._complain(f"it begins behind {show_zxid(zxid)}, and {show_zxid(lost[0])} was committed")
        for each in sorted(self.entries):
            if each > zxid:
                del self.entries[each]
                self._effects.pop(each, None)
            else:
                self.committed[each] = None

    def _ends(self, epoch: int) -> dict[int, int]:
        """Return the last zxid of each epoch in the history that a leader began with."""
        ends: dict[int, int] = {}
        while epoch in self.bases:
            base = self.bases[epoch]
            epoch = zxid_epoch(base)
            if epoch in ends:
                break
            ends[epoch] = base
        return ends

    def _prepared(self, server: MemoryMember, header: Any, entry: bytes) -> None:
        self._known(header.zxid, entry)
        if header.type == ops.CLOSE_SESSION:
            now = self._ensemble.world.now
            since = self.leaders.get(zxid_epoch(header.zxid), (0, 0.0))[1]
            self.closings.append(Closing(header.client_id, now, server.sid, header.cxid, since))

    def _start(self, epoch: int) -> int:
        """Return the zxid behind which an epoch's transactions begin."""
        initial = next(iter(self._ensemble.servers.values())).config.testingonly_initial_zxid
        return epoch << 32 | (initial or 0)

    def _known(self, zxid: int, entry: bytes) -> None:
        if self.entries.setdefault(zxid, entry) != entry:
            self._complain(f"two transactions are called {show_zxid(zxid)}")

    def _applied(self, server: MemoryMember, core: Any, zxid: int, entry: bytes, before: _State, last: int) -> None:
        after = _state(core)
        self._known(zxid, entry)
        same_epoch = zxid_epoch(last) == zxid_epoch(zxid)
        if zxid <= last or zxid != (last if same_epoch and last & _COUNTER else self._start(zxid_epoch(zxid))) + 1:
            self._complain(f"server {server.sid} applies {show_zxid(zxid)} behind {show_zxid(last)}")
        # An image that was taken while the leader went on has half of what comes, until all of that has come.
        fuzzy = core.role is None and core.digest_check.fuzzy
        if not fuzzy and self._effects.setdefault(zxid, (before, after)) != (before, after):
            self._complain(f"server {server.sid} applies {show_zxid(zxid)} to another state than others did")
        if core.role is not None and zxid not in self.committed:
            self.committed[zxid] = None
            epoch = zxid_epoch(zxid)
            self._tops[epoch] = max(self._tops.get(epoch, 0), zxid)
            self._check_durable(zxid, entry)

    def _check_durable(self, zxid: int, entry: bytes) -> None:
        """Committed is what a quorum has on disk."""
        ensemble = self._ensemble
        durable = [sid for sid, server in ensemble.servers.items() if _holds(server.disk.files, zxid, entry)]
        if not contains_quorum(ensemble, durable):
            self._complain(f"{show_zxid(zxid)} is committed, and only the disks of {durable} have it")

    # -- looking

    def check(self) -> None:
        """
        Look at all servers.

        @raise Violation: something is wrong.
        """
        for server in self._ensemble.servers.values() if self._enabled else ():
            self._check_epochs(server)
            if server.service is not None and server.failure is None:
                self._check_state(server)
        if self._wrong:
            raise Violation(self._wrong[0])
        if self._ensemble.network.errors:
            raise Violation(f"a protocol failed: {self._ensemble.network.errors[0].getTraceback()}")

    def _check_epochs(self, server: MemoryMember) -> None:
        files, sid = server.disk.files, server.sid
        accepted, current = files.get(_ACCEPTED, b""), files.get(_CURRENT, b"")
        before = self._epochs.get(sid, (b"", b""))
        if (accepted, current) == before:
            return
        self._epochs[sid] = accepted, current
        if int(accepted or 0) < int(before[0] or 0) or int(current or 0) < int(before[1] or 0):
            self._complain(f"the epochs of server {sid} have fallen from {before} to {(accepted, current)}")
        if current != before[1]:
            self._take_up(server, int(current or 0))
        if accepted and int(current or 0) > int(accepted):
            self._complain(f"the epoch {current!r} is current on server {sid}, where {accepted!r} is accepted")

    def _take_up(self, server: MemoryMember, epoch: int) -> None:
        files = server.disk.files
        if epoch not in self.bases:
            self._took_up[server.sid, epoch] = dict(files)
            return
        base = self.bases[epoch]
        if base in self.entries and _logs(server) and not _holds(files, base, self.entries[base]):
            self._complain(f"epoch {epoch} became current on server {server.sid} without {show_zxid(base)}")

    def _check_state(self, server: MemoryMember) -> None:
        core = server.core
        if core.role is None or core.role.name == "read-only":
            return
        zxid, digest = core.last_zxid, core.tree.digest
        if self._looked_at.get(server.sid) == (core, zxid, digest):
            return
        self._looked_at[server.sid] = core, zxid, digest
        state = _state(core)
        known = self._states.setdefault(zxid, state)
        if known != state:
            self._complain(f"server {server.sid} is at {show_zxid(zxid)} with {state}, where others had {known}")
        if core.metrics.digest_mismatches_count:
            self._complain(f"server {server.sid} has found a digest that is not its leader's")

    # -- afterwards

    def order(self) -> list[tuple[int, bytes]]:
        """
        Return what was committed, in the one order.

        @raise Violation: what a server applied while it served is not in it, or nobody knows what was in it.
        """
        last = max(self.leaders, default=None)
        if last is None:
            found = sorted(self.committed)
        else:
            ends = self._ends(last)
            ends[last] = self._tops.get(last, 0)
            found = [zxid for epoch in sorted(ends) for zxid in range(self._start(epoch) + 1, ends[epoch] + 1)]
        listed = set(found)
        for zxid in self.committed:
            if zxid not in listed:
                raise Violation(f"{show_zxid(zxid)} was committed and is not in the history of the last leader")
        for zxid in found:
            if zxid not in self.entries:
                raise Violation(f"nobody has ever made {show_zxid(zxid)}, which is in the history")
        return [(zxid, self.entries[zxid]) for zxid in found]


def _logs(server: MemoryMember) -> bool:
    """Say whether a server keeps a log: an observer need not."""
    return server.config.sync_enabled or not server.config.observer


def _of_disk(call: Any) -> bool:
    return isinstance(getattr(call.func, "__self__", None), MemoryDisk)


def _state(core: Any) -> _State:
    return _State(core.tree.digest, tuple(sorted(core.timeouts.items())))


def _holds(files: dict[str, bytes], zxid: int, entry: bytes) -> bool:
    """Say whether a disk has a transaction: in a log, or in a snapshot that is newer."""
    if any(newer >= zxid for newer, _ in snapshot_files(list(files))):
        return True
    return any(entry in data for name, data in files.items() if name.startswith("log."))


def contains_quorum(ensemble: MemoryEnsemble, sids: list[int]) -> bool:
    """Say whether these servers are a quorum of the ensemble: reckoned here anew, for a checker borrows nothing."""
    members = ensemble.members
    voters = [member.sid for member in members.voters]
    if not members.hierarchical:
        return 2 * sum(sid in sids for sid in voters) > len(voters)
    weights = dict(members.weights)
    groups = [group for _, group in members.groups if sum(weights.get(sid, 1) for sid in group)]
    won = [
        group
        for group in groups
        if 2 * sum(weights.get(sid, 1) for sid in group if sid in sids) > sum(weights.get(sid, 1) for sid in group)
    ]
    return 2 * len(won) > len(groups)
