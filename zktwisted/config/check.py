"""
The report of C{twist zookeeper --check-config}: every setting explained, everything odd about it named.

This module words remarks; whether a configuration works is decided by C{zktwisted.config.loader} alone, so the
report and the server cannot disagree.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from zktwisted.config.ensemble import Ensemble, Member
from zktwisted.config.fields import Key, render
from zktwisted.config.loader import Loading, Setting
from zktwisted.config.others import suggest
from zktwisted.config.secure import SECURE, is_loopback
from zktwisted.config.server import Note, ServerConfig

__all__ = ["Report", "check"]

WORDS = (
    "conf", "cons", "crst", "dirs", "dump", "envi", "gtmk", "hash", "isro", "mntr", "ruok", "srst", "srvr", "stat",
    "stmk", "wchc", "wchp", "wchs",
)  # fmt: skip


# What a key is called whose value is nobody's business, be it one of ours or not.
_SECRET = re.compile("pas+w|pwd|secret|superDigest|token", re.IGNORECASE)

_LINES = {
    "server.": "A server of the ensemble: host, port while it leads, port of elections, role, client port.",
    "group.": "Servers whose votes count together; a quorum needs more than half of the groups.",
    "weight.": "How much the vote of a server counts in its group. Default: 1.",
    "version": "The version of the server lines, hexadecimal.",
}


@dataclass(frozen=True, slots=True)
class Report:
    """
    What there is to say about a configuration.

    @ivar lines: the text, line by line.
    @ivar status: an exit status: 0 all is well, 1 there are warnings, 2 the server would not start.
    """

    lines: tuple[str, ...]
    status: int

    @property
    def text(self) -> str:
        """The lines as one text, with a newline at the end."""
        return "\n".join(self.lines) + "\n"


def check(settings: Sequence[Setting], *, myid: int | None = None, config_file: str | None = None) -> Report:
    """
    Explain settings.

    @param settings: in order of precedence, as C{zktwisted.config.loader.Loading} takes them.
    @param myid: the id that was given on the command line.
    @param config_file: the file that most of them come from.
    """
    loading = Loading(settings, myid=myid, config_file=config_file)
    notes = list(loading.notes)
    if loading.config is not None:
        notes += _risks(loading, loading.config)
    errors = [Note("error", _worded(error), error.key, error.file, error.line) for error in loading.errors]
    lines: list[str] = []
    remarks = [*errors, *notes]
    used = set(map(id, loading.used.values()))
    for setting in settings:
        key = loading.keys.get(_name(loading, setting))
        lines.append(_explained(setting, key))
        server_line = setting.key.startswith(("server.", "group.", "weight.")) or setting.key == "version"
        if id(setting) not in used and not server_line:
            lines.append("    note: a later one wins")
            continue
        here = [note for note in remarks if (note.key, note.file, note.line) == (setting.key, *setting[2:4])]
        remarks = [note for note in remarks if note not in here]
        lines += [f"    {note.level}: {note.message}" for note in here]
    lines += [f"{note.level}: {Note('', note.message, note.key, note.file, note.line)}" for note in remarks]
    warnings = sum(note.level == "warning" for note in notes)
    lines += ["", *_summary(loading, len(errors), warnings)]
    return Report(tuple(lines), 2 if errors else 1 if warnings else 0)


def _worded(error: Exception) -> str:
    message = getattr(error, "message", str(error))
    remedy = getattr(error, "remedy", None)
    return f"{message} ({remedy})" if remedy else message


def _name(loading: Loading, setting: Setting) -> str:
    for name, key in loading.keys.items():
        if setting.key in key.spellings:
            return name
    return setting.key


def _explained(setting: Setting, key: Key | None) -> str:
    place = ":".join(str(part) for part in (setting.source, setting.line) if part is not None)
    value = "***" if _SECRET.search(setting.key) else setting.value
    text = f"{place}: {setting.key}={value}" if place else f"{setting.key}={value}"
    if key is None:
        about = next((words for start, words in _LINES.items() if setting.key.startswith(start)), None)
        return f"{text}\n    {about}" if about and not setting.is_property else text
    default = key.default_text or render(key, key.default)
    unit = f" {key.unit}" if key.unit and not key.default_text else ""
    doc = re.sub(r"C\{([^}]*)\}", r"\1", key.doc)
    return f"{text}\n    {doc} Default: {default}{unit}." if default else f"{text}\n    {doc}"


def _summary(loading: Loading, errors: int, warnings: int) -> Iterator[str]:
    counts = f"settings: {len(loading.settings)}, errors: {errors}, warnings: {warnings}"
    config = loading.config
    if errors or config is None:
        yield f"{counts}. The server would not start."
        return
    yield f"{counts}. The server would start."
    if config.secure_client_port is not None:
        host = config.secure_client_port_address or "every address"
        yield f"It would serve clients that use TLS on port {config.secure_client_port} of {host}."
    elif config.client_port is None:
        yield "It would open no client port (clientPort is not set)."
    if config.client_port is not None:
        host = config.client_port_address or "every address"
        tls = ", with TLS or without" * config.client_port_unification
        yield f"It would serve clients on port {config.client_port} of {host}{tls}."
    if config.distributed and config.ensemble is not None and config.member is not None:
        yield from _place(config.ensemble, config.member, config.observer)
    if config.profile == SECURE:
        yield "The profile secure holds: nobody from elsewhere gets in without TLS and authentication."
    yield f"Snapshots: {config.snapshot_dir}; transaction log: {config.log_dir}."
    low, high = config.min_session_timeout, config.max_session_timeout
    yield f"Sessions last {low} to {high} ms without a sign of life."


def _place(ensemble: Ensemble, mine: Member, observer: bool) -> Iterator[str]:
    """What the server would be among the others."""
    voters, observers = len(ensemble.voters), len(ensemble.observers)
    counts = f"{voters} voter{'s' * (voters != 1)}"
    if observers:
        counts += f" and {observers} observer{'s' * (observers != 1)}"
    role = "an observer" if observer else "a voter"
    yield f"It would be server {mine.sid}, {role}, in an ensemble of {counts}."
    if not ensemble.hierarchical:
        yield f"{voters // 2 + 1} voters have to work together; {(voters - 1) // 2} may fail."
    for address, election in zip(mine.addresses, mine.election_addresses, strict=False):
        yield f"Other servers would reach it on {address} (while it leads) and {election} (elections)."


def _risks(loading: Loading, config: ServerConfig) -> Iterator[Note]:
    """Values that work and may hurt."""

    def note(name: str, message: str, level: str = "warning") -> Note:
        setting = loading.used.get(name) or loading.members.get(name)
        if setting is None:
            return Note(level, message, name)
        return Note(level, message, setting.key, setting.source, setting.line)

    if not config.force_sync:
        yield note("forceSync", "risky: a crash of the machine loses acknowledged writes")
    if config.client_tls and config.ssl_client_auth.lower() != "none" and not config.ssl_trust_store_location:
        yield note("ssl.trustStore.location", "risky: not set, so every authority that the system trusts counts")
    if config.require_client_auth_scheme:
        message = "enforced here; a Java server takes no notice of it and serves everybody"
        yield note("requireClientAuthScheme", message, "note")
    if config.skip_acl:
        yield note("skipACL", "risky: every client may do everything")
    if not config.digest_enabled:
        yield note("digest.enabled", "risky: a damaged log or snapshot may go unnoticed")
    if config.snapshot_trust_empty:
        yield note("snapshot.trust.empty", "risky: a lost snapshot goes unnoticed; set it for one start only")
    if "*" in config.four_letter_words_whitelist:
        yield note("4lw.commands.whitelist", "risky: wchp, wchc, dump and cons burden a busy server, for anyone")
    for word in config.four_letter_words_whitelist:
        if word not in WORDS and word != "*":
            meant = suggest(word, WORDS)
            yield note("4lw.commands.whitelist", f"no such word: {word}" + (f"; did you mean {meant}?" * bool(meant)))
    if config.max_client_cnxns <= 0:
        yield note("maxClientCnxns", "risky: one client may use up all connections")
    if config.jute_max_buffer > 16 << 20:
        yield note("jute.maxbuffer", "risky: large nodes stall everyone, and every client must be told as well")
    if 0 < config.jute_max_buffer < 4096:
        yield note("jute.maxbuffer", "risky: clients send requests that are longer")
    if config.min_session_timeout < 2 * config.tick_time and "minSessionTimeout" in loading.used:
        yield note("minSessionTimeout", "less than 2 ticks: clients may time out while all is well")
    if config.tick_time < 100:
        yield note("tickTime", "risky: sessions expire during any short pause")
    if config.snap_count < 1000:
        yield note("snapCount", "risky: the server would write snapshots all the time")
    digest = config.digest_super_digest
    if digest and not re.fullmatch(r"super:[A-Za-z0-9+/]+=*", digest):
        yield note("DigestAuthenticationProvider.superDigest", "it is not super: and a base64 hash, so nobody matches")
    if config.jaas_file and os.stat(config.jaas_file).st_mode & 0o007:
        yield note("java.security.auth.login.config", "risky: everybody on this machine may read the passwords")
    if os.path.abspath(config.data_dir).startswith(("/tmp/", "/var/tmp/", "/dev/shm/")):  # noqa: S108
        yield note("dataDir", "risky: the system may empty this directory")
    if not config.autopurge_purge_interval_ms:
        yield note("autopurge.purgeInterval", "old snapshots and logs are never removed (0)", "note")
    if config.distributed:
        yield from _risks_of_ensembles(config, note)
        return
    for name, key in loading.keys.items():
        if key.ensemble:
            yield note(name, "it has an effect in ensembles only", "note")


def _risks_of_ensembles(config: ServerConfig, note: Callable[..., Note]) -> Iterator[Note]:
    ensemble, mine = config.ensemble, config.member
    assert ensemble is not None
    low_bytes: dict[int, int] = {}
    for member in ensemble.members:
        other = low_bytes.setdefault(member.sid & 0xFF, member.sid)
        if other != member.sid:
            message = f"risky: session ids hold one byte of the server's id, and {other} and {member.sid} share it"
            yield note(f"server.{member.sid}", message)
    others = [member for member in ensemble.members if member is not mine]
    elsewhere = not all(is_loopback(each.host) for other in others for each in other.addresses)
    for address in () if mine is None else mine.addresses:
        if is_loopback(address.host) and elsewhere:
            message = f"risky: {address.host} reaches this server only from this machine, and others are elsewhere"
            yield note(f"server.{config.sid}", message)
    if config.sync_limit * config.tick_time < 1000:
        yield note("syncLimit", "risky: servers give each other up after any short pause (syncLimit x tickTime)")
    if config.init_limit < config.sync_limit:
        yield note("initLimit", "less than syncLimit: a server with much to fetch may never get ready")
    if config.ssl_quorum and config.ssl_quorum_client_auth.lower() != "need":
        yield note("ssl.quorum.clientAuth", "risky: who shows no certificate can be one of the servers")
    message = "risky: whoever has any certificate of a trusted authority can be one of the servers"
    if config.ssl_quorum and not config.ssl_quorum_hostname_verification:
        yield note("ssl.quorum.hostnameVerification", message)
    elif config.ssl_quorum and not config.ssl_quorum_client_hostname_verification:
        yield note("ssl.quorum.clientHostnameVerification", message)
    if config.quorum_tls and not config.ssl_quorum_trust_store_location:
        yield note("ssl.quorum.trustStore.location", "risky: not set, so every authority that the system trusts counts")
    if config.port_unification:
        yield note("portUnification", "other servers may connect without TLS; for the time of a change only")
    if config.force_snapshot_sync:
        yield note("forceSnapshotSync", "every server that joins is sent everything; meant for tests")
    if not config.leader_serves:
        yield note("leaderServes", "clients that know only the leader's address find no service", "note")
    if config.quorum_auth_enable_sasl and not config.quorum_auth_server_require_sasl:
        yield note("quorum.auth.enableSasl", "risky: servers need not authenticate (quorum.auth.serverRequireSasl)")
    if config.local_sessions_upgrading_enabled and not config.local_sessions_enabled:
        yield note("localSessionsUpgradingEnabled", "no effect without localSessionsEnabled=true")
    if config.readonlymode_enabled and not config.local_sessions_enabled:
        yield note("readonlymode.enabled", "without a quorum only local sessions can begin: see localSessionsEnabled")
    if not config.sync_enabled and not config.observer:
        yield note("syncEnabled", "it has an effect on observers only", "note")
    if config.testingonly_initial_zxid is not None:
        yield note("testingonly.initialZxid", "risky: for tests only")
