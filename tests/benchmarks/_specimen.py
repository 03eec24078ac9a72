"""Specimens made afresh: columns of two Gaussians each, with defects of chosen kinds planted and their places known.

Crystals, signals and the spot of a column are the simulator's; the scene and the detector are written anew here, so
that nothing has to be set up to plant one thing at one place. Positions are (row, col) [px].
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from latticewatch_simulator import SimulatorSettings
from latticewatch_simulator._crystal import Crystal, load_crystal
from latticewatch_simulator._signal import FITTED_PROBE_FWHM_NM, FITTED_SOURCE_NM, Spot, column_signal

# Scene around the frame [px]: room for drift and line jitter.
MARGIN_PX = 64
WIDE_REACH = 4.0
# Rough distances that planted defects keep from one another, in lattice constants: the first that leaves room is taken.
CLEARANCES = (2.5, 2.0, 1.6, 1.3, 1.0)
LINE_MEMORY = 0.3
# What the brightest pixel may expect: below 65535 by its noise and the offset.
FULL_COUNTS = 50_000.0


@dataclass(frozen=True, slots=True)
class Detector:
    """What becomes of an electron, and of a line of the scan.

    Attributes
    ----------
    counts, spread, read, offset : float
        Counts per electron, their relative spread, read noise [counts], offset [counts].
    jitter_px : float
        Displacement of a line along itself [px rms]; half of it across.
    """

    counts: float = 40.0
    spread: float = 0.35
    read: float = 12.0
    offset: float = 600.0
    jitter_px: float = 0.15

    def unsaturated(self, brightest: float) -> Detector:
        """With a smaller gain where pixels that expect so many electrons would not fit into 16 bit."""
        scale = min(1.0, FULL_COUNTS / (self.counts * brightest))
        return replace(self, counts=scale * self.counts, read=scale * self.read)

    def variance(self, electrons: NDArray[np.float64]) -> NDArray[np.float64]:
        """Variance of a pixel that expects so many electrons [electrons²]."""
        return electrons * (1 + self.spread**2) + (self.read / self.counts) ** 2


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of defect.

    Attributes
    ----------
    species : tuple of str
        Atoms of the column that it leaves at the site, or that it puts off the lattice; empty: none.
    host : int or None
        Place of its host in the crystal's columns, brightest first; None off the lattice.
    shift_pm : float
        How far the column stands from its site.
    directions : int
        Number of directions in which columns are shifted.
    place : str
        Of an atom off the lattice: ``hollow``, ``bridge`` or ``anywhere``.
    factor : float or None
        Height of the column in those of its host, in place of a species.
    """

    species: tuple[str, ...] = ()
    host: int | None = None
    shift_pm: float = 0.0
    directions: int = 1
    place: str = ""
    factor: float | None = None


# What is planted in which material. Hosts by brightness: 0 is the brightest column.
DISPLACED = {"displaced": Kind(host=0, shift_pm=35.0), "scattered": Kind(host=0, shift_pm=35.0, directions=6)}
KINDS: dict[str, dict[str, Kind]] = {
    "WS2": {
        "height": Kind(("Fe",), 0),
        "vacancy": Kind(("S",), 1),
        **DISPLACED,
        "hollow": Kind(("Mo",), place="hollow"),
        "bridge": Kind(("Mo",), place="bridge"),
        "anywhere": Kind(("Mo",), place="anywhere"),
    },
    "MoSe2": {
        "height": Kind(("W",), 1),
        "vacancy": Kind(("Se",), 0),
        **DISPLACED,
        "hollow": Kind(("Mo",), place="hollow"),
        "bridge": Kind(("Mo",), place="bridge"),
        "anywhere": Kind(("Mo",), place="anywhere"),
    },
    "graphene": {
        "height": Kind(("N",), 0),
        "vacancy": Kind((), 0),
        **DISPLACED,
        "hollow": Kind(("Si",), place="hollow"),
        "bridge": Kind(("Si",), place="bridge"),
        "anywhere": Kind(("Si",), place="anywhere"),
    },
}


