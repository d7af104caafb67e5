"""
What a setting is: the shape of one row of the configuration table.

Every field of L{zktwisted.config.ServerConfig} is declared with L{setting}, which hangs a L{Key} on it.  The
parser, C{--check-config}, the C{conf} command and the reference page read those keys and nothing else, so a
setting is described once.

This module knows how a value is spelled; it does not know which settings exist.
"""

from __future__ import annotations

import dataclasses
import enum
import math
import re
from collections.abc import Callable
from typing import Any

__all__ = ["Key", "Kind", "Section", "number", "parse", "remedy", "render", "setting"]


class Kind(enum.Enum):
    """How the value of a key is spelled."""

    FLAG = "true or false"
    YES_NO = "yes or no"
    INT = "whole number"
    LONG = "whole number (64 bit)"
    PORT = "port"
    FLOAT = "number"
    TEXT = "text"
    PATH = "path"
    WORDS = "comma separated words"
    HOURS = "hours, or a number with ms, s, m, h or d"


class Section(enum.Enum):
    """The groups of the reference page, in its order."""

    BASIC = "Basics"
    STORAGE = "Log, snapshots and purging"
    DATA = "Data tree"
    LIMITS = "Limits and throttling"
    CLIENTS = "Client connections"
    AUTH = "Authentication and permissions"
    TLS = "TLS"
    OPERATIONS = "Operations"
    ENSEMBLE = "Ensembles"


@dataclasses.dataclass(frozen=True, slots=True)
class Key:
    """
    One key of C{zoo.cfg}.

    @ivar name: the key as it is written in the file.
    @ivar java_property: the Java system property of the same meaning, for C{-D}.
    @ivar kind: how a value is spelled.
    @ivar default: what holds when the key is absent, as a value.
    @ivar default_text: the default in words, where the value alone does not say it.
    @ivar unit: C{ms}, C{ticks}, C{KiB}, ... or an empty string.
    @ivar doc: what the setting does, in a sentence or two.
    @ivar section: its group on the reference page.
    @ivar strict: a bad value stops the server; else the default replaces it, with a warning, as in Java.
    @ivar minimum: the smallest value that is used as written (smaller ones are an error or are raised to it).
    @ivar ensemble: the key has an effect only in an ensemble; one server accepts it.
    @ivar secret: its value is shown to nobody.
    @ivar attribute: the name of the field that holds it.
    """

    name: str
    java_property: str
    kind: Kind
    default: Any
    default_text: str
    unit: str
    doc: str
    section: Section
    strict: bool
    minimum: int | None
    ensemble: bool
    secret: bool = False
    attribute: str = ""

    @property
    def spellings(self) -> tuple[str, ...]:
        """Every name under which the key may be written."""
        java = self.java_property
        return tuple(dict.fromkeys((self.name, java, f"zookeeper.{self.name}", java.removeprefix("zookeeper."))))


def setting(
    name: str,
    default: Any,
    doc: str,
    *,
    kind: Kind | None = None,
    unit: str = "",
    section: Section = Section.BASIC,
    strict: bool = False,
    minimum: int | None = None,
    default_text: str = "",
    prefixed: bool = True,
    java_property: str = "",
    ensemble: bool = False,
    secret: bool = False,
) -> Any:
    """
    Declare a field of a frozen configuration class.

    @param prefixed: the Java property is C{zookeeper.NAME} (most) rather than C{NAME}.
    @param java_property: the name of the Java property where it is another.
    @return: a dataclass field; typed C{Any} so that the annotation of the class is what a type checker reads.
    """
    if kind is None:
        kind = _KIND_OF[type(default)]
    key = Key(
        name=name,
        java_property=java_property or (f"zookeeper.{name}" if prefixed else name),
        kind=kind,
        default=default,
        default_text=default_text,
        unit=unit,
        doc=doc,
        section=section,
        strict=strict,
        minimum=minimum,
        ensemble=ensemble,
        secret=secret,
    )
    return dataclasses.field(default=default, repr=not secret, metadata={"key": key})


_KIND_OF = {bool: Kind.FLAG, int: Kind.INT, float: Kind.FLOAT, str: Kind.TEXT, tuple: Kind.WORDS}

