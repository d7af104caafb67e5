"""
Clients that authenticate by Kerberos: Java's command line client of both releases, kazoo, and bare frames.

The KDC is MIT's. The same JAAS files serve both kinds of server and Java's client.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoAuthError
from kazoo.security import make_acl

from tests.interop.clients import servers
from tests.interop.clients.kazoos import assert_not_authenticated, client_of, hosts
from tests.interop.conftest import MakeServer
from tests.interop.ensembles import until
from tests.interop.java import class_path, lead, zkcli_command
from tests.interop.kdc import REALM, Kdc, jaas
from tests.interop.process import HOST, ServerProcess
from tests.interop.rawclient import Closed, RawSession, buffer
from zktwisted.config.kerberos import KerberosLogin, KerberosNames, NoNameError, parse_principal
from zktwisted.wire.gssapi import Context, GssClient
from zktwisted.wire.sasl import SaslError

PROVIDER = "org.apache.zookeeper.server.auth.SASLAuthenticationProvider"
SERVICE = f"zookeeper/{HOST}@{REALM}"
BOB = f"bob@{REALM}"
SASL, GET_DATA, WHO_AM_I = 102, 4, 107
ROOT = buffer(b"/") + b"\0"
AUTH_FAILED, REQUIRED = -115, -124
SECONDS = 60.0
NULL = b"\xff\xff\xff\xff"


@pytest.fixture(scope="session")
def service(realm: Kdc) -> Path:
    """Return the keytab of servers."""
    return realm.keytab(SERVICE, name="service")


@pytest.fixture(scope="session")
def bob(realm: Kdc) -> Path:
    """Return the keytab of a client."""
    return realm.keytab("bob", "bob/admin", name="bob")


def serving(
    make_server: MakeServer, kdc: Kdc, keytab: Path, principal: str = SERVICE, wait: bool = True, **properties: str
) -> ServerProcess:
    """Start a server with a keytab, with more properties of Java's."""
    server = make_server(properties=settings(kdc, keytab, principal, **properties))
    server.start(wait)
    return server


def settings(kdc: Kdc, keytab: Path, principal: str = SERVICE, **properties: str) -> dict[str, str]:
    """Return Java's properties for a server with a keytab."""
    return {
        "java.security.auth.login.config": str(kdc.write("server.conf", jaas("Server", keytab, principal))),
        "java.security.krb5.conf": str(kdc.krb5_conf),
        "zookeeper.authProvider.sasl": PROVIDER,
        **{f"zookeeper.{name}": value for name, value in properties.items()},
    }


