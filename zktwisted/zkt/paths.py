"""
Paths of nodes as people write them: which can be, and how they are put together.

Rules: spec: server-semantics 1.1.
"""

from __future__ import annotations

from zktwisted.zkt.status import Problem, Status

__all__ = ["Key", "at", "check_path", "join", "key_of", "parent"]

Key = tuple[str, ...]
"""A path below some root, name by name.  In the order of these a parent stands before all that is below it."""


def check_path(path: str, sequential: bool = False) -> str:
    """
    Return a path that can be one.

    @param sequential: a number is put behind it, so it may end with a slash.
    @raise Problem: it cannot.
    """
    wrong: str | None = None
    if not path.startswith("/"):
        wrong = "a path begins with /"
    elif path != "/" and path.endswith("/") and not sequential:
        wrong = "a path does not end with /"
    elif "//" in path:
        wrong = "there is a name missing between two slashes"
    elif any(name in (".", "..") for name in path.split("/")):
        wrong = "there are no relative paths: neither . nor .. can be a name"
    elif any(_forbidden(letter) for letter in path):
        wrong = "it has a character that names of nodes cannot have"
    if wrong is not None:
        raise Problem(Status.USAGE, wrong, path=path if path.isprintable() and path else repr(path))
    return path


def _forbidden(letter: str) -> bool:
    # Beyond 0xFFFF letters are two halves to Java, neither of which it takes.
    code = ord(letter)
    return code < 0x20 or 0x7F <= code <= 0x9F or 0xD800 <= code <= 0xF8FF or code >= 0xFFF0


def join(path: str, name: str) -> str:
    """Return the path of a child."""
    return f"/{name}" if path == "/" else f"{path}/{name}"


def parent(path: str) -> str:
    """Return what is above; the root's is the root."""
    return path[: path.rindex("/")] or "/"


def key_of(path: str, root: str = "/") -> Key:
    """Return the names from C{root}, which C{path} is at or below, to C{path}."""
    rest = path if root == "/" else path[len(root) :]
    return tuple(name for name in rest.split("/") if name)


def at(root: str, key: Key) -> str:
    """Return the path of a key below a root; the other way round of L{key_of}."""
    if not key:
        return root
    return ("" if root == "/" else root) + "/" + "/".join(key)
