"""
From files, properties and options to a L{ServerConfig}.

Settings come in layers, of which a later one wins: defaults, Java system properties (from the environment, then
from the command line), the file, and what was said outright on the command line.  Every setting remembers where
it stood, so that whatever is wrong with it can be shown there.

This module reads the configuration file, the dynamic file and C{myid}; it creates nothing.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

from zktwisted.config import others
from zktwisted.config.ensemble import ANY_HOST, Address, Ensemble, Member, normal_host, parse_role
from zktwisted.config.fields import Key, Kind, number, parse, remedy, render
from zktwisted.config.jaas import JAAS_KEY
from zktwisted.config.logins import Logins, read_logins
from zktwisted.config.properties import decode_properties, parse_properties
from zktwisted.config.secure import violations
from zktwisted.config.server import Note, ServerConfig, keys_by_attribute
from zktwisted.errors import ConfigError, ServerIdError

__all__ = ["Loading", "Setting", "environment_settings", "file_settings", "load_file", "load_text"]

PREFIX = "zookeeper."


class Setting(NamedTuple):
    """
    One setting as it was written.

    @ivar source: a path, C{"-D"}, an environment variable or the name of an option.
    @ivar line: the line in a file, from 1.
    @ivar is_property: a Java system property: server lines cannot be given so.
    """

    key: str
    value: str
    source: str | None = None
    line: int | None = None
    is_property: bool = False


def file_settings(path: str) -> list[Setting]:
    """
    The settings that a properties file holds.

    @raise ConfigError: it cannot be read; C{file} is set.
    """
    try:
        with open(path, "rb") as file:
            text = decode_properties(file.read())
    except OSError as error:
        raise ConfigError(
            f"cannot be read: {error.strerror}", file=path, remedy="name a zoo.cfg that this user can read"
        ) from error
    return text_settings(text, path)


def text_settings(text: str, source: str | None = None) -> list[Setting]:
    """
    The settings that a text of properties holds.

    @raise ConfigError: a broken escape; C{line} is set.
    """
    try:
        return [Setting(entry.key, entry.value, source, entry.line) for entry in parse_properties(text)]
    except ConfigError as error:
        error.file = source
        raise


def property_settings(properties: Mapping[str, str] | None, source: str = "-D") -> list[Setting]:
    """Java system properties as settings."""
    return [Setting(name, value, source, None, True) for name, value in (properties or {}).items()]


def environment_settings(environment: Mapping[str, str]) -> list[Setting]:
    """
    What the environment of the Java scripts says: C{-Dname=value} items of the FLAGS variables, and whether
    directories are created.
    """
    settings = []
    for variable in ("SERVER_JVMFLAGS", "JVMFLAGS"):
        try:
            words = shlex.split(environment.get(variable, ""))
        except ValueError:  # an open quote: the words without any quoting then
            words = environment[variable].split()
        for word in words:
            name, equals, value = word.removeprefix("-D").partition("=")
            if word.startswith("-D") and name:
                settings.append(Setting(name, value if equals else "true", variable, None, True))
    variable = "ZOO_DATADIR_AUTOCREATE_DISABLE"
    if environment.get(variable):
        settings.append(Setting("zookeeper.datadir.autocreate", "false", variable, None, True))
    return settings


def load_file(
    path: str | os.PathLike[str],
    *,
    myid: int | None = None,
    properties: Mapping[str, str] | None = None,
) -> ServerConfig:
    """See L{ServerConfig.from_file}."""
    name = os.fspath(path)
    return Loading([*property_settings(properties), *file_settings(name)], myid=myid, config_file=name).result()


def load_text(text: str, *, myid: int | None = None, properties: Mapping[str, str] | None = None) -> ServerConfig:
    """See L{ServerConfig.from_text}."""
    return Loading([*property_settings(properties), *text_settings(text)], myid=myid).result()


class Loading:
    """
    One pass over all settings.  It goes to the end whatever it meets, so that a report can tell everything.

    @ivar settings: what was given, in order of precedence.
    @ivar used: the settings that count, by the name of their key without prefix.
    @ivar members: the server, group and weight lines that count, from wherever they stand.
    @ivar keys: of those the ones that have a field, with their key.
    @ivar errors: what is wrong, in the order of the settings.
    @ivar notes: remarks on what is not wrong.
    @ivar config: the outcome, as far as one is possible.
    """

    def __init__(
        self,
        settings: Sequence[Setting],
        *,
        myid: int | None = None,
        config_file: str | None = None,
        supported_only: bool = True,
    ) -> None:
        self.settings = settings
        self.used: dict[str, Setting] = {}
        self.keys: dict[str, Key] = {}
        self.errors: list[ConfigError] = []
        self.notes: list[Note] = []
        self.config: ServerConfig | None = None
        self._values: dict[str, Any] = {}
        self._supported_only = supported_only
        self._properties: dict[str, str] = {}
        self.members: dict[str, Setting] = {}
        self._sort()
        self._read_values()
        if supported_only:
            self._refuse()
        if self.errors:
            return  # what follows from settings that have no value would only confuse
        try:
            config = self._build(myid, config_file)
            if supported_only:
                self._check_ensemble(config)
                self.errors += map(self._placed, violations(config))
                self._check_tls(config)
                read_logins(config)  # now that it is known whether there are other servers
        except ConfigError as error:
            self._add(error)
            if error.file is None and error.key in set(_names()):
                error.file = config_file  # which lacks a line
        else:
            self.config = config.replace(properties=tuple(sorted(self._properties.items())), notes=tuple(self.notes))

    def result(self) -> ServerConfig:
        """
        The configuration.

        @raise ConfigError: the first thing that is wrong.
        """
        if self.errors:
            raise self.errors[0]
        assert self.config is not None
        return self.config

    def note(self, setting: Setting, message: str, level: str = "warning") -> None:
        """Remark on a setting."""
        self.notes.append(Note(level, message, setting.key, setting.source, setting.line))

    # -- the passes

    def _sort(self) -> None:
        """Tell keys, server lines and the rest apart; the last of each name counts."""
        known = _keys_by_spelling()
        for setting in self.settings:
            member = setting.key.startswith(("server.", "group.", "weight.")) or setting.key == "version"
            if member and not setting.is_property:
                self.members.pop(setting.key, None)
                self.members[setting.key] = setting
                continue
            key = known.get(setting.key)
            name = key.name if key else setting.key.removeprefix(PREFIX)
            self.used.pop(name, None)
            self.used[name] = setting
            if key:
                self.keys[name] = key

    def _read_values(self) -> None:
        for name, key in self.keys.items():
            setting = self.used[name]
            try:
                value = _value(key, setting.value)
            except ConfigError as error:
                self._add(error, setting)
                continue
            except ValueError as error:
                if key.strict:
                    self._add(ConfigError(str(error), key=setting.key, remedy=remedy(key)), setting)
                    continue
                value = _lenient(key, setting.value)
                self.note(setting, f"{error}; {render(key, value) or 'nothing'} is used")
            self._values[key.attribute] = self._bounded(key, value, setting)
        self._weights()

    def _bounded(self, key: Key, value: Any, setting: Setting) -> Any:
        """Raise a value to its minimum, as Java does; some may not be smaller."""
        if key.minimum is not None and value < key.minimum:
            if key.kind is Kind.FLOAT:
                self._add(
                    ConfigError(
                        f"{setting.value} is less than {key.minimum}",
                        key=setting.key,
                        remedy=f"write {key.minimum} or more",
                    ),
                    setting,
                )
                return key.default
            self.note(setting, f"{setting.value} is less than {key.minimum}, which is used")
            return key.minimum
        if key.attribute == "jute_max_buffer_extra_size" and value < 1024:
            self.note(setting, f"{setting.value} is less than 1024, which is used")
            return 1024
        if key.attribute == "snapshot_size_factor" and value > 1:
            self.note(setting, f"{setting.value} is more than 1; {key.default} is used")
            return key.default
        if key.kind is Kind.PATH and "\0" in value:
            self._add(ConfigError("a path cannot hold NUL", key=setting.key, remedy="remove \\u0000"), setting)
        elif key.kind is Kind.PATH and value and not os.path.isabs(value):
            self.note(setting, f"{value} is relative to the working directory, {os.getcwd()}", "note")
        return value

    def _weights(self) -> None:
        """Weights of the connection throttle that make no sense fall back to their defaults."""
        names = [f"connection_throttle_{kind}_session_weight" for kind in ("global", "renew", "local")]
        defaults = keys_by_attribute()
        weights = {name: self._values.get(name, defaults[name].default) for name in names}
        local = weights[names[2]]
        for name in names:
            too_small = weights[name] <= 0 or weights[name] < local
            if too_small and name in self._values:
                setting = self.used[defaults[name].name]
                self._values[name] = defaults[name].default
                self.note(setting, f"{setting.value} is too small a weight; {defaults[name].default} is used")

    def _refuse(self) -> None:
        """What belongs to features that are not there, what has no effect, and what nobody knows."""
        values = {name: setting.value for name, setting in self.used.items()}
        for name, setting in self.used.items():
            if name in self.keys:
                continue
            verdict = others.judge(name, setting.value, values)
            if isinstance(verdict, others.Refused):
                self._add(ConfigError(verdict.message, key=setting.key, remedy=verdict.remedy), setting)
            elif isinstance(verdict, others.Kept):
                self._properties[name] = setting.value
            elif isinstance(verdict, others.Ignored):
                self.note(setting, f"ignored: {verdict.reason}", verdict.level)
            else:
                self._unknown(name, setting)

    def _unknown(self, name: str, setting: Setting) -> None:
        """An unknown key becomes a property, as in Java."""
        self._properties[name] = setting.value
        if setting.source in ("SERVER_JVMFLAGS", "JVMFLAGS") and not setting.key.startswith(PREFIX):
            return  # options of a Java virtual machine, most of which are none of ZooKeeper's
        meant = others.suggest(name, [*_names(), *others.names()])
        hint = f"; did you mean {meant}?" if meant else ""
        self.note(setting, f"no such setting, so it has no effect{hint}")

    def _build(self, myid: int | None, config_file: str | None) -> ServerConfig:
        """Put the values together, in the order in which Java looks at them."""
        if not self._values.get("data_dir"):
            raise ConfigError(
                "dataDir is not set",
                file=config_file,
                key="dataDir",
                remedy="write dataDir= and the directory of the data",
            )
        config = ServerConfig(**self._values, config_file=config_file)
        self._check_schemes(config, read_logins(config) if self._supported_only else Logins())
        ensemble = self._ensemble(config)
        sid = self._server_id(config, myid)
        if ensemble is None:
            return config.replace(myid=sid)
        port, host = self._client_address(config, ensemble, sid)
        config = config.replace(myid=sid, ensemble=ensemble, client_port=port, client_port_address=host)
        if config.distributed and sid is None:
            path = os.path.join(config.data_dir, "myid")
            raise ConfigError("myid file is missing", key="myid", remedy=f"write the id to {path}, or use --myid")
        return config.replace(peer_type=self._role(config))

    def _ensemble(self, config: ServerConfig) -> Ensemble | None:
        lines = self.members
        if config.dynamic_config_file:
            for name, setting in lines.items():
                if name != "version":
                    raise self._placed(
                        ConfigError(
                            f"parameter: {name} must be in a separate dynamic config file",
                            key=name,
                            remedy=f"move it to {config.dynamic_config_file}",
                        ),
                        setting,
                    )
            lines = {setting.key: setting for setting in file_settings(config.dynamic_config_file)}
            if "version" in lines:
                raise self._placed(
                    ConfigError("dynamic file shouldn't have version inside", key="version", remedy="remove the line"),
                    lines["version"],
                )
            version = _version_of(config.dynamic_config_file)
            if version is not None:
                lines["version"] = Setting("version", version, config.dynamic_config_file)
            self.members = lines
        if not lines:
            if not config.standalone_enabled:
                Ensemble(()).check(standalone_enabled=False)
            return None
        ensemble = Ensemble.parse(
            {name: setting.value for name, setting in lines.items()},
            multi_address=config.multi_address_enabled,
            strict=bool(config.dynamic_config_file),
        )
        ensemble.check(standalone_enabled=config.standalone_enabled)
        return ensemble if ensemble.members else None

    def _server_id(self, config: ServerConfig, myid: int | None) -> int | None:
        path = os.path.join(config.data_dir, "myid")
        try:
            with open(path, encoding="latin-1") as file:
                text = file.readline().rstrip("\r\n")
        except (FileNotFoundError, NotADirectoryError):
            return myid
        except OSError as error:
            raise ConfigError(f"cannot be read: {error.strerror}", file=path, remedy="let this user read it") from error
        try:
            written = number(text, 64)
        except ValueError:
            raise ConfigError(
                f"serverid {text} is not a number", file=path, line=1, remedy="write the id in digits, nothing else"
            ) from None
        if myid is not None and myid != written:
            raise ConfigError(
                f"the id is {written} there, not {myid} as --myid says",
                file=path,
                line=1,
                remedy="is it the data directory of another server?",
            )
        return written

    def _client_address(
        self, config: ServerConfig, ensemble: Ensemble, sid: int | None
    ) -> tuple[int | None, str | None]:
        """Where this server's clients connect: what the server line says must fit clientPort."""
        static = config.client_port, config.client_port_address
        if sid is None and len(ensemble.members) == 1 and config.client_port is None:
            sid = ensemble.members[0].sid
        member = ensemble.member(sid) if sid is not None else None
        if member is None or member.client_address is None:
            return static
        dynamic = member.client_address
        if config.client_port is not None:
            fixed = Address(normal_host(config.client_port_address or ANY_HOST), config.client_port)
            wildcard = fixed.host in (ANY_HOST, "0:0:0:0:0:0:0:0")
            if fixed.port != dynamic.port or not (wildcard or fixed == dynamic):
                raise ConfigError(
                    f"client address for this server (id = {sid}) in static config file is {fixed} "
                    f"is different from client address found in dynamic file: {dynamic}",
                    key=f"server.{sid}",
                    remedy="remove clientPort, or write the same",
                )
        return dynamic.port, None if dynamic.host == ANY_HOST else dynamic.host

    def _check_schemes(self, config: ServerConfig, logins: Logins) -> None:
        offered = ["ip"]
        if logins.clients is not None:
            offered.append("sasl")
        else:
            self._note_idle_sasl()
        if config.digest_auth_enabled:
            offered.append("digest")
        classes = {value.rpartition(".")[2] for value in self._properties.values()}
        if "EnsembleAuthenticationProvider" in classes:
            offered.append("ensemble")
        # With a key store there may be TLS on an endpoint that the configuration does not know.
        if config.client_tls or config.ssl_key_store_location or "X509AuthenticationProvider" in classes:
            offered.append("x509")
        # Whether they are installed is not known before the server starts.
        offered += [value.partition(":")[2] for value in self._properties.values() if value.startswith("plugin:")]
        for scheme in config.enforced_schemes:
            if scheme not in offered:
                remedy = f"write {' or '.join(offered)}"
                if scheme == "sasl":
                    remedy = f"write {JAAS_KEY}= and the path of a JAAS file with a section Server"
                raise ConfigError(
                    f"Authentication scheme {scheme} is not available.",
                    key=config.enforcing_key,
                    remedy=remedy,
                )

    def _note_idle_sasl(self) -> None:
        """Remark on what has no effect as clients have no SASL."""
        for name, setting in self.used.items():
            by_class = name.startswith("authProvider.") and setting.value.endswith("SASLAuthenticationProvider")
            if by_class or name in _OF_SASL:
                self.note(setting, "no effect: no JAAS file with a section for clients (Server) is named")

    def _role(self, config: ServerConfig) -> str:
        """participant or observer: what the server line says, whatever peerType says."""
        member = config.member
        if member is None or member.role == config.peer_type:
            return config.peer_type
        if "peerType" in self.used:
            self.note(self.used["peerType"], f"server.{member.sid} says {member.role}, which counts")
        return member.role

    def _check_ensemble(self, config: ServerConfig) -> None:
        """
        Refuse an ensemble of which this server cannot be a part; remark on one that could be better.

        @raise ConfigError: see there.
        """
        ensemble = config.ensemble
        if ensemble is None:
            return
        first = next(iter(self.members.values()))
        if not config.distributed:
            if config.myid is not None and ensemble.member(config.myid) is None:
                self.note(first, f"ignored: the id of this server is {config.myid}")
            return
        if config.member is None:
            listed = ", ".join(str(member.sid) for member in ensemble.members)
            raise ServerIdError(
                f"My id {config.sid} not in the peer list",
                file=os.path.join(config.data_dir, "myid"),
                remedy=f"the server lines name {listed}; write the id of this server there, or a line for it",
            )
        if config.reconfig_enabled:
            raise ConfigError(
                "adding and removing servers while they run (reconfig) is not offered yet",
                key="reconfigEnabled",
                remedy="write reconfigEnabled=false, on every server",
            )
        unfinished = f"{config.config_file}.dynamic.next"
        if config.config_file is not None and os.path.exists(unfinished):
            raise ConfigError(
                "a change of the servers was begun and not finished",
                file=unfinished,
                remedy="let the Java server that began it finish it, or remove the file if it was given up",
            )
        ensemble.check_weights()
        self._check_addresses(config, config.member, ensemble)
        voters = len(ensemble.voters)
        if voters == 2 and not ensemble.hierarchical:
            self.note(first, "with 2 voters the ensemble stops when either fails; 3 are needed to survive one")
        elif voters % 2 == 0 and not ensemble.hierarchical:
            self.note(first, f"{voters} voters survive no more failures than {voters - 1}; use an odd number")

    def _check_tls(self, config: ServerConfig) -> None:
        """
        Refuse TLS without what it needs.

        @raise ConfigError: see there.
        """
        wanted = (
            ("secureClientPort", config.secure_client_port is not None, "ssl", config.ssl_key_store_location),
            ("client.portUnification", config.client_port_unification, "ssl", config.ssl_key_store_location),
            ("sslQuorum", config.ssl_quorum, "ssl.quorum", config.ssl_quorum_key_store_location),
            ("portUnification", config.port_unification, "ssl.quorum", config.ssl_quorum_key_store_location),
        )
        for name, switched_on, family, key_store in wanted:
            if not switched_on or (family == "ssl.quorum" and not config.distributed):
                continue
            if find_spec("OpenSSL") is None or find_spec("service_identity") is None:
                raise ConfigError(
                    "TLS needs packages that are not installed", key=name, remedy="pip install zktwisted[tls]"
                )
            if not key_store:
                raise ConfigError(
                    f"Keystore is required for SSL server: {family}.keyStore.location",
                    key=name,
                    remedy=f"write {family}.keyStore.location= and the file of the server's key and certificates",
                )

    def _check_addresses(self, config: ServerConfig, mine: Member, ensemble: Ensemble) -> None:
        """No two ports of servers may be the same, nor may one be the port for clients."""
        seen: dict[Address, int] = {}
        for member in ensemble.members:
            for address in (*member.addresses, *member.election_addresses):
                other = seen.setdefault(address, member.sid)
                if other != member.sid:
                    raise ConfigError(
                        f"{address} is an address of server.{other} as well",
                        key=f"server.{member.sid}",
                        remedy="give each server ports of its own",
                    )
        host = normal_host(config.client_port_address or ANY_HOST)
        for address in (*mine.addresses, *mine.election_addresses):
            if address.port == config.client_port and address.port and host in (ANY_HOST, address.host):
                raise ConfigError(
                    f"clients would be served on {address}, where other servers are",
                    key="clientPort" if "clientPort" in self.used else f"server.{mine.sid}",
                    remedy="give clients a port of their own",
                )

    # -- errors

    def _add(self, error: ConfigError, setting: Setting | None = None) -> None:
        self.errors.append(self._placed(error, setting))

    def _placed(self, error: ConfigError, setting: Setting | None = None) -> ConfigError:
        """Tell an error the file and line of the setting that it is about."""
        if setting is None and error.key is not None:
            setting = self.used.get(error.key) or self.members.get(error.key)
        if setting is not None and error.file is None:
            error.file, error.line, error.key = setting.source, setting.line, setting.key
        return error


