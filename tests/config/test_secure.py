"""The profile C{secure}: what it refuses, what it says to set, and that this is enough."""

from __future__ import annotations

from pathlib import Path

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.trial.unittest import SynchronousTestCase

from zktwisted.config import ServerConfig
from zktwisted.config.check import check
from zktwisted.config.loader import Loading, text_settings
from zktwisted.config.secure import check_endpoint, check_ports, is_loopback
from zktwisted.errors import ConfigError

PROFILE = "dataDir=/srv/zk\nprofile=secure\n"
KEYS = "ssl.keyStore.location=/own.pem\n"
TRUST = "ssl.trustStore.location=/ca.pem\n"
SECURE_PORT = f"{PROFILE}secureClientPort=2281\n{KEYS}"
NO_SERVERS = "initLimit=10\nsyncLimit=5\n"
SERVERS = f"{PROFILE}{NO_SERVERS}server.1=a:2888:3888\nserver.2=b:2888:3888\nserver.3=c:2888:3888\n"
QUORUM_KEYS = "ssl.quorum.keyStore.location=/own.pem\n"
QUORUM_TRUST = "ssl.quorum.trustStore.location=/ca.pem\n"
QUORUM = f"{SERVERS}sslQuorum=true\n{QUORUM_KEYS}"
QUORUM_SASL = "quorum.auth.enableSasl=true\nquorum.auth.learnerRequireSasl=true\nquorum.auth.serverRequireSasl=true\n"


class SecureTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        module = "a.DigestLoginModule required"
        path = Path(self.mktemp()).absolute()
        path.write_text(
            f'Server {{ {module} user_bob="x"; }}; QuorumServer {{ {module} user_test="x"; }};'
            f'QuorumLearner {{ {module} username="test" password="x"; }};',
            "utf-8",
        )
        self.jaas = f"java.security.auth.login.config={path}\n"

    def errors(self, text: str) -> list[ConfigError]:
        return Loading(text_settings(text, "zoo.cfg"), myid=1).errors

    def assert_refused(self, text: str, key: str, *words: str) -> None:
        """It is refused for that key alone, and the words say what to set."""
        errors = self.errors(text)
        self.assertEqual([error.key for error in errors], [key], (text, errors))
        for each in words:
            self.assertIn(each, str(errors[0]))
        self.assertIn("the profile secure", str(errors[0]))
        # Without the profile all of it goes.
        self.assertEqual(self.errors(text.replace("profile=secure\n", "")), [])

    def assert_accepted(self, text: str) -> None:
        self.assertEqual(self.errors(text), [], text)


