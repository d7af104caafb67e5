"""
The profile C{secure}: nobody reaches a server from another machine without TLS and without showing who he is.

What a configuration opens on a loopback address is its own affair.  Everything else has to have TLS, and to
authenticate those who connect: by certificates of an authority that the configuration names, or by SASL.  This module
knows settings and addresses; it opens nothing.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from zktwisted.errors import ConfigError

if TYPE_CHECKING:
    from zktwisted.config.server import ServerConfig

__all__ = ["PROFILES", "SECURE", "check_endpoint", "check_ports", "is_loopback", "violations"]

SECURE = "secure"
PROFILES = ("", SECURE)
"""The values of C{profile}."""

#: Schemes that prove nothing: anybody has an address, and a name and password of his own choice.
_OPEN = frozenset({"digest", "ensemble", "ip"})
#: Words that tell nothing of anybody's; those that tell of sessions tell enough to take them over.
_HARMLESS = frozenset({"srvr", "ruok", "isro", "mntr"})
_SASL = "write requireClientAuthScheme=sasl, and java.security.auth.login.config= with the path of a JAAS file"


def is_loopback(host: str) -> bool:
    """Tell whether a name or address is one that each machine has for itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def violations(config: ServerConfig) -> Iterator[ConfigError]:
    """What in a configuration the profile that it names does not allow; nothing, if it names none."""
    if config.profile == SECURE:
        yield from _client_ports(config)
        yield from _between_servers(config)


def check_ports(config: ServerConfig, *, clients: bool) -> None:
    """
    Look at what a configuration opens, before it is opened.

    @param clients: whether the ports for clients are those of the configuration.

    @raise ConfigError: the profile does not allow it.
    """
    if config.profile == SECURE:
        for error in _client_ports(config) if clients else ():
            raise error
        for error in _between_servers(config):
            raise error


def check_endpoint(config: ServerConfig, port: Any, *, tls: bool) -> None:
    """
    Look at an endpoint for clients that was given to the server, when it is known where it listens.

    @param port: an C{IListeningPort}; one whose address has no C{host} is reached from this machine alone.
    @param tls: whether the settings C{ssl.*} count there.

    @raise ConfigError: the profile does not allow it.
    """
    host = getattr(port.getHost(), "host", None) if config.profile == SECURE else None
    if host is None or is_loopback(host):
        return
    if not tls:
        remedy = "put tls: before it (tls:tcp:2281), or let it listen on 127.0.0.1"
        raise _error("--client-endpoint", f"clients would be served without TLS on {host}", remedy)
    for error in _clients(config, host):
        raise error


def _error(key: str, message: str, remedy: str) -> ConfigError:
    return ConfigError(f"the profile secure does not allow that {message}", key=key, remedy=remedy)


def _place(port: int, host: str | None) -> str:
    return f"port {port} of {host or 'every address'}"


def _client_ports(config: ServerConfig) -> Iterator[ConfigError]:
    port, host = config.client_port, config.client_port_address
    if port is not None and not (host and is_loopback(host)):
        if config.client_port_unification:
            key, remedy = "client.portUnification", f"write secureClientPort={port} in place of it and of clientPort"
        else:
            key, remedy = "clientPort", "write clientPortAddress=127.0.0.1, or secureClientPort in place of clientPort"
        yield _error(key, f"clients are served without TLS on {_place(port, host)}", remedy)
    port, host = config.secure_client_port, config.secure_client_port_address
    if port is not None and not (host and is_loopback(host)):
        yield from _clients(config, _place(port, host))


def _clients(config: ServerConfig, place: str) -> Iterator[ConfigError]:
    """What lets clients in that have not shown who they are, at a place with TLS."""
    schemes, trusted = frozenset(config.enforced_schemes), bool(config.ssl_trust_store_location)
    if schemes and not schemes & _OPEN and (trusted or "x509" not in schemes):
        words = sorted({*config.four_letter_words_whitelist} - _HARMLESS)
        if words and not (trusted and config.ssl_client_auth.lower() == "need"):
            message = f"{', '.join(words)} is answered on {place} to whoever asks, without a session"
            remedy = "leave out all but srvr, ruok, isro and mntr; or write ssl.clientAuth=need, and its trust store"
            yield _error("4lw.commands.whitelist", message, remedy)
        return
    if config.ssl_client_auth.lower() != "need":
        message = f"clients are served on {place} who have not authenticated"
        if schemes & _OPEN:
            message += f" (whoever wants to has an identity of the scheme {', '.join(sorted(schemes & _OPEN))})"
        yield _error("ssl.clientAuth", message, f"write need; or {_SASL}")
    elif not trusted:
        yield _error(
            "ssl.trustStore.location",
            f"clients are served on {place} for whom any authority vouches that the system trusts",
            f"write the file with the authority of the clients; or {_SASL}",
        )


def _between_servers(config: ServerConfig) -> Iterator[ConfigError]:
    mine = config.member
    if mine is None:
        return
    everywhere = config.quorum_listen_on_all_ips
    addresses = (*mine.addresses, *mine.election_addresses)
    open_to_others = [str(each) for each in addresses if everywhere or not is_loopback(each.host)]
    if not open_to_others:
        return
    place = " and ".join(open_to_others)
    if not config.ssl_quorum:
        yield _error(
            "sslQuorum",
            f"other servers connect without TLS to {place}",
            "write sslQuorum=true, and ssl.quorum.keyStore.location and ssl.quorum.trustStore.location",
        )
    elif config.port_unification:
        remedy = "remove it when all servers have sslQuorum=true"
        yield _error("portUnification", f"other servers may connect without TLS to {place}", remedy)
    if config.quorum_auth_server_require_sasl:
        return
    yield from _members(config, place)


def _members(config: ServerConfig, place: str) -> Iterator[ConfigError]:
    """What lets servers in that have not shown by a certificate that they belong to the ensemble."""
    sasl = "or write quorum.auth.serverRequireSasl=true"
    if config.ssl_quorum_client_auth.lower() != "need":
        message = f"servers without a certificate connect to {place}"
        yield _error("ssl.quorum.clientAuth", message, f"write need; {sasl}")
    if not config.ssl_quorum_trust_store_location:
        yield _error(
            "ssl.quorum.trustStore.location",
            f"servers connect to {place} for which any authority vouches that the system trusts",
            f"write the file with the authority of the servers; {sasl}",
        )
    for name, on in (
        ("hostnameVerification", config.ssl_quorum_hostname_verification),
        ("clientHostnameVerification", config.ssl_quorum_client_hostname_verification),
    ):
        if not on:
            message = f"whoever has a certificate of the same authority may be a server at {place}"
            yield _error(f"ssl.quorum.{name}", message, f"write true; {sasl}")
