"""What a header names beside the image, from the frame to the statistics over time."""

from __future__ import annotations

import numpy as np

from latticewatch.config import AnalysisSettings
from latticewatch.execute import record_of
from latticewatch.ingest import Frame
from latticewatch.pipeline import Learner, analyse


def test_a_folded_frame_keeps_what_its_header_named_and_the_history_its_numbers(rng):
    row, col = np.cos(2 * np.pi * np.mgrid[:160, :160] / 16)
    image = rng.poisson(30 * (1 + row) * (1 + col)).astype(np.uint16)
    image.flags.writeable = False
    scalars = {"temperature_K": 573.0, "gas": "O2"}
    frame = Frame(image, series_id="a", number=0, ordinal=0, t_received=1.7e9, scalars=scalars)
    learner = Learner(AnalysisSettings())
    (result,) = learner.fold(analyse(frame, learner.model, learner.settings))
    assert result.scalars == scalars
    assert record_of(result).scalars == {"temperature_K": 573.0}