def _value(key: Key, text: str) -> Any:
    """
    The value of a setting.

    @raise ValueError: it is none; the default may do if the key is not strict.
    @raise ConfigError: it is none.
    """
    if key.attribute == "peer_type":
        return parse_role(text)
    value = parse(key, text)
    if key.attribute == "election_alg" and value != 3:
        raise ConfigError(
            "Invalid electionAlg value. Only 3 is supported.",
            key=key.name,
            remedy="remove it, or write 3: the elections over UDP (0 to 2) gave way to the one over TCP",
        )
    if key.attribute == "snapshot_compression_method":
        if value.lower() not in ("", "gz", "snappy"):
            raise ValueError(f'"{text}" is no compression method (gz and snappy are)')
        if value.lower() == "snappy" and find_spec("cramjam") is None:
            raise ConfigError(
                "snappy is not installed", key=key.name, remedy="pip install zktwisted[snappy], or write gz"
            )
        return value.lower()
    if key.attribute == "digest_algorithm" and not _HASH.fullmatch(value):
        raise ConfigError(f"there is no hash {text}", key=key.name, remedy="write SHA1, SHA-256 or SHA3-256")
    return value


def _lenient(key: Key, text: str) -> Any:
    """What Java makes of a bad value of a property: false, or the default."""
    if key.kind is Kind.FLAG:
        return False
    return key.default


# What Java calls the hashes that Python has, in any case.
_HASH = re.compile(r"MD5|SHA-?1?|SHA-?(224|256|384|512)|SHA-512/(224|256)|SHA3-(224|256|384|512)", re.IGNORECASE)


# What concerns clients that authenticate by SASL.
_OF_SASL = frozenset({"SASLAuthenticationProvider.superPassword", "superUser", "allowSaslFailedClients"})


def _version_of(path: str) -> str | None:
    """The version of a dynamic file, in hexadecimal: what follows the last dot of its path, if it is a number."""
    text = path.rpartition(".")[2] if "." in path else ""
    valid = re.fullmatch(r"[+-]?[0-9a-fA-F]+", text) and -(1 << 63) <= int(text, 16) < 1 << 63
    return text if valid else None


_SPELLINGS: dict[str, Key] = {}


def _keys_by_spelling() -> dict[str, Key]:
    if not _SPELLINGS:
        for key in ServerConfig.keys():
            _SPELLINGS.update(dict.fromkeys(key.spellings, key))
    return _SPELLINGS


def _names() -> Iterable[str]:
    return (key.name for key in ServerConfig.keys())
