"""
L{ServerConfig}: every setting of a server, as one frozen value.

The fields are those of L{Settings}, one per key of C{zoo.cfg}, and a few that are no key (C{myid},
C{ensemble}).  What Java derives from other settings when a key is absent (session timeouts from C{tickTime},
C{dataLogDir} from C{dataDir}, ...) is always filled in here.

This module knows the settings and which of them contradict each other.  How files are read is
C{zktwisted.config.loader}'s matter; what the settings do is known to the rooms that read them.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from zktwisted.config.ensemble import OBSERVER, Ensemble, Member
from zktwisted.config.fields import Key, render
from zktwisted.config.kerberos import KerberosNames
from zktwisted.config.secure import PROFILES, SECURE
from zktwisted.config.settings import Settings
from zktwisted.config.tls import CLIENT_AUTH
from zktwisted.errors import ConfigError

__all__ = ["Note", "ServerConfig", "keys_by_attribute"]


@dataclass(frozen=True, slots=True)
class Note:
    """
    A remark on a configuration that works nevertheless.

    @ivar level: C{"warning"} (not what was meant, probably) or C{"note"} (accepted, without effect here).
    @ivar message: one sentence.
    @ivar key: the key as it was written.
    @ivar file: where it was written: a path, C{"command line"} or an environment variable.
    @ivar line: the line in that file, from 1.
    """

    level: str
    message: str
    key: str | None = None
    file: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line) if part is not None)
        text = f"{self.key}: {self.message}" if self.key else self.message
        return f"{place}: {text}" if place else text


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig(Settings):
    """
    The settings of one server.

    Construct it directly with what differs from the defaults, or with L{from_file} from a Java server's
    C{zoo.cfg}.  Times are in milliseconds unless the name says otherwise.

    @raise ConfigError: settings that contradict each other; C{key} names one of them.
    """

    # -- what is no key of its own

    myid: int | None = None
    """The id of this server, from C{--myid} or the file C{myid} in dataDir; None on a server without one."""

    ensemble: Ensemble | None = None
    """What the server lines say; None without any."""

    config_file: str | None = None
    """The file all this came from."""

    properties: tuple[tuple[str, str], ...] = ()
    """Settings that are no key of ours: kept as properties, like in Java."""

    notes: tuple[Note, ...] = dataclasses.field(default=(), compare=False, repr=False)
    """Remarks of the loader, for the log."""

    _derived: frozenset[str] = dataclasses.field(default=frozenset(), init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        derived: dict[str, object] = {}
        if not self.data_log_dir:
            derived["data_log_dir"] = self.data_dir
        if self.min_session_timeout == -1:
            derived["min_session_timeout"] = self.tick_time * 2
        if self.max_session_timeout == -1:
            derived["max_session_timeout"] = self.tick_time * 20
        if self.max_write_queue_poll_time == -1:
            derived["max_write_queue_poll_time"] = self.flush_delay // 3
        if self.jute_max_buffer_extra_size == -1:
            derived["jute_max_buffer_extra_size"] = self.jute_max_buffer
        if self.connect_to_learner_master_limit == 0:
            derived["connect_to_learner_master_limit"] = self.init_limit
        if self.quorum_cnxn_timeout_ms == -1:
            derived["quorum_cnxn_timeout_ms"] = self.sync_limit * self.tick_time
        for name, value in derived.items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "_derived", frozenset(derived))
        for name, message, remedy in _contradictions(self):
            raise ConfigError(message, key=keys_by_attribute()[name].name, remedy=remedy)

    # -- reading

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        *,
        myid: int | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> ServerConfig:
        """
        Read a Java server's C{zoo.cfg}, the dynamic file and the C{myid} file that it names.

        @param myid: the id of this server; by default that of the C{myid} file.
        @param properties: Java system properties (C{-Dname=value}); the file wins over them.
        @raise ConfigError: the file cannot be read, or a setting cannot work; file, line and key are set.
        """
        from zktwisted.config.loader import load_file

        return load_file(path, myid=myid, properties=properties)

    @classmethod
    def from_text(
        cls, text: str, *, myid: int | None = None, properties: Mapping[str, str] | None = None
    ) -> ServerConfig:
        """
        Like L{from_file}, from the text of a C{zoo.cfg}; nothing is read but the C{myid} file of its dataDir.

        @raise ConfigError: a setting cannot work; line and key are set.
        """
        from zktwisted.config.loader import load_text

        return load_text(text, myid=myid, properties=properties)

    def replace(self, **changes: Any) -> ServerConfig:
        """A copy with other values; what was derived from others is derived again."""
        again = {name: keys_by_attribute()[name].default for name in self._derived}
        return dataclasses.replace(self, **{**again, **changes})

    @classmethod
    def keys(cls) -> tuple[Key, ...]:
        """Every key of C{zoo.cfg} that has a field, in the order of the reference page's source."""
        return tuple(keys_by_attribute().values())

    # -- what follows from the settings

    @property
    def snapshot_dir(self) -> str:
        """The directory of snapshots and epochs: C{version-2} in dataDir."""
        return os.path.join(self.data_dir, "version-2")

    @property
    def log_dir(self) -> str:
        """The directory of the transaction log: C{version-2} in dataLogDir."""
        return os.path.join(self.data_log_dir, "version-2")

    @property
    def backlog(self) -> int:
        """The listen backlog, with -1 resolved as Java does."""
        return 50 if self.client_port_listen_backlog == -1 else self.client_port_listen_backlog

    @property
    def client_tls(self) -> bool:
        """Whether clients are served with TLS on a port of the configuration."""
        return self.secure_client_port is not None or self.client_port_unification

    @property
    def enforced_schemes(self) -> tuple[str, ...]:
        """The schemes of which a client must have used one to be served; none: all are served."""
        if self.session_require_client_sasl_auth:
            return ("sasl",)
        if self.require_client_auth_scheme:
            return self.require_client_auth_scheme
        return self.enforce_auth_schemes if self.enforce_auth_enabled else ()

    @property
    def enforcing_key(self) -> str:
        """The key that names L{enforced_schemes}."""
        if self.session_require_client_sasl_auth:
            return "sessionRequireClientSASLAuth"
        return "requireClientAuthScheme" if self.require_client_auth_scheme else "enforce.auth.schemes"

    def kerberos_names(self, default_realm: str = "") -> KerberosNames:
        """What principals are called, on a machine of some realm."""
        return KerberosNames(
            self.auth_to_local,
            default_realm,
            remove_host=self.remove_host_from_principal,
            remove_realm=self.remove_realm_from_principal,
        )

    @property
    def quorum_tls(self) -> bool:
        """Whether servers may use TLS among each other."""
        return self.ssl_quorum or self.port_unification

    @property
    def distributed(self) -> bool:
        """Whether this server takes part in an ensemble: several voters, or one that insists (standaloneEnabled)."""
        ensemble = self.ensemble
        return ensemble is not None and (not self.standalone_enabled or len(ensemble.voters) > 1)

    @property
    def sid(self) -> int:
        """The id by which the other servers know this one; 0 outside of ensembles."""
        return self.myid if self.distributed and self.myid is not None else 0

    @property
    def member(self) -> Member | None:
        """The server line of this server, in an ensemble."""
        ensemble = self.ensemble
        return ensemble.member(self.sid) if self.distributed and ensemble is not None else None

    @property
    def observer(self) -> bool:
        """Whether this server is in an ensemble without a vote."""
        member = self.member
        return member is not None and member.role == OBSERVER

    @property
    def outstanding_limit(self) -> int:
        """
        The share of C{globalOutstandingLimit} that is this server's.

        The leader has to do with the requests of all voters, so each of them takes a part (spec: quorum 1.2).
        """
        voters = len(self.ensemble.voters) if self.ensemble is not None and self.distributed else 0
        if self.observer or voters <= 2:
            return self.global_outstanding_limit
        return max(1, self.global_outstanding_limit // (voters - 1))

    def allows_four_letter_word(self, word: str) -> bool:
        """Whether the whitelist lets C{word} be answered; srvr always is, isro in read-only mode."""
        words = self.four_letter_words_whitelist
        return word == "srvr" or "*" in words or word in words or (word == "isro" and self.readonlymode_enabled)

    def clamp_session_timeout(self, timeout: int) -> int:
        """The session timeout that a client gets who asks for C{timeout} milliseconds."""
        return max(self.min_session_timeout, min(timeout, self.max_session_timeout))

    def render(self) -> Iterator[tuple[Key, str]]:
        """Every key with its value as it would be written in C{zoo.cfg}."""
        for key in self.keys():
            yield key, render(key, getattr(self, key.attribute))


_KEYS: dict[str, Key] = {}


def keys_by_attribute() -> dict[str, Key]:
    """The keys that have a field, by the name of the field."""
    if not _KEYS:
        for field in dataclasses.fields(ServerConfig):
            if "key" in field.metadata:
                _KEYS[field.name] = dataclasses.replace(field.metadata["key"], attribute=field.name)
    return _KEYS


def _contradictions(config: ServerConfig) -> Iterator[tuple[str, str, str]]:
    """Settings that exclude each other, in the order in which Java looks: (attribute, message, remedy)."""
    enable, learner, server = (
        f"quorum.auth.{name}" for name in ("enableSasl", "learnerRequireSasl", "serverRequireSasl")
    )
    if not config.quorum_auth_enable_sasl:
        for wanted in (learner, server):
            attribute = f"quorum_auth_{'learner' if wanted is learner else 'server'}_require_sasl"
            if getattr(config, attribute):
                yield attribute, f"{enable} is disabled, so cannot enable {wanted}", f"write {enable}=true"
    if config.quorum_auth_server_require_sasl and not config.quorum_auth_learner_require_sasl:
        yield (
            "quorum_auth_server_require_sasl",
            f"{learner} is disabled, so cannot enable {server}",
            f"write {learner}=true",
        )
    if config.client_port is None and config.client_port_address:
        yield (
            "client_port_address",
            "clientPortAddress is set but clientPort is not set",
            "write a clientPort, such as 2181",
        )
    yield from _contradictions_of_tls(config)
    if config.client_port is not None and not 0 <= config.client_port <= 65535:
        yield "client_port", f"port out of range:{config.client_port}", "write a port from 0 to 65535"
    if config.tick_time == 0:
        yield "tick_time", "tickTime is not set", "write milliseconds, such as 2000"
    if config.min_session_timeout > config.max_session_timeout:
        yield (
            "min_session_timeout" if config.tick_time > 0 else "tick_time",
            "minSessionTimeout must not be larger than maxSessionTimeout",
            f"{config.min_session_timeout} > {config.max_session_timeout}; usual are 2 and 20 x tickTime",
        )
    yield from _contradictions_of_ensembles(config)
    if config.tick_time < 0:
        yield "tick_time", f"a tick of {config.tick_time} ms is no time", "write milliseconds, such as 2000"
    yield from _contradictions_of_authentication(config)


def _contradictions_of_authentication(config: ServerConfig) -> Iterator[tuple[str, str, str]]:
    """Settings that say differently who is served."""
    if config.profile not in PROFILES:
        yield "profile", f"there is no profile {config.profile}", f"write {SECURE}, or remove it"
    if config.enforce_auth_enabled and not config.enforce_auth_schemes:
        yield (
            "enforce_auth_enabled",
            "enforce.auth.enabled is true, so enforce.auth.schemes must be configured",
            "write enforce.auth.schemes=digest, for example",
        )
    try:
        config.kerberos_names()
    except ValueError as error:
        yield "auth_to_local", str(error), "write rules such as RULE:[2:$1](ann.*)s/n/m/g, and DEFAULT"
    service = config.quorum_auth_kerberos_service_principal
    if not re.fullmatch(r"[^/@\\]+/[^/@\\]+(@[^/@\\]+)?", service):
        message = f"{service} is no service on a host"
        yield "quorum_auth_kerberos_service_principal", message, "write zkquorum/_HOST, for example"
    required = set(config.require_client_auth_scheme)
    others = {
        "sessionRequireClientSASLAuth": {"sasl"} if config.session_require_client_sasl_auth else required,
        "enforce.auth.schemes": set(config.enforce_auth_schemes) if config.enforce_auth_enabled else required,
    }
    for name, schemes in others.items():
        if required and schemes != required:
            message = f"it names other schemes than {name} ({', '.join(sorted(schemes))})"
            yield "require_client_auth_scheme", message, "remove one of them"


def _contradictions_of_tls(config: ServerConfig) -> Iterator[tuple[str, str, str]]:
    """What clients with TLS need."""
    port = config.secure_client_port
    if port is None and config.secure_client_port_address:
        yield (
            "secure_client_port_address",
            "secureClientPortAddress is set but secureClientPort is not set",
            "write a secureClientPort, such as 2281",
        )
    if port is not None and not 0 <= port <= 65535:
        yield "secure_client_port", f"port out of range:{port}", "write a port from 0 to 65535"
    same_address = (config.client_port_address or None) == (config.secure_client_port_address or None)
    if port and port == config.client_port and same_address:
        yield (
            "secure_client_port",
            f"{port} is the clientPort as well",
            "give it another, or write client.portUnification=true and no secureClientPort",
        )
    if config.client_port_unification and config.client_port is None:
        yield "client_port_unification", "clientPort is not set", "write a clientPort, such as 2181"
    for family in ("ssl", "ssl.quorum"):
        attribute = f"{family.replace('.', '_')}_client_auth"
        value = getattr(config, attribute)
        if value.lower() not in CLIENT_AUTH:
            yield attribute, f"there is no {value}", f"write {', '.join(CLIENT_AUTH[:-1])} or {CLIENT_AUTH[-1]}"
    if config.ssl_auth_provider != "x509":
        scheme = config.ssl_auth_provider
        yield (
            "ssl_auth_provider",
            f"No auth provider configured for the SSL authentication scheme '{scheme}'.",
            "write x509, or remove it",
        )


def _contradictions_of_ensembles(config: ServerConfig) -> Iterator[tuple[str, str, str]]:
    """What a server needs to be one of several."""
    if not config.distributed:
        return
    for attribute, name, usual in (("init_limit", "initLimit", 10), ("sync_limit", "syncLimit", 5)):
        ticks = getattr(config, attribute)
        if ticks == 0:
            yield attribute, f"{name} is not set", f"write ticks, such as {usual}"
        if ticks < 0:
            yield attribute, f"{ticks} ticks are no time", f"write ticks, such as {usual}"
    if config.connect_to_learner_master_limit < 0:
        ticks = config.connect_to_learner_master_limit
        yield "connect_to_learner_master_limit", f"{ticks} ticks are no time", "write ticks, or 0 for initLimit"
    if config.extended_types_enabled and config.sid > 254:
        yield (
            "extended_types_enabled",
            f"nodes with a time to live need server ids up to 254, and this one is {config.sid}",
            "give this server another id, or write extendedTypesEnabled=false",
        )
