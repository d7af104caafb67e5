"""
Trees on this machine: a directory, a file of lines of JSON, or one JSON document.

docs/reference/zkt.md describes the formats.  All three keep data to the byte and ACLs, and may say that a node is a
container or has a time to live; none keeps zxids, versions and times, so that two exports of one tree are the same.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from base64 import b64decode
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TextIO
from urllib.parse import unquote

from zktwisted.client import ACL, OPEN_ACL
from zktwisted.zkt.format import acl_text, data_json, parse_entry
from zktwisted.zkt.paths import Key, check_path
from zktwisted.zkt.status import Problem, Status
from zktwisted.zkt.trees import Record

__all__ = ["DirectoryTree", "DirectoryWriter", "FileTree", "FileWriter", "LinesWriter", "open_archive"]

FORMAT, VERSION = "zktwisted-tree", 1
_VALUE, _NODE = "%value", "%node.json"
_NAME_BYTES = 255
_KINDS = ("container", "ttl")


def open_archive(text: str) -> DirectoryTree | FileTree:
    """
    Return what is there to be read; C{-} is standard input.

    @raise Problem: there is nothing.
    """
    path = Path(text)
    if text != "-" and path.is_dir():
        return DirectoryTree(path)
    return FileTree(text)


# -- one node


def _properties(record: Record) -> dict[str, Any]:
    """Return what a node has that most have not."""
    found: dict[str, Any] = {}
    if record.acl is not None and tuple(record.acl) != tuple(OPEN_ACL):
        found["acl"] = [acl_text([entry]) for entry in record.acl]
    if record.kind is not None:
        found["kind"] = record.kind
    if record.kind == "ttl":
        found["ttl_ms"] = record.ttl_ms
    return found


def _record(key: Key, data: bytes | None, found: dict[str, Any]) -> Record:
    """
    Return a node with these properties.

    @raise ValueError: they are none.
    """
    acl: tuple[ACL, ...] = OPEN_ACL
    if "acl" in found:
        if not isinstance(found["acl"], list) or not found["acl"]:
            raise ValueError('"acl" is no list of "SCHEME:ID:PERMISSIONS"')
        acl = tuple(map(_entry, found["acl"]))
    kind = found.get("kind")
    if kind is not None and kind not in _KINDS:
        raise ValueError(f'"kind" is {kind!r}, and neither container nor ttl')
    ttl = found.get("ttl_ms", 0)
    if not isinstance(ttl, int) or (kind == "ttl") != (ttl > 0):
        raise ValueError('"ttl_ms" is a number of milliseconds, and belongs to the kind "ttl"')
    return Record(key, data, acl, kind, ttl)


def _entry(text: object) -> ACL:
    try:
        return parse_entry(text if isinstance(text, str) else "")
    except Problem as problem:
        raise ValueError(problem.text) from None


def _line(record: Record) -> str:
    value = {"path": "/".join(record.key), **data_json(record.data), **_properties(record)}
    return json.dumps(value, ensure_ascii=False)


def _parse(value: object) -> Record:
    """
    Read a node.

    @raise ValueError: it is none.
    """
    if not isinstance(value, dict) or not isinstance(value.get("path"), str):
        raise ValueError('a node is an object with a "path"')
    path: str = value["path"]
    try:
        key = tuple(check_path("/" + path)[1:].split("/")) if path else ()
    except Problem as problem:
        raise ValueError(f"path {path!r}: {problem.text}") from None
    data = value.get("data")
    if data is not None and not isinstance(data, str):
        raise ValueError('"data" is neither text nor null')
    encoding = value.get("encoding", "utf-8")
    if encoding not in ("utf-8", "base64"):
        raise ValueError(f'"encoding" is {encoding!r}, and neither utf-8 nor base64')
    content = None if data is None else b64decode(data, validate=True) if encoding == "base64" else data.encode()
    return _record(key, content, value)


def _header(root: str) -> dict[str, Any]:
    return {"format": FORMAT, "version": VERSION, "root": root}


def _check_header(value: object) -> None:
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise ValueError(f'it does not begin with {{"format": "{FORMAT}", ...}}: it is no export')
    if value.get("version") != VERSION:
        raise ValueError(f"it is of version {value.get('version')!r} of the format; this zkt reads {VERSION}")


# -- files


class FileTree:
    """
    A file with lines of JSON, or with one JSON document.

    It is read once from end to end before the first node is given, so that nothing is done with half a file; then
    again, node by node.  What is kept in memory of lines is their paths and places; a document is kept whole.
    """

    def __init__(self, text: str) -> None:
        """@param text: name of the file; C{-} for standard input."""
        self.name = "standard input" if text == "-" else text
        self._text = text
        # At once: whoever writes it may take longer than a session lasts without us.
        self._spool = _everything(sys.stdin.buffer) if text == "-" else None

    def show(self, key: Key) -> str:
        """See L{zktwisted.zkt.trees.Tree}."""
        return "/".join(key) or "(top)"

    async def records(self) -> AsyncGenerator[Record, None]:
        """See L{zktwisted.zkt.trees.Tree}."""
        with self._open() as file:
            try:
                lines, document = _index(file)
            except _Bad as bad:
                raise Problem(Status.LOCAL, bad.text(), path=self.name, hint="is it an export?") from None
            for key, place, _ in lines:
                if document is not None:
                    yield _parse(document[place])
                    continue
                file.seek(place)
                try:
                    yield _parse(json.loads(file.readline()))._replace(key=key)
                except ValueError:
                    raise Problem(Status.LOCAL, "it changes while it is read", path=self.name) from None

    def _open(self) -> BinaryIO:
        return open(self._text, "rb") if self._spool is None else self._spool


def _everything(stream: BinaryIO) -> BinaryIO:
    """Return a file with all that comes."""
    spool: Any = tempfile.TemporaryFile()
    shutil.copyfileobj(stream, spool)
    spool.seek(0)
    kept: BinaryIO = spool
    return kept


class _Bad(ValueError):
    """A line, or the whole of it for 0, is not what it should be."""

    def __init__(self, line: int, why: object) -> None:
        if isinstance(why, json.JSONDecodeError):
            line, why = line or why.lineno, f"it is no JSON: {why.msg}"
        super().__init__(str(why))
        self.line = line

    def text(self) -> str:
        """For the user."""
        return f"line {self.line}: {self}" if self.line else str(self)


Places = list[tuple[Key, int, int]]


def _index(file: BinaryIO) -> tuple[Places, list[Any] | None]:
    """
    Read all of a file once.

    @return: key, place and line of each node, in order; and the nodes, if it is a document.
    @raise _Bad: it is no export.
    """
    first = file.readline()
    try:
        header = json.loads(first)
    except ValueError:
        header = None
    if not (isinstance(header, dict) and "format" in header and "nodes" not in header):
        return _index_document(file)
    try:
        _check_header(header)
    except ValueError as error:
        raise _Bad(1, error) from None
    places: Places = []
    number = 1
    place = file.tell()
    for line in iter(file.readline, b""):
        number += 1
        if line.strip():
            try:
                places.append((_parse(json.loads(line)).key, place, number))
            except ValueError as error:
                raise _Bad(number, error) from None
        place += len(line)
    return _checked(places), None


def _index_document(file: BinaryIO) -> tuple[Places, list[Any]]:
    file.seek(0)
    try:
        document = json.load(file)
        _check_header(document)
        nodes = document.get("nodes")
        if not isinstance(nodes, list):
            raise ValueError('it has no list of "nodes"')
    except ValueError as error:
        raise _Bad(0, error) from None
    places: Places = []
    for number, value in enumerate(nodes):
        try:
            places.append((_parse(value).key, number, 0))
        except ValueError as error:
            raise _Bad(0, f"node {number + 1}: {error}") from None
    return _checked(places), nodes


def _checked(places: Places) -> Places:
    """Put nodes in order, and refuse what is no tree."""
    if not places:
        raise _Bad(0, "there are no nodes in it")
    places.sort()
    known: set[Key] = set()
    for key, _, number in places:
        if key in known:
            raise _Bad(number, f"{'/'.join(key)!r} is there twice")
        if key and key[:-1] not in known:
            raise _Bad(number, f"what is above {'/'.join(key)!r} is missing")
        known.add(key)
    return places


def _left_behind(partial: Path) -> Problem:
    return Problem(
        Status.LOCAL,
        "it is there already",
        path=str(partial),
        hint="an export is under way, or one was killed; if so, delete it",
    )


class LinesWriter:
    """Writes lines of JSON somewhere."""

    def __init__(self, write: Any, root: str) -> None:
        """@param write: is called with text."""
        self._write = write
        self._root = root

    def begin(self) -> None:
        """Write what stands before the first node."""
        self._write(json.dumps(_header(self._root)) + "\n")

    def add(self, record: Record) -> None:
        """Write a node."""
        self._write(_line(record) + "\n")

    def end(self) -> None:
        """There are no more nodes."""

    def give_up(self) -> None:
        """Leave nothing behind that could be taken for an export."""


class FileWriter:
    """Writes a file, which has its name only when it is whole."""

    def __init__(self, path: Path, root: str, force: bool = False) -> None:
        """@param force: whether it may take the place of another file."""
        if path.exists() and not force:
            raise Problem(Status.LOCAL, "it exists already", path=str(path), hint="--force replaces it")
        self._path = path
        self._root = root
        self._document = path.suffix == ".json"
        self._nodes = 0
        self._partial = path.with_name(path.name + ".partial")
        self._file: TextIO

    def begin(self) -> None:
        """See L{LinesWriter}."""
        try:
            self._file = open(self._partial, "x", encoding="utf-8")
        except FileExistsError:
            raise _left_behind(self._partial) from None
        header = json.dumps(_header(self._root))
        self._file.write(header[:-1] + ', "nodes": [' if self._document else header + "\n")

    def add(self, record: Record) -> None:
        """See L{LinesWriter}."""
        line = _line(record)
        if self._document:
            line = (",\n" if self._nodes else "\n") + line
        self._file.write(line if self._document else line + "\n")
        self._nodes += 1

    def end(self) -> None:
        """See L{LinesWriter}."""
        if self._document:
            self._file.write("\n]}\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._partial.replace(self._path)

    def give_up(self) -> None:
        """See L{LinesWriter}."""
        self._file.close()
        self._partial.unlink(missing_ok=True)


# -- directories


def _file_name(name: str) -> str:
    """Return what a node is called as a file: the same, but for percent signs."""
    found = name.replace("%", "%25")
    if len(found.encode()) > _NAME_BYTES:
        raise Problem(
            Status.LOCAL, "a name too long for a file", path=name[:40] + "...", hint="export to a file with .ndjson"
        )
    return found


class DirectoryTree:
    """A directory: a node is a directory or, without children and with nothing special about it, a file."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path

    def show(self, key: Key) -> str:
        """See L{zktwisted.zkt.trees.Tree}."""
        return "/".join(key) or "(top)"

    async def records(self) -> AsyncGenerator[Record, None]:
        """See L{zktwisted.zkt.trees.Tree}."""
        for record in self._below(self._path, ()):
            yield record

    def _below(self, path: Path, key: Key) -> Iterator[Record]:
        found: dict[str, Any] = {}
        data: bytes | None = None
        children: list[tuple[str, os.DirEntry[str]]] = []
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name == _VALUE:
                    data = Path(entry.path).read_bytes()
                elif entry.name == _NODE:
                    found = self._properties(Path(entry.path))
                else:
                    children.append((self._node_name(entry), entry))
        try:
            yield _record(key, data, found)
        except ValueError as error:
            raise Problem(Status.LOCAL, str(error), path=str(path / _NODE)) from None
        for name, entry in sorted(children):
            if entry.is_dir(follow_symlinks=False):
                yield from self._below(Path(entry.path), (*key, name))
            elif entry.is_file(follow_symlinks=False):
                yield Record((*key, name), Path(entry.path).read_bytes())
            else:
                raise Problem(Status.LOCAL, "it is neither a file nor a directory", path=entry.path)

    def _node_name(self, entry: os.DirEntry[str]) -> str:
        name = unquote(entry.name, errors="strict")
        if _quoted(name) != entry.name:
            raise Problem(
                Status.LOCAL, "a percent sign in a name is written %25", path=entry.path, hint="is it an export?"
            )
        check_path("/" + name)
        return name

    def _properties(self, path: Path) -> dict[str, Any]:
        try:
            found = json.loads(path.read_bytes())
            if not isinstance(found, dict):
                raise ValueError("it is no JSON object")
        except ValueError as error:
            raise Problem(Status.LOCAL, str(error), path=str(path)) from None
        return found


