"""The space of the classifier in the words of the protocol: for ``/v1/model``, and live for pages that ask for it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from latticewatch.execute import LiveState
from latticewatch.messages import ClassSpace, LiveHeader, LivePlane, LiveRequest, SublatticeSpace

if TYPE_CHECKING:
    from latticewatch.pipeline import CatalogueEntry, SpaceView

# A page gets the plane no more often than this [s]: people do not read faster, and points that flicker say nothing.
PLANE_PERIOD_S = 0.25
# Points of the newest frame, and of the pool, in one message; of more, each class gets its share.
MOST_POINTS = 4000
# Sites of a rare class that are all shown.
FEW = 50


def sublattices_of(view: SpaceView) -> list[SublatticeSpace]:
    """Variances of the hosts beside what noise reaches by chance."""
    return [
        SublatticeSpace(
            sublattice=one.sublattice,
            rows=round(one.rows, 1),
            variances=np.round(one.variances, 5).tolist(),
            edge=one.edge if np.isfinite(one.edge) else None,
            n_components=len(one.since),
            since=list(one.since),
        )
        for one in view.sublattices
    ]


def classes_of(view: SpaceView, catalogue: Mapping[int, CatalogueEntry]) -> list[ClassSpace]:
    """Centroids of the classes of a catalogue, with their counts and drift."""
    return [
        ClassSpace(
            class_id=entry.class_id,
            name=entry.name,
            role=entry.role,
            sublattice=entry.sublattice,
            prior=entry.prior,
            total=entry.total,
            separation=entry.separation,
            rows=round(of.rows, 1),
            since=of.since,
            distance=of.distance,
            drift=of.drift,
        )
        for of in view.centroids
        if (entry := catalogue.get(of.class_id)) is not None
    ]


class PlaneFeed:
    """What one page has of the plane, so that it gets no more than it needs, and not too often."""

    def __init__(self) -> None:
        self._last_s = -np.inf

    def due(self, request: LiveRequest) -> bool:
        """Whether the page asks for the plane and has waited long enough."""
        return request.plane and time.monotonic() - self._last_s >= PLANE_PERIOD_S

    def take(
        self, state: LiveState, request: LiveRequest
    ) -> tuple[LivePlane | None, dict[str, NDArray[Any]]]:
        """What a live message has of the space and the plane, when it is `due`: for its header, and its sections.

        Parameters
        ----------
        state : LiveState
        request : LiveRequest
            Names the layout that the page has: the pool is sent only with another one.
        """
        space = state.result.space if state.result is not None else None
        if space is None or not state.catalogue:
            return None, {}
        self._last_s = time.monotonic()
        view = space.variances()
        plane = space.plane(wait=False)
        header = LivePlane(
            frame=view.frame,
            layout=None if plane is None else plane.layout,
            sublattices=sublattices_of(view),
            classes=classes_of(view, {entry.class_id: entry for entry in state.catalogue}),
        )
        if plane is None:
            return header, {}
        placed = np.flatnonzero(~np.isnan(plane.sites[:, 0]))
        some = placed[thinned(plane.site_class[placed])]
        sections: dict[str, NDArray[Any]] = {
            "plane": np.asarray(plane.sites[some], np.float32),
            "plane_class": np.asarray(plane.site_class[some], np.int16),
            "plane_site": some.astype(np.int32),
        }
        if request.layout != plane.layout:
            kept = thinned(plane.pool_class)
            sections["pool"] = np.asarray(plane.pool[kept], np.float32)
            sections["pool_class"] = np.asarray(plane.pool_class[kept], np.int16)
        return header, sections


def thinned(class_id: NDArray[np.integer], most: int = MOST_POINTS) -> NDArray[np.intp]:
    """Which of some points are shown: all where there is room, else every n-th of the frequent classes.

    Parameters
    ----------
    class_id : ndarray of shape (n,)
    most : int, optional

    Returns
    -------
    ndarray of shape (at most about ``most``,), intp
        In ascending order; classes of few sites are whole.
    """
    n = len(class_id)
    if n <= most:
        return np.arange(n)
    kept = []
    classes, number = np.unique(class_id, return_counts=True)
    rare = classes[number <= FEW]
    room = max(most - int(number[number <= FEW].sum()), 1)
    step = -(-n // room)
    for one in classes.tolist():
        mine = np.flatnonzero(class_id == one)
        kept.append(mine if one in rare else mine[::step])
    return np.sort(np.concatenate(kept))[:most]


def with_plane(header: LiveHeader, plane: LivePlane | None) -> LiveHeader:
    """The header, with what it says of the space."""
    return header if plane is None else header.model_copy(update={"plane": plane})