@dataclass(frozen=True, slots=True, eq=False)
class Specimen:
    """Columns, and which of them are defects.

    Attributes
    ----------
    site, position : ndarray of shape (n, 2), float64
        Places on the lattice, and where the columns stand [px of the frame]. Off the lattice both are the same.
    signal : ndarray of shape (n,), float64
        Fraction of the beam that a column sends to the detector.
    host : ndarray of shape (n,), int64
        Column of the cell, brightest first; -1 off the lattice.
    kind : ndarray of shape (n,), object
        Name of the kind of defect; empty for a host.
    nearest_px, constant_px, pixel_nm : float
        Distance of nearest neighbours, lattice constant, pixel size.
    size : int
        Rows and columns of the frame.
    spot : Spot
    """

    site: NDArray[np.float64]
    position: NDArray[np.float64]
    signal: NDArray[np.float64]
    host: NDArray[np.int64]
    kind: NDArray[np.object_]
    nearest_px: float
    constant_px: float
    pixel_nm: float
    size: int
    spot: Spot

    def defects(self, kind: str | None = None) -> NDArray[np.intp]:
        """Columns that are defects, of one kind or of any."""
        return np.flatnonzero(self.kind == kind if kind else self.kind.astype(bool))

    def inside(self, margin_px: float) -> NDArray[np.bool_]:
        """Columns at least so far from the edges of the frame."""
        row, col = self.site.T
        last = self.size - 1 - margin_px
        return (row >= margin_px) & (row <= last) & (col >= margin_px) & (col <= last)

    def strained(self, shift_px: NDArray[np.float64]) -> Specimen:
        """The same, every column moved, and its site with it."""
        return replace(self, site=self.site + shift_px, position=self.position + shift_px)

    def scaled(self, factor: NDArray[np.float64]) -> Specimen:
        """The same with the signals multiplied."""
        return replace(self, signal=self.signal * factor)

    def image(self) -> NDArray[np.float32]:
        """Noise-free scene, larger than the frame by `MARGIN_PX` on each side, as the fraction of the beam."""
        scene = np.zeros((self.size + 2 * MARGIN_PX,) * 2, np.float32)
        for sigma_nm, amplitude in (
            (self.spot.narrow_nm, self.spot.narrow),
            (self.spot.wide_nm, self.spot.wide),
        ):
            _add(scene, self.position + MARGIN_PX, amplitude * self.signal, sigma_nm / self.pixel_nm)
        return scene


def _add(
    scene: NDArray[np.float32], position: NDArray[np.float64], height: NDArray[np.float64], sigma: float
) -> None:
    """Add Gaussians in place."""
    reach = int(np.ceil(WIDE_REACH * sigma))
    axis = np.arange(-reach, reach + 1)
    whole = np.rint(position).astype(int)
    away = position - whole
    down = np.exp(-0.5 * ((axis - away[:, :1]) / sigma) ** 2) * height[:, None]
    right = np.exp(-0.5 * ((axis - away[:, 1:]) / sigma) ** 2)
    rows, cols = scene.shape
    for (row, col), d, r in zip(whole.tolist(), down, right, strict=True):
        top, left = max(row - reach, 0), max(col - reach, 0)
        bottom, end = min(row + reach + 1, rows), min(col + reach + 1, cols)
        if top < bottom and left < end:
            first, start = top - row + reach, left - col + reach
            scene[top:bottom, left:end] += np.outer(
                d[first : first + bottom - top], r[start : start + end - left]
            )


def crystal(
    material: str, pixel_nm: float, size: int, rng: np.random.Generator, degrees: float | None = None
) -> Specimen:
    """A perfect crystal, turned and shifted at random unless the angle is given [degrees]."""
    known: Crystal = load_crystal(SimulatorSettings.checked(material=material))
    signal = np.array([column_signal(atoms) for atoms in known.atoms])
    order = np.argsort(-signal, kind="stable")
    turn = np.radians(rng.uniform(0, 60) if degrees is None else degrees)
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    vectors = known.vectors_nm[:, ::-1] @ rotation / pixel_nm
    reach = int(2.5 * (size + 2 * MARGIN_PX) / np.sqrt(abs(np.linalg.det(vectors))))
    cells = np.stack(np.meshgrid(*[np.arange(-reach, reach)] * 2, indexing="ij"), -1).reshape(-1, 2)
    shift = rng.uniform(0, 1, 2) @ vectors + size / 2
    site = np.concatenate([(cells + known.fractional[k]) @ vectors + shift for k in order])
    host = np.repeat(np.arange(len(order)), len(cells))
    near = ((site > -MARGIN_PX - 20) & (site < size + MARGIN_PX + 20)).all(1)
    site, host = site[near], host[near]
    offsets = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)])
    away = np.linalg.norm(
        (known.fractional[:, None, None] - known.fractional[None, :, None] + offsets) @ vectors, axis=-1
    )
    return Specimen(
        site=site,
        position=site.copy(),
        signal=signal[order][host],
        host=host,
        kind=np.full(len(site), "", object),
        nearest_px=float(away[away > 1e-6].min()),
        constant_px=float(np.linalg.norm(vectors, axis=1).min()),
        pixel_nm=pixel_nm,
        size=size,
        spot=Spot.of_probe(FITTED_PROBE_FWHM_NM, FITTED_SOURCE_NM),
    )


