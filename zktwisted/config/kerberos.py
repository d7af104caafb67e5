"""
The names of Kerberos: principals, and what they are called here.

A principal is C{name/host@REALM} or C{name@REALM}.  The rules of C{security.auth_to_local} make a short name of it,
as those of Java's server do, and two settings say whether host and realm are kept behind that.

Of a rule C{RULE:[2:$1;$2](ann;.*)s/;.*//} the brackets say to how many components it applies and what is made of them
(C{$0} is the realm), the expression in parentheses has to fit that as a whole, and the rest replaces a part of it.
C{DEFAULT} takes the name of whoever is of the realm of this machine.  The first rule that applies counts.

This module knows text.  It refuses to know what a realm vouches for, and who asks.

Rules: spec: client-protocol 9.3; what the spec leaves open was asked of Java's C{KerberosName}.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["DEFAULT_RULES", "KerberosLogin", "KerberosNames", "NoNameError", "Principal", "parse_principal"]

DEFAULT_RULES = "DEFAULT"
"""What counts where nothing is written."""

_PRINCIPAL = re.compile(r"(?P<name>[^/@]*)(?:/(?P<host>[^/@]*))?@(?P<realm>[^/@]*)")
_RULE = re.compile(
    r"""\s*(?: (?P<default>DEFAULT)
      | RULE:\[(?P<count>[0-9]+):(?P<form>[^\]]*)\]
        (?:\((?P<fits>[^)]*)\))?
        (?:s/(?P<old>[^/]*)/(?P<new>[^/]*)/(?P<all>g)?)? )""",
    re.VERBOSE,
)
_REFERENCE = re.compile(r"\$([0-9]*)")
_REPLACEMENT = re.compile(r"\\(?P<literal>.)|\$(?P<group>[0-9])|(?P<stray>[\\$])", re.DOTALL)


class NoNameError(ValueError):
    """A principal has no name here; the message says why, without the principal."""


class KerberosLogin(NamedTuple):
    """
    As whom to be known to others by Kerberos, and where the key for that is.

    One of the two files is there; what is named C{None} is where Kerberos keeps it on this machine.
    """

    #: C{None}: whoever the tickets are for.
    principal: str | None
    use_keytab: bool
    keytab: str | None = None
    use_cache: bool = False
    cache: str | None = None


class Principal(NamedTuple):
    """The parts of a name; one without a realm has no host either, as in Java."""

    name: str
    host: str | None = None
    realm: str | None = None


def parse_principal(text: str) -> Principal:
    """
    Take a name apart.

    @raise NoNameError: it has a realm, and another form than C{name/host@REALM}.
    """
    found = _PRINCIPAL.fullmatch(text)
    if found is not None:
        return Principal(found["name"], found["host"], found["realm"])
    if "@" in text:
        raise NoNameError("it is no name/host@REALM")
    return Principal(text)


class _Rule(NamedTuple):
    """One rule; it is C{DEFAULT} if C{components} is C{None}."""

    components: int | None
    form: str = ""
    fits: re.Pattern[str] | None = None
    change: Callable[[str], str] = str

    def apply(self, parts: list[str], realm: str) -> str | None:
        """
        What it makes of a principal: C{None} if it does not apply.

        @param parts: the realm, and the components.
        @param realm: that of this machine.
        """
        if self.components is None:
            return parts[1] if parts[0] == realm else None
        if len(parts) - 1 != self.components:
            return None
        text = _REFERENCE.sub(lambda found: parts[int(found[1])], self.form)
        if self.fits is not None and self.fits.fullmatch(text) is None:
            return None
        return self.change(text)


class KerberosNames:
    """What principals are called here."""

    def __init__(
        self,
        rules: str = DEFAULT_RULES,
        default_realm: str = "",
        *,
        remove_host: bool = False,
        remove_realm: bool = False,
    ) -> None:
        """
        @param rules: as in C{security.auth_to_local}; without any no principal has a name.
        @param default_realm: the realm of this machine; empty if it has none.
        @raise ValueError: a rule cannot be read; the message says which and why.
        """
        self._rules = _parse(rules)
        self._default_realm = default_realm
        self._remove_host = remove_host
        self._remove_realm = remove_realm

    def short_name(self, principal: Principal) -> str:
        """
        What the rules make of a principal.

        @raise NoNameError: none of them applies, or the one that does leaves a host or a realm.
        """
        name, host, realm = principal
        if host is None and realm is None:
            return name
        parts = [realm or "", name] if host is None else [realm or "", name, host]
        for rule in self._rules:
            made = rule.apply(parts, self._default_realm)
            if made is not None:
                if "/" in made or "@" in made:
                    raise NoNameError("what a rule makes of it is still no simple name")
                return made
        raise NoNameError("no rule of security.auth_to_local applies to it")

    def identity(self, text: str) -> str:
        """
        The id that the scheme C{sasl} has for a principal: its short name, with host and realm unless they are removed.

        @raise NoNameError: it has none.
        """
        principal = parse_principal(text)
        made = self.short_name(principal)
        if principal.host is not None and not self._remove_host:
            made += f"/{principal.host}"
        if principal.realm is not None and not self._remove_realm:
            made += f"@{principal.realm}"
        return made


def _parse(text: str) -> list[_Rule]:
    rules: list[_Rule] = []
    rest = text.strip()
    while rest:
        found = _RULE.match(rest)
        if found is None:
            raise ValueError(f"there is no such rule: {rest.strip()}")
        rules.append(_Rule(None) if found["default"] else _rule(found))
        rest = rest[found.end() :]
    return rules


def _rule(found: re.Match[str]) -> _Rule:
    count = int(found["count"])
    for reference in _REFERENCE.finditer(found["form"]):
        if not reference[1] or int(reference[1]) > count:
            raise ValueError(f"a rule for {count} components has no {reference[0]}: {found[0].strip()}")
    fits = None if found["fits"] is None else _pattern(found["fits"])
    if found["old"] is None:
        return _Rule(count, found["form"], fits)
    old = _pattern(found["old"])
    new = _replacement(found["new"], old.groups)
    return _Rule(count, found["form"], fits, lambda text: old.sub(new, text, 0 if found["all"] else 1))


def _pattern(text: str) -> re.Pattern[str]:
    """An expression that means the same in Java and here, as far as can be told."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # sets within sets, which Java has and we have not
            return re.compile(text, re.ASCII)
    except (re.error, Warning) as error:
        raise ValueError(f"the expression {text} is not understood: {error}") from None


def _replacement(text: str, groups: int) -> Callable[[re.Match[str]], str]:
    """What stands for what was found: C{$1} is a group there, and a backslash takes its meaning from what follows."""
    for found in _REPLACEMENT.finditer(text):
        if found["stray"] or (found["group"] and int(found["group"]) > groups):
            raise ValueError(f"a replacement refers to something that is not there: {text}")

    def replace(match: re.Match[str]) -> str:
        return _REPLACEMENT.sub(lambda found: found["literal"] or match[int(found["group"])] or "", text)

    return replace
