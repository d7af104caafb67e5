"""
L{Ensemble}: who the servers are, as the C{server.N}, C{group.N} and C{weight.N} lines say.

The text of an ensemble is data as well: it lies in the node C{/zookeeper/config}, goes over the wire and into
dynamic files, so L{Ensemble.text} must be what Java writes, character by character.

This module parses and renders; it counts no votes and resolves no names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from zktwisted.config.fields import number
from zktwisted.errors import ConfigError

__all__ = ["ANY_HOST", "OBSERVER", "PARTICIPANT", "Address", "Ensemble", "Member", "normal_host", "parse_role"]

ANY_HOST = "0.0.0.0"  # noqa: S104 - the word for every address in server lines
PARTICIPANT = "participant"
OBSERVER = "observer"

_FORM = "host:port:port[:role][;[host:]port]"
_WRONG_FORM = (
    " does not have the form server_config or server_config;client_config where server_config is the pipe "
    "separated list of host:port:port or host:port:port:type and client_config is port or host:port"
)


class Address(NamedTuple):
    """A host (name or address, IPv6 without brackets) and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{_bracketed(self.host)}:{self.port}"


@dataclass(frozen=True, slots=True)
class Member:
    """
    One server of an ensemble.

    @ivar sid: its id.
    @ivar addresses: where it serves learners while it leads; several with multi-address.
    @ivar election_addresses: where it takes part in elections; the n-th belongs to the n-th address.
    @ivar role: C{"participant"} or C{"observer"}.
    @ivar client_address: where it serves clients, if its line says so.
    """

    sid: int
    addresses: tuple[Address, ...]
    election_addresses: tuple[Address, ...]
    role: str = PARTICIPANT
    client_address: Address | None = None

    @classmethod
    def parse(cls, sid: int, value: str, *, multi_address: bool = False) -> Member:
        """
        Parse the right-hand side of a C{server.N} line.

        @param multi_address: whether C{multiAddress.enabled} allows several addresses.
        @raise ConfigError: the value is not of the form; C{key} is C{server.N}.
        """
        try:
            return _parse_member(sid, value, multi_address)
        except ConfigError as error:
            error.key = f"server.{sid}"
            raise

    @property
    def text(self) -> str:
        """The right-hand side in the form that Java writes."""
        servers = "|".join(
            f"{_bracketed(address.host)}:{address.port}:{election.port}"
            for address, election in zip(self.addresses, self.election_addresses, strict=False)
        )
        client = f";{self.client_address}" if self.client_address is not None else ""
        return f"{servers}:{self.role}{client}"

    @property
    def voting(self) -> bool:
        """Whether it is a participant."""
        return self.role == PARTICIPANT


@dataclass(frozen=True, slots=True)
class Ensemble:
    """
    The servers of an ensemble and how their votes count.

    @ivar members: every server, by ascending id.
    @ivar groups: (group id, ids of its servers), by group id; empty when a plain majority counts.
    @ivar weights: (server id, weight), by id; empty when a plain majority counts.
    @ivar version: 0 for a static configuration, else the zxid of the change that made it.
    """

    members: tuple[Member, ...]
    groups: tuple[tuple[int, tuple[int, ...]], ...] = ()
    weights: tuple[tuple[int, int], ...] = ()
    version: int = 0

    @classmethod
    def parse(
        cls,
        lines: str | Iterable[str] | Mapping[str, str],
        *,
        multi_address: bool = False,
        strict: bool = True,
    ) -> Ensemble:
        """
        Parse C{server.N}, C{group.N}, C{weight.N} and C{version} settings.

        @param lines: a text of C{key=value} lines, such lines, or the settings as a mapping.
        @param multi_address: whether C{multiAddress.enabled} allows several addresses.
        @param strict: refuse other keys, as in dynamic files; else ignore them, as in C{zoo.cfg}.
        @raise ConfigError: a line is not of the form; C{key} names it.
        """
        return _parse_ensemble(_settings(lines), multi_address, strict)

    @property
    def text(self) -> str:
        """The canonical text: as in the config node, without a newline at the end."""
        return "\n".join([*self.lines(), f"version={self.version & 0xFFFFFFFFFFFFFFFF:x}"])

    def lines(self) -> list[str]:
        """The lines of L{text} without the version."""
        lines = [f"server.{member.sid}={member.text}" for member in self.members]
        lines += [f"group.{gid}={':'.join(map(str, sids))}" for gid, sids in self.groups]
        lines += [f"weight.{sid}={weight}" for sid, weight in self.weights]
        return lines

    @property
    def voters(self) -> tuple[Member, ...]:
        """The participants."""
        return tuple(member for member in self.members if member.voting)

    @property
    def observers(self) -> tuple[Member, ...]:
        """The servers without a vote."""
        return tuple(member for member in self.members if not member.voting)

    def member(self, sid: int) -> Member | None:
        """The server with the id C{sid}, if there is one."""
        return next((member for member in self.members if member.sid == sid), None)

    @property
    def hierarchical(self) -> bool:
        """Whether groups and weights count instead of a plain majority."""
        return bool(self.groups or self.weights)

    def check(self, *, standalone_enabled: bool = True) -> None:
        """
        Refuse an ensemble that cannot run.

        @raise ConfigError: no voters, or observers that have nobody to follow.
        """
        voters, observers = len(self.voters), len(self.observers)
        if voters == 0 and not standalone_enabled:
            raise ConfigError(
                "standaloneEnabled = false then number of participants should be >0",
                key="standaloneEnabled",
                remedy="write a server line for each server",
            )
        key = f"server.{self.observers[0].sid}" if observers else None
        if voters == 0 and observers:
            raise ConfigError(
                "Observers w/o participants is an invalid configuration",
                key=key,
                remedy="make servers participants",
            )
        if voters == 1 and standalone_enabled and observers:
            raise ConfigError(
                "Observers w/o quorum is an invalid configuration",
                key=key,
                remedy="write standaloneEnabled=false, or more participants",
            )

    def check_weights(self) -> None:
        """
        Refuse an ensemble in which nothing can ever be agreed upon.

        @raise ConfigError: there are weights, and all are 0.
        """
        if self.weights and not any(weight for _, weight in self.weights):
            raise ConfigError(
                "the vote of no server counts", key=f"weight.{self.weights[0][0]}", remedy="write 1 or more"
            )


