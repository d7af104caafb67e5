"""A key distribution centre of MIT Kerberos for one run of tests: on loopback, unprivileged, in a directory of its own.

Knows realms, keytabs and tickets. Refuses to know who uses them. Nothing of the machine's own Kerberos is read or
written: `Kdc.environment` is what keeps programs from it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.clients import servers
from tests.interop.ensembles import Reserved, until
from tests.interop.process import HOST

REALM = "EXAMPLE.COM"
MODULE = "com.sun.security.auth.module.Krb5LoginModule"
PASSWORD = "a password for the database"
#: Debian has the daemons where only root looks for programs.
PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))


def jaas(section: str, keytab: Path, principal: str, tickets: Path | None = None) -> str:
    """Return a section of a JAAS file: somebody with a key, or with tickets."""
    key = f'useKeyTab=true storeKey=true keyTab="{keytab}"'
    if tickets is not None:
        key = f'useTicketCache=true ticketCache="{tickets}"'
    return f'{section} {{\n    {MODULE} required\n    {key} principal="{principal}" doNotPrompt=true;\n}};\n'


class Kdc:
    """One realm, and the files of its principals."""

    def __init__(self, directory: Path, realm: str = REALM, trusting: Kdc | None = None) -> None:
        """*trusting* is a realm that believes what this one says of its own."""
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.realm = realm
        self.krb5_conf = directory / "krb5.conf"
        self._reserved = Reserved()
        self.port = self._reserved.port
        self._process: subprocess.Popen[bytes] | None = None
        self._written = 0
        self._trusting = trusting
        self.krb5_conf.write_text(
            "[libdefaults]\n"
            f" default_realm = {realm}\n"
            " dns_lookup_kdc = false\n"
            " dns_lookup_realm = false\n"
            " dns_canonicalize_hostname = false\n"
            " rdns = false\n"
            " udp_preference_limit = 1\n"
            f"[realms]\n {realm} = {{\n  kdc = {HOST}:{self.port}\n }}\n"
            + ("" if trusting is None else f" {trusting.realm} = {{\n  kdc = {HOST}:{trusting.port}\n }}\n"),
            "utf-8",
        )
        (directory / "kdc.conf").write_text(
            f'[kdcdefaults]\n kdc_listen = ""\n kdc_tcp_listen = {HOST}:{self.port}\n'
            f"[realms]\n {realm} = {{\n"
            f"  database_name = {directory}/principals\n  key_stash_file = {directory}/stash\n"
            f"  acl_file = {directory}/acl\n"
            "  supported_enctypes = aes256-cts-hmac-sha1-96:normal\n }\n",
            "utf-8",
        )

    @property
    def environment(self) -> dict[str, str]:
        """What programs have to have in their environment."""
        return {
            "KRB5_CONFIG": str(self.krb5_conf),
            "KRB5_KDC_PROFILE": str(self.directory / "kdc.conf"),
            "KRB5RCACHENAME": f"file2:{self.directory}/replays",
            "KRB5CCNAME": f"FILE:{self.directory}/nobody",
            "KRB5_KTNAME": f"FILE:{self.directory}/nothing",
        }

    @contextlib.contextmanager
    def here(self) -> Iterator[None]:
        """Let this be the realm of this machine, for this process and those that it starts."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            yield

    def run(self, *command: str, text: str = "") -> str:
        """Run a program of Kerberos, and return what it printed."""
        finished = subprocess.run(
            command,
            env={**os.environ, **self.environment, "PATH": PATH},
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        assert finished.returncode == 0, f"{command}: {finished.stdout}"
        return finished.stdout

    def start(self) -> None:
        """Make the database and serve it."""
        for program, package in (
            ("krb5kdc", "krb5-kdc"),
            ("kadmin.local", "krb5-admin-server"),
            ("kinit", "krb5-user"),
        ):
            servers.need_program(program, package, PATH)
        self.run("kdb5_util", "create", "-s", "-r", self.realm, "-P", PASSWORD)
        log = self.directory / "output"
        with open(log, "wb") as output:
            self._process = subprocess.Popen(
                ["krb5kdc", "-n", "-r", self.realm],
                env={**os.environ, **self.environment, "PATH": PATH},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        if self._trusting is not None:
            bridge = f"addprinc -pw bridge krbtgt/{self._trusting.realm}@{self.realm}"
            for kdc in (self, self._trusting):
                kdc.run("kadmin.local", "-r", kdc.realm, "-q", bridge)
        until(lambda: "starting" in log.read_text("utf-8"), lambda: f"the KDC serves: {log.read_text()}")

    def stop(self) -> None:
        """End it."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
        self._reserved.close()

    def write(self, name: str, text: str) -> Path:
        """Write a file that no other has the name of."""
        self._written += 1
        path = self.directory / f"{self._written}-{name}"
        path.write_text(text, "utf-8")
        return path

    def keytab(self, *principals: str, name: str | None = None, options: str = "") -> Path:
        """Make principals with keys that nobody knows, and a file that holds them."""
        path = self.directory / f"{name or principals[0].replace('/', '-')}.keytab"
        commands = [f"addprinc -randkey {options} {each}\nktadd -k {path} -norandkey {each}\n" for each in principals]
        said = self.run("kadmin.local", "-r", self.realm, text="".join(commands))
        assert path.exists(), said
        return path

    def tickets(self, principal: str, keytab: Path, name: str, *options: str) -> Path:
        """Get tickets, and return the file that holds them."""
        path = self.directory / f"{name}.cache"
        self.run("kinit", "-c", f"FILE:{path}", "-k", "-t", str(keytab), *options, principal)
        return path
