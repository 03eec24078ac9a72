"""The specimen in the moment before a frame: which columns the beam will hit, and what changes in them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from latticewatch_simulator._changes import Change, DefectEventType, TrueEvent
from latticewatch_simulator._defects import ADATOM
from latticewatch_simulator._drift import Drift
from latticewatch_simulator._scene import Scene
from latticewatch_simulator._settings import SimulatorSettings
from latticewatch_simulator._specimen import ColumnTable, Specimen


class Exposure:
    """One frame about to be taken.

    Parameters
    ----------
    frame : int
        Its number.
    scene : Scene
        Patched where a column changes.
    specimen : Specimen
        Remembers the changes, so that a place left and visited again still shows them.
    drift : Drift
        Of the frame, since the scene was rendered.
    settings : SimulatorSettings
    ordinal : int, optional
        Its number over all series; that in its own where none is given.

    Attributes
    ----------
    inside : ndarray of shape (n,), bool
        Which columns the frame held before anything changed.
    changes : list of Change
    events : list of TrueEvent
    renewed : bool
        Adatoms hopped, so that the list of columns is a new one.
    """

    def __init__(
        self,
        frame: int,
        scene: Scene,
        specimen: Specimen,
        drift: Drift,
        settings: SimulatorSettings,
        ordinal: int | None = None,
    ) -> None:
        self.ordinal = frame if ordinal is None else ordinal
        self.frame, self.scene, self.specimen, self.settings = frame, scene, specimen, settings
        self._drift = drift
        seen = self.positions_px()
        self.inside = np.all((seen >= 0) & (seen <= np.array(settings.shape) - 1), axis=1)
        self.changes: list[Change] = []
        self.events: list[TrueEvent] = []
        self.renewed = False

    def positions_px(self) -> NDArray[np.float64]:
        """Where the frame shows each column (row, col)."""
        return self._drift.seen_at(self.scene.positions_px(), self.settings.shape[0])

    @property
    def columns(self) -> ColumnTable:
        """Every column in and around the frame, as it is now."""
        return self.scene.columns

    def set(self, column: int, species: int) -> None:
        """Make a column another species; one out of the scene changes unseen."""
        self.specimen.set(column, species)
        at = self.columns.find(column)
        if at is not None:
            names = self.specimen.species
            self.changes.append(Change(column, names[self.columns.species[at]], names[species]))
            self.scene.change(at, species)

    def move_adatom(self, column: int, hollow: int, species: int) -> None:
        """Take an adatom from one hollow to another."""
        at = self.columns.find(column)
        assert at is not None
        self.specimen.set(column, -1)
        self.specimen.set(hollow, species)
        self.scene.remove(at)
        self.scene.insert(hollow, species, ADATOM)
        self.renewed = True

    def tell(
        self, kind: DefectEventType, column: int, before: int, after: int, *, origin: int | None = None
    ) -> None:
        """Write down what happened to a defect in the scene."""
        at = self.columns.find(column)
        if at is None:
            return
        rows = self.settings.shape[0]
        row, col = self._drift.seen_at(self.scene.positions_px(slice(at, at + 1)), rows)[0].tolist()
        names, pixel = self.specimen.species, self.settings.pixel_size_nm
        self.events.append(
            TrueEvent(
                kind,
                self.frame,
                self.frame / self.settings.fps,
                column,
                origin,
                names[before],
                names[after],
                (row, col),
                (col * pixel, row * pixel),
            )
        )
