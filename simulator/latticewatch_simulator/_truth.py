"""What is really in a frame: every column, written down as the frames are made.

The file is JSON lines; its format is described in ``docs/reference/simulator-truth.md``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from latticewatch.errors import FileError
from latticewatch_simulator._changes import Change, TrueEvent
from latticewatch_simulator._drift import Drift


@dataclass(frozen=True, slots=True, eq=False)
class FrameTruth:
    """Every column in and around one frame.

    Attributes
    ----------
    number, series_id : int, str
        Of the frame.
    stage_nm : tuple of float
        Specimen coordinates of the frame's centre without drift (x, y).
    drift : Drift
        Since the series started.
    shape : tuple of int
        Rows and columns of the frame.
    id : ndarray of shape (n,), int64
        Identity of each column.
    undrifted_px : ndarray of shape (n, 2), float64
        Where each would be in a frame of this stage position without drift (row, col).
    species : ndarray of shape (n,), int16
        Index into `names`.
    sublattice : ndarray of shape (n,), int16
        Number of the column in the unit cell; -1 for an adatom.
    names : tuple of str
        Species, the hosts first.
    n_hosts : int
        How many of them are hosts.
    changes : tuple of Change
        What changed since the frame before.
    events : tuple of TrueEvent
        What that means for defects.
    renewed : bool
        The list of columns is not the one of the frame before.
    hidden : ndarray of shape (n,), bool, or None
        Which columns nobody can see: under dirt, or in the empty border of the frame; None: there is neither.
    """

    number: int
    series_id: str
    stage_nm: tuple[float, float]
    drift: Drift
    shape: tuple[int, int]
    id: NDArray[np.int64]
    undrifted_px: NDArray[np.float64]
    species: NDArray[np.int16]
    sublattice: NDArray[np.int16]
    names: tuple[str, ...]
    n_hosts: int
    changes: tuple[Change, ...] = ()
    events: tuple[TrueEvent, ...] = ()
    renewed: bool = False
    hidden: NDArray[np.bool_] | None = None

    @property
    def shift_px(self) -> tuple[float, float]:
        """Drift (row, col) at mid-frame; features appear at positions smaller by this."""
        (row, col), (row_step, col_step) = self.drift.start_px, self.drift.step_px
        return row + row_step / 2, col + col_step / 2

    def positions_px(self) -> NDArray[np.float64]:
        """Where each column is in the frame (row, col), shape (n, 2); line jitter aside."""
        return self.drift.seen_at(self.undrifted_px, self.shape[0])

    def inside(self, border_px: float = 0.0) -> NDArray[np.bool_]:
        """Which columns lie in the frame, and are not hidden there.

        Parameters
        ----------
        border_px : float
            At least so far from its edges.

        Returns
        -------
        ndarray of shape (n_columns,), bool
        """
        last, positions = np.array(self.shape) - 1 - border_px, self.positions_px()
        inside = np.all((positions >= border_px) & (positions <= last), axis=1)
        return inside if self.hidden is None else inside & ~self.hidden

    def is_defect(self) -> NDArray[np.bool_]:
        """Which columns are not what the perfect crystal has there."""
        return self.species >= self.n_hosts

    def table(self) -> dict[str, Any]:
        """The columns inside the frame, ready for JSON."""
        inside = self.inside()
        row, col = self.positions_px()[inside].round(3).T
        return {
            "frame": self.number,
            "series_id": self.series_id,
            "stage_nm": list(self.stage_nm),
            "shift_px": [round(shift, 4) for shift in self.shift_px],
            "hosts": list(self.names[: self.n_hosts]),
            "columns": {
                "id": self.id[inside].tolist(),
                "row": row.tolist(),
                "col": col.tolist(),
                "species": [self.names[species] for species in self.species[inside]],
                "sublattice": self.sublattice[inside].tolist(),
            },
        }


class TruthWriter:
    """Writes the truth of a series beside its frames; a context manager.

    Parameters
    ----------
    path : Path
        File to write; one that exists is replaced.
    series : dict
        What holds for the whole series, for the first line.

    Raises
    ------
    FileError
        A file that cannot be written.
    """

    def __init__(self, path: Path, series: dict[str, Any]) -> None:
        try:
            self._file = path.open("w", encoding="utf-8")
        except OSError as error:
            raise FileError(
                f"{path}: {error.strerror}; give a truth file in a folder that can be written"
            ) from error
        self._line({"kind": "series", **series})

    def write(self, truth: FrameTruth) -> None:
        """One line for one frame, readable by others at once.

        Parameters
        ----------
        truth : FrameTruth
        """
        record: dict[str, Any] = {
            "kind": "frame",
            "frame": truth.number,
            "series_id": truth.series_id,
            "stage_nm": truth.stage_nm,
            "shift_px": [round(shift, 5) for shift in truth.shift_px],
            "shear_px": [round(step, 5) for step in truth.drift.step_px],
            "changes": [
                {"id": change.id, "before": change.before, "after": change.after} for change in truth.changes
            ],
            "events": [event.record() for event in truth.events],
        }
        if truth.hidden is not None:
            record["hidden"] = truth.id[truth.hidden].tolist()
        if truth.renewed:
            record["columns"] = {
                "id": truth.id.tolist(),
                "row": truth.undrifted_px[:, 0].round(3).tolist(),
                "col": truth.undrifted_px[:, 1].round(3).tolist(),
                "species": truth.species.tolist(),
                "sublattice": truth.sublattice.tolist(),
            }
        self._line(record)

    def close(self) -> None:
        """End the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _line(self, record: dict[str, Any]) -> None:
        self._file.write(json.dumps(record, separators=(",", ":")) + "\n")
        self._file.flush()


