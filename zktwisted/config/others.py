"""
Keys of a Java server's C{zoo.cfg} that have no field here, and what becomes of each.

What belongs to a feature that this version lacks is refused, because a server that silently runs without what keeps
strangers out, or without its admin port, is worse than one that does not start.  What tunes the Java machine (threads,
buffers, caches of its own making) is accepted and named as ignored.

This module knows names and reasons; it reads no files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

__all__ = ["Ignored", "Kept", "Refused", "judge", "names", "suggest", "verdicts"]


class Refused(NamedTuple):
    """A setting of a feature that this version lacks."""

    message: str
    remedy: str


class Ignored(NamedTuple):
    """A setting that has no effect here, and why; it is a warning where somebody may count on it."""

    reason: str
    level: str = "note"


class Kept(NamedTuple):
    """A setting that is handed on as a property, to the room that knows it."""


_TLS = Refused("this setting of TLS is not supported", "remove it; the reference has those that are")
_OCSP = Refused(
    "nobody else is asked about a certificate while it is shown",
    "write false, and look at lists: ssl.crl=true, or ssl.quorum.crl=true between servers",
)
_REVERSE = Refused(
    "a name that is looked up for an address proves nothing: whoever answers for the address decides",
    "write false, and put addresses into the certificates of clients; "
    "between servers write the names of the certificates into the server lines",
)
_ADMIN = Refused("the admin server is not supported yet", "write admin.enableServer=false")
_FORWARDED = Refused("it is about requests to the admin server, which is not supported yet", "write false")
_AUDIT = Refused("the audit log is not supported yet", "write audit.enable=false")
_PROMETHEUS = Refused("the Prometheus exporter is not supported yet", "remove it; the word mntr has the same figures")
_OLD_TTL = Refused("TTL nodes in the form of ZooKeeper 3.5.3 are not supported", "write false")
_ORACLE = Refused("an oracle that decides between two servers is not supported", "remove it; three servers need none")

_HARMLESS = Ignored("it switches on nothing")
_THREADS = Ignored("there is one event loop and no such threads or buffers here")
_ASYNCHRONOUS = Ignored("all input and output is asynchronous here")
_ONE_IMPLEMENTATION = Ignored("there is one implementation, which needs no such choice")
_NO_CACHE = Ignored("there is no cache of replies")
_DIAGNOSTIC = Ignored("a diagnostic of the Java server")
_TESTING = Ignored("it exists for tests of the Java server")
_REALM = Ignored("a section of the JAAS file that asks for Kerberos needs its configuration in any case")
_KRB5_CONF = Ignored("the library of Kerberos reads the file that KRB5_CONFIG names in the environment")
_TICKETS = Ignored("tickets are got and renewed by the library of Kerberos")
_OF_CLIENTS = Ignored("it is read by clients")
_NETTY = Ignored("Twisted serves the connections")
_LOGGING = Ignored("logs are Twisted's here: see twist --log-file and --log-format")

# Refused when true, harmless otherwise.
_SWITCHES: dict[str, Refused] = {
    "ssl.ocsp": _OCSP,
    "ssl.allowReverseDnsLookup": _REVERSE,
    "ssl.quorum.ocsp": _OCSP,
    "ssl.quorum.allowReverseDnsLookup": _REVERSE,
    "admin.enableServer": _ADMIN,
    "audit.enable": _AUDIT,
    "IPAuthenticationProvider.usexforwardedfor": _FORWARDED,
    "emulate353TTLNodes": _OLD_TTL,
}

# What some of them are about; where that is off they are harmless as well.
_ABOUT = {
    "ssl.allowReverseDnsLookup": ("ssl.clientHostnameVerification", "false"),
    "ssl.quorum.allowReverseDnsLookup": ("ssl.quorum.hostnameVerification", "true"),
}

# Exact names, and names that end with a dot or an asterisk for everything that begins so.
_NAMES: dict[str, Refused | Ignored | Kept] = {
    "ssl.sslProvider": Ignored("OpenSSL is what there is"),
    "ssl.quorum.sslProvider": Ignored("OpenSSL is what there is"),
    "ssl.*": _TLS,
    "superUser.*": Kept(),
    "letAnySaslUserDoX": Kept(),
    "ensembleAuthName": Kept(),
    "audit.impl.class": _LOGGING,
    "admin.httpVersion": Ignored("there is no such choice of HTTP here"),
    "serverCnxnFactory": Ignored("Twisted serves the connections, whichever factory is named"),
    "initialConfig": Ignored("Java does not use it either"),
    "netty.*": _NETTY,
    "requireKerberosConfig": _REALM,
    "java.security.krb5.*": _KRB5_CONF,
    "kinit": _TICKETS,
    "server.principal": _OF_CLIENTS,
    "quorum.cnxn.threads.size": _THREADS,
    "intBufferStartingSizeBytes": _THREADS,
    "commitProcessor.*": _THREADS,
    "nio.*": _THREADS,
    "leader.closeSocketAsync": _ASYNCHRONOUS,
    "learner.closeSocketAsync": _ASYNCHRONOUS,
    "learner.asyncSending": _ASYNCHRONOUS,
    "forward_learner_requests_to_commit_processor_disabled": _ASYNCHRONOUS,
    "follower.skipLearnerRequestToNextProcessor": _ASYNCHRONOUS,
    "maxResponseCacheSize": _NO_CACHE,
    "maxGetChildrenResponseCacheSize": _NO_CACHE,
    "watchManagerName": _ONE_IMPLEMENTATION,
    "watcherCleanThreadsNum": _ONE_IMPLEMENTATION,
    "watcherCleanThreshold": _ONE_IMPLEMENTATION,
    "watcherCleanIntervalInSeconds": _ONE_IMPLEMENTATION,
    "maxInProcessingDeadWatchers": _ONE_IMPLEMENTATION,
    "bitHashCacheSize": _ONE_IMPLEMENTATION,
    "pathStats.*": _DIAGNOSTIC,
    "messageTracker.*": _DIAGNOSTIC,
    "leader.ackLoggingFrequency": _DIAGNOSTIC,
    "jmx.*": Ignored("there is no JMX here"),
    "log.*": _LOGGING,
    "log4j.*": _LOGGING,
    "root.logger": _LOGGING,
    "console.threshold": _LOGGING,
    "tracelog.*": _LOGGING,
    "leader.nodelay": Ignored("small packets are always sent at once"),
    "follower.nodelay": Ignored("small packets are always sent at once"),
    "oraclePath": _ORACLE,
    "testingonly.*": _TESTING,
    "test.*": _TESTING,
}

_METRICS = "org.apache.zookeeper.metrics."
_PROVIDERS: dict[str, Refused | Ignored] = {
    f"{_METRICS}impl.DefaultMetricsProvider": Ignored("it is what there is"),
    f"{_METRICS}impl.NullMetricsProvider": Ignored("the figures are counted in any case"),
    f"{_METRICS}prometheus.PrometheusMetricsProvider": _PROMETHEUS,
}
_AUTH_PROVIDERS: dict[str, Refused | Ignored | Kept] = {
    "SASLAuthenticationProvider": Kept(),
    "X509AuthenticationProvider": Kept(),
    "EnsembleAuthenticationProvider": Kept(),
    "KeyAuthenticationProvider": Refused("the sample provider of keys is not supported", "remove it"),
    "DigestAuthenticationProvider": Ignored("digest is always offered, unless it is switched off"),
    "IPAuthenticationProvider": Ignored("ip is always offered"),
}


def judge(name: str, value: str, settings: Mapping[str, str]) -> Refused | Ignored | Kept | None:
    """
    What becomes of a key without a field.

    @param name: the key without the prefix C{zookeeper.}.
    @param settings: all settings by such names, for keys that matter only beside others.
    @return: None if no version of ZooKeeper knows the key.
    """
    if name in _SWITCHES:
        about, default = _ABOUT.get(name, ("", "true"))
        on = value.lower() == settings.get(about, default).lower() == "true"
        return _SWITCHES[name] if on else _HARMLESS
    if name == "metricsProvider.className":
        unknown = Refused(f"metrics provider class was not found: {value}", "remove it")
        return _PROVIDERS.get(value, unknown)
    if name.startswith("metricsProvider."):
        return Ignored("it is for the Prometheus exporter")
    if name == "authProvider" or name.startswith("authProvider."):
        if value.startswith("plugin:"):
            return Kept()
        unknown_class = Ignored(f"the class {value} cannot be loaded here, so its scheme is not offered", "warning")
        return _AUTH_PROVIDERS.get(value.rpartition(".")[2], unknown_class)
    if name in _NAMES:
        return _NAMES[name]
    if name.startswith("admin."):
        off = settings.get("admin.enableServer", "").lower() == "false"
        return Ignored("the admin server is off") if off else _ADMIN
    for pattern, verdict in _NAMES.items():
        if pattern.endswith("*") and name.startswith(pattern[:-1]):
            return verdict
    return None


def verdicts() -> Iterable[tuple[str, Refused | Ignored | Kept]]:
    """What becomes of each name and pattern, for the reference page."""
    yield from _SWITCHES.items()
    yield from _NAMES.items()
    yield "admin.*", _ADMIN
    yield from ((f"metricsProvider.className={name}", verdict) for name, verdict in _PROVIDERS.items())
    yield from ((f"authProvider.*={name}", verdict) for name, verdict in _AUTH_PROVIDERS.items())


def names() -> Iterable[str]:
    """Every name in the tables of this module that stands for one key."""
    yield from _SWITCHES
    yield from (name for name in _NAMES if not name.endswith("*"))
    yield from ("metricsProvider.className", "admin.serverPort", "admin.serverAddress")


def suggest(name: str, known: Iterable[str]) -> str | None:
    """The known name that C{name} was probably meant to be."""
    import difflib

    folded = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.75)
    return folded[close[0]] if close else None
