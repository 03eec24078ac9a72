"""Whatever image is given: sites, or a note why there are none, or one clear line; never a traceback."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from latticewatch.config import AnalysisSettings
from latticewatch.errors import LatticewatchError
from latticewatch.ingest import Frame
from latticewatch.pipeline import Learner, analyse

KINDS = (
    "constant",
    "gradient",
    "noise",
    "texture",
    "photograph",
    "edge",
    "stripes",
    "checks",
    "columns",
    "few",
    "dead",
    "bright",
)
EXTREMES = (0.0, 65535.0, np.nan, np.inf, -np.inf, 1e9)


def columns(rng, shape, constant):
    """Columns on some lattice, one or two a cell."""
    at = np.stack(np.indices(shape, dtype=float), -1)
    turn, between = rng.uniform(0, np.pi), rng.uniform(np.pi / 3, np.pi / 2)
    waves = [
        at @ [np.cos(angle), np.sin(angle)] / (constant * scale)
        for angle, scale in ((turn, 1.0), (turn + between, rng.uniform(0.7, 1.3)))
    ]
    sharp = rng.choice([1, 2, 4])
    out = 0.0
    for height, shift in ((1.0, 0.0), (rng.choice([0.0, 0.4]), 2.0)):
        u, v = (((1 + np.cos(2 * np.pi * wave + shift)) / 2) ** sharp for wave in waves)
        out = out + height * u * v
    return out


def some_image(kind, rng, largest):
    """An image of a kind, of sides from 16 px on, as some instrument may give it."""
    shape = tuple(int(n) for n in np.exp(rng.uniform(np.log(16), np.log(largest), 2)))
    rows, cols = np.indices(shape, dtype=float)
    if kind == "constant":
        image = np.full(shape, rng.choice([0, 1, 1e-30, 255, 65535, 1e20, -5.0]))
    elif kind == "gradient":
        image = rng.normal() * rows + rng.normal() * cols + rng.normal() * rows * cols
    elif kind == "noise":
        image = rng.poisson(rng.choice([0.01, 1, 100]), shape).astype(float)
    elif kind == "texture":
        fine, coarse = (
            ndimage.gaussian_filter(rng.normal(size=shape), s) for s in (rng.uniform(0.5, 3), 6.0)
        )
        image = fine - coarse * rng.choice([0, 1])
    elif kind == "photograph":
        # power falls as a power of the frequency
        frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1]))
        frequency[0, 0] = 1
        image = np.fft.ifft2(np.fft.fft2(rng.normal(size=shape)) / frequency ** rng.uniform(0.8, 2)).real
    elif kind == "edge":
        beyond = rng.normal() * rows + rng.normal() * cols > 20 * rng.normal()
        image = 100.0 * beyond + rng.poisson(3, shape)
    elif kind == "stripes":
        image = rng.poisson(1 + 50 * (1 + np.cos(rows * rng.uniform(0.1, 3) + cols * rng.normal()))).astype(
            float
        )
    elif kind == "checks":
        image = 100.0 * ((rows // rng.integers(1, 12) + cols // rng.integers(1, 12)) % 2)
    else:
        constant = min(shape) / rng.uniform(2, 9) if kind == "few" else rng.uniform(3, 30)
        image = rng.poisson(rng.choice([2, 20, 200]) * columns(rng, shape, constant) + 1).astype(float)
    if kind == "dead":
        first, last = sorted(rng.integers(0, shape[0] + 1, 2))
        image[first:last] = rng.choice(EXTREMES)
        first, last = sorted(rng.integers(0, shape[1] + 1, 2))
        image[:, first : rng.choice([first, last])] = rng.choice(EXTREMES)
    if kind == "bright":
        number = rng.integers(1, 40)
        image[tuple(rng.integers(0, n, number) for n in shape)] = rng.choice(EXTREMES)
    if rng.random() < 0.3:
        image = ndimage.gaussian_filter(np.nan_to_num(image, posinf=9e4, neginf=0), rng.uniform(0.3, 2))
    dtype = np.dtype(rng.choice(["float32", "uint16", "uint8"]))
    if dtype.kind == "u":
        image = np.nan_to_num(image, posinf=65535, neginf=0)
        image = np.clip(image - min(image.min(), 0), 0, np.iinfo(dtype).max)
    return image.astype(dtype)


def check(kind, seed, largest):
    """Learnt from and classified, as `latticewatch analyse` does it."""
    image = some_image(kind, np.random.default_rng([seed, KINDS.index(kind)]), largest)
    settings = AnalysisSettings(learning_frames=1)
    learner = Learner(settings)
    try:
        results = (
            learner.fold(analyse(Frame(image=image, series_id="s", number=0), None, settings))
            or learner.finish_learning()
        )
    except LatticewatchError as error:
        if "\n" in str(error):
            raise
        return
    for result in results:
        assert np.isfinite(result.sites.position).all()
        assert len(result.sites.position) or result.notes
        assert learner.model is not None or result.notes


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_any_image_ends_in_a_result_or_one_clear_line(kind):
    check(kind, 0, 80)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_any_of_ten_thousand_images_ends_in_a_result_or_one_clear_line(kind):
    for seed in range(1, 1 + 10_000 // len(KINDS)):
        check(kind, seed, 600)
