"""
The table of settings: every key of C{zoo.cfg} that this server knows a value for, once.

L{Settings} has one field per key, named after it in snake_case; its declaration is the only place where the
name, type, default, unit and meaning of a key are written down.  Their order is that of the reference page.

This module knows nothing of how settings depend on one another: that is L{zktwisted.config.ServerConfig}'s.
"""

from __future__ import annotations

from dataclasses import dataclass

from zktwisted.config.fields import Kind, Section, setting
from zktwisted.config.kerberos import DEFAULT_RULES
from zktwisted.config.tls import TlsSettings

__all__ = ["Settings"]

STORAGE = Section.STORAGE
DATA = Section.DATA
LIMITS = Section.LIMITS
CLIENTS = Section.CLIENTS
AUTH = Section.AUTH
OPERATIONS = Section.OPERATIONS
ENSEMBLE = Section.ENSEMBLE


@dataclass(frozen=True, slots=True, kw_only=True, init=False, repr=False, eq=False)
class Settings(TlsSettings):
    """What can be written in C{zoo.cfg}.  Times are in milliseconds unless the name says otherwise."""

    # One argument a line would hide the table.
    # fmt: off

    # -- basics

    data_dir: str = setting(
        "dataDir", "", "Directory of snapshots, C{myid} and, unless dataLogDir is set, the transaction log.",
        kind=Kind.PATH, strict=True, default_text="required"
    )
    data_log_dir: str = setting(
        "dataLogDir", "", "Directory of the transaction log; best on a device of its own.", kind=Kind.PATH,
        strict=True, default_text="dataDir"
    )
    client_port: int | None = setting(
        "clientPort", None, "Port for clients; 0 lets the system choose. Without it no port is opened.",
        kind=Kind.PORT, strict=True, default_text="none"
    )
    client_port_address: str | None = setting(
        "clientPortAddress", None, "The one address on which clients are accepted; needs clientPort.",
        kind=Kind.TEXT, strict=True, default_text="every address"
    )
    tick_time: int = setting(
        "tickTime", 3000, "The unit of time: session timeouts are counted in it.", unit="ms", strict=True
    )
    min_session_timeout: int = setting(
        "minSessionTimeout", -1, "The shortest session timeout that a client is granted.", unit="ms",
        strict=True, default_text="2 x tickTime"
    )
    max_session_timeout: int = setting(
        "maxSessionTimeout", -1, "The longest session timeout that a client is granted.", unit="ms",
        strict=True, default_text="20 x tickTime"
    )
    max_client_cnxns: int = setting(
        "maxClientCnxns", 60, "Connections that one client address may hold; 0 is no limit.", strict=True,
        section=CLIENTS
    )

    # -- log, snapshots, purging

    pre_alloc_size: int = setting(
        "preAllocSize", 65536, "The transaction log grows in steps of this size.", kind=Kind.LONG, unit="KiB",
        section=STORAGE
    )
    snap_count: int = setting(
        "snapCount", 100_000, "Write a snapshot after about this many transactions (half of it is random).",
        section=STORAGE, minimum=2
    )
    snap_size_limit_in_kb: int = setting(
        "snapSizeLimitInKb", 4_194_304,
        "Write a snapshot after about this much transaction log; 0 or less: only snapCount counts.",
        kind=Kind.LONG, unit="KiB", section=STORAGE
    )
    txn_log_size_limit_in_kb: int = setting(
        "txnLogSizeLimitInKb", -1, "Begin a new log file at this size; 0 or less: only with a snapshot.",
        kind=Kind.LONG, unit="KiB", section=STORAGE
    )
    commit_log_count: int = setting(
        "commitLogCount", 500, "Committed transactions kept in memory for servers that catch up.",
        section=STORAGE, minimum=500
    )
    snapshot_size_factor: float = setting(
        "snapshotSizeFactor", 0.33,
        "A learner gets the log from disk while it is smaller than this part of a snapshot; "
        "negative: never, 0: always.",
        section=STORAGE, ensemble=True
    )
    force_sync: bool = setting(
        "forceSync", True,
        "Answer a write only when it is safe on disk. With C{no} a power failure loses acknowledged writes.",
        kind=Kind.YES_NO, section=STORAGE
    )
    fsync_warning_threshold_ms: int = setting(
        "fsync.warningthresholdms", 1000, "Log a warning when writing the log takes longer than this.",
        kind=Kind.LONG, unit="ms", section=STORAGE
    )
    flush_delay: int = setting(
        "flushDelay", 0, "Let a flush wait so long for more transactions to go with it.", kind=Kind.LONG,
        unit="ms", section=STORAGE
    )
    max_write_queue_poll_time: int = setting(
        "maxWriteQueuePollTime", -1, "While a flush waits, flush if nothing has arrived for so long.",
        kind=Kind.LONG, unit="ms", section=STORAGE, default_text="a third of flushDelay"
    )
    max_batch_size: int = setting(
        "maxBatchSize", 1000, "Transactions that go into one flush, at most.", section=STORAGE
    )
    snapshot_compression_method: str = setting(
        "snapshot.compression.method", "", "Compress snapshots: C{gz} or C{snappy} (needs the snappy extra).",
        section=STORAGE, default_text="none"
    )
    snapshot_trust_empty: bool = setting(
        "snapshot.trust.empty", False,
        "Start with transaction logs but without any snapshot (once, after an upgrade from 3.4).",
        section=STORAGE
    )
    serialize_last_processed_zxid_enabled: bool = setting(
        "serializeLastProcessedZxid.enabled", True, "Note the last processed zxid in snapshots.",
        section=STORAGE
    )
    digest_enabled: bool = setting(
        "digest.enabled", True, "Keep a digest of the tree, write it with each transaction and verify it.",
        section=STORAGE
    )
    close_session_txn_enabled: bool = setting(
        "closeSessionTxn.enabled", True,
        "Name the deleted ephemeral nodes in the transaction that ends a session.", section=STORAGE
    )
    datadir_autocreate: bool = setting(
        "datadir.autocreate", True, "Create missing directories at start.", section=STORAGE
    )
    db_autocreate: bool = setting(
        "db.autocreate", True, "A server without data may vote at once; false: only once it is synced.",
        section=STORAGE, ensemble=True
    )
    autopurge_snap_retain_count: int = setting(
        "autopurge.snapRetainCount", 3, "Snapshots that a purge leaves, with the logs they need.",
        section=STORAGE, minimum=3, strict=True
    )
    autopurge_purge_interval_ms: int = setting(
        "autopurge.purgeInterval", 0, "Purge old snapshots and logs so often; 0 is never.", kind=Kind.HOURS,
        unit="hours", section=STORAGE, strict=True
    )

    # -- data tree

    extended_types_enabled: bool = setting(
        "extendedTypesEnabled", False, "Allow nodes with a time to live.", section=DATA
    )
    enforce_quota: bool = setting(
        "enforceQuota", False, "Refuse writes that exceed a quota; otherwise the log has a warning.",
        section=DATA
    )
    skip_acl: bool = setting(
        "skipACL", False, "Do not check permissions at all.", kind=Kind.YES_NO, section=DATA
    )
    enable_eager_acl_check: bool = setting(
        "enableEagerACLCheck", False, "Check permissions on the server that receives a write, too.",
        section=DATA, ensemble=True
    )
    container_check_interval_ms: int = setting(
        "znode.container.checkIntervalMs", 60_000, "Look for empty containers and outlived nodes so often.",
        unit="ms", section=DATA, prefixed=False
    )
    container_max_per_minute: int = setting(
        "znode.container.maxPerMinute", 10_000, "Delete at most so many of them in a minute.", section=DATA,
        prefixed=False, minimum=1
    )
    container_max_never_used_interval_ms: int = setting(
        "znode.container.maxNeverUsedIntervalMs", 0,
        "Delete a container that never had a child after so long; 0 is never.", kind=Kind.LONG, unit="ms",
        section=DATA, prefixed=False
    )

    # -- limits and throttling

    jute_max_buffer: int = setting(
        "jute.maxbuffer", 1_048_575, "The largest request; a longer one closes the connection.", unit="bytes",
        section=LIMITS, prefixed=False, minimum=1
    )
    jute_max_buffer_extra_size: int = setting(
        "jute.maxbuffer.extrasize", -1,
        "Slack that records on disk and between servers have above jute.maxbuffer.", unit="bytes",
        section=LIMITS, default_text="jute.maxbuffer"
    )
    global_outstanding_limit: int = setting(
        "globalOutstandingLimit", 1000, "Requests in work above which connections are not read from.",
        section=LIMITS, minimum=1
    )
    request_throttle_max_requests: int = setting(
        "request_throttle_max_requests", 0, "Requests in work above which new ones wait; 0 is off.",
        section=LIMITS
    )
    request_throttle_stall_time: int = setting(
        "request_throttle_stall_time", 100, "How long a request waits before the throttle looks again.",
        unit="ms", section=LIMITS
    )
    request_throttle_drop_stale: bool = setting(
        "request_throttle_drop_stale", True, "The throttle drops requests that nobody waits for.",
        section=LIMITS
    )
    request_stale_connection_check: bool = setting(
        "request_stale_connection_check", True, "A request is stale when its connection is closed.",
        section=LIMITS
    )
    request_stale_latency_check: bool = setting(
        "request_stale_latency_check", False, "A request is stale when it has waited for a session timeout.",
        section=LIMITS
    )
    request_throttler_shutdown_timeout: int = setting(
        "request_throttler.shutdownTimeout", 10_000, "How long a stop waits for requests in the throttle.",
        unit="ms", section=LIMITS
    )
    throttled_op_wait_time: int = setting(
        "throttled_op_wait_time", 0, "A request that waited longer is answered with error -127; 0 is off.",
        unit="ms", section=LIMITS
    )
    large_request_threshold: int = setting(
        "largeRequestThreshold", -1, "A request of this size or more counts as large; -1 is off.",
        unit="bytes", section=LIMITS
    )
    large_request_max_bytes: int = setting(
        "largeRequestMaxBytes", 104_857_600,
        "Large requests in work, together; one more closes its connection.", unit="bytes", section=LIMITS
    )
    connection_throttle_tokens: int = setting(
        "connection_throttle_tokens", 0, "Connections in one burst before the throttle acts; 0 is off.",
        section=LIMITS
    )
    connection_throttle_fill_time: int = setting(
        "connection_throttle_fill_time", 1,
        "Time in which the bucket gets connection_throttle_fill_count tokens.", unit="ms", section=LIMITS,
        minimum=1
    )
    connection_throttle_fill_count: int = setting(
        "connection_throttle_fill_count", 1, "Tokens that come back in each fill time.", section=LIMITS
    )
    connection_throttle_freeze_time: int = setting(
        "connection_throttle_freeze_time", -1,
        "How often the drop probability is adjusted; negative: it stays 0.", unit="ms", section=LIMITS
    )
    connection_throttle_drop_increase: float = setting(
        "connection_throttle_drop_increase", 0.02, "How much the drop probability rises while tokens lack.",
        section=LIMITS, strict=True, minimum=0
    )
    connection_throttle_drop_decrease: float = setting(
        "connection_throttle_drop_decrease", 0.002,
        "How much the drop probability falls while tokens suffice.", section=LIMITS, strict=True, minimum=0
    )
    connection_throttle_decrease_ratio: float = setting(
        "connection_throttle_decrease_ratio", 0.0, "Tokens suffice above this part of a full bucket.",
        section=LIMITS, strict=True, minimum=0
    )
    connection_throttle_weight_enabled: bool = setting(
        "connection_throttle_weight_enabled", False,
        "Let kinds of sessions take different numbers of tokens.", section=LIMITS
    )
    connection_throttle_global_session_weight: int = setting(
        "connection_throttle_global_session_weight", 3, "Tokens that a new session takes.", section=LIMITS
    )
    connection_throttle_local_session_weight: int = setting(
        "connection_throttle_local_session_weight", 1, "Tokens that a new local session takes.",
        section=LIMITS
    )
    connection_throttle_renew_session_weight: int = setting(
        "connection_throttle_renew_session_weight", 2, "Tokens that a reconnecting session takes.",
        section=LIMITS
    )

    # -- client connections

    max_cnxns: int = setting(
        "maxCnxns", 0, "Connections to the client port altogether; 0 is no limit.", section=CLIENTS, minimum=0
    )
    sessionless_cnxn_timeout: int = setting(
        "nio.sessionlessCnxnTimeout", 10_000, "Close a connection that asks for no session within this time.",
        unit="ms", section=CLIENTS
    )
    client_tcp_keep_alive: bool = setting(
        "clientTcpKeepAlive", False, "Let TCP probe idle client connections.", section=CLIENTS
    )
    client_port_listen_backlog: int = setting(
        "clientPortListenBacklog", -1, "Connections that may wait to be accepted; -1 is 50.", section=CLIENTS,
        strict=True
    )
    readonlymode_enabled: bool = setting(
        "readonlymode.enabled", False, "Serve reads to willing clients while the ensemble has no quorum.",
        section=CLIENTS, prefixed=False, ensemble=True
    )
    local_sessions_enabled: bool = setting(
        "localSessionsEnabled", False, "Keep sessions on the server of the client until they need more.",
        section=CLIENTS, strict=True, ensemble=True
    )
    local_sessions_upgrading_enabled: bool = setting(
        "localSessionsUpgradingEnabled", False,
        "A local session that creates an ephemeral node becomes global.", section=CLIENTS, strict=True,
        ensemble=True
    )

    # -- authentication and permissions

    profile: str = setting(
        "profile", "", "With C{secure}, refuse what lets others in without TLS and authentication.",
        section=AUTH, strict=True, default_text="none"
    )
    digest_auth_enabled: bool = setting(
        "DigestAuthenticationProvider.enabled", True, "Offer the scheme C{digest}.", section=AUTH
    )
    digest_algorithm: str = setting(
        "DigestAuthenticationProvider.digestAlg", "SHA1",
        "Hash of the digest scheme; the same on every server of an ensemble.", section=AUTH
    )
    digest_super_digest: str = setting(
        "DigestAuthenticationProvider.superDigest", "",
        "C{super:} and the base64 hash of C{super:password}: who authenticates so may do everything.",
        section=AUTH, default_text="none"
    )
    enforce_auth_enabled: bool = setting(
        "enforce.auth.enabled", False,
        "Answer only clients that authenticated with one of enforce.auth.schemes.", section=AUTH
    )
    enforce_auth_schemes: tuple[str, ...] = setting(
        "enforce.auth.schemes", (), "Schemes of which a client must have used one.", section=AUTH,
        default_text="none"
    )
    require_client_auth_scheme: tuple[str, ...] = setting(
        "requireClientAuthScheme", (), "The same as enforcing these schemes. Java's server does not know it.",
        section=AUTH, default_text="none"
    )
    session_require_client_sasl_auth: bool = setting(
        "sessionRequireClientSASLAuth", False, "The same as enforcing the scheme C{sasl}.", section=AUTH
    )
    jaas_file: str = setting(
        "java.security.auth.login.config", "",
        "JAAS file with the passwords or keytabs for SASL; its section C{Server} is for clients.",
        kind=Kind.PATH, section=AUTH, prefixed=False, default_text="none"
    )
    sasl_server_section: str = setting(
        "sasl.serverconfig", "", "Section of the JAAS file that is for clients.", section=AUTH,
        default_text="Server, if it is there"
    )
    sasl_super_password: str = setting(
        "SASLAuthenticationProvider.superPassword", "",
        "Password of the user C{super}, who may do everything, in place of the one in the JAAS file.",
        section=AUTH, default_text="none", secret=True
    )
    sasl_super_user: str = setting(
        "superUser", "", "User who may do everything when authenticated by SASL; others: C{superUser.1} and so on.",
        section=AUTH, default_text="none"
    )
    allow_sasl_failed_clients: bool = setting(
        "allowSaslFailedClients", False, "Serve those who fail to authenticate by SASL, as nobody in particular.",
        section=AUTH
    )
    fips_mode: bool = setting(
        "fips-mode", False, "Refuse a configuration that needs DIGEST-MD5.", section=AUTH
    )
    auth_to_local: str = setting(
        "security.auth_to_local", DEFAULT_RULES,
        "Rules that make short names of Kerberos principals: C{RULE:[1:$1](...)s/.../.../} and C{DEFAULT}.",
        section=AUTH
    )
    remove_host_from_principal: bool = setting(
        "kerberos.removeHostFromPrincipal", False, "Leave the host out of the identities of Kerberos.", section=AUTH
    )
    remove_realm_from_principal: bool = setting(
        "kerberos.removeRealmFromPrincipal", False, "Leave the realm out of the identities of Kerberos.", section=AUTH
    )

    # -- operations

    four_letter_words_whitelist: tuple[str, ...] = setting(
        "4lw.commands.whitelist", ("srvr",),
        "Four-letter words that are answered; C{*} is all, srvr always is.", section=OPERATIONS
    )
    jvm_pause_monitor: bool = setting(
        "jvm.pause.monitor", False, "Watch for stalls of the process (here: of the event loop).",
        section=OPERATIONS, strict=True
    )
    jvm_pause_info_threshold_ms: int = setting(
        "jvm.pause.info-threshold.ms", 1000, "Log a stall longer than this.", kind=Kind.LONG, unit="ms",
        section=OPERATIONS, strict=True
    )
    jvm_pause_warn_threshold_ms: int = setting(
        "jvm.pause.warn-threshold.ms", 10_000, "Log a stall longer than this as a warning.", kind=Kind.LONG,
        unit="ms", section=OPERATIONS, strict=True
    )
    jvm_pause_sleep_time_ms: int = setting(
        "jvm.pause.sleep.time.ms", 500, "Look for stalls so often.", kind=Kind.LONG, unit="ms",
        section=OPERATIONS, strict=True
    )

    # -- ensembles: without effect on a single server

    init_limit: int = setting(
        "initLimit", 0, "Time that a learner has to connect and to sync.", unit="ticks", strict=True,
        section=ENSEMBLE, ensemble=True, default_text="required in an ensemble"
    )
    sync_limit: int = setting(
        "syncLimit", 0, "Time after which a silent learner or leader is given up.", unit="ticks", strict=True,
        section=ENSEMBLE, ensemble=True, default_text="required in an ensemble"
    )
    connect_to_learner_master_limit: int = setting(
        "connectToLearnerMasterLimit", 0, "Time that a learner has to connect.", unit="ticks", strict=True,
        section=ENSEMBLE, ensemble=True, default_text="initLimit"
    )
    election_alg: int = setting(
        "electionAlg", 3, "The election algorithm; there is only 3, fast leader election over TCP.", strict=True,
        section=ENSEMBLE, ensemble=True
    )
    dynamic_config_file: str = setting(
        "dynamicConfigFile", "", "File that holds the server, group and weight lines.", kind=Kind.PATH,
        strict=True, section=ENSEMBLE, default_text="none", ensemble=True
    )
    standalone_enabled: bool = setting(
        "standaloneEnabled", True, "A single voter runs alone; false: as an ensemble of one.", strict=True,
        section=ENSEMBLE, ensemble=True
    )
    reconfig_enabled: bool = setting(
        "reconfigEnabled", False,
        "Let clients add and remove servers; not offered yet, so an ensemble refuses C{true}.", strict=True,
        section=ENSEMBLE, ensemble=True
    )
    peer_type: str = setting(
        "peerType", "participant", "participant or observer; the server line wins.", strict=True,
        section=ENSEMBLE, ensemble=True
    )
    sync_enabled: bool = setting(
        "syncEnabled", True, "An observer keeps a log and snapshots.", strict=True, section=ENSEMBLE,
        java_property="zookeeper.observer.syncEnabled", ensemble=True
    )
    observer_master_port: int = setting(
        "observerMasterPort", 0, "Port on which a follower accepts observers; 0 is off.", kind=Kind.PORT,
        strict=True, section=ENSEMBLE, ensemble=True
    )
    quorum_listen_on_all_ips: bool = setting(
        "quorumListenOnAllIPs", False,
        "Accept servers on every address, not only on that of the server line.", strict=True,
        section=ENSEMBLE, ensemble=True
    )
    leader_serves: bool = setting(
        "leaderServes", True, "The leader accepts clients.", kind=Kind.YES_NO, section=ENSEMBLE, ensemble=True
    )
    multi_address_enabled: bool = setting(
        "multiAddress.enabled", False, "Server lines may list several addresses.", strict=True,
        section=ENSEMBLE, ensemble=True
    )
    multi_address_reachability_check_enabled: bool = setting(
        "multiAddress.reachabilityCheckEnabled", True,
        "Of several addresses use one that answers; that is always so here.", strict=True,
        section=ENSEMBLE, ensemble=True
    )
    multi_address_reachability_check_timeout_ms: int = setting(
        "multiAddress.reachabilityCheckTimeoutMs", 1000, "How long an address has to answer before the next is tried.",
        unit="ms", strict=True, section=ENSEMBLE, ensemble=True
    )
    cnx_timeout: int = setting(
        "cnxTimeout", 5000, "How long a connection for the election may take.", unit="ms", section=ENSEMBLE,
        ensemble=True
    )
    quorum_cnxn_timeout_ms: int = setting(
        "quorumCnxnTimeoutMs", -1, "How long an election connection may be silent.", unit="ms",
        section=ENSEMBLE, ensemble=True, default_text="syncLimit x tickTime"
    )
    election_port_bind_retry: int = setting(
        "electionPortBindRetry", 3, "Attempts to bind the election port; 0 is no limit.", section=ENSEMBLE,
        ensemble=True
    )
    tcp_keep_alive: bool = setting(
        "tcpKeepAlive", False, "Let TCP probe idle election connections.", section=ENSEMBLE, ensemble=True
    )
    fastleader_min_notification_interval: int = setting(
        "fastleader.minNotificationInterval", 200, "First wait for votes before asking again.", unit="ms",
        section=ENSEMBLE, ensemble=True
    )
    fastleader_max_notification_interval: int = setting(
        "fastleader.maxNotificationInterval", 60_000, "Longest wait for votes before asking again.",
        unit="ms", section=ENSEMBLE, ensemble=True
    )
    leader_max_concurrent_snap_syncs: int = setting(
        "leader.maxConcurrentSnapSyncs", 10, "Learners that get a snapshot at a time.", section=ENSEMBLE,
        ensemble=True
    )
    leader_max_concurrent_diff_syncs: int = setting(
        "leader.maxConcurrentDiffSyncs", 100, "Learners that get missing transactions at a time.",
        section=ENSEMBLE, ensemble=True
    )
    force_snapshot_sync: bool = setting(
        "forceSnapshotSync", False, "The leader always sends a snapshot.", section=ENSEMBLE, ensemble=True
    )
    leader_max_time_to_wait_for_epoch: int = setting(
        "leader.maxTimeToWaitForEpoch", -1,
        "A new leader that waits longer for the epochs of a quorum gives up early; -1 is off.", unit="ms",
        section=ENSEMBLE, ensemble=True, default_text="off: initLimit alone counts"
    )
    leader_connect_delay_during_retry_ms: int = setting(
        "leaderConnectDelayDuringRetryMs", 100, "Pause between attempts to reach the leader.", unit="ms",
        section=ENSEMBLE, ensemble=True, minimum=100
    )
    testingonly_initial_zxid: int | None = setting(
        "testingonly.initialZxid", None,
        "For tests: the lower half of the zxid with which a leader begins.", kind=Kind.LONG, section=ENSEMBLE,
        default_text="none", ensemble=True
    )
    observer_reconnect_delay_ms: int = setting(
        "observer.reconnectDelayMs", 0, "Longest random pause before an observer connects again.",
        kind=Kind.LONG, unit="ms", section=ENSEMBLE, ensemble=True
    )
    observer_election_delay_ms: int = setting(
        "observer.election.DelayMs", 200, "Pause of an observer before it looks for another leader.",
        kind=Kind.LONG, unit="ms", section=ENSEMBLE, ensemble=True
    )
    observer_master_size_limit: int = setting(
        "observerMaster.sizeLimit", 33_554_432, "Committed packets that a follower keeps for observers.",
        unit="bytes", section=ENSEMBLE, ensemble=True
    )
    quorum_auth_enable_sasl: bool = setting(
        "quorum.auth.enableSasl", False, "Servers authenticate each other with SASL.", strict=True,
        section=ENSEMBLE, ensemble=True
    )
    quorum_auth_learner_require_sasl: bool = setting(
        "quorum.auth.learnerRequireSasl", False,
        "Authenticate to the servers that are called; needs quorum.auth.enableSasl.", strict=True,
        section=ENSEMBLE, ensemble=True
    )
    quorum_auth_server_require_sasl: bool = setting(
        "quorum.auth.serverRequireSasl", False, "Accept only servers that authenticate; needs the two settings above.",
        strict=True, section=ENSEMBLE, ensemble=True
    )
    quorum_auth_learner_sasl_login_context: str = setting(
        "quorum.auth.learner.saslLoginContext", "QuorumLearner",
        "Section of the JAAS file: as whom to call others.", strict=True, section=ENSEMBLE, ensemble=True
    )
    quorum_auth_server_sasl_login_context: str = setting(
        "quorum.auth.server.saslLoginContext", "QuorumServer", "Section of the JAAS file: who may call.", strict=True,
        section=ENSEMBLE, ensemble=True
    )
    quorum_auth_kerberos_service_principal: str = setting(
        "quorum.auth.kerberos.servicePrincipal", "zkquorum/localhost",
        "The principal of the servers that are called; for the host C{_HOST} that of their server line.", strict=True,
        section=ENSEMBLE, ensemble=True, prefixed=False
    )
    server_realm: str = setting(
        "zookeeper.server.realm", "", "The realm of the servers that are called.", section=ENSEMBLE,
        ensemble=True, prefixed=False, default_text="that of the principal of QuorumLearner"
    )
    # fmt: on
