"""
ACLs: the table of lists in use, the permission check, and what a list must be to be accepted.

Knows C{world}, C{auth} and C{super}; asks L{zktwisted.tree.schemes} about every other scheme.
Refuses to know nodes and requests: which permission an operation needs, and on which node, is decided elsewhere.

Rules: spec: server-semantics 4.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from zktwisted.errors import Code, KeeperError
from zktwisted.tree.schemes import DigestScheme, ForeignScheme, KeyScheme, Scheme, Schemes, generate_digest
from zktwisted.wire.proto import ACL, OPEN_ACL, Id

__all__ = ["AclList", "AclTable", "Schemes", "check", "fix_acl", "generate_digest", "is_super", "mask_digests"]

_ANYONE = Id("world", "anyone")
_NOBODY = (ACL(0, _ANYONE),)
_LONG = 1000
"""Comparisons beyond which it pays to look for the identities in another way."""
_EXACT = (DigestScheme, ForeignScheme, KeyScheme)
"""Schemes that are known to compare ids as they stand."""
_EXPANDED_MAX = 100_000
"""How many entries C{auth} may become: each of thousands stands for each of hundreds of identities."""


class AclList:
    """
    One ACL list that nodes share.

    @ivar index: its number in the table and in snapshots; -1 is world:anyone 31 on nodes the server made itself.
    @ivar acls: the entries, in order.
    @ivar world: the permissions that need no identity: all that are granted to world:anyone, and every bit for an
        empty list, which denies nothing (spec: server-semantics 4.1).  Test C{acl.world & perm} before L{check}.
    @ivar refs: how many nodes use it.
    """

    __slots__ = ("acls", "index", "refs", "world")

    def __init__(self, index: int, acls: Iterable[ACL]) -> None:
        self.index = index
        self.acls = tuple(acls)
        self.refs = 0
        world = 0 if self.acls else -1
        for entry in self.acls:
            if entry.id == _ANYONE:
                world |= entry.perms
        self.world = world

    def __repr__(self) -> str:
        return f"<AclList {self.index} {self.acls!r} refs={self.refs}>"


class AclTable:
    """
    The lists in use, each kept once, with numbers as snapshots write them.

    Numbers start at 1 and only grow, so that a fuzzy snapshot never sees one number mean two lists.

    @cvar OPEN_UNSAFE: world:anyone 31 under number -1.  It is in no table and is not counted.
    """

    __slots__ = ("_by_acls", "_by_index", "_next", "_open")

    OPEN_UNSAFE: ClassVar[AclList] = AclList(-1, (ACL(31, _ANYONE),))

    def __init__(self) -> None:
        self._by_acls: dict[tuple[ACL, ...], AclList] = {}
        self._by_index: dict[int, AclList] = {}
        self._next = 1
        # The entry of world:anyone 31, which nearly every node has: hashing a list costs more than all the rest.
        self._open: AclList | None = None

    def __len__(self) -> int:
        return len(self._by_index)

    def intern(self, acls: Sequence[ACL] | None) -> AclList:
        """
        Return the table's list with these entries and count one more use of it.

        @param acls: the entries; C{None} is L{OPEN_UNSAFE}.
        """
        if acls is None:
            return self.OPEN_UNSAFE
        if acls is OPEN_ACL and (found := self._open) is not None:
            found.refs += 1
            return found
        key = acls if type(acls) is tuple else tuple(acls)
        found = self._by_acls.get(key)
        if found is None:
            found = self._enter(self._next, key)
            self._next += 1
        found.refs += 1
        return found

    def find(self, acls: tuple[ACL, ...]) -> AclList:
        """Return the list with these entries without counting a use; one that is in no table, if it is new."""
        found = self._open if acls is OPEN_ACL and self._open is not None else self._by_acls.get(acls)
        return AclList(0, acls) if found is None else found

    def _enter(self, index: int, acls: tuple[ACL, ...]) -> AclList:
        made = AclList(index, acls)
        if self._by_acls.setdefault(made.acls, made) is made and made.acls == OPEN_ACL:
            self._open = made
        self._by_index[index] = made
        return made

    def use(self, index: int) -> AclList:
        """
        Return the list with a number and count one more use: how a snapshot's nodes find theirs.

        A snapshot is fuzzy: a node may carry a number that came up only after the table was written.  Such a number
        gets a list that denies everybody, until replaying the transaction that created the node gives it the
        right one.
        """
        if index == -1:
            return self.OPEN_UNSAFE
        found = self._by_index.get(index)
        if found is None:
            found = self._by_index[index] = AclList(index, _NOBODY)
            self._next = max(self._next, index + 1)
        found.refs += 1
        return found

    def get(self, index: int) -> AclList | None:
        """Return the list with a number without counting, C{None} if there is none."""
        return self.OPEN_UNSAFE if index == -1 else self._by_index.get(index)

    def release(self, acl: AclList) -> None:
        """Count one use less; a list without uses leaves the table."""
        if acl.index == -1:
            return
        acl.refs -= 1
        if acl.refs <= 0:
            self._forget(acl)

    def _forget(self, acl: AclList) -> None:
        if self._by_index.get(acl.index) is acl:
            del self._by_index[acl.index]
        if self._by_acls.get(acl.acls) is acl:
            del self._by_acls[acl.acls]
            if acl is self._open:
                self._open = None

    def load(self, index: int, acls: Sequence[ACL]) -> AclList:
        """
        Enter a list under the number that a snapshot gives it, without counting a use.

        Two numbers may carry equal lists; the first one entered is used from then on.
        """
        made = self._enter(index, tuple(acls))
        if index >= self._next:
            self._next = index + 1
        return made

    def items(self) -> list[tuple[int, AclList]]:
        """Return (number, list) for all lists but L{OPEN_UNSAFE}, in the order in which they were entered."""
        return list(self._by_index.items())

    def __iter__(self) -> Iterator[AclList]:
        return iter(list(self._by_index.values()))

    def purge_unused(self) -> int:
        """Forget the lists that no node uses, and return how many: what follows loading a snapshot."""
        unused = [acl for acl in self._by_index.values() if acl.refs <= 0]
        for acl in unused:
            self._forget(acl)
        return len(unused)

    def clear(self) -> None:
        """Forget everything, numbers included."""
        self._by_acls.clear()
        self._by_index.clear()
        self._next = 1
        self._open = None


def is_super(identities: Iterable[Id]) -> bool:
    """Tell whether one of the identities passes every check."""
    return any(identity.scheme == "super" for identity in identities)


def check(acl: AclList | None, perm: int, identities: Sequence[Id], schemes: Schemes, skip: bool = False) -> bool:
    """
    Tell whether a connection has a permission.

    @param acl: the node's list; C{None} denies nothing.
    @param perm: permission bits; holding one of them is enough (getACL asks for READ or ADMIN).
    @param identities: the connection's.
    @param skip: C{skipACL} is on: always true.
    """
    if skip or acl is None or acl.world & perm or is_super(identities):
        return True
    by_name = schemes.by_name
    if len(acl.acls) * len(identities) > _LONG:
        return _check_long(acl.acls, perm, identities, by_name)
    for perms, (scheme, acl_id) in acl.acls:
        if perms & perm:
            known = by_name.get(scheme)
            if known is not None:
                for identity in identities:
                    if identity.scheme == scheme and known.matches(identity.id, acl_id):
                        return True
    return False


def _check_long(acls: Iterable[ACL], perm: int, identities: Iterable[Id], by_name: Mapping[str, Scheme]) -> bool:
    """Do what L{check} does without comparing everything with everything: a client chooses how much both are."""
    held: dict[str, set[str]] = {}
    for scheme, identity in identities:
        held.setdefault(scheme, set()).add(identity)
    for perms, (scheme, acl_id) in acls:
        if perms & perm and scheme in held:
            known = by_name.get(scheme)
            if type(known) in _EXACT:
                if acl_id in held[scheme]:
                    return True
            elif known is not None and any(known.matches(each, acl_id) for each in held[scheme]):
                return True
    return False


def fix_acl(acls: Sequence[ACL] | None, identities: Sequence[Id], schemes: Schemes) -> tuple[ACL, ...]:
    """
    Return the list that is stored for what a client sent: duplicates dropped, C{auth} made into identities.

    @param acls: as decoded, possibly with null schemes and ids in it.
    @param identities: the connection's.

    @raise KeeperError: INVALIDACL; MARSHALLINGERROR for a null id where the scheme has to look at it, and for what
        becomes far too long.
    """
    if not acls:
        raise KeeperError(Code.INVALIDACL)
    if len(acls) == 1 and acls[0].id == _ANYONE:
        return (acls[0],)
    fixed: list[ACL] = []
    entry: Any  # of a client: a scheme or an id may be missing, whatever their types say
    for entry in dict.fromkeys(acls):
        perms, (scheme, acl_id) = entry
        if scheme == "world":
            # What cannot even be compared is an internal failure upstream, and clients see that code.
            if acl_id is None:
                raise KeeperError(Code.MARSHALLINGERROR)
            if acl_id != "anyone":
                raise KeeperError(Code.INVALIDACL)
            fixed.append(entry)
        elif scheme == "auth":
            expanded = [ACL(perms, each) for each in identities if _authenticated(each, schemes)]
            if not expanded:
                raise KeeperError(Code.INVALIDACL)
            fixed += expanded
            if len(fixed) > _EXPANDED_MAX:
                raise KeeperError(Code.MARSHALLINGERROR)
        else:
            known = None if scheme is None else schemes.get(scheme)
            if known is None:
                raise KeeperError(Code.INVALIDACL)
            if acl_id is None:
                raise KeeperError(Code.MARSHALLINGERROR)
            if not known.valid(acl_id):
                raise KeeperError(Code.INVALIDACL)
            fixed.append(entry)
    return tuple(fixed)


def _authenticated(identity: Id, schemes: Schemes) -> bool:
    known = schemes.get(identity.scheme)
    return known is not None and known.authenticated


def mask_digests(acls: Sequence[ACL]) -> tuple[ACL, ...]:
    """
    Return a list as getACL shows it to who lacks ADMIN: every digest id is C{user:x}.

    The hash would let its reader guess passwords.
    """
    return tuple(
        ACL(entry.perms, Id("digest", entry.id.id.partition(":")[0] + ":x")) if entry.id.scheme == "digest" else entry
        for entry in acls
    )