def _settings(lines: str | Iterable[str] | Mapping[str, str]) -> Mapping[str, str]:
    if isinstance(lines, Mapping):
        return lines
    from zktwisted.config.properties import parse_properties

    text = lines if isinstance(lines, str) else "\n".join(lines)
    return {entry.key: entry.value for entry in parse_properties(text)}


def _parse_ensemble(settings: Mapping[str, str], multi_address: bool, strict: bool) -> Ensemble:
    members: dict[int, Member] = {}
    groups: dict[int, tuple[int, ...]] = {}
    weights: dict[int, int] = {}
    group_of: dict[int, int] = {}
    version = 0
    for name, value in settings.items():
        key, value = name.strip(), value.strip()
        if strict and not key.startswith(("server.", "group", "weight")) and key != "version":
            raise ConfigError(
                f"Unrecognised parameter: {key}",
                key=key,
                remedy="only server, group and weight lines belong here",
            )
        if key.startswith("server."):
            sid = _number_of(key, key.partition(".")[2])
            try:
                members[sid] = _parse_member(sid, value, multi_address)
            except ConfigError as error:
                error.key = key
                raise
        elif key.startswith("group"):
            gid = _number_of(key, key.partition(".")[2])
            groups[gid] = tuple(_number_of(key, part) for part in _split(value, ":"))
            for sid in groups[gid]:
                if sid in group_of:
                    raise ConfigError(f"Server {sid}is in multiple groups", key=key, remedy="name it once")
                group_of[sid] = gid
        elif key.startswith("weight"):
            weight = weights[_number_of(key, key.partition(".")[2])] = _number_of(key, value)
            if weight < 0:
                # Two servers that do not know of each other could both have a quorum.
                raise ConfigError(f"a vote cannot weigh {weight}", key=key, remedy="write 0 or more")
        elif key == "version":
            version = _version(value)
    ordered = tuple(members[sid] for sid in sorted(members))
    if groups or weights:
        _check_groups(ordered, group_of, weights)
    return Ensemble(ordered, tuple(sorted(groups.items())), tuple(sorted(weights.items())), version)


def _check_groups(members: tuple[Member, ...], group_of: dict[int, int], weights: dict[int, int]) -> None:
    """Each voter in one group and only voters there; fills in the weights that are not written."""
    for member in members:
        if member.voting:
            if member.sid not in group_of:
                raise ConfigError(
                    f"Server {member.sid}is not in a group",
                    key=f"server.{member.sid}",
                    remedy="name it in a group line, or write no group and weight lines",
                )
            weights.setdefault(member.sid, 1)
    for sid, gid in group_of.items():
        if sid not in weights:
            raise ConfigError(
                f"server {sid} of the group is no participant",
                key=f"group.{gid}",
                remedy="name only participants in groups",
            )


def _number_of(key: str, text: str) -> int:
    try:
        return number(text, 64)
    except ValueError as error:
        raise ConfigError(str(error), key=key, remedy="write a whole number") from None


def _version(text: str) -> int:
    if re.fullmatch(r"[+-]?[0-9a-fA-F]+", text):
        value = int(text, 16)
        if -(1 << 63) <= value < 1 << 63:
            return value
    raise ConfigError(
        f'For input string: "{text}" under radix 16',
        key="version",
        remedy="write a hexadecimal number without 0x",
    )


