"""What the classifier works with, as it is now: variances, centroids and a pool of sites, followed frame by frame.

Watching changes nothing: no decision depends on what is kept here.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from latticewatch.discover import Halves
from latticewatch.estimators import RunningCovariance, noise_edge
from latticewatch.model import Model, Part, SublatticeModel
from latticewatch.pipeline._plane import Plane, PlaneView, PooledSite

if TYPE_CHECKING:
    from latticewatch.model import Patches

# Frames after which an old one counts half in the variances and the centroids.
HALF_LIFE_FRAMES = 300.0
# Hosts of one sublattice, and members of each other class, that a frame adds at most: others have their turn in later
# frames. A frame of any size costs the same.
HOSTS_A_FRAME, MEMBERS_A_FRAME = 128, 32
# Frames after which the components are counted anew.
COUNTED_FRAMES = 20
# Members that a centroid is the mean of before its drift is told from it.
SETTLED_MEMBERS = 200.0
# Sites of each class in the pool, and how many of them a frame may change once the pool is full.
POOLED_HOSTS, POOLED_MEMBERS = 300, 100
FRESH_A_FRAME, FIRST_A_FRAME = 2, 60
# Of a larger pool the newest of each class are laid out.
MOST_LAID_OUT, FEWEST_OF_A_CLASS = 1500, 10


@dataclass(frozen=True, slots=True, eq=False)
class SublatticeView:
    """Variances of the plain hosts of one sublattice, in units of those that were learnt from.

    Attributes
    ----------
    sublattice : int
    rows : float
        Hosts that they come from, those of old frames faded.
    variances : ndarray of shape (n_directions,), float64
        Largest first [sigma²].
    edge : float
        What noise alone reaches by chance [sigma²]; it falls as frames come.
    since : tuple of int
        Of each component above the edge, the frame that it was first seen in.
    """

    sublattice: int
    rows: float
    variances: NDArray[np.float64]
    edge: float
    since: tuple[int, ...]


class CentroidView(NamedTuple):
    """Where a class is in the space of its sublattice.

    Attributes
    ----------
    class_id : int
    rows : float
        Sites that its centroid is the mean of, those of old frames faded.
    since : int
        Frame that it was first seen in.
    distance : float
        From the host [sigma].
    drift : float
        How far it has moved since it settled, beyond what chance does to a mean [sigma].
    """

    class_id: int
    rows: float
    since: int
    distance: float
    drift: float


class SpaceView(NamedTuple):
    """The space at one moment; ``frame`` is the newest one that it has seen, None before the first."""

    frame: int | None
    sublattices: tuple[SublatticeView, ...]
    centroids: tuple[CentroidView, ...]


@dataclass(slots=True)
class _Centroid:
    """A mean that fades, and what it was once it had settled."""

    since: int
    mean: NDArray[np.float64]
    weight: float = 0.0
    square: float = 0.0
    settled: NDArray[np.float64] | None = None
    settled_weight: float = 0.0

    def add(self, n: int, total: NDArray[np.float64], square: float, fade: float) -> None:
        """Take in so many rows: their sum, and that of their squared lengths."""
        old, self.weight = fade * self.weight, fade * self.weight + n
        self.mean = self.mean + (total - n * self.mean) / self.weight
        self.square = (old * self.square + square) / self.weight
        if self.settled_weight < SETTLED_MEMBERS:
            self.settled, self.settled_weight = self.mean, self.weight

    def drift(self) -> float:
        """Distance of mean and settled mean, less what the scatter of the members adds to its square."""
        if self.settled is None:
            return 0.0
        square = float(np.square(self.mean - self.settled).sum())
        scatter = max(self.square - float(np.square(self.mean).sum()), 0.0)
        # two standard deviations of a sum of squares above its mean
        chance = scatter * (1 + 2 * np.sqrt(2 / len(self.mean)))
        chance *= 1 / max(self.weight, 1.0) + 1 / max(self.settled_weight, 1.0)
        return float(np.sqrt(max(square - chance, 0.0)))


@dataclass(slots=True)
class _Sublattice:
    """What is kept of one sublattice."""

    known: SublatticeModel
    learnt_rows: float
    statistics: RunningCovariance | None = None
    since: list[int] = field(default_factory=list)
    host: _Centroid | None = None

    def space(self, moments: NDArray[np.float32]) -> NDArray[np.float32]:
        """Patches in units of the host's scatter."""
        mean, whitening = _in_single(self.known)
        return np.asarray((moments - mean) @ whitening, np.float32)


