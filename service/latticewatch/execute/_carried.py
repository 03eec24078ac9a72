"""What goes to a process that analyses frames and comes back from it: never pickled, and without what nobody needs."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from latticewatch.ingest import Frame

# Freed memory that is kept for the next frame, in arrays of up to so many bytes: glibc takes no more for those.
KEPT_BYTES, KEPT_ARRAY_BYTES = 2**28, 2**25
# Numbers of these settings in glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


def lightened(analysis: Any, *, picture: bool) -> Any:
    """An analysis without what whoever asked for it has, or can make again.

    Parameters
    ----------
    analysis : Analysis
    picture : bool
        Whether its picture is kept.

    Returns
    -------
    Analysis
        Without frame and model; of a frame that was classified without its images, its moments and the means of its
        blocks, which are most of all bytes. The learner needs their shape alone; an image without background, which is
        wanted when classes are born, it makes again.
    """
    from latticewatch.pipeline import Classified

    if analysis.model is not None:
        analysis = replace(analysis, image=analysis.image[:0, :0])
    if isinstance(analysis, Classified):
        survey, nothing = analysis.survey, analysis.survey.flat.image[:0, :0]
        survey = replace(survey, flat=replace(survey.flat, image=nothing), moments=survey.moments[:0])
        field = replace(analysis.phase_field, means=None)
        analysis = replace(analysis, survey=survey, phase_field=field)
    if not picture:
        analysis = replace(analysis, picture=analysis.picture[:0, :0])
    return replace(analysis, frame=Frame(analysis.frame.image[:0, :0]), model=None)


def completed(analysis: Any, frame: Frame, model: Any) -> Any:
    """An analysis that was lightened, with the frame and the model of this process.

    Parameters
    ----------
    analysis : Analysis
    frame : Frame
    model : Model or None
        The learner compares lattices by identity.

    Returns
    -------
    Analysis
        Its image is the shape of one, where the pixels did not come back.
    """
    from latticewatch.pipeline import picture_of

    image, picture = analysis.image, analysis.picture
    if model is not None:
        image = np.broadcast_to(np.float32(np.nan), frame.image.shape)
    if not picture.size:
        picture = picture_of(frame.image)
    return replace(analysis, frame=frame, model=model, image=image, picture=picture)


def keep_freed_memory() -> None:
    """Take memory that a frame gave back for the next one, as glibc does where it is not told otherwise.

    Workers of Dask are told to return everything at once, so that each image of each frame is made of fresh pages,
    which takes half as long again as the analysis.
    """
    with suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, KEPT_ARRAY_BYTES)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
