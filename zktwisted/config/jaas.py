"""
JAAS files: the names and passwords that a Java server's C{java.security.auth.login.config} holds.

::

    Server {
        org.apache.zookeeper.server.auth.DigestLoginModule required
        user_super="adminsecret"
        user_bob="bobsecret";
    };
    QuorumLearner {
        org.apache.zookeeper.server.auth.DigestLoginModule required
        username="test" password="testsecret";
    };

Read as Java's C{ConfigFile} reads them: strings in either kind of quotes with C's escapes, comments of C++, one or more
modules a section.  Of the modules C{DigestLoginModule} and C{Krb5LoginModule} mean something here; a section with both
is one of Kerberos, as in Java.  What a file keeps secret is in no message and in no C{repr}.

This module knows the form of the file and the options of those modules; it does not know what authentication is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from zktwisted.config.kerberos import KerberosLogin, NoNameError, parse_principal
from zktwisted.errors import ConfigError

__all__ = ["JAAS_KEY", "Jaas", "Login", "LoginModule", "Users", "parse_jaas", "read_jaas"]

JAAS_KEY = "java.security.auth.login.config"
"""The setting that names the file."""

_DIGEST = "DigestLoginModule"
_KERBEROS = "Krb5LoginModule"
_KEYTAB_EXAMPLE = 'write useKeyTab=true keyTab="FILE" principal="SERVICE/HOST@REALM"'
_KEYTAB_BEGINNING = b"\x05"
_FLAGS = ("required", "requisite", "sufficient", "optional")
_EXAMPLE = 'write: Section { org.apache.zookeeper.server.auth.DigestLoginModule required user_NAME="PASSWORD"; };'

_TOKEN = re.compile(
    r"""(?P<space>[\s\x00]+ | //[^\r\n]* | /\*.*?\*/)
      | (?P<quoted>"(?:[^"\\\r\n]|\\[^\r\n])*" | '(?:[^'\\\r\n]|\\[^\r\n])*')
      | (?P<word>[^\s\x00"'={};,/]+)
      | (?P<sign>[={};])""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\([0-3][0-7]{0,2}|[4-7][0-7]?|.)", re.DOTALL)
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


class Users:
    """
    Names with their passwords.

    @ivar names: the names, sorted.
    """

    __slots__ = ("_passwords", "names")

    def __init__(self, passwords: Mapping[str, str]) -> None:
        self._passwords = dict(passwords)
        self.names = tuple(sorted(passwords))

    def password(self, name: str) -> str | None:
        """Return a user's password, C{None} for somebody unknown."""
        return self._passwords.get(name)

    def with_user(self, name: str, password: str) -> Users:
        """Return the same users and another one; if the name is there, with this password in place of its own."""
        return Users({**self._passwords, name: password})

    def __repr__(self) -> str:
        return f"<Users: {', '.join(self.names)}>"


class Login:
    """
    With what to log in at another server.

    @ivar username: the name.
    @ivar password: its password, which is not shown.
    """

    __slots__ = ("password", "username")

    def __init__(self, username: str, password: str) -> None:
        self.username = username
        self.password = password

    def __repr__(self) -> str:
        return f"<Login: {self.username}>"


class LoginModule:
    """
    One module of a section.

    @ivar name: its class.
    @ivar options: what it is given; values may be secret.
    @ivar line: where it begins, from 1.
    """

    __slots__ = ("line", "name", "options")

    def __init__(self, name: str, options: Mapping[str, str], line: int) -> None:
        self.name = name
        self.options = dict(options)
        self.line = line

    @property
    def simple(self) -> str:
        """Its class without the package."""
        return self.name.rpartition(".")[2]

    def switch(self, option: str) -> bool:
        """
        An option that is true or false; false if it is not there.

        @raise ValueError: it is neither.
        """
        value = self.options.get(option, "false").lower()
        if value not in ("true", "false"):
            raise ValueError(f"{option} is neither true nor false")
        return value == "true"

    def __repr__(self) -> str:
        return f"<LoginModule {self.name}: {', '.join(sorted(self.options))}>"


class Jaas:
    """
    A file of sections.

    @ivar file: its path, C{None} for a text from elsewhere.
    @ivar sections: the modules of each section, by its name.
    """

    def __init__(self, sections: Mapping[str, tuple[LoginModule, ...]], file: str | None = None) -> None:
        self.file = file
        self.sections = dict(sections)

    def users(self, section: str) -> Users:
        """
        The users that a section lets in: its options C{user_NAME="PASSWORD"}.

        @raise ConfigError: there is no such section, or it holds no users.
        """
        passwords = {
            name.removeprefix("user_"): value
            for module in self._modules(section)
            for name, value in module.options.items()
            if name.startswith("user_")
        }
        if not passwords:
            raise self._error(section, "has no users", 'add user_NAME="PASSWORD" before the semicolon')
        return Users(passwords)

    def login(self, section: str) -> Login:
        """
        With what a section logs in: its options C{username} and C{password}.

        @raise ConfigError: there is no such section, or one of the options is missing.
        """
        for module in self._modules(section):
            username, password = module.options.get("username"), module.options.get("password")
            if username is not None and password is not None:
                return Login(username, password)
        raise self._error(section, "has no username with a password", 'add username="NAME" password="PASSWORD"')

    def accepting(self, section: str) -> Users | KerberosLogin:
        """
        Who a section lets in: its users, or those for whom Kerberos vouches to the principal that it names.

        @raise ConfigError: there is no such section, or it does not say it.
        """
        module = self._kerberos(section)
        if module is None:
            return self.users(section)
        login = self._kerberos_login(section, module)
        if not login.use_keytab or login.principal is None:
            raise self._error(section, "does not say where its key is", _KEYTAB_EXAMPLE)
        principal = login.principal
        try:
            host = parse_principal(principal if "@" in principal else f"{principal}@").host
        except NoNameError:
            host = None
        if not host:
            raise self._error(section, f"has the principal {principal}, which is no service", _KEYTAB_EXAMPLE)
        return login

    def calling(self, section: str) -> Login | KerberosLogin:
        """
        With what a section logs in.

        @raise ConfigError: there is no such section, or it does not say it.
        """
        module = self._kerberos(section)
        if module is None:
            return self.login(section)
        login = self._kerberos_login(section, module)
        if login.use_keytab and (login.principal is None or login.keytab is None):
            raise self._error(section, "does not say where its key is, and of whom", _KEYTAB_EXAMPLE)
        if not login.use_keytab and not login.use_cache:
            remedy = f"{_KEYTAB_EXAMPLE}, or useTicketCache=true"
            raise self._error(section, "has neither key nor tickets, and nobody to ask for a password", remedy)
        return login

    def _kerberos(self, section: str) -> LoginModule | None:
        return next((module for module in self._modules(section) if module.simple == _KERBEROS), None)

    def _kerberos_login(self, section: str, module: LoginModule) -> KerberosLogin:
        options = module.options
        try:
            use_keytab, use_cache = module.switch("useKeyTab"), module.switch("useTicketCache")
        except ValueError as error:
            raise self._error(section, f"has a module whose option {error}", "write true or false") from None
        keytab = options.get("keyTab", "").removeprefix("FILE:")
        cache = options.get("ticketCache", "").removeprefix("FILE:")
        login = KerberosLogin(options.get("principal"), use_keytab, keytab or None, use_cache, cache or None)
        if login.use_keytab and login.keytab is not None:
            try:
                with open(login.keytab, "rb") as file:
                    beginning = file.read(1)
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or str(error)
                remedy = "name a keytab that this user can read"
                raise self._error(section, f"names {keytab}, which cannot be read: {reason}", remedy) from error
            if beginning != _KEYTAB_BEGINNING:
                raise self._error(section, f"names {keytab}, which is no keytab", "write one with kadmin's ktadd")
        return login

    def _modules(self, section: str) -> tuple[LoginModule, ...]:
        modules = self.sections.get(section)
        if modules is None:
            there = ", ".join(self.sections) or "none"
            raise ConfigError(
                f"there is no section {section}", file=self.file, remedy=f"add it; the sections that are there: {there}"
            )
        for module in modules:
            if module.simple not in (_DIGEST, _KERBEROS):
                raise self._error(section, f"asks for {module.name}, which is not known", f"use {_DIGEST}")
        return modules

    def _error(self, section: str, what: str, remedy: str) -> ConfigError:
        line = self.sections[section][0].line
        return ConfigError(f"section {section} {what}", file=self.file, line=line, remedy=remedy)


def read_jaas(path: str | os.PathLike[str]) -> Jaas:
    """
    Read a JAAS file.

    @raise ConfigError: it cannot be read, or is none; the file and mostly the line are set.
    """
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:
            data = file.read()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"cannot be read: {reason}", file=name, remedy="name a JAAS file that this user can read"
        ) from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        # Not from the error: it would carry the whole file along.
        raise ConfigError("it is not written in UTF-8", file=name, line=line, remedy="convert it to UTF-8") from None
    return parse_jaas(text, name)


def parse_jaas(text: str, file: str | None = None) -> Jaas:
    """
    Parse the text of a JAAS file.

    @param file: where it stood, for messages.
    @raise ConfigError: it has another form; C{file} and C{line} are set.
    """
    try:
        return Jaas(_Parser(text).sections(), file)
    except ConfigError as error:
        error.file = file
        raise


class _Token(NamedTuple):
    kind: str
    text: str
    line: int


def _tokens(text: str) -> Iterator[_Token]:
    position, line = 0, 1
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            raise ConfigError(*_stray(text[position : position + 2]), line=line)
        kind = found.lastgroup or ""
        whole = found[0]
        if kind == "quoted":
            yield _Token(kind, _ESCAPE.sub(_unescaped, whole[1:-1]), line)
        elif kind != "space":
            yield _Token(kind, whole, line)
        line += whole.count("\n")
        position = found.end()
    yield _Token("end", "", line)


def _stray(text: str) -> tuple[str]:
    if text[0] in "\"'":
        return ("a quoted string does not end on its line",)
    if text == "/*":
        return ("a comment does not end",)
    return (f"{text[0]!r} has no place outside quotes",)


def _unescaped(found: re.Match[str]) -> str:
    text = found[1]
    if text[0] in "01234567":
        return chr(int(text, 8))
    return _ESCAPES.get(text, text)


class _Parser:
    """A walk over the tokens of one file."""

    def __init__(self, text: str) -> None:
        self._rest = _tokens(text)
        self._token = next(self._rest)

    def sections(self) -> dict[str, tuple[LoginModule, ...]]:
        sections: dict[str, tuple[LoginModule, ...]] = {}
        while self._token.kind != "end":
            token = self._take("the name of a section", "word", "quoted")
            if token.text in sections:
                raise ConfigError(
                    f"the section {token.text} is there twice", line=token.line, remedy="remove one of the two"
                )
            self._sign("{")
            modules = [self._module()]
            while self._token.text != "}" or self._token.kind != "sign":
                modules.append(self._module())
            self._sign("}")
            self._sign(";")
            sections[token.text] = tuple(modules)
        return sections

    def _module(self) -> LoginModule:
        name = self._take("the class of a login module", "word", "quoted")
        flag = self._take("required", "word")
        if flag.text.lower() not in _FLAGS:
            raise ConfigError(
                f"the class of a module is followed by {', '.join(_FLAGS[:-1])} or {_FLAGS[-1]}",
                line=flag.line,
                remedy=_EXAMPLE,
            )
        options: dict[str, str] = {}
        while self._token.text != ";" or self._token.kind != "sign":
            option = self._take("an option or a semicolon", "word", "quoted")
            self._sign("=")
            value = self._take("the value of an option", "word", "quoted")
            if option.text in options:
                raise ConfigError(
                    f"the option {option.text} is there twice", line=option.line, remedy="remove one of the two"
                )
            if "${" in value.text:
                raise ConfigError(
                    f"the value of {option.text} refers to a Java property, which is not replaced here",
                    line=value.line,
                    remedy="write the value itself",
                )
            options[option.text] = value.text
        self._sign(";")
        return LoginModule(name.text, options, name.line)

    def _take(self, what: str, *kinds: str) -> _Token:
        token = self._token
        if token.kind not in kinds:
            # What stands there instead is not said: it may be a piece of a password.
            there = "the file ends" if token.kind == "end" else "there is something else"
            raise ConfigError(f"{there} where {what} belongs", line=token.line, remedy=_EXAMPLE)
        self._token = next(self._rest)
        return token

    def _sign(self, sign: str) -> None:
        if self._token.text != sign:
            self._take(f'"{sign}"')
        self._take(f'"{sign}"', "sign")
