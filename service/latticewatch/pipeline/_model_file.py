"""A learnt model as a file, to start from on another day: npz with JSON in it, and nothing that can run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from pydantic import ValidationError

from latticewatch import __version__
from latticewatch.config import AnalysisSettings
from latticewatch.errors import FileError
from latticewatch.ingest import Frame
from latticewatch.messages import ClassPatch
from latticewatch.model import Model, columns_of
from latticewatch.pipeline._analyse import analyse
from latticewatch.pipeline._conforming import check_conforms
from latticewatch.pipeline._kept import LATER, LEFT_OUT, MODEL_CLASSES
from latticewatch.pipeline._pack import Packer

KIND = "latticewatch model"
# A model of the simulated specimens takes 1 to 3 MB.
MAX_FILE_BYTES = 64 * 2**20
# Numbers of classes are 16 bits wide, and more may be born.
MAX_CLASS_ID, MAX_CLASSES = 30_000, 1000
TRIAL_PX, TRIAL_CELLS = 256, 16


@dataclass(frozen=True, slots=True, eq=False)
class SavedModel:
    """A model, and where it comes from.

    Attributes
    ----------
    model : Model
    stream : str
        Identifier of the event log that its classes have their numbers in; empty for none.
    saved_at : str
        When it was written, ISO 8601 in UTC.
    software : str
        Version of Latticewatch that wrote it.
    pixel_size_nm : float or None
        Of the newest frame at that moment.
    """

    model: Model
    stream: str = ""
    saved_at: str = ""
    software: str = ""
    pixel_size_nm: float | None = None


_packer = Packer((*MODEL_CLASSES, SavedModel), LEFT_OUT, LATER)


def write_model(model: Model, stream: str = "", pixel_size_nm: float | None = None) -> bytes:
    """The file of a model.

    Parameters
    ----------
    model : Model
    stream : str
        See `SavedModel`.
    pixel_size_nm : float, optional

    Returns
    -------
    bytes
        For `read_model`.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return _packer.pack({KIND: SavedModel(model, stream, now, __version__, pixel_size_nm)})


def read_model(data: bytes, *, trial: bool = True) -> SavedModel:
    """Read the file of a model.

    Parameters
    ----------
    data : bytes
    trial : bool
        Have it classify a frame of its own lattice, so that one which cannot is refused here.

    Returns
    -------
    SavedModel

    Raises
    ------
    FileError
        It is too large or damaged, of another version, no model, or a model that cannot work.
    """
    if len(data) > MAX_FILE_BYTES:
        raise FileError(f"{len(data)} bytes, expected at most {MAX_FILE_BYTES}")
    tree = _packer.unpack(data)
    if not isinstance(tree, dict) or set(tree) != {KIND}:
        raise FileError("no file of a model; save one with  latticewatch model save FILE")
    saved = tree[KIND]
    from latticewatch.estimators import NearestCentroid  # scikit-learn takes long to import

    check_conforms(saved, SavedModel, {"NearestCentroid": NearestCentroid})
    if not re.fullmatch(r"[0-9A-Za-z-]{0,64}", saved.stream):
        raise FileError("model.stream: expected an identifier of at most 64 letters")
    _check_catalogue(saved.model)
    try:
        columns_of(saved.model)
        if trial:
            _try(saved.model)
    except FileError:
        raise
    except Exception as error:
        raise FileError(f"a model that does not work: {error or type(error).__name__}") from error
    return saved


def _check_catalogue(model: Model) -> None:
    ids = [entry.class_id for entry in model.classes]
    if (
        not 0 < len(ids) <= MAX_CLASSES
        or len(set(ids)) < len(ids)
        or not 0 <= min(ids) <= max(ids) <= MAX_CLASS_ID
    ):
        raise FileError(
            f"model.classes: expected 1 to {MAX_CLASSES}, numbered differently from 0 to {MAX_CLASS_ID}"
        )
    for entry in model.classes:
        try:
            ClassPatch(name=entry.name, role=entry.role)
        except ValidationError as error:
            raise FileError(
                f"model.classes: name of class {entry.class_id}: {error.errors()[0]['msg']}"
            ) from error
        if not 0 <= entry.sublattice < len(model.sublattices):
            raise FileError(f"model.classes: class {entry.class_id} of sublattice {entry.sublattice}")
    if (
        model.version < 0
        or not 2 <= model.n_max <= 20
        or not 3 <= model.patch_px <= 1024
        or not model.scale > 0
    ):
        raise FileError("model: version, n_max, patch_px or scale out of its limits")


def _try(model: Model) -> None:
    """Classify a frame that shows the average cell of the lattice, with some noise."""
    field, cell = model.lattice.field, model.lattice.cell
    side = int(np.clip(TRIAL_CELLS * field.lattice_constant, 4 * model.patch_px, 4 * TRIAL_PX))
    rows, cols = np.indices((side, side))
    place = np.tensordot(field.basis, np.stack([rows, cols]), axes=1) % 1.0
    shape = np.array(cell.mean.shape)[:, None, None]
    first, second = (place * shape).astype(int) % shape
    image = cell.mean[first, second]
    noise = np.random.default_rng(0).normal(0.0, 0.02 * float(np.ptp(image)), image.shape)
    counts = (image - image.min() + noise) * model.scale
    frame = Frame(counts.astype(np.float32), "trial")
    analyse(frame, model, AnalysisSettings(n_max=model.n_max, invariant=model.invariant))
