"""
Kerberos, by the C library of this machine (MIT's or Heimdal's): contexts for L{zktwisted.wire.gssapi}.

L{Acceptor} has the key of a service, L{Initiator} that of somebody who calls services, or tickets.  Both name their
files to the library call by call, so that nothing is changed that others in this process may rely on.

This module needs the extra C{kerberos}.  It refuses to know SASL, the keys of configurations, and threads: which of its
calls may take long is said at each.

Rules: RFC 4121, RFC 4752.
"""

from __future__ import annotations

from itertools import count
from typing import Any

from gssapi import raw
from gssapi.raw import GSSError

from zktwisted.config.kerberos import KerberosLogin
from zktwisted.errors import ConfigError
from zktwisted.wire.sasl import SaslError

__all__ = ["Acceptor", "Initiator", "default_realm"]

_KERBEROS = raw.MechType.kerberos
_NUMBERS = count(1)
# Which files the library is to use, in place of those of this machine.
_Store = dict[bytes | str, bytes | str]


def default_realm() -> str:
    """The realm of this machine, as C{krb5.conf} has it; empty if it has none."""
    try:
        name = raw.canonicalize_name(_principal("x"), _KERBEROS)
        return _text(name).partition("@")[2]
    except GSSError:
        return ""


def _principal(text: str) -> Any:
    return raw.import_name(text.encode(), raw.NameType.kerberos_principal)


def _text(name: Any) -> str:
    return str(raw.display_name(name, name_type=False).name.decode("utf-8", "surrogateescape"))


def _reason(error: GSSError) -> str:
    """What the library says about an error, in one line."""
    minor = error.get_all_statuses(error.min_code, False) if error.min_code else []
    return "; ".join(minor or error.get_all_statuses(error.maj_code, True))


class _Context:
    """See L{zktwisted.wire.gssapi.Context}."""

    def __init__(self) -> None:
        self.complete = False
        self._context: Any = None

    def wrap(self, message: bytes) -> bytes:
        """See there."""
        try:
            return bytes(raw.wrap(self._context, message, False).message)
        except GSSError as error:
            raise SaslError(_reason(error)) from error

    def unwrap(self, token: bytes) -> bytes:
        """See there."""
        try:
            return bytes(raw.unwrap(self._context, token).message)
        except GSSError as error:
            raise SaslError(_reason(error)) from error

    def _inquire(self) -> Any:
        return raw.inquire_context(self._context, flags=False, lifetime=False)


class _Accepting(_Context):
    def __init__(self, credentials: Any) -> None:
        super().__init__()
        self._credentials = credentials

    def step(self, token: bytes) -> bytes:
        """See there; nobody else is asked."""
        try:
            result = raw.accept_sec_context(token, self._credentials, self._context)
        except GSSError as error:
            raise SaslError(_reason(error)) from error
        self._context = result.context
        self.complete = not result.more_steps
        return result.token or b""

    @property
    def peer(self) -> str:
        """See there."""
        return _text(self._inquire().initiator_name)

    @property
    def own(self) -> str:
        """See there."""
        return _text(self._inquire().target_name)


class _Initiating(_Context):
    def __init__(self, initiator: Initiator, target: str) -> None:
        super().__init__()
        self._initiator = initiator
        self._target = target
        self._credentials: Any = None

    def step(self, token: bytes) -> bytes:
        """See there; the first one may take as long as it takes to find out that no KDC answers."""
        try:
            self._credentials = self._credentials or self._initiator.credentials()
            result = raw.init_sec_context(
                _principal(self._target),
                self._credentials,
                self._context,
                mech=_KERBEROS,
                flags=raw.RequirementFlag.mutual_authentication | raw.RequirementFlag.integrity,
                input_token=token or None,
            )
        except GSSError as error:
            raise SaslError(f"cannot authenticate to {self._target}: {_reason(error)}") from error
        self._context = result.context
        self.complete = not result.more_steps
        return result.token or b""

    @property
    def peer(self) -> str:
        """See there."""
        return _text(self._inquire().target_name)

    @property
    def own(self) -> str:
        """See there."""
        return _text(self._inquire().initiator_name)


def _key(login: KerberosLogin, file: str | None) -> Any:
    """The key of somebody, by which he knows who calls."""
    assert login.principal is not None, "a key is somebody's"
    store: _Store = {} if login.keytab is None else {"keytab": login.keytab}
    try:
        return raw.acquire_cred_from(store, _principal(login.principal), mechs=[_KERBEROS], usage="accept").creds
    except GSSError as error:
        raise ConfigError(
            f"{login.keytab or 'the keytab of this machine'} is of no use for {login.principal}: {_reason(error)}",
            file=file,
            remedy="write the principal as klist -k shows it",
        ) from error


class Acceptor:
    """A service that others call."""

    def __init__(self, login: KerberosLogin, file: str | None = None) -> None:
        """
        @param file: where the login is written, for messages.
        @raise ConfigError: the keytab has no key for it.
        """
        self._credentials = _key(login, file)

    def context(self) -> _Accepting:
        """Begin to find out who calls."""
        return _Accepting(self._credentials)


class Initiator:
    """Somebody who calls services."""

    def __init__(self, login: KerberosLogin, file: str | None = None) -> None:
        """
        @param file: where the login is written, for messages.
        @raise ConfigError: the keytab has no key for it; whether it is the right one only a KDC can tell.
        """
        self._login = login
        self._store: _Store = {}
        if login.use_keytab:
            _key(login, file)  # only to see whether it is there, for which nobody else is asked
            # Tickets that were got with the key are nobody else's, and are got again before they expire.
            self._store["ccache"] = f"MEMORY:zktwisted-{next(_NUMBERS)}"
            self._store["client_keytab"] = login.keytab or ""
        elif login.cache is not None:
            self._store["ccache"] = login.cache

    def credentials(self) -> Any:
        """What shows who it is, fresh; may take as long as it takes to find out that no KDC answers."""
        principal = self._login.principal
        name = None if principal is None else _principal(principal)
        return raw.acquire_cred_from(self._store, name, mechs=[_KERBEROS], usage="initiate").creds

    def context(self, target: str) -> _Initiating:
        """Begin to call a service: C{name/host@REALM}, or without the realm, which is then that of this machine."""
        return _Initiating(self, target)
