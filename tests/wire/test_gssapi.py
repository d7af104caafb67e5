"""GSSAPI: who has shown what, what is offered and chosen then, and that nothing else leads to a name."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.wire.contexts import BOB, Accepting, Initiating
from zktwisted.wire.gssapi import TOKEN_MAX, GssClient, GssResponse, GssServer
from zktwisted.wire.sasl import SaslError

TICKET = b"ticket of bob@EXAMPLE.COM"
OFFER = b"server:\1\0\0\0"


def offered() -> GssServer:
    """A server that knows who calls, and has made its offer."""
    server = GssServer(Accepting())
    assert server.step(TICKET) == b"welcome"
    assert server.step(b"") == OFFER
    return server


class ServerTests(SynchronousTestCase):
    """The server's side."""

    def shown(self, outcome: bytes | GssResponse) -> tuple[str, str]:
        """Who has been shown, and as whom it wants to act."""
        assert isinstance(outcome, GssResponse)
        self.assertIsNone(outcome.answer)
        return outcome.username, outcome.authzid

    def test_steps(self) -> None:
        """Ticket, welcome, nothing, offer, choice."""
        self.assertEqual(self.shown(offered().step(b"client:\1\0\0\0")), (BOB, BOB))
        self.assertEqual(self.shown(offered().step(b"client:\1\0\1\0" + BOB.encode())), (BOB, BOB))
        self.assertEqual(self.shown(offered().step(b"client:\1\0\0\0super")), (BOB, "super"))

    def test_without_a_welcome(self) -> None:
        """Java's clients do not ask who the server is; it makes its offer at once, which shows it all the same."""
        server = GssServer(Accepting(mutual=False))
        self.assertEqual(server.step(TICKET), OFFER)
        self.assertEqual(self.shown(server.step(b"client:\1\0\0\0")), (BOB, BOB))

    def test_refused(self) -> None:
        """What is no ticket, what is not from the same client, and other protection than none."""
        for token in (b"", b"garbage", b"ticket", TICKET + bytes(TOKEN_MAX)):
            self.assertRaises(SaslError, GssServer(Accepting()).step, token)
        for token in (
            b"",
            OFFER,
            b"client:",
            b"client:\1\0\0",
            b"client:\0\0\0\0",
            b"client:\2\0\0\0",
            b"client:\4\0\0\0",
            b"client:\7\0\0\0",
            b"client:\1\0\0\0\xff",
        ):
            self.assertRaises(SaslError, offered().step, token)
        server = GssServer(Accepting())
        server.step(TICKET)
        self.assertRaises(SaslError, server.step, b"more")

    def test_the_end(self) -> None:
        """Nothing follows a choice, right or wrong."""
        for choice in (b"client:\1\0\0\0", b"client:\2\0\0\0"):
            server = offered()
            try:
                server.step(choice)
            except SaslError:
                pass
            self.assertRaises(SaslError, server.step, b"client:\1\0\0\0")

    def test_endless(self) -> None:
        """A context that is never complete is given up."""
        context = Accepting()
        context.step = lambda token: b"more"  # type: ignore[method-assign]
        server = GssServer(context)
        for _ in range(8):
            server.step(b"x")
        self.assertRaises(SaslError, server.step, b"x")

    def test_no_secrets(self) -> None:
        """Who is shown is no secret; tokens are in no message."""
        self.assertIn("bob", repr(GssResponse("bob", "bob")))
        error = self.assertRaises(SaslError, offered().step, b"client:\2\0\0\0sesame")
        self.assertNotIn("sesame", str(error))

    @settings(deadline=None, derandomize=True, max_examples=200)
    @given(st.lists(st.sampled_from([TICKET, b"", OFFER, b"client:\1\0\0", b"client:", b"x"]) | st.binary(max_size=9)))
    def test_anything(self, tokens: list[bytes]) -> None:
        """Without a sealed choice of no layer nobody has a name."""
        server = GssServer(Accepting())
        try:
            for token in tokens:
                self.assertIsInstance(server.step(token), bytes)
        except SaslError:
            pass


class ClientTests(SynchronousTestCase):
    """The client's side."""

    def test_steps(self) -> None:
        """It shows its ticket, sees the server's, takes no layer, and says who it is."""
        for mutual in (True, False):
            own = Initiating()
            own.complete = not mutual
            client, server = GssClient(own), GssServer(Accepting(mutual))
            said, tokens = server.step(client.begin()), 1
            while isinstance(said, bytes):
                said, tokens = server.step(client.response(said)), tokens + 1
            self.assertEqual((said.username, said.authzid, tokens), (BOB, BOB, 3 if mutual else 2))
            client.verify(b"")

    def test_strangers(self) -> None:
        """Who is not what it was taken for, wants more, or says too much."""
        client = GssClient(Initiating())
        client.begin()
        self.assertRaises(SaslError, client.response, b"hello")
        error = self.assertRaises(SaslError, client.response, bytes(TOKEN_MAX + 1))
        self.assertIn("65537 bytes", str(error))
        for offer in (
            b"server:\6\0\0\0",
            b"server:\0\0\0\0",
            b"server:\1\0\0",
            b"server:\1\0\0\0x",
            b"\1\0\0\0",
        ):
            client = GssClient(Initiating())
            client.begin()
            client.response(b"welcome")
            self.assertRaises(SaslError, client.response, offer)

    def test_all_layers(self) -> None:
        """A server that offers more than nothing offers nothing as well."""
        client = GssClient(Initiating())
        client.begin()
        client.response(b"welcome")
        self.assertEqual(client.response(b"server:\7\1\0\0"), b"client:\1\0\0\0" + BOB.encode())

    def test_too_soon(self) -> None:
        """A server that lets it in before it has shown who it is shows nothing."""
        client = GssClient(Initiating())
        self.assertRaises(SaslError, client.verify, b"")
        client.begin()
        self.assertRaises(SaslError, client.verify, b"")
        client.response(b"welcome")
        self.assertRaises(SaslError, client.verify, b"")
        client.response(OFFER)
        self.assertRaises(SaslError, client.verify, b"more")
        self.assertRaises(SaslError, client.response, OFFER)
        client.verify(b"")
