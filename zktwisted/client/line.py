"""
The line in which requests stand: first those that wait to be sent, then those that wait for their answer.

It keeps the order, counts, and knows how many may be under way at a time; it refuses to know connections, sessions and
what a request means.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from zktwisted.client.answers import Decoder
from zktwisted.wire.frames import FRAME

__all__ = ["BacklogError", "Entry", "Line", "Note"]

Note = Callable[[int, bool], object]
"""
Called with the code of an answer, and whether somebody still wants it, before he gets it: that is when a watch is known
to be set, or to be gone.
"""

Entry = tuple[int, Deferred[Any], Decoder, str | None, Note | None]
"""xid, who waits, decoder of the answer, path for error messages, L{Note}."""

MakeError = Callable[[None, str | None], Exception]
"""A L{KeeperError<zktwisted.errors.KeeperError>} of one code: called with no other, and the path."""

_XID_MAX = 0x7FFFFFFF
_PIECE = 1024 * 1024
"""Bytes of requests that are put together for one write."""

_pack = FRAME.pack


def _idle() -> None:
    """Nobody is there to send."""


class BacklogError(Exception):
    """More requests wait than C{max_waiting} allows: none of them was sent, and this one was not taken."""


class Line:
    """
    Requests, oldest first.

    @ivar window: how many may be under way at a time.
    @ivar max_waiting: how many may wait to be sent.
    @ivar under_way: L{Entry}s of those that were sent.
    @ivar wake: called when something may have to be sent.
    @ivar max_frame: bytes that a request may have (C{jute.maxbuffer}).
    @ivar refusal: if not C{None}, no request is taken, and this makes the error, of a path.
    """

    __slots__ = ("_cancelled", "_entries", "_frames", "_on_cancel", "_rooms", "_xid", "max_frame", "max_waiting",
                 "refusal", "under_way", "wake", "window")  # fmt: skip

    def __init__(self, window: int, max_waiting: int, max_frame: int) -> None:
        self.window = window
        self.max_waiting = max_waiting
        self.max_frame = max_frame
        self.refusal: MakeError | None = None
        self.under_way: deque[Entry] = deque()
        self.wake: Callable[[], object] = _idle
        self._frames: list[bytes] = []
        self._entries: list[Entry] = []
        self._xid = 0
        self._cancelled = False
        self._on_cancel = self._cancel
        self._rooms: list[Deferred[None]] = []

    def __len__(self) -> int:
        return len(self._entries) + len(self.under_way)

    @property
    def waiting(self) -> bool:
        """Whether there is something to be sent."""
        return bool(self._frames)

    @property
    def oldest(self) -> int:
        """The number of the oldest request without an answer, or of the next that there will be."""
        entries = self.under_way or self._entries
        return entries[0][0] if entries else self._xid + 1

    @property
    def has_room(self) -> bool:
        """Whether another request would be sent at once."""
        return len(self._entries) + len(self.under_way) < self.window

    def add(
        self, op: int, body: bytes, decode: Decoder, path: str | None = None, note: Note | None = None
    ) -> Deferred[Any]:
        """
        Put a request at the end of the line.

        @param op: the operation.
        @param body: what follows the header.
        @param decode: makes a value of the answer.
        @param path: what it is about, for errors.
        @param note: see L{Note}.
        @return: fires with that value; cancelled, the request is not sent if it has not been, and its answer is
            nobody's if it has.
        """
        answer: Deferred[Any] = Deferred(self._on_cancel)
        if self._cancelled and len(self._entries) >= self.max_waiting:
            self._drop_cancelled()
        if self.refusal is not None or len(self._entries) >= self.max_waiting or len(body) + 8 > self.max_frame:
            answer.errback(self._refused(path, len(body) + 8))
            return answer
        xid = self._xid = self._xid + 1 if self._xid < _XID_MAX else 1
        self._frames.append(_pack(len(body) + 8, xid, op) + body)
        self._entries.append((xid, answer, decode, path, note))
        self.wake()
        return answer

    def _refused(self, path: str | None, size: int) -> Exception:
        if self.refusal is not None:
            return self.refusal(None, path)
        if size > self.max_frame:
            return ValueError(f"a request of {size} bytes; servers take {self.max_frame} (jute.maxbuffer)")
        return BacklogError(f"{self.max_waiting} requests wait to be sent")

    def _cancel(self, answer: Deferred[Any]) -> None:
        self._cancelled = True

    def take(self) -> bytes:
        """Return what is to be sent now, as far as there is room for it; it counts as under way."""
        if self._cancelled:
            self._drop_cancelled()
        frames, entries = self._frames, self._entries
        count = len(frames)
        room = self.window - len(self.under_way)
        if count <= room:
            data = b"".join(frames)
            if len(data) <= _PIECE:
                self.under_way.extend(entries)
                frames.clear()
                entries.clear()
                return data
        size = count = 0
        for frame in frames[: max(room, 0)]:
            if size and size + len(frame) > _PIECE:
                break
            size += len(frame)
            count += 1
        data = b"".join(frames[:count])
        self.under_way.extend(entries[:count])
        del frames[:count], entries[:count]
        return data

    def _drop_cancelled(self) -> None:
        """Forget who was cancelled before it was sent."""
        self._cancelled = False
        kept = [pair for pair in zip(self._frames, self._entries, strict=True) if not pair[1][1].called]
        self._frames[:] = [frame for frame, _ in kept]
        self._entries[:] = [entry for _, entry in kept]

    def all(self) -> list[Entry]:
        """Return everything that is in the line now."""
        return [*self.under_way, *self._entries]

    def fail(self, error: MakeError, lost: list[Entry] | None = None) -> None:
        """
        Let those who are in the line know that no answer will come.

        @param error: makes the error, of a code and the path that the request was about.
        @param lost: whom: what L{all} gave before others came, everybody by default.
        """
        if lost is None:
            lost = self.all()
        gone = {entry[0] for entry in lost}
        self.under_way.clear()
        kept = [pair for pair in zip(self._frames, self._entries, strict=True) if pair[1][0] not in gone]
        self._frames[:] = [frame for frame, _ in kept]
        self._entries[:] = [entry for _, entry in kept]
        for _xid, answer, _decode, path, _note in lost:
            if not answer.called:
                answer.errback(error(None, path))
        self.moved()

    def room(self) -> Deferred[None]:
        """Return what fires when another request would be sent at once, as far as the line is concerned."""
        room: Deferred[None] = Deferred()
        if self.has_room:
            room.callback(None)
        else:
            self._rooms.append(room)
        return room

    def moved(self) -> None:
        """The line has become shorter: call who waits for room."""
        if self._rooms and self.has_room:
            rooms, self._rooms = self._rooms, []
            while rooms and self.has_room:
                room = rooms.pop(0)
                if not room.called:
                    room.callback(None)
            self._rooms[:0] = rooms
