"""DIGEST-MD5: what Java's servers and clients said is said again, byte for byte, and nothing else is believed."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from zktwisted.wire.sasl import DigestClient, DigestServer, SaslError, directives

GOLDEN = Path(__file__).parent.parent / "golden"
CLIENTS = ("zookeeper", "zk-sasl-md5")
SERVERS = ("zookeeper-quorum", "zk-quorum-sasl-md5")
NONCE, CNONCE = b"n" * 30, b"c" * 30


def recorded(path: str) -> Iterator[list[bytes]]:
    """Yield the tokens of each exchange of a recording: challenge, response, and the answer if there was one."""
    rows = [json.loads(line) for line in (GOLDEN / path).read_text("utf-8").splitlines()]
    exchanges: dict[Any, list[bytes]] = {}
    for row in rows:
        decoded = row.get("decoded", {})
        if row.get("kind") != "sasl" and decoded.get("op") != "sasl":
            continue
        token = decoded["body"]["token"] if "body" in decoded else decoded["token"]
        exchanges.setdefault(row["conn"], []).append(bytes.fromhex(token or ""))
    for tokens in exchanges.values():
        assert tokens[0] == b"", "the client begins with an empty token"
        yield tokens[1:]


def nonce_of(token: bytes, name: str) -> bytes:
    """The random bytes that a nonce was made of."""
    return b64decode(directives(token)[name][0])


def exchange(
    password: str = "secret", name: str = "ann", service: tuple[str, str] = CLIENTS, authzid: str | None = None
) -> tuple[DigestServer, DigestClient]:
    """Two sides that are about to talk."""
    return DigestServer(*service, NONCE), DigestClient(*service, name, password, CNONCE, authzid)


class RecordedTests(SynchronousTestCase):
    """What Java said."""

    def check(self, path: str, service: tuple[str, str], name: str, password: str) -> int:
        """Replay both sides of a recording, and count the exchanges."""
        count = 0
        for challenge, response, answer in recorded(path):
            server = DigestServer(*service, nonce_of(challenge, "nonce"))
            self.assertEqual(server.challenge, challenge)
            client = DigestClient(*service, name, password, nonce_of(response, "cnonce"), name)
            self.assertEqual(client.response(challenge), response)
            judged = server.response(response)
            self.assertEqual((judged.username, judged.authzid), (name, name))
            self.assertTrue(judged.checkPassword(password))
            self.assertEqual(judged.answer, answer)
            client.verify(answer)
            count += 1
        return count

    def test_clients(self) -> None:
        """A Java client and its server."""
        self.assertEqual(self.check("client/java_sasl_3.9.5.jsonl", CLIENTS, "bob", "bobsecret"), 2)

    def test_elections(self) -> None:
        """Java servers on their election ports."""
        self.assertGreater(self.check("election/sasl3.jsonl", SERVERS, "test", "testsecret"), 2)

    def test_learners(self) -> None:
        """Java servers on their quorum ports."""
        self.assertGreater(self.check("quorum/sasl3.jsonl", SERVERS, "test", "testsecret"), 2)

    def test_wrong_password(self) -> None:
        """What Java refused is refused."""
        ((challenge, response, _),) = recorded("client/java_saslbad_3.9.5.jsonl")
        judged = DigestServer(*CLIENTS, nonce_of(challenge, "nonce")).response(response)
        self.assertEqual(judged.username, "bob")
        self.assertFalse(judged.checkPassword("bobsecret"))


class ExchangeTests(SynchronousTestCase):
    """The two sides of ours."""

    def test_wrong_password(self) -> None:
        """It does not fit, and there is no answer to it; bytes are as good as text."""
        server, client = exchange("secret")
        judged = server.response(client.response(server.challenge))
        self.assertFalse(judged.checkPassword("Secret"))
        self.assertRaises(SaslError, getattr, judged, "answer")
        self.assertTrue(judged.checkPassword(b"secret"))

    def test_replay(self) -> None:
        """A response is good for its own challenge, once."""
        server, client = exchange()
        response = client.response(server.challenge)
        server.response(response)
        self.assertRaises(SaslError, server.response, response)
        another = DigestServer(*CLIENTS, b"m" * 30)
        self.assertIn("another challenge", str(self.assertRaises(SaslError, another.response, response)))

    def test_second_use(self) -> None:
        """A client that counts on is refused: nothing is kept of earlier exchanges."""
        server, client = exchange()
        response = client.response(server.challenge).replace(b"nc=00000001", b"nc=00000002")
        self.assertIn("second time", str(self.assertRaises(SaslError, server.response, response)))

    def test_other_service(self) -> None:
        """What was meant for another service is refused here."""
        server, client = DigestServer(*CLIENTS, NONCE), DigestClient(*SERVERS, "ann", "secret", CNONCE)
        response = client.response(server.challenge)
        self.assertIn("another service", str(self.assertRaises(SaslError, server.response, response)))

    def test_tampered_response(self) -> None:
        """Every part of the response counts."""
        for old, new in (
            (b'username="ann"', b'username="bob"'),
            (b'realm="zk-sasl-md5"', b'realm="else"'),
            (b"cnonce=", b"xnonce="),
            (b'cnonce="', b'cnonce="x'),
            (b"qop=auth", b"qop=auth-int"),
            (b"charset=utf-8", b"charset=ebcdic"),
            (b"response=", b"response=0"),
            (b'authzid="ann"', b'authzid="super"'),
            (b"nonce=", b"nonce=a,nonce="),
        ):
            with self.subTest(new):
                server, client = exchange(authzid="ann")
                response = client.response(server.challenge)
                self.assertIn(old, response)
                try:
                    fits = server.response(response.replace(old, new, 1)).checkPassword("secret")
                except SaslError:
                    fits = False
                self.assertFalse(fits)

    def test_defaults(self) -> None:
        """The realm, the charset, qop and the authzid may be left out."""
        server = DigestServer(*CLIENTS, NONCE)
        client = DigestClient(*CLIENTS, "ann", "secret", CNONCE)
        bare = server.challenge.replace(b'realm="zk-sasl-md5",', b"").replace(b",charset=utf-8", b"")
        response = client.response(bare).replace(b",qop=auth", b"")
        self.assertNotIn(b"realm", response)
        self.assertNotIn(b"charset", response)
        judged = server.response(response)
        self.assertEqual(judged.authzid, "ann")
        self.assertTrue(judged.checkPassword("secret"))

    def test_names_and_passwords_of_all_kinds(self) -> None:
        """Quotes, backslashes, Latin and other letters."""
        for name in ('a"b\\c', "jörg", "дора", "a,b=c", "ann/host@REALM"):
            with self.subTest(name):
                server, client = exchange(password=name[::-1], name=name, authzid=name)
                judged = server.response(client.response(server.challenge))
                self.assertEqual((judged.username, judged.authzid), (name, name))
                self.assertTrue(judged.checkPassword(name[::-1]))
                client.verify(judged.answer)

    def test_suspicious_servers(self) -> None:
        """A client does not respond to what it does not understand, and wants the server to know the password."""
        server, client = exchange()
        self.assertRaises(SaslError, client.verify, b"rspauth=" + b"0" * 32)
        for challenge in (
            b"",
            b'nonce="x"',
            b'nonce="x",algorithm=md5',
            b'nonce="x",nonce="y",algorithm=md5-sess',
            server.challenge + b',qop="auth-int,auth-conf"',
            server.challenge.replace(b"utf-8", b"ascii"),
            server.challenge + b"," * 3000,
        ):
            with self.subTest(challenge[:60]):
                self.assertRaises(SaslError, client.response, challenge)
        response = client.response(server.challenge + b',qop="auth-int,auth"')
        self.assertRaises(SaslError, client.response, server.challenge)
        judged = server.response(response)
        self.assertTrue(judged.checkPassword("secret"))
        for answer in (b"", b"rspauth=" + b"0" * 32, judged.answer[:-1], b"response=" + judged.answer[8:]):
            self.assertRaises(SaslError, client.verify, answer)
        client.verify(judged.answer)

    def test_nothing_shows_a_secret(self) -> None:
        """A response is not shown, from which a password could be guessed."""
        server, client = exchange()
        token = client.response(server.challenge)
        judged = server.response(token)
        self.assertNotIn(directives(token)["response"][0].decode(), repr(judged) + str(vars(server)))
        self.assertNotIn("secret", repr(client) + repr(judged))

    @settings(deadline=None, derandomize=True, max_examples=200)
    @given(st.binary(max_size=60) | st.text(alphabet='nonce="\\, auth', max_size=60).map(str.encode))
    def test_any_token(self, token: bytes) -> None:
        """Whatever comes is a list of directives or an error."""
        for take in (DigestServer(*CLIENTS, NONCE).response, exchange()[1].response):
            try:
                take(token)
            except SaslError:
                continue

    def test_long_tokens(self) -> None:
        """They are refused unread."""
        token = b'username="' + b"a" * 5000
        self.assertIn("bytes", str(self.assertRaises(SaslError, DigestServer(*CLIENTS, NONCE).response, token)))

    def test_blanks(self) -> None:
        """Reading takes as long as the token is long: with the square of that, this would take hours."""
        blanks = b" " * 500_000
        for token in (b"a=" + blanks + b'"', b"a" + blanks + b"b", b"a=b" + blanks + b'"', blanks + b"="):
            try:
                self.assertEqual(directives(token), {})
            except SaslError:
                continue
        self.assertEqual(directives(b" , a = b ,," + blanks + b'c="d , e" ,'), {"a": [b"b"], "c": [b"d , e"]})
