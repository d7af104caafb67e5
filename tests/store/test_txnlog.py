"""The transaction log, byte by byte and damage by damage (spec: storage 2)."""

from __future__ import annotations

import json
from struct import pack
from zlib import adler32

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.store import golden
from tests.store.toy import Committed, entry
from zktwisted.errors import StoreError
from zktwisted.store.txnlog import (
    HEADER,
    End,
    LogReader,
    TxnLog,
    cut_offset,
    frame,
    last_logged_zxid,
    log_files,
    log_name,
    log_to_start_with,
    zxid_of_name,
)
from zktwisted.testing.disk import MemoryDisk


def log_of(*zxids: int, payload: bytes = b"", padding: int = 100) -> bytes:
    """Return a whole log file."""
    return HEADER + frame([(zxid, entry(zxid, payload)) for zxid in zxids]) + bytes(padding)


def read(data: bytes, max_entry: int = 2 * 0xFFFFF) -> tuple[list[int], LogReader]:
    """Return the zxids in a log, and the reader at its end."""
    reader = LogReader("log.1", data, max_entry)
    return [zxid for zxid, _ in reader], reader


class NameTests(SynchronousTestCase):
    """File names (spec: storage 1)."""

    def test_zxids(self) -> None:
        """Hexadecimal, signed, further parts tolerated, everything else ignored."""
        for name, zxid in {
            "log.1a": 0x1A,
            "log.5.bak": 5,
            "log.FF": 0xFF,
            "log.7fffffffffffffff": (1 << 63) - 1,
            "log.ffffffffffffffff": -1,
            "log.": -1,
            "log": -1,
            "log.0x5": -1,
            "log.1_0": -1,
            "log. 5": -1,
            "log.\u0661": -1,
            "snapshot.5": -1,
            "partial.log.5": -1,
        }.items():
            self.assertEqual(zxid_of_name(name, "log"), zxid, name)

    def test_recorded_names(self) -> None:
        """ZooKeeper's own parser agrees."""
        path = golden.STORAGE.parent / "tables" / "data_file_names.jsonl"
        with path.open(encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        self.assertEqual(len(rows), 16)
        for row in rows:
            self.assertEqual(zxid_of_name(row["name"], "log"), row["zxidAsLog"], row)
            self.assertEqual(zxid_of_name(row["name"], "snapshot"), row["zxidAsSnapshot"], row)

    def test_order(self) -> None:
        """Logs are in order of zxid, and replay begins with the newest that begins at the zxid or before."""
        logs = log_files(["log.10", "log.9", "snapshot.3", "log.100", "log.x"])
        self.assertEqual([name for _, name in logs], ["log.9", "log.10", "log.100"])
        for zxid, name in ((1, "log.9"), (9, "log.9"), (0x10, "log.10"), (0xFF, "log.10"), (0x100, "log.100")):
            self.assertEqual(logs[log_to_start_with(logs, zxid)][1], name)

    def test_name(self) -> None:
        """Names are lower case without padding, and unsigned."""
        self.assertEqual(log_name(0x10000001A), "log.10000001a")
        self.assertEqual(log_name(-1), "log.ffffffffffffffff")


class FormatTests(SynchronousTestCase):
    """The bytes."""

    def test_session_create(self) -> None:
        """The record of a session's creation is exactly the one that ZooKeeper wrote."""
        body = bytes.fromhex(
            "0100000cd8f10000 00000000 0000000000000001 000001a200f9cd01 fffffff6 00002710 00000002 0000000051c6d660"
        )
        self.assertEqual(frame([(1, body)]), bytes.fromhex("00000000d9f50abb 00000030") + body + b"\x42")

    def test_header(self) -> None:
        """The file header is ZKLG, version 2, dbid 0."""
        self.assertEqual(HEADER, b"ZKLG" + pack(">iq", 2, 0))

    def test_round_trip(self) -> None:
        """What was framed is read, and the padding ends it."""
        zxids, reader = read(log_of(1, 2, 3, payload=b"payload"))
        self.assertEqual(zxids, [1, 2, 3])
        self.assertIs(reader.end, End.PADDING)
        self.assertEqual(reader.last_zxid, 3)
        self.assertIsNone(reader.torn_note())


class DamageTests(SynchronousTestCase):
    """Each outcome of the table in spec: storage 2.5."""

    def test_torn(self) -> None:
        """A file that ends anywhere inside its last record has the records before it."""
        whole = log_of(1, 2, padding=0)
        first = len(log_of(1, padding=0))
        for size in range(first + 1, len(whole)):
            zxids, reader = read(whole[:size])
            self.assertEqual(zxids, [1])
            self.assertIs(reader.end, End.TORN)
            self.assertEqual(reader.offset, first)
            self.assertIsNone(reader.torn_note())

    def test_exact_end(self) -> None:
        """A file without padding ends with its last record."""
        zxids, reader = read(log_of(1, 2, padding=0))
        self.assertEqual((zxids, reader.end), ([1, 2], End.EOF))
        self.assertIsNone(reader.torn_note())

    def test_header_only(self) -> None:
        """A header alone is a log without records."""
        zxids, reader = read(HEADER)
        self.assertEqual((zxids, reader.end, reader.last_zxid), ([], End.EOF, -1))

    def test_partial_last(self) -> None:
        """A last record without its final byte was interrupted: nothing to report."""
        data = bytearray(log_of(1, 2))
        data[len(log_of(1, 2, padding=0)) - 1] = 0
        zxids, reader = read(bytes(data))
        self.assertEqual((zxids, reader.end), ([1], End.PARTIAL))
        self.assertIsNone(reader.torn_note())

    def test_partial_middle(self) -> None:
        """The same in the middle hides the rest, as in ZooKeeper, but is reported."""
        for payload in (b"", b"x" * 100_000):
            data = bytearray(log_of(1, 2, 3, payload=payload))
            data[len(log_of(1, 2, payload=payload, padding=0)) - 1] = 0
            zxids, reader = read(bytes(data))
            self.assertEqual((zxids, reader.end), ([1], End.PARTIAL))
            note = reader.torn_note()
            assert note is not None
            self.assertTrue(note.error)
            self.assertIn(f"at offset {len(log_of(1, payload=payload, padding=0))}:", note.text)
            self.assertIn(f"offset {len(log_of(1, 2, payload=payload, padding=0))};", note.text)

    def test_zeroed_middle(self) -> None:
        """Zeros where a record was end the file, and the records behind them are reported."""
        first, second = len(log_of(1, padding=0)), len(log_of(1, 2, padding=0))
        data = bytearray(log_of(1, 2, 3))
        data[first:second] = bytes(second - first)
        zxids, reader = read(bytes(data))
        self.assertEqual((zxids, reader.end), ([1], End.PADDING))
        note = reader.torn_note()
        assert note is not None
        self.assertIn(f"offset {second};", note.text)

    def test_length_beyond_the_file(self) -> None:
        """A length beyond the end of the file, but not unreasonable, ends it; what it hides is reported."""
        first = len(log_of(1, padding=0))
        data = bytearray(log_of(1, 2, 3))
        data[first + 8 : first + 12] = pack(">i", 5000)
        zxids, reader = read(bytes(data))
        self.assertEqual((zxids, reader.end), ([1], End.TORN))
        self.assertIsNotNone(reader.torn_note())

    def test_checksum(self) -> None:
        """A wrong checksum with the final byte in place is no crash: fatal, also in the last record."""
        for record in (1, 2):
            data = bytearray(log_of(1, 2))
            data[len(log_of(*range(1, record + 1), padding=0)) - 3] ^= 1
            with self.assertRaises(StoreError) as caught:
                read(bytes(data))
            self.assertIn("CRC check failed in log.1 at offset", str(caught.exception))

    def test_checksum_has_eight_bytes(self) -> None:
        """The upper half of the stored checksum counts."""
        data = bytearray(log_of(1))
        data[16] = 1
        self.assertRaises(StoreError, read, bytes(data))

    def test_unreasonable_length(self) -> None:
        """A negative length and one above the limit are fatal."""
        for length in (-1, -(1 << 31), 2 * 0xFFFFF + 1):
            with self.assertRaises(StoreError) as caught:
                read(HEADER + pack(">qi", 0, length) + bytes(100))
            self.assertIn(f"Unreasonable length = {length}", str(caught.exception))
        zxids, _ = read(log_of(1), max_entry=len(entry(1)))
        self.assertEqual(zxids, [1])
        self.assertRaises(StoreError, read, log_of(1), len(entry(1)) - 1)

    def test_no_transaction_header(self) -> None:
        """A valid record that is too short to be a transaction is fatal."""
        self.assertRaises(StoreError, read, HEADER + pack(">qi", adler32(b"short"), 5) + b"shortB")

    def test_file_header(self) -> None:
        """No header, or another one, is fatal."""
        for size in range(len(HEADER)):
            self.assertRaises(StoreError, LogReader, "log.1", HEADER[:size])
        with self.assertRaises(StoreError) as caught:
            LogReader("log.1", b"ZKLX" + HEADER[4:])
        self.assertIn("log.1 has invalid magic number 1514884184 != 1514884167", str(caught.exception))

    def test_version_and_dbid_are_ignored(self) -> None:
        """Only the magic counts."""
        zxids, _ = read(HEADER[:4] + b"\xff" * 12 + log_of(4)[16:])
        self.assertEqual(zxids, [4])

    @settings(deadline=None, derandomize=True, max_examples=200)
    @given(st.binary(max_size=300))
    def test_any_bytes(self, data: bytes) -> None:
        """Whatever a file holds, only StoreError comes out of reading it."""
        for prefix in (b"", HEADER, log_of(1, padding=0)):
            try:
                _, reader = read(prefix + data)
                reader.torn_note()
            except StoreError:
                continue

    @settings(deadline=None, derandomize=True, max_examples=200)
    @given(st.integers(0, 400), st.binary(min_size=1, max_size=16))
    def test_any_damage(self, at: int, garbage: bytes) -> None:
        """Overwritten bytes never lead to a record that was not written."""
        data = log_of(1, 2, 3, 4, payload=b"some payload")
        damaged = data[:at] + garbage + data[at + len(garbage) :]
        try:
            found = list(LogReader("log.1", damaged))
        except StoreError:
            return
        written = [(zxid, entry(zxid, b"some payload")) for zxid in (1, 2, 3, 4)]
        self.assertEqual(found, written[: len(found)])


class WriteTests(SynchronousTestCase):
    """Files as they grow."""

    def setUp(self) -> None:
        self.disk = MemoryDisk()
        self.done = Committed()

    def write(self, log: TxnLog, *zxids: int, payload: bytes = b"") -> None:
        for zxid in zxids:
            log.append([(zxid, entry(zxid, payload))])
        log.commit(self.done)

    def test_lazy(self) -> None:
        """Nothing is created before the first entry; the file is named after that."""
        log = TxnLog(self.disk, 4)
        log.commit(self.done)
        self.assertEqual((self.disk.names(), self.done.results), ([], [None]))
        self.write(log, 0x1F, 0x20)
        self.assertEqual(self.disk.names(), ["log.1f"])
        self.assertEqual(read(self.disk.files["log.1f"])[0], [0x1F, 0x20])

    def test_preallocation(self) -> None:
        """A file first has its header and one step of padding, then grows by steps when little is left."""
        log = TxnLog(self.disk, 64)
        self.write(log, 1)
        self.assertEqual(len(self.disk.files["log.1"]), 16 + 65536)
        self.assertEqual(log.size, 16 + 65536)
        self.write(log, 2, payload=b"x" * 62_000)
        self.assertEqual(log.size, 16 + 65536)
        self.write(log, 3)
        self.assertEqual(log.size, 16 + 2 * 65536)
        self.assertEqual(len(self.disk.files["log.1"]), log.size)
        self.assertEqual(read(self.disk.files["log.1"])[0], [1, 2, 3])

    def test_preallocation_overtaken(self) -> None:
        """After a batch larger than the padding, the size is a multiple of the step."""
        log = TxnLog(self.disk, 64)
        self.write(log, 1, payload=b"x" * 100_000)
        self.write(log, 2)
        self.assertEqual(log.size, 2 * 65536)
        self.assertEqual(read(self.disk.files["log.1"])[0], [1, 2])

    def test_no_preallocation(self) -> None:
        """Zero or less: no padding."""
        for kib in (0, -1):
            disk = self.disk = MemoryDisk()
            self.write(TxnLog(disk, kib), 1)
            self.assertEqual(disk.files["log.1"], log_of(1, padding=0))

    def test_default_size(self) -> None:
        """By default a log has 64 MiB and its header."""
        log = TxnLog(self.disk)
        self.write(log, 1)
        self.assertEqual(log.size, 67_108_880)

    def test_roll(self) -> None:
        """After a roll the next entry begins a file; what was not yet committed stays in the old one."""
        log = TxnLog(self.disk, 4)
        self.write(log, 1)
        log.append([(2, entry(2))])
        log.roll()
        self.assertEqual((log.size, log.records), (0, 0))
        self.write(log, 3)
        self.assertEqual(self.disk.names(), ["log.1", "log.3"])
        self.assertEqual(read(self.disk.files["log.1"])[0], [1, 2])
        self.assertEqual(last_logged_zxid(self.disk), 3)

    def test_one_flush_in_flight(self) -> None:
        """What is committed while a flush is on its way goes with the next one, all together."""
        disk = self.disk = MemoryDisk(hold=True)
        log = TxnLog(disk, 4)
        for zxid in range(1, 6):
            self.write(log, zxid)
        self.assertEqual((disk.flushes, self.done.results), (1, []))
        disk.complete()
        self.assertEqual((disk.flushes, self.done.results), (2, [None]))
        log.commit(self.done)
        disk.complete()
        self.assertEqual((disk.flushes, self.done.results), (2, [None] * 6))


class LastLoggedTests(SynchronousTestCase):
    """The highest zxid on disk."""

    def test_cases(self) -> None:
        """The last record counts, else the name, else there is no log."""
        disk = MemoryDisk()
        self.assertEqual(last_logged_zxid(disk), -1)
        disk.files["log.5"] = HEADER
        self.assertEqual(last_logged_zxid(disk), 5)
        disk.files["log.6"] = log_of(6, 7, 8)
        self.assertEqual(last_logged_zxid(disk), 8)
        disk.files["log.9"] = b""
        self.assertEqual(last_logged_zxid(disk), 9)


class CutTests(SynchronousTestCase):
    """Where a log is cut."""

    def test_keeps_up_to_the_zxid(self) -> None:
        """All records up to the zxid are kept, and no other, whether one has exactly that zxid or not."""
        data = log_of(2, 4, 6)
        for zxid, kept in ((1, []), (2, [2]), (3, [2]), (4, [2, 4]), (5, [2, 4]), (6, [2, 4, 6]), (9, [2, 4, 6])):
            offset = cut_offset(LogReader("log.2", data), zxid)
            self.assertEqual(read(data[:offset])[0], kept)


class GoldenLogTests(SynchronousTestCase):
    """Logs that ZooKeeper wrote, and what it reads from them."""

    def test_entries(self) -> None:
        """Every entry at its offset, byte for byte; framed again they are the same file."""
        seen = 0
        unreadable: list[str] = []
        for directory in golden.directories():
            for name, data in golden.files(directory).items():
                if not name.startswith("log."):
                    continue
                rows = golden.rows(directory, name)[1:]
                entries: list[tuple[int, bytes]] = []
                try:
                    reader = LogReader(name, data)
                    for row, (zxid, found) in zip(rows, reader, strict=False):
                        self.assertEqual((hex(zxid), found.hex()), (row["zxid"], row["entry"]), directory.name)
                        self.assertEqual(reader.offset, row["offset"] + 13 + len(found))
                        entries.append((zxid, found))
                except StoreError:
                    unreadable.append(directory.name)
                    if entries:
                        self.assertFalse(rows[len(entries)]["crcOk"])
                else:
                    self.assertEqual(data[: reader.offset], HEADER + frame(entries))
                    seen += len(entries)
        self.assertEqual(seen, 4116)
        self.assertEqual(
            sorted(set(unreadable)), ["bad_magic", "corrupt_body_mid", "corrupt_crc_mid", "empty", "header_short"]
        )
