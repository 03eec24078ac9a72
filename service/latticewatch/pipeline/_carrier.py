"""Models and analyses on their way from one process to another."""

from __future__ import annotations

from latticewatch.ingest import Frame
from latticewatch.lattice import Flattened, PixelNoise, Sites
from latticewatch.lattice._lattice import Lattice
from latticewatch.messages import Note
from latticewatch.model import (
    DisplacementFilter,
    MatchedFilter,
    Patches,
    SublatticeTemplates,
    Survey,
    Verdict,
)
from latticewatch.pipeline._analysis import Classified, Surveyed
from latticewatch.pipeline._kept import LATER, MODEL_CLASSES
from latticewatch.pipeline._pack import Packer
from latticewatch.pipeline._regions import Region
from latticewatch.pipeline._withheld import Line

carrier = Packer(
    (
        *MODEL_CLASSES,
        Classified,
        Flattened,
        Frame,
        Line,
        Note,
        Patches,
        PixelNoise,
        Region,
        Sites,
        Survey,
        Surveyed,
        Verdict,
    ),
    later=LATER,
)
# What a model has in common with those before it, and what is made of it once.
STAYING = (Lattice, SublatticeTemplates, MatchedFilter, DisplacementFilter)
