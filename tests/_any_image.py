"""Images of every kind that some instrument may give, in short streams, and what must come of each."""

from __future__ import annotations

import traceback
import warnings

import numpy as np
from scipy import ndimage

from latticewatch.config import AnalysisSettings
from latticewatch.errors import LatticewatchError
from latticewatch.ingest import read_frames
from latticewatch.offline import ResultWriter, run_file

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
    "crop",
    "grains",
    "shaded",
)
# Nothing in these repeats in two directions: sites on a lattice without a word would be a wrong picture.
WITHOUT_LATTICE = ("constant", "gradient", "noise", "photograph", "edge")
# These are given as they are drawn; in the others each pixel counts electrons.
AS_DRAWN = ("constant", "gradient", "texture", "photograph", "checks")
EXTREMES = (0.0, 65535.0, np.nan, np.inf, -np.inf, 1e9)
SMALLEST, LARGEST = 16, 600
MOST_FRAMES = 4
# Share of the streams of which figures are drawn, too, which takes longer than most else.
DRAWN = 0.02


def columns(rng, shape, constant):
    """Columns on some lattice, one or two a cell."""
    at = np.stack(np.indices(shape, dtype=float), -1)
    turn, between = rng.uniform(0, np.pi), rng.uniform(np.pi / 3, np.pi / 2)
    waves = [
        at @ [np.cos(angle), np.sin(angle)] / (constant * scale)
        for angle, scale in ((turn, 1.0), (turn + between, rng.uniform(0.7, 1.3)))
    ]
    sharp = rng.choice([1, 2, 4])
    out = np.zeros(shape)
    for height, shift in ((1.0, 0.0), (rng.choice([0.0, 0.4]), 2.0)):
        u, v = (((1 + np.cos(2 * np.pi * wave + shift)) / 2) ** sharp for wave in waves)
        out += height * u * v
    return out


def smooth(rng, shape, share):
    """A field of values around 0 that changes over this share of the image."""
    field = ndimage.gaussian_filter(rng.normal(size=shape), share * max(shape), mode="wrap")
    return field / max(float(field.std()), 1e-12)


