"""From files and properties to a configuration."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.config.tables import rows
from zktwisted.config import Address, ServerConfig, loader
from zktwisted.config.check import check
from zktwisted.config.loader import Loading, Setting, environment_settings, file_settings, text_settings
from zktwisted.errors import ConfigError, ServerIdError

BASE = "dataDir=/nowhere\nclientPort=2181\n"
VOTERS = "initLimit=10\nsyncLimit=5\nserver.1=a:2888:3888\nserver.2=b:2888:3888\nserver.3=c:2888:3888\n"


def fresh_directory(case: SynchronousTestCase) -> str:
    """Make a directory that goes with the test."""
    directory = tempfile.mkdtemp()
    case.addCleanup(shutil.rmtree, directory)
    return directory


class TableTests(SynchronousTestCase):
    """What Java 3.9.5 makes of whole files, we make of them."""

    def test_files(self) -> None:
        """A zoo.cfg that Java accepts gives the same values; one that it refuses is refused in the same words."""
        data_dir = fresh_directory(self)
        with open(os.path.join(data_dir, "myid"), "w") as file:
            file.write("1\n")
        for row in rows("zoo_cfg"):
            text = row["cfg"].replace("/var/zk-recording/cfgtable", data_dir)
            loading = Loading(text_settings(text), supported_only=False)
            self.assertEqual([bool(loading.errors), loading.config is None], [not row["ok"]] * 2, (row, loading.errors))
            if row["ok"]:
                assert loading.config is not None
                self.compare(row, loading.config)
            else:
                self.assertIn(self.words(loading.errors[0].message), self.words(row["errors"][-1]), row)

    def words(self, message: str) -> str:
        """Java shows an address with what it resolved to, and names the class of an error."""
        return message.replace("/0.0.0.0:", ":").replace("cannot be read: ", "").replace("0.0.0.0:2199", ":2199")

    def compare(self, row: dict[str, Any], config: ServerConfig) -> None:
        port, host = config.client_port, config.client_port_address
        address = row["clientPortAddress"].rpartition("/")[2]
        self.assertEqual(f"{host or '0.0.0.0'}:{port}" if port is not None else "null", address)
        ensemble = config.ensemble
        self.assertEqual(ensemble.text if ensemble else "version=0", row["quorumVerifierString"])
        self.assertEqual(-1 if config.myid is None else config.myid, row["serverId"])
        self.assertEqual(config.autopurge_purge_interval_ms, row["purgeInterval"] * 3_600_000)
        for attribute, name in (
            ("tick_time", "tickTime"),
            ("init_limit", "initLimit"),
            ("sync_limit", "syncLimit"),
            ("min_session_timeout", "minSessionTimeout"),
            ("max_session_timeout", "maxSessionTimeout"),
            ("max_client_cnxns", "maxClientCnxns"),
            ("autopurge_snap_retain_count", "snapRetainCount"),
            ("election_alg", "electionAlg"),
            ("sync_enabled", "syncEnabled"),
            ("quorum_listen_on_all_ips", "quorumListenOnAllIPs"),
            ("local_sessions_enabled", "localSessionsEnabled"),
            ("local_sessions_upgrading_enabled", "localSessionsUpgradingEnabled"),
            ("standalone_enabled", "standaloneEnabled"),
            ("reconfig_enabled", "reconfigEnabled"),
        ):
            self.assertEqual(getattr(config, attribute), row[name], (attribute, row))


class LoadTests(SynchronousTestCase):
    def refused(self, text: str, **options: Any) -> ConfigError:
        error = self.assertRaises(ConfigError, ServerConfig.from_text, text, **options)
        assert isinstance(error, ConfigError)
        return error

    def test_file(self) -> None:
        """A file is read with the data directory's myid beside it; the result knows where it came from."""
        directory = fresh_directory(self)
        path = os.path.join(directory, "zoo.cfg")
        with open(path, "w") as file:
            file.write(f"dataDir={directory}\nclientPort=0\nsnapCount=7\n")
        with open(os.path.join(directory, "myid"), "w") as file:
            file.write("5\nwhatever")
        config = ServerConfig.from_file(path)
        self.assertEqual((config.myid, config.client_port, config.snap_count), (5, 0, 7))
        self.assertEqual(config.config_file, path)
        self.assertEqual(ServerConfig.from_file(path, myid=5), config)
        error = self.assertRaises(ConfigError, ServerConfig.from_file, path, myid=6)
        self.assertEqual((error.file, error.line), (os.path.join(directory, "myid"), 1))
        with open(os.path.join(directory, "myid"), "w") as file:
            file.write("5 \n")
        error = self.assertRaises(ConfigError, ServerConfig.from_file, path)
        self.assertEqual(error.message, "serverid 5  is not a number")

    def test_missing_file(self) -> None:
        """A file that is not there is named."""
        error = self.assertRaises(ConfigError, ServerConfig.from_file, "/nowhere/zoo.cfg")
        self.assertIn("/nowhere/zoo.cfg: cannot be read: No such file or directory", str(error))

    def test_places(self) -> None:
        """An error tells file, line, key and what to write instead."""
        error = self.refused(f"{BASE}# note\ntickTime=x")
        self.assertEqual((error.line, error.key), (4, "tickTime"))
        self.assertEqual(str(error), '4: tickTime: For input string: "x" (write a whole number)')
        error = self.refused(f"{BASE}maxSessionTimeout=9\nminSessionTimeout=99")
        self.assertEqual((error.line, error.key), (4, "minSessionTimeout"))
        error = self.refused(f"{BASE}server.1=a:1")
        self.assertEqual((error.line, error.key), (3, "server.1"))
        error = self.refused(f"{BASE}zookeeper.admin.enableServer=true")
        self.assertEqual((error.line, error.key), (3, "zookeeper.admin.enableServer"))

    def test_last_value_counts(self) -> None:
        """A repeated key keeps its last value, whatever its spelling, and the others are not looked at."""
        config = ServerConfig.from_text(f"{BASE}tickTime=x\nsnapCount=5\nzookeeper.snapCount=6\ntickTime=7")
        self.assertEqual((config.tick_time, config.snap_count), (7, 6))

    def test_properties(self) -> None:
        """Java properties set what the file does not, under both names; the file wins."""
        properties = {"zookeeper.snapCount": "11", "jute.maxbuffer": "5000", "forceSync": "no", "tickTime": "9"}
        config = ServerConfig.from_text(f"{BASE}forceSync=yes", properties=properties)
        self.assertEqual((config.snap_count, config.jute_max_buffer, config.tick_time), (11, 5000, 9))
        self.assertTrue(config.force_sync)
        self.assertEqual(ServerConfig.from_text(f"{BASE}jute.maxbuffer=6000").jute_max_buffer, 6000)

    def test_properties_are_no_server_lines(self) -> None:
        """Servers are named in files only."""
        config = ServerConfig.from_text(BASE, properties={"server.1": "a:1:2", "zookeeper.server.realm": "R"})
        self.assertIsNone(config.ensemble)

    def test_unknown(self) -> None:
        """An unknown key is kept as a property, with a warning that guesses what was meant."""
        config = ServerConfig.from_text(f"{BASE}snapCout=5\nzookeeper.foo=bar")
        self.assertEqual(config.properties, (("foo", "bar"), ("snapCout", "5")))
        self.assertEqual([note.level for note in config.notes], ["warning", "warning"])
        self.assertIn("did you mean snapCount?", str(config.notes[0]))
        self.assertEqual(config.notes[0].line, 3)

    def test_ignored(self) -> None:
        """What only a Java machine needs is accepted, with a note."""
        for line in (
            "serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory",
            "nio.numWorkerThreads=5",
            "commitProcessor.numWorkerThreads=4",
            "maxResponseCacheSize=400",
            "admin.enableServer=false\nadmin.serverPort=8081",
            "ssl.ocsp=false",
            # Without names that are checked there is nothing to look one up for.
            "ssl.allowReverseDnsLookup=true",
            "ssl.quorum.allowReverseDnsLookup=true\nssl.quorum.hostnameVerification=false",
            "ssl.sslProvider=OPENSSL",
            "metricsProvider.className=org.apache.zookeeper.metrics.impl.DefaultMetricsProvider",
            "audit.enable=no",
            "authProvider.1=org.apache.zookeeper.server.auth.DigestAuthenticationProvider",
            "kinit=/usr/bin/kinit",
        ):
            config = ServerConfig.from_text(BASE + line)
            self.assertEqual({note.level for note in config.notes}, {"note"}, line)
            self.assertEqual(config.properties, ())

    def test_class_of_a_scheme(self) -> None:
        """Who counts on a scheme that only a Java server can load is warned."""
        config = ServerConfig.from_text(f"{BASE}authProvider.2=com.example.Provider")
        self.assertEqual([(note.level, note.line) for note in config.notes], [("warning", 3)])
        self.assertIn("com.example.Provider", config.notes[0].message)

    def test_refused(self) -> None:
        """What belongs to a feature that is missing is refused, with its line and a remedy."""
        for line in (
            "secureClientPort=2281",
            "ssl.ocsp=true",
            "ssl.context.supplier.class=x.Y",
            "ssl.quorum.ocsp=true",
            "ssl.allowReverseDnsLookup=true\nssl.clientHostnameVerification=true",
            "ssl.quorum.allowReverseDnsLookup=True",
            "ssl.quorum.context.supplier.class=x.Y",
            "client.portUnification=TRUE",
            "admin.enableServer=true",
            "IPAuthenticationProvider.usexforwardedfor=true",
            "admin.serverPort=8080",
            "audit.enable=true",
            "metricsProvider.className=org.apache.zookeeper.metrics.prometheus.PrometheusMetricsProvider",
            "metricsProvider.className=x.Y",
            "emulate353TTLNodes=true",
        ):
            error = self.refused(BASE + line)
            self.assertEqual((error.line, error.key), (3, line.partition("=")[0]))
            self.assertTrue(error.remedy)

    def test_kept_for_others(self) -> None:
        """The ensemble scheme's settings are handed on."""
        line = "authProvider.ens=org.apache.zookeeper.server.auth.EnsembleAuthenticationProvider\nensembleAuthName=a"
        config = ServerConfig.from_text(f"{BASE}{line}\nenforce.auth.enabled=true\nenforce.auth.schemes=ensemble")
        self.assertEqual(dict(config.properties)["ensembleAuthName"], "a")
        self.assertEqual(config.notes, ())

    def test_enforced_schemes(self) -> None:
        """A demanded scheme must be there."""
        lines = f"{BASE}enforce.auth.enabled=true\nenforce.auth.schemes=digest, ip"
        self.assertEqual(ServerConfig.from_text(lines).enforce_auth_schemes, ("digest", "ip"))
        error = self.refused(f"{lines}\nDigestAuthenticationProvider.enabled=false")
        self.assertEqual(error.message, "Authentication scheme digest is not available.")
        self.assertEqual(error.line, 4)
        self.assertEqual(ServerConfig.from_text(f"{BASE}enforce.auth.schemes=sasl").enforce_auth_schemes, ("sasl",))

    def test_sasl(self) -> None:
        """Users come from the section of the JAAS file that is for clients, and secrets go nowhere."""
        jaas = self.jaas('Server { a.DigestLoginModule required user_bob="sesame"; };')
        for line in (
            "",
            "enforce.auth.enabled=true\nenforce.auth.schemes=sasl",
            "sessionRequireClientSASLAuth=true",
            "requireClientAuthScheme=sasl",
        ):
            config = ServerConfig.from_text(
                f"{BASE}{line}\nSASLAuthenticationProvider.superPassword=sesame\nsuperUser.1=bob\n"
                "authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider",
                properties={"java.security.auth.login.config": jaas},
            )
            self.assertEqual(config.notes, ())
            self.assertEqual(config.enforced_schemes, ("sasl",) if line else ())
            self.assertNotIn("sesame", repr(config))

    def test_sasl_without_users(self) -> None:
        """What is demanded must be there; a file may be there for other sections."""
        for line, key in (
            ("sessionRequireClientSASLAuth=true", "sessionRequireClientSASLAuth"),
            ("enforce.auth.enabled=true\nenforce.auth.schemes=sasl", "enforce.auth.schemes"),
            ("requireClientAuthScheme=sasl", "requireClientAuthScheme"),
            ("sasl.serverconfig=Clients", "sasl.serverconfig"),
        ):
            error = self.refused(f"{BASE}{line}")
            self.assertEqual(error.key, key)
            self.assertIn("java.security.auth.login.config", error.remedy or "")
        jaas = self.jaas("QuorumServer { a.DigestLoginModule required user_bob=b; };")
        lines = f"{BASE}java.security.auth.login.config={jaas}\n"
        config = ServerConfig.from_text(f"{lines}superUser=bob")
        self.assertEqual([note.key for note in config.notes], ["superUser"])
        error = self.refused(f"{lines}sasl.serverconfig=Clients")
        self.assertEqual((error.file, error.message), (jaas, "there is no section Clients"))
        error = self.refused(f"{lines}fips-mode=true\nsasl.serverconfig=QuorumServer")
        self.assertEqual((error.key, error.line), ("fips-mode", 4))

    def test_sasl_between_servers(self) -> None:
        """Who may call is needed, and as whom to call where that is wanted."""
        lines = f"{BASE}quorum.auth.enableSasl=true\n"
        self.assertFalse(ServerConfig.from_text(lines).distributed)
        members = "".join(f"server.{sid}=h{sid}:1:2\n" for sid in (1, 2, 3))
        lines += f"initLimit=5\nsyncLimit=5\n{members}"
        error = self.refused(lines, myid=1)
        self.assertEqual((error.key, error.line), ("quorum.auth.enableSasl", 3))
        server = "QuorumServer { a.DigestLoginModule required user_t=u; };"
        jaas = self.jaas(server + "QuorumLearner { a.DigestLoginModule required username=t password=u; };")
        lines += f"java.security.auth.login.config={jaas}\n"
        config = ServerConfig.from_text(f"{lines}quorum.auth.learnerRequireSasl=true", myid=1)
        self.assertTrue(config.quorum_auth_learner_require_sasl)
        for line in (
            "quorum.auth.server.saslLoginContext=None",
            "quorum.auth.learnerRequireSasl=true\nquorum.auth.learner.saslLoginContext=None",
        ):
            self.assertEqual(self.refused(lines + line, myid=1).message, "there is no section None")
        self.assertEqual(self.refused(f"{lines}fips-mode=true", myid=1).key, "fips-mode")

    def test_broken_jaas_file(self) -> None:
        """It is told with its line, not with that of the setting."""
        jaas = self.jaas("\nServer { a.DigestLoginModule required user_bob=b }")
        error = self.refused(f"{BASE}java.security.auth.login.config={jaas}")
        self.assertEqual((error.file, error.line), (jaas, 2))
        error = self.refused(f"{BASE}java.security.auth.login.config=/nowhere/jaas.conf")
        self.assertEqual((error.file, error.line), ("/nowhere/jaas.conf", None))
        jaas = self.jaas("Server { com.sun.security.auth.module.Krb5LoginModule required; };")
        error = self.refused(f"{BASE}java.security.auth.login.config={jaas}")
        self.assertIn("where its key is", error.message)

    def jaas(self, text: str) -> str:
        """Write a JAAS file."""
        path = Path(self.mktemp()).absolute()
        path.write_text(text, "utf-8")
        return str(path)

    def test_plugins(self) -> None:
        """A scheme that a plugin offers may be demanded; whether it is installed is found out at the start."""
        line = "authProvider.1=plugin:token\nenforce.auth.enabled=true\nenforce.auth.schemes=token"
        config = ServerConfig.from_text(f"{BASE}{line}")
        self.assertEqual((dict(config.properties)["authProvider.1"], config.notes), ("plugin:token", ()))

    def test_lenient_values(self) -> None:
        """A bad value of a property gives way to the default, as in Java, with a warning."""
        for line, attribute, value in (
            ("snapCount=abc", "snap_count", 100_000),
            ("preAllocSize=", "pre_alloc_size", 65536),
            ("digest.enabled=maybe", "digest_enabled", False),
            ("forceSync=true", "force_sync", True),
            ("skipACL=true", "skip_acl", False),
            ("snapshot.compression.method=zip", "snapshot_compression_method", ""),
        ):
            config = ServerConfig.from_text(BASE + line)
            self.assertEqual(getattr(config, attribute), value, line)
            self.assertEqual([(note.level, note.line) for note in config.notes], [("warning", 3)], line)

    def test_bounds(self) -> None:
        """Values that are too small or too large are replaced as in Java, with a warning."""
        for line, attribute, value in (
            ("snapCount=1", "snap_count", 2),
            ("commitLogCount=10", "commit_log_count", 500),
            ("autopurge.snapRetainCount=1", "autopurge_snap_retain_count", 3),
            ("maxCnxns=-5", "max_cnxns", 0),
            ("jute.maxbuffer.extrasize=5", "jute_max_buffer_extra_size", 1024),
            ("snapshotSizeFactor=1.5", "snapshot_size_factor", 0.33),
            ("connection_throttle_global_session_weight=0", "connection_throttle_global_session_weight", 3),
            ("connection_throttle_renew_session_weight=-1", "connection_throttle_renew_session_weight", 2),
        ):
            config = ServerConfig.from_text(BASE + line)
            self.assertEqual(getattr(config, attribute), value, line)
            self.assertEqual([(note.level, note.line) for note in config.notes], [("warning", 3)], line)
        error = self.refused(f"{BASE}connection_throttle_drop_increase=-0.1")
        self.assertEqual(error.line, 3)
        self.refused(f"{BASE}connection_throttle_drop_increase=x")

    def test_digest_algorithm(self) -> None:
        """Java's names of hashes are taken, others refused."""
        for name in ("SHA1", "sha-256", "SHA-512", "SHA3-256", "MD5"):
            text = f"{BASE}DigestAuthenticationProvider.digestAlg={name}"
            self.assertEqual(ServerConfig.from_text(text).digest_algorithm, name)
        error = self.refused(f"{BASE}DigestAuthenticationProvider.digestAlg=CRC32")
        self.assertEqual(error.line, 3)

    def test_compression(self) -> None:
        """A compression method is taken in any case, snappy only if it is installed."""
        config = ServerConfig.from_text(f"{BASE}snapshot.compression.method=GZ")
        self.assertEqual(config.snapshot_compression_method, "gz")
        text = f"{BASE}zookeeper.snapshot.compression.method=snappy"
        self.patch(loader, "find_spec", lambda name: object())
        self.assertEqual(ServerConfig.from_text(text).snapshot_compression_method, "snappy")
        self.patch(loader, "find_spec", lambda name: None)
        self.assertIn("zktwisted[snappy]", str(self.refused(text)))

    def test_tls(self) -> None:
        """TLS for clients needs a key store and the packages; ports and certificates of clients have to make sense."""
        port, store = "secureClientPort=2281\n", "ssl.keyStore.location=/k.pem\n"
        config = ServerConfig.from_text(f"{BASE}{port}{store}")
        self.assertEqual((config.secure_client_port, config.ssl_key_store_location), (2281, "/k.pem"))
        self.assertEqual([key for key in dict(config.properties) if "ssl" in key], [])
        for text, key, words in (
            (port, "secureClientPort", "Keystore is required for SSL server"),
            ("client.portUnification=true", "client.portUnification", "Keystore is required for SSL server"),
            (f"secureClientPort=2181\n{store}", "secureClientPort", "2181 is the clientPort as well"),
            ("secureClientPortAddress=127.0.0.1", "secureClientPortAddress", "secureClientPort is not set"),
            (f"{port}{store}ssl.clientAuth=perhaps", "ssl.clientAuth", "there is no perhaps (write none, want or need"),
            (f"{port}{store}ssl.authProvider=mine", "ssl.authProvider", "No auth provider configured for the SSL"),
        ):
            error = self.refused(BASE + text)
            self.assertEqual(error.key, key)
            self.assertIn(words, str(error))
        text = f"dataDir=/nowhere\n{store}client.portUnification=true"
        self.assertIn("clientPort is not set", str(self.refused(text)))
        self.patch(loader, "find_spec", lambda name: None)
        self.assertIn("zktwisted[tls]", str(self.refused(f"{BASE}{port}{store}")))

    def test_tls_between_servers(self) -> None:
        """In an ensemble TLS between servers needs a key store; a server on its own needs none."""
        members = "".join(f"server.{sid}=h{sid}:1:2\n" for sid in (1, 2, 3))
        ensemble = f"{BASE}initLimit=5\nsyncLimit=5\n{members}"
        for key in ("sslQuorum", "portUnification"):
            error = self.refused(f"{ensemble}{key}=true\nssl.keyStore.location=/k.pem", myid=1)
            self.assertEqual((error.key, error.line), (key, 8))
            self.assertIn("ssl.quorum.keyStore.location", str(error))
            text = f"{ensemble}{key}=true\nssl.quorum.keyStore.location=/k.pem"
            self.assertTrue(ServerConfig.from_text(text, myid=1).quorum_tls)
            self.assertFalse(ServerConfig.from_text(f"{BASE}{key}=true").distributed)
        error = self.refused(f"{ensemble}ssl.quorum.clientAuth=perhaps", myid=1)
        self.assertEqual(error.key, "ssl.quorum.clientAuth")

    def test_tls_and_enforced_schemes(self) -> None:
        """Certificates may be demanded where there is TLS, or where the scheme is asked for."""
        enforced = f"{BASE}enforce.auth.enabled=true\nenforce.auth.schemes=x509\n"
        self.assertIn("x509 is not available", str(self.refused(enforced)))
        provider = "org.apache.zookeeper.server.auth.X509AuthenticationProvider"
        for text in ("secureClientPort=1\nssl.keyStore.location=/k.pem", f"authProvider.x509={provider}"):
            self.assertEqual(ServerConfig.from_text(enforced + text).enforce_auth_schemes, ("x509",))

    def test_relative_directory(self) -> None:
        """A relative directory is taken, with a note."""
        config = ServerConfig.from_text("dataDir=data")
        self.assertEqual([(note.level, note.key) for note in config.notes], [("note", "dataDir")])

    def test_nul_in_path(self) -> None:
        """No path holds a NUL."""
        for key in ("dataDir", "dataLogDir", "dynamicConfigFile"):
            self.assertEqual(self.refused(f"{BASE}{key}=/\\u0000").line, 3)

    def test_one_server_line(self) -> None:
        """One server line means standalone; its client address counts."""
        config = ServerConfig.from_text("dataDir=/nowhere\nserver.1=a:2888:3888;127.0.0.1:2183")
        self.assertEqual((config.client_port, config.client_port_address), (2183, "127.0.0.1"))
        config = ServerConfig.from_text(f"{BASE}server.1=a:2888:3888", myid=2)
        self.assertEqual((config.client_port, config.myid), (2181, 2))
        self.assertEqual([note.level for note in config.notes], ["warning"])

    def test_ensemble(self) -> None:
        """Server lines make this server one of several: the id says which."""
        config = ServerConfig.from_text(f"{BASE}{VOTERS}server.4=d:2888:3888:observer;2184", myid=3)
        self.assertTrue(config.distributed)
        self.assertEqual((config.sid, config.observer, config.peer_type), (3, False, "participant"))
        self.assertEqual(config.member and config.member.addresses, (Address("c", 2888),))
        self.assertEqual(config.notes, ())
        config = ServerConfig.from_text(f"dataDir=/nowhere\n{VOTERS}server.4=d:2888:3888:observer;2184", myid=4)
        self.assertEqual((config.observer, config.peer_type, config.client_port), (True, "observer", 2184))
        alone = f"{BASE}initLimit=1\nsyncLimit=1\nserver.1=a:1:2\n"
        config = ServerConfig.from_text(alone, myid=1)
        self.assertEqual((config.distributed, config.sid, config.member), (False, 0, None))
        config = ServerConfig.from_text(f"{alone}standaloneEnabled=false", myid=1)
        self.assertEqual((config.distributed, config.sid), (True, 1))

    def test_derived_limits(self) -> None:
        """Limits that are not set follow others; the limit of requests is shared by the voters."""
        lines = VOTERS.replace("initLimit=10\nsyncLimit=5", "initLimit=7\nsyncLimit=4")
        config = ServerConfig.from_text(BASE + lines, myid=1)
        self.assertEqual((config.connect_to_learner_master_limit, config.quorum_cnxn_timeout_ms), (7, 12_000))
        self.assertEqual(config.outstanding_limit, 500)
        text = f"{BASE}{lines}connectToLearnerMasterLimit=3\nquorumCnxnTimeoutMs=99\nglobalOutstandingLimit=1"
        config = ServerConfig.from_text(text, myid=1)
        self.assertEqual((config.connect_to_learner_master_limit, config.quorum_cnxn_timeout_ms), (3, 99))
        self.assertEqual(config.outstanding_limit, 1)
        observer = ServerConfig.from_text(f"{BASE}{lines}server.4=d:1:2:observer", myid=4)
        self.assertEqual(observer.outstanding_limit, 1000)
        self.assertEqual(ServerConfig.from_text(BASE).outstanding_limit, 1000)

    def test_names_of_an_observer_s_log(self) -> None:
        """syncEnabled has another name as a Java property."""
        for name in ("syncEnabled", "observer.syncEnabled", "zookeeper.observer.syncEnabled"):
            self.assertFalse(ServerConfig.from_text(f"{BASE}{name}=false").sync_enabled)

    def test_ensembles_that_cannot_work(self) -> None:
        """What keeps a server from being one of several is told with its place and what to write."""
        for text, myid, line, key, message in (
            (VOTERS.replace("initLimit=10\n", ""), 1, None, "initLimit", "initLimit is not set"),
            (VOTERS.replace("syncLimit=5", "syncLimit=0"), 1, 4, "syncLimit", "syncLimit is not set"),
            (VOTERS.replace("syncLimit=5", "syncLimit=-5"), 1, 4, "syncLimit", "-5 ticks are no time"),
            (f"{VOTERS}connectToLearnerMasterLimit=-1", 1, 8, "connectToLearnerMasterLimit", "-1 ticks are no time"),
            (VOTERS, 7, None, None, "My id 7 not in the peer list"),
            (f"{VOTERS}reconfigEnabled=true", 1, 8, "reconfigEnabled", "is not offered yet"),
            (f"{VOTERS}server.4=b:1:3888", 1, 8, "server.4", "b:3888 is an address of server.2 as well"),
            (f"{VOTERS}server.4=b:3888:1", 1, 8, "server.4", "b:3888 is an address of server.2 as well"),
            (f"{VOTERS}tickTime=-5", 1, 8, "tickTime", "minSessionTimeout must not be larger"),
            (VOTERS.replace("a:2888", "a:2181"), 1, 2, "clientPort", "clients would be served on a:2181"),
            (f"{VOTERS}server.300=d:1:2\nextendedTypesEnabled=true", 300, 9, "extendedTypesEnabled", "up to 254"),
            (f"{VOTERS}group.1=1:2:3\nweight.2=-1", 1, 9, "weight.2", "a vote cannot weigh -1"),
            (f"{VOTERS}group.1=1:2:3\nweight.1=0\nweight.2=0\nweight.3=0", 1, 9, "weight.1", "no server counts"),
            (f"{VOTERS}oraclePath=/x", 1, 8, "oraclePath", "an oracle"),
            (f"{VOTERS}electionAlg=1", 1, 8, "electionAlg", "Only 3 is supported"),
            (
                "initLimit=1\nsyncLimit=1\nserver.1=a:1:2\nserver.2=b:1:2:observer",
                1,
                6,
                "server.2",
                "Observers w/o quorum",
            ),
        ):
            error = self.refused(BASE + text, myid=myid)
            self.assertIn(message, error.message)
            self.assertEqual(error.line, line, error)
            self.assertTrue(error.remedy, error)
            if key is not None:
                self.assertEqual(error.key, key)
        self.assertIn("over TCP", str(self.refused(f"{BASE}electionAlg=0")))
        self.assertIsInstance(self.refused(BASE + VOTERS, myid=7), ServerIdError)
        # Each of these servers is known to itself as every address.
        ServerConfig.from_text(BASE + VOTERS.replace("=a:2888", "=0.0.0.0:2888"), myid=1)

    def test_ensembles_that_could_be_better(self) -> None:
        """Numbers of voters that help nobody, and a peerType that is not what the server line says, are remarked on."""
        two = VOTERS.replace("server.3=c:2888:3888\n", "")
        for text, words in (
            (two, "stops when either fails"),
            (f"{VOTERS}server.4=d:1:2", "4 voters survive no more failures than 3"),
            (f"{VOTERS}peerType=observer", "server.1 says participant, which counts"),
        ):
            config = ServerConfig.from_text(BASE + text, myid=1)
            self.assertEqual([note.level for note in config.notes], ["warning"], text)
            self.assertIn(words, config.notes[0].message)
            self.assertIsNotNone(config.notes[0].line)

    def test_change_of_servers_that_was_not_finished(self) -> None:
        """A Java server's change of the ensemble that is still open is not passed over."""
        path = os.path.join(fresh_directory(self), "zoo.cfg")
        with open(path, "w") as file:
            file.write(BASE + VOTERS)
        ServerConfig.from_file(path, myid=1)
        with open(f"{path}.dynamic.next", "w") as file:
            file.write("server.1=a:1:2\nversion=5")
        error = self.assertRaises(ConfigError, ServerConfig.from_file, path, myid=1)
        self.assertEqual(error.file, f"{path}.dynamic.next")

    def test_missing_myid(self) -> None:
        """A member of an ensemble needs its id."""
        loading = Loading(text_settings(BASE + VOTERS), supported_only=False)
        self.assertEqual([error.message for error in loading.errors], ["myid file is missing"])
        self.assertIn("write the id to /nowhere/myid, or use --myid", str(loading.errors[0]))

    def test_dynamic_file(self) -> None:
        """The server lines may stand in a file of their own, and only there then."""
        path = os.path.join(fresh_directory(self), "file")
        with open(path, "w") as file:
            file.write("server.1=a:2888:3888;2183")
        text = f"dataDir=/nowhere\ndynamicConfigFile={path}\n"
        self.assertEqual(ServerConfig.from_text(text).client_port, 2183)
        error = self.refused(f"{text}server.1=a:1:2")
        self.assertEqual(error.message, "parameter: server.1 must be in a separate dynamic config file")
        self.assertEqual(error.line, 3)
        for line, message in (
            ("version=5", "dynamic file shouldn't have version inside"),
            ("clientPort=5", "Unrecognised parameter: clientPort"),
        ):
            with open(path, "w") as file:
                file.write(f"server.1=a:2888:3888\n{line}")
            error = self.refused(text)
            self.assertEqual((error.message, error.file, error.line), (message, path, 2))

    def test_version_of_dynamic_file(self) -> None:
        """The version is what stands behind the last dot of the dynamic file's path, if that is a number."""
        directory = fresh_directory(self)
        for name, version in (
            ("zoo.cfg.dynamic.100000000", 1 << 32),
            ("zoo.cfg.dynamic", 0),
            ("file", 0),
            ("x.-1f", -31),
        ):
            path = os.path.join(directory, name)
            with open(path, "w") as file:
                file.write("server.1=a:2888:3888;2183")
            config = ServerConfig.from_text(f"dataDir=/nowhere\ndynamicConfigFile={path}\n")
            self.assertEqual(config.ensemble and config.ensemble.version, version, name)

    def test_all_errors(self) -> None:
        """A pass collects every wrong value; the first is the one that is raised."""
        loading = Loading(text_settings("tickTime=x\nclientPort=99999"))
        self.assertEqual([error.line for error in loading.errors], [1, 2])
        self.assertRaises(ConfigError, loading.result)


