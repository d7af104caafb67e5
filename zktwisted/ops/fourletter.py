"""
Four-letter words: what a monitor gets for C{echo ruok | nc server 2181}.

Turns the values of L{zktwisted.ops.commands} into ZooKeeper's text, byte for byte, and holds the rules of who
is answered: the whitelist, and what is said while the server does not serve.  Knows no sockets: the connection
recognises L{WORDS} in the first four bytes, asks, writes the answer and closes.

Rules: spec: operations 1; client-protocol 10.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Protocol

from twisted.logger import Logger

from zktwisted.ops import commands
from zktwisted.ops.commands import Commands, ConnectionView, ServerView

__all__ = ["NOT_SERVING", "TELNET_CLOSE", "WORDS", "FourLetterWords", "java_double"]

log = Logger()

TELNET_CLOSE = b"\xff\xf4\xff\xfd"
"""What telnet sends when its user interrupts it: closed without a word."""

NOT_SERVING = "This ZooKeeper instance is not currently serving requests\n"
LONG_MASK = (1 << 64) - 1
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Whitelist(Protocol):
    """Who says which words are answered; L{zktwisted.config.ServerConfig} does."""

    def allows_four_letter_word(self, word: str) -> bool:
        """Whether C{4lw.commands.whitelist} has the word; C{srvr} always, C{isro} in read-only mode."""


class FourLetterWords:
    """
    The four-letter words of one server.

    @ivar commands: where the values come from; an admin server shares it.
    """

    def __init__(self, view: ServerView, config: Whitelist, commands: Commands | None = None) -> None:
        """
        @param view: the server to tell about.
        @param config: who may ask what.
        @param commands: the server's, if there is one already.
        """
        self.view = view
        self.commands = commands or Commands(view)
        self._config = config

    def length(self, word: bytes) -> int:
        """How many bytes a word needs before it can be answered, its own four included (C{stmk}: 12)."""
        return 12 if word == b"stmk" else 4

    def answer(self, word: bytes, rest: bytes = b"", peer: str = "") -> bytes | None:
        """
        Answer a word.

        Counts the packet, so the connection need not; its own line in C{cons} is its own affair.

        @param word: one of L{WORDS}.
        @param rest: what came behind the word; only C{stmk} looks at it.
        @param peer: address and port of who asks, for the log.

        @return: the text to write before closing; C{None}: close without a word.
        """
        if word == TELNET_CLOSE:
            return None
        view = self.view
        view.stats.packets_received += 1
        view.metrics.bytes_received_count += 4
        name = word.decode("ascii")
        log.info("Processing {word} command from /{peer}", word=name, peer=peer)
        if not self._config.allows_four_letter_word(name):
            text = f"{name} is not executed because it is not in the whitelist.\n"
        elif word == b"stmk":
            if len(rest) < 8:
                return None
            self.commands.trace_mask = int.from_bytes(rest[:8], "big", signed=True)
            text = str(self.commands.trace_mask)
        elif view.serving or word in ALWAYS:
            text = RENDER[word](self.commands)
        else:
            text = WHILE_NOT_SERVING.get(word, NOT_SERVING)
        view.stats.packets_sent += 1
        return text.encode("utf-8", "replace")


def java_double(number: float) -> str:
    """Write a finite number as Java's C{Double.toString} does: 0.5, 100.0, 1.0E7, 5.0E-4."""
    if number == 0 or 1e-3 <= abs(number) < 1e7:
        return repr(float(number))
    sign, digits, exponent = Decimal(repr(number)).normalize().as_tuple()
    figures = "".join(map(str, digits))
    power = int(exponent) + len(figures) - 1
    return f"{'-' * sign}{figures[0]}.{figures[1:] or '0'}E{power}"


