"""The state in the words of the protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latticewatch import __version__
from latticewatch.execute._state import LiveState
from latticewatch.messages import Counts, CountsByClass, Note, Status

if TYPE_CHECKING:
    from latticewatch.execute._engine import Engine
    from latticewatch.messages._api import Phase


def phase_of(state: LiveState) -> Phase:
    """What the stream is doing."""
    if state.starting is not None:
        return "starting"
    if state.stalled:
        return "stalled"
    if state.series_id is None or state.result is None:
        return "waiting"
    gathered, needed = state.result.learning
    return "learning" if gathered < needed else "live"


def status_of(engine: Engine, state: LiveState) -> Status:
    """State of the stream; the counts of frames and events are those of this moment."""
    result = state.result
    phase, detail = phase_of(state), state.starting or state.busy
    refused: tuple[Note, ...] = getattr(engine.receiver, "notes", tuple)()
    if phase == "waiting" and refused:
        # Something comes, and none of it can be used: that is not to wait.
        phase, detail = "refusing", refused[0].text
    a_px = result.lattice_constant_px if result else None
    pixel_size_nm = result.pixel_size_nm if result else None
    return Status(
        version=__version__,
        stream=engine.log.stream,
        source=engine.source,
        sources=engine.sources,
        series_id=state.series_id,
        phase=phase,
        detail=detail,
        learning=result.learning if result else (0, engine.settings.analysis.learning_frames),
        lattice_found=result.lattice_found if result else None,
        frames=engine.receiver.counts(),
        fps=engine.meter.fps,
        latency_ms=engine.meter.latency_ms(),
        last_frame=result.number if result else None,
        last_frame_age_s=engine.last_frame_age_s,
        model_version=state.model_version,
        n_sites=len(result.sites) if result else None,
        pixel_size_nm=pixel_size_nm,
        lattice_constant_px=a_px,
        lattice_constant_nm=a_px * pixel_size_nm if a_px is not None and pixel_size_nm is not None else None,
        first_seq=engine.log.first_seq,
        last_seq=engine.log.last_seq,
        notes=(*refused, *(result.notes if result else ())),
    )


def counts_of(state: LiveState) -> Counts:
    """Sites of the newest frame by role and by class; classes without a site are listed with 0."""
    return Counts(
        as_of_seq=state.as_of_seq,
        series_id=state.result.series_id if state.result else None,
        frame=state.result.number if state.result else None,
        by_role=state.role_counts,
        by_class=[
            CountsByClass(
                class_id=entry.class_id,
                name=entry.name,
                role=entry.role,
                n=state.class_counts.get(entry.class_id, 0),
            )
            for entry in state.catalogue
        ],
    )
