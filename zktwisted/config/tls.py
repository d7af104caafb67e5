"""
The settings of TLS: for clients (C{ssl.*}) and between servers (C{ssl.quorum.*}), the same names twice.

L{TlsSettings} is the part of L{zktwisted.config.settings.Settings} that is about them.  What a certificate is, is not
known here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zktwisted.config.fields import Kind, Section, setting

__all__ = ["CLIENT_AUTH", "TlsSettings"]

TLS = Section.TLS
QUORUM: dict[str, Any] = {"section": TLS, "ensemble": True}

CLIENT_AUTH = ("none", "want", "need")
"""The values of C{ssl.clientAuth}."""


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

    ssl_key_store_location: str = setting(
        "ssl.keyStore.location", "", "Key and certificates of this server, for clients.", kind=Kind.PATH,
        section=TLS, default_text="none"
    )
    ssl_key_store_password: str = setting(
        "ssl.keyStore.password", "", "The password of that file.", section=TLS, default_text="none", secret=True
    )
    ssl_key_store_password_path: str = setting(
        "ssl.keyStore.passwordPath", "", "A file that holds the password, and counts more.", kind=Kind.PATH,
        section=TLS, default_text="none"
    )
    ssl_key_store_type: str = setting(
        "ssl.keyStore.type", "", "PEM, PKCS12 or JKS.", section=TLS, default_text="as the file's name ends"
    )
    ssl_trust_store_location: str = setting(
        "ssl.trustStore.location", "", "Certificates that others' are checked against, for clients.", kind=Kind.PATH,
        section=TLS, default_text="whom the system trusts"
    )
    ssl_trust_store_password: str = setting(
        "ssl.trustStore.password", "", "The password of that file.", section=TLS, default_text="none", secret=True
    )
    ssl_trust_store_password_path: str = setting(
        "ssl.trustStore.passwordPath", "", "A file that holds the password, and counts more.", kind=Kind.PATH,
        section=TLS, default_text="none"
    )
    ssl_trust_store_type: str = setting(
        "ssl.trustStore.type", "", "PEM, PKCS12 or JKS.", section=TLS, default_text="as the file's name ends"
    )
    ssl_protocol: str = setting(
        "ssl.protocol", "TLSv1.3", "The newest version of TLS, from 1.2 on.", section=TLS
    )
    ssl_enabled_protocols: tuple[str, ...] = setting(
        "ssl.enabledProtocols", (), "The versions that are spoken, of TLSv1.2 and TLSv1.3.", section=TLS,
        default_text="ssl.protocol and older"
    )
    ssl_ciphersuites: tuple[str, ...] = setting(
        "ssl.ciphersuites", (), "The cipher suites, by Java's names or OpenSSL's.", section=TLS,
        default_text="ECDHE with AES-GCM, ChaCha20 or AES"
    )
    ssl_client_auth: str = setting(
        "ssl.clientAuth", "need",
        "Whether those who connect show a certificate: C{need}, C{want} (if they have one) or C{none}.",
        section=TLS, strict=True
    )
    ssl_hostname_verification: bool = setting(
        "ssl.hostnameVerification", True, "A certificate has to name the host that it is met at.", section=TLS
    )
    ssl_client_hostname_verification: bool = setting(
        "ssl.clientHostnameVerification", False, "A client's certificate has to name its address.", section=TLS
    )
    ssl_crl: bool = setting(
        "ssl.crl", False, "Refuse what is on the revocation lists in the PEM file of the trust store.",
        section=TLS
    )
    ssl_handshake_detection_timeout_millis: int = setting(
        "ssl.handshakeDetectionTimeoutMillis", 5000, "How long a handshake may take.", unit="ms", section=TLS
    )

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
    ssl_quorum_key_store_location: str = setting(
        "ssl.quorum.keyStore.location", "", "Key and certificates of this server, for other servers.", kind=Kind.PATH,
        **QUORUM, default_text="none"
    )
    ssl_quorum_key_store_password: str = setting(
        "ssl.quorum.keyStore.password", "", "The password of that file.", **QUORUM, default_text="none", secret=True
    )
    ssl_quorum_key_store_password_path: str = setting(
        "ssl.quorum.keyStore.passwordPath", "", "A file that holds the password, and counts more.", kind=Kind.PATH,
        **QUORUM, default_text="none"
    )
    ssl_quorum_key_store_type: str = setting(
        "ssl.quorum.keyStore.type", "", "PEM, PKCS12 or JKS.", **QUORUM, default_text="as the file's name ends"
    )
    ssl_quorum_trust_store_location: str = setting(
        "ssl.quorum.trustStore.location", "", "Certificates that others' are checked against, for other servers.",
        kind=Kind.PATH,
        **QUORUM, default_text="whom the system trusts"
    )
    ssl_quorum_trust_store_password: str = setting(
        "ssl.quorum.trustStore.password", "", "The password of that file.", **QUORUM, default_text="none", secret=True
    )
    ssl_quorum_trust_store_password_path: str = setting(
        "ssl.quorum.trustStore.passwordPath", "", "A file that holds the password, and counts more.", kind=Kind.PATH,
        **QUORUM, default_text="none"
    )
    ssl_quorum_trust_store_type: str = setting(
        "ssl.quorum.trustStore.type", "", "PEM, PKCS12 or JKS.", **QUORUM, default_text="as the file's name ends"
    )
    ssl_quorum_protocol: str = setting(
        "ssl.quorum.protocol", "TLSv1.3", "The newest version of TLS, from 1.2 on.", **QUORUM
    )
    ssl_quorum_enabled_protocols: tuple[str, ...] = setting(
        "ssl.quorum.enabledProtocols", (), "The versions that are spoken, of TLSv1.2 and TLSv1.3.", **QUORUM,
        default_text="ssl.quorum.protocol and older"
    )
    ssl_quorum_ciphersuites: tuple[str, ...] = setting(
        "ssl.quorum.ciphersuites", (), "The cipher suites, by Java's names or OpenSSL's.", **QUORUM,
        default_text="ECDHE with AES-GCM, ChaCha20 or AES"
    )
    ssl_quorum_client_auth: str = setting(
        "ssl.quorum.clientAuth", "need",
        "Whether those who connect show a certificate: C{need}, C{want} (if they have one) or C{none}.",
        **QUORUM, strict=True
    )
    ssl_quorum_hostname_verification: bool = setting(
        "ssl.quorum.hostnameVerification", True, "A certificate has to name the host that it is met at.", **QUORUM
    )
    ssl_quorum_client_hostname_verification: bool = setting(
        "ssl.quorum.clientHostnameVerification",
        True, "The certificate of a server that connects has to name one of the ensemble, or its address.", **QUORUM
    )
    ssl_quorum_crl: bool = setting(
        "ssl.quorum.crl", False, "Refuse what is on the revocation lists in the PEM file of the trust store.",
        **QUORUM
    )
    ssl_quorum_handshake_detection_timeout_millis: int = setting(
        "ssl.quorum.handshakeDetectionTimeoutMillis", 5000, "How long a handshake may take.", unit="ms", **QUORUM
    )
    # fmt: on
