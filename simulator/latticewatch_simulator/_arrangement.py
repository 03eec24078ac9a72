"""How a crystal is put together: in one piece, in domains, with a step, with a second layer, around a dislocation.

A piece of crystal is a layer: a lattice, the columns of its cell, and the region that it fills. Everything is a
function of the place on the specimen, so that an endless specimen stays the same wherever one looks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latticewatch_simulator._crystal import Crystal
from latticewatch_simulator._settings import SimulatorSettings

# Of the numbers that place lines and cores: apart from those of defects and noise.
STREAM = 7
# Lines and cores lie within this share of the field of view of its middle.
WANDER = 0.1
# Columns at a boundary, and at a core, stand no nearer than this share of the distance of nearest neighbours.
BOUNDARY_CLOSEST, CORE_CLOSEST = 0.7, 0.6
POISSON_RATIO = 1 / 3

Points = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """A piece of crystal.

    Attributes
    ----------
    vectors_nm : ndarray of shape (2, 2), float64
        Lattice vectors as rows (x, y).
    origin_nm : ndarray of shape (2,), float64
        Corner of cell 0, 0.
    fractional : ndarray of shape (n_columns, 2), float64
        Columns of the cell, and its hollow, in units of the vectors.
    fills : callable or None
        Which of places of shape (n, 2) [nm] it fills, shape (n,), bool; None: all.
    """

    vectors_nm: NDArray[np.float64]
    origin_nm: NDArray[np.float64]
    fractional: NDArray[np.float64]
    fills: Callable[[Points], NDArray[np.bool_]] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Arrangement:
    """Layers, and what holds for all of them.

    Attributes
    ----------
    layers : tuple of Layer
    height : callable or None
        How thick the specimen is at places of shape (n, 2) [nm], in thicknesses of the crystal, shape (n,).
    shift : callable or None
        By how much columns at places of shape (n, 2) are displaced [nm], shape (n, 2).
    reach_nm : float
        The largest such displacement.
    closest_nm : float
        Of two columns nearer to each other than this there is one; 0: of none.
    """

    layers: tuple[Layer, ...]
    height: Callable[[Points], NDArray[np.float64]] | None = None
    shift: Callable[[Points], Points] | None = None
    reach_nm: float = 0.0
    closest_nm: float = 0.0


def arrange(settings: SimulatorSettings, crystal: Crystal, fractional: NDArray[np.float64]) -> Arrangement:
    """What the settings name.

    Parameters
    ----------
    settings : SimulatorSettings
        Specimen, its amount, rotation, origin, seed.
    crystal : Crystal
    fractional : ndarray of shape (n, 2), float64
        Columns of the cell, and its hollow where adatoms may sit.

    Returns
    -------
    Arrangement
    """
    turn = _turned(settings.rotation_deg)
    vectors, origin = crystal.vectors_nm @ turn, np.asarray(settings.origin_nm, float)
    whole = Layer(vectors, origin, fractional)
    name = settings.specimen
    if name in ("domains", "antiphase"):
        other = _inverted(crystal, fractional) if name == "domains" else fractional + np.array([0.5, 0.0])
        return _in_domains(settings, whole, other, BOUNDARY_CLOSEST * crystal.nearest_nm())
    if name == "bilayer":
        above = crystal.vectors_nm @ _turned(settings.rotation_deg + settings.of_specimen)
        return Arrangement((whole, Layer(above, origin, fractional)))
    if name == "dislocation":
        return _dislocated(settings, whole, crystal)
    height = {"step": _step, "wedge": _wedge}.get(name)
    return Arrangement((whole,), height=height(settings) if height else None)


def _turned(degrees: float) -> NDArray[np.float64]:
    """What turns rows (x, y) from +x towards +y."""
    angle = np.deg2rad(degrees)
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def _line(settings: SimulatorSettings) -> tuple[Points, Points, float]:
    """A straight line at random through the first frame: a point, its normal, and the size of the field [nm]."""
    rng = np.random.default_rng([settings.seed, STREAM])
    angle, field = rng.uniform(0, 2 * np.pi), min(settings.fov_nm)
    point = np.array(settings.stage_nm) + rng.uniform(-WANDER, WANDER, 2) * field
    return point, np.array([np.cos(angle), np.sin(angle)]), field


def _inverted(crystal: Crystal, fractional: NDArray[np.float64]) -> NDArray[np.float64]:
    """The cell turned by 180° about its brightest column."""
    return 2 * fractional[crystal.brightest()] - fractional


def _in_domains(
    settings: SimulatorSettings, whole: Layer, other: NDArray[np.float64], closest_nm: float
) -> Arrangement:
    """One cell on this side of a line, another of the same lattice beyond it."""
    point, across, _ = _line(settings)

    def beyond(xy: Points) -> NDArray[np.bool_]:
        return (xy - point) @ across >= 0

    first = Layer(whole.vectors_nm, whole.origin_nm, whole.fractional, lambda xy: ~beyond(xy))
    second = Layer(whole.vectors_nm, whole.origin_nm, other, beyond)
    return Arrangement((first, second), closest_nm=closest_nm)


def _step(settings: SimulatorSettings) -> Callable[[Points], NDArray[np.float64]]:
    """So many times as thick beyond a line."""
    point, across, _ = _line(settings)
    return lambda xy: np.where((xy - point) @ across >= 0, settings.of_specimen, 1.0)


def _wedge(settings: SimulatorSettings) -> Callable[[Points], NDArray[np.float64]]:
    """So many times as thick at the far side of the field as at this one."""
    point, across, field = _line(settings)
    return lambda xy: 1 + (settings.of_specimen - 1) * np.clip((xy - point) @ across / field + 0.5, 0, 1)


def _dislocated(settings: SimulatorSettings, whole: Layer, crystal: Crystal) -> Arrangement:
    """An edge dislocation near the middle of the first frame, by isotropic elasticity."""
    core, normal, _ = _line(settings)
    a, b = whole.vectors_nm
    steps = np.array([a, b, a + b, a - b])
    steps = steps[np.linalg.norm(steps, axis=1) < 1.05 * np.linalg.norm(steps, axis=1).min()]
    burgers = steps[np.argmax(steps @ normal)]
    size = float(np.hypot(*burgers))
    along = burgers / size
    across = np.array([-along[1], along[0]])
    nu = POISSON_RATIO

    def shift(xy: Points) -> Points:
        x, y = ((xy - core) @ np.stack([along, across], 1)).T
        r2 = np.maximum(x**2 + y**2, (0.05 * size) ** 2)
        u = size / (2 * math.pi) * (np.arctan2(y, x) + x * y / (2 * (1 - nu) * r2))
        log = (1 - 2 * nu) / (4 * (1 - nu)) * np.log(r2 / size**2)
        v = -size / (2 * math.pi) * (log + (x**2 - y**2) / (4 * (1 - nu) * r2))
        return u[:, None] * along + v[:, None] * across

    return Arrangement(
        (whole,), shift=shift, reach_nm=2 * size, closest_nm=CORE_CLOSEST * crystal.nearest_nm()
    )
