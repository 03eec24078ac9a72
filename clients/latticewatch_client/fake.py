"""A service for tests of one's own programs: the real application on recorded events, in this process."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import ValidationError

from latticewatch.errors import ConfigurationError
from latticewatch.messages import Event
from latticewatch_client._client import Client

if TYPE_CHECKING:
    from latticewatch.serve import Service, ToldEngine

# What a file of `latticewatch events --json` or `latticewatch analyse` holds, line by line.
Told = Event | Mapping[str, Any]


class FakeService:
    """The real application, told events instead of analysing frames; a context manager.

    Every resource answers as in a running service: the log with its cursor, tracks, targets and their leases,
    annotations, classes, the live socket and the dashboard. What is in view is what the events told so far leave in
    view. It listens on a free port of this machine; its log is in a folder of its own that is removed at the end.

    Needs the extra ``service``, which is imported when one is made.

    Parameters
    ----------
    events : path, or iterable of Event or of mapping
        Told at the start: a file with one JSON object a line, as ``latticewatch events --json`` prints it or
        ``events.jsonl`` of ``latticewatch analyse`` holds it; or events; or mappings with ``type`` and ``data``.
        They get numbers of this log; what is in their data stays.
    shape : tuple of int
        Rows and columns of the frames that are told of [px].
    rotation_deg, flip_x, flip_y
        How their scan lies on the stage; see `latticewatch.messages.Calibration`.

    Attributes
    ----------
    url : str
        Where it answers, once it was entered.

    Raises
    ------
    ConfigurationError
        The extra is not installed, or a line is no event.

    Examples
    --------
    >>> with FakeService("events.jsonl") as service, service.client() as client:      # doctest: +SKIP
    ...     assert client.targets("nearest").n == 3
    """

    def __init__(
        self,
        events: str | os.PathLike[str] | Iterable[Told] = (),
        *,
        shape: tuple[int, int] = (1024, 1024),
        rotation_deg: float = 0.0,
        flip_x: bool = False,
        flip_y: bool = False,
    ) -> None:
        self._events = _read(Path(events)) if isinstance(events, (str, os.PathLike)) else list(events)
        self._scan = {"shape": shape, "rotation_deg": rotation_deg, "flip_x": flip_x, "flip_y": flip_y}
        self._stack = ExitStack()
        self._engine: ToldEngine | None = None
        self._service: Service | None = None

    def __enter__(self) -> Self:
        try:
            from latticewatch.serve import Service, ToldEngine
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                f"{error.name} is not installed; pip install 'latticewatch[service]'"
            ) from error
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="latticewatch-fake-"))
            self._engine = ToldEngine(Path(folder), **self._scan)  # type: ignore[arg-type]
            self._service = stack.enter_context(Service(self._engine.settings, self._engine))
            self.tell(*self._events)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        """Where it answers."""
        assert self._service is not None, "use it as a context manager: with FakeService(…) as service"
        return self._service.url

    def client(self, **options: Any) -> Client:
        """A client of it.

        Parameters
        ----------
        **options
            Those of `Client`, without the address.

        Returns
        -------
        Client
        """
        return Client(self.url, **options)

    def tell(self, *events: Told) -> None:
        """Let something happen: when this returns it is in the log, and everybody sees it.

        Parameters
        ----------
        *events : Event or mapping
            A type that is not known goes into the log and changes nothing else.

        Raises
        ------
        ConfigurationError
            Data that does not belong to its type.
        """
        assert self._engine is not None, "use it as a context manager: with FakeService(…) as service"
        for number, event in enumerate(events, 1):
            told = event.model_dump() if isinstance(event, Event) else event
            try:
                self._engine.tell(told["type"], told["data"])
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(str(part) for part in first["loc"])
                raise ConfigurationError(
                    f"event {number}, {told['type']}: {where}: {first['msg']}; see docs/reference/events.md"
                ) from error


def _read(path: Path) -> list[Told]:
    """Events of a file, one a line."""
    events: list[Told] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}") from error
    for number, line in enumerate(lines, 1):
        try:
            event = json.loads(line)
            events.append({"type": event["type"], "data": dict(event["data"])})
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(
                f"{path}, line {number}: no event; expected one JSON object a line, with type and data"
            ) from error
    return events
