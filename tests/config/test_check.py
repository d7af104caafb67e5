"""The report of --check-config."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from zktwisted.config.check import WORDS, Report, check
from zktwisted.config.loader import text_settings
from zktwisted.ops import fourletter

GOOD = "dataDir=/srv/zk\nclientPort=2181\ntickTime=2000\n"


THREE = f"{GOOD}initLimit=10\nsyncLimit=5\nserver.1=a:2888:3888\nserver.2=b:2888:3888\nserver.3=c:2888:3888\n"


def report(text: str, myid: int | None = None) -> Report:
    return check(text_settings(text, "zoo.cfg"), myid=myid, config_file="zoo.cfg")


class CheckTests(SynchronousTestCase):
    def test_fine(self) -> None:
        """Each setting is explained with its default, and the outcome told; the status is 0."""
        result = report(GOOD)
        self.assertEqual(result.status, 0)
        self.assertIn("zoo.cfg:3: tickTime=2000\n    The unit of time", result.text)
        self.assertIn("Default: 3000 ms.", result.text)
        self.assertIn("errors: 0, warnings: 0. The server would start.", result.text)
        self.assertIn("port 2181 of every address", result.text)
        self.assertIn("/srv/zk/version-2", result.text)
        self.assertIn("4000 to 40000 ms", result.text)

    def test_errors(self) -> None:
        """Every error stands under its setting, with the remedy; the status is 2."""
        result = report("clientPort=x\ndataDir=/srv/zk\ntickTime=y")
        self.assertEqual(result.status, 2)
        self.assertEqual(result.text.count("    error: "), 2)
        self.assertIn("The server would not start.", result.text)
        result = report("clientPort=x\ndataDir=/srv/zk\nadmin.serverPort=8080\nclientPrt=5")
        self.assertEqual((result.status, result.text.count("    error: ")), (2, 2))
        self.assertIn("did you mean clientPort?", result.text)
        result = report(f"{GOOD}secureClientPort=2281")
        self.assertIn("    error: Keystore is required for SSL server: ssl.keyStore.location (write", result.text)

    def test_error_without_a_line(self) -> None:
        """What is missing is an error at the end."""
        result = report("clientPort=2181")
        self.assertEqual(result.status, 2)
        self.assertIn("error: zoo.cfg: dataDir: dataDir is not set", result.text)
        result = report(f"{GOOD}server.1=a:1:2\nserver.2=b:1:2\n", myid=1)
        self.assertIn("error: zoo.cfg: initLimit: initLimit is not set", result.text)

    def test_warnings(self) -> None:
        """Unknown keys and risky values are named under their settings; the status is 1."""
        for line, words in (
            ("clientPrt=5", "did you mean clientPort?"),
            ("forceSync=no", "risky"),
            ("skipACL=yes", "risky"),
            ("digest.enabled=false", "risky"),
            ("snapshot.trust.empty=true", "risky"),
            ("4lw.commands.whitelist=*", "risky"),
            ("4lw.commands.whitelist=ruk,foobar", "did you mean ruok?"),
            ("maxClientCnxns=0", "risky"),
            ("jute.maxbuffer=99999999", "risky"),
            ("jute.maxbuffer=99", "risky"),
            ("minSessionTimeout=10", "less than 2 ticks"),
            ("snapCount=10", "risky"),
            ("snapCount=abc", "100000 is used"),
            ("DigestAuthenticationProvider.superDigest=admin", "nobody matches"),
        ):
            result = report(f"{GOOD}{line}\n")
            self.assertEqual(result.status, 1, line)
            at = next(index for index, text in enumerate(result.lines) if text.startswith("zoo.cfg:4: "))
            warnings = [text for text in result.lines[at + 1 : at + 5] if text.startswith("    warning: ")]
            self.assertTrue(any(words in text for text in warnings), (line, result.lines))
        self.assertEqual(report("dataDir=/tmp/zk").status, 1)
        self.assertEqual(report(f"{GOOD}tickTime=20").status, 1)

    def test_notes(self) -> None:
        """What has no effect is named and changes nothing about the status."""
        result = report(f"{GOOD}initLimit=5\nnio.numWorkerThreads=8\nclientPort=2182\nadmin.enableServer=false")
        self.assertEqual(result.status, 0)
        self.assertIn("note: it has an effect in ensembles only", result.text)
        self.assertIn("note: ignored: there is one event loop", result.text)
        self.assertIn("note: a later one wins", result.text)
        self.assertIn("port 2182", result.text)
        result = report(f"{GOOD}requireClientAuthScheme=digest")
        self.assertEqual(result.status, 0)
        self.assertIn("    note: enforced here; a Java server takes no notice", result.text)

    def test_ensemble(self) -> None:
        """It is told what the server would be among the others."""
        result = report(THREE, myid=2)
        self.assertEqual(result.status, 0, result.text)
        self.assertIn("It would be server 2, a voter, in an ensemble of 3 voters.", result.text)
        self.assertIn("2 voters have to work together; 1 may fail.", result.text)
        self.assertIn("reach it on b:2888 (while it leads) and b:3888 (elections).", result.text)
        self.assertNotIn("in ensembles only", result.text)
        self.assertIn("zoo.cfg:6: server.1=a:2888:3888\n    A server of the ensemble: host,", result.text)
        result = report(f"{THREE}server.4=d:2888:3888:observer", myid=4)
        self.assertIn("It would be server 4, an observer, in an ensemble of 3 voters and 1 observer.", result.text)
        result = report(THREE, myid=5)
        self.assertEqual(result.status, 2)
        self.assertIn("error: /srv/zk/myid: My id 5 not in the peer list", result.text)

    def test_risks_of_ensembles(self) -> None:
        """What works and may hurt an ensemble is named under its setting."""
        for line, words in (
            ("server.1=127.0.0.1:2888:3888", "only from this machine"),
            ("server.257=d:1:2\nserver.258=e:1:2", "1 and 257 share it"),
            ("server.4=d:1:2", "survive no more failures than 3"),
            ("tickTime=150", "give each other up"),
            ("initLimit=3", "less than syncLimit"),
            ("forceSnapshotSync=true", "meant for tests"),
            ("localSessionsUpgradingEnabled=true", "no effect without"),
            ("readonlymode.enabled=true", "only local sessions can begin"),
            ("testingonly.initialZxid=5", "for tests only"),
        ):
            result = report(f"{THREE}{line}\n", myid=1)
            self.assertEqual(result.status, 1, line)
            self.assertTrue(
                any(words in text for text in result.lines if text.startswith("    warning: ")), result.lines
            )
        result = report(
            THREE.replace("=a:", "=127.0.0.1:").replace("=b:", "=localhost:").replace("=c:", "=[::1]:"), myid=1
        )
        self.assertEqual(result.status, 0, result.text)
        result = report(f"{THREE}leaderServes=no\nsyncEnabled=false", myid=1)
        self.assertEqual((result.status, result.text.count("    note: ")), (0, 2))

    def test_no_port(self) -> None:
        """A server without a client port is said to have none."""
        self.assertIn("no client port", report("dataDir=/srv/zk").text)

    def test_tls(self) -> None:
        """Ports with TLS are told."""
        store = "ssl.keyStore.location=/k.pem\n"
        text = report(f"{GOOD}secureClientPort=2281\n{store}").text
        self.assertIn("serve clients that use TLS on port 2281 of every address.", text)
        self.assertIn("serve clients on port 2181 of every address.", text)
        text = report(f"{GOOD}client.portUnification=true\n{store}").text
        self.assertIn("on port 2181 of every address, with TLS or without.", text)

    def test_risks_of_sasl(self) -> None:
        """It is remarked on when passwords lie open, or nobody has to know them; none is shown."""
        path = Path(self.mktemp()).absolute()
        module = "a.DigestLoginModule required"
        path.write_text(
            f"Server {{ {module} user_bob=sesame; }}; QuorumServer {{ {module} user_bob=sesame; }};", "utf-8"
        )
        text = f"{THREE}java.security.auth.login.config={path}\nSASLAuthenticationProvider.superPassword=sesame\n"
        path.chmod(0o640)
        result = report(text, myid=1)
        self.assertEqual(result.status, 0, result.text)
        self.assertNotIn("sesame", result.text)
        self.assertIn("need not authenticate", report(f"{text}quorum.auth.enableSasl=true", myid=1).text)
        path.chmod(0o644)
        self.assertIn("warning: risky: everybody on this machine may read", report(text, myid=1).text)

    def test_risks_of_tls(self) -> None:
        """It is remarked on when too many may come in."""
        port = f"{GOOD}secureClientPort=2281\nssl.keyStore.location=/k.pem\n"
        quorum = f"{THREE}ssl.quorum.keyStore.location=/k.pem\nsslQuorum=true\n"
        trust = "ssl.quorum.trustStore.location=/t.pem\n"
        for text, words in (
            (port, "ssl.trustStore.location: risky"),
            (quorum, "ssl.quorum.trustStore.location: risky"),
            (f"{quorum}{trust}ssl.quorum.hostnameVerification=false", "risky: whoever has any certificate"),
            (f"{quorum}{trust}ssl.quorum.clientHostnameVerification=false", "risky: whoever has any certificate"),
            (f"{quorum}{trust}ssl.quorum.clientAuth=want", "risky: who shows no certificate"),
            (f"{quorum}{trust}portUnification=true", "other servers may connect without TLS"),
        ):
            result = report(text, myid=1)
            self.assertEqual((result.status, words in result.text), (1, True), result.text)
        for text in (f"{port}ssl.clientAuth=none", f"{port}ssl.trustStore.location=/t.pem", quorum + trust):
            self.assertEqual(report(text, myid=1).status, 0)

    def test_secrets(self) -> None:
        """Hashes and passwords are not repeated."""
        result = report(f"{GOOD}DigestAuthenticationProvider.superDigest=super:c2VjcmV0\nssl.keyStore.password=geheim")
        self.assertNotIn("c2VjcmV0", result.text)
        self.assertNotIn("geheim", result.text)

    def test_words(self) -> None:
        """The words that are known here are those that are answered."""
        answered = {word.decode() for word in fourletter.WORDS if word != fourletter.TELNET_CLOSE}
        self.assertEqual(set(WORDS), answered)
