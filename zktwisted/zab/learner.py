"""
The learner: a follower or an observer, from its first packet to the broadcast (spec: quorum 5.2, 7, 8.3, 10.1).

The machine holds the order that keeps histories whole, which other orders have broken before: nothing is acknowledged
that is not on disk, and currentEpoch is raised only after the history of that epoch is there
(ZOOKEEPER-3911, -4394, -4643, -4646, -4685, -4785).

While it waits for the disk it takes packets and does nothing with them; so each step of a synchronization is over
before the next begins.

It knows no tree: transactions are bytes with a zxid, and only their header is looked at.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from struct import Struct
from typing import Any

from zktwisted.config.ensemble import Ensemble
from zktwisted.errors import ProtocolError
from zktwisted.wire import ops, quorum, txns
from zktwisted.wire.ops import make_zxid, show_zxid, zxid_counter, zxid_epoch
from zktwisted.wire.proto import Id
from zktwisted.wire.quorum import QuorumPacket, pack_bare, pack_packet
from zktwisted.zab.effects import (
    ACCEPTED_EPOCH,
    CURRENT_EPOCH,
    Apply,
    Limits,
    LoadImage,
    Log,
    Pong,
    Revalidated,
    Send,
    Serve,
    Synced,
    TakeSnapshot,
    Truncate,
    WriteEpoch,
)
from zktwisted.zab.machine import Machine

__all__ = ["Learner"]

#: The channel to the leader.
LEADER = 0
#: Sessions in one PING: with 12 bytes each, half of what jute.maxbuffer allows by default.
SESSIONS_MAX = 40_000
#: Exit codes (spec: quorum 1.4).
EXIT_DISK = 10
EXIT_COMMIT = 12
EXIT_SYNC = 13

_zxid_and_type = Struct(">q8xi").unpack_from
_HEADER = txns.HEADER_SIZE
_TYPES = frozenset(txns.BODIES) - {ops.CHECK}
_pack_bare = Struct(">iqii").pack
_COUNTER = 0xFFFFFFFF


class Learner(Machine):
    """
    One connection to a leader, for as long as it lasts.

    @ivar epoch: the leader's, once known; else -1.
    @ivar serving: whether the leader said that we are up to date.
    @ivar loading: whether the bytes that come now are an image, and no packets.
    @ivar discard: whether the database in memory holds what no disk of ours does: if the role ends now, it has to be
        thrown away and read from the disk again (ZOOKEEPER-3642).
    """

    def __init__(
        self,
        sid: int,
        ensemble: Ensemble,
        accepted_epoch: int,
        current_epoch: int,
        last_zxid: int,
        observer: bool,
        limits: Limits,
        now: float,
        config_version: int = 0,
        *,
        snapshot_missing: bool = False,
    ) -> None:
        """
        @param sid: who we are.
        @param ensemble: the servers, as our configuration has them.
        @param accepted_epoch: as on disk, like C{current_epoch}.
        @param last_zxid: of the last transaction in our log.
        @param observer: whether we have no vote.
        @param config_version: of the configuration that we would tell.
        @param snapshot_missing: there are logs and no snapshot at all: take one at the first occasion.
        """
        super().__init__()
        self.sid = sid
        self.ensemble = ensemble
        self.observer = observer
        self.epoch = -1
        self.serving = False
        self.loading = False
        self.discard = False
        self._accepted_epoch = accepted_epoch
        self._current_epoch = current_epoch
        self._last_zxid = last_zxid
        self._limits = limits
        self._heard = now
        self._silence = limits.init_seconds
        self._logs = limits.observer_log or not observer
        # What is being waited for, what follows, and what came meanwhile.
        self._awaited: int | None = None
        self._step: Callable[[], None] = self._nothing
        self._waiting: deque[QuorumPacket] = deque()
        self._phase: Callable[[QuorumPacket], None] = self._discover
        # Synchronization (spec: quorum 7.2).
        self._snapshot_needed = snapshot_missing
        self._to_log = False
        self._old_leader = False
        self._acknowledged = False
        self._image_zxid: int | None = None
        self._last_queued = 0
        self._not_logged: deque[tuple[int, bytes]] = deque()
        self._committed: deque[int] = deque()
        # Broadcast: logged and not committed; logged and not durable, as (token, what acknowledges it).
        self._pending: deque[tuple[int, bytes]] = deque()
        self._logging: deque[tuple[int, bytes]] = deque()
        kind = quorum.OBSERVERINFO if observer else quorum.FOLLOWERINFO
        info = quorum.LearnerInfo(sid, quorum.PROTOCOL_VERSION, config_version)
        self._send(pack_packet(kind, make_zxid(accepted_epoch, 0), quorum.pack_learner_info(info)))

    # -- what others may ask

    @property
    def pending(self) -> list[tuple[int, bytes]]:
        """What went to the log and is not committed, as (zxid, entry): part of our history if the role ends."""
        return list(self._pending)

    @property
    def received_zxid(self) -> int:
        """The last transaction that the leader has told us of, committed or not; 0 before the first."""
        return self._last_queued

    @property
    def busy(self) -> bool:
        """Whether packets are only put aside, because the disk has to finish something first."""
        return self._awaited is not None

    def deadline(self) -> float | None:
        """Return when L{tick} has to be called, if ever."""
        if self.ended or (self._awaited is not None and not self.loading):
            return None
        return self._heard + self._silence

    # -- inputs

    def receive(self, packet: QuorumPacket, now: float) -> None:
        """Take one packet of the leader's."""
        if self.ended:
            return
        self._heard = now
        if self._awaited is not None:
            self._waiting.append(packet)
            return
        try:
            self._phase(packet)
        except ProtocolError as e:
            self._refuse(e)

    def receive_all(self, packets: Sequence[QuorumPacket], now: float) -> None:
        """Take several packets of the leader's, in their order; in the broadcast as few steps as they allow."""
        if not self.serving or self.ended:
            for packet in packets:
                self.receive(packet, now)
            return
        self._heard = now
        try:
            self._broadcast(packets)
        except ProtocolError as e:
            self._refuse(e)

    def persisted(self, token: int, now: float) -> None:
        """Hear that what an effect with this token asked for is done and durable."""
        if self.ended:
            return
        if self._logging:
            self._logged(token)
        if token != self._awaited:
            return
        self._awaited = None
        self._heard = now
        step, self._step = self._step, self._nothing
        try:
            step()
        except ProtocolError as e:
            self._refuse(e)
        while self._waiting and not self.busy and not self.ended:
            self.receive(self._waiting.popleft(), now)

    def failed(self, token: int, reason: str, now: float) -> None:
        """Hear that it cannot be done."""
        if self.ended:
            return
        if token == self._awaited and self._step == self._truncated:
            self._exit(EXIT_SYNC, f"cannot truncate the history: {reason}")
        elif token == self._awaited and self._step in (self._loaded, self._promise, self._epoch_written):
            self._leave(reason)
        else:
            self._exit(EXIT_DISK, reason)

    def progress(self, now: float) -> None:
        """Hear that bytes of an image have come."""
        self._heard = now

    def tick(self, now: float) -> None:
        """Look whether the leader has been silent for too long."""
        deadline = self.deadline()
        if deadline is not None and now >= deadline:
            self._leave(f"no word from the leader for {self._silence:g} s")

    def disconnected(self, reason: str, now: float) -> None:
        """Hear that the connection to the leader is lost."""
        self._leave(reason)

    def request(
        self, session_id: int, cxid: int, op: int, body: bytes, identities: Iterable[Id] | None, now: float
    ) -> None:
        """Pass a client's request on to the leader; its answer is the transaction, or L{Synced}."""
        self._send(quorum.pack_forwarded(session_id, cxid, op, body, identities))

    def revalidate(self, session_id: int, timeout: int, now: float) -> None:
        """Ask whether a session (C{timeout} in ms) is alive; the answer is L{Revalidated}."""
        self._send(pack_packet(quorum.REVALIDATE, -1, quorum.pack_session(session_id, timeout)))

    def pong(self, zxid: int, sessions: Iterable[tuple[int, int]], now: float) -> None:
        """
        Answer a L{Pong} with the sessions that were heard of since the last one, (id, timeout in ms) each.

        Of very many the answer is several packets: a leader takes each, and none that is larger than jute.maxbuffer.
        """
        told = list(sessions)
        for first in range(0, max(1, len(told)), SESSIONS_MAX):
            data = quorum.pack_sessions(told[first : first + SESSIONS_MAX])
            self._send(pack_packet(quorum.PING, zxid, data))

    # -- discovery (spec: quorum 5.2)

    def _discover(self, packet: QuorumPacket) -> None:
        epoch = zxid_epoch(packet.zxid)
        if packet.zxid < 0:
            self._leave(f"{packet!r} is of an epoch that cannot be")
            return
        if packet.type == quorum.NEWLEADER:
            # A leader of before 3.4 begins so, and knows no promises.
            self._old_leader = True
        elif packet.type == quorum.LEADERINFO:
            quorum.read_int(packet.data)
        else:
            self._leave(f"{packet!r} instead of LEADERINFO")
            return
        if epoch < self._accepted_epoch:
            self._leave(f"the leader is of epoch {epoch}, and {self._accepted_epoch} was promised to another")
            return
        self.epoch = epoch
        if epoch > self._accepted_epoch:
            self._await(self._promise)
            self._effects.append(WriteEpoch(self._token, ACCEPTED_EPOCH, epoch))
        else:
            # What was promised before must not count twice.
            self._answer(-1)

    def _promise(self) -> None:
        self._accepted_epoch = self.epoch
        self._answer(self._current_epoch)

    def _answer(self, epoch: int) -> None:
        if not self._old_leader:
            self._send(pack_packet(quorum.ACKEPOCH, self._last_zxid, quorum.pack_int(epoch)))
        self._phase = self._begin

    # -- synchronization (spec: quorum 7.1, 7.2)

    def _begin(self, packet: QuorumPacket) -> None:
        kind, zxid = packet.type, packet.zxid
        if kind == quorum.DIFF:
            self._to_log = not self._snapshot_needed
            self.discard = self._snapshot_needed
        elif kind == quorum.SNAP:
            self.discard = self.loading = self._snapshot_needed = True
            self._image_zxid = zxid
            self._await(self._loaded)
            self._effects.append(LoadImage(self._token, zxid))
        elif kind == quorum.TRUNC:
            self.discard = self._snapshot_needed = True
            self._await(self._truncated)
            self._effects.append(Truncate(self._token, zxid))
        else:
            self._exit(EXIT_SYNC, f"{packet!r} instead of DIFF, TRUNC or SNAP")
            return
        self._phase = self._synchronize

    def _loaded(self) -> None:
        self.loading = False

    def _truncated(self) -> None:
        """What was too much is gone."""

    def _synchronize(self, packet: QuorumPacket) -> None:
        kind, zxid, data, _ = packet
        if kind == quorum.PROPOSAL:
            self._not_logged.append((zxid, self._checked(zxid, data)))
        elif kind in (quorum.COMMIT, quorum.COMMITANDACTIVATE):
            self._commit_in_sync(zxid)
        elif kind in (quorum.INFORM, quorum.INFORMANDACTIVATE):
            if kind == quorum.INFORMANDACTIVATE:
                data = quorum.read_designated(data)[1]
            self._not_logged.append((zxid, self._checked(zxid, data)))
            self._commit_in_sync(zxid)
        elif kind == quorum.NEWLEADER:
            self._new_leader(zxid)
        elif kind == quorum.UPTODATE:
            self._up_to_date()
        # PING and whatever else is not for us yet.

    def _checked(self, zxid: int, data: bytes | None) -> bytes:
        """
        Return the transaction, having seen that it is one and the next.

        A hole would become part of our history (ZOOKEEPER-4925).
        """
        if data is None or len(data) < _HEADER:
            raise ProtocolError(f"transaction {show_zxid(zxid)} without a header")
        own, kind = _zxid_and_type(data, 12)
        if own != zxid or kind not in _TYPES:
            raise ProtocolError(f"transaction {show_zxid(zxid)} is {show_zxid(own)} inside, of type {kind}")
        last = self._last_queued
        if zxid != last + 1 and last != 0:
            if zxid_epoch(zxid) <= zxid_epoch(last):
                raise ProtocolError(f"transaction {show_zxid(zxid)} comes after {show_zxid(last)}")
            if zxid_counter(zxid) != 1:
                self._note(f"the history goes on with {show_zxid(zxid)} after {show_zxid(last)}")
        self._last_queued = zxid
        return data

    def _commit_in_sync(self, zxid: int) -> None:
        if self._to_log:
            if not self._not_logged:
                raise ProtocolError(f"COMMIT {show_zxid(zxid)} without any proposal")
            self._committed.append(zxid)
            return
        entry = self._take_proposal(zxid)
        if self._image_zxid is None or zxid > self._image_zxid:
            self._effects.append(Apply([(zxid, entry)]))

    def _take_proposal(self, zxid: int) -> bytes:
        """Take the oldest proposal of the synchronization, which is to have this zxid."""
        if not self._not_logged or self._not_logged[0][0] != zxid:
            # Java goes on without this one.  It has been committed, so no history without it is any good.
            raise ProtocolError(f"COMMIT {show_zxid(zxid)}, and another proposal is next")
        return self._not_logged.popleft()[1]

    # -- NEWLEADER, in the only safe order (spec: quorum 7.3)

    def _new_leader(self, zxid: int) -> None:
        if zxid != make_zxid(self.epoch, 0) or self._acknowledged:
            raise ProtocolError(f"NEWLEADER {show_zxid(zxid)} in epoch {self.epoch}")
        if self._snapshot_needed:
            # The log has a gap where the image is: an old snapshot with a new log must never be found together.
            self._await(self._log_history)
            self._effects.append(TakeSnapshot(self._token))
        else:
            self._log_history()

    def _log_history(self) -> None:
        self.discard = self._snapshot_needed = False
        self._to_log = True
        if not self._committed or not self._logs:
            self._apply_history()
            self._write_epoch()
            return
        self._await(self._write_epoch, at=self._apply_history())

    def _apply_history(self) -> int:
        """Log and apply what is known to be committed, and nothing else; return the last token."""
        token = self._token
        for zxid in self._committed:
            entry = self._take_proposal(zxid)
            if self._logs:
                token = self._next_token()
                self._effects.append(Log(token, [(zxid, entry)]))
            self._effects.append(Apply([(zxid, entry)]))
        self._committed.clear()
        return token

    def _write_epoch(self) -> None:
        self._await(self._epoch_written)
        self._effects.append(WriteEpoch(self._token, CURRENT_EPOCH, self.epoch))

    def _epoch_written(self) -> None:
        self._current_epoch = self.epoch
        if self._old_leader:
            self._serve()
            return
        self._acknowledged = True
        self._silence = self._limits.sync_seconds
        self._acknowledge_epoch()

    def _acknowledge_epoch(self) -> None:
        self._send(pack_bare(quorum.ACK, make_zxid(self.epoch, 0)))

    # -- UPTODATE (spec: quorum 7.4)

    def _up_to_date(self) -> None:
        if self._acknowledged:
            self._serve()
        elif self._old_leader:
            self._await(self._log_history)
            self._effects.append(TakeSnapshot(self._token))
        else:
            raise ProtocolError("UPTODATE before NEWLEADER")

    def _serve(self) -> None:
        self.serving = True
        self._silence = self._limits.sync_seconds
        self._effects.append(Serve(self.epoch))
        self._acknowledge_epoch()
        self._phase = self._take_part
        left, committed = self._not_logged, self._committed
        self._not_logged, self._committed = deque(), deque()
        if self.observer:
            for (zxid, entry), known in zip(left, committed, strict=False):
                if zxid != known:
                    raise ProtocolError(f"COMMIT {show_zxid(known)}, and {show_zxid(zxid)} is next")
                self._inform([(zxid, entry)])
            return
        for each in left:
            self._accept([each])
        for zxid in committed:
            self._commit([zxid])

    # -- broadcast (spec: quorum 8.3, 10.1)

    def _take_part(self, packet: QuorumPacket) -> None:
        self._broadcast((packet,))

    def _broadcast(self, packets: Sequence[QuorumPacket]) -> None:
        """Take packets of the broadcast; proposals that follow one another are one step, and so are commits."""
        observer, checked = self.observer, self._checked
        accept: Callable[[list[Any]], None] = self._inform if observer else self._accept
        commit, converse = self._commit, self._converse
        proposed = quorum.INFORM if observer else quorum.PROPOSAL
        step = accept
        run: list[Any] = []
        try:
            for packet in packets:
                kind, zxid, data, _ = packet
                if kind == proposed or (observer and kind == quorum.INFORMANDACTIVATE):
                    then = accept
                elif not observer and (kind == quorum.COMMIT or kind == quorum.COMMITANDACTIVATE):
                    then = commit
                else:
                    then = converse
                if then is not step:
                    whole, run = run, []
                    if whole:
                        step(whole)
                    if self.ended:
                        return
                    step = then
                if then is accept:
                    if kind == quorum.INFORMANDACTIVATE:
                        data = quorum.read_designated(data)[1]
                    run.append((zxid, checked(zxid, data)))
                else:
                    run.append(zxid if then is commit else packet)
        finally:
            if run:
                step(run)

    def _converse(self, packets: list[QuorumPacket]) -> None:
        for packet in packets:
            kind = packet.type
            if kind == quorum.PING:
                self._effects.append(Pong(packet.zxid))
            elif kind == quorum.SYNC:
                self._effects.append(Synced())
            elif kind == quorum.REVALIDATE:
                self._effects.append(Revalidated(*quorum.read_validity(packet.data)))
            else:
                self._note(f"the leader sent {packet!r}, which is not for us")

    def _accept(self, entries: list[tuple[int, bytes]]) -> None:
        """Log proposals; their acknowledgement waits for the disk."""
        self._token = token = self._token + 1
        self._logging.append((token, b"".join([_pack_bare(3, zxid, -1, -1) for zxid, _ in entries])))
        self._pending.extend([each for each in entries if each[0] & _COUNTER])
        self._effects.append(Log(token, entries))

    def _logged(self, token: int) -> None:
        """Acknowledge what is durable."""
        logging = self._logging
        acks = []
        while logging and logging[0][0] <= token:
            acks.append(logging.popleft()[1])
        if acks:
            self._send(b"".join(acks))

    def _commit(self, zxids: list[int]) -> None:
        """Apply proposals in the order in which they came; any other order is nobody's history."""
        pending = self._pending
        entries: list[tuple[int, bytes]] = []
        for zxid in zxids:
            if not pending or pending[0][0] != zxid:
                break
            entries.append(pending.popleft())
        if entries:
            self._effects.append(Apply(entries))
        for zxid in zxids[len(entries) :]:
            if pending:
                self._exit(EXIT_COMMIT, f"COMMIT {show_zxid(zxid)}, and {show_zxid(pending[0][0])} is next")
                break
            self._note(f"COMMIT {show_zxid(zxid)} without any proposal")

    def _inform(self, entries: list[tuple[int, bytes]]) -> None:
        """Apply what the quorum has on its disks; ours may follow later."""
        if self._logs:
            self._effects.append(Log(self._next_token(), entries))
        self._effects.append(Apply(entries))

    # -- helpers

    def _refuse(self, error: ProtocolError) -> None:
        self._leave(f"the leader sent what makes no sense: {error}")

    def _send(self, data: bytes) -> None:
        if not self.ended:
            self._effects.append(Send(LEADER, data))

    def _await(self, step: Callable[[], None], at: int | None = None) -> None:
        """Do nothing until the disk has done what the token C{at}, or else a new one, stands for; then C{step}."""
        self._awaited = self._next_token() if at is None else at
        self._step = step

    def _nothing(self) -> None:
        """Nothing follows."""
