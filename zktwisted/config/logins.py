"""
Who may log in by SASL, and as whom a server logs in at others: what the settings and the JAAS file say together.

This module reads the JAAS file that the settings name, and nothing else.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

from zktwisted.config.jaas import JAAS_KEY, Jaas, Login, Users, read_jaas
from zktwisted.config.kerberos import KerberosLogin
from zktwisted.errors import ConfigError

if TYPE_CHECKING:
    from zktwisted.config.server import ServerConfig

__all__ = ["Logins", "read_logins"]

_SECTION = "Server"
_SUPER = "super"


class Logins(NamedTuple):
    """What a configuration says about SASL."""

    #: The clients that are let in; C{None}: clients have no SASL.
    clients: Users | KerberosLogin | None = None
    #: The servers that are let in; C{None}: servers do not authenticate to one another.
    servers: Users | KerberosLogin | None = None
    #: As whom this server calls others; C{None}: as nobody.
    learner: Login | KerberosLogin | None = None


def read_logins(config: ServerConfig) -> Logins:
    """
    Read the names and passwords that a configuration refers to; a keytab is only looked at.

    @raise ConfigError: they cannot be read, or something that is asked for is not there.
    """
    jaas = read_jaas(config.jaas_file) if config.jaas_file else None
    logins = Logins(_clients(config, jaas), *_servers(config, jaas))
    if config.fips_mode and any(isinstance(each, Users | Login) for each in logins):
        raise ConfigError(
            "FIPS mode forbids DIGEST-MD5, the mechanism of names and passwords",
            key="fips-mode",
            remedy="write false, or authenticate by certificates or Kerberos",
        )
    if any(isinstance(each, KerberosLogin) for each in logins) and find_spec("gssapi") is None:
        raise ConfigError(
            "Kerberos needs a package that is not installed",
            file=config.jaas_file,
            remedy="pip install zktwisted[kerberos]",
        )
    return logins


def _clients(config: ServerConfig, jaas: Jaas | None) -> Users | KerberosLogin | None:
    named = config.sasl_server_section
    if jaas is None and named:
        raise _no_file("sasl.serverconfig")
    # As with Java's servers: the file may be there for other sections.
    if jaas is None or not (named or _SECTION in jaas.sections):
        return None
    accepted = jaas.accepting(named or _SECTION)
    password = config.sasl_super_password
    return accepted.with_user(_SUPER, password) if password and isinstance(accepted, Users) else accepted


def _servers(
    config: ServerConfig, jaas: Jaas | None
) -> tuple[Users | KerberosLogin | None, Login | KerberosLogin | None]:
    if not config.quorum_auth_enable_sasl or not config.distributed:
        return None, None
    if jaas is None:
        raise _no_file("quorum.auth.enableSasl")
    accepted = jaas.accepting(config.quorum_auth_server_sasl_login_context)
    if not config.quorum_auth_learner_require_sasl:
        return accepted, None
    return accepted, jaas.calling(config.quorum_auth_learner_sasl_login_context)


def _no_file(key: str) -> ConfigError:
    return ConfigError("no JAAS file is named", key=key, remedy=f"write {JAAS_KEY}= and the path of one")