def read_truth(path: Path) -> Iterator[FrameTruth]:
    """The truth of each frame of a series, with every column filled in.

    Parameters
    ----------
    path : Path
        File of a `TruthWriter`.

    Yields
    ------
    FrameTruth

    Raises
    ------
    FileError
        A file that cannot be read or was not written by the simulator.
    """
    try:
        with path.open(encoding="utf-8") as lines:
            series = json.loads(next(lines, "{}"))
            if series.get("kind") != "series":
                raise FileError(
                    f"{path}: does not start with a series record; give a truth file of the simulator"
                )
            yield from _frames(series, (json.loads(line) for line in lines))
    except (OSError, ValueError, KeyError) as error:
        raise FileError(f"{path}: cannot be read as a truth file ({error!r})") from error


def _frames(series: dict[str, Any], records: Iterator[dict[str, Any]]) -> Iterator[FrameTruth]:
    names = tuple(series["species"])
    truth = FrameTruth(
        number=-1,
        series_id=series["series_id"],
        stage_nm=(0.0, 0.0),
        drift=Drift((0.0, 0.0), (0.0, 0.0)),
        shape=(series["shape"][0], series["shape"][1]),
        id=np.zeros(0, np.int64),
        undrifted_px=np.zeros((0, 2)),
        species=np.zeros(0, np.int16),
        sublattice=np.zeros(0, np.int16),
        names=names,
        n_hosts=len(series["hosts"]),
    )
    for record in records:
        shift, shear = record["shift_px"], record["shear_px"]
        changes = tuple(Change(c["id"], c["before"], c["after"]) for c in record["changes"])
        columns = record.get("columns")
        if columns is not None:
            truth = replace(
                truth,
                id=np.array(columns["id"], np.int64),
                undrifted_px=np.array([columns["row"], columns["col"]], np.float64).T,
                species=np.array(columns["species"], np.int16),
                sublattice=np.array(columns["sublattice"], np.int16),
            )
        else:
            species = truth.species.copy()
            for change in changes:
                species[np.searchsorted(truth.id, change.id)] = names.index(change.after)
            truth = replace(truth, species=species)
        truth = replace(
            truth,
            number=record["frame"],
            stage_nm=(record["stage_nm"][0], record["stage_nm"][1]),
            drift=Drift((shift[0] - shear[0] / 2, shift[1] - shear[1] / 2), (shear[0], shear[1])),
            changes=changes,
            events=tuple(map(TrueEvent.of_record, record.get("events", ()))),
            renewed=columns is not None,
            hidden=np.isin(truth.id, record["hidden"]) if "hidden" in record else None,
        )
        yield truth