def planted(
    perfect: Specimen, kinds: dict[str, tuple[Kind, int]], rng: np.random.Generator, margin_px: float
) -> Specimen:
    """The crystal with defects at random places that keep away from the edges and from one another.

    Parameters
    ----------
    perfect : Specimen
    kinds : dict of str to tuple of (Kind, int)
        Name of each kind: what it is, and how many.
    rng : numpy.random.Generator
    margin_px : float
        Distance from the edges of the frame.

    Raises
    ------
    ValueError
        There is no room for so many.
    """
    for clearance in CLEARANCES:
        found = _planted(perfect, kinds, rng, margin_px, clearance * perfect.constant_px)
        if found is not None:
            return found
    raise ValueError(f"no room for {sum(n for _, n in kinds.values())} defects; give a larger frame")


def _planted(
    perfect: Specimen,
    kinds: dict[str, tuple[Kind, int]],
    rng: np.random.Generator,
    margin_px: float,
    clear_px: float,
) -> Specimen | None:
    position, signal, kind = perfect.position.copy(), perfect.signal.copy(), perfect.kind.copy()
    extra: list[tuple[NDArray[np.float64], float, str]] = []
    taken = np.zeros((0, 2))
    inside = perfect.inside(margin_px)
    for name, (what, number) in kinds.items():
        if what.host is None:
            places = _off_lattice(perfect, what.place, rng)
            places = places[((places >= margin_px) & (places <= perfect.size - 1 - margin_px)).all(1)]
            members = np.arange(len(places))
        else:
            hosts = perfect.host == what.host
            if np.ptp(np.unique(perfect.signal)) == 0:  # one element on all sublattices
                hosts = perfect.host >= 0
            members = np.flatnonzero(inside & hosts)
            places = perfect.site
        angle, chosen = rng.uniform(0, 2 * np.pi), 0
        for k in rng.permutation(members):
            if chosen == number:
                break
            if len(taken) and np.hypot(*(taken - places[k]).T).min() < clear_px:
                continue
            taken = np.vstack([taken, places[k]])
            if what.host is None:
                extra.append((places[k], column_signal(what.species), name))
            else:
                kind[k] = name
                if what.factor is not None:
                    signal[k] *= what.factor
                elif not what.shift_pm:
                    signal[k] = column_signal(what.species) if what.species else 0.0
                turn = angle + 2 * np.pi * (chosen % what.directions) / what.directions
                shift = what.shift_pm / (1e3 * perfect.pixel_nm)
                position[k] += shift * np.array([np.sin(turn), np.cos(turn)])
            chosen += 1
        if chosen < number:
            return None
    if extra:
        added = np.array([place for place, _, _ in extra])
        return replace(
            perfect,
            site=np.concatenate([perfect.site, added]),
            position=np.concatenate([position, added]),
            signal=np.concatenate([signal, [s for _, s, _ in extra]]),
            host=np.concatenate([perfect.host, np.full(len(extra), -1)]),
            kind=np.concatenate([kind, np.array([name for _, _, name in extra], object)]),
        )
    return replace(perfect, position=position, signal=signal, kind=kind)


