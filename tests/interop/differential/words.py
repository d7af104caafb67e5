"""The answers to four letter words, reduced to what must be equal: lines, names and order, not the values of a run."""

from __future__ import annotations

import re

# A value that belongs to one run: an address, a version, a number, a path of a data directory, a date.
_VALUES = (
    (re.compile(r"\d+\.\d+\.\d+\.\d+:\d+|0:0:0:0:0:0:0:1:\d+"), "ADDRESS"),
    (re.compile(r"0x[0-9a-fA-F]+"), "HEX"),
    (re.compile(r"-?\d+\.\d+(E-?\d+)?"), "NUMBER"),
    (re.compile(r"-?\b\d+\b"), "NUMBER"),
)
_RUNS = re.compile(r"^(Zookeeper version: |zk_version\t|zookeeper.version=)(.*)$", re.MULTILINE)
_DATES = re.compile(r"(expire at |expires at ).*:$", re.MULTILINE)


def _plain(text: str) -> str:
    text = _RUNS.sub(r"\1VERSION", text)
    text = _DATES.sub(r"\1DATE:", text)
    for pattern, name in _VALUES:
        text = pattern.sub(name, text)
    return text


def _conf(text: str) -> list[str]:
    return [line.partition("=")[0] for line in text.splitlines()]


def _names(text: str) -> list[str]:
    """The names of metrics, sorted: Java prints them as a hash map has them.

    Without the sizes of reads and writes for each top level node, whose names depend on what clients did.
    """
    names = (re.split(r"[\t=]", line)[0] for line in text.splitlines())
    return sorted(name for name in names if not name.endswith(("_read_per_namespace", "_write_per_namespace")))


def _connections(text: str) -> list[str]:
    """One line for each connection, sorted: the server keeps a set of them."""
    keys = re.compile(r"=[^,)]*")
    return sorted(keys.sub("", _plain(line)) for line in text.splitlines())


def normal_answer(word: bytes, answer: bytes) -> object:
    """Return the comparable part of the *answer* to *word*."""
    text = answer.decode("utf-8", "replace")
    name = word[:4].decode("latin-1")
    if name in ("conf", "envi"):
        return _conf(text)
    if name == "mntr":
        return _names(text)
    if name == "dump":
        # How many sets of sessions and connections expire together depends on the moment.
        return sorted(set(_plain(text).splitlines()))
    if name in ("cons", "stat"):
        return _connections(text)
    return _plain(text)
