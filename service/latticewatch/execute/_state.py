"""The state that everyone looks at: immutable, replaced as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from latticewatch.messages import ROLES, DefectKind, Role

if TYPE_CHECKING:
    from latticewatch.model import Model
    from latticewatch.pipeline import CatalogueEntry, FrameResult


@dataclass(frozen=True, slots=True, eq=False)
class LiveState:
    """The newest frame with its sites, the catalogue, and the event up to which they hold.

    Attributes
    ----------
    number : int
        Number of this state since the engine was made; the live view's ``ordinal``.
    result : FrameResult or None
        The newest frame; ``None`` before the first.
    catalogue : tuple of CatalogueEntry
        Classes in the order of their ids, as last edited.
    as_of_seq : int
        Sequence number of the last event that this state contains.
    series_id : str or None
        The open series; ``None`` between series.
    stalled : bool
        Whether the open series has given no frame for too long.
    partials : int
        Pictures of frames that were still being scanned, so far; each takes the place of the newest frame's.
    starting : str or None
        What is done before frames can be analysed; ``None`` once they are.
    busy : str or None
        What takes longer than a frame just now.
    class_counts : dict of int to int
        Sites of each class in the newest frame; -1 is no class.
    role_counts : dict of str to int
        Sites of each role in the newest frame.
    """

    number: int = 0
    result: FrameResult | None = None
    catalogue: tuple[CatalogueEntry, ...] = ()
    model_version: int = 0
    as_of_seq: int = 0
    series_id: str | None = None
    stalled: bool = False
    partials: int = 0
    starting: str | None = None
    busy: str | None = None
    class_counts: dict[int, int] = field(default_factory=dict)
    role_counts: dict[Role, int] = field(default_factory=dict)

    def kind_of(self, entry: CatalogueEntry) -> DefectKind | None:
        """What a class differs in from its host; None for one that is no defect.

        Parameters
        ----------
        entry : CatalogueEntry

        Returns
        -------
        str or None
            See `DefectKind`.
        """
        if entry.role != "defect" or self.result is None:
            return None
        return self.result.kinds.get(entry.class_id)

    def with_result(self, result: FrameResult) -> LiveState:
        """The state after a frame.

        Parameters
        ----------
        result : FrameResult

        Returns
        -------
        LiveState
        """
        return replace(
            self,
            result=result,
            catalogue=tuple(sorted(result.classes, key=lambda entry: entry.class_id)),
            model_version=result.model_version,
            **_counted(result),
        )

    def with_entry(self, entry: CatalogueEntry, merged: Sequence[int] = ()) -> LiveState:
        """The state after a class was edited, its sites of the newest frame included.

        Parameters
        ----------
        entry : CatalogueEntry
            As it is now.
        merged : sequence of int
            Classes that became part of it.

        Returns
        -------
        LiveState
        """
        gone = {entry.class_id, *merged}
        kept = [other for other in self.catalogue if other.class_id not in gone]
        catalogue = tuple(sorted([*kept, entry], key=lambda other: other.class_id))
        if self.result is None:
            return replace(self, catalogue=catalogue)
        sites = self.result.sites
        of_class = np.isin(sites.class_id, list(gone))
        sites = replace(
            sites,
            class_id=np.where(of_class, entry.class_id, sites.class_id).astype(sites.class_id.dtype),
            role=np.where(of_class, ROLES.index(entry.role), sites.role).astype(sites.role.dtype),
            other_class=None
            if sites.other_class is None
            else _renamed(sites.other_class, gone, entry.class_id),
        )
        result = replace(self.result, sites=sites, classes=catalogue)
        return replace(self, catalogue=catalogue, result=result, **_counted(result))

    def with_part(self, entry: CatalogueEntry, split_from: int, rows: NDArray[np.intp]) -> LiveState:
        """The state after some sites of the newest frame became a class of their own.

        Parameters
        ----------
        entry : CatalogueEntry
            The new class.
        split_from : int
            Class that they were of.
        rows : ndarray of shape (n,), intp
            Sites that this frame alone takes for it; those of another class till now stay what they are.

        Returns
        -------
        LiveState
        """
        catalogue = (*self.catalogue, entry)
        if self.result is None:
            return replace(self, catalogue=catalogue)
        class_id = self.result.sites.class_id.copy()
        class_id[rows[class_id[rows] == split_from]] = entry.class_id
        kinds = self.result.kinds
        if split_from in kinds:
            kinds = {**kinds, entry.class_id: kinds[split_from]}
        sites = replace(self.result.sites, class_id=class_id)
        result = replace(self.result, sites=sites, classes=catalogue, kinds=kinds)
        return replace(self, catalogue=catalogue, result=result, **_counted(result))

    def with_model(self, model: Model) -> LiveState:
        """The state after another model was taken up: the newest frame keeps its sites, and has no classes yet.

        Parameters
        ----------
        model : Model

        Returns
        -------
        LiveState
        """
        state = self.unlearnt(model.version)
        catalogue = tuple(sorted(model.classes, key=lambda entry: entry.class_id))
        if state.result is None:
            return replace(state, catalogue=catalogue)
        from latticewatch.model import kinds_of  # a service answers before what analyses is imported

        needed = state.result.learning[1]
        result = replace(
            state.result, classes=catalogue, kinds=kinds_of(model), learning=(needed, needed), space=None
        )
        return replace(state, catalogue=catalogue, result=result)

    def unlearnt(self, model_version: int) -> LiveState:
        """The state after the classes were thrown away: the newest frame keeps its sites, without classes.

        Parameters
        ----------
        model_version : int
            The version from now on.

        Returns
        -------
        LiveState
        """
        if self.result is None:
            return replace(self, catalogue=(), model_version=model_version)
        sites = self.result.sites
        sites = replace(
            sites,
            class_id=np.full_like(sites.class_id, -1),
            role=np.full_like(sites.role, ROLES.index("unknown")),
        )
        learning = (0, max(1, self.result.learning[1]))
        result = replace(self.result, sites=sites, classes=(), kinds={}, learning=learning)
        return replace(self, catalogue=(), result=result, model_version=model_version, **_counted(result))


def _renamed(class_id: NDArray[np.int16], gone: Iterable[int], into: int) -> NDArray[np.int16]:
    return np.where(np.isin(class_id, list(gone)), into, class_id).astype(class_id.dtype)


def _counted(result: FrameResult) -> dict[str, dict]:
    # -1 is no class
    n = np.bincount(result.sites.class_id.astype(np.intp) + 1)
    ids = np.flatnonzero(n)
    by_role = np.bincount(result.sites.role, minlength=len(ROLES))
    return {
        "class_counts": dict(zip((ids - 1).tolist(), n[ids].tolist(), strict=True)),
        "role_counts": dict(zip(ROLES, by_role.tolist(), strict=True)),
    }