def _quoted(name: str) -> str:
    return name.replace("%", "%25")


class DirectoryWriter:
    """Writes a directory, which has its name only when it is whole."""

    def __init__(self, path: Path) -> None:
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            raise Problem(
                Status.LOCAL, "it is there already", path=str(path), hint="name one that is new, or an empty directory"
            )
        self._path = path
        self._partial = path.with_name(path.name + ".partial")
        self._waiting: Record | None = None

    def begin(self) -> None:
        """See L{LinesWriter}."""
        try:
            self._partial.mkdir(parents=True)
        except FileExistsError:
            raise _left_behind(self._partial) from None

    def add(self, record: Record) -> None:
        """See L{LinesWriter}; whether a node has children shows by what comes next."""
        waiting, self._waiting = self._waiting, record
        if waiting is not None:
            self._write(waiting, record.key[: len(waiting.key)] == waiting.key)

    def _write(self, record: Record, inner: bool) -> None:
        path = self._partial.joinpath(*map(_file_name, record.key))
        properties = _properties(record)
        if record.key and not inner and not properties and record.data is not None:
            path.write_bytes(record.data)
            return
        path.mkdir(exist_ok=True)
        if record.data is not None:
            (path / _VALUE).write_bytes(record.data)
        if properties:
            (path / _NODE).write_text(json.dumps(properties, ensure_ascii=False, indent=1) + "\n", "utf-8")

    def end(self) -> None:
        """See L{LinesWriter}."""
        if self._waiting is not None:
            self._write(self._waiting, False)
        if self._path.is_dir():
            self._path.rmdir()
        self._partial.rename(self._path)

    def give_up(self) -> None:
        """See L{LinesWriter}."""
        shutil.rmtree(self._partial, ignore_errors=True)