def _split(text: str, separator: str) -> list[str]:
    """Split as Java does: empty pieces at the end do not count."""
    parts = text.split(separator)
    while len(parts) > 1 and not parts[-1]:
        parts.pop()
    return parts if len(parts) > 1 or parts[0] or not text else []


def _host_and_ports(text: str) -> list[str]:
    """Split at colons, except within the brackets of a leading IPv6 address."""
    if not text.startswith("["):
        return _split(text, ":")
    end = text.find("]")
    if end < 0:
        raise ConfigError(f"{text} starts with '[' but has no matching ']:'", remedy=f"write {_FORM}")
    if end + 2 == len(text):
        raise ConfigError(f"{text} doesn't have a port after colon", remedy=f"write {_FORM}")
    if end + 2 > len(text):
        return [text[1:end]]
    return [text[1:end], *_split(text[end + 2 :], ":")]


def _parse_member(sid: int, value: str, multi_address: bool) -> Member:
    parts = _split(value, ";") or [""]
    client = _parse_client(value, parts[1]) if len(parts) == 2 else None
    servers = _split(parts[0], "|") or [""]
    if len(servers) > 1 and not multi_address:
        raise ConfigError(
            f"Multiple address feature is disabled, but multiple addresses were specified for sid {sid}",
            remedy="write multiAddress.enabled=true",
        )
    addresses: list[Address] = []
    elections: list[Address] = []
    role: str | None = None
    for server in servers:
        pieces = _host_and_ports(server)
        if len(parts) > 2 or not 3 <= len(pieces) <= 4:
            raise ConfigError(value + _WRONG_FORM, remedy=f"write {_FORM}")
        address, election = _address(pieces[0], pieces[1]), _address(pieces[0], pieces[2])
        if address.port == election.port:
            raise ConfigError(
                f"Client and election port must be different! Please update the configuration file on server.{sid}",
                remedy="write two ports, such as 2888:3888",
            )
        if len(pieces) == 4:
            other = parse_role(pieces[3])
            role = role or other
            if role != other:
                raise ConfigError(
                    f"Multiple addresses should have similar roles: {role.upper()} vs {other.upper()}",
                    remedy="write the same role for each address",
                )
        addresses += [address] if address not in addresses else []
        elections += [election] if election not in elections else []
    if len(elections) < len(addresses):
        raise ConfigError("two addresses share one election port", remedy="write an election port for each address")
    by_host = (
        sorted(addresses, key=lambda address: address.host),
        sorted(elections, key=lambda each: each.host),
    )
    return Member(sid, tuple(by_host[0]), tuple(by_host[1]), role or PARTICIPANT, client)


def parse_role(text: str) -> str:
    """
    The role that a server line or C{peerType} names, in any case.

    @raise ConfigError: neither participant nor observer.
    """
    role = text.strip().lower()
    if role not in (PARTICIPANT, OBSERVER):
        raise ConfigError(f"Unrecognised peertype: {text}", remedy="write participant or observer")
    return role


def _parse_client(value: str, part: str) -> Address:
    pieces = _host_and_ports(part)
    if len(pieces) > 2:
        raise ConfigError(value + _WRONG_FORM, remedy=f"write {_FORM}")
    host = pieces[0] if len(pieces) == 2 else ANY_HOST
    # Java names no host in this message.
    return _address(host, pieces[-1] if pieces else "", shown="null")


def _address(host: str, port: str, shown: str | None = None) -> Address:
    try:
        value = number(port)
    except ValueError:
        raise ConfigError(
            f"Address unresolved: {host if shown is None else shown}:{port}",
            remedy="write the port as a number",
        ) from None
    if not 0 <= value <= 65535:
        raise ConfigError(f"port out of range:{value}", remedy="write a port from 0 to 65535")
    return Address(normal_host(host), value)


def normal_host(host: str) -> str:
    """
    A host as Java prints it: addresses in full (C{127.1} is C{127.0.0.1}, C{::1} is C{0:0:0:0:0:0:0:1}),
    names as they are, nothing is C{localhost}.
    """
    if not host:
        return "localhost"
    if ":" in host:
        try:
            address = IPv6Address(host)
        except ValueError:
            return host
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return ":".join(f"{int(group, 16):x}" for group in address.exploded.partition("%")[0].split(":"))
    if re.fullmatch(r"[0-9]+(\.[0-9]+){0,3}", host):
        return _short_ipv4(host)
    return host


def _short_ipv4(host: str) -> str:
    """Decimal addresses with fewer than four parts, of which the last fills what is left."""
    *head, last = (int(part) for part in host.split("."))
    if any(part > 255 for part in head) or last >= 1 << 8 * (4 - len(head)):
        return host
    value = last
    for index, part in enumerate(head):
        value |= part << 8 * (3 - index)
    return str(IPv4Address(value))


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
