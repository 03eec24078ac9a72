"""What one frame gives on its own: it is surveyed, or classified."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from latticewatch.ingest import Frame
from latticewatch.lattice import Lattice, PhaseField, Sites
from latticewatch.messages import Note
from latticewatch.model import Model, Patches, Survey, Verdict
from latticewatch.pipeline._regions import Region, region_mask
from latticewatch.pipeline._withheld import Line


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """What every frame gives on its own.

    Attributes
    ----------
    frame : Frame
    image : ndarray of shape (height, width), float32
        The frame's counts, infinities and gaps filled; of a lattice whose height varies, as if it did not; of one
        whose columns are dark, `inverted`.
    picture : ndarray of shape (height, width), uint8
        For display.
    notes : tuple of Note
        What may be wrong with the frame or with how it was understood.
    timings_ms : dict
        Wall time of each stage [ms].
    mask : ndarray of shape (height, width), bool, or None
        What is no specimen: borders, bars, gaps, contamination; None where all is.
    lines : tuple of Line
        Steps, boundaries and cores, beside which columns look changed.
    """

    frame: Frame
    image: NDArray[np.float32]
    picture: NDArray[np.uint8]
    notes: tuple[Note, ...]
    timings_ms: dict[str, float]
    mask: NDArray[np.bool_] | None
    lines: tuple[Line, ...]

    @property
    def unsound(self) -> NDArray[np.bool_] | None:
        """What nothing is learnt from: no specimen, and lines in it; None where there is neither."""
        regions = [self.mask, *(line.mask for line in self.lines if not line.everywhere)]
        known = [region for region in regions if region is not None]
        return np.logical_or.reduce(known) if known else None

    @property
    def regions(self) -> dict[str, NDArray[np.bool_]]:
        """Where no defects are told, by what it is; see `FrameResult`."""
        return _named({"no-specimen": self.mask})


@dataclass(frozen=True, slots=True, eq=False)
class Surveyed(_Seen):
    """A frame in which nothing is classified: while learning, or where the lattice that was learnt is not seen.

    Attributes
    ----------
    model : Model or None
        The one whose lattice was looked for; None while learning.
    lattice : Lattice or None
        Found from nothing; None where there is none, or with a model.
    sites : Sites
        Of the lattice, or peaks where there is none.
    """

    model: Model | None
    lattice: Lattice | None
    sites: Sites

    def without(self, region: NDArray[np.bool_] | None) -> Surveyed:
        """The same, with one more region taken for no specimen.

        Parameters
        ----------
        region : ndarray of shape (height, width), bool, or None
            None for none.

        Returns
        -------
        Surveyed
        """
        if region is None:
            return self
        return replace(self, mask=region if self.mask is None else self.mask | region)

    @property
    def phase_field(self) -> PhaseField | None:
        """Where the lattice lies in this frame; None without one."""
        return None if self.lattice is None else self.lattice.field


@dataclass(frozen=True, slots=True, eq=False)
class Classified(_Seen):
    """A frame that shows the lattice of a model, and what the model says of its sites.

    Attributes
    ----------
    model : Model
        The model it was classified with.
    phase_field : PhaseField
        Where the known lattice lies in this frame.
    survey : Survey
        Sites and moments.
    patches : Patches
        The same, with their neighbours.
    verdict : Verdict
    odd_regions : tuple of Region
        Sites side by side that are odd; their verdict is withheld.
    """

    model: Model
    phase_field: PhaseField
    survey: Survey
    patches: Patches
    verdict: Verdict
    odd_regions: tuple[Region, ...] = ()

    @property
    def regions(self) -> dict[str, NDArray[np.bool_]]:
        """Where no defects are told, by what it is; see `FrameResult`."""
        dirt = self.survey.flat.dirt
        rest = self.mask if self.mask is None or dirt is None else self.mask & ~dirt
        reach = self.model.lattice.nearest_neighbour_px
        odd = region_mask(self.odd_regions, self.sites.position, self.image.shape, reach)
        return _named({"no-specimen": rest, "dirt": dirt, "odd-sites": odd})

    @property
    def sites(self) -> Sites:
        """Sites of the lattice, and what stands between the columns."""
        return self.survey.sites


def _named(regions: dict[str, NDArray[np.bool_] | None]) -> dict[str, NDArray[np.bool_]]:
    return {kind: region for kind, region in regions.items() if region is not None and region.any()}


Analysis: TypeAlias = Surveyed | Classified
"""What one frame gives on its own."""
