"""
The settings of TLS: for clients (C{ssl.*}) and between servers (C{ssl.quorum.*}), the same names twice.

L{TlsSettings} is the part of L{zktwisted.config.settings.Settings} that is about them; what the two families have in
common is in one table.  What a certificate is, is not known here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from zktwisted.config.fields import Kind, Section, setting

__all__ = ["CLIENT_AUTH", "TlsSettings"]

TLS = Section.TLS
QUORUM: dict[str, Any] = {"section": TLS, "ensemble": True}

CLIENT_AUTH = ("none", "want", "need")
"""The values of C{ssl.clientAuth}."""


def _row(default: Any, doc: str, default_text: str = "", **options: Any) -> tuple[Any, str, str, dict[str, Any]]:
    return default, doc, default_text, options


# What both families have; C{family} stands for C{ssl} or C{ssl.quorum}, C{whom} for those whom it is about.
_COMMON = {
    "keyStore.location": _row("", "Key and certificates of this server, for {whom}.", "none", kind=Kind.PATH),
    "trustStore.location": _row(
        "", "Certificates that others' are checked against, for {whom}.", "whom the system trusts", kind=Kind.PATH
    ),
    "password": _row("", "The password of that file.", "none", secret=True),
    "passwordPath": _row("", "A file that holds the password, and counts more.", "none", kind=Kind.PATH),
    "type": _row("", "PEM, PKCS12 or JKS.", "as the file's name ends"),
    "protocol": _row("TLSv1.3", "The newest version of TLS, from 1.2 on."),
    "enabledProtocols": _row(
        (), "The versions that are spoken, of TLSv1.2 and TLSv1.3.", "{family}.protocol and older"
    ),
    "ciphersuites": _row((), "The cipher suites, by Java's names or OpenSSL's.", "ECDHE with AES-GCM, ChaCha20 or AES"),
    "clientAuth": _row(
        "need",
        "Whether those who connect show a certificate: C{{need}}, C{{want}} (if they have one) or C{{none}}.",
        strict=True,
    ),
    "hostnameVerification": _row(True, "A certificate has to name the host that it is met at."),
    "crl": _row(False, "Refuse what is on the revocation lists in the PEM file of the trust store."),
    "handshakeDetectionTimeoutMillis": _row(5000, "How long a handshake may take.", unit="ms"),
}


def _common(name: str, *, family: str, whom: str, **others: Any) -> Any:
    """Declare a setting that is in both families."""
    default, doc, default_text, options = _COMMON.get(name) or _COMMON[name.rpartition(".")[2]]
    texts = [text.format(family=family, whom=whom) for text in (doc, default_text)]
    return setting(f"{family}.{name}", default, texts[0], default_text=texts[1], **options, **others)


_client = partial(_common, family="ssl", whom="clients", section=TLS)
_server = partial(_common, family="ssl.quorum", whom="other servers", section=TLS, ensemble=True)


@dataclass(frozen=True, slots=True, kw_only=True, init=False, repr=False, eq=False)
class TlsSettings:
    """What can be written in C{zoo.cfg} about TLS.  Times are in milliseconds."""

    # One argument a line would hide the table.
    # fmt: off

    secure_client_port: int | None = setting(
        "secureClientPort", None, "Port for clients that use TLS; 0 lets the system choose.", kind=Kind.PORT,
        strict=True, section=TLS, default_text="none"
    )
    secure_client_port_address: str | None = setting(
        "secureClientPortAddress", None, "The one address on which they are accepted; needs secureClientPort.",
        kind=Kind.TEXT, strict=True, section=TLS, default_text="every address"
    )
    client_port_unification: bool = setting(
        "client.portUnification", False, "clientPort accepts clients with TLS, too: their first byte tells.",
        section=TLS
    )
    client_cert_reload: bool = setting(
        "client.certReload", False, "Watch the files of C{ssl.*}; new connections use what is new in them.",
        section=TLS
    )
    tls_handshake_limit: int = setting(
        "netty.server.outstandingHandshake.limit", -1,
        "Handshakes of clients that may be under way; more connections are closed. -1 is no limit.", section=TLS
    )
    ssl_auth_provider: str = setting(
        "ssl.authProvider", "x509", "The scheme that a client's certificate is an identity of; there is only x509.",
        section=TLS
    )
    x509_super_user: str = setting(
        "X509AuthenticationProvider.superUser", "",
        "The subject of a certificate, such as C{CN=admin,O=Org}: who shows it may do everything.", section=TLS,
        default_text="none"
    )

    # -- for clients

    ssl_key_store_location: str = _client("keyStore.location")
    ssl_key_store_password: str = _client("keyStore.password")
    ssl_key_store_password_path: str = _client("keyStore.passwordPath")
    ssl_key_store_type: str = _client("keyStore.type")
    ssl_trust_store_location: str = _client("trustStore.location")
    ssl_trust_store_password: str = _client("trustStore.password")
    ssl_trust_store_password_path: str = _client("trustStore.passwordPath")
    ssl_trust_store_type: str = _client("trustStore.type")
    ssl_protocol: str = _client("protocol")
    ssl_enabled_protocols: tuple[str, ...] = _client("enabledProtocols")
    ssl_ciphersuites: tuple[str, ...] = _client("ciphersuites")
    ssl_client_auth: str = _client("clientAuth")
    ssl_hostname_verification: bool = _client("hostnameVerification")
    ssl_client_hostname_verification: bool = setting(
        "ssl.clientHostnameVerification", False, "A client's certificate has to name its address.", section=TLS
    )
    ssl_crl: bool = _client("crl")
    ssl_handshake_detection_timeout_millis: int = _client("handshakeDetectionTimeoutMillis")

    # -- between servers

    ssl_quorum: bool = setting(
        "sslQuorum", False, "Servers use TLS among each other.", strict=True, **QUORUM
    )
    port_unification: bool = setting(
        "portUnification", False, "Servers accept each other with TLS and without: while TLS is switched on.",
        strict=True, **QUORUM
    )
    ssl_quorum_reload_cert_files: bool = setting(
        "sslQuorumReloadCertFiles", False, "Watch the files of C{ssl.quorum.*}, as client.certReload does.",
        strict=True, **QUORUM
    )
    ssl_quorum_key_store_location: str = _server("keyStore.location")
    ssl_quorum_key_store_password: str = _server("keyStore.password")
    ssl_quorum_key_store_password_path: str = _server("keyStore.passwordPath")
    ssl_quorum_key_store_type: str = _server("keyStore.type")
    ssl_quorum_trust_store_location: str = _server("trustStore.location")
    ssl_quorum_trust_store_password: str = _server("trustStore.password")
    ssl_quorum_trust_store_password_path: str = _server("trustStore.passwordPath")
    ssl_quorum_trust_store_type: str = _server("trustStore.type")
    ssl_quorum_protocol: str = _server("protocol")
    ssl_quorum_enabled_protocols: tuple[str, ...] = _server("enabledProtocols")
    ssl_quorum_ciphersuites: tuple[str, ...] = _server("ciphersuites")
    ssl_quorum_client_auth: str = _server("clientAuth")
    ssl_quorum_hostname_verification: bool = _server("hostnameVerification")
    ssl_quorum_client_hostname_verification: bool = setting(
        "ssl.quorum.clientHostnameVerification", True,
        "The certificate of a server that connects has to name one of the ensemble.", **QUORUM
    )
    ssl_quorum_crl: bool = _server("crl")
    ssl_quorum_handshake_detection_timeout_millis: int = _server("handshakeDetectionTimeoutMillis")
    # fmt: on
