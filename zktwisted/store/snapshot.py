"""
Snapshot files: header, seals and trailers around an opaque image, compression, and which files are worth reading.

A seal is the Adler-32 of all bytes before it, and the string C{/}.  The image (sessions, ACLs, nodes) is made and
read by others; here it is bytes whose end the reader of the image reports (spec: storage 3).

This module knows no tree, and touches files only through a L{Disk}.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from struct import Struct, error
from typing import NamedTuple, cast
from zlib import adler32

from zktwisted.errors import ProtocolError, StoreError
from zktwisted.store.disk import Compressor, Disk, FileBytes
from zktwisted.store.txnlog import zxid_of_name

__all__ = [
    "DIGEST_VERSION",
    "HEADER",
    "SnapshotDigest",
    "Trailer",
    "compressor",
    "encode",
    "is_candidate",
    "load",
    "open_image",
    "snapshot_files",
    "snapshot_name",
]

#: "ZKSN", version 2, dbid -1.
HEADER = bytes.fromhex("5a4b534e 00000002 ffffffffffffffff")
#: The digest algorithm that this and the Java server write (spec: storage 6).
DIGEST_VERSION = 2

_SLASH = b"\x00\x00\x00\x01/"
_SEAL = Struct(">q5s")
_DIGEST = Struct(">qiq")
_DIGEST_HEAD = Struct(">qi")
_INT = Struct(">i")
_LONG = Struct(">q")
_SUFFIXES = {"": "", "gz": ".gz", "snappy": ".snappy"}
_GZIP_MAGIC = b"\x1f\x8b"
_SNAPPY_MAGIC = b"\x82SNAPPY\x00"
_SNAPPY_HEADER = _SNAPPY_MAGIC + bytes.fromhex("0000000100000001")
_SNAPPY_BLOCK = 32 * 1024
#: An unreasonable block: a snapshot's blocks are 32 KiB before compression.
_SNAPPY_BLOCK_MAX = 1 << 26


class SnapshotDigest(NamedTuple):
    """The tree digest as it was when the snapshot had been written: after transaction C{zxid}."""

    zxid: int
    version: int
    value: int


class Trailer(NamedTuple):
    """What follows the image; a section that is C{None} is not there."""

    digest: SnapshotDigest | None
    last_zxid: int | None


def snapshot_name(zxid: int, method: str = "") -> str:
    """
    Name the snapshot of a zxid.

    @param method: C{gz} or C{snappy} in any case; anything else means no compression, as in ZooKeeper.
    """
    return f"snapshot.{zxid & 0xFFFFFFFFFFFFFFFF:x}{_SUFFIXES.get(method.lower(), '')}"


def snapshot_files(names: list[str]) -> list[tuple[int, str]]:
    """Pick the snapshots out of a directory, good or not, as (zxid, name), newest first."""
    return sorted(((zxid, name) for name in names if (zxid := zxid_of_name(name, "snapshot")) >= 0), reverse=True)


def is_candidate(disk: Disk, name: str) -> bool:
    """Say whether a file passes the quick test: it seems to be complete (spec: storage 3.2)."""
    data = disk.read(name)
    if name.endswith(".gz"):
        return data[:2] == _GZIP_MAGIC
    if name.endswith(".snappy"):
        return data[:8] == _SNAPPY_MAGIC
    return len(data) >= 10 and data[-5:] == _SLASH


def encode(chunks: Iterator[bytes], trailer: Callable[[], Trailer]) -> Iterator[bytes]:
    """
    Wrap an image into a snapshot file, chunk by chunk.

    @param trailer: asked once, when the last chunk of the image has been taken.
    """
    checksum = adler32(HEADER)
    yield HEADER
    for chunk in chunks:
        checksum = adler32(chunk, checksum)
        yield chunk
    digest, last_zxid = trailer()
    tail = _SEAL.pack(checksum, _SLASH)
    if digest is not None:
        tail += _DIGEST.pack(*digest)
        tail += _SEAL.pack(adler32(tail, checksum), _SLASH)
    if last_zxid is not None:
        tail += _LONG.pack(last_zxid)
        tail += _SEAL.pack(adler32(tail, checksum), _SLASH)
    yield tail


def load(name: str, data: FileBytes, load_image: Callable[[FileBytes, int], int]) -> Trailer:
    """
    Check a whole (uncompressed) snapshot file, have its image loaded, and return what follows it.

    The last seal covers everything, so damage is found before a single node is built.

    @param name: the file's name, for the error.
    @param load_image: gets the bytes and the offset of the image, returns the offset behind it; may raise
        L{ProtocolError} if the image makes no sense.
    @raise StoreError: the file is damaged.
    """
    try:
        return _load(data, load_image)
    except (ProtocolError, StoreError) as e:
        raise StoreError(f"problem reading snap file {name}: {e}") from e


def _load(data: FileBytes, load_image: Callable[[FileBytes, int], int]) -> Trailer:
    size = len(data)
    if size < len(HEADER) + _SEAL.size:
        raise StoreError(f"{size} bytes are too few for a snapshot")
    if data[:4] != HEADER[:4]:
        raise StoreError(f"invalid magic number {data[:4].hex()} of a snapshot")
    with memoryview(data) as view:
        _check_seal(view, size - _SEAL.size, 0, 1)
        offset = load_image(data, len(HEADER))
        try:
            return _read_trailer(view, offset)
        except error as e:
            raise StoreError(f"the snapshot ends inside what follows the image: {e}") from e


def _check_seal(view: memoryview, offset: int, start: int, checksum: int) -> int:
    """Compare the seal at C{offset}, C{checksum} covering what is before C{start}; return the sum up to C{offset}."""
    stored, slash = _SEAL.unpack_from(view, offset)
    with view[start:offset] as part:
        checksum = adler32(part, checksum)
    if slash != _SLASH or stored != checksum:
        raise StoreError(f"checksum mismatch in the snapshot's seal at offset {offset}")
    return checksum


def _read_trailer(view: memoryview, offset: int) -> Trailer:
    """
    Read the sections behind the image.

    Which of them are there is told by the length that remains.  The Java server goes by its own settings and rejects
    every snapshot when C{digest.enabled} was switched off in between (spec: storage 3.1).
    """
    checksum = _check_seal(view, offset, 0, 1)
    digest: SnapshotDigest | None = None
    last_zxid: int | None = None
    at = offset + _SEAL.size
    if len(view) - at not in (0, _LONG.size + _SEAL.size):
        zxid, version = _DIGEST_HEAD.unpack_from(view, at)
        if version >= DIGEST_VERSION:
            digest = SnapshotDigest(*_DIGEST.unpack_from(view, at))
            end = at + _DIGEST.size
        else:
            # Before version 2 the digest was a string of hexadecimal digits; nothing can be compared with it.
            (length,) = _INT.unpack_from(view, at + _DIGEST_HEAD.size)
            end = at + _DIGEST_HEAD.size + _INT.size + max(0, length)
            digest = SnapshotDigest(zxid, version, 0)
        checksum = _check_seal(view, end, offset, checksum)
        offset, at = end, end + _SEAL.size
    if len(view) != at:
        (last_zxid,) = _LONG.unpack_from(view, at)
        _check_seal(view, at + _LONG.size, offset, checksum)
    return Trailer(digest, last_zxid)


def open_image(disk: Disk, name: str) -> FileBytes:
    """
    Return the uncompressed bytes of a snapshot file; only a plain one is mapped, the others are unpacked in memory.

    @raise StoreError: the compression is broken, or what reads it is not installed.
    """
    data = disk.read(name)
    if name.endswith(".gz"):
        return _gunzip(data)
    if name.endswith(".snappy"):
        return _unsnappy(data)
    return data


def _gunzip(data: FileBytes) -> bytes:
    unzip = zlib.decompressobj(31)
    try:
        image = unzip.decompress(data)
    except zlib.error as e:
        raise StoreError(f"broken gzip data: {e}") from e
    if not unzip.eof:
        raise StoreError("the gzip data is cut short")
    return image


def _unsnappy(data: FileBytes) -> bytes:
    if data[:8] != _SNAPPY_MAGIC or len(data) < len(_SNAPPY_HEADER):
        raise StoreError("not a stream of snappy blocks")
    codec = _Snappy()
    blocks: list[bytes] = []
    offset, size = len(_SNAPPY_HEADER), len(data)
    while offset < size:
        if offset + _INT.size > size:
            raise StoreError("the snappy data is cut short")
        (length,) = _INT.unpack_from(data, offset)
        offset += _INT.size
        if not 0 <= length <= min(size - offset, _SNAPPY_BLOCK_MAX):
            raise StoreError(f"a snappy block cannot have {length} bytes")
        blocks.append(codec.decompress(data[offset : offset + length]))
        offset += length
    return b"".join(blocks)


class _Snappy:
    """The raw block format, by an optional library that is imported when first needed."""

    def __init__(self) -> None:
        try:
            from cramjam import snappy
        except ImportError as e:
            raise StoreError("snappy snapshots need the extra: pip install zktwisted[snappy]") from e
        self._codec = snappy

    def compress(self, block: bytes) -> bytes:
        return bytes(self._codec.compress_raw(block))

    def decompress(self, block: bytes) -> bytes:
        try:
            # The length that a block claims is checked first: a damaged one must not make us reserve gigabytes.
            if self._codec.decompress_raw_len(block) > _SNAPPY_BLOCK_MAX:
                raise StoreError("a snappy block claims an unreasonable length")
            return bytes(self._codec.decompress_raw(block))
        except StoreError:
            raise
        except Exception as e:
            raise StoreError(f"broken snappy data: {e}") from e


class _SnappyStream:
    """A L{Compressor} that writes the framing that Java's SnappyOutputStream has."""

    def __init__(self) -> None:
        self._codec = _Snappy()
        self._begun = False
        self._rest = b""

    def compress(self, data: bytes, /) -> bytes:
        data = self._rest + data
        whole = len(data) - len(data) % _SNAPPY_BLOCK
        self._rest = data[whole:]
        return self._blocks(data[:whole])

    def flush(self) -> bytes:
        rest, self._rest = self._rest, b""
        return self._blocks(rest)

    def _blocks(self, data: bytes) -> bytes:
        parts = [] if self._begun else [_SNAPPY_HEADER]
        self._begun = True
        for at in range(0, len(data), _SNAPPY_BLOCK):
            block = self._codec.compress(data[at : at + _SNAPPY_BLOCK])
            parts += (_INT.pack(len(block)), block)
        return b"".join(parts)


def compressor(method: str) -> Compressor | None:
    """
    Return what compresses a snapshot, C{None} for no compression.

    @param method: zookeeper.snapshot.compression.method; what is unknown means none.
    @raise StoreError: snappy without its library.
    """
    method = method.lower()
    if method == "gz":
        return cast(Compressor, zlib.compressobj(wbits=31))
    if method == "snappy":
        return _SnappyStream()
    return None