def java_date(ms: int) -> str:
    """Write a wall clock time as Java's C{Date.toString} does, in the local zone, whatever the locale is."""
    t = time.localtime(ms // 1000)
    clock = f"{t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02}"
    return f"{DAYS[t.tm_wday]} {MONTHS[t.tm_mon - 1]} {t.tm_mday:02} {clock} {t.tm_zone} {t.tm_year}"


def hexadecimal(number: int) -> str:
    """Write a signed 64-bit number in Java's hexadecimal: -1 is sixteen times f."""
    return f"0x{number & LONG_MASK:x}"


def connection_line(connection: ConnectionView, brief: bool) -> str:
    """
    The line of one connection in C{stat} (brief) and C{cons}.

    Read straight from the connection rather than from the command's fields: there may be thousands.
    """
    c = connection
    line = (
        f" /{c.remote_address}[{c.interest_ops:x}](queued={c.outstanding_requests},"
        f"recved={c.packets_received},sent={c.packets_sent}"
    )
    if not brief and c.session_id:
        cxid = f",lcxid={hexadecimal(c.last_cxid)}" if c.last_cxid >= 0 else ""
        line += (
            f",sid={hexadecimal(c.session_id)},lop={commands.last_operation(c.last_op)},est={c.established_ms},"
            f"to={c.session_timeout_ms}{cxid},lzxid={hexadecimal(c.last_zxid)},lresp={c.last_response_ms},"
            f"llat={c.last_latency},minlat={c.min_latency},avglat={c.avg_latency},maxlat={c.max_latency}"
        )
    return line + ")\n"


def lines(texts: Iterable[str]) -> str:
    """Put a line end behind each text."""
    return "".join(f"{text}\n" for text in texts)


def conf(source: Commands) -> str:
    """The settings; C{key=value}."""
    fields, sizes = source.configuration(), source.dirs()
    text = lines(
        f"{key}={value}"
        for key, value in (
            ("clientPort", fields["client_port"]),
            ("secureClientPort", source.view.secure_client_port),
            ("dataDir", fields["data_dir"]),
            ("dataDirSize", sizes["datadir_size"]),
            ("dataLogDir", fields["data_log_dir"]),
            ("dataLogSize", sizes["logdir_size"]),
            ("tickTime", fields["tick_time"]),
            ("maxClientCnxns", fields["max_client_cnxns"]),
            ("minSessionTimeout", fields["min_session_timeout"]),
            ("maxSessionTimeout", fields["max_session_timeout"]),
            ("clientPortListenBacklog", fields["client_port_listen_backlog"]),
            ("serverId", fields["server_id"]),
        )
    )
    text += lines(f"{key}={fields[name]}" for key, name in QUORUM_SETTINGS if name in fields)
    if "membership" in fields:
        text += f"membership: \n{fields['membership']}"  # without a line end
    return text


QUORUM_SETTINGS = (
    ("initLimit", "init_limit"),
    ("syncLimit", "sync_limit"),
    ("electionAlg", "election_alg"),
    ("electionPort", "election_port"),
    ("quorumPort", "quorum_port"),
    ("peerType", "peer_type"),
)


def cons(source: Commands) -> str:
    """All connections in full, then an empty line."""
    return "".join(connection_line(c, brief=False) for c in source.view.connections) + "\n"


def crst(source: Commands) -> str:
    """Reset the connections."""
    source.connection_stat_reset()
    return "Connection stats reset.\n"


def dirs(source: Commands) -> str:
    """Sizes of the directories."""
    return lines(f"{key}: {size}" for key, size in source.dirs().items())


def _session_sets(title: str, sets: Sequence[tuple[int, Sequence[int]]]) -> Iterator[str]:
    yield f"{title} ({len(sets)})/({sum(len(ids) for _, ids in sets)}):"
    for end, ids in sets:
        yield f"{len(ids)} expire at {java_date(end)}:"
        yield from (f"\t{hexadecimal(session)}" for session in ids)


def dump(source: Commands) -> str:
    """Sessions by expiry, ephemeral nodes by session, connections by expiry."""
    view = source.view
    local, timeouts = view.local_session_sets(), view.session_timeouts()
    out = ["SessionTracker dump:"]
    if local is not None:
        out += _session_sets("Local Session Sets", local)
    if timeouts is None:
        out += _session_sets("Session Sets" if local is None else "Global Session Sets", view.session_sets())
    else:
        out.append(f"Global Sessions({len(timeouts)}):")
        out += [f"{hexadecimal(session)}\t{timeouts[session]}ms" for session in sorted(timeouts)]
    ephemerals = view.ephemerals
    out += ["ephemeral nodes dump:", f"Sessions with Ephemerals ({len(ephemerals)}):"]
    for session, paths in ephemerals.items():
        out.append(f"{hexadecimal(session)}:")
        out.extend(f"\t{commands.text(path)}" for path in paths)
    connections = view.connection_sets()
    total = sum(len(members) for _, members in connections)
    out += ["Connections dump:", f"Connections Sets ({len(connections)})/({total}):"]
    for end, members in connections:
        out.append(f"{len(members)} expire at {java_date(end)}:")
        out.extend(f"\tip: /{c.remote_address} sessionId: {hexadecimal(c.session_id)}" for c in members)
    return lines(out)


def envi(source: Commands) -> str:
    """Where the server runs."""
    return "Environment:\n" + lines(f"{key}={value}" for key, value in source.environment().items())


def gtmk(source: Commands) -> str:
    """The trace mask, without a line end."""
    return str(source.trace_mask)


def digest(source: Commands) -> str:
    """C{zxid: digest} of every digest kept."""
    return lines(f"{zxid & LONG_MASK:x}: {value}" for zxid, value, _ in source.view.digests)


def isro(source: Commands) -> str:
    """C{ro} or C{rw}, without a line end."""
    return "ro" if source.view.read_only else "rw"


def mntr(source: Commands) -> str:
    """All metrics; C{zk_name}, a tab, the value."""
    return lines(
        f"zk_{name}\t{java_double(value) if isinstance(value, float) else value}"
        for name, value in source.monitor().items()
    )


def ruok(source: Commands) -> str:
    """A sign of life, without a line end."""
    return "imok"


def _version(view: ServerView) -> Iterator[str]:
    yield f"Zookeeper version: {commands.VERSION}"
    if view.read_only:
        yield "READ-ONLY mode; serving only read-only clients"


def _figures(view: ServerView) -> Iterator[str]:
    stats = view.stats
    yield f"Latency min/avg/max: {stats.min_latency}/{java_double(stats.avg_latency)}/{stats.max_latency}"
    yield f"Received: {stats.packets_received}"
    yield f"Sent: {stats.packets_sent}"
    yield f"Connections: {len(view.connections)}"
    yield f"Outstanding: {view.outstanding_requests}"
    yield f"Zxid: {hexadecimal(view.last_zxid)}"
    yield f"Mode: {commands.server_state(view)}"
    yield f"Node count: {view.node_count}"
    if view.leading is not None:
        yield f"Proposal sizes last/min/max: {stats.proposal.last}/{stats.proposal.min}/{stats.proposal.max}"


def srst(source: Commands) -> str:
    """Reset the server's figures."""
    source.stat_reset()
    return "Server stats reset.\n"


def srvr(source: Commands) -> str:
    """Version and figures."""
    return lines((*_version(source.view), *_figures(source.view)))


def stat(source: Commands) -> str:
    """Version, connections in brief, figures."""
    view = source.view
    clients = "".join(connection_line(c, brief=True) for c in view.connections)
    return lines(_version(view)) + "Clients:\n" + clients + "\n" + lines(_figures(view))


def wchc(source: Commands) -> str:
    """The paths that each session watches, then an empty line."""
    out = []
    for watcher, paths in source.view.watches.by_watcher():
        out.append(hexadecimal(commands.session_of(watcher)))
        out.extend(f"\t{commands.text(path)}" for path in paths)
    return lines(out) + "\n"


def wchp(source: Commands) -> str:
    """The sessions that watch each path, then an empty line."""
    out = []
    for path, watchers in source.view.watches.by_path():
        out.append(commands.text(path))
        out.extend(f"\t{hexadecimal(commands.session_of(watcher))}" for watcher in watchers)
    return lines(out) + "\n"


def wchs(source: Commands) -> str:
    """How many data watches there are."""
    connections, paths, total = source.view.watches.summary()
    return f"{connections} connections watching {paths} paths\nTotal watches:{total}\n"


RENDER: Mapping[bytes, Callable[[Commands], str]] = {
    b"conf": conf,
    b"cons": cons,
    b"crst": crst,
    b"dirs": dirs,
    b"dump": dump,
    b"envi": envi,
    b"gtmk": gtmk,
    b"hash": digest,
    b"isro": isro,
    b"mntr": mntr,
    b"ruok": ruok,
    b"srst": srst,
    b"srvr": srvr,
    b"stat": stat,
    b"wchc": wchc,
    b"wchp": wchp,
    b"wchs": wchs,
}

WORDS = frozenset((*RENDER, b"stmk", TELNET_CLOSE))
"""Every word that is recognised, whitelisted or not."""

ALWAYS = frozenset((b"envi", b"gtmk", b"ruok"))
"""Words that are answered as ever while the server does not serve (C{stmk} too)."""

WHILE_NOT_SERVING = {b"isro": "null", b"hash": NOT_SERVING.rstrip("\n")}
"""What the others say instead, where it is not L{NOT_SERVING}."""
