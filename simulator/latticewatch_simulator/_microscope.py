"""The microscope: a specimen, a stage, a scan, and one frame after another."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latticewatch_simulator._beam import Beam, columns_hit, damage_of
from latticewatch_simulator._blemishes import hidden
from latticewatch_simulator._defects import default_dose
from latticewatch_simulator._detector import Detector
from latticewatch_simulator._drift import DriftPath
from latticewatch_simulator._dynamics import dynamics
from latticewatch_simulator._exposure import Exposure
from latticewatch_simulator._operations import Operation, Operations
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
    beam : Beam
        Its switches, and the dose map.
    operations : Operations
        Acquisitions and exposures that were asked for.

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
        self.beam = Beam(settings, self.dose_e_per_a2)
        self.operations = Operations()
        self._scan_lock = threading.Lock()
        self._next_scan: SimulatorSettings | None = None
        self.series_id = series_id or f"{self.specimen.crystal.name}-{uuid.uuid4().hex[:8]}"
        self._detector = Detector(settings, self.dose_e_per_a2)
        self._dynamics = dynamics(settings, self.specimen, self.dose_e_per_a2)
        self._path = DriftPath(settings)
        self._number = self._ordinal = self._series = 0
        self._name = self.series_id
        self._dark = False
        self._stage_nm = self.stage.field()
        self._render(np.zeros(2))

    def __iter__(self) -> Iterator[SimulatedFrame]:
        while True:
            yield self.acquire()

    def set_scan(self, settings: SimulatorSettings) -> None:
        """Take another scan from the next frame on, which begins a series of its own; from any thread.

        Parameters
        ----------
        settings : SimulatorSettings
            The present ones, with another scan.
        """
        with self._scan_lock:
            self._next_scan = settings

    @property
    def scan(self) -> SimulatorSettings:
        """The scan that is in force, or that was asked for and is about to be."""
        with self._scan_lock:
            return self._next_scan or self.settings

    def acquire(self) -> SimulatedFrame:
        """The next frame; an exposure that waits comes before it."""
        self.operations.frame_begins()
        self._take_scan()
        settings = self.settings
        stage_nm, before_nm = self.stage.field(), self._stage_nm
        drift = self._path.next(self._ordinal, (stage_nm[0] - before_nm[0], stage_nm[1] - before_nm[1]))
        drifted = np.abs(drift.start_px - self._rendered_px).max() > DRIFT_MARGIN_PX
        if stage_nm != before_nm or drifted:
            self._stage_nm = stage_nm
            self._render(np.array(drift.start_px))

        since_rendered = drift.since(self._rendered_px)
        exposure = Exposure(
            self._number, self._scene, self.specimen, since_rendered, settings, ordinal=self._ordinal
        )
        while (waiting := self.operations.next_exposure()) is not None:
            self._expose(waiting, exposure)
        blanked = self._dark = self.beam.blanked
        if not blanked:
            self._dynamics.advance(exposure)
            with self.beam.lock:
                self.beam.dose.add_field(
                    stage_nm, settings.fov_nm, settings.scan_rotation_deg, self.dose_e_per_a2
                )
        if exposure.renewed:
            self._list_columns()
        renewed, self._renewed = self._renewed, False
        image = self._detector.acquire(self._scene, since_rendered, blanked=blanked)
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
            hidden=hidden(settings, columns.xy_nm, exposure.positions_px()),
        )
        self._number += 1
        self._ordinal += 1
        return SimulatedFrame(image, truth)

    def is_sound(self, frame: SimulatedFrame) -> bool:
        """Whether the beam is on and nothing has moved since a frame began: what an acquisition may count.

        Parameters
        ----------
        frame : SimulatedFrame

        Returns
        -------
        bool
        """
        still = not self.stage.moving and self.stage.field() == frame.truth.stage_nm
        return still and not (self._dark or self.beam.blanked) and self.scan is self.settings

    def header(self, frame: SimulatedFrame) -> dict[str, Any]:
        """What a frame's header says beside its number and shape.

        Parameters
        ----------
        frame : SimulatedFrame

        Returns
        -------
        dict of str
            Fields of `latticewatch.messages.FrameHeader`.
        """
        settings = self.settings
        return {
            "pixel_size_nm": settings.pixel_size_nm,
            "fov_nm": settings.fov_nm[1],
            # of the scan; what the setting `rotation_deg` turns is the crystal
            "rotation_deg": settings.scan_rotation_deg,
            "dwell_us": settings.dwell,
            "detector": "ABF" if settings.specimen == "dark" else "HAADF",
            "stage_nm": list(frame.truth.stage_nm),
            "dose_e_per_a2": self.dose_e_per_a2,
        }

    def description(self) -> dict[str, Any]:
        """What holds for the whole series, ready for JSON."""
        settings, specimen = self.settings, self.specimen
        return {
            "series_id": self.series_id,
            "material": specimen.crystal.name,
            "specimen": settings.specimen,
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

    def _take_scan(self) -> None:
        with self._scan_lock:
            settings, self._next_scan = self._next_scan, None
            if settings is None:
                return
            before, self.settings = self.settings, settings
        self.dose_e_per_a2 = self.beam.frame_dose(settings)
        self._detector.use(settings, self.dose_e_per_a2)
        self._dynamics = dynamics(settings, self.specimen, self.dose_e_per_a2, self._dynamics)
        self._path.use(settings)
        self._series += 1
        self._number = 0
        self.series_id = f"{self._name}-{self._series + 1}"
        # The drift so far, in the pixels and along the axes of the new scan.
        row, col = self._rendered_px * before.pixel_size_nm
        x, y = settings.turn_back(*before.turn(float(col), float(row)))
        self._render(np.array([y, x]) / settings.pixel_size_nm)

    def _expose(self, operation: Operation, exposure: Exposure) -> None:
        settings, asked = self.settings, operation.asked
        seconds = self.beam.stand(operation, self.operations, settings)
        if not seconds:
            self.operations.abandon("the beam is blanked")
            return
        damage = damage_of(self._dynamics)
        if damage is None:
            return
        x, y = settings.turn_back(
            (asked.x_nm or 0.0) - self._stage_nm[0], (asked.y_nm or 0.0) - self._stage_nm[1]
        )
        row, col = ((n - 1) / 2 for n in settings.shape)
        place = (row + y / settings.pixel_size_nm, col + x / settings.pixel_size_nm)
        dose = self.beam.spot_dose_per_s(settings) * seconds
        damage.strike(exposure, columns_hit(exposure, place, dose, settings))

    def _render(self, drift_px: NDArray[np.float64]) -> None:
        """Make the scene anew around what the beam sees now."""
        settings = self.settings
        self._rendered_px = drift_px
        x, y = drift_px[::-1] * settings.pixel_size_nm
        centre_nm = np.array(self._stage_nm) + settings.turn(float(x), float(y))
        self._scene = Scene(settings, self.specimen, centre_nm)
        self._list_columns()

    def _list_columns(self) -> None:
        """The scene's columns are not those of the frame before."""
        self._undrifted_px = self._scene.positions_px() + self._rendered_px
        self._renewed = True