def clean_image(kind, rng, shape):
    """Expected counts of an image of a kind."""
    rows, cols = np.indices(shape, dtype=float)
    if kind == "constant":
        return np.full(shape, rng.choice([0, 1, 1e-30, 255, 65535, 1e20, -5.0]))
    if kind == "gradient":
        return rng.normal() * rows + rng.normal() * cols + rng.normal() * rows * cols
    if kind == "noise":
        return np.full(shape, rng.choice([0.01, 1, 100]))
    if kind == "texture":
        fine, coarse = (
            ndimage.gaussian_filter(rng.normal(size=shape), s) for s in (rng.uniform(0.5, 3), 6.0)
        )
        return fine - coarse * rng.choice([0, 1])
    if kind == "photograph":
        # power falls as a power of the frequency
        frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1]))
        frequency[0, 0] = 1
        return np.fft.ifft2(np.fft.fft2(rng.normal(size=shape)) / frequency ** rng.uniform(0.8, 2)).real
    if kind == "edge":
        return 100.0 * (rng.normal() * rows + rng.normal() * cols > 20 * rng.normal()) + 3
    if kind == "stripes":
        return 1 + 50 * (1 + np.cos(rows * rng.uniform(0.1, 3) + cols * rng.normal()))
    if kind == "checks":
        return 100.0 * ((rows // rng.integers(1, 12) + cols // rng.integers(1, 12)) % 2)
    constant = min(shape) / rng.uniform(2, 9) if kind == "few" else rng.uniform(3, 30)
    image = rng.choice([2, 20, 200]) * columns(rng, shape, constant) + 1
    if kind == "crop":
        # the specimen ends within the view, or there is a hole in it
        inside = smooth(rng, shape, rng.uniform(0.05, 0.4)) > rng.normal()
        image = np.where(inside, image, rng.choice([0.0, 1.0, 300.0]))
    if kind == "grains":
        beyond = rng.normal() * (rows - shape[0] / 2) + rng.normal() * (cols - shape[1] / 2) > 0
        other = image.max() * columns(rng, shape, constant * rng.choice([1.0, 1.3, 2.0]))
        image = np.where(beyond, image, other)
    if kind == "shaded":
        image = image * np.exp(rng.uniform(0.1, 1.5) * smooth(rng, shape, rng.uniform(0.02, 0.4)))
    return image


def spoiled(kind, rng, image):
    """With dead areas, or bright pixels."""
    image, shape = image.copy(), image.shape
    if kind == "dead":
        first, last = sorted(rng.integers(0, shape[0] + 1, 2))
        image[first:last] = rng.choice(EXTREMES)
        first, last = sorted(rng.integers(0, shape[1] + 1, 2))
        image[:, first : rng.choice([first, last])] = rng.choice(EXTREMES)
    if kind == "bright":
        number = rng.integers(1, 40)
        image[tuple(rng.integers(0, n, number) for n in shape)] = rng.choice(EXTREMES)
    return image


def counted(kind, rng, clean):
    """As a detector counts it, where one does."""
    return clean if kind in AS_DRAWN else rng.poisson(np.clip(clean, 0, 1e6)).astype(float)


def stored(rng, dtype, image, blur):
    """In the type of a file."""
    if blur:
        image = ndimage.gaussian_filter(np.nan_to_num(image, posinf=9e4, neginf=0), blur)
    if dtype.kind == "u":
        image = np.nan_to_num(image, posinf=65535, neginf=0)
        image = np.clip(image - min(image.min(), 0), 0, np.iinfo(dtype).max)
    return image.astype(dtype)


def some_stream(kind, rng, largest=LARGEST):
    """Some frames of one shape: the same view again, drifting, blanked for a moment, or another view.

    Returns
    -------
    ndarray of shape (n_frames, height, width)
    list of str
        Of each frame, what it shows.
    """
    shape = tuple(int(n) for n in np.exp(rng.uniform(np.log(SMALLEST), np.log(largest + 1), 2)))
    n = int(rng.integers(1, MOST_FRAMES + 1))
    dtype, blur = np.dtype(rng.choice(["float32", "uint16", "uint8"])), 0.0
    if rng.random() < 0.3:
        blur = rng.uniform(0.3, 2)
    clean, drift = clean_image(kind, rng, shape), rng.integers(-3, 4, 2)
    frames, kinds = [], []
    for number in range(n):
        shown, view = kind, np.roll(clean, number * drift, (0, 1))
        happens = rng.random() if number else 1.0
        if happens < 0.1:
            shown, view = "constant", np.full(shape, float(rng.choice([0, 3])))
        elif happens < 0.2:
            shown = str(rng.choice(KINDS))
            view = clean_image(shown, rng, shape)
        frames.append(stored(rng, dtype, spoiled(shown, rng, counted(shown, rng, view)), blur))
        kinds.append(shown)
    return np.stack(frames), kinds


def fault_of(kind, seed, folder, largest=LARGEST):
    """Take a stream through `latticewatch analyse`, from a file to tables and, now and then, figures.

    Returns
    -------
    str or None
        What is wrong with what came of it; one clear line is right, too.
    """
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    frames, shown = some_stream(kind, rng, largest)
    np.save(folder / "stream.npy", frames)
    results = []
    settings = AnalysisSettings(learning_frames=int(rng.integers(1, MOST_FRAMES + 1)), threads=1)
    figures = rng.random() < DRAWN
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            series = read_frames(folder / "stream.npy")
            with ResultWriter(series, folder / "results") as writer:

                def keep(result):
                    results.append(result)
                    writer.add(result)

                image = run_file(series, settings, keep, writer.event)
                writer.finish(image, 1.0, figures)
    except LatticewatchError as error:
        return f"more than a line: {error}" if "\n" in str(error) else None
    except Exception:  # noqa: BLE001 - the fault that is looked for: told with all others
        return traceback.format_exc()
    return wrong_in(results, shown)


def wrong_in(results, shown):
    """What is wrong with the results of the frames of a stream, whose kinds are given; None where nothing is."""
    if [result.number for result in results] != list(range(len(shown))):
        return f"results of frames {[result.number for result in results]} for {len(shown)} frames"
    for result, kind in zip(results, shown, strict=True):
        sites, where = result.sites, f"frame {result.number} of {result.shape}"
        if not np.isfinite(sites.position).all() or not np.isfinite(sites.confidence).all():
            return f"{where}: values that are no numbers"
        if len(sites) and not ((sites.position > -1) & (sites.position < result.shape)).all():
            return f"{where}: sites outside the frame"
        if not result.classes and not result.notes:
            return f"{where}: no classes, and no word why"
        if kind in WITHOUT_LATTICE and result.lattice_found and not result.notes:
            return f"{where}: a lattice in {kind}, without a word"
    return None
