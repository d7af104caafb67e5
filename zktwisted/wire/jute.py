"""
Jute: bytes to values and back (spec: client-protocol 1).

Primitives work on C{(buffer, offset)} and return C{(value, next offset)}; records are C{NamedTuple}s whose annotations
name jute types, and their codecs are built from those annotations once.  This module knows the encoding and refuses
to know any message.

Every decoder raises L{ProtocolError} on malformed input and nothing else, and never allocates by a count it has read.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import cache
from struct import Struct, error as struct_error
from typing import Any, ForwardRef, TypeVar

from zktwisted.errors import ProtocolError

__all__ = [
    "Boolean",
    "Buffer",
    "Byte",
    "Int",
    "Long",
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
]

#: The jute types, as annotations of record fields.
Boolean = bool
Byte = int
Int = int
Long = int
Ustring = str | None
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


def read_boolean(buf: Buf, offset: int) -> tuple[bool, int]:
    """Read one byte; any value but 0 is true."""
    try:
        return buf[offset] != 0, offset + 1
    except IndexError:
        raise ProtocolError(f"boolean cut short at byte {offset} of {len(buf)}") from None


def read_byte(buf: Buf, offset: int) -> tuple[int, int]:
    """Read one signed byte."""
    try:
        value = buf[offset]
    except IndexError:
        raise ProtocolError(f"byte cut short at byte {offset} of {len(buf)}") from None
    return (value - 256 if value > 127 else value), offset + 1


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


_FIXED = {"Boolean": "?", "Byte": "b", "Int": "i", "Long": "q"}
_VARIABLE: dict[str, tuple[_Reader, _Writer]] = {
    "Buffer": (read_buffer, pack_buffer),
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
    if name.startswith("Vector["):
        reader, writer = _field_codec(record, name[len("Vector[") : -1])
        return _vector_reader(reader), _vector_writer(writer)
    if name in _VARIABLE:
        return _VARIABLE[name]
    if name in _FIXED:
        packer = Struct(">" + _FIXED[name])
        return {"Int": read_int, "Long": read_long, "Boolean": read_boolean, "Byte": read_byte}[name], packer.pack
    inner = getattr(sys.modules[record.__module__], name)
    return (lambda buf, offset: decode(inner, buf, offset)), encode


@cache
def _codec(record: type) -> tuple[_Writer, Callable[[Buf, int], tuple[Any, int]]]:
    """Build the writer and the reader of a record type; runs of fixed-size fields share one C{Struct}."""
    names = _type_names(record)
    groups: list[tuple[Struct, int] | tuple[_Reader, _Writer]] = []
    position = 0
    while position < len(names):
        run = position
        while run < len(names) and names[run] in _FIXED:
            run += 1
        if run > position:
            groups.append((Struct(">" + "".join(_FIXED[name] for name in names[position:run])), run - position))
            position = run
        else:
            groups.append(_field_codec(record, names[position]))
            position += 1

    def write(value: Any) -> bytes:
        parts = []
        index = 0
        for head, tail in groups:
            if isinstance(head, Struct):
                parts.append(head.pack(*value[index : index + tail]))
                index += tail
            else:
                parts.append(tail(value[index]))
                index += 1
        return b"".join(parts)

    def read(buf: Buf, offset: int) -> tuple[Any, int]:
        values: list[Any] = []
        for head, _tail in groups:
            if isinstance(head, Struct):
                try:
                    values += head.unpack_from(buf, offset)
                except struct_error:
                    raise ProtocolError(f"{record.__name__} cut short at byte {offset} of {len(buf)}") from None
                offset += head.size
            else:
                value, offset = head(buf, offset)
                values.append(value)
        return record(*values), offset

    return write, read


def encode(record: Any) -> bytes:
    """Encode a record."""
    return _codec(type(record))[0](record)


def decode(record: type[_R], buf: Buf, offset: int = 0) -> tuple[_R, int]:
    """
    Decode one record.

    @return: the record and the offset behind it; what follows is the caller's to judge (requests ignore it).
    @raise ProtocolError: the bytes end early or hold a negative length.
    """
    return _codec(record)[1](buf, offset)
