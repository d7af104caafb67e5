"""
Paths: which ones may name a znode, and how they split.

Knows paths as the UTF-8 bytes that came from the wire.  Refuses to know which nodes exist.

Rules: spec: server-semantics 3.
"""

from __future__ import annotations

import re

from zktwisted.errors import Code, KeeperError

__all__ = ["RESERVED", "is_plain_name", "is_valid_path", "name_of", "parent_of", "split_path", "validate_path"]

#: The paths that no client may delete (spec: server-semantics 3.2), and the root as a tree key.
RESERVED = frozenset((b"/", b"", b"/zookeeper", b"/zookeeper/quota", b"/zookeeper/config"))

# Components of printable ASCII.  Atomic groups are Python 3.11's: nothing is ever tried twice.
_ASCII = re.compile(rb"(?>/(?!\.{1,2}(?:/|\Z))[ -.0-~]+)+")
# What validation refuses wherever it stands: controls, surrogates and the private use area, U+FFF0 to U+FFFF, and
# everything outside the BMP, which to Java is a pair of surrogates.
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\uf8ff\ufff0-\uffff\U00010000-\U0010ffff]")
_SHAPE = re.compile(r"(?>/(?!\.{1,2}(?:/|\Z))[^/]+)+")

_is_ascii_path = _ASCII.fullmatch
# One such component that does not begin with a dot.
_is_plain_name = re.compile(rb"[ -\-0-~][ -.0-~]*").fullmatch


def is_valid_path(path: bytes | None) -> bool:
    """Tell whether a path may name a node; C{b"/"} may, C{None} and C{b""} may not."""
    if path is None:
        return False
    if _is_ascii_path(path) or path == b"/":
        return True
    try:
        # A surrogate is no UTF-8: Python refuses it as Java's validation does.
        text = path.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return _SHAPE.fullmatch(text) is not None and _FORBIDDEN.search(text) is None


def is_plain_name(name: bytes) -> bool:
    """Tell quickly that a name may stand in a path; C{False} means that one has to look closer."""
    return _is_plain_name(name) is not None


def validate_path(path: bytes | None) -> None:
    """
    Check that a path may name a node.

    @raise KeeperError: BADARGUMENTS.
    """
    if path is None or not (_is_ascii_path(path) or is_valid_path(path)):
        raise KeeperError(Code.BADARGUMENTS)


def split_path(path: bytes) -> tuple[bytes, bytes]:
    """
    Return (parent, name) at the last slash, the parent as a tree key: C{b"/a"} gives C{(b"", b"a")}.

    Nothing is validated: creation looks for the parent before it judges the path.

    @raise KeeperError: BADARGUMENTS for a path without a slash or with a NUL byte in it.
    """
    parent, slash, name = path.rpartition(b"/")
    if not slash or b"\0" in path:
        raise KeeperError(Code.BADARGUMENTS)
    return b"" if parent == b"/" else parent, name


def parent_of(path: bytes) -> bytes:
    """Return the parent of a valid path as a tree key; the root is its own parent."""
    return path[: path.rfind(b"/")] if path else path


def name_of(path: bytes) -> bytes:
    """Return the last component of a path."""
    return path[path.rfind(b"/") + 1 :]
