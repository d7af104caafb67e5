"""What TLS costs a server: CPU per read, and per handshake; ours beside Java's in one run.

``python bench/tls.py --class-path '/path/to/zookeeper-3.9.5/lib/*'`` prints a table.  The load comes from one Python
process with OpenSSL; what is measured is the server's CPU time, so the speed of the load does not matter as long as
both servers get the same.
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

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.servers import JAVA_CLASS_PATH, Server  # noqa: E402
from tests.authority import PASSWORD, Authority  # noqa: E402

CONNECT = struct.pack(">iiqiqi", 45, 0, 0, 30000, 0, 16) + bytes(17)
CONNECTIONS, DEPTH = 50, 16
PATH = b"/bench"


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


def measured(server: Server, work: Callable[[float], int], warm_up: float, seconds: float) -> tuple[float, float]:
    """CPU microseconds of the server for each piece of work, and pieces per second."""
    work(warm_up)
    before, began = server.cpu_s(), time.monotonic()
    done = work(seconds)
    return (server.cpu_s() - before) * 1e6 / done, done / (time.monotonic() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--class-path", default=JAVA_CLASS_PATH)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--port", type=int, default=23810)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        authority = Authority(directory)
        own, client = authority.identity("server", ["localhost"]), authority.identity("client")
        context = ssl.create_default_context(cafile=str(authority.trust))
        context.load_cert_chain(str(client.store))
        for index, kind in enumerate(("java", "ours")):
            port = options.port + 2 * index
            settings = {
                "secureClientPort": str(port + 1),
                "ssl.keyStore.location": str(own.p12),
                "ssl.keyStore.password": PASSWORD,
                "ssl.trustStore.location": str(authority.trust_p12),
                "ssl.trustStore.password": PASSWORD,
                "serverCnxnFactory": "org.apache.zookeeper.server.NettyServerCnxnFactory",
            }
            server = Server(kind, port, directory / kind, class_path=options.class_path, settings=settings)
            server.start()
            try:
                wait_for(port + 1)
                links = [Link(context, port + 1) for _ in range(CONNECTIONS)]
                links[0].socket.sendall(create())
                links[0].take(1)
                warm = options.seconds * (2 if kind == "java" else 0.5)
                cost, rate = measured(server, partial(reads, links), warm, options.seconds)
                print(f"{kind}: get 100 B, {CONNECTIONS} x {DEPTH}: {cost:.2f} us of CPU each, {rate:.0f} per second")
                cost, rate = measured(server, partial(handshakes, context, port + 1), warm, options.seconds)
                print(f"{kind}: mutual handshake and session: {cost:.0f} us of CPU each, {rate:.0f} per second")
                for link in links:
                    link.socket.close()
            finally:
                server.stop()


if __name__ == "__main__":
    main()
