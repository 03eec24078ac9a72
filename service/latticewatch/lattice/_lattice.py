"""The lattice of a frame: where it is, what its unit cell looks like, and how wide its columns are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from latticewatch.errors import NoLatticeError
from latticewatch.lattice._attempts import Attempts
from latticewatch.lattice._background import flatten
from latticewatch.lattice._cell import UnitCell, unit_cell, without_slow
from latticewatch.lattice._demodulator import block_side, thinned
from latticewatch.lattice._domains import are_shifted, domain_fields, find_domains
from latticewatch.lattice._doubts import MAX_MISFIT_LEFT, Ellipse, doubts, lattice_beside
from latticewatch.lattice._grains import owned
from latticewatch.lattice._lines import MIN_SHARE, columns_in_view, find_lines, share_of_lines
from latticewatch.lattice._outliers import MAX_PLACES_A_CELL, without_outliers
from latticewatch.lattice._phase import MIN_COVER, PhaseField, follow_phase, mean_slope, phase_field
from latticewatch.lattice._polarity import has_dark_columns, inverted
from latticewatch.lattice._profile import MIN_AXIS_RATIO, ColumnProfile, fit_columns, fit_ellipse
from latticewatch.lattice._rare import without_rare
from latticewatch.lattice._sites import nearest_neighbour_px
from latticewatch.lattice._spectrum import MIN_PERIODS_IN_VIEW, bragg_peaks, reciprocal_basis
from latticewatch.lattice._supercell import larger_cell
from latticewatch.messages import Note

# A lattice that changed by less than this from one frame to the next is the same one, drifted or distorted.
MAX_STRAIN = 0.06
# Below this, waves of the lattice as it was follow it without loss.
SMALL_STRAIN = 0.01
# Where fewer unit cells than this are in view, their average says nothing.
MIN_CELLS = 25
# Where a lattice is found it fills at least this share of the window.
MIN_COVERED_FOUND = 0.5
# An edge, too, has waves in step along it; a crystal has unit cells farther than four nodes of the phase field from any
# place without a lattice, this many at least.
MIN_CELLS_INSIDE = 9
EDGE_NODES = 4
# A window to look for a lattice in is no smaller than this.
MIN_WINDOW_PX = 64
# Where a known lattice covers less of a frame than it did, by this share, something may hide it.
DIPS = 0.01
# In a crystal all Bragg peaks keep to one phase field; in smooth noise they do not.
MIN_COHERENCE = 0.7
# A lattice that was followed is taken for what it seems where it covers about as much of the frame as it did.
MIN_COVERED = 0.7
# Waves weaker than this, in standard deviations of the frame, leaked from something else.
MIN_STRENGTH = 0.015
# Grains of one frame: of another one the waves are at least this share as strong as those of the first.
MIN_STRENGTH_BESIDE = 0.25
MAX_GRAINS = 8
# Beyond this significance of the strongest Bragg peak nothing hides the lattice.
CLEAR_SIGNIFICANCE = 60.0
# Another lattice as strong as those that are told has more room than is left where so much of the frame is covered.
COVERS_ALL = 0.75
APART = "the Bragg peaks do not belong together; no lattice found"
# Of so many of its waves one at least is left where a lattice is seen by its stronger waves only.
MAX_INDEX = 4
# Times that a cell is made larger.
MAX_ENLARGED = 3
# Two domains whose average cells correlate by more than this are one: columns of two kinds that differ by a quarter in
# height, the one in the other's place, correlate by less.
SAME_CELL = 0.975


@dataclass(frozen=True, slots=True, eq=False)
class Lattice:
    """The lattice of one frame, or of the grain of it that was found first.

    Attributes
    ----------
    field : PhaseField
        Cell coordinates over the frame.
    cell : UnitCell
        Average unit cell and the columns in it.
    profile : ColumnProfile
        Shape and heights of the columns.
    nearest_neighbour_px : float
        Shortest distance between columns [px].
    others : tuple of Lattice
        The other grains of a frame that shows several.
    notes : tuple of Note
        What may be wrong with it.
    angles : tuple of float
        What `find_domains` tells of them, where this grain and the other are domains of one lattice; else empty.
    dark : bool
        Columns are minima: cell and profile are those of the frame `inverted`.
    beside : tuple of float
        A `Beside`, where there is another lattice that cannot be followed; else empty.
    ellipse : tuple of float
        An `Ellipse`, where the columns are not round; else empty.
    unsteady : bool
        Lines of the scan are beside their places, or brighter than others, by so much that columns look changed.
    turned : tuple of float
        How far its cell coordinates lie from those of a frame without the light of what stands out, where the frames
        that it was learnt from had some; else empty [unit cells].
    """

    field: PhaseField
    cell: UnitCell
    profile: ColumnProfile
    nearest_neighbour_px: float
    others: tuple[Lattice, ...] = ()
    notes: tuple[Note, ...] = ()
    angles: tuple[float, ...] = ()
    dark: bool = False
    beside: tuple[float, ...] = ()
    ellipse: tuple[float, ...] = ()
    unsteady: bool = False
    turned: tuple[float, ...] = ()

    @property
    def constant_px(self) -> float:
        """Mean length of the lattice vectors [px]."""
        return self.field.lattice_constant

    @property
    def doubts(self) -> tuple[Note, ...]:
        """What there is to say of it."""
        return doubts(
            self.beside, self.ellipse, self.profile.misfit, self.constant_px, overlaid=self.overlaid
        )

    @property
    def overlaid(self) -> bool:
        """Whether another lattice lies over it: this one, with its grains, leaves no room for one beside it."""
        return bool(self.beside) and sum(grain.field.covered for grain in self.grains) > COVERS_ALL

    @property
    def grains(self) -> tuple[Lattice, ...]:
        """This grain and the others."""
        return self, *self.others

    @property
    def columns(self) -> tuple[NDArray[np.float64], ...]:
        """Cell coordinates of the columns of each grain."""
        return tuple(grain.cell.columns for grain in self.grains)

    def grain_of(self, sublattice: int) -> tuple[Lattice, int]:
        """The grain that a sublattice belongs to, and the first sublattice of that grain.

        The sublattices of a grain are numbered after those of the grains before it.

        Parameters
        ----------
        sublattice : int
            As in `Sites`.

        Returns
        -------
        grain : Lattice
        first : int

        Raises
        ------
        IndexError
            No grain has such a sublattice.
        """
        first = 0
        for grain in self.grains:
            if sublattice < first + len(grain.cell.columns):
                return grain, first
            first += len(grain.cell.columns)
        raise IndexError(f"sublattice {sublattice}: the lattice has {first}")


def find_lattice(image: NDArray[np.float32], hint: NDArray[np.float64] | None = None) -> Lattice:
    """Find the lattice of a frame from nothing, in all its grains, its columns bright or dark.

    Parameters
    ----------
    image : ndarray of shape (height, width), float32
        Finite counts.
    hint : ndarray of shape (2, 2), float64, optional
        Reciprocal vectors [cycles per pixel] that the frame is likely to have, though it does not show them alone.

    Returns
    -------
    Lattice

    Raises
    ------
    NoLatticeError
        The frame shows no lattice.
    """
    if min(image.shape) < 16 or np.ptp(image) <= 0:
        raise NoLatticeError("the image is constant or smaller than 16 px; no lattice found")
    found = _found(image, hint)
    dark = has_dark_columns(found.cell, found.profile, found.field)
    bright = image
    if dark:
        bright = inverted(image)
        found = _found(bright, hint)
    beside = lattice_beside(bragg_peaks(image), found.field) or ()
    ellipse = Ellipse(*fit_ellipse(found.cell, found.profile, found.field))
    is_round = ellipse.ratio < MIN_AXIS_RATIO or ellipse.misfit > MAX_MISFIT_LEFT * found.profile.misfit
    return replace(
        found,
        dark=dark,
        beside=tuple(beside),
        ellipse=() if is_round else tuple(ellipse),
        unsteady=_is_unsteady(bright, found),
    )


def _is_unsteady(image: NDArray[np.float32], found: Lattice) -> bool:
    """Whether lines of the scan change the columns by enough to look at them in every frame."""
    if found.others:
        return False
    flat = flatten(image, found.field, found.cell, noise=False)
    # under dirt a line says nothing of all of its columns
    if flat.dirt is not None:
        return False
    lines = find_lines(flat.image, columns_in_view(found.field, found, flat.image.shape), found)
    return lines is not None and share_of_lines(lines, found) > MIN_SHARE


def _found(image: NDArray[np.float32], hint: NDArray[np.float64] | None) -> Lattice:
    """The lattice of a frame whose columns are bright, in all its grains."""
    attempts = Attempts(image.shape, _same)
    first = _first_grain(image, attempts) if hint is None else _hinted(image, hint)
    fields = [first.field]
    while len(fields) < MAX_GRAINS:
        another = _another_grain(image, fields, attempts)
        if another is None:
            break
        fields.append(another)
    if len(fields) == 1:
        return _in_domains(image, first)
    grains = []
    for field in owned(fields):
        assert field is not None
        try:
            _check_size(image, field)
            grains.append(_measured(image, field))
        except NoLatticeError:
            continue
    # what is left of a grain where a stronger one was taken off may be none; all of the frame is not
    if not grains:
        return first
    main, *others = sorted(grains, key=lambda grain: -grain.field.covered)
    field = replace(main.field, others=tuple(other.field for other in others))
    return replace(main, field=field, others=tuple(others))


def _in_domains(image: NDArray[np.float32], first: Lattice) -> Lattice:
    """A lattice, its domains apart where it has two."""
    angles = find_domains(image, first.field)
    if not angles:
        return first
    try:
        main, other = (
            _measured(image, field) for field in domain_fields(image, first.field, angles) if field
        )
        # once more, parted by the cells that were found
        fields = domain_fields(image, first.field, angles, (main.cell, other.cell))
        main, other = (_measured(image, field) for field in fields if field)
    except (NoLatticeError, ValueError):
        return first
    if are_shifted(angles) != (_likeness(main.cell.mean, other.cell.mean) > SAME_CELL):
        return first
    return replace(main, field=replace(main.field, others=(other.field,)), others=(other,), angles=angles)


def _likeness(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """Correlation of two average cells, pixel by pixel."""
    if one.shape != other.shape:
        return 0.0
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def _first_grain(image: NDArray[np.float32], attempts: Attempts) -> Lattice:
    why = NoLatticeError("the power spectrum shows no two Bragg peaks; no lattice found")
    as_seen = _ways_to_see(image)
    for window in _windows(image.shape):  # type: ignore[arg-type]
        for seen, n_places in as_seen:
            if attempts.exhausted:
                rows, cols = image.shape
                raise NoLatticeError(
                    f"no lattice found in {attempts.n} attempts; more would take too long for {rows} x {cols} px"
                ) from why
            basis = reciprocal_basis(bragg_peaks(seen[window]))
            if basis is None or n_places > MAX_PLACES_A_CELL * image.size * abs(np.linalg.det(basis)):
                continue
            try:
                field = attempts.follow(seen, basis, _keeps_together)
                if field is None:
                    raise NoLatticeError(APART)
                _check(seen, field, window)
                return _measured(seen, _whole(seen, field, window))
            except NoLatticeError as error:
                why = error
    raise why


def _hinted(image: NDArray[np.float32], basis: NDArray[np.float64]) -> Lattice:
    """The lattice with these waves, where the frame keeps to them."""
    why, whole = NoLatticeError(APART), (slice(None), slice(None))
    for seen, _ in _ways_to_see(image):
        try:
            field = phase_field(seen, basis)
            _check(seen, field, whole)
            return _measured(seen, _whole(seen, field, whole))
        except NoLatticeError as error:
            why = error
    raise why


def _ways_to_see(image: NDArray[np.float32]) -> list[tuple[NDArray[np.float32], int]]:
    """The frame, and before it, where its spectrum is weak, the frame without what stands out; in how many places."""
    strongest = bragg_peaks(image).significance
    if len(strongest) and strongest[0] > CLEAR_SIGNIFICANCE:
        return [(image, 0)]
    limited = without_outliers(image)
    return [(image, 0)] if limited is None else [limited, (image, 0)]


def _whole(image: NDArray[np.float32], field: PhaseField, window: tuple[slice, slice]) -> PhaseField:
    """The field of the smallest cell that explains the frame, of one that was found in a window."""
    for _ in range(MAX_ENLARGED):
        basis = larger_cell(image, field)
        if basis is None:
            break
        enlarged = phase_field(image, basis)
        try:
            _check(image, enlarged, window)
        except NoLatticeError:
            break
        field = enlarged
    return field


def _another_grain(
    image: NDArray[np.float32], known: list[PhaseField], attempts: Attempts
) -> PhaseField | None:
    """A grain where those known do not reach, its amplitude as measured."""
    strength = known[0].strength
    windows = [
        (sum(_covered(field, image.shape, window) for field in known), window)  # type: ignore[arg-type]
        for window in _windows(image.shape)  # type: ignore[arg-type]
    ]
    for covered, window in sorted(windows, key=lambda one: one[0]):
        if covered > 1 - MIN_COVERED_FOUND or attempts.exhausted:
            break
        basis = reciprocal_basis(bragg_peaks(image[window]))
        if basis is None or _is_one_of(known, basis):
            continue
        field = attempts.follow(image, basis, _keeps_together)
        if field is None or _is_one_of(known, field.basis):
            continue
        of_all = owned([*known, field])[-1]
        assert of_all is not None
        try:
            _check(image, of_all, window)
        except NoLatticeError:
            continue
        if field.strength > MIN_STRENGTH_BESIDE * strength:
            return field
    return None


def _is_one_of(known: list[PhaseField], basis: NDArray[np.float64]) -> bool:
    """Whether the waves of a basis are waves of a lattice that is known; all of them, or the stronger ones only."""
    for field in known:
        order = np.rint(basis @ np.linalg.inv(field.basis))
        index = round(abs(float(np.linalg.det(order))))
        # the weaker first order of a thin region may be lost: then its second order seems to be the lattice
        strain = _largest(order @ field.basis - basis, basis)
        if (index == 1 and strain < MAX_STRAIN) or (1 < index <= MAX_INDEX and strain < SMALL_STRAIN):
            return True
    return False


def _same(basis: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Whether the waves of one basis follow those of another without loss, whatever their order and signs."""
    chosen = _chosen_as(basis, other)
    if chosen is None or _largest(chosen - other, other) >= SMALL_STRAIN:
        return False
    # of a hexagonal lattice other pairs of vectors are as short, and have other harmonics
    return np.count_nonzero(np.rint(basis @ np.linalg.inv(other))) == 2


