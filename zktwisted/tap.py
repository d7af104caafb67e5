"""
C{twist zookeeper}: a ZooKeeper server as a process.

Here are the options, the one line that says that the server serves or why it does not, exit statuses and what
else concerns a whole process.  No other module of the server imports the global reactor, and this one does so late;
the server itself is imported only when one is made, so that C{twist --help} stays quick.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TextIO, cast

from twisted.application.service import Service
from twisted.logger import Logger
from twisted.python import usage

from zktwisted.errors import ConfigError, DataDirectoryError, ServerIdError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from twisted.internet.base import ReactorBase
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IStreamServerEndpoint
    from twisted.python.failure import Failure

    from zktwisted.config import ServerConfig
    from zktwisted.config.loader import Setting
    from zktwisted.server.local_ensemble import LocalEnsemble
    from zktwisted.server.service import ZooKeeperService

__all__ = ["DEFAULT_DATA_DIR", "EnsembleProcess", "Options", "ServerProcess", "makeService", "tune_gc"]

log = Logger()

DEFAULT_DATA_DIR = "zookeeper-data"
"""Where a server keeps its data that was told nothing: in the working directory, created at start."""

DEFAULT_ENSEMBLE_DIR = "zookeeper-ensemble"
"""Where the servers of --ensemble keep theirs."""

MOST_SERVERS = 100
"""The ports that the servers of --ensemble would like lie so far apart that not many more have room."""

# Exit statuses are those of the Java server, so that scripts which look at them keep working.
EXIT_UNEXPECTED = 1
EXIT_CONFIG = 2
EXIT_DATA = 3
EXIT_SNAPSHOT = 10


class Options(usage.Options):
    """What C{twist zookeeper} can be told."""

    synopsis = "[options] [zoo.cfg | clientPort dataDir [tickTime [maxClientCnxns]]]"

    longdesc = (
        "This starts a ZooKeeper server. Without any options it serves on 127.0.0.1:2181 and keeps its data in "
        f"the directory {DEFAULT_DATA_DIR}, which it creates. With --config it takes the zoo.cfg of a Java server, "
        "and with server lines there it joins an ensemble. With --ensemble 3 it starts a whole one, to try out."
    )

    optParameters: ClassVar = [
        ["config", "c", None, "Read this zoo.cfg."],
        ["myid", None, None, "The id of this server, when its data directory has no file myid."],
        ["data-dir", "d", None, f"Keep the data in this directory. [default: dataDir, or {DEFAULT_DATA_DIR}]"],
        ["profile", None, None, "With secure, refuse what lets others in without TLS and authentication."],
        ["ensemble", None, None, "Start so many servers that form an ensemble, in one process, for trying out."],
        ["observers", None, None, "Add so many servers without a vote to --ensemble."],
    ]

    optFlags: ClassVar = [
        ["check-config", None, "Explain every setting and exit: 0 is fine, 1 has warnings, 2 would not start."],
    ]

    def opt_client_endpoint(self, endpoint: str) -> None:
        """
        Serve clients on this endpoint instead of clientPort, such as tcp:2181, unix:/run/zk.sock,
        systemd:domain=INET:index=0 or haproxy:tcp:2181. With tls: before it (tls:tcp:2281) clients have to use TLS,
        as ssl.keyStore.location and the other settings of TLS say. May be given several times.
        """
        self.setdefault("client-endpoints", []).append(endpoint)

    opt_e = opt_client_endpoint

    def opt_property(self, setting: str) -> None:
        """
        Set name=value, as java -D does; what the configuration file says wins. May be given several times.
        """
        name, equals, value = setting.partition("=")
        if not name.strip():
            raise usage.UsageError(f"--property {setting!r} is not name=value")
        self.setdefault("properties", []).append((name.strip(), value.strip() if equals else "true"))

    opt_D = opt_property

    def opt_version(self) -> NoReturn:
        """
        Print versions and exit.
        """
        from twisted.copyright import version as twisted_version

        from zktwisted import __version__

        sys.stdout.write(f"zktwisted {__version__} (Twisted {twisted_version})\n")
        raise SystemExit(0)

    def parseArgs(self, *arguments: str) -> None:
        """Take what the Java server takes: a file, or a port, a directory and up to two numbers."""
        if len(arguments) > 4:
            raise usage.UsageError("Too many arguments: a zoo.cfg, or clientPort dataDir [tickTime [maxClientCnxns]].")
        for argument in arguments:
            if argument.startswith("-"):
                raise usage.UsageError(f"Options come first: write {argument} before {arguments[0]}.")
        if arguments and self["config"] is not None:
            raise usage.UsageError(f"Either --config or {arguments[0]}, not both.")
        self["arguments"] = () if len(arguments) == 1 else arguments
        if len(arguments) == 1:
            self["config"] = arguments[0]

    def postOptions(self) -> None:
        """Check what was given; with C{--check-config} print the report and exit."""
        self.setdefault("client-endpoints", [])
        self.setdefault("properties", [])
        if self["myid"] is not None:
            try:
                self["myid"] = int(self["myid"])
            except ValueError:
                raise usage.UsageError(f"--myid {self['myid']} is not a number.") from None
        self._check_ensemble()
        if self["check-config"]:
            from zktwisted.config.check import check

            try:
                report = check(self.settings(), myid=self["myid"], config_file=self["config"])
            except ConfigError as error:
                _leave(EXIT_CONFIG, str(error))
            sys.stdout.write(report.text)
            raise SystemExit(report.status)

    def _check_ensemble(self) -> None:
        """Take the numbers of C{--ensemble} and C{--observers}, and refuse what makes no sense beside them."""
        if self["ensemble"] is None:
            if self["observers"] is not None:
                raise usage.UsageError("--observers belongs to --ensemble.")
            return
        others = ("config", "myid", "profile", "client-endpoints", "check-config", "arguments")
        if any(self[name] for name in others):
            raise usage.UsageError("--ensemble makes its own configuration: only --data-dir and -D go with it.")
        for name, least in (("ensemble", 1), ("observers", 0)):
            text = self[name] or "0"
            if not text.isdecimal() or not least <= int(text) <= MOST_SERVERS:
                raise usage.UsageError(f"--{name} {text} is not a number from {least} to {MOST_SERVERS}.")
            self[name] = int(text)

    def settings(self) -> list[Setting]:
        """
        Every setting that was given, in order of precedence.

        @raise ConfigError: the configuration file cannot be read.
        """
        from zktwisted.config.loader import Setting, file_settings

        settings = []
        if self["config"] is None and not self["arguments"]:
            standard = {"tickTime": "2000", "dataDir": os.path.abspath(DEFAULT_DATA_DIR)}
            if not self["client-endpoints"]:
                standard |= {"clientPort": "2181", "clientPortAddress": "127.0.0.1"}
            settings += [Setting(name, value, "default") for name, value in standard.items()]
        settings += self._properties()
        if self["config"] is not None:
            settings += file_settings(self["config"])
        names = ("clientPort", "dataDir", "tickTime", "maxClientCnxns")
        settings += [Setting(*pair, "command line") for pair in zip(names, self["arguments"], strict=False)]
        if self["data-dir"] is not None:
            settings.append(Setting("dataDir", os.path.abspath(self["data-dir"]), "--data-dir"))
        if self["profile"] is not None:
            settings.append(Setting("profile", self["profile"], "--profile"))
        return settings

    def _properties(self) -> list[Setting]:
        """Java properties, from the environment and the command line."""
        from zktwisted.config.loader import Setting, environment_settings

        given = [Setting(name, value, "-D", None, True) for name, value in self["properties"]]
        return environment_settings(os.environ) + given

    def ensemble_configs(self) -> list[ServerConfig]:
        """
        The configurations of the servers of C{--ensemble}.

        @raise ConfigError: they cannot work.
        """
        from zktwisted.server.local_ensemble import local_configs

        directory = self["data-dir"] or DEFAULT_ENSEMBLE_DIR
        return local_configs(self["ensemble"], self["observers"], directory, self._properties())

    def server_config(self) -> ServerConfig:
        """
        The configuration that was asked for.

        @raise ConfigError: it cannot work.
        """
        from zktwisted.config.loader import Loading

        config = Loading(self.settings(), myid=self["myid"], config_file=self["config"]).result()
        if self["client-endpoints"]:
            nowhere = dict.fromkeys(("client_port", "secure_client_port"))
            nowhere |= dict.fromkeys(("client_port_address", "secure_client_port_address"))
            return config.replace(**nowhere, client_port_unification=False)
        return config


class ServerProcess(Service):
    """
    A process whose purpose is one server: it says that the server serves, and ends with it if it fails.

    @ivar server: the L{ZooKeeperService}.
    """

    server: ZooKeeperService | LocalEnsemble

    def __init__(self, reactor: ReactorBase, config: ServerConfig, server: ZooKeeperService) -> None:
        self._reactor = reactor
        self._config = config
        self.server = server

    def startService(self) -> None:
        """Start the server; what becomes of it is told on standard output or standard error."""
        for note in self._config.notes:
            say = log.warn if note.level == "warning" else log.info
            say("{note}", note=str(note), key=note.key, file=note.file, line=note.line)
        tune_gc()
        allow_files()
        self.running = True
        # At once, and again when the reactor has put its own handlers in their place.
        self._handle_signals()
        self._reactor.callWhenRunning(self._handle_signals)
        self.server.startService()
        serving: Deferred[Any] = self.server.when_serving()
        serving.addCallbacks(self._serving, self.fail)
        failed: Deferred[Any] = self.server.when_failed()
        failed.addErrback(self.fail)

    def stopService(self) -> Deferred[Any]:
        """Stop the server: close the ports, answer what was asked, flush the log."""
        self.running = False
        return self.server.stopService()

    def _serving(self, state: Any) -> None:
        # What has been loaded so far lives as long as the process: never look at it again.
        gc.freeze()
        text = "\n".join(self._lines(state))
        # Who reads the lines may send a signal at once, so handlers have to be there.
        self._reactor.callWhenRunning(lambda: _tell(sys.__stdout__, text))

    def _lines(self, state: Any) -> Iterator[str]:
        """What is told when the server serves."""
        from zktwisted import __version__

        addresses = " and ".join(map(_shown, self.server.addresses)) or "no client port"
        role = f" as {state} (server {self._config.sid})" if self._config.distributed else ""
        where = os.path.abspath(self._config.data_dir)
        yield f"ZooKeeper serves on {addresses}{role}, data in {where} (zktwisted {__version__})"

    def fail(self, failure: Failure) -> None:
        """End the process because the server could not start or cannot go on: one line says why."""
        from twisted.internet.defer import CancelledError

        if isinstance(failure.value, CancelledError):
            return  # stopped before it served
        status, message = _diagnosis(failure)
        if message is None:
            log.failure("The server fails", failure)
            message = f"The server fails: {failure.getErrorMessage()}"
        _tell(sys.__stderr__, message)
        self.end(status)

    def end(self, status: int) -> None:
        """Stop the reactor, and let the process end with an exit status."""

        def exit_now() -> None:
            # twist always ends with 0 or by a signal.  Nothing is left to do here: services have stopped, threads
            # have ended, and our streams are flushed.
            for stream in (sys.__stdout__, sys.__stderr__):
                if stream is not None:
                    stream.flush()
            os._exit(status)

        atexit.register(exit_now)
        # The reactor may not have started, and what has not started cannot be stopped.
        self._reactor.callWhenRunning(self._stop)

    def _handle_signals(self) -> None:
        """End with 0 after a signal: by itself twist would stop in order and then kill itself by that signal."""
        import signal

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self._reactor.callFromThread(self._stop))

    def _stop(self) -> None:
        from twisted.internet.error import ReactorNotRunning

        try:
            self._reactor.stop()
        except ReactorNotRunning:
            pass  # it is stopping already


class EnsembleProcess(ServerProcess):
    """
    A process whose purpose is an ensemble for trying out.

    @ivar server: the L{LocalEnsemble}; it ends with the first of its servers that fails.
    """

    def __init__(self, reactor: ReactorBase, ensemble: LocalEnsemble) -> None:
        # They differ in places only, so what there is to remark on one is true of all.
        super().__init__(reactor, ensemble.servers[0].config, ensemble.servers[0])
        self.server = self._ensemble = ensemble

    def _lines(self, state: Any) -> Iterator[str]:
        """What is told when all of them serve: one line each, and where clients connect."""
        from zktwisted import __version__

        for role, server in zip(state, self._ensemble.servers, strict=True):
            addresses = " and ".join(map(_shown, server.addresses))
            where = os.path.abspath(server.config.data_dir)
            yield f"Server {server.config.sid} serves on {addresses} as {role}, data in {where}"
        hosts = ",".join(map(_shown, self._ensemble.addresses))
        yield f"ZooKeeper serves on {hosts} (zktwisted {__version__})"


def makeService(options: Options) -> ServerProcess:
    """
    The service that C{twist zookeeper} runs.

    @raise SystemExit: the configuration cannot work; standard error has one line that says why.
    """
    from twisted.internet import reactor
    from twisted.internet.endpoints import serverFromString

    process = cast("ReactorBase", reactor)
    if options["ensemble"] is not None:
        return _make_ensemble(process, options)
    make_endpoint: Callable[[object, str], IStreamServerEndpoint] = serverFromString
    endpoints: list[IStreamServerEndpoint] | None = None
    try:
        config = options.server_config()
        for description in options["client-endpoints"]:
            secure = description.startswith("tls:")
            try:
                endpoint = make_endpoint(reactor, description.removeprefix("tls:"))
            except Exception as error:  # a parser of endpoints may be anyone's and raise anything
                # Of what systemd has not opened, Twisted only says that it is not in its list.
                reason = "there is no such socket" if isinstance(error, LookupError) else error
                raise ConfigError(
                    f"{description} is no endpoint: {reason}",
                    key="--client-endpoint",
                    remedy="write one such as tcp:2181",
                ) from error
            if secure:
                from zktwisted.server.run import SecureEndpoint

                endpoint = SecureEndpoint(endpoint)
            endpoints = [*(endpoints or []), endpoint]
    except ConfigError as error:
        _leave(_status_of(error), str(error))
    from zktwisted.server.service import ZooKeeperService

    return ServerProcess(process, config, ZooKeeperService(reactor, config, client_endpoints=endpoints))


def _make_ensemble(reactor: ReactorBase, options: Options) -> EnsembleProcess:
    from zktwisted.server.local_ensemble import LocalEnsemble

    try:
        configs = options.ensemble_configs()
    except ConfigError as error:
        _leave(EXIT_CONFIG, str(error))
    return EnsembleProcess(reactor, LocalEnsemble(reactor, configs))


def tune_gc() -> None:
    """
    Keep the garbage collector away from the tree.

    A full collection visits every znode: with a million of them the server would stand still for half a second
    now and then, to find nothing, because nodes are no cyclic garbage.  So the oldest generation is never
    collected.  The younger ones are, and they hold at most some 100,000 objects, a few milliseconds' work.
    """
    gc.set_threshold(10_000, 10, 2**31 - 1)


def allow_files() -> None:
    """
    Let this process have as many files open as its user may, as a Java virtual machine does.

    Each client is one, and the usual limit, 1024, is used up by clients that the server is meant to serve; without
    files it can write no snapshot.
    """
    try:
        import resource
    except ImportError:  # not on Windows
        return
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with suppress(ValueError, OSError):  # not every system can do what it allows
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _diagnosis(failure: Failure) -> tuple[int, str | None]:
    """Exit status and one line for a failure to start; no line for what should not happen."""
    from twisted.internet.error import CannotListenError

    from zktwisted.server.snapshots import SnapshotError

    error = failure.value
    status = getattr(error, "status", None)
    if isinstance(status, int):  # one that says itself how the process has to end, as a member of an ensemble
        return status, str(error)
    if isinstance(error, ConfigError):
        return _status_of(error), str(error)
    if isinstance(error, CannotListenError):
        place = error.port if not error.interface else f"{error.interface}:{error.port}"
        reason = getattr(error.socketError, "strerror", None) or error.socketError
        return EXIT_UNEXPECTED, f"Cannot listen on {place}: {reason}"
    if isinstance(error, SnapshotError):
        return EXIT_SNAPSHOT, str(error)
    if isinstance(error, StoreError):
        # 3 means that the directories are out of reach; damaged data, and a log that cannot be written, end with 1.
        return EXIT_DATA if isinstance(error, DataDirectoryError) else EXIT_UNEXPECTED, str(error)
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename is not None else ""
        return EXIT_DATA, f"{place}{error.strerror or error}"
    return EXIT_UNEXPECTED, None


def _status_of(error: ConfigError) -> int:
    """What a process ends with that cannot start as it is told."""
    return EXIT_UNEXPECTED if isinstance(error, ServerIdError) else EXIT_CONFIG


def _shown(address: object) -> str:
    """An address as people write it."""
    host, port = getattr(address, "host", None), getattr(address, "port", None)
    if host is not None:
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    name = getattr(address, "name", None)
    return os.fsdecode(name) if name is not None else str(address)


def _tell(stream: TextIO | None, line: str) -> None:
    """Write one line outside of the log, to where standard output or error pointed at first."""
    if stream is not None:
        stream.write(line + "\n")
        stream.flush()


def _leave(status: int, line: str) -> NoReturn:
    _tell(sys.stderr, line)
    raise SystemExit(status)
