"""``/healthz`` and ``/readyz``: what they answer, and an address of their own where nothing else is served."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Mapping

from latticewatch.execute import Engine
from latticewatch.messages import Health

# A request that has not come whole by then is not answered [s]; its largest size [bytes].
REQUEST_TIMEOUT_S, MAX_REQUEST = 2.0, 8192
# Connections at a time; more are cut off.
MAX_CONNECTIONS = 64
REASONS = {200: "OK", 404: "Not Found", 503: "Service Unavailable"}


def health_of(engines: Mapping[str, Engine]) -> tuple[int, Health]:
    """Alive: the threads that take and fold frames run.

    Parameters
    ----------
    engines : mapping of str to Engine
        All that have to be, by microscope; the name of one alone is empty.

    Returns
    -------
    status : int
        Of HTTP: 200 or 503.
    health : Health
    """
    return _told(engines, _not_alive)


def readiness_of(engines: Mapping[str, Engine]) -> tuple[int, Health]:
    """Ready: alive, learnt, frames are fresh and can be analysed, and events can be stored.

    Parameters
    ----------
    engines : mapping of str to Engine
        All that have to be, by microscope; the name of one alone is empty.

    Returns
    -------
    status : int
        Of HTTP: 200 or 503.
    health : Health
    """
    return _told(engines, lambda engine: _not_alive(engine) or _not_ready(engine))


def _told(engines: Mapping[str, Engine], problem_of: Callable[[Engine], str | None]) -> tuple[int, Health]:
    problems = [
        f"{name}: {problem}" if name else problem
        for name, engine in engines.items()
        if (problem := problem_of(engine)) is not None
    ]
    return (
        (503, Health(status="degraded", detail="; ".join(problems)))
        if problems
        else (200, Health(status="ok"))
    )


def _not_alive(engine: Engine) -> str | None:
    if engine.alive:
        return None
    return engine.fault or "a thread of the engine has ended; restart the service"


def _not_ready(engine: Engine) -> str | None:
    if engine.trouble is not None:
        return engine.trouble
    status = engine.status()
    if status.phase == "starting":
        return f"starting: {status.detail}"
    return None if status.phase == "live" else f"the stream is {status.phase}"


Probe = Callable[[Mapping[str, Engine]], tuple[int, Health]]
PROBES: dict[str, Probe] = {"/healthz": health_of, "/readyz": readiness_of}


class ProbePort:
    """Answers both probes, in a thread of its own: a crowd that connects to the service does not delay it.

    Parameters
    ----------
    engines : mapping of str to Engine
        By microscope.
    listening : socket.socket
        Bound, and closed by `stop`.
    """

    def __init__(self, engines: Mapping[str, Engine], listening: socket.socket) -> None:
        self._engines, self._listening = engines, listening
        self._loop = asyncio.new_event_loop()
        self._ended = asyncio.Event()
        self._open = 0
        self._thread = threading.Thread(target=self._run, name="probes", daemon=True)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return self._listening.getsockname()[:2]

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Answer no more."""
        if self._thread.ident is None:
            self._listening.close()
            self._loop.close()
        elif self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # it has ended meanwhile
                self._loop.call_soon_threadsafe(self._ended.set)
            self._thread.join(REQUEST_TIMEOUT_S)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._answer, sock=self._listening, limit=MAX_REQUEST)
        await self._ended.wait()
        server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open <= MAX_CONNECTIONS:
                async with asyncio.timeout(REQUEST_TIMEOUT_S):
                    writer.write(self._reply(await reader.readuntil(b"\r\n\r\n")))
                    await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # whoever asks nothing is answered nothing
        finally:
            self._open -= 1
            writer.close()

    def _reply(self, request: bytes) -> bytes:
        words = request.split(b"\r\n", 1)[0].split(b" ")
        probe = PROBES.get(words[1].decode("latin-1")) if words[0] == b"GET" and len(words) == 3 else None
        if probe is None:
            status, text = 404, '{"detail":"only GET /healthz and GET /readyz are here"}'
        else:
            status, health = probe(self._engines)
            text = health.model_dump_json()
        body = text.encode()
        head = f"HTTP/1.1 {status} {REASONS[status]}\r\nContent-Type: application/json\r\n"
        return (head + f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n").encode() + body
