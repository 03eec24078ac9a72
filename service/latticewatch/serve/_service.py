"""The engine of each microscope and the web server before them, started and stopped as one."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType

import uvicorn

from latticewatch.config import Settings
from latticewatch.errors import ConfigurationError, LatticewatchError
from latticewatch.execute import Engine
from latticewatch.messages import FrameCounts
from latticewatch.microscopes import microscopes_of
from latticewatch.serve._access import Access, is_loopback, split_address
from latticewatch.serve._app import create_app
from latticewatch.serve._connections import protocol_of
from latticewatch.serve._front import Front
from latticewatch.serve._probes import ProbePort
from latticewatch.serve._socket import MAX_MESSAGE
from latticewatch.serve._tls import tls_files

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 5
# How often it is looked whether the engine is alive, and how long each thread may take to end [s].
WATCH_S = 0.5
PATIENCE_S = 0.5
# A thread that has news to send waits at most so long for one that analyses to let go of Python; by default it is 5 ms,
# in each of the two or three turns that an event takes on its way out [s].
SWITCH_S = 0.001
# After a signal the process ends within this time, whatever hangs [s].
LAST_RESORT_S = 4.5


class _Server(uvicorn.Server):
    """uvicorn's server, which says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


class Service:
    """A running service; a context manager.

    Parameters
    ----------
    settings : Settings
        The configuration; port 0 takes any free port.
    engine : Engine or mapping of str to Engine, optional
        Takes the place of what is made from the settings: of one microscope, or of several by their names, see
        `latticewatch.microscopes`. It is started and stopped here all the same.
    warm : bool
        Answer at once, and import and compile the analysis meanwhile; see `latticewatch.execute.Engine`.

    Raises
    ------
    ConfigurationError
        An address that cannot be listened on, or that others can reach without a key.

    Examples
    --------
    >>> with Service(settings) as service:      # doctest: +SKIP
    ...     print(service.url)
    """

    def __init__(
        self, settings: Settings, engine: Engine | Mapping[str, Engine] | None = None, *, warm: bool = False
    ) -> None:
        # The cheap refusals come before a log is opened.
        Access(settings.serve)
        watched = microscopes_of(settings)
        tls = tls_files(settings.serve)
        self._scheme = "https" if tls else "http"
        self._socket = _listen(*split_address(settings.serve.http))
        self._address: tuple[str, int] = self._socket.getsockname()[:2]
        self._probes: ProbePort | None = None
        with contextlib.ExitStack() as opened:
            opened.callback(self._socket.close)
            probes = settings.serve.probes
            listening = None if probes is None else opened.enter_context(_listen(*split_address(probes)))
            if isinstance(engine, Engine):
                engine = {"": engine}
            made: dict[str, Engine] = {}
            for name, own in () if engine is not None else watched.items():
                made[name] = Engine(own, warm=warm)
                opened.callback(made[name].close)
            self.engines: Mapping[str, Engine] = engine or made
            apps = {name: create_app(one, settings) for name, one in self.engines.items()}
            app = apps[""] if "" in apps else Front(apps, settings.serve)
            if listening is not None:
                self._probes = ProbePort(self.engines, listening)
            opened.pop_all()
        self._news = [one.state.hub.news for one in apps.values()]
        config = uvicorn.Config(
            app,
            ws="websockets-sansio",
            ws_max_size=2 * MAX_MESSAGE,
            ws_max_queue=8,
            ws_per_message_deflate=False,
            # Requests and sockets at work are counted by the guard, and connections of one address by the protocol. A
            # limit here would turn away everybody when one stranger has used it up.
            http=protocol_of(settings.serve.max_connections),
            timeout_graceful_shutdown=STOP_TIMEOUT_S,
            server_header=False,
            proxy_headers=False,
            access_log=False,
            log_config=None,
            log_level="warning",
            **tls,
        )
        self._server = _Server(config)
        self._thread = threading.Thread(target=self._serve, name="http", daemon=True)
        self._stopped = False

    @property
    def url(self) -> str:
        """Where the service answers, with the port that it really has."""
        host, port = self._address
        return f"{self._scheme}://[{host}]:{port}" if ":" in host else f"{self._scheme}://{host}:{port}"

    @property
    def urls(self) -> dict[str, str]:
        """The address of each microscope; the name of one alone is empty."""
        return {name: f"{self.url}/{name}" if name else self.url for name in self.engines}

    @property
    def engine(self) -> Engine:
        """That of the first microscope."""
        return next(iter(self.engines.values()))

    @property
    def alive(self) -> bool:
        """Whether every engine takes and folds frames."""
        return all(engine.alive for engine in self.engines.values())

    @property
    def fault(self) -> str | None:
        """What only a restart of the process mends, of the first engine that has such a thing."""
        return next((one.fault for one in self.engines.values() if one.fault is not None), None)

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches the service."""
        return is_loopback(self._address[0])

    @property
    def probes(self) -> tuple[str, int] | None:
        """Host and port where the probes alone are answered; None where that was not asked for."""
        return None if self._probes is None else self._probes.address

    def start(self) -> None:
        """Start the engines, then answer requests.

        Raises
        ------
        ConfigurationError
            The web server did not come up.
        """
        for engine in self.engines.values():
            engine.start()
        if self._probes is not None:
            self._probes.start()
        self._thread.start()
        self._server.ready.wait(START_TIMEOUT_S)
        if not self._server.started:
            self.stop()
            raise ConfigurationError(f"{self.url}: the web server did not start; see the log")

    def _serve(self) -> None:
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._server.ready.set()

    def stop(self, drain: bool = False, patience_s: float | None = None) -> dict[str, FrameCounts]:
        """Let waiting requests go, stop answering, then stop the engines.

        Parameters
        ----------
        drain : bool
            Analyse the frames that wait; otherwise they are counted as dropped, reason ``shutdown``.
        patience_s : float, optional
            For how long each thread that hangs is waited for [s].

        Returns
        -------
        dict of str to FrameCounts
            The accounting of each microscope at the end: nothing is in flight. The name of one alone is empty.
        """
        if not self._stopped:
            self._stopped = True
            # Frames first: their events still reach those who wait for them.
            for engine in self.engines.values():
                engine.stop(drain, patience_s)
            for news in self._news:
                news.close()
            self._server.should_exit = True
            if self._thread.ident is not None:
                self._thread.join(None if patience_s is None else STOP_TIMEOUT_S)
            self._socket.close()
            if self._probes is not None:
                self._probes.stop()
            for engine in self.engines.values():
                engine.close()
        return {name: engine.receiver.counts() for name, engine in self.engines.items()}

    def __enter__(self) -> Service:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def run_service(
    settings: Settings,
    on_ready: Callable[[Service], None] | None = None,
    stop: threading.Event | None = None,
    engine: Engine | Mapping[str, Engine] | None = None,
) -> dict[str, FrameCounts]:
    """Run a service until it is told to stop; it answers at once, and takes frames when it is warm.

    Parameters
    ----------
    settings : Settings
        The configuration.
    on_ready : callable, optional
        Called with the `Service` once it answers.
    stop : threading.Event, optional
        Ends the service when set; SIGINT and SIGTERM do so too if this is the main thread.
    engine : Engine or mapping of str to Engine, optional
        Takes the place of what is made from the settings, see `Service`.

    Returns
    -------
    dict of str to FrameCounts
        The accounting of each microscope at the end; the name of one alone is empty.

    Raises
    ------
    LatticewatchError
        A thread has died or hangs for good: the process should end, so that it is started anew.
    """
    stop = stop or threading.Event()
    service = Service(settings, engine, warm=True)
    with _signals(stop), _quick_turns():
        try:
            service.start()
            if on_ready is not None:
                on_ready(service)
            while not stop.wait(WATCH_S) and service.alive:
                pass
            died = not stop.is_set()
        finally:
            counts = service.stop(patience_s=PATIENCE_S)
    if died:
        raise LatticewatchError(
            "the service has ended itself: "
            + (service.fault or "a thread of the engine has ended; see the log")
        )
    return counts


def _listen(host: str, port: int) -> socket.socket:
    # asyncio turns Nagle's algorithm off only where the protocol is named; with it, an answer in two parts waits
    # 40 ms for the acknowledgement of the first.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; choose another with --http HOST:PORT"
        ) from error
    return listening


@contextlib.contextmanager
def _quick_turns() -> Iterator[None]:
    """Let threads take turns every `SWITCH_S`."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(min(before, SWITCH_S))
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@contextlib.contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _: object) -> None:
        if stop.is_set():
            # The second time: at once. What was acknowledged is on disk.
            os._exit(128 + number)
        stop.set()
        last_resort = threading.Timer(LAST_RESORT_S, os._exit, [128 + number])
        last_resort.daemon = True
        last_resort.start()

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
