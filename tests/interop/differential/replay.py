"""Replays a recorded conversation against a running server and says where the answers differ.

The frames that the recorded client sent are sent again, in the order of the recording, with the session ids,
passwords and zxids of this run in the place of the recorded ones. A recorded reply is waited for before the next frame
is sent, so nothing depends on time but what the recording itself waited for (an expiry).
"""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.interop.process import PATIENCE
from tests.interop.rawclient import PING, Closed, RawConnection, Silent

from . import records
from .compare import Comparison, Growing
from .words import normal_answer

UNIMPLEMENTED = -6
SESSION_GONE = (-112, -12)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a recording; iterating lines, since U+2028 and the like occur in them."""
    if path.suffix == ".gz":
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


class Difference:
    """One place where the answer is not the recorded one."""

    def __init__(self, mark: str, request: str, text: str) -> None:
        self.mark = mark
        self.request = request
        self.text = text

    def __str__(self) -> str:
        return f"[{self.mark}] {self.text}\n      after {self.request}"


class Link:
    """A recorded connection and the real one that stands for it."""

    def __init__(self, port: int, number: int) -> None:
        self.number = number
        self.connection = RawConnection(port)
        self.pending: list[tuple[int, int]] = []
        self.early: list[bytes] = []
        self.greeted = False
        self.raw = bytearray()
        self.sent_raw = b""
        self.session = 0
        self.over = False
        self.spared = False


class Replay:
    """One recording against one server, which must be fresh.

    *port* is the server's. *safe* says that the server does not share the upstream defects that this project
    refuses to copy; each of them is treated where it occurs, by name:

    * deleteContainer (20) from a client deletes any childless node without an ACL check: refused, so the recorded
      request is sent as the delete that it amounts to;
    * createSession (-10) from a client makes a second ConnectResponse: refused, so its connection is left out;
    * a reconnect with a wrong password closes the rightful connection: it must live on;
    * the word stmk without its mask makes it close the connection: ours waits for the mask, so the client leaves.
    """

    def __init__(self, rows: list[dict[str, Any]], port: int, safe: bool = True) -> None:
        self.rows = rows
        self.port = port
        self.safe = safe
        self.zxids = Growing()
        self.comparison = Comparison(self.zxids)
        self.passwords: dict[int, tuple[bytes, bytes]] = {}
        self.links: dict[int, Link] = {}
        self.holders: dict[int, Link] = {}
        self.differences: list[Difference] = []
        self.compared = 0
        self.mark = "start"
        self.request = "nothing"
        self._late = {row["conn"]: bytes.fromhex(row["raw"]) for row in rows if "raw" in row and row.get("t") is None}

    def run(self) -> list[Difference]:
        """Play the whole recording and return the differences."""
        try:
            for row, following in zip(self.rows, [*self.rows[1:], {}], strict=True):
                self._play(row)
                if following.get("conn") != row.get("conn") and row.get("dir") == "c2s":
                    self._settle(self.links[row["conn"]])
        finally:
            for link in self.links.values():
                link.connection.close()
        return self.differences

    def _differs(self, text: str) -> None:
        self.differences.append(Difference(self.mark, self.request, text))

    def _play(self, row: dict[str, Any]) -> None:
        if "mark" in row:
            self.mark = row["mark"]
        elif "event" in row:
            self._event(row)
        elif "conn" in row and row.get("t") is not None:
            link = self.links[row["conn"]]
            if link.over:
                return
            if row["dir"] == "c2s":
                self._client_sent(link, row)
            elif "raw" in row:
                link.raw += bytes.fromhex(row["raw"])
            else:
                self._server_sent(link, bytes.fromhex(row["frame"]))

    # -- connections

    def _event(self, row: dict[str, Any]) -> None:
        number = row["conn"]
        if row["event"] == "connect":
            self.links[number] = Link(self.port, number)
            return
        link = self.links[number]
        if link.over:
            return
        if number in self._late:
            link.connection.send_raw(self._late.pop(number))
        if row["by"] == "client":
            self._no_more(link)
            self._finish(link)
        elif link.spared:
            self._still_open(link)
        elif self.safe and link.sent_raw == b"stmk":
            self._finish(link)
        else:
            self._server_closed(link)

    def _finish(self, link: Link) -> None:
        link.over = True
        link.connection.close()

    def _no_more(self, link: Link) -> None:
        """Look for frames that the recording does not have, where the client left with nothing unanswered."""
        try:
            while not link.pending:
                frame = link.connection.receive(0.0)
                self._differs(f"a frame that was not recorded: {frame.hex()}")
        except (Closed, Silent):
            pass

    def _server_closed(self, link: Link) -> None:
        try:
            if link.sent_raw:
                answer = link.connection.receive_raw(PATIENCE)
                theirs, ours = (normal_answer(link.sent_raw, bytes(text)) for text in (link.raw, answer))
                self.compared += 1
                if theirs != ours:
                    self._differs(f"the answer to {link.sent_raw!r}:\n{theirs}\n--- ours:\n{ours}")
            else:
                for frame in link.connection.wait_closed(PATIENCE):
                    # What was pipelined behind a closeSession gets no answer, or one of these; and a greeting may come
                    # just before another connection takes the session away, or not.
                    if link.greeted and (len(frame) != 16 or records.header(frame)[2] not in SESSION_GONE):
                        self._differs(f"a frame that was not recorded: {frame.hex()}")
        except Silent:
            self._differs("the recorded server closed the connection, ours did not")
        self._finish(link)

    def _still_open(self, link: Link) -> None:
        """The recorded server closed a rightful connection for a stranger's wrong password; ours answers on it."""
        link.spared = False
        link.over = True
        link.connection.send(PING)
        try:
            link.connection.receive()
        except (Closed, Silent) as error:
            self._differs(f"a wrong password from elsewhere ended the rightful connection: {error!r}")

    # -- frames out

    def _client_sent(self, link: Link, row: dict[str, Any]) -> None:
        self.request = f"{row.get('note')} {json.dumps(row.get('decoded'))} {row.get('frame', row.get('raw'))}"
        if "raw" in row:
            link.sent_raw += bytes.fromhex(row["raw"])
            link.connection.send_raw(bytes.fromhex(row["raw"]))
            return
        frame = bytes.fromhex(row["frame"])
        if not link.greeted and not link.pending:
            link.pending.append((0, 0))
            link.connection.send(self._connect_request(link, frame))
            return
        if len(frame) < 8:
            link.connection.send(frame)
            return
        xid, opcode = struct.unpack_from(">ii", frame)
        if self.safe and opcode == records.CREATE_SESSION:
            self._finish(link)
            return
        if self.safe and opcode == records.DELETE_CONTAINER:
            frame = struct.pack(">ii", xid, records.DELETE) + frame[8:] + b"\xff\xff\xff\xff"
        if opcode in (records.SET_WATCHES, records.SET_WATCHES2) and len(frame) >= 16:
            relative = int.from_bytes(frame[8:16], "big", signed=True)
            frame = frame[:8] + struct.pack(">q", self.zxids.ours(relative)) + frame[16:]
        link.pending.append((records.PING if opcode == records.PING_OP else xid, opcode))
        link.connection.send(frame)

    def _connect_request(self, link: Link, frame: bytes) -> bytes:
        if len(frame) < 28:
            return frame
        version, seen, timeout, session = struct.unpack_from(">iqiq", frame)
        tail = frame[24:]
        if session in self.passwords:
            recorded, actual = self.passwords[session]
            given = frame[28:44]
            if given == recorded:
                tail = tail[:4] + actual + tail[20:]
            elif self.safe and session in self.holders:
                self.holders[session].spared = True
            link.session = session
        mapped = self.comparison.sessions.get(session, session)
        return struct.pack(">iqiq", version, self.zxids.ours(seen), timeout, mapped) + tail

    # -- frames in

    def _server_sent(self, link: Link, recorded: bytes) -> None:
        self.compared += 1
        if not link.greeted:
            self._greeting(link, recorded)
            return
        try:
            xid = records.header(recorded)[0]
        except records.Malformed:
            xid = 0
        actual = self._receive(link, xid)
        if actual is None:
            return
        if link.pending and link.pending[0][1] == records.CREATE_SESSION:
            xid = link.pending[0][0]
        opcode = self._answered(link, xid)
        if xid == records.NOTIFICATION:
            theirs, ours = records.decode_notification(recorded), records.decode_notification(actual)
        elif opcode == records.CREATE_SESSION:
            theirs, ours = (records.decode_connect_response(frame) for frame in (recorded, actual))
        else:
            theirs, ours = records.decode_reply(opcode, recorded), records.decode_reply(opcode, actual)
        for text in self.comparison.differences(theirs, ours, records.OP_NAMES.get(opcode or 0, "event")):
            self._differs(f"{text}\n      theirs {recorded.hex()}\n      ours   {actual.hex()}")
        if theirs.get("err") == UNIMPLEMENTED and theirs.get("zxid") == -1:
            # The server closes now; whether it answers what was pipelined behind is a race.
            self._server_ends(link)

    def _server_ends(self, link: Link) -> None:
        try:
            link.connection.wait_closed()
        except Silent:
            self._differs("the connection stays open after an opcode that does not exist")
        self._finish(link)

    def _greeting(self, link: Link, recorded: bytes) -> None:
        link.greeted = True
        link.pending.clear()
        actual = link.early.pop() if link.early else self._next(link)
        if actual is None:
            return
        theirs, ours = (records.decode_connect_response(frame) for frame in (recorded, actual))
        if theirs["sessionId"] and ours["sessionId"]:
            self.comparison.pair_sessions(theirs["sessionId"], ours["sessionId"])
            self.passwords[theirs["sessionId"]] = (theirs["passwd"], ours["passwd"])
            self.holders[theirs["sessionId"]] = link
        for text in self.comparison.differences(theirs, ours, "connect"):
            self._differs(f"{text}\n      theirs {recorded.hex()}\n      ours   {actual.hex()}")

    def _settle(self, link: Link) -> None:
        """Let the server finish with a ConnectRequest before another connection says something.

        Two connections that take one session from each other would race otherwise, as the recorded ones did.
        """
        if not link.greeted and not link.early and not link.sent_raw and not link.over:
            try:
                link.early.append(link.connection.receive())
            except (Closed, Silent):
                pass

    def _next(self, link: Link) -> bytes | None:
        try:
            return link.connection.receive()
        except Closed:
            self._differs("the connection was closed, the recorded server answered")
        except Silent:
            self._differs("no answer, the recorded server answered")
        return None

    def _frames(self, link: Link) -> Iterator[bytes | None]:
        yield from list(link.early)
        while True:
            yield self._next(link)

    def _receive(self, link: Link, xid: int) -> bytes | None:
        """Return the frame that stands for a recorded one with this xid.

        Replies to auth packets may overtake others and be overtaken. A notification too many or too few is reported,
        and the rest of the recording is compared all the same.
        """
        for frame in self._frames(link):
            if frame is None:
                return None
            if frame in link.early:
                link.early.remove(frame)
            try:
                actual = records.header(frame)[0]
            except records.Malformed:
                return frame
            if actual == xid:
                return frame
            if actual == records.NOTIFICATION:
                self._differs(f"a notification that was not recorded: {records.decode_notification(frame)}")
            elif xid == records.NOTIFICATION:
                link.early.append(frame)
                self._differs("a recorded notification is missing")
                return None
            elif records.AUTH in (actual, xid) and len(link.early) < 8:
                held = [frame, *link.early]
                link.early = []
                found = self._receive(link, xid)
                link.early = held + link.early
                return found
            else:
                return frame
        return None

    def _answered(self, link: Link, xid: int) -> int | None:
        for index, (sent, opcode) in enumerate(link.pending):
            if sent == xid:
                del link.pending[index]
                return opcode
        return None