class ClientTests(SecureTestCase):
    def test_plain_port(self) -> None:
        """Clients without TLS are served on a loopback address alone."""
        port = f"{PROFILE}clientPort=2181\n"
        for address in ("", "clientPortAddress=192.0.2.7\n", "clientPortAddress=0.0.0.0\n", "clientPortAddress=zoo\n"):
            self.assert_refused(port + address, "clientPort", "clientPortAddress=127.0.0.1", "secureClientPort")
        # Whoever authenticates says so, and all the rest, to everybody in between.
        self.assert_refused(f"{port}{self.jaas}requireClientAuthScheme=sasl", "clientPort")
        for address in ("127.0.0.1", "127.1.2.3", "::1", "localhost"):
            self.assert_accepted(f"{port}clientPortAddress={address}")
        self.assert_accepted(PROFILE)

    def test_port_of_a_server_line(self) -> None:
        """The port for clients may stand in a line of servers, too."""
        line = f"{PROFILE}{NO_SERVERS}server.1=127.0.0.1:2888:3888;"
        self.assert_refused(f"{line}2181\n", "clientPort", "port 2181 of every address")
        self.assert_accepted(f"{line}127.0.0.1:2181\n")

    def test_one_port_for_both(self) -> None:
        """A port that accepts TLS accepts everybody else as well."""
        port = f"{PROFILE}clientPort=2181\nclient.portUnification=true\n{KEYS}{TRUST}"
        self.assert_refused(port, "client.portUnification", "secureClientPort=2181 in place")
        self.assert_accepted(f"{port}clientPortAddress=127.0.0.1")

    def test_certificates(self) -> None:
        """Clients have to show a certificate, of an authority that was named."""
        self.assert_accepted(SECURE_PORT + TRUST)
        self.assert_refused(SECURE_PORT, "ssl.trustStore.location", "authority of the clients")
        for policy in ("want", "none"):
            self.assert_refused(f"{SECURE_PORT}{TRUST}ssl.clientAuth={policy}", "ssl.clientAuth", "write need")
        self.assert_accepted(f"{SECURE_PORT}ssl.clientAuth=none\nsecureClientPortAddress=::1")

    def test_schemes(self) -> None:
        """Or they have to authenticate otherwise, by a scheme that proves something."""
        wanted = f"{SECURE_PORT}ssl.clientAuth=want\n"
        enforce = "enforce.auth.enabled=true\nenforce.auth.schemes="
        for text in (
            f"{wanted}{self.jaas}requireClientAuthScheme=sasl",
            f"{wanted}{self.jaas}sessionRequireClientSASLAuth=true",
            f"{SECURE_PORT}{self.jaas}requireClientAuthScheme=sasl",
            f"{wanted}{TRUST}requireClientAuthScheme=x509",
            f"{wanted}{TRUST}{self.jaas}{enforce}sasl,x509",
            f"{wanted}authProvider.1=plugin:token\nrequireClientAuthScheme=token",
        ):
            self.assert_accepted(text)
        for scheme in ("digest", "ip", "digest,sasl"):
            text = f"{wanted}{TRUST}{self.jaas}{enforce}{scheme}"
            self.assert_refused(text, "ssl.clientAuth", f"scheme {scheme.partition(',')[0]}")
        self.assert_refused(f"{wanted}requireClientAuthScheme=x509", "ssl.clientAuth")
        # Named, but not enforced.
        self.assert_refused(f"{wanted}{TRUST}{self.jaas}enforce.auth.schemes=sasl", "ssl.clientAuth")

    def test_words(self) -> None:
        """Who has only connected is told nothing by four-letter words: a session's id is all that its taking needs."""
        sasl = f"{SECURE_PORT}{self.jaas}requireClientAuthScheme=sasl\n"
        wanted = f"{SECURE_PORT}{TRUST}ssl.clientAuth=want\nrequireClientAuthScheme=x509\n"
        for text in (sasl, wanted):
            for words in ("*", "dump", "srvr,cons", "wchc", "stmk"):
                self.assert_refused(f"{text}4lw.commands.whitelist={words}", "4lw.commands.whitelist", "ssl.clientAuth")
            self.assert_accepted(f"{text}4lw.commands.whitelist=srvr,ruok,isro,mntr")
        self.assert_accepted(f"{sasl}{TRUST}4lw.commands.whitelist=*")
        self.assert_accepted(f"{SECURE_PORT}{TRUST}4lw.commands.whitelist=*")
        self.assert_accepted(f"{sasl}secureClientPortAddress=127.0.0.1\n4lw.commands.whitelist=*")


class ServerTests(SecureTestCase):
    def test_tls(self) -> None:
        """Servers talk to one another with TLS, and with nothing else."""
        self.assert_accepted(QUORUM + QUORUM_TRUST)
        self.assertEqual([error.key for error in self.errors(SERVERS)], ["sslQuorum", "ssl.quorum.trustStore.location"])
        trust = QUORUM_KEYS + QUORUM_TRUST
        self.assert_refused(SERVERS + trust, "sslQuorum", "sslQuorum=true", "a:2888 and a:3888")
        self.assert_refused(f"{SERVERS}{trust}portUnification=true", "sslQuorum")
        self.assert_refused(f"{QUORUM}{QUORUM_TRUST}portUnification=true", "portUnification", "remove it")
        self.assert_refused(f"{SERVERS}{self.jaas}{QUORUM_SASL}", "sslQuorum")

    def test_certificates(self) -> None:
        """They show certificates that name them, of an authority that was named."""
        self.assert_refused(QUORUM, "ssl.quorum.trustStore.location", "authority of the servers")
        for line in (
            "ssl.quorum.clientAuth=want",
            "ssl.quorum.clientAuth=none",
            "ssl.quorum.hostnameVerification=false",
            "ssl.quorum.clientHostnameVerification=false",
        ):
            self.assert_refused(QUORUM + QUORUM_TRUST + line, line.partition("=")[0], "serverRequireSasl=true")
            self.assert_accepted(QUORUM + self.jaas + QUORUM_SASL + line)
        only_offered = QUORUM_SASL.replace("serverRequireSasl=true", "serverRequireSasl=false")
        self.assert_refused(QUORUM + self.jaas + only_offered, "ssl.quorum.trustStore.location")

    def test_loopback(self) -> None:
        """An ensemble of one machine's own needs none of it, unless it listens everywhere."""
        local = SERVERS.replace("=a:", "=127.0.0.1:").replace("=b:", "=[::1]:").replace("=c:", "=localhost:")
        self.assert_accepted(local)
        everywhere = f"{local}{QUORUM_KEYS}{QUORUM_TRUST}quorumListenOnAllIPs=true\n"
        self.assert_refused(everywhere, "sslQuorum")
        self.assert_accepted(f"{everywhere}sslQuorum=true")

    def test_a_server_alone(self) -> None:
        """Who has no others has no ports for them."""
        self.assert_accepted(f"{PROFILE}{NO_SERVERS}server.1=a:2888:3888\n")


