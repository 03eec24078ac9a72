"""A pool of sites in the space of each sublattice in; the pool and the newest frame in one plane out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from latticewatch.estimators import IncrementalPCA, SteadyLayout

# Components of a sublattice that distances are taken in, and how far apart sublattices are laid [sigma].
COMPONENTS, APART = 8, 25.0
# The plane is laid out anew once this share of the pool is new to it, and not more often than after so many frames.
NEW_SHARE, REST_FRAMES = 0.2, 50
FEWEST = 8


class PooledSite(NamedTuple):
    """A site of some frame: number in the pool, class, sublattice, place in the space of the sublattice [sigma]."""

    key: int
    class_id: int
    sublattice: int
    place: NDArray[np.float32]


class PlaneView(NamedTuple):
    """The plane at one moment.

    Attributes
    ----------
    layout : int
        Number of the layout; while it is the same, the pool stands still.
    frame : int
        Frame of the sites.
    pool : ndarray of shape (m, 2), float32
    pool_class : ndarray of shape (m,), int16
    sites : ndarray of shape (n, 2), float32
        Of every site of the frame, in the order of its sites; NaN where its sublattice is not in the pool.
    site_class : ndarray of shape (n,), int16
    """

    layout: int
    frame: int
    pool: NDArray[np.float32]
    pool_class: NDArray[np.int16]
    sites: NDArray[np.float32]
    site_class: NDArray[np.int16]


class _Drawn(NamedTuple):
    """A layout, the components it was made in, and the classes of its rows."""

    layout: SteadyLayout
    components: dict[int, IncrementalPCA]
    number: int
    embedding: NDArray[np.float32]
    class_id: NDArray[np.int16]
    frames: int
    keys: frozenset[int]


class Plane:
    """Lays out a pool now and then, and places the sites of a frame in it.

    Parameters
    ----------
    seed : int
    """

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._drawing = threading.Lock()
        self._drawn: _Drawn | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Without the lock, which a copy has its own of."""
        return {name: value for name, value in vars(self).items() if name != "_drawing"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._drawing = threading.Lock()

    def view(
        self,
        pool: Sequence[PooledSite],
        frames: int,
        frame: int,
        sublattice: NDArray[np.int16],
        class_id: NDArray[np.int16],
        space: Callable[[int, NDArray[np.intp]], NDArray[np.float32]],
        alias: dict[int, int],
        wait: bool = True,
    ) -> PlaneView | None:
        """The plane with the sites of a frame in it; None where the pool is too small, or was not laid out yet.

        The first layout is waited for, if wanted; later ones are made beside the stream, and taken up when done.

        Parameters
        ----------
        pool : sequence of PooledSite
        frames : int
            Frames seen so far.
        frame : int
            Number of the newest.
        sublattice, class_id : ndarray of shape (n,), int16
            Of its sites.
        space : callable
            Gives the places of some of its sites in the space of their sublattice.
        alias : dict
            Classes that are part of others now.
        wait : bool, optional
            Whether to wait for the first layout.
        """
        if len(pool) < FEWEST:
            return None
        if self._stale(pool, frames) and self._drawing.acquire(blocking=wait and self._drawn is None):
            if wait and self._drawn is None:
                self._lay_out(pool, frames)
            elif self._stale(pool, frames):
                threading.Thread(
                    target=self._lay_out, args=(pool, frames), name="layout", daemon=True
                ).start()
            else:
                self._drawing.release()
        if self._drawn is None:
            return None
        drawn = self._drawn
        assert drawn is not None
        sites = np.full((len(sublattice), 2), np.nan, np.float32)
        for s, components in drawn.components.items():
            rows = np.flatnonzero(sublattice == s)
            if len(rows):
                sites[rows] = drawn.layout.transform(_coordinates(space(s, rows), components, s))
        return PlaneView(
            drawn.number,
            frame,
            drawn.embedding,
            _renamed(drawn.class_id, alias),
            sites,
            _renamed(class_id, alias),
        )

    def _lay_out(self, pool: Sequence[PooledSite], frames: int) -> None:
        """With the lock held, which is released."""
        try:
            if self._stale(pool, frames):
                self._drawn = self._laid_out(pool, frames)
        finally:
            self._drawing.release()

    def _stale(self, pool: Sequence[PooledSite], frames: int) -> bool:
        drawn = self._drawn
        if drawn is None or len(pool) >= 2 * len(drawn.keys):
            return True
        if not {site.class_id for site in pool} <= set(drawn.class_id.tolist()):
            return True
        new = sum(site.key not in drawn.keys for site in pool)
        return frames - drawn.frames >= REST_FRAMES and new >= NEW_SHARE * len(pool)

    def _laid_out(self, pool: Sequence[PooledSite], frames: int) -> _Drawn:
        from latticewatch.estimators import IncrementalPCA, SteadyLayout

        keys, sublattice = np.array([site.key for site in pool]), np.array([site.sublattice for site in pool])
        rows = np.zeros((len(pool), COMPONENTS + 1), np.float32)
        components = {}
        for s in np.unique(sublattice).tolist():
            mine = np.flatnonzero(sublattice == s)
            places = np.stack([pool[k].place for k in mine.tolist()])
            if len(places) > 1:
                components[s] = IncrementalPCA(n_components="noise", noise_variance=1.0).fit(places)
                rows[mine] = _coordinates(places, components[s], s)
        layout = SteadyLayout(seed=self._seed)
        if self._drawn is not None:
            layout.embedding_, layout.keys_ = self._drawn.layout.embedding_, self._drawn.layout.keys_
        layout.fit(rows, keys=keys)
        return _Drawn(
            layout,
            components,
            1 if self._drawn is None else self._drawn.number + 1,
            layout.embedding_,
            np.array([site.class_id for site in pool], np.int16),
            frames,
            frozenset(keys.tolist()),
        )


def _coordinates(places: NDArray[np.float32], components: IncrementalPCA, s: int) -> NDArray[np.float32]:
    """Components above the noise, and the sublattice's own place: each has its own whitening."""
    out = np.zeros((len(places), COMPONENTS + 1), np.float32)
    kept = components.transform(places)[:, :COMPONENTS]
    out[:, : kept.shape[1]] = kept
    out[:, -1] = APART * s
    return out


def _renamed(class_id: NDArray[np.int16], alias: dict[int, int]) -> NDArray[np.int16]:
    out = class_id.copy()
    for old, new in alias.items():
        out[class_id == old] = new
    return out
