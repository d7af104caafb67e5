"""Times single steps of the hot paths in this process: no server, no socket, no disk.

    python bench/micro.py [--seconds 0.2] [NAME...]

For whoever changes one of those steps: the cost before, the cost after. Each step is repeated for a while, five
times over, and the best is shown: the machine's noise only ever adds.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

Step = Callable[[], object]
"""Does a step once; how many operations that is stands beside it in the table."""


def cost_ns(step: Step, seconds: float, times: int = 5) -> float:
    """The best mean of several stretches of that many seconds, in ns per call."""
    clock = time.perf_counter
    count, spent = 1, 0.0
    while spent < seconds / 10:
        count *= 2
        began = clock()
        for _ in range(count):
            step()
        spent = clock() - began
    count = max(1, int(count * seconds / spent))
    best = float("inf")
    for _ in range(times):
        began = clock()
        for _ in range(count):
            step()
        best = min(best, (clock() - began) / count)
    return best * 1e9


def watches() -> tuple[Step, int]:
    """Register a one-shot watch of 500 watchers on a path, trigger them, encode the event once."""
    from zktwisted.tree.watches import NODE_DATA_CHANGED, Watches, encode_event

    table = Watches()
    watchers = [object() for _ in range(500)]

    def step() -> None:
        for watcher in watchers:
            table.add_data(b"/bench/fan", watcher)
        told = table.changed(b"/bench/fan")
        assert told is not None
        encode_event(NODE_DATA_CHANGED, b"/bench/fan", 7)

    return step, len(watchers)


def log_records() -> tuple[Step, int]:
    """Frame a batch of 16 entries for the transaction log."""
    from zktwisted.store.txnlog import frame

    batch = [(zxid, bytes(180)) for zxid in range(16)]
    return lambda: frame(batch), len(batch)


def session_touch() -> tuple[Step, int]:
    """Note that 16 sessions were heard of, in the same tick."""
    from zktwisted.tree.sessions import SessionTracker

    tracker = SessionTracker(2000)
    sessions = [tracker.add(number + 1, 30000, 0) for number in range(16)]

    def step() -> None:
        for session in sessions:
            tracker.touch(session, 10.0)

    return step, len(sessions)


def _chain(op: int, body: object, depth: int) -> tuple[Step, int]:
    """One connection of a server in memory that is sent C{depth} requests in one piece: bytes in, bytes out."""
    from twisted.internet.task import Clock
    from twisted.internet.testing import StringTransport

    from zktwisted import ServerConfig, ZooKeeperService
    from zktwisted.wire import jute, ops, proto

    clock = Clock()
    service = ZooKeeperService(clock, ServerConfig(client_port=None), [], store="memory")
    service.startService()
    run = service._run
    assert run is not None
    connection = run._factory.buildProtocol(None)
    transport = StringTransport()
    connection.makeConnection(transport)

    def frame(payload: bytes) -> bytes:
        return len(payload).to_bytes(4, "big") + payload

    def send(data: bytes) -> None:
        connection.dataReceived(data)
        clock.advance(0)

    send(frame(proto.encode_connect(proto.ConnectRequest(0, 0, 30000, 0, bytes(16)), False)))
    node = proto.CreateRequest(b"/bench", bytes(100), proto.OPEN_ACL, 0)
    send(frame(jute.encode(proto.RequestHeader(1, ops.CREATE)) + jute.encode(node)))
    encoded = body if isinstance(body, bytes) else jute.encode(body)
    piece = frame(jute.encode(proto.RequestHeader(2, op)) + encoded) * depth

    def step() -> None:
        send(piece)
        transport.clear()

    return step, depth


def get_data() -> tuple[Step, int]:
    """Answer 16 getData of 100 bytes that came in one piece."""
    from zktwisted.wire import ops, proto

    return _chain(ops.GET_DATA, proto.PathWatchRequest(b"/bench", False), 16)


def set_data() -> tuple[Step, int]:
    """Prepare, log in memory, apply and answer 16 setData of 100 bytes."""
    from zktwisted.wire import ops, proto

    return _chain(ops.SET_DATA, proto.SetDataRequest(b"/bench", bytes(100), -1), 16)


def create() -> tuple[Step, int]:
    """The same for 8 sequential creates."""
    from zktwisted.wire import ops, proto

    return _chain(ops.CREATE, proto.CreateRequest(b"/bench/n-", bytes(100), proto.OPEN_ACL, 2), 8)


def multi() -> tuple[Step, int]:
    """The same for 8 multis of four setData."""
    from zktwisted.wire import ops, proto

    request = (ops.SET_DATA, proto.SetDataRequest(b"/bench", bytes(100), -1))
    return _chain(ops.MULTI, proto.encode_multi([request] * 4), 8)


STEPS: dict[str, Callable[[], tuple[Step, int]]] = {
    "watch-fan": watches,
    "log-frame": log_records,
    "session-touch": session_touch,
    "get-data": get_data,
    "set-data": set_data,
    "create": create,
    "multi": multi,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Times the named steps, or all."""
    parser = argparse.ArgumentParser(prog="bench/micro.py", description="Times single steps of the hot paths.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(STEPS)} (all)")
    parser.add_argument("--seconds", type=float, default=0.2, help="length of one stretch; five are made (0.2)")
    chosen = parser.parse_args(arguments)
    unknown = set(chosen.names) - set(STEPS)
    if unknown:
        parser.error(f"no such step: {', '.join(sorted(unknown))}")
    gc.disable()
    for name, build in STEPS.items():
        if not chosen.names or name in chosen.names:
            step, operations = build()
            what = (build.__doc__ or "").splitlines()[0]
            print(f"{name:16} {cost_ns(step, chosen.seconds) / operations / 1000:8.3f} us  {what}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
