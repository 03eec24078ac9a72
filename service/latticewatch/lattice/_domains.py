"""Domains: places where the same lattice carries another pattern, such as the 60° domains of a dichalcogenide.

The lattice vectors are those of the crystal beside, and so are the Bragg frequencies; the columns stand elsewhere in
the cell. The phase of a(g1) a(g2) a(g3) with g1 + g2 + g3 = 0 tells them apart: it knows of no origin, drift or small
strain. (A structure invariant: Hauptman & Karle, 1953, Solution of the phase problem.) Each domain gets a phase field
of its own, followed from its inside up to the boundary, since the windows at a boundary see both sides.

Domains that are shifted against each other (antiphase domains, stackings) have the same pattern, and the same angle;
the phases of the waves themselves tell them apart, once what strain there is on average is taken off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from latticewatch.lattice._background import block_means
from latticewatch.lattice._cell import UnitCell, unfold_cell
from latticewatch.lattice._demodulator import block_side, demodulator, thinned
from latticewatch.lattice._phase import HARMONICS_FOLLOWED, MIN_AMPLITUDE, MIN_COVER, PhaseField, combined
from latticewatch.lattice._smooth import plane_coefficients
from latticewatch.messages import Note
from latticewatch.robust import NORMAL

# Two domains differ by this angle at least, and by so many robust standard deviations of it within one.
MIN_ANGLE = np.radians(30.0)
MIN_SIGMA = 6.0
# Share of the nodes that are near to the angle of one domain or the other; the rest is boundary.
MIN_DECIDED = 0.7
# The same for domains that are shifted: by a sixth of a wave at least, and sharply, which no distortion of a scan is.
MIN_SHIFT_DEG = 60.0
MIN_SHIFT_DECIDED = 0.8
# A domain has this many nodes that are farther from its boundary than the windows reach [nodes].
MIN_INSIDE = 16
EDGE_NODES = 4.0
# How far from the inside what differs from a plane is carried on [nodes].
CARRY_NODES = 3.0
# How fast, from the boundary, a place counts as one domain's alone.
STEEPNESS = 2.0
# Columns this near to a boundary have neighbours on its other side [lattice constants].
BOUNDARY_CELLS = 0.65
BINS = 72
# Waves whose phases are looked at: two of them make the lattice, the third is their sum.
N_WAVES = 3
# Where the boundary is follows from which domain's own lattice the frame resembles, in windows of this standard
# deviation [lattice constants], not farther than this from where the waves, whose windows are wider, have it [nodes].
RESEMBLANCE_CELLS = 0.5
MOST_MOVED = 2.0


def find_domains(image: NDArray[np.float32], field: PhaseField) -> tuple[float, ...]:
    """Angles of the structure invariant in the domains of a frame, the largest domain first; () where it is one.

    Of domains that are only shifted: angles of a wave in each, and which wave.

    Parameters
    ----------
    image : ndarray of shape (height, width), float32
    field : PhaseField
        Of the lattice that they share.
    """
    seen = _invariant(image, field)
    if seen is None:
        return ()
    product, waves, _ = seen
    good = field.amplitude > MIN_COVER
    if good.sum() < 2 * MIN_INSIDE:
        return ()
    turned = _two_angles(product, good, MIN_ANGLE, MIN_DECIDED)
    if turned:
        return turned
    least = float(np.radians(MIN_SHIFT_DEG))
    shifted = [
        (*angles, float(k))
        for k in range(N_WAVES)
        if (angles := _two_angles(_unstrained(waves[k], good), good, least, MIN_SHIFT_DECIDED))
    ]
    return max(shifted, key=lambda found: abs(float(_turn(found[1] - found[0]))), default=())


def are_shifted(angles: Sequence[float]) -> bool:
    """Whether domains have the same pattern, the one shifted against the other.

    Parameters
    ----------
    angles : sequence of float
        As `find_domains` gives them.

    Returns
    -------
    bool
    """
    return len(angles) > 2


def _two_angles(
    product: NDArray[np.complex128], good: NDArray[np.bool_], least: float, decided: float
) -> tuple[float, ...]:
    """The two angles that a map has where it is good, the more frequent one first; () where it has no two."""
    angle = np.angle(product[good])
    first = _densest(angle)
    away = np.abs(_turn(angle - first))
    beyond = angle[away > least]
    if len(beyond) < MIN_INSIDE:
        return ()
    second = _densest(beyond)
    apart = abs(_turn(second - first))
    if apart < least:
        return ()
    near = np.minimum(away, np.abs(_turn(angle - second)))
    spread = NORMAL * float(np.median(near))
    if apart < MIN_SIGMA * spread or (near < apart / 4).mean() < decided:
        return ()
    for one in (first, second):
        other = second if one is first else first
        inside = _inside(_side(product, one, other) > 0) & good
        if inside.sum() < MIN_INSIDE or np.median(np.abs(_turn(np.angle(product[inside]) - one))) > apart / 4:
            return ()
    return first, second


def _unstrained(wave: NDArray[np.complex128], good: NDArray[np.bool_]) -> NDArray[np.complex128]:
    """A wave without the slope that its phase has between most neighbouring nodes."""
    down = (wave[1:] * np.conj(wave[:-1]))[good[1:] & good[:-1]]
    right = (wave[:, 1:] * np.conj(wave[:, :-1]))[good[:, 1:] & good[:, :-1]]
    slopes = [float(np.median(np.angle(steps))) if len(steps) else 0.0 for steps in (down, right)]
    rows, cols = np.indices(wave.shape)
    return wave * np.exp(-1j * (slopes[0] * rows + slopes[1] * cols))


def _seen_apart(
    seen: tuple[NDArray[np.complex128], NDArray[np.complex128], NDArray[np.float64]],
    field: PhaseField,
    angles: Sequence[float],
) -> tuple[NDArray[np.complex128], tuple[float, float]]:
    """The map that tells two known domains apart in a frame, and their angles in it."""
    product, waves, _ = seen
    first, second = angles[:2]
    if not are_shifted(angles):
        return product, (first, second)
    # the phases of waves move with the specimen, not their difference
    good = field.amplitude > MIN_COVER
    wave = _unstrained(waves[int(angles[2])], good)
    now, apart = np.angle(wave[good]), second - first
    one = _densest(now)
    ways = [(one, one + apart), (one - apart, one)]
    near = [(np.abs(_turn(now - (b if a == one else a))) < abs(_turn(apart)) / 4).sum() for a, b in ways]
    return wave, ways[int(np.argmax(near))]


def domain_fields(
    image: NDArray[np.float32], field: PhaseField, angles: Sequence[float], cells: Sequence[UnitCell] = ()
) -> tuple[PhaseField | None, ...]:
    """A phase field for each of two domains, None for one that is out of view.

    Parameters
    ----------
    image : ndarray of shape (height, width), float32
    field : PhaseField
        Of the lattice that they share.
    angles : sequence of float
        As `find_domains` gives them.
    cells : sequence of UnitCell, optional
        Of both domains, where they are known: with them the boundary is where the frame passes from one to the other.
    """
    seen = _invariant(image, field)
    assert seen is not None
    _, waves, orders = seen
    product, (first, second) = _seen_apart(seen, field, angles)
    out = []
    for angle, other in ((first, second), (second, first)):
        side = _side(product, angle, other)
        inside = _inside(side > 0) & (field.amplitude > MIN_AMPLITUDE)
        if inside.sum() < MIN_INSIDE:
            out.append(None)
            continue
        change, coherence = combined(waves, orders, inside)
        # the field's own phase holds what the harmonics of both domains together said
        phase = _carried(_wave_phase(field, waves) + change, inside)
        there = np.where(field.amplitude > MIN_AMPLITUDE, 1.0, field.amplitude)
        amplitude = np.ascontiguousarray(np.clip(np.minimum(there, MIN_COVER + STEEPNESS * side), 0.0, None))
        covered = float((amplitude > MIN_COVER).mean())
        found = replace(field, phase=phase, amplitude=amplitude, covered=covered, others=())
        out.append(replace(found, coherence=coherence))
    if len(cells) == len(out) == 2 and out[0] is not None and out[1] is not None:
        return _parted(image, (out[0], out[1]), cells)
    return tuple(out)


def _parted(
    image: NDArray[np.float32], fields: tuple[PhaseField, PhaseField], cells: Sequence[UnitCell]
) -> tuple[PhaseField, PhaseField]:
    """Two domains parted where the frame resembles one no more than the other.

    The resemblance is the correlation with the domain's own lattice.
    """
    block = block_side(fields[0].lattice_constant)
    means = block_means(image, block).astype(np.float64)
    width = RESEMBLANCE_CELLS * fields[0].lattice_constant / block
    shape = means.shape[0], means.shape[1]
    like = [
        _correlation(means, unfold_cell(cell.mean, field, shape, block=block), width)
        for field, cell in zip(fields, cells, strict=True)
    ]
    rows, cols = (fields[0].origin + fields[0].step * np.arange(n) for n in fields[0].amplitude.shape)
    at = np.meshgrid((rows + 0.5) / block - 0.5, (cols + 0.5) / block - 0.5, indexing="ij")
    side = ndimage.map_coordinates(like[0] - like[1], at, order=1, mode="nearest")
    usual = float(np.quantile(np.abs(side), 0.75))
    side /= max(usual, np.finfo(float).tiny)
    far = [
        np.asarray(ndimage.distance_transform_edt(one.amplitude > MIN_COVER)) > MOST_MOVED for one in fields
    ]
    side = np.where(far[0], 1.0, np.where(far[1], -1.0, side))
    out = []
    for one, other, own in ((fields[0], fields[1], side), (fields[1], fields[0], -side)):
        there = np.maximum(one.amplitude, other.amplitude)
        # where neither is seen there is no lattice
        there = np.where(there > MIN_COVER / 2, 1.0, there)
        amplitude = np.clip(np.minimum(there, MIN_COVER + STEEPNESS * own), 0.0, None)
        found = replace(one, amplitude=np.ascontiguousarray(amplitude))
        out.append(replace(found, covered=float((amplitude > MIN_COVER).mean())))
    return out[0], out[1]


def _correlation(
    image: NDArray[np.float64], perfect: NDArray[np.float32], width: float
) -> NDArray[np.float64]:
    """Correlation of a frame with a lattice in windows of a standard deviation."""

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(ndimage.gaussian_filter(values, width, mode="nearest"))

    model = perfect.astype(np.float64)
    i, p = mean(image), mean(model)
    square = (mean(image**2) - i**2) * (mean(model**2) - p**2)
    return (mean(image * model) - i * p) / np.sqrt(np.maximum(square, np.finfo(float).tiny))


def boundary(fields: Sequence[PhaseField | None], shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
    """Pixels beside the boundary of two domains; None where one of them is out of view.

    Parameters
    ----------
    fields : sequence of PhaseField or None
    shape : tuple of int
        Rows and columns of the frame.

    Returns
    -------
    ndarray of shape (height, width), bool, or None
        None also where they do not meet.
    """
    if len(fields) != 2 or fields[0] is None or fields[1] is None:
        return None
    rows, cols = (np.arange(n, dtype=float) for n in shape)
    first, second = (field.amplitude_on(rows, cols) for field in fields if field is not None)
    owner = first >= second
    both = np.maximum(first, second) > MIN_COVER / 2
    edge = np.zeros(owner.shape, bool)
    edge[:-1] |= owner[:-1] != owner[1:]
    edge[:, :-1] |= owner[:, :-1] != owner[:, 1:]
    edge &= both
    if not edge.any():
        return None
    distance = np.asarray(ndimage.distance_transform_edt(~edge))
    return distance < BOUNDARY_CELLS * fields[0].lattice_constant


def domain_notes(line: NDArray[np.bool_] | None, *, shifted: bool = False) -> list[Note]:
    """What there is to say of a boundary between domains.

    Parameters
    ----------
    line : ndarray of shape (height, width), bool, or None
        Pixels of the boundary, as `boundary` gives them; None where there is none.
    shifted : bool, optional
        Whether they have the same pattern.

    Returns
    -------
    list of Note
        One, or none.
    """
    if line is None:
        return []
    rows, cols = np.nonzero(line)
    what = "the same lattice and another pattern, such as one turned by 60°"
    if shifted:
        what = "the same pattern, the one shifted against the other by a part of a cell"
    return [
        Note(
            code="domains",
            text=(
                f"The crystal has two domains with {what}. "
                f"Their boundary runs from row {rows.min()} to {rows.max()}, column {cols.min()} to {cols.max()}; "
                "columns beside it are not defects."
            ),
        )
    ]


def _invariant(
    image: NDArray[np.float32], field: PhaseField
) -> tuple[NDArray[np.complex128], NDArray[np.complex128], NDArray[np.float64]] | None:
    """The product of three waves that add up to nothing, at the nodes; the waves, and their orders."""
    demodulate = demodulator(image.shape, field.basis, HARMONICS_FOLLOWED)  # type: ignore[arg-type]
    if len(demodulate.orders) < HARMONICS_FOLLOWED:
        return None
    waves, _ = demodulate(image, float(thinned(image).mean()))
    second = waves[1] if demodulate.orders[2, 1] > 0 else np.conj(waves[1])
    return waves[0] * second * np.conj(waves[2]), waves, demodulate.orders


def _densest(angle: NDArray[np.float64]) -> float:
    """Where on the circle most angles are."""
    count, _ = np.histogram(angle, BINS, (-np.pi, np.pi))
    smooth = ndimage.gaussian_filter1d(count.astype(float), 1.5, mode="wrap")
    start = -np.pi + (int(np.argmax(smooth)) + 0.5) * 2 * np.pi / BINS
    near = _turn(angle - start)
    return float(start + np.median(near[np.abs(near) < np.radians(15.0)]))


def _turn(angle: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Angles between minus and plus half a turn."""
    return (np.asarray(angle) + np.pi) % (2 * np.pi) - np.pi


