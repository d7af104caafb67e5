"""
The verbs of the testing kit over HTTP, for tests in any language: a POST of a JSON object to C{/VERB}.

Knows which verbs there are, what each takes, and how that looks in JSON; what they do is known to
L{zktwisted.kit.servers}.  It listens on the loopback address alone and answers no browser's pages.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from inspect import isawaitable
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from zktwisted.kit.requests import Recording
from zktwisted.kit.servers import Servers

__all__ = ["VERBS", "Control", "Verb"]

log = Logger()

HOST = "127.0.0.1"
#: Arguments are short.
_MOST = 65536
#: What a test has done wrong; all else is ours.
_REFUSED = (ValueError, TypeError)


class Verb(NamedTuple):
    """
    What can be asked.

    @ivar call: given the L{Control} and the arguments.
    @ivar takes: what reads each argument, by name.
    @ivar needs: the names that have to be there.
    @ivar does: one sentence.
    @ivar method: C{POST}, or C{GET} for what changes nothing.
    """

    call: Callable[..., Any]
    takes: Mapping[str, Callable[[Any], Any]]
    needs: tuple[str, ...]
    does: str
    method: str = "POST"


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("a number is needed")
    return value


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("a whole number is needed")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a string is needed")
    return value


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false is needed")
    return value


def _code(value: Any) -> int | str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("a code or its name is needed")
    return value


def _session(value: Any) -> int:
    """A session id; as text, because not every language has whole numbers of 64 bits."""
    if isinstance(value, str):
        try:
            number = int(value, 0)
        except ValueError:
            raise ValueError('a session is needed, such as "0x100000000000001"') from None
    else:
        number = _whole(value)
    return number - (1 << 64) if number >> 63 == 1 else number


def _groups(value: Any) -> list[list[int]]:
    if not isinstance(value, list) or not all(isinstance(group, list) for group in value):
        raise ValueError("a list of lists of members is needed, such as [[1], [2, 3]]")
    return [[_whole(member) for member in group] for group in value]


def show_session(session: int) -> str:
    """A session id as text."""
    return f"0x{session & (1 << 64) - 1:x}"


_WANTED = {"op": _text, "path": _text, "times": _whole}

#: By name.
VERBS: dict[str, Verb] = {
    "reset": Verb(lambda self: self.servers.reset(), {}, (), "Begin anew: no node, no session, no fault."),
    "heal": Verb(lambda self: self.heal(), {}, (), "Take back all faults; who is stopped stays so."),
    "chroot": Verb(
        lambda self: self.chroot(), {}, (), "Make a node of which nobody else knows; gives a connect string."
    ),
    "expire": Verb(
        lambda self, session=None: self.expire(session),
        {"session": _session},
        (),
        "End a session, by default all, as if the client had been silent for too long.",
    ),
    "drop": Verb(
        lambda self, **given: self.servers.drop(**given),
        {"session": _session, "member": _whole},
        (),
        "Break connections: of a session, of a member, by default all; gives how many.",
    ),
    "reject": Verb(
        lambda self, **given: self.servers.reject(**given),
        {"rejecting": _truth, "member": _whole},
        (),
        "Close new connections at once, or, with `rejecting` false, no more.",
    ),
    "fail": Verb(
        lambda self, **given: self.servers.fail(**given),
        {"code": _code, **_WANTED},
        ("code",),
        "Answer the next `times` (1; -1 is all) requests with an error: of an operation, of a path (`*` is anything).",
    ),
    "delay": Verb(
        lambda self, **given: self.servers.delay(**given),
        {"seconds": _number, **_WANTED},
        ("seconds",),
        "Answer so much later: requests of an operation, of a path, by default all.",
    ),
    "drop_on": Verb(
        lambda self, **given: self.servers.drop_on(**given),
        {"answered": _truth, **_WANTED},
        (),
        "Break the connection when the next request comes; with `answered` true, carry it out before.",
    ),
    "read_only": Verb(
        lambda self, **given: self.servers.read_only(**given),
        {"read_only": _truth},
        (),
        "Serve reads alone, or, with `read_only` false, all again.",
    ),
    "stop_member": Verb(
        lambda self, member: self.servers.stop_member(member),
        {"member": _whole},
        ("member",),
        "Stop a server; its data remain.",
    ),
    "start_member": Verb(
        lambda self, member: self.servers.start_member(member), {"member": _whole}, ("member",), "Start it again."
    ),
    "partition": Verb(
        lambda self, groups: self.servers.partition(*groups),
        {"groups": _groups},
        ("groups",),
        "Let only the members of one group reach one another.",
    ),
    "new_leader": Verb(
        lambda self: self.servers.new_leader(), {}, (), "Let another member lead; gives its id."
    ),
    "record": Verb(
        lambda self, everything=False: self.record(everything),
        {"everything": _truth},
        (),
        "Record requests from now on; what was recorded before is forgotten.",
    ),
    "stop_recording": Verb(lambda self: self.stop_recording(), {}, (), "Record no more; `requests` still tells."),
    "status": Verb(lambda self: self.status(), {}, (), "Where the servers are, and what each is.", "GET"),
    "sessions": Verb(
        lambda self: [show_session(each) for each in self.servers.sessions()], {}, (), "The sessions.", "GET"
    ),
    "watches": Verb(lambda self: self.watches(), {}, (), "The sessions that watch, by path.", "GET"),
    "ephemerals": Verb(lambda self: self.ephemerals(), {}, (), "The ephemeral nodes, by session.", "GET"),
    "requests": Verb(lambda self: self.requests(), {}, (), "What was recorded.", "GET"),
}


class Control(Resource):
    """
    The endpoint.

    @ivar servers: on what the verbs work.
    """

    isLeaf = True

    def __init__(self, servers: Servers) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.servers = servers
        self._recording = Recording()

    def listen(self, reactor: Any, port: int = 0) -> Deferred[IListeningPort]:
        """
        Listen, on the loopback address.

        @param port: 0: any that is free.
        @return: fails with C{CannotListenError} if somebody else does.
        """
        site: Any = Site(self, reactor=reactor)
        site.displayTracebacks = False
        listening: Deferred[IListeningPort] = TCP4ServerEndpoint(reactor, port, 50, HOST).listen(site)
        return listening

    # -- requests

    def render(self, request: Any) -> Any:
        """See C{IResource}."""
        name = request.path.decode("ascii", "replace").strip("/")
        verb = VERBS.get(name or "status")
        if not _is_local(request):
            return _answer(request, 403, {"error": "only programs on this machine are answered, and no pages"})
        if verb is None:
            return _answer(request, 404, {"error": f"there is no {name!r}; there are {', '.join(VERBS)}"})
        if request.method.decode("ascii", "replace") != verb.method:
            request.setHeader("allow", verb.method)
            return _answer(request, 405, {"error": f"{name} wants {verb.method}"})
        try:
            arguments = _arguments(request, verb)
            outcome = verb.call(self, **arguments)
        except _REFUSED as error:
            return _answer(request, 400, {"error": str(error)})
        if not isawaitable(outcome):
            return _answer(request, 200, {"result": outcome})
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)
        Deferred.fromCoroutine(outcome).addBoth(_finish, request, gone)  # type: ignore[arg-type]
        return NOT_DONE_YET

    # -- verbs that are more than one call

    async def heal(self) -> None:
        """Take back all faults."""
        self.servers.heal()
        await self.servers.wait()

    async def chroot(self) -> str:
        """Make a root."""
        return self.servers.hosts + await self.servers.make_chroot()

    async def expire(self, session: int | None) -> int:
        """End sessions; return how many."""
        if session is None:
            return await self.servers.expire_all()
        await self.servers.expire(session)
        return 1

    def record(self, everything: bool) -> None:
        """Begin to record."""
        self.servers.stop_recording(self._recording)
        self._recording = Recording(everything)
        self.servers.record(self._recording)

    def stop_recording(self) -> None:
        """Record no more."""
        self.servers.stop_recording(self._recording)

    def status(self) -> dict[str, Any]:
        """Where the servers are."""
        servers = self.servers
        status = {
            "hosts": servers.hosts,
            "modes": {str(member): mode for member, mode in servers.modes().items()},
            "leader": servers.leader(),
        }
        if servers.tls is not None:
            status |= {"tls_hosts": servers.tls_hosts, "tls": servers.tls.paths()}
        return status

    def watches(self) -> dict[str, list[str]]:
        """Who watches what."""
        watches = self.servers.holdings().watches
        return {path: [show_session(each) for each in sessions] for path, sessions in watches.items()}

    def ephemerals(self) -> dict[str, list[str]]:
        """Who has which ephemeral nodes."""
        return {show_session(session): paths for session, paths in self.servers.holdings().ephemerals.items()}

    def requests(self) -> list[dict[str, Any]]:
        """What was recorded."""
        return [
            {
                "op": request.op,
                "path": request.path,
                "paths": list(request.paths),
                "session": show_session(request.session),
                "code": request.code,
                "error": getattr(request.code, "name", None),
            }
            for request in self._recording.requests
        ]


def _is_local(request: Any) -> bool:
    """A page in a browser on this machine may send requests, too: it has to name where it is from, or the host."""
    host = (request.getHeader("host") or HOST).rsplit(":", 1)[0]
    return host in (HOST, "localhost") and request.getHeader("origin") is None


def _arguments(request: Any, verb: Verb) -> dict[str, Any]:
    """
    Read what a verb is given.

    @raise ValueError: it is not what the verb takes.
    """
    text = request.content.read(_MOST + 1)
    if len(text) > _MOST:
        raise ValueError(f"more than {_MOST} bytes are no arguments")
    try:
        given = json.loads(text) if text.strip() else {}
    except ValueError as error:
        raise ValueError(f"that is no JSON: {error}") from None
    if not isinstance(given, dict):
        raise ValueError("a JSON object is needed, of arguments by name")
    arguments = {}
    for name, value in given.items():
        if name not in verb.takes:
            raise ValueError(f"there is no argument {name!r}; there are {', '.join(verb.takes) or 'none'}")
        if value is not None:
            try:
                arguments[name] = verb.takes[name](value)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
    missing = [name for name in verb.needs if name not in arguments]
    if missing:
        raise ValueError(f"{', '.join(missing)} is missing")
    return arguments


def _answer(request: Request, status: int, answer: dict[str, Any]) -> bytes:
    request.setResponseCode(status)
    request.setHeader("content-type", "application/json")
    return json.dumps(answer).encode() + b"\n"


def _finish(outcome: Any, request: Any, gone: list[object]) -> None:
    if not isinstance(outcome, Failure):
        status, answer = 200, {"result": outcome}
    elif isinstance(outcome.value, _REFUSED):
        status, answer = 400, {"error": str(outcome.value)}
    else:
        log.failure("A verb failed", outcome)
        status, answer = 500, {"error": str(outcome.value) or type(outcome.value).__name__}
    if not gone:
        request.write(_answer(request, status, answer))
        request.finish()
