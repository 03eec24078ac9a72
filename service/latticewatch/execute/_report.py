"""The state in the words of the protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from latticewatch import __version__
from latticewatch.execute._state import LiveState
from latticewatch.messages import Counts, CountsByClass, FrameCounts, LatencyMs, Note, RecordingStatus, Status

if TYPE_CHECKING:
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


@dataclass(frozen=True, slots=True)
class Vitals:
    """What a status says beside the state: of the stream, of this moment."""

    stream: str
    source: str
    sources: tuple[str, ...]
    learning_frames: int
    frames: FrameCounts
    fps: float | None
    latency_ms: LatencyMs
    last_frame_age_s: float | None
    first_seq: int
    last_seq: int
    trouble: str | None = None
    refused: tuple[Note, ...] = ()
    recording: RecordingStatus | None = None


def status_of(vitals: Vitals, state: LiveState) -> Status:
    """State of the stream; the counts of frames and events are those of this moment.

    Parameters
    ----------
    vitals : Vitals
        Of this moment.
    state : LiveState

    Returns
    -------
    Status
    """
    result = state.result
    phase, detail = phase_of(state), state.starting or state.busy
    if phase == "waiting" and vitals.refused:
        # Something comes, and none of it can be used: that is not to wait.
        detail = vitals.refused[0].text
        phase = "refusing" if vitals.refused[0].code == "messages-refused" else phase
    a_px = result.lattice_constant_px if result else None
    pixel_size_nm = result.pixel_size_nm if result else None
    return Status(
        version=__version__,
        stream=vitals.stream,
        source=vitals.source,
        sources=vitals.sources,
        series_id=state.series_id,
        phase=phase,
        detail=detail,
        degraded=vitals.trouble,
        learning=result.learning if result else (0, vitals.learning_frames),
        lattice_found=result.lattice_found if result else None,
        frames=vitals.frames,
        fps=vitals.fps,
        latency_ms=vitals.latency_ms,
        last_frame=result.number if result else None,
        last_frame_age_s=vitals.last_frame_age_s,
        model_version=state.model_version,
        epoch=None if result is None else result.epoch,
        n_sites=len(result.sites) if result else None,
        pixel_size_nm=pixel_size_nm,
        lattice_constant_px=a_px,
        lattice_constant_nm=a_px * pixel_size_nm if a_px is not None and pixel_size_nm is not None else None,
        first_seq=vitals.first_seq,
        last_seq=vitals.last_seq,
        notes=(*vitals.refused, *_recording_notes(vitals.recording), *(result.notes if result else ())),
        odd_regions=result.odd_regions if result else (),
        recording=vitals.recording,
    )


def _recording_notes(recording: RecordingStatus | None) -> tuple[Note, ...]:
    """Whoever relies on a recording must hear that it has gaps."""
    if recording is None:
        return ()
    n = sum(recording.skipped.values())
    if recording.trouble is not None:
        text = f"Nothing is recorded just now: {recording.trouble}. Frames that are missing so far: {n}."
        return (
            Note(code="recording-paused", text=text[:600], remedy="Make room on the disk of the recording."),
        )
    if n:
        why = ", ".join(f"{reason} {count}" for reason, count in recording.skipped.items())
        text = f"{n} analysed frames are missing in the recording ({why})."
        remedy = "Use a faster disk, or record results alone (--record-results)."
        return (Note(code="recording-incomplete", text=text, remedy=remedy),)
    return ()


def counts_of(state: LiveState) -> Counts:
    """Sites of the newest frame by role and by class; classes without a site are listed with 0.

    Parameters
    ----------
    state : LiveState

    Returns
    -------
    Counts
    """
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
