r"""
Java properties files, with the line of each entry.

Comments (C{#}, C{!}), C{key=value}, C{key:value} and C{key value}, lines joined by a backslash, and the
escapes C{\uXXXX}, C{\t}, C{\n}, C{\r}, C{\f} and C{\} before anything else.  Nothing in such a file is an
error but a broken C{\uXXXX}.

This module knows no keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from zktwisted.errors import ConfigError

__all__ = ["Entry", "decode_properties", "parse_properties"]

_BLANK = " \t\f"
_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}


class Entry(NamedTuple):
    """One setting: the key, its value (both trimmed) and the line, from 1, on which it begins."""

    key: str
    value: str
    line: int


def decode_properties(data: bytes) -> str:
    """The text of a file: UTF-8 if it is that, else Latin-1, which any bytes are."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def parse_properties(text: str) -> list[Entry]:
    r"""
    Parse the text of a properties file.

    @return: the entries in their order; a key may occur again, and then its last value counts.
    @raise ConfigError: a C{\u} without four hexadecimal digits; C{line} is set.
    """
    return [_entry(line, number) for number, line in _logical_lines(text)]


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """(number of the first natural line, joined line), without blank lines and comments."""
    pending: str | None = None
    start = 0
    for number, natural in enumerate(re.split(r"\r\n|\n|\r", text), 1):
        line = natural.lstrip(_BLANK)
        if pending is None:
            if not line or line[0] in "#!":
                continue
            start = number
        else:
            line = pending + line
        if _ends_open(line):
            pending = line[:-1]
        else:
            pending = None
            yield start, line
    if pending is not None:
        yield start, pending


def _ends_open(line: str) -> bool:
    """Whether the line ends with an odd number of backslashes: one that nothing else uses up."""
    return (len(line) - len(line.rstrip("\\"))) % 2 == 1


def _entry(line: str, number: int) -> Entry:
    end = 0
    while end < len(line) and line[end] not in "=: \t\f":
        end += 2 if line[end] == "\\" else 1
    end = min(end, len(line))
    rest = line[end:].lstrip(_BLANK)
    if rest[:1] in ("=", ":"):
        rest = rest[1:].lstrip(_BLANK)
    return Entry(_unescape(line[:end], number).strip(), _unescape(rest, number).strip(), number)


def _unescape(text: str, line: int) -> str:
    if "\\" not in text:
        return text
    out = []
    position = 0
    while position < len(text):
        character = text[position]
        position += 1
        if character != "\\":
            out.append(character)
            continue
        character = text[position : position + 1]
        position += 1
        if character != "u":
            out.append(_ESCAPES.get(character, character))
            continue
        digits = text[position : position + 4]
        if not re.fullmatch(r"[0-9a-fA-F]{4}", digits):
            raise ConfigError("Malformed \\uxxxx encoding.", line=line, remedy="write \\u and four hex digits")
        out.append(chr(int(digits, 16)))
        position += 4
    # \uXXXX names UTF-16 units: a pair of them is one character.
    return "".join(out).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
