"""The ideal observer: a matched filter that knows host, defect, noise and how frequent each defect is.

It is given every position exactly and every template without noise, and looks at the patches that the service looks
at; larger ones tell it nothing more. Flicker and neighbouring defects, which the frames have, are not among its
troubles. Line jitter is, where it is told how large it is: then it knows by how much lines are displaced on average,
and that all pixels of a line are displaced alike, but not by how much any line is.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from latticewatch.pipeline._analyse import PATCH_NEIGHBOUR_DISTANCES

# Members of a class whose patch holds no other defect show it best; with fewer than this many, all members do.
MIN_ALONE = 3
SAMPLES = 100_000


@dataclass(frozen=True, slots=True)
class Detector:
    """What becomes of an electron, and of a line of the scan.

    Attributes
    ----------
    spread, read : float
        Gain spread (relative) and read noise [electrons rms].
    jitter_px : float
        Displacement of a line along itself [px rms]; half of it across.
    """

    spread: float = 0.0
    read: float = 0.0
    jitter_px: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Templates:
    """Noise-free patches of one host and what each of its defects changes in them.

    Attributes
    ----------
    host : str
    mean : ndarray of shape (n_pixels,), float64
        Mean patch of the host, as the fraction of electrons that reach the detector.
    species : tuple of str
    change : ndarray of shape (n_species, n_pixels), float64
        Mean patch of each defect less that of the host.
    count : ndarray of shape (n_species + 1,), int64
        Columns of the host and of each defect that are scored.
    line : ndarray of shape (n_pixels,), int64
        Which line of the patch each pixel is in.
    slope : ndarray of shape (2, n_pixels), float64
        Mean patch of the slope of the host along rows and columns [per px].
    """

    host: str
    mean: NDArray[np.float64]
    species: tuple[str, ...]
    change: NDArray[np.float64]
    count: NDArray[np.int64]
    line: NDArray[np.int64]
    slope: NDArray[np.float64]

    def covariance(self, electrons: float, background: float, detector: Detector) -> NDArray[np.float64]:
        """Of the pixels of a host's patch, shape (n_pixels, n_pixels) [electrons²]."""
        pixels = (self.mean + background) * electrons * (1 + detector.spread**2) + detector.read**2
        out = np.diag(pixels)
        if detector.jitter_px:
            together = self.line[:, None] == self.line
            for slope, rms in zip(self.slope, (detector.jitter_px / 2, detector.jitter_px), strict=True):
                out += together * np.outer(slope, slope) * (rms * electrons) ** 2
        return out


@dataclass(frozen=True, slots=True)
class Ideal:
    """What the ideal observer reaches in one frame.

    Attributes
    ----------
    f1 : float
        Of the decision between host and defect.
    species_f1, separation : dict of str to float
        F1 of each species, and its distance d' from its host [sigma].
    """

    f1: float
    species_f1: dict[str, float]
    separation: dict[str, float]


