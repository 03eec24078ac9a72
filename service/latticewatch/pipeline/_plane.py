"""A pool of sites in the space of each sublattice in; the pool and the newest frame in one plane out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from latticewatch.discover import Halves

if TYPE_CHECKING:
    from latticewatch.estimators import IncrementalPCA, SteadyLayout

# Components of a sublattice that distances are taken in, and how far apart sublattices are laid [sigma].
COMPONENTS, APART = 8, 25.0
# The plane is laid out anew once this share of the pool is new to it, and not more often than after so many frames.
NEW_SHARE, REST_FRAMES = 0.2, 50
FEWEST = 8
# Layouts that are kept: what somebody draws on one may be asked after the next has come.
KEPT_LAYOUTS = 8


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
    """A layout, the components it was made in, and the sites in it."""

    layout: SteadyLayout
    components: dict[int, IncrementalPCA]
    number: int
    embedding: NDArray[np.float32]
    pool: tuple[PooledSite, ...]
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
        self._drawing, self._numbering = threading.Lock(), threading.Lock()
        self._drawn: _Drawn | None = None
        # Classes of sites that were divided since they were laid out, by their numbers in the pool.
        self._moved: dict[int, int] = {}
        self._alias: dict[int, int] = {}
        self._edits = 0
        self._shown: dict[int, _Drawn] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Without the locks, which a copy has its own of."""
        return {name: value for name, value in vars(self).items() if name not in ("_drawing", "_numbering")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._drawing, self._numbering = threading.Lock(), threading.Lock()

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
            self._number(drawn, alias),
            frame,
            drawn.embedding,
            _renamed(self._classes(drawn), alias),
            sites,
            _renamed(class_id, alias),
        )

    def drawn_round(
        self, number: int, line: NDArray[np.float64], class_id: int, alias: dict[int, int]
    ) -> list[Halves] | None:
        """Sites of a class in a layout, those within a closed line and the rest.

        Parameters
        ----------
        number : int
            Of the layout.
        line : ndarray of shape (n, 2), float64
            Corners in the plane.
        class_id : int
        alias : dict
            Classes that are part of others now.

        Returns
        -------
        list of Halves or None
            One for each sublattice; None where this layout is not kept any more.
        """
        drawn = self._shown.get(number)
        if drawn is None:
            return None
        mine = _renamed(self._classes(drawn), alias) == class_id
        within = inside(line, drawn.embedding)
        sublattice = np.array([site.sublattice for site in drawn.pool])
        places = np.stack([site.place for site in drawn.pool])
        return [
            Halves(
                s,
                places[mine & within & (sublattice == s)],
                places[mine & ~within & (sublattice == s)],
                np.asarray(components.components_[:COMPONENTS].T, np.float64),
            )
            for s, components in drawn.components.items()
            if (mine & (sublattice == s)).any()
        ]

    def move(self, class_id: int, sources: Sequence[int], of_part: Callable[[PooledSite], bool]) -> None:
        """Give sites that are laid out another class.

        Parameters
        ----------
        class_id : int
            Their class from now on.
        sources : sequence of int
            Classes that they may be of till now.
        of_part : callable
            Which of these sites are meant.
        """
        with self._numbering:
            drawn = [*self._shown.values(), *([] if self._drawn is None else [self._drawn])]
            sites = {site.key: site for one in drawn for site in one.pool}
            before = {key: self._moved.get(key, site.class_id) for key, site in sites.items()}
            moved = {k: class_id for k, site in sites.items() if before[k] in sources and of_part(site)}
            self._moved = {k: c for k, c in self._moved.items() if k in sites} | moved
            self._edits += 1

    def _classes(self, drawn: _Drawn) -> NDArray[np.int16]:
        moved = self._moved
        return np.array([moved.get(site.key, site.class_id) for site in drawn.pool], np.int16)

    def _number(self, drawn: _Drawn, alias: dict[int, int]) -> int:
        """Of a layout as it is seen: another one, too, when its sites are of other classes."""
        with self._numbering:
            if alias != self._alias:
                self._alias = dict(alias)
                self._edits += 1
            number = drawn.number + self._edits
            if number not in self._shown:
                self._shown[number] = drawn
                for old in list(self._shown)[:-KEPT_LAYOUTS]:
                    del self._shown[old]
            return number

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
        if not {site.class_id for site in pool} <= set(self._classes(drawn).tolist()):
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
            tuple(pool),
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


def inside(line: NDArray[np.float64], points: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Which points are within a closed line.

    Parameters
    ----------
    line : ndarray of shape (n, 2), float64
        Its corners; the last is joined to the first.
    points : ndarray of shape (m, 2)

    Returns
    -------
    ndarray of shape (m,), bool
        A ray to the right crosses the line an odd number of times.
    """
    x, y = points[:, 0, None].astype(np.float64), points[:, 1, None].astype(np.float64)
    before = np.roll(line, 1, axis=0)
    across = (line[:, 1] > y) != (before[:, 1] > y)
    rise = before[:, 1] - line[:, 1]
    # where a side is level the ray does not cross it
    at = (before[:, 0] - line[:, 0]) * (y - line[:, 1]) / np.where(rise == 0, 1.0, rise) + line[:, 0]
    return np.asarray((across & (x < at)).sum(1) % 2 == 1)