def follow_lattice(image: NDArray[np.float32], known: Lattice) -> PhaseField:
    """Find a known lattice again in a later frame, drifted and a little distorted.

    The columns keep their cell coordinates: the phase of the lattice moves with the specimen.

    Parameters
    ----------
    image : ndarray of shape (height, width), float32
        `inverted`, where the columns of the lattice are dark.
    known : Lattice

    Returns
    -------
    PhaseField
        Of the grain found first; of the other grains in `PhaseField.others`.

    Raises
    ------
    NoLatticeError
        The frame shows no lattice, or another one.
    """
    if np.ptp(thinned(image)) <= 0 and np.ptp(image) <= 0:
        raise NoLatticeError("the image is constant; no lattice found")
    main = _follow(image, known)
    if not known.others:
        return main
    if known.angles:
        return _follow_domains(image, main, known)
    main, *others = owned([main, *(_follow_beside(image, other) for other in known.others)])
    assert main is not None
    return replace(main, others=tuple(others))


def _follow_domains(image: NDArray[np.float32], field: PhaseField, known: Lattice) -> PhaseField:
    """The domains of a known lattice in a later frame; one of them may be out of view."""
    fields = domain_fields(image, field, known.angles, [grain.cell for grain in known.grains])
    # the waves of two domains do not keep to one phase, those of each do
    if not any(one is not None and one.coherence >= MIN_COHERENCE for one in fields):
        raise NoLatticeError(APART)
    main, *others = fields
    if main is None:
        # the main one has to be there; a field that covers nothing says that it is not in view
        main = replace(field, amplitude=np.zeros_like(field.amplitude), covered=0.0)
    return replace(main, others=tuple(others))