# Decimal digits of ASCII with one sign: what Java's Integer.parseInt takes of what people write.
_INTEGER = re.compile(r"[+-]?[0-9]+\Z")
_HEXADECIMAL = re.compile(r"[+-]?0[xX][0-9a-fA-F]+\Z")
_DURATION = re.compile(r"([0-9]+)\s*(ms|s|m|h|d|)\Z")
_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "": 3_600_000}


def number(text: str, bits: int = 32) -> int:
    """
    A whole number as Java reads one.

    @raise ValueError: not decimal digits with an optional sign, or outside C{bits} bits; the message is the
        one that Java prints.
    """
    if _INTEGER.match(text):
        value = int(text)
        if -(1 << bits - 1) <= value < 1 << bits - 1:
            return value
    raise ValueError(f'For input string: "{text}"')


def _flag(text: str, key: Key) -> bool:
    lower = text.lower()
    if lower not in ("true", "false"):
        if key.strict:
            raise ValueError(f"Invalid option {text} for {key.name}. Choose 'true' or 'false.'")
        raise ValueError(f'"{text}" is neither true nor false')
    return lower == "true"


def _yes_no(text: str, key: Key) -> bool:
    if text not in ("yes", "no"):
        raise ValueError(f'"{text}" is neither yes nor no')
    return text == "yes"


def _whole(text: str, key: Key, bits: int) -> int:
    # Java decodes properties, unlike the keys of the file proper: -Djute.maxbuffer=0x9fffff is a usual spelling.
    if not key.strict and _HEXADECIMAL.match(text):
        text = str(int(text, 16))
    return number(text, bits)


def _port(text: str, key: Key) -> int:
    value = number(text)
    if not 0 <= value <= 65535:
        raise ValueError(f"port out of range:{value}")
    return value


def _float(text: str, key: Key) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f'For input string: "{text}"') from None
    if not math.isfinite(value):
        raise ValueError(f'For input string: "{text}"')
    return value


def _hours(text: str, key: Key) -> int:
    match = _DURATION.match(text.lower())
    if match is None:
        raise ValueError(f'For input string: "{text}"')
    return int(match[1]) * _MS[match[2]]


_PARSERS: dict[Kind, Callable[[str, Key], Any]] = {
    Kind.FLAG: _flag,
    Kind.YES_NO: _yes_no,
    Kind.INT: lambda text, key: _whole(text, key, 32),
    Kind.LONG: lambda text, key: _whole(text, key, 64),
    Kind.PORT: _port,
    Kind.FLOAT: _float,
    Kind.TEXT: lambda text, key: text,
    Kind.PATH: lambda text, key: text,
    Kind.WORDS: lambda text, key: tuple(word.strip() for word in text.split(",") if word.strip()),
    Kind.HOURS: _hours,
}

_REMEDIES = {
    Kind.FLAG: "write true or false",
    Kind.YES_NO: "write yes or no",
    Kind.INT: "write a whole number",
    Kind.LONG: "write a whole number",
    Kind.PORT: "write a port from 0 to 65535",
    Kind.FLOAT: "write a number such as 0.5",
    Kind.HOURS: "write a number of hours, or one such as 30m",
}


def parse(key: Key, text: str) -> Any:
    """
    The value that C{text} means for C{key}.

    @raise ValueError: C{text} is no value of that kind; the message says so.
    """
    return _PARSERS[key.kind](text, key)


def remedy(key: Key) -> str | None:
    """What to write instead of a value that L{parse} refused."""
    return _REMEDIES.get(key.kind)


def render(key: Key, value: Any) -> str:
    """A value as it would be written in C{zoo.cfg}; a secret is not told."""
    if value is None:
        return ""
    if key.secret and value:
        return "***"
    if key.kind is Kind.YES_NO:
        return "yes" if value else "no"
    if key.kind is Kind.FLAG:
        return "true" if value else "false"
    if key.kind is Kind.WORDS:
        return ",".join(value)
    if key.kind is Kind.HOURS:
        return f"{value // 3_600_000}" if value % 3_600_000 == 0 else f"{value}ms"
    return str(value)