def _side(product: NDArray[np.complex128], angle: float, other: float) -> NDArray[np.float64]:
    """1 in a domain, -1 in the other, nothing on the boundary."""
    seen = np.angle(product)
    return (np.cos(seen - angle) - np.cos(seen - other)) / (1 - np.cos(angle - other))


def _inside(mine: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Nodes of a domain whose windows do not reach beyond it."""
    if mine.all():
        return mine
    return np.asarray(ndimage.distance_transform_edt(mine)) > EDGE_NODES


def _wave_phase(field: PhaseField, waves: NDArray[np.complex128]) -> NDArray[np.float64]:
    """Phases of the two basis waves, in the turn of the field's own phase nearest to them."""
    phase = np.angle(np.moveaxis(waves[:2], 0, -1))
    return phase + 2 * np.pi * np.rint((field.phase - phase) / (2 * np.pi))


def _carried(phase: NDArray[np.float64], inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """A phase as it is inside, and beyond it a plane and what is left of it nearby."""
    weight = np.asarray(np.where(inside, 1.0, 1e-9), np.float64)
    known = inside.astype(float)
    mass = ndimage.gaussian_filter(known, CARRY_NODES, mode="constant")
    rows, cols = np.indices(inside.shape)
    out = phase.copy()
    for d in range(2):
        level, down, across = _plane(phase[..., d], weight)
        plane = level + down * rows + across * cols
        left = ndimage.gaussian_filter((phase[..., d] - plane) * known, CARRY_NODES, mode="constant")
        beyond = plane + left / np.maximum(mass, 1e-3)
        out[..., d] = np.where(inside, phase[..., d], beyond)
    return np.ascontiguousarray(out)


def _plane(values: NDArray[np.float64], weight: NDArray[np.float64]) -> tuple[float, float, float]:
    """Level at the first node and slopes of the weighted plane through values at nodes."""
    rows, cols = np.indices(values.shape)
    slopes = plane_coefficients(values, weight)[1:]
    level = np.average(values - slopes[0] * rows - slopes[1] * cols, weights=weight)
    return float(level), float(slopes[0]), float(slopes[1])