def _follow(image: NDArray[np.float32], known: Lattice) -> PhaseField:
    field = follow_phase(image, known.field.basis)
    least = 0.0 if known.angles else MIN_COHERENCE
    if field.coherence >= least and field.covered >= MIN_COVERED * known.field.covered:
        settled = _settled(image, field, known)
        if settled is not None:
            return settled if known.others else _without_dips(image, settled, known)
    found = reciprocal_basis(bragg_peaks(image))
    if found is None:
        raise NoLatticeError("the power spectrum shows no two Bragg peaks; no lattice found")
    basis = _chosen_as(found, known.field.basis)
    if basis is None:
        raise NoLatticeError("the lattice is not the one that was learnt")
    change = _largest(basis - known.field.basis, known.field.basis)
    if change > MAX_STRAIN:
        raise NoLatticeError(f"the lattice changed by {change:.1%} from the one that was learnt")
    field = phase_field(image, basis)
    if field.coherence < least:
        raise NoLatticeError(APART)
    return field


def _follow_beside(image: NDArray[np.float32], known: Lattice) -> PhaseField | None:
    """Another grain in a later frame; None where it is out of view."""
    field = follow_phase(image, known.field.basis)
    if field.coherence < MIN_COHERENCE or field.strength < MIN_STRENGTH_BESIDE * known.field.strength:
        return None
    return _settled(image, field, known)