@pytest.fixture(scope="module")
def shared(realm: Kdc, service: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Return a server that clients know by Kerberos, which the tests of this module share."""
    directory = tmp_path_factory.mktemp("server")
    server = servers.make_server(servers.kind_under_test(), directory, properties=settings(realm, service))
    with realm.here():
        server.start()
    yield server
    server.stop()
    assert not servers.failures(server), "the server met something that it did not foresee"


@pytest.fixture
def server(shared: ServerProcess, kdc: Kdc) -> ServerProcess:
    """Return that server, to those who are of its realm."""
    return shared


@contextlib.contextmanager
def opened(server: ServerProcess) -> Iterator[RawSession]:
    """Give a session that has not authenticated."""
    session = RawSession(server.port)
    try:
        yield session
    finally:
        session.connection.close()


def context(keytab: Path, principal: str = "bob", target: str = SERVICE) -> Any:
    """Return the context of somebody who calls a server."""
    from zktwisted.edge.kerberos import Initiator

    return Initiator(KerberosLogin(principal, True, str(keytab))).context(target)


class Acting:
    """A context of somebody who says that he is another, or who wants more."""

    def __init__(self, inner: Context, layer: int = 1, own: str = "") -> None:
        self._inner = inner
        self._said = bytes((layer, 0, 0, 0)) + own.encode()

    def wrap(self, message: bytes) -> bytes:
        """Say something else."""
        return self._inner.wrap(self._said)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def say(session: RawSession, token: bytes) -> tuple[int, bytes]:
    """Say a token; return the error and what is answered."""
    _, err, body = session.call(SASL, buffer(token))
    return err, body


def authenticate(session: RawSession, own: Any) -> int:
    """Authenticate with bare frames; return the error to which it has led."""
    client = GssClient(own)
    token = client.begin()
    while True:
        err, body = say(session, token)
        if body == NULL:
            if not err:
                client.verify(b"")
            return err
        token = client.response(body[4:])


def assert_refused(session: RawSession, token: bytes) -> None:
    """A token is not accepted, and the connection is closed."""
    assert say(session, token) == (AUTH_FAILED, NULL)
    with pytest.raises(Closed):
        session.call(GET_DATA, ROOT)


def identities(session: RawSession) -> set[str]:
    """Return who a session is, by the scheme C{sasl}, and whether it is a super user."""
    _, err, body = session.call(WHO_AM_I)
    assert err == 0
    position, found = 4, set()
    for _ in range(int.from_bytes(body[:4], "big")):
        pair = []
        for _ in range(2):
            length = int.from_bytes(body[position : position + 4], "big")
            pair.append(body[position + 4 : position + 4 + length].decode())
            position += 4 + length
        found.add(pair[1] if pair[0] == "sasl" else pair[0])
    return found - {"ip"}


def zkcli(kind: str, server: ServerProcess, kdc: Kdc, section: str, script: str) -> list[str]:
    """Lead Java's client, logged in, through a script, and return the lines that it printed."""
    version = servers.need_java(kind)
    properties = {
        "java.security.auth.login.config": str(kdc.write("client.conf", section)),
        "java.security.krb5.conf": str(kdc.krb5_conf),
        "zookeeper.server.principal": SERVICE,
    }
    return lead(zkcli_command(version, f"{HOST}:{server.port}", properties), script)[1].splitlines()


@pytest.mark.parametrize("release", [servers.JAVA_380, servers.JAVA_395])
def test_java_client(release: str, server: ServerProcess, kdc: Kdc, bob: Path) -> None:
    """It is who its keytab or its tickets say, and may what that name may; others may not."""
    section = jaas("Client", bob, BOB)
    if release == servers.JAVA_395:
        section = jaas("Client", bob, BOB, tickets=kdc.tickets("bob", bob, "bob"))
    script = f"create /{release} secret-of-bob sasl:{BOB}:cdrwa\nget /{release}\nwhoami\n"
    printed = zkcli(release, server, kdc, section, script + "@UNTIL SaslAuthenticated\nquit\n")
    assert f"Created /{release}" in printed
    assert "secret-of-bob" in printed
    assert "SaslAuthenticated" in "".join(printed)
    if release == servers.JAVA_395:
        assert f"sasl: {BOB}" in printed
    with opened(server) as stranger:
        assert stranger.call(GET_DATA, buffer(f"/{release}".encode()) + b"\0")[1] == -102


def test_java_client_without_tickets(server: ServerProcess, kdc: Kdc) -> None:
    """It has nothing to show, and is told that by its own library; the server serves it as nobody in particular."""
    section = jaas("Client", Path("/nowhere"), BOB, tickets=kdc.directory / "none")
    printed = zkcli(servers.JAVA_380, server, kdc, section, "whoami\n@UNTIL AuthFailed\nquit\n")
    assert "AuthFailed" in "".join(printed)


def test_kazoo(server: ServerProcess, kdc: Kdc, bob: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It authenticates with the tickets of its process, again when it connects again."""
    monkeypatch.setenv("KRB5CCNAME", f"FILE:{kdc.tickets('bob', bob, 'kazoo')}")
    options = {"mechanism": "GSSAPI"}
    with client_of(server, sasl_options=options) as client, client_of(server) as stranger:
        client.create("/mine", b"x", acl=[make_acl("sasl", BOB, all=True)])
        with pytest.raises(NoAuthError):
            stranger.get("/mine")
        client.restart()
        assert client.get("/mine")[0] == b"x"


def test_digest_client(server: ServerProcess) -> None:
    """Who has only a name and a password is told that they do not count."""
    options = {"mechanism": "DIGEST-MD5", "username": "bob", "password": "bobsecret"}
    assert_not_authenticated(KazooClient(hosts(server), sasl_options=options))
    with opened(server) as session:
        assert_refused(session, b"")


RULES = {
    "as they are": ({}, {"bob": BOB, "bob/admin": f"bob/admin@{REALM}"}),
    "no hosts": ({"kerberos.removeHostFromPrincipal": "true"}, {"bob": BOB, "bob/admin": BOB}),
    "short": (
        {"kerberos.removeHostFromPrincipal": "true", "kerberos.removeRealmFromPrincipal": "true"},
        {"bob": "bob", "bob/admin": "bob"},
    ),
    "by rules": (
        {
            "kerberos.removeHostFromPrincipal": "true",
            "kerberos.removeRealmFromPrincipal": "true",
            "security.auth_to_local": "RULE:[2:$1;$2](.*;admin)s/;.*/-root/ DEFAULT",
            "superUser": "bob-root",
        },
        {"bob": "bob", "bob/admin": "bob-root"},
    ),
}


@pytest.mark.parametrize("which", RULES)
def test_names(which: str, make_server: MakeServer, kdc: Kdc, service: Path, bob: Path) -> None:
    """Principals have the ids that the rules give them."""
    properties, expected = RULES[which]
    server = serving(make_server, kdc, service, **properties)
    for principal, name in expected.items():
        with opened(server) as session:
            assert authenticate(session, context(bob, principal)) == 0
            more = {"super"} if name == properties.get("superUser") else set()
            assert identities(session) == {name, *more}


def test_other_realms(make_server: MakeServer, kdc: Kdc, service: Path, tmp_path: Path) -> None:
    """Who is of a realm that ours trusts has a name by a rule or none; one that it does not know is nobody's."""
    other = Kdc(tmp_path / "other", "OTHER.COM", trusting=kdc)
    try:
        other.start()
        eve = other.keytab("eve", name="eve")
        plain = serving(make_server, kdc, service)
        ruled = serving(
            make_server, kdc, service, **{"security.auth_to_local": "RULE:[1:$1@$0](.*@OTHER.COM)s/@.*/x/ DEFAULT"}
        )
        with other.here(), opened(plain) as session, opened(ruled) as named:
            asking = Acting(context(eve, "eve@OTHER.COM"), own=BOB)
            if servers.kind_under_test() == servers.OURS:
                assert authenticate(session, asking) == AUTH_FAILED
            else:
                # Java's gives it the name that it asks for.
                assert authenticate(session, asking) == 0
                assert identities(session) == {BOB}
            assert authenticate(named, context(eve, "eve@OTHER.COM")) == 0
            assert identities(named) == {"evex@OTHER.COM"}
        # A realm of somebody's own, with a service of the same name.
        forged = Kdc(tmp_path / "forged")
        forged.start()
        try:
            forged.keytab(SERVICE, name="service")
            mallory = forged.keytab("bob", name="bob")
            with forged.here(), opened(plain) as session:
                assert_refused(session, GssClient(context(mallory, BOB)).begin())
        finally:
            forged.stop()
    finally:
        other.stop()


def test_required(make_server: MakeServer, kdc: Kdc, service: Path, bob: Path) -> None:
    """Who does not authenticate is not served; who does is."""
    server = serving(make_server, kdc, service, sessionRequireClientSASLAuth="true")
    with opened(server) as session:
        assert session.call(GET_DATA, ROOT)[1] == REQUIRED
    with opened(server) as session:
        assert say(session, b"garbage") == (REQUIRED, NULL)
    with opened(server) as session:
        assert authenticate(session, context(bob)) == 0
        assert session.call(GET_DATA, ROOT)[1] == 0


def test_refused(server: ServerProcess, kdc: Kdc, bob: Path) -> None:
    """Tokens that are none, that were heard elsewhere, or that are for somebody else."""
    heard = GssClient(context(bob)).begin()
    with opened(server) as session:
        assert say(session, heard)[0] == 0
    kdc.keytab("zookeeper/elsewhere", name="elsewhere")
    elsewhere = GssClient(context(bob, target=f"zookeeper/elsewhere@{REALM}")).begin()
    fresh = GssClient(context(bob)).begin()
    damaged = fresh[:-9] + bytes(9)
    for token in (b"garbage", bytes(65000), bytes(70000), b"\x60", heard, elsewhere, damaged, fresh[:100]):
        with opened(server) as session:
            assert_refused(session, token)
    for opening in (b"garbage", b"", bytes(300)):
        with opened(server) as session:
            assert say(session, GssClient(context(bob)).begin())[0] == 0
            # What comes next has to be of the same two, whatever it is.
            err, body = say(session, opening)
            assert (err, body) == (AUTH_FAILED, NULL) or opening == b""
            if opening == b"":
                assert_refused(session, b"")
    assert server.running()


def test_acting_as_others(server: ServerProcess, bob: Path) -> None:
    """The name that is asked for does not count; protection that is asked for is not there."""
    with opened(server) as session:
        assert authenticate(session, Acting(context(bob), own="super")) == 0
        assert identities(session) == {BOB}
    for layer in (2, 4):
        with opened(server) as session:
            assert authenticate(session, Acting(context(bob), layer)) == AUTH_FAILED


def test_twice(server: ServerProcess, bob: Path) -> None:
    """Nobody authenticates a second time on a connection."""
    with opened(server) as session:
        assert authenticate(session, context(bob)) == 0
        assert_refused(session, GssClient(context(bob)).begin())


def test_wrong_keys(make_server: MakeServer, kdc: Kdc, bob: Path, tmp_path: Path) -> None:
    """A server with an old key knows nobody; one with the key of somebody else does not start, and says why."""
    name = f"zookeeper/renewed@{REALM}"
    old = kdc.keytab(name, name="old")
    kdc.run("kadmin.local", "-q", f"cpw -randkey {name}")
    if servers.kind_under_test() != servers.OURS:
        # Java's logs in itself, and finds it out sooner.
        assert serving(make_server, kdc, old, principal=name, wait=False).wait() != 0
        return
    server = serving(make_server, kdc, old, principal=name)
    with opened(server) as session:
        assert_refused(session, GssClient(context(bob, target=name)).begin())
    broken = serving(make_server, kdc, bob, wait=False)
    assert broken.wait() != 0
    assert f"{bob} is of no use for {SERVICE}" in broken.output


def test_expired_tickets(
    make_server: MakeServer, kdc: Kdc, service: Path, bob: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tickets count as long as they say."""
    from zktwisted.edge.kerberos import Initiator

    # Else clocks may differ by five minutes.
    strict = kdc.krb5_conf.read_text("utf-8").replace("[libdefaults]", "[libdefaults]\n clockskew = 1")
    path = kdc.write("krb5.conf", strict)
    monkeypatch.setenv("KRB5_CONFIG", str(path))
    server = make_server(properties={**settings(kdc, service), "java.security.krb5.conf": str(path)})
    server.start()
    initiator = Initiator(KerberosLogin("bob", False, None, True, str(kdc.directory / "short.cache")))

    def begin() -> bytes | None:
        try:
            return GssClient(initiator.context(SERVICE)).begin()
        except SaslError as error:
            assert "expired" in str(error)
            return None

    def begin_in_time() -> bytes | None:
        kdc.tickets("bob", bob, "short", "-l", "2s")
        return begin()

    token = until(begin_in_time, lambda: "tickets last long enough to be used")
    begun = time.time()
    until(lambda: begin() is None and time.time() > begun + 4, lambda: "the tickets expire")
    with opened(server) as session:
        assert_refused(session, token)


def test_half_exchanges(server: ServerProcess, bob: Path) -> None:
    """A hundred that stop in the middle keep nobody from authenticating."""
    with contextlib.ExitStack() as silent:
        for _ in range(100):
            session = silent.enter_context(opened(server))
            assert say(session, GssClient(context(bob)).begin())[0] == 0
        with opened(server) as session:
            assert authenticate(session, context(bob)) == 0
            assert session.call(GET_DATA, ROOT)[1] == 0


#: Rules, and principals for which they have a name.
TABLE = {
    "DEFAULT": [f"bob@{REALM}", f"bob/h.example.com@{REALM}", "bob", "bob/h", "a/b/c", f"@{REALM}", f"bob/@{REALM}"],
    "RULE:[2:$1;$2](^.*;admin$)s/;admin$/X/ DEFAULT": [f"bob/admin@{REALM}", f"bob/other@{REALM}", f"bob@{REALM}"],
    "RULE:[1:$1@$0](.*@OTHER)s/@.*// RULE:[1:$1]DEFAULT": ["bob@OTHER", "bob@THIRD", f"bob/h@{REALM}"],
    "RULE:[1:$0$1]": ["bob@OTHER", f"bob@{REALM}"],
    "RULE:[1:$1]s/(b)(o)/$2$1-\\$/g": ["bobob@OTHER", "x@OTHER"],
    "RULE:[1:$1]s/b/x/": ["bobob@OTHER"],
    "RULE:[1:$1](\\w+)s/\\d+// RULE:[1:rest]": ["bob12@OTHER", "bob-1@OTHER"],
    "RULE:[2:$2-$1](h[0-9]-[a-z]+)\tRULE:[2:none]": ["bob/h1@OTHER", "bob/h@OTHER"],
}
#: Rules, and a principal for which they have none.
NAMELESS = {
    "DEFAULT": ["bob@OTHER", "a@b@c", f"a/b/c@{REALM}"],
    "RULE:[1:$1](o)": ["bob@OTHER"],
    "RULE:[1:$1@$0]": ["bob@OTHER"],
    "RULE:[2:$1]": ["bob@OTHER"],
    "RULE:[1:$1](\\w+)": ["j\xf6rg@OTHER"],
}
UNREADABLE = ["RULE:[]", "RULE:[:x]", "FOO", "RULE:[1:$1](b(.)b)", "RULE:[1:$1]s/(/x/", "DEFAULT RULE:"]


def java_names(release: str, kdc: Kdc, rules: str, principals: list[str]) -> tuple[list[str], str]:
    """Ask Java for the names of principals, as far as it gets, and what it says then."""
    version = servers.need_java(release)
    finished = subprocess.run(
        [
            *("java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
            f"-Djava.security.krb5.conf={kdc.krb5_conf}",
            f"-Dzookeeper.security.auth_to_local={rules}",
            *("-cp", str(class_path(version)), "org.apache.zookeeper.server.auth.KerberosName", *principals),
        ],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    names = [line.partition(" to ")[2] for line in finished.stdout.splitlines() if line.startswith("Name: ")]
    return names, finished.stderr


@pytest.mark.parametrize("release", [servers.JAVA_380, servers.JAVA_395])
def test_rules(release: str, kdc: Kdc) -> None:
    """Each rule gives each principal the name that it has in Java."""
    for rules, principals in TABLE.items():
        ours = KerberosNames(rules, REALM)
        names, said = java_names(release, kdc, rules, principals)
        assert [ours.short_name(parse_principal(each)) for each in principals] == names, f"{rules}: {said}"


def test_rules_without_names(kdc: Kdc) -> None:
    """Who has no name in Java has none here; rules that Java cannot read cannot be read here."""
    for rules, principals in NAMELESS.items():
        ours = KerberosNames(rules, REALM)
        for principal in principals:
            with pytest.raises(NoNameError):
                ours.identity(principal)
            names, said = java_names(servers.JAVA_380, kdc, rules, [principal])
            assert names == [] and "Exception" in said, f"{rules}: {principal}"
    for rules in UNREADABLE:
        with pytest.raises(ValueError, match=r"rule|expression"):
            KerberosNames(rules, REALM)
        names, said = java_names(servers.JAVA_380, kdc, rules, [BOB])
        assert names == [] and "ExceptionInInitializerError" in said, rules
