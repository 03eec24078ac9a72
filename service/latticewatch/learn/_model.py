"""The learnt model: an immutable snapshot that classifies the patches of a frame."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from latticewatch.errors import UnknownClassError
from latticewatch.lattice import Lattice
from latticewatch.learn._catalogue import CatalogueEntry
from latticewatch.learn._discovery import Patches, expected_height
from latticewatch.learn._local import standardise
from latticewatch.learn._neighbours import without_neighbours, without_unseen
from latticewatch.learn._sublattice import SublatticeModel


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """What a model says of the patches of a frame.

    Attributes
    ----------
    posterior : ndarray of shape (n, n_classes + 1), float32
        Probability of each class of the catalogue, in its order, and last of none of them.
    score : ndarray of shape (n,), float64
        Change of the height of the central column [sigma].
    moments : ndarray of shape (n, n_moments), float64
        Without what the defects around add.
    component : ndarray of shape (n,), int16
        Most probable component of the sublattice's mixture; 0 host, -1 none.
    """

    posterior: NDArray[np.float32]
    score: NDArray[np.float64]
    moments: NDArray[np.float64]
    component: NDArray[np.int16]


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

    def entry(self, class_id: int) -> CatalogueEntry:
        """A class of the catalogue.

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
        """The next version, with one class changed."""
        classes = tuple(entry if old.class_id == entry.class_id else old for old in self.classes)
        return replace(self, version=self.version + 1, classes=classes)

    def classify(self, patches: Patches) -> Verdict:
        """Class probabilities of the patches of one frame.

        Twice over: first as they are, then without what the defects found around each add to it.
        """
        n = len(patches.moments)
        amplitude = np.zeros(n)
        host = np.ones(n, bool)
        score = np.zeros(n)
        clean = np.zeros(patches.moments.shape)
        members = [np.flatnonzero(patches.sublattice == s) for s in range(len(self.sublattices))]
        shared: list[NDArray[np.float64]] = []
        for _ in range(2):
            found = np.zeros(n)
            shared = []
            for rows, known in zip(members, self.sublattices, strict=True):
                moments = without_neighbours(
                    patches.moments, amplitude, rows, patches.index, known.templates.moments
                )
                moments = without_unseen(
                    moments, known.filter.mean, known.whitening, known.templates.moments, patches.index[rows]
                )
                value = standardise(
                    known.filter(moments),
                    patches.position[rows],
                    patches.frame[rows],
                    host[rows],
                    patches.shape,
                )
                posterior = known.mixture.posteriors(value)
                found[rows] = expected_height(value, posterior, known.mixture, known.filter)
                host[rows] = posterior[:, 0] > 0.5
                score[rows], clean[rows] = value, moments
                shared.append(posterior)
            amplitude = found
        odd = [
            known.oddities.posteriors(clean[rows])
            for rows, known in zip(members, self.sublattices, strict=True)
        ]
        posterior = self._catalogued(patches, members, shared, odd)
        return Verdict(posterior, score, clean, _components(n, members, shared))

    def _catalogued(
        self,
        patches: Patches,
        members: list[NDArray[np.intp]],
        shared: list[NDArray[np.float64]],
        odd: list[NDArray[np.float64]],
    ) -> NDArray[np.float32]:
        """Posteriors in the order of the catalogue, the host's shared out to odd and neighbour classes."""
        column = {entry.class_id: k for k, entry in enumerate(self.classes)}
        column |= {old: column[new] for old, new in self.alias.items() if new in column}
        out = np.zeros((len(patches.moments), len(self.classes) + 1))
        for rows, known, posterior, oddity in zip(members, self.sublattices, shared, odd, strict=True):
            for k, class_id in enumerate(known.class_ids[1:], start=1):
                out[rows, column[int(class_id)]] += posterior[:, k]
            out[rows, column[int(known.class_ids[0])]] += posterior[:, 0] * oddity[:, 0]
            for k, class_id in enumerate(known.odd_ids, start=1):
                out[rows, column[int(class_id)]] += posterior[:, 0] * oddity[:, k]
            out[rows, -1] = posterior[:, -1] + posterior[:, 0] * oddity[:, -1]
        out[patches.sublattice < 0, -1] = 1.0
        defects = out.copy()
        for rows, known in zip(members, self.sublattices, strict=True):
            if not known.neighbour_class:
                continue
            host = column[int(known.class_ids[0])]
            beside = {
                key: np.where(
                    patches.index[rows, key[0]] >= 0,
                    defects[patches.index[rows, key[0]], column[key[1]]],
                    0.0,
                )
                for key in known.neighbour_class
                if key[1] in column
            }
            total = sum(beside.values(), np.zeros(len(rows)))
            alone = np.ones(len(rows))
            for chance in beside.values():
                alone *= 1 - chance
            mass = out[rows, host] * (1 - alone) / np.maximum(total, 1e-12)
            out[rows, host] *= alone
            for key, chance in beside.items():
                out[rows, column[known.neighbour_class[key]]] += mass * chance
        return out.astype(np.float32)


def _components(
    n: int, members: list[NDArray[np.intp]], shared: list[NDArray[np.float64]]
) -> NDArray[np.int16]:
    component = np.full(n, -1, np.int16)
    for rows, posterior in zip(members, shared, strict=True):
        best = posterior.argmax(1)
        component[rows] = np.where(best == posterior.shape[1] - 1, -1, best)
    return component