class LiveSpace:
    """Follows what a model works with, from frame to frame, in bounded memory and time.

    Parameters
    ----------
    model : Model
        As it was learnt.
    seed : int, optional
        Of the layout.

    Notes
    -----
    `take` is called in the order of the frames; views may be asked for in any thread.
    """

    def __init__(self, model: Model, seed: int = 0) -> None:
        self._lock = threading.Lock()
        shared: dict[int, int] = {}
        for known in model.sublattices[: model.n_columns]:
            shared[int(known.class_ids[0])] = shared.get(int(known.class_ids[0]), 0) + 1
        totals = {entry.class_id: entry.total for entry in model.classes}
        self._sublattices = [
            _Sublattice(known, totals.get(int(known.class_ids[0]), 0) / shared[int(known.class_ids[0])])
            for known in model.sublattices[: model.n_columns]
        ]
        self._centroids: dict[int, _Centroid] = {}
        self._pool: dict[int, deque[PooledSite]] = {}
        self._frame: int | None = None
        self._frames = self._pooled = 0
        self._newest: tuple[Patches, NDArray[np.int16]] | None = None
        self._alias: dict[int, int] = {}
        self._plane = Plane(seed)

    def __getstate__(self) -> dict[str, Any]:
        """Without the lock, which a copy has its own of."""
        with self._lock:
            return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._lock = threading.Lock()

    def take(self, model: Model, patches: Patches, class_id: NDArray[np.int16], frame: int) -> None:
        """Take in a classified frame.

        Parameters
        ----------
        model : Model
        patches : Patches
        class_id : ndarray of shape (n,), int16
            What each of them is; -1 where it is nothing known.
        frame : int
            Its number.
        """
        known = _hosts_of(model)
        is_host = known[np.minimum(class_id, len(known) - 1)]
        plain = _among_hosts(is_host, patches.index)
        fade = 0.5 ** (1 / HALF_LIFE_FRAMES)
        with self._lock:
            self._frame, self._newest, self._alias = frame, (patches, class_id), model.alias
            self._frames += 1
            for s, (one, known) in enumerate(zip(self._sublattices, model.sublattices, strict=False)):
                if known.whitening is not one.known.whitening:
                    self._begin(s, known)
                    one = self._sublattices[s]
                mine = patches.sublattice == s
                self._take_hosts(one, patches, np.flatnonzero(mine & plain), class_id, frame, fade, s)
                self._take_members(one, patches, np.flatnonzero(mine & ~is_host), class_id, frame, fade, s)

    def variances(self) -> SpaceView:
        """Variances and centroids, as they are now."""
        with self._lock:
            return SpaceView(
                self._frame,
                tuple(_viewed(s, one, self._frame or 0) for s, one in enumerate(self._sublattices)),
                tuple(
                    CentroidView(k, c.weight, c.since, float(np.linalg.norm(c.mean)), c.drift())
                    for k, c in sorted((self._hosts() | self._centroids).items(), key=lambda item: item[0])
                ),
            )

    def plane(self, *, wait: bool = True) -> PlaneView | None:
        """Pool and newest frame in the plane; None before there is enough to lay out.

        The first layout is made by whoever asks and waits for it, in a second or so; later ones beside the stream, now
        and then, while somebody looks.

        Parameters
        ----------
        wait : bool
            Wait for the first layout; otherwise None until it is there.

        Returns
        -------
        PlaneView or None
        """
        with self._lock:
            total = sum(map(len, self._pool.values()))
            share = min(1.0, MOST_LAID_OUT / max(total, 1))
            pool = [
                site
                for sites in self._pool.values()
                for site in list(sites)[-max(FEWEST_OF_A_CLASS, int(share * len(sites))) :]
            ]
            newest, frame, frames, alias = self._newest, self._frame, self._frames, self._alias
        if newest is None or frame is None:
            return None
        patches, class_id = newest

        def space(s: int, rows: NDArray[np.intp]) -> NDArray[np.float32]:
            return self._sublattices[s].space(patches.moments[rows])

        return self._plane.view(pool, frames, frame, patches.sublattice, class_id, space, alias, wait)

    def drawn_round(self, layout: int, line: NDArray[np.float64], class_id: int) -> list[Halves] | None:
        """Sites of a class in a layout of the plane, those within a closed line and the rest.

        Parameters
        ----------
        layout : int
            Number of the layout.
        line : ndarray of shape (n, 2), float64
            Corners in the plane.
        class_id : int

        Returns
        -------
        list of Halves or None
            One for each sublattice; None where this layout is not kept any more.
        """
        return self._plane.drawn_round(layout, line, class_id, self._alias)

    def merge(self, model: Model) -> None:
        """Show sites of classes that were merged as those of the class that they are part of now.

        Parameters
        ----------
        model : Model
            After the merge.
        """
        with self._lock:
            self._alias = model.alias

    def divide(self, model: Model, class_id: int) -> None:
        """Put the sites that were split off into their new class.

        Parameters
        ----------
        model : Model
            With the part.
        class_id : int
            Of the part.
        """
        with self._lock:
            for s, known in enumerate(model.sublattices[: model.n_columns]):
                for part in known.parts:
                    if part.class_id == class_id:
                        self._divide(part, s, known)

    def _divide(self, part: Part, s: int, known: SublatticeModel) -> None:
        direction = np.linalg.lstsq(known.whitening, part.direction, rcond=None)[0]
        level = part.level + float(known.filter.mean @ part.direction)

        def of_part(site: PooledSite) -> bool:
            """Whether a site of the sources lies beyond the plane."""
            return site.sublattice == s and float(site.place @ direction) + level > 0

        for source in part.sources:
            sites = self._pool.get(source)
            if sites is None:
                continue
            into = self._pool.setdefault(part.class_id, deque(maxlen=sites.maxlen))
            into.extend(site._replace(class_id=part.class_id) for site in sites if of_part(site))
            self._pool[source] = deque((site for site in sites if not of_part(site)), sites.maxlen)
        # what they were the means of is another class now
        self._centroids = {k: c for k, c in self._centroids.items() if k not in part.sources}
        self._plane.move(part.class_id, part.sources, of_part)

    def _begin(self, s: int, known: SublatticeModel) -> None:
        """Forget a sublattice whose space is another one now."""
        self._sublattices[s] = _Sublattice(known, self._sublattices[s].learnt_rows)
        own = {*known.class_ids.tolist(), *known.odd_ids.tolist()}
        self._centroids = {k: c for k, c in self._centroids.items() if k not in own}
        self._pool = {
            k: deque((site for site in sites if site.sublattice != s), sites.maxlen)
            for k, sites in self._pool.items()
        }

    def _hosts(self) -> dict[int, _Centroid]:
        # of sublattices that share a class, the first speaks for it
        return {
            int(one.known.class_ids[0]): one.host
            for one in reversed(self._sublattices)
            if one.host is not None
        }

    def _take_hosts(
        self,
        one: _Sublattice,
        patches: Patches,
        rows: NDArray[np.intp],
        class_id: NDArray[np.int16],
        frame: int,
        fade: float,
        s: int,
    ) -> None:
        rows = _in_turn(rows, HOSTS_A_FRAME, self._frames)
        if len(rows) < 2:
            return
        batch = one.space(patches.moments[rows])
        fresh = RunningCovariance.of(batch)
        one.statistics = fresh if one.statistics is None else one.statistics.faded(fade) + fresh
        if one.host is None:
            one.host = _Centroid(frame, np.zeros(batch.shape[1]))
        one.host.add(len(batch), batch.sum(0, dtype=np.float64), float(np.vdot(batch, batch)), fade)
        # not all sublattices in the same frame
        if (self._frames + s) % COUNTED_FRAMES == 0:
            one.since = _since(one, frame)
        own = class_id[rows]
        for k in dict.fromkeys(own.tolist()):
            self._keep(k, s, batch[own == k], POOLED_HOSTS)

    def _take_members(
        self,
        one: _Sublattice,
        patches: Patches,
        rows: NDArray[np.intp],
        class_id: NDArray[np.int16],
        frame: int,
        fade: float,
        s: int,
    ) -> None:
        if not len(rows):
            return
        rows = rows[np.argsort(class_id[rows], kind="stable")]
        starts = np.flatnonzero(np.diff(class_id[rows], prepend=-2))
        chosen = [
            _in_turn(rows[a:b], MEMBERS_A_FRAME, self._frames)
            for a, b in itertools.pairwise([*starts.tolist(), len(rows)])
        ]
        # one product for all classes: each by itself would cost more in calls than in arithmetic
        places = one.space(patches.moments[np.concatenate(chosen)])
        firsts = np.cumsum([0, *map(len, chosen[:-1])])
        totals = np.add.reduceat(places, firsts, axis=0, dtype=np.float64)
        squares = np.add.reduceat(np.einsum("ij,ij->i", places, places), firsts).tolist()
        for first, members, total, square in zip(firsts.tolist(), chosen, totals, squares, strict=True):
            k, n = int(class_id[members[0]]), len(members)
            if k >= 0:
                if k not in self._centroids:
                    self._centroids[k] = _Centroid(frame, np.zeros(places.shape[1]))
                self._centroids[k].add(n, total, square, fade)
            self._keep(k, s, places[first : first + n], POOLED_MEMBERS)

    def _keep(self, class_id: int, s: int, batch: NDArray[np.float32], most: int) -> None:
        pool = self._pool.setdefault(class_id, deque(maxlen=most))
        number = FRESH_A_FRAME if len(pool) == most else min(FIRST_A_FRAME, most - len(pool))
        for row in batch[:number]:
            pool.append(PooledSite(self._pooled, class_id, s, row))
            self._pooled += 1


