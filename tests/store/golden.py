"""
Data directories that ZooKeeper left, as they were recorded: where they are and how to open them.

Each directory has the files themselves (some compressed to save space), what ZooKeeper's own classes read from each of
them, and the tree that it restores.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from zktwisted.testing.disk import MemoryDisk

STORAGE = Path(__file__).parent.parent / "golden" / "storage"


def directories() -> list[Path]:
    """Return every recorded directory."""
    return sorted(path.parent for path in STORAGE.rglob("manifest.json"))


def text(directory: Path, name: str) -> str | None:
    """Return a file's text, whether it is stored compressed or not; C{None} without it."""
    for path in (directory / name, directory / f"{name}.gz"):
        if path.exists():
            data = path.read_bytes()
            return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    return None


def tree(directory: Path) -> dict[str, Any]:
    """Return what ZooKeeper restores from the whole directory."""
    result = text(directory, "tree.expected.json")
    assert result is not None
    loaded: dict[str, Any] = json.loads(result)
    return loaded


def rows(directory: Path, log: str) -> list[dict[str, Any]]:
    """Return what ZooKeeper reads from one log: header, entries, and why it stopped."""
    result = text(directory, f"{log}.expected.jsonl")
    assert result is not None
    return [json.loads(line) for line in result.split("\n") if line]


def snapshot(directory: Path, name: str) -> dict[str, Any]:
    """Return what ZooKeeper reads from one snapshot."""
    result = text(directory, f"{name}.expected.json")
    assert result is not None
    loaded: dict[str, Any] = json.loads(result)
    return loaded


def files(directory: Path) -> dict[str, bytes]:
    """Return the original files of C{version-2}."""
    stored = {
        row["storedAs"]: row["file"]
        for row in json.loads((directory / "manifest.json").read_text(encoding="utf-8"))["files"]
        if "storedAs" in row
    }
    result: dict[str, bytes] = {}
    for path in sorted((directory / "data" / "version-2").iterdir()):
        original = stored.get(path.name) or stored.get(f"version-2/{path.name}")
        data = path.read_bytes()
        result[(original or path.name).rpartition("/")[2]] = data if original is None else gzip.decompress(data)
    return result


def disk(directory: Path) -> MemoryDisk:
    """Return a disk with the original files of C{version-2}."""
    result = MemoryDisk(directory.name)
    result.files.update(files(directory))
    return result


def laid_out(directory: Path, where: Path) -> Path:
    """Put the original files into C{where}/version-2 and return that."""
    target = where / "version-2"
    target.mkdir(parents=True)
    for name, data in files(directory).items():
        (target / name).write_bytes(data)
    return target
