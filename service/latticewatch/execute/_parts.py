"""What the engine asks of its parts, so that any of them can be replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel

from latticewatch.ingest import Frame
from latticewatch.messages import ClassSplit, EventType, FrameCounts, Role

if TYPE_CHECKING:
    from latticewatch.pipeline import CatalogueEntry, EventDraft, FrameResult
    from latticewatch.record import LoggedEvent

# (frame, model, analysis settings) -> analysis; safe in any thread.
Analyse = Callable[[Frame, Any, Any], Any]


class FrameSource(Protocol):
    """Where frames come from; counts each of them. See `latticewatch.ingest.Receiver`."""

    @property
    def last_frame_age_s(self) -> float | None: ...

    def start(self) -> object: ...

    def close(self) -> None: ...

    def get(self, timeout: float) -> Any: ...

    def done(self, frame: Frame) -> None: ...

    def dropped(self, frame: Frame, reason: str) -> None: ...

    def hold(self, holding: bool) -> None: ...

    def counts(self) -> FrameCounts: ...


class FrameLearner(Protocol):
    """The only state of the analysis; called from one thread. See `latticewatch.pipeline.Learner`."""

    @property
    def model(self) -> Any: ...

    def fits(self, model: Any) -> bool: ...

    def fold(self, analysis: Any) -> list[FrameResult]: ...

    def rename(self, class_id: int, name: str) -> CatalogueEntry: ...

    def set_role(self, class_id: int, role: Role) -> CatalogueEntry: ...

    def merge(self, class_id: int, others: list[int]) -> CatalogueEntry: ...

    def split(self, class_id: int, wanted: ClassSplit) -> tuple[CatalogueEntry, Any]: ...

    def relearn(self) -> None: ...

    def start_from(self, model: Any, *, own: bool) -> Any: ...

    def take_events(self) -> tuple[EventDraft, ...]: ...


class Log(Protocol):
    """The event log. See `latticewatch.record.EventLog`."""

    @property
    def stream(self) -> str: ...

    @property
    def first_seq(self) -> int: ...

    @property
    def last_seq(self) -> int: ...

    def append(
        self, drafts: Sequence[tuple[EventType, BaseModel]], kept: Mapping[str, bytes] | None, /
    ) -> list[LoggedEvent]: ...

    def kept(self, name: str, /) -> bytes | None: ...

    def keeps(self, name: str, /) -> bool: ...

    def read(
        self, after: int, limit: int, types: Iterable[str] | None, /
    ) -> tuple[list[LoggedEvent], int, int, int]: ...

    def recent(
        self, after: int, limit: int, types: Iterable[str] | None, /
    ) -> tuple[list[LoggedEvent], int, int, int] | None: ...

    def close(self) -> None: ...
