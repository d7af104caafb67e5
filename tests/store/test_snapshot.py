"""Snapshot files around an opaque image (spec: storage 3)."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Iterator
from struct import pack
from zlib import adler32

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.store import golden
from zktwisted.errors import ProtocolError, StoreError
from zktwisted.store import snapshot
from zktwisted.store.disk import FileBytes
from zktwisted.store.snapshot import HEADER, SnapshotDigest, Trailer
from zktwisted.testing.disk import MemoryDisk

IMAGE = b"an image of any content"


def load_image(data: FileBytes, offset: int) -> int:
    """Accept only L{IMAGE}."""
    if data[offset : offset + len(IMAGE)] != IMAGE:
        raise ProtocolError("no image")
    return offset + len(IMAGE)


def file_of(trailer: Trailer) -> bytes:
    """Return a snapshot file, its image in two chunks."""
    return b"".join(snapshot.encode(iter((IMAGE[:5], IMAGE[5:])), lambda: trailer))


def sealed(*parts: bytes) -> bytes:
    """Return a snapshot file whose sections are given, each followed by a seal."""
    data = HEADER
    for part in parts:
        data += part
        data += pack(">q", adler32(data)) + b"\x00\x00\x00\x01/"
    return data


class NameTests(SynchronousTestCase):
    """File names and their order."""

    def test_names(self) -> None:
        """The method is told by the suffix; what is unknown is no compression."""
        for method, name in (
            ("", "snapshot.1a"),
            ("gz", "snapshot.1a.gz"),
            ("SNAPPY", "snapshot.1a.snappy"),
            ("lz4", "snapshot.1a"),
        ):
            self.assertEqual(snapshot.snapshot_name(0x1A, method), name)

    def test_order(self) -> None:
        """Newest first, by number."""
        files = snapshot.snapshot_files(["log.1", "snapshot.9", "snapshot.10.gz", "snapshot.x", "partial.snapshot.99"])
        self.assertEqual(files, [(0x10, "snapshot.10.gz"), (9, "snapshot.9")])


class TrailerTests(SynchronousTestCase):
    """What follows the image."""

    def test_every_combination(self) -> None:
        """Digest and last zxid are there or not, each told by the length that remains."""
        digest = SnapshotDigest(0x1234, 2, -5)
        for trailer, size in (
            (Trailer(digest, 0x1233), 54),
            (Trailer(digest, None), 33),
            (Trailer(None, 7), 21),
            (Trailer(None, None), 0),
        ):
            data = file_of(trailer)
            self.assertEqual(len(data), 16 + len(IMAGE) + 13 + size)
            self.assertEqual(snapshot.load("snapshot.1", data, load_image), trailer)

    def test_old_digest(self) -> None:
        """A digest of version 1 is a string of hexadecimal digits; its value is of no use, the rest is read."""
        old = pack(">qi", 9, 1) + pack(">i", 4) + b"12ab"
        self.assertEqual(
            snapshot.load("snapshot.1", sealed(IMAGE, old, pack(">q", 8)), load_image),
            Trailer(SnapshotDigest(9, 1, 0), 8),
        )
        self.assertEqual(snapshot.load("snapshot.1", sealed(IMAGE, old), load_image).last_zxid, None)

    def test_asked_at_the_end(self) -> None:
        """The trailer is asked for when the image has been taken, not before."""
        asked: list[str] = []

        def image() -> Iterator[bytes]:
            asked.append("chunk")
            yield IMAGE
            asked.append("end")

        def trailer() -> Trailer:
            asked.append("trailer")
            return Trailer(None, None)

        list(snapshot.encode(image(), trailer))
        self.assertEqual(asked, ["chunk", "end", "trailer"])

    def test_damage(self) -> None:
        """Any changed byte and any missing end is noticed."""
        data = file_of(Trailer(SnapshotDigest(1, 2, 3), 4))
        for at in range(len(data)):
            damaged = data[:at] + bytes((data[at] ^ 0x40,)) + data[at + 1 :]
            self.assertRaises(StoreError, snapshot.load, "snapshot.1", damaged, load_image)
        for size in range(len(data)):
            if size not in (16 + len(IMAGE) + 13, 16 + len(IMAGE) + 13 + 33):
                self.assertRaises(StoreError, snapshot.load, "snapshot.1", data[:size], load_image)

    def test_image_refused(self) -> None:
        """An image that makes no sense is a broken file, which the error names."""
        with self.assertRaises(StoreError) as caught:
            snapshot.load("snapshot.5", sealed(b"what?"), load_image)
        self.assertIn("snapshot.5: no image", str(caught.exception))

    @settings(deadline=None, derandomize=True, max_examples=200)
    @given(st.lists(st.binary(max_size=40), max_size=4), st.binary(max_size=20))
    def test_any_bytes(self, parts: list[bytes], end: bytes) -> None:
        """Whatever a file holds, only StoreError comes out."""
        for data in (sealed(*parts) + end, sealed(IMAGE, *parts), sealed(IMAGE, *parts) + end, end):
            try:
                snapshot.load("snapshot.1", data, load_image)
            except StoreError:
                continue


class CompressionTests(SynchronousTestCase):
    """Plain, gzip and snappy."""

    def compressed(self, method: str, chunks: list[bytes]) -> bytes:
        compressor = snapshot.compressor(method)
        assert compressor is not None
        return b"".join([*(compressor.compress(chunk) for chunk in chunks), compressor.flush()])

    def test_round_trip(self) -> None:
        """What was compressed in any chunks is read again, and passes the quick test."""
        for chunks in ([], [b"x"], [b"abc" * 30_000, b"", b"z" * 40_000]):
            for method in ("gz", "snappy"):
                disk, name = MemoryDisk(), snapshot.snapshot_name(1, method)
                disk.files[name] = self.compressed(method, chunks)
                self.assertTrue(snapshot.is_candidate(disk, name))
                self.assertEqual(snapshot.open_image(disk, name), b"".join(chunks))

    def test_plain(self) -> None:
        """No method, or an unknown one: the bytes as they are."""
        self.assertIsNone(snapshot.compressor(""))
        self.assertIsNone(snapshot.compressor("lz4"))

    def test_snappy_framing(self) -> None:
        """Java's stream header, then blocks of 32 KiB each with its length."""
        data = self.compressed("snappy", [b"a" * 32768, b"b"])
        self.assertEqual(data[:16].hex(), "82534e41505059000000000100000001")
        first = int.from_bytes(data[16:20], "big")
        self.assertEqual(int.from_bytes(data[20 + first : 24 + first], "big"), 3)

    def test_cut_short(self) -> None:
        """A compressed file that ends early is a StoreError."""
        for method in ("gz", "snappy"):
            whole = self.compressed(method, [b"some text, some text" * 5000])
            name = snapshot.snapshot_name(1, method)
            for size in (*range(30), len(whole) // 2, len(whole) - 1):
                disk = MemoryDisk()
                disk.files[name] = whole[:size]
                if size != 16 or method == "gz":
                    self.assertRaises(StoreError, snapshot.open_image, disk, name)

    @settings(deadline=None, derandomize=True, max_examples=100)
    @given(st.binary(max_size=60))
    def test_any_bytes(self, data: bytes) -> None:
        """Whatever a compressed file holds, only StoreError comes out."""
        for name, start in (
            ("snapshot.1.gz", b"\x1f\x8b\x08"),
            ("snapshot.1.snappy", bytes.fromhex("82534e4150505900")),
        ):
            disk = MemoryDisk()
            disk.files[name] = start + data
            try:
                snapshot.open_image(disk, name)
            except StoreError:
                continue

    def test_no_library(self) -> None:
        """Without its library, a snappy snapshot says what to install; the others are read."""
        before = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "cramjam"}
        self.addCleanup(sys.modules.update, before)
        self.addCleanup(sys.modules.pop, "cramjam")
        sys.modules["cramjam"] = None  # type: ignore[assignment]
        disk = MemoryDisk()
        disk.files["snapshot.1.snappy"] = bytes.fromhex("82534e41505059000000000100000001")
        disk.files["snapshot.1.gz"] = gzip.compress(b"x")
        with self.assertRaises(StoreError) as caught:
            snapshot.open_image(disk, "snapshot.1.snappy")
        self.assertIn("zktwisted[snappy]", str(caught.exception))
        self.assertRaises(StoreError, snapshot.compressor, "snappy")
        self.assertEqual(snapshot.open_image(disk, "snapshot.1.gz"), b"x")