class ReportTests(SecureTestCase):
    def test_refused(self) -> None:
        """Everything that is wrong is reported at once, under the setting if it is there."""
        report = check(text_settings(f"{SERVERS}clientPort=2181\n", "zoo.cfg"), myid=1)
        self.assertEqual(report.status, 2)
        self.assertIn(
            "zoo.cfg:8: clientPort=2181\n"
            "    Port for clients; 0 lets the system choose. Without it no port is opened. Default: none.\n"
            "    error: the profile secure does not allow that clients are served without TLS",
            report.text,
        )
        self.assertEqual(report.text.count("the profile secure does not allow"), 3)

    def test_accepted(self) -> None:
        """It is said that the profile holds."""
        report = check(text_settings(f"{QUORUM}{QUORUM_TRUST}", "zoo.cfg"), myid=1)
        self.assertEqual(report.status, 0, report.text)
        self.assertIn("The profile secure holds", report.text)
        self.assertNotIn("holds", check(text_settings("dataDir=/srv/zk\nclientPort=2181\n")).text)

    def test_unknown(self) -> None:
        """Another profile is none."""
        (error,) = self.errors("dataDir=/srv/zk\nprofile=Secure\n")
        self.assertEqual((error.key, error.remedy), ("profile", "write secure, or remove it"))


class Port:
    """Something that listens."""

    def __init__(self, address: object) -> None:
        self._address = address

    def getHost(self) -> object:
        return self._address


class EmbeddedTests(SynchronousTestCase):
    """Programs have no file, and may bring endpoints of their own."""

    def config(self, **settings: object) -> ServerConfig:
        return ServerConfig(data_dir="/srv/zk", profile="secure", **settings)  # type: ignore[arg-type]

    def test_ports(self) -> None:
        """Ports of the configuration are looked at, unless they are not opened."""
        config = self.config(client_port=2181)
        self.assertEqual(self.assertRaises(ConfigError, check_ports, config, clients=True).key, "clientPort")
        check_ports(config, clients=False)
        check_ports(config.replace(profile=""), clients=True)

    def check_endpoint(self, host: str, tls: bool, **settings: object) -> None:
        check_endpoint(self.config(**settings), Port(IPv4Address("TCP", host, 1)), tls=tls)

    def test_endpoints(self) -> None:
        """An endpoint is as good as where it listens."""
        for host in ("127.0.0.1", "::1"):
            self.check_endpoint(host, tls=False)
        check_endpoint(self.config(), Port(UNIXAddress("/s")), tls=False)
        error = self.assertRaises(ConfigError, self.check_endpoint, "0.0.0.0", tls=False)
        self.assertIn("tls:tcp:2281", str(error))
        error = self.assertRaises(ConfigError, self.check_endpoint, "::", tls=True)
        self.assertEqual(error.key, "ssl.trustStore.location")
        self.check_endpoint("::", tls=True, ssl_trust_store_location="/ca.pem")
        check_endpoint(ServerConfig(data_dir="/srv/zk"), Port(IPv4Address("TCP", "192.0.2.7", 1)), tls=False)

    def test_loopback(self) -> None:
        """Names are believed to be this machine's alone if nobody else can have them."""
        self.assertTrue(all(map(is_loopback, ("localhost", "127.0.0.1", "127.3.2.1", "::1", "0:0:0:0:0:0:0:1"))))
        self.assertFalse(any(map(is_loopback, ("", "localhost.a", "127.0.0.1.a", "0.0.0.0", "::", "10.1.1.1"))))
