"""Whether the columns of a frame are dark: in annular bright field and in phase contrast atoms are minima.

Columns have one narrow profile, and what is between them has the shape of what they leave free. Read the wrong way
round, the average cell is fitted many times worse: to 0.07 to 0.17 of its range, the right way round to 0.01. Where a
probe is so wide that both readings fit, columns are taken for bright.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from latticewatch.lattice._cell import UnitCell, found_columns
from latticewatch.lattice._phase import PhaseField
from latticewatch.lattice._profile import ColumnProfile, fit_columns
from latticewatch.messages import Note

# A cell that bright columns leave so much of its range of unexplained may be one of dark columns ...
MIN_MISFIT = 0.03
# ... and is one where dark columns leave less than this share of that.
MAX_SHARE = 0.33
DARK_COLUMNS = Note(
    code="dark-columns",
    text="The columns are dark (annular bright field, or phase contrast): frames are inverted for the "
    "analysis, and the height of a column is how dark it is.",
)


def has_dark_columns(cell: UnitCell, profile: ColumnProfile, field: PhaseField) -> bool:
    """Whether a cell is explained by minima, and not by the maxima that were fitted to it.

    Parameters
    ----------
    cell : UnitCell
    profile : ColumnProfile
        As fitted, for bright columns.
    field : PhaseField
    """
    if profile.misfit < MIN_MISFIT:
        return False
    columns, height = found_columns(-cell.mean, cell.error)
    if not len(columns):
        return False
    upside_down = replace(cell, mean=-cell.mean, columns=columns, height=height)
    try:
        return fit_columns(upside_down, field)[1].misfit < MAX_SHARE * profile.misfit
    except (np.linalg.LinAlgError, ValueError):
        # what cannot be fitted explains nothing
        return False


def inverted(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """A frame upside down, its brightest pixel where its darkest was.

    Parameters
    ----------
    image : ndarray of shape (height, width), float32

    Returns
    -------
    ndarray of shape (height, width), float32
    """
    return np.float32(image.max()) + np.float32(image.min()) - image
