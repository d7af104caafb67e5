"""
How values look: stats, ACLs, events, tables, hexadecimal dumps, sizes and ages; and how people write some of them.

Text in, text out.  What ZooKeeper's own shell shows looks the same here, so that scripts which read it go on working.
"""

from __future__ import annotations

import re
import time
import unicodedata
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from zktwisted.client import ACL, EventType, Id, Stat, WatchedEvent
from zktwisted.zkt.status import Problem, Status

__all__ = [
    "acl_text",
    "data_json",
    "data_text",
    "event_text",
    "hex_dump",
    "parse_acl",
    "parse_age",
    "parse_entry",
    "parse_size",
    "perms_text",
    "plain",
    "show_size",
    "show_time",
    "stat_json",
    "stat_text",
    "table",
]

_LETTERS = "cdrwa"
_BITS = {"c": 4, "d": 8, "r": 1, "w": 2, "a": 16}

_EVENTS = {
    EventType.NONE: "None",
    EventType.NODE_CREATED: "NodeCreated",
    EventType.NODE_DELETED: "NodeDeleted",
    EventType.NODE_DATA_CHANGED: "NodeDataChanged",
    EventType.NODE_CHILDREN_CHANGED: "NodeChildrenChanged",
}


# -- stats


def show_time(ms: int, local: bool = True) -> str:
    """Return a time as ZooKeeper's shell writes it, in the zone of this machine or UTC."""
    when = time.localtime(ms / 1000) if local else time.gmtime(ms / 1000)
    return time.strftime("%a %b %d %H:%M:%S %Z %Y", when)


def _iso(ms: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ms / 1000)) + f".{ms % 1000:03}Z"


def _unsigned(value: int) -> str:
    return f"{value & 0xFFFFFFFFFFFFFFFF:#x}"


def stat_text(stat: Stat) -> str:
    """Return the eleven lines that ZooKeeper's shell shows."""
    return (
        f"cZxid = {_unsigned(stat.czxid)}\n"
        f"ctime = {show_time(stat.ctime)}\n"
        f"mZxid = {_unsigned(stat.mzxid)}\n"
        f"mtime = {show_time(stat.mtime)}\n"
        f"pZxid = {_unsigned(stat.pzxid)}\n"
        f"cversion = {stat.cversion}\n"
        f"dataVersion = {stat.version}\n"
        f"aclVersion = {stat.aversion}\n"
        f"ephemeralOwner = {_unsigned(stat.ephemeralOwner)}\n"
        f"dataLength = {stat.dataLength}\n"
        f"numChildren = {stat.numChildren}\n"
    )


def stat_json(stat: Stat) -> dict[str, Any]:
    """Return a stat for JSON: zxids and sessions as hexadecimal text, times in UTC."""
    return {
        "czxid": _unsigned(stat.czxid),
        "mzxid": _unsigned(stat.mzxid),
        "pzxid": _unsigned(stat.pzxid),
        "ctime": _iso(stat.ctime),
        "mtime": _iso(stat.mtime),
        "version": stat.version,
        "cversion": stat.cversion,
        "aversion": stat.aversion,
        "ephemeralOwner": _unsigned(stat.ephemeralOwner) if stat.ephemeralOwner else None,
        "dataLength": stat.dataLength,
        "numChildren": stat.numChildren,
    }


# -- data


def data_text(data: bytes | None) -> str:
    """Return data as ZooKeeper's shell shows it; what is no UTF-8 is replaced."""
    return "null" if data is None else data.decode("utf-8", "replace")


def data_json(data: bytes | None) -> dict[str, Any]:
    """Return data for JSON: as text if it is UTF-8, else in base64, which is said beside it."""
    if data is None:
        return {"data": None}
    try:
        return {"data": data.decode()}
    except UnicodeDecodeError:
        return {"data": b64encode(data).decode(), "encoding": "base64"}


