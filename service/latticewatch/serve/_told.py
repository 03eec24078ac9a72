"""A service without frames, for tests of clients: what it shows is what the events that it is told say."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from latticewatch.config import load_settings
from latticewatch.execute import Engine
from latticewatch.messages import (
    ROLES,
    Calibration,
    ClassEventData,
    DefectEventData,
    FrameCounts,
    FramesLostData,
    LogGapData,
    ModelEventData,
    StreamEventData,
    TargetAnnotatedData,
    TargetLeasedData,
)
from latticewatch.model import CatalogueEntry
from latticewatch.pipeline import FrameResult, SiteTable

FAMILIES: dict[str, type[BaseModel]] = {
    "defect": DefectEventData,
    "class": ClassEventData,
    "model": ModelEventData,
    "frames": FramesLostData,
    "series": StreamEventData,
    "stream": StreamEventData,
    "log": LogGapData,
    "target.leased": TargetLeasedData,
    "target.annotated": TargetAnnotatedData,
}


class _Anything(BaseModel):
    """Data of a type that a newer service uses: it goes through as it is."""

    model_config = ConfigDict(extra="allow")


@dataclass
class _NoFrames:
    """A source that gives nothing, and says how old its newest frame is."""

    last_frame_age_s: float | None = None

    def start(self) -> None: ...

    def close(self) -> None: ...

    def get(self, timeout: float) -> None:
        # A moment between two looks, as a socket would wait.
        time.sleep(min(timeout, 0.02))

    def done(self, frame: Any) -> None: ...

    def dropped(self, frame: Any, reason: str) -> None: ...

    def hold(self, holding: bool) -> None: ...

    def counts(self) -> FrameCounts:
        return FrameCounts()


@dataclass
class _Renames:
    """The catalogue, with the edits that need no analysis; the part of a learner that is left without frames."""

    catalogue: dict[int, CatalogueEntry] = field(default_factory=dict)
    model: Any = None

    def fits(self, model: Any) -> bool:  # noqa: ARG002
        return True

    def fold(self, analysis: Any) -> list[FrameResult]:  # noqa: ARG002
        return []

    def rename(self, class_id: int, name: str) -> CatalogueEntry:
        return self._change(class_id, name=name)

    def set_role(self, class_id: int, role: Any) -> CatalogueEntry:
        return self._change(class_id, role=role)

    def merge(self, class_id: int, others: list[int]) -> CatalogueEntry:
        for other in others:
            del self.catalogue[other]
        return self._change(class_id)

    def split(self, class_id: int, wanted: Any) -> Any:  # noqa: ARG002
        raise ValueError("a service without frames has no sites to draw round")

    def relearn(self) -> None:
        self.catalogue.clear()

    def start_from(self, model: Any, *, own: bool) -> Any:  # noqa: ARG002
        raise ValueError("a service without frames has no model")

    def take_events(self) -> tuple[()]:
        return ()

    def _change(self, class_id: int, **changes: Any) -> CatalogueEntry:
        entry = self.catalogue[class_id] = replace(self.catalogue[class_id], **changes)
        return entry


class ToldEngine(Engine):
    """An engine that is told events instead of analysing frames; all else is the real one.

    Parameters
    ----------
    data_dir : Path
        Of the event log.
    shape : tuple of int
        Rows and columns of the frames that are told of.
    rotation_deg, flip_x, flip_y
        Of their scan, as in `latticewatch.messages.Calibration`.
    """

    def __init__(
        self,
        data_dir: Path,
        shape: tuple[int, int] = (1024, 1024),
        rotation_deg: float = 0.0,
        flip_x: bool = False,
        flip_y: bool = False,
    ) -> None:
        self.source_of_none = _NoFrames()
        self._classes = _Renames()
        self._shape = shape
        self._scan = {"rotation_deg": rotation_deg, "flip_x": flip_x, "flip_y": flip_y}
        self._seen: dict[int, DefectEventData] = {}
        self._calibration: Calibration | None = None
        settings = load_settings(None, record={"data_dir": data_dir}, serve={"http": "127.0.0.1:0"})
        super().__init__(
            settings, learner=self._classes, analyse=lambda *_: None, receiver=self.source_of_none
        )

    def tell(self, kind: str, data: Mapping[str, Any]) -> None:
        """Write an event to the log, and show what it says; when this returns everybody sees it.

        Parameters
        ----------
        kind : str
            Type of the event; one that is not known goes into the log and changes nothing else.
        data : mapping
            Of that type.

        Raises
        ------
        pydantic.ValidationError
            A field is missing or wrong.
        """
        model = FAMILIES.get(kind) or FAMILIES.get(kind.partition(".")[0]) or _Anything
        read = model.model_validate(data)
        self._edits.on_fold_thread(lambda: self._take(kind, read))

    def _take(self, kind: str, data: BaseModel) -> None:
        state = self._publisher.newest
        if isinstance(data, DefectEventData):
            self._note(kind, data)
            state = replace(state, series_id=data.series_id).with_result(self._result(data))
        elif isinstance(data, StreamEventData):
            ended = kind == "series.ended"
            stalled = kind == "stream.stalled" or (state.stalled and kind != "stream.resumed")
            state = replace(state, series_id=None if ended else data.series_id, stalled=stalled and not ended)
            if kind == "stream.stalled":
                self.source_of_none.last_frame_age_s = (
                    data.last_frame_age_s or self.settings.ingest.stall_after_s
                )
            elif kind in ("series.started", "stream.resumed"):
                self.source_of_none.last_frame_age_s = 0.0
        elif isinstance(data, ClassEventData):
            self._name(data.class_id, data.class_name, data.role)
            for other in data.merged:
                self._classes.catalogue.pop(other, None)
            entry = self._classes.catalogue[data.class_id]
            state = replace(state.with_entry(entry, data.merged), model_version=data.model_version)
        elif isinstance(data, ModelEventData):
            state = replace(state, model_version=data.model_version)
        self._publisher.publish(state, [(kind, data)])  # type: ignore[list-item]

    def _note(self, kind: str, data: DefectEventData) -> None:
        """Where the defects are after this."""
        self.source_of_none.last_frame_age_s = 0.0
        self._name(data.class_id, data.class_name, data.role)
        if kind == "defect.disappeared":
            self._seen.pop(data.track, None)
        else:
            self._seen[data.track] = data
        size = _pixel_size_nm(data)
        if size is None:
            return
        self._calibration = Calibration(pixel_size_nm=size, **self._scan)  # type: ignore[arg-type]
        if data.stage_nm is not None:
            at_zero = self._calibration.model_copy(update={"stage_nm": (0.0, 0.0)})
            beside = at_zero.to_stage(data.px.row, data.px.col, self._shape)
            assert beside is not None
            stage = data.stage_nm.x - beside[0], data.stage_nm.y - beside[1]
            self._calibration = self._calibration.model_copy(update={"stage_nm": stage})

    def _name(self, class_id: int, name: str, role: Any) -> None:
        known = self._classes.catalogue.get(class_id)
        if known is None:
            nothing = np.zeros((16, 16), np.float32)
            known = CatalogueEntry(class_id, name, role, 0, None, 0, 0.0, None, average=nothing)
        self._classes.catalogue[class_id] = replace(known, name=name, role=role)

    def _result(self, data: DefectEventData) -> FrameResult:
        seen = list(self._seen.values())
        stage = None if self._calibration is None else self._calibration.stage_nm
        return FrameResult(
            series_id=data.series_id,
            number=data.frame,
            ordinal=data.frame,
            shape=self._shape,
            t_received=data.t_received,
            t_acquired=data.t_acquired,
            pixel_size_nm=None if self._calibration is None else self._calibration.pixel_size_nm,
            stage_nm=stage,
            calibration=self._calibration,
            picture=np.zeros(self._shape, np.uint8),
            sites=SiteTable(
                position=np.array([(one.px.row, one.px.col) for one in seen], np.float32).reshape(-1, 2),
                sublattice=np.zeros(len(seen), np.int16),
                class_id=np.array([one.class_id for one in seen], np.int16),
                role=np.array([ROLES.index(one.role) for one in seen], np.uint8),
                confidence=np.array([one.confidence for one in seen], np.float32),
                track=np.array([one.track for one in seen], np.int32),
            ),
            lattice_found=True,
            lattice_constant_px=None,
            drift_px=(0.0, 0.0),
            model_version=data.model_version,
            learning=(1, 1),
            classes=tuple(self._classes.catalogue.values()),
            kinds={one.class_id: one.kind for one in seen if one.kind is not None},
        )


def _pixel_size_nm(data: DefectEventData) -> float | None:
    """From the same place in pixels and in nanometres."""
    if data.nm is None:
        return None
    along, px = max((data.nm.x, data.px.col), (data.nm.y, data.px.row), key=lambda one: abs(one[1]))
    return along / px if px and along / px > 0 else None
