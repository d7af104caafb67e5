"""
What TLS costs a server: CPU per read, and per handshake; ours beside Java's in one run.

The load comes from one Python process with OpenSSL; what is measured is the server's CPU time, so the speed of the load
does not matter as long as both servers get the same.

    python bench/tls.py [--seconds 5] [--rounds 3] [--document docs/performance-tls.md]

Exit status 1 when a figure misses its floor: half of Java's CPU time for a read, and for a handshake.
"""

from __future__ import annotations

import argparse
import selectors
import socket
import ssl
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.report import median
from bench.servers import JAVA_CLASS_PATH, Server
from tests.authority import PASSWORD, Authority
from tests.interop.java import best_version, class_path

CONNECT = struct.pack(">iiqiqi", 45, 0, 0, 30000, 0, 16) + bytes(17)
CONNECTIONS, DEPTH = 50, 16
PATH = b"/bench"
#: By kind of work: CPU microseconds of the server for one.
Figures = dict[str, float]
#: What it is called, and the least that Java's CPU time must be over ours.
WORK = {
    "get": (f"get 100 B, {CONNECTIONS} connections x {DEPTH}", 2.0),
    "handshake": ("a handshake, certificates on both sides, and a session", 2.0),
}


def frame(body: bytes) -> bytes:
    return struct.pack(">i", len(body)) + body


def get(xid: int) -> bytes:
    return frame(struct.pack(">iii", xid, 4, len(PATH)) + PATH + b"\0")


def create() -> bytes:
    acl = struct.pack(">ii", 1, 31) + frame(b"world") + frame(b"anyone")
    return frame(struct.pack(">iii", 1, 1, len(PATH)) + PATH + frame(b"x" * 100) + acl + struct.pack(">i", 0))


class Link:
    """One connection with a session."""

    def __init__(self, context: ssl.SSLContext, port: int) -> None:
        raw = socket.create_connection(("127.0.0.1", port), 30)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = context.wrap_socket(raw, server_hostname="localhost")
        self.socket.sendall(CONNECT)
        self.data = b""
        self.take(1)
        self.xid = 1

    def take(self, frames: int) -> None:
        """Read so many frames."""
        while frames:
            if len(self.data) >= 4 and len(self.data) >= (end := 4 + int.from_bytes(self.data[:4], "big")):
                self.data = self.data[end:]
                frames -= 1
                continue
            piece = self.socket.recv(1 << 16)
            assert piece, "the server closed the connection"
            self.data += piece

    def ask(self) -> None:
        """Send as many reads as may be under way."""
        requests = [get(self.xid + n) for n in range(DEPTH)]
        self.xid += DEPTH
        self.socket.sendall(b"".join(requests))


def reads(links: list[Link], seconds: float) -> int:
    """Read for so long; return how often."""
    selector = selectors.DefaultSelector()
    for link in links:
        selector.register(link.socket, selectors.EVENT_READ, link)
        link.ask()
    done, until = 0, time.monotonic() + seconds
    busy = len(links)
    while busy:
        for key, _ in selector.select(30):
            link = key.data
            link.take(DEPTH)
            done += DEPTH
            if time.monotonic() < until:
                link.ask()
            else:
                selector.unregister(link.socket)
                busy -= 1
    selector.close()
    return done


def handshakes(context: ssl.SSLContext, port: int, seconds: float) -> int:
    """Shake hands for so long, one after the other; return how often."""
    done, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        Link(context, port).socket.close()
        done += 1
    return done


def wait_for(port: int, limit_s: float = 30.0) -> None:
    """Return when somebody listens: Java opens its second port a little after the first."""
    until = time.monotonic() + limit_s
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), limit_s).close()
        except ConnectionRefusedError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)
        else:
            return


def measured(server: Server, work: Callable[[float], int], warm_up: float, seconds: float) -> float:
    """CPU microseconds of the server for each piece of work."""
    work(warm_up)
    before = server.cpu_s()
    done = work(seconds)
    return (server.cpu_s() - before) * 1e6 / done