class CandidateTests(SynchronousTestCase):
    """The quick test."""

    def test_cases(self) -> None:
        """A plain file ends with its terminator and is not tiny; the others begin with their magic."""
        for name, data, good in (
            ("snapshot.1", b"12345\x00\x00\x00\x01/", True),
            ("snapshot.1", b"1234\x00\x00\x00\x01/", False),
            ("snapshot.1", b"", False),
            ("snapshot.1", b"12345\x00\x00\x00\x01/\x00", False),
            ("snapshot.1.gz", b"\x1f\x8b", True),
            ("snapshot.1.gz", b"\x1f", False),
            ("snapshot.1.snappy", bytes.fromhex("82534e4150505900"), True),
            ("snapshot.1.snappy", bytes.fromhex("82534e41505059"), False),
        ):
            disk = MemoryDisk()
            disk.files[name] = data
            self.assertIs(snapshot.is_candidate(disk, name), good, (name, data))


class GoldenSnapshotTests(SynchronousTestCase):
    """Snapshots that ZooKeeper wrote: their frame; what is in them has its own tests."""

    def test_trailers(self) -> None:
        """Digest and last zxid are those that ZooKeeper reads; broken files are broken."""
        good = bad = 0
        for directory in golden.directories():
            disk = golden.disk(directory)
            for zxid, name in snapshot.snapshot_files(disk.names()):
                expected = golden.snapshot(directory, name)
                if "exception" in expected:
                    bad += 1
                    self.assertRaises(StoreError, self.trailer, disk, name)
                    continue
                good += 1
                trailer = self.trailer(disk, name)
                self.assertEqual(trailer.digest is not None, expected["hasZxidDigest"])
                self.assertEqual(trailer.last_zxid is not None, expected.get("hasLastProcessedZxid", False))
                self.assertIn(trailer.last_zxid, (None, zxid))
                digest = expected.get("digestFromSnapshot")
                if digest is not None:
                    self.assertEqual(trailer.digest, (int(digest["zxid"], 16), digest["version"], digest["digest"]))
        self.assertEqual((good, bad), (51, 8))

    def trailer(self, disk: MemoryDisk, name: str) -> Trailer:
        """Read a file, the image's end being where its first right seal is."""

        def find_end(data: FileBytes, offset: int) -> int:
            for end in range(offset, len(data) - 12):
                if data[end + 8 : end + 13] == b"\x00\x00\x00\x01/":
                    if adler32(data[:end]) == int.from_bytes(data[end : end + 8], "big"):
                        return end
            raise ProtocolError("no seal")

        return snapshot.load(name, snapshot.open_image(disk, name), find_end)