@lru_cache(maxsize=32)
def _in_single(known: SublatticeModel) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and whitening of the host."""
    return known.filter.mean.astype(np.float32), known.whitening.astype(np.float32)


@lru_cache(maxsize=8)
def _hosts_of(model: Model) -> NDArray[np.bool_]:
    """Whether each class is host, by its number; the last is *unknown*, -1."""
    known = np.zeros(max((entry.class_id for entry in model.classes), default=-1) + 2, bool)
    known[[entry.class_id for entry in model.classes if entry.role == "host"]] = True
    return known


@njit(cache=True, nogil=True)
def _among_hosts(is_host, index):  # pragma: no cover - compiled
    """Hosts whose neighbours are all hosts, where there are any.

    is_host (n,); index (n, k): neighbours of every site, negative where there is none. Returns (n,) bool.
    """
    out = is_host.copy()
    for i in range(len(out)):
        if not out[i]:
            continue
        for q in range(index.shape[1]):
            j = index[i, q]
            if j >= 0 and not is_host[j]:
                out[i] = False
                break
    return out


def _in_turn(rows: NDArray[np.intp], most: int, turn: int) -> NDArray[np.intp]:
    """At most so many of the rows, evenly apart, others in the next turn."""
    step = -(-len(rows) // most) if len(rows) else 1
    return rows[turn % step :: step]


def _edge(one: _Sublattice) -> float:
    statistics = one.statistics
    assert statistics is not None
    samples = max(statistics.effective_count - 1, 1.0)
    return noise_edge(len(statistics.mean), samples, max(one.learnt_rows, 1.0))


def _since(one: _Sublattice, frame: int) -> list[int]:
    """Frames that showed the components first; those that are new are of this frame."""
    assert one.statistics is not None
    above = int((one.statistics.spectrum[0] > _edge(one)).sum())
    return one.since[:above] + [frame] * (above - len(one.since))


def _viewed(s: int, one: _Sublattice, frame: int) -> SublatticeView:
    if one.statistics is None:
        return SublatticeView(s, 0.0, np.zeros(0), float("inf"), ())
    since = tuple(_since(one, frame))
    return SublatticeView(s, one.statistics.effective_count, one.statistics.spectrum[0], _edge(one), since)