def scene_templates(truth: dict[str, NDArray]) -> tuple[Templates, ...]:
    """Templates of every host of a scene.

    A site's six second neighbours are on its own sublattice, which tells the host that a defect replaces. Where both
    sublattices of the honeycomb have the same host, as in graphene, the patches of one are turned by 180 degrees.

    Parameters
    ----------
    truth : dict
        A file of ``data/truth``.
    """
    image = truth["image"].astype(np.float64) * float(truth["electrons_fraction"])
    position, species = truth["positions_px"], np.array(truth["species"].tolist(), object)
    inside, hosts = truth["inside"], set(truth["host"].tolist())
    tree = KDTree(position)
    distance, near = (np.asarray(found) for found in tree.query(position, k=10))
    spacing = float(np.median(distance[:, 1]))
    diameter = PATCH_NEIGHBOUR_DISTANCES * spacing
    reach = int(diameter / 2)
    offset = np.stack(np.meshgrid(*2 * [np.arange(-reach, reach + 1)], indexing="ij"), -1)
    offset = offset[np.hypot(*np.moveaxis(offset, -1, 0)) <= diameter / 2].astype(float)
    towards = position[near[:, 1:4]] - position[:, None]
    threefold = np.exp(3j * np.arctan2(towards[..., 0], towards[..., 1])).sum(1)
    turned = (threefold * threefold[np.flatnonzero(inside)[0]].conj()).real < 0
    defect = np.array([name not in hosts for name in species])
    alone = (
        np.array([defect[others].sum() for others in tree.query_ball_point(position, diameter / 2)]) == defect
    )
    own = np.array([_commonest(species[row].tolist(), hosts) for row in near[:, 4:10]], object)

    slopes = np.gradient(image)

    def mean_patch(
        members: NDArray[np.intp], of: NDArray[np.float64] = image, odd: bool = False
    ) -> NDArray[np.float64]:
        if alone[members].sum() >= MIN_ALONE:
            members = members[alone[members]]
        sign = np.where(turned[members] & (len(hosts) == 1), -1.0, 1.0)
        at = position[members, None] + sign[:, None, None] * offset
        seen = ndimage.map_coordinates(of, np.moveaxis(at, -1, 0), order=3, mode="nearest")
        # a slope changes its sign where the patch is turned
        return (sign[:, None] * seen if odd else seen).mean(0)

    found = []
    for host in sorted(hosts):
        of_host = inside & (own == host)
        names = tuple(sorted(set(species[of_host & defect])))
        members = [np.flatnonzero(of_host & (species == name)) for name in (host, *names)]
        mean, *others = (mean_patch(m) for m in members)
        change = np.array(others).reshape(len(names), len(mean)) - mean
        found.append(
            Templates(
                host,
                mean,
                names,
                change,
                np.array([len(m) for m in members]),
                offset[:, 0].astype(int) + reach,
                np.array([mean_patch(members[0], slope, odd=True) for slope in slopes]),
            )
        )
    return tuple(found)


def _commonest(around: list[str], hosts: set[str]) -> str:
    return Counter(name for name in around if name in hosts).most_common(1)[0][0]


def observe(
    scene: tuple[Templates, ...], electrons: float, background: float, detector: Detector, seed: int = 0
) -> Ideal:
    """What the ideal observer reaches at a dose, by sampling its filters' outputs.

    Parameters
    ----------
    scene : tuple of Templates
    electrons : float
        Electrons that fall on one pixel.
    background : float
        Mean of the contamination, as the fraction of electrons that reach the detector.
    detector : Detector
    seed : int, optional
    """
    rng = np.random.default_rng(seed)
    # expected number of sites: reported as defects, truly so, and by species
    hits = reported = total = 0.0
    species_f1, separation = {}, {}
    for t in scene:
        if not t.species:
            continue
        root = np.linalg.cholesky(t.covariance(electrons, background, detector))
        filters = np.linalg.solve(root, (t.change * electrons).T).T
        gram = filters @ filters.T
        separation |= dict(zip(t.species, np.sqrt(np.diag(gram)).tolist(), strict=True))
        centre = np.concatenate([np.zeros((1, len(gram))), gram])
        noise = rng.multivariate_normal(np.zeros(len(gram)), gram, SAMPLES, method="eigh")
        called = np.zeros((len(centre), len(centre)))
        any_defect = np.zeros(len(centre))
        for true, mean in enumerate(centre):
            # log of the likelihood ratio against the host, and of the prior
            odds = noise + mean - np.diag(gram) / 2 + np.log(t.count[1:] / t.count[0])
            any_defect[true] = (np.logaddexp.reduce(odds, axis=1) > 0).mean()
            best = np.concatenate([np.zeros((SAMPLES, 1)), odds], 1).argmax(1)
            called[true] = np.bincount(best, minlength=len(centre)) / SAMPLES
        expected = t.count[:, None] * called
        for k, name in enumerate(t.species, start=1):
            species_f1[name] = float(2 * expected[k, k] / (t.count[k] + expected[:, k].sum()))
        hits += float(t.count[1:] @ any_defect[1:])
        reported += float(t.count @ any_defect)
        total += float(t.count[1:].sum())
    return Ideal(2 * hits / (reported + total), species_f1, separation)