def plain(text: str) -> str:
    """Return text that moves no cursor and changes no colour, whatever somebody has put into a node."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter in "\n\t" or unicodedata.category(letter) not in ("Cc", "Cf") else f"\\x{ord(letter):02x}"
        for letter in text
    )


_RULER = "         +-------------------------------------------------+\n"
_EDGE = "+--------+-------------------------------------------------+----------------+\n"


def hex_dump(data: bytes) -> str:
    """Return a dump of sixteen bytes a line, as ZooKeeper's shell shows it."""
    lines = [_RULER, "         |  0  1  2  3  4  5  6  7  8  9  a  b  c  d  e  f |\n", _EDGE]
    for start in range(0, len(data), 16):
        row = data[start : start + 16]
        text = "".join(chr(byte) if 31 < byte < 127 else "." for byte in row)
        lines.append(f"|{start:08x}| {row.hex(' '):<48}|{text:<16}|\n")
    return "".join([*lines, _EDGE])


# -- ACLs


def perms_text(perms: int) -> str:
    """Return permissions as letters."""
    return "".join(letter for letter in _LETTERS if perms & _BITS[letter])


def acl_text(acl: Iterable[ACL]) -> str:
    """Return an ACL as one argument: C{scheme:id:perms}, with commas between."""
    return ",".join(f"{who.scheme}:{who.id}:{perms_text(perms)}" for perms, who in acl)


def parse_acl(text: str) -> list[ACL]:
    """
    Read an ACL.

    An id may have colons in it, and commas as well where what follows them is no entry.

    @raise Problem: it is none.
    """
    entries: list[str] = []
    for part in text.split(","):
        if part.count(":") < 2 and entries and not re.search(r":[cdrwa]*$", entries[-1]):
            entries[-1] += "," + part
        else:
            entries.append(part)
    return [parse_entry(entry.strip()) for entry in entries]


def parse_entry(text: str) -> ACL:
    """
    Read one entry of an ACL; its id may be anything.

    @raise Problem: it is none.
    """
    hint = "write SCHEME:ID:PERMISSIONS, with commas between; the permissions are letters of cdrwa"
    scheme, first, rest = text.partition(":")
    who, second, letters = rest.rpartition(":")
    if not first or not second:
        raise Problem(Status.USAGE, f"{text!r} is no entry of an ACL", hint=hint)
    perms = 0
    for letter in letters:
        if letter not in _BITS:
            raise Problem(Status.USAGE, f"{letter!r} in {text!r} is no permission", hint=hint)
        perms |= _BITS[letter]
    return ACL(perms, Id(scheme, who))


# -- events


def event_text(event: WatchedEvent) -> str:
    """Return an event as ZooKeeper's shell shows it, on one line."""
    return f"WatchedEvent state:SyncConnected type:{_EVENTS[event.type]} path:{plain(event.path)} zxid: {event.zxid}\n"


# -- numbers

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def show_size(size: int) -> str:
    """Return a number of bytes in four or five letters."""
    if size < 1024:
        return f"{size} B"
    value = float(size)
    for unit in ("KiB", "MiB", "GiB"):
        value /= 1024
        if value < 1024 or unit == "GiB":
            break
    return f"{value:.1f} {unit}"


def _number(text: str, units: Mapping[str, int], what: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]?)(?:i?b)?", text.strip().lower())
    if found is None or found[2] not in units:
        raise ValueError(f"{text!r} is no {what}")
    return float(found[1]) * units[found[2]]


def parse_size(text: str) -> int:
    """Read a number of bytes: C{100}, C{10k}, C{1.5M}."""
    return int(_number(text, _UNITS, "size; write 100, 10k or 1.5M"))


def parse_age(text: str) -> float:
    """Read a span of time in seconds: C{90}, C{90s}, C{5m}, C{2h}, C{7d}."""
    return _number(text, _SECONDS, "age; write 90s, 5m, 2h or 7d")


# -- tables


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else not unicodedata.combining(letter)
               for letter in text)  # fmt: skip


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows under the names of their columns; numbers stand to the right."""
    names: dict[str, None] = {}
    for row in rows:
        names |= dict.fromkeys(row)
    lines = [list(names)]
    lines += [["" if row.get(name) is None else plain(_cell(row[name])) for name in names] for row in rows]
    widths = [max(_width(line[at]) for line in lines) for at in range(len(names))]
    right = [all(isinstance(row.get(name), int | float | None) for row in rows) for name in names]
    text = ""
    for line in lines:
        cells = []
        for cell, width, to_right in zip(line, widths, right, strict=True):
            space = " " * (width - _width(cell))
            cells.append(space + cell if to_right else cell + space)
        text += "  ".join(cells).rstrip() + "\n"
    return text


def _cell(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return text.replace("\n", "\\n").replace("\t", "\\t")