def _settled(image: NDArray[np.float32], field: PhaseField, known: Lattice) -> PhaseField | None:
    """A field followed with the waves of a known lattice, anew with its own where it is strained; None beyond that."""
    change = mean_slope(field)
    strain = _largest(change, known.field.basis)
    if strain < SMALL_STRAIN:
        return field
    return phase_field(image, known.field.basis + change) if strain < MAX_STRAIN else None


def _without_dips(image: NDArray[np.float32], field: PhaseField, known: Lattice) -> PhaseField:
    """A field, followed anew without what stands out of the frame where that hides the lattice in places.

    Heavy atoms in the hollows of a light lattice are as bright as all columns around them, out of step with them.
    """
    if field.covered >= known.field.covered - DIPS or not _brighter_in_dips(field):
        return field
    limited = without_outliers(image)
    if limited is None:
        return field
    other = follow_phase(limited[0], field.basis)
    if other.coherence < MIN_COHERENCE or other.covered <= field.covered:
        return field
    # the background is that of the whole frame
    return replace(other, means=field.means)


def _brighter_in_dips(field: PhaseField) -> bool:
    """Whether a frame is brighter where the lattice is not seen: it is not missing there, something hides it."""
    if field.means is None:
        return False
    block = block_side(field.lattice_constant)
    around = ndimage.uniform_filter(
        field.means, max(round(2 * field.lattice_constant / block), 1), mode="nearest"
    )
    last = np.array(around.shape) - 1
    row, col = np.clip((field.nodes() / block).astype(int), 0, last).T
    level, seen = around[row, col], field.amplitude.ravel() > MIN_COVER
    return bool(seen.any() and not seen.all() and level[~seen].mean() > level[seen].mean())