KEYS = [spelling for key in ServerConfig.keys() for spelling in key.spellings]
LINES = ["server.1", "server.2", "server.x", "group.1", "weight.1", "version", "admin.x", "ssl.x", "authProvider.1"]
VALUES = ["", "0", "-1", "7", "99999", "9" * 30, "true", "no", "x", "a:1:2", "a:1:2;3", "1:2", "\0", "0.5", "nan"]


class TotalTests(SynchronousTestCase):
    @settings(deadline=None, max_examples=300, derandomize=True)
    @given(
        st.lists(st.tuples(st.sampled_from(KEYS + LINES), st.one_of(st.sampled_from(VALUES), st.text(max_size=5)))),
        st.booleans(),
        st.sampled_from([None, 1]),
    )
    def test_anything(self, pairs: list[tuple[str, str]], supported_only: bool, myid: int | None) -> None:
        """Whatever is written, the outcome is a configuration or an error, and a report can be made of it."""
        found = [Setting(key, value, "f", line) for line, (key, value) in enumerate(pairs, 1)]
        loading = Loading(found, myid=myid, supported_only=supported_only)
        self.assertTrue(loading.config is not None or loading.errors)
        self.assertEqual(check(found, myid=myid).status == 2, bool(Loading(found, myid=myid).errors))


