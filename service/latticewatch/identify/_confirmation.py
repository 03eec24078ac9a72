"""Confirmation by simulation: the average patch of each class against a library of simulated ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d

from latticewatch.elements import Column, dopants_of
from latticewatch.features import ZernikeDisk
from latticewatch.identify._library import Library, columns_at, library, perfect_patch, substitutions
from latticewatch.identify._species import (
    EXPONENT_RANGE,
    atomic_numbers,
    dopant_names,
    material_columns,
    signal_exponents,
)
from latticewatch.model import CatalogueEntry, Model, letter

# A template that explains less than this share of a class is no match: more would be left over than explained.
MIN_SCORE = 0.5
# Covariance that bilinear resampling at all fractions of a pixel leaves between neighbouring pixels of white noise.
BILINEAR = (1 / 6, 2 / 3, 1 / 6)


@dataclass(frozen=True, slots=True, eq=False)
class _Reference:
    """What the classes of one sublattice are compared with."""

    library: Library
    effects: NDArray[np.float64]
    perfect: NDArray[np.float64]
    column: Column | None
    dopants: tuple[str, ...]
    height: float
    exponents: tuple[float, float]
    noise: float


class Confirmation:
    """Compares average patches with simulated ones that have the probe, the sampling and the size of a model's.

    Parameters
    ----------
    model : Model
        Its lattice gives the probe, its sublattices the heights of the columns, its material the names.

    Notes
    -----
    Patches are compared as Zernike moments. A defect or a neighbour is compared in what sets it apart from its host:
    with D the difference of the average patches of class and host, and E the difference of the simulated ones, the
    score is ``1 - |D - E - c|² / |D - c₀|²``, the share of the difference that the template explains, both squares less
    what the pixel noise adds to them. There is no gain: a template of the right shape and half the height scores 0.75,
    one of twice the height 0. The offsets c and c₀ are free, because the background is known only so well. A host is
    compared in its whole patch, and takes another template than the perfect crystal's only where that leaves less than
    half of what the perfect crystal leaves.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._zernike = ZernikeDisk(model.n_max, model.patch_px)
        flat = self._zernike.of(np.ones((1, model.patch_px, model.patch_px), np.float32))[0]
        self._without_offset = np.eye(len(flat)) - np.outer(flat, flat) / (flat @ flat)
        basis = self._zernike.basis
        resampled = correlate1d(
            correlate1d(basis, BILINEAR, 1, mode="constant"), BILINEAR, 2, mode="constant"
        )
        self._noise_kept = float((basis * resampled).sum() / (basis**2).sum())
        self._references: dict[int, _Reference] = {}

    def __call__(self, entry: CatalogueEntry, host: CatalogueEntry | None) -> CatalogueEntry:
        """The entry with what its average patch looks like.

        Parameters
        ----------
        entry : CatalogueEntry
        host : CatalogueEntry or None
            Of the same sublattice; None for the host itself.
        """
        if not 0 <= entry.sublattice < len(self._model.sublattices) or not entry.average.any():
            return entry
        if self._model.sublattices[entry.sublattice].templates.void:
            # nothing is simulated off the lattice
            return entry
        reference = self._reference(entry.sublattice)
        base = reference.perfect if host is None else host.average
        found = self._moments(entry.average - base)
        whole = found if host is not None else self._moments(entry.average)
        noise = sum(
            reference.noise / one.averaged for one in (entry, host) if one is not None and one.averaged
        )
        total = float(whole @ whole) - noise
        if total <= noise:
            return entry
        left = np.maximum(((found - reference.effects) ** 2).sum(1) - noise, 0.0)
        order = np.argsort(left, kind="stable")
        if host is None and left[order[0]] > MIN_SCORE * left[0]:
            order = np.r_[0, order[order != 0]]
        best = int(order[0])
        names = reference.library.names
        second = next((int(k) for k in order[1:] if names[k] != names[best]), best)
        scores = np.clip(1 - left / total, 0.0, 1.0)
        name = names[best] if host is None else self._named(reference, best, found)
        if not name.startswith(names[best]) and not names[best].endswith("%"):
            # an element that a person has told of, and another reading that the heights alone would bear as well
            second = best
        matches = bool(scores[best] >= MIN_SCORE)
        return replace(
            entry,
            template=name if matches else None,
            score=float(scores[best]),
            runner_up=(names[second], float(scores[second])) if matches else (name, float(scores[best])),
            template_patch=self._simulated(reference, best, entry),
        )

    def _reference(self, sublattice: int) -> _Reference:
        if sublattice in self._references:
            return self._references[sublattice]
        model = self._model
        grain, first = model.lattice.grain_of(sublattice)
        members = model.sublattices[first : first + len(grain.cell.columns)]
        own = sublattice - first
        heights = [known.templates.height for known in members]
        columns = material_columns(model.material, heights)
        names = [letter(known.group) for known in members] if columns is None else list(map(str, columns))
        halves = [_half(name, None if columns is None else columns[s]) for s, name in enumerate(names)]
        choices = {first + s: substitutions(s, heights, names, halves) for s in range(len(heights))}
        templates = model.sublattices[sublattice].templates.without_voids()
        known = library(sublattice, templates, choices, names[own], invariant=model.invariant)
        reference = _Reference(
            known,
            known.changes @ templates.moments @ self._without_offset,
            perfect_patch(grain, own, heights, model.patch_px),
            None if columns is None else columns[own],
            () if columns is None or model.material is None else dopants_of(model.material),
            heights[own],
            EXPONENT_RANGE if columns is None else signal_exponents(columns, heights),
            float(np.trace(templates.noise)) * self._noise_kept,
        )
        self._references[sublattice] = reference
        return reference

    def _named(self, reference: _Reference, index: int, found: NDArray[np.float64]) -> str:
        """Name of a template; of a change at the site itself in a known material, with the element that it takes.

        The elements that the material is doped with, if they would do it, and else the atomic numbers that would.
        """
        name = reference.library.names[index]
        column = reference.column
        if (
            column is None
            or not reference.library.changes[index, 0]
            or not reference.library.by_height[index]
        ):
            return name
        effect = reference.effects[index]
        change = reference.library.changes[index, 0] * float(found @ effect) / float(effect @ effect)
        numbers = atomic_numbers(column, reference.height, change, reference.exponents)
        if numbers is None:
            return name
        fitting = dopant_names(column, numbers, reference.dopants)
        if fitting:
            return f"{' or '.join(fitting)} on {column.symbol}"
        place = column.symbol if column.atoms == 1 else f"one {column.symbol}"
        between = f"{numbers[0]}" if numbers[0] == numbers[1] else f"{numbers[0]}–{numbers[1]}"
        return f"{name} (Z {between} for {place})"

    def _simulated(self, reference: _Reference, index: int, entry: CatalogueEntry) -> NDArray[np.float32]:
        """Patch of a template, with the mean of the average patch."""
        changes = reference.library.changes[index]
        patch = reference.perfect.copy()
        offsets = np.concatenate(
            [np.zeros((1, 2)), self._model.sublattices[entry.sublattice].templates.without_voids().offset]
        )
        changed = changes != 0
        if changed.any():
            grain, _ = self._model.lattice.grain_of(entry.sublattice)
            shapes = columns_at(grain, offsets[changed], self._model.patch_px)
            patch += np.tensordot(changes[changed], shapes, 1)
        return (patch + entry.average.mean() - patch.mean()).astype(np.float32)

    def _moments(self, patch: NDArray[np.floating]) -> NDArray[np.float64]:
        """Moments of a patch without its offset."""
        moments = self._zernike.of(patch[None].astype(np.float32))[0].astype(np.float64)
        return self._without_offset @ moments


def confirmed(model: Model, entries: Iterable[CatalogueEntry]) -> tuple[CatalogueEntry, ...]:
    """The entries of a catalogue, each with the simulated class that it looks like.

    Parameters
    ----------
    model : Model
    entries : iterable of CatalogueEntry
        With their average patches, the hosts among them.

    Returns
    -------
    tuple of CatalogueEntry
        In their order.
    """
    entries = tuple(entries)
    confirm = Confirmation(model)
    hosts = {entry.class_id: entry for entry in entries if entry.role == "host"}
    return tuple(
        confirm(entry, None if entry.host_class is None else hosts.get(entry.host_class)) for entry in entries
    )


def _half(name: str, column: Column | None) -> str | None:
    """Name of a column that lost half of its height: a column of one atom cannot."""
    if column is None:
        return f"{name} half occupied"
    if column.atoms % 2:
        return None
    return f"single {column.symbol} vacancy" if column.atoms == 2 else f"{name} half occupied"
