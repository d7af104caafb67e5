"""
What the machines of this room want done, and the limits that they keep.

A machine is fed with values (packets, "this is durable now", the time) and holds back a list of effects until
C{take()} is called.  Whoever drives it performs them in order: nothing here can be done by a machine itself, for it
knows no clock, no connection, no disk and no tree.

Durability is the machine's own rule.  What must be on disk before something is promised comes as an effect with a
C{token}, and the promise follows only when C{persisted(token)} has been called: a driver cannot get that order wrong.

Rules: spec: quorum 5 to 8; the table of section 11.2 is kept by the machines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from zktwisted.wire.proto import Id

__all__ = [
    "ACCEPTED_EPOCH",
    "CURRENT_EPOCH",
    "Apply",
    "Broadcast",
    "Committed",
    "Drop",
    "Effect",
    "Exit",
    "Forwarded",
    "Lead",
    "Leave",
    "Limits",
    "LoadImage",
    "Log",
    "Note",
    "Pong",
    "ReadLog",
    "Revalidate",
    "Revalidated",
    "Send",
    "SendImage",
    "Serve",
    "Synced",
    "TakeSnapshot",
    "Touched",
    "Truncate",
    "WriteEpoch",
]

#: The files of the epochs, by name.
ACCEPTED_EPOCH = "acceptedEpoch"
CURRENT_EPOCH = "currentEpoch"


# -- of all machines


class Send(NamedTuple):
    """Write packets, encoded, to one learner; a learner writes to its leader on channel 0."""

    channel: int
    data: bytes


class Broadcast(NamedTuple):
    """Write the same packets, encoded, to several learners."""

    channels: tuple[int, ...]
    parts: list[bytes]


class Drop(NamedTuple):
    """Close the connection of a learner.  What was sent to it before may or may not arrive."""

    channel: int
    reason: str


class WriteEpoch(NamedTuple):
    """Replace an epoch file (temporary file, fsync, rename, fsync of the directory); then C{persisted(token)}."""

    token: int
    name: str
    epoch: int


class Log(NamedTuple):
    """
    Append transactions, (zxid, entry) each, to the log; C{persisted(token)} when all of them are durable.

    C{persisted} of the last of several covers those before it: logs are durable in order.
    """

    token: int
    entries: list[tuple[int, bytes]]


class Note(NamedTuple):
    """Something an operator should read, in one line; nothing follows from it."""

    text: str


class Leave(NamedTuple):
    """The role is over: back to the election.  No effect comes after it."""

    reason: str


class Exit(NamedTuple):
    """The process has to end with this status (spec: quorum 1.4).  No effect comes after it."""

    status: int
    reason: str


# -- of a leader


class ReadLog(NamedTuple):
    """
    Read the log on disk, to bring a learner up from there; answered by C{log_read(channel, records, now)}.

    The records begin at the start of the log file that holds C{zxid} (records before it are of use), and go on to the
    end.  C{None} if the first would be later than C{zxid}, or if the files from there have more than C{limit} bytes;
    0 is no limit.
    """

    channel: int
    zxid: int
    limit: int


class SendImage(NamedTuple):
    """
    Write SNAP with the zxid of the database as it is now, and behind it the image of the database as it is now.

    The image has the form of spec: quorum 6.5, signature included.  What is sent to the channel later comes behind it.
    """

    channel: int


class Lead(NamedTuple):
    """
    A quorum follows: begin to serve, with C{epoch << 32} as the last zxid.

    Performed before the effects that come after it.
    """

    epoch: int


class Committed(NamedTuple):
    """The next proposals are committed: apply them to the tree.  Comes in the order of the proposals."""

    zxids: list[int]


class Forwarded(NamedTuple):
    """A learner passes on a request; C{channel} owns the session from now on."""

    channel: int
    session_id: int
    cxid: int
    op: int
    body: bytes
    identities: tuple[Id, ...] | None


class Revalidate(NamedTuple):
    """
    A client moved to a learner: is its session (C{timeout} in ms) alive?

    Answered by C{revalidated(channel, session_id, valid, now)}, in the order of the questions.
    """

    channel: int
    session_id: int
    timeout: int


class Touched(NamedTuple):
    """A learner heard of these sessions, (id, timeout in ms) each."""

    channel: int
    sessions: list[tuple[int, int]]


# -- of a learner


class LoadImage(NamedTuple):
    """
    The bytes behind the packet that was just received are an image: replace the database by it.

    C{persisted(token)} when it is loaded, its signature seen, the last zxid set to C{zxid}; it need not be on disk.
    """

    token: int
    zxid: int


class Truncate(NamedTuple):
    """
    Forget everything after C{zxid}, in the log, in snapshots and in memory; C{persisted(token)} when that is done.

    If it cannot be done, C{failed(token, reason, now)}.
    """

    token: int
    zxid: int


class TakeSnapshot(NamedTuple):
    """Write the database as it is now to a snapshot; C{persisted(token)} when it is durable."""

    token: int


class Apply(NamedTuple):
    """
    Apply committed transactions, (zxid, entry) each, to the tree, now; answer those of our clients who asked for them.
    """

    entries: list[tuple[int, bytes]]


class Serve(NamedTuple):
    """We are up to date: clients may come.  Performed before the effects that come after it."""

    epoch: int


class Synced(NamedTuple):
    """The leader answers the oldest sync that was forwarded and is still waiting."""


class Revalidated(NamedTuple):
    """The leader says whether the session of a client that moved here is alive."""

    session_id: int
    valid: bool


class Pong(NamedTuple):
    """The leader asks for a sign of life; answered by C{pong(zxid, touched sessions, now)}."""

    zxid: int


Effect = (
    Send
    | Broadcast
    | Drop
    | WriteEpoch
    | Log
    | Note
    | Leave
    | Exit
    | ReadLog
    | SendImage
    | Lead
    | Committed
    | Forwarded
    | Revalidate
    | Touched
    | LoadImage
    | Truncate
    | TakeSnapshot
    | Apply
    | Serve
    | Synced
    | Revalidated
    | Pong
)


@dataclass(frozen=True, slots=True)
class Limits:
    """
    How long the machines wait, and how much they do at a time.

    @ivar tick: tickTime in seconds; the limits below are counted in it.
    @ivar init_limit: ticks for each step until a learner has acknowledged NEWLEADER.
    @ivar sync_limit: ticks of silence afterwards, and for the acknowledgement of a proposal.
    @ivar max_time_to_wait_for_epoch: seconds after which a leader that waits for its epoch gives up when one of its
        voters looks for a leader again; negative: never.
    @ivar max_concurrent_snap_syncs: images on their way at a time, before observers are sent away.
    @ivar max_concurrent_diff_syncs: other synchronizations at a time, likewise.
    @ivar snapshot_size_factor: how long the log that is sent instead of an image may be, as a part of the newest
        snapshot's size; 0: as long as it is, negative: never read the log.
    @ivar force_snapshot_sync: always send an image.
    @ivar observer_log: whether an observer logs what it hears (syncEnabled).
    @ivar observer_master_cache: how many bytes of the past an observer master keeps.
    """

    tick: float = 3.0
    init_limit: int = 10
    sync_limit: int = 5
    max_time_to_wait_for_epoch: float = -1.0
    max_concurrent_snap_syncs: int = 10
    max_concurrent_diff_syncs: int = 100
    snapshot_size_factor: float = 0.33
    force_snapshot_sync: bool = False
    observer_log: bool = True
    observer_master_cache: int = 32 * 1024 * 1024

    @property
    def init_seconds(self) -> float:
        """C{init_limit} in seconds."""
        return self.tick * self.init_limit

    @property
    def sync_seconds(self) -> float:
        """C{sync_limit} in seconds."""
        return self.tick * self.sync_limit