class SettingsTests(SynchronousTestCase):
    def test_environment(self) -> None:
        """-D items of the scripts' variables are properties; so is the switch for directories."""
        environment = {
            "SERVER_JVMFLAGS": "-Xmx1g -Dzookeeper.snapCount=5 '-Dzookeeper.x=a b' -Dflag",
            "JVMFLAGS": "-Dzookeeper.snapCount=6 'open",
            "ZOO_DATADIR_AUTOCREATE_DISABLE": "1",
        }
        given_there = environment_settings(environment)
        self.assertEqual(
            [(setting.key, setting.value, setting.source) for setting in given_there],
            [
                ("zookeeper.snapCount", "5", "SERVER_JVMFLAGS"),
                ("zookeeper.x", "a b", "SERVER_JVMFLAGS"),
                ("flag", "true", "SERVER_JVMFLAGS"),
                ("zookeeper.snapCount", "6", "JVMFLAGS"),
                ("zookeeper.datadir.autocreate", "false", "ZOO_DATADIR_AUTOCREATE_DISABLE"),
            ],
        )
        config = Loading([*given_there, *text_settings(BASE)]).result()
        self.assertEqual((config.snap_count, config.datadir_autocreate), (6, False))
        # What a Java machine is told besides is none of our business.
        self.assertEqual([note.key for note in config.notes], ["zookeeper.x"])

    def test_file_settings(self) -> None:
        """Settings of a file know the file; a broken escape does, too."""
        path = os.path.join(fresh_directory(self), "file")
        with open(path, "wb") as file:
            file.write(b"a=\xfc\n")
        self.assertEqual(file_settings(path), [Setting("a", "\u00fc", path, 1)])
        with open(path, "wb") as file:
            file.write(b"a=\\u1")
        error = self.assertRaises(ConfigError, file_settings, path)
        self.assertEqual((error.file, error.line), (path, 1))