def _largest(change: NDArray[np.float64], basis: NDArray[np.float64]) -> float:
    """Largest relative change of a reciprocal vector."""
    return float((np.hypot(*change.T) / np.hypot(*basis.T)).max())


def _chosen_as(basis: NDArray[np.float64], known: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """The vectors of a reciprocal lattice that correspond to known ones; None where it is another lattice."""
    order = np.rint(basis @ np.linalg.inv(known))
    if abs(round(float(np.linalg.det(order)))) != 1:
        return None
    return np.asarray(np.linalg.solve(order, basis), np.float64)


def _windows(shape: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    """The whole frame, then halves and quarters of it on either axis: a small crystal stands out in a small window."""
    yield slice(None), slice(None)
    for parts in (2, 4):
        rows, cols = shape[0] // parts, shape[1] // parts
        if min(rows, cols) < MIN_WINDOW_PX:
            return
        for i in range(2 * parts - 1):
            for j in range(2 * parts - 1):
                yield slice(i * rows // 2, i * rows // 2 + rows), slice(j * cols // 2, j * cols // 2 + cols)


def _cells_inside(field: PhaseField) -> float:
    """Unit cells that are well inside what the lattice covers."""
    covered = field.amplitude > MIN_COVER
    inside = ndimage.binary_erosion(covered, iterations=EDGE_NODES, border_value=1)
    return float(inside.sum()) * field.step**2 * abs(float(np.linalg.det(field.basis)))


def _covered(field: PhaseField, shape: tuple[int, int], window: tuple[slice, slice]) -> float:
    """Share of a window that the lattice covers."""
    nodes = []
    for axis, part in enumerate(window):
        at = field.origin + field.step * np.arange(field.amplitude.shape[axis])
        start, stop, _ = part.indices(shape[axis])
        nodes.append(np.flatnonzero((at >= start) & (at < stop)))
    inside = field.amplitude[np.ix_(*nodes)]
    return float((inside > MIN_COVER).mean()) if inside.size else 0.0


def _keeps_together(field: PhaseField) -> bool:
    """Whether the waves of a field can be those of one lattice, wherever it covers the frame."""
    return field.coherence >= MIN_COHERENCE and field.strength >= MIN_STRENGTH


def _check(image: NDArray[np.float32], field: PhaseField, window: tuple[slice, slice]) -> None:
    """Whether what was found in a window is a lattice."""
    if not _keeps_together(field):
        raise NoLatticeError(APART)
    if _covered(field, image.shape, window) < MIN_COVERED_FOUND:  # type: ignore[arg-type]
        raise NoLatticeError("the lattice covers less than half of where it was looked for; no lattice found")
    if field.lattice_constant > min(image.shape) / MIN_PERIODS_IN_VIEW:
        raise NoLatticeError(
            f"a lattice constant of {field.lattice_constant:.0f} px is more than a fifth of the frame; no lattice found"
        )
    _check_size(image, field)


def _check_size(image: NDArray[np.float32], field: PhaseField) -> None:
    if _cells_inside(field) < MIN_CELLS_INSIDE:
        raise NoLatticeError("the lattice is no wider than an edge; no lattice found")
    n_cells = field.covered * image.size * abs(float(np.linalg.det(field.basis)))
    if n_cells < MIN_CELLS:
        raise NoLatticeError(f"only {n_cells:.0f} unit cells in view, {MIN_CELLS} needed; no lattice found")


def _measured(image: NDArray[np.float32], field: PhaseField) -> Lattice:
    """The lattice of a field, its unit cell averaged."""
    flat = without_slow(image, field.vectors)
    cell = unit_cell(image, field, flat)
    if not len(cell.columns):
        raise NoLatticeError("the average unit cell shows no column; no lattice found")
    cell, profile = fit_columns(cell, field)
    alone = without_rare(image, flat, field, cell, profile)
    if alone is not None:
        again = unit_cell(alone, field)
        # what hides all columns is no few atoms
        if len(again.columns):
            cell, profile = fit_columns(again, field)
    if not profile.height.max() > 0:
        # all that was taken for columns lies below what is between them
        raise NoLatticeError("the average unit cell shows no column; no lattice found")
    return Lattice(field, cell, profile, nearest_neighbour_px(field.vectors, cell.columns))
