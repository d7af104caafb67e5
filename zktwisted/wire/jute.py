"""
Jute: bytes to values and back (spec: client-protocol 1).

Primitives work on C{(buffer, offset)} and return C{(value, next offset)}; records are C{NamedTuple}s whose annotations
name jute types, and their codecs are built from those annotations once.  This module knows the encoding and refuses
to know any message.

Every decoder raises L{ProtocolError} on malformed input and nothing else, and never allocates by a count it has read.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from struct import Struct
from struct import error as struct_error
from typing import Any, ForwardRef, TypeVar

from zktwisted.errors import ProtocolError

__all__ = [
    "Boolean",
    "Buffer",
    "Int",
    "Long",
    "Name",
    "Path",
    "Ustring",
    "decode",
    "encode",
    "pack_buffer",
    "pack_string",
    "read_buffer",
    "read_count",
    "read_int",
    "read_long",
    "read_string",
    "share",
]

#: The jute types, as annotations of record fields.
Boolean = bool
Int = int
Long = int
Ustring = str | None
#: A C{ustring} that is not null in any accepted record; what a client sent may still be C{None} there, and is refused.
Name = str
Buffer = bytes | None
#: A C{ustring} that names a znode: kept as the UTF-8 bytes that came, never decoded on the way through.
Path = bytes | None

_int = Struct(">i")
_long = Struct(">q")
_unpack_int = _int.unpack_from
_unpack_long = _long.unpack_from
_NULL = b"\xff\xff\xff\xff"

Buf = bytes | bytearray | memoryview
_R = TypeVar("_R")
_Reader = Callable[[Buf, int], tuple[Any, int]]
_Writer = Callable[[Any], bytes]


def read_int(buf: Buf, offset: int) -> tuple[int, int]:
    """Read a 4-byte signed integer."""
    try:
        return _unpack_int(buf, offset)[0], offset + 4
    except struct_error:
        raise ProtocolError(f"int cut short at byte {offset} of {len(buf)}") from None


def read_long(buf: Buf, offset: int) -> tuple[int, int]:
    """Read an 8-byte signed integer."""
    try:
        return _unpack_long(buf, offset)[0], offset + 8
    except struct_error:
        raise ProtocolError(f"long cut short at byte {offset} of {len(buf)}") from None


def read_buffer(buf: Buf, offset: int) -> tuple[bytes | None, int]:
    """Read a length and that many bytes; length -1 is C{None}."""
    try:
        length: int = _unpack_int(buf, offset)[0]
    except struct_error:
        raise ProtocolError(f"length cut short at byte {offset} of {len(buf)}") from None
    start = offset + 4
    if length < 0:
        if length == -1:
            return None, start
        raise ProtocolError(f"negative length {length} at byte {offset}")
    end = start + length
    if end > len(buf):
        raise ProtocolError(f"length {length} at byte {offset} runs past the end ({len(buf)})")
    return bytes(buf[start:end]), end


def text(raw: bytes) -> str:
    """
    Decode the bytes of a ustring.

    Surrogates that a Java writer encoded one by one (CESU-8) are joined again; anything else malformed becomes U+FFFD,
    as Java's reader has it.
    """
    try:
        return raw.decode()
    except UnicodeDecodeError:
        pass
    try:
        return raw.decode("utf-8", "surrogatepass").encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        return raw.decode("utf-8", "replace")


def read_string(buf: Buf, offset: int) -> tuple[str | None, int]:
    """Read a ustring as text."""
    raw, end = read_buffer(buf, offset)
    return (None if raw is None else text(raw)), end


def read_count(buf: Buf, offset: int) -> tuple[int | None, int]:
    """Read the count of a vector: C{None} for a null vector; other negative counts read as 0."""
    count, end = read_int(buf, offset)
    if count == -1:
        return None, end
    return max(count, 0), end


def pack_buffer(value: bytes | None) -> bytes:
    """Encode a buffer (or the bytes of a ustring) with its length."""
    if value is None:
        return _NULL
    return _int.pack(len(value)) + value


def pack_string(value: str | None) -> bytes:
    """Encode a ustring as standard UTF-8."""
    return _NULL if value is None else pack_buffer(value.encode("utf-8", "surrogatepass"))


def _vector_reader(item: _Reader) -> _Reader:
    def read_vector(buf: Buf, offset: int) -> tuple[list[Any] | None, int]:
        count, offset = read_count(buf, offset)
        if count is None:
            return None, offset
        items = []
        for _ in range(count):
            value, offset = item(buf, offset)
            items.append(value)
        return items, offset

    return read_vector


def _vector_writer(item: _Writer) -> _Writer:
    def pack_vector(value: Sequence[Any] | None) -> bytes:
        if value is None:
            return _NULL
        return _int.pack(len(value)) + b"".join([item(each) for each in value])

    return pack_vector


#: Formats of what has a fixed size; neighbours in a record are read and written in one go.
_FIXED = {"Boolean": "?", "Int": "i", "Long": "q"}
_VARIABLE: dict[str, tuple[_Reader, _Writer]] = {
    "Buffer": (read_buffer, pack_buffer),
    "Name": (read_string, pack_string),
    "Path": (read_buffer, pack_buffer),
    "Ustring": (read_string, pack_string),
}


def _type_names(record: type) -> list[str]:
    """Return the jute type of each field, as annotated."""
    return [
        (hint.__forward_arg__ if isinstance(hint, ForwardRef) else str(hint)).removesuffix(" | None")
        for hint in record.__annotations__.values()
    ]


def _field_codec(record: type, name: str) -> tuple[_Reader, _Writer]:
    """Return the reader and the writer of a field whose size varies, or of a record inside a record."""
    if name in _VARIABLE:
        return _VARIABLE[name]
    if name.startswith("Vector["):
        reader, writer = _field_codec(record, name[len("Vector[") : -1])
        return _vector_reader(reader), _vector_writer(writer)
    inner = getattr(sys.modules[record.__module__], name)
    return _reader(inner), _writer(inner)


def _fields(record: type) -> Iterator[tuple[int, int, Struct | tuple[_Reader, _Writer]]]:
    """Give the fields as C{(first, behind the last, codec)}; a run of fixed-size fields shares one C{Struct}."""
    position = 0
    for fixed, run in groupby(_type_names(record), _FIXED.__contains__):
        names = list(run)
        if fixed:
            yield position, position + len(names), Struct(">" + "".join(_FIXED[name] for name in names))
            position += len(names)
        else:
            for name in names:
                yield position, position + 1, _field_codec(record, name)
                position += 1


def _build_writer(record: type) -> _Writer:
    fields = list(_fields(record))
    if len(fields) == 1 and isinstance(fields[0][2], Struct):
        pack_all = fields[0][2].pack
        return lambda value: pack_all(*value)
    steps: list[tuple[int, int, Callable[..., bytes] | None, _Writer]] = [
        (first, end, codec.pack, pack_buffer) if isinstance(codec, Struct) else (first, end, None, codec[1])
        for first, end, codec in fields
    ]

    def write(value: Any) -> bytes:
        parts = []
        for first, end, pack, write_field in steps:
            parts.append(write_field(value[first]) if pack is None else pack(*value[first:end]))
        return b"".join(parts)

    return write


def _build_reader(record: type) -> _Reader:
    steps: list[tuple[_Reader | None, Callable[[Buf, int], tuple[Any, ...]], int]] = []
    for _first, _end, codec in _fields(record):
        if isinstance(codec, Struct):
            steps.append((None, codec.unpack_from, codec.size))
        else:
            steps.append((codec[0], _unpack_int, 0))
    # What the constructor of a NamedTuple comes to.
    make = tuple.__new__

    def read(buf: Buf, offset: int) -> tuple[Any, int]:
        values: list[Any] = []
        try:
            for read_field, unpack, size in steps:
                if read_field is None:
                    values += unpack(buf, offset)
                    offset += size
                else:
                    value, offset = read_field(buf, offset)
                    values.append(value)
        except struct_error:
            raise ProtocolError(f"{record.__name__} cut short at byte {offset} of {len(buf)}") from None
        return make(record, values), offset

    return read


_readers: dict[type, _Reader] = {}
_writers: dict[type, _Writer] = {}


def _reader(record: type) -> _Reader:
    reader = _readers.get(record)
    if reader is None:
        reader = _readers[record] = _build_reader(record)
    return reader


def _writer(record: type) -> _Writer:
    writer = _writers.get(record)
    if writer is None:
        writer = _writers[record] = _build_writer(record)
    return writer


def share(record: Any) -> None:
    """
    Read and write one value of a record type by comparing its bytes: for the value that nearly all messages hold.

    Readers then return this very object.
    """
    kind = type(record)
    read_other, write_other = _reader(kind), _writer(kind)
    encoded = write_other(record)
    size = len(encoded)

    def read(buf: Buf, offset: int) -> tuple[Any, int]:
        end = offset + size
        return (record, end) if buf[offset:end] == encoded else read_other(buf, offset)

    def write(value: Any) -> bytes:
        return encoded if value == record else write_other(value)

    _readers[kind], _writers[kind] = read, write


def encode(record: Any) -> bytes:
    """Encode a record."""
    return _writer(type(record))(record)


def decode(record: type[_R], buf: Buf, offset: int = 0) -> tuple[_R, int]:
    """
    Decode one record.

    @return: the record and the offset behind it; what follows is the caller's to judge (requests ignore it).
    @raise ProtocolError: the bytes end early or hold a negative length.
    """
    return _reader(record)(buf, offset)
