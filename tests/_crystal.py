"""Frames of Gaussian columns on a lattice, with everything known: what the lattice and the learner are tested on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree

from latticewatch.config import AnalysisSettings
from latticewatch.discover import learn_model
from latticewatch.errors import NoLatticeError
from latticewatch.features import ZernikeMoments
from latticewatch.identify import confirmed
from latticewatch.lattice import find_lattice, follow_lattice
from latticewatch.model import gather_patches
from latticewatch.pipeline._analyse import patch_size, survey_frame, without_empty

HOST = "host"


@dataclass(frozen=True)
class Crystal:
    """Lattice vectors as rows (row, col) [px], columns in cell coordinates with their heights, brightest first."""

    vectors: np.ndarray
    columns: np.ndarray
    heights: np.ndarray

    @property
    def spacing(self):
        """Shortest distance between columns [px]."""
        shifts = np.array([(i, j) for i in range(-2, 3) for j in range(-2, 3)])
        between = self.columns[:, None, None] - self.columns[None, :, None] + shifts
        length = np.linalg.norm(between @ self.vectors, axis=-1)
        return float(length[length > 1e-6].min())

    def turned(self, degrees):
        """The same, rotated."""
        a = np.radians(degrees)
        return self.strained(np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]]))

    def strained(self, matrix):
        """The same, every position multiplied by a matrix from the right."""
        return replace(self, vectors=self.vectors @ matrix)


def honeycomb(constant, heights=(1.0, 0.45)):
    """Two columns in a hexagonal cell, as monolayer WS2 seen from above."""
    vectors = constant * np.array([[0.0, 1.0], [np.sqrt(3) / 2, 0.5]])
    return Crystal(vectors, np.array([[1 / 3, 1 / 3], [2 / 3, 2 / 3]])[: len(heights)], np.array(heights))


def square(constant, heights=(1.0, 0.5)):
    """Columns at corner and centre of a square cell, as a perovskite along [001]."""
    return Crystal(
        constant * np.eye(2), np.array([[0.25, 0.25], [0.75, 0.75]])[: len(heights)], np.array(heights)
    )


def oblique(constant, heights=(1.0,)):
    """One column in a cell with no symmetry but inversion."""
    return Crystal(
        constant * np.array([[0.0, 1.0], [0.85, 0.3]]), np.array([[0.4, 0.3]]), np.array(heights, float)
    )


def graphene(constant):
    """Two columns of the same kind in a hexagonal cell."""
    return honeycomb(constant, (1.0, 1.0))


def perovskite(constant, heights=(1.0, 0.55, 0.25, 0.25)):
    """Four columns in a square cell, as SrTiO3 along [001] with its oxygen: Sr, Ti with O, and twice O."""
    columns = np.array([[0.25, 0.25], [0.75, 0.75], [0.25, 0.75], [0.75, 0.25]])
    return Crystal(constant * np.eye(2), columns, np.array(heights))


def dumbbells(constant, heights=(1.0, 0.8), apart=0.25):
    """Pairs of columns in a centred rectangular cell, as GaAs along [110]: four columns, two near each other twice."""
    pair = np.array([[0.25, 0.25 - apart / 2], [0.25, 0.25 + apart / 2]])
    return Crystal(
        constant * np.array([[0.0, 1.0], [1 / np.sqrt(2), 0.0]])[::-1],
        np.concatenate([pair, (pair + 0.5) % 1.0]),
        np.array(heights * 2),
    )


@dataclass(frozen=True)
class Scene:
    """A rendered frame and its truth; a column that was displaced keeps its site in `position`."""

    image: np.ndarray
    position: np.ndarray
    sublattice: np.ndarray
    height: np.ndarray
    kind: np.ndarray
    clean: np.ndarray
    width: float

    def inside(self, margin):
        """Columns at least so far from the edge."""
        low, high = margin, np.array(self.image.shape) - 1 - margin
        return np.flatnonzero(((self.position >= low) & (self.position <= high)).all(1))


def add_columns(image, position, height, sigma):
    """Add Gaussian columns in place."""
    reach = int(np.ceil(5 * sigma))
    for (row, col), h in zip(position, height, strict=True):
        r0, r1 = max(int(row) - reach, 0), min(int(row) + reach + 2, image.shape[0])
        c0, c1 = max(int(col) - reach, 0), min(int(col) + reach + 2, image.shape[1])
        if r0 >= r1 or c0 >= c1:
            continue
        down = np.exp(-0.5 * ((np.arange(r0, r1) - row) / sigma) ** 2)
        right = np.exp(-0.5 * ((np.arange(c0, c1) - col) / sigma) ** 2)
        image[r0:r1, c0:c1] += h * np.outer(down, right)


def render(
    crystal,
    rng,
    *,
    shape=(256, 256),
    shift=(0.0, 0.0),
    matrix=None,
    width=0.2,
    counts=200.0,
    background=0.1,
    gradient=0.0,
    read=0.0,
    defects=(),
    displaced=0,
    by=0.2,
    clear=0.0,
):
    """Render a frame.

    Parameters
    ----------
    shift : where the crystal lies [px]
    matrix : distorts positions about the first pixel: slow-axis stretch, drift shear
    width : standard deviation of the columns, in nearest-neighbour distances
    counts : electrons in the brightest pixel of a column of height 1; None for no noise
    background, gradient : level, and its rise over the height of the frame, in heights
    read : standard deviation of the detector's noise [counts]
    defects : (name, sublattice, share of its sites, height that the column gets)
    displaced, by : number of columns of the first sublattice that are moved by so many nearest-neighbour distances
    clear : a defect keeps this distance from all others [px]
    """
    sigma = width * crystal.spacing
    matrix = np.eye(2) if matrix is None else np.asarray(matrix)
    reach = int(2.5 * max(shape) / np.sqrt(abs(np.linalg.det(crystal.vectors))))
    cells = np.stack(np.meshgrid(*[np.arange(-reach, reach)] * 2, indexing="ij"), -1).reshape(-1, 2)
    position = np.concatenate([(cells + c) @ crystal.vectors for c in crystal.columns])
    position = position @ matrix + np.asarray(shift)
    sublattice = np.repeat(np.arange(len(crystal.columns)), len(cells))
    near = ((position > -5 * sigma) & (position < np.array(shape) + 5 * sigma)).all(1)
    position, sublattice = position[near], sublattice[near]
    height, kind = crystal.heights[sublattice].astype(float), np.full(len(position), HOST, object)
    taken = np.zeros((0, 2))

    def pick(candidates, number):
        nonlocal taken
        chosen = []
        for k in rng.permutation(candidates):
            if len(chosen) == number:
                break
            if not len(taken) or np.hypot(*(taken - position[k]).T).min() >= clear:
                chosen.append(k)
                taken = np.vstack([taken, position[k]])
        return np.array(chosen, int)

    for name, s, share, new in defects:
        mine = np.flatnonzero((sublattice == s) & (kind == HOST))
        chosen = pick(mine, round(share * len(mine)))
        height[chosen], kind[chosen] = new, name
    at = position.copy()
    if displaced:
        low, high = 3 * crystal.spacing, np.array(shape) - 3 * crystal.spacing
        mine = np.flatnonzero((sublattice == 0) & ((position > low) & (position < high)).all(1))
        chosen = pick(mine, displaced)
        at[chosen] += np.array([0.0, by * crystal.spacing])
        kind[chosen] = "displaced"
    clean = np.full(shape, float(background))
    clean += gradient * np.linspace(0, 1, shape[0])[:, None]
    add_columns(clean, at, height, sigma)
    image = clean.copy() if counts is None else rng.poisson(counts * clean).astype(float)
    image += read * rng.normal(size=shape) if read else 0.0
    return Scene(image.astype(np.float32), position, sublattice, height, kind, clean, sigma)


def nearest(points, position):
    """Distance to, and index of, the nearest of some points, for every position."""
    return cKDTree(points).query(position)


def surveyed(scenes, settings=None):
    """Lattice of the first frame, and all of them surveyed with it, as at the end of a learning phase."""
    settings = settings or AnalysisSettings()
    lattice = find_lattice(scenes[0].image)
    zernike = ZernikeMoments(settings.n_max, patch_size(lattice, settings))
    surveys = [
        survey_frame(
            s.image, lattice, follow_lattice(s.image, lattice), zernike, measure_noise=True, voids="all"
        )
        for s in scenes
    ]
    return lattice, zernike, surveys


def learnt(scenes, **options):
    """A model of some frames."""
    lattice, zernike, surveys = surveyed(scenes)
    model = learn_model(surveys, lattice, zernike, **options)
    return replace(model, classes=confirmed(model, model.classes))


@dataclass(frozen=True)
class Judged:
    """A classified frame beside its truth; `kind` and `distance` are those of the column nearest to each site."""

    survey: object
    patches: object
    verdict: object
    kind: np.ndarray
    distance: np.ndarray
    best: np.ndarray
    role: np.ndarray
    truth: np.ndarray


def judged(model, scene):
    """Classify a frame, and put the truth beside it."""
    zernike = ZernikeMoments(model.n_max, model.patch_px)
    where = follow_lattice(scene.image, model.lattice)
    survey = survey_frame(
        scene.image, model.lattice, where, zernike, voids="lit" if model.n_voids else "none"
    )
    sites = survey.sites
    patches = gather_patches(
        [(survey.moments, sites.position, sites.sublattice, sites.cell)],
        tuple(known.templates for known in model.sublattices),
        scene.image.shape,
    )
    survey, patches, verdict = without_empty(survey, patches, model.classify(patches), model)
    sites = survey.sites
    best = model.class_ids[verdict.posterior.argmax(1)]
    role = np.array(["unknown" if b < 0 else model.entry(int(b)).role for b in best])
    distance, truth = nearest(scene.position, sites.position)
    return Judged(survey, patches, verdict, scene.kind[truth], distance, best, role, truth)


def shows_a_lattice(image):
    """Whether a lattice is found."""
    try:
        find_lattice(image)
    except NoLatticeError:
        return False
    return True
