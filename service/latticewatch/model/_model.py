"""The learnt model: an immutable snapshot that classifies the patches of a frame."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from latticewatch.errors import UnknownClassError
from latticewatch.lattice import Lattice
from latticewatch.model._catalogue import CatalogueEntry
from latticewatch.model._members import Members
from latticewatch.model._parts import parts_of, with_parts
from latticewatch.model._patches import Patches
from latticewatch.model._shares import add_columns, share_neighbours
from latticewatch.model._shifts import Effects, Readings, settle_shifts
from latticewatch.model._sources import APART, light_error, settle_sources
from latticewatch.model._sublattice import SublatticeModel
from latticewatch.parallel import run

# What stands for the component of a site that fits none.
NONE = -1
# For that of a displaced column, whose height says nothing of the classes of heights.
DISPLACED = -2
# And for that of a site in a region where most sites are odd: it teaches nothing.
REGION = -3
# Times that what stands between the columns is measured, each time with less of it in the patches around.
OFF_LATTICE_ROUNDS = 2


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """What a model says of the patches of a frame.

    Attributes
    ----------
    posterior : ndarray of shape (n, n_classes + 1), float32
        Probability of each class of the catalogue, in its order, and last of none of them.
    score : ndarray of shape (n,), float64
        Change of the height of the central column [sigma].
    component : ndarray of shape (n,), int16
        Most probable component of the sublattice's mixture; 0 host, -1 none, -2 a displaced column, -3 in a region of
        odd sites.
    shift : ndarray of shape (n, 2), float64
        Displacement (row, column) of the columns that are displaced [px]; zero for all others.
    unsure : ndarray of shape (n,), float64
        Standard deviation of the error of `score`, that of a host being 1: more beside what is bright, and for what
        stands between the columns.
    """

    posterior: NDArray[np.float32]
    score: NDArray[np.float64]
    component: NDArray[np.int16]
    shift: NDArray[np.float64]
    unsure: NDArray[np.float64]

    def take(self, which: NDArray[np.intp] | slice) -> Verdict:
        """What is said of some of them.

        Parameters
        ----------
        which : ndarray of shape (m,), intp, or slice

        Returns
        -------
        Verdict
        """
        return Verdict(
            self.posterior[which],
            self.score[which],
            self.component[which],
            self.shift[which],
            self.unsure[which],
        )

    def with_rows(self, rows: NDArray[np.intp], other: Verdict) -> Verdict:
        """The same, but for some of them what another verdict says.

        Parameters
        ----------
        rows : ndarray of shape (m,), intp
        other : Verdict
            Of these, in their order.

        Returns
        -------
        Verdict
            A copy.
        """
        names = [one.name for one in fields(self)]
        out = Verdict(*(getattr(self, name).copy() for name in names))
        for name in names:
            getattr(out, name)[rows] = getattr(other, name)
        return out


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """Everything that was learnt, at one moment.

    Attributes
    ----------
    version : int
        Grows by one with every change; events name it.
    lattice : Lattice
        Of the frame learnt from that shows it clearest.
    patch_px : int
        Side of the patches [px].
    n_max : int
        Highest Zernike order.
    scale : float
        Counts that were 1 in the flattened frames.
    sublattices : tuple of SublatticeModel
    classes : tuple of CatalogueEntry
    alias : dict
        Classes that a person merged into others.
    embedding : ndarray of shape (m, 2), float32
        Force-relaxed layout of sites that were learnt from.
    embedding_class : ndarray of shape (m,), int16
    invariant : bool
        Orientations and mirror images of a motif are one class.
    material : str or None
        What a person says the specimen is, for names of simulated classes.
    """

    version: int
    lattice: Lattice
    patch_px: int
    n_max: int
    scale: float
    sublattices: tuple[SublatticeModel, ...]
    classes: tuple[CatalogueEntry, ...]
    alias: dict[int, int] = field(default_factory=dict)
    embedding: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    embedding_class: NDArray[np.int16] = field(default_factory=lambda: np.zeros(0, np.int16))
    invariant: bool = False
    material: str | None = None

    @property
    def class_ids(self) -> NDArray[np.int16]:
        """Class of each column of a posterior; the last, -1, is *unknown*."""
        return np.array([entry.class_id for entry in self.classes] + [-1], np.int16)

    @property
    def n_columns(self) -> int:
        """Number of sublattices that have a column; behind them come places between the columns."""
        return sum(not known.templates.void for known in self.sublattices)

    @property
    def n_voids(self) -> int:
        """Number of kinds of places between the columns."""
        return len(self.sublattices) - self.n_columns

    def entry(self, class_id: int) -> CatalogueEntry:
        """A class of the catalogue.

        Parameters
        ----------
        class_id : int

        Returns
        -------
        CatalogueEntry

        Raises
        ------
        UnknownClassError
            There is no such class.
        """
        for candidate in self.classes:
            if candidate.class_id == class_id:
                return candidate
        known = ", ".join(str(entry.class_id) for entry in self.classes)
        raise UnknownClassError(f"class {class_id}: not in the catalogue; there are {known or 'none yet'}")

    def with_entry(self, entry: CatalogueEntry) -> Model:
        """The next version, with one class changed.

        Parameters
        ----------
        entry : CatalogueEntry
            Takes the place of the one of the same number.

        Returns
        -------
        Model
        """
        classes = tuple(entry if old.class_id == entry.class_id else old for old in self.classes)
        return replace(self, version=self.version + 1, classes=classes)

    def classify(self, patches: Patches) -> Verdict:
        """Class probabilities of the patches of one frame.

        Twice over: first as they are, then without what the defects found around each add to it. Where columns are
        displaced, a third time without what that does to the patches around.

        Parameters
        ----------
        patches : Patches

        Returns
        -------
        Verdict
        """
        members = run(*(partial(Members, patches, s, known) for s, known in enumerate(self.sublattices)))
        n = len(patches.moments)
        away = self._off_lattice(patches, members)
        amplitude, score = np.zeros(n), np.zeros(n)
        for one in members:
            amplitude[one.rows] = 0.0 if one.void else one.amplitude
        run(*(partial(one.judge, amplitude) for one in members if not one.void))
        for one in members:
            score[one.rows] = one.score
        shift = self._displaced(patches, members, score)
        component, unsure = np.full(n, NONE, np.int16), np.ones(n)
        for one in members:
            score[one.rows], unsure[one.rows] = one.score, one.unsure
            best = one.posterior.argmax(1)
            component[one.rows] = np.where(best == one.posterior.shape[1] - 1, NONE, best)
        component[shift.any(1)] = DISPLACED
        posterior = self._catalogued(patches, members, shift)
        return Verdict(posterior, score, component, shift + away, unsure)

    def _off_lattice(self, patches: Patches, members: list[Members]) -> NDArray[np.float64]:
        """How far what stands between the columns is from the middle of its place [px], shape (n, 2).

        Its light is taken off the patches around.
        """
        effects = Effects.none(len(patches.moments))
        voids = [one for one in members if one.lit]
        if not voids:
            return effects.away
        apart = APART * self.sublattices[-1].templates.farthest_px
        noise = max(one.noise for one in members)
        for one in voids:
            one.noise = noise
        for _ in range(OFF_LATTICE_ROUNDS):
            found = run(*(one.sources for one in voids))
            extra, away = settle_sources(patches.position, patches.frame, found, apart)
            if not extra.any() and not effects.extra.any():
                # nothing stands there, and nothing is to be taken off: another round would say the same
                break
            now = Effects(np.zeros_like(away), extra, away)
            for one, known in zip(members, self.sublattices, strict=True):
                which, light = now.beyond(effects, patches, one.rows, known.templates)
                if len(which):
                    one.correct(light, which, light_error(known.templates))
                if one.void:
                    one.dazzle(extra - effects.extra)
            effects = now
        touched = bool(effects.extra.any()) or any(one.corrected for one in members)
        for one in members:
            if one.void:
                one.settle(effects.extra)
            elif touched:
                one.judge(np.zeros(len(effects.extra)))
        return effects.away

    def _displaced(
        self, patches: Patches, members: list[Members], score: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Displacements of all columns [px], what they do to other patches taken off there."""
        amplitude = np.zeros(len(score))
        for one in members:
            amplitude[one.rows] = 0.0 if one.void else one.amplitude
        z, scale = np.zeros((len(score), 2)), np.ones((len(score), 2))
        run(*(partial(one.displace, amplitude) for one in members if len(one.rows)))
        for one in members:
            z[one.rows], scale[one.rows] = one.z, one.scale
        filters = [known.displacement for known in self.sublattices]
        gates = [np.inf if known.templates.void else known.gate for known in self.sublattices]
        shift = settle_shifts(Readings(z, scale, score, patches.sublattice, patches.index), filters, gates)
        moved = np.asarray(shift.any(1))
        if not moved.any():
            return shift
        amplitude[moved] = 0.0
        effects = replace(Effects.none(len(shift)), shift=shift)
        for one, known in zip(members, self.sublattices, strict=True):
            which, change = effects.seen(patches, one.rows, known.templates)
            if len(which):
                one.correct(change, which)
            if not one.void:
                one.judge(amplitude)
            one.displace(amplitude)
        return shift

    def _catalogued(
        self, patches: Patches, members: list[Members], shift: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """Posteriors in the order of the catalogue, the host's shared out to odd and neighbour classes."""
        out = np.zeros((len(patches.moments), len(self.classes) + 1), np.float32)
        columns = columns_of(self)
        found = run(*(partial(one.classified, shift) for one in members))
        for one, known, place, measured in zip(members, self.sublattices, columns, found, strict=True):
            if known.parts:
                measured = with_parts(measured, known.measured_ids, known.parts, patches.moments[one.rows])
            add_columns(out, one.rows, measured, place.all)
        out[patches.sublattice < 0, -1] = 1.0
        seen = out.copy()
        for one, place in zip(members, columns, strict=True):
            if len(place.beside):
                share_neighbours(out, seen, one.rows, patches.index, place.components[0], place.beside)
        return out


class Columns(NamedTuple):
    """Columns of the catalogue that the posteriors of one sublattice go to.

    Attributes
    ----------
    components : ndarray of shape (k,), int64
        Of each component of the mixture, host first.
    odd : ndarray of shape (k_odd,), int64
        Of each kind of oddity.
    shifts : ndarray of shape (n_kinds + 1,), int64
        Of each kind of displacement, and of one of its own.
    beside : ndarray of shape (m, 3), int64
        Direction, column of the defect in that direction, column of the class of hosts beside it.
    parts : ndarray of shape (n_parts,), int64
        Of each part that a person split off.
    """

    components: NDArray[np.int64]
    odd: NDArray[np.int64]
    shifts: NDArray[np.int64]
    beside: NDArray[np.int64]
    parts: NDArray[np.int64]

    @property
    def all(self) -> NDArray[np.int64]:
        """Of each class that a site may be of, in the order of `SiteClasses`, of none, -1, and of the parts."""
        return np.concatenate([self.components, self.odd, self.shifts, [-1], self.parts])


@lru_cache(maxsize=8)
def columns_of(model: Model) -> tuple[Columns, ...]:
    """Where the posteriors of each sublattice go in the catalogue.

    Classes that a person merged into others go to theirs.

    Parameters
    ----------
    model : Model

    Returns
    -------
    tuple of Columns
        One for each sublattice.
    """
    column = {entry.class_id: k for k, entry in enumerate(model.classes)}
    column |= {old: column[new] for old, new in model.alias.items() if new in column}
    parts = tuple(part for known in model.sublattices for part in known.parts)

    def beside_which(defect: int) -> list[int]:
        """Columns of a defect and of what was split off it."""
        return list(dict.fromkeys(column[k] for k in (defect, *parts_of(defect, parts)) if k in column))

    return tuple(
        Columns(
            np.array([column[int(class_id)] for class_id in known.class_ids], np.int64),
            np.array([column[int(class_id)] for class_id in known.odd_ids], np.int64),
            np.array(
                [column.get(int(i), -1) for i in (*known.shifts.class_ids, known.shifts.loose_id)], np.int64
            ),
            np.array(
                [
                    (direction, one, column[beside])
                    for (direction, defect), beside in known.neighbour_class.items()
                    for one in beside_which(defect)
                ],
                np.int64,
            ).reshape(-1, 3),
            np.array([column[part.class_id] for part in known.parts], np.int64),
        )
        for known in model.sublattices
    )
