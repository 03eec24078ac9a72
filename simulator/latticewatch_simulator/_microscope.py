"""The microscope: a specimen, a stage, a scan, and one frame after another."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latticewatch_simulator._defects import default_dose
from latticewatch_simulator._detector import Detector
from latticewatch_simulator._drift import DriftPath
from latticewatch_simulator._dynamics import dynamics
from latticewatch_simulator._exposure import Exposure
from latticewatch_simulator._scene import DRIFT_MARGIN_PX, Scene
from latticewatch_simulator._settings import SimulatorSettings
from latticewatch_simulator._specimen import Specimen
from latticewatch_simulator._stage import Stage
from latticewatch_simulator._truth import FrameTruth


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedFrame:
    """One frame and the truth about it.

    Attributes
    ----------
    image : ndarray of shape (rows, columns), uint16
        Detector counts.
    truth : FrameTruth
        Every column; number, stage position and drift of the frame.
    """

    image: NDArray[np.uint16]
    truth: FrameTruth


class Microscope:
    """Yields frames for as long as they are asked for; the same settings give the same frames.

    Parameters
    ----------
    settings : SimulatorSettings
        Specimen, scan and detector.
    series_id : str, optional
        Name of the series; made up where none is given.

    Attributes
    ----------
    stage : Stage
        May be moved from any thread; a frame is taken where the stage is when the frame starts.
    specimen : Specimen
        Crystal and defects.

    Raises
    ------
    ConfigurationError, FileError
        Settings that cannot work, or a structure file that cannot be read.
    """

    def __init__(self, settings: SimulatorSettings, series_id: str | None = None) -> None:
        settings.check()
        self.settings = settings
        self.stage = Stage(settings)
        self.specimen = Specimen(settings)
        self.dose_e_per_a2 = default_dose(settings)
        self.series_id = series_id or f"{self.specimen.crystal.name}-{uuid.uuid4().hex[:8]}"
        self._detector = Detector(settings, self.dose_e_per_a2)
        self._dynamics = dynamics(settings, self.specimen, self.dose_e_per_a2)
        self._path = DriftPath(settings)
        self._number = 0
        self._stage_nm = self.stage.position()
        self._render(np.zeros(2))

    def __iter__(self) -> Iterator[SimulatedFrame]:
        while True:
            yield self.acquire()

    def acquire(self) -> SimulatedFrame:
        """The next frame."""
        settings = self.settings
        stage_nm, before_nm = self.stage.position(), self._stage_nm
        drift = self._path.next(self._number, (stage_nm[0] - before_nm[0], stage_nm[1] - before_nm[1]))
        drifted = np.abs(drift.start_px - self._rendered_px).max() > DRIFT_MARGIN_PX
        if stage_nm != before_nm or drifted:
            self._stage_nm = stage_nm
            self._render(np.array(drift.start_px))

        since_rendered = drift.since(self._rendered_px)
        exposure = Exposure(self._number, self._scene, self.specimen, since_rendered, settings)
        self._dynamics.advance(exposure)
        if exposure.renewed:
            self._list_columns()
        renewed, self._renewed = self._renewed, False
        image = self._detector.acquire(self._scene, since_rendered)
        columns = self._scene.columns
        truth = FrameTruth(
            number=self._number,
            series_id=self.series_id,
            stage_nm=stage_nm,
            drift=drift,
            shape=settings.shape,
            id=columns.id,
            undrifted_px=self._undrifted_px,
            species=columns.species.copy(),
            sublattice=columns.sublattice,
            names=self.specimen.species,
            n_hosts=self.specimen.n_hosts,
            changes=tuple(exposure.changes),
            events=tuple(exposure.events),
            renewed=renewed,
        )
        self._number += 1
        return SimulatedFrame(image, truth)

    def header(self, frame: SimulatedFrame) -> dict[str, Any]:
        """What a frame's header says beside its number and shape."""
        settings = self.settings
        return {
            "pixel_size_nm": settings.pixel_size_nm,
            "fov_nm": settings.fov_nm[1],
            # the scan lies along the stage; what the setting of that name turns is the crystal
            "rotation_deg": 0.0,
            "dwell_us": settings.dwell,
            "detector": "HAADF",
            "stage_nm": list(frame.truth.stage_nm),
            "dose_e_per_a2": self.dose_e_per_a2,
        }

    def description(self) -> dict[str, Any]:
        """What holds for the whole series, ready for JSON."""
        settings, specimen = self.settings, self.specimen
        return {
            "series_id": self.series_id,
            "material": specimen.crystal.name,
            "shape": list(settings.shape),
            "pixel_size_nm": settings.pixel_size_nm,
            "rotation_deg": settings.rotation_deg,
            "dose_e_per_a2": self.dose_e_per_a2,
            "fps": settings.fps,
            "seed": settings.seed,
            "species": list(specimen.species),
            "hosts": list(specimen.species[: specimen.n_hosts]),
            "defects": {kind.species: kind.density for kind in specimen.kinds},
        }

    def brightest_counts(self) -> float:
        """Counts expected at the brightest point of the scene; above 65535 frames are clipped."""
        settings = self.settings
        electrons = self.dose_e_per_a2 * (10 * settings.pixel_size_nm) ** 2 * float(self._scene.image.max())
        return settings.offset + settings.counts_per_electron * electrons

    def _render(self, drift_px: NDArray[np.float64]) -> None:
        """Make the scene anew around what the beam sees now."""
        settings = self.settings
        self._rendered_px = drift_px
        centre_nm = np.array(self._stage_nm) + drift_px[::-1] * settings.pixel_size_nm
        self._scene = Scene(settings, self.specimen, centre_nm)
        self._list_columns()

    def _list_columns(self) -> None:
        """The scene's columns are not those of the frame before."""
        self._undrifted_px = self._scene.positions_px() + self._rendered_px
        self._renewed = True