def _off_lattice(perfect: Specimen, place: str, rng: np.random.Generator) -> NDArray[np.float64]:
    """Centres of the hexagons, the middles of the bonds, or places at random that are no nearer to a column."""
    tree = KDTree(perfect.site)
    if place == "anywhere":
        places = rng.uniform(0, perfect.size, (len(perfect.site), 2))
        return places[tree.query(places)[0] >= 0.5 * perfect.nearest_px]
    pairs = tree.query_pairs(1.05 * perfect.nearest_px, output_type="ndarray")
    if place == "bridge":
        return perfect.site[pairs].mean(1)
    # opposite to a bond: one bond length on, past the column, where no column stands
    pairs = np.concatenate([pairs, pairs[:, ::-1]])
    ahead = 2 * perfect.site[pairs[:, 1]] - perfect.site[pairs[:, 0]]
    ahead = ahead[tree.query(ahead)[0] > 0.9 * perfect.nearest_px]
    _, first = np.unique(np.rint(ahead / (0.2 * perfect.nearest_px)).astype(int), axis=0, return_index=True)
    ahead = ahead[first]
    # what rounding split in two is one
    near = KDTree(ahead).query_pairs(0.3 * perfect.nearest_px, output_type="ndarray")
    return np.delete(ahead, np.unique(near[:, 1]) if len(near) else [], axis=0)


def separation(
    perfect: Specimen, defective: Specimen, electrons_per_signal: float, detector: Detector
) -> dict[str, float]:
    """d' of the ideal observer between host and defect in one frame, for each kind: that of its least clear member."""
    clean, changed = perfect.image().astype(np.float64), defective.image().astype(np.float64)
    squared = ((changed - clean) * electrons_per_signal) ** 2
    squared /= detector.variance(clean * electrons_per_signal)
    reach = round(perfect.nearest_px)
    found: dict[str, float] = {}
    for k in defective.defects():
        row, col = np.rint(defective.position[k]).astype(int) + MARGIN_PX
        mine = float(np.sqrt(squared[row - reach : row + reach + 1, col - reach : col + reach + 1].sum()))
        name = str(defective.kind[k])
        found[name] = min(mine, found.get(name, np.inf))
    return found


def frames(
    scenes: Iterator[tuple[NDArray[np.float32], float]],
    size: int,
    detector: Detector,
    rng: np.random.Generator,
    drift_px: tuple[float, float] = (0.0, 0.0),
) -> Iterator[tuple[NDArray[np.uint16], NDArray[np.float64]]]:
    """What the detector gives for scene after scene.

    Parameters
    ----------
    scenes : iterator of tuple of (ndarray, float)
        Scene with `MARGIN_PX` around it, and the electrons that a signal of one gets in a pixel of this frame.
    drift_px : tuple of float
        Row, column, from frame to frame.

    Yields
    ------
    frame : ndarray of shape (size, size), uint16
    shift_px : ndarray of shape (2,), float64
        The specimen lies by minus this in the frame.
    """
    shift = np.zeros(2)
    for scene, electrons in scenes:
        lines = rng.standard_normal((size, 2)) * detector.jitter_px * [0.5, 1.0]
        for i in range(1, size):
            lines[i] = LINE_MEMORY * lines[i - 1] + np.sqrt(1 - LINE_MEMORY**2) * lines[i]
        rates = _sampled(scene, MARGIN_PX + shift + lines, size)
        hits = rng.poisson(np.maximum(rates * electrons, 0)).astype(np.float32)
        noise = np.sqrt(hits * (detector.counts * detector.spread) ** 2 + detector.read**2)
        signal = (
            hits * detector.counts + detector.offset + noise * rng.standard_normal(hits.shape, np.float32)
        )
        yield np.clip(np.rint(signal), 0, 65535).astype(np.uint16), shift.copy()
        shift += drift_px


def _sampled(scene: NDArray[np.float32], start: NDArray[np.float64], size: int) -> NDArray[np.float32]:
    """Every line of the scan, bilinearly, from where it starts in the scene."""
    limit = np.array(scene.shape) - 2
    row = np.clip(start[:, 0] + np.arange(size), 0, limit[0])
    col = np.clip(start[:, 1:] + np.arange(size), 0, limit[1])
    r, c = row.astype(int)[:, None], col.astype(int)
    down, right = (row[:, None] - r).astype(np.float32), (col - c).astype(np.float32)
    upper = (1 - right) * scene[r, c] + right * scene[r, c + 1]
    lower = (1 - right) * scene[r + 1, c] + right * scene[r + 1, c + 1]
    return ((1 - down) * upper + down * lower).astype(np.float32)
