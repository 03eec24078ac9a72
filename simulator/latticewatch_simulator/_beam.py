"""The beam: on or blanked, how strong, where it stands, and the dose that it has given."""

from __future__ import annotations

import math
import threading
import time

from latticewatch_simulator._damage import BeamDamage
from latticewatch_simulator._dose import DoseMap
from latticewatch_simulator._exposure import Exposure
from latticewatch_simulator._operations import Operation, Operations
from latticewatch_simulator._settings import SimulatorSettings

ELECTRON_C = 1.602176634e-19
# Columns farther from the standing beam than this many standard deviations get nothing.
SPOT_REACH = 3.0


class Beam:
    """Of one microscope; its switches may be thrown from any thread.

    Parameters
    ----------
    settings : SimulatorSettings
        Of the first scan: they fix the current.
    dose_e_per_a2 : float
        Of one of its frames.

    Attributes
    ----------
    blanked, stopped : bool
        Whether the beam is off, and whether an emergency stop is in force.
    electrons_per_s : float
        The current.
    dose : DoseMap
    """

    def __init__(self, settings: SimulatorSettings, dose_e_per_a2: float) -> None:
        pixel_a2 = (10 * settings.pixel_size_nm) ** 2
        self.electrons_per_s = dose_e_per_a2 * pixel_a2 / (settings.dwell * 1e-6)
        self.blanked = self.stopped = False
        self.dose = DoseMap(settings.stage_limit_nm + settings.shift_limit_nm + max(settings.fov_nm))
        self.lock = threading.Lock()
        self._off = threading.Event()

    @property
    def current_pa(self) -> float:
        """The current [pA]."""
        return self.electrons_per_s * ELECTRON_C * 1e12

    def frame_dose(self, settings: SimulatorSettings) -> float:
        """Dose that a frame gives its field.

        Parameters
        ----------
        settings : SimulatorSettings
            The scan.

        Returns
        -------
        float
            [electrons/Å²]
        """
        return self.electrons_per_s * settings.dwell * 1e-6 / (10 * settings.pixel_size_nm) ** 2

    def spot_dose_per_s(self, settings: SimulatorSettings) -> float:
        """Dose in the middle of the standing beam.

        Parameters
        ----------
        settings : SimulatorSettings
            The scan.

        Returns
        -------
        float
            [electrons/Å²/s]
        """
        return self.electrons_per_s / settings.spot_area_a2

    def blank(self, on: bool) -> None:
        """Take the beam off the specimen, or let it back.

        Parameters
        ----------
        on : bool
            True takes it off.
        """
        self.blanked = on
        if on:
            self._off.set()

    def stop(self) -> None:
        """Emergency stop: off, and it stays off until it is released."""
        self.stopped = True
        self.blank(True)

    def release(self) -> None:
        """A person says that it may go on; the beam stays off."""
        self.stopped = False

    def stand(self, operation: Operation, waiting: Operations, settings: SimulatorSettings) -> float:
        """Let the beam stand at a place for its time, or until it is blanked.

        Parameters
        ----------
        operation : Operation
            What was asked for: place and time.
        waiting : Operations
            Told of the dose afterwards.
        settings : SimulatorSettings
            The scan.

        Returns
        -------
        float
            How long it stood there [s].
        """
        asked = operation.asked
        self._off.clear()
        if self.blanked:
            return 0.0
        began = time.monotonic()
        self._off.wait(asked.duration_s)
        seconds = min(time.monotonic() - began, asked.duration_s or 0.0)
        place = (asked.x_nm or 0.0, asked.y_nm or 0.0)
        with self.lock:
            self.dose.add_spot(place, self.electrons_per_s * seconds)
        waiting.exposed(operation, self.spot_dose_per_s(settings) * seconds, seconds)
        return seconds


def columns_hit(
    exposure: Exposure, place_px: tuple[float, float], dose: float, settings: SimulatorSettings
) -> dict[int, float]:
    """Dose of every column that the standing beam reached, the one in its middle first.

    Parameters
    ----------
    exposure : Exposure
        The next frame.
    place_px : tuple of float
        Where the beam stood in it (row, col).
    dose : float
        In its middle [e/A^2].
    settings : SimulatorSettings
    """
    sigma = math.sqrt(settings.spot_area_a2 / (2 * math.pi)) / (10 * settings.pixel_size_nm)
    seen = exposure.positions_px()
    distance2 = ((seen - place_px) ** 2).sum(axis=1) / sigma**2
    near = [k for k in distance2.argsort()[:64].tolist() if distance2[k] <= SPOT_REACH**2]
    return {int(exposure.columns.id[k]): dose * math.exp(-float(distance2[k]) / 2) for k in near}


def damage_of(dynamics: object) -> BeamDamage | None:
    """What the standing beam does, where the specimen changes by dose."""
    return dynamics if isinstance(dynamics, BeamDamage) else None