def measure(server: Server, port: int, context: ssl.SSLContext, seconds: float) -> Figures:
    """What one server, just started, needs for each kind of work."""
    # A Java server gets faster for some seconds.
    warm = seconds * (2 if server.kind == "java" else 0.5)
    wait_for(port)
    links = [Link(context, port) for _ in range(CONNECTIONS)]
    try:
        links[0].socket.sendall(create())
        links[0].take(1)
        return {
            "get": measured(server, partial(reads, links), warm, seconds),
            "handshake": measured(server, partial(handshakes, context, port), warm, seconds),
        }
    finally:
        for link in links:
            link.socket.close()


def page(results: dict[str, list[Figures]]) -> tuple[str, bool]:
    """
    Write a table of medians.

    @return: it, and whether every floor was reached.
    """
    lines = [
        "| work | Java, µs CPU | ours, µs CPU | Java's over ours | at least | reached | a CPU second: Java | ours |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    good = True
    for name, (words, floor) in WORK.items():
        java, ours = (median([figures[name] for figures in results[kind]]) for kind in ("java", "ours"))
        reached = java / ours >= floor
        good &= reached
        per_second = " | ".join(f"{1e6 / cost:,.0f}" for cost in (java, ours))
        verdict = "yes" if reached else "no"
        lines.append(
            f"| {words} | {java:,.1f} | {ours:,.1f} | {java / ours:.1f} | {floor:g} | {verdict} | {per_second} |"
        )
    return "\n".join(lines) + "\n", good


HEAD = """# Performance of TLS

Written by `bench/tls.py`; do not edit.
Figures of one machine: trust the ratios, repeat them on yours.

Both servers have the same configuration, keys of P-256, and clients that show certificates.
Java's is {java}, with Netty.
They take turns, {rounds} rounds of {seconds:g} s for each kind of work, and the medians stand here.
The load is one Python program, which is slower than the servers.
So what counts is the CPU time of the server for each piece of work, and for how many a second of it is good.

"""


def settings(authority: Authority, port: int) -> dict[str, str]:
    own = authority.identity("server", ["localhost"])
    return {
        "secureClientPort": str(port),
        "ssl.keyStore.location": str(own.p12),
        "ssl.keyStore.password": PASSWORD,
        "ssl.trustStore.location": str(authority.trust_p12),
        "ssl.trustStore.password": PASSWORD,
        "serverCnxnFactory": "org.apache.zookeeper.server.NettyServerCnxnFactory",
    }


def main() -> int:
    """Run what the command line asks for; return the exit status."""
    release = best_version()
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().partition("\n")[0])
    found = JAVA_CLASS_PATH if release is None else class_path(release)
    parser.add_argument("--class-path", default=found, help="of Java's server, with Netty; by default what is found")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each kind of work, after a warm-up")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--port", type=int, default=23440, help="the first of two")
    parser.add_argument("--document", type=Path, help="write the page there")
    chosen = parser.parse_args()
    results: dict[str, list[Figures]] = {"java": [], "ours": []}
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        authority = Authority(directory)
        context = ssl.create_default_context(cafile=str(authority.trust))
        context.load_cert_chain(str(authority.identity("client").store))
        lines = settings(authority, chosen.port + 1)
        for number in range(chosen.rounds):
            for kind, figures in results.items():
                place = directory / f"{kind}-{number}"
                server = Server(kind, chosen.port, place, class_path=chosen.class_path, settings=lines)
                server.start()
                try:
                    figures.append(measure(server, chosen.port + 1, context, chosen.seconds))
                finally:
                    server.remove()
    text, good = page(results)
    print(text)
    if chosen.document is not None:
        java = f"ZooKeeper {release}" if chosen.class_path == found and release else "the one of --class-path"
        head = HEAD.format(rounds=chosen.rounds, seconds=chosen.seconds, java=java)
        chosen.document.write_text(head + text, encoding="utf-8")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
